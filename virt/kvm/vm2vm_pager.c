// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: the owner's pages, brought in.
 *
 * An owner may have mapped what it likes: files of a server that does not answer,
 * memory that is swapped to a slow device, or that its memory cgroup has no room
 * for.  The fault handlers for that run in whoever asks for the page, and some wait
 * where no signal ends it, also if they are told not to wait (filemap_fault() reads
 * a page that is to be read at random; page_mkwrite() asks a server).
 *
 * So no thread of a backend runs them.  Such a page is brought in by a work item, a
 * request, as KVM's asynchronous page faults do it.  Who waits for one holds nothing
 * and can leave at any time; the request goes on by itself, and who comes back for
 * the same page finds it.  A request may be stuck for ever.  It then has a worker
 * thread, and the owner's address space, until the owner's server answers or dies.
 *
 * An owner has a pager for itself, with a workqueue, so what is stuck is in nobody
 * else's way, and the number of requests is limited, for the owner and for each of
 * its domains, so that it does not cost much.
 *
 * Two things are not for a request.  What needs nobody's answer, anonymous memory, is
 * faulted at once, without waiting, as long as the owner's memory cgroup has room; most
 * faults are of that kind, and need not wait for a worker to be scheduled.  And a fault
 * on anonymous memory that the owner's user space has to answer (userfaultfd) waits in
 * the vCPU's thread, where a signal can end it.  In shmem and hugetlb it may have to wait
 * before that, see vm2vm_never_waits(), so a request asks for them.
 *
 * Whoever waits keeps the owner's address space, which therefore does not tell when the
 * owner's process has died.  So while somebody waits a work item looks for that.
 */
#include <linux/completion.h>
#include <linux/kvm_host.h>
#include <linux/llist.h>
#include <linux/memcontrol.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/userfaultfd_k.h>
#include <linux/workqueue.h>

#include "vm2vm.h"

/* How many requests there may be at once. */
#define VM2VM_PAGER_REQUESTS	128
#define VM2VM_DOMAIN_REQUESTS	16

/* How often to see whether the owner's process lives, while its address space is kept. */
#define VM2VM_WATCH_TIME	HZ

/* Memory that the owner's cgroup has to have left, in pages: two huge ones. */
#define VM2VM_MEMCG_MARGIN	(2UL << (PMD_SHIFT - PAGE_SHIFT))

/**
 * struct vm2vm_pager - who brings in the pages of an owner
 * @refs: the owner's, each request's, and of whoever waits
 * @kvm: the owner, until it goes; no reference
 * @mm: the owner's, with an mmgrab() reference
 * @wq: for the requests
 * @lock: protects @requests and @kvm; a leaf lock
 * @requests: those that are not done
 * @asking: who else keeps the address space for long
 * @watch: looks whether the owner's process has died, while there is either
 * @places: who waits until there may be one more
 * @ended: domains of the owner that have ended, and that are to be emptied
 * @empty: does that
 * @dead: in the list of those that are to be freed
 */
struct vm2vm_pager {
	struct kref refs;
	struct kvm *kvm;
	struct mm_struct *mm;
	struct workqueue_struct *wq;
	spinlock_t lock;	/* see above */
	struct list_head requests;
	atomic_t asking;
	struct delayed_work watch;
	wait_queue_head_t places;
	struct llist_head ended;
	struct work_struct empty;
	struct llist_node dead;
};

/**
 * struct vm2vm_request - a page that is to be brought in
 * @work: does it
 * @refs: its own until it is done, and each waiter's
 * @pager: with a reference
 * @node: in @pager's list until it is done
 * @domain: for whom; only compared, it may be freed meanwhile
 * @hva: of the page, in the owner
 * @write: whether it is to be written
 * @result: 0, -EBUSY if it takes the owner's user space, or another error
 * @done: it is done, and @result valid
 */
