#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""libvirt_test.py: Debian's own libvirt runs an owner and a backend, by the XML that the manual shows.
Runs in the lab. lab/build/libvirt.sh makes the Debian.
"""

import contextlib
import copy
import pathlib
import re

from libvirt import MADE, Domain, begin, inside, manual, virsh
from vhost_user import STORAGE, Program, Storage, disk, file_system_holds, link_up, make_tap, ping, wait_until
from vms import Skip, VMError, check, comment, equal, long_test, main, shared


def host():
	if not (MADE / "made").exists():
		raise Skip("lab/build/libvirt.sh has made no Debian")
	begin()
	inside("install", "-d", "-o", "libvirt-qemu", "-g", "libvirt-qemu", "-m", "700", "/run/vm2vm")
	return Running()


class Running:
	"""What shared() asks of a VM, of libvirtd"""

	def running(self):
		return "running" in virsh("version", check=False)


class Host:
	"""What Program asks of Served: the manual's backend has the card first, and then the disk"""
	name = ""

	def index(self, kind):
		return ("net", "blk").index(kind)


def appears(owner, virtio_id):
	owner.wait_for(f"grep -q 0x{virtio_id:04x} /sys/bus/virtio/devices/*/device", 60)


def answers(owner):
	said = ping(owner)
	check(" 0% packet loss" in said, said)


def detach(owner, element, virtio_id):
	"""With the guest's consent"""
	owner.device("detach", element)
	wait_until(lambda: owner.run(f"grep -q 0x{virtio_id:04x} /sys/bus/virtio/devices/*/device", check=False).status,
		"the device has gone")


def window(backend, name):
	"""How much of it is shown, of what has a domain"""
	info = next(i for i in backend.qmp("query-vm2vm-links") if i["id"] == name)
	return info["connected"] and info["backend"]["domain"] and info["backend"]["shown"]


def confined(vm):
	"""By libvirt, as it does with any QEMU"""
	status = pathlib.Path(f"/proc/{vm.process.pid}/status").read_text()
	user = inside("id", "-u", "libvirt-qemu").strip()
	equal(re.search(r"^Uid:\s*(\d+)", status, re.M).group(1), user, "who QEMU runs as")
	group = pathlib.Path(f"/proc/{vm.process.pid}/cgroup").read_text()
	check(re.search(rf"qemu.*{vm.name}", group), f"a control group of its own: {group}")


class Serving:
	"""The backend's programs"""

	def __init__(self, backend):
		make_tap(backend)
		self.card = Program(backend, Host(), "net", "net tap0").start()
		self.storage = Storage(backend, 64).start()
		self.disk = Program(backend, Host(), "blk", f"vhost-user {self.storage.sockets['disk']}").start()

	def well(self):
		for p in (self.card, self.storage, self.disk):
			check(p.alive(), p.said())


@long_test
def devices_come_and_go():
	"""While the owner runs, and the owner goes."""
	shared(host)
	xml = manual()
	backend, owner = Domain(xml["backend"], tools=(STORAGE,)).define(), Domain(xml["owner"], append="iommu.strict=1").define()
	with backend, owner:
		for vm in (backend, owner):
			confined(vm)
		serving = Serving(backend)
		for _ in range(2):
			owner.device("attach", xml["interface"])
			appears(owner, 1)
			link_up(owner)
			answers(owner)
			check(window(backend, "card"), "the card has a domain")
			comment(virsh("domiflist", owner.name))
			detach(owner, xml["interface"], 1)
			check(not window(backend, "card"), "and none when it has gone")
		owner.device("attach", xml["disk"])
		appears(owner, 2)
		check(window(backend, "disk"), "the disk has a domain")
		file_system_holds(owner, 1)
		comment(virsh("domblklist", owner.name))
		owner.destroy()
		wait_until(lambda: not window(backend, "disk"), "the backend's window shows nothing without an owner")
		serving.well()


@long_test
def what_libvirt_wants():
	"""Shared memory, of which vm2vm makes no use"""
	shared(host)
	xml = manual()
	alone = copy.deepcopy(xml["owner"])
	alone.remove(alone.find("memoryBacking"))
	said = ""
	try:
		with Domain(alone).define(xml["disk"]):
			pass
	except VMError as e:
		said = str(e)
	comment(said)
	check("shared memory" in said, f"it is refused: {said}")


@long_test
def either_is_started_again():
	"""Of an owner that has the devices from the start. They wait for a backend that was destroyed."""
	shared(host)
	xml = manual()
	backend = Domain(xml["backend"], tools=(STORAGE,)).define()
	owner = Domain(xml["owner"], append="iommu.strict=1").define(xml["interface"], xml["disk"])
	with backend, contextlib.ExitStack() as stack:
		stack.callback(owner.kill)
		Serving(backend)
		for _ in range(2):
			owner.start()
			link_up(owner)
			answers(owner)
			file_system_holds(owner, 1)
			backend.destroy()
			backend.start()
			serving = Serving(backend)
			answers(owner)
			owner.sh(f"dd if={disk(owner)} of=/dev/null bs=64k count=16", 60)
			serving.well()
			owner.destroy()


main()
