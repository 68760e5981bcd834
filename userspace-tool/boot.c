// SPDX-License-Identifier: GPL-2.0
/* Loading a guest: a bzImage by Linux' 64-bit boot protocol (its arch/x86/boot.rst), or a flat binary. */
#include <asm/bootparam.h>

#include "vm.h"

/* Guest memory: PAGE_TABLES has a PML4, a PDPT and four page directories. */
enum { GDT_ADDR = 0x1000, BOOT_PARAMS = 0x7000, PAGE_TABLES = 0x9000, CMDLINE_ADDR = 0x20000 };
/* The file: where the header starts, and the byte that says where it ends; the 64-bit entry. */
enum { SECTOR = 512, SETUP_HEADER = 0x1f1, SETUP_END = 0x201, ENTRY_64 = 0x200 };
enum { HEADER_MAGIC = 0x53726448, OLDEST_VERSION = 0x020c /* which has xloadflags */ };

static int too_small(uint64_t needed)
{
	return complain("this guest needs %u MiB of memory (--memory)", (int)(needed >> 20) + 1);
}

static int load_kernel(struct vm *vm, struct setup_header *h)
{
	const struct image *file = &vm->options->kernel;
	uint64_t setup, length, needed;

	if (file->size > 2 * SECTOR) {
		length = SETUP_END + 1 + file->data[SETUP_END] - SETUP_HEADER;
		memcpy(h, file->data + SETUP_HEADER, length < sizeof(*h) ? length : sizeof(*h));
	}
	if (h->boot_flag != 0xaa55 || h->header != HEADER_MAGIC)
		return complain("%s is no bzImage (on Debian: /boot/vmlinuz-VERSION)", file->path);
	if (h->version < OLDEST_VERSION || !(h->xloadflags & XLF_KERNEL_64))
		return complain("%s is no 64-bit kernel, or older than Linux 3.8", file->path);
	setup = ((h->setup_sects ?: 4) + 1) * SECTOR;
	if (file->size <= setup || h->pref_address < 1 << 20 || h->pref_address > LOW_RAM_END)
		return complain("%s is damaged", file->path);
	/* init_size is what the kernel uses before it looks at the memory map. */
	length = file->size - setup;
	needed = h->pref_address + (length > h->init_size ? length : h->init_size);
	if (needed > vm->low_size)
		return too_small(needed);
	memcpy(vm->ram + h->pref_address, file->data + setup, length);
	return 0;
}

/* As high as the kernel allows, out of the way of its own unpacking. */
static int load_initrd(struct vm *vm, struct setup_header *h)
{
	const struct image *file = &vm->options->initrd;
	uint64_t kernel_end = h->pref_address + h->init_size;
	uint64_t start, end = h->initrd_addr_max + 1ull;

	if (!file->data)
		return 0;
	if (end > vm->low_size)
		end = vm->low_size;
	start = (end - file->size) & ~0xfffull;
	if (file->size > end || start < kernel_end)
		return too_small(kernel_end + file->size);
	memcpy(vm->ram + start, file->data, file->size);
	h->ramdisk_image = start;
	h->ramdisk_size = file->size;
	return 0;
}

/* Usable (1) and reserved (2) memory. */
static void build_memory_map(struct vm *vm, struct boot_params *bp)
{
	const struct boot_e820_entry map[] = {
		{ 0, EBDA_START, 1 },
		{ EBDA_START, 0xa0000 - EBDA_START, 2 },
		{ ACPI_ADDR, 0x10000, 2 },
		{ 1 << 20, vm->low_size - (1 << 20), 1 },
		{ IDENTITY_MAP, 0x4000, 2 },
		{ HIGH_RAM_START, vm->options->memory - vm->low_size, 1 },
	};

	memcpy(bp->e820_table, map, sizeof(map));
	bp->e820_entries = vm->options->memory > vm->low_size ? 6 : 5;
}

