// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm_bench: what vm2vm costs, next to what KVM pays for the like.
 *
 * Costs are ticks of the time stamp counter, which count instructions where
 * lab/check/bench.sh runs this.  Both sides of a ratio come from one run, and take
 * turns.  Prints one line a figure, "bench: NAME VALUE".
 *
 * With --plain only the figures of a VM that has nothing to do with vm2vm, for
 * comparing a kernel that has vm2vm with one that has not.
 */
#include "vm2vm/bench/bench.h"
#include "vm2vm_bench_vm.h"

#define FAULT_PAGES	BENCH_MAX
#define FAULT_PAGES_2M	64ul

#define LINK_ROUNDS	100
#define LINK_SMALL	PG_SIZE_2M
#define LINK_BIG	(512ul << 30)
#define LINK_GPA	LINK_BIG	/* gpa, iova and hva are aligned to each other */
#define LINKS		8

#define FEW		1000ul
#define MANY		1000000ul
#define LOOKUPS		1000ul
#define LOOKUP_RUN	125ul
#define LOOKUP_PAGES	4096ul	/* of the owner: each is approved many times */

#define ACCESSES	1000000ul

/* KVM's own fault, in a VM of which vm2vm knows nothing. */
static void plain_faults(const char *name, size_t page_size, u64 count, bool write)
{
	struct bench_walk own = {
		.gva = BENCH_OWN, .stride = page_size, .run = count,
	};
	struct peer p;
	void *mem;

	bench_init_backend(&p);
	mem = bench_add_own(&p, page_size * count, page_size);
	bench_touch_all(&p, &own, 1, count, write);
	bench_figure(name, bench_cost_median(0, count));
	peer_free(&p);
	munmap(mem, page_size * count);
}

static void plain(void)
{
	plain_faults("plain_fault", PG_SIZE_4K, FAULT_PAGES, false);
	plain_faults("plain_fault_write", PG_SIZE_4K, FAULT_PAGES, true);
	plain_faults("plain_fault_2m", PG_SIZE_2M, FAULT_PAGES_2M, false);
	bench_plain_log();
}

/*
 * The first touch of pages of a window, next to that of as many pages of the
 * backend's own; all are present in the page tables of the host.
 */
static void faults(const char *suffix, size_t page_size, u64 count, bool write)
{
	struct bench_walk walks[2] = {
		{ .gva = PEER_WINDOW, .stride = page_size, .run = count },
		{ .gva = BENCH_OWN, .stride = page_size, .run = count },
	};
	size_t size = page_size * count;
	u64 window, own;
	struct peer p;
	void *mem;

	bench_init_backend(&p);
	mem = bench_add_own(&p, size, page_size);
	bench_init_owner(&p, size, page_size);
	vm2vm_map(p.domain, PEER_IOVA, PEER_OWNER_GPA, size, VM2VM_RW);
	bench_add_window(&p, PEER_IOVA, size);

	bench_touch_all(&p, walks, 2, count, write);
	window = bench_cost_median(0, count);
	own = bench_cost_median(1, count);

	bench_compare_figures("fault", suffix, window, own);

	peer_free(&p);
	munmap(mem, size);
	munmap(p.mem, size);
}

static u64 timed_protect(void *mem, size_t size)
{
	u64 start = rdtsc();
	int r = mprotect(mem, size, PROT_NONE);
	u64 end = rdtsc();

	TEST_ASSERT(!r && !mprotect(mem, size, PROT_READ | PROT_WRITE),
		    "mprotect: %s", strerror(errno));
	return end - start;
}

static u64 timed_unmap(int domain, u64 iova, u64 size)
{
	u64 start = rdtsc();
	u64 unmapped = vm2vm_unmap(domain, iova, size);
	u64 end = rdtsc();

	TEST_ASSERT(unmapped == size, "0x%lx bytes unmapped", unmapped);
	return end - start;
}

