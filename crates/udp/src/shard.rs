//! A shard of the swarms, and the answers to what concerns it. Pure.
//!
//! Whoever owns a [`Shard`] gives it batches of requests to answer, and between batches lets it do
//! a slice of its background work: forgetting, counting, exporting. No slice takes longer than
//! about a batch does.

use std::sync::Arc;

use aquatic_swarm::{Counts, Refusal, TorrentKey};
use aquatic_tracker::clients::{ClientTag, MaybeCounting, PeerTag};
use aquatic_tracker::limits::{bytes_per_shard, per_shard_and_address};
use aquatic_tracker::maintenance::MaintenanceSettings;
use aquatic_tracker::registry::{Answered, PeerAddr, Registry, RegistryParts, RegistrySettings};
use aquatic_tracker::router;
use aquatic_types::{CompactAddr, IpFamily};
use aquatic_udp_protocol::{
    ANNOUNCE_RESPONSE_HEADER_SIZE, AnnounceHeader, ErrorResponse, ScrapeRow,
};
use aquatic_udp_socket::Outbox;

use crate::Now;
use crate::config::Config;
use crate::counters::{Reason, ResponseKind, WorkerCounters};
use crate::export::ExportWriter;
use crate::messages::{Announce, Batch};

/// Torrents that one slice of an export looks at.
const EXPORT_SLICE: usize = 256;

/// Requests whose memory is fetched together.
const TOUCH_BATCH: usize = 32;

/// One of the parts into which the torrents are divided by info hash, with its owner's tools.
pub type Shard = MaybeCounting<TaggedShard<()>, TaggedShard<ClientTag>>;

/// An empty shard. `counters` are those of its owner; `export` is its end of scrape exports, if
/// enabled.
#[must_use]
pub fn new(
    config: &Config,
    parts: RegistryParts,
    counters: Arc<WorkerCounters>,
    export: Option<ExportWriter>,
) -> Shard {
    if config.statistics.metrics.peer_clients {
        MaybeCounting::Counting(TaggedShard::new(config, parts, counters, export))
    } else {
        MaybeCounting::Plain(TaggedShard::new(config, parts, counters, export))
    }
}

/// A [`Shard`] that keeps a `V` with each peer, to count clients.
pub struct TaggedShard<V> {
    registry: Registry<V>,
    /// The keys of the requests that are being answered.
    keys: Vec<TorrentKey>,
    counters: Arc<WorkerCounters>,
    announce_interval_seconds: u32,
    export: Option<ExportWriter>,
}

impl<V: PeerTag> TaggedShard<V> {
    fn new(
        config: &Config,
        parts: RegistryParts,
        counters: Arc<WorkerCounters>,
        export: Option<ExportWriter>,
    ) -> Self {
        let settings = RegistrySettings {
            limits: per_shard_and_address(
                &config.limits.tracker,
                config.layout().shards(),
                &config.limits.addresses,
                config.protocol.max_response_peers_per_ip,
            ),
            peer_age_seconds_max: config.cleaning.max_peer_age,
            maintenance: MaintenanceSettings {
                bytes_max: bytes_per_shard(&config.limits.tracker, config.layout().shards()),
                cleaning_interval_seconds: config.cleaning.torrent_cleaning_interval,
                report_interval_seconds: u32::try_from(config.statistics.metrics.interval)
                    .unwrap_or(u32::MAX),
                peer_histograms: config.statistics.metrics.torrent_peer_histograms,
            },
        };
        Self {
            registry: Registry::new(settings, parts),
            keys: Vec::with_capacity(TOUCH_BATCH),
            counters,
            announce_interval_seconds: config.protocol.peer_announce_interval,
            export,
        }
    }
}

impl<V: PeerTag> router::Shard for TaggedShard<V> {
    type Batch = Batch;

