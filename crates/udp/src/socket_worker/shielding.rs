//! What a worker has to do with the filters in front of its sockets, and with the program in front
//! of the network stack.

use aquatic_types::IpFamily;
use aquatic_udp_socket::UdpSocket;
use aquatic_xdp::Counts;

use super::SocketWorker;
use crate::Now;
use crate::counters::{Reason, RequestKind, ResponseKind, TrafficCounters};
use crate::xdp::Guard;

const FAMILIES: [IpFamily; 2] = [IpFamily::V4, IpFamily::V6];

impl SocketWorker {
    /// Does what is due once a second about filters in front of `sockets`.
    pub(super) fn look_after_shields(&mut self, now: Now, sockets: &[UdpSocket]) {
        let (ids, wrong) = (self.service.connection_ids(), self.wrong());
        self.shields.look_each_second(now, wrong, ids, sockets);
        let ids = self.service.connection_ids();
        if let Some(guard) = &mut self.guard {
            guard.look_each_second(ids);
            for (family, counts) in FAMILIES.into_iter().zip(guard.take_counts()) {
                account(self.counters.traffic(family), &counts);
            }
        }
    }

    /// What would be kept from a socket from now on is for whoever serves next.
    pub(super) fn withdraw(&mut self) {
        if let Some(guard) = &mut self.guard {
            guard.end();
        }
        if let Some(control) = &self.control {
            control.deactivate();
        }
    }

    /// Has the kernel filter what comes to `sockets` if a flood has begun. To be called often.
    pub(super) fn look_for_floods(&mut self, now: Now, sockets: &[UdpSocket]) {
        let (ids, wrong) = (self.service.connection_ids(), self.wrong());
        self.shields.look(now, wrong, ids, sockets);
    }

    /// How many datagrams have come that are no request, or have a connection id that nobody was
    /// given: to this worker, or to filters that count.
    fn wrong(&self) -> u64 {
        const REASONS: [Reason; 5] = [
            Reason::TooShort,
            Reason::TooLong,
            Reason::UnknownAction,
            Reason::NotConnect,
            Reason::Unconnected,
        ];
        let families = FAMILIES.map(|family| self.counters.traffic(family));
        let of = |traffic: &TrafficCounters| REASONS.map(|reason| traffic.reason(reason).get());
        let malformed: u64 = families.into_iter().flat_map(of).sum();
        // They have not come so far.
        let by_guard = self.guard.as_ref().map_or(0, Guard::malformed);
        malformed.saturating_sub(by_guard) + self.service.forged() + self.shields.forged()
    }

    /// Counts what was dropped in front of `socket` since this was called last. Returns how many
    /// datagrams that were.
    pub(super) fn account_filtered(&mut self, socket: usize) -> u64 {
        let dropped = self.shields.take_dropped(socket);
        for (family, dropped) in FAMILIES.into_iter().zip(&dropped) {
            account(self.counters.traffic(family), dropped);
        }
        dropped.iter().map(Counts::dropped).sum()
    }
}

/// Counts what the kernel has dropped or answered as if it had been received, and sent.
fn account(counters: &TrafficCounters, counts: &Counts) {
    let size = |count| usize::try_from(count).unwrap_or(usize::MAX);
    counters.received_bytes.add(size(counts.bytes));
    counters.sent_bytes.add(size(counts.sent_bytes));
    let told = counts.told_announces + counts.told_scrapes;
    let all = counts.dropped() + counts.connects + told;
    counters.in_kernel.add(size(all));
    for (kind, count) in [
        (RequestKind::Connect, counts.connects + counts.answer_rate),
        (
            RequestKind::Announce,
            counts.announces + counts.told_announces,
        ),
        (RequestKind::Scrape, counts.scrapes + counts.told_scrapes),
    ] {
        counters.requests(kind).add(size(count));
    }
    for (kind, count) in [
        (ResponseKind::Connect, counts.connects),
        (ResponseKind::Error, told),
    ] {
        counters.responses(kind).add(size(count));
    }
    for (reason, count) in [
        (Reason::ForgedId, counts.forged()),
        (Reason::ConnectionId, told),
        (Reason::TooShort, counts.too_short),
        (Reason::TooLong, counts.too_long),
        (Reason::UnknownAction, counts.unknown_action),
        (Reason::NotConnect, counts.not_connect),
        (Reason::SourcePortZero, counts.source_port_zero),
        (Reason::NetworkDenied, counts.network_denied),
        (Reason::RequestRate, counts.request_rate),
        (Reason::AnswerRate, counts.answer_rate),
    ] {
        counters.reason(reason).add(size(count));
    }
}
