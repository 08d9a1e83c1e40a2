# SPDX-License-Identifier: GPL-2.0-only
"""fronts.py: a backend's QEMU whose guest is this test, and peers that are not QEMU.

The guest's CPU halts. Its accesses to the device are made by qtest's commands.
"""

import itertools
import os
import select
import struct
import tempfile
import time

from bare import Before, create_domain, create_vm, firmware, first_peer
from links import (GET_FEATURES, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, NEED_REPLY, REPLY, SET_DOMAIN, SET_FEATURES, SET_OWNER,
	SET_PROTOCOL_FEATURES, SET_STATUS, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_CALL, SET_VRING_ENABLE, SET_VRING_KICK,
	SET_VRING_NUM, VERSION, Peer, link, state, u64)
from vms import QEMU, VM, check, equal, shared, test

# What vhost-user has besides, and what the back-end offers always and by the guest's choice
GET_VRING_BASE, SET_VRING_ERR, SEND_RARP, NET_SET_MTU, SET_BACKEND_REQ_FD = 11, 14, 19, 20, 21
GET_CONFIG, SET_CONFIG, GET_INFLIGHT_FD, SET_INFLIGHT_FD, RESET_DEVICE, GET_STATUS = 24, 25, 31, 32, 34, 40
F_MQ, F_RARP, F_REPLY_ACK, F_MTU, F_BACKEND_REQ, F_CONFIG = (1 << n for n in (0, 2, 3, 4, 5, 9))
F_INFLIGHT, F_RESET, F_STATUS, F_DOMAIN = (1 << n for n in (12, 13, 16, 48))
ALWAYS = F_MQ | F_REPLY_ACK | F_BACKEND_REQ | F_STATUS | F_DOMAIN
CHOICE = F_RARP | F_MTU | F_CONFIG | F_INFLIGHT | F_RESET
PROTOCOL_FEATURES, ACCESS_PLATFORM, VERSION_1 = 1 << 30, 1 << 33, 1 << 32
NONE = 1
UNKNOWN = 0xffffffff
NOFD = 0x100

# Registers, guest/vm2vm_pci.h
MAGIC, VERSION_REG, STATE, EPOCH, SIZE, BASE_REG, ACK, CONTROL, DEVICE_STATUS = 0, 4, 8, 0xc, 0x10, 0x18, 0x20, 0x24, 0x28
FEATURES, PROTOCOL, REFUSED = 0x30, 0x38, 0x40
OFFER_FEATURES, OFFER_PROTOCOL, OFFER_DEVICE_ID, OFFER_QUEUES, OFFER_CONFIG_SIZE = 0x50, 0x58, 0x60, 0x64, 0x68
CONFIG_GENERATION, CONFIG_CHANGED, NR_QUEUES, DEVICE_TYPE = 0x6c, 0x70, 0x74, 0x78
INFLIGHT_QUEUES, INFLIGHT_QUEUE_SIZE, INFLIGHT_SIZE, MTU, RARP_COUNT, RARP_MAC, PEERS = 0x7c, 0x80, 0x88, 0x90, 0x94, 0x98, 0xa0
UNAPPROVED = 0xa4
ID, CONFIG, DOORBELLS = 0xc0, 0x100, 0x4000
CONNECTED, WINDOW, DOMAIN, DRIVER_OK = 1, 2, 4, 8
ENABLED, STOPPING = 1, 2
Q_SIZE, Q_NEXT, Q_STOPPED, Q_DESC, Q_AVAIL, Q_USED, Q_KICKS = 4, 8, 0xc, 0x10, 0x18, 0x20, 0x28


def queue_register(q, offset=0):
	return 0x1000 + q * 0x40 + offset


# Where the test has the BARs: registers, MSI-X, window, in-flight memory
BARS = (0xc8000000, 0xc8100000, 0xc0000000, 0xc8400000)
WINDOW_SIZE = 1 << 20
numbers = itertools.count()


def socket_path():
	return f"{tempfile.gettempdir()}/front-{os.getpid()}-{next(numbers)}"


