/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_dirty_test: VMs that write, as a backend or as the owner.
 */
#ifndef SELFTEST_KVM_VM2VM_DIRTY_VM_H
#define SELFTEST_KVM_VM2VM_DIRTY_VM_H

#include <pthread.h>

#include "guest.h"
#include "vm2vm_shapes_node.h"

#define DIRTY_RING	4096		/* entries */

/**
 * struct dirty_vm - a VM with one vCPU
 * @vm: its descriptor
 * @vcpu: of its vCPU
 * @run: of its vCPU
 * @ram: its own memory
 * @ctl: see there
 * @ring: the vCPU's dirty ring, or NULL
 * @fetch: its next entry
 * @thread: runs the vCPU if @running
 * @running: whether it does
 * @exits: how often KVM_RUN has returned
 * @nap: us that the VMM sleeps when the guest offers the CPU to others
 * @mmio: number of bytes that were accessed in holes
 * @dev_val: what is in the device
 */
struct dirty_vm {
	int vm;
	int vcpu;
	struct kvm_run *run;
	void *ram;
	struct dirty_ctl *ctl;
	struct kvm_dirty_gfn *ring;
	uint32_t fetch;
	pthread_t thread;
	bool running;
	uint64_t exits;
	unsigned int nap;
	unsigned int mmio;
	uint64_t dev_val;
};

/* Let others run for so long: usleep() takes several ms where there is no better timer. */
void dirty_nap(unsigned int us);

/* What all VMs of a test begin with; instead of node_template_init(). */
void dirty_template_init(void);

/* The VM is to have this capability, or rings. */
void dirty_enable_cap(int vm, uint32_t cap, uint64_t arg);
void dirty_enable_ring(int vm);

/* The VM without anything in it; its kind of log has to be set before the rest. */
void dirty_vm_begin(struct dirty_vm *v, unsigned int id);

/* The rest: its memory and its vCPU, with a ring or without. */
void dirty_vm_complete(struct dirty_vm *v, bool ring);

void dirty_vm_create(struct dirty_vm *v, unsigned int id);

/* A second vCPU of @v, with a number of its own; it ends before @v does. */
void dirty_second_vcpu(struct dirty_vm *second, struct dirty_vm *v, unsigned int id);

/* Run the guest until it is done. */
void dirty_run(struct dirty_vm *v);

/* This thread is not to be in the way of others. */
void dirty_low_priority(void);

/* Let the guest do this to @count pages from @addr on, until dirty_stop(). */
void dirty_go(struct dirty_vm *v, enum dirty_op op, uint64_t addr, uint64_t count);

/* Returns at once; dirty_stop() waits. */
static inline void dirty_ask_stop(struct dirty_vm *v)
{
	WRITE_ONCE(v->ctl->op, DIRTY_STOP);
}

/* Wait until the guest is done. */
void dirty_stop(struct dirty_vm *v);

/*
 * The vCPU has left its guest once: what the CPU itself keeps of a log is out.  One
 * signal may come just before KVM_RUN, which then knows nothing of it.
 */
void dirty_kick(struct dirty_vm *v);

/* Wait until the guest has begun and ended @n passes from now on. */
void dirty_wait_passes(struct dirty_vm *v, uint64_t n);

/* Have the guest do this to @count pages from @addr on, and wait. */
void dirty_do(struct dirty_vm *v, enum dirty_op op, uint64_t addr, uint64_t count, uint64_t val);

void dirty_vcpu_destroy(struct dirty_vm *v);

void dirty_vm_destroy(struct dirty_vm *v);

#endif /* SELFTEST_KVM_VM2VM_DIRTY_VM_H */
