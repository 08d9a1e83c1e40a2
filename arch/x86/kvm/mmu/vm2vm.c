// SPDX-License-Identifier: GPL-2.0-only
/* vm2vm: faults on a window, the part of the x86 MMU. */
#include <linux/kvm_host.h>
#include <asm/mtrr.h>
#include <asm/vmx.h>

#include "mmu.h"
#include "spte.h"
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
 * Confidential VMs are other types; those of SEV that are of the default type by
 * their age are refused by kvm_vm2vm_forbid().
 */
bool kvm_arch_vm2vm_supported(struct kvm *kvm)
{
	return kvm->arch.vm_type == KVM_X86_DEFAULT_VM &&
	       !kvm_arch_has_private_mem(kvm);
}

/*
 * An access that nothing approves is emulated: the emulator finds no memory either
 * and exits to user space, as for MMIO.  It leaves no MMIO SPTE and no other trace
 * behind, so that the next access is looked up again.
 */
static int vm2vm_hole(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault,
		      bool wants_exit)
{
	if (fault->prefetch)
		return RET_PF_EMULATE;

	kvm_vm2vm_hole(vcpu, fault->gfn, fault->write, wants_exit);
	if (!wants_exit)
		return RET_PF_EMULATE;

	kvm_mmu_prepare_memory_fault_exit(vcpu, fault);
	return -EFAULT;
}

/*
 * kvm_faultin_pfn() for a gfn of an alias memslot.  Instruction fetches are never
 * approved.
 */
int kvm_mmu_faultin_alias(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault)
{
	bool wants_exit = kvm_vm2vm_wants_exit(fault->slot);
	struct kvm_vm2vm_page page;
	int r;

	if (fault->exec)
		return vm2vm_hole(vcpu, fault, wants_exit);

	/* A prefetch holds its VM's SRCU in a way that cannot be dropped here. */
	r = kvm_vm2vm_fault(vcpu, fault->slot, fault->gfn, fault->write,
			    fault->prefetch ? KVM_VM2VM_NOWAIT : KVM_VM2VM_SLEEP,
			    &fault->vm2vm, &page);
	switch (r) {
	case 0:
		break;
	case -ENODATA:
	case -ENOENT:
		return vm2vm_hole(vcpu, fault, wants_exit);
	case -EAGAIN:
		return RET_PF_RETRY;
	case -EBUSY:
		return -EAGAIN;
	case -EINTR:
		kvm_handle_signal_exit(vcpu);
		return -EINTR;
	default:
		return r;
	}

	fault->pfn = page_to_pfn(page.page);
	fault->map_writable = page.writable;
	fault->max_level = min(fault->max_level,
			       vm2vm_order_to_level(page.order));
	return RET_PF_CONTINUE;
}

/*
 * What make_spte() must not decide for a window.  Another VM's memory is never
 * executable.  And it is write-back, whatever the guest's PAT says, also where the
 * VM has devices that do not snoop: the owner has the page mapped so.  NPT has no
 * means for that; there a guest that asks for an uncached mapping gets one, which
 * is coherent.
 */
u64 kvm_mmu_alias_spte(u64 spte)
{
	spte &= ~shadow_x_mask;
	spte |= shadow_nx_mask;

	if (shadow_memtype_mask) {
		spte &= ~shadow_memtype_mask;
		spte |= (MTRR_TYPE_WRBACK << VMX_EPT_MT_EPTE_SHIFT) |
			VMX_EPT_IPAT_BIT;
	}
	return spte;
}
