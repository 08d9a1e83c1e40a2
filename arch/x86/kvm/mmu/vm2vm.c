// SPDX-License-Identifier: GPL-2.0-only
/* vm2vm: faults on a window, the part of the x86 MMU. */
#include <linux/kvm_host.h>
#include <linux/pagemap.h>
#include <asm/mtrr.h>
#include <asm/vmx.h>

#include "irq.h"
#include "mmu.h"
#include "spte.h"
#include "tdp_mmu.h"
#include "vm2vm.h"

/*
 * Whether the page tables tell all about a page of @vma.  Secret memory is not to be
 * reached, as get_user_pages() knows; a module does not, but that it is never evicted.
 */
static bool vm2vm_vma_is_simple(const struct vm_area_struct *vma)
{
	return !(vma->vm_flags & (VM_IO | VM_PFNMAP | VM_MIXEDMAP | VM_HUGETLB)) &&
	       !(vma->vm_file && mapping_unevictable(vma->vm_file->f_mapping));
}

/*
 * Get the page of @pfn, which @entry has mapped by @val, if it still does.  Not one of the
 * kernel's own, of which KVM would not drop the reference, as of the vDSO; nor one that has
 * more references than can be counted, as get_user_pages() sees to.
 */
static struct page *vm2vm_grab_page(const unsigned long *entry, unsigned long val,
				    unsigned long pfn)
{
	struct page *page = pfn_to_page(pfn);
	struct folio *folio = page_folio(page);

	if (PageReserved(page) || folio_ref_count(folio) <= 0 || !folio_try_get(folio))
		return NULL;
	if (likely(page_folio(page) == folio && READ_ONCE(*entry) == val))
		return page;
	folio_put(folio);
	return NULL;
}

/*
 * Look up @hva in the page tables of @mm, where it has a VMA, and get the page into @p if
 * that is @simple and allows the access: as get_user_pages_fast() does, which is for the
 * caller's own address space only.  Sets @p->order if it is part of a huge page.  Returns
 * whether that is all there is to know.
 *
 * mmap_lock, which is held for reading, keeps the page tables but for the lowest of a
 * file, which RCU keeps, and those that hugetlbfs shares, which go when each CPU has had
 * an interrupt: they are off.  (Without CONFIG_PARAVIRT they do not wait for that; what is
 * read there only tells a size, which is not used then.)  Each entry is read once, as in
 * host_pfn_mapping_level().
 */
static bool vm2vm_walk_host(struct mm_struct *mm, unsigned long hva, bool simple,
			    bool write, struct kvm_vm2vm_page *p)
{
	unsigned long need = _PAGE_PRESENT | _PAGE_USER | (write ? _PAGE_RW : 0);
	unsigned long *entry, val, pfn;
	pgd_t pgd;
	p4d_t p4d;
	pud_t pud;
	pmd_t pmd;

	lockdep_assert_irqs_disabled();
	mmap_assert_locked(mm);

	pgd = READ_ONCE(*pgd_offset(mm, hva));
	if (pgd_none(pgd))
		return true;
	p4d = READ_ONCE(*p4d_offset(&pgd, hva));
	if (!p4d_present(p4d))
		return true;
	pud = READ_ONCE(*pud_offset(&p4d, hva));
	if (!pud_present(pud))
		return true;
	if (pud_leaf(pud)) {
		p->order = KVM_HPAGE_GFN_SHIFT(PG_LEVEL_1G);
		return false;
	}

	entry = &pmd_offset(&pud, hva)->pmd;
	val = READ_ONCE(*entry);
	pmd = __pmd(val);
	if (pmd_leaf(pmd)) {
		p->order = KVM_HPAGE_GFN_SHIFT(PG_LEVEL_2M);
		pfn = pmd_pfn(pmd) + pte_index(hva);
	} else {
		if (!pmd_present(pmd))
			return true;
		if (!simple)
			return false;
		entry = &pte_offset_kernel(&pmd, hva)->pte;
		val = READ_ONCE(*entry);
		pfn = pte_pfn(__pte(val));
	}

	if (!simple || (val & need) != need)
		return simple;
	if (val & (_PAGE_SPECIAL | _PAGE_DEVMAP))
		return false;
	p->page = vm2vm_grab_page(entry, val, pfn);
	if (p->page && !(val & _PAGE_RW))
		p->writable = false;
	return p->page;
}

