#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""link_test.py: links between QEMU VMs with Linux guests. Runs in the lab.

VM2VM_TRIALS is how often what is repeated is; its default is for a quick run.
"""

import os
import random
import time

from links import (BASE, IOMMUS, OWN_RNG, PAGE, SIZE, TOOL, Pair, connected, hold, let_go, link, pages, refused, same_pages,
	scan, scan_both, seen, unplug)
from vhost_user import Program, Served, wait_until
from vms import VM, VMError, check, comment, equal, long_test, main, migrate, of_qemu, test

TRIALS = int(os.environ.get("VM2VM_TRIALS") or 2)
RNG_DRIVER = "/sys/bus/virtio/drivers/virtio_rng"


def rng(vm):
	"""The driver's name of the device that is served"""
	for line in vm.sh("grep -l 0x0004 /sys/bus/virtio/devices/*/device").splitlines():
		return line.split("/")[-2]
	raise VMError("there is no source of entropy")


def unbind(vm, name):
	vm.sh(f"echo {name} >{RNG_DRIVER}/unbind")


def bind(vm, name):
	vm.sh(f"echo {name} >{RNG_DRIVER}/bind")


def entropy(vm, count=1, timeout=60):
	"""Bytes that the owner's guest gets"""
	return vm.sh(f"timeout {timeout} dd if=/dev/hwrng bs=64 count={count} iflag=fullblock status=none | wc -c", timeout + 30)


def looked_at(owner, backend, unapproved):
	"""The owner's driver comes and goes; returns the pages that the backend's guest sees."""
	equal(backend.sh(f"{TOOL} info | sed -n 's/^unapproved //p'"), unapproved, "what it is told of holes")
	hold(backend)
	seen(owner, backend)
	found = same_pages(owner, backend)
	check(found, "the driver has mapped something")
	# The owner's guest stops using it, and starts again
	name = rng(owner)
	unbind(owner, name)
	# The driver forgets a buffer that is in use, and so does not unmap it
	left = same_pages(owner, backend)
	check(len(left) < len(found), "less is approved without a driver")
	bind(owner, name)
	check(same_pages(owner, backend), "mapped again")
	return found


@test
def window_is_what_the_iommu_maps():
	"""Holes are filled by KVM, or come to QEMU, which counts them."""
	for unapproved in ("fill", "report"):
		pair = Pair(unapproved=unapproved)
		with pair.owner() as owner, pair.backend() as backend:
			equal(scan(backend), set(), "before anybody is registered")
			found = looked_at(owner, backend, unapproved)
			hole = (max(found) + 1) * PAGE
			before = link(backend)["backend"]
			for width in (1, 2, 4, 8):
				read = backend.sh(f"{TOOL} read -r {hole:#x} {width} | od -An -tx1")
				equal(read.split(), ["ff"] * width, f"{width} bytes of a hole")
			backend.sh(f"{TOOL} write {hole:#x} 00112233")
			after = link(backend)["backend"]
			counted = [after[n] - before[n] for n in ("refused-reads", "refused-writes")]
			equal([n > 0 for n in counted], [unapproved == "report"] * 2, f"accesses that made an exit to QEMU: {counted}")
			let_go(backend)
			equal(scan(backend), set(), "when nobody is registered any more")
			wait_until(lambda: not link(owner)["connected"], "the owner is not connected any more")


@test
def doorbells_both_ways():
	served = Served("rng")
	with served.owner() as owner, served.backend() as backend:
		Program(backend, served, "rng", "rng -s 1").start()
		equal(entropy(owner, 4), "256", "bytes")
		info = backend.qmp("query-vm2vm-links")[0]["backend"]
		equal(info["slow-doorbells"], 0, "doorbells by way of QEMU")
		# By KVM, both: in its statistics
		for vm in (owner, backend):
			rings = {}
			for cpu in vm.qmp("query-cpus-fast"):
				stats = vm.qmp("query-stats", target="vcpu", vcpus=[cpu["qom-path"]])
				for s in (s for p in stats for s in p["stats"] if s["name"].startswith("vm2vm_rings")):
					rings[s["name"]] = rings.get(s["name"], 0) + s["value"]
			comment(f"{vm.name}: {rings}")
			check(rings["vm2vm_rings_direct"] + rings["vm2vm_rings_deferred"] > 0, f"{vm.name} rings in KVM")


