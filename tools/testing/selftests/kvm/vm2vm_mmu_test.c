// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: what must hold for a window whatever MMU shows it to the guest.
 *
 * The guest is the backend's, or a guest of that with and without nested paging;
 * lab/check/mmu.sh runs the whole of it with KVM's two-dimensional paging, without, and
 * without its TDP MMU.  What else a guest can do with the memory of a window than
 * access it, from page tables to SMM, is in vm2vm_mmu_odd.h.
 *
 * VM2VM_TRIALS in the environment is the number of trials of each revocation, 100
 * by default.
 */
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "vm2vm_harness.h"
#include "vm2vm_mmu.h"
#include "vm2vm_mmu_odd.h"
#include "vm2vm_mmu_spin.h"

#define PAGES	16
#define HOLE	(~0ull)
#define VALUE	0x1122334455667788ull

FIXTURE(mmu)
{
	struct mmu m;
};

FIXTURE_VARIANT(mmu)
{
	enum mmu_who who;
};

FIXTURE_VARIANT_ADD(mmu, l1) { .who = MMU_L1 };
FIXTURE_VARIANT_ADD(mmu, l2) { .who = MMU_L2 };
FIXTURE_VARIANT_ADD(mmu, l2_npt_1g) { .who = MMU_L2_1G };
FIXTURE_VARIANT_ADD(mmu, l2_npt_4k) { .who = MMU_L2_4K };

FIXTURE_SETUP(mmu)
{
	const char *lacks = mmu_lacks(variant->who);
	unsigned int i;

	if (lacks)
		SKIP(return, "%s", lacks);
	mmu_init(&self->m, variant->who, PAGES * 4096, peer_guest);
	for (i = 0; i < PAGES; i++)
		*peer_word(&self->m.p, i * 4096) = VALUE + i;
}

FIXTURE_TEARDOWN(mmu)
{
	peer_free(&self->m.p);
}

/*
 * Bytes go both ways, by memory alone: also when the guest's page tables say that
 * it has been there before, so that a MMU may look ahead.
 */
TEST_F(mmu, read_write)
{
	struct peer *p = &self->m.p;
	unsigned int i, pass;

	mmu_link(&self->m, 0, PG_LEVEL_4K);
	for (pass = 0; pass < 3; pass++) {
		mmu_approve(&self->m, VM2VM_RW);
		for (i = 0; i < PAGES; i++) {
			EXPECT_EQ(VALUE + i, peer_read(p, i * 4096));
			peer_write(p, i * 4096 + 8, i + pass);
			EXPECT_EQ(i + pass, *peer_word(p, i * 4096 + 8));
			*peer_word(p, i * 4096 + 16) = ~(uint64_t)i;
			EXPECT_EQ(~(uint64_t)i, peer_read(p, i * 4096 + 16));
		}
		EXPECT_EQ(p->size, vm2vm_unmap(p->domain, PEER_IOVA, p->size));
	}
	EXPECT_EQ(0, p->mmio);
}

/* Written first, and read then. */
TEST_F(mmu, write_read)
{
	struct peer *p = &self->m.p;
	unsigned int i, pass;

	mmu_link(&self->m, 0, PG_LEVEL_4K);
	for (pass = 0; pass < 3; pass++) {
		mmu_approve(&self->m, VM2VM_RW);
		for (i = 0; i < PAGES; i++)
			peer_write(p, i * 4096, i + pass);
		for (i = 0; i < PAGES; i++) {
			EXPECT_EQ(i + pass, peer_read(p, i * 4096));
			EXPECT_EQ(i + pass, *peer_word(p, i * 4096));
		}
		EXPECT_EQ(p->size, vm2vm_unmap(p->domain, PEER_IOVA, p->size));
	}
	EXPECT_EQ(0, p->mmio);
}

/* The exits that are not the host's own. */
static uint64_t own_exits(struct peer *p)
{
	return peer_vcpu_stat(p->vcpu, "exits") - peer_vcpu_stat(p->vcpu, "irq_exits");
}

