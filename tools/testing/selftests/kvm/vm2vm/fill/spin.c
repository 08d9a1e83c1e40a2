// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_fill_test: what replaces a filler while the guest reads and writes it in a loop
 * that never exits, or is about to fault on it.
 */
#include "vm2vm_harness.h"
#include "fill.h"
#include "vm2vm_spin.h"

FIXTURE(spin)
{
	struct peer p;
	struct spinner s;
};

FIXTURE_SETUP(spin)
{
	peer_init(&self->p, 4096);
	vcpu_arch_set_entry_point(self->p.vcpu, spinner_guest);
	peer_map_window(&self->p, PEER_WINDOW, 4096);
	vm2vm_link(self->p.backend, self->p.domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, 4096, FILL);
	spinner_start(&self->s, &self->p, PEER_WINDOW, vm2vm_trials(100));
	WRITE_ONCE(*self->s.page[0], SPINNER_OLD);
}

FIXTURE_TEARDOWN(spin)
{
	spinner_stop(&self->s);
	peer_free(&self->p);
}

/* What the guest begins to read from now on is the owner's. */
static void expect_owners(struct spinner *s, unsigned int trial)
{
	spinner_wait(s->loop, 2);
	TEST_ASSERT(READ_ONCE(s->loop->last) == SPINNER_OLD, "trial %u: the guest reads 0x%lx",
		    trial, s->loop->last);
}

/* With a filler, and with one that is under way. */
TEST_F_TIMEOUT(spin, map, 300)
{
	struct spinner *s = &self->s;
	unsigned int i;

	for (i = 0; i < s->trials; i++) {
		if (i % 2)
			spinner_wait(s->loop, 3);
		else
			usleep(i / 2 % 8 * 300);
		spinner_map(s);
		expect_owners(s, i);
		vm2vm_unmap(self->p.domain, PEER_IOVA, 4096);
		if (!(i % 8))
			spinner_end(s->loop, s->page[0], SPINNER_HOLE, i);
	}
}

TEST_F_TIMEOUT(spin, memslot, 300)
{
	struct spinner *s = &self->s;
	struct peer *p = &self->p;
	unsigned int i;

	spinner_map(s);
	for (i = 0; i < s->trials; i++) {
		vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA, 0, p->mem);
		if (i % 2)
			spinner_wait_for(s->loop, SPINNER_HOLE);
		vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA, p->size, p->mem);
		expect_owners(s, i);
	}
}

static struct kvm_vcpu *reader;

static void reader_guest(uint64_t *stop)
{
	peer_guest_interruptible();
	while (!READ_ONCE(*stop))
		READ_ONCE(*(uint64_t *)PEER_WINDOW);
	GUEST_DONE();
}

static void *reader_run(void *arg)
{
	vcpu_run(reader);
	TEST_ASSERT(get_ucall(reader, NULL) == UCALL_DONE, "exit reason %u",
		    reader->run->exit_reason);
	return arg;
}

/* One vCPU reads a hole while another one writes to it: either goes on. */
TEST(read_while_written)
{
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	uint64_t *stop;
	vm_vaddr_t page;
	pthread_t thread;
	struct peer p;
	unsigned int i;

	fill_init(&p, 0);
	vm = p.backend;
	vcpu = vm_vcpu_add(vm, 1, reader_guest);
	page = vm_vaddr_alloc_page(vm);
	stop = addr_gva2hva(vm, page);
	vcpu_args_set(vcpu, 1, page);
	reader = vcpu;
	ASSERT_EQ(0, pthread_create(&thread, NULL, reader_run, NULL));
	for (i = 0; i < vm2vm_trials(200); i++) {
		peer_write(&p, 8, i);
		fill_map(&p, 0, 1, VM2VM_RW);
		EXPECT_EQ(PEER_VALUE, peer_read(&p, 0));
		fill_unmap(&p, 0, 1);
		peer_read(&p, 8);
	}
	WRITE_ONCE(*stop, 1);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, p.mmio);
	peer_free(&p);
}
