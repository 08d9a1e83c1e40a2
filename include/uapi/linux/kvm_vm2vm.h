/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * vm2vm: direct memory between two KVM virtual machines.
 *
 * The *owner* VM approves ranges of its guest-physical memory in a *domain*, a
 * bus address space of its own (iova -> owner gpa, size, permissions), which is
 * a file descriptor.  A *backend* VM that is handed the descriptor *links* a
 * range of it: an alias memslot, the *window*, shows exactly the approved pages
 * at
 *
 *	backend gpa = link gpa + (iova - link iova)
 *
 * See Documentation/virt/kvm/vm2vm.rst for the concepts and the guarantees.
 *
 * Rules for every call below:
 *
 *  - Addresses and sizes are in bytes and are multiples of 4096.  The end of a
 *    range, address + size, is below 2^64: the last page cannot be in one.
 *  - Unknown flags and padding that is not zero give -EINVAL.
 *  - A call that fails changes nothing.  Those that take many ranges say how far
 *    they came.
 *  - Of several things that are wrong the first counts: memory that cannot be
 *    read (EFAULT), a field (EINVAL), the kind of VM (EOPNOTSUPP), the
 *    descriptor (EBADF, EINVAL), the caller (EPERM), the owner's end (ENODEV),
 *    and then the state of things, in no particular order.  A domain that has
 *    ended is nobody's: LINK gives ENODEV for it, also to who was its owner.
 *
 * What an errno means, the same for every call:
 *
 *  EACCES	write access to memory that the owner has read-only
 *  EAGAIN	nothing to read, and the descriptor is O_NONBLOCK, or the call RWF_NOWAIT
 *  EBADF	domain_fd, or an eventfd, is not an open file descriptor
 *  EBUSY	the owner's memory is in a state that forbids the call: a domain
 *		while a memslot logs dirty pages in rings only, or the reverse
 *  EEXIST	overlap: of an iova range with a mapping, of a window with a
 *		memslot, or the slot number is in use
 *  EFAULT	the argument is not readable or not writable memory
 *  EINVAL	a field is not valid by itself (flags, padding, alignment, size 0,
 *		overflow, out of range), or names the wrong kind of object
 *  EIO		the VM is dead, or belongs to another process (as for every ioctl
 *		on a VM file descriptor)
 *  EINTR	a signal is pending
 *  EMFILE, ENFILE	no file descriptor is left
 *  ENODEV	the domain has ended: by KVM_VM2VM_END, or its owner VM is gone
 *  ENOENT	there is no such thing: memslot, mapping, or owner memory at the
 *		gpa
 *  ENOMEM	no memory
 *  ENOSPC	one of the limits KVM_VM2VM_MAX_* is reached
 *  ENOTTY	the ioctl is not known, or not for this kind of descriptor (on
 *		/dev/kvm and on a vCPU it is EINVAL, as for every ioctl there)
 *  EOPNOTSUPP	the kind of VM or memory cannot be shared (private memory)
 *  EPERM	the caller is not the owner: its address space is another than that
 *		which made the VM.  Who shares that (CLONE_VM) is the owner
 */
#ifndef _UAPI_LINUX_KVM_VM2VM_H
#define _UAPI_LINUX_KVM_VM2VM_H

#include <linux/const.h>
#include <linux/ioctl.h>
#include <linux/kvm.h>
#include <linux/types.h>

/*
 * KVM_CHECK_EXTENSION(KVM_CAP_VM2VM), on /dev/kvm or a VM: a mask of
 * KVM_VM2VM_FEATURE_*; 0 if the kernel has no vm2vm.  The number is far above
 * those that upstream hands out.
 */
#define KVM_CAP_VM2VM			0x564d32

/* Domains, MAP/UNMAP, LINK/UNLINK and everything else that has no bit of its own. */
#define KVM_VM2VM_FEATURE_LINK		_BITUL(0)
/* KVM_VM2VM_DOORBELL. */
#define KVM_VM2VM_FEATURE_DOORBELL	_BITUL(1)
/*
 * KVM_VM2VM_LINK_TRANSIENT, KVM_VM2VM_GET_VIEW and KVM_VM2VM_SET_VIEW: the CPU has
 * EPT, VPID and VMFUNC with EPTP switching, and KVM uses them (kvm_intel.vmfunc_eptp).
 */