/* After the first touch nothing exits. */
TEST_F(mmu, no_exits)
{
	struct peer *p = &self->m.p;
	uint64_t exits, idle;

	mmu_link(&self->m, 0, PG_LEVEL_4K);
	mmu_approve(&self->m, VM2VM_RW);
	peer_sum(p, PEER_WINDOW, PAGES, 4096);

	/* What a command costs by itself: its ucall. */
	exits = own_exits(p);
	peer_sum(p, PEER_WINDOW, 0, 8);
	idle = own_exits(p) - exits;

	exits = own_exits(p);
	peer_sum(p, PEER_WINDOW, PAGES * 512, 8);
	EXPECT_EQ(idle, own_exits(p) - exits);
	EXPECT_EQ(0, p->mmio);
}

/* Writes to what may be read only are dropped, whether it was read before. */
static void expect_readonly(struct __test_metadata *_metadata, struct mmu *m)
{
	struct peer *p = &m->p;

	EXPECT_EQ(VALUE, peer_read(p, 0));
	EXPECT_EQ(0, p->mmio);

	peer_write(p, 0, 1);
	EXPECT_EQ(1, p->mmio);
	EXPECT_TRUE(p->mmio_write);
	EXPECT_EQ(m->link, p->mmio_gpa);
	peer_write(p, 4096, 1);
	EXPECT_EQ(2, p->mmio);
	EXPECT_EQ(m->link + 4096, p->mmio_gpa);

	EXPECT_EQ(VALUE, *peer_word(p, 0));
	EXPECT_EQ(VALUE + 1, *peer_word(p, 4096));
	EXPECT_EQ(VALUE, peer_read(p, 0));
	EXPECT_EQ(VALUE + 1, peer_read(p, 4096));
	EXPECT_EQ(2, p->mmio);
}

TEST_F(mmu, readonly_mapping)
{
	struct peer *p = &self->m.p;

	mmu_link(&self->m, 0, PG_LEVEL_4K);
	mmu_approve(&self->m, KVM_VM2VM_MAP_READ);
	expect_readonly(_metadata, &self->m);

	/* The same approved for writing, and back: each at once. */
	vm2vm_unmap(p->domain, PEER_IOVA, p->size);
	mmu_approve(&self->m, VM2VM_RW);
	peer_write(p, 0, 5);
	EXPECT_EQ(2, p->mmio);
	EXPECT_EQ(5, *peer_word(p, 0));
	vm2vm_unmap(p->domain, PEER_IOVA, p->size);
	mmu_approve(&self->m, KVM_VM2VM_MAP_READ);
	peer_write(p, 0, 6);
	EXPECT_EQ(3, p->mmio);
	EXPECT_EQ(5, *peer_word(p, 0));
	EXPECT_EQ(5, peer_read(p, 0));
}

TEST_F(mmu, readonly_link)
{
	mmu_link(&self->m, KVM_VM2VM_LINK_READONLY, PG_LEVEL_4K);
	mmu_approve(&self->m, VM2VM_RW);
	expect_readonly(_metadata, &self->m);
}

