#!/bin/bash
# install-test.sh OLD NEW PART...: lab/check/packages.sh runs this in a root of a Debian release.
# Installs from the repository OLD, upgrades to NEW, removes, purges, by apt. The parts are guest,
# host and qemu. TAP.
# shellcheck disable=SC2317,SC2086,SC2046
set -u -o pipefail
old=$1 new=$2 parts=" ${*:3} "
n=0 bad=0
work=/tmp/work
mkdir -p $work
. /etc/os-release
# Headers may bring a kernel along, but nothing boots here
export INITRD=No

# check NAME COMMAND...: a result; what the command says is shown only if it fails
check() {
	local name=$1 status=0
	shift
	n=$((n + 1))
	"$@" >$work/said 2>&1 </dev/null || status=$?
	if [ $status = 0 ]; then
		echo "ok $n $VERSION_CODENAME: $name"
	else
		bad=1
		echo "not ok $n $VERSION_CODENAME: $name # exit status $status: $*"
		tail -n 60 $work/said | sed 's/^/# /'
	fi
}
skip() {
	n=$((n + 1))
	echo "ok $n $VERSION_CODENAME: $1 # SKIP $2"
}

# The new one is signed, the old one is not
from() {
	local trust="[trusted=yes]"
	[ ! -f "$1/vm2vm.gpg" ] || trust="[signed-by=$1/vm2vm.gpg]"
	echo "deb $trust file:$1 ./" >/etc/apt/sources.list.d/vm2vm.list
	apt-get update -q
}
has() { dpkg-query -W -f '${Status} ${Version}\n' "$1"; }
# at PACKAGE REPOSITORY: installed, in the version that is there
at() {
	local want
	want=$(awk -v p="$1" '/^Package: / { at = $2 == p } at && /^Version: / { print $2 }' "$2/Packages")
	echo "$1 is to be $want, and is: $(has "$1")"
	[ "$(has "$1")" = "install ok installed $want" ]
}
audit() { dpkg --audit; [ -z "$(dpkg --audit)" ] && dpkg --verify | tee $work/verify && [ ! -s $work/verify ]; }
# DKMS 3.2 puts away what it replaces, and brings it back
put_away() {
	[ -z "$(dpkg --audit)" ] || return 1
	dpkg --verify | while read -r what file; do
		echo "$what $file"
		[ "$what" = missing ] && [ -n "$(find /var/lib/dkms/vm2vm/original_module -name "${file##*/}")" ] || return 1
	done
}
files() { find / -xdev \( -path /tmp -o -path /var/cache -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/log -o -path /etc/apt/sources.list.d \) -prune -o -print | sort; }

# built MODULE KERNEL NAME...: DKMS has made these for that kernel, and depmod and modprobe know
built() {
	local module=$1 kernel=$2 m file
	shift 2
	dkms status
	dkms status "$module" -k "$kernel" | grep -q installed || return 1
	for m; do
		file=$(echo "/lib/modules/$kernel/updates/dkms/$m".ko*)
		modinfo "$file" || return 1
		[ "$(modinfo -F vermagic "$file" | cut -d ' ' -f 1)" = "$kernel" ] || return 1
		modprobe -S "$kernel" --show-depends "$m" | grep -F "$file" || return 1
	done
}
not_built() { ! built "$@"; }

echo "TAP version 13"

# The kernels of the release, without themselves: their headers are all that DKMS asks for
headers() { apt-get install -y -q kmod "$@"; }
newest() { apt-cache search --names-only "^linux-headers-$1\\.[-.+a-z0-9]*-cloud-amd64\$" | cut -d ' ' -f 1 | sort -V | tail -n 1; }
case $VERSION_CODENAME in
bookworm) first=6.1 ;;
*) first=6.12 ;;
esac

