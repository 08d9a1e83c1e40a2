#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""link_test.py: links between QEMU VMs with Linux guests. Runs in the lab.

VM2VM_TRIALS is how often what is repeated is; its default is for a quick run.
"""

import os
import random
import struct
import time

from links import BASE, IOMMUS, PAGE, RNG, SIZE, TOOL, Pair, connected, link, pages, refused, same_pages, scan
from vms import VM, QMPError, VMError, VMTimeout, check, comment, equal, main, test

TRIALS = int(os.environ.get("VM2VM_TRIALS") or 3)
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


def serve(vm, seconds=300, count=""):
	vm.run(f"{TOOL} serve-rng -s 1 {seconds} {count} >/run/served 2>&1 & echo $! >/run/server")
	vm.wait_for("grep -q ready /run/served", 60)


def stop_serving(vm):
	vm.sh("kill $(cat /run/server); while kill -0 $(cat /run/server) 2>/dev/null; do sleep 0.1; done")


def entropy(vm, count=1, timeout=60):
	"""Bytes that the owner's guest gets from the other VM"""
	return vm.sh(f"timeout {timeout} dd if=/dev/hwrng bs=64 count={count} iflag=fullblock status=none | wc -c", timeout + 30)


def unplug(vm, device):
	"""With the guest's consent, which a slot that is still busy does not give"""
	for _ in range(6):
		try:
			vm.qmp("device_del", id=device)
			return vm.wait_event("DEVICE_DELETED", 20, device=device)
		except (QMPError, VMTimeout):
			time.sleep(1)
	raise VMError(f"{vm}: {device} cannot be unplugged")


