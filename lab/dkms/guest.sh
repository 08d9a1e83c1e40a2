#!/bin/bash
# guest.sh: make the Debian package build/vm2vm-guest_VERSION_amd64.deb for the backend's
# guest: the driver's source, for DKMS, and the program. Prints the path of the package.
. "$(dirname "$0")/../lib.sh"
cd "$ROOT"
"$ROOT/lab/build/guest.sh" >&2
exec 9>"$BUILD/.lock-dkms"
flock 9

name=vm2vm-guest
TZ=UTC version=0.1.$(git -c safe.directory="*" log -1 --format=%cd --date=format-local:%Y%m%d.%H%M%S -- guest)
SOURCE_DATE_EPOCH=$(git -c safe.directory="*" log -1 --format=%ct -- guest)
export SOURCE_DATE_EPOCH
deb=$BUILD/${name}_${version}_amd64.deb
stage=$BUILD/dkms-guest
src=$stage/usr/src/$name-$version
rm -rf "$stage" "$BUILD/$name"_*.deb
mkdir -p "$stage/DEBIAN" "$src/linux" "$stage"/usr/{sbin,share/man/man8,lib/udev/rules.d,lib/systemd/system} "$stage/usr/share/doc/$name" "$stage/etc/vm2vm"

cp guest/vm2vm_{pci,uapi}.h "$src"
cp guest/linux/*.[ch] guest/linux/Kbuild "$src/linux"
cp "$BUILD/guest/vm2vm" "$stage/usr/sbin/"
gzip -9n <guest/package/vm2vm.8 >"$stage/usr/share/man/man8/vm2vm.8.gz"
cp guest/package/60-vm2vm.rules "$stage/usr/lib/udev/rules.d/"
cp guest/package/vm2vm@.service "$stage/usr/lib/systemd/system/"
cp lab/dkms/copyright "$stage/usr/share/doc/$name/"
for f in dkms.conf control postinst prerm; do
	sed "s/@VERSION@/$version/g" "guest/package/$f" >"$stage/DEBIAN/$f"
done
mv "$stage/DEBIAN/dkms.conf" "$src/"
find "$stage" -type f -exec chmod 644 {} +
find "$stage" -type d -exec chmod 755 {} +
chmod 755 "$stage/DEBIAN/postinst" "$stage/DEBIAN/prerm" "$stage/usr/sbin/vm2vm"
quietly dkms-guest dpkg-deb --build --root-owner-group -Zxz "$stage" "$deb"
echo "$deb"
