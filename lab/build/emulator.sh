#!/bin/bash
# emulator.sh: print where there is a QEMU 10 that emulates the lab's machine, as a directory for
# PATH: nothing if the machine's own is one, or else Debian 12's of its backports, in build/emulator.
#
# QEMU 7.2 more often than 10 has a guest die or stand still when it counts instructions: see
# vm2vm-compared.rst.
. "$(dirname "$0")/../lib.sh"
. "$ROOT/lab/build/source.sh"
dir=$BUILD/emulator
newest() { [ "$("$1" --version 2>/dev/null | sed -n 's/.*version \([0-9]*\)\..*/\1/p')" -ge 10 ] 2>/dev/null; }

if newest qemu-system-x86_64; then exit 0; fi
lock emulator
if ! newest "$dir/bin/qemu-system-x86_64"; then
	say "emulator: getting QEMU 10 from Debian 12's backports" >&2
	rm -rf "$dir"
	apt_here "$dir/apt" bookworm-backports deb
	if ! { get update && cd "$dir/apt" && get download qemu-system-x86 qemu-system-common qemu-system-data; } >"$LOGS/emulator.log" 2>&1; then
		tail -n 3 "$LOGS/emulator.log" >&2
		die "there is no QEMU 10 to be had"
	fi
	for f in "$dir"/apt/*.deb; do dpkg -x "$f" "$dir/root"; done
	rm -rf "$dir/apt"
	mkdir -p "$dir/bin"
	printf '#!/bin/sh\nexec %q -L %q -L /usr/share/seabios "$@"\n' "$dir/root/usr/bin/qemu-system-x86_64" "$dir/root/usr/share/qemu" \
		>"$dir/bin/qemu-system-x86_64"
	chmod +x "$dir/bin/qemu-system-x86_64"
	newest "$dir/bin/qemu-system-x86_64" || die "QEMU 10 does not start: $("$dir/bin/qemu-system-x86_64" --version 2>&1 | head -n 1)"
fi
echo "$dir/bin"
