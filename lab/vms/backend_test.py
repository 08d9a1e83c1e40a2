#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""backend_test.py: what a backend's guest registers is what its peers get, and the fence.

Runs in the lab. There is no guest: what one would write to registers this program does.
"""

import fcntl
import mmap
import os
import random
import select
import socket
import struct
import threading
import time

from bare import Before, first_peer, lingering
from fronts import (ACCESS_PLATFORM, ACK, ALWAYS, BARS, CHOICE, CONFIG, CONFIG_CHANGED, CONFIG_GENERATION, CONNECTED, CONTROL,
	DEVICE_STATUS, DEVICE_TYPE, DOMAIN, DOORBELLS, DRIVER_OK, ENABLED, EPOCH, FEATURES, GET_STATUS, GET_VRING_BASE, ID,
	INFLIGHT_QUEUES, INFLIGHT_QUEUE_SIZE, INFLIGHT_SIZE, MAGIC, MTU, NET_SET_MTU, NR_QUEUES, OFFER_CONFIG_SIZE,
	OFFER_DEVICE_ID, OFFER_FEATURES, OFFER_PROTOCOL, OFFER_QUEUES, PEERS, PROTOCOL, PROTOCOL_FEATURES, Q_AVAIL, Q_DESC, Q_KICKS,
	Q_NEXT, Q_SIZE, Q_STOPPED, Q_USED, RARP_COUNT, RARP_MAC, RESET_DEVICE, SEND_RARP, SET_BACKEND_REQ_FD, SET_CONFIG,
	SET_INFLIGHT_FD, SIZE, STATE, STOPPING, UNAPPROVED, UNKNOWN, VERSION_1, VERSION_REG, WINDOW, Back, Front, back,
	domain_message, queue_register, socket_path, with_back, with_peer)
from links import (GET_FEATURES, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, SET_DOMAIN, SET_STATUS,
	SET_VRING_CALL, SET_VRING_ENABLE, SET_VRING_KICK, refused, state, u64)
from vms import check, comment, equal, main, shared, test

SEED = int(os.environ.get("VM2VM_SEED") or 1)
PACKED = 1 << 34
# A capability of PCI
MSIX = 0x11
ROUNDS = int(os.environ.get("VM2VM_TRIALS") or 0) * 100 or (200 if os.environ.get("LONG") else 40)


def ends(vm, peer, before=None):
	peer.close()
	equal(vm.lost(), None, "it was not dropped")
	if before:
		before.again()
		equal(before.stderr(), [], "what QEMU says")


# ---- Registration

@test
def nobody_is_taken_before_it_is_registered():
	vm = Back("unregistered").begin()
	with vm:
		equal((vm.read(MAGIC), vm.read(VERSION_REG), vm.read(CONTROL)), (0x4d563256, 2, 0), "the first registers")
		equal(vm.qtest("readq", hex(BARS[0] + ID)).to_bytes(8, "little"), b"l0" + bytes(6), "the ID")
		for _ in range(3):
			p = Front(vm.path)
			check(p.closed(), "it is hung up on")
			p.close()
		equal(vm.lost(), "no back-end is registered by the guest", "the reason")
		vm.wait("all are dropped", lambda: vm.info()["dropped"] == 3)
		# To say so each time would fill the log
		equal(len(vm.stderr.read_text().splitlines()), 1, "lines of QEMU's")
		vm.register()
		Front(vm.path).hello().close()
		equal(vm.lost(), None, "now one is taken")


@with_back
def it_is_told_of_holes(vm, before):
	for n, value in ((1, "report"), (2, "stop"), (0, "fill")):
		vm.qmp("qom-set", path="/objects/l0", property="unapproved", value=value)
		equal(vm.read(UNAPPROVED), n, value)


@with_back
def it_answers_from_what_is_registered(vm, before):
	never = 1 << 26 | 0b11111 << 37
	vm.register(features=VERSION_1 | 1 << 5 | never, protocol=(1 << 64) - 1, queues=128, device=1)
	p = Front(vm.path)
	equal(p.ask(GET_FEATURES), VERSION_1 | 1 << 5 | PROTOCOL_FEATURES | ACCESS_PLATFORM, "features")
	equal(p.ask(GET_PROTOCOL_FEATURES), ALWAYS | CHOICE, "protocol features")
	equal(p.ask(GET_QUEUE_NUM), 128, "queues")
	p.hello(features=VERSION_1 | 1 << 5 | PROTOCOL_FEATURES).run(kind=1, queues=128)
	equal(vm.read64(FEATURES), VERSION_1 | 1 << 5, "what is negotiated")
	equal(vm.read64(PROTOCOL), ALWAYS | CHOICE, "of the protocol, too")
	equal((vm.read(NR_QUEUES), vm.read(DEVICE_TYPE)), (128, 1), "the device")
	# It is fixed while it is registered
	for register, value in ((OFFER_QUEUES, 1), (OFFER_FEATURES, 0), (OFFER_PROTOCOL, 0), (OFFER_DEVICE_ID, 9), (OFFER_CONFIG_SIZE, 9)):
		old = vm.read(register)
		vm.write(register, value)
		equal(vm.read(register), old, f"register {register:#x}")
	p.queue(127)
	vm.ack()
	equal(vm.queue(127), ENABLED, "the last queue")
	ends(vm, p)
	vm.register(protocol=0, queues=1)
	p = Front(vm.path)
	equal(p.ask(GET_PROTOCOL_FEATURES), ALWAYS, "protocol features, without the guest's")
	p.close()
	for value, want in ((0, 1), (129, 1), (128, 128), (1, 1)):
		vm.write(CONTROL, 0)
		vm.write(OFFER_QUEUES, value)
		equal(vm.read(OFFER_QUEUES), want, f"queues after {value}")
	vm.write(OFFER_CONFIG_SIZE, 257)
	equal(vm.read(OFFER_CONFIG_SIZE), 0, "a size of the configuration that is too large")
	vm.register()


@with_back
def what_the_guest_takes_back(vm, before):
	"""By READY, by a reset, by not being a bus master"""
	for what, undo in (("READY", lambda: vm.write(CONTROL, 0)), ("reset", lambda: vm.qmp("system_reset")),
			("bus master", lambda: vm.pci(5, 4, 2))):
		p = with_peer(vm)
		p.send(SET_STATUS, u64(15))
		p.sync()
		epoch = vm.read(EPOCH)
		undo()
		equal(vm.info()["backend"]["shown"], 0, f"{what}: what is shown at once")
		check(p.closed(), "it hangs up")
		p.close()
		equal(vm.lost(), "the guest's back-end has gone", "the reason")
		vm.setup()
		check(vm.read(EPOCH) > epoch, "another epoch")
		equal([vm.read(r) for r in (STATE, CONTROL, ACK, NR_QUEUES, DEVICE_STATUS)], [0] * 5, "registers")
		equal([vm.queue(0, r) for r in range(0, 0x2c, 4)], [0] * 11, "the queue's")
		if what == "reset":
			equal([vm.read(r) for r in (OFFER_FEATURES, OFFER_PROTOCOL, OFFER_QUEUES, CONFIG)], [0, 0, 1, 0], "offers")
		vm.register()


# ---- The fence

@with_back
def a_window_is_shown_with_the_ack(vm, before):
	peers = vm.read(PEERS)
	p = Front(vm.path).hello()
	equal((vm.read(STATE), vm.read(PEERS)), (CONNECTED, peers + 1), "connected")
	old = vm.ack()
	equal(vm.read(ACK), old, "ACK")
	p.run().queue()
	p.send(SET_STATUS, u64(15))
	p.sync()
	equal(vm.read(STATE), CONNECTED | DOMAIN | DRIVER_OK, "the state before")
	epoch = vm.read(EPOCH)
	check(epoch > old, "a domain is an epoch")
	for wrong in (old, epoch + 1, epoch - 100, 0, 0xffffffff):
		vm.write(ACK, wrong)
		equal((vm.read(STATE) & WINDOW, vm.info()["backend"]["shown"]), (0, 0), f"after {wrong:#x}")
	equal(vm.queue(0), ENABLED, "the queue is shown")
	os.eventfd_write(p.kicks[0], 1)
	equal(vm.queue(0, Q_KICKS), 0, "kicks, before")
	vm.write(DOORBELLS, 0)
	check(not p.called(), "no doorbell, before")
	vm.write(ACK, epoch)
	equal(vm.read(STATE), CONNECTED | WINDOW | DOMAIN | DRIVER_OK, "the state")
	equal(vm.queue(0, Q_KICKS), 1, "kicks: it was kept")
	vm.write(DOORBELLS, 0)
	check(p.called(0, 20), "a doorbell")
	ends(vm, p, before)


@with_back
def each_run_is_another_epoch(vm, before):
	p = with_peer(vm)
	calls = p.calls[0]
	for _ in range(3):
		epoch = vm.read(EPOCH)
		p.none()
		equal((vm.read(STATE), vm.info()["backend"]["shown"]), (CONNECTED, 0), "no domain")
		equal(vm.queue(0), 0, "no queue")
		check(vm.read(EPOCH) > epoch, "another epoch")
		vm.write(DOORBELLS, 0)
		check(not select.select([calls], [], [], 0.1)[0], "nobody is called")
		between = vm.ack()
		p.new_domain()
		p.run().queue(base=7)
		# A guest that has seen the end, but not the beginning
		vm.write(ACK, between)
		equal(vm.read(STATE), CONNECTED | DOMAIN, "not shown")
		vm.ack()
		equal(vm.read(STATE), CONNECTED | DOMAIN | WINDOW, "shown")
		equal(vm.queue(0, Q_NEXT), 7, "where it starts")
		vm.write(DOORBELLS, 0)
		check(p.called(0, 20), "called")
		calls = p.calls[0]
	ends(vm, p, before)


@with_back
def a_queue_is_stopped_by_the_guest(vm, before):
	p = with_peer(vm, base=5)
	equal([vm.queue(0, r) for r in (0, Q_SIZE, Q_NEXT, Q_DESC, Q_AVAIL, Q_USED)], [1, 64, 5, 0x1000, 0x2000, 0x3000], "queue 0")
	p.queue(1)
	vm.ack()
	epoch = vm.read(EPOCH)
	# Without a question there is no deadline
	p.send(SET_VRING_ENABLE, state(0, 0))
	p.sync()
	equal(vm.queue(0), STOPPING, "it is to stop")
	check(vm.read(EPOCH) > epoch, "another epoch")
	equal(vm.read(STATE) & WINDOW, WINDOW, "the window is shown until then")
	equal(vm.queue(1), ENABLED, "the other queue goes on")
	vm.write(DOORBELLS, 0)
	check(p.called(0, 20), "and it can tell what it has done")
	vm.write(queue_register(1, Q_STOPPED), 99)
	vm.write(queue_register(0, Q_STOPPED), 77)
	equal(p.base(0), 77, "where it has stopped")
	equal(vm.queue(0), 0, "it is off")
	vm.write(DOORBELLS, 0)
	check(not p.called(), "nor is there a doorbell")
	vm.write(queue_register(0, Q_STOPPED), 78)
	equal(p.base(0), 77, "to ask again")
	# Once more: its doorbell is there when the guest knows that it was stopped
	p.queue(0, base=77)
	vm.write(DOORBELLS, 0)
	check(not p.called(), "no doorbell before the ACK")
	vm.ack()
	vm.write(DOORBELLS, 0)
	check(p.called(0, 20), "a doorbell")
	ends(vm, p, before)


@with_back
def a_question_waits_for_the_guest(vm, before):
	"""It has 100 ms, which may be over before we have them."""
	for n in range(20):
		p = with_peer(vm)
		p.ask_state(GET_VRING_BASE, 0)
		vm.wait("it is to stop", lambda: vm.queue(0) in (STOPPING, 0))
		vm.write(queue_register(0, Q_STOPPED), 77)
		base = p.receive_state(0)
		ends(vm, p)
		if base != UNKNOWN:
			break
	equal(base, 77, f"where it has stopped, in try {n}")


@with_back
def a_guest_that_does_not_stop_is_not_waited_for(vm, before):
	p = with_peer(vm)
	for q in (1, 2, 3):
		p.queue(q, base=3)
	vm.ack()
	times = []
	for q in range(4):
		started = time.monotonic()
		equal(p.base(q), UNKNOWN, f"the base of queue {q}")
		times.append(time.monotonic() - started)
	check(0.08 <= times[0] < 2, f"after {times[0]:.3f} s")
	# On a busy machine some of them may be late
	check(min(times[1:]) < 0.08, f"the other ones after {times[1:]}: it waits once")
	vm.write(queue_register(0, Q_STOPPED), 5)
	p.queue(0, base=9)
	equal(vm.queue(0, Q_NEXT), 9, "what came too late")
	# A guest that never saw it has not begun, so it is known where it is
	p.none()
	p.new_domain()
	p.run().queue(base=21)
	equal(p.base(0), 21, "of a queue that was not begun")
	ends(vm, p, before)


@with_back
def a_disabled_queue(vm, before):
	p = with_peer(vm)
	p.send(SET_VRING_ENABLE, state(0, 0))
	p.sync()
	equal(vm.queue(0), STOPPING, "disabled: it stops")
	# Enabled again before the guest has done so: it begins where it has stopped
	p.send(SET_VRING_ENABLE, state(0, 1))
	p.sync()
	equal(vm.queue(0), STOPPING, "it still has to")
	vm.write(queue_register(0, Q_STOPPED), 12)
	equal((vm.queue(0), vm.queue(0, Q_NEXT)), (ENABLED, 12), "it begins anew")
	vm.ack()
	p.send(SET_VRING_ENABLE, state(0, 0))
	p.sync()
	vm.write(queue_register(0, Q_STOPPED), 13)
	equal(p.base(0), 13, "the base")
	for n in (0, 1, 1, 0, 0, 1):
		p.acknowledged(SET_VRING_ENABLE, state(0, n))
	equal(vm.queue(0), 0, "it was not started again")
	ends(vm, p, before)


@with_back
def packed_rings(vm, before):
	"""They are the guest's to offer; where one is, with its wrap counters, goes through both ways."""
	vm.register(features=VERSION_1 | PACKED)
	p = Front(vm.path)
	equal(p.ask(GET_FEATURES) & PACKED, PACKED, "the offer")
	p.hello(features=VERSION_1 | PACKED | PROTOCOL_FEATURES).run().queue(base=0x80078005)
	vm.ack()
	equal((vm.read64(FEATURES) & PACKED, vm.queue(0, Q_NEXT)), (PACKED, 0x80078005), "what the guest is told")
	p.send(SET_VRING_ENABLE, state(0, 0))
	p.sync()
	vm.write(queue_register(0, Q_STOPPED), 0xfffe8006)
	equal(p.base(0), 0xfffe8006, "where it has stopped")
	ends(vm, p)
	vm.register()
	p = Front(vm.path)
	equal(p.ask(GET_FEATURES) & PACKED, 0, "what is not offered")
	p.close()


