#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""driver_test.py: the driver of the backend's guest, guest/linux. Runs in the lab.

There is no owner but this program, where there is one: what is not approved KVM fills with
pages of the backend's own, so that a store to a page of the window is seen by all who map it.
With L2_KERNEL=build/debug/... the guest has lockdep, KASAN and kmemleak.

VM2VM_TRIALS is how often what is repeated is.
"""

import os
import random
import re
import time

from fronts import CONTROL, Front
from vms import VM, Skip, VMError, check, comment, equal, main, shared, test

TRIALS = int(os.environ.get("VM2VM_TRIALS") or 5)
NODE, CLASS, PCI = "/dev/vm2vm/0", "/sys/class/vm2vm/vm2vm!0", "/sys/bus/pci/devices/0000:00:05.0"
DRIVER = "/sys/bus/pci/drivers/vm2vm"
REGISTERS, WINDOW, INFLIGHT = range(3)
WINDOW_SIZE, PAGE, AROUND = 4 << 30, 4096, 16
ONES = "f" * 16
FAR = 100 * AROUND
path = f"/tmp/driver-{os.getpid()}"


def start():
	return VM("driver", "-device", f"vm2vm-pci,id=w0,path={path},addr=5").start(timeout=400)


def guest():
	"""One that has said nothing that it should not have"""
	vm = shared(start)
	vm.sh("dmesg -C")
	return vm


def quiet(vm):
	said = vm.sh("if [ -e /sys/kernel/debug/kmemleak ]; then echo scan >/sys/kernel/debug/kmemleak; "
		"cat /sys/kernel/debug/kmemleak; fi; dmesg")
	bad = [s for s in said.splitlines() if re.search("BUG|WARNING|KASAN|possible|suspicious|unreferenced|bad unlock|sleeping", s)]
	equal(bad, [], "what the guest's kernel reports")


def driver(vm, *steps, check=True):
	return vm.run(f"driver {' '.join(map(str, steps))}", check=check)


def said(vm, *steps):
	return driver(vm, *steps).output.split()


class Running:
	"""A program that goes on"""

	def __init__(self, vm, *steps):
		self.vm = vm
		vm.sh("rm -f /run/go /run/ready")
		vm.run(f"driver {' '.join(map(str, steps))} >/run/driver 2>&1 & echo $! >/run/driver.pid")
		vm.wait_for("[ -e /run/ready ] || ! kill -0 $(cat /run/driver.pid)", 60)
		check(not vm.run("[ -e /run/ready ]", check=False).status, vm.sh("cat /run/driver"))

	def go(self):
		self.vm.sh("touch /run/go")
		return self.end()

	def end(self):
		self.vm.wait_for("! kill -0 $(cat /run/driver.pid)", 60)
		return self.vm.sh("cat /run/driver").split("\n")

	def kill(self):
		self.vm.sh("kill -9 $(cat /run/driver.pid)")
		self.end()


@test
def calls_and_errors():
	vm = guest()
	equal(driver(vm, "errors", NODE).output, "", "errors, as root")
	equal(said(vm, "look", NODE, "info"), ["32768", str(WINDOW_SIZE), str(4 << 20), "128", "0", "0000:00:05.0"], "info")
	equal(vm.sh(f"cat {CLASS}/id"), "w0", "the ID")
	# Who has the node's group, and nothing else
	vm.sh(f"chgrp 1000 {NODE} && chmod 660 {NODE}")
	equal(driver(vm, "user", 1000, "errors", NODE).output, "", "errors, as a user")
	equal(driver(vm, "user", 1001, "open", NODE, check=False), ("open: Permission denied\n", 1), "without the group")
	quiet(vm)


def table_entries(vm, start, size):
	"""Of the program's page table, if the guest's CPU has that at the moment: flags by physical address"""
	found = {}
	for line in vm.hmp("info tlb").splitlines():
		where = re.match(r"[0-9a-f]{16}: ([0-9a-f]{16}) (\S{9})", line)
		if where and "U" in where[2] and start <= (at := int(where[1], 16)) < start + size:
			found[at] = where[2]
	return found


def mapped(vm, region, bar):
	"""Two pages far from each other are touched: what is in the page table then"""
	start = int(vm.sh(f"sed -n {bar + 1}p {PCI}/resource").split()[0], 16)
	far = {REGISTERS: 5, WINDOW: FAR, INFLIGHT: AROUND * 10}[region] * PAGE
	size = {REGISTERS: 32 << 10, WINDOW: 256 << 20, INFLIGHT: 4 << 20}[region]
	running = Running(vm, "open", NODE, "map", region, "touch 0 1 touch", far, "1 done /run/ready spin 0")
	for _ in range(50):
		vm.qmp("stop")
		found = table_entries(vm, start, size)
		vm.qmp("cont")
		if found:
			running.kill()
			return {at - start for at in found}, set(found.values())
		time.sleep(0.05)
	raise VMError("the program's page table is not seen")


@test
def memory_types_and_mapping_on_demand():
	vm = guest()
	if not vm.run("[ -e /sys/kernel/debug/kmemleak ]", check=False).status:
		raise Skip("KASAN's shadow makes page tables too large to be looked at")
	pages, flags = mapped(vm, WINDOW, 2)
	both = set(range(0, AROUND * PAGE, PAGE))
	equal(pages, both | {FAR * PAGE + p for p in both}, "pages of the window that are mapped")
	# PCD, PWT, and in entries of 4 KiB PAT where others have PSE
	check(not any(set(f) & set("CTP") for f in flags), f"the window is write-back: {flags}")
	pages, flags = mapped(vm, INFLIGHT, 4)
	check(not any(set(f) & set("CTP") for f in flags), f"the in-flight memory is write-back: {flags}")
	pages, flags = mapped(vm, REGISTERS, 0)
	check(pages and all("C" in f for f in flags), f"the registers are uncached: {flags}")
	quiet(vm)


@test
def what_is_revoked_reaches_nothing():
	vm = guest()
	at = 0x7000
	for region in (WINDOW,):
		out = said(vm, "open", NODE, "map", region, "poke", at, "0x11223344 peek4", at,
			"revoke peek", at, "poke", at, "0x55667788 peek4", at, "map", region, "peek4", at)
		equal(out, ["11223344", ONES, "55667788", "11223344"], f"before and after, region {region}")
	# One that another one has is that one's
	running = Running(vm, "open", NODE, "map", WINDOW, "touch", at, "1 done /run/ready wait /run/go poke", at, "0x99 peek4", at)
	equal(said(vm, "open", NODE, "map", WINDOW, "revoke map", WINDOW, "peek4", at), ["11223344"], "revoked by another one")
	equal(running.go(), ["99"], "what is not revoked")
	equal(said(vm, "open", NODE, "map", WINDOW, "peek4", at), ["99"], "goes on")
	quiet(vm)


@test
def a_program_that_ended_leaves_nothing():
	"""Neither do those to which it has passed a region."""
	vm = guest()
	running = Running(vm, "open", NODE, "claim serve map", WINDOW, "pass done /run/ready wait /run/go")
	first, second = said(vm, "open", NODE, "map", WINDOW, "peek4 0 done /run/x wait /run/x peek4 0")
	deadline = time.monotonic() + 20
	while first == second and time.monotonic() < deadline:
		second = said(vm, "open", NODE, "map", WINDOW, "peek4 0")[0]
	check(first != second, "the child writes")
	equal(said(vm, "open", NODE, "map", REGISTERS, "peek4", CONTROL), ["1"], "READY")
	equal(driver(vm, "open", NODE, "claim", check=False), ("claim: Device or resource busy\n", 1), "a second claim")
	running.kill()
	equal(said(vm, "open", NODE, "claim map", REGISTERS, "peek4", CONTROL), ["0"], "not READY")
	first = said(vm, "open", NODE, "claim map", WINDOW, "peek4 0")
	time.sleep(0.5)
	equal(said(vm, "open", NODE, "map", WINDOW, "peek4 0"), first, "what the child wrote")
	vm.sh("pkill -x driver")
	quiet(vm)


@test
def state_is_told():
	vm = guest()
	running = Running(vm, "open", NODE, "claim poll state poll serve done /run/ready wait /run/go poll state ack poll state")
	peer = Front(path).hello().run().queue()
	time.sleep(0.5)
	out = running.go()
	peer.close()
	equal((out[0], out[2]), ("in", ""), "at first, and then nothing new")
	equal(out[3][:2], "in", "a peer comes")
	before, after = out[1].split(), out[-1].split()
	check(int(after[0]) > int(before[0]) and int(after[1]) > int(before[1]), f"changes, epoch: {out}")
	equal((int(before[2]), int(after[2]) & 7), (0, 7), "the state: connected, with a window")
	quiet(vm)


@test
def eventfds_are_doorbells():
	vm = guest()
	many = 20 * TRIALS
	running = Running(vm, "open", NODE, "claim serve kick 0 call 0 kick 3 call 3 done /run/ready wait /run/acked ack done /run/go",
		"answer 0", many, "answer 3", many, "kick 0 call 0 done /run/new answer 0 1 no-call 0 ring 0 no-kick 3 no-kick 3 done /run/again",
		"wait /run/go-on called 3 wait /run/close")
	peer = Front(path).hello().run().queue(0).queue(3)
	vm.sh("touch /run/acked")
	vm.wait_for("[ -e /run/go ]")
	# By QEMU go those that come before KVM has them
	slow = vm.qmp("query-vm2vm-links")[0]["backend"]["slow-doorbells"]
	for q in (0, 3):
		for _ in range(many):
			os.eventfd_write(peer.kicks[q], 1)
			check(peer.called(q, 20), f"the answer of queue {q}")
	vm.wait_for("[ -e /run/new ]")
	os.eventfd_write(peer.kicks[0], 1)
	check(peer.called(0, 20), "another eventfd")
	vm.wait_for("[ -e /run/again ]")
	check(not peer.called(0) and not peer.called(3), "one that is not there any more")
	vm.sh("touch /run/go-on")
	check(peer.called(3, 20), "one that was written to before")
	equal(vm.qmp("query-vm2vm-links")[0]["backend"]["slow-doorbells"], slow, "doorbells by way of QEMU")
	equal(vm.sh("grep -c 'vm2vm:.*-[03]$' /proc/interrupts"), "1", "interrupts of queues")
	running.kill()
	equal(vm.run("grep -c 'vm2vm:' /proc/interrupts", check=False).output.strip(), "0", "and after it")
	vm.sh("rm /run/acked /run/new /run/again /run/go-on")
	peer.close()
	quiet(vm)


@test
def the_device_goes():
	vm = guest()
	for how in ("unbind", "remove"):
		running = Running(vm, "open", NODE, "claim serve kick 0 call 0 map", WINDOW, "poke 0x3000 1 map", REGISTERS,
			"pass peek4 0 done /run/ready wait /run/go peek4 0 peek4 0x1004 poll ring 0 state")
		if how == "unbind":
			vm.sh(f"echo 0000:00:05.0 >{DRIVER}/unbind")
		else:
			vm.sh(f"echo 1 >{PCI}/remove")
		check(vm.run(f"[ -e {NODE} ]", check=False).status, "the node has gone")
		out = running.go()
		# Its child writes to the page that stands for the registers
		equal(out[0], "4d563256", "the first register")
		equal(out[2:], ["f" * 8, "huperr", "state: No such device"], "afterwards")
		check(out[1] != "4d563256", "the registers are not seen any more")
		vm.sh("pkill -x driver; true")
		vm.sh(f"echo 0000:00:05.0 >{DRIVER}/bind" if how == "unbind" else "echo 1 >/sys/bus/pci/rescan")
		equal(said(vm, "open", NODE, "claim map", REGISTERS, "peek4 0"), ["4d563256"], "and it is back")
	quiet(vm)


@test
def module_out_and_in():
	vm = guest()
	running = Running(vm, "open", NODE, "map", WINDOW, "close done /run/ready wait /run/go")
	check("in use" in vm.run("rmmod vm2vm", check=False).output, "a region that is mapped holds the module")
	running.go()
	for _ in range(TRIALS):
		vm.wait_for("rmmod vm2vm", 10)
		vm.sh("insmod /modules/*vm2vm.ko")
		equal(said(vm, "open", NODE, "claim map", REGISTERS, "peek4 0"), ["4d563256"], "and back")
	quiet(vm)


@test
def all_at_once():
	"""Programs that come and go, and the device, too"""
	vm = guest()
	vm.sh("rm -f /run/enough /run/loops; for i in 1 2 3; do (until [ -e /run/enough ]; do "
		f"driver open {NODE} claim serve kick 0 call 0 map 1 pass touch 0 200 ring 0 revoke touch 0 200; "
		f"driver errors {NODE}; done) >/dev/null 2>&1 & echo $! >>/run/loops; done")
	for _ in range(TRIALS):
		time.sleep(random.random())
		vm.sh(f"echo 0000:00:05.0 >{DRIVER}/unbind; echo 0000:00:05.0 >{DRIVER}/bind")
	# No process has the name between two of a loop's programs, or before one is executed
	vm.sh("touch /run/enough; for p in $(cat /run/loops); do while kill -0 $p 2>/dev/null; do pkill -x driver; sleep 0.1; done; done; "
		"while pkill -x driver; do sleep 0.1; done", 120)
	equal(said(vm, "open", NODE, "claim map", REGISTERS, "peek4 0"), ["4d563256"], "it works")
	comment(f"{TRIALS} times")
	quiet(vm)


main()
