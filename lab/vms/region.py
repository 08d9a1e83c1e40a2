# SPDX-License-Identifier: GPL-2.0-only
"""region.py: VMs of which the first gives a region of its memory to the others, by the program vm2vm-region, with
doorbells among all of them

`python3 region.py` builds the initramfs of their guests ahead.
"""

import itertools
import os
import re

from links import IOMMUS
from polled import modules, to_programs
from vms import VM, VMError, check, initramfs

PROGRAM = "vm2vm-region"
IOVA = 0x10000000
HUGE, PAGE = 2 << 20, 4096
HEADER = IOVA + HUGE
COMMON = 1 << 20
FILE = "/dev/shm/region"
SLOTS = 64
CHANNEL = PAGE + SLOTS * 256
# Where a VM's device to another one is, by that one's number
SLOT = 5
TOOLS = ("mkfifo", "seq", *modules())
numbers = itertools.count()


def channel(vms, i, j):
	"""Bus address of that from VM i to VM j"""
	return IOVA + HUGE + PAGE + (i * (vms - 1) + j - (j > i)) * CHANNEL


def common(vms):
	return IOVA + HUGE + PAGE + vms * (vms - 1) * CHANNEL


class Member:
	"""A VM of them, with its program"""

	def __init__(self, group, number, iommu="virtio"):
		self.group, self.number, self.iommu = group, number, iommu
		self.vm = None
		self.out = f"/run/region{number}"

	def owns(self, other):
		"""Of two the one with the lower number is the link's owner"""
		return self.number < other

	def owned(self):
		"""Those to which it owns the link"""
		return [other for other in self.group.others(self.number) if self.owns(other)]

	def device(self, other):
		path = self.group.path(self.number, other)
		if not self.owns(other):
			return ["-device", f"vm2vm-pci,id=w{other},path={path},addr={SLOT + other:#x}"]
		return ["-chardev", f"socket,id=c{other},path={path},reconnect-ms=200",
			"-netdev", f"vhost-user,id=n{other},chardev=c{other},vm2vm=on",
			"-device", f"virtio-net-pci,netdev=n{other},id=d{other},romfile=,disable-legacy=on,iommu_platform=on,addr={SLOT + other:#x}"]

	def make(self, *args, name=None):
		for other in self.group.others(self.number):
			args = (*self.device(other), *args)
		if self.owned():
			args = (*IOMMUS[self.iommu], *args)
		return VM(name or f"member{self.number}", *args, append="iommu.strict=1", memory=384, smp=2, tools=TOOLS)

	def boot(self):
		self.vm = self.make().start()
		if self.owned():
			to_programs(self.vm, map(self.address, self.owned()))
		return self

	@staticmethod
	def address(other):
		return f"0000:00:{SLOT + other:02x}.0"

	def start(self, options=""):
		"""Its program"""
		links = " ".join(f"{other}={'pci:' if self.owns(other) else ''}{self.address(other)}" for other in self.group.others(self.number))
		# What is typed does not end
		self.vm.sh(f"rm -f {self.out}.in; mkfifo {self.out}.in")
		self.vm.run(f"{PROGRAM} {options} {self.number} {links} 0<>{self.out}.in >{self.out} 2>&1 & echo $! >{self.out}.pid")
		self.wait("ready")
		return self

	def said(self):
		return self.vm.sh(f"cat {self.out}")

	def alive(self):
		return self.vm.run(f"kill -0 $(cat {self.out}.pid)", check=False).status == 0

	def wait(self, text, timeout=60, times=1):
		"""Until it has said that, so many times"""
		self.vm.wait_for(f"[ $(grep -Ec '{text}' {self.out}) -ge {times} ] || ! kill -0 $(cat {self.out}.pid)", timeout)
		if len(re.findall(text, self.said(), re.M)) < times:
			raise VMError(f"{self.vm}: {PROGRAM} has ended: {self.said()}")

	def type(self, line):
		self.vm.sh(f"echo '{line}' >{self.out}.in")

	def ask(self, line, answer, timeout=60):
		"""Type it, and wait for a new line that matches; that line"""
		before = len(re.findall(answer, self.said(), re.M))
		self.type(line)
		self.wait(answer, timeout, before + 1)
		return [s for s in self.said().splitlines() if re.search(answer, s)][-1]

	def wait_state(self, other, state, timeout=60):
		"""Until what it has said last of another one is this: "reached" or "not reached"."""
		self.vm.wait_for(f"grep 'VM {other} is' {self.out} | tail -n 1 | grep -q 'is {state}$'", timeout)

	def status(self, other):
		"""What it says of another one: names and numbers, and whether that is reached"""
		line = self.ask("status", f"VM {other}: ")
		values = {k: int(v) for k, v in re.findall(r"([a-z ]+) (\d+)(?:,|$)", line.split(": ", 1)[1])}
		return {k.strip(): v for k, v in values.items()} | {"reached": ": reached" in line}

	def kill(self):
		self.vm.run(f"kill -KILL $(cat {self.out}.pid); while kill -0 $(cat {self.out}.pid); do sleep 0.05; done", check=False)


class Group:
	"""So many of them"""

	def __init__(self, size=3, iommu="virtio", scattered=False):
		"""scattered: no two pages of the region are side by side in VM 0's memory, so each is mapped by itself"""
		self.scattered = scattered
		self.name = f"/tmp/region-{os.getpid()}-{next(numbers)}"
		self.members = [Member(self, n, iommu) for n in range(size)]

	def __len__(self):
		return len(self.members)

	def __getitem__(self, number):
		return self.members[number]

	def others(self, number):
		return [n for n in range(len(self)) if n != number]

	def path(self, a, b):
		return f"{self.name}-{min(a, b)}-{max(a, b)}"

	def __enter__(self):
		# An owner's driver is refused a device that has no back-end yet: the highest number first
		for m in reversed(self.members):
			m.boot()
			if m.number == 0 and self.scattered:
				pages = (common(len(self)) - HEADER + COMMON) // PAGE
				m.vm.sh(f"for i in $(seq {pages - 1} -1 0); do dd if=/dev/zero of={FILE} bs=4096 seek=$i count=1 conv=notrunc status=none; done")
			m.start(f"-f {FILE}" if m.number == 0 and self.scattered else "")
		self.all_reached()
		return self

	def __exit__(self, *exc):
		for m in self.members:
			if m.vm:
				m.vm.kill()

	def pairs(self):
		return [(m, self[n]) for m in self.members for n in self.others(m.number)]

	def all_reached(self, timeout=60):
		for m, other in self.pairs():
			m.wait_state(other.number, "reached", timeout)

	def healthy(self):
		for m in self.members:
			check(m.alive(), f"{m.vm}: {m.said()}")


if __name__ == "__main__":
	print(initramfs(more=TOOLS))