/*
 * What @kvm, the owner, has at @gfn, which is @hva in @vma, as far as a look tells: the
 * page, with a reference and whether it may be written, if that can be had, and how much
 * may be mapped at once, which is not more than the owner's own MMU would map.  The
 * caller holds mmap_lock, and sees to it that the answer is not used if the owner
 * invalidates it.
 *
 * Return: false if there is no page, but get_user_pages_remote() may get one that does
 * not have to be faulted in.
 */
bool kvm_arch_vm2vm_look(struct kvm *kvm, const struct kvm_memory_slot *slot, gfn_t gfn,
			 const struct vm_area_struct *vma, unsigned long hva,
			 bool write, struct kvm_vm2vm_page *p)
{
	unsigned long flags;
	bool done;
	int level;

	local_irq_save(flags);
	done = vm2vm_walk_host(kvm->mm, hva, vm2vm_vma_is_simple(vma), write, p);
	local_irq_restore(flags);

	if (p->order) {
		level = kvm_mmu_max_mapping_level(kvm, slot, gfn,
						  KVM_MAX_HUGEPAGE_LEVEL);
		p->order = KVM_HPAGE_GFN_SHIFT(level);
	}
	return done;
}

static u8 vm2vm_order_to_level(u8 order)
{
	u8 level = KVM_MAX_HUGEPAGE_LEVEL;

	while (level > PG_LEVEL_4K && order < KVM_HPAGE_GFN_SHIFT(level))
		level--;
	return level;
}

/*
 * Confidential VMs are other types; those of SEV that are of the default type by
 * their age are refused by kvm_vm2vm_forbid().
 */
bool kvm_arch_vm2vm_supported(struct kvm *kvm)
{
	return kvm->arch.vm_type == KVM_X86_DEFAULT_VM &&
	       !kvm_arch_has_private_mem(kvm);
}

gfn_t kvm_arch_vm2vm_max_gfn(void)
{
	return kvm_mmu_max_gfn();
}

/*
 * Whether @gpa is on the page of the local APICs, where they are after a reset.  A guest
 * may move each to any page.
 */
bool kvm_arch_vm2vm_has_device(struct kvm *kvm, gpa_t gpa)
{
	return irqchip_in_kernel(kvm) &&
	       gpa_to_gfn(gpa) == gpa_to_gfn(APIC_DEFAULT_PHYS_BASE);
}

/*
 * An access that nothing approves is emulated: the emulator finds no memory either
 * and exits to user space, as for MMIO.  It leaves no MMIO SPTE and no other trace
 * behind, so that the next access is looked up again.
 */
static int vm2vm_hole(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault,
		      bool wants_exit)
{
	if (fault->prefetch)
		return RET_PF_EMULATE;

	kvm_vm2vm_hole(vcpu, fault->gfn, fault->write, wants_exit);
	if (!wants_exit)
		return RET_PF_EMULATE;

	kvm_mmu_prepare_memory_fault_exit(vcpu, fault);
	return -EFAULT;
}

/*
 * The same for a link that fills its holes: an access gets a page that is none of the
 * owner's.  What is prefetched finds a hole.  If the memslots have changed since
 * @generation the fault's may be gone; also while they change, as they may have begun to
 * between the fault's look at its memslot and the one at @generation.
 */
static int vm2vm_fill(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault,
		      u64 generation, int why, struct kvm_vm2vm_page *page)
{
	u64 now = kvm_vcpu_memslots(vcpu)->generation;

	if (fault->prefetch)
		return why;
	if (now != generation || now & KVM_MEMSLOT_GEN_UPDATE_IN_PROGRESS)
		return -EAGAIN;
	return kvm_vm2vm_fill(vcpu, fault->slot, fault->gfn, fault->write, why,
			      &vcpu->vm2vm.fault, page);
}

