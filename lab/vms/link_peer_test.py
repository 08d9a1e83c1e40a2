#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""link_peer_test.py: what an owner's QEMU makes of wrong properties, and of peers that talk
nonsense. backend_peer_test.py does the same to a backend's.

Runs in the lab. One QEMU, without a guest, is for all cases; after each it has to be as it
was before, and a good peer has to be served.
"""

import os
import socket

from bare import FREE, TO_OWNER, Backend, Before, case, exits, good_backend, machine, serves, temporary
from links import (F_DOMAIN, F_REPLY_ACK, GET_FEATURES, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, NEED_REPLY, REPLY,
	SET_DOMAIN, SET_PROTOCOL_FEATURES, VERSION, refused, u64)
from peers import Target, noise, shaken
from vms import check, equal, main, shared, test


# ---- Properties

OWNER = {"role": "owner", "chardev": "free", "device": "d0", "bypass": True}


def but(good, *missing, **changed):
	return {k: v for k, v in (good | changed).items() if k not in missing}


def object_refused(properties, said):
	vm = shared(machine)
	before = Before(vm)
	refused(vm, "object-add", said, **{"qom-type": "vm2vm-link"}, id="l2", **properties)
	before.again()
	equal(before.stderr(), [], "what QEMU says elsewhere")
	vm.qmp("object-add", **{"qom-type": "vm2vm-link"}, id="l2", **OWNER)
	serves(vm, FREE, "l2")
	vm.qmp("object-del", id="l2")
	before.again()
	check(["and not its queues" in s for s in before.stderr()] == [True], f"one warning: {before.stderr()}")


for _name, _properties, _said in (
	("role_missing", but(OWNER, "role"), "'role' is missing"),
	("role_bad", but(OWNER, role="both"), "'role' does not accept value 'both'"),
	("chardev_missing", but(OWNER, "chardev"), "'chardev' is missing"),
	("chardev_unknown", but(OWNER, chardev="c9"), "property 'chardev': there is no chardev 'c9'"),
	("chardev_no_socket", but(OWNER, chardev="null"), "property 'chardev': 'null' cannot pass file descriptors"),
	("chardev_tcp", but(OWNER, chardev="tcp"), "property 'chardev': 'tcp' cannot pass file descriptors"),
	("chardev_in_use_by_owner", but(OWNER, chardev="c1"), "property 'chardev': chardev 'c1' is already in use"),
	("owner_without_device", but(OWNER, "device"), "property 'device' is missing"),
	("device_unknown", but(OWNER, device="d9"), "property 'device': there is no device 'd9'"),
	("device_of_isa", but(OWNER, device="e0"), "property 'device': 'e0' is no PCI device"),
	("owner_with_size", but(OWNER, size=65536), "property 'size' is for the role 'backend'"),
	("owner_with_base", but(OWNER, base=4096), "property 'base' is for the role 'backend'"),
	("owner_with_unapproved", but(OWNER, unapproved="stop"), "property 'unapproved' is for the role 'backend'"),
):
	case(f"object_{_name}", object_refused, _properties, _said)


def set_refused(name, prop, value, said):
	vm = shared(machine)
	before = Before(vm)
	path = f"/objects/{name}" if name.startswith("l") else f"/machine/peripheral/{name}"
	old = vm.qmp("qom-get", path=path, property=prop)
	refused(vm, "qom-set", said, path=path, property=prop, value=value)
	equal(vm.qmp("qom-get", path=path, property=prop), old, "its value")
	before.again()


for _name, _property, _value, _said in (
	("l1", "device", "r0", "property 'device' cannot be changed any more"),
	("l1", "unapproved", "report", "property 'unapproved' is for the role 'backend'"),
):
	case(f"set_{_name}_{_property}".replace("-", "_"), set_refused, _name, _property, _value, _said)


@test
def object_in_use():
	vm = shared(machine)
	before = Before(vm)
	refused(vm, "object-del", "'l9' not found", id="l9")
	before.again()
	refused(vm, "x-query-vm2vm-mappings", "no vm2vm-link 'l9' of role 'owner'", id="l9")
	serves(vm, TO_OWNER, "l1")
	before.again()


@test
def object_with_a_peer_is_deleted():
	vm = shared(machine)
	before = Before(vm)
	vm.qmp("object-add", **{"qom-type": "vm2vm-link"}, id="l2", **OWNER)
	peer = Backend(FREE).answers()
	vm.wait_event("VM2VM_PEER_CONNECTED", 10, id="l2")
	vm.qmp("object-del", id="l2")
	check(peer.closed(), "it hangs up")
	peer.close()
	vm.wait_event("VM2VM_PEER_LOST", 10, id="l2")
	before.again()


def command_line(args, said, machine_type="q35", accel="kvm"):
	text = exits(*args, machine=machine_type, accel=accel)
	check(said in text, f"says '{said}': {text}")
	# A hint may be in the next line, and "exiting with failure" nowhere. ASAN has one of its own.
	lines = [s for s in text.splitlines() if "ASan doesn't fully support" not in s]
	check(len(lines) <= 2, f"is one message: {text}")


_FREE = ["-chardev", f"socket,id=free,path={temporary('never')},server=on,wait=off"]
_LINK = ["-object", "vm2vm-link,id=l2,role=backend,chardev=free,size=64K"]
for _name, _args, _said, _more in (
	("role_bad", ["-object", "vm2vm-link,id=l2,role=both,chardev=free"], "'role' does not accept value 'both'", {}),
	("size_odd", ["-object", "vm2vm-link,id=l2,role=backend,chardev=free,size=3M"],
		"property 'size' is 0x300000, which is not a power of 2", {}),
	("chardev_unknown", ["-object", "vm2vm-link,id=l2,role=backend,chardev=c9,size=64K"],
		"property 'chardev': there is no chardev 'c9'", {}),
	("device_unknown", ["-object", "vm2vm-link,id=l2,role=owner,chardev=free,device=d9"],
		"property 'device': there is no device 'd9'", {}),
	("device_of_isa", ["-object", "vm2vm-link,id=l2,role=owner,chardev=free,device=e0", "-device", "isa-debug-exit,id=e0"],
		"property 'device': 'e0' is no PCI device", {}),
	("path_missing", ["-device", "vm2vm-pci"], "property 'path' is missing", {}),
	("irqchip_off", ["-cpu", "host,apic=off", *_LINK, "-device", "vm2vm-pci,link=l2"], "vm2vm-pci needs interrupts in KVM",
		{"machine_type": "q35,kernel-irqchip=off"}),
	("link_without_kvm", _LINK, "vm2vm needs KVM", {"accel": "qtest"}),
):
	case(f"command_line_{_name}", command_line, [*_FREE, *_args], _said,
		_more.get("machine_type", "q35"), _more.get("accel", "kvm"))


# ---- Peers that talk nonsense

owners = Target(machine, "l1", lambda vm: TO_OWNER, Backend, lambda vm: serves(vm, TO_OWNER, "l1"))


@test
def peers_that_come_back_at_once():
	def talk(p):
		p.send(77)
		check(p.closed(), "it is hung up on")
	owners.come_back_at_once(talk)


# ---- Owners' peers

RIGHT = VERSION | REPLY


def instead(request, payload, flags=RIGHT, of=None, fds=0, size=None):
	"""Right answers until this one is asked"""
	def talk(p):
		p.answers(request).answer(of or request, payload, flags, size=size, fds=[p.sock.fileno()] * fds)
	return talk


for _name, _talk, _said in (
	("unknown_request", instead(GET_FEATURES, u64(0), of=99), "request 99 is not known"),
	("another_answer", instead(GET_FEATURES, u64(32), of=GET_QUEUE_NUM), "it answers GET_QUEUE_NUM, which was not asked"),
	("another_answer_later", instead(GET_PROTOCOL_FEATURES, u64(0), of=SET_DOMAIN), "it answers SET_DOMAIN, which was not asked"),
	("answer_to_no_question", instead(SET_PROTOCOL_FEATURES, u64(0)), "it answers SET_PROTOCOL_FEATURES, which was not asked"),
	("answer_twice", lambda p: p.answers().answer(SET_DOMAIN), "it answers SET_DOMAIN, which was not asked"),
	("answer_before", lambda p: p.answer(GET_PROTOCOL_FEATURES), "it answers GET_PROTOCOL_FEATURES, which was not asked"),
	("no_reply_flag", instead(GET_FEATURES, None, flags=VERSION), "GET_FEATURES has flags 0x1"),
	("need_reply_flag", instead(GET_FEATURES, None, flags=RIGHT | NEED_REPLY), "GET_FEATURES has flags 0xd"),
	("version_0", instead(GET_FEATURES, None, flags=REPLY), "GET_FEATURES has flags 0x4"),
	("size_too_small", instead(GET_FEATURES, bytes(4)), "GET_FEATURES has 4 bytes instead of 8"),
	("size_too_large", instead(SET_DOMAIN, bytes(16)), "SET_DOMAIN has 16 bytes instead of 8"),
	("size_enormous", instead(GET_FEATURES, b"", size=0xffffffff), "GET_FEATURES has 4294967295 bytes instead of 8"),
	("with_fd", instead(GET_FEATURES, None, fds=1), "GET_FEATURES comes with a file descriptor"),
	("sixteen_fds", instead(SET_DOMAIN, None, fds=16), "more than one file descriptor"),
	("no_protocol_features", instead(GET_FEATURES, u64(1 << 32)), "it has no protocol features"),
	("no_domains", instead(GET_PROTOCOL_FEATURES, u64(F_REPLY_ACK)), "it does not know of vm2vm domains"),
	("no_reply_ack", instead(GET_PROTOCOL_FEATURES, u64(F_DOMAIN)), "it does not acknowledge"),
	("refusal", instead(SET_DOMAIN, u64(1)), "it does not take the domain"),
	("refusal_in_the_upper_half", instead(SET_DOMAIN, u64(1 << 63)), "it does not take the domain"),
	("silence", lambda p: None, "no answer within 5 seconds"),
	("silence_later", lambda p: p.answers(SET_DOMAIN), "no answer within 5 seconds"),
	("half_an_answer", instead(GET_PROTOCOL_FEATURES, b"\1", size=8), "no answer within 5 seconds"),
	("half_a_message_later", lambda p: p.answers().send(GET_FEATURES, flags=RIGHT, size=8), "no rest of a message within 5 seconds"),
):
	case(f"owner_{_name}", owners.dropped, _talk, _said)

for _name, _talk in (
	("at_once", lambda p: None),
	("with_the_domain", lambda p: p.answers(SET_DOMAIN)),
	("in_an_answer", instead(GET_PROTOCOL_FEATURES, b"\1", size=8)),
	("when_connected", lambda p: p.answers()),
):
	case(f"owner_left_{_name}", owners.leaves, _talk)


@test
def owner_calls_again():
	"""An owner that connects by itself does so after each peer that it dropped."""
	vm = shared(machine)
	before = Before(vm)
	path = str(temporary("peer-server"))
	with socket.socket(socket.AF_UNIX) as server:
		server.bind(path)
		server.listen()
		server.settimeout(30)
		vm.qmp("chardev-add", id="client", backend={"type": "socket", "data": {
			"addr": {"type": "unix", "data": {"path": path}}, "server": False, "reconnect-ms": 100}})
		vm.qmp("object-add", **{"qom-type": "vm2vm-link"}, id="l2", **but(OWNER, chardev="client"))
		for said, talk in (("it has no protocol features", instead(GET_FEATURES, u64(0))),
				("it does not take the domain", instead(SET_DOMAIN, u64(22))), (None, Backend.answers)):
			p = Backend(sock=server.accept()[0])
			talk(p)
			if said:
				check(p.closed(), "it hangs up")
				event = vm.wait_event("VM2VM_PEER_LOST", 10, id="l2")
				equal(event["data"].get("reason"), said, "the reason")
				p.close()
		vm.wait_event("VM2VM_PEER_CONNECTED", 10, id="l2")
	vm.qmp("object-del", id="l2")
	vm.qmp("chardev-remove", id="client")
	p.close()
	os.unlink(path)
	before.again()


# ---- Any nonsense

def backends_messages(p):
	for request, payload in p.RIGHT.items():
		yield request, payload, [], [RIGHT]


case("owner_noise", owners.many, noise)
case("owner_shaken", owners.many, shaken(backends_messages))
case("owner_1000_peers", owners.come_and_go)


@test
def it_ends_in_good_order():
	vm = shared(machine)
	p = good_backend(vm, TO_OWNER, "l1")
	equal(vm.quit(), 0, "QEMU's exit status")
	check(p.closed(), "it hangs up")
	p.close()


main()
