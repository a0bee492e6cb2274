// Answers connect requests, and drops what user space would drop or refuse anyway, before the
// kernel has made anything of a frame but its bytes. What it drops or answers it counts. All else
// goes on untouched.

#include "answer.h"
#include "limits.h"

MAP(state_map);
MAP(settings_map);
MAP(listeners);
MAP(processors);
MAP(rows);
MAP(queues);

enum task { OFF, ANSWER_CONNECTS, FILTER };

// One, written by user space.
struct settings {
	__u64 task;
	// Datagrams go to sockets of AF_XDP, where a queue has one.
	__u64 has_queues;
	// The kernel completes the sums of answers for which it had to complete those of requests.
	__u64 is_generic;
	__u64 answers_per_second;
	__u64 errors_per_second;
	struct rate rate;
	tree denied_v4, denied_v6;
};

// Where the tracker listens: a table with open addressing. What is not within so many places of
// where it belongs is not there.
struct listener {
	struct address address;
	// 0 if the place is free.
	__u64 port;
	__u64 unused;
};

#define LISTENERS_MASK 4095
#define PLACES 8

// What one processor has answered in this second, and the datagram that it is at: that is here and
// not on the stack since a verifier does not follow what is in memory, so it goes through the rest
// once, and not for each kind of frame anew.
struct processor {
	// The second of Unix time, the moment at which it ends, and by which clock: a division
	// takes as long as some rounds of a hash.
	__u64 second;
	__u64 ends;
	__u64 unix_nanos;
	__u64 answers;
	__u64 errors;
	struct packet packet;
	struct head head;
	struct answer answer;
	__u64 place;
};

_Static_assert(sizeof(struct processor) == 30 * 8, "as src/xdp.rs has it");

INLINE int is_listener(const struct packet *packet)
{
	// The last bytes of an address are the highest bits, which a product does not bring down.
	__u64 high = packet->to.words[0] ^ packet->to.words[0] >> 32;
	__u64 low = packet->to.words[1] ^ packet->to.words[1] >> 32;
	__u64 mixed = (high ^ packet->to_port) * 0x9e3779b97f4a7c15ull ^ low;
	__u32 home = mixed * 0xd6e8feb86659fd93ull >> 32;
#pragma unroll
	for (int i = 0; i < PLACES; i++) {
		struct listener *listener = element(&listeners, (home + i) & LISTENERS_MASK);
		if (!listener || !listener->port)
			return 0;
		if (listener->port == packet->to_port &&
		    listener->address.words[0] == packet->to.words[0] &&
		    listener->address.words[1] == packet->to.words[1])
			return 1;
	}
	return 0;
}

INLINE int is_denied(const struct settings *settings, struct processor *processor)
{
	const struct packet *packet = &processor->packet;
	// From the top.
	AGAIN(processor->place) = 1;
	if (packet->family == V4) {
		__u32 address = packet->from.words[1] >> 32;
		return is_denied_v4(settings->denied_v4, &processor->place, BE32(address));
	}
	return is_denied_v6(settings->denied_v6, &processor->place, BE64(packet->from.words[0]),
			    BE64(packet->from.words[1]));
}

INLINE void keep_time(struct processor *processor, __u64 unix_nanos, __u64 now)
{
	if (now < processor->ends && unix_nanos == processor->unix_nanos)
		return;
	__u64 second = (now + unix_nanos) / NANOS_PER_SECOND;
	processor->unix_nanos = unix_nanos;
	processor->ends = (second + 1) * NANOS_PER_SECOND - unix_nanos;
	if (processor->second != second) {
		processor->second = second;
		processor->answers = 0;
		processor->errors = 0;
	}
}

// What a place of a queue has no room for goes to the stack: longer frames than one with a tag and a
// request of 1,600 bytes over IPv6.
#define QUEUE_BYTES_MAX 1666

INLINE int pass(struct xdp_md *ctx, const struct settings *settings)
{
	// There may be more in a frame than its datagram.
	if (settings->has_queues && xdp_get_buff_len(ctx) <= QUEUE_BYTES_MAX)
		return redirect_map(&queues, ctx->rx_queue_index, XDP_PASS);
	return XDP_PASS;
}

