//! How requests are processed in a shard, and the responses to them written. Pure.

use std::sync::Arc;

use aquatic_daemon::clock::Now;
use aquatic_daemon::live::SettingsReader;
use aquatic_http_protocol::AnnounceResponse;
use aquatic_swarm::{Counts, PREFETCH_BATCH, TorrentKey};
use aquatic_tracker::interval::AnnounceIntervals;
use aquatic_tracker::shard::addresses::{AddressProcessor, AddressSwarms, AddressTag, PeerAddr};

use aquatic_types::{CompactAddr, CompactV4, CompactV6, IpFamily, PeerStatus, PerFamily, Seconds};

use crate::config::{Config, Intervals};
use crate::counters::{Reason, ResponseKind, WorkerCounters};
use crate::messages::{Announce, Answers, Batch};
use crate::peer_split::{Offered, merge, share_of_first};
use crate::refusal::Refusal;

/// Processes batches in the thread of a shard's owner.
pub struct ResponseWriter {
    /// Those of the owner.
    counters: Arc<WorkerCounters>,
    intervals: AnnounceIntervals,
    /// What `protocol.min_announce_interval` says.
    min_seconds: Option<u32>,
    /// After how many seconds a peer that no longer announces is forgotten.
    peer_age_seconds: u32,
    /// Tells of others.
    settings: SettingsReader<Arc<Config>>,
    /// The peers of the response that is being written: those of the announcer's family, and the
    /// others.
    rows: [Vec<u8>; 2],
}

impl AddressProcessor for ResponseWriter {
    type Batch = Batch;

    /// Announces are taken out of the batch, and the responses put into it; scrapes are filled in.
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
            self.min_seconds = config.intervals().min_seconds;
            self.peer_age_seconds = config.cleaning.max_peer_age;
        }
        self.intervals.refresh();
        let Batch {
            announces,
            scrapes,
            full_scrape,
            answers,
        } = batch;
        self.announce::<_, CompactV6>(IpFamily::V4, now, swarms, &announces.v4, answers);
        self.announce::<_, CompactV4>(IpFamily::V6, now, swarms, &announces.v6, answers);
        announces.v4.clear();
        announces.v6.clear();
        for scrape in scrapes {
            let key = swarms.key(scrape.info_hash);
            let [v4, v6] = IpFamily::ALL.map(|family| swarms.scrape(family, &key));
            scrape.counts = v4 + v6;
        }
        if let Some(scrape) = full_scrape {
            let (swarms, access_list) = swarms.swarms_and_access_list();
            scrape.visit(swarms, |info_hash| access_list.is_allowed(info_hash));
        }
    }
}

impl ResponseWriter {
    /// `counters` are those of the shard's owner. A peer is forgotten `peer_age_seconds` after its
    /// last announce. `settings` tell of other ones.
    #[must_use]
    pub fn new(
        counters: Arc<WorkerCounters>,
        intervals: AnnounceIntervals,
        min_seconds: Option<u32>,
        peer_age_seconds: u32,
        settings: SettingsReader<Arc<Config>>,
    ) -> Self {
        Self {
            counters,
            intervals,
            min_seconds,
            peer_age_seconds,
            settings,
            rows: Default::default(),
        }
    }

    /// `O` is the other family than the announcers'.
    fn announce<K: PeerAddr, O: PeerAddr>(
        &mut self,
        family: IpFamily,
        now: Now,
        swarms: &mut AddressSwarms<impl AddressTag>,
        announces: &[Announce<K>],
        answers: &mut Answers,
    ) {
        let deadline = now.seconds + self.peer_age_seconds;
        let refused = Intervals {
            announce_seconds: self.intervals.present(),
            min_seconds: self.min_seconds,
        };
        for batch in announces.chunks(PREFETCH_BATCH) {
            let keys = swarms.keys(batch.iter().map(|it| it.info_hash));
            swarms.prefetch::<K>(&keys);
            swarms.prefetch::<O>(&keys);
            for (announce, key) in batch.iter().zip(&keys) {
                let target = announce.target;
                let served = self.serve::<K, O>(family, deadline, swarms, key, announce);
                answers.push_with(target.connection, |out| match served {
                    Ok(counts) => {
                        let seconds = self.intervals.draw();
                        self.response(family, announce, counts, seconds)
                            .write(target.framing, out);
                        let traffic = self.counters.traffic(family);
                        traffic.responses(ResponseKind::Announce).add(1);
                    }
                    Err(refusal) => {
                        let traffic = self.counters.traffic(family);
                        refusal.write(refused, target.framing, traffic, out);
                    }
                });
            }
        }
    }

