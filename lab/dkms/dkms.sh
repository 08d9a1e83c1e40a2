#!/bin/bash
# dkms.sh: make the Debian package build/deb/vm2vm-dkms_VERSION_all.deb, which builds KVM
# with the series for Debian's own kernels. It holds our files and patches, no source
# of Linux. Prints the path of the package.
. "$(dirname "$0")/../lib.sh"
. "$ROOT/lab/packages/pack.sh"
cd "$ROOT"
lock dkms

name=vm2vm-dkms
files=$(our_files | grep '^\(virt\|arch\|include\)/')
made="virt arch include patches/linux-6.12 lab/dkms lab/packages/pack.sh lab/packages/version.sh lab/packages/copyright"
# shellcheck disable=SC2086
version_of $made
deb=$BUILD/deb/${name}_${version}_all.deb

# shellcheck disable=SC2086
key=$(cat $files lab/dkms/[!i]* patches/linux-6.12/* lab/packages/{pack.sh,version.sh,copyright,maintainer} | sha256sum)
key="$version $key"
if [ -f "$deb" ] && [ "$(cat "$BUILD/dkms.key" 2>/dev/null)" = "$key" ]; then
	echo "$deb"
	exit 0
fi
say "dkms: making $name $version" >&2
rm -f "$BUILD/dkms.key"
stage=$BUILD/dkms
src=$stage/usr/src/vm2vm-$version
rm -rf "$stage"
mkdir -p "$stage/DEBIAN" "$src/patches"

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
for f in dkms.conf version.c; do fill lab/dkms/$f "$src/$f"; done
for f in postinst prerm control; do fill lab/dkms/$f "$stage/DEBIAN/$f"; done
# shellcheck disable=SC2086
pack "$stage" $made
echo "$key" >"$BUILD/dkms.key"
echo "$deb"
