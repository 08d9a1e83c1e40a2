// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: direct memory between two virtual machines.
 *
 * This file has the user ABI (include/uapi/linux/kvm_vm2vm.h) and the life of
 * domains, mappings and links; vm2vm_fault.c has the translation of a window's
 * gfn, vm2vm_revoke.c the way back.  Documentation/virt/kvm/vm2vm.rst tells what
 * all of it is for and what it guarantees.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/sched/mm.h>
#include <uapi/linux/kvm_vm2vm.h>

#include "vm2vm.h"

DEFINE_SRCU(vm2vm_srcu);

static void vm2vm_domain_free(struct kref *kref)
{
	struct vm2vm_domain *d = container_of(kref, struct vm2vm_domain, refs);

	mmdrop(d->mm);
	mutex_destroy(&d->lock);
	kfree(d);
}

static void vm2vm_domain_put(struct vm2vm_domain *d)
{
	kref_put(&d->refs, vm2vm_domain_free);
}

/* Forget every approval of a domain that has ended and that nobody looks at. */
static void vm2vm_free_mappings(struct vm2vm_domain *d)
{
	MA_STATE(mas, &d->iovas, 0, 0);
	struct vm2vm_mapping *m;

	mutex_lock(&d->lock);
	d->gfns = RB_ROOT_CACHED;
	mas_for_each(&mas, m, ULONG_MAX) {
		kfree(m);
		cond_resched();
	}
	__mt_destroy(&d->iovas);
	d->nr_mappings = 0;
	mutex_unlock(&d->lock);
}

/*
 * End a domain: revoke and forget all, and let go of the owner.  Called when the
 * last reference to the file descriptor is closed and when the owner goes away,
 * which may be at the same time; whoever returns from here may free the one.
 */
static void vm2vm_domain_end(struct vm2vm_domain *d)
{
	struct kvm *owner;

	mutex_lock(&d->lock);
	owner = rcu_dereference_protected(d->owner, lockdep_is_held(&d->lock));
	if (owner) {
		vm2vm_revoke_begin(d);
		vm2vm_zap_iovas(d, 0, ULONG_MAX);
		spin_lock(&d->links_lock);
		rcu_assign_pointer(d->owner, NULL);
		spin_unlock(&d->links_lock);
		vm2vm_revoke_end(d);

		spin_lock(&owner->vm2vm.lock);
		list_del_rcu(&d->owner_node);
		owner->vm2vm.nr_domains--;
		spin_unlock(&owner->vm2vm.lock);
	}
	mutex_unlock(&d->lock);

	/* Faults, and the owner's invalidations, have let go of both. */
	synchronize_srcu_expedited(&vm2vm_srcu);
	if (owner)
		vm2vm_free_mappings(d);
}

/*
 * Check that all of the owner's gfns @start to @last are memory that it can
 * share.  It may change at any time: faults check again.
 */
static int vm2vm_check_memory(struct kvm *owner, gfn_t start, gfn_t last,
			      bool write)
{
	struct kvm_memory_slot *slot;
	int idx, r = 0;
	gfn_t gfn;

	idx = srcu_read_lock(&owner->srcu);
	for (gfn = start; gfn <= last; gfn = slot->base_gfn + slot->npages) {
		slot = gfn_to_memslot(owner, gfn);
		if (!vm2vm_slot_usable(slot))
			r = -ENOENT;
		else if (!vm2vm_slot_sharable(slot))
			r = -EOPNOTSUPP;
		else if (write && (slot->flags & KVM_MEM_READONLY))
			r = -EACCES;
		if (r)
			break;
	}
	srcu_read_unlock(&owner->srcu, idx);
	return r;
}

/* Whether [@start, @start + @size) is not empty, of whole pages, and in range. */
static bool vm2vm_range_valid(u64 start, u64 size)
{
	return size && PAGE_ALIGNED(start) && PAGE_ALIGNED(size) &&
	       start + size > start;
}

