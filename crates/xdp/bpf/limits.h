// Whom user space does not serve, and how often: the same lists and the same counts.
#ifndef AQUATIC_LIMITS_H
#define AQUATIC_LIMITS_H

#include "packet.h"

// Sorted ranges of addresses as a tree: below place k, counted from 1, are 2k and 2k + 1. So as
// many steps as it is deep are enough, each at a place that the one before says.
struct range_v4 {
	__u32 first;
	__u32 last;
};

struct range_v6 {
	// The higher half goes first; both as numbers.
	__u64 first[2];
	__u64 last[2];
};

// So deep they can be: src/denied.rs has the same numbers.
#define V4_DEPTH 20
#define V6_DEPTH 16

// Where the tree is in use: in the lower half, how many there are, in the upper half, before which
// place it begins. One number, so that another tree takes its place at once.
typedef __u64 tree;
#define TREE_LEN(tree) ((tree) & 0xffffffff)
#define TREE_BEFORE(tree) ((tree) >> 32)

MAP(denied_v4);
MAP(denied_v6);
MAP(rates);

// What a compiler must not see through: it would make two ways of it, each to be verified.
#define OPAQUE(number) asm volatile("" : "+r"(number))

// 1 if a < b, and 0 if not: the borrow of the subtraction.
INLINE __u64 is_less(__u64 a, __u64 b)
{
	__u64 borrow = (~a & b) | ((~a | b) & (a - b));
	OPAQUE(borrow);
	return borrow >> 63;
}

// Each step goes down one place: to the left if the range there begins behind the address. Returns
// 0 at the end.
INLINE int step_v4(tree tree, __u64 address, __u64 *place)
{
	if (*place > TREE_LEN(tree))
		return 0;
	struct range_v4 *range = element(&denied_v4, TREE_BEFORE(tree) + *place);
	if (!range)
		return 0;
	__u64 is_behind = address - range->first;
	OPAQUE(is_behind);
	*place = *place << 1 | (~is_behind >> 63);
	return 1;
}

INLINE int step_v6(tree tree, __u64 high, __u64 low, __u64 *place)
{
	if (*place > TREE_LEN(tree))
		return 0;
	struct range_v6 *range = element(&denied_v6, TREE_BEFORE(tree) + *place);
	if (!range)
		return 0;
	__u64 is_behind = is_less(high, range->first[0]);
	is_behind |= ~is_less(range->first[0], high) & is_less(low, range->first[1]);
	OPAQUE(is_behind);
	*place = *place << 1 | (~is_behind & 1);
	return 1;
}

// Where it went to the right last: the last range that begins at the address or before it. 0 if it
// never did.
INLINE __u64 last_before(tree tree, __u64 place)
{
	__u64 lefts = place & -place, last = place / (lefts << 1 | !lefts);
	return last ? TREE_BEFORE(tree) + last : 0;
}

// The steps are written out: to verify a loop, some kernels want a capability more.
#define FOUR(steps) steps && steps && steps && steps

INLINE int is_denied_v4(tree tree, __u64 *memory, __u64 address)
{
	__u64 place = AGAIN(*memory);
	if (!TREE_LEN(tree))
		return 0;
#define STEP step_v4(tree, address, &place)
	(void)(FOUR(STEP) && FOUR(STEP) && FOUR(STEP) && FOUR(STEP) && FOUR(STEP));
#undef STEP
	AGAIN(*memory) = place;
	__u64 index = last_before(tree, AGAIN(*memory));
	struct range_v4 *range = element(&denied_v4, index);
	return index && range && address <= range->last;
}

INLINE int is_denied_v6(tree tree, __u64 *memory, __u64 high, __u64 low)
{
	__u64 place = AGAIN(*memory);
	if (!TREE_LEN(tree))
		return 0;
#define STEP step_v6(tree, high, low, &place)
	(void)(FOUR(STEP) && FOUR(STEP) && FOUR(STEP) && FOUR(STEP));
#undef STEP
	AGAIN(*memory) = place;
	__u64 index = last_before(tree, AGAIN(*memory));
	struct range_v6 *range = element(&denied_v6, index);
	if (!index || !range)
		return 0;
	return high < range->last[0] || (high == range->last[0] && low <= range->last[1]);
}

// crates/daemon/src/request_rate.rs
struct rate {
	__u64 key[2];
	// 0: there is no limit.
	__u64 nanos_per_request;
	// The daemon's zero on the monotonic clock.
	__u64 zero_nanos;
};

#define RATE_CELLS_MASK ((1u << 20) - 1)
#define BURST_NANOS NANOS_PER_SECOND
#define CLIENTS_PER_SITE 16

// SipHash-1-3 of a number.
INLINE __u32 rate_cell(const __u64 *key, __u64 whose)
{
	struct sip s = sip_start(key);
	s.v3 ^= whose;
	sip_round(&s);
	s.v0 ^= whose;
	s.v3 ^= 8ull << 56;
	sip_round(&s);
	s.v0 ^= 8ull << 56;
	s.v2 ^= 0xff;
	sip_round(&s);
	sip_round(&s);
	sip_round(&s);
	return (s.v0 ^ s.v1 ^ s.v2 ^ s.v3) & RATE_CELLS_MASK;
}

// Whether an account has room for a request. `paid`: when it will have paid for those before.
INLINE __u64 *account(const struct rate *rate, __u64 now, __u64 whose, __u64 *paid)
{
	__u64 *cell = element(&rates, rate_cell(rate->key, whose));
	if (!cell)
		return 0;
	__u64 is = *(volatile __u64 *)cell;
	*paid = is > now ? is : now;
	return *paid - now < BURST_NANOS ? cell : 0;
}

// Whether a client may send one more request. If so it is counted, unless user space will do that.
INLINE int is_within_rate(const struct rate *rate, __u64 monotonic, struct address from, int family,
			  int is_counted)
{
	__u64 nanos = rate->nanos_per_request, now = monotonic - rate->zero_nanos;
	__u64 paid, site_paid, *site_cell = 0;
	if (!nanos)
		return 1;
	__u64 client = family == V4 ? 0x20010db800000000ull | BE32(from.words[1] >> 32) :
				      BE64(from.words[0]);
	__u64 *cell = account(rate, now, client, &paid);
	if (!cell)
		return 0;
	if (client >> 32 != 0x20010db8 && client >> 48) {
		site_cell = account(rate, now, client >> 16, &site_paid);
		if (!site_cell)
			return 0;
	}
	if (!is_counted)
		return 1;
	if (site_cell) {
		__u64 part = nanos / CLIENTS_PER_SITE;
		*(volatile __u64 *)site_cell = site_paid + (part ? part : 1);
	}
	*(volatile __u64 *)cell = paid + nanos;
	return 1;
}

#endif
