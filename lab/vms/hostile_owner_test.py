#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""hostile_owner_test.py: owners that put into their rings what no driver does, and change it as it
is read. Who serves them goes on, and so does the traffic of another owner beside. Runs in the lab.

Each state is an owner of its own (hostile.py); after it a good one is served by the same program.
"""

import os
import re
import shutil
import struct
import time

from hostile import BUFFERS, EVENT_IDX, INDIRECT_DESC, WRITE, Owner, bad_chains, bad_rings, changing
from vhost_user import STORAGE, SWITCH_TOOLS, Program, Served, Storage, Switch, interface, link_up, make_tap, ping
from vms import Skip, check, comment, equal, long_test, main, test

# Of the states; with LONG=1 it is all of them
EACH = 1 if os.environ.get("LONG") else 4
TAP_IP, BAD_IP, BAD_MAC = "10.9.0.2", "10.9.0.1", bytes.fromhex("525400766601")
HEADER = 12
MRG_RXBUF = 1 << 15


class Kind:
	"""A device of the backend's: which queues there are, and what a good owner does"""
	features = INDIRECT_DESC
	nr_queues = 1
	# Programs that the backend's guest needs
	tools = ()
	# A good owner comes after so many bad ones
	good_after = 1
	# Queues, and whether the device writes to their buffers
	queues = ((0, True),)


class Net(Kind):
	name, virtio_id = "net", 1
	features = MRG_RXBUF | INDIRECT_DESC
	nr_queues = 2
	queues = ((1, False), (0, True))
	good_after = 4

	def serve(self, backend, served):
		"""By vhost-net and a tap of its own, to which somebody sends all the time"""
		program = Program(backend, served, "bad", "net -q 1 bad0").start()
		mac = ":".join(f"{b:02x}" for b in BAD_MAC)
		backend.sh(f"ip addr add {TAP_IP}/24 dev bad0; ip link set bad0 up; ip neigh replace {BAD_IP} lladdr {mac} dev bad0 nud permanent")
		backend.run(f"ping -i 0.01 -w 10000 {BAD_IP} >/dev/null 2>&1 &")
		return program

	def frame(self):
		"""ARP: who has the tap's address?"""
		ours, theirs = (bytes(map(int, ip.split("."))) for ip in (BAD_IP, TAP_IP))
		arp = struct.pack(">HHBBH", 1, 0x800, 6, 4, 1) + BAD_MAC + ours + bytes(6) + theirs
		return bytes(HEADER) + b"\xff" * 6 + BAD_MAC + b"\x08\x06" + arp

	def request(self, r):
		frame = self.frame()
		r.owner.write(BUFFERS, frame)
		r.chain((BUFFERS, len(frame), 0))

	def good(self, owner):
		receive, send = owner.ring(0), owner.ring(1)
		for n in range(8):
			receive.chain((BUFFERS + (n + 1) * 4096, 4096, WRITE), head=n)
		owner.go(0)
		deadline, again = time.monotonic() + 20, 0
		while time.monotonic() < deadline:
			# A tap whose carrier has just come gives no answers for up to a second
			if time.monotonic() > again:
				self.request(send)
				owner.kick(1)
				again = time.monotonic() + 0.3
			entry = receive.wait(0.1)
			if entry is None:
				continue
			at = BUFFERS + (entry[0] + 1) * 4096
			packet = owner.read(at + HEADER, entry[1] - HEADER)
			# An answer
			if packet[12:14] == b"\x08\x06" and packet[20:22] == b"\x00\x02":
				return
			receive.chain((at, 4096, WRITE), head=entry[0])
			owner.kick(0)
		raise AssertionError("no answer to ARP")


class Rng(Kind):
	name, virtio_id = "rng", 4

	def serve(self, backend, served):
		return Program(backend, served, "bad", "rng").start()

	def request(self, r):
		r.chain((BUFFERS, 64, WRITE))

	def good(self, owner):
		r = owner.ring(0)
		self.request(r)
		owner.go(0)
		equal(r.wait(20), (0, 64), "what is used")
		check(owner.read(BUFFERS, 64) != bytes(64), "random bytes")


class Polled(Net):
	"""By a switch that polls, which answers ARP itself"""
	tools = SWITCH_TOOLS
	good_after = 1

	def serve(self, backend, served):
		self.daemon = Switch(backend).start()
		return Program(backend, served, "bad", f"vhost-user {self.daemon.socket}").start()


class Disk(Kind):
	"""By the front-end to a vhost-user back-end in the guest"""
	tools = (STORAGE,)
	name, virtio_id = "blk", 2
	nr_queues = 2
	queues = ((0, False), (0, True))

	def serve(self, backend, served):
		self.daemon = Storage(backend, 4).start()
		return Program(backend, served, "bad", f"vhost-user {self.daemon.socket}").start()

	def request(self, r):
		r.owner.write(BUFFERS, struct.pack("<IIQ", 0, 0, 0))
		r.owner.write(BUFFERS + 8192, b"\xff")
		r.chain((BUFFERS, 16, 0), (BUFFERS + 4096, 512, WRITE), (BUFFERS + 8192, 1, WRITE))

	def good(self, owner):
		r = owner.ring(0)
		self.request(r)
		owner.go(0)
		equal(r.wait(20), (0, 513), "what is used")
		equal(owner.read(BUFFERS + 8192, 1), b"\0", "the status")


