// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: proof, at run time, that views are flushed, for kernels that check themselves.
 *
 * An emulator flushes its TLBs far more often than a CPU has to, so a flush that KVM
 * forgets does no harm there.  What is kept here is which CPU may have cached what
 * since when, as the architecture permits it to, and a warning comes
 *
 *  - when a guest is entered with an EPTP by which the CPU may have translations of
 *    what the same page was composed of earlier, for this view or another one;
 *  - when it is entered with an entry in its list that is no view of the vCPU, or is
 *    composed of roots whose page tables have been released;
 *  - when page tables, or an owner's page, are released while a vCPU is in the guest
 *    that may have translations to them.
 *
 * Time is a count of events.  What is known of an EPTP is kept by its page, for ever:
 * when the page is freed CPUs still have what they have cached by it.
 */
#include <linux/kvm_host.h>
#include <linux/slab.h>
#include <linux/xarray.h>
#include <uapi/linux/kvm_vm2vm.h>

#include "vm2vm_view.h"

static_assert(IS_ENABLED(CONFIG_KVM_VM2VM_PROVE_VIEWS));

/**
 * struct vm2vm_cached - what one CPU may have by an EPTP; written there only
 * @since: when the guest was entered first since the last flush
 * @until: when it was entered last
 * @flushed: when the EPTP was flushed, for itself
 */
struct vm2vm_cached {
	u64 since;
	u64 until;
	u64 flushed;
};

/**
 * struct vm2vm_proof - what is known of a page that is, or was, a view's
 * @vcpu: whose view it is, or was
 * @view: which
 * @pfn: of the page
 * @composed: when; 0 while it is in no list
 * @released: when the root of the view's window was
 * @cpu: by CPU
 */
struct vm2vm_proof {
	struct kvm_vcpu *vcpu;
	unsigned long pfn;
	unsigned int view;
	u64 composed;
	u64 released;
	struct vm2vm_cached cpu[];
};

/* Page frame number of an EPTP -> struct vm2vm_proof. */
static DEFINE_XARRAY(vm2vm_proofs);
static atomic64_t vm2vm_clock;
/* When all EPTPs were flushed. */
static DEFINE_PER_CPU(u64, vm2vm_flushed);

static u64 vm2vm_tick(void)
{
	return atomic64_inc_return(&vm2vm_clock);
}

static u64 vm2vm_clean_since(const struct vm2vm_proof *p, int cpu)
{
	return max(READ_ONCE(p->cpu[cpu].flushed),
		   READ_ONCE(per_cpu(vm2vm_flushed, cpu)));
}

/* @pt will be composed; before any CPU can use it. */
void kvm_vm2vm_prove_alloc(struct kvm_vcpu *vcpu, unsigned int view, u64 *pt)
{
	unsigned long pfn = PHYS_PFN(__pa(pt));
	struct vm2vm_proof *p = xa_load(&vm2vm_proofs, pfn);

	/* There is no proof without memory, but this is no reason to fail. */
	if (!vcpu->vm2vm.proofs)
		vcpu->vm2vm.proofs = kcalloc(KVM_VM2VM_NR_VIEWS, sizeof(p),
					     GFP_KERNEL | __GFP_NOFAIL);
	if (!p) {
		p = kzalloc(struct_size(p, cpu, nr_cpu_ids), GFP_KERNEL | __GFP_NOFAIL);
		p->pfn = pfn;
		xa_store(&vm2vm_proofs, pfn, p, GFP_KERNEL | __GFP_NOFAIL);
	}
	WARN_ONCE(p->composed, "vm2vm: the page of view %u is another's", view);
	WRITE_ONCE(p->vcpu, vcpu);
	WRITE_ONCE(p->view, view);
	vcpu->vm2vm.proofs[view] = p;
}
EXPORT_SYMBOL_GPL(kvm_vm2vm_prove_alloc);

/* The vCPU goes away. */
void kvm_vm2vm_prove_free(struct kvm_vcpu *vcpu)
{
	kfree(vcpu->vm2vm.proofs);
	vcpu->vm2vm.proofs = NULL;
}
EXPORT_SYMBOL_GPL(kvm_vm2vm_prove_free);

