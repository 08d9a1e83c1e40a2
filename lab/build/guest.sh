#!/bin/bash
# guest.sh: build the programs for guests, statically, into build/guest
. "$(dirname "$0")/../lib.sh"
lock guest
out=$BUILD/guest
mkdir -p "$out"

flags="-std=gnu11 -O2 -static -Wall -Wextra -Wno-unused-parameter -Werror"
key=$(cd "$ROOT/guest" && { echo "$flags"; cat ./*.[ch] ../lab/vms/verify.c; cc --version; } | sha256sum)
if [ -x "$out/vm2vm" ] && [ "$(cat "$out/vm2vm.key" 2>/dev/null)" = "$key" ]; then exit 0; fi
rm -f "$out/vm2vm.key"
# shellcheck disable=SC2086
quietly guest cc $flags -o "$out/vm2vm" "$ROOT"/guest/*.c
# A disk that is written to and looked at, in tests
# shellcheck disable=SC2086
quietly guest cc $flags -pthread -o "$out/verify" "$ROOT"/lab/vms/verify.c
echo "$key" >"$out/vm2vm.key"
