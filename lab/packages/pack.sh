# Sourced by what makes packages.
# shellcheck shell=bash disable=SC2154
. "$ROOT/lab/packages/version.sh"

# fill FROM TO: with the version, and who maintains it, where FROM leaves room for that
fill() {
	mkdir -p "$(dirname "$2")"
	sed "s/@VERSION@/$version/g; s/@MAINTAINER@/$(cat "$ROOT/lab/packages/maintainer")/" "$1" >"$2"
}

# pack STAGE PATH...: what all packages have, and the package of what is in the directory, into
# build/deb. Sets $deb. It is made of these paths in the repository. The same content gives
# the same package.
pack() {
	local stage=$1 name arch doc
	shift
	name=$(sed -n 's/^Package: //p' "$stage/DEBIAN/control")
	arch=$(sed -n 's/^Architecture: //p' "$stage/DEBIAN/control")
	doc=$stage/usr/share/doc/$name
	deb=$BUILD/deb/${name}_${version}_$arch.deb
	mkdir -p "$doc" "$BUILD/deb"
	cp "$ROOT/lab/packages/copyright" "$doc/"
	{
		printf '%s (%s) unstable; urgency=medium\n\n' "$name" "$version"
		git -C "$ROOT" -c safe.directory="*" log -1 --format='  * Made of commit %h.' -- "$@"
		printf '  * The last changes to it are:\n'
		git -C "$ROOT" -c safe.directory="*" log -12 --format='%s' -- "$@" | fold -s -w 70 | sed 's/ *$//; s/^/    /'
		printf '\n -- %s  %s\n' "$(cat "$ROOT/lab/packages/maintainer")" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
	} | gzip -9n >"$doc/changelog.gz"
	find "$stage" -type d -exec chmod 755 {} +
	find "$stage" -type f -exec chmod 644 {} +
	find "$stage/DEBIAN" -name 'p*' -exec chmod 755 {} +
	find "$stage/usr" -type f \( -path '*/sbin/*' -o -name 'prepare.sh' \) -exec chmod 755 {} +
	sed -i "/^Architecture: /a Installed-Size: $(du -sk --apparent-size --exclude=DEBIAN "$stage" | cut -f 1)" "$stage/DEBIAN/control"
	(cd "$stage" && find usr -type f | sort | xargs md5sum >DEBIAN/md5sums && chmod 644 DEBIAN/md5sums)
	rm -f "$BUILD/deb/$name"_*.deb
	quietly "pack-$name" dpkg-deb --build --root-owner-group -Zxz "$stage" "$deb"
}
