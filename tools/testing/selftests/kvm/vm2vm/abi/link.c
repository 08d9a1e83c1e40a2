// SPDX-License-Identifier: GPL-2.0
/* vm2vm_abi_test: LINK and UNLINK, and what else may be done to a window. */
#include <limits.h>

#include "abi.h"
#include "processor.h"

#define LINK_SLOT(slot) LINK(FD_DOMAIN, slot, NEW, FREE, PG)
#define TRANSIENT KVM_VM2VM_LINK_TRANSIENT
#define HIGH ((1ull << 48) - PG)	/* the last page that a view could have */
#define LINK_AT(...) LINK(FD_DOMAIN, SLOT_NEW, __VA_ARGS__)

static const struct row link_rows[] = {
	{ "flag bit 3", EINVAL, LINK_AT(NEW, FREE, PG, 8) },
	{ "flag bits 5 to 30", EINVAL, LINK_AT(NEW, FREE, PG, 0x7fffffe0) },
	{ "flag bit 31", EINVAL, LINK_AT(NEW, FREE, PG, 1u << 31) },
	{ "exit and wait", EINVAL, LINK_AT(NEW, FREE, PG, EXIT | WAIT) },
	{ "exit and fill", EINVAL, LINK_AT(NEW, FREE, PG, EXIT | FILL) },
	{ "exit, wait and fill", EINVAL, LINK_AT(NEW, FREE, PG, EXIT | WAIT | FILL) },
	{ "exit, wait, read-only", EINVAL, LINK_AT(NEW, FREE, PG, EXIT | WAIT | READONLY) },
	{ "exit and bit 3", EINVAL, LINK_AT(NEW, FREE, PG, EXIT | 8) },
	{ "pad", EINVAL, LINK_AT(NEW, FREE, PG, 0, 1) },
	{ "reserved[0]", EINVAL, LINK_AT(NEW, FREE, PG, 0, 0, { -1 }) },
	{ "reserved[1]", EINVAL, LINK_AT(NEW, FREE, PG, 0, 0, { 0, -1 }) },
	{ "size 0", EINVAL, LINK_AT(NEW, FREE, 0) },
	{ "size 1", EINVAL, LINK_AT(NEW, FREE, 1) },
	{ "size 4097", EINVAL, LINK_AT(NEW, FREE, PG + 1) },
	{ "size 2^64 - 1", EINVAL, LINK_AT(0, 0, -1) },
	{ "gpa + 1", EINVAL, LINK_AT(NEW + 1, FREE, PG) },
	{ "gpa + 2048", EINVAL, LINK_AT(NEW + PG / 2, FREE, PG) },
	{ "iova + 1", EINVAL, LINK_AT(NEW, FREE + 1, PG) },
	{ "iova + 2048", EINVAL, LINK_AT(NEW, FREE + PG / 2, PG) },
	{ "gpa wraps", EINVAL, LINK_AT(-PG, FREE, 2 * PG) },
	{ "gpa ends at 2^64", EINVAL, LINK_AT(-PG, FREE, PG) },
	{ "iova wraps", EINVAL, LINK_AT(NEW, -PG, 2 * PG) },
	{ "iova ends at 2^64", EINVAL, LINK_AT(NEW, -PG, PG) },
	{ "size wraps both", EINVAL, LINK_AT(NEW, FREE, -PG) },
	{ "2^31 pages", EINVAL, LINK_AT(NEW, FREE, 1ull << 43) },
	{ "2^31 pages from 0", EINVAL, LINK_AT(0, 0, 1ull << 43) },
	{ "2^32 pages", EINVAL, LINK_AT(NEW, FREE, 1ull << 44) },
	{ "2^51 pages", EINVAL, LINK_AT(NEW, FREE, 1ull << 63) },
	{ "gpa beyond any address width", EINVAL, LINK_AT(1ull << 52, FREE, PG) },
	{ "gpa across any address width", EINVAL, LINK_AT((1ull << 52) - PG, FREE, 2 * PG) },
	{ "transient: gpa 2^48", EINVAL, LINK_AT(1ull << 48, FREE, PG, TRANSIENT, 1) },
	{ "transient: gpa 2^48 + 2^39", EINVAL, LINK_AT(0x1008000000000, FREE, PG, TRANSIENT, 1) },
	{ "transient: up to 2^48 + 1", EINVAL, LINK_AT(HIGH, FREE, 2 * PG, TRANSIENT, 1) },
	{ "slot: first of KVM's own", EINVAL, LINK_SLOT(NR_SLOTS) },
	{ "slot: last of KVM's own", EINVAL, LINK_SLOT(NR_SLOTS + 2) },
	{ "slot: SHRT_MAX", EINVAL, LINK_SLOT(SHRT_MAX) },
	{ "slot: SHRT_MAX + 1", EINVAL, LINK_SLOT(SHRT_MAX + 1) },
	{ "slot: USHRT_MAX", EINVAL, LINK_SLOT(USHRT_MAX) },
	{ "slot: address space 1", EINVAL, LINK_SLOT(1 << 16 | SLOT_NEW) },
	{ "slot: address space 2", EINVAL, LINK_SLOT(2 << 16 | SLOT_NEW) },
	{ "slot: sign", EINVAL, LINK_SLOT(1u << 31 | SLOT_NEW) },
	{ "slot: -1", EINVAL, LINK_SLOT(-1) },
	{ "slot: memory", EEXIST, LINK_SLOT(SLOT_MEM) },
	{ "slot: read-only memory", EEXIST, LINK_SLOT(SLOT_RO) },
	{ "slot: window", EEXIST, LINK_SLOT(SLOT_WIN) },
	{ "the very same", EEXIST, LINK(FD_DOMAIN, SLOT_WIN, WIN, M1, 8 * PG) },
	{ "over memory: exact", EEXIST, LINK_AT(MEM, FREE, 16 * PG) },
	{ "over memory: head", EEXIST, LINK_AT(MEM - PG, FREE, 2 * PG) },
	{ "over memory: inside", EEXIST, LINK_AT(MEM + PG, FREE, PG) },
	{ "over memory: tail", EEXIST, LINK_AT(RO + 3 * PG, FREE, 2 * PG) },
	{ "over memory: around", EEXIST, LINK_AT(MEM - PG, FREE, 32 * PG) },
	{ "over memory: from 0", EEXIST, LINK_AT(0, FREE, NEW) },
	{ "over window: exact", EEXIST, LINK_AT(WIN, FREE, 8 * PG) },
	{ "over window: inside", EEXIST, LINK_AT(WIN + PG, M1 + PG, PG) },
	{ "over window: tail", EEXIST, LINK_AT(WIN + 7 * PG, FREE, 2 * PG) },
	{ "over window: around", EEXIST, LINK_AT(WIN - 2 * PG, FREE, 12 * PG) },
	{ "domain: -1", EBADF, LINK_FD(-1) },
	{ "domain: INT_MIN", EBADF, LINK_FD(INT_MIN) },
	{ "domain: INT_MAX", EBADF, LINK_FD(INT_MAX) },
	{ "domain: closed", EBADF, LINK_FD(FD_CLOSED) },
	{ "domain: O_PATH", EBADF, LINK_FD(FD_PATH) },
	{ "domain: pipe", EINVAL, LINK_FD(FD_PIPE) },
	{ "domain: /dev/kvm", EINVAL, LINK_FD(FD_KVM) },
	{ "domain: VM", EINVAL, LINK_FD(FD_VM) },
	{ "domain: vCPU", EINVAL, LINK_FD(FD_VCPU) },
	{ "domain: of this VM", EINVAL, LINK_FD(FD_PEER) },
	{ "domain: of this VM, to wait", EINVAL, LINK(FD_PEER, SLOT_NEW, NEW, FREE, PG, WAIT) },
	{ "closed, to wait", EBADF, LINK(FD_CLOSED, SLOT_NEW, NEW, FREE, PG, WAIT) },
	{ "closed, and a bad flag", EINVAL, LINK(FD_CLOSED, SLOT_NEW, NEW, FREE, PG, 8) },
	{ "closed, exit and wait", EINVAL, LINK(FD_CLOSED, SLOT_NEW, NEW, FREE, PG, EXIT | WAIT) },
	{ "closed, 2^31 pages", EINVAL, LINK(FD_CLOSED, SLOT_NEW, NEW, FREE, 1ull << 43) },
	{ "closed, beyond any address width", EINVAL,
	  LINK(FD_CLOSED, SLOT_NEW, 1ull << 52, FREE, PG) },
	{ "closed, address space 1", EINVAL, LINK(FD_CLOSED, 1 << 16 | SLOT_NEW, NEW, FREE, PG) },
	{ "slot in use, beyond any address width", EINVAL,
	  LINK(FD_DOMAIN, SLOT_MEM, 1ull << 52, FREE, PG) },
	{ "slot in use, across any address width", EINVAL,
	  LINK(FD_DOMAIN, SLOT_MEM, (1ull << 52) - PG, FREE, 2 * PG) },
	{ "slot in use, 2^31 pages", EINVAL, LINK(FD_DOMAIN, SLOT_MEM, NEW, FREE, 1ull << 43) },
};

