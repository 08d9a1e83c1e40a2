#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""compare.py: what a packet between two guests costs, by whatever carries it. lab/compare/compare.sh
runs it in a lab whose clock counts instructions, with one CPU and KVM's modules that count.

    compare.py FILE [CARRIER...]       the figures go to FILE, as JSON; of all carriers, or of those
                                       whose name has one of these in it

Each carrier has two guests of the same kernel, and a window of packets that goes back and forth
between them, so that the same is under way over each, and nothing is lost. What does not poll is
measured by two runs, of which one takes more packets; what polls, by what it does with packets and
without. Documentation/virt/kvm/vm2vm-compared.rst has the method.
"""

import contextlib
import json
import os
import re
import struct
import subprocess
import sys
import time

from polled import TOOLS, Forwarder, Host, Polled, Stats, plain
from tally import Setup
from vhost_user import BACKEND_IP, OWNER_IP, Program, Served, interface, link_up, ping
from vms import VM, VMError, check, equal, kill_all

WINDOW = 128
# Of those that poll; as many as testpmd takes at a time; and entries of a ring
IN_FLIGHT, BURST, ENTRIES = 512, 32, 1024
SIZES = (64, 1500, 9000)
MTU = 9000
MEMORY = 384
# Of packets each way: what the longer run takes more than the shorter one is of the packets, and of nothing else
FEW, MANY = 8 * WINDOW, 40 * WINDOW
# Of the clock's: so long are those that poll looked at
SECONDS = 3
TRIES = 3
FRONT = {"mbufs": 4 * ENTRIES, "options": f"--rxd={ENTRIES} --txd={ENTRIES}"}
RINGS = f",rx_queue_size={ENTRIES},tx_queue_size={ENTRIES}"
MACS = "52:54:00:76:32:76", "52:54:00:76:32:77"


def came(condition, what):
	"""Packets that do not come are no figure that is wrong, but a guest that is dead or stands still: see measure()"""
	if not condition:
		raise VMError(what)


# ---- Kernels' UDP

def udp(setup, size, replies=WINDOW):
	"""The cost of a packet, in the mean of both directions; replies: of a window so many come back"""
	one, two = setup.vms.values()
	two.run(f"while pkill exchange; do sleep 0.1; done; exchange echo 7 {size} {WINDOW} {replies} >/run/echo 2>&1 &", check=False)
	time.sleep(0.5)

	def run(count):
		return setup.cost(lambda: one.sh(f"exchange udp {BACKEND_IP} 7 {size} {WINDOW} {count} {replies}", 60))
	# What is asked, mapped or learnt once
	run(4 * WINDOW)
	costs = run(FEW), run(MANY)
	packets = (MANY - FEW) * (WINDOW + replies) // WINDOW
	return {k: (costs[1][k] - costs[0].get(k, 0)) / packets for k in costs[1]}


def kernels(setup, sizes=SIZES):
	for size in sizes:
		yield f"{size} both ways", udp(setup, size)
		yield f"{size} one way", udp(setup, size, 1)


# ---- What polls

def window(setup, pollers):
	"""What ran for a while, and of each of those that poll how often it has looked, and what it has received"""
	seen, tallies = [], []
	for wait in 0, SECONDS:
		time.sleep(wait)
		tallies.append({})
		for k, t in pollers.items():
			# It looks at its counters when it reads this. What it prints is read later.
			t.ask()
			tallies[-1][k] = setup.tally()
		seen.append({k: t.asked() for k, t in pollers.items()})
	# Of each at its own moments, and of all others at those of the first
	spent = setup.difference(*(next(iter(t.values())) for t in tallies))
	# That this program asks costs more than packets do, and not of its own time only: of the host it is the VMs' threads
	spent["host"] = sum(v for k, v in spent.items() if re.match("VM[12] thread", k)) - spent["VM1"] - spent["VM2"]
	for k in pollers:
		spent[k] = tallies[1][k][k] - tallies[0][k][k]
	return spent, {k: (seen[1][k].bursts - seen[0][k].bursts, seen[1][k].rx - seen[0][k].rx) for k in pollers}


def useful(idle, busy, pollers, packets):
	"""Of a busy window what was for packets: without looks that found none, and what the others do all the time, both at what
	they cost in an idle one"""
	(spent0, looks0), (spent, looks) = idle, busy
	count = packets({k: rx for k, (_, rx) in looks.items()})
	came(count > 1000, f"{count} packets in {SECONDS} s: {busy}")
	cost, places = dict(spent), {"VM1", "VM2", "host", *pollers}
	for place in places:
		if place in pollers:
			empty = looks[place][0] - looks[place][1] / BURST
			cost[place] -= spent0[place] * empty / looks0[place][0]
			cost[f"{place} empty polls"] = empty
		else:
			cost[place] -= spent0[place] * spent["elapsed"] / spent0["elapsed"]
	cost["elapsed"] = sum(cost[p] for p in places)
	return {k: v / count for k, v in cost.items()}


def polling(setup, pollers, begin, packets):
	"""begin(size) has packets go back and forth; packets(received by each) is how many did"""
	for size in SIZES:
		for t in pollers.values():
			t.again()
		idle = window(setup, pollers)
		begin(size)
		busy = window(setup, pollers)
		for t in pollers.values():
			t.end()
		yield f"{size} both ways", useful(idle, busy, pollers, packets)


def testpmds(setup, pollers):
	"""testpmd in either guest. VM1's begins."""
	def begin(size):
		front = pollers["VM1"]
		front.end()
		front.command(f"set txpkts {size}")
		front.command(f"start tx_first {IN_FLIGHT // BURST}")
	return polling(setup, pollers, begin, lambda rx: rx["VM1"] + rx["VM2"])


