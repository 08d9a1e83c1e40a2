#!/bin/bash
# options.sh allyes|allno|menu: our options in Kconfig, all on, all off, or as a person
# chooses, as lines for a configuration of Linux
. "$(dirname "$0")/../lib.sh"
out=$BUILD/options
lock options

kconfig() { make -s -C "$LINUX" O="$out" "${CACHED[@]}" KBUILD_KCONFIG="$ROOT/Kconfig" "$1config" "${@:2}"; }

mkdir -p "$out"
case $1 in
menu)
	# What was chosen before, or else what base has
	[ -f "$BUILD/vm2vm.config" ] || grep '^CONFIG_KVM_VM2VM' "$ROOT/lab/build/config/base.config" >"$out/.config"
	[ ! -f "$BUILD/vm2vm.config" ] || cp "$BUILD/vm2vm.config" "$out/.config"
	kconfig menu >&2 ;;
allyes | allno) quietly options kconfig "$1" ;;
*) die "there are allyes, allno and menu" ;;
esac

(cd "$LINUX" && sed -n '/Kconfig/p' "$BUILD/tree.placed" | grep -xFf "$BUILD/tree.ours" | xargs sed -n 's/^config //p') |
while read -r symbol; do
	if grep -qx "CONFIG_$symbol=y" "$out/.config"; then echo "CONFIG_$symbol=y"; else echo "CONFIG_$symbol=n"; fi
done