TEST_F(abi, link)
{
	run_rows(&self->env, FD_VM, KVM_VM2VM_LINK, link_rows, ARRAY_SIZE(link_rows));
}

/* A window is where the CPU has addresses; with shadow paging, where any CPU has. */
TEST_F(abi, link_address_width)
{
	uint64_t end = 1ull << (kvm_is_tdp_enabled() ?
				this_cpu_property(X86_PROPERTY_MAX_PHY_ADDR) : 52);
	struct env *e = &self->env;
	struct kvm_vm *vm = e->backend;

	works(e, "up to the end", 0,
	      __vm2vm_link(vm, e->domain, SLOT_NEW, end - 2 * PG, FREE, 2 * PG, 0));
	fails(e, "across it", EINVAL,
	      __vm2vm_link(vm, -1, SLOT_NEW + 1, end - PG, FREE, 2 * PG, 0));
	fails(e, "beyond it", EINVAL, __vm2vm_link(vm, -1, SLOT_NEW, end, FREE, PG, 0));
	fails(e, "and nothing else wrong", EINVAL,
	      __vm2vm_link(vm, e->domain, SLOT_NEW + 1, end, FREE, PG, 0));
	works(e, "unlink", 0, __vm2vm_unlink(vm, SLOT_NEW));
}

