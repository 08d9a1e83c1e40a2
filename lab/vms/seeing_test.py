#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""seeing_test.py: what the manual says to look at when something does not work (vm2vm-trouble.rst), each shown.
Runs in the lab.
"""

import re
import subprocess

from vhost_user import Program, Served, link_up, make_tap, ping, wait_until
from vms import BUILD, ROOT, check, comment, equal, long_test, main

PAGE = (ROOT / "qemu/docs/system/devices/vm2vm-trouble.rst").read_text()
KVM_STAT = BUILD / "linux/tools/kvm/kvm_stat/kvm_stat"


def says(text, *what):
	"""This is in it, and the manual has it, too"""
	for w in what:
		check(w in text, f"it says '{w}': {text}")
		check(w in re.sub(r"\s+", " ", PAGE), f"the manual says '{w}'")


@long_test
def nobody_serves():
	served = Served("net")
	with served.backend() as backend, served.owner() as owner:
		says(backend.hmp("info vm2vm"), "not connected", "not registered")
		equal(owner.hmp("info vm2vm"), "", "what the owner says")
		says(backend.sh("vm2vm list"), "not-served")
		wait_until(lambda: "no back-end is registered by the guest" in backend.stderr.read_text(), "QEMU says why")
		says(backend.stderr.read_text(), "no back-end is registered by the guest")


@long_test
def nothing_is_approved():
	"""The device has no IOMMU"""
	served = Served("net", iommu=None)
	with served.backend() as backend:
		make_tap(backend)
		program = Program(backend, served, "net", "net tap0").start()
		with served.owner() as owner:
			wait_until(lambda: "connected" in owner.hmp("info vm2vm"), "a connection")
			link_up(owner)
			says(owner.stderr.read_text(), "the device bypasses the IOMMU, or has none")
			wait_until(lambda: "approved: 0 bytes" in owner.hmp("info vm2vm"), "nothing is approved")
			says(owner.hmp("info vm2vm"), "approved: 0 bytes")
			wait_until(lambda: "is not mapped, or has a bad index" in program.said(), "the program says so")
			says(program.said(), "is not mapped, or has a bad index")
			says(PAGE, "vm2vm scan 0xff000000 0x1000000")
			equal(backend.sh("vm2vm scan 0xff000000 0x1000000"), "ff000000-100000000 all-ones", "what is approved")
			says(PAGE, "all-ones")


@long_test
def what_is_counted():
	served = Served("net")
	with served.backend() as backend:
		make_tap(backend)
		Program(backend, served, "net", "net tap0").start()
		with served.owner() as owner:
			link_up(owner)
			ping(owner)
			done = subprocess.run(["/usr/bin/python3", KVM_STAT, "-d", "-1", "-f", "vm2vm"], capture_output=True, text=True, timeout=60,
				check=False)
			comment(done.stdout + done.stderr)
			says(done.stdout, "vm2vm_mapped", "vm2vm_faults", "vm2vm_rings_direct")
			info = backend.sh("vm2vm info")
			says(info, "driver_ok 1", "queue0.kicks")
			comment(backend.sh("vm2vm queue 0 | head -n 9"))
			says(backend.sh("vm2vm queue 0"), "avail.idx", "used.idx")
			says(backend.hmp("info vm2vm"), "slow doorbells")


main()
