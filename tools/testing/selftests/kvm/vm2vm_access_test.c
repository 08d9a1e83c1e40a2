// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm: KVM's own accesses to a window for the guest, in instruction emulation
 * above all; and what else KVM does with windows beside faults of the guest:
 * prefaulting, ageing, statistics, tracepoints.
 *
 * VM2VM_TRIALS in the environment is the number of trials of what is repeated,
 * 1000 by default.
 */
#include <asm/kvm_para.h>
#include <asm/pvclock-abi.h>
#include <pthread.h>
#include <time.h>

#include "vm2vm_harness.h"
#include "vm2vm/access/access.h"
#include "vm2vm/access/fixture.h"

/* Strings of bytes and words, over one and over many pages, at odd addresses. */
static const struct string {
	enum access_op op;
	unsigned int size;
	unsigned int count;
	unsigned int offset;	/* in the window */
} strings[] = {
	{ ACCESS_MOVSB, 1, 7, 4096 + 5 },
	{ ACCESS_MOVSB, 1, 40, 2 * 4096 - 13 },
	{ ACCESS_MOVSQ, 8, 10, 3 * 4096 - 40 },
	{ ACCESS_MOVSQ, 8, 10, 3 * 4096 - 43 },
	{ ACCESS_MOVSQ, 8, 600, 4 * 4096 + 4001 },
	{ ACCESS_MOVSQ_ONE, 8, 1, 7 * 4096 - 3 },
};

TEST_F(access, from_device)
{
	struct access *a = &self->a;
	const struct string *s;
	unsigned int i;

	share(&a->p, VM2VM_RW, 0);
	for (i = 0; i < ARRAY_SIZE(strings); i++) {
		s = &strings[i];
		access_do(a, s->op, PEER_WINDOW + s->offset, DEV_GPA + i, s->count, 0);
		memcpy(self->model + s->offset, a->dev + i, s->count * s->size);
		EXPECT_TRUE(memory_is(&a->p, self->model));
	}
	EXPECT_EQ(0, a->holes);
	EXPECT_NE(0, a->dev_exits);
}

TEST_F(access, to_device)
{
	struct access *a = &self->a;
	uint8_t want[DEV_SIZE];
	const struct string *s;
	unsigned int i;

	share(&a->p, VM2VM_RW, 0);
	memcpy(want, a->dev, DEV_SIZE);
	for (i = 0; i < ARRAY_SIZE(strings); i++) {
		s = &strings[i];
		access_do(a, s->op, DEV_GPA + i, PEER_WINDOW + s->offset, s->count, 0);
		memcpy(want + i, self->model + s->offset, s->count * s->size);
		EXPECT_TRUE(!memcmp(a->dev, want, DEV_SIZE));
	}
	EXPECT_TRUE(memory_is(&a->p, self->model));
	EXPECT_EQ(0, a->holes);
}

/* Each access is looked up anew: it is there when approved, and gone when not. */
TEST_F(access, unapproved)
{
	struct access *a = &self->a;
	struct peer *p = &a->p;
	unsigned int i;

	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, p->size, 0);
	peer_map_window(p, PEER_WINDOW, p->size);
	for (i = 1; i < 4; i++) {
		EXPECT_EQ(HOLE, access_read(a, 4096));
		access_write(a, 4096 + 8, OTHER);
		EXPECT_EQ(16 * i, a->holes);
		EXPECT_EQ(PEER_WINDOW + 4096 + 8, a->last);
		EXPECT_TRUE(memory_is(p, self->model));

		approve(p, VM2VM_RW);
		EXPECT_EQ(*(uint64_t *)(self->model + 4096), access_read(a, 4096));
		access_write(a, 4096 + 8, VALUE + i);
		*(uint64_t *)(self->model + 4096 + 8) = VALUE + i;
		EXPECT_TRUE(memory_is(p, self->model));
		EXPECT_EQ(16 * i, a->holes);
		vm2vm_unmap(p->domain, PEER_IOVA, p->size);
	}
	vm2vm_unlink(p->backend, PEER_SLOT);
	EXPECT_EQ(HOLE, access_read(a, 4096));
}

/* What may be read only is not written, and a part of an access is a part. */
static void expect_readonly(struct __test_metadata *_metadata, struct access *a,
			    const uint8_t *model)
{
	EXPECT_EQ(*(uint64_t *)model, access_read(a, 0));
	access_write(a, 0, OTHER);
	EXPECT_EQ(8, a->holes);
	EXPECT_EQ(PEER_WINDOW, a->last);
	access_do(a, ACCESS_MOVSB, PEER_WINDOW + 4090, DEV_GPA, 12, 0);
	EXPECT_EQ(20, a->holes);
	EXPECT_TRUE(memory_is(&a->p, model));
	EXPECT_EQ(*(uint64_t *)model, access_read(a, 0));
	EXPECT_EQ(20, a->holes);
}