install() {
	from "$1"
	shift
	apt-get install -y -q "$@" || { tail -n 15 /var/lib/dkms/vm2vm*/*/build/make.log; return 1; }
}
upgrade() { from "$new" && apt-get upgrade -y -q; }
purge() { apt-get purge -y -q "$@" && apt-get autoremove --purge -y -q \
	-o APT::AutoRemove::RecommendsImportant=false -o APT::AutoRemove::SuggestsImportant=false; }
gone() { [ -z "$(find / -xdev -name '*vm2vm*' ! -path '/tmp/*' ! -path '/var/lib/apt/*' ! -path '/etc/apt/*' ! -path '/srv/*')" ]; }

# A guest that serves
if [[ $parts == *" guest "* ]]; then
	kernel=$(newest $first)
	kernel=${kernel#linux-headers-}
	check "headers of Debian's kernel $kernel" headers "linux-headers-$kernel"
	files >$work/before

	check "apt installs the version before" install "$old" vm2vm-backend
	check "all of it" at vm2vm-backend "$old"
	check "the program" at vm2vm-guest "$old"
	check "the driver" at vm2vm-guest-dkms "$old"
	check "DKMS built the driver for $kernel" built vm2vm-guest "$kernel" vm2vm
	runs() {
		local said status=0
		said=$(vm2vm list 2>&1) || status=$?
		echo "$said"
		[ "$status" = 1 ] && grep "is the module vm2vm loaded" <<<"$said"
	}
	check "the program runs" runs
	where() {
		local f
		for f in /usr/sbin/vm2vm /usr/share/man/man8/vm2vm.8.gz /usr/lib/udev/rules.d/60-vm2vm.rules \
			/usr/lib/systemd/system/vm2vm@.service /etc/vm2vm /usr/share/doc/vm2vm-guest/{copyright,changelog.gz} \
			/usr/share/doc/vm2vm-guest-dkms/{copyright,changelog.gz} /usr/share/doc/vm2vm-backend/{copyright,changelog.gz}; do
			[ -e "$f" ] || { echo "there is no $f"; return 1; }
		done
		getent group vm2vm
	}
	check "files and the group are where they belong" where
	check "dpkg finds nothing wrong" audit

	mkdir -p /etc/vm2vm
	echo "COMMAND=net tap0" >/etc/vm2vm/sw0
	unsigned() {
		echo "deb file:$old ./" >/etc/apt/sources.list.d/vm2vm.list
		! apt-get update -q || return 1
		echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] file:$new ./" >/etc/apt/sources.list.d/vm2vm.list
		! apt-get update -q
	}
	check "a repository without a signature, or with another one, is refused" unsigned
	check "apt upgrades" upgrade
	check "all of it is new" at vm2vm-backend "$new"
	check "so is the program" at vm2vm-guest "$new"
	check "so is the driver" at vm2vm-guest-dkms "$new"
	check "DKMS built the new driver" built vm2vm-guest "$kernel" vm2vm
	alone() {
		local said
		said=$(dkms status vm2vm-guest; ls -d /usr/src/vm2vm-guest-* /var/lib/dkms/vm2vm-guest/[0-9]*)
		echo "$said"
		[ "$(dkms status vm2vm-guest | wc -l)" = 1 ] && [ "$(wc -l <<<"$said")" = 3 ]
	}
	check "and has forgotten the old one" alone
	kept() { [ "$(cat /etc/vm2vm/sw0)" = "COMMAND=net tap0" ]; }
	check "what the user configured is kept" kept
	check "dpkg finds nothing wrong after the upgrade" audit

	check "apt removes it" apt-get remove -y -q vm2vm-backend vm2vm-guest vm2vm-guest-dkms
	no_module() { [ -z "$(find /lib/modules /var/lib/dkms /usr/src -name '*vm2vm*')" ]; }
	check "no module is left" no_module
	check "what the user configured is kept by that" kept
	rm -f /etc/vm2vm/sw0
	check "apt purges it" purge vm2vm-backend vm2vm-guest vm2vm-guest-dkms
	# clean: the files that were there, and no others
	clean() {
		files | diff $work/before - >$work/diff
		# What depmod and groupadd have written
		grep -E '^[<>]' $work/diff | grep -vE '^> /(etc/(group|gshadow)-|usr/lib/modules/[^/]*/modules\.[a-z.]*)$' >$work/left
		cat $work/left
		[ ! -s $work/left ] && ! getent group vm2vm
	}
	check "nothing is left behind" clean
	check "nothing that has its name, either" gone
	check "dpkg finds nothing wrong after that" audit