/* The CPU has as many bits of physical address, or not, and views, or not. */
TEST_F(abi, link_highest_view)
{
	struct env *e = &self->env;
	struct kvm_vm2vm_link args = {
		.domain_fd = e->domain, .slot = SLOT_NEW, .gpa = HIGH, .iova = FREE, .size = PG,
		.flags = TRANSIENT, .view = 1,
	};
	bool views = kvm_check_cap(KVM_CAP_VM2VM) & KVM_VM2VM_FEATURE_VIEW;
	bool wide = !kvm_is_tdp_enabled() || this_cpu_property(X86_PROPERTY_MAX_PHY_ADDR) >= 48;
	int r = vm2vm_ioctl(e->backend->fd, KVM_VM2VM_LINK, &args);

	/* It is refused for no other reason than these. */
	EXPECT_EQ(!wide ? -EINVAL : views ? 0 : -EOPNOTSUPP, r);
	if (!r)
		EXPECT_EQ(0, __vm2vm_unlink(e->backend, SLOT_NEW));
	args.size += PG;
	EXPECT_EQ(-EINVAL, vm2vm_ioctl(e->backend->fd, KVM_VM2VM_LINK, &args));
}

/* What an access that is not approved does: each answer alone, and where it can be. */
TEST_F(abi, link_flags)
{
	static const uint32_t flags[] = {
		0, READONLY, EXIT, EXIT | READONLY, WAIT, WAIT | READONLY,
		FILL, FILL | READONLY, WAIT | FILL, WAIT | FILL | READONLY,
	};
	struct env *e = &self->env;
	struct kvm_vm *vm = e->backend;
	int i, plain = vm2vm_create_domain(e->owner);
	bool wait;

	take_state(e, &e->before);
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		works(e, "link", 0, __vm2vm_link(vm, e->domain, SLOT_NEW, NEW, FREE, PG, flags[i]));
		works(e, "unlink", 0, __vm2vm_unlink(vm, SLOT_NEW));
		wait = flags[i] & WAIT;
		if (wait)
			fails(e, "nothing to wait for", EINVAL,
			      __vm2vm_link(vm, plain, SLOT_NEW, NEW, FREE, PG, flags[i]));
		else
			works(e, "plain domain", 0,
			      __vm2vm_link(vm, plain, SLOT_NEW, NEW, FREE, PG, flags[i]));
		if (!wait)
			works(e, "unlink", 0, __vm2vm_unlink(vm, SLOT_NEW));
	}
	fails(e, "nothing to wait for, slot in use", EINVAL,
	      __vm2vm_link(vm, plain, SLOT_WIN, NEW, FREE, PG, WAIT));
}

