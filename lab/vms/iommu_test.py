#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""iommu_test.py: an intel-iommu and a virtio-iommu whose driver is this test, so that it does what a guest does within
microseconds, one step at a time, or what Linux does not; and links that are told. Runs in the lab.
"""

import contextlib
import struct

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


# The virtio-iommu: registers and a port, its request queue, a request and the answer
VIRTIO_SLOT, COMMON, NOTIFY, PORT = 3, 0xc8000000, 0xc8003000, 0xc000
DESC, AVAIL, USED, REQUEST, TAIL = (0x300000 + n * PAGE for n in range(5))
FEATURE_SELECT, FEATURE, DRIVER_SELECT, DRIVER_FEATURE, STATUS = 0, 4, 8, 0xc, 0x14
QUEUE, QUEUE_SIZE, QUEUE_ENABLE, QUEUE_DESC, QUEUE_AVAIL, QUEUE_USED = 0x16, 0x18, 0x1c, 0x20, 0x28, 0x30
F_INDIRECT, F_EVENT_IDX, F_MAP_UNMAP = 1 << 28, 1 << 29, 1 << 2
# In the upper half
F_VERSION_1, F_ACCESS_PLATFORM = 1 << 0, 1 << 1
ATTACH, MAP, UNMAP = 1, 3, 4
S_OK, S_INVAL, S_RANGE = 0, 4, 5


class Owner(Back):
	"""A device behind an IOMMU, and peers that are told what that maps"""

	def __init__(self, iommu):
		self.paths = [socket_path() for _ in range(3)]
		super().__init__("owner", "-device", iommu, "-object", "rng-builtin,id=r0",
			"-device", f"{OWN_RNG},id=d0,iommu_platform=on,addr={SLOT:#x}")

	def begin(self, setup=False):
		super().begin(setup=False)
		self.peers = contextlib.ExitStack()
		self.pci(SLOT, 4, 6)
		return self

	def __exit__(self, *exc):
		self.peers.close()
		super().__exit__(*exc)

	def q(self, address, value):
		self.qtest("writeq", hex(address), hex(value))

	def common(self, size, offset, value):
		"""A register of the virtio device's that is at COMMON"""
		self.qtest(f"write{size}", hex(COMMON + offset), hex(value))

	def take(self, *features):
		"""As its driver, those of each half"""
		for status in (0, 1, 3):
			self.common("b", STATUS, status)
		for half, bits in enumerate(features):
			self.common("l", DRIVER_SELECT, half)
			self.common("l", DRIVER_FEATURE, bits)
		self.common("b", STATUS, 11)

	def set_up_queue(self, size, desc, avail, used):
		self.common("w", QUEUE, 0)
		self.common("w", QUEUE_SIZE, size)
		for register, address in ((QUEUE_DESC, desc), (QUEUE_AVAIL, avail), (QUEUE_USED, used)):
			self.common("l", register, address)
			self.common("l", register + 4, 0)
		self.common("w", QUEUE_ENABLE, 1)
		self.common("b", STATUS, 15)

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


