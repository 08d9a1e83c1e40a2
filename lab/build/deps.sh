#!/bin/bash
# Install the Debian packages that are missing; silent when there is nothing to do.
# With an argument: qemu, those that lab/build/vmm.sh builds QEMU with, and that it runs with;
# menu, those of lab/build/menuconfig.sh; fuzz, those of lab/check/fuzz.sh; deb and root, those
# of lab/packages; compare, those of lab/compare.
. "$(dirname "$0")/../lib.sh"

packages="linux-source-6.12 build-essential ccache flex bison bc libelf-dev libssl-dev xz-utils cpio kmod git
	python3 perl rsync sparse qemu-system-x86
	bochs bochsbios vgabios bochs-sdl isolinux syslinux-common xorriso"
[ "${1:-}" != qemu ] || packages="build-essential dpkg-dev git ninja-build pkg-config libglib2.0-dev
	libpixman-1-dev zlib1g-dev libfdt-dev libslirp-dev bzip2 python3 python3-venv seabios qemu-system-data ipxe-qemu
	iproute2 iputils-ping e2fsprogs procps iperf3 socat"
[ "${1:-}" != menu ] || packages="libncurses-dev"
[ "${1:-}" != root ] || packages="debootstrap"
[ "${1:-}" != deb ] || packages="build-essential dpkg-dev apt-utils lintian xz-utils"
[ "${1:-}" != compare ] || packages="dpdk dpdk-dev librte-net-vhost23 librte-net-virtio23 librte-bus-pci23 librte-bus-vdev23
	librte-mempool-ring23 gnuplot-nox ipxe-qemu"
[ "${1:-}" != fuzz ] || packages="clang $(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\)$/libclang-rt-\1-dev/p')"

installed() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

missing=
for p in $packages; do
	installed "$p" || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || die "needs these packages:$missing"
	as_root=sudo
fi
say "installing$missing"
export DEBIAN_FRONTEND=noninteractive
# A fresh machine may be installing its updates
install() {
	# shellcheck disable=SC2086
	$as_root apt-get -o DPkg::Lock::Timeout=600 install -y -q --no-install-recommends $missing
}
# The package lists may be absent or stale on a fresh machine.
if ! install >"$LOGS/deps.log" 2>&1 </dev/null; then
	quietly deps $as_root apt-get update -q
	quietly deps install
fi
say "packages are there"
