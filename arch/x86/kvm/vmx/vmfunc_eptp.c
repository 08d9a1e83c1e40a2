// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: views, entered by VMFUNC.
 *
 * The CPU has a list of EPTPs for each vCPU, from which the guest picks one by VMFUNC,
 * without an exit.  Entry 0 is the VM's own EPT.  Entry i is the view of the transient
 * link that has this number: the VM's own memory, and the link's window.  An entry
 * that is 0 makes VMFUNC exit, and is filled then if there is such a link.
 *
 * All of this is the vCPU's own, and touched by who runs it only: a change comes as a
 * request to load the MMU's root again, see kvm_arch_vm2vm_reload_views().  That is
 * also what happens when the VM's root is replaced, so there all views are dropped,
 * and the current one is composed anew.
 *
 * The TLBs.  Each view has an EPTP of its own, and a CPU's translations are tagged by
 * it.  As for roots, what may be stale is flushed before it is used, not when it is
 * dropped:
 *
 *  - a view is flushed on this CPU whenever it has been composed;
 *  - a vCPU that comes to another CPU flushes all there, as it does without views;
 *  - to flush the current context is to flush all EPTPs for a vCPU with a list
 *    (vmx_flush_tlb_current()), as to flush all is anyway.
 *
 * INVVPID, and what the guest does to its own translations, reaches those of all EPTPs
 * by itself.
 */
#include <linux/kvm_host.h>
#include <linux/module.h>
#include <uapi/linux/kvm_vm2vm.h>

#include "capabilities.h"
#include "mmu/vm2vm_view.h"
#include "smm.h"
#include "vmfunc_eptp.h"
#include "vmx.h"
#include "vmx_onhyperv.h"
#include "vmx_ops.h"
#include "x86.h"
#include "x86_ops.h"

static bool __read_mostly vmfunc_eptp = true;
module_param(vmfunc_eptp, bool, 0444);
MODULE_PARM_DESC(vmfunc_eptp, "Views, which guests enter by VMFUNC");

/* Who handles VMFUNC of nested guests. */
static int (*vmx_view_nested_vmfunc)(struct kvm_vcpu *vcpu);

/**
 * struct vmx_view - a vCPU's view, in vmx_views.views
 * @pt: the top level page table
 * @id: the window's
 * @root: of the window, with a reference; NULL if @pt is not composed
 * @start: first gfn in the entries that the window has of @pt
 * @last: last gfn
 */
struct vmx_view {
	u64 *pt;
	u64 id;
	struct kvm_mmu_page *root;
	gfn_t start;
	gfn_t last;
};

static u64 vmx_view_eptp(struct kvm_vcpu *vcpu, const struct vmx_view *view)
{
	return construct_eptp(vcpu, __pa(view->pt), KVM_VIEW_LEVEL);
}

/*
 * The vCPU is in view @i now, with a window of this @id.  Where it can see that, @view
 * is composed, else NULL.
 */
static void vmx_view_set_current(struct kvm_vcpu *vcpu, unsigned int i, u64 id,
				 const struct vmx_view *view)
{
	vcpu->vm2vm.view = i;
	vcpu->vm2vm.view_id = id;
	vcpu->vm2vm.view_root = view ? view->root : NULL;
	vcpu->vm2vm.view_start = view ? view->start : 0;
	vcpu->vm2vm.view_last = view ? view->last : 0;
}

/* Forget what @view, which is number @i, is composed of. */
static void vmx_view_drop(struct vcpu_vmx *vmx, unsigned int i, struct vmx_view *view)
{
	vmx->views.list[i] = 0;
	kvm_vm2vm_prove_compose(view->pt, false);
	if (view->root)
		kvm_mmu_put_view_root(vmx->vcpu.kvm, view->root);
	view->root = NULL;
}

/* What CPUs have cached by its EPTP stays there, until a user of the page flushes. */
static void vmx_view_free(struct vcpu_vmx *vmx, unsigned int i, struct vmx_view *view)
{
	vmx_view_drop(vmx, i, view);
	xa_erase(&vmx->views.views, i);
	free_page((unsigned long)view->pt);
	kfree(view);
}

static struct vmx_view *vmx_view_alloc(struct vcpu_vmx *vmx, unsigned int i)
{
	struct vmx_view *view;

	view = kzalloc(sizeof(*view), GFP_KERNEL_ACCOUNT);
	if (!view)
		return NULL;
	view->pt = (u64 *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!view->pt)
		goto free;
	/* So that an EPTP tells which view it is of. */
	set_page_private(virt_to_page(view->pt), i);
	kvm_vm2vm_prove_alloc(&vmx->vcpu, i, view->pt);
	if (!xa_err(xa_store(&vmx->views.views, i, view, GFP_KERNEL_ACCOUNT)))
		return view;

	free_page((unsigned long)view->pt);
free:
	kfree(view);
	return NULL;
}

