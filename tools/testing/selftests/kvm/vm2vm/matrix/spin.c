// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_matrix_test: the guest that spins in a cell, and how to wait for that guest.
 */
#include <pthread.h>
#include <sched.h>

#include "matrix.h"

static void spin_guest(void)
{
	struct spin *s = (struct spin *)SPIN_GPA;
	uint64_t val, only, forbidden;
	uint64_t *page;

	peer_guest_interruptible();
	while (!READ_ONCE(s->stop)) {
		if (READ_ONCE(s->pause))
			GUEST_SYNC(0);
		page = (uint64_t *)READ_ONCE(s->page);
		if (!READ_ONCE(s->readonly))
			WRITE_ONCE(page[WORD_WRITE], VAL_PASS(s->count));
		/* The rules first, then the page: they are made before it matters. */
		only = READ_ONCE(s->only);
		forbidden = READ_ONCE(s->forbidden);
		val = READ_ONCE(page[WORD_READ]);
		if (val == VAL_CANARY || val == forbidden ||
		    (only != VAL_NONE && val != only)) {
			WRITE_ONCE(s->seen_val, val);
			WRITE_ONCE(s->seen_count, s->count);
			WRITE_ONCE(s->seen, s->seen + 1);
		}
		WRITE_ONCE(s->last, val);
		WRITE_ONCE(s->count, s->count + 1);
	}
	GUEST_DONE();
}

void spin_run(struct kvm_vcpu *vcpu, struct spin *s)
{
	struct kvm_run *run = vcpu->run;

	for (;;) {
		vcpu_run(vcpu);
		WRITE_ONCE(s->exit_reason, run->exit_reason);
		if (run->exit_reason == KVM_EXIT_MMIO) {
			WRITE_ONCE(s->mmio, s->mmio + 1);
			if (!run->mmio.is_write)
				memset(run->mmio.data, 0xff, run->mmio.len);
			continue;
		}
		switch (get_ucall(vcpu, NULL)) {
		case UCALL_SYNC:
			WRITE_ONCE(s->paused, 1);
			while (READ_ONCE(s->pause))
				usleep(200);
			WRITE_ONCE(s->paused, 0);
			break;
		case UCALL_DONE:
			return;
		default:
			TEST_FAIL("exit reason %u (%s)", run->exit_reason,
				  exit_reason_str(run->exit_reason));
		}
	}
}

static bool place_try_get(const struct place *p, int self, unsigned int word, uint64_t *val)
{
	return pread(p->fd < 0 ? self : p->fd, val, 8, p->addr + word * 8) == 8;
}

uint64_t place_get(const struct place *p, unsigned int word)
{
	uint64_t val;

	if (p->fd < 0)
		return READ_ONCE(((uint64_t *)p->addr)[word]);
	TEST_ASSERT(pread(p->fd, &val, 8, p->addr + word * 8) == 8,
		    "read of another address space: %s", strerror(errno));
	return val;
}

void place_put(const struct place *p, unsigned int word, uint64_t val)
{
	if (p->fd < 0)
		WRITE_ONCE(((uint64_t *)p->addr)[word], val);
	else
		TEST_ASSERT(pwrite(p->fd, &val, 8, p->addr + word * 8) == 8,
			    "write to another address space: %s", strerror(errno));
}

static void print_place(struct cell *c, const char *name, const struct place *p)
{
	uint64_t val[2];

	if (place_try_get(p, c->self, WORD_READ, &val[0]) &&
	    place_try_get(p, c->self, WORD_WRITE, &val[1]))
		printf("# %s: word read by the guest 0x%lx, written 0x%lx\n", name,
		       val[0], val[1]);
	else
		printf("# %s: no page\n", name);
}

