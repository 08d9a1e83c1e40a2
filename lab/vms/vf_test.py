#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""vf_test.py: a backend that has a virtual function of a NIC by VFIO, and bridges it to the card of a stock guest next
door. So that guest talks to the world outside of the host, and the host runs nothing but vCPUs. Runs in the lab with
such a NIC: LAB=vf.

VM2VM_TRIALS is how often what is repeated is; its default is for a quick run.
"""

import contextlib
import glob
import os
import random
import re
import subprocess
import time

from links import plug, port, refused, unplug
from measure import cost, kernel_threads
from vhost_user import (BACKEND_IP, MAC, Program, Served, driver, interface, late_writes, link_up, make_bridge, ping, rebind, wait_until)
from vms import Skip, check, comment, equal, main, migrate, shared, test

TRIALS = int(os.environ.get("VM2VM_TRIALS") or 2)
NET = 1
# What lab/machine/vf.sh has outside: the gateway, and TCP services by port: all comes back, all is taken, there is no end
WORLD_IP, GATEWAY, SERVICES = "10.0.2.15", "10.0.2.2", "10.0.2.100"
ECHO, SINK, SOURCE = 7, 9, 19
VF_MAC = "52:54:00:76:32:02"
PORT = "p-vf"
SERVED = Served("net")
SECONDS = 4


# ---- The host

def write(path, text):
	with open(path, "w", encoding="ascii") as f:
		f.write(str(text))


def name_of(link):
	return os.path.basename(os.readlink(link))


def give_vf():
	"""The address of a virtual function that is vfio-pci's, which may have been made before"""
	found = glob.glob("/sys/bus/pci/drivers/igb/0000:*")
	if not found:
		raise Skip("no NIC with virtual functions: with LAB=vf")
	pf = found[0]
	card = os.listdir(f"{pf}/net")[0]
	if not os.path.exists(f"{pf}/virtfn0"):
		subprocess.run(["ip", "link", "set", card, "up"], check=True)
		# Not the host's own driver
		write(f"{pf}/sriov_drivers_autoprobe", 0)
		write(f"{pf}/sriov_numvfs", 1)
		# A bridge behind it sends, and wants to get, what others' addresses are on
		subprocess.run(["ip", "link", "set", card, "vf", "0", "mac", VF_MAC, "spoofchk", "off", "trust", "on"], check=True)
	vf = name_of(f"{pf}/virtfn0")
	device = f"/sys/bus/pci/devices/{vf}"
	if not os.path.exists(f"{device}/driver"):
		write(f"{device}/driver_override", "vfio-pci")
		write("/sys/bus/pci/drivers_probe", vf)
	equal((name_of(f"{device}/driver"), os.listdir(f"{device}/iommu_group/devices")), ("vfio-pci", [vf]), "driver and group of the function")
	return vf


def interrupts():
	"""That the host has taken from the function"""
	with open("/proc/interrupts", encoding="ascii") as f:
		return sum(sum(int(n) for n in line.split()[1:] if n.isdigit()) for line in f if "vfio" in line)


class Tasks:
	"""Threads of the host: what each has run, in ticks of the CPU, and how often it has begun to"""

	def __init__(self, *vms):
		self.cpus = {cpu["thread-id"] for vm in vms for cpu in vm.qmp("query-cpus-fast")}
		self.qemus = {vm.process.pid for vm in vms}
		self.found = {}
		for task in glob.glob("/proc/[0-9]*/task/[0-9]*"):
			pid, tid = int(task.split("/")[2]), int(task.split("/")[4])
			with contextlib.suppress(FileNotFoundError, ProcessLookupError):
				with open(f"{task}/stat", encoding="ascii") as f:
					name, stat = re.match(r"\d+ \((.*)\) (.*)", f.read(), re.S).groups()
				with open(f"{task}/status", encoding="ascii") as f:
					switches = sum(map(int, re.findall(r"ctxt_switches:\s*(\d+)", f.read())))
				stat = stat.split()
				# A thread of the kernel's has no virtual memory
				kernel = "RCU's" if name.startswith("rcu_") else "kernel's"
				kind = ("vCPUs" if tid in self.cpus else "rest of QEMU" if pid in self.qemus else
					"the test" if pid == os.getpid() else kernel if int(stat[20]) == 0 else "programs")
				self.found[tid] = kind, name, int(stat[11]) + int(stat[12]), switches

	def since(self, before):
		"""By kind: ticks, and switches to it; and the busiest of the kernel's, with both"""
		sums, kernel = {}, []
		for tid, (kind, name, ticks, switches) in self.found.items():
			_, _, ticks_then, switches_then = before.found.get(tid, (0, 0, 0, 0))
			ticks, switches = ticks - ticks_then, switches - switches_then
			old = sums.get(kind, (0, 0))
			sums[kind] = old[0] + ticks, old[1] + switches
			if kind == "kernel's" and (ticks or switches):
				kernel.append((ticks, switches, name))
		return sums, sorted(kernel, reverse=True)


