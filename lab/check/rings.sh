#!/bin/bash
# rings.sh: the rings of the guest's program by themselves, with ASAN and UBSAN; GUEST_SOURCE: of that
. "$(dirname "$0")/../lib.sh"
out=$(mktemp "$BUILD/rings.XXXXXX")
trap 'rm -f "$out"' EXIT
cc -std=gnu11 -O1 -g -fsanitize=address,undefined -Wall -Wextra -Wno-unused-parameter -Werror -o "$out" \
	"${GUEST_SOURCE:-$ROOT/guest}"/{tests/ring_test,vm2vm_ring,vm2vm_inflight}.c
ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1 "$out"
