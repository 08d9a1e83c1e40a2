#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""places.py: where the instructions of a MAP and of an UNMAP are, behind a strict IOMMU.

    places.py [IOMMU]       one of lab/vms/links.py's: "virtio" if not given, "virtio, strict", "intel"
    places.py IOMMU LEAST   and of each place the functions that have so many

While packets go back and forth in the lab, each instruction is traced (lab/vms/traced.py). All from an exit of the owner's
vCPU to its next entry, without whatever else was scheduled, is one request; a place is that of the innermost function in
PLACES. Of each place it is the median over all requests.
"""

import bisect
import collections
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("BUILD") or ROOT / "build").resolve()
# Of the build machine's, for which a request takes some 50 ms; and before that, for packets to be under way
SECONDS, SETTLE = 12, 4
# In a line of the trace: that the CPU runs a guest
GUEST = 1 << 21

EXIT, MMIO = "KVM: out of the guest, to user space, KVM_RUN, into the guest", "KVM: the access decoded and emulated"
AROUND, DISPATCH, LOCK = "QEMU: around KVM_RUN", "QEMU: from the address to the device", "QEMU: its big lock"
POP, ZERO = "QEMU: a request read from the ring, and a look for the next", "QEMU: of these, zeroing of the stack"
PUSH, MEMORY = "QEMU: an answer put into the ring", "QEMU: intel-iommu: guest memory read and written"
OWN, NOTIFY, OURS = "QEMU: the IOMMU's own: locks, domain, tree", "QEMU: notifiers", "QEMU: vm2vm's part"
CALL, DOMAIN, ZAP = "system call of MAP and UNMAP", "KVM: vm2vm: MAP and UNMAP", "KVM: vm2vm: of UNMAP, zapping and flushing"
PLACES = {
	"entry_SYSCALL_64": EXIT,
	"npf_interception": MMIO, "io_interception": MMIO, "complete_emulated_mmio": MMIO, "complete_fast_pio_out": MMIO,
	"kvm_cpu_exec": AROUND,
	"address_space_rw": DISPATCH,
	"bql_lock_impl": LOCK, "bql_unlock": LOCK, "bql_locked": LOCK,
	"virtqueue_pop": POP,
	"virtqueue_push": PUSH, "virtio_notify": PUSH,
	"virtio_iommu_handle_command": OWN, "vtd_mem_write": OWN,
	"virtio_iommu_notify_map": NOTIFY, "virtio_iommu_notify_unmap": NOTIFY, "memory_region_notify_iommu": NOTIFY,
	"iommu_notify": OURS,
	"vm2vm_domain_ioctl": DOMAIN, "vm2vm_zap_iovas": ZAP,
}
ORDER = (EXIT, MMIO, AROUND, DISPATCH, LOCK, POP, ZERO, PUSH, MEMORY, OWN, NOTIFY, OURS, CALL, DOMAIN, ZAP)
MAP, UNMAP = "kvm_vm2vm_map", "kvm_vm2vm_unmap"


class Symbols:
	"""Functions by address: the kernel's, and of the programs and libraries that a process has mapped"""

	def __init__(self, lines):
		found, files = set(), {}
		for line in lines:
			if m := re.match(r"([0-9a-f]{16}) [tTwW] (\S+)", line):
				found.add((int(m[1], 16), m[2]))
			elif m := re.match(r"([0-9a-f]+)-\S+ (\S+) ([0-9a-f]+) \S+ \S+ +(/\S+)$", line):
				base, executable = files.get(m[4], (int(m[1], 16) - int(m[3], 16), False))
				files[m[4]] = base, executable or "x" in m[2]
		for path, (base, executable) in files.items():
			if executable:
				found.update((base + at, name) for at, name in self.of_file(path))
		self.symbols = sorted(found)
		self.addresses = [s[0] for s in self.symbols]
		self.known = {}

	@staticmethod
	def of_file(path):
		"""Those of a library that has been stripped are those that it exports: what lies between has the name of the one before"""
		for option in (), ("-D",):
			out = subprocess.run(["nm", *option, "--defined-only", path], capture_output=True, text=True, check=False).stdout
			found = re.findall(r"^([0-9a-f]+) [tTwWi] (\S+)$", out, re.M)
			if found:
				break
		# By these what is in libraries is called
		sections = subprocess.run(["readelf", "-SW", path], capture_output=True, text=True, check=False).stdout
		found += [(at, "plt") for at in re.findall(r"\] \.plt\S*\s+\S+\s+([0-9a-f]+)", sections)]
		return [(int(at, 16), name.split("@")[0]) for at, name in found]

	def __call__(self, pc):
		"""Its name, and whether it begins there"""
		if pc not in self.known:
			at, name = self.symbols[max(bisect.bisect_right(self.addresses, pc) - 1, 0)]
			self.known[pc] = name, at == pc
		return self.known[pc]


