#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""polled_test.py: DPDK's testpmd at either end, in guests, and on the host for comparison. Runs in the lab."""

import contextlib
import re
import time

from links import IOMMUS, TOOL
from measure import counts
from polled import IOVA, TOOLS, Forwarder, Host, Polled, need, plain
from vhost_user import Program, Served, wait_until
from vms import VM, check, comment, equal, long_test, main, test

# A virtio-iommu has an interrupt by pin only. The card in VFIO raises its own until its process has another one, so the two
# must not share one: else the kernel takes 100,000 interrupts that nobody wants before it turns the line off.
IOMMUS["virtio, apart"] = [*IOMMUS["virtio"][:-1], IOMMUS["virtio"][-1] + ",addr=6"]
# Packets on their way, in bursts of 32
BURSTS = 4
SENT = 32 * BURSTS
MEMORY = 384


def back_and_forth(first, *others, more=2000):
	"""first sends some, which go to and fro until it stops. None is lost."""
	for t in others:
		t.command("set record-burst-stats on")
		t.command("start")
	first.command("set record-burst-stats on")
	began = time.monotonic()
	first.command(f"start tx_first {BURSTS}")
	wait_until(lambda: first.stats().rx >= more, f"{more} packets come back", 120)
	seconds = time.monotonic() - began
	one = first.stop()
	# What is under way ends in its ring
	last = others[0]
	wait_until(lambda: last.stats().tx == last.stats().rx and last.stats().rx >= one.tx, "the other end has all", 30)
	ends = [t.stop() for t in others]
	comment(f"frames of {first.frame} bytes, {seconds:.1f} s: {one}; {'; '.join(map(str, ends))}")
	equal(one.tx, one.rx + SENT, "sent by the first: what it was to, and each that came back")
	equal(sum(s.dropped for s in (one, *ends)), 0, "dropped")
	equal(ends[0].rx, one.tx, "received at the other end")
	equal(ends[0].tx, one.rx + SENT, "sent back; the first has not looked at the last of them")
	for s in (one, *ends):
		check(s.bursts * 32 >= s.rx, f"times that it looked for packets: {s}")
	return one, *ends


@contextlib.contextmanager
def served(frame, iommu=None, smp=1):
	"""The owner's, and the backend's"""
	need()
	pair = Served("net", queues=1, iommu=iommu, bypass=not iommu)
	with pair.backend(memory=MEMORY, tools=TOOLS, smp=smp, more=f",base={IOVA:#x}" if iommu else "") as backend:
		comment(f"the backend boots in {backend.boot_seconds:.1f} s")
		back = Polled(backend, frame=frame).start()
		program = Program(backend, pair, "net", f"vhost-user {back.socket}").start()
		with pair.owner(memory=MEMORY, tools=TOOLS, smp=smp, poison=False) as owner:
			comment(f"the owner boots in {owner.boot_seconds:.1f} s")
			front = Forwarder(owner, iommu=bool(iommu), frame=frame)
			began, before = time.monotonic(), counts(owner)
			front.start()
			cost = counts(owner) - before
			comment(f"testpmd begins in {time.monotonic() - began:.1f} s: {cost['exits']} exits, {cost['vm2vm_mapped']} pages mapped")
			front.linked()
			back.linked()
			yield front, back
			check(program.alive(), program.said())
			equal(owner.qmp("query-vm2vm-links")[0]["owner"]["bypassed"], not iommu, "all is approved")


@test
def one_cpu_each():
	with served(64) as (front, back):
		back_and_forth(front, back)
		# Once more, as it is
		for t in (front, back):
			t.command("clear fwd stats all")
		before = back.bursts()
		back.command("start")
		time.sleep(1)
		after = back.bursts()
		comment(f"of nothing: {before}, {after}")
		check(after[0] > 1000, f"times that it looked for packets, of which there is none, count: {before}, {after}")


@test
def larger_frames():
	for frame in 1500, 9000:
		with served(frame) as (front, back):
			back_and_forth(front, back)


def merged(ranges):
	"""Of pairs, sorted, with those that touch made one"""
	result = []
	for start, end in sorted(ranges):
		if result and result[-1][1] == start:
			start = result.pop()[0]
		result.append((start, end))
	return result


def huge_pages(front):
	"""Of testpmd's, by its own addresses, which are the card's"""
	lines = front.where.sh(f"grep -E '^[0-9a-f]+-|KernelPageSize: +2048' /proc/{front.pid()}/smaps | grep -B 1 KernelPageSize | grep -- -").splitlines()
	return merged(tuple(int(a, 16) for a in line.split()[0].split("-")) for line in lines)


def seen(back, area):
	"""What the backend's guest sees there and 2 MiB around"""
	start, end = area[0][0] - (2 << 20), area[-1][1] + (2 << 20)
	said = back.where.sh(f"{TOOL} scan {start:#x} {end - start}")
	return merged(tuple(int(a, 16) for a in r) for r in re.findall(r"(?m)^(?:0x)?([0-9a-f]+)-(?:0x)?([0-9a-f]+)$", said))


def user_space_driver(iommu):
	"""What its process has mapped is what the backend sees, and nothing is when it was killed"""
	with served(64, iommu) as (front, back):
		back_and_forth(front, back)
		owner = front.where
		area = huge_pages(front)
		comment(f"it has {' '.join(f'{a:#x}-{b:#x}' for a, b in area)}")
		check(sum(b - a for a, b in area) >= front.mib << 20, f"it has huge pages: {area}")
		equal(seen(back, area), area, "what the backend sees of that and 2 MiB around")
		front.kill()
		wait_until(lambda: counts(owner)["vm2vm_domains"] == 0, "the run of its card ends with the process")
		equal(counts(owner)["vm2vm_mappings"], 0, "mappings that are left")
		equal(seen(back, area), [], "what the backend sees of what was its memory")
		# Another one, at the same addresses
		front.start()
		front.linked()
		back.linked()
		back_and_forth(front, back)


@long_test
def behind_a_virtio_iommu():
	user_space_driver("virtio, apart")


@long_test
def behind_an_intel_iommu():
	user_space_driver("intel")


@test
def the_host_serves():
	need()
	for frame in 64, 1500, 9000:
		with contextlib.ExitStack() as stack:
			switch = stack.enter_context(Polled(Host(), 2, frame=frame))
			vms = [stack.enter_context(VM(f"plain{i}", *plain(s, f"52:54:00:76:33:{i:02x}", MEMORY), memory=MEMORY,
				machine="q35,memory-backend=m", tools=TOOLS)) for i, s in enumerate(switch.sockets)]
			ends = [Forwarder(vm, frame=frame).start().linked() for vm in vms]
			switch.linked(2)
			one, two, between = back_and_forth(ends[0], ends[1], switch)
			equal(between.rx, one.tx + two.tx, "through the host's")


main()
