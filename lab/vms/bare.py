# SPDX-License-Identifier: GPL-2.0-only
"""bare.py: a QEMU without a guest to speak of, and whoever is at the other end of its links."""

import contextlib
import fcntl
import functools
import os
import pathlib
import socket
import struct
import subprocess
import tempfile
import time

from links import (F_DOMAIN, F_REPLY_ACK, GET_FEATURES, GET_PROTOCOL_FEATURES, REPLY, SET_DOMAIN, VERSION, Peer, link, u64)
from vms import QEMU, VM, check, equal, test

F_PROTOCOL_FEATURES = 1 << 30
# What a driver writes to the configuration space of d0
SLOT_D0 = 6
PCI = [(SLOT_D0, 4, 6)]
# A driver's view of a virtio device: offset in the common configuration, bytes, value
DESC, AVAIL, USED, QUEUE_SIZE = 0x100000, 0x101000, 0x102000, 128
DRIVER = [(0x14, 1, 0), (0x14, 1, 1), (0x14, 1, 3), (8, 4, 1), (0xc, 4, 3), (0x14, 1, 11), (0x16, 2, 0),
	(0x18, 2, QUEUE_SIZE), (0x20, 4, DESC), (0x24, 4, 0), (0x28, 4, AVAIL), (0x2c, 4, 0), (0x30, 4, USED),
	(0x34, 4, 0), (0x1c, 2, 1), (0x14, 1, 15), (0x3000, 2, 0)]
# By a capability with a window to it, so that no BAR is needed
CAP = 0x84
for _offset, _size, _value in DRIVER:
	PCI += [(SLOT_D0, CAP + 4, 4), (SLOT_D0, CAP + 8, _offset), (SLOT_D0, CAP + 12, _size), (SLOT_D0, CAP + 16, _value)]


@functools.lru_cache
def firmware(writes=tuple(PCI), again=False):
	"""A file with it: it writes to these registers, and halts for good, or goes on with the last write."""
	code, begin = b"", 0
	for slot, register, value in writes:
		address, begin = 1 << 31 | slot << 11 | register, len(code)
		for port, what in ((0xcf8, address), (0xcfc, value)):
			# mov dx, port; mov eax, what; out dx, eax
			code += struct.pack("<BHHIH", 0xba, port, 0xb866, what, 0xef66)
	# jmp there; or cli; hlt, and again
	code += struct.pack("<Bb", 0xeb, begin - len(code) - 2) if again else b"\xfa\xf4\xeb\xfd"
	image = bytearray(1 << 16)
	image[:len(code)] = code
	image[0xfff0:0xfff3] = struct.pack("<BH", 0xe9, 0x10000 - 0xfff3)	# jmp 0
	with tempfile.NamedTemporaryFile(prefix="firmware-", delete=False) as f:
		f.write(image)
	return f.name


class Bare(VM):
	"""Its firmware sets up the devices and the queue of d0, kicks that once, and halts; or kicks for ever."""
	kicks = False

	def command_line(self, qmp, channel):
		return [QEMU, "-name", self.name, "-accel", "kvm", "-cpu", self.cpu, "-M", self.machine, "-m", "64",
			"-nodefaults", "-no-user-config", "-display", "none", "-bios", firmware(again=self.kicks),
			"-L", "/usr/share/seabios", "-L", "/usr/share/qemu",
			# A device that no guest has seen can be unplugged without asking anybody
			"-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
			"-chardev", f"socket,id=vms-qmp,fd={qmp}", "-mon", "chardev=vms-qmp,mode=control", *self.args]

	def begin(self):
		"""Start it, and wait for its firmware"""
		self.start(wait=False)
		deadline = time.monotonic() + 30
		while not self.halted():
			check(time.monotonic() < deadline, "the firmware has set up the devices")
			time.sleep(0.05)
		return self

	def halted(self):
		status = self.qmp("x-query-virtio-status", path="/machine/peripheral/d0/virtio-backend")["status"]
		return any(s.startswith("VIRTIO_CONFIG_S_DRIVER_OK") for s in status["statuses"])


def exits(*args, accel="kvm", machine="q35"):
	"""What a QEMU says that ends with status 1"""
	ended = subprocess.run([QEMU, "-accel", accel, "-M", machine, "-m", "64", "-nodefaults", "-no-user-config",
		"-display", "none", "-S", "-bios", firmware(), "-L", "/usr/share/seabios", "-L", "/usr/share/qemu", *args], stdin=subprocess.DEVNULL, capture_output=True,
		text=True, timeout=60, check=False)
	equal(ended.returncode, 1, f"exit status ({ended.stderr})")
	return ended.stderr


def closed_by_threads(vm):
	"""How many sockets and domains QEMU has"""
	fds, n = f"/proc/{vm.process.pid}/fd", 0
	for fd in os.listdir(fds):
		with contextlib.suppress(FileNotFoundError):
			n += os.readlink(f"{fds}/{fd}").startswith(("socket:", "anon_inode:kvm-vm2vm-domain"))
	return n


@contextlib.contextmanager
def first_peer(vm):
	"""One that comes and goes, for all that QEMU makes only once. What he had goes a little later."""
	before = closed_by_threads(vm)
	yield
	deadline = time.monotonic() + 15
	while closed_by_threads(vm) > before:
		check(time.monotonic() < deadline, "what the first peer had is closed")
		time.sleep(0.02)