def locked(vm):
	"""KiB of memory that VFIO has pinned for it"""
	with open(f"/proc/{vm.process.pid}/status", encoding="ascii") as f:
		return int(re.search(r"VmLck:\s*(\d+)", f.read()).group(1))


# ---- The guests

def function(vf):
	return ["-device", f"vfio-pci,host={vf},id=vf,bus={PORT}"]


def bridge_vf(backend):
	"""Its card goes into the bridge. The NIC does not let it hear everything: it asks for what is for the owner. QEMU's igb,
	unlike hardware, gives a broadcast back to who sent it, from which the bridge must not learn where the owner is."""
	card = backend.wait_for("ls /sys/bus/pci/drivers/igbvf/0000:*/net", 60).splitlines()[-1]
	backend.sh(f"ip link set {card} master br0; bridge link set dev {card} learning off; ip link set {card} up; bridge fdb add {MAC} dev {card} self permanent")
	backend.wait_for(f"grep -qx 1 /sys/class/net/{card}/carrier", 60)
	return card


def up(owner):
	link_up(owner)
	owner.sh(f"ip addr replace {WORLD_IP}/24 dev {interface(owner)}")


def world_answers(owner):
	said = ping(owner, ip=GATEWAY)
	check(" 0% packet loss" in said, said)


def serve(served, backend):
	make_bridge(backend)
	served.program = Program(backend, served, "net", "net tap0").start()
	backend.sh("ip link set tap0 master br0 up")
	bridge_vf(backend)


def make_backend():
	backend = SERVED.backend(*port(PORT, 1), *function(give_vf())).start()
	serve(SERVED, backend)
	return backend


def make_owner():
	owner = SERVED.owner().start()
	up(owner)
	return owner


@contextlib.contextmanager
def bridged():
	"""An owner whose card is in the backend's bridge, as is the backend's function of the NIC. Tests share them."""
	backend, owner = shared(make_backend), shared(make_owner)
	world_answers(owner)
	yield owner, backend
	world_answers(owner)
	check(SERVED.program.alive(), f"the backend's program ended: {SERVED.program.said()}")
	equal(SERVED.program.said().strip(), "ready", "complaints of the program")
	equal(late_writes(owner), [], "writes to freed pages")


def through_the_world(owner, kib, then=None):
	"""So much goes out and comes back, by TCP, and is the same; meanwhile then() does something"""
	owner.sh(f"head -c {kib}K /dev/urandom >/run/sent")
	owner.run(f"socat -t 120 - TCP:{SERVICES}:{ECHO} </run/sent >/run/back 2>/run/socat & echo $! >/run/socat.pid")
	if then:
		owner = then()
		comment(f"{owner.sh('stat -c %s /run/back')} of {kib << 10} bytes had come back by then")
	owner.wait_for("! kill -0 $(cat /run/socat.pid) 2>/dev/null", 300)
	equal(owner.sh("sha256sum </run/back"), owner.sh("sha256sum </run/sent"), f"what has come back: {owner.sh('cat /run/socat')}")
	return owner


def flood(owner):
	"""Both at once, all the time: to the world, and to the backend"""
	for ip in GATEWAY, BACKEND_IP:
		owner.run(f"(while :; do ping -f -w 5 {ip}; sleep 0.1; done) >/dev/null 2>&1 & echo $! >>/run/flood")


def calm(owner):
	owner.sh("kill $(cat /run/flood); pkill ping; rm /run/flood; true")


def approved(owner):
	"""Pages, now. Without a run of the device there is no link."""
	return sum(link["owner"]["bytes"] for link in owner.qmp("query-vm2vm-links")) // 4096


# ---- Counted

LOADS = {
	"nothing": f"sleep {SECONDS}",
	"ping, to VM2": f"ping -f -c 200 {BACKEND_IP}",
	"ping, to the world": f"ping -f -c 200 {GATEWAY}",
	"TCP, to the world": f"timeout {SECONDS} socat -u /dev/zero TCP:{SERVICES}:{SINK}; true",
	"TCP, from the world": f"timeout {SECONDS} socat -u TCP:{SERVICES}:{SOURCE} /dev/null; true",
}


