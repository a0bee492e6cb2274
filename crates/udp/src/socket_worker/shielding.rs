//! What a worker has to do with the filters in front of its sockets.

use aquatic_types::IpFamily;
use aquatic_udp_socket::UdpSocket;
use aquatic_xdp::Counts;

use super::SocketWorker;
use crate::Now;
use crate::counters::{Reason, RequestKind, TrafficCounters};

impl SocketWorker {
    /// Does what is due once a second about filters in front of `sockets`.
    pub(super) fn look_after_shields(&mut self, now: Now, sockets: &[UdpSocket]) {
        let (ids, wrong) = (self.service.connection_ids(), self.wrong());
        self.shields.look_each_second(now, wrong, ids, sockets);
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
        let families = [IpFamily::V4, IpFamily::V6].map(|family| self.counters.traffic(family));
        let of = |traffic: &TrafficCounters| REASONS.map(|reason| traffic.reason(reason).get());
        let malformed: u64 = families.into_iter().flat_map(of).sum();
        malformed + self.service.forged() + self.shields.forged()
    }

    /// Counts what was dropped in front of `socket` since this was called last. Returns how many
    /// datagrams that were.
    pub(super) fn account_filtered(&mut self, socket: usize) -> u64 {
        let dropped = self.shields.take_dropped(socket);
        let families = [IpFamily::V4, IpFamily::V6];
        for (family, dropped) in families.into_iter().zip(&dropped) {
            account_dropped(self.counters.traffic(family), dropped);
        }
        dropped.iter().map(Counts::dropped).sum()
    }
}

/// Counts what was dropped as if it had been received.
fn account_dropped(counters: &TrafficCounters, dropped: &Counts) {
    let size = |count| usize::try_from(count).unwrap_or(usize::MAX);
    counters.received_bytes.add(size(dropped.bytes));
    for (kind, count) in [
        (RequestKind::Announce, dropped.announces),
        (RequestKind::Scrape, dropped.scrapes),
    ] {
        counters.requests(kind).add(size(count));
        counters.reason(Reason::ForgedId).add(size(count));
    }
    for (reason, count) in [
        (Reason::TooShort, dropped.too_short),
        (Reason::UnknownAction, dropped.unknown_action),
        (Reason::NotConnect, dropped.not_connect),
    ] {
        counters.reason(reason).add(size(count));
    }
}
