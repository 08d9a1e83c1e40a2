#!/bin/bash
# install-test.sh KERNEL DEB DEST LINUX PRISTINE: lab/dkms/debian.sh runs this in a scratch
# root. Installs KERNEL and DEB, checks, copies the modules to DEST, removes DEB. TAP.
# shellcheck disable=SC2317,SC2086,SC2046
set -eu -o pipefail
kernel=$1 deb=$2 dest=$3 linux=$4 pristine=$5
lib=/usr/lib/modules/$kernel
headers=/usr/src/linux-headers-$kernel
work=/tmp/work
mkdir -p $work
cd $work
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
n=0 bad=0

# check NAME COMMAND...: a result; what the command says is shown only if it fails
check() {
	local name=$1 status=0
	shift
	n=$((n + 1))
	"$@" >$work/said 2>&1 </dev/null || status=$?
	if [ $status = 0 ]; then
		echo "ok $n $name"
	else
		bad=1
		echo "not ok $n $name # exit status $status: $*"
		sed 's/^/# /' $work/said
	fi
}

# says WORDS COMMAND...: the command fails, and says so
says() {
	local words=$1 out
	shift
	if out=$("$@" 2>&1); then
		echo "did not fail: $out"
		return 1
	fi
	echo "$out"
	grep -qF -- "$words" <<<"$out"
}

# The kernel and its headers without their dependencies: no boot loader, no initramfs
unpack() { dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C /; }
for p in "$dest/debs/linux-image-$kernel"*_*.deb "$dest/debs/linux-headers-$kernel"_*.deb; do unpack "$p"; done
needs=$(dpkg-deb -f "$dest/debs/linux-headers-$kernel"_*.deb Depends |
	grep -oE 'linux-(headers-[^ ,]*-common|kbuild-[^ ,]*)' | sort -u)
apt-get install -y -q --no-install-recommends -o Dir::Cache::archives="$dest/debs" -o APT::Sandbox::User=root \
	-o APT::Keep-Downloaded-Packages=true -o Dpkg::Use-Pty=0 dkms $needs >&2
depmod "$kernel"

resolve() { modprobe -S "$kernel" --show-depends "$1" | sed -n 's|^insmod .*/modules/[^/]*/\([^ ]*\).*|\1|p'; }
from() {
	local got
	got=$(resolve kvm-amd; resolve kvm-intel)
	echo "$got"
	[ "$(grep -c "^$1/kvm\(-amd\|-intel\)\?\.ko" <<<"$got")" = 4 ] &&
		[ "$(grep -c '^kernel/virt/lib/irqbypass\.ko' <<<"$got")" = 2 ]
}
own() { (cd "$lib/kernel" && find arch/x86/kvm virt -type f -exec sha256sum {} + | sort); }
unchanged() { own | diff $work/own -; }
# DKMS 3.2 puts away what it replaces, and notes from where
kept() {
	local f
	{
		own
		for f in "/var/lib/dkms/vm2vm/original_module/$kernel"/*/*.origin; do
			[ ! -f "$f" ] || sha256sum "${f%.origin}" | sed "s|  .*|  $(sed "s|.*/$kernel/kernel/||" "$f")|"
		done
	} | sort | diff $work/own -
}
updates() { find "$lib/updates" -type f 2>/dev/null | sed "s|^$lib/updates/||; s/\.xz$//" | sort | paste -sd " "; }
own >$work/own

echo "TAP version 13"
check "before: the kernel's own KVM" from kernel/arch/x86/kvm

installed() { dpkg -i "$deb" && dkms status && dkms status vm2vm -k "$kernel" | grep -q installed; }
check "dpkg installs it, and DKMS builds it for $kernel" installed
version=$(dpkg-deb -f "$deb" Version)
cp "/var/lib/dkms/vm2vm/$version/$kernel/x86_64/log/make.log" "$dest/" || true
if [ $bad = 1 ]; then
	echo "1..$n"
	cat "/var/lib/dkms/vm2vm/$version/build/make.log" >&2 || true
	exit 1
fi

clean_log() { ! grep -iE 'warning|error|undefined' "$dest/make.log"; }
check "the build warns of nothing: no symbol is missing" clean_log
in_updates() { updates; [ "$(updates)" = "dkms/kvm-amd.ko dkms/kvm-intel.ko dkms/kvm.ko" ]; }
check "three modules in updates/dkms" in_updates
check "modprobe takes them, and irqbypass of the kernel" from updates/dkms
check "the kernel's own are there, or kept" kept

if [ $bad = 1 ]; then
	echo "1..$n"
	exit 1
fi

