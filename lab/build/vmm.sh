#!/bin/bash
# Build QEMU 10.0 with our files and hooks in build/qemu, from Debian 13's source.
#
#   vmm.sh            build/qemu/qemu-system-x86_64, which also emulates the AMD lab's machine: so it is
#                     built with TCG, and without a fault that kills guests, see lab/machine/emulator.patch
#   vmm.sh asan       the same with ASAN and UBSAN, in build/qemu-asan
#   vmm.sh others     without KVM, for other machines, with all devices, in build/qemu-others:
#                     only to see that it builds
#
# Exit status 4: there is no source to be had, which is no fault of ours.
. "$(dirname "$0")/../lib.sh"
. "$ROOT/lab/build/source.sh"
kind=${1:-plain}
src=$BUILD/qemu-src pristine=$BUILD/qemu-pristine
hooks="$(find "$ROOT/patches/qemu-10.0" -name '*.patch' | sort) $ROOT/lab/machine/emulator.patch"
# Small: what the lab's machine and its virtual machines have
options="--target-list=x86_64-softmmu --without-default-devices --with-devices-x86_64=vm2vm --enable-kvm --enable-tcg
	--enable-virtfs --enable-attr --enable-slirp --firmwarepath=/usr/share/seabios:/usr/share/qemu --disable-werror" programs=qemu-system-x86_64
case $kind in
plain) out=$BUILD/qemu ;;
asan) out=$BUILD/qemu-asan options="--enable-asan --enable-ubsan $options" ;;
others) out=$BUILD/qemu-others options="--target-list=hppa-softmmu,riscv64-softmmu,x86_64-softmmu --disable-kvm
	--enable-tcg --enable-fdt=system --disable-werror" programs="qemu-system-hppa qemu-system-riscv64 qemu-system-x86_64" ;;
*) die "there are plain, asan and others" ;;
esac
# And nothing that only takes time
options="$options --python=/usr/bin/python3 --disable-install-blobs --disable-docs --disable-tools --disable-user
	--disable-guest-agent --without-default-features --enable-vhost-user --enable-vhost-net
	--enable-vhost-kernel"
devices="Q35 I440FX VTD PCIE_PORT ISA_DEBUG TEST_DEVICES VIRTIO_PCI VIRTIO_IOMMU VIRTIO_RNG VIRTIO_NET VIRTIO_BLK
	VIRTIO_SERIAL VIRTIO_MEM VIRTIO_SCSI VM2VM_PCI VHOST_USER_BLK VHOST_USER_SCSI VHOST_USER_FS
	VHOST_USER_VSOCK VHOST_USER_RNG IVSHMEM_DEVICE VFIO_PCI HPET VIRTIO_9P E1000E_PCI_EXPRESS IGB_PCI_EXPRESS"

# Our files, and the two headers that QEMU shares with the guest and with the kernel
ours() {
	git -C "$ROOT" -c safe.directory="*" ls-files -co --exclude-standard -- qemu | sort -u | sed 's|^qemu/\(.*\)|& \1|'
	echo "guest/vm2vm_pci.h include/standard-headers/vm2vm_pci.h"
	echo "include/uapi/linux/kvm_vm2vm.h linux-headers/linux/kvm_vm2vm.h"
}

placed=$BUILD/qemu
lock qemu
key=$( (cd "$ROOT" && cut -d' ' -f1 < <(ours) | xargs -r cat; echo "$options $devices"
	# shellcheck disable=SC2086
	cat $hooks) | sha256sum)
if [ "$(cat "$out/built.key" 2>/dev/null)" = "$key" ]; then exit 0; fi

# QEMU 10.0 wants a meson that Debian 12 has among its backports only
have_meson() { dpkg --compare-versions "$(dpkg-query -W -f '${Version}' meson 2>/dev/null || echo 0)" ge 1.5; }
get_meson() {
	have_meson && return
	export DEBIAN_FRONTEND=noninteractive
	{
		apt-get install -y -q --no-install-recommends meson
		have_meson && return
		apt_here "$BUILD/meson-apt" bookworm-backports deb
		cd "$BUILD/meson-apt" || return
		get update && get download meson && apt-get install -y -q --no-install-recommends ./meson_*.deb
	} >"$LOGS/meson.log" 2>&1 </dev/null
	have_meson
}

