// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_dirty_test: writes that KVM does for a backend's guest.
 */
#include <asm/kvm_para.h>

#include "vm2vm_harness.h"
#include "fixture.h"
#include "owner.h"
#include "processor.h"

/* Moves from and to a device, which KVM always emulates. */
TEST_F_TIMEOUT(dirty_log, emulated_moves, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = &self->b[0];
	unsigned int i, page;

	owner_show(o, b);
	write_emulated(o, b, 1);
	memset(o->want, 0, sizeof(o->want));
	owner_log_on(o);
	for (i = 0; i < 3; i++) {
		page = 1 + 32 * i;
		write_emulated(o, b, page);
		EXPECT_HARVEST(o, "KVM's write");
		write_emulated(o, b, page);
		EXPECT_HARVEST(o, "KVM's write after a harvest");
		dirty_write(o, b, 0, page);
		EXPECT_HARVEST(o, "the guest's own write after that");
		write_emulated(o, b, page);
		EXPECT_HARVEST(o, "KVM's write after the guest's own");
		dirty_write(o, b, 0, page);
		write_emulated(o, b, page);
		EXPECT_HARVEST(o, "both");
		EXPECT_HARVEST(o, "nothing since");

		read_emulated(o, b, page + 1);
		read_emulated(o, b, page);
		EXPECT_HARVEST(o, "KVM's reads");
		dirty_read(o, b, 0, page + 2, 1);
		write_emulated(o, b, page + 2);
		EXPECT_HARVEST(o, "KVM's write after the guest's own read");

		/* Over the border between the memslots. */
		dirty_access(b, ACCESS_MOVSQ_ONE, DIRTY_WINDOW(0) + SPLIT * 4096 - 3, DEV_GPA, 0,
			     0);
		owner_want(o, SPLIT - 1, 2);
		EXPECT_HARVEST(o, "KVM's write to two pages");
		dirty_access(b, ACCESS_MOVSQ, DIRTY_WINDOW(0) + 50 * 4096 - 64, DEV_GPA, 1040, 0);
		owner_want(o, 49, 4);
		EXPECT_HARVEST(o, "KVM's writes to four pages");
		EXPECT_HARVEST(o, "nothing since these");
		owner_log(o, false);
		owner_log_on(o);
	}

	write_emulated(o, b, 70);
	domain_unmap(o->domain, 0, PAGES);
	EXPECT_HARVEST(o, "KVM's write, then UNMAP");
	EXPECT_EQ(0, b->mmio);
	dirty_access(b, ACCESS_MOVSQ_ONE, DIRTY_WINDOW(0) + 70 * 4096, DEV_GPA, 0, 0);
	EXPECT_EQ(8, b->mmio);
	EXPECT_HARVEST(o, "KVM's write to a hole");
}

/* Who may only read makes nothing dirty by KVM either. */
TEST_F_TIMEOUT(dirty_log, emulated_readonly, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = &self->b[0];
	unsigned int i;

	domain_map(o->domain, 0, SPLIT, KVM_VM2VM_MAP_READ);
	domain_map(o->domain, SPLIT, PAGES - SPLIT, VM2VM_RW);
	backend_link(b, 0, o, o->domain, 0);
	backend_link(b, 1, o, o->domain, KVM_VM2VM_LINK_READONLY);
	owner_log_on(o);
	for (i = 0; i < 3; i++) {
		b->mmio = 0;
		read_emulated(o, b, 5);
		dirty_access(b, ACCESS_MOVSQ_ONE, DIRTY_WINDOW(0) + 5 * 4096, DEV_GPA, 0, 0);
		dirty_access(b, ACCESS_MOVSQ_ONE, DIRTY_WINDOW(1) + 50 * 4096, DEV_GPA, 0, 0);
		EXPECT_EQ(16, b->mmio);
		EXPECT_HARVEST(o, "KVM's writes that are not permitted");
		write_emulated(o, b, 50);
		EXPECT_HARVEST(o, "KVM's write that is");
	}
}

static const struct forced {
	const char *name;
	enum access_op op;
	unsigned int pages;	/* that are written to */
	int offset;
	unsigned int count;
} forced[] = {
	{ "store", ACCESS_STORE, 1, 0, 0 },
	{ "store to two pages", ACCESS_STORE, 2, 4096 - 5, 0 },
	{ "xchg", ACCESS_XCHG, 1, 8, 0 },
	{ "cmpxchg", ACCESS_CMPXCHG, 1, 16, 0 },
	{ "cmpxchg in two pages", ACCESS_CMPXCHG, 2, 4096 - 4, 0 },
	{ "lock inc", ACCESS_INC, 1, 24, 0 },
	{ "push", ACCESS_PUSH, 1, 4096, 0 },
	{ "rep stos", ACCESS_STOS, 2, 2048, 300 },
	{ "rep movs", ACCESS_MOVS, 1, 512, 100 },
};

