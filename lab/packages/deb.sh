#!/bin/bash
# deb.sh: make all of our packages in build/deb, and have lintian look at them. QEMU's are made
# by qemu.sh, as that takes long. Prints the paths.
. "$(dirname "$0")/../lib.sh"
. "$ROOT/lab/packages/pack.sh"
cd "$ROOT"
lab/build/deps.sh deb >&2
dkms=$(lab/dkms/dkms.sh)
guest=$(lab/dkms/guest.sh)
lock dkms

debs="$dkms $guest"
for name in vm2vm-host vm2vm-backend; do
	version_of lab/packages qemu/docs/system/devices
	stage=$BUILD/meta/$name
	rm -rf "$stage"
	fill lab/packages/meta/$name "$stage/DEBIAN/control"
	if [ $name = vm2vm-host ]; then
		mkdir -p "$stage/usr/share/doc/$name"
		for page in qemu/docs/system/devices/vm2vm*.rst; do
			gzip -9n <"$page" >"$stage/usr/share/doc/$name/${page##*/}.gz"
		done
	fi
	pack "$stage" lab/packages qemu/docs/system/devices
	debs="$debs $deb"
done

# What lintian has passed, by contents
# shellcheck disable=SC2086
key=$(cat $debs | sha256sum)
if [ -z "${VM2VM_RELEASE:-}" ] && [ "$(cat "$BUILD/deb.lintian" 2>/dev/null)" != "$key" ]; then
	say "deb: lintian" >&2
	# shellcheck disable=SC2086
	quietly lintian lintian --allow-root --fail-on error,warning,info --display-info --color never --no-cfg $debs
	echo "$key" >"$BUILD/deb.lintian"
fi
# shellcheck disable=SC2086
printf '%s\n' $debs
