/* SPDX-License-Identifier: GPL-2.0-only */
/* vm2vm: bells, which vm2vm_irq.c has and vm2vm_doorbell.c rings. */
#ifndef __KVM_VM2VM_IRQ_H__
#define __KVM_VM2VM_IRQ_H__

#include <linux/types.h>

struct eventfd_ctx;
struct kvm_kernel_irqfd;
struct kvm_vcpu;

/**
 * struct vm2vm_bell - an eventfd that doorbells ring
 * @node: in the table of bells
 * @eventfd: with a reference
 * @irqfd: what is behind it, if it is active; read under RCU
 * @doorbells: number of references
 */
struct vm2vm_bell {
	struct hlist_node node;
	struct eventfd_ctx *eventfd;
	struct kvm_kernel_irqfd __rcu *irqfd;
	unsigned int doorbells;
};

/* What became of a ring. */
enum vm2vm_ring {
	VM2VM_RING_NOT,		/* nothing; once more, with interrupts on */
	VM2VM_RING_DIRECT,	/* the interrupt is injected */
	VM2VM_RING_DEFERRED,	/* it will be, by a work item */
	VM2VM_RING_SIGNALLED,	/* there is no irqfd: the eventfd is signalled */
};

struct vm2vm_bell *vm2vm_bell_get(int fd);
void vm2vm_bell_put(struct vm2vm_bell *bell);
enum vm2vm_ring vm2vm_ring(struct kvm_vcpu *vcpu, struct vm2vm_bell *bell,
			   bool atomic);

#endif /* __KVM_VM2VM_IRQ_H__ */
