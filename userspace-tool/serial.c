// SPDX-License-Identifier: GPL-2.0
/*
 * A 16550A UART (PC16550D data sheet) with an infinitely fast transmitter.
 */
#include "vm.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, FCR = IIR };
enum { IER_RX = 0x01, IER_THRE = 0x02 };
enum { IIR_NONE = 0x01, IIR_THRE = 0x02, IIR_RX = 0x04, IIR_FIFO = 0xc0 };
enum { FCR_ENABLE = 0x01, FCR_CLEAR_RX = 0x02 };
enum { LCR_DLAB = 0x80, MCR_LOOP = 0x10, MSR_CTS_DSR_DCD = 0xb0 };
enum { LSR_RX = 0x01, LSR_TX_EMPTY = 0x60 }; /* holding and shift register */

/*
 * Linux sees input only while it has receive interrupts enabled: what is typed or piped in earlier
 * waits, or its driver's start would throw it away. A bare binary may poll.
 */
static bool rx_visible(const struct vm *vm)
{
	return vm->serial.rx_count && ((vm->serial.reg[IER] & IER_RX) || vm->options->flat.data);
}

static uint8_t interrupt_id(const struct vm *vm)
{
	const struct serial *s = &vm->serial;

	if ((s->reg[IER] & IER_RX) && rx_visible(vm))
		return IIR_RX;
	return (s->reg[IER] & IER_THRE) && s->thr_empty_pending ? IIR_THRE : IIR_NONE;
}

static void update_line(struct vm *vm)
{
	bool level = interrupt_id(vm) != IIR_NONE;

	if (level != vm->serial.line)
		vm_irq(vm, IRQ_SERIAL, level);
	vm->serial.line = level;
}

static uint8_t receive(struct vm *vm)
{
	struct serial *s = &vm->serial;
	uint8_t byte = s->rx[0];

	if (!rx_visible(vm))
		return 0;
	memmove(s->rx, s->rx + 1, --s->rx_count);
	if (!s->rx_count)
		eventfd_write(vm->event, 1); /* it may have waited for room */
	return byte;
}

uint8_t serial_read(struct vm *vm, unsigned int reg)
{
	struct serial *s = &vm->serial;
	uint8_t value = s->reg[reg];

	if (reg <= IER && (s->reg[LCR] & LCR_DLAB))
		return s->divisor[reg];
	if (reg == DATA) {
		value = receive(vm);
	} else if (reg == IIR) {
		value = interrupt_id(vm);
		if (value == IIR_THRE)
			s->thr_empty_pending = false;
		value |= s->reg[FCR] & FCR_ENABLE ? IIR_FIFO : 0;
	} else if (reg == LSR) {
		value = LSR_TX_EMPTY | (rx_visible(vm) ? LSR_RX : 0);
	} else if (reg == MSR) {
		/* Loopback wires DTR, RTS, OUT1, OUT2 to DSR, CTS, RI, DCD. */
		value = s->reg[MCR];
		value = value & MCR_LOOP ? (value & 1) << 5 | (value & 2) << 3 | (value & 0xc) << 4
					 : MSR_CTS_DSR_DCD;
	}
	update_line(vm);
	return value;
}

void serial_write(struct vm *vm, unsigned int reg, uint8_t value)
{
	struct serial *s = &vm->serial;

	if (reg <= IER && (s->reg[LCR] & LCR_DLAB)) {
		s->divisor[reg] = value;
		return;
	}
	if (reg == DATA) {
		if (!(s->reg[MCR] & MCR_LOOP))
			console_output(vm, &value, 1);
		s->thr_empty_pending = true;
	} else if (reg == IER) {
		value &= 0x0f;
		/* Enabling the interrupt of an empty transmitter raises it at once. */
		s->thr_empty_pending |= value & ~s->reg[IER] & IER_THRE;
	} else if (reg == FCR && (value & FCR_CLEAR_RX) && rx_visible(vm)) {
		s->rx_count = 0;
		eventfd_write(vm->event, 1);
	} else if (reg == MCR) {
		value &= 0x1f;
	}
	s->reg[reg] = value;
	update_line(vm);
}

/* For the console: how much input may come. If none, it is woken once there is room. */
unsigned int serial_room(struct vm *vm)
{
	return sizeof(vm->serial.rx) - vm->serial.rx_count;
}

void serial_input(struct vm *vm, const uint8_t *data, unsigned int count)
{
	pthread_mutex_lock(&vm->lock);
	while (count-- && serial_room(vm))
		vm->serial.rx[vm->serial.rx_count++] = *data++;
	update_line(vm);
	pthread_mutex_unlock(&vm->lock);
}
