# Sourced by what needs a Debian of its own: root file systems of a release, made by
# debootstrap, and commands in them. Nothing is installed on this machine but debootstrap.
# shellcheck shell=bash disable=SC2153,SC2154

# mirror_here: the mirror of Debian that this machine's apt has
mirror_here() {
	local here mirror
	here=$(. /etc/os-release && echo "$VERSION_CODENAME")
	# shellcheck disable=SC2016
	mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' "Codename: $here" | head -n 1)
	[ -n "$mirror" ] || die "apt has no Debian mirror"
	echo "$mirror"
}

# make_root SUITE: build/roots/SUITE, once. The mirror, and what apt is told about it, are
# those of the machine's own configuration.
make_root() {
	local suite=$1 root=$BUILD/roots/$1 here mirror keys=/usr/share/keyrings/debian-archive-keyring.gpg
	[ "$(id -u)" = 0 ] || die "needs root: it makes a root file system"
	exec 7>"$BUILD/.lock-root-$suite"
	flock 7
	if [ ! -f "$root/made" ]; then
		"$ROOT/lab/build/deps.sh" root >&2
		here=$(. /etc/os-release && echo "$VERSION_CODENAME")
		mirror=$(mirror_here)
		say "roots: debootstrap of $suite" >&2
		rm -rf "$root"
		mkdir -p "$root"
		quietly "root-$suite" debootstrap --variant=minbase --keyring="$keys" "$suite" "$root/base" "$mirror"
		# The other suites of the release, where the machine has its own from
		# shellcheck disable=SC2016
		apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' 'Component: main' |
			sed -n "s/^$here\(-updates\|-security\|\) \(.*\)/$suite\1 \2/p" | sort -u |
			while read -r name uri; do
				printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n\n' "$uri" "$name" "$keys"
			done >"$root/base/etc/apt/sources.list.d/debian.sources"
		rm "$root/base/etc/apt/sources.list"
		apt-config dump | grep -E '^Acquire::(https?::|Check-|Retries)' >"$root/base/etc/apt/apt.conf.d/99machine" || true
		cat >>"$root/base/etc/apt/apt.conf.d/99machine" <<-END
			APT::Sandbox::User "root";
			APT::Install-Recommends "false";
			APT::Keep-Downloaded-Packages "true";
			Dpkg::Use-Pty "0";
		END
		echo force-unsafe-io >"$root/base/etc/dpkg/dpkg.cfg.d/unsafe-io"
		printf '#!/bin/sh\nexit 101\n' >"$root/base/usr/sbin/policy-rc.d"
		chmod 755 "$root/base/usr/sbin/policy-rc.d"
		quietly "root-$suite" chroot "$root/base" env DEBIAN_FRONTEND=noninteractive sh -ec \
			'apt-get update -q; apt-get upgrade -y -q; apt-get clean'
		touch "$root/made"
	fi
	exec 7>&-
}

# in_root SUITE LAYER COMMAND...: in that root, with what it changes in the directory LAYER.
# It sees $BUILD/deb and what BIND names ("FROM:TO ...").
in_root() {
	local suite=$1 layer=$2
	shift 2
	mkdir -p "$layer/upper" "$layer/work" "$layer/root"
	# shellcheck disable=SC2016
	unshare --mount --pid --fork --kill-child --propagation private bash -eu -c '
		base=$1 layer=$2 root=$2/root
		mount -t overlay -o lowerdir="$base",upperdir="$layer/upper",workdir="$layer/work" overlay "$root"
		mount -t proc proc "$root/proc"
		mount --rbind /sys "$root/sys"
		mount --rbind /dev "$root/dev"
		mount -t tmpfs tmpfs "$root/run"
		cp -L /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || :
		for b in $3; do
			mkdir -p "$root${b#*:}"
			mount --bind "${b%%:*}" "$root${b#*:}"
		done
		shift 3
		exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
	' - "$BUILD/roots/$suite/base" "$layer" "${BIND:-}" "$@"
}