"$ROOT/lab/build/deps.sh" qemu

# Debian's source, with Debian's patches, and a tree of hard links to it that is ours to change
if [ ! -f "$pristine/debian/changelog" ]; then
	say "qemu: getting the source"
	rm -rf "$pristine" "$BUILD"/qemu-src "$BUILD/qemu-apt" "$BUILD"/qemu.placed
	apt_here "$BUILD/qemu-apt" trixie deb-src
	if ! { cd "$BUILD/qemu-apt" && get update && get source qemu; } >"$LOGS/qemu-apt.log" 2>&1 </dev/null; then
		tail -n 3 "$LOGS/qemu-apt.log" >&2
		say "qemu: there is no source of QEMU 10.0 to be had"
		exit 4
	fi
	mv "$(find "$BUILD/qemu-apt" -maxdepth 1 -type d -name 'qemu-10.0*')" "$pristine"
	rm -rf "$BUILD/qemu-apt"
fi
cd "$BUILD"
[ -d "$src" ] || { rm -rf "$src.new"; cp -al "$pristine" "$src.new"; mv "$src.new" "$src"; }

# What differs from it: our files, those that the hooks touch, and a list of devices
new=$(mktemp -d "$BUILD/qemu-new.XXXXXX")
trap 'rm -rf "$new"' EXIT
# shellcheck disable=SC2086
sed -n 's|^diff --git a/\(.*\) b/.*|\1|p' $hooks | sort -u | (cd "$pristine" && xargs -r cp --parents -t "$new")
for p in $hooks; do
	quietly qemu-patch patch -p1 -F0 -d "$new" -i "$p"
done
ours | while read -r from to; do
	[ ! -e "$pristine/$to" ] || die "$to is a file of QEMU: change it by a patch"
	mkdir -p "$new/$(dirname "$to")"
	cp "$ROOT/$from" "$new/$to"
done
for d in $devices; do echo "CONFIG_$d=y"; done >"$new/configs-vm2vm.mak"
mkdir -p "$new/configs/devices/x86_64-softmmu"
mv "$new/configs-vm2vm.mak" "$new/configs/devices/x86_64-softmmu/vm2vm.mak"
(cd "$new" && find . -type f | sed 's|^\./||' | sort) >"$placed.now"
touch "$placed.placed"
while read -r f; do put "$new/$f" "$src/$f" || true; done <"$placed.now"
comm -13 "$placed.now" "$placed.placed" | while read -r f; do
	rm -f "$src/$f"
	[ ! -f "$pristine/$f" ] || cp "$pristine/$f" "$src/$f"
done
mv "$placed.now" "$placed.placed"

# Asking ninja takes longer than the key; asking configure, too
rm -f "$out/built.key"
mkdir -p "$out"
# The paths that configure has written down are of this folder, which may have been moved since
if [ "$(cat "$out/options" "$out/configured" 2>/dev/null)" != "$options
$src" ]; then
	say "qemu: configuring ($kind)"
	(get_meson) || { cat "$LOGS/meson.log" >&2; die "no meson that is new enough"; }
	rm -rf "${out:?}"/*
	# shellcheck disable=SC2086
	(cd "$out" && CC="ccache gcc" CXX="ccache g++" quietly "qemu-$kind-configure" "$src/configure" $options)
	echo "$options" >"$out/options"
	echo "$src" >"$out/configured"
fi
say "qemu: building ($kind)"
touch "$out/started"
while sleep 60 >/dev/null 2>&1 9>&-; do
	say "qemu: $(find "$out" -name '*.o' -newer "$out/started" | wc -l) objects compiled"
done 9>&- &
trap 'kill %1 2>/dev/null; rm -rf "$new"' EXIT
# shellcheck disable=SC2086
quietly "qemu-$kind" ninja -C "$out" -j"$JOBS" $programs
if grep -q 'warning:' "$LOGS/qemu-$kind.log"; then grep -A5 'warning:' "$LOGS/qemu-$kind.log" >&2; fi
# With that it looks for firmware nowhere else
rm -rf "$out/qemu-bundle"
echo "$key" >"$out/built.key"
say "qemu: built ($kind)"
