#!/bin/bash
# runner.sh: what lab/mutants/auto.py has a lab do. What it finds out are lines that
# begin with @@.
#
#   runner.sh cover SECONDS KNOWN PROGRAM...  each test by itself, but for those in the file
#                                       KNOWN: does it pass, how long does it take, and past
#                                       which mutants does it go
#   runner.sh try FILE                  mutants, in lines: NUMBER SECONDS PROGRAM TEST...
# No patterns of files: names of tests may be patterns
set -uf
out=/run/mutant.log
export VM2VM_TRIALS=${VM2VM_TRIALS:-3}

# tests_of PROGRAM: kselftest's harness has a table of them, the matrix hundreds of names,
# of which each eighth will do. Python's are taken by patterns, those that begin alike together.
tests_of() {
	[[ $1 = *.py ]] || "$1" -l >"$out" 2>&1 </dev/null
	if [[ $1 = *.py ]]; then
		# It says which there are if there is none of that name
		/usr/bin/python3 "$1" no-such-test 2>&1 | sed -n 's/.*; there are //p' | tr ' ' '\n' |
			awk -F_ '{ k = $1 "_" $2; n[k]++; name[NR] = $0; of[NR] = k }
				END { for (i = 1; i <= NR; i++)
					if (n[of[i]] < 3) print name[i]; else if (!said[of[i]]++) print of[i] "_*" }'
	elif grep -q '^# FIXTURE' "$out"; then
		grep -v '^#\|^---\|^Random' "$out" | cut -c48- | grep . | sort -u
	else
		grep -v '^Random\|^#' "$out" | awk 'NR % 8 == 1'
	fi
}

# A mutant is chosen in KVM by a parameter, in QEMU by the environment. Which were come by,
# since this was asked the last time, is in the same parameter, or in a file of bytes.
parameter=/sys/module/kvm/parameters/vm2vm_mutant
export VM2VM_MUTANT=0 VM2VM_MUTANT_HITS=/tmp/hits
: >"$VM2VM_MUTANT_HITS"
choose() {
	VM2VM_MUTANT=$1
	[ ! -e $parameter ] || echo "$1" >$parameter
}
# This prints their numbers.
come_by() {
	if [ -e $parameter ]; then
		cat $parameter
	else
		od -An -v -tu1 -w1 "$VM2VM_MUTANT_HITS" | awk '$1 { printf "%d ", NR - 1 }'
		: >"$VM2VM_MUTANT_HITS"
	fi
}

# take SECONDS PROGRAM TEST...: 0 if all pass. The first that fails ends it. What has a "=" is
# for its environment.
take() {
	local seconds=$1 program=$2 pid t end
	local -a args=()
	shift 2
	if [[ $program = *.py ]]; then
		# By name alone, and by the machine's own Python
		args=(/usr/bin/python3 "$program" "$@")
	else
		args=("$program")
		for t; do
			if [[ $t = *=* ]]; then args=(env "$t" "${args[@]}"); else args+=(-t "$t"); fi
		done
	fi
	: >"$out"
	setsid timeout -k 2 "$seconds" "${args[@]}" >"$out" 2>&1 </dev/null &
	pid=$! end=$((SECONDS + seconds + 15)) stuck=
	while kill -0 $pid 2>/dev/null; do
		if grep -q '^not ok' "$out"; then
			kill -KILL -- -$pid 2>/dev/null
			break
		fi
		# It does not die, so nothing that comes after it would be right
		if [ $SECONDS -gt $end ]; then stuck=1; return 1; fi
		sleep 0.1
	done
	wait $pid 2>/dev/null && ! grep -q '^not ok' "$out"
	set -- $?
	# VMs that it has left behind
	[[ $program != *.py ]] || pkill -9 qemu-system
	return "$1"
}

# What the kernel has complained of since this was asked the last time. After some of that
# it does not panic, but looks for no more of the kind.
complaint() {
	dmesg -c | grep -aEm1 "$REPORTS"
}

