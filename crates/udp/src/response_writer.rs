//! How requests are processed in a shard, and the responses to them written. Pure.

use std::sync::Arc;

use aquatic_daemon::clock::Now;
use aquatic_daemon::live::SettingsReader;
use aquatic_swarm::{PREFETCH_BATCH, Refusal, TorrentKey};
use aquatic_tracker::interval::AnnounceIntervals;
use aquatic_tracker::shard::addresses::{
    AddressProcessor, AddressSwarms, AddressTag, Answered, PeerAddr,
};

use aquatic_types::{CompactAddr, IpFamily, Seconds};
use aquatic_udp_protocol::{ANNOUNCE_RESPONSE_HEADER_SIZE, AnnounceHeader, ErrorResponse};
use aquatic_udp_socket::Outbox;

use crate::config::Config;
use crate::counters::{Reason, ResponseKind, WorkerCounters};
use crate::messages::{Announce, Batch};

/// Processes batches in the thread of a shard's owner.
pub struct ResponseWriter {
    /// Those of the owner.
    pub counters: Arc<WorkerCounters>,
    /// When peers are to announce again.
    pub intervals: AnnounceIntervals,
    /// After how many seconds a peer that no longer announces is forgotten.
    pub peer_age_seconds: u32,
    /// Tells of another one.
    pub settings: SettingsReader<Arc<Config>>,
    /// Sockets of each socket worker.
    pub sockets: usize,
}

impl AddressProcessor for ResponseWriter {
    type Batch = Batch;

    /// Announces are taken out of the batch, and the responses put into its outboxes; scrapes are
    /// filled in.
    fn process_in<V: AddressTag>(
        &mut self,
        now: Now,
        swarms: &mut AddressSwarms<V>,
        batch: &mut Batch,
    ) {
        if let Some(config) = self.settings.changed() {
            let protocol = &config.protocol;
            self.intervals
                .set(protocol.peer_announce_interval, &protocol.intervals);
            self.peer_age_seconds = config.cleaning.max_peer_age;
        }
        self.intervals.refresh();
        let Batch {
            announces,
            scrapes,
            outboxes,
        } = batch;
        outboxes.resize_with(self.sockets, Outbox::new);
        self.announce(IpFamily::V4, now, swarms, &announces.v4, outboxes);
        self.announce(IpFamily::V6, now, swarms, &announces.v6, outboxes);
        announces.v4.clear();
        announces.v6.clear();
        for scrape in scrapes {
            let key = swarms.key(scrape.info_hash);
            scrape.counts = swarms.scrape(scrape.family, &key);
        }
    }
}

impl ResponseWriter {
    fn announce<K: PeerAddr>(
        &mut self,
        family: IpFamily,
        now: Now,
        swarms: &mut AddressSwarms<impl AddressTag>,
        announces: &[Announce<K>],
        outboxes: &mut [Outbox],
    ) {
        let (mut refused, mut kept_out) = (0, 0);
        let deadline = now.seconds + self.peer_age_seconds;
        for batch in announces.chunks(PREFETCH_BATCH) {
            let keys = swarms.keys(batch.iter().map(|it| it.info_hash));
            swarms.prefetch::<K>(&keys);
            swarms.prefetch_peers(&keys, batch.iter().map(|it| it.announce.peer));
            for (announce, key) in batch.iter().zip(&keys) {
                let Some(outbox) = outboxes.get_mut(usize::from(announce.socket)) else {
                    continue;
                };
                match self.answer_announce(deadline, swarms, key, announce, outbox) {
                    Ok(Answered { is_kept_out, .. }) => kept_out += usize::from(is_kept_out),
                    Err(refusal) => {
                        refused += 1;
                        self.refuse(family, announce, refusal, outbox);
                    }
                }
            }
        }
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
        deadline: Seconds,
        swarms: &mut AddressSwarms<impl AddressTag>,
        key: &TorrentKey,
        announce: &Announce<K>,
        outbox: &mut Outbox,
    ) -> Result<Answered, Refusal> {
        let bytes = outbox.bytes_mut();
        let start = bytes.len();
        bytes.extend_from_slice(&[0; ANNOUNCE_RESPONSE_HEADER_SIZE]);

        let client = announce.client;
        let answered = swarms.announce(deadline, key, client, &announce.announce, |peer| {
            bytes.extend_from_slice(CompactAddr::as_bytes(peer));
        })?;
        let header = AnnounceHeader {
            transaction_id: announce.transaction_id,
            interval_seconds: self.intervals.draw(),
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
        let error = ErrorResponse {
            transaction_id: announce.transaction_id,
            message: refusal.text().as_bytes(),
        };
        outbox.push_with(announce.path, |bytes| error.write(bytes));
    }
}