struct vm2vm_request {
	struct work_struct work;
	struct kref refs;
	struct vm2vm_pager *pager;
	struct list_head node;
	const struct vm2vm_domain *domain;
	unsigned long hva;
	bool write;
	int result;
	struct completion done;
};

static void vm2vm_pager_free(struct kref *kref)
{
	struct vm2vm_pager *p = container_of(kref, struct vm2vm_pager, refs);

	/* Nothing is queued; what has just been done may be about to return. */
	destroy_workqueue(p->wq);
	mmdrop(p->mm);
	kfree(p);
	module_put(THIS_MODULE);
}

/* A request cannot wait for its own workqueue, so another work item frees pagers. */
static LLIST_HEAD(vm2vm_dead_pagers);

static void vm2vm_bury_dead(struct work_struct *work)
{
	struct vm2vm_pager *p, *next;

	vm2vm_bury_domains();
	llist_for_each_entry_safe(p, next, llist_del_all(&vm2vm_dead_pagers),
				  dead)
		vm2vm_pager_free(&p->refs);
}

static DECLARE_WORK(vm2vm_bury_work, vm2vm_bury_dead);

/* Free pagers and domains that nobody has a reference to any more, soon. */
void vm2vm_bury(void)
{
	queue_work(system_unbound_wq, &vm2vm_bury_work);
}

static void vm2vm_pager_release(struct kref *kref)
{
	struct vm2vm_pager *p = container_of(kref, struct vm2vm_pager, refs);

	llist_add(&p->dead, &vm2vm_dead_pagers);
	vm2vm_bury();
}

void vm2vm_pager_put(struct vm2vm_pager *p)
{
	kref_put(&p->refs, vm2vm_pager_release);
}

/* Empty domains of an owner, one after the other, and drop the references to them. */
static void vm2vm_pager_empty_work(struct work_struct *work)
{
	struct vm2vm_pager *p = container_of(work, struct vm2vm_pager, empty);
	struct vm2vm_domain *d, *next;

	llist_for_each_entry_safe(d, next, llist_del_all(&p->ended), ended) {
		vm2vm_domain_empty(d);
		vm2vm_domain_put(d);
	}
	vm2vm_pager_put(p);
}

/* Have @d, a domain of @p's owner that has ended, emptied. */
void vm2vm_pager_empty(struct vm2vm_pager *p, struct vm2vm_domain *d)
{
	kref_get(&d->refs);
	/* Whoever makes the list begin starts the work item, with a reference for it. */
	if (llist_add(&d->ended, &p->ended)) {
		kref_get(&p->refs);
		queue_work(p->wq, &p->empty);
	}
}

#ifdef CONFIG_MEMCG
/* Whether there is a thread that has the address space for its own. */
static bool vm2vm_mm_lives(struct mm_struct *mm)
{
	/* The kernel looks for another when one exits; it is NULL when there is none. */
	return rcu_access_pointer(mm->owner);
}
#else
static bool vm2vm_mm_lives(struct mm_struct *mm)
{
	return true;
}
#endif

/* The address space of @p's owner is kept for long: watch the owner's process. */
static void vm2vm_pager_start_watch(struct vm2vm_pager *p)
{
	spin_lock(&p->lock);
	if (p->kvm)
		queue_delayed_work(system_unbound_wq, &p->watch, VM2VM_WATCH_TIME);
	spin_unlock(&p->lock);
}

/*
 * If the owner's process is dead, its domains end, though its address space is still
 * there.  The VM does not go while this runs.
 */
static void vm2vm_pager_watch(struct work_struct *work)
{
	struct vm2vm_pager *p = container_of(to_delayed_work(work), struct vm2vm_pager,
					     watch);
	struct kvm *kvm;
	bool needed;

	spin_lock(&p->lock);
	kvm = p->kvm;
	needed = kvm && (!list_empty(&p->requests) || atomic_read(&p->asking));
	spin_unlock(&p->lock);

	if (!needed)
		return;
	if (vm2vm_mm_lives(p->mm))
		vm2vm_pager_start_watch(p);
	else
		kvm_vm2vm_end_domains(kvm);
}

