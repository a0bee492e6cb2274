//! A shard of the swarms, and the answers to what concerns it. Pure.
//!
//! Whoever owns a [`Shard`] gives it batches of requests to answer, and between batches lets it do
//! a slice of its [background work](Shard::background): forgetting, counting, exporting. No slice
//! takes longer than about a batch does.

mod cleaning;

use std::net::IpAddr;
use std::sync::Arc;

use aquatic_access_list::AccessListReader;
use aquatic_daemon::per_client::PerClient;
use aquatic_swarm::{
    Announced, Counts, HashKey, PeerChange, PeerKey, Refusal, TorrentKey, TorrentMap,
};
use aquatic_types::{CompactAddr, CompactV4, CompactV6, IpFamily, PerFamily, Seconds};
use aquatic_udp_protocol::{
    ANNOUNCE_RESPONSE_HEADER_SIZE, AnnounceHeader, ErrorResponse, ScrapeRow,
};
use aquatic_udp_socket::Outbox;

use self::cleaning::Cleaning;
use crate::Now;
use crate::config::Config;
use crate::counters::{Reason, ResponseKind, WorkerCounters};
use crate::export::ExportWriter;
use crate::messages::{Announce, Batch, Scrape};
use aquatic_tracker::clients::{ClientTable, ClientTag, PeerTag};
use aquatic_tracker::limits::per_shard;
use aquatic_tracker::report::ShardReport;

/// Torrents that one slice of an export looks at.
const EXPORT_SLICE: usize = 256;

/// Requests whose memory is fetched together.
const TOUCH_BATCH: usize = 32;

/// What shards share with each other and with the rest of the daemon.
pub struct ShardParts {
    /// Drawn at random at start; the same for all shards.
    pub hash_key: HashKey,
    /// Seeds this shard's choice of peers.
    pub rng_seed: u64,
    /// Which torrents stay.
    pub access_list: AccessListReader,
    /// Peers per client, if limited.
    pub peers_per_ip: Option<Arc<PerClient>>,
    /// Where the owner of this shard counts.
    pub counters: Arc<WorkerCounters>,
    /// Where this shard reports what is too large for counters.
    pub report: Arc<ShardReport>,
    /// This shard's end of scrape exports, if enabled.
    pub export: Option<ExportWriter>,
}

/// One of the parts into which the torrents are divided by info hash, with its owner's tools.
pub struct Shard(Kind);

/// Tags for client statistics make every peer larger, so there are two kinds of shard.
enum Kind {
    Plain(TaggedShard<()>),
    CountingClients(TaggedShard<ClientTag>),
}

impl Shard {
    /// An empty shard.
    #[must_use]
    pub fn new(config: &Config, parts: ShardParts) -> Self {
        Self(if config.statistics.peer_clients {
            Kind::CountingClients(TaggedShard::new(config, parts))
        } else {
            Kind::Plain(TaggedShard::new(config, parts))
        })
    }
}

impl aquatic_tracker::router::Shard for Shard {
    type Batch = Batch;

    /// Announces are taken out of the batch, and their answers put into its outboxes; scrapes are
    /// answered in place.
    fn answer(&mut self, now: Now, batch: &mut Batch) {
        match &mut self.0 {
            Kind::Plain(shard) => shard.answer(now, batch),
            Kind::CountingClients(shard) => shard.answer(now, batch),
        }
    }

    fn background(&mut self, now: Now) -> bool {
        match &mut self.0 {
            Kind::Plain(shard) => shard.background(now),
            Kind::CountingClients(shard) => shard.background(now),
        }
    }
}

struct TaggedShard<V> {
    swarms: PerFamily<TorrentMap<CompactV4, V>, TorrentMap<CompactV6, V>>,
    /// The keys of the requests that are being answered.
    keys: Vec<TorrentKey>,
    office: Office,
    cleaning: Cleaning,
    next_report_seconds: Seconds,
    report_interval_seconds: u32,
    export: Option<ExportWriter>,
}

