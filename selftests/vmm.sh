#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# vmm.sh [--fetch | NAME...] - Debian's QEMU on /dev/svm, as people use it: disks, networks, interrupt controllers in the
# kernel, in QEMU and in both, UEFI, PVH, snapshots, migration, gdb, reboots; guests that are not a 64-bit Linux; and gVisor
# Functions are called through point().
# shellcheck disable=SC2317,SC2016
set -eu

tests=${SVM_TESTS:-$(cd "$(dirname "$0")" && pwd)}
top=$(cd "$tests/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
number=0 failed=0 wanted=" $* "

# Guests from Debian's packages. An L1 has no network: --fetch puts them in the cache.
kernel32='linux-image-6[.]1[.][0-9]+-[0-9]+-686-pae:i386'
packages=(runsc memtest86+ ipxe grub-pc-bin grub-common "$kernel32" busybox-static:i386)
if [ "${1-}" = --fetch ]; then
	for name in "${packages[@]}"; do
		"$top/scripts/debian-package" "$name" >/dev/null || :
	done
	exit 0
fi

if [ ! -r /run/rig/env ]; then
	echo "1..0 # SKIP runs only in an L1 of the rig"
	exit 4
fi

cat >"$work/init" <<'INIT'
#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module"; done </modules/order
act=$(sed -n 's/.*act=\([a-z]*\).*/\1/p' /proc/cmdline)
case $act in
boot)	;;
disk)	# Each half is made of the other's bytes, past the cache.
	dd if=/dev/zero bs=1M count=8 2>/dev/null | tr '\0' 'x' | dd of=/dev/vda bs=1M oflag=direct 2>/dev/null
	dd if=/dev/vda bs=1M count=8 iflag=direct 2>/dev/null | dd of=/dev/vda bs=1M seek=8 oflag=direct 2>/dev/null
	sync
	ip link set eth0 up
	ip addr add 10.0.2.15/24 dev eth0
	dd if=/dev/vda bs=1M count=16 2>/dev/null | nc -w 20 10.0.2.100 80
	;;
count)	# A window of memory is changed and summed up all the time.
	dd if=/dev/urandom of=/run/a bs=1M count=24 2>/dev/null
	sum=$(md5sum </run/a)
	i=0
	while [ $i -lt 100000 ]; do
		cp /run/a /run/b
		[ "$(md5sum </run/b)" = "$sum" ] || echo "GUEST BROKEN"
		i=$((i + 1))
		echo "GUEST count=$i"
	done
	;;
again)	n=$(dd if=/dev/vda bs=1 count=2 2>/dev/null | tr -dc 0-9)
	n=$((n + 1))
	echo "GUEST life=$n"
	printf '%2d' $n | dd of=/dev/vda bs=512 conv=sync,notrunc 2>/dev/null
	sync
	[ $n -ge 20 ] || reboot -f
	;;
debug)	# Calls a function of the kernel again and again, and says where it is.
	echo "GUEST address=$(sed -n 's/ T __x64_sys_sethostname$//p' /proc/kallsyms)"
	i=0
	while [ $i -lt 3000 ]; do
		hostname guest
		sleep 0.1
		i=$((i + 1))
		echo "GUEST count=$i"
	done
	;;
esac
echo "GUEST kernel=$(uname -r) cpus=$(nproc)"
poweroff -f
INIT

result() {
	number=$((number + 1))
	if [ -z "$2" ]; then
		echo "ok $number $1"
	else
		tr -d '\r' <"$work/out" | tail -n 25 | sed 's/^/# /'
		echo "# $2"
		echo "not ok $number $1"
		failed=1
	fi
}

said() {
	grep -aq "$1" "$work/out"
}

# wait_for SECONDS PATTERN: until the guest says so
wait_for() {
	local end=$((SECONDS + $1))
	until said "$2"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.2
	done
}

# machine MACHINE CPUS ACT QEMU-ARG...: the options of all machines
machine() {
	local type=$1 cpus=$2 act=$3
	shift 3
	command=(qemu-system-x86_64 -nodefaults -no-user-config -display none
		-machine "$type,accel=kvm" -cpu host -smp "$cpus" -m 320 -kernel "$kernel" -initrd "$work/initrd"
		-append "console=ttyS0 quiet no_timer_check lpj=1000000 nosoftlockup rcupdate.rcu_cpu_stall_suppress=1 \
reboot=t panic=-1 act=$act" "$@")
}

