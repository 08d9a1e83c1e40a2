#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""region_test.py: what ivshmem is used for, with an owner, rights and revocation: three VMs, a region of the first, a
ring each way between any two, doorbells among all. Runs in the lab."""

import os
import re
import time

from links import TOOL
from measure import counts, kernel_threads
from region import CHANNEL, COMMON, FILE, HEADER, IOVA, PAGE, Group, channel, common
from vhost_user import wait_until
from vms import check, comment, equal, long_test, main, migrate, test

TRIALS = int(os.environ.get("VM2VM_TRIALS") or (5 if os.environ.get("LONG") else 2))
ONES = "ff " * 15 + "ff"


def flood(group, count):
	for m, other in group.pairs():
		m.type(f"flood {other.number} {count}")


def flooded(group, times=1, timeout=300):
	for m, other in group.pairs():
		m.wait(f"flooded {other.number}$", timeout, times)


def heard(group, count):
	"""All that was sent, each as it was sent"""
	for m, other in group.pairs():
		m.vm.wait_for(f"echo status >{m.out}.in; sleep 0.1; grep '^VM {other.number}: ' {m.out} | tail -n 1 | grep -q 'heard {count},'", 60)
		equal(m.status(other.number)["wrong"], 0, f"wrong messages to {m.number} from {other.number}")


def wait_still(group, timeout=120):
	"""Until all that was sent was taken; how many messages that were, of each pair"""
	deadline = time.monotonic() + timeout
	while True:
		sent = [m.status(other.number)["sent"] for m, other in group.pairs()]
		taken = [other.status(m.number)["heard"] for m, other in group.pairs()]
		if sent == taken:
			return sent
		check(time.monotonic() < deadline, f"sent: {sent}, heard: {taken}")
		time.sleep(0.5)


def bytes_at(member, other, iova):
	"""16, of what a backend sees through its link to another VM"""
	said = member.vm.sh(f"{TOOL} -d {member.address(other)} read {iova:#x} 16")
	return " ".join(re.findall(r"\b[0-9a-f]{2}\b", said.split(":", 1)[-1])[:16])


@test
def each_hears_the_others():
	"""By doorbells and memory alone. What is between two VMs the third does not see, and what it only reads it cannot write."""
	with Group() as group:
		zero, one, two = group
		for m, other in group.pairs():
			m.ask(f"send {other.number} it is {m.number} to {other.number}", "^sent$")
			other.wait(f"from {m.number}: it is {m.number} to {other.number}")
		before = [counts(m.vm) for m in group]
		each = 3000
		flood(group, each)
		flooded(group)
		heard(group, each)
		for m, b in zip(group, before):
			cost = counts(m.vm) - b
			bells = sum(m.status(n)["bells"] for n in group.others(m.number))
			comment(f"VM {m.number}, {2 * each} messages sent and as many taken: {cost['exits'] / (2 * each):.2f} exits a message sent, "
				f"{bells} doorbells heard, {cost['vm2vm_mapped']} pages mapped meanwhile")
			equal(cost["vm2vm_mapped"], 0, "what was mapped for messages")
			equal([i.get("slow-doorbells", 0) for i in m.vm.qmp("query-vm2vm-links")], [0, 0], "doorbells by way of QEMU")
		check(not [t for t in kernel_threads() if t.startswith(("vhost", "vm2vm"))], "the host's kernel has no thread for any of it")
		# Rights
		equal(bytes_at(two, 0, channel(3, 0, 1)), ONES, "what VM 2 sees of the messages from 0 to 1")
		equal(bytes_at(two, 0, channel(3, 1, 0)), ONES, "and of those from 1 to 0")
		check(bytes_at(one, 0, channel(3, 1, 0)) != ONES, "VM 1 sees its own")
		# Who writes where it only reads sees that for a moment, and nobody else does
		was = bytes_at(two, 0, HEADER)
		one.vm.sh(f"{TOOL} -d {one.address(0)} write {HEADER:#x} 0011223344556677")
		equal(bytes_at(two, 0, HEADER), was, "the header, as VM 2 sees it, after VM 1 has tried to write to it")
		wait_until(lambda: bytes_at(one, 0, HEADER) == was, "VM 1 sees what VM 0 has there")
		flood(group, 10)
		flooded(group, 2)
		heard(group, each + 10)
		# What all share, as for frames of a picture
		for m in group:
			m.ask(f"fill {m.number + 7}", "filled")
			for other in group.others(m.number):
				said = group[other].ask(f"check {m.number + 7}", "checked")
				check(" 0 of 131072 " in said, f"VM {other} of what VM {m.number} has written: {said}")
		group.healthy()


def none_lost(group):
	"""No more is sent, and what was has arrived, as it was, without anything that has begun anew"""
	flood(group, 0)
	sent = wait_still(group)
	for m, other in group.pairs():
		status = m.status(other.number)
		equal((status["wrong"], status["runs"]), (0, 1), f"wrong messages and runs, of {other.number} at {m.number}")
	return sent


def more_is_taken(member, other):
	was = member.status(other)["taken"]
	wait_until(lambda: member.status(other)["taken"] > was, f"VM {member.number} is told more by VM {other}", 20)


@test
def taken_and_given():
	"""From one VM, while all send to all"""
	with Group(scattered=True) as group:
		zero, one, two = group
		flood(group, 10 ** 9)
		zero.ask("revoke 2", "^revoked$")
		equal(bytes_at(two, 0, common(3)), ONES, "what VM 2 sees of the common part")
		equal(bytes_at(two, 0, channel(3, 0, 2)), ONES, "and of what it was told")
		two.wait("VM 0 is not reached")
		check("the region is not there" in two.ask("get 0 10", "not there"), "VM 2 knows")
		# The others go on
		was = one.status(0)["sent"]
		time.sleep(1)
		check(one.status(0)["sent"] > was, "VM 1 and VM 0 go on")
		for n in range(TRIALS):
			zero.ask("grant 2", "^granted$")
			group.all_reached()
			comment(f"{n}: {two.status(0)}")
			zero.ask("revoke 2", "^revoked$")
			two.wait_state(0, "not reached")
		# So quickly that it may not notice; and it looks all the time, at what is half there, too
		two.vm.run(f"(while :; do echo 'ring 1' >{two.out}.in; done) >/dev/null 2>&1 & echo $! >/run/rings")
		for n in range(TRIALS):
			zero.type("grant 2")
			time.sleep(0.03 * (n % 4))
			zero.type("revoke 2")
			zero.ask("grant 2", "^granted$")
			for m in zero, one:
				more_is_taken(m, 2)
			zero.ask("revoke 2", "^revoked$")
		zero.ask("grant 2", "^granted$")
		two.vm.sh("kill $(cat /run/rings)")
		group.all_reached()
		comment(f"messages of each pair: {none_lost(group)}")
		group.healthy()


@long_test
def hostile_member():
	"""It writes to all that it can reach. The others do not notice, and it can come back."""
	with Group() as group:
		zero, one, two = group
		for m, other in (zero, one), (one, zero):
			m.type(f"flood {other.number} {10 ** 9}")
		link = two.address(0)
		for seed in range(10):
			for start, size in (IOVA, PAGE), (channel(3, 2, 0), CHANNEL), (channel(3, 2, 1), CHANNEL), (common(3), COMMON):
				two.vm.sh(f"{TOOL} -d {link} fill {start:#x} {size} {seed}")
			zero.type("status")
		was = [(m.status(other.number), m) for m, other in ((zero, one), (one, zero))]
		time.sleep(1)
		for status, m in was:
			now = m.status(1 - m.number)
			check(now["sent"] > status["sent"], f"VM {m.number} goes on: {status}, {now}")
			equal((now["wrong"], now["runs"]), (0, 1), "wrong messages and runs")
		two.kill()
		two.start()
		group.all_reached()


def set_words(vm, at, *values):
	"""8 bytes each, in the file that is the region"""
	for i, v in enumerate(values):
		octal = "".join(f"\\{b:03o}" for b in v.to_bytes(8, "little"))
		vm.sh(f"printf '{octal}' | dd of={FILE} bs=8 seek={at // 8 + i} conv=notrunc status=none")


def word(vm, at):
	return int(vm.sh(f"od -A n -t u8 -j {at} -N 8 {FILE}"))


@long_test
def region_that_shrinks():
	"""VM 0 says that there are more VMs, and is one of them; and then that there are fewer. Nobody writes to it beyond
	what these have."""
	with Group(scattered=True) as group:
		zero, one = group[0], group[1]
		vm = zero.vm
		set_words(vm, channel(8, 7, 1) - HEADER, 5, word(vm, channel(3, 1, 0) - HEADER))
		set_words(vm, channel(8, 1, 7) - HEADER, 0, 0)
		# Its numbers of VMs, and of bytes in the common part
		set_words(vm, 8, 8, PAGE)
		for _ in range(2):
			zero.type("ring 1")
			time.sleep(0.5)
		one.wait("VM 7 is reached")
		set_words(vm, 8, 2, PAGE)
		zero.type("ring 1")
		time.sleep(0.5)
		beyond = channel(2, 1, 7) - HEADER
		set_words(vm, beyond + 16, 0x5555)
		set_words(vm, channel(2, 7, 1) - HEADER + 24, 0)
		said = one.ask("send 7 where to", "^(not )?sent")
		check(said.startswith("not sent"), said)
		equal(word(vm, beyond + 16), 0x5555, "what is behind the channels of two VMs")
		check(one.alive(), one.said())


@long_test
def members_come_and_go():
	with Group() as group:
		zero, one, two = group
		for way in ("program", "VM"):
			zero.type("flood 1 100000")
			one.type("flood 0 100000")
			zero.type("flood 2 100000")
			time.sleep(1)
			if way == "program":
				two.kill()
			else:
				two.vm.kill()
				two.boot()
			two.start()
			group.all_reached()
			two.type("flood 1 50")
			two.wait("flooded 1")
			for m in zero, one:
				status = m.status(1 - m.number)
				equal((status["wrong"], status["runs"]), (0, 1), f"VM {m.number} of VM {1 - m.number}, which have stayed")
			comment(f"{way}: {zero.status(2)}")
			equal(two.status(0)["wrong"], 0, "wrong messages")
			equal(two.status(0)["taken"] > 0, True, "what was sent to it goes on")
		# The region's owner: all begin anew
		zero.kill()
		for m in one, two:
			m.wait_state(0, "not reached")
			equal(bytes_at(m, 0, common(3)), ONES, f"what VM {m.number} sees of the region")
		zero.start()
		group.all_reached()
		group.healthy()


@long_test
def regions_owner_migrates():
	"""While all send to all: nothing is lost, nothing comes twice"""
	with Group() as group:
		zero = group[0]
		flood(group, 10 ** 9)
		before = [m.status(other.number)["sent"] for m, other in group.pairs()]
		source = zero.vm
		target = migrate(source, zero.make)
		zero.vm = target
		source.kill()
		group.all_reached()
		between = [m.status(other.number)["sent"] for m, other in group.pairs()]
		time.sleep(1)
		after = none_lost(group)
		comment(f"messages of each pair, before: {before}, after: {between}, in the end {after}")
		check(all(a < b < c for a, b, c in zip(before, between, after)), "all have sent all the time")
		group.healthy()


@long_test
def five_members():
	with Group(5) as group:
		flood(group, 50)
		flooded(group, 1, 600)
		heard(group, 50)
		group.healthy()


main()
