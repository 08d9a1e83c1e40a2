#!/bin/bash
# hand.sh: break our code in the ways of lab/mutants/kernel/*.patch, lab/mutants/qemu/*.patch and
# lab/mutants/guest/*.patch, one at a time, and see the tests notice. Each patch says on top what must notice:
#
#	# kills: [PROGRAM] TEST		of KVM's part: vm2vm_test if no program is given
#	# where: LAB KERNEL		amd base if not given
#	# params: NAME=VALUE		parameters of KVM's modules
#	# trials: N			VM2VM_TRIALS for the test
#	# kills: SCRIPT TEST		of QEMU's and the guest's part: one of lab/vms/*.py; or, of the
#					guest's, rings, which are lab/check/rings.sh's
#
# Just TEST is run, with KVM's modules, or QEMU, built from the changed source.
# One that was killed is not tried again until the code, the tests or the lab have changed; FORCE=1
# does. MUTANT=name, MUTANT=qemu/name or MUTANT=guest/name tries that one only, or those that match a
# pattern; MUTANTS=kernel, qemu or guest, those. Two at a time need a folder each: work=DIR.
. "$(dirname "$0")/../lib.sh"
. "$ROOT/lab/mutants/work.sh"

passed=0 failed=0
result() {
	if [ "$1" = ok ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
	say "$2"
}

# known NAME PATCH FILE...: whether it was killed before, when these were the same; sets $key
known() {
	local name=$1
	shift
	key=$(cd "$ROOT" && { cat "$BUILD/pristine.key"; find "$@" lab/machine lab/build/config -type f | hashes; } | sha256sum)
	unchanged "$LOGS/killed/$name" "$key" || return 1
	result ok "$name: killed before"
}
key=
mkdir -p "$LOGS/killed"

# killed NAME WHY
killed() {
	echo "$key" >"$LOGS/killed/$1"
	result ok "$1: killed by $2"
}

# mutate PATCH FROM TO: apply the patch in TO, to copies of what it touches in FROM
mutate() {
	from=$2 to=$3
	files=$(sed -n 's|^+++ b/\([^\t]*\).*|\1|p' "$1")
	[ -n "$files" ] || return 1
	for f in $files; do
		[ -f "$from/$f" ] || return 1
		cp "$from/$f" "$to/$f.new" && mv -f "$to/$f.new" "$to/$f"
	done
	patch -s -p1 -F0 -d "$to" --no-backup-if-mismatch -r - <"$1" >"$log" 2>&1
}

restore() {
	for f in $files; do put "$from/$f" "$to/$f" || true; done
	files=
}
files='' machine=''
trap 'restore; [ -z "$machine" ] || kill -- "-$machine" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM

# run COMMAND...: to $log, as a process group of its own. Once a test has failed the rest is not waited
# for: what the mutant has broken may stand still.
run() {
	setsid "$@" >"$log" 2>&1 </dev/null &
	machine=$!
	while sleep 1 && kill -0 "$machine" 2>/dev/null; do
		! grep -aq '^not ok ' "$log" || { sleep 2; kill -- "-$machine" 2>/dev/null || true; }
	done
	wait "$machine" || status=$?
	machine=
}

# verdict NAME TEST STATUS: from what is in $log
verdict() {
	rm -f "$LOGS/killed/$1"
	if grep -aq "^not ok .*$2" "$log"; then
		killed "$1" "$2"
	elif [ "$3" = 125 ]; then
		killed "$1" "$2 ($(sed -n 's/^lab: FAILED: \([^;]*\);.*/\1/p' "$log"))"
	elif [ "$3" = 0 ] && grep -aq "^ok .*$2" "$log"; then
		result bad "$1: SURVIVED $2 ($log)"
	else
		result bad "$1: ERROR: the test exits with $3 and no result ($log)"
	fi
}

# try_kernel NAME PATCH
try_kernel() {
	local name=$1 patch=$2 program=vm2vm_test test lab kernel trials status=0
	read -r lab kernel < <(sed -n 's/^# where: *//p' "$patch") || true
	lab=${lab:-amd} kernel=${kernel:-base}
	read -r program test < <(sed -n 's/^# kills: *//p' "$patch") || true
	if [ -z "$test" ]; then test=$program program=vm2vm_test; fi
	[ -n "$test" ] || { result bad "$name: ERROR: it has no line '# kills: TEST'"; return; }
	known "$name" "$patch" virt arch include tools patches/linux-6.12 && return
	trials=$(sed -n 's/^# trials: */VM2VM_TRIALS=/p' "$patch")
	log=$LOGS/mutant-$name.log
	if [[ " $prepared " != *" $kernel "* ]]; then
		(prepare "$kernel")
		say "mutants: building what they share ($kernel)"
		quietly mutants build "$kernel" "$LOGS/mutants-$kernel.log" amd intel
		prepared="$prepared $kernel"
	fi
	if ! mutate "$patch" "$LINUX" "$src"; then
		result bad "$name: ERROR: it does not apply ($log)"
	elif ! build "$kernel" "$log" "$lab"; then
		result bad "$name: ERROR: it does not build ($log)"
	else
		LAB=$lab MODULES=$work/$kernel KERNEL=$kernel TIMEOUT=${TIMEOUT:-300} LOG=$LOGS/console-mutant-$name.log \
			PARAMS=$(sed -n 's/^# params: *//p' "$patch") CMD="$trials $SELFTESTS/$program -t $test" \
			run "$ROOT/lab/machine/run.sh"
		verdict "$name" "$test" "$status"
	fi
	restore
}

# try_qemu NAME PATCH
try_qemu() {
	local name=$1 patch=$2 script test status=0
	log=$LOGS/mutant-$name.log
	read -r script test < <(sed -n 's/^# kills: *//p' "$patch") || true
	[ -n "$test" ] || { result bad "$name: ERROR: it has no line '# kills: SCRIPT TEST'"; return; }
	known "$name" "$patch" include/uapi patches/qemu-10.0 qemu guest lab/vms && return
	if ! mutate "$patch" "$BUILD/qemu-src" "$work/qemu/src"; then
		result bad "$name: ERROR: it does not apply ($log)"
	elif ! build_qemu "$log"; then
		result bad "$name: ERROR: it does not build ($log)"
	else
		QEMU=$work/qemu/build/qemu-system-x86_64 TIMEOUT=${TIMEOUT:-300} LOG=$LOGS/console-mutant-$name.log \
			run "$ROOT/lab/vms/links.sh" "$script" "$test"
		verdict "$name" "$test" "$status"
	fi
	restore
}

# try_guest NAME PATCH
try_guest() {
	local name=$1 patch=$2 script test status=0
	log=$LOGS/mutant-$name.log
	read -r script test < <(sed -n 's/^# kills: *//p' "$patch") || true
	[ -n "$test" ] || { result bad "$name: ERROR: it has no line '# kills: SCRIPT TEST'"; return; }
	known "$name" "$patch" include/uapi patches/qemu-10.0 qemu guest lab/vms && return
	rm -rf "$work/guest"
	mkdir -p "$work/guest"
	cp -r "$ROOT/guest" "$work/guest/source"
	if ! mutate "$patch" "$ROOT/guest" "$work/guest/source"; then
		result bad "$name: ERROR: it does not apply ($log)"
	elif [ "$script" = rings ]; then
		GUEST_SOURCE=$work/guest/source timeout 60 "$ROOT/lab/check/rings.sh" >"$log" 2>&1 || status=$?
		verdict "$name" "$test" "$status"
	else
		LONG=1 GUEST_SOURCE=$work/guest/source GUEST_OUT=$work/guest/out TIMEOUT=${TIMEOUT:-600} \
			LOG=$LOGS/console-mutant-$name.log run "$ROOT/lab/vms/links.sh" "$script" "$test"
		verdict "$name" "$test" "$status"
	fi
	files=
}

prepared=
for patch in "$ROOT"/lab/mutants/kernel/*.patch; do
	name=$(basename "$patch" .patch)
	[ "${MUTANTS:-kernel}" = kernel ] || continue
	# shellcheck disable=SC2053
	[[ $name = ${MUTANT:-*} ]] || continue
	try_kernel "$name" "$patch"
done
for patch in "$ROOT"/lab/mutants/qemu/*.patch; do
	name=qemu/$(basename "$patch" .patch)
	[ "${MUTANTS:-qemu}" = qemu ] || continue
	# shellcheck disable=SC2053
	[[ $name = ${MUTANT:-*} ]] || continue
	[[ " $prepared " = *" qemu "* ]] || (prepare_qemu)
	prepared="$prepared qemu"
	try_qemu "qemu-${name#qemu/}" "$patch"
done
for patch in "$ROOT"/lab/mutants/guest/*.patch; do
	name=guest/$(basename "$patch" .patch)
	[ "${MUTANTS:-guest}" = guest ] || continue
	# shellcheck disable=SC2053
	[[ $name = ${MUTANT:-*} ]] || continue
	try_guest "guest-${name#guest/}" "$patch"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
