// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_inject_test: make the allocations and copies of one call fail in turn; see
 * faults.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "faults.h"
#include "test_util.h"
#include "vm2vm.h"

#define INJECT_MAX	10000		/* a call that allocates more often goes on for ever */
#define INJECT_FDS	1024		/* descriptors that are looked at */
#define INJECT_STEP	64		/* bytes, less than anything that is allocated has */
#define INJECT_TIMES	1000000

/* What may fail at all: everything, the allocations that may sleep included. */
static struct inject_knob {
	const char *path;
	const char *value;
	char saved[16];
} inject_knobs[] = {
	{ "failslab/ignore-gfp-wait", "N" },
	{ "failslab/cache-filter", "N" },
	{ "failslab/task-filter", "Y" },
	{ "failslab/interval", "1" },
	{ "failslab/probability", "0" },
	{ "failslab/space", "0" },
	{ "failslab/times", "-1" },
	{ "failslab/verbose", "0" },
	{ "fail_page_alloc/ignore-gfp-wait", "N" },
	{ "fail_page_alloc/ignore-gfp-highmem", "N" },
	{ "fail_page_alloc/min-order", "0" },
	{ "fail_page_alloc/verbose", "0" },
	{ "fail_usercopy/verbose", "0" },
};

static const struct inject_knob inject_knob_times = { "failslab/times" };

__thread int inject_fd = -1;
static int inject_probability, inject_space, inject_times;	/* to write to */

static int inject_open_knob(const struct inject_knob *knob, int flags)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/kernel/debug/%s", knob->path);
	return open(path, flags | O_CLOEXEC);
}

static bool inject_set_knob(struct inject_knob *knob)
{
	int fd = inject_open_knob(knob, O_RDWR);
	bool ok;

	if (fd < 0)
		return false;
	ok = read(fd, knob->saved, sizeof(knob->saved) - 1) > 0 &&
	     write(fd, knob->value, strlen(knob->value)) > 0;
	close(fd);
	return ok;
}

bool inject_open(void)
{
	inject_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	return inject_fd >= 0;
}

/* Whether the task filter lets this thread through. */
static bool inject_mark_thread(bool mark)
{
	int fd = open("/proc/thread-self/make-it-fail", O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, mark ? "1" : "0", 1) == 1;

	if (fd >= 0)
		close(fd);
	return ok;
}

void inject_spare_thread(void)
{
	TEST_ASSERT(inject_mark_thread(false), "make-it-fail: %s", strerror(errno));
}

bool inject_start(void)
{
	const struct inject_knob probability = { "failslab/probability" };
	const struct inject_knob space = { "failslab/space" };
	unsigned int i;

	if (!inject_open() || !inject_mark_thread(true))
		return false;
	for (i = 0; i < ARRAY_SIZE(inject_knobs); i++)
		if (!inject_set_knob(&inject_knobs[i]))
			return false;
	/* Open all the time: to open them again takes memory. */
	inject_probability = inject_open_knob(&probability, O_WRONLY);
	inject_space = inject_open_knob(&space, O_WRONLY);
	inject_times = inject_open_knob(&inject_knob_times, O_WRONLY);
	return inject_probability >= 0 && inject_space >= 0 && inject_times >= 0;
}

void inject_stop(void)
{
	unsigned int i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(inject_knobs); i++) {
		if (!inject_knobs[i].saved[0])
			continue;
		fd = inject_open_knob(&inject_knobs[i], O_WRONLY);
		if (fd < 0 || write(fd, inject_knobs[i].saved, strlen(inject_knobs[i].saved)) < 0)
			printf("# %s is not set back\n", inject_knobs[i].path);
		if (fd >= 0)
			close(fd);
	}
	if (inject_fd >= 0)
		close(inject_fd);
}

static void inject_write(int fd, unsigned int val)
{
	char buf[16];
	int len = snprintf(buf, sizeof(buf), "%u", val);

	TEST_ASSERT(write(fd, buf, len) == len, "%u: %s", val, strerror(errno));
}

/* From now on the nth allocation or copy fails, or all from some allocation on. */
static void inject_arm(enum inject_how how, unsigned int n)
{
	if (how == INJECT_NTH) {
		inject_write(inject_fd, n);
	} else {
		inject_write(inject_space, (n - 1) * INJECT_STEP);
		inject_write(inject_times, INJECT_TIMES);
		inject_write(inject_probability, 100);
	}
}

