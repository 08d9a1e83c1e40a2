// SPDX-License-Identifier: GPL-2.0
/* Threads that are given no CPU. */
#include <assert.h>
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

bool hog_prepare(void)
{
	static_assert(HOG_CPU == 1, "FAIR_SERVER");
	fair_runtime = knob_read(FAIR_SERVER);
	if (fair_runtime < 0 || !knob_write(FAIR_SERVER, "0"))
		return false;
	stay_off(HOG_CPU);
	return true;
}

void hog_restore(void)
{
	if (fair_runtime >= 0)
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
	struct sched_param param = { .sched_priority = 1 };
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
