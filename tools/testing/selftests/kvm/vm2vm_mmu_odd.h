/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_mmu_test: what a guest may do with the memory of a window that is not
 * access it.  KVM keeps such memory mapped, or looks at it without a fault of the
 * guest; it has to find none in a window.
 */
#ifndef SELFTEST_KVM_VM2VM_MMU_ODD_H
#define SELFTEST_KVM_VM2VM_MMU_ODD_H

#include <asm/kvm_para.h>

#include "vm2vm_mmu.h"

/* What the guest finds out; in its memory. */
struct odd {
	uint64_t entered;	/* nested state in the guest's own memory works */
	uint64_t refused;	/* nested state in the window does not */
	uint64_t vector[16];	/* exceptions at writes to MSRs */
};

static struct odd odd_state;

static inline void odd_l2(void)
{
	vmmcall();
}

/* A VMCB that is good, but in the window. */
static inline void odd_vmcb(struct svm_test_data *svm)
{
	unsigned long stack[MMU_L2_STACK];

	generic_svm_setup(svm, odd_l2, &stack[MMU_L2_STACK]);
	memcpy((void *)PEER_WINDOW, svm->vmcb, 4096);
	run_guest(svm->vmcb, svm->vmcb_gpa);
	odd_state.entered = svm->vmcb->control.exit_code == SVM_EXIT_VMMCALL;
	odd_state.refused = kvm_asm_safe("vmrun %%rax", "a"(PEER_WINDOW)) == GP_VECTOR;
	/* The CPU may do these without KVM. */
	kvm_asm_safe("vmsave %%rax", "a"(PEER_WINDOW + 4096));
	kvm_asm_safe("vmload %%rax", "a"(PEER_WINDOW + 4096));
}

static inline void odd_vmcs(struct vmx_pages *vmx)
{
	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	odd_state.entered = load_vmcs(vmx);
	/* That one KVM does by reading and writing the guest's memory. */
	vmclear(PEER_WINDOW);
	memset((void *)PEER_WINDOW, 0, 4096);
	*(uint32_t *)PEER_WINDOW = vmcs_revision();
	odd_state.refused = vmptrld(PEER_WINDOW);
}

static inline void odd_nested(void *nested)
{
	if (this_cpu_has(X86_FEATURE_SVM))
		odd_vmcb(nested);
	else
		odd_vmcs(nested);
	GUEST_DONE();
}

/* Have the backend's guest try nested state in its window. */
static inline struct odd *odd_nested_start(struct mmu *m)
{
	struct kvm_vm *vm = m->p.backend;
	vm_vaddr_t nested;

	if (kvm_cpu_has(X86_FEATURE_SVM))
		vcpu_alloc_svm(vm, &nested);
	else
		vcpu_alloc_vmx(vm, &nested);
	vcpu_arch_set_entry_point(m->p.vcpu, odd_nested);
	vcpu_args_set(m->p.vcpu, 1, nested);
	return addr_gva2hva(vm, (uintptr_t)&odd_state);
}

/* Use a copy of the root of the nested page tables, in the window. */
static inline void odd_move_nested_tables(struct mmu *m)
{
	struct kvm_regs regs;
	void *root;

	root = m->vmx ? m->vmx->eptp_hva : addr_gpa2hva(m->p.backend, m->npt);
	memcpy(m->p.mem, root, 4096);
	if (m->vmx) {
		m->vmx->eptp_gpa = m->link;
		return;
	}
	vcpu_regs_get(m->p.vcpu, &regs);
	TEST_ASSERT(regs.rdx == m->npt, "the third argument");
	regs.rdx = m->link;
	vcpu_regs_set(m->p.vcpu, &regs);
}

/* MSRs that tell KVM where to write to; one per page of the window. */
static const struct odd_msr {
	uint32_t msr;
	uint32_t bits;
	bool own;	/* the guest's own write, which a mapping may permit */
} odd_msrs[] = {
	{ MSR_KVM_SYSTEM_TIME, 1 },
	{ MSR_KVM_SYSTEM_TIME_NEW, 1 },
	{ MSR_KVM_STEAL_TIME, KVM_MSR_ENABLED },
	{ MSR_KVM_PV_EOI_EN, KVM_MSR_ENABLED },
	{ MSR_KVM_ASYNC_PF_EN, KVM_ASYNC_PF_ENABLED | KVM_ASYNC_PF_DELIVERY_AS_INT },
	{ MSR_KVM_WALL_CLOCK, 0, true },
	{ MSR_KVM_WALL_CLOCK_NEW, 0, true },
};

