# SPDX-License-Identifier: GPL-2.0-only
"""links.py: pairs of virtual machines with a vm2vm link between them, for tests."""

import itertools
import os
import socket
import struct
import time

from vms import QMPError, VM, VMError, VMTimeout, equal

# Where Linux's DMA API takes bus addresses from: the top of the first 4 GiB
BASE, SIZE = 0xff000000, 16 << 20
PAGE = 4096
TOOL = "vm2vm"
# One that QEMU serves itself: its memory is only looked at
OWN_RNG = "virtio-rng-pci,rng=r0,disable-legacy=on"
IOMMUS = {
	"virtio": ["-device", "virtio-iommu-pci,boot-bypass=off"],
	# Where each request counts: kicked by a port, and without a table of descriptors
	"virtio, strict": ["-device", "virtio-iommu-pci,boot-bypass=off,modern-pio-notify=on,indirect_desc=off"],
	"intel": ["-device", "intel-iommu,caching-mode=on,intremap=off"],
	None: [],
}
numbers = itertools.count()


class Pair:
	"""The command lines of an owner and a backend that find each other.

	The owner's device is its own: the backend sees what its IOMMU maps.
	"""
	# To approve all memory where there is no IOMMU
	bypass = ",bypass=on"
	# Or where it has an identity domain
	identity = False

	def __init__(self, iommu="virtio", server="backend", strict=True, unapproved="fill"):
		self.path = f"/tmp/link-{os.getpid()}-{next(numbers)}"
		self.iommu, self.server, self.strict, self.unapproved = iommu, server, strict, unapproved
		# What it is on the command line
		self.iommu_device = IOMMUS[iommu]

	def chardev(self, role):
		side = ",server=on,wait=off" if role == self.server else ",reconnect-ms=200"
		return f"socket,id=c0,path={self.path}{side}"

	def owner_link(self):
		bypass = self.bypass if not self.iommu or self.identity else ""
		return ["-chardev", self.chardev("owner"),
			"-object", f"vm2vm-link,id=l0,role=owner,chardev=c0,device=d0{bypass}"]

	def owner(self, *args, name="owner", device=OWN_RNG, link=True, **kwargs):
		platform = "on" if self.iommu else "off"
		append = f"iommu.strict={1 if self.strict else 0} {kwargs.pop('append', '')}"
		return VM(name, *self.iommu_device, "-object", "rng-builtin,id=r0", *(self.owner_link() if link else []),
			"-device", f"{device},id=d0,iommu_platform={platform},addr=5", *args, append=append, **kwargs)

	def backend_link(self, base=BASE, size=SIZE, more=""):
		return ["-chardev", self.chardev("backend"),
			"-object", f"vm2vm-link,id=l0,role=backend,chardev=c0,base={base:#x},size={size},"
			f"unapproved={self.unapproved}{more}"]

	def backend(self, *args, name="backend", device=True, base=BASE, size=SIZE, more="", **kwargs):
		device = ["-device", "vm2vm-pci,id=w0,link=l0,addr=5"] if device else []
		return VM(name, *self.backend_link(base, size, more), *device, *args, **kwargs)


def link(vm, name="l0"):
	"""What query-vm2vm-links tells of a link"""
	return next(i for i in vm.qmp("query-vm2vm-links") if i["id"] == name)


def connected(*vms):
	for vm in vms:
		if not link(vm)["connected"]:
			vm.wait_event("VM2VM_PEER_CONNECTED")
		vm.events = [e for e in vm.events if e["event"] != "VM2VM_PEER_CONNECTED"]


def hold(vm, index=0):
	"""A program in the backend's guest that is registered, and acknowledges whatever comes"""
	vm.run(f"{TOOL} -n {index} rng 0 >/run/hold{index} 2>&1 & echo $! >/run/holder{index}")
	vm.wait_for(f"grep -q ready /run/hold{index}", 60)


def let_go(vm, index=0):
	vm.sh(f"p=$(cat /run/holder{index}); kill $p; while kill -0 $p 2>/dev/null; do sleep 0.1; done")


def seen(owner, *backends, name="l0"):
	"""They are connected, and the backends' windows show it."""
	connected(owner, *backends)
	for vm in backends:
		deadline = time.monotonic() + 60
		while not link(vm, name)["backend"]["shown"]:
			if time.monotonic() > deadline:
				raise VMError(f"{vm}: the window shows nothing: {link(vm, name)}")
			time.sleep(0.1)


def refused(vm, command, said, **arguments):
	"""QMP refuses it, with this in its message."""
	try:
		vm.qmp(command, **arguments)
	except QMPError as e:
		if said not in e.desc:
			raise VMError(f"{command} {arguments}: says '{e.desc}', not '{said}'") from None
		return
	raise VMError(f"{command} {arguments}: is not refused")


