#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""modes_test.py: what a stock guest's card costs, and what of the guest is approved, by how the guest
uses its IOMMU. The card is served by the vhost-net of the guest next door. Runs in the lab.
"""

import contextlib
import os
import random
import struct
import time

from links import BASE, PAGE, TOOL, pages, scan_both
from measure import cost, packets, serve_streams, stream
from vhost_user import BACKEND_IP, Program, Served, late_writes, link_up, make_bridge, ping, wait_until
from vms import check, comment, equal, long_test, main, test

# Of the owner: how its device is approved, and what is on its kernel's command line
MODES = {
	"strict": {},
	"lazy": {"strict": False},
	# All of its memory is approved, once; what the device is given is copied to a part of it, and from there
	"static": {"bypass": True, "append": "iommu.passthrough=1 swiotlb=force"},
	"intel, strict": {"iommu": "intel"},
}
SECONDS = 5


@contextlib.contextmanager
def served_card(*, queues=2, **kwargs):
	"""A backend that serves a card by vhost-net in a bridge, and what makes an owner of it in a mode"""
	served = Served("net", queues=queues)
	with served.backend(**kwargs) as backend:
		make_bridge(backend)
		program = Program(backend, served, "net", "net tap0").start()
		backend.sh("ip link set tap0 master br0 up")

		@contextlib.contextmanager
		def owner_in(mode, more=""):
			mode = dict(MODES[mode])
			append = mode.pop("append", "")
			here = Served("net", queues=queues, **mode)
			here.paths = served.paths
			with here.owner(*here.device("net", 5, more), devices=False, append=append) as owner:
				link_up(owner)
				ping(owner)
				yield owner
				equal(late_writes(owner), [], "writes to freed pages")
				check(program.alive(), program.said())
		yield backend, owner_in


def bounced(owner):
	"""The most pages that the owner's kernel has had copies in at a time"""
	return int(owner.sh("cat /sys/kernel/debug/swiotlb/io_tlb_used_hiwater"))


class Row:
	"""Of the table: a stream"""

	def __init__(self, owner, backend, option):
		self.one, self.two, self.net = cost(owner, backend, lambda: self.measure(owner, option))
		self.packets = self.net["rx_packets"] + self.net["tx_packets"]

	def measure(self, owner, option):
		self.size, end = stream(owner, option, seconds=SECONDS)
		self.again = end["sum_sent"]["retransmits"]

	def __getitem__(self, name):
		"""A packet"""
		return self.one[f"vm2vm_{name}"] / self.packets

	def __str__(self):
		return (f"{self.packets:9}{(self.net['rx_bytes'] + self.net['tx_bytes']) / 1e6:8.1f}{self['mapped']:9.2f}{self['unmapped']:10.2f}"
			f"{self.one['exits'] / self.packets:11.2f}{self.two['exits'] / self.packets:8.2f}")


HEAD = f"{'':28}{'packets':>9}{'MB':>8}{'mapped':>9}{'unmapped':>10}{'exits VM1':>11}{'VM2':>8}{'ratio':>8}{'again':>7}"


@long_test
def what_each_mode_costs():
	table = {}
	with served_card() as (backend, owner_in):
		serve_streams(backend)
		for mode in MODES:
			with owner_in(mode) as owner:
				# What a driver maps once, it has now
				stream(owner, seconds=1)
				for way, option in (("to VM2", ""), ("from VM2", "-R")):
					table[mode, way] = Row(owner, backend, option)
				if mode == "static":
					check(bounced(owner) > 0, "what the device is given is copied")
					bypassed = owner.qmp("query-vm2vm-links")[0]["owner"]
					equal((bypassed["bypassed"], bypassed["bytes"] >= 200 << 20), (True, True), f"all memory is approved: {bypassed}")
	comment(HEAD)
	for (mode, way), row in table.items():
		comment(f"{f'{mode}, TCP {way}':28}{row}{row.size / table['strict', way].size:8.2f}{row.again:7}")
	for (mode, way), row in table.items():
		what, mapped, unmapped = f"{mode}, {way}", row["mapped"], row["unmapped"]
		check(row.packets > 200, f"{what}: {row.packets} packets")
		if mode == "static":
			equal((mapped, unmapped), (0, 0), f"{what}: mapped and unmapped a packet")
			continue
		# Each packet has a buffer of its own, which is mapped before and not after, but for what is under way as it ends
		check(mapped > 0.9 and unmapped > mapped / 2, f"{what}: {mapped:.2f} mapped a packet, {unmapped:.2f} unmapped")
		check(abs(mapped - unmapped) * row.packets < max(1024, row.packets * mapped / 4), f"{what}: {mapped:.2f} mapped a packet, {unmapped:.2f} unmapped")

	def exits(mode):
		rows = [row for (m, _), row in table.items() if m == mode]
		return sum(r.one["exits"] for r in rows) / sum(r.packets for r in rows)
	check(exits("static") < exits("lazy") < exits("strict"), "the owner exits the less, the less often its IOMMU is told")


