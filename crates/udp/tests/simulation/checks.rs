//! What must be true: of an answer, of the counters, and of a tracker at rest.

use std::collections::{BTreeMap, HashSet};

use aquatic_swarm::Refusal;
use aquatic_types::{IpFamily, PeerStatus};
use aquatic_udp::counters::{Label as _, Reason, ResponseKind};
use aquatic_udp_protocol::{AnnounceResponse, Response, ScrapeRow};

use super::coverage::Certainty;
use super::limits::KeptOut;
use super::model::{Announce, OpenAnnounce, OpenScrape};
use super::states::{Bounds, CLIENTS, States, Window};
use super::tracker::add;
use super::world::{Open, OpenRequest, World};

impl World {
    /// Checks the answer to a request that has gone to the swarms.
    pub(crate) fn check_answer(&mut self, open: Open, bytes: &[u8]) {
        let family = open.family;
        let response = Response::parse(bytes, family).expect("answers can be read");
        match (open.request, response) {
            (OpenRequest::Announce(open), Response::Announce(answer)) => {
                self.expect(family, "responses", ResponseKind::Announce.label(), 1);
                self.check_served(&open, &answer);
            }
            (OpenRequest::Announce(open), Response::Error(error)) => {
                self.expect(family, "responses", ResponseKind::Error.label(), 1);
                self.check_refused(&open, error.message);
            }
            (OpenRequest::Scrape(open), Response::Scrape(answer)) => {
                self.expect(family, "responses", ResponseKind::Scrape.label(), 1);
                self.check_scraped(open, answer.rows.iter());
            }
            (_, response) => panic!("an answer of the wrong kind: {response:?}"),
        }
    }

    fn check_served(&mut self, open: &OpenAnnounce, answer: &AnnounceResponse<'_>) {
        let announce = open.announce;
        let room = self.model.room(open).cloned();
        let (window, kept_out) = self.model.end_announce(open, self.now().seconds.0);
        let family = announce.torrent.0;
        let reason = Reason::PeersPerIpAndTorrent.label();
        let own = |status| u32::from(announce.status == status);
        let (is_in, may_be_in) = match kept_out {
            KeptOut::No => (1, 1),
            KeptOut::Maybe => (0, 1),
            KeptOut::Yes => (0, 0),
        };
        match kept_out {
            KeptOut::No => {
                if let Some(room) = room.filter(|_| announce.status != PeerStatus::Stopped) {
                    room.assert_served();
                }
            }
            KeptOut::Maybe => add(&mut self.possible, (family.digit(), "reason", reason), 1),
            KeptOut::Yes => self.expect(family, "reason", reason, 1),
        }
        let header = answer.header;
        assert_eq!(
            header.interval_seconds,
            self.config.protocol.peer_announce_interval
        );

        let others = |states| window.count(states, Some(announce.peer));
        let including_own = |mut others: Bounds, status| {
            others.min += is_in * own(status);
            others.max += may_be_in * own(status);
            others
        };
        let seeders = including_own(others(States::SEEDER), PeerStatus::Seeder);
        let leechers = including_own(others(States::LEECHER), PeerStatus::Leecher);
        self.note_certainty(&[seeders, leechers]);
        assert!(
            seeders.contains(header.seeders),
            "{seeders:?} seeders: {header:?}, {announce:?}"
        );
        assert!(
            leechers.contains(header.leechers),
            "{leechers:?} leechers: {header:?}, {announce:?}"
        );

        // By its own counts, an answer must be as long as it can be.
        let available = match announce.status {
            PeerStatus::Stopped => 0,
            PeerStatus::Seeder => header.leechers,
            PeerStatus::Leecher => header.seeders + header.leechers,
        };
        let is_leecher = own(PeerStatus::Leecher);
        let is_as_long = |own| {
            let others = usize::try_from(available.checked_sub(own * is_leecher)?).ok()?;
            Some(answer.peers.len() == others.min(announce.num_want))
        };
        assert!(
            (is_in..=may_be_in).any(|own| is_as_long(own) == Some(true)),
            "{available} {kept_out:?}: {header:?} {announce:?}"
        );
        let available = usize::try_from(available).unwrap();
        check_peers(&announce, answer, &window);
        self.coverage.peers_max = self.coverage.peers_max.max(available);
    }

