/* SPDX-License-Identifier: GPL-2.0-only */
/* vm2vm: the page tables of views, for VMX. */
#ifndef __KVM_X86_MMU_VM2VM_VIEW_H
#define __KVM_X86_MMU_VM2VM_VIEW_H

#include <linux/kvm_host.h>

/* Views are for vCPUs with so many levels of page tables. */
#define KVM_VIEW_LEVEL	4

/* Whether the vCPU, by its CPUID, has so many: not if it has 5-level EPT. */
static inline bool kvm_mmu_fits_view(const struct kvm_vcpu *vcpu)
{
	return vcpu->arch.root_mmu.root_role.level == KVM_VIEW_LEVEL;
}

bool kvm_mmu_has_views(void);
int kvm_mmu_topup_view_root(struct kvm_vcpu *vcpu);
struct kvm_mmu_page *kvm_mmu_get_view_root(struct kvm_vcpu *vcpu,
					   struct kvm_vm2vm_window *w);
void kvm_mmu_put_view_root(struct kvm *kvm, struct kvm_mmu_page *root);
void kvm_mmu_compose_view(struct kvm_vcpu *vcpu, u64 *pt);
void kvm_mmu_sync_view(struct kvm_vcpu *vcpu, u64 *pt, gpa_t gpa);

/* vm2vm_prove.c */
#ifdef CONFIG_KVM_VM2VM_PROVE_VIEWS
void kvm_vm2vm_prove_alloc(struct kvm_vcpu *vcpu, unsigned int view, u64 *pt);
void kvm_vm2vm_prove_free(struct kvm_vcpu *vcpu);
void kvm_vm2vm_prove_compose(u64 *pt, bool valid);
void kvm_vm2vm_prove_flush(u64 eptp);
void kvm_vm2vm_prove_flushed(struct kvm_vcpu *vcpu, const u64 *list);
void kvm_vm2vm_prove_run(struct kvm_vcpu *vcpu, const u64 *list);
void kvm_vm2vm_prove_invalidate(struct kvm *kvm);
void kvm_vm2vm_prove_release(struct kvm *kvm);
void kvm_vm2vm_prove_unlinked(struct kvm *kvm, unsigned int view);
#else
static inline void kvm_vm2vm_prove_alloc(struct kvm_vcpu *vcpu, unsigned int view,
					 u64 *pt) { }
static inline void kvm_vm2vm_prove_free(struct kvm_vcpu *vcpu) { }
static inline void kvm_vm2vm_prove_compose(u64 *pt, bool valid) { }
static inline void kvm_vm2vm_prove_flush(u64 eptp) { }
static inline void kvm_vm2vm_prove_flushed(struct kvm_vcpu *vcpu,
					   const u64 *list) { }
static inline void kvm_vm2vm_prove_run(struct kvm_vcpu *vcpu, const u64 *list) { }
static inline void kvm_vm2vm_prove_invalidate(struct kvm *kvm) { }
static inline void kvm_vm2vm_prove_release(struct kvm *kvm) { }
static inline void kvm_vm2vm_prove_unlinked(struct kvm *kvm, unsigned int view) { }
#endif

#endif /* __KVM_X86_MMU_VM2VM_VIEW_H */
