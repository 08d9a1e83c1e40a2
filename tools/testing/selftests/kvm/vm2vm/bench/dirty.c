// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_bench: what it costs to log writes, and to harvest the log.
 */
#include "bench.h"
#include "vm2vm_bench_vm.h"

#define LOG_PAGES	BENCH_MAX

/**
 * struct bench_log - medians of some rounds, in each of which pages are written
 * @fault: a write to a page that a harvest has protected
 * @harvest: KVM_GET_DIRTY_LOG, which reports these pages and protects them
 */
struct bench_log {
	u64 fault;
	u64 harvest;
};

/* The log of @owner has one page out of @step, which divides 64, and that is timed. */
static u64 timed_harvest(struct kvm_vm *owner, u64 step)
{
	static u64 bitmap[LOG_PAGES / 64];
	u64 start, end, i, want = 0;

	for (i = 0; i < 64; i += step)
		want |= 1ull << i;
	start = rdtsc();
	kvm_vm_get_dirty_log(owner, BENCH_OWN_SLOT, bitmap);
	end = rdtsc();
	for (i = 0; i < LOG_PAGES / 64; i++)
		TEST_ASSERT(bitmap[i] == want, "pages %lu on: 0x%lx were logged", i * 64,
			    bitmap[i]);
	return end - start;
}

/*
 * @p's guest writes to one page out of @step, at @gva and on, which is memory of
 * @owner's; and once to all.
 */
static struct bench_log bench_log(struct peer *p, u64 gva, u64 step, struct kvm_vm *owner)
{
	const u64 count = LOG_PAGES / step;
	struct bench_walk walk = {
		.gva = gva, .stride = PG_SIZE_4K, .run = LOG_PAGES,
	};
	u64 fault[ROUNDS], harvest[ROUNDS];
	unsigned int i;

	/* The translations are made. */
	bench_touch_all(p, &walk, 1, LOG_PAGES, true);
	timed_harvest(owner, 1);

	walk.stride = step * PG_SIZE_4K;
	walk.run = count;
	for (i = 0; i < ROUNDS; i++) {
		bench_touch_all(p, &walk, 1, count, true);
		fault[i] = bench_cost_median(0, count);
		harvest[i] = timed_harvest(owner, step);
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
static struct bench_log bench_own_log(u64 step)
{
	struct bench_log own;
	struct peer p;
	void *mem;

	mem = bench_init_logger(&p);
	own = bench_log(&p, BENCH_OWN, step, p.backend);
	peer_free(&p);
	munmap(mem, LOG_PAGES * PG_SIZE_4K);
	return own;
}

void bench_plain_log(void)
{
	struct bench_log own = bench_own_log(1);

	bench_figure("plain_wp_fault", own.fault);
	bench_figure("plain_harvest", own.harvest);
}

/*
 * The log of an owner of whose pages one backend writes one out of @step, approved by
 * mappings of @each pages, next to the log of a VM whose own vCPU does.
 */
static void bench_logs(const char *suffix, u64 each, u64 step)
{
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

	window = bench_log(&p, PEER_WINDOW, step, owner.backend);
	own = bench_own_log(step);

	bench_compare_figures("wp_fault", suffix, window.fault, own.fault);
	bench_compare_figures("harvest", suffix, window.harvest, own.harvest);

	peer_free(&p);
	peer_free(&owner);
	munmap(mem, size);
}

void bench_dirty_logs(void)
{
	bench_logs("", LOG_PAGES, 1);
	bench_logs("_split", 1, 1);
	bench_logs("_every_second", LOG_PAGES, 2);
	bench_logs("_split_every_second", 1, 2);
}
