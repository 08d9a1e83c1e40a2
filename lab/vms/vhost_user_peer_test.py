#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""vhost_user_peer_test.py: QEMU's vhost-user front-end, and back-ends that are no friends.

Runs in the lab. QEMUs without a guest; their firmware sets up a device's queue and halts. The
back-ends are of Python.
"""

import errno
import fcntl
import mmap
import os
import re
import signal
import socket
import struct
import time

from bare import DESC, QUEUE_SIZE, USED, AVAIL, Bare, create_vm, lingering, link_domain, temporary
from links import (GET_FEATURES, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, NEED_REPLY, REPLY, SET_DOMAIN,
	SET_PROTOCOL_FEATURES, SET_STATUS, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_CALL, SET_VRING_ENABLE,
	SET_VRING_KICK, SET_VRING_NUM, VERSION, Peer, state, u64)
from vms import check, comment, equal, main, test

SET_MEM_TABLE, SET_LOG_BASE, GET_VRING_BASE, SET_BACKEND_REQ = 5, 6, 11, 21
GET_CONFIG, SET_CONFIG, GET_INFLIGHT, SET_INFLIGHT, GET_STATUS = 24, 25, 31, 32, 40
F_VERSION_1, F_PROTOCOL = 1 << 32, 1 << 30
P_MQ, P_ACK, P_REQ, P_CONFIG, P_INFLIGHT, P_STATUS, P_DOMAIN = (1 << n for n in (0, 3, 5, 9, 12, 16, 48))
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
		check(request not in NEVER, f"request {request} is never sent to a VM")
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
		self.send(request, answer, VERSION | REPLY, fds=fds)
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


def vm(*args, server=True, name="front", device=GENERIC, vm2vm="on", **kwargs):
	if os.path.exists(PATH):
		os.unlink(PATH)
	chardev = f"socket,id=c0,path={PATH}," + ("server=on,wait=off" if server else "reconnect-ms=200")
	device += f",vm2vm={vm2vm}" if vm2vm else ""
	return Front(name, "-chardev", chardev, *args, "-device", device, **kwargs)


def begin(machine, command):
	"""A command of QMP's, whose answer nobody waits for"""
	machine._send(machine.qmp_socket, b'{"execute": "%s"}\n' % command.encode(), time.monotonic() + 5, command)


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


# ---- A run

@test
def a_run_has_a_domain_and_eventfds_of_its_own():
	with vm() as m:
		responsive(m, 5)
		b = Back().started()
		equal(struct.unpack("<IIII", b.of(SET_DOMAIN)[0]), (2, 4, 1, 0), "the domain")
		equal(b.of(SET_VRING_NUM), [state(0, QUEUE_SIZE)], "size")
		equal(b.of(SET_VRING_BASE), [state(0, 0)], "base")
		equal(b.of(SET_VRING_ADDR), [struct.pack("<IIQQQQ", 0, 0, DESC, USED, AVAIL, 0)], "addresses")
		equal(b.of(SET_VRING_ENABLE), [state(0, 1)], "enabled")
		equal([len(b.passed[r]) for r in (SET_DOMAIN, SET_VRING_KICK, SET_VRING_CALL)], [1, 1, 1], "descriptors")
		order = [r for r, _ in b.heard if r in (SET_DOMAIN, SET_VRING_NUM, SET_VRING_CALL, SET_VRING_ENABLE)]
		equal(order, [SET_DOMAIN, SET_VRING_NUM, SET_VRING_CALL, SET_VRING_ENABLE], "order")
		domain, kick, call = (last(b, r) for r in (SET_DOMAIN, SET_VRING_KICK, SET_VRING_CALL))
		check(is_live(domain), "the domain is live")
		# This device cannot migrate at all, whatever its back-end is
		blocked = [r for r in m.qmp("query-migrate").get("blocked-reasons", []) if "non-migratable device" not in r]
		equal(blocked, [], "what blocks a migration")
		ids = [eventfd_id(kick), eventfd_id(call)]
		for _ in range(3):
			b.forget()
			begin(m, "stop")
			b.stopped()
			equal([r for r, _ in b.heard if r in (GET_VRING_BASE, SET_DOMAIN)], [GET_VRING_BASE, SET_DOMAIN], "order")
			equal(struct.unpack("<IIII", b.of(SET_DOMAIN)[0])[3], 1, "no domain")
			check(not is_live(domain), "the domain has ended")
			begin(m, "cont")
			b.forget().started()
			domain = last(b, SET_DOMAIN)
			check(is_live(domain), "there is another one")
			more = [eventfd_id(last(b, SET_VRING_KICK)), eventfd_id(last(b, SET_VRING_CALL))]
			check(not set(ids) & set(more), f"its eventfds are new: {ids} {more}")
			ids += more
		b.sock.close()
		responsive(m, 2)
		time.sleep(0.5)
		check(not is_live(domain), "the domain has ended with the connection")
		b.close()


