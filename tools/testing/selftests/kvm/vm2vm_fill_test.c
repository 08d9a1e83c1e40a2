// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: holes that are filled, KVM_VM2VM_LINK_FILL.
 *
 * Here is what a guest finds in them, and what replaces them.  Any instruction:
 * vm2vm/fill/insn.c.  While the guest runs: vm2vm/fill/spin.c.  By other MMUs and in
 * nested guests: vm2vm/mmu/fill.c.
 */
#include "vm2vm_harness.h"
#include "vm2vm/fill/fill.h"
#include "vm2vm_access.h"

FIXTURE(fill)
{
	struct peer p;
};

FIXTURE_SETUP(fill)
{
	fill_init(&self->p, 0);
}

FIXTURE_TEARDOWN(fill)
{
	/* None of them is for the VMM. */
	EXPECT_EQ(0, self->p.mmio);
	peer_free(&self->p);
}

/* Holes read as all-ones whatever is written to others, and are faulted in once. */
TEST_F(fill, reads_and_writes)
{
	struct peer *p = &self->p;
	uint64_t fills, fixed;
	unsigned int i;

	for (i = 0; i < FILL_PAGES; i += 2)
		EXPECT_EQ(PEER_HOLE, peer_read(p, i * 4096));
	for (i = 1; i < FILL_PAGES; i += 2)
		peer_write(p, i * 4096 + 8, i);
	for (i = 0; i < FILL_PAGES; i += 2)
		EXPECT_EQ(PEER_HOLE, peer_read(p, i * 4096 + 8));

	fills = peer_vcpu_stat(p->vcpu, "vm2vm_fills");
	fixed = peer_vcpu_stat(p->vcpu, "pf_fixed");
	EXPECT_LE(FILL_PAGES, fills);
	EXPECT_EQ(0, peer_vcpu_stat(p->vcpu, "vm2vm_holes"));
	for (i = 0; i < FILL_PAGES; i++) {
		peer_read(p, i * 4096 + 16);
		if (i % 2)
			peer_write(p, i * 4096 + 24, i);
	}
	EXPECT_EQ(fills, peer_vcpu_stat(p->vcpu, "vm2vm_fills"));
	EXPECT_EQ(fixed, peer_vcpu_stat(p->vcpu, "pf_fixed"));

	/* Written after it was read, and the owner has nothing of it. */
	for (i = 0; i < FILL_PAGES; i++) {
		peer_write(p, i * 4096 + 8, 5);
		EXPECT_EQ(0, *peer_word(p, i * 4096 + 8));
		EXPECT_EQ(PEER_VALUE + i, *peer_word(p, i * 4096));
	}
}

/* What is mapped is there at once, what is revoked is a hole again. */
TEST_F(fill, map_replaces)
{
	struct peer *p = &self->p;
	unsigned int i, pass;

	for (pass = 0; pass < 3; pass++) {
		for (i = 0; i < FILL_PAGES; i++) {
			if (i % 3)
				peer_write(p, i * 4096, 5);
			else
				EXPECT_EQ(PEER_HOLE, peer_read(p, i * 4096));
		}
		for (i = 0; i < FILL_PAGES; i++) {
			fill_map(p, i, 1, VM2VM_RW);
			EXPECT_EQ(PEER_VALUE + i, peer_read(p, i * 4096));
			peer_write(p, i * 4096 + 8, i);
			EXPECT_EQ(i, *peer_word(p, i * 4096 + 8));
		}
		fill_unmap(p, 0, FILL_PAGES);
		EXPECT_EQ(PEER_HOLE, peer_read(p, 0));
		fill_map(p, 0, FILL_PAGES, VM2VM_RW);
		for (i = 0; i < FILL_PAGES; i++)
			EXPECT_EQ(PEER_VALUE + i, peer_read(p, i * 4096));
		fill_unmap(p, 0, FILL_PAGES);
	}
}

