// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_matrix_test: what the kernel does to an owner's memory behind its back.  It is
 * made to do so, and each event sees to it that it did: that the page is another one,
 * or that a huge page is in pieces.
 *
 * The contents stay, so the guest must not see anything else on the way.  It may
 * be a reader: a page that is written all the time is neither merged nor, for
 * long, swapped out.
 */
#include <fcntl.h>

#include "events.h"
#include "vm2vm_knob.h"
#include "vm2vm_zram.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif

#define SMALL_ALREADY	"has no huge page that could be split"
#define NOT_SPLIT	"hugetlb pages are never split"
#define NO_KSM		"KSM merges anonymous memory only"
#define NA_SPLIT	{ [ANON] = SMALL_ALREADY, [MEMFD] = SMALL_ALREADY, [HUGETLB] = NOT_SPLIT }
#define NA_KSM		{ [MEMFD] = NO_KSM, [HUGETLB] = NO_KSM }

#define SPLIT_HUGE_PAGES	"/sys/kernel/debug/split_huge_pages"
#define KSM			"/sys/kernel/mm/ksm/"
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
	return knob_write(SPLIT_HUGE_PAGES, buf) ? 0 : -1;
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

	place_put(&rest, WORD_READ, c->trial);
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
		ksm_was[i] = knob_read(ksm_knobs[i]);
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
		knob_write_long(ksm_knobs[i], ksm_wanted[i]);
	return NULL;
}

static void finish_ksm(struct cell *c)
{
	int i;

	for (i = 0; i < 4; i++)
		knob_write_long(ksm_knobs[i], ksm_was[i]);
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
		 knob_read(KSM "pages_shared"), knob_read(KSM "pages_sharing"),
		 knob_read(KSM "full_scans"));
	MUST(knob_write_long(KSM "run", 0) ? 0 : -1);
}

/* The owner's page becomes theirs. */
static void fire_ksm(struct cell *c)
{
	MUST(knob_write_long(KSM "run", 1) ? 0 : -1);
	WAIT_FOR(c, pfn_of(0, page_of(c)) == pfn_of(0, c->sharers[0]),
		 "KSM does not merge the owner's page: %ld pages shared, %ld sharing, %ld scans",
		 knob_read(KSM "pages_shared"), knob_read(KSM "pages_sharing"),
		 knob_read(KSM "full_scans"));
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

static const char *start_swap(struct cell *c)
{
	long n = zram_add();

	if (n < 0)
		return "no zram";
	c->shared->zram = n;
	zram_swapon(n, ZRAM_SIZE);
	return NULL;
}

void stop_swap(struct shared *shared)
{
	if (shared->zram < 0)
		return;
	zram_remove(shared->zram);
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

const struct event events_kernel[] = {
	{
		.name = "split", .expect = SHOWS_OWNER, .keeps = true, .same = BIT(THP),
		.start = start_split, .fire = fire_split, .restore = restore_renew,
		.na = NA_SPLIT,
	}, {
		.name = "split_dontneed", .expect = SHOWS_OWNER,
		.arm = arm_pinned, .fire = fire_split_dontneed, .verify = verify_rest,
		.restore = restore_renew,
		.na = NA_SPLIT,
	}, {
		.name = "split_mprotect", .expect = SHOWS_HOLE,
		.arm = arm_alias_or_force, .fire = fire_split_mprotect, .verify = verify_rest,
		.restore = restore_split_mprotect,
		.na = NA_SPLIT,
	}, {
		.name = "collapse", .expect = SHOWS_OWNER, .keeps = true, .small = BIT(THP),
		.cost = 8,
		.start = start_collapse, .prepare = prepare_collapse, .arm = arm_move,
		.fire = fire_collapse, .restore = restore_renew,
		.na = { [HUGETLB] = "hugetlb pages are never small" },
	}, {
		.name = "ksm_owner", .expect = SHOWS_OWNER, .keeps = true, .reader = true,
		.cost = 8,
		.start = start_ksm, .finish = finish_ksm, .prepare = prepare_ksm,
		.arm = arm_move, .fire = fire_ksm, .verify = verify_ksm,
		.na = NA_KSM,
	}, {
		.name = "ksm_guest", .expect = SHOWS_OWNER, .keeps = true, .reader = true,
		.cost = 8,
		.start = start_ksm, .finish = finish_ksm, .prepare = prepare_ksm,
		.arm = arm_move, .fire = fire_ksm_guest, .verify = verify_ksm,
		.na = NA_KSM,
	}, {
		.name = "migrate", .expect = SHOWS_OWNER, .keeps = true, .cost = 2,
		.start = start_migrate, .arm = arm_move, .fire = fire_migrate,
	}, {
		.name = "swap", .expect = SHOWS_OWNER, .keeps = true, .cost = 4,
		.start = start_swap, .finish = finish_swap, .arm = arm_move,
		.fire = fire_swap, .restore = restore_renew,
		.na = { [HUGETLB] = "hugetlb pages are never swapped" },
	},
	{}
};