TEST_F(abi, link_works)
{
	struct env *e = &self->env;
	struct kvm_vm *vm = e->backend;
	int copy = dup(e->domain);

	works(e, "nothing is mapped", 0, __vm2vm_link(vm, copy, SLOT_NEW, NEW, FREE, PG, 0));
	works(e, "close a copy of the domain", 0, close(copy));
	fails(e, "the link stays", EEXIST,
	      __vm2vm_link(vm, e->domain, SLOT_NEW, NEW + PG, FREE, PG, 0));
	works(e, "map in it", 0, __vm2vm_map(e->domain, FREE, MEM, PG, VM2VM_RW));
	works(e, "adjacent, read-only, same iova", 0,
	      __vm2vm_link(vm, e->domain, 8, NEW + PG, FREE, PG, KVM_VM2VM_LINK_READONLY));
	works(e, "highest slot", 0,
	      __vm2vm_link(vm, e->domain, NR_SLOTS - 1, NEW + 2 * PG, FREE, PG, 0));
	works(e, "slot 0", 0, __vm2vm_link(vm, e->domain, 0, NEW - PG, FREE, PG, 0));
	works(e, "highest iova, gpa 0", 0, __vm2vm_link(vm, e->domain, 9, 0, TOP, PG, 0));
	works(e, "1 GiB", 0, __vm2vm_link(vm, e->domain, 10, 2 * NEW, 0, 1 << 30, 0));
	works(e, "unlink", 0, __vm2vm_unlink(vm, SLOT_NEW));
	works(e, "use the slot again", 0,
	      __vm2vm_link(vm, e->domain, SLOT_NEW, NEW, M1, PG, 0));
	works(e, "close the domain", 0, close(e->domain));
	e->domain = -1;
	take_state(e, &e->before);
	fails(e, "the links stay", EINVAL, probe_slot(e, vm, SLOT_NEW));
	works(e, "unlink one", 0, __vm2vm_unlink(vm, SLOT_NEW));
	works(e, "memory takes its place", 0,
	      set_region(vm, SLOT_NEW, 0, NEW, PG, e->mem + 62 * PG));
	fails(e, "unlink that", EINVAL, __vm2vm_unlink(vm, SLOT_NEW));
}

