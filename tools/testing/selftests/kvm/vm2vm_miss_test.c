// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm: what an access does that nothing approves, through links that have
 * KVM_VM2VM_LINK_EXIT or KVM_VM2VM_LINK_WAIT; and windows of all memory.
 *
 * Here is what one vCPU does and what answers it.  vm2vm/miss/ has many
 * vCPUs (many.c), the descriptor and the end of owners and backends (file.c),
 * domains of all memory (all.c), and doorbells (bell.c).
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#include "vm2vm/miss/miss.h"

/* KVM_RUN has failed with EFAULT for this page. */
static void expect_exit(struct __test_metadata *_metadata, struct runner *r, unsigned int page)
{
	struct kvm_run *run = r->vcpu->run;

	EXPECT_EQ(-EFAULT, access_end(r));
	EXPECT_EQ(KVM_EXIT_MEMORY_FAULT, run->exit_reason);
	EXPECT_EQ(PEER_WINDOW + page * 4096ul, run->memory_fault.gpa);
	EXPECT_EQ(4096, run->memory_fault.size);
	EXPECT_EQ(0, run->memory_fault.flags);
}

/* The access stays where it is until something approves it, and is then done. */
TEST_F_TIMEOUT(miss, exit_read, 120)
{
	struct runner *r = &self->b.r[0];

	backend_link(&self->b, self->domain, EXIT);
	access_start(r, MISS_READ, 3, 0);
	expect_exit(_metadata, r, 3);
	access_continue(r);
	expect_exit(_metadata, r, 3);
	EXPECT_EQ(2, runner_stat(r, "vm2vm_exits"));

	/* Its neighbours do not matter. */
	map_pages(self->domain, 2, 1, VM2VM_RW);
	map_pages(self->domain, 4, 1, VM2VM_RW);
	access_continue(r);
	expect_exit(_metadata, r, 3);

	map_pages(self->domain, 3, 1, RD);
	access_continue(r);
	EXPECT_EQ(VALUE(3), access_val(r));
	EXPECT_EQ(VALUE(3), read_now(r, 3));

	EXPECT_EQ(1, unmap_pages(self->domain, 3, 1));
	access_start(r, MISS_READ, 3, 0);
	expect_exit(_metadata, r, 3);
	map_pages(self->domain, 3, 1, VM2VM_RW);
	access_continue(r);
	EXPECT_EQ(VALUE(3), access_val(r));

	EXPECT_EQ(4, runner_stat(r, "vm2vm_exits"));
	EXPECT_EQ(0, holes(r));
	EXPECT_EQ(0, waits(r));
	EXPECT_EQ(0, r->mmio);
}

TEST_F_TIMEOUT(miss, exit_write, 120)
{
	struct runner *r = &self->b.r[0];

	backend_link(&self->b, self->domain, EXIT);
	access_start(r, MISS_WRITE, 1, 7);
	expect_exit(_metadata, r, 1);
	map_pages(self->domain, 0, PAGES, RD);
	access_continue(r);
	expect_exit(_metadata, r, 1);
	EXPECT_EQ(VALUE(1), *word(self->mem, 1));

	/* Also if the page is there for reading. */
	access_start(&self->b.r[1], MISS_READ, 2, 0);
	EXPECT_EQ(VALUE(2), access_val(&self->b.r[1]));
	access_start(&self->b.r[1], MISS_WRITE, 2, 8);
	expect_exit(_metadata, &self->b.r[1], 2);

	EXPECT_EQ(PAGES, unmap_pages(self->domain, 0, PAGES));
	map_pages(self->domain, 0, PAGES, VM2VM_RW);
	access_continue(r);
	access_continue(&self->b.r[1]);
	EXPECT_EQ(0, access_end(r));
	EXPECT_EQ(0, access_end(&self->b.r[1]));
	EXPECT_EQ(7, *word(self->mem, 1));
	EXPECT_EQ(8, *word(self->mem, 2));
	EXPECT_EQ(0, r->mmio + self->b.r[1].mmio);
}

