// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: what a backend sees through its window, and what an owner sees of it.
 *
 * The bad input is in vm2vm_abi_test.c; revocation while a vCPU is in its guest
 * is in vm2vm_revoke_test.c.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

#include "vm2vm_harness.h"
#include "vm2vm_peer_check.h"

#define PAGES	16

FIXTURE(vm2vm)
{
	struct peer p;
};

FIXTURE_SETUP(vm2vm)
{
	peer_init(&self->p, PAGES * 4096);
	peer_fill(&self->p);
}

FIXTURE_TEARDOWN(vm2vm)
{
	peer_free(&self->p);
}

/* Bytes go both ways, by memory alone. */
TEST_F(vm2vm, read_write)
{
	struct peer *p = &self->p;
	unsigned int i;

	peer_share(p, VM2VM_RW, 0);
	for (i = 0; i < PAGES; i++) {
		EXPECT_EQ(PEER_VALUE + i, peer_read(p, i * 4096));
		peer_write(p, i * 4096 + 8, i);
		EXPECT_EQ(i, *peer_word(p, i * 4096 + 8));
		*peer_word(p, i * 4096 + 16) = ~(uint64_t)i;
		EXPECT_EQ(~(uint64_t)i, peer_read(p, i * 4096 + 16));
	}
	EXPECT_EQ(0, p->mmio);
}

/*
 * Touch the window and take it back, so that the next pass faults on it only, and
 * not on the backend's own code, stack and page tables.
 */
static void peer_touch_again(struct peer *p)
{
	peer_sum(p, PEER_WINDOW, p->size / 4096, 4096);
	vm2vm_unmap(p->domain, PEER_IOVA, p->size);
	vm2vm_map(p->domain, PEER_IOVA, PEER_OWNER_GPA, p->size, VM2VM_RW);
}

/* After the first touch nothing exits, and the first touch faults once. */
TEST_F(vm2vm, one_fault_per_page)
{
	struct peer *p = &self->p;
	uint64_t fixed;

	peer_share(p, VM2VM_RW, 0);
	peer_touch_again(p);
	fixed = peer_vcpu_stat(p->vcpu, "pf_fixed");
	peer_sum(p, PEER_WINDOW, PAGES, 4096);
	EXPECT_EQ(PAGES, peer_vcpu_stat(p->vcpu, "pf_fixed") - fixed);

	peer_check_no_exits(p);
}

/* A write through a read-only mapping is dropped, whether it was read before. */
TEST_F(vm2vm, readonly_mapping)
{
	peer_share(&self->p, KVM_VM2VM_MAP_READ, 0);
	peer_check_readonly(&self->p, PEER_WINDOW);
}

TEST_F(vm2vm, readonly_link)
{
	struct peer *p = &self->p;

	peer_share(p, VM2VM_RW, KVM_VM2VM_LINK_READONLY);
	EXPECT_EQ(PEER_VALUE, peer_read(p, 0));
	peer_write(p, 0, 1);
	EXPECT_EQ(1, p->mmio);
	EXPECT_EQ(PEER_VALUE, *peer_word(p, 0));

	/* Another link to the same domain may write. */
	vm2vm_link(p->backend, p->domain, PEER_SLOT + 1, 2 * PEER_WINDOW,
		   PEER_IOVA, p->size, 0);
	peer_map_window(p, 2 * PEER_WINDOW, p->size);
	peer_write(p, PEER_WINDOW, 2);
	EXPECT_EQ(1, p->mmio);
	EXPECT_EQ(2, *peer_word(p, 0));
}