/* @pt is composed anew, or with @valid false, it must not be used any more. */
void kvm_vm2vm_prove_compose(u64 *pt, bool valid)
{
	struct vm2vm_proof *p = xa_load(&vm2vm_proofs, PHYS_PFN(__pa(pt)));

	if (p)
		WRITE_ONCE(p->composed, valid ? vm2vm_tick() : 0);
}
EXPORT_SYMBOL_GPL(kvm_vm2vm_prove_compose);

/* This CPU is about to flush @eptp, or with 0 all EPTPs. */
void kvm_vm2vm_prove_flush(u64 eptp)
{
	struct vm2vm_proof *p;
	int cpu = get_cpu();

	if (!eptp) {
		WRITE_ONCE(*this_cpu_ptr(&vm2vm_flushed), vm2vm_tick());
	} else {
		p = xa_load(&vm2vm_proofs, PHYS_PFN(eptp));
		if (p)
			WRITE_ONCE(p->cpu[cpu].flushed, vm2vm_tick());
	}
	put_cpu();
}
EXPORT_SYMBOL_GPL(kvm_vm2vm_prove_flush);

static void vm2vm_prove_entry(struct kvm_vcpu *vcpu, unsigned int view, u64 eptp,
			      int cpu, u64 now)
{
	struct vm2vm_proof *p = vcpu->vm2vm.proofs[view];
	struct vm2vm_cached *c;
	u64 clean;

	if (!p || p->pfn != PHYS_PFN(eptp) || p->vcpu != vcpu || p->view != view ||
	    !p->composed) {
		WARN_ONCE(1, "vm2vm: entry %u of a list is not of a view", view);
		return;
	}
	WARN_ONCE(p->composed < READ_ONCE(vcpu->kvm->vm2vm.views_released) ||
		  p->composed < READ_ONCE(p->released),
		  "vm2vm: view %u has page tables that are released", view);

	c = &p->cpu[cpu];
	clean = vm2vm_clean_since(p, cpu);
	WARN_ONCE(c->until > clean && c->since < p->composed,
		  "vm2vm: view %u is composed anew and not flushed on this CPU", view);
	if (c->since <= clean)
		WRITE_ONCE(c->since, now);
	WRITE_ONCE(c->until, now);
}

/* The guest is entered, with @list, or has exited, with NULL.  Interrupts are off. */
void kvm_vm2vm_prove_run(struct kvm_vcpu *vcpu, const u64 *list)
{
	int cpu = smp_processor_id();
	unsigned int i;
	u64 now;

	lockdep_assert_irqs_disabled();

	if (!list) {
		if (vcpu->vm2vm.runs & 1) {
			/* Even: it has left it.  As below. */
			smp_store_release(&vcpu->vm2vm.runs, vcpu->vm2vm.runs + 1);
		}
		return;
	}
	now = vm2vm_tick();
	for (i = 1; i < KVM_VM2VM_NR_VIEWS; i++) {
		if (list[i])
			vm2vm_prove_entry(vcpu, i, list[i], cpu, now);
	}
	vcpu->vm2vm.ran_on = cpu;
	/*
	 * Odd: in the guest; and after an entry that failed, of which nobody tells.  Pairs
	 * with the barriers in vm2vm_prove_each().
	 */
	smp_store_release(&vcpu->vm2vm.runs, (vcpu->vm2vm.runs + 1) | 1);
}
EXPORT_SYMBOL_GPL(kvm_vm2vm_prove_run);

/*
 * This CPU has flushed the current context of a vCPU that has @list: nothing of its
 * views is left.  Unless the vCPU's thread has been preempted after the flush, and is
 * on another CPU now: then all EPTPs are to be flushed here before it enters the guest.
 */
