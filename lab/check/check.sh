#!/bin/bash
# check.sh: run the steps below and count what passed.
#
# A step that speaks TAP counts as its results, another one as one. What passed
# is remembered by the contents of all that went in; FORCE=1 forgets it.
# STEPS='regex' runs only the steps whose name matches; LONG=1 adds what takes long and
# says little that the rest does not.
#
# The steps go in two lanes at once: Bochs uses one CPU, whatever the other does.
. "$(dirname "$0")/../lib.sh"
cd "$ROOT"

programs=$(cd "$SELFTESTS" && find . -name 'vm2vm_*test' | sed 's|^\./||' | sort)

# together TRIALS PROGRAM...: a command that runs them all, in one machine. A program may
# come with arguments. Of rings there are fewer on kernels that check everything.
together() {
	local p trials=$1 command="bad=0"
	shift
	for p; do
		case $p in
		vm2vm_doorbell_test) command="$command ; VM2VM_TRIALS=$((trials < 20 ? trials : 20)) $SELFTESTS/$p || bad=1" ;;
		*) command="$command ; VM2VM_TRIALS=$trials $SELFTESTS/$p || bad=1" ;;
		esac
	done
	echo "$command ; exit \$bad"
}

# base_trials PROGRAM: how often it does what it repeats; with LONG=1, as it does by itself
# (but a million rings take minutes)
base_trials() {
	case ${LONG:+long-}$1 in
	long-vm2vm_doorbell_test) echo "VM2VM_TRIALS=200" ;;
	long-*) echo "env" ;;
	vm2vm_doorbell_test) echo "VM2VM_TRIALS=20" ;;
	vm2vm_dirty_test | vm2vm_mmu_test) echo "VM2VM_TRIALS=25" ;;
	vm2vm_matrix_test | vm2vm_stall_test | vm2vm_view_test) echo "VM2VM_TRIALS=10" ;;
	*) echo "VM2VM_TRIALS=200" ;;
	esac
}

