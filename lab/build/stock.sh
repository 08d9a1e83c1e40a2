#!/bin/bash
# stock.sh: a guest that is Debian 12's own, with nothing of ours in it: its packages as debootstrap
# installs them, with the kernel of its cloud images and the initramfs that initramfs-tools makes of
# them. Once; in build/stock are vmlinuz, initrd.img, and disk, a file system.
. "$(dirname "$0")/../lib.sh"
. "$ROOT/lab/packages/root.sh"
lock stock
out=$BUILD/stock
[ ! -e "$out/disk" ] || exit 0
[ "$(id -u)" = 0 ] || die "only root can make a root file system"
"$ROOT/lab/build/deps.sh" root >&2
tree=$out/root
mkdir -p "$out"
if [ ! -e "$tree/boot/initrd.img" ] && ! compgen -G "$tree/boot/initrd.img-*" >/dev/null; then
	rm -rf "$tree"
	say "stock: debootstrap of Debian 12"
	mirror=$(mirror_here)
	quietly stock debootstrap --variant=minbase \
		--include=linux-image-cloud-amd64,initramfs-tools,systemd-sysv,udev bookworm "$tree" "$mirror"
fi
rm -rf "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/*
cp -L "$tree"/boot/vmlinuz-* "$out/vmlinuz"
cp -L "$tree"/boot/initrd.img-* "$out/initrd.img"
quietly stock mke2fs -q -F -t ext4 -d "$tree" "$out/disk.new" 1G
rm -rf "$tree"
mv "$out/disk.new" "$out/disk"
