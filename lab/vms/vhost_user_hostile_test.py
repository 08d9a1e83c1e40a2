#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""vhost_user_hostile_test.py: QEMU's vhost-user front-end, and back-ends that mean harm.

Runs in the lab, as vhost_user_peer_test.py. Whatever a back-end sends, however it goes, and
whatever is unplugged meanwhile: QEMU answers its monitor.
"""

import fcntl
import os
import re
import resource
import socket
import struct
import time

from backs import (BLK, BUSY, CONFIG_CHANGE, F_PROTOCOL, F_VERSION_1, GENERIC, PATH, PATIENCE, P_ALL, P_CONFIG, SET_BACKEND_REQ, Back,
	Disk, Tied, begin, is_live, last, memory, responsive, vm, waited_for)
from links import GET_FEATURES, REPLY, SET_DOMAIN, SET_VRING_CALL, SET_VRING_KICK, VERSION, Peer, u64
from vhost_user import wait_until
from vms import check, comment, equal, main, test

NET = "virtio-net-pci,netdev=n0,id=d0,addr=6,romfile="
NETDEV = ("-netdev", "vhost-user,id=n0,chardev=c0,vm2vm=on,vm2vm-bypass=on")


def card():
	return Back(features=F_VERSION_1 | F_PROTOCOL | 1 << 15)


def threads(m):
	return len(os.listdir(f"/proc/{m.process.pid}/task"))


# ---- Descriptors that are in a socket's queue when it is closed

def unread(name, end):
	"""They are closed with the last descriptor of the connection"""
	def run():
		with vm(machine="pc") as m:
			b = Tied().started()
			b.burden()
			end(m, b)
			b.untie()
	run.__name__ = f"unread_{name}"
	test(run)


def hangs_up(m, b):
	b.close()
	time.sleep(0.2)
	responsive(m, 10)
	Back().started().close()


def unplugs(m, b):
	eject(m, b)
	begin(m, "chardev-remove", id="c0")
	responsive(m, 10)
	b.close()


def quits(m, b):
	begin(m, "quit")
	start = time.monotonic()
	b.closed()
	# It asks where the queue is, and waits for the answer
	check(time.monotonic() - start < PATIENCE + BUSY, "it hangs up soon")
	m.wait(20)


def terminates(m, b):
	m.process.terminate()
	m.wait(20)
	b.close()


def eject(m, b=None, silent=False):
	"""Unplug d0, as its guest would"""
	m.qmp("device_del", id="d0")
	begin(m, "human-monitor-command", **{"command-line": "o /w 0xae08 0x40"})
	if not silent and b:
		while b.handle() is not None and b.status:
			pass
	m.wait_event("DEVICE_DELETED", 10, device="d0")


for _end in (hangs_up, unplugs, quits, terminates):
	unread(_end.__name__, _end)


@test
def unread_in_the_channel():
	with vm() as m:
		b = Tied().started()
		with socket.socket(fileno=os.dup(last(b, SET_BACKEND_REQ))) as channel:
			with m.frozen():
				# No message, so that the rest is not read
				channel.send(struct.pack("<III", 1, VERSION, 16))
				b.burden(channel)
			time.sleep(0.2)
			responsive(m, 10)
		b.untie()
		b.close()


@test
def unread_by_nobody():
	"""There is no device any more, and nobody was accepted who is removed with the socket."""
	with vm(machine="pc") as m:
		eject(m)
		first, second = Tied(), Tied()
		first.burden()
		second.burden()
		first.close()
		time.sleep(0.2)
		responsive(m, 10)
		second.close()
		third, fourth = Tied(), Tied()
		fourth.burden()
		fourth.close()
		begin(m, "chardev-remove", id="c0")
		responsive(m, 10)
		third.close()
		for b in (first, second, third, fourth):
			b.untie()


# ---- Descriptors that do not close cost their sender, and nobody else

@test
def too_many_descriptors_with_an_answer():
	with vm() as m:
		# To make that many may take longer than QEMU waits for an answer
		with m.frozen():
			b = Tied(_1=None)
			fds = b.lingering(100)
		b.until(GET_FEATURES)
		with m.frozen():
			b.send(GET_FEATURES, u64(F_VERSION_1 | F_PROTOCOL), VERSION | REPLY, fds=fds)
			for fd in fds:
				os.close(fd)
		check(b.closed(), "it hangs up")
		responsive(m, 10)
		check("do not close" in m.stderr.read_text(), "it says why")
		b.untie()
		b.close()


@test
def too_many_connections():
	"""Each leaves something that does not close. From some number on nobody is taken, until it has closed."""
	def connected():
		return not next(c for c in m.qmp("query-chardev") if c["label"] == "c0")["filename"].startswith("disconnected")

	with vm(machine="pc") as m:
		# Those that a device has taken could not come that often
		eject(m)
		before, ties = threads(m), []
		for _ in range(150):
			s = socket.socket(socket.AF_UNIX)
			s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 5, 0))
			try:
				s.connect(PATH)
			except BlockingIOError:
				s.close()
				break
			ties.append(Tied(s))
			ties[-1].burden()
			s.close()
		more = threads(m) - before
		comment(f"{len(ties)} connections, {more} threads")
		check(20 < more < 80, f"{more} threads for what one has sent")
		responsive(m, 10)
		for b in ties:
			b.untie()
		b = Peer(PATH)
		wait_until(connected, "somebody is taken again", 10)
		b.close()


@test
def no_thread_is_to_be_had():
	"""Then what is to be closed waits; QEMU does not end, as it would for other threads."""
	with vm() as m:
		b = Tied().started()
		# There is no room for a stack
		size = int(re.search(r"VmSize:\s*(\d+)", open(f"/proc/{m.process.pid}/status", encoding="ascii").read()).group(1)) << 10
		resource.prlimit(m.process.pid, resource.RLIMIT_AS, (size + (4 << 20), resource.RLIM_INFINITY))
		for _ in range(3):
			b.burden()
			b.close()
			responsive(m, 10)
			b.untie()
			b = Tied()
		b.close()
		resource.prlimit(m.process.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
		b.untie()
		Back().started().close()


@test
def a_channel_has_no_room_for_descriptors():
	with vm() as m:
		b = Back().started()
		with socket.socket(fileno=os.dup(last(b, SET_BACKEND_REQ))) as channel:
			channel.settimeout(5)
			socket.send_fds(channel, [struct.pack("<III", CONFIG_CHANGE, VERSION, 0)], [channel.fileno()])
			check(b.closed(), "it hangs up")
		responsive(m, 1)
		b.close()


# ---- Unplugged

def unplugged(name, device, make, *args, more=()):
	"""While the back-end is silent, has just gone, or sends what nobody asked for"""
	def run(how):
		with vm(*args, device=device, machine="pc", vm2vm=None if args else "on") as m:
			b = make().started()
			if how == "silent":
				eject(m, b, silent=True)
			elif how == "gone":
				with m.frozen():
					m.qmp_socket.sendall(b'{"execute": "device_del", "arguments": {"id": "d0"}}\n'
						b'{"execute": "human-monitor-command", "arguments": {"command-line": "o /w 0xae08 0x40"}}\n')
					b.sock.close()
				m.wait_event("DEVICE_DELETED", 10, device="d0")
			else:
				b.sock.send(bytes(1000))
				eject(m, b, silent=True)
			responsive(m, 2)
			for command, what in more:
				m.qmp(command, id=what)
			responsive(m, 2)
			time.sleep(0.5)
			responsive(m, 1)
			b.close()
	for how in ("silent", "gone", "talkative"):
		def case(how=how):
			run(how)
		case.__name__ = f"unplugged_{name}_{how}"
		test(case)


REMOVED = (("chardev-remove", "c0"),)
unplugged("generic", GENERIC, Back, more=REMOVED)
unplugged("disk", BLK, lambda: Disk(memory()), more=REMOVED)
unplugged("card", NET, card, *NETDEV, more=(("netdev_del", "n0"),))


@test
def the_netdev_goes_before_its_card():
	"""As it does its back-end is silent, and so is dropped"""
	with vm(*NETDEV, device=NET, machine="pc", vm2vm=None) as m:
		b = card().started()
		m.qmp("netdev_del", id="n0")
		responsive(m, 2)
		b.close()
		eject(m)
		responsive(m, 2)


# ---- Eventfds

@test
def a_kick_that_nobody_takes():
	"""The back-end has the kick's eventfd, and so it can make a write to it wait."""
	with vm(kicks=True) as m:
		b = Back().started()
		kick = last(b, SET_VRING_KICK)
		flags = fcntl.fcntl(kick, fcntl.F_GETFL)
		full = False
		while not full:
			try:
				os.read(kick, 8)
				os.write(kick, struct.pack("<Q", (1 << 64) - 2))
				full = True
			except BlockingIOError:
				pass	# There is a kick less, or one more
		fcntl.fcntl(kick, fcntl.F_SETFL, flags & ~os.O_NONBLOCK)
		for _ in range(10):
			responsive(m, 10)
			time.sleep(0.1)
		fcntl.fcntl(kick, fcntl.F_SETFL, flags)
		os.read(kick, 8)
		b.close()