#define KVM_VM2VM_FEATURE_VIEW		_BITUL(2)
/* KVM_VM2VM_END; and KVM_VM2VM_UNMAP does not fail for lack of memory. */
#define KVM_VM2VM_FEATURE_END		_BITUL(4)

/*
 * Limits: domains per owner that have not ended, mappings per domain, links per domain,
 * links to all of an owner's domains, but so many of each domain's at any rate; those who
 * wait by poll() or epoll for the misses of a domain; doorbells per VM (counted twice with
 * length 0 in MMIO space), file descriptors per doorbell, and of all doorbells of a VM.
 */
#define KVM_VM2VM_MAX_DOMAINS		1024
#define KVM_VM2VM_MAX_MAPPINGS		(1U << 24)
#define KVM_VM2VM_MAX_LINKS		1024
#define KVM_VM2VM_MAX_ALL_LINKS		4096
#define KVM_VM2VM_SURE_LINKS		16
#define KVM_VM2VM_MAX_WATCHES		64
#define KVM_VM2VM_MAX_DOORBELLS		16384
#define KVM_VM2VM_MAX_ROUTES		1024
#define KVM_VM2VM_MAX_BELLS		65536

/* Views of a VM; the CPU's limit.  0 is the VM as it is without views. */
#define KVM_VM2VM_NR_VIEWS		512
/* What a transient window must not share with other memory: bytes, and alignment. */
#define KVM_VM2VM_VIEW_SPAN		(1ULL << 39)
/* Where transient windows end, as views have page tables of 4 levels. */
#define KVM_VM2VM_VIEW_END		(1ULL << 48)

/*
 * The domain maps all memory that the owner ever has, for reading and writing, at
 * iova = gpa: for a guest without an IOMMU.  It is one mapping, from 0 to all but the
 * last page, and QUERY says so.  MAP gives EEXIST, if not ENOENT.  UNMAP gives EINVAL, as
 * for a field, so also to a stranger; only KVM_VM2VM_END takes all memory back.
 */
#define KVM_VM2VM_DOMAIN_ALL_MEMORY	_BITUL(0)
/* Links may wait for approval, see KVM_VM2VM_LINK_WAIT. */
#define KVM_VM2VM_DOMAIN_MISSES		_BITUL(1)
/*
 * The domain has a log of its own of the pages that backends write to, see
 * KVM_VM2VM_GET_DIRTY.  So they are mapped 4 KiB at a time.
 */
#define KVM_VM2VM_DOMAIN_LOG		_BITUL(2)

/**
 * struct kvm_vm2vm_create_domain - argument of KVM_VM2VM_CREATE_DOMAIN
 * @flags: KVM_VM2VM_DOMAIN_*
 * @pad: must be 0
 * @reserved: must be 0
 *
 * KVM_VM2VM_CREATE_DOMAIN, on a VM's file descriptor, makes an empty domain of
 * that VM, the owner, and returns its file descriptor (O_CLOEXEC).  The
 * descriptor may be passed to another process: whoever holds it may link the
 * domain, but only the process of the owner may change it.
 *
 * The domain does not keep the owner alive.  It ends, and with it every
 * approval in it, by KVM_VM2VM_END, or when the last reference to its descriptor is
 * closed, or to that of the owner VM, or when the owner's process ends; links to
 * it then show holes.  Descriptors of the owner's vCPUs keep the VM, but not its
 * domains.
 *
 * What backends write is in the dirty logs of the owner's memslots, those that
 * KVM_GET_DIRTY_LOG reads, like what the owner's own vCPUs write.  A VM with dirty
 * rings needs KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, and has it there; without that,
 * it cannot have both a domain and a memslot that logs, whichever comes last: this
 * call, KVM_SET_USER_MEMORY_REGION, or KVM_ENABLE_CAP of KVM_CAP_DIRTY_LOG_RING.
 *
 * Errors: EBUSY (a memslot logs, in dirty rings only), EFAULT, EINVAL, EIO,
 * EMFILE, ENFILE, ENOMEM, ENOSPC, EOPNOTSUPP (a VM with private memory).
 */
struct kvm_vm2vm_create_domain {
	__u32 flags;
	__u32 pad;
	__u64 reserved[3];
};

