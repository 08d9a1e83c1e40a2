// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_view_test: views of a vCPU in real mode, in SMM, and with a nested guest.
 */
#include "views.h"
#include "vm2vm_access.h"
#include "vmx.h"

/* 16 bit code: gpa, and its memslot; in SMM the first byte that is executed is 0x8000. */
#define MODE_GPA	0x2000000ul
#define MODE_SIZE	0x10000ul
#define MODE_ENTRY	0x8000ul
#define MODE_SLOT	5
#define MODE_SMM_SLOT(slot)	(1u << 16 | (slot))

/* A vCPU that stands at a GUEST_SYNC(), to be brought back there. */
struct mode_saved {
	struct kvm_sregs sregs;
	struct kvm_regs regs;
};

static void mode_save(struct kvm_vcpu *vcpu, struct mode_saved *s)
{
	vcpu_run_complete_io(vcpu);
	vcpu_sregs_get(vcpu, &s->sregs);
	vcpu_regs_get(vcpu, &s->regs);
}

static void mode_restore(struct kvm_vcpu *vcpu, struct mode_saved *s)
{
	vcpu_sregs_set(vcpu, &s->sregs);
	vcpu_regs_set(vcpu, &s->regs);
}

static void mode_real_segment(struct kvm_segment *seg, uint64_t base, uint8_t type)
{
	*seg = (struct kvm_segment) {
		.base = base, .limit = 0xffff, .type = type, .present = 1, .s = 1,
	};
}

/* Real mode, about to execute the code; exceptions have nowhere to go. */
static void mode_real(struct kvm_vcpu *vcpu, struct mode_saved *s, uint64_t eax, uint64_t ecx)
{
	struct kvm_sregs sregs = s->sregs;
	struct kvm_regs regs = s->regs;

	sregs.cr0 &= ~(X86_CR0_PE | X86_CR0_PG);
	sregs.efer &= ~(uint64_t)(EFER_LME | EFER_LMA);
	sregs.idt.limit = 0;
	mode_real_segment(&sregs.cs, MODE_GPA, 0xb);
	mode_real_segment(&sregs.ds, 0, 3);
	sregs.es = sregs.ds;
	sregs.fs = sregs.ds;
	sregs.gs = sregs.ds;
	sregs.ss = sregs.ds;
	regs.rip = MODE_ENTRY;
	regs.rax = eax;
	regs.rcx = ecx;
	vcpu_sregs_set(vcpu, &sregs);
	vcpu_regs_set(vcpu, &regs);
}

static void mode_expect_port(struct kvm_vcpu *vcpu)
{
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
	TEST_ASSERT_EQ(vcpu->run->io.port, DEV_PORT);
}

static bool mode_possible(void)
{
	return host_cpu_is_intel && get_kvm_intel_param_bool("unrestricted_guest");
}

/* In real mode VMFUNC is what it is anywhere else. */
TEST_F(views, real)
{
	/* vmfunc; out %al, $DEV_PORT; jmp to the begin */
	static const uint8_t code[] = { 0x0f, 0x01, 0xd4, 0xe6, DEV_PORT, 0xeb, 0xf9 };
	struct view_cpu *cpu = &self->w.cpu[0];
	struct kvm_vcpu *vcpu = cpu->vcpu;
	struct mode_saved saved;
	unsigned int i;

	if (!mode_possible())
		SKIP(return, "no unrestricted guests");
	view_link(&self->w, 1, 0, 0, 1, 0);
	view_link(&self->w, 2, 1, 0, 1, 0);
	vm_userspace_mem_region_add(self->w.vm, VM_MEM_SRC_ANONYMOUS, MODE_GPA, MODE_SLOT,
				    MODE_SIZE / 4096, 0);
	memcpy(addr_gpa2hva(self->w.vm, MODE_GPA) + MODE_ENTRY, code, sizeof(code));
	view_do(cpu, VIEW_NOP);
	mode_save(vcpu, &saved);

	/* The first time with an exit, and later without. */
	for (i = 1; i < 7; i++) {
		mode_real(vcpu, &saved, 0, i % 3);
		mode_expect_port(vcpu);
		EXPECT_EQ(i % 3, view_get(cpu));
		vcpu_run_complete_io(vcpu);
		mode_restore(vcpu, &saved);
		EXPECT_EQ(i % 3 == 1 ? VIEW_VALUE(0, 0) : VIEW_HOLE, view_read(cpu, 1, 0));
		EXPECT_EQ(i % 3 == 2 ? VIEW_VALUE(1, 0) : VIEW_HOLE, view_read(cpu, 2, 0));
		mode_save(vcpu, &saved);
	}

	view_enter(cpu, 2);
	mode_save(vcpu, &saved);
	mode_real(vcpu, &saved, 1, 0);
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_SHUTDOWN);
	mode_real(vcpu, &saved, 0, 3);
	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_SHUTDOWN);
	EXPECT_EQ(2, view_get(cpu));
	mode_restore(vcpu, &saved);
	EXPECT_EQ(VIEW_VALUE(1, 0), view_read(cpu, 2, 0));
}

