/* SPDX-License-Identifier: GPL-2.0 */
/* Port and memory-mapped I/O that is under way; of svm/ alone. */
#ifndef SVM_IO_H
#define SVM_IO_H

#include "svm/exit.h"

/* Fragments of one iteration: 2 x 16 bytes over page borders are read, 512 bytes written by INS. */
#define IO_MAX_READS	8
#define IO_MAX_WRITES	64

enum io_state {
	IO_NONE,
	IO_PORT,		/* IN or OUT waits for userspace */
	IO_MSR,			/* RDMSR or WRMSR does */
	IO_HYPERCALL,		/* VMMCALL does */
	IO_MOV_READ,		/* a plain MOV waits for MMIO data */
	IO_EMUL_READ,		/* emulated instruction waits for MMIO data, reads[nr_reads] */
	IO_EMUL_PIO,		/* emulated INS waits for port data */
	IO_EMUL_WRITE,		/* emulated instruction is done; its writes go one by one */
};

struct io_fragment {
	u64 gpa;
	u8 len;			/* 1..8 */
	u8 data[8];
};

struct vcpu_io {
	enum io_state state;

	/* IO_PORT, IO_MSR, IO_HYPERCALL, IO_MOV_READ */
	u64 rip, next_rip;	/* the completion is dropped where userspace moved RIP */
	u8 size;
	u8 reg;			/* destination of the IN or MOV */
	bool in;
	unsigned int count;	/* IO_EMUL_PIO */
	bool pio_ready;		/* pio_data holds what userspace answered */
	bool pio_out;		/* kvm_run holds an OUTS that leaves when the batch has retired */

	u64 gpa;		/* of the access, from #NPF, or EMULATE_NO_GPA */
	bool store;		/* that #NPF was of a write */

	/* MMIO reads of this iteration, answered; replayed when the instruction is run again */
	unsigned int nr_reads, next_read;
	struct io_fragment reads[IO_MAX_READS];
	u64 reads_key;		/* the iteration they belong to: its RCX */

	/* MMIO writes, posted */
	unsigned int nr_writes, next_write;
	struct io_fragment writes[IO_MAX_WRITES];
	u64 writes_key;

	struct emul emul;
};

/* The instruction ends when userspace has answered, in io_complete(). */
static inline void io_wait(struct vcpu *v, enum io_state state, u64 next_rip)
{
	v->io->state = state;
	v->io->rip = v->vmcb->save.rip;
	v->io->next_rip = next_rip;
}

/* mmio.c */
#define EMULATE_NO_GPA	(~0ull)
enum vcpu_next emulate(struct vcpu *v, u64 gpa, bool store);
enum vcpu_next mmio_complete(struct vcpu *v);

/* io.c */
enum vcpu_next io_complete(struct vcpu *v);	/* userspace has answered the last exit */
bool port_in_kernel_read(struct vcpu *v, u16 port, unsigned int size, u32 *val);
bool port_in_kernel_write(struct vcpu *v, u16 port, unsigned int size, const void *data);
enum vcpu_next port_to_user(struct vcpu *v, u16 port, unsigned int size, bool in,
			    unsigned int count);

#endif
