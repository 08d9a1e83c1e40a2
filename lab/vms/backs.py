# SPDX-License-Identifier: GPL-2.0-only
"""backs.py: a back-end of Python's to QEMU's vhost-user front-end, and the QEMU that it is for."""

import contextlib
import errno
import fcntl
import json
import os
import re
import socket
import struct
import threading
import time

from bare import QUEUE_SIZE, Bare, create_vm, lingering, link_domain, temporary
from links import (GET_FEATURES, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, NEED_REPLY, REPLY, SET_DOMAIN, SET_STATUS,
	VERSION, Peer, state, u64)
from vms import check

SET_MEM_TABLE, SET_LOG_BASE, GET_VRING_BASE, SET_BACKEND_REQ = 5, 6, 11, 21
GET_CONFIG, SET_CONFIG, GET_INFLIGHT, SET_INFLIGHT, RESET_DEVICE, GET_STATUS = 24, 25, 31, 32, 34, 40
F_VERSION_1, F_PROTOCOL = 1 << 32, 1 << 30
P_MQ, P_ACK, P_REQ, P_CONFIG, P_INFLIGHT, P_RESET, P_STATUS, P_DOMAIN = (1 << n for n in (0, 3, 5, 9, 12, 13, 16, 48))
P_ALL = P_MQ | P_ACK | P_REQ | P_STATUS | P_DOMAIN
# What a back-end that is a VM never hears: memory, logs, IOTLB, postcopy, errors in an eventfd, and the like
NEVER = {5, 6, 7, 14, 22, 23, 28, 29, 30, 36, 37, 38, 41, 42, 43}
PATIENCE, HELD = 1, 10
# What a busy machine may add
BUSY = 4
PATH = str(temporary("vhost-user"))
GENERIC = "vhost-user-device-pci,virtio-id=4,num_vqs=1,vq_size=128,id=d0,addr=6,chardev=c0,vm2vm-bypass=on"


class Back(Peer):
	"""A back-end. It answers as its tables have it; None is silence."""
	never = NEVER

	def __init__(self, sock=None, features=F_VERSION_1 | F_PROTOCOL, protocol=P_ALL, **answers):
		super().__init__(PATH, sock)
		self.heard, self.passed, self.status = [], {}, 0
		self.answers = {GET_FEATURES: u64(features), GET_PROTOCOL_FEATURES: u64(protocol), GET_QUEUE_NUM: u64(128),
			GET_VRING_BASE: state(0, 0)}
		self.answers.update({int(k[1:]): v for k, v in answers.items()})

	def handle(self):
		"""One message: its request, or None if it hangs up"""
		before = len(self.fds)
		message = self.receive()
		if message is None:
			return None
		request, flags, payload = message
		check(request not in self.never, f"request {request} is never sent to a VM")
		self.heard.append((request, payload))
		self.passed.setdefault(request, []).extend(self.fds[before:])
		if request == SET_STATUS:
			self.status = payload[0]
		answer = self.answers.get(request, u64(self.status) if request == GET_STATUS else
			u64(0) if flags & NEED_REPLY else b"")
		if callable(answer):
			answer = answer(payload)
		if answer is None or (not answer and not flags & NEED_REPLY):
			return request
		fds = []
		if isinstance(answer, tuple):
			answer, fds = answer
		try:
			self.send(request, answer, VERSION | REPLY, fds=fds)
		except ConnectionError:
			# It has hung up after it asked
			return None
		return request

	def until(self, *requests, timeout=20):
		"""Handle messages until one of these has come"""
		end = time.monotonic() + timeout
		while True:
			check(time.monotonic() < end, f"request {requests} comes; heard {[h[0] for h in self.heard]}")
			request = self.handle()
			check(request is not None, f"it hangs up; heard {[h[0] for h in self.heard]}")
			if request in requests:
				return self

	def started(self):
		"""Until the device has been started: DRIVER_OK is in the status"""
		while True:
			self.until(SET_STATUS)
			if self.status & 4:
				return self

	def stopped(self):
		return self.until(SET_DOMAIN).until(SET_STATUS)

	def of(self, request):
		return [p for r, p in self.heard if r == request]

	def forget(self):
		self.heard, self.passed = [], {}
		return self