class Back(VM):
	"""One vm2vm-pci, w0 with the link l0 in slot 5, if no other arguments are given"""

	def __init__(self, name, *args, path=None, **kwargs):
		self.path = path or socket_path()
		super().__init__(name, *(args or self.usual()), **kwargs)

	def usual(self, more=""):
		return ["-chardev", f"socket,id=c0,path={self.path},server=on,wait=off",
			"-object", f"vm2vm-link,id=l0,role=backend,chardev=c0,size={WINDOW_SIZE}{more}",
			"-device", "vm2vm-pci,id=w0,link=l0,addr=5", "-device", "pcie-root-port,id=rp,chassis=1,addr=8"]

	def command_line(self, qmp, channel):
		return [QEMU, "-name", self.name, "-accel", "kvm", "-cpu", self.cpu, "-M", self.machine, "-m", "64",
			"-nodefaults", "-no-user-config", "-display", "none", "-bios", firmware(()),
			"-L", "/usr/share/seabios", "-L", "/usr/share/qemu",
			"-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
			"-chardev", f"socket,id=vms-qmp,fd={qmp}", "-mon", "chardev=vms-qmp,mode=control",
			"-chardev", f"socket,id=vms-run,fd={channel}", "-qtest", "chardev:vms-run", "-qtest-log", "none", *self.args]

	def begin(self, setup=True):
		self.start(wait=False)
		if setup:
			self.setup()
		return self

	def __enter__(self):
		return self if self.running() else self.begin()

	# What the guest does

	def qtest(self, *words):
		deadline = time.monotonic() + 60
		doing = " ".join(map(str, words))
		self._send(self.channel, doing.encode() + b"\n", deadline, doing)
		answer = self._frame(self.channel, b"\n", deadline, doing).decode().split()
		equal(answer[0], "OK", f"the answer to {doing}")
		return int(answer[1], 16) if len(answer) > 1 else None

	def pci(self, slot, register, value):
		self.qtest("outl", "0xcf8", hex(1 << 31 | slot << 11 | register))
		self.qtest("outl", "0xcfc", hex(value))

	def pci_read(self, slot, register):
		self.qtest("outl", "0xcf8", hex(1 << 31 | slot << 11 | register))
		return self.qtest("inl", "0xcfc")

	def setup(self, slot=5):
		"""As firmware and a driver do"""
		for register, value in ((0x10, BARS[0]), (0x14, BARS[1]), (0x18, BARS[2]), (0x1c, 0), (0x20, BARS[3]), (0x24, 0), (4, 6)):
			self.pci(slot, register, value)

	def read(self, offset):
		return self.qtest("readl", hex(BARS[0] + offset))

	def read64(self, offset):
		return self.qtest("readq", hex(BARS[0] + offset))

	def write(self, offset, value):
		self.qtest("writel", hex(BARS[0] + offset), hex(value))

	def write64(self, offset, value):
		self.qtest("writeq", hex(BARS[0] + offset), hex(value))

	def queue(self, q, offset=0):
		return self.read(queue_register(q, offset))

	def register(self, features=VERSION_1, protocol=CHOICE, queues=4, device=0, config=b""):
		self.write(CONTROL, 0)
		self.write64(OFFER_FEATURES, features)
		self.write64(OFFER_PROTOCOL, protocol)
		self.write(OFFER_QUEUES, queues)
		self.write(OFFER_DEVICE_ID, device)
		self.write(OFFER_CONFIG_SIZE, len(config))
		for n, byte in enumerate(config):
			self.qtest("writeb", hex(BARS[0] + CONFIG + n), hex(byte))
		self.write(CONTROL, 1)
		equal(self.read(CONTROL), 1, "READY")
		return self

	def ack(self):
		epoch = self.read(EPOCH)
		self.write(ACK, epoch)
		return epoch

	def info(self, name="l0"):
		return link(self, name)

	def wait(self, what, condition, seconds=10):
		deadline = time.monotonic() + seconds
		while not condition():
			check(time.monotonic() < deadline, what)
			time.sleep(0.02)

	def lost(self, name="l0"):
		"""Why the peer was dropped"""
		return self.wait_event("VM2VM_PEER_LOST", 15, id=name)["data"].get("reason")


def back():
	"""The usual one, registered, with all that QEMU makes only once"""
	vm = Back("back").begin().register()
	with first_peer(vm):
		with_peer(vm).close()
		vm.lost()
	return vm


def with_back(function):
	"""A test with the usual one, which is as it was before in the end"""
	def run():
		vm = shared(back)
		before = Before(vm)
		function(vm, before)
		before.again()
	run.__name__ = function.__name__
	return test(run)


def domain_message(kind=4, queues=4, flags=0, version=2):
	return struct.pack("<IIII", version, kind, queues, flags)


def address(index, flags=0, at=0x1000):
	return struct.pack("<IIQQQQ", index, flags, at, at + 0x2000, at + 0x1000, 0)


