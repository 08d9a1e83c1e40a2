// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: the revocation matrix.  Every way that a page of an owner may be taken
 * away or replaced, for every kind of memory that it applies to, with the
 * backend's vCPU outside of its guest and with the vCPU in it.
 *
 * The guest reads one word of one page of its window and writes another, in a loop
 * without exits.  In each trial an event happens to the page.  When it has
 * returned, the old page gets a canary wherever it can still be written: the guest
 * must never see that, and must not overwrite it.  Then the window must show what
 * the owner has now, or a hole, and what the guest writes must arrive there, or
 * nowhere.
 *
 * What a cell can show depends on who else has the old page:
 *
 *  - the owner, a second mapping of the file, the place it was moved to, a child
 *    with the same page: the canary is written into the page itself, and any
 *    access of the guest shows;
 *  - nobody: a pipe holds the page (vmsplice), so that it is not reused.  Nothing
 *    can write to it, but its old value must not be read any more, and the pipe
 *    gives back what the guest has written;
 *  - the kernel, which has freed it (migration, swap, merging): the old value must
 *    not be read any more once the owner has changed it, and the guest's writes
 *    must arrive at the new page.  Beyond that, memory that is allocated at once
 *    and filled with the canary is often the very page; how often is printed.
 *
 * Some events let the page stay the owner's (a huge page split in place, a file's
 * page that was only unmapped): there the window must go on to show it.
 *
 * Emulators flush their TLB at every VM entry and exit, so with the vCPU outside
 * of its guest a missing flush cannot show, a missing zap can.
 *
 *   -l		list the cells, and why the others do not apply
 *   -t NAME	run the cells whose name, EVENT.MEMORY.VCPU, begins so; a pattern as
 *		the shell has them, like '*.thp.spinning', is possible too
 *
 * VM2VM_TRIALS in the environment is the number of trials of a cheap event, 20 by
 * default; others get a part of it.  With 176 there are more than 10000 residency
 * trials: with the vCPU in its guest, on a page that is taken away or replaced.
 */
#include <fnmatch.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "vm2vm/matrix/events.h"
#include "vm2vm_knob.h"

#define NR_HUGEPAGES	"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
#define KHUGEPAGED	"/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs"

static const struct event * const lists[] = {
	events_calls, events_space, events_kernel, events_death,
};

static void step(struct cell *c, void (*fn)(struct cell *c))
{
	if (fn)
		fn(c);
}

/* The guest has the page: it reads from it, and writes to it if it is to. */
static void trial_begin(struct cell *c)
{
	const struct event *e = c->event;

	WRITE_ONCE(c->s->readonly, e->reader);
	spin_wait(c, 2);
	place_put(&c->first, WORD_READ, VAL_OLD(c->trial));
	spin_wait_for(c, VAL_OLD(c->trial));
	if (!e->reader)
		spin_wait_arrives(c, &c->own);
	spin_wait(c, 10);
	/* A huge page is one in the window, too, unless its writes are logged. */
	if (c->backend && !log_flag() && (c->kind == THP || c->kind == HUGETLB) &&
	    !(e->small & BIT(c->kind)))
		CHECK(c, vm_get_stat(c->backend, "pages_2m"), "no huge page in the window");
}

/*
 * The contents stay: so nothing else is to be seen until the owner changes them.
 * That must not be long, lest the vCPU leaves its guest and loses what it had.
 */
static void trial_keeps(struct cell *c)
{
	if (!c->spinning && READ_ONCE(c->s->pause)) {
		spin_resume(c);
		spin_wait(c, 10);
	}
	WRITE_ONCE(c->s->only, VAL_NONE);
	spin_wait(c, 2);
}

/* The event has returned: put values where the guest must and must not find them. */
static void trial_mark(struct cell *c)
{
	enum expect expect = c->event->expect;
	struct old *old = &c->old;

	if (old->mapped) {
		place_put(&old->place, WORD_READ, expect == SHOWS_READONLY ?
					    VAL_NEW(c->trial) : VAL_CANARY);
		place_put(&old->place, WORD_WRITE, VAL_CANARY);
	}
	if (expect == SHOWS_OWNER)
		place_put(&c->own, WORD_READ, VAL_NEW(c->trial));
	WRITE_ONCE(c->s->forbidden, VAL_OLD(c->trial));
	if (old->pfn)
		catch_freed(c);
}