# run NAME CPUS: to the end
run() {
	local status=0 why=''
	timeout "${limit:-200}" "${command[@]}" -serial stdio >"$work/out" 2>&1 </dev/null || status=$?
	said "GUEST kernel=$abi cpus=$2" || why="the guest did not come to its end (status $status)"
	[ "$status" -eq 0 ] || why="status $status"
	! said 'BUG:\|Oops\|Call Trace\|WARNING: CPU' || why="the guest's kernel complains"
	if [[ ${command[*]} == *act=disk* ]] && [ -z "$why" ]; then
		tr '\0' x </dev/zero | head -c 16M | cmp -s - "$work/disk" || why="the disk has something else"
		[ "$(cat "$work/sum" 2>/dev/null)" = "$(sha256sum <"$work/disk")" ] || why="the network brought something else"
	fi
	result "$1" "$why"
}

# disk NAME MACHINE CPUS BUS QEMU-ARG...
disk() {
	local name=$1 type=$2 cpus=$3 bus=$4
	shift 4
	rm -f "$work/sum"
	head -c 16M /dev/zero >"$work/disk"
	printf '#!/bin/sh\nsha256sum >%s.new\nmv %s.new %s\n' "$work/sum" "$work/sum" "$work/sum" >"$work/sink"
	chmod +x "$work/sink"
	machine "$type" "$cpus" disk -no-reboot -drive "if=none,id=d,format=raw,file=$work/disk" \
		-device "virtio-blk-$bus,drive=d" \
		-netdev "user,id=n,restrict=on,guestfwd=tcp:10.0.2.100:80-cmd:$work/sink" \
		-device "virtio-net-$bus,netdev=n,romfile=" "$@"
	[ "$bus" = pci ] || command=("${command[@]/,romfile=/}")
	run "$name" "$cpus"
}

# start NAME QEMU-ARG...: in the background, with a monitor on pipes; "say" talks to it
start() {
	local name=$1
	shift
	mkfifo "$work/$name.in" "$work/$name.out" "$work/$name.tty"
	"${command[@]}" "$@" -chardev "pipe,id=mon,path=$work/$name" -mon mon -serial stdio \
		<>"$work/$name.tty" >>"$work/out" 2>&1 &
	pid=$!
	cat "$work/$name.out" >"$work/$name.log" &
}

say() {
	echo "$2" >"$work/$1.in"
}

finish() {
	local i
	for ((i = 0; i < 100; i++)); do
		kill -0 "$1" 2>/dev/null || break
		sleep 0.1
	done
	kill -9 "$1" 2>/dev/null || :
	wait "$1" 2>/dev/null || :
}

last_count() {
	tr -d '\r' <"$work/out" | sed -n 's/^GUEST count=//p' | tail -n 1
}

lowest_count() {
	tr -d '\r' <"$work/out" | sed -n '$!s/^GUEST count=\([0-9]*\)$/\1/p' | sort -n | head -n 1
}

snapshot() {
	local why='' before after='' end
	: >"$work/out"
	qemu-img create -q -f qcow2 "$work/vm.qcow2" 64M
	machine q35 2 count -drive "if=none,id=d,file=$work/vm.qcow2" -device virtio-blk-pci,drive=d
	start snap
	if wait_for 120 'count=3'; then
		say snap 'savevm here'
		before=$(last_count)
		wait_for 60 "count=$((before + 4))" || why="the guest did not go on after savevm"
		: >"$work/out"
		end=$((SECONDS + 60))
		say snap 'loadvm here'
		# Lines from before it may still come.
		until after=$(lowest_count) && [ "${after:-999999}" -le $((before + 3)) ]; do
			[ "$SECONDS" -lt "$end" ] || break
			sleep 0.2
		done
		if [ "${after:-999999}" -gt $((before + 3)) ]; then
			why="went on at ${after:-none}, saved at $before"
			tail -n 5 "$work/snap.log" | tr -d '\r' | sed 's/^/# /'
		fi
		! said BROKEN || why="its memory is not what it was"
	else
		why="the guest did not start to count"
	fi
	say snap quit
	finish "$pid"
	result savevm "$why"
}

migration() {
	local why='' source target before
	: >"$work/out"
	# The APIC's timer counts, and QEMU does not bring the current count along.
	machine q35 2 count -cpu host,-tsc-deadline
	start src
	source=$pid
	start dst -incoming "unix:$work/migration"
	target=$pid
	if wait_for 120 'count=3'; then
		say src 'migrate_set_parameter max-bandwidth 200M'
		say src "migrate -d unix:$work/migration"
		for ((i = 0; i < 120; i++)); do
			say src 'info migrate'
			sleep 0.5
			! grep -aq 'Migration status: completed' "$work/src.log" || break
		done
		grep -aq 'Migration status: completed' "$work/src.log" || why="the migration did not end"
		before=$(last_count)
		say src quit
		finish "$source"
		wait_for 60 "count=$((before + 3))" || why="${why:-the guest did not go on}"
		! said BROKEN || why="its memory is not what it was"
	else
		why="the guest did not start to count"
	fi
	kill "$source" 2>/dev/null || :
	say dst quit
	finish "$target"
	result migration "$why"
}

