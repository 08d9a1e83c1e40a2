#!/bin/bash
# repo.sh: build/repo, or what REPO=... says, an apt repository of what is in build/deb. With KEY=...
# it is signed by this key of the user's gpg; without, it is for [trusted=yes]. Prints the line
# for sources.list.
. "$(dirname "$0")/../lib.sh"
cd "$ROOT"
lab/packages/deb.sh >/dev/null
lock repo
repo=${REPO:-$BUILD/repo}
rm -rf "$repo.new"
mkdir -p "$repo.new"
cp -l "$BUILD"/deb/*.deb "$repo.new/"
cd "$repo.new"
apt-ftparchive packages . 2>"$LOGS/repo.log" >Packages || die "apt-ftparchive: $LOGS/repo.log"
gzip -9nk Packages
apt-ftparchive -o APT::FTPArchive::Release::Origin=vm2vm -o APT::FTPArchive::Release::Label=vm2vm \
	-o APT::FTPArchive::Release::Description="direct memory between two virtual machines" release . >Release.new
mv Release.new Release
trust="[trusted=yes]"
if [ -n "${KEY:-}" ]; then
	gpg --batch --yes -u "$KEY" --clearsign -o InRelease Release
	gpg --batch --yes -u "$KEY" --armor --detach-sign -o Release.gpg Release
	gpg --batch --yes --export "$KEY" >vm2vm.gpg
	trust="[signed-by=$repo/vm2vm.gpg]"
fi
rm -rf "$repo"
mv "$repo.new" "$repo"
echo "deb $trust file:$repo ./"
