// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: the backends' writes, in the owner's dirty log.
 *
 * A VM that shares memory must still migrate.  Whatever a backend writes is in the
 * log that the owner's VMM reads anyhow, that of the owner's memslots.
 *
 * It works as for the owner's own vCPUs, by write protection.  A page that is
 * logged is mapped for writing in a backend only by a write fault, 4 KiB at a
 * time, which sets the page's bit.  Whoever clears bits takes the write access to
 * these pages away again, in every backend, before it tells user space:
 *
 *  - A write before that went through a translation whose bit was set, when the
 *    translation was made or, if it had been harvested since, by this harvest.
 *    User space copies the page after the harvest, and has the write.
 *  - A write after that faults, and sets the bit for the next harvest.
 *
 * A fault sets the bit and installs the translation under the backend's mmu_lock.
 * So does a harvest, which has dropped the owner's mmu_lock by then: no two
 * mmu_locks are ever held together.  A harvest drops the backend's between the parts
 * that it protects (vm2vm_revoke.c), which changes nothing: each page is protected
 * once, after its bit was cleared and before user space is told.
 *
 * That logging begins is a revocation of the whole memslot: translations that were
 * made without it, or are being made, go.  So is its end, as translations may then
 * be large again.
 */
#include <linux/kvm_host.h>
#include <uapi/linux/kvm_vm2vm.h>

#include "kvm_mm.h"
#include "vm2vm.h"

/* Of a domain's own log, the pages in one array of bits: 64 bytes for 2 MiB. */
#define VM2VM_LOG_PAGES		512UL
#define VM2VM_LOG_LONGS		(VM2VM_LOG_PAGES / BITS_PER_LONG)

/* What GET_DIRTY does at once: 128 MiB, and a page of bits. */
#define VM2VM_HARVEST_PAGES	(PAGE_SIZE * BITS_PER_BYTE)

/* How many words of a log to look at between two chances to reschedule. */
#define VM2VM_LOOK_WORDS	4096

/*
 * It takes as long to look up which iovas a page has as to look at so many translations,
 * or longer.
 */
#define VM2VM_LOOK_UP		4

/* After so many times VM2VM_PARTS parts, take write access from all. */
#define VM2VM_PROTECT_BATCHES	2048

/*
 * See to it that a write to @iova can be logged where nothing can be allocated.  The
 * caller is in its own VM's SRCU, as KVM is where it allocates page tables, and in
 * none that others wait for: memory may take long to come.
 */
int vm2vm_log_prepare(struct vm2vm_domain *d, unsigned long iova)
{
	unsigned long index = iova / VM2VM_LOG_PAGES, *bits;
	void *old;

	RCU_LOCKDEP_WARN(srcu_read_lock_held(&vm2vm_srcu),
			 "vm2vm: memory is allocated in an SRCU section of all VMs");
	if (xa_load(&d->log, index))
		return 0;

	bits = kcalloc(VM2VM_LOG_LONGS, sizeof(*bits), GFP_KERNEL_ACCOUNT);
	if (!bits)
		return -ENOMEM;
	old = xa_cmpxchg(&d->log, index, NULL, bits, GFP_KERNEL_ACCOUNT);
	if (old)
		kfree(bits);
	return xa_err(old);
}

void vm2vm_log_free(struct vm2vm_domain *d)
{
	unsigned long index, *bits;

	xa_for_each(&d->log, index, bits) {
		xa_erase(&d->log, index);
		kfree(bits);
		cond_resched();
	}
}

/* Where in the domain's own log @iova is; NULL if nothing was prepared. */
static unsigned long *vm2vm_log_word(struct vm2vm_domain *d, unsigned long iova)
{
	unsigned long *bits = xa_load(&d->log, iova / VM2VM_LOG_PAGES);

	return bits ? bits + iova % VM2VM_LOG_PAGES / BITS_PER_LONG : NULL;
}

/**
 * kvm_vm2vm_log - log a write to a page of a window
 * @slot: alias memslot of @gfn; its VM's SRCU, or mmu_lock, is held
 * @gfn: the backend's gfn
 * @write: makes the write possible, and says whether it did; called when it is known
 *	   where to log it, and before that is done.  NULL: it has been made possible,
 *	   or will be with mmu_lock held
 * @arg: for @write
 *
 * Does not sleep.
 *
 * Return: whether there is an approval, and a log that can be written to.
 */