def pages(ranges, base=BASE, size=SIZE):
	"""Those of a list of x-query-vm2vm-mappings that are in the window, as numbers"""
	return {p for r in ranges for p in range(r["iova"] // PAGE, (r["iova"] + r["size"]) // PAGE)
		if base <= p * PAGE < base + size}


def scan_both(vm, *args, index=0):
	"""The pages that the backend's guest finds approved, in the window of the device of that
	index, and those of which it cannot know, as they are all-ones"""
	found = set(), set()
	for line in vm.sh(" ".join((TOOL, f"-n {index}", "scan", *args))).splitlines():
		where, *ones = line.split()
		equal(ones, ["all-ones"] * len(ones), "what is behind the pages")
		first, end = (int(x, 16) for x in where.split("-"))
		found[len(ones)].update(range(first // PAGE, end // PAGE))
	return found


def scan(vm, *args, index=0):
	"""Those that it finds approved.  In these tests there is no other data of all-ones."""
	return scan_both(vm, *args, index=index)[0]


def same_pages(owner, backend, name="l0", index=0, **where):
	"""The guest finds exactly what KVM has, which is exactly what the IOMMU has.

	base= and size= are those of the window, if they are not the usual ones.
	"""
	# The owner's driver maps a buffer every other second, for a moment
	for _ in range(10):
		before = owner.qmp("x-query-vm2vm-mappings", id=name)
		found = scan(backend, index=index)
		mappings = owner.qmp("x-query-vm2vm-mappings", id=name)
		if mappings == before:
			break
	translated = pages(mappings["translated"], **where)
	equal(sorted(found - translated), [], "pages that the IOMMU does not map")
	equal(sorted(translated - found), [], "pages that are not seen")
	equal(pages(mappings["approved"], **where), found, "what KVM approves")
	return found


# ---- A peer that is not QEMU: vhost-user's messages, and what else comes to mind

GET_FEATURES, SET_FEATURES, SET_OWNER = 1, 2, 3
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL = 8, 9, 10, 12, 13
GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, GET_QUEUE_NUM, SET_VRING_ENABLE = 15, 16, 17, 18
SET_STATUS, SET_DOMAIN = 39, 128
VERSION, REPLY, NEED_REPLY = 1, 4, 8
F_DOMAIN, F_REPLY_ACK = 1 << 48, 1 << 3


def port(name, number):
	"""Where something can be plugged in later"""
	return ["-device", f"pcie-root-port,id={name},chassis={number},addr={0x10 + number:#x},pref64-reserve=8G"]


def plug(vm, args):
	"""Arguments of a command line, for a VM that runs"""
	commands = {"-chardev": "chardev-add", "-netdev": "netdev_add", "-device": "device_add"}
	for option, value in zip(args[::2], args[1::2]):
		said = vm.hmp(f"{commands[option]} {value}")
		if "Error" in said:
			raise VMError(f"{vm}: {commands[option]} {value}: {said}")


def unplug(vm, device):
	"""With the guest's consent, which a slot that is still busy does not give"""
	for _ in range(6):
		try:
			vm.qmp("device_del", id=device)
			return vm.wait_event("DEVICE_DELETED", 20, device=device)
		except (QMPError, VMTimeout):
			time.sleep(1)
	raise VMError(f"{vm}: {device} cannot be unplugged")


class Peer:
	"""A socket to a link's chardev, from the other side"""

	def __init__(self, path=None, sock=None):
		if sock is None:
			sock = socket.socket(socket.AF_UNIX)
			# Python's own timeout would not wait for a place in the queue
			sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 30, 0))
			sock.connect(path)
		self.sock, self.fds = sock, []
		self.sock.settimeout(30)

	def send(self, request, payload=b"", flags=VERSION, size=None, fds=()):
		data = struct.pack("<III", request, flags, len(payload) if size is None else size) + payload
		if fds:
			socket.send_fds(self.sock, [data], list(fds))
		else:
			self.sock.sendall(data)

	def receive(self):
		"""Request, flags, payload; or None if it is closed"""
		data = b""
		while len(data) < 12 or len(data) < 12 + struct.unpack_from("<I", data, 8)[0]:
			want = 12 - len(data) if len(data) < 12 else 12 + struct.unpack_from("<I", data, 8)[0] - len(data)
			try:
				more, fds, _, _ = socket.recv_fds(self.sock, want, 4)
			except ConnectionError:
				return None
			self.fds += fds
			if not more:
				return None
			data += more
		request, flags, _ = struct.unpack_from("<III", data)
		return request, flags, data[12:]

	def ask(self, request, payload=b"", **kwargs):
		self.send(request, payload, **kwargs)
		reply = self.receive()
		equal(reply and reply[:2], (request, VERSION | REPLY), "the reply")
		return struct.unpack("<Q", reply[2])[0]

	def closed(self):
		"""It hangs up on us, whatever it sends before."""
		while self.receive() is not None:
			pass
		return True

	def close(self):
		"""Also of what was passed to us"""
		self.sock.close()
		for fd in self.fds:
			os.close(fd)
		self.fds = []


def u64(value):
	return struct.pack("<Q", value)


def state(index, num):
	return struct.pack("<II", index, num)