/* A memslot that is read-only to the owner is so to its backends. */
TEST_F(vm2vm, readonly_memslot)
{
	struct peer *p = &self->p;

	vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA, 0, p->mem);
	peer_set_memory(p, p->mem, p->size, KVM_MEM_READONLY);
	peer_share(p, KVM_VM2VM_MAP_READ, 0);
	EXPECT_EQ(PEER_VALUE, peer_read(p, 0));

	/* One that becomes read-only under a mapping that may write. */
	vm2vm_unmap(p->domain, PEER_IOVA, p->size);
	vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA, 0, p->mem);
	peer_set_memory(p, p->mem, p->size, 0);
	vm2vm_map(p->domain, PEER_IOVA, PEER_OWNER_GPA, p->size, VM2VM_RW);
	peer_write(p, 0, 1);
	EXPECT_EQ(1, *peer_word(p, 0));
	vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA, 0, p->mem);
	peer_set_memory(p, p->mem, p->size, KVM_MEM_READONLY);
	/* A read maps it, and not for the write that comes next. */
	EXPECT_EQ(1, peer_read(p, 0));
	EXPECT_EQ(0, p->mmio);
	peer_write(p, 0, 2);
	EXPECT_EQ(1, p->mmio);
	EXPECT_EQ(1, *peer_word(p, 0));
	EXPECT_EQ(1, peer_read(p, 0));
}

/* What is not approved is a hole, before a mapping and after it. */
TEST_F(vm2vm, hole)
{
	struct peer *p = &self->p;

	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA,
		   p->size, 0);
	peer_map_window(p, PEER_WINDOW, p->size);

	EXPECT_EQ(PEER_HOLE, peer_read(p, 4096));
	EXPECT_EQ(1, p->mmio);
	EXPECT_EQ(PEER_WINDOW + 4096, p->mmio_gpa);
	p->fill = 0x5a;
	EXPECT_EQ(0x5a5a5a5a5a5a5a5aull, peer_read(p, 4096));

	vm2vm_map(p->domain, PEER_IOVA + 4096, PEER_OWNER_GPA + 8192, 4096,
		  VM2VM_RW);
	p->mmio = 0;
	EXPECT_EQ(PEER_VALUE + 2, peer_read(p, 4096));
	EXPECT_EQ(0, p->mmio);
	peer_read(p, 0);
	peer_read(p, 8192);
	EXPECT_EQ(2, p->mmio);

	EXPECT_EQ(4096, vm2vm_unmap(p->domain, PEER_IOVA, p->size));
	peer_read(p, 4096);
	EXPECT_EQ(3, p->mmio);
	peer_write(p, 4096, 0);
	EXPECT_EQ(4, p->mmio);
	EXPECT_EQ(PEER_VALUE + 2, *peer_word(p, 8192));
}

/* The window is never executable, whatever the page says. */
TEST_F(vm2vm, no_exec)
{
	struct peer *p = &self->p;

	memset(p->mem, 0xc3, p->size);	/* ret */
	peer_share(p, VM2VM_RW, 0);
	peer_read(p, 0);
	EXPECT_EQ(KVM_EXIT_INTERNAL_ERROR,
		  peer_run(p, PEER_EXEC, PEER_WINDOW, 0, 0, 0));
}

/* A page is where its mappings say, in every link, as often as they say. */
TEST_F(vm2vm, many_iovas)
{
	struct peer *p = &self->p;
	unsigned int i;

	for (i = 0; i < 16; i++)
		vm2vm_map(p->domain, PEER_IOVA + i * 4096, PEER_OWNER_GPA, 4096,
			  VM2VM_RW);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA,
		   8 * 4096, 0);
	vm2vm_link(p->backend, p->domain, PEER_SLOT + 1,
		   PEER_WINDOW + 8 * 4096, PEER_IOVA + 8 * 4096, 8 * 4096, 0);
	peer_map_window(p, PEER_WINDOW, 16 * 4096);

	for (i = 0; i < 16; i++) {
		peer_write(p, i * 4096, 1000 + i);
		EXPECT_EQ(1000 + i, peer_read(p, (15 - i) * 4096));
	}
	EXPECT_EQ(0, p->mmio);

	/* The owner's memory changes: all sixteen see it. */
	peer_replace_page(p);
	*peer_word(p, 0) = 7;
	for (i = 0; i < 16; i++)
		EXPECT_EQ(7, peer_read(p, i * 4096));
	EXPECT_EQ(0, p->mmio);
}

/*
 * Of some mappings a part goes by one call.  It is holes, and all others are still known by
 * their pages, when these are taken away.
 */
