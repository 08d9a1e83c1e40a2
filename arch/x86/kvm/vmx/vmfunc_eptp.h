/* SPDX-License-Identifier: GPL-2.0-only */
/* vm2vm: views, entered by VMFUNC; what VMX calls, stubs when they are off. */
#ifndef __KVM_X86_VMX_VMFUNC_EPTP_H
#define __KVM_X86_VMX_VMFUNC_EPTP_H

#include "mmu/vm2vm_view.h"
#include "vmx.h"

#ifdef CONFIG_KVM_VM2VM_VIEWS

void vmx_view_hardware_setup(int (*handlers[])(struct kvm_vcpu *vcpu));
void vmx_view_hardware_unsetup(void);
void vmx_view_reset(struct kvm_vcpu *vcpu);
void vmx_view_free_vcpu(struct kvm_vcpu *vcpu);
u64 __vmx_view_load(struct kvm_vcpu *vcpu, u64 eptp);
void __vmx_view_exited(struct kvm_vcpu *vcpu);
void __vmx_view_faulted(struct kvm_vcpu *vcpu, gpa_t gpa);

/* Whether the vCPU may execute VMFUNC. */
static inline bool vmx_view_enabled(struct vcpu_vmx *vmx)
{
	return vmx->views.enabled;
}

/* The vCPU's root is @eptp now: which EPTP to enter the guest with. */
static inline u64 vmx_view_load(struct kvm_vcpu *vcpu, u64 eptp)
{
	if (unlikely(READ_ONCE(vcpu->kvm->vm2vm.has_views)))
		return __vmx_view_load(vcpu, eptp);
	return eptp;
}

/* Whether the guest uses more EPTPs than the one of its root. */
static inline bool vmx_view_has_list(struct kvm_vcpu *vcpu)
{
	return unlikely(to_vmx(vcpu)->views.list);
}

/* Before every entry; interrupts are off. */
static inline void vmx_view_entering(struct kvm_vcpu *vcpu)
{
	if (vmx_view_has_list(vcpu) && !is_guest_mode(vcpu))
		kvm_vm2vm_prove_run(vcpu, to_vmx(vcpu)->views.list);
}

/* The current context is flushed. */
static inline void vmx_view_flushed(struct kvm_vcpu *vcpu)
{
	if (vmx_view_has_list(vcpu))
		kvm_vm2vm_prove_flushed(vcpu, to_vmx(vcpu)->views.list);
}

/* After every exit, interrupts are off: the guest may have changed its view. */
static inline void vmx_view_exited(struct kvm_vcpu *vcpu)
{
	if (vmx_view_has_list(vcpu))
		__vmx_view_exited(vcpu);
}

/* An EPT violation at @gpa is handled, with result @r. */
static inline int vmx_view_faulted(struct kvm_vcpu *vcpu, gpa_t gpa, int r)
{
	if (unlikely(vcpu->vm2vm.view_root))
		__vmx_view_faulted(vcpu, gpa);
	return r;
}

#else

static inline void
vmx_view_hardware_setup(int (*handlers[])(struct kvm_vcpu *vcpu)) { }
static inline void vmx_view_hardware_unsetup(void) { }
static inline void vmx_view_reset(struct kvm_vcpu *vcpu) { }
static inline void vmx_view_free_vcpu(struct kvm_vcpu *vcpu) { }

static inline bool vmx_view_enabled(struct vcpu_vmx *vmx)
{
	return false;
}

static inline u64 vmx_view_load(struct kvm_vcpu *vcpu, u64 eptp)
{
	return eptp;
}

static inline bool vmx_view_has_list(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline void vmx_view_entering(struct kvm_vcpu *vcpu) { }
static inline void vmx_view_flushed(struct kvm_vcpu *vcpu) { }
static inline void vmx_view_exited(struct kvm_vcpu *vcpu) { }

static inline int vmx_view_faulted(struct kvm_vcpu *vcpu, gpa_t gpa, int r)
{
	return r;
}

#endif

#endif /* __KVM_X86_VMX_VMFUNC_EPTP_H */
