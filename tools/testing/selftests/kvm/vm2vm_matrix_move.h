/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_matrix_test: the events, part two: what the kernel does to an owner's
 * memory behind its back.  It is made to do so, and each event sees to it that it
 * did: that the page is another one, or that a huge page is in pieces.
 *
 * The contents stay, so the guest must not see anything else on the way.  It may
 * be a reader: a page that is written all the time is neither merged nor, for
 * long, swapped out.
 */
#ifndef SELFTEST_KVM_VM2VM_MATRIX_MOVE_H
#define SELFTEST_KVM_VM2VM_MATRIX_MOVE_H

#include <sys/swap.h>

#include "vm2vm_matrix_events.h"

#define SPLIT_HUGE_PAGES	"/sys/kernel/debug/split_huge_pages"
#define KSM			"/sys/kernel/mm/ksm/"
#define ZRAM			"/sys/class/zram-control/"
#define ZRAM_SIZE		(64ul << 20)

/* Ask for the event until it has happened. */
#define INSIST(c, ask, done, what)					\
do {									\
	uint64_t __until = now_us() + 60 * 1000000ull;			\
	int __r;							\
									\
	for (;;) {							\
		__r = (ask);						\
		if (done)						\
			break;						\
		CHECK(c, now_us() < __until, "for 60 s: %s: %d (%s)",	\
		      what, __r, strerror(errno));			\
	}								\
} while (0)

static bool page_moved(struct cell *c)
{
	uint64_t pfn = pfn_of(0, page_of(c));

	return pfn && pfn != c->pfn;
}

static void restore_renew(struct cell *c)
{
	region_renew(&c->r);
}

static void arm_move(struct cell *c)
{
	watch_freed(c);
	c->pfn = c->old.pfn;
}

static const char *start_split(struct cell *c)
{
	return access(SPLIT_HUGE_PAGES, W_OK) ? "no " SPLIT_HUGE_PAGES : NULL;
}

static int split_huge(struct cell *c)
{
	char buf[64];

	snprintf(buf, sizeof(buf), "%d,0x%lx,0x%lx", getpid(), (uintptr_t)c->r.mem,
		 (uintptr_t)c->r.mem + MATRIX_SIZE);
	return write_knob(SPLIT_HUGE_PAGES, buf) ? 0 : -1;
}

/*
 * The huge page becomes 512 small ones, each where it was; or elsewhere, if memory is
 * compacted just then, which is another event of the matrix.
 */
static void fire_split(struct cell *c)
{
	uint64_t pfn = pfn_of(0, page_of(c));

	CHECK(c, pfn_is_compound(pfn), "there is no huge page");
	INSIST(c, split_huge(c), !pfn_is_compound(pfn), "the huge page is not split");
}

/* The rest of a huge page is still in the window when a part of it is gone. */
static void verify_rest(struct cell *c)
{
	struct place rest = place_at(c->r.mem + MATRIX_OFFSET + 4096);

	put(&rest, WORD_READ, c->trial);
	WRITE_ONCE(c->s->page, PEER_WINDOW + MATRIX_OFFSET + 4096);
	spin_wait_for(c, c->trial);
	spin_wait_arrives(c, &rest);
	WRITE_ONCE(c->s->page, PEER_WINDOW + MATRIX_OFFSET);
	spin_wait(c, 2);
}

static void fire_split_dontneed(struct cell *c)
{
	MUST(madvise(page_of(c), 4096, MADV_DONTNEED));
}

static void fire_split_mprotect(struct cell *c)
{
	MUST(mprotect(page_of(c), 4096, PROT_NONE));
}

static void restore_split_mprotect(struct cell *c)
{
	restore_mprotect(c);
	region_renew(&c->r);
}

static const char *start_collapse(struct cell *c)
{
	void *mem = reserve_any(MATRIX_SIZE);
	int r = 0;

	MUST(mprotect(mem, MATRIX_SIZE, PROT_READ | PROT_WRITE));
	*(char *)mem = 1;
	if (madvise(mem, MATRIX_SIZE, MADV_COLLAPSE))
		r = errno;
	munmap(mem, MATRIX_SIZE);
	return r == EINVAL ? "no MADV_COLLAPSE" : c->kind == THP ? start_split(c) : NULL;
}

