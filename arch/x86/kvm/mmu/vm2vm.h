/* SPDX-License-Identifier: GPL-2.0-only */
/* vm2vm: what the x86 MMU calls; stubs when CONFIG_KVM_VM2VM is off. */
#ifndef __KVM_X86_MMU_VM2VM_H
#define __KVM_X86_MMU_VM2VM_H

#include "mmu_internal.h"
#include "spte.h"

#ifdef CONFIG_KVM_VM2VM_VIEWS

/*
 * The root that translates @gfn for the vCPU as it is now: the window of its view has
 * one of its own.  Once that is invalid, nothing must be added to it.
 */
static inline struct kvm_mmu_page *
kvm_mmu_tdp_root(struct kvm_vcpu *vcpu, struct kvm_mmu *mmu, gfn_t gfn)
{
	struct kvm_mmu_page *root;

	if (!static_branch_unlikely(&kvm_vm2vm_views_used))
		return root_to_sp(mmu->root.hpa);

	root = vcpu->vm2vm.view_root;
	if (root && gfn >= vcpu->vm2vm.view_start &&
	    gfn <= vcpu->vm2vm.view_last && !is_guest_mode(vcpu) &&
	    !root->role.invalid)
		return root;
	return root_to_sp(mmu->root.hpa);
}

/* Called with mmu_lock held: whether a fault on @slot would miss its view's root. */
static inline bool kvm_mmu_view_stale(struct kvm_vcpu *vcpu,
				      const struct kvm_memory_slot *slot)
{
	return !kvm_vm2vm_visible(vcpu, slot) ||
	       (vcpu->vm2vm.view_root && vcpu->vm2vm.view_root->role.invalid);
}

#else

static inline struct kvm_mmu_page *
kvm_mmu_tdp_root(struct kvm_vcpu *vcpu, struct kvm_mmu *mmu, gfn_t gfn)
{
	return root_to_sp(mmu->root.hpa);
}

static inline bool kvm_mmu_view_stale(struct kvm_vcpu *vcpu,
				      const struct kvm_memory_slot *slot)
{
	return false;
}

#endif

#ifdef CONFIG_KVM_VM2VM

int kvm_mmu_faultin_alias(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault);
u64 kvm_mmu_alias_spte(const struct kvm_memory_slot *slot, gfn_t gfn, u64 spte,
		       bool writable);
bool kvm_mmu_alias_fix_spte(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault,
			    u64 *sptep, u64 old_spte, u64 new_spte);

/* Called with the backend's mmu_lock held, before the SPTE is installed. */
static inline bool kvm_mmu_alias_fault_stale(struct kvm_vcpu *vcpu,
					     const struct kvm_page_fault *fault)
{
	return kvm_slot_is_alias(fault->slot) &&
	       (kvm_vm2vm_fault_stale(fault->slot, &fault->vm2vm) ||
		kvm_mmu_view_stale(vcpu, fault->slot));
}

#else

static inline int kvm_mmu_faultin_alias(struct kvm_vcpu *vcpu,
					struct kvm_page_fault *fault)
{
	return -EIO;
}

static inline u64 kvm_mmu_alias_spte(const struct kvm_memory_slot *slot,
				     gfn_t gfn, u64 spte, bool writable)
{
	return spte;
}

static inline bool kvm_mmu_alias_fix_spte(struct kvm_vcpu *vcpu,
					  struct kvm_page_fault *fault,
					  u64 *sptep, u64 old_spte,
					  u64 new_spte)
{
	return false;
}

static inline bool kvm_mmu_alias_fault_stale(struct kvm_vcpu *vcpu,
					     const struct kvm_page_fault *fault)
{
	return false;
}

#endif

#endif /* __KVM_X86_MMU_VM2VM_H */