TEST_F(access, readonly_mapping)
{
	share(&self->a.p, KVM_VM2VM_MAP_READ, 0);
	expect_readonly(_metadata, &self->a, self->model);
}

TEST_F(access, readonly_link)
{
	share(&self->a.p, VM2VM_RW, KVM_VM2VM_LINK_READONLY);
	expect_readonly(_metadata, &self->a, self->model);
}

TEST_F(access, readonly_memslot)
{
	struct peer *p = &self->a.p;

	/* The approval is older than the memslot. */
	share(p, VM2VM_RW, 0);
	vm_set_user_memory_region(p->owner, 0, 0, PEER_OWNER_GPA, 0, p->mem);
	peer_set_memory(p, p->mem, p->size, KVM_MEM_READONLY);
	expect_readonly(_metadata, &self->a, self->model);
}

TEST_F(access, half_a_hole)
{
	struct access *a = &self->a;
	struct peer *p = &a->p;

	share(p, VM2VM_RW, 0);
	vm2vm_unmap(p->domain, PEER_IOVA + 4096, 4096);

	/* Five bytes of a page, and three of a hole behind it; and the reverse. */
	EXPECT_EQ((*(uint64_t *)(self->model + 4091) & 0xffffffffff) | 0xffffffull << 40,
		  access_read(a, 4091));
	EXPECT_EQ(3, a->holes);
	EXPECT_EQ(PEER_WINDOW + 4096, a->last);
	EXPECT_EQ((*(uint64_t *)(self->model + 8187) & -0x10000000000ull) | 0xffffffffff,
		  access_read(a, 8187));
	EXPECT_EQ(8, a->holes);
	EXPECT_EQ(PEER_WINDOW + 8187, a->last);

	access_write(a, 4091, OTHER);
	memcpy(self->model + 4091, a->dev, 5);
	EXPECT_EQ(11, a->holes);
	access_write(a, 8187, OTHER);
	memcpy(self->model + 8192, a->dev + 5, 3);
	EXPECT_EQ(16, a->holes);
	EXPECT_TRUE(memory_is(p, self->model));
}

/* A link may send unapproved accesses to the VMM, or to the owner: not KVM's own. */
TEST_F(access, other_answers)
{
	struct access *a = &self->a;
	struct peer *p = &a->p;

	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, p->size,
		   KVM_VM2VM_LINK_EXIT);
	peer_map_window(p, PEER_WINDOW, p->size);
	access_write(a, 0, OTHER);
	EXPECT_EQ(8, a->holes);
	EXPECT_TRUE(memory_is(p, self->model));
}

/* An instruction in a window is not for the emulator, not even a part of one. */
TEST_F(access, no_fetch)
{
	const uint8_t load[10] = { 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8 };
	const uint64_t gva = 0x40000000;
	struct access *a = &self->a;
	struct peer *p = &a->p;
	struct kvm_regs regs;
	uint8_t *own;
	vm_paddr_t gpa;

	/* mov $..., %rax: four bytes in the guest's memory, the rest in the window. */
	share(p, VM2VM_RW, 0);
	gpa = vm_phy_page_alloc(p->backend, 0x10000, 0);
	own = addr_gpa2hva(p->backend, gpa);
	virt_map(p->backend, gva, gpa, 1);
	virt_map(p->backend, gva + 4096, PEER_WINDOW, 1);
	memset(p->mem, 0xc3, p->size);	/* ret */
	memcpy(own + 4092, load, 4);
	memcpy(p->mem + owner_offset(0), load + 4, 6);

	EXPECT_EQ(KVM_EXIT_INTERNAL_ERROR, __access_do(a, ACCESS_RUN, gva + 4092, 0, 0, 0));
	EXPECT_EQ(KVM_INTERNAL_ERROR_EMULATION, p->vcpu->run->internal.suberror);
	vcpu_regs_get(p->vcpu, &regs);
	EXPECT_EQ(gva + 4092, regs.rip);
	EXPECT_NE(0x0807060504030201, regs.rax);
	EXPECT_EQ(0, a->holes);
}

/*
 * KVM's clocks.  The wall clock is written when the guest asks for it, as by the guest
 * itself; what KVM goes on writing finds no memory in a window.
 */
