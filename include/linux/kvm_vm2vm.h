/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vm2vm, direct memory between two virtual machines: what the rest of KVM calls.
 * The stubs make every hook disappear when CONFIG_KVM_VM2VM is off.
 */
#ifndef __LINUX_KVM_VM2VM_H
#define __LINUX_KVM_VM2VM_H

#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/errno.h>
#include <linux/kvm_types.h>
#include <linux/list.h>
#include <linux/rhashtable-types.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/xarray.h>

struct kvm;
struct kvm_io_device;
struct kvm_kernel_irqfd;
struct kvm_memory_slot;
struct kvm_mmu_page;
struct kvm_userspace_memory_region2;
struct kvm_vcpu;
struct kvm_vm2vm_window;
struct page;
struct vm2vm_address;
struct vm2vm_link;
struct vm2vm_pager;
struct vm2vm_proof;
struct vm_area_struct;

#ifdef CONFIG_KVM_VM2VM

/* log2 of the number of addresses that are found at once */
#define KVM_VM2VM_NEAR_BITS	5

/**
 * struct kvm_vm2vm - a VM's part in vm2vm, embedded in struct kvm
 * @lock: protects @domains and @nr_domains; a leaf lock
 * @domains: domains that this VM owns, see struct vm2vm_uses
 * @nr_domains: number of those that have not ended
 * @nr_links: links to these; changed under each domain's links_lock
 * @pager: of an owner; set before the first domain, and there until the VM goes
 * @updating: the link whose alias memslot is being made or deleted, which is
 *	      what permits it; protected by kvm->slots_lock
 * @used: whether the VM ever had a domain or a link; set under kvm->slots_lock
 * @forbidden: it must never have, see kvm_vm2vm_forbid(); set under
 *	       kvm->slots_lock
 * @nr_doorbells: written under kvm->slots_lock
 * @nr_bells: what they ring, those of arrays one by one; under kvm->slots_lock
 * @ports: port -> its doorbells, for who has no time to search a bus
 * @gpas: the same by gpa, for those that any write rings
 * @near: some of both, by a hash of the address, for who has still less; written under
 *	  kvm->slots_lock, readers hold kvm->srcu
 * @apic_map_seq: changes when another vCPU may be the one that an MSI goes to
 * @views: view -> struct kvm_vm2vm_window; written under kvm->slots_lock, readers hold
 *	   kvm->srcu
 * @has_views: the VM ever had a view; set under kvm->slots_lock
 * @last_view_id: of the window that was made last; written under kvm->slots_lock
 */
struct kvm_vm2vm {
	spinlock_t lock;	/* see above */
	struct list_head domains;
	unsigned int nr_domains;
	atomic_t nr_links;
	struct vm2vm_pager *pager;
	struct vm2vm_link *updating;
	bool used;
	bool forbidden;
	unsigned int nr_doorbells;
	unsigned int nr_bells;
	struct xarray ports;
	struct xarray gpas;
	struct vm2vm_address __rcu *near[1 << KVM_VM2VM_NEAR_BITS];
	unsigned long apic_map_seq;
	struct xarray views;
	bool has_views;
	u64 last_view_id;
#ifdef CONFIG_KVM_VM2VM_PROVE_VIEWS
	/* See arch/x86/kvm/mmu/vm2vm_prove.c. */
	u64 views_invalid;
	u64 views_released;
#endif
};

/**
 * struct kvm_vm2vm_window - what a view shows beyond the VM's own memory
 * @id: no other window of the VM, before or after, has it; not 0
 * @start: first gfn
 * @last: last gfn
 * @root: of the architecture: the page tables for the window, with a reference; made
 *	  when they are first needed
 */
struct kvm_vm2vm_window {
	u64 id;
	gfn_t start;
	gfn_t last;
	struct kvm_mmu_page *root;
};

/**
 * struct kvm_vm2vm_view_ops - what the module that has the CPU's views does
 * @set: let @vcpu, which is loaded, be in @view, which shows @window, or in view 0
 *	 with NULL; 0, -ENOMEM, or -EOPNOTSUPP if it cannot be in another.  In
 *	 kvm->srcu
 */
