/* SPDX-License-Identifier: GPL-2.0-only */
/* vm2vm: what its own files share. */
#ifndef __KVM_VM2VM_INTERNAL_H__
#define __KVM_VM2VM_INTERNAL_H__

#include <linux/completion.h>
#include <linux/interval_tree.h>
#include <linux/kref.h>
#include <linux/kvm_host.h>
#include <linux/llist.h>
#include <linux/maple_tree.h>
#include <linux/poll.h>
#include <linux/preempt.h>
#include <linux/refcount.h>
#include <linux/srcu.h>
#include <linux/wait.h>
#include <linux/xarray.h>

struct kvm_vm2vm_create_domain;
struct kvm_vm2vm_doorbell;
struct kvm_vm2vm_get_dirty;
struct iov_iter;
struct vm2vm_fill;

/**
 * struct vm2vm_domain - an owner's I/O address space for one peer; it is the owner's to
 * pay for as long as a peer has the descriptor
 * @refs: the file descriptor's, each link's, the owner's list's and of who forgets it
 * @flags: KVM_VM2VM_DOMAIN_*
 * @lock: serializes MAP, UNMAP, END and the owner's end.  The owner may hold it for
 *	  long; a backend never takes it, also not to close the last descriptor
 * @mm: the owner's, compared with the callers'; with an mmgrab() reference
 * @owner: NULL once the domain has ended; written under @links_lock, and under @lock
 *	   as long as there is a descriptor to call by.  Readers hold one of them or
 *	   are between vm2vm_enter() and vm2vm_leave(), which a VM waits for before
 *	   it goes away.  No reference: a domain keeps no VM alive
 * @owner_node: in the owner's list of domains
 * @places: who keeps it in that list: the domain until it has ended, and walkers;
 *	    protected by the owner's vm2vm.lock
 * @links_lock: protects @links, @nr_links and the links' places; a leaf lock
 * @links: struct vm2vm_link
 * @nr_links: number of those that are not about to be removed
 * @nr_mappings: number of mappings
 * @mappings: the first of them, which has the next, in the order of their iovas; for
 *	      those who have @lock
 * @iovas: page number of the iova -> struct vm2vm_mapping; written under @lock,
 *	   read under RCU by faults
 * @gfns: the same mappings by the owner's gfn, for the owner's invalidations; empty when
 *	  the domain has ended
 * @gfn_lock: protects @gfns; a leaf lock
 * @filled: a link may have, or have had, holes that are filled; see vm2vm_fill.c
 * @logging: the domain has a log, or a memslot of the owner; written under the
 *	     owner's slots_lock, see kvm_vm2vm_log_changed()
 * @mark_lock: serializes writers of @revoking to @seq; a leaf lock
 * @revoking: number of revocations under way, see vm2vm_revoke_begin()
 * @miss_lock: protects @misses and what is in it; a leaf lock
 * @mark_first: the first page of an iova that any of them is about
 * @mark_last: the last one
 * @seq: number of revocations that have ended
 * @log: of KVM_VM2VM_DOMAIN_LOG: page number of an iova / VM2VM_LOG_PAGES -> array
 *	 of bits, for what has been written to ever; they stay until the domain ends
 * @misses: struct vm2vm_miss, vCPUs that wait for approval
 * @readers: who waits for misses in read(); a miss wakes one of them
 * @watchers: who does by poll() or epoll; a miss wakes all of them
 * @watch_lock: serializes who becomes one of @watchers
 * @overwatched: somebody could not, and nobody could since
 * @pager: of the owner, with a reference, from the domain's end until it is forgotten
 * @ended: in @pager's list, or in that of domains that are to be freed
 *
 * Lock order, outermost first:
 *
 *	kvm->slots_lock (of an owner), domain->lock
 *	  uses of a link
 *	    kvm->srcu (read)
 *	      kvm->mmu_lock (of a backend)
 *	        vm2vm_srcu (read)
 *
 * No two mmu_locks are ever held together: A may link B while B links A.  An
 * owner's mmu_lock is never taken here.  Invalidations by the owner's MMU
 * notifier start at the uses and neither sleep nor allocate if they may not.
 *
 * Whoever has a use of a link, or is in another VM's SRCU or in vm2vm_srcu, keeps the
 * CPU (vm2vm_keep_cpu()): others wait for that, and a thread may be given no CPU for as
 * long as whoever started it likes.
 */
