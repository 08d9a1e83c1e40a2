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
#include <uapi/linux/kvm_vm2vm.h>

#include "kvm_mm.h"
#include "vm2vm.h"
#include "vm2vm_trace.h"

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

/**
 * struct vm2vm_cursor - which parts of a link to zap
 * @node: next mapping to look at, if the parts are given by the owner's gfns
 * @first: first page of an iova, if there is no @node, or gfn
 * @last: last page of an iova, or gfn
 * @done: whether the iovas, which are one part, were handed out
 */
struct vm2vm_cursor {
	struct interval_tree_node *node;
	unsigned long first;
	unsigned long last;
	bool done;
};

/* Set @range to what @link shows of the iovas @first to @last, if anything. */
bool vm2vm_clip(const struct vm2vm_link *link, unsigned long first,
		unsigned long last, struct kvm_gfn_range *range)
{
	first = max(first, link->iova);
	last = min(last, link->iova + link->npages - 1);
	if (first > last)
		return false;

	range->start = link->base_gfn + first - link->iova;
	range->end = link->base_gfn + last - link->iova + 1;
	return true;
}

/* Set @range to the next part of @link. */
static bool vm2vm_next(struct vm2vm_cursor *c, const struct vm2vm_link *link,
		       struct kvm_gfn_range *range)
{
	struct interval_tree_node *node;
	struct vm2vm_mapping *m;
	unsigned long lo, hi;

	while ((node = c->node)) {
		c->node = interval_tree_iter_next(node, c->first, c->last);
		c->done = true;
		m = container_of(node, struct vm2vm_mapping, gfns);
		lo = max(node->start, c->first) - node->start;
		hi = min(node->last, c->last) - node->start;
		if (vm2vm_clip(link, m->iova + lo, m->iova + hi, range))
			return true;
	}
	if (c->done)
		return false;
	c->done = true;
	return vm2vm_clip(link, c->first, c->last, range);
}

/* What to do with the translations of a range. */
enum vm2vm_op {
	VM2VM_ZAP,
	/* Clear the accessed bits, with or without a flush of the TLBs; or look. */
	VM2VM_AGE_FLUSH,
	VM2VM_AGE,
	VM2VM_TEST_YOUNG,
};

static bool vm2vm_do_part(struct kvm *kvm, struct kvm_gfn_range *range,
			  enum vm2vm_op op)
{
	switch (op) {
	case VM2VM_ZAP:
		return kvm_mmu_unmap_gfn_range(kvm, range);
	case VM2VM_AGE_FLUSH:
	case VM2VM_AGE:
		return kvm_age_gfn(kvm, range);
	case VM2VM_TEST_YOUNG:
		return kvm_test_age_gfn(kvm, range);
	}
	return false;
}

/*
 * Do @op to the parts of a link, with one hold of the backend's mmu_lock and one
 * flush.  The backend cannot go as the caller holds vm2vm_srcu, or is the
 * backend; its memslots do not change as its SRCU is held.  A link without a
 * memslot, not yet or no more, has no translations.
 *
 * Returns whether there was something to zap, or something young.
 */
static bool vm2vm_do_parts(struct vm2vm_link *link, struct vm2vm_cursor *c,
			   enum vm2vm_op op, bool may_block)
{
	struct kvm_gfn_range range = {
		.attr_filter = KVM_FILTER_SHARED,
		.may_block = may_block,
	};
	struct kvm *kvm = link->kvm;
	bool found = false;
	u64 zapped;
	int idx;

	idx = srcu_read_lock(&kvm->srcu);
	range.slot = gfn_to_memslot(kvm, link->base_gfn);
	if (!range.slot || range.slot->vm2vm.link != link ||
	    !vm2vm_next(c, link, &range))
		goto out;

	KVM_MMU_LOCK(kvm);
	if (op == VM2VM_ZAP)
		kvm_mmu_invalidate_begin(kvm);
	do {
		found |= vm2vm_do_part(kvm, &range, op);
	} while (vm2vm_next(c, link, &range));
	zapped = kvm_arch_vm2vm_prove_zap();
	if (found && (op == VM2VM_ZAP || op == VM2VM_AGE_FLUSH)) {
		kvm_flush_remote_tlbs(kvm);
		kvm_arch_vm2vm_prove_zapped(kvm, zapped);
	}
	if (op == VM2VM_ZAP)
		kvm_mmu_invalidate_end(kvm);
	KVM_MMU_UNLOCK(kvm);
out:
	srcu_read_unlock(&kvm->srcu, idx);
	return found;
}

/* Zap a whole link.  Called by its backend, which cannot go meanwhile. */
void vm2vm_zap_link(struct vm2vm_link *link)
{
	struct vm2vm_cursor c = { .last = ULONG_MAX };

	vm2vm_do_parts(link, &c, VM2VM_ZAP, true);
}

/*
 * Zap the iovas @first to @last in every link of @d.  The caller has marked and
 * can sleep.
 */
void vm2vm_zap_iovas(struct vm2vm_domain *d, unsigned long first,
		     unsigned long last)
{
	struct vm2vm_link *link;
	struct kvm *owner;
	int idx;

	idx = srcu_read_lock(&vm2vm_srcu);
	owner = srcu_dereference(d->owner, &vm2vm_srcu);
	trace_kvm_vm2vm_revoke(owner, false, first, last);
	if (owner)
		atomic64_inc(&owner->stat.vm2vm_revokes);

	list_for_each_entry_srcu(link, &d->links, node,
				 srcu_read_lock_held(&vm2vm_srcu)) {
		struct vm2vm_cursor c = { .first = first, .last = last };

		vm2vm_do_parts(link, &c, VM2VM_ZAP, true);
	}
	srcu_read_unlock(&vm2vm_srcu, idx);
}

