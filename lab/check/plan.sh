#!/bin/bash
# plan.sh: a step runs again if what it depends on has changed, and else does not. TAP. Of a
# copy of the checkout, and of things that stand for what is built.
. "$(dirname "$0")/../lib.sh"
copy=$(mktemp -d "$BUILD/plan.XXXXXX")
trap 'rm -rf "$copy"' EXIT
built=$copy/build
n=0 bad=0

git -C "$ROOT" -c safe.directory='*' ls-files -co --exclude-standard | while read -r f; do
	if [ -f "$ROOT/$f" ]; then echo "$f"; fi
done | cpio -pdm --quiet -D "$ROOT" "$copy"
git -C "$copy" init -q

for f in pristine.key {base,debug,light}/{.config,arch/x86/boot/bzImage,arch/x86/kvm/kvm{,-amd,-intel}.ko,virt/lib/irqbypass.ko} \
	selftests/vm2vm_{matrix,view}_test; do
	mkdir -p "$(dirname "$built/$f")"
	echo "$f" >"$built/$f"
done

# One of each kind: of the host, the labs, VMs, a peer's process, and what runs in a lab itself
kinds="hooks mmu vhost-net driver base_matrix intel_light"

# plan: the kinds' hashes, a line each
plan() {
	local k=${kinds//_/ }
	(cd "$copy" && BUILD=$built LOGS=$built/log PLAN=1 STEPS="^(hooks|mmu|vhost-net|driver|base matrix|intel light)$" lab/check/check.sh) >"$copy/.plan" || return
	for k in $kinds; do sed -n "s/ .*: ${k//_/ }\$/ $k/p" "$copy/.plan"; done
}

# expect NAME FILE STEPS: these, and no others, run again when the file has changed
expect() {
	local again
	n=$((n + 1))
	cp "$copy/$2" "$copy/.saved"
	echo >>"$copy/$2"
	again=$(plan | grep -vxF -f "$copy/.before" | cut -d' ' -f2 | xargs) || true
	mv "$copy/.saved" "$copy/$2"
	if [ "$again" = "$3" ]; then
		echo "ok $n $1"
	else
		echo "not ok $n $1 # $2 has these run again: $again; and should: $3"
		bad=1
	fi
}

plan >"$copy/.before"
[ "$(wc -l <"$copy/.before")" = "$(wc -w <<<"$kinds")" ] || die "no plan: $(cat "$copy/.plan")"
echo "TAP version 13"
echo "1..15"
expect nothing .gitignore ""
expect kernel-source virt/kvm/vm2vm.c "hooks"
expect kernel-built build/base/arch/x86/kvm/kvm.ko "mmu vhost-net base_matrix"
expect other-kernel-built build/light/arch/x86/kvm/kvm.ko "mmu intel_light"
expect program-built build/selftests/vm2vm_matrix_test "mmu base_matrix"
expect interface include/uapi/linux/kvm_vm2vm.h "hooks vhost-net driver"
expect qemu qemu/hw/virtio/vhost-user-vm2vm.c "hooks vhost-net driver"
expect hook patches/qemu-10.0/0001-kvm-Call-vm2vm.patch "hooks mmu vhost-net driver"
expect guest guest/linux/pci.c "hooks vhost-net driver"
expect own-script lab/vms/driver_test.py "hooks driver"
expect shared-script lab/vms/vms.py "hooks vhost-net driver"
expect other-check lab/check/mmu.sh "hooks mmu"
expect machine lab/machine/run.sh "hooks mmu vhost-net driver base_matrix intel_light"
expect emulator lab/machine/emulator.patch "hooks mmu vhost-net driver base_matrix"
expect bochs lab/machine/intel.sh "hooks mmu vhost-net driver intel_light"
exit $bad
