#!/bin/bash
# guest.sh: build the programs for guests, statically, into build/guest
. "$(dirname "$0")/../lib.sh"
lock guest
out=$BUILD/guest
mkdir -p "$out"

flags="-std=gnu11 -O2 -static -Wall -Wextra -Wno-unused-parameter -Werror"
key=$(cd "$ROOT/guest" && { echo "$flags"; cat ./*.[ch] ../lab/vms/*.c; cc --version; } | sha256sum)
if [ -x "$out/vm2vm" ] && [ "$(cat "$out/vm2vm.key" 2>/dev/null)" = "$key" ]; then exit 0; fi
rm -f "$out/vm2vm.key"
# shellcheck disable=SC2086
quietly guest cc $flags -o "$out/vm2vm" "$ROOT"/guest/*.c
# Programs of tests, for either guest
for f in "$ROOT"/lab/vms/*.c; do
	# shellcheck disable=SC2086
	quietly guest cc $flags -pthread -o "$out/$(basename "$f" .c)" "$f"
done
echo "$key" >"$out/vm2vm.key"