static void trial_end(struct cell *c)
{
	const struct event *e = c->event;

	if (e->expect == SHOWS_NOTHING) {
		step(c, e->verify);
		check_old(c);
		return;
	}
	if (!c->spinning && READ_ONCE(c->s->pause))
		spin_resume(c);
	spin_wait(c, 3);
	check_seen(c);
	spin_wait_for(c, e->expect == SHOWS_HOLE ? VAL_HOLE : VAL_NEW(c->trial));
	if (e->expect == SHOWS_OWNER) {
		WRITE_ONCE(c->s->readonly, 0);
		spin_wait_arrives(c, &c->own);
	}
	spin_wait(c, 3);
	step(c, e->verify);
	check_old(c);
}

/* The event leaves the owner its page. */
static bool page_stays(struct cell *c)
{
	return c->event->same & BIT(c->kind);
}

static void trial_count(struct cell *c)
{
	struct shared *shared = c->shared;

	if (page_stays(c))
		shared->kept++;
	else if (c->spinning)
		shared->residency++;
	else
		shared->idle++;
}

static void trial(struct cell *c)
{
	const struct event *e = c->event;
	bool keeps = e->keeps || page_stays(c);

	step(c, e->prepare);
	trial_begin(c);
	if (e->arm) {
		e->arm(c);
		spin_wait(c, 3);
	}
	if (keeps)
		WRITE_ONCE(c->s->only, VAL_OLD(c->trial));
	if (!c->spinning)
		spin_pause(c);

	e->fire(c);
	c->returned = READ_ONCE(c->s->count);
	if (keeps)
		trial_keeps(c);
	trial_mark(c);
	trial_end(c);

	release_old(c);
	step(c, e->restore);
	trial_count(c);
}

static void cell_init(struct cell *c)
{
	const struct event *e = c->event;

	c->s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(c->s != MAP_FAILED, "mmap: %s", strerror(errno));
	spin_reset(c);
	c->s->readonly = e->reader;
	c->self = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	MUST(c->self);
	MUST(pipe2(c->old.pipe, O_CLOEXEC));
	c->elsewhere = reserve_any(MATRIX_SIZE);
	c->catch_at = reserve_any(CATCH_HUGE);
	region_create(&c->r, c->kind, e->private);
	c->own = place_at(page_of(c));
	c->first = c->own;

	if (!e->own_owner) {
		c->owner = vm_create_barebones();
		set_slot(c, 0, PEER_OWNER_GPA, MATRIX_SIZE);
		c->domain = vm2vm_create_domain(c->owner);
		map_all(c);
	}
	if (!e->own_backend) {
		backend_create(c);
		if (!e->own_owner)
			link_window(c);
		TEST_ASSERT(!pthread_create(&c->thread, NULL, spin_thread, c), "pthread_create");
	}
	stay_on_cpu(true);
}

/* The window works after the last trial, too, where it has come back by itself. */
static void cell_end(struct cell *c)
{
	const struct event *e = c->event;

	c->trial++;
	if (!e->prepare)
		trial_begin(c);
	step(c, e->finish);
	if (c->backend) {
		WRITE_ONCE(c->s->stop, 1);
		pthread_join(c->thread, NULL);
		kvm_vm_free(c->backend);
	}
	if (c->owner) {
		close(c->domain);
		kvm_vm_free(c->owner);
	}
}

static unsigned int trials(const struct event *e)
{
	unsigned int n = vm2vm_trials(20), cost = e->cost ?: 1;

	return n > cost ? n / cost : 1;
}

static int run_cell(struct cell *c)
{
	const char *why = c->event->start ? c->event->start(c) : NULL;
	unsigned int n = trials(c->event);

	if (why) {
		snprintf(c->shared->skip, sizeof(c->shared->skip), "%s", why);
		return KSFT_SKIP;
	}
	cell_init(c);
	for (c->trial = 1; c->trial <= n; c->trial++)
		trial(c);
	cell_end(c);
	return KSFT_PASS;
}

static void cell_name(char *name, size_t size, const struct event *e, enum memory kind,
		      bool spinning)
{
	snprintf(name, size, "%s.%s.%s", e->name, kind_names[kind],
		 spinning ? "spinning" : "idle");
}

static bool selected(const char *pattern, const char *name)
{
	char begins[128];

	snprintf(begins, sizeof(begins), "%s.*", pattern);
	return !*pattern || !fnmatch(pattern, name, 0) || !fnmatch(begins, name, 0);
}

static bool applies(const struct event *e, enum memory kind)
{
	return !e->na[kind];
}

