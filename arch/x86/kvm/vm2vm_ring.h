/* SPDX-License-Identifier: GPL-2.0-only */
/* vm2vm on x86: doorbells, served with interrupts off. */
#ifndef __KVM_X86_VM2VM_RING_H
#define __KVM_X86_VM2VM_RING_H

#include <linux/kvm_host.h>

#ifdef CONFIG_KVM_VM2VM

/*
 * Whether to look at an exit with interrupts off, for a doorbell to ring or to see which
 * view the vCPU has left.  One flag for both is all that other vCPUs have to look at.
 */
static inline bool kvm_vm2vm_watches(struct kvm_vcpu *vcpu)
{
	return unlikely(vcpu->vm2vm.watched);
}

/*
 * Whether a write may ring with interrupts off.  If a doorbell is just being made it
 * need not; and with PREEMPT_RT it must not, as there the locks on the way to the
 * peer's interrupt sleep: the exit is handled in full.
 */
static inline bool kvm_vm2vm_rings(struct kvm_vcpu *vcpu)
{
	return !IS_ENABLED(CONFIG_PREEMPT_RT) && READ_ONCE(vcpu->kvm->vm2vm.nr_doorbells);
}

/* Of svm/vm2vm.c and vmx/vm2vm.c: for whatever exit this was. */
fastpath_t svm_vm2vm_exit_irqoff(struct kvm_vcpu *vcpu);
fastpath_t vmx_vm2vm_exit_irqoff(struct kvm_vcpu *vcpu);

#else

static inline bool kvm_vm2vm_watches(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline fastpath_t svm_vm2vm_exit_irqoff(struct kvm_vcpu *vcpu)
{
	return EXIT_FASTPATH_NONE;
}

static inline fastpath_t vmx_vm2vm_exit_irqoff(struct kvm_vcpu *vcpu)
{
	return EXIT_FASTPATH_NONE;
}

#endif

#endif /* __KVM_X86_VM2VM_RING_H */
