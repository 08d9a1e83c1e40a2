/* SPDX-License-Identifier: GPL-2.0-only */
/* vm2vm: what the x86 MMU calls; stubs when CONFIG_KVM_VM2VM is off. */
#ifndef __KVM_X86_MMU_VM2VM_H
#define __KVM_X86_MMU_VM2VM_H

#include "mmu_internal.h"

#ifdef CONFIG_KVM_VM2VM

int kvm_mmu_faultin_alias(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault);
bool kvm_mmu_alias_fault_stale(const struct kvm_page_fault *fault);

#else

static inline int kvm_mmu_faultin_alias(struct kvm_vcpu *vcpu,
					struct kvm_page_fault *fault)
{
	return -EIO;
}

static inline bool kvm_mmu_alias_fault_stale(const struct kvm_page_fault *fault)
{
	return false;
}

#endif

#endif /* __KVM_X86_MMU_VM2VM_H */
