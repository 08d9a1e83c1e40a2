# SPDX-License-Identifier: GPL-2.0-only
"""hostile.py: an owner that is no VM: its memory, its rings, and what it puts there, right or wrong."""

import ctypes
import fcntl
import mmap
import os
import struct
import time

from bare import MAP, iow
from fronts import PROTOCOL_FEATURES, VERSION_1, Front
from links import (SET_STATUS, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_CALL, SET_VRING_ENABLE, SET_VRING_KICK, SET_VRING_NUM, state,
	u64)

SET_MEMORY, UNMAP, END = iow(0x46, 32), iow(0xf4, 32, read=True), 0xaefd
PAGE = 4096
# Its memory, of which each page is approved by itself; bus and guest-physical addresses are the same
BASE, SIZE = 0x100000, 0x80000
HOLE = BASE + SIZE
# The last page of all may be read only
LOCKED = HOLE - PAGE
NEXT, WRITE, INDIRECT = 1, 2, 4
QUEUE_SIZE = 64
RING_PAGES = 4
BUFFERS = BASE + 0x20000
TABLE = BASE + 0x60000
INDIRECT_DESC, EVENT_IDX = 1 << 28, 1 << 29


class Ring:
	"""A split ring in its memory, as the driver has it"""

	def __init__(self, owner, q, size=QUEUE_SIZE):
		self.owner, self.q, self.size = owner, q, size
		self.desc = BASE + q * RING_PAGES * PAGE
		self.avail, self.used = self.desc + PAGE, self.desc + 2 * PAGE
		self.next = self.seen = 0

	def descriptor(self, index, addr, length, flags=0, following=0, table=None):
		self.owner.write((self.desc if table is None else table) + 16 * index,
			struct.pack("<QIHH", addr % (1 << 64), length, flags, following))

	def offer(self, *heads, idx=None):
		"""Put the heads into the ring, and the index after them, or another one"""
		for head in heads:
			self.owner.write(self.avail + 4 + self.next % QUEUE_SIZE * 2, struct.pack("<H", head))
			self.next = (self.next + 1) % 65536
		self.owner.write(self.avail + 2, struct.pack("<H", self.next if idx is None else idx))

	def chain(self, *segments, head=0):
		"""A good one, of (address, bytes, flags), offered"""
		for n, (addr, length, flags) in enumerate(segments):
			last = n + 1 == len(segments)
			self.descriptor(head + n, addr, length, flags if last else flags | NEXT, 0 if last else head + n + 1)
		self.offer(head)

	def pop(self):
		"""What has been used next: head and bytes, or None"""
		if struct.unpack("<H", self.owner.read(self.used + 2, 2))[0] == self.seen:
			return None
		entry = struct.unpack("<II", self.owner.read(self.used + 4 + self.seen % QUEUE_SIZE * 8, 8))
		self.seen = (self.seen + 1) % 65536
		return entry

	def wait(self, seconds):
		deadline = time.monotonic() + seconds
		while (entry := self.pop()) is None and time.monotonic() < deadline:
			self.owner.called(self.q, 0.05)
		return entry


class Owner(Front):
	"""A peer of a link of role backend, with memory, to the device of this kind"""

	def __init__(self, path, virtio_id, queues, features):
		super().__init__(path)
		self.memory = mmap.mmap(-1, SIZE)
		self.there = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
		# For this there is not much time
		self.hello(features=VERSION_1 | PROTOCOL_FEATURES | features)
		fcntl.ioctl(self.vm, SET_MEMORY, struct.pack("<IIQQQ", 0, 0, BASE, SIZE, self.there))
		for page in range(BASE, HOLE, PAGE):
			self.map(page)
		self.run(kind=virtio_id, queues=queues)
		self.rings = {}

	def map(self, page):
		fcntl.ioctl(self.domain, MAP, struct.pack("<QQQII", page, page, PAGE, 1 if page == LOCKED else 3, 0))

	def unmap(self, page):
		fcntl.ioctl(self.domain, UNMAP, bytearray(struct.pack("<QQIIQ", page, PAGE, 0, 0, 0)))

	def end(self):
		fcntl.ioctl(self.domain, END, 0)

	def write(self, addr, data):
		self.memory[addr - BASE:addr - BASE + len(data)] = data

	def read(self, addr, size):
		return self.memory[addr - BASE:addr - BASE + size]

	def ring(self, q, size=QUEUE_SIZE, base=0, **where):
		"""Begin to use queue q, with its rings elsewhere than they are, perhaps"""
		r = self.rings[q] = Ring(self, q, size)
		desc, avail, used = (where.get(name, getattr(r, name)) for name in ("desc", "avail", "used"))
		self.kicks[q], self.calls[q] = self.keep(os.eventfd(0, os.EFD_NONBLOCK)), self.keep(os.eventfd(0))
		self.send(SET_VRING_NUM, state(q, size))
		self.send(SET_VRING_BASE, state(q, base))
		self.send(SET_VRING_ADDR, struct.pack("<IIQQQQ", q, 0, *(a % (1 << 64) for a in (desc, used, avail)), 0))
		self.send(SET_VRING_KICK, u64(q), fds=[self.kicks[q]])
		self.send(SET_VRING_CALL, u64(q), fds=[self.calls[q]])
		self.send(SET_VRING_ENABLE, state(q, 1))
		return r

	def go(self, *kick):
		"""The driver is ready; kick these queues"""
		self.send(SET_STATUS, u64(15))
		self.sync()
		for q in kick:
			self.kick(q)

	def hung_up(self):
		"""Soon, if at all"""
		self.sock.settimeout(2)
		try:
			return self.closed()
		except TimeoutError:
			return False

	def kick(self, q):
		os.eventfd_write(self.kicks[q], 1)


