# Sourced by lab/machine/run.sh: the AMD lab. QEMU emulates SVM with nested paging, and
# the machine runs on the build machine's own root file system. Debian's kernel has
# no 9p: what it runs comes along in an initramfs.
# shellcheck shell=bash disable=SC2154,SC2034,SC2153,SC2017

shares=$ROOT
for d in "$BUILD" "$(realpath "$MODULES")"; do
	case $d/ in "$ROOT"/* | "$BUILD"/?*) ;; *) shares=$shares:$d ;; esac
done

# Ours, as Debian's QEMU delivers interrupts of nested guests twice at times, see emulator.patch;
# and 7.2 delivers them between STI and HLT, so that a guest halts that has just been woken.
# Where there is no source of it, that has to do.
find_emulator() {
	local status=0

	[ -z "${EMULATOR:-}" ] || return 0
	"$ROOT/lab/build/vmm.sh" >&2 || status=$?
	case $status in
	0) EMULATOR=$BUILD/qemu/qemu-system-x86_64 ;;
	4) EMULATOR="qemu-system-x86_64"; say "lab: Debian's QEMU emulates the machine, with a fault that may break a guest" ;;
	*) exit "$status" ;;
	esac
}

machine() {
	local accel mem s files=()

	find_emulator

	printf "OUT=\$(echo /dev/vport*p1) STATUS=\$(echo /dev/vport*p2)\n" >>"$dir/env"
	if [ "$KERNEL" = debian ]; then
		# With the first VM this kernel patches code of the scheduler, and back after
		# the last. A CPU of QEMU 7.2 may run what was there before: "Oops: int3".
		echo HOLD_VM=1 >>"$dir/env"
		. "$ROOT/lab/machine/initramfs.sh"
		tools="$tools perl"
		make_initramfs >"$dir/initramfs"
		append="$append rdinit=$ROOT/lab/machine/init"
		files=(-initrd "$dir/initramfs")
	else
		files=(-virtfs "local,path=/,mount_tag=rootfs,security_model=none,readonly=on,multidevs=remap")
		for s in ${shares//:/ }; do
			files+=(-virtfs "local,path=$s,mount_tag=share$((${#files[@]} / 2 - 1)),security_model=none,multidevs=remap")
		done
		append="$append root=rootfs rootfstype=9p rootflags=trans=virtio,version=9p2000.L,msize=262144,cache=loose ro"
		[ ${#nic[@]} != 0 ] || append="$append pci=noacpi"
		append="$append init=$ROOT/lab/machine/init LAB_SHARES=$shares"
	fi
	if [ -n "${COUNT:-}" ]; then
		accel="-accel tcg,thread=single -icount shift=0,sleep=off -rtc clock=vm"
		SMP=1
	else
		accel="-accel tcg,thread=multi"
		# One CPU more, the first, which runs no VM.  Any CPU's XRSTOR clears IGNNE in
		# the first CPU's env->hflags2, and not atomically (cpu_clear_ignne(), up to
		# QEMU 10.0 at least). At the same time as a #VMEXIT of that CPU, this brings
		# HF2_NPT_MASK back: the guest is left, but its nested paging stays on, and
		# the next VMRUN runs the host's state as the guest's.
		echo "CPUS=1-$SMP" >>"$dir/env"
		SMP=$((SMP + 1))
	fi
	# Two NUMA nodes, for pages to move between; all CPUs are in the first
	mem=$(numfmt --from=iec "${MEM:-4G}")
	# shellcheck disable=SC2206,SC2054
	qemu=("$EMULATOR" $accel -cpu EPYC,+svm,+npt -smp "$SMP" -m "${MEM:-4G}"
		-object "memory-backend-ram,id=near,size=$((mem / 4 * 3))"
		-object "memory-backend-ram,id=far,size=$((mem / 4))"
		-numa "node,memdev=near,cpus=0-$((SMP - 1))" -numa node,memdev=far
		-nodefaults -no-user-config -display none -no-reboot -kernel "$image" -append "$append"
		"${nic[@]}" "${files[@]}")
	[ -z "${MONITOR:-}" ] || qemu+=(-monitor "unix:$MONITOR,server=on,wait=off")
}

machine_shell() {
	echo "lab: a root shell; Ctrl-a x quits" >&2
	"${qemu[@]}" -serial mon:stdio 2>"$dir/emulator"
}

# The command's output goes to ours, its exit status to $dir/status
machine_run() {
	timeout --foreground -k 5 "$TIMEOUT" "${qemu[@]}" \
		-chardev file,id=console,path="$console" -serial chardev:console \
		-device virtio-serial-pci \
		-chardev file,id=out,path=/proc/self/fd/1 -device virtserialport,nr=1,chardev=out \
		-chardev file,id=status,path="$dir/status" -device virtserialport,nr=2,chardev=status \
		</dev/null 2>"$dir/emulator" | cat
}
