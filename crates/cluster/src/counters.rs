//! What is counted, and what Prometheus is told of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aquatic_daemon::counter::{Counter, Label};
use aquatic_daemon::exposition::{Exposition, Kind};
use aquatic_tracker::shard::addresses::Taken;
use aquatic_tracker::shard::addresses::outbox::TellReason;

aquatic_daemon::labels! {
    /// Where something was lost.
    pub enum LostAt {
        /// In the outbox of a shard, which nobody has fetched.
        Outbox = "outbox",
        /// In the buffer of what is to be published.
        Buffer = "buffer",
        /// Where what was published waits until the log has it.
        Log = "log",
    }
}

aquatic_daemon::labels! {
    /// Which way bytes go.
    pub enum Direction {
        /// To others.
        Sent = "sent",
        /// From others.
        Received = "received",
    }
}

aquatic_daemon::labels! {
    /// A list that can be kept in the servers.
    pub enum ListKind {
        /// Which torrents are allowed.
        AccessList = "access_list",
        /// The keys of users.
        Keys = "keys",
    }
}

/// What is counted of a bucket.
#[derive(Debug, Default)]
pub struct BucketCounters {
    is_kept: Flag,
    is_heard: Flag,
    /// Times that it was read as a whole.
    pub reads: Counter,
    /// Entries that were put or deleted since.
    pub changes: Counter,
    /// Entries that cannot be used.
    pub invalid: Counter,
}

/// What is counted of announces that are published.
#[derive(Debug, Default)]
pub struct AnnounceCounters {
    /// Announces that the servers have acknowledged.
    pub published: Counter,
    /// Announces for which there was no room.
    pub dropped: Counter,
    /// Messages that were not acknowledged, and are published again.
    pub failures: Counter,
    /// Bytes that wait.
    pub buffered: Counter,
}

impl BucketCounters {
    /// There is a list that is kept in the bucket.
    pub fn set_kept(&self) {
        self.is_kept.0.store(true, Ordering::Relaxed);
    }

    fn is_kept(&self) -> bool {
        self.is_kept.0.load(Ordering::Relaxed)
    }

    /// Whether it is still to be read for the first time.
    pub(crate) fn is_awaited(&self) -> bool {
        self.is_kept() && self.reads.get() == 0
    }

    /// Whether changes are heard.
    pub fn set_heard(&self, is_heard: bool) {
        self.is_heard.0.store(is_heard, Ordering::Relaxed);
    }

    /// The same, to read.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.is_heard.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the histogram of delivery times, in seconds.
const DELIVERY_BOUNDS: [f64; 12] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Counted by the thread that speaks for this process.
#[derive(Debug, Default)]
pub struct Counters {
    is_connected: Flag,
    is_complete: Flag,
    is_reading_log: Flag,
    /// Other processes that are heard.
    pub nodes: Counter,
    /// Records that were published, by [`TellReason`].
    pub published: [Counter; TellReason::ALL.len()],
    /// What became of records of others, by [`Taken`].
    pub taken: [Counter; Taken::ALL.len()],
    /// Records that were lost before they were published, by [`LostAt`].
    pub lost: [Counter; LostAt::ALL.len()],
    /// Batches of others that have never come.
    pub missed: Counter,
    /// Messages of others that came faster than they were taken.
    pub overrun: Counter,
    /// Batches of others that are none.
    pub invalid: Counter,
    /// By [`Direction`].
    pub bytes: [Counter; Direction::ALL.len()],
    /// Bytes that wait for a connection.
    pub buffered: Counter,
    /// Times that a connection was made again.
    pub reconnects: Counter,
    /// Records read in the log.
    pub log_records: Counter,
    /// Times that the log was read to its end.
    pub log_reads: Counter,
    /// Times that it could not be read.
    pub log_failures: Counter,
    /// How long the log was read for the last time, in microseconds.
    pub log_micros: Counter,
    /// The largest difference to the clock of another node, in milliseconds.
    pub skew_millis: Counter,
    /// Of announces for a back end.
    pub announces: AnnounceCounters,
    /// Of each bucket, by [`ListKind`].
    buckets: [BucketCounters; ListKind::ALL.len()],
    delivery: Histogram,
}

/// A number that is 0 or 1.
#[derive(Debug, Default)]
struct Flag(AtomicBool);

#[derive(Debug, Default)]
struct Histogram {
    /// Values not above each bound, and above the one before.
    buckets: [Counter; DELIVERY_BOUNDS.len()],
    count: Counter,
    sum_millis: Counter,
}

impl Counters {
    /// Whether there is a connection.
    pub fn set_connected(&self, is_connected: bool) {
        self.is_connected.0.store(is_connected, Ordering::Relaxed);
    }

    /// The same, to read.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.is_connected.0.load(Ordering::Relaxed)
    }

    /// Whether the swarms of all nodes are known.
    pub fn set_complete(&self, is_complete: bool) {
        self.is_complete.0.store(is_complete, Ordering::Relaxed);
    }

