#!/bin/bash
# mmu.sh: the tests whose subject is how KVM reaches the memory of a window, with
# KVM's modules told to do it in other ways than by default. One TAP for all.
#
# MODES='regex' runs only the modes whose name matches. LONG=1 runs them all, and tries ten
# times as often; without it, what combines two of the others, and what takes long on a
# kernel that checks everything or in Bochs, is left out.
. "$(dirname "$0")/../lib.sh"
cd "$ROOT"
unset KERNEL LAB PARAMS

# name | lab and kernel | PARAMS | TRIALS | tests, with what they are to leave out
# Without two-dimensional paging there are no nested guests that have it, KVM cannot
# prefault by guest-physical address, and pages are no larger than the guest's own.
# Bochs puts addresses in the PML buffer that are not those of pages, of which KVM warns.
# A kernel that is preempted anywhere is where a thread may starve with what others wait for.
modes() {
	local shadow="vm2vm_mmu_test -V l2_npt_1g -V l2_npt_4k -T nested_page_tables"
	local preempted="vm2vm_revoke_test -t mmap_races_fault -t map_races_wait -t memslot_races_filler -t deassign_races_ring"
	cat <<-END
		legacy | amd base | kvm.tdp_mmu=0 | 50 | vm2vm_mmu_test; vm2vm_fill_test; vm2vm_test; vm2vm_revoke_test; vm2vm_dirty_test -v get
		shadow | amd base | kvm-amd.npt=0 | 50 | $shadow; vm2vm_fill_test; vm2vm_test -T one_fault_per_2m; vm2vm_revoke_test; vm2vm_dirty_test -T huge_hugetlb -T huge_thp -v get
		emulated | amd base | kvm.force_emulation_prefix=1 | 500 | vm2vm_access_test -T tracepoints
		emulated-dirty | amd base | kvm.force_emulation_prefix=1 | 50 | vm2vm_dirty_test -v get
		emulated-shadow | amd base | kvm.force_emulation_prefix=1 kvm-amd.npt=0 | 500 | vm2vm_access_test -F prefault -T gigabyte -T tracepoints
		debug-shadow | amd debug | kvm-amd.npt=0 | 10 | $shadow
		debug-emulated | amd debug | kvm.force_emulation_prefix=1 | 50 | vm2vm_access_test -T gigabyte
		preempted | amd base | preempt=full | 100 | vm2vm_bound_test -f starve; vm2vm_revoke_test -t unlink
		preempted-race | amd light | preempt=full | 3000 | $preempted
		intel | intel base | | 3 | vm2vm_mmu_test
		intel-dirty | intel base | kvm-intel.pml=0 | 2 | vm2vm_dirty_test -v get
		intel-views | intel base | kvm-intel.pml=0 kvm.force_emulation_prefix=1 | 5 | vm2vm_view_test
		intel-preempted | intel light | preempt=full | 3 | vm2vm_view_test
		intel-shadow | intel base | kvm-intel.ept=0 | 3 | $shadow
	END
}

n=0 bad=0
# result STATUS NAME [COMMENT]
result() {
	n=$((n + 1))
	[ "$1" = ok ] || bad=1
	echo "$1 $n $2${3:+ # $3}"
}

# run NAME LAB KERNEL PARAMS COMMAND: the command's results, as results of the mode
run() {
	local log=$LOGS/mmu-$1.log status=0 before=$n failed=$bad line
	LAB=$2 KERNEL=$3 PARAMS=$4 CMD=$5 TIMEOUT=${TIMEOUT:-1200} LOG=$LOGS/console-mmu-$1.log \
		lab/machine/run.sh >"$log" 2>&1 </dev/null || status=$?
	bad=0
	while read -r line; do
		[[ $line =~ ^((not )?ok)\ [0-9]+\ ([^ ]+)(.*)$ ]] || continue
		result "${BASH_REMATCH[1]}" "$1 ${BASH_REMATCH[3]}${BASH_REMATCH[4]}"
	done <"$log"
	# It died, or the kernel complained
	if [ "$status" != 0 ] && { [ "$bad" = 0 ] || [ "$status" -ge 124 ]; }; then
		result "not ok" "$1" "exit status $status"
	elif [ "$n" = "$before" ]; then
		result "not ok" "$1" "no results"
	fi
	[ "$bad" = 0 ] || grep -v '^ok \|^#  *\(RUN\|OK\) ' "$log" | tail -n 40 | sed 's/^/# /'
	bad=$((bad | failed))
}

echo "TAP version 13"
while IFS='|' read -r name machine params trials tests; do
	name=${name// /} machine=${machine# } params=${params# }
	[[ $name =~ ${MODES:-.} ]] || continue
	if [ -z "${LONG:-}${MODES:-}" ] && [[ $name =~ ^(emulated-dirty|emulated-shadow|debug-.*|intel-dirty|intel-preempted|intel-shadow|intel-views)$ ]]; then continue; fi
	read -r lab kernel <<<"$machine"
	trials=${trials// /}
	[ -n "${LONG:-}" ] || trials=$(((trials + 9) / 10))
	command="export VM2VM_TRIALS=$trials; bad=0"
	IFS=';' read -ra tests <<<"$tests"
	for t in "${tests[@]}"; do command="$command; $SELFTESTS/${t# } || bad=1"; done
	run "$name" "$lab" "$kernel" "$params" "$command; exit \$bad"
done < <(modes)
echo "1..$n"
exit $bad