def goes_on_from_the_used_index(told):
	"""Whatever index a back-end tells when it is stopped"""
	with vm() as m:
		b = Back(_11=state(0, told)).started()
		begin(m, "stop")
		b.stopped().forget()
		begin(m, "cont")
		b.started()
		equal(b.of(SET_VRING_BASE), [state(0, 0)], "it goes on from the used index")
		b.close()


@test
def a_base_that_is_not_known():
	goes_on_from_the_used_index(0xffffffff)


@test
def a_base_beyond_the_ring():
	goes_on_from_the_used_index(4000)


@test
def a_back_end_starts_where_the_last_one_ended():
	"""What the used ring says is done; what the last one told may be more, if it was told."""
	file = temporary("ram")
	with vm("-object", f"memory-backend-file,id=m0,size=64M,share=on,mem-path={file}", "-machine", "memory-backend=m0") as m:
		with open(file, "r+b", buffering=0) as f, mmap.mmap(f.fileno(), 64 << 20) as ram:
			b = Back().started()
			struct.pack_into("<H", ram, AVAIL + 2, 8)
			struct.pack_into("<H", ram, USED + 2, 5)
			b.close()
			b = Back().started()
			equal(b.of(SET_VRING_BASE), [state(0, 5)], "after one that was killed")
			for told, want in ((7, 7), (4, 5), (5, 5), (0xffff, 5)):
				b.answers[GET_VRING_BASE] = state(0, told)
				begin(m, "stop")
				b.stopped().forget()
				begin(m, "cont")
				b.started()
				equal(b.of(SET_VRING_BASE), [state(0, want)], f"after it told {told}")
			b.close()
	os.unlink(file)


# ---- Who is not there, is silent, or slow

@test
def nobody_is_there():
	for server in (True, False):
		with vm(server=server) as m:
			responsive(m, 2)
			if not server:
				listener = socket.socket(socket.AF_UNIX)
				listener.bind(PATH)
				listener.listen()
				listener.settimeout(20)
				b = Back(listener.accept()[0])
			else:
				b = Back()
			b.started()
			b.close()
			if not server:
				listener.close()


def hung_up(back, within):
	start = time.monotonic()
	check(back.closed(), "it hangs up")
	took = time.monotonic() - start
	check(took < within, f"it hangs up within {within} s, and not after {took:.1f}")


def early(m, until):
	"""Who comes while nobody is listened to is asked nothing: how long QMP took while each was there"""
	times = []
	while True:
		other = Peer(PATH)
		heard = other.receive()
		other.close()
		# After that it may be over
		if time.monotonic() > until:
			return times
		equal(heard, None, "what it is asked")
		times.append(responsive(m, BUSY))
		time.sleep(0.3)


def served(seconds=60):
	"""A good one is, within this time"""
	deadline = time.monotonic() + seconds
	while True:
		b = Back()
		if b.handle() is not None:
			return b.started()
		b.close()
		check(time.monotonic() < deadline, "a good one is served")
		time.sleep(0.3)


def silent_at(request):
	def run():
		with vm() as m:
			begun = time.monotonic()
			b = Back(**{f"_{request}": None})
			b.until(request)
			responsive(m, PATIENCE + BUSY)
			hung_up(b, PATIENCE + BUSY)
			b.close()
			# And for a while, which began later than all this, nobody is listened to, at no cost
			times = early(m, begun + HELD)
			comment(f"{len(times)} who came back too early")
			check(times and min(times) < 0.5, f"QMP takes {times}")
			served().close()
	run.__name__ = f"silent_at_{request}"
	test(run)


for _request in (GET_FEATURES, GET_QUEUE_NUM, SET_DOMAIN, GET_STATUS):
	silent_at(_request)


@test
def silent_at_a_stop():
	with vm() as m:
		b = Back(_11=None).started()
		domain = last(b, SET_DOMAIN)
		start = time.monotonic()
		begin(m, "stop")
		b.until(GET_VRING_BASE)
		responsive(m, PATIENCE + BUSY)
		check(time.monotonic() - start < PATIENCE + BUSY, "it stops in time")
		check(not is_live(domain), "the domain has ended")
		hung_up(b, PATIENCE + BUSY)
		b.close()