/* Have what the vCPU needs to be in view @i. */
static int vmx_view_prepare(struct kvm_vcpu *vcpu, unsigned int i)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	if (!vmx->views.list) {
		vmx->views.list = (u64 *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
		if (!vmx->views.list)
			return -ENOMEM;
		xa_init(&vmx->views.views);
		vcpu->vm2vm.watched = true;
	}
	if (!i)
		return 0;
	if (!xa_load(&vmx->views.views, i) && !vmx_view_alloc(vmx, i))
		return -ENOMEM;
	return kvm_mmu_topup_view_root(vcpu);
}

/*
 * Compose view @i, which shows @w, of the roots as they are now, and make it the
 * current one.  There is a page for the window's root, which may need one.
 */
static void vmx_view_compose(struct kvm_vcpu *vcpu, unsigned int i,
			     struct vmx_view *view, struct kvm_vm2vm_window *w)
{
	u64 eptp = vmx_view_eptp(vcpu, view);

	if (view->root)
		kvm_mmu_put_view_root(vcpu->kvm, view->root);
	view->root = kvm_mmu_get_view_root(vcpu, w);
	view->id = w->id;
	view->start = round_down(w->start, KVM_VM2VM_VIEW_SPAN >> PAGE_SHIFT);
	view->last = round_up(w->last + 1, KVM_VM2VM_VIEW_SPAN >> PAGE_SHIFT) - 1;

	vmx_view_set_current(vcpu, i, w->id, view);
	kvm_vm2vm_prove_compose(view->pt, true);
	kvm_mmu_compose_view(vcpu, view->pt);
	/* The page was another's, or had other entries. */
	ept_sync_context(eptp);
	to_vmx(vcpu)->views.list[i] = eptp;
}

/* Views can be: not in SMM, which has a root and memslots of its own. */
static void vmx_view_enable(struct vcpu_vmx *vmx, bool enable)
{
	vmx->views.enabled = enable;
	if (enable)
		secondary_exec_controls_setbit(vmx, SECONDARY_EXEC_ENABLE_VMFUNC);
	else
		secondary_exec_controls_clearbit(vmx, SECONDARY_EXEC_ENABLE_VMFUNC);
	if (vmx->views.list) {
		vmcs_write64(EPTP_LIST_ADDRESS, __pa(vmx->views.list));
		vmcs_write64(VM_FUNCTION_CONTROL, VMX_VMFUNC_EPTP_SWITCHING);
	}
}

/*
 * vmx_load_mmu_pgd() for a VM with views: drop those that were composed of what the
 * MMU had before, or whose link is gone, and compose the current one.  In kvm->srcu.
 *
 * The root of the current one's window is as old as the VM's root: if it has to be
 * made, kvm_mmu_load() has made the VM's just now, and has left pages for it.
 */
u64 __vmx_view_load(struct kvm_vcpu *vcpu, u64 eptp)
{
	bool enable = !is_smm(vcpu) && kvm_mmu_fits_view(vcpu);
	struct vcpu_vmx *vmx = to_vmx(vcpu);
	struct kvm_vm2vm_window *w = NULL;
	unsigned int current_view;
	struct vmx_view *view;
	unsigned long i;

	/* The VM's views are left alone until it is back from the nested guest. */
	if (is_guest_mode(vcpu))
		return eptp;

	vmx_view_enable(vmx, enable);
	if (!vmx->views.list)
		return eptp;

	current_view = vcpu->vm2vm.view;
	if (current_view && kvm_mmu_fits_view(vcpu))
		w = xa_load(&vcpu->kvm->vm2vm.views, current_view);
	/* Its link may be gone, and another one have the number. */
	if (w && w->id != vcpu->vm2vm.view_id)
		w = NULL;

	xa_for_each(&vmx->views.views, i, view) {
		if (i == current_view && w)
			vmx_view_drop(vmx, i, view);
		else
			vmx_view_free(vmx, i, view);
	}
	vmx->views.list[0] = eptp;
	vmx->views.eptp = eptp;

	if (!w) {
		vmx_view_set_current(vcpu, 0, 0, NULL);
	} else if (!enable) {
		vmx_view_set_current(vcpu, current_view, w->id, NULL);
	} else {
		vmx_view_compose(vcpu, current_view,
				 xa_load(&vmx->views.views, current_view), w);
		vmx->views.eptp = vmx->views.list[current_view];
	}
	return vmx->views.eptp;
}

/* The guest has executed VMFUNC, or not.  No lock is taken: interrupts are off. */
void __vmx_view_exited(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);
	struct vmx_view *view = NULL;
	unsigned long i = 0;
	u64 eptp;

	kvm_vm2vm_prove_run(vcpu, NULL);
	if (!vmx->views.enabled || is_guest_mode(vcpu))
		return;

	eptp = vmcs_read64(EPT_POINTER);
	if (eptp == vmx->views.eptp)
		return;

	vmx->views.eptp = eptp;
	if (eptp != vmx->views.list[0]) {
		i = page_private(pfn_to_page(PHYS_PFN(eptp)));
		view = xa_load(&vmx->views.views, i);
	}
	vmx_view_set_current(vcpu, i, view ? view->id : 0, view);
}

