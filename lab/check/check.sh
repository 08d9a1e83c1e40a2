#!/bin/bash
# check.sh: build what is tested, run the steps below and count what passed.
#
# A step that speaks TAP counts as its results, another one as one. What passed
# is remembered by the contents of all that went in; FORCE=1 forgets it.
# STEPS='regex' runs only the steps whose name matches. PLAN=1 builds, and then says of
# each step whether it would run, and a hash of all that it depends on.
#
# What runs always is the least that would notice anything that is broken, with few
# trials. LONG=1 is all there is, and repeats what is repeated as often as the programs
# do by themselves.
#
# Steps are in groups. Those of a group go one after the other; there are two groups at a
# time (LANES=N: N), and the groups that take longest come first. With one more the machines'
# CPUs wait for each other: all of it takes longer. Beside them goes what waits most of its time.
. "$(dirname "$0")/../lib.sh"
cd "$ROOT"
long=${LONG:+1}
times=$LOGS/check.times

# together TRIALS LONG PROGRAM...: a command that runs them all, in one machine. A program may
# come with arguments. With LONG=1 it repeats so often, with "-" as often as it does by itself,
# but for rings, a million of which take minutes.
together() {
	local p trials=$1 times command="bad=0"
	[ -z "$long" ] || trials=$2
	shift 2
	for p; do
		case $trials$p in
		-vm2vm_doorbell_test*) times="VM2VM_TRIALS=100 " ;;
		-*) times= ;;
		*) times="VM2VM_TRIALS=$trials " ;;
		esac
		command="$command ; $times$SELFTESTS/$p || bad=1"
	done
	echo "$command ; exit \$bad"
}

# A line for each step: name | where it runs | command. It runs in a lab: base, debug, debian
# are kernels in the AMD one, "intel base", "tlb base" in others; or on the host, from where
# most start a lab by themselves. Which of these says what a step depends on, so when what it
# found is out of date:
#	host	all that is ours
#	labs	KVM's part: our kernels and the programs that test them
#	vms	VMs in the base lab: its kernel, QEMU, the guest's side
#	user	QEMU against a peer's process, the guest's driver and programs, programs of others,
#		the lab itself: of KVM's part the interface. The rest of it is in what runs in vms.
# A script of VMs has tests of both kinds: those that it marks as of_qemu need no other kernel to
# be done again. LONG=1 does not part them.
# What is to be built is no test.

# parted NAME COMMAND: both
parted() {
	if [ -n "$long" ]; then
		echo "$1 | vms | $2"
	else
		echo "$1 | vms | $2 --of-kvm"
		echo "$1 of QEMU | user | $2 --of-qemu"
	fi
}

# First, and alone: they use both CPUs by themselves
steps_build() {
	local k
	for k in base debug light; do echo "build $k | build | lab/build/kernel.sh $k"; done
	echo "build selftests | build | lab/build/selftests.sh ${LINUX_TESTS:-}"
	echo "build qemu | build | lab/build/vmm.sh"
}

steps_source() {
	echo "hooks | host | lab/check/hooks.py"
	echo "lint | host | lab/check/lint.sh"
	echo "plan | host | lab/check/plan.sh"
	echo "nconfig | host | lab/check/nconfig.sh"
}

# The tests of KVM's part, on a plain kernel and on one that checks everything. That takes
# long to start and to stop, so a few at a time.
steps_base() {
	local p
	echo "base | base | $(together 10 - vm2vm_test vm2vm_abi_test vm2vm_access_test vm2vm_dirty_test vm2vm_example_test \
		vm2vm_doorbell_test vm2vm_fill_test vm2vm_miss_test vm2vm_shapes_test vm2vm_race_test)"
	echo "base revokers | base | $(together 10 - vm2vm_revoke_test vm2vm_bound_test vm2vm_stall_test vm2vm_mmu_test vm2vm_view_test)"
	echo "base matrix | base | $(together 5 - vm2vm_matrix_test)"
	# The same with an owner that logs
	[ -z "$long" ] || echo "base logged matrix | base | VM2VM_LOG=1 $SELFTESTS/vm2vm_matrix_test"
	for p in ${LINUX_TESTS:-}; do
		# That one takes longer than all of ours for a memslot
		[ "$p" = set_memory_region_test ] && [ -z "$long" ] || echo "base linux $p | base | $SELFTESTS/$p"
	done
	echo "base demo-core | base | $SELFTESTS/vm2vm_demo ${DEMO_ARGS:---file $BUILD/base/vmlinux}"
}