@test
def window_is_what_the_iommu_maps():
	pair = Pair()
	with pair.owner() as owner, pair.backend() as backend:
		connected(owner, backend)
		found = same_pages(owner, backend)
		check(found, "the driver has mapped something")
		queue = link(backend)["queues"][0]
		equal(queue, link(owner)["queues"][0], "both know the same queue")
		for part in ("desc", "avail", "used"):
			check(queue[part] // PAGE in found, f"{part} is approved")
		# The owner's guest stops using it, and starts again
		name = rng(owner)
		unbind(owner, name)
		# The driver forgets a buffer that is in use, and so does not unmap it
		left = same_pages(owner, backend)
		for part in ("desc", "avail", "used"):
			check(queue[part] // PAGE not in left, f"{part} is not approved any more")
		equal(link(backend)["queues"], [], "queues without a driver")
		bind(owner, name)
		check(same_pages(owner, backend), "mapped again")
		hole = (max(found) + 1) * PAGE
		before = link(backend)["backend"]
		for width in (1, 2, 4, 8):
			read = backend.sh(f"{TOOL} read -r {hole:#x} {width} | od -An -tx1")
			equal(read.split(), ["ff"] * width, f"{width} bytes of a hole")
		backend.sh(f"{TOOL} write {hole:#x} 00112233")
		after = link(backend)["backend"]
		check(after["refused-reads"] > before["refused-reads"], "refused reads are counted")
		check(after["refused-writes"] > before["refused-writes"], "refused writes are counted")


@test
def doorbells_both_ways():
	pair = Pair()
	with pair.owner() as owner, pair.backend() as backend:
		connected(owner, backend)
		serve(backend)
		equal(entropy(owner, 4), "256", "bytes")
		info = link(backend)["backend"]
		equal(info["slow-doorbells"], 0, "doorbells by way of QEMU")
		irqs = owner.sh("grep input /proc/interrupts")
		check(int(irqs.split()[1]) > 3, f"interrupts of the owner's driver: {irqs}")
		# By KVM, both: in its statistics
		rings = {}
		for vm in (owner, backend):
			stats = vm.qmp("query-stats", target="vcpu", vcpus=["/machine/unattached/device[0]"])
			rings[vm] = {s["name"]: s["value"] for p in stats for s in p["stats"]
				if s["name"].startswith("vm2vm_rings")}
			comment(f"{vm.name}: {rings[vm]}")
		for vm in rings:
			check(rings[vm]["vm2vm_rings_direct"] + rings[vm]["vm2vm_rings_deferred"] > 0, f"{vm.name} rings in KVM")
		stop_serving(backend)
		equal(scan(backend) >= same_pages(owner, backend), True, "the window is still there")


@test
def intel_iommu():
	for strict in (True, False):
		pair = Pair(iommu="intel", strict=strict)
		with pair.owner() as owner, pair.backend() as backend:
			connected(owner, backend)
			serve(backend)
			equal(entropy(owner, 2), "128", "bytes")
			stop_serving(backend)
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
		connected(owner, backend)
		info = link(owner)["owner"]
		check(120 << 20 <= info["bytes"] <= 160 << 20, f"about 128 MiB are approved: {info}")
		serve(backend)
		equal(entropy(owner, 2), "128", "bytes")
		stop_serving(backend)
		# Somewhere in RAM, by physical address
		equal(backend.sh(f"{TOOL} scan {64 << 20:#x} {1 << 20:#x}"), f"{64 << 20:x}-{65 << 20:x}", "a MiB of RAM")
		equal(backend.sh(f"{TOOL} scan {200 << 20:#x} {1 << 20:#x}"), "", "where there is none")


@test
def memory_is_hotplugged():
	pair = Pair(iommu=None)
	with pair.owner(memory="256,slots=2,maxmem=1G") as owner, pair.backend(base=0, size=8 << 30) as backend:
		connected(owner, backend)
		before = link(owner)["owner"]["bytes"]
		owner.qmp("object-add", **{"qom-type": "memory-backend-ram"}, id="m1", size=128 << 20)
		owner.qmp("device_add", driver="pc-dimm", id="dimm1", memdev="m1")
		equal(link(owner)["owner"]["bytes"], before + (128 << 20), "with the new memory")
		where = owner.qmp("query-memory-devices")[0]["data"]["addr"]
		equal(backend.sh(f"{TOOL} scan {where:#x} {1 << 20:#x}"), f"{where:x}-{where + (1 << 20):x}", "a MiB of it")


@test
def iommu_bypass_and_domains():
	"""The IOMMU approves all (identity), and nothing of it when the guest attaches a domain"""
	pair = Pair()
	with pair.owner(append="iommu.passthrough=1") as owner, pair.backend(base=0, size=512 << 20) as backend:
		connected(owner, backend)
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
		connected(owner, backend)
		name = rng(owner)
		cycles = 0
		for _ in range(TRIALS):
			serve(backend, 300, 40)
			entropy(owner, 10)
			stop_serving(backend)
			cycles += 40
			for bound in (True, False):
				if not bound:
					unbind(owner, name)
				same_pages(owner, backend, **where)
			bind(owner, name)
		comment(f"{cycles} cycles or more of a buffer, {TRIALS} of the driver")


@test
def stop_and_go_on():
	"""While the owner is stopped nothing is approved, so nothing changes."""
	pair = Pair()
	with pair.owner() as owner, pair.backend() as backend:
		connected(owner, backend)
		before = same_pages(owner, backend)
		owner.qmp("stop")
		equal(scan(backend), set(), "while it is stopped")
		owner.qmp("cont")
		equal(same_pages(owner, backend), before, "when it goes on")
		serve(backend)
		equal(entropy(owner), "64", "bytes")
		stop_serving(backend)
		backend.qmp("stop")
		backend.qmp("cont")
		check(same_pages(owner, backend), "the backend's own stop changes nothing")


def poke(vm, device, offset, data):
	"""Write to the configuration space of a PCI device of the guest."""
	octal = "".join(f"\\{b:03o}" for b in data)
	vm.sh(f"printf '{octal}' | dd of={device}/config bs=1 seek={offset} conv=notrunc status=none")


@test
def bar_moves_and_is_disabled():
	pair = Pair()
	with pair.owner() as owner, pair.backend() as backend:
		connected(owner, backend)
		before = same_pages(owner, backend)
		device = "/sys/bus/pci/devices/0000:00:05.0"
		# The command register's memory bit
		poke(backend, device, 4, bytes(2))
		equal(link(backend)["backend"]["shown"], 0, "shown while it is disabled")
		poke(backend, device, 4, b"\x06\0")
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


@test
def guests_reboot():
	pair = Pair()
	with pair.owner() as owner, pair.backend() as backend:
		connected(owner, backend)
		check(same_pages(owner, backend), "mapped")
		for vm in (owner, backend):
			vm.qmp("set-action", reboot="reset")
			vm.qmp("system_reset")
			vm.ready = False
			vm.booted()
			check(same_pages(owner, backend), f"mapped after the reset of the {vm.name}")
		serve(backend)
		equal(entropy(owner), "64", "bytes")


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


@test
def guests_sleep():
	"""The window stays, and the queue is served. (With a virtio-iommu Linux does not go to sleep.)"""
	pair = Pair(iommu="intel")
	with pair.owner() as owner, pair.backend() as backend:
		connected(owner, backend)
		check(same_pages(owner, backend), "mapped")
		serve(backend)
		equal(entropy(owner), "64", "bytes")
		# A VM that sleeps does not run, so nothing of it is approved
		sleep_and_wake(owner, lambda: equal(scan(backend), set(), "while the owner sleeps"))
		equal(entropy(owner), "64", "bytes when the owner is back")
		sleep_and_wake(backend, lambda: equal(link(owner)["connected"], True, "connected while the backend sleeps"))
		equal(entropy(owner), "64", "bytes when the backend is back")
		stop_serving(backend)
		check(same_pages(owner, backend), "mapped")
		equal([link(vm)["peers"] for vm in (owner, backend)], [1, 1], "peers that there were")


@test
def killed_and_connected_again():
	"""SIGKILL of either side at random moments, while the queue is served"""
	for server in ("backend", "owner"):
		pair = Pair(server=server)
		vms = {"owner": pair.owner(), "backend": pair.backend()}
		try:
			for vm in vms.values():
				vm.start(wait=False)
			for n in range(TRIALS):
				for vm in vms.values():
					vm.booted()
				connected(*vms.values())
				check(same_pages(vms["owner"], vms["backend"]), "mapped")
				serve(vms["backend"])
				vms["owner"].run("dd if=/dev/hwrng of=/dev/null bs=64 >/dev/null 2>&1 &")
				time.sleep(random.random() / 2)
				victim, other = random.sample(list(vms), 2)
				vms[victim].kill()
				vms[other].wait_event("VM2VM_PEER_LOST")
				equal(vms[other].sh("echo alive"), "alive", f"the {other} after the end of the {victim}")
				if other == "backend":
					stop_serving(vms[other])
					equal(scan(vms[other]), set(), "what is left of a dead owner")
				else:
					vms[other].sh("for p in /proc/[0-9]*; do [ \"$(cat $p/comm)\" != dd ] || kill ${p#/proc/}; done")
				if n + 1 < TRIALS:
					vms[victim].start(wait=False)
		finally:
			for vm in vms.values():
				vm.kill()


@test
def backend_starts_where_the_last_one_ended():
	"""What a dead one has put into the used ring QEMU learns from there."""
	pair = Pair()
	with pair.owner() as owner, pair.backend() as backend:
		connected(owner, backend)
		serve(backend)
		equal(entropy(owner, 4), "256", "bytes")
		backend.kill()
		owner.wait_event("VM2VM_PEER_LOST")
		backend.start()
		connected(owner, backend)
		used = link(backend)["queues"][0]["used"]
		index = int(backend.sh(f"{TOOL} read -r {used + 2:#x} 2 | od -An -tu2"))
		check(index >= 4, f"it has used {index} buffers")
		info = dict(s.split(None, 1) for s in backend.sh(f"{TOOL} info").splitlines())
		equal(int(info["queue0.next"]), index, "where to start")
		serve(backend)
		equal(entropy(owner), "64", "bytes of the new one")


def words(vm, iova, count):
	"""So many 16-bit words of the window"""
	return [int(w) for w in vm.sh(f"{TOOL} read -r {iova:#x} {2 * count} | od -An -v -w2 -tu2").split()]


@test
def used_and_not_told():
	"""A backend that ends after the used index and before its doorbell: the driver hears of the buffer."""
	pair = Pair()

	def waiting(vm):
		"""How many buffers the driver waits for, once it had time for what it does"""
		time.sleep(1)
		queue = link(vm)["queues"][0]
		return words(vm, queue["avail"] + 2, 1)[0] - words(vm, queue["used"] + 2, 1)[0] & 0xffff

	def use_silently(vm):
		queue = link(vm)["queues"][0]
		index = words(vm, queue["used"] + 2, 1)[0]
		head = words(vm, queue["avail"] + 4 + index % queue["size"] * 2, 1)[0]
		vm.sh(f"{TOOL} write {queue['used'] + 4 + index % queue['size'] * 8:#x} {struct.pack('<II', head, 8).hex()}")
		vm.sh(f"{TOOL} write {queue['used'] + 2:#x} {struct.pack('<H', index + 1).hex()}")
		equal(waiting(vm), 0, "buffers, and the driver has not heard")

	with pair.owner() as owner, pair.backend() as backend:
		connected(owner, backend)
		equal(waiting(backend), 1, "buffers of its driver")
		use_silently(backend)
		owner.qmp("stop")
		owner.qmp("cont")
		equal(waiting(backend), 1, "buffers after a stop")
		use_silently(backend)
		backend.kill()
		owner.wait_event("VM2VM_PEER_LOST")
		backend.start()
		connected(owner, backend)
		equal(waiting(backend), 1, "buffers after the end of the backend")


@test
def devices_and_objects_come_and_go():
	pair = Pair()
	port = ["-device", "pcie-root-port,id=rp,chassis=1,addr=6,pref64-reserve=64M"]
	with pair.owner(*port, link=False) as owner, pair.backend(*port, device=False) as backend:
		for _ in range(TRIALS):
			owner.qmp("chardev-add", id="c0", backend={"type": "socket", "data": {
				"addr": {"type": "unix", "data": {"path": pair.path}}, "server": False, "reconnect-ms": 200}})
			owner.qmp("object-add", **{"qom-type": "vm2vm-link"}, id="l0", role="owner", chardev="c0", device="d0")
			connected(backend)
			backend.qmp("device_add", driver="vm2vm-pci", id="w0", bus="rp", link="l0")
			backend.wait_for("ls /sys/bus/pci/devices/0000:01:00.0", 30)
			refused(backend, "object-del", "in use", id="l0")
			check(scan(backend) == pages(owner.qmp("x-query-vm2vm-mappings", id="l0")["translated"]), "the same pages")
			# Unplugged with the guest's consent, the object first on the other side
			owner.qmp("object-del", id="l0")
			backend.wait_event("VM2VM_PEER_LOST")
			equal(scan(backend), set(), "without an owner")
			owner.qmp("chardev-remove", id="c0")
			unplug(backend, "w0")
			equal(link(backend)["backend"].get("device"), None, "the device")


@test
def owners_device_is_unplugged():
	"""What is approved ends with the device, and begins with another one of its name."""
	pair = Pair()
	args = ["-device", "pcie-root-port,id=rp,chassis=1,addr=6,pref64-reserve=64M"]
	owner = VM("owner", *IOMMUS["virtio"], *args, *pair.owner_link(),
		"-device", f"{RNG},id=d0,iommu_platform=on,bus=rp", append="iommu.strict=1")
	with owner, pair.backend() as backend:
		connected(owner, backend)
		check(same_pages(owner, backend), "mapped")
		unplug(owner, "d0")
		backend.wait_event("VM2VM_PEER_LOST")
		equal(scan(backend), set(), "what is left")
		equal(owner.hmp(f"device_add {RNG},id=d0,iommu_platform=on,bus=rp"), "", "device_add")
		owner.wait_for(f"ls -d {RNG_DRIVER}/virtio*", 60)
		connected(owner, backend)
		check(same_pages(owner, backend), "mapped again")


@test
def two_owners_for_one_backend():
	pairs = [Pair(), Pair()]
	args = ["-chardev", f"socket,id=c1,path={pairs[1].path},server=on,wait=off", "-object",
		f"vm2vm-link,id=l1,role=backend,chardev=c1,base={BASE:#x},size={SIZE}", "-device", "vm2vm-pci,id=w1,link=l1,addr=6"]
	owners = [p.owner(name=f"owner{i}", memory=192) for i, p in enumerate(pairs)]
	with pairs[0].backend(*args) as backend, owners[0], owners[1]:
		connected(*owners)
		for i, owner in enumerate(owners):
			found = scan(backend, index=i)
			equal(found, pages(owner.qmp("x-query-vm2vm-mappings", id="l0")["translated"]), f"pages of owner {i}")
		owners[0].kill()
		backend.wait_event("VM2VM_PEER_LOST", id="l0")
		equal(scan(backend, index=0), set(), "of the dead one")
		check(scan(backend, index=1), "of the other one")


@test
def two_backends_for_one_owner():
	pairs = [Pair(), Pair()]
	args = ["-chardev", f"socket,id=c1,path={pairs[1].path},reconnect-ms=200",
		"-object", "vm2vm-link,id=l1,role=owner,chardev=c1,device=d1",
		"-device", f"{RNG},id=d1,iommu_platform=on,addr=6"]
	backends = [p.backend(name=f"backend{i}", memory=192) for i, p in enumerate(pairs)]
	with pairs[0].owner(*args) as owner, backends[0], backends[1]:
		connected(*backends)
		for i, backend in enumerate(backends):
			equal(scan(backend), pages(owner.qmp("x-query-vm2vm-mappings", id=f"l{i}")["translated"]), f"pages of backend {i}")
		owner.qmp("object-del", id="l0")
		backends[0].wait_event("VM2VM_PEER_LOST")
		equal(scan(backends[0]), set(), "of the link that is gone")
		check(scan(backends[1]), "of the other one")


@test
def unapproved_accesses_are_reported():
	pair = Pair()
	with pair.owner() as owner, pair.backend(more=",unapproved=report") as backend:
		connected(owner, backend)
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
		backend.qmp("qom-set", path="/objects/l0", property="unapproved", value="ignore")
		backend.qmp("cont")
		equal(backend.sh("echo alive"), "alive", "the backend")


@test
def backend_does_not_migrate():
	pair = Pair()
	args = ["-device", "pcie-root-port,id=rp,chassis=1,addr=6,pref64-reserve=64M"]
	with pair.backend(*args, device=False) as backend:
		backend.qmp("device_add", driver="vm2vm-pci", id="w0", bus="rp", link="l0")
		backend.wait_for("ls /sys/bus/pci/devices/0000:01:00.0", 30)
		refused(backend, "migrate", "unplug device 'w0' first", uri="exec:cat >/dev/null")
		unplug(backend, "w0")
		backend.qmp("migrate", uri="exec:cat >/dev/null")
		for _ in range(600):
			status = backend.qmp("query-migrate").get("status")
			if status in ("completed", "failed"):
				break
			time.sleep(0.1)
		equal(status, "completed", "migration without the device")


@test
def owner_migrates():
	"""While the backend fills its buffers; then the backend has the new one."""
	pair = Pair()
	source = pair.owner(name="source")
	with source, pair.backend() as backend:
		connected(source, backend)
		serve(backend)
		source.run("while :; do dd if=/dev/hwrng bs=64 count=1 iflag=fullblock status=none >>/run/data; done &")
		# A pattern in its memory, to be the same there
		source.sh("head -c 8000000 /dev/urandom >/run/pattern; sha256sum </run/pattern >/run/sum")
		path = f"/tmp/migrate-{os.getpid()}"
		target = pair.owner("-incoming", f"unix:{path}", name="target")
		target.start(wait=False)
		source.qmp("migrate", uri=f"unix:{path}")
		source.wait_event("STOP", 200)
		target.wait_event("RESUME", 200)
		source.kill()
		# Its guest goes on with the channel of the source: a new one is as good
		target.ready = True
		target.number = 1000
		connected(target, backend)
		equal(target.sh("sha256sum </run/pattern"), target.sh("cat /run/sum"), "the pattern")
		size = int(target.sh("stat -c %s /run/data"))
		target.wait_for(f"[ $(stat -c %s /run/data) -gt {size} ]", 60)
		stop_serving(backend)
		check(same_pages(target, backend), "mapped")


main()
