// SPDX-License-Identifier: GPL-2.0-only
/* vm2vm on SVM: which exits can ring a doorbell with interrupts off. */
#include "svm.h"
#include "vm2vm_ring.h"

/*
 * OUT: the CPU gives the port, the size and the next RIP, whether or not it has NRIPS.
 * Of a write to memory it gives the address only.
 */
fastpath_t svm_vm2vm_exit_irqoff(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	u32 io_info = svm->vmcb->control.exit_info_1;

	if (svm->vmcb->control.exit_code != SVM_EXIT_IOIO ||
	    is_guest_mode(vcpu) || sev_es_guest(vcpu->kvm) ||
	    (io_info & (SVM_IOIO_STR_MASK | SVM_IOIO_TYPE_MASK)))
		return EXIT_FASTPATH_NONE;

	svm->next_rip = svm->vmcb->control.exit_info_2;
	return kvm_vm2vm_ring_irqoff(vcpu, KVM_PIO_BUS, io_info >> 16,
				     (io_info & SVM_IOIO_SIZE_MASK) >>
				     SVM_IOIO_SIZE_SHIFT);
}
