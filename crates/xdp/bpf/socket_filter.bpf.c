// Drops datagrams before they are put into a socket's queue: what is no request, and what has a
// wrong connection id. What it drops it counts.
//
// Runs after the network stack, so on every interface; the data begins with the UDP header.

#include "ids.h"
#include <linux/if_ether.h>

MAP(state_map);
MAP(rows);

#define UDP_HEADER_BYTES 8
#define DROP 0

INLINE int source(struct __sk_buff *skb, struct address *from)
{
	if (skb->protocol == BE16(ETH_P_IP)) {
		__u32 address;
		if (skb_load_bytes_relative(skb, 12, &address, 4, BPF_HDR_START_NET))
			return 0;
		*from = v4_address(address);
		return 1;
	}
	return !skb_load_bytes_relative(skb, 8, from, 16, BPF_HDR_START_NET);
}

INLINE int is_v4(struct address from)
{
	return !from.words[0] && (__u32)from.words[1] == 0xffff0000;
}

SECTION("socket") int socket_filter(struct __sk_buff *skb)
{
	struct state *state = element(&state_map, 0);
	struct address from = {};
	struct head head;

	if (!state || !state->is_active || !source(skb, &from))
		return skb->len;
	__u32 row = get_smp_processor_id() * FAMILIES + (is_v4(from) ? V4 : V6);
	struct counts *counts = element(&rows, row);
	if (!counts)
		return skb->len;
	__u32 bytes = skb->len - UDP_HEADER_BYTES;
	if (skb_load_bytes(skb, UDP_HEADER_BYTES, &head, sizeof(head))) {
		COUNT(counts->too_short);
		goto drop;
	}
	if (bytes > DATAGRAM_BYTES_MAX) {
		COUNT(counts->too_long);
		goto drop;
	}
	__u32 action = BE32(head.action);
	__u64 id = BE64(head.connection_id);
	if (action == CONNECT) {
		if (id == PROTOCOL_ID)
			return skb->len;
		COUNT(counts->not_connect);
		goto drop;
	}
	if (action > SCRAPE) {
		COUNT(counts->unknown_action);
		goto drop;
	}
	if (action == ANNOUNCE && bytes < ANNOUNCE_BYTES) {
		COUNT(counts->too_short);
		goto drop;
	}
	__u64 now = ktime_get_coarse_ns();
	if (is_genuine(state, now, from, id) || may_be_told(state, now))
		return skb->len;
	if (action == ANNOUNCE)
		COUNT(counts->announces);
	else
		COUNT(counts->scrapes);
drop:
	counts->bytes += bytes;
	return DROP;
}
