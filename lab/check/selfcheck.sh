#!/bin/bash
# selfcheck.sh: the lab fails when it must. TAP.
. "$(dirname "$0")/../lib.sh"
n=0 bad=0

# expect NAME STATUS WORD COMMAND: the command in the lab exits so, and says so
expect() {
	local out got=0
	n=$((n + 1))
	out=$(CMD=$4 LOG=$LOGS/console-selfcheck.log "$ROOT/lab/machine/run.sh" 2>&1 </dev/null) || got=$?
	if [ "$got" = "$2" ] && grep -qF -- "$3" <<<"$out"; then
		echo "ok $n $1"
	else
		echo "not ok $n $1 # exit status $got"
		echo "# ${out//$'\n'/$'\n'# }"
		bad=1
	fi
}

# expect_check NAME STATUS LAST STEP: what check.sh exits with after that step, and its last
# line. Its logs, and what it remembers, are not those of a check that runs this.
expect_check() {
	local out got=0
	n=$((n + 1))
	out=$(LOGS=$(mktemp -d "$BUILD/selfcheck.XXXXXX") STEPS="^$4$" "$ROOT/lab/check/check.sh" 2>&1 </dev/null) || got=$?
	rm -rf "$BUILD"/selfcheck.*
	if [ "$got" = "$2" ] && [ "${out##*$'\n'}" = "$3" ]; then
		echo "ok $n $1"
	else
		echo "not ok $n $1 # exit status $got"
		echo "# ${out//$'\n'/$'\n'# }"
		bad=1
	fi
}

echo "TAP version 13"
echo "1..27"
unset KERNEL LAB TIMEOUT COUNT MODULES STEPS LONG
expect_check check-passes 0 "1 passed, 0 failed" "base demo-core"
DEMO_ARGS=--nonsense expect_check check-fails 1 "0 passed, 1 failed" "base demo-core"
expect_check check-does-nothing 1 "0 passed, 0 failed" "no such step"
# shellcheck disable=SC2016
expect output-and-status 7 "hello ab" 'x=ab; echo "hello $x"; [ -e /dev/kvm ] && exit 7'
expect read-only-root 1 "Read-only file system" 'touch /etc/lab'
expect panic 125 "Kernel panic" 'echo c >/proc/sysrq-trigger; sleep 60'
expect report 125 "the kernel reported: WARNING: of this test" 'echo "WARNING: of this test" >/dev/kmsg'
TIMEOUT=20 expect hang 125 "nothing came back for 20 s" 'sleep 60'
late='WARNING: CPU: 1 PID: 0 at arch/x86/kernel/apic/ipi.c:70 native_smp_send_reschedule+0x2e/0x40'
expect report-of-a-cpu 125 "the kernel reported: WARNING: CPU: 1" "echo '$late' >/dev/kmsg"
expect report-as-it-is-turned-off 0 "" "echo 'sysrq: Power Off' >/dev/kmsg; echo '$late' >/dev/kmsg"
# Another machine begins, and is done, whose console has the same name
(sleep 12; CMD=true LOG=$LOGS/console-selfcheck.log "$ROOT/lab/machine/run.sh") >/dev/null 2>&1 </dev/null &
expect report-beside-another 125 "the kernel reported: WARNING: of this test" 'echo "WARNING: of this test" >/dev/kmsg; sleep 25'
wait

# An emulator that dies as it starts, or stands still, is started once more, one that dies later is not
fake=$(mktemp -d "$BUILD/selfcheck.XXXXXX")
cat >"$fake/qemu-system-x86_64" <<-END
	#!/bin/bash
	echo >>$fake/starts
	[ ! -e $fake/lost ] || [ "\$(wc -l <$fake/starts)" -gt 1 ] || for a; do case \$a in file,id=console,path=*) cat $fake/lost >>"\${a#*path=}" ;; esac; done
	[ "\$(wc -l <$fake/starts)" -gt "\$(cat $fake/deaths)" ] || if [ -e $fake/still ]; then read -r _ <>$fake/still; else kill -SEGV \$\$; fi
	[ ! -e $fake/late ] || { for a; do case \$a in file,id=status,path=*) echo begun >"\${a#*path=}"; kill -SEGV \$\$ ;; esac; done; }
	exec $BUILD/qemu/qemu-system-x86_64 "\$@"
END
chmod +x "$fake/qemu-system-x86_64"
# fake_expect DEATHS STARTS ARGUMENTS of expect: and so often was it started
fake_expect() {
	echo "$1" >"$fake/deaths"
	: >"$fake/starts"
	EMULATOR=$fake/qemu-system-x86_64 expect "${@:3}"
	n=$((n + 1))
	if [ "$(wc -l <"$fake/starts")" = "$2" ]; then
		echo "ok $n $3-starts"
	else
		echo "not ok $n $3-starts # $(wc -l <"$fake/starts") of $2"
		bad=1
	fi
}
fake_expect 1 2 emulator-dies-once 7 "once more" 'exit 7'
fake_expect 2 2 emulator-dies-twice 125 "the machine stopped early" 'exit 7'
mkfifo "$fake/still"
STILL=10 fake_expect 1 2 emulator-stands-still-once 7 "said nothing for 10 s" 'exit 7'
STILL=10 fake_expect 2 2 emulator-stands-still-twice 125 "said nothing for 10 s as it started, the second time, too" 'exit 7'
echo "rcu: rcu_preempt kthread timer wakeup didn't happen for 30001 jiffies!" >"$fake/lost"
fake_expect 1 2 emulator-loses-a-timer 7 "lost a timer as it started; once more" 'exit 7'
rm "$fake/still" "$fake/lost"
touch "$fake/late"
fake_expect 0 1 emulator-dies-late 125 "the machine stopped early" 'exit 7'
rm -rf "$fake"

# Bochs takes longer to start than this
export LAB=intel
# shellcheck disable=SC2016
expect intel-output-and-status 7 "hello ab" 'x=ab; echo "hello $x"; [ -e /dev/kvm ] && exit 7'
expect intel-panic 125 "Kernel panic" 'echo c >/proc/sysrq-trigger; sleep 60'
expect intel-report 125 "the kernel reported: WARNING: of this test" 'echo "WARNING: of this test" >/dev/kmsg'
TIMEOUT=5 expect intel-hang 125 "nothing came back for 5 s" 'sleep 60'
exit $bad
