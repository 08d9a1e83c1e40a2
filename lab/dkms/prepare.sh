#!/bin/sh
# prepare.sh KERNEL HEADERS: make ./linux, KVM's part of Linux 6.12 with vm2vm. DKMS
# runs this in its build directory before it builds. The source is Debian's, from
# linux-source-6.12; this package has only what vm2vm adds.
set -eu
kernel=$1 build=$2

die() { printf 'vm2vm: %s\n' "$@" >&2; exit 1; }

case $kernel in
6.12.*) ;;
*) die "this is for Linux 6.12, not for $kernel" ;;
esac
[ -f "$build/.config" ] || die "there is no $build/.config: install linux-headers-$kernel"
for option in CONFIG_KVM=m CONFIG_KVM_GENERIC_MMU_NOTIFIER=y; do
	grep -qx $option "$build/.config" || die "$kernel is not built with $option: its KVM cannot be replaced"
done

# The newest, should there be several
source=
for f in ${VM2VM_SOURCE:-/usr/src/linux-source-6.12.tar.*}; do
	if [ -f "$f" ]; then source=$f; fi
done
[ -n "$source" ] || die "there is no /usr/src/linux-source-6.12.tar.xz: install linux-source-6.12"

# What of Linux is needed: KVM, and headers that the series changes
rm -rf linux
mkdir linux
top=$(basename "$source")
top=${top%.tar.*}
headers=$(cat patches/*.patch | sed -n "/arch.x86.kvm\|virt.kvm/!s|^--- a/|$top/|p" | sort -u)
# shellcheck disable=SC2086
tar -xf "$source" -C linux --strip-components=1 "$top/Makefile" "$top/arch/x86/kvm" "$top/virt/kvm" $headers ||
	die "cannot unpack $source"

# KVM goes with the kernel around it, to the last number
version=$(sed -n 's/^\(VERSION\|PATCHLEVEL\|SUBLEVEL\) = *//p' linux/Makefile | paste -sd .)
case $kernel in
"$version"[!0-9]*) ;;
*) die "linux-source-6.12 is $version, the kernel is $kernel: these must be the same version." \
	"Upgrade both, boot the new kernel, and run: dkms autoinstall" ;;
esac
rm linux/Makefile

cp -r files/. linux/
for p in patches/*.patch; do
	patch -d linux -p1 -s --fuzz=0 --no-backup-if-mismatch <"$p" || die "$p does not apply to $source"
done
cp Kbuild.kvm linux/arch/x86/kvm/Kbuild
for m in kvm kvm-amd kvm-intel; do cp version.c linux/arch/x86/kvm/version-$m.c; done

# There is no Kconfig here: options of ours, and what they select, are turned on unless
# the kernel has them; but not checks for debug kernels.
find files -name 'Kconfig*' -exec sed -n 's/^\(config\|[[:space:]]*select\) \([A-Z0-9_]*\)$/CONFIG_\2/p' {} + |
	grep -v _PROVE_ | while read -r o; do
		grep -q "^$o=" "$build/.config" || printf 'vm2vm-options += %s\n%s := y\n' "$o" "$o"
	done >linux/vm2vm.options
