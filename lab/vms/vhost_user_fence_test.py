#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""vhost_user_fence_test.py: what a backend's guest began before its peer's device was stopped or
reset never lands in the owner's memory; and holes harm nobody. Runs in the lab.

VM2VM_TRIALS is how often what is repeated is; its default is for a quick run.
"""

import contextlib
import os
import random
import struct
import time

from links import TOOL
from vhost_user import Program, Served, driver, late_writes, rebind, wait_until
from vms import check, comment, equal, main, of_qemu, test

TRIALS = int(os.environ.get("VM2VM_TRIALS") or 3)
RNG = 4


def words(vm, iova, count=1):
	"""16-bit words in the owner's memory, as the backend's guest sees them"""
	return [int(w) for w in vm.sh(f"{TOOL} read -r {iova:#x} {2 * count} | od -An -v -w2 -tu2").split()]


def number(vm, name):
	line = next(s for s in vm.sh(f"{TOOL} info").splitlines() if s.startswith(name + " "))
	return int(line.split()[1], 0)


class Held:
	"""A request that the program has not seen yet, because it sleeps"""

	def __init__(self, owner, backend, program):
		program.signal("STOP")
		owner.run("dd if=/dev/hwrng bs=64 count=4 iflag=fullblock status=none >/run/bytes & echo $! >/run/dd")
		self.used = number(backend, "queue0.used")
		self.avail = number(backend, "queue0.avail")
		self.size = number(backend, "queue0.size")
		desc = number(backend, "queue0.desc")
		for _ in range(100):
			self.index = words(backend, self.used + 2)[0]
			if words(backend, self.avail + 2)[0] != self.index:
				break
			time.sleep(0.1)
		check(words(backend, self.avail + 2)[0] != self.index, "the owner's driver waits for a buffer")
		time.sleep(0.5)
		self.head = words(backend, self.avail + 4 + self.index % self.size * 2)[0]
		text = backend.sh(f"{TOOL} read -r {desc + 16 * self.head:#x} 12 | od -An -v -tx1").replace(" ", "")
		self.address, self.length = struct.unpack("<QI", bytes.fromhex(text))

	def complete(self, vm, ring=True):
		"""Used element, index and doorbell, as a program does that had it in hand"""
		element = struct.pack("<II", self.head, self.length).hex()
		index = struct.pack("<H", (self.index + 1) & 0xffff).hex()
		vm.sh(f"{TOOL} write {self.used + 4 + self.index % self.size * 8:#x} {element}; "
			f"{TOOL} write {self.used + 2:#x} {index}" + (f"; {TOOL} ring 0" if ring else ""))


def interrupts(vm):
	"""Those of the owner's device"""
	return int(vm.sh("awk '/virtio[0-9]*-input/ { for (i = 2; $i ~ /^[0-9]+$/; i++) n += $i } END { print n + 0 }' /proc/interrupts"))


@contextlib.contextmanager
def entropy(**how):
	"""The owner reads from its source; both and the program"""
	served = Served("rng", **how)
	with served.owner() as owner, served.backend() as backend:
		program = Program(backend, served, "rng", "rng -s 1").start()
		owner.sh("dd if=/dev/hwrng of=/dev/null bs=64 count=2 iflag=fullblock status=none")
		yield owner, backend, program


@test
def stop_in_the_middle_of_a_copy():
	"""The data vanishes as the owner is stopped; then the rest of the request must vanish, too."""
	with entropy() as (owner, backend, program):
		for _ in range(TRIALS):
			held = Held(owner, backend, program)
			# Some the driver had already
			before = owner.sh("stat -c %s /run/bytes")
			epoch = number(backend, "epoch")
			owner.qmp("stop")
			backend.sh(f"{TOOL} write {held.address:#x} {'a5' * 16}")
			owner.qmp("cont")
			check(number(backend, "epoch") != epoch, "it is another epoch")
			check(not number(backend, "state") & 2, "nothing is seen before it is acknowledged")
			held.complete(backend)
			time.sleep(0.5)
			equal(owner.sh("stat -c %s /run/bytes"), before, "bytes that the owner's driver has taken")
			program.signal("CONT")
			owner.wait_for("! kill -0 $(cat /run/dd)", 60)
			equal(owner.sh("stat -c %s /run/bytes"), "256", "bytes in the end")
			check("a5 a5 a5 a5 a5 a5 a5 a5" not in owner.sh("od -An -v -tx1 /run/bytes"), "of the program's own")
		equal(program.said().strip(), "ready", "complaints of the program")
		equal(late_writes(owner), [], "writes to freed pages")


