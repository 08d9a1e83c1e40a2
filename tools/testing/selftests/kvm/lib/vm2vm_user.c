// SPDX-License-Identifier: GPL-2.0
/*
 * A guest of ring 3: what include/vm2vm_user.h declares.
 */
#include "kvm_util.h"
#include "processor.h"
#include "vm2vm_user.h"

#define USER_CS		0x28
#define USER_DS		0x30

/* All that the guest has mapped is for ring 3, too. */
static void user_pages(struct kvm_vm *vm, uint64_t table, int level)
{
	uint64_t *pte = addr_gpa2hva(vm, table);
	unsigned int i;

	for (i = 0; i < 512; i++) {
		if (!(pte[i] & PTE_PRESENT_MASK))
			continue;
		pte[i] |= PTE_USER_MASK;
		if (level > PG_LEVEL_4K && !(pte[i] & PTE_LARGE_MASK))
			user_pages(vm, PTE_GET_PA(pte[i]), level - 1);
	}
}

static void user_segment(struct kvm_vm *vm, struct kvm_segment *seg, unsigned int selector,
			 const struct kvm_segment *like)
{
	struct desc64 *gdt = addr_gva2hva(vm, vm->arch.gdt);

	/* The descriptor is an entry of 8 bytes, the rest of the struct is the next's. */
	memcpy((void *)gdt + selector, (void *)gdt + like->selector, 8);
	((struct desc64 *)((void *)gdt + selector))->dpl = 3;
	*seg = *like;
	seg->selector = selector | 3;
	seg->dpl = 3;
}

void guest_user_mode(struct kvm_vm *vm, struct kvm_vcpu *vcpu)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	/* Where exceptions go. */
	*(uint64_t *)(addr_gva2hva(vm, vm->arch.tss) + 4) = vm_vaddr_alloc_page(vm) + 4096;
	user_pages(vm, vm->pgd, PG_LEVEL_512G);
	vcpu_sregs_get(vcpu, &sregs);
	user_segment(vm, &sregs.ds, USER_DS, &sregs.ds);
	sregs.ss = sregs.ds;
	sregs.es = sregs.ds;
	user_segment(vm, &sregs.cs, USER_CS, &sregs.cs);
	vcpu_sregs_set(vcpu, &sregs);
	vcpu_regs_get(vcpu, &regs);
	regs.rflags |= 3 << 12;
	vcpu_regs_set(vcpu, &regs);
}
