#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""demo.py: the card and the disk of a stock guest, served by the guest next door. Runs in the lab."""

import sys
import time

from links import PAGE, TOOL
from vhost_user import BACKEND_IP, STORAGE, Program, Served, Storage, disk, driver, late_writes, link_up, make_bridge, ping
from vms import VMError

started = time.monotonic()
# Where Linux's DMA API takes bus addresses from: the top of the first 4 GiB
TOP, LENGTH = 0xff000000, 16 << 20


def say(text):
	for line in str(text).splitlines():
		print(f"[{time.monotonic() - started:5.1f}s] {line}", flush=True)


def must(condition, what):
	say(f"  {'yes' if condition else 'NO'}: {what}")
	if not condition:
		raise VMError(what)


def command_line(vm):
	say(f"$ qemu-system-x86_64 ... {' '.join(vm.args)}")


def number(vm, index, name):
	line = next(s for s in vm.sh(f"{TOOL} -n {index} info").splitlines() if s.startswith(name + " "))
	return int(line.split()[1], 0)


def slow_doorbells(vm):
	"""Those that QEMU took: at first, as long as KVM does not have them"""
	return sum(i["backend"]["slow-doorbells"] for i in vm.qmp("query-vm2vm-links"))


def pages(vm, index):
	"""Those that the backend's guest sees at the top of the owner's bus addresses"""
	found = set()
	for line in vm.sh(f"{TOOL} -n {index} scan {TOP:#x} {LENGTH:#x}").splitlines():
		if "all-ones" not in line:
			first, end = (int(x, 16) for x in line.split("-"))
			found |= set(range(first // PAGE, end // PAGE))
	return found


def demo():
	served = Served("net", "blk")
	say("two VMs: the owner is a stock Linux guest, with QEMU's own virtio-net-pci and vhost-user-blk-pci")
	say("         behind a virtio-iommu; the backend has a vm2vm-pci device for each, and serves them")
	owner, backend = served.owner(), served.backend(memory=512, tools=(STORAGE,))
	command_line(owner)
	command_line(backend)
	backend.start()
	make_bridge(backend)
	net = Program(backend, served, "net", "net tap0").start()
	backend.sh("ip link set tap0 master br0 up")
	storage = Storage(backend, 64).start()
	Program(backend, served, "blk", f"vhost-user {storage.socket}").start()
	say("the backend's guest has registered what it serves: a card, by its kernel's vhost-net, in a bridge,")
	say("and a disk, by a qemu-storage-daemon that knows nothing of all this")
	say(backend.sh("vm2vm list"))
	owner.start()

	say("1. the owner's guest has booted, with QEMU's devices and Linux's own drivers")
	link_up(owner)
	ping(owner)
	before = slow_doorbells(backend)
	said = ping(owner, 10)
	say(said)
	must(" 0% packet loss" in said, f"the owner's guest pings {BACKEND_IP}, which is the backend's guest")
	must(number(backend, 0, "queue2.size") > 0, "by two pairs of queues")
	must(slow_doorbells(backend) == before, "no interrupt of its driver went by way of QEMU: doorbells are KVM's")

	say("2. what it sees of the owner's memory")
	seen = pages(backend, 0)
	queue = {p: number(backend, 0, f"queue0.{p}") for p in ("desc", "avail", "used")}
	must({q // PAGE for q in queue.values()} <= seen, f"the rings are among the {len(seen)} pages of {LENGTH // PAGE} there")
	hole = next(p for p in range(TOP // PAGE, (TOP + LENGTH) // PAGE) if p not in seen) * PAGE
	read = backend.sh(f"{TOOL} read {hole:#x} 16")
	say(read)
	must(read.count("ff") >= 16, f"bus address {hole:#x}, which is not approved, reads as all-ones")

	say("3. the disk")
	name = disk(owner)
	say(owner.sh(f"mkfs.ext4 -q {name}; mkdir -p /run/disk; mount {name} /run/disk; "
		"head -c 4000000 /dev/urandom >/run/disk/data; sha256sum </run/disk/data >/run/sum; "
		"umount /run/disk; echo 3 >/proc/sys/vm/drop_caches; "
		f"mount {name} /run/disk; grep /run/disk /proc/mounts", 200))
	must(owner.sh("sha256sum </run/disk/data") == owner.sh("cat /run/sum"), "a file on it is what it was")

	say("4. the backend's program is killed, and started again")
	owner.run(f"ping -i 0.1 -w 30 {BACKEND_IP} >/run/pings 2>&1 &")
	net.kill()
	net.start()
	backend.sh("ip link set tap0 master br0 up")
	must(" 0% packet loss" in ping(owner), "the owner's guest has its card back")

	say("5. the owner's driver lets go of the card")
	device, path = driver(owner, 1)
	owner.sh(f"echo {device} >{path}/unbind")
	left = pages(backend, 0)
	must(not {q // PAGE for q in queue.values()} & left, f"its rings are not seen any more; {len(left)} pages are")
	must(not late_writes(owner), "nothing was written to pages that it had freed")
	say(backend.hmp("info vm2vm").replace("\r", ""))

	owner.kill()
	backend.wait_event("VM2VM_PEER_LOST")
	must(backend.sh("echo alive") == "alive", "the owner is killed, and the backend goes on")


try:
	demo()
except VMError as e:
	print(f"demo: FAILED: {e}")
	sys.exit(1)
print("demo: passed")
