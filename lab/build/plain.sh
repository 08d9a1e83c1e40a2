#!/bin/bash
# plain.sh: build KVM's modules of the untouched source, for the base kernel, in
# build/plain: what MODULES= of lab/machine/run.sh loads to see KVM without the series.
#
# The base kernel under them may be ours if the series changes nothing that is
# built into it. Objects that include a header of the series without being part
# of KVM must come out the same from both sources; that is checked.
. "$(dirname "$0")/../lib.sh"
lock plain
base=$BUILD/base out=$BUILD/plain
modules="arch/x86/kvm/kvm.ko arch/x86/kvm/kvm-amd.ko arch/x86/kvm/kvm-intel.ko virt/lib/irqbypass.ko"

kmake() { make -s -j"$JOBS" -C "$PRISTINE" O="$out" "${CACHED[@]}" "$@"; }

key=$(cat "$BUILD/pristine.key" "$base/config.key" | sha256sum)
if [ "$(cat "$out/config.key" 2>/dev/null)" != "$key" ]; then
	rm -rf "$out"
	mkdir -p "$out"
	cp "$base/.config" "$out/"
	quietly plain-config kmake olddefconfig
	echo "$key" >"$out/config.key"
fi
# modpost looks up the kernel's own symbols there
cmp -s "$base/vmlinux.o" "$out/vmlinux.o" || cp "$base/vmlinux.o" "$out/"

headers=$(grep '\.h$' "$BUILD/tree.placed" | sed 's/[.]/\\&/g' | paste -sd '|')
shared=$(cd "$base" && find . \( -path ./arch/x86/kvm -o -path ./virt \) -prune -o -name '.*.o.cmd' -print0 |
	xargs -0 grep -lE "/($headers)( |$)" | sed 's|^\./||; s|\.\([^/]*\)\.cmd$|\1|' | sort)

# kbuild takes a while to find that there is nothing to do
stamp=$( (stat -c "%s %Y" "$base/vmlinux.o"; cat "$BUILD/tree.placed" "$0") | sha256sum)
if [ "$(cat "$out/built.key" 2>/dev/null)" = "$stamp" ]; then exit 0; fi
rm -f "$out/built.key"
say "plain: building KVM without the series"
# shellcheck disable=SC2086
quietly plain kmake $modules $shared

disassemble() { objdump -d -r --no-show-raw-insn "$1" | tail -n +4; }
for o in $shared; do
	cmp -s <(disassemble "$base/$o") <(disassemble "$out/$o") ||
		die "the series changes $o, which is in the kernel itself"
done
! grep -q vm2vm "$out/arch/x86/kvm/kvm.ko" || die "$out/arch/x86/kvm/kvm.ko has vm2vm in it"
echo "$stamp" >"$out/built.key"