# Whether something was allocated and forgotten, as lab/machine/init asks at the end: kmemleak
# passes over what is younger than 5 s, and over what changed since the scan before.
leaks() {
	local leaks=/sys/kernel/debug/kmemleak
	[ -e $leaks ] || return 1
	sleep 6
	echo scan >$leaks
	echo scan >$leaks
	cat $leaks >"$out"
	echo clear >$leaks
	[ -s "$out" ]
}

# The modules anew, without a mutant once they are gone: whatever the last one did is
# gone. They stay if something is held.
again() {
	VM2VM_MUTANT=${1:-0}
	[ -e $parameter ] || return 0
	local m list=""
	for m in $MODULES; do m=${m##*/}; list="${m%.ko} $list"; done
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		# shellcheck disable=SC2086
		rmmod $list 2>/dev/null
		[ -e /sys/module/irqbypass ] || break
		sleep 0.3
	done
	[ ! -e /sys/module/irqbypass ] || return 1
	load
}

load() {
	local m name p
	for m in $MODULES; do
		name=${m##*/} name=${name%.ko}
		set --
		for p in $PARAMS; do
			case $p in "$name".*) set -- "$@" "${p#*.}" ;; esac
		done
		[ "$name" != kvm ] || set -- "$@" "vm2vm_mutant=$VM2VM_MUTANT"
		insmod "$m" "$@" || return 1
	done
}

cover() {
	local seconds=$1 known=$2 program t start status hits
	shift 2
	for program; do
		for t in $(tests_of "$program"); do
			! grep -qxF "$program $t" "$known" || continue
			echo "@@ at $program $t"
			come_by >/dev/null
			start=${EPOCHREALTIME/./}
			status=ok
			if ! take "$seconds" "$program" "$t"; then
				# By chance? What is left out finds nothing.
				start=${EPOCHREALTIME/./}
				{ [ -z "$stuck" ] && take "$seconds" "$program" "$t"; } || status=bad
			fi
			hits="$(come_by) $loaded"
			echo "@@ test $status $(((${EPOCHREALTIME/./} - start) / 1000)) $program $t $hits"
			[ -z "$stuck" ] || exit 0
		done
		echo "@@ covered $program"
	done
}

# killed NUMBER WHAT: and on with the next one, or, if that cannot be, by a new machine
killed() {
	echo "@@ killed $1 $2"
	if [ -n "$stuck" ] || ! again; then echo "@@ stuck"; exit 0; fi
}

# noticed NUMBER PROGRAM TESTS: whether they do; it is killed if so
noticed() {
	local number=$1 seconds=$2 program=$3 failed t report
	shift 3
	if ! take "$seconds" "$program" "$@"; then
		failed=$(sed -n 's/^not ok [0-9]* //p' "$out" | head -n 1)
		t=${failed#*.} t=${t#*.}
		# By chance? Not if it does so again.
		if [ -z "$failed" ] || ! take "$seconds" "$program" "${t%% *}"; then
			killed "$number" "${program##*/} ${failed:-ended early}"
			return 0
		fi
	fi
	report=$(complaint) || return 1
	stuck=1
	killed "$number" "${program##*/}: $report"
}

# try_one NUMBER: with its lines in $todo
try_one() {
	local number=$1 seconds program tests
	echo "@@ begin $number"
	# What is come by when KVM is loaded has to be there then
	if [[ " $loaded " = *" $number "* ]]; then
		if ! again "$number"; then stuck=1; killed "$number" "the modules do not load"; fi
	fi
	choose "$number"
	while read -r _ seconds program tests; do
		# shellcheck disable=SC2086
		! noticed "$number" "$seconds" "$program" $tests || return
		echo "@@ passed $number $program $tests"
	done < <(grep "^$number " "$todo")
	if ! again; then
		stuck=1
		killed "$number" "the modules do not unload"
	fi
	if leaks; then
		echo "@@ killed $number memory leaks"
		return
	fi
	echo "@@ survived $number"
}

# shellcheck disable=SC1091
. "$LAB_DIR/env"
dmesg -C
stuck='' loaded=$(come_by)
case $1 in
cover) shift; cover "$@" ;;
try)
	todo=$2
	for n in $(cut -d' ' -f1 "$todo" | uniq); do try_one "$n"; done ;;
esac
echo "@@ end"
