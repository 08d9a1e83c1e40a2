# Sourced by what has a machine without a file system of the build machine: pack
# what runs in it into an initramfs.
# shellcheck shell=bash disable=SC2154,SC2153

# What a command may use besides the programs and files that it names
tools="bash sh env stat cat cp mv rm ln ls mkdir mktemp touch chmod dd head tail cut sort uniq wc
	tr seq tee date sleep timeout sync true false test printf echo id nproc sha256sum cmp stty
	dmesg mount umount mountpoint setsid insmod rmmod lsmod taskset mkswap swapon swapoff
	grep sed awk find xargs uname"

# The files that go along: tools, selftests, modules, PID 1, and what $CMD names
contents() {
	local w

	# shellcheck disable=SC2086
	type -P $tools
	# shellcheck disable=SC2086
	printf '%s\n' "$ROOT/lab/machine/init" "$dir/env" "$dir/cmd" $modules
	[ ! -d "$SELFTESTS" ] || find "$SELFTESTS" -maxdepth 1 -type f -executable
	# Whatever could be a word in it: too many do no harm
	tr -cs '[:alnum:]/._+-' '\n' <"$dir/cmd" | sort -u | while read -r w; do
		case $w in
		-*) ;;
		/*) echo "$w" ;;
		*/*) echo "$ROOT/$w" ;;
		*) type -P "$w" || true ;;
		esac
	done
}

make_initramfs() {
	local root=$dir/root d
	local -a files libraries

	mkdir -p "$root"/{dev,proc,sys,tmp,var/tmp,run,root,usr/{bin,sbin,lib,lib32,lib64,libx32}}
	# As on the build machine, where they may be links into /usr
	for d in bin sbin lib lib32 lib64 libx32; do
		if [ -L "/$d" ]; then ln -s "usr/$d" "$root/$d"; fi
	done
	mapfile -t files < <(contents | sort -u | xargs -d '\n' realpath -s -- | while read -r f; do [ ! -f "$f" ] || echo "$f"; done)
	# Those that are not programs, and static ones, make ldd complain
	mapfile -t libraries < <(ldd "${files[@]}" 2>/dev/null | sed -nE 's|^[[:space:]](.* => )?(/[^ ]*) \(0x.*|\2|p' | sort -u)
	cp -L --parents "${files[@]}" "${libraries[@]}" "$root"
	(
		cd "$root" || exit
		# Not modules, which need their symbols; scripts make strip complain
		find . -type f -perm -100 -exec strip {} + 2>/dev/null || true
		find . | cpio -o -H newc --quiet
	)
	rm -rf "$root"
}
