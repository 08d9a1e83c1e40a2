/* SPDX-License-Identifier: GPL-2.0-only */
/* vm2vm: what the x86 MMU calls; stubs when CONFIG_KVM_VM2VM is off. */
#ifndef __KVM_X86_MMU_VM2VM_H
#define __KVM_X86_MMU_VM2VM_H

#include "mmu_internal.h"
#include "spte.h"

#ifdef CONFIG_KVM_VM2VM_VIEWS

struct kvm_mmu_page *kvm_mmu_view_root(struct kvm_vcpu *vcpu, struct kvm_mmu *mmu,
				       gfn_t gfn);

/* The root that translates @gfn for the vCPU as it is now. */
static inline struct kvm_mmu_page *
kvm_mmu_tdp_root(struct kvm_vcpu *vcpu, struct kvm_mmu *mmu, gfn_t gfn)
{
	/* Whoever is in a view is watched. */
	if (unlikely(vcpu->vm2vm.watched))
		return kvm_mmu_view_root(vcpu, mmu, gfn);
	return root_to_sp(mmu->root.hpa);
}

/* Called with mmu_lock held: whether what its view is composed of is invalid. */
static inline bool kvm_mmu_view_is_gone(struct kvm_vcpu *vcpu)
{
	return vcpu->vm2vm.view_root->role.invalid;
}

#else

static inline bool kvm_mmu_view_is_gone(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline struct kvm_mmu_page *
kvm_mmu_tdp_root(struct kvm_vcpu *vcpu, struct kvm_mmu *mmu, gfn_t gfn)
{
	return root_to_sp(mmu->root.hpa);
}

#endif

#ifdef CONFIG_KVM_VM2VM

int kvm_mmu_faultin_alias(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault);
bool kvm_mmu_alias_stale(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault);
bool kvm_mmu_make_alias_spte(struct kvm_vcpu *vcpu, struct kvm_mmu_page *sp,
			     const struct kvm_memory_slot *slot, unsigned int pte_access,
			     gfn_t gfn, kvm_pfn_t pfn, u64 old_spte, bool prefetch,
			     bool can_unsync, bool host_writable, u64 *new_spte);
union kvm_mmu_page_role kvm_mmu_alias_split_role(struct kvm *kvm,
						 const struct kvm_mmu_page *sp);
bool kvm_mmu_alias_fix_spte(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault,
			    u64 *sptep, u64 old_spte, u64 new_spte);

/*
 * Called with the backend's mmu_lock held, before the SPTE is installed, if the fault has
 * not the number of the last invalidation: that of an alias memslot never has.
 */
static inline bool kvm_mmu_alias_fault_stale(struct kvm_vcpu *vcpu,
					     struct kvm_page_fault *fault)
{
	return !kvm_slot_is_alias(fault->slot) || kvm_mmu_alias_stale(vcpu, fault);
}

/* In place of make_spte(), which has no room for more that has to be kept. */
static inline bool kvm_mmu_make_spte(struct kvm_vcpu *vcpu, struct kvm_mmu_page *sp,
				     const struct kvm_memory_slot *slot,
				     unsigned int pte_access, gfn_t gfn, kvm_pfn_t pfn,
				     u64 old_spte, bool prefetch, bool can_unsync,
				     bool host_writable, u64 *new_spte)
{
	if (unlikely(slot->flags & KVM_MEMSLOT_ALIAS))
		return kvm_mmu_make_alias_spte(vcpu, sp, slot, pte_access, gfn, pfn, old_spte,
					       prefetch, can_unsync, host_writable, new_spte);
	return make_spte(vcpu, sp, slot, pte_access, gfn, pfn, old_spte, prefetch, can_unsync,
			 host_writable, new_spte);
}

#else

#define kvm_mmu_make_spte	make_spte

/* As KVM has it; of a function the compiler makes another return. */
#define kvm_mmu_faultin_alias(vcpu, fault)				\
	((void)(vcpu), (fault)->prefetch ? -EAGAIN : RET_PF_RETRY)

static inline union kvm_mmu_page_role
kvm_mmu_alias_split_role(struct kvm *kvm, const struct kvm_mmu_page *sp)
{
	return sp->role;
}

static inline bool kvm_mmu_alias_fix_spte(struct kvm_vcpu *vcpu,
					  struct kvm_page_fault *fault,
					  u64 *sptep, u64 old_spte,
					  u64 new_spte)
{
	return false;
}

static inline bool kvm_mmu_alias_fault_stale(struct kvm_vcpu *vcpu,
					     struct kvm_page_fault *fault)
{
	return true;
}

#endif

#ifdef CONFIG_KVM_VM2VM
/*
 * Whether @gfn may have page tables of a guest that KVM shadows, be it a nested guest.
 * KVM reads none in a window, and must not track what is written there.
 */
static inline bool kvm_mmu_alias_root_ok(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	return kvm_vcpu_is_visible_gfn(vcpu, gfn) && !kvm_vm2vm_is_window(vcpu, gfn);
}
#else
#define kvm_mmu_alias_root_ok	kvm_vcpu_is_visible_gfn
#endif

#endif /* __KVM_X86_MMU_VM2VM_H */