/* A MAP where nothing was filled takes nothing away, even if its neighbour was. */
TEST_F(fill, map_is_free)
{
	struct peer *p = &self->p;
	uint64_t faults;

	fill_map(p, 0, 1, VM2VM_RW);
	fill_map(p, 3, 1, VM2VM_RW);
	peer_read(p, 0);
	peer_read(p, 3 * 4096);
	EXPECT_EQ(PEER_HOLE, peer_read(p, 2 * 4096));
	faults = peer_vcpu_stat(p->vcpu, "vm2vm_faults");
	fill_map(p, 1, 1, VM2VM_RW);
	fill_map(p, 2, 1, VM2VM_RW);
	EXPECT_EQ(PEER_VALUE, peer_read(p, 0));
	EXPECT_EQ(PEER_VALUE + 3, peer_read(p, 3 * 4096));
	EXPECT_EQ(faults, peer_vcpu_stat(p->vcpu, "vm2vm_faults"));
	EXPECT_EQ(PEER_VALUE + 2, peer_read(p, 2 * 4096));
	EXPECT_EQ(faults + 1, peer_vcpu_stat(p->vcpu, "vm2vm_faults"));
}

/* The same in a window that is too large to remember each page. */
TEST_F(fill, large_window)
{
	const uint64_t size = 64ul << 30, far = size - 4096;
	struct peer *p = &self->p;

	vm2vm_unlink(p->backend, PEER_SLOT);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, size, FILL);
	peer_map_window(p, PEER_WINDOW + far - 8192, 3 * 4096);
	EXPECT_EQ(PEER_HOLE, peer_read(p, far));
	EXPECT_EQ(PEER_HOLE, peer_read(p, far - 4096));
	EXPECT_EQ(PEER_HOLE, peer_read(p, 0));
	vm2vm_map(p->domain, PEER_IOVA + far, PEER_OWNER_GPA, 4096, VM2VM_RW);
	EXPECT_EQ(PEER_VALUE, peer_read(p, far));
	EXPECT_EQ(PEER_HOLE, peer_read(p, far - 4096));
	vm2vm_map(p->domain, PEER_IOVA + far - 4096, PEER_OWNER_GPA + 4096, 4096, VM2VM_RW);
	EXPECT_EQ(PEER_VALUE + 1, peer_read(p, far - 4096));
	EXPECT_EQ(PEER_VALUE, peer_read(p, far));
	fill_map(p, 0, 1, VM2VM_RW);
	EXPECT_EQ(PEER_VALUE, peer_read(p, 0));
}

/* A write to what may be read only is nowhere to be seen, and the page comes back. */
TEST_F(fill, readonly_mapping)
{
	struct peer *p = &self->p;

	fill_map(p, 0, 2, KVM_VM2VM_MAP_READ);
	EXPECT_EQ(PEER_VALUE, peer_read(p, 0));
	peer_write(p, 0, 1);
	peer_write(p, 4096, 1);
	EXPECT_EQ(PEER_VALUE, *peer_word(p, 0));
	EXPECT_EQ(PEER_VALUE + 1, *peer_word(p, 4096));
	fill_wait_for(p, 0, PEER_VALUE);
	fill_wait_for(p, 4096, PEER_VALUE + 1);

	/* Approved for writing it is the owner's at once. */
	peer_write(p, 0, 1);
	fill_unmap(p, 0, 2);
	fill_map(p, 0, 2, VM2VM_RW);
	EXPECT_EQ(PEER_VALUE, peer_read(p, 0));
	peer_write(p, 0, 7);
	EXPECT_EQ(7, *peer_word(p, 0));
}

/* Of two fillers that pass, at both ends of a window, what is between has no part. */
TEST_F(fill, passes_alone)
{
	const unsigned int last = FILL_PAGES - 1;
	struct peer *p = &self->p;
	unsigned int i, round;
	uint64_t faults;

	fill_map(p, 0, 1, KVM_VM2VM_MAP_READ);
	fill_map(p, 1, last - 1, VM2VM_RW);
	fill_map(p, last, 1, KVM_VM2VM_MAP_READ);
	for (i = 1; i < last; i++)
		EXPECT_EQ(PEER_VALUE + i, peer_read(p, i * 4096));
	faults = peer_vcpu_stat(p->vcpu, "vm2vm_faults");
	for (round = 0; round < 3; round++) {
		peer_write(p, 0, 5);
		peer_write(p, last * 4096, 5);
		fill_wait_for(p, 0, PEER_VALUE);
		fill_wait_for(p, last * 4096, PEER_VALUE + last);
		for (i = 1; i < last; i++)
			EXPECT_EQ(PEER_VALUE + i, peer_read(p, i * 4096));
	}
	/* Each of the two, when it has passed. */
	EXPECT_EQ(faults + 2 * round, peer_vcpu_stat(p->vcpu, "vm2vm_faults"));
}