/* The first 4 GiB mapped to themselves in 2 MiB pages. */
static void build_page_tables(struct vm *vm)
{
	uint64_t *table = (uint64_t *)(vm->ram + PAGE_TABLES);

	table[0] = (PAGE_TABLES + 0x1000) | 3; /* present, writable */
	for (unsigned int i = 0; i < 4; i++)
		table[512 + i] = (PAGE_TABLES + 0x2000 + i * 0x1000) | 3;
	for (uint64_t i = 0; i < 4 * 512; i++)
		table[1024 + i] = i << 21 | 0x83; /* and huge */
}

/* Linux wants CS 0x10 and the data segments 0x18, flat, as in its GDT; a flat binary real mode. */
static void set_segments(struct kvm_sregs *s, bool flat)
{
	if (flat) {
		s->cs.selector = s->ds.selector = s->es.selector = FLAT_SEGMENT;
		s->cs.base = s->ds.base = s->es.base = FLAT_SEGMENT * 16;
		return;
	}
	s->cs = (struct kvm_segment){
		.limit = ~0u, .selector = 0x10, .type = 0xb, .present = 1, .s = 1, .l = 1, .g = 1
	};
	s->ss = (struct kvm_segment){
		.limit = ~0u, .selector = 0x18, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1
	};
	s->ds = s->es = s->fs = s->gs = s->ss;
	s->gdt = (struct kvm_dtable){ .base = GDT_ADDR, .limit = 4 * 8 - 1 };
	s->cr0 = 0x80000031; /* PG, NE, ET, PE */
	s->cr3 = PAGE_TABLES;
	s->cr4 = 0x20;	 /* PAE */
	s->efer = 0x500; /* LMA, LME */
}

static int set_registers(struct vm *vm, struct kvm_regs *regs)
{
	int fd = vm->vcpus[0].fd;
	struct kvm_sregs sregs;

	if (vm_ioctl(fd, KVM_GET_SREGS, &sregs, "read registers"))
		return EXIT_HOST;
	set_segments(&sregs, vm->options->flat.data);
	return vm_ioctl(fd, KVM_SET_SREGS, &sregs, "set special registers") ||
	       vm_ioctl(fd, KVM_SET_REGS, regs, "set registers");
}

/* Loads kernel, initrd and command line, and points the first vCPU at the kernel's 64-bit entry. */
int boot_linux(struct vm *vm)
{
	const uint64_t gdt[] = { 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff };
	struct boot_params *bp = (struct boot_params *)(vm->ram + BOOT_PARAMS);
	struct kvm_regs regs = { .rflags = 2, .rsi = BOOT_PARAMS };
	size_t length = strlen(vm->options->cmdline);

	if (load_kernel(vm, &bp->hdr) || load_initrd(vm, &bp->hdr))
		return EXIT_HOST;
	if (length > bp->hdr.cmdline_size || length >= EBDA_START - CMDLINE_ADDR)
		return complain("the kernel's command line is too long");
	memcpy(vm->ram + CMDLINE_ADDR, vm->options->cmdline, length + 1);
	bp->hdr.cmd_line_ptr = CMDLINE_ADDR;
	bp->hdr.type_of_loader = 0xff; /* no registered one */
	bp->acpi_rsdp_addr = ACPI_ADDR;
	acpi_build(vm);
	build_memory_map(vm, bp);
	build_page_tables(vm);
	memcpy(vm->ram + GDT_ADDR, gdt, sizeof(gdt));
	regs.rip = bp->hdr.pref_address + ENTRY_64;
	return set_registers(vm, &regs);
}

/* Loads a flat binary at FLAT_SEGMENT:0, the stack below it at 0:fff0, and points the vCPU at it. */
int boot_flat(struct vm *vm)
{
	struct kvm_regs regs = { .rflags = 2, .rsp = 0xfff0 };
	const struct image *file = &vm->options->flat;

	if (file->size > vm->low_size - FLAT_SEGMENT * 16)
		return too_small(file->size + FLAT_SEGMENT * 16);
	memcpy(vm->ram + FLAT_SEGMENT * 16, file->data, file->size);
	return set_registers(vm, &regs);
}