#define CLOCK	4096ul		/* where in the window */

static void ask(struct peer *p)
{
	vcpu_set_msr(p->vcpu, MSR_KVM_WALL_CLOCK, PEER_WINDOW + CLOCK);
}

TEST_F(access, wall_clock)
{
	struct access *a = &self->a;
	struct peer *p = &a->p;
	struct pvclock_wall_clock *wc = (void *)word_at(p, CLOCK);
	time_t now;

	memset(self->model + CLOCK, 0, sizeof(*wc));
	memset(wc, 0, sizeof(*wc));
	share(p, KVM_VM2VM_MAP_READ, 0);
	ask(p);
	EXPECT_TRUE(memory_is(p, self->model));

	vm2vm_unmap(p->domain, PEER_IOVA, p->size);
	ask(p);
	EXPECT_TRUE(memory_is(p, self->model));

	approve(p, VM2VM_RW);
	ask(p);
	now = time(NULL);
	EXPECT_NE(0, wc->version);
	EXPECT_EQ(0, wc->version & 1);
	EXPECT_LE(wc->sec, now);
	EXPECT_EQ(0, a->holes);
}

TEST_F(access, system_time)
{
	struct access *a = &self->a;
	struct peer *p = &a->p;

	share(p, VM2VM_RW, 0);
	vcpu_set_msr(p->vcpu, MSR_KVM_SYSTEM_TIME, (PEER_WINDOW + CLOCK) | KVM_MSR_ENABLED);
	/* It is when the guest is entered that KVM would write it. */
	EXPECT_EQ(*(uint64_t *)self->model, access_read(a, 0));
	EXPECT_TRUE(memory_is(p, self->model));
}

TEST_F(forced, load_store)
{
	struct access *a = &self->a;
	struct peer *p = &a->p;
	unsigned int i;

	for (i = 0; i < PAGES; i++) {
		*word_at(p, i * 4096) = VALUE + i;
		access_do(a, ACCESS_LOAD, 0, PEER_WINDOW + i * 4096, 0, 0);
		EXPECT_EQ(VALUE + i, a->cmd->val);
		access_do(a, ACCESS_STORE, PEER_WINDOW + i * 4096 + 8, 0, 0, OTHER + i);
		EXPECT_EQ(OTHER + i, *word_at(p, i * 4096 + 8));
	}
	access_do(a, ACCESS_STORE, PEER_WINDOW + 4093, 0, 0, OTHER);
	access_do(a, ACCESS_LOAD, 0, PEER_WINDOW + 4093, 0, 0);
	EXPECT_EQ(OTHER, a->cmd->val);
	EXPECT_EQ(OTHER >> 24, *word_at(p, 4096) & 0xffffffffff);
	EXPECT_EQ(0, a->holes);
}

/* Locked instructions on the word at @gva, which is @word to the test. */
static void try_locked(struct __test_metadata *_metadata, struct access *a, uint64_t gva,
		       uint64_t *word)
{
	*word = VALUE;
	access_do(a, ACCESS_XCHG, gva, 0, 0, OTHER);
	EXPECT_EQ(VALUE, a->cmd->val);
	EXPECT_EQ(OTHER, *word);

	a->cmd->old = VALUE;
	access_do(a, ACCESS_CMPXCHG, gva, 0, 0, 5);
	EXPECT_EQ(0, a->cmd->equal);
	EXPECT_EQ(OTHER, a->cmd->old);
	EXPECT_EQ(OTHER, *word);
	access_do(a, ACCESS_CMPXCHG, gva, 0, 0, 5);
	EXPECT_EQ(1, a->cmd->equal);
	EXPECT_EQ(5, *word);

	access_do(a, ACCESS_INC, gva, 0, 0, 0);
	EXPECT_EQ(6, *word);
	EXPECT_EQ(0, a->holes);
}

TEST_F(forced, locked)
{
	struct access *a = &self->a;

	try_locked(_metadata, a, PEER_WINDOW, word_at(&a->p, 0));
}

/* The same instructions are for the guest's own memory as before, if it has a window or not. */
TEST_F(forced, locked_own)
{
	const uint64_t gva = 0x40000000;
	struct access *a = &self->a;
	struct kvm_vm *vm = a->p.backend;
	vm_paddr_t gpa = vm_phy_page_alloc(vm, 0x10000, 0);

	virt_map(vm, gva, gpa, 1);
	try_locked(_metadata, a, gva, addr_gpa2hva(vm, gpa));
}