TEST_F(fill, readonly_link)
{
	struct peer *p = &self->p;

	vm2vm_unlink(p->backend, PEER_SLOT);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, p->size,
		   FILL | KVM_VM2VM_LINK_READONLY);
	peer_write(p, 0, 3);
	fill_map(p, 0, 1, VM2VM_RW);
	EXPECT_EQ(PEER_VALUE, peer_read(p, 0));
	peer_write(p, 0, 1);
	EXPECT_EQ(PEER_VALUE, *peer_word(p, 0));
	fill_wait_for(p, 0, PEER_VALUE);
}

/* The owner's memory comes behind mappings that are there: it is seen at once. */
TEST_F(fill, memslot_comes)
{
	struct peer *p = &self->p;
	unsigned int i, pass;

	fill_map(p, 0, FILL_PAGES, VM2VM_RW);
	for (pass = 0; pass < 20; pass++) {
		vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA, 0, p->mem);
		for (i = 0; i < FILL_PAGES; i += 2)
			EXPECT_EQ(PEER_HOLE, peer_read(p, i * 4096));
		for (i = 1; i < FILL_PAGES; i += 2)
			peer_write(p, i * 4096, 1);
		vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA, p->size, p->mem);
		for (i = 0; i < FILL_PAGES; i++)
			EXPECT_EQ(PEER_VALUE + i, peer_read(p, i * 4096));
	}

	/* Read-only, and writable again. */
	vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA, 0, p->mem);
	vm_set_user_memory_region(p->owner, 0, KVM_MEM_READONLY, PEER_OWNER_GPA, p->size,
				  p->mem);
	EXPECT_EQ(PEER_VALUE, peer_read(p, 0));
	peer_write(p, 0, 1);
	EXPECT_EQ(PEER_VALUE, *peer_word(p, 0));
	vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA, 0, p->mem);
	vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA, p->size, p->mem);
	EXPECT_EQ(PEER_VALUE, peer_read(p, 0));
	peer_write(p, 0, 9);
	EXPECT_EQ(9, *peer_word(p, 0));
}

/* A page that the owner had not, and has now, is seen soon. */
TEST_F(fill, page_comes)
{
	struct peer *p = &self->p;
	int fd = memfd_create("fill", 0);
	void *mem;

	ASSERT_EQ(0, ftruncate(fd, 4096));
	mem = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA, 0, p->mem);
	vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA, 2 * 4096, mem);
	fill_map(p, 0, 2, VM2VM_RW);
	EXPECT_EQ(0, peer_read(p, 0));
	EXPECT_EQ(PEER_HOLE, peer_read(p, 4096));
	peer_write(p, 4096, 5);
	ASSERT_EQ(0, ftruncate(fd, 2 * 4096));
	EXPECT_EQ(0, *(uint64_t *)(mem + 4096));
	fill_wait_for(p, 4096, 0);
	peer_write(p, 4096, 6);
	EXPECT_EQ(6, *(uint64_t *)(mem + 4096));
	close(fd);
}

/* Nothing of the owner's is in a filler, and nothing that is written gets anywhere. */
TEST_F(fill, no_leaks)
{
	struct peer *p = &self->p, q;
	unsigned int i;

	fill_init(&q, 0);
	vm2vm_unlink(q.backend, PEER_SLOT);
	vm2vm_link(q.backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, p->size, FILL);

	fill_map(p, 0, FILL_PAGES, VM2VM_RW);
	for (i = 0; i < FILL_PAGES; i++) {
		peer_write(p, i * 4096 + 8, 0x5ec2e7);
		peer_read(&q, i * 4096);
	}
	fill_unmap(p, 0, FILL_PAGES);
	for (i = 0; i < FILL_PAGES; i++) {
		peer_write(p, i * 4096 + 16, 0x5ec2e8);
		EXPECT_EQ(0, *peer_word(p, i * 4096 + 16));
		EXPECT_EQ(PEER_HOLE, peer_read(p, i * 4096 + 8));
		EXPECT_EQ(PEER_HOLE, peer_read(&q, i * 4096 + 16));
		peer_write(&q, i * 4096 + 24, 1);
		EXPECT_EQ(PEER_HOLE, peer_read(&q, i * 4096 + 16));
		EXPECT_EQ(PEER_HOLE, peer_read(p, i * 4096 + 24));
	}

	/* A link that is new has nothing of one that was. */
	vm2vm_unlink(p->backend, PEER_SLOT);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, p->size, FILL);
	peer_write(p, 0, 1);
	for (i = 8; i < 4096; i += 8)
		ASSERT_EQ(PEER_HOLE, peer_read(p, i));
	EXPECT_EQ(0, q.mmio);
	peer_free(&q);
}

