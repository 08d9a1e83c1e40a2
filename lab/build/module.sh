#!/bin/bash
# module.sh KERNEL [W=1 C=1]: build the guest's driver, guest/linux, for the kernel in
# build/KERNEL, as build/guest/KERNEL/linux/vm2vm.ko. With arguments for make it is built
# elsewhere, and what the compilers say goes to stdout.
#
# GUEST_SOURCE and GUEST_OUT: as in guest.sh
. "$(dirname "$0")/../lib.sh"
name=$1
shift
lock "module-$name"
[ -f "$BUILD/$name/Module.symvers" ] || die "there is no kernel in $BUILD/$name"
src=${GUEST_SOURCE:-$ROOT/guest}
stage=${GUEST_OUT:-$BUILD/guest}/${1:+lint-}$name

key=$( (cd "$src" && cat vm2vm_pci.h vm2vm_uapi.h linux/*.[ch] linux/Kbuild; cat "$BUILD/$name/built.key") | sha256sum)
if [ $# = 0 ] && [ -f "$stage/linux/vm2vm.ko" ] && [ "$(cat "$stage/key" 2>/dev/null)" = "$key" ]; then exit 0; fi
rm -rf "$stage"
mkdir -p "$stage/linux"
cp "$src"/vm2vm_{pci,uapi}.h "$stage"
cp "$src"/linux/*.[ch] "$src/linux/Kbuild" "$stage/linux"
build() { make -s -j"$JOBS" -C "$LINUX" O="$BUILD/$name" M="$stage/linux" "${CACHED[@]}" "$@" modules; }
if [ $# = 0 ]; then
	quietly "module-$name" build
else
	build "$@" 2>&1 </dev/null
fi
echo "$key" >"$stage/key"
