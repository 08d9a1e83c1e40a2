// SPDX-License-Identifier: GPL-2.0
/* vm2vm_abi_test: MAP and UNMAP. */
#include "abi.h"

const struct row map_rows[] = {
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

const unsigned int nr_map_rows = ARRAY_SIZE(map_rows);

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

const struct row unmap_rows[] = {
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

const unsigned int nr_unmap_rows = ARRAY_SIZE(unmap_rows);

TEST_F(abi, unmap)
{
	run_rows(&self->env, FD_DOMAIN, KVM_VM2VM_UNMAP, unmap_rows, ARRAY_SIZE(unmap_rows));
}
