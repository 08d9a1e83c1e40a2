#!/bin/bash
# headers.sh: the driver of the guest's package (lab/dkms/guest.sh), built against the headers of
# Debian's kernels: 6.1 and 6.12, the cloud flavour, as they are in the archive now. TAP. Nothing
# is installed: the packages are unpacked into build/headers-VERSION.
. "$(dirname "$0")/../lib.sh"
lock headers
n=0 bad=0
result() {
	n=$((n + 1))
	echo "$1 $n $2"
	[ "$1" = ok ] || bad=1
}

# unpack PACKAGE DIR: with what of the same source it is built on
unpack() {
	local deps
	deps=$(apt-cache show "$1" | sed -n 's/^Depends: //p' | head -n 1 | grep -oE 'linux-(headers|kbuild)-[^ ,]+' | sort -u)
	rm -rf "$2"
	mkdir -p "$2"
	# shellcheck disable=SC2086
	(cd "$2" && quietly headers apt-get download "$1" $deps && for d in *.deb; do dpkg-deb -x "$d" . && rm "$d"; done)
}

deb=$("$ROOT/lab/dkms/guest.sh" | grep -F /vm2vm-guest-dkms_)
echo "TAP version 13"
for version in 6.1 6.12; do
	package=$(apt-cache search --names-only "^linux-headers-$version\\..*-cloud-amd64\$" | cut -d ' ' -f 1 | sort -V | tail -n 1)
	if [ -z "$package" ]; then
		result ok "Linux $version # SKIP apt has no headers of it"
		continue
	fi
	dir=$BUILD/headers-$version
	if [ "$(cat "$dir/package" 2>/dev/null)" != "$package" ]; then
		unpack "$package" "$dir"
		# They name each other by absolute paths
		grep -rlI "/usr/\(src\|lib\)/linux-" "$dir/usr/src" --include=Makefile | xargs -r sed -i "s#/usr/\(src\|lib\)/linux-#$dir&#g"
		echo "$package" >"$dir/package"
	fi
	stage=$BUILD/guest/headers-$version
	rm -rf "$stage"
	dpkg-deb -x "$deb" "$stage"
	src=$(echo "$stage"/usr/src/vm2vm-guest-*)
	status=0
	# BTF would need pahole
	make -s -j"$JOBS" -C "$dir/usr/src/$package" M="$src/linux" CONFIG_DEBUG_INFO_BTF_MODULES= modules >"$stage/log" 2>&1 </dev/null || status=$?
	# A symbol that is not exported is a warning only
	if [ "$status" = 0 ] && ! grep -qiE 'warning|error|undefined' <(grep -v 'BTF' "$stage/log"); then
		result ok "$package"
	else
		sed 's/^/# /' "$stage/log"
		result "not ok" "$package"
	fi
done
echo "1..$n"
exit $bad
