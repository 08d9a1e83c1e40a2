#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""vms_test.py: does vms.py do what tests need? Runs in the lab, as they do."""

import sys

sys.dont_write_bytecode = True	# nothing of this run stays in the checkout
# pylint: disable=wrong-import-position
from vms import VM, CommandError, QMPError, VMError, VMTimeout, check, comment, equal, main, test


@test
def two_guests_at_a_time():
	a, b = VM("a"), VM("b", memory=192)
	a.start(wait=False)
	b.start(wait=False)
	for vm in (a, b):
		vm.booted()
		comment(f"{vm.name}: booted in {vm.boot_seconds:.1f} s")
	equal(a.sh("echo $((6 * 7))"), "42", "what a computes")
	equal(b.run("echo out; echo err >&2; exit 3", check=False), ("out\nerr\n", 3), "output and status")
	equal(a.sh("head -c 300000 /dev/zero | tr '\\0' x | wc -c"), "300000", "a count")
	equal(len(a.sh("head -c 300000 /dev/zero | tr '\\0' x")), 300000, "length of a long output")
	equal(a.shutdown(), 0, "a's exit status")
	check(b.running(), "b goes on")
	equal(b.quit(), 0, "b's exit status")


def rng_behind(iommu):
	"""The driver of a source of entropy behind an IOMMU has its DMA mapped, and it works."""
	with VM("owner", "-device", iommu, "-device",
		"virtio-rng-pci,id=rng,iommu_platform=on,disable-legacy=on,addr=5", append="iommu.strict=1") as vm:
		comment(f"booted in {vm.boot_seconds:.1f} s")
		equal(vm.sh("cat /sys/class/misc/hw_random/rng_current"), "virtio_rng.0", "the hwrng")
		equal(vm.sh("cat /sys/bus/pci/devices/0000:00:05.0/iommu_group/type"), "DMA", "its domain, strict")
		# Beyond its memory: an address of the IOMMU's
		status = vm.qmp("x-query-virtio-queue-status", path="/machine/peripheral/rng/virtio-backend", queue=0)
		check(status["vring-desc"] > vm.memory << 20, f"the queue is mapped: {status['vring-desc']:#x}")
		equal(vm.sh("dd if=/dev/hwrng bs=16 count=1 status=none | wc -c"), "16", "bytes")


@test
def rng_behind_virtio_iommu():
	rng_behind("virtio-iommu-pci")


@test
def rng_behind_intel_iommu():
	rng_behind("intel-iommu,caching-mode=on,intremap=off")


@test
def hotplug():
	with VM("a", "-device", "pcie-root-port,id=rp,chassis=1,addr=4") as vm:
		vm.qmp("device_add", driver="virtio-rng-pci", id="new", bus="rp")
		vm.wait_for("ls /sys/bus/pci/devices/0000:01:00.0/driver", 30)
		vm.qmp("device_del", id="new")
		vm.wait_event("DEVICE_DELETED", 60, device="new")
		check(vm.run("ls /sys/bus/pci/devices/0000:01:00.0", check=False).status, "it is gone")


@test
def what_goes_wrong_is_said():
	with VM("a") as vm:
		try:
			vm.sh("echo oh; false")
			check(False, "a failed command is an error")
		except CommandError as e:
			equal(e.result, ("oh\n", 1), "the failed command")
		try:
			vm.qmp("no-such-command")
			check(False, "QEMU refuses an unknown command")
		except QMPError as e:
			equal(e.kind, "CommandNotFound", "the class of the error")
		try:
			vm.run("sleep 10; echo late", timeout=0.5)
			check(False, "a timeout is an error")
		except VMTimeout:
			pass
		equal(vm.sh("echo next"), "next", "the output after a timeout")
		try:
			vm.run("echo c >/proc/sysrq-trigger; sleep 60")
			check(False, "a panic is an error")
		except VMError as e:
			check("sysrq triggered crash" in str(e), f"the message has the panic: {e}")
		check(not vm.running(), "it is not running")
	with VM("b") as vm:
		vm.process.kill()
		try:
			vm.sh("sleep 60")
			check(False, "a dead QEMU is an error")
		except VMError as e:
			check("SIGKILL" in str(e), f"the message has the signal: {e}")
	try:
		VM("c", "-device", "no-such-device").start()
		check(False, "QEMU that does not start is an error")
	except VMError as e:
		check("no-such-device" in str(e), f"the message has QEMU's: {e}")


main()