static int vm2vm_insert(struct vm2vm_domain *d, struct vm2vm_mapping *m)
{
	MA_STATE(mas, &d->iovas, m->iova, vm2vm_mapping_last(m));
	unsigned long index = m->iova;
	int r;

	lockdep_assert_held(&d->lock);

	if (mt_find(&d->iovas, &index, mas.last))
		return -EEXIST;
	if (d->nr_mappings >= KVM_VM2VM_MAX_MAPPINGS)
		return -ENOSPC;

	/*
	 * First where the owner's invalidations look, then where faults do, so
	 * that there is never a translation that invalidations miss.
	 */
	write_lock(&d->gfn_lock);
	interval_tree_insert(&m->gfns, &d->gfns);
	write_unlock(&d->gfn_lock);

	r = mas_store_gfp(&mas, m, GFP_KERNEL_ACCOUNT);
	if (r) {
		write_lock(&d->gfn_lock);
		interval_tree_remove(&m->gfns, &d->gfns);
		write_unlock(&d->gfn_lock);
		return r;
	}
	d->nr_mappings++;
	return 0;
}

/* The owner of @d, if the caller may change @d. */
static struct kvm *vm2vm_domain_owner(struct vm2vm_domain *d)
{
	struct kvm *owner;

	if (current->mm != d->mm)
		return ERR_PTR(-EPERM);
	owner = rcu_dereference_protected(d->owner, lockdep_is_held(&d->lock));
	return owner ?: ERR_PTR(-ENODEV);
}

static int vm2vm_map(struct vm2vm_domain *d, const struct kvm_vm2vm_map *args)
{
	struct vm2vm_mapping *m;
	struct kvm *owner;
	int r;

	if (args->pad ||
	    (args->flags & ~(KVM_VM2VM_MAP_READ | KVM_VM2VM_MAP_WRITE)) ||
	    !(args->flags & KVM_VM2VM_MAP_READ) ||
	    !vm2vm_range_valid(args->iova, args->size) ||
	    !vm2vm_range_valid(args->gpa, args->size))
		return -EINVAL;

	m = kzalloc(sizeof(*m), GFP_KERNEL_ACCOUNT);
	if (!m)
		return -ENOMEM;

	m->iova = args->iova >> PAGE_SHIFT;
	m->gfns.start = args->gpa >> PAGE_SHIFT;
	m->gfns.last = m->gfns.start + (args->size >> PAGE_SHIFT) - 1;
	m->flags = args->flags;

	mutex_lock(&d->lock);
	owner = vm2vm_domain_owner(d);
	r = PTR_ERR_OR_ZERO(owner);
	if (!r)
		r = vm2vm_check_memory(owner, m->gfns.start, m->gfns.last,
				       m->flags & KVM_VM2VM_MAP_WRITE);
	if (!r)
		r = vm2vm_insert(d, m);
	mutex_unlock(&d->lock);

	if (r)
		kfree(m);
	return r;
}

/*
 * Take the mappings within @first to @last out of both trees.  @mas is for this
 * range and has the memory that this needs.  Returns their size in bytes.
 */
static u64 vm2vm_remove(struct vm2vm_domain *d, struct ma_state *mas,
			unsigned long first, unsigned long last)
{
	MA_STATE(it, &d->iovas, first, first);
	struct vm2vm_mapping *m, *removed = NULL;
	u64 size = 0;

	mas_for_each(&it, m, last) {
		write_lock(&d->gfn_lock);
		interval_tree_remove(&m->gfns, &d->gfns);
		write_unlock(&d->gfn_lock);
		size += (u64)(m->gfns.last - m->gfns.start + 1) << PAGE_SHIFT;
		d->nr_mappings--;
		m->next = removed;
		removed = m;
		cond_resched();
	}
	mas_store_prealloc(mas, NULL);

	/* Faults can no longer find them; some may have. */
	while ((m = removed)) {
		removed = m->next;
		kfree_rcu(m, rcu);
		cond_resched();
	}
	return size;
}

static int vm2vm_unmap(struct vm2vm_domain *d, struct kvm_vm2vm_unmap *args)
{
	MA_STATE(mas, &d->iovas, 0, 0);
	unsigned long first, last, index;
	struct vm2vm_mapping *m;
	int r;

	if (args->pad || args->flags ||
	    !vm2vm_range_valid(args->iova, args->size))
		return -EINVAL;

	first = args->iova >> PAGE_SHIFT;
	last = first + (args->size >> PAGE_SHIFT) - 1;
	args->unmapped = 0;

	mutex_lock(&d->lock);
	r = PTR_ERR_OR_ZERO(vm2vm_domain_owner(d));
	if (r)
		goto out;

	index = first;
	m = mt_find(&d->iovas, &index, last);
	if (!m)
		goto out;

	/* Only whole mappings: look at those at both ends. */
	r = -EINVAL;
	if (m->iova < first)
		goto out;
	m = mtree_load(&d->iovas, last);
	if (m && vm2vm_mapping_last(m) > last)
		goto out;

	mas_set_range(&mas, first, last);
	r = mas_preallocate(&mas, NULL, GFP_KERNEL_ACCOUNT);
	if (r)
		goto out;

	vm2vm_revoke_begin(d);
	vm2vm_zap_iovas(d, first, last);
	args->unmapped = vm2vm_remove(d, &mas, first, last);
	vm2vm_revoke_end(d);
out:
	mutex_unlock(&d->lock);
	return r;
}

