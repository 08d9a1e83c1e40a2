// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_doorbell_test: a guest within a guest.  Its writes are its own VMM's to serve,
 * if that wants them; only what that lets through is a write of the VM.
 */
#include "doorbell.h"
#include "svm_util.h"
#include "vmx.h"

#define NESTED_STACK	64

/* What L1 is told, and what it tells: whether L2's write came to it. */
struct nested {
	uint64_t intercept;
	uint64_t bitmap;	/* gpa of three pages of ones, for SVM */
	uint64_t came;
};

static struct nested nested;

static void nested_ring(void)
{
	asm volatile("out %%eax, %%dx" : : "a"(0), "d"(BELL_PORT));
}

static void nested_l2(void)
{
	nested_ring();
	vmcall();
}

static void nested_l1_svm(struct svm_test_data *svm)
{
	unsigned long stack[NESTED_STACK];
	struct vmcb *vmcb = svm->vmcb;

	generic_svm_setup(svm, nested_l2, &stack[NESTED_STACK]);
	if (nested.intercept)
		vmcb->control.intercept |= 1ull << INTERCEPT_IOIO_PROT;
	vmcb->control.iopm_base_pa = nested.bitmap;
	run_guest(vmcb, svm->vmcb_gpa);
	nested.came = vmcb->control.exit_code == SVM_EXIT_IOIO;
	if (nested.came) {
		vmcb->save.rip = vmcb->control.exit_info_2;
		run_guest(vmcb, svm->vmcb_gpa);
	}
	GUEST_ASSERT_EQ(vmcb->control.exit_code, SVM_EXIT_VMMCALL);
}

static void nested_l1_vmx(struct vmx_pages *vmx)
{
	unsigned long stack[NESTED_STACK];
	uint64_t controls;

	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_vmcs(vmx));
	prepare_vmcs(vmx, nested_l2, &stack[NESTED_STACK]);
	controls = vmreadz(CPU_BASED_VM_EXEC_CONTROL) & ~CPU_BASED_UNCOND_IO_EXITING;
	if (nested.intercept)
		controls |= CPU_BASED_UNCOND_IO_EXITING;
	GUEST_ASSERT(!vmwrite(CPU_BASED_VM_EXEC_CONTROL, controls));
	GUEST_ASSERT(!vmlaunch());
	nested.came = vmreadz(VM_EXIT_REASON) == EXIT_REASON_IO_INSTRUCTION;
	if (nested.came) {
		vmwrite(GUEST_RIP, vmreadz(GUEST_RIP) + vmreadz(VM_EXIT_INSTRUCTION_LEN));
		GUEST_ASSERT(!vmresume());
	}
	GUEST_ASSERT_EQ(vmreadz(VM_EXIT_REASON), EXIT_REASON_VMCALL);
}

static void nested_l1(void *pages)
{
	/* From now on KVM looks for doorbells with interrupts off. */
	nested_ring();
	GUEST_SYNC(0);
	if (this_cpu_has(X86_FEATURE_SVM))
		nested_l1_svm(pages);
	else
		nested_l1_vmx(pages);
	GUEST_DONE();
}

/* Let L1 write to the doorbell once, then L2; returns whether that came to L1. */
static bool nested_run(struct bell_vm *listener, int fd, bool intercept)
{
	struct kvm_vcpu *vcpu;
	struct nested *state;
	struct kvm_vm *vm;
	vm_vaddr_t pages, bitmap;
	struct ucall uc;
	bool came;

	vm = vm_create_with_one_vcpu(&vcpu, nested_l1);
	if (kvm_cpu_has(X86_FEATURE_SVM))
		vcpu_alloc_svm(vm, &pages);
	else
		vcpu_alloc_vmx(vm, &pages);
	vcpu_args_set(vcpu, 1, pages);
	bitmap = vm_vaddr_alloc(vm, 3 * 4096, 0x600000);
	memset(addr_gva2hva(vm, bitmap), 0xff, 3 * 4096);
	state = addr_gva2hva(vm, (uintptr_t)&nested);
	state->intercept = intercept;
	state->bitmap = addr_gva2gpa(vm, bitmap);
	TEST_ASSERT(!__vm2vm_doorbell(vm, BELL_PORT, 4, 0, fd, KVM_VM2VM_DOORBELL_PIO),
		    "KVM_VM2VM_DOORBELL");

	vcpu_run(vcpu);
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "L1 rings: exit reason %u",
		    vcpu->run->exit_reason);
	bell_take(listener);
	vcpu_run(vcpu);
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_DONE, "the guest ended otherwise: exit reason %u",
		    vcpu->run->exit_reason);
	came = state->came;
	bell_take(listener);
	kvm_vm_free(vm);
	return came;
}

TEST_F(bell, nested)
{
	struct bell_vm *b = &self->b;

	if (!kvm_cpu_has(X86_FEATURE_SVM) && !kvm_cpu_has(X86_FEATURE_VMX))
		SKIP(return, "no nested guests here");
	bell_irqfd(b, self->fd, BELL_GSI);

	EXPECT_TRUE(nested_run(b, self->fd, true));
	EXPECT_EQ(1, b->ctl->total);

	EXPECT_FALSE(nested_run(b, self->fd, false));
	EXPECT_EQ(3, b->ctl->total);
}
