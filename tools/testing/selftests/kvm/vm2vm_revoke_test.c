// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: revocation, with the backend's vCPU in its guest: the ways to take a page
 * away, each tried many times.  How a trial goes is in include/vm2vm_spin.h.  At the end
 * are those that come while KVM is in the middle of an access.
 *
 * VM2VM_TRIALS in the environment is the number of trials of each test, 1000 by
 * default.
 */
#include <sched.h>
#include <semaphore.h>
#include <sys/eventfd.h>
#include <time.h>

#include "vm2vm_harness.h"
#include "vm2vm_knob.h"
#include "vm2vm_spin.h"

FIXTURE(revoke)
{
	struct peer p;
	struct spinner s;
};

FIXTURE_SETUP(revoke)
{
	struct peer *p = &self->p;

	peer_init(p, 4096);
	vcpu_arch_set_entry_point(p->vcpu, spinner_guest);
	peer_map_window(p, PEER_WINDOW, 4096);
	spinner_no_fork(p->backend);
	spinner_start(&self->s, p, PEER_WINDOW, vm2vm_trials(1000));
}

FIXTURE_TEARDOWN(revoke)
{
	spinner_stop(&self->s);
	peer_free(&self->p);
}

TEST_F_TIMEOUT(revoke, unmap, 600)
{
	spinner_try_unmap(&self->s);
}

TEST_F_TIMEOUT(revoke, unlink, 600)
{
	spinner_try_unlink(&self->s);
}

TEST_F_TIMEOUT(revoke, close, 600)
{
	spinner_try_close(&self->s);
}

TEST_F_TIMEOUT(revoke, end, 600)
{
	spinner_try_end(&self->s);
}

/* All memory: nothing but this, and the owner's own end, takes it back. */
TEST_F_TIMEOUT(revoke, end_all_memory, 600)
{
	struct spinner *s = &self->s;
	unsigned int i;
	int domain;

	for (i = 0; i < s->trials; i++) {
		domain = vm2vm_create_domain_flags(self->p.owner, KVM_VM2VM_DOMAIN_ALL_MEMORY);
		vm2vm_link(self->p.backend, domain, PEER_SLOT, s->link, PEER_OWNER_GPA, 4096, 0);
		spinner_begin(s->loop, s->page[0]);
		vm2vm_end(domain);
		spinner_end(s->loop, s->page[0], SPINNER_HOLE, i);
		vm2vm_unlink(self->p.backend, PEER_SLOT);
		close(domain);
	}
}

TEST_F_TIMEOUT(revoke, mmu_notifier, 600)
{
	spinner_try_mmap(&self->s);
}

/* The owner's process unmaps the page, which is a hole until it is back. */
TEST_F_TIMEOUT(revoke, munmap, 600)
{
	spinner_try_munmap(&self->s);
}

/*
 * The owner's process writes to a page of its own that is still the file's, and
 * gets a copy of it; the backend is to follow.
 */
TEST_F_TIMEOUT(revoke, copy_on_write, 600)
{
	struct spinner *s = &self->s;
	uint64_t *mem = self->p.mem;
	unsigned int i;

	WRITE_ONCE(s->loop->readonly, 1);
	spinner_map(s);
	spinner_link(s);
	for (i = 0; i < s->trials; i++) {
		TEST_ASSERT(mmap(mem, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE |
				 MAP_FIXED, s->memfd, 0) == mem, "mmap");
		spinner_begin(s->loop, s->page[0]);
		WRITE_ONCE(mem[2], i);
		spinner_end(s->loop, s->page[0], SPINNER_OLD, i);
	}
}

TEST_F_TIMEOUT(revoke, memslot_delete, 600)
{
	spinner_try_memslot_delete(&self->s);
}

TEST_F_TIMEOUT(revoke, memslot_move, 600)
{
	spinner_try_memslot_move(&self->s);
}

TEST_F_TIMEOUT(revoke, owner_killed, 900)
{
	struct spinner *s = &self->s;
	unsigned int i;
	int domain;
	pid_t pid;

	for (i = 0; i < s->trials; i++) {
		pid = spinner_start_owner(s->memfd, &domain);
		vm2vm_link(self->p.backend, domain, PEER_SLOT, s->link, PEER_IOVA, 4096, 0);
		spinner_begin(s->loop, s->page[0]);
		spinner_kill_owner(pid);
		spinner_end(s->loop, s->page[0], SPINNER_HOLE, i);
		vm2vm_unlink(self->p.backend, PEER_SLOT);
		close(domain);
	}
}

TEST_F_TIMEOUT(revoke, unmap_races_fault, 600)
{
	spinner_try_unmap_races_fault(&self->s);
}

/*
 * What comes while an access is under way.  The thread that does it, the interrupter, has the
 * vCPU's CPU, and may preempt it anywhere in the kernel.  It has the guest begin an access
 * that takes KVM, lets it go on for as long as it may take to get into the middle of that,
 * and then takes the CPU again: what it does begins and ends meanwhile.
 */
