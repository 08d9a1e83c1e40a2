#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""iommu_test.py: an intel-iommu whose driver is this test, so that it does what a guest does within microseconds,
one step at a time; and links that are told. Runs in the lab.
"""

import contextlib

from bare import Backend
from fronts import Back, socket_path
from links import OWN_RNG, PAGE, link, pages
from vms import check, equal, main, test

REGISTERS = 0xfed90000
COMMAND, ROOT_TABLE, CONTEXT_COMMAND, ADDRESS, INVALIDATE = 0x18, 0x20, 0x28, 0xf0, 0xf8
ENABLE, SET_ROOT_TABLE = 1 << 31, 1 << 30
ROOT, CONTEXT, TABLES = 0x200000, 0x210000, 0x220000
SLOT, DOMAIN_ID = 5, 7
# What is mapped: bus address, in one table of the last level, and memory
IOVA, MEMORY = 0xff000000, 0x1000000
EVERYTHING = {"base": 0, "size": 1 << 40}


class Owner(Back):
	"""A device behind an intel-iommu, and peers that are told what it maps"""

	def __init__(self):
		self.paths = [socket_path() for _ in range(3)]
		super().__init__("owner", "-device", "intel-iommu,caching-mode=on,intremap=off", "-object", "rng-builtin,id=r0",
			"-device", f"{OWN_RNG},id=d0,iommu_platform=on,addr={SLOT:#x}")

	def begin(self, setup=False):
		super().begin(setup=False)
		self.peers = contextlib.ExitStack()
		self.pci(SLOT, 4, 6)
		self.q(ROOT, CONTEXT | 1)
		# 4 levels, which are read for it and for no other device
		self.q(CONTEXT + (SLOT << 3) * 16, TABLES | 1)
		self.q(CONTEXT + (SLOT << 3) * 16 + 8, 2 | DOMAIN_ID << 8)
		for level, shift in enumerate((39, 30, 21)):
			self.q(TABLES + level * PAGE + (IOVA >> shift & 511) * 8, TABLES + (level + 1) * PAGE | 3)
		self.q(REGISTERS + ROOT_TABLE, ROOT)
		self.qtest("writel", hex(REGISTERS + COMMAND), hex(SET_ROOT_TABLE))
		self.qtest("writel", hex(REGISTERS + COMMAND), hex(ENABLE))
		return self

	def __exit__(self, *exc):
		self.peers.close()
		super().__exit__(*exc)

	def q(self, address, value):
		self.qtest("writeq", hex(address), hex(value))

	def entry(self, page, rights=3):
		"""What the guest writes to memory, of which the IOMMU hears nothing yet; rights 0: not mapped"""
		self.q(TABLES + 3 * PAGE + (IOVA // PAGE + page) % 512 * 8, rights and MEMORY + page * PAGE | rights)

	def invalidate(self, page, order=0):
		self.q(REGISTERS + ADDRESS, IOVA + page * PAGE | order)
		self.q(REGISTERS + INVALIDATE, 1 << 63 | 3 << 60 | DOMAIN_ID << 32)

	def invalidate_contexts(self):
		"""All of them, upon which each device's tables are read anew"""
		self.q(REGISTERS + CONTEXT_COMMAND, 1 << 63 | 1 << 61)

	def add_link(self, n):
		"""One more who is told, and has a peer"""
		self.qmp("chardev-add", id=f"c{n}", backend={"type": "socket", "data": {
			"addr": {"type": "unix", "data": {"path": self.paths[n]}}, "server": True, "wait": False}})
		self.qmp("object-add", **{"qom-type": "vm2vm-link"}, id=f"l{n}", role="owner", chardev=f"c{n}", device="d0")
		self.peers.enter_context(contextlib.closing(Backend(self.paths[n]).answers()))
		self.wait(f"l{n} is connected", lambda: link(self, f"l{n}")["connected"])

	def del_link(self, n):
		self.qmp("object-del", id=f"l{n}")
		self.qmp("chardev-remove", id=f"c{n}")

	def approved(self, n):
		"""Pages, counted from IOVA"""
		mappings = self.qmp("x-query-vm2vm-mappings", id=f"l{n}")
		return {p - IOVA // PAGE for p in pages(mappings["approved"], **EVERYTHING)}


@test
def pages_one_by_one():
	with Owner() as vm:
		vm.add_link(0)
		equal(vm.approved(0), set(), "before anything is mapped")
		for page in (0, 5, 6):
			vm.entry(page)
			equal(page in vm.approved(0), False, "before it is told")
			vm.invalidate(page)
		equal(vm.approved(0), {0, 5, 6}, "after it was told")
		for page in (0, 5, 6):
			vm.entry(page, 0)
		vm.invalidate(4, order=2)
		equal(vm.approved(0), {0}, "after it was told of four")
		vm.invalidate_contexts()
		equal(vm.approved(0), set(), "after it was told of everything")


@test
def somebody_comes_as_a_page_is_unmapped():
	"""Of which the IOMMU is not told yet: who was there hears of it when it is."""
	with Owner() as vm:
		vm.add_link(0)
		for page in range(4):
			vm.entry(page)
			vm.invalidate(page)
		vm.entry(1, 0)
		vm.add_link(1)
		equal(vm.approved(1), {0, 1, 2, 3}, "what the second is told: as the IOMMU has it")
		vm.invalidate(1)
		for n in (0, 1):
			equal(vm.approved(n), {0, 2, 3}, f"what link {n} has, when the page was invalidated")
		# The same as one of them goes, and comes back
		vm.entry(2, 0)
		vm.del_link(1)
		vm.add_link(2)
		vm.invalidate(2)
		for n in (0, 2):
			equal(vm.approved(n), {0, 3}, f"what link {n} has, when the next was invalidated")
		vm.entry(0, 0)
		vm.invalidate_contexts()
		for n in (0, 2):
			equal(vm.approved(n), {3}, f"what link {n} has, when all was read anew")


@test
def somebody_comes_as_a_page_is_mapped():
	"""Of which the IOMMU is not told yet: when it is, both hear of it."""
	with Owner() as vm:
		vm.add_link(0)
		vm.entry(0)
		vm.invalidate(0)
		vm.entry(1)
		vm.add_link(1)
		equal(vm.approved(0), {0}, "what the first has")
		check(vm.approved(1) <= {0, 1}, "what the second has")
		vm.invalidate(1)
		for n in (0, 1):
			equal(vm.approved(n), {0, 1}, f"what link {n} has")


main()
