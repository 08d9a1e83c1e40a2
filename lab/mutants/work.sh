# Sourced by what changes KVM or QEMU and builds it: trees and build directories of its own.
# shellcheck shell=bash disable=SC2154
work=${work:-$BUILD/mutants}
src=$work/linux

# prepare KERNEL: make $src what is in $LINUX now, and $work/KERNEL ready to build
prepare() {
	lock kernels
	mkdir -p "$work/$1"
	# A tree of hard links, in which changed files are replaced, never written to
	if [ "$(cat "$work/key" 2>/dev/null)" != "$(cat "$BUILD/pristine.key")" ]; then
		say "mutants: preparing"
		rm -rf "$src"
		cp -al "$LINUX" "$src"
		cat "$BUILD/pristine.key" >"$work/key"
		: >"$work/files"
	fi
	if [ "$(cat "$work/$1/key" 2>/dev/null)" != "$(cat "$BUILD/$1/config.key")" ]; then
		rm -rf "${work:?}/$1"
		mkdir "$work/$1"
		cp "$BUILD/$1/.config" "$work/$1/"
		cat "$BUILD/$1/config.key" >"$work/$1/key"
	fi
	# What has changed since
	cat "$BUILD/tree.placed" "$work/files" | sort -u | while read -r f; do
		if [ -f "$LINUX/$f" ]; then put "$LINUX/$f" "$src/$f" || true; else rm -f "$src/$f"; fi
	done
	cp "$BUILD/tree.placed" "$work/files"
	# modpost looks up the kernel's own symbols there
	cmp -s "$BUILD/$1/vmlinux.o" "$work/$1/vmlinux.o" || cp "$BUILD/$1/vmlinux.o" "$work/$1/"
}

# build KERNEL LOG VENDOR...: the modules for the CPUs of these vendors
build() {
	local kernel=$1 log=$2 v targets=
	shift 2
	for v; do targets="$targets arch/x86/kvm/kvm-$v.ko"; done
	# shellcheck disable=SC2086
	make -s -j"$JOBS" -C "$src" O="$work/$kernel" "${CACHED[@]}" arch/x86/kvm/kvm.ko $targets \
		virt/lib/irqbypass.ko >"$log" 2>&1 </dev/null
}

# prepare_qemu: make $work/qemu/src what QEMU's source with our files is now, and
# $work/qemu/build ready to build
prepare_qemu() {
	local f
	lock mutants-qemu
	"$ROOT/lab/build/vmm.sh" >&2
	if [ "$(cat "$work/qemu/key" 2>/dev/null)" != "$(cat "$BUILD/qemu/options")" ]; then
		say "mutants: preparing QEMU"
		rm -rf "$work/qemu"
		mkdir -p "$work/qemu/build"
		cp -al "$BUILD/qemu-src" "$work/qemu/src"
		# shellcheck disable=SC2046
		(cd "$work/qemu/build" && CC="ccache gcc" CXX="ccache g++" quietly mutants-qemu-configure \
			"$work/qemu/src/configure" $(cat "$BUILD/qemu/options"))
		cat "$BUILD/qemu/options" >"$work/qemu/key"
		: >"$work/qemu/files"
	fi
	cat "$BUILD/qemu.placed" "$work/qemu/files" | sort -u | while read -r f; do
		if [ -f "$BUILD/qemu-src/$f" ]; then put "$BUILD/qemu-src/$f" "$work/qemu/src/$f" || true; else rm -f "$work/qemu/src/$f"; fi
	done
	cp "$BUILD/qemu.placed" "$work/qemu/files"
}

# build_qemu LOG
build_qemu() { ninja -C "$work/qemu/build" -j"$JOBS" qemu-system-x86_64 >"$1" 2>&1 </dev/null; }
