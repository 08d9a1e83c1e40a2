// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: holes that are filled, KVM_VM2VM_LINK_FILL.
 *
 * An access to what is not approved completes in the guest, whatever instruction it
 * is.  What is read is a page of all-ones, one for all VMs and never writable.  What is
 * written goes to the link's own sink, a page that nobody but this backend's guest ever
 * reaches.  A guest can have no more of them, whatever it does.
 *
 * A filler is a translation like others, so it has to go when there is something to
 * see in its place:
 *
 *  - It lasts if no mapping covers the iova, and a MAP that does takes it away.
 *  - It passes if there is one that does not allow this access: the owner has no page
 *    there for now, or the access is a write.  A memslot of the owner that appears
 *    takes it away; else it goes after VM2VM_FILL_TIME, as nobody tells when a page
 *    can be had again, and so that what may be read is seen again.
 *
 * To cost nothing where nothing was filled, a link remembers by granules of its window
 * where it was.  A fault and a MAP meet like this, either of them with a full barrier
 * in between:
 *
 *	fault, in mmu_lock			MAP
 *	 1. mark the granule			 1. insert the mapping
 *	 2. is there a mapping now?		 2. is the granule marked?
 *
 * So at least one of them sees the other: the fault tries again, or the MAP clears the
 * mark and zaps the granule, for which it waits for mmu_lock and so for the fault.  With
 * a memslot it is the same, but the fault sees that the domain's number has moved
 * (vm2vm_outdate()).
 */
#include <linux/bitmap.h>
#include <linux/kvm_host.h>
#include <linux/mm.h>
#include <uapi/linux/kvm_vm2vm.h>

#include "vm2vm.h"
#include "vm2vm_trace.h"

/* How many granules a window has at most: a page of bits of either kind. */
#define VM2VM_FILL_GRANULES	(PAGE_SIZE * BITS_PER_BYTE)

/* How long a filler stays that passes. */
#define VM2VM_FILL_TIME		(HZ / 10)

/**
 * struct vm2vm_fill - what a link has to fill its holes with
 * @link: the link
 * @sink: where writes go
 * @filled: granules of the window that may have fillers; see above
 * @passing: those that may have fillers that pass
 * @nr: how many granules there are
 * @shift: log2 of the pages in a granule
 * @pass: zaps the granules in @passing
 */
struct vm2vm_fill {
	struct vm2vm_link *link;
	struct page *sink;
	unsigned long *filled;
	unsigned long *passing;
	unsigned long nr;
	unsigned int shift;
	struct delayed_work pass;
};

/*
 * The page of all-ones, and the number of links that use it.  Everybody's LINK and UNLINK
 * takes the lock, so it is one that no thread is preempted with.
 */
static DEFINE_SPINLOCK(vm2vm_ones_lock);
static struct page *vm2vm_ones;
static unsigned int vm2vm_ones_users;

static struct page *vm2vm_alloc_ones(gfp_t gfp)
{
	struct page *page = alloc_page(gfp);

	if (page)
		memset(page_address(page), 0xff, PAGE_SIZE);
	return page;
}

static int vm2vm_ones_get(void)
{
	struct page *page = vm2vm_alloc_ones(GFP_KERNEL);

	if (!page)
		return -ENOMEM;

	spin_lock(&vm2vm_ones_lock);
	if (!vm2vm_ones_users++)
		swap(vm2vm_ones, page);
	spin_unlock(&vm2vm_ones_lock);

	if (page)
		__free_page(page);
	return 0;
}

static void vm2vm_ones_put(void)
{
	struct page *page = NULL;

	spin_lock(&vm2vm_ones_lock);
	if (!--vm2vm_ones_users)
		swap(vm2vm_ones, page);
	spin_unlock(&vm2vm_ones_lock);

	if (page)
		__free_page(page);
}

/* Fillers that pass have had their time: only they go, and what shares their granules. */
static void vm2vm_fill_pass(struct work_struct *work)
{
	struct vm2vm_fill *fill = container_of(to_delayed_work(work),
					       struct vm2vm_fill, pass);
	struct vm2vm_link *link = fill->link;
	struct vm2vm_parts p = {};
	unsigned long bit, first;

	for_each_set_bit(bit, fill->passing, fill->nr) {
		/* First the mark: one that is made while this zaps has to stay. */
		clear_bit(bit, fill->passing);
		first = link->iova + (bit << fill->shift);
		vm2vm_add_iovas(&p, first, first + (1UL << fill->shift) - 1);
		if (p.nr == VM2VM_PARTS) {
			vm2vm_zap_parts(link, &p);
			p.nr = 0;
		}
	}
	if (p.nr)
		vm2vm_zap_parts(link, &p);
}