TEST_F(vm2vm, part_unmapped)
{
	const uint64_t count = 200, first = 37, gone = 100;
	struct peer *p = &self->p;
	uint64_t i;
	void *mem;

	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, count * 4096, 0);
	peer_map_window(p, PEER_WINDOW, count * 4096);
	for (i = 0; i < count; i++)
		vm2vm_map(p->domain, PEER_IOVA + i * 4096, PEER_OWNER_GPA + i % PAGES * 4096, 4096,
			  VM2VM_RW);
	for (i = 0; i < count; i++)
		EXPECT_EQ(PEER_VALUE + i % PAGES, peer_read(p, i * 4096));
	EXPECT_EQ(0, p->mmio);

	EXPECT_EQ(gone * 4096, vm2vm_unmap(p->domain, PEER_IOVA + first * 4096, gone * 4096));
	for (i = 0; i < count; i++) {
		peer_read(p, i * 4096);
		EXPECT_EQ(i < first ? 0 : min(gone, i - first + 1), p->mmio);
	}
	mem = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(mem != MAP_FAILED && !madvise(mem, PAGES * 4096, MADV_NOHUGEPAGE), "mmap");
	for (i = 0; i < PAGES; i++)
		*(uint64_t *)(mem + i * 4096) = i + 1;
	TEST_ASSERT(mremap(mem, PAGES * 4096, PAGES * 4096, MREMAP_MAYMOVE | MREMAP_FIXED,
			   p->mem) == p->mem, "mremap: %s", strerror(errno));
	for (i = 0; i < count; i++) {
		if (i < first || i >= first + gone)
			EXPECT_EQ(i % PAGES + 1, peer_read(p, i * 4096));
	}
	EXPECT_EQ(gone, p->mmio);

	/* They come back, and all go. */
	for (i = first; i < first + gone; i++)
		vm2vm_map(p->domain, PEER_IOVA + i * 4096, PEER_OWNER_GPA + i % PAGES * 4096, 4096,
			  VM2VM_RW);
	for (i = 0; i < count; i++)
		EXPECT_EQ(i % PAGES + 1, peer_read(p, i * 4096));
	EXPECT_EQ(gone, p->mmio);
	EXPECT_EQ(count * 4096, vm2vm_unmap(p->domain, PEER_IOVA, count * 4096));
	for (i = 0; i < count; i++)
		peer_read(p, i * 4096);
	EXPECT_EQ(gone + count, p->mmio);
}

/*
 * As many mappings as a few hundred MiB take page by page: a tree of four levels,
 * removed by one call, and by the end of the domain.
 */
TEST_F_TIMEOUT(vm2vm, many_mappings, 300)
{
	struct peer *p = &self->p;
	const uint64_t count = 40000;
	uint64_t i;

	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA,
		   count * 4096, 0);
	peer_map_window(p, PEER_WINDOW + (count - 1) * 4096, 4096);

	for (i = 0; i < count; i++)
		vm2vm_map(p->domain, PEER_IOVA + i * 4096,
			  PEER_OWNER_GPA + i % PAGES * 4096, 4096, VM2VM_RW);
	EXPECT_EQ(PEER_VALUE + (count - 1) % PAGES,
		  peer_read(p, (count - 1) * 4096));
	EXPECT_EQ(0, p->mmio);
	EXPECT_EQ(count * 4096, vm2vm_unmap(p->domain, 0, -4096ull));
	peer_read(p, (count - 1) * 4096);
	EXPECT_EQ(1, p->mmio);

	for (i = 0; i < count; i++)
		vm2vm_map(p->domain, PEER_IOVA + i * 4096, PEER_OWNER_GPA, 4096,
			  VM2VM_RW);
	EXPECT_EQ(PEER_VALUE, peer_read(p, (count - 1) * 4096));
	EXPECT_EQ(1, p->mmio);
}

/*
 * The same from the last one down, with holes between them: in that order the tree has
 * nodes with 15 children.  Removing them must not take what comes after these for one.
 */