def kernel_polled(setup, back):
	"""The kernel's UDP, which VM2's testpmd sends back"""
	one = setup.vms["VM1"]

	def begin(size):
		one.run(f"exchange udp {BACKEND_IP} 7 {size} {WINDOW} 10000000 >/run/udp 2>&1 &")
		time.sleep(0.5)
	for done in polling(setup, {"VM2": back}, begin, lambda rx: 2 * rx["VM2"]):
		said = one.sh("cat /run/udp")
		came(not said, f"of UDP's packets some are lost: {said}")
		one.run("while pkill exchange; do sleep 0.1; done", check=False)
		yield done


class Side:
	"""Of the ring in ivshmem's memory: a program in the guest. See exchange.c's struct shared."""
	stats, ring, slot, slots = 64, 128, 9216, 1024
	size = 32 << 20

	def __init__(self, vm, path, number):
		self.vm, self.path, self.number = vm, path, number
		vm.sh(f"f=$(grep -l 0x1110 /sys/bus/pci/devices/*/device); cd ${{f%/*}}; echo 1 >enable; f=$PWD/resource2_wc; "
			"[ -e $f ] || f=$PWD/resource2; ln -s $f /run/memory")

	def write(self, at, data):
		with open(self.path, "r+b", buffering=0) as f:
			f.seek(at)
			f.write(data)

	def begin(self, frame):
		self.write(self.number * self.stats + 20, struct.pack("<I", frame))
		self.write(self.number * self.stats + 16, struct.pack("<I", IN_FLIGHT))

	def ask(self):
		with open(self.path, "rb") as f:
			f.seek(self.number * self.stats)
			polls, packets = struct.unpack("<QQ", f.read(16))
		self.seen = Stats(packets, packets, 0, polls)

	def asked(self):
		return self.seen

	def again(self):
		self.vm.run(f"exchange ring /run/memory {self.number} >/run/ring 2>&1 &")
		time.sleep(0.2)
		equal(self.vm.sh("cat /run/ring"), "", "what the ring's program says")

	def end(self):
		self.vm.sh("pkill exchange; while pgrep exchange; do sleep 0.1; done")
		# The second one ends last
		if self.number:
			self.write(0, bytes(2 * self.stats))
			for n in range(2):
				self.write(2 * self.stats + n * (self.ring + self.slot * self.slots), bytes(self.ring))


# ---- What carries them

@contextlib.contextmanager
def booted(one, two, hosts=None):
	with contextlib.ExitStack() as stack:
		for vm in (two, one):
			if not vm.running():
				stack.enter_context(vm)
		setup = Setup(one, two, hosts)
		stack.callback(setup.spinner.stop)
		yield setup


def card_up(vm, ip):
	link_up(vm, ip)
	vm.sh(f"ip link set {interface(vm)} mtu {MTU}")


def vm2vm_kernels(sizes=SIZES, **how):
	"""VM2's vhost-net serves VM1's card"""
	served = Served("net", queues=1, **how)
	with served.backend() as two:
		program = Program(two, served, "net", "net tap0").start()
		two.sh(f"ip addr add {BACKEND_IP}/24 dev tap0; ip link set tap0 mtu {MTU} up")
		with served.owner(*served.device("net", 5, f",host_mtu={MTU}"), devices=False, smp=1, poison=False) as one, booted(one, two) as setup:
			card_up(one, OWNER_IP)
			ping(one)
			yield from kernels(setup, sizes)
			check(program.alive(), program.said())


def vm2vm_polling():
	"""VM2's testpmd serves VM1's card, which VM1's testpmd drives"""
	served = Served("net", queues=1, iommu=None, bypass=True)
	with served.backend(memory=MEMORY, tools=TOOLS) as two:
		back = Polled(two, frame=MTU).start()
		program = Program(two, served, "net", f"vhost-user {back.socket}").start()
		with served.owner(*served.device("net", 5, RINGS), devices=False, memory=MEMORY, tools=TOOLS, smp=1, poison=False) as one, booted(one, two) as setup:
			front = Forwarder(one, frame=MTU, **FRONT).start().linked()
			back.linked()
			yield from testpmds(setup, {"VM1": front, "VM2": back})
			check(program.alive(), program.said())


def card(mac):
	return ("-device", f"virtio-net-pci,netdev=n0,mac={mac},romfile=,disable-legacy=on,addr=5,host_mtu={MTU}")


def sh(command):
	subprocess.run(command, shell=True, check=True)


