// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: the page tables of views.
 *
 * A view is a top level page table of its own for each vCPU.  In the entries that
 * cover its window it has those of the window's root, in all others those of the VM's
 * root, so everything below the top level is shared: the VM's own memory with the
 * VM, the window with other vCPUs in the view.
 *
 * The window's root is a root of the TDP MMU like any other, in the same address
 * space, but with a role that no vCPU asks for.  So whatever the TDP MMU does to a
 * range of gfns, for MMU notifiers, revocations or dirty logs, it does there, too.
 *
 * An entry of a root, once present, stays the same as long as the root is valid: a
 * view that was composed lacks at worst what came later, and is given that when it
 * faults.  When roots become invalid every vCPU has to load new ones before it enters
 * the guest again, and composes its views anew (vmx_view_load()).
 */
#include <linux/kvm_host.h>
#include <uapi/linux/kvm_vm2vm.h>

#include "mmu.h"
#include "mmu_internal.h"
#include "spte.h"
#include "tdp_mmu.h"
#include "vm2vm.h"
#include "vm2vm_view.h"

/* The shadow MMU has no roots that a window could have one beside. */
bool kvm_mmu_has_views(void)
{
	return tdp_mmu_enabled;
}
EXPORT_SYMBOL_GPL(kvm_mmu_has_views);

static unsigned int vm2vm_top_index(gfn_t gfn)
{
	return SPTE_INDEX(gfn << PAGE_SHIFT, KVM_VIEW_LEVEL);
}

/* A nested guest has views of its own VMM's making only. */
bool kvm_arch_vm2vm_in_view(struct kvm_vcpu *vcpu)
{
	return vcpu->vm2vm.view_root && !is_guest_mode(vcpu);
}

/*
 * The request has every vCPU go through vmx_load_mmu_pgd() before it enters the guest
 * again; the wait is for those that are in it now.
 */
void kvm_arch_vm2vm_reload_views(struct kvm *kvm)
{
	kvm_make_all_cpus_request(kvm, KVM_REQ_LOAD_MMU_PGD | KVM_REQUEST_WAIT |
				  KVM_REQUEST_NO_WAKEUP);
}

/* Let kvm_mmu_get_view_root() have what it needs; 0, or -ENOMEM. */
int kvm_mmu_topup_view_root(struct kvm_vcpu *vcpu)
{
	return kvm_mmu_topup_memory_cache(&vcpu->arch.mmu_page_header_cache, 1) ?:
	       kvm_mmu_topup_memory_cache(&vcpu->arch.mmu_shadow_page_cache, 1);
}
EXPORT_SYMBOL_GPL(kvm_mmu_topup_view_root);

/*
 * A root that no vCPU finds, as kvm_tdp_mmu_alloc_root() makes those that they do find:
 * with a reference for the TDP MMU, and one to give.
 */
static struct kvm_mmu_page *vm2vm_alloc_root(struct kvm_vcpu *vcpu)
{
	struct kvm *kvm = vcpu->kvm;
	struct kvm_mmu_page *root;

	lockdep_assert_held_read(&kvm->mmu_lock);
	lockdep_assert_held(&kvm->arch.tdp_mmu_pages_lock);

	root = kvm_mmu_memory_cache_alloc(&vcpu->arch.mmu_page_header_cache);
	root->spt = kvm_mmu_memory_cache_alloc(&vcpu->arch.mmu_shadow_page_cache);
	set_page_private(virt_to_page(root->spt), (unsigned long)root);
	INIT_LIST_HEAD(&root->possible_nx_huge_page_link);
	root->role = vcpu->arch.root_mmu.root_role;
	root->role.vm2vm_view = 1;
	root->tdp_mmu_page = true;

	refcount_set(&root->tdp_mmu_root_count, 2);
	list_add_rcu(&root->link, &kvm->arch.tdp_mmu_roots);
	return root;
}

/**
 * kvm_mmu_get_view_root - get the root of a window
 * @vcpu: who asks, in kvm->srcu; its MMU caches have a page
 * @w: the window
 *
 * Return: a valid root, with a reference.
 */
struct kvm_mmu_page *kvm_mmu_get_view_root(struct kvm_vcpu *vcpu,
					   struct kvm_vm2vm_window *w)
{
	struct kvm_mmu_page *root, *old = NULL;
	struct kvm *kvm = vcpu->kvm;

