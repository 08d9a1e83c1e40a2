// SPDX-License-Identifier: GPL-2.0
/* Threads that are given no CPU. */
#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/compiler.h>
#include <sched.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "test_util.h"
#include "vm2vm_cpu.h"
#include "vm2vm_knob.h"

/* What the kernel leaves to other threads, and may have left before, in nanoseconds. */
#define FAIR_SERVER	"/sys/kernel/debug/sched/fair_server/cpu1/runtime"

#define HOG_PRIORITY	1
#define HOG_KWORKER	"kworker/1:"

static long fair_runtime = -1;

void pin_to(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(set), &set), "CPU %u: %s", cpu, strerror(errno));
}

void stay_off(unsigned int cpu)
{
	cpu_set_t set;

	TEST_ASSERT(!sched_getaffinity(0, sizeof(set), &set), "sched_getaffinity");
	CPU_CLR(cpu, &set);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(set), &set), "not CPU %u: %s", cpu,
		    strerror(errno));
}

/*
 * A CPU that sleeps has its timers run by another one, and what they start stays there.  A
 * grace period of SRCU's is such a thing.  If HOG_CPU's kworkers had no CPU either, the whole
 * host would wait for them, and not for the thread that is to starve.
 */
static void set_kworkers(int policy, int priority)
{
	struct sched_param param = { .sched_priority = priority };
	char path[64], name[32];
	struct dirent *entry;
	ssize_t len;
	DIR *proc;
	int fd;

	proc = opendir("/proc");
	TEST_ASSERT(proc, "/proc: %s", strerror(errno));
	while ((entry = readdir(proc))) {
		snprintf(path, sizeof(path), "/proc/%.32s/comm", entry->d_name);
		fd = open(path, O_RDONLY);
		len = fd < 0 ? -1 : read(fd, name, sizeof(name));
		if (len > 0 && !strncmp(name, HOG_KWORKER, strlen(HOG_KWORKER)))
			sched_setscheduler(atoi(entry->d_name), policy, &param);
		if (fd >= 0)
			close(fd);
	}
	closedir(proc);
}

bool hog_prepare(void)
{
	static_assert(HOG_CPU == 1, "FAIR_SERVER, HOG_KWORKER");
	fair_runtime = knob_read(FAIR_SERVER);
	if (fair_runtime < 0 || !knob_write(FAIR_SERVER, "0"))
		return false;
	stay_off(HOG_CPU);
	set_kworkers(SCHED_FIFO, HOG_PRIORITY + 1);
	return true;
}

void hog_restore(void)
{
	if (fair_runtime < 0)
		return;
	set_kworkers(SCHED_OTHER, 0);
	knob_write_long(FAIR_SERVER, fair_runtime);
}

double now_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void *hog_run(void *arg)
{
	struct sched_param param = { .sched_priority = HOG_PRIORITY };
	struct hog *h = arg;
	double end;

	pin_to(HOG_CPU);
	TEST_ASSERT(!sched_setscheduler(0, SCHED_FIFO, &param), "SCHED_FIFO: %s", strerror(errno));
	end = now_seconds() + h->seconds;
	WRITE_ONCE(h->runs, true);
	while (!READ_ONCE(h->stop) && now_seconds() < end)
		;
	return NULL;
}

void hog_start(struct hog *h, double seconds)
{
	set_kworkers(SCHED_FIFO, HOG_PRIORITY + 1); /* there may be new ones */
	*h = (struct hog) { .seconds = seconds };
	TEST_ASSERT(!pthread_create(&h->thread, NULL, hog_run, h), "pthread_create");
	while (!READ_ONCE(h->runs))
		usleep(1000);
}

void hog_stop(struct hog *h)
{
	WRITE_ONCE(h->stop, true);
	pthread_join(h->thread, NULL);
}
