/* SPDX-License-Identifier: GPL-2.0-only */
/* vm2vm: bells, which vm2vm_irq.c has and vm2vm_doorbell.c rings. */
#ifndef __KVM_VM2VM_IRQ_H__
#define __KVM_VM2VM_IRQ_H__

#include <linux/kvm_vm2vm.h>
#include <linux/rhashtable-types.h>
#include <linux/spinlock.h>
#include <linux/types.h>

struct eventfd_ctx;
struct kvm_kernel_irqfd;
struct kvm_vcpu;

/**
 * struct vm2vm_bell - an eventfd that doorbells ring
 * @node: in the table of bells
 * @eventfd: with a reference
 * @lock: held by who rings @irqfd, and to change it: who has changed it knows that
 *	  nobody uses the one before any more
 * @irqfd: what is behind it, if it is active
 * @target: where its interrupt went last
 * @doorbells: number of references
 */
struct vm2vm_bell {
	struct rhash_head node;
	struct eventfd_ctx *eventfd;
	spinlock_t lock;	/* see above */
	struct kvm_kernel_irqfd *irqfd;
	struct kvm_vm2vm_target target;
	unsigned int doorbells;
};

/* What became of a ring. */
enum vm2vm_ring {
	VM2VM_RING_DIRECT,	/* the interrupt is injected */
	VM2VM_RING_DEFERRED,	/* it will be, by the irqfd's work item */
	VM2VM_RING_SIGNALLED,	/* there is no irqfd: the eventfd is signalled */
};

struct vm2vm_bell *vm2vm_bell_get(int fd);
void vm2vm_bell_put(struct vm2vm_bell *bell);
enum vm2vm_ring vm2vm_ring(struct kvm_vcpu *vcpu, struct vm2vm_bell *bell);
enum vm2vm_ring vm2vm_ring_irqoff(struct kvm_vcpu *vcpu, struct vm2vm_bell *bell);

#endif /* __KVM_VM2VM_IRQ_H__ */
