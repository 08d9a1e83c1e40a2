#!/bin/bash
# mutants.sh: break our code in the ways of lab/mutants/*.patch, one at a time,
# and see the suite notice. Each patch says on top what must notice:
#
#	# kills: [PROGRAM] TEST
#
# PROGRAM (vm2vm_test if not given) runs TEST only, in the base lab, with KVM's
# modules built from the changed source. MUTANT=name tries just that one.
. "$(dirname "$0")/lib.sh"
work=$BUILD/mutants
src=$work/linux out=$work/base

(
	lock
	# A tree of hard links, in which changed files are replaced, never written to
	rm -rf "$src.new"
	mkdir -p "$work"
	if [ "$(cat "$work/key" 2>/dev/null)" != "$(cat "$BUILD/base/config.key")" ]; then
		say "mutants: preparing"
		rm -rf "$src" "$out"
		cp -al "$LINUX" "$src"
		mkdir -p "$out"
		cp "$BUILD/base/.config" "$out/"
		cat "$BUILD/base/config.key" >"$work/key"
		: >"$work/files"
	fi
	# What has changed since
	cat "$BUILD/tree.placed" "$work/files" | sort -u | while read -r f; do
		if [ -f "$LINUX/$f" ]; then put "$LINUX/$f" "$src/$f" || true; else rm -f "$src/$f"; fi
	done
	cp "$BUILD/tree.placed" "$work/files"
	# modpost looks up the kernel's own symbols there
	cmp -s "$BUILD/base/vmlinux.o" "$out/vmlinux.o" || cp "$BUILD/base/vmlinux.o" "$out/"
)

modules="arch/x86/kvm/kvm.ko arch/x86/kvm/kvm-amd.ko virt/lib/irqbypass.ko"
# shellcheck disable=SC2086
build() { make -s -j"$JOBS" -C "$src" O="$out" $modules >"$1" 2>&1 </dev/null; }

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
	local name=$1 patch=$2 program=vm2vm_test test status=0
	read -r program test < <(sed -n 's/^# kills: *//p' "$patch") || true
	if [ -z "$test" ]; then test=$program program=vm2vm_test; fi
	[ -n "$test" ] || { result bad "$name: ERROR: it has no line '# kills: TEST'"; return; }
	log=$LOGS/mutant-$name.log
	if ! mutate "$patch"; then
		restore
		result bad "$name: ERROR: it does not apply ($log)"
		return
	fi
	if ! build "$log"; then
		restore
		result bad "$name: ERROR: it does not build ($log)"
		return
	fi
	MODULES=$out KERNEL=base TIMEOUT=${TIMEOUT:-300} LOG=$LOGS/console-mutant-$name.log \
		CMD="$SELFTESTS/$program -t $test" "$ROOT/lab/run.sh" >"$log" 2>&1 || status=$?
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

say "mutants: building what they share"
quietly mutants build "$LOGS/mutants-base.log"
for patch in "$ROOT"/lab/mutants/*.patch; do
	[ -f "$patch" ] || continue
	name=$(basename "$patch" .patch)
	[ -z "${MUTANT:-}" ] || [ "$MUTANT" = "$name" ] || continue
	try "$name" "$patch"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
