// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: faults, from a window's gfn to the owner's page.
 *
 * The backend has no host address for a window.  A fault finds the approval, the
 * owner's memslot and the owner's page, and pins none of them: what it found is
 * checked again under the backend's mmu_lock, see vm2vm_revoke.c.
 *
 * A backend's vCPU must not wait for the owner while it holds up anything else.
 * So the page is first looked for without sleeping.  If it is not there, the
 * vCPU drops its own VM's SRCU (a memslot update of its VM waits for that),
 * has the page brought in, see vm2vm_pager.c, and takes the fault again.
 */
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <uapi/linux/kvm_vm2vm.h>

#include "vm2vm.h"
#include "vm2vm_trace.h"

/* How often to try what must end soon; between two there is a tick at most. */
#define VM2VM_BOUNDED_TRIES	20

/* Set @a to the approval at @iova, if there is one. */
bool vm2vm_lookup(struct vm2vm_domain *d, unsigned long iova,
		  struct vm2vm_approval *a)
{
	struct vm2vm_mapping *m;

	rcu_read_lock();
	m = mtree_load(&d->iovas, iova);
	if (m) {
		a->iova = m->iova;
		a->last = vm2vm_mapping_last(m);
		a->gfn = m->gfns.start;
		a->flags = m->flags;
	}
	rcu_read_unlock();

	return m;
}

/* Whether a mapping approves the access. */
bool vm2vm_approved(const struct vm2vm_link *link, unsigned long iova,
		    bool write)
{
	struct vm2vm_approval a;

	return vm2vm_lookup(link->domain, iova, &a) &&
	       (!write || (a.flags & KVM_VM2VM_MAP_WRITE));
}

static bool vm2vm_permits_write(const struct vm2vm_link *link,
				const struct vm2vm_approval *a,
				const struct kvm_memory_slot *slot)
{
	return (a->flags & KVM_VM2VM_MAP_WRITE) &&
	       !(link->flags & KVM_VM2VM_LINK_READONLY) &&
	       !(slot->flags & KVM_MEM_READONLY);
}

/*
 * The largest order that the approval, the link and the alignment of the
 * backend's to the owner's frames permit, not above @order.
 */
static u8 vm2vm_cap_order(const struct vm2vm_link *link,
			  const struct vm2vm_approval *a, gfn_t gfn, gfn_t ogfn,
			  u8 order)
{
	unsigned long first = max(a->iova, link->iova) - link->iova;
	unsigned long last = min(a->last, link->iova + link->npages - 1) -
			     link->iova;
	gfn_t mask;

	for (; order; order--) {
		mask = (1UL << order) - 1;
		if (!((gfn ^ ogfn) & mask) &&
		    (gfn & ~mask) >= link->base_gfn + first &&
		    (gfn | mask) <= link->base_gfn + last)
			break;
	}
	return order;
}

/*
 * Get the page at @hva of @owner, in its memslot @slot, if a look at the page tables tells
 * all about it.  Returns 0, with or without a page, or -EBUSY if it has to be brought in.
 *
 * Nobody waits for the owner's mmap_lock here, and who waits for us does not for long:
 * the caller keeps the CPU.  The address space is whole, as its exit ends the domains
 * first, and that waits for who is in vm2vm_srcu.  The lock, and a VMA that is found with
 * it held, keep its page tables.
 */
static int vm2vm_look(struct kvm *owner, const struct kvm_memory_slot *slot, gfn_t gfn,
		      unsigned long hva, bool write, struct kvm_vm2vm_page *p)
{
	struct vm_area_struct *vma;
	bool done = true;

	p->page = NULL;
	p->order = 0;
	if (!mmap_read_trylock(owner->mm))
		return -EBUSY;
	vma = vma_lookup(owner->mm, hva);
	if (vma)
		done = kvm_arch_vm2vm_look(owner, slot, gfn, vma, hva, write, p);
	mmap_read_unlock(owner->mm);
	return !done || p->page ? 0 : -EBUSY;
}

/*
 * The same for a page that is not as simple: all that needs no fault.  A page that may be
 * written is got for writing at once, as for KVM's own faults, so that a first write after
 * a first read needs no fault.
 */
static struct page *vm2vm_get_page_nosleep(struct mm_struct *mm,
					   unsigned long hva, bool write,
					   bool *writable)
{
	unsigned int flags = FOLL_NOFAULT | FOLL_HONOR_NUMA_FAULT;
	struct page *page = NULL;

	if (!mmap_read_trylock(mm))
		return NULL;

	if (*writable &&
	    get_user_pages_remote(mm, hva, 1, flags | FOLL_WRITE, &page,
				  NULL) != 1) {
		*writable = false;
		page = NULL;
	}
	if (!page && !write &&
	    get_user_pages_remote(mm, hva, 1, flags, &page, NULL) != 1)
		page = NULL;

	mmap_read_unlock(mm);
	return page;
}