    fn check_refused(&mut self, open: &OpenAnnounce, message: &[u8]) {
        let limits = &self.config.limits.tracker;
        let refusals = [
            (
                Refusal::TorrentLimit,
                Reason::TorrentLimit,
                limits.max_torrents,
            ),
            (Refusal::PeerLimit, Reason::PeerLimit, limits.max_peers),
            (
                Refusal::NotAdmitted,
                Reason::PeersPerIp,
                limits.max_peers_per_ip,
            ),
        ];
        let found = refusals
            .iter()
            .find(|(refusal, ..)| refusal.to_string().as_bytes() == message);
        let Some((refusal, reason, limit)) = found else {
            panic!(
                "an announce was refused: {}",
                String::from_utf8_lossy(message)
            );
        };
        assert!(
            *limit > 0,
            "refused by a limit that is not configured: {refusal}"
        );
        if let Some(room) = self.model.room(open) {
            room.assert_refused(*refusal);
        }
        let announce = open.announce;
        let window = self.model.end_refused(open, self.now().seconds.0);
        let was = window
            .peers
            .get(&announce.peer)
            .copied()
            .unwrap_or(States::ABSENT);
        assert!(
            was.may_be(States::ABSENT),
            "a known peer was refused: {refusal}"
        );
        assert_ne!(
            announce.status,
            PeerStatus::Stopped,
            "who leaves was refused: {refusal}"
        );
        self.expect(announce.torrent.0, "reason", reason.label(), 1);
    }

    fn check_scraped(&mut self, open: OpenScrape, rows: impl ExactSizeIterator<Item = ScrapeRow>) {
        let windows = self.model.end_scrape(open);
        assert_eq!(rows.len(), windows.len(), "rows");
        for (row, window) in rows.zip(windows) {
            let Some(window) = window else {
                assert_eq!(row, ScrapeRow::default(), "a torrent that is not allowed");
                continue;
            };
            let seeders = window.count(States::SEEDER, None);
            let leechers = window.count(States::LEECHER, None);
            self.note_certainty(&[seeders, leechers]);
            assert!(
                seeders.contains(row.seeders),
                "{seeders:?} seeders: {row:?}"
            );
            assert!(
                leechers.contains(row.leechers),
                "{leechers:?} leechers: {row:?}"
            );
            assert!(
                window.completed.contains(row.completed),
                "{:?}: {row:?}",
                window.completed
            );
        }
    }

    fn note_certainty(&mut self, bounds: &[Bounds]) {
        let Self {
            is_calm, coverage, ..
        } = self;
        let noted = if *is_calm {
            &mut coverage.calm
        } else {
            &mut coverage.wild
        };
        let certain = bounds.iter().all(|bounds| bounds.is_certain());
        noted.add(Certainty {
            certain: certain.into(),
            all: 1,
        });
    }

    /// What has been counted is what has been seen; answers that have not been seen yet may have
    /// been counted already, each as an answer and, if need be, with a reason.
    pub(crate) fn check_counts(&self) {
        let counts = self.tracker.counts();
        let open = u64::try_from(self.open_requests()).unwrap();
        let mut sure = self.expected.clone();
        for (label, possible) in &self.possible {
            let least = sure.get(label).copied().unwrap_or(0);
            let counted = counts.get(label).copied().unwrap_or(0);
            add(
                &mut sure,
                *label,
                counted.saturating_sub(least).min(*possible),
            );
        }
        sure.retain(|_, count| *count > 0);
        if open == 0 {
            assert_eq!(counts, sure);
        }
        for (label, expected) in &sure {
            let count = counts.get(label).copied().unwrap_or(0);
            assert!(
                count >= *expected,
                "{label:?}: {count} instead of {expected}"
            );
        }
        let surplus = counts.values().sum::<u64>() - sure.values().sum::<u64>();
        assert!(
            surplus <= 2 * open,
            "{surplus} too many: {counts:?}, {sure:?}"
        );
    }