/* The guest's memory is there in SMM, too, but for the links; and the SMI handler is. */
static void smm_init(struct view *w, const uint8_t *code, size_t size)
{
	struct userspace_mem_region *ram = memslot2region(w->vm, 0);

	vm_set_user_memory_region(w->vm, MODE_SMM_SLOT(0), 0, 0, ram->region.memory_size,
				  ram->host_mem);
	vm_userspace_mem_region_add(w->vm, VM_MEM_SRC_ANONYMOUS, MODE_GPA,
				    MODE_SMM_SLOT(MODE_SLOT), MODE_SIZE / 4096, 0);
	memcpy(addr_gpa2hva(w->vm, MODE_GPA) + MODE_ENTRY, code, size);
	vcpu_set_msr(w->cpu[0].vcpu, MSR_IA32_SMBASE, MODE_GPA);
}

static void smm_enter(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vcpu, &events);
	events.smi.pending = 1;
	events.flags |= KVM_VCPUEVENT_VALID_SMM;
	vcpu_events_set(vcpu, &events);
	mode_expect_port(vcpu);
	vcpu_events_get(vcpu, &events);
	TEST_ASSERT(events.smi.smm, "the guest is not in SMM");
}

/*
 * The handler first says that it is there, by a port.  The test has the vCPU do in SMM
 * what the guest does outside, and then leave SMM as it should.
 */
TEST_F(views, smm)
{
	static const uint8_t code[] = { 0xe6, DEV_PORT, 0x0f, 0xaa };	/* out; rsm */
	struct view_cpu *cpu = &self->w.cpu[0];
	struct kvm_vcpu *vcpu = cpu->vcpu;
	struct mode_saved out, in;
	unsigned int i;

	if (!kvm_has_cap(KVM_CAP_X86_SMM) || !mode_possible())
		SKIP(return, "no SMM, or no unrestricted guests");
	view_link(&self->w, 1, 0, 0, 1, 0);
	smm_init(&self->w, code, sizeof(code));
	for (i = 0; i < 3; i++) {
		view_enter(cpu, 1);
		EXPECT_EQ(VIEW_VALUE(0, 0), view_read(cpu, 1, 0));
		mode_save(vcpu, &out);
		smm_enter(vcpu);
		mode_save(vcpu, &in);

		mode_restore(vcpu, &out);
		EXPECT_EQ(UD_VECTOR, view_vmfunc(cpu, 0, 1));
		EXPECT_EQ(UD_VECTOR, view_vmfunc(cpu, 0, 0));
		EXPECT_EQ(UD_VECTOR, view_vmfunc(cpu, 1, 0));
		EXPECT_EQ(VIEW_HOLE, view_read(cpu, 1, 0));
		view_write(cpu, 1, 0, 0);
		EXPECT_EQ(VIEW_VALUE(0, 0), *view_word(&self->w.owner[0], 0));
		vcpu_run_complete_io(vcpu);
		EXPECT_EQ(2 * (i + 1) + i, cpu->mmio);

		/* Back from SMM it is in the view where it was. */
		mode_restore(vcpu, &in);
		EXPECT_EQ(VIEW_VALUE(0, 0), view_read(cpu, 1, 0));
		EXPECT_EQ(1, view_get(cpu));
		view_enter(cpu, 0);
		EXPECT_EQ(VIEW_HOLE, view_read(cpu, 1, 0));
	}
}