static inline void odd_write_msrs(void)
{
	unsigned int i;
	uint64_t val;

	peer_guest_interruptible();
	for (i = 0; i < ARRAY_SIZE(odd_msrs); i++) {
		val = (PEER_WINDOW + i * 4096) | odd_msrs[i].bits;
		odd_state.vector[i] = wrmsr_safe(odd_msrs[i].msr, val);
		/* Let KVM use what it was given. */
		GUEST_SYNC(i);
		GUEST_SYNC(i);
	}
	GUEST_DONE();
}

/* A page table of the guest's, in a window. */
#define ODD_GVA		(PEER_WINDOW + (1ul << 38))

/*
 * Have the guest's page tables for ODD_GVA end in page @table of the window, which
 * has an entry for page @data of it.
 */
static inline void odd_move_page_table(struct mmu *m, unsigned int table, unsigned int data)
{
	const uint64_t flags = PTE_PRESENT_MASK | PTE_WRITABLE_MASK | PTE_ACCESSED_MASK |
			       PTE_DIRTY_MASK;
	struct kvm_vm *vm = m->p.backend;
	int level = PG_LEVEL_2M;
	uint64_t *pde;

	virt_map(vm, ODD_GVA, 0, 1);
	pde = __vm_get_page_table_entry(vm, ODD_GVA, &level);
	*pde = (m->link + table * 4096) | flags;
	peer_word(&m->p, table * 4096)[(ODD_GVA >> 12) & 511] = (m->link + data * 4096) | flags;
}

/* SMM. */
#define ODD_SMRAM	0x1000000ul
#define ODD_SMRAM_SIZE	0x10000
#define ODD_SMM_SLOT(n)	((1 << 16) | (n))
#define ODD_SMM_WINDOW	0xc0000000ul
#define ODD_SMM_PORT	0xe
#define ODD_SMM_VALUE	0x5e5e5e5e

/* Real mode, with segments of 4 GiB. */
static const uint8_t odd_smi_handler[] = {
	0x66, 0x67, 0xa1, 0x00, 0x00, 0x00, 0xc0,	/* mov ODD_SMM_WINDOW, %eax */
	0x66, 0x89, 0xc3,				/* mov %eax, %ebx */
	0x66, 0xb8, 0x5e, 0x5e, 0x5e, 0x5e,		/* mov $ODD_SMM_VALUE, %eax */
	0x66, 0x67, 0xa3, 0x00, 0x00, 0x00, 0xc0,	/* mov %eax, ODD_SMM_WINDOW */
	0xe4, ODD_SMM_PORT,				/* in $ODD_SMM_PORT, %al */
	0x0f, 0xaa,					/* rsm */
};

static inline void odd_smm_init(struct peer *p)
{
	vm_userspace_mem_region_add(p->backend, VM_MEM_SRC_ANONYMOUS, ODD_SMRAM,
				    ODD_SMM_SLOT(1), ODD_SMRAM_SIZE / 4096, 0);
	memcpy(addr_gpa2hva(p->backend, ODD_SMRAM) + 0x8000, odd_smi_handler,
	       sizeof(odd_smi_handler));
	vcpu_set_msr(p->vcpu, MSR_IA32_SMBASE, ODD_SMRAM);
}

/*
 * Have the guest go to SMM, read a word of the window there and write to it.
 * Returns what it read; MMIO is counted in @p and answered as ever.
 */
static inline uint32_t odd_smm(struct peer *p)
{
	struct kvm_run *run = p->vcpu->run;
	struct kvm_vcpu_events events;
	struct kvm_regs regs;

	vcpu_events_get(p->vcpu, &events);
	events.smi.pending = 1;
	events.flags |= KVM_VCPUEVENT_VALID_SMM;
	vcpu_events_set(p->vcpu, &events);
	for (;;) {
		vcpu_run(p->vcpu);
		if (run->exit_reason != KVM_EXIT_MMIO)
			break;
		p->mmio++;
		if (!run->mmio.is_write)
			memset(run->mmio.data, p->fill, run->mmio.len);
	}
	TEST_ASSERT(run->exit_reason == KVM_EXIT_IO && run->io.port == ODD_SMM_PORT,
		    "exit reason %u", run->exit_reason);
	vcpu_regs_get(p->vcpu, &regs);
	return regs.rbx;
}

#endif /* SELFTEST_KVM_VM2VM_MMU_ODD_H */