bool kvm_vm2vm_log(const struct kvm_memory_slot *slot, gfn_t gfn,
		   bool (*write)(void *arg), void *arg)
{
	const struct vm2vm_link *link = slot->vm2vm.link;
	unsigned long iova = link->iova + (gfn - link->base_gfn);
	struct vm2vm_domain *d = link->domain;
	struct kvm_memory_slot *owner_slot;
	unsigned long *own = NULL;
	struct vm2vm_approval a;
	struct kvm *owner;
	int idx, owner_idx;
	bool found;

	idx = vm2vm_enter();
	owner = srcu_dereference(d->owner, &vm2vm_srcu);
	found = owner && vm2vm_lookup(d, iova, &a);
	/* There is one until the domain has ended, and whoever is here has left. */
	if (found && (d->flags & KVM_VM2VM_DOMAIN_LOG)) {
		own = vm2vm_log_word(d, iova);
		found = own;
	}
	if (found) {
		owner_idx = srcu_read_lock(&owner->srcu);
		gfn = a.gfn + (iova - a.iova);
		owner_slot = gfn_to_memslot(owner, gfn);
		if (!write || write(arg)) {
			if (owner_slot && owner_slot->dirty_bitmap)
				set_bit_le(gfn - owner_slot->base_gfn,
					   owner_slot->dirty_bitmap);
			if (own)
				set_bit(iova % BITS_PER_LONG, own);
		}
		srcu_read_unlock(&owner->srcu, owner_idx);
	}
	vm2vm_leave(idx);
	return found;
}

/**
 * kvm_vm2vm_mark_dirty - log a write to a page of a window, if there is a log
 * @slot: alias memslot of @gfn
 * @gfn: the backend's gfn
 *
 * Called with the backend's mmu_lock held, after kvm_vm2vm_fault_stale() and before
 * the write is possible.  So there is an approval, which goes only after everything
 * is zapped.
 */
void kvm_vm2vm_mark_dirty(const struct kvm_memory_slot *slot, gfn_t gfn)
{
	lockdep_assert_held(&slot->vm2vm.link->kvm->mmu_lock);

	if (READ_ONCE(slot->vm2vm.link->domain->logging))
		kvm_vm2vm_log(slot, gfn, NULL, NULL);
}

/*
 * The owner's @slot begins or ends to log.  It is what the owner's faults see by
 * now; but translations that know of the memslot before are still made, until they
 * are told that they are stale.
 */
void kvm_vm2vm_log_changed(struct kvm *kvm, const struct kvm_memory_slot *slot)
{
	bool logging = atomic_read(&kvm->nr_memslots_dirty_logging);
	struct vm2vm_domain *d = NULL;

	lockdep_assert_held(&kvm->slots_lock);

	while ((d = vm2vm_next_domain(kvm, d))) {
		/* What is installed without it is zapped below. */
		WRITE_ONCE(d->logging, logging || (d->flags & KVM_VM2VM_DOMAIN_LOG));
		vm2vm_zap_slot(d, slot);
	}
}

/*
 * Take write access from the owner's gfns in @g in every link of @d, as far as they
 * fit in @p; the rest is left there.  Returns whether all of @g was found.
 */
static bool vm2vm_protect_word(struct vm2vm_domain *d, struct vm2vm_gfns *g,
			       struct vm2vm_parts *p, unsigned int *batches)
{
	enum vm2vm_collected r;

	while ((r = vm2vm_collect(d, g, p)) == VM2VM_FULL &&
	       ++*batches < VM2VM_PROTECT_BATCHES) {
		vm2vm_do_links(d, p, VM2VM_PROTECT, true);
		p->nr = 0;
	}
	return r == VM2VM_ALL;
}

/* Take write access from all pages in every link of @d. */
static void vm2vm_protect_all(struct vm2vm_domain *d)
{
	struct vm2vm_parts p;

	vm2vm_take_all(&p);
	vm2vm_do_links(d, &p, VM2VM_PROTECT, true);
}

/*
 * How many pages of @d there may be write access to, as far as areas of windows that were
 * touched tell; not counted beyond @most.
 */
