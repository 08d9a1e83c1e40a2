/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Threads that are given no CPU: who starves is on HOG_CPU, with a thread of a real-time
 * priority, and everybody else on the others.  HOG_CPU's kworkers come before that.
 */
#ifndef SELFTEST_KVM_VM2VM_CPU_H
#define SELFTEST_KVM_VM2VM_CPU_H

#include <pthread.h>
#include <stdbool.h>

#define HOG_CPU		1

/* This thread, and what it starts, is to run on this CPU, or not on it. */
void pin_to(unsigned int cpu);
void stay_off(unsigned int cpu);

/*
 * Have real-time threads take HOG_CPU as a whole, and this thread, and what it starts, be
 * on another.  False: there is none, or the kernel always leaves something.
 */
bool hog_prepare(void);

/* As it was before. */
void hog_restore(void);

/**
 * struct hog - what has HOG_CPU for itself
 * @stop: it is to end
 * @seconds: it ends at any rate after so many, so that a test that waits goes on
 * @runs: it does
 * @thread: this
 */
struct hog {
	bool stop;
	double seconds;
	bool runs;
	pthread_t thread;
};

/* Returns when it runs. */
void hog_start(struct hog *h, double seconds);
void hog_stop(struct hog *h);

/* Since an arbitrary time. */
double now_seconds(void);

#endif /* SELFTEST_KVM_VM2VM_CPU_H */
