# SPDX-License-Identifier: GPL-2.0-only
"""vhost_user.py: an owner with QEMU's own vhost-user devices, and a backend whose guest serves
them, for tests and the demo."""

import glob
import itertools
import os
import re
import time

from links import IOMMUS, TOOL
from vms import VM, VMError, check, equal

# Of the card and the backend's tap
OWNER_IP, BACKEND_IP = "10.7.0.1", "10.7.0.2"
MAC = "52:54:00:76:32:76"
numbers = itertools.count()
STORAGE, SWITCH, FILES = "qemu-storage-daemon", "dpdk-testpmd", "/usr/lib/qemu/virtiofsd"
# Its drivers are not libraries of its own. Each by that of its names which others know it by: by two it is loaded twice.
SWITCH_DRIVERS = [f for name in ("bus_vdev", "net_vhost", "mempool_ring")
	for f in glob.glob(f"/usr/lib/*/dpdk/pmds-*/librte_{name}.so.[0-9][0-9]")]
SWITCH_TOOLS = (SWITCH, *SWITCH_DRIVERS)


class Served:
	"""The command lines of an owner with these devices, "net", "blk", "fs" or "rng", and of a backend
	with a vm2vm-pci device for each"""

	def __init__(self, *kinds, iommu="virtio", strict=True, queues=2, server="backend", vm2vm="on", bypass=False, others=(),
		     name="", mac=MAC, first=0):
		"""With vm2vm="on" the owner waits for no backend; bypass: approve all memory to a device without IOMMU;
		others: the backend has devices of these names for other owners, too: see other(). Of a second owner of the
		same backend's: name is what its devices begin with there, first the number of the first of them"""
		n = next(numbers)
		self.windows = {k: f"/tmp/served-{os.getpid()}-{n}-{k}" for k in (*kinds, *others)}
		self.paths = {k: self.windows[k] for k in kinds}
		self.iommu, self.strict, self.queues, self.server = iommu, strict, queues, server
		self.name, self.mac, self.first = name, mac, first
		self.policy = f"vm2vm={vm2vm}{',vm2vm-bypass=on' if bypass else ''}"

	def other(self, name, **kwargs):
		"""Of another owner, whose card the backend's device of this name serves"""
		served = Served("net", iommu=self.iommu, queues=self.queues, server=self.server, **kwargs)
		served.paths["net"] = self.windows[name]
		return served

	def device(self, kind, addr, more=""):
		"""QEMU's arguments for one of the owner's"""
		platform = f"iommu_platform={'on' if self.iommu else 'off'},id=d-{kind},addr={addr:#x}{more}"
		# A file system's device does not wait for its back-end
		side = ("" if kind == "fs" else ",reconnect-ms=200") if self.server == "backend" else ",server=on,wait=off"
		chardev = ["-chardev", f"socket,id=c-{kind},path={self.paths[kind]}{side}"]
		if kind == "net":
			return chardev + ["-netdev", f"vhost-user,id=n-net,chardev=c-net,queues={self.queues},{self.policy}",
				"-device", f"virtio-net-pci,netdev=n-net,mq=on,mac={self.mac},romfile=,disable-legacy=on,{platform}"]
		more = {"blk": f"num-queues={self.queues},disable-legacy=on", "fs": "tag=files"}.get(kind, "vectors=2")
		return chardev + ["-device", f"vhost-user-{kind}-pci,chardev=c-{kind},{self.policy},{more},{platform}"]

	def owner(self, *args, name="owner", append="", poison=True, devices=True, smp=2, **kwargs):
		append = f"iommu.strict={int(self.strict)} {'page_poison=1' if poison else ''} {append}"
		for i, kind in enumerate(self.paths if devices else ()):
			args = (*self.device(kind, 5 + i), *args)
		return VM(name, *IOMMUS[self.iommu], *args, append=append, smp=smp, **kwargs)

	def window(self, kind, addr, more=""):
		"""QEMU's arguments for one of the backend's"""
		device = f"vm2vm-pci,id=w-{self.name}{kind},addr={addr:#x}{more}"
		if self.server == "backend":
			return ["-device", f"{device},path={self.windows[kind]}"]
		return ["-chardev", f"socket,id=c-{kind},path={self.windows[kind]},reconnect-ms=200",
			"-object", f"vm2vm-link,id=l-{kind},role=backend,chardev=c-{kind},size=4G", "-device", f"{device},link=l-{kind}"]

	def backend(self, *args, name="backend", more="", **kwargs):
		for i, kind in enumerate(self.windows):
			args = (*self.window(kind, 5 + i, more), *args)
		return VM(name, *args, **kwargs)

	def index(self, kind):
		"""Of its device in the backend's guest"""
		return self.first + list(self.windows).index(kind)


