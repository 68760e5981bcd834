# SPDX-License-Identifier: GPL-2.0
#
# `make help` lists the targets.  KERNEL=6.1|6.12 (Debian's headers of that series), KERNEL=7.x
# (scripts/kernel-next), KERNEL=debug (scripts/debug-kernel) or KDIR=DIR (any kernel's build
# directory) chooses what svm.ko is built for.

KERNEL ?= 6.1
PREFIX ?= /usr/local
GROUP ?= kvm
KERNELS ?= 6.1 6.12 $(if $(filter 1,$(DEBUG_KERNEL)),debug)
V ?= 0
SECONDS ?= 60
TEST_SEED ?= 1

MAKEFLAGS += --no-print-directory
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif

# Looked up late: `deps` may have to install the headers first.
ifdef KDIR
kdir = $(KDIR)
name = $(release)
else ifneq ($(filter 7.x debug,$(KERNEL)),)
kdir = $(shell scripts/kernel-image $(KERNEL))/build
name = $(KERNEL)$(if $(GCOV),-gcov)$(if $(KCOV),-kcov)
else
kdir = /usr/src/linux-headers-$(shell . scripts/common.sh; kernel_abi $(KERNEL))
name = $(KERNEL)
endif
release = $(shell sed -n 's/^.define UTS_RELEASE "\(.*\)"/\1/p' $(kdir)/include/generated/utsrelease.h)
out = build/$(name)
# BTF would want the kernel's vmlinux, and signing its key: headers come without.
kbuild = $(MAKE) -C $(kdir) M=$(CURDIR)/$(out) KBUILD_VERBOSE=$(V) CONFIG_DEBUG_INFO_BTF_MODULES= \
	CONFIG_MODULE_SIG_ALL=

all: module tool tests

module: | deps-build
	@scripts/farm $(out)
	+@$(kbuild) modules

tool: | deps-build
	@$(MAKE) -s -C userspace-tool OUT=$(CURDIR)/build/tool
	@ln -sf tool/svmctl build/svmctl

tests: | deps-build
	@$(MAKE) -s -C selftests OUT=$(CURDIR)/build/tests

deps-build:
	@scripts/deps build $(if $(KDIR),,$(KERNEL))

# One module after the other: kbuild uses all CPUs for each.
modules-all: | deps-build
	@set -e; for kernel in $(KERNELS); do $(MAKE) module KDIR= KERNEL=$$kernel; done

test: modules-all tool tests
	@scripts/deps run vmm $(KERNELS)
	@scripts/run-tests $(KERNELS:%=--kernel %) $(TESTS)

# Which lines of the module run; COVERAGE names the programs.
COVERAGE ?= modes exits worldswitch events intercepts msr io state abi lapic irqchip notify vmapi debug \
	syncregs msrfilter pv vcpuapi lifetime badinput faults notifier memslots memaccess memchange \
	fuzz_guest fuzz_exits fuzz_ioctl
coverage: tests
	+@$(MAKE) module KDIR= KERNEL=debug GCOV=y
	@scripts/deps run
	@scripts/coverage $(COVERAGE)

# Which allocations and copies from or to userspace have been failed.
faults: tests
	+@$(MAKE) module KDIR= KERNEL=debug
	@scripts/deps run
	@scripts/fault-sites

# TEST_SEED chooses where they begin.
fuzz: module tests
	@scripts/deps run
	@selftests/rig/run-l1 --kernel $(KERNEL) --timeout $$((3 * $(SECONDS) + 300)) \
		-c 'insmod $(out)/svm.ko && export FUZZ_SECONDS=$(SECONDS) FUZZ_SEED=$(TEST_SEED) && \
		build/tests/fuzz_guest && build/tests/fuzz_exits && build/tests/fuzz_ioctl && rmmod svm'

demo:
	+@scripts/demo

bench: module tool tests
	@scripts/deps run
	@scripts/bench $(KERNEL) "$(L1_PARAMETERS)"

check: | deps-build
	@scripts/deps check
	@$(MAKE) tool tests
	@scripts/check $(kdir) $(out)

# A quarter of an hour.
coccicheck:
	@scripts/deps cocci
	@scripts/coccicheck $(kdir)

format:
	clang-format -i $(shell scripts/check --userspace)

install: module tool
	+$(kbuild) INSTALL_MOD_PATH=$(DESTDIR) INSTALL_MOD_DIR=updates modules_install
	$(MAKE) -C userspace-tool OUT=$(CURDIR)/build/tool install
	mkdir -p $(DESTDIR)/etc/udev/rules.d
	echo 'KERNEL=="svm", GROUP="$(GROUP)", MODE="0660"' >$(DESTDIR)/etc/udev/rules.d/60-svm.rules
ifeq ($(DESTDIR),)
	getent group $(GROUP) >/dev/null || groupadd --system $(GROUP)
	depmod $(release)
	-udevadm control --reload && udevadm trigger --subsystem-match=misc
endif

uninstall:
	rm -f $(DESTDIR)/lib/modules/$(release)/updates/svm.ko*
	rm -f $(DESTDIR)$(PREFIX)/sbin/svmctl $(DESTDIR)$(PREFIX)/share/man/man8/svmctl.8
	rm -f $(DESTDIR)/etc/udev/rules.d/60-svm.rules
ifeq ($(DESTDIR),)
	-depmod $(release)
endif

clean:
	rm -rf build

help:
	@echo 'make          svm.ko, svmctl and the test programs, below build/'
	@echo 'make demo     boot a stock Debian kernel in a guest, here or nested in QEMU'
	@echo 'make test     the whole suite, nested in QEMU (TESTS="name..." for some of it)'
	@echo 'make fuzz     random guests and random calls, SECONDS=$(SECONDS) of each; KERNEL=debug KCOV=y: guided'
	@echo 'make coverage which lines of the module the tests reach (builds the debug kernel, takes 20 minutes)'
	@echo 'make faults   fails each allocation and copy of the module on the debug kernel, and lists what was not'
	@echo 'make check    sparse, W=1, checkpatch, clang-format, shellcheck'
	@echo 'make coccicheck  the kernel'\''s semantic patches (Coccinelle), a quarter of an hour'
	@echo 'make bench    instructions per exit, beside those of kvm_amd; L1_PARAMETERS=mitigations=off'
	@echo 'make format   clang-format the userspace code'
	@echo 'make install  module, tool, man page, udev rule (uninstall undoes it)'
	@echo 'make clean'
	@echo
	@echo 'KERNEL=6.1|6.12  build for the headers of that Debian series ($(KERNEL)), or 7.x, debug'
	@echo 'KDIR=DIR         build for another kernel, such as /lib/modules/$$(uname -r)/build'
	@echo 'KERNELS="..."    kernels that `make test` uses ($(KERNELS))'
	@echo 'DEBUG_KERNEL=1   `make test` on a kernel with KASAN, lockdep and kmemleak as well'
	@echo 'PREFIX, DESTDIR, GROUP   of `make install` ($(PREFIX), none, $(GROUP))'

.PHONY: all module tool tests deps-build modules-all test coverage faults fuzz demo bench check coccicheck format install \
	uninstall clean help