@test
@of_qemu
def intel_iommu():
	for strict in (True, False):
		pair = Pair(iommu="intel", strict=strict)
		with pair.owner() as owner, pair.backend() as backend:
			hold(backend)
			seen(owner, backend)
			equal(entropy(owner, 2), "128", "bytes")
			if strict:
				check(same_pages(owner, backend), "mapped")
			# Lazy: a mapping that is gone is invalidated later, but by 10 ms
			name = rng(owner)
			unbind(owner, name)
			time.sleep(0.5)
			check(len(same_pages(owner, backend)) <= 1, "only a buffer that the driver forgot is left")
			bind(owner, name)
			check(same_pages(owner, backend), "mapped again")


@test
def no_iommu_approves_ram():
	pair = Pair(iommu=None)
	with pair.owner(memory=128) as owner, pair.backend(base=0, size=256 << 20) as backend:
		hold(backend)
		seen(owner, backend)
		info = link(owner)["owner"]
		check(120 << 20 <= info["bytes"] <= 160 << 20, f"about 128 MiB are approved: {info}")
		# Somewhere in RAM, by physical address
		equal(backend.sh(f"{TOOL} scan {64 << 20:#x} {1 << 20:#x}"), f"{64 << 20:x}-{65 << 20:x}", "a MiB of RAM")
		equal(scan(backend, f"{200 << 20:#x}", f"{1 << 20:#x}"), set(), "where there is none")
		# Data of all-ones is approved, too; what is not counted looks the same
		owner.sh("head -c 8000000 /dev/zero | tr '\\0' '\\377' >/run/ones")
		where, ram = (f"{1 << 20:#x}", f"{127 << 20:#x}"), set(range(1 << 8, 128 << 8))
		found, ones = scan_both(backend, *where)
		check(1900 < len(ones) < 8000 and found | ones == ram, f"{len(found)} pages, and {len(ones)} that are all-ones")
		backend.qmp("qom-set", path="/objects/l0", property="unapproved", value="report")
		equal(scan_both(backend, *where), (ram, set()), "when it is counted")


@long_test
def memory_is_hotplugged():
	pair = Pair(iommu=None)
	with pair.owner(memory="256,slots=2,maxmem=1G") as owner, pair.backend(base=0, size=8 << 30) as backend:
		hold(backend)
		seen(owner, backend)
		before = link(owner)["owner"]["bytes"]
		owner.qmp("object-add", **{"qom-type": "memory-backend-ram"}, id="m1", size=128 << 20)
		owner.qmp("device_add", driver="pc-dimm", id="dimm1", memdev="m1")
		equal(link(owner)["owner"]["bytes"], before + (128 << 20), "with the new memory")
		where = owner.qmp("query-memory-devices")[0]["data"]["addr"]
		equal(backend.sh(f"{TOOL} scan {where:#x} {1 << 20:#x}"), f"{where:x}-{where + (1 << 20):x}", "a MiB of it")


@test
@of_qemu
def iommu_bypass_and_domains():
	"""The IOMMU approves all (identity), and nothing of it when the guest attaches a domain"""
	pair = Pair()
	pair.identity = True
	with pair.owner(append="iommu.passthrough=1") as owner, pair.backend(base=0, size=512 << 20) as backend:
		hold(backend)
		seen(owner, backend)
		check(link(owner)["owner"]["bytes"] > 200 << 20, "all of it")
		group = owner.sh("cd -P /sys/bus/pci/devices/0000:00:05.0/iommu_group && pwd")
		equal(owner.sh(f"cat {group}/type"), "identity", "the domain")
		equal(backend.sh(f"{TOOL} scan {64 << 20:#x} {1 << 20:#x}"), f"{64 << 20:x}-{65 << 20:x}", "a MiB of RAM")
		name = rng(owner)
		owner.sh(f"cd /sys/bus/pci/drivers/virtio-pci && echo 0000:00:05.0 >unbind && echo DMA >{group}/type")
		equal(scan(backend, f"{64 << 20:#x}", f"{1 << 20:#x}"), set(), "after the switch")
		equal(link(owner)["owner"]["bytes"], 0, "approved")
		owner.sh("echo 0000:00:05.0 >/sys/bus/pci/drivers/virtio-pci/bind")
		check(link(owner)["owner"]["bytes"] < 1 << 20, "only what the driver maps")
		check(name, "it had a driver")