steps_debug() {
	# Of the same in four styles, one; and not what takes its time with every object tracked,
	# or is for kernels that do not track them
	local dirty="vm2vm_dirty_test -T huge_hugetlb -T huge_thp -T shadow -T spinning -T scattered -T sixteen_iovas -T mutual -T emulated_moves -v get"
	local core="vm2vm_test -T many_mappings -T many_mappings_down"
	local abi="vm2vm_abi_test -T memory -T link_limit -T link_limit_of_owner"
	local bells="vm2vm_doorbell_test -T abi_limit -T abi_descriptors -T abi_fields -T abi_overlaps -T abi_callers -T abi_bells -T end_cost -T many -T exact -T both -T bursts"
	local stall="vm2vm_stall_test -T interrupt -T limit"
	local shapes="vm2vm_shapes_test -T stranger -T ring -T close_orders_vcpu -T backends_32 -T each_other -T each_other_processes -T ring_processes"
	local bound="vm2vm_bound_test -T is_small -T age_unmapped -T fault_at_the_edges -F close -F cost -F starve"
	[ -z "$long" ] || dirty=vm2vm_dirty_test core=vm2vm_test abi=vm2vm_abi_test bells=vm2vm_doorbell_test \
		stall=vm2vm_stall_test shapes=vm2vm_shapes_test bound=vm2vm_bound_test
	echo "debug core | debug | $(together 1 10 "$core" "$abi" vm2vm_access_test "$dirty" "$bells" vm2vm_example_test)"
	echo "debug revokers | debug | $(together 3 20 vm2vm_revoke_test "$bound" vm2vm_miss_test "$stall" ${long:+vm2vm_race_test} "$shapes")"
	echo "debug more | debug | $(together 3 20 vm2vm_inject_test vm2vm_fill_test vm2vm_mmu_test vm2vm_view_test ${long:+vm2vm_matrix_test})"
}

steps_qemu() {
	echo "rings | user | lab/check/rings.sh"
	echo "vms | user | lab/vms/links.sh vms_test.py"
	# TCP is slow while other machines take the CPUs
	echo "demo | vms | lab/vms/links.sh demo.py 4"
	echo "backends | vms | lab/vms/links.sh backend_test.py"
	echo "backends move | vms | lab/vms/links.sh backend_move_test.py"
	parted links "lab/vms/links.sh link_test.py"
	echo "iommu | vms | lab/vms/links.sh iommu_test.py"
	echo "fuzz | user | lab/check/fuzz.sh"
	[ -z "$long" ] || echo "qemu others | host | lab/build/vmm.sh others"
}

# Timers, and peers that are slow
steps_waits() {
	echo "lab | user | lab/check/selfcheck.sh"
	echo "qtest | user | lab/check/qtest.sh"
	echo "link peers | user | lab/vms/links.sh link_peer_test.py"
	echo "backend peers | user | lab/vms/links.sh backend_peer_test.py"
	echo "vhost-user peers | user | lab/vms/links.sh vhost_user_peer_test.py"
	echo "vhost-user hostile peers | user | lab/vms/links.sh vhost_user_hostile_test.py"
}

