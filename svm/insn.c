// SPDX-License-Identifier: GPL-2.0
/* Length and operands of an intercepted instruction without NRIPS and DecodeAssists. */
#include "svm/exit.h"

/*
 * The intercepted instruction has been carried out: moves RIP behind it, ends an interrupt shadow,
 * and raises the single-step trap that the instruction would have taken.
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

/* RIP + len as the mode has it: 32 bits wide outside 64-bit mode. */
u64 rip_after(const struct vcpu *v, unsigned int len)
{
	const struct vmcb_save *s = &v->vmcb->save;
	u64 rip = s->rip + len;

	return in_long64(s) ? rip : (u32)rip;
}

static u64 linear_rip(const struct vmcb_save *s)
{
	return in_long64(s) ? s->rip : (u32)(s->cs.base + (u32)s->rip);
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
	u32 access = WALK_FETCH | WALK_NO_AD | (s->cpl == 3 ? WALK_USER : 0);
	u64 addr = linear_rip(s), gpa;
	u32 error_code;
	unsigned int done, n;
	int r;

	for (done = 0; done < EMUL_INSN_MAX; done += n) {
		n = min_t(u64, EMUL_INSN_MAX - done, PAGE_SIZE - ((addr + done) & ~PAGE_MASK));
		r = guest_walk(v, addr + done, access, &gpa, &error_code);
		if (!r && guest_access(v, gpa, buf + done, n, false))
			r = v->can_sleep ? -EFAULT : -EAGAIN;
		if (r == -EAGAIN)
			return r;
		if (r)
			break;
	}
	return done ?: -EFAULT;
}

/*
 * Reads 15 bytes at CS:RIP, or as many as there are, at least 1: their number. -EAGAIN where that
 * needs sleeping, -EFAULT where they can't be read (the guest has changed its mapping meanwhile:
 * executing the instruction again raises the proper fault).
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

/*
 * Finds the end of the intercepted instruction, whose 1 to 3 bytes of opcode are given, the first
 * one lowest. NEXT_GUEST; else the caller returns the value with nothing changed: NEXT_SLEEP, or
 * NEXT_OUTER where the bytes are no longer that instruction (it is executed anew).
 * Inlined below, for speed.
 */
__always_inline enum vcpu_next insn_end(struct vcpu *v, u32 opcode, unsigned int opcode_len,
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

/* insn_end() and insn_advance() */
enum vcpu_next insn_skip(struct vcpu *v, u32 opcode, unsigned int opcode_len)
{
	enum vcpu_next next;
	u64 next_rip;

	next = insn_end(v, opcode, opcode_len, &next_rip);
	if (next == NEXT_GUEST)
		insn_advance(v, next_rip);
	return next;
}

/* 0F @opcode with a ModRM that names a register. */
static enum vcpu_next decode_0f(struct vcpu *v, u8 opcode, u64 raw[2], struct crdr_move *m)
{
	const u8 *bytes = (u8 *)raw, wanted[] = { 0x0f, opcode };
	enum emul_mode mode = cpu_mode(v);
	int n = insn_fetch(v, raw), at = 0;
	u8 rex = 0;

	if (n == -EAGAIN)
		return NEXT_SLEEP;
	if (n > 0)
		at = emul_insn_len(bytes, n, mode, wanted, 2);
	if (!at || at >= n)
		return NEXT_OUTER;
	if (mode == EMUL_LONG64 && at > 2 && (bytes[at - 3] & 0xf0) == 0x40)
		rex = bytes[at - 3];	/* counts only right before the opcode */
	m->gpr = (bytes[at] & 7) | (rex & 1 ? 8 : 0);
	m->len = at + 1;
	return NEXT_GUEST;
}

/* MOV to or from a control or debug register, 0F 20..23. RIP is not moved: use rip + m->len. */
enum vcpu_next insn_crdr(struct vcpu *v, u8 opcode, struct crdr_move *m)
{
	struct vmcb_control *c = &v->vmcb->control;
	enum vcpu_next next;
	u64 bytes[2];

	if (svm_caps.decode && svm_caps.nrips && c->next_rip) {
		m->gpr = c->exit_info_1 & 15;
		m->len = c->next_rip - v->vmcb->save.rip;
	} else {
		next = decode_0f(v, opcode, bytes, m);
		if (next != NEXT_GUEST)
			return next;
	}
	m->size = cpu_mode(v) == EMUL_LONG64 ? 8 : 4;
	m->val = m->size == 8 ? reg_read(v, m->gpr) : (u32)reg_read(v, m->gpr);
	return NEXT_GUEST;
}

/*
 * RDPID, which processors without it refuse with #UD (KVM_GET_EMULATED_CPUID). NEXT_OUTER where it
 * is another instruction or the guest does not have this one.
 */
enum vcpu_next insn_rdpid(struct vcpu *v)
{
	const u8 *bytes;
	struct crdr_move m;
	enum vcpu_next next;
	u64 raw[2];

	if (!(v->features & GF_RDPID))
		return NEXT_OUTER;
	next = decode_0f(v, 0xc7, raw, &m);
	if (next != NEXT_GUEST)
		return next;
	bytes = (u8 *)raw;
	if ((bytes[m.len - 1] & 0xf8) != 0xf8 || memchr(bytes, 0xf0, m.len - 3) ||
	    !memchr(bytes, 0xf3, m.len - 3))
		return NEXT_OUTER;
	reg_write_sized(v, m.gpr, v->tsc_aux, cpu_mode(v) == EMUL_LONG64 ? 8 : 4);
	insn_advance(v, rip_after(v, m.len));
	return NEXT_GUEST;
}