static long vm2vm_domain_ioctl(struct file *file, unsigned int ioctl,
			       unsigned long arg)
{
	struct vm2vm_domain *d = file->private_data;
	void __user *argp = (void __user *)arg;
	long r;

	switch (ioctl) {
	case KVM_VM2VM_MAP: {
		struct kvm_vm2vm_map args;

		if (copy_from_user(&args, argp, sizeof(args)))
			return -EFAULT;
		return vm2vm_map(d, &args);
	}
	case KVM_VM2VM_UNMAP: {
		struct kvm_vm2vm_unmap __user *uargs = argp;
		struct kvm_vm2vm_unmap args;

		/* See that the result can be given before anything changes. */
		if (copy_from_user(&args, uargs, sizeof(args)) ||
		    put_user(args.unmapped, &uargs->unmapped))
			return -EFAULT;
		r = vm2vm_unmap(d, &args);
		/* Fails only if the caller unmaps its own argument meanwhile. */
		if (!r)
			(void)put_user(args.unmapped, &uargs->unmapped);
		return r;
	}
	default:
		return -ENOTTY;
	}
}

static int vm2vm_domain_release(struct inode *inode, struct file *file)
{
	struct vm2vm_domain *d = file->private_data;

	vm2vm_domain_end(d);
	vm2vm_domain_put(d);
	return 0;
}

static const struct file_operations vm2vm_domain_fops = {
	.owner		= THIS_MODULE,
	.release	= vm2vm_domain_release,
	.unlocked_ioctl	= vm2vm_domain_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.llseek		= noop_llseek,
};

static struct vm2vm_domain *vm2vm_domain_alloc(void)
{
	struct vm2vm_domain *d = kzalloc(sizeof(*d), GFP_KERNEL_ACCOUNT);

	if (!d)
		return NULL;

	kref_init(&d->refs);
	mutex_init(&d->lock);
	INIT_LIST_HEAD(&d->links);
	spin_lock_init(&d->links_lock);
	/*
	 * With MT_FLAGS_ALLOC_RANGE, although nothing is allocated from it: in
	 * Linux 6.12 the destruction under RCU of a large tree without takes the
	 * metadata of a node with 15 children for a sixteenth.
	 */
	mt_init_flags(&d->iovas, MT_FLAGS_ALLOC_RANGE | MT_FLAGS_USE_RCU |
				 MT_FLAGS_LOCK_EXTERN);
	mt_set_external_lock(&d->iovas, &d->lock);
	d->gfns = RB_ROOT_CACHED;
	rwlock_init(&d->gfn_lock);
	d->mm = current->mm;
	mmgrab(d->mm);
	return d;
}

/* Make @kvm the owner of @d. */
static int vm2vm_domain_attach(struct vm2vm_domain *d, struct kvm *kvm)
{
	int r = 0;

	/* Orders this against a memslot's becoming one that logs. */
	mutex_lock(&kvm->slots_lock);
	kvm->vm2vm.used = true;
	if (atomic_read(&kvm->nr_memslots_dirty_logging)) {
		r = -EBUSY;
		goto out;
	}

	spin_lock(&kvm->vm2vm.lock);
	if (kvm->vm2vm.nr_domains >= KVM_VM2VM_MAX_DOMAINS) {
		r = -ENOSPC;
	} else {
		kvm->vm2vm.nr_domains++;
		rcu_assign_pointer(d->owner, kvm);
		list_add_tail_rcu(&d->owner_node, &kvm->vm2vm.domains);
	}
	spin_unlock(&kvm->vm2vm.lock);
out:
	mutex_unlock(&kvm->slots_lock);
	return r;
}