struct kvm_vm2vm_view_ops {
	int (*set)(struct kvm_vcpu *vcpu, unsigned int view,
		   const struct kvm_vm2vm_window *window);
};

/* Whether a translation fills a hole, and until when; see vm2vm_fill.c. */
enum kvm_vm2vm_fill {
	KVM_VM2VM_FILL_NONE,
	KVM_VM2VM_FILL_LASTS,
	KVM_VM2VM_FILL_PASSES,
};

/**
 * struct kvm_vm2vm_fault - what to check a translation by before it is used
 * @gfn: the owner's guest frame number; of a filler, the backend's
 * @iova: page number of the iova
 * @fill: whether it is a filler
 * @domain_seq: vm2vm_domain.seq before the translation
 * @owner_seq: the owner's mmu_invalidate_seq before the translation
 */
struct kvm_vm2vm_fault {
	gfn_t gfn;
	unsigned long iova;
	enum kvm_vm2vm_fill fill;
	unsigned long domain_seq;
	unsigned long owner_seq;
};

/**
 * struct kvm_vm2vm_vcpu - embedded in struct kvm_vcpu; the vCPU's own
 * @fault: of the fault on an alias memslot that the vCPU is about to resolve
 * @watched: its exits are looked at with interrupts off, as it has rung a doorbell or
 *	     may enter views
 * @view: the view that it is in, if its window is still there
 * @view_id: that window's, 0 for view 0
 * @view_root: the root of that view's window, with a reference held by who set it;
 *	       NULL in view 0 and where views cannot be
 * @view_start: first gfn that is translated by @view_root
 * @view_last: last gfn
 */
struct kvm_vm2vm_vcpu {
	struct kvm_vm2vm_fault fault;
	bool watched;
#ifdef CONFIG_KVM_VM2VM_VIEWS
	unsigned int view;
	u64 view_id;
	struct kvm_mmu_page *view_root;
	gfn_t view_start;
	gfn_t view_last;
#endif
#ifdef CONFIG_KVM_VM2VM_PROVE_VIEWS
	/* See arch/x86/kvm/mmu/vm2vm_prove.c. */
	u64 runs;
	int ran_on;
	struct vm2vm_proof **proofs;
#endif
};

/**
 * struct kvm_vm2vm_irqfd - embedded in struct kvm_kernel_irqfd
 * @node: in the table of irqfds, if it is the first of its eventfd
 * @same: irqfds of its eventfd, as they were made
 * @first: it is
 * @unknown: the table had no memory for it
 */
struct kvm_vm2vm_irqfd {
	struct rhash_head node;
	struct list_head same;
	bool first;
	bool unknown;
};

/**
 * struct kvm_vm2vm_target - where the MSI of an irqfd went last
 * @vcpu: there, if that is known
 * @map: kvm_vm2vm.apic_map_seq then
 * @route: and what the irqfd's irq_entry_sc was
 * @vector: of the MSI
 * @delivery_mode: of the MSI
 * @trig_mode: of the MSI
 * @x2apic_format: what the VM's MSIs were like then
 */
struct kvm_vm2vm_target {
	struct kvm_vcpu *vcpu;
	unsigned long map;
	unsigned int route;
	u8 vector;
	u16 delivery_mode;
	bool trig_mode;
	bool x2apic_format;
};

/**
 * struct kvm_vm2vm_slot - embedded in struct kvm_memory_slot
 * @link: what an alias memslot shows, NULL for every other memslot
 * @transient: whether that is shown by a view only
 * @fills: whether its holes are filled
 */
struct kvm_vm2vm_slot {
	struct vm2vm_link *link;
	bool transient;
	bool fills;
};

/**
 * struct kvm_vm2vm_page - the page that a translation gives
 * @page: the owner's page, with a reference
 * @writable: write access is approved, and possible without another fault
 * @logged: each write has to be seen, as its page is logged: one that is only read
 *	    is not mapped for writing
 * @order: log2 of the number of aligned pages that can be mapped at once
 */
struct kvm_vm2vm_page {
	struct page *page;
	bool writable;
	bool logged;
	u8 order;
};

/* How a fault may bring in a page that the owner does not have at hand. */
enum kvm_vm2vm_mode {
	/* The vCPU is in its VM's SRCU, which may be dropped: wait for it. */
	KVM_VM2VM_SLEEP,
	/* It is in another section, too: what takes no I/O and no user space. */
	KVM_VM2VM_NOWAIT,
};