#define INTERRUPTER_PAUSES	100
#define INTERRUPTER_PAUSE_NS	3000
#define PREEMPT_KNOB		"/sys/kernel/debug/sched/preempt"

struct interrupter {
	struct spinner *s;
	pthread_t thread;
	sem_t go, done;
	void (*begin)(struct interrupter *in);
	void (*interrupt)(struct interrupter *in);
	unsigned int page;		/* of the file, that is to be mapped */
	int domain, bell;
	unsigned int trial;
	bool stop;
};

static void *interrupter_thread(void *arg)
{
	struct timespec pause = {};
	struct interrupter *in = arg;

	while (!sem_wait(&in->go) && !READ_ONCE(in->stop)) {
		pause.tv_nsec = in->trial % INTERRUPTER_PAUSES * INTERRUPTER_PAUSE_NS;
		in->begin(in);
		nanosleep(&pause, NULL);
		in->interrupt(in);
		sem_post(&in->done);
	}
	return NULL;
}

/* The vCPU and the interrupter on the last CPU, the rest of the test on the others. */
static bool interrupter_start(struct interrupter *in, struct spinner *s)
{
	const struct sched_param param = { .sched_priority = 1 };
	cpu_set_t others, last;
	int cpu = CPU_SETSIZE;

	in->s = s;
	TEST_ASSERT(!sched_getaffinity(0, sizeof(others), &others), "sched_getaffinity");
	/* To set it here is to patch the kernel's code, which the labs' CPUs do not stand. */
	if (!knob_has(PREEMPT_KNOB, "(full)") || CPU_COUNT(&others) < 2)
		return false;
	while (!CPU_ISSET(--cpu, &others))
		;
	CPU_ZERO(&last);
	CPU_SET(cpu, &last);
	CPU_CLR(cpu, &others);
	TEST_ASSERT(!sem_init(&in->go, 0, 0) && !sem_init(&in->done, 0, 0), "sem_init");
	pthread_create(&in->thread, NULL, interrupter_thread, in);
	TEST_ASSERT(!pthread_setaffinity_np(in->thread, sizeof(last), &last) &&
		    !pthread_setaffinity_np(s->thread, sizeof(last), &last) &&
		    !sched_setaffinity(0, sizeof(others), &others), "setaffinity");
	TEST_ASSERT(!pthread_setschedparam(in->thread, SCHED_FIFO, &param), "SCHED_FIFO");
	return true;
}

static void interrupter_try(struct interrupter *in, unsigned int trial)
{
	in->trial = trial;
	sem_post(&in->go);
	TEST_ASSERT(!sem_wait(&in->done), "sem_wait");
}

static void interrupter_stop(struct interrupter *in)
{
	WRITE_ONCE(in->stop, true);
	sem_post(&in->go);
	pthread_join(in->thread, NULL);
}

static void zap_page(struct interrupter *in)
{
	void *mem = in->s->p->mem;

	TEST_ASSERT(!mprotect(mem, 4096, PROT_READ) &&
		    !mprotect(mem, 4096, PROT_READ | PROT_WRITE), "mprotect");
}

static void map_other_page(struct interrupter *in)
{
	spinner_map_page(in->s->memfd, in->page, in->s->p->mem);
}

/* The owner's page is another one before a fault on it is done. */
TEST_F_TIMEOUT(revoke, mmap_races_fault, 600)
{
	struct interrupter in = { .begin = zap_page, .interrupt = map_other_page };
	struct spinner *s = &self->s;
	unsigned int i;

	if (!interrupter_start(&in, s))
		SKIP(return, "it takes preempt=full, and two CPUs");
	spinner_map(s);
	spinner_link(s);
	for (i = 0; i < s->trials; i++) {
		spinner_begin(s->loop, s->page[in.page]);
		in.page = !in.page;
		WRITE_ONCE(s->page[in.page][SPINNER_READ], SPINNER_NEW);
		interrupter_try(&in, i);
		spinner_end(s->loop, s->page[!in.page], SPINNER_NEW, i);
	}
	interrupter_stop(&in);
}

static void unmap_page(struct interrupter *in)
{
	vm2vm_unmap(in->domain, PEER_IOVA, 4096);
}

static void map_page(struct interrupter *in)
{
	vm2vm_map(in->domain, PEER_IOVA, PEER_OWNER_GPA, 4096, VM2VM_RW);
}

static void map_page_readonly(struct interrupter *in)
{
	vm2vm_map(in->domain, PEER_IOVA, PEER_OWNER_GPA, 4096, KVM_VM2VM_MAP_READ);
}

/* What is not approved is by the time that the access begins to wait for that. */
static void try_map_races_wait(struct interrupter *in, struct spinner *s)
{
	unsigned int i;

	in->domain = vm2vm_create_domain_flags(s->p->owner, KVM_VM2VM_DOMAIN_MISSES);
	in->interrupt(in);
	vm2vm_link(s->p->backend, in->domain, PEER_SLOT, s->link, PEER_IOVA, 4096,
		   KVM_VM2VM_LINK_WAIT);
	spinner_begin(s->loop, s->page[0]);
	for (i = 0; i < s->trials; i++) {
		interrupter_try(in, i);
		spinner_wait(s->loop, 3);
	}
	interrupter_stop(in);
	close(in->domain);
}

