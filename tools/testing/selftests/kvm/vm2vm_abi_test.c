// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm: bad input.  Every field of every call is wrong once, and the call must
 * give the errno that linux/kvm_vm2vm.h promises and change nothing: after each
 * case that fails, what can be seen from user space (descriptors, mappings,
 * memslots) is compared with what was there before.
 *
 * Each call has a table of cases, and each case is named when it fails.  What
 * must work right beside the bad input is checked too.  vm2vm_abi2.h has QUERY,
 * misses and all-memory domains, vm2vm_abi2_batch.h the batches, vm2vm_abi2_limits.h
 * the limits.
 */
#include <limits.h>

#include "vm2vm_abi.h"

static int check_extension(struct env *e, int fd, unsigned long cap)
{
	return vm2vm_ioctl(resolve(e, fd), KVM_CHECK_EXTENSION, (void *)cap);
}

TEST_F(abi, capability)
{
	struct env *e = &self->env;
	struct kvm_enable_cap enable = { .cap = KVM_CAP_VM2VM };
	int mask = check_extension(e, FD_KVM, KVM_CAP_VM2VM);

	works(e, "link feature", KVM_VM2VM_FEATURE_LINK, mask & KVM_VM2VM_FEATURE_LINK);
	works(e, "not an errno", 1, mask > 0);
	works(e, "the same on a VM", mask, check_extension(e, FD_VM, KVM_CAP_VM2VM));
	works(e, "number below", 0, check_extension(e, FD_VM, KVM_CAP_VM2VM - 1));
	works(e, "number above", 0, check_extension(e, FD_VM, KVM_CAP_VM2VM + 1));
	works(e, "low half only", 0, check_extension(e, FD_VM, 1ul << 32 | KVM_CAP_VM2VM));
	fails(e, "on a domain", ENOTTY, check_extension(e, FD_DOMAIN, KVM_CAP_VM2VM));
	fails(e, "on a vCPU", EINVAL, check_extension(e, FD_VCPU, KVM_CAP_VM2VM));
	fails(e, "enable", EINVAL, vm2vm_ioctl(e->owner->fd, KVM_ENABLE_CAP, &enable));
}

/* Every bit that must be zero, one at a time; and it is that bit that is wrong. */
TEST_F_TIMEOUT(abi, zero_bits, 120)
{
	struct env *e = &self->env;
	const struct call *c;
	union args args;
	char name[64];
	int bit, end, r;

	for (c = calls; c < calls + ARRAY_SIZE(calls); c++) {
		end = c->end ?: _IOC_SIZE(c->nr);
		for (bit = 0; bit < (end - (int)c->zeros) * 8; bit++) {
			if (bit < 32 && c->not_zero & 1u << bit)
				continue;
			args = c->args;
			((uint8_t *)&args)[c->zeros + bit / 8] |= 1 << bit % 8;
			snprintf(name, sizeof(name), "%s: bit %d", c->name, bit);
			fails(e, name, EINVAL,
			      do_call(e, c->on_domain ? FD_DOMAIN : FD_VM, c->nr, &args));
		}
		args = c->args;
		r = do_call(e, c->on_domain ? FD_DOMAIN : FD_VM, c->nr, &args);
		works(e, c->name, 1, r >= 0);
		if (c->nr == KVM_VM2VM_CREATE_DOMAIN)
			close(r);
		take_state(e, &e->before);
	}
}

