// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: domains, an owner's approvals, and what the owner calls.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/poll.h>
#include <linux/sched/mm.h>
#include <linux/uio.h>
#include <uapi/linux/kvm_vm2vm.h>

#include "vm2vm.h"
#include "vm2vm_trace.h"

/*
 * Free all that is in a domain which has ended.  Takes less than a microsecond for each
 * mapping, and no lock for long.
 */
void vm2vm_domain_empty(struct vm2vm_domain *d)
{
	MA_STATE(mas, &d->iovas, 0, 0);
	struct vm2vm_few few = { .link = &d->mappings };
	bool more;

	/* Faults have let go of the log. */
	synchronize_srcu_expedited(&vm2vm_srcu);
	vm2vm_log_free(d);

	do {
		mutex_lock(&d->lock);
		/* There are no translations any more that somebody could look for. */
		vm2vm_erase_all(d);
		more = vm2vm_next_few(&few, ULONG_MAX);
		if (more) {
			mas_set_range(&mas, d->mappings->iova,
				      vm2vm_mapping_last(few.tail));
			mas_preallocate(&mas, NULL, GFP_KERNEL | __GFP_NOFAIL);
			vm2vm_remove(d, &mas, &few);
		} else {
			/* There may be a node that has nothing in it. */
			__mt_destroy(&d->iovas);
		}
		mutex_unlock(&d->lock);
		cond_resched();
	} while (more);
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

/*
 * Take the lock of @d, if the caller may change it, and return its owner.  Who may not does
 * not wait for who does; then, or if it has ended, the lock is not taken.
 */
static struct kvm *vm2vm_domain_lock(struct vm2vm_domain *d)
{
	struct kvm *owner;

	if (current->mm != d->mm)
		return ERR_PTR(-EPERM);

	mutex_lock(&d->lock);
	owner = rcu_dereference_protected(d->owner, lockdep_is_held(&d->lock));
	if (owner)
		return owner;
	mutex_unlock(&d->lock);
	return ERR_PTR(-ENODEV);
}

/* Whether the caller may change @d: 0, or why not. */
int vm2vm_domain_check_caller(struct vm2vm_domain *d)
{
	struct kvm *owner = vm2vm_domain_lock(d);

	if (IS_ERR(owner))
		return PTR_ERR(owner);
	mutex_unlock(&d->lock);
	return 0;
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
	if (current->mm != d->mm)
		return -EPERM;

	m = kzalloc(sizeof(*m), GFP_KERNEL_ACCOUNT);
	if (!m)
		return -ENOMEM;

	m->iova = args->iova >> PAGE_SHIFT;
	m->gfns.start = args->gpa >> PAGE_SHIFT;
	m->gfns.last = m->gfns.start + (args->size >> PAGE_SHIFT) - 1;
	m->flags = args->flags;

	owner = vm2vm_domain_lock(d);
	if (IS_ERR(owner)) {
		kfree(m);
		return PTR_ERR(owner);
	}
	r = vm2vm_check_memory(owner, m->gfns.start, m->gfns.last,
			       m->flags & KVM_VM2VM_MAP_WRITE);
	if (!r)
		r = vm2vm_insert(d, m);
	if (!r) {
		vm2vm_fill_replace(d, m->iova, vm2vm_mapping_last(m));
		atomic64_inc(&owner->stat.vm2vm_mappings);
		atomic64_inc(&owner->stat.vm2vm_mapped);
		trace_kvm_vm2vm_map(owner, args);
	}
	mutex_unlock(&d->lock);

	if (r)
		kfree(m);
	else
		vm2vm_miss_answer(d, args->iova, args->size, false);
	return r;
}

/*
 * Revoke and forget @few, which is all there is within @first to @last.  Return: whether
 * that is done.
 */
static bool vm2vm_unmap_few(struct vm2vm_domain *d, struct vm2vm_few *few,
			    unsigned long first, unsigned long last)
{
	MA_STATE(mas, &d->iovas, first, last);

	/*
	 * Revoking must not fail.  These few nodes of the tree are given beyond the
	 * limit of a memory cgroup, to the owner and for as long as it takes.
	 */
	if (WARN_ON_ONCE(mas_preallocate(&mas, NULL,
					 GFP_KERNEL_ACCOUNT | __GFP_NOFAIL)))
		return false;

	vm2vm_revoke_begin_range(d, first, last);
	vm2vm_zap_iovas(d, first, last);
	vm2vm_remove(d, &mas, few);
	vm2vm_revoke_end(d);
	return true;
}

/*
 * The same for all mappings within @first to @last, of which @link points to the first
 * one, and not at once: a fault elsewhere in the domain must not be held up by how many
 * there are.  Returns their size in bytes.
 */
static u64 vm2vm_unmap_whole(struct vm2vm_domain *d, struct vm2vm_mapping **link,
			     unsigned long first, unsigned long last)
{
	struct vm2vm_few few = { .link = link };
	unsigned long end;
	u64 unmapped = 0;

	while (vm2vm_next_few(&few, last)) {
		end = vm2vm_mapping_last(few.tail);
		if (!vm2vm_unmap_few(d, &few, first, end))
			break;
		unmapped += few.size << PAGE_SHIFT;
		first = end + 1;
		cond_resched();
	}
	return unmapped;
}

/* Whether @m, which begins within @first to @last, and others do so are within it. */
static bool vm2vm_whole(struct vm2vm_domain *d, const struct vm2vm_mapping *m,
			unsigned long first, unsigned long last)
{
	if (m->iova < first)
		return false;
	if (vm2vm_mapping_last(m) < last)
		m = mtree_load(&d->iovas, last);
	return !m || vm2vm_mapping_last(m) <= last;
}

static int vm2vm_unmap(struct vm2vm_domain *d, struct kvm_vm2vm_unmap *args)
{
	unsigned long first, last;
	struct vm2vm_mapping **link;
	struct kvm *owner;
	unsigned int nr;
	int r = 0;

	if (args->pad || args->flags ||
	    !vm2vm_range_valid(args->iova, args->size) ||
	    (d->flags & KVM_VM2VM_DOMAIN_ALL_MEMORY))
		return -EINVAL;

	first = args->iova >> PAGE_SHIFT;
	last = first + (args->size >> PAGE_SHIFT) - 1;
	args->unmapped = 0;

	owner = vm2vm_domain_lock(d);
	if (IS_ERR(owner))
		return PTR_ERR(owner);

	link = vm2vm_find_link(d, first);
	if (!*link || (*link)->iova > last)
		goto out;

	/* Only whole mappings: look at those at both ends. */
	r = -EINVAL;
	if (!vm2vm_whole(d, *link, first, last))
		goto out;

	nr = d->nr_mappings;
	args->unmapped = vm2vm_unmap_whole(d, link, first, last);
	r = 0;
	nr -= d->nr_mappings;
	atomic64_sub(nr, &owner->stat.vm2vm_mappings);
	atomic64_add(nr, &owner->stat.vm2vm_unmapped);
	trace_kvm_vm2vm_unmap(owner, args);
out:
	mutex_unlock(&d->lock);
	return r;
}

/* The owner has no more use for @d, whoever holds the descriptor. */
static int vm2vm_end(struct vm2vm_domain *d, unsigned long arg)
{
	struct kvm *owner;
	bool ended;

	if (arg)
		return -EINVAL;

	owner = vm2vm_domain_lock(d);
	if (IS_ERR(owner))
		return PTR_ERR(owner);
	ended = vm2vm_domain_end(d);
	mutex_unlock(&d->lock);
	if (ended)
		vm2vm_domain_forget(d);
	return 0;
}

static int vm2vm_query(struct vm2vm_domain *d, struct kvm_vm2vm_query *args)
{
	unsigned long index = args->iova >> PAGE_SHIFT;
	struct vm2vm_mapping *m;
	struct kvm *owner;
	int r = 0;

	if (args->flags || args->pad || !PAGE_ALIGNED(args->iova))
		return -EINVAL;

	owner = vm2vm_domain_lock(d);
	if (IS_ERR(owner))
		return PTR_ERR(owner);

	m = mt_find(&d->iovas, &index, ULONG_MAX);
	if (!m) {
		r = -ENOENT;
		goto out;
	}
	args->iova = (u64)m->iova << PAGE_SHIFT;
	args->gpa = gfn_to_gpa(m->gfns.start);
	args->size = (u64)(m->gfns.last - m->gfns.start + 1) << PAGE_SHIFT;
	args->flags = m->flags;
out:
	mutex_unlock(&d->lock);
	return r;
}

static int vm2vm_refuse(struct vm2vm_domain *d, struct kvm_vm2vm_refuse *args)
{
	int r;

	if (args->flags || !vm2vm_range_valid(args->iova, args->size) ||
	    !(d->flags & KVM_VM2VM_DOMAIN_MISSES))
		return -EINVAL;

	r = vm2vm_domain_check_caller(d);
	if (r)
		return r;

	args->refused = vm2vm_miss_answer(d, args->iova, args->size, true);
	return 0;
}

static int vm2vm_map_one(struct vm2vm_domain *d, void __user *argp)
{
	struct kvm_vm2vm_map args;

	if (copy_from_user(&args, argp, sizeof(args)))
		return -EFAULT;
	return vm2vm_map(d, &args);
}

static int vm2vm_unmap_one(struct vm2vm_domain *d, void __user *argp)
{
	struct kvm_vm2vm_unmap __user *uargs = argp;
	struct kvm_vm2vm_unmap args;
	int r;

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

/*
 * Do @one for each entry of @size bytes, and say in *@uargs how far that came.  That
 * is written before the entry is done, and taken back if it fails: what is done must
 * not be reported as not done because the argument cannot be written any more.
 */
static int vm2vm_batch(struct vm2vm_domain *d,
		       struct kvm_vm2vm_batch __user *uargs, size_t size,
		       int (*one)(struct vm2vm_domain *d, void __user *argp))
{
	struct kvm_vm2vm_batch args, next;
	u32 nr;
	int r;

	if (copy_from_user(&args, uargs, sizeof(args)) ||
	    copy_to_user(uargs, &args, sizeof(args)))
		return -EFAULT;
	if (args.flags)
		return -EINVAL;

	r = vm2vm_domain_check_caller(d);
	for (nr = args.nr; args.nr && !r; cond_resched()) {
		next = args;
		next.entries += size;
		next.nr--;
		if (signal_pending(current)) {
			r = -EINTR;
		} else if (copy_to_user(uargs, &next, sizeof(next))) {
			r = -EFAULT;
		} else {
			r = one(d, u64_to_user_ptr(args.entries));
			if (r && copy_to_user(uargs, &args, sizeof(args)))
				r = -EFAULT;
		}
		if (!r)
			args = next;
	}
	return args.nr == nr ? r : 0;
}

static long vm2vm_domain_ioctl(struct file *file, unsigned int ioctl,
			       unsigned long arg)
{
	struct vm2vm_domain *d = file->private_data;
	void __user *argp = (void __user *)arg;
	union {
		struct kvm_vm2vm_get_dirty get_dirty;
		struct kvm_vm2vm_query query;
		struct kvm_vm2vm_refuse refuse;
	} args;
	int r;

	switch (ioctl) {
	case KVM_VM2VM_MAP:
		return vm2vm_map_one(d, argp);
	case KVM_VM2VM_UNMAP:
		return vm2vm_unmap_one(d, argp);
	case KVM_VM2VM_MAP_BATCH:
		return vm2vm_batch(d, argp, sizeof(struct kvm_vm2vm_map),
				   vm2vm_map_one);
	case KVM_VM2VM_UNMAP_BATCH:
		return vm2vm_batch(d, argp, sizeof(struct kvm_vm2vm_unmap),
				   vm2vm_unmap_one);
	case KVM_VM2VM_QUERY:
		if (copy_from_user(&args.query, argp, sizeof(args.query)))
			return -EFAULT;
		r = vm2vm_query(d, &args.query);
		if (!r && copy_to_user(argp, &args.query, sizeof(args.query)))
			r = -EFAULT;
		return r;
	case KVM_VM2VM_GET_DIRTY:
		if (copy_from_user(&args.get_dirty, argp, sizeof(args.get_dirty)))
			return -EFAULT;
		return vm2vm_get_dirty(d, &args.get_dirty);
	case KVM_VM2VM_REFUSE:
		/* As for UNMAP: the result must not get lost. */
		if (copy_from_user(&args.refuse, argp, sizeof(args.refuse)) ||
		    copy_to_user(argp, &args.refuse, sizeof(args.refuse)))
			return -EFAULT;
		r = vm2vm_refuse(d, &args.refuse);
		if (!r)
			(void)!copy_to_user(argp, &args.refuse,
					    sizeof(args.refuse));
		return r;
	case KVM_VM2VM_END:
		return vm2vm_end(d, arg);
	default:
		return -ENOTTY;
	}
}

static ssize_t vm2vm_domain_read(struct kiocb *iocb, struct iov_iter *to)
{
	struct vm2vm_domain *d = iocb->ki_filp->private_data;

	if (iov_iter_count(to) < sizeof(struct kvm_vm2vm_miss) ||
	    !(d->flags & KVM_VM2VM_DOMAIN_MISSES))
		return -EINVAL;
	/* A record is delivered once: nobody else may take it from the owner. */
	if (current->mm != d->mm)
		return -EPERM;

	/* Others can change the file's flag, but not what this call asks for. */
	return vm2vm_miss_read(d, to, (iocb->ki_flags & IOCB_NOWAIT) ||
				      (iocb->ki_filp->f_flags & O_NONBLOCK));
}

static __poll_t vm2vm_domain_poll(struct file *file, poll_table *wait)
{
	struct vm2vm_domain *d = file->private_data;

	/* Whoever waits is woken with a lock held that misses need: only the owner may. */
	if (current->mm == d->mm)
		vm2vm_miss_watch(d, file, wait);
	return vm2vm_miss_poll(d) | (READ_ONCE(d->overwatched) ? EPOLLERR : 0);
}

static int vm2vm_domain_release(struct inode *inode, struct file *file)
{
	struct vm2vm_domain *d = file->private_data;

	if (vm2vm_domain_end(d))
		vm2vm_domain_forget(d);
	vm2vm_domain_put(d);
	return 0;
}

static const struct file_operations vm2vm_domain_fops = {
	.owner		= THIS_MODULE,
	.release	= vm2vm_domain_release,
	.read_iter	= vm2vm_domain_read,
	.poll		= vm2vm_domain_poll,
	.unlocked_ioctl	= vm2vm_domain_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.llseek		= noop_llseek,
};

static struct vm2vm_domain *vm2vm_domain_alloc(u32 flags)
{
	struct vm2vm_domain *d = kzalloc(sizeof(*d), GFP_KERNEL_ACCOUNT);

	if (!d)
		return NULL;

	kref_init(&d->refs);
	mutex_init(&d->lock);
	INIT_LIST_HEAD(&d->links);
	spin_lock_init(&d->links_lock);
	spin_lock_init(&d->mark_lock);
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
	xa_init_flags(&d->log, XA_FLAGS_ACCOUNT);
	spin_lock_init(&d->miss_lock);
	INIT_LIST_HEAD(&d->misses);
	init_waitqueue_head(&d->readers);
	init_waitqueue_head(&d->watchers);
	mutex_init(&d->watch_lock);
	d->flags = flags;
	d->mm = current->mm;
	mmgrab(d->mm);
	return d;
}

/* One mapping of all that there may ever be; its memory comes and goes. */
static int vm2vm_map_all(struct vm2vm_domain *d)
{
	struct vm2vm_mapping *m = kzalloc(sizeof(*m), GFP_KERNEL_ACCOUNT);
	int r;

	if (!m)
		return -ENOMEM;

	m->gfns.last = (ULONG_MAX >> PAGE_SHIFT) - 1;
	m->flags = KVM_VM2VM_MAP_READ | KVM_VM2VM_MAP_WRITE;

	mutex_lock(&d->lock);
	r = vm2vm_insert(d, m);
	mutex_unlock(&d->lock);
	if (r)
		kfree(m);
	return r;
}

/* Make @kvm the owner of @d. */
static int vm2vm_domain_attach(struct vm2vm_domain *d, struct kvm *kvm)
{
	int r = 0;

	/* Orders this against a memslot's becoming one that logs. */
	mutex_lock(&kvm->slots_lock);
	if (kvm->vm2vm.forbidden) {
		r = -EOPNOTSUPP;
		goto out;
	}
	d->logging = (d->flags & KVM_VM2VM_DOMAIN_LOG) ||
		     atomic_read(&kvm->nr_memslots_dirty_logging);
	if (atomic_read(&kvm->nr_memslots_dirty_logging) &&
	    !kvm_use_dirty_bitmap(kvm)) {
		r = -EBUSY;
		goto out;
	}

	spin_lock(&kvm->vm2vm.lock);
	if (kvm->vm2vm.nr_domains >= KVM_VM2VM_MAX_DOMAINS) {
		r = -ENOSPC;
	} else {
		kvm->vm2vm.used = true;
		kvm->vm2vm.nr_domains++;
		kvm->stat.vm2vm_domains++;
		atomic64_add(d->nr_mappings, &kvm->stat.vm2vm_mappings);
		rcu_assign_pointer(d->owner, kvm);
		kref_get(&d->refs);
		d->places = 1;
		list_add_tail(&d->owner_node, &kvm->vm2vm.domains);
	}
	spin_unlock(&kvm->vm2vm.lock);
out:
	mutex_unlock(&kvm->slots_lock);
	return r;
}

int vm2vm_create_domain(struct kvm *kvm,
			const struct kvm_vm2vm_create_domain *args)
{
	struct vm2vm_domain *d;
	struct file *file;
	int fd, r;

	if ((args->flags & ~(KVM_VM2VM_DOMAIN_ALL_MEMORY |
			     KVM_VM2VM_DOMAIN_MISSES |
			     KVM_VM2VM_DOMAIN_LOG)) ||
	    args->pad ||
	    memchr_inv(args->reserved, 0, sizeof(args->reserved)))
		return -EINVAL;
	if (!kvm_arch_vm2vm_supported(kvm))
		return -EOPNOTSUPP;

	r = vm2vm_pager_create(kvm);
	if (r)
		return r;
	d = vm2vm_domain_alloc(args->flags);
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

	/* For RWF_NOWAIT. */
	file->f_mode |= FMODE_NOWAIT;

	/* Complete before anybody can find it, be it an invalidation. */
	r = 0;
	if (d->flags & KVM_VM2VM_DOMAIN_ALL_MEMORY)
		r = vm2vm_map_all(d);
	if (!r)
		r = vm2vm_domain_attach(d, kvm);
	if (r) {
		/* Nobody owns it, so it is not the end that empties it. */
		vm2vm_domain_empty(d);
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

/* The domain of a file descriptor, with a reference; -EBADF, -EINVAL. */
struct vm2vm_domain *vm2vm_domain_get(int fd)
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

