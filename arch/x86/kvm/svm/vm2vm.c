// SPDX-License-Identifier: GPL-2.0-only
/* vm2vm on SVM: which exits can ring a doorbell with interrupts off. */
#include "kvm_cache_regs.h"
#include "x86.h"
#include "pmu.h"
#include "svm.h"
#include "vm2vm_ring.h"

/*
 * Step over an OUT, whose next RIP is known.  This is kvm_skip_emulated_instruction()
 * without what only matters to who steps or counts instructions; the filter of what may
 * be counted is under the VM's SRCU.
 */
static bool svm_vm2vm_skip(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	bool r;

	if (unlikely((svm->vmcb->save.rflags & X86_EFLAGS_TF) ||
		     !bitmap_empty(vcpu_to_pmu(vcpu)->all_valid_pmc_idx, X86_PMC_IDX_MAX))) {
		svm->next_rip = svm->vmcb->control.exit_info_2;
		kvm_vcpu_srcu_read_lock(vcpu);
		r = kvm_skip_emulated_instruction(vcpu);
		kvm_vcpu_srcu_read_unlock(vcpu);
		return r;
	}

	kvm_rip_write(vcpu, svm->vmcb->control.exit_info_2);
	svm->vmcb->control.int_state &= ~SVM_INTERRUPT_SHADOW_MASK;
	return true;
}

/*
 * OUT: the CPU gives the port, the size and the next RIP, whether or not it has NRIPS.
 * Of a write to memory it gives the address only.
 */
fastpath_t svm_vm2vm_exit_irqoff(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	u32 io_info = svm->vmcb->control.exit_info_1;

	if (svm->vmcb->control.exit_code != SVM_EXIT_IOIO || !kvm_vm2vm_rings(vcpu) ||
	    is_guest_mode(vcpu) || sev_es_guest(vcpu->kvm) ||
	    (io_info & (SVM_IOIO_STR_MASK | SVM_IOIO_TYPE_MASK)))
		return EXIT_FASTPATH_NONE;

	if (!kvm_vm2vm_ring_irqoff(vcpu, KVM_PIO_BUS, io_info >> 16,
				   (io_info & SVM_IOIO_SIZE_MASK) >> SVM_IOIO_SIZE_SHIFT,
				   kvm_rax_read(vcpu)))
		return EXIT_FASTPATH_NONE;

	++vcpu->stat.io_exits;
	return svm_vm2vm_skip(vcpu) ? EXIT_FASTPATH_REENTER_GUEST :
				      EXIT_FASTPATH_EXIT_USERSPACE;
}
