//! A shard of the swarms, and the answers to what concerns it. Pure.
//!
//! Whoever owns a [`Shard`] gives it batches of requests to answer, and between batches lets it do
//! a slice of its background work: forgetting and counting.

use std::sync::Arc;

use aquatic_access_list::AccessListReader;
use aquatic_daemon::clock::Now;
use aquatic_http_protocol::AnnounceResponse;
use aquatic_swarm::{Counts, TorrentKey};
use aquatic_tracker::clients::{ClientTag, MaybeCounting, PeerTag};
use aquatic_tracker::limits::{bytes_per_shard, per_shard_and_address};
use aquatic_tracker::maintenance::MaintenanceSettings;
use aquatic_tracker::registry::{PeerAddr, Registry, RegistryParts, RegistrySettings};
use aquatic_tracker::router;
use aquatic_types::{CompactAddr, CompactV4, CompactV6, IpFamily, PeerStatus, PerFamily};

use crate::config::{Config, Intervals};
use crate::counters::{Reason, ResponseKind, WorkerCounters};
use crate::messages::{Announce, Answers, Batch};
use crate::refusal::Refusal;
use crate::union::{Offered, merge, share_of_first};

/// Requests whose memory is fetched together.
const TOUCH_BATCH: usize = 32;

/// One of the parts into which the torrents are divided by info hash, with its owner's tools.
pub type Shard = MaybeCounting<TaggedShard<()>, TaggedShard<ClientTag>>;

/// An empty shard. `counters` are those of its owner.
#[must_use]
pub fn new(config: &Config, parts: RegistryParts, counters: Arc<WorkerCounters>) -> Shard {
    if config.metrics.peer_clients {
        MaybeCounting::Counting(TaggedShard::new(config, parts, counters))
    } else {
        MaybeCounting::Plain(TaggedShard::new(config, parts, counters))
    }
}

/// A [`Shard`] that keeps a `V` with each peer, to count clients.
pub struct TaggedShard<V> {
    registry: Registry<V>,
    /// Which torrents a full scrape shows.
    access_list: AccessListReader,
    /// The keys of the requests that are being answered.
    keys: Vec<TorrentKey>,
    /// The peers of the answer that is being made: those of the announcer's family, and the others.
    rows: [Vec<u8>; 2],
    counters: Arc<WorkerCounters>,
    intervals: Intervals,
}

impl<V: PeerTag> TaggedShard<V> {
    fn new(config: &Config, parts: RegistryParts, counters: Arc<WorkerCounters>) -> Self {
        let settings = RegistrySettings {
            limits: per_shard_and_address(
                &config.limits.connections.tracker,
                config.layout().shards(),
                &config.limits.addresses,
                config.protocol.max_response_peers_per_ip,
            ),
            peer_age_seconds_max: config.cleaning.max_peer_age,
            maintenance: MaintenanceSettings {
                bytes_max: bytes_per_shard(
                    &config.limits.connections.tracker,
                    config.layout().shards(),
                ),
                cleaning_interval_seconds: config.cleaning.torrent_cleaning_interval,
                report_interval_seconds: u32::try_from(config.metrics.interval).unwrap_or(u32::MAX),
                peer_histograms: config.metrics.torrent_peer_histograms,
            },
        };
        Self {
            access_list: parts.access_list.clone(),
            registry: Registry::new(settings, parts),
            keys: Vec::with_capacity(TOUCH_BATCH),
            rows: Default::default(),
            counters,
            intervals: config.intervals(),
        }
    }
}

impl<V: PeerTag> router::Shard for TaggedShard<V> {
    type Batch = Batch;

    /// Announces are taken out of the batch, and their answers put into it; scrapes are
    /// answered in place.
    fn answer(&mut self, now: Now, batch: &mut Batch) {
        let Batch {
            announces,
            scrapes,
            full_scrape,
            answers,
        } = batch;
        self.answer_announces::<_, CompactV6>(IpFamily::V4, now, &announces.v4, answers);
        self.answer_announces::<_, CompactV4>(IpFamily::V6, now, &announces.v6, answers);
        announces.v4.clear();
        announces.v6.clear();
        for scrape in scrapes {
            let key = self.registry.key(scrape.info_hash);
            let counts = IpFamily::ALL.map(|family| self.registry.scrape(family, &key));
            scrape.counts = sum(counts);
        }
        if let Some(scrape) = full_scrape {
            let access_list = &mut self.access_list;
            let is_allowed = |info_hash: &_| access_list.is_allowed(info_hash);
            scrape.visit(self.registry.swarms(), is_allowed);
        }
    }

    fn background(&mut self, now: Now) -> bool {
        self.access_list.refresh();
        self.registry.background(now)
    }
}

impl<V: PeerTag> TaggedShard<V> {
    /// `O` is the other family than the announcers'.
    fn answer_announces<K: PeerAddr, O: PeerAddr>(
        &mut self,
        family: IpFamily,
        now: Now,
        announces: &[Announce<K>],
        answers: &mut Answers,
    ) {
        let counters = Arc::clone(&self.counters);
        let mut keys = std::mem::take(&mut self.keys);
        for batch in announces.chunks(TOUCH_BATCH) {
            keys.clear();
            let info_hashes = batch.iter().map(|announce| announce.info_hash);
            keys.extend(info_hashes.map(|info_hash| self.registry.key(info_hash)));
            self.registry.touch::<K>(&keys);
            self.registry.touch::<O>(&keys);
            for (announce, key) in batch.iter().zip(&keys) {
                let path = announce.path;
                let served = self.serve::<K, O>(family, now, key, announce);
                answers.push_with(path.connection, |out| match served {
                    Ok(counts) => {
                        self.response(family, announce, counts)
                            .write(path.framing, out);
                        let responses = counters.traffic(family).responses(ResponseKind::Announce);
                        responses.add(1);
                    }
                    Err(refusal) => {
                        let traffic = counters.traffic(family);
                        refusal.write(self.intervals, path.framing, traffic, out);
                    }
                });
            }
        }
        self.keys = keys;
    }