struct vm2vm_domain {
	struct kref refs;
	u32 flags;
	struct mutex lock;	/* see above */
	struct mm_struct *mm;
	struct kvm __rcu *owner;
	struct list_head owner_node;
	unsigned int places;
	spinlock_t links_lock;	/* see above */
	struct list_head links;
	unsigned int nr_links;
	unsigned int nr_mappings;
	struct vm2vm_mapping *mappings;
	struct maple_tree iovas;
	struct rb_root_cached gfns;
	rwlock_t gfn_lock;
	bool filled;
	bool logging;
	spinlock_t mark_lock;	/* see above */
	atomic_t revoking;
	spinlock_t miss_lock;	/* see above */
	unsigned long mark_first;
	unsigned long mark_last;
	atomic_long_t seq;
	struct xarray log;
	struct list_head misses;
	wait_queue_head_t readers;
	wait_queue_head_t watchers;
	struct mutex watch_lock;	/* see above */
	bool overwatched;
	struct vm2vm_pager *pager;
	struct llist_node ended;
};

/**
 * struct vm2vm_mapping - an approval; what faults see of it never changes
 * @gfns: the owner's gfns, in vm2vm_domain.gfns
 * @rcu: of one that is in no tree any more, as faults may look at it; they do not look
 *	 at its place in @gfns
 * @flags: KVM_VM2VM_MAP_READ, KVM_VM2VM_MAP_WRITE
 * @iova: page number of the first iova
 * @next: the next one by iova, under the domain's lock; or of those that are freed
 *
 * There may be very many: they are of a size that allocators have, and a cache line.
 */
struct vm2vm_mapping {
	union {
		struct interval_tree_node gfns;
		struct rcu_head rcu;
	};
	unsigned long flags : PAGE_SHIFT;
	unsigned long iova : BITS_PER_LONG - PAGE_SHIFT;
	struct vm2vm_mapping *next;
};

static_assert(sizeof(struct vm2vm_mapping) == 64);
static_assert(sizeof(struct rcu_head) <= offsetof(struct interval_tree_node, start));

/**
 * struct vm2vm_few - some mappings of a domain that follow on one another
 * @link: what points to the first one
 * @tail: the last one
 * @nr: how many
 * @size: in pages
 */
struct vm2vm_few {
	struct vm2vm_mapping **link;
	struct vm2vm_mapping *tail;
	unsigned int nr;
	u64 size;
};

/*
 * What is done to a link between two looks at the clock: 8 MiB, less than a
 * millisecond.
 */
#define VM2VM_PIECE_PAGES	2048UL

/* So many areas a window has at the most, each of a piece or more. */
#define VM2VM_MAX_AREAS		4096UL

/**
 * struct vm2vm_link - a window of a backend; what it shows never changes
 * @node: in vm2vm_domain.links
 * @places: who keeps it in that list, and its memory: its memslot, and walkers, who
 *	    find the next one by it; protected by the domain's links_lock
 * @removed: nobody is to come to it any more; written under the domain's links_lock
 * @uses: who is at its VM, see vm2vm_use(); and one until it is removed
 * @unused: complete when there are none
 * @domain: what the window shows; with a reference
 * @kvm: the backend, which removes the link before it goes away
 * @base_gfn: first gfn of the window
 * @npages: size of the window
 * @iova: page number of the iova at @base_gfn
 * @flags: KVM_VM2VM_LINK_*
 * @fill: what its holes are filled with, NULL if they are not
 * @view: of a transient link, the view that shows the window
 * @window: of a transient link, in kvm_vm2vm.views
 * @area_shift: log2 of the pages of an area of the window
 * @touched: a bit for each area that may have a translation; set with the backend's
 *	     mmu_lock held, cleared with it held for writing
 * @live: the same for all areas, and for KVM's own accesses: set before the marks of
 *	  revokers are looked at
 */
