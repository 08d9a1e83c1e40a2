#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""demo.py: two QEMU VMs with Linux guests, and a link between them. Runs in the lab."""

import re
import sys
import time

from links import BASE, PAGE, SIZE, TOOL, Pair, connected, link, pages, scan
from vms import VMError

started = time.monotonic()


def say(text):
	for line in str(text).splitlines():
		print(f"[{time.monotonic() - started:5.1f}s] {line}", flush=True)


def must(condition, what):
	say(f"  {'yes' if condition else 'NO'}: {what}")
	if not condition:
		raise VMError(what)


def interrupts(vm, which):
	"""How many the guest has counted, of a device"""
	lines = [x for x in vm.sh("cat /proc/interrupts").splitlines() if re.search(which, x)]
	return sum(int(n) for x in lines for n in re.findall(r"\s(\d+)\b", x.split(":")[1])[:1])


def demo():
	pair = Pair()
	say("two VMs: the owner has a virtio-rng device behind a virtio-iommu,")
	say("         the backend a vm2vm-pci device with a window of 16 MiB to it")
	owner, backend = pair.owner(), pair.backend()
	say("$ " + " ".join(a if " " not in a else f"'{a}'" for a in owner.args))
	say("$ " + " ".join(backend.args))
	owner.start(wait=False)
	backend.start(wait=False)
	owner.booted()
	backend.booted()
	connected(backend)
	say(f"both have booted; they are connected: {link(backend)['peers']} peer")

	say("1. the owner's driver has mapped its rings and a buffer; the backend's guest scans its window")
	found = scan(backend)
	say(backend.sh(f"{TOOL} scan"))
	mappings = owner.qmp("x-query-vm2vm-mappings", id="l0")
	must(found and found == pages(mappings["translated"]),
		f"these {len(found)} pages of {SIZE // PAGE} are what the owner's IOMMU maps, no more and no less")

	queue = link(backend)["queues"][0]
	say("2. the owner's virtqueue, read live from the backend's guest")
	live = backend.sh(f"{TOOL} queue 0 | grep -E '^(size|desc|avail.idx|used.idx|desc0) '")
	say(live)
	must("avail.idx 1" in live, "the driver has made one buffer available, and waits")

	say("3. what is not approved reads as all-ones")
	hole = next(p for p in range(BASE // PAGE, (BASE + SIZE) // PAGE) if p not in found) * PAGE
	read = backend.sh(f"{TOOL} read {hole:#x} 16")
	say(read)
	must(read.count("ff") >= 16, f"bus address {hole:#x} reads as all-ones")
	must(link(backend)["backend"]["refused-reads"] > 0, "QEMU has counted it")

	say("4. the backend's guest serves the queue: it fills the owner's buffers in place")
	before = interrupts(owner, "virtio1-input")
	backend.run(f"{TOOL} serve-rng -s 7 60 4 >/run/served 2>&1 &")
	backend.wait_for("grep -q ready /run/served", 60)
	data = owner.sh("timeout 60 dd if=/dev/hwrng bs=16 count=4 status=none | od -An -tx1")
	say(data)
	must(len(data.split()) >= 64, "the owner's /dev/hwrng gives bytes that the backend's guest has made")
	say(backend.wait_for("grep served /run/served", 60))
	rings = interrupts(owner, "virtio1-input") - before
	must(rings > 0, f"doorbell there: the owner's driver got {rings} interrupts")
	slow = link(backend)["backend"]["slow-doorbells"]
	must(slow == 0, "none of them by way of QEMU")
	say("   doorbell back: the tool slept until the owner's kicks came as MSI-X")

	say("5. the owner's driver lets go of the device")
	owner.sh("echo virtio1 >/sys/bus/virtio/drivers/virtio_rng/unbind")
	left = scan(backend)
	mapped = pages(owner.qmp("x-query-vm2vm-mappings", id="l0")["translated"])
	must(not {queue[p] // PAGE for p in ("desc", "avail", "used")} & left, "the rings are not seen any more")
	must(left == mapped, f"what is seen, {len(left)} pages, is what the IOMMU still maps")
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
