// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: KVM's own accesses to a window, on behalf of the backend's guest: what
 * ends up in kvm_read_guest() and kvm_write_guest(), instruction emulation above
 * all.
 *
 * The caller holds the backend's SRCU, and perhaps more, so nothing is waited for
 * that takes long: a page that takes I/O or the owner's user space is not there.
 * Bytes are copied, and the page made dirty, under the backend's mmu_lock, as a
 * revoker takes it and so waits for that.
 */
#include <linux/highmem.h>
#include <linux/kvm_host.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>

#include "kvm_mm.h"
#include "vm2vm.h"

/* How often to translate again because of revocations; some a tick apart. */
#define VM2VM_ACCESS_TRIES	100

/**
 * struct vm2vm_access - what to do to a page, or to a part of it
 * @in: what a read gives
 * @out: what is written
 * @old: compared with the page, which is written only if it is the same, in one
 *	 step; NULL to write at any rate
 * @offset: in the page
 * @len: bytes, within the page; 1, 2, 4 or 8 if there is @old
 * @differs: result: whether @old was not the same
 */
struct vm2vm_access {
	void *in;
	const void *out;
	const void *old;
	int offset;
	int len;
	bool differs;
};

/* Whether what is at @addr differs from @a's old value; else it becomes the new. */
static bool vm2vm_cmpxchg(void *addr, const struct vm2vm_access *a)
{
	const void *old = a->old, *new = a->out;

	switch (a->len) {
	case 1:
		return cmpxchg((u8 *)addr, *(u8 *)old, *(u8 *)new) != *(u8 *)old;
	case 2:
		return cmpxchg((u16 *)addr, *(u16 *)old, *(u16 *)new) != *(u16 *)old;
	case 4:
		return cmpxchg((u32 *)addr, *(u32 *)old, *(u32 *)new) != *(u32 *)old;
	default:
		return cmpxchg((u64 *)addr, *(u64 *)old, *(u64 *)new) != *(u64 *)old;
	}
}

static void vm2vm_do_access(struct page *page, struct vm2vm_access *a)
{
	void *addr = kmap_local_page(page) + a->offset;

	if (a->in)
		memcpy(a->in, addr, a->len);
	else if (a->old)
		a->differs = vm2vm_cmpxchg(addr, a);
	else
		memcpy(addr, a->out, a->len);
	kunmap_local(addr);
}

/* Do it if the translation still holds, which is known under mmu_lock only. */
static bool vm2vm_access_locked(const struct kvm_memory_slot *slot, gfn_t gfn,
				const struct kvm_vm2vm_fault *f,
				struct page *page, struct vm2vm_access *a)
{
	struct kvm *kvm = slot->vm2vm.link->kvm;
	bool stale;

	KVM_MMU_LOCK(kvm);
	stale = kvm_vm2vm_fault_stale(slot, f);
	if (!stale) {
		/* A harvest waits for mmu_lock, so it has the write, too. */
		if (!a->in)
			kvm_vm2vm_mark_dirty(slot, gfn);
		vm2vm_do_access(page, a);
		/*
		 * The owner has the page mapped, and nobody unmaps it before he
		 * gets mmu_lock.  So it is in its file, as for a thread that
		 * unmaps it with the page table locked, and the page's own lock,
		 * which the owner's file system may hold for long, is not needed.
		 */
		if (!a->in)
			set_page_dirty(page);
	}
	KVM_MMU_UNLOCK(kvm);
	return !stale;
}

/* What is not approved: nothing, or if it is filled, all-ones that stay so. */
static int vm2vm_access_hole(const struct kvm_memory_slot *slot,
			     struct vm2vm_access *a)
{
	if (!slot->vm2vm.fills)
		return -EFAULT;
	if (a->in)
		memset(a->in, 0xff, a->len);
	else if (a->old)
		a->differs = memchr_inv(a->old, 0xff, a->len);
	return 0;
}

static int vm2vm_access(const struct kvm_memory_slot *slot, gfn_t gfn,
			struct vm2vm_access *a)
{
	struct kvm *kvm = slot->vm2vm.link->kvm;
	struct kvm_vm2vm_fault f;
	struct kvm_vm2vm_page p;
	int tries, r;
	bool done;

	if (slot->flags & KVM_MEMSLOT_INVALID)
		return -EFAULT;
	if (!vm2vm_view_shows(slot->vm2vm.link))
		return vm2vm_access_hole(slot, a);

	for (tries = 0; tries < VM2VM_ACCESS_TRIES; tries++) {
		r = vm2vm_fault_bounded(slot, gfn, !a->in, &f, &p);
		if (r) {
			if (r == -EBUSY)
				atomic64_inc(&kvm->stat.vm2vm_owner_slow);
			return vm2vm_access_hole(slot, a);
		}

		done = vm2vm_access_locked(slot, gfn, &f, p.page, a);
		put_page(p.page);
		if (done)
			return 0;
		/* A revocation is under way, mostly of something else. */
		if (fatal_signal_pending(current))
			break;
		if (tries)
			schedule_timeout_killable(1);
	}
	atomic64_inc(&kvm->stat.vm2vm_owner_busy);
	return vm2vm_access_hole(slot, a);
}

/**
 * kvm_vm2vm_read_page - read from a page of a window
 * @slot: alias memslot of @gfn; its VM's SRCU is held
 * @gfn: the backend's gfn
 * @data: where to
 * @offset: in the page
 * @len: bytes, within the page
 *
 * Return: 0, or -EFAULT if nothing approves it or the page is not at hand.
 */
int kvm_vm2vm_read_page(const struct kvm_memory_slot *slot, gfn_t gfn,
			void *data, int offset, int len)
{
	struct vm2vm_access a = { .in = data, .offset = offset, .len = len };

	might_sleep();
	return vm2vm_access(slot, gfn, &a);
}

/* The same for a write. */
int kvm_vm2vm_write_page(const struct kvm_memory_slot *slot, gfn_t gfn,
			 const void *data, int offset, int len)
{
	struct vm2vm_access a = { .out = data, .offset = offset, .len = len };

	might_sleep();
	return vm2vm_access(slot, gfn, &a);
}

/**
 * kvm_vm2vm_cmpxchg - compare and exchange in a window, in one step
 * @vcpu: the backend's vCPU, in its VM's SRCU
 * @gpa: where; within a page
 * @old: what has to be there
 * @new: what to put there
 * @len: 1, 2, 4 or 8
 *
 * Return: 0, 1 if something else is there, or -EFAULT if it is no window, or as
 * above.
 */
int kvm_vm2vm_cmpxchg(struct kvm_vcpu *vcpu, gpa_t gpa, const void *old,
		      const void *new, int len)
{
	struct vm2vm_access a = {
		.out = new, .old = old, .offset = offset_in_page(gpa), .len = len,
	};
	struct kvm_memory_slot *slot;

	might_sleep();
	slot = kvm_vcpu_gfn_to_memslot(vcpu, gpa_to_gfn(gpa));
	if (!kvm_slot_is_alias(slot))
		return -EFAULT;
	return vm2vm_access(slot, gpa_to_gfn(gpa), &a) ?: a.differs;
}

/* Whether @gfn is in a window, as the vCPU sees memory now; in its VM's SRCU. */
bool kvm_vm2vm_is_window(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	return kvm_slot_is_alias(kvm_vcpu_gfn_to_memslot(vcpu, gfn));
}
