#!/bin/bash
# guest.sh: make the Debian packages for the backend's guest in build/deb: vm2vm-guest-dkms, the
# driver's source for DKMS, and vm2vm-guest, the programs. Prints their paths.
. "$(dirname "$0")/../lib.sh"
. "$ROOT/lab/packages/pack.sh"
cd "$ROOT"
lab/build/guest.sh >&2
lock dkms
stage=$BUILD/dkms-guest
rm -rf "$stage"

made="guest lab/dkms/guest.sh lab/packages/pack.sh lab/packages/version.sh lab/packages/copyright"
# shellcheck disable=SC2086
version_of $made
src=$stage/dkms/usr/src/vm2vm-guest-$version
mkdir -p "$src/linux"
cp guest/vm2vm_{pci,uapi}.h "$src"
cp guest/linux/*.[ch] guest/linux/Kbuild "$src/linux"
fill guest/package/dkms/dkms.conf "$src/dkms.conf"
for f in control postinst prerm; do fill guest/package/dkms/$f "$stage/dkms/DEBIAN/$f"; done
# shellcheck disable=SC2086
pack "$stage/dkms" $made
echo "$deb"

# Static, so that it is one package for Debian 12 and 13, whatever it is built on
program=$stage/program
mkdir -p "$program"/usr/{sbin,share/man/man8,share/lintian/overrides,lib/udev/rules.d,lib/systemd/system} "$program/etc/vm2vm"
for f in vm2vm vm2vm-region; do
	cp "$BUILD/guest/$f" "$program/usr/sbin/"
	strip --strip-all --remove-section=.comment --remove-section=.note "$program/usr/sbin/$f"
	gzip -9n <"guest/package/$f.8" >"$program/usr/share/man/man8/$f.8.gz"
done
cp guest/package/60-vm2vm.rules "$program/usr/lib/udev/rules.d/"
cp guest/package/vm2vm@.service "$program/usr/lib/systemd/system/"
cp guest/package/lintian-overrides "$program/usr/share/lintian/overrides/vm2vm-guest"
for f in control postinst prerm postrm; do fill guest/package/$f "$program/DEBIAN/$f"; done
# shellcheck disable=SC2086
pack "$program" $made
echo "$deb"
