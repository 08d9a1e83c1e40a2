#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""foreign_test.py: a stock guest's device, served by a vhost-user back-end that knows nothing of
vm2vm, in the guest next door. Runs in the lab.

VM2VM_TRIALS is how often what is repeated is; its default is for a quick run.
"""

import contextlib
import os
import random
import re
import shutil
import time

from vhost_user import (BACKEND_IP, FILES, OWNER_IP, STORAGE, SWITCH, SWITCH_TOOLS, Files, Program, Served, Storage, Switch, disk, file_system_holds,
	late_writes, link_up, ping, rebind, wait_until)
from vms import Skip, VMError, check, comment, equal, long_test, main, test

NET = 1
TRIALS = int(os.environ.get("VM2VM_TRIALS") or 2)
MIB = 64


def begin():
	if not shutil.which(STORAGE):
		raise Skip(f"there is no {STORAGE}")
	served = Served("blk")
	return served, served.backend(memory=512, tools=(STORAGE,))


def begin_verify(owner):
	# One request at a time: of those that a daemon had begun that was killed none is known
	owner.run(f"verify {disk(owner)} 8 1 >/run/verify 2>&1 & echo $! >/run/verify.pid")


def end_verify(owner):
	owner.sh("kill $(cat /run/verify.pid)")
	owner.wait_for("! kill -0 $(cat /run/verify.pid)", 600)
	said = owner.sh("cat /run/verify")
	check(re.search("^verified: ", said, re.M), said)
	comment(said)


def requests(owner):
	"""That its disk has done"""
	fields = owner.sh(f"cat /sys/block/{disk(owner)[5:]}/stat").split()
	return int(fields[0]) + int(fields[4])


@test
def storage_daemon_has_a_file_system():
	served, backend = begin()
	with backend:
		storage = Storage(backend, MIB)
		# The program first: it waits, and says for what
		backend.run(f"vm2vm vhost-user {storage.socket} >/run/early 2>&1 & echo $! >/run/early.pid")
		backend.wait_for("grep -q 'waiting for a back-end' /run/early", 30)
		storage.start()
		backend.wait_for("grep -q ready /run/early", 30)
		owner = served.owner().start()
		name = disk(owner)
		equal(owner.sh(f"cat /sys/block/{name[5:]}/size"), str(MIB << 11), "sectors")
		file_system_holds(owner, TRIALS)
		equal(backend.sh("dd if=/tmp/disk bs=1080 skip=1 count=1 status=none | od -An -tx1 -N2").split(), ["53", "ef"],
			"the file system's magic number, in the backend's file")
		check(storage.alive(), storage.said())
		equal(backend.sh("grep -c 'hung up' /run/early; true"), "0", f"times that the daemon hung up: {storage.said()}")
		equal(late_writes(owner), [], "writes to freed pages")
		slow = backend.qmp("query-vm2vm-links")[0]["backend"]["slow-doorbells"]
		check(slow < 10, f"doorbells by way of QEMU: {slow}")


@contextlib.contextmanager
def under_load():
	"""A disk of the daemon's, with requests of the owner's under way; in the end all of it is verified"""
	served, backend = begin()
	with backend:
		storage = Storage(backend, MIB)
		storage.start()
		program = Program(backend, served, "blk", f"vhost-user {storage.socket}").start()
		owner = served.owner().start()
		begin_verify(owner)
		yield owner, backend, storage, program
		end_verify(owner)
		check(program.alive(), program.said())
		equal(late_writes(owner), [], "writes to freed pages")


def go_on(owner):
	before = requests(owner)
	wait_until(lambda: requests(owner) > before + 20, "requests are done")


@test
def daemon_and_program_are_killed():
	with under_load() as (owner, _, storage, program):
		for _ in range(TRIALS):
			for victim in (storage, program):
				go_on(owner)
				time.sleep(random.random() / 5)
				victim.kill()
				victim.start()


@test
def one_that_hangs_loses_the_window():
	"""It is stopped in the middle of requests, and goes on when they are another run's."""
	with under_load() as (owner, backend, storage, program):
		for _ in range(TRIALS):
			go_on(owner)
			storage.signal("STOP")
			# A new run of the owner's device
			owner.qmp("stop")
			backend.wait_for(f"grep -q 'does not answer' {program.out}", 30)
			owner.qmp("cont")
			storage.signal("CONT")
			time.sleep(0.5)
			if not storage.alive():
				raise VMError(f"the daemon has ended: {storage.said()}")
			backend.sh(f": >{program.out}")