/*
 * The module with this code goes, so there is no pager and no domain left.  One may have
 * just been freed.  A vendor module goes while there are still descriptors.
 */
void kvm_vm2vm_exit(void)
{
	flush_work(&vm2vm_bury_work);
	/* Its mappings are freed by callbacks. */
	rcu_barrier();
}

/* A pager may outlive its VM, and all others, if a request is stuck: not KVM. */
static struct vm2vm_pager *vm2vm_pager_alloc(struct kvm *kvm)
{
	struct vm2vm_pager *p = kzalloc(sizeof(*p), GFP_KERNEL_ACCOUNT);

	if (!p)
		return NULL;
	/* More than there are requests, as it is shared out among NUMA nodes. */
	p->wq = alloc_workqueue("kvm-vm2vm-%d", WQ_UNBOUND, WQ_MAX_ACTIVE,
				task_pid_nr(current));
	if (!p->wq) {
		kfree(p);
		return NULL;
	}
	kref_init(&p->refs);
	p->kvm = kvm;
	p->mm = kvm->mm;
	mmgrab(p->mm);
	spin_lock_init(&p->lock);
	INIT_LIST_HEAD(&p->requests);
	init_waitqueue_head(&p->places);
	INIT_DELAYED_WORK(&p->watch, vm2vm_pager_watch);
	init_llist_head(&p->ended);
	INIT_WORK(&p->empty, vm2vm_pager_empty_work);
	__module_get(THIS_MODULE);
	return p;
}

/* See to it that @kvm, which is to be an owner, has a pager; 0, or -ENOMEM. */
int vm2vm_pager_create(struct kvm *kvm)
{
	struct vm2vm_pager *p;

	if (READ_ONCE(kvm->vm2vm.pager))
		return 0;

	p = vm2vm_pager_alloc(kvm);
	if (!p)
		return -ENOMEM;
	/* Another thread may have been quicker. */
	if (cmpxchg(&kvm->vm2vm.pager, NULL, p))
		kref_put(&p->refs, vm2vm_pager_free);
	return 0;
}

/* The owner @kvm goes away, and nobody finds it any more. */
void vm2vm_pager_destroy(struct kvm *kvm)
{
	struct vm2vm_pager *p = kvm->vm2vm.pager;

	kvm->vm2vm.pager = NULL;
	if (!p)
		return;
	spin_lock(&p->lock);
	p->kvm = NULL;
	spin_unlock(&p->lock);
	cancel_delayed_work_sync(&p->watch);
	kref_put(&p->refs, vm2vm_pager_free);
}

/* The pager of @owner, with a reference; the caller has entered vm2vm_srcu. */
struct vm2vm_pager *vm2vm_pager_get(struct kvm *owner)
{
	/* It is there before the first domain, and goes after the last. */
	struct vm2vm_pager *p = READ_ONCE(owner->vm2vm.pager);

	kref_get(&p->refs);
	return p;
}

/*
 * Whether the owner's user space may have to answer a fault, and nothing else is waited
 * for, so that a signal ends it.
 */
static bool vm2vm_asks_user(struct vm_area_struct *vma)
{
	return userfaultfd_armed(vma) && vma_is_anonymous(vma);
}

#ifdef CONFIG_MEMCG
/* Whether to allocate memory for @mm may have to reclaim other memory of its cgroup. */
static bool vm2vm_memcg_is_full(struct mm_struct *mm)
{
	struct mem_cgroup *first = get_mem_cgroup_from_mm(mm), *memcg;
	unsigned long limit;
	bool full = false;

	for (memcg = first; memcg && !full; memcg = parent_mem_cgroup(memcg)) {
		limit = min(READ_ONCE(memcg->memory.max),
			    READ_ONCE(memcg->memory.high));
		full = page_counter_read(&memcg->memory) + VM2VM_MEMCG_MARGIN >
		       limit;
	}
	mem_cgroup_put(first);
	return full;
}
#else
static bool vm2vm_memcg_is_full(struct mm_struct *mm)
{
	return false;
}
#endif

