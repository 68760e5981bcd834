// SPDX-License-Identifier: GPL-2.0
/*
 * From GRUB's multiboot to a kernel's PVH entry: an unpacked kernel and one module, its initramfs.
 * ENTRY and the file named IMAGE, flat from 16 MiB on, come from the command line.
 */
#define MULTIBOOT_HEADER 0x1badb002
#define MULTIBOOT_FLAGS  3 /* modules on pages, a memory map */
#define HVM_START_MAGIC  0x336ec578

	.section .text, "ax"
	.code32
	.balign 4
	.long MULTIBOOT_HEADER, MULTIBOOT_FLAGS, -(MULTIBOOT_HEADER + MULTIBOOT_FLAGS)

	.globl _start
_start:
	cld
	mov 16(%ebx), %eax /* the command line */
	mov %eax, start_info + 24
	mov 24(%ebx), %esi /* the module: from, to */
	mov (%esi), %eax
	mov %eax, module
	mov 4(%esi), %ecx
	sub %eax, %ecx
	mov %ecx, module + 8

	/* Entries of the memory map have their size in front; PVH has four bytes behind instead. */
	mov 48(%ebx), %esi
	mov 44(%ebx), %edx
	add %esi, %edx
	mov $map, %edi
1:	mov (%esi), %ebp
	add $4, %esi
	add %esi, %ebp
	mov $5, %ecx
	rep movsl
	add $4, %edi
	incl start_info + 48
	mov %ebp, %esi
	cmp %edx, %esi
	jb 1b

	mov $start_info, %ebx
	mov $ENTRY, %eax
	jmp *%eax

	.balign 8
start_info:
	.long HVM_START_MAGIC, 1, 0, 1
	.long module, 0, 0, 0, 0, 0, map, 0
	.long 0, 0
module:
	.quad 0, 0, 0, 0
map:
	.fill 24 * 64

	.section .kernel, "awx"
	.incbin IMAGE