# Devices that a guest serves
steps_served() {
	# A kernel that checks everything takes minutes for what this one does
	local checked=light few=" all_at_once"
	[ -z "$long" ] || checked=debug few=
	echo "vhost-user kinds | user | lab/vms/links.sh vhost_user_kinds_test.py"
	echo "vhost-user | user | env ${long:+VM2VM_TRIALS=100 TIMEOUT=14400} lab/vms/links.sh vhost_user_test.py"
	parted "vhost-user fence" "env ${long:+VM2VM_TRIALS=50 TIMEOUT=7200} lab/vms/links.sh vhost_user_fence_test.py"
	echo "driver | user | lab/vms/links.sh driver_test.py"
	echo "driver $checked | user | env L2_KERNEL=$BUILD/$checked/arch/x86/boot/bzImage lab/vms/links.sh driver_test.py$few"
	echo "hostile owners | user | env ${long:+L2_KERNEL=$BUILD/debug/arch/x86/boot/bzImage TIMEOUT=7200} lab/vms/links.sh hostile_owner_test.py"
	parted vhost-net "env ${long:+VM2VM_TRIALS=50 TIMEOUT=7200} lab/vms/links.sh vhost_net_test.py"
	echo "region | user | env ${long:+TIMEOUT=3600} lab/vms/links.sh region_test.py"
	[ -z "$long" ] || echo "joins | vms | env MEM=8G VM2VM_TRIALS=100 TIMEOUT=7200 lab/vms/links.sh join_test.py"
	[ -z "$long" ] || echo "polled | user | lab/vms/links.sh polled_test.py"
	[ -z "$long" ] || echo "boot | vms | lab/vms/links.sh boot_test.py"
	[ -z "$long" ] || echo "libvirt | vms | lab/vms/links.sh libvirt_test.py"
	[ -z "$long" ] || echo "vf | vms | env LAB=vf TIMEOUT=5400 lab/vms/links.sh vf_test.py"
	[ -z "$long" ] || echo "seeing | vms | lab/vms/links.sh seeing_test.py"
	echo "modes | user | env ${long:+TIMEOUT=7200} lab/vms/links.sh modes_test.py"
	echo "foreign | user | env ${long:+VM2VM_TRIALS=50 TIMEOUT=7200} lab/vms/links.sh foreign_test.py"
}

# Bochs is slow, so the core and what only VMX has
few_doorbells="vm2vm_doorbell_test -T abi_limit -T abi_max_array -T many -T storm"
steps_intel() {
	local core="vm2vm_test -T many_mappings -T many_mappings_down" views="vm2vm_view_test -T memory"
	[ -z "$long" ] || core=vm2vm_test views=vm2vm_view_test
	# shellcheck disable=SC2086
	echo "intel core | intel base | $(together 3 10 "$core" ${long:+vm2vm_abi_test vm2vm_revoke_test vm2vm_view_test} "$few_doorbells")"
	[ -z "$long" ] || echo "intel reload | intel base | lab/check/reload.sh $BUILD/base/arch/x86/kvm/kvm-intel.ko $SELFTESTS/vm2vm_view_test"
	# shellcheck disable=SC2086
	echo "intel light | intel light | $(together 3 10 ${long:+vm2vm_test vm2vm_revoke_test "$few_doorbells"} "$views")"
}

# With a TLB that keeps what KVM does not flush
steps_tlb() {
	local views="vm2vm_view_test -f inside"
	[ -z "$long" ] || views=vm2vm_view_test
	echo "tlb | host | lab/build/tlb.sh"
	echo "tlb all | tlb base | $(together 3 50 ${long:+vm2vm_test} vm2vm_revoke_test "$views")"
}

# The same windows by every MMU, and by KVM's emulator
steps_mmu() { echo "mmu | labs | lab/check/mmu.sh"; }

# KVM's modules, built for Debian's own kernel and run there
steps_debian() {
	echo "dkms | host | lab/dkms/debian.sh"
	echo "dkms guest | host | lab/check/headers.sh"
	[ -z "$long" ] || echo "packages | host | lab/check/packages.sh"
	echo "debian core | debian | $(together 5 - vm2vm_test vm2vm_abi_test ${long:+vm2vm_revoke_test vm2vm_matrix_test})"
	[ -z "$long" ] || echo "intel debian core | intel debian | $(together 5 10 vm2vm_test)"
}

steps_bench() {
	echo "bench | labs | lab/check/bench.sh"
	[ -z "$long" ] || echo "compare | host | lab/compare/compare.sh"
}

groups="served debug qemu mmu base intel source bench debian tlb"

# lab_files COMMAND: what of lab/ it depends on. For a script of links.sh's that is what starts
# VMs and what the script imports; for others, all.
lab_files() {
	local script
	script=$(sed -n 's|.*lab/vms/links.sh \([a-z_]*\.py\).*|\1|p' <<<"$1")
	if [ -z "$script" ]; then
		find lab -type f ! -path 'lab/mutants/*'
		return
	fi
	find lab/lib.sh lab/build lab/machine lab/packages lab/vms -type f ! -path 'lab/vms/*.py'
	PYTHONDONTWRITEBYTECODE=1 python3 -c '
import modulefinder, os, sys
finder = modulefinder.ModuleFinder(["lab/vms"])
finder.run_script(sys.argv[1])
print(*sorted(os.path.relpath(m.__file__) for m in finder.modules.values() if m.__file__), sep="\n")' "lab/vms/$script"
}

