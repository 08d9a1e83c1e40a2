// SPDX-License-Identifier: GPL-2.0
/* vm2vm_miss_test: domains of all memory, whose approvals come and go by themselves. */
#include <poll.h>
#include <sys/mman.h>

#include "miss.h"

#define ALL	KVM_VM2VM_DOMAIN_ALL_MEMORY

/*
 * The owner of the fixture has pages 4 to 7 in the place of what it had, and the
 * backend a window on all of its pages, and one page more.
 */
static int all_memory(struct kvm_vm *owner, void *mem, struct backend *b, uint32_t flags)
{
	int domain = vm2vm_create_domain_flags(owner, ALL | KVM_VM2VM_DOMAIN_MISSES);

	vm_set_user_memory_region(owner, 0, 0, GPA(0), 0, mem);
	vm_set_user_memory_region(owner, 1, 0, GPA(4), 4 * 4096, word(mem, 4));
	vm2vm_link(b->vm, domain, PEER_SLOT, PEER_WINDOW, GPA(0), PAGES * 4096, flags);
	return domain;
}

/* These pages, exclusively, have their values, and all others are holes. */
static void expect_pages(struct __test_metadata *_metadata, struct runner *r,
			 unsigned int first, unsigned int end)
{
	unsigned int i, before;
	bool there;

	for (i = 0; i < PAGES; i++) {
		there = i >= first && i < end;
		before = r->mmio;
		EXPECT_EQ(there ? VALUE(i) : HOLE, read_now(r, i))
			TH_LOG("page %u", i);
		EXPECT_EQ(!there, r->mmio - before)
			TH_LOG("page %u", i);
	}
}

TEST_F_TIMEOUT(miss, all_memslots, 120)
{
	struct runner *r = &self->b.r[0];
	struct kvm_vm *vm = self->owner;

	all_memory(vm, self->mem, &self->b, 0);
	expect_pages(_metadata, r, 4, 8);

	/* A new memslot shows. */
	vm_set_user_memory_region(vm, 2, 0, GPA(8), 4 * 4096, word(self->mem, 8));
	expect_pages(_metadata, r, 4, 12);
	EXPECT_EQ(0, access_now(r, MISS_WRITE, 9, 1));
	EXPECT_EQ(1, *word(self->mem, 9));
	*word(self->mem, 9) = VALUE(9);

	/* One that is deleted is a hole, and what comes into it shows again. */
	vm_set_user_memory_region(vm, 1, 0, GPA(4), 0, word(self->mem, 4));
	expect_pages(_metadata, r, 8, 12);
	EXPECT_EQ(0, access_now(r, MISS_WRITE, 5, 1));
	EXPECT_EQ(VALUE(5), *word(self->mem, 5));
	vm_set_user_memory_region(vm, 1, 0, GPA(7), 4096, word(self->mem, 7));
	expect_pages(_metadata, r, 7, 12);

	/* One that is moved is where it is now. */
	vm_set_user_memory_region(vm, 2, 0, GPA(12), 4 * 4096, word(self->mem, 8));
	EXPECT_EQ(HOLE, read_now(r, 8));
	EXPECT_EQ(VALUE(8), read_now(r, 12));
	EXPECT_EQ(VALUE(11), read_now(r, 15));
	EXPECT_EQ(VALUE(7), read_now(r, 7));

	/* What the owner has at its host address shows. */
	ASSERT_EQ(0, madvise(word(self->mem, 7), 4096, MADV_DONTNEED));
	EXPECT_EQ(0, read_now(r, 7));
	*word(self->mem, 7) = 77;
	EXPECT_EQ(77, read_now(r, 7));
}

/* A memslot that is read-only is so, and the owner's own windows do not show. */
TEST_F_TIMEOUT(miss, all_not_all, 120)
{
	struct runner *r = &self->b.r[0];
	struct kvm_vm *vm = self->owner;
	int domain;

	all_memory(vm, self->mem, &self->b, 0);
	vm_set_user_memory_region(vm, 2, KVM_MEM_READONLY, GPA(8), 4096, word(self->mem, 8));
	expect_pages(_metadata, r, 4, 9);
	EXPECT_EQ(0, access_now(r, MISS_WRITE, 8, 1));
	EXPECT_TRUE(r->mmio_write);
	EXPECT_EQ(PEER_WINDOW + 8 * 4096, r->mmio_gpa);
	EXPECT_EQ(VALUE(8), *word(self->mem, 8));

	domain = vm2vm_create_domain_flags(self->b.vm, ALL);
	vm2vm_link(vm, domain, PEER_SLOT, GPA(0), 0, 4 * 4096, 0);
	expect_pages(_metadata, r, 4, 9);
	vm2vm_unlink(vm, PEER_SLOT);
	vm_set_user_memory_region(vm, 3, 0, GPA(0), 4 * 4096, word(self->mem, 0));
	expect_pages(_metadata, r, 0, 9);
}

