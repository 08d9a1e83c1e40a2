// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: the end of a domain, and what becomes of it.
 *
 * It ends once, whoever comes first of those who may end it, and is revoked when any of
 * them returns.  What was in it is freed after that, and the rest when the last peer that
 * has the descriptor or a link lets go of it.
 */
#include <linux/kvm_host.h>
#include <linux/llist.h>
#include <linux/sched/mm.h>

#include "vm2vm.h"

/*
 * Take @d, all of which is revoked, from its owner.  Returns whether it still had one,
 * and so that this caller has ended it.
 */
static bool vm2vm_domain_detach(struct vm2vm_domain *d)
{
	struct kvm *owner;
	bool last = false;
	int idx;

	/* Until this is over, the owner, which finds no domain any more, does not go away. */
	idx = vm2vm_enter();
	spin_lock(&d->links_lock);
	owner = rcu_dereference_protected(d->owner, lockdep_is_held(&d->links_lock));
	rcu_assign_pointer(d->owner, NULL);
	if (owner)
		atomic_sub(d->nr_links, &owner->vm2vm.nr_links);
	spin_unlock(&d->links_lock);
	if (owner) {
		d->pager = vm2vm_pager_get(owner);
		atomic64_sub(d->nr_mappings, &owner->stat.vm2vm_mappings);
		spin_lock(&owner->vm2vm.lock);
		owner->vm2vm.nr_domains--;
		owner->stat.vm2vm_domains--;
		last = !--d->places;
		if (last)
			list_del(&d->owner_node);
		spin_unlock(&owner->vm2vm.lock);
	}
	vm2vm_leave(idx);

	if (last)
		vm2vm_domain_put(d);
	return owner;
}

/*
 * End a domain: revoke all, and let go of the owner.  Called when the owner goes away and
 * when it says so, with the domain's lock held; and when the last reference to the file
 * descriptor is closed, without, as whoever does that is not to wait for the owner.  All
 * that may be at the same time: then each revokes, and one of them takes the domain from
 * its owner and has to vm2vm_domain_forget() it, for which true is returned.  Takes no
 * memory.
 */
bool vm2vm_domain_end(struct vm2vm_domain *d)
{
	bool ended;

	if (!rcu_access_pointer(d->owner))
		return false;
	vm2vm_revoke_begin(d);
	vm2vm_zap_iovas(d, 0, ULONG_MAX);
	/* Nobody else comes from here on, and others wait: until they are told keep the CPU. */
	vm2vm_keep_cpu();
	ended = vm2vm_domain_detach(d);
	vm2vm_revoke_end(d);
	if (ended) {
		vm2vm_miss_end(d);
		if (current->mm != d->mm)
			vm2vm_pager_empty(d->pager, d);
	}
	vm2vm_release_cpu();
	return ended;
}

/*
 * The domain has ended: have what was in it freed.  The owner does that for itself.  If
 * the end has fallen to somebody else, or to an exit, a work item of the owner's does, which
 * is queued by now: what the owner has brought is not for them to pay for.
 */
void vm2vm_domain_forget(struct vm2vm_domain *d)
{
	struct vm2vm_pager *p = d->pager;

	if (current->mm == d->mm)
		vm2vm_domain_empty(d);
	vm2vm_pager_put(p);
}

static LLIST_HEAD(vm2vm_dead_domains);

static void vm2vm_domain_dead(struct kref *kref)
{
	struct vm2vm_domain *d = container_of(kref, struct vm2vm_domain, refs);

	llist_add(&d->ended, &vm2vm_dead_domains);
	vm2vm_bury();
}

/*
 * Free the domains that nobody has a reference to any more.  What was in them is freed by
 * now, but for a few pages of the log that a fault may have come too late with.
 */
void vm2vm_bury_domains(void)
{
	struct vm2vm_domain *d, *next;

	llist_for_each_entry_safe(d, next, llist_del_all(&vm2vm_dead_domains), ended) {
		vm2vm_log_free(d);
		mmdrop(d->mm);
		mutex_destroy(&d->lock);
		kfree(d);
	}
}

/* May be called where nothing can sleep. */
void vm2vm_domain_put(struct vm2vm_domain *d)
{
	kref_put(&d->refs, vm2vm_domain_dead);
}
