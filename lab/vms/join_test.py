#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""join_test.py: owners that join a backend's network while it runs, and leave it in every way there is, while others
talk. Runs in the lab.

VM2VM_TRIALS is how often one leaves; its default is once in each way.
"""

import contextlib
import json
import os
import random
import re

from links import TOOL, plug, port, unplug
from measure import counts, kernel_threads
from vhost_user import BACKEND_IP, OWNER_IP, Program, Served, interface, late_writes, link_up, make_bridge, ping, wait_until
from vms import check, comment, equal, long_test, main, test

TRIALS = int(os.environ.get("VM2VM_TRIALS") or 6)
OWNERS = 16
# All who come have the same
VISITOR_IP, VISITOR_MAC = "10.7.0.3", "52:54:00:76:32:78"


class Visitor:
	"""An owner that has no card yet. The backend has a place for what serves it."""

	def __init__(self, backend, name):
		self.backend, self.name = backend, name
		self.served = Served("net", name=f"{name}-", mac=VISITOR_MAC)
		self.vm = self.served.owner(*port("p-net", 1), name=name, devices=False)

	def arrive(self):
		"""Its guest boots, while others do something"""
		if not self.vm.running():
			self.vm.start(wait=False)

	def join(self):
		plug(self.backend, self.served.window("net", 0, f",bus=p-{self.name}"))
		self.backend.wait_for(f"{TOOL} -d w-{self.name}-net info", 60)
		nodes = {n["id"]: n["node"] for n in json.loads(self.backend.sh(f"{TOOL} list --json"))}
		self.served.first = int(nodes[f"w-{self.name}-net"].rpartition("/")[2])
		self.program = Program(self.backend, self.served, "net", f"net tap-{self.name}").start()
		self.backend.sh(f"ip link set tap-{self.name} master br0 up")
		self.vm.booted()
		plug(self.vm, self.served.device("net", 0, ",bus=p-net"))
		self.vm.wait_for("grep -l 0x0001 /sys/bus/virtio/devices/*/device", 60)
		link_up(self.vm, VISITOR_IP)
		for ip in BACKEND_IP, OWNER_IP:
			said = ping(self.vm, ip=ip)
			check(" 0% packet loss" in said, f"{self.name}: {said}")
		# Under way when it leaves
		self.vm.run(f"ping -f -w 300 {OWNER_IP} >/dev/null 2>&1 & ping -f -w 300 {BACKEND_IP} >/dev/null 2>&1 &")
		self.backend.run(f"ping -f -w 300 {VISITOR_IP} >/dev/null 2>&1 & echo $! >/run/to-visitor")

	def quiet(self):
		"""The backend has nothing more to say to it"""
		self.backend.run("kill $(cat /run/to-visitor)", check=False)

	def card_goes(self):
		"""The owner's, and what was plugged with it"""
		unplug(self.vm, "d-net")
		self.vm.sh("pkill ping; true")
		equal(late_writes(self.vm), [], "writes to freed pages")
		self.vm.hmp("netdev_del n-net")
		self.vm.hmp("chardev-remove c-net")

	def is_forgotten(self):
		"""By the backend, whichever way it has left"""
		self.quiet()
		self.program.kill("TERM")
		unplug(self.backend, f"w-{self.name}-net")
		equal(len(self.backend.qmp("query-vm2vm-links")), 1, "links of the backend that are left")

	# Ways to leave

	def unplugged(self):
		self.card_goes()
		self.is_forgotten()

	def backend_unplugged(self):
		"""The backend's device first, with its program at work"""
		unplug(self.backend, f"w-{self.name}-net")
		wait_until(lambda: not self.program.alive(), "the program ends when its device goes")
		self.quiet()
		carrier = f"cat /sys/class/net/{interface(self.vm)}/carrier"
		wait_until(lambda: self.vm.run(carrier, check=False).output.strip() == "0", "the owner's card has no carrier")
		self.card_goes()

	def killed(self):
		self.vm.kill()
		self.is_forgotten()

	def crashes(self):
		self.vm.channel.sendall(b"0\0echo c >/proc/sysrq-trigger\0")
		self.vm.wait()
		self.is_forgotten()

	def turns_itself_off(self):
		self.vm.shutdown()
		self.is_forgotten()

	def quits(self):
		self.vm.quit()
		self.is_forgotten()

	WAYS = unplugged, killed, backend_unplugged, crashes, turns_itself_off, quits


def memory():
	"""The kernel's own, of the lab's host, in KiB, by kind"""
	with open("/proc/meminfo", encoding="ascii") as f:
		values = dict(s.split(":") for s in f)
	return {k: int(values[k].split()[0]) for k in ("SUnreclaim", "PageTables", "VmallocUsed", "Percpu", "KernelStack")}


def used(vm):
	"""Descriptors of its QEMU, KiB of its heap; counters of KVM's"""
	proc = f"/proc/{vm.process.pid}"
	with open(f"{proc}/smaps", encoding="ascii") as f:
		heap = re.search(r"\[heap\]\nSize: *(\d+) kB", f.read())
	values = counts(vm)
	return {"descriptors": len(os.listdir(f"{proc}/fd")), "heap": int(heap.group(1)),
		"links": values["vm2vm_links"], "domains": values["vm2vm_domains"]}


