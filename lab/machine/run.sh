#!/bin/bash
# run.sh: boot the lab, run $CMD in it, print its output and exit as it does.
#
#   CMD      for sh -c, as root, in the checkout; empty: a shell on the console
#   LAB      amd (QEMU emulates SVM with nested paging), intel (Bochs, VMX with EPT),
#            tlb (the same with a TLB that is flushed as seldom as hardware may do), or
#            vf (amd, with a NIC that has virtual functions: lab/machine/vf.sh)
#   KERNEL   base, debug, light (what of debug Bochs is quick enough for), debian
#            (Debian's own, from lab/dkms/debian.sh), vf (for the lab of that name), or kcsan
#            (what it reports is for lab/check/kcsan.sh to judge)
#   MODULES  a build directory whose KVM modules to load instead of KERNEL's own
#   PARAMS   parameters of these modules: 'kvm.tdp_mmu=0 kvm-amd.npt=0'; and of the kernel
#            preempt=full, to be preempted anywhere, or none
#   TIMEOUT  seconds until it counts as hung          SMP, MEM  the machine
#   STILL    seconds without a word after which a machine that starts is started again (180; amd);
#            so is one that has lost a timer by then
#   COUNT=1  one TSC tick is one instruction: for counting, not for speed (amd)
#   EMULATOR a QEMU to emulate the machine (amd), in place of the one of lab/build/vmm.sh
#   MONITOR  where what emulates the machine has its monitor, a socket (amd)
#   LOG      where the kernel's console goes
#
# A hang, a panic, or any report of the kernel gives exit status 125.
. "$(dirname "$0")/../lib.sh"
CMD=${CMD-} LAB=${LAB:-amd} TIMEOUT=${TIMEOUT:-900} STILL=${STILL:-180} SMP=${SMP:-2}

case $LAB in vf) KERNEL=${KERNEL:-vf} ;; *) KERNEL=${KERNEL:-base} ;; esac
MODULES=${MODULES:-$BUILD/$KERNEL}

nic=() modules_more=''
case $LAB in
amd | intel) ;;
vf)
	. "$ROOT/lab/machine/vf.sh"
	LAB=amd ;;
tlb)
	"$ROOT/lab/build/tlb.sh" >&2
	# This Bochs has a flaw in posted interrupts, which KVM uses with APICv
	LAB=intel PATH=$BUILD/tlb/bin:$PATH PARAMS="kvm-intel.enable_apicv=0 ${PARAMS-}" ;;
*) echo "run.sh: no LAB named '$LAB': there are amd, intel, tlb and vf" >&2; exit 2 ;;
esac
case $KERNEL in
base | debug | light | debian | vf | kcsan) ;;
*) echo "run.sh: no KERNEL named '$KERNEL': there are base, debug, light, debian, vf and kcsan" >&2; exit 2 ;;
esac
image=$BUILD/$KERNEL/arch/x86/boot/bzImage
modules="$MODULES/virt/lib/irqbypass.ko $MODULES/arch/x86/kvm/kvm.ko $MODULES/arch/x86/kvm/kvm-$LAB.ko $modules_more"
for f in "$image" $modules; do
	[ -f "$f" ] || die "$f is not built"