/* No MAP could approve more than all memory: nothing is waited for. */
TEST_F_TIMEOUT(miss, all_wait, 120)
{
	struct runner *r = &self->b.r[0];
	int domain;

	domain = all_memory(self->owner, self->mem, &self->b, WAIT);
	expect_pages(_metadata, r, 4, 8);
	EXPECT_EQ(0, access_now(r, MISS_WRITE, 0, 1));
	EXPECT_EQ(0, waits(r));
	expect_no_miss(domain);
	EXPECT_EQ(0, vm2vm_refuse(domain, 0, -4096ul));

	/* Other domains of the owner are as ever. */
	vm2vm_link(self->b.vm, self->domain, PEER_SLOT + 1, WINDOW2, PEER_IOVA, PAGES * 4096,
		   WAIT);
	access_start_at(r, MISS_READ, WINDOW2, 0);
	expect_miss(self->domain, 0, RD);
	vm2vm_map(self->domain, IOVA(0), GPA(4), 4096, RD);
	EXPECT_EQ(VALUE(4), access_val(r));
}

TEST_F_TIMEOUT(miss, all_exit, 120)
{
	struct runner *r = &self->b.r[0];
	int domain;

	domain = all_memory(self->owner, self->mem, &self->b, EXIT);
	access_start(r, MISS_READ, 9, 0);
	EXPECT_EQ(-EFAULT, access_end(r));
	EXPECT_EQ(KVM_EXIT_MEMORY_FAULT, r->vcpu->run->exit_reason);
	EXPECT_EQ(PEER_WINDOW + 9 * 4096, r->vcpu->run->memory_fault.gpa);
	vm_set_user_memory_region(self->owner, 2, 0, GPA(9), 4096, word(self->mem, 9));
	access_continue(r);
	EXPECT_EQ(VALUE(9), access_val(r));
	close(domain);
	access_start(r, MISS_READ, 9, 0);
	EXPECT_EQ(-EFAULT, access_end(r));
	EXPECT_EQ(0, r->mmio);
}

/* The end of the domain, and of the owner, is the end of all of it. */
TEST_F_TIMEOUT(miss, all_end, 120)
{
	struct runner *r = &self->b.r[0];
	int domain;

	domain = all_memory(self->owner, self->mem, &self->b, 0);
	expect_pages(_metadata, r, 4, 8);
	close(domain);
	expect_pages(_metadata, r, 0, 0);
	vm2vm_unlink(self->b.vm, PEER_SLOT);

	/* The owner cannot unmap, but end it, whoever keeps the descriptor. */
	domain = vm2vm_create_domain_flags(self->owner, ALL);
	vm2vm_link(self->b.vm, domain, PEER_SLOT, PEER_WINDOW, GPA(0), PAGES * 4096, 0);
	expect_pages(_metadata, r, 4, 8);
	EXPECT_EQ(-EINVAL, __vm2vm_unmap(domain, GPA(4), 4096, NULL));
	vm2vm_end(domain);
	expect_pages(_metadata, r, 0, 0);
	vm_set_user_memory_region(self->owner, 2, 0, GPA(8), 4096, word(self->mem, 8));
	expect_pages(_metadata, r, 0, 0);
	vm_set_user_memory_region(self->owner, 2, 0, GPA(8), 0, word(self->mem, 8));
	vm2vm_unlink(self->b.vm, PEER_SLOT);
	domain = vm2vm_create_domain_flags(self->owner, ALL);
	vm2vm_link(self->b.vm, domain, PEER_SLOT, PEER_WINDOW, GPA(0), PAGES * 4096, 0);
	expect_pages(_metadata, r, 4, 8);
	kvm_vm_free(self->owner);
	expect_pages(_metadata, r, 0, 0);
	EXPECT_EQ(POLLHUP, poll_for(domain, 0));
}