/*
 * Do @op to the owner's gfns @start to @last in every link of @d, wherever and
 * however often they are mapped.  Sleeps only if @may_block.
 */
static bool vm2vm_do_gfns(struct vm2vm_domain *d, gfn_t start, gfn_t last,
			  enum vm2vm_op op, bool may_block)
{
	struct interval_tree_node *node;
	struct vm2vm_link *link;
	bool found = false;
	gfn_t end;

	lockdep_assert_once(srcu_read_lock_held(&vm2vm_srcu));

	for (;; start = end + 1) {
		end = min_t(gfn_t, last, start + VM2VM_REVOKE_BATCH - 1);

		read_lock(&d->gfn_lock);
		node = interval_tree_iter_first(&d->gfns, start, end);
		list_for_each_entry_srcu(link, &d->links, node,
					 srcu_read_lock_held(&vm2vm_srcu)) {
			struct vm2vm_cursor c = {
				.node = node, .first = start, .last = end,
			};

			if (!node)
				break;
			found |= vm2vm_do_parts(link, &c, op, false);
		}
		read_unlock(&d->gfn_lock);

		if (end == last)
			return found;
		if (may_block)
			cond_resched();
	}
}

/*
 * Do @op to the owner's host addresses @start to @end, exclusively, in every
 * domain.
 */
static bool vm2vm_do_range(struct kvm *kvm, unsigned long start,
			   unsigned long end, enum vm2vm_op op, bool may_block)
{
	struct interval_tree_node *node;
	struct kvm_memory_slot *slot;
	struct kvm_memslots *slots;
	struct vm2vm_domain *d;
	unsigned long lo, hi;
	int idx, slots_idx;
	bool found = false;

	idx = srcu_read_lock(&vm2vm_srcu);
	slots_idx = srcu_read_lock(&kvm->srcu);
	slots = kvm_memslots(kvm);
	for (node = interval_tree_iter_first(&slots->hva_tree, start, end - 1);
	     node; node = interval_tree_iter_next(node, start, end - 1)) {
		slot = container_of(node, struct kvm_memory_slot,
				    hva_node[slots->node_idx]);
		lo = max(start, node->start) - slot->userspace_addr;
		hi = min(end - 1, node->last) - slot->userspace_addr;
		lo = slot->base_gfn + (lo >> PAGE_SHIFT);
		hi = slot->base_gfn + (hi >> PAGE_SHIFT);
		if (op == VM2VM_ZAP) {
			trace_kvm_vm2vm_revoke(kvm, true, lo, hi);
			atomic64_inc(&kvm->stat.vm2vm_revokes);
		}
		vm2vm_for_each_domain(d, kvm)
			found |= vm2vm_do_gfns(d, lo, hi, op, may_block);
	}
	srcu_read_unlock(&kvm->srcu, slots_idx);
	srcu_read_unlock(&vm2vm_srcu, idx);
	return found;
}

/*
 * The owner's MMU notifier is about to unmap the host addresses @start to @end.
 * KVM has marked the gfns, zapped the owner's own translations and dropped the
 * owner's mmu_lock.  If the VM has no domain yet there is no translation to zap,
 * and a fault through one that is being made sees the owner's mark.
 */
void kvm_vm2vm_invalidate_range(struct kvm *kvm, unsigned long start,
				unsigned long end, bool may_block)
{
	if (!list_empty(&kvm->vm2vm.domains))
		vm2vm_do_range(kvm, start, end, VM2VM_ZAP, may_block);
}

/*
 * Whether a backend has accessed the host addresses @start to @end of the owner
 * since the last time; called by the MMU notifier, which may not sleep.
 */
bool kvm_vm2vm_age_range(struct kvm *kvm, unsigned long start,
			 unsigned long end, bool flush)
{
	return !list_empty(&kvm->vm2vm.domains) &&
	       vm2vm_do_range(kvm, start, end,
			      flush ? VM2VM_AGE_FLUSH : VM2VM_AGE, false);
}

/* The same for one page, and leave it at that. */
bool kvm_vm2vm_test_young(struct kvm *kvm, unsigned long hva)
{
	return !list_empty(&kvm->vm2vm.domains) &&
	       vm2vm_do_range(kvm, hva, hva + 1, VM2VM_TEST_YOUNG, false);
}

/* Zap all of the owner's @slot in every link of @d, and what is being mapped. */
void vm2vm_zap_slot(struct vm2vm_domain *d, const struct kvm_memory_slot *slot)
{
	vm2vm_revoke_begin(d);
	vm2vm_do_gfns(d, slot->base_gfn, slot->base_gfn + slot->npages - 1,
		      VM2VM_ZAP, true);
	vm2vm_revoke_end(d);
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

	trace_kvm_vm2vm_revoke(kvm, true, slot->base_gfn,
			       slot->base_gfn + slot->npages - 1);
	atomic64_inc(&kvm->stat.vm2vm_revokes);

	idx = srcu_read_lock(&vm2vm_srcu);
	vm2vm_for_each_domain(d, kvm)
		vm2vm_zap_slot(d, slot);
	srcu_read_unlock(&vm2vm_srcu, idx);
}
