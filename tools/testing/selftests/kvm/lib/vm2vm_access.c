// SPDX-License-Identifier: GPL-2.0
/*
 * What include/vm2vm_access.h declares: the instructions that KVM emulates.
 */
#include "vm2vm_access.h"

struct access_cmd access_cmd;

static void guest_device(struct access_cmd *c)
{
	uint64_t src = c->src, dst = c->dst, count = c->count;

	if (c->op == ACCESS_MOVSB)
		asm volatile("rep movsb" : "+S"(src), "+D"(dst), "+c"(count) : : "memory");
	else if (c->op == ACCESS_MOVSQ)
		asm volatile("rep movsq" : "+S"(src), "+D"(dst), "+c"(count) : : "memory");
	else if (c->op == ACCESS_MOVSQ_ONE)
		asm volatile("movsq" : "+S"(src), "+D"(dst) : : "memory");
	else
		asm volatile("outsl" : "+S"(src) : "d"(DEV_PORT) : "memory");
}

static void guest_stack(struct access_cmd *c)
{
	uint64_t sp;

	if (c->op == ACCESS_PUSH)
		asm volatile("mov %%rsp, %%rbx\n\t"
			     "mov %[dst], %%rsp\n\t"
			     KVM_FEP "push %[val]\n\t"
			     "mov %%rsp, %[sp]\n\t"
			     "mov %%rbx, %%rsp"
			     : [sp] "=&a"(sp) : [dst] "d"(c->dst), [val] "c"(c->val)
			     : "rbx", "memory");
	else
		asm volatile("mov %%rsp, %%rbx\n\t"
			     "mov %[src], %%rsp\n\t"
			     KVM_FEP "pop %[val]\n\t"
			     "mov %%rsp, %[sp]\n\t"
			     "mov %%rbx, %%rsp"
			     : [sp] "=&a"(sp), [val] "=&c"(c->val) : [src] "d"(c->src)
			     : "rbx", "memory");
	c->sp = sp;
}

static void guest_string(struct access_cmd *c)
{
	uint64_t src = c->src, dst = c->dst, count = c->count;
	uint8_t equal = 0;

	if (c->op == ACCESS_CMPS)
		asm volatile(KVM_FEP "cmpsq\n\tsete %[equal]"
			     : [equal] "=r"(equal), "+S"(src), "+D"(dst) : : "memory", "cc");
	else if (c->op == ACCESS_MOVS)
		asm volatile(KVM_FEP "rep movsq"
			     : "+S"(src), "+D"(dst), "+c"(count) : : "memory");
	else
		asm volatile(KVM_FEP "rep stosq"
			     : "+D"(dst), "+c"(count) : "a"(c->val) : "memory");
	c->equal = equal;
}

static void guest_locked(struct access_cmd *c)
{
	uint64_t i;

	switch (c->op) {
	case ACCESS_XCHG:
		asm volatile(KVM_FEP "xchgq %[val], (%[dst])"
			     : [val] "+r"(c->val) : [dst] "r"(c->dst) : "memory");
		break;
	case ACCESS_CMPXCHG:
		asm volatile(KVM_FEP "lock cmpxchgq %[val], (%[dst])\n\tsete %b[equal]"
			     : [equal] "=q"(c->equal), "+a"(c->old)
			     : [val] "r"(c->val), [dst] "r"(c->dst) : "memory", "cc");
		c->equal &= 1;
		break;
	case ACCESS_INC:
		asm volatile(KVM_FEP "lock incq (%[dst])" : : [dst] "r"(c->dst) : "memory", "cc");
		break;
	case ACCESS_INC_LOOP:
		for (i = 0; i < c->count; i++)
			asm volatile(KVM_FEP "lock incq (%[dst])"
				     : : [dst] "r"(c->dst) : "memory", "cc");
		break;
	}
}

void guest_do(struct access_cmd *c)
{
	switch (c->op) {
	case ACCESS_MOVSB:
	case ACCESS_MOVSQ:
	case ACCESS_MOVSQ_ONE:
	case ACCESS_OUTS:
		guest_device(c);
		break;
	case ACCESS_LOAD:
		asm volatile(KVM_FEP "movq (%[src]), %[val]"
			     : [val] "=r"(c->val) : [src] "r"(c->src) : "memory");
		break;
	case ACCESS_STORE:
		asm volatile(KVM_FEP "movq %[val], (%[dst])"
			     : : [val] "r"(c->val), [dst] "r"(c->dst) : "memory");
		break;
	case ACCESS_PUSH:
	case ACCESS_POP:
		guest_stack(c);
		break;
	case ACCESS_CMPS:
	case ACCESS_MOVS:
	case ACCESS_STOS:
		guest_string(c);
		break;
	case ACCESS_RUN:
		((void (*)(void))c->dst)();
		break;
	default:
		guest_locked(c);
		break;
	}
}