static bool log_has(uint64_t *bitmap, unsigned int page)
{
	return bitmap[page / 64] & (1ull << page % 64);
}

/* What goes to a filler is in no log of the owner's. */
TEST_F(fill, logs)
{
	uint64_t bitmap[DIV_ROUND_UP(FILL_PAGES, 64)] = {};
	struct peer *p = &self->p;
	unsigned int pass;

	close(p->domain);
	vm2vm_unlink(p->backend, PEER_SLOT);
	p->domain = vm2vm_create_domain_flags(p->owner, KVM_VM2VM_DOMAIN_LOG);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, p->size, FILL);
	vm_set_user_memory_region(p->owner, 0, KVM_MEM_LOG_DIRTY_PAGES, PEER_OWNER_GPA,
				  p->size, p->mem);
	fill_map(p, 0, 1, VM2VM_RW);
	fill_map(p, 1, 1, KVM_VM2VM_MAP_READ);
	for (pass = 0; pass < 3; pass++) {
		peer_write(p, 8, pass);
		peer_write(p, 4096 + 8, pass);
		peer_write(p, 2 * 4096 + 8, pass);
		kvm_vm_get_dirty_log(p->owner, 0, bitmap);
		EXPECT_EQ(1, bitmap[0]);
		EXPECT_EQ(0, __vm2vm_get_dirty(p->domain, PEER_IOVA, p->size, bitmap));
		EXPECT_EQ(1, bitmap[0]);
	}

	/* A page that was written to and is in the log becomes a hole. */
	peer_write(p, 8, pass);
	fill_unmap(p, 0, 1);
	peer_write(p, 8, pass);
	EXPECT_EQ(0, __vm2vm_get_dirty(p->domain, PEER_IOVA, p->size, bitmap));
	EXPECT_TRUE(log_has(bitmap, 0));
	/* That has taken write access away. */
	peer_write(p, 8, pass);
	EXPECT_EQ(0, __vm2vm_get_dirty(p->domain, PEER_IOVA, p->size, bitmap));
	EXPECT_EQ(0, bitmap[0]);

	/* The same with a mapping that does not permit it. */
	fill_map(p, 0, 1, VM2VM_RW);
	peer_write(p, 8, pass);
	fill_unmap(p, 0, 1);
	fill_map(p, 0, 1, KVM_VM2VM_MAP_READ);
	peer_write(p, 8, pass);
	EXPECT_EQ(0, __vm2vm_get_dirty(p->domain, PEER_IOVA, p->size, bitmap));
	EXPECT_EQ(1, bitmap[0]);
	peer_write(p, 8, pass);
	EXPECT_EQ(0, __vm2vm_get_dirty(p->domain, PEER_IOVA, p->size, bitmap));
	EXPECT_EQ(0, bitmap[0]);
	fill_unmap(p, 0, 1);

	fill_map(p, 0, 1, VM2VM_RW);
	peer_write(p, 16, 77);
	EXPECT_EQ(77, *peer_word(p, 16));
	EXPECT_EQ(0, __vm2vm_get_dirty(p->domain, PEER_IOVA, p->size, bitmap));
	EXPECT_EQ(1, bitmap[0]);
}

static void emulated_guest(void)
{
	peer_guest_interruptible();
	for (;;) {
		guest_do(&access_cmd);
		GUEST_SYNC(0);
	}
}

static unsigned int emulated(struct peer *p, enum access_op op, uint64_t dst, uint64_t src,
			     uint64_t count, uint64_t *val)
{
	struct access_cmd *cmd = addr_gva2hva(p->backend, (uintptr_t)&access_cmd);
	struct kvm_run *run = p->vcpu->run;
	unsigned int exits = 0;

	access_set_cmd(cmd, op, dst, src, count, 0);
	for (;;) {
		vcpu_run(p->vcpu);
		if (run->exit_reason != KVM_EXIT_MMIO)
			break;
		TEST_ASSERT(run->mmio.phys_addr >= DEV_GPA &&
			    run->mmio.phys_addr < DEV_GPA + DEV_SIZE, "MMIO at the window");
		exits += run->mmio.len;
		if (run->mmio.is_write)
			memcpy(val, run->mmio.data, run->mmio.len);
		else
			memset(run->mmio.data, 0x5a, run->mmio.len);
	}
	TEST_ASSERT(get_ucall(p->vcpu, NULL) == UCALL_SYNC, "exit reason %u", run->exit_reason);
	return exits;
}