TEST_F(abi, bad_pointer)
{
	static const char * const names[] = {
		"NULL", "the last page", "kernel memory", "no address at all",
		"no access", "last byte out", "first byte in",
	};
	struct env *e = &self->env;
	void *page = mmap(NULL, 2 * PG, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const struct call *c;
	char name[64];
	int i;

	ASSERT_NE(MAP_FAILED, page);
	ASSERT_EQ(0, mprotect(page + PG, PG, PROT_NONE));
	for (c = calls; c < calls + ARRAY_SIZE(calls); c++) {
		void *ptrs[] = {
			NULL, (void *)-4096l, (void *)0xffff888000000000, (void *)(1ul << 63),
			page + PG, page + PG + 1 - _IOC_SIZE(c->nr), page + PG - 1,
		};

		for (i = 0; i < ARRAY_SIZE(names); i++) {
			snprintf(name, sizeof(name), "%s: %s", c->name, names[i]);
			fails(e, name, EFAULT,
			      vm2vm_ioctl(c->on_domain ? e->domain : e->owner->fd,
					  c->nr, ptrs[i]));
		}
	}

	/* What cannot be told its result does nothing. */
	unmap_entry.iova = M1;
	unmap_entry.size = 8 * PG;
	for (c = calls; c < calls + ARRAY_SIZE(calls); c++) {
		if (!(_IOC_DIR(c->nr) & _IOC_READ))
			continue;
		ASSERT_EQ(0, mprotect(page, PG, PROT_READ | PROT_WRITE));
		memcpy(page, &c->args, sizeof(c->args));
		if (c->nr == KVM_VM2VM_UNMAP)
			memcpy(page, &unmap_entry, sizeof(unmap_entry));
		ASSERT_EQ(0, mprotect(page, PG, PROT_READ));
		snprintf(name, sizeof(name), "%s: read-only", c->name);
		fails(e, name, EFAULT, vm2vm_ioctl(e->domain, c->nr, page));
	}
}

TEST_F(abi, wrong_descriptor)
{
	static const struct { const char *name; int fd, err; } kinds[] = {
		{ "/dev/kvm", FD_KVM, EINVAL },		/* as for all that it does not know */
		{ "vCPU", FD_VCPU, EINVAL },		/* likewise */
		{ "VM", FD_VM, ENOTTY },
		{ "domain", FD_DOMAIN, ENOTTY },
		{ "pipe", FD_PIPE, ENOTTY },
		{ "O_PATH", FD_PATH, EBADF },
		{ "closed", FD_CLOSED, EBADF },
		{ "-1", -1, EBADF },
	};
	struct env *e = &self->env;
	const struct call *c;
	unsigned long nrs[3];
	union args args;
	char name[64];
	int i, fd;

	for (c = calls; c < calls + ARRAY_SIZE(calls); c++) {
		for (i = 0; i < ARRAY_SIZE(kinds); i++) {
			if (kinds[i].fd == (c->on_domain ? FD_DOMAIN : FD_VM))
				continue;
			args = c->args;
			snprintf(name, sizeof(name), "%s: on %s", c->name, kinds[i].name);
			fails(e, name, kinds[i].err, do_call(e, kinds[i].fd, c->nr, &args));
		}
		/* The number with another size or direction is another number. */
		nrs[0] = c->nr ^ 8 << _IOC_SIZESHIFT;
		nrs[1] = c->nr & ~(_IOC_WRITE << _IOC_DIRSHIFT);
		nrs[2] = _IO(KVMIO, _IOC_NR(c->nr));
		fd = c->on_domain ? e->domain : e->backend->fd;
		for (i = 0; i < ARRAY_SIZE(nrs); i++) {
			snprintf(name, sizeof(name), "%s: number %lx", c->name, nrs[i]);
			args = c->args;
			fails(e, name, ENOTTY, vm2vm_ioctl(fd, nrs[i], &args));
		}
	}
	fails(e, "no such call of a domain", ENOTTY,
	      vm2vm_ioctl(e->domain, _IO(KVMIO, 0xff), NULL));
	fails(e, "no such call of a VM", ENOTTY,
	      vm2vm_ioctl(e->backend->fd, _IO(KVMIO, 0xff), NULL));
}

TEST_F(abi, create)
{
	static const struct row rows[] = {
		{ "flag bit 3", EINVAL, { .create = { .flags = 8 } } },
		{ "flag bits 4 to 30", EINVAL, { .create = { .flags = 0x7ffffff0 } } },
		{ "all flags", EINVAL, { .create = { .flags = -1 } } },
		{ "flag bit 31", EINVAL, { .create = { .flags = 1u << 31 } } },
		{ "pad", EINVAL, { .create = { .pad = -1 } } },
		{ "reserved[0]", EINVAL, { .create = { .reserved[0] = -1 } } },
		{ "reserved[1]", EINVAL, { .create = { .reserved[1] = -1 } } },
		{ "reserved[2]", EINVAL, { .create = { .reserved[2] = -1 } } },
	};
	struct env *e = &self->env;
	struct rlimit old, none;
	int r;

	run_rows(e, e->owner->fd, KVM_VM2VM_CREATE_DOMAIN, rows, ARRAY_SIZE(rows));

	/* The lowest free descriptor is out of bounds. */
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &old));
	none = old;
	none.rlim_cur = resolve(e, FD_CLOSED);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	r = __vm2vm_create_domain(e->owner);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
	fails(e, "no descriptor left", EMFILE, r);

	works(e, "O_CLOEXEC", FD_CLOEXEC, fcntl(e->domain, F_GETFD));
	r = vm2vm_create_domain(e->owner);
	works(e, "a second domain is another", 0, __vm2vm_map(r, M1, MEM, PG, RD));
	works(e, "closing one", 0, close(r));
	works(e, "leaves the other", 0, __vm2vm_map(e->domain, M2 + 2 * PG, MEM, PG, RD));
}