@test
def a_byte_at_a_time():
	with vm() as m:
		p = Peer(PATH)
		check(p.receive()[0] == GET_FEATURES, "it asks")
		start = time.monotonic()
		try:
			for byte in struct.pack("<III", GET_FEATURES, VERSION | REPLY, 8) + u64(F_VERSION_1 | F_PROTOCOL):
				p.sock.send(bytes([byte]))
				time.sleep(0.3)
		except OSError:
			pass
		check(time.monotonic() - start < 5, "it hangs up soon")
		responsive(m, 1)
		p.close()


@test
def nothing_is_taken():
	"""It answers, and takes no more than it must: the socket gets full"""
	with vm() as m:
		b = Back().started()
		for _ in range(5):
			begin(m, "stop")
			begin(m, "cont")
		responsive(m, PATIENCE * 3)
		b.close()


# ---- Who is not what he says

def refused_back(name, said, **how):
	def run():
		with vm() as m:
			b = Back(**how)
			while b.handle() is not None:
				pass
			check(not b.of(SET_DOMAIN) or said == "does not take the domain", "it gets no domain")
			text = m.stderr.read_text()
			check(said in text, f"says '{said}': {text}")
			b.close()
			responsive(m, 1)
	run.__name__ = name
	test(run)


refused_back("no_protocol_features", "does not know of vm2vm domains", features=F_VERSION_1)
refused_back("no_domains", "does not know of vm2vm domains", protocol=P_ALL & ~P_DOMAIN)
refused_back("no_acknowledgement", "does not acknowledge", protocol=P_ALL & ~P_ACK)
refused_back("domain_refused", "does not take the domain", _128=u64(1))


@test
def an_answer_to_something_else():
	with vm() as m:
		p = Peer(PATH)
		p.receive()
		p.send(GET_QUEUE_NUM, u64(1), VERSION | REPLY)
		check(p.closed(), "it hangs up")
		p.close()
		responsive(m, 1)


@test
def features_that_are_the_transports():
	"""Offered or not, they do not reach the driver."""
	every = (1 << 64) - 1
	with vm():
		b = Back(features=every, protocol=every)
		b.until(SET_PROTOCOL_FEATURES)
		taken = struct.unpack("<Q", b.of(SET_PROTOCOL_FEATURES)[0])[0]
		equal(taken, 0b1_0011_0010_0011_1101 & ~(1 << 9) | P_DOMAIN, "protocol features")
		b.started()
		b.close()


@test
def descriptors_whose_close_waits():
	"""They come along with an answer, and QEMU has the last of them."""
	with vm() as m:
		b = Back()
		equal(b.receive()[0], GET_FEATURES, "what it asks")
		made = [lingering() for _ in range(3)]
		os.kill(m.process.pid, signal.SIGSTOP)
		b.send(GET_FEATURES, b.answers[GET_FEATURES], VERSION | REPLY, fds=[client.fileno() for client, _ in made])
		for client, _ in made:
			client.close()
		os.kill(m.process.pid, signal.SIGCONT)
		b.started()
		responsive(m, 2)
		b.close()
		for _, others in made:
			for s in others:
				s.close()


# ---- Devices

@test
def a_card_whose_back_end_comes_later():
	with vm("-netdev", "vhost-user,id=n0,chardev=c0,queues=2,vm2vm=on,vm2vm-bypass=on",
		device="virtio-net-pci,netdev=n0,mq=on,id=d0,addr=6,romfile=", vm2vm=None) as m:
		responsive(m, 2)
		check("link=down" in m.hmp("info network") or True, "the link is down")
		b = Back(features=F_VERSION_1 | F_PROTOCOL | 1 << 15).started()
		equal(struct.unpack("<IIII", b.of(SET_DOMAIN)[0])[1], 1, "a card")
		m.wait_event("NETDEV_VHOST_USER_CONNECTED", 5)
		b.close()
		m.wait_event("NETDEV_VHOST_USER_DISCONNECTED", 5)
		responsive(m, 1)
		Back(features=F_VERSION_1 | F_PROTOCOL | 1 << 15).started().close()


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


