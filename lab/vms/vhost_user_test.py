#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""vhost_user_test.py: a stock guest's card and disk, served by the guest of another VM. Runs in
the lab.

VM2VM_TRIALS is how often what is repeated is with a card, twice as often as with a disk; its
default is for a quick run.
"""

import contextlib
import os
import pathlib
import random
import re
import shutil
import subprocess
import tempfile
import time

from vhost_user import (BACKEND_IP, Program, Served, disk, driver, file_system_holds, interface, late_writes, link_up, make_tap, ping,
	rebind, wait_until)
from vms import QMPError, Skip, VMError, check, comment, equal, long_test, main, migrate, test

TRIALS = int(os.environ.get("VM2VM_TRIALS") or 2)
KILLS = max(1, TRIALS // 2)
NET, RNG = 1, 4


def start(*vms):
	for vm in vms:
		vm.start(wait=False)
	for vm in vms:
		vm.booted()


def serve_net(backend, served, more="", pairs=2):
	make_tap(backend, pairs)
	return Program(backend, served, "net", f"test-net -q {pairs} {more} tap0").start()


def alive_and_clean(owner, program):
	"""Packets go both ways, the program is none the worse, and nothing was written late."""
	said = ping(owner)
	check(" 0% packet loss" in said, said)
	check(program.alive(), f"the backend's program ended: {program.said()}")
	equal(late_writes(owner), [], "writes to freed pages")


# ---- A network card

def net_by(iommu):
	served = Served("net", iommu=iommu)
	# With the backend first the driver finds all that it offers
	with served.backend() as backend:
		program = serve_net(backend, served)
		owner = served.owner().start()
		link_up(owner)
		alive_and_clean(owner, program)
		info = backend.sh("vm2vm info")
		for q in range(4):
			check(f"queue{q}.size" in info, f"queue {q} is enabled: {info}")
		equal(owner.sh(f"cat /sys/class/net/{interface(owner)}/carrier"), "1", "carrier")
		for n in range(TRIALS):
			rebind(owner, NET)
			link_up(owner)
			ping(owner)
		alive_and_clean(owner, program)
		owner.run(f"ping -f -w 1000 {BACKEND_IP} >/run/flood 2>&1 &")
		for n in range(TRIALS):
			owner.qmp("stop")
			time.sleep(random.random() / 10)
			owner.qmp("cont")
			time.sleep(random.random() / 5)
			ping(owner)
		alive_and_clean(owner, program)
		for n in range(TRIALS):
			program.kill()
			program.start()
			ping(owner)
		alive_and_clean(owner, program)


@test
def net_behind_a_virtio_iommu():
	net_by("virtio")


@long_test
def net_behind_a_virtio_iommu_with_a_port():
	net_by("virtio, strict")


@test
def net_behind_an_intel_iommu():
	net_by("intel")


@long_test
def net_backend_is_killed():
	"""QEMU with the backend's guest is killed and started again."""
	served = Served("net")
	with served.owner() as owner:
		for n in range(1 + max(1, TRIALS // 3)):
			with served.backend() as backend:
				program = serve_net(backend, served)
				link_up(owner)
				alive_and_clean(owner, program)
				owner.run(f"ping -f -w 2 {BACKEND_IP} >/run/flood 2>&1 &")
				time.sleep(0.5)
			equal(owner.qmp("query-status")["running"], True, "the owner runs")
			equal(late_writes(owner), [], "writes to freed pages")


def state_of_queues(owner, backend, program):
	"""As the owner's QEMU has them, and as the backend's guest sees them"""
	said = [program.said()]
	for q in range(4):
		# Not x-query-virtio-queue-status, which sends GET_VRING_BASE: that stops the queue
		try:
			said.append(f"{q}: {owner.qmp('x-query-virtio-queue-element', path='/machine/peripheral/d-net/virtio-backend', queue=q)}")
		except QMPError as e:
			said.append(f"{q}: {e}")
		said.append(backend.run(f"vm2vm queue {q} | head -9", check=False).output)
	return "\n".join([*said, backend.run("vm2vm info", check=False).output, owner.sh("dmesg | tail -n 5")])


@long_test
def net_program_is_killed_under_traffic():
	"""Beside other machines, so that all is slow, one in some hundred kills left a card that does not work"""
	served = Served("net")
	with served.backend() as backend:
		program = serve_net(backend, served)
		owner = served.owner().start()
		link_up(owner)
		alive_and_clean(owner, program)
		owner.run(f"ping -f -w 10000 {BACKEND_IP} >/run/flood 2>&1 &")
		for n in range(10 * TRIALS):
			program.kill()
			program.start()
			try:
				ping(owner)
				if n % 20 == 19:
					alive_and_clean(owner, program)
				check(program.said().strip() == "ready", "the program has nothing to say")
			except (AssertionError, VMError) as e:
				raise VMError(f"after kill {n}: {e}\n{state_of_queues(owner, backend, program)}") from e


@long_test
def net_late():
	"""A backend that goes on writing to all buffers that it ever saw, and acknowledges nothing"""
	served = Served("net")
	with served.owner() as owner, served.backend() as backend:
		program = serve_net(backend, served, "--late")
		link_up(owner)
		ping(owner)
		program.signal("USR1")
		backend.wait_for(f"grep writes {program.out}", 30)
		name, path = driver(owner, NET)
		for _ in range(TRIALS):
			owner.sh(f"echo {name} >{path}/unbind")
			equal(late_writes(owner), [], "after the driver has gone: writes to freed pages")
			owner.qmp("stop")
			owner.qmp("cont")
			owner.sh(f"echo {name} >{path}/bind")
			equal(late_writes(owner), [], "with a new driver: writes to freed pages")
		check(program.alive(), program.said())


@test
def net_owner_migrates():
	"""While packets go both ways; then the backend has the new one."""
	served = Served("net")
	source = served.owner(name="source")
	with source, served.backend() as backend:
		program = serve_net(backend, served)
		link_up(source)
		ping(source)
		source.run(f"ping -i 0.01 -w 1000 {BACKEND_IP} >/run/flood 2>&1 &")
		target = migrate(source, served.owner)
		source.kill()
		alive_and_clean(target, program)


@long_test
def net_owner_is_saved_and_loaded():
	"""It goes back to what it was, rings and all, while packets go both ways."""
	served = Served("net")
	file = f"/tmp/saved-{os.getpid()}.qcow2"
	with served.owner() as owner, served.backend() as backend:
		program = serve_net(backend, served)
		link_up(owner)
		alive_and_clean(owner, program)
		owner.add_snapshots(file)
		owner.run(f"ping -i 0.01 -w 1000 {BACKEND_IP} >/run/flood 2>&1 &")
		owner.snapshot("save")
		for _ in range(TRIALS):
			owner.sh("echo later >/run/later")
			alive_and_clean(owner, program)
			owner.qmp("stop")
			owner.snapshot("load")
			owner.qmp("cont")
			owner.sh("[ ! -e /run/later ] && grep -qx ping /proc/[0-9]*/comm")
			link_up(owner)
			alive_and_clean(owner, program)
	os.unlink(file)


@test
def any_order():
	"""The owner is there first, without a backend, or without its program; and it waits for none."""
	served = Served("net", "blk")
	with served.owner() as owner:
		equal(owner.qmp("query-status")["running"], True, "the owner runs without a backend")
		with served.backend() as backend:
			time.sleep(2)
			started = time.monotonic()
			equal(owner.qmp("query-status")["running"], True, "the owner runs without a program")
			check(time.monotonic() - started < 5, "and answers")
			program = serve_net(backend, served)
			link_up(owner)
			alive_and_clean(owner, program)
			Program(backend, served, "blk", "test-blk ram:16").start()
			owner.sh(f"dd if={disk(owner)} of=/dev/null bs=64k count=16", 60)


# ---- A disk

@test
def blk_file_system():
	for iommu in ("virtio", "intel") if os.environ.get("LONG") else ("virtio",):
		served = Served("blk", iommu=iommu)
		with served.backend() as backend:
			program = Program(backend, served, "blk", "test-blk -q 2 --shuffle ram:64").start()
			owner = served.owner().start()
			name = file_system_holds(owner, TRIALS)
			equal(owner.sh(f"cat /sys/block/{name[5:]}/serial"), "vm2vm", "its name")
			check(program.alive(), program.said())
			equal(late_writes(owner), [], "writes to freed pages")
			owner.kill()


@long_test
def blk_grows():
	"""Its configuration space changes, and the owner's driver is told."""
	served = Served("blk")
	with served.backend() as backend:
		backend.sh("dd if=/dev/zero of=/run/disk bs=1M count=0 seek=16")
		program = Program(backend, served, "blk", "test-blk -q 2 /run/disk").start()
		owner = served.owner().start()
		size = f"/sys/block/{disk(owner)[5:]}/size"
		equal(owner.sh(f"cat {size}"), str(16 << 11), "sectors")
		backend.sh("dd if=/dev/zero of=/run/disk bs=1M count=0 seek=24")
		program.signal("HUP")
		owner.wait_for(f"[ $(cat {size}) = {24 << 11} ]", 30)


def logged(text):
	"""Writes in the backend's log: what, block, which time, bytes"""
	for line in text.splitlines():
		words = line.rstrip("\0").split()
		if len(words) == 7:
			yield words[0], int(words[5], 16), int(words[6], 16), int(words[4])


def same_logs(done, log):
	"""What the owner's program knows as done, the backend did; and once, but for what it had
	begun when it was killed."""
	theirs, again, resumed, size = {}, 0, 0, {}
	for what, block, time_, length in logged(log):
		key = block, time_
		resumed += what == "r"
		if key in theirs:
			equal(what, "r", f"block {block}, write {time_} is done twice")
			equal(length, size[key], "of the same length")
			again += 1
		theirs[key] = theirs.get(key, 0) + 1
		size[key] = length
	lost = [key for key in done if key not in theirs]
	equal(lost[:5], [], f"writes of which the backend does not know, {len(lost)} of {len(done)}")
	comment(f"{len(done)} writes done, {len(theirs)} in the backend's log; "
		f"{resumed} were taken by one that was killed, {again} of these it had done")


def owner_log(owner):
	lines = owner.sh("cat /run/record").splitlines()
	return [tuple(int(w) for w in line.split()[:2]) for line in lines]


MIB = 256 if TRIALS > 10 else 8


class Verify:
	"""The owner's program that writes to its disk, and looks: first all of it once, then anywhere"""

	def __init__(self, owner, threads=8):
		self.owner = owner
		owner.run(f"verify {disk(owner)} {MIB} {threads} /run/record >/run/verify 2>&1 & echo $! >/run/verify.pid")

	def said(self):
		said = self.owner.sh("cat /run/verify")
		check("verify:" not in said, said)
		return said

	def goes_on(self, writes=500, timeout=900):
		"""That many more are done than it takes to fill the disk"""
		self.owner.wait_for(f"grep -q verify: /run/verify || [ $(wc -l </run/record) -ge {MIB * 256 // 8 + writes} ]",
			timeout, every=1)
		self.said()

	def end(self, timeout=900):
		self.owner.sh("kill $(cat /run/verify.pid)")
		started = time.monotonic()
		self.owner.wait_for("! kill -0 $(cat /run/verify.pid)", timeout, every=1)
		said = self.said()
		check(re.search("^verified: ", said, re.M), said)
		comment(f"{said}; all of it was read in {time.monotonic() - started:.0f} s")


def disk_image(name, mib):
	path = f"/tmp/{name}-{os.getpid()}"
	with open(path, "wb") as f:
		f.truncate(mib << 20)
	return path


@long_test
def blk_program_is_killed():
	"""In the middle of requests, which are done in any order: none is lost, none is done twice."""
	served = Served("blk")
	with served.backend(memory=384 + MIB) as backend:
		backend.sh(f"dd if=/dev/zero of=/run/disk bs=1M count={MIB} status=none")
		program = Program(backend, served, "blk", "test-blk -q 2 --shuffle --log /run/log /run/disk").start()
		owner = served.owner(memory=384).start()
		verify = Verify(owner)
		for n in range(KILLS):
			if n == KILLS // 2:
				verify.goes_on(0)
			time.sleep(random.random() * 2)
			program.kill()
			verify.said()
			program.start()
		verify.goes_on()
		verify.end()
		same_logs(owner_log(owner), backend.sh("cat /run/log"))
		comment(backend.sh(f"cat {program.out}"))
		equal(late_writes(owner), [], "writes to freed pages")


@test
def blk_backend_is_killed():
	"""QEMU with the backend's guest is killed in the middle of requests; its disks are files."""
	served = Served("blk")
	image, log = disk_image("disk", MIB), disk_image("log", 64)
	drives = []
	for i, path in enumerate((image, log)):
		drives += ["-blockdev", f"driver=raw,node-name=b{i},file.driver=file,file.filename={path}",
			"-device", f"virtio-blk-pci,drive=b{i},addr={0x10 + i:#x}"]
	try:
		owner = served.owner(memory=384)
		for n in range(1 + KILLS):
			with served.backend(*drives) as backend:
				# On a busy machine they have been late
				backend.wait_for("[ -b /dev/vda ] && [ -b /dev/vdb ]", 60)
				Program(backend, served, "blk", "test-blk -q 2 --shuffle --log /dev/vdb /dev/vda").start()
				if n == 0:
					verify = Verify(owner.start())
				if n == KILLS // 2:
					verify.goes_on(0)
				time.sleep(1 + random.random() * 2)
				verify.said()
				if n == KILLS:
					verify.goes_on()
					verify.end()
		same_logs(owner_log(owner), pathlib.Path(log).read_bytes().decode(errors="replace").replace("\0", ""))
		owner.kill()
	finally:
		for path in (image, log):
			os.unlink(path)


@long_test
def blk_stop_and_cont():
	served = Served("blk")
	with served.backend(memory=384 + MIB) as backend:
		program = Program(backend, served, "blk", f"test-blk -q 2 --shuffle --log /run/log ram:{MIB}").start()
		owner = served.owner(memory=384).start()
		verify = Verify(owner)
		for n in range(TRIALS):
			if n == TRIALS // 2:
				verify.goes_on(0)
			owner.qmp("stop")
			time.sleep(random.random() / 20)
			owner.qmp("cont")
			time.sleep(random.random() / 2)
		verify.goes_on()
		verify.end()
		same_logs(owner_log(owner), backend.sh("cat /run/log"))
		check(program.alive(), program.said())


# ---- Entropy

@test
def rng():
	served = Served("rng")
	with served.owner() as owner, served.backend() as backend:
		program = Program(backend, served, "rng", "rng -s 1").start()
		for _ in range(TRIALS):
			equal(owner.sh("timeout 60 dd if=/dev/hwrng bs=64 count=4 iflag=fullblock status=none | wc -c", 90),
				"256", "bytes")
			rebind(owner, RNG)
		owner.run("(while :; do dd if=/dev/hwrng of=/dev/null bs=64 count=100; done) >/run/dd 2>&1 &")
		for _ in range(TRIALS * 10):
			owner.qmp("stop")
			time.sleep(random.random() / 20)
			owner.qmp("cont")
			time.sleep(random.random() / 5)
		check(program.alive(), f"the backend's program ended: {program.said()}")
		equal(program.said().strip(), "ready", "complaints of the program")


@test
def what_is_not_offered():
	"""Of packed rings the program knows nothing, whatever the owner's device could do."""
	served = Served("rng")
	with served.backend() as backend:
		Program(backend, served, "rng", "rng -s 1").start()
		with served.owner(*served.device("rng", 5, ",packed=on"), devices=False) as owner:
			name, _ = driver(owner, RNG)
			features = owner.sh(f"cat /sys/bus/virtio/devices/{name}/features")
			equal((features[32], features[34]), ("1", "0"), "VERSION_1 and RING_PACKED")
			equal(owner.sh("timeout 60 dd if=/dev/hwrng bs=64 count=4 iflag=fullblock status=none | wc -c", 90),
				"256", "bytes")


# ---- Back-ends that know nothing of domains

# They map the owner's memory, as they always did
SHARED = ["-object", "memory-backend-memfd,id=m0,size=256M,share=on", "-machine", "memory-backend=m0"]


@contextlib.contextmanager
def stock(program, served, kind, *arguments):
	"""A program of the host's that serves it, or the test is skipped"""
	path = shutil.which(program)
	if not path:
		raise Skip(f"there is no {program}")
	# One of them ends with its input, and says more than is of interest if all is well
	with tempfile.TemporaryFile() as said, \
			subprocess.Popen([path, *arguments], stdin=subprocess.PIPE, stdout=said, stderr=said) as process:
		try:
			wait_until(lambda: os.path.exists(served.paths[kind]), f"{program} listens", 60)
			yield process
		except BaseException:
			said.seek(0)
			comment("\n".join(said.read().decode(errors="replace").splitlines()[-20:]))
			raise
		finally:
			process.kill()


@test
def stock_disk():
	"""qemu-storage-daemon's"""
	served = Served("blk", iommu=None, vm2vm="auto")
	image = disk_image("stock", 16)
	try:
		with stock("qemu-storage-daemon", served, "blk", "--blockdev", f"driver=file,node-name=f0,filename={image}",
				"--export", "type=vhost-user-blk,id=e0,node-name=f0,writable=on,num-queues=2,"
				f"addr.type=unix,addr.path={served.paths['blk']}"), served.owner(*SHARED) as owner:
			owner.sh(f"verify {disk(owner)} 8 2 >/run/verify 2>&1 & sleep 2; kill $!; wait $!", 120)
			comment(owner.sh("cat /run/verify"))
	finally:
		os.unlink(image)


@long_test
def stock_switch():
	"""DPDK's testpmd, which answers pings itself, whatever address they are for"""
	served = Served("net", iommu=None, vm2vm="auto", queues=1)
	with stock("dpdk-testpmd", served, "net", "--no-huge", "-m", "256", "--no-pci", "--no-telemetry", "--no-shconf",
			"-l", "0,1", "--vdev", f"net_vhost0,iface={served.paths['net']},queues=1",
			"--", "--forward-mode=icmpecho", "--total-num-mbufs=4096") as process, served.owner(*SHARED) as owner:
		link_up(owner)
		said = ping(owner)
		check(" 0% packet loss" in said, said)
		rebind(owner, NET)
		link_up(owner)
		ping(owner)
		equal(process.poll(), None, "the switch's exit status")


main()