#define MAP(...) { .map = { __VA_ARGS__ } }

static const struct row map_rows[] = {
	{ "no flags", EINVAL, MAP(FREE, MEM, PG, 0) },
	{ "write without read", EINVAL, MAP(FREE, MEM, PG, KVM_VM2VM_MAP_WRITE) },
	{ "flag bit 2", EINVAL, MAP(FREE, MEM, PG, RD | 4) },
	{ "flag bits 3 to 30", EINVAL, MAP(FREE, MEM, PG, RD | 0x7ffffff8) },
	{ "flag bit 31", EINVAL, MAP(FREE, MEM, PG, RD | 1u << 31) },
	{ "flag bit 2 alone", EINVAL, MAP(FREE, MEM, PG, 4) },
	{ "all flags", EINVAL, MAP(FREE, MEM, PG, ~0u) },
	{ "pad", EINVAL, MAP(FREE, MEM, PG, RD, 1) },
	{ "size 0", EINVAL, MAP(FREE, MEM, 0, RD) },
	{ "size 1", EINVAL, MAP(FREE, MEM, 1, RD) },
	{ "size 4095", EINVAL, MAP(FREE, MEM, PG - 1, RD) },
	{ "size 4097", EINVAL, MAP(FREE, MEM, PG + 1, RD) },
	{ "size 2^64 - 1", EINVAL, MAP(0, 0, -1, RD) },
	{ "iova + 1", EINVAL, MAP(FREE + 1, MEM, PG, RD) },
	{ "iova + 2048", EINVAL, MAP(FREE + PG / 2, MEM, PG, RD) },
	{ "iova 2^64 - 1", EINVAL, MAP(-1, MEM, PG, RD) },
	{ "gpa + 1", EINVAL, MAP(FREE, MEM + 1, PG, RD) },
	{ "gpa + 2048", EINVAL, MAP(FREE, MEM + PG / 2, PG, RD) },
	{ "iova wraps", EINVAL, MAP(-PG, MEM, 2 * PG, RD) },
	{ "iova ends at 2^64", EINVAL, MAP(-PG, MEM, PG, RD) },
	{ "iova half way to 2^64", EINVAL, MAP(1ull << 63, MEM, 1ull << 63, RD) },
	{ "gpa wraps", EINVAL, MAP(FREE, -PG, 2 * PG, RD) },
	{ "gpa ends at 2^64", EINVAL, MAP(FREE, -PG, PG, RD) },
	{ "size wraps iova", EINVAL, MAP(FREE, 0, -PG, RD) },
	{ "size wraps gpa", EINVAL, MAP(0, MEM, -PG, RD) },
	{ "no memory at 0", ENOENT, MAP(FREE, 0, PG, RD) },
	{ "no memory after it", ENOENT, MAP(FREE, RO + 4 * PG, PG, RD) },
	{ "gpa beyond any address width", ENOENT, MAP(FREE, 1ull << 52, PG, RD) },
	{ "gpa at the very end", ENOENT, MAP(FREE, TOP, PG, RD) },
	{ "memory starts late", ENOENT, MAP(FREE, MEM - PG, 2 * PG, VM2VM_RW) },
	{ "memory ends early", ENOENT, MAP(FREE, RO + 3 * PG, 2 * PG, RD) },
	{ "memory has a hole", ENOENT, MAP(FREE, MEM, WIN - MEM, RD) },
	{ "2^31 pages", ENOENT, MAP(FREE, MEM, 1ull << 43, RD) },
	{ "2^32 pages", ENOENT, MAP(FREE, MEM, 1ull << 44, RD) },
	{ "2^51 pages", ENOENT, MAP(FREE, MEM, 1ull << 63, RD) },
	{ "write read-only", EACCES, MAP(FREE, RO, PG, VM2VM_RW) },
	{ "write up to read-only", EACCES, MAP(FREE, MEM2, 9 * PG, VM2VM_RW) },
	{ "write everything", EACCES, MAP(FREE, MEM, ALL_PAGES * PG, VM2VM_RW) },
	{ "window", EOPNOTSUPP, MAP(FREE, WIN, PG, RD) },
	{ "window, to write", EOPNOTSUPP, MAP(FREE, WIN, 8 * PG, VM2VM_RW) },
	{ "window's end", EOPNOTSUPP, MAP(FREE, WIN + 7 * PG, PG, RD) },
	{ "into the window", EOPNOTSUPP, MAP(FREE, BELOW, 2 * PG, RD) },
	{ "overlap: exact", EEXIST, MAP(M1, MEM, 8 * PG, VM2VM_RW) },
	{ "overlap: the very same", EEXIST, MAP(M2, MEM, 2 * PG, RD) },
	{ "overlap: head", EEXIST, MAP(M1 - PG, MEM, 2 * PG, RD) },
	{ "overlap: first page", EEXIST, MAP(M1, MEM, PG, RD) },
	{ "overlap: inside", EEXIST, MAP(M1 + 2 * PG, MEM, 2 * PG, RD) },
	{ "overlap: last page", EEXIST, MAP(M1 + 7 * PG, MEM, PG, RD) },
	{ "overlap: tail", EEXIST, MAP(M1 + 7 * PG, MEM, 2 * PG, RD) },
	{ "overlap: around", EEXIST, MAP(M1 - PG, MEM, 10 * PG, RD) },
	{ "overlap: both", EEXIST, MAP(M1, MEM, 12 * PG, RD) },
	{ "overlap: gap too small", EEXIST, MAP(M1 + 8 * PG, MEM, 3 * PG, RD) },
};

