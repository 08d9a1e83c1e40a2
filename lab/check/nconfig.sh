#!/bin/bash
# nconfig.sh: with CONFIG_KVM_VM2VM=n every object of KVM disassembles as the
# same object of the source without us, but with what the series carries from
# upstream (0000-*.patch). Line numbers (of WARNs) are data: they may
# differ, and do.
. "$(dirname "$0")/../lib.sh"
lock nconfig
work=$BUILD/nconfig
mkdir -p "$work"

# build NAME SOURCE: KVM's objects, configured as base but without our option
build() {
	local out=$work/$1 src=$2 key
	key=$(cat "$BUILD/pristine.key" "$ROOT/lab/build/config/base.config" "$0" | sha256sum)
	if [ "$(cat "$out/config.key" 2>/dev/null)" != "$key" ]; then
		rm -rf "$out"
		mkdir -p "$out"
		quietly "nconfig-$1" make -s -C "$src" O="$out" "${CACHED[@]}" tinyconfig
		(cd "$out" && "$src/scripts/kconfig/merge_config.sh" -m -r .config "$ROOT/lab/build/config/base.config") \
			>"$LOGS/nconfig-$1.log" 2>&1
		"$ROOT/lab/build/options.sh" allno >>"$out/.config"
		echo "$key" >"$out/config.key"
	elif [ "$1" = plain ] && [ -e "$out/done" ]; then
		return
	fi
	say "nconfig: building KVM, $1"
	quietly "nconfig-$1" make -s -C "$src" O="$out" "${CACHED[@]}" olddefconfig
	if grep -q '^CONFIG_KVM_VM2VM=' "$out/.config"; then die "CONFIG_KVM_VM2VM does not turn off"; fi
	# The path of the source must not be in its strings
	quietly "nconfig-$1" make -s -j"$JOBS" -C "$src" O="$out" "${CACHED[@]}" \
		KCFLAGS="-Werror -fmacro-prefix-map=../src/= -fmacro-prefix-map=../../linux/=" arch/x86/kvm/ virt/
	touch "$out/done"
}

# A tree of hard links, of which patch replaces what it changes
fixes=("$ROOT"/patches/linux-6.12/0000-*.patch)
key=$(cat "$BUILD/pristine.key" "${fixes[@]}" | sha256sum)
if [ "$(cat "$work/src.key" 2>/dev/null)" != "$key" ]; then
	rm -rf "$work/src" "$work/plain/done"
	cp -al "$PRISTINE" "$work/src"
	for f in "${fixes[@]}"; do patch -s -p1 -d "$work/src" --no-backup-if-mismatch <"$f"; done
	echo "$key" >"$work/src.key"
fi
build plain "$work/src"
build ours "$LINUX"

objects() { (cd "$work/$1" && find arch/x86/kvm virt -name '*.o' | sort); }
objects plain >"$work/plain.list"
objects ours >"$work/ours.list"
if ! diff "$work/plain.list" "$work/ours.list" >&2; then die "not the same objects"; fi

# The first lines name the file.
disassemble() { objdump -d -r --no-show-raw-insn "$1" | tail -n +4; }
same=0 bad=0
while read -r o; do
	if diff <(disassemble "$work/plain/$o") <(disassemble "$work/ours/$o") >"$work/diff"; then
		same=$((same + 1))
	else
		bad=$((bad + 1))
		echo "differs with CONFIG_KVM_VM2VM=n: $o" >&2
		head -n 10 "$work/diff" >&2
	fi
done <"$work/plain.list"
[ "$same" -gt 30 ] || die "only $same objects: this compared nothing"
[ "$bad" = 0 ] || die "$bad objects of KVM differ"
say "nconfig: $same objects, all the same"