class Before:
	"""How a VM is now: it comes to be so again."""

	COUNTERS = ("peers", "dropped")
	BACKEND_COUNTERS = ("epoch", "acknowledged", "slow-doorbells", "refused-reads", "refused-writes")

	def __init__(self, vm):
		vm.events.clear()
		self.vm, self.said = vm, vm.stderr.stat().st_size
		self.is_ = self.now()

	def now(self):
		links = [{k: v for k, v in i.items() if k not in self.COUNTERS} for i in self.vm.qmp("query-vm2vm-links")]
		for i in links:
			i["backend"] = {k: v for k, v in i.get("backend", {}).items() if k not in self.BACKEND_COUNTERS}
		return len(os.listdir(f"/proc/{self.vm.process.pid}/fd")), links

	def again(self):
		"""Some of it ends a little later, as RCU has it."""
		deadline = time.monotonic() + 15
		while (now := self.now()) != self.is_ and time.monotonic() < deadline:
			time.sleep(0.05)
		equal(now[0], self.is_[0], "file descriptors")
		equal(now[1], self.is_[1], "links")

	def stderr(self):
		"""Lines since then"""
		return self.vm.stderr.read_bytes()[self.said:].decode(errors="replace").splitlines()


# ---- KVM

def iow(nr, size, read=False):
	return (3 if read else 1) << 30 | size << 16 | 0xae << 8 | nr


CREATE_VM = 0xae01
CREATE_DOMAIN, LINK, UNLINK, MAP = iow(0xf0, 32), iow(0xf1, 56), iow(0xf2, 8), iow(0xf3, 32)


def create_vm():
	with open("/dev/kvm", "rb+", buffering=0) as kvm:
		return fcntl.ioctl(kvm, CREATE_VM, 0)


def create_domain(vm):
	return fcntl.ioctl(vm, CREATE_DOMAIN, bytearray(32))


def link_domain(vm, domain, size=2 << 20):
	"""A window to it in a VM of this process, that goes again"""
	fcntl.ioctl(vm, LINK, bytearray(struct.pack("<iIQQQIIQQ", domain, 7, 0, 0, size, 0, 0, 0, 0)))
	fcntl.ioctl(vm, UNLINK, bytearray(struct.pack("<II", 7, 0)))


# ---- Those at the other end

class Backend(Peer):
	"""To a link of role owner"""

	RIGHT = {
		GET_FEATURES: u64(F_PROTOCOL_FEATURES | 1 << 32),
		GET_PROTOCOL_FEATURES: u64(F_DOMAIN | F_REPLY_ACK | 1),
		SET_DOMAIN: u64(0),
	}

	def answer(self, request, payload=None, flags=VERSION | REPLY, **kwargs):
		self.send(request, self.RIGHT[request] if payload is None else payload, flags, **kwargs)

	def answers(self, until=None):
		"""Answer rightly until it is connected, or until that is asked"""
		while (message := self.receive()) is not None:
			request = message[0]
			if request == until:
				return self
			if request in self.RIGHT:
				self.answer(request)
			if request == SET_DOMAIN:
				return self
		raise AssertionError("the link hangs up")


def connected(vm, name):
	"""What is told of a link when it has a peer. There are no events but of those to come then."""
	deadline = time.monotonic() + 10
	while not (info := link(vm, name))["connected"]:
		check(time.monotonic() < deadline, "it is connected")
		time.sleep(0.02)
	vm.events.clear()
	return info


def good_backend(vm, path, name):
	peer = Backend(path).answers()
	info = connected(vm, name)
	check(info["owner"]["approving"] and info["owner"]["bytes"] >= 60 << 20, f"its memory is approved: {info}")
	own = create_vm()
	try:
		link_domain(own, peer.fds[0])
	finally:
		os.close(own)
	return peer


def serves(vm, path, name):
	"""A good peer can connect, and goes."""
	peer = good_backend(vm, path, name)
	peer.close()
	event = vm.wait_event("VM2VM_PEER_LOST", 10, id=name)
	check("reason" not in event["data"], f"it was not dropped: {event}")


def temporary(name):
	return pathlib.Path(tempfile.gettempdir()) / f"{name}-{os.getpid()}"


def lingering():
	"""A socket whose close takes a minute, unless its other end is closed: client, what is at the other end"""
	server = socket.socket()
	server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
	server.bind(("127.0.0.1", 0))
	server.listen()
	client = socket.socket()
	client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
	client.connect(server.getsockname())
	other, _ = server.accept()
	client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
	client.setblocking(False)
	try:
		while True:
			client.send(bytes(65536))
	except BlockingIOError:
		pass
	return client, (other, server)


# ---- The one QEMU for many cases

TO_OWNER, FREE = (str(temporary(f"peer-{n}")) for n in ("owner", "free"))


def machine():
	def server(name, path):
		return ["-chardev", f"socket,id={name},path={path},server=on,wait=off"]
	vm = Bare("bare", *server("c1", TO_OWNER), *server("free", FREE),
		"-chardev", "null,id=null", "-chardev", "socket,id=tcp,host=127.0.0.1,port=0,server=on,wait=off",
		"-object", "vm2vm-link,id=l1,role=owner,chardev=c1,device=d0,bypass=on",
		"-device", "virtio-rng-pci,id=d0,addr=6",
		"-device", "virtio-rng-pci,id=r0,addr=7", "-device", "isa-debug-exit,id=e0",
		"-device", "pcie-root-port,id=rp,chassis=1,addr=8").begin()
	with first_peer(vm):
		serves(vm, TO_OWNER, "l1")
	return vm


def case(name, function, *args):
	"""A test of its own, of one line of a table"""
	def run():
		function(*args)
	run.__name__ = name
	test(run)