# ---- What is approved at one moment

LONG = os.environ.get("LONG")
# At each its QEMU is asked what is approved, and then the owner is stopped to look at its rings
MOMENTS = 1000 if LONG else 40
# What a vCPU may be about to pass on, or has just taken back: a packet, with up to 17 fragments of up to 9 pages
SMP, UNDER_WAY = 2, 20


class Rings:
	"""Of a stopped owner's card: its split rings, without indirect descriptors, in the memory of its QEMU"""

	def __init__(self, owner, backend, approved):
		gpa = {r["iova"] + i: r["gpa"] + i for r in approved for i in range(0, r["size"], PAGE)}
		info = dict(line.split(maxsplit=1) for line in backend.sh(f"{TOOL} info").splitlines())
		found = [[int(info[f"queue{i}.{n}"], 0) for n in ("size", "desc", "avail", "used")] for i in range(4)]
		# The control queue is not the back-end's, but of the same device. Of the others this would stop them, to know where they are.
		path = next(d["path"] for d in owner.qmp("x-query-virtio") if d["name"] == "virtio-net")
		control = owner.qmp("x-query-virtio-queue-status", path=path, queue=4)
		found.append([control[f"vring-{n}"] for n in ("num", "desc", "avail", "used")])
		self.queues = [(i, num, *((a, gpa[a & -PAGE] + a % PAGE) for a in at)) for i, (num, *at) in enumerate(found)]
		with open(f"/proc/{owner.process.pid}/maps", encoding="ascii") as f:
			areas = [[int(x, 16) for x in line.split()[0].split("-")] for line in f]
		self.ram = next(a for a, b in areas if b - a == owner.memory << 20)
		self.memory = open(f"/proc/{owner.process.pid}/mem", "rb", buffering=0)

	def read(self, gpa, size):
		self.memory.seek(self.ram + gpa)
		return self.memory.read(size)

	def pages(self):
		"""Of the rings themselves"""
		found = set()
		for _, num, desc, avail, used in self.queues:
			for (iova, _), size in ((desc, 16 * num), (avail, 6 + 2 * num), (used, 6 + 8 * num)):
				found |= set(range(iova // PAGE, (iova + size - 1) // PAGE + 1))
		return found

	def buffers(self, seen):
		"""Pages of buffers that the back-end has now; and, too, of those that it has given back, as far as the driver
		may not have taken notice yet. It takes notice in their order, so that is so after the last one that is not seen."""
		now, since = set(), set()
		for i, num, desc, avail, used in self.queues:
			table, ring = self.read(desc[1], 16 * num), self.read(avail[1], 4 + 2 * num)
			end, done = struct.unpack_from("<H", ring, 2)[0], struct.unpack("<H", self.read(used[1] + 2, 2))[0]
			check((end - done) & 0xffff <= num, f"queue {i}: available up to {end}, used up to {done}")
			for back in range(1, num + 1):
				n = (end - back) & 0xffff
				chain = self.chain(table, struct.unpack_from("<H", ring, 4 + 2 * (n % num))[0], num)
				if back <= (end - done) & 0xffff:
					now |= chain
				elif not chain or not chain <= seen:
					break
				since |= chain
		return now, since

	@staticmethod
	def chain(table, head, num):
		found = set()
		for _ in range(num):
			address, size, flags, head = struct.unpack_from("<QIHH", table, 16 * (head % num))
			if flags & 4 or not size or size > 1 << 20:
				return set()
			found |= set(range(address // PAGE, (address + size - 1) // PAGE + 1))
			if not flags & 1:
				break
		return found


class Moments:
	"""What was found at many of them"""

	def __init__(self, owner, backend):
		self.owner, self.backend = owner, backend
		self.most = self.most_buffers = self.most_seen = self.total = self.given_back = 0
		self.rings = Rings(owner, backend, self.ask()[0])

	def ask(self):
		"""KVM approves what the IOMMU maps, now"""
		both = self.owner.qmp("x-query-vm2vm-mappings", id="c-net")
		here, there = ({(r["iova"] + i, r["gpa"] + i, r["writable"]) for r in both[k] for i in range(0, r["size"], PAGE)}
			for k in ("approved", "translated"))
		equal(sorted(here ^ there)[:20], [], "what KVM approves and the IOMMU does not map, or the other way round")
		found = {iova // PAGE for iova, _, _ in here}
		equal(found, pages(both["approved"]), "all are where the backend's guest looks")
		self.most_seen = max(self.most_seen, len(found))
		return both["approved"], found

	def freeze(self):
		"""The pages that the backend's guest finds and that are neither of the rings nor under way, while the owner stands
		still. None of what it needs is missing."""
		with self.owner.frozen():
			found, ones = scan_both(self.backend)
			now, since = self.rings.buffers(found | ones)
			# What the backend's guest had taken before it looked, it may have given back since
		known = self.rings.pages() | since
		equal(sorted((self.rings.pages() | now) - found - ones)[:20], [], "pages of the rings and what is in them that are not seen")
		self.most_buffers = max(self.most_buffers, len(since))
		self.given_back = len(since - now)
		left = found - known
		self.most, self.total = max(self.most, len(left)), self.total + len(left)
		return left


# So that all that is under way fits where the backend's guest looks, and is in the rings themselves
SMALL = ",indirect_desc=off,rx_queue_size=256,tx_queue_size=256"
ALL = {"ping": f"ping -f -w 5 {BACKEND_IP}", "iperf3 -c": f"iperf3 -c {BACKEND_IP} -t 20 -w 256K", "iperf3 -R": f"iperf3 -c {BACKEND_IP} -p 5202 -R -t 20 -w 256K"}


@contextlib.contextmanager
def at_random_moments(mode, count, load):
	with served_card(more=f",base={BASE:#x},size=16M") as (backend, owner_in), owner_in(mode, SMALL) as owner:
		moments = Moments(owner, backend)
		equal(moments.freeze(), set(), "pages that are approved before anything is under way")
		for port in (5201, 5202):
			serve_streams(backend, port)
		before = packets(owner)
		for i, command in enumerate(load.values()):
			owner.run(f"(while :; do {command}; sleep 0.1; done) >/dev/null 2>&1 & echo $! >/run/load{i}")
		for n in range(count):
			time.sleep(random.random() / 5)
			moments.ask()
			time.sleep(random.random() / 5)
			left = moments.freeze()
			check(len(left) <= SMP * UNDER_WAY, f"moment {n}: {len(left)} pages are approved that are neither rings nor in flight")
		sent = packets(owner) - before
		comment(f"{mode}, {', '.join(load)}: {count} moments, in {sent['rx_packets'] + sent['tx_packets']} packets: at most {moments.most_seen} pages "
			f"approved, {len(moments.rings.pages())} of rings, at most {moments.most_buffers} of buffers in flight, at most {moments.most} others,"
			f" {moments.total / count:.2f} in the mean")
		owner.sh("kill $(cat /run/load*); pkill iperf3; pkill ping; true")
		yield owner, backend, moments


def quiet(owner):
	before = packets(owner)
	time.sleep(2)
	return not any((packets(owner) - before).values.values())


@test
def only_rings_and_what_is_in_flight():
	with at_random_moments("strict", MOMENTS, ALL) as (owner, backend, moments):
		backend.sh("pkill iperf3; true")
		wait_until(lambda: quiet(owner), "no packet for a while", 300)
		equal(moments.freeze(), set(), "pages that are approved after all that and are neither of rings nor for what may come")
		# Linux looks after what it has sent when most of that is done
		comment(f"{moments.given_back} pages of what was sent are still approved")
		asked, (found, ones) = moments.ask()[1], scan_both(backend)
		equal((sorted(found - asked), sorted(asked - found - ones)), ([], []), "what the backend's guest finds and KVM does not approve, and what not")


main()