# ---- What may be wrong with descriptors: name -> (descriptors, heads, index)
#
# A descriptor is (address, bytes, flags, next), one in TABLE has its index plus 1000. They are
# as good for a queue that the device reads from as for one that it writes to: there W is in all.

def _table():
	size, a = QUEUE_SIZE, BUFFERS
	one = {0: (a, 256, 0, 0)}
	yield "head_is_size", one, [size], None
	yield "head_is_far_out", one, [0xffff], None
	yield "index_is_too_far", one, [0], size + 1
	yield "index_is_half_way", one, [0], 0x8000
	yield "index_goes_back", one, [0], 0xffff
	yield "one_head_many_times", one, [0] * size, None
	yield "loop_of_one", {0: (a, 256, NEXT, 0)}, [0], None
	yield "loop_of_two", {0: (a, 256, NEXT, 1), 1: (a, 256, NEXT, 0)}, [0], None
	yield "loop_of_all", {n: (a, 64, NEXT, (n + 1) % size) for n in range(size)}, [0], None
	yield "all_in_one_chain", {n: (a, 64, NEXT * (n + 1 < size), (n + 1) % size) for n in range(size)}, [0], None
	yield "next_is_size", {0: (a, 256, NEXT, size)}, [0], None
	yield "next_is_far_out", {0: (a, 256, NEXT, 0xffff)}, [0], None
	yield "unknown_flags", {0: (a, 256, 0xfff8, 0)}, [0], None
	for name, addr, length in (("length_0", a, 0), ("length_1", a, 1), ("length_11", a, 11), ("length_2g", a, 1 << 31),
			("length_4g", a, 0xffffffff), ("length_of_all", BASE, SIZE), ("address_wraps", -1, 2), ("address_is_last_page", -PAGE, PAGE),
			("address_is_2_63", 1 << 63, 256), ("address_is_behind_window", 1 << 40, 256), ("address_leaves_window", (4 << 30) - 8, 256),
			("address_0", 0, 256), ("in_a_hole", HOLE, 256), ("into_a_hole", LOCKED + PAGE - 100, 256), ("out_of_a_hole", BASE - 100, 256),
			("large_into_a_hole", LOCKED - PAGE, 3 * PAGE), ("read_only_page", LOCKED, 256), ("buffer_is_descriptors", BASE, PAGE),
			("buffer_is_avail_ring", BASE + PAGE, PAGE), ("buffer_is_used_ring", BASE + 2 * PAGE, PAGE)):
		yield name, {0: (addr, length, 0, 0)}, [0], None
	yield "second_in_a_hole", {0: (a, 64, NEXT, 1), 1: (HOLE, 256, 0, 0)}, [0], None
	yield "second_is_4g", {0: (a, 64, NEXT, 1), 1: (a, 0xffffffff, 0, 0)}, [0], None
	yield "many_4g", {n: (a, 0xffffffff, NEXT * (n < 31), n + 1) for n in range(32)}, [0], None
	yield "first_the_other_way", {0: (a, 64, NEXT | WRITE, 1), 1: (a, 256, 0, 0)}, [0], None
	yield "second_the_other_way", {0: (a, 64, NEXT, 1), 1: (a, 256, WRITE, 0)}, [0], None
	inner = {1000: (a, 256, 0, 0)}
	for name, addr, length in (("indirect_of_0", TABLE, 0), ("indirect_of_1", TABLE, 1), ("indirect_of_15", TABLE, 15),
			("indirect_of_17", TABLE, 17), ("indirect_of_4g", TABLE, 0xfffffff0), ("indirect_of_1m", TABLE, 1 << 20),
			("indirect_unaligned", TABLE + 1, 16), ("indirect_in_a_hole", HOLE, 16), ("indirect_into_a_hole", HOLE - 16, 64),
			("indirect_behind_window", 1 << 40, 16), ("indirect_wraps", -16, 32), ("indirect_is_the_ring", BASE, 16 * size)):
		yield name, {0: (addr, length, INDIRECT, 0), **inner}, [0], None
	yield "indirect_and_next", {0: (TABLE, 16, INDIRECT | NEXT, 1), 1: (a, 64, 0, 0), **inner}, [0], None
	yield "indirect_in_indirect", {0: (TABLE, 16, INDIRECT, 0), 1000: (TABLE, 16, INDIRECT, 0)}, [0], None
	yield "indirect_loop", {0: (TABLE, 32, INDIRECT, 0), 1000: (a, 8, NEXT, 1), 1001: (a, 8, NEXT, 0)}, [0], None
	yield "indirect_next_out", {0: (TABLE, 16, INDIRECT, 0), 1000: (a, 8, NEXT, 1)}, [0], None
	yield "indirect_is_full", {0: (TABLE, 16 * 4096, INDIRECT, 0),
		**{1000 + n: (a, 8, NEXT * (n < 4095), n + 1) for n in range(4096)}}, [0], None


