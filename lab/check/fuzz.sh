#!/bin/bash
# fuzz.sh: libFuzzer speaks to a backend, for FUZZ seconds (60). What it found of interest
# is kept in build/fuzz and is where it starts the next time.
. "$(dirname "$0")/../lib.sh"
"$ROOT/lab/build/deps.sh" fuzz >&2
"$ROOT/lab/build/vmm.sh" >&2
out=$BUILD/fuzz src=$BUILD/qemu-src qemu=$BUILD/qemu
mkdir -p "$out/corpus"

flags=$(pkg-config --cflags glib-2.0)
# QEMU's utilities come as they were built, without the checks
# shellcheck disable=SC2086,SC2046
quietly fuzz clang -g -O1 -std=gnu11 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -D_GNU_SOURCE \
	-Wno-unused-function -I"$qemu" -I"$qemu/qapi" -I"$src/tests/fuzz" -iquote "$src" -I"$src/include" -isystem "$src/linux-headers" \
	-I"$src/host/include/x86_64" -I"$src/host/include/generic" $flags -o "$out/vm2vm-peer" \
	"$src/tests/fuzz/vm2vm-peer.c" "$qemu"/libqom.a.p/*.o "$qemu/libqemuutil.a" \
	$(pkg-config --libs glib-2.0 gthread-2.0) -lm -pthread
cd "$out" || exit
status=0
ASAN_OPTIONS=detect_leaks=1 ./vm2vm-peer -max_total_time="${FUZZ:-60}" -max_len=2048 -rss_limit_mb=4096 \
	-print_final_stats=1 -artifact_prefix="$out/" corpus >"$LOGS/fuzz-run.log" 2>&1 </dev/null || status=$?
echo "TAP version 13"
grep -E 'number_of_executed_units|cov: ' "$LOGS/fuzz-run.log" | tail -n 2 | sed 's/^/# /'
if [ "$status" = 0 ]; then
	echo "ok 1 backend"
else
	tail -n 60 "$LOGS/fuzz-run.log" | sed 's/^/# /'
	echo "not ok 1 backend"
fi
echo "1..1"
exit "$status"
