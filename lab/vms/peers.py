# SPDX-License-Identifier: GPL-2.0-only
"""peers.py: peers of a link that talk nonsense, for the tests of either role.

One QEMU is for all cases: after each it has to be as it was before, and a good peer has to be
served.
"""

import contextlib
import os
import random
import re
import socket
import struct
import time

from bare import Before
from links import Peer
from vms import check, comment, equal, shared

SEED = int(os.environ.get("VM2VM_SEED") or 1)
ROUNDS = int(os.environ.get("VM2VM_TRIALS") or 0) * 100 or (200 if os.environ.get("LONG") else 40)


def raw(data):
	return lambda p: p.sock.sendall(data)


def noise(p, rng):
	p.sock.sendall(rng.randbytes(rng.randint(1, 300)))


def shaken(messages):
	"""A good conversation, of which something is changed"""
	def talk(p, rng):
		said = list(messages(p))
		at = rng.randrange(len(said))
		how = rng.randrange(6)
		if how == 0:
			del said[at]
		elif how == 1:
			said.insert(at, said[rng.randrange(len(said))])
		elif how == 2:
			rng.shuffle(said)
		for n, (request, payload, fds, flags) in enumerate(said):
			data = bytearray(struct.pack("<III", request, rng.choice(flags), len(payload)) + payload)
			if n == at and how == 3:
				data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
			elif n == at and how == 4:
				data = data[:rng.randrange(1, len(data))]
			elif n == at and how == 5:
				fds = [p.sock.fileno()] * rng.randrange(4)
			if fds:
				socket.send_fds(p.sock, [bytes(data)], fds)
			else:
				p.sock.sendall(data)
	return talk


class Target:
	"""Whom they talk to"""

	def __init__(self, make, name, path, peer, serves):
		"""make: a machine with the link of this name; path and serves are functions of the machine, peer
		makes one from a path"""
		self.make, self.name, self.path, self.peer, self.serves = make, name, path, peer, serves

	def begin(self):
		vm = shared(self.make)
		return vm, Before(vm)

	def is_as_before(self, vm, before):
		before.again()
		self.serves(vm)
		before.again()

	def dropped(self, talk, said):
		"""Whoever talks so is dropped for this reason, and all is as it was before."""
		vm, before = self.begin()
		peer = self.peer(self.path(vm))
		try:
			try:
				talk(peer)
			except (BrokenPipeError, ConnectionResetError):
				pass
			check(peer.closed(), "it is hung up on")
			event = vm.wait_event("VM2VM_PEER_LOST", 10, id=self.name)
			check(said in event["data"].get("reason", ""), f"the reason is '{said}': {event['data']}")
		finally:
			peer.close()
		before.again()
		lines = before.stderr()
		equal(len(lines), 1, f"lines of QEMU's: {lines}")
		check(lines[0].endswith(f"vm2vm-link '{self.name}': dropping the peer: {event['data']['reason']}"), f"QEMU says so: {lines}")
		self.is_as_before(vm, before)

	def leaves(self, talk):
		"""Whoever goes by himself leaves nothing, either"""
		vm, before = self.begin()
		peer = self.peer(self.path(vm))
		talk(peer)
		peer.close()
		self.is_as_before(vm, before)
		self.nothing_is_said(before)

	def nothing_is_said(self, before):
		# It may have been about to write to him
		said = [s for s in before.stderr() if "it does not take" not in s]
		equal(said, [], "what QEMU says")

	def many(self, talk, guest=None):
		"""Rounds of talk(): QEMU lives, and says at most one line of each; guest goes along, sometimes"""
		vm, before = self.begin()
		rng = random.Random(SEED)
		for n in range(ROUNDS):
			peer = self.peer(self.path(vm))
			try:
				talk(peer, rng)
				if guest and rng.randrange(2):
					guest(vm)
				peer.sock.shutdown(socket.SHUT_WR)
				peer.closed()
			except (BrokenPipeError, ConnectionResetError):
				pass
			except OSError as e:
				raise AssertionError(f"round {n} of seed {SEED}: {e}") from None
			finally:
				peer.close()
		before.again()
		lines = before.stderr()
		other = [s for s in lines if f"vm2vm-link '{self.name}': dropping the peer: " not in s]
		equal(other, [], "what else QEMU says")
		check(len(lines) <= ROUNDS, "a line for each, at most")
		kinds = {re.sub(r"\d\w*", "N", s.split("peer: ")[1]) for s in lines}
		comment(f"seed {SEED}: {len(lines)} of {ROUNDS} dropped, for {len(kinds)} kinds of reasons")
		self.is_as_before(vm, before)

	def come_back_at_once(self, talk):
		"""Each costs a line of the log, or events, whoever hangs up: there are not many of them in a second."""
		vm, before = self.begin()
		start = time.monotonic()
		for _ in range(20):
			with contextlib.closing(Peer(self.path(vm))) as p:
				talk(p)
		seconds = time.monotonic() - start
		check(seconds >= 1.9, f"20 came and went in {seconds:.3f} seconds")
		before.again()
		lines = before.stderr()
		events = [e["event"] for e in vm.events]
		check(len(lines) <= 20, f"lines of QEMU's: {lines}")
		equal(events.count("VM2VM_PEER_LOST"), 20, f"of events: {events}")
		self.is_as_before(vm, before)

	def come_and_go(self):
		"""Who say nothing, one after the other"""
		vm, before = self.begin()
		started = time.monotonic()
		for _ in range(ROUNDS):
			Peer(self.path(vm)).close()
		comment(f"{ROUNDS} in {time.monotonic() - started:.1f} s")
		self.is_as_before(vm, before)
		self.nothing_is_said(before)
