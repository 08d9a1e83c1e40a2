// SPDX-License-Identifier: GPL-2.0
/*
 * What the benchmarks of vm2vm measure with: what include/vm2vm_bench_vm.h declares.
 */
#include <sys/stat.h>

#include "vm2vm_bench_vm.h"
#include "vm2vm_knob.h"

#define BENCH_MANY	64	/* so many say something about the clock */
#define BENCH_TABLES	8	/* of the guest, at most, that a walk needs */
#define BENCH_CGROUP	"/sys/fs/cgroup"

struct bench_job bench_job;

/* The guest's, too. */
static u32 bench_cost[2][BENCH_MAX];

void bench_figure(const char *name, double value)
{
	printf("bench: %s %.*f\n", name, value == (long)value ? 0 : 3, value);
	fflush(stdout);
}

void bench_compare_figures(const char *name, const char *suffix, u64 window, u64 own)
{
	char line[64];

	snprintf(line, sizeof(line), "%s_window%s", name, suffix);
	bench_figure(line, window);
	snprintf(line, sizeof(line), "%s_own%s", name, suffix);
	bench_figure(line, own);
	snprintf(line, sizeof(line), "%s_ratio%s", name, suffix);
	bench_figure(line, (double)window / own);
}

static u64 bench_gva(const struct bench_walk *w, u64 i)
{
	return w->gva + i / w->run * w->jump + i % w->run * w->stride;
}

static u32 bench_touch(u64 gva, bool write)
{
	u64 start = rdtsc();

	if (write)
		WRITE_ONCE(*(u64 *)gva, gva);
	else
		READ_ONCE(*(u64 *)gva);
	return rdtsc() - start;
}

static void bench_guest_touch(struct bench_job *job)
{
	u64 i, k, turn;

	/* So that no fault on this memory is counted. */
	memset(bench_cost, 0xff, sizeof(bench_cost));

	for (i = 0; i < job->count; i++) {
		for (turn = 0; turn < job->nr_walks; turn++) {
			k = (i + turn) % job->nr_walks;
			bench_cost[k][i] = bench_touch(bench_gva(&job->walk[k], i),
						       job->write);
		}
	}
}

static void bench_guest_access(struct bench_job *job)
{
	const struct bench_walk *w = &job->walk[0];
	u64 i;

	for (i = 0; i < job->count; i++)
		READ_ONCE(*(u64 *)(w->gva + i % w->run * w->stride));
}

static void bench_guest(void)
{
	for (;;) {
		if (READ_ONCE(bench_job.op) == BENCH_TOUCH)
			bench_guest_touch(&bench_job);
		else
			bench_guest_access(&bench_job);
		GUEST_SYNC(0);
	}
}

void bench_run(struct peer *p)
{
	struct ucall uc;

	sync_global_to_guest(p->backend, bench_job);
	vcpu_run(p->vcpu);
	TEST_ASSERT(get_ucall(p->vcpu, &uc) == UCALL_SYNC,
		    "guest: exit reason %u", p->vcpu->run->exit_reason);
}

/*
 * Most of the host's ticks are in the guest's figures: its counter goes on while
 * the host works for it.
 */
static void bench_check_clock(u64 ticks, u64 nr_walks, u64 count)
{
	u64 sum = 0, i, k;

	for (k = 0; k < nr_walks; k++)
		for (i = 0; i < count; i++)
			sum += bench_cost[k][i];
	TEST_ASSERT(sum <= ticks && sum >= ticks / 2,
		    "the guest counted %lu ticks, the host %lu", sum, ticks);
}

void bench_touch_all(struct peer *p, const struct bench_walk *walks, u64 nr_walks, u64 count,
		     bool write)
{
	u64 faults, ticks, i;

	TEST_ASSERT(count <= BENCH_MAX, "%lu touches", count);
	bench_job = (struct bench_job) {
		.op = BENCH_TOUCH, .write = write, .nr_walks = nr_walks,
	};
	for (i = 0; i < nr_walks; i++)
		bench_job.walk[i] = walks[i];

	/* What the guest itself needs is there after a run that touches nothing. */
	bench_run(p);
	faults = peer_vcpu_stat(p->vcpu, "pf_fixed");
	bench_job.count = count;
	ticks = rdtsc();
	bench_run(p);
	ticks = rdtsc() - ticks;
	faults = peer_vcpu_stat(p->vcpu, "pf_fixed") - faults;
	TEST_ASSERT(faults >= nr_walks * count &&
		    faults <= nr_walks * (count + BENCH_TABLES),
		    "%lu faults, wanted %lu", faults, nr_walks * count);
	sync_global_from_guest(p->backend, bench_cost);
	/* With few touches, most of the time is the loop's own. */
	if (count >= BENCH_MANY)
		bench_check_clock(ticks, nr_walks, count);
}