# ---- A switch that polls

def answered(vm, ip=BACKEND_IP, count=20):
	said = ping(vm, count, ip=ip)
	comment(said.splitlines()[-2])
	check(" 0% packet loss" in said, said)


def begin_switch(*others):
	if not shutil.which(SWITCH):
		raise Skip(f"there is no {SWITCH}")
	served = Served("net", queues=1, others=others)
	return served, served.backend(memory=1024, smp=2, tools=SWITCH_TOOLS)


def replace(switch, each, *programs):
	"""These are killed in this order, and begun again in it. Then each is served."""
	for p in programs:
		p.kill()
	# Programs that are there before the switch wait for it
	for p in programs:
		if isinstance(p, Program) and not switch.alive():
			p.start("waiting for a back-end")
		else:
			p.start()
	for vm, ip in each:
		answered(vm, ip, 5)


@test
def testpmd_answers():
	"""It answers pings itself, whatever address they are for"""
	served, backend = begin_switch()
	with backend:
		switch = Switch(backend).start()
		program = Program(backend, served, "net", f"vhost-user {switch.socket}").start()
		with served.owner() as owner:
			link_up(owner)
			answered(owner)
			rebind(owner, NET)
			link_up(owner)
			answered(owner)
			equal(program.said(), "ready", "what the program says")
			check(switch.alive(), switch.said())
			equal(late_writes(owner), [], "writes to freed pages")


@long_test
def testpmd_between_owners():
	"""Two owners' cards, each with a device of the backend's: what one sends goes to the other. Then whoever serves
	them is killed, in any order."""
	served, backend = begin_switch("other")
	with backend:
		switch = Switch(backend, 2).start()
		programs = [Program(backend, served, name, f"vhost-user {s}").start() for name, s in zip(("net", "other"), switch.sockets)]
		second = served.other("other", mac="52:54:00:76:32:77")
		with served.owner() as one, second.owner(name="second") as two:
			link_up(one)
			link_up(two, BACKEND_IP)
			each = (one, BACKEND_IP), (two, OWNER_IP)
			for vm, ip in each:
				answered(vm, ip, 100)
			for _ in range(TRIALS):
				replace(switch, each, switch)
				replace(switch, each, programs[0])
				replace(switch, each, switch, *programs)
				replace(switch, each, *programs, switch)
			for vm, _ in each:
				equal(late_writes(vm), [], "writes to freed pages")


# ---- A file system

@long_test
def virtiofsd_shares_a_directory():
	if not shutil.which(FILES):
		raise Skip(f"there is no {FILES}")
	served = Served("fs")
	with served.backend(memory=512, tools=(FILES,)) as backend:
		files = Files(backend).start()
		backend.sh("head -c 20000000 /dev/urandom >/tmp/files/there")
		program = Program(backend, served, "fs", f"vhost-user {files.socket}").start()
		with served.owner() as owner:
			owner.sh("mkdir /run/files; mount -t virtiofs files /run/files")
			equal(owner.sh("sha256sum </run/files/there"), backend.sh("sha256sum </tmp/files/there"), "what is read")
			owner.sh("head -c 20000000 /dev/urandom >/run/files/here; sync; mkdir /run/files/d; mv /run/files/here /run/files/d")
			equal(backend.sh("sha256sum </tmp/files/d/here"), owner.sh("sha256sum </run/files/d/here"), "what is written")
			owner.sh("umount /run/files; mount -t virtiofs files /run/files; ls -l /run/files/d")
			equal(owner.sh("sha256sum </run/files/d/here"), backend.sh("sha256sum </tmp/files/d/here"), "what is read after another mount")
			equal(program.said(), "ready", "what the program says")
			check(files.alive(), files.said())
			equal(late_writes(owner), [], "writes to freed pages")


main()
