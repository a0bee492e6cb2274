//! The figures of one protocol.

use std::sync::Arc;
use std::time::Duration;

use aquatic_types::{IpFamily, PerFamily};
use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

use super::{ByLabel, Loaded, Persistence, Rates, Swarms, milliseconds};
use crate::launch::Counted;
use crate::metrics::counters::{Protocol, ReasonLabel as _, SwarmGauges, TrafficCounters};
use crate::metrics::report::{ShardReport, empty_histogram};

/// The figures of one protocol.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// `udp`, as in Prometheus' label `protocol`.
    #[serde(skip)]
    pub name: &'static str,
    /// The process serves other protocols, too.
    #[serde(skip)]
    pub is_one_of_several: bool,
    /// What concerns clients of IPv4.
    pub ipv4: FamilyFigures,
    /// The same for IPv6.
    pub ipv6: FamilyFigures,
    /// What has been added per second, lately.
    pub rates: Rates,
    /// Batches that are on their way between workers.
    pub queue_batches: u64,
    /// How long the last cleaning took where it took longest, if this part shows swarms.
    #[serde(serialize_with = "seconds", skip_serializing_if = "Option::is_none")]
    pub cleaning_seconds: Option<Duration>,
    /// Connections, of a protocol that has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<Connections>,
    /// How long clients waited for answers, where that is measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_time: Option<ResponseTimes>,
    /// The file for the next start, if this protocol has one of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Persistence>,
    /// The TLS certificate with its key, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Loaded>,
    /// When the TLS certificate ends, in Unix time, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_expiry_time: Option<f64>,
}

/// What concerns the clients of one IP family.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FamilyFigures {
    /// What is in the swarms; `None` if another protocol shows them.
    #[serde(flatten)]
    pub swarms: Option<Swarms>,
    /// Requests that could be read, by type.
    pub requests: ByLabel,
    /// Answers, by type.
    pub responses: ByLabel,
    /// What got no answer, or answers that could not be sent, by reason.
    pub dropped: ByLabel,
    /// What was answered with an error, by reason.
    pub refused: ByLabel,
    /// Bytes of payload received.
    pub received_bytes: u64,
    /// Bytes of payload sent.
    pub sent_bytes: u64,
    /// Connections that are open, of protocols that have some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// How many peers torrents have, if that is counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers_per_torrent: Option<Distribution>,
    /// What has been added per second, lately.
    pub rates: Rates,
}

/// What is told about how many peers torrents have.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names of the figures say it")]
pub struct Distribution {
    pub min: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
    pub mean: f64,
}

/// All connections of a protocol.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Connections {
    /// That are open now.
    pub open: u64,
    /// That have been accepted.
    pub accepted: u64,
    /// That were refused before their first request, by reason.
    pub refused: ByLabel,
    /// That were accepted and have ended, by reason.
    pub closed: ByLabel,
    /// TLS handshakes, by how they ended.
    pub tls_handshakes: ByLabel,
    /// Times that no connection could be accepted, for want of files or memory.
    pub accept_failures: u64,
    /// What connections hold now, together.
    pub memory_bytes: u64,
}

/// How long clients waited for answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ResponseTimes {
    /// For each upper bound, in microseconds, how many answers took no longer. Since the start.
    #[serde(skip)]
    pub buckets: Vec<(u64, u64)>,
    /// Answers since the start.
    pub count: u64,
    /// All their times together.
    #[serde(rename = "sum_seconds")]
    pub sum: f64,
    /// Half of the answers of the last seconds took no longer; `None` if there were none.
    pub p50_seconds: Option<f64>,
    /// 90 % of them.
    pub p90_seconds: Option<f64>,
    /// 99 % of them.
    pub p99_seconds: Option<f64>,
}