@test
def enforcement_through_map_and_unmap():
	"""Each request of the owner's driver maps and unmaps a buffer; and the driver comes and goes."""
	pair = Pair()
	where = dict(base=BASE + (15 << 20), size=1 << 20)
	with pair.owner() as owner, pair.backend(**where) as backend:
		hold(backend)
		seen(owner, backend)
		name = rng(owner)
		for _ in range(TRIALS):
			entropy(owner, 40)
			for bound in (True, False):
				if not bound:
					unbind(owner, name)
				same_pages(owner, backend, **where)
			bind(owner, name)
		comment(f"{TRIALS * 40} cycles or more of a buffer, {TRIALS} of the driver")


@test
@of_qemu
def stop_and_go_on():
	"""While the owner is stopped nothing is approved, so nothing changes."""
	pair = Pair()
	with pair.owner() as owner, pair.backend() as backend:
		hold(backend)
		seen(owner, backend)
		before = same_pages(owner, backend)
		owner.qmp("stop")
		equal(scan(backend), set(), "while it is stopped")
		owner.qmp("cont")
		seen(owner, backend)
		equal(same_pages(owner, backend), before, "when it goes on")
		backend.qmp("stop")
		backend.qmp("cont")
		check(same_pages(owner, backend), "the backend's own stop changes nothing")


def poke(vm, device, offset, data):
	"""Write to the configuration space of a PCI device of the guest."""
	octal = "".join(f"\\{b:03o}" for b in data)
	vm.sh(f"printf '{octal}' | dd of={device}/config bs=1 seek={offset} conv=notrunc status=none")


@test
@of_qemu
def bar_moves_and_is_disabled():
	pair = Pair()
	with pair.owner() as owner, pair.backend() as backend:
		hold(backend)
		seen(owner, backend)
		before = same_pages(owner, backend)
		device = "/sys/bus/pci/devices/0000:00:05.0"
		# The command register's memory bit, and no other: bus mastering is needed to be registered
		command = int(backend.sh(f"od -An -tx2 -j4 -N2 {device}/config"), 16)
		equal(command & 6, 6, "memory and bus mastering")
		poke(backend, device, 4, (command & ~2).to_bytes(2, "little"))
		equal(link(backend)["backend"]["shown"], 0, "shown while it is disabled")
		poke(backend, device, 4, command.to_bytes(2, "little"))
		equal(link(backend)["backend"]["shown"], SIZE, "shown")
		equal(same_pages(owner, backend), before, "enabled again")
		# Sized, as firmware does, and put back
		bar = int(backend.sh(f"od -An -tx8 -j24 -N8 {device}/config"), 16).to_bytes(8, "little")
		poke(backend, device, 24, b"\xff" * 8)
		poke(backend, device, 24, bar)
		equal(same_pages(owner, backend), before, "after it was sized")
		# Elsewhere, while it is mapped there is no driver to be confused
		poke(backend, device, 24, (int.from_bytes(bar, "little") + (1 << 30)).to_bytes(8, "little"))
		equal(link(backend)["backend"]["shown"], SIZE, "shown where it is now")
		poke(backend, device, 24, bar)
		equal(same_pages(owner, backend), before, "put back")


@long_test
def guests_reboot():
	pair = Pair()
	with pair.owner() as owner, pair.backend() as backend:
		hold(backend)
		seen(owner, backend)
		check(same_pages(owner, backend), "mapped")
		for vm in (owner, backend):
			vm.qmp("set-action", reboot="reset")
			vm.qmp("system_reset")
			vm.ready = False
			vm.booted()
			if vm is backend:
				equal(link(backend)["backend"]["registered"], False, "registered after a reset")
				hold(backend)
			seen(owner, backend)
			check(same_pages(owner, backend), f"mapped after the reset of the {vm.name}")