/// What is needed to answer, besides the swarms.
struct Office {
    rng: fastrand::Rng,
    clients: ClientTable,
    access_list: AccessListReader,
    peers_per_ip: Option<Arc<PerClient>>,
    counters: Arc<WorkerCounters>,
    report: Arc<ShardReport>,
    announce_interval_seconds: u32,
    peer_age_seconds_max: u32,
}

impl<V: PeerTag> TaggedShard<V> {
    fn new(config: &Config, parts: ShardParts) -> Self {
        let limits = per_shard(&config.limits, config.layout().shards());
        let interval = u32::try_from(config.statistics.interval).unwrap_or(u32::MAX);
        Self {
            swarms: PerFamily {
                v4: TorrentMap::new(parts.hash_key, limits),
                v6: TorrentMap::new(parts.hash_key, limits),
            },
            keys: Vec::with_capacity(TOUCH_BATCH),
            office: Office {
                rng: fastrand::Rng::with_seed(parts.rng_seed),
                clients: ClientTable::new(),
                access_list: parts.access_list,
                peers_per_ip: parts.peers_per_ip,
                counters: parts.counters,
                report: parts.report,
                announce_interval_seconds: config.protocol.peer_announce_interval,
                peer_age_seconds_max: config.cleaning.max_peer_age,
            },
            cleaning: Cleaning::new(config),
            next_report_seconds: Seconds(0) + interval,
            report_interval_seconds: interval,
            export: parts.export,
        }
    }

    fn answer(&mut self, now: Now, batch: &mut Batch) {
        let Batch {
            announces,
            scrapes,
            outboxes,
        } = batch;
        let Self {
            swarms,
            keys,
            office,
            ..
        } = self;
        office.answer_announces(
            IpFamily::V4,
            &mut swarms.v4,
            keys,
            now,
            &announces.v4,
            outboxes,
        );
        office.answer_announces(
            IpFamily::V6,
            &mut swarms.v6,
            keys,
            now,
            &announces.v6,
            outboxes,
        );
        announces.v4.clear();
        announces.v6.clear();
        for scrape in scrapes {
            scrape.row = match scrape.family {
                IpFamily::V4 => row(&swarms.v4, scrape),
                IpFamily::V6 => row(&swarms.v6, scrape),
            };
        }
    }

    fn background(&mut self, now: Now) -> bool {
        self.publish_gauges();
        if now.seconds >= self.next_report_seconds {
            self.next_report_seconds = now.seconds + self.report_interval_seconds;
            self.office.report.set_clients(self.office.clients.iter());
        }
        let cleaning = self.cleaning.slice(now, &mut self.swarms, &mut self.office);
        let exporting = self
            .export
            .as_mut()
            .is_some_and(|export| export.slice(EXPORT_SLICE, &self.swarms.v4, &self.swarms.v6));
        cleaning || exporting
    }

    fn publish_gauges(&self) {
        let PerFamily { v4, v6 } = &self.swarms;
        let counts = [(v4.torrents(), v4.peers()), (v6.torrents(), v6.peers())];
        for (family, (torrents, peers)) in IpFamily::ALL.into_iter().zip(counts) {
            let gauges = self.office.counters.swarms(family);
            gauges.torrents.set(torrents);
            gauges.peers.set(peers);
        }
    }
}

fn row<K: PeerKey, V>(swarms: &TorrentMap<K, V>, scrape: &Scrape) -> ScrapeRow {
    let Counts {
        seeders,
        leechers,
        completed,
    } = swarms.scrape(&swarms.key(scrape.info_hash));
    ScrapeRow {
        seeders,
        completed,
        leechers,
    }
}