	/* Roots become invalid under mmu_lock held for writing. */
	read_lock(&kvm->mmu_lock);
	spin_lock(&kvm->arch.tdp_mmu_pages_lock);
	root = w->root;
	if (!root || root->role.invalid) {
		old = root;
		root = vm2vm_alloc_root(vcpu);
		w->root = root;
	}
	refcount_inc(&root->tdp_mmu_root_count);
	spin_unlock(&kvm->arch.tdp_mmu_pages_lock);

	if (old)
		kvm_tdp_mmu_put_root(kvm, old);
	read_unlock(&kvm->mmu_lock);
	return root;
}
EXPORT_SYMBOL_GPL(kvm_mmu_get_view_root);

void kvm_mmu_put_view_root(struct kvm *kvm, struct kvm_mmu_page *root)
{
	kvm_tdp_mmu_put_root(kvm, root);
}
EXPORT_SYMBOL_GPL(kvm_mmu_put_view_root);

/* The VM goes away: the TDP MMU will free the root when it frees all of them. */
void kvm_arch_vm2vm_put_root(struct kvm *kvm, struct kvm_vm2vm_window *w)
{
	if (w->root)
		kvm_tdp_mmu_put_root(kvm, w->root);
	w->root = NULL;
}

/*
 * No vCPU can get the root any more, or be in a view that has it.  Some may still have
 * their reference, until they run the next time.
 */
void kvm_arch_vm2vm_free_root(struct kvm *kvm, struct kvm_vm2vm_window *w,
			      unsigned int view)
{
	lockdep_assert_held(&kvm->slots_lock);

	if (!w->root)
		return;

	kvm_vm2vm_prove_unlinked(kvm, view);

	write_lock(&kvm->mmu_lock);
	if (!w->root->role.invalid) {
		w->root->tdp_mmu_scheduled_root_to_zap = true;
		w->root->role.invalid = true;
	}
	write_unlock(&kvm->mmu_lock);

	kvm_tdp_mmu_zap_invalidated_roots(kvm);
	kvm_arch_vm2vm_put_root(kvm, w);
}

/*
 * The root that translates @gfn for a vCPU that may be in a view: its window has one of its
 * own.  Once that is invalid, nothing must be added to it.
 */
struct kvm_mmu_page *kvm_mmu_view_root(struct kvm_vcpu *vcpu, struct kvm_mmu *mmu,
				       gfn_t gfn)
{
	struct kvm_mmu_page *root = vcpu->vm2vm.view_root;

	if (root && gfn >= vcpu->vm2vm.view_start && gfn <= vcpu->vm2vm.view_last &&
	    !is_guest_mode(vcpu) && !root->role.invalid)
		return root;
	return root_to_sp(mmu->root.hpa);
}

/* Whose entry number @i a view has: the window's, or the VM's. */
static u64 vm2vm_entry(struct kvm_vcpu *vcpu, unsigned int i)
{
	struct kvm_mmu_page *root = root_to_sp(vcpu->arch.root_mmu.root.hpa);

	if (i >= vm2vm_top_index(vcpu->vm2vm.view_start) &&
	    i <= vm2vm_top_index(vcpu->vm2vm.view_last))
		root = vcpu->vm2vm.view_root;
	return READ_ONCE(root->spt[i]);
}

/**
 * kvm_mmu_compose_view - fill the top level page table of the vCPU's view
 * @vcpu: its root is loaded, and vcpu->vm2vm tells of the view
 * @pt: the page table
 *
 * What a CPU may have cached by @pt before is wrong now, which is for the caller to
 * flush.
 */
void kvm_mmu_compose_view(struct kvm_vcpu *vcpu, u64 *pt)
{
	unsigned int i;

	for (i = 0; i < SPTE_ENT_PER_PAGE; i++)
		WRITE_ONCE(pt[i], vm2vm_entry(vcpu, i));
}
EXPORT_SYMBOL_GPL(kvm_mmu_compose_view);

/*
 * The vCPU has faulted at @gpa, which is handled: if an entry was missing it may be
 * there now, in the VM's root or the window's.
 */
void kvm_mmu_sync_view(struct kvm_vcpu *vcpu, u64 *pt, gpa_t gpa)
{
	unsigned int i = vm2vm_top_index(gpa_to_gfn(gpa));

	if (VALID_PAGE(vcpu->arch.root_mmu.root.hpa))
		WRITE_ONCE(pt[i], vm2vm_entry(vcpu, i));
}
EXPORT_SYMBOL_GPL(kvm_mmu_sync_view);