static int vm2vm_create_domain(struct kvm *kvm,
			       const struct kvm_vm2vm_create_domain *args)
{
	struct vm2vm_domain *d;
	struct file *file;
	int fd, r;

	if (args->flags || args->pad ||
	    memchr_inv(args->reserved, 0, sizeof(args->reserved)))
		return -EINVAL;
	if (kvm_arch_has_private_mem(kvm))
		return -EOPNOTSUPP;

	d = vm2vm_domain_alloc();
	if (!d)
		return -ENOMEM;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		r = fd;
		goto err_domain;
	}

	file = anon_inode_getfile("kvm-vm2vm-domain", &vm2vm_domain_fops, d,
				  O_RDWR);
	if (IS_ERR(file)) {
		r = PTR_ERR(file);
		goto err_fd;
	}

	r = vm2vm_domain_attach(d, kvm);
	if (r) {
		/* Releases the domain. */
		fput(file);
		put_unused_fd(fd);
		return r;
	}

	fd_install(fd, file);
	return fd;

err_fd:
	put_unused_fd(fd);
err_domain:
	vm2vm_domain_put(d);
	return r;
}

/* Take a link out of its domain.  The memslot is gone, or its VM is going. */
static void vm2vm_link_remove(struct vm2vm_link *link)
{
	struct vm2vm_domain *d = link->domain;

	spin_lock(&d->links_lock);
	list_del_rcu(&link->node);
	d->nr_links--;
	spin_unlock(&d->links_lock);
}

/* Free a link that was removed, after waiting for vm2vm_srcu. */
static void vm2vm_link_free(struct vm2vm_link *link)
{
	vm2vm_domain_put(link->domain);
	kfree(link);
}

static int vm2vm_link_add(struct vm2vm_link *link)
{
	struct vm2vm_domain *d = link->domain;
	struct kvm *owner;
	int r = 0;

	spin_lock(&d->links_lock);
	owner = rcu_dereference_protected(d->owner,
					  lockdep_is_held(&d->links_lock));
	if (!owner) {
		r = -ENODEV;
	} else if (owner == link->kvm) {
		r = -EINVAL;
	} else if (d->nr_links >= KVM_VM2VM_MAX_LINKS) {
		r = -ENOSPC;
	} else {
		d->nr_links++;
		list_add_tail_rcu(&link->node, &d->links);
	}
	spin_unlock(&d->links_lock);
	return r;
}

static struct vm2vm_domain *vm2vm_domain_get(int fd)
{
	struct vm2vm_domain *d = ERR_PTR(-EBADF);
	struct fd f = fdget(fd);

	if (!fd_file(f))
		return d;

	d = ERR_PTR(-EINVAL);
	if (fd_file(f)->f_op == &vm2vm_domain_fops) {
		d = fd_file(f)->private_data;
		kref_get(&d->refs);
	}
	fdput(f);
	return d;
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
	r = vm2vm_link_add(link);
	if (r)
		goto out;

	kvm->vm2vm.used = true;
	if (id_to_memslot(__kvm_memslots(kvm, 0), slot)) {
		r = -EEXIST;
	} else {
		kvm->vm2vm.updating = link;
		r = __kvm_set_memory_region(kvm, &mem);
		kvm->vm2vm.updating = NULL;
	}
	if (r) {
		vm2vm_link_remove(link);
		synchronize_srcu_expedited(&vm2vm_srcu);
	}
out:
	mutex_unlock(&kvm->slots_lock);
	return r;
}

static int vm2vm_link(struct kvm *kvm, const struct kvm_vm2vm_link *args)
{
	struct vm2vm_domain *d;
	struct vm2vm_link *link;
	int r;

	if (args->pad || (args->flags & ~KVM_VM2VM_LINK_READONLY) ||
	    memchr_inv(args->reserved, 0, sizeof(args->reserved)) ||
	    args->slot >= KVM_USER_MEM_SLOTS ||
	    !vm2vm_range_valid(args->gpa, args->size) ||
	    !vm2vm_range_valid(args->iova, args->size))
		return -EINVAL;
	if (kvm_arch_has_private_mem(kvm))
		return -EOPNOTSUPP;

	link = kzalloc(sizeof(*link), GFP_KERNEL_ACCOUNT);
	if (!link)
		return -ENOMEM;

	d = vm2vm_domain_get(args->domain_fd);
	if (IS_ERR(d)) {
		kfree(link);
		return PTR_ERR(d);
	}

	link->domain = d;
	link->kvm = kvm;
	link->base_gfn = gpa_to_gfn(args->gpa);
	link->npages = args->size >> PAGE_SHIFT;
	link->iova = args->iova >> PAGE_SHIFT;
	link->flags = args->flags;

	r = vm2vm_link_install(link, args->slot);
	if (r)
		vm2vm_link_free(link);
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
		kvm->vm2vm.updating = slot->vm2vm.link;
		r = __kvm_set_memory_region(kvm, &mem);
		kvm->vm2vm.updating = NULL;
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
	default:
		return -ENOTTY;
	}
}

