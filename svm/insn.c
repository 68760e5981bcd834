// SPDX-License-Identifier: GPL-2.0
/*
 * Length and operands of an intercepted instruction where the hardware does not say (no NRIPS, no
 * DecodeAssists).
 */
#include "svm/exit.h"

/**
 * insn_advance() - the intercepted instruction has been carried out: move RIP behind it.
 * @v: the vCPU
 * @next_rip: address behind the instruction
 *
 * Ends an interrupt shadow, and raises the single-step trap that the instruction would have taken.
 */
void insn_advance(struct vcpu *v, u64 next_rip)
{
	struct vmcb_save *s = &v->vmcb->save;

	s->rip = next_rip;
	if (unlikely(v->vmcb->control.int_state & INT_STATE_SHADOW)) {
		v->vmcb->control.int_state &= ~INT_STATE_SHADOW;
		v->check_events = true;
	}
	if (unlikely(s->rflags & (X86_EFLAGS_TF | X86_EFLAGS_RF))) {
		if ((s->rflags & X86_EFLAGS_TF) && (!v->nmi_step || v->nmi_step_tf))
			raise_db(v, BIT(14));
		s->rflags &= ~(u64)X86_EFLAGS_RF;
	}
}

/** rip_after() - RIP + len as the mode has it: 32 bits wide outside 64-bit mode. */
u64 rip_after(const struct vcpu *v, unsigned int len)
{
	const struct vmcb_save *s = &v->vmcb->save;
	u64 rip = s->rip + len;

	return (s->efer & EFER_LMA) && (s->cs.attrib & SEG_L) ? rip : (u32)rip;
}

static u64 linear_rip(const struct vmcb_save *s)
{
	return (s->efer & EFER_LMA) && (s->cs.attrib & SEG_L) ? s->rip :
		(u32)(s->cs.base + (u32)s->rip);
}

static __always_inline bool fetch_fast(struct vcpu *v, u64 buf[2])
{
	const struct vmcb_save *s = &v->vmcb->save;

	return likely(s->efer & EFER_LMA) &&
	       likely(mem_fetch(&v->vm->mem, s->cr3, linear_rip(s), buf));
}

static noinline int fetch_slow(struct vcpu *v, u8 *buf)
{
	const struct vmcb_save *s = &v->vmcb->save;
	u32 access = WALK_FETCH | WALK_NO_AD | (s->cpl == 3 ? WALK_USER : 0) |
		     (v->can_sleep ? 0 : WALK_ATOMIC);
	u64 addr = linear_rip(s), gpa;
	unsigned int done = 0, n;
	struct walk_fault fault;
	struct walk_ctx w;
	int r;

	walk_ctx_init(v, &w);
	do {
		u64 at = addr + done;

		r = gva_to_gpa(&v->vm->mem, &w, at, access, &gpa, &fault);
		if (r == -EAGAIN)
			return r;
		if (r)
			break;
		n = min_t(u64, EMUL_INSN_MAX - done, PAGE_SIZE - (at & ~PAGE_MASK));
		r = guest_read(v, gpa, buf + done, n);
		if (r) {
			if (!v->can_sleep)
				return -EAGAIN;
			break;
		}
		done += n;
	} while (done < EMUL_INSN_MAX);
	return done ?: -EFAULT;
}

/**
 * insn_fetch() - read up to 15 bytes at CS:RIP.
 * @v: the vCPU
 * @buf: 16 bytes
 *
 * Return: the number of bytes read (at least 1), -EAGAIN where that needs sleeping, -EFAULT where
 * they can't be read (the guest has changed its mapping meanwhile: executing the instruction again
 * raises the proper fault).
 */
int insn_fetch(struct vcpu *v, u64 buf[2])
{
	return fetch_fast(v, buf) ? EMUL_INSN_MAX : fetch_slow(v, (u8 *)buf);
}

static noinline enum vcpu_next end_slow(struct vcpu *v, u32 opcode, unsigned int opcode_len,
					u64 *next_rip)
{
	u64 bytes[2];
	int n = insn_fetch(v, bytes);
	unsigned int len = 0;

	if (n == -EAGAIN)
		return NEXT_SLEEP;
	if (n > 0)
		len = emul_insn_len((u8 *)bytes, n, cpu_mode(v), (u8 *)&opcode, opcode_len);
	if (!len)
		return NEXT_OUTER;
	*next_rip = rip_after(v, len);
	return NEXT_GUEST;
}

static __always_inline enum vcpu_next end(struct vcpu *v, u32 opcode, unsigned int opcode_len,
					  u64 *next_rip)
{
	u64 bytes[2];

	if (svm_caps.nrips && v->vmcb->control.next_rip)
		*next_rip = v->vmcb->control.next_rip;
	else if (fetch_fast(v, bytes) && !(((u32)bytes[0] ^ opcode) << (32 - 8 * opcode_len)))
		*next_rip = rip_after(v, opcode_len);	/* no prefix */
	else
		return end_slow(v, opcode, opcode_len, next_rip);
	return NEXT_GUEST;
}