/* Holes next to pages: neither makes the other what it is not. */
TEST_F(mmu, hole)
{
	struct peer *p = &self->m.p;
	unsigned int i, pass, holes = 0;

	mmu_link(&self->m, 0, PG_LEVEL_4K);
	EXPECT_EQ(HOLE, peer_read(p, 4096));
	EXPECT_EQ(++holes, p->mmio);
	EXPECT_EQ(self->m.link + 4096, p->mmio_gpa);
	p->fill = 0x5a;
	EXPECT_EQ(0x5a5a5a5a5a5a5a5aull, peer_read(p, 4096));
	EXPECT_EQ(++holes, p->mmio);
	p->fill = 0xff;

	for (i = 0; i < PAGES; i += 2)
		vm2vm_map(p->domain, PEER_IOVA + i * 4096, PEER_OWNER_GPA + i * 4096, 4096,
			  VM2VM_RW);
	for (pass = 0; pass < 2; pass++) {
		for (i = 0; i < PAGES; i++) {
			EXPECT_EQ(i % 2 ? HOLE : VALUE + i, peer_read(p, i * 4096));
			peer_write(p, i * 4096 + 8, i);
			EXPECT_EQ(i % 2 ? 0 : i, *peer_word(p, i * 4096 + 8));
			holes += i % 2 * 2;
		}
		EXPECT_EQ(holes, p->mmio);
	}

	for (i = 1; i < PAGES; i += 2)
		vm2vm_map(p->domain, PEER_IOVA + i * 4096, PEER_OWNER_GPA + i * 4096, 4096,
			  VM2VM_RW);
	for (i = 0; i < PAGES; i++)
		EXPECT_EQ(VALUE + i, peer_read(p, i * 4096));
	EXPECT_EQ(holes, p->mmio);

	for (i = 0; i < PAGES; i += 2)
		vm2vm_unmap(p->domain, PEER_IOVA + i * 4096, 4096);
	for (i = 0; i < PAGES; i++)
		EXPECT_EQ(i % 2 ? VALUE + i : HOLE, peer_read(p, i * 4096));
	EXPECT_EQ(holes + PAGES / 2, p->mmio);
}

/* The window is never executable: KVM gives up on L1, and L2 gets an exception. */
TEST_F(mmu, no_exec)
{
	struct peer *p = &self->m.p;
	int r;

	memset(p->mem, 0xc3, p->size);	/* ret */
	vm_install_exception_handler(p->backend, UD_VECTOR, mmu_exception);
	mmu_link(&self->m, 0, PG_LEVEL_4K);
	mmu_approve(&self->m, VM2VM_RW);
	peer_read(p, 0);
	r = peer_run(p, PEER_EXEC, PEER_WINDOW, 0, 0, 0);
	if (variant->who == MMU_L1) {
		EXPECT_EQ(KVM_EXIT_INTERNAL_ERROR, r);
	} else {
		EXPECT_EQ(0, r);
		EXPECT_EQ(1, self->m.exit->count);
		EXPECT_EQ(UD_VECTOR, self->m.exit->vector);
	}
}

/* The backend follows the owner's page tables. */
TEST_F(mmu, owner_pages)
{
	struct peer *p = &self->m.p;
	void *keep = peer_mmap(4096, 0);
	int status;
	pid_t pid;

	mmu_link(&self->m, 0, PG_LEVEL_4K);
	mmu_approve(&self->m, VM2VM_RW);
	peer_sum(p, PEER_WINDOW, PAGES, 4096);

	/* Another page in the place of one; that one stays in use. */
	TEST_ASSERT(mremap(p->mem, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, keep) == keep,
		    "mremap");
	TEST_ASSERT(mmap(p->mem, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
			 MAP_FIXED, -1, 0) == p->mem, "mmap");
	*peer_word(p, 0) = 7;
	EXPECT_EQ(7, peer_read(p, 0));
	peer_write(p, 8, 8);
	EXPECT_EQ(8, *peer_word(p, 8));

	/* Copy-on-write. */
	pid = fork();
	if (!pid) {
		pause();
		_exit(0);
	}
	*peer_word(p, 0) = 2;
	EXPECT_EQ(2, peer_read(p, 0));
	peer_write(p, 4096, 3);
	EXPECT_EQ(3, *peer_word(p, 4096));
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);

	/* Gone, and the zero page. */
	TEST_ASSERT(!madvise(p->mem, p->size, MADV_DONTNEED), "MADV_DONTNEED");
	EXPECT_EQ(0, peer_read(p, 0));
	*peer_word(p, 0) = 5;
	EXPECT_EQ(5, peer_read(p, 0));
	peer_write(p, 4096, 6);
	EXPECT_EQ(6, *peer_word(p, 4096));
	EXPECT_EQ(0, p->mmio);

	/* Not for this access. */
	TEST_ASSERT(!mprotect(p->mem, 4096, PROT_NONE), "mprotect");
	EXPECT_EQ(HOLE, peer_read(p, 0));
	TEST_ASSERT(!mprotect(p->mem, 4096, PROT_READ), "mprotect");
	EXPECT_EQ(5, peer_read(p, 0));
	EXPECT_EQ(1, p->mmio);
	peer_write(p, 0, 1);
	EXPECT_EQ(2, p->mmio);
	TEST_ASSERT(!mprotect(p->mem, 4096, PROT_READ | PROT_WRITE), "mprotect");
	peer_write(p, 0, 8);
	EXPECT_EQ(8, *peer_word(p, 0));
	EXPECT_EQ(2, p->mmio);
}