@with_back
def calls_change_while_it_runs(vm, before):
	"""As the driver masks an interrupt"""
	p = with_peer(vm)
	old = p.calls[0]
	p.calls[0] = p.keep(os.eventfd(0))
	p.send(SET_VRING_CALL, u64(0), fds=[p.calls[0]])
	p.sync()
	vm.write(DOORBELLS, 0)
	check(p.called(0, 20), "the new one")
	check(not select.select([old], [], [], 0)[0], "not the old one")
	p.send(SET_VRING_CALL, u64(0x100))
	p.sync()
	vm.write(DOORBELLS, 0)
	check(not p.called(), "none")
	equal(vm.queue(0), ENABLED, "it goes on")
	ends(vm, p, before)


@with_back
def without_protocol_features_in_the_features(vm, before):
	"""Then a queue is enabled as soon as it starts."""
	p = Front(vm.path).hello(features=VERSION_1).run()
	for request, payload, fds in list(p.queue_messages(0))[:-1]:
		p.send(request, payload, fds=fds)
	p.sync()
	equal(vm.queue(0), ENABLED, "the queue")
	ends(vm, p, before)


@with_back
def enabled_in_each_run(vm, before):
	"""A queue of the next run is not served before that has said so: the eventfd of its calls may not be there yet."""
	p = with_peer(vm)
	vm.ack()
	equal(vm.queue(0), ENABLED, "in the first run")
	p.none()
	p.new_domain()
	p.run()
	vm.ack()
	*rings, enable = p.queue_messages()
	for request, payload, fds in rings:
		p.send(request, payload, fds=fds)
	p.sync()
	equal(vm.queue(0), 0, "when all but that is told")
	p.send(enable[0], enable[1])
	p.sync()
	equal(vm.queue(0), ENABLED, "then")
	ends(vm, p, before)