struct vm2vm_link {
	struct list_head node;
	unsigned int places;
	bool removed;
	refcount_t uses;
	struct completion unused;
	struct vm2vm_domain *domain;
	struct kvm *kvm;
	gfn_t base_gfn;
	unsigned long npages;
	unsigned long iova;
	u32 flags;
	struct vm2vm_fill *fill;
	u32 view;
	struct kvm_vm2vm_window window;
	unsigned int area_shift;
	unsigned long *touched;
	bool live;
};

/**
 * struct vm2vm_approval - what a fault needs of a mapping, which may go any time
 * @iova: page number of the first iova
 * @last: of the last
 * @gfn: the owner's, at @iova
 * @flags: KVM_VM2VM_MAP_*
 */
struct vm2vm_approval {
	unsigned long iova;
	unsigned long last;
	gfn_t gfn;
	u32 flags;
};

/* How many parts of a domain are handled at once. */
#define VM2VM_PARTS	32

/**
 * struct vm2vm_part - some of what a link may show
 * @first: page number of the first iova
 * @last: of the last
 * @mask: which of them, if there are at most BITS_PER_LONG; else ~0UL, all
 */
struct vm2vm_part {
	unsigned long first;
	unsigned long last;
	unsigned long mask;
};

/**
 * struct vm2vm_parts - what to do to each link of a domain
 * @nr: how many
 * @part: they may overlap
 */
struct vm2vm_parts {
	unsigned int nr;
	struct vm2vm_part part[VM2VM_PARTS];
};

/**
 * struct vm2vm_gfns - which of the owner's pages to look for
 * @start: first gfn
 * @last: last gfn
 * @base: the gfn that is bit 0 of @mask; at most BITS_PER_LONG before @last
 * @mask: which of them; ~0UL for all, however many
 * @flags: KVM_VM2VM_MAP_* that a mapping must have
 */
struct vm2vm_gfns {
	gfn_t start;
	gfn_t last;
	gfn_t base;
	unsigned long mask;
	u32 flags;
};

/* What to do to the translations of parts. */
enum vm2vm_op {
	VM2VM_ZAP,
	/* Take write access away. */
	VM2VM_PROTECT,
	/* Clear the accessed bits, with or without a flush of the TLBs; or look. */
	VM2VM_AGE_FLUSH,
	VM2VM_AGE,
	VM2VM_TEST_YOUNG,
};

/* What vm2vm_collect() found. */
enum vm2vm_collected {
	VM2VM_ALL,
	/* Do these, and collect again. */
	VM2VM_FULL,
	/* More mappings of one page than there is room for. */
	VM2VM_TOO_MANY,
};

/*
 * Protects the readers of vm2vm_domain.owner.  Its read-side sections are short:
 * none walks over anything, or waits for a guest, for user space or for a page.
 */
extern struct srcu_struct vm2vm_srcu;

/*
 * What strangers wait for is short, and must not become long as the thread gets no CPU:
 * that of an idle priority, or of a control group that has used up its time.  With
 * PREEMPT_RT mmu_lock sleeps, and every lock of the kernel can be held so.
 */
static inline void vm2vm_keep_cpu(void)
{
	if (!IS_ENABLED(CONFIG_PREEMPT_RT))
		preempt_disable();
}

static inline void vm2vm_release_cpu(void)
{
	if (!IS_ENABLED(CONFIG_PREEMPT_RT))
		preempt_enable();
}

/* Begin to look at owners, in a way that does not sleep.  Returns what ends it. */
static inline int vm2vm_enter(void)
{
	vm2vm_keep_cpu();
	return srcu_read_lock(&vm2vm_srcu);
}

static inline void vm2vm_leave(int idx)
{
	srcu_read_unlock(&vm2vm_srcu, idx);
	vm2vm_release_cpu();
}

/*
 * Something may be installed, or accessed, through @link with this hold of its VM's
 * mmu_lock, unless there is a mark.  The caller has a full barrier before it looks.
 */
static inline void vm2vm_set_live(struct vm2vm_link *link)
{
	if (!READ_ONCE(link->live))
		WRITE_ONCE(link->live, true);
}