def bridge_kernels():
	"""The host's vhost-net, two taps and a bridge"""
	taps = ("t1", "t2")
	sh(f"ip link add br9 type bridge; ip link set br9 mtu {MTU} up")
	try:
		for t in taps:
			sh(f"ip tuntap add dev {t} mode tap vnet_hdr; ip link set {t} mtu {MTU} master br9 up")
		one, two = (VM(n, "-netdev", f"tap,id=n0,ifname={t},script=no,downscript=no,vhost=on", *card(mac))
			for n, mac, t in zip(("one", "two"), MACS, taps))
		with booted(one, two) as setup:
			card_up(one, OWNER_IP)
			card_up(two, BACKEND_IP)
			ping(one)
			yield from kernels(setup)
	finally:
		for d in ("br9", *taps):
			subprocess.run(f"ip link del {d}", shell=True, check=False)


@contextlib.contextmanager
def switched(**how):
	"""Two guests, and the host's testpmd between them"""
	with Polled(Host(), 2, frame=MTU) as switch:
		# When its main thread is asked it answers at once, and not when it has its turn. The one that polls is another.
		os.sched_setscheduler(switch.pid(), os.SCHED_FIFO, os.sched_param(1))
		one, two = (VM(f"plain{i}", *plain(s, mac, MEMORY, RINGS), memory=MEMORY, machine="q35,memory-backend=m", **how)
			for i, (s, mac) in enumerate(zip(switch.sockets, MACS)))
		with booted(one, two, {"switch": switch}) as setup:
			yield setup, switch


def vhost_user_polling():
	with switched(tools=TOOLS) as (setup, switch):
		fronts = [Forwarder(vm, frame=MTU, **FRONT).start().linked() for vm in setup.vms.values()]
		switch.linked(2)
		yield from testpmds(setup, {"VM1": fronts[0], "VM2": fronts[1], "switch": switch})


def vm2vm_kernel_polled():
	"""VM2's testpmd sends what VM1's kernel sends back to it"""
	served = Served("net", queues=1, iommu=None, bypass=True)
	with served.backend(memory=MEMORY, tools=TOOLS) as two:
		back = Polled(two, frame=MTU, mode="5tswap").start()
		program = Program(two, served, "net", f"vhost-user {back.socket}").start()
		with served.owner(*served.device("net", 5, f",host_mtu={MTU}"), devices=False, smp=1, poison=False) as one, booted(one, two) as setup:
			card_up(one, OWNER_IP)
			one.sh(f"ip neigh replace {BACKEND_IP} lladdr {MACS[1]} dev {interface(one)} nud permanent")
			back.linked()
			yield from kernel_polled(setup, back)
			check(program.alive(), program.said())


def ivshmem_ring():
	"""What memory of both gives: each side copies in and out"""
	path = "/dev/shm/compare"
	with open(path, "wb") as f:
		f.truncate(Side.size)
	one, two = (VM(n, "-object", f"memory-backend-file,id=shm,share=on,mem-path={path},size={Side.size}",
		"-device", "ivshmem-plain,memdev=shm,addr=5", tools=("pgrep",)) for n in ("one", "two"))
	with booted(one, two) as setup:
		sides = {name: Side(vm, path, n) for n, (name, vm) in enumerate(setup.vms.items())}
		yield from polling(setup, sides, sides["VM1"].begin, lambda rx: rx["VM1"] + rx["VM2"])
	os.unlink(path)


# Carrier: who measures it
CARRIERS = {
	"vm2vm, vhost-net in VM2": lambda: vm2vm_kernels(iommu=None, bypass=True),
	# Of more than a page it is several mappings
	"vm2vm, vhost-net in VM2, strict IOMMU": lambda: vm2vm_kernels(SIZES[:2], iommu="virtio, strict", strict=True),
	"vhost-net and bridge in the host": bridge_kernels,
	"vm2vm, testpmd in VM2": vm2vm_polling,
	"vhost-user, testpmd in the host": vhost_user_polling,
	"ivshmem, a ring": ivshmem_ring,
	"vm2vm, kernel to testpmd in VM2": vm2vm_kernel_polled,
}


def measure(name):
	"""Figures of a carrier. If a guest dies or stands still, all of it begins anew, which is said."""
	for left in range(TRIES, 0, -1):
		begun, found = time.monotonic(), {}
		try:
			for how, cost in CARRIERS[name]():
				found[how] = cost
				print(f"{name} | {how} | {', '.join(f'{k} {v:.3f}' for k, v in cost.items() if abs(v) >= 0.001)}", flush=True)
			print(f"# {name}: {time.monotonic() - begun:.0f} s of the lab's", flush=True)
			return found
		except VMError as e:
			print(f"# {name}: once more: {e}", flush=True)
			kill_all()
			if left == 1:
				raise
	return None


def main():
	path, *only = sys.argv[1:]
	figures = {}
	if only and os.path.exists(path) and os.path.getsize(path):
		with open(path, encoding="utf-8") as f:
			figures = json.load(f)
	for name in CARRIERS:
		if not only or any(o in name for o in only):
			figures[name] = measure(name)
			with open(path, "w", encoding="utf-8") as f:
				json.dump(figures, f, indent=1)


if __name__ == "__main__":
	main()