/* Small pages, to be replaced by a huge one. */
static void prepare_collapse(struct cell *c)
{
	region_fill(&c->r);
	if (c->kind == THP)
		INSIST(c, split_huge(c), !pfn_is_compound(pfn_of(0, page_of(c))),
		       "the huge page is not split");
	CHECK(c, !pfn_is_compound(pfn_of(0, page_of(c))), "there is a huge page");
}

static void fire_collapse(struct cell *c)
{
	if (c->kind == ANON)
		MUST(madvise(c->r.mem, MATRIX_SIZE, MADV_HUGEPAGE));
	INSIST(c, madvise(c->r.mem, MATRIX_SIZE, MADV_COLLAPSE),
	       page_moved(c) && pfn_is_compound(pfn_of(0, page_of(c))),
	       "the pages are not collapsed");
}

/* What the knobs were. */
static long ksm_was[4];
static const char * const ksm_knobs[4] = {
	KSM "run", KSM "sleep_millisecs", KSM "pages_to_scan", KSM "smart_scan",
};

static const long ksm_wanted[4] = { 1, 0, 2000, 0 };

static const char *start_ksm(struct cell *c)
{
	void *mem;
	int i;

	for (i = 0; i < 4; i++) {
		ksm_was[i] = read_knob(ksm_knobs[i]);
		if (ksm_was[i] < 0 && i < 3)
			return "no KSM";
	}
	mem = reserve_any(MATRIX_SIZE);
	MUST(mprotect(mem, MATRIX_SIZE, PROT_READ | PROT_WRITE));
	MUST(madvise(mem, MATRIX_SIZE, MADV_NOHUGEPAGE));
	MUST(madvise(mem, MATRIX_SIZE, MADV_MERGEABLE));
	c->sharers[0] = mem;
	c->sharers[1] = mem + 4096;
	for (i = 0; i < 4; i++)
		write_knob_long(ksm_knobs[i], ksm_wanted[i]);
	return NULL;
}

static void finish_ksm(struct cell *c)
{
	int i;

	for (i = 0; i < 4; i++)
		write_knob_long(ksm_knobs[i], ksm_was[i]);
}

/* Two others have one page, with the contents that the owner's page is to have. */
static void prepare_ksm(struct cell *c)
{
	int i;

	WRITE_ONCE(c->s->readonly, 1);
	spin_wait(c, 2);
	region_renew(&c->r);
	region_fill(&c->r);
	MUST(madvise(c->r.mem, MATRIX_SIZE, MADV_MERGEABLE));
	for (i = 0; i < 2; i++) {
		memcpy(c->sharers[i], page_of(c), 4096);
		c->sharers[i][WORD_READ] = VAL_OLD(c->trial);
	}
	WAIT_FOR(c, pfn_of(0, c->sharers[0]) == pfn_of(0, c->sharers[1]),
		 "KSM does not merge: %ld pages shared, %ld sharing, %ld scans",
		 read_knob(KSM "pages_shared"), read_knob(KSM "pages_sharing"),
		 read_knob(KSM "full_scans"));
	MUST(write_knob_long(KSM "run", 0) ? 0 : -1);
}

/* The owner's page becomes theirs. */
static void fire_ksm(struct cell *c)
{
	MUST(write_knob_long(KSM "run", 1) ? 0 : -1);
	WAIT_FOR(c, pfn_of(0, page_of(c)) == pfn_of(0, c->sharers[0]),
		 "KSM does not merge the owner's page: %ld pages shared, %ld sharing, %ld scans",
		 read_knob(KSM "pages_shared"), read_knob(KSM "pages_sharing"),
		 read_knob(KSM "full_scans"));
	CHECK(c, page_moved(c), "the page is the same");
}

/* And then the guest writes, and the owner gets a page of its own again. */
static void fire_ksm_guest(struct cell *c)
{
	fire_ksm(c);
	c->pfn = pfn_of(0, page_of(c));
	if (!c->spinning)
		spin_resume(c);
	WRITE_ONCE(c->s->readonly, 0);
	WAIT_FOR(c, page_moved(c), "the guest's write makes no copy");
}

static void verify_ksm(struct cell *c)
{
	uint64_t *page;
	int i;

	for (i = 0; i < 2; i++) {
		page = c->sharers[i];
		CHECK(c, page[WORD_READ] == VAL_OLD(c->trial) && !page[WORD_WRITE],
		      "another sharer's page has changed: 0x%lx 0x%lx", page[WORD_READ],
		      page[WORD_WRITE]);
	}
	CHECK(c, pfn_of(0, c->sharers[0]) != pfn_of(0, page_of(c)), "still merged");
}

