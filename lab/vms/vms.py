# SPDX-License-Identifier: GPL-2.0-only
"""vms.py: virtual machines with a Linux guest, for tests that run in the lab.

	from vms import VM, check, main, test

	@test
	def a_guest_counts_its_cpus():
		with VM("one", "-device", "virtio-rng-pci") as vm:
			check(vm.sh("nproc") == "1", "one CPU")

	main()

The guest is the lab's own kernel with an initramfs: bash, coreutils and the like, as on
the build machine. A command's output comes back over a virtio-serial port. What waits has
a timeout, and a VM that dies meanwhile raises VMError with what it said last.

Environment: QEMU, its program; L2_KERNEL, a bzImage or vmlinux in its build directory;
GUEST_OUT, our programs and modules for guests; GUEST_TOOLS, more programs for the guest; VMS_CACHE, where
initramfs files are kept; VMS_LOGS, where consoles go; VMS_TIMEOUT, seconds that a command in a guest may take.

`python3 vms.py [PROGRAM...]` builds the initramfs ahead, which is quicker outside the lab.
"""

import atexit
import collections
import contextlib
import fnmatch
import glob
import hashlib
import json
import os
import pathlib
import re
import select
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import traceback

LAB = pathlib.Path(__file__).resolve().parent.parent
ROOT = LAB.parent
BUILD = pathlib.Path(os.environ.get("BUILD") or ROOT / "build")
QEMU = os.environ.get("QEMU") or "qemu-system-x86_64"
KERNEL = pathlib.Path(os.environ.get("L2_KERNEL") or BUILD / "base/arch/x86/boot/bzImage")
# Where lab/build/guest.sh and lab/build/module.sh put what they build
GUEST = pathlib.Path(os.environ.get("GUEST_OUT") or BUILD / "guest")
# Generous: the emulated machine shares its CPUs with whatever runs on the build machine
TIMEOUT = int(os.environ.get("VMS_TIMEOUT") or 120)
# A guest with two CPUs and a virtio-iommu may take more than that to boot, beside five other machines
BOOT_TIMEOUT = 300

# ---- The guest's file system

PORT = "vm2vm.run"

# Each process that is started costs tens of milliseconds here: one mount, and a shell that
# reads commands itself. Frames end with a zero: number, command; number, status, output.
INIT = r"""#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb
mount -a
ln -s /proc/self/fd /dev/fd
for m in /modules/*.ko; do [ ! -e "$m" ] || insmod "$m" || echo "init: $m: failed"; done
port=
while [ -z "$port" ]; do
	for p in /sys/class/virtio-ports/*; do
		name=
		[ ! -e "$p/name" ] || read -r name <"$p/name"
		[ "$name" != @PORT@ ] || port=/dev/${p##*/}
	done
	[ -n "$port" ] || sleep 0.02
done
exec 3<>"$port"
printf '0\0000\000\000' >&3
while IFS= read -r -d '' -u 3 n && IFS= read -r -d '' -u 3 command; do
	(eval "$command") </dev/null >"/run/out.$n" 2>&1 3>&-
	status=$?
	out=
	IFS= read -r -d '' out <"/run/out.$n"
	: >"/run/out.$n"
	printf '%s\000%d\000%s\000' "$n" "$status" "$out" >&3
done
echo o >/proc/sysrq-trigger
sleep 60
""".replace("@PORT@", PORT)

FSTAB = """proc /proc proc defaults
sys /sys sysfs defaults
debug /sys/kernel/debug debugfs defaults
dev /dev devtmpfs defaults
pts /dev/pts devpts x-mount.mkdir
shm /dev/shm tmpfs x-mount.mkdir,mode=1777
run /run tmpfs mode=755
tmp /tmp tmpfs mode=1777
"""


def tools(more=()):
	"""Paths of the programs that go along: those of lab/machine/initramfs.sh, more (names of programs, or
	patterns of paths), and ours."""
	text = (LAB / "machine/initramfs.sh").read_text()
	names = re.search(r'^tools="([^"]*)"', text, re.M).group(1).split() + ["od", "chgrp", "ip", "bridge", "ping", "mkfs.ext4", "pkill", "base64", "iperf3", "socat",
		*(m for m in more if not m.startswith("/"))]
	found = [shutil.which(n, path="/usr/sbin:/usr/bin:/sbin:/bin") for n in names]
	found += [f for m in more if m.startswith("/") for f in glob.glob(m)]
	ours = os.environ.get("GUEST_TOOLS")
	ours = shlex.split(ours) if ours else [
		str(p) for p in GUEST.glob("*") if p.is_file() and os.access(p, os.X_OK)]
	return sorted({f for f in found if f}), ours