/*
 * An alias memslot, in kvm_memory_slot.flags: in the half that is KVM's own, next
 * to KVM_MEMSLOT_INVALID, so what tests that tests both for the price of one.
 */
#define KVM_MEMSLOT_ALIAS	BIT(17)

void kvm_vm2vm_exit(void);
void kvm_vm2vm_init_vm(struct kvm *kvm);
void kvm_vm2vm_destroy_vm(struct kvm *kvm);
void kvm_vm2vm_end_domains(struct kvm *kvm);

int kvm_vm2vm_check_extension(long ext);
long kvm_vm2vm_vm_ioctl(struct kvm *kvm, unsigned int ioctl, void __user *argp);
#ifdef CONFIG_KVM_VM2VM_VIEWS
long kvm_vm2vm_vcpu_ioctl(struct kvm_vcpu *vcpu, unsigned int ioctl,
			  void __user *argp);
bool kvm_vm2vm_in_view(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot);
void kvm_vm2vm_set_view_ops(const struct kvm_vm2vm_view_ops *ops);
#else
static inline long kvm_vm2vm_vcpu_ioctl(struct kvm_vcpu *vcpu,
					unsigned int ioctl, void __user *argp)
{
	return -ENOTTY;
}

static inline bool kvm_vm2vm_in_view(struct kvm_vcpu *vcpu,
				     const struct kvm_memory_slot *slot)
{
	return true;
}
#endif

int kvm_vm2vm_check_slot(struct kvm *kvm, const struct kvm_memory_slot *old,
			 const struct kvm_userspace_memory_region2 *mem);
void kvm_vm2vm_init_slot(struct kvm *kvm, struct kvm_memory_slot *slot);
void kvm_vm2vm_free_slot(struct kvm_memory_slot *slot);

void kvm_vm2vm_invalidate_range(struct kvm *kvm, unsigned long start,
				unsigned long end, bool may_block);
void kvm_vm2vm_invalidate_slot(struct kvm *kvm,
			       const struct kvm_memory_slot *slot);

bool kvm_vm2vm_age_range(struct kvm *kvm, unsigned long start,
			 unsigned long end, bool flush);
bool kvm_vm2vm_test_young(struct kvm *kvm, unsigned long hva);

int kvm_vm2vm_fault(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot,
		    gfn_t gfn, bool write, enum kvm_vm2vm_mode mode,
		    struct kvm_vm2vm_fault *fault, struct kvm_vm2vm_page *page);
bool kvm_vm2vm_fault_stale(const struct kvm_memory_slot *slot,
			   const struct kvm_vm2vm_fault *fault);
void kvm_vm2vm_touch(const struct kvm_memory_slot *slot, gfn_t gfn,
		     unsigned long npages);
bool kvm_vm2vm_wants_exit(const struct kvm_memory_slot *slot);
void kvm_vm2vm_hole(struct kvm_vcpu *vcpu, gfn_t gfn, bool write, bool exit);

int kvm_vm2vm_fill(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot,
		   gfn_t gfn, bool write, int why, struct kvm_vm2vm_fault *f,
		   struct kvm_vm2vm_page *p);
bool kvm_vm2vm_is_sink(const struct kvm_memory_slot *slot, kvm_pfn_t pfn);
void kvm_vm2vm_zap_gfn(const struct kvm_memory_slot *slot, gfn_t gfn);
void kvm_vm2vm_slot_appeared(struct kvm *kvm, const struct kvm_memory_slot *slot);

bool kvm_vm2vm_log(const struct kvm_memory_slot *slot, gfn_t gfn,
		   bool (*write)(void *arg), void *arg);
void kvm_vm2vm_mark_dirty(const struct kvm_memory_slot *slot, gfn_t gfn);
void kvm_vm2vm_log_changed(struct kvm *kvm, const struct kvm_memory_slot *slot);
void kvm_vm2vm_harvested(struct kvm *kvm, const struct kvm_memory_slot *slot,
			 gfn_t first, unsigned long npages,
			 const unsigned long *bitmap);