class Front(Peer):
	"""A front-end, with a VM and file descriptors of its own"""

	def __init__(self, path):
		super().__init__(path)
		self.vm = self.keep(create_vm())
		self.domain = self.keep(create_domain(self.vm))
		self.kicks, self.calls = {}, {}

	def keep(self, fd):
		self.fds.append(fd)
		return fd

	def hello(self, protocol=ALWAYS | CHOICE, features=VERSION_1 | PROTOCOL_FEATURES):
		"""What ends the negotiation"""
		self.ask(GET_FEATURES)
		offered = self.ask(GET_PROTOCOL_FEATURES)
		self.send(SET_PROTOCOL_FEATURES, u64(offered & protocol))
		self.send(SET_OWNER)
		self.send(SET_FEATURES, u64(features))
		return self.sync()

	def sync(self):
		"""It has taken what was sent before."""
		self.ask(GET_QUEUE_NUM)
		return self

	def acknowledged(self, request, payload=b"", **kwargs):
		equal(self.ask(request, payload, flags=VERSION | NEED_REPLY, **kwargs), 0, "the answer")
		return self

	def run(self, **fields):
		"""The device begins to run"""
		return self.acknowledged(SET_DOMAIN, domain_message(**fields), fds=[self.domain])

	def none(self):
		self.send(SET_DOMAIN, domain_message(flags=NONE))
		return self.sync()

	def new_domain(self):
		"""The next run has another one"""
		self.domain = self.keep(create_domain(self.vm))

	def queue_messages(self, q=0, size=64, base=0):
		self.kicks[q], self.calls[q] = self.keep(os.eventfd(0)), self.keep(os.eventfd(0))
		yield SET_VRING_NUM, state(q, size), []
		yield SET_VRING_BASE, state(q, base), []
		yield SET_VRING_ADDR, address(q), []
		yield SET_VRING_KICK, u64(q), [self.kicks[q]]
		yield SET_VRING_CALL, u64(q), [self.calls[q]]
		yield SET_VRING_ENABLE, state(q, 1), []

	def queue(self, q=0, **kwargs):
		for request, payload, fds in self.queue_messages(q, **kwargs):
			self.send(request, payload, fds=fds)
		return self.sync()

	def ask_state(self, request, q):
		"""A question about a queue: sent now, answered when receive_state() has it"""
		self.send(request, state(q, 0))

	def receive_state(self, q):
		request, flags, payload = self.receive()
		equal((request, flags), (GET_VRING_BASE, VERSION | REPLY), "the answer")
		index, num = struct.unpack("<II", payload)
		equal(index, q, "of that queue")
		return num

	def base(self, q=0):
		self.ask_state(GET_VRING_BASE, q)
		return self.receive_state(q)

	def called(self, q=0, seconds=0.5):
		"""Has the queue's doorbell been rung since the last time?"""
		if not select.select([self.calls[q]], [], [], seconds)[0]:
			return False
		os.eventfd_read(self.calls[q])
		return True

	def config(self, offset, size, flags=0):
		self.send(GET_CONFIG, struct.pack("<III", offset, size, flags) + bytes(size))
		return self.receive()[2]

	def inflight(self, queues, size):
		"""What it is given: bytes, and the file descriptor or None"""
		before = len(self.fds)
		self.send(GET_INFLIGHT_FD, struct.pack("<QQHHI", 0, 0, queues, size, 0))
		payload = self.receive()[2]
		return struct.unpack("<QQHHI", payload)[0], self.fds[before] if len(self.fds) > before else None

	def messages(self):
		"""The whole of a good conversation"""
		yield GET_FEATURES, b"", []
		yield GET_PROTOCOL_FEATURES, b"", []
		yield SET_PROTOCOL_FEATURES, u64(ALWAYS | CHOICE), []
		yield SET_OWNER, b"", []
		yield GET_QUEUE_NUM, b"", []
		yield SET_FEATURES, u64(VERSION_1 | PROTOCOL_FEATURES), []
		yield NET_SET_MTU, u64(1500), []
		yield GET_CONFIG, struct.pack("<III", 0, 8, 0) + bytes(8), []
		yield GET_INFLIGHT_FD, struct.pack("<QQHHI", 0, 0, 4, 64, 0), []
		yield SET_DOMAIN, domain_message(), [self.domain]
		yield from self.queue_messages(0)
		yield from self.queue_messages(3)
		yield SET_STATUS, u64(15), []
		yield SET_VRING_ENABLE, state(0, 0), []
		yield GET_VRING_BASE, state(0, 0), []
		yield GET_VRING_BASE, state(3, 0), []
		yield SET_DOMAIN, domain_message(flags=NONE), []
		yield RESET_DEVICE, b"", []


def with_peer(vm, **kwargs):
	"""A good one, whose device runs with queue 0, as the guest knows"""
	peer = Front(vm.path).hello().run().queue(**kwargs)
	vm.ack()
	vm.wait("the window shows it", lambda: vm.info()["backend"]["shown"] == WINDOW_SIZE)
	vm.events.clear()
	return peer
