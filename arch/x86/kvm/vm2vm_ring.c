// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm on x86: doorbells, served before the exit is handled in full, as are
 * interrupts that a guest sends by its ICR.  Where the CPU tells all about a write,
 * nothing of the guest has to be looked at, so interrupts can stay off.
 */
#include "kvm_cache_regs.h"
#include "vm2vm_ring.h"
#include "x86.h"

/**
 * kvm_vm2vm_ring_irqoff - let a write ring a doorbell
 * @vcpu: who writes
 * @bus: where
 * @addr: where on it
 * @len: how many bytes, which are those of RAX; 0 if that is not known
 *
 * Called with interrupts off and no SRCU held.  The instruction can be skipped
 * without reading it.
 */
fastpath_t kvm_vm2vm_ring_irqoff(struct kvm_vcpu *vcpu, enum kvm_bus bus, gpa_t addr,
				 int len)
{
	unsigned long val = kvm_rax_read(vcpu);
	fastpath_t r = EXIT_FASTPATH_NONE;

	/*
	 * Without doorbells, or if one is just being made, the exit is handled in full.  And
	 * with PREEMPT_RT, where the locks on the way to the peer's interrupt sleep.
	 */
	if (IS_ENABLED(CONFIG_PREEMPT_RT) || !READ_ONCE(vcpu->kvm->vm2vm.nr_doorbells))
		return r;

	kvm_vcpu_srcu_read_lock(vcpu);
	if (kvm_vm2vm_ring_atomic(vcpu, bus, addr, len, &val)) {
		if (bus == KVM_PIO_BUS)
			++vcpu->stat.io_exits;
		r = kvm_skip_emulated_instruction(vcpu) ?
		    EXIT_FASTPATH_REENTER_GUEST : EXIT_FASTPATH_EXIT_USERSPACE;
	}
	kvm_vcpu_srcu_read_unlock(vcpu);
	return r;
}
EXPORT_SYMBOL_GPL(kvm_vm2vm_ring_irqoff);
