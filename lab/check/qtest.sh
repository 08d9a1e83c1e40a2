#!/bin/bash
# qtest.sh: QEMU's own tests of what our hooks touch, with our QEMU; no link is there.
. "$(dirname "$0")/../lib.sh"
"$ROOT/lab/build/vmm.sh" >&2
tests="qos-test qmp-test qmp-cmd-test qom-test test-hmp device-introspect-test q35-test intel-iommu-test
	machine-none-test readconfig-test device-plug-test cpu-plug-test"
cd "$BUILD/qemu" || exit
# shellcheck disable=SC2046,SC2086
(lock qemu; quietly qtest ninja -j"$JOBS" $(printf 'tests/qtest/%s ' $tests))

# Debian's source has no firmware. The name tells the tests the architecture.
dir=$(mktemp -d "$BUILD/qtest.XXXXXX")
trap 'rm -rf "$dir"' EXIT
printf '#!/bin/sh\nexec %s "$@" -L /usr/share/seabios -L /usr/share/qemu -L /usr/lib/ipxe/qemu\n' "$BUILD/qemu/qemu-system-x86_64" >"$dir/qemu-system-x86_64"
chmod +x "$dir/qemu-system-x86_64"
n=0 bad=0
echo "TAP version 13"
for t in $tests; do
	status=0
	QTEST_QEMU_BINARY=$dir/qemu-system-x86_64 timeout 600 "tests/qtest/$t" >"$LOGS/qtest-$t.log" 2>&1 </dev/null || status=$?
	# Those of one program are one result
	passed=$(grep -c '^ok ' "$LOGS/qtest-$t.log") || true
	n=$((n + 1))
	if [ "$status" = 0 ] && [ "$passed" -gt 0 ]; then
		echo "ok $n $t ($passed)"
	else
		tail -n 30 "$LOGS/qtest-$t.log" | sed 's/^/# /'
		echo "not ok $n $t # exit status $status, $passed passed"
		bad=1
	fi
done
echo "1..$n"
exit $bad
