#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""vhost_user_kinds_test.py: QEMU's vhost-user devices of all kinds, and a backend's QEMU whose guest
has registered such a device. Runs in the lab. There is no guest in either: what one would do this
program does.
"""

import struct

from bare import CAP, DRIVER, SLOT_D0
from fronts import DEVICE_TYPE, DOMAIN, DRIVER_OK, ENABLED, NR_QUEUES, STATE, WINDOW, Back, socket_path
from vms import VM, check, equal, main, test

# In virtio-pci's BAR 4
DEVICE_CONFIG = 0x2000


class Owner(Back):
	"""Its device d0 is driven by a window in the PCI configuration space"""

	def virtio(self, offset, size, value=None):
		"""Read a register of the device's, or write it"""
		for register, what in ((4, 4), (8, offset), (12, size)):
			self.pci(SLOT_D0, CAP + register, what)
		if value is not None:
			self.pci(SLOT_D0, CAP + 16, value)
			return None
		return self.pci_read(SLOT_D0, CAP + 16) & ((1 << 8 * size) - 1)

	def config(self, size):
		return bytes(self.virtio(DEVICE_CONFIG + i, 1) for i in range(size))

	def drive(self):
		"""As a driver with one queue does"""
		self.pci(SLOT_D0, 4, 6)
		for offset, size, value in DRIVER:
			self.virtio(offset, size, value)
		return self

	def reset(self):
		self.virtio(0x14, 1, 0)


def serves(name, device, kind, queues, config, seen, first=False):
	"""The device is realized before there is a back-end, unless that has to be first, and runs with one. Its
	driver sees what the guest has registered, if that is not a property of the device."""
	def run():
		path = socket_path()
		owner = Owner("owner", "-chardev", f"socket,id=c0,path={path}{'' if first else ',reconnect-ms=200'}",
			"-device", f"{device},id=d0,addr={SLOT_D0},chardev=c0,vm2vm=on,vm2vm-bypass=on")
		back = Back("back", path=path)
		if not first:
			owner.begin(setup=False)
		with back.begin().register(device=kind, queues=queues, config=config), owner.begin(setup=False) if first else owner:
			back.wait_event("VM2VM_PEER_CONNECTED", 20)
			# It may have been there before the device was registered, and was dropped for that
			back.events.clear()
			for _ in range(3):
				owner.drive()
				back.wait("its driver is there", lambda: back.read(STATE) & DRIVER_OK)
				back.ack()
				equal(back.read(STATE) & (DOMAIN | WINDOW), DOMAIN | WINDOW, "a run")
				equal(back.read(DEVICE_TYPE), kind, "the kind of device")
				check(0 < back.read(NR_QUEUES) <= queues, f"{back.read(NR_QUEUES)} queues")
				equal(back.queue(0), ENABLED, "the queue that the driver has set up")
				equal(owner.config(len(seen)), seen, "its configuration space")
				owner.reset()
				back.wait("the run is over", lambda: not back.read(STATE) & DOMAIN)
			owner.qmp("quit")
			equal(VM.wait(owner), 0, "the owner's exit status")
			equal(back.lost(), None, "it was not dropped")
	run.__name__ = name
	test(run)


CID = struct.pack("<Q", 77)
serves("rng", "vhost-user-rng-pci,vectors=2", 4, 1, b"", b"")
serves("blk", "vhost-user-blk-pci,num-queues=2", 2, 2, struct.pack("<Q", 4096) + bytes(52), struct.pack("<Q", 4096))
serves("scsi", "vhost-user-scsi-pci,num_queues=1,max_sectors=1234", 8, 3, b"", struct.pack("<III", 1, 126, 1234))
serves("fs", "vhost-user-fs-pci,tag=files", 26, 2, b"", b"files" + bytes(31) + struct.pack("<I", 1), first=True)
serves("vsock", "vhost-user-vsock-pci", 19, 3, CID, CID, first=True)

main()
