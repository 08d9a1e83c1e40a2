// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm on x86: from a ring to the local APIC.
 *
 * To find the vCPU that an MSI goes to takes three times what it takes to tell it.  So
 * a bell remembers that, and three numbers say whether it still holds: of the irqfd's
 * route, of the VM's map of APICs, and of the format of its MSIs.
 */
#include <linux/kvm_irqfd.h>
#include <trace/events/kvm.h>

#include "irq.h"
#include "lapic.h"
#include "vm2vm_ring.h"
#include "x86.h"

/*
 * The number of @irqfd's route; odd while it changes.  Who changes it is not waited for:
 * with PREEMPT_RT this takes a lock that is outside the bell's.
 */
static unsigned int vm2vm_route(struct kvm_kernel_irqfd *irqfd)
{
	return raw_read_seqcount(&irqfd->irq_entry_sc.seqcount);
}

/*
 * Have @t say where @e goes, if that is to one vCPU whoever else is busy.  Who traces MSIs
 * sees each where it is looked up.
 */
static void vm2vm_target_set(struct kvm_vm2vm_target *t, struct kvm *kvm,
			     struct kvm_kernel_irq_routing_entry *e, unsigned int route)
{
	struct kvm_lapic_irq irq;

	t->vcpu = NULL;
	if (e->type != KVM_IRQ_ROUTING_MSI || trace_kvm_msi_set_irq_enabled())
		return;

	t->route = route;
	t->x2apic_format = kvm->arch.x2apic_format;
	/* Pairs with kvm_vm2vm_apic_map_changed(): the map is at least that new. */
	t->map = smp_load_acquire(&kvm->vm2vm.apic_map_seq);

	if (t->x2apic_format && (e->msi.address_hi & 0xff))
		return;
	kvm_set_msi_irq(kvm, e, &irq);
	if (kvm_lowest_prio_delivery(&irq) && !kvm_vector_hashing_enabled())
		return;
	t->vector = irq.vector;
	t->delivery_mode = irq.delivery_mode;
	t->trig_mode = irq.trig_mode;
	if (!kvm_intr_is_single_vcpu_fast(kvm, &irq, &t->vcpu))
		t->vcpu = NULL;
}

static bool vm2vm_target_valid(const struct kvm_vm2vm_target *t,
			       struct kvm_kernel_irqfd *irqfd)
{
	struct kvm *kvm = irqfd->kvm;

	return t->vcpu && t->route == vm2vm_route(irqfd) &&
	       t->x2apic_format == kvm->arch.x2apic_format &&
	       t->map == READ_ONCE(kvm->vm2vm.apic_map_seq) &&
	       !trace_kvm_msi_set_irq_enabled();
}

/*
 * Look up where the interrupt goes, and have @t remember it.  If the route changes just
 * now, the irqfd's work item looks it up.
 */
static noinline int vm2vm_set_irq(struct kvm_kernel_irqfd *irqfd,
				  struct kvm_vm2vm_target *t)
{
	struct kvm_kernel_irq_routing_entry e;
	unsigned int route;

	route = vm2vm_route(irqfd);
	e = irqfd->irq_entry;
	if ((route & 1) || read_seqcount_retry(&irqfd->irq_entry_sc, route))
		return -EWOULDBLOCK;

	vm2vm_target_set(t, irqfd->kvm, &e, route);
	return kvm_arch_set_irq_inatomic(&e, irqfd->kvm, KVM_USERSPACE_IRQ_SOURCE_ID, 1,
					 false);
}

/**
 * kvm_arch_vm2vm_set_irq - inject the interrupt of an irqfd
 * @irqfd: it; irq_srcu of its VM is held, so its route does not change unnoticed
 * @t: where it went last; the caller has locked it
 *
 * Return: as kvm_arch_set_irq_inatomic().
 */
int kvm_arch_vm2vm_set_irq(struct kvm_kernel_irqfd *irqfd, struct kvm_vm2vm_target *t)
{
	struct kvm_lapic_irq irq = {
		.vector = t->vector,
		.delivery_mode = t->delivery_mode,
		.trig_mode = t->trig_mode,
		.level = true,
	};

	if (likely(vm2vm_target_valid(t, irqfd)))
		return kvm_apic_set_irq(t->vcpu, &irq, NULL);
	return vm2vm_set_irq(irqfd, t);
}
