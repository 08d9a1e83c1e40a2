#!/bin/bash
# libvirt.sh: build/libvirt/root, a Debian of this machine's release with its own libvirt, once.
# What lab/vms/libvirt_test.py has in the lab. QEMU's packages are there for their libraries,
# firmware and settings; the test puts our QEMU in the place of theirs.
. "$(dirname "$0")/../lib.sh"
. "$ROOT/lab/packages/root.sh"
lock libvirt
out=$BUILD/libvirt
[ ! -e "$out/made" ] || exit 0
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
make_root "$suite" >&2
say "libvirt: installing that of $suite" >&2
rm -rf "$out"
mkdir -p "$out/root"
BIND="$out/root:/srv/out" quietly libvirt in_root "$suite" "$out/layer" sh -ec '
	apt-get update -q
	apt-get install -y -q libvirt-daemon-system libvirt-clients qemu-system-x86 ipxe-qemu apparmor
	tar -C / --one-file-system --exclude=./srv/out --exclude=./var/cache/apt -cf - . | tar -C /srv/out -xf -'
rm -rf "$out/layer"
touch "$out/made"