/*
 * KVM_VM2VM_UNMAP of @pages that the backend has touched, approved by mappings of
 * @each pages.  @rest mappings of a page, of the same memory in turn, stay.
 *
 * What KVM pays to unmap as many pages of its own is the part of the MMU notifier
 * in mprotect(PROT_NONE): the cost of that for memory of a VM, less the same for
 * memory of no VM.  Of all the ways to take memory from a VM this one does the
 * least besides: the pages stay, and the translations of exactly these pages go,
 * with one flush, as with UNMAP.  It is for the whole of a VMA, as the kernel has
 * KVM unmap 2 MiB to split one.
 */
static void revokes(const char *suffix, u64 pages, u64 each, u64 rest)
{
	struct bench_walk walks[2] = {
		{ .gva = PEER_WINDOW, .stride = PG_SIZE_4K, .run = pages },
		{ .gva = BENCH_OWN, .stride = PG_SIZE_4K, .run = pages },
	};
	u64 unmap[ROUNDS], own[ROUNDS], none[ROUNDS], window, kvm, i, j;
	size_t size = pages * PG_SIZE_4K;
	void *own_mem, *no_vm;
	struct peer p;

	bench_init_backend(&p);
	own_mem = bench_add_own(&p, size, PG_SIZE_4K);
	no_vm = bench_mmap(size, PG_SIZE_4K);
	bench_init_owner(&p, size, PG_SIZE_4K);
	bench_add_window(&p, PEER_IOVA, size);
	for (i = 0; i < rest; i++)
		vm2vm_map(p.domain, PEER_IOVA + size + i * PG_SIZE_4K,
			  PEER_OWNER_GPA + i % pages * PG_SIZE_4K, PG_SIZE_4K, VM2VM_RW);

	for (i = 0; i < ROUNDS; i++) {
		for (j = 0; j < pages; j += each)
			vm2vm_map(p.domain, PEER_IOVA + j * PG_SIZE_4K,
				  PEER_OWNER_GPA + j * PG_SIZE_4K, each * PG_SIZE_4K, VM2VM_RW);
		bench_touch_all(&p, walks, 2, pages, false);
		unmap[i] = timed_unmap(p.domain, PEER_IOVA, size);
		own[i] = timed_protect(own_mem, size);
		none[i] = timed_protect(no_vm, size);
	}
	window = bench_median(unmap, ROUNDS);
	kvm = bench_median(own, ROUNDS) - bench_median(none, ROUNDS);

	bench_compare_figures("revoke", suffix, window, kvm);

	peer_free(&p);
	munmap(own_mem, size);
	munmap(no_vm, size);
	munmap(p.mem, size);
}

