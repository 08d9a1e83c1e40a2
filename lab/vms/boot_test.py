#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""boot_test.py: a stock Debian boots from a disk that a qemu-storage-daemon has, in the guest next door.
Runs in the lab. lab/build/stock.sh makes the Debian: nothing of ours is in it.
"""

import os
import shutil
import tempfile
import time

from vhost_user import STORAGE, Program, Served, Storage
from vms import BUILD, Skip, check, comment, equal, long_test, main

STOCK = BUILD / "stock"
# What its systemd is to run, in place of the services that it would begin, with no quotation marks of either kind
FIRST = """exec >/dev/console 2>&1; echo; echo "root: $(findmnt -no SOURCE,FSTYPE /)"; echo "kernel: $(uname -r)";
	for g in /sys/kernel/iommu_groups/*; do [ ! -e $g/devices/0000:00:05.0 ] || echo "domain: $(cat $g/type)"; done"""
WRITE = "head -c 3000000 /dev/urandom >/root/data; sha256sum </root/data >/root/sum; sync; echo left: $(cat /root/sum)"
READ = "dpkg --verify coreutils libc6 systemd && echo verified; echo found: $(sha256sum </root/data) $(cat /root/sum)"


def boots(served, run, timeout=900):
	"""What it says on its console of what it was to run, after which it turns itself off"""
	command = " ".join(f"{FIRST}; {run}".split())
	# Once for systemd, which takes $ for its own, and % too
	command = command.replace("\\", "\\\\").replace("$", "$$").replace('"', '\\x22')
	# The kernel's first code asks firmware for each disk's geometry, and firmware would wait for this one for ever
	append = f"edd=off root=/dev/vda rw intel_iommu=on systemd.run_success_action=poweroff systemd.run=\"/bin/sh -c '{command}'\""
	owner = served.owner(memory=512, poison=False, append=append, kernel=STOCK / "vmlinuz", initrd=STOCK / "initrd.img")
	owner.start(wait=False)
	# A wait that ends without it says what it printed last
	equal(owner.wait(timeout), 0, "QEMU's exit status, as its guest turns itself off")
	comment(f"from its start to its end: {time.monotonic() - owner.started:.1f} s")
	said = owner.console.read_bytes().decode(errors="replace").replace("\r", "").splitlines()
	found = dict(line.split(": ", 1) for line in said if line.startswith(("root: ", "kernel: ", "domain: ", "left: ", "found: ")))
	comment(found)
	check(found.get("root") == "/dev/vda ext4" and "cloud-amd64" in found.get("kernel", ""), owner.tail(60))
	equal(found.get("domain"), "DMA", "the disk's IOMMU domain: each page is mapped as it is needed, and not after")
	return found, said


@long_test
def debian_from_a_served_disk():
	if not shutil.which(STORAGE):
		raise Skip(f"there is no {STORAGE}")
	if not (STOCK / "disk").exists():
		raise Skip("lab/build/stock.sh has made no Debian")
	served = Served("blk", iommu="intel")
	# What is written goes to a file of the backend's QEMU
	os.environ["TMPDIR"] = tempfile.mkdtemp()
	disk = ["-drive", f"file={STOCK / 'disk'},format=raw,if=none,id=f0,snapshot=on", "-device", "virtio-blk-pci,drive=f0,addr=0xa"]
	with served.backend(*disk, memory=512, tools=(STORAGE,)) as backend:
		storage = Storage(backend, 0, {"root": "/dev/vda"}).start()
		program = Program(backend, served, "blk", f"vhost-user {storage.sockets['root']}").start()
		first, _ = boots(served, WRITE)
		second, said = boots(served, READ)
		left = first["left"].split()[0]
		equal(second["found"].split()[::2], [left, left], "the SHA-256 of what was written before it was started again")
		check("verified" in said, "its packages are as they were installed")
		check(program.alive() and storage.alive(), f"{program.said()} {storage.said()}")
		# Firmware knows no IOMMU: its run of the disk has rings that are not mapped
		rest = {line for line in program.said().splitlines() if line != "vm2vm: queue 0: is not mapped, or has a bad index"}
		equal(rest, {"ready"}, "what the program says")


main()