    /// Announces are taken out of the batch, and their answers put into its outboxes; scrapes are
    /// answered in place.
    fn answer(&mut self, now: Now, batch: &mut Batch) {
        let Batch {
            announces,
            scrapes,
            outboxes,
        } = batch;
        self.answer_announces(IpFamily::V4, now, &announces.v4, outboxes);
        self.answer_announces(IpFamily::V6, now, &announces.v6, outboxes);
        announces.v4.clear();
        announces.v6.clear();
        for scrape in scrapes {
            let key = self.registry.key(scrape.info_hash);
            let Counts {
                seeders,
                leechers,
                completed,
            } = self.registry.scrape(scrape.family, &key);
            scrape.row = ScrapeRow {
                seeders,
                completed,
                leechers,
            };
        }
    }

    fn background(&mut self, now: Now) -> bool {
        let cleaning = self.registry.background(now);
        let swarms = self.registry.swarms();
        let exporting = self
            .export
            .as_mut()
            .is_some_and(|export| export.slice(EXPORT_SLICE, &swarms.v4, &swarms.v6));
        cleaning || exporting
    }
}

impl<V: PeerTag> TaggedShard<V> {
    fn answer_announces<K: PeerAddr>(
        &mut self,
        family: IpFamily,
        now: Now,
        announces: &[Announce<K>],
        outboxes: &mut [Outbox],
    ) {
        let (mut refused, mut kept_out) = (0, 0);
        let mut keys = std::mem::take(&mut self.keys);
        for batch in announces.chunks(TOUCH_BATCH) {
            keys.clear();
            let info_hashes = batch.iter().map(|announce| announce.info_hash);
            keys.extend(info_hashes.map(|info_hash| self.registry.key(info_hash)));
            let peers = batch.iter().map(|it| it.announce.peer);
            self.registry.touch::<K>(&keys);
            self.registry.touch_peers(&keys, peers);
            for (announce, key) in batch.iter().zip(&keys) {
                let Some(outbox) = outboxes.get_mut(usize::from(announce.socket)) else {
                    continue;
                };
                match self.answer_announce(now, key, announce, outbox) {
                    Ok(Answered { is_kept_out, .. }) => kept_out += usize::from(is_kept_out),
                    Err(refusal) => {
                        refused += 1;
                        self.refuse(family, announce, refusal, outbox);
                    }
                }
            }
        }
        self.keys = keys;
        let counters = self.counters.traffic(family);
        let answered = announces.len() - refused;
        counters.responses(ResponseKind::Announce).add(answered);
        counters.responses(ResponseKind::Error).add(refused);
        if kept_out > 0 {
            let reason = counters.reason(Reason::PeersPerIpAndTorrent);
            reason.add(kept_out);
        }
    }

    /// Writes the answer straight into the outbox: a gap for the header, the peers as they are
    /// handed out, then the header, when the counts are known.
    fn answer_announce<K: PeerAddr>(
        &mut self,
        now: Now,
        key: &TorrentKey,
        announce: &Announce<K>,
        outbox: &mut Outbox,
    ) -> Result<Answered, Refusal> {
        let bytes = outbox.bytes_mut();
        let start = bytes.len();
        bytes.extend_from_slice(&[0; ANNOUNCE_RESPONSE_HEADER_SIZE]);

        let client = announce.client;
        let answered = self
            .registry
            .announce(now, key, client, &announce.announce, |peer| {
                bytes.extend_from_slice(CompactAddr::as_bytes(peer));
            })?;
        let header = AnnounceHeader {
            transaction_id: announce.transaction_id,
            interval_seconds: self.announce_interval_seconds,
            leechers: answered.counts.leechers,
            seeders: answered.counts.seeders,
        };
        if let Some(gap) = bytes.get_mut(start..start + ANNOUNCE_RESPONSE_HEADER_SIZE) {
            gap.copy_from_slice(&header.to_bytes());
        }
        outbox.finish(announce.path);
        Ok(answered)
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
            Refusal::MemoryLimit => Reason::MemoryLimit,
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