/*
 * Whether a fault that is told not to wait does not.  That is anonymous memory: shmem
 * waits for a hole that the owner's thread is punching, and hugetlb for a mutex that
 * another fault has, for as long as that is not given a CPU.
 */
static bool vm2vm_never_waits(struct vm_area_struct *vma)
{
	return vma_is_anonymous(vma);
}

/*
 * get_user_pages_remote() for one page that is not needed yet; 0, or an error.  What
 * that allocates, page tables too, is the owner's to pay for.
 */
static int vm2vm_touch(struct mm_struct *mm, unsigned long hva, bool write,
		       unsigned int flags, int *locked)
{
	struct mem_cgroup *memcg = get_mem_cgroup_from_mm(mm), *old;
	long r;

	flags |= FOLL_HONOR_NUMA_FAULT | FOLL_HWPOISON;
	if (write)
		flags |= FOLL_WRITE;
	old = set_active_memcg(memcg);
	r = get_user_pages_remote(mm, hva, 1, flags, NULL, locked);
	set_active_memcg(old);
	mem_cgroup_put(memcg);
	if (r == 1)
		return 0;
	/* Nothing at all is what one that is not to wait gives. */
	return r ?: -EBUSY;
}

/*
 * Bring in the page; waits for whatever that takes, but not for what the vCPU's thread can
 * ask for.
 */
static int vm2vm_touch_wait(struct mm_struct *mm, unsigned long hva, bool write)
{
	struct vm_area_struct *vma;
	int r, locked = 1;

	mmap_read_lock(mm);
	vma = vma_lookup(mm, hva);
	if (vma && vm2vm_asks_user(vma))
		r = vm2vm_touch(mm, hva, write, FOLL_NOWAIT, NULL);
	else
		r = vm2vm_touch(mm, hva, write, 0, &locked);
	if (locked)
		mmap_read_unlock(mm);
	return r;
}

static void vm2vm_request_release(struct kref *kref)
{
	struct vm2vm_request *req = container_of(kref, struct vm2vm_request, refs);

	vm2vm_pager_put(req->pager);
	kfree(req);
}

static void vm2vm_request_put(struct vm2vm_request *req)
{
	kref_put(&req->refs, vm2vm_request_release);
}

static void vm2vm_request_work(struct work_struct *work)
{
	struct vm2vm_request *req = container_of(work, struct vm2vm_request, work);
	struct vm2vm_pager *p = req->pager;

	if (mmget_not_zero(p->mm)) {
		req->result = vm2vm_touch_wait(p->mm, req->hva, req->write);
		/* Its last user may be this; the rest is not for this workqueue. */
		mmput_async(p->mm);
	}

	spin_lock(&p->lock);
	list_del(&req->node);
	spin_unlock(&p->lock);
	wake_up_interruptible(&p->places);
	complete_all(&req->done);
	vm2vm_request_put(req);
}

static struct vm2vm_request *
vm2vm_request_alloc(struct vm2vm_pager *p, const struct vm2vm_domain *d,
		    unsigned long hva, bool write)
{
	struct vm2vm_request *req = kzalloc(sizeof(*req), GFP_KERNEL_ACCOUNT);

	if (!req)
		return NULL;
	INIT_WORK(&req->work, vm2vm_request_work);
	kref_init(&req->refs);
	kref_get(&p->refs);
	req->pager = p;
	req->domain = d;
	req->hva = hva;
	req->write = write;
	init_completion(&req->done);
	return req;
}