/* Let @link, which is not in its domain yet, fill its holes if that is asked for. */
int vm2vm_fill_create(struct vm2vm_link *link)
{
	unsigned long last = link->npages - 1;
	struct vm2vm_fill *fill;

	if (!(link->flags & KVM_VM2VM_LINK_FILL))
		return 0;

	fill = kzalloc(sizeof(*fill), GFP_KERNEL_ACCOUNT);
	if (!fill)
		return -ENOMEM;

	while (last >> fill->shift >= VM2VM_FILL_GRANULES)
		fill->shift++;
	fill->nr = (last >> fill->shift) + 1;
	fill->filled = bitmap_zalloc(fill->nr, GFP_KERNEL_ACCOUNT);
	fill->passing = bitmap_zalloc(fill->nr, GFP_KERNEL_ACCOUNT);
	fill->sink = vm2vm_alloc_ones(GFP_KERNEL_ACCOUNT);
	if (!fill->filled || !fill->passing || !fill->sink || vm2vm_ones_get()) {
		if (fill->sink)
			__free_page(fill->sink);
		bitmap_free(fill->passing);
		bitmap_free(fill->filled);
		kfree(fill);
		return -ENOMEM;
	}

	fill->link = link;
	INIT_DELAYED_WORK(&fill->pass, vm2vm_fill_pass);
	link->fill = fill;
	return 0;
}

/* The link's translations are gone, and no vCPU finds it any more. */
void vm2vm_fill_destroy(struct vm2vm_link *link)
{
	struct vm2vm_fill *fill = link->fill;

	if (!fill)
		return;
	cancel_delayed_work_sync(&fill->pass);
	__free_page(fill->sink);
	vm2vm_ones_put();
}

/* Nor does anybody else, who may have looked at the marks. */
void vm2vm_fill_free(struct vm2vm_link *link)
{
	if (!link->fill)
		return;
	bitmap_free(link->fill->passing);
	bitmap_free(link->fill->filled);
	kfree(link->fill);
}

/* Set @a to the mapping at @iova, if there is one and the domain has not ended. */
static bool vm2vm_fill_lookup(struct vm2vm_domain *d, unsigned long iova,
			      struct vm2vm_approval *a)
{
	bool found;
	int idx;

	idx = vm2vm_enter();
	found = srcu_dereference(d->owner, &vm2vm_srcu) &&
		vm2vm_lookup(d, iova, a);
	vm2vm_leave(idx);
	return found;
}

/**
 * kvm_vm2vm_fill - get a page for an access that is not approved
 * @vcpu: the backend's vCPU, in its VM's SRCU since the access was looked at, or else
 *	  its memslots have not changed since
 * @slot: alias memslot of @gfn, whose link fills its holes
 * @gfn: the backend's gfn
 * @write: whether it is a write
 * @why: -ENODATA if no mapping approved it, -ENOENT for what kvm_vm2vm_fault() found,
 *	 with its result in @f, -ENXIO if the vCPU does not see the window
 * @f: result
 * @p: result
 *
 * Return: 0 as kvm_vm2vm_fault(), or -EAGAIN to try the access again.
 */
int kvm_vm2vm_fill(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot,
		   gfn_t gfn, bool write, int why, struct kvm_vm2vm_fault *f,
		   struct kvm_vm2vm_page *p)
{
	struct vm2vm_link *link = slot->vm2vm.link;
	unsigned long iova = link->iova + (gfn - link->base_gfn);
	struct vm2vm_approval a;
	bool mapped;

	if (why != -ENOENT) {
		f->domain_seq = atomic_long_read(&link->domain->seq);
		/* The number first; pairs with the barrier in vm2vm_revoke_end(). */
		smp_rmb();
	}
	mapped = vm2vm_fill_lookup(link->domain, iova, &a);
	if (why == -ENODATA && mapped &&
	    (!write || (a.flags & KVM_VM2VM_MAP_WRITE)))
		return -EAGAIN;

	f->gfn = gfn;
	f->fill = mapped ? KVM_VM2VM_FILL_PASSES : KVM_VM2VM_FILL_LASTS;
	*p = (struct kvm_vm2vm_page) {
		.page = write ? link->fill->sink : vm2vm_ones,
		.writable = write,
	};
	get_page(p->page);

	++vcpu->stat.vm2vm_fills;
	trace_kvm_vm2vm_miss(vcpu->kvm, gfn, write, KVM_VM2VM_MISS_FILL);
	return 0;
}

/*
 * A filler at @page is about to be installed that passes: begin to count its time.  The work
 * spins for the backend's mmu_lock: not where others' work waits for the same CPU.
 */
static void vm2vm_fill_passes(struct vm2vm_fill *fill, unsigned long page)
{
	set_bit(page >> fill->shift, fill->passing);
	queue_delayed_work(system_unbound_wq, &fill->pass, VM2VM_FILL_TIME);
}

/*
 * kvm_vm2vm_fault_stale() for a filler, with the backend's mmu_lock held: what is in
 * its place may be there by now.
 */