# The modules as files, for modprobe's tools and for the lab
take() {
	case $1 in
	*.xz) xz -dc "$1" >"$2" ;;
	*) cp "$1" "$2" ;;
	esac
}
mkdir -p "$dest"/{virt/lib,arch/x86/kvm,arch/x86/boot,extra}
for m in kvm kvm-amd kvm-intel; do take "$(echo "$lib"/updates/dkms/$m.ko*)" "$dest/arch/x86/kvm/$m.ko"; done
take "$(echo "$lib"/kernel/virt/lib/irqbypass.ko*)" "$dest/virt/lib/irqbypass.ko"
# The lab's kernels have zram built in
n_extra=0
modprobe -S "$kernel" --show-depends zram | sed -n 's/^insmod \([^ ]*\).*/\1/p' | while read -r m; do
	name=${m##*/}
	take "$m" "$dest/extra/$n_extra-${name%%.ko*}.ko"
	n_extra=$((n_extra + 1))
done
cp "/boot/vmlinuz-$kernel" "$dest/arch/x86/boot/bzImage"
cp "/boot/config-$kernel" "$dest/.config"

vermagic() {
	local m magic
	magic=$(modinfo -F vermagic "$dest/virt/lib/irqbypass.ko")
	for m in "$dest"/arch/x86/kvm/*.ko; do [ "$(modinfo -F vermagic "$m")" = "$magic" ] || return 1; done
}
check "their vermagic is the kernel's" vermagic
features() {
	local m
	for m in "$dest"/arch/x86/kvm/*.ko; do [ "$(modinfo -F version "$m")" = "vm2vm-$version" ] || return 1; done
	grep -q kvm_vm2vm_fault "$dest/arch/x86/kvm/kvm.ko"
}
check "they say that they are vm2vm's, and kvm is" features

# What they use of the kernel has the versions that the kernel exports
versions() {
	local m
	awk '$3 !~ "^arch/x86/kvm/" { print $2, $1 }' "$headers/Module.symvers" | sort >$work/exported
	for m in "$dest"/arch/x86/kvm/*.ko; do
		modprobe --dump-modversions "$m" | awk '{ print $2, $1 }' | sort >$work/used
		join $work/exported $work/used | awk '$2 != $3 { bad = 1; print } END { exit bad || NR < 50 }' || return 1
	done
}
check "the versions of what they use are the kernel's" versions

# Whoever else was built for the kernel's own KVM: modules that use its symbols (whose
# versions change with its structures), and code that includes its headers
others() {
	local users
	users=$(sed -n 's|^\([^:]*\):.*[ /]kvm\.ko.*|\1|p' "$lib/modules.dep" | sed 's|.*/||; s/\.ko.*//' | sort | paste -sd " ")
	echo "$users"
	[ "$users" = "kvm-amd kvm-intel" ]
}
check "no other module uses symbols of KVM" others

# Nobody checks versions inside the kernel: there the code must come out the same
layout() {
	local files dir o
	files=$(cd "$pristine" && grep -rlE '(linux|asm)/kvm_host\.h' --include=*.c \
		kernel mm fs lib net drivers/vfio drivers/gpu drivers/hv drivers/iommu drivers/ptp arch/x86 |
		grep -v '^arch/x86/kvm/\|_zdev\.c$' | sort)
	echo "$files"
	[ "$(wc -l <<<"$files")" -ge 3 ] || return 1
	for dir in "$pristine" "$linux"; do
		rm -rf $work/tree
		mkdir $work/tree
		(cd "$pristine" && { dirname $files; find $(dirname $(dirname $files)) -maxdepth 1 -name '*.h'; } |
			xargs cp -r --parents -t $work/tree)
		rm -f $work/tree/arch/x86/events/Makefile
		echo "obj-m := ${files//.c/.o}" | tr '\n' ' ' >$work/tree/Kbuild
		printf '\nNOSTDINC_FLAGS += -I%s/include -I%s/arch/x86/include -I%s/include/uapi -DCONFIG_KVM_VM2VM=1 -DCONFIG_KVM_VM2VM_VIEWS=1\n' \
			"$dir" "$dir" "$dir" >>$work/tree/Kbuild
		make -s -j"$(nproc)" -C "$headers" M=$work/tree ${files//.c/.o} || return 1
		for o in ${files//.c/.o}; do
			# What is numbered by __COUNTER__ has another name if a header asserts something
			(cd $work/tree && objdump -d -r --no-show-raw-insn $o) | sed -E 's/(__UNIQUE_ID\w*[a-z_])[0-9]+/\1/g'
		done >$work/"${dir##*/}.dis"
	done
	[ "$(wc -l <"$work/${pristine##*/}.dis")" -gt 1000 ] &&
		diff "$work/${pristine##*/}.dis" "$work/${linux##*/}.dis" | head -n 40
}
check "code outside KVM that includes its headers stays the same" layout

check "dpkg removes it" dpkg -r vm2vm-dkms
gone() { [ ! -e "$lib/updates/dkms" ] || [ -z "$(updates)" ]; }
check "no module is left in updates" gone
check "modprobe takes the kernel's own again" from kernel/arch/x86/kvm
check "which are as they were" unchanged
purged() {
	dpkg -P vm2vm-dkms
	[ -z "$(dkms status vm2vm)" ] && [ -z "$(find /usr/src /var/lib/dkms -maxdepth 1 -name 'vm2vm*')" ]
}
check "nothing is left of the package" purged

# What users meet who lack something
dpkg --unpack "$deb" >&2
prepare=/usr/src/vm2vm-$version
cd "$prepare"
check "another Linux is refused" says "this is for Linux 6.12, not for 6.1.0-30-amd64" ./prepare.sh 6.1.0-30-amd64 "$headers"
check "no headers: says which" says "install linux-headers-6.12.1+deb12-amd64" ./prepare.sh 6.12.1+deb12-amd64 /nowhere
check "another 6.12 is refused" says "these must be the same version" ./prepare.sh 6.12.1+deb12-amd64 "$headers"
cp -r "$lib" /usr/lib/modules/6.1.0-30-amd64
dkms add vm2vm/"$version" >&2
check "DKMS passes over another Linux" says "does not match this kernel" dkms build vm2vm/"$version" -k 6.1.0-30-amd64
rm /usr/src/linux-source-6.12.tar.*
# DKMS 3.2 shows its log, where prepare.sh says it, to nobody
build() { dkms build vm2vm/"$version" -k "$kernel" || { cat "/var/lib/dkms/vm2vm/$version/build/make.log"; false; }; }
check "no source: says which package" says "install linux-source-6.12" build

echo "1..$n"
exit $bad