void print_cell(struct cell *c)
{
	struct spin *s = c->s;

	printf("# trial %lu; the guest: pass %lu, read last 0x%lx, %s\n", c->trial, s->count,
	       s->last, s->paused ? "outside" : "inside");
	printf("# %lu accesses to holes, last exit %s\n", s->mmio,
	       exit_reason_str(s->exit_reason));
	printf("# forbidden 0x%lx, only 0x%lx, the event returned in pass %lu\n", s->forbidden,
	       s->only, c->returned);
	if (s->seen)
		printf("# %lu sightings, the last of 0x%lx in pass %lu\n", s->seen, s->seen_val,
		       s->seen_count);
	print_place(c, "the owner's page", &c->own);
	if (c->old.mapped)
		print_place(c, "the old page", &c->old.place);
	fflush(stdout);
}

void check_seen(struct cell *c)
{
	if (!READ_ONCE(c->s->seen))
		return;
	c->shared->sightings += c->s->seen;
	CHECK(c, false, "the guest has read what it must not: 0x%lx", c->s->seen_val);
}

void spin_wait(struct cell *c, uint64_t n)
{
	uint64_t end = READ_ONCE(c->s->count) + n;

	WAIT_FOR(c, READ_ONCE(c->s->count) >= end, "the guest does not go on");
}

void spin_wait_for(struct cell *c, uint64_t val)
{
	spin_wait(c, 2);
	WAIT_FOR(c, READ_ONCE(c->s->last) == val, "the guest reads 0x%lx, not 0x%lx",
		 c->s->last, val);
}

void spin_wait_arrives(struct cell *c, const struct place *p)
{
	uint64_t least = VAL_PASS(READ_ONCE(c->s->count)), val;

	WAIT_FOR(c, (val = place_get(p, WORD_WRITE)) >= least && val < VAL_NONE,
		 "what the guest writes does not arrive: there is 0x%lx, not 0x%lx", val, least);
}

void spin_pause(struct cell *c)
{
	WRITE_ONCE(c->s->pause, 1);
	WAIT_FOR(c, READ_ONCE(c->s->paused), "the vCPU does not leave its guest");
}

void spin_resume(struct cell *c)
{
	WRITE_ONCE(c->s->pause, 0);
	WAIT_FOR(c, !READ_ONCE(c->s->paused), "the vCPU does not enter its guest");
}

void *spin_thread(void *arg)
{
	struct cell *c = arg;

	spin_run(c->vcpu, c->s);
	return NULL;
}

void link_window(struct cell *c)
{
	vm2vm_link(c->backend, c->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, MATRIX_SIZE, 0);
}

void map_all(struct cell *c)
{
	vm2vm_map(c->domain, PEER_IOVA, PEER_OWNER_GPA, MATRIX_SIZE, VM2VM_RW);
}

void backend_create(struct cell *c)
{
	struct userspace_mem_region *ram;

	c->backend = vm_create_with_one_vcpu(&c->vcpu, spin_guest);
	vm_set_user_memory_region(c->backend, SPIN_SLOT, 0, SPIN_GPA, 4096, c->s);
	virt_map(c->backend, SPIN_GPA, SPIN_GPA, 1);
	virt_map(c->backend, PEER_WINDOW, PEER_WINDOW, MATRIX_SIZE / 4096);
	/* As VMMs do: a fork is not to make the VM's memory copy-on-write. */
	ram = memslot2region(c->backend, 0);
	TEST_ASSERT(!madvise(ram->mmap_start, ram->mmap_size, MADV_DONTFORK),
		    "MADV_DONTFORK: %s", strerror(errno));
}

void spin_reset(struct cell *c)
{
	memset(c->s, 0, sizeof(*c->s));
	c->s->page = PEER_WINDOW + MATRIX_OFFSET;
	c->s->forbidden = VAL_NONE;
	c->s->only = VAL_NONE;
}

void stay_on_cpu(bool stay)
{
	static cpu_set_t all;
	cpu_set_t one;
	int cpu;

	if (!CPU_COUNT(&all))
		TEST_ASSERT(!sched_getaffinity(0, sizeof(all), &all), "sched_getaffinity");
	for (cpu = 0; !CPU_ISSET(cpu, &all); cpu++)
		;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(one), stay ? &one : &all), "sched_setaffinity");
}