@test
def memory_for_requests_in_flight():
	with vm(device=BLK) as m:
		fd = memory()
		b = Disk(fd).started()
		equal(len(b.of(GET_INFLIGHT)), 1, "it is asked for")
		same = [os.fstat(f).st_ino for f in (fd, last(b, SET_INFLIGHT))]
		equal(same[1], same[0], "and given back")
		begin(m, "stop")
		b.stopped().forget()
		begin(m, "cont")
		b.started()
		equal(len(b.of(GET_INFLIGHT)), 0, "it is the same in the next run")
		equal(os.fstat(last(b, SET_INFLIGHT)).st_ino, same[0], "the same")
		b.close()
		os.close(fd)


def memory_refused(name, make, **how):
	def run():
		with vm(device=BLK) as m:
			fd = make()
			b = Disk(fd, **how)
			while b.handle() is not None:
				pass
			check(not b.of(SET_DOMAIN), "it gets no domain")
			check("memory for requests in flight" in m.stderr.read_text(), "the reason")
			responsive(m, 1)
			b.close()
			os.close(fd)
	run.__name__ = f"memory_{name}"
	test(run)


memory_refused("not_sealed", lambda: memory(seals=0))
memory_refused("that_may_shrink", lambda: memory(seals=5))
memory_refused("too_small", lambda: memory(size=4096))
memory_refused("of_a_file", lambda: os.open(__file__, os.O_RDONLY))


def drain(back):
	"""Handle what comes until nothing does for a second"""
	back.sock.settimeout(1)
	try:
		while back.handle() is not None:
			pass
	except TimeoutError:
		pass
	back.sock.settimeout(30)


@test
def nothing_runs_while_the_vm_is_stopped():
	"""Who says that its configuration changed then is heard by nobody; who comes then gets no domain."""
	def back():
		return Back(protocol=P_ALL | P_CONFIG, _24=lambda p: p)

	def says_so(b):
		with socket.socket(fileno=os.dup(last(b, SET_BACKEND_REQ))) as channel:
			channel.send(struct.pack("<III", CONFIG_CHANGE, VERSION, 0))
			responsive(m, 1)

	with vm(device=GENERIC + ",config_size=8") as m:
		b = back().started()
		begin(m, "stop")
		b.stopped()
		says_so(b)
		b.close()
		b = back()
		drain(b)
		says_so(b)
		equal(b.of(SET_DOMAIN), [], "domains while the VM is stopped")
		begin(m, "cont")
		b.started()
		check(is_live(last(b, SET_DOMAIN)), "the domain is live")
		says_so(b)
		b.close()


@test
def a_channel_that_says_half():
	"""And one that says too much: the configuration is read again, and nobody waits."""
	with vm(device=BLK) as m:
		fd = memory()
		b = Disk(fd).started()
		with socket.socket(fileno=os.dup(last(b, SET_BACKEND_REQ))) as channel:
			whole = struct.pack("<III", CONFIG_CHANGE, VERSION, 0)
			channel.send(whole[:5])
			responsive(m, 0.5)
			b.forget()
			channel.send(whole[5:] + whole * 100)
			b.until(GET_CONFIG)
			while True:
				try:
					b.sock.settimeout(1)
					b.handle()
				except TimeoutError:
					break
			check(len(b.of(GET_CONFIG)) <= 5, f"it is not read each time: {len(b.of(GET_CONFIG))}")
			b.sock.settimeout(30)
			channel.send(struct.pack("<III", 1, VERSION, 16) + bytes(16))
			channel.settimeout(5)
			try:
				equal(channel.recv(1), b"", "an IOTLB message has no place")
			except ConnectionResetError:
				pass	# There was more of it
		responsive(m, 1)
		b.close()
		os.close(fd)


@test
def memory_is_not_approved_by_accident():
	"""The device has no IOMMU, and nobody said that it may pass."""
	with vm(device=GENERIC.replace("vm2vm-bypass=on", "vm2vm-bypass=off")) as m:
		b = Back().started()
		info = next(i for i in m.qmp("query-vm2vm-links") if i["id"] == "c0")
		equal((info["owner"]["bytes"], info["owner"]["bypassed"]), (0, True), "what is approved")
		equal(len(re.findall("bypasses the IOMMU", m.stderr.read_text())), 1, "messages")
		b.close()
	with vm() as m:
		b = Back().started()
		info = next(i for i in m.qmp("query-vm2vm-links") if i["id"] == "c0")
		check(info["owner"]["bytes"] > 60 << 20 and info["owner"]["bypassed"], f"all of it, and it is told: {info}")
		b.close()


main()
