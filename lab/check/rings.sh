#!/bin/bash
# rings.sh: the rings of the guest's program by themselves, with ASAN and UBSAN
. "$(dirname "$0")/../lib.sh"
out=$(mktemp "$BUILD/rings.XXXXXX")
trap 'rm -f "$out"' EXIT
cc -std=gnu11 -O1 -g -fsanitize=address,undefined -Wall -Wextra -Wno-unused-parameter -Werror -o "$out" \
	"$ROOT"/guest/tests/ring_test.c "$ROOT"/guest/vm2vm_{ring,inflight}.c
ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1 "$out"