    /// The same, to read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_complete.0.load(Ordering::Relaxed)
    }

    /// Whether the log is being read.
    pub fn set_reading_log(&self, is_reading: bool) {
        self.is_reading_log.0.store(is_reading, Ordering::Relaxed);
    }

    /// The same, to read.
    #[must_use]
    pub fn is_reading_log(&self) -> bool {
        self.is_reading_log.0.load(Ordering::Relaxed)
    }

    /// One of the counters of a label.
    #[must_use]
    pub fn of<L: Label>(counters: &[Counter], label: L) -> &Counter {
        static NOWHERE: Counter = Counter::new();
        counters.get(label.index()).unwrap_or(&NOWHERE)
    }

    /// Of the bucket of this list.
    #[must_use]
    pub fn bucket(&self, kind: ListKind) -> &BucketCounters {
        let [access_list, keys] = &self.buckets;
        match kind {
            ListKind::AccessList => access_list,
            ListKind::Keys => keys,
        }
    }

    /// Whether a list that is kept in the servers is still to be read for the first time.
    pub(crate) fn awaits_lists(&self) -> bool {
        self.buckets.iter().any(BucketCounters::is_awaited)
    }

    /// A batch has come this long after the first record was written into it.
    pub fn note_delivery(&self, millis: u64) {
        let Histogram {
            buckets,
            count,
            sum_millis,
        } = &self.delivery;
        #[expect(clippy::cast_precision_loss, reason = "milliseconds, not millennia")]
        let seconds = millis as f64 / 1_000.0;
        let bucket = DELIVERY_BOUNDS.iter().position(|bound| seconds <= *bound);
        if let Some(bucket) = bucket.and_then(|place| buckets.get(place)) {
            bucket.add(1);
        }
        count.add(1);
        sum_millis.add(usize::try_from(millis).unwrap_or(usize::MAX));
    }
}

/// Adds the metrics of the cluster.
pub fn write(counters: &Arc<Counters>, text: &mut Exposition) {
    write_states(counters, text);
    write_records(counters, text);
    write_log(counters, text);
    write_buckets(counters, text);
    write_announces(&counters.announces, text);
}

fn write_announces(counters: &AnnounceCounters, text: &mut Exposition) {
    for (name, kind, help, counter) in [
        (
            "aquatic_cluster_announces_published_total",
            Kind::Counter,
            "Announces that the servers have taken for a back end",
            &counters.published,
        ),
        (
            "aquatic_cluster_announces_dropped_total",
            Kind::Counter,
            "Announces that a back end does not hear of, for lack of room",
            &counters.dropped,
        ),
        (
            "aquatic_cluster_announce_failures_total",
            Kind::Counter,
            "Messages with announces that the servers did not acknowledge: they are sent again",
            &counters.failures,
        ),
        (
            "aquatic_cluster_announces_buffered_bytes",
            Kind::Gauge,
            "Bytes of announces that wait to be published",
            &counters.buffered,
        ),
    ] {
        text.family(name, kind, help).sample(&[], counter.get());
    }
}

fn write_buckets(counters: &Counters, text: &mut Exposition) {
    type Of = fn(&BucketCounters) -> &Counter;
    // One that is not kept there is not missed.
    let kept = ListKind::ALL.iter().copied();
    let kept = kept.filter(|kind| counters.bucket(*kind).is_kept());
    let kept: Vec<ListKind> = kept.collect();
    if kept.is_empty() {
        return;
    }
    let name = "aquatic_cluster_bucket_connected";
    let help = "1 while changes of the list in its bucket are heard";
    let mut family = text.family(name, Kind::Gauge, help);
    for kind in &kept {
        let is_heard = counters.bucket(*kind).is_heard();
        family.sample(&[("list", kind.label())], u8::from(is_heard));
    }
    let read: [(&str, &str, Of); 3] = [
        (
            "aquatic_cluster_bucket_reads_total",
            "Times that the list was read in its bucket as a whole",
            |bucket| &bucket.reads,
        ),
        (
            "aquatic_cluster_bucket_changes_total",
            "Entries that were put into the bucket or deleted there, as heard",
            |bucket| &bucket.changes,
        ),
        (
            "aquatic_cluster_bucket_invalid_total",
            "Entries of the bucket that cannot be used",
            |bucket| &bucket.invalid,
        ),
    ];
    for (name, help, of) in read {
        let mut family = text.family(name, Kind::Counter, help);
        for kind in &kept {
            let value = of(counters.bucket(*kind)).get();
            family.sample(&[("list", kind.label())], value);
        }
    }
}

