// SPDX-License-Identifier: GPL-2.0
/* Arithmetic with its flags (APM vol. 1, 3.1.4). Values wider than @size are truncated. */
#include "emulate/private.h"

static u64 sign_bit(unsigned int size)
{
	return 1ull << (8 * size - 1);
}

/* ZF, SF and PF of a result. */
static u64 result_flags(u64 r, unsigned int size)
{
	u64 f = 0;

	if (!r)
		f |= FLAG_ZF;
	if (r & sign_bit(size))
		f |= FLAG_SF;
	if (!(__builtin_popcount(r & 0xff) & 1))
		f |= FLAG_PF;
	return f;
}

static u64 add(u64 a, u64 b, u64 carry, unsigned int size, u64 *f)
{
	u64 r = (a + b + carry) & size_mask(size), carries = (a & b) | ((a | b) & ~r);

	if (carries & sign_bit(size))
		*f |= FLAG_CF;
	if (carries & 8)
		*f |= FLAG_AF;
	if (~(a ^ b) & (a ^ r) & sign_bit(size))
		*f |= FLAG_OF;
	return r;
}

/** alu_op() - ADD OR ADC SBB AND SUB XOR CMP, by their number; CMP gives @dst back. */
u64 alu_op(unsigned int op, u64 dst, u64 src, unsigned int size, u64 *rflags)
{
	u64 mask = size_mask(size), f = 0, r;
	bool carry = (op == ALU_ADC || op == ALU_SBB) && (*rflags & FLAG_CF);

	dst &= mask;
	src &= mask;
	switch (op) {
	case ALU_ADD:
	case ALU_ADC:
		r = add(dst, src, carry, size, &f);
		break;
	case ALU_OR:
		r = dst | src;
		break;
	case ALU_AND:
		r = dst & src;
		break;
	case ALU_XOR:
		r = dst ^ src;
		break;
	default:	/* SBB, SUB, CMP add the complement; what is not carried is borrowed */
		r = add(dst, ~src & mask, !carry, size, &f);
		f ^= FLAG_CF | FLAG_AF;
	}
	*rflags = (*rflags & ~(u64)FLAGS_ARITH) | result_flags(r, size) | f;
	return op == ALU_CMP ? dst : r;
}

/* ROL ROR RCL RCR, bit by bit: at most 63 steps, and rarely met on memory-mapped I/O. */
static u64 rotate(unsigned int op, u64 dst, unsigned int count, unsigned int size, u64 *rflags)
{
	u64 sign = sign_bit(size), carry = *rflags & FLAG_CF, in, out;
	bool left = !(op & 1), through_carry = op & 2, of;

	while (count--) {
		out = left ? !!(dst & sign) : dst & 1;
		in = through_carry ? carry : out;
		dst = left ? (dst << 1 | in) & size_mask(size) : dst >> 1 | (in ? sign : 0);
		carry = out;
	}
	of = !!(dst & sign) != (left ? carry : !!(dst & (sign >> 1)));
	*rflags = (*rflags & ~(u64)(FLAG_CF | FLAG_OF)) | carry | (of ? FLAG_OF : 0);
	return dst;
}

/** alu_shift() - group 2: ROL ROR RCL RCR SHL SHR SAL SAR; @count as given, masked here. */
u64 alu_shift(unsigned int op, u64 dst, unsigned int count, unsigned int size, u64 *rflags)
{
	u64 mask = size_mask(size), sign = sign_bit(size), f = 0, r, last;

	count &= size == 8 ? 63 : 31;
	dst &= mask;
	if (!count)
		return dst;
	if (op < 4)
		return rotate(op, dst, count, size, rflags);
	switch (op) {
	case 5:
		r = dst >> count;
		last = (dst >> (count - 1)) & 1;
		if (dst & sign)
			f |= FLAG_OF;
		break;
	case 7:
		r = (sign_extend(dst, size) >> count) & mask;
		last = (sign_extend(dst, size) >> (count - 1)) & 1;
		break;
	default:
		r = (dst << count) & mask;
		last = !!((dst << (count - 1)) & sign);
		if (!!(r & sign) != last)
			f |= FLAG_OF;
		break;
	}
	f |= result_flags(r, size) | last;
	*rflags = (*rflags & ~(u64)FLAGS_ARITH) | f;
	return r;
}