struct adder {
	uint64_t *word;
	uint64_t count;
	int stop;
};

static void *add_to(void *arg)
{
	struct adder *adder = arg;

	while (!READ_ONCE(adder->stop)) {
		__atomic_fetch_add(adder->word, 1ull << 32, __ATOMIC_SEQ_CST);
		WRITE_ONCE(adder->count, adder->count + 1);
	}
	return NULL;
}

/* What is atomic stays so when it is emulated: the owner adds to the same word. */
TEST_F_TIMEOUT(forced, atomic, 300)
{
	struct access *a = &self->a;
	struct adder adder = { .word = word_at(&a->p, 0) };
	uint64_t n = vm2vm_trials(1000) * 10;
	pthread_t thread;

	*adder.word = 0;
	pthread_create(&thread, NULL, add_to, &adder);
	while (!READ_ONCE(adder.count))
		usleep(1000);
	access_do(a, ACCESS_INC_LOOP, PEER_WINDOW, 0, n, 0);
	WRITE_ONCE(adder.stop, 1);
	pthread_join(thread, NULL);
	EXPECT_EQ(n, *adder.word & 0xffffffff);
	EXPECT_EQ((uint32_t)adder.count, *adder.word >> 32);
}

TEST_F(forced, stack)
{
	struct access *a = &self->a;
	struct peer *p = &a->p;

	access_do(a, ACCESS_PUSH, PEER_WINDOW + 4096 + 8, 0, 0, VALUE);
	EXPECT_EQ(PEER_WINDOW + 4096, a->cmd->sp);
	EXPECT_EQ(VALUE, *word_at(p, 4096));
	access_do(a, ACCESS_POP, 0, PEER_WINDOW + 4096, 0, 0);
	EXPECT_EQ(PEER_WINDOW + 4096 + 8, a->cmd->sp);
	EXPECT_EQ(VALUE, a->cmd->val);
	EXPECT_EQ(0, a->holes);
}

TEST_F(forced, strings)
{
	struct access *a = &self->a;
	struct peer *p = &a->p;
	unsigned int i;

	access_do(a, ACCESS_STOS, PEER_WINDOW + 4096 - 64, 0, 20, VALUE);
	for (i = 0; i < 20; i++)
		EXPECT_EQ(VALUE, *word_at(p, 4096 - 64 + i * 8));
	EXPECT_EQ(0, *word_at(p, 4096 - 72));
	EXPECT_EQ(0, *word_at(p, 4096 + 96));

	access_do(a, ACCESS_MOVS, PEER_WINDOW + 3 * 4096 - 32, PEER_WINDOW + 4096 - 72, 20, 0);
	EXPECT_EQ(0, *word_at(p, 3 * 4096 - 32));
	for (i = 1; i < 20; i++)
		EXPECT_EQ(VALUE, *word_at(p, 3 * 4096 - 32 + i * 8));

	access_do(a, ACCESS_CMPS, PEER_WINDOW + 4096, PEER_WINDOW + 3 * 4096, 0, 0);
	EXPECT_EQ(1, a->cmd->equal);
	*word_at(p, 4096) = OTHER;
	access_do(a, ACCESS_CMPS, PEER_WINDOW + 4096, PEER_WINDOW + 3 * 4096, 0, 0);
	EXPECT_EQ(0, a->cmd->equal);
	EXPECT_EQ(0, a->holes);
}

/* A read-modify-write of what may only be read: it reads, and writes nothing. */
TEST_F(forced, readonly)
{
	struct access *a = &self->a;
	struct peer *p = &a->p;
	uint64_t *word = word_at(p, 0);

	vm2vm_unmap(p->domain, PEER_IOVA, p->size);
	approve(p, KVM_VM2VM_MAP_READ);
	*word = VALUE;
	access_do(a, ACCESS_STORE, PEER_WINDOW, 0, 0, OTHER);
	EXPECT_EQ(8, a->holes);
	access_do(a, ACCESS_XCHG, PEER_WINDOW, 0, 0, OTHER);
	EXPECT_EQ(VALUE, a->cmd->val);
	EXPECT_EQ(16, a->holes);
	access_do(a, ACCESS_INC, PEER_WINDOW, 0, 0, 0);
	EXPECT_EQ(24, a->holes);
	access_do(a, ACCESS_PUSH, PEER_WINDOW + 8, 0, 0, OTHER);
	EXPECT_EQ(32, a->holes);
	EXPECT_EQ(VALUE, *word);
}

TEST_HARNESS_MAIN
