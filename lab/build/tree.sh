#!/bin/bash
# Prepare Linux in build/linux: Debian's source, our files at their paths, and
# the hooks of patches/linux-6.12 applied by git am. A file that comes out the
# same keeps its mtime, so that the next build compiles only what changed.
. "$(dirname "$0")/../lib.sh"
lock kernels

tarball=
for t in /usr/src/linux-source-6.12.tar.*; do
	if [ -f "$t" ]; then tarball=$t; fi
done
[ -n "$tarball" ] || die "no /usr/src/linux-source-6.12.tar.*: run lab/build/deps.sh"

# 1. The untouched source, and a tree of hard links to it that is ours to change
key=$(stat -Lc '%n %s %Y' "$tarball")
if [ "$(cat "$BUILD/pristine.key" 2>/dev/null)" != "$key" ]; then
	say "unpacking $(basename "$tarball")"
	rm -rf "$PRISTINE" "$LINUX" "$BUILD/series" "$BUILD"/tree.*
	mkdir -p "$PRISTINE"
	tar -xf "$tarball" -C "$PRISTINE" --strip-components=1
	echo "$key" >"$BUILD/pristine.key"
fi
version=$(make -s -C "$PRISTINE" kernelversion)
if [ ! -d "$LINUX" ]; then
	rm -rf "$LINUX.new"
	cp -al "$PRISTINE" "$LINUX.new"
	mv "$LINUX.new" "$LINUX"
fi

# 2. The series, in a small repository of just the files that it touches
series=$BUILD/series
key=$(our_patches | xargs -r cat | sha256sum)
if [ "$(cat "$BUILD/series.key" 2>/dev/null)" != "$key $version" ]; then
	say "applying patches/linux-6.12 to $version"
	rm -rf "$series"
	git init -q "$series"
	export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
	g() { git -C "$series" -c user.name=lab -c user.email=lab@localhost -c gc.auto=0 "$@"; }
	our_patches | xargs -r sed -n 's|^diff --git a/\(.*\) b/.*|\1|p' | sort -u >"$BUILD/series.files"
	while read -r f; do
		[ ! -f "$PRISTINE/$f" ] || (cd "$PRISTINE" && cp --parents "$f" "$series")
	done <"$BUILD/series.files"
	g add -f .
	g commit -q --allow-empty -m "Linux $version"
	for p in $(our_patches); do
		if ! g am -q "$p" >"$LOGS/am.log" 2>&1; then
			cat "$LOGS/am.log" >&2
			die "${p#"$ROOT"/} does not apply to Linux $version"
		fi
	done
	echo "$key $version" >"$BUILD/series.key"
fi

# 3. Both into the tree; what was there before and is not any more goes back
changed=0
our_files >"$BUILD/tree.ours"
sort -u "$BUILD/tree.ours" "$BUILD/series.files" >"$BUILD/tree.now"
touch "$BUILD/tree.placed"
while read -r f; do
	[ ! -e "$PRISTINE/$f" ] || die "$f is a file of Linux $version: change it by a patch"
	! put "$ROOT/$f" "$LINUX/$f" || changed=$((changed + 1))
done <"$BUILD/tree.ours"
while read -r f; do
	[ ! -f "$series/$f" ] || ! put "$series/$f" "$LINUX/$f" || changed=$((changed + 1))
done <"$BUILD/series.files"
comm -13 "$BUILD/tree.now" "$BUILD/tree.placed" | while read -r f; do
	rm -f "$LINUX/$f"
	[ ! -f "$PRISTINE/$f" ] || cp "$PRISTINE/$f" "$LINUX/$f"
done
mv "$BUILD/tree.now" "$BUILD/tree.placed"
[ "$changed" = 0 ] || say "tree: $changed files placed"