TEST_F(abi, unlink)
{
	static const struct row rows[] = {
		{ "flag bit 0", EINVAL, UNLINK(SLOT_WIN, 1) },
		{ "flag bits 1 to 30", EINVAL, UNLINK(SLOT_WIN, 0x7ffffffe) },
		{ "flag bit 31", EINVAL, UNLINK(SLOT_WIN, 1u << 31) },
		{ "unknown", ENOENT, UNLINK(SLOT_NEW) },
		{ "unknown: 0", ENOENT, UNLINK(0) },
		{ "unknown: last", ENOENT, UNLINK(NR_SLOTS - 1) },
		{ "memory", EINVAL, UNLINK(SLOT_MEM) },
		{ "read-only memory", EINVAL, UNLINK(SLOT_RO) },
		{ "first of KVM's own", EINVAL, UNLINK(NR_SLOTS) },
		{ "last of KVM's own", EINVAL, UNLINK(NR_SLOTS + 2) },
		{ "SHRT_MAX + 1 + window", EINVAL, UNLINK(SHRT_MAX + 1 + SLOT_WIN) },
		{ "USHRT_MAX", EINVAL, UNLINK(USHRT_MAX) },
		{ "address space 1", EINVAL, UNLINK(1 << 16 | SLOT_WIN) },
		{ "address space 2", EINVAL, UNLINK(2 << 16 | SLOT_WIN) },
		{ "-1", EINVAL, UNLINK(-1) },
	};
	struct env *e = &self->env;

	run_rows(e, FD_VM, KVM_VM2VM_UNLINK, rows, ARRAY_SIZE(rows));
	works(e, "the window", 0, __vm2vm_unlink(e->backend, SLOT_WIN));
	fails(e, "twice", ENOENT, __vm2vm_unlink(e->backend, SLOT_WIN));
	fails(e, "a deleted memslot", ENOENT,
	      set_region(e->owner, SLOT_BELOW, 0, BELOW, 0, NULL) ?:
	      __vm2vm_unlink(e->owner, SLOT_BELOW));
}

/* KVM_SET_USER_MEMORY_REGION on a window, and over one */
TEST_F(abi, set_memory_region)
{
	static const struct {
		const char *name;
		int err;
		uint32_t slot, flags;
		uint64_t gpa, pages;
		bool hva;
	} rows[] = {
		{ "delete", EINVAL, SLOT_WIN, 0, WIN, 0, false },
		{ "delete, address 0", EINVAL, SLOT_WIN, 0, 0, 0, false },
		{ "no change", EINVAL, SLOT_WIN, 0, WIN, 8, false },
		{ "replace", EINVAL, SLOT_WIN, 0, WIN, 8, true },
		{ "move", EINVAL, SLOT_WIN, 0, NEW, 8, false },
		{ "move onto memory", EINVAL, SLOT_WIN, 0, MEM, 8, false },
		{ "shrink", EINVAL, SLOT_WIN, 0, WIN, 4, false },
		{ "grow", EINVAL, SLOT_WIN, 0, WIN, 16, false },
		{ "log", EINVAL, SLOT_WIN, KVM_MEM_LOG_DIRTY_PAGES, WIN, 8, false },
		{ "read-only", EINVAL, SLOT_WIN, KVM_MEM_READONLY, WIN, 8, false },
		{ "over: exact", EEXIST, SLOT_NEW, 0, WIN, 8, true },
		{ "over: inside", EEXIST, SLOT_NEW, 0, WIN + PG, 1, true },
		{ "over: tail", EEXIST, SLOT_NEW, 0, WIN + 7 * PG, 4, true },
		{ "over: move", EEXIST, SLOT_BELOW, 0, WIN, 1, true },
	};
	struct kvm_dirty_log log = { .slot = SLOT_WIN, .dirty_bitmap = self->env.mem };
	struct kvm_clear_dirty_log clear = {
		.slot = SLOT_WIN, .num_pages = 8, .dirty_bitmap = self->env.mem,
	};
	struct env *e = &self->env;
	struct kvm_vm *vm = e->backend;
	int i, r;

	/* A VM that has a domain may not log at all. */
	close(e->peer);
	take_state(e, &e->before);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		void *hva = rows[i].hva ? e->mem + 60 * PG : NULL;
		uint64_t size = rows[i].pages * PG;

		fails(e, rows[i].name, rows[i].err,
		      set_region(vm, rows[i].slot, rows[i].flags, rows[i].gpa, size, hva));
		r = __vm_set_user_memory_region2(vm, rows[i].slot, rows[i].flags,
						 rows[i].gpa, size, hva, 0, 0);
		fails(e, rows[i].name, rows[i].err, r ? -errno : 0);
	}
	fails(e, "get the window's log", ENOENT, vm2vm_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
	fails(e, "clear the window's log", ENOENT,
	      vm2vm_ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear));
}
