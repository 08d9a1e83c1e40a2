// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: direct memory between two virtual machines.
 *
 * This file has the VM's part of the user ABI (include/uapi/linux/kvm_vm2vm.h)
 * and the life of links; vm2vm_domain.c has domains, vm2vm_mapping.c their mappings,
 * vm2vm_end.c their end, vm2vm_fault.c the translation of a window's gfn, vm2vm_pager.c
 * what brings the owner's page in, vm2vm_fill.c what fills holes, vm2vm_miss.c what waits
 * for approval, vm2vm_access.c KVM's own accesses to a window, vm2vm_revoke.c the way back,
 * vm2vm_walk.c walks over domains and links, vm2vm_dirty.c the logs, vm2vm_view.c which
 * links are transient, vm2vm_doorbell.c and vm2vm_irq.c doorbells.
 * Documentation/virt/kvm/vm2vm.rst tells what all of it is for and what it
 * guarantees.
 */
#include <uapi/linux/kvm_vm2vm.h>

#include "vm2vm.h"

#define CREATE_TRACE_POINTS
#include "vm2vm_trace.h"

DEFINE_SRCU(vm2vm_srcu);

/*
 * Nobody comes to the link's VM by the link any more.  Wait for those who are there,
 * which they are for one hold of mmu_lock and with the CPU; not for walkers that have a
 * place only.  The memslot is gone, or its VM is going: no vCPU begins to wait, and those
 * that do find so when they are woken.
 */
static void vm2vm_link_remove(struct vm2vm_link *link)
{
	struct vm2vm_domain *d = link->domain;
	struct kvm *owner;

	spin_lock(&d->links_lock);
	WRITE_ONCE(link->removed, true);
	d->nr_links--;
	owner = rcu_dereference_protected(d->owner,
					  lockdep_is_held(&d->links_lock));
	if (owner)
		atomic_dec(&owner->vm2vm.nr_links);
	spin_unlock(&d->links_lock);

	if (refcount_dec_and_test(&link->uses))
		complete(&link->unused);
	wait_for_completion(&link->unused);

	vm2vm_miss_unlink(link);
}

/* Let go of a link that was removed, or not added. */
static void vm2vm_link_destroy(struct vm2vm_link *link)
{
	vm2vm_fill_destroy(link);
	vm2vm_link_put(link);
}

/*
 * Count one more link to @d, whose links_lock is held.  Whoever walks for @owner walks over
 * those of all its domains; but no peer takes all there may be from the others.
 */
static bool vm2vm_link_count(struct vm2vm_domain *d, struct kvm *owner)
{
	if (d->nr_links >= KVM_VM2VM_MAX_LINKS)
		return false;
	if (atomic_inc_return(&owner->vm2vm.nr_links) > KVM_VM2VM_MAX_ALL_LINKS &&
	    d->nr_links >= KVM_VM2VM_SURE_LINKS) {
		atomic_dec(&owner->vm2vm.nr_links);
		return false;
	}
	d->nr_links++;
	return true;
}

static int vm2vm_link_add(struct vm2vm_link *link)
{
	struct vm2vm_domain *d = link->domain;
	struct kvm *owner;
	int r = 0;

	spin_lock(&d->links_lock);
	owner = rcu_dereference_protected(d->owner,
					  lockdep_is_held(&d->links_lock));
	if (!owner)
		r = -ENODEV;
	else if (owner == link->kvm)
		r = -EINVAL;
	else if (!vm2vm_link_count(d, owner))
		r = -ENOSPC;
	if (!r)
		list_add_tail(&link->node, &d->links);
	spin_unlock(&d->links_lock);
	return r;
}

/*
 * Make the alias memslot of @link.  The link is in its domain before its memslot
 * is visible, so that no revoker misses a translation.
 */
static int vm2vm_link_install(struct vm2vm_link *link, u32 slot)
{
	struct kvm *kvm = link->kvm;
	struct kvm_userspace_memory_region2 mem = {
		.slot = slot,
		.guest_phys_addr = gfn_to_gpa(link->base_gfn),
		.memory_size = (u64)link->npages << PAGE_SHIFT,
	};
	int r;

	mutex_lock(&kvm->slots_lock);
	r = kvm->vm2vm.forbidden ? -EOPNOTSUPP : vm2vm_link_add(link);
	if (r)
		goto out;

	r = id_to_memslot(__kvm_memslots(kvm, 0), slot) ? -EEXIST :
							  vm2vm_view_reserve(link);
	if (!r) {
		kvm->vm2vm.updating = link;
		r = __kvm_set_memory_region(kvm, &mem);
		kvm->vm2vm.updating = NULL;
		if (r)
			vm2vm_view_cancel(link);
	}
	if (r) {
		vm2vm_link_remove(link);
	} else {
		kvm->vm2vm.used = true;
		vm2vm_view_add(link);
		kvm->stat.vm2vm_links++;
		trace_kvm_vm2vm_link(link, slot);
	}
out:
	mutex_unlock(&kvm->slots_lock);
	return r;
}