class Program:
	"""vm2vm in the backend's guest, serving something"""

	def __init__(self, vm, served, kind, command):
		self.vm, self.kind = vm, kind
		self.command = f"{TOOL} -n {served.index(kind)} {command}"
		self.out = f"/run/served-{served.name}{kind}"

	def start(self, said="ready"):
		"""Until it has said this"""
		self.vm.run(f"{self.command} >{self.out} 2>&1 & echo $! >{self.out}.pid")
		self.vm.wait_for(f"grep -q '{said}' {self.out} || ! kill -0 $(cat {self.out}.pid)", 60)
		if said not in self.said():
			raise VMError(f"{self.vm}: {self.command}: {self.said()}")
		return self

	def said(self):
		return self.vm.sh(f"cat {self.out}")

	def alive(self):
		return self.vm.run(f"kill -0 $(cat {self.out}.pid)", check=False).status == 0

	def signal(self, name):
		self.vm.sh(f"kill -{name} $(cat {self.out}.pid)")

	def kill(self, name="KILL"):
		"""End it, and wait"""
		self.vm.run(f"kill -{name} $(cat {self.out}.pid); "
			f"while kill -0 $(cat {self.out}.pid); do sleep 0.05; done", check=False)


class Daemon:
	"""A vhost-user back-end program in the backend's guest; command makes it listen at socket"""

	def __init__(self, vm):
		self.vm = vm

	def start(self):
		self.vm.run(f"{self.command} >/run/daemon 2>&1 & echo $! >/run/daemon.pid")
		self.vm.wait_for(f"[ -S {self.socket} ] || ! kill -0 $(cat /run/daemon.pid)", 60)
		check(self.alive(), self.said())
		return self

	def said(self):
		return self.vm.sh("cat /run/daemon")

	def alive(self):
		return self.vm.run("kill -0 $(cat /run/daemon.pid)", check=False).status == 0

	def signal(self, name):
		self.vm.sh(f"kill -{name} $(cat /run/daemon.pid)")

	def kill(self):
		self.vm.sh("kill -KILL $(cat /run/daemon.pid); while kill -0 $(cat /run/daemon.pid) 2>/dev/null; do sleep 0.05; done; "
			f"rm {self.socket}")


class Storage(Daemon):
	"""qemu-storage-daemon with a disk of so many MiB, or with these: {name: a file or a device of the guest's}"""

	def __init__(self, vm, mib, disks=None):
		super().__init__(vm)
		self.sockets = {n: f"/run/{n}.sock" for n in disks or ("disk",)}
		# The last that it makes
		self.socket = list(self.sockets.values())[-1]
		self.command = STORAGE
		for n, path in (disks or {"disk": "/tmp/disk"}).items():
			self.command += (f" --blockdev {'host_device' if path.startswith('/dev/') else 'file'},node-name={n},filename={path}"
				f" --export vhost-user-blk,id=e-{n},node-name={n},addr.type=unix,addr.path={self.sockets[n]},writable=on,num-queues=2")
		if not disks:
			vm.sh(f"[ -e /tmp/disk ] || dd if=/dev/zero of=/tmp/disk bs=1M count=0 seek={mib} status=none")


class Files(Daemon):
	"""virtiofsd, of a directory"""

	socket = "/run/f0.sock"
	command = f"{FILES} -f --socket-path={socket} -o source=/tmp/files -o sandbox=chroot"

	def __init__(self, vm):
		super().__init__(vm)
		vm.sh("mkdir -p /tmp/files /var/run/virtiofsd /var/lib")


class Switch(Daemon):
	"""DPDK's testpmd. With one port it answers ARP and pings itself, whatever address they are for; with two what comes
	to one goes to the other."""

	socket = "/run/s0.sock"

	def __init__(self, vm, ports=1):
		super().__init__(vm)
		self.sockets = [f"/run/s{i}.sock" for i in range(ports)]
		devices = " ".join(f"--vdev net_vhost{i},iface={s},queues=1" for i, s in enumerate(self.sockets))
		# Whoever ends its input ends it
		self.command = (f"rm -f {' '.join(self.sockets)}; tail -f /dev/null | {SWITCH} {' '.join(f'-d {f}' for f in SWITCH_DRIVERS)} "
			f"--no-huge -m 256 --no-pci --no-telemetry --no-shconf -l 0,1 {devices} -- "
			f"--forward-mode={'icmpecho' if ports == 1 else 'io'} --total-num-mbufs=4096")
		# It loads its drivers only from where nobody else may write
		vm.sh("mkdir -p /var/run; chmod 755 / /usr /usr/lib /usr/lib/x86_64-linux-gnu /usr/lib/x86_64-linux-gnu/dpdk*")


