// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_fill_test: any instruction completes at a hole, also those that KVM cannot
 * emulate, in ring 0 and in ring 3.
 */
#include "vm2vm_harness.h"
#include "fill.h"
#include "vm2vm_user.h"

#define INSN_BYTES	4096
#define INSN_AVX2	KVM_X86_CPU_FEATURE(0x7, 0, EBX, 5)

/* What the guest has of its own. */
static struct insn {
	uint8_t mem[INSN_BYTES] __aligned(64);
	uint64_t step;		/* what it does now */
	uint64_t bad;		/* the first that gave something wrong, plus 1 */
	uint64_t done;		/* how many it did */
} insn;

static bool insn_all(uint8_t byte, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		if (insn.mem[i] != byte)
			return false;
	}
	return true;
}

static bool insn_sse_load(uint8_t *p)
{
	asm volatile("pxor %%xmm0, %%xmm0; paddb (%0), %%xmm0; movdqa %%xmm0, (%1)"
		     :: "r"(p), "r"(insn.mem) : "xmm0", "memory");
	return insn_all(0xff, 16);
}

static bool insn_sse_stream(uint8_t *p)
{
	asm volatile("movntdqa (%0), %%xmm0; movdqa %%xmm0, (%1)"
		     :: "r"(p), "r"(insn.mem) : "xmm0", "memory");
	return insn_all(0xff, 16);
}

static bool insn_sse_store(uint8_t *p)
{
	asm volatile("pxor %%xmm0, %%xmm0; movlps %%xmm0, (%0); movhps %%xmm0, 8(%0)"
		     :: "r"(p) : "xmm0", "memory");
	return true;
}

static bool insn_sse_masked(uint8_t *p)
{
	asm volatile("pcmpeqb %%xmm0, %%xmm0; maskmovdqu %%xmm0, %%xmm0"
		     :: "D"(p) : "xmm0", "memory");
	return true;
}

/* Across two pages, neither of which was touched before. */
static bool insn_sse_across(uint8_t *p)
{
	asm volatile("movdqu (%0), %%xmm0; movdqa %%xmm0, (%1)"
		     :: "r"(p + 4096 - 8), "r"(insn.mem) : "xmm0", "memory");
	return insn_all(0xff, 16);
}

static bool insn_crc32(uint8_t *p)
{
	uint64_t hole = 0, own = 0;

	memset(insn.mem, 0xff, 8);
	asm volatile("crc32q (%1), %0" : "+r"(hole) : "r"(p) : "memory");
	asm volatile("crc32q (%1), %0" : "+r"(own) : "r"(insn.mem) : "memory");
	return hole == own;
}

static bool insn_popcnt(uint8_t *p)
{
	uint64_t n;

	asm volatile("popcnt (%1), %0" : "=r"(n) : "r"(p) : "memory");
	return n == 64;
}

static bool insn_rep_movsb_from(uint8_t *p)
{
	void *to = insn.mem;
	uint64_t n = INSN_BYTES;

	asm volatile("rep movsb" : "+D"(to), "+S"(p), "+c"(n) :: "memory");
	return !n && insn_all(0xff, INSN_BYTES);
}

static bool insn_rep_movsq_to(uint8_t *p)
{
	void *from = insn.mem;
	uint64_t n = 512;

	asm volatile("rep movsq" : "+D"(p), "+S"(from), "+c"(n) :: "memory");
	return !n;
}

static bool insn_rep_movsb_within(uint8_t *p)
{
	void *from = p + 4096;
	uint64_t n = 4096;

	asm volatile("rep movsb" : "+D"(p), "+S"(from), "+c"(n) :: "memory");
	return !n;
}

static bool insn_rep_stosq(uint8_t *p)
{
	uint64_t n = 512;

	asm volatile("rep stosq" : "+D"(p), "+c"(n) : "a"(0) : "memory");
	return !n;
}

/* One that writes reads what others have written; here it only has to complete. */
static bool insn_xadd(uint8_t *p)
{
	uint64_t val = 0;

	asm volatile("lock xaddq %0, (%1)" : "+r"(val) : "r"(p) : "memory");
	return true;
}

static bool insn_cmpxchg16b(uint8_t *p)
{
	uint64_t lo = 1, hi = 1;

	asm volatile("lock cmpxchg16b (%2)"
		     : "+a"(lo), "+d"(hi) : "r"(p), "b"(0ull), "c"(0ull) : "memory");
	return true;
}

static bool insn_x87(uint8_t *p)
{
	asm volatile("fildll (%0); fistpll (%1)" :: "r"(p), "r"(insn.mem) : "memory");
	return insn_all(0xff, 8);
}

static bool insn_fxsave(uint8_t *p)
{
	asm volatile("fxsave (%0)" :: "r"(p) : "memory");
	return true;
}

