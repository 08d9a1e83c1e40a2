// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: revocation.
 *
 * A page that is no longer approved, or no longer the owner's, must be out of
 * reach of every backend's CPUs when the revoker returns.  Whoever revokes
 *
 *  1. marks:   faults that look from now on know that they must not trust what
 *              they found.  A call that changes a domain, and a change of the
 *              owner's memslots, mark the domain (vm2vm_revoke_begin()); the
 *              owner's MMU notifier has marked the owner's gfns by
 *              mmu_invalidate_in_progress.
 *  2. zaps:    under each backend's mmu_lock, and flushes before it drops it.
 *  3. removes: the approval, or the page from the owner's page tables.
 *  4. unmarks: a sequence number moves, then the mark goes.
 *
 * A fault takes a snapshot of the sequence numbers, translates, and checks marks
 * and numbers again under the backend's mmu_lock, where it then installs the
 * translation (kvm_vm2vm_fault_stale()).  If it installs before (2), (2) zaps
 * what it installed.  If it comes after, it has acquired the mmu_lock that the
 * revoker released after (1), and sees the mark; or, after (4), the number.
 *
 * Removing after zapping, not before, matters to dirty logging: while a
 * translation may exist it can be told which page of the owner it is.
 */
#include <linux/kvm_host.h>

#include "kvm_mm.h"
#include "vm2vm.h"

/*
 * How many of the owner's gfns a revocation by gfn handles between two chances
 * to reschedule: 128 MiB, some milliseconds at the worst.
 */
#define VM2VM_REVOKE_BATCH	(1UL << (27 - PAGE_SHIFT))

/*
 * Mark @d: translations found from now on until vm2vm_revoke_end() are not
 * installed.  May nest, and be used by several revokers at once.
 */
void vm2vm_revoke_begin(struct vm2vm_domain *d)
{
	atomic_inc(&d->revoking);
	/*
	 * The mark is visible before anything is zapped.  Pairs with the
	 * acquisition of the backend's mmu_lock before kvm_vm2vm_fault_stale():
	 * this revoker takes and releases the same lock in between.
	 */
	smp_mb__after_atomic();
}

void vm2vm_revoke_end(struct vm2vm_domain *d)
{
	atomic_long_inc(&d->seq);
	/* Pairs with the smp_rmb() in kvm_vm2vm_fault_stale(). */
	smp_mb__before_atomic();
	atomic_dec(&d->revoking);
}

/* A zap of parts of one link: one hold of the backend's mmu_lock, one flush. */
struct vm2vm_zap {
	struct vm2vm_link *link;
	struct kvm_memory_slot *slot;
	int srcu_idx;
	bool locked;
	bool flush;
};

/*
 * Returns false if the link has no memslot (not yet, or no more), that is, if
 * there is nothing to zap.  Its memslot cannot go until vm2vm_zap_end(), as the
 * backend's SRCU is held.  The link's backend cannot go as the caller holds
 * vm2vm_srcu, or is the backend.
 */
static bool vm2vm_zap_begin(struct vm2vm_zap *z, struct vm2vm_link *link)
{
	struct kvm *kvm = link->kvm;

	z->link = link;
	z->locked = false;
	z->flush = false;
	z->srcu_idx = srcu_read_lock(&kvm->srcu);
	z->slot = gfn_to_memslot(kvm, link->base_gfn);
	if (z->slot && z->slot->vm2vm.link == link)
		return true;

	srcu_read_unlock(&kvm->srcu, z->srcu_idx);
	return false;
}

/* Zap what the link shows of the iovas @first to @last. */
static void vm2vm_zap_range(struct vm2vm_zap *z, unsigned long first,
			    unsigned long last, bool may_block)
{
	struct vm2vm_link *link = z->link;
	unsigned long link_last = link->iova + link->npages - 1;
	struct kvm_gfn_range range = {
		.slot = z->slot,
		.attr_filter = KVM_FILTER_SHARED,
		.may_block = may_block,
	};

	if (first > link_last || last < link->iova)
		return;

	range.start = link->base_gfn + max(first, link->iova) - link->iova;
	range.end = link->base_gfn + min(last, link_last) - link->iova + 1;

	if (!z->locked) {
		z->locked = true;
		KVM_MMU_LOCK(link->kvm);
		kvm_mmu_invalidate_begin(link->kvm);
	}
	z->flush |= kvm_mmu_unmap_gfn_range(link->kvm, &range);
}

static void vm2vm_zap_end(struct vm2vm_zap *z)
{
	struct kvm *kvm = z->link->kvm;

	if (z->locked) {
		if (z->flush)
			kvm_flush_remote_tlbs(kvm);
		kvm_mmu_invalidate_end(kvm);
		KVM_MMU_UNLOCK(kvm);
	}
	srcu_read_unlock(&kvm->srcu, z->srcu_idx);
}

/*
 * Zap the iovas @first to @last in every link of @d.  The caller has marked and
 * can sleep.
 */
void vm2vm_zap_iovas(struct vm2vm_domain *d, unsigned long first,
		     unsigned long last)
{
	struct vm2vm_link *link;
	struct vm2vm_zap z;
	int idx;

	idx = srcu_read_lock(&vm2vm_srcu);
	list_for_each_entry_srcu(link, &d->links, node,
				 srcu_read_lock_held(&vm2vm_srcu)) {
		if (!vm2vm_zap_begin(&z, link))
			continue;
		vm2vm_zap_range(&z, first, last, true);
		vm2vm_zap_end(&z);
	}
	srcu_read_unlock(&vm2vm_srcu, idx);
}

