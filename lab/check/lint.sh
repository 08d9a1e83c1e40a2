#!/bin/bash
# lint.sh: checkpatch --strict, gcc W=1 and sparse on our files; no complaint passes.
. "$(dirname "$0")/../lib.sh"
bad=0
cd "$ROOT"

# checkpatch IGNORED --file|--patch FILE...: those that it complained of, it looks at again; those
# that are clean are remembered, by their contents, beside the compiler's cache. New files
# here have no MAINTAINERS entry. On stderr is the noise of an optional helper (spdxcheck),
# which wants a whole repository of Linux.
clean=${CCACHE_DIR%/*}/vm2vm-lint
mkdir -p "$clean"
checkpatch() {
	local ignored=$1 kind=$2 f
	shift 2
	for f; do
		[ -e "$clean/$(looked_at "$ignored" "$kind" "$f")" ] || echo "$f"
	done | xargs -r -P "$(nproc)" -n 1 bash -c 'look_at "$@"' - "$ignored" "$kind" || bad=1
}
looked_at() { { cat "$LINUX/scripts/checkpatch.pl" "$3"; echo "$1 $2 ${3##*/}"; } | sha256sum | cut -c1-40; }
# shellcheck disable=SC2317
look_at() {
	perl "$LINUX/scripts/checkpatch.pl" --root="$LINUX" --strict --terse --quiet --no-summary \
		--ignore "FILE_PATH_CHANGES,$1" "$2" "$3" 2>>"$LOGS/checkpatch.stderr" && touch "$clean/$(looked_at "$@")"
}
export -f looked_at look_at
export LINUX LOGS clean
say "lint: checkpatch"
# Headers of tracepoints and lists of statistics have a form of their own, here as in
# the rest of Linux
special='_trace\.h$\|_stat\.h$'
code=$(our_files | grep '\.[ch]$\|Kconfig' | grep -v "$special\|^guest/")
# shellcheck disable=SC2086
[ -z "$code" ] || checkpatch "" --file $code
code=$(our_files | grep "$special" || true)
# shellcheck disable=SC2086
[ -z "$code" ] || checkpatch COMPLEX_MACRO,OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT,SPACING --file $code
# A program that has no header of the kernel's
code=$(our_files | grep '^guest/.*\.[ch]$' | grep -v '^guest/linux/' || true)
# shellcheck disable=SC2086
[ -z "$code" ] || checkpatch PREFER_KERNEL_TYPES,BIT_MACRO,VOLATILE,CAMELCASE,PREFER_DEFINED_ATTRIBUTE_MACRO,STRCPY,EMBEDDED_FUNCTION_NAME --file $code
# A module that is built for older kernels, too
code=$(our_files | grep '^guest/linux/.*\.[ch]$' || true)
# shellcheck disable=SC2086
[ -z "$code" ] || checkpatch LINUX_VERSION_CODE,CONSTANT_COMPARISON --file $code
# shellcheck disable=SC2046
[ -z "$(our_patches)" ] || checkpatch "" --patch $(our_patches)

# What a program left there by accident is not to be committed
say "lint: files"
stray=$(git -c safe.directory="*" ls-files | grep -v / | grep -vx 'README\.md\|Makefile\|Kconfig\|\.gitignore' || true)
[ -z "$stray" ] || { echo "at the root, and not known there: $stray"; bad=1; }

# A mutant that says nothing, or that does not apply any more, tests nothing, and is not seen to
say "lint: mutants"
# fits TREE PATCH...: of each, that it says what kills it, and applies
fits() {
	local tree=$1 p
	shift
	for p; do
		grep -q '^# kills: .' "$p" || { echo "$p: no line '# kills: TEST'"; bad=1; }
		patch -s -p1 -F0 -d "$tree" --dry-run <"$p" >/dev/null || { echo "$p: does not apply"; bad=1; }
	done
}
fits "$LINUX" lab/mutants/kernel/*.patch
fits guest lab/mutants/guest/*.patch
[ ! -d "$BUILD/qemu-src" ] || fits "$BUILD/qemu-src" lab/mutants/qemu/*.patch

say "lint: W=1 and sparse"
lock lint
out=$BUILD/lint
mkdir -p "$out"
if ! cmp -s "$BUILD/base/.config" "$out/.config.base"; then
	# Every file of ours, that for debug kernels only, too
	{ cat "$BUILD/base/.config"; "$ROOT/lab/build/options.sh" allyes; } >"$out/.config"
	quietly lint make -s -j"$JOBS" -C "$LINUX" O="$out" "${CACHED[@]}" olddefconfig prepare
	cp "$BUILD/base/.config" "$out/.config.base"
fi
# The common part of KVM is built from the architecture's directory
objects=$(our_files | sed -n 's|^virt/\(.*\)\.c$|arch/x86/kvm/../../../virt/\1.o|p; s|^\(arch/.*\)\.c$|\1.o|p')
for o in $objects; do rm -f "$out/$o"; done
if [ -n "$objects" ]; then
	# shellcheck disable=SC2086
	make -s -j"$JOBS" -C "$LINUX" O="$out" "${CACHED[@]}" W=1 C=1 $objects >"$LOGS/lint.log" 2>&1 </dev/null || bad=1
	if [ -s "$LOGS/lint.log" ]; then
		cat "$LOGS/lint.log"
		bad=1
	fi
fi
for o in $objects; do [ -f "$out/$o" ] || { echo "lint: $o was not built"; bad=1; }; done
"$ROOT/lab/build/module.sh" base W=1 C=1 >"$LOGS/lint-module.log" || bad=1
if [ -s "$LOGS/lint-module.log" ]; then
	cat "$LOGS/lint-module.log"
	bad=1
fi

# Only where QEMU has been built: its source comes with that
qemu=$BUILD/qemu-pristine/scripts/checkpatch.pl
if [ -f "$qemu" ]; then
	say "lint: QEMU's checkpatch"
	git -c safe.directory="*" ls-files -co --exclude-standard -- 'qemu/*.[ch]' | while read -r f; do
		perl "$qemu" --no-tree --terse --no-summary -f "$f" 2>/dev/null || true
	done >"$LOGS/lint-qemu.log"
	if [ -s "$LOGS/lint-qemu.log" ]; then
		cat "$LOGS/lint-qemu.log"
		bad=1
	fi
fi

if command -v shellcheck >/dev/null; then
	say "lint: shellcheck"
	shellcheck -x -P SCRIPTDIR -e SC1091 lab/lib.sh lab/*/*.sh lab/machine/init .ci/run || bad=1
fi
if [ "$bad" = 0 ]; then say "lint: no complaints"; fi
exit $bad
