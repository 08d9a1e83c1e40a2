// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: KVM's own accesses to a window, on behalf of the backend's guest: what
 * ends up in kvm_read_guest() and kvm_write_guest(), instruction emulation above
 * all.
 *
 * The caller holds the backend's SRCU, and perhaps more, so nothing is waited for
 * that takes long: a page that takes I/O or the owner's user space is not there.
 * Bytes are copied under the backend's mmu_lock, as a revoker takes it and so
 * waits for the copy.
 */
#include <linux/highmem.h>
#include <linux/kvm_host.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>

#include "kvm_mm.h"
#include "vm2vm.h"

/* How often to translate again because of revocations; some a tick apart. */
#define VM2VM_ACCESS_TRIES	100

/* Copy if the translation still holds, which is known under mmu_lock only. */
static bool vm2vm_copy_locked(const struct kvm_memory_slot *slot,
			      const struct kvm_vm2vm_fault *f,
			      struct page *page, void *data, int offset,
			      int len, bool write)
{
	struct kvm *kvm = slot->vm2vm.link->kvm;
	bool stale;

	KVM_MMU_LOCK(kvm);
	stale = kvm_vm2vm_fault_stale(slot, f);
	if (!stale && write)
		memcpy_to_page(page, offset, data, len);
	else if (!stale)
		memcpy_from_page(data, page, offset, len);
	KVM_MMU_UNLOCK(kvm);
	return !stale;
}

static int vm2vm_copy(const struct kvm_memory_slot *slot, gfn_t gfn, void *data,
		      int offset, int len, bool write)
{
	struct kvm_vm2vm_fault f;
	struct kvm_vm2vm_page p;
	int tries;
	bool done;

	if (slot->flags & KVM_MEMSLOT_INVALID)
		return -EFAULT;

	for (tries = 0; tries < VM2VM_ACCESS_TRIES; tries++) {
		if (vm2vm_fault_bounded(slot, gfn, write, &f, &p))
			break;

		done = vm2vm_copy_locked(slot, &f, p.page, data, offset, len,
					 write);
		if (done && write)
			set_page_dirty_lock(p.page);
		put_page(p.page);
		if (done)
			return 0;
		/* A revocation is under way, mostly of something else. */
		if (fatal_signal_pending(current))
			break;
		if (tries)
			schedule_timeout_killable(1);
	}
	return -EFAULT;
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
	might_sleep();
	return vm2vm_copy(slot, gfn, data, offset, len, false);
}

/* The same for a write. */
int kvm_vm2vm_write_page(const struct kvm_memory_slot *slot, gfn_t gfn,
			 const void *data, int offset, int len)
{
	might_sleep();
	return vm2vm_copy(slot, gfn, (void *)data, offset, len, true);
}

/* Whether @gfn is in a window, as the vCPU sees memory now; in its VM's SRCU. */
bool kvm_vm2vm_is_window(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	return kvm_slot_is_alias(kvm_vcpu_gfn_to_memslot(vcpu, gfn));
}
