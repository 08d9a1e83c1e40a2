/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_inject_test: make the allocations and copies of one call fail in turn.
 *
 * /proc/thread-self/fail-nth makes the nth one from now on fail that this thread
 * does in the kernel.  So n = 1, 2, ... reaches each of them, until a call gets
 * through in which there is no nth.
 *
 * Some allocations are tried again when they fail.  So another pass over the call
 * lets all that follow fail, too: the slab allocator hands out so many bytes to
 * this thread, and no more.
 */
#ifndef SELFTEST_KVM_VM2VM_INJECT_FAULTS_H
#define SELFTEST_KVM_VM2VM_INJECT_FAULTS_H

#include <stdbool.h>

#define ERR(e)		(1u << (e))

struct env;

/**
 * struct inject_op - a call to inject faults into
 * @name: for the output
 * @errs: mask of ERR(): each must come up
 * @more_errs: those may
 * @fds: descriptors that it opens
 * @prepare: done before each try, or NULL
 * @call: the call; returns -errno if it fails
 * @unchanged: check that the one that failed changed nothing, or NULL
 * @changed: check that it did what it is to do
 * @undo: take that back, or NULL
 */
struct inject_op {
	const char *name;
	unsigned int errs;
	unsigned int more_errs;
	int fds;
	void (*prepare)(struct env *e);
	int (*call)(struct env *e);
	void (*unchanged)(struct env *e);
	void (*changed)(struct env *e);
	void (*undo)(struct env *e);
};

enum inject_how { INJECT_NTH, INJECT_FROM };

/**
 * struct inject_count - what came of it
 * @how: of what
 * @calls: that had faults
 * @absorbed: those of them that got over it
 * @err: those that failed, by their errno
 */
struct inject_count {
	enum inject_how how;
	unsigned int calls;
	unsigned int absorbed;
	unsigned int err[32];
};

/* By what inject_nth() has faults injected into this thread. */
extern __thread int inject_fd;

/* Have inject_nth() work in this thread.  False if the kernel lacks what it takes. */
bool inject_open(void);

/* The same, and what may fail is set up; inject_stop() sets it back. */
bool inject_start(void);

void inject_stop(void);

/*
 * Have no faults in this thread.  A new thread takes its parent's mark along, and
 * memory runs out for all that are marked.
 */
void inject_spare_thread(void);

/* One call with the nth fault.  False if there is none: the call has got through. */
bool inject_nth(struct env *e, const struct inject_op *op, struct inject_count *c, unsigned int n);

/*
 * Fail every allocation and copy of a call in turn.  It is done in the end, and
 * not undone.
 */
void inject_add(struct env *e, const struct inject_op *op, struct inject_count *c);

/*
 * What was injected, which must be something of each kind that it can be; with memory
 * out altogether it is less, as the first failure may end it.
 */
void inject_report(const struct inject_op *op, const struct inject_count *c);

/* Both ways to have faults.  It is done in the end. */
void inject(struct env *e, const struct inject_op *op);

#endif /* SELFTEST_KVM_VM2VM_INJECT_FAULTS_H */
