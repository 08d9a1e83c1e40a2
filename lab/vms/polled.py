# SPDX-License-Identifier: GPL-2.0-only
"""polled.py: DPDK's testpmd, told what to do as it runs: on a guest's card, by DPDK's own driver and VFIO; as what
serves a card, in the backend's guest; or on the lab's machine, between two ordinary VMs.

`python3 polled.py` builds the initramfs of guests that have it ahead.
"""

import collections
import glob
import itertools
import os
import re
import shutil
import subprocess
import time

from vhost_user import SWITCH, driver
from vms import KERNEL, CommandError, Result, Skip, VMError, VMTimeout, initramfs

NET = 1
# What it says is to be seen at once, though it is no terminal that it says it to
LINES = "/usr/libexec/coreutils/libstdbuf.so"
PROMPT = "testpmd> "
HUGE = 2 << 20
# Buses before drivers, which want them. Each by that of its names which others know it by.
DRIVERS = [f for name in ("bus_pci", "bus_vdev", "mempool_ring", "net_vhost", "net_virtio")
	for f in glob.glob(f"/usr/lib/*/dpdk/pmds-*/librte_{name}.so.[0-9][0-9]")]


def modules(kernel=KERNEL):
	"""Files of VFIO's modules, in the order to load them: of the tree where this kernel was built"""
	tree = next((p for p in kernel.resolve().parents if (p / ".config").exists()), None)
	return [str(tree / m) for m in ("virt/lib/irqbypass.ko", "drivers/vfio/pci/vfio-pci-core.ko", "drivers/vfio/pci/vfio-pci.ko")] if tree else []


def to_programs(vm, cards, iommu=True):
	"""Give the guest's cards to its VFIO, by which a program can drive them"""
	bus = "/sys/bus/pci"
	if vm.run(f"[ -e {bus}/drivers/vfio-pci ]", check=False).status:
		# Interrupts are not remapped
		vm.sh(f"echo 1 >/sys/module/vfio{'_iommu_type1/parameters/allow_unsafe_interrupts' if iommu else '/parameters/enable_unsafe_noiommu_mode'}")
		vm.sh(" && ".join(f"insmod {m}" for m in modules(vm.kernel)))
	for card in cards:
		vm.sh(f"d={bus}/devices/{card}; echo vfio-pci >$d/driver_override; [ ! -e $d/driver ] || echo {card} >$d/driver/unbind; "
			f"echo {card} >{bus}/drivers/vfio-pci/bind")


# What a guest needs for any of them; and where DPDK maps what it has of huge pages of 2 MiB, in front of which it has left
# room for those of 1 GiB, which the CPU has: behind an IOMMU these addresses are the card's, so a window of 4 GiB begins there
TOOLS = (SWITCH, "mkfifo", LINES, *DRIVERS, *modules())
IOVA = 0x1180000000


def need():
	"""Skip the test if that is not there"""
	if not shutil.which(SWITCH) or len(DRIVERS) < 5:
		raise Skip(f"there is no {SWITCH}, or not all of its drivers")
	missing = [f for f in (LINES, *modules()) if not os.path.exists(f)]
	if missing or not modules():
		raise Skip(f"there is no {' '.join(missing) or 'VFIO for this kernel'}")


