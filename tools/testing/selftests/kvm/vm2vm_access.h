/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_access_test: a backend whose guest has KVM do its accesses to the window:
 * by string moves between the window and a device, which KVM always emulates, and
 * by whatever has the prefix that forces emulation (kvm.force_emulation_prefix).
 */
#ifndef SELFTEST_KVM_VM2VM_ACCESS_H
#define SELFTEST_KVM_VM2VM_ACCESS_H

#include "vm2vm_peer.h"

/* The device: gpa and gva of some MMIO, where no memslot is, and a port. */
#define DEV_GPA		0xd0000000ul
#define DEV_SIZE	0x4000
#define DEV_PORT	0x80

enum access_op {
	/* Emulated because one side is a device. */
	ACCESS_MOVSB, ACCESS_MOVSQ, ACCESS_MOVSQ_ONE, ACCESS_OUTS,
	/* Emulated by force. */
	ACCESS_LOAD, ACCESS_STORE, ACCESS_XCHG, ACCESS_CMPXCHG, ACCESS_INC, ACCESS_PUSH,
	ACCESS_POP, ACCESS_CMPS, ACCESS_MOVS, ACCESS_STOS, ACCESS_RUN, ACCESS_INC_LOOP,
};

/* What the guest is to do, and what came of it; in its memory. */
struct access_cmd {
	uint64_t op;
	uint64_t src;
	uint64_t dst;
	uint64_t count;
	uint64_t val;		/* in and out: what is stored, or was loaded */
	uint64_t old;		/* of CMPXCHG: what is compared, and what was there */
	uint64_t equal;		/* of CMPXCHG and CMPS */
	uint64_t sp;		/* of PUSH and POP: the stack pointer after it */
};

static struct access_cmd access_cmd;

static inline void guest_device(struct access_cmd *c)
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

static inline void guest_stack(struct access_cmd *c)
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

static inline void guest_string(struct access_cmd *c)
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

static inline void guest_locked(struct access_cmd *c)
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

static inline void guest_do(struct access_cmd *c)
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

static inline void access_guest(void)
{
	peer_guest_interruptible();
	for (;;) {
		guest_do(&access_cmd);
		GUEST_SYNC(0);
	}
}

/**
 * struct access - an owner and a backend, with a device
 * @p: the pair
 * @cmd: the guest's command
 * @dev: what is in the device
 * @port: what its port got last
 * @dev_exits: number of accesses to it
 * @holes: number of bytes that were accessed in holes of the window
 * @last: where the last of these was
 */
struct access {
	struct peer p;
	struct access_cmd *cmd;
	uint8_t dev[DEV_SIZE];
	uint32_t port;
	unsigned int dev_exits;
	unsigned int holes;
	uint64_t last;
};

static inline void access_init(struct access *a, size_t size, void *guest)
{
	memset(a, 0, sizeof(*a));
	peer_init(&a->p, size);
	vcpu_arch_set_entry_point(a->p.vcpu, guest);
	virt_map(a->p.backend, DEV_GPA, DEV_GPA, DEV_SIZE / 4096);
	a->cmd = addr_gva2hva(a->p.backend, (uintptr_t)&access_cmd);
}

static inline void access_mmio(struct access *a)
{
	struct kvm_run *run = a->p.vcpu->run;
	uint64_t offset = run->mmio.phys_addr - DEV_GPA;

	if (offset < DEV_SIZE) {
		a->dev_exits++;
		if (run->mmio.is_write)
			memcpy(a->dev + offset, run->mmio.data, run->mmio.len);
		else
			memcpy(run->mmio.data, a->dev + offset, run->mmio.len);
		return;
	}
	a->holes += run->mmio.len;
	a->last = run->mmio.phys_addr;
	if (!run->mmio.is_write)
		memset(run->mmio.data, 0xff, run->mmio.len);
}

/* Run the guest until it has done its command; returns 0 or the exit's reason. */
static inline int access_run(struct access *a)
{
	struct kvm_run *run = a->p.vcpu->run;

	for (;;) {
		vcpu_run(a->p.vcpu);
		if (run->exit_reason == KVM_EXIT_MMIO)
			access_mmio(a);
		else if (run->exit_reason == KVM_EXIT_IO && run->io.port == DEV_PORT)
			memcpy(&a->port, (void *)run + run->io.data_offset, sizeof(a->port));
		else
			break;
	}
	return get_ucall(a->p.vcpu, NULL) == UCALL_SYNC ? 0 : run->exit_reason;
}

static inline int __access_do(struct access *a, enum access_op op, uint64_t dst, uint64_t src,
			      uint64_t count, uint64_t val)
{
	a->cmd->op = op;
	a->cmd->dst = dst;
	a->cmd->src = src;
	a->cmd->count = count;
	a->cmd->val = val;
	return access_run(a);
}

static inline void access_do(struct access *a, enum access_op op, uint64_t dst, uint64_t src,
			     uint64_t count, uint64_t val)
{
	int r = __access_do(a, op, dst, src, count, val);

	TEST_ASSERT(!r, "command %u of the guest: exit reason %d", op, r);
}

/*
 * A word of the window, as KVM reads and writes it for the guest.  The guest may read
 * it by itself before.
 */
static inline uint64_t access_read(struct access *a, uint64_t offset)
{
	access_do(a, ACCESS_MOVSQ_ONE, DEV_GPA, PEER_WINDOW + offset, 0, 0);
	return *(uint64_t *)a->dev;
}

static inline void access_write(struct access *a, uint64_t offset, uint64_t val)
{
	*(uint64_t *)a->dev = val;
	access_do(a, ACCESS_MOVSQ_ONE, PEER_WINDOW + offset, DEV_GPA, 0, 0);
}

/* Half a word, as KVM reads it before anybody else. */
static inline uint32_t access_out(struct access *a, uint64_t offset)
{
	access_do(a, ACCESS_OUTS, 0, PEER_WINDOW + offset, 0, 0);
	return a->port;
}

#endif /* SELFTEST_KVM_VM2VM_ACCESS_H */
