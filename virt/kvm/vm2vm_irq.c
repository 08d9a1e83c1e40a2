// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: from a doorbell to the peer's interrupt.
 *
 * A doorbell rings an eventfd, and an irqfd of the peer may be behind that: whoever
 * holds the eventfd may ring, and whoever holds it may listen.  So a route is found
 * by eventfd.  There is a bell for each eventfd that has a doorbell, and a bell knows
 * the irqfd that the eventfd would wake: the one that was made first, and no other, as
 * they are exclusive.
 *
 * KVM's irqfds tell when they come and go.  A ring takes the way that an irqfd takes
 * when its eventfd is signalled, but for the signal, the wait queue and, as far as
 * it can be, the work item.  If there is no irqfd, or it is going, the eventfd is
 * signalled: what is pending there is what the next irqfd begins with, or what a
 * VMM reads.  So nothing is lost on the way from one to the other.
 *
 * The bypass manager (virt/lib/irqbypass.c) is not used, though it matches by eventfd,
 * too: it permits one producer for each, there may be many doorbells, and to x86 a
 * producer is an interrupt of the host.
 */
#include <linux/eventfd.h>
#include <linux/hashtable.h>
#include <linux/kvm_host.h>
#include <linux/kvm_irqfd.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

#include "vm2vm_irq.h"

/*
 * Protects both tables, and vm2vm_bell.irqfd and .doorbells.  Taken with interrupts
 * off; inside the irqfds.lock of a VM.
 */
static DEFINE_SPINLOCK(vm2vm_bells_lock);
static DEFINE_HASHTABLE(vm2vm_bells, 10);
static DEFINE_HASHTABLE(vm2vm_irqfds, 10);

/* The irqfd that @eventfd would wake. */
static struct kvm_kernel_irqfd *vm2vm_find_irqfd(struct eventfd_ctx *eventfd)
{
	struct kvm_kernel_irqfd *irqfd, *oldest = NULL;

	lockdep_assert_held(&vm2vm_bells_lock);

	/* New ones are added in front. */
	hash_for_each_possible(vm2vm_irqfds, irqfd, vm2vm.node,
			       (unsigned long)eventfd) {
		if (irqfd->eventfd == eventfd)
			oldest = irqfd;
	}
	return oldest;
}

static struct vm2vm_bell *vm2vm_find_bell(struct eventfd_ctx *eventfd)
{
	struct vm2vm_bell *bell;

	lockdep_assert_held(&vm2vm_bells_lock);

	hash_for_each_possible(vm2vm_bells, bell, node, (unsigned long)eventfd) {
		if (bell->eventfd == eventfd)
			return bell;
	}
	return NULL;
}

static void vm2vm_bell_route(struct vm2vm_bell *bell,
			     struct kvm_kernel_irqfd *irqfd)
{
	lockdep_assert_held(&vm2vm_bells_lock);

	if (irqfd)
		irqfd->vm2vm.routed = true;
	rcu_assign_pointer(bell->irqfd, irqfd);
}

/**
 * vm2vm_bell_get - find or make the bell of an eventfd
 * @fd: file descriptor of an eventfd
 *
 * Return: the bell, for vm2vm_bell_put(), or an ERR_PTR().
 */
struct vm2vm_bell *vm2vm_bell_get(int fd)
{
	struct vm2vm_bell *bell, *new;
	struct eventfd_ctx *eventfd;

	eventfd = eventfd_ctx_fdget(fd);
	if (IS_ERR(eventfd))
		return ERR_CAST(eventfd);

	new = kzalloc(sizeof(*new), GFP_KERNEL_ACCOUNT);
	if (!new) {
		eventfd_ctx_put(eventfd);
		return ERR_PTR(-ENOMEM);
	}

	spin_lock_irq(&vm2vm_bells_lock);
	bell = vm2vm_find_bell(eventfd);
	if (!bell) {
		swap(bell, new);
		bell->eventfd = eventfd;
		vm2vm_bell_route(bell, vm2vm_find_irqfd(eventfd));
		hash_add(vm2vm_bells, &bell->node, (unsigned long)eventfd);
	}
	bell->doorbells++;
	spin_unlock_irq(&vm2vm_bells_lock);

	if (new) {
		eventfd_ctx_put(eventfd);
		kfree(new);
	}
	return bell;
}

/* Drop a doorbell's reference, once nobody can ring that doorbell any more. */
void vm2vm_bell_put(struct vm2vm_bell *bell)
{
	bool last;

	spin_lock_irq(&vm2vm_bells_lock);
	last = !--bell->doorbells;
	if (last)
		hash_del(&bell->node);
	spin_unlock_irq(&vm2vm_bells_lock);

	if (last) {
		eventfd_ctx_put(bell->eventfd);
		kfree(bell);
	}
}

/*
 * @irqfd becomes active.  Called with irqfds.lock held, as is the next: so the order
 * here is that of the VM's list.
 */
