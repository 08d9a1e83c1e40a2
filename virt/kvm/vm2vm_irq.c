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
 * KVM's irqfds tell when they come and go.  A ring does what an irqfd does when its
 * eventfd is signalled, but for the signal and the wait queue: it injects what can be
 * injected at once, and leaves the rest, pins and odd MSIs, to the irqfd's work item.
 * That has one at a time do it, so that no edge falls into another one.  If there is
 * no irqfd, or it is going, the eventfd is signalled: what is pending there is what
 * the next irqfd begins with, or what a VMM reads.  So nothing is lost on the way from
 * one to the other.
 *
 * A ring holds its bell's lock, as a signal holds that of the eventfd's wait queue.
 * Who takes an irqfd away takes that lock, too, and is done then: a guest can have its
 * VMM do so as often as it likes, by a mask bit, and no grace period comes of it.
 *
 * The bypass manager (virt/lib/irqbypass.c) is not used, though it matches by eventfd,
 * too: it permits one producer for each, there may be many doorbells, and to x86 a
 * producer is an interrupt of the host.
 */
#include <linux/eventfd.h>
#include <linux/kvm_host.h>
#include <linux/kvm_irqfd.h>
#include <linux/rhashtable.h>
#include <linux/slab.h>

#include "vm2vm_irq.h"

/*
 * Protects both tables, the lists of irqfds, and vm2vm_bell.doorbells.  Taken with
 * interrupts off; inside the irqfds.lock of a VM, and a bell's lock inside it.
 */
static DEFINE_SPINLOCK(vm2vm_bells_lock);
/* struct vm2vm_bell by eventfd. */
static struct rhashtable vm2vm_bells;
/* By eventfd, the irqfd that was made first; it begins the list of those that have it. */
static struct rhashtable vm2vm_irqfds;
/* Irqfds that the table had no memory for. */
static unsigned int vm2vm_nr_unknown;

static const struct rhashtable_params vm2vm_bells_params = {
	.key_len = sizeof_field(struct vm2vm_bell, eventfd),
	.key_offset = offsetof(struct vm2vm_bell, eventfd),
	.head_offset = offsetof(struct vm2vm_bell, node),
	.automatic_shrinking = true,
};

static const struct rhashtable_params vm2vm_irqfds_params = {
	.key_len = sizeof_field(struct kvm_kernel_irqfd, eventfd),
	.key_offset = offsetof(struct kvm_kernel_irqfd, eventfd),
	.head_offset = offsetof(struct kvm_kernel_irqfd, vm2vm.node),
	.automatic_shrinking = true,
};

/*
 * The irqfd that @eventfd would wake.  While an irqfd is not in the table it might be
 * that one, so then there is none: to signal the eventfd is never wrong.
 */
static struct kvm_kernel_irqfd *vm2vm_find_irqfd(struct eventfd_ctx *eventfd)
{
	lockdep_assert_held(&vm2vm_bells_lock);

	if (unlikely(vm2vm_nr_unknown))
		return NULL;
	return rhashtable_lookup_fast(&vm2vm_irqfds, &eventfd, vm2vm_irqfds_params);
}

static struct vm2vm_bell *vm2vm_find_bell(struct eventfd_ctx *eventfd)
{
	lockdep_assert_held(&vm2vm_bells_lock);

	return rhashtable_lookup_fast(&vm2vm_bells, &eventfd, vm2vm_bells_params);
}

/* When this returns, nobody uses what was behind @bell. */
static void vm2vm_bell_route(struct vm2vm_bell *bell, struct kvm_kernel_irqfd *irqfd)
{
	lockdep_assert_held(&vm2vm_bells_lock);

	spin_lock(&bell->lock);
	bell->irqfd = irqfd;
	bell->target.vcpu = NULL;
	spin_unlock(&bell->lock);
}

static struct vm2vm_bell *vm2vm_bell_alloc(struct eventfd_ctx *eventfd)
{
	struct vm2vm_bell *bell = kzalloc(sizeof(*bell), GFP_KERNEL_ACCOUNT);