/**
 * insn_end() - find the end of the intercepted instruction.
 * @v: the vCPU
 * @opcode: its bytes, the first one lowest
 * @opcode_len: 1 to 3
 * @next_rip: address behind it, for insn_advance()
 *
 * Return: NEXT_GUEST; else the caller returns the value with nothing changed: NEXT_SLEEP, or
 * NEXT_OUTER where the bytes are no longer that instruction (it is executed anew).
 */
enum vcpu_next insn_end(struct vcpu *v, u32 opcode, unsigned int opcode_len, u64 *next_rip)
{
	return end(v, opcode, opcode_len, next_rip);
}

/** insn_skip() - step over the intercepted instruction; as insn_end() and insn_advance(). */
enum vcpu_next insn_skip(struct vcpu *v, u32 opcode, unsigned int opcode_len)
{
	enum vcpu_next next;
	u64 next_rip;

	next = end(v, opcode, opcode_len, &next_rip);
	if (next == NEXT_GUEST)
		insn_advance(v, next_rip);
	return next;
}

/*
 * Where does the opcode begin? *rex: the prefix right before it, else 0; *lock, *rep: F0 and F3
 * were among the prefixes.
 */
static int skip_prefixes(const u8 *bytes, int n, bool long64, u8 *rex, bool *lock, bool *rep)
{
	int i;

	*rex = 0;
	*lock = false;
	*rep = false;
	for (i = 0; i < n; i++) {
		switch (bytes[i]) {
		case 0xf0:
			*lock = true;
			break;
		case 0xf3:
			*rep = true;
			break;
		case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:
		case 0x66: case 0x67: case 0xf2:
			break;
		default:
			if (!long64 || (bytes[i] & 0xf0) != 0x40)
				return i;
			*rex = bytes[i];
			continue;
		}
		*rex = 0;
	}
	return i;
}

/**
 * insn_crdr() - decode MOV to or from a control or debug register (0F 20..23).
 * @v: the vCPU
 * @opcode: second opcode byte
 * @m: the decoded move
 *
 * LOCK MOV CR0 is MOV CR8 outside 64-bit mode (APM vol. 3, MOV CRn). RIP is not moved: use rip +
 * m->len.
 */
enum vcpu_next insn_crdr(struct vcpu *v, u8 opcode, struct crdr_move *m)
{
	bool long64 = cpu_mode(v) == EMUL_LONG64;
	u64 raw[2];
	const u8 *bytes = (u8 *)raw;
	bool lock, rep;
	int n, i;
	u8 rex;

	n = insn_fetch(v, raw);
	if (n == -EAGAIN)
		return NEXT_SLEEP;
	i = skip_prefixes(bytes, n, long64, &rex, &lock, &rep);
	if (n < 0 || i + 3 > n || bytes[i] != 0x0f || bytes[i + 1] != opcode)
		return NEXT_OUTER;
	m->cr = ((bytes[i + 2] >> 3) & 7) | (rex & 4 ? 8 : 0) | (lock ? 8 : 0);
	m->gpr = (bytes[i + 2] & 7) | (rex & 1 ? 8 : 0);
	m->len = i + 3;
	return NEXT_GUEST;
}

/**
 * insn_rdpid() - RDPID, which processors without it refuse with #UD (KVM_GET_EMULATED_CPUID).
 * @v: the vCPU
 *
 * Return: NEXT_OUTER where it is another instruction or the guest does not have this one.
 */
enum vcpu_next insn_rdpid(struct vcpu *v)
{
	bool long64 = cpu_mode(v) == EMUL_LONG64, lock, rep;
	u64 raw[2];
	const u8 *bytes = (u8 *)raw;
	int n, i;
	u8 rex;

	if (!(v->features & GF_RDPID))
		return NEXT_OUTER;
	n = insn_fetch(v, raw);
	if (n == -EAGAIN)
		return NEXT_SLEEP;
	i = skip_prefixes(bytes, n, long64, &rex, &lock, &rep);
	if (lock || !rep || i + 3 > n || bytes[i] != 0x0f || bytes[i + 1] != 0xc7 ||
	    (bytes[i + 2] & 0xf8) != 0xf8)
		return NEXT_OUTER;
	reg_write_sized(v, (bytes[i + 2] & 7) | (rex & 1 ? 8 : 0), v->tsc_aux, long64 ? 8 : 4);
	insn_advance(v, rip_after(v, i + 3));
	return NEXT_GUEST;
}
