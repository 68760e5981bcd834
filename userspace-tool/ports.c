// SPDX-License-Identifier: GPL-2.0
/* The ports svmctl answers. All others are like an ISA bus with nothing on it: they read as ones. */
#include <time.h>

#include "vm.h"

enum { PORT_SERIAL = 0x3f8, PORT_CMOS = 0x70, PORT_KEYBOARD = 0x64, PULSE_RESET = 0xfe };
/* PM1_CNT's low byte; its high one: SLP_EN, and the type that _S5 names in the DSDT */
enum { PM1_SCI_EN = 0x01, PM1_SLP_S5 = 0x34, PM1_SLP_MASK = 0x3c };

static uint8_t bcd(int value)
{
	return value / 10 % 10 << 4 | value % 10;
}

/* The clock of an MC146818, and the sizes of memory a PC's firmware leaves in its RAM. */
static uint8_t cmos_read(struct vm *vm, uint8_t index)
{
	uint64_t high = vm->options->memory - vm->low_size;
	uint64_t above_16m = vm->low_size > 16 << 20 ? (vm->low_size >> 16) - 256 : 0;
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	/* clang-format off */
	const uint8_t registers[128] = {
		[0x00] = bcd(tm.tm_sec), [0x02] = bcd(tm.tm_min), [0x04] = bcd(tm.tm_hour),
		[0x06] = tm.tm_wday + 1, [0x07] = bcd(tm.tm_mday), [0x08] = bcd(tm.tm_mon + 1),
		[0x09] = bcd(tm.tm_year % 100), [RTC_CENTURY] = bcd(tm.tm_year / 100 + 19),
		/* A: no update in progress. B: BCD, 24 hours, no interrupts. D: battery good. */
		[0x0a] = 0x26, [0x0b] = 0x02, [0x0d] = 0x80,
		[0x15] = 640 & 0xff, 640 >> 8, [0x34] = above_16m & 0xff, above_16m >> 8,
		[0x5b] = high >> 16 & 0xff, high >> 24 & 0xff, high >> 32 & 0xff,
	};
	/* clang-format on */
	return registers[index];
}

static uint8_t port_read(struct vm *vm, uint16_t port)
{
	if (port >= PORT_SERIAL && port < PORT_SERIAL + 8)
		return serial_read(vm, port - PORT_SERIAL);
	if (port == PORT_CMOS + 1)
		return cmos_read(vm, vm->cmos_index);
	if (port == PORT_PM1_EVENT + 2 || port == PORT_PM1_EVENT + 3)
		return vm->pm1_enable[port & 1];
	if (port >= PORT_PM1_EVENT && port <= PORT_PM1_CNT + 1)
		return port == PORT_PM1_CNT ? PM1_SCI_EN : 0; /* no event ever comes */
	return port == PORT_KEYBOARD ? 0 : 0xff;	      /* its buffers are empty */
}

static void port_write(struct vm *vm, uint16_t port, uint8_t value)
{
	if (port >= PORT_SERIAL && port < PORT_SERIAL + 8)
		serial_write(vm, port - PORT_SERIAL, value);
	else if (port == PORT_CMOS)
		vm->cmos_index = value & 0x7f;
	else if (port == PORT_PM1_EVENT + 2 || port == PORT_PM1_EVENT + 3)
		vm->pm1_enable[port & 1] = value;
	else if (port == PORT_PM1_CNT + 1 && (value & PM1_SLP_MASK) == PM1_SLP_S5)
		vm_stop(vm, VM_POWEROFF, EXIT_OK, "the guest powered off");
	else if ((port == PORT_KEYBOARD && value == PULSE_RESET) ||
		 (port == PORT_RESET && value & 4))
		vm_stop(vm, VM_RESET, EXIT_RESET, "the guest reset itself");
	else if (port == PORT_FLAT_EXIT && vm->options->flat.data)
		vm_stop(vm, VM_POWEROFF, value, "the guest ended with status %u", value);
}

/* One IN or OUT, a byte a port; but a dword written to PCI's 0xcf8 does not hit the reset port in it. */
void port_access(struct vm *vm, uint16_t port, bool write, uint8_t *data, unsigned int size)
{
	for (unsigned int i = 0; i < size; i++) {
		if (!write)
			data[i] = port_read(vm, port + i);
		else if (!i || port + i != PORT_RESET)
			port_write(vm, port + i, data[i]);
	}
}
