// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_mmu_test: what a guest may do with the memory of a window that is not
 * access it.  KVM keeps such memory mapped, or looks at it without a fault of the
 * guest; it has to find none in a window.
 */
#include <asm/kvm_para.h>
#include <signal.h>
#include <sys/time.h>

#include "vm2vm_harness.h"
#include "mmu.h"
#include "vm2vm_peer_check.h"

/* What the guest finds out; in its memory. */
struct odd {
	uint64_t entered;	/* nested state in the guest's own memory works */
	uint64_t refused;	/* nested state in the window does not */
	uint64_t vector[16];	/* exceptions at writes to MSRs */
};

static struct odd odd_state;

static void odd_l2(void)
{
	vmmcall();
}

/* A VMCB that is good, but in the window. */
static void odd_vmcb(struct svm_test_data *svm)
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

static void odd_vmcs(struct vmx_pages *vmx)
{
	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	odd_state.entered = load_vmcs(vmx);
	/* That one KVM does by reading and writing the guest's memory. */
	vmclear(PEER_WINDOW);
	memset((void *)PEER_WINDOW, 0, 4096);
	*(uint32_t *)PEER_WINDOW = vmcs_revision();
	odd_state.refused = vmptrld(PEER_WINDOW);
}

static void odd_nested(void *nested)
{
	if (this_cpu_has(X86_FEATURE_SVM))
		odd_vmcb(nested);
	else
		odd_vmcs(nested);
	GUEST_DONE();
}

/* Have the backend's guest try nested state in its window. */
static struct odd *odd_nested_start(struct mmu *m)
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
static void odd_move_nested_tables(struct mmu *m)
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

static void odd_write_msrs(void)
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
static void odd_move_page_table(struct mmu *m, unsigned int table, unsigned int data)
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

static void odd_smm_init(struct peer *p)
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
static uint32_t odd_smm(struct peer *p)
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

FIXTURE(other)
{
	struct mmu m;
};

FIXTURE_SETUP(other)
{
	mmu_init(&self->m, MMU_L1, MMU_PAGES * 4096, peer_guest);
}

FIXTURE_TEARDOWN(other)
{
	peer_free(&self->m.p);
}

/* The control block of a nested guest is not to be in a window: KVM keeps it mapped. */
TEST_F(other, nested_state)
{
	struct peer *p = &self->m.p;
	const char *lacks = mmu_lacks(MMU_L2);
	struct odd *odd;

	if (lacks)
		SKIP(return, "%s", lacks);
	mmu_link(&self->m, 0, PG_LEVEL_4K);
	mmu_approve(&self->m, VM2VM_RW);
	odd = odd_nested_start(&self->m);
	vcpu_run(p->vcpu);
	ASSERT_EQ(UCALL_DONE, get_ucall(p->vcpu, NULL));
	EXPECT_TRUE(odd->entered);
	EXPECT_TRUE(odd->refused);
	EXPECT_EQ(0, p->mmio);
}

/*
 * Nested page tables in a window: L1 is told of a violation, as for any hole.  KVM has
 * not shadowed them, so it does not watch who writes to that page either.
 */
TEST_F(other, nested_page_tables)
{
	const char *lacks = mmu_lacks(MMU_L2_1G);
	uint64_t watched;
	struct mmu m;

	if (lacks)
		SKIP(return, "%s", lacks);
	mmu_init(&m, MMU_L2_1G, MMU_PAGES * 4096, peer_guest);
	mmu_link(&m, 0, PG_LEVEL_4K);
	mmu_approve(&m, VM2VM_RW);
	odd_move_nested_tables(&m);
	vcpu_run(m.p.vcpu);
	EXPECT_EQ(UCALL_SYNC, get_ucall(m.p.vcpu, NULL));
	EXPECT_EQ(m.vmx ? EXIT_REASON_EPT_VIOLATION : SVM_EXIT_NPF, m.exit->code);

	watched = vm_get_stat(m.p.backend, "mmu_pte_write");
	vcpu_arch_set_entry_point(m.p.vcpu, peer_guest);
	peer_write(&m.p, 0, 7);
	EXPECT_EQ(7, *peer_word(&m.p, 0));
	EXPECT_EQ(watched, vm_get_stat(m.p.backend, "mmu_pte_write"));
	peer_free(&m.p);
}

