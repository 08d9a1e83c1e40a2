#!/bin/bash
# module.sh KERNEL [W=1 C=1]: build the guest's driver, guest/linux, for the kernel in
# build/KERNEL, as build/KERNEL/guest/linux/vm2vm.ko. With arguments for make, what the
# compilers say goes to stdout.
. "$(dirname "$0")/../lib.sh"
out=$BUILD/$1
shift
lock "module-${out##*/}"
[ -f "$out/Module.symvers" ] || die "there is no kernel in $out"
stage=$out/guest

key=$( (cd "$ROOT/guest" && cat vm2vm_pci.h vm2vm_uapi.h linux/*.[ch] linux/Kbuild; cat "$out/built.key"; echo "$*") | sha256sum)
if [ -f "$stage/linux/vm2vm.ko" ] && [ "$(cat "$stage/key" 2>/dev/null)" = "$key" ]; then exit 0; fi
rm -rf "$stage"
mkdir -p "$stage/linux"
cp "$ROOT"/guest/vm2vm_{pci,uapi}.h "$stage"
cp "$ROOT"/guest/linux/*.[ch] "$ROOT/guest/linux/Kbuild" "$stage/linux"
build() { make -s -j"$JOBS" -C "$LINUX" O="$out" M="$stage/linux" "${CACHED[@]}" "$@" modules; }
if [ $# = 0 ]; then
	quietly "module-${out##*/}" build
else
	build "$@" 2>&1 </dev/null
fi
echo "$key" >"$stage/key"