void kvm_vm2vm_prove_flushed(struct kvm_vcpu *vcpu, const u64 *list)
{
	struct vm2vm_proof *p;
	int cpu = get_cpu();
	unsigned int i;

	for (i = 1; i < KVM_VM2VM_NR_VIEWS && !kvm_test_request(KVM_REQ_TLB_FLUSH, vcpu); i++) {
		p = list[i] ? vcpu->vm2vm.proofs[i] : NULL;
		WARN_ONCE(p && p->cpu[cpu].until > vm2vm_clean_since(p, cpu),
			  "vm2vm: view %u has missed a flush", i);
	}
	put_cpu();
}
EXPORT_SYMBOL_GPL(kvm_vm2vm_prove_flushed);

/*
 * Whether vCPU @vcpu of a CPU in the guest breaks a rule, for each page of its views.
 * What it says is void if the vCPU exits meanwhile.
 */
static void vm2vm_prove_each(struct kvm *kvm, u64 when,
			     bool (*bad)(const struct vm2vm_proof *p, int cpu, u64 when),
			     const char *what)
{
	struct vm2vm_proof *p;
	struct kvm_vcpu *vcpu;
	unsigned long pfn, i;
	bool found;
	u64 runs;
	int cpu;

	kvm_for_each_vcpu(i, vcpu, kvm) {
		/* Pairs with the releases in kvm_vm2vm_prove_run(). */
		runs = smp_load_acquire(&vcpu->vm2vm.runs);
		if (!(runs & 1))
			continue;
		cpu = READ_ONCE(vcpu->vm2vm.ran_on);
		found = false;
		xa_for_each(&vm2vm_proofs, pfn, p) {
			if (READ_ONCE(p->vcpu) == vcpu && READ_ONCE(p->composed))
				found |= bad(p, cpu, when);
		}
		/* Pairs with the release in kvm_vm2vm_prove_run(). */
		smp_rmb();
		WARN_ONCE(found && READ_ONCE(vcpu->vm2vm.runs) == runs, "vm2vm: %s", what);
	}
}

static bool vm2vm_not_flushed(const struct vm2vm_proof *p, int cpu, u64 when)
{
	u64 since = READ_ONCE(p->cpu[cpu].since);

	return since < when && since > vm2vm_clean_since(p, cpu);
}

static bool vm2vm_composed_before(const struct vm2vm_proof *p, int cpu, u64 when)
{
	return READ_ONCE(p->composed) < when;
}

static bool vm2vm_is_view(const struct vm2vm_proof *p, int cpu, u64 when)
{
	return READ_ONCE(p->view) == when;
}

/* SPTEs are zapped, and will be flushed: what to give to kvm_arch_vm2vm_prove_zapped(). */
u64 kvm_arch_vm2vm_prove_zap(void)
{
	return vm2vm_tick();
}

/* It is flushed, and what they mapped is released now. */
void kvm_arch_vm2vm_prove_zapped(struct kvm *kvm, u64 when)
{
	vm2vm_prove_each(kvm, when, vm2vm_not_flushed,
			 "a page is released that a vCPU may reach in a view");
}

/* The VM's roots are invalid, and no vCPU may use them from the release on. */
void kvm_vm2vm_prove_invalidate(struct kvm *kvm)
{
	WRITE_ONCE(kvm->vm2vm.views_invalid, vm2vm_tick());
}

void kvm_vm2vm_prove_release(struct kvm *kvm)
{
	u64 when = READ_ONCE(kvm->vm2vm.views_invalid);

	WRITE_ONCE(kvm->vm2vm.views_released, when);
	vm2vm_prove_each(kvm, when, vm2vm_composed_before,
			 "page tables are released that a vCPU may walk in a view");
}

/* The root of @view's window is released. */
void kvm_vm2vm_prove_unlinked(struct kvm *kvm, unsigned int view)
{
	struct vm2vm_proof *p;
	struct kvm_vcpu *vcpu;
	unsigned long pfn, i;

	kvm_for_each_vcpu(i, vcpu, kvm) {
		xa_for_each(&vm2vm_proofs, pfn, p) {
			if (READ_ONCE(p->vcpu) == vcpu && READ_ONCE(p->view) == view)
				WRITE_ONCE(p->released, vm2vm_tick());
		}
	}
	vm2vm_prove_each(kvm, view, vm2vm_is_view,
			 "the root of a view's window is released with a vCPU in reach");
}