def requests(trace, symbols):
	"""Of each exit all instructions until the next entry, if it was for a MAP or an UNMAP: which, and these"""
	run = None
	with open(trace, encoding="ascii", errors="replace") as f:
		for line in f:
			m = re.match(r"Trace \d+: \S+ \[[0-9a-f]+/([0-9a-f]+)/([0-9a-f]+)/", line)
			if not m:
				continue
			if not int(m[2], 16) & GUEST:
				# The first is not whole
				if run is not None:
					run.append(int(m[1], 16))
				continue
			if run:
				names = {symbols(pc)[0] for pc in run}
				if "__schedule" not in names and (kinds := names & {MAP, UNMAP}):
					yield kinds.pop(), run
			run = []


class Stack:
	"""Which functions are called, by where the instructions are"""

	def __init__(self, symbols):
		self.symbols, self.names, self.last, self.pops = symbols, [], None, 0

	def at(self, pc):
		name, begins = self.symbols(pc)
		if not self.names:
			self.names = [name]
		elif name == self.names[-1]:
			# It calls itself, or what had no name has returned
			if begins and self.last != name:
				self.names.append(name)
		elif begins or name == "plt" or (name not in self.names and any(n in PLACES for n in self.names)):
			self.names.append(name)
		elif name in self.names:
			while self.names[-1] != name:
				self.names.pop()
		else:
			# Who was called before the exit returns
			self.names = [name]
		self.last = name

	def place(self, kernel):
		for n, name in reversed(list(enumerate(self.names))):
			place = PLACES.get(name)
			if place == EXIT and (MAP in self.names or UNMAP in self.names):
				return CALL
			if place == DISPATCH and "vtd_mem_write" in self.names[:n]:
				return MEMORY
			if place:
				return place
		return EXIT if kernel else AROUND


def tally(run, symbols):
	"""Instructions by place and function"""
	stack, count, last = Stack(symbols), collections.Counter(), None
	for pc in run:
		stack.at(pc)
		place = stack.place(pc >> 63)
		# A round of REP STOS, or memset(), for which the C library exports no name
		if place == POP and (pc == last or stack.names[-1] == "__nss_database_lookup") and "virtqueue_split_pop" in stack.names:
			place = ZERO
		count[place, stack.names[-1]] += 1
		last = pc
	return count


def medians(counters):
	keys = set().union(*counters)
	return {k: statistics.median(c.get(k, 0) for c in counters) for k in keys}


def by_place(count):
	found = collections.Counter()
	for (place, _), n in count.items():
		found[place] += n
	return found


def trace(iommu, directory):
	"""Run it: what traced.py says. The trace is in the directory, then."""
	monitor, log = f"{directory}/monitor", f"{directory}/trace"
	env = dict(os.environ, COUNT="1", MEM="6G", MONITOR=monitor, TIMEOUT="900")
	with subprocess.Popen([ROOT / "lab/vms/links.sh", "traced.py", iommu], env=env, stdout=subprocess.PIPE, text=True,
			start_new_session=True) as lab:
		try:
			said = []
			for line in lab.stdout:
				if line == "now\n":
					break
				said.append(line.rstrip("\n"))
			else:
				sys.exit("\n".join(said[-20:]))
			time.sleep(SETTLE)
			with socket.socket(socket.AF_UNIX) as s:
				s.connect(monitor)
				for command, seconds in ((f"logfile {log}", 1), ("one-insn-per-tb on", 1), ("log exec,nochain", SECONDS), ("log none", 1), ("quit", 0)):
					s.sendall(command.encode() + b"\n")
					time.sleep(seconds)
		finally:
			os.killpg(lab.pid, signal.SIGTERM)
	return said, log


def main():
	iommu, least = (sys.argv[1:] + ["virtio", ""][len(sys.argv) - 1:])[:2]
	with tempfile.TemporaryDirectory(dir=BUILD) as directory:
		said, log = trace(iommu, directory)
		symbols = Symbols(said)
		found = {MAP: [], UNMAP: []}
		for kind, run in requests(log, symbols):
			found[kind].append(tally(run, symbols))
	if not all(found.values()):
		sys.exit("places: no requests in the trace")
	places = {k: medians([by_place(c) for c in counts]) for k, counts in found.items()}
	print(f"{iommu}: {len(found[MAP])} MAP, {len(found[UNMAP])} UNMAP")
	print(f"{'':64}{'MAP':>8}{'UNMAP':>8}{'both':>8}")
	for place in ORDER:
		numbers = [places[k].get(place, 0) for k in (MAP, UNMAP)]
		if any(numbers):
			print(f"{place:64}" + "".join(f"{n:8.0f}" for n in (*numbers, sum(numbers))))
	numbers = [sum(places[k].values()) for k in (MAP, UNMAP)]
	print(f"{'in all':64}" + "".join(f"{n:8.0f}" for n in (*numbers, sum(numbers))))
	if least:
		for kind, counts in found.items():
			for (place, name), n in sorted(medians(counts).items(), key=lambda x: (ORDER.index(x[0][0]), -x[1])):
				if n >= float(least):
					print(f"{kind:16} {place:64}{n:8.0f} {name}")


main()
