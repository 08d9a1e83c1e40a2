#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""vhost_user_peer_test.py: QEMU's vhost-user front-end, and back-ends that are no friends.

Runs in the lab. QEMUs without a guest; their firmware sets up a device's queue and halts. The
back-ends are of Python.
"""

import mmap
import os
import re
import socket
import struct
import time

from backs import (BLK, BUSY, CONFIG_CHANGE, F_PROTOCOL, F_VERSION_1, GENERIC, GET_CONFIG, GET_INFLIGHT, GET_STATUS, GET_VRING_BASE,
	HELD, PATH, PATIENCE, P_ACK, P_ALL, P_CONFIG, P_DOMAIN, P_RESET, RESET_DEVICE, SET_BACKEND_REQ, SET_INFLIGHT,
	SET_MEM_TABLE, Back, Disk, begin, eventfd_id,
	is_live, last, memory, responsive, vm, waited_for)
from bare import AVAIL, DESC, QUEUE_SIZE, USED, lingering, temporary
from links import (GET_FEATURES, GET_QUEUE_NUM, REPLY, SET_DOMAIN, SET_PROTOCOL_FEATURES, SET_VRING_ADDR, SET_VRING_BASE,
	SET_VRING_CALL, SET_VRING_ENABLE, SET_VRING_KICK, SET_VRING_NUM, VERSION, Peer, state, u64)
from vhost_user import wait_until
from vms import check, equal, long_test, main, test

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
		wait_until(lambda: not is_live(domain), "the domain has ended with the connection", 10)
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


def silent_at(request):
	def run():
		with vm() as m:
			b = Back(**{f"_{request}": None})
			b.until(request)
			start = time.monotonic()
			responsive(m, PATIENCE + BUSY)
			hung_up(b, PATIENCE + BUSY)
			b.close()
			# And for a while nobody is taken, at no cost
			early = Back()
			responsive(m, BUSY)
			early.sock.settimeout(max(0.1, start + HELD - 2 - time.monotonic()))
			try:
				raise AssertionError(f"it asks who comes back too early: {early.receive()}")
			except TimeoutError:
				early.sock.settimeout(30)
			responsive(m, BUSY)
			early.started().close()
	run.__name__ = f"silent_at_{request}"
	(test if request == SET_DOMAIN else long_test)(run)


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
		made = [lingering() for _ in range(3)]
		b = Back()
		equal(b.receive()[0], GET_FEATURES, "what it asks")
		with m.frozen():
			b.send(GET_FEATURES, b.answers[GET_FEATURES], VERSION | REPLY, fds=[client.fileno() for client, _ in made])
			for client, _ in made:
				client.close()
		b.started()
		responsive(m, 10)
		b.close()
		for _, others in made:
			for s in others:
				s.close()


# ---- Devices

@test
def who_is_told_of_a_reset():
	"""A back-end that gets memory is not, as it was before there were domains."""
	class Plain(Back):
		never = set()

		def started(self):
			"""Of a generic device it hears no status"""
			while self.until(SET_VRING_ENABLE).heard[-1][1] != state(0, 1):
				pass
			return self

	def reset(m, b):
		b.forget()
		begin(m, "system_reset")
		b.started()
		return b.of(RESET_DEVICE)

	with vm() as m:
		b = Back(protocol=P_ALL | P_RESET).started()
		check(reset(m, b), "a VM is told of resets")
		b.close()
	memory_args = ("-object", "memory-backend-memfd,id=m0,size=64M,share=on", "-machine", "memory-backend=m0")
	with waited_for(lambda s: Plain(s, protocol=P_ALL & ~P_DOMAIN | P_RESET), *memory_args,
		device=GENERIC.replace(",vm2vm-bypass=on", ""), vm2vm="auto") as (m, b):
		check(b.of(SET_MEM_TABLE), "it gets memory")
		equal(reset(m, b), [], "what a process is told of resets")


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
# Which takes its time as it is freed
memory_refused("too_large", lambda: memory(size=8 << 20))
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
		b = back().until(SET_BACKEND_REQ)
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
			responsive(m, BUSY)
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