static int bench_compare(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

u64 bench_median(u64 *val, u64 count)
{
	qsort(val, count, sizeof(*val), bench_compare);
	return val[count / 2];
}

u64 bench_cost_median(u64 k, u64 count)
{
	static u64 val[BENCH_MAX];
	u64 i;

	for (i = 0; i < count; i++)
		val[i] = bench_cost[k][i];
	return bench_median(val, count);
}

void *bench_mmap(size_t size, size_t page_size)
{
	void *mem = peer_mmap(size, 0);

	TEST_ASSERT(mem, "mmap: %s", strerror(errno));
	TEST_ASSERT(!madvise(mem, size, page_size == PG_SIZE_2M ? MADV_HUGEPAGE :
			     MADV_NOHUGEPAGE), "madvise: %s", strerror(errno));
	memset(mem, 1, size);
	return mem;
}

void bench_map_guest(struct peer *p, u64 gpa, u64 size)
{
	virt_map_level(p->backend, gpa, gpa, align_up(size, PG_SIZE_2M), PG_LEVEL_2M);
}

void bench_init_backend(struct peer *p)
{
	memset(p, 0, sizeof(*p));
	p->domain = -1;
	p->backend = vm_create_with_one_vcpu(&p->vcpu, bench_guest);
}

void bench_init_owner(struct peer *p, size_t size, size_t page_size)
{
	p->owner = vm_create_barebones();
	peer_set_memory(p, bench_mmap(size, page_size), size, 0);
	p->domain = vm2vm_create_domain(p->owner);
}

void *bench_add_own(struct peer *p, size_t size, size_t page_size)
{
	void *mem = bench_mmap(size, page_size);

	vm_set_user_memory_region(p->backend, BENCH_OWN_SLOT, 0, BENCH_OWN,
				  size, mem);
	bench_map_guest(p, BENCH_OWN, size);
	return mem;
}

void bench_add_window(struct peer *p, u64 iova, u64 size)
{
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, iova, size, 0);
	bench_map_guest(p, PEER_WINDOW, size);
}

static void bench_write_file(const char *path, const char *text)
{
	TEST_ASSERT(knob_write(path, text), "cannot write %s: %s", path, strerror(errno));
}

void bench_enter_cgroup(void)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", getpid());
	bench_write_file(BENCH_CGROUP "/cgroup.subtree_control", "+memory");
	TEST_ASSERT(!mkdir(BENCH_CGROUP "/vm2vm_bench", 0700) || errno == EEXIST,
		    "mkdir: %s", strerror(errno));
	bench_write_file(BENCH_CGROUP "/vm2vm_bench/cgroup.procs", pid);
}

void bench_leave_cgroup(void)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", getpid());
	bench_write_file(BENCH_CGROUP "/cgroup.procs", pid);
	rmdir(BENCH_CGROUP "/vm2vm_bench");
}

/* The number after @name in the file @path. */
static long bench_read_field(const char *path, const char *name)
{
	size_t len = strlen(name);
	FILE *f = fopen(path, "re");
	char line[128];
	long val = -1;

	TEST_ASSERT(f, "cannot open %s: %s", path, strerror(errno));
	while (val < 0 && fgets(line, sizeof(line), f))
		if (strncmp(line, name, len) || sscanf(line + len, " %ld", &val) != 1)
			val = -1;
	fclose(f);
	TEST_ASSERT(val >= 0, "%s has no '%s'", path, name);
	return val;
}

struct bench_memory bench_memory(void)
{
	const char *meminfo = "/proc/meminfo";

	return (struct bench_memory) {
		.charged = bench_read_field(BENCH_CGROUP "/vm2vm_bench/memory.stat",
					    "kernel "),
		.all = 1024 * (bench_read_field(meminfo, "Slab:") +
			       bench_read_field(meminfo, "VmallocUsed:") +
			       bench_read_field(meminfo, "SecPageTables:")),
	};
}

struct bench_memory bench_memory_since(struct bench_memory before)
{
	struct bench_memory now = bench_memory();

	now.charged -= before.charged;
	now.all -= before.all;
	return now;
}
