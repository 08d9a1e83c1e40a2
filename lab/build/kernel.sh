#!/bin/bash
# kernel.sh base|debug|light|kcsan|vf: configure and build a kernel and its modules in build/NAME
. "$(dirname "$0")/../lib.sh"
name=$1
out=$BUILD/$name
conf=$ROOT/lab/build/config
lock kernels

kmake() { make -s -C "$LINUX" O="$out" "${CACHED[@]}" "$@"; }

fragments=$conf/base.config
if [ "$name" = base ]; then
	fragments="$fragments $conf/guest.config"
elif [ "$name" = vf ]; then
	# The same for the host and its guests
	fragments="$fragments $conf/guest.config $conf/vf.config"
else
	fragments="$fragments $conf/$name.config"
fi
# What a person chose by lab/build/menuconfig.sh
[ ! -f "$BUILD/vm2vm.config" ] || fragments="$fragments $BUILD/vm2vm.config"
for f in $fragments; do [ -f "$f" ] || die "no kernel named $name"; done

# What decides the configuration: the fragments, and every Kconfig file of ours
mkdir -p "$out"
# shellcheck disable=SC2086
key=$( (cat $fragments "$BUILD/pristine.key"
	sed -n "/Kconfig/s|^|$LINUX/|p" "$BUILD/tree.placed" | xargs -r cat) | sha256sum)

# A fragment asks for something that Linux silently drops if a dependency lacks.
check_config() {
	local line bad=0 absent='^$'
	# Linux without patches of ours is fine too
	[ -n "$(our_patches)" ] || absent=KVM_VM2VM
	# shellcheck disable=SC2086
	sed -n '/^CONFIG_/p' $fragments | tac | awk -F= '!seen[$1]++' >"$out/asked"
	while read -r line; do
		case $line in
		*=n) ! grep -q "^${line%=n}=" "$out/.config" || { echo "  $line" >&2; bad=1; } ;;
		*) grep -qxF "$line" "$out/.config" || { echo "  $line" >&2; bad=1; } ;;
		esac
	done < <(grep -v "$absent" "$out/asked")
	[ "$bad" = 0 ] || die "$name: Linux does not take these options as they are asked for"
}

if [ "$(cat "$out/config.key" 2>/dev/null)" != "$key" ]; then
	say "$name: configuring"
	rm -f "$out/config.key"
	quietly "$name-config" kmake tinyconfig
	# shellcheck disable=SC2086
	(cd "$out" && "$LINUX/scripts/kconfig/merge_config.sh" -m -r .config $fragments) \
		>"$LOGS/$name-merge.log" 2>&1
	quietly "$name-config" kmake olddefconfig
	check_config
	echo "$key" >"$out/config.key"
fi

# Nothing to do is the common case, and asking kbuild about it takes long.
# Tests and documents are no part of it.
stamp=$(cd "$LINUX" && grep -v '^tools/\|^Documentation/' "$BUILD/tree.placed" | xargs -r stat -c '%n %s %Y' | cat - <(echo "${CACHED[@]}") | sha256sum)
if [ "$(cat "$out/built.key" 2>/dev/null)" = "$key $stamp" ]; then exit 0; fi
say "$name: building the kernel"
rm -f "$out/built.key"
# A sign of life; its sleep must not keep the lock or our output open
touch "$out/started"
while sleep 60 >/dev/null 2>&1 9>&-; do
	say "$name: $(find "$out" -name '*.o' -newer "$out/started" | wc -l) objects compiled"
done 9>&- &
trap 'kill %1 2>/dev/null' EXIT
quietly "$name" kmake -j"$JOBS" bzImage modules
echo "$key $stamp" >"$out/built.key"
say "$name: built"