impl Office {
    fn answer_announces<K: CompactAddr + PeerKey, V: PeerTag>(
        &mut self,
        family: IpFamily,
        swarms: &mut TorrentMap<K, V>,
        keys: &mut Vec<TorrentKey>,
        now: Now,
        announces: &[Announce<K>],
        outboxes: &mut [Outbox],
    ) {
        let mut refused = 0;
        for batch in announces.chunks(TOUCH_BATCH) {
            keys.clear();
            keys.extend(batch.iter().map(|announce| swarms.key(announce.info_hash)));
            swarms.touch(keys);
            for (announce, key) in batch.iter().zip(keys.iter()) {
                let Some(outbox) = outboxes.get_mut(usize::from(announce.socket)) else {
                    continue;
                };
                if let Err(refusal) = self.answer_announce(swarms, now, key, announce, outbox) {
                    refused += 1;
                    self.refuse(family, announce, refusal, outbox);
                }
            }
        }
        let responses = self.counters.traffic(family);
        responses
            .responses(ResponseKind::Announce)
            .add(announces.len() - refused);
        responses.responses(ResponseKind::Error).add(refused);
    }

    /// Writes the answer straight into the outbox: a gap for the header, the peers as they are
    /// handed out, then the header, when the counts are known.
    fn answer_announce<K: CompactAddr + PeerKey, V: PeerTag>(
        &mut self,
        swarms: &mut TorrentMap<K, V>,
        now: Now,
        key: &TorrentKey,
        announce: &Announce<K>,
        outbox: &mut Outbox,
    ) -> Result<(), Refusal> {
        let bytes = outbox.bytes_mut();
        let start = bytes.len();
        bytes.extend_from_slice(&[0; ANNOUNCE_RESPONSE_HEADER_SIZE]);

        let tag = V::count(announce.client, &mut self.clients);
        let peers_per_ip = self.peers_per_ip.as_deref();
        let outcome = swarms.announce(
            key,
            aquatic_swarm::Announce {
                peer: announce.peer,
                value: tag,
                status: announce.status,
                completed: announce.completed,
                peers_wanted: usize::from(announce.peers_wanted),
                deadline: now.seconds + self.peer_age_seconds_max,
            },
            &mut self.rng,
            |peer| peers_per_ip.is_none_or(|limit| limit.admit(ip_of(peer))),
            |peer, _| bytes.extend_from_slice(CompactAddr::as_bytes(peer)),
        );
        self.settle(tag, &announce.peer, &outcome);

        let counts = outcome?.counts;
        let header = AnnounceHeader {
            transaction_id: announce.transaction_id,
            interval_seconds: self.announce_interval_seconds,
            leechers: counts.leechers,
            seeders: counts.seeders,
        };
        if let Some(gap) = bytes.get_mut(start..start + ANNOUNCE_RESPONSE_HEADER_SIZE) {
            gap.copy_from_slice(&header.to_bytes());
        }
        outbox.finish(announce.path);
        Ok(())
    }

    /// Makes up for the tag that was counted before it was known what becomes of the peer.
    fn settle<K: CompactAddr, V: PeerTag>(
        &mut self,
        tag: V,
        peer: &K,
        outcome: &Result<Announced<V>, Refusal>,
    ) {
        match outcome.as_ref().map(|announced| announced.change) {
            Ok(PeerChange::Added) => {}
            Ok(PeerChange::Updated(old)) => old.discount(&mut self.clients),
            Ok(PeerChange::Absent) | Err(_) => tag.discount(&mut self.clients),
            Ok(PeerChange::Removed(old)) => {
                old.discount(&mut self.clients);
                tag.discount(&mut self.clients);
                self.release(peer);
            }
        }
    }

    fn release<K: CompactAddr>(&self, peer: &K) {
        if let Some(limit) = &self.peers_per_ip {
            limit.release(ip_of(peer));
        }
    }

    fn refuse<K>(
        &self,
        family: IpFamily,
        announce: &Announce<K>,
        refusal: Refusal,
        outbox: &mut Outbox,
    ) {
        let reason = match refusal {
            Refusal::TorrentLimit => Reason::TorrentLimit,
            Refusal::PeerLimit => Reason::PeerLimit,
            Refusal::NotAdmitted => Reason::PeersPerIp,
        };
        self.counters.traffic(family).reason(reason).add(1);
        let message = refusal.to_string();
        let error = ErrorResponse {
            transaction_id: announce.transaction_id,
            message: message.as_bytes(),
        };
        outbox.push_with(announce.path, |bytes| error.write(bytes));
    }
}

