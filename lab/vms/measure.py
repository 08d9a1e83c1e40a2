# SPDX-License-Identifier: GPL-2.0-only
"""measure.py: what VMs cost, in counts: exits, faults, mappings, packets; and a picture of traffic."""

import contextlib
import json
import os

from vhost_user import BACKEND_IP, interface


class Counts:
	"""Of a VM, so far; the difference of two is what was counted in between"""

	def __init__(self, values):
		self.values = values

	def __sub__(self, before):
		return Counts({k: v - before.values.get(k, 0) for k, v in self.values.items()})

	def __getitem__(self, name):
		return self.values.get(name, 0)


def counts(vm):
	"""KVM's statistics, of the VM and all its vCPUs; ticks of QEMU's threads that are vCPUs, and of the others"""
	values = {}
	cpus = vm.qmp("query-cpus-fast")
	found = vm.qmp("query-stats", target="vm")
	for cpu in cpus:
		found += vm.qmp("query-stats", target="vcpu", vcpus=[cpu["qom-path"]])
	for s in (s for p in found for s in p["stats"] if isinstance(s["value"], int)):
		values[s["name"]] = values.get(s["name"], 0) + s["value"]
	own = {cpu["thread-id"] for cpu in cpus}
	for task in os.listdir(f"/proc/{vm.process.pid}/task"):
		try:
			with open(f"/proc/{vm.process.pid}/task/{task}/stat", encoding="ascii") as f:
				stat = f.read().rsplit(")", 1)[1].split()
		except (FileNotFoundError, ProcessLookupError):
			# It has ended meanwhile
			continue
		name = "ticks of vCPUs" if int(task) in own else "ticks of others"
		values[name] = values.get(name, 0) + int(stat[11]) + int(stat[12])
	return Counts(values)


def packets(vm, card=None):
	"""What has gone through the card of the guest, both ways"""
	card = f"/sys/class/net/{card or interface(vm)}/statistics"
	names = ("rx_packets", "tx_packets", "rx_bytes", "tx_bytes")
	values = vm.sh(" ".join(("cat", *(f"{card}/{n}" for n in names)))).split()
	return Counts(dict(zip(names, map(int, values))))


def cost(owner, backend, run):
	"""What it counts while run() does something: of the owner, of the backend, and of what goes through the owner's card"""
	before = counts(owner), counts(backend), packets(owner)
	run()
	after = counts(owner), counts(backend), packets(owner)
	return [a - b for a, b in zip(after, before)]


def serve_streams(backend, port=5201):
	"""Until iperf3 listens there: it goes into the background before that"""
	backend.sh(f"iperf3 -s -p {port} -D")
	backend.wait_for(f"grep -q ':{port:04X} .* 0A ' /proc/net/tcp*", 60)


def stream(owner, *options, seconds=3):
	"""iperf3 to the backend's guest, or with -R from it: bytes that arrived, and its report"""
	report = json.loads(owner.sh(f"iperf3 -J -c {BACKEND_IP} -t {seconds} {' '.join(options)}", 120 + 20 * seconds))
	end = report["end"]
	received = end.get("sum_received", end.get("sum"))
	return received["bytes"], end


def kernel_threads():
	"""Of the host's kernel, which vhost would have some of"""
	names = set()
	for pid in filter(str.isdigit, os.listdir("/proc")):
		try:
			if not os.readlink(f"/proc/{pid}/exe"):
				continue
		except FileNotFoundError:
			# Or it has ended meanwhile
			with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/comm", encoding="ascii") as f:
				names.add(f.read().strip())
		except ProcessLookupError:
			pass
	return names


# A shell's loop, which starts no process for a sample. Each line: uptime, bytes received, bytes sent.
SAMPLES = r"""
exec 9<> <(:)
while :; do
	read -r up _ </proc/uptime
	rx=0 tx=0
	for c in /sys/class/net/e*/statistics; do
		[ -e "$c" ] || continue
		read -r rx <"$c/rx_bytes"; read -r tx <"$c/tx_bytes"
	done 2>/dev/null
	echo "$up $rx $tx"
	read -r -t 0.5 -u 9
done >/run/samples
"""


class Sampled:
	"""Bytes of a guest's card over time. clock() tells the time that the picture is to have."""

	def __init__(self, vm, clock):
		self.vm = vm
		now = clock()
		self.offset = now - float(vm.sh("cut -d' ' -f1 /proc/uptime"))
		vm.run(f"({SAMPLES}) >/dev/null 2>&1 &")

	def rates(self):
		"""Time, MB/s received, MB/s sent"""
		lines = [tuple(map(float, s.split())) for s in self.vm.sh("cat /run/samples").splitlines()]
		found = []
		for (t0, *a), (t1, *b) in zip(lines, lines[1:]):
			# Where the card was made anew it counts from 0
			found.append((t1 + self.offset, *(max(y - x, 0) / 1e6 / (t1 - t0) for x, y in zip(a, b))))
		return found


def picture(path, title, rates, events, width=900, height=360):
	"""An SVG of rates, {name: [(time, received, sent), ...]}, with what was done when, [(time, text)]"""
	left, top, right, bottom = 60, 40, width - 20, height - 40
	end = max(t for points in rates.values() for t, *_ in points)
	most = max(max(v) for points in rates.values() for _, *v in points) or 1

	def x(t):
		return left + (right - left) * t / end

	def y(v):
		return bottom - (bottom - top) * v / most

	out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
		f'<rect width="{width}" height="{height}" fill="white"/>', f'<text x="{left}" y="20" font-size="14">{title}</text>']
	for i in range(5):
		v = most * i / 4
		out.append(f'<path d="M{left} {y(v):.1f}H{right}" stroke="#ddd"/><text x="{left - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{v:.1f}</text>')
	for t in range(0, int(end) + 1, 10):
		out.append(f'<text x="{x(t):.1f}" y="{bottom + 16}" text-anchor="middle">{t} s</text>')
	out.append(f'<text x="14" y="{(top + bottom) / 2:.0f}" transform="rotate(-90 14 {(top + bottom) / 2:.0f})" text-anchor="middle">MB/s</text>')
	for n, (t, text) in enumerate(events):
		out.append(f'<path d="M{x(t):.1f} {top}V{bottom}" stroke="#999" stroke-dasharray="3 3"/>'
			f'<text x="{x(t) + 3:.1f}" y="{top + 10 + n % 8 * 13}" fill="#555">{text}</text>')
	colours = iter(("#1f77b4", "#aec7e8", "#d62728", "#ff9896", "#2ca02c", "#98df8a"))
	for n, (name, points) in enumerate(rates.items()):
		for i, what in enumerate(("received", "sent")):
			colour = next(colours)
			line = " ".join(f"{x(p[0]):.1f},{y(p[1 + i]):.1f}" for p in points)
			out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
				f'<text x="{left + 140 * (2 * n + i)}" y="{height - 6}" fill="{colour}">{name}, {what}</text>')
	with open(path, "w", encoding="utf-8") as f:
		f.write("\n".join(out + ["</svg>", ""]))