class Row:
	"""Of the table: what one load costs"""

	def __init__(self, owner, backend, load):
		before, irqs = Tasks(owner, backend), interrupts()
		self.one, self.two, net = cost(owner, backend, lambda: self.run(owner, load))
		self.irqs = interrupts() - irqs
		self.tasks, self.kernel = Tasks(owner, backend).since(before)
		self.packets = net["rx_packets"] + net["tx_packets"]
		self.size = net["rx_bytes"] + net["tx_bytes"]

	@staticmethod
	def run(owner, load):
		said = owner.sh(load, 120)
		check("ping" not in load or " 0% packet loss" in said, said)

	def ticks(self, kind):
		return self.tasks.get(kind, (0, 0))[0]

	KINDS = "vCPUs", "rest of QEMU", "kernel's", "RCU's", "programs"
	HEAD = (f"{'':20}{'packets':>8}{'MB':>6} | {'exits a packet':>14} | {'faults':>7} | {'pages a packet':>15} | {'VF irqs':>8} | ticks of the CPU\n"
		f"{'':20}{'':>8}{'':>6} | {'VM1':>7}{'VM2':>7} | {'in VM2':>7} | {'mapped unmapped':>15} | {'a packet':>8} | "
		+ " ".join(f"{k:>8}" for k in KINDS))

	def __str__(self):
		n = self.packets or 1
		return (f"{self.packets:8}{self.size / 1e6:6.2f} | {self.one['exits'] / n:7.2f}{self.two['exits'] / n:7.2f} | {self.two['vm2vm_faults']:7} |"
			f" {self.one['vm2vm_mapped'] / n:6.2f}{self.one['vm2vm_unmapped'] / n:9.2f} | {self.irqs / n:8.2f} | "
			+ " ".join(f"{self.ticks(k):{max(8, len(k))}}" for k in self.KINDS))