def net_headers():
	"""What an owner may write before a frame, and no driver does: flags, type, lengths and offsets"""
	for name, header in (("gso_of_no_size", (0, 1, 54, 0, 0, 0)), ("gso_unknown", (0, 0x7f, 0, 1000, 0, 0)),
			("gso_of_1", (1, 1, 54, 1, 34, 16)), ("header_is_longer", (1, 1, 0xffff, 1000, 34, 16)), ("csum_behind_the_end", (1, 0, 0, 0, 0xffff, 2)),
			("csum_offset_wraps", (1, 0, 0, 0, 34, 0xffff)), ("csum_at_0", (1, 0, 0, 0, 0, 0)), ("udp_fragments", (1, 3, 42, 8, 34, 6)),
			("uso_without_csum", (0, 5, 42, 1000, 34, 6)), ("ecn", (1, 0x81, 54, 1000, 34, 16)), ("all_ones", (255, 255, 65535, 65535, 65535, 65535))):
		def begin(owner, header=header):
			send = owner.ring(1)
			frame = struct.pack("<BBHHHH", *header) + b"\xff\xff" + b"\xff" * 6 + BAD_MAC + b"\x08\x00\x45" + bytes(3000)
			owner.write(BUFFERS, frame)
			for n, size in enumerate((len(frame), 60, HEADER + 14, HEADER, 1)):
				send.chain((BUFFERS, size, 0), head=n)
			owner.go(1)
		yield name, begin


def states(kind):
	for q, writes in kind.queues:
		for make in (bad_chains(q, writes), bad_rings(q), changing(q, kind.request)):
			for name, begin in make:
				yield f"queue {q}{', written' if writes else ''}: {name}", begin
	if kind.name == "net":
		yield from net_headers()


def some_states(kind):
	chosen = list(states(kind))[::EACH]
	comment(f"{len(chosen)} states")
	return chosen


def complaints(vm):
	return [s for s in vm.sh("dmesg").splitlines() if re.search("WARNING|BUG|KASAN|INFO: |possible|Oops|general protection|self-detected stall", s)]


def descriptors(program):
	return int(program.vm.sh(f"ls /proc/$(cat {program.out}.pid)/fd | wc -l"))


def against(kind):
	"""All of them, one after the other, each with a good one behind"""
	served = Served("net", others=("bad",))
	bad = served.windows["bad"]
	missing = [t for t in kind.tools if not t.startswith("/") and not shutil.which(t)]
	if missing:
		raise Skip(f"there is no {missing[0]}")
	with served.backend(memory=1024, smp=2, tools=kind.tools) as backend:
		make_tap(backend)
		beside = Program(backend, served, "net", "net tap0").start()
		program = kind.serve(backend, served)
		with served.owner() as owner:
			link_up(owner)
			ping(owner)
			owner.run("ping -i 0.2 -w 10000 10.7.0.2 >/run/beside 2>&1 & echo $! >/run/beside.pid")
			serves(bad, kind)
			before, number = descriptors(program), 0
			for name, begin in some_states(kind):
				for features in (kind.features, kind.features | EVENT_IDX) if number % 8 == 0 else (kind.features,):
					try:
						attempt(bad, kind, begin, features)
						if number % kind.good_after == 0:
							serves(bad, kind)
						check(program.alive(), f"the program ended: {program.said()}")
					except Exception as e:
						raise AssertionError(f"{name}: {e!r}; the program: {program.said()[-500:]}") from e
				number += 1
			serves(bad, kind)
			equal(complaints(backend), [], "complaints of the backend's kernel")
			equal(descriptors(program), before, "descriptors of the program")
			check(beside.alive(), beside.said())
			equal(beside.said().strip(), "ready", "complaints of the one beside")
			owner.sh("p=$(cat /run/beside.pid); kill -INT $p; while kill -0 $p 2>/dev/null; do sleep 0.1; done")
			said = owner.sh("tail -n 3 /run/beside")
			sent, received = map(int, re.search(r"(\d+) packets transmitted, (\d+) received", said).groups())
			# The last one was under way
			check(received >= sent - 1, f"who is served beside: {said}")
			comment(said.splitlines()[-1])
			ping(owner)
			check(interface(owner), "the card")


def arrive(path, kind, features):
	"""An owner. What the one before has broken may have to be begun anew first."""
	deadline = time.monotonic() + 20
	while True:
		try:
			return Owner(path, kind.virtio_id, kind.nr_queues, features)
		except (AssertionError, ConnectionError):
			if time.monotonic() > deadline:
				raise
			time.sleep(0.2)


def attempt(path, kind, begin, features):
	"""An owner that begins so, or is hung up on. Returns whether it is not."""
	owner = arrive(path, kind, features)
	try:
		begin(owner)
		owner.sync()
		if begin != kind.good:
			time.sleep(0.02)
		return True
	except (AssertionError, ConnectionError):
		# Not in time is not at all
		if not owner.hung_up():
			raise
		return False
	finally:
		owner.close()


def serves(path, kind):
	"""A good owner is served. A back-end that ends of what the one before did is begun anew, meanwhile."""
	for _ in range(5):
		if attempt(path, kind, kind.good, kind.features):
			return
	raise AssertionError("a good owner is hung up on, again and again")


@test
def vhost_net():
	against(Net())


@test
def our_rng():
	against(Rng())


@long_test
def dpdk_testpmd():
	against(Polled())


@long_test
def storage_daemon():
	against(Disk())


main()
