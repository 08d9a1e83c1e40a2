#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""vhost_net_test.py: a stock guest's card, served by the vhost-net of the guest next door, in a
bridge there. Runs in the lab.

VM2VM_TRIALS is how often what is repeated is; its default is for a quick run.
"""

import contextlib
import json
import os
import random
import time

from measure import packets, serve_streams, stream
from vhost_user import (BACKEND_IP, OWNER_IP, Program, Served, driver, interface, late_writes, link_up, make_bridge, ping, rebind,
	wait_until)
from vms import check, comment, equal, long_test, main, migrate, of_qemu, test

TRIALS = int(os.environ.get("VM2VM_TRIALS") or 2)
NET = 1
# Of virtio-net's features those that vhost-net and a tap have. USO they have, too, but QEMU's
# -netdev vhost-user does not.
WANTED = {"CSUM": 0, "GUEST_CSUM": 1, "GUEST_TSO4": 7, "GUEST_TSO6": 8, "HOST_TSO4": 11, "HOST_TSO6": 12, "MRG_RXBUF": 15,
	"STATUS": 16, "CTRL_VQ": 17, "MQ": 22, "INDIRECT_DESC": 28, "EVENT_IDX": 29, "VERSION_1": 32}


def serve(backend, served, more="", tap="tap0", bridge=True):
	program = Program(backend, served, "net", f"net {more} {tap}").start()
	if bridge:
		backend.sh(f"ip link set {tap} master br0 up")
	return program


def both(served, backend, *args, **kwargs):
	"""The owner, after the backend and its program: its driver finds all that is offered"""
	make_bridge(backend)
	program = serve(backend, served)
	owner = served.owner(*args, **kwargs).start()
	link_up(owner)
	ping(owner)
	return owner, program


def alive_and_clean(owner, program):
	said = ping(owner)
	check(" 0% packet loss" in said, said)
	check(program.alive(), f"the backend's program ended: {program.said()}")
	equal(program.said().strip(), "ready", "complaints of the program")
	equal(late_writes(owner), [], "writes to freed pages")


def features(owner):
	name, _ = driver(owner, NET)
	return owner.sh(f"cat /sys/bus/virtio/devices/{name}/features")


def cpu_ticks(program):
	"""That the program's own thread has used: vhost-net's are threads of the program, too"""
	stat = program.vm.sh(f"p=$(cat {program.out}.pid); cat /proc/$p/task/$p/stat").rsplit(")", 1)[1].split()
	return int(stat[11]) + int(stat[12])


def streams(owner, backend, *more):
	"""TCP and UDP, both ways"""
	serve_streams(backend)
	for direction in ((), ("-R",)):
		for kind in ((), ("-u", "-b", "20M")):
			size, end = stream(owner, *kind, *direction, *more)
			what = f"{'UDP' if kind else 'TCP'} {'to the owner' if direction else 'from the owner'}"
			check(size > 100000, f"{what}: {size} bytes: {end}")
			comment(f"{what}: {size >> 10} KiB in {end['sum_sent' if not kind else 'sum']['seconds']:.1f} s")
	backend.sh("pkill iperf3")


@test
def card_in_a_bridge():
	served = Served("net")
	with served.backend() as backend:
		owner, program = both(served, backend)
		bits = features(owner)
		missing = [n for n, bit in WANTED.items() if bits[bit] != "1"]
		equal(missing, [], f"features that the driver has not got, of {bits}")
		info = backend.sh("vm2vm info")
		for q in range(4):
			check(f"queue{q}.size" in info, f"queue {q} is enabled: {info}")
		node = {"node": "/dev/vm2vm/0", "device": "0000:00:05.0", "id": "w-net", "state": "running", "kind": "net", "queues": 4}
		equal(json.loads(backend.sh("vm2vm list --json")), [node], "what there is")
		said = json.loads(backend.sh("vm2vm -d w-net info --json"))
		check({"csum", "mrg_rxbuf", "mq", "event_idx"} <= set(said["feature_names"]), f"features by name: {said}")
		equal([said["nr_queues"], said["kind"], said["unapproved"]], [4, "net", "fill"], "queues, kind, holes")
		equal(backend.sh("grep -c vm2vm: /proc/interrupts"), "4", "interrupts for queues, of those that it could have")
		before = cpu_ticks(program)
		said = owner.sh(f"ping -f -c {1000 if TRIALS < 10 else 10000} {BACKEND_IP}", 600)
		check(" 0% packet loss" in said, said)
		streams(owner, backend)
		equal(cpu_ticks(program), before, "ticks that the program has used for all that")
		slow = backend.qmp("query-vm2vm-links")[0]["backend"]["slow-doorbells"]
		check(slow < 10, f"doorbells by way of QEMU: {slow}")
		alive_and_clean(owner, program)


@test
@of_qemu
def link_state_and_mtu():
	served = Served("net")
	with served.backend() as backend:
		make_bridge(backend)
		program = serve(backend, served)
		carrier = "cat /sys/class/net/tap0/carrier"
		equal(backend.sh(carrier), "0", "carrier of the tap before there is a peer")
		owner = served.owner(*served.device("net", 5, ",host_mtu=9000"), devices=False).start()
		link_up(owner)
		ping(owner)
		equal(backend.sh(carrier), "1", "carrier with one")
		equal(backend.sh("cat /sys/class/net/tap0/mtu"), "9000", "its MTU")
		backend.sh("ip link set br0 mtu 9000")
		said = owner.sh(f"ping -c 3 -s 8972 -M do {BACKEND_IP}")
		check(" 0% packet loss" in said, said)
		name, path = driver(owner, NET)
		owner.sh(f"echo {name} >{path}/unbind")
		wait_until(lambda: backend.sh(carrier) == "0", "no carrier without a driver")
		owner.sh(f"echo {name} >{path}/bind")
		link_up(owner)
		alive_and_clean(owner, program)
		card = interface(owner)
		equal(owner.sh(f"cat /sys/class/net/{card}/carrier"), "1", "the owner's carrier")
		program.kill()
		wait_until(lambda: owner.sh(f"cat /sys/class/net/{card}/carrier") == "0", "no carrier for the owner without a program")
		equal(backend.run(carrier, check=False).status, 1, "a tap that the program made goes with it")


@test
@of_qemu
def driver_is_there_first():
	"""What it has negotiated before a back-end came, vhost-net is told then: among others, how long a header is."""
	served = Served("net")
	with served.owner() as owner:
		owner.wait_for(f"ip link set {interface(owner)} up")
		with served.backend() as backend:
			make_bridge(backend)
			program = serve(backend, served)
			link_up(owner)
			alive_and_clean(owner, program)


@test
def owner_migrates():
	"""To where no back-end is, until the source has gone; its driver has what it has negotiated there."""
	served = Served("net")
	with served.backend() as backend:
		source, program = both(served, backend, name="source")
		before = features(source)
		target = migrate(source, served.owner)
		source.kill()
		ping(target)
		equal(features(target), before, "features")
		alive_and_clean(target, program)
		target.kill()


@test
def all_that_comes_and_goes_under_traffic():
	served = Served("net")
	with served.backend() as backend:
		owner, program = both(served, backend)
		owner.run(f"(while :; do ping -f -w 5 {BACKEND_IP}; sleep 0.1; done) >/dev/null 2>&1 & echo $! >/run/flood")
		backend.run(f"(while :; do ping -f -w 5 {OWNER_IP}; sleep 0.1; done) >/dev/null 2>&1 & echo $! >/run/flood")
		for _ in range(TRIALS):
			time.sleep(random.random())
			rebind(owner, NET)
			link_up(owner)
		alive_and_clean(owner, program)
		for _ in range(TRIALS):
			time.sleep(random.random())
			program.kill()
			serve(backend, served)
			ping(owner)
		alive_and_clean(owner, program)
		for _ in range(TRIALS):
			time.sleep(random.random())
			# With the device in use
			backend.sh("echo 0000:00:05.0 >/sys/bus/pci/drivers/vm2vm/unbind")
			wait_until(lambda: not program.alive(), "the program ends when the device goes")
			check("the device has gone" in program.said(), program.said())
			backend.sh("rmmod vm2vm; insmod /modules/*vm2vm.ko")
			serve(backend, served)
			ping(owner)
		alive_and_clean(owner, program)
		for vm in (owner, backend):
			vm.sh("kill $(cat /run/flood)")


@test
@of_qemu
def taps_of_other_kinds():
	served = Served("net", queues=1)
	with served.backend() as backend:
		make_bridge(backend)
		# One that is there, with one queue
		backend.sh("ip tuntap add dev one mode tap")
		said = backend.run("vm2vm net -q 2 one", check=False)
		equal((said.status, said.output), (1, "vm2vm: one has one queue: make it with multi_queue\n"), "two pairs")
		said = backend.run("vm2vm net br0", check=False)
		equal((said.status, said.output), (1, "vm2vm: br0: Invalid argument (it is no tap)\n"), "a bridge")
		program = serve(backend, served, tap="one")
		with served.owner() as owner:
			link_up(owner)
			alive_and_clean(owner, program)


def long_streams(queues, mtu=None):
	served = Served("net", queues=queues)
	with served.backend(smp=2) as backend:
		card = served.device("net", 5, f",host_mtu={mtu}" if mtu else "")
		owner, program = both(served, backend, *card, devices=False, smp=max(2, queues))
		mtu = mtu or 1500
		backend.sh(f"ip link set br0 mtu {mtu}")
		name = interface(owner)
		equal(len(owner.sh(f"ls -d /sys/class/net/{name}/queues/rx-*").split()), queues, "queues")
		said = owner.sh(f"ping -c 3 -s {mtu - 28} -M do {BACKEND_IP}")
		check(" 0% packet loss" in said, said)
		before = packets(owner)
		streams(owner, backend, "-P", "4")
		done = packets(owner) - before
		comment(f"{queues} queues, MTU {mtu}: {done['rx_packets']} packets received, {done['tx_packets']} sent")
		alive_and_clean(owner, program)


@long_test
def streams_by_one_queue():
	long_streams(1)


@long_test
def streams_by_four_queues():
	long_streams(4)


@long_test
def streams_of_large_frames():
	long_streams(4, 9000)


@contextlib.contextmanager
def under_traffic():
	"""An owner whose card is served, and that sends and receives all the time"""
	served = Served("net")
	with served.backend() as backend:
		owner, program = both(served, backend)
		flood(owner)
		served.program = program
		yield served, owner, backend
		alive_and_clean(owner, served.program)


def flood(owner):
	owner.run(f"(while :; do ping -f -w 5 {BACKEND_IP}; sleep 0.1; done) >/dev/null 2>&1 &")


def comes_back(owner):
	"""Its card is up, and works"""
	card = interface(owner)
	wait_until(lambda: owner.sh(f"cat /sys/class/net/{card}/carrier") == "1", "the owner's carrier")
	ping(owner)


def serve_again(served, backend):
	make_bridge(backend)
	served.program = serve(backend, served)


@long_test
def driver_is_bound_anew():
	with under_traffic() as (_, owner, _):
		for _ in range(TRIALS):
			time.sleep(random.random())
			rebind(owner, NET)
			link_up(owner)
			comes_back(owner)


@long_test
def backend_is_killed():
	with under_traffic() as (served, owner, backend):
		card = interface(owner)
		for _ in range(TRIALS):
			time.sleep(random.random())
			backend.kill()
			wait_until(lambda: owner.sh(f"cat /sys/class/net/{card}/carrier") == "0", "no carrier without a backend")
			backend.start()
			serve_again(served, backend)
			comes_back(owner)


def reset(vm):
	"""As by its button: it boots again"""
	vm.qmp("set-action", reboot="reset")
	vm.ready = False
	vm.qmp("system_reset")
	vm.booted()


@long_test
def either_is_reset():
	with under_traffic() as (served, owner, backend):
		for _ in range(TRIALS):
			reset(owner)
			link_up(owner)
			comes_back(owner)
			flood(owner)
			reset(backend)
			serve_again(served, backend)
			comes_back(owner)


main()