static unsigned long vm2vm_touched_pages(struct vm2vm_domain *d, unsigned long most)
{
	struct vm2vm_link *link = NULL;
	unsigned long areas, n, touched = 0;

	while ((link = vm2vm_next_link(d, link))) {
		if (link->flags & KVM_VM2VM_LINK_READONLY)
			continue;
		areas = ((link->npages - 1) >> link->area_shift) + 1;
		/* A guess, without mmu_lock. */
		n = data_race(bitmap_weight(link->touched, areas));
		touched += min(n << link->area_shift, link->npages);
		if (touched > most) {
			vm2vm_link_put(link);
			break;
		}
		cond_resched();
	}
	return touched;
}

/*
 * Whether to take write access from all pages in every link of @d, and not only from those
 * in @bitmap, of which there are @npages, all of a memslot, as that is less work: many were
 * written, be it by the owner itself, and there are not many that backends have.  A page of
 * the memslot that is mapped for writing is in @bitmap, so it is only those of other
 * memslots that are faulted in again for that.
 */
static bool vm2vm_protects_all(struct vm2vm_domain *d, unsigned long npages,
			       const unsigned long *bitmap)
{
	unsigned long i, n, left;

	left = vm2vm_touched_pages(d, npages * VM2VM_LOOK_UP) / VM2VM_LOOK_UP;
	for (i = 0; left && i < BITS_TO_LONGS(npages); i++) {
		n = hweight_long(bitmap[i]);
		left -= min(n, left);
		if (!(i % VM2VM_LOOK_WORDS))
			cond_resched();
	}
	return !left;
}

/*
 * Take write access from the pages in @bitmap, the first of which is the owner's gfn
 * @start; or from all that the links of @d have, if there are very many parts.
 */
static void vm2vm_protect_gfns(struct vm2vm_domain *d, gfn_t start,
			       unsigned long npages, const unsigned long *bitmap)
{
	unsigned long i, left = npages, n;
	struct vm2vm_gfns g = { .flags = KVM_VM2VM_MAP_WRITE };
	unsigned int batches = 0;
	struct vm2vm_parts p = {};

	for (i = 0; left; i++, left -= n) {
		n = min_t(unsigned long, left, BITS_PER_LONG);
		if (!(i % VM2VM_LOOK_WORDS))
			cond_resched();
		if (!bitmap[i])
			continue;
		g.mask = bitmap[i] & (~0UL >> (BITS_PER_LONG - n));
		g.base = start + i * BITS_PER_LONG;
		g.start = g.base;
		g.last = g.base + n - 1;
		if (!vm2vm_protect_word(d, &g, &p, &batches)) {
			vm2vm_take_all(&p);
			break;
		}
	}
	if (p.nr)
		vm2vm_do_links(d, &p, VM2VM_PROTECT, true);
}

/**
 * kvm_vm2vm_harvested - bits of the owner's log were cleared
 * @kvm: the owner; its slots_lock is held
 * @slot: the memslot
 * @first: where @bitmap starts, in the memslot
 * @npages: bits
 * @bitmap: what was cleared, or more
 *
 * Called before user space is told, and without the owner's mmu_lock.
 */
void kvm_vm2vm_harvested(struct kvm *kvm, const struct kvm_memory_slot *slot,
			 gfn_t first, unsigned long npages,
			 const unsigned long *bitmap)
{
	struct vm2vm_domain *d = NULL;

	lockdep_assert_held(&kvm->slots_lock);

	if (list_empty(&kvm->vm2vm.domains))
		return;

	while ((d = vm2vm_next_domain(kvm, d))) {
		if (npages == slot->npages && vm2vm_protects_all(d, npages, bitmap))
			vm2vm_protect_all(d);
		else
			vm2vm_protect_gfns(d, slot->base_gfn + first, npages, bitmap);
	}
}

/*
 * Get and clear what is logged of @npages from @iova on, VM2VM_HARVEST_PAGES at the most.
 * Most of a large domain has no array of bits at all.  The log is freed when the domain has
 * ended and nobody is between vm2vm_enter() and vm2vm_leave() who has not seen that.
 *
 * Return: whether there is something, or -ENODEV.
 */