# ---- What else is relayed

@with_back
def status_mtu_rarp_and_reset(vm, before):
	p = with_peer(vm)
	rarps = vm.read(RARP_COUNT)
	p.acknowledged(SET_STATUS, u64(15))
	equal((vm.read(DEVICE_STATUS), p.ask(GET_STATUS)), (15, 15), "the status")
	p.acknowledged(NET_SET_MTU, u64(9000))
	equal(vm.read(MTU), 9000, "the MTU")
	p.acknowledged(SEND_RARP, bytes.fromhex("525400123456") + b"\xff\xff")
	equal((vm.read(RARP_COUNT) - rarps, vm.read64(RARP_MAC)), (1, 0x563412005452), "RARP")
	p.acknowledged(RESET_DEVICE)
	equal((vm.read(DEVICE_STATUS), vm.queue(0)), (0, STOPPING), "after a reset of the device")
	vm.write(queue_register(0, Q_STOPPED), 1)
	equal(vm.queue(0), 0, "and then")
	equal(vm.read(STATE), CONNECTED | DOMAIN | WINDOW, "the domain ends when that is told")
	vm.write(DOORBELLS, 0)
	check(not p.called(), "a doorbell of a queue that was reset")
	# One that the guest has not stopped yet ends with the run, and the next one begins
	p.queue(1)
	vm.ack()
	p.acknowledged(RESET_DEVICE)
	equal(vm.queue(1), STOPPING, "once more")
	epoch = vm.read(EPOCH)
	p.none()
	equal(vm.queue(1), 0, "with the run")
	check(vm.read(EPOCH) > epoch, "another epoch")
	p.new_domain()
	p.run().queue(base=3)
	vm.ack()
	equal((vm.queue(0), vm.queue(0, Q_NEXT), vm.queue(1)), (ENABLED, 3, 0), "the next run")
	vm.write(DOORBELLS, 0)
	check(p.called(0, 20), "a doorbell")
	ends(vm, p)
	equal((vm.read(MTU), vm.read64(RARP_MAC), vm.read(DEVICE_STATUS)), (0, 0, 0), "without a peer")