@contextlib.contextmanager
def others_talk(owner):
	"""The owner that stays loses nothing meanwhile"""
	owner.run(f"ping -i 0.02 {BACKEND_IP} >/run/pings 2>&1 & echo $! >/run/pings.pid")
	yield
	owner.sh("kill -INT $(cat /run/pings.pid)")
	said = owner.wait_for("grep 'packets transmitted' /run/pings", 30)
	sent, back = map(int, re.match(r"(\d+) packets transmitted, (\d+) received", said).groups())
	comment(f"of the others: {said}")
	# The last one may be under way
	check(sent - back <= 1 and back > 100, f"answers to the owner that stays: {said}")


def come_and_go(trials):
	"""So many leave, after one to compare with"""
	first = Served("net")
	names = "v3", "v4"
	ports = [a for n, name in enumerate(names) for a in port(f"p-{name}", 1 + n)]
	with first.backend(*ports, memory=384, smp=2) as backend:
		make_bridge(backend)
		Program(backend, first, "net", "net tap0").start()
		backend.sh("ip link set tap0 master br0 up")
		owner = first.owner().start()
		link_up(owner)
		ping(owner)
		visitors = [Visitor(backend, name) for name in names]
		before = None
		rng = random.Random(1)
		with others_talk(owner):
			for n in range(trials + 1):
				visitor = visitors[n % 2]
				for v in visitors:
					v.arrive()
				visitor.join()
				# Each way once, and once more at any time
				way = Visitor.WAYS[n % len(Visitor.WAYS)] if n <= len(Visitor.WAYS) else rng.choice(Visitor.WAYS)
				comment(f"{n}: {visitor.name} {way.__name__}")
				way(visitor)
				now = {"owner": used(owner), "backend": used(backend)}
				if not before:
					before = now
				for vm, want in before.items():
					for what in ("descriptors", "links", "domains"):
						equal(now[vm][what], want[what], f"{what} of the {vm}, after {n} have left")
		comment(f"with one that has left: {before}; with {trials} more: {now}")
		for vm, was in before.items():
			check(now[vm]["heap"] - was["heap"] <= 1024, f"KiB of the heap of the {vm}'s QEMU: {was['heap']}, {now[vm]['heap']}")
		equal(late_writes(owner), [], "writes to freed pages")
		backend.sh("pkill vm2vm")
	for vm in owner, *(v.vm for v in visitors):
		vm.kill()
	check(not [t for t in kernel_threads() if t.startswith("vhost")], "the host's kernel has no thread for any of it")


@test
def in_every_way():
	come_and_go(TRIALS)


@long_test
def nothing_is_left_on_the_host():
	"""Of whole rounds, with a backend that goes, too"""
	come_and_go(1)
	before = memory()
	for _ in range(3):
		come_and_go(1)
	after = memory()
	said = f"KiB of the host's kernel: {before}, then {after}"
	comment(said)
	check(sum(after.values()) - sum(before.values()) < 2048, said)


@long_test
def sixteen_owners():
	names = [f"o{n}" for n in range(OWNERS)]
	hub = Served(others=names)
	with hub.backend(memory=768, smp=2) as backend:
		make_bridge(backend)
		owners = []
		for n, name in enumerate(names):
			served = hub.other(name, mac=f"52:54:00:76:33:{n:02x}")
			served.first, served.name = n, f"{name}-"
			Program(backend, served, "net", f"net tap{n}").start()
			backend.sh(f"ip link set tap{n} master br0 up")
			owners.append(served.owner(name=name, memory=192, smp=1).start())
			link_up(owners[-1], f"10.7.0.{10 + n}")
			ping(owners[-1])
		equal(len(backend.qmp("query-vm2vm-links")), OWNERS, "links")
		# A ring of them, all at once
		for n, vm in enumerate(owners):
			vm.run(f"ping -i 0.2 -c 100 10.7.0.{10 + (n + 1) % OWNERS} >/run/pings 2>&1 &")
		for vm in owners:
			said = vm.wait_for("grep 'packets transmitted' /run/pings", 300)
			check("100 received" in said, f"{vm}: {said}")
		cost = [counts(vm)["vm2vm_mapped"] for vm in owners]
		comment(f"pages that each has mapped so far: {min(cost)} to {max(cost)}")
		check(not [t for t in kernel_threads() if t.startswith(("vhost", "vm2vm"))], "the host's kernel has no thread for any of it")
		# They go, one by one, and the others do not notice
		rng = random.Random(1)
		while len(owners) > 1:
			gone = owners.pop(rng.randrange(len(owners)))
			gone.kill()
			said = ping(rng.choice(owners))
			check(" 0% packet loss" in said, f"when {gone} has gone: {said}")
		equal(late_writes(owners[0]), [], "writes to freed pages")


main()