/* Whether @spte, at @level, translates to another page than @pfn. */
static bool vm2vm_is_other_leaf(u64 spte, int level, gfn_t gfn, kvm_pfn_t pfn)
{
	return is_shadow_present_pte(spte) && is_last_spte(spte, level) &&
	       spte_to_pfn(spte) + (gfn & (KVM_PAGES_PER_HPAGE(level) - 1)) != pfn;
}

/*
 * Zap what is in the place of what @fault has found: a filler where there is a page now, or
 * the other way round.  What else is replaced its revoker has zapped.  The shadow MMU does
 * this by itself, to the TDP MMU it would be a bug.
 */
static void vm2vm_zap_replaced(struct kvm_vcpu *vcpu, const struct kvm_page_fault *fault)
{
	u64 sptes[PT64_ROOT_MAX_LEVEL + 1];
	int level, root_level;
	bool replaced;

	if (!tdp_mmu_enabled || !vcpu->arch.mmu->root_role.direct)
		return;

	kvm_tdp_mmu_walk_lockless_begin();
	level = kvm_tdp_mmu_get_walk(vcpu, gfn_to_gpa(fault->gfn), sptes, &root_level);
	replaced = level > 0 &&
		   vm2vm_is_other_leaf(sptes[level], level, fault->gfn, fault->pfn);
	kvm_tdp_mmu_walk_lockless_end();

	if (replaced)
		kvm_vm2vm_zap_gfn(fault->slot, fault->gfn);
}

/*
 * kvm_faultin_pfn() for a gfn of an alias memslot, or of any that is invalid, which it
 * does not use either, as it is about to go.  Instruction fetches are never
 * approved, and neither is what the vCPU's view does not show.
 *
 * So that other faults need not look whether they are of this kind, this one gets an
 * mmu_seq that is none: KVM comes to kvm_mmu_alias_stale() by that.
 */
int kvm_mmu_faultin_alias(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault)
{
	u64 generation = kvm_vcpu_memslots(vcpu)->generation;
	bool fills = fault->slot->vm2vm.fills;
	struct kvm_vm2vm_page page;
	bool wants_exit;
	int r = -ENXIO;

	if (fault->slot->flags & KVM_MEMSLOT_INVALID)
		return fault->prefetch ? -EAGAIN : RET_PF_RETRY;

	wants_exit = kvm_vm2vm_wants_exit(fault->slot);
	if (fault->exec)
		return vm2vm_hole(vcpu, fault, wants_exit);

	/* A prefetch holds its VM's SRCU in a way that cannot be dropped here. */
	if (!fault->slot->vm2vm.transient || kvm_vm2vm_in_view(vcpu, fault->slot))
		r = kvm_vm2vm_fault(vcpu, fault->slot, fault->gfn, fault->write,
				    fault->prefetch ? KVM_VM2VM_NOWAIT : KVM_VM2VM_SLEEP,
				    &vcpu->vm2vm.fault, &page);
	if (fills && (r == -ENODATA || r == -ENOENT || r == -ENXIO))
		r = vm2vm_fill(vcpu, fault, generation, r, &page);

	switch (r) {
	case 0:
		break;
	case -ENODATA:
	case -ENOENT:
	case -ENXIO:
		return vm2vm_hole(vcpu, fault, wants_exit);
	case -EAGAIN:
		return RET_PF_RETRY;
	case -EBUSY:
		return -EAGAIN;
	case -EINTR:
		kvm_handle_signal_exit(vcpu);
		return -EINTR;
	default:
		return r;
	}

	fault->pfn = page_to_pfn(page.page);
	if (fills)
		vm2vm_zap_replaced(vcpu, fault);
	fault->map_writable = page.writable;
	if (page.logged) {
		fault->map_writable = page.writable && fault->write;
		page.order = 0;
	}
	fault->max_level = min(fault->max_level,
			       vm2vm_order_to_level(page.order));
	fault->mmu_seq = ~fault->mmu_seq;
	return RET_PF_CONTINUE;
}

/*
 * What kvm_mmu_hugepage_adjust() does, which finds nothing more to do then: it would look
 * for a host mapping of this VM to cap the level by.  The fault has capped it.
 */
