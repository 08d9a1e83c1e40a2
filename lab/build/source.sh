# Sourced by what builds from Debian 13's source packages.
# shellcheck shell=bash disable=SC2154,SC2317

# apt_here DIR SUITE TYPE: an apt with lists and a cache of its own in DIR, as a function
# get(), for TYPE (deb or deb-src) of one suite. The mirror and its keys are those of the
# machine's own configuration.
apt_here() {
	local mirror keys
	# shellcheck disable=SC2016
	read -r mirror keys < <(apt-get indextargets --format '$(REPO_URI) $(SIGNED_BY)' 'Created-By: Packages' 'Component: main') ||
		die "apt has no Debian mirror"
	# Not every apt tells that, and not every mirror has keys of its own
	[[ $keys == /* ]] || keys=
	apt_dir=$1
	mkdir -p "$apt_dir/lists/partial" "$apt_dir/cache/archives/partial"
	printf 'Types: %s\nURIs: %s\nSuites: %s\nComponents: main\n%s' \
		"$3" "$mirror" "$2" "${keys:+Signed-By: $keys
}" >"$apt_dir/src.sources"
	get() {
		apt-get -q -o Dir::Etc::sourcelist="$apt_dir/src.sources" -o Dir::Etc::sourceparts=/dev/null \
			-o Dir::State::lists="$apt_dir/lists" -o Dir::Cache="$apt_dir/cache" \
			-o APT::Sandbox::User=root "$@"
	}
}
