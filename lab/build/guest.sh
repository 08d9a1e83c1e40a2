#!/bin/bash
# guest.sh: build the programs for guests, statically, into build/guest
#
# GUEST_SOURCE  in place of guest/          GUEST_OUT  and of build/guest
. "$(dirname "$0")/../lib.sh"
lock guest
src=${GUEST_SOURCE:-$ROOT/guest}
out=${GUEST_OUT:-$BUILD/guest}
mkdir -p "$out"

flags="-std=gnu11 -O2 -static -Wall -Wextra -Wno-unused-parameter -Werror"
key=$(cd "$src" && { echo "$flags"; cat ./*.[ch] region/*.[ch] "$ROOT"/lab/vms/*.c; cc --version; } | sha256sum)
if [ -x "$out/vm2vm" ] && [ "$(cat "$out/vm2vm.key" 2>/dev/null)" = "$key" ]; then exit 0; fi
rm -f "$out/vm2vm.key"
# shellcheck disable=SC2086
quietly guest cc $flags -o "$out/vm2vm" "$src"/*.c
# shellcheck disable=SC2086
quietly guest cc $flags -pthread -o "$out/vm2vm-region" "$src"/region/*.c "$src"/vm2vm_{backend,dev,pattern,ring}.c
# Programs of tests, for either guest
for f in "$ROOT"/lab/vms/*.c; do
	# shellcheck disable=SC2086
	quietly guest cc $flags -pthread -o "$out/$(basename "$f" .c)" "$f"
done
echo "$key" >"$out/vm2vm.key"