@with_back
def configuration_both_ways(vm, before):
	vm.register(config=bytes(range(1, 21)))
	p = Front(vm.path).hello()
	equal(p.config(0, 8), struct.pack("<III", 0, 8, 0) + bytes(range(1, 9)), "what it reads")
	equal(p.config(16, 8)[12:], bytes((17, 18, 19, 20, 0, 0, 0, 0)), "beyond its end")
	equal(p.config(0, 256)[12:], bytes(range(1, 21)) + bytes(236), "all")
	equal(p.config(200, 100), b"", "what cannot be")
	generation = vm.read(CONFIG_GENERATION)
	p.acknowledged(SET_CONFIG, struct.pack("<III", 6, 2, 0) + b"\xaa\xbb")
	equal(vm.read(CONFIG + 4), 0xbbaa0605, "what it has written")
	equal(vm.read(CONFIG_GENERATION), generation + 1, "the generation")
	# The guest changes it, and says so, with a channel and without
	vm.qtest("writew", hex(BARS[0] + CONFIG), "0x1234")
	vm.write(CONFIG_CHANGED, 1)
	ours, theirs = socket.socketpair()
	ours.settimeout(10)
	p.acknowledged(SET_BACKEND_REQ_FD, fds=[theirs.fileno()])
	vm.write(CONFIG_CHANGED, 1)
	equal(ours.recv(100), struct.pack("<III", 2, 1, 0), "CONFIG_CHANGE_MSG")
	equal(p.config(0, 2)[12:], b"\x34\x12", "what it reads then")
	theirs.close()
	ours.close()
	vm.write(CONFIG_CHANGED, 1)
	ends(vm, p)
	vm.register()