static void vm2vm_adjust_level(struct kvm *kvm, struct kvm_page_fault *fault)
{
	if (fault->max_level == PG_LEVEL_4K)
		return;
	fault->req_level = kvm_mmu_max_mapping_level(kvm, fault->slot, fault->gfn,
						     fault->max_level);
	fault->goal_level = fault->req_level;
	fault->pfn &= -KVM_PAGES_PER_HPAGE(fault->goal_level);
	fault->max_level = PG_LEVEL_4K;
}

/*
 * is_page_fault_stale() for an alias memslot, whose fault has the complement of the
 * backend's own mmu_invalidate_seq.  One that is transient also needs the root of its view,
 * other than for a filler, which any root may have.
 */
bool kvm_mmu_alias_stale(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault)
{
	unsigned long npages;

	if (mmu_invalidate_retry_gfn(vcpu->kvm, ~fault->mmu_seq, fault->gfn) ||
	    kvm_vm2vm_fault_stale(fault->slot, &vcpu->vm2vm.fault) ||
	    (fault->slot->vm2vm.transient && !vcpu->vm2vm.fault.fill &&
	     (!kvm_vm2vm_in_view(vcpu, fault->slot) || kvm_mmu_view_is_gone(vcpu))))
		return true;

	vm2vm_adjust_level(vcpu->kvm, fault);
	npages = KVM_PAGES_PER_HPAGE(fault->goal_level);
	/* It is installed now, as large as that at the most. */
	kvm_vm2vm_touch(fault->slot, fault->gfn & -npages, npages);
	return false;
}

static bool vm2vm_is_sink(const struct kvm_memory_slot *slot, kvm_pfn_t pfn)
{
	return slot->vm2vm.fills && kvm_vm2vm_is_sink(slot, pfn);
}

/*
 * What make_spte() must not decide for a window.  Another VM's memory is never
 * executable.  And it is write-back, whatever the guest's PAT says, also where the VM has
 * devices that do not snoop: the owner has the page mapped so.  NPT has no means for that;
 * there a guest that asks for an uncached mapping gets one, which is coherent.
 */
static u64 vm2vm_correct_spte(u64 spte)
{
	/* Where there are no accessed bits, a prefetch has put the right to execute away. */
	if (is_access_track_spte(spte))
		spte &= ~(shadow_x_mask << SHADOW_ACC_TRACK_SAVED_BITS_SHIFT);
	spte &= ~shadow_x_mask;
	spte |= shadow_nx_mask;

	if (shadow_memtype_mask) {
		spte &= ~shadow_memtype_mask;
		spte |= (MTRR_TYPE_WRBACK << VMX_EPT_MT_EPTE_SHIFT) |
			VMX_EPT_IPAT_BIT;
	}
	return spte;
}

/*
 * make_spte() for a window.  This is also where all translations for writing come from,
 * other than by kvm_mmu_alias_fix_spte(): if it is one, log it.  The caller holds mmu_lock
 * until it is installed, so a harvest of the log that comes after this takes the write
 * access away again.
 *
 * If another vCPU has filled the hole again since vm2vm_zap_replaced(), that stays, and
 * the access faults once more.
 */
bool kvm_mmu_make_alias_spte(struct kvm_vcpu *vcpu, struct kvm_mmu_page *sp,
			     const struct kvm_memory_slot *slot, unsigned int pte_access,
			     gfn_t gfn, kvm_pfn_t pfn, u64 old_spte, bool prefetch,
			     bool can_unsync, bool host_writable, u64 *new_spte)
{
	bool wrprot;

	if (vm2vm_is_other_leaf(old_spte, sp->role.level, 0, pfn)) {
		*new_spte = old_spte;
		return false;
	}
	wrprot = make_spte(vcpu, sp, slot, pte_access, gfn, pfn, old_spte, prefetch,
			   can_unsync, host_writable, new_spte);
	*new_spte = vm2vm_correct_spte(*new_spte);

	if (is_writable_pte(*new_spte) && !vm2vm_is_sink(slot, pfn))
		kvm_vm2vm_mark_dirty(slot, gfn);
	return wrprot;
}