int kvm_vm2vm_check_extension(long ext)
{
	return ext == KVM_CAP_VM2VM ? KVM_VM2VM_FEATURE_LINK : 0;
}

/*
 * Whether @mem may replace @old: alias memslots are made and deleted by LINK and
 * UNLINK only, and the memory of a VM with a domain does not log.
 */
int kvm_vm2vm_check_slot(struct kvm *kvm, const struct kvm_memory_slot *old,
			 const struct kvm_userspace_memory_region2 *mem)
{
	lockdep_assert_held(&kvm->slots_lock);

	if (old && old->vm2vm.link != kvm->vm2vm.updating)
		return -EINVAL;
	if (mem->memory_size && (mem->flags & KVM_MEM_LOG_DIRTY_PAGES) &&
	    !list_empty(&kvm->vm2vm.domains))
		return -EBUSY;
	return 0;
}

/*
 * Make @slot, which is new, an alias if that is what is going on.  There is no
 * host address; the iova in its place gives the memslot's large page metadata
 * the alignment of the iovas to the gfns.
 */
void kvm_vm2vm_init_slot(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	struct vm2vm_link *link = kvm->vm2vm.updating;

	lockdep_assert_held(&kvm->slots_lock);

	if (!link)
		return;
	slot->vm2vm.link = link;
	slot->userspace_addr = link->iova << PAGE_SHIFT;
}

/* An alias memslot is deleted; its translations are gone. */
void kvm_vm2vm_free_slot(struct kvm_memory_slot *slot)
{
	struct vm2vm_link *link = slot->vm2vm.link;

	if (!link)
		return;
	vm2vm_link_remove(link);
	/* Revokers have let go of the link. */
	synchronize_srcu_expedited(&vm2vm_srcu);
	vm2vm_link_free(link);
}

void kvm_vm2vm_init_vm(struct kvm *kvm)
{
	spin_lock_init(&kvm->vm2vm.lock);
	INIT_LIST_HEAD(&kvm->vm2vm.domains);
}

static struct vm2vm_domain *vm2vm_first_domain(struct kvm *kvm)
{
	struct vm2vm_domain *d;

	spin_lock(&kvm->vm2vm.lock);
	d = list_first_entry_or_null(&kvm->vm2vm.domains, struct vm2vm_domain,
				     owner_node);
	if (d)
		kref_get(&d->refs);
	spin_unlock(&kvm->vm2vm.lock);
	return d;
}

/*
 * The VM goes away; nobody else has a reference to it, other than by the domains
 * that it owns and the links that it has.  End both before any of it is torn
 * down: until then they find a VM that is whole.
 */
void kvm_vm2vm_destroy_vm(struct kvm *kvm)
{
	struct kvm_memory_slot *slot;
	struct vm2vm_domain *d;
	int bkt;

	if (!kvm->vm2vm.used)
		return;

	while ((d = vm2vm_first_domain(kvm))) {
		vm2vm_domain_end(d);
		vm2vm_domain_put(d);
	}

	/* No vCPU runs, so what is zapped here does not come back. */
	kvm_for_each_memslot(slot, bkt, __kvm_memslots(kvm, 0)) {
		if (kvm_slot_is_alias(slot)) {
			vm2vm_zap_link(slot->vm2vm.link);
			vm2vm_link_remove(slot->vm2vm.link);
		}
	}

	/*
	 * Revokers have let go of the links, and of this VM: also if a domain
	 * was ended by the close of its descriptor, perhaps just now.
	 */
	synchronize_srcu_expedited(&vm2vm_srcu);

	kvm_for_each_memslot(slot, bkt, __kvm_memslots(kvm, 0)) {
		if (kvm_slot_is_alias(slot)) {
			vm2vm_link_free(slot->vm2vm.link);
			slot->vm2vm.link = NULL;
		}
	}
}