#define HUGE_PAGES	2
#define HUGE_SIZE	(HUGE_PAGES * PEER_SIZE_2M)

/* Give the owner 2 MiB pages, each 4 KiB page with its number. */
static bool huge_owner(struct peer *p)
{
	uint64_t i;
	void *mem;
	FILE *f;

	f = fopen("/proc/sys/vm/nr_hugepages", "w");
	if (f) {
		fprintf(f, "%d\n", HUGE_PAGES);
		fclose(f);
	}
	mem = peer_mmap(HUGE_SIZE, MAP_HUGETLB | MAP_HUGE_2MB);
	if (!mem)
		return false;
	vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA, 0, p->mem);
	peer_set_memory(p, mem, HUGE_SIZE, 0);
	for (i = 0; i < HUGE_SIZE / 4096; i++)
		*peer_word(p, i * 4096) = i;
	return true;
}

static uint64_t huge_sum(void)
{
	uint64_t n = HUGE_SIZE / 4096;

	return n * (n - 1) / 2;
}

/* The owner's 2 MiB pages are the backend's where everything in between permits. */
TEST_F(mmu, huge)
{
	struct peer *p = &self->m.p;
	uint64_t before;
	unsigned int i;

	if (!huge_owner(p))
		SKIP(return, "no 2 MiB pages");
	mmu_link(&self->m, 0, PG_LEVEL_2M);
	before = vm_get_stat(p->backend, "pages_2m");
	for (i = 0; i < 2; i++) {
		mmu_approve(&self->m, VM2VM_RW);
		EXPECT_EQ(huge_sum(), peer_sum(p, PEER_WINDOW, HUGE_SIZE / 4096, 4096));
		EXPECT_EQ(before + (variant->who != MMU_L2_4K ? HUGE_PAGES : 0),
			  vm_get_stat(p->backend, "pages_2m"));
		peer_write(p, 8, 1 + i);
		EXPECT_EQ(1 + i, *peer_word(p, 8));
		EXPECT_EQ(0, p->mmio);
		vm2vm_unmap(p->domain, PEER_IOVA, p->size);
		EXPECT_EQ(before, vm_get_stat(p->backend, "pages_2m"));
	}
	EXPECT_EQ(HOLE, peer_read(p, PEER_SIZE_2M));
	EXPECT_EQ(1, p->mmio);
}

/* An approval of a part of a 2 MiB page is of that part only. */
TEST_F(mmu, part_of_huge)
{
	struct peer *p = &self->m.p;

	if (!huge_owner(p))
		SKIP(return, "no 2 MiB pages");
	mmu_link(&self->m, 0, PG_LEVEL_2M);
	vm2vm_map(p->domain, PEER_IOVA + 0x1000, PEER_OWNER_GPA + 0x1000, 0x1000, VM2VM_RW);
	vm2vm_map(p->domain, PEER_IOVA + PEER_SIZE_2M, PEER_OWNER_GPA + PEER_SIZE_2M,
		  PEER_SIZE_2M - 0x1000, VM2VM_RW);

	EXPECT_EQ(1, peer_read(p, 0x1000));
	EXPECT_EQ(0, p->mmio);
	EXPECT_EQ(HOLE, peer_read(p, 0));
	EXPECT_EQ(HOLE, peer_read(p, 0x2000));
	EXPECT_EQ(2, p->mmio);
	EXPECT_EQ(512, peer_read(p, PEER_SIZE_2M));
	EXPECT_EQ(1022, peer_read(p, 2 * PEER_SIZE_2M - 0x2000));
	EXPECT_EQ(2, p->mmio);
	EXPECT_EQ(HOLE, peer_read(p, 2 * PEER_SIZE_2M - 0x1000));
	EXPECT_EQ(3, p->mmio);
}