# gdb by way of QEMU's gdbstub: a breakpoint, steps, and on
debugger() {
	local why='' address before
	: >"$work/out"
	machine q35 2 debug -no-reboot -gdb tcp:127.0.0.1:1234
	start gdb
	if wait_for 120 'count=2'; then
		address=$(tr -d '\r' <"$work/out" | sed -n 's/^GUEST address=//p')
		timeout 100 gdb -batch -nx -ex 'set architecture i386:x86-64' -ex 'target remote 127.0.0.1:1234' \
			-ex "break *0x$address" -ex continue -ex 'printf "STOP %lx\n", $rip' \
			-ex delete -ex stepi -ex 'printf "STEP %lx\n", $rip' -ex stepi -ex 'printf "STEP %lx\n", $rip' \
			-ex detach >"$work/gdb.said" 2>&1 || why="gdb failed"
		grep -q "^STOP $address" "$work/gdb.said" || why="no stop at $address"
		[ "$(sed -n 's/^ST[EO]P //p' "$work/gdb.said" | sort -u | wc -l)" -eq 3 ] || why="${why:-no steps}"
		before=$(last_count)
		wait_for 60 "count=$((before + 3))" || why="${why:-the guest did not go on}"
		[ -z "$why" ] || sed 's/^/# /' "$work/gdb.said"
	else
		why="the guest did not start to count"
	fi
	say gdb quit
	finish "$pid"
	result gdbstub "$why"
}

reboots() {
	head -c 1M /dev/zero >"$work/disk"
	machine "$1" 2 again -drive "if=none,id=d,format=raw,file=$work/disk" -device "virtio-blk-$2,drive=d"
	limit=1000 run reboots 2
}

# package NAME: a Debian package from the cache, which L1 cannot fill
package() {
	"$top/scripts/debian-package" "$1" 2>/dev/null
}

# watch NAME SECONDS PATTERN PATTERN...: the guest runs until it has said the first, and has said all the others
watch() {
	local name=$1 seconds=$2 last=$3 why='' pattern
	shift 3
	: >"$work/out"
	"${command[@]}" -serial stdio </dev/null >>"$work/out" 2>&1 &
	pid=$!
	wait_for "$seconds" "$last" || why="it does not say $last"
	kill "$pid" 2>/dev/null || :
	finish "$pid"
	for pattern; do
		said "$pattern" || why="${why:-it does not say $pattern}"
	done
	! said 'Errors: *[1-9]' || why="memory errors"
	tr '\033' '\n' <"$work/out" | tail -n 25 >"$work/tail"
	mv "$work/tail" "$work/out"
	result "$name" "$why"
}

# bare MACHINE CPUS QEMU-ARG...: a machine without a Linux
bare() {
	local type=$1 cpus=$2
	shift 2
	command=(qemu-system-x86_64 -nodefaults -no-user-config -display none -machine "$type,accel=kvm" -cpu host
		-smp "$cpus" -m 32 "$@")
}

# All of a processor's memory accesses, on two processors at once
memtest() {
	bare q35 2 -kernel "$(package memtest86+)/boot/memtest86+$1.bin" -append console=ttyS0,115200
	watch "memtest_$1" 200 '#[5-9]  .[BMR]' '2 Threads' 'Errors: 0'
}

# Real mode and back for every BIOS call, and drivers of its own
ipxe() {
	bare q35,graphics=off 1 -kernel "$(package ipxe)/boot/ipxe.lkrn" -append 'dhcp && show ip' \
		-netdev user,id=n -device virtio-net-pci,netdev=n,romfile=
	watch ipxe 100 'net0.dhcp/ip:ipv4 = 10.0.2.15' 'Configuring.*ok'
}

grub() {
	local lib
	lib=$(package grub-pc-bin)/usr/lib/grub/i386-pc
	printf '%s\n' 'serial --unit=0 --speed=115200' 'terminal_output serial' \
		'hexdump -s 510 -n 2 (hd0)0+1' 'echo THE END' halt >"$work/grub.cfg"
	"$(package grub-common)/usr/bin/grub-mkimage" -d "$lib" -O i386-pc -p / -c "$work/grub.cfg" \
		-o "$work/core.img" biosdisk serial terminal echo hexdump halt
	cat "$lib/boot.img" "$work/core.img" >"$work/disk"
	truncate -s 4M "$work/disk"
	bare pc 1 -drive "file=$work/disk,format=raw"
	watch grub 60 'THE END' '55 aa'
}