static inline unsigned long vm2vm_mapping_last(const struct vm2vm_mapping *m)
{
	return m->iova + (m->gfns.last - m->gfns.start);
}

/* Memory of the owner that it may share at all. */
static inline bool vm2vm_slot_usable(const struct kvm_memory_slot *slot)
{
	return slot && !(slot->flags & KVM_MEMSLOT_INVALID) &&
	       slot->id < KVM_USER_MEM_SLOTS;
}

/* No aliases of aliases, and no memory that even the owner's VMM cannot reach. */
static inline bool vm2vm_slot_sharable(const struct kvm_memory_slot *slot)
{
	return !kvm_slot_is_alias(slot) && !kvm_slot_can_be_private(slot);
}

/*
 * Whether [@start, @start + @size) is not empty, of whole pages, and ends below
 * 2^64.
 */
static inline bool vm2vm_range_valid(u64 start, u64 size)
{
	return size && PAGE_ALIGNED(start) && PAGE_ALIGNED(size) &&
	       start + size > start;
}

/* vm2vm_domain.c */
int vm2vm_create_domain(struct kvm *kvm,
			const struct kvm_vm2vm_create_domain *args);
struct vm2vm_domain *vm2vm_domain_get(int fd);
int vm2vm_domain_check_caller(struct vm2vm_domain *d);
void vm2vm_domain_empty(struct vm2vm_domain *d);

/* vm2vm_dirty.c */
int vm2vm_log_prepare(struct vm2vm_domain *d, unsigned long iova);
int vm2vm_get_dirty(struct vm2vm_domain *d,
		    const struct kvm_vm2vm_get_dirty *args);
void vm2vm_log_free(struct vm2vm_domain *d);

/* vm2vm_doorbell.c */
int vm2vm_doorbell(struct kvm *kvm, const struct kvm_vm2vm_doorbell *args);

/* vm2vm_end.c */
bool vm2vm_domain_end(struct vm2vm_domain *d);
void vm2vm_domain_forget(struct vm2vm_domain *d);
void vm2vm_domain_put(struct vm2vm_domain *d);
void vm2vm_bury_domains(void);

/* vm2vm_fault.c */
bool vm2vm_lookup(struct vm2vm_domain *d, unsigned long iova,
		  struct vm2vm_approval *a);
bool vm2vm_approved(const struct vm2vm_link *link, unsigned long iova,
		    bool write);
int vm2vm_fault_bounded(const struct kvm_memory_slot *slot, gfn_t gfn,
			bool write, struct kvm_vm2vm_fault *f,
			struct kvm_vm2vm_page *p);

/* vm2vm_fill.c */
int vm2vm_fill_create(struct vm2vm_link *link);
void vm2vm_fill_destroy(struct vm2vm_link *link);
void vm2vm_fill_free(struct vm2vm_link *link);
bool vm2vm_fill_stale(struct vm2vm_link *link, const struct kvm_vm2vm_fault *f);
void vm2vm_fill_replace(struct vm2vm_domain *d, unsigned long first,
			unsigned long last);

/* vm2vm_mapping.c */
struct vm2vm_mapping **vm2vm_find_link(struct vm2vm_domain *d, unsigned long iova);
int vm2vm_insert(struct vm2vm_domain *d, struct vm2vm_mapping *m);
bool vm2vm_next_few(struct vm2vm_few *few, unsigned long last);
void vm2vm_erase_all(struct vm2vm_domain *d);
void vm2vm_remove(struct vm2vm_domain *d, struct ma_state *mas, struct vm2vm_few *few);
void vm2vm_add_iovas(struct vm2vm_parts *p, unsigned long first, unsigned long last);
enum vm2vm_collected vm2vm_collect(struct vm2vm_domain *d, struct vm2vm_gfns *g,
				   struct vm2vm_parts *p);

/* vm2vm_miss.c */
int vm2vm_miss_wait(struct kvm_vcpu *vcpu, struct vm2vm_link *link, gfn_t gfn,
		    bool write);