FIXTURE(revoke)
{
	struct mmu m;
	pthread_t thread;
	struct spin *spin;
	int memfd;		/* two pages */
	uint64_t *page[2];	/* them, in a mapping of the test's own */
	void *mem;		/* the owner's mapping of one of them */
	unsigned int trials;
};

FIXTURE_VARIANT(revoke)
{
	enum mmu_who who;
};

FIXTURE_VARIANT_ADD(revoke, l1) { .who = MMU_L1 };
FIXTURE_VARIANT_ADD(revoke, l2) { .who = MMU_L2 };
FIXTURE_VARIANT_ADD(revoke, l2_npt_1g) { .who = MMU_L2_1G };
FIXTURE_VARIANT_ADD(revoke, l2_npt_4k) { .who = MMU_L2_4K };

FIXTURE_SETUP(revoke)
{
	const char *lacks = mmu_lacks(variant->who);
	struct peer *p = &self->m.p;
	unsigned int i;

	if (lacks)
		SKIP(return, "%s", lacks);
	self->trials = vm2vm_trials(100);
	self->memfd = memfd_create("vm2vm", MFD_CLOEXEC);
	TEST_ASSERT(self->memfd >= 0 && !ftruncate(self->memfd, 2 * 4096), "memfd: %s",
		    strerror(errno));
	for (i = 0; i < 2; i++)
		self->page[i] = spin_map_page(self->memfd, i, NULL);

	mmu_init(&self->m, variant->who, 4096, spin_guest);
	self->mem = spin_map_page(self->memfd, 0, p->mem);
	mmu_map_window(&self->m, 4096, PG_LEVEL_4K);
	self->spin = addr_gva2hva(p->backend, (uintptr_t)&spin);
	pthread_create(&self->thread, NULL, spin_vcpu, p->vcpu);
}

FIXTURE_TEARDOWN(revoke)
{
	WRITE_ONCE(self->spin->stop, 1);
	pthread_join(self->thread, NULL);
	peer_free(&self->m.p);
}

static void revoke_link(struct mmu *m)
{
	vm2vm_link(m->p.backend, m->p.domain, PEER_SLOT, m->link, PEER_IOVA, 4096, 0);
}

TEST_F_TIMEOUT(revoke, unmap, 600)
{
	unsigned int i;

	revoke_link(&self->m);
	for (i = 0; i < self->trials; i++) {
		mmu_approve(&self->m, VM2VM_RW);
		spin_begin(self->spin, self->page[0]);
		vm2vm_unmap(self->m.p.domain, PEER_IOVA, 4096);
		spin_end(self->spin, self->page[0], HOLE, i);
	}
}

TEST_F_TIMEOUT(revoke, unmap_races_fault, 600)
{
	unsigned int i;

	revoke_link(&self->m);
	for (i = 0; i < self->trials; i++) {
		mmu_approve(&self->m, VM2VM_RW);
		if (i % 4)
			spin_wait(self->spin, i % 4 - 1);
		vm2vm_unmap(self->m.p.domain, PEER_IOVA, 4096);
		spin_end(self->spin, self->page[0], HOLE, i);
	}
}

