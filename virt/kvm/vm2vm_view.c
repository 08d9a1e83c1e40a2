// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: transient links, which a vCPU sees while it is in their view only.
 *
 * Which view shows which link is known here; how a CPU enters a view, and what page
 * tables it has then, is the architecture's, see arch/x86/kvm/vmx/vmfunc_eptp.c.
 */
#include <linux/kvm_host.h>
#include <linux/uaccess.h>
#include <uapi/linux/kvm_vm2vm.h>

#include "vm2vm.h"

#define VM2VM_SPAN_PAGES	(KVM_VM2VM_VIEW_SPAN >> PAGE_SHIFT)

/* Of the module for this CPU, while that is there; its VMs keep it there. */
static const struct kvm_vm2vm_view_ops *vm2vm_view_ops;

void kvm_vm2vm_set_view_ops(const struct kvm_vm2vm_view_ops *ops)
{
	WRITE_ONCE(vm2vm_view_ops, ops);
}
EXPORT_SYMBOL_GPL(kvm_vm2vm_set_view_ops);

bool vm2vm_views_supported(void)
{
	return READ_ONCE(vm2vm_view_ops);
}

static bool vm2vm_is_transient(const struct vm2vm_link *link)
{
	return link->flags & KVM_VM2VM_LINK_TRANSIENT;
}

/*
 * Whether memslot @mem would share a span with memory of the other kind: a view has
 * an entry of its top level page table either from its window or from the VM.
 */
bool vm2vm_view_collides(struct kvm *kvm,
			 const struct kvm_userspace_memory_region2 *mem)
{
	struct vm2vm_link *link = kvm->vm2vm.updating;
	bool transient = link && vm2vm_is_transient(link);
	struct kvm_memslot_iter iter;
	gfn_t first, end;

	lockdep_assert_held(&kvm->slots_lock);

	if ((!transient && !kvm->vm2vm.has_views) || !mem->memory_size ||
	    mem->slot >> 16)
		return false;

	first = gpa_to_gfn(mem->guest_phys_addr);
	end = first + (mem->memory_size >> PAGE_SHIFT);
	first = round_down(first, VM2VM_SPAN_PAGES);
	end = round_up(end, VM2VM_SPAN_PAGES);

	kvm_for_each_memslot_in_gfn_range(&iter, __kvm_memslots(kvm, 0), first, end) {
		link = iter.slot->vm2vm.link;
		if ((link && vm2vm_is_transient(link)) != transient)
			return true;
	}
	return false;
}

/* Before the memslot of @link is made: let vm2vm_view_add() not fail. */
int vm2vm_view_reserve(struct vm2vm_link *link)
{
	struct kvm *kvm = link->kvm;

	lockdep_assert_held(&kvm->slots_lock);

	if (!vm2vm_is_transient(link))
		return 0;
	if (xa_load(&kvm->vm2vm.views, link->view))
		return -EEXIST;

	link->window.id = ++kvm->vm2vm.last_view_id;
	link->window.start = link->base_gfn;
	link->window.last = link->base_gfn + link->npages - 1;
	return xa_reserve(&kvm->vm2vm.views, link->view, GFP_KERNEL_ACCOUNT);
}

/* There is no memslot after all. */
void vm2vm_view_cancel(struct vm2vm_link *link)
{
	if (vm2vm_is_transient(link))
		xa_release(&link->kvm->vm2vm.views, link->view);
}

/* The memslot of @link is there: when this returns, all vCPUs can enter the view. */
void vm2vm_view_add(struct vm2vm_link *link)
{
	struct kvm *kvm = link->kvm;

	if (!vm2vm_is_transient(link))
		return;
	xa_store(&kvm->vm2vm.views, link->view, &link->window, GFP_KERNEL_ACCOUNT);
	WRITE_ONCE(kvm->vm2vm.has_views, true);
	kvm_arch_vm2vm_reload_views(kvm);
}

/*
 * The memslot of @link is gone.  When this returns no vCPU is in the view, or can
 * enter it, and none has a use for the window's page tables.
 */
