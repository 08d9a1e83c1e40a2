/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A backend whose guest has KVM do its accesses to the window: by string moves between
 * the window and a device, which KVM always emulates, and by whatever has the prefix
 * that forces emulation (kvm.force_emulation_prefix).
 */
#ifndef SELFTEST_KVM_VM2VM_ACCESS_H
#define SELFTEST_KVM_VM2VM_ACCESS_H

#include "processor.h"

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

/* The guest's own; the host finds it by addr_gva2hva(). */
extern struct access_cmd access_cmd;

/* What the guest runs: it does what @c says. */
void guest_do(struct access_cmd *c);

static inline void access_set_cmd(struct access_cmd *c, enum access_op op, uint64_t dst,
				  uint64_t src, uint64_t count, uint64_t val)
{
	c->op = op;
	c->dst = dst;
	c->src = src;
	c->count = count;
	c->val = val;
}

#endif /* SELFTEST_KVM_VM2VM_ACCESS_H */
