/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_mmu_test: a guest that reads and writes one page of its window in a loop
 * without exits, while the page is taken away.
 */
#ifndef SELFTEST_KVM_VM2VM_MMU_SPIN_H
#define SELFTEST_KVM_VM2VM_MMU_SPIN_H

#include <pthread.h>

#include "vm2vm_mmu.h"

#define SPIN_OLD	0x01d01d01d01d01d0ull
#define SPIN_NEW	0x2222222222222222ull
#define SPIN_CANARY	0xdeadbeefdeadbeefull
#define SPIN_HOLE	(~0ull)

/* Two words of the page: the guest reads one, and writes the other. */
#define SPIN_READ	0
#define SPIN_WRITE	1

/* In the backend's memory. */
struct spin {
	uint64_t count;		/* passes of the loop */
	uint64_t last;		/* what was read last */
	uint64_t seen;		/* how often the canary was read */
	uint64_t stop;
};

static struct spin spin;

static inline void spin_guest(void)
{
	uint64_t *page = (uint64_t *)PEER_WINDOW;
	uint64_t val;

	peer_guest_interruptible();
	while (!READ_ONCE(spin.stop)) {
		WRITE_ONCE(page[SPIN_WRITE], spin.count);
		val = READ_ONCE(page[SPIN_READ]);
		if (val == SPIN_CANARY)
			spin.seen++;
		WRITE_ONCE(spin.last, val);
		WRITE_ONCE(spin.count, spin.count + 1);
	}
	GUEST_DONE();
}

static inline void *spin_vcpu(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	struct kvm_run *run = vcpu->run;
	struct ucall uc;

	for (;;) {
		vcpu_run(vcpu);
		if (run->exit_reason != KVM_EXIT_MMIO)
			break;
		if (!run->mmio.is_write)
			memset(run->mmio.data, 0xff, run->mmio.len);
	}
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_DONE, "exit reason %u (%s), ucall %lu %lu",
		    run->exit_reason, exit_reason_str(run->exit_reason), uc.cmd, uc.args[1]);
	return NULL;
}

/* Wait until the guest has been around its loop @n times from now on. */
static inline void spin_wait(struct spin *s, uint64_t n)
{
	uint64_t end = READ_ONCE(s->count) + n;
	struct timespec start, now;
	unsigned int i = 0;

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (READ_ONCE(s->count) < end) {
		if (++i % 1024)
			continue;
		clock_gettime(CLOCK_MONOTONIC, &now);
		TEST_ASSERT(now.tv_sec - start.tv_sec < 60, "the guest does not go on");
	}
}

static inline void spin_wait_for(struct spin *s, uint64_t val)
{
	unsigned int i;

	for (i = 0; i < 100000; i++) {
		spin_wait(s, 2);
		if (READ_ONCE(s->last) == val)
			return;
	}
	TEST_FAIL("the guest reads 0x%lx, not 0x%lx", s->last, val);
}

/* Let the guest reach a page that has the value SPIN_OLD, without exits. */
static inline void spin_begin(struct spin *s, uint64_t *page)
{
	WRITE_ONCE(page[SPIN_READ], SPIN_OLD);
	spin_wait_for(s, SPIN_OLD);
	spin_wait(s, 10);
}

/*
 * The page is revoked: put the canary into it, and nothing of the guest may come
 * to it or from it any more.  The guest reads @expect soon.
 */
static inline void spin_end(struct spin *s, uint64_t *page, uint64_t expect,
			    unsigned int trial)
{
	WRITE_ONCE(page[SPIN_READ], SPIN_CANARY);
	WRITE_ONCE(page[SPIN_WRITE], SPIN_CANARY);
	spin_wait(s, 3);
	TEST_ASSERT(!READ_ONCE(s->seen), "trial %u: the canary was seen", trial);
	TEST_ASSERT(READ_ONCE(page[SPIN_WRITE]) == SPIN_CANARY,
		    "trial %u: the canary was overwritten", trial);
	spin_wait_for(s, expect);
	TEST_ASSERT(!READ_ONCE(s->seen), "trial %u: the canary was seen", trial);
	WRITE_ONCE(page[SPIN_READ], SPIN_OLD);
}

/* Map a page of the file, anywhere or in the place of another. */
static inline void *spin_map_page(int memfd, unsigned int page, void *where)
{
	void *p = mmap(where, 4096, PROT_READ | PROT_WRITE,
		       MAP_SHARED | (where ? MAP_FIXED : 0), memfd, page * 4096);

	TEST_ASSERT(p != MAP_FAILED, "mmap: %s", strerror(errno));
	return p;
}

#endif /* SELFTEST_KVM_VM2VM_MMU_SPIN_H */