impl Part {
    /// What these workers have counted. Rates are not known yet.
    #[must_use]
    pub fn of<P: Protocol>(counted: &Counted<P>) -> Self {
        let mut families = PerFamily::<FamilyFigures>::default();
        let (mut queue_batches, mut cleaning_micros) = (0, 0);
        for worker in &counted.workers {
            for family in IpFamily::ALL {
                let figures = families.get_mut(family);
                figures.add_traffic(worker.traffic(family));
                if counted.has_swarms {
                    let swarms = figures.swarms.get_or_insert_default();
                    swarms.add(&Swarms::of(worker.swarms(family)));
                }
            }
            queue_batches += worker.batches_in_flight.get();
            cleaning_micros = cleaning_micros.max(worker.shard.cleaning_micros.get());
        }
        let distributions = distributions(&counted.reports);
        let PerFamily {
            v4: mut ipv4,
            v6: mut ipv6,
        } = families;
        ipv4.peers_per_torrent = distributions.v4;
        ipv6.peers_per_torrent = distributions.v6;
        Self {
            name: P::NAME,
            is_one_of_several: counted.is_one_of_several,
            ipv4,
            ipv6,
            rates: Rates::default(),
            queue_batches,
            cleaning_seconds: counted
                .has_swarms
                .then(|| Duration::from_micros(cleaning_micros)),
            connections: None,
            response_time: None,
            persistence: None,
            tls: None,
            certificate_expiry_time: None,
        }
    }

    /// Fills in the state of the protocol's own file.
    pub(super) fn read_persistence(&mut self) {
        if self.is_one_of_several {
            self.persistence = Persistence::of_protocol(self.name);
        }
    }

    /// What concerns one family.
    #[must_use]
    pub fn family(&self, family: IpFamily) -> &FamilyFigures {
        match family {
            IpFamily::V4 => &self.ipv4,
            IpFamily::V6 => &self.ipv6,
        }
    }

    pub(super) fn family_mut(&mut self, family: IpFamily) -> &mut FamilyFigures {
        match family {
            IpFamily::V4 => &mut self.ipv4,
            IpFamily::V6 => &mut self.ipv6,
        }
    }
}

impl FamilyFigures {
    fn add_traffic<P: Protocol>(&mut self, counters: &TrafficCounters<P>) {
        self.requests
            .add(&ByLabel::of(&counters.requests, |_| true));
        let responses = ByLabel::of(&counters.responses, |_| true);
        self.responses.add(&responses);
        let dropped = ByLabel::of(&counters.reasons, |reason| !reason.is_refusal());
        self.dropped.add(&dropped);
        let refused = ByLabel::of(&counters.reasons, |reason| reason.is_refusal());
        self.refused.add(&refused);
        self.received_bytes += counters.received_bytes.get();
        self.sent_bytes += counters.sent_bytes.get();
    }

    /// Adds what concerns the same family in another protocol.
    pub(super) fn add(&mut self, other: &Self) {
        if let Some(swarms) = &other.swarms {
            self.swarms.get_or_insert_default().add(swarms);
        }
        self.requests.add(&other.requests);
        self.responses.add(&other.responses);
        self.dropped.add(&other.dropped);
        self.refused.add(&other.refused);
        self.received_bytes += other.received_bytes;
        self.sent_bytes += other.sent_bytes;
        if let Some(connections) = other.connections {
            *self.connections.get_or_insert_default() += connections;
        }
        self.rates.add(&other.rates);
    }
}

impl Swarms {
    fn of(gauges: &SwarmGauges) -> Self {
        let (peers, seeders) = (gauges.peers.get(), gauges.seeders.get());
        // The worker may have written one of them in between.
        let seeders = seeders.min(peers);
        Self {
            torrents: gauges.torrents.get(),
            seeders,
            leechers: peers - seeders,
            peers,
            completed: gauges.completed.get(),
            evicted: gauges.evicted.get(),
        }
    }
}

/// What these shards have found, if they have counted.
fn distributions(reports: &[Arc<ShardReport>]) -> PerFamily<Option<Distribution>> {
    let mut merged = PerFamily::<Option<Histogram<u32>>>::default();
    for histograms in reports.iter().filter_map(|report| report.histograms()) {
        for family in IpFamily::ALL {
            // Cannot fail: all of these histograms have the same bounds.
            *merged.get_mut(family).get_or_insert_with(empty_histogram) += histograms.get(family);
        }
    }
    PerFamily::new(|family| {
        let histogram = merged.get(family).as_ref();
        let histogram = histogram.filter(|histogram| !histogram.is_empty())?;
        Some(Distribution {
            min: histogram.min(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
            mean: (histogram.mean() * 10.0).round() / 10.0,
        })
    })
}

fn seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => milliseconds(&time.as_secs_f64(), serializer),
        None => serializer.serialize_none(),
    }
}