/* What a mapping permits. */
#define KVM_VM2VM_MAP_READ		_BITUL(0)
#define KVM_VM2VM_MAP_WRITE		_BITUL(1)

/**
 * struct kvm_vm2vm_map - argument of KVM_VM2VM_MAP
 * @iova: first bus address; source: the owner's IOMMU (or its choice)
 * @gpa: first guest-physical address of the owner that @iova translates to
 * @size: bytes, not 0
 * @flags: KVM_VM2VM_MAP_READ, or KVM_VM2VM_MAP_READ | KVM_VM2VM_MAP_WRITE
 * @pad: must be 0
 *
 * KVM_VM2VM_MAP, on a domain's file descriptor, approves a range.  Every page
 * of it must be memory of the owner at the time of the call.  A later change of
 * the owner's memslots revokes what is no longer there and shows what is there
 * again; the approval is of the guest-physical range.
 *
 * Errors: EACCES, EEXIST, EFAULT, EINVAL, ENODEV, ENOENT, ENOMEM, ENOSPC,
 * EOPNOTSUPP (guest_memfd memory, or a window of the owner's own: there are no
 * aliases of aliases), EPERM.
 */
struct kvm_vm2vm_map {
	__u64 iova;
	__u64 gpa;
	__u64 size;
	__u32 flags;
	__u32 pad;
};

/**
 * struct kvm_vm2vm_unmap - argument of KVM_VM2VM_UNMAP
 * @iova: first bus address
 * @size: bytes, not 0
 * @flags: must be 0
 * @pad: must be 0
 * @unmapped: out: the bytes of the mappings that were removed; 0 if there was
 *	      none, which is not an error
 *
 * KVM_VM2VM_UNMAP, on a domain's file descriptor, removes every mapping in the
 * range, very many one after the other.  When it returns, no CPU can reach the pages
 * through any link.
 *
 * Errors: EFAULT (also if @unmapped cannot be written), EINVAL (also if the range
 * cuts a mapping in two, or the domain is one of all memory), ENODEV, EPERM.  There is
 * always enough memory for it.
 */
struct kvm_vm2vm_unmap {
	__u64 iova;
	__u64 size;
	__u32 flags;
	__u32 pad;
	__u64 unmapped;
};

/**
 * struct kvm_vm2vm_batch - argument of KVM_VM2VM_MAP_BATCH, KVM_VM2VM_UNMAP_BATCH
 * @entries: in/out: user address of an array of struct kvm_vm2vm_map, or of
 *	     struct kvm_vm2vm_unmap; the first entry that is not done yet
 * @nr: in/out: number of entries that are not done yet
 * @flags: must be 0
 *
 * The same as KVM_VM2VM_MAP, or KVM_VM2VM_UNMAP, for each entry in turn, on a
 * domain's file descriptor.  @entries and @nr move on as entries are done, as the
 * range of KVM_PRE_FAULT_MEMORY does.  The call stops at the first entry that
 * fails.  If it has done any before it returns 0 with @nr not 0: called again as
 * it is, it fails with the error of that entry.  The same holds for a signal
 * (EINTR).  With @nr 0 there is nothing to do, which is not an error.
 *
 * Errors: those of the single call, EFAULT (also for an entry), EINTR.
 */
struct kvm_vm2vm_batch {
	__u64 entries;
	__u32 nr;
	__u32 flags;
};

/**
 * struct kvm_vm2vm_query - argument of KVM_VM2VM_QUERY
 * @iova: in: where to start to look; out: first bus address of the mapping, which
 *	  may be below
 * @gpa: out: the owner's guest-physical address at @iova
 * @size: out: bytes
 * @flags: in: must be 0; out: KVM_VM2VM_MAP_*
 * @pad: must be 0
 *
 * KVM_VM2VM_QUERY, on a domain's file descriptor, returns the mapping that covers
 * @iova, or else the next one above.  To list a domain start at 0 and go on at
 * @iova + @size, until ENOENT; the last page of all, which is in no mapping, is ENOENT.
 *
 * Errors: EFAULT, EINVAL, ENODEV, ENOENT, EPERM.
 */
struct kvm_vm2vm_query {
	__u64 iova;
	__u64 gpa;
	__u64 size;
	__u32 flags;
	__u32 pad;
};