fn ip_of<K: CompactAddr>(peer: &K) -> IpAddr {
    peer.socket_addr().ip()
}

#[cfg(test)]
mod tests {
    use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
    use aquatic_tracker::limits::peers_per_ip;
    use aquatic_tracker::router::{Batch as _, Shard as _};
    use aquatic_types::{InfoHash, PeerStatus};
    use aquatic_udp_protocol::{Response, TransactionId};
    use aquatic_udp_socket::ReturnPath;

    use super::*;

    /// A shard, and what it shares with others.
    struct Desk {
        shard: Shard,
        access_list: SharedAccessList,
        report: Arc<ShardReport>,
        counters: Arc<WorkerCounters>,
        config: Config,
        now_seconds: u32,
    }

    impl Desk {
        fn new(set: impl FnOnce(&mut Config)) -> Self {
            let mut config = Config::default();
            config.statistics.peer_clients = true;
            config.statistics.torrent_peer_histograms = true;
            set(&mut config);
            let access_list = SharedAccessList::new(AccessListMode::Deny, AccessList::default());
            let report = Arc::new(ShardReport::default());
            let counters = Arc::new(WorkerCounters::default());
            let parts = ShardParts {
                hash_key: HashKey::new([1, 2]),
                rng_seed: 3,
                access_list: access_list.reader(),
                peers_per_ip: peers_per_ip(&config.limits),
                counters: Arc::clone(&counters),
                report: Arc::clone(&report),
                export: None,
            };
            let shard = Shard::new(&config, parts);
            Self {
                shard,
                access_list,
                report,
                counters,
                config,
                now_seconds: 0,
            }
        }

        fn now(&self) -> Now {
            Now::from_micros(u64::from(self.now_seconds) * 1_000_000)
        }

        /// Announces a peer at 192.0.2.1, and says whether that was served.
        fn announce(&mut self, torrent: u8, port: u16, client: u8, status: PeerStatus) -> bool {
            let mut batch = Batch::new(1);
            batch.announces.v4.push(Announce {
                socket: 0,
                path: ReturnPath::to(([192, 0, 2, 1], 1).into()),
                transaction_id: TransactionId(*b"abcd"),
                info_hash: InfoHash([torrent; 20]),
                peer: CompactV4::new([192, 0, 2, 1].into(), port),
                client: [client; 8],
                status,
                completed: false,
                peers_wanted: 10,
            });
            self.shard.answer(self.now(), &mut batch);
            assert!(batch.is_empty());
            let [outbox] = &batch.outboxes[..] else {
                panic!("one socket");
            };
            assert_eq!(outbox.len(), 1);
            let (_, bytes) = outbox.get(0).unwrap();
            matches!(
                Response::parse(bytes, IpFamily::V4),
                Ok(Response::Announce(_))
            )
        }

        /// Lets time pass, cleans as often as is due, and lets the shard report.
        fn pass(&mut self, seconds: u32) {
            self.now_seconds += seconds;
            while self.shard.background(self.now()) {}
            self.now_seconds += u32::try_from(self.config.statistics.interval).unwrap();
            self.shard.background(self.now());
        }

        fn clients(&mut self) -> Vec<(u8, usize)> {
            self.pass(0);
            let clients = self.report.clients().into_iter();
            let mut clients: Vec<_> = clients.map(|(prefix, peers)| (prefix[0], peers)).collect();
            clients.sort_unstable();
            clients
        }

