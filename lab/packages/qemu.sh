#!/bin/bash
# qemu.sh: Debian's own source package of QEMU with our files and hooks as patches of it, and
# its packages, into build/deb. It is built in a root of the release that the source is from.
#
#   qemu.sh           qemu-system-x86, and what of the same source goes with it
#   qemu.sh all       every package of the source: hours
#   qemu.sh source    the source package only, in build/deb-qemu
#
# With DEBUG=1 there are packages of debugging symbols, too, and it takes longer; with QUICK=1 the
# compiler does not optimise, and there is no qemu-system-x86_64-microvm, which is for tests of the
# packages. What was stopped goes on.
# Exit status 4: there is no source to be had, which is no fault of ours.
. "$(dirname "$0")/../lib.sh"
. "$ROOT/lab/build/source.sh"
. "$ROOT/lab/packages/root.sh"
. "$ROOT/lab/packages/version.sh"
kind=${1:-x86}
suite=trixie
work=$BUILD/deb-qemu
case $kind in
x86) profiles="nocheck pkg.qemu.vm2vm-x86 pkg.qemu.omit-user pkg.qemu.omit-system-xen pkg.qemu.use-upstream-vdso" build=any depends=--arch-only ;;
all) profiles="nocheck pkg.qemu.omit-vdso-build-dep" build=binary depends= ;;
source) ;;
*) die "there are x86, all and source" ;;
esac

lock deb-qemu
version_of qemu patches/qemu-10.0 guest/vm2vm_pci.h include/uapi/linux/kvm_vm2vm.h lab/packages/qemu.sh lab/packages/qemu-installed
hooks=$(find "$ROOT/patches/qemu-10.0" -name '*.patch' | sort)
# Our files, as lab/build/vmm.sh places them
ours() {
	git -C "$ROOT" -c safe.directory="*" ls-files -- qemu | sed 's|^qemu/\(.*\)|& \1|'
	echo "guest/vm2vm_pci.h include/standard-headers/vm2vm_pci.h"
	echo "include/uapi/linux/kvm_vm2vm.h linux-headers/linux/kvm_vm2vm.h"
}
# shellcheck disable=SC2086
key=$(echo "$version $kind ${DEBUG:-} ${QUICK:-}"; cd "$ROOT" && cut -d' ' -f1 < <(ours) | xargs cat $hooks lab/packages/qemu{.sh,-installed} | sha256sum)
if [ "$(cat "$work/$kind.key" 2>/dev/null)" = "$key" ]; then exit 0; fi
mkdir -p "$work" "$BUILD/deb"
rm -f "$work/$kind.key"