static int vm2vm_log_take(struct vm2vm_domain *d, unsigned long iova,
			  unsigned long npages, unsigned long *bitmap)
{
	unsigned long i, *word = NULL;
	int idx, r = 0;

	idx = vm2vm_enter();
	if (!srcu_dereference(d->owner, &vm2vm_srcu)) {
		vm2vm_leave(idx);
		return -ENODEV;
	}
	for (i = 0; i < npages / BITS_PER_LONG; i++, word += !!word) {
		if (!i || (iova / BITS_PER_LONG + i) % VM2VM_LOG_LONGS == 0)
			word = vm2vm_log_word(d, iova + i * BITS_PER_LONG);
		bitmap[i] = word && *word ? xchg(word, 0) : 0;
		if (bitmap[i])
			r = 1;
	}
	vm2vm_leave(idx);
	return r;
}

/* The opposite, unless the domain has ended meanwhile. */
static void vm2vm_log_put_back(struct vm2vm_domain *d, unsigned long iova,
			       unsigned long npages, const unsigned long *bitmap)
{
	unsigned long i, *word;
	int idx;

	idx = vm2vm_enter();
	if (!srcu_dereference(d->owner, &vm2vm_srcu))
		npages = 0;
	for (i = 0; i < npages / BITS_PER_LONG; i++) {
		word = bitmap[i] ? vm2vm_log_word(d, iova + i * BITS_PER_LONG) : NULL;
		if (word)
			atomic_long_or(bitmap[i], (atomic_long_t *)word);
	}
	vm2vm_leave(idx);
}

/* Take write access from the pages in @bitmap, the first of which is @iova. */
static void vm2vm_protect_iovas(struct vm2vm_domain *d, unsigned long iova,
				unsigned long npages, const unsigned long *bitmap)
{
	struct vm2vm_parts p = {};
	unsigned long i;

	for (i = 0; i < npages / BITS_PER_LONG; i++, iova += BITS_PER_LONG) {
		if (!bitmap[i])
			continue;
		if (p.nr == VM2VM_PARTS) {
			vm2vm_do_links(d, &p, VM2VM_PROTECT, true);
			p.nr = 0;
		}
		p.part[p.nr++] = (struct vm2vm_part) {
			.first = iova,
			.last = iova + BITS_PER_LONG - 1,
			.mask = bitmap[i],
		};
	}
	if (p.nr)
		vm2vm_do_links(d, &p, VM2VM_PROTECT, true);
}

/* A part of KVM_VM2VM_GET_DIRTY: @npages from @iova on, for the user's @bitmap. */
static int vm2vm_harvest(struct vm2vm_domain *d, unsigned long iova,
			 unsigned long npages, unsigned long *buffer,
			 u64 __user *bitmap)
{
	int r = vm2vm_log_take(d, iova, npages, buffer);

	if (r < 0)
		return r;
	if (r)
		vm2vm_protect_iovas(d, iova, npages, buffer);
	if (!copy_to_user(bitmap, buffer, npages / BITS_PER_BYTE))
		return 0;
	vm2vm_log_put_back(d, iova, npages, buffer);
	return -EFAULT;
}

int vm2vm_get_dirty(struct vm2vm_domain *d,
		    const struct kvm_vm2vm_get_dirty *args)
{
	unsigned long iova = args->iova >> PAGE_SHIFT, n;
	unsigned long left = args->size >> PAGE_SHIFT;
	u64 __user *bitmap = u64_to_user_ptr(args->bitmap);
	unsigned long *buffer;
	int r;

	if (args->flags || args->pad ||
	    !vm2vm_range_valid(args->iova, args->size) ||
	    iova % BITS_PER_LONG || left % BITS_PER_LONG ||
	    !(d->flags & KVM_VM2VM_DOMAIN_LOG))
		return -EINVAL;

	r = vm2vm_domain_check_caller(d);
	if (r)
		return r;

	buffer = (void *)__get_free_page(GFP_KERNEL_ACCOUNT);
	if (!buffer)
		return -ENOMEM;

	for (; left && !r; left -= n, iova += n, bitmap += n / BITS_PER_LONG) {
		n = min(left, VM2VM_HARVEST_PAGES);
		if (signal_pending(current))
			r = -EINTR;
		else
			r = vm2vm_harvest(d, iova, n, buffer, bitmap);
		cond_resched();
	}
	free_page((unsigned long)buffer);
	return r;
}