/*
 * The role by which a huge page is split into pages of @sp.  make_huge_page_split_spte()
 * gives small pages the right to be executed that the mitigation of nx_huge_pages has
 * taken from a huge one, by what the role permits: nothing to a window.  The caller holds
 * the VM's SRCU, or slots_lock.
 */
union kvm_mmu_page_role kvm_mmu_alias_split_role(struct kvm *kvm,
						 const struct kvm_mmu_page *sp)
{
	union kvm_mmu_page_role role = sp->role;
	struct kvm_memslots *slots = kvm_memslots_for_spte_role(kvm, role);

	if (is_nx_huge_page_enabled(kvm) &&
	    kvm_slot_is_alias(__gfn_to_memslot(slots, sp->gfn)))
		role.access &= ~ACC_EXEC_MASK;
	return role;
}

struct vm2vm_fix {
	u64 *sptep;
	u64 old_spte;
	u64 new_spte;
	bool fixed;
};

static bool vm2vm_fix_spte(void *arg)
{
	struct vm2vm_fix *fix = arg;
	u64 old_spte = fix->old_spte;

	fix->fixed = try_cmpxchg64(fix->sptep, &old_spte, fix->new_spte);
	return fix->fixed && is_writable_pte(fix->new_spte) &&
	       !is_writable_pte(fix->old_spte);
}

/*
 * What fast_pf_fix_direct_spte() does: give @sptep, which a harvest has
 * write-protected, its write access back.  Where to log that has to be known before,
 * as the approval may go as soon as the translation is installed; but only then it
 * is logged, as a harvest in between would not find a translation to protect.
 *
 * By what is installed another vCPU may write at once.  So whoever takes it away has
 * to wait until it is logged, too.  In the shadow MMU the flush does, which needs an
 * answer from this CPU: its interrupts are off.  In the TDP MMU mmu_lock has to.
 */
bool kvm_mmu_alias_fix_spte(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault,
			    u64 *sptep, u64 old_spte, u64 new_spte)
{
	struct vm2vm_fix fix = {
		.sptep = sptep, .old_spte = old_spte, .new_spte = new_spte,
	};
	bool found;

	/* A fault in full knows that there is nothing to log. */
	if (vm2vm_is_sink(fault->slot, spte_to_pfn(old_spte)))
		return false;

	if (is_tdp_mmu_page(sptep_to_sp(sptep))) {
		read_lock(&vcpu->kvm->mmu_lock);
		found = kvm_vm2vm_log(fault->slot, fault->gfn, vm2vm_fix_spte,
				      &fix);
		read_unlock(&vcpu->kvm->mmu_lock);
	} else {
		found = kvm_vm2vm_log(fault->slot, fault->gfn, vm2vm_fix_spte,
				      &fix);
	}

	return found && fix.fixed;
}

/*
 * Take write access from the pages of @mask, of which bit 0 is @gfn, of an alias
 * memslot, and leave it to the next write to be fixed: by the dirty bit, and by PML,
 * it would not be known early enough which page of the owner was written to.
 */
void kvm_arch_vm2vm_write_protect(struct kvm *kvm, struct kvm_memory_slot *slot,
				  gfn_t gfn, unsigned long mask)
{
	unsigned int i;

	lockdep_assert_held_write(&kvm->mmu_lock);

	if (tdp_mmu_enabled && !kvm_memslots_have_rmaps(kvm)) {
		kvm_tdp_mmu_clear_dirty_pt_masked(kvm, slot, gfn, mask, true);
		return;
	}
	for_each_set_bit(i, &mask, BITS_PER_LONG)
		kvm_mmu_slot_gfn_write_protect(kvm, slot, gfn + i, PG_LEVEL_4K);
}

/*
 * All that is written outside of a vCPU is a backend's, which has a vCPU, but of
 * another VM, and does not go through mark_page_dirty_in_slot().
 */
bool kvm_arch_allow_write_without_running_vcpu(struct kvm *kvm)
{
	return false;
}