class Host:
	"""The lab's machine, as far as it is used like a guest: see VM"""

	def __init__(self):
		# One CPU more than VMs may use is there, the first
		self.cpus = sorted(os.sched_getaffinity(0))

	def __repr__(self):
		return "the host"

	def run(self, command, timeout=120, check=True):
		done = subprocess.run(["bash", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
			timeout=timeout, check=False, text=True, errors="replace")
		result = Result(done.stdout, done.returncode)
		if check and result.status:
			raise CommandError(f"{self}: '{command}' failed with {result.status}:\n{result.output}", result)
		return result

	def sh(self, command, timeout=120):
		return self.run(command, timeout).output.rstrip("\n")


class Stats(collections.namedtuple("Stats", "rx tx dropped bursts")):
	"""Since it was told to start, of all its ports: packets received, sent, and not sent or lost; and how often it has
	looked for packets, those times included when there was none. That is counted after "set record-burst-stats on"."""

	@classmethod
	def parse(cls, text):
		total = text[text.index("Accumulated forward statistics"):]
		number = {n: int(re.search(rf"{n}: (\d+)", total).group(1)) for n in ("RX-packets", "TX-packets", "RX-dropped", "TX-dropped")}
		bursts = sum(map(int, re.findall(r"RX-bursts : (\d+)", text)))
		return cls(number["RX-packets"], number["TX-packets"], number["RX-dropped"] + number["TX-dropped"], bursts)


class Testpmd:
	"""It, somewhere (a VM, or Host). cpus: two, of its main thread and of that which polls; they may be the same one."""

	numbers = itertools.count()

	def __init__(self, where, eal, mode="macswap", frame=64, mbufs=2048, cpus=None, options=""):
		if cpus is None:
			cpus = where.cpus[:2] if isinstance(where, Host) else (0, where.smp - 1)
		self.where, self.frame, self.read = where, frame, 0
		self.path = f"/run/testpmd{next(self.numbers)}"
		# A packet is in one buffer, behind 128 bytes of headroom
		size = max(2176, (frame + 18 + 128 + 127) & -128)
		self.line = (f"LD_PRELOAD={LINES} _STDBUF_O=L {SWITCH} {' '.join(f'-d {f}' for f in DRIVERS)} --no-telemetry "
			f"--lcores 0@{cpus[0]},1@{cpus[-1]} {eal} -- -i --disable-link-check --forward-mode={mode} --txpkts={frame} "
			f"--mbuf-size={size} --max-pkt-len={max(frame + 4, 1518)} --total-num-mbufs={mbufs} {options}")

	def prepare(self):
		if not isinstance(self.where, Host):
			# It loads its drivers only from where nobody else may write
			self.where.sh("mkdir -p /var/run; chmod 755 / /usr /usr/lib /usr/lib/x86_64-linux-gnu /usr/lib/x86_64-linux-gnu/dpdk*")

	def start(self, timeout=120):
		self.prepare()
		# Its input does not end
		self.where.run(f"rm -f {self.path}; mkfifo {self.path}; {self.line} 0<>{self.path} >{self.path}.out 2>&1 & echo $! >{self.path}.pid")
		self.read = 0
		self.began = self.answer(timeout)
		return self

	def __enter__(self):
		return self.start()

	def __exit__(self, *exc):
		if isinstance(self.where, Host) or self.where.running():
			self.kill()

	def alive(self):
		return self.where.run(f"kill -0 $(cat {self.path}.pid)", check=False).status == 0

	def kill(self, name="KILL"):
		self.where.run(f"p=$(cat {self.path}.pid); kill -{name} $p; while kill -0 $p; do sleep 0.05; done", check=False)

	def new(self):
		"""What it has printed since this or a command's answer was returned, without what moves a cursor"""
		text = self.where.run(f"tail -c +{self.read + 1} {self.path}.out; echo .").output[:-2]
		self.read += len(text.encode())
		return re.sub(r"\x1b\[[0-9;]*[A-Za-z]|\r", "", text)

	def answer(self, timeout=60):
		"""What it prints until it waits for a command"""
		said, deadline = "", time.monotonic() + timeout
		while True:
			said += self.new()
			if said.endswith(PROMPT):
				return said[:-len(PROMPT)]
			if not self.alive():
				raise VMError(f"{self.where}: {self.line}: it has ended:\n{said + self.new()}")
			if time.monotonic() > deadline:
				raise VMTimeout(f"{self.where}: testpmd does not come back:\n{said}")
			time.sleep(0.2)

	def command(self, text, timeout=60):
		"""What it prints until it waits for the next one"""
		self.new()
		self.where.run(f"echo '{text}' >{self.path}")
		said = self.answer(timeout)
		if "Bad arguments" in said or "Command not found" in said:
			raise VMError(f"{self.where}: testpmd: {text}: {said}")
		return said

	def linked(self, ports=1, timeout=60):
		"""Wait until all its ports have a peer"""
		deadline = time.monotonic() + timeout
		for port in range(ports):
			while "Link status: up" not in (said := self.command(f"show port info {port}")):
				if time.monotonic() > deadline:
					raise VMTimeout(f"{self.where}: testpmd's port {port} has no link: {said}")
				time.sleep(0.2)
		return self

	def stats(self):
		return Stats.parse(self.command("show fwd stats all"))

	def stop(self):
		"""Its statistics, of the end"""
		return Stats.parse(self.command("stop"))

	def ask(self):
		"""For what asked() returns: it looks at its counters when it reads this"""
		self.new()
		self.where.run(f"echo 'show fwd stats all' >{self.path}")

	def asked(self):
		return Stats.parse(self.answer())

	def again(self):
		"""From the beginning, and counting how often it looks"""
		self.command("set record-burst-stats on")
		self.command("start")

	def end(self):
		self.command("stop")

	def pid(self):
		return int(self.where.sh(f"cat {self.path}.pid"))

	def bursts(self):
		"""How often it has looked for packets, and packets received"""
		stats = self.stats()
		return stats.bursts, stats.rx


class Forwarder(Testpmd):
	"""On the guest's network card, which VFIO gets for that. By memory's physical addresses, without an IOMMU, or by its
	own virtual ones, from IOVA on, behind one"""

	def __init__(self, vm, iommu=False, mib=None, **kwargs):
		# To map much takes long behind one
		mib = mib or (16 if iommu else 64)
		self.vm, self.iommu, self.mib = vm, iommu, mib
		name, _ = driver(vm, NET)
		self.card = vm.sh(f"cd -P /sys/bus/virtio/devices/{name}/..; echo ${{PWD##*/}}")
		super().__init__(vm, f"--in-memory -m {mib} --iova-mode={'va' if iommu else 'pa'} -a {self.card}", **kwargs)

	def prepare(self):
		super().prepare()
		need_pages = (self.mib << 20) // HUGE + 4
		self.vm.sh(f"echo {need_pages} >/proc/sys/vm/nr_hugepages; [ $(cat /proc/sys/vm/nr_hugepages) = {need_pages} ]")
		to_programs(self.vm, [self.card], self.iommu)


class Polled(Testpmd):
	"""What serves cards: vhost-user back-ends at .sockets, in the backend's guest, or on the host"""

	def __init__(self, where, ports=1, mib=64, **kwargs):
		self.ports = ports
		self.sockets = [f"/run/p{next(self.numbers)}.sock" for _ in range(ports)]
		devices = " ".join(f"--vdev net_vhost{i},iface={s},queues=1" for i, s in enumerate(self.sockets))
		# Two ports: what comes to one goes to the other
		super().__init__(where, f"--no-huge -m {mib} --no-pci --no-shconf {devices}", **{"mode": "macswap" if ports == 1 else "io", **kwargs})

	@property
	def socket(self):
		return self.sockets[0]

	def prepare(self):
		super().prepare()
		self.where.run(f"rm -f {' '.join(self.sockets)}")


def plain(socket, mac, memory, more=""):
	"""Arguments of an ordinary VM whose card is served by the host's, and its kind of machine"""
	return ("-object", f"memory-backend-memfd,id=m,size={memory}M,share=on", "-chardev", f"socket,id=c0,path={socket}",
		"-netdev", "vhost-user,id=n0,chardev=c0", "-device", f"virtio-net-pci,netdev=n0,mac={mac},romfile=,disable-legacy=on,addr=5{more}")


if __name__ == "__main__":
	print(initramfs(more=TOOLS))