    /// Lets all workers take turns until everything has been answered, and checks that it was.
    pub(crate) fn quiesce(&mut self) {
        // There, answered, and back: no request needs more.
        for _ in 0..3 {
            (0..self.tracker.socket_workers()).for_each(|worker| self.finish(worker));
            let now = self.now();
            (0..self.tracker.swarm_workers()).for_each(|worker| self.tracker.answer(worker, now));
        }
        // A snapshot begins when a worker has its next turn for what nobody waits for.
        let may_be_pending = self.tracker.snapshots.is_busy();
        assert!(
            may_be_pending || !self.tracker.has_pending(),
            "workers have not come to rest"
        );
        for worker in 0..self.tracker.socket_workers() {
            let (unanswered, given_up) = self.take_given_up(worker);
            assert_eq!(
                unanswered.len() as u64,
                given_up,
                "requests that were not answered"
            );
            for open in unanswered {
                self.expect(open.family, "reason", Reason::QueueFull.label(), 1);
                match open.request {
                    OpenRequest::Scrape(scrape) => drop(self.model.end_scrape(scrape)),
                    OpenRequest::Announce(open) => panic!("no answer: {:?}", open.announce),
                }
            }
        }
        assert!(self.model.is_quiet());
        self.check_counts();
    }

    /// Lets everything that has expired be cleaned away, and checks what is left.
    pub(crate) fn settle(&mut self) {
        self.quiesce();
        // This ends a cleaning that may be going on. The next one begins an interval later.
        self.clean();
        self.advance(u64::from(self.config.cleaning.torrent_cleaning_interval) * 1_000_000);
        self.clean();
        self.must_have_cleaned();
        // What is reported is as old as the last slice began, or a second.
        self.advance(1_000_000);
        for shard in 0..self.tracker.shards() {
            self.tracker.maintain(shard, self.now());
        }
        self.check_swarms();
    }

    fn clean(&mut self) {
        for shard in 0..self.tracker.shards() {
            while self.maintain(shard) {}
        }
    }

    /// Compares what the tracker reports about its swarms.
    fn check_swarms(&self) {
        let mut users = CLIENTS.map(|_| Bounds::default());
        for family in IpFamily::ALL {
            let (mut torrents, mut peers) = (Bounds::default(), Bounds::default());
            for swarm in self.model.swarms_of(family) {
                let members = Bounds::count(swarm.iter().copied(), States::PRESENT);
                torrents.add(Bounds {
                    min: members.min.min(1),
                    max: members.max.min(1),
                });
                peers.add(members);
                for (client, users) in users.iter_mut().enumerate() {
                    users.add(Bounds::count(swarm.iter().copied(), States::using(client)));
                }
            }
            let gauges = self.tracker.gauges(family);
            assert!(
                torrents.contains(gauges.0),
                "{gauges:?} torrents, expected {torrents:?}"
            );
            assert!(
                peers.contains(gauges.1),
                "{gauges:?} peers, expected {peers:?}"
            );
            if self.config.statistics.metrics.torrent_peer_histograms {
                assert_eq!(self.tracker.histogram_sums(family), gauges, "histograms");
            }
        }
        let mut reported = self.tracker.clients();
        for (prefix, users) in CLIENTS.into_iter().zip(users) {
            let peers = reported.remove(prefix).unwrap_or(0);
            let counts = self.config.statistics.metrics.peer_clients;
            let expected = if counts { users } else { Bounds::default() };
            assert!(
                expected.contains(peers),
                "{peers} peers with {prefix:?}, expected {expected:?}"
            );
        }
        assert_eq!(reported, BTreeMap::new(), "clients that no one uses");
    }
}

/// Peers must be members of the swarm other than the announcer, no one twice, and none that is of
/// no use to it.
fn check_peers(announce: &Announce, answer: &AnnounceResponse<'_>, window: &Window) {
    let useful = match announce.status {
        PeerStatus::Seeder => States::LEECHER,
        _ => States::PRESENT,
    };
    let mut seen = HashSet::new();
    for peer in answer.peers.iter() {
        assert_ne!(peer, announce.peer, "the announcer itself");
        assert!(seen.insert(peer), "{peer} is there twice");
        let states = window.peers.get(&peer).copied().unwrap_or(States::ABSENT);
        assert!(
            states.may_be(useful),
            "{peer} can only be {states:?}: {announce:?}"
        );
    }
}
