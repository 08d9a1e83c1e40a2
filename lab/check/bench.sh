#!/bin/bash
# bench.sh: what vm2vm costs, in instructions. Prints one line a figure,
# "bench: NAME VALUE", and as TAP whether those that have a limit keep it.
#
# COUNT=1 makes one tick of the time stamp counter one instruction, of the guest
# or of the host. Ratios are of figures from one run; only the idle ratios compare
# two: KVM with the series and without, by the same program on the same kernel. Views
# are measured in the Intel lab, whose clock counts instructions by itself.
. "$(dirname "$0")/../lib.sh"
bench=$SELFTESTS/vm2vm_bench
plain=$LOGS/bench-plain.log ours=$LOGS/bench-ours.log bounds=$LOGS/bench-bounds.log
views=$LOGS/bench-views.log noviews=$LOGS/bench-noviews.log
view_bench="taskset 1 $SELFTESTS/vm2vm_view_bench"

# measure LAB LOG MODULES COMMAND; the Intel lab does not know COUNT
measure() {
	LAB=$1 KERNEL=base MODULES=$3 COUNT=1 TIMEOUT=900 LOG=${2%.log}-console.log CMD=$4 "$ROOT/lab/machine/run.sh" >"$2" 2>&1
}

# measure_plain LAB LOG PROGRAM, maybe with words before it: KVM without the series. That seldom
# changes, so what it came to is kept.
measure_plain() {
	local key
	key=$({ echo "$1 $3"; find "${3##* }" "$BUILD"/plain/arch/x86/kvm/*.ko "$BUILD/base/arch/x86/boot/bzImage" "$ROOT/lab/machine" -type f | hashes; } | sha256sum)
	! unchanged "$2.key" "$key" || return 0
	rm -f "$2.key"
	measure "$1" "$2" "$BUILD/plain" "$3 --plain" || return
	echo "$key" >"$2.key"
}

"$ROOT/lab/build/plain.sh" >&2
# Each has an emulated machine of its own with a clock of its own
measure_plain amd "$plain" "$bench" &
status=0
measure amd "$ours" "$BUILD/base" "$bench --plain && $bench" || status=$?
wait $! || status=$?
measure_plain intel "$noviews" "$view_bench" &
measure intel "$views" "$BUILD/base" "$view_bench" || status=$?
wait $! || status=$?
measure amd "$bounds" "$BUILD/base" "$bench --bounds" || status=$?
if [ "$status" != 0 ]; then
	cat "$plain" "$ours" "$views" "$noviews" "$bounds" >&2
	die "the measurement failed"
fi

value() { sed -n "s/^bench: $2 //p" "$1"; }
calc() { awk "BEGIN { printf \"%.4f\\n\", ($1) }"; }

# The worst of the kinds of fault that were measured
idle=0
for f in plain_fault plain_fault_write plain_fault_2m; do
	ratio=$(calc "$(value "$ours" "$f") / $(value "$plain" "$f")")
	echo "bench: without_series_$f $(value "$plain" "$f")"
	idle=$(calc "$ratio > $idle ? $ratio : $idle")
done
harvest=$(calc "$(value "$ours" plain_harvest) / $(value "$plain" plain_harvest)")
echo "bench: without_series_plain_harvest $(value "$plain" plain_harvest)"
grep -h '^bench: ' "$ours" "$views" "$bounds" | tee "$LOGS/bench.figures"
view_idle=$(calc "$(value "$views" view_plain_exit) / $(value "$noviews" view_plain_exit)")
echo "bench: view_idle_ratio $view_idle" | tee -a "$LOGS/bench.figures"
echo "bench: idle_ratio $idle" | tee -a "$LOGS/bench.figures"
echo "bench: harvest_idle_ratio $harvest" | tee -a "$LOGS/bench.figures"

n=0 bad=0 table=$LOGS/bench.md
# row NAME LIMIT WHAT: a line of README.md's table
row() { echo "| \`$1\` | $(value "$LOGS/bench.figures" "$1") | $2 | $3 |" >>"$table"; }
# limit NAME LEAST MOST WHAT. Less than LEAST means that something went wrong.
limit() {
	local v
	v=$(value "$LOGS/bench.figures" "$1")
	n=$((n + 1))
	if [ -n "$v" ] && awk "BEGIN { exit !($v >= $2 && $v <= $3) }"; then
		echo "ok $n $1 $v, at most $3"
	else
		echo "not ok $n $1 ${v:-not measured}, wanted $2 to $3"
		bad=1
	fi
	row "$1" "$3" "$4"
}

printf '| figure | value | at most | what |\n|---|---|---|---|\n' >"$table"
echo "TAP version 13"
limit fault_ratio 0.5 1.1 "first touch of a page of a window / of the backend's own memory; 4 KiB pages"
limit fault_ratio_write 0.5 1.1 "the same, by a write"
limit fault_ratio_2m 0.5 1.3 "the same, 2 MiB pages"
limit revoke_ratio 0.1 1.5 "UNMAP of 4096 touched pages / what KVM pays to unmap as many of its own"
row revoke_ratio_64 "" "the same, 64 pages"
row revoke_ratio_1 "" "the same, one page: a system call / an MMU notifier's"
limit revoke_ratio_split 0.1 1.25 "the same, 4096 pages that are one mapping each, by one call"
limit revoke_ratio_split_rest 0.1 1.25 "the same, of a domain with 16384 other mappings of the same pages"
limit harvest_ratio 0.1 1.2 "KVM_GET_DIRTY_LOG of 4096 pages that a backend wrote / that the VM's own vCPU wrote"
limit harvest_ratio_split 0.1 1.25 "the same, each page by a mapping of its own"
limit harvest_ratio_every_second 0.1 1.2 "the same, every second of 4096 pages, by one mapping"
limit harvest_ratio_split_every_second 0.1 1.25 "the same, each page by a mapping of its own"
limit harvest_idle_ratio 0.9 1.01 "the same in a VM without vm2vm / on KVM without the series"
limit wp_fault_ratio 0.5 1.3 "a write to a page that a harvest protected, in a window / in a VM's own memory"
row wp_fault_ratio_split "" "the same, each page by a mapping of its own"
limit link_ratio 0.1 2 "making a link of 512 GiB / of 2 MiB, beyond what a memslot of that size costs"
limit link_bytes_512g -16384 16384 "memory of a link of 512 GiB beyond a memslot's"
row memslot_bytes_512g "" "memory of a memslot of 512 GiB"
limit lookup_ratio 0.5 4 "first touch of a page among 1,000,000 mappings / among 1,000"
limit bytes_per_mapping 64 96 "memory, at 1,000,000 mappings of a page each"
row bytes_charged_per_mapping "" "how much of it the memory cgroup was charged"
limit idle_ratio 0.9 1.003 "a fault in a VM without vm2vm / on KVM without the series"
limit exits_per_million 0 0 "exits of 1,000,000 accesses after the first touch"
row irq_exits_per_million "" "the same, for the host's own interrupts"
limit doorbell_host_ratio 0.1 0.6 "host's instructions of a ring by OUT, peer's vCPU not in KVM_RUN: doorbell / ioeventfd and irqfd"
row doorbell_host_ratio_memory "" "the same, by a write to memory, which KVM's emulator has to decode"
row doorbell_heard_ratio "" "from an OUT to the handler of a halted peer: doorbell / ioeventfd and irqfd; 0.6 or 0.97, as the scheduler lets go on the one or the other first"
limit doorbell_relay_ratio 0.05 0.6 "the same: doorbell / a thread of the VMM that relays"
row doorbell_relay_ratio_memory "" "the same, by a write to memory"
limit doorbell_1000_ratio 0.5 2 "a ring among 1,000 doorbells / with one, at an address each"
limit doorbell_1000_values_ratio 0.5 2 "the same, at one address, told apart by the value"
limit doorbell_mask_ratio 0.5 1.5 "KVM_IRQFD takes an irqfd away: with a doorbell that rings it / without"
for links in 16 1024; do
	for call in notifier memslot harvest unmap end; do
		limit bound_${call}_held_$links 1 1000000 "longest hold of a backend's mmu_lock, of the next"
		row bound_${call}_$links "" "1,000,000 mappings of a page, $links links, 8,192 pages touched: all of $call"
	done
done
for call in notifier memslot harvest get_dirty unmap end; do
	limit bound_${call}_held_64g 1 1000000 "longest hold of a backend's mmu_lock, of the next"
	row bound_${call}_64g "" "64 GiB, 1,024 links of it, 8,192 pages touched: all of $call"
done
limit view_trip_exits 0 0 "exits of 10,000 trips into a view and out, after the first; Intel lab, as all of views"
limit view_trip_instructions 2 10 "a trip: two VMFUNCs and nothing else"
row view_hypercall_instructions "" "two hypercalls that do nothing: at least what it would take to have KVM switch"
row view_relink_instructions "" "KVM_VM2VM_LINK and _UNLINK of a plain link, for a page"
limit view_copy_ratio 0.9 1.1 "a copy of 4096 bytes by a trip / from the window of a plain link"
row view_first_instructions "" "entering a view for the first time on a vCPU"
limit view_first_64m_ratio 0.8 1.2 "the same with 64 MiB of the VM's own memory mapped / with next to none"
# Less than nothing where what went before is given back meanwhile
limit view_bytes -8192 12288 "memory of entering a view for the first time: a page for the vCPU, and the root of the window"
for size in 64 1500 9000; do
	row view_switch_plain_$size "" "a switch in the backend, by plain links: a frame of $size bytes from owner to owner"
	limit view_switch_ratio_${size}_one 1 2.5 "the same by views, which take two copies / by plain links"
	limit view_switch_ratio_$size 1 2.1 "the same, four frames for each change of views"
done
limit view_idle_ratio 0.9 1.003 "an exit in a VM without views / on KVM without the series"
echo "1..$n"
echo "# README.md's table: $table"
exit $bad