	if (!bell)
		return NULL;
	bell->eventfd = eventfd;
	spin_lock_init(&bell->lock);
	return bell;
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
	int r = 0;

	eventfd = eventfd_ctx_fdget(fd);
	if (IS_ERR(eventfd))
		return ERR_CAST(eventfd);

	new = vm2vm_bell_alloc(eventfd);
	if (!new) {
		eventfd_ctx_put(eventfd);
		return ERR_PTR(-ENOMEM);
	}

	spin_lock_irq(&vm2vm_bells_lock);
	bell = vm2vm_find_bell(eventfd);
	if (!bell) {
		r = rhashtable_insert_fast(&vm2vm_bells, &new->node, vm2vm_bells_params);
		if (!r) {
			swap(bell, new);
			vm2vm_bell_route(bell, vm2vm_find_irqfd(eventfd));
		}
	}
	if (bell)
		bell->doorbells++;
	spin_unlock_irq(&vm2vm_bells_lock);

	if (new) {
		eventfd_ctx_put(eventfd);
		kfree(new);
	}
	/* The table says E2BIG and EBUSY, too, if it cannot grow just now. */
	return r ? ERR_PTR(-ENOMEM) : bell;
}

/* Drop a doorbell's reference, once nobody can ring that doorbell any more. */
void vm2vm_bell_put(struct vm2vm_bell *bell)
{
	bool last;

	spin_lock_irq(&vm2vm_bells_lock);
	last = !--bell->doorbells;
	if (last)
		rhashtable_remove_fast(&vm2vm_bells, &bell->node, vm2vm_bells_params);
	spin_unlock_irq(&vm2vm_bells_lock);

	/* The table's lookups are all under the lock, so no grace period is needed. */
	if (last) {
		eventfd_ctx_put(bell->eventfd);
		kfree(bell);
	}
}

/* Let @irqfd be found, after those that have its eventfd already. */
static void vm2vm_irqfd_insert(struct kvm_kernel_irqfd *irqfd)
{
	struct kvm_kernel_irqfd *first;

	lockdep_assert_held(&vm2vm_bells_lock);

	INIT_LIST_HEAD(&irqfd->vm2vm.same);
	first = rhashtable_lookup_fast(&vm2vm_irqfds, &irqfd->eventfd,
				       vm2vm_irqfds_params);
	if (first) {
		list_add_tail(&irqfd->vm2vm.same, &first->vm2vm.same);
		return;
	}
	irqfd->vm2vm.first = !rhashtable_insert_fast(&vm2vm_irqfds, &irqfd->vm2vm.node,
						     vm2vm_irqfds_params);
	irqfd->vm2vm.unknown = !irqfd->vm2vm.first;
	vm2vm_nr_unknown += irqfd->vm2vm.unknown;
}