TEST_F(abi, map)
{
	run_rows(&self->env, FD_DOMAIN, KVM_VM2VM_MAP, map_rows, ARRAY_SIZE(map_rows));
}

TEST_F(abi, map_works)
{
	struct env *e = &self->env;
	int i, d = e->domain;

	works(e, "adjacent to two", 0, __vm2vm_map(d, M1 + 8 * PG, MEM, 2 * PG, VM2VM_RW));
	works(e, "unmap nothing", 0, vm2vm_unmap(d, FREE, PG));
	works(e, "unmap three", 12 * PG, vm2vm_unmap(d, M1, 12 * PG));
	works(e, "unmap again", 0, vm2vm_unmap(d, M1, 12 * PG));
	works(e, "map again", 0, __vm2vm_map(d, M1, MEM, 8 * PG, VM2VM_RW));
	works(e, "unmap just it", 8 * PG, vm2vm_unmap(d, M1, 8 * PG));
	for (i = 0; i < 16; i++)
		works(e, "one gpa, many iovas", 0,
		      __vm2vm_map(d, FREE + 3 * i * PG, MEM, PG, VM2VM_RW));
	works(e, "one of many", PG, vm2vm_unmap(d, FREE + 9 * PG, PG));
	works(e, "iova 0", 0, __vm2vm_map(d, 0, MEM, PG, RD));
	works(e, "highest iova", 0, __vm2vm_map(d, TOP, MEM, PG, RD));
	works(e, "two memslots", 0, __vm2vm_map(d, M1, MEM2 - PG, 2 * PG, VM2VM_RW));
	works(e, "read all memory", 0, __vm2vm_map(d, M2, MEM, ALL_PAGES * PG, RD));
	works(e, "unmap everything", (15 + 1 + 1 + 2 + ALL_PAGES) * PG, vm2vm_unmap(d, 0, -PG));
	works(e, "unmap everything again", 0, vm2vm_unmap(d, 0, -PG));

	/* An approval is of an address: the memory may go and come. */
	works(e, "map again", 0, __vm2vm_map(d, M1, MEM2, PG, VM2VM_RW));
	works(e, "memslot goes", 0, set_region(e->owner, SLOT_MEM2, 0, MEM2, 0, NULL));
	fails(e, "is still mapped", EEXIST, __vm2vm_map(d, M1, MEM, PG, VM2VM_RW));
	fails(e, "map what went", ENOENT, __vm2vm_map(d, FREE, MEM2, PG, VM2VM_RW));
	works(e, "memslot comes", 0,
	      set_region(e->owner, SLOT_MEM2, 0, MEM2, 8 * PG, e->mem + 16 * PG));
	works(e, "unmap it", PG, vm2vm_unmap(d, M1, PG));
}

#define UNMAP(...) { .unmap = { __VA_ARGS__ } }
#define BATCH(entries, ...) { .batch = { (uintptr_t)(entries), __VA_ARGS__ } }
#define QUERY(...) { .query = { __VA_ARGS__ } }
#define REFUSE(...) { .refuse = { __VA_ARGS__ } }