def kernel_modules(kernel):
	"""Ours, if it was built for this kernel"""
	for parent in kernel.resolve().parents:
		if (parent / ".config").exists():
			return [m for m in [GUEST / parent.name / "linux/vm2vm.ko"] if m.exists()]
	return []


class Cpio:
	"""An archive in the "newc" format, which the kernel unpacks"""

	def __init__(self, out):
		self.out, self.inode, self.seen = out, 0, set()

	def add(self, name, mode, data=b"", rdev=(0, 0)):
		name = name.strip("/")
		if name in self.seen:
			return
		self.seen.add(name)
		parent = os.path.dirname(name)
		if parent:
			self.add(parent, stat.S_IFDIR | 0o755)
		self.inode += 1
		raw = name.encode() + b"\0"
		fields = (self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(raw), 0)
		header = b"070701" + b"".join(b"%08X" % f for f in fields) + raw
		self.out.write(header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4))

	def copy(self, path, name=None):
		data = pathlib.Path(path).read_bytes()
		self.add(name or str(path), stat.S_IFREG | (0o755 if os.access(path, os.X_OK) else 0o644), data)


def initramfs(kernel=KERNEL, cache=None, more=()):
	"""The initramfs for this kernel: made once, and again when what is in it changes."""
	cache = pathlib.Path(cache or os.environ.get("VMS_CACHE") or BUILD / "guest/cache")
	found, ours = tools(more)
	modules = kernel_modules(kernel)
	key = hashlib.sha256((INIT + FSTAB).encode() + pathlib.Path(__file__).read_bytes())
	for f in found + ours + modules:
		s = os.stat(f)
		key.update(f"{f} {s.st_size} {s.st_mtime_ns}\n".encode())
	path = cache / f"initramfs-{key.hexdigest()[:16]}"
	if path.exists():
		return path

	cache.mkdir(parents=True, exist_ok=True)
	# Static programs make ldd complain
	ldd = subprocess.run(["ldd", *found, *ours], capture_output=True, text=True, check=False, timeout=300)
	libraries = sorted(set(re.findall(r"^\s(?:.* => )?(/\S*) \(0x", ldd.stdout, re.M)))
	new = path.with_name(f"{path.name}.{os.getpid()}")
	with open(new, "wb") as out:
		cpio = Cpio(out)
		# As on the build machine, where they may be links into /usr
		for d in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
			if os.path.islink(f"/{d}"):
				cpio.add(f"usr/{d}", stat.S_IFDIR | 0o755)
				cpio.add(d, stat.S_IFLNK | 0o777, f"usr/{d}".encode())
		for d in ("dev", "proc", "sys", "tmp", "run", "root", "modules"):
			cpio.add(d, stat.S_IFDIR | 0o755)
		cpio.add("dev/console", stat.S_IFCHR | 0o600, rdev=(5, 1))
		cpio.add("init", stat.S_IFREG | 0o755, INIT.encode())
		cpio.add("etc/fstab", stat.S_IFREG | 0o644, FSTAB.encode())
		for f in found + libraries:
			# Through such a link there is one file, with one name
			parts = pathlib.PurePath(f).parts
			cpio.copy(f, f"usr{f}" if os.path.islink(f"/{parts[1]}") else None)
		for f in ours:
			cpio.copy(f, f"usr/bin/{os.path.basename(f)}")
		for i, f in enumerate(modules):
			cpio.copy(f, f"modules/{i}-{f.name}")
		cpio.add("TRAILER!!!", 0)
	os.rename(new, path)
	for old in cache.glob("initramfs-????????????????"):
		if old != path and time.time() - old.stat().st_mtime > 3600:
			old.unlink(missing_ok=True)
	return path


# ---- Virtual machines

class VMError(Exception):
	"""Something about a VM; the message says what it printed last."""


class VMTimeout(VMError):
	"""It did not come in time; the VM may be all right."""


