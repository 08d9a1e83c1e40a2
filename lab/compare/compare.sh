#!/bin/bash
# compare.sh [CARRIER...]: what a packet between two guests costs, by vm2vm and by others, in
# instructions: figures, a table and pictures in build/compare. With names, or parts of them, only
# those carriers, and what was measured of others before stays.
#
# Documentation/virt/kvm/vm2vm-compared.rst has the method. AGAIN=1 measures twice, and fails if the
# two differ by more than 5 %. After a run of all carriers what vm2vm is to keep is told as TAP.
. "$(dirname "$0")/../lib.sh"
out=$BUILD/compare
mkdir -p "$out"
"$ROOT/lab/build/deps.sh" compare >&2
"$ROOT/lab/compare/counted.sh" >&2

# counts SCRIPT [ARGUMENT...]: in the lab that counts. A second of it takes half a minute where all of the CPU is used, so
# a guest that stands still is not waited for long.
counts() {
	VMS_TIMEOUT=20 COUNT=1 MODULES=$BUILD/counted/base MEM=6G TIMEOUT=${TIMEOUT:-3600} \
		"$ROOT/lab/vms/links.sh" "$@"
}

counts counted_test.py >&2
counts compare.py "$out/figures.json" "$@"
if [ -n "${AGAIN:-}" ]; then
	counts compare.py "$out/again.json" "$@"
	"$ROOT/lab/compare/report.py" "$out/figures.json" "$out/again.json"
fi
"$ROOT/lab/compare/report.py" "$out/figures.json"
[ $# != 0 ] || "$ROOT/lab/compare/report.py" --limits "$out/figures.json"
