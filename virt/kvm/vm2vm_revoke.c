// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: revocation.
 *
 * A page that is no longer approved, or no longer the owner's, must be out of
 * reach of every backend's CPUs when the revoker returns.  Whoever revokes
 *
 *  1. marks:   faults that look from now on know that they must not trust what
 *              they found.  A call that changes a domain marks the iovas
 *              (vm2vm_revoke_begin()); the owner's MMU notifier has marked the
 *              owner's gfns by mmu_invalidate_in_progress.
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
 *
 * A memslot of the owner's that changes is the other way round: what is to be
 * found has changed already, so that the number moves is all it takes before (2).
 * A fault that has the old number is stale, one that has the new one is right.
 *
 * What an owner or a peer brings, mappings, links and pages, must not make (2) long
 * for anybody else.  So
 *
 *  - no lock is held from one link to the next, nor is a host-wide SRCU.  Who walks
 *    over the links has a place at the one that it is at, which keeps its memory and
 *    holds up nobody.  To go to the link's VM it takes a use (vm2vm_use()) with each hold
 *    of mmu_lock, and UNLINK waits for that.  It keeps the CPU meanwhile, so nobody can
 *    make that long by giving the walker none.  A link that is removed has no
 *    translations any more, so that walkers leave it out.
 *  - mmu_lock is dropped after VM2VM_HOLD_NS, or a piece of the window, whichever
 *    is more, with a flush for each time.  In between a fault can install what it
 *    likes: it sees the mark, or it is no business of the revoker's.
 *  - gfn_lock is held to copy which iovas the gfns have, VM2VM_PARTS at the most,
 *    and not while they are zapped.  A mapping that is made meanwhile is found by
 *    faults only after it is in the tree that the copy was made from, so after the
 *    mark.  One that is removed has been zapped by who removes it.
 *  - gfns that have very many mappings are not looked at one by one: all that the
 *    domain's links have is zapped.  What was touched is known for each area of a
 *    window, so that takes no longer than it took the backends to touch it, and
 *    nothing next time.
 *
 * A link that nobody has looked anything up through since all of it was zapped is left
 * out (vm2vm_link.live): a fault, or an access of KVM's own (vm2vm_access.c), that comes
 * just now sees the mark.  Else the backend's mmu_lock is taken even if there is nothing
 * to zap: that is what orders a fault that is about to touch an area after the mark, and
 * what waits for KVM's own accesses.
 */
#include <linux/kvm_host.h>
#include <linux/sched/clock.h>
#include <uapi/linux/kvm_vm2vm.h>

#include "kvm_mm.h"
#include "vm2vm.h"
#include "vm2vm_trace.h"

/* For how long to hold a backend's mmu_lock if that saves another flush. */
#define VM2VM_HOLD_NS		(50 * NSEC_PER_USEC)

/* After so many times VM2VM_PARTS parts, zap all. */
#define VM2VM_ZAP_BATCHES	32

/*
 * What ageing may cost, as it cannot reschedule: a page that it looks at counts 1, a
 * part 16 more, a flush 256, a link or a domain with nothing to look at 1.
 */
#define VM2VM_AGE_BUDGET	4096
#define VM2VM_AGE_PART		16
#define VM2VM_AGE_FLUSHED	256

/*
 * Mark the iovas @first to @last of @d: translations of them found from now on until
 * vm2vm_revoke_end() are not installed.  May nest, and be used by several revokers at
 * once; the mark is then of all from the least to the greatest.
 */
void vm2vm_revoke_begin_range(struct vm2vm_domain *d, unsigned long first,
			      unsigned long last)
{
	spin_lock(&d->mark_lock);
	if (atomic_read(&d->revoking)) {
		first = min(first, d->mark_first);
		last = max(last, d->mark_last);
	}
	WRITE_ONCE(d->mark_first, first);
	WRITE_ONCE(d->mark_last, last);
	atomic_inc(&d->revoking);
	spin_unlock(&d->mark_lock);
	/*
	 * The mark is visible before anything is zapped.  Pairs with the
	 * acquisition of the backend's mmu_lock before kvm_vm2vm_fault_stale():
	 * this revoker takes and releases the same lock in between.
	 */
	smp_mb();
}

