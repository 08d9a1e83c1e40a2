// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_bench: what a ring costs, by a doorbell, by ioeventfd and irqfd, and by these
 * with a thread of the VMM in between.
 *
 * The host's side alone is measured with a peer whose vCPU is not in KVM_RUN: all that
 * is left out is to wake it.  The way to the first instruction of the peer's handler
 * is measured between two vCPUs that halt in turns, on one CPU, so that nothing is
 * counted that goes on meanwhile.
 */
#include <sched.h>

#include "bench.h"
#include "vm2vm_bench_vm.h"
#include "vm2vm_doorbell.h"

enum bench_way { WAY_DOORBELL, WAY_IOEVENTFD, WAY_RELAY, WAYS };

static const char * const bench_ways[] = { "doorbell", "ioeventfd", "relay" };

static const struct bell_at bench_at[] = {
	{ true, BELL_PORT, 2 },
	{ false, BELL_MMIO, 2 },
};

static const char * const bench_at_names[] = { "port", "memory" };

/**
 * struct bench_ring - one way to ring
 * @way: it
 * @kick: what the guest's write signals
 * @call: what the peer's irqfd listens to; the same, if nobody relays
 * @relay: who does
 */
struct bench_ring {
	enum bench_way way;
	int kick;
	int call;
	pthread_t relay;
};

/* Stay on the last CPU, and all threads with us. */
static void bench_pin(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &set);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity: %s",
		    strerror(errno));
}

static void *bench_relay(void *arg)
{
	struct bench_ring *r = arg;
	uint64_t n;

	for (;;) {
		TEST_ASSERT(read(r->kick, &n, sizeof(n)) == sizeof(n), "read: %s", strerror(errno));
		if (n > 1000000)
			return NULL;
		TEST_ASSERT(write(r->call, &n, sizeof(n)) == sizeof(n), "write: %s",
			    strerror(errno));
	}
}

static void bench_set_ioeventfd(struct bell_vm *v, struct bell_at at, int fd, bool off)
{
	struct kvm_ioeventfd io = {
		.addr = at.addr, .len = at.len, .fd = fd,
		.flags = (at.pio ? KVM_IOEVENTFD_FLAG_PIO : 0) |
			 (off ? KVM_IOEVENTFD_FLAG_DEASSIGN : 0),
	};

	vm_ioctl(v->vm, KVM_IOEVENTFD, &io);
}

/* Let @from ring @to. */
static void bench_ring_begin(struct bench_ring *r, enum bench_way way, struct bell_vm *from,
			     struct bell_vm *to, struct bell_at at)
{
	r->way = way;
	r->kick = eventfd(0, EFD_CLOEXEC);
	r->call = way == WAY_RELAY ? bell_eventfd() : r->kick;
	bell_irqfd(to, r->call, BELL_GSI);
	if (way == WAY_DOORBELL)
		bell_doorbell(from, at, at.len, r->kick);
	else
		bench_set_ioeventfd(from, at, r->kick, false);
	if (way == WAY_RELAY)
		TEST_ASSERT(!pthread_create(&r->relay, NULL, bench_relay, r), "pthread_create");
}

static void bench_ring_end(struct bench_ring *r, struct bell_vm *from, struct bell_vm *to,
			   struct bell_at at)
{
	uint64_t n = 10000000;

	if (r->way == WAY_DOORBELL)
		bell_doorbell_deassign(from, at, at.len, r->kick);
	else
		bench_set_ioeventfd(from, at, r->kick, true);
	if (r->way == WAY_RELAY) {
		TEST_ASSERT(write(r->kick, &n, sizeof(n)) == sizeof(n), "write");
		pthread_join(r->relay, NULL);
		close(r->call);
	}
	close(r->kick);
}

static u64 bench_bell_median(struct bell_vm *v)
{
	return bench_median(v->ctl->time, v->ctl->count);
}

/* What a ring takes of the vCPU that rings. */
static u64 bench_bell_host(struct bell_vm *a, struct bell_at at)
{
	bell_tell(a, BELL_TIME, at, 0, 0, BELL_TIMES);
	bell_run(a);
	TEST_ASSERT(!a->exits, "%lu writes went to the VMM", a->exits);
	return bench_bell_median(a);
}

/* Until it is heard; @b answers the same way. */
static u64 bench_bell_heard(struct bell_vm *a, struct bell_vm *b, struct bell_at at)
{
	bell_tell(b, BELL_HALT, at, 0, 0, 0);
	b->ctl->answer = 1;
	bell_start(b);
	/* It is halted before the first ring, or the first few say so. */
	bell_tell(a, BELL_PING, at, 0, 0, BELL_TIMES);
	bell_run(a);
	b->ctl->answer = 0;
	bell_stop(b);
	return bench_bell_median(a);
}

