// SPDX-License-Identifier: GPL-2.0
/*
 * The ACPI tables (specification 6.5, chapter 5, and 20 for AML) for finding CPUs (MADT) and virtio
 * devices (DSDT), for reset (FADT) and power-off (_S5).
 */
#include "vm.h"

/* Where each goes, and the size of the header that all begin with. */
enum { XSDT = ACPI_ADDR + 0x40, FACS = ACPI_ADDR + 0x80, FADT = ACPI_ADDR + 0x100 };
enum { MADT = ACPI_ADDR + 0x200, DSDT = ACPI_ADDR + 0x800, HEADER = 36 };
#define LE16(x) (x) & 0xff, (x) >> 8 & 0xff
#define LE32(x) LE16(x), LE16((x) >> 16)

/* clang-format off */
static const uint8_t rsdp_body[36] = {
	'R', 'S', 'D', ' ', 'P', 'T', 'R', ' ', 0, 'S', 'V', 'M', 'C', 'T', 'L', 2,
	[20] = LE32(36), LE32(XSDT),
};

static const uint8_t facs_body[64] = { 'F', 'A', 'C', 'S', 64, [32] = 2 };
static const uint8_t xsdt_body[HEADER + 16] = { [36] = LE32(FADT), [44] = LE32(MADT) };

/* Name (\_S5, Package () { 5, 0, 0, 0 }) */
static const uint8_t dsdt_body[HEADER + 14] = {
	[36] = 0x08, '\\', '_', 'S', '5', '_', 0x12, 0x07, 0x04, 0x0a, 0x05, 0x00, 0x00, 0x00,
};

/* Scope (\_SB) {; its length, of the two-byte kind, is filled in. */
static const uint8_t dsdt_scope[] = { 0x10, 0, 0, '\\', '_', 'S', 'B', '_' };

/*
 * Device (VIO0) { Name (_HID, "LNRO0005")  Name (_UID, 0)  Name (_CRS, ResourceTemplate () {
 *	Memory32Fixed (ReadWrite, 0, VIRTIO_STRIDE)
 *	Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 0 } }) }
 * What is 0 here is filled in at the DEVICE_... offsets.
 */
enum { DEVICE_NAME = 6, DEVICE_UID = 28, DEVICE_MEMORY = 42, DEVICE_IRQ = 55 };
static const uint8_t dsdt_device[] = {
	0x5b, 0x82, 59, 'V', 'I', 'O', '0',
	0x08, '_', 'H', 'I', 'D', 0x0d, 'L', 'N', 'R', 'O', '0', '0', '0', '5', 0,
	0x08, '_', 'U', 'I', 'D', 0x0a, 0,
	0x08, '_', 'C', 'R', 'S', 0x11, 26, 0x0a, 23,
	0x86, 9, 0, 1, LE32(0), LE32(VIRTIO_STRIDE),
	0x89, 6, 0, 0x03, 1, LE32(0),
	0x79, 0,
};

static const uint8_t fadt_body[244] = {
	[36] = LE32(FACS), LE32(DSDT),
	[46] = LE16(IRQ_SCI),
	[56] = LE32(PORT_PM1_EVENT),
	[64] = LE32(PORT_PM1_CNT),
	[88] = 4, 2,			/* lengths of these two */
	[96] = LE16(101), LE16(1001),	/* latencies that say: no C2, no C3 */
	[108] = RTC_CENTURY,
	[109] = 0x1d,			/* ISA devices; no 8042, VGA, MSI, ASPM */
	/* WBINVD, C1, no fixed buttons or RTC wake, reset register */
	[112] = LE32(1 << 0 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 10),
	[116] = 1, 8, 0, 1, LE32(PORT_RESET),	/* a byte-wide I/O port */
	[128] = 0x06,			/* what to write there */
};

/* The local APICs' address, and that there are 8259s too; before the CPUs. */
static const uint8_t madt_start[HEADER + 8] = { [36] = LE32(0xfee00000), 1 };
static const uint8_t madt_end[] = {
	1, 12, 0, 0, LE32(0xfec00000), LE32(0),		/* IOAPIC, from GSI 0 */
	2, 10, 0, IRQ_SCI, LE32(IRQ_SCI), LE16(0x0d),	/* the SCI is level-triggered */
	4, 6, 0xff, 0, 0, 1,				/* NMI on LINT1 of every CPU */
};
/* clang-format on */

/* Makes the @size bytes from @start add up to 0. */
static void set_checksum(uint8_t *start, unsigned int size, uint8_t *checksum)
{
	for (unsigned int i = 0; i < size; i++)
		*checksum -= start[i] * (start + i != checksum);
}

static void finish_table(uint8_t *table, const char *signature, uint8_t revision, uint32_t size)
{
	memcpy(table, signature, 4);
	memcpy(table + 4, &size, 4);
	table[8] = revision;
	memcpy(table + 10, "SVMCTLSVMCTL  \1\0\0\0SVMC\1\0\0", 26); /* who made it */
	set_checksum(table, size, table + 9);
}

/* \_S5 and a device for each of virtio. */
static void build_dsdt(struct vm *vm)
{
	uint8_t *table = vm->ram + DSDT, *scope = table + sizeof(dsdt_body);
	uint8_t *end = scope + sizeof(dsdt_scope);
	unsigned int size;

	memcpy(table, dsdt_body, sizeof(dsdt_body));
	memcpy(scope, dsdt_scope, sizeof(dsdt_scope));
	for (unsigned int i = 0; i < vm->nr_virtio; i++, end += sizeof(dsdt_device)) {
		uint32_t memory = VIRTIO_BASE + i * VIRTIO_STRIDE, irq = IRQ_VIRTIO + i;

		memcpy(end, dsdt_device, sizeof(dsdt_device));
		end[DEVICE_NAME] += i;
		end[DEVICE_UID] = i;
		memcpy(end + DEVICE_MEMORY, &memory, sizeof(memory));
		memcpy(end + DEVICE_IRQ, &irq, sizeof(irq));
	}
	size = end - scope - 1; /* without its opcode */
	scope[1] = 0x40 | (size & 0xf);
	scope[2] = size >> 4;
	finish_table(table, "DSDT", 2, end - table);
}

/* Writes the tables into guest memory below 1 MiB, the RSDP at ACPI_ADDR. */
void acpi_build(struct vm *vm)
{
	uint8_t *rsdp = vm->ram + ACPI_ADDR;
	uint8_t *madt = vm->ram + MADT, *cpu = madt + sizeof(madt_start);

	memcpy(vm->ram + FACS, facs_body, sizeof(facs_body));
	memcpy(vm->ram + XSDT, xsdt_body, sizeof(xsdt_body));
	finish_table(vm->ram + XSDT, "XSDT", 1, sizeof(xsdt_body));
	build_dsdt(vm);
	memcpy(vm->ram + FADT, fadt_body, sizeof(fadt_body));
	finish_table(vm->ram + FADT, "FACP", 4, sizeof(fadt_body));
	memcpy(madt, madt_start, sizeof(madt_start));
	for (uint8_t id = 0; id < vm->options->cpus; id++, cpu += 8)
		memcpy(cpu, (uint8_t[8]){ 0, 8, id, id, 1 }, 8); /* a local APIC, enabled */
	memcpy(cpu, madt_end, sizeof(madt_end));
	finish_table(madt, "APIC", 4, cpu + sizeof(madt_end) - madt);
	memcpy(rsdp, rsdp_body, sizeof(rsdp_body));
	set_checksum(rsdp, 20, rsdp + 8);
	set_checksum(rsdp, 36, rsdp + 32);
}