TEST_F_TIMEOUT(vm2vm, many_mappings_down, 300)
{
	struct peer *p = &self->p;
	const uint64_t count = 40000;
	uint64_t i;

	for (i = count; i--; )
		vm2vm_map(p->domain, PEER_IOVA + 2 * i * 4096, PEER_OWNER_GPA,
			  4096, VM2VM_RW);
	EXPECT_EQ(count * 4096, vm2vm_unmap(p->domain, 0, -4096ull));
}

/* A link that begins and ends in the middle of a mapping. */
TEST_F(vm2vm, part_of_mapping)
{
	struct peer *p = &self->p;
	unsigned int i;

	vm2vm_map(p->domain, PEER_IOVA, PEER_OWNER_GPA, p->size, VM2VM_RW);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW,
		   PEER_IOVA + 3 * 4096, 4 * 4096, 0);
	peer_map_window(p, PEER_WINDOW, 5 * 4096);
	for (i = 0; i < 4; i++)
		EXPECT_EQ(PEER_VALUE + 3 + i, peer_read(p, i * 4096));
	EXPECT_EQ(0, p->mmio);
	peer_read(p, 4 * 4096);
	EXPECT_EQ(1, p->mmio);
	EXPECT_EQ(p->size, vm2vm_unmap(p->domain, PEER_IOVA, p->size));
	peer_read(p, 0);
	EXPECT_EQ(2, p->mmio);
}

/* Memory of the owner that nobody touched yet, and the zero page. */
TEST_F(vm2vm, not_present)
{
	struct peer *p = &self->p;

	peer_share(p, VM2VM_RW, 0);
	peer_check_not_present(p);
	/* No such memory, or not for this access: a hole; it comes back. */
	peer_check_protection(p);
}

/* Copy-on-write in the owner's process: backend and owner stay together. */
TEST_F(vm2vm, copy_on_write)
{
	struct peer *p = &self->p;

	peer_share(p, VM2VM_RW, 0);
	peer_write(p, 0, 1);
	peer_check_copy_on_write(p);
}

/* An approval is of guest-physical addresses, memslots come and go. */
TEST_F(vm2vm, memslots)
{
	struct peer *p = &self->p;

	peer_share(p, VM2VM_RW, 0);
	EXPECT_EQ(PEER_VALUE, peer_read(p, 0));
	/* Moved by one page: each iova shows what is at its gpa now. */
	vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA + 4096, p->size,
				  p->mem);
	EXPECT_EQ(PEER_VALUE, peer_read(p, 4096));
	EXPECT_EQ(0, p->mmio);
	peer_read(p, 0);
	EXPECT_EQ(1, p->mmio);
	/* Deleted. */
	vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA + 4096, 0,
				  p->mem);
	peer_read(p, 4096);
	EXPECT_EQ(2, p->mmio);
	/* Back. */
	peer_set_memory(p, p->mem, p->size, 0);
	EXPECT_EQ(PEER_VALUE, peer_read(p, 0));
	EXPECT_EQ(PEER_VALUE + 1, peer_read(p, 4096));
	EXPECT_EQ(2, p->mmio);
}

/* The owner goes first: holes, and the backend lives. */
TEST_F(vm2vm, owner_first)
{
	struct peer *p = &self->p;

	peer_share(p, VM2VM_RW, 0);
	EXPECT_EQ(PEER_VALUE, peer_read(p, 0));
	kvm_vm_free(p->owner);
	p->owner = NULL;
	EXPECT_EQ(PEER_HOLE, peer_read(p, 0));
	EXPECT_EQ(1, p->mmio);
	EXPECT_EQ(-ENODEV, __vm2vm_map(p->domain, 0, PEER_OWNER_GPA, 4096,
				       VM2VM_RW));
	vm2vm_unlink(p->backend, PEER_SLOT);
}