@test
@of_qemu
def reset_in_the_middle_of_a_copy():
	"""The driver lets go of the device: what its buffers were is its own again."""
	with entropy() as (owner, backend, program):
		for _ in range(TRIALS):
			held = Held(owner, backend, program)
			name, path = driver(owner, RNG)
			owner.sh(f"kill $(cat /run/dd); echo {name} >{path}/unbind")
			backend.sh(f"{TOOL} write {held.address:#x} {'5a' * 64}")
			held.complete(backend)
			equal(late_writes(owner), [], "writes to freed pages")
			owner.sh(f"echo {name} >{path}/bind")
			held.complete(backend)
			program.signal("CONT")
			equal(owner.sh("timeout 60 dd if=/dev/hwrng bs=64 count=2 iflag=fullblock status=none | wc -c", 90),
				"128", "bytes")
		equal(late_writes(owner), [], "writes to freed pages")


@test
@of_qemu
def used_and_not_told():
	"""The owner stops, or the program is killed, after the used index and before the doorbell: its
	driver hears of it from QEMU."""
	with entropy() as (owner, backend, program):
		for killed in (False, True):
			held = Held(owner, backend, program)
			before = interrupts(owner)
			held.complete(backend, ring=False)
			time.sleep(0.5)
			equal(interrupts(owner), before, "interrupts")
			if killed:
				program.kill()
			else:
				owner.qmp("stop")
				owner.qmp("cont")
			wait_until(lambda: interrupts(owner) > before, "the driver is interrupted", 20)
			if killed:
				program.start()
			else:
				program.signal("CONT")
			owner.wait_for("! kill -0 $(cat /run/dd)", 60)
			equal(owner.sh("stat -c %s /run/bytes"), "256", "bytes in the end")
		equal(late_writes(owner), [], "writes to freed pages")


@test
@of_qemu
def the_canary_sings():
	"""What the other tests look for is found: a write to a page that the owner's guest has freed"""
	with entropy(iommu=None, bypass=True) as (owner, backend, _):
		equal(late_writes(owner), [], "writes to freed pages, before")
		# Several, as of the last tenth of its memory none is taken
		written = 0
		for page in range(64 << 20, 192 << 20, 1 << 20):
			if written < 8 and backend.sh(f"{TOOL} read {page:#x} 64").count(" aa") == 64:
				backend.sh(f"{TOOL} write {page + 100:#x} 00112233")
				written += 1
		check(written, "the owner has a free page")
		check(late_writes(owner), "a write to a freed page is found")


@test
def holes_harm_nobody():
	"""Instructions that KVM does not emulate"""
	served = Served("rng")
	with served.backend() as backend:
		backend.sh(f"{TOOL} info")
		for suffix in ("", "_wc") if "resource2_wc" in backend.sh("ls /sys/bus/pci/devices/0000:00:05.0") else ("",):
			file = f"/sys/bus/pci/devices/0000:00:05.0/resource2{suffix}"
			said = backend.run(f"hole {file} 0x1000", check=False)
			equal(said.status, 0, f"on {file}: {said.output}")


@test
@of_qemu
def stop_and_cont_under_load():
	served = Served("rng")
	with served.owner() as owner, served.backend() as backend:
		program = Program(backend, served, "rng", "rng").start()
		owner.run("(while :; do dd if=/dev/hwrng bs=64 count=1 iflag=fullblock status=none; done) >/run/data & echo $! >/run/reader")
		time.sleep(1)
		for _ in range(TRIALS * 10):
			owner.qmp("stop")
			time.sleep(random.random() * 0.01)
			owner.qmp("cont")
			time.sleep(random.random() * 0.03)
		size = int(owner.sh("stat -c %s /run/data"))
		owner.wait_for(f"[ $(stat -c %s /run/data) -gt {size + 640} ]", 60)
		owner.sh("kill $(cat /run/reader)")
		dump = owner.sh("od -An -v -tx8 -w8 /run/data", 120).split()
		equal(len(dump) - len(set(dump)), 0, f"of {len(dump)} words, those that came more than once")
		check(program.alive(), f"the backend's program ended: {program.said()}")
		equal(program.said().strip(), "ready", "complaints of the program")
		rebind(owner, RNG)
		equal(owner.sh("timeout 60 dd if=/dev/hwrng bs=64 count=2 iflag=fullblock status=none | wc -c", 90), "128", "bytes")
		comment(f"{len(dump)} words")


main()
