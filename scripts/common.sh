# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0
#
# What the scripts share.  Sourced, never run.

SVM_CACHE=${SVM_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/svm}

# What on a kernel's console is never right, as an extended regular expression.
SVM_SPLATS='BUG:|WARNING: (CPU|possible|suspicious|inconsistent|bad|lock)|Oops'
SVM_SPLATS="$SVM_SPLATS|general protection fault|[Kk]ernel panic|kernel BUG at|Bad page"
SVM_SPLATS="$SVM_SPLATS|refcount_t:|UBSAN|KASAN|KFENCE|detected stall|blocked for more than"
SVM_SPLATS="$SVM_SPLATS|unchecked MSR access|scheduling while atomic|memory leak|double fault"

say() {
	echo "$*" >&2
}

die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

# kernel_abi VERSION: the newest installed headers of this series, by ABI name.
kernel_abi() {
	case $1 in
	*-amd64)
		echo "$1"
		return
		;;
	esac
	for kernel_hdr in /usr/src/linux-headers-"$1".*-amd64; do
		[ -e "$kernel_hdr/Module.symvers" ] || continue
		kernel_hdr=${kernel_hdr##*/linux-headers-}
		case $kernel_hdr in
		*-cloud-amd64 | *-rt-amd64) continue ;;
		esac
		echo "$kernel_hdr"
	done | sort -V | tail -n 1
}

# fetch_kernel ABI DIR: put the image package that belongs to the installed headers into DIR.
fetch_kernel() {
	fetch_ver=$(dpkg-query -W -f '${Version}' "linux-headers-$1" 2>/dev/null || :)
	for fetch_pkg in "linux-image-$1" "linux-image-$1-unsigned"; do
		for fetch_try in "$fetch_pkg${fetch_ver:+=$fetch_ver}" "$fetch_pkg"; do
			say "fetching $fetch_try"
			if (cd "$2" && apt-get -qq -o APT::Sandbox::User=root download \
				"$fetch_try") >"$2/log" 2>&1; then
				return 0
			fi
		done
	done
	sed 's/^/  /' "$2/log" >&2
	die "cannot download linux-image-$1 (try apt-get update)"
}