fi

# A host
if [[ $parts == *" host "* ]]; then
	version=$(newest 6.12)
	kernel=${version#linux-headers-}
	source=$(apt-cache policy linux-source-6.12 | sed -n 's/^ *Candidate: //p')
	if [ -z "$version" ] || [ "$(apt-cache policy "$version" | sed -n 's/^ *Candidate: //p')" != "$source" ]; then
		skip "KVM for Debian's 6.12" "apt has no headers of the version of linux-source-6.12, ${source:-which it does not have either}"
	else
		check "headers of Debian's kernel $kernel" headers "linux-headers-$kernel"
		check "apt installs KVM of the version before" install "$old" vm2vm-dkms
		check "it is there" at vm2vm-dkms "$old"
		check "DKMS built it for $kernel" built vm2vm "$kernel" kvm kvm-amd kvm-intel
		check "apt upgrades KVM" upgrade
		check "it is new" at vm2vm-dkms "$new"
		check "DKMS built the new one" built vm2vm "$kernel" kvm kvm-amd kvm-intel
		check "dpkg finds nothing wrong with KVM but what DKMS keeps" put_away
		if [ $first != 6.12 ] && [[ $parts == *" guest "* ]]; then
			check "not for another kernel" not_built vm2vm "$(cd /lib/modules && echo $first.*)" kvm
		fi
	fi
fi

# QEMU, which replaces Debian's
if [[ $parts == *" qemu "* ]]; then
	if grep -qx "Package: qemu-system-x86" "$new/Packages" && [ "$VERSION_CODENAME" = trixie ]; then
		rm -f /etc/apt/sources.list.d/vm2vm.list
		qemu="qemu-system-x86 qemu-system-common qemu-utils qemu-block-extra qemu-system-modules-opengl qemu-system-modules-spice"
		debians() { apt-get update -q && apt-get install -y -q $qemu; }
		check "Debian's QEMU is installed" debians
		versions() { for p in $qemu; do has $p; done; }
		versions >$work/debians
		check "it has no vm2vm-pci" bash -c '! qemu-system-x86_64 -device help | grep vm2vm-pci'
		check "apt installs all that a host needs" install "$new" vm2vm-host
		check "which is ours now" at qemu-system-x86 "$new"
		ours() { for p in $qemu; do at "$p" "$new" || return 1; done; }
		check "with all that goes with it" ours
		device() {
			qemu-system-x86_64 --version | grep -F +vm2vm && qemu-system-x86_64 -device help | grep vm2vm-pci &&
				qemu-system-x86_64 -device vm2vm-pci,help | grep path=
		}
		check "it has vm2vm-pci" device
		check "dpkg finds nothing wrong with QEMU" put_away
		check "apt takes out what is ours" apt-get purge -y -q vm2vm-host vm2vm-dkms
		back() {
			rm /etc/apt/sources.list.d/vm2vm.list
			apt-get update -q
			apt-get install -y -q --allow-downgrades $(for p in $qemu; do echo "$p/$VERSION_CODENAME"; done)
		}
		check "apt goes back to Debian's QEMU" back
		was() { versions | diff $work/debians -; }
		check "in the version that it was" was
		check "which has no vm2vm-pci" bash -c '! qemu-system-x86_64 -device help | grep vm2vm-pci'
		check "dpkg finds nothing wrong with Debian's QEMU" audit
	else
		skip "QEMU" "it is made for Debian 13, by make deb-qemu"
	fi
fi

[ ! -e /var/lib/dpkg/info/vm2vm-dkms.list ] || check "apt purges KVM" purge vm2vm-dkms
check "dpkg finds nothing wrong at the end" audit
check "nothing that has its name is left, at the end" gone
echo "1..$n"
exit $bad