TEST_F_TIMEOUT(revoke, unlink, 600)
{
	unsigned int i;

	mmu_approve(&self->m, VM2VM_RW);
	for (i = 0; i < self->trials; i++) {
		revoke_link(&self->m);
		spin_begin(self->spin, self->page[0]);
		vm2vm_unlink(self->m.p.backend, PEER_SLOT);
		spin_end(self->spin, self->page[0], HOLE, i);
	}
}

TEST_F_TIMEOUT(revoke, close, 600)
{
	struct peer *p = &self->m.p;
	unsigned int i;

	for (i = 0; i < self->trials; i++) {
		mmu_approve(&self->m, VM2VM_RW);
		revoke_link(&self->m);
		spin_begin(self->spin, self->page[0]);
		close(p->domain);
		spin_end(self->spin, self->page[0], HOLE, i);
		vm2vm_unlink(p->backend, PEER_SLOT);
		p->domain = vm2vm_create_domain(p->owner);
	}
}

/* The owner's process maps another page in the place of the one it had. */
TEST_F_TIMEOUT(revoke, mmap, 600)
{
	unsigned int i, now = 0;

	mmu_approve(&self->m, VM2VM_RW);
	revoke_link(&self->m);
	for (i = 0; i < self->trials; i++) {
		spin_begin(self->spin, self->page[now]);
		WRITE_ONCE(self->page[!now][SPIN_READ], SPIN_NEW);
		spin_map_page(self->memfd, !now, self->mem);
		spin_end(self->spin, self->page[now], SPIN_NEW, i);
		now = !now;
	}
}

TEST_F_TIMEOUT(revoke, munmap, 600)
{
	unsigned int i;

	mmu_approve(&self->m, VM2VM_RW);
	revoke_link(&self->m);
	for (i = 0; i < self->trials; i++) {
		spin_begin(self->spin, self->page[0]);
		TEST_ASSERT(!munmap(self->mem, 4096), "munmap");
		spin_end(self->spin, self->page[0], HOLE, i);
		spin_map_page(self->memfd, 0, self->mem);
	}
}

TEST_F_TIMEOUT(revoke, memslot, 600)
{
	struct peer *p = &self->m.p;
	unsigned int i;

	mmu_approve(&self->m, VM2VM_RW);
	revoke_link(&self->m);
	for (i = 0; i < self->trials; i++) {
		spin_begin(self->spin, self->page[0]);
		vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA, 0, self->mem);
		spin_end(self->spin, self->page[0], HOLE, i);
		vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA, 4096, self->mem);
	}
}

FIXTURE(other)
{
	struct mmu m;
};

FIXTURE_SETUP(other)
{
	mmu_init(&self->m, MMU_L1, PAGES * 4096, peer_guest);
}

FIXTURE_TEARDOWN(other)
{
	peer_free(&self->m.p);
}

/* The control block of a nested guest is not to be in a window: KVM keeps it mapped. */
TEST_F(other, nested_state)
{
	struct peer *p = &self->m.p;
	const char *lacks = mmu_lacks(MMU_L2);
	struct odd *odd;

	if (lacks)
		SKIP(return, "%s", lacks);
	mmu_link(&self->m, 0, PG_LEVEL_4K);
	mmu_approve(&self->m, VM2VM_RW);
	odd = odd_nested_start(&self->m);
	vcpu_run(p->vcpu);
	ASSERT_EQ(UCALL_DONE, get_ucall(p->vcpu, NULL));
	EXPECT_TRUE(odd->entered);
	EXPECT_TRUE(odd->refused);
	EXPECT_EQ(0, p->mmio);
}

/* Nested page tables in a window: L1 is told of a violation, as for any hole. */
TEST_F(other, nested_page_tables)
{
	const char *lacks = mmu_lacks(MMU_L2_1G);
	struct mmu m;

	if (lacks)
		SKIP(return, "%s", lacks);
	mmu_init(&m, MMU_L2_1G, PAGES * 4096, peer_guest);
	mmu_link(&m, 0, PG_LEVEL_4K);
	mmu_approve(&m, VM2VM_RW);
	odd_move_nested_tables(&m);
	vcpu_run(m.p.vcpu);
	EXPECT_EQ(UCALL_SYNC, get_ucall(m.p.vcpu, NULL));
	EXPECT_EQ(m.vmx ? EXIT_REASON_EPT_VIOLATION : SVM_EXIT_NPF, m.exit->code);
	peer_free(&m.p);
}

