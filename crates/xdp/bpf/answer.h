// Answers, which take the place of the request in its frame.
#ifndef AQUATIC_ANSWER_H
#define AQUATIC_ANSWER_H

#include "packet.h"

#define ID_BYTES 16
#define ERROR_BYTES 29

// The payload of an answer. Behind its end it has zeros.
struct payload {
	__u64 words[4];
};

// An answer, from the IP header on. Its words are at even places, so sums can be made of them.
struct answer_v4 {
	struct v4 ip;
	struct udp udp;
	__u32 payload[8];
};

struct answer_v6 {
	struct v6 ip;
	struct udp udp;
	__u32 payload[8];
};

struct answer {
	struct payload payload;
	__u32 bytes;
	__u32 unused;
	union {
		struct answer_v4 v4;
		struct answer_v6 v6;
	};
};

INLINE void write_id(struct answer *answer, __u32 transaction_id, __u64 id)
{
	answer->payload.words[0] = (__u64)transaction_id << 32 | BE32(CONNECT);
	answer->payload.words[1] = BE64(id);
	answer->payload.words[2] = 0;
	answer->payload.words[3] = 0;
	answer->bytes = ID_BYTES;
}

// "connection id expired", as crates/udp/src/service.rs has it.
INLINE void write_error(struct answer *answer, __u32 transaction_id)
{
	answer->payload.words[0] = (__u64)transaction_id << 32 | BE32(ERROR);
	answer->payload.words[1] = 0x697463656e6e6f63ull;
	answer->payload.words[2] = 0x7865206469206e6full;
	answer->payload.words[3] = 0x6465726970ull;
	answer->bytes = ERROR_BYTES;
}

INLINE void swap_ethernet(struct ethernet *ethernet)
{
#pragma unroll
	for (int i = 0; i < 3; i++) {
		__u16 to = ethernet->to[i];
		ethernet->to[i] = ethernet->from[i];
		ethernet->from[i] = to;
	}
}

// Writes UDP's header, and the payload. A request of the same machine has no more than the sum of
// its pseudo-header, since a card is to complete it: where the kernel keeps that in mind for the
// answer (not so with the native programs of a driver), the answer has to be the same. A whole sum
// looks like that once in 65,536 requests: that answer comes with a wrong sum, and whoever sent it
// asks again, with another transaction id if there is to be an answer.
INLINE void write_udp(struct udp *udp, const struct packet *packet, const struct answer *answer,
		      __u64 addresses, int is_completed)
{
	__u64 pseudo = addresses + BE16(IPPROTO_UDP);
	__u16 bytes = BE16(UDP_BYTES + answer->bytes);
	__u32 *to = (__u32 *)(udp + 1);
	const __u32 *from = (const __u32 *)answer->payload.words;
	__u64 sum = pseudo + bytes;
	udp->from = BE16(packet->to_port);
	udp->to = BE16(packet->from_port);
	udp->bytes = bytes;
#pragma unroll
	for (int i = 0; i < 8; i++)
		to[i] = from[i];
	udp->sum = folded(sum);
	if (is_completed && packet->sum == folded(pseudo + packet->udp_bytes))
		return;
	sum += (__u64)udp->from + udp->to + bytes + sum_of_4(from) + sum_of_4(from + 4);
	__u16 complement = ~folded(sum);
	// 0 means that there is none.
	udp->sum = complement ? complement : 0xffff;
}

INLINE void write_v4(struct answer_v4 *to, const struct packet *packet, const struct answer *answer,
		     int is_completed)
{
	struct v4 *ip = &to->ip;
	ip->version_and_service = 0x45;
	ip->bytes = BE16(V4_BYTES + UDP_BYTES + answer->bytes);
	ip->id = 0;
	// Not to be fragmented.
	ip->fragment = BE16(0x4000);
	ip->lifetime = 64;
	ip->protocol = IPPROTO_UDP;
	ip->from = packet->to.words[1] >> 32;
	ip->to = packet->from.words[1] >> 32;
	__u64 addresses = (__u64)ip->from + ip->to;
	ip->sum = ~folded(addresses + 0x45 + ip->bytes + BE16(0x4000) + 64 + BE16(IPPROTO_UDP));
	write_udp(&to->udp, packet, answer, addresses, is_completed);
}

INLINE void write_v6(struct answer_v6 *to, const struct packet *packet, const struct answer *answer,
		     int is_completed)
{
	struct v6 *ip = &to->ip;
	ip->version_and_class = 0x60;
	ip->bytes = BE16(UDP_BYTES + answer->bytes);
	ip->protocol = IPPROTO_UDP;
	ip->hops = 64;
	const __u32 *from = (const __u32 *)packet->to.words;
	const __u32 *peer = (const __u32 *)packet->from.words;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		ip->from[i] = from[i];
		ip->to[i] = peer[i];
	}
	__u64 addresses = sum_of_4(from) + sum_of_4(peer);
	write_udp(&to->udp, packet, answer, addresses, is_completed);
}

// Makes the request an answer, which goes back to where it came from. Returns whether it could.
INLINE int send_back(struct xdp_md *ctx, const struct packet *packet, struct answer *answer,
		     int is_completed)
{
	__u32 bytes = UDP_BYTES + (answer->bytes & 31), start = packet->start & 31;
	if (packet->family == V4) {
		write_v4(&answer->v4, packet, answer, is_completed);
		bytes += V4_BYTES;
	} else {
		write_v6(&answer->v6, packet, answer, is_completed);
		bytes += V6_BYTES;
	}
	// No frame is shorter than this, and not all drivers fill one up: bytes of the request
	// stay.
	__u32 is = xdp_get_buff_len(ctx), wanted = start + bytes;
	if (wanted < FRAME_BYTES_MIN)
		wanted = FRAME_BYTES_MIN;
	if (is > wanted && xdp_adjust_tail(ctx, (int)(wanted - is)))
		return 0;
	if (xdp_store_bytes(ctx, start, &answer->v4, bytes))
		return 0;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	if (!HAS(data, ETH_HLEN))
		return 0;
	swap_ethernet(data);
	return 1;
}

#endif