/*
 * A page table of the guest in its window.  The CPU walks it if it has nested
 * paging, as any memory; KVM does not, be it for shadow paging, be it because the
 * page is gone and the access is emulated: then the guest gets a page fault.
 */
TEST_F(other, page_table)
{
	struct peer *p = &self->m.p;
	bool shadow = !kvm_is_tdp_enabled();

	vm_install_exception_handler(p->backend, PF_VECTOR, mmu_exception);
	mmu_link(&self->m, 0, PG_LEVEL_4K);
	mmu_approve(&self->m, VM2VM_RW);
	*peer_word(p, 2 * 4096) = PEER_VALUE;
	odd_move_page_table(&self->m, 1, 2);

	EXPECT_EQ(0, peer_run(p, PEER_READ, ODD_GVA, 0, 0, 0));
	EXPECT_EQ(shadow, self->m.exit->count);
	if (!shadow) {
		EXPECT_EQ(PEER_VALUE, peer_val(p));
		EXPECT_EQ(0, peer_run(p, PEER_WRITE, ODD_GVA + 8, 5, 0, 0));
		EXPECT_EQ(5, *peer_word(p, 2 * 4096 + 8));
		/* At another offset than the entry of the page table. */
		vm2vm_unmap(p->domain, PEER_IOVA, p->size);
		EXPECT_EQ(0, peer_run(p, PEER_READ, ODD_GVA + 8, 0, 0, 0));
	}
	EXPECT_EQ(1, self->m.exit->count);
	EXPECT_EQ(PF_VECTOR, self->m.exit->vector);
	EXPECT_EQ(ODD_GVA + (shadow ? 0 : 8), self->m.exit->addr);
	EXPECT_EQ(0, p->mmio);
}

static void no_op(int sig)
{
}

/*
 * The root of them.  A guest that is left without page tables gets a page fault that
 * cannot be delivered: with nested paging it does so again and again, as if its page
 * tables were in MMIO, and can be interrupted.
 */
TEST_F(other, page_table_root)
{
	struct itimerval timer = { .it_value.tv_sec = 1, .it_interval.tv_usec = 100000 };
	struct sigaction sa = { .sa_handler = no_op };
	struct peer *p = &self->m.p;
	struct kvm_sregs sregs;

	mmu_link(&self->m, 0, PG_LEVEL_4K);
	mmu_approve(&self->m, VM2VM_RW);
	peer_read(p, 0);
	memcpy(p->mem, addr_gpa2hva(p->backend, p->backend->pgd), 4096);
	vcpu_sregs_get(p->vcpu, &sregs);
	sregs.cr3 = self->m.link;
	vcpu_sregs_set(p->vcpu, &sregs);
	if (kvm_is_tdp_enabled()) {
		peer_write(p, 4096, 6);
		EXPECT_EQ(6, *peer_word(p, 4096));
		vm2vm_unmap(p->domain, PEER_IOVA, p->size);
	}
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	EXPECT_TRUE(__vcpu_run(p->vcpu) ? errno == EINTR :
		    p->vcpu->run->exit_reason == KVM_EXIT_SHUTDOWN);
	EXPECT_EQ(0, p->mmio);
}