# The owner's guest

def driver(vm, virtio_id):
	"""Name of the virtio device of this kind, and its driver's directory"""
	for line in vm.sh(f"grep -l 0x{virtio_id:04x} /sys/bus/virtio/devices/*/device").splitlines():
		name = line.split("/")[-2]
		path = vm.run(f"cd -P /sys/bus/virtio/devices/{name}/driver && pwd", check=False).output.strip()
		return name, path or {1: "/sys/bus/virtio/drivers/virtio_net", 2: "/sys/bus/virtio/drivers/virtio_blk",
			4: "/sys/bus/virtio/drivers/virtio_rng"}[virtio_id]
	raise VMError(f"{vm}: there is no virtio device {virtio_id}")


def interface(vm):
	"""The owner's card: its name in the guest"""
	name, _ = driver(vm, 1)
	return vm.wait_for(f"ls /sys/bus/virtio/devices/{name}/net", 30)


def link_up(vm, ip=OWNER_IP):
	vm.sh(f"d={interface(vm)}; ip addr replace {ip}/24 dev $d; ip link set $d up")


def make_tap(vm, pairs=2):
	many = "multi_queue" if pairs > 1 else ""
	vm.sh(f"ip tuntap add dev tap0 mode tap {many}; ip addr add {BACKEND_IP}/24 dev tap0; ip link set tap0 up")


def make_bridge(vm, name="br0"):
	"""With an address of its own: else it has that of one of its ports, and another one when that comes or goes"""
	vm.sh(f"ip link add {name} address 02:00:00:76:32:76 type bridge; ip addr add {BACKEND_IP}/24 dev {name}; ip link set {name} up")


def ping(vm, count=3, timeout=60, ip=BACKEND_IP):
	"""It takes a while until it is answered after something was set up: then each is."""
	vm.wait_for(f"ping -c 1 -W 1 {ip}", timeout)
	return vm.sh(f"ping -c {count} -i 0.1 -W 10 {ip}")


def rebind(vm, virtio_id):
	name, path = driver(vm, virtio_id)
	vm.sh(f"echo {name} >{path}/unbind; echo {name} >{path}/bind")


def disk(vm, timeout=60):
	"""The owner's disk that is served: its path. It may be there before the backend is."""
	name, _ = driver(vm, 2)
	block = vm.wait_for(f"ls /sys/bus/virtio/devices/{name}/block | grep .", timeout).strip()
	# One write is one request: none is merged with others
	vm.sh(f"echo 2 >/sys/block/{block}/queue/nomerges")
	return f"/dev/{block}"


def file_system_holds(owner, rebinds):
	"""A file on the owner's disk is there after each time that the driver lets go. Returns disk()."""
	name = disk(owner)
	owner.sh(f"mkfs.ext4 -q {name} && mkdir -p /run/disk && mount {name} /run/disk", 200)
	owner.sh("head -c 10000000 /dev/urandom >/run/data; sha256sum </run/data >/run/sum; cp /run/data /run/disk; sync")
	owner.sh("umount /run/disk; echo 3 >/proc/sys/vm/drop_caches")
	for _ in range(rebinds):
		rebind(owner, 2)
		name = disk(owner)
		owner.sh(f"mount {name} /run/disk")
		equal(owner.sh("sha256sum </run/disk/data"), owner.sh("cat /run/sum"), "what is in the file")
		owner.sh("umount /run/disk; echo 3 >/proc/sys/vm/drop_caches")
	equal([s for s in owner.sh("dmesg").splitlines() if "I/O error" in s], [], "complaints of the owner's kernel")
	return name


def late_writes(vm):
	"""What was written to pages that the guest had freed: lines of the kernel's.

	With page_poison=1 it looks at each page that is taken from the free ones: take all.
	"""
	vm.sh("free=$(sed -n 's/^MemFree: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo); "
		"dd if=/dev/zero of=/tmp/all-memory bs=1M count=$((free * 9 / 10 / 1024)) status=none; rm /tmp/all-memory")
	lines = vm.sh("dmesg").splitlines()
	first = next((n for n, s in enumerate(lines) if re.search("pagealloc: (memory corruption|single bit error)", s)), len(lines))
	# What was written, and to which page
	return lines[first:first + 60]


def wait_until(condition, what, timeout=60):
	deadline = time.monotonic() + timeout
	while not condition():
		if time.monotonic() > deadline:
			raise VMError(f"not in {timeout} s: {what}")
		time.sleep(0.1)