/*
 * Returns whether the nth was reached.  The read copies, so if the next copy was to
 * fail it is the one that does.
 */
static bool inject_disarm_nth(void)
{
	char buf[16] = {};
	ssize_t r = pread(inject_fd, buf, sizeof(buf) - 1, 0);

	if (r < 0) {
		TEST_ASSERT(errno == EFAULT, "fail-nth: %s", strerror(errno));
		return false;
	}
	if (!atoi(buf))
		return true;
	/* The write copies, too: it fails, or it is what it says. */
	if (write(inject_fd, "0", 1) != 1)
		TEST_ASSERT(errno == EFAULT, "fail-nth: %s", strerror(errno));
	return false;
}

static unsigned int inject_times_left(void)
{
	int fd = inject_open_knob(&inject_knob_times, O_RDONLY);
	char buf[16] = {};

	TEST_ASSERT(fd >= 0 && read(fd, buf, sizeof(buf) - 1) > 0, "times: %s", strerror(errno));
	close(fd);
	return atoi(buf);
}

/* No more faults.  Returns whether there was one since inject_arm(). */
static bool inject_disarm(enum inject_how how)
{
	if (how == INJECT_NTH)
		return inject_disarm_nth();
	inject_write(inject_probability, 0);
	return inject_times_left() != INJECT_TIMES;
}

/* Open descriptors, without opening one to find out. */
static int inject_count_fds(void)
{
	int fd, n = 0;

	for (fd = 0; fd < INJECT_FDS; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* The call has failed: it has changed nothing, and works when it is called again. */
static void inject_failed(struct env *e, const struct inject_op *op, struct inject_count *c,
			  int err, unsigned int n)
{
	int r;

	TEST_ASSERT(err < 32 && ((op->errs | op->more_errs) & ERR(err)),
		    "%s: fault %u gives %s", op->name, n, strerror(err));
	c->err[err]++;
	if (op->unchanged)
		op->unchanged(e);
	r = op->call(e);
	TEST_ASSERT(r >= 0, "%s: %s after fault %u", op->name, strerror(-r), n);
}

bool inject_nth(struct env *e, const struct inject_op *op, struct inject_count *c, unsigned int n)
{
	int fds, r;
	bool injected;

	if (op->prepare)
		op->prepare(e);
	fds = inject_count_fds();
	inject_arm(c->how, n);
	r = op->call(e);
	injected = inject_disarm(c->how);
	TEST_ASSERT(injected || r >= 0, "%s: %s without a fault", op->name, strerror(-r));
	TEST_ASSERT(inject_count_fds() == fds + (r < 0 ? 0 : op->fds),
		    "%s: fault %u: %d descriptors", op->name, n, inject_count_fds() - fds);
	c->calls += injected;
	if (r < 0)
		inject_failed(e, op, c, -r, n);
	else
		c->absorbed += injected;
	op->changed(e);
	return injected;
}

void inject_add(struct env *e, const struct inject_op *op, struct inject_count *c)
{
	/* What fails first has been seen by itself, so it need not be each that is the first. */
	unsigned int step = c->how == INJECT_FROM && vm2vm_trials(100) < 10 ? 3 : 1;
	unsigned int n = 1;

	while (inject_nth(e, op, c, n)) {
		if (op->undo)
			op->undo(e);
		n += step;
		TEST_ASSERT(n < INJECT_MAX, "%s: no end of faults", op->name);
	}
}

void inject_report(const struct inject_op *op, const struct inject_count *c)
{
	unsigned int err;

	printf("# %-16s %-16s %4u calls, %4u ENOMEM, %3u EFAULT, %2u EAGAIN, %4u absorbed\n",
	       op->name, c->how == INJECT_NTH ? "1 fault" : "out of memory", c->calls,
	       c->err[ENOMEM], c->err[EFAULT], c->err[EAGAIN], c->absorbed);
	fflush(stdout);
	for (err = 0; err < 32; err++)
		TEST_ASSERT(!(op->errs & ERR(err)) || c->err[err] || c->how == INJECT_FROM,
			    "%s: never %s", op->name, strerror(err));
}

void inject(struct env *e, const struct inject_op *op)
{
	struct inject_count nth = { .how = INJECT_NTH }, from = { .how = INJECT_FROM };

	inject_add(e, op, &nth);
	inject_report(op, &nth);
	if (op->undo)
		op->undo(e);
	inject_add(e, op, &from);
	inject_report(op, &from);
}