# Both lanes' lines: name | where it runs (host, or a kernel: base, debug, debian; in
# other labs: intel base, intel light, tlb base) | command
steps_amd() {
	local p n short group="" names=""
	echo "hooks | host | lab/check/hooks.py"
	echo "nconfig | host | lab/check/nconfig.sh"
	echo "qemu | host | lab/build/vmm.sh"
	echo "lint | host | lab/check/lint.sh"
	echo "lab | host | lab/check/selfcheck.sh"
	for p in $programs; do echo "base $p | base | $(base_trials "$p") $SELFTESTS/$p"; done
	# The same with an owner that logs
	echo "base logged matrix | base | $(base_trials vm2vm_matrix_test) VM2VM_LOG=1 $SELFTESTS/vm2vm_matrix_test"
	for p in ${LINUX_TESTS:-}; do echo "base linux $p | base | $SELFTESTS/$p"; done
	# This kernel takes long to start and to stop, so a few at a time
	n=0
	for p in $programs; do
		n=$((n + 1)) group="$group $p" short=${p#vm2vm_} names="$names ${short%_test}"
		[ $((n % 5)) = 0 ] || [ "$p" = "${programs##*$'\n'}" ] || continue
		# shellcheck disable=SC2086
		echo "debug$names | debug | $(together "${TRIALS:-25}" $group)"
		group="" names=""
	done
	echo "base demo-core | base | $SELFTESTS/vm2vm_demo ${DEMO_ARGS:---file $BUILD/base/vmlinux}"
	# QEMU, and its VMs
	echo "qtest | host | lab/check/qtest.sh"
	echo "vms | host | lab/vms/links.sh vms_test.py"
	echo "demo | host | lab/vms/links.sh demo.py"
	echo "link peers | host | lab/vms/links.sh link_peer_test.py"
	echo "links | host | lab/vms/links.sh link_test.py"
	echo "fuzz | host | lab/check/fuzz.sh"
}

steps_bochs() {
	local few_doorbells="vm2vm_doorbell_test -T abi_limit -T abi_max_array -T many -T storm"
	# Bochs is slow, so the core only. Its other flavour, below, is quicker.
	# shellcheck disable=SC2086
	echo "intel core | intel base | $(together "${INTEL_TRIALS:-10}" vm2vm_test vm2vm_abi_test ${LONG:+vm2vm_revoke_test vm2vm_view_test} "$few_doorbells")"
	# shellcheck disable=SC2086
	echo "intel light | intel light | $(together "${LIGHT_TRIALS:-5}" ${LONG:+vm2vm_test vm2vm_revoke_test "$few_doorbells"} vm2vm_view_test)"
	# With a TLB that keeps what KVM does not flush
	echo "tlb | host | lab/build/tlb.sh"
	echo "tlb all | tlb base | $(together "${VIEW_TRIALS:-5}" vm2vm_test vm2vm_revoke_test vm2vm_view_test)"
	# The same windows by every MMU, and by KVM's emulator
	echo "mmu | host | lab/check/mmu.sh"
	# KVM's modules, built for Debian's own kernel and run there
	echo "dkms | host | lab/dkms/debian.sh"
	echo "debian core | debian | $(together "${DEBIAN_TRIALS:-5}" vm2vm_test vm2vm_abi_test vm2vm_revoke_test vm2vm_matrix_test)"
	echo "intel debian core | intel debian | $(together "${DEBIAN_TRIALS:-5}" vm2vm_test)"
	echo "bench | host | lab/check/bench.sh"
}

# inputs WHERE COMMAND: a hash of everything that a step depends on
inputs() {
	{
		echo "$1 $2"
		case $1 in
		host) cat "$BUILD/pristine.key"; our_files | xargs -r sha256sum
			find lab patches -type f ! -path 'lab/mutants/*' -exec sha256sum {} + | sort
			case $2 in *vmm* | *links* | *fuzz* | *qtest* | *lint*)
				find qemu guest -type f -exec sha256sum {} + | sort
				sha256sum "$BUILD/base/arch/x86/boot/bzImage" "$BUILD"/base/arch/x86/kvm/*.ko ;;
			esac ;;
		*) (cd "$BUILD/${1#* }" && sha256sum .config arch/x86/boot/bzImage arch/x86/kvm/*.ko virt/lib/*.ko)
			case $1 in intel*) sha256sum lab/machine/intel.sh ;; tlb*) cat lab/machine/intel.sh "$BUILD/tlb/key" ;; *) sha256sum lab/machine/amd.sh ;; esac
			sha256sum lab/machine/run.sh lab/machine/init lab/machine/initramfs.sh
			for w in $2; do [ ! -f "$w" ] || sha256sum "$w"; done ;;
		esac
	} | sha256sum | cut -c1-32
}

mkdir -p "$LOGS/passed"

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
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	line="$p passed, $f failed"
	[ "$s" = 0 ] || line="$line, $s skipped"
}

# step NAME WHERE COMMAND
step() {
	local name=$1 where=$2 command=$3 log=$LOGS/check-${1// /-}.log key start status=0 lab=amd before need
	# What the step before may not have been able to get
	for need in debian tlb; do
		if [[ " $where " = *" $need "* ]] && [ ! -f "$BUILD/$need/key" ]; then
			skipped=$((skipped + 1))
			say "$name: skipped, there is nothing in $BUILD/$need"
			return
		fi
	done
	key=$(inputs "$where" "$command")
	start=$SECONDS
	if [ -z "${FORCE:-}" ] && [ -f "$log" ] && [ "$(cat "$LOGS/passed/${name// /-}" 2>/dev/null)" = "$key" ]; then
		count "$log" 0
		say "$name: $line (cached)"
		return
	fi
	rm -f "$LOGS/passed/${name// /-}"
	say "$name: ..."
	if [ "$where" = host ]; then
		$command >"$log" 2>&1 </dev/null || status=$?
	else
		case $where in *' '*) lab=${where% *} ;; esac
		LAB=$lab KERNEL=${where#* } CMD=$command TIMEOUT=${TIMEOUT:-1800} LOG=$LOGS/console-${name// /-}.log \
			lab/machine/run.sh >"$log" 2>&1 </dev/null || status=$?
	fi
	before=$failed
	count "$log" "$status"
	say "$name: $line ($((SECONDS - start)) s)"
	if [ "$failed" != "$before" ]; then
		tail -n 30 "$log" | sed 's/^/    /'
		echo "    all of it: $log (exit status $status)"
	else
		echo "$key" >"$LOGS/passed/${name// /-}"
	fi
}

# lane NAME: its steps, one after the other; what they come to, to a file
lane() {
	local name where command
	passed=0 failed=0 skipped=0
	while IFS='|' read -r name where command <&3; do
		name=${name% } where=${where# } where=${where% } command=${command# }
		[[ $name =~ ${STEPS:-.} ]] || continue
		step "$name" "$where" "$command"
	done 3< <("steps_$1")
	echo "$passed $failed $skipped" >"$LOGS/check-$1.sum"
}

# Before the lanes, as only one at a time can install
lab/build/deps.sh qemu
lab/build/deps.sh fuzz
# Process groups of their own: what is interrupted takes all of its machines along
rm -f "$LOGS"/check-*.sum
set -m
lane amd </dev/null &
lane bochs </dev/null &
set +m
# shellcheck disable=SC2046
trap 'kill -- $(jobs -p | sed s/^/-/) 2>/dev/null' EXIT
trap 'exit 130' INT TERM
wait
trap - EXIT		# nothing runs, so the kill would fail, and make that our exit status
for l in amd bochs; do [ -f "$LOGS/check-$l.sum" ] || die "not all of the steps were taken"; done
read -r p1 f1 s1 <"$LOGS/check-amd.sum"
read -r p2 f2 s2 <"$LOGS/check-bochs.sum"
passed=$((p1 + p2)) failed=$((f1 + f2)) skipped=$((s1 + s2))

if [ "$skipped" = 0 ]; then
	echo "$passed passed, $failed failed"
else
	echo "$passed passed, $failed failed, $skipped skipped"
fi
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