static void vm2vm_irqfd_remove(struct kvm_kernel_irqfd *irqfd)
{
	struct kvm_kernel_irqfd *next;

	lockdep_assert_held(&vm2vm_bells_lock);

	vm2vm_nr_unknown -= irqfd->vm2vm.unknown;
	if (!irqfd->vm2vm.first) {
		list_del(&irqfd->vm2vm.same);
	} else if (list_empty(&irqfd->vm2vm.same)) {
		rhashtable_remove_fast(&vm2vm_irqfds, &irqfd->vm2vm.node,
				       vm2vm_irqfds_params);
	} else {
		next = list_next_entry(irqfd, vm2vm.same);
		list_del(&irqfd->vm2vm.same);
		rhashtable_replace_fast(&vm2vm_irqfds, &irqfd->vm2vm.node,
					&next->vm2vm.node, vm2vm_irqfds_params);
		next->vm2vm.first = true;
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
	vm2vm_irqfd_insert(irqfd);
	bell = vm2vm_find_bell(irqfd->eventfd);
	if (bell && !bell->irqfd)
		vm2vm_bell_route(bell, vm2vm_find_irqfd(irqfd->eventfd));
	spin_unlock(&vm2vm_bells_lock);
}

/*
 * @irqfd is deactivated: its bell rings another one's, or the eventfd.  When this
 * returns nobody rings @irqfd, so its memory, its resampler and its VM may go.
 */
void kvm_vm2vm_irqfd_del(struct kvm_kernel_irqfd *irqfd)
{
	struct vm2vm_bell *bell;

	lockdep_assert_held(&irqfd->kvm->irqfds.lock);

	spin_lock(&vm2vm_bells_lock);
	vm2vm_irqfd_remove(irqfd);
	bell = vm2vm_find_bell(irqfd->eventfd);
	if (bell && (!bell->irqfd || bell->irqfd == irqfd))
		vm2vm_bell_route(bell, vm2vm_find_irqfd(irqfd->eventfd));
	spin_unlock(&vm2vm_bells_lock);
}

/*
 * Inject the interrupt of the irqfd, if there is one, as irqfd_wakeup() would.  The SRCU
 * makes sure that no route is used any more once its update has returned.  The type is
 * that of the same copy: whatever cannot be injected with locks held is left to the work
 * item.
 */
static __always_inline enum vm2vm_ring vm2vm_inject(struct vm2vm_bell *bell)
{
	struct kvm_kernel_irqfd *irqfd = bell->irqfd;
	enum vm2vm_ring how = VM2VM_RING_DIRECT;
	struct kvm *kvm;
	int idx;

	if (!irqfd)
		return VM2VM_RING_SIGNALLED;

	kvm = irqfd->kvm;
	idx = srcu_read_lock(&kvm->irq_srcu);
	if (kvm_arch_vm2vm_set_irq(irqfd, &bell->target) == -EWOULDBLOCK) {
		schedule_work(&irqfd->inject);
		how = VM2VM_RING_DEFERRED;
	}
	srcu_read_unlock(&kvm->irq_srcu, idx);
	return how;
}

/* Count what became of a ring, and signal the eventfd if there was no irqfd. */
static enum vm2vm_ring vm2vm_rung(struct kvm_vcpu *vcpu, struct vm2vm_bell *bell,
				  enum vm2vm_ring how)
{
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
	}
	return how;
}

/**
 * vm2vm_ring - ring a bell for a vCPU
 * @vcpu: who rings, for its statistics; its VM's SRCU is held, which keeps the bell
 * @bell: what to ring
 *
 * Return: how.
 */
enum vm2vm_ring vm2vm_ring(struct kvm_vcpu *vcpu, struct vm2vm_bell *bell)
{
	enum vm2vm_ring how;
	unsigned long flags;

	spin_lock_irqsave(&bell->lock, flags);
	how = vm2vm_inject(bell);
	spin_unlock_irqrestore(&bell->lock, flags);
	return vm2vm_rung(vcpu, bell, how);
}

/* The same with interrupts off, and never with PREEMPT_RT. */
enum vm2vm_ring vm2vm_ring_irqoff(struct kvm_vcpu *vcpu, struct vm2vm_bell *bell)
{
	enum vm2vm_ring how;

	spin_lock(&bell->lock);
	how = vm2vm_inject(bell);
	spin_unlock(&bell->lock);
	return vm2vm_rung(vcpu, bell, how);
}

/* When KVM is loaded, before there are irqfds; 0, or an errno. */
int kvm_vm2vm_irqfd_init(void)
{
	int r = rhashtable_init(&vm2vm_bells, &vm2vm_bells_params);

	if (r)
		return r;
	r = rhashtable_init(&vm2vm_irqfds, &vm2vm_irqfds_params);
	if (r)
		rhashtable_destroy(&vm2vm_bells);
	return r;
}

void kvm_vm2vm_irqfd_exit(void)
{
	rhashtable_destroy(&vm2vm_irqfds);
	rhashtable_destroy(&vm2vm_bells);
}