done
# What else of the kernel goes along, in order
for f in "$BUILD/$KERNEL"/extra/*.ko; do
	if [ -f "$f" ]; then modules="$modules $f"; fi
done

params='' preempt=''
for p in ${PARAMS-}; do
	case $p in
	kvm.?*=?* | kvm-$LAB.?*=?*) params="$params $p" ;;
	preempt=?*) preempt=$p ;;
	*) die "PARAMS: '$p' is not a parameter of kvm or kvm-$LAB, or preempt" ;;
	esac
done
PARAMS=$params

dir=$(mktemp -d "$BUILD/run.XXXXXX")
log=${LOG:-$LOGS/console-$KERNEL.log}
# A file of its own, of which $log is another name: what two machines say at the same time by
# the same name is in two files, and nothing of it is lost
console=$dir/console
: >"$console"
linked=1
ln -f "$console" "$log" 2>/dev/null || linked=
trap '[ "$linked" ] || cp "$console" "$log"; rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM

# lpj, no_timer_check: on a busy machine the kernel fails to measure the one, and finds that
# the timer's interrupt does not come. Warnings have level 4.
append="console=ttyS0,115200 loglevel=6 lpj=10000000 no_timer_check nokaslr panic=-1 oops=panic"
append="$append $preempt"
[ "$KERNEL" = kcsan ] || append="$append panic_on_warn=1"
case $KERNEL in
debug | light)
	append="$append sysctl.kernel.hung_task_panic=1 softlockup_panic=1"
	append="$append watchdog_thresh=60 workqueue.watchdog_thresh=120" ;;
esac
[ "$KERNEL" != debug ] || append="$append page_owner=on"
# Without KASAN, what is freed is poisoned, and its surroundings are checked
[ "$KERNEL" != light ] || append="$append slab_debug=FZP,kvm*,kmalloc*"
if [ "$KERNEL" = debian ]; then
	# It warns of the bugs of the CPU that is emulated
	append="$append mitigations=off cryptomgr.notests"
fi
# The emulated CPUs share real ones with others: slow is not stuck
append="$append rcupdate.rcu_cpu_stall_timeout=120 LAB_DIR=$dir"

# What the kernel is not to say
REPORTS='BUG:|WARNING:|KASAN|UBSAN|general protection|Oops|Kernel panic|kernel panic'
REPORTS="$REPORTS|possible circular locking|possible recursive locking|possible irq lock inversion"
REPORTS="$REPORTS|inconsistent lock state|register non-static key|suspicious RCU|Invalid wait context"
REPORTS="$REPORTS|bad unlock balance|held lock freed|INFO: task .* blocked|soft lockup|detected stalls"
REPORTS="$REPORTS|self-detected stall|ODEBUG:|unreferenced object|sleeping function called"

interactive=
[ -n "$CMD" ] || interactive=1
printf 'MODULES=%q PARAMS=%q DIR=%q INTERACTIVE=%q REPORTS=%q\n' \
	"$modules" "$PARAMS" "$ROOT" "$interactive" "$REPORTS" >"$dir/env"
printf '%s' "$CMD" >"$dir/cmd"

# The machine: adds to $append and to what lab/machine/init reads, and can be run
case $LAB in
amd) . "$ROOT/lab/machine/amd.sh" ;;
intel) . "$ROOT/lab/machine/intel.sh" ;;
esac
machine
if [ -n "$interactive" ]; then
	machine_shell
	exit
fi
# begun: whether the machine has got as far as the command. It says so in $dir/status.
begun() { [ -s "$dir/status" ]; }

# What Linux says when a CPU sleeps on whose timer has run out. QEMU 10.0 loses one, seldom.
LOST="kthread timer wakeup didn't happen"

# Kill what emulates the machine if that has not begun, and stands still: why is in $dir/still
give_up() {
	local now size='' still=0 why=''
	while ! begun; do
		if [ "$still" -ge "$STILL" ]; then why="said nothing for $STILL s"; fi
		if grep -qaF "$LOST" "$console"; then why="lost a timer"; fi
		[ -z "$why" ] || { echo "$why" >"$dir/still"; pkill -KILL -f -- "path=$dir/status"; return; }
		sleep 5
		now=$(stat -c %s "$console")
		if [ "$now" = "$size" ]; then still=$((still + 5)); else size=$now still=0; fi
	done
}

# An emulator that dies by itself before that, or stands still, has run nothing of what is
# tested, so that is done once more. QEMU does so at times, as the kernel looks at the sizes of
# BARs. 7.2 dies in memory_region_dispatch_write(): a CPU looks a device up in a map that
# another thread replaces.
for try in 1 2; do
	status=0
	: >"$console"
	# Bochs is slow to say something, and was not seen to stand still
	[ "$LAB" != amd ] || give_up &
	machine_run || status=$?
	kill %% 2>/dev/null || true
	wait %% 2>/dev/null || true
	case $try$status in
	1134 | 1139) begun || { echo "lab: the emulator died as it started (status $status); once more" >&2; continue; } ;;
	1137) [ ! -e "$dir/still" ] || { echo "lab: the machine $(cat "$dir/still") as it started; once more" >&2; rm "$dir/still"; continue; } ;;
	esac
	break
done

# failed REASON: say why and show the console's end
failed() {
	{
		echo "lab: FAILED: $1; the console's end ($log):"
		tail -n "${LINES_SHOWN:-40}" "$console" 2>/dev/null | tr -d '\r'
		grep -v "TCG doesn't support requested feature" "$dir/emulator" || true
	} >&2
	exit 125
}

[ ! -e "$dir/still" ] || begun || failed "it $(cat "$dir/still") as it started, the second time, too"
if [ "$status" = 124 ] || [ "$status" = 137 ]; then failed "nothing came back for $TIMEOUT s"; fi
# A CPU that gets no time on the build machine may look for work as another one is stopped for
# good, of which Linux warns. That is after all that is tested.
report=$(sed '/sysrq: Power Off/,$ { /native_smp_send_reschedule/,$ d }' "$console" | grep -av 'BUG: KCSAN' |
	grep -aEm1 "$REPORTS" | tr -d '\r') || true
[ -z "$report" ] || failed "the kernel reported: $report"
[ "$(wc -l 2>/dev/null <"$dir/status")" = 2 ] || failed "the machine stopped early"
status=$(tail -n 1 "$dir/status")
[ "$status" != 125 ] || failed "the machine did not get as far as the command"
exit "$status"
