# Sourced by lab/machine/run.sh: the Intel lab. Bochs emulates VMX with EPT, instruction
# by instruction, and a PC around it. It shares no directory with the build
# machine: what runs in it comes along as an initramfs, on a CD.
# shellcheck shell=bash disable=SC2154,SC2034,SC2153

# Bochs' clock counts instructions: so many are a second in there. As many as it
# executes in a second of the build machine, about; and HZ is 250.
IPS=50000000

. "$ROOT/lab/machine/initramfs.sh"

machine() {
	local cd=$dir/cd/isolinux mem

	# The second and third serial line
	printf 'OUT=/dev/ttyS1 STATUS=/dev/ttyS2\n' >>"$dir/env"
	mem=$(($(numfmt --from=iec "${MEM:-1G}") >> 20))

	# Of AVX-512's state, Bochs and Linux have different sizes in mind. The CPU
	# says that its clock runs at 3.5 GHz, but Bochs has it run at IPS. A CPU may stay
	# in MWAIT for minutes, whatever is written to what it monitors. And to reboot is
	# to end: with a triple fault.
	append="$append clearcpuid=avx512f tsc_early_khz=$((IPS / 1000)) reboot=t idle=halt"
	append="$append rdinit=$ROOT/lab/machine/init initrd=initramfs"

	mkdir -p "$cd"
	make_initramfs >"$cd/initramfs"
	cp "$image" "$cd/linux"
	cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$cd/"
	printf 'default linux\nprompt 0\nlabel linux\n kernel linux\n append %s\n' "$append" >"$cd/isolinux.cfg"
	quietly bochs-cd xorriso -as mkisofs -quiet -o "$dir/cd.iso" -b isolinux/isolinux.bin \
		-c isolinux/boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table "$dir/cd"
	rm -rf "$dir/cd"

	# Cores of one processor, as Linux does not understand Bochs' CPUID of more
	cat >"$dir/bochsrc" <<-END
		config_interface: textconfig
		display_library: sdl2
		plugin_ctrl: serial=1, unmapped=1, biosdev=1
		cpu: model=corei7_skylake_x, count=1:$SMP:1, quantum=32, ips=$IPS, reset_on_triple_fault=0
		memory: guest=$mem, host=$mem
		romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot
		vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
		ata0-master: type=cdrom, path=$dir/cd.iso, status=inserted
		boot: cdrom
		speaker: enabled=0
		sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
		com2: enabled=1, mode=file, dev=/proc/self/fd/3
		com3: enabled=1, mode=file, dev=$dir/status
		clock: sync=none
		log: $dir/bochs.log
		panic: action=fatal
		error: action=ignore
		info: action=ignore
	END
	# Debian's Bochs has a debugger, which waits to be told
	echo c >"$dir/continue"
	bochs=(env SDL_VIDEODRIVER=dummy bochs-bin -q -f "$dir/bochsrc" -rc "$dir/continue")
}

machine_shell() {
	local tty settings

	tty=$(tty) || die "a shell needs a terminal"
	settings=$(stty -g)
	echo "lab: a root shell, in a minute; exit ends it" >&2
	echo "com1: enabled=1, mode=term, dev=$tty" >>"$dir/bochsrc"
	"${bochs[@]}" </dev/null >"$dir/emulator" 2>&1 3>&1 || true
	# Bochs leaves a speed that is not in the settings, which makes stty complain
	stty "$settings" 2>/dev/null || true
}

# The command's output goes to ours, its exit status to $dir/status
machine_run() {
	echo "com1: enabled=1, mode=file, dev=$console" >>"$dir/bochsrc"
	timeout --foreground -k 5 "$TIMEOUT" "${bochs[@]}" 3>&1 </dev/null >"$dir/emulator" 2>&1 | cat
}