TEST_F_TIMEOUT(revoke, map_races_wait, 600)
{
	struct interrupter in = { .begin = unmap_page, .interrupt = map_page };

	if (!interrupter_start(&in, &self->s))
		SKIP(return, "it takes preempt=full, and two CPUs");
	try_map_races_wait(&in, &self->s);
}

/* The same for a read of what is approved for that. */
TEST_F_TIMEOUT(revoke, map_races_wait_to_read, 600)
{
	struct interrupter in = { .begin = unmap_page, .interrupt = map_page_readonly };

	WRITE_ONCE(self->s.loop->readonly, 1);
	if (!interrupter_start(&in, &self->s))
		SKIP(return, "it takes preempt=full, and two CPUs");
	try_map_races_wait(&in, &self->s);
}

static void delete_memslot(struct interrupter *in)
{
	vm_set_user_memory_region(in->s->p->owner, 0, 0, PEER_OWNER_GPA, 0, in->s->p->mem);
}

static void make_memslot(struct interrupter *in)
{
	vm_set_user_memory_region(in->s->p->owner, 0, 0, PEER_OWNER_GPA, 4096, in->s->p->mem);
}

/* What was filled for the lack of a memslot is the owner's page as soon as there is one. */
TEST_F_TIMEOUT(revoke, memslot_races_filler, 600)
{
	struct interrupter in = { .begin = delete_memslot, .interrupt = make_memslot };
	struct spinner *s = &self->s;
	unsigned int i;

	if (!interrupter_start(&in, s))
		SKIP(return, "it takes preempt=full, and two CPUs");
	WRITE_ONCE(s->loop->readonly, 1);
	spinner_map(s);
	for (i = 0; i < s->trials; i++) {
		/* A link that is new has no fillers. */
		vm2vm_link(self->p.backend, self->p.domain, PEER_SLOT, s->link, PEER_IOVA, 4096,
			   KVM_VM2VM_LINK_FILL);
		spinner_begin(s->loop, s->page[0]);
		interrupter_try(&in, i);
		spinner_wait(s->loop, 3);
		TEST_ASSERT(READ_ONCE(s->loop->last) == SPINNER_OLD,
			    "trial %u: there is a filler yet", i);
		vm2vm_unlink(self->p.backend, PEER_SLOT);
	}
	interrupter_stop(&in);
}

/* And what was filled for the lack of an approval is as soon as that has been given. */
TEST_F_TIMEOUT(revoke, map_races_filler, 600)
{
	struct interrupter in = { .begin = unmap_page, .interrupt = map_page };
	struct spinner *s = &self->s;
	unsigned int i;

	if (!interrupter_start(&in, s))
		SKIP(return, "it takes preempt=full, and two CPUs");
	WRITE_ONCE(s->loop->readonly, 1);
	in.domain = self->p.domain;
	spinner_map(s);
	vm2vm_link(self->p.backend, in.domain, PEER_SLOT, s->link, PEER_IOVA, 4096,
		   KVM_VM2VM_LINK_FILL);
	spinner_begin(s->loop, s->page[0]);
	for (i = 0; i < s->trials; i++) {
		interrupter_try(&in, i);
		spinner_wait(s->loop, 3);
		TEST_ASSERT(READ_ONCE(s->loop->last) == SPINNER_OLD,
			    "trial %u: there is a filler yet", i);
	}
	interrupter_stop(&in);
}

static int bell_at(struct interrupter *in, uint32_t len, uint32_t flags)
{
	return __vm2vm_doorbell(in->s->p->backend, in->s->link + SPINNER_WRITE * 8, len, 0,
				in->bell, flags);
}

static void make_bell(struct interrupter *in)
{
	in->bell = eventfd(0, EFD_CLOEXEC);
	TEST_ASSERT(in->bell >= 0 && !bell_at(in, 8, 0), "no doorbell");
}

/* Its memory is somebody else's soon. */
static void remove_bell(struct interrupter *in)
{
	TEST_ASSERT(!bell_at(in, 8, KVM_VM2VM_DOORBELL_DEASSIGN), "a doorbell that stays");
	close(in->bell);
}

/* A doorbell goes, one of two at the same address, while the guest rings it. */
TEST_F_TIMEOUT(revoke, deassign_races_ring, 600)
{
	struct interrupter in = { .begin = make_bell, .interrupt = remove_bell };
	struct spinner *s = &self->s;
	unsigned int i;

	if (!interrupter_start(&in, s))
		SKIP(return, "it takes preempt=full, and two CPUs");
	in.bell = eventfd(0, EFD_CLOEXEC);
	TEST_ASSERT(!bell_at(&in, 4, 0), "no doorbell");
	for (i = 0; i < s->trials; i++) {
		interrupter_try(&in, i);
		spinner_wait(s->loop, 1);
	}
	interrupter_stop(&in);
}

TEST_HARNESS_MAIN
