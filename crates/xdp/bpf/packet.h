// Frames, and what of them has to be known to decide.
#ifndef AQUATIC_PACKET_H
#define AQUATIC_PACKET_H

#include "ids.h"
#include <linux/if_ether.h>
#include <linux/in.h>

#define VLAN_BYTES 4
#define V4_BYTES 20
#define V6_BYTES 40
#define UDP_BYTES 8
#define FRAME_BYTES_MIN 60

// Where the IP header is: behind an Ethernet header, and maybe a tag of 802.1Q.
enum start { UNTAGGED = ETH_HLEN, TAGGED = ETH_HLEN + VLAN_BYTES };

struct ethernet {
	__u16 to[3];
	__u16 from[3];
	__u16 type;
};

struct v4 {
	__u16 version_and_service;
	__u16 bytes;
	__u16 id;
	__u16 fragment;
	__u8 lifetime;
	__u8 protocol;
	__u16 sum;
	__u32 from, to;
};

struct v6 {
	__u32 version_and_class;
	__u16 bytes;
	__u8 protocol;
	__u8 hops;
	__u32 from[4], to[4];
};

struct udp {
	__u16 from, to;
	__u16 bytes;
	__u16 sum;
};

// A datagram of UDP, as far as a decision needs it.
struct packet {
	struct address from;
	struct address to;
	__u16 from_port, to_port;
	// Of UDP's header.
	__u16 udp_bytes, sum;
	// Of UDP's payload.
	__u32 bytes;
	__u32 start;
	__u32 family;
	__u32 is_connect;
};

// Reads what was written to memory, as it is there: what a compiler has kept in a register a
// verifier would follow, each value on a way of its own.
#define AGAIN(place) (*(volatile __typeof__(place) *)&(place))

// Memory from which so many bytes can be read: the end of a frame is no number that could be
// reckoned with, but one that can be compared.
#define HAS(pointer, bytes) ((void *)(pointer) + (bytes) <= end)

// Moves a pointer on by a constant. A compiler would make one addition of two such, of a number
// that it had chosen before; to verify that, the kernel wants a capability more.
#define MOVED(pointer, bytes)                                                                      \
	({                                                                                         \
		void *moved = (pointer);                                                           \
		asm volatile("%0 += %1" : "+r"(moved) : "i"(bytes));                               \
		moved;                                                                             \
	})

// Ones' complement, as all sums of the Internet are: words of any order of bytes, RFC 1071.
INLINE __u16 folded(__u64 sum)
{
	sum = (sum >> 32) + (__u32)sum;
	sum = (sum >> 32) + (__u32)sum;
	sum = (sum >> 16) + (__u16)sum;
	sum = (sum >> 16) + (__u16)sum;
	return sum;
}

INLINE __u64 sum_of_4(const __u32 *words)
{
	return (__u64)words[0] + words[1] + words[2] + words[3];
}

// Reads the header of UDP, where those of IP have been read: their lengths have to agree, with the
// frame's as well. `bytes`: the payload of IP.
INLINE int read_udp(const struct udp *udp, __u32 bytes, struct packet *packet)
{
	packet->from_port = BE16(udp->from);
	packet->to_port = BE16(udp->to);
	packet->udp_bytes = udp->bytes;
	packet->sum = udp->sum;
	packet->bytes = bytes - UDP_BYTES;
	return bytes >= UDP_BYTES && BE16(udp->bytes) == bytes;
}

INLINE int read_v4(struct v4 *ip, void *end, __u32 frame_bytes, struct packet *packet)
{
	if (!HAS(ip, V4_BYTES + UDP_BYTES))
		return 0;
	// Without options, and whole.
	if ((ip->version_and_service & 0xff) != 0x45 || ip->protocol != IPPROTO_UDP ||
	    ip->fragment & ~BE16(0x4000))
		return 0;
	__u32 bytes = BE16(ip->bytes);
	if (bytes < V4_BYTES || packet->start + bytes > frame_bytes)
		return 0;
	// Nobody has such an address, or all have it.
	__u8 first = ip->from;
	if (first == 0 || first == 127 || first >= 224)
		return 0;
	packet->from = v4_address(ip->from);
	packet->to = v4_address(ip->to);
	packet->family = V4;
	return read_udp((void *)ip + V4_BYTES, bytes - V4_BYTES, packet);
}

INLINE int read_v6(struct v6 *ip, void *end, __u32 frame_bytes, struct packet *packet)
{
	if (!HAS(ip, V6_BYTES + UDP_BYTES))
		return 0;
	if ((ip->version_and_class & 0xf0) != 0x60 || ip->protocol != IPPROTO_UDP)
		return 0;
	__u32 bytes = BE16(ip->bytes);
	if (packet->start + V6_BYTES + bytes > frame_bytes)
		return 0;
	// ::/32 has the unspecified address, that of this host, and those of IPv4.
	if (!ip->from[0] || !ip->to[0] || (ip->from[0] & 0xff) == 0xff)
		return 0;
	packet->from.words[0] = (__u64)ip->from[1] << 32 | ip->from[0];
	packet->from.words[1] = (__u64)ip->from[3] << 32 | ip->from[2];
	packet->to.words[0] = (__u64)ip->to[1] << 32 | ip->to[0];
	packet->to.words[1] = (__u64)ip->to[3] << 32 | ip->to[2];
	packet->family = V6;
	return read_udp((void *)ip + V6_BYTES, bytes, packet);
}

// Reads a frame. Returns whether it is a datagram of UDP from one host to another that is simple
// enough, and copies its first bytes if it has as many.
INLINE int read_packet(struct xdp_md *ctx, struct packet *packet, struct head *head)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 frame_bytes = xdp_get_buff_len(ctx);
	struct ethernet *ethernet = data;
	// To one machine, and from one.
	if (!HAS(data, UNTAGGED + V4_BYTES + UDP_BYTES) || (*(__u8 *)data | *(__u8 *)(data + 6)) & 1)
		return 0;
	__u16 type = ethernet->type;
	void *ip;
	if (type == BE16(ETH_P_8021Q)) {
		type = *(__u16 *)(data + TAGGED - 2);
		packet->start = TAGGED;
		ip = MOVED(data, TAGGED);
	} else {
		packet->start = UNTAGGED;
		ip = MOVED(data, UNTAGGED);
	}
	void *payload;
	if (type == BE16(ETH_P_IP)) {
		if (!read_v4(ip, end, frame_bytes, packet))
			return 0;
		payload = MOVED(ip, V4_BYTES + UDP_BYTES);
	} else if (type == BE16(ETH_P_IPV6)) {
		if (!read_v6(ip, end, frame_bytes, packet))
			return 0;
		payload = MOVED(ip, V6_BYTES + UDP_BYTES);
	} else {
		return 0;
	}
	if (packet->bytes < sizeof(*head)) {
		*head = (struct head){};
		return 1;
	}
	if (!HAS(payload, sizeof(*head)))
		return 0;
	*head = *(struct head *)payload;
	return 1;
}

#endif