/* Nothing of KVM's own gets into another VM's memory. */
static void expect_msrs_harmless(struct __test_metadata *_metadata, struct mmu *m,
				 uint32_t flags)
{
	struct peer *p = &m->p;
	unsigned int i, j;
	struct odd *odd;
	uint64_t word;

	memset(p->mem, 0xa5, p->size);
	mmu_link(m, 0, PG_LEVEL_4K);
	mmu_approve(m, flags);
	vcpu_arch_set_entry_point(p->vcpu, odd_write_msrs);
	do {
		vcpu_run(p->vcpu);
		TEST_ASSERT(p->vcpu->run->exit_reason == KVM_EXIT_IO, "exit reason %u",
			    p->vcpu->run->exit_reason);
	} while (get_ucall(p->vcpu, NULL) == UCALL_SYNC);
	ASSERT_EQ(UCALL_DONE, get_ucall(p->vcpu, NULL));

	odd = addr_gva2hva(p->backend, (uintptr_t)&odd_state);
	for (i = 0; i < ARRAY_SIZE(odd_msrs); i++) {
		TH_LOG("MSR 0x%x: exception %lu, first word 0x%lx", odd_msrs[i].msr,
		       odd->vector[i], *peer_word(p, i * 4096));
		if (odd_msrs[i].own && (flags & KVM_VM2VM_MAP_WRITE))
			continue;
		for (j = 0; j < 4096; j += 8) {
			word = *peer_word(p, i * 4096 + j);
			ASSERT_EQ(0xa5a5a5a5a5a5a5a5ull, word);
		}
	}
}

TEST_F(other, msrs)
{
	expect_msrs_harmless(_metadata, &self->m, VM2VM_RW);
}

TEST_F(other, msrs_readonly)
{
	expect_msrs_harmless(_metadata, &self->m, KVM_VM2VM_MAP_READ);
}

TEST_F(other, vapic_address)
{
	struct kvm_vapic_addr va = { .vapic_addr = PEER_WINDOW };

	mmu_link(&self->m, 0, PG_LEVEL_4K);
	mmu_approve(&self->m, VM2VM_RW);
	EXPECT_EQ(-1, __vcpu_ioctl(self->m.p.vcpu, KVM_SET_VAPIC_ADDR, &va));
}

/* SMM has an address space of its own, in which there are no windows. */
TEST_F(other, smm)
{
	struct peer *p = &self->m.p;
	uint32_t *word = p->mem;
	uint32_t *smm;

	if (!kvm_has_cap(KVM_CAP_X86_SMM))
		SKIP(return, "no SMM");
	vm2vm_link(p->backend, p->domain, PEER_SLOT, ODD_SMM_WINDOW, PEER_IOVA, p->size, 0);
	mmu_approve(&self->m, VM2VM_RW);
	peer_map_window(p, ODD_SMM_WINDOW, p->size);
	odd_smm_init(p);
	*word = 1;
	EXPECT_EQ(0, peer_run(p, PEER_READ, ODD_SMM_WINDOW, 0, 0, 0));
	EXPECT_EQ(1, peer_val(p));

	EXPECT_EQ(0xffffffff, odd_smm(p));
	EXPECT_EQ(2, p->mmio);
	EXPECT_EQ(1, *word);
	EXPECT_EQ(0, peer_run(p, PEER_READ, ODD_SMM_WINDOW, 0, 0, 0));
	EXPECT_EQ(1, peer_val(p));
	EXPECT_EQ(2, p->mmio);

	/* Memory for SMM alone, in the same place. */
	vm_userspace_mem_region_add(p->backend, VM_MEM_SRC_ANONYMOUS, ODD_SMM_WINDOW,
				    ODD_SMM_SLOT(2), 1, 0);
	smm = (uint32_t *)memslot2region(p->backend, ODD_SMM_SLOT(2))->host_mem;
	*smm = 3;
	EXPECT_EQ(3, odd_smm(p));
	EXPECT_EQ(ODD_SMM_VALUE, *smm);
	EXPECT_EQ(1, *word);
	EXPECT_EQ(0, peer_run(p, PEER_READ, ODD_SMM_WINDOW, 0, 0, 0));
	EXPECT_EQ(1, peer_val(p));
	EXPECT_EQ(2, p->mmio);
}