static const struct row unmap_rows[] = {
	{ "flag bit 0", EINVAL, UNMAP(M1, 8 * PG, 1) },
	{ "flag bits 1 to 30", EINVAL, UNMAP(M1, 8 * PG, 0x7ffffffe) },
	{ "flag bit 31", EINVAL, UNMAP(M1, 8 * PG, 1u << 31) },
	{ "pad", EINVAL, UNMAP(M1, 8 * PG, 0, 1) },
	{ "size 0", EINVAL, UNMAP(M1, 0) },
	{ "size 0 at 0", EINVAL, UNMAP(0, 0) },
	{ "size 1", EINVAL, UNMAP(M1, 1) },
	{ "size + 1", EINVAL, UNMAP(M1, 8 * PG + 1) },
	{ "size 2^64 - 1", EINVAL, UNMAP(0, -1) },
	{ "iova + 1", EINVAL, UNMAP(M1 + 1, 8 * PG) },
	{ "iova - 1", EINVAL, UNMAP(M1 - 1, 9 * PG) },
	{ "wraps", EINVAL, UNMAP(-PG, 2 * PG) },
	{ "wraps far", EINVAL, UNMAP(M1, -PG) },
	{ "ends at 2^64", EINVAL, UNMAP(-PG, PG) },
	{ "all up to 2^64", EINVAL, UNMAP(PG, -PG) },
	{ "cut: head", EINVAL, UNMAP(M1 - PG, 2 * PG) },
	{ "cut: first page", EINVAL, UNMAP(M1, PG) },
	{ "cut: all but last page", EINVAL, UNMAP(M1, 7 * PG) },
	{ "cut: middle", EINVAL, UNMAP(M1 + 2 * PG, 2 * PG) },
	{ "cut: all but first page", EINVAL, UNMAP(M1 + PG, 7 * PG) },
	{ "cut: last page", EINVAL, UNMAP(M1 + 7 * PG, PG) },
	{ "cut: tail", EINVAL, UNMAP(M1 + 7 * PG, 2 * PG) },
	{ "cut: all of one, head of the next", EINVAL, UNMAP(M1, 11 * PG) },
	{ "cut: tail of one, all of the next", EINVAL, UNMAP(M1 + PG, 11 * PG) },
	{ "cut: tail of one, head of the next", EINVAL, UNMAP(M1 + PG, 10 * PG) },
	{ "cut: from 0", EINVAL, UNMAP(0, M1 + PG) },
	{ "cut: to the end", EINVAL, UNMAP(M2 + PG, -(M2 + 2 * PG)) },
};

TEST_F(abi, unmap)
{
	run_rows(&self->env, FD_DOMAIN, KVM_VM2VM_UNMAP, unmap_rows, ARRAY_SIZE(unmap_rows));
}

#define LINK(...) { .link = { __VA_ARGS__ } }
#define LINK_FD(fd) LINK(fd, SLOT_NEW, NEW, FREE, PG)
#define LINK_SLOT(slot) LINK(FD_DOMAIN, slot, NEW, FREE, PG)
#define LINK_AT(...) LINK(FD_DOMAIN, SLOT_NEW, __VA_ARGS__)
#define EXIT KVM_VM2VM_LINK_EXIT
#define WAIT KVM_VM2VM_LINK_WAIT
#define READONLY KVM_VM2VM_LINK_READONLY

static const struct row link_rows[] = {
	{ "flag bit 3", EINVAL, LINK_AT(NEW, FREE, PG, 8) },
	{ "flag bits 4 to 30", EINVAL, LINK_AT(NEW, FREE, PG, 0x7ffffff0) },
	{ "flag bit 31", EINVAL, LINK_AT(NEW, FREE, PG, 1u << 31) },
	{ "exit and wait", EINVAL, LINK_AT(NEW, FREE, PG, EXIT | WAIT) },
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
};

TEST_F(abi, link)
{
	run_rows(&self->env, FD_VM, KVM_VM2VM_LINK, link_rows, ARRAY_SIZE(link_rows));
}