u32 vm2vm_miss_answer(struct vm2vm_domain *d, u64 iova, u64 size, bool refuse);
void vm2vm_miss_unlink(struct vm2vm_link *link);
void vm2vm_miss_end(struct vm2vm_domain *d);
ssize_t vm2vm_miss_read(struct vm2vm_domain *d, struct iov_iter *to, bool nonblock);
void vm2vm_miss_watch(struct vm2vm_domain *d, struct file *file, poll_table *wait);
__poll_t vm2vm_miss_poll(struct vm2vm_domain *d);

/* vm2vm_pager.c */
int vm2vm_pager_create(struct kvm *kvm);
void vm2vm_pager_destroy(struct kvm *kvm);
struct vm2vm_pager *vm2vm_pager_get(struct kvm *owner);
void vm2vm_pager_put(struct vm2vm_pager *p);
void vm2vm_pager_empty(struct vm2vm_pager *p, struct vm2vm_domain *d);
void vm2vm_bury(void);
int vm2vm_page_in(struct kvm *kvm, struct vm2vm_pager *p,
		  const struct vm2vm_domain *d, unsigned long hva, bool write);
int vm2vm_page_in_bounded(struct kvm *kvm, struct vm2vm_pager *p,
			  const struct vm2vm_domain *d, unsigned long hva,
			  bool write);

/* vm2vm_revoke.c */
void vm2vm_take_all(struct vm2vm_parts *p);
bool vm2vm_do_links(struct vm2vm_domain *d, const struct vm2vm_parts *p,
		    enum vm2vm_op op, bool may_block);
void vm2vm_revoke_begin(struct vm2vm_domain *d);
void vm2vm_revoke_begin_range(struct vm2vm_domain *d, unsigned long first,
			      unsigned long last);
void vm2vm_revoke_end(struct vm2vm_domain *d);
void vm2vm_zap_iovas(struct vm2vm_domain *d, unsigned long first,
		     unsigned long last);
void vm2vm_zap_parts(struct vm2vm_link *link, const struct vm2vm_parts *p);
void vm2vm_zap_window(struct vm2vm_link *link, unsigned long first,
		      unsigned long last);
void vm2vm_outdate(struct vm2vm_domain *d);
void vm2vm_zap_slot(struct vm2vm_domain *d, const struct kvm_memory_slot *slot);

/* vm2vm_view.c */
#ifdef CONFIG_KVM_VM2VM_VIEWS
bool vm2vm_views_supported(void);
bool vm2vm_view_collides(struct kvm *kvm,
			 const struct kvm_userspace_memory_region2 *mem);
int vm2vm_view_reserve(struct vm2vm_link *link);
void vm2vm_view_cancel(struct vm2vm_link *link);
void vm2vm_view_add(struct vm2vm_link *link);
void vm2vm_view_del(struct vm2vm_link *link);
void vm2vm_view_destroy(struct vm2vm_link *link);
bool vm2vm_view_shows(const struct vm2vm_link *link);
#else
static inline bool vm2vm_views_supported(void) { return false; }

static inline bool
vm2vm_view_collides(struct kvm *kvm,
		    const struct kvm_userspace_memory_region2 *mem)
{
	return false;
}

static inline int vm2vm_view_reserve(struct vm2vm_link *link) { return 0; }
static inline void vm2vm_view_cancel(struct vm2vm_link *link) { }
static inline void vm2vm_view_add(struct vm2vm_link *link) { }
static inline void vm2vm_view_del(struct vm2vm_link *link) { }
static inline void vm2vm_view_destroy(struct vm2vm_link *link) { }
static inline bool vm2vm_view_shows(const struct vm2vm_link *link) { return true; }
#endif

/* vm2vm_walk.c */
bool vm2vm_use(struct vm2vm_link *link);
void vm2vm_unuse(struct vm2vm_link *link);
struct vm2vm_link *vm2vm_next_link(struct vm2vm_domain *d,
				   struct vm2vm_link *link);
void vm2vm_link_put(struct vm2vm_link *link);
struct vm2vm_domain *vm2vm_next_domain(struct kvm *kvm, struct vm2vm_domain *d);

#endif /* __KVM_VM2VM_INTERNAL_H__ */