/* The same for all of @d. */
void vm2vm_revoke_begin(struct vm2vm_domain *d)
{
	vm2vm_revoke_begin_range(d, 0, ULONG_MAX);
}

/* Who sees the range of a later mark than this one sees the number move, too. */
void vm2vm_revoke_end(struct vm2vm_domain *d)
{
	spin_lock(&d->mark_lock);
	atomic_long_inc(&d->seq);
	/* Pairs with the smp_rmb() in kvm_vm2vm_fault_stale(). */
	smp_mb__before_atomic();
	atomic_dec(&d->revoking);
	spin_unlock(&d->mark_lock);
}

/**
 * kvm_vm2vm_touch - a translation is about to be installed
 * @slot: alias memslot
 * @gfn: the first gfn
 * @npages: how many it translates
 *
 * The caller holds the backend's mmu_lock, and keeps it until then.
 */
void kvm_vm2vm_touch(const struct kvm_memory_slot *slot, gfn_t gfn,
		     unsigned long npages)
{
	const struct vm2vm_link *link = slot->vm2vm.link;
	unsigned long area = (gfn - link->base_gfn) >> link->area_shift;
	unsigned long last = (gfn - link->base_gfn + npages - 1) >>
			     link->area_shift;

	lockdep_assert_held(&link->kvm->mmu_lock);

	for (; area <= last; area++) {
		if (!test_bit(area, link->touched))
			set_bit(area, link->touched);
	}
}

/**
 * struct vm2vm_walk - a walk over what parts there are of a link
 * @link: the link
 * @part: the part that comes after this one
 * @left: how many come
 * @mask: of this part, or ~0UL
 * @base: what bit 0 of @mask is: pages from the start of the window
 * @next: where to go on in this part: pages from the start of the window
 * @stop: where it ends
 * @whole: the area that the piece is in was done from its start on with one hold of
 *	   mmu_lock
 * @range: the piece that was found, in the backend
 */
struct vm2vm_walk {
	struct vm2vm_link *link;
	const struct vm2vm_part *part;
	unsigned int left;
	unsigned long mask;
	unsigned long base;
	unsigned long next;
	unsigned long stop;
	bool whole;
	struct kvm_gfn_range range;
};

static void vm2vm_walk_init(struct vm2vm_walk *w, struct vm2vm_link *link,
			    const struct vm2vm_parts *p)
{
	*w = (struct vm2vm_walk) {
		.link = link, .part = p->part, .left = p->nr,
		.range.attr_filter = KVM_FILTER_SHARED,
	};
}

/* Go to the next part that the link shows some of, if this one is done. */
static bool vm2vm_next_part(struct vm2vm_walk *w)
{
	const struct vm2vm_link *link = w->link;
	unsigned long first, last;

	while (w->next == w->stop) {
		if (!w->left)
			return false;
		first = max(w->part->first, link->iova);
		last = min(w->part->last, link->iova + link->npages - 1);
		if (first <= last) {
			w->mask = w->part->mask;
			/* It may begin before the window. */
			w->base = w->part->first - link->iova;
			w->next = first - link->iova;
			w->stop = last - link->iova + 1;
			w->whole = false;
		}
		w->part++;
		w->left--;
	}
	return true;
}

/*
 * Go to the next piece, within a part and an area, that was touched.  The backend's
 * mmu_lock is held, other than to look roughly.
 */
static bool vm2vm_next_piece(struct vm2vm_walk *w)
{
	const struct vm2vm_link *link = w->link;
	unsigned long area;

	while (vm2vm_next_part(w)) {
		area = find_next_bit(link->touched,
				     ((w->stop - 1) >> link->area_shift) + 1,
				     w->next >> link->area_shift);
		w->next = max(w->next, area << link->area_shift);
		if (w->next >= w->stop) {
			w->next = w->stop;
			continue;
		}
		if (w->next == area << link->area_shift)
			w->whole = true;
		w->range.start = link->base_gfn + w->next;
		w->next = min(w->stop, round_down(w->next, VM2VM_PIECE_PAGES) +
				       VM2VM_PIECE_PAGES);
		w->range.end = link->base_gfn + w->next;
		return true;
	}
	return false;
}