class CommandError(VMError):
	"""A command in the guest failed."""

	def __init__(self, message, result):
		super().__init__(message)
		self.result = result


class QMPError(Exception):
	"""QEMU refused a command: .kind is the error's class, .desc what it says."""

	def __init__(self, command, error):
		super().__init__(f"{command}: {error.get('desc')}")
		self.kind, self.desc = error.get("class"), error.get("desc")


Result = collections.namedtuple("Result", "output status")
alive = set()
shared_vms = {}


def kill_all(but=()):
	for vm in list(alive):
		if vm not in but:
			vm.kill()


atexit.register(kill_all)


def shared(make):
	"""A running VM for several tests: make() makes it for the first one, and after a test
	that failed."""
	vm = shared_vms.get(make)
	if not vm or not vm.running():
		vm = shared_vms[make] = make()
	return vm


class VM:
	"""A VM with a Linux guest. Anything more for QEMU's command line goes into args."""

	def __init__(self, name, *args, memory=256, smp=1, machine="q35", cpu="host", append="",
		     kernel=None, initrd=None, base=None, tools=()):
		self.name, self.args = name, [str(a) for a in args]
		self.memory, self.smp, self.machine, self.cpu, self.append = memory, smp, machine, cpu, append
		self.kernel = pathlib.Path(kernel or KERNEL)
		# Of a guest that does not take commands
		self.initrd = initrd
		# Programs of the build machine's that its guest has besides the usual ones
		self.tools = tools
		self.logs = pathlib.Path(base or os.environ.get("VMS_LOGS") or tempfile.mkdtemp(prefix="vms-"))
		self.process = self.boot_seconds = None
		self.events = []

	def __enter__(self):
		return self.start()

	def __exit__(self, *exc):
		self.kill()

	def __repr__(self):
		return f"VM {self.name}"

	def boot_append(self):
		"""The kernel's command line"""
		# Of XSAVE's sizes nested KVM says what makes Linux warn, over a slow serial line.
		# An exit to QEMU takes most of a millisecond here. Without lastbus=0 Linux looks for
		# 32 devices on each of 255 buses, of which MMCONFIG has told it: 6 of 20 seconds.
		return " ".join(("console=ttyS0 loglevel=5 panic=-1 oops=panic nokaslr tsc=reliable",
			"no_timer_check 8250.nr_uarts=1 pci=noearly,lastbus=0 noxsave", self.append))

	def command_line(self, qmp, channel):
		"""QEMU's, with these two sockets"""
		return [
			QEMU, "-name", self.name, "-accel", "kvm", "-cpu", self.cpu,
			# QEMU emulates an HPET, with exits and wakeups, for a guest that has better timers
			"-M", f"{self.machine},hpet=off", "-m", str(self.memory), "-smp", str(self.smp),
			"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
			"-L", "/usr/share/seabios", "-L", "/usr/share/qemu",
			"-kernel", str(self.kernel), "-initrd", str(self.initrd or initramfs(self.kernel, more=self.tools)), "-append", self.boot_append(),
			"-chardev", f"socket,id=vms-qmp,fd={qmp}", "-mon", "chardev=vms-qmp,mode=control",
			"-chardev", f"file,id=vms-console,path={self.console}", "-serial", "chardev:vms-console",
			"-chardev", f"socket,id=vms-run,fd={channel}",
			# Where it is in nobody's way, and with few queues to set up
			"-device", "virtio-serial-pci,id=vms-serial,addr=0x1d,disable-legacy=on,max_ports=2",
			"-device", f"virtserialport,bus=vms-serial.0,chardev=vms-run,name={PORT}",
			*self.args]

	def start(self, wait=True, timeout=BOOT_TIMEOUT):
		"""Start it, and wait until its guest takes commands, or call booted() later."""
		if self.running():
			raise VMError(f"{self}: is running")
		self.logs.mkdir(parents=True, exist_ok=True)
		self.console = self.logs / f"{self.name}.console"
		# Tests look at this as QEMU writes to it, which the build machine's files are not for: 9p may not show it yet
		self.stderr = pathlib.Path(tempfile.gettempdir()) / f"{self.name}-{os.getpid()}.stderr"
		self.console.write_bytes(b"")
		self.number, self.qmp_number, self.ready, self.exited = 0, 0, False, False
		self.events, self.buffers = [], {}
		# QEMU gets the other ends: no names, nothing to wait for, and they close as it dies
		self.qmp_socket, theirs_qmp = socket.socketpair()
		self.channel, theirs = socket.socketpair()
		for s in (self.qmp_socket, self.channel):
			s.setblocking(False)
			self.buffers[s] = bytearray()
		self.started = time.monotonic()
		with open(self.stderr, "wb") as err, theirs, theirs_qmp:
			fds = (theirs_qmp.fileno(), theirs.fileno())
			self.process = subprocess.Popen(self.command_line(*fds), stdin=subprocess.DEVNULL,
				stdout=err, stderr=err, pass_fds=fds)
		alive.add(self)
		try:
			deadline = self.started + timeout
			self._message(deadline, "QEMU's greeting")
			self.qmp("qmp_capabilities", timeout=timeout)
			if wait:
				self.booted(timeout)
		except BaseException:
			self.kill()
			raise
		return self

	def booted(self, timeout=BOOT_TIMEOUT):
		"""Wait until the guest takes commands."""
		if not self.ready:
			deadline = time.monotonic() + timeout
			for what in ("number", "status", "output"):
				self._frame(self.channel, b"\0", deadline, f"the guest to boot ({what})")
			self.ready = True
			self.boot_seconds = time.monotonic() - self.started
		return self

	def running(self):
		return self.process is not None and self.process.poll() is None

	def tail(self, lines=25):
		"""What it said last, for a message"""
		said = []
		for what, path in (("QEMU", self.stderr), ("console", self.console)):
			text = path.read_bytes().decode(errors="replace").replace("\r", "") if path.exists() else ""
			kept = [s for s in text.splitlines() if s.strip()]
			# What a long trace begins with says more than its end
			why = [s for s in kept[:-lines] if re.search("panic|BUG|WARNING|Oops|error", s)]
			said += [f"  {self.name} {what}: {s}" for s in why[-5:] + kept[-lines:]]
		return "\n".join(said)

	def died(self, doing):
		try:
			status = self.process.wait(10)
		except subprocess.TimeoutExpired:
			return VMError(f"{self}: QEMU closed its sockets ({doing})\n{self.tail()}")
		how = f"by signal {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
		self._gone()
		return VMError(f"{self}: QEMU ended {how} ({doing})\n{self.tail()}")

	def _fill(self, sock, deadline, doing):
		"""Read more into the socket's buffer, or raise"""
		left = deadline - time.monotonic()
		readable = select.select([sock], [], [], max(left, 0))[0]
		if not readable:
			raise VMTimeout(f"{self}: no answer in time ({doing})\n{self.tail()}")
		try:
			data = sock.recv(1 << 16)
		except ConnectionError:
			data = b""
		if not data:
			raise self.died(doing)
		self.buffers[sock] += data

	def _frame(self, sock, end, deadline, doing):
		buffer, start = self.buffers[sock], 0
		while (at := buffer.find(end, start)) < 0:
			start = len(buffer)
			self._fill(sock, deadline, doing)
		frame = bytes(buffer[:at])
		del buffer[:at + 1]
		return frame

	def _send(self, sock, data, deadline, doing):
		while data:
			if not select.select([], [sock], [], max(deadline - time.monotonic(), 0))[1]:
				raise VMTimeout(f"{self}: does not take what is sent ({doing})\n{self.tail()}")
			try:
				data = data[sock.send(data):]
			except ConnectionError:
				raise self.died(doing) from None

	def _need_running(self):
		if self.process is None or self.exited:
			raise VMError(f"{self}: is not running")

	# The guest

	def run(self, command, timeout=TIMEOUT, check=True):
		"""Run a shell command in the guest: its output, with errors, and its exit status.

		One that goes on in the background (&) should send its output to a file.
		"""
		self._need_running()
		self.booted()
		deadline = time.monotonic() + timeout
		doing = f"running '{command}'"
		self.number += 1
		self._send(self.channel, b"%d\0%s\0" % (self.number, command.encode()), deadline, doing)
		while True:
			number, status, output = (self._frame(self.channel, b"\0", deadline, doing) for _ in range(3))
			# Else it is of an earlier one, that we did not wait for
			if int(number) == self.number:
				break
		result = Result(output.decode(errors="replace"), int(status))
		if check and result.status:
			raise CommandError(f"{self}: '{command}' failed with {result.status}:\n{result.output}", result)
		return result

	def sh(self, command, timeout=TIMEOUT):
		"""The output of a command that must succeed, without the last newline"""
		return self.run(command, timeout).output.rstrip("\n")

	def wait_for(self, command, timeout=TIMEOUT, every=0.1):
		"""Run a command in the guest until it succeeds; its output."""
		deadline = time.monotonic() + timeout
		while (result := self.run(command, max(deadline - time.monotonic(), 1), check=False)).status:
			if time.monotonic() > deadline:
				raise VMTimeout(f"{self}: '{command}' still fails with {result.status}:\n{result.output}")
			time.sleep(every)
		return result.output.rstrip("\n")

	# QEMU

	def _message(self, deadline, doing):
		return json.loads(self._frame(self.qmp_socket, b"\n", deadline, doing))

	def qmp(self, command, timeout=TIMEOUT, **arguments):
		"""What QEMU returns for a command; _ in a name of an argument stands for -."""
		self._need_running()
		deadline = time.monotonic() + timeout
		self.qmp_number += 1
		arguments = {k.replace("_", "-"): v for k, v in arguments.items()}
		request = {"execute": command, "arguments": arguments, "id": self.qmp_number}
		self._send(self.qmp_socket, json.dumps(request).encode() + b"\n", deadline, command)
		while True:
			message = self._message(deadline, command)
			if "event" in message:
				self.events.append(message)
			elif message.get("id") != self.qmp_number:
				continue
			elif "error" in message:
				raise QMPError(command, message["error"])
			else:
				return message["return"]

	def hmp(self, line, timeout=TIMEOUT):
		"""A command for people"""
		return self.qmp("human-monitor-command", timeout, **{"command-line": line})

	def wait_event(self, name, timeout=TIMEOUT, **data):
		"""The first event of this name, and with such data, that was not returned yet"""
		deadline = time.monotonic() + timeout
		while True:
			for i, event in enumerate(self.events):
				has = event.get("data", {})
				if event["event"] == name and all(has.get(k) == v for k, v in data.items()):
					return self.events.pop(i)
			self._need_running()
			message = self._message(deadline, f"event {name}")
			if "event" in message:
				self.events.append(message)

	# The end

	def _gone(self):
		self.exited = True
		alive.discard(self)
		shutil.copy(self.stderr, self.logs / f"{self.name}.stderr")
		for s in (self.qmp_socket, self.channel):
			s.close()

	def job(self, command, **arguments):
		"""One that ends well"""
		self.qmp(command, job_id="j0", **arguments)
		deadline = time.monotonic() + TIMEOUT
		while (job := self.qmp("query-jobs")[0])["status"] != "concluded":
			if time.monotonic() > deadline:
				raise VMTimeout(f"{self}: {command} does not end: {job}")
			time.sleep(0.1)
		self.qmp("job-dismiss", id="j0")
		equal(job.get("error"), None, command)

	def add_snapshots(self, file):
		"""A place for them, q0"""
		with open(file, "wb"):
			pass
		self.qmp("blockdev-add", driver="file", node_name="f0", filename=file)
		self.job("blockdev-create", options={"driver": "qcow2", "file": "f0", "size": 1 << 20})
		self.qmp("blockdev-add", driver="qcow2", node_name="q0", file="f0")

	def snapshot(self, what):
		"""save or load"""
		self.job(f"snapshot-{what}", tag="s", vmstate="q0", devices=["q0"])

	def wait(self, timeout=TIMEOUT):
		"""Wait until QEMU ends: its exit status, negative for a signal"""
		try:
			status = self.process.wait(timeout)
		except subprocess.TimeoutExpired:
			raise VMTimeout(f"{self}: does not end\n{self.tail()}") from None
		self._gone()
		return status

	def shutdown(self, timeout=TIMEOUT):
		"""The guest turns itself off; QEMU's exit status"""
		self._need_running()
		self.booted(timeout)
		deadline = time.monotonic() + timeout
		self._send(self.channel, b"0\0echo o >/proc/sysrq-trigger\0", deadline, "shutdown")
		return self.wait(timeout)

	def quit(self, timeout=TIMEOUT):
		"""QEMU ends in good order, without asking the guest; its exit status"""
		self.qmp("quit", timeout)
		return self.wait(timeout)

	@contextlib.contextmanager
	def frozen(self):
		"""All of its QEMU stands still, wherever that was: its vCPUs, its IOMMU. What is sent meanwhile it reads in one go."""
		self.process.send_signal(signal.SIGSTOP)
		os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)
		try:
			yield
		finally:
			self.process.send_signal(signal.SIGCONT)

	def kill(self):
		"""SIGKILL, and wait. Harmless if it is gone."""
		if self.process is None or self.exited:
			return
		self.process.kill()
		self.process.wait()
		self._gone()