int kvm_vm2vm_read_page(const struct kvm_memory_slot *slot, gfn_t gfn,
			void *data, int offset, int len);
int kvm_vm2vm_write_page(const struct kvm_memory_slot *slot, gfn_t gfn,
			 const void *data, int offset, int len);

int kvm_vm2vm_irqfd_init(void);
void kvm_vm2vm_irqfd_exit(void);
void kvm_vm2vm_irqfd_add(struct kvm_kernel_irqfd *irqfd);
void kvm_vm2vm_irqfd_del(struct kvm_kernel_irqfd *irqfd);
bool kvm_vm2vm_ring_irqoff(struct kvm_vcpu *vcpu, int bus, gpa_t addr, int len,
			   u64 val);
bool kvm_vm2vm_doorbell_collides(struct kvm *kvm, int bus, gpa_t addr, int len,
				 bool wildcard, u64 datamatch);

/* Of eventfd.c */
bool kvm_is_ioeventfd(const struct kvm_io_device *dev);
bool kvm_ioeventfd_collides(struct kvm *kvm, int bus, gpa_t addr, int len,
			    bool wildcard, u64 datamatch);

int kvm_vm2vm_cmpxchg(struct kvm_vcpu *vcpu, gpa_t gpa, const void *old,
		      const void *new, int len);
bool kvm_vm2vm_is_window(struct kvm_vcpu *vcpu, gfn_t gfn);
int kvm_vm2vm_forbid(struct kvm *kvm);
int kvm_vm2vm_set_dirty_ring(struct kvm *kvm, u32 *ring_size, u32 size);

/* The VM's map of APICs is another one now; the caller holds what protects it. */
static inline void kvm_vm2vm_apic_map_changed(struct kvm_vm2vm *vm2vm)
{
	/* Pairs with who looks for the target of an MSI, in the map that is there then. */
	smp_store_release(&vm2vm->apic_map_seq, vm2vm->apic_map_seq + 1);
}

/*
 * Of the architecture: whether a VM's memory can be shared, how far guest-physical
 * addresses go, whether KVM has a device at one that is on no bus, to inject the interrupt
 * of an irqfd without sleeping, what the owner has at hand at a gfn, and to take write
 * access from the 4 KiB translations of @mask, whose bit 0 is @gfn, with mmu_lock held for
 * writing, the flush of the TLBs left to the caller.
 */
bool kvm_arch_vm2vm_supported(struct kvm *kvm);
gfn_t kvm_arch_vm2vm_max_gfn(void);
bool kvm_arch_vm2vm_has_device(struct kvm *kvm, gpa_t gpa);
int kvm_arch_vm2vm_set_irq(struct kvm_kernel_irqfd *irqfd, struct kvm_vm2vm_target *t);
bool kvm_arch_vm2vm_look(struct kvm *kvm, const struct kvm_memory_slot *slot, gfn_t gfn,
			 const struct vm_area_struct *vma, unsigned long hva,
			 bool write, struct kvm_vm2vm_page *p);
void kvm_arch_vm2vm_write_protect(struct kvm *kvm, struct kvm_memory_slot *slot,
				  gfn_t gfn, unsigned long mask);

/*
 * Of the architecture, of views: whether the vCPU can see what its view shows now;
 * to let vCPUs load what kvm->vm2vm.views has, and wait until those in the guest have
 * left it; to free a window's root, which nothing can find any more.
 */
bool kvm_arch_vm2vm_in_view(struct kvm_vcpu *vcpu);
void kvm_arch_vm2vm_reload_views(struct kvm *kvm);
void kvm_arch_vm2vm_free_root(struct kvm *kvm, struct kvm_vm2vm_window *window,
			      unsigned int view);
void kvm_arch_vm2vm_put_root(struct kvm *kvm, struct kvm_vm2vm_window *window);

#ifdef CONFIG_KVM_VM2VM_PROVE_VIEWS
u64 kvm_arch_vm2vm_prove_zap(void);
void kvm_arch_vm2vm_prove_zapped(struct kvm *kvm, u64 when);
#else
static inline u64 kvm_arch_vm2vm_prove_zap(void)
{
	return 0;
}

static inline void kvm_arch_vm2vm_prove_zapped(struct kvm *kvm, u64 when) { }
#endif