/**
 * struct kvm_vm2vm_miss - what read() on a domain's file descriptor returns
 * @iova: bus address of the page
 * @flags: what would be needed: KVM_VM2VM_MAP_READ, for a write access together
 *	   with KVM_VM2VM_MAP_WRITE
 * @pad: 0
 *
 * A record tells of a vCPU that waits, because its link has KVM_VM2VM_LINK_WAIT,
 * for a mapping of @iova with these rights.  It waits until
 *
 *  - a MAP that covers @iova: it tries again, and may miss again;
 *  - a KVM_VM2VM_REFUSE that covers @iova: the access is one to a hole;
 *  - the end of the link or of the domain;
 *  - a signal: KVM_RUN returns EINTR, and misses anew when it is called again.
 *
 * Each miss is delivered at most once, while its vCPU waits: one that has ended before
 * it was read is not there to be read.  Several vCPUs that miss the same page are as
 * many records; one answer is for all of them.  An answer that comes too late is none:
 * answers are for who waits now.
 *
 * read() returns as many records as there are and as fit, waits for the first one
 * unless the descriptor is O_NONBLOCK, which anybody who has it can change, or
 * preadv2() is called with RWF_NOWAIT, and offset -1, as there is no position (else
 * ESPIPE); and returns 0 once the domain has ended.
 * poll() shows POLLIN if there is one, and POLLHUP once the domain has ended.  It wakes
 * the owner's process only: others see what there is when they call it.
 *
 * Errors of read(): EAGAIN, EFAULT, EINTR, EINVAL (less room than a record, or a
 * domain without KVM_VM2VM_DOMAIN_MISSES), EPERM.
 */
struct kvm_vm2vm_miss {
	__u64 iova;
	__u32 flags;
	__u32 pad;
};

/**
 * struct kvm_vm2vm_refuse - argument of KVM_VM2VM_REFUSE
 * @iova: first bus address
 * @size: bytes, not 0
 * @flags: must be 0
 * @refused: out: number of vCPUs that waited and do not any more
 *
 * KVM_VM2VM_REFUSE, on a domain's file descriptor, answers all misses in the
 * range: the accesses find holes.
 *
 * Errors: EFAULT, EINVAL (also for a domain without KVM_VM2VM_DOMAIN_MISSES),
 * ENODEV, EPERM.
 */
struct kvm_vm2vm_refuse {
	__u64 iova;
	__u64 size;
	__u32 flags;
	__u32 refused;
};

/**
 * struct kvm_vm2vm_get_dirty - argument of KVM_VM2VM_GET_DIRTY
 * @iova: first bus address, a multiple of 64 pages
 * @size: bytes, not 0; a multiple of 64 pages, too
 * @bitmap: user address of an array of 64 bit words, one bit for each page
 * @flags: must be 0
 * @pad: must be 0
 *
 * KVM_VM2VM_GET_DIRTY, on the file descriptor of a domain with
 * KVM_VM2VM_DOMAIN_LOG, tells which pages of the range backends have written to
 * through this domain since the last such call, approved or not by now.  It is
 * independent of the logs of the owner's memslots.  The first page's bit is the
 * lowest of the first word.
 *
 * Errors: EFAULT (what was not delivered is still in the log), EINTR (likewise),
 * EINVAL, ENODEV, ENOMEM, EPERM.
 */
struct kvm_vm2vm_get_dirty {
	__u64 iova;
	__u64 size;
	__u64 bitmap;
	__u32 flags;
	__u32 pad;
};

/* The link gives no write access, whatever the mappings permit. */
#define KVM_VM2VM_LINK_READONLY		_BITUL(0)
/*
 * What an access that is not approved does, if not find a hole; one of both:
 *
 * EXIT: KVM_RUN fails with EFAULT and KVM_EXIT_MEMORY_FAULT, which has the gpa of
 * the page.  Called again it tries the access again.
 *
 * WAIT: what a MAP could approve is a miss that the owner is told of, see struct
 * kvm_vm2vm_miss, and the vCPU waits.  What no MAP could (a write to a read-only
 * link, an instruction fetch, and where there is a mapping: no page of the owner's behind
 * it, or a write to memory that the owner has read-only) finds a hole; so does all
 * that comes after the domain's end.
 *
 * KVM's own accesses on behalf of the guest, in instruction emulation, find holes
 * in any case.
 */
