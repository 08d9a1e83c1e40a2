#!/bin/bash
# debian.sh: install the package of lab/dkms/dkms.sh for Debian's own kernel, see what it
# does, and take it out again. TAP. Nothing is installed on this machine: it happens
# in an overlay over its root file system that goes with this script.
#
# What the package built stays in build/debian, with Debian's kernel, laid out like a
# build directory: for lab/machine/run.sh with KERNEL=debian. Done once for the same package
# and kernel; FORCE=1 does it again. The compiler is ccache's, as in our own builds.
. "$(dirname "$0")/../lib.sh"
cd "$ROOT"
exec 8>"$BUILD/.lock-debian"
flock 8
dest=$BUILD/debian
debs=$dest/debs
mkdir -p "$dest"
[ "$(id -u)" = 0 ] || die "needs root: it installs packages in a scratch root"
deb=$(lab/dkms/dkms.sh)

# The kernel that goes with the source: the cloud flavour is a third of the other. The
# signed package appears in the archive some time after the unsigned one.
source=$(dpkg-query -W -f '${Version}' linux-source-6.12)
find_image() {
	apt-cache search --names-only '^linux-image-6\.12\..*-cloud-amd64(-unsigned)?$' | cut -d " " -f 1 |
		xargs -r apt-cache madison | awk -F ' *\\| *' -v v="$source" '$2 == v { sub(/^ */, "", $1); print $1 }' | sort -u | head -n 1
}
image=$(find_image)
if [ -z "$image" ]; then
	quietly debian-update apt-get update -q
	image=$(find_image)
fi
if [ -z "$image" ]; then
	rm -f "$dest/key"
	newest=$(apt-cache policy linux-source-6.12 | sed -n 's/^ *Candidate: //p')
	[ "$newest" = "$source" ] ||
		die "apt has no linux-image-6.12.*-cloud-amd64 $source, which linux-source-6.12 is: upgrade that to $newest"
	echo "1..0 # SKIP apt has no linux-image-6.12.*-cloud-amd64 $source yet, which linux-source-6.12 is"
	exit 4
fi
kernel=${image#linux-image-}
kernel=${kernel%-unsigned}

key=$(dpkg-deb --fsys-tarfile "$deb" | sha256sum)
key=$(echo "$image $source $key"; sha256sum "$0" lab/dkms/install-test.sh)
if unchanged "$dest/key" "$key"; then
	cat "$dest/tap"
	exit 0
fi
rm -rf "$dest"/{key,arch,virt,extra}

if [ "$(cat "$debs/version" 2>/dev/null)" != "$image $source" ]; then
	rm -rf "$debs"
	mkdir "$debs"
	(cd "$debs" && quietly debian-download apt-get download "$image=$source" "linux-headers-$kernel=$source")
	echo "$image $source" >"$debs/version"
fi

say "debian: KVM for $kernel, built and installed by DKMS in a scratch root" >&2
mkdir -p "$CCACHE_DIR"
scratch=$(mktemp -d "$BUILD/root.XXXXXX")
trap 'rmdir "$scratch"' EXIT
status=0
# shellcheck disable=SC2016
unshare --mount --propagation private bash -eu -c '
	scratch=$1 build=$2 root=$3 cache=$4
	mount -t tmpfs -o mode=755 tmpfs "$scratch"
	mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
	mount -t overlay -o lowerdir=/,upperdir="$scratch/upper",workdir="$scratch/work" overlay "$scratch/root"
	for d in /proc /sys /dev; do mount --rbind $d "$scratch/root$d"; done
	for d in /tmp /run /var/lib/dkms /usr/lib/modules; do
		mkdir -p "$scratch/root$d"
		mount -t tmpfs tmpfs "$scratch/root$d"
	done
	for d in "$root" "$build" "$cache"; do
		mkdir -p "$scratch/root$d"
		mount --bind "$d" "$scratch/root$d"
	done
	shift 4
	export PATH=/usr/lib/ccache:$PATH
	exec chroot "$scratch/root" "$@"
' - "$scratch" "$BUILD" "$ROOT" "$CCACHE_DIR" "$ROOT/lab/dkms/install-test.sh" "$kernel" "$deb" "$dest" "$LINUX" "$PRISTINE" \
	>"$dest/tap" 2>"$LOGS/debian.log" 8>&- </dev/null || status=$?
cat "$dest/tap"
if [ "$status" != 0 ]; then
	tail -n 40 "$LOGS/debian.log" >&2
	die "failed; all of it: $LOGS/debian.log"
fi
echo "$key" >"$dest/key"