/* What an access that is not approved does: each answer alone, and where it can be. */
TEST_F(abi, link_flags)
{
	static const uint32_t flags[] = {
		0, READONLY, EXIT, EXIT | READONLY, WAIT, WAIT | READONLY,
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

#define UNLINK(...) { .unlink = { __VA_ARGS__ } }

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
}

TEST_F(abi, foreign_process)
{
	static const struct {
		const char *name;
		int err, fd;
		unsigned long nr;
		union args args;
	} rows[] = {
		{ "map", EPERM, FD_DOMAIN, KVM_VM2VM_MAP, MAP(FREE, MEM, PG, RD) },
		{ "map what is", EPERM, FD_DOMAIN, KVM_VM2VM_MAP, MAP(M1, MEM, PG, RD) },
		{ "map no memory", EPERM, FD_DOMAIN, KVM_VM2VM_MAP, MAP(FREE, 0, PG, RD) },
		{ "map badly", EINVAL, FD_DOMAIN, KVM_VM2VM_MAP, MAP(FREE, MEM, PG, 0) },
		{ "unmap", EPERM, FD_DOMAIN, KVM_VM2VM_UNMAP, UNMAP(M1, 8 * PG) },
		{ "unmap nothing", EPERM, FD_DOMAIN, KVM_VM2VM_UNMAP, UNMAP(FREE, PG) },
		{ "unmap a part", EPERM, FD_DOMAIN, KVM_VM2VM_UNMAP, UNMAP(M1, PG) },
		{ "unmap badly", EINVAL, FD_DOMAIN, KVM_VM2VM_UNMAP, UNMAP(FREE, 0) },
		{ "map some", EPERM, FD_DOMAIN, KVM_VM2VM_MAP_BATCH, BATCH(&map_entry, 1) },
		{ "map none", EPERM, FD_DOMAIN, KVM_VM2VM_MAP_BATCH, BATCH(NULL, 0) },
		{ "map some badly", EINVAL, FD_DOMAIN, KVM_VM2VM_MAP_BATCH, BATCH(NULL, 1, 1) },
		{ "unmap some", EPERM, FD_DOMAIN, KVM_VM2VM_UNMAP_BATCH, BATCH(&unmap_entry, 1) },
		{ "unmap none", EPERM, FD_DOMAIN, KVM_VM2VM_UNMAP_BATCH, BATCH(NULL, 0) },
		{ "unmap some badly", EINVAL, FD_DOMAIN, KVM_VM2VM_UNMAP_BATCH, BATCH(NULL, 1, 1) },
		{ "query", EPERM, FD_DOMAIN, KVM_VM2VM_QUERY, QUERY(0) },
		{ "query nothing", EPERM, FD_DOMAIN, KVM_VM2VM_QUERY, QUERY(TOP) },
		{ "query badly", EINVAL, FD_DOMAIN, KVM_VM2VM_QUERY, QUERY(1) },
		{ "refuse", EPERM, FD_DOMAIN, KVM_VM2VM_REFUSE, REFUSE(M1, PG) },
		{ "refuse badly", EINVAL, FD_DOMAIN, KVM_VM2VM_REFUSE, REFUSE(M1, 0) },
		{ "create", EIO, FD_VM, KVM_VM2VM_CREATE_DOMAIN, {} },
		{ "create badly", EIO, FD_VM, KVM_VM2VM_CREATE_DOMAIN, { .create = { 4 } } },
		{ "link", EIO, FD_VM, KVM_VM2VM_LINK, LINK_FD(FD_DOMAIN) },
		{ "link nothing", EIO, FD_VM, KVM_VM2VM_LINK, LINK_FD(-1) },
		{ "unlink", EIO, FD_VM, KVM_VM2VM_UNLINK, UNLINK(SLOT_WIN) },
		{ "unlink nothing", EIO, FD_VM, KVM_VM2VM_UNLINK, UNLINK(SLOT_NEW) },
	};
	struct env *e = &self->env;
	int i, r, status;
	pid_t pid;

	unmap_entry.iova = M1;
	unmap_entry.size = 8 * PG;
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		r = in_child(e, rows[i].fd, rows[i].nr, rows[i].args);
		fails(e, rows[i].name, rows[i].err, r);
	}

	fails(e, "read", EPERM, read_in_child(e->domain, 16));
	fails(e, "read much", EPERM, read_in_child(e->domain, 64));
	fails(e, "read too little", EINVAL, read_in_child(e->domain, 15));
	fails(e, "read what has no misses", EINVAL, read_in_child(e->peer, 16));

	/* But who has the descriptor may link it, and that changes nothing here. */
	pid = fork();
	if (!pid)
		_exit(-__vm2vm_link(vm_create_barebones(), e->domain, 1, MEM, M1, PG, 0));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	fails(e, "link to a VM of its own", 0, status);
}

