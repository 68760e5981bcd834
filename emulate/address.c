// SPDX-License-Identifier: GPL-2.0
/* Segmentation: from segment and offset to a linear address (APM vol. 2, chapter 4). */
#include "emulate/private.h"

#define ATTR_CODE	BIT(3)
#define ATTR_RW		BIT(1)	/* data: writable; code: readable */
#define ATTR_DOWN	BIT(2)	/* data: expand-down */
#define ATTR_P		BIT(7)
#define ATTR_L		BIT(9)
#define ATTR_DB		BIT(10)

static bool canonical(u64 addr)
{
	return (u64)((s64)(addr << 16) >> 16) == addr;
}

static bool type_permits(const struct emul_seg *s, bool write)
{
	if (!(s->attr & ATTR_P))
		return false;
	if (s->attr & ATTR_CODE)
		return !write && (s->attr & ATTR_RW);
	return !write || (s->attr & ATTR_RW);
}

static bool within_limit(const struct emul_seg *s, u64 first, u64 last)
{
	if ((s->attr & (ATTR_CODE | ATTR_DOWN)) != ATTR_DOWN)
		return last <= s->limit;
	return first > s->limit && last <= (s->attr & ATTR_DB ? 0xffffffffu : 0xffffu);
}

/* Is this descriptor one that @seg may hold (APM vol. 2, 4.7 and 4.8; vol. 3, MOV, JMP far)? */
static bool type_fits(const struct emul *e, unsigned int seg, u16 attr, unsigned int rpl)
{
	unsigned int dpl = (attr >> 5) & 3, type = attr & 0x1f;

	switch (seg) {
	case EMUL_LDTR:
		return type == 0x02;
	case EMUL_TR:
		return type == 0x09 || (type == 0x01 && !e->lma);
	case EMUL_CS:
		if (e->lma && (attr & ATTR_L) && (attr & ATTR_DB))
			return false;
		return attr & ATTR_DOWN ? dpl <= e->cpl : dpl == e->cpl && rpl <= dpl;
	case EMUL_SS:
		return (type & 0x1a) == 0x12 && rpl == e->cpl && dpl == e->cpl;
	default:	/* conforming code may be read by all */
		return (type & 0x10) && (type & 0x0a) != 0x08 &&
		       ((type & 0x0c) == 0x0c || (dpl >= rpl && dpl >= e->cpl));
	}
}

/*
 * What selector @sel gives segment register @seg, LDTR or TR. The descriptor is checked, and marked
 * as accessed or busy. Its accesses are the supervisor's at any CPL.
 */
enum emul_status emul_selector(struct emul *e, unsigned int seg, u16 sel, struct emul_seg *s)
{
	const struct emul_seg *table = &e->segs[sel & 4 ? EMUL_LDTR : EMUL_GDTR];
	unsigned int size = seg >= EMUL_NR_SEGS && e->lma ? 16 : 8;
	u64 desc[2] = {}, marked, addr = table->base + (sel & ~7);
	u8 cpl = e->cpl, vec = VEC_GP;
	enum emul_status st;

	if (e->mode == EMUL_REAL || e->mode == EMUL_V86) {
		*s = e->segs[seg];
		s->sel = sel;
		s->base = sel << 4;
		return EMUL_DONE;
	}
	if (sel < 4) {
		*s = (struct emul_seg){ .sel = sel };
		if (seg == EMUL_CS || seg == EMUL_TR ||
		    (seg == EMUL_SS && (e->mode != EMUL_LONG64 || cpl == 3 || sel != cpl)))
			return emul_gp(e);
		return EMUL_DONE;
	}
	if ((sel & 4) && (seg >= EMUL_NR_SEGS || !(table->attr & ATTR_P)))
		goto fault;
	if ((sel & ~7) + size - 1 > table->limit)
		goto fault;
	e->cpl = 0;
	st = e->ops->read(e, addr, desc, size);
	e->cpl = cpl;
	if (st != EMUL_DONE)
		return st;
	s->sel = seg == EMUL_CS ? (sel & ~3) | cpl : sel;
	s->attr = ((desc[0] >> 40) & 0xff) | ((desc[0] >> 44) & 0xf00);
	s->base = ((desc[0] >> 16) & 0xffffff) | ((desc[0] >> 32) & 0xff000000) | desc[1] << 32;
	s->limit = (desc[0] & 0xffff) | ((desc[0] >> 32) & 0xf0000);
	if (s->attr & BIT(11))
		s->limit = s->limit << 12 | 0xfff;
	if (seg == EMUL_CS && (s->attr & 0x18) != 0x18)
		return EMUL_UNHANDLED;	/* gates, task switches, and what is wrong */
	if (!type_fits(e, seg, s->attr, sel & 3) || (desc[1] >> 40) & 0x1f || !canonical(s->base))
		goto fault;
	vec = seg == EMUL_SS ? VEC_SS : VEC_NP;
	if (!(s->attr & ATTR_P))
		goto fault;
	marked = seg == EMUL_TR ? BIT(1) : seg == EMUL_LDTR ? 0 : BIT(0);
	if ((s->attr & marked) == marked)
		return EMUL_DONE;
	s->attr |= marked;
	marked = desc[0] | marked << 40;
	e->cpl = 0;
	st = e->ops->cas(e, addr, &desc[0], &marked, 8);
	e->cpl = cpl;
	return st;
fault:
	return emul_set_fault(e, vec, true, sel & ~3, 0);
}

/* #GP unless RIP may become @target (APM vol. 3, JMP). */
enum emul_status emul_branch_check(struct emul *e, const struct emul_seg *cs, u64 target)
{
	if (e->lma && (cs->attr & ATTR_L) ? canonical(target) : target <= cs->limit)
		return EMUL_DONE;
	return emul_gp(e);
}

/* Checks an access and gives its linear address. #SS for the stack segment, #GP for the others. */
enum emul_status emul_linear(struct emul *e, unsigned int seg, u64 offset, unsigned int len,
			     bool write, u64 *addr)
{
	const struct emul_seg *s = &e->segs[seg];
	bool ok;

	if (e->mode == EMUL_LONG64) {
		*addr = offset + (seg >= EMUL_FS ? s->base : 0);
		ok = canonical(*addr) && canonical(*addr + len - 1);
	} else {
		*addr = (u32)(s->base + offset);
		ok = within_limit(s, offset, offset + len - 1);
		if (e->mode == EMUL_PROT16 || e->mode == EMUL_PROT32)
			ok = ok && type_permits(s, write);
	}
	if (ok)
		return EMUL_DONE;
	return emul_set_fault(e, seg == EMUL_SS ? VEC_SS : VEC_GP, true, 0, 0);
}

/* Reads an operand. */
enum emul_status emul_read(struct emul *e, unsigned int seg, u64 offset, void *buf,
			   unsigned int len)
{
	u64 addr;

	return emul_linear(e, seg, offset, len, false, &addr) ?: e->ops->read(e, addr, buf, len);
}

enum emul_status emul_write(struct emul *e, unsigned int seg, u64 offset, const void *buf,
			    unsigned int len)
{
	u64 addr;

	return emul_linear(e, seg, offset, len, true, &addr) ?: e->ops->write(e, addr, buf, len);
}