# booted NAME...: what a lab boots of these kernels
booted() {
	for k; do (cd "$BUILD/$k" && sha256sum .config arch/x86/boot/bzImage arch/x86/kvm/*.ko virt/lib/*.ko); done
}

# inputs WHERE COMMAND: a hash of everything that a step depends on
inputs() {
	{
		# What a host's step leaves out without LONG=1 is for its script to say
		echo "$1 $2 ${long:-quick}"
		case $1 in
		host) cat "$BUILD/pristine.key"; { our_files; find lab patches qemu guest -type f; } | hashes ;;
		labs) booted base debug light; { find lab/lib.sh lab/build lab/machine lab/check patches -type f; echo "$SELFTESTS"/vm2vm_* | xargs -n 1; } | hashes ;;
		vms) booted base; { lab_files "$2"; find patches qemu guest include/uapi -type f; } | hashes ;;
		user) { lab_files "$2"; find patches qemu guest include/uapi -type f; } | hashes ;;
		*' '* | base | debug | debian) booted "${1#* }"
			case $1 in intel*) sha256sum lab/machine/intel.sh ;; tlb*) cat lab/machine/intel.sh "$BUILD/tlb/key" ;; *) sha256sum lab/machine/amd.sh lab/machine/emulator.patch ;; esac
			sha256sum lab/machine/run.sh lab/machine/init lab/machine/initramfs.sh
			for w in $2; do [ ! -f "$w" ] || sha256sum "$w"; done ;;
		*) die "no step runs in '$1'" ;;
		esac
	} | sha256sum | cut -c1-32
}

# say_failed LOG: what failed of it, for the end of the whole output, and what the first said before
say_failed() {
	local step=${1##*/check-}
	{
		grep -aEm1 -B"${LINES_SHOWN:-15}" '^not ok [0-9]+' "$1" || tail -n 8 "$1"
		grep -aE '^not ok [0-9]+' "$1" | tail -n +2 || true
	} | cut -c 1-200 | sed "s/^/${step%.log}: /" >>"$bad"
}

# count LOG STATUS: add a step's results up, show the bad ones, set $line
count() {
	local p f s
	p=$(grep -aEc '^ok [0-9]+' "$1" || true)
	f=$(grep -aEc '^not ok [0-9]+' "$1" || true)
	s=$(grep -aEc '^ok [0-9]+.*# SKIP' "$1" || true)
	p=$((p - s))
	case $2 in
	0) [ $((p + f + s)) -gt 0 ] || p=1 ;;
	4) [ $((p + f + s)) -gt 0 ] || s=1 ;;
	*) [ "$f" -gt 0 ] && [ "$2" -lt 124 ] || f=$((f + 1)) ;;	# it died, or the kernel complained
	esac
	grep -aE '^not ok [0-9]+' "$1" | sed 's/^/    /' || true
	[ "$f" = 0 ] || say_failed "$1"
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	line="$p passed, $f failed"
	[ "$s" = 0 ] || line="$line, $s skipped"
}

# take WHERE COMMAND LOG CONSOLE: do it. A build shows how far it is.
take() {
	local lab=amd
	if [ "$1" = build ]; then
		$2 2>&1 </dev/null | tee "$3"
	elif [[ " host labs vms user " = *" $1 "* ]]; then
		$2 >"$3" 2>&1 </dev/null
	else
		case $1 in *' '*) lab=${1% *} ;; esac
		LAB=$lab KERNEL=${1#* } CMD=$2 TIMEOUT=${TIMEOUT:-1800} LOG=$4 lab/machine/run.sh >"$3" 2>&1 </dev/null
	fi
}

