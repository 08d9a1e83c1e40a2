#!/bin/bash
# Build a Bochs whose TLB is tagged by EPTP and VPID, in build/tlb, from Debian's source
# and patches/bochs-3.0. PATH=build/tlb/bin:$PATH then has it as bochs-bin.
#
# The source is that of Debian 13: the mirror has no tarball of Debian 12's Bochs 2.7.
. "$(dirname "$0")/../lib.sh"
. "$ROOT/lab/build/source.sh"
patches=$ROOT/patches/bochs-3.0
out=$BUILD/tlb

key=$(cat "$patches"/*.patch "${BASH_SOURCE[0]}" | sha256sum)
built() { [ "$(cat "$out/key" 2>/dev/null)" = "$key" ]; }
if built; then exit 0; fi
lock tlb
# By whoever had the lock
if built; then exit 0; fi

# Only the tarball: Debian's changes are to the BIOS and the manuals. apt checks it
# against the signed index.
rm -rf "$out"
mkdir -p "$out/bin"
apt_here "$out/apt" trixie deb-src
cd "$out" || exit
say "tlb: getting the source"
# Exit status 4: not here, which is no fault of ours
if ! { get update && get source --tar-only bochs; } >"$LOGS/tlb-apt.log" 2>&1; then
	tail -n 3 "$LOGS/tlb-apt.log" >&2
	say "tlb: there is no source of Bochs 3.0 to be had"
	exit 4
fi
mkdir src
tar -xf bochs_3.0+dfsg.orig.tar.xz -C src --strip-components=1
for p in "$patches"/*.patch; do
	quietly tlb-patch patch -p1 -F0 -d src -i "$p"
done

say "tlb: building Bochs"
cd src || exit
# No debugger, no sound and no display: quicker, and it needs no library
quietly tlb-configure ./configure CC="ccache gcc" CXX="ccache g++" --with-nogui --disable-docbook --disable-plugins \
	--disable-debugger --enable-x86-64 --enable-cpu-level=6 --enable-smp --enable-vmx=2 \
	--enable-all-optimizations --enable-avx --enable-evex --enable-protection-keys \
	--enable-monitor-mwait --enable-memtype --enable-pci
quietly tlb make -j"$JOBS"

# What lab/machine/intel.sh writes and asks for, less what this one does not have
cat >"$out/bin/bochs-bin" <<-END
	#!/bin/bash
	args=()
	while [ \$# -gt 0 ]; do
		case \$1 in
		-rc) shift ;;
		-f) shift
			sed -i -e 's/^display_library: .*/display_library: nogui/' \\
				-e '/^plugin_ctrl:/d' -e '/^sound:/d' -e '/^speaker:/d' "\$1"
			args+=(-f "\$1") ;;
		*) args+=("\$1") ;;
		esac
		shift
	done
	exec $out/src/bochs "\${args[@]}"
END
chmod +x "$out/bin/bochs-bin"
echo "$key" >"$out/key"
say "tlb: built"