bool vm2vm_fill_stale(struct vm2vm_link *link, const struct kvm_vm2vm_fault *f)
{
	struct vm2vm_domain *d = link->domain;
	struct vm2vm_fill *fill = link->fill;
	unsigned long page = f->gfn - link->base_gfn;
	unsigned long iova = link->iova + page;
	struct vm2vm_approval a;
	bool mapped, passes;

	lockdep_assert_held(&link->kvm->mmu_lock);

	if (!test_bit(page >> fill->shift, fill->filled))
		set_bit(page >> fill->shift, fill->filled);
	if (!READ_ONCE(d->filled))
		WRITE_ONCE(d->filled, true);
	vm2vm_set_live(link);
	/*
	 * Pairs with those in vm2vm_fill_replace(), in vm2vm_do_links() and in
	 * vm2vm_outdate().
	 */
	smp_mb();

	/*
	 * As in kvm_vm2vm_fault_stale(), with what is revoked here: all, until a domain
	 * that ends has no translations any more.  Once it has none, and no owner, what
	 * others have not finished yet is no reason to wait.
	 */
	if (atomic_read(&d->revoking) && iova >= READ_ONCE(d->mark_first) &&
	    iova <= READ_ONCE(d->mark_last) && rcu_access_pointer(d->owner))
		return true;
	/* Pairs with the barrier in vm2vm_revoke_end(). */
	smp_rmb();
	if (atomic_long_read(&d->seq) != f->domain_seq)
		return true;

	mapped = vm2vm_fill_lookup(d, iova, &a);
	passes = f->fill == KVM_VM2VM_FILL_PASSES;
	if (mapped != passes)
		return true;
	if (mapped)
		vm2vm_fill_passes(fill, page);
	return false;
}

/* Zap the granules of @link with some of the iovas @first to @last that are marked. */
static void vm2vm_fill_clear(struct vm2vm_link *link, unsigned long first,
			     unsigned long last)
{
	struct vm2vm_fill *fill = link->fill;
	unsigned long bit, lo = ULONG_MAX, hi = 0;

	first = max(first, link->iova);
	last = min(last, link->iova + link->npages - 1);
	if (first > last)
		return;

	bit = (first - link->iova) >> fill->shift;
	last = (last - link->iova) >> fill->shift;
	for_each_set_bit_from(bit, fill->filled, last + 1) {
		/* First the mark: one that is made while this zaps has to stay. */
		clear_bit(bit, fill->filled);
		lo = min(lo, bit);
		hi = bit;
	}
	if (lo <= hi)
		vm2vm_zap_window(link, link->iova + (lo << fill->shift),
				 link->iova + ((hi + 1) << fill->shift) - 1);
}

/*
 * The iovas @first to @last have a mapping now, and did not have one: whatever fills
 * them goes.
 */
void vm2vm_fill_replace(struct vm2vm_domain *d, unsigned long first,
			unsigned long last)
{
	struct vm2vm_link *link = NULL;

	/* What another MAP has cleared it has zapped, too, when it drops the lock. */
	lockdep_assert_held(&d->lock);

	/* The mapping first, then the marks.  Pairs with that in vm2vm_fill_stale(). */
	smp_mb();
	if (!READ_ONCE(d->filled))
		return;

	while ((link = vm2vm_next_link(d, link))) {
		if (link->fill)
			vm2vm_fill_clear(link, first, last);
		cond_resched();
	}
}

/*
 * The owner has a new @slot, or one in a new place, which its faults see by now.  What
 * was filled for the lack of it goes.
 */
void kvm_vm2vm_slot_appeared(struct kvm *kvm, const struct kvm_memory_slot *slot)
{
	struct vm2vm_domain *d = NULL;

	lockdep_assert_held(&kvm->slots_lock);

	if (list_empty(&kvm->vm2vm.domains))
		return;

	while ((d = vm2vm_next_domain(kvm, d))) {
		/* The number first.  Pairs with the barrier in vm2vm_fill_stale(). */
		vm2vm_outdate(d);
		if (READ_ONCE(d->filled))
			vm2vm_zap_slot(d, slot);
		cond_resched();
	}
}

/* Whether @pfn is where writes to holes of @slot go, which has some; nobody logs them. */
bool kvm_vm2vm_is_sink(const struct kvm_memory_slot *slot, kvm_pfn_t pfn)
{
	return page_to_pfn(slot->vm2vm.link->fill->sink) == pfn;
}

/*
 * Zap what @gfn of @slot, which fills its holes, is translated to, for it to be replaced.
 * The caller is in the VM's SRCU.
 */
void kvm_vm2vm_zap_gfn(const struct kvm_memory_slot *slot, gfn_t gfn)
{
	struct vm2vm_link *link = slot->vm2vm.link;
	unsigned long iova = link->iova + (gfn - link->base_gfn);

	vm2vm_zap_window(link, iova, iova);
}