/* Nothing approves an instruction fetch. */
TEST_F_TIMEOUT(miss, exit_exec, 120)
{
	struct runner *r = &self->b.r[0];

	memset(self->mem, 0xc3, 4096);	/* ret */
	backend_link(&self->b, self->domain, EXIT);
	access_start(r, MISS_EXEC, 0, 0);
	expect_exit(_metadata, r, 0);
	map_pages(self->domain, 0, 1, VM2VM_RW);
	access_continue(r);
	expect_exit(_metadata, r, 0);
	EXPECT_EQ(0xc3c3c3c3c3c3c3c3ull, read_now(&self->b.r[1], 0));
	access_continue(r);
	expect_exit(_metadata, r, 0);
}

/* What no MAP could approve exits as well. */
TEST_F_TIMEOUT(miss, exit_other_reasons, 120)
{
	struct runner *r = &self->b.r[0];

	map_pages(self->domain, 0, PAGES, VM2VM_RW);
	backend_link(&self->b, self->domain, EXIT | READONLY);
	EXPECT_EQ(VALUE(0), read_now(r, 0));
	access_start(r, MISS_WRITE, 0, 1);
	expect_exit(_metadata, r, 0);
	vm2vm_unlink(self->b.vm, PEER_SLOT);
	backend_link(&self->b, self->domain, EXIT);
	access_continue(r);
	EXPECT_EQ(0, access_end(r));
	EXPECT_EQ(1, *word(self->mem, 0));

	/* The owner's memory goes, and comes. */
	vm_set_user_memory_region(self->owner, 0, 0, GPA(0), 0, self->mem);
	access_start(r, MISS_READ, 5, 0);
	expect_exit(_metadata, r, 5);
	vm_set_user_memory_region(self->owner, 0, 0, GPA(0), PAGES * 4096, self->mem);
	access_continue(r);
	EXPECT_EQ(VALUE(5), access_val(r));

	/* So does all that the domain has. */
	close(self->domain);
	access_start(r, MISS_READ, 6, 0);
	expect_exit(_metadata, r, 6);
	vm2vm_unlink(self->b.vm, PEER_SLOT);
	access_continue(r);
	EXPECT_EQ(HOLE, access_val(r));
	EXPECT_EQ(1, r->mmio);
}

/* KVM's own access, while it emulates an instruction, finds a hole at once. */
TEST_F_TIMEOUT(miss, emulation, 120)
{
	static const uint32_t flags[] = { 0, EXIT, WAIT };
	struct runner *r = &self->b.r[0];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		backend_link(&self->b, self->domain, flags[i]);
		r->mmio = 0;
		EXPECT_EQ(0, access_now(r, MISS_MOVE, 4, 0));
		EXPECT_EQ(2, r->mmio);
		EXPECT_TRUE(r->mmio_write);
		EXPECT_EQ(PEER_WINDOW + 4 * 4096, r->mmio_gpa);
		vm2vm_unlink(self->b.vm, PEER_SLOT);
	}
	EXPECT_EQ(0, runner_stat(r, "vm2vm_exits"));
	EXPECT_EQ(0, waits(r));
	expect_no_miss(self->domain);
}

/* KVM_PRE_FAULT_MEMORY neither exits nor waits. */
TEST_F_TIMEOUT(miss, pre_fault, 120)
{
	static const uint32_t flags[] = { 0, EXIT, WAIT };
	struct kvm_pre_fault_memory range;
	struct runner *r = &self->b.r[0];
	unsigned int i;

	if (!kvm_check_cap(KVM_CAP_PRE_FAULT_MEMORY))
		SKIP(return, "no KVM_CAP_PRE_FAULT_MEMORY");
	map_pages(self->domain, 0, 1, RD);
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		backend_link(&self->b, self->domain, flags[i]);
		/* By no root, or one that the last UNLINK made obsolete. */
		range = (struct kvm_pre_fault_memory) { .gpa = PEER_WINDOW, .size = 3 * 4096 };
		EXPECT_EQ(0, __vcpu_ioctl(r->vcpu, KVM_PRE_FAULT_MEMORY, &range));
		EXPECT_EQ(2 * 4096, range.size);
		EXPECT_EQ(-1, __vcpu_ioctl(r->vcpu, KVM_PRE_FAULT_MEMORY, &range));
		EXPECT_EQ(ENOENT, errno);
		vm2vm_unlink(self->b.vm, PEER_SLOT);
	}
	EXPECT_EQ(0, runner_stat(r, "vm2vm_exits"));
	EXPECT_EQ(0, waits(r));
	expect_no_miss(self->domain);
}

