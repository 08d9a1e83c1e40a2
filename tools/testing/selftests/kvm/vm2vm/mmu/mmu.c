// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_mmu_test: a backend whose window is used by its guest, or by a guest of its
 * guest, as mmu.h declares it.
 */
#include "mmu.h"

#define MMU_SIZE_1G	0x40000000ul

/* Where a guest stays that does not go on. */
#define MMU_SYNC_EXCEPTION	1
#define MMU_SYNC_EXIT		2

static struct mmu_exit mmu_exit;

void mmu_exception(struct ex_regs *regs)
{
	mmu_exit.vector = regs->vector;
	asm volatile("mov %%cr2, %0" : "=r"(mmu_exit.addr));
	mmu_exit.count++;
	for (;;)
		GUEST_SYNC(MMU_SYNC_EXCEPTION);
}

static void mmu_l1_svm(struct svm_test_data *svm, void *l2, uint64_t npt)
{
	unsigned long stack[MMU_L2_STACK];
	struct vmcb *vmcb = svm->vmcb;

	generic_svm_setup(svm, l2, &stack[MMU_L2_STACK]);
	if (npt) {
		vmcb->control.nested_ctl = SVM_NESTED_CTL_NP_ENABLE;
		vmcb->control.nested_cr3 = npt;
	}
	run_guest(vmcb, svm->vmcb_gpa);
	mmu_exit.code = vmcb->control.exit_code;
	mmu_exit.gpa = vmcb->control.exit_info_2;
}

static void mmu_l1_vmx(struct vmx_pages *vmx, void *l2)
{
	unsigned long stack[MMU_L2_STACK];

	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_vmcs(vmx));
	prepare_vmcs(vmx, l2, &stack[MMU_L2_STACK]);
	GUEST_ASSERT(!vmlaunch());
	mmu_exit.code = vmreadz(VM_EXIT_REASON);
	mmu_exit.gpa = vmreadz(GUEST_PHYSICAL_ADDRESS);
}

/* L1: start L2, which stays there unless something is wrong. */
static void mmu_l1(void *nested, void *l2, uint64_t npt)
{
	if (this_cpu_has(X86_FEATURE_SVM))
		mmu_l1_svm(nested, l2, npt);
	else
		mmu_l1_vmx(nested, l2);
	for (;;)
		GUEST_SYNC(MMU_SYNC_EXIT);
}

/* Nested page tables as SVM has them: page tables for user mode. */
static void mmu_npt_map(struct kvm_vm *vm, uint64_t root, uint64_t from, uint64_t to, int level)
{
	const uint64_t flags = PTE_PRESENT_MASK | PTE_WRITABLE_MASK | PTE_USER_MASK;
	uint64_t *pte, table = root;
	int l;

	for (l = PG_LEVEL_512G; ; l--) {
		pte = addr_gpa2hva(vm, table);
		pte += (from >> PG_LEVEL_SHIFT(l)) & 511;
		if (l == level)
			break;
		if (!*pte)
			*pte = vm_alloc_page_table(vm) | flags;
		table = PTE_GET_PA(*pte);
	}
	*pte = to | flags | (level > PG_LEVEL_4K ? PTE_LARGE_MASK : 0);
}

static void mmu_nested_map(struct mmu *m, uint64_t from, uint64_t to, uint64_t size, int level)
{
	struct kvm_vm *vm = m->p.backend;
	uint64_t done;

	if (m->vmx && level == PG_LEVEL_1G) {
		nested_identity_map_1g(m->vmx, vm, from, size);
		return;
	}
	if (m->vmx) {
		nested_map(m->vmx, vm, from, to, size);
		return;
	}
	for (done = 0; done < size; done += PG_LEVEL_SIZE(level))
		mmu_npt_map(vm, m->npt, from + done, to + done, level);
}

const char *mmu_lacks(enum mmu_who who)
{
	bool svm = kvm_cpu_has(X86_FEATURE_SVM);

	if (who == MMU_L1)
		return NULL;
	if (!svm && !kvm_cpu_has(X86_FEATURE_VMX))
		return "no nested guests";
	if (who == MMU_L2)
		return NULL;
	if (svm)
		return kvm_cpu_has(X86_FEATURE_NPT) ? NULL : "no nested NPT";
	if (!kvm_cpu_has_ept())
		return "no nested EPT";
	if (!(kvm_get_feature_msr(MSR_IA32_VMX_EPT_VPID_CAP) & VMX_EPT_VPID_CAP_1G_PAGES))
		return "no nested EPT with pages of 1 GiB";
	return NULL;
}

/* Nested page tables that map the backend's own memory. */
static void mmu_nested_init(struct mmu *m)
{
	struct kvm_vm *vm = m->p.backend;

	if (m->vmx)
		prepare_eptp(m->vmx, vm, 0);
	else
		m->npt = vm_alloc_page_table(vm);
	mmu_nested_map(m, 0, 0, PEER_WINDOW, PG_LEVEL_1G);
}

void mmu_init(struct mmu *m, enum mmu_who who, size_t size, void *guest)
{
	struct peer *p = &m->p;
	vm_vaddr_t nested = 0;

	memset(m, 0, sizeof(*m));
	peer_init(p, size);
	m->who = who;
	m->link = who == MMU_L2_4K ? 2 * PEER_WINDOW : PEER_WINDOW;
	m->exit = addr_gva2hva(p->backend, (uintptr_t)&mmu_exit);
	if (who == MMU_L1) {
		vcpu_arch_set_entry_point(p->vcpu, guest);
		return;
	}
	if (kvm_cpu_has(X86_FEATURE_SVM))
		vcpu_alloc_svm(p->backend, &nested);
	else
		m->vmx = vcpu_alloc_vmx(p->backend, &nested);
	if (who != MMU_L2)
		mmu_nested_init(m);
	vcpu_arch_set_entry_point(p->vcpu, mmu_l1);
	vcpu_args_set(p->vcpu, 3, nested, guest, m->npt);
}

void mmu_map_window(struct mmu *m, uint64_t size, int level)
{
	uint64_t up = (size + MMU_SIZE_1G - 1) & -MMU_SIZE_1G;

	virt_map_level(m->p.backend, PEER_WINDOW, PEER_WINDOW, size, level);
	if (m->who == MMU_L2_1G)
		mmu_nested_map(m, PEER_WINDOW, m->link, up, PG_LEVEL_1G);
	else if (m->who == MMU_L2_4K)
		mmu_nested_map(m, PEER_WINDOW, m->link, size, PG_LEVEL_4K);
}

void mmu_link(struct mmu *m, uint32_t flags, int level)
{
	struct peer *p = &m->p;

	vm2vm_link(p->backend, p->domain, PEER_SLOT, m->link, PEER_IOVA, p->size, flags);
	mmu_map_window(m, p->size, level);
}