@test
@of_qemu
def iommus_that_do_not_tell():
	"""QEMU does not hear of what they map: nothing is approved, it says why, and the device works."""
	for options, said in (("x-scalable-mode=on,x-flts=on", "first-stage translation (x-flts)"), ("caching-mode=off", "requires caching mode")):
		pair = Pair(iommu="intel")
		pair.iommu_device = ["-device", f"intel-iommu,intremap=off,{options}"]
		with pair.owner() as owner, pair.backend() as backend:
			hold(backend)
			connected(owner, backend)
			equal(owner.sh("cat /sys/bus/pci/devices/0000:00:05.0/iommu_group/type"), "DMA", "the IOMMU's domain")
			equal(entropy(owner), "64", "bytes of the device")
			equal(owner.qmp("x-query-vm2vm-mappings", id="l0")["approved"], [], "what is approved")
			equal(scan(backend), set(), "what the backend sees")
			check(said in owner.stderr.read_text(), f"'{said}' is said")


def sleep_and_wake(vm, meanwhile):
	"""S3, as the guest wants it"""
	vm.events.clear()
	vm.run("(sleep 0.3; echo mem >/sys/power/state; echo $? >/run/slept) >/run/slept.err 2>&1 &")
	vm.wait_event("SUSPEND")
	meanwhile()
	vm.qmp("system_wakeup")
	vm.wait_event("WAKEUP")
	vm.wait_for("[ -s /run/slept ]")
	equal(vm.sh("cat /run/slept /run/slept.err"), "0", "to sleep")


@long_test
def guests_sleep():
	"""(With a virtio-iommu Linux does not go to sleep.)"""
	pair = Pair(iommu="intel")
	with pair.owner() as owner, pair.backend() as backend:
		hold(backend)
		seen(owner, backend)
		check(same_pages(owner, backend), "mapped")
		# A VM that sleeps does not run, so nothing of it is approved
		sleep_and_wake(owner, lambda: equal(scan(backend), set(), "while the owner sleeps"))
		seen(owner, backend)
		check(same_pages(owner, backend), "mapped when the owner is back")
		# The device's power goes, and so does what is registered: the program is told
		sleep_and_wake(backend, lambda: None)
		backend.wait_event("VM2VM_PEER_LOST", reason="the guest's back-end has gone")
		seen(owner, backend)
		check(same_pages(owner, backend), "mapped when the backend is back")


@test
def killed_and_connected_again():
	"""SIGKILL of either side at random moments"""
	for server in ("backend", "owner"):
		pair = Pair(server=server)
		vms = {"owner": pair.owner(), "backend": pair.backend()}
		try:
			for vm in vms.values():
				vm.start(wait=False)
			for n in range(TRIALS):
				for vm in vms.values():
					vm.booted()
				if not link(vms["backend"])["backend"]["registered"]:
					hold(vms["backend"])
				seen(vms["owner"], vms["backend"])
				check(same_pages(vms["owner"], vms["backend"]), "mapped")
				vms["owner"].run("dd if=/dev/hwrng of=/dev/null bs=64 count=100000 >/dev/null 2>&1 &")
				time.sleep(random.random() / 2)
				victim, other = random.sample(list(vms), 2)
				vms[victim].kill()
				vms[other].wait_event("VM2VM_PEER_LOST")
				equal(vms[other].sh("echo alive"), "alive", f"the {other} after the end of the {victim}")
				if other == "backend":
					equal(scan(vms[other]), set(), "what is left of a dead owner")
				else:
					vms[other].sh("for p in /proc/[0-9]*; do [ \"$(cat $p/comm)\" != dd ] || kill ${p#/proc/}; done")
				if n + 1 < TRIALS:
					vms[victim].start(wait=False)
		finally:
			for vm in vms.values():
				vm.kill()


def add_link(owner, pair, n):
	"""One more, while the owner runs: l0, l1, ..."""
	owner.qmp("chardev-add", id=f"c{n}", backend={"type": "socket", "data": {
		"addr": {"type": "unix", "data": {"path": pair.path}}, "server": False, "reconnect-ms": 200}})
	owner.qmp("object-add", **{"qom-type": "vm2vm-link"}, id=f"l{n}", role="owner", chardev=f"c{n}", device="d0")


def del_link(owner, n):
	owner.qmp("object-del", id=f"l{n}")
	owner.qmp("chardev-remove", id=f"c{n}")