static uint64_t cpu_ms(pthread_t thread)
{
	struct timespec ts;
	clockid_t clock;

	TEST_ASSERT(!pthread_getcpuclockid(thread, &clock) && !clock_gettime(clock, &ts),
		    "the thread's CPU clock");
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

TEST_F_TIMEOUT(miss, wait_read, 120)
{
	struct runner *r = &self->b.r[0];
	uint64_t before;

	backend_link(&self->b, self->domain, WAIT);
	access_start(r, MISS_READ, 3, 0);
	expect_miss(self->domain, 3, RD);
	until_waits(r, 1);
	expect_no_miss(self->domain);

	/* It sleeps. */
	usleep(50000);
	before = cpu_ms(r->thread);
	usleep(400000);
	EXPECT_LT(cpu_ms(r->thread) - before, 100);
	still_waits(r, 1);

	map_pages(self->domain, 3, 1, RD);
	EXPECT_EQ(VALUE(3), access_val(r));
	EXPECT_EQ(VALUE(3), read_now(r, 3));
	EXPECT_EQ(1, waits(r));

	/* Once more after it was revoked. */
	EXPECT_EQ(1, unmap_pages(self->domain, 3, 1));
	access_start(r, MISS_READ, 3, 0);
	expect_miss(self->domain, 3, RD);
	*word(self->mem, 3) = 99;
	map_pages(self->domain, 0, PAGES, VM2VM_RW);
	EXPECT_EQ(99, access_val(r));
	EXPECT_EQ(2, waits(r));
	EXPECT_EQ(0, holes(r));
	EXPECT_EQ(0, runner_stat(r, "vm2vm_exits"));
	EXPECT_EQ(0, r->mmio);
	expect_no_miss(self->domain);
}

/* What was approved in time is no miss. */
TEST_F_TIMEOUT(miss, wait_not, 120)
{
	struct runner *r = &self->b.r[0];

	map_pages(self->domain, 0, PAGES, VM2VM_RW);
	backend_link(&self->b, self->domain, WAIT);
	EXPECT_EQ(VALUE(1), read_now(r, 1));
	EXPECT_EQ(0, access_now(r, MISS_WRITE, 2, 5));
	EXPECT_EQ(5, *word(self->mem, 2));
	EXPECT_EQ(0, waits(r));
	EXPECT_EQ(0, r->mmio);
	expect_no_miss(self->domain);
}

TEST_F_TIMEOUT(miss, wait_write, 120)
{
	struct runner *r = &self->b.r[0];

	backend_link(&self->b, self->domain, WAIT);
	access_start(r, MISS_WRITE, 5, 42);
	expect_miss(self->domain, 5, VM2VM_RW);
	map_pages(self->domain, 5, 1, VM2VM_RW);
	EXPECT_EQ(0, access_end(r));
	EXPECT_EQ(42, *word(self->mem, 5));
	EXPECT_EQ(1, waits(r));
	EXPECT_EQ(0, r->mmio);
}

/* The right to read does not do for a write: the owner has to replace it. */
TEST_F_TIMEOUT(miss, wait_write_readonly_mapping, 120)
{
	struct runner *r = &self->b.r[0];

	map_pages(self->domain, 0, PAGES, RD);
	backend_link(&self->b, self->domain, WAIT);
	EXPECT_EQ(VALUE(0), read_now(r, 0));
	access_start(r, MISS_WRITE, 0, 1);
	expect_miss(self->domain, 0, VM2VM_RW);

	/* Nor does a MAP that fails, or that it is not there any more. */
	EXPECT_EQ(-EEXIST, __vm2vm_map(self->domain, IOVA(0), GPA(0), 4096, VM2VM_RW));
	still_waits(r, 1);
	EXPECT_EQ(PAGES, unmap_pages(self->domain, 0, PAGES));
	still_waits(r, 1);
	expect_no_miss(self->domain);
	EXPECT_EQ(VALUE(0), *word(self->mem, 0));

	map_pages(self->domain, 0, PAGES, VM2VM_RW);
	EXPECT_EQ(0, access_end(r));
	EXPECT_EQ(1, *word(self->mem, 0));
	EXPECT_EQ(1, waits(r));
	EXPECT_EQ(0, r->mmio);
}

/* An answer that gives too little is followed by another miss. */
TEST_F_TIMEOUT(miss, wait_too_few_rights, 120)
{
	struct runner *r = &self->b.r[0];

	backend_link(&self->b, self->domain, WAIT);
	access_start(r, MISS_WRITE, 2, 1);
	expect_miss(self->domain, 2, VM2VM_RW);
	map_pages(self->domain, 2, 1, RD);
	expect_miss(self->domain, 2, VM2VM_RW);
	still_waits(r, 2);
	EXPECT_EQ(1, unmap_pages(self->domain, 2, 1));
	map_pages(self->domain, 2, 1, RD);
	expect_miss(self->domain, 2, VM2VM_RW);
	EXPECT_EQ(1, unmap_pages(self->domain, 2, 1));
	map_pages(self->domain, 2, 1, VM2VM_RW);
	EXPECT_EQ(0, access_end(r));
	EXPECT_EQ(1, *word(self->mem, 2));
	EXPECT_EQ(3, waits(r));
	EXPECT_EQ(0, r->mmio);
}

/* What covers other pages, or does not happen, is no answer. */
TEST_F_TIMEOUT(miss, wait_no_answer, 120)
{
	struct kvm_vm2vm_refuse *args = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
					     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct runner *r = &self->b.r[0];

	backend_link(&self->b, self->domain, WAIT);
	access_start(r, MISS_READ, 8, 0);
	expect_miss(self->domain, 8, RD);

	map_pages(self->domain, 0, 8, VM2VM_RW);
	map_pages(self->domain, 9, 7, VM2VM_RW);
	EXPECT_EQ(0, refuse_pages(self->domain, 0, 8));
	EXPECT_EQ(0, refuse_pages(self->domain, 9, 7));
	EXPECT_EQ(0, vm2vm_refuse(self->domain, 0, IOVA(8)));
	EXPECT_EQ(0, vm2vm_refuse(self->domain, IOVA(9), -IOVA(10)));
	EXPECT_EQ(0, unmap_pages(self->domain, 8, 1));
	EXPECT_EQ(-ENOENT, __vm2vm_map(self->domain, IOVA(8), 0, 4096, RD));
	EXPECT_EQ(-EINVAL, __vm2vm_map(self->domain, IOVA(8), GPA(8), 4096, 0));
	EXPECT_EQ(-EEXIST, __vm2vm_map(self->domain, IOVA(7), GPA(7), 2 * 4096, RD));
	EXPECT_EQ(-EINVAL, __vm2vm_refuse(self->domain, IOVA(8), 0, NULL));

	/* Nor is a refusal that cannot say how many it was for. */
	*args = (struct kvm_vm2vm_refuse) { .iova = IOVA(8), .size = 4096 };
	ASSERT_EQ(0, mprotect(args, 4096, PROT_READ));
	EXPECT_EQ(-EFAULT, vm2vm_ioctl(self->domain, KVM_VM2VM_REFUSE, args));
	still_waits(r, 1);
	expect_no_miss(self->domain);
	ASSERT_EQ(0, mprotect(args, 4096, PROT_READ | PROT_WRITE));
	args->refused = -1;
	EXPECT_EQ(0, vm2vm_ioctl(self->domain, KVM_VM2VM_REFUSE, args));
	EXPECT_EQ(1, args->refused);
	EXPECT_EQ(HOLE, access_val(r));
}

/* A refusal is for one access: the next misses again. */
TEST_F_TIMEOUT(miss, wait_refuse, 120)
{
	struct runner *r = &self->b.r[0];

	backend_link(&self->b, self->domain, WAIT);
	EXPECT_EQ(0, refuse_pages(self->domain, 0, PAGES));
	access_start(r, MISS_READ, 3, 0);
	expect_miss(self->domain, 3, RD);
	EXPECT_EQ(1, refuse_pages(self->domain, 3, 1));
	EXPECT_EQ(HOLE, access_val(r));
	EXPECT_EQ(1, r->mmio);
	EXPECT_EQ(PEER_WINDOW + 3 * 4096, r->mmio_gpa);
	EXPECT_FALSE(r->mmio_write);
	EXPECT_EQ(0, refuse_pages(self->domain, 3, 1));

	/* Before it was read, too; then there is nothing to read. */
	access_start(r, MISS_WRITE, 3, 1);
	until_waits(r, 2);
	EXPECT_EQ(POLLIN, poll_for(self->domain, LIMIT * 1000));
	EXPECT_EQ(1, vm2vm_refuse(self->domain, 0, -4096ul));
	EXPECT_EQ(0, access_end(r));
	expect_no_miss(self->domain);
	EXPECT_EQ(2, r->mmio);
	EXPECT_TRUE(r->mmio_write);
	EXPECT_EQ(VALUE(3), *word(self->mem, 3));

	access_start(r, MISS_READ, 3, 0);
	expect_miss(self->domain, 3, RD);
	map_pages(self->domain, 3, 1, RD);
	EXPECT_EQ(VALUE(3), access_val(r));
	EXPECT_EQ(2, r->mmio);
	EXPECT_EQ(2, holes(r));
	EXPECT_EQ(3, waits(r));
}

/* By a link that fills its holes, what is refused is filled, without an exit, until a MAP. */
TEST_F_TIMEOUT(miss, wait_refuse_fill, 120)
{
	struct runner *r = &self->b.r[0];

	backend_link(&self->b, self->domain, WAIT | KVM_VM2VM_LINK_FILL);
	access_start(r, MISS_READ, 3, 0);
	expect_miss(self->domain, 3, RD);
	/* What is revoked meanwhile is something else. */
	map_pages(self->domain, 5, 1, RD);
	EXPECT_EQ(1, unmap_pages(self->domain, 5, 1));
	EXPECT_EQ(1, refuse_pages(self->domain, 3, 1));
	EXPECT_EQ(HOLE, access_val(r));
	EXPECT_EQ(1, peer_vcpu_stat(r->vcpu, "vm2vm_fills"));

	/* It stays: the next does not miss. */
	EXPECT_EQ(HOLE, read_now(r, 3));
	EXPECT_EQ(1, waits(r));

	/* A write does, and then has somewhere to go. */
	access_start(r, MISS_WRITE, 3, 1);
	until_waits(r, 2);
	EXPECT_EQ(1, refuse_pages(self->domain, 3, 1));
	EXPECT_EQ(0, access_end(r));
	EXPECT_EQ(VALUE(3), *word(self->mem, 3));

	map_pages(self->domain, 3, 1, RD);
	EXPECT_EQ(VALUE(3), read_now(r, 3));
	access_start(r, MISS_READ, 4, 0);
	until_waits(r, 3);
	map_pages(self->domain, 4, 1, RD);
	EXPECT_EQ(VALUE(4), access_val(r));
	EXPECT_EQ(2, peer_vcpu_stat(r->vcpu, "vm2vm_fills"));
	EXPECT_EQ(0, r->mmio);
	EXPECT_EQ(0, holes(r));
}

/* A signal ends the wait, not the access: KVM_RUN again is a miss again. */
TEST_F_TIMEOUT(miss, wait_signal, 120)
{
	struct runner *r = &self->b.r[0];
	unsigned int i;

	backend_link(&self->b, self->domain, WAIT);
	access_start(r, MISS_READ, 1, 0);
	for (i = 1; i <= 3; i++) {
		/* Read or not, the record is void. */
		if (i != 2)
			expect_miss(self->domain, 1, RD);
		still_waits(r, i);
		pthread_kill(r->thread, SIGUSR1);
		EXPECT_EQ(-EINTR, access_end(r));
		EXPECT_EQ(KVM_EXIT_INTR, r->vcpu->run->exit_reason);
		expect_no_miss(self->domain);
		EXPECT_EQ(0, refuse_pages(self->domain, 0, PAGES));
		access_continue(r);
	}
	expect_miss(self->domain, 1, RD);
	map_pages(self->domain, 1, 1, RD);
	EXPECT_EQ(VALUE(1), access_val(r));
	EXPECT_EQ(0, r->mmio);
	EXPECT_EQ(0, holes(r));

	/* Approved while nobody waits: there is no miss the next time. */
	EXPECT_EQ(1, unmap_pages(self->domain, 1, 1));
	access_start(r, MISS_READ, 1, 0);
	expect_miss(self->domain, 1, RD);
	pthread_kill(r->thread, SIGUSR1);
	EXPECT_EQ(-EINTR, access_end(r));
	map_pages(self->domain, 1, 1, RD);
	access_continue(r);
	EXPECT_EQ(VALUE(1), access_val(r));
	expect_no_miss(self->domain);
}

/* What no MAP could approve is not waited for. */
TEST_F_TIMEOUT(miss, wait_for_nothing, 120)
{
	struct runner *r = &self->b.r[0];

	memset(self->mem, 0xc3, 4096);
	map_pages(self->domain, 0, 8, VM2VM_RW);
	backend_link(&self->b, self->domain, WAIT | READONLY);

	/* A write by a link that is read-only, approved or not. */
	EXPECT_EQ(0, access_now(r, MISS_WRITE, 1, 1));
	EXPECT_EQ(0, access_now(r, MISS_WRITE, 9, 1));
	EXPECT_EQ(2, r->mmio);
	EXPECT_EQ(VALUE(1), *word(self->mem, 1));
	EXPECT_EQ(VALUE(1), read_now(r, 1));
	EXPECT_EQ(0, waits(r));
	expect_no_miss(self->domain);

	/* No memory behind a mapping: for reading, */
	vm_set_user_memory_region(self->owner, 0, 0, GPA(0), 0, self->mem);
	EXPECT_EQ(HOLE, read_now(r, 1));
	EXPECT_EQ(3, r->mmio);
	/* and by a memslot and by a host page that are read-only, for writing. */
	vm2vm_unlink(self->b.vm, PEER_SLOT);
	backend_link(&self->b, self->domain, WAIT);
	vm_set_user_memory_region(self->owner, 0, KVM_MEM_READONLY, GPA(0), PAGES * 4096,
				  self->mem);
	EXPECT_EQ(0, access_now(r, MISS_WRITE, 1, 2));
	EXPECT_EQ(4, r->mmio);
	vm_set_user_memory_region(self->owner, 0, 0, GPA(0), 0, self->mem);
	vm_set_user_memory_region(self->owner, 0, 0, GPA(0), PAGES * 4096, self->mem);
	ASSERT_EQ(0, mprotect(self->mem + 4096, 4096, PROT_READ));
	EXPECT_EQ(0, access_now(r, MISS_WRITE, 1, 3));
	EXPECT_EQ(5, r->mmio);
	ASSERT_EQ(0, mprotect(self->mem + 4096, 4096, PROT_NONE));
	EXPECT_EQ(HOLE, read_now(r, 1));
	EXPECT_EQ(6, r->mmio);
	EXPECT_EQ(6, holes(r));

	/* An instruction fetch, which no VMM can complete. */
	EXPECT_EQ(KVM_EXIT_INTERNAL_ERROR, access_now(r, MISS_EXEC, 0, 0));
	EXPECT_EQ(0, waits(r));
	expect_no_miss(self->domain);
	EXPECT_EQ(0, refuse_pages(self->domain, 0, PAGES));
}

/* A mapping is read-only, and no MAP of the same memory could be another. */
TEST_F_TIMEOUT(miss, wait_for_readonly_memory, 120)
{
	struct runner *r = &self->b.r[0];

	vm_set_user_memory_region(self->owner, 0, 0, GPA(0), 0, self->mem);
	vm_set_user_memory_region(self->owner, 0, KVM_MEM_READONLY, GPA(0), PAGES * 4096,
				  self->mem);
	map_pages(self->domain, 0, 8, RD);
	backend_link(&self->b, self->domain, WAIT);
	EXPECT_EQ(VALUE(1), read_now(r, 1));
	EXPECT_EQ(0, access_now(r, MISS_WRITE, 1, 1));
	EXPECT_EQ(1, r->mmio);
	EXPECT_EQ(0, access_now(r, MISS_WRITE, 2, 1));
	EXPECT_EQ(2, r->mmio);
	EXPECT_EQ(VALUE(1), *word(self->mem, 1));

	/* The same without memory, for a write; but what is not mapped is waited for. */
	vm_set_user_memory_region(self->owner, 0, 0, GPA(0), 0, self->mem);
	EXPECT_EQ(0, access_now(r, MISS_WRITE, 3, 1));
	EXPECT_EQ(3, r->mmio);
	EXPECT_EQ(0, waits(r));
	expect_no_miss(self->domain);
	access_start(r, MISS_WRITE, 9, 1);
	expect_miss(self->domain, 9, VM2VM_RW);
	EXPECT_EQ(1, refuse_pages(self->domain, 9, 1));
	EXPECT_EQ(0, access_end(r));
	EXPECT_EQ(4, r->mmio);
}

/* A reader by a link that is read-only waits as any. */
TEST_F_TIMEOUT(miss, wait_readonly_link, 120)
{
	struct runner *r = &self->b.r[0];

	backend_link(&self->b, self->domain, WAIT | READONLY);
	access_start(r, MISS_READ, 1, 0);
	expect_miss(self->domain, 1, RD);
	map_pages(self->domain, 1, 1, VM2VM_RW);
	EXPECT_EQ(VALUE(1), access_val(r));
	EXPECT_EQ(1, waits(r));
}

/* What the owner does with its memory meanwhile is no answer either. */
TEST_F_TIMEOUT(miss, wait_owner_memory, 120)
{
	struct runner *r = &self->b.r[0];

	backend_link(&self->b, self->domain, WAIT);
	access_start(r, MISS_READ, 1, 0);
	expect_miss(self->domain, 1, RD);
	vm_set_user_memory_region(self->owner, 0, 0, GPA(0), 0, self->mem);
	vm_set_user_memory_region(self->owner, 0, 0, GPA(PAGES), PAGES * 4096, self->mem);
	ASSERT_EQ(0, madvise(self->mem, PAGES * 4096, MADV_DONTNEED));
	*word(self->mem, 4) = 17;
	still_waits(r, 1);
	vm2vm_map(self->domain, IOVA(1), GPA(PAGES + 4), 4096, RD);
	EXPECT_EQ(17, access_val(r));
	EXPECT_EQ(0, r->mmio);
}

/* All kinds of changes of the backend's memslots go through, and it waits on. */
TEST_F_TIMEOUT(miss, wait_backend_memslots, 120)
{
	struct kvm_vm *vm = self->b.vm;
	struct runner *r = &self->b.r[0];
	void *mem = peer_mmap(4096, 0);

	backend_link(&self->b, self->domain, WAIT);
	access_start(r, MISS_READ, 1, 0);
	expect_miss(self->domain, 1, RD);
	until_waits(r, 1);

	vm_set_user_memory_region(vm, 50, 0, 4 * PEER_WINDOW, 4096, mem);
	vm_set_user_memory_region(vm, 50, 0, 5 * PEER_WINDOW, 4096, mem);
	vm_set_user_memory_region(vm, 50, KVM_MEM_LOG_DIRTY_PAGES, 5 * PEER_WINDOW, 4096, mem);
	vm_set_user_memory_region(vm, 50, 0, 5 * PEER_WINDOW, 0, mem);
	vm2vm_link(vm, self->domain, PEER_SLOT + 1, WINDOW2, PEER_IOVA, PAGES * 4096, WAIT);
	/* The other vCPU does what it does. */
	map_pages(self->domain, 2, 1, RD);
	EXPECT_EQ(VALUE(2), read_now(&self->b.r[1], 2));
	vm2vm_unlink(vm, PEER_SLOT + 1);
	munmap(mem, 4096);

	still_waits(r, 1);
	map_pages(self->domain, 1, 1, RD);
	EXPECT_EQ(VALUE(1), access_val(r));
	EXPECT_EQ(0, r->mmio);
}

/* UNLINK ends the wait by that link, and by no other. */
TEST_F_TIMEOUT(miss, wait_unlink, 120)
{
	struct runner *r = &self->b.r[0], *r2 = &self->b.r[1];

	backend_link(&self->b, self->domain, WAIT);
	vm2vm_link(self->b.vm, self->domain, PEER_SLOT + 1, WINDOW2, IOVA(1), 4096, WAIT);
	access_start(r, MISS_READ, 1, 0);
	expect_miss(self->domain, 1, RD);
	access_start_at(r2, MISS_READ, WINDOW2, 0);
	expect_miss(self->domain, 1, RD);
	until_waits(r, 1);
	until_waits(r2, 1);

	vm2vm_unlink(self->b.vm, PEER_SLOT);
	EXPECT_EQ(HOLE, access_val(r));
	EXPECT_EQ(1, r->mmio);
	still_waits(r2, 1);
	EXPECT_EQ(HOLE, read_now(r, 1));
	EXPECT_EQ(1, waits(r));

	/* It may come back meanwhile. */
	backend_link(&self->b, self->domain, WAIT);
	access_start(r, MISS_READ, 1, 0);
	expect_miss(self->domain, 1, RD);
	still_waits(r2, 1);
	EXPECT_EQ(2, refuse_pages(self->domain, 1, 1));
	EXPECT_EQ(HOLE, access_val(r));
	EXPECT_EQ(HOLE, access_val(r2));
	EXPECT_EQ(1, r2->mmio);

	/* Before the miss is read, too, which then is none. */
	access_start_at(r2, MISS_WRITE, WINDOW2, 3);
	until_waits(r2, 2);
	vm2vm_unlink(self->b.vm, PEER_SLOT + 1);
	EXPECT_EQ(0, access_end(r2));
	EXPECT_EQ(2, r2->mmio);
	expect_no_miss(self->domain);
}

/* Links of one domain that give different answers. */
TEST_F_TIMEOUT(miss, different_links, 120)
{
	struct runner *r = &self->b.r[0], *r2 = &self->b.r[1];

	backend_link(&self->b, self->domain, WAIT);
	vm2vm_link(self->b.vm, self->domain, PEER_SLOT + 1, WINDOW2, IOVA(0), 4096, 0);
	vm2vm_link(self->b.vm, self->domain, PEER_SLOT + 2, WINDOW2 + 4096, IOVA(0), 4096, EXIT);
	access_start(r, MISS_READ, 0, 0);
	expect_miss(self->domain, 0, RD);
	access_start_at(r2, MISS_READ, WINDOW2, 0);
	EXPECT_EQ(HOLE, access_val(r2));
	access_start_at(r2, MISS_READ, WINDOW2 + 4096, 0);
	EXPECT_EQ(-EFAULT, access_end(r2));
	EXPECT_EQ(WINDOW2 + 4096, r2->vcpu->run->memory_fault.gpa);
	still_waits(r, 1);
	expect_no_miss(self->domain);

	map_pages(self->domain, 0, 1, RD);
	EXPECT_EQ(VALUE(0), access_val(r));
	access_continue(r2);
	EXPECT_EQ(VALUE(0), access_val(r2));
	access_start_at(r2, MISS_READ, WINDOW2, 0);
	EXPECT_EQ(VALUE(0), access_val(r2));
	EXPECT_EQ(1, r2->mmio);
}

TEST_HARNESS_MAIN