@with_back
def a_channel_that_is_full(vm, before):
	p = Front(vm.path).hello()
	ours, theirs = socket.socketpair()
	p.acknowledged(SET_BACKEND_REQ_FD, fds=[theirs.fileno()])
	n = 0
	try:
		while True:
			n += theirs.send(bytes(1024), socket.MSG_DONTWAIT)
	except BlockingIOError:
		pass
	for _ in range(100):
		vm.write(CONFIG_CHANGED, 1)
	vm.qmp("query-status", 5)
	ours.settimeout(10)
	while n:
		n -= len(ours.recv(min(n, 65536)))
	equal(ours.recv(1000), struct.pack("<III", 2, 1, 0), "it has waited, once")
	theirs.close()
	ours.close()
	ends(vm, p, before)


@with_back
def inflight_memory(vm, before):
	p = Front(vm.path).hello()
	size, fd = p.inflight(2, 128)
	equal(size, 8192, "bytes")
	seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
	equal(seals & 7, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW, "its seals")
	equal(p.inflight(128, 32768), (0, None), "what does not fit")
	equal(p.inflight(0, 128), (0, None), "nothing")
	equal(vm.read64(INFLIGHT_SIZE), 0, "before")
	p.acknowledged(SET_INFLIGHT_FD, struct.pack("<QQHHI", size, 0, 2, 128, 0), fds=[fd])
	equal([vm.read(r) for r in (INFLIGHT_SIZE, INFLIGHT_QUEUES, INFLIGHT_QUEUE_SIZE)], [8192, 2, 128], "registers")
	with mmap.mmap(fd, size) as memory:
		memory[:4] = b"abcd"
		at = hex(BARS[3])
		equal(vm.qtest("readl", at), 0, "BAR 4 before there is a domain")
		p.run().queue()
		equal(vm.qtest("readl", at), 0, "before the ACK")
		vm.ack()
		equal(vm.qtest("readl", at), 0x64636261, "what is there")
		vm.qtest("writel", hex(BARS[3] + 4), "0x31323334")
		equal(memory[4:8], b"4321", "what the guest has written")
		equal(vm.qtest("readl", hex(BARS[3] + size)), 0, "behind its end")
		p.none()
		equal(vm.qtest("readl", at), 0, "after the run")
	ends(vm, p)
	equal(vm.read64(INFLIGHT_SIZE), 0, "without a peer")
	# The program goes on with what the peer brings again
	q = Front(vm.path).hello()
	q.acknowledged(SET_INFLIGHT_FD, struct.pack("<QQHHI", size, 0, 2, 128, 0), fds=[q.keep(remake(b"efgh"))])
	q.run().queue()
	vm.ack()
	equal(vm.qtest("readl", hex(BARS[3])), 0x68676665, "what the next one brings")
	ends(vm, q, before)


