/* SPDX-License-Identifier: GPL-2.0 */
/*
 * VMs that ring each other and count, for vm2vm_doorbell_test and vm2vm_bench.
 *
 * What a VM and the test tell each other is in a struct bell_ctl, which is memory of
 * that VM and of its peer.  So a guest that rings can wait until the other has seen
 * it, without an exit.
 */
#ifndef SELFTEST_KVM_VM2VM_DOORBELL_H
#define SELFTEST_KVM_VM2VM_DOORBELL_H

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "apic.h"
#include "kvm_util.h"
#include "processor.h"
#include "vm2vm_peer.h"

#define BELL_CTL	0x80000000ul	/* gpa and gva of a VM's own struct bell_ctl */
#define BELL_PEER	0x80100000ul	/* and of its peer's */
#define BELL_MMIO	0xd0000000ul	/* gpa and gva where there is nothing */
#define BELL_MMIO_SIZE	0x10000ul
#define BELL_PORT	0x1000		/* ports from here to 0xffff have nothing either */
#define BELL_DONE	0xd0		/* port by which the guest says so */

#define BELL_WAKE	0x3f		/* vector that counts for nothing */
#define BELL_VECTOR	0x40		/* first of those that count */
#define BELL_VECTORS	64
#define BELL_GSI	24		/* first that has no pin */
#define BELL_GSIS	1100

#define BELL_TIMES	256

#define BELL_PATIENCE	0x10000000ul	/* passes until a ring counts as lost */

enum bell_op {
	BELL_RING,
	BELL_ACKED,		/* ring, and wait until it is heard */
	BELL_TALK,		/* the same, then listen */
	BELL_BURST,
	BELL_TOGETHER,		/* ring when another VM does, and wait until both are heard */
	BELL_STRING,		/* ring once, by REP OUTS */
	BELL_TIME,		/* how long a ring takes */
	BELL_PING,		/* and until it is heard; between two that are halted */
	BELL_HALT,		/* listen */
	BELL_SPIN,		/* listen */
	BELL_STI,		/* ring once, right after STI */
};

/**
 * struct bell_ctl - of one VM
 * @op: what the guest is to do
 * @pio: how it rings: by OUT, or by a write to memory
 * @addr: where
 * @len: bytes
 * @val: what it writes
 * @step: what it adds to that each time
 * @mask: of the bits of it that it writes
 * @count: how often it rings, or how many bursts
 * @vector: which of the peer's counters says that it was heard
 * @stop: end of listening
 * @sent: how often it rang
 * @seq: told to the peer by memory, before each ring
 * @lost: a ring was not heard
 * @hits: interrupts, by vector
 * @total: all of them
 * @seen: the peer's @seq, as the handler saw it last
 * @id: which of two VMs this is, that ring the same peer
 * @rung: told by each of them, before each ring; in that peer's struct bell_ctl
 * @heard: @rung, as the handler saw it last
 * @answer: the handler is to ring, too
 * @arrived: time stamp counter at the begin of the handler
 * @after: the instruction after the OUT of BELL_STI
 * @interrupted: where the last interrupt came
 * @time: what took how long
 * @string: what is written by REP OUTS, @count values of @len bytes
 */
struct bell_ctl {
	uint64_t op;
	uint64_t pio;
	uint64_t addr;
	uint64_t len;
	uint64_t val;
	uint64_t step;
	uint64_t mask;
	uint64_t count;
	uint64_t vector;
	uint64_t stop;
	uint64_t sent;
	uint64_t seq;
	uint64_t lost;
	uint64_t hits[BELL_VECTORS];
	uint64_t total;
	uint64_t seen;
	uint64_t id;
	uint64_t rung[2];
	uint64_t heard[2];
	uint64_t answer;
	uint64_t arrived;
	uint64_t after;
	uint64_t interrupted;
	union {
		uint64_t time[BELL_TIMES];
		uint8_t string[BELL_TIMES * 8];
	};
};

/**
 * struct bell_vm - a VM with one vCPU
 * @vm: the VM
 * @vcpu: its vCPU
 * @ctl: its struct bell_ctl
 * @routing: its GSI routing
 * @thread: what runs its vCPU, if @running
 * @running: see there
 * @done: the guest has said so
 * @exits: writes that came to the VMM
 * @exit_addr: of the last, port or gpa
 * @exit_val: its value
 */
struct bell_vm {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct bell_ctl *ctl;
	struct kvm_irq_routing *routing;
	pthread_t thread;
	bool running;
	bool done;
	uint64_t exits;
	uint64_t exit_addr;
	uint64_t exit_val;
};