static void owner_gone_rest(struct env *e)
{
	struct kvm_vm2vm_query q;
	struct kvm_vm2vm_miss miss;
	int d = e->domain;
	uint32_t nr = 1;

	fails(e, "map some", ENODEV, __vm2vm_map_batch(d, &map_entry, &nr));
	fails(e, "unmap some", ENODEV, __vm2vm_unmap_batch(d, &unmap_entry, &nr));
	fails(e, "map some at NULL", ENODEV, __vm2vm_map_batch(d, NULL, &nr));
	nr = 0;
	fails(e, "map none", ENODEV, __vm2vm_map_batch(d, NULL, &nr));
	fails(e, "unmap none", ENODEV, __vm2vm_unmap_batch(d, NULL, &nr));
	fails(e, "query", ENODEV, __vm2vm_query(d, 0, &q));
	fails(e, "query nothing", ENODEV, __vm2vm_query(d, TOP, &q));
	fails(e, "query badly", EINVAL, __vm2vm_query(d, 1, &q));
	fails(e, "refuse", ENODEV, __vm2vm_refuse(d, M1, PG, NULL));
	fails(e, "refuse badly", EINVAL, __vm2vm_refuse(d, M1, 0, NULL));
	fails(e, "link, to wait", ENODEV, __vm2vm_link(e->backend, d, SLOT_NEW, NEW, M1, PG, WAIT));
	works(e, "read: the end", 0, read_misses(d, &miss, sizeof(miss)));
	works(e, "read again: the end", 0, read_misses(d, &miss, sizeof(miss)));
	fails(e, "read too little", EINVAL, read_misses(d, &miss, sizeof(miss) - 1));
	fails(e, "read by a stranger", EPERM, read_in_child(d, sizeof(miss)));
	works(e, "poll shows the end", POLLHUP, poll_events(d));
}

TEST_F(abi, owner_gone)
{
	struct env *e = &self->env;
	int vcpu = __vm_ioctl(e->owner, KVM_CREATE_VCPU, NULL);
	union args map = MAP(FREE, MEM, PG, RD), args = map;
	int d = e->domain;

	ASSERT_GE(vcpu, 0);
	works(e, "poll shows nothing", 0, poll_events(d));
	kvm_vm_free(e->owner);
	e->owner = NULL;
	works(e, "a vCPU is left: the end", -ENODEV, __vm2vm_map(d, FREE, MEM, PG, RD));
	works(e, "poll shows the end", POLLHUP, poll_events(d));
	works(e, "close the vCPU", 0, close(vcpu));

	fails(e, "map", ENODEV, __vm2vm_map(d, FREE, MEM, PG, RD));
	fails(e, "map what was", ENODEV, __vm2vm_map(d, M1, MEM, PG, RD));
	fails(e, "map no memory", ENODEV, __vm2vm_map(d, FREE, 0, PG, RD));
	fails(e, "unmap", ENODEV, __vm2vm_unmap(d, M1, 8 * PG, NULL));
	fails(e, "unmap a part", ENODEV, __vm2vm_unmap(d, M1, PG, NULL));
	fails(e, "unmap nothing", ENODEV, __vm2vm_unmap(d, FREE, PG, NULL));
	fails(e, "link", ENODEV, __vm2vm_link(e->backend, d, SLOT_NEW, NEW, M1, PG, 0));
	fails(e, "link, slot in use", ENODEV,
	      __vm2vm_link(e->backend, d, SLOT_WIN, NEW, M1, PG, 0));
	fails(e, "map badly", EINVAL, __vm2vm_map(d, FREE, MEM, PG, 0));
	fails(e, "unmap badly", EINVAL, __vm2vm_unmap(d, M1, 0, NULL));
	fails(e, "link badly", EINVAL, __vm2vm_link(e->backend, d, SLOT_NEW, NEW, M1, PG, 8));
	fails(e, "map at NULL", EFAULT, vm2vm_ioctl(d, KVM_VM2VM_MAP, NULL));
	fails(e, "create", ENOTTY, vm2vm_ioctl(d, KVM_VM2VM_CREATE_DOMAIN, &args));
	fails(e, "map by a stranger", EPERM, in_child(e, FD_DOMAIN, KVM_VM2VM_MAP, map));

	owner_gone_rest(e);
	works(e, "unlink", 0, __vm2vm_unlink(e->backend, SLOT_WIN));
	fails(e, "unlink twice", ENOENT, __vm2vm_unlink(e->backend, SLOT_WIN));
	works(e, "the other direction", 0, __vm2vm_map(e->peer, FREE, MEM, PG, RD));
}