#else /* !CONFIG_KVM_VM2VM */

struct kvm_vm2vm { };
struct kvm_vm2vm_slot { };
struct kvm_vm2vm_irqfd { };
struct kvm_vm2vm_vcpu { };

#define KVM_MEMSLOT_ALIAS	0

static inline void kvm_vm2vm_exit(void) { }
static inline void kvm_vm2vm_init_vm(struct kvm *kvm) { }
static inline void kvm_vm2vm_destroy_vm(struct kvm *kvm) { }
static inline void kvm_vm2vm_end_domains(struct kvm *kvm) { }

static inline int kvm_vm2vm_check_extension(long ext)
{
	return 0;
}

static inline long kvm_vm2vm_vm_ioctl(struct kvm *kvm, unsigned int ioctl,
				      void __user *argp)
{
	return -ENOTTY;
}

static inline long kvm_vm2vm_vcpu_ioctl(struct kvm_vcpu *vcpu,
					unsigned int ioctl, void __user *argp)
{
	return -ENOTTY;
}

static inline int
kvm_vm2vm_check_slot(struct kvm *kvm, const struct kvm_memory_slot *old,
		     const struct kvm_userspace_memory_region2 *mem)
{
	return 0;
}

static inline void kvm_vm2vm_init_slot(struct kvm *kvm,
				       struct kvm_memory_slot *slot) { }
static inline void kvm_vm2vm_free_slot(struct kvm_memory_slot *slot) { }

static inline void kvm_vm2vm_invalidate_range(struct kvm *kvm,
					      unsigned long start,
					      unsigned long end,
					      bool may_block) { }
static inline void
kvm_vm2vm_invalidate_slot(struct kvm *kvm,
			  const struct kvm_memory_slot *slot) { }

static inline void
kvm_vm2vm_slot_appeared(struct kvm *kvm, const struct kvm_memory_slot *slot) { }

static inline bool kvm_vm2vm_age_range(struct kvm *kvm, unsigned long start,
				       unsigned long end, bool flush)
{
	return false;
}

static inline bool kvm_vm2vm_test_young(struct kvm *kvm, unsigned long hva)
{
	return false;
}

static inline void
kvm_vm2vm_log_changed(struct kvm *kvm, const struct kvm_memory_slot *slot) { }
static inline void kvm_vm2vm_harvested(struct kvm *kvm,
				       const struct kvm_memory_slot *slot,
				       gfn_t first, unsigned long npages,
				       const unsigned long *bitmap) { }

static inline int kvm_vm2vm_read_page(const struct kvm_memory_slot *slot,
				      gfn_t gfn, void *data, int offset, int len)
{
	return -EFAULT;
}

static inline int kvm_vm2vm_write_page(const struct kvm_memory_slot *slot,
				       gfn_t gfn, const void *data, int offset,
				       int len)
{
	return -EFAULT;
}

static inline int kvm_vm2vm_cmpxchg(struct kvm_vcpu *vcpu, gpa_t gpa,
				    const void *old, const void *new, int len)
{
	return -EFAULT;
}

static inline bool kvm_vm2vm_is_window(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	return false;
}

static inline int kvm_vm2vm_irqfd_init(void)
{
	return 0;
}

static inline void kvm_vm2vm_irqfd_exit(void) { }
static inline void kvm_vm2vm_apic_map_changed(struct kvm_vm2vm *vm2vm) { }
static inline void kvm_vm2vm_irqfd_add(struct kvm_kernel_irqfd *irqfd) { }
static inline void kvm_vm2vm_irqfd_del(struct kvm_kernel_irqfd *irqfd) { }

static inline bool kvm_vm2vm_doorbell_collides(struct kvm *kvm, int bus,
					       gpa_t addr, int len,
					       bool wildcard, u64 datamatch)
{
	return false;
}

static inline int kvm_vm2vm_forbid(struct kvm *kvm)
{
	return 0;
}

static inline int kvm_vm2vm_set_dirty_ring(struct kvm *kvm, u32 *ring_size,
					   u32 size)
{
	*ring_size = size;
	return 0;
}

#endif /* CONFIG_KVM_VM2VM */

#endif /* __LINUX_KVM_VM2VM_H */