static const char *start_migrate(struct cell *c)
{
	int fd = open("/sys/devices/system/node/has_memory", O_RDONLY | O_CLOEXEC);
	char buf[64] = {}, *end;
	ssize_t n = -1;

	if (fd >= 0) {
		n = read(fd, buf, sizeof(buf) - 1);
		close(fd);
	}
	/* "0-1", or "0,2": the first two will do. */
	c->nodes[0] = strtol(buf, &end, 10);
	if (n <= 0 || (*end != '-' && *end != ','))
		return "only one NUMA node: pages cannot be moved";
	c->nodes[1] = *end == '-' ? c->nodes[0] + 1 : strtol(end + 1, NULL, 10);
	return NULL;
}

static void fire_migrate(struct cell *c)
{
	int from = move_page(c, -1), to = c->nodes[from == c->nodes[0]];

	INSIST(c, move_page(c, to), page_moved(c), "the page does not move");
	CHECK(c, move_page(c, -1) == to, "the page is not on node %d", to);
	c->old.node = from;
	c->old.huge = c->kind == THP || c->kind == HUGETLB;
}

/* How often something was written to the swap. */
static long swapped_out(struct cell *c)
{
	char path[64];
	long n = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/block/zram%d/stat", c->shared->zram);
	f = fopen(path, "re");
	TEST_ASSERT(f && fscanf(f, "%*d %*d %*d %*d %ld", &n) == 1, "%s: %s", path,
		    strerror(errno));
	fclose(f);
	return n;
}

/* A header as mkswap writes it. */
static void make_swap(const char *path)
{
	static char page[4096];
	uint32_t *info = (uint32_t *)(page + 1024);
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	TEST_ASSERT(fd >= 0, "%s: %s", path, strerror(errno));
	info[0] = 1;				/* version */
	info[1] = ZRAM_SIZE / 4096 - 1;		/* last page */
	memcpy(page + 4086, "SWAPSPACE2", 10);
	TEST_ASSERT(write(fd, page, 4096) == 4096, "%s: %s", path, strerror(errno));
	MUST(fsync(fd));
	close(fd);
}

/* Swap in compressed memory, preferred to what there is; its number is @zram. */
static const char *start_swap(struct cell *c)
{
	char path[64];
	long n = read_knob(ZRAM "hot_add");

	if (n < 0)
		return "no zram";
	c->shared->zram = n;
	snprintf(path, sizeof(path), "/sys/block/zram%ld/disksize", n);
	MUST(write_knob_long(path, ZRAM_SIZE) ? 0 : -1);
	snprintf(path, sizeof(path), "/dev/zram%ld", n);
	make_swap(path);
	MUST(swapon(path, SWAP_FLAG_PREFER | SWAP_FLAG_PRIO_MASK));
	return NULL;
}

/* Also for a cell that died; what it had in there died with it. */
static void stop_swap(struct shared *shared)
{
	char path[64];

	if (shared->zram < 0)
		return;
	snprintf(path, sizeof(path), "/dev/zram%d", shared->zram);
	swapoff(path);
	snprintf(path, sizeof(path), "/sys/block/zram%d/reset", shared->zram);
	write_knob(path, "1");
	write_knob_long(ZRAM "hot_remove", shared->zram);
	shared->zram = -1;
}

static void finish_swap(struct cell *c)
{
	stop_swap(c->shared);
}

/*
 * A page that a guest is on comes back at once, so what tells is that something
 * was written to the swap, and that the page is another one then.
 */
static bool page_swapped(struct cell *c, long before)
{
	if (swapped_out(c) <= before)
		return false;
	return c->spinning ? page_moved(c) : !pfn_of(0, page_of(c));
}

static int page_out(struct cell *c)
{
	if (pfn_of(0, page_of(c)))
		drain_cpus(c);
	return madvise(c->r.mem, MATRIX_SIZE, MADV_PAGEOUT);
}

static void fire_swap(struct cell *c)
{
	long before = swapped_out(c);

	INSIST(c, page_out(c), page_swapped(c, before),
	       "the page is not swapped out");
}

#endif /* SELFTEST_KVM_VM2VM_MATRIX_MOVE_H */
