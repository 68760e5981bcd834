#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# boots.sh - unmodified Debian kernels as guests, started by svmctl and by Debian's own QEMU
#
# The guest's first process says what it sees; a boot passes if that is right, the guest powers off and its VMM ends
# with status 0.
set -eu

tests=${SVM_TESTS:-$(cd "$(dirname "$0")" && pwd)}
top=$(cd "$tests/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
number=0 failed=0

if [ ! -r /run/rig/env ]; then
	echo "1..0 # SKIP runs only in an L1 of the rig"
	exit 4
fi

cat >"$work/init" <<'INIT'
#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
echo "GUEST kernel=$(uname -r) cpus=$(nproc) mem=$(($(grep MemTotal /proc/meminfo | tr -dc 0-9) / 1024))"
echo "GUEST clock=$(cat /proc/uptime | cut -d . -f 1)"
poweroff -f
INIT

# check NAME ABI CPUS COMMAND...
check() {
	local name=$1 abi=$2 cpus=$3 status=0 why=''
	shift 3
	number=$((number + 1))
	timeout 300 "$@" >"$work/out" 2>&1 </dev/null || status=$?
	tr -d '\r' <"$work/out" >"$work/text"
	if ! grep -aq "^GUEST kernel=$abi cpus=$cpus mem=[34]" "$work/text"; then
		why="no init of kernel $abi with $cpus CPUs"
	elif grep -aqE 'BUG:|Oops|Call Trace|WARNING:' "$work/text"; then
		why="the guest's kernel complains"
	elif [ "$status" -ne 0 ]; then
		why="status $status"
	fi
	if [ -z "$why" ]; then
		echo "ok $number $name"
	else
		tail -n 25 "$work/text" | sed 's/^/# /'
		echo "# $why (status $status)"
		echo "not ok $number $name"
		failed=1
	fi
}

skip() {
	number=$((number + 1))
	echo "ok $number $1 # SKIP $2"
}

echo "KTAP version 1"
echo "1..10"

# A guest of a starved emulator is no guest that is locked up: time limits tell.
quiet="console=ttyS0 quiet no_timer_check lpj=1000000 nosoftlockup rcupdate.rcu_cpu_stall_suppress=1"
for kernel in 6.1 6.12; do
	if ! image=$("$top/scripts/kernel-image" "$kernel"); then
		skip "svmctl_${kernel}_1" "no kernel $kernel"
		skip "svmctl_${kernel}_2" "no kernel $kernel"
		continue
	fi
	kdir=$image
	abi=$(cat "$kdir/abi")
	"$top/scripts/initramfs" "$kdir" "$work/init" "$work/initrd"
	for cpus in 1 2; do
		check "svmctl_${kernel}_$cpus" "$abi" "$cpus" "$top/build/svmctl" run --no-reboot \
			--memory 400M --cpus "$cpus" --initrd "$work/initrd" \
			--cmdline "$quiet pci=off 8250.nr_uarts=1 io_delay=none" "$kdir/vmlinuz"
	done
done

if ! command -v qemu-system-x86_64 >/dev/null; then
	for machine in q35_1 q35_2 pc_1 pc_2 microvm_1 microvm_2; do
		skip "qemu_$machine" "no qemu-system-x86_64"
	done
	exit "$failed"
fi
# QEMU knows no other name.
ln -sf svm /dev/kvm
for machine in q35 pc microvm; do
	for cpus in 1 2; do
		check "qemu_${machine}_$cpus" "$abi" "$cpus" qemu-system-x86_64 -nodefaults -no-user-config \
			-display none -no-reboot -machine "$machine" -accel kvm -cpu host -smp "$cpus" \
			-m 400 -serial stdio -kernel "$kdir/vmlinuz" -initrd "$work/initrd" \
			-append "$quiet reboot=t panic=-1"
	done
done
exit "$failed"
