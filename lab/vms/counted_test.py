#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""counted_test.py: does what emulates the lab's machine keep a guest alive while it counts instructions? QEMU's own does not:
lab/machine/emulator.patch says why. lab/compare/compare.sh runs this first.

The guest calls its kernel without end. Its timer is one that it need not set anew and whose interrupts it acknowledges by
memory, so from one to the next it has no reason to be left but the host's timers, of which there are many. Where the emulator
delivers an interrupt twice, that guest is dead within a second.
"""

import contextlib
import subprocess
import sys

from vms import VM, main, test

# The kernel's own timer is used as a periodic one
PERIODIC = "highres=off nohz=off lapic=notscdeadline"
# Of two system calls each
BYTES = 1500000


@contextlib.contextmanager
def timers(seconds):
	"""A program of the host's that sets one of so long again and again"""
	program = subprocess.Popen([sys.executable, "-c", f"import time\nwhile True: time.sleep({seconds})"])
	try:
		yield
	finally:
		program.kill()
		program.wait()


@test
def a_guest_lives_under_many_timers():
	with VM("counted", append=PERIODIC) as vm, timers(20e-6):
		vm.sh(f"dd if=/dev/zero of=/dev/null bs=1 count={BYTES} status=none", 60)


main()