/* The backend goes first: the owner does as before. */
TEST_F(vm2vm, backend_first)
{
	struct peer *p = &self->p;

	peer_share(p, VM2VM_RW, 0);
	peer_sum(p, PEER_WINDOW, PAGES, 4096);
	kvm_vm_free(p->backend);
	p->backend = NULL;
	memset(p->mem, 0, p->size);
	EXPECT_EQ(p->size, vm2vm_unmap(p->domain, PEER_IOVA, p->size));
	vm2vm_map(p->domain, PEER_IOVA, PEER_OWNER_GPA, p->size, VM2VM_RW);
}

/* The descriptor goes first. */
TEST_F(vm2vm, domain_first)
{
	struct peer *p = &self->p;
	int copy;

	peer_share(p, VM2VM_RW, 0);
	EXPECT_EQ(PEER_VALUE, peer_read(p, 0));
	copy = dup(p->domain);
	close(p->domain);
	EXPECT_EQ(PEER_VALUE, peer_read(p, 0));
	close(copy);
	p->domain = -1;
	EXPECT_EQ(PEER_HOLE, peer_read(p, 0));
	EXPECT_EQ(1, p->mmio);
	vm2vm_unlink(p->backend, PEER_SLOT);
}

/* Two VMs that are each other's backend: neither keeps the other alive. */
TEST_F(vm2vm, ring)
{
	struct peer *p = &self->p;
	int domain;

	vm2vm_map(p->domain, PEER_IOVA, PEER_OWNER_GPA, p->size, VM2VM_RW);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA,
		   p->size, 0);
	peer_map_window(p, PEER_WINDOW, p->size);

	domain = vm2vm_create_domain(p->backend);
	vm2vm_map(domain, 0, 0, 4096, VM2VM_RW);
	vm2vm_link(p->owner, domain, PEER_SLOT, PEER_WINDOW, 0, 4096, 0);
	close(domain);

	/* What is a window in one cannot be shared with the other. */
	domain = vm2vm_create_domain(p->backend);
	EXPECT_EQ(-EOPNOTSUPP,
		  __vm2vm_map(domain, 0, PEER_WINDOW, 4096, VM2VM_RW));
	vm2vm_map(domain, 0, 0, 4096, VM2VM_RW);
	vm2vm_link(p->owner, domain, PEER_SLOT + 1, 2 * PEER_WINDOW, 0, 4096, 0);
	EXPECT_EQ(PEER_VALUE, peer_read(p, 0));
	EXPECT_EQ(0, p->mmio);
}

/* Changes of the window's own VM do not disturb the window. */
TEST_F(vm2vm, backend_memslots)
{
	struct peer *p = &self->p;
	void *mem = peer_mmap(4096, 0);

	peer_share(p, VM2VM_RW, 0);
	EXPECT_EQ(PEER_VALUE, peer_read(p, 0));
	vm_set_user_memory_region(p->backend, 50, 0, 2 * PEER_WINDOW, 4096, mem);
	EXPECT_EQ(PEER_VALUE, peer_read(p, 0));
	vm_set_user_memory_region(p->backend, 50, 0, 2 * PEER_WINDOW, 0, mem);
	EXPECT_EQ(PEER_VALUE, peer_read(p, 0));
	vm2vm_unlink(p->backend, PEER_SLOT);
	EXPECT_EQ(PEER_HOLE, peer_read(p, 0));
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW,
		   PEER_IOVA + 4096, p->size - 4096, 0);
	EXPECT_EQ(PEER_VALUE + 1, peer_read(p, 0));
	EXPECT_EQ(1, p->mmio);
}

FIXTURE(vm2vm_huge)
{
	struct peer p;
};

#define HUGE_PAGES	4
#define HUGE_SIZE	(HUGE_PAGES * PEER_SIZE_2M)

/* An owner whose memory is 2 MiB pages, each 4 KiB page with its number. */
FIXTURE_SETUP(vm2vm_huge)
{
	struct peer *p = &self->p;

	peer_init(p, 4096);
	if (!peer_use_huge(p, HUGE_PAGES))
		SKIP(return, "no 2 MiB pages: %s", strerror(errno));
}

FIXTURE_TEARDOWN(vm2vm_huge)
{
	peer_free(&self->p);
}

