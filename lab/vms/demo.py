#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""demo.py [MIB]: the cards and the disks of two stock guests, served by the guest next door. Runs in
the lab. MIB is how large the file is that goes from guest to guest.
"""

import os
import sys
import tempfile
import time

from links import PAGE, TOOL, plug, port, unplug
from measure import Sampled, cost, kernel_threads, picture, serve_streams
from vhost_user import BACKEND_IP, OWNER_IP, STORAGE, Program, Served, Storage, disk, driver, late_writes, link_up, make_bridge, ping
from vms import BUILD, VMError

started = time.monotonic()
# Where Linux's DMA API takes bus addresses from: the top of the first 4 GiB
TOP, LENGTH = 0xff000000, 16 << 20
THIRD_IP = "10.7.0.3"
FILE_MIB = int(sys.argv[1]) if len(sys.argv) > 1 else 64
PICTURE = BUILD / "demo.svg"


def clock():
	return time.monotonic() - started


def say(text):
	for line in str(text).splitlines():
		print(f"[{clock():5.1f}s] {line}", flush=True)


def must(condition, what):
	say(f"  {'yes' if condition else 'NO'}: {what}")
	if not condition:
		raise VMError(what)


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


class Demo:
	"""VM1 and VM3, the owners; VM2, the backend; and what came when"""

	def __init__(self):
		self.events = []
		self.first, self.third = Served("net", "blk"), Served("net", "blk", name="third-", mac="52:54:00:76:32:78", first=2)
		# What VM2 has its disks from outlives it
		self.files = [tempfile.NamedTemporaryFile(prefix="demo-disk") for _ in range(2)]
		disks = []
		for i, f in enumerate(self.files):
			f.truncate(64 << 20)
			disks += ["-drive", f"file={f.name},format=raw,if=none,id=f{i}", "-device", f"virtio-blk-pci,drive=f{i},addr={0xa + i:#x}"]
		ports = port("p-net", 1) + port("p-blk", 2)
		self.vm1 = self.first.owner(name="VM1")
		self.vm2 = self.first.backend(*disks, *ports, name="VM2", memory=512, tools=(STORAGE,))
		self.vm3 = self.third.owner(*ports, name="VM3", devices=False)
		self.programs = {}

	def event(self, text):
		self.events.append((clock(), text))

	def serve(self, served, kind, command):
		program = self.programs[served.name + kind] = Program(self.vm2, served, kind, command).start()
		return program

	def serve_first(self):
		"""All that VM2 does for VM1"""
		make_bridge(self.vm2)
		self.serve(self.first, "net", "net tap0")
		self.vm2.sh("ip link set tap0 master br0 up")
		self.storage = Storage(self.vm2, 64, {"one": "/dev/vda", "two": "/dev/vdb"}).start()
		self.serve(self.first, "blk", f"vhost-user {self.storage.sockets['one']}")

	def begin(self):
		say("two VMs: VM1 is a stock Linux guest, with QEMU's own virtio-net-pci and vhost-user-blk-pci")
		say("         behind a virtio-iommu; VM2 has a vm2vm-pci device for each, and serves them")
		for vm in (self.vm1, self.vm2):
			say(f"$ qemu-system-x86_64 ... {' '.join(vm.args)}")
		self.vm3.start(wait=False)
		self.vm2.start()
		self.serve_first()
		say("VM2 has registered what it serves: a card, by its kernel's vhost-net, in a bridge,")
		say("and a disk, by a qemu-storage-daemon that knows nothing of all this")
		say(self.vm2.sh("vm2vm list"))
		self.vm1.start()
		link_up(self.vm1)
		self.samples = {"VM1": Sampled(self.vm1, clock)}

	def card(self):
		say("1. VM1 has booted, with QEMU's devices and Linux's own drivers: the card")
		ping(self.vm1)
		before = slow_doorbells(self.vm2)
		said = ping(self.vm1, 10)
		say(said)
		must(" 0% packet loss" in said, f"VM1 pings {BACKEND_IP}, which is VM2")
		must(number(self.vm2, 0, "queue2.size") > 0, "by two pairs of queues")
		must(slow_doorbells(self.vm2) == before, "no interrupt of its driver went by way of QEMU: doorbells are KVM's")
		serve_streams(self.vm2)
		self.table = {}
		for way, option in (("VM1 to VM2", ""), ("VM2 to VM1", "-R")):
			self.event(f"TCP {way}")
			self.table[f"TCP, {way}"] = cost(self.vm1, self.vm2,
				lambda option=option: self.vm1.sh(f"iperf3 -c {BACKEND_IP} -t 3 {option} >/run/iperf3"))
			say(f"TCP, {way}: " + self.vm1.sh("grep receiver /run/iperf3"))

	def approved(self):
		say("2. what VM2 sees of VM1's memory, with nothing under way")
		seen = pages(self.vm2, 0)
		self.queue = {p: number(self.vm2, 0, f"queue0.{p}") for p in ("desc", "avail", "used")}
		must({q // PAGE for q in self.queue.values()} <= seen, f"the rings are among the {len(seen)} pages of {LENGTH // PAGE} there")
		hole = next(p for p in range(TOP // PAGE, (TOP + LENGTH) // PAGE) if p not in seen) * PAGE
		read = self.vm2.sh(f"{TOOL} read {hole:#x} 16")
		say(read)
		must(read.count("ff") >= 16, f"bus address {hole:#x}, which is not approved, reads as all-ones")

	def disk(self):
		say("3. the disk")
		self.event("disk")
		name = disk(self.vm1)
		say(self.vm1.sh(f"mkfs.ext4 -q {name}; mkdir -p /run/disk; mount {name} /run/disk; "
			"head -c 4000000 /dev/urandom >/run/disk/data; sha256sum </run/disk/data >/run/sum; "
			"umount /run/disk; echo 3 >/proc/sys/vm/drop_caches; "
			f"mount {name} /run/disk; grep /run/disk /proc/mounts", 200))
		must(self.vm1.sh("sha256sum </run/disk/data") == self.vm1.sh("cat /run/sum"), "a file on it is what it was")

	def third_joins(self):
		say("4. VM3 joins: VM2 and VM3 run, and get their devices now")
		self.event("VM3 joins")
		for n, kind in enumerate(("net", "blk")):
			plug(self.vm2, self.third.window(kind, 0, f",bus=p-{kind}"))
			self.vm2.wait_for(f"[ -e /dev/vm2vm/{2 + n} ]", 60)
		self.serve(self.third, "net", "net tap3")
		self.vm2.sh("ip link set tap3 master br0 up")
		self.serve(self.third, "blk", f"vhost-user {self.storage.sockets['two']}")
		self.vm3.booted()
		for kind in ("net", "blk"):
			plug(self.vm3, self.third.device(kind, 0, f",bus=p-{kind}"))
		self.vm3.wait_for("grep -l 0x0001 /sys/bus/virtio/devices/*/device", 60)
		link_up(self.vm3, THIRD_IP)
		self.samples["VM3"] = Sampled(self.vm3, clock)
		must(" 0% packet loss" in ping(self.vm3, ip=OWNER_IP), "VM3 pings VM1, by VM2's bridge")
		self.vm3.wait_for("grep -l 0x0002 /sys/bus/virtio/devices/*/device", 60)
		must(self.vm3.sh(f"head -c 1000000 /dev/urandom >/run/d; cat /run/d >{disk(self.vm3)}; sync; echo 3 >/proc/sys/vm/drop_caches; "
			f"head -c 1000000 {disk(self.vm3)} | sha256sum") == self.vm3.sh("sha256sum </run/d"), "its disk holds what is written")
		say(self.vm2.sh("vm2vm list"))

	def file(self):
		say(f"5. a file of {FILE_MIB} MiB goes from VM1 to VM2, and from there to VM3")
		self.vm1.sh(f"head -c {FILE_MIB}M /dev/urandom >/tmp/file")
		want = self.vm1.sh("sha256sum </tmp/file")
		for source, target, address in ((self.vm1, self.vm2, BACKEND_IP), (self.vm2, self.vm3, THIRD_IP)):
			self.event(f"file to {target.name}")
			target.run("socat -u TCP-LISTEN:5300 CREATE:/tmp/file 2>/run/socat & echo $! >/run/socat.pid")
			target.wait_for("grep -q :14B4 /proc/net/tcp", 20)
			start = clock()
			source.sh(f"socat -u -b 65536 /tmp/file TCP:{address}:5300", 300)
			target.wait_for("! kill -0 $(cat /run/socat.pid)", 60)
			say(f"to {target.name}: {FILE_MIB * 1.048576 / (clock() - start):.1f} MB/s")
		must(self.vm3.sh("sha256sum </tmp/file") == want, f"SHA-256 in VM3 is {want.split()[0][:16]}..., as in VM1")
		self.vm2.sh("rm /tmp/file")

	def killed(self):
		say("6. VM2 is killed under traffic, and started again")
		self.vm1.run(f"ping -i 0.1 -w 60 {BACKEND_IP} >/run/pings 2>&1 &")
		self.event("VM2 killed")
		self.vm2.kill()
		must(self.vm1.sh("echo alive") == "alive", "VM1 goes on")
		self.vm2.start()
		self.serve_first()
		must(" 0% packet loss" in ping(self.vm1), "VM1 has its card back")
		self.event("VM2 back")
		must(self.vm1.sh("echo 3 >/proc/sys/vm/drop_caches; sha256sum </run/disk/data") == self.vm1.sh("cat /run/sum"), "and its disk")

	def leaves(self):
		say("7. VM3 leaves: its card and its disk are unplugged")
		self.event("VM3 leaves")
		for kind in ("net", "blk"):
			unplug(self.vm3, f"d-{kind}")
		must(" 0% packet loss" in ping(self.vm1), "VM1's card goes on")

	def lets_go(self):
		say("8. VM1's driver lets go of the card")
		device, path = driver(self.vm1, 1)
		self.vm1.sh(f"echo {device} >{path}/unbind")
		left = pages(self.vm2, 0)
		must(not {q // PAGE for q in self.queue.values()} & left, f"its rings are not seen any more; {len(left)} pages are")
		must(not late_writes(self.vm1), "nothing was written to pages that it had freed")
		self.vm1.kill()
		self.vm2.wait_event("VM2VM_PEER_LOST")
		must(self.vm2.sh("echo alive") == "alive", "VM1 is killed, and VM2 goes on")

	def figures(self):
		say(f"{'':22}{'packets':>9}{'MB':>7}{'exits a packet':>16}{'faults':>9}{'mapped':>9}{'unmapped':>10}{'ticks of QEMU,':>17}")
		say(f"{'':22}{'':>9}{'':>7}{'VM1':>9}{'VM2':>7}{'in VM2':>9}{'a packet':>9}{'a packet':>10}{'not of vCPUs':>17}")
		for name, (one, two, net) in self.table.items():
			n = net["rx_packets"] + net["tx_packets"]
			say(f"{name:22}{n:9}{(net['rx_bytes'] + net['tx_bytes']) / 1e6:7.1f}{one['exits'] / n:9.2f}{two['exits'] / n:7.2f}"
				f"{two['vm2vm_faults']:9}{one['vm2vm_mapped'] / n:9.2f}{one['vm2vm_unmapped'] / n:10.2f}"
				f"{one['ticks of others'] + two['ticks of others']:8} of {sum(c[k] for c in (one, two) for k in ('ticks of vCPUs', 'ticks of others'))}")
		threads = sorted(t for t in kernel_threads() if t.startswith(("vhost", "vm2vm")))
		must(not threads, f"the host's kernel has no thread for any of this{': ' if threads else ''}{' '.join(threads)}")

	def run(self):
		self.begin()
		for part in (self.card, self.approved, self.disk, self.third_joins, self.file):
			part()
		self.figures()
		self.killed()
		rates = {name: s.rates() for name, s in self.samples.items()}
		self.leaves()
		self.lets_go()
		picture(PICTURE, "What goes through the cards of VM1 and VM3, which VM2 serves", rates, self.events)
		say(f"a picture of it: {os.path.relpath(PICTURE)}")


try:
	Demo().run()
except VMError as e:
	print(f"demo: FAILED: {e}")
	sys.exit(1)
print("demo: passed")