#define KVM_VM2VM_LINK_EXIT		_BITUL(1)
#define KVM_VM2VM_LINK_WAIT		_BITUL(2)
/*
 * The window is seen by a vCPU while it is in view @view only, see struct
 * kvm_vm2vm_view.  An access to it from any other view, by a nested guest, in SMM, or
 * by KVM for no vCPU, is one that is not approved, and none that a MAP could approve.
 */
#define KVM_VM2VM_LINK_TRANSIENT	_BITUL(3)
/*
 * What is a hole without this is filled: any access but an instruction fetch completes
 * in the guest, without an exit and whatever the instruction.  It reads all-ones, or
 * what this VM's guest wrote to holes of the link before; what it writes is nobody
 * else's to see.  A MAP that returns has put the page there, and a revoked page is
 * filled again at the next access.  Not with KVM_VM2VM_LINK_EXIT.  With
 * KVM_VM2VM_LINK_WAIT, what is refused, and what no MAP could approve, is filled.
 */
#define KVM_VM2VM_LINK_FILL		_BITUL(4)

/**
 * struct kvm_vm2vm_link - argument of KVM_VM2VM_LINK
 * @domain_fd: the domain; need not stay open for the link to stay
 * @slot: number of the memslot to make, below KVM_CAP_NR_MEMSLOTS; one that is
 *	  not in use, in address space 0 (no other has windows)
 * @gpa: first guest-physical address of the window, which ends within the bits that
 *	 the host's CPU has for physical addresses (52 bits with shadow paging)
 * @iova: first bus address that the window shows
 * @size: bytes, not 0; less than 2^31 pages
 * @flags: KVM_VM2VM_LINK_*
 * @view: with KVM_VM2VM_LINK_TRANSIENT, 1 to KVM_VM2VM_NR_VIEWS - 1, the view that
 *	  shows the window, and no other link of the VM; else must be 0
 * @reserved: must be 0
 *
 * KVM_VM2VM_LINK, on a VM's file descriptor, makes an alias memslot.  An access
 * to a page of the window that no mapping approves, that the owner has no page
 * for, or that asks for more than was approved (instruction fetches are
 * never approved) is an access to a hole: KVM_EXIT_MMIO, unless @flags say
 * otherwise.  The owner has no page where it has no memslot, where nothing is
 * mapped, where its file gives none, where there is no memory for it (in the
 * owner's memory cgroup), or where the hardware has lost it; the statistics
 * vm2vm_owner_* tell these apart.
 *
 * A vCPU whose access takes a page of the owner's that is not at hand waits for
 * it, for ever if the owner keeps it waiting; a signal ends that, KVM_RUN
 * returns EINTR, and waits again when it is called again.
 *
 * KVM_SET_USER_MEMORY_REGION on an alias memslot gives -EINVAL; use
 * KVM_VM2VM_UNLINK.  It has no dirty log: KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG
 * give -ENOENT.
 *
 * With KVM_VM2VM_LINK_TRANSIENT the window is at or above KVM_VM2VM_VIEW_SPAN and
 * below KVM_VM2VM_VIEW_END, else EINVAL, and nothing but transient windows is in the
 * spans of that size, and alignment, that it touches: EEXIST, also by
 * KVM_SET_USER_MEMORY_REGION, if there would be.
 *
 * Errors: EBADF, EEXIST (also: @view has a link), EFAULT, EINVAL (also: @domain_fd is
 * not a domain, or one of this very VM, or has no KVM_VM2VM_DOMAIN_MISSES to wait
 * for), EIO, ENODEV, ENOMEM, ENOSPC, EOPNOTSUPP (a VM with private memory; views
 * without KVM_VM2VM_FEATURE_VIEW).
 */
struct kvm_vm2vm_link {
	__s32 domain_fd;
	__u32 slot;
	__u64 gpa;
	__u64 iova;
	__u64 size;
	__u32 flags;
	__u32 view;
	__u64 reserved[2];
};

/**
 * struct kvm_vm2vm_unlink - argument of KVM_VM2VM_UNLINK
 * @slot: number of an alias memslot, in address space 0
 * @flags: must be 0
 *
 * KVM_VM2VM_UNLINK, on a VM's file descriptor, removes an alias memslot.  vCPUs that
 * are in the view of a transient one go on in view 0.
 *
 * Errors: EFAULT, EINVAL (also: not an alias memslot), EIO, ENOENT, ENOMEM.
 */