TEST_F(vm2vm_huge, one_fault_per_2m)
{
	struct peer *p = &self->p;
	uint64_t fixed, huge;

	peer_share(p, VM2VM_RW, 0);
	peer_touch_again(p);
	fixed = peer_vcpu_stat(p->vcpu, "pf_fixed");
	huge = vm_get_stat(p->backend, "pages_2m");
	EXPECT_EQ(peer_huge_sum(HUGE_SIZE / 4096),
		  peer_sum(p, PEER_WINDOW, HUGE_SIZE / 4096, 4096));
	EXPECT_EQ(HUGE_PAGES, peer_vcpu_stat(p->vcpu, "pf_fixed") - fixed);
	EXPECT_EQ(HUGE_PAGES, vm_get_stat(p->backend, "pages_2m") - huge);
	EXPECT_EQ(0, p->mmio);
}

/* Alignment of iova or window to the owner's pages does not permit 2 MiB. */
TEST_F(vm2vm_huge, misaligned)
{
	struct peer *p = &self->p;
	uint64_t huge;

	huge = vm_get_stat(p->backend, "pages_2m");
	vm2vm_map(p->domain, PEER_IOVA + 4096, PEER_OWNER_GPA, HUGE_SIZE,
		  VM2VM_RW);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA,
		   HUGE_SIZE + 4096, 0);
	vm2vm_link(p->backend, p->domain, PEER_SLOT + 1,
		   2 * PEER_WINDOW + 8192, PEER_IOVA + 4096, HUGE_SIZE, 0);
	peer_map_window(p, PEER_WINDOW, HUGE_SIZE + 4096);
	peer_map_window(p, 2 * PEER_WINDOW + 8192, HUGE_SIZE);
	EXPECT_EQ(peer_huge_sum(HUGE_SIZE / 4096),
		  peer_sum(p, PEER_WINDOW + 4096, HUGE_SIZE / 4096, 4096));
	EXPECT_EQ(peer_huge_sum(HUGE_SIZE / 4096),
		  peer_sum(p, 2 * PEER_WINDOW + 8192, HUGE_SIZE / 4096, 4096));
	EXPECT_EQ(huge, vm_get_stat(p->backend, "pages_2m"));
	EXPECT_EQ(0, p->mmio);
}

/* An approval of a part of a 2 MiB page is of that part only. */
TEST_F(vm2vm_huge, part_of_page)
{
	struct peer *p = &self->p;

	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA,
		   HUGE_SIZE, 0);
	peer_map_window(p, PEER_WINDOW, HUGE_SIZE);

	peer_check_part_of_huge(p);
}

/* An approval that begins in the middle of a 2 MiB page gives nothing of what is below. */
TEST_F(vm2vm_huge, from_middle_of_page)
{
	const uint64_t middle = PEER_SIZE_2M / 2;
	struct peer *p = &self->p;

	vm2vm_map(p->domain, PEER_IOVA + middle, PEER_OWNER_GPA + middle, HUGE_SIZE - middle,
		  VM2VM_RW);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, HUGE_SIZE, 0);
	peer_map_window(p, PEER_WINDOW, HUGE_SIZE);

	/* What is approved first, so that a translation is there. */
	EXPECT_EQ(middle / 4096, peer_read(p, middle) - *peer_word(p, 0));
	EXPECT_EQ(0, p->mmio);
	EXPECT_EQ(PEER_HOLE, peer_read(p, middle - 4096));
	EXPECT_EQ(PEER_HOLE, peer_read(p, 0));
	EXPECT_EQ(2, p->mmio);

	/* The same of a link that begins there. */
	vm2vm_link(p->backend, p->domain, PEER_SLOT + 1, 2 * PEER_WINDOW + middle,
		   PEER_IOVA + middle, HUGE_SIZE - middle, 0);
	peer_map_window(p, 2 * PEER_WINDOW, HUGE_SIZE);
	vm2vm_map(p->domain, PEER_IOVA, PEER_OWNER_GPA, middle, VM2VM_RW);
	EXPECT_EQ(middle / 4096, peer_sum(p, 2 * PEER_WINDOW + middle, 1, 0) - *peer_word(p, 0));
	EXPECT_EQ(2, p->mmio);
	EXPECT_EQ(PEER_HOLE, peer_sum(p, 2 * PEER_WINDOW + middle - 4096, 1, 0));
	EXPECT_EQ(3, p->mmio);
}