static int set_log(struct env *e, struct kvm_vm *vm, uint32_t flags)
{
	return set_region(vm, SLOT_MEM, flags, MEM, 16 * PG, e->mem);
}

TEST_F(abi, dirty_log)
{
	const uint32_t log = KVM_MEM_LOG_DIRTY_PAGES;
	struct env *e = &self->env;
	struct kvm_vm *vm = make_vm(e->mem);
	int d, copy;

	/* In bitmaps, whenever it is. */
	take_state(e, &e->before);
	works(e, "start to log", 0, set_log(e, e->owner, log));
	works(e, "create while it does", 1, (d = __vm2vm_create_domain(e->owner)) >= 0);
	works(e, "close it", 0, close(d));
	works(e, "log no more", 0, set_log(e, e->owner, 0));

	/* In rings only. */
	vm_enable_cap(vm, KVM_CAP_DIRTY_LOG_RING, 65536);
	take_state(e, &e->before);
	works(e, "link", 0, __vm2vm_link(vm, e->domain, SLOT_WIN, WIN, M1, PG, 0));
	works(e, "a backend may log", 0, set_log(e, vm, log));
	works(e, "link while it does", 0, __vm2vm_link(vm, e->domain, SLOT_NEW, NEW, M1, PG, 0));
	fails(e, "create", EBUSY, __vm2vm_create_domain(vm));
	fails(e, "create, all memory", EBUSY,
	      __vm2vm_create_domain_flags(vm, KVM_VM2VM_DOMAIN_ALL_MEMORY));
	works(e, "log no more", 0, set_log(e, vm, 0));
	d = __vm2vm_create_domain(vm);
	works(e, "create then", 1, d >= 0);
	fails(e, "log again", EBUSY, set_log(e, vm, log));
	fails(e, "read-only", EBUSY, set_region(vm, SLOT_RO, log | KVM_MEM_READONLY, RO,
						4 * PG, e->mem + 24 * PG));
	fails(e, "new memslot", EBUSY,
	      set_region(vm, SLOT_MANY, log, NEW + 64 * PG, PG, e->mem + 60 * PG));
	copy = dup(d);
	works(e, "close one of two", 0, close(d));
	fails(e, "log yet", EBUSY, set_log(e, vm, log));
	works(e, "close the last", 0, close(copy));
	works(e, "log then", 0, set_log(e, vm, log));
	fails(e, "create again", EBUSY, __vm2vm_create_domain(vm));
	works(e, "delete the memslot", 0, set_region(vm, SLOT_MEM, 0, MEM, 0, NULL));
	works(e, "create at last", 1, __vm2vm_create_domain(vm) >= 0);
	kvm_vm_free(vm);
}

/* There is no way to private memory of a domain's owner: it cannot have one. */
TEST_F(abi, private_memory)
{
	struct env *e = &self->env;
	struct kvm_vm2vm_create_domain bad = { .flags = 8 };
	struct kvm_vm *vm;

	if (!(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM)))
		SKIP(return, "no KVM_X86_SW_PROTECTED_VM");

	vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	take_state(e, &e->before);
	fails(e, "create", EOPNOTSUPP, __vm2vm_create_domain(vm));
	fails(e, "create, all memory", EOPNOTSUPP,
	      __vm2vm_create_domain_flags(vm, KVM_VM2VM_DOMAIN_ALL_MEMORY));
	fails(e, "create badly", EINVAL, vm2vm_ioctl(vm->fd, KVM_VM2VM_CREATE_DOMAIN, &bad));
	fails(e, "link", EOPNOTSUPP, __vm2vm_link(vm, e->domain, SLOT_WIN, WIN, M1, PG, 0));
	fails(e, "link badly", EINVAL, __vm2vm_link(vm, e->domain, SLOT_WIN, WIN, M1, 0, 0));
	fails(e, "unlink", ENOENT, __vm2vm_unlink(vm, SLOT_WIN));
	kvm_vm_free(vm);
}

#include "vm2vm_abi2.h"
#include "vm2vm_abi2_batch.h"
#include "vm2vm_abi2_limits.h"

int main(int argc, char **argv)
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_VM2VM));

	count_cases();
	return test_harness_run(argc, argv);
}
