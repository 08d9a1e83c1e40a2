#!/bin/bash
# plan.sh: a step runs again if what it depends on has changed, and else does not. TAP. Of a
# copy of the checkout, and of things that stand for what is built.
. "$(dirname "$0")/../lib.sh"
copy=$(mktemp -d "$BUILD/plan.XXXXXX")
trap 'rm -rf "$copy"' EXIT
built=$copy/build
n=0 bad=0
unset LONG

listed . | cpio -pdm --quiet -D "$ROOT" "$copy"
git -C "$copy" init -q

for f in pristine.key {base,debug,light}/{.config,arch/x86/boot/bzImage,arch/x86/kvm/kvm{,-amd,-intel}.ko,virt/lib/irqbypass.ko} \
	selftests/vm2vm_{matrix,view}_test; do
	mkdir -p "$(dirname "$built/$f")"
	echo "$f" >"$built/$f"
done

# One of each kind: of the host, the labs, VMs, a peer's process, what of VMs needs no other kernel,
# and what runs in a lab itself
kinds="hooks|mmu|vhost-net|vhost-net of QEMU|driver|base matrix|intel light"

# plan: a line for each of these, with its hash: "HASH known: NAME" or "HASH to run: NAME"
plan() { (cd "$copy" && BUILD=$built LOGS=$built/log PLAN=1 STEPS="^($kinds)$" lab/check/check.sh); }

# expect NAME FILE [STEP]...: these, and no others, run again when the file has changed
expect() {
	local name=$1 file=$2 again want=
	shift 2
	[ $# = 0 ] || want=$(printf '%s\n' "$@" | sort)
	n=$((n + 1))
	cp "$copy/$file" "$copy/.saved"
	echo >>"$copy/$file"
	again=$(plan | grep -vxF -f "$copy/.before" | sed 's/.*: //' | sort) || true
	mv "$copy/.saved" "$copy/$file"
	if [ "$again" = "$want" ]; then
		echo "ok $n $name"
	else
		echo "not ok $n $name # $file has these run again: ${again//$'\n'/, }; and should: ${want//$'\n'/, }"
		bad=1
	fi
}

plan >"$copy/.before"
[ "$(cut -d: -f2 <"$copy/.before" | grep -cxE " ($kinds)")" = 7 ] || die "no plan: $(cat "$copy/.before")"
echo "TAP version 13"
echo "1..21"
expect nothing .gitignore
expect kernel-source virt/kvm/vm2vm.c hooks
expect kernel-built build/base/arch/x86/kvm/kvm.ko mmu vhost-net "base matrix"
expect other-kernel-built build/light/arch/x86/kvm/kvm.ko mmu "intel light"
expect program-built build/selftests/vm2vm_matrix_test mmu "base matrix"
expect interface include/uapi/linux/kvm_vm2vm.h hooks vhost-net "vhost-net of QEMU" driver
expect qemu qemu/hw/virtio/vhost-user-vm2vm.c hooks vhost-net "vhost-net of QEMU" driver
expect hook patches/qemu-10.0/0001-kvm-Call-vm2vm.patch hooks mmu vhost-net "vhost-net of QEMU" driver
expect guest guest/linux/pci.c hooks vhost-net "vhost-net of QEMU" driver
expect own-script lab/vms/driver_test.py hooks driver
expect shared-script lab/vms/vms.py hooks vhost-net "vhost-net of QEMU" driver
expect other-check lab/check/mmu.sh hooks mmu
expect machine lab/machine/run.sh hooks mmu vhost-net "vhost-net of QEMU" driver "base matrix" "intel light"
expect emulator lab/machine/emulator.patch hooks mmu vhost-net "vhost-net of QEMU" driver "base matrix"
expect bochs lab/machine/intel.sh hooks mmu vhost-net "vhost-net of QEMU" driver "intel light"

# says NAME LINE: the plan has this line
says() {
	n=$((n + 1))
	if plan | grep -xF "$2" >/dev/null; then
		echo "ok $n $1"
	else
		echo "not ok $n $1 # no line '$2'"
		bad=1
	fi
}
key=$(sed -n 's/ to run: driver$//p' "$copy/.before")
echo "$key" >"$built/log/passed/driver"
says no-log "$key to run: driver"
: >"$built/log/check-driver.log"
says passed "$key known: driver"
FORCE=1 says forced "$key to run: driver"
echo other >"$built/log/passed/driver"
says passed-with-other-inputs "$key to run: driver"
# What passed with LONG=1 is known beside that
long=$(LONG=1 plan | sed -n 's/ to run: driver$//p')
echo "$long" >"$built/log/passed/driver.long"
: >"$built/log/check-driver.long.log"
LONG=1 says passed-long "$long known: driver"
echo "$key" >"$built/log/passed/driver"
says passed-both "$key known: driver"
exit $bad