/* Zap a whole link.  Called by its backend, which cannot go meanwhile. */
void vm2vm_zap_link(struct vm2vm_link *link)
{
	struct vm2vm_zap z;

	if (!vm2vm_zap_begin(&z, link))
		return;
	vm2vm_zap_range(&z, link->iova, link->iova + link->npages - 1, true);
	vm2vm_zap_end(&z);
}

static void vm2vm_zap_link_gfns(struct vm2vm_domain *d, struct vm2vm_link *link,
				gfn_t start, gfn_t last)
{
	struct interval_tree_node *node;
	struct vm2vm_mapping *m;
	struct vm2vm_zap z;
	gfn_t lo, hi;

	lockdep_assert_held_read(&d->gfn_lock);

	if (!vm2vm_zap_begin(&z, link))
		return;

	for (node = interval_tree_iter_first(&d->gfns, start, last); node;
	     node = interval_tree_iter_next(node, start, last)) {
		m = container_of(node, struct vm2vm_mapping, gfns);
		lo = max_t(gfn_t, node->start, start) - node->start;
		hi = min_t(gfn_t, node->last, last) - node->start;
		vm2vm_zap_range(&z, m->iova + lo, m->iova + hi, false);
	}
	vm2vm_zap_end(&z);
}

/*
 * Zap the owner's gfns @start to @last in every link of @d, wherever and however
 * often they are mapped.  Sleeps only if @may_block.
 */
static void vm2vm_zap_gfns(struct vm2vm_domain *d, gfn_t start, gfn_t last,
			   bool may_block)
{
	struct vm2vm_link *link;
	gfn_t end;

	lockdep_assert_once(srcu_read_lock_held(&vm2vm_srcu));

	for (;; start = end + 1) {
		end = min_t(gfn_t, last, start + VM2VM_REVOKE_BATCH - 1);

		read_lock(&d->gfn_lock);
		if (interval_tree_iter_first(&d->gfns, start, end)) {
			list_for_each_entry_srcu(link, &d->links, node,
						 srcu_read_lock_held(&vm2vm_srcu))
				vm2vm_zap_link_gfns(d, link, start, end);
		}
		read_unlock(&d->gfn_lock);

		if (end == last)
			return;
		if (may_block)
			cond_resched();
	}
}

#define vm2vm_for_each_domain(d, kvm)					\
	list_for_each_entry_srcu(d, &(kvm)->vm2vm.domains, owner_node,	\
				 srcu_read_lock_held(&vm2vm_srcu))

/*
 * The owner's MMU notifier is about to unmap the host addresses @start to @end.
 * KVM has marked the gfns, zapped the owner's own translations and dropped the
 * owner's mmu_lock.  If the VM has no domain yet there is no translation to zap,
 * and a fault through one that is being made sees the owner's mark.
 */
void kvm_vm2vm_invalidate_range(struct kvm *kvm, unsigned long start,
				unsigned long end, bool may_block)
{
	struct interval_tree_node *node;
	struct kvm_memory_slot *slot;
	struct kvm_memslots *slots;
	struct vm2vm_domain *d;
	unsigned long lo, hi;
	int idx, slots_idx;

	if (list_empty(&kvm->vm2vm.domains))
		return;

	idx = srcu_read_lock(&vm2vm_srcu);
	slots_idx = srcu_read_lock(&kvm->srcu);
	slots = kvm_memslots(kvm);
	for (node = interval_tree_iter_first(&slots->hva_tree, start, end - 1);
	     node; node = interval_tree_iter_next(node, start, end - 1)) {
		slot = container_of(node, struct kvm_memory_slot,
				    hva_node[slots->node_idx]);
		lo = max(start, node->start) - slot->userspace_addr;
		hi = min(end - 1, node->last) - slot->userspace_addr;
		vm2vm_for_each_domain(d, kvm)
			vm2vm_zap_gfns(d, slot->base_gfn + (lo >> PAGE_SHIFT),
				       slot->base_gfn + (hi >> PAGE_SHIFT),
				       may_block);
	}
	srcu_read_unlock(&kvm->srcu, slots_idx);
	srcu_read_unlock(&vm2vm_srcu, idx);
}

/*
 * The owner deletes or moves @slot, which faults can no longer see: it is marked
 * invalid and the owner's SRCU is synchronized.  The caller holds the owner's
 * slots_lock.
 */
void kvm_vm2vm_invalidate_slot(struct kvm *kvm,
			       const struct kvm_memory_slot *slot)
{
	struct vm2vm_domain *d;
	int idx;

	lockdep_assert_held(&kvm->slots_lock);

	if (list_empty(&kvm->vm2vm.domains))
		return;

	idx = srcu_read_lock(&vm2vm_srcu);
	vm2vm_for_each_domain(d, kvm) {
		vm2vm_revoke_begin(d);
		vm2vm_zap_gfns(d, slot->base_gfn,
			       slot->base_gfn + slot->npages - 1, true);
		vm2vm_revoke_end(d);
	}
	srcu_read_unlock(&vm2vm_srcu, idx);
}

/*
 * The owner's address space ends: its process exits, by whatever death.  No new
 * fault gets hold of it, as it has no users any more.  What the approvals say
 * does not matter from now on; the domains go when the VM does.
 */
void kvm_vm2vm_invalidate_all(struct kvm *kvm)
{
	struct vm2vm_domain *d;
	int idx;

	if (list_empty(&kvm->vm2vm.domains))
		return;

	idx = srcu_read_lock(&vm2vm_srcu);
	vm2vm_for_each_domain(d, kvm) {
		vm2vm_revoke_begin(d);
		vm2vm_zap_iovas(d, 0, ULONG_MAX);
		vm2vm_revoke_end(d);
	}
	srcu_read_unlock(&vm2vm_srcu, idx);
}