/* VMFUNC by the SMI handler itself: the exception has nowhere to go. */
TEST_F(views, smm_shutdown)
{
	/* out %al, $DEV_PORT; xor %eax, %eax; xor %ecx, %ecx; vmfunc; out; rsm */
	static const uint8_t code[] = {
		0xe6, DEV_PORT, 0x66, 0x31, 0xc0, 0x66, 0x31, 0xc9, 0x0f, 0x01, 0xd4,
		0xe6, DEV_PORT, 0x0f, 0xaa,
	};
	struct view_cpu *cpu = &self->w.cpu[0];

	if (!kvm_has_cap(KVM_CAP_X86_SMM) || !mode_possible())
		SKIP(return, "no SMM, or no unrestricted guests");
	view_link(&self->w, 1, 0, 0, 1, 0);
	smm_init(&self->w, code, sizeof(code));
	view_enter(cpu, 1);
	smm_enter(cpu->vcpu);
	vcpu_run(cpu->vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(cpu->vcpu, KVM_EXIT_SHUTDOWN);
}

#define NESTED_STACK	512
#define NESTED_VM_FUNCTION_CONTROL	0x2018
#define NESTED_EXIT_VMFUNC		59

enum nested_kind { NESTED_SHADOW, NESTED_EPT, NESTED_VMFUNC };

/* What L1 and L2 see; in L1's memory. */
struct nested {
	uint64_t kind;
	uint64_t before;	/* the window, by L1 in view 1 */
	uint64_t vector[4];	/* VMFUNC by L2 */
	uint64_t within;	/* the window, by L2 */
	uint64_t exit;		/* why L2 ended */
	uint64_t after;		/* the window, by L1 */
	uint64_t done;
};

static struct nested nested;

static void nested_l2(void)
{
	if (nested.kind == NESTED_VMFUNC)
		asm volatile(VM2VM_VMFUNC : : "a" (0), "c" (0) : "memory");
	nested.vector[0] = view_guest_vmfunc(0, 0);
	nested.vector[1] = view_guest_vmfunc(0, 1);
	nested.vector[2] = view_guest_vmfunc(0, 2);
	nested.vector[3] = view_guest_vmfunc(1, 0);
	nested.within = READ_ONCE(*(uint64_t *)VIEW_GPA(1));
	WRITE_ONCE(*(uint64_t *)VIEW_GPA(1), 0);
	vmcall();
}

static void nested_l1(struct vmx_pages *vmx)
{
	unsigned long stack[NESTED_STACK];

	peer_guest_interruptible();
	vm2vm_view_enter(1);
	nested.before = READ_ONCE(*(uint64_t *)VIEW_GPA(1));
	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_vmcs(vmx));
	prepare_vmcs(vmx, nested_l2, &stack[NESTED_STACK]);
	if (nested.kind == NESTED_VMFUNC) {
		GUEST_ASSERT(!vmwrite(SECONDARY_VM_EXEC_CONTROL,
				      vmreadz(SECONDARY_VM_EXEC_CONTROL) |
				      SECONDARY_EXEC_ENABLE_VMFUNC));
		GUEST_ASSERT(!vmwrite(NESTED_VM_FUNCTION_CONTROL, 0));
	}
	GUEST_ASSERT(!vmlaunch());
	nested.exit = vmreadz(VM_EXIT_REASON);
	nested.after = READ_ONCE(*(uint64_t *)VIEW_GPA(1));
	/* L1 itself can still go where it wants. */
	vm2vm_view_enter(2);
	nested.done = READ_ONCE(*(uint64_t *)VIEW_GPA(2));
	GUEST_SYNC(0);
}