static bool vm2vm_link_flags_valid(u32 flags)
{
	const u32 answers = KVM_VM2VM_LINK_EXIT | KVM_VM2VM_LINK_WAIT;
	const u32 exclusive = KVM_VM2VM_LINK_EXIT | KVM_VM2VM_LINK_FILL;

	return !(flags & ~(KVM_VM2VM_LINK_READONLY | KVM_VM2VM_LINK_TRANSIENT |
			   KVM_VM2VM_LINK_FILL | answers)) &&
	       (flags & answers) != answers &&
	       (flags & exclusive) != exclusive;
}

static bool vm2vm_link_view_valid(const struct kvm_vm2vm_link *args)
{
	if (!(args->flags & KVM_VM2VM_LINK_TRANSIENT))
		return !args->view;
	return args->view && args->view < KVM_VM2VM_NR_VIEWS &&
	       args->gpa >= KVM_VM2VM_VIEW_SPAN && args->gpa < KVM_VM2VM_VIEW_END &&
	       args->size <= KVM_VM2VM_VIEW_END - args->gpa;
}

/* Whether there can be a memslot for the window, as __kvm_set_memory_region() has it. */
static bool vm2vm_link_window_valid(const struct kvm_vm2vm_link *args)
{
	return args->slot < KVM_USER_MEM_SLOTS &&
	       vm2vm_range_valid(args->gpa, args->size) &&
	       args->size >> PAGE_SHIFT <= KVM_MEM_MAX_NR_PAGES &&
	       gpa_to_gfn(args->gpa + args->size - 1) <= kvm_arch_vm2vm_max_gfn();
}

/* Nothing is touched yet. */
static int vm2vm_alloc_touched(struct vm2vm_link *link)
{
	unsigned long area = max(VM2VM_PIECE_PAGES, link->npages / VM2VM_MAX_AREAS);

	link->area_shift = order_base_2(area);
	link->touched = bitmap_zalloc(((link->npages - 1) >> link->area_shift) + 1,
				      GFP_KERNEL_ACCOUNT);
	return link->touched ? 0 : -ENOMEM;
}

static int vm2vm_link(struct kvm *kvm, const struct kvm_vm2vm_link *args)
{
	struct vm2vm_domain *d;
	struct vm2vm_link *link;
	int r;

	if (!vm2vm_link_flags_valid(args->flags) || !vm2vm_link_view_valid(args) ||
	    memchr_inv(args->reserved, 0, sizeof(args->reserved)) ||
	    !vm2vm_link_window_valid(args) ||
	    !vm2vm_range_valid(args->iova, args->size))
		return -EINVAL;
	if (!kvm_arch_vm2vm_supported(kvm) ||
	    ((args->flags & KVM_VM2VM_LINK_TRANSIENT) && !vm2vm_views_supported()))
		return -EOPNOTSUPP;

	link = kzalloc(sizeof(*link), GFP_KERNEL_ACCOUNT);
	if (!link)
		return -ENOMEM;

	d = vm2vm_domain_get(args->domain_fd);
	if (IS_ERR(d)) {
		kfree(link);
		return PTR_ERR(d);
	}
	if ((args->flags & KVM_VM2VM_LINK_WAIT) &&
	    !(d->flags & KVM_VM2VM_DOMAIN_MISSES)) {
		vm2vm_domain_put(d);
		kfree(link);
		return -EINVAL;
	}

	link->domain = d;
	link->kvm = kvm;
	link->base_gfn = gpa_to_gfn(args->gpa);
	link->npages = args->size >> PAGE_SHIFT;
	link->iova = args->iova >> PAGE_SHIFT;
	link->flags = args->flags;
	link->view = args->view;
	INIT_LIST_HEAD(&link->node);
	link->places = 1;
	refcount_set(&link->uses, 1);
	init_completion(&link->unused);

	r = vm2vm_alloc_touched(link) ?: vm2vm_fill_create(link) ?:
	    vm2vm_link_install(link, args->slot);
	if (r)
		vm2vm_link_destroy(link);
	return r;
}