def remake(data, size=8192, seals=fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW):
	fd = os.memfd_create("inflight", os.MFD_ALLOW_SEALING)
	os.ftruncate(fd, size)
	os.pwrite(fd, data, 0)
	fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
	return fd


# ---- Interrupts

def unmask(vm, slot, bar, function=0):
	"""All vectors of a device, which have their table there, at address 0"""
	at = function << 8
	vm.pci(slot, at | 0x14, bar)
	vm.pci(slot, at | 4, 6)
	vm.qtest("memset", hex(bar), hex(16 * 129), "0")
	cap = vm.pci_read(slot, at | 0x34) & 0xff
	while vm.pci_read(slot, at | cap) & 0xff != MSIX:
		cap = vm.pci_read(slot, at | cap) >> 8 & 0xff
	vm.pci(slot, at | cap, 1 << 31)


@test
def there_are_no_routes_left():
	"""KVM has 4096 for all interrupts of a VM. A queue's that gets none comes by way of QEMU."""
	path, memory = socket_path(), 2 << 20
	extra = []
	for n in range(32):
		extra += ["-device", f"vm2vm-pci,id=x{n},path={path}-{n},size=4096,addr={16 + n // 8:#x}.{n % 8},multifunction=on"]
	vm = Back("routes", *Back("x", path=path).usual(), *extra, path=path)
	with vm.begin():
		for n in range(32):
			unmask(vm, 16 + n // 8, 0xc9000000 + n * 0x10000, n % 8)
		unmask(vm, 5, BARS[1])
		vm.register()
		p = with_peer(vm)
		for offset, value in ((0, memory), (4, 0), (8, 0x77)):
			vm.qtest("writel", hex(BARS[1] + 16 + offset), hex(value))
		for _ in range(3):
			vm.qtest("writel", hex(memory), "0")
			os.eventfd_write(p.kicks[0], 1)
			vm.wait("an interrupt", lambda: vm.qtest("readl", hex(memory)) == 0x77)
		equal(vm.queue(0, Q_KICKS), 0, "kicks that no interrupt has told of")
		# A masked one is counted, as with a route
		vm.qtest("writel", hex(BARS[1] + 16 + 12), "1")
		os.eventfd_write(p.kicks[0], 1)
		equal(vm.queue(0, Q_KICKS), 1, "kicks while it is masked")
		p.close()


# ---- Nobody makes QEMU wait

def answers_soon(vm, what):
	started = time.monotonic()
	vm.qmp("query-status", 60)
	seconds = time.monotonic() - started
	check(seconds < 10, f"{what}: QMP answers after {seconds:.1f} s")


@with_back
def descriptors_whose_close_waits(vm, before):
	"""Wherever they come: unwanted, of the wrong kind, in numbers, in what is not read"""
	for what, request, payload, copies in (("unwanted", GET_FEATURES, b"", 1), ("many", GET_FEATURES, b"", 200),
			("a kick", SET_VRING_KICK, u64(0), 1), ("a domain", SET_DOMAIN, domain_message(), 1),
			("a channel", SET_BACKEND_REQ_FD, b"", 1), ("not read", 77, b"", 1)):
		client, rest = lingering()
		p = Front(vm.path)
		if request not in (GET_FEATURES, 77):
			p.hello()
			if request == SET_VRING_KICK:
				p.run()
		# It hangs up on the first message that it does not take, and its close is the last one
		with vm.frozen():
			if what == "not read":
				p.send(request)
				p.send(GET_FEATURES, fds=[client.fileno()])
			else:
				p.send(request, payload, fds=[client.fileno()] * copies)
			client.close()
		check(p.closed(), f"{what}: it hangs up")
		time.sleep(0.3)
		answers_soon(vm, what)
		p.close()
		vm.lost()
		for s in rest:
			s.close()


@with_back
def eventfds_that_block(vm, before):
	p = with_peer(vm)
	# O_NONBLOCK is the description's, so the peer can change it back at any time
	for fd, value in ((p.kicks[0], 0), (p.calls[0], 0xfffffffffffffffe)):
		os.set_blocking(fd, True)
		if value:
			os.eventfd_write(fd, value)
	vm.queue(0, Q_KICKS)
	for _ in range(10):
		vm.write(DOORBELLS, 0)
	answers_soon(vm, "a full one that is rung")
	os.eventfd_write(p.kicks[0], 1)
	equal(vm.queue(0, Q_KICKS), 1, "kicks")
	ends(vm, p, before)


@with_back
def a_peer_that_does_not_read(vm, before):
	p = Front(vm.path).hello()
	p.sock.settimeout(2)
	try:
		for _ in range(100000):
			p.send(GET_FEATURES)
	except OSError:
		pass
	answers_soon(vm, "it does not read")
	equal(vm.lost(), "no reading within 5 seconds", "the reason")
	p.close()


@with_back
def a_peer_that_is_slow_to_read(vm, before):
	"""What the socket does not take waits in QEMU."""
	p = Front(vm.path).hello()
	p.sock.setblocking(False)
	sent = 0
	try:
		while sent < 100000:
			p.send(GET_QUEUE_NUM)
			sent += 1
	except BlockingIOError:
		pass
	p.sock.settimeout(30)
	time.sleep(1)
	for n in range(sent):
		equal(p.receive()[2], u64(4), f"answer {n} of {sent}")
	ends(vm, p, before)


@with_back
def a_peer_that_toggles_queues(vm, before):
	"""QEMU has time for others meanwhile."""
	p = with_peer(vm)
	for q in (1, 2, 3):
		p.queue(q)
	vm.ack()
	done = threading.Event()

	def toggle():
		n = 0
		while not done.is_set():
			for q in range(4):
				p.send(SET_VRING_ENABLE, state(q, n & 1))
				p.send(SET_VRING_CALL, u64(q), fds=[p.calls[q]])
			n += 1
		comment(f"{n * 8} messages")

	thread = threading.Thread(target=toggle)
	thread.start()
	try:
		worst = 0
		for _ in range(20):
			# The guest goes along with it
			for q in range(4):
				vm.write(queue_register(q, Q_STOPPED), 1)
			vm.ack()
			started = time.monotonic()
			vm.qmp("query-status", 60)
			worst = max(worst, time.monotonic() - started)
	finally:
		done.set()
		thread.join()
	check(worst < 5, f"QMP takes up to {worst:.1f} s")
	ends(vm, p, before)


# ---- The device makes its own link

@test
def by_its_path_alone():
	path = socket_path()
	vm = Back("path", "-device", f"vm2vm-pci,path={path},addr=5", "-device", "pcie-root-port,id=rp,chassis=1,addr=8",
		"-device", f"vm2vm-pci,id=w1,path={path}-1,size={1 << 20},base=0x100000,unapproved=report,addr=6", path=path)
	with vm.begin():
		infos = {i["id"]: i for i in vm.qmp("query-vm2vm-links")}
		equal(sorted(infos), ["vm2vm-pci0", "w1"], "links")
		equal((infos["vm2vm-pci0"]["backend"]["size"], infos["vm2vm-pci0"]["backend"]["base"]), (4 << 30, 0), "the window")
		equal((infos["w1"]["backend"]["size"], infos["w1"]["backend"]["base"]), (1 << 20, 1 << 20), "the other one")
		# A BAR of 4 GiB goes above them
		vm.pci(5, 0x18, 0)
		vm.pci(5, 0x1c, 2)
		equal(vm.read64(SIZE), 4 << 30, "the register")
		vm.register()
		with first_peer(vm):
			p = Front(path).hello().run().queue()
			vm.ack()
			equal(vm.info("vm2vm-pci0")["backend"]["shown"], 4 << 30, "what is shown")
			p.close()
			equal(vm.lost("vm2vm-pci0"), None, "it goes")
		before = Before(vm)
		for _ in range(3):
			vm.qmp("device_add", driver="vm2vm-pci", id="x0", bus="rp", path=f"{path}-2")
			check(os.path.exists(f"{path}-2"), "the socket is there")
			refused(vm, "object-del", "in use", id="x0")
			vm.qmp("device_del", id="x0")
			vm.wait_event("DEVICE_DELETED", 10, device="x0")
			before.again()
		for properties, said in (({}, "property 'path' is missing"), ({"path": "/nowhere/x"}, "No such file"),
				({"path": f"{path}-3", "size": 12288}, "property 'size' is 0x3000"),
				({"path": f"{path}-3", "base": 1}, "property 'base' is 0x1"),
				({"path": f"{path}-3", "unapproved": "panic"}, "'unapproved' does not accept value 'panic'"),
				({"path": f"{path}-3", "link": "w1"}, "do not go together"), ({"link": "w1"}, "already has a device"),
				({"link": "w1", "base": 4096}, "property 'base' is the link's")):
			refused(vm, "device_add", said, driver="vm2vm-pci", id="x0", bus="rp", **properties)
			before.again()


# ---- Any nonsense of the guest's

@with_back
def whatever_the_guest_writes(vm, before):
	"""All registers, any values, with and without a peer: QEMU lives, and the next one is served."""
	rng = random.Random(SEED)
	p, dropped = None, 0
	for n in range(ROUNDS * 5):
		if n % 50 == 0:
			if p:
				p.close()
			vm.register()
			try:
				p = Front(vm.path).hello().run().queue(rng.randrange(4))
			except (OSError, TypeError):
				p = None
		offset = rng.choice((ACK, CONTROL, EPOCH, CONFIG_CHANGED, queue_register(rng.randrange(5), Q_STOPPED),
			CONFIG + rng.randrange(0, 256, 8), DOORBELLS, rng.randrange(0, 0x8000, 8)))
		value = rng.choice((0, 1, vm.read(EPOCH), rng.getrandbits(32)))
		width = rng.choice("bwlq") if offset < DOORBELLS else "l"
		if offset == CONTROL and rng.randrange(8):
			value |= 1
		vm.qtest(f"write{width}", hex(BARS[0] + offset), hex(value & ((1 << 8 * {"b": 1, "w": 2, "l": 4, "q": 8}[width]) - 1)))
		if not n % 7:
			vm.qtest(f"read{width}", hex(BARS[0] + offset))
	if p:
		p.close()
	comment(f"seed {SEED}: {vm.info()['peers']} peers")
	vm.qmp("system_reset")
	vm.setup()
	vm.register()
	before.again()
	with_peer(vm).close()
	vm.lost()


@test
def it_ends_in_good_order():
	vm = shared(back)
	p = with_peer(vm)
	equal(vm.qmp("quit", 10), {}, "quit")
	check(p.closed(), "it hangs up")
	p.close()


main()
