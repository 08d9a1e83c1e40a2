# SPDX-License-Identifier: GPL-2.0-only
"""libvirt.py: a Debian's own libvirt in the lab, and VMs that it starts, for tests.

The Debian is what lab/build/libvirt.sh made, in build/libvirt. Nothing of it is changed but QEMU, which is ours.
"""

import copy
import json
import pathlib
import re
import socket
import subprocess
import time
import xml.etree.ElementTree as ET

from vhost_user import wait_until
from vms import BOOT_TIMEOUT, BUILD, PORT, QEMU, ROOT, TIMEOUT, VM, QMPError, VMError, initramfs

MADE = BUILD / "libvirt"
# Where that Debian is in the lab, with what is written to it in memory
TREE = pathlib.Path("/run/libvirt-root")
IMAGES = "/var/lib/libvirt/images"
MANUAL = ROOT / "qemu/docs/system/devices/vm2vm-libvirt.rst"
NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
ET.register_namespace("qemu", NAMESPACE)


def inside(*command, timeout=TIMEOUT, check=True):
	"""Run a command in that Debian: its output"""
	done = subprocess.run(["chroot", TREE, *map(str, command)], capture_output=True, text=True, timeout=timeout, check=False,
		stdin=subprocess.DEVNULL, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"})
	if check and done.returncode:
		raise VMError(f"{' '.join(map(str, command))}: status {done.returncode}: {done.stdout}{done.stderr}")
	return done.stdout + (done.stderr if done.returncode else "")


def virsh(*command, timeout=TIMEOUT, check=True):
	return inside("virsh", "-q", *command, timeout=timeout, check=check).strip()


def sh(command):
	subprocess.run(["bash", "-euc", command], check=True, timeout=TIMEOUT)


def begin():
	"""That Debian as it is when it runs, and its daemons"""
	sh(f"""mkdir -p {TREE} /run/libvirt-layer; mount -t tmpfs tmpfs /run/libvirt-layer
		mkdir /run/libvirt-layer/upper /run/libvirt-layer/work
		mount -t overlay -o lowerdir={MADE}/root,upperdir=/run/libvirt-layer/upper,workdir=/run/libvirt-layer/work overlay {TREE}
		for d in proc sys dev; do mount --rbind /$d {TREE}/$d; done
		mount -t tmpfs -o mode=755 tmpfs {TREE}/run
		mount --bind {QEMU} {TREE}/usr/bin/qemu-system-x86_64
		for f in {TREE}/usr/share/seabios/* {TREE}/usr/lib/ipxe/qemu/*; do ln -s ${{f#{TREE}}} {TREE}/usr/share/qemu/ 2>/dev/null || :; done
		chroot {TREE} chgrp kvm /dev/kvm; chmod 660 /dev/kvm""")
	for daemon in ("virtlogd", "libvirtd"):
		# Who enters a mount namespace, as libvirt does, is at its root: so that has to be the tree
		sh(f"unshare --mount bash -euc 'cd {TREE}; pivot_root . mnt; umount -l /mnt; exec {daemon} -d'")
	wait_until(lambda: "libvirt" in virsh("version", check=False), "libvirtd answers", TIMEOUT)


def manual():
	"""The XML that the manual shows: {name or tag: element}"""
	found = {}
	for block in re.findall(r"^\.\. code-block:: xml\n\n((?:   .*\n|\n)+)", MANUAL.read_text(), re.M):
		element = ET.fromstring(block)
		found[element.findtext("name") or element.tag] = element
	return found


def text_of(element):
	return ET.tostring(element, encoding="unicode")


class Process:
	"""What VM wants to know of its QEMU, which is no child of ours"""

	def __init__(self, name):
		self.pid = int((TREE / f"run/libvirt/qemu/{name}.pid").read_text())

	def poll(self):
		try:
			state = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
		except OSError:
			return 0
		return 0 if state == "Z" else None

	def wait(self, timeout=None):
		deadline = time.monotonic() + (timeout or TIMEOUT)
		while self.poll() is None:
			if time.monotonic() > deadline:
				raise subprocess.TimeoutExpired("qemu", timeout)
			time.sleep(0.1)
		return 0


class Domain(VM):
	"""A VM with the lab's guest, of which libvirt has the rest of the manual's XML. QMP is by way of virsh."""

	def __init__(self, element, *args, **kwargs):
		super().__init__(element.findtext("name"), *args, **kwargs)
		self.element = element

	def define(self, *more):
		"""With these devices. What has to be different here: no disk of its own, but the lab's kernel and a console that is kept"""
		e = copy.deepcopy(self.element)
		devices, system = e.find("devices"), e.find("os")
		for d in devices.findall("disk[@type='file']") + devices.findall("console"):
			devices.remove(d)
		devices.extend(more)
		images = TREE / IMAGES.lstrip("/")
		for name, file in (("kernel", self.kernel), ("initrd", initramfs(self.kernel, more=self.tools))):
			(images / f"{self.name}-{name}").write_bytes(pathlib.Path(file).read_bytes())
			ET.SubElement(system, name).text = f"{IMAGES}/{self.name}-{name}"
		ET.SubElement(system, "cmdline").text = self.boot_append()
		serial = ET.SubElement(devices, "serial", type="file")
		ET.SubElement(serial, "source", path=f"{IMAGES}/{self.name}-console")
		channel = ET.SubElement(devices, "channel", type="unix")
		ET.SubElement(channel, "source", mode="connect", path=f"{IMAGES}/{self.name}-channel")
		ET.SubElement(channel, "target", type="virtio", name=PORT)
		(images / f"{self.name}.xml").write_text(text_of(e))
		virsh("define", f"{IMAGES}/{self.name}.xml")
		return self

	def start(self, wait=True, timeout=BOOT_TIMEOUT):
		if self.running():
			raise VMError(f"{self}: is running")
		images = TREE / IMAGES.lstrip("/")
		self.logs.mkdir(parents=True, exist_ok=True)
		self.console, self.stderr = images / f"{self.name}-console", TREE / f"var/log/libvirt/qemu/{self.name}.log"
		self.number, self.ready, self.exited = 0, False, False
		self.events, self.buffers = [], {}
		path = images / f"{self.name}-channel"
		path.unlink(missing_ok=True)
		with socket.socket(socket.AF_UNIX) as server:
			server.bind(str(path))
			path.chmod(0o777)
			server.listen()
			server.settimeout(timeout)
			self.started = time.monotonic()
			virsh("start", self.name, timeout=timeout)
			self.channel, _ = server.accept()
		self.qmp_socket = self.channel
		self.channel.setblocking(False)
		self.buffers[self.channel] = bytearray()
		self.process = Process(self.name)
		if wait:
			self.booted(timeout)
		return self

	def qmp(self, command, timeout=TIMEOUT, **arguments):
		request = {"execute": command, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}
		answer = json.loads(virsh("qemu-monitor-command", self.name, json.dumps(request), timeout=timeout))
		if "error" in answer:
			raise QMPError(command, answer["error"])
		return answer["return"]

	def destroy(self):
		"""By libvirt, which kills it"""
		virsh("destroy", self.name)
		self.process.wait()
		self._gone()

	def kill(self):
		if self.process is None or self.exited:
			return
		virsh("destroy", self.name, check=False)
		self._gone()

	def device(self, what, element):
		"""attach or detach, in the running VM"""
		path = TREE / IMAGES.lstrip("/") / "device.xml"
		path.write_text(text_of(element))
		virsh(f"{what}-device", self.name, f"{IMAGES}/device.xml", "--live")
