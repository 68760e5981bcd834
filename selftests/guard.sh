#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# guard KERNEL [--record] - on the build host: no figure of `make bench` is more than 2 % above the recorded one.
# Runs the client on svm.ko alone, in an L1 that counts instructions.  --record makes the record.  With another kernel of
# the series, QEMU or compiler than recorded figures move a little of themselves: 8 % then.
set -eu

tests=${SVM_TESTS:?} kernel=$1
top=$(cd "$tests/../.." && pwd)
. "$top/scripts/common.sh"
record=$top/selftests/bench-$kernel.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

measure() {
	status=0
	"$top/selftests/rig/run-l1" --kernel "$kernel" --icount --timeout 400 \
		-c "insmod $top/build/$kernel/svm.ko && $tests/bench" >"$work/now" 2>"$work/log" || status=$?
}

echo "KTAP version 1"
abi=$(kernel_abi "$kernel") qemu=$(qemu-system-x86_64 --version | sed -n 's/.*version \([0-9.]*\).*/\1/p')
made=$(sed -n 's/^# //p' "$record" 2>/dev/null || :)
here="$abi, QEMU $qemu, gcc $(gcc -dumpfullversion)"
if [ "${2-}" = --record ]; then
	measure
	{ echo "# $here"; cat "$work/now"; } >"$record"
	exit "$status"
fi
percent=2
if [ "$made" != "$here" ]; then
	echo "# recorded with $made; this is $here"
	percent=8
fi
echo "1..$(grep -vc '^#' "$record")"
measure
awk -v status="$status" -v percent="$percent" '
	FNR == 1 { file++ }
	file == 1 && !/^#/ { now[$1] = $2 }
	file == 2 && !/^#/ {
		number++
		good = $1 in now && now[$1] <= $2 * (1 + percent / 100)
		failed += !good
		printf "%s %d %s\n", good ? "ok" : "not ok", number, $1
		if (!good)
			printf "# %s, recorded %s\n", $1 in now ? now[$1] : "not measured", $2
	}
	END { exit failed > 0 || status }' "$work/now" "$record" || status=1
[ "$status" -eq 0 ] || sed 's/^/# /' "$work/log"
exit "$status"