static const char *nested_lacks(enum nested_kind kind)
{
	if (!kvm_cpu_has(X86_FEATURE_VMX))
		return "no nested guests";
	if (kind == NESTED_SHADOW)
		return NULL;
	if (!kvm_cpu_has_ept())
		return "no nested EPT";
	if (kind == NESTED_VMFUNC && !(kvm_get_feature_msr(MSR_IA32_VMX_PROCBASED_CTLS2) >> 32 &
				       SECONDARY_EXEC_ENABLE_VMFUNC))
		return "no VMFUNC for nested guests";
	return NULL;
}

static struct nested *nested_run(struct view *w, enum nested_kind kind)
{
	struct nested *n = addr_gva2hva(w->vm, (uintptr_t)&nested);
	struct view_cpu *cpu = &w->cpu[0];
	struct vmx_pages *vmx;
	vm_vaddr_t gva;

	view_link(w, 1, 0, 0, 1, 0);
	view_link(w, 2, 1, 0, 1, 0);
	vmx = vcpu_alloc_vmx(w->vm, &gva);
	if (kind != NESTED_SHADOW) {
		prepare_eptp(vmx, w->vm, 0);
		nested_map_memslot(vmx, w->vm, 0);
		nested_map(vmx, w->vm, VIEW_GPA(1), VIEW_GPA(1), 4096);
	}
	vcpu_arch_set_entry_point(cpu->vcpu, nested_l1);
	vcpu_args_set(cpu->vcpu, 1, gva);
	n->kind = kind;
	TEST_ASSERT_EQ(__view_run(cpu), 0);
	return n;
}

static void nested_check(struct view *w, enum nested_kind kind)
{
	struct nested *n = nested_run(w, kind);
	unsigned int i;

	TEST_ASSERT_EQ(n->before, VIEW_VALUE(0, 0));
	if (kind == NESTED_VMFUNC) {
		/* It is L1 that VMFUNC of L2 belongs to. */
		TEST_ASSERT_EQ(n->exit, (uint64_t)NESTED_EXIT_VMFUNC);
	} else {
		TEST_ASSERT_EQ(n->exit, (uint64_t)EXIT_REASON_VMCALL);
		for (i = 0; i < ARRAY_SIZE(n->vector); i++)
			TEST_ASSERT_EQ(n->vector[i], (uint64_t)UD_VECTOR);
		TEST_ASSERT_EQ(n->within, VIEW_HOLE);
		TEST_ASSERT_EQ(w->cpu[0].mmio, 2);
	}
	TEST_ASSERT_EQ(*view_word(&w->owner[0], 0), VIEW_VALUE(0, 0));
	TEST_ASSERT_EQ(n->after, VIEW_VALUE(0, 0));
	TEST_ASSERT_EQ(n->done, VIEW_VALUE(1, 0));
	TEST_ASSERT_EQ(view_get(&w->cpu[0]), 2);
}

/* A nested guest has no views, does not see its hypervisor's, and leaves them alone. */
TEST_F(views, nested)
{
	const char *lacks = nested_lacks(NESTED_SHADOW);

	if (lacks)
		SKIP(return, "%s", lacks);
	nested_check(&self->w, NESTED_SHADOW);
}

TEST_F(views, nested_ept)
{
	const char *lacks = nested_lacks(NESTED_EPT);

	if (lacks)
		SKIP(return, "%s", lacks);
	nested_check(&self->w, NESTED_EPT);
}

TEST_F(views, nested_vmfunc)
{
	const char *lacks = nested_lacks(NESTED_VMFUNC);

	if (lacks)
		SKIP(return, "%s", lacks);
	nested_check(&self->w, NESTED_VMFUNC);
}

/* KVM flushes the current context for these, which has to be that of the view, too. */
TEST_F(views, apic_mode)
{
	struct view_cpu *cpu = &self->w.cpu[0];
	unsigned int v;

	for (v = 1; v <= 2; v++)
		view_link(&self->w, v, v - 1, 0, 1, 0);
	for (v = 1; v <= 2; v++) {
		cpu->cmd->view = v;
		cpu->cmd->gva = VIEW_GPA(v);
		cpu->cmd->val = VIEW_VALUE(v - 1, 0);
		view_do(cpu, VIEW_APIC);
		EXPECT_EQ(0, cpu->cmd->bad);
	}
	EXPECT_EQ(0, cpu->mmio);
}
