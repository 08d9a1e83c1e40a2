# Sourced by every script here: where things are, and how to speak.
# shellcheck shell=bash disable=SC2034
set -eu -o pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
BUILD=${BUILD:-$ROOT/build}
mkdir -p "$BUILD"
BUILD=$(cd "$BUILD" && pwd -P)
LINUX=$BUILD/linux			# Linux with our files and patches
PRISTINE=$BUILD/pristine		# Linux as Debian ships it
SELFTESTS=$BUILD/selftests
PATCHES=$ROOT/patches/linux-6.12
LOGS=${LOGS:-$BUILD/log}
JOBS=$(($(nproc) + 1))
mkdir -p "$LOGS"

# What was compiled once, in whatever folder, is not compiled again. The cache is outside
# of the clone and knows files by what is in them; paths in $BUILD are relative to it.
export CCACHE_DIR=${CCACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/vm2vm-ccache}
export CCACHE_BASEDIR=$BUILD CCACHE_NOHASHDIR=1 CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-6G} CCACHE_COMPILERCHECK=content
# As arguments of make. ccache gives the compiler relative names of files: they are to be in
# WARN() and the like as they are without it.
CACHED=("CC=ccache gcc" "HOSTCC=ccache gcc" "KCFLAGS=$(printf -- '-fmacro-prefix-map=%s/= ' ../linux ../pristine ../../linux ../../pristine)")

say() { printf '[%4ds] %s\n' "$SECONDS" "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# quietly LOG COMMAND...: output goes to LOG, and is shown only if it fails
quietly() {
	local log=$LOGS/$1.log
	shift
	if ! "$@" >"$log" 2>&1 </dev/null; then
		tail -n 40 "$log" >&2
		die "failed: $* (all of its output: $log)"
	fi
}

# lock NAME: one at a time at what has that name; the lock goes with the process.
lock() { exec 9>"$BUILD/.lock-$1"; flock 9; }

# put FROM TO: copy unless TO is the same already, so that mtimes tell the truth.
# The new file replaces the old one, which may be a hard link into another tree.
put() {
	cmp -s "$1" "$2" && return 1
	mkdir -p "$(dirname "$2")"
	cp "$1" "$2.new"
	mv -f "$2.new" "$2"
}

# listed PATH...: our files there, tracked or about to be
listed() {
	local f
	git -C "$ROOT" -c safe.directory="*" ls-files -co --exclude-standard -- "$@" | sort -u |
	while read -r f; do
		if [ -f "$ROOT/$f" ]; then echo "$f"; fi
	done
}

# Those that belong into a Linux tree
our_files() { listed virt arch include tools guest Documentation; }

# Of the files whose names come on stdin, in an order of their own
hashes() { sort -u | xargs sha256sum; }

# unchanged FILE KEY: whether what is remembered in the file, of when all was well, is this; with FORCE=1 never
unchanged() { [ -z "${FORCE:-}" ] && [ "$(cat "$1" 2>/dev/null)" = "$2" ]; }

our_patches() { find "$PATCHES" -name '*.patch' 2>/dev/null | sort; }