static int vm2vm_unlink(struct kvm *kvm, const struct kvm_vm2vm_unlink *args)
{
	struct kvm_userspace_memory_region2 mem = { .slot = args->slot };
	struct kvm_memory_slot *slot;
	int r;

	if (args->flags || args->slot >= KVM_USER_MEM_SLOTS)
		return -EINVAL;

	mutex_lock(&kvm->slots_lock);
	slot = id_to_memslot(__kvm_memslots(kvm, 0), args->slot);
	if (!slot) {
		r = -ENOENT;
	} else if (!kvm_slot_is_alias(slot)) {
		r = -EINVAL;
	} else {
		trace_kvm_vm2vm_unlink(slot->vm2vm.link, args->slot);
		kvm->vm2vm.updating = slot->vm2vm.link;
		r = __kvm_set_memory_region(kvm, &mem);
		kvm->vm2vm.updating = NULL;
		if (!r)
			kvm->stat.vm2vm_links--;
	}
	mutex_unlock(&kvm->slots_lock);
	return r;
}

long kvm_vm2vm_vm_ioctl(struct kvm *kvm, unsigned int ioctl, void __user *argp)
{
	union {
		struct kvm_vm2vm_create_domain create;
		struct kvm_vm2vm_link link;
		struct kvm_vm2vm_unlink unlink;
		struct kvm_vm2vm_doorbell doorbell;
	} args;

	switch (ioctl) {
	case KVM_VM2VM_CREATE_DOMAIN:
		if (copy_from_user(&args.create, argp, sizeof(args.create)))
			return -EFAULT;
		return vm2vm_create_domain(kvm, &args.create);
	case KVM_VM2VM_LINK:
		if (copy_from_user(&args.link, argp, sizeof(args.link)))
			return -EFAULT;
		return vm2vm_link(kvm, &args.link);
	case KVM_VM2VM_UNLINK:
		if (copy_from_user(&args.unlink, argp, sizeof(args.unlink)))
			return -EFAULT;
		return vm2vm_unlink(kvm, &args.unlink);
	case KVM_VM2VM_DOORBELL:
		if (copy_from_user(&args.doorbell, argp, sizeof(args.doorbell)))
			return -EFAULT;
		return vm2vm_doorbell(kvm, &args.doorbell);
	default:
		return -ENOTTY;
	}
}

int kvm_vm2vm_check_extension(long ext)
{
	if (ext != KVM_CAP_VM2VM)
		return 0;
	return KVM_VM2VM_FEATURE_LINK | KVM_VM2VM_FEATURE_DOORBELL |
	       KVM_VM2VM_FEATURE_END | (vm2vm_views_supported() ? KVM_VM2VM_FEATURE_VIEW : 0);
}

/*
 * Whether @mem may replace @old: alias memslots are made and deleted by LINK and
 * UNLINK only, and a VM with a domain logs in bitmaps: a write by a backend belongs
 * to no vCPU of the owner, so to none of their dirty rings.
 */
int kvm_vm2vm_check_slot(struct kvm *kvm, const struct kvm_memory_slot *old,
			 const struct kvm_userspace_memory_region2 *mem)
{
	lockdep_assert_held(&kvm->slots_lock);

	if (old && old->vm2vm.link != kvm->vm2vm.updating)
		return -EINVAL;
	if (mem->memory_size && (mem->flags & KVM_MEM_LOG_DIRTY_PAGES) &&
	    !kvm_use_dirty_bitmap(kvm) && READ_ONCE(kvm->vm2vm.nr_domains))
		return -EBUSY;
	return vm2vm_view_collides(kvm, mem) ? -EEXIST : 0;
}

/*
 * KVM_CAP_DIRTY_LOG_RING: @kvm logs in rings from now on, so set its *@ring_size to
 * @size.  But memslots that log must not lose the bitmaps that the backends' writes are
 * in, and it is too late for KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP.  Called with kvm->lock
 * held.
 */
int kvm_vm2vm_set_dirty_ring(struct kvm *kvm, u32 *ring_size, u32 size)
{
	int r = 0;

	mutex_lock(&kvm->slots_lock);
	if (atomic_read(&kvm->nr_memslots_dirty_logging) &&
	    READ_ONCE(kvm->vm2vm.nr_domains))
		r = -EBUSY;
	else
		*ring_size = size;
	mutex_unlock(&kvm->slots_lock);
	return r;
}

/*
 * Make @slot, which is new, an alias if that is what is going on.  There is no
 * host address; the gpa in its place keeps the memslot's large page metadata from
 * forbidding what a fault would permit, see vm2vm_cap_order().
 */
void kvm_vm2vm_init_slot(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	struct vm2vm_link *link = kvm->vm2vm.updating;

	lockdep_assert_held(&kvm->slots_lock);

	if (!link)
		return;
	slot->vm2vm.link = link;
	slot->vm2vm.transient = link->flags & KVM_VM2VM_LINK_TRANSIENT;
	slot->vm2vm.fills = link->flags & KVM_VM2VM_LINK_FILL;
	slot->flags |= KVM_MEMSLOT_ALIAS;
	slot->userspace_addr = gfn_to_gpa(link->base_gfn);
}