def bad_chains(q, writes):
	"""name, function of an Owner: queue q, which the device writes to or reads from"""
	def make(descriptors, heads, idx):
		def begin(owner):
			r = owner.ring(q)
			for n, (addr, length, flags, following) in descriptors.items():
				flags ^= WRITE if writes and not flags & INDIRECT else 0
				r.descriptor(n % 1000, addr, length, flags, following, table=TABLE if n >= 1000 else None)
			r.offer(*heads, idx=idx)
			owner.go(q)
		return begin
	for name, *state_ in _table():
		yield name, make(*state_)


# ---- What may be wrong with the rings

def bad_rings(q):
	def make(**where):
		def begin(owner):
			r = owner.ring(q, **where)
			r.chain((BUFFERS, 256, 0))
			r.chain((BUFFERS, 256, WRITE), head=1)
			owner.go(q)
		return begin
	at = Ring(None, q)
	yield "rings_in_a_hole", make(desc=HOLE, avail=HOLE + PAGE, used=HOLE + 2 * PAGE)
	for name in ("desc", "avail", "used"):
		here = getattr(at, name)
		for what, addr in (("in_a_hole", HOLE), ("into_a_hole", HOLE - 16), ("read_only", LOCKED), ("behind_window", 1 << 40),
				("wraps", -16), ("at_0", 0), ("unaligned", here + 1)):
			yield f"{name}_{what}", make(**{name: addr})
	yield "rings_at_one_place", make(desc=at.desc, avail=at.desc, used=at.desc)
	for size in (0, 1, 3, 32768, 65535):
		yield f"size_{size}", make(size=size)
	for base in (1, QUEUE_SIZE + 1, 0xffff):
		yield f"base_{base}", make(base=base)


# ---- What changes while it is read

def changing(q, request, rounds=200):
	"""request(ring) offers a good one, whose buffers begin at BUFFERS"""
	def around(change):
		def begin(owner):
			r = owner.ring(q)
			owner.go()
			for n in range(rounds):
				request(r)
				owner.kick(q)
				change(owner, r, n)
		return begin

	def flip(pages):
		def change(owner, r, n):
			for page in pages(r):
				owner.unmap(page)
			for page in pages(r):
				owner.map(page)
		return change

	def descriptors(owner, r, n):
		for addr, length, flags in ((HOLE, 256, 0), (BUFFERS, 0xffffffff, WRITE), (TABLE, 0xfffffff0, INDIRECT), (BUFFERS, 64, NEXT)):
			r.descriptor(0, addr, length, flags, 0)

	def index(owner, r, n):
		r.offer(idx=n * 977 % 65536)

	def end(owner, r, n):
		if n == rounds // 2:
			owner.end()

	def kicks(owner, r, n):
		for _ in range(20):
			owner.kick(q)

	yield "buffers_are_unmapped_in_flight", around(flip(lambda r: [BUFFERS, BUFFERS + PAGE]))
	yield "descriptors_are_unmapped_in_flight", around(flip(lambda r: [r.desc]))
	yield "avail_ring_is_unmapped_in_flight", around(flip(lambda r: [r.avail]))
	yield "used_ring_is_unmapped_in_flight", around(flip(lambda r: [r.used]))
	yield "descriptors_change_as_they_are_read", around(descriptors)
	yield "index_runs_away", around(index)
	yield "domain_ends_in_flight", around(end)
	yield "kicks_for_nothing", around(kicks)