static void bench_many_doorbells(struct bell_vm *a, struct bell_vm *b)
{
	struct bell_at at = { true, BELL_PORT, 2 };
	u32 match = KVM_VM2VM_DOORBELL_PIO | KVM_VM2VM_DOORBELL_DATAMATCH;
	u64 one, many, same;
	unsigned int i;
	int fd = bell_eventfd();

	bell_irqfd(b, fd, BELL_GSI);
	bell_doorbell(a, at, 2, fd);
	one = bench_bell_host(a, at);
	for (i = 1; i < 1000; i++) {
		at.addr = BELL_PORT + 2 * i;
		bell_doorbell(a, at, 2, fd);
	}
	at.addr = BELL_PORT + 2 * 700;
	many = bench_bell_host(a, at);
	at.addr = 0xf000;
	for (i = 0; i < 1000; i++)
		TEST_ASSERT(!__vm2vm_doorbell(a->vm, at.addr, 2, i, fd, match), "doorbell");
	same = bench_bell_host(a, at);
	bench_figure("doorbell_1", one);
	bench_figure("doorbell_1000", many);
	bench_figure("doorbell_1000_ratio", (double)many / one);
	bench_figure("doorbell_1000_values_ratio", (double)same / one);
	close(fd);
}

#define BENCH_MASKS	64

/* What it takes the peer's VMM to mask an interrupt, with a doorbell that rings it or not. */
static void bench_mask(struct bell_vm *a, struct bell_vm *b)
{
	int fds[2] = { bell_eventfd(), bell_eventfd() };
	struct bell_at at = { true, 0xf800, 2 };
	u64 times[2][BENCH_MASKS], start;
	unsigned int i, j;

	bell_doorbell(a, at, 2, fds[1]);
	for (i = 0; i < BENCH_MASKS; i++) {
		for (j = 0; j < 2; j++) {
			bell_irqfd(b, fds[j], BELL_GSI + j);
			start = rdtsc();
			bell_irqfd_deassign(b, fds[j], BELL_GSI + j);
			times[j][i] = rdtsc() - start;
		}
	}
	bench_figure("irqfd_mask", bench_median(times[0], BENCH_MASKS));
	bench_figure("doorbell_mask", bench_median(times[1], BENCH_MASKS));
	bench_figure("doorbell_mask_ratio", (double)bench_median(times[1], BENCH_MASKS) /
					    bench_median(times[0], BENCH_MASKS));
	bell_doorbell_deassign(a, at, 2, fds[1]);
	for (j = 0; j < 2; j++)
		close(fds[j]);
}

static void bench_ring_figure(enum bench_way way, unsigned int at, const char *what, u64 val)
{
	char name[64];

	snprintf(name, sizeof(name), "%s_%s_%s", bench_ways[way], bench_at_names[at], what);
	bench_figure(name, val);
}

/* @cost is by the way to ring. */
static void bench_doorbell_ratio(const char *name, const u64 *cost, enum bench_way other)
{
	bench_figure(name, (double)cost[WAY_DOORBELL] / cost[other]);
}

void bench_doorbells(void)
{
	u64 host[2][WAYS], heard[2][WAYS], offset = 0;
	struct bench_ring there, back;
	struct bell_vm vms[2];
	unsigned int i, way;

	bench_pin();
	for (i = 0; i < 2; i++)
		bell_vm_init(&vms[i], true);
	/* A vCPU that halts is not to wait for the next interrupt before it sleeps. */
	for (i = 0; i < 2; i++)
		vm_enable_cap(vms[i].vm, KVM_CAP_HALT_POLL, 0);
	bell_pair(&vms[0], &vms[1]);
	for (i = 0; i < 2; i++) {
		vcpu_device_attr_set(vms[i].vcpu, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, &offset);
		bell_take(&vms[i]);
	}

	for (i = 0; i < ARRAY_SIZE(bench_at); i++) {
		for (way = 0; way < WAYS; way++) {
			bench_ring_begin(&there, way, &vms[0], &vms[1], bench_at[i]);
			bench_ring_begin(&back, way, &vms[1], &vms[0], bench_at[i]);
			host[i][way] = bench_bell_host(&vms[0], bench_at[i]);
			bell_take(&vms[1]);
			heard[i][way] = bench_bell_heard(&vms[0], &vms[1], bench_at[i]);
			bench_ring_end(&there, &vms[0], &vms[1], bench_at[i]);
			bench_ring_end(&back, &vms[1], &vms[0], bench_at[i]);
			bench_ring_figure(way, i, "host", host[i][way]);
			bench_ring_figure(way, i, "heard", heard[i][way]);
		}
	}
	bench_doorbell_ratio("doorbell_host_ratio", host[0], WAY_IOEVENTFD);
	bench_doorbell_ratio("doorbell_host_ratio_memory", host[1], WAY_IOEVENTFD);
	bench_doorbell_ratio("doorbell_heard_ratio", heard[0], WAY_IOEVENTFD);
	bench_doorbell_ratio("doorbell_relay_ratio", heard[0], WAY_RELAY);
	bench_doorbell_ratio("doorbell_relay_ratio_memory", heard[1], WAY_RELAY);
	bench_many_doorbells(&vms[0], &vms[1]);
	bench_mask(&vms[0], &vms[1]);
	for (i = 0; i < 2; i++)
		bell_vm_free(&vms[i]);
}