/*
 * The piece is zapped: if that is the last of its area, and nothing can have been
 * installed before it since the first was, nothing is left there.
 */
static void vm2vm_untouch(struct vm2vm_walk *w)
{
	const struct vm2vm_link *link = w->link;
	unsigned long last = w->range.end - link->base_gfn - 1;
	unsigned long area = last >> link->area_shift;

	lockdep_assert_held_write(&link->kvm->mmu_lock);

	if (last + 1 != min(link->npages, (area + 1) << link->area_shift))
		return;
	if (w->whole)
		clear_bit(area, link->touched);
	w->whole = false;
}

/*
 * If nothing of @link is touched any more, revokers need not come until something is.  Who
 * sees that may return at once: so what was zapped is flushed by now.
 */
static void vm2vm_rest(struct vm2vm_link *link)
{
	unsigned long last = (link->npages - 1) >> link->area_shift;

	lockdep_assert_held_write(&link->kvm->mmu_lock);

	if (!READ_ONCE(link->live) || !bitmap_empty(link->touched, last + 1))
		return;
	/* Pairs with the smp_load_acquire() in vm2vm_next_link(). */
	smp_store_release(&link->live, false);
}

static void vm2vm_protect(struct kvm *kvm, const struct vm2vm_walk *w)
{
	unsigned long mask, bits = w->mask;
	unsigned int n;
	gfn_t gfn;

	if (bits != ~0UL)
		bits >>= w->range.start - w->link->base_gfn - w->base;
	for (gfn = w->range.start; gfn < w->range.end; gfn += n) {
		n = min_t(gfn_t, w->range.end - gfn, BITS_PER_LONG);
		mask = bits & (~0UL >> (BITS_PER_LONG - n));
		if (mask)
			kvm_arch_vm2vm_write_protect(kvm, w->range.slot, gfn, mask);
	}
}

/* Returns whether there was something to zap or to protect, or something young. */
static bool vm2vm_do_piece(struct kvm *kvm, struct vm2vm_walk *w,
			   enum vm2vm_op op)
{
	bool found;

	switch (op) {
	case VM2VM_ZAP:
		/*
		 * KVM wants to know that this is no accident.  Its own faults need
		 * not be held up, as invalidate_begin() and _end() would.
		 */
		kvm->mmu_invalidate_in_progress++;
		found = kvm_mmu_unmap_gfn_range(kvm, &w->range);
		kvm->mmu_invalidate_in_progress--;
		vm2vm_untouch(w);
		return found;
	case VM2VM_PROTECT:
		vm2vm_protect(kvm, w);
		return true;
	case VM2VM_AGE_FLUSH:
	case VM2VM_AGE:
		return kvm_age_gfn(kvm, &w->range);
	case VM2VM_TEST_YOUNG:
		return kvm_test_age_gfn(kvm, &w->range);
	}
	return false;
}

/*
 * The memslot of @link.  A link without one, not yet or no more, has no translations.
 * The backend's SRCU is held.
 */
static struct kvm_memory_slot *vm2vm_link_slot(const struct vm2vm_link *link)
{
	struct kvm_memory_slot *slot = gfn_to_memslot(link->kvm, link->base_gfn);

	return slot && slot->vm2vm.link == link ? slot : NULL;
}

/*
 * Do @op for as long as mmu_lock may be held.  The backend's SRCU is held.  Sets
 * *@found if there was something to zap or to protect, and returns whether to go on.
 */
