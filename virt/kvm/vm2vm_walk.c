// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: walks over the domains of an owner, and over the links of a domain.
 *
 * A walk may take long, be it that there are many, or that the thread is given no CPU.
 * Nobody is to wait for that who is not the walker's own.  So a walker holds no lock, and
 * has a place at the entry where it is.  That keeps the entry's memory, and it in its list
 * so that the next one can be found by it, and nothing else: a link is unlinked and a
 * domain ended meanwhile, and whoever gives up the last place frees what is left.
 *
 * To go to a link's VM a walker needs a use of the link.  Its removal waits for those, and
 * so they are short: for one hold of mmu_lock, and with the CPU kept.
 */
#include <linux/bitmap.h>
#include <linux/kvm_host.h>

#include "vm2vm.h"

/*
 * See to it that the VM of @link, which the caller has a place at, does not go for one hold
 * of its mmu_lock and in its SRCU.  False if the link is removed.
 */
bool vm2vm_use(struct vm2vm_link *link)
{
	vm2vm_keep_cpu();
	if (READ_ONCE(link->removed) || !refcount_inc_not_zero(&link->uses)) {
		vm2vm_release_cpu();
		return false;
	}
	return true;
}

void vm2vm_unuse(struct vm2vm_link *link)
{
	if (refcount_dec_and_test(&link->uses))
		complete(&link->unused);
	vm2vm_release_cpu();
}

/* How many links to pass over with one hold of links_lock. */
#define VM2VM_PASS	64

/*
 * Whether a walk is to stop at @link, after it has passed over so many before: there may be
 * as many that are removed as there are walkers.
 */
static bool vm2vm_stops_at(const struct vm2vm_link *link, unsigned int *passed)
{
	if (++*passed == VM2VM_PASS)
		return true;
	/* Pairs with the smp_store_release() in vm2vm_rest(). */
	return !link->removed && smp_load_acquire(&link->live);
}

/*
 * The link after @link, whose place is given up, or the first one: with a place, and with
 * no lock held.  Most that are not live are passed over.  Who does not go on to the end
 * gives up the last by vm2vm_link_put().
 *
 * What comes to the list while somebody walks over it is found, or was added after the
 * walker had the list's lock for the last time: its translations see the walker's mark.
 */
struct vm2vm_link *vm2vm_next_link(struct vm2vm_domain *d,
				   struct vm2vm_link *link)
{
	unsigned int passed = 0;
	struct vm2vm_link *next;

	spin_lock(&d->links_lock);
	next = list_prepare_entry(link, &d->links, node);
	list_for_each_entry_continue(next, &d->links, node) {
		if (vm2vm_stops_at(next, &passed))
			break;
	}
	if (list_entry_is_head(next, &d->links, node))
		next = NULL;
	else
		next->places++;
	spin_unlock(&d->links_lock);

	if (link)
		vm2vm_link_put(link);
	return next;
}

/*
 * The same for the domains of @kvm.  Nobody waits for who walks over them.  One that has
 * ended has no translations any more.
 */
struct vm2vm_domain *vm2vm_next_domain(struct kvm *kvm, struct vm2vm_domain *d)
{
	struct list_head *domains = &kvm->vm2vm.domains;
	struct vm2vm_domain *next;
	bool last = false;

	spin_lock(&kvm->vm2vm.lock);
	next = list_prepare_entry(d, domains, owner_node);
	list_for_each_entry_continue(next, domains, owner_node) {
		if (rcu_access_pointer(next->owner))
			break;
	}
	if (list_entry_is_head(next, domains, owner_node))
		next = NULL;
	else
		next->places++;
	if (d) {
		last = !--d->places;
		if (last)
			list_del(&d->owner_node);
	}
	spin_unlock(&kvm->vm2vm.lock);

	if (last)
		vm2vm_domain_put(d);
	return next;
}

/* Free a link that nobody has a place at.  May be called where nothing can sleep. */
static void vm2vm_link_free(struct vm2vm_link *link)
{
	vm2vm_fill_free(link);
	vm2vm_domain_put(link->domain);
	bitmap_free(link->touched);
	kfree(link);
}

/* Give up a place at the link. */
void vm2vm_link_put(struct vm2vm_link *link)
{
	struct vm2vm_domain *d = link->domain;
	bool last;

	spin_lock(&d->links_lock);
	last = !--link->places;
	if (last)
		list_del(&link->node);
	spin_unlock(&d->links_lock);

	if (last)
		vm2vm_link_free(link);
}