static bool insn_avx_load(uint8_t *p)
{
	if (!this_cpu_has(INSN_AVX2))
		return true;
	asm volatile("vpxor %%ymm0, %%ymm0, %%ymm0; vpaddb (%0), %%ymm0, %%ymm0;"
		     "vmovdqa %%ymm0, (%1)" :: "r"(p), "r"(insn.mem) : "xmm0", "memory");
	return insn_all(0xff, 32);
}

static bool insn_avx_store(uint8_t *p)
{
	if (!this_cpu_has(INSN_AVX2))
		return true;
	asm volatile("vpxor %%ymm0, %%ymm0, %%ymm0; vmovntdq %%ymm0, (%0)"
		     :: "r"(p) : "xmm0", "memory");
	return true;
}

static bool (* const insns[])(uint8_t *p) = {
	insn_sse_load, insn_sse_stream, insn_sse_store, insn_sse_masked, insn_sse_across,
	insn_crc32, insn_popcnt, insn_rep_movsb_from, insn_rep_movsq_to,
	insn_rep_movsb_within, insn_rep_stosq, insn_xadd, insn_cmpxchg16b, insn_x87,
	insn_fxsave, insn_avx_load, insn_avx_store,
};

/* Each at two pages of its own. */
static void insn_guest(void)
{
	uint8_t *p = (void *)PEER_WINDOW;

	peer_guest_interruptible();
	for (insn.step = 0; insn.step < ARRAY_SIZE(insns); insn.step++, p += 8192) {
		memset(insn.mem, 0, sizeof(insn.mem));
		if (!insns[insn.step](p) && !insn.bad)
			insn.bad = insn.step + 1;
		insn.done++;
	}
	GUEST_DONE();
}

FIXTURE(insn)
{
	struct peer p;
};

FIXTURE_VARIANT(insn)
{
	bool user;
};

FIXTURE_VARIANT_ADD(insn, ring0) { .user = false };
FIXTURE_VARIANT_ADD(insn, ring3) { .user = true };

FIXTURE_SETUP(insn)
{
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;

	fill_init(&self->p, 0);
	vcpu_arch_set_entry_point(self->p.vcpu, insn_guest);
	if (kvm_cpu_has(INSN_AVX2)) {
		vcpu_sregs_get(self->p.vcpu, &sregs);
		sregs.cr4 |= X86_CR4_OSXSAVE;
		vcpu_sregs_set(self->p.vcpu, &sregs);
		vcpu_xcrs_get(self->p.vcpu, &xcrs);
		xcrs.xcrs[0].value |= 7;
		vcpu_xcrs_set(self->p.vcpu, &xcrs);
	}
	if (variant->user)
		guest_user_mode(self->p.backend, self->p.vcpu);
}

FIXTURE_TEARDOWN(insn)
{
	peer_free(&self->p);
}

static void expect_insns(struct __test_metadata *_metadata, struct peer *p)
{
	struct insn *i = addr_gva2hva(p->backend, (uintptr_t)&insn);

	vcpu_run(p->vcpu);
	EXPECT_EQ(KVM_EXIT_IO, p->vcpu->run->exit_reason)
		TH_LOG("instruction %lu", i->step);
	EXPECT_EQ(UCALL_DONE, get_ucall(p->vcpu, NULL));
	EXPECT_EQ(ARRAY_SIZE(insns), i->done);
	EXPECT_EQ(0, i->bad);
}

TEST_F(insn, unmapped)
{
	struct peer *p = &self->p;

	expect_insns(_metadata, p);
	EXPECT_EQ(0, peer_vcpu_stat(p->vcpu, "vm2vm_holes"));
	EXPECT_LE(ARRAY_SIZE(insns), peer_vcpu_stat(p->vcpu, "vm2vm_fills"));
}

/* The domain, and the owner with it, is no more. */
TEST_F(insn, ended)
{
	struct peer *p = &self->p;

	fill_map(p, 0, FILL_PAGES, VM2VM_RW);
	close(p->domain);
	p->domain = -1;
	expect_insns(_metadata, p);
}

/* What is approved has no memory of the owner's. */
TEST_F(insn, no_memory)
{
	struct peer *p = &self->p;

	fill_map(p, 0, FILL_PAGES, VM2VM_RW);
	vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA, 0, p->mem);
	expect_insns(_metadata, p);
}

/* Nor does the owner's process permit any access to it. */
TEST_F(insn, no_page)
{
	struct peer *p = &self->p;

	fill_map(p, 0, FILL_PAGES, VM2VM_RW);
	ASSERT_EQ(0, mprotect(p->mem, p->size, PROT_NONE));
	expect_insns(_metadata, p);
}