def eventfds_end(name, device):
	"""Of a device that goes on without its back-end: the guest is not interrupted any more."""
	def run():
		with waited_for(lambda s: Back(s, protocol=P_ALL | P_CONFIG, _24=lambda p: p), device=device) as (m, b):
			call = last(b, SET_VRING_CALL)
			b.sock.close()
			wait_until(lambda: not is_live(last(b, SET_DOMAIN)), "the domain has ended with the connection", 10)
			responsive(m, 2)
			time.sleep(0.5)
			os.write(call, struct.pack("<Q", 1))
			time.sleep(0.5)
			equal(struct.unpack("<Q", os.read(call, 8)), (1,), "what nobody has taken")
			# With its VM it ends, and nothing is amiss
			for command in ("stop", "cont", "system_reset"):
				m.qmp(command)
			responsive(m, 2)
	run.__name__ = f"eventfds_end_{name}"
	test(run)


eventfds_end("fs", "vhost-user-fs-pci,tag=t,queue-size=128,id=d0,addr=6,chardev=c0,vm2vm-bypass=on")
eventfds_end("vsock", "vhost-user-vsock-pci,id=d0,addr=6,chardev=c0,vm2vm-bypass=on")


# ---- Noise

def not_logged_each_time(name, come):
	"""Nor taken more often than once a second"""
	def run():
		with vm() as m:
			start, n = time.monotonic(), 0
			while time.monotonic() < start + 10:
				come()
				n += 1
			lines = m.stderr.read_text().splitlines()
			comment(f"{len(lines)} lines of {n}, such as {lines[-3:]}")
			check(5 < n < 15, f"{n} were taken in 10 s")
			check(len(lines) < 8, f"{len(lines)} lines: {lines}")
			# It is news again after one that was right
			Back().started().close()
			responsive(m, 1)
	run.__name__ = f"not_logged_each_time_{name}"
	test(run)


def comes_and_goes():
	p = Peer(PATH)
	p.receive()
	p.close()


def is_no_vm():
	b = Back(features=F_VERSION_1)
	while b.handle() is not None:
		pass
	b.close()


not_logged_each_time("who_comes_and_goes", comes_and_goes)
not_logged_each_time("who_is_no_vm", is_no_vm)


main()