/*
 * Start @new, unless there is one for the same page.  Returns the one that is to be
 * waited for, with a reference, or NULL: there are too many.
 */
static struct vm2vm_request *vm2vm_request_start(struct vm2vm_request *new)
{
	struct vm2vm_request *req, *found = NULL;
	unsigned int all = 0, of_domain = 0;
	struct vm2vm_pager *p = new->pager;

	spin_lock(&p->lock);
	list_for_each_entry(req, &p->requests, node) {
		if (req->hva == new->hva && req->write >= new->write) {
			found = req;
			break;
		}
		all++;
		of_domain += req->domain == new->domain;
	}
	if (!found && all < VM2VM_PAGER_REQUESTS &&
	    of_domain < VM2VM_DOMAIN_REQUESTS) {
		found = new;
		/* Its own. */
		kref_get(&new->refs);
		list_add_tail(&new->node, &p->requests);
		queue_work(p->wq, &new->work);
	}
	if (found)
		kref_get(&found->refs);
	spin_unlock(&p->lock);
	if (found == new)
		vm2vm_pager_start_watch(p);
	return found;
}

/* What came of @req, which is done, for who started @new. */
static int vm2vm_request_result(const struct vm2vm_request *req,
				const struct vm2vm_request *new)
{
	/* One that began before may not have seen what the owner has now. */
	return req == new || req->result == -EBUSY ? req->result : 0;
}

/*
 * Fault as the owner's thread would that has to be answered by its user space.  Just
 * once, as the next time something else may be mapped there.
 */
static int vm2vm_ask_user(struct vm2vm_pager *p, unsigned long hva, bool write)
{
	unsigned int flags = FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE |
			     FAULT_FLAG_INTERRUPTIBLE | FAULT_FLAG_REMOTE |
			     (write ? FAULT_FLAG_WRITE : 0);
	struct mm_struct *mm = p->mm;
	struct vm_area_struct *vma;
	vm_fault_t fault = 0;

	if (!mmget_not_zero(mm))
		return 0;
	atomic_inc(&p->asking);
	vm2vm_pager_start_watch(p);
	/* As mmap_read_lock_killable(), but for any signal. */
	if (down_read_interruptible(&mm->mmap_lock))
		goto out;
	vma = vma_lookup(mm, hva);
	if (vma && vm2vm_asks_user(vma) &&
	    (vma->vm_flags & (write ? VM_WRITE : VM_READ)))
		fault = handle_mm_fault(vma, hva, flags, NULL);
	if (!(fault & (VM_FAULT_RETRY | VM_FAULT_COMPLETED)))
		mmap_read_unlock(mm);
out:
	atomic_dec(&p->asking);
	/*
	 * The owner may have exited meanwhile.  To tear its VM down is not for a
	 * thread that has a vCPU loaded.
	 */
	mmput_async(mm);
	if (signal_pending(current))
		return -EINTR;
	return fault & VM_FAULT_ERROR ? vm_fault_to_errno(fault, FOLL_HWPOISON) : 0;
}

/*
 * An approved page that the owner does not have, by the error that says why.  It is
 * counted by @kvm, the backend; the link's answer is the same for all.
 */
static int vm2vm_absent(struct kvm *kvm, int r)
{
	switch (r) {
	case 0:
		return -EAGAIN;
	case -ENOMEM:
		atomic64_inc(&kvm->stat.vm2vm_owner_nomem);
		return -ENOENT;
	case -EHWPOISON:
		atomic64_inc(&kvm->stat.vm2vm_owner_poison);
		return -ENOENT;
	default:
		atomic64_inc(&kvm->stat.vm2vm_owner_nopage);
		return -ENOENT;
	}
}

