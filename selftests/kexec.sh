#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# kexec into a second kernel and a crash into a third, both with guests in mid-run. Each of them
# must find EFER.SVME clear on all its CPUs, and run guests itself.
#
# Each kernel has this script as the rig's, with KEXEC_STAGE told; the last one ends the program.
set -eu

tests=${SVM_TESTS:-$(cd "$(dirname "$0")" && pwd)}
if [ ! -r /run/rig/env ]; then
	echo "1..0 # SKIP runs only in an L1 of the rig"
	exit 4
fi
top=$(cd "$tests/../.." && pwd)
stage=${KEXEC_STAGE:-1}
plan=6
next=/run/next

# result NUMBER NAME STATUS
result() {
	[ "$3" -eq 0 ] && echo "ok $1 $2" || echo "not ok $1 $2"
}

# Gives up for all the points that are left; the last kernel must say that the program ended.
give_up() {
	local number
	for ((number = $1; number <= plan; number++)); do
		echo "not ok $number # $2"
	done
	finish
}

finish() {
	[ "$stage" -eq 1 ] || echo "@@ end kexec 0"
	exit 0
}

# How many CPUs have EFER.SVME set.
svme() {
	local msr efer cpus=0
	modprobe msr
	for msr in /dev/cpu/*/msr; do
		efer=$(dd if="$msr" bs=8 count=1 iflag=skip_bytes skip=$((0xc0000080)) 2>/dev/null | od -An -tu8)
		((!(efer & 0x1000))) || cpus=$((cpus + 1))
	done
	echo "$cpus"
}

# Four guests that run and do not exit by themselves.
start_guests() {
	local i
	[ -e /sys/module/svm ] || insmod "$SVM_KO" || return 1
	printf '\353\376' >/run/loop
	for i in 1 2 3 4; do
		"$top/build/svmctl" run --flat /run/loop </dev/null >/dev/null 2>&1 &
	done
	for ((i = 0; i < 50; i++)); do
		[ "$(cat /sys/module/svm/parameters/vcpus)" -lt 4 ] || break
		sleep 0.2
	done
	sleep 1
	[ "$(cat /sys/module/svm/parameters/vcpus)" -eq 4 ] && [ "$(svme)" -eq "$(nproc)" ]
}

# load_next PARAMETERS [crash]: this script once more, a stage further.
load_next() {
	local parameters
	mkdir -p "$next/rig"
	cp /run/rig/stage2 /run/rig/heartbeat /run/rig/env "$next/rig/"
	cat >"$next/rig/script" <<SCRIPT
export KEXEC_STAGE=$((stage + 1)) SVM_KO=$SVM_KO SVM_TESTS=$tests RIG_INITRD=$RIG_INITRD
exec bash $tests/kexec
SCRIPT
	cp "$RIG_INITRD" /run/initrd
	truncate -s %4 /run/initrd
	(cd "$next" && find rig | cpio --quiet -o -H newc -R 0:0) >>/run/initrd
	parameters="$(sed 's/crashkernel=[^ ]*//' /proc/cmdline) $1"
	shift
	"$tests/kexec_load" "$RIG_KERNEL/vmlinuz" /run/initrd "$parameters" "$@"
}

eval "$(grep -E '^(RIG_KERNEL|RIG_INITRD)=' /run/rig/env)"
case $stage in
1)
	echo "KTAP version 1"
	echo "1..$plan"
	start_guests || give_up 1 "no guests"
	load_next crashkernel=448M || give_up 1 "cannot load a kernel"
	"$tests/kexec_load" --go || :
	give_up 1 "no kexec"
	;;
2)
	[ "$(svme)" -eq 0 ] && status=0 || status=1
	result 1 kexec_svme "$status"
	start_guests && status=0 || status=1
	result 2 kexec_guests "$status"
	"$tests/modes" >/run/out 2>&1 && status=0 || status=1
	result 3 kexec_modes "$status"
	load_next "nr_cpus=1 reset_devices" crash || give_up 4 "cannot load a crash kernel"
	sync
	sleep 0.5 # what is said already must have left the serial port
	echo c >/proc/sysrq-trigger
	;;
3)
	[ "$(svme)" -eq 0 ] && status=0 || status=1
	result 4 crash_svme "$status"
	start_guests && status=0 || status=1
	result 5 crash_guests "$status"
	"$tests/modes" >/run/out 2>&1 && status=0 || status=1
	result 6 crash_modes "$status"
	finish
	;;
esac