struct kvm_vm2vm_unlink {
	__u32 slot;
	__u32 flags;
};

/**
 * struct kvm_vm2vm_view - argument of KVM_VM2VM_GET_VIEW, KVM_VM2VM_SET_VIEW
 * @view: the view that the vCPU is in
 * @flags: SET_VIEW: must be 0; GET_VIEW, which reads nothing: out: 0
 * @reserved: the same
 *
 * A guest whose VM has, or had, a transient link changes its view by VMFUNC with EAX
 * 0 and ECX the view, at any privilege level.  A view that has no link, another
 * function and a vCPU that cannot have views (in SMM, nested, or with 5-level EPT)
 * give the guest #UD.  Back from SMM, or from its nested guest, it is in the view
 * where it was.  The first time in a view, and the first time after the memory
 * of the VM has changed, KVM handles it, later the CPU does.  In every view the VM's
 * own memory and devices are where they always are.
 *
 * The view is part of a vCPU's state: KVM_VM2VM_GET_VIEW and KVM_VM2VM_SET_VIEW, on
 * its file descriptor, save and restore it.  INIT and the loss of the view's link
 * reset it to 0.  A vCPU with 5-level EPT, which by its CPUID has more than 48 bits of
 * physical address, is in view 0 only.
 *
 * Errors: EFAULT, EINVAL (SET_VIEW: also @view at or beyond KVM_VM2VM_NR_VIEWS; either:
 * no KVM_VM2VM_FEATURE_VIEW), ENOENT (SET_VIEW: the view has no link), ENOMEM,
 * EOPNOTSUPP (SET_VIEW: not view 0, and 5-level EPT).
 */
struct kvm_vm2vm_view {
	__u32 view;
	__u32 flags;
	__u64 reserved[3];
};

/* Only the value @datamatch rings. */
#define KVM_VM2VM_DOORBELL_DATAMATCH	_BITUL(0)
/* The address is a port, not in guest-physical memory. */
#define KVM_VM2VM_DOORBELL_PIO		_BITUL(1)
/* Remove the doorbell that was made by the same arguments without this flag. */
#define KVM_VM2VM_DOORBELL_DEASSIGN	_BITUL(2)
/* The value that is written is an index into an array of file descriptors. */
#define KVM_VM2VM_DOORBELL_ARRAY	_BITUL(3)

/**
 * struct kvm_vm2vm_doorbell - argument of KVM_VM2VM_DOORBELL
 * @addr: guest-physical address, of any alignment, or port; source: the device
 *	  that the VMM shows to its guest
 * @datamatch: with KVM_VM2VM_DOORBELL_DATAMATCH, the value, of @len bytes; else
 *	       must be 0
 * @fds: with KVM_VM2VM_DOORBELL_ARRAY, user address of an array of __s32 file
 *	 descriptors; else must be 0
 * @fd: an eventfd, which the peer gives to KVM_IRQFD; with
 *	KVM_VM2VM_DOORBELL_ARRAY must be 0
 * @nr_fds: with KVM_VM2VM_DOORBELL_ARRAY, length of @fds, 1 to
 *	    KVM_VM2VM_MAX_ROUTES; else must be 0
 * @len: bytes that the guest writes at once: 1, 2, 4, in MMIO space 8; or 0, then any
 *	 write at @addr rings.  Not 0 with KVM_VM2VM_DOORBELL_DATAMATCH or _ARRAY
 * @flags: KVM_VM2VM_DOORBELL_*
 * @reserved: must be 0
 *
 * KVM_VM2VM_DOORBELL, on the file descriptor of the VM that rings: a matching write
 * of its guest injects the interrupt of the irqfd behind the eventfd, before the
 * writing vCPU goes on, whichever VM that irqfd is of.  What KVM cannot inject at once
 * (a pin of the I/O APIC or the PIC, an MSI to all or to an APIC that is off) the
 * irqfd's work item does soon, as with an ioeventfd.  If there is no irqfd a write
 * signals the eventfd, as an ioeventfd (KVM_IOEVENTFD) does.  The two may be made and
 * removed in any order and at any time; a ring is never lost, and does one of the two.
 * If several irqfds are behind the eventfd, the one that was made first has it, as
 * with an ioeventfd.
 *
 * A write whose value is beyond an array matches nothing, and goes to the VMM.  Each
 * value of a string (REP OUTS) is a write by itself, as at an ioeventfd.
 *
 * Doorbells and ioeventfds of a VM must not overlap: EEXIST, by either call, if there
 * is a write that would match both; where an array has a length it has all values of
 * that, those beyond it, too.  Nor must a doorbell be where KVM has a device
 * (of the PIC, for instance, or the page of the local APICs where they are after a
 * reset) or a coalesced zone.  A doorbell where a guest has moved a local APIC to never
 * rings, and one in a window rings where the write finds a hole.  A VMM that makes these later had
 * better not make them overlap; which one has such a write then is not defined.
 *
 * Once a doorbell is removed no write rings it any more.  To remove it takes the same
 * eventfd: when its last descriptor is closed, the irqfds behind it go, then nobody
 * hears the rings, and the doorbell stays as long as the VM.
 *
 * Errors: EBADF, EEXIST, EFAULT (also for @fds), EINVAL (also: not an eventfd), EIO,
 * ENOENT (no such doorbell to remove), ENOMEM, ENOSPC (KVM_VM2VM_MAX_DOORBELLS or
 * KVM_VM2VM_MAX_BELLS, in which each file descriptor of each doorbell counts).
 */