fn write_states(counters: &Counters, text: &mut Exposition) {
    for (name, help, value) in [
        (
            "aquatic_cluster_connected",
            "1 while there is a connection with a server of the cluster",
            counters.is_connected(),
        ),
        (
            "aquatic_cluster_complete",
            "1 since the swarms of all nodes were known for the first time",
            counters.is_complete(),
        ),
        (
            "aquatic_cluster_reading_log",
            "1 while what was missed is read in the log",
            counters.is_reading_log(),
        ),
    ] {
        let mut family = text.family(name, Kind::Gauge, help);
        family.sample(&[], u8::from(value));
    }
    for (name, help, value) in [
        (
            "aquatic_cluster_nodes",
            "Nodes of the cluster that are heard, with this one",
            counters.nodes.get() + 1,
        ),
        (
            "aquatic_cluster_buffered_bytes",
            "Bytes that wait to be published",
            counters.buffered.get(),
        ),
    ] {
        text.family(name, Kind::Gauge, help).sample(&[], value);
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge of Prometheus is a float"
    )]
    let skew = counters.skew_millis.get() as f64 / 1_000.0;
    let help = "The largest difference between the clock of this node and that of another";
    text.family("aquatic_cluster_clock_skew_seconds", Kind::Gauge, help)
        .sample(&[], skew);
    let help = "Times that a lost connection with the servers of the cluster was made again";
    text.family("aquatic_cluster_reconnects_total", Kind::Counter, help)
        .sample(&[], counters.reconnects.get());
}

fn write_labelled<L: Label>(
    text: &mut Exposition,
    (name, help): (&str, &str),
    label: &str,
    counters: &[Counter],
) {
    let mut family = text.family(name, Kind::Counter, help);
    for (value, counter) in L::ALL.iter().zip(counters) {
        family.sample(&[(label, value.label())], counter.get());
    }
}

fn write_records(counters: &Counters, text: &mut Exposition) {
    let (name, help) = (
        "aquatic_cluster_records_published_total",
        "Peers that other nodes were told of",
    );
    write_labelled::<TellReason>(text, (name, help), "reason", &counters.published);
    let (name, help) = (
        "aquatic_cluster_records_received_total",
        "Peers that other nodes have told of",
    );
    write_labelled::<Taken>(text, (name, help), "outcome", &counters.taken);
    let (name, help) = (
        "aquatic_cluster_records_dropped_total",
        "Peers that other nodes should have been told of, and were not for lack of room",
    );
    write_labelled::<LostAt>(text, (name, help), "at", &counters.lost);
    let (name, help) = (
        "aquatic_cluster_bytes_total",
        "Bytes of messages from and to other nodes",
    );
    write_labelled::<Direction>(text, (name, help), "direction", &counters.bytes);
    for (name, help, counter) in [
        (
            "aquatic_cluster_batches_missed_total",
            "Batches of other nodes that have never come",
            &counters.missed,
        ),
        (
            "aquatic_cluster_messages_overrun_total",
            "Messages of other nodes that came faster than they were taken in, and are lost",
            &counters.overrun,
        ),
        (
            "aquatic_cluster_messages_invalid_total",
            "Messages that no tracker can have meant",
            &counters.invalid,
        ),
    ] {
        text.family(name, Kind::Counter, help)
            .sample(&[], counter.get());
    }
    let Histogram {
        buckets,
        count,
        sum_millis,
    } = &counters.delivery;
    let mut not_above = 0;
    let buckets = DELIVERY_BOUNDS.iter().zip(buckets).map(|(bound, bucket)| {
        not_above += bucket.get();
        (*bound, not_above)
    });
    #[expect(clippy::cast_precision_loss, reason = "a sum of Prometheus is a float")]
    let sum = sum_millis.get() as f64 / 1_000.0;
    let help = "From the first announce in a batch at another node until it is taken in here";
    text.family("aquatic_cluster_delivery_seconds", Kind::Histogram, help)
        .histogram(&[], buckets, count.get(), sum);
}

fn write_log(counters: &Counters, text: &mut Exposition) {
    for (name, help, counter) in [
        (
            "aquatic_cluster_replay_records_total",
            "Peers that were read in the log",
            &counters.log_records,
        ),
        (
            "aquatic_cluster_replays_total",
            "Times that the log was read to its end",
            &counters.log_reads,
        ),
        (
            "aquatic_cluster_replay_failures_total",
            "Times that the log could not be read",
            &counters.log_failures,
        ),
    ] {
        text.family(name, Kind::Counter, help)
            .sample(&[], counter.get());
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge of Prometheus is a float"
    )]
    let seconds = counters.log_micros.get() as f64 / 1e6;
    let help = "For how long the log was read the last time";
    text.family("aquatic_cluster_replay_seconds", Kind::Gauge, help)
        .sample(&[], seconds);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(counters: &Arc<Counters>) -> String {
        let mut text = Exposition::default();
        write(counters, &mut text);
        text.into_text()
    }

    /// Somebody would be alarmed that they are not heard.
    #[test]
    fn lists_that_are_not_kept_in_the_servers_are_not_shown() {
        let counters = Arc::<Counters>::default();
        assert!(!written(&counters).contains("aquatic_cluster_bucket"));
        counters.bucket(ListKind::Keys).set_kept();
        let text = written(&counters);
        assert!(text.contains("aquatic_cluster_bucket_connected{list=\"keys\"} 0\n"));
        assert!(!text.contains("list=\"access_list\""));
    }
}