# unpack: the source with our patches, and a source package of it
unpack() {
	# Debian's, with its tarball, as it is in the archive
	if [ ! -f "$work/debian/dsc" ]; then
		say "deb-qemu: getting the source"
		rm -rf "$work/debian"
		apt_here "$work/debian" $suite deb-src
		if ! { cd "$work/debian" && get update && get source --download-only qemu; } >"$LOGS/deb-qemu-source.log" 2>&1 </dev/null; then
			tail -n 3 "$LOGS/deb-qemu-source.log" >&2
			say "deb-qemu: there is no source of QEMU 10.0 to be had"
			exit 4
		fi
		echo "$work"/debian/*.dsc >"$work/debian/dsc"
	fi
	rm -rf "$work"/src "$work"/qemu_* "$work"/*.deb
	quietly deb-qemu-unpack dpkg-source -x "$(cat "$work/debian/dsc")" "$work/src"
	cp "$work"/debian/*.orig*.tar.* "$work/"
	cd "$work/src"

	# A series goes after Debian's: our files, then the hooks
	mkdir -p "$work/new/b"
	ours | while read -r from to; do
		[ ! -e "$to" ] || die "$to is a file of QEMU: change it by a patch"
		mkdir -p "$work/new/b/$(dirname "$to")"
		cp "$ROOT/$from" "$work/new/b/$to"
	done
	mkdir -p debian/patches/vm2vm
	{
		printf 'Description: vm2vm: the files that are not in QEMU\n'
		printf ' Direct memory between two virtual machines; docs/system/devices/vm2vm.rst\nForwarded: no\n\n'
		(cd "$work/new" && mkdir a && diff -urN a b | sed '/^diff /d; s/^\(--- a\/[^\t]*\|+++ b\/[^\t]*\)\t.*/\1/') || true
	} >debian/patches/vm2vm/0000-files.patch
	rm -rf "$work/new"
	echo vm2vm/0000-files.patch >>debian/patches/series
	for p in $hooks; do
		cp "$p" debian/patches/vm2vm/
		echo "vm2vm/${p##*/}" >>debian/patches/series
	done
	quietly deb-qemu-patch dpkg-source --before-build .

	# The packaging: what has to be in the package lists of Debian's rules for a profile that
	# leaves out all targets but x86
	for f in debian/control-in debian/control; do
		awk '
		/^Package: / { p = $2 }
		/^Build-Profiles: / && p ~ /^qemu-system($|-(misc|arm|mips|ppc|riscv|s390x|sparc)$)/ { sub(/>$/, " !pkg.qemu.vm2vm-x86>") }
		/^Provides: / && p == "qemu-system-x86" { sub(/ /, " qemu-system-vm2vm (= ${binary:Version}), ") }
		{ print }
		p == "qemu-guest-agent" && /^Architecture: / { print "Build-Profiles: <!pkg.qemu.vm2vm-x86>" }' $f >$f.new
		mv $f.new $f
	done
	touch debian/control
	# edit FILE SED: that it changes something
	edit() {
		cp "$1" "$1.was"
		sed -i "$2" "$1"
		! cmp -s "$1" "$1.was" || die "nothing in debian/$1 matches $2"
		rm "$1.was"
	}
	cp "$ROOT/lab/packages/qemu-installed" debian/installed
	cd debian
	# shellcheck disable=SC2016
	{
		edit rules 's/^enable-system = .*/enable-system = $(if $(filter qemu-system-x86,${BUILD_PACKAGES}),y)/'
		edit rules 's/^\t\t--disable-xen \\$/&\n\t\t$(if ${vm2vm-x86},--target-list="$(addsuffix -softmmu,${system-archlist-x86})") \\/'
		# Of the tests, which are a third of all, nothing is installed
		edit rules 's|^\t${NINJA} -C b/qemu$|& $(if ${vm2vm-x86},$$(debian/installed b/qemu))|'
		edit rules 's|^\t    ${NINJA} -C b/qemu install$|\t    $(if ${vm2vm-x86},${MESON} install -C b/qemu --no-rebuild,${NINJA} -C b/qemu install)|'
		edit rules 's|^\t$(call install-all-system)$|&\n\n\t$(if ${vm2vm-x86},,install -m0644 -D -t debian/qemu-system-common${libdir}/qemu/ debian/tmp${libdir}/qemu/hw-s390x-virtio-gpu-ccw.so)\n\trm -f debian/tmp${libdir}/qemu/hw-s390x-virtio-gpu-ccw.so|'
		edit rules 's/^qemu-builds += \($(if $(filter ${DEB_HOST_ARCH}-${enable-system},amd64-y),microvm)\)$/qemu-builds += $(if $(filter pkg.qemu.omit-microvm,${DEB_BUILD_PROFILES}),,\1)/'
		edit qemu-system-common.install '/s390x/d'
		edit control.mk '0,/^system-packages := /s/^system-packages := .*/vm2vm-x86 := $(filter pkg.qemu.vm2vm-x86,${DEB_BUILD_PROFILES})\n\nsystem-packages := $(if ${vm2vm-x86},x86,arm mips ppc riscv s390x sparc x86 misc)/'
	}
	cd ..
	debian=$(dpkg-parsechangelog -S Version)
	{
		printf 'qemu (%s+vm2vm%s) %s; urgency=medium\n\n' "$debian" "$version" $suite
		printf '  * Add vm2vm: direct memory and doorbells between two virtual machines.\n'
		printf '  * Have a build profile, pkg.qemu.vm2vm-x86, for no targets but x86.\n\n'
		printf ' -- %s  %s\n\n' "$(cat "$ROOT/lab/packages/maintainer")" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
		cat debian/changelog
	} >changelog.new
	mv changelog.new debian/changelog
	say "deb-qemu: source of $debian+vm2vm$version"
	quietly deb-qemu-source dpkg-source -b .
}

if [ ! -d "$work/src" ] || [ "$(cat "$work/src.key" 2>/dev/null)" != "$key" ]; then
	rm -f "$work/src.key"
	(unpack)
	echo "$key" >"$work/src.key"
fi
if [ "$kind" = source ]; then
	echo "$key" >"$work/$kind.key"
	exit 0
fi

# Paths inside are the same in whatever clone, so that the compiler's cache knows them
make_root $suite
mkdir -p "$CCACHE_DIR"
options="parallel=${DEB_JOBS:-2} nocheck terse"
flags=
[ -n "${DEBUG:-}" ] || options="$options noautodbgsym" flags=-g0
[ -z "${QUICK:-}" ] || options="$options noopt" profiles="$profiles pkg.qemu.omit-microvm"
say "deb-qemu: build dependencies"
inside() { BIND="$work:/srv/qemu $CCACHE_DIR:/srv/ccache" in_root $suite "$work/layer" "$@"; }
quietly deb-qemu-depends inside sh -ec "
	apt-get update -q
	apt-get install -y -q build-essential ccache
	cd /srv/qemu/src
	apt-get build-dep -y -q $depends -P '${profiles// /,}' ./
	apt-get clean"
say "deb-qemu: building ($kind)"
touch "$work/started"
while sleep 60 >/dev/null 2>&1 9>&-; do
	say "deb-qemu: $(find "$work/src/b" -name '*.o' 2>/dev/null | wc -l) objects compiled"
done 9>&- &
trap 'kill %1 2>/dev/null' EXIT
quietly deb-qemu inside env PATH=/usr/lib/ccache:/usr/sbin:/usr/bin:/sbin:/bin CCACHE_DIR=/srv/ccache \
	CCACHE_BASEDIR=/srv/qemu/src CCACHE_NOHASHDIR=1 CCACHE_COMPILERCHECK=content CCACHE_MAXSIZE="$CCACHE_MAXSIZE" \
	DEB_BUILD_OPTIONS="$options" DEB_BUILD_PROFILES="$profiles" DEB_CFLAGS_APPEND="$flags" DEB_CXXFLAGS_APPEND="$flags" \
	sh -ec "cd /srv/qemu/src; exec dpkg-buildpackage --build=$build -uc -us -nc"
rm -f "$BUILD"/deb/qemu-*.deb
cp -f "$work"/*.deb "$BUILD/deb/"
rm -rf "$work/src"
echo "$key" >"$work/$kind.key"
say "deb-qemu: $(find "$BUILD/deb" -name 'qemu-*.deb' | wc -l) packages"