/* Where and how to ring. */
struct bell_at {
	bool pio;
	uint64_t addr;
	uint32_t len;
};

static inline void bell_set_routing(struct bell_vm *v)
{
	vm_ioctl(v->vm, KVM_SET_GSI_ROUTING, v->routing);
}

/* Let @gsi be an MSI with the @n th vector that counts. */
void bell_msi(struct bell_vm *v, unsigned int gsi, unsigned int n);

/* Set up a pin of the I/O APIC: the vector that counts as @n, by level or edge. */
void bell_set_pin(struct bell_vm *v, unsigned int pin, unsigned int n, bool level, bool masked);

/* Let @gsi be a pin of @chip, too. */
void bell_add_pin(struct bell_vm *v, unsigned int gsi, unsigned int chip, unsigned int pin);

static inline void bell_map_ctl(struct bell_vm *v, uint32_t slot, uint64_t gpa,
				struct bell_ctl *ctl)
{
	vm_set_user_memory_region(v->vm, slot, 0, gpa, 4096, ctl);
}

struct bell_ctl *bell_new_ctl(void);

/* The VM, with every GSI from BELL_GSI on an MSI of the vector that counts for it. */
void bell_vm_init_ctl(struct bell_vm *v, bool msis, struct bell_ctl *ctl);

static inline void bell_vm_init(struct bell_vm *v, bool msis)
{
	bell_vm_init_ctl(v, msis, bell_new_ctl());
}

/* Let each see the other's struct bell_ctl. */
static inline void bell_pair(struct bell_vm *a, struct bell_vm *b)
{
	bell_map_ctl(a, 101, BELL_PEER, b->ctl);
	bell_map_ctl(b, 101, BELL_PEER, a->ctl);
}

/* Run the vCPU until the guest is done; count the writes that the VMM gets. */
void *bell_run(void *arg);

void bell_tell(struct bell_vm *v, enum bell_op op, struct bell_at at, uint64_t val, uint64_t step,
	       uint64_t count);

/* Have the guest write @count times, @val first and @step more each time. */
static inline void bell_ring(struct bell_vm *v, struct bell_at at, uint64_t val,
			     uint64_t step, uint64_t count)
{
	bell_tell(v, BELL_RING, at, val, step, count);
	bell_run(v);
}

void bell_start(struct bell_vm *v);

void bell_join(struct bell_vm *v);

/* Let the guest listen: halted, or running. */
static inline void bell_listen(struct bell_vm *v, enum bell_op op)
{
	bell_tell(v, op, (struct bell_at) {}, 0, 0, 0);
	bell_start(v);
}

void bell_stop(struct bell_vm *v);

/* Let the guest take what is pending. */
static inline void bell_take(struct bell_vm *v)
{
	bell_tell(v, BELL_RING, (struct bell_at) {}, 0, 0, 0);
	bell_run(v);
}

void bell_vm_free(struct bell_vm *v);

int bell_eventfd(void);

/* What is pending in an eventfd, and is not any more. */
static inline uint64_t bell_pending(int fd)
{
	uint64_t n;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

int __bell_irqfd(struct bell_vm *v, int fd, unsigned int gsi, uint32_t flags, int resamplefd);

static inline void bell_irqfd(struct bell_vm *v, int fd, unsigned int gsi)
{
	int r = __bell_irqfd(v, fd, gsi, 0, 0);

	TEST_ASSERT(!r, "KVM_IRQFD: %s", strerror(-r));
}

static inline void bell_irqfd_deassign(struct bell_vm *v, int fd, unsigned int gsi)
{
	int r = __bell_irqfd(v, fd, gsi, KVM_IRQFD_FLAG_DEASSIGN, 0);

	TEST_ASSERT(!r, "KVM_IRQFD, deassign: %s", strerror(-r));
}

static inline uint32_t bell_flags(struct bell_at at)
{
	return at.pio ? KVM_VM2VM_DOORBELL_PIO : 0;
}

static inline void bell_doorbell(struct bell_vm *v, struct bell_at at, uint32_t len, int fd)
{
	int r = __vm2vm_doorbell(v->vm, at.addr, len, 0, fd, bell_flags(at));

	TEST_ASSERT(!r, "KVM_VM2VM_DOORBELL: %s", strerror(-r));
}

void bell_doorbell_deassign(struct bell_vm *v, struct bell_at at, uint32_t len, int fd);

#endif /* SELFTEST_KVM_VM2VM_DOORBELL_H */
