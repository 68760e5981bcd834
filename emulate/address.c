// SPDX-License-Identifier: GPL-2.0
/*
 * Segmentation: from segment and offset to a linear address (APM vol. 2, chapter 4).
 */
#ifdef __KERNEL__
#include <linux/kernel.h>
#include <linux/string.h>
#endif
#include "emulate/private.h"

#define ATTR_CODE	BIT(3)
#define ATTR_RW		BIT(1)	/* data: writable; code: readable */
#define ATTR_DOWN	BIT(2)	/* data: expand-down */
#define ATTR_P		BIT(7)
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

/** emul_branch_check() - #GP unless RIP may become @target (APM vol. 3, JMP). */
enum emul_status emul_branch_check(struct emul *e, const struct emul_seg *cs, bool long64,
				   u64 target)
{
	if (long64 ? canonical(target) : target <= cs->limit)
		return EMUL_DONE;
	return emul_set_fault(e, VEC_GP, true, 0, 0);
}

/**
 * emul_linear() - check an access of @len bytes at @seg:@offset and give its linear address.
 * @e: the operation
 * @seg: segment register, EMUL_*
 * @offset: effective address
 * @len: bytes
 * @write: it will be written
 * @addr: where the linear address goes
 *
 * #SS for the stack segment, #GP for the others, both with error code 0.
 */
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