/* The owner's 4 KiB pages are mapped as what they are, aligned or not. */
TEST_F(vm2vm_huge, owner_has_small_pages)
{
	struct peer *p = &self->p;
	uint64_t i, huge;
	void *mem;

	mem = peer_mmap(PEER_SIZE_2M, 0);
	TEST_ASSERT(mem && !madvise(mem, PEER_SIZE_2M, MADV_NOHUGEPAGE), "mmap");
	vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA, 0, p->mem);
	peer_set_memory(p, mem, PEER_SIZE_2M, 0);
	/* Backwards, so that they are not contiguous by chance. */
	for (i = PEER_SIZE_2M / 4096; i--; )
		*peer_word(p, i * 4096) = i + 1;
	huge = vm_get_stat(p->backend, "pages_2m");
	peer_share(p, VM2VM_RW, 0);
	for (i = 0; i < PEER_SIZE_2M / 4096; i += 17)
		EXPECT_EQ(i + 1, peer_read(p, i * 4096));
	EXPECT_EQ(huge, vm_get_stat(p->backend, "pages_2m"));
	EXPECT_EQ(0, p->mmio);
}

/* An owner that never answers its page faults. */
struct stalled {
	struct peer *p;
	int state;	/* 1: in KVM_RUN, 2: out of it */
	int err;
};

static void stalled_signal(int sig)
{
}

static void *stalled_vcpu(void *arg)
{
	struct stalled *s = arg;

	WRITE_ONCE(s->state, 1);
	s->err = __vcpu_run(s->p->vcpu) ? errno : 0;
	WRITE_ONCE(s->state, 2);
	return NULL;
}

TEST_F(vm2vm, stalled_owner)
{
	struct sigaction sa = { .sa_handler = stalled_signal };
	struct uffdio_api api = { .api = UFFD_API };
	struct peer *p = &self->p;
	struct stalled s = { .p = p };
	struct uffdio_register reg;
	struct pollfd pfd;
	pthread_t thread;
	void *mem;
	int uffd;

	uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		SKIP(return, "no userfaultfd");

	peer_share(p, VM2VM_RW, 0);
	peer_read(p, 0);
	TEST_ASSERT(!madvise(p->mem, p->size, MADV_DONTNEED), "MADV_DONTNEED");
	reg = (struct uffdio_register) {
		.range = { .start = (uintptr_t)p->mem, .len = p->size },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	TEST_ASSERT(!ioctl(uffd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER");

	/* The command of the last peer_read() again, once more. */
	sigaction(SIGUSR1, &sa, NULL);
	pthread_create(&thread, NULL, stalled_vcpu, &s);
	pfd = (struct pollfd) { .fd = uffd, .events = POLLIN };
	ASSERT_EQ(1, poll(&pfd, 1, 20000));
	EXPECT_EQ(1, READ_ONCE(s.state));

	/* The backend's memslots can be changed meanwhile, and the owner's. */
	mem = peer_mmap(4096, 0);
	vm_set_user_memory_region(p->backend, 50, 0, 2 * PEER_WINDOW, 4096, mem);
	vm_set_user_memory_region(p->backend, 50, 0, 2 * PEER_WINDOW, 0, mem);
	vm_set_user_memory_region(p->owner, 50, 0, 2 * PEER_WINDOW, 4096, mem);
	EXPECT_EQ(1, READ_ONCE(s.state));

	/* A signal interrupts it. */
	pthread_kill(thread, SIGUSR1);
	pthread_join(thread, NULL);
	EXPECT_EQ(EINTR, s.err);

	/* And once the owner has an answer it goes on. */
	close(uffd);
	EXPECT_EQ(0, peer_read(p, 0));
	EXPECT_EQ(0, p->mmio);
}

TEST_HARNESS_MAIN
