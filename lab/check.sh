#!/bin/bash
# check.sh: run the steps below in order and count what passed.
#
# A step that speaks TAP counts as its results, another one as one. What passed
# is remembered by the contents of all that went in; FORCE=1 forgets it.
# STEPS='regex' runs only the steps whose name matches.
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

programs=$(cd "$SELFTESTS" && find . -name 'vm2vm_*test' | sed 's|^\./||' | sort)

# name | where it runs (host, or a kernel: base, debug, debian; in other labs: intel base, intel light, tlb base) | command
steps() {
	local p few_doorbells="-T abi_limit -T abi_max_array -T many -T storm"
	echo "hooks | host | lab/hooks.py"
	echo "nconfig | host | lab/nconfig.sh"
	echo "lint | host | lab/lint.sh"
	echo "lab | host | lab/selfcheck.sh"
	for p in $programs; do
		# A million rings take minutes
		case $p in
		vm2vm_doorbell_test) echo "base $p | base | VM2VM_TRIALS=${RINGS:-200} $SELFTESTS/$p" ;;
		*) echo "base $p | base | $SELFTESTS/$p" ;;
		esac
	done
	# The same with an owner that logs
	echo "base logged matrix | base | VM2VM_LOG=1 $SELFTESTS/vm2vm_matrix_test"
	# Bochs is slow, so the core only
	for p in vm2vm_test vm2vm_abi_test vm2vm_revoke_test; do
		echo "intel $p | intel base | VM2VM_TRIALS=${INTEL_TRIALS:-20} $SELFTESTS/$p"
	done
	echo "intel vm2vm_view_test | intel base | VM2VM_TRIALS=${VIEW_TRIALS:-10} $SELFTESTS/vm2vm_view_test"
	for p in vm2vm_test vm2vm_revoke_test vm2vm_view_test "vm2vm_doorbell_test $few_doorbells"; do
		echo "intel light ${p%% *} | intel light | VM2VM_TRIALS=${LIGHT_TRIALS:-5} $SELFTESTS/$p"
	done
	# With a TLB that keeps what KVM does not flush
	echo "tlb | host | lab/tlb.sh"
	for p in vm2vm_test vm2vm_revoke_test vm2vm_view_test; do
		echo "tlb $p | tlb base | VM2VM_TRIALS=${VIEW_TRIALS:-10} $SELFTESTS/$p"
	done
	# The same windows by every MMU, and by KVM's emulator
	echo "mmu | host | lab/mmu.sh"
	# KVM's modules, built for Debian's own kernel and run there
	echo "dkms | host | lab/debian.sh"
	for p in vm2vm_test vm2vm_abi_test vm2vm_revoke_test vm2vm_matrix_test; do
		echo "debian $p | debian | VM2VM_TRIALS=${DEBIAN_TRIALS:-10} $SELFTESTS/$p"
	done
	echo "intel debian vm2vm_test | intel debian | VM2VM_TRIALS=${DEBIAN_TRIALS:-10} $SELFTESTS/vm2vm_test"
	for p in ${LINUX_TESTS:-}; do echo "base linux $p | base | $SELFTESTS/$p"; done
	# All its checks make the debug kernel slow: fewer trials of what is repeated
	for p in $programs; do
		case $p in
		vm2vm_doorbell_test) echo "debug $p | debug | VM2VM_TRIALS=${TRIALS:-20} $SELFTESTS/$p" ;;
		*) echo "debug $p | debug | VM2VM_TRIALS=${TRIALS:-50} $SELFTESTS/$p" ;;
		esac
	done
	echo "bench | host | lab/bench.sh"
	echo "base demo | base | $SELFTESTS/vm2vm_demo ${DEMO_ARGS:-}"
}

# inputs WHERE COMMAND: a hash of everything that a step depends on
inputs() {
	{
		echo "$1 $2"
		case $1 in
		host) cat "$BUILD/pristine.key"; our_files | xargs -r sha256sum
			find lab patches -type f ! -path 'lab/mutants/*' -exec sha256sum {} + | sort ;;
		*) (cd "$BUILD/${1#* }" && sha256sum .config arch/x86/boot/bzImage arch/x86/kvm/*.ko virt/lib/*.ko)
			case $1 in intel*) sha256sum lab/bochs.sh ;; tlb*) cat lab/bochs.sh "$BUILD/tlb/key" ;; *) sha256sum lab/qemu.sh ;; esac
			sha256sum lab/run.sh lab/init lab/initramfs.sh
			for w in $2; do [ ! -f "$w" ] || sha256sum "$w"; done ;;
		esac
	} | sha256sum | cut -c1-32
}

passed=0 failed=0 skipped=0
mkdir -p "$BUILD/passed"

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

while IFS='|' read -r name where command; do
	name=${name% } where=${where# } where=${where% } command=${command# }
	[[ $name =~ ${STEPS:-.} ]] || continue
	log=$LOGS/check-${name// /-}.log
	# The step before may have had no kernel of Debian to build for; or failed
	if [ "${where#intel }" = debian ] && [ ! -f "$BUILD/debian/key" ]; then
		skipped=$((skipped + 1))
		say "$name: skipped, there is nothing in $BUILD/debian"
		continue
	fi
	# Or no source of Bochs
	if [[ $where = tlb* ]] && [ ! -f "$BUILD/tlb/key" ]; then
		skipped=$((skipped + 1))
		say "$name: skipped, there is nothing in $BUILD/tlb"
		continue
	fi
	key=$(inputs "$where" "$command")
	start=$SECONDS
	if [ -z "${FORCE:-}" ] && [ -f "$log" ] && [ "$(cat "$BUILD/passed/${name// /-}" 2>/dev/null)" = "$key" ]; then
		count "$log" 0
		say "$name: $line (cached)"
		continue
	fi
	rm -f "$BUILD/passed/${name// /-}"
	say "$name: ..."
	status=0
	if [ "$where" = host ]; then
		$command >"$log" 2>&1 </dev/null || status=$?
	else
		lab=amd
		case $where in *' '*) lab=${where% *} ;; esac
		LAB=$lab KERNEL=${where#* } CMD=$command TIMEOUT=${TIMEOUT:-1800} LOG=$LOGS/console-${name// /-}.log \
			lab/run.sh >"$log" 2>&1 || status=$?
	fi
	before=$failed
	count "$log" "$status"
	say "$name: $line ($((SECONDS - start)) s)"
	if [ "$failed" != "$before" ]; then
		tail -n 30 "$log" | sed 's/^/    /'
		echo "    all of it: $log (exit status $status)"
	else
		echo "$key" >"$BUILD/passed/${name// /-}"
	fi
done < <(steps)

if [ "$skipped" = 0 ]; then
	echo "$passed passed, $failed failed"
else
	echo "$passed passed, $failed failed, $skipped skipped"
fi
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
