#!/bin/bash
# vmm-mutants.sh: seed bugs in our part of QEMU, and see that the tests of lab/ notice.
#
# lab/mutants/qemu/NAME.patch applies in qemu/, and says "# kills: SCRIPT TEST".
# MUTANT=qemu/NAME takes only that one.
. "$(dirname "$0")/../lib.sh"
"$ROOT/lab/build/vmm.sh" >&2
work=$BUILD/mutants/qemu

# A source and a build of its own
if [ "$(cat "$work/key" 2>/dev/null)" != "$(cat "$BUILD/qemu/built.key")" ]; then
	say "mutants: preparing QEMU"
	rm -rf "$work"
	mkdir -p "$work"
	cp -a "$BUILD/qemu-src" "$work/src"
	mkdir "$work/build"
	# shellcheck disable=SC2046
	(cd "$work/build" && quietly mutants-qemu-configure "$work/src/configure" $(cat "$BUILD/qemu/options"))
	quietly mutants-qemu ninja -C "$work/build" -j"$JOBS" qemu-system-x86_64
	cat "$BUILD/qemu/built.key" >"$work/key"
fi

passed=0 failed=0
result() {
	if [ "$1" = ok ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
	say "$2"
}

try() {
	local name=$1 patch=$2 script test status=0 log=$LOGS/mutant-qemu-$1.log files f
	read -r script test < <(sed -n 's/^# kills: *//p' "$patch") || true
	files=$(sed -n 's|^+++ b/\([^\t]*\).*|\1|p' "$patch")
	if ! patch -s -p1 -F0 -d "$work/src" --no-backup-if-mismatch -r - <"$patch" >"$log" 2>&1; then
		status=apply
	elif ! ninja -C "$work/build" -j"$JOBS" qemu-system-x86_64 >"$log" 2>&1; then
		status=build
	fi
	if [ "$status" = 0 ]; then
		QEMU=$work/build/qemu-system-x86_64 TIMEOUT=${TIMEOUT:-300} LOG=$LOGS/console-mutant-qemu-$name.log \
			"$ROOT/lab/vms/links.sh" "$script" "$test" >"$log" 2>&1 || status=$?
	fi
	for f in $files; do put "$BUILD/qemu-src/$f" "$work/src/$f" || true; done
	case $status in
	apply | build) result bad "$name: ERROR: it does not $status ($log)" ;;
	*)
		if grep -aq "^not ok .*$test" "$log"; then
			result ok "$name: killed by $test"
		elif [ "$status" = 0 ] && grep -aq "^ok .*$test" "$log"; then
			result bad "$name: SURVIVED $test ($log)"
		else
			result bad "$name: ERROR: $script $test exits with $status and no result ($log)"
		fi ;;
	esac
}

for patch in "$ROOT"/lab/mutants/qemu/*.patch; do
	name=$(basename "$patch" .patch)
	[ -z "${MUTANT:-}" ] || [ "$MUTANT" = "qemu/$name" ] || continue
	try "$name" "$patch"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
