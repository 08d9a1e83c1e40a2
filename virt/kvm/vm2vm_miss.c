// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: misses, accesses that wait for the owner's approval.
 *
 * A vCPU whose access nothing approves, through a link that says so, lists itself
 * in the domain and sleeps.  The owner reads what is listed and answers by a MAP
 * or by a refusal.  A miss lives on the stack of the vCPU's thread, so there is
 * nothing to allocate and there are never more of them than vCPUs.
 *
 * No wake-up is lost: the vCPU lists itself and then looks the approval up once
 * more; a MAP makes the approval visible and then looks at the list.  Both take
 * miss_lock in between.
 */
#include <linux/completion.h>
#include <linux/kvm_host.h>
#include <linux/uio.h>
#include <uapi/linux/kvm_vm2vm.h>

#include "vm2vm.h"
#include "vm2vm_trace.h"

/**
 * struct vm2vm_miss - an access that waits
 * @node: in vm2vm_domain.misses until it is answered
 * @done: it is answered
 * @link: what it goes through; only compared, it may be freed meanwhile
 * @iova: page number of the iova
 * @flags: KVM_VM2VM_MAP_*, what it needs
 * @delivered: the owner has read it
 * @refused: the answer is no
 */
struct vm2vm_miss {
	struct list_head node;
	struct completion done;
	const struct vm2vm_link *link;
	unsigned long iova;
	u32 flags;
	bool delivered;
	bool refused;
};

static void vm2vm_miss_complete(struct vm2vm_miss *miss, bool refuse)
{
	list_del_init(&miss->node);
	miss->refused = refuse;
	complete(&miss->done);
}

/*
 * Wake for a miss.  There may be any number of readers, one of whom is enough, and as many
 * watchers as vm2vm_miss_watch() allows.
 */
static void vm2vm_miss_wake(struct vm2vm_domain *d)
{
	wake_up_interruptible(&d->readers);
	wake_up_interruptible_poll(&d->watchers, EPOLLIN);
}

/* List @miss, unless there is nothing to wait for any more. */
static bool vm2vm_miss_list(struct vm2vm_domain *d, struct vm2vm_link *link,
			    struct vm2vm_miss *miss)
{
	bool listed;

	spin_lock(&d->miss_lock);
	listed = rcu_access_pointer(d->owner) &&
		 !vm2vm_approved(link, miss->iova,
				 miss->flags & KVM_VM2VM_MAP_WRITE);
	if (listed)
		list_add_tail(&miss->node, &d->misses);
	spin_unlock(&d->miss_lock);

	if (listed)
		vm2vm_miss_wake(d);
	return listed;
}

/**
 * vm2vm_miss_wait - wait until the owner says whether it approves
 * @vcpu: vCPU of the backend, in its VM's SRCU, which is dropped meanwhile
 * @link: of an alias memslot that was found in this SRCU section
 * @gfn: the backend's gfn
 * @write: whether write access is needed
 *
 * The owner may never answer: a signal ends the wait, and nothing is held.
 *
 * Return: -EAGAIN to try again, -ENOENT if the owner refuses, -EINTR.
 */
int vm2vm_miss_wait(struct kvm_vcpu *vcpu, struct vm2vm_link *link, gfn_t gfn,
		    bool write)
{
	struct vm2vm_miss miss = {
		.link = link,
		.iova = link->iova + (gfn - link->base_gfn),
		.flags = KVM_VM2VM_MAP_READ | (write ? KVM_VM2VM_MAP_WRITE : 0),
	};
	struct vm2vm_domain *d = link->domain;
	int r;

	init_completion(&miss.done);
	if (!vm2vm_miss_list(d, link, &miss))
		return -EAGAIN;

	++vcpu->stat.vm2vm_waits;
	trace_kvm_vm2vm_miss(vcpu->kvm, gfn, write, KVM_VM2VM_MISS_WAIT);

	/* While SRCU is dropped the link may go, and its reference with it. */
	kref_get(&d->refs);
	kvm_vcpu_srcu_read_unlock(vcpu);
	r = wait_for_completion_interruptible(&miss.done);

	/* Whoever completes it is done with it, too. */
	spin_lock(&d->miss_lock);
	if (!list_empty(&miss.node)) {
		list_del(&miss.node);
		r = -EINTR;
	} else {
		r = miss.refused ? -ENOENT : -EAGAIN;
	}
	spin_unlock(&d->miss_lock);

	kvm_vcpu_srcu_read_lock(vcpu);
	vm2vm_domain_put(d);
	if (r != -EINTR)
		trace_kvm_vm2vm_miss(vcpu->kvm, gfn, write,
				     r == -ENOENT ? KVM_VM2VM_MISS_REFUSED :
						    KVM_VM2VM_MISS_AGAIN);
	return r;
}

/* Wake who waits for the iovas; returns how many these are. */
u32 vm2vm_miss_answer(struct vm2vm_domain *d, u64 iova, u64 size, bool refuse)
{
	unsigned long first = iova >> PAGE_SHIFT;
	unsigned long last = first + (size >> PAGE_SHIFT) - 1;
	struct vm2vm_miss *miss, *next;
	u32 answered = 0;

	spin_lock(&d->miss_lock);
	list_for_each_entry_safe(miss, next, &d->misses, node) {
		if (miss->iova < first || miss->iova > last)
			continue;
		vm2vm_miss_complete(miss, refuse);
		answered++;
	}
	spin_unlock(&d->miss_lock);
	return answered;
}

