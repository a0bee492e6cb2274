// What is shared with user space (src/memory.rs), and connection ids as
// crates/udp/src/connection_id.rs makes them.
#ifndef AQUATIC_IDS_H
#define AQUATIC_IDS_H

#include "kernel.h"

#define NANOS_PER_SECOND 1000000000ull

// Seconds from the future that an id may be from: clocks of trackers differ, and are set. User
// space is stricter.
#define AHEAD_SECONDS 60

// BEP 15: the first eight bytes of a connect request.
#define PROTOCOL_ID 0x41727101980ull

enum action { CONNECT, ANNOUNCE, SCRAPE, ERROR };

#define ANNOUNCE_BYTES 98

// The longest datagram that user space reads: DATAGRAM_BYTES_MAX in src/lib.rs.
#define DATAGRAM_BYTES_MAX 2560

// The first bytes of each request.
struct head {
	__u64 connection_id;
	__u32 action;
	__u32 transaction_id;
};

// One, written by user space, but for the last two numbers.
struct state {
	__u64 is_active;
	__u64 key[2];
	// Nanoseconds of Unix time at the zero of the monotonic clock.
	__u64 unix_nanos;
	// The same before the system's clock was set, which counts beside it until the monotonic
	// clock says so.
	__u64 replaced_unix_nanos;
	__u64 replaced_until;
	// So many wrong ids are let through in a second, so that clients are told to connect again.
	__u64 wrong_per_second;
	// The second of the monotonic clock, and how many were let through in it.
	__u64 second;
	__u64 let_through;
};

// What was dealt with, and how: one for each processor and family, in this order. (An index into
// one of them would be arithmetic with a pointer, for which some kernels want a capability more.)
struct counts {
	// Dropped, for these reasons.
	__u64 too_short;
	__u64 too_long;
	__u64 unknown_action;
	__u64 not_connect;
	// With a wrong id.
	__u64 announces;
	__u64 scrapes;
	__u64 source_port_zero;
	__u64 network_denied;
	__u64 request_rate;
	__u64 answer_rate;
	// Answered: with an id, and with an error.
	__u64 connects;
	__u64 told_announces;
	__u64 told_scrapes;
	// Payload of all of them, and of the answers.
	__u64 bytes;
	__u64 sent_bytes;
	__u64 unused[1];
};

// Adds one. Without the barrier, a compiler would make one addition of all of them, with a number
// that says to which: again arithmetic with a pointer.
#define COUNT(place)                                                                               \
	({                                                                                         \
		__u64 *counted = &(place);                                                         \
		asm volatile("" : "+r"(counted));                                                  \
		++*counted;                                                                        \
	})

enum family { V4, V6, FAMILIES };

// An address as 16 bytes, IPv4 as ::ffff:a.b.c.d, in two words.
struct address {
	__u64 words[2];
};

INLINE struct address v4_address(__u32 address)
{
	return (struct address){ { 0, 0xffff0000ull | (__u64)address << 32 } };
}

INLINE __u64 rotated(__u64 word, int bits)
{
	return word << bits | word >> (64 - bits);
}

struct sip {
	__u64 v0, v1, v2, v3;
};

INLINE void sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v1 = rotated(s->v1, 13) ^ s->v0;
	s->v0 = rotated(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = rotated(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = rotated(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = rotated(s->v1, 17) ^ s->v2;
	s->v2 = rotated(s->v2, 32);
}

INLINE void sip_word(struct sip *s, __u64 word)
{
	s->v3 ^= word;
	sip_round(s);
	sip_round(s);
	s->v0 ^= word;
}

INLINE struct sip sip_start(const __u64 *key)
{
	return (struct sip){
		key[0] ^ 0x736f6d6570736575ull,
		key[1] ^ 0x646f72616e646f6dull,
		key[0] ^ 0x6c7967656e657261ull,
		key[1] ^ 0x7465646279746573ull,
	};
}

#define ID_HASH_MASK 0xffffffffffffull

// The low 48 bits of SipHash-2-4 over an address and a second.
INLINE __u64 id_hash(const __u64 *key, struct address from, __u32 second)
{
	struct sip s = sip_start(key);
	sip_word(&s, from.words[0]);
	sip_word(&s, from.words[1]);
	// 20 bytes in all.
	sip_word(&s, 20ull << 56 | second);
	s.v2 ^= 0xff;
	sip_round(&s);
	sip_round(&s);
	sip_round(&s);
	sip_round(&s);
	return (s.v0 ^ s.v1 ^ s.v2 ^ s.v3) & ID_HASH_MASK;
}

INLINE __u32 unix_second(__u64 unix_nanos, __u64 now)
{
	return (now + unix_nanos) / NANOS_PER_SECOND;
}

// When an id was issued, if it is one: its first bits are the last ones of that second, so of all
// seconds of the last hours it can be one only.
INLINE __u32 second_of_id(__u32 now, __u64 id)
{
	__u32 newest = now + AHEAD_SECONDS;
	return newest - ((newest - (__u32)(id >> 48)) & 0xffff);
}

INLINE int is_of_clock(const struct state *state, __u64 unix_nanos, __u64 now, struct address from,
		       __u64 id)
{
	__u32 second = second_of_id(unix_second(unix_nanos, now), id);
	return id_hash(state->key, from, second) == (id & ID_HASH_MASK);
}

// Once more for the clock before it was set.
INLINE int is_of_replaced_clock(const struct state *state, __u64 now, struct address from, __u64 id)
{
	return now < state->replaced_until &&
	       is_of_clock(state, state->replaced_unix_nanos, now, from, id);
}

// Whether an id was issued to an address with this key, at whatever time of the last hours: whether
// it has expired is for user space to see, which tells the client so. An address that gets an id
// exists, so these are few, whatever is forged. (No loop over both clocks: to verify one, some
// kernels want a capability more.)
INLINE int is_genuine(const struct state *state, __u64 now, struct address from, __u64 id)
{
	return is_of_clock(state, state->unix_nanos, now, from, id) ||
	       is_of_replaced_clock(state, now, from, id);
}

// Whether a client with a wrong id may be told so: not more of them in a second than user space
// says. Some more, if several processors begin a second at once.
INLINE int may_be_told(struct state *state, __u64 now)
{
	__u64 second = now / NANOS_PER_SECOND;
	if (state->second != second) {
		state->second = second;
		state->let_through = 0;
	}
	// A flood does not write to what all processors share.
	if (*(volatile __u64 *)&state->let_through >= state->wrong_per_second)
		return 0;
	__sync_fetch_and_add(&state->let_through, 1);
	return 1;
}

#endif