/* Each cell is a process of its own, and one that fails takes nothing with it. */
static void report_cell(struct shared *shared, const struct event *e, enum memory kind,
			bool spinning)
{
	struct cell c = {
		.event = e, .kind = kind, .spinning = spinning, .shared = shared,
	};
	uint64_t start = now_us();
	char name[64];
	int status;
	pid_t pid;

	cell_name(name, sizeof(name), e, kind, spinning);
	shared->note[0] = 0;
	fflush(stdout);
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(1800);
		status = run_cell(&c);
		fflush(stdout);
		_exit(status);
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
	stop_swap(shared);
	if (WIFEXITED(status) && WEXITSTATUS(status) == KSFT_SKIP)
		ksft_test_result_skip("%s: %s\n", name, shared->skip);
	else if (WIFEXITED(status) && !WEXITSTATUS(status))
		ksft_test_result_pass("%s # %u trials, %lu ms%s%s\n", name, trials(e),
				      (now_us() - start) / 1000, *shared->note ? ", " : "",
				      shared->note);
	else
		ksft_test_result_fail("%s # status 0x%x\n", name, status);
}

static unsigned int walk_event(const struct event *e, const char *pattern,
			       struct shared *shared, bool list)
{
	unsigned int kind, spinning, n = 0;
	char name[64];

	for (kind = 0; kind < NR_KINDS; kind++) {
		if (!applies(e, kind) && list)
			printf("# n/a: %s.%s: %s\n", e->name, kind_names[kind], e->na[kind]);
		for (spinning = 0; applies(e, kind) && spinning < 2; spinning++) {
			cell_name(name, sizeof(name), e, kind, spinning);
			if (!selected(pattern, name))
				continue;
			n++;
			if (list)
				printf("%s\n", name);
			if (shared)
				report_cell(shared, e, kind, spinning);
		}
	}
	return n;
}

/* All cells in order, and those that there are not. */
static unsigned int walk_cells(const char *pattern, struct shared *shared, bool list)
{
	const struct event *e;
	unsigned int i, n = 0;

	for (i = 0; i < ARRAY_SIZE(lists); i++)
		for (e = lists[i]; e->name; e++)
			n += walk_event(e, pattern, shared, list);
	return n;
}

/* The pool that the kernel gives hugetlb pages from. */
static bool reserve_hugepages(long n)
{
	return knob_read(NR_HUGEPAGES) >= n ||
	       (knob_write_long(NR_HUGEPAGES, n) && knob_read(NR_HUGEPAGES) >= n);
}

static void run(const char *pattern)
{
	long hugepages = knob_read(NR_HUGEPAGES), khugepaged = knob_read(KHUGEPAGED);
	uint64_t start = now_us();
	struct shared *shared;
	unsigned int n;

	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(shared != MAP_FAILED, "mmap: %s", strerror(errno));
	shared->zram = -1;
	n = walk_cells(pattern, NULL, false);
	TEST_ASSERT(n, "no cell is named '%s'", pattern);
	TEST_ASSERT(reserve_hugepages(HUGEPAGES), "no %u huge pages", HUGEPAGES);

	/* Huge pages come and go when the test says so, an hour long. */
	if (khugepaged >= 0)
		knob_write_long(KHUGEPAGED, 3600000);

	ksft_print_header();
	ksft_set_plan(n);
	walk_cells(pattern, shared, false);
	if (khugepaged >= 0)
		knob_write_long(KHUGEPAGED, khugepaged);
	if (hugepages >= 0)
		knob_write_long(NR_HUGEPAGES, hugepages);
	ksft_print_msg("%lu residency trials with the vCPU in its guest, %lu sightings\n",
		       shared->residency, shared->sightings);
	ksft_print_msg("%lu trials with it outside, %lu in which the page stays the owner's\n",
		       shared->idle, shared->kept);
	ksft_print_msg("of %lu old pages that were freed, or left to a child, %lu got the canary\n",
		       shared->freed, shared->caught);
	ksft_print_msg("%lu s\n", (now_us() - start) / 1000000);
}

int main(int argc, char **argv)
{
	const char *pattern = "";
	bool list = false;
	int opt;

	while ((opt = getopt(argc, argv, "lt:")) != -1) {
		if (opt == 'l') {
			list = true;
		} else if (opt == 't') {
			pattern = optarg;
		} else {
			fprintf(stderr, "usage: %s [-l] [-t NAME]\n", argv[0]);
			return KSFT_FAIL;
		}
	}
	if (list) {
		walk_cells(pattern, NULL, true);
		return KSFT_PASS;
	}
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_VM2VM));
	run(pattern);
	ksft_finished();
}