# A 32-bit kernel with PAE, with a 32-bit busybox
linux32() {
	local kdir abi kernel
	kdir=$(package "$kernel32")
	abi=$(cat "$kdir/abi") kernel=$kdir/vmlinuz
	mv "$work/initrd" "$work/initrd.64"
	PATH="$(package busybox-static:i386)/bin:$PATH" "$top/scripts/initramfs" "$kdir" "$work/init" "$work/initrd" \
		virtio_pci virtio_blk virtio_net
	disk linux32 q35 2 pci
	mv "$work/initrd.64" "$work/initrd"
}

# A kernel in Go that enters its own process as a guest, maps memory as it faults, and runs Linux programs on four vCPUs
gvisor() {
	local why='' sum before
	sum=$(sha256sum </usr/bin/perl)
	before=$(cat /sys/module/svm/parameters/exits)
	# shellcheck disable=SC2016
	HOME=$work timeout 150 "$(package runsc)/usr/bin/runsc" --platform=kvm --network=none --ignore-cgroups \
		--root="$work/runsc" 'do' sh -c 'dmesg; for i in 1 2 3 4; do
			(sha256sum </usr/bin/perl; perl -e "print \"PERL \" . eval(join(q(+), 1..2000)) . qq(\n)") &
		done; wait' </dev/null >"$work/out" 2>&1 || why="status $?"
	[ "$(grep -ac "^$sum" "$work/out")" -eq 4 ] || why=${why:-not four sums that are right}
	[ "$(grep -ac '^PERL 2001000$' "$work/out")" -eq 4 ] || why=${why:-not four perls that can count}
	said 'Starting gVisor' || why=${why:-this is not gVisor}
	[ $(($(cat /sys/module/svm/parameters/exits) - before)) -gt 1000 ] || why=${why:-there was no guest}
	result gvisor "$why"
}

ovmf() {
	machine q35 2 boot -no-reboot -bios /usr/share/qemu/OVMF.fd
	run ovmf 2
}

# The ELF in Debian's kernel image has the note that PVH wants. Debian packs it by xz (6.1) or zstd (6.12).
pvh() {
	local packer=xz offset
	offset=$(LC_ALL=C grep -abo $'\xfd7zXZ' "$kernel" | head -n 1 | cut -d : -f 1)
	if [ -z "$offset" ]; then
		packer=zstd
		offset=$(LC_ALL=C grep -abo $'\x28\xb5\x2f\xfd' "$kernel" | head -n 1 | cut -d : -f 1)
	fi
	# What follows it in the image is not packed.
	tail -c +$((offset + 1)) "$kernel" | $packer -dcq >"$work/vmlinux" 2>/dev/null || :
	machine q35 2 boot -no-reboot -kernel "$work/vmlinux"
	run pvh 2
}

# point NAME COMMAND...
point() {
	if [ "$wanted" = "  " ] || [[ $wanted == *" $1 "* ]]; then
		shift
		"$@"
	fi
}

# guest NAME PACKAGES COMMAND...: a point that needs these packages
guest() {
	local name=$1 needed=$2 one
	shift 2
	for one in $needed; do
		package "$one" >/dev/null && continue
		if [ "$wanted" = "  " ] || [[ $wanted == *" $name "* ]]; then
			number=$((number + 1))
			echo "ok $number $name # SKIP $one could not be fetched from Debian's archive"
		fi
		return
	done
	point "$name" "$@"
}

echo "KTAP version 1"
plan="1..$#"
[ $# -gt 0 ] || plan=1..18
echo "$plan"
# The kernel of L1 itself, where it is one of Debian 12's.
case $(uname -r) in
6.1.* | 6.12.*-amd64) kdir=$("$top/scripts/kernel-image" "$(uname -r)") ;;
*) kdir=$("$top/scripts/kernel-image" 6.1) ;;
esac
abi=$(cat "$kdir/abi")
kernel=$kdir/vmlinuz
"$top/scripts/initramfs" "$kdir" "$work/init" "$work/initrd" virtio_pci virtio_mmio virtio_blk virtio_net
# QEMU knows no other name.
ln -sf svm /dev/kvm

point q35 disk q35 q35 1 pci
point q35_4 disk q35_4 q35 4 pci
point pc_2 disk pc_2 pc 2 pci
point microvm_2 disk microvm_2 microvm 2 device
point irqchip_split disk irqchip_split q35,kernel_irqchip=split 2 pci
point irqchip_off disk irqchip_off q35,kernel_irqchip=off 1 pci
point ovmf ovmf
point pvh pvh
point savevm snapshot
point migration migration
point gdbstub debugger
guest linux32 "$kernel32 busybox-static:i386" linux32
guest memtest_x64 memtest86+ memtest x64
guest memtest_ia32 memtest86+ memtest ia32
guest ipxe ipxe ipxe
guest grub 'grub-pc-bin grub-common' grub
guest gvisor runsc gvisor
point reboots reboots microvm device
exit "$failed"
