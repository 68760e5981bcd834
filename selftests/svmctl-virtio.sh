#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# svmctl-virtio.sh - svmctl's virtio devices, under a stock Debian guest (the kernel that L1 runs)
#
# One guest of 4 CPUs and memory above 4 GiB has them all. In its first life a hostile driver
# attacks them; it reboots, and then the kernel's own drivers use them. Then: terminal and exit
# codes, with bare binaries.
#
# shellcheck disable=SC2317 # point() calls functions by name
set -eu

tests=${SVM_TESTS:-$(cd "$(dirname "$0")/../build/tests" && pwd)}
top=$(cd "$tests/../.." && pwd)
svmctl=${SVMCTL:-$top/build/svmctl}
memory_mib=3500
work=$(mktemp -d)
pids=()
finish() {
	[ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || :
	umount "$work/small" 2>/dev/null || :
	rm -rf "$work"
}
trap finish EXIT

# --- KTAP ---

number=0
failed=0

# point NAME COMMAND...: ok if the command succeeds
point() {
	local name=$1
	shift
	number=$((number + 1))
	if "$@"; then
		echo "ok $number $name"
	else
		echo "not ok $number $name"
		failed=1
	fi
}

skip() {
	number=$((number + 1))
	echo "ok $number $1 # SKIP $2"
}

same() {
	[ "$1" = "$2" ] || { echo "# '$1' is not '$2'"; false; }
}

# --- the guest ---

if [ ! -r /run/rig/env ]; then
	echo "1..0 # SKIP runs only in an L1 of the rig"
	exit 4
fi
# shellcheck source=/dev/null
. /run/rig/env

cat >"$work/init" <<'INIT'
#!/bin/busybox sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
busybox --install -s /bin 2>/dev/null
mkdir -p /run
exec 2>&1

result() {
	echo "RESULT $*"
}

# is NAME COMMAND...
is() {
	name=$1
	shift
	if "$@" >/run/is 2>&1; then
		result "$name" ok
	else
		result "$name" FAIL "$(head -n 3 /run/is)"
	fi
}

# not NAME COMMAND...: fails, with an I/O error
not() {
	name=$1
	shift
	if "$@" >/run/is 2>&1 || ! grep -q "$ERROR" /run/is; then
		result "$name" FAIL "$(cat /run/is)"
	else
		result "$name" ok
	fi
}

for word in $(cat /proc/cmdline); do
	case $word in memory_end=*) memory_end=${word#*=} ;; esac
done

load() {
	while read -r module; do
		[ -e "/sys/module/$(basename "$module" .ko | tr - _)" ] || insmod "/modules/$module"
	done </modules/order
	for i in 1 2 3 4 5 6 7 8 9 10; do
		[ -e /dev/hvc0 ] && [ -e /dev/vdc ] && break
		sleep 0.2
	done
}

# vda's first bytes remember the first life.
load
if [ "$(dd if=/dev/vda bs=8 count=1 2>/dev/null)" != LIFE-TWO ]; then
	rmmod virtio_mmio
	svmctl-guest hostile "$memory_end"
	load
	printf LIFE-TWO | dd of=/dev/vda conv=fsync 2>/dev/null
	echo "@first life ends"
	reboot -f
fi
result reboot ok

is cpus [ "$(nproc)" = 4 ]
is memory [ "$(grep MemTotal /proc/meminfo | tr -dc 0-9)" -gt 3300000 ]

# Disks: vda to write, vdb read-only, vdc whose file cannot hold what it promises.
is disk_size [ "$(cat /sys/block/vda/size)" = 131072 ]
is disk_serial [ "$(cat /sys/block/vda/serial)" = data.img ]
is disk_cache [ "$(cat /sys/block/vda/queue/write_cache)" = "write back" ]
dd if=/dev/urandom of=/run/pattern bs=1M count=8 2>/dev/null
is disk_write dd if=/run/pattern of=/dev/vda bs=1M seek=1 oflag=direct conv=fsync
echo 3 >/proc/sys/vm/drop_caches
dd if=/dev/vda of=/run/back bs=1M skip=1 count=8 iflag=direct 2>/dev/null
is disk_read_back cmp /run/pattern /run/back
# In pieces of all sizes, by several at once, through the page cache.
for i in 0 1 2 3; do
	blocks=$((1048576 / (512 << i))) # in 1 MiB
	dd if=/run/pattern of=/dev/vda bs=$((512 << i)) skip=$((i * blocks)) \
		seek=$(((16 + i) * blocks)) count=$blocks conv=fsync 2>/dev/null &
done
wait
echo 3 >/proc/sys/vm/drop_caches
dd if=/dev/vda of=/run/back bs=1M skip=16 count=4 2>/dev/null
dd if=/run/pattern of=/run/front bs=1M count=4 2>/dev/null
is disk_parallel cmp /run/front /run/back
echo "SUM pattern $(sha256sum </run/pattern | cut -c1-64)"
echo "SUM front $(sha256sum </run/front | cut -c1-64)"
is disk_discard blkdiscard -o 33554432 -l 8388608 /dev/vda
ERROR='put error' not disk_limit dd if=/run/pattern of=/dev/vda bs=1M seek=56 oflag=direct
is disk_after_limit dd if=/run/pattern of=/dev/vda bs=1M seek=1 count=1 oflag=direct conv=fsync
is readonly_flag [ "$(cat /sys/block/vdb/ro)" = 1 ]
ERROR=. not readonly_write dd if=/run/pattern of=/dev/vdb bs=4k count=1 oflag=direct
echo "SUM ro $(dd if=/dev/vdb bs=1M 2>/dev/null | sha256sum | cut -c1-64)"
ERROR='put error' not full_write dd if=/run/pattern of=/dev/vdc bs=1M oflag=direct

# The host truncates vdc's file, and answers over the virtio console.
exec 3<>/dev/hvc0
stty -F /dev/hvc0 raw -echo
echo "@truncate" >&3
IFS= read -r answer <&3
is console_input [ "$answer" = "truncated" ]
ERROR='put error' not short_read dd if=/dev/vdc of=/dev/null bs=1M count=4 iflag=direct
sleep 1 # both consoles come out as one: lines must not mix
i=0
while [ $i -lt 200 ]; do
	echo "console line $i 0123456789012345678901234567890123456789"
	i=$((i + 1))
done >&3
sleep 1

is rng [ "$(dd if=/dev/hwrng bs=512 count=8 2>/dev/null | wc -c)" = 4096 ]
is rng_name grep -q virtio /sys/class/misc/hw_random/rng_available

# Networks: eth0 is served by svmctl, eth1 by vhost.
ifconfig lo up
mkfifo /run/never
exec 5<>/run/never # nc ends at the end of its input
for n in 0 1; do
	[ -e /sys/class/net/eth$n ] || continue
	ifconfig eth$n 10.99.$n.2 netmask 255.255.255.0 up
	echo "MAC eth$n $(cat /sys/class/net/eth$n/address)"
	is net${n}_ping ping -c 2 -W 20 10.99.$n.1
	nc 10.99.$n.1 5${n}00 </run/pattern >/dev/null
	nc 10.99.$n.1 5${n}01 <&5 >/run/net
	echo "SUM net$n $(sha256sum </run/net | cut -c1-64)"
done
if [ -c /dev/vsock ]; then
	is vsock_send svmctl-guest vsock-send 5002 </run/pattern
fi
echo "@end"
cat /proc/interrupts | grep virtio
poweroff -f
INIT

modules=(virtio_mmio virtio_blk virtio_net virtio_console virtio-rng vmw_vsock_virtio_transport)
"$top/scripts/initramfs" "$RIG_KERNEL" "$work/init" "$work/initrd" "${modules[@]}"
truncate -s %4 "$work/initrd" # the next archive has to start aligned
mkdir -p "$work/root/bin"
cp "$tests/svmctl-guest" "$work/root/bin/"
(cd "$work/root" && find bin | cpio --quiet -o -H newc -R 0:0) >>"$work/initrd"

# --- the host's side of the devices ---

modprobe -a tun vhost_net vhost_vsock || :
devices=(--disk "$work/data.img" --disk "$work/ro.img,ro" --disk "$work/small/full.img"
	--rng --console)
networks=()
[ ! -c /dev/net/tun ] || networks=(0)
[ ! -c /dev/net/tun ] || [ ! -c /dev/vhost-net ] || networks=(0 1)
for n in ${networks[0]+"${networks[@]}"}; do
	devices+=(--net "tap=svmtest$n,mac=02:00:00:00:99:0$n$([ "$n" = 0 ] || echo ,vhost)")
done
vsock=''
if [ -c /dev/vhost-vsock ]; then
	vsock=1
	devices+=(--vsock 99)
	"$tests/svmctl-guest" vsock-listen 5002 >"$work/vsock" &
	pids+=($!)
fi
truncate -s 64M "$work/data.img"
dd if=/dev/urandom of="$work/ro.img" bs=64k count=16 2>/dev/null
ro_sum=$(sha256sum <"$work/ro.img")
mkdir "$work/small"
mount -t tmpfs -o size=2m tmpfs "$work/small"
truncate -s 8M "$work/small/full.img"
dd if=/dev/urandom of="$work/send" bs=64k count=64 2>/dev/null

trace=/sys/kernel/tracing
flushes() {
	grep -c 'svmctl.*sys_fdatasync' "$trace/trace" || :
}
tracing=''
if echo 1 2>/dev/null >"$trace/events/syscalls/sys_enter_fdatasync/enable"; then
	tracing=1
	: >"$trace/trace"
fi

mkfifo "$work/input"
: >"$work/log"
# The limit: no file may grow beyond 48 MiB, which data.img promises to do.
(
	ulimit -f 49152
	exec "$svmctl" run --cpus 4 --memory "${memory_mib}M" --initrd "$work/initrd" \
		--cmdline "console=ttyS0 quiet pci=off 8250.nr_uarts=1 io_delay=none net.ifnames=0 \
			memory_end=$((0x100000000 + ((memory_mib - 3072) << 20)))" \
		"${devices[@]}" "$RIG_KERNEL/vmlinuz"
) <"$work/input" >"$work/log" 2>"$work/errors" &
guest=$!
pids+=("$guest")
exec 4>"$work/input"

mkfifo "$work/never"
exec 5<>"$work/never"
# Each tap has two servers: 5N00 receives, 5N01 sends.
for n in ${networks[0]+"${networks[@]}"}; do
	until [ -e "/sys/class/net/svmtest$n" ] || ! kill -0 "$guest" 2>/dev/null; do
		sleep 0.1
	done
	busybox ifconfig "svmtest$n" "10.99.$n.1" netmask 255.255.255.0 up || :
	busybox nc -l -p "5${n}00" <&5 >"$work/net$n" &
	pids+=($!)
	busybox nc -l -p "5${n}01" <"$work/send" >/dev/null &
	pids+=($!)
done

limit=$((SECONDS + 300))
truncated=''
while kill -0 "$guest" 2>/dev/null; do
	if [ $SECONDS -ge $limit ]; then
		kill "$guest"
		break
	fi
	if [ -z "$truncated" ] && grep -aq '@truncate' "$work/log"; then
		truncated=1
		truncate -s 1M "$work/small/full.img"
		printf 'truncated\n' >&4
	fi
	sleep 0.2
done
status=0
wait "$guest" || status=$?
exec 4>&-
[ -z "$tracing" ] || flushed=$(flushes)

# --- what came of it ---

tr -d '\r' <"$work/log" | grep -aE '^(RESULT|SUM|MAC) ' >"$work/results" || :

# from_guest NAME: the guest's own verdict
from_guest() {
	grep -q "^RESULT $1 ok" "$work/results" || {
		grep "^RESULT $1 " "$work/results" | sed 's/^/# /'
		false
	}
}

sum_of() {
	sed -n "s/^SUM $1 //p" "$work/results"
}

sha() {
	sha256sum | cut -c1-64
}

point "the guest powers off: exit code 0" same "$status" 0
point "and svmctl had nothing to complain of" same "$(cat "$work/errors")" \
	"svmctl: the guest reset itself"
for name in hostile reboot cpus memory disk_size disk_serial disk_cache disk_write disk_read_back \
	disk_parallel disk_discard disk_limit disk_after_limit readonly_flag readonly_write full_write \
	console_input short_read rng rng_name; do
	point "$name" from_guest "$name"
done
point "what was written is in the file" same "$(sum_of pattern)" \
	"$(dd if="$work/data.img" bs=1M skip=1 count=8 2>/dev/null | sha)"
point "what four wrote at once is in the file" same "$(sum_of front)" \
	"$(dd if="$work/data.img" bs=1M skip=16 count=4 2>/dev/null | sha)"
point "the read-only file reads right" same "$(sum_of ro)" "${ro_sum%% *}"
point "the read-only file is as it was" same "$(sha256sum <"$work/ro.img")" "$ro_sum"
if [ -n "$tracing" ]; then
	point "flushes reach the file" test "$flushed" -ge 3
else
	skip "flushes reach the file" "no tracing of system calls"
fi
point "console output arrives complete" same 200 \
	"$(grep -ac '^console line [0-9]* 01234567' "$work/log")"
for n in 0 1; do
	if [[ " ${networks[*]} " != *" $n "* ]]; then
		skip "net$n" "no /dev/net/tun, or no /dev/vhost-net"
		continue
	fi
	point "net$n ping" from_guest "net${n}_ping"
	point "net$n has its address" grep -q "^MAC eth$n 02:00:00:00:99:0$n" "$work/results"
	point "net$n TCP from the guest" same "$(sha <"$work/net$n")" "$(sum_of pattern)"
	point "net$n TCP to the guest" same "$(sum_of "net$n")" "$(sha <"$work/send")"
done
if [ -n "$vsock" ]; then
	point "vsock from the guest" from_guest vsock_send
	point "vsock carries it unchanged" same "$(sha <"$work/vsock")" "$(sum_of pattern)"
else
	skip "vsock" "no /dev/vhost-vsock"
fi
if [ "$failed" -ne 0 ]; then
	sed 's/^/# errors: /' "$work/errors"
	tr -d '\r' <"$work/log" | grep -av '^console line' | tail -n 80 | sed 's/^/# guest: /'
fi

# --- command lines ---

# code CODE ARGUMENT...: svmctl ends with this exit code, and says why
code() {
	local expected=$1 got=0
	shift
	timeout 60 "$svmctl" "$@" >"$work/out" 2>&1 </dev/null || got=$?
	same "$got" "$expected" && { [ "$got" -eq 0 ] || [ -s "$work/out" ]; }
}

point "a directory for a disk" code 1 run --disk "$work,ro" "$RIG_KERNEL/vmlinuz"
point "a missing disk" code 1 run --disk "$work/none" "$RIG_KERNEL/vmlinuz"
point "a wrong network" code 2 run --net "nonsense" "$RIG_KERNEL/vmlinuz"
point "a multicast address" code 2 run --net "tap=x,mac=01:00:00:00:00:00" "$RIG_KERNEL/vmlinuz"
point "the host's own CID" code 2 run --vsock 2 "$RIG_KERNEL/vmlinuz"
rngs=(--rng --rng --rng --rng --rng --rng --rng --rng)
point "nine devices" code 2 run "${rngs[@]}" --rng "$RIG_KERNEL/vmlinuz"
point "two consoles" code 1 run --console --console "$RIG_KERNEL/vmlinuz"
(
	flock 9
	echo locked >"$work/locked"
	exec sleep 60
) 9<"$work/data.img" &
pids+=($!)
until [ -e "$work/locked" ]; do sleep 0.1; done
point "a disk that another guest has" code 1 run --disk "$work/data.img" "$RIG_KERNEL/vmlinuz"
point "check" code 0 check
chmod 755 "$work"
cp "$svmctl" "$work/svmctl"
point "check without permission" same 14 \
	"$(setpriv --reuid 65534 --clear-groups "$work/svmctl" check >/dev/null; echo $?)"
point "check of no device" code 13 check --device "$work/none"
point "check of a device that speaks no KVM" code 16 check --device /dev/null
point "stat" code 0 stat
point "stat shows the counters" grep -qE '^exits +[1-9]' "$work/out"
point "stat with an argument" code 2 stat x

# --- the terminal, however svmctl ends ---

printf '\353\376' >"$work/loop.bin" # jmp .
printf '\364' >"$work/halt.bin" # hlt
printf '\017\001\036\006\000\315\003\000\000\000\000\000\000' >"$work/triple.bin" # lidt [6]; int3

# on_terminal CODE FLAT RAW COMMANDS: svmctl in a new terminal, the commands beside it with $pid set.
# The terminal has to be the same before and after, raw in between if RAW says so, the exit code CODE.
cat >"$work/on-terminal" <<'END'
exec 3<&0
before=$(stty -g)
"$SVMCTL" run --flat "$1" <&3 2>/dev/null &
pid=$!
for i in $(seq 100); do
	stty -a | grep -q -e '-icanon' && echo raw >"$WORK/raw"
	[ ! -e "$WORK/raw" ] && kill -0 "$pid" 2>/dev/null || break
	sleep 0.1
done
eval "$2"
code=0
wait "$pid" || code=$?
echo "$code" >"$WORK/code"
[ "$(stty -g)" = "$before" ] && echo same >"$WORK/same"
END
on_terminal() {
	local expected=$1 flat=$2 raw=$3
	rm -f "$work/raw" "$work/same" "$work/code"
	SVMCTL=$svmctl WORK=$work timeout 100 script -qec \
		"bash '$work/on-terminal' '$work/$flat' '$4'" /dev/null </dev/null >/dev/null 2>&1 || :
	same "$(cat "$work/code" 2>&1)" "$expected" && [ -e "$work/same" ] &&
		{ [ -z "$raw" ] || [ -e "$work/raw" ]; }
}

if command -v script >/dev/null; then
	point "terminal: the guest halts" on_terminal 0 halt.bin '' :
	point "terminal: triple fault" on_terminal 5 triple.bin '' :
	for signal in HUP INT QUIT USR2 ALRM TERM XCPU PWR; do
		point "terminal: SIG$signal" on_terminal $((128 + $(kill -l "$signal"))) loop.bin raw \
			"kill -$signal \$pid"
	done
	for signal in SEGV BUS ABRT SYS; do
		point "terminal: SIG$signal" on_terminal $((128 + $(kill -l "$signal"))) loop.bin raw \
			"ulimit -c 0; kill -$signal \$pid"
	done
	stop="kill -TSTP \$pid; sleep 1; [ \"\$(stty -g)\" = \"\$before\" ] || exit
		kill -CONT \$pid; sleep 1; stty -a | grep -q -e -icanon || exit; kill \$pid"
	point "terminal: stopped and continued" on_terminal 143 loop.bin raw "$stop"
else
	skip "terminal" "no script(1)"
fi

echo "1..$number"
exit "$failed"
