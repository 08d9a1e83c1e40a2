#!/bin/bash
# kcsan.sh: run tests on the kernel that detects data races, and judge what it
# reports. A report counts if a function of ours is in the two topmost frames of one
# of its stacks. The others, of the rest of Linux, are listed.
#
#   TESTS  what to run          VM2VM_TRIALS  how often they do what they repeat
. "$(dirname "$0")/../lib.sh"
cd "$ROOT"
TESTS=${TESTS:-vm2vm_revoke_test vm2vm_race_test vm2vm_test vm2vm_dirty_test}
console=$LOGS/console-kcsan.log

# One access in so many is watched, by default one in 4000
skip=${SKIP_WATCH:-1000}
# shellcheck disable=SC2016
cmd='echo "$1" >/sys/module/kcsan/parameters/skip_watch
	echo on >/sys/kernel/debug/kcsan || exit
	status=0
	for t in $2; do "$t" || status=1; done
	echo off >/sys/kernel/debug/kcsan
	cat /sys/kernel/debug/kcsan
	exit $status'
programs=
for t in $TESTS; do programs="$programs $SELFTESTS/$t"; done

status=0
KERNEL=kcsan LOG=$console TIMEOUT=${TIMEOUT:-900} \
	CMD="export VM2VM_TRIALS=${VM2VM_TRIALS:-20}; set -- $skip '$programs'; $cmd" lab/machine/run.sh || status=$?
[ "$status" = 0 ] || die "the tests failed: exit status $status"

# Every function that our files define
find "$BUILD/kcsan" -path '*kvm/*' -name 'vm2vm*.o' -exec nm {} + | awk 'tolower($2) == "t" { print $3 }' |
	sort -u >"$LOGS/kcsan.functions"
[ -s "$LOGS/kcsan.functions" ] || die "no functions of ours in $BUILD/kcsan"

# The title of each report, and whether it is ours
tr -d '\r' <"$console" | awk '
	function end() {
		if (title != "") print (hit ? "ours" : "other") ": " title
		title = ""
	}
	NR == FNR { ours[$1] = 1; next }
	/BUG: KCSAN: / { end(); title = $0; sub(/.*BUG: KCSAN: /, "", title); hit = 0; depth = 2; next }
	/^=+$/ { end() }
	title == "" { next }
	/ by (task|interrupt)/ { depth = 0; next }
	depth < 2 && match($1, /\+0x/) { depth++; if (substr($1, 1, RSTART - 1) in ours) hit = 1 }
	END { end() }' "$LOGS/kcsan.functions" - >"$LOGS/kcsan.reports"

sort "$LOGS/kcsan.reports" | uniq -c
n=$(grep -c '^ours' "$LOGS/kcsan.reports" || true)
echo "$n reports in our files, $(grep -c '^other' "$LOGS/kcsan.reports" || true) in others ($console)"
[ "$n" = 0 ]