static void *link_reserve(void)
{
	void *area = mmap(NULL, 2 * LINK_BIG, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	TEST_ASSERT(area != MAP_FAILED, "mmap: %s", strerror(errno));
	return (void *)(((uintptr_t)area + LINK_BIG - 1) & -LINK_BIG);
}

static u64 timed_link(struct peer *p, u64 size)
{
	u64 start = rdtsc(), end;

	vm2vm_link(p->backend, p->domain, PEER_SLOT, LINK_GPA, LINK_GPA, size, 0);
	end = rdtsc();
	vm2vm_unlink(p->backend, PEER_SLOT);
	return end - start;
}

static u64 timed_slot(struct peer *p, u64 size, void *mem)
{
	u64 start = rdtsc(), end;

	vm_set_user_memory_region(p->backend, PEER_SLOT, 0, LINK_GPA, size, mem);
	end = rdtsc();
	vm_set_user_memory_region(p->backend, PEER_SLOT, 0, LINK_GPA, 0, mem);
	return end - start;
}

/*
 * What a link of @size costs beyond an ordinary memslot of that size.  The least
 * of many tries, as the difference is small next to what allocations and
 * interrupts add to some of them.
 */
static long link_cost(struct peer *p, u64 size, void *mem)
{
	u64 link = ~0ul, slot = ~0ul;
	int i;

	for (i = 0; i < LINK_ROUNDS; i++) {
		link = min(link, timed_link(p, size));
		slot = min(slot, timed_slot(p, size, mem));
	}
	return link - slot;
}

/* Several, as the kernel counts in pages and in batches of them. */
static void link_memory(int domain, void *mem)
{
	struct bench_memory before, links, slots;
	struct kvm_vm *vm[LINKS];
	int i;

	for (i = 0; i < LINKS; i++)
		vm[i] = vm_create_barebones();

	/* The slabs that both need stay when what was in them is freed. */
	for (i = 0; i < LINKS; i++)
		vm2vm_link(vm[i], domain, PEER_SLOT, LINK_GPA, LINK_GPA, LINK_BIG, 0);
	for (i = 0; i < LINKS; i++)
		vm2vm_unlink(vm[i], PEER_SLOT);

	before = bench_memory();
	for (i = 0; i < LINKS; i++)
		vm2vm_link(vm[i], domain, PEER_SLOT, LINK_GPA, LINK_GPA, LINK_BIG, 0);
	links = bench_memory_since(before);
	for (i = 0; i < LINKS; i++)
		vm2vm_unlink(vm[i], PEER_SLOT);

	before = bench_memory();
	for (i = 0; i < LINKS; i++)
		vm_set_user_memory_region(vm[i], PEER_SLOT, 0, LINK_GPA, LINK_BIG, mem);
	slots = bench_memory_since(before);
	for (i = 0; i < LINKS; i++)
		kvm_vm_free(vm[i]);

	bench_figure("memslot_bytes_512g", (double)slots.all / LINKS);
	bench_figure("link_bytes_512g", (double)(links.all - slots.all) / LINKS);
}

static void links(void)
{
	void *mem = link_reserve();
	long small, big;
	struct peer p;

	bench_init_backend(&p);
	bench_init_owner(&p, PG_SIZE_2M, PG_SIZE_4K);

	small = link_cost(&p, LINK_SMALL, mem);
	big = link_cost(&p, LINK_BIG, mem);
	bench_figure("link_2m", small);
	bench_figure("link_512g", big);
	bench_figure("link_ratio", (double)big / small);
	link_memory(p.domain, mem);

	peer_free(&p);
	munmap(p.mem, PG_SIZE_2M);
}

/* Approve @count pages one by one and in no order: bus addresses from @iova. */
static void map_many(int domain, u64 iova, u64 count)
{
	u64 i, page;

	for (i = 0; i < count; i++) {
		page = i * 7368787 % count;
		vm2vm_map(domain, iova + page * PG_SIZE_4K, PEER_OWNER_GPA +
			  page * 2654435761 % LOOKUP_PAGES * PG_SIZE_4K, PG_SIZE_4K, VM2VM_RW);
	}
}

/*
 * A fault among few mappings and among many.  The walks are of the same shape,
 * runs of pages that are not further apart than the domain is large.
 */
static void lookups(void)
{
	const u64 few_iova = PEER_IOVA, few_gpa = PEER_WINDOW;
	const u64 many_iova = 0, many_gpa = 2 * PEER_WINDOW;
	const u64 many_size = MANY * PG_SIZE_4K, few_size = FEW * PG_SIZE_4K;
	const u64 runs = LOOKUPS / LOOKUP_RUN;
	struct bench_walk walks[2] = {
		{ .gva = many_gpa, .stride = PG_SIZE_4K, .run = LOOKUP_RUN,
		  .jump = MANY / runs * PG_SIZE_4K },
		{ .gva = few_gpa, .stride = PG_SIZE_4K, .run = LOOKUP_RUN,
		  .jump = FEW / runs * PG_SIZE_4K },
	};
	struct bench_memory memory;
	u64 many, few;
	struct peer p;
	int domain;

	bench_init_backend(&p);
	bench_init_owner(&p, LOOKUP_PAGES * PG_SIZE_4K, PG_SIZE_4K);
	map_many(p.domain, few_iova, FEW);
	vm2vm_link(p.backend, p.domain, PEER_SLOT, few_gpa, few_iova, few_size, 0);
	bench_map_guest(&p, few_gpa, PG_SIZE_2M * 2);

	domain = vm2vm_create_domain(p.owner);
	memory = bench_memory();
	map_many(domain, many_iova, MANY);
	memory = bench_memory_since(memory);
	vm2vm_link(p.backend, domain, PEER_SLOT + 1, many_gpa, many_iova, many_size,
		   0);
	virt_map_level(p.backend, many_gpa, many_gpa, 4 * PG_SIZE_1G, PG_LEVEL_1G);

	bench_touch_all(&p, walks, 2, LOOKUPS, false);
	many = bench_cost_median(0, LOOKUPS);
	few = bench_cost_median(1, LOOKUPS);
	bench_figure("lookup_1000000", many);
	bench_figure("lookup_1000", few);
	bench_figure("lookup_ratio", (double)many / few);
	bench_figure("bytes_per_mapping", (double)memory.all / MANY);
	bench_figure("bytes_charged_per_mapping", (double)memory.charged / MANY);

	close(domain);
	peer_free(&p);
	munmap(p.mem, LOOKUP_PAGES * PG_SIZE_4K);
}

/* Exits while the guest does bench_job; those for interrupts of the host apart. */
static u64 exits(struct peer *p, u64 *irqs)
{
	u64 irq_exits = peer_vcpu_stat(p->vcpu, "irq_exits");
	u64 all = peer_vcpu_stat(p->vcpu, "exits");

	bench_run(p);
	*irqs = peer_vcpu_stat(p->vcpu, "irq_exits") - irq_exits;
	return peer_vcpu_stat(p->vcpu, "exits") - all - *irqs;
}

static void accesses(void)
{
	const u64 pages = 1024, size = pages * PG_SIZE_4K;
	struct bench_walk window = {
		.gva = PEER_WINDOW, .stride = PG_SIZE_4K, .run = pages,
	};
	u64 end, count, irqs, unused;
	struct peer p;

	bench_init_backend(&p);
	bench_init_owner(&p, size, PG_SIZE_4K);
	vm2vm_map(p.domain, PEER_IOVA, PEER_OWNER_GPA, size, VM2VM_RW);
	bench_add_window(&p, PEER_IOVA, size);
	bench_touch_all(&p, &window, 1, pages, false);

	bench_job.op = BENCH_ACCESS;
	bench_job.count = 0;
	end = exits(&p, &unused);
	bench_job.count = ACCESSES;
	count = exits(&p, &irqs) - end;
	bench_figure("exits_per_million", count * 1e6 / ACCESSES);
	bench_figure("irq_exits_per_million", irqs * 1e6 / ACCESSES);

	peer_free(&p);
	munmap(p.mem, size);
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "--plain")) {
		plain();
		return 0;
	}
	if (argc == 2 && !strcmp(argv[1], "--doorbells")) {
		bench_doorbells();
		return 0;
	}
	if (argc == 2 && !strcmp(argv[1], "--bounds")) {
		bench_bounds();
		return 0;
	}
	TEST_ASSERT(argc == 1, "usage: %s [--plain|--doorbells|--bounds]", argv[0]);
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM2VM) & KVM_VM2VM_FEATURE_LINK);

	bench_enter_cgroup();
	faults("", PG_SIZE_4K, FAULT_PAGES, false);
	faults("_write", PG_SIZE_4K, FAULT_PAGES, true);
	faults("_2m", PG_SIZE_2M, FAULT_PAGES_2M, false);
	revokes("", 4096, 4096, 0);
	revokes("_64", 64, 64, 0);
	revokes("_1", 1, 1, 0);
	revokes("_split", 4096, 1, 0);
	revokes("_split_rest", 4096, 1, 16384);
	bench_dirty_logs();
	links();
	accesses();
	lookups();
	bench_leave_cgroup();
	bench_doorbells();
	return 0;
}