    /// Notes what a peer says, and puts the peers that it gets into `rows`: a fair choice of both
    /// families together.
    fn serve<K: PeerAddr, O: PeerAddr>(
        &mut self,
        family: IpFamily,
        deadline: Seconds,
        swarms: &mut AddressSwarms<impl AddressTag>,
        key: &TorrentKey,
        announce: &Announce<K>,
    ) -> Result<Counts, Refusal> {
        let rows = &mut self.rows;
        rows.iter_mut().for_each(Vec::clear);
        let told = &announce.announce;
        let to = (told.status, &told.peer);
        let wanted = u32::from(told.num_want);
        let others = swarms.available::<O>(key, told.status, None);
        let own = match others {
            0 => 0,
            _ => swarms.available(key, told.status, Some(&told.peer)),
        };
        let is_choice_of_both = others > 0 && wanted < own.saturating_add(others);
        let of_own_family = aquatic_swarm::Announce {
            num_want: match is_choice_of_both {
                true => 0,
                false => told.num_want,
            },
            ..*told
        };
        let [own_rows, other_rows] = &mut *rows;
        let answered = swarms.announce(deadline, key, announce.client, &of_own_family, |peer| {
            own_rows.extend_from_slice(CompactAddr::as_bytes(peer));
        })?;
        if answered.is_kept_out {
            let counters = self.counters.traffic(family);
            counters.reason(Reason::PeersPerIpAndTorrent).add(1);
        }
        if is_choice_of_both {
            let available = Pair { own, others };
            choose::<K, O>(swarms, key, to, available, wanted, rows);
        } else if others > 0 {
            offer::<O>(swarms, key, (told.status, None), wanted, other_rows);
        }
        // A swarm is one for its peers, though it is kept by family.
        Ok(answered.counts + swarms.scrape(family.other(), key))
    }

    fn response<K: PeerAddr>(
        &self,
        family: IpFamily,
        announce: &Announce<K>,
        counts: Counts,
        interval_seconds: u32,
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
            interval_seconds,
            min_interval_seconds: self.min_seconds,
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
    swarms: &mut AddressSwarms<impl AddressTag>,
    key: &TorrentKey,
    (status, announcer): (PeerStatus, &K),
    available: Pair,
    wanted: u32,
    [own_rows, other_rows]: &mut [Vec<u8>; 2],
) {
    let share = share_of_first(available.own, available.others, wanted, swarms.rng());
    let mut offer_each = |swarms: &mut _, wanted: Pair| {
        let own = offer::<K>(swarms, key, (status, Some(announcer)), wanted.own, own_rows);
        let others = offer::<O>(swarms, key, (status, None), wanted.others, other_rows);
        [own, others]
    };
    let shares = Pair {
        own: share,
        others: wanted - share,
    };
    let offered = offer_each(swarms, shares);
    if offered.iter().any(|offered| offered.surplus > 0) {
        // Perhaps the other family has peers whose addresses have not had their share.
        let all = Pair {
            own: wanted,
            others: wanted,
        };
        let offered = offer_each(swarms, all);
        let [own_taken, others_taken] = merge(offered, wanted, swarms.rng());
        own_taken.keep(own_rows, K::SIZE);
        others_taken.keep(other_rows, O::SIZE);
    }
}

/// Puts peers of one family into `rows`.
fn offer<K: PeerAddr>(
    swarms: &mut AddressSwarms<impl AddressTag>,
    key: &TorrentKey,
    to: (PeerStatus, Option<&K>),
    wanted: u32,
    rows: &mut Vec<u8>,
) -> Offered {
    rows.clear();
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    let surplus = swarms.select_peers(key, to, wanted, |peer| {
        rows.extend_from_slice(CompactAddr::as_bytes(peer));
    });
    let peers = u32::try_from(rows.len() / K::SIZE).unwrap_or(u32::MAX);
    Offered {
        shares: peers - surplus,
        surplus,
    }
}