static bool vm2vm_hold(struct vm2vm_walk *w, enum vm2vm_op op, bool *found)
{
	struct kvm *kvm = w->link->kvm;
	bool more, any = false;
	u64 zapped, start, held;

	KVM_MMU_LOCK(kvm);
	start = local_clock();
	w->whole = false;
	more = vm2vm_next_piece(w);
	if (more) {
		w->range.slot = vm2vm_link_slot(w->link);
		more = w->range.slot;
	}
	while (more) {
		any |= vm2vm_do_piece(kvm, w, op);
		if (local_clock() - start > VM2VM_HOLD_NS)
			break;
		more = vm2vm_next_piece(w);
	}
	zapped = kvm_arch_vm2vm_prove_zap();
	if (any) {
		kvm_flush_remote_tlbs(kvm);
		kvm_arch_vm2vm_prove_zapped(kvm, zapped);
		*found = true;
	}
	if (op == VM2VM_ZAP && !more)
		vm2vm_rest(w->link);
	held = local_clock() - start;
	if (held > kvm->stat.vm2vm_held_max_ns)
		kvm->stat.vm2vm_held_max_ns = held;
	KVM_MMU_UNLOCK(kvm);
	return more;
}

/*
 * Zap or protect the parts @p of a link, which the caller has a place at.  The backend
 * cannot go while the link is used, and its memslots do not change in its SRCU.
 */
static bool vm2vm_do_link(struct vm2vm_link *link, const struct vm2vm_parts *p,
			  enum vm2vm_op op, bool may_block)
{
	bool more, found = false;
	struct vm2vm_walk w;
	int idx;

	vm2vm_walk_init(&w, link, p);
	if (!vm2vm_next_part(&w))
		return false;

	do {
		if (!vm2vm_use(link))
			break;
		idx = srcu_read_lock(&link->kvm->srcu);
		more = vm2vm_hold(&w, op, &found);
		srcu_read_unlock(&link->kvm->srcu, idx);
		vm2vm_unuse(link);
		if (may_block)
			cond_resched();
	} while (more);
	return found;
}

/* A domain that has ended has no translations any more, and is not to be held up. */
static bool vm2vm_has_ended(const struct vm2vm_domain *d)
{
	return !rcu_access_pointer(d->owner);
}

/* Zap or protect the parts @p of every link of @d.  Sleeps only if @may_block. */
bool vm2vm_do_links(struct vm2vm_domain *d, const struct vm2vm_parts *p,
		    enum vm2vm_op op, bool may_block)
{
	struct vm2vm_link *link = NULL;
	bool found = false;

	/*
	 * The mark first, then which links are live, which vm2vm_next_link() looks at.
	 * Pairs with the smp_mb() in kvm_vm2vm_fault_stale().
	 */
	smp_mb();
	while ((link = vm2vm_next_link(d, link))) {
		if (vm2vm_has_ended(d)) {
			vm2vm_link_put(link);
			break;
		}
		if (op == VM2VM_PROTECT && (link->flags & KVM_VM2VM_LINK_READONLY))
			continue;
		found |= vm2vm_do_link(link, p, op, may_block);
		if (may_block)
			cond_resched();
	}
	return found;
}

static void vm2vm_take(struct vm2vm_parts *p, unsigned long first, unsigned long last)
{
	p->nr = 1;
	p->part[0] = (struct vm2vm_part) {
		.first = first, .last = last, .mask = ~0UL,
	};
}

/* Set @p to all that a link may show. */
void vm2vm_take_all(struct vm2vm_parts *p)
{
	vm2vm_take(p, 0, ULONG_MAX);
}

/*
 * Zap the parts @p of one link, which takes no approval away.  The caller has a place at
 * the link, or keeps it otherwise, and can sleep.
 */
void vm2vm_zap_parts(struct vm2vm_link *link, const struct vm2vm_parts *p)
{
	vm2vm_do_link(link, p, VM2VM_ZAP, true);
}

/* The same for the iovas @first to @last. */
void vm2vm_zap_window(struct vm2vm_link *link, unsigned long first,
		      unsigned long last)
{
	struct vm2vm_parts p;

	vm2vm_take(&p, first, last);
	vm2vm_zap_parts(link, &p);
}

/*
 * Zap the iovas @first to @last in every link of @d.  The caller has marked, can
 * sleep, and keeps the domain from ending.
 */
void vm2vm_zap_iovas(struct vm2vm_domain *d, unsigned long first,
		     unsigned long last)
{
	struct vm2vm_parts p;
	struct kvm *owner;
	int idx;

	idx = vm2vm_enter();
	owner = srcu_dereference(d->owner, &vm2vm_srcu);
	trace_kvm_vm2vm_revoke(owner, false, first, last);
	if (owner)
		atomic64_inc(&owner->stat.vm2vm_revokes);
	vm2vm_leave(idx);

	vm2vm_take(&p, first, last);
	vm2vm_do_links(d, &p, VM2VM_ZAP, true);
}