static void do_forced(struct dirty_owner *o, struct dirty_vm *b, const struct forced *f,
		      unsigned int page)
{
	unsigned int down = f->op == ACCESS_PUSH ? 8 : 0;
	uint64_t *word = (uint64_t *)(o->mem + page * 4096 + f->offset - down);
	uint64_t old = *word, val = dirty_next_value();

	if (f->op == ACCESS_INC)
		val = old + 1;
	b->ctl->access.old = old;
	*owner_word(o, page + 2, 0) = val;
	dirty_access(b, f->op, DIRTY_WINDOW(0) + page * 4096 + f->offset,
		     DIRTY_WINDOW(0) + (page + 2) * 4096, f->count, val);
	TEST_ASSERT(*word == val, "the emulated %s has not arrived", f->name);
	owner_want(o, page, f->pages);
}

/* Whatever the guest does may be emulated. */
TEST_F_TIMEOUT(dirty_log, emulated_by_force, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = &self->b[0];
	const struct forced *f;
	unsigned int i;

	if (!kvm_is_forced_emulation_enabled())
		SKIP(return, "kvm.force_emulation_prefix is off");
	owner_show_and_log(o, b);
	for (f = forced; f < forced + ARRAY_SIZE(forced); f++) {
		i = (f - forced) * 4 + 3;
		do_forced(o, b, f, i);
		EXPECT_HARVEST(o, f->name);
		EXPECT_HARVEST(o, "nothing since");
		do_forced(o, b, f, i);
		EXPECT_HARVEST(o, f->name);
		dirty_write(o, b, 0, i);
		EXPECT_HARVEST(o, "the guest's own write after that");
		do_forced(o, b, f, i);
		EXPECT_HARVEST(o, f->name);
		EXPECT_HARVEST(o, "nothing since");
	}
	for (i = 60; i < 62; i++) {
		dirty_access(b, ACCESS_LOAD, 0, DIRTY_WINDOW(0) + i * 4096, 0, 0);
		dirty_access(b, ACCESS_POP, 0, DIRTY_WINDOW(0) + i * 4096, 0, 0);
		dirty_access(b, ACCESS_CMPS, DIRTY_WINDOW(0) + i * 4096 + 8,
			     DIRTY_WINDOW(0) + i * 4096, 0, 0);
		EXPECT_HARVEST(o, "KVM's reads");
	}
	EXPECT_EQ(0, b->mmio);
}

/* Have KVM write to guest memory, as if the guest had asked for it. */
static bool set_msr(struct dirty_vm *v, uint32_t msr, uint64_t val)
{
	struct {
		struct kvm_msrs header;
		struct kvm_msr_entry entry;
	} args = { .header.nmsrs = 1, .entry = { .index = msr, .data = val } };

	return NODE_IOCTL(v->vcpu, KVM_SET_MSRS, &args) == 1;
}

/* Whether it writes to the page or not: what it writes is reported. */
static void write_by_msr(struct dirty_owner *o, struct dirty_vm *b, uint32_t msr, unsigned int page,
			 unsigned int on)
{
	uint64_t addr = DIRTY_WINDOW(0) + page * 4096 + 64;
	uint8_t before[4096];

	memcpy(before, owner_word(o, page, 0), 4096);
	if (set_msr(b, msr, addr | on))
		dirty_do(b, DIRTY_READ, DIRTY_WINDOW(0), 0, 0);
	o->want[page] |= !!memcmp(before, owner_word(o, page, 0), 4096);
}

/* The clocks and the steal time, which KVM writes by itself. */
TEST_F_TIMEOUT(dirty_log, written_by_kvm, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = &self->b[0];
	unsigned int i;

	domain_map(o->domain, 0, PAGES - 1, VM2VM_RW);
	domain_map(o->domain, PAGES - 1, 1, KVM_VM2VM_MAP_READ);
	backend_link(b, 0, o, o->domain, 0);
	owner_log_on(o);
	for (i = 0; i < 3; i++) {
		memset(owner_word(o, 60, 8), 0xee, 32);
		write_by_msr(o, b, MSR_KVM_WALL_CLOCK_NEW, 60, 0);
		EXPECT_TRUE(o->want[60]);
		EXPECT_HARVEST(o, "the wall clock");
		EXPECT_HARVEST(o, "nothing since the wall clock");
		dirty_write(o, b, 0, 60);
		EXPECT_HARVEST(o, "the guest's own write");
		write_by_msr(o, b, MSR_KVM_SYSTEM_TIME_NEW, 61, 1);
		EXPECT_HARVEST(o, "the clock");
		set_msr(b, MSR_KVM_SYSTEM_TIME_NEW, 0);
		write_by_msr(o, b, MSR_KVM_STEAL_TIME, 62, 1);
		EXPECT_HARVEST(o, "the steal time");
		set_msr(b, MSR_KVM_STEAL_TIME, 0);
		write_by_msr(o, b, MSR_KVM_WALL_CLOCK_NEW, PAGES - 1, 0);
		EXPECT_FALSE(o->want[PAGES - 1]);
		EXPECT_HARVEST(o, "the wall clock in a page that may be read only");
	}
}