struct kvm_vm2vm_doorbell {
	__u64 addr;
	__u64 datamatch;
	__u64 fds;
	__s32 fd;
	__u32 nr_fds;
	__u32 len;
	__u32 flags;
	__u64 reserved[2];
};

/* On a VM's file descriptor. */
#define KVM_VM2VM_CREATE_DOMAIN	_IOW(KVMIO, 0xf0, struct kvm_vm2vm_create_domain)
#define KVM_VM2VM_LINK		_IOW(KVMIO, 0xf1, struct kvm_vm2vm_link)
#define KVM_VM2VM_UNLINK	_IOW(KVMIO, 0xf2, struct kvm_vm2vm_unlink)
#define KVM_VM2VM_DOORBELL	_IOW(KVMIO, 0xfa, struct kvm_vm2vm_doorbell)

/* On a vCPU's file descriptor. */
#define KVM_VM2VM_GET_VIEW	_IOR(KVMIO, 0xfb, struct kvm_vm2vm_view)
#define KVM_VM2VM_SET_VIEW	_IOW(KVMIO, 0xfc, struct kvm_vm2vm_view)

/*
 * On a domain's file descriptor.
 *
 * KVM_VM2VM_END, whose argument is 0, ends the domain now, by the owner's process,
 * whoever else holds the descriptor and whatever the domain's flags are.  When it
 * returns, no CPU can reach a page through any link; nor can one ever again.  Links
 * show what no MAP can approve.  Who waits for an answer is told, and so is who of the
 * owner's reads or polls the descriptor.  All calls give ENODEV from then on, a second
 * END, too, and also then nothing is reachable.  What has ended does not count against
 * KVM_VM2VM_MAX_DOMAINS.  Errors: EINVAL, ENODEV, EPERM; there is always enough memory.
 */
#define KVM_VM2VM_MAP		_IOW(KVMIO, 0xf3, struct kvm_vm2vm_map)
#define KVM_VM2VM_UNMAP		_IOWR(KVMIO, 0xf4, struct kvm_vm2vm_unmap)
#define KVM_VM2VM_MAP_BATCH	_IOWR(KVMIO, 0xf5, struct kvm_vm2vm_batch)
#define KVM_VM2VM_UNMAP_BATCH	_IOWR(KVMIO, 0xf6, struct kvm_vm2vm_batch)
#define KVM_VM2VM_QUERY		_IOWR(KVMIO, 0xf7, struct kvm_vm2vm_query)
#define KVM_VM2VM_REFUSE	_IOWR(KVMIO, 0xf8, struct kvm_vm2vm_refuse)
#define KVM_VM2VM_GET_DIRTY	_IOW(KVMIO, 0xf9, struct kvm_vm2vm_get_dirty)
#define KVM_VM2VM_END		_IO(KVMIO, 0xfd)

#endif /* _UAPI_LINUX_KVM_VM2VM_H */