/* An alias memslot is deleted; its translations are gone. */
void kvm_vm2vm_free_slot(struct kvm_memory_slot *slot)
{
	struct vm2vm_link *link = slot->vm2vm.link;

	if (!link)
		return;
	vm2vm_view_del(link);
	vm2vm_link_remove(link);
	vm2vm_link_destroy(link);
}

/*
 * The memory of @kvm becomes such as no other VM can use, and -EBUSY if another one
 * may have it already.  There is no way back: the caller does not fail any more.
 */
int kvm_vm2vm_forbid(struct kvm *kvm)
{
	int r = 0;

	mutex_lock(&kvm->slots_lock);
	if (kvm->vm2vm.used)
		r = -EBUSY;
	else
		kvm->vm2vm.forbidden = true;
	mutex_unlock(&kvm->slots_lock);
	return r;
}
EXPORT_SYMBOL_GPL(kvm_vm2vm_forbid);

void kvm_vm2vm_init_vm(struct kvm *kvm)
{
	spin_lock_init(&kvm->vm2vm.lock);
	INIT_LIST_HEAD(&kvm->vm2vm.domains);
	xa_init(&kvm->vm2vm.ports);
	xa_init(&kvm->vm2vm.gpas);
	xa_init(&kvm->vm2vm.views);
}

/* A domain of @kvm that has not ended, with a reference. */
static struct vm2vm_domain *vm2vm_first_domain(struct kvm *kvm)
{
	struct vm2vm_domain *d, *found = NULL;

	spin_lock(&kvm->vm2vm.lock);
	list_for_each_entry(d, &kvm->vm2vm.domains, owner_node) {
		if (rcu_access_pointer(d->owner)) {
			kref_get(&d->refs);
			found = d;
			break;
		}
	}
	spin_unlock(&kvm->vm2vm.lock);
	return found;
}

/*
 * End every domain of @kvm: its descriptor is closed, or its address space goes
 * away as its process exits, by whatever death.  The VM may outlive both, but nobody
 * can approve anything any more.
 *
 * When a process is dead one of the two has happened, other than if another process
 * holds the descriptor: an address space may be kept for a moment, by a backend's
 * fault among others, and with it what is mapped there, as the vCPUs' kvm_run.
 */
void kvm_vm2vm_end_domains(struct kvm *kvm)
{
	struct vm2vm_domain *d;
	bool ended;

	while ((d = vm2vm_first_domain(kvm))) {
		mutex_lock(&d->lock);
		ended = vm2vm_domain_end(d);
		mutex_unlock(&d->lock);
		if (ended)
			vm2vm_domain_forget(d);
		vm2vm_domain_put(d);
	}
	/*
	 * Faults have let go of the VM, and of its address space's page tables: also if a
	 * domain was ended by the close of its descriptor, perhaps just now.
	 */
	if (kvm->vm2vm.used)
		synchronize_srcu_expedited(&vm2vm_srcu);
}

/*
 * The VM goes away; nobody else has a reference to it, other than by the domains
 * that it owns and the links that it has.  End both before any of it is torn
 * down: until then they find a VM that is whole.
 */
void kvm_vm2vm_destroy_vm(struct kvm *kvm)
{
	struct kvm_memory_slot *slot;
	int bkt;

	/* The doorbells go with the buses. */
	xa_destroy(&kvm->vm2vm.ports);
	xa_destroy(&kvm->vm2vm.gpas);

	if (!kvm->vm2vm.used) {
		vm2vm_pager_destroy(kvm);
		return;
	}

	kvm_vm2vm_end_domains(kvm);

	/* No vCPU runs, so what is zapped here does not come back. */
	kvm_for_each_memslot(slot, bkt, __kvm_memslots(kvm, 0)) {
		if (kvm_slot_is_alias(slot)) {
			vm2vm_zap_window(slot->vm2vm.link, 0, ULONG_MAX);
			vm2vm_link_remove(slot->vm2vm.link);
		}
	}

	vm2vm_pager_destroy(kvm);

	kvm_for_each_memslot(slot, bkt, __kvm_memslots(kvm, 0)) {
		if (kvm_slot_is_alias(slot)) {
			vm2vm_view_destroy(slot->vm2vm.link);
			vm2vm_link_destroy(slot->vm2vm.link);
			slot->vm2vm.link = NULL;
		}
	}
	xa_destroy(&kvm->vm2vm.views);
}