@long_test
def second_link_as_pages_go():
	"""It is told what is mapped, and the first goes on to be told. (An unmap that is under way as the second
	comes the lazy IOMMU of this guest has for some 10 ms, which this does not hit.)"""
	pair, other = Pair(iommu="intel", strict=False), Pair()
	with pair.owner() as owner, pair.backend() as backend, other.backend(name="other") as second:
		hold(backend)
		hold(second)
		seen(owner, backend)
		owner.run("(while :; do dd if=/dev/hwrng of=/dev/null bs=64 count=1000; done) >/dev/null 2>&1 & echo $! >/run/reader")
		for _ in range(TRIALS):
			add_link(owner, other, 1)
			seen(owner, second)
			del_link(owner, 1)
			second.wait_event("VM2VM_PEER_LOST")
		add_link(owner, other, 1)
		seen(owner, second)
		owner.sh("kill $(cat /run/reader); pkill dd; sleep 1")
		found = same_pages(owner, backend)
		# The query asks the IOMMU as the links do. The queue knows by itself where it is.
		status = owner.qmp("x-query-virtio-queue-status", path="/machine/peripheral/d0/virtio-backend", queue=0)
		check(status["vring-desc"] // PAGE in found, f"the queue is seen at {status['vring-desc']:#x}: {found}")
		equal(scan(second), found, "what the second sees")


@long_test
def devices_and_objects_come_and_go():
	pair = Pair()
	port = ["-device", "pcie-root-port,id=rp,chassis=1,addr=6,pref64-reserve=64M"]
	with pair.owner(*port, link=False) as owner, pair.backend(*port, device=False) as backend:
		for _ in range(TRIALS):
			add_link(owner, pair, 0)
			backend.qmp("device_add", driver="vm2vm-pci", id="w0", bus="rp", link="l0")
			backend.wait_for("[ -e /dev/vm2vm/0 ]", 30)
			refused(backend, "object-del", "in use", id="l0")
			hold(backend)
			seen(owner, backend)
			same_pages(owner, backend)
			# Unplugged with the guest's consent, the object first on the other side
			del_link(owner, 0)
			backend.wait_event("VM2VM_PEER_LOST")
			equal(scan(backend), set(), "without an owner")
			let_go(backend)
			unplug(backend, "w0")
			equal(link(backend)["backend"].get("device"), None, "the device")


@test
@of_qemu
def owners_device_is_unplugged():
	"""What is approved ends with the device, and begins with another one of its name."""
	pair = Pair()
	args = ["-device", "pcie-root-port,id=rp,chassis=1,addr=6,pref64-reserve=64M"]
	owner = VM("owner", *IOMMUS["virtio"], *args, "-object", "rng-builtin,id=r0", *pair.owner_link(),
		"-device", f"{OWN_RNG},id=d0,iommu_platform=on,bus=rp", append="iommu.strict=1")
	with owner, pair.backend() as backend:
		hold(backend)
		seen(owner, backend)
		check(same_pages(owner, backend), "mapped")
		unplug(owner, "d0")
		backend.wait_event("VM2VM_PEER_LOST")
		equal(scan(backend), set(), "what is left")
		# It warns that there are no queues
		said = owner.hmp(f"device_add {OWN_RNG},id=d0,iommu_platform=on,bus=rp")
		check("Error" not in said, said)
		owner.wait_for(f"ls -d {RNG_DRIVER}/virtio*", 60)
		seen(owner, backend)
		check(same_pages(owner, backend), "mapped again")


@test
@of_qemu
def two_owners_for_one_backend():
	pairs = [Pair(), Pair()]
	args = ["-chardev", f"socket,id=c1,path={pairs[1].path},server=on,wait=off", "-object",
		f"vm2vm-link,id=l1,role=backend,chardev=c1,base={BASE:#x},size={SIZE}", "-device", "vm2vm-pci,id=w1,link=l1,addr=6"]
	owners = [p.owner(name=f"owner{i}", memory=192) for i, p in enumerate(pairs)]
	with pairs[0].backend(*args) as backend, owners[0], owners[1]:
		for i, owner in enumerate(owners):
			hold(backend, i)
			connected(owner)
			seen(owner, backend, name=f"l{i}")
		for i, owner in enumerate(owners):
			same_pages(owner, backend, index=i)
		owners[0].kill()
		backend.wait_event("VM2VM_PEER_LOST", id="l0")
		equal(scan(backend, index=0), set(), "of the dead one")
		check(scan(backend, index=1), "of the other one")


@long_test
def two_backends_for_one_owner():
	pairs = [Pair(), Pair()]
	args = ["-chardev", f"socket,id=c1,path={pairs[1].path},reconnect-ms=200",
		"-object", "vm2vm-link,id=l1,role=owner,chardev=c1,device=d1",
		"-device", f"{OWN_RNG},id=d1,iommu_platform=on,addr=6"]
	backends = [p.backend(name=f"backend{i}", memory=192) for i, p in enumerate(pairs)]
	with pairs[0].owner(*args) as owner, backends[0], backends[1]:
		for backend in backends:
			hold(backend)
			seen(owner, backend)
		for i, backend in enumerate(backends):
			same_pages(owner, backend, name=f"l{i}")
		owner.qmp("object-del", id="l0")
		backends[0].wait_event("VM2VM_PEER_LOST")
		equal(scan(backends[0]), set(), "of the link that is gone")
		check(scan(backends[1]), "of the other one")


@test
def unapproved_accesses_are_reported():
	pair = Pair(unapproved="report")
	with pair.owner() as owner, pair.backend() as backend:
		hold(backend)
		seen(owner, backend)
		hole = (max(same_pages(owner, backend)) + 1) * PAGE
		backend.events.clear()
		time.sleep(1.1)
		backend.sh(f"{TOOL} write {hole:#x} 00")
		event = backend.wait_event("VM2VM_ACCESS_REFUSED", id="l0")["data"]
		check(event["count"] >= 1, "counted")
		backend.qmp("qom-set", path="/objects/l0", property="unapproved", value="stop")
		backend.run(f"{TOOL} read {hole:#x} 4 >/run/late 2>&1 &")
		backend.wait_event("STOP")
		equal(backend.qmp("query-status")["status"], "io-error", "the state")
		backend.qmp("qom-set", path="/objects/l0", property="unapproved", value="fill")
		backend.qmp("cont")
		equal(backend.sh("echo alive"), "alive", "the backend")


@test
def backend_migrates():
	"""It arrives without its peer, which comes again; the guest's program does not end."""
	served = Served("rng")
	source = served.backend(name="source")
	with served.owner() as owner, source:
		program = Program(source, served, "rng", "rng -s 1").start()
		equal(entropy(owner, 2), "128", "bytes")
		source.sh("head -c 8000000 /dev/urandom >/run/pattern; sha256sum </run/pattern >/run/sum")
		target = migrate(source, served.backend)
		epoch = source.qmp("query-vm2vm-links")[0]["backend"]["epoch"]
		source.kill()
		program.vm = target
		equal(target.sh("sha256sum </run/pattern"), target.sh("cat /run/sum"), "the pattern")
		check(program.alive(), "the program goes on")
		equal(entropy(owner, 2), "128", "bytes of the target")
		info = target.qmp("query-vm2vm-links")[0]["backend"]
		check(info["registered"] and info["epoch"] > epoch, f"registered, with another epoch: {info}")


@test
def owner_migrates():
	pair = Pair()
	source = pair.owner(name="source")
	with source, pair.backend() as backend:
		hold(backend)
		seen(source, backend)
		source.run("while :; do dd if=/dev/hwrng bs=64 count=1 iflag=fullblock status=none >>/run/data; done & echo $! >/run/loop")
		# A pattern in its memory, to be the same there
		source.sh("head -c 8000000 /dev/urandom >/run/pattern; sha256sum </run/pattern >/run/sum")
		target = migrate(source, pair.owner)
		source.kill()
		seen(target, backend)
		equal(target.sh("sha256sum </run/pattern"), target.sh("cat /run/sum"), "the pattern")
		# What is mapped is not to change from one look to the other
		target.sh("kill $(cat /run/loop)")
		target.wait_for("! cat /proc/[0-9]*/comm 2>/dev/null | grep -qx dd")
		check(same_pages(target, backend), "mapped")


main()