/*
 * Translate @gfn of the link by the memslots of @owner, whose SRCU is held.
 * Returns 0 with @p, whose page may be NULL, which the owner has at *@hva; -EBUSY if that
 * has to be brought in; -ENODATA if no mapping approves the access; -ENOENT for any other
 * hole.
 */
static int vm2vm_translate(struct vm2vm_link *link, struct kvm *owner,
			   gfn_t gfn, bool write, struct kvm_vm2vm_fault *f,
			   struct kvm_vm2vm_page *p, unsigned long *hva)
{
	unsigned long iova = link->iova + (gfn - link->base_gfn);
	struct kvm_memory_slot *slot;
	struct vm2vm_approval a;
	int r;

	f->owner_seq = READ_ONCE(owner->mmu_invalidate_seq);
	/*
	 * The number first, then the page.  Pairs with the smp_wmb() in
	 * kvm_mmu_invalidate_end().
	 */
	smp_rmb();

	if (write && (link->flags & KVM_VM2VM_LINK_READONLY))
		return -ENOENT;
	if (!vm2vm_lookup(link->domain, iova, &a))
		return -ENODATA;

	/* What is mapped to no memory that allows the access, no other MAP approves. */
	f->gfn = a.gfn + (iova - a.iova);
	slot = gfn_to_memslot(owner, f->gfn);
	if (!vm2vm_slot_usable(slot) || !vm2vm_slot_sharable(slot) ||
	    (write && (slot->flags & KVM_MEM_READONLY)))
		return -ENOENT;

	p->logged = kvm_slot_dirty_track_enabled(slot);
	p->writable = vm2vm_permits_write(link, &a, slot);
	if (write && !p->writable)
		return -ENODATA;

	*hva = __gfn_to_hva_memslot(slot, f->gfn);
	r = vm2vm_look(owner, slot, f->gfn, *hva, write, p);
	if (p->order)
		p->order = vm2vm_cap_order(link, &a, gfn, f->gfn, p->order);
	return r;
}

/*
 * The same with the owner found, and its address space, if that is 0 and there is no page:
 * in *@mm, with a reference.  The owner's memslots, and the end of everybody's domains,
 * wait for this.
 */
static int vm2vm_find(struct vm2vm_link *link, gfn_t gfn, bool write,
		      struct kvm_vm2vm_fault *f, struct kvm_vm2vm_page *p,
		      struct mm_struct **mm, unsigned long *hva)
{
	int idx, owner_idx, r = -ENOENT;
	struct kvm *owner;

	idx = vm2vm_enter();
	owner = srcu_dereference(link->domain->owner, &vm2vm_srcu);
	if (owner) {
		owner_idx = srcu_read_lock(&owner->srcu);
		r = vm2vm_translate(link, owner, gfn, write, f, p, hva);
		srcu_read_unlock(&owner->srcu, owner_idx);
		*mm = owner->mm;
		if (!r && !p->page && !mmget_not_zero(*mm))
			r = -ENOENT;
	}
	vm2vm_leave(idx);
	return r;
}

/* The pager of the owner of @d, with a reference; NULL if the domain has ended. */
static struct vm2vm_pager *vm2vm_find_pager(struct vm2vm_domain *d)
{
	struct vm2vm_pager *pager = NULL;
	struct kvm *owner;
	int idx;

	idx = vm2vm_enter();
	owner = srcu_dereference(d->owner, &vm2vm_srcu);
	if (owner)
		pager = vm2vm_pager_get(owner);
	vm2vm_leave(idx);
	return pager;
}

/* All pages of the domain are logged.  Drops the reference to @p->page on failure. */
static int vm2vm_log_page(struct vm2vm_link *link, gfn_t gfn, bool write,
			  struct kvm_vm2vm_page *p)
{
	int r = 0;

	p->logged = true;
	if (write)
		r = vm2vm_log_prepare(link->domain,
				      link->iova + (gfn - link->base_gfn));
	if (r)
		put_page(p->page);
	return r;
}

/*
 * Translate @gfn of the link, with a reference to the page.  If that returns -EAGAIN the
 * page at *@hva has to be brought in by *@pager, and the caller drops the reference to
 * that.
 */
