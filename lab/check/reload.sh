#!/bin/bash
# reload.sh KVM-INTEL.KO PROGRAM: run in the Intel lab. The module goes, and comes again without
# VMFUNC; KVM, which stays, has no views then. PROGRAM is vm2vm_view_test. TAP.
set -eu
echo "TAP version 13"
rmmod kvm-intel
insmod "$1" vmfunc_eptp=0
said=$("$2" -t content 2>&1 || true)
if grep -q '^ok .*content # SKIP' <<<"$said"; then
	echo "ok 1 no views without the module that had them"
else
	echo "# ${said//$'\n'/$'\n'# }"
	echo "not ok 1 no views without the module that had them"
	exit 1
fi
