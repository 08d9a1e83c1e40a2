#!/bin/bash
# counted.sh: KVM's modules for the base kernel that count what guests run, in
# build/counted/base, by counted.patch.
. "$(dirname "$0")/../lib.sh"
work=$BUILD/counted
. "$ROOT/lab/mutants/work.sh"
patch=$ROOT/lab/compare/counted.patch
log=$LOGS/counted.log

lock counted
key=$( (cat "$patch" "$BUILD/pristine.key" "$BUILD/base/config.key"; cd "$LINUX" && xargs cat <"$BUILD/tree.placed") | sha256sum)
if [ "$(cat "$work/built.key" 2>/dev/null)" = "$key" ]; then exit 0; fi
say "compare: building KVM's modules that count"
(prepare base)
rm -f "$work/built.key"
sed -n 's|^+++ b/||p' "$patch" | while read -r f; do
	cp "$LINUX/$f" "$src/$f.new"
	mv -f "$src/$f.new" "$src/$f"
done
quietly counted-patch patch -p1 -d "$src" --no-backup-if-mismatch -r - -i "$patch"
build base "$log" amd || { tail -n 40 "$log" >&2; die "they do not build"; }
echo "$key" >"$work/built.key"