static int vm2vm_try(struct vm2vm_link *link, gfn_t gfn, bool write,
		     struct kvm_vm2vm_fault *f, struct kvm_vm2vm_page *p,
		     struct vm2vm_pager **pager, unsigned long *hva)
{
	struct vm2vm_domain *d = link->domain;
	struct mm_struct *mm;
	int r;

	f->iova = link->iova + (gfn - link->base_gfn);
	f->fill = KVM_VM2VM_FILL_NONE;
	f->domain_seq = atomic_long_read(&d->seq);
	/*
	 * The number first, then approval, memslot and page.  Pairs with the
	 * barrier in vm2vm_revoke_end().
	 */
	smp_rmb();

	r = vm2vm_find(link, gfn, write, f, p, &mm, hva);
	if (r && r != -EBUSY)
		return r;
	if (!r && !p->page) {
		p->page = vm2vm_get_page_nosleep(mm, *hva, write, &p->writable);
		/* If this is the last user, the owner's exit is not for us to wait for. */
		mmput_async(mm);
	}
	if (!p->page) {
		*pager = vm2vm_find_pager(d);
		return *pager ? -EAGAIN : -ENOENT;
	}

	/* Memory is allocated with nothing held that strangers wait for. */
	if (d->flags & KVM_VM2VM_DOMAIN_LOG)
		r = vm2vm_log_page(link, gfn, write, p);
	return r;
}

/* Have the page at @hva brought in, and drop the reference to @pager. */
static int vm2vm_bring_in(struct kvm_vcpu *vcpu, struct vm2vm_pager *pager,
			  const struct vm2vm_domain *d, unsigned long hva,
			  bool write)
	__releases(&vcpu->kvm->srcu) __acquires(&vcpu->kvm->srcu)
{
	int r;

	kvm_vcpu_srcu_read_unlock(vcpu);
	r = vm2vm_page_in(vcpu->kvm, pager, d, hva, write);
	vm2vm_pager_put(pager);
	kvm_vcpu_srcu_read_lock(vcpu);
	return r;
}

/**
 * vm2vm_fault_bounded - translate a gfn of a window in bounded time
 * @slot: alias memslot of @gfn; its VM's SRCU is held all the time
 * @gfn: the backend's gfn
 * @write: whether write access is needed
 * @f: result
 * @p: result
 *
 * Return: as kvm_vm2vm_fault(); -EBUSY if it takes longer to bring in the owner's
 * page, which goes on.
 */
int vm2vm_fault_bounded(const struct kvm_memory_slot *slot, gfn_t gfn,
			bool write, struct kvm_vm2vm_fault *f,
			struct kvm_vm2vm_page *p)
{
	struct vm2vm_link *link = slot->vm2vm.link;
	struct vm2vm_pager *pager;
	unsigned long hva;
	int tries, r;

	for (tries = 0; tries < VM2VM_BOUNDED_TRIES; tries++) {
		r = vm2vm_try(link, gfn, write, f, p, &pager, &hva);
		if (r != -EAGAIN)
			return r;
		r = vm2vm_page_in_bounded(link->kvm, pager, link->domain, hva,
					  write);
		vm2vm_pager_put(pager);
		if (r != -EAGAIN && r != -EBUSY)
			return r;
		if (fatal_signal_pending(current))
			break;
	}
	return -EBUSY;
}

/**
 * kvm_vm2vm_fault - translate a gfn of a window
 * @vcpu: the backend's vCPU, in its VM's SRCU; with KVM_VM2VM_SLEEP the SRCU may
 *	  be dropped and taken again, and then -EAGAIN, -ENODATA, -ENOENT or -EINTR
 *	  is returned and @slot must not be used any more
 * @slot: alias memslot of @gfn
 * @gfn: the backend's gfn
 * @write: whether write access is needed
 * @mode: how far to wait for what the owner has not at hand
 * @f: result: what to check by
 * @p: result: the page
 *
 * Return: 0 with a reference to the page, to be installed only if
 * kvm_vm2vm_fault_stale() says no under the backend's mmu_lock; -ENODATA if no
 * mapping approves the access, -ENOENT for any other hole; -EAGAIN to have the
 * access tried again; -ENOMEM; -EINTR if a signal is pending; -EBUSY with
 * KVM_VM2VM_NOWAIT.
 */
int kvm_vm2vm_fault(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot,
		    gfn_t gfn, bool write, enum kvm_vm2vm_mode mode,
		    struct kvm_vm2vm_fault *f, struct kvm_vm2vm_page *p)
{
	struct vm2vm_link *link = slot->vm2vm.link;
	struct vm2vm_pager *pager;
	unsigned long hva;
	int r;

