# Sourced by what makes packages: their versions come from here, and nowhere else.
# shellcheck shell=bash disable=SC2034

# version_of PATH...: $version, for a package that is made of these, and when that was,
# in $SOURCE_DATE_EPOCH. VM2VM_RELEASE is for the tests, which need one before another.
version_of() {
	SOURCE_DATE_EPOCH=$(git -C "$ROOT" -c safe.directory="*" log -1 --format=%ct -- "$@")
	version=${VM2VM_RELEASE:-0.1}.$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d.%H%M%S)
	export SOURCE_DATE_EPOCH
}