/*
 * A page table of the guest in its window.  The CPU walks it if it has nested
 * paging, as any memory; KVM does not, be it for shadow paging, be it because the
 * page is gone and the access is emulated: then the guest gets a page fault.
 */
TEST_F(other, page_table)
{
	struct peer *p = &self->m.p;
	bool shadow = !kvm_is_tdp_enabled();

	vm_install_exception_handler(p->backend, PF_VECTOR, mmu_exception);
	mmu_link(&self->m, 0, PG_LEVEL_4K);
	mmu_approve(&self->m, VM2VM_RW);
	*peer_word(p, 2 * 4096) = VALUE;
	odd_move_page_table(&self->m, 1, 2);

	EXPECT_EQ(0, peer_run(p, PEER_READ, ODD_GVA, 0, 0, 0));
	EXPECT_EQ(shadow, self->m.exit->count);
	if (!shadow) {
		EXPECT_EQ(VALUE, peer_val(p));
		EXPECT_EQ(0, peer_run(p, PEER_WRITE, ODD_GVA + 8, 5, 0, 0));
		EXPECT_EQ(5, *peer_word(p, 2 * 4096 + 8));
		/* At another offset than the entry of the page table. */
		vm2vm_unmap(p->domain, PEER_IOVA, p->size);
		EXPECT_EQ(0, peer_run(p, PEER_READ, ODD_GVA + 8, 0, 0, 0));
	}
	EXPECT_EQ(1, self->m.exit->count);
	EXPECT_EQ(PF_VECTOR, self->m.exit->vector);
	EXPECT_EQ(ODD_GVA + (shadow ? 0 : 8), self->m.exit->addr);
	EXPECT_EQ(0, p->mmio);
}

static void no_op(int sig)
{
}

/*
 * The root of them.  A guest that is left without page tables gets a page fault that
 * cannot be delivered: with nested paging it does so again and again, as if its page
 * tables were in MMIO, and can be interrupted.
 */
TEST_F(other, page_table_root)
{
	struct itimerval timer = { .it_value.tv_sec = 1, .it_interval.tv_usec = 100000 };
	struct sigaction sa = { .sa_handler = no_op };
	struct peer *p = &self->m.p;
	struct kvm_sregs sregs;

	mmu_link(&self->m, 0, PG_LEVEL_4K);
	mmu_approve(&self->m, VM2VM_RW);
	peer_read(p, 0);
	memcpy(p->mem, addr_gpa2hva(p->backend, p->backend->pgd), 4096);
	vcpu_sregs_get(p->vcpu, &sregs);
	sregs.cr3 = self->m.link;
	vcpu_sregs_set(p->vcpu, &sregs);
	if (kvm_is_tdp_enabled()) {
		peer_write(p, 4096, 6);
		EXPECT_EQ(6, *peer_word(p, 4096));
		vm2vm_unmap(p->domain, PEER_IOVA, p->size);
	}
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	EXPECT_TRUE(__vcpu_run(p->vcpu) ? errno == EINTR :
		    p->vcpu->run->exit_reason == KVM_EXIT_SHUTDOWN);
	EXPECT_EQ(0, p->mmio);
}