/*
 * Zap the owner's gfns @start to @last in every link of @d, wherever and however often
 * they are mapped; or all, if that is often.
 */
static void vm2vm_zap_gfns(struct vm2vm_domain *d, gfn_t start, gfn_t last,
			   bool may_block)
{
	struct vm2vm_gfns g = { .start = start, .last = last, .mask = ~0UL };
	enum vm2vm_collected r;
	struct vm2vm_parts p;
	int i;

	for (i = 0;; i++) {
		p.nr = 0;
		r = vm2vm_collect(d, &g, &p);
		if (r == VM2VM_TOO_MANY || i == VM2VM_ZAP_BATCHES) {
			vm2vm_take_all(&p);
			r = VM2VM_ALL;
		}
		if (p.nr)
			vm2vm_do_links(d, &p, VM2VM_ZAP, may_block);
		if (r == VM2VM_ALL)
			break;
	}
}

/*
 * See whether a part @p of @link is young, and do @op.  A link that was not touched is
 * not looked at: what is touched just now is young the next time.
 */
static bool vm2vm_age_link(struct vm2vm_link *link, const struct vm2vm_parts *p,
			   enum vm2vm_op op, int *budget)
{
	struct kvm *kvm = link->kvm;
	struct vm2vm_walk w;
	bool young = false;
	int idx;

	*budget -= 1;
	vm2vm_walk_init(&w, link, p);
	if (!vm2vm_next_piece(&w) || !vm2vm_use(link))
		return false;

	idx = srcu_read_lock(&kvm->srcu);
	w.range.slot = vm2vm_link_slot(link);
	if (w.range.slot) {
		KVM_MMU_LOCK(kvm);
		do {
			*budget -= VM2VM_AGE_PART + w.range.end - w.range.start;
			young |= vm2vm_do_piece(kvm, &w, op);
		} while (*budget > 0 && vm2vm_next_piece(&w));
		if (young && op == VM2VM_AGE_FLUSH) {
			*budget -= VM2VM_AGE_FLUSHED;
			kvm_flush_remote_tlbs(kvm);
		}
		KVM_MMU_UNLOCK(kvm);
	}
	srcu_read_unlock(&kvm->srcu, idx);
	vm2vm_unuse(link);
	return young;
}

/*
 * Do @op, of ageing, to the owner's gfns @start to @last in every link of @d.  It is
 * said that they are young if that is not known by when *@budget is used up.
 */
static bool vm2vm_age_gfns(struct vm2vm_domain *d, gfn_t start, gfn_t last,
			   enum vm2vm_op op, int *budget)
{
	struct vm2vm_gfns g = { .start = start, .last = last, .mask = ~0UL };
	struct vm2vm_link *link = NULL;
	struct vm2vm_parts p;
	bool young = false;

	p.nr = 0;
	*budget -= 1;
	if (*budget <= 0 || vm2vm_collect(d, &g, &p) != VM2VM_ALL)
		return true;
	if (!p.nr)
		return false;

	while ((link = vm2vm_next_link(d, link))) {
		young |= vm2vm_age_link(link, &p, op, budget);
		if (*budget <= 0) {
			vm2vm_link_put(link);
			return true;
		}
	}
	return young;
}

/* Do @op to the owner's gfns @start to @last in every domain; as below. */
static bool vm2vm_do_domains(struct kvm *kvm, gfn_t start, gfn_t last,
			     enum vm2vm_op op, bool may_block, int *budget)
{
	struct vm2vm_domain *d = NULL;
	bool found = false;

	if (op == VM2VM_ZAP) {
		trace_kvm_vm2vm_revoke(kvm, true, start, last);
		atomic64_inc(&kvm->stat.vm2vm_revokes);
	}
	while ((d = vm2vm_next_domain(kvm, d))) {
		if (op == VM2VM_ZAP)
			vm2vm_zap_gfns(d, start, last, may_block);
		else
			found |= vm2vm_age_gfns(d, start, last, op, budget);
	}
	return found;
}