	if (mode == KVM_VM2VM_NOWAIT)
		r = vm2vm_fault_bounded(slot, gfn, write, f, p);
	else
		r = vm2vm_try(link, gfn, write, f, p, &pager, &hva);

	if (!r) {
		++vcpu->stat.vm2vm_faults;
		trace_kvm_vm2vm_fault(link, gfn, write, f, p);
	}
	if (mode == KVM_VM2VM_NOWAIT)
		return r;

	if (r == -EAGAIN)
		return vm2vm_bring_in(vcpu, pager, link->domain, hva, write);
	if (r == -ENODATA && (link->flags & KVM_VM2VM_LINK_WAIT)) {
		r = vm2vm_miss_wait(vcpu, link, gfn, write);
		/* Refused, but may be approved by now. */
		if (r == -ENOENT)
			r = -ENODATA;
	}
	return r;
}

/**
 * kvm_vm2vm_hole - account for an access that was not approved
 * @vcpu: vCPU of the backend
 * @gfn: the backend's gfn
 * @write: whether it is a write
 * @exit: whether the VMM is told, or finds a hole
 */
void kvm_vm2vm_hole(struct kvm_vcpu *vcpu, gfn_t gfn, bool write, bool exit)
{
	if (exit)
		++vcpu->stat.vm2vm_exits;
	else
		++vcpu->stat.vm2vm_holes;
	trace_kvm_vm2vm_miss(vcpu->kvm, gfn, write,
			     exit ? KVM_VM2VM_MISS_EXIT : KVM_VM2VM_MISS_HOLE);
}

/* Whether an access that is not approved is for the VMM, not one to a hole. */
bool kvm_vm2vm_wants_exit(const struct kvm_memory_slot *slot)
{
	return slot->vm2vm.link->flags & KVM_VM2VM_LINK_EXIT;
}

/*
 * Whether the owner's MMU notifier invalidates @f->gfn, or has since the
 * translation.  The owner's mmu_lock is not held, and need not be: what matters
 * is an invalidation that has zapped the backend's translations already.  It
 * wrote its mark before, and the backend's mmu_lock, which is held, orders that
 * before these loads.  While it lasts the range can only grow.  Once it has
 * ended the number has moved.
 */
static bool vm2vm_owner_invalidates(struct kvm *owner,
				    const struct kvm_vm2vm_fault *f)
{
	if (READ_ONCE(owner->mmu_invalidate_in_progress) &&
	    f->gfn >= READ_ONCE(owner->mmu_invalidate_range_start) &&
	    f->gfn < READ_ONCE(owner->mmu_invalidate_range_end))
		return true;

	/* Pairs with the smp_wmb() in kvm_mmu_invalidate_end(). */
	smp_rmb();
	return READ_ONCE(owner->mmu_invalidate_seq) != f->owner_seq;
}

/**
 * kvm_vm2vm_fault_stale - whether a translation may no longer be installed
 * @slot: alias memslot that the translation was made for
 * @f: result of kvm_vm2vm_fault() or kvm_vm2vm_fill()
 *
 * The caller holds the backend's mmu_lock and installs the translation before it
 * drops it.
 */
bool kvm_vm2vm_fault_stale(const struct kvm_memory_slot *slot,
			   const struct kvm_vm2vm_fault *f)
{
	struct vm2vm_domain *d = slot->vm2vm.link->domain;
	struct kvm *owner;
	bool stale;
	int idx;

	if (f->fill)
		return vm2vm_fill_stale(slot->vm2vm.link, f);

	lockdep_assert_held(&slot->vm2vm.link->kvm->mmu_lock);

	vm2vm_set_live(slot->vm2vm.link);
	/* First that, then the marks.  Pairs with the smp_mb() in vm2vm_do_links(). */
	smp_mb();

	/* Whoever is about @f->iova keeps it in the range, which only grows. */
	if (atomic_read(&d->revoking) && f->iova >= READ_ONCE(d->mark_first) &&
	    f->iova <= READ_ONCE(d->mark_last))
		return true;
	/* Pairs with the barrier in vm2vm_revoke_end(). */
	smp_rmb();
	if (atomic_long_read(&d->seq) != f->domain_seq)
		return true;

	idx = vm2vm_enter();
	owner = srcu_dereference(d->owner, &vm2vm_srcu);
	stale = !owner || vm2vm_owner_invalidates(owner, f);
	vm2vm_leave(idx);

	return stale;
}