/* Fault the page in here, if that waits for nobody, nor for memory; else -EBUSY. */
static int vm2vm_touch_nowait(struct mm_struct *mm, unsigned long hva, bool write)
{
	struct vm_area_struct *vma;
	int r = -EBUSY;

	if (!mmget_not_zero(mm))
		return 0;
	if (!vm2vm_memcg_is_full(mm) && mmap_read_trylock(mm)) {
		vma = vma_lookup(mm, hva);
		if (!vma)
			r = -EFAULT;
		else if (vm2vm_never_waits(vma))
			r = vm2vm_touch(mm, hva, write, FOLL_NOWAIT, NULL);
		mmap_read_unlock(mm);
	}
	mmput_async(mm);
	return r == -ENOMEM ? -EBUSY : r;
}

/* Start a request for the page, and wait until it is done, or for a signal. */
static int vm2vm_request_wait(struct vm2vm_pager *p, const struct vm2vm_domain *d,
			      unsigned long hva, bool write)
{
	struct vm2vm_request *new, *req;
	int r;

	new = vm2vm_request_alloc(p, d, hva, write);
	if (!new)
		return -ENOBUFS;
	r = wait_event_interruptible(p->places,
				     (req = vm2vm_request_start(new)));
	if (!r) {
		r = wait_for_completion_interruptible(&req->done);
		if (!r)
			r = vm2vm_request_result(req, new);
		vm2vm_request_put(req);
	}
	vm2vm_request_put(new);
	return r == -ERESTARTSYS ? -EINTR : r;
}

/**
 * vm2vm_page_in - bring in a page of the owner's
 * @kvm: the backend
 * @p: the owner's pager
 * @d: domain that approves the page; need not live any more
 * @hva: of the page
 * @write: whether it is to be written
 *
 * The owner may keep this waiting for as long as it likes: nothing of the backend
 * must be held.  A signal ends it.
 *
 * Return: -EAGAIN if it is worth taking the fault again, -ENOENT if there is no such
 * page for this access, -ENOMEM, -EINTR if a signal is pending.
 */
int vm2vm_page_in(struct kvm *kvm, struct vm2vm_pager *p,
		  const struct vm2vm_domain *d, unsigned long hva, bool write)
{
	int r = vm2vm_touch_nowait(p->mm, hva, write);

	if (r == -EBUSY)
		r = vm2vm_request_wait(p, d, hva, write);
	if (r == -EBUSY)
		r = vm2vm_ask_user(p, hva, write);
	if (r == -EINTR)
		return r;
	/* The backend's own lack of memory, not the owner's. */
	if (r == -ENOBUFS)
		return -ENOMEM;
	return vm2vm_absent(kvm, r);
}

/**
 * vm2vm_page_in_bounded - bring in a page of the owner's in bounded time
 * @kvm: the backend
 * @p: the owner's pager
 * @d: domain that approves the page
 * @hva: of the page
 * @write: whether it is to be written
 *
 * For a caller that holds up its own VM.  What may take longer is started, so that
 * trying again is worth it.
 *
 * Return: as vm2vm_page_in(); -EBUSY if a tick was not enough.
 */
int vm2vm_page_in_bounded(struct kvm *kvm, struct vm2vm_pager *p,
			  const struct vm2vm_domain *d, unsigned long hva,
			  bool write)
{
	struct vm2vm_request *new, *req;
	long left = 1;
	int r;

	r = vm2vm_touch_nowait(p->mm, hva, write);
	if (r != -EBUSY)
		return vm2vm_absent(kvm, r);

	new = vm2vm_request_alloc(p, d, hva, write);
	if (!new)
		return -ENOMEM;
	req = vm2vm_request_start(new);
	if (req) {
		left = wait_for_completion_killable_timeout(&req->done, left);
		if (left > 0)
			r = vm2vm_request_result(req, new);
		vm2vm_request_put(req);
	}
	vm2vm_request_put(new);
	if (r != -EBUSY)
		return vm2vm_absent(kvm, r);

	/* It has to be asked for, or there was no place. */
	if (left > 0)
		schedule_timeout_killable(left);
	return -EBUSY;
}
