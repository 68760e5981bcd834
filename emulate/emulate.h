/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Instruction decoder and the operations of MMIO and string I/O.
 *
 * Pure C: it knows no VMCB, no memory slots and no locks, and also compiles in userspace (unit
 * tests, fuzzer). Whoever calls it fills in the register state, gives it an ops table, and takes
 * the registers back when emul_run() has returned EMUL_DONE.
 */
#ifndef SVM_EMULATE_H
#define SVM_EMULATE_H

#ifdef __KERNEL__
#include <linux/kernel.h>
#include <linux/string.h>
#else
#include "emulate/user.h"	/* u8..u64 and the few kernel macros that the emulator uses */
#endif

#define EMUL_INSN_MAX	15	/* longest instruction, AMD APM vol. 3 section 1.1 */

/* Register numbers are those of the ModRM/REX encoding. */
enum { EMUL_RAX, EMUL_RCX, EMUL_RDX, EMUL_RBX, EMUL_RSP, EMUL_RBP, EMUL_RSI, EMUL_RDI };
enum { EMUL_ES, EMUL_CS, EMUL_SS, EMUL_DS, EMUL_FS, EMUL_GS, EMUL_NR_SEGS };
/* The tables follow, in the order of the VMCB. */
enum { EMUL_GDTR = EMUL_NR_SEGS, EMUL_LDTR, EMUL_IDTR, EMUL_TR, EMUL_NR_TABLES };

enum emul_mode { EMUL_REAL, EMUL_V86, EMUL_PROT16, EMUL_PROT32, EMUL_LONG64 };

/* Segment register with its hidden part, as it stands in the VMCB (APM vol. 2, 15.5). */
struct emul_seg {
	u16 sel;
	u16 attr;
	u32 limit;
	u64 base;
};

/* `a ?: b` is: b once a is done. */
enum emul_status {
	EMUL_DONE = 0,		/* instruction or REP batch retired; registers are committed */
	EMUL_FAULT,		/* guest exception: vector, has_error, error_code, fault_addr */
	EMUL_IO,		/* wants userspace; call emul_run() again once it has answered */
	EMUL_UNHANDLED,		/* not decodable or not implemented; registers unchanged */
	EMUL_RETRY,		/* memory can't be reached now: re-enter the guest unchanged */
};

struct emul;

/*
 * Accesses of the emulated instruction, at linear addresses; @len bytes may straddle a page. An op
 * that returns EMUL_FAULT has called emul_set_fault(). Where a read returned EMUL_IO, the same
 * access comes again when the caller re-runs the same struct emul, and must then be EMUL_DONE.
 */
struct emul_ops {
	enum emul_status (*fetch)(struct emul *e, u64 addr, void *buf, unsigned int len);
	enum emul_status (*read)(struct emul *e, u64 addr, void *buf, unsigned int len);
	/* MMIO writes are posted: the op queues them and returns EMUL_DONE. */
	enum emul_status (*write)(struct emul *e, u64 addr, const void *buf, unsigned int len);
	/* Locked RMW: store @new if memory still holds @old, else EMUL_RETRY. */
	enum emul_status (*cas)(struct emul *e, u64 addr, const void *old, const void *new,
				    unsigned int len);
	/* Checks that a write to addr would be permitted, without writing (for RMW and INS). */
	enum emul_status (*probe_write)(struct emul *e, u64 addr, unsigned int len);
	/* String port I/O: @count elements of @size bytes. *@count may be lowered, never to 0. */
	enum emul_status (*pio_in)(struct emul *e, u16 port, unsigned int size, void *buf,
				   unsigned int *count);
	enum emul_status (*pio_out)(struct emul *e, u16 port, unsigned int size, const void *buf,
				    unsigned int *count);
	/* TSS I/O permission check, only asked where CPL > IOPL or in V86 mode. */
	enum emul_status (*pio_allowed)(struct emul *e, u16 port, unsigned int size);
};

/* Decoded form; private to emulate/ but embedded so that no allocation is needed. */
struct emul_insn {
	u8 bytes[EMUL_INSN_MAX];
	u8 nr_bytes;		/* that are valid (fetched or given by DecodeAssists) */
	/* from here on emul_decode() fills it */
	u8 len;			/* length of the decoded instruction, 0 = not decoded yet */
	u8 opcode;
	u8 map;			/* 0 = one-byte, 1 = 0F */
	u8 op_size;		/* 1, 2, 4, 8 bytes */
	u8 addr_size;		/* 2, 4, 8 */
	u8 rep;			/* 0, 0xf2, 0xf3 */
	bool prefix66;
	bool lock;
	u8 rex;
	u8 modrm;
	u8 seg;			/* effective segment of the memory operand */
	bool mem_valid;		/* ModRM names memory */
	u64 mem_off;		/* effective address before segmentation, truncated to addr_size */
	bool has_imm;
	u64 imm;
	const struct emul_op *op;	/* table row */
};

struct emul {
	/* in/out, set by the caller before emul_decode() and valid again after EMUL_DONE */
	u64 regs[16];
	u64 rip;
	u64 rflags;
	/* in */
	enum emul_mode mode;
	u8 cpl;
	bool lma;
	u64 cr0, cr4;
	struct emul_seg segs[EMUL_NR_TABLES];
	/* FXSAVE image; NULL: out of reach, moves of SSE and MMX are EMUL_UNHANDLED then */
	u8 *fx;
	const struct emul_ops *ops;
	void *opaque;		/* for the ops */
	/* out, with EMUL_FAULT */
	u8 vector;
	bool has_error;
	u32 error_code;
	u64 fault_addr;		/* CR2 for #PF */
	/* out, with EMUL_DONE: segs have changed; the instruction leaves an interrupt shadow */
	bool system, shadow;
	struct emul_insn insn;
};

/* Records a guest exception; returns EMUL_FAULT for use in a return statement. */
enum emul_status emul_set_fault(struct emul *e, u8 vector, bool has_error, u32 error_code,
				u64 addr);

/* Decodes at e->rip; bytes that hardware gave may be put in insn.bytes and nr_bytes first. */
enum emul_status emul_decode(struct emul *e);

/*
 * Executes the decoded instruction, or for REP as many iterations as fit in a bounded batch (RIP is
 * left on the instruction then). May be called again after EMUL_IO with e untouched.
 */
enum emul_status emul_run(struct emul *e);

/*
 * Length of prefixes and @opcode, that of an instruction that was intercepted, without NRIPS; 0
 * where it is not the one that stands at @bytes, of which @n are valid.
 */
unsigned int emul_insn_len(const u8 *bytes, unsigned int n, enum emul_mode mode, const u8 *opcode,
			   unsigned int opcode_len);

/* A plain MOV between memory and a register or immediate, where the address is known already. */
struct emul_mov {
	u8 len;			/* of the instruction */
	u8 size;		/* of the operand: 1, 2, 4, 8 bytes */
	u8 reg;
	u8 modrm;		/* where that byte is */
	u8 rex;
	bool store, has_imm;
	u64 imm;
};

/*
 * A short cut for accesses to device registers, of which nearly all are such. @b: 15 bytes. False
 * for all else, and where the mode or a prefix is unusual: emul_decode() knows those.
 */
bool emul_decode_mov(const u8 *b, enum emul_mode mode, struct emul_mov *m);

#endif
