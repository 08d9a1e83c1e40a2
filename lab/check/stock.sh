#!/bin/bash
# stock.sh: every KVM selftest of Linux, on KVM without the series and with it,
# gives the same result: the exit status, and each result of its own (TAP).
#
# lab/check/stock.list says what is special about which test. A test that is not in it
# must pass on both. STOCK='regex' runs only the tests whose name matches.
. "$(dirname "$0")/../lib.sh"
list=$ROOT/lab/check/stock.list work=$BUILD/stock
makefile=$PRISTINE/tools/testing/selftests/kvm/Makefile
seconds=${STOCK_SECONDS:-100}		# for one test
most_crashes=10

# entry NAME KIND: the rest of NAME's line of that kind in the list, or nothing
entry() { awk -v n="$1" -v k="$2" '$1 == n && $2 == k { $1 = $2 = ""; sub(/^ */, ""); print }' "$list"; }
is() { [ -n "$(entry "$1" "$2")" ]; }

tests=$(sed -n 's/^TEST\(_GEN\)\?_PROGS\(_EXTENDED\)\?_x86_64 *+\?= *//p' "$makefile")
[ "$(wc -w <<<"$tests")" -gt 80 ] || die "$makefile: cannot read the list of tests"

# The list names what there is, and says why.
while read -r name kind rest; do
	grep -qxF "$name" <<<"$tests" || die "$list: there is no test $name"
	case $kind in out | skips | fails | args) ;; *) die "$list: $name: what is '$kind'?" ;; esac
	[ -n "$rest" ] || die "$list: $name: no reason"
done < <(grep -v '^#\|^$' "$list")
twice=$(grep -v '^#\|^$' "$list" | awk '$2 != "args" { print $1 }' | sort | uniq -d)
[ -z "$twice" ] || die "$list: twice: $twice"

run=
for t in $tests; do
	[[ $t =~ ${STOCK:-.} ]] || continue
	is "$t" out || run="$run $t"
done
[ -n "$run" ] || die "nothing to run"

say "stock: building"
programs=$(tr ' ' '\n' <<<"$run" | grep -v '\.sh$\|^$')
# shellcheck disable=SC2086
"$ROOT/lab/build/selftests.sh" $programs x86_64/nx_huge_pages_test
for t in $run; do
	case $t in *.sh) put "${makefile%/*}/$t" "$SELFTESTS/$t" || true ;; esac
	[ -x "$SELFTESTS/$t" ] || die "$t was not built"
done
"$ROOT/lab/build/plain.sh"
rm -rf "$work"
mkdir -p "$work/without" "$work/with"

# What runs in the lab: the tests in the file $1, one after the other. A result
# is in its file before the next test begins, so that a crash loses none.
cat >"$work/runner" <<'END'
cd "$2" || exit 1
while read -r dir name args; do
	echo "$name" >"$dir/begun"
	echo 600 >/proc/sys/vm/nr_hugepages
	# shellcheck disable=SC2086
	timeout -k 5 "$3" "./$name" $args >"$dir/${name##*/}.log" 2>&1 </dev/null
	echo "$name $?" >>"$dir/results"
	echo 0 >/proc/sys/vm/nr_hugepages
done <"$1"
END

# run_set SET MODULES TEST...: results in $work/SET/results
run_set() {
	local set=$1 dir=$work/$1 modules=$2 crashes=0 t left
	shift 2
	touch "$dir/results"
	while :; do
		left=
		: >"$dir/todo"
		rm -f "$dir/begun"
		for t; do
			if ! grep -q "^$t " "$dir/results"; then
				left="$left $t"
				echo "$dir $t $(entry "$t" args)" >>"$dir/todo"
			fi
		done
		[ -n "$left" ] || return 0
		LAB=amd KERNEL=base MODULES=$modules COUNT='' SMP=2 MEM=4G TIMEOUT=${TIMEOUT:-3000} LOG=$dir/console.log \
			CMD="bash $work/runner $dir/todo $SELFTESTS $seconds" \
			"$ROOT/lab/machine/run.sh" >"$dir/lab.log" 2>&1 && continue
		# The kernel crashed in the test that had begun, or complained after the
		# last one, or the machine did not come up
		t=$(cat "$dir/begun" 2>/dev/null) || t=boot
		! grep -q "^$t " "$dir/results" || t=end
		say "stock: $set the series: the lab stopped at $t: $(sed -n 's/^lab: FAILED: \([^;]*\);.*/\1/p' "$dir/lab.log")"
		[ "$t" = boot ] || echo "$t crash" >>"$dir/results"
		cp "$dir/console.log" "$dir/${t##*/}.console"
		crashes=$((crashes + 1))
		[ $crashes -lt $most_crashes ] || die "too many crashes: $dir"
	done
}

# result SET TEST: exit status and TAP results
result() {
	sed -n "s|^$2 ||p" "$work/$1/results" | tail -n 1
	grep -aE '^(not )?ok [0-9]+' "$work/$1/${2##*/}.log" 2>/dev/null || true
}
same() { [ "$(result without "$1")" = "$(result with "$1")" ]; }
status() { result "$1" "$2" | head -n 1; }

run_both() {
	run_set without "$BUILD/plain" "$@"
	run_set with "$BUILD/base" "$@"
}
say "stock: running $(wc -w <<<"$run") tests, without the series and with it"
# shellcheck disable=SC2086
run_both $run

# What differs, or does not end, has a second chance: some tests are about time,
# which an emulated machine does not keep well.
again=
for t in $run; do
	if ! same "$t" || [[ $(status with "$t") =~ ^(124|137)$ ]]; then again="$again $t"; fi
done
if [ -n "$again" ]; then
	say "stock: once more:$again"
	for s in without with; do
		for t in $again; do sed -i "\|^$t |d" "$work/$s/results"; done
	done
	# shellcheck disable=SC2086
	run_both $again
fi

passed=0 failed=0 skipped=0
# row TEST WITHOUT WITH VERDICT
row() {
	printf '%-45s %7s %7s  %s\n' "$@"
	case $4 in
	ok*) passed=$((passed + 1)) ;;
	skipped*) skipped=$((skipped + 1)) ;;
	*) failed=$((failed + 1)) ;;
	esac
}

verdict() {
	local t=$1 a=$2 b=$3 note=
	[[ " $again " != *" $t "* ]] || note=" (second try)"
	if ! same "$t"; then
		row "$t" "$a" "$b" "NOT OK: it differs: $work"
	elif [[ $a =~ ^(crash|124|137)$ ]]; then
		row "$t" "$a" "$b" "NOT OK: it does not end"
	elif [ "$a" = 4 ] && is "$t" skips; then
		row "$t" "$a" "$b" "skipped by itself: $(entry "$t" skips)"
	elif [ "$a" != 0 ] && [ "$a" != 4 ] && is "$t" fails; then
		row "$t" "$a" "$b" "ok$note, fails on both: $(entry "$t" fails)"
	elif [ "$a" = 0 ] && ! is "$t" skips && ! is "$t" fails; then
		row "$t" "$a" "$b" "ok$note"
	else
		row "$t" "$a" "$b" "NOT OK: not what $list says"
	fi
}

printf '%-45s %7s %7s\n' "exit status" without with
for t in $tests; do
	[[ $t =~ ${STOCK:-.} ]] || continue
	if is "$t" out; then
		row "$t" - - "skipped: $(entry "$t" out)"
	else
		verdict "$t" "$(status without "$t")" "$(status with "$t")"
	fi
done
for s in without with; do
	! grep -q '^end crash' "$work/$s/results" || row "(the end, $s the series)" - - "NOT OK: $work/$s/lab.log"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
