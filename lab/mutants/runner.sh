#!/bin/bash
# runner.sh: what lab/mutants/auto.py has a lab do. What it finds out are lines that
# begin with @@.
#
#   runner.sh cover SECONDS PROGRAM...  each test by itself: does it pass, how long does it
#                                       take, and past which mutants does it go
#   runner.sh try FILE                  mutants, in lines: NUMBER SECONDS PROGRAM TEST...
set -u
out=/run/mutant.log
export VM2VM_TRIALS=${VM2VM_TRIALS:-3}

# tests_of PROGRAM: kselftest's harness has a table of them, the matrix hundreds of names,
# of which each eighth will do
tests_of() {
	[[ $1 = *.py ]] || "$1" -l >"$out" 2>&1 </dev/null
	if [[ $1 = *.py ]]; then
		# It says which there are if there is none of that name
		/usr/bin/python3 "$1" no-such-test 2>&1 | sed -n 's/.*; there are //p' | tr ' ' '\n'
	elif grep -q '^# FIXTURE' "$out"; then
		grep -v '^#\|^---\|^Random' "$out" | cut -c48- | grep . | sort -u
	else
		grep -v '^Random' "$out" | awk 'NR % 8 == 1'
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
come_by() {
	if [ -e $parameter ]; then
		cat $parameter
	else
		od -An -v -tu1 -w1 "$VM2VM_MUTANT_HITS" | awk '$1 { printf "%d ", NR - 1 }'
		: >"$VM2VM_MUTANT_HITS"
	fi
}

# take SECONDS PROGRAM TEST...: 0 if all pass. The first that fails ends it.
take() {
	local seconds=$1 program=$2 pid t
	local -a args=()
	shift 2
	if [[ $program = *.py ]]; then
		# By name alone, and by the machine's own Python
		args=(/usr/bin/python3 "$program" "$@")
	else
		args=("$program")
		for t; do args+=(-t "$t"); done
	fi
	: >"$out"
	setsid timeout -k 2 "$seconds" "${args[@]}" >"$out" 2>&1 </dev/null &
	pid=$!
	while kill -0 $pid 2>/dev/null; do
		if grep -q '^not ok' "$out"; then
			kill -KILL -- -$pid 2>/dev/null
			break
		fi
		sleep 0.1
	done
	wait $pid 2>/dev/null && ! grep -q '^not ok' "$out"
	set -- $?
	# VMs that it has left behind
	[[ $program != *.py ]] || pkill -9 qemu-system
	return "$1"
}

# The modules anew: whatever the last mutant did is gone. They stay if something is held.
again() {
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
		insmod "$m" "$@" || return 1
	done
}

cover() {
	local seconds=$1 program t start status hits
	shift
	for program; do
		for t in $(tests_of "$program"); do
			come_by >/dev/null
			start=${EPOCHREALTIME/./}
			status=ok
			take "$seconds" "$program" "$t" || status=bad
			hits=$(come_by)
			echo "@@ test $status $(((${EPOCHREALTIME/./} - start) / 1000)) $program $t $hits"
		done
	done
}

# try_one NUMBER: with its lines in $todo
try_one() {
	local number=$1 seconds program tests failed
	echo "@@ begin $number"
	while read -r _ seconds program tests; do
		choose "$number"
		# shellcheck disable=SC2086
		if ! take "$seconds" "$program" $tests; then
			failed=$(sed -n 's/^not ok [0-9]* //p' "$out" | head -n 1)
			t=${failed#*.} t=${t#*.}
			# By chance? Not if it does so again.
			if [ -n "$failed" ] && take "$seconds" "$program" "${t%% *}"; then continue; fi
			choose 0
			echo "@@ killed $number ${program##*/} ${failed:-ended early}"
			again || { echo "@@ stuck"; exit 0; }
			return
		fi
	done < <(grep "^$number " "$todo")
	choose 0
	if ! again; then
		echo "@@ killed $number - the modules do not unload"
		echo "@@ stuck"
		exit 0
	fi
	echo "@@ survived $number"
}

# shellcheck disable=SC1091
. "$LAB_DIR/env"
case $1 in
cover) shift; cover "$@" ;;
try)
	todo=$2
	for n in $(cut -d' ' -f1 "$todo" | uniq); do try_one "$n"; done ;;
esac
echo "@@ end"