/** alu_shld() - SHLD, or SHRD where @right: bits of @src come in; count @n as given. */
u64 alu_shld(bool right, u64 dst, u64 src, unsigned int n, unsigned int size, u64 *rflags)
{
	u64 mask = size_mask(size), sign = sign_bit(size), r, last;
	unsigned int bits = 8 * size;

	n &= size == 8 ? 63 : 31;
	if (!n || n > bits)	/* beyond 16 bits, nothing is defined */
		return dst;
	r = (right ? dst >> n | src << (bits - n) : dst << n | src >> (bits - n)) & mask;
	last = (dst >> (right ? n - 1 : bits - n)) & 1;
	*rflags = (*rflags & ~(u64)FLAGS_ARITH) | result_flags(r, size) | last |
		  ((r ^ dst) & sign ? FLAG_OF : 0);
	return r;
}

/** alu_mul() - MUL, or IMUL where @sign: @hi and @lo of the product; CF and OF: @hi counts. */
void alu_mul(bool sign, u64 a, u64 b, unsigned int size, u64 *hi, u64 *lo, u64 *rflags)
{
	u64 mask = size_mask(size);
	__uint128_t r;
	bool counts;

	if (sign)
		r = (__int128_t)sign_extend(a, size) * sign_extend(b, size);
	else
		r = (__uint128_t)(a & mask) * (b & mask);
	*lo = r & mask;
	*hi = (u64)(r >> (8 * size)) & mask;
	counts = *hi != (sign && (*lo & sign_bit(size)) ? mask : 0);
	*rflags = (*rflags & ~(u64)(FLAG_CF | FLAG_OF)) | (counts ? FLAG_CF | FLAG_OF : 0);
}

/*
 * DIV, or IDIV where @sign: @hi and @lo become remainder and quotient. False for #DE: the quotient
 * does not fit. By the instruction, as the kernel has no division of 128 bits.
 */
bool alu_div(bool sign, u64 *hi, u64 *lo, u64 div, unsigned int size)
{
	u64 mask = size_mask(size), top = sign_bit(size), rem = *hi & mask, quot = *lo & mask;
	bool neg_rem = sign && (rem & top), neg_div = sign && (div & top);
	__uint128_t val;

	if (neg_rem) {
		rem = (~rem + !quot) & mask;
		quot = -quot & mask;
	}
	div = (neg_div ? -div : div) & mask;
	if (rem >= div)
		return false;
	val = (__uint128_t)rem << (8 * size) | quot;
	asm("divq %2" : "=a" (quot), "=d" (rem) : "r" (div), "0" ((u64)val), "1" ((u64)(val >> 64))
	    : "cc");
	if (sign && quot > (neg_rem != neg_div ? top : top - 1))
		return false;
	*hi = neg_rem ? -rem : rem;
	*lo = neg_rem != neg_div ? -quot : quot;
	return true;
}

/** alu_condition() - the condition of SETcc and CMOVcc. */
bool alu_condition(unsigned int cc, u64 rflags)
{
	static const u16 any[] = { FLAG_OF, FLAG_CF, FLAG_ZF, FLAG_CF | FLAG_ZF, FLAG_SF, FLAG_PF,
				   0, FLAG_ZF };
	unsigned int kind = (cc >> 1) & 7;
	bool r = rflags & any[kind];

	if (kind >= 6)		/* less */
		r |= !(rflags & FLAG_SF) != !(rflags & FLAG_OF);
	return r != (cc & 1);
}