class Intel(Owner):
	def __init__(self):
		super().__init__("intel-iommu,caching-mode=on,intremap=off")

	def begin(self, setup=False):
		super().begin()
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

	def entry(self, page, rights=3, to=None):
		"""What the guest writes to memory, of which the IOMMU hears nothing yet; rights 0: not mapped; to: another page"""
		self.q(TABLES + 3 * PAGE + (IOVA // PAGE + page) % 512 * 8,
			rights and MEMORY + (page if to is None else to) * PAGE | rights)

	def invalidate(self, page, order=0):
		self.q(REGISTERS + ADDRESS, IOVA + page * PAGE | order)
		self.q(REGISTERS + INVALIDATE, 1 << 63 | 3 << 60 | DOMAIN_ID << 32)

	def invalidate_contexts(self):
		"""All of them, upon which each device's tables are read anew"""
		self.q(REGISTERS + CONTEXT_COMMAND, 1 << 63 | 1 << 61)


class Virtio(Owner):
	"""more: properties of the virtio-iommu; port: kicks go to its port, if it has one"""

	def __init__(self, more="", port=False):
		super().__init__(f"virtio-iommu-pci,boot-bypass=off,addr={VIRTIO_SLOT:#x}{more}")
		self.port = port

	def begin(self, setup=False):
		super().begin()
		for register, value in ((0x18, PORT), (0x20, COMMON), (0x24, 0), (4, 7)):
			self.pci(VIRTIO_SLOT, register, value)
		self.done = 0
		return self

	def offered(self):
		"""The lower half of its features"""
		self.common("l", FEATURE_SELECT, 0)
		return self.qtest("readl", hex(COMMON + FEATURE))

	def drive(self):
		"""As a driver that takes neither of the ring's features"""
		self.take(F_MAP_UNMAP, F_VERSION_1)
		self.set_up_queue(64, DESC, AVAIL, USED)
		equal(self.request(ATTACH, "II4x", SLOT << 3, 0), S_OK, "the status of ATTACH")
		return self

	def request(self, kind, layout, *values):
		"""Of the domain 7: its status"""
		request = struct.pack(f"<B3xI{layout}", kind, DOMAIN_ID, *values)
		self.qtest("write", hex(REQUEST), len(request), "0x" + request.hex())
		self.qtest("writel", hex(TAIL), "0xff")
		descriptors = struct.pack("<QIHHQIHH", REQUEST, len(request), 1, 1, TAIL, 4, 2, 0)
		self.qtest("write", hex(DESC), len(descriptors), "0x" + descriptors.hex())
		self.done += 1
		self.qtest("writew", hex(AVAIL + 2), hex(self.done))
		if self.port:
			self.qtest("outw", hex(PORT), "0x0")
		else:
			self.qtest("writew", hex(NOTIFY), "0x0")
		equal(self.qtest("readw", hex(USED + 2)), self.done, "how many requests are answered when the kick is over")
		return self.qtest("readb", hex(TAIL))

	def map(self, page, count=1):
		start = IOVA + page * PAGE
		return self.request(MAP, "QQQI", start, start + count * PAGE - 1, MEMORY + page * PAGE, 3)

	def unmap(self, page, count=1):
		start = IOVA + page * PAGE
		return self.request(UNMAP, "QQ4x", start, start + count * PAGE - 1)


@test
def pages_one_by_one():
	with Intel() as vm:
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
	with Intel() as vm:
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
	with Intel() as vm:
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


@test
def a_ring_s_pages_are_anywhere():
	"""What QEMU itself reads and writes across the end of a page is continued in the page that the IOMMU has next, not in the
	one that memory has next, which is not the device's. A used entry crosses, and a table of descriptors.
	"""
	moved, stranger = {1: 9, 3: 12}, 0x5a5a5a5a
	desc, avail, buffer, used, table = (IOVA + offset for offset in (0, 0x100, 0x200, PAGE - 8, 3 * PAGE - 8))
	with Intel() as vm:
		for register, value in ((0x20, COMMON), (0x24, 0), (4, 6)):
			vm.pci(SLOT, register, value)
		for page in range(4):
			vm.entry(page, to=moved.get(page))
			vm.invalidate(page)
			vm.qtest("writel", hex(MEMORY + page * PAGE), hex(stranger))
		for address, words in ((MEMORY, struct.pack("<QIHH", table, 16, 4, 0)), (MEMORY + 3 * PAGE - 8, struct.pack("<Q", buffer)),
				(MEMORY + moved[3] * PAGE, struct.pack("<IHH", 64, 2, 0))):
			vm.qtest("write", hex(address), len(words), "0x" + words.hex())
		vm.take(F_INDIRECT, F_VERSION_1 | F_ACCESS_PLATFORM)
		vm.set_up_queue(8, desc, avail, used)
		vm.qtest("writew", hex(MEMORY + avail - IOVA + 2), "1")
		vm.qtest("writew", hex(NOTIFY), "0")
		vm.wait("the request is answered", lambda: vm.qtest("readw", hex(MEMORY + used - IOVA + 2)) == 1)
		equal(vm.qtest("readl", hex(MEMORY + PAGE)), stranger, "the page that is behind the ring's in memory")
		equal(vm.qtest("readl", hex(MEMORY + moved[1] * PAGE)), 64, "how long the answer is")


def requests(vm):
	"""MAP and UNMAP, of one mapping, of several, and of a part of one"""
	vm.add_link(0)
	for page, count in ((0, 1), (1, 1), (2, 1), (4, 2), (8, 1)):
		equal(vm.map(page, count), S_OK, "the status of MAP")
	equal(vm.map(5), S_INVAL, "the status of MAP where something is")
	equal(vm.approved(0), {0, 1, 2, 4, 5, 8}, "what was mapped")
	equal(vm.unmap(1), S_OK, "the status of UNMAP")
	equal(vm.approved(0), {0, 2, 4, 5, 8}, "after one in the middle was unmapped")
	equal(vm.unmap(5), S_RANGE, "the status of UNMAP of a half")
	equal(vm.approved(0), {0, 2, 4, 5, 8}, "when it was refused")
	equal(vm.unmap(0, 6), S_OK, "the status of UNMAP of three at once")
	equal(vm.approved(0), {8}, "when they are gone")
	for start, count in ((8, 8), (0, 9)):
		equal(vm.map(8), S_OK if start == 0 else S_INVAL, "the status of MAP")
		equal(vm.unmap(start, count), S_OK, "the status of UNMAP of more than is mapped")
		equal(vm.approved(0), set(), "then")


@test
def requests_to_a_virtio_iommu():
	with Virtio() as vm:
		requests(vm.drive())


@test
def less_than_a_page():
	"""Is not approved, and when it is unmapped there is nothing to revoke. Nor is the page beside it."""
	half = IOVA + PAGE, IOVA + PAGE + PAGE // 2 - 1
	with Virtio() as vm:
		vm.drive().add_link(0)
		equal(vm.map(0), S_OK, "the status of MAP")
		equal(vm.request(MAP, "QQQI", *half, MEMORY + PAGE, 3), S_OK, "the status of MAP of half a page")
		equal(vm.approved(0), {0}, "what was mapped as a whole")
		equal(vm.request(UNMAP, "QQ4x", *half), S_OK, "the status of UNMAP of half a page")
		equal(vm.approved(0), {0}, "then")


@test
def requests_by_a_port():
	"""Which KVM need not decode an instruction for"""
	with Virtio(",modern-pio-notify=on", port=True) as vm:
		requests(vm.drive())


@test
def the_ring_s_features_are_what_was_asked_for():
	for more, features in (("", F_INDIRECT | F_EVENT_IDX), (",indirect_desc=off", F_EVENT_IDX), (",event_idx=off", F_INDIRECT),
			(",indirect_desc=off,event_idx=off", 0)):
		with Virtio(more) as vm:
			equal(vm.offered() & (F_INDIRECT | F_EVENT_IDX), features, f"the ring's features{more}")


main()
