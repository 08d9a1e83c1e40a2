#!/bin/bash
# packages.sh [SUITE...]: our packages in roots of Debian 12 and 13, installed, upgraded and
# removed by apt from repositories as `make repo` makes them. TAP. PARTS='guest host qemu': only
# these. QEMU is tried if `make deb-qemu` was there before.
. "$(dirname "$0")/../lib.sh"
. "$ROOT/lab/packages/root.sh"
cd "$ROOT"
lock packages
[ $# -gt 0 ] || set -- bookworm trixie
work=$BUILD/packages
mkdir -p "$work"

# A version before this one
say "packages: repositories" >&2
export GNUPGHOME=$work/gnupg
mkdir -p "$GNUPGHOME"
chmod 700 "$GNUPGHOME"
[ -n "$(ls "$GNUPGHOME/private-keys-v1.d" 2>/dev/null)" ] ||
	quietly packages-key gpg --batch --passphrase '' --quick-generate-key "a key for tests" default default never
KEY="a key for tests" REPO=$work/repo quietly packages-new lab/packages/repo.sh
gpgconf --kill all
VM2VM_RELEASE=0.0 LOGS=$LOGS BUILD=$work/old quietly packages-old lab/packages/repo.sh
bad=0
for suite; do
	make_root "$suite"
	say "packages: $suite" >&2
	mkdir -p "$work/archives-$suite"
	rm -rf "${work:?}/$suite"
	# shellcheck disable=SC2086
	BIND="$work/old/repo:/srv/old $work/repo:/srv/new $ROOT/lab/packages:/srv/test $work/archives-$suite:/var/cache/apt/archives" \
		in_root "$suite" "$work/$suite" /srv/test/install-test.sh /srv/old /srv/new ${PARTS:-guest host qemu} >"$work/$suite.tap" 2>&1 </dev/null || bad=1
	cat "$work/$suite.tap"
	grep -q '^1\.\.' "$work/$suite.tap" || bad=1
	rm -rf "${work:?}/$suite"
done
exit $bad