/* Nothing of KVM's own gets into another VM's memory. */
static void expect_msrs_harmless(struct __test_metadata *_metadata, struct mmu *m,
				 uint32_t flags)
{
	struct peer *p = &m->p;
	unsigned int i, j;
	struct odd *odd;
	uint64_t word;

	memset(p->mem, 0xa5, p->size);
	mmu_link(m, 0, PG_LEVEL_4K);
	mmu_approve(m, flags);
	vcpu_arch_set_entry_point(p->vcpu, odd_write_msrs);
	do {
		vcpu_run(p->vcpu);
		TEST_ASSERT(p->vcpu->run->exit_reason == KVM_EXIT_IO, "exit reason %u",
			    p->vcpu->run->exit_reason);
	} while (get_ucall(p->vcpu, NULL) == UCALL_SYNC);
	ASSERT_EQ(UCALL_DONE, get_ucall(p->vcpu, NULL));

	odd = addr_gva2hva(p->backend, (uintptr_t)&odd_state);
	for (i = 0; i < ARRAY_SIZE(odd_msrs); i++) {
		TH_LOG("MSR 0x%x: exception %lu, first word 0x%lx", odd_msrs[i].msr,
		       odd->vector[i], *peer_word(p, i * 4096));
		if (odd_msrs[i].own && (flags & KVM_VM2VM_MAP_WRITE))
			continue;
		for (j = 0; j < 4096; j += 8) {
			word = *peer_word(p, i * 4096 + j);
			ASSERT_EQ(0xa5a5a5a5a5a5a5a5ull, word);
		}
	}
}

TEST_F(other, msrs)
{
	expect_msrs_harmless(_metadata, &self->m, VM2VM_RW);
}

TEST_F(other, msrs_readonly)
{
	expect_msrs_harmless(_metadata, &self->m, KVM_VM2VM_MAP_READ);
}

TEST_F(other, vapic_address)
{
	struct kvm_vapic_addr va = { .vapic_addr = PEER_WINDOW };

	mmu_link(&self->m, 0, PG_LEVEL_4K);
	mmu_approve(&self->m, VM2VM_RW);
	EXPECT_EQ(-1, __vcpu_ioctl(self->m.p.vcpu, KVM_SET_VAPIC_ADDR, &va));
}

/* SMM has an address space of its own, in which there are no windows. */
TEST_F(other, smm)
{
	struct peer *p = &self->m.p;
	uint32_t *word = p->mem;
	uint32_t *smm;

	if (!kvm_has_cap(KVM_CAP_X86_SMM))
		SKIP(return, "no SMM");
	vm2vm_link(p->backend, p->domain, PEER_SLOT, ODD_SMM_WINDOW, PEER_IOVA, p->size, 0);
	mmu_approve(&self->m, VM2VM_RW);
	peer_map_window(p, ODD_SMM_WINDOW, p->size);
	odd_smm_init(p);
	*word = 1;
	EXPECT_EQ(0, peer_run(p, PEER_READ, ODD_SMM_WINDOW, 0, 0, 0));
	EXPECT_EQ(1, peer_val(p));

	EXPECT_EQ(0xffffffff, odd_smm(p));
	EXPECT_EQ(2, p->mmio);
	EXPECT_EQ(1, *word);
	EXPECT_EQ(0, peer_run(p, PEER_READ, ODD_SMM_WINDOW, 0, 0, 0));
	EXPECT_EQ(1, peer_val(p));
	EXPECT_EQ(2, p->mmio);

	/* Memory for SMM alone, in the same place. */
	vm_userspace_mem_region_add(p->backend, VM_MEM_SRC_ANONYMOUS, ODD_SMM_WINDOW,
				    ODD_SMM_SLOT(2), 1, 0);
	smm = (uint32_t *)memslot2region(p->backend, ODD_SMM_SLOT(2))->host_mem;
	*smm = 3;
	EXPECT_EQ(3, odd_smm(p));
	EXPECT_EQ(ODD_SMM_VALUE, *smm);
	EXPECT_EQ(1, *word);
	EXPECT_EQ(0, peer_run(p, PEER_READ, ODD_SMM_WINDOW, 0, 0, 0));
	EXPECT_EQ(1, peer_val(p));
	EXPECT_EQ(2, p->mmio);
}

TEST_HARNESS_MAIN
