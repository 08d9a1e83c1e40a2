#!/bin/bash
# run.sh: boot the lab, run $CMD in it, print its output and exit as it does.
#
#   CMD      for sh -c, as root, in the checkout; empty: a shell on the console
#   LAB      amd (QEMU emulates SVM with nested paging)
#   KERNEL   base or debug
#   MODULES  a build directory whose KVM modules to load instead of KERNEL's own
#   TIMEOUT  seconds until it counts as hung          SMP, MEM  the machine
#   COUNT=1  one TSC tick is one instruction: for counting, not for speed
#   LOG      where the kernel's console goes
#
# A hang, a panic, or any report of the kernel gives exit status 125.
. "$(dirname "$0")/lib.sh"
CMD=${CMD-} LAB=${LAB:-amd} KERNEL=${KERNEL:-base} TIMEOUT=${TIMEOUT:-900} SMP=${SMP:-2}

case $LAB in
amd) ;;
intel) echo "run.sh: LAB=intel is not there yet: it comes with the Intel part" >&2; exit 2 ;;
*) echo "run.sh: no LAB named '$LAB': there is amd" >&2; exit 2 ;;
esac
case $KERNEL in
base | debug) ;;
*) echo "run.sh: no KERNEL named '$KERNEL': there are base and debug" >&2; exit 2 ;;
esac
image=$BUILD/$KERNEL/arch/x86/boot/bzImage
MODULES=${MODULES:-$BUILD/$KERNEL}
modules="$MODULES/virt/lib/irqbypass.ko $MODULES/arch/x86/kvm/kvm.ko $MODULES/arch/x86/kvm/kvm-amd.ko"
for f in "$image" $modules; do
	[ -f "$f" ] || die "$f is not built"
done

dir=$(mktemp -d "$BUILD/run.XXXXXX")
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
console=${LOG:-$LOGS/console-$KERNEL.log}

shares=$ROOT
case $BUILD/ in "$ROOT"/*) ;; *) shares=$shares:$BUILD ;; esac
virtfs=()
for s in ${shares//:/ }; do
	virtfs+=(-virtfs "local,path=$s,mount_tag=share$((${#virtfs[@]} / 2)),security_model=none,multidevs=remap")
done

append="root=rootfs rootfstype=9p rootflags=trans=virtio,version=9p2000.L,msize=262144,cache=loose ro"
# lpj: on a busy machine the kernel fails to measure it. Warnings have level 4.
append="$append console=ttyS0 loglevel=6 lpj=10000000 nokaslr panic=-1 panic_on_warn=1 oops=panic"
if [ "$KERNEL" = debug ]; then
	append="$append sysctl.kernel.hung_task_panic=1 softlockup_panic=1 page_owner=on"
	append="$append watchdog_thresh=60 workqueue.watchdog_thresh=120"
fi
# The emulated CPUs share real ones with others: slow is not stuck
append="$append rcupdate.rcu_cpu_stall_timeout=120 pci=noacpi"
append="$append init=$ROOT/lab/init LAB_DIR=$dir LAB_SHARES=$shares"

if [ -n "${COUNT:-}" ]; then
	accel="-accel tcg,thread=single -icount shift=0,sleep=off -rtc clock=vm"
	SMP=1
else
	accel="-accel tcg,thread=multi"
fi
# shellcheck disable=SC2206,SC2054
qemu=(qemu-system-x86_64 $accel -cpu EPYC,+svm,+npt -smp "$SMP" -m "${MEM:-4G}"
	-nodefaults -no-user-config -display none -no-reboot -kernel "$image"
	-virtfs "local,path=/,mount_tag=rootfs,security_model=none,readonly=on,multidevs=remap"
	"${virtfs[@]}")

interactive=
[ -n "$CMD" ] || interactive=1
printf 'MODULES=%q DIR=%q INTERACTIVE=%q\n' "$modules" "$ROOT" "$interactive" >"$dir/env"
printf '%s' "$CMD" >"$dir/cmd"

if [ -z "$CMD" ]; then
	echo "lab: a root shell; Ctrl-a x quits" >&2
	"${qemu[@]}" -serial mon:stdio -append "$append" 2>"$dir/qemu"
	exit
fi

status=0
timeout --foreground -k 5 "$TIMEOUT" "${qemu[@]}" -append "$append" \
	-chardev file,id=console,path="$console" -serial chardev:console \
	-device virtio-serial-pci \
	-chardev file,id=out,path=/proc/self/fd/1 -device virtserialport,nr=1,chardev=out \
	-chardev file,id=status,path="$dir/status" -device virtserialport,nr=2,chardev=status \
	</dev/null 2>"$dir/qemu" | cat || status=$?

# failed REASON: say why and show the console's end
failed() {
	{
		echo "lab: FAILED: $1; the console's end ($console):"
		tail -n "${LINES_SHOWN:-40}" "$console" 2>/dev/null | tr -d '\r'
		grep -v "TCG doesn't support requested feature" "$dir/qemu" || true
	} >&2
	exit 125
}

reports='BUG:|WARNING:|KASAN|UBSAN|general protection|Oops|Kernel panic|kernel panic'
reports="$reports|possible circular locking|possible recursive locking|possible irq lock inversion"
reports="$reports|inconsistent lock state|suspicious RCU|Invalid wait context|bad unlock balance"
reports="$reports|held lock freed|INFO: task .* blocked|soft lockup|detected stalls|self-detected stall"
reports="$reports|ODEBUG:|unreferenced object|sleeping function called"
if [ "$status" = 124 ] || [ "$status" = 137 ]; then failed "nothing came back for $TIMEOUT s"; fi
if grep -aEq "$reports" "$console"; then
	failed "the kernel reported: $(grep -aEm1 "$reports" "$console" | tr -d '\r')"
fi
[ -s "$dir/status" ] || failed "the machine stopped early"
exit "$(cat "$dir/status")"
