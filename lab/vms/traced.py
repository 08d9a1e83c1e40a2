#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""traced.py: packets of 64 bytes go back and forth between two guests without end, behind a strict IOMMU; what emulates the
machine is to trace it meanwhile. lab/compare/places.py runs it, and gets what it needs to know on the standard output.

    traced.py IOMMU         one of links.py's
"""
import subprocess
import sys
import time
from pathlib import Path

from compare import MTU, WINDOW, card_up
from vhost_user import BACKEND_IP, OWNER_IP, Program, Served, ping

# Where its programs and libraries are is the same for both QEMUs then
Path("/proc/sys/kernel/randomize_va_space").write_text("0", encoding="ascii")
served = Served("net", queues=1, strict=True, iommu=sys.argv[1])
with served.backend() as two:
	Program(two, served, "net", "net tap0").start()
	two.sh(f"ip addr add {BACKEND_IP}/24 dev tap0; ip link set tap0 mtu {MTU} up")
	two.run(f"exchange echo 7 64 {WINDOW} >/run/echo 2>&1 &")
	with served.owner(*served.device("net", 5, f",host_mtu={MTU}"), devices=False, smp=1, poison=False) as one:
		card_up(one, OWNER_IP)
		ping(one)
		# What is asked, mapped or learnt once
		one.sh(f"exchange udp {BACKEND_IP} 7 64 {WINDOW} {8 * WINDOW}", 60)
		subprocess.run(["cat", "/proc/kallsyms", f"/proc/{one.process.pid}/maps"], check=True)
		one.run(f"exchange udp {BACKEND_IP} 7 64 {WINDOW} 100000000 >/run/udp 2>&1 &")
		print("now", flush=True)
		time.sleep(10000)