class Front(Bare):
	"""No guest of it has to boot."""

	def __enter__(self):
		return self.begin()


def vm(*args, server=True, name="front", device=GENERIC, vm2vm="on", kicks=False, **kwargs):
	if os.path.exists(PATH):
		os.unlink(PATH)
	chardev = f"socket,id=c0,path={PATH}" + {True: ",server=on,wait=off", False: ",reconnect-ms=200", None: ""}[server]
	device += f",vm2vm={vm2vm}" if vm2vm else ""
	front = Front(name, "-chardev", chardev, *args, "-device", device, **kwargs)
	front.kicks = kicks
	return front


@contextlib.contextmanager
def waited_for(make, *args, **kwargs):
	"""A QEMU that waits for its back-end, and this one, started"""
	machine, backs = vm(*args, server=None, **kwargs), []
	with socket.socket(socket.AF_UNIX) as listener:
		listener.bind(PATH)
		listener.listen()
		thread = threading.Thread(target=lambda: backs.append(make(listener.accept()[0]).started()), daemon=True)
		thread.start()
		try:
			# Of a vsock device its status cannot be asked
			machine.start(wait=False)
			thread.join(30)
			check(backs, "its back-end is started")
			yield machine, backs[0]
			backs[0].close()
		finally:
			machine.kill()


def begin(machine, *commands, **arguments):
	"""Commands of QMP's, whose answers nobody waits for"""
	text = "".join(json.dumps({"execute": c, "arguments": arguments}) + "\n" for c in commands)
	machine._send(machine.qmp_socket, text.encode(), time.monotonic() + 5, commands)


def responsive(machine, within):
	"""How long QMP takes for an answer"""
	start = time.monotonic()
	machine.qmp("query-status")
	took = time.monotonic() - start
	check(took < within, f"QMP answers within {within} s, and not after {took:.1f}")
	return took


def eventfd_id(fd):
	return int(re.search(r"eventfd-id:\s*(\d+)", open(f"/proc/self/fdinfo/{fd}", encoding="ascii").read()).group(1))


def is_live(domain):
	own = create_vm()
	try:
		link_domain(own, domain)
		return True
	except OSError as e:
		check(e.errno in (errno.ENODEV, errno.EINVAL), f"errno {e.errno}")
		return False
	finally:
		os.close(own)


def last(back, request):
	return back.passed[request][-1]


# ---- What else it may have

BLK = "vhost-user-blk-pci,queue-size=128,id=d0,addr=6,chardev=c0,vm2vm-bypass=on"
CONFIG_CHANGE = 2


def memory(seals=7, size=1 << 16):
	"""For requests in flight: it neither grows nor shrinks, nor does that change"""
	fd = os.memfd_create("inflight", os.MFD_ALLOW_SEALING)
	os.ftruncate(fd, size)
	fcntl.fcntl(fd, 1033, seals)
	return fd


class Disk(Back):
	def __init__(self, fd, size=1 << 16, **how):
		super().__init__(protocol=P_ALL | P_CONFIG | P_INFLIGHT, **how)
		self.answers[GET_CONFIG] = lambda p: p[:12] + struct.pack("<Q", 2048) + bytes(len(p) - 20)
		self.answers[GET_INFLIGHT] = lambda p: (struct.pack("<QQHHI", size, 0, 1, QUEUE_SIZE, 0), [fd])


class Tied(Back):
	"""It makes the other side wait when it closes what this one has sent: `others` are to be closed at the end."""

	def __init__(self, *args, **how):
		super().__init__(*args, **how)
		self.others = []

	def lingering(self, n=1):
		"""Descriptors, of which ours are to be closed when they are sent"""
		made = [lingering() for _ in range(n)]
		self.others += [s for _, pair in made for s in pair]
		return [client.detach() for client, _ in made]

	def burden(self, sock=None, n=1, data=b"\0" * 12):
		"""Send some that nobody has asked for"""
		fds = self.lingering(n)
		socket.send_fds(sock or self.sock, [data], fds)
		for fd in fds:
			os.close(fd)

	def untie(self):
		for s in self.others:
			s.close()
		self.others = []