def migrate(source, make, seconds=200):
	"""The VM by make() in which the source's guest goes on; the source has stopped"""
	path = f"/tmp/migrate-{os.getpid()}"
	target = make("-incoming", f"unix:{path}", name="target")
	target.start(wait=False)
	source.qmp("migrate", uri=f"unix:{path}")
	source.wait_event("STOP", seconds)
	target.wait_event("RESUME", seconds)
	# Its guest goes on with the channel of the source: a new one is as good
	target.ready = True
	target.number = 1000
	return target


# ---- Tests, reported as TAP

class Skip(Exception):
	"""Raised by a test that cannot run here, with the reason"""


tests = []


def test(function):
	"""A decorator: this is a test, and its name is the function's."""
	tests.append(function)
	return function


long_tests = []


def long_test(function):
	"""Likewise, for one that takes its time: it needs LONG=1 in the environment, or to be asked for by its name."""
	long_tests.append(function)
	return test(function)


def of_qemu(function):
	"""Another one, below these: KVM does here what it is asked for, and how that turns out is for QEMU and the guests.
	So it need not be done again for another kernel."""
	function.of_qemu = True
	return function


def left_out(function, patterns):
	return function in long_tests and not os.environ.get("LONG") and function.__name__ not in patterns


def check(condition, what):
	"""Unlike assert, it says what."""
	if not condition:
		raise AssertionError(what)


