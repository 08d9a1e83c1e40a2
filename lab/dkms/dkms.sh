#!/bin/bash
# dkms.sh: make the Debian package build/vm2vm-dkms_VERSION_all.deb, which builds KVM
# with the series for Debian's own kernels. It holds our files and patches, no source
# of Linux. Prints the path of the package.
. "$(dirname "$0")/../lib.sh"
cd "$ROOT"
exec 9>"$BUILD/.lock-dkms"
flock 9

name=vm2vm-dkms
files=$(our_files | grep '^\(virt\|arch\|include\)/')
TZ=UTC version=0.1.$(git -c safe.directory="*" log -1 --format=%cd --date=format-local:%Y%m%d.%H%M%S -- virt arch include patches lab/dkms)
deb=$BUILD/${name}_${version}_all.deb

# shellcheck disable=SC2086
key=$(cat $files lab/dkms/[!i]* patches/linux-6.12/* "$0" | sha256sum)
key="$version $key"
if [ -f "$deb" ] && [ "$(cat "$BUILD/dkms.key" 2>/dev/null)" = "$key" ]; then
	echo "$deb"
	exit 0
fi
say "dkms: making $name $version" >&2
rm -f "$BUILD/dkms.key" "$BUILD/$name"_*.deb
stage=$BUILD/dkms
src=$stage/usr/src/vm2vm-$version
rm -rf "$stage"
mkdir -p "$stage/DEBIAN" "$src/patches" "$stage/usr/share/doc/$name"

for f in $files; do
	mkdir -p "$src/files/${f%/*}"
	cp "$f" "$src/files/$f"
done

# Of each patch what touches the modules and headers; documentation and selftests are
# not built. Anything else would be in the kernel itself.
for p in $(our_patches); do
	awk 'BEGIN { take = 1 }
	/^diff --git / {
		f = substr($3, 3)
		take = f ~ "^(arch/x86/kvm|virt/kvm|include|arch/x86/include)/"
		if (!take && f !~ "^(Documentation|tools|MAINTAINERS)") { print f > "/dev/stderr"; exit 1 }
	}
	/^-- $/ { take = 0 }
	take' "$p" >"$src/patches/${p##*/}" || die "${p##*/} changes what is built into the kernel"
	grep -q '^diff --git ' "$src/patches/${p##*/}" || rm "$src/patches/${p##*/}"
done
# prepare.sh turns on what our Kconfig files define and select, and reads no more
if grep -h '^+[^+]' "$src"/patches/* | grep -qE '^\+\s*(select|config|depends) '; then
	die "a patch changes options of Linux: lab/dkms/prepare.sh does not know them"
fi
if grep -rhE '^\s*select .* if ' "$src/files" --include='Kconfig*'; then
	die "a conditional select: lab/dkms/prepare.sh does not know how"
fi

cp lab/dkms/Kbuild lab/dkms/Kbuild.kvm lab/dkms/prepare.sh "$src/"
for f in dkms.conf version.c postinst prerm control copyright; do
	sed "s/@VERSION@/$version/g" "lab/dkms/$f" >"$stage/DEBIAN/$f"
done
mv "$stage/DEBIAN/dkms.conf" "$stage/DEBIAN/version.c" "$src/"
mv "$stage/DEBIAN/copyright" "$stage/usr/share/doc/$name/"
find "$stage" -type f -exec chmod 644 {} +
chmod 755 "$stage/DEBIAN/postinst" "$stage/DEBIAN/prerm" "$src/prepare.sh"
find "$stage" -type d -exec chmod 755 {} +

# The same content gives the same package
SOURCE_DATE_EPOCH=$(git -c safe.directory="*" log -1 --format=%ct -- virt arch include patches lab/dkms)
export SOURCE_DATE_EPOCH
quietly dkms dpkg-deb --build --root-owner-group -Zxz "$stage" "$deb"
echo "$key" >"$BUILD/dkms.key"
echo "$deb"
