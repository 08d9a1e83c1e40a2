// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_doorbell_test: what a doorbell costs those who do not ring it.  A guest that
 * masks an interrupt has its VMM take the irqfd away: nobody waits longer for that
 * because a doorbell rings it.
 */
#include <time.h>

#include "doorbell.h"

#define COST_FDS	256
#define COST_TIMES	21

static const struct bell_at cost_at = { true, BELL_PORT, 4 };

static uint64_t cost_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* What else the host has to do only adds to it: a grace period is in all of them. */
static uint64_t cost_least(const uint64_t *t, unsigned int n)
{
	uint64_t least = t[0];

	while (n--)
		least = t[n] < least ? t[n] : least;
	return least;
}

/* How long it takes to mask, in ns: fds[0], which nothing rings, and fds[1]. */
TEST_F_TIMEOUT(bell, mask_cost, 300)
{
	uint64_t times[2][COST_TIMES], start, plain, rung;
	struct bell_vm *a = &self->a, *b = &self->b;
	int fds[2] = { bell_eventfd(), bell_eventfd() };
	unsigned int i, j;

	bell_doorbell(a, cost_at, cost_at.len, fds[1]);
	for (i = 0; i < COST_TIMES; i++) {
		for (j = 0; j < 2; j++) {
			bell_irqfd(b, fds[j], BELL_GSI + j);
			bell_ring(a, cost_at, 0, 0, j);
			bell_take(b);
			start = cost_now();
			bell_irqfd_deassign(b, fds[j], BELL_GSI + j);
			times[j][i] = cost_now() - start;
		}
	}
	EXPECT_EQ(COST_TIMES, b->ctl->hits[1]);
	plain = cost_least(times[0], COST_TIMES);
	rung = cost_least(times[1], COST_TIMES);
	TH_LOG("KVM_IRQFD, deassign: %lu ns, with a doorbell %lu", plain, rung);
	EXPECT_GT(3 * plain, rung);
	close(fds[0]);
	close(fds[1]);
}

/* How long it takes to end a VM with many irqfds, of which each has been rung, or none. */
static uint64_t cost_end(struct bell_vm *a, int32_t *fds, bool doorbell)
{
	uint32_t flags = KVM_VM2VM_DOORBELL_PIO;
	struct kvm_vm *vm = vm_create_barebones();
	struct kvm_irqfd irqfd = {};
	uint64_t start;
	unsigned int i;
	int r = 0;

	vm_create_irqchip(vm);
	for (i = 0; i < COST_FDS; i++) {
		irqfd.fd = fds[i];
		irqfd.gsi = i % 16;
		vm_ioctl(vm, KVM_IRQFD, &irqfd);
	}
	if (doorbell)
		r = __vm2vm_doorbell_array(a->vm, cost_at.addr, cost_at.len, fds, COST_FDS, flags);
	TEST_ASSERT(!r, "KVM_VM2VM_DOORBELL: %s", strerror(-r));
	if (doorbell)
		bell_ring(a, cost_at, 0, 1, COST_FDS);
	start = cost_now();
	kvm_vm_free(vm);
	start = cost_now() - start;
	flags |= KVM_VM2VM_DOORBELL_DEASSIGN;
	if (doorbell)
		r = __vm2vm_doorbell_array(a->vm, cost_at.addr, cost_at.len, fds, COST_FDS, flags);
	TEST_ASSERT(!r, "KVM_VM2VM_DOORBELL, deassign: %s", strerror(-r));
	return start;
}

TEST_F_TIMEOUT(bell, end_cost, 300)
{
	uint64_t times[2][5], plain, rung;
	int32_t fds[COST_FDS];
	unsigned int i;

	for (i = 0; i < COST_FDS; i++)
		fds[i] = bell_eventfd();
	for (i = 0; i < 2 * ARRAY_SIZE(times[0]); i++)
		times[i % 2][i / 2] = cost_end(&self->a, fds, i % 2);
	plain = cost_least(times[0], ARRAY_SIZE(times[0]));
	rung = cost_least(times[1], ARRAY_SIZE(times[1]));
	TH_LOG("end of a VM with %u irqfds: %lu ns, with doorbells %lu", COST_FDS, plain, rung);
	EXPECT_GT(3 * plain, rung);
	for (i = 0; i < COST_FDS; i++)
		close(fds[i]);
}
