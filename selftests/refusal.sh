#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# refusal.sh PHRASE CODE - a processor that svm.ko cannot use: insmod fails, its line in the kernel's log says PHRASE
# (with _ for blanks), nothing stays behind, and svmctl check ends with CODE
set -u

top=$(cd "${SVM_TESTS:-$(dirname "$0")/../build/tests}/../.." && pwd)
number=0 failed=0

point() {
	number=$((number + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $number $2"
	else
		echo "not ok $number $2"
		failed=1
	fi
}

echo "1..4"
insmod "${SVM_KO:?}" 2>/dev/null
[ $? -eq 1 ]
point $? insmod_fails
dmesg | grep 'svm: ' | sed 's/^/# /'
dmesg | grep -q "svm: .*${1//_/ }"
point $? log_says_why
[ ! -e /dev/svm ] && [ ! -e /sys/module/svm ]
point $? nothing_left
"$top/build/svmctl" check 2>&1 | sed 's/^/# /'
[ "${PIPESTATUS[0]}" -eq "$2" ]
point $? svmctl_check_says_so
exit "$failed"
