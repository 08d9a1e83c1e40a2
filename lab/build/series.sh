#!/bin/bash
# series.sh: both series for others, complete: mails for `git am` in build/mails/linux and
# build/mails/qemu, each with a cover letter, against Linux 6.12.y and QEMU 10.0 as Debian has them.
# They are applied to the untouched source, and have to make the trees that are built here.
. "$(dirname "$0")/../lib.sh"
cd "$ROOT"
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
maintainer=$(cat lab/packages/maintainer)
name=${maintainer% <*} email=${maintainer#*<}
export GIT_AUTHOR_NAME=$name GIT_AUTHOR_EMAIL=${email%>} GIT_COMMITTER_NAME=$name GIT_COMMITTER_EMAIL=${email%>}
when=$(git -c safe.directory="*" log -1 --format=%ct)
export GIT_AUTHOR_DATE="$when +0000" GIT_COMMITTER_DATE="$when +0000"
lock series
mkdir -p "$BUILD/mails"
work=$(mktemp -d "$BUILD/mails/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
g() { git -C "$repo" -c gc.auto=0 "$@"; }

# begin NAME PRISTINE: $repo has of the untouched source what the series touches ($hooks, $ours),
# and $pristine is that commit
begin() {
	repo=$work/$1
	git init -q "$repo"
	# shellcheck disable=SC2086
	sed -n 's|^diff --git a/\(.*\) b/.*|\1|p' $hooks | sort -u | while read -r f; do
		[ ! -f "$2/$f" ] || (cd "$2" && cp --parents "$f" "$repo")
	done
	g add -f .
	g commit -q -m "$1, untouched"
	pristine=$(g rev-parse HEAD)
}

# files NAME: those of ours that the description names, as a commit; not what is there already
files() {
	local from to pattern patterns=()
	read -r -d '' -a patterns < <(sed '1,/^--$/d' "lab/series/$1") || true
	while read -r from to; do
		for pattern in "${patterns[@]}"; do
			# shellcheck disable=SC2053
			if [[ $to == $pattern ]] && [ ! -e "$repo/$to" ]; then
				mkdir -p "$repo/$(dirname "$to")"
				cp "$from" "$repo/$to"
			fi
		done
	done <<<"$ours"
	g add -f .
	{ sed '/^--$/,$d' "lab/series/$1"; echo "Signed-off-by: $maintainer"; } | g commit -q -F -
}

hook() { g am -q "$ROOT/$1" >"$LOGS/series-am.log" 2>&1 || die "$1 does not apply: $LOGS/series-am.log"; }

# finish NAME TREE: the mails, and what comes of them
finish() {
	local f mails=$BUILD/mails/$1 title body n
	while read -r _ f; do
		[ -e "$repo/$f" ] || die "no patch of the series has $f"
	done <<<"$ours"
	rm -rf "$mails"
	g format-patch -q --cover-letter --subject-prefix="PATCH RFC" -o "$mails" "$pristine"
	title=$(head -n 1 "lab/series/$1/cover")
	body=$work/$1.cover
	tail -n +3 "lab/series/$1/cover" >"$body"
	sed -i -e "s|\*\*\* SUBJECT HERE \*\*\*|$title|" -e "/\*\*\* BLURB HERE \*\*\*/{r $body
		d}" "$mails/0000-cover-letter.patch"
	g checkout -q --detach "$pristine"
	find "$mails" -name '*.patch' ! -name '0000-*' | sort | xargs git -C "$repo" am -q >"$LOGS/series-am.log" 2>&1 ||
		die "the mails of $1 do not apply: $LOGS/series-am.log"
	n=0
	for f in $(cd "$repo" && git ls-files); do
		cmp -s "$repo/$f" "$2/$f" || die "$f comes out in another way than it is built"
		n=$((n + 1))
	done
	say "series: $(find "$mails" -name '*.patch' ! -name '0000-*' | wc -l) mails in build/mails/$1; they make $n files as they are built"
}

# Linux. KVM's hooks come first, as calls of stubs, then the files, then what builds them.
lab/build/tree.sh
hooks=$(our_patches)
ours=$(our_files | grep -v '^guest/' | sed 's/.*/& &/')
begin linux "$PRISTINE"
for p in patches/linux-6.12/0000-*; do hook "$p"; done
files linux/10-interfaces
build="arch/x86/kvm/Kconfig arch/x86/kvm/Makefile virt/kvm/Makefile.kvm"
for p in patches/linux-6.12/*; do
	case ${p##*/} in 0000-* | *-Documentation-* | *-KVM-selftests-*) continue ;; esac
	hook "$p"
done
# What of the hooks builds the files is for later: rewritten without that
tip=$(g rev-parse HEAD)
# shellcheck disable=SC2086
g filter-branch -f --index-filter "git reset -q $pristine -- $build" "$pristine..HEAD" >"$LOGS/series-filter.log" 2>&1 ||
	die "filter-branch: $LOGS/series-filter.log"
for f in lab/series/linux/3*; do files "linux/${f##*/}"; done
# shellcheck disable=SC2086
g checkout -q "$tip" -- $build
files linux/40-build
files linux/50-documentation
hook "$(echo patches/linux-6.12/*-Documentation-*)"
files linux/60-selftests
hook "$(echo patches/linux-6.12/*-KVM-selftests-*)"
finish linux "$LINUX"

# QEMU
lab/build/vmm.sh
hooks=$(find patches/qemu-10.0 -name '*.patch' | sort)
ours=$(git -c safe.directory="*" ls-files -- qemu | sed 's|^qemu/\(.*\)|& \1|'
	echo "guest/vm2vm_pci.h include/standard-headers/vm2vm_pci.h"
	echo "include/uapi/linux/kvm_vm2vm.h linux-headers/linux/kvm_vm2vm.h")
begin qemu "$BUILD/qemu-pristine"
files qemu/10-files
for p in $hooks; do hook "$p"; done
finish qemu "$BUILD/qemu-src"