SECTION("xdp") int look_at_frame(struct xdp_md *ctx)
{
	__u64 number = get_smp_processor_id();
	struct settings *settings = element(&settings_map, 0);
	struct state *state = element(&state_map, 0);
	struct processor *processor = element(&processors, number);
	if (!settings || !state || !processor || settings->task == OFF)
		return XDP_PASS;
	struct packet *packet = &processor->packet;
	struct head *head = &processor->head;
	if (!read_packet(ctx, packet, head) || !is_listener(packet))
		return XDP_PASS;
	AGAIN(packet->is_connect) = packet->bytes >= sizeof(*head) &&
				    BE32(head->action) == CONNECT &&
				    BE64(head->connection_id) == PROTOCOL_ID;
	if (settings->task == ANSWER_CONNECTS && !AGAIN(packet->is_connect))
		return pass(ctx, settings);

	__u64 row = number * FAMILIES + (packet->family == V4 ? V4 : V6);
	struct counts *counts = element(&rows, row);
	__u64 now = ktime_get_coarse_ns();
	if (!counts)
		return XDP_PASS;
	keep_time(processor, state->unix_nanos, now);
	if (is_denied(settings, processor)) {
		COUNT(counts->network_denied);
		goto drop;
	}
	if (!packet->from_port) {
		COUNT(counts->source_port_zero);
		goto drop;
	}
	__u64 action = BE32(AGAIN(head->action)), bytes = AGAIN(packet->bytes);
	if (bytes < sizeof(*head) || (action == ANNOUNCE && bytes < ANNOUNCE_BYTES)) {
		COUNT(counts->too_short);
		goto drop;
	}
	if (bytes > DATAGRAM_BYTES_MAX) {
		COUNT(counts->too_long);
		goto drop;
	}
	if (action > SCRAPE) {
		COUNT(counts->unknown_action);
		goto drop;
	}
	int is_connect = AGAIN(packet->is_connect);
	if (action == CONNECT && !is_connect) {
		COUNT(counts->not_connect);
		goto drop;
	}

	__u64 id = BE64(AGAIN(head->connection_id));
	__u64 second = processor->second;
	if (!is_connect)
		second = second_of_id(second, id);
	AGAIN(processor->place) = second;
	second = AGAIN(processor->place);
	__u64 hash = id_hash(state->key, packet->from, second);
	action = BE32(AGAIN(head->action));
	is_connect = action == CONNECT;
	int is_good = !is_connect && (hash == (id & ID_HASH_MASK) ||
				      is_of_replaced_clock(state, now, packet->from, id));
	// An answer must not be longer than what it is for.
	if (!is_connect && !is_good &&
	    (packet->bytes < ERROR_BYTES || processor->errors >= settings->errors_per_second)) {
		if (action == ANNOUNCE)
			COUNT(counts->announces);
		else
			COUNT(counts->scrapes);
		goto drop;
	}
	// User space counts those that it gets.
	if (!is_within_rate(&settings->rate, now, packet->from, AGAIN(packet->family), !is_good)) {
		COUNT(counts->request_rate);
		goto drop;
	}
	if (is_good)
		return pass(ctx, settings);
	struct answer *answer = &processor->answer;
	if (AGAIN(packet->is_connect)) {
		if (processor->answers >= settings->answers_per_second) {
			COUNT(counts->answer_rate);
			goto drop;
		}
		processor->answers++;
		COUNT(counts->connects);
		write_id(answer, head->transaction_id, (__u64)second << 48 | hash);
	} else {
		processor->errors++;
		if (BE32(AGAIN(head->action)) == ANNOUNCE)
			COUNT(counts->told_announces);
		else
			COUNT(counts->told_scrapes);
		write_error(answer, head->transaction_id);
	}
	counts->bytes += packet->bytes;
	counts->sent_bytes += AGAIN(answer->bytes);
	// The frame is one that was read, so there is nothing that it could lack.
	return send_back(ctx, packet, answer, settings->is_generic) ? XDP_TX : XDP_DROP;

drop:
	counts->bytes += packet->bytes;
	return XDP_DROP;
}