void __vmx_view_faulted(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	struct vmx_view *view;

	if (is_guest_mode(vcpu))
		return;
	view = xa_load(&to_vmx(vcpu)->views.views, vcpu->vm2vm.view);
	kvm_mmu_sync_view(vcpu, view->pt, gpa);
}

/* Enter view @i, for which vmx_view_prepare() has what it takes. */
static void vmx_view_enter(struct kvm_vcpu *vcpu, unsigned int i,
			   struct kvm_vm2vm_window *w)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	vmx_view_enable(vmx, true);
	vmx->views.list[0] = construct_eptp(vcpu, vcpu->arch.mmu->root.hpa,
					    vcpu->arch.mmu->root_role.level);
	if (i)
		vmx_view_compose(vcpu, i, xa_load(&vmx->views.views, i), w);
	else
		vmx_view_set_current(vcpu, 0, 0, NULL);
	vmx->views.eptp = vmx->views.list[i];
	vmcs_write64(EPT_POINTER, vmx->views.eptp);
}

/* VMFUNC exits if the list has no such entry, also for what is no view at all. */
static int vmx_view_handle_vmfunc(struct kvm_vcpu *vcpu)
{
	u32 function = kvm_rax_read(vcpu), i = kvm_rcx_read(vcpu);
	struct kvm_vm2vm_window *w = NULL;
	int r;

	if (is_guest_mode(vcpu))
		return vmx_view_nested_vmfunc(vcpu);

	if (i && i < KVM_VM2VM_NR_VIEWS)
		w = xa_load(&vcpu->kvm->vm2vm.views, i);
	if (!to_vmx(vcpu)->views.enabled || function || (i && !w)) {
		kvm_queue_exception(vcpu, UD_VECTOR);
		return 1;
	}

	r = vmx_view_prepare(vcpu, i);
	if (r)
		return r;
	/* If its root has been freed meanwhile it will try again with the next. */
	if (!VALID_PAGE(vcpu->arch.mmu->root.hpa))
		return 1;
	vmx_view_enter(vcpu, i, w);
	return kvm_skip_emulated_instruction(vcpu);
}

/* KVM_VM2VM_SET_VIEW: the vCPU is in the view when it loads its root. */
static int vmx_view_set(struct kvm_vcpu *vcpu, unsigned int i,
			const struct kvm_vm2vm_window *w)
{
	int r;

	if (i && !kvm_mmu_fits_view(vcpu))
		return -EOPNOTSUPP;
	r = vmx_view_prepare(vcpu, i);
	if (r)
		return r;
	vmx_view_set_current(vcpu, i, w ? w->id : 0, NULL);
	kvm_make_request(KVM_REQ_LOAD_MMU_PGD, vcpu);
	return 0;
}

/* The vCPU is reset, or gets an INIT. */
void vmx_view_reset(struct kvm_vcpu *vcpu)
{
	if (vcpu->vm2vm.view) {
		vmx_view_set_current(vcpu, 0, 0, NULL);
		kvm_make_request(KVM_REQ_LOAD_MMU_PGD, vcpu);
	}
}

void vmx_view_free_vcpu(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);
	struct vmx_view *view;
	unsigned long i;

	if (!vmx->views.list)
		return;

	xa_for_each(&vmx->views.views, i, view)
		vmx_view_free(vmx, i, view);
	xa_destroy(&vmx->views.views);
	kvm_vm2vm_prove_free(vcpu);
	free_page((unsigned long)vmx->views.list);
	vmx->views.list = NULL;
}

static const struct kvm_vm2vm_view_ops vmx_view_ops = {
	.set = vmx_view_set,
};

static bool __init vmx_view_possible(void)
{
	u64 functions;

	if (!enable_ept || !enable_vpid || !kvm_mmu_has_views() ||
	    !cpu_has_vmx_vmfunc())
		return false;
#if IS_ENABLED(CONFIG_HYPERV)
	/* Hyper-V flushes, and tracks, one EPTP for each vCPU. */
	if (vt_x86_ops.flush_remote_tlbs || kvm_is_using_evmcs())
		return false;
#endif
	rdmsrl(MSR_IA32_VMX_VMFUNC, functions);
	return functions & VMX_VMFUNC_EPTP_SWITCHING;
}

/* Use VMFUNC if the CPU has it.  Its handler so far is kept for nested guests. */
void __init vmx_view_hardware_setup(int (*handlers[])(struct kvm_vcpu *vcpu))
{
	vmfunc_eptp = vmfunc_eptp && vmx_view_possible();
	if (!vmfunc_eptp)
		return;

	vmx_view_nested_vmfunc = handlers[EXIT_REASON_VMFUNC];
	handlers[EXIT_REASON_VMFUNC] = vmx_view_handle_vmfunc;
	kvm_vm2vm_set_view_ops(&vmx_view_ops);
}

void vmx_view_hardware_unsetup(void)
{
	kvm_vm2vm_set_view_ops(NULL);
}