/* KVM's own accesses: string moves between a device and holes. */
TEST_F(fill, emulated)
{
	struct peer *p = &self->p;
	uint64_t val = 0;

	virt_map(p->backend, DEV_GPA, DEV_GPA, DEV_SIZE / 4096);
	vcpu_arch_set_entry_point(p->vcpu, emulated_guest);
	EXPECT_EQ(64, emulated(p, ACCESS_MOVSQ, DEV_GPA, PEER_WINDOW, 8, &val));
	EXPECT_EQ(PEER_HOLE, val);
	EXPECT_EQ(64, emulated(p, ACCESS_MOVSQ, PEER_WINDOW + 4096, DEV_GPA, 8, &val));
	EXPECT_EQ(0, *peer_word(p, 4096 + 8));
	/* Read-only, and approved: that is the owner's. */
	fill_map(p, 1, 1, KVM_VM2VM_MAP_READ);
	EXPECT_EQ(64, emulated(p, ACCESS_MOVSQ, PEER_WINDOW + 4096, DEV_GPA, 8, &val));
	EXPECT_EQ(PEER_VALUE + 1, *peer_word(p, 4096));
	fill_unmap(p, 1, 1);
	fill_map(p, 1, 1, VM2VM_RW);
	EXPECT_EQ(64, emulated(p, ACCESS_MOVSQ, PEER_WINDOW + 4096, DEV_GPA, 8, &val));
	EXPECT_EQ(0x5a5a5a5a5a5a5a5aull, *peer_word(p, 4096));
}

/* After the domain's end the window is filled, for good. */
TEST_F(fill, end)
{
	struct peer *p = &self->p;
	unsigned int i;

	fill_map(p, 0, FILL_PAGES / 2, VM2VM_RW);
	for (i = 0; i < FILL_PAGES; i++)
		peer_read(p, i * 4096);
	close(p->domain);
	p->domain = -1;
	for (i = 0; i < FILL_PAGES; i++) {
		EXPECT_EQ(PEER_HOLE, peer_read(p, i * 4096));
		peer_write(p, i * 4096 + 8, 1);
		EXPECT_EQ(0, *peer_word(p, i * 4096 + 8));
	}
	kvm_vm_free(p->owner);
	p->owner = NULL;
	peer_write(p, 8, 2);
}

/* It is an answer by itself, or for what was refused. */
TEST_F(fill, flags)
{
	struct peer *p = &self->p;

	EXPECT_EQ(-EINVAL, __vm2vm_link(p->backend, p->domain, PEER_SLOT + 1, 2 * PEER_WINDOW,
					PEER_IOVA, 4096, FILL | KVM_VM2VM_LINK_EXIT));
	EXPECT_EQ(-EINVAL, __vm2vm_link(p->backend, p->domain, PEER_SLOT + 1, 2 * PEER_WINDOW,
					PEER_IOVA, 4096, FILL | KVM_VM2VM_LINK_WAIT));
	vm2vm_link(p->backend, p->domain, PEER_SLOT + 1, 2 * PEER_WINDOW, PEER_IOVA, 4096,
		   FILL | KVM_VM2VM_LINK_READONLY);
}

/* What is prefetched is not filled. */
TEST_F(fill, prefetch)
{
	struct kvm_pre_fault_memory range = { .gpa = PEER_WINDOW, .size = 4096 };
	struct peer *p = &self->p;

	if (!kvm_has_cap(KVM_CAP_PRE_FAULT_MEMORY))
		SKIP(return, "no KVM_PRE_FAULT_MEMORY");
	EXPECT_EQ(-1, __vcpu_ioctl(p->vcpu, KVM_PRE_FAULT_MEMORY, &range));
	EXPECT_EQ(ENOENT, errno);
	EXPECT_EQ(0, peer_vcpu_stat(p->vcpu, "vm2vm_fills"));
}

TEST_HARNESS_MAIN