def equal(is_, want, what):
	check(is_ == want, f"{what}: is {is_!r}, should be {want!r}")


def comment(text):
	for line in str(text).rstrip().splitlines():
		print(f"# {line}", flush=True)


def main(argv=None):
	"""Run the tests, or those whose names match a pattern in the arguments; exit.

	An argument --of-qemu leaves those that are such, --of-kvm the others."""
	patterns = sys.argv[1:] if argv is None else argv
	parts = {"--of-qemu": True, "--of-kvm": False}
	chosen = [t for t in tests if all(parts[p] == hasattr(t, "of_qemu") for p in patterns if p in parts)]
	patterns = [p for p in patterns if p not in parts]
	chosen = [t for t in chosen if not patterns or any(fnmatch.fnmatch(t.__name__, p) for p in patterns)]
	if not chosen:
		print(f"no such test: {' '.join(patterns)}; there are {' '.join(t.__name__ for t in tests)}",
			file=sys.stderr)
		sys.exit(2)
	print(f"1..{len(chosen)}", flush=True)
	failed = 0
	for n, t in enumerate(chosen, 1):
		started, skip, ok = time.monotonic(), "", True
		try:
			if left_out(t, patterns):
				raise Skip("takes long: with LONG=1")
			t()
		except Skip as e:
			skip = f" # SKIP {e}"
		except Exception as e:  # pylint: disable=broad-except
			ok = False
			comment(traceback.format_exc() if not isinstance(e, (VMError, QMPError, AssertionError))
				else f"{type(e).__name__}: {e}")
			# Where in the test, the last of its own lines
			own = [f for f in traceback.extract_tb(e.__traceback__) if f.filename != __file__]
			if own:
				comment(f"at {os.path.basename(own[-1].filename)}:{own[-1].lineno}: {own[-1].line}")
		kill_all(but=shared_vms.values() if ok else ())
		failed += not ok
		comment(f"{time.monotonic() - started:.1f} s")
		print(f"{'ok' if ok else 'not ok'} {n} {t.__name__}{skip}", flush=True)
	sys.exit(1 if failed else 0)


if __name__ == "__main__":
	print(initramfs(more=sys.argv[1:]))
