// SPDX-License-Identifier: GPL-2.0-only
/* vm2vm: faults on a window, the part of the x86 MMU. */
#include <linux/kvm_host.h>

#include "mmu.h"
#include "vm2vm.h"

/*
 * How much can be mapped at once of what @kvm, the owner, has at @gfn: not more
 * than the owner's own MMU would map.  The caller has a page of @gfn and sees to
 * it that the answer is not used if the owner invalidates it.
 */
int kvm_arch_vm2vm_host_order(struct kvm *kvm,
			      const struct kvm_memory_slot *slot, gfn_t gfn)
{
	return KVM_HPAGE_GFN_SHIFT(kvm_mmu_max_mapping_level(kvm, slot, gfn,
							     KVM_MAX_HUGEPAGE_LEVEL));
}

static u8 vm2vm_order_to_level(u8 order)
{
	u8 level = KVM_MAX_HUGEPAGE_LEVEL;

	while (level > PG_LEVEL_4K && order < KVM_HPAGE_GFN_SHIFT(level))
		level--;
	return level;
}

/*
 * kvm_faultin_pfn() for a gfn of an alias memslot.  An access that nothing
 * approves is emulated: the emulator finds no memory either and exits to user
 * space, as for MMIO.  It leaves no MMIO SPTE and no other trace behind, so that
 * the next access is looked up again.  Instruction fetches are never approved.
 */
int kvm_mmu_faultin_alias(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault)
{
	int r;

	if (fault->exec)
		return RET_PF_EMULATE;

	/* A prefetch holds its VM's SRCU in a way that cannot be dropped here. */
	r = kvm_vm2vm_fault(vcpu, fault->slot, fault->gfn, fault->write,
			    !fault->prefetch, &fault->vm2vm);
	switch (r) {
	case 0:
		break;
	case -ENOENT:
		return RET_PF_EMULATE;
	case -EAGAIN:
		return fault->prefetch ? -EAGAIN : RET_PF_RETRY;
	case -EINTR:
		kvm_handle_signal_exit(vcpu);
		return -EINTR;
	default:
		return r;
	}

	fault->pfn = fault->vm2vm.pfn;
	fault->map_writable = fault->vm2vm.writable;
	fault->max_level = min(fault->max_level,
			       vm2vm_order_to_level(fault->vm2vm.order));
	return RET_PF_CONTINUE;
}

/* Called with the backend's mmu_lock held, before the SPTE is installed. */
bool kvm_mmu_alias_fault_stale(const struct kvm_page_fault *fault)
{
	return kvm_slot_is_alias(fault->slot) &&
	       kvm_vm2vm_fault_stale(fault->slot, &fault->vm2vm);
}
