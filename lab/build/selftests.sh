#!/bin/bash
# selftests.sh: build our KVM selftests (and the demo), and with an argument
# those programs of Linux, into build/selftests.
. "$(dirname "$0")/../lib.sh"
lock kernels
dir=tools/testing/selftests/kvm
hdr=$BUILD/headers

# The user ABI headers, installed again only when one of ours has changed
key=$(cd "$LINUX" && { sed -n '\|include/uapi/|p' "$BUILD/tree.placed" | xargs -r cat; cat "$BUILD/pristine.key"; } | sha256sum)
if [ "$(cat "$hdr.key" 2>/dev/null)" != "$key" ]; then
	say "selftests: installing headers"
	quietly headers make -s -j"$JOBS" -C "$LINUX" O="$hdr" headers_install INSTALL_HDR_PATH="$hdr/usr"
	echo "$key" >"$hdr.key"
fi

# Programs are what has a main(); the rest are parts of them.
programs=$(cd "$ROOT" && our_files | sed -n "s|^$dir/\(vm2vm_[a-z0-9_]*\)\.c$|\1|p")
# A relative path: ccache writes such into dependency files, and make must know them again
out=$(realpath -m --relative-to="$LINUX/$dir" "$SELFTESTS")
targets=
for p in $programs "$@"; do
	if ! grep -q '^int main(\|TEST_HARNESS_MAIN\|KVM_ONE_VCPU_TEST_SUITE' "$LINUX/$dir/$p.c"; then continue; fi
	targets="$targets $out/$p"
done
[ -n "$targets" ] || exit 0
# shellcheck disable=SC2086
quietly selftests make -s -j"$JOBS" -C "$LINUX/$dir" CC="ccache gcc" ARCH=x86_64 OUTPUT="$out" \
	INSTALL_HDR_PATH="$hdr/usr" KHDR_INCLUDES="-isystem $hdr/usr/include" $targets
if grep -q 'warning:' "$LOGS/selftests.log"; then cat "$LOGS/selftests.log" >&2; fi
