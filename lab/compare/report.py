#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""report.py: what lab/compare/compare.sh has measured, as a table and as pictures.

    report.py FIGURES            table.rst, data and SVG files beside it
    report.py FIGURES AGAIN      do two runs agree? Exit status 1 if a total differs by more than 5 %
    report.py --limits FIGURES   TAP: does vm2vm keep what it is to?

Of a packet: instructions in VM1, in VM2 and on the host. A switch that polls on the host is the
host's, without the looks that found nothing.
"""
import json
import subprocess
import sys
from pathlib import Path

SIZES = (64, 1500, 9000)
# What a carrier is called in pictures, and those of which everything polls
SHORT = {
	"vm2vm, testpmd in VM2": "vm2vm",
	"vhost-user, testpmd in the host": "vhost-user",
	"ivshmem, a ring": "ivshmem ring",
	"vm2vm, vhost-net in VM2": "vm2vm, vhost-net",
	"vm2vm, vhost-net in VM2, strict IOMMU": "vm2vm, strict",
	"vhost-net and bridge in the host": "host's bridge",
	"vm2vm, kernel to testpmd in VM2": "vm2vm, testpmd",
}
POLLING = ("vm2vm, testpmd in VM2", "vhost-user, testpmd in the host", "ivshmem, a ring")


def host(cost):
	"""All that ran outside of guests"""
	return cost["host"] + cost.get("switch", 0)


def total(cost):
	return cost["VM1"] + cost["VM2"] + host(cost)


def exits(cost, vm):
	return cost.get(f"{vm} exits", 0)


def reasons(cost):
	"""Why guests were left, those that are a hundredth of a packet or more"""
	names = {"io_exits": "port", "mmio_exits": "MMIO", "halt_exits": "HLT", "irq_exits": "interrupt", "irq_window_exits": "window",
		"pf_taken": "fault", "signal_exits": "signal"}
	found = {}
	for key, name in names.items():
		found[name] = sum(cost.get(f"{vm} {key}", 0) for vm in ("VM1", "VM2"))
	return ", ".join(f"{n} {v:.2f}" for n, v in found.items() if v >= 0.005) or "none"


def rows(figures):
	for name, sizes in figures.items():
		for how, cost in sizes.items():
			yield name, how, cost


def table(figures, out):
	head = ("carrier", "frame", "VM1", "VM2", "host", "in all", "exits", "exits by reason, both VMs")
	lines = [head]
	for name, how, cost in rows(figures):
		lines.append((name, how, *(str(round(v)) for v in (cost["VM1"], cost["VM2"], host(cost), total(cost))),
			f"{exits(cost, 'VM1') + exits(cost, 'VM2'):.3f}", reasons(cost)))
	widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
	rule = "  ".join("=" * w for w in widths)
	text = ["  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines]
	out.write_text("\n".join((rule, text[0], rule, *text[1:], rule, "")), encoding="utf-8")


def gnuplot(script):
	subprocess.run(["gnuplot"], input=script, text=True, check=True)


def bars(figures, names, how, title, data, out):
	"""By place, stacked"""
	names = [n for n in names if n in figures and how in figures[n]]
	if not names:
		return
	data.write_text("".join(f'"{SHORT[n]}" {max(c["VM1"], 0):.0f} {max(c["VM2"], 0):.0f} {max(host(c), 0):.0f}\n'
		for n, c in ((n, figures[n][how]) for n in names)), encoding="utf-8")
	gnuplot(f"""set terminal svg size 640,360 background rgb 'white' font 'sans-serif,11'
set output '{out}'
set title '{title}'
set style data histograms
set style histogram rowstacked
set style fill solid 0.9 border -1
set boxwidth 0.6
set yrange [0:*]
set ylabel 'instructions a packet'
set grid y
set key outside right
plot '{data}' using 2:xtic(1) title 'VM1' linecolor rgb '#1f77b4', '' using 3 title 'VM2' linecolor rgb '#2ca02c', \\
	'' using 4 title 'host' linecolor rgb '#d62728'
""")


def by_size(figures, title, data, out):
	names = [n for n in SHORT if n in figures]
	with open(data, "w", encoding="utf-8") as f:
		for n in names:
			for s in SIZES:
				if f"{s} both ways" in figures[n]:
					f.write(f"{s} {total(figures[n][f'{s} both ways']):.0f}\n")
			f.write("\n\n")
	lines = ", \\\n\t".join(f"'{data}' index {i} with linespoints linewidth 2 pointtype {5 if n in POLLING else 7} title '{n}'"
		for i, n in enumerate(names))
	gnuplot(f"""set terminal svg size 760,420 background rgb 'white' font 'sans-serif,11'
set output '{out}'
set title '{title}'
set logscale xy
set xtics (64, 1500, 9000)
set xrange [50:12000]
set xlabel 'bytes of a frame'
set ylabel 'instructions a packet, all places together'
set grid
set key outside right
plot {lines}
""")


def agree(one, two):
	"""Totals of two runs. What is small differs by more than its part: of those that poll, 20 instructions are left to chance."""
	worst = 0
	for name, how, cost in rows(one):
		a, b = total(cost), total(two[name][how])
		differs = max(abs(a - b) - 20, 0) / max(a, b)
		worst = max(worst, differs)
		if differs > 0.05:
			print(f"{name}, {how}: {a:.0f} and then {b:.0f}")
	print(f"# two runs: the totals differ by at most {100 * worst:.1f} %")
	return worst <= 0.05


def limits(figures):
	polled, switch = figures["vm2vm, testpmd in VM2"], figures["vhost-user, testpmd in the host"]
	found = []
	for size in SIZES:
		how = f"{size} both ways"
		ratio = total(polled[how]) / total(switch[how])
		# Of large frames it is the copies: one, and two
		found.append((ratio <= (0.5 if size == 64 else 0.55), f"{size} bytes, polling: vm2vm / vhost-user {ratio:.3f}"))
		found.append((abs(polled[how]["host"]) < 15, f"{size} bytes, polling: {polled[how]['host']:.1f} instructions on the host"))
	kernel, bridge = figures["vm2vm, vhost-net in VM2"], figures["vhost-net and bridge in the host"]
	for how in kernel:
		ratio = total(kernel[how]) / total(bridge[how])
		found.append((ratio < 1, f"{how}: vm2vm / the host's bridge {ratio:.3f}"))
	for n, (good, text) in enumerate(found, 1):
		print(f"{'ok' if good else 'not ok'} {n} {text}")
	return all(good for good, _ in found)


def main():
	if sys.argv[1] == "--limits":
		sys.exit(not limits(json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))))
	path = Path(sys.argv[1])
	figures = json.loads(path.read_text(encoding="utf-8"))
	if len(sys.argv) > 2:
		sys.exit(not agree(figures, json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))))
	out = path.parent
	table(figures, out / "table.rst")
	bars(figures, POLLING, "64 both ways", "Polling at both ends, 64 bytes", out / "polling.data", out / "polling.svg")
	kernels = [n for n in SHORT if n not in POLLING and "strict" not in n]
	bars(figures, kernels, "1500 both ways", "Kernels at both ends, 1500 bytes", out / "kernels.data", out / "kernels.svg")
	by_size(figures, "By size of the frame", out / "sizes.data", out / "sizes.svg")
	print((out / "table.rst").read_text(encoding="utf-8"), end="")


main()
