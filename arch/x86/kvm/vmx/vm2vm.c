// SPDX-License-Identifier: GPL-2.0-only
/* vm2vm on VMX: which exits can ring a doorbell with interrupts off. */
#include <asm/vmx.h>

#include "kvm_cache_regs.h"
#include "vm2vm_ring.h"
#include "vmfunc_eptp.h"
#include "vmx.h"
#include "x86.h"

/* The filter of which instructions may be counted is under the VM's SRCU. */
static fastpath_t vmx_vm2vm_skip(struct kvm_vcpu *vcpu)
{
	bool r;

	kvm_vcpu_srcu_read_lock(vcpu);
	r = kvm_skip_emulated_instruction(vcpu);
	kvm_vcpu_srcu_read_unlock(vcpu);
	return r ? EXIT_FASTPATH_REENTER_GUEST : EXIT_FASTPATH_EXIT_USERSPACE;
}

/* OUT: the exit qualification has the port and the size. */
static fastpath_t vmx_vm2vm_ring_port(struct kvm_vcpu *vcpu)
{
	unsigned long qual = vmx_get_exit_qual(vcpu);

	/* IN, and strings, which are in memory */
	if (qual & 24)
		return EXIT_FASTPATH_NONE;

	if (!kvm_vm2vm_ring_irqoff(vcpu, KVM_PIO_BUS, qual >> 16, (qual & 7) + 1,
				   kvm_rax_read(vcpu)))
		return EXIT_FASTPATH_NONE;

	++vcpu->stat.io_exits;
	return vmx_vm2vm_skip(vcpu);
}

/*
 * A write to memory, known by its address only, as in handle_ept_misconfig().  Not
 * if the CPU was delivering an event meanwhile, nor where the length of the
 * instruction is not to be relied on, see skip_emulated_instruction().
 */
static fastpath_t vmx_vm2vm_ring_mmio(struct kvm_vcpu *vcpu)
{
	if (static_cpu_has(X86_FEATURE_HYPERVISOR) ||
	    to_vmx(vcpu)->exit_reason.enclave_mode ||
	    (to_vmx(vcpu)->idt_vectoring_info & VECTORING_INFO_VALID_MASK))
		return EXIT_FASTPATH_NONE;

	return kvm_vm2vm_ring_irqoff(vcpu, KVM_FAST_MMIO_BUS,
				     vmcs_read64(GUEST_PHYSICAL_ADDRESS), 0, 0) ?
	       vmx_vm2vm_skip(vcpu) : EXIT_FASTPATH_NONE;
}

/* After every exit of a vCPU that is watched. */
fastpath_t vmx_vm2vm_exit_irqoff(struct kvm_vcpu *vcpu)
{
	vmx_view_exited(vcpu);

	if (is_guest_mode(vcpu) || !kvm_vm2vm_rings(vcpu))
		return EXIT_FASTPATH_NONE;

	switch (to_vmx(vcpu)->exit_reason.basic) {
	case EXIT_REASON_IO_INSTRUCTION:
		return vmx_vm2vm_ring_port(vcpu);
	case EXIT_REASON_EPT_MISCONFIG:
		return vmx_vm2vm_ring_mmio(vcpu);
	default:
		return EXIT_FASTPATH_NONE;
	}
}
