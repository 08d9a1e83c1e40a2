#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""backend_peer_test.py: what a backend's QEMU makes of peers that talk nonsense.

Runs in the lab. One QEMU, without a guest, is for all cases; after each it has to be as it
was before, and a good peer has to be served.
"""

import contextlib
import fcntl
import os
import re
import socket
import struct
import time

from bare import case, create_domain, create_vm, lingering
from fronts import (ALWAYS, CONNECTED, DOMAIN, F_DOMAIN, F_REPLY_ACK, GET_CONFIG, GET_INFLIGHT_FD, GET_VRING_BASE, NET_SET_MTU,
	NOFD, NONE, RESET_DEVICE, SEND_RARP, SET_BACKEND_REQ_FD, SET_CONFIG, SET_INFLIGHT_FD, SET_VRING_ERR, STATE, VERSION_1,
	Back, Front, address, back, domain_message, socket_path, with_back, with_peer)
from links import (GET_FEATURES, GET_QUEUE_NUM, NEED_REPLY, REPLY, SET_DOMAIN, SET_FEATURES, SET_PROTOCOL_FEATURES,
	SET_STATUS, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_CALL, SET_VRING_ENABLE, SET_VRING_KICK, SET_VRING_NUM, VERSION,
	Peer, refused, state, u64)
from peers import Target, noise, raw, shaken
from vms import check, equal, main


def serves(vm):
	"""A good peer can connect, and goes."""
	with_peer(vm).close()
	equal(vm.lost(), None, "it was not dropped")


# ---- Properties

GOOD = {"role": "backend", "chardev": "free", "size": 65536}


def but(*missing, **changed):
	return {k: v for k, v in (GOOD | changed).items() if k not in missing}


@contextlib.contextmanager
def chardevs(vm):
	made = [("free", {"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": socket_path()}}, "server": True, "wait": False}}),
		("null", {"type": "null", "data": {}})]
	for name, backend in made:
		vm.qmp("chardev-add", id=name, backend=backend)
	try:
		yield
	finally:
		for name, _ in made:
			vm.qmp("chardev-remove", id=name)


@with_back
def properties(vm, before):
	with chardevs(vm):
		for wrong, said in (
				(but("chardev"), "'chardev' is missing"), (but("role"), "'role' is missing"), (but(role="both"), "'role' does not accept value"),
				(but(chardev="c9"), "property 'chardev': there is no chardev 'c9'"),
				(but(chardev="null"), "property 'chardev': 'null' cannot pass file descriptors"),
				(but(chardev="c0"), "property 'chardev': chardev 'c0' is already in use"),
				(but(device="w0"), "property 'device' is for the role 'owner'"), (but(size=0), "property 'size' is 0"),
				(but(size=12288), "property 'size' is 0x3000, which is not a power of 2"),
				(but(size=2048), "property 'size' is 0x800, which is not a power of 2 from 4K"),
				(but(size=1 << 47), "property 'size' is 0x800000000000, which is not a power of 2"), (but(size="much"), "'size'"),
				(but(base=0x1800), "property 'base' is 0x1800, which is not a multiple of 4096"),
				(but(base=(1 << 64) - 65536), "property 'base' is 0xffffffffffff0000: the window would end beyond"),
				(but(unapproved="panic"), "'unapproved' does not accept value 'panic'"), (but(color="red"), "'color' is unexpected")):
			refused(vm, "object-add", said, **{"qom-type": "vm2vm-link"}, id="l2", **wrong)
		vm.qmp("object-add", **{"qom-type": "vm2vm-link"}, id="l2", role="backend", chardev="free")
		equal(vm.info("l2")["backend"]["size"], 4 << 30, "the window's size by default")
		vm.qmp("device_add", driver="vm2vm-pci", id="x0", bus="rp", link="l2")
		refused(vm, "object-del", "in use", id="l2")
		vm.qmp("device_del", id="x0")
		vm.wait_event("DEVICE_DELETED", 10, device="x0")
		vm.qmp("object-del", id="l2")
	for name, prop, value, said in (("l0", "role", "owner", "cannot be changed"), ("l0", "chardev", "free", "cannot be changed"),
			("l0", "size", 4096, "cannot be changed"), ("l0", "base", 4096, "cannot be changed"), ("l0", "unapproved", "panic", "'unapproved'")):
		refused(vm, "qom-set", said, path=f"/objects/{name}", property=prop, value=value)
	for value in ("report", "stop", "fill"):
		vm.qmp("qom-set", path="/objects/l0", property="unapproved", value=value)
		equal(vm.qmp("qom-get", path="/objects/l0", property="unapproved"), value, "its value")
	refused(vm, "object-del", "'l0' is in use", id="l0")
	before.again()
	serves(vm)


@with_back
def unapproved_changes_while_it_is_shown(vm, before):
	p = with_peer(vm)
	for value in ("report", "fill"):
		vm.qmp("qom-set", path="/objects/l0", property="unapproved", value=value)
		equal(vm.info()["backend"]["shown"], 1 << 20, "what is shown")
	p.close()
	vm.lost()
	before.again()
	equal(before.stderr(), [], "what QEMU says")


# ---- Peers

backends = Target(back, "l0", lambda vm: vm.path, Front, serves)


def made(p, kind):
	"""A file descriptor of some kind"""
	if kind in ("pipe", "pipe for writing"):
		return [p.keep(fd) for fd in os.pipe()][kind != "pipe"]
	if kind == "socket":
		return [p.keep(s.detach()) for s in socket.socketpair()][0]
	if kind == "udp":
		return p.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach())
	paths = {"file": __file__, "directory": "/", "null": "/dev/null", "kvm": "/dev/kvm"}
	if kind in paths:
		return p.keep(os.open(paths[kind], os.O_RDONLY))
	return p.keep({
		"eventfd": lambda: os.eventfd(0),
		"memory": lambda: os.memfd_create("anon_inode:[eventfd]"),
		"vm": create_vm,
		"domain": lambda: create_domain(p.vm),
	}[kind]())


def said_by(prepare, request, payload, fd=None):
	"""This one, of a peer that was good so far"""
	def talk(p):
		prepare(p)
		p.send(request, payload, fds=[made(p, fd)] if fd else [])
	return talk


def early(*args):
	return said_by(lambda p: None, *args)


def idle(*args):
	return said_by(lambda p: p.hello(), *args)


def then(*args):
	return said_by(lambda p: p.hello().run(), *args)


def enabled(*args):
	return said_by(lambda p: p.hello().run().queue(), *args)


def plain(*args):
	"""One that has only the protocol features that there are always"""
	return said_by(lambda p: p.hello(protocol=ALWAYS), *args)


def set_domain(fd=None, **fields):
	def talk(p):
		p.hello().send(SET_DOMAIN, domain_message(**fields), fds=[made(p, fd) if fd else p.domain])
	return talk


def two_parts(p):
	"""One descriptor with the header, one with the payload"""
	p.hello().run()
	p.send(SET_VRING_KICK, size=8, fds=[made(p, "eventfd")])
	socket.send_fds(p.sock, [u64(0)], [made(p, "eventfd")])


def negotiates_without_end(p):
	"""Always something, and never what ends it"""
	end = time.monotonic() + 9
	while time.monotonic() < end:
		p.send(GET_FEATURES)
		if p.receive() is None:
			return
		time.sleep(1)
	raise AssertionError("it may go on")


def config(offset, size, data=None):
	return struct.pack("<III", offset, size, 0) + (bytes(size) if data is None else data)


def inflight(size, offset=0):
	return struct.pack("<QQHHI", size, offset, 1, 64, 0)


def sealed(seals, size=8192):
	"""SET_INFLIGHT_FD with memory that has these seals"""
	def talk(p):
		p.hello()
		fd = p.keep(os.memfd_create("x", os.MFD_ALLOW_SEALING))
		os.ftruncate(fd, 8192)
		fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
		p.send(SET_INFLIGHT_FD, inflight(size), fds=[fd])
	return talk


NO_EVENTFD, NO_DOMAIN, NO_MEMORY = "with what is not an eventfd", "not a vm2vm domain", "with what is not sealed memory"
SEALS = 1 | 2 | 4
for _name, _talk, _said in (
	("unknown_request", lambda p: p.send(77), "request 77 is not known"),
	("request_0", lambda p: p.send(0), "request 0 is not known"),
	("request_of_memory", lambda p: p.send(5, bytes(40), fds=[made(p, "eventfd")]), "request 5 is not known"),
	("version_0", lambda p: p.send(GET_FEATURES, flags=0), "GET_FEATURES has flags 0x0"),
	("version_2", lambda p: p.send(GET_FEATURES, flags=2), "GET_FEATURES has flags 0x2"),
	("reply_flag", lambda p: p.send(GET_FEATURES, flags=VERSION | REPLY), "GET_FEATURES has flags 0x5"),
	("unknown_flag", lambda p: p.send(GET_FEATURES, flags=0x80000001), "GET_FEATURES has flags 0x80000001"),
	("size_too_large", lambda p: p.send(GET_FEATURES, bytes(8)), "GET_FEATURES has 8 bytes instead of 0"),
	("size_too_small", lambda p: p.send(SET_FEATURES, bytes(4)), "SET_FEATURES has 4 bytes instead of 8"),
	("size_enormous", lambda p: p.send(SET_FEATURES, size=0xffffffff), "SET_FEATURES has 4294967295 bytes instead of 8"),
	("size_negative", lambda p: p.send(SET_VRING_ADDR, size=0x80000000), "SET_VRING_ADDR has 2147483648 bytes"),
	("size_of_config", lambda p: p.send(GET_CONFIG, config(0, 257)), "GET_CONFIG has 269 bytes"),
	("size_of_config_small", lambda p: p.send(GET_CONFIG, bytes(8)), "GET_CONFIG has 8 bytes"),
	("size_in_config", lambda p: p.send(GET_CONFIG, config(0, 9, bytes(8))), "GET_CONFIG has 20 bytes, and says that there are 9"),
	("size_in_config_enormous", lambda p: p.send(SET_CONFIG, config(0, 0xfffffff8, b"")), "SET_CONFIG has 12 bytes, and says"),
	("silence", lambda p: None, "no negotiation within 5 seconds"),
	("header_then_silence", raw(b"\1\0\0\0\1\0"), "no negotiation within 5 seconds"),
	("payload_then_silence", lambda p: p.hello().send(SET_STATUS, b"\7", size=8), "no rest of a message within 5 seconds"),
	("negotiation_then_silence", lambda p: p.ask(GET_FEATURES), "no end of the negotiation within 5 seconds"),
	("negotiation_without_end", negotiates_without_end, "no end of the negotiation within 5 seconds"),
	("protocol_not_offered", lambda p: p.send(SET_PROTOCOL_FEATURES, u64(F_DOMAIN | 1 << 6)), "some that were not offered"),
	("protocol_without_domain", lambda p: p.send(SET_PROTOCOL_FEATURES, u64(F_REPLY_ACK)), "does not know of vm2vm domains"),
	("protocol_others", idle(SET_PROTOCOL_FEATURES, u64(F_DOMAIN)), "others than before"),
	("features_log", idle(SET_FEATURES, u64(1 << 26)), "some that cannot be carried: 0x4000000"),
	("features_ring_reset", idle(SET_FEATURES, u64(VERSION_1 | 1 << 40)), "some that cannot be carried: 0x10000000000"),
	("features_notification_data", idle(SET_FEATURES, u64(1 << 38)), "some that cannot be carried"),
	("features_admin_vq", idle(SET_FEATURES, u64(1 << 41)), "some that cannot be carried"),
	("features_sr_iov", idle(SET_FEATURES, u64(1 << 37)), "some that cannot be carried"),
	("domain_before_features", early(SET_DOMAIN, domain_message(), "domain"), "SET_DOMAIN without the protocol feature"),
	("domain_without_fd", idle(SET_DOMAIN, domain_message()), "SET_DOMAIN comes without a file descriptor"),
	("domain_none_with_fd", idle(SET_DOMAIN, domain_message(flags=NONE), "domain"), "SET_DOMAIN comes with a file descriptor"),
	("domain_two_fds", lambda p: p.hello().send(SET_DOMAIN, domain_message(), fds=[p.domain] * 2), "more than one file descriptor"),
	("domain_is_null", set_domain("null"), NO_DOMAIN),
	("domain_is_eventfd", set_domain("eventfd"), NO_DOMAIN),
	("domain_is_vm", set_domain("vm"), NO_DOMAIN),
	("domain_is_kvm", set_domain("kvm"), NO_DOMAIN),
	("domain_is_file", set_domain("file"), NO_DOMAIN),
	("domain_is_socket", set_domain("socket"), NO_DOMAIN),
	("domain_version", set_domain(version=1), "SET_DOMAIN of version 1, flags 0x0"),
	("domain_flags", set_domain(flags=2), "SET_DOMAIN of version 2, flags 0x2"),
	("domain_5_queues", set_domain(queues=5), "SET_DOMAIN with 5 queues, and the guest serves 4"),
	("domain_many_queues", set_domain(queues=0xffffffff), "SET_DOMAIN with 4294967295 queues"),
	("domain_twice", then(SET_DOMAIN, domain_message(), "domain"), "SET_DOMAIN, a second time"),
	("features_with_fd", early(GET_FEATURES, b"", "domain"), "GET_FEATURES comes with a file descriptor"),
	("many_fds", lambda p: p.send(GET_FEATURES, fds=[p.domain] * 253), "more than one file descriptor"),
	("fd_in_both_parts", two_parts, "more than one file descriptor"),
	("early_call", early(SET_VRING_CALL, u64(0), "eventfd"), "SET_VRING_CALL before SET_PROTOCOL_FEATURES"),
	("early_enable", early(SET_VRING_ENABLE, state(0, 1)), "SET_VRING_ENABLE before SET_PROTOCOL_FEATURES"),
	("early_base", early(GET_VRING_BASE, state(0, 1)), "GET_VRING_BASE before SET_PROTOCOL_FEATURES"),
	("idle_num", idle(SET_VRING_NUM, state(0, 64)), "SET_VRING_NUM before SET_DOMAIN"),
	("idle_base", idle(SET_VRING_BASE, state(0, 0)), "SET_VRING_BASE before SET_DOMAIN"),
	("idle_addr", idle(SET_VRING_ADDR, address(0)), "SET_VRING_ADDR before SET_DOMAIN"),
	("idle_kick", idle(SET_VRING_KICK, u64(0), "eventfd"), "SET_VRING_KICK before SET_DOMAIN"),
	("num_of_queue_4", then(SET_VRING_NUM, state(4, 64)), "SET_VRING_NUM for queue 4 of 4"),
	("base_of_many", then(SET_VRING_BASE, state(0xffffffff, 0)), "SET_VRING_BASE for queue 4294967295 of 4"),
	("asked_of_queue_4", then(GET_VRING_BASE, state(4, 0)), "GET_VRING_BASE for queue 4 of 4"),
	("addr_of_queue_128", then(SET_VRING_ADDR, address(128)), "SET_VRING_ADDR for queue 128 of 4"),
	("enable_of_queue_128", idle(SET_VRING_ENABLE, state(128, 1)), "SET_VRING_ENABLE for queue 128 of 4"),
	("kick_of_queue_255", then(SET_VRING_KICK, u64(255), "eventfd"), "SET_VRING_KICK for queue 255 of 4"),
	("call_of_queue_255", idle(SET_VRING_CALL, u64(255 | NOFD)), "SET_VRING_CALL for queue 255 of 4"),
	("num_0", then(SET_VRING_NUM, state(0, 0)), "SET_VRING_NUM of 0"),
	("num_65536", then(SET_VRING_NUM, state(0, 65536)), "SET_VRING_NUM of 65536"),
	("kick_without_fd", then(SET_VRING_KICK, u64(0)), "SET_VRING_KICK comes without a file descriptor"),
	("call_nofd_with_fd", then(SET_VRING_CALL, u64(NOFD), "eventfd"), "SET_VRING_CALL comes with a file descriptor"),
	("kick_bits", then(SET_VRING_KICK, u64(1 << 32), "eventfd"), "SET_VRING_KICK of 0x100000000"),
	("kick_is_file", then(SET_VRING_KICK, u64(0), "file"), NO_EVENTFD),
	("kick_is_directory", then(SET_VRING_KICK, u64(0), "directory"), NO_EVENTFD),
	("kick_is_pipe", then(SET_VRING_KICK, u64(0), "pipe"), NO_EVENTFD),
	("kick_is_socket", then(SET_VRING_KICK, u64(0), "socket"), NO_EVENTFD),
	("kick_is_memory_of_that_name", then(SET_VRING_KICK, u64(0), "memory"), NO_EVENTFD),
	("call_is_pipe", then(SET_VRING_CALL, u64(0), "pipe for writing"), NO_EVENTFD),
	("call_is_domain", then(SET_VRING_CALL, u64(0), "domain"), NO_EVENTFD),
	("err_is_vm", then(SET_VRING_ERR, u64(0), "vm"), NO_EVENTFD),
	("addr_flags", then(SET_VRING_ADDR, address(0, 1)), "SET_VRING_ADDR with flags 0x1"),
	("enabled_num", enabled(SET_VRING_NUM, state(0, 64)), "SET_VRING_NUM for queue 0, which is enabled"),
	("enabled_base", enabled(SET_VRING_BASE, state(0, 1)), "SET_VRING_BASE for queue 0, which is enabled"),
	("enabled_addr", enabled(SET_VRING_ADDR, address(0)), "SET_VRING_ADDR for queue 0, which is enabled"),
	("enabled_kick", enabled(SET_VRING_KICK, u64(0), "eventfd"), "SET_VRING_KICK for queue 0, which is enabled"),
	("enable_2", then(SET_VRING_ENABLE, state(0, 2)), "SET_VRING_ENABLE of 2"),
	("mtu_large", idle(NET_SET_MTU, u64(65536)), "NET_SET_MTU of 65536"),
	("mtu_not_offered", plain(NET_SET_MTU, u64(1500)), "NET_SET_MTU without the protocol feature"),
	("rarp_not_offered", plain(SEND_RARP, u64(0)), "SEND_RARP without the protocol feature"),
	("reset_not_offered", plain(RESET_DEVICE, b""), "RESET_DEVICE without the protocol feature"),
	("config_not_offered", plain(GET_CONFIG, config(0, 8)), "GET_CONFIG without the protocol feature"),
	("set_config_not_offered", plain(SET_CONFIG, config(0, 8)), "SET_CONFIG without the protocol feature"),
	("set_config_beyond", idle(SET_CONFIG, config(0, 1)), "SET_CONFIG of 1 bytes at 0, and there are 0"),
	("set_config_far", idle(SET_CONFIG, config(0xffffffff, 1)), "SET_CONFIG of 1 bytes at 4294967295"),
	("inflight_not_offered", plain(GET_INFLIGHT_FD, inflight(0)), "GET_INFLIGHT_FD without the protocol feature"),
	("channel_early", early(SET_BACKEND_REQ_FD, b"", "socket"), "SET_BACKEND_REQ_FD without the protocol feature"),
	("channel_is_file", idle(SET_BACKEND_REQ_FD, b"", "file"), "with what is not a UNIX socket"),
	("channel_is_pipe", idle(SET_BACKEND_REQ_FD, b"", "pipe for writing"), "with what is not a UNIX socket"),
	("channel_is_udp", idle(SET_BACKEND_REQ_FD, b"", "udp"), "with what is not a UNIX socket"),
	("inflight_is_file", idle(SET_INFLIGHT_FD, inflight(4096), "file"), NO_MEMORY),
	("inflight_is_socket", idle(SET_INFLIGHT_FD, inflight(4096), "socket"), NO_MEMORY),
	("inflight_unsealed", idle(SET_INFLIGHT_FD, inflight(4096), "memory"), NO_MEMORY),
	("inflight_may_shrink", sealed(SEALS & ~2), NO_MEMORY),
	("inflight_may_be_sealed", sealed(SEALS & ~1), NO_MEMORY),
	("inflight_read_only", sealed(SEALS | 8), NO_MEMORY),
	("inflight_too_large", sealed(SEALS, size=12288), "SET_INFLIGHT_FD of 0x3000 bytes at 0x0"),
	("inflight_of_no_page", sealed(SEALS, size=100), "SET_INFLIGHT_FD of 0x64 bytes"),
):
	case(f"peer_{_name}", backends.dropped, _talk, _said)


for _name, _talk in (
	("at_once", lambda p: None),
	("in_a_header", raw(b"\1\0\0\0\1\0")),
	("in_a_payload", lambda p: p.hello().run().send(SET_VRING_KICK, b"\0", size=8, fds=[made(p, "eventfd")])),
	("in_the_negotiation", lambda p: p.send(GET_FEATURES)),
	("with_a_queue", lambda p: p.hello().run().queue()),
	("with_a_question", lambda p: p.hello().run().queue().ask_state(GET_VRING_BASE, 0)),
):
	case(f"peer_left_{_name}", backends.leaves, _talk)


@with_back
def peer_of_another_kind(vm, before):
	vm.register(device=2)
	p = Front(vm.path).hello()
	p.send(SET_DOMAIN, domain_message(kind=1), fds=[p.domain])
	check(p.closed(), "it is hung up on")
	p.close()
	equal(vm.lost(), "its device is of type 1, and the guest serves type 2", "the reason")
	vm.register()


@with_back
def peer_leaves_while_a_queue_is_to_stop(vm, before):
	for _ in range(3):
		p = with_peer(vm)
		p.ask_state(GET_VRING_BASE, 0)
		p.close()
		equal(vm.lost(), None, "it was not dropped")
	before.again()
	serves(vm)


@with_back
def domain_that_has_ended(vm, before):
	"""Nobody but its owner can tell, and it may end at any time: the window shows nothing."""
	p = Front(vm.path).hello()
	own = create_vm()
	p.domain = p.keep(create_domain(own))
	os.close(own)
	p.run().queue()
	vm.ack()
	equal((vm.read(STATE), vm.info()["backend"]["shown"]), (CONNECTED | DOMAIN, 0), "no window")
	p.close()
	vm.lost()
	before.again()
	equal(before.stderr(), [], "what QEMU says")


def is_dropped(p):
	p.send(77)
	check(p.closed(), "it is hung up on")


def hangs_up(p):
	"""As soon as there are events of it"""
	p.ask(GET_FEATURES)
	p.send(SET_PROTOCOL_FEATURES, u64(F_DOMAIN | F_REPLY_ACK))
	p.ask(GET_QUEUE_NUM)


case("peers_that_come_back_at_once", backends.come_back_at_once, is_dropped)
case("peers_that_hang_up_at_once", backends.come_back_at_once, hangs_up)


# ---- Descriptors whose close waits

def threads(vm):
	return len(os.listdir(f"/proc/{vm.process.pid}/task"))


# Of them one peer, or one after the other, may leave so many; a few more may be under way
LIMIT, MORE = 64, 8


@contextlib.contextmanager
def lingering_many():
	"""A function that makes such a socket; in the end all of them close"""
	others = []

	def make():
		client, rest = lingering()
		others.extend(rest)
		return client

	try:
		yield make
	finally:
		for s in others:
			s.close()


def connect_soon(path):
	"""A peer, or None if there is no place in the queue"""
	sock = socket.socket(socket.AF_UNIX)
	sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 10, 0))
	try:
		sock.connect(path)
	except BlockingIOError:
		sock.close()
		return None
	return Peer(sock=sock)


@with_back
def peers_who_leave_descriptors(vm, before):
	"""By hanging up themselves, again and again, until the next one has to wait"""
	count = threads(vm)
	with lingering_many() as make:
		for n in range(2 * LIMIT):
			p = connect_soon(vm.path)
			if not p:
				break
			# It is QEMU's when we hang up, which waits for the rest until then
			with make() as client:
				socket.send_fds(p.sock, [b"half"], [client.fileno()])
			p.close()
		check(LIMIT <= n <= LIMIT + MORE, f"{n} left one each")
		cost = threads(vm) - count
		check(LIMIT <= cost <= LIMIT + MORE, f"threads that wait: {cost}")
		vm.qmp("query-status", 5)
		said = [s.split("vm2vm-link ")[1] for s in before.stderr()]
		# The last peer may be there when those of the one before become too many
		equal([re.sub("dropping the|takes no", "no", s) for s in said],
			["'l0': no peer: descriptors of peers do not close"], "what QEMU says")
	before.again()
	serves(vm)


@with_back
def a_peer_who_changes_descriptors(vm, before):
	"""One that stays, and has another channel each time, in which such a socket is under way"""
	count = threads(vm)
	with lingering_many() as make:
		p = Front(vm.path).hello()
		try:
			for n in range(2 * LIMIT):
				ours, theirs = socket.socketpair()
				with ours, theirs, make() as client:
					socket.send_fds(ours, [b"x"], [client.fileno()])
					p.send(SET_BACKEND_REQ_FD, fds=[theirs.fileno()])
				p.sync()
		except (BrokenPipeError, ConnectionResetError, AssertionError):
			pass
		check(LIMIT <= n <= LIMIT + MORE, f"it had {n}")
		equal(vm.lost(), "descriptors of peers do not close", "the reason")
		cost = threads(vm) - count
		check(LIMIT <= cost <= LIMIT + MORE, f"threads that wait: {cost}")
		p.close()
	before.again()
	serves(vm)


# ---- Any nonsense

def messages(p):
	for request, payload, fds in p.messages():
		yield request, payload, fds, (VERSION, VERSION | NEED_REPLY)


case("peer_noise", backends.many, noise, Back.ack)
case("peer_shaken", backends.many, shaken(messages), Back.ack)
case("many_peers", backends.come_and_go)


main()