@test
def the_host_runs_nothing_but_vcpus():
	with bridged() as (owner, backend):
		threads = kernel_threads()
		check(not [t for t in threads if t.startswith(("vhost", "vm2vm"))], "the host's kernel has a thread for it")
		# Of the backend's memory all is pinned, and of the window nothing; of the owner's none
		pinned = locked(backend)
		comment(f"pinned by VFIO: {pinned} KiB of VM2, which has {backend.memory << 10}, {locked(owner)} of VM1")
		check(backend.memory << 10 <= pinned < (backend.memory + 32) << 10, "VM2's memory is pinned, and nothing else")
		equal(locked(owner), 0, "KiB of the owner's that are pinned")
		table = {name: Row(owner, backend, load) for name, load in LOADS.items()}
		for line in Row.HEAD.splitlines():
			comment(line)
		for name, row in table.items():
			comment(f"{name:20}{row}")
		for name, row in table.items():
			comment(f"{name}: times that threads were switched to: " + ", ".join(f"{k} {s}" for k, (_, s) in sorted(row.tasks.items()))
				+ "; of the kernel's: " + ", ".join(f"{n} {s} ({t} ticks)" for t, s, n in row.kernel[:4]))
		# What is asked of QEMU for all this takes ticks of its other threads; RCU's do what they do
		idle = table.pop("nothing")
		for name, row in table.items():
			# Of up to 64 KiB each
			check(row.packets >= 50, f"{name}: {row.packets} packets")
			irqs = row.irqs / row.packets
			check(irqs > 0.1 if "world" in name else irqs < 0.1, f"{name}: {irqs} interrupts of the function a packet")
			for kind in "rest of QEMU", "kernel's", "programs":
				most = idle.ticks(kind) + max(4, row.ticks("vCPUs") // 10)
				check(row.ticks(kind) <= most, f"{name}: ticks of {kind}: {row.ticks(kind)}, should be at most {most}")
		new = {t for t in kernel_threads() - threads if not t.startswith("kworker")}
		equal(new, set(), "threads of the host's kernel that are new")
		# As without the function: a packet's mappings
		near, far = (table[f"ping, to {where}"] for where in ("VM2", "the world"))
		for what in "vm2vm_mapped", "vm2vm_unmapped":
			ratio = (far.one[what] / far.packets) / (near.one[what] / near.packets)
			check(0.8 < ratio < 1.25, f"{what} a packet: to the world / to VM2: {ratio:.2f}")


@test
def pages_are_approved_for_what_is_under_way():
	with bridged() as (owner, backend):
		phases, start = [], time.monotonic()

		def phase(name, seconds, load=None):
			if load:
				owner.run(f"timeout {seconds + 20} {load} >/dev/null 2>&1 & echo $! >/run/load")
				time.sleep(0.5)
			samples, end = [], time.monotonic() + seconds
			while time.monotonic() < end:
				samples.append(approved(owner))
				time.sleep(0.1)
			if load:
				owner.run("p=$(cat /run/load); kill $p; while kill -0 $p 2>/dev/null; do sleep 0.1; done")
			comment(f"{time.monotonic() - start:5.1f} s, {name}: pages approved: {min(samples)} to {max(samples)}, of {len(samples)} samples: "
				+ " ".join(map(str, samples[::max(1, len(samples) // 12)])))
			phases.append((min(samples), max(samples)))

		phase("nothing", 2)
		phase("ping to the world", 4, f"ping -f {GATEWAY}")
		phase("TCP to the world", 4, f"socat -u /dev/zero TCP:{SERVICES}:{SINK}")
		phase("TCP from the world", 4, f"socat -u TCP:{SERVICES}:{SOURCE} /dev/null")
		phase("nothing", 2)
		name, path = driver(owner, NET)
		owner.sh(f"echo {name} >{path}/unbind")
		phase("no driver", 1)
		owner.sh(f"echo {name} >{path}/bind")
		up(owner)
		ping(owner, ip=GATEWAY)
		phase("a driver again", 2)
		most = max(m for _, m in phases)
		comment(f"at most {most} of {owner.memory << 8} pages of VM1 at any time")
		equal(phases[5], (0, 0), "pages that are approved without a driver")
		check(0 < most < (owner.memory << 8) // 10, "few of all pages")
		check(backend.sh("echo alive") == "alive", "VM2 goes on")


# ---- As without

@test
def what_is_sent_comes_back():
	with bridged() as (owner, _):
		through_the_world(owner, 1024)


@test
def function_is_unplugged():
	"""Under traffic; what goes on between the two VMs does not notice"""
	with bridged() as (owner, backend):
		flood(owner)
		owner.run(f"ping -i 0.02 {BACKEND_IP} >/run/pings 2>&1 & echo $! >/run/pings.pid")
		for _ in range(TRIALS):
			time.sleep(random.random())
			unplug(backend, "vf")
			wait_until(lambda: not locked(backend), "nothing of VM2 is pinned without a function")
			said = owner.run(f"ping -c 1 -W 2 {GATEWAY}", check=False)
			check(said.status == 1, f"the world does not answer: {said}")
			said = ping(owner)
			check(" 0% packet loss" in said, f"VM2 does: {said}")
			plug(backend, function(give_vf()))
			check(locked(backend) >= backend.memory << 10, "VM2 is pinned again")
			bridge_vf(backend)
			world_answers(owner)
		owner.sh("kill -INT $(cat /run/pings.pid)")
		said = owner.wait_for("grep 'packets transmitted' /run/pings", 30)
		sent, back = map(int, re.match(r"(\d+) packets transmitted, (\d+) received", said).groups())
		comment(f"to VM2 meanwhile: {said}")
		# The last one may be under way
		check(sent - back <= 1 and back > 100, f"answers of VM2: {said}")
		calm(owner)
		through_the_world(owner, 256)


@test
def driver_is_bound_anew():
	"""All is revoked under traffic, and approved again"""
	with bridged() as (owner, _):
		flood(owner)
		name, path = driver(owner, NET)
		for _ in range(TRIALS):
			time.sleep(random.random())
			owner.sh(f"echo {name} >{path}/unbind")
			equal(approved(owner), 0, "pages that are approved without a driver")
			owner.sh(f"echo {name} >{path}/bind")
			up(owner)
			time.sleep(random.random())
			rebind(owner, NET)
			up(owner)
			world_answers(owner)
			check(SERVED.program.alive(), SERVED.program.said())
		calm(owner)
		through_the_world(owner, 256)


@test
def backend_is_killed():
	"""With the function at work; the next one has it"""
	with bridged() as (owner, backend):
		flood(owner)
		card = interface(owner)
		for _ in range(TRIALS):
			time.sleep(random.random())
			backend.kill()
			wait_until(lambda: owner.sh(f"cat /sys/class/net/{card}/carrier") == "0", "no carrier without a backend")
			equal(approved(owner), 0, "pages that are approved without a backend")
			backend.start()
			serve(SERVED, backend)
			world_answers(owner)
		calm(owner)


@test
def owner_migrates():
	"""While it sends to the world, and gets it back: what VM2 writes is in its dirty log"""
	backend = shared(make_backend)
	shared(make_owner).kill()
	with SERVED.owner(name="source") as source:
		up(source)
		world_answers(source)
		# VM2 has a device of the host's
		refused(backend, "migrate", "VFIO migration is not supported", uri="exec:cat >/dev/null")
		def moved():
			target = migrate(source, SERVED.owner, 300)
			info = source.qmp("query-migrate")
			comment(f"migrated: {info['ram']['dirty-sync-count']} rounds, {info['ram']['transferred'] >> 20} MiB")
			source.kill()
			return target

		target = through_the_world(source, 3072, moved)
		world_answers(target)
		check(SERVED.program.alive(), f"the backend's program ended: {SERVED.program.said()}")
		equal(late_writes(target), [], "writes to freed pages")
		target.kill()


main()
