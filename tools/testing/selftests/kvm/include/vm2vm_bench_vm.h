/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the benchmarks of vm2vm measure with: a backend whose guest touches pages and
 * takes the time stamp counter before and after, an owner, and the memory that the
 * kernel charges to this process.
 *
 * Where one tick is one instruction (COUNT=1 in the lab) the ticks between two
 * readings are the instructions of the guest and of the host together: the
 * guest's counter is the host's plus a constant.
 */
#ifndef SELFTEST_KVM_VM2VM_BENCH_VM_H
#define SELFTEST_KVM_VM2VM_BENCH_VM_H

#include "vm2vm_peer.h"

/* Of the backend, gpa and gva: memory of its own, next to PEER_WINDOW. */
#define BENCH_OWN	0x40000000ul
#define BENCH_OWN_SLOT	101

#define BENCH_MAX	4096	/* touches of one walk */
#define ROUNDS		5	/* of what gives one figure each time */

/* One line: "bench: NAME VALUE". */
void bench_figure(const char *name, double value);

/* NAME_window and NAME_own, which are compared, and NAME_ratio; @suffix goes behind each. */
void bench_compare_figures(const char *name, const char *suffix, u64 window, u64 own);

/* A way through memory: @run pages @stride bytes apart, and again @jump further. */
struct bench_walk {
	u64 gva;
	u64 stride;
	u64 run;
	u64 jump;
};

enum bench_op {
	BENCH_TOUCH,	/* each page of the walks once, in turns: bench_cost */
	BENCH_ACCESS,	/* @count reads in walk[0], over and over */
};

/* Shared with the guest, which has it in its own memory. */
extern struct bench_job {
	u64 op;
	u64 count;
	u64 write;
	u64 nr_walks;
	struct bench_walk walk[2];
} bench_job;

/* Run bench_job in the guest; none of what it does may need user space. */
void bench_run(struct peer *p);

/*
 * Touch @count pages of each of @nr_walks walks: each must make a fault, and one
 * fault only.  A few more are those on the guest's page tables.
 */
void bench_touch_all(struct peer *p, const struct bench_walk *walks, u64 nr_walks, u64 count,
		     bool write);

/* Sorts @val. */
u64 bench_median(u64 *val, u64 count);

/* The median of what the guest measured in walk @k. */
u64 bench_cost_median(u64 k, u64 count);

/* Memory whose every page is present, of @page_size in the page tables. */
void *bench_mmap(size_t size, size_t page_size);

/*
 * The backend's page tables get large pages, so that the walks through them do
 * not need memory, which would fault too.  What is counted are faults on gpas.
 */
void bench_map_guest(struct peer *p, u64 gpa, u64 size);

void bench_init_backend(struct peer *p);

/* An owner with @size of memory, and its domain. */
void bench_init_owner(struct peer *p, size_t size, size_t page_size);

/* Memory of the backend's own. */
void *bench_add_own(struct peer *p, size_t size, size_t page_size);

/* A window on @size of the domain, from @iova. */
void bench_add_window(struct peer *p, u64 iova, u64 size);

/* A memory cgroup of our own: what the kernel charges to it is what we asked for. */
void bench_enter_cgroup(void);

void bench_leave_cgroup(void);

/* Bytes of the kernel's own memory: what is charged to us, and what all use. */
struct bench_memory {
	long charged;
	long all;
};

struct bench_memory bench_memory(void);

struct bench_memory bench_memory_since(struct bench_memory before);

#endif /* SELFTEST_KVM_VM2VM_BENCH_VM_H */