/*
 * Do @op to the owner's host addresses @start to @end, exclusively, in every
 * domain.  Only the owner's own memslots wait for its SRCU, as they do for its MMU
 * notifier at any rate.
 */
static bool vm2vm_do_range(struct kvm *kvm, unsigned long start,
			   unsigned long end, enum vm2vm_op op, bool may_block)
{
	struct interval_tree_node *node;
	int budget = VM2VM_AGE_BUDGET;
	struct kvm_memory_slot *slot;
	struct kvm_memslots *slots;
	unsigned long lo, hi;
	bool found = false;
	int idx;

	idx = srcu_read_lock(&kvm->srcu);
	slots = kvm_memslots(kvm);
	for (node = interval_tree_iter_first(&slots->hva_tree, start, end - 1);
	     node && budget > 0;
	     node = interval_tree_iter_next(node, start, end - 1)) {
		slot = container_of(node, struct kvm_memory_slot,
				    hva_node[slots->node_idx]);
		lo = max(start, node->start) - slot->userspace_addr;
		hi = min(end - 1, node->last) - slot->userspace_addr;
		lo = slot->base_gfn + (lo >> PAGE_SHIFT);
		hi = slot->base_gfn + (hi >> PAGE_SHIFT);
		found |= vm2vm_do_domains(kvm, lo, hi, op, may_block, &budget);
	}
	srcu_read_unlock(&kvm->srcu, idx);
	return found;
}

/*
 * The owner's MMU notifier is about to unmap the host addresses @start to @end.
 * KVM has marked the gfns, zapped the owner's own translations and dropped the
 * owner's mmu_lock.  If the VM has no domain yet there is no translation to zap,
 * and a fault through one that is being made sees the owner's mark.
 *
 * If it may not block it does the same, in pieces that are as short, without a chance
 * to reschedule: a notifier that has an invalidate_range_end() cannot refuse.
 */
void kvm_vm2vm_invalidate_range(struct kvm *kvm, unsigned long start,
				unsigned long end, bool may_block)
{
	if (!list_empty(&kvm->vm2vm.domains))
		vm2vm_do_range(kvm, start, end, VM2VM_ZAP, may_block);
}

/*
 * Whether a backend has accessed the host addresses @start to @end of the owner
 * since the last time, or it would take too long to know; called by the MMU notifier
 * with a lock of the owner's page tables held.
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

/* What faults see has changed: what they have found before this is not installed. */
void vm2vm_outdate(struct vm2vm_domain *d)
{
	/*
	 * The change first, then the number, then mmu_lock.  Pairs with the smp_rmb()
	 * in vm2vm_try().
	 */
	smp_mb__before_atomic();
	atomic_long_inc(&d->seq);
	/* As in vm2vm_revoke_begin_range(). */
	smp_mb__after_atomic();
}

/*
 * What faults see of the owner's @slot has changed: zap all of it in every link of @d,
 * and have what was found before not be installed.
 */
void vm2vm_zap_slot(struct vm2vm_domain *d, const struct kvm_memory_slot *slot)
{
	vm2vm_outdate(d);
	vm2vm_zap_gfns(d, slot->base_gfn, slot->base_gfn + slot->npages - 1, true);
}

/*
 * The owner deletes or moves @slot, which faults can no longer see: it is marked
 * invalid and the owner's SRCU is synchronized.  The caller holds the owner's
 * slots_lock.
 */
void kvm_vm2vm_invalidate_slot(struct kvm *kvm,
			       const struct kvm_memory_slot *slot)
{
	struct vm2vm_domain *d = NULL;

	lockdep_assert_held(&kvm->slots_lock);

	if (list_empty(&kvm->vm2vm.domains))
		return;

	trace_kvm_vm2vm_revoke(kvm, true, slot->base_gfn,
			       slot->base_gfn + slot->npages - 1);
	atomic64_inc(&kvm->stat.vm2vm_revokes);

	while ((d = vm2vm_next_domain(kvm, d)))
		vm2vm_zap_slot(d, slot);
}