        /// All the ways in which peers of the torrent leave.
        fn ways_out() -> [fn(&mut Self, u8); 3] {
            [
                |desk, torrent| {
                    for port in 1..=3 {
                        desk.announce(torrent, port, 9, PeerStatus::Stopped);
                    }
                },
                |desk, _| desk.pass(desk.config.cleaning.max_peer_age + 1),
                |desk, torrent| {
                    desk.access_list
                        .replace([InfoHash([torrent; 20])].into_iter().collect());
                    desk.pass(desk.config.cleaning.torrent_cleaning_interval);
                    desk.access_list.replace(AccessList::default());
                },
            ]
        }
    }

    #[test]
    fn clients_are_counted_exactly() {
        let mut desk = Desk::new(|config| config.limits.max_peers = 3);
        for way_out in Desk::ways_out() {
            desk.announce(7, 1, 10, PeerStatus::Leecher);
            desk.announce(7, 2, 10, PeerStatus::Seeder);
            desk.announce(7, 3, 20, PeerStatus::Leecher);
            assert_eq!(desk.clients(), [(10, 2), (20, 1)]);
            desk.announce(7, 1, 20, PeerStatus::Seeder);
            assert_eq!(
                desk.clients(),
                [(10, 1), (20, 2)],
                "a peer has changed its client"
            );
            assert!(!desk.announce(7, 4, 30, PeerStatus::Leecher), "no room");
            desk.announce(7, 5, 30, PeerStatus::Stopped);
            assert_eq!(desk.clients(), [(10, 1), (20, 2)], "neither came in");
            way_out(&mut desk, 7);
            assert_eq!(desk.clients(), []);
        }
    }

    #[test]
    fn peers_per_ip_are_released_on_every_way_out() {
        let mut desk = Desk::new(|config| config.limits.max_peers_per_ip = 3);
        for way_out in Desk::ways_out() {
            for port in 1..=3 {
                assert!(desk.announce(7, port, 1, PeerStatus::Leecher));
            }
            assert!(!desk.announce(8, 1, 1, PeerStatus::Leecher), "too many");
            assert!(
                desk.announce(7, 1, 1, PeerStatus::Seeder),
                "it is known already"
            );
            desk.announce(8, 1, 1, PeerStatus::Stopped);
            assert!(
                !desk.announce(8, 2, 1, PeerStatus::Leecher),
                "no one has left"
            );
            way_out(&mut desk, 7);
        }
        let refused = desk
            .counters
            .traffic(IpFamily::V4)
            .reason(Reason::PeersPerIp);
        assert_eq!(refused.get(), 6);
    }

    #[test]
    fn a_refusal_for_lack_of_room_releases_nothing_and_takes_nothing() {
        let mut desk = Desk::new(|config| {
            config.limits.max_torrents = 1;
            config.limits.max_peers_per_ip = 2;
        });
        assert!(desk.announce(7, 1, 1, PeerStatus::Leecher));
        for port in 1..10 {
            assert!(!desk.announce(8, port, 1, PeerStatus::Leecher));
        }
        assert!(desk.announce(7, 2, 1, PeerStatus::Leecher));
        assert!(!desk.announce(7, 3, 1, PeerStatus::Leecher));
    }

    #[test]
    fn histograms_follow_each_cleaning() {
        let mut desk = Desk::new(|_| {});
        assert!(desk.report.histograms().is_none());
        for (torrent, peers) in [(1, 1), (2, 5), (3, 5), (4, 70)] {
            for port in 1..=peers {
                desk.announce(torrent, port, 1, PeerStatus::Leecher);
            }
        }
        desk.announce(5, 1, 1, PeerStatus::Stopped);
        desk.pass(desk.config.cleaning.torrent_cleaning_interval);
        let histograms = desk.report.histograms().unwrap();
        assert_eq!(histograms.v4.len(), 4);
        assert_eq!(
            [1, 5, 70].map(|size| histograms.v4.count_at(size)),
            [1, 2, 1]
        );
        assert_eq!(histograms.v6.len(), 0);
        desk.pass(desk.config.cleaning.max_peer_age + 1);
        assert_eq!(desk.report.histograms().unwrap().v4.len(), 0);
    }
}
