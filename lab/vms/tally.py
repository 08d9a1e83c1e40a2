# SPDX-License-Identifier: GPL-2.0-only
"""tally.py: all that ran, in instructions, by place, where one tick of the clock is one instruction
(COUNT=1 of lab/machine/run.sh) and there is one CPU.

Those of a guest are what KVM counts from VMRUN to the exit (lab/compare/counted.patch). A program
that gives way to all others uses the rest of the CPU, two instructions a round. So what is neither a
guest's, nor that program's, nor this one's, is the host's, whoever's it is.
"""

import contextlib
import glob
import os
import resource
import subprocess
import tempfile
import time

from vms import GUEST

EXCHANGE = str(GUEST / "exchange")
# KVM's statistics that tell why a guest was left
EXITS = ("exits", "io_exits", "mmio_exits", "halt_exits", "irq_exits", "irq_window_exits", "signal_exits", "pf_taken",
	"vm2vm_mapped", "vm2vm_unmapped", "vm2vm_faults", "vm2vm_bells")


class Spinner:
	"""Uses what is left of the CPU, and counts"""

	def __init__(self):
		self.path = tempfile.mktemp(prefix="spun-")
		self.process = subprocess.Popen([EXCHANGE, "spin", self.path])
		while not os.path.exists(self.path) or not self.rounds():
			time.sleep(0.01)

	def rounds(self):
		with open(self.path, "rb") as f:
			return int.from_bytes(f.read(8), "little")

	def stop(self):
		self.process.kill()
		self.process.wait()
		os.unlink(self.path)


def read(path):
	with open(path, encoding="ascii") as f:
		return f.read()


def threads(pid):
	"""What each thread of a process has run, in instructions, by name"""
	found = {}
	for task in os.listdir(f"/proc/{pid}/task"):
		with contextlib.suppress(FileNotFoundError, ProcessLookupError):
			name = read(f"/proc/{pid}/task/{task}/comm").strip()
			found[name] = found.get(name, 0) + int(read(f"/proc/{pid}/task/{task}/schedstat").split()[0])
	return found


def children():
	"""What programs that this one has started and waited for have run"""
	usage = resource.getrusage(resource.RUSAGE_CHILDREN)
	return int((usage.ru_utime + usage.ru_stime) * 1e9)


class Setup:
	"""Two guests, and what carries packets between them. hosts: programs of the host's, by name"""

	def __init__(self, one, two, hosts=None):
		self.vms = {"VM1": one, "VM2": two}
		self.hosts = hosts or {}
		self.spinner = Spinner()

	def tally(self):
		"""All that ran so far, by place: instructions, and exits of either VM"""
		now = {"elapsed": time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW), "this": time.process_time_ns() + children(),
			"spun": 2 * self.spinner.rounds()}
		for name, vm in self.vms.items():
			directory, = glob.glob(f"/sys/kernel/debug/kvm/{vm.process.pid}-*")
			now[name] = int(read(f"{directory}/guest_ticks"))
			for e in EXITS:
				if os.path.exists(f"{directory}/{e}"):
					now[f"{name} {e}"] = int(read(f"{directory}/{e}"))
			for thread, ran in threads(vm.process.pid).items():
				now[f"{name} thread {thread}"] = ran
		# Programs of the host's that poll
		for name, program in self.hosts.items():
			for thread, ran in threads(program.pid()).items():
				now[f"{name} thread {thread}"] = ran
			# Of those of DPDK's the ones that poll
			now[name] = sum(v for k, v in now.items() if k.startswith(f"{name} thread") and "worker" in k)
		return now

	@staticmethod
	def difference(before, after):
		"""Of two tallies, and of it what is the host's"""
		spent = {k: v - before.get(k, 0) for k, v in after.items()}
		spent["host"] = spent["elapsed"] - spent["this"] - spent["spun"] - spent["VM1"] - spent["VM2"]
		return spent

	def cost(self, run):
		before = self.tally()
		run()
		return self.difference(before, self.tally())
