#!/bin/bash
# bench.sh: what vm2vm costs, in instructions. Prints one line a figure,
# "bench: NAME VALUE", and as TAP whether those that have a limit keep it.
#
# COUNT=1 makes one tick of the time stamp counter one instruction, of the guest
# or of the host. Ratios are of figures from one run; only idle_ratio compares
# two: KVM with the series and without, by the same program on the same kernel.
. "$(dirname "$0")/lib.sh"
bench=$SELFTESTS/vm2vm_bench
plain=$LOGS/bench-plain.log ours=$LOGS/bench-ours.log

# measure LOG MODULES COMMAND
measure() {
	LAB=amd KERNEL=base MODULES=$2 COUNT=1 TIMEOUT=900 LOG=${1%.log}-console.log CMD=$3 "$ROOT/lab/run.sh" >"$1" 2>&1
}

"$ROOT/lab/plain.sh" >&2
# Each has an emulated machine of its own with a clock of its own
measure "$plain" "$BUILD/plain" "$bench --plain" &
status=0
measure "$ours" "$BUILD/base" "$bench --plain && $bench" || status=$?
wait $! || status=$?
if [ "$status" != 0 ]; then
	cat "$plain" "$ours" >&2
	die "the measurement failed"
fi

value() { sed -n "s/^bench: $2 //p" "$1"; }
calc() { awk "BEGIN { printf \"%.4f\\n\", $1 }"; }

# The worst of the kinds of fault that were measured
idle=0
for f in plain_fault plain_fault_write plain_fault_2m; do
	ratio=$(calc "$(value "$ours" "$f") / $(value "$plain" "$f")")
	echo "bench: without_series_$f $(value "$plain" "$f")"
	idle=$(calc "$ratio > $idle ? $ratio : $idle")
done
grep '^bench: ' "$ours" | tee "$LOGS/bench.figures"
echo "bench: idle_ratio $idle" | tee -a "$LOGS/bench.figures"

n=0 bad=0
# limit NAME MOST [LEAST]
limit() {
	local v
	v=$(value "$LOGS/bench.figures" "$1")
	n=$((n + 1))
	if [ -n "$v" ] && awk "BEGIN { exit !($v <= $2 && $v >= ${3:-0}) }"; then
		echo "ok $n $1 $v, at most $2"
	else
		echo "not ok $n $1 ${v:-not measured}, wanted ${3:+at least $3 and }at most $2"
		bad=1
	fi
}

echo "TAP version 13"
limit fault_ratio 1.3 0.5
limit fault_ratio_write 1.3 0.5
limit fault_ratio_2m 1.3 0.5
limit revoke_ratio 1.5 0.1
limit link_ratio 2 0.1
limit link_bytes_512g 4096 -4096
limit lookup_ratio 4 0.5
limit idle_ratio 1.01 0.9
limit exits_per_million 0
echo "1..$n"
exit $bad