# step NAME WHERE COMMAND
step() {
	local name=$1 where=$2 command=$3 id=${1// /-}${long:+.long} log key start status=0 before need known=
	log=$LOGS/check-$id.log
	# What the step before may not have been able to get
	for need in debian tlb; do
		if [[ " $where " = *" $need "* ]] && [ ! -f "$BUILD/$need/key" ]; then
			skipped=$((skipped + 1))
			say "$name: skipped, there is nothing in $BUILD/$need"
			return
		fi
	done
	# A build knows by itself whether there is something to do
	case $where in
	build) key= ;;
	*)
		key=$(inputs "$where" "$command")
		if [ -f "$log" ] && unchanged "$LOGS/passed/$id" "$key"; then known=1; fi
		if [ -n "${PLAN:-}" ]; then
			echo "$key $([ -n "$known" ] && echo known || echo to run): $name"
			return
		elif [ -n "$known" ]; then
			count "$log" 0
			say "$name: $line (cached)"
			return
		fi
		rm -f "$LOGS/passed/$id" ;;
	esac
	start=$SECONDS
	say "$name: ..."
	TIMEFORMAT='%R %U %S'
	{ time take "$where" "$command" "$log" "$LOGS/console-${name// /-}.log" 2>&3 || status=$?; } 3>&2 2>"$log.time"
	awk -v n="$name" '{ printf "%d %d %s\n", $1, $2 + $3, n }' "$log.time" >>"$times"
	if [ -z "$key" ] && [ "$status" = 0 ]; then
		say "$name: done ($((SECONDS - start)) s)"
		return
	elif [ -z "$key" ] && [ "$status" = 4 ]; then
		say "$name: $(tail -n 1 "$log")"
		return
	fi
	before=$failed
	count "$log" "$status"
	say "$name: $line ($((SECONDS - start)) s)"
	if [ "$failed" != "$before" ]; then
		tail -n 30 "$log" | sed 's/^/    /'
		echo "    all of it: $log (exit status $status)"
	else
		echo "$key" >"$LOGS/passed/$id"
	fi
}

# group NAME: its steps, one after the other; what they come to, to a file
group() {
	local name where command
	passed=0 failed=0 skipped=0
	while IFS='|' read -r name where command <&3; do
		name=${name% } where=${where# } where=${where% } command=${command# }
		[[ $name =~ ${STEPS:-.} ]] || continue
		step "$name" "$where" "$command"
	done 3< <("steps_$1")
	echo "$passed $failed $skipped" >"$sums/$1"
}

# lane GROUP...: those of them that no other lane has taken
lane() {
	local g
	for g; do
		mkdir "$sums/$g.taken" 2>/dev/null || continue
		group "$g"
	done
}

mkdir -p "$LOGS/passed"
sums=$(mktemp -d "$LOGS/sums.XXXXXX")
bad=$LOGS/check.failed
: >"$bad"
: >"$times"
# Before the lanes, as only one at a time can install; a plan runs nothing that needs these
if [ -z "${PLAN:-}" ]; then
	lab/build/deps.sh qemu
	lab/build/deps.sh fuzz
fi
group build
read -r _ failed _ <"$sums/build"
[ "$failed" = 0 ] || { rm -rf "$sums"; echo "0 passed, $failed failed"; exit 1; }
if [ -n "${PLAN:-}" ]; then
	for g in waits $groups; do group "$g"; done
	rm -rf "$sums"
	exit 0
fi

# Process groups of their own: what is interrupted takes all of its machines along
set -m
# shellcheck disable=SC2086
case ${LANES:-2} in
1) lane waits $groups </dev/null & ;;
*)	lane waits </dev/null &
	for _ in $(seq "${LANES:-2}"); do lane $groups </dev/null & done ;;
esac
set +m
# shellcheck disable=SC2046
trap 'kill -- $(jobs -p | sed s/^/-/) 2>/dev/null || true; rm -rf "$sums"' EXIT
trap 'exit 130' INT TERM
wait
trap - EXIT		# nothing runs, so the kill would fail, and make that our exit status
for g in waits $groups; do [ -f "$sums/$g" ] || die "not all of the steps were taken"; done
read -r passed failed skipped < <(cat "$sums"/* 2>/dev/null | awk '{ p += $1; f += $2; s += $3 } END { print p, f, s }')
rm -rf "$sums"

echo
echo "    seconds     of CPU"
sort -k1,1nr "$times" | awk '{ n = $3; for (i = 4; i <= NF; i++) n = n " " $i; printf "    %7d    %7d  %s\n", $1, $2, n; t += $2 }
	END { printf "               %7d  all, in %d s\n", t, s }' s="$SECONDS"
if [ -s "$bad" ]; then
	printf '\n    what failed:\n'
	sed 's/^/    /' "$bad"
fi
if [ "$skipped" = 0 ]; then
	echo "$passed passed, $failed failed"
else
	echo "$passed passed, $failed failed, $skipped skipped"
fi
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
