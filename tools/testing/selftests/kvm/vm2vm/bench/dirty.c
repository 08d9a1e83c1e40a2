// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_bench: what it costs to log writes, and to harvest the log.
 */
#include "bench.h"
#include "vm2vm_bench_vm.h"

#define LOG_PAGES	BENCH_MAX

/**
 * struct bench_log - medians of some rounds, in each of which all pages are written
 * @fault: a write to a page that a harvest has protected
 * @harvest: KVM_GET_DIRTY_LOG, which reports all pages and protects them
 */
struct bench_log {
	u64 fault;
	u64 harvest;
};

static u64 timed_harvest(struct kvm_vm *owner)
{
	static u64 bitmap[LOG_PAGES / 64];
	u64 start, end, i;

	start = rdtsc();
	kvm_vm_get_dirty_log(owner, BENCH_OWN_SLOT, bitmap);
	end = rdtsc();
	for (i = 0; i < LOG_PAGES / 64; i++)
		TEST_ASSERT(!~bitmap[i], "pages %lu on: 0x%lx were logged", i * 64, bitmap[i]);
	return end - start;
}

/* @p's guest writes to all pages of @walk, which is memory of @owner's. */
static struct bench_log bench_log(struct peer *p, const struct bench_walk *walk,
				  struct kvm_vm *owner)
{
	u64 fault[ROUNDS], harvest[ROUNDS];
	unsigned int i;

	/* The translations are made. */
	bench_touch_all(p, walk, 1, LOG_PAGES, true);
	timed_harvest(owner);

	for (i = 0; i < ROUNDS; i++) {
		bench_touch_all(p, walk, 1, LOG_PAGES, true);
		fault[i] = bench_cost_median(0, LOG_PAGES);
		harvest[i] = timed_harvest(owner);
	}
	return (struct bench_log) {
		.fault = bench_median(fault, ROUNDS),
		.harvest = bench_median(harvest, ROUNDS),
	};
}

/* A VM with a vCPU, and memory that is logged. */
static void *bench_init_logger(struct peer *p)
{
	const size_t size = LOG_PAGES * PG_SIZE_4K;
	void *mem;

	bench_init_backend(p);
	mem = bench_add_own(p, size, PG_SIZE_4K);
	vm_set_user_memory_region(p->backend, BENCH_OWN_SLOT, KVM_MEM_LOG_DIRTY_PAGES,
				  BENCH_OWN, size, mem);
	return mem;
}

/* KVM's own log, in a VM of which vm2vm knows nothing. */
static struct bench_log bench_own_log(void)
{
	struct bench_walk walk = {
		.gva = BENCH_OWN, .stride = PG_SIZE_4K, .run = LOG_PAGES,
	};
	struct bench_log own;
	struct peer p;
	void *mem;

	mem = bench_init_logger(&p);
	own = bench_log(&p, &walk, p.backend);
	peer_free(&p);
	munmap(mem, LOG_PAGES * PG_SIZE_4K);
	return own;
}

void bench_plain_log(void)
{
	struct bench_log own = bench_own_log();

	bench_figure("plain_wp_fault", own.fault);
	bench_figure("plain_harvest", own.harvest);
}

/*
 * The log of an owner whose pages one backend writes, approved by mappings of @each
 * pages, next to the log of a VM whose own vCPU writes them.
 */
static void bench_logs(const char *suffix, u64 each)
{
	struct bench_walk walk = {
		.gva = PEER_WINDOW, .stride = PG_SIZE_4K, .run = LOG_PAGES,
	};
	const size_t size = LOG_PAGES * PG_SIZE_4K;
	struct bench_log own, window;
	struct peer owner, p;
	void *mem;
	u64 i;

	mem = bench_init_logger(&owner);
	bench_init_backend(&p);
	p.domain = vm2vm_create_domain(owner.backend);
	for (i = 0; i < LOG_PAGES; i += each)
		vm2vm_map(p.domain, PEER_IOVA + i * PG_SIZE_4K, BENCH_OWN + i * PG_SIZE_4K,
			  each * PG_SIZE_4K, VM2VM_RW);
	bench_add_window(&p, PEER_IOVA, size);

	window = bench_log(&p, &walk, owner.backend);
	own = bench_own_log();

	bench_compare_figures("wp_fault", suffix, window.fault, own.fault);
	bench_compare_figures("harvest", suffix, window.harvest, own.harvest);

	peer_free(&p);
	peer_free(&owner);
	munmap(mem, size);
}

void bench_dirty_logs(void)
{
	bench_logs("", LOG_PAGES);
	bench_logs("_split", 1);
}
