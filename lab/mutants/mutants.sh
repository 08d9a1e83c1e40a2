#!/bin/bash
# mutants.sh: break our code in the ways of lab/mutants/kernel/*.patch, one at a time,
# and see the suite notice. Each patch says on top what must notice:
#
#	# kills: [PROGRAM] TEST
#	# where: LAB KERNEL
#
# PROGRAM (vm2vm_test if not given) runs TEST only, there (amd base if not given), with
# KVM's modules built from the changed source. MUTANT=name tries just that one.
. "$(dirname "$0")/../lib.sh"
work=$BUILD/mutants
src=$work/linux

# prepare KERNEL: make $src what is in $LINUX now, and $work/KERNEL ready to build
prepare() {
	lock kernels
	mkdir -p "$work/$1"
	# A tree of hard links, in which changed files are replaced, never written to
	if [ "$(cat "$work/key" 2>/dev/null)" != "$(cat "$BUILD/pristine.key")" ]; then
		say "mutants: preparing"
		rm -rf "$src"
		cp -al "$LINUX" "$src"
		cat "$BUILD/pristine.key" >"$work/key"
		: >"$work/files"
	fi
	if [ "$(cat "$work/$1/key" 2>/dev/null)" != "$(cat "$BUILD/$1/config.key")" ]; then
		rm -rf "${work:?}/$1"
		mkdir "$work/$1"
		cp "$BUILD/$1/.config" "$work/$1/"
		cat "$BUILD/$1/config.key" >"$work/$1/key"
	fi
	# What has changed since
	cat "$BUILD/tree.placed" "$work/files" | sort -u | while read -r f; do
		if [ -f "$LINUX/$f" ]; then put "$LINUX/$f" "$src/$f" || true; else rm -f "$src/$f"; fi
	done
	cp "$BUILD/tree.placed" "$work/files"
	# modpost looks up the kernel's own symbols there
	cmp -s "$BUILD/$1/vmlinux.o" "$work/$1/vmlinux.o" || cp "$BUILD/$1/vmlinux.o" "$work/$1/"
}

# build LAB KERNEL LOG
build() {
	local vendor=$1

	make -s -j"$JOBS" -C "$src" O="$work/$2" arch/x86/kvm/kvm.ko arch/x86/kvm/kvm-"$vendor".ko \
		virt/lib/irqbypass.ko >"$3" 2>&1 </dev/null
}

passed=0 failed=0
result() {
	if [ "$1" = ok ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
	say "$2"
}

# mutate PATCH: apply the patch to copies of what it touches
mutate() {
	files=$(sed -n 's|^+++ b/\([^\t]*\).*|\1|p' "$1")
	[ -n "$files" ] || return 1
	for f in $files; do
		[ -f "$LINUX/$f" ] || return 1
		cp "$LINUX/$f" "$src/$f.new" && mv -f "$src/$f.new" "$src/$f"
	done
	patch -s -p1 -F0 -d "$src" --no-backup-if-mismatch -r - <"$1" >"$log" 2>&1
}

restore() {
	for f in $files; do put "$LINUX/$f" "$src/$f" || true; done
}
files=
trap restore EXIT

try() {
	local name=$1 patch=$2 program=vm2vm_test test lab kernel status=0
	read -r lab kernel < <(sed -n 's/^# where: *//p' "$patch") || true
	lab=${lab:-amd} kernel=${kernel:-base}
	read -r program test < <(sed -n 's/^# kills: *//p' "$patch") || true
	if [ -z "$test" ]; then test=$program program=vm2vm_test; fi
	[ -n "$test" ] || { result bad "$name: ERROR: it has no line '# kills: TEST'"; return; }
	log=$LOGS/mutant-$name.log
	if [[ " $prepared " != *" $lab-$kernel "* ]]; then
		(prepare "$kernel")
		say "mutants: building what they share ($lab, $kernel)"
		quietly mutants build "$lab" "$kernel" "$LOGS/mutants-$kernel.log"
		prepared="$prepared $lab-$kernel"
	fi
	if ! mutate "$patch"; then
		restore
		result bad "$name: ERROR: it does not apply ($log)"
		return
	fi
	if ! build "$lab" "$kernel" "$log"; then
		restore
		result bad "$name: ERROR: it does not build ($log)"
		return
	fi
	LAB=$lab MODULES=$work/$kernel KERNEL=$kernel TIMEOUT=${TIMEOUT:-300} LOG=$LOGS/console-mutant-$name.log \
		CMD="$SELFTESTS/$program -t $test" "$ROOT/lab/machine/run.sh" >"$log" 2>&1 || status=$?
	restore
	if grep -aq "^not ok .*$test" "$log"; then
		result ok "$name: killed by $test"
	elif [ "$status" = 125 ]; then
		result ok "$name: killed by $test ($(sed -n 's/^lab: FAILED: \([^;]*\);.*/\1/p' "$log"))"
	elif [ "$status" = 0 ] && grep -aq "^ok .*$test" "$log"; then
		result bad "$name: SURVIVED $test ($log)"
	else
		result bad "$name: ERROR: $program -t $test exits with $status and no result ($log)"
	fi
}

prepared=
for patch in "$ROOT"/lab/mutants/kernel/*.patch; do
	[ -f "$patch" ] || continue
	name=$(basename "$patch" .patch)
	[ -z "${MUTANT:-}" ] || [ "$MUTANT" = "$name" ] || continue
	try "$name" "$patch"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