    /// Notes what a peer says, and puts the peers that it gets into `rows`: a fair choice of both
    /// families together.
    fn serve<K: PeerAddr, O: PeerAddr>(
        &mut self,
        family: IpFamily,
        now: Now,
        key: &TorrentKey,
        announce: &Announce<K>,
    ) -> Result<Counts, Refusal> {
        let Self { registry, rows, .. } = self;
        rows.iter_mut().for_each(Vec::clear);
        let told = &announce.announce;
        let to = (told.status, &told.peer);
        let wanted = u32::from(told.peers_wanted);
        let others = registry.available::<O>(key, told.status, None);
        let own = match others {
            0 => 0,
            _ => registry.available(key, told.status, Some(&told.peer)),
        };
        let is_choice_of_both = others > 0 && wanted < own.saturating_add(others);
        let of_own_family = aquatic_swarm::Announce {
            peers_wanted: match is_choice_of_both {
                true => 0,
                false => told.peers_wanted,
            },
            ..*told
        };
        let [own_rows, other_rows] = &mut *rows;
        let answered = registry.announce(now, key, announce.client, &of_own_family, |peer| {
            own_rows.extend_from_slice(CompactAddr::as_bytes(peer));
        })?;
        if answered.is_kept_out {
            let counters = self.counters.traffic(family);
            counters.reason(Reason::PeersPerIpAndTorrent).add(1);
        }
        if is_choice_of_both {
            let available = Pair { own, others };
            choose::<K, O>(registry, key, to, available, wanted, rows);
        } else if others > 0 {
            offer::<O>(registry, key, (told.status, None), wanted, other_rows);
        }
        let other_counts = registry.scrape(other(family), key);
        Ok(sum([answered.counts, other_counts]))
    }

    fn response<K: PeerAddr>(
        &self,
        family: IpFamily,
        announce: &Announce<K>,
        counts: Counts,
    ) -> AnnounceResponse<'_> {
        let [own, others] = &self.rows;
        let (v4, v6) = match family {
            IpFamily::V4 => (own, others),
            IpFamily::V6 => (others, own),
        };
        AnnounceResponse {
            seeders: counts.seeders,
            completed: counts.completed,
            leechers: counts.leechers,
            interval_seconds: self.intervals.announce_seconds,
            min_interval_seconds: self.intervals.min_seconds,
            external_ip: Some(announce.announce.peer.socket_addr().ip()),
            peers: PerFamily {
                v4: v4.into(),
                v6: v6.into(),
            },
            peer_form: announce.peer_form,
        }
    }
}

/// Numbers of peers: of the announcer's family, and of the other one.
#[derive(Clone, Copy)]
struct Pair {
    own: u32,
    others: u32,
}

/// Puts `wanted` peers into `rows`, where there are more: `available` of the announcer's family and
/// of the other one.
fn choose<K: PeerAddr, O: PeerAddr>(
    registry: &mut Registry<impl PeerTag>,
    key: &TorrentKey,
    (status, announcer): (PeerStatus, &K),
    available: Pair,
    wanted: u32,
    [own_rows, other_rows]: &mut [Vec<u8>; 2],
) {
    let share = share_of_first(available.own, available.others, wanted, registry.rng());
    let mut offer_each = |registry: &mut _, wanted: Pair| {
        let own = offer::<K>(
            registry,
            key,
            (status, Some(announcer)),
            wanted.own,
            own_rows,
        );
        let others = offer::<O>(registry, key, (status, None), wanted.others, other_rows);
        [own, others]
    };
    let shares = Pair {
        own: share,
        others: wanted - share,
    };
    let offered = offer_each(registry, shares);
    if offered.iter().any(|offered| offered.surplus > 0) {
        // Perhaps the other family has peers whose addresses have not had their share.
        let all = Pair {
            own: wanted,
            others: wanted,
        };
        let offered = offer_each(registry, all);
        let [own_taken, others_taken] = merge(offered, wanted, registry.rng());
        own_taken.keep(own_rows, K::SIZE);
        others_taken.keep(other_rows, O::SIZE);
    }
}

/// Puts peers of one family into `rows`.
fn offer<K: PeerAddr>(
    registry: &mut Registry<impl PeerTag>,
    key: &TorrentKey,
    to: (PeerStatus, Option<&K>),
    wanted: u32,
    rows: &mut Vec<u8>,
) -> Offered {
    rows.clear();
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    let surplus = registry.hand_out(key, to, wanted, |peer| {
        rows.extend_from_slice(CompactAddr::as_bytes(peer));
    });
    let peers = u32::try_from(rows.len() / K::SIZE).unwrap_or(u32::MAX);
    Offered {
        shares: peers - surplus,
        surplus,
    }
}

fn other(family: IpFamily) -> IpFamily {
    match family {
        IpFamily::V4 => IpFamily::V6,
        IpFamily::V6 => IpFamily::V4,
    }
}

/// A swarm is one for its peers, though it is kept by family.
pub(crate) fn sum([first, second]: [Counts; 2]) -> Counts {
    Counts {
        seeders: first.seeders.saturating_add(second.seeders),
        leechers: first.leechers.saturating_add(second.leechers),
        completed: first.completed.saturating_add(second.completed),
    }
}
