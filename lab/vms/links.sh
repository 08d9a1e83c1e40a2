#!/bin/bash
# links.sh SCRIPT [ARGUMENT...]: run one of lab/vms/'s Python scripts, which start QEMU VMs,
# in the lab. What it prints and its exit status are the script's.
#
#   LAB=vf         in the machine that has a NIC with virtual functions, which hosts and guests of build/vf drive
#   ASAN=1         with the QEMU that checks itself (lab/build/vmm.sh asan)
#   QEMU=FILE      with that one
#   L2_KERNEL=FILE with that kernel for the guests, a bzImage where it was built; if that is in
#                  build/, also with our driver for it
#   GUEST_SOURCE, GUEST_OUT   for lab/build/guest.sh and lab/build/module.sh
#   VM2VM_TRIALS   how often what is repeated is
#   VMS_TIMEOUT    seconds that a command in a guest may take
#   LONG=1         also the tests that take long
#
# Exit status 4: there is no QEMU to be had.
. "$(dirname "$0")/../lib.sh"
[ -f "$ROOT/lab/vms/${1-}" ] || { echo "usage: links.sh SCRIPT [ARGUMENT...]: one of lab/vms/*.py" >&2; exit 2; }
kernel=${KERNEL:-base} lab=amd guest=base
if [ "${LAB:-}" = vf ]; then
	lab=vf kernel=vf guest=vf
	"$ROOT/lab/build/kernel.sh" vf >&2
fi
if [ -z "${QEMU:-}" ]; then
	"$ROOT/lab/build/vmm.sh" ${ASAN:+asan} >&2
	QEMU=$BUILD/qemu${ASAN:+-asan}/qemu-system-x86_64
fi
export GUEST_OUT=${GUEST_OUT:-$BUILD/guest}
"$ROOT/lab/build/guest.sh" >&2
L2_KERNEL=${L2_KERNEL:-$BUILD/$guest/arch/x86/boot/bzImage}
tree=${L2_KERNEL%/arch/x86/boot/bzImage}
[ "${tree%/*}" != "$BUILD" ] || "$ROOT/lab/build/module.sh" "${tree##*/}" >&2

# Quicker here than in the lab
export BUILD QEMU L2_KERNEL PYTHONDONTWRITEBYTECODE=1
/usr/bin/python3 "$ROOT/lab/vms/vms.py" >/dev/null
# And what some of the scripts have in a guest besides
! grep -q STORAGE "$ROOT/lab/vms/$1" || /usr/bin/python3 "$ROOT/lab/vms/vms.py" qemu-storage-daemon >/dev/null
! grep -q "from polled" "$ROOT/lab/vms/$1" || /usr/bin/python3 "$ROOT/lab/vms/polled.py" >/dev/null
! grep -q "from region" "$ROOT/lab/vms/$1" || /usr/bin/python3 "$ROOT/lab/vms/region.py" >/dev/null
! grep -q "import libvirt\|from libvirt" "$ROOT/lab/vms/$1" || "$ROOT/lab/build/libvirt.sh" >&2 || true
! grep -q STOCK "$ROOT/lab/vms/$1" || "$ROOT/lab/build/stock.sh" >&2 || true

env="BUILD=$BUILD GUEST_OUT=$GUEST_OUT QEMU=$QEMU L2_KERNEL=$L2_KERNEL VMS_LOGS=$LOGS/vms/${1%.py} PYTHONDONTWRITEBYTECODE=1"
env="$env VMS_TIMEOUT=${VMS_TIMEOUT:-} VM2VM_TRIALS=${VM2VM_TRIALS:-} LONG=${LONG:-} ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1"
script=$ROOT/lab/vms/$1
shift
CMD="$env /usr/bin/python3 $(printf ' %q' "$script" "$@")" KERNEL=$kernel LAB=$lab TIMEOUT=${TIMEOUT:-1800} exec "$ROOT/lab/machine/run.sh"