/* Wake who waits by @link, whose memslot is gone. */
void vm2vm_miss_unlink(struct vm2vm_link *link)
{
	struct vm2vm_domain *d = link->domain;
	struct vm2vm_miss *miss, *next;

	spin_lock(&d->miss_lock);
	list_for_each_entry_safe(miss, next, &d->misses, node) {
		if (miss->link == link)
			vm2vm_miss_complete(miss, false);
	}
	spin_unlock(&d->miss_lock);
}

/* The domain has ended: wake everybody.  Nobody lists himself any more. */
void vm2vm_miss_end(struct vm2vm_domain *d)
{
	struct vm2vm_miss *miss, *next;

	spin_lock(&d->miss_lock);
	list_for_each_entry_safe(miss, next, &d->misses, node)
		vm2vm_miss_complete(miss, false);
	spin_unlock(&d->miss_lock);

	/* A reader wakes the next one. */
	wake_up(&d->readers);
	wake_up_all(&d->watchers);
}

/* The next miss to deliver, copied to @out. */
static bool vm2vm_miss_next(struct vm2vm_domain *d, struct kvm_vm2vm_miss *out)
{
	struct vm2vm_miss *miss;
	bool found = false;

	spin_lock(&d->miss_lock);
	list_for_each_entry(miss, &d->misses, node) {
		if (miss->delivered)
			continue;
		miss->delivered = true;
		*out = (struct kvm_vm2vm_miss) {
			.iova = (u64)miss->iova << PAGE_SHIFT,
			.flags = miss->flags,
		};
		found = true;
		break;
	}
	spin_unlock(&d->miss_lock);
	return found;
}

/* A record did not reach user space: deliver it, or one that is the same, again. */
static void vm2vm_miss_putback(struct vm2vm_domain *d,
			       const struct kvm_vm2vm_miss *out)
{
	struct vm2vm_miss *miss;

	spin_lock(&d->miss_lock);
	list_for_each_entry(miss, &d->misses, node) {
		if (miss->delivered && miss->flags == out->flags &&
		    miss->iova == out->iova >> PAGE_SHIFT) {
			miss->delivered = false;
			break;
		}
	}
	spin_unlock(&d->miss_lock);

	/* Another reader may have found nothing meanwhile. */
	vm2vm_miss_wake(d);
}

/*
 * Have @wait, of the owner's process, wait for misses.  A miss wakes all who do, in the
 * thread of a backend's vCPU, with interrupts off.  So these are not more than
 * KVM_VM2VM_MAX_WATCHES.  One more is not woken; epoll has no error for that, but asks
 * once more when it is waited for, and then finds @overwatched.
 */
void vm2vm_miss_watch(struct vm2vm_domain *d, struct file *file, poll_table *wait)
{
	struct wait_queue_entry *entry;
	unsigned int watches = 0;

	if (poll_does_not_wait(wait))
		return;

	mutex_lock(&d->watch_lock);
	spin_lock_irq(&d->watchers.lock);
	list_for_each_entry(entry, &d->watchers.head, entry) {
		if (++watches == KVM_VM2VM_MAX_WATCHES)
			break;
	}
	spin_unlock_irq(&d->watchers.lock);
	WRITE_ONCE(d->overwatched, watches == KVM_VM2VM_MAX_WATCHES);
	if (!d->overwatched)
		poll_wait(file, &d->watchers, wait);
	mutex_unlock(&d->watch_lock);
}

__poll_t vm2vm_miss_poll(struct vm2vm_domain *d)
{
	struct vm2vm_miss *miss;
	__poll_t mask = 0;

	spin_lock(&d->miss_lock);
	list_for_each_entry(miss, &d->misses, node) {
		if (!miss->delivered)
			mask = EPOLLIN | EPOLLRDNORM;
	}
	if (!rcu_access_pointer(d->owner))
		mask |= EPOLLHUP;
	spin_unlock(&d->miss_lock);
	return mask;
}

ssize_t vm2vm_miss_read(struct vm2vm_domain *d, struct iov_iter *to, bool nonblock)
{
	struct kvm_vm2vm_miss out;
	size_t done = 0;
	int r;

	while (iov_iter_count(to) >= sizeof(out)) {
		if (!vm2vm_miss_next(d, &out)) {
			if (done || !rcu_access_pointer(d->owner))
				break;
			if (nonblock)
				return -EAGAIN;
			r = wait_event_interruptible_exclusive(d->readers,
							       vm2vm_miss_poll(d));
			/* The end has woken one reader. */
			if (!rcu_access_pointer(d->owner))
				wake_up(&d->readers);
			if (r)
				return r;
			continue;
		}
		if (copy_to_iter(&out, sizeof(out), to) != sizeof(out)) {
			vm2vm_miss_putback(d, &out);
			return done ?: -EFAULT;
		}
		done += sizeof(out);
	}
	return done;
}