void kvm_vm2vm_irqfd_add(struct kvm_kernel_irqfd *irqfd)
{
	struct vm2vm_bell *bell;

	lockdep_assert_held(&irqfd->kvm->irqfds.lock);

	spin_lock(&vm2vm_bells_lock);
	hash_add(vm2vm_irqfds, &irqfd->vm2vm.node, (unsigned long)irqfd->eventfd);
	bell = vm2vm_find_bell(irqfd->eventfd);
	if (bell && !rcu_access_pointer(bell->irqfd))
		vm2vm_bell_route(bell, irqfd);
	spin_unlock(&vm2vm_bells_lock);
}

/* @irqfd is deactivated: its bell rings another one's, or the eventfd. */
void kvm_vm2vm_irqfd_del(struct kvm_kernel_irqfd *irqfd)
{
	struct vm2vm_bell *bell;

	lockdep_assert_held(&irqfd->kvm->irqfds.lock);

	spin_lock(&vm2vm_bells_lock);
	hash_del(&irqfd->vm2vm.node);
	bell = vm2vm_find_bell(irqfd->eventfd);
	if (bell)
		vm2vm_bell_route(bell, vm2vm_find_irqfd(irqfd->eventfd));
	spin_unlock(&vm2vm_bells_lock);
}

/*
 * Wait for those who ring @irqfd, which is deactivated, so that its memory, its
 * resampler and its VM may go.
 */
void kvm_vm2vm_irqfd_sync(struct kvm_kernel_irqfd *irqfd)
{
	/* Pairs with rcu_read_lock() in vm2vm_ring_direct(). */
	if (irqfd->vm2vm.routed)
		synchronize_rcu();
}

/*
 * Inject the interrupt of @irqfd as irqfd_wakeup() would.  The SRCU makes sure that
 * no route is used any more once its update has returned.
 */
static enum vm2vm_ring vm2vm_inject(struct kvm_kernel_irqfd *irqfd, bool atomic)
{
	struct kvm_kernel_irq_routing_entry irq;
	enum vm2vm_ring how = VM2VM_RING_DIRECT;
	struct kvm *kvm = irqfd->kvm;
	unsigned int seq;
	int idx;

	idx = srcu_read_lock(&kvm->irq_srcu);
	do {
		seq = read_seqcount_begin(&irqfd->irq_entry_sc);
		irq = irqfd->irq_entry;
	} while (read_seqcount_retry(&irqfd->irq_entry_sc, seq));

	/* Of one that is deactivated the route may be old, see irqfd_wakeup(). */
	if (unlikely(list_empty(&irqfd->list))) {
		how = VM2VM_RING_SIGNALLED;
	} else if (kvm_arch_set_irq_inatomic(&irq, kvm, KVM_USERSPACE_IRQ_SOURCE_ID,
					     1, false) == -EWOULDBLOCK) {
		if (irq.type == KVM_IRQ_ROUTING_XEN_EVTCHN) {
			/* May sleep, and RCU may not. */
			schedule_work(&irqfd->inject);
			how = VM2VM_RING_DEFERRED;
		} else if (atomic) {
			how = VM2VM_RING_NOT;
		} else {
			/* What the work item would do takes spinlocks only. */
			irqfd->inject.func(&irqfd->inject);
		}
	}
	srcu_read_unlock(&kvm->irq_srcu, idx);
	return how;
}

static enum vm2vm_ring vm2vm_ring_direct(struct vm2vm_bell *bell, bool atomic)
{
	enum vm2vm_ring how = VM2VM_RING_SIGNALLED;
	struct kvm_kernel_irqfd *irqfd;

	rcu_read_lock();
	irqfd = rcu_dereference(bell->irqfd);
	if (irqfd)
		how = vm2vm_inject(irqfd, atomic);
	rcu_read_unlock();
	return how;
}

/**
 * vm2vm_ring - ring a bell for a vCPU
 * @vcpu: who rings, for its statistics; its VM's SRCU is held, which keeps the bell
 * @bell: what to ring
 * @atomic: interrupts are off
 *
 * Return: how; VM2VM_RING_NOT if it cannot be done with interrupts off.
 */
enum vm2vm_ring vm2vm_ring(struct kvm_vcpu *vcpu, struct vm2vm_bell *bell,
			   bool atomic)
{
	enum vm2vm_ring how = vm2vm_ring_direct(bell, atomic);

	switch (how) {
	case VM2VM_RING_DIRECT:
		vcpu->stat.vm2vm_rings_direct++;
		break;
	case VM2VM_RING_DEFERRED:
		vcpu->stat.vm2vm_rings_deferred++;
		break;
	case VM2VM_RING_SIGNALLED:
		vcpu->stat.vm2vm_rings_signalled++;
		eventfd_signal(bell->eventfd);
		break;
	case VM2VM_RING_NOT:
		break;
	}
	return how;
}
