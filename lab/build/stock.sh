#!/bin/bash
# stock.sh: a guest that is Debian 12's own, with nothing of ours in it: its packages as debootstrap
# installs them, with the kernel of its cloud images and the initramfs that initramfs-tools makes of
# them. Once; in build/stock are vmlinuz, initrd.img, and disk, a file system.
. "$(dirname "$0")/../lib.sh"
lock stock
out=$BUILD/stock
[ ! -e "$out/disk" ] || exit 0
[ "$(id -u)" = 0 ] || die "only root can make a root file system"
for tool in debootstrap mke2fs; do type -P "$tool" >/dev/null || die "there is no $tool"; done
root=$out/root
if [ ! -e "$root/boot/initrd.img" ] && ! compgen -G "$root/boot/initrd.img-*" >/dev/null; then
	rm -rf "$root"
	say "stock: Debian 12"
	quietly stock debootstrap --variant=minbase \
		--include=linux-image-cloud-amd64,initramfs-tools,systemd-sysv,udev bookworm "$root" "${MIRROR:-http://deb.debian.org/debian}"
fi
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
cp -L "$root"/boot/vmlinuz-* "$out/vmlinuz"
cp -L "$root"/boot/initrd.img-* "$out/initrd.img"
quietly stock mke2fs -q -F -t ext4 -d "$root" "$out/disk.new" 1G
rm -rf "$root"
mv "$out/disk.new" "$out/disk"