void vm2vm_view_del(struct vm2vm_link *link)
{
	struct kvm *kvm = link->kvm;

	lockdep_assert_held(&kvm->slots_lock);

	if (!vm2vm_is_transient(link))
		return;
	xa_erase(&kvm->vm2vm.views, link->view);
	kvm_arch_vm2vm_reload_views(kvm);
	/*
	 * Who has found the window before that lets go of it.  If it entered the view
	 * just now, it has the request to reload, and leaves it before it runs.
	 */
	synchronize_srcu_expedited(&kvm->srcu);
	kvm_arch_vm2vm_free_root(kvm, &link->window, link->view);
}

/* The VM goes away, and no vCPU runs: its roots go with it. */
void vm2vm_view_destroy(struct vm2vm_link *link)
{
	if (vm2vm_is_transient(link))
		kvm_arch_vm2vm_put_root(link->kvm, &link->window);
}

/* Whether a vCPU is in the view of a transient link, where it can be in one at all. */
static bool vm2vm_view_is_of(struct kvm_vcpu *vcpu,
			     const struct vm2vm_link *link)
{
	return vcpu->vm2vm.view_id == link->window.id &&
	       kvm_arch_vm2vm_in_view(vcpu);
}

/**
 * kvm_vm2vm_in_view - whether a vCPU sees the window of a transient link
 * @vcpu: vCPU of the backend
 * @slot: alias memslot of the link, in its VM's SRCU
 */
bool kvm_vm2vm_in_view(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot)
{
	return vm2vm_view_is_of(vcpu, slot->vm2vm.link);
}

/* Whether KVM, which accesses the window on behalf of whoever runs, may see it. */
bool vm2vm_view_shows(const struct vm2vm_link *link)
{
	struct kvm_vcpu *vcpu;

	if (!vm2vm_is_transient(link))
		return true;
	vcpu = kvm_get_running_vcpu();
	return vcpu && vcpu->kvm == link->kvm && vm2vm_view_is_of(vcpu, link);
}

/*
 * The view that the vCPU is in.  If it has not run since it lost its link it does not
 * know yet, and another link may have the number now.
 */
static unsigned int vm2vm_get_view(struct kvm_vcpu *vcpu)
{
	struct kvm *kvm = vcpu->kvm;
	struct kvm_vm2vm_window *w;
	unsigned int view;
	int idx;

	idx = srcu_read_lock(&kvm->srcu);
	w = xa_load(&kvm->vm2vm.views, vcpu->vm2vm.view);
	view = w && w->id == vcpu->vm2vm.view_id ? vcpu->vm2vm.view : 0;
	srcu_read_unlock(&kvm->srcu, idx);
	return view;
}

static long vm2vm_set_view(struct kvm_vcpu *vcpu,
			   const struct kvm_vm2vm_view *args)
{
	struct kvm *kvm = vcpu->kvm;
	struct kvm_vm2vm_window *w;
	long r = -ENOENT;
	int idx;

	if (args->view >= KVM_VM2VM_NR_VIEWS || args->flags ||
	    memchr_inv(args->reserved, 0, sizeof(args->reserved)))
		return -EINVAL;

	vcpu_load(vcpu);
	idx = srcu_read_lock(&kvm->srcu);
	w = xa_load(&kvm->vm2vm.views, args->view);
	if (!args->view || w)
		r = vm2vm_view_ops->set(vcpu, args->view, w);
	srcu_read_unlock(&kvm->srcu, idx);
	vcpu_put(vcpu);
	return r;
}

/* Called with the vCPU's mutex held.  The VM keeps the module of the operations. */
long kvm_vm2vm_vcpu_ioctl(struct kvm_vcpu *vcpu, unsigned int ioctl,
			  void __user *argp)
{
	struct kvm_vm2vm_view args = {};

	if (!vm2vm_views_supported())
		return -ENOTTY;

	switch (ioctl) {
	case KVM_VM2VM_GET_VIEW:
		args.view = vm2vm_get_view(vcpu);
		return copy_to_user(argp, &args, sizeof(args)) ? -EFAULT : 0;
	case KVM_VM2VM_SET_VIEW:
		if (copy_from_user(&args, argp, sizeof(args)))
			return -EFAULT;
		return vm2vm_set_view(vcpu, &args);
	default:
		return -ENOTTY;
	}
}
