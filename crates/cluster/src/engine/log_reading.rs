//! When the log is read, and from when on.

use std::time::Duration;

use aquatic_daemon::clock::Now;

use crate::counters::Counters;
use crate::table::Before;
use crate::times::Times;

/// What is read from the time before something was noticed: batches travel for a while, and clocks
/// are not the same.
const MARGIN_MICROS: u64 = 10_000_000;

/// So soon after a connection was made every node that is alive was heard. What these have
/// published before is read in the log anyway.
const ALL_HEARD_MICROS: u64 = 10_000_000;

/// Every node tells once in a second that it is alive, and how much it has published.
const ALIVE_HEARD_MICROS: u64 = 1_500_000;

/// An interruption after which nodes have been taken for gone, or nearly.
const LONG_INTERRUPTION_MICROS: u64 = 25_000_000;

/// So long lists are waited for that are kept in the servers.
const LISTS_MICROS: u64 = 10_000_000;

/// Time between the ends of two readings, if there are holes all the time.
const PAUSE_MICROS: u64 = 5_000_000;

/// After a failure it is tried again: soon, as servers that have just found each other again need
/// some seconds until one of them leads the log, and another one the servers; and then less often.
const RETRY_MIN_MICROS: u64 = 1_000_000;
const EAGER_MICROS: u64 = 20_000_000;
const RETRY_MAX_MICROS: u64 = 10_000_000;

/// If something is still missing after it was read, it is read again so often after a connection
/// was made, or a node has come back: the copy of a server that was cut off may be behind.
const RESTS_MAX: u32 = 2;

/// Decides it.
#[derive(Debug)]
pub(super) struct LogReading {
    has_log: bool,
    life_micros: u64,
    complete_after_micros: u64,
    /// Something may have been read that lists did not let in yet.
    awaited_lists: bool,
    /// From when on something has to be read. Before the start of the process it is negative.
    wished_since: Option<i64>,
    reading: Option<Reading>,
    /// What was published between these times has been read.
    read: Option<(i64, i64)>,
    not_before_micros: u64,
    first_connected_micros: Option<u64>,
    connected_micros: u64,
    /// The connection is known to have been alive then.
    alive_micros: u64,
    disconnected_micros: Option<u64>,
    is_complete: bool,
    /// It will be when what was read is in the shards.
    is_nearly_complete: bool,
    /// There has been a log since all peers were told of for the last time.
    is_old: bool,
    has_complained: bool,
    retry_micros: u64,
    /// Until then it is tried again soon.
    eager_until_micros: u64,
    /// Readings for what was still missing.
    rests: u32,
    records_before: u64,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    began_micros: u64,
    since: i64,
}

impl LogReading {
    pub(super) fn new(has_log: bool, times: Times) -> Self {
        let mut reading = Self {
            has_log,
            life_micros: 0,
            complete_after_micros: 0,
            awaited_lists: false,
            wished_since: None,
            reading: None,
            read: None,
            not_before_micros: 0,
            first_connected_micros: None,
            connected_micros: 0,
            alive_micros: 0,
            disconnected_micros: None,
            is_complete: false,
            is_nearly_complete: false,
            is_old: false,
            has_complained: false,
            retry_micros: RETRY_MIN_MICROS,
            eager_until_micros: 0,
            rests: 0,
            records_before: 0,
        };
        reading.set_times(times);
        reading
    }

    pub(super) fn set_times(&mut self, times: Times) {
        self.life_micros = u64::from(times.life) * 1_000_000;
        self.complete_after_micros = u64::from(times.told_within) * 1_000_000;
    }

    pub(super) fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// Whether what was published so long ago has been read to its end before.
    pub(super) fn has_read(&self, now: Now, age_millis: u64) -> bool {
        let micros = age_millis.saturating_mul(1_000);
        let published = now.micros.cast_signed().saturating_sub_unsigned(micros);
        let is_in = |(first, last)| (first..last).contains(&published);
        self.read.is_some_and(is_in)
    }

    /// Wishes that everything is read that was published in the last `micros`.
    fn wish(&mut self, now: Now, micros: u64) {
        self.wish_since(self.since(now, micros));
    }

    fn wish_since(&mut self, since: i64) {
        self.wished_since = Some(self.wished_since.map_or(since, |wished| wished.min(since)));
    }

    fn since(&self, now: Now, micros: u64) -> i64 {
        let micros = micros.min(self.life_micros);
        now.micros.cast_signed().saturating_sub_unsigned(micros)
    }

    /// Everything has to be read.
    pub(super) fn wish_all(&mut self, now: Now) {
        self.wish(now, self.life_micros);
    }

    /// There is a connection. Returns whether it is not the first one.
    pub(super) fn connected(&mut self, now: Now, keeps_members: bool) -> bool {
        let is_again = self.first_connected_micros.is_some();
        self.first_connected_micros.get_or_insert(now.micros);
        self.rests = 0;
        self.be_eager(now);
        self.connected_micros = now.micros;
        self.alive_micros = now.micros;
        let interruption = self.disconnected_micros.take();
        let interruption = interruption.map(|since| now.micros.saturating_sub(since));
        match interruption {
            Some(micros)
                if self.is_complete && !(keeps_members && micros > LONG_INTERRUPTION_MICROS) =>
            {
                self.wish(now, micros.saturating_add(MARGIN_MICROS));
            }
            _ => self.wish_all(now),
        }
        self.not_before_micros = now.micros;
        is_again
    }

    /// The connection is alive.
    pub(super) fn confirmed(&mut self, now: Now) {
        self.alive_micros = now.micros;
    }

    /// It was lost, maybe some time ago.
    pub(super) fn disconnected(&mut self) {
        self.disconnected_micros.get_or_insert(self.alive_micros);
        self.give_up();
    }

    /// Whether what a process has published, which was heard before like this, should have been
    /// heard.
    pub(super) fn is_to_be_heard(&self, now: Now, before: Before) -> bool {
        let connected_for = now.micros.saturating_sub(self.connected_micros);
        before != Before::Never || connected_for >= ALL_HEARD_MICROS
    }

    /// Something was not heard that was published since its process was heard before, when its last
    /// message was so old already. What has been read is not read again: so nobody who counts his
    /// batches as he likes makes others read the same all the time.
    pub(super) fn missed(&mut self, now: Now, before: Before, behind_micros: u64) {
        if matches!(before, Before::Gone(_)) {
            self.rests = 0;
            self.be_eager(now);
        }
        let ago = match before {
            Before::Never => self.life_micros,
            Before::Gone(micros) | Before::Ago(micros) => micros.saturating_add(behind_micros),
        };
        let mut since = self.since(now, ago.saturating_add(MARGIN_MICROS));
        if let Some((first, last)) = self.read
            && first <= since
        {
            since = since.max(last.saturating_sub_unsigned(MARGIN_MICROS));
        }
        self.wish_since(since);
    }

    /// Servers that were apart become one again.
    fn be_eager(&mut self, now: Now) {
        self.retry_micros = RETRY_MIN_MICROS;
        self.eager_until_micros = now.micros + EAGER_MICROS;
    }

    /// What was being read has to be read again.
    fn give_up(&mut self) {
        if let Some(Reading { since, .. }) = self.reading.take() {
            let wished = self.wished_since.map_or(since, |wished| wished.min(since));
            self.wished_since = Some(wished);
        }
    }

    /// From how long ago on the log is to be read, if that should begin now. `awaits_lists`: there
    /// are lists in the servers that were not read yet, and may let in more than is let in now.
    pub(super) fn next(
        &mut self,
        now: Now,
        is_connected: bool,
        awaits_lists: bool,
    ) -> Option<Duration> {
        if !awaits_lists && std::mem::take(&mut self.awaited_lists) {
            self.wish_all(now);
        }
        let may_begin = self.has_log && is_connected && self.reading.is_none();
        let lists_due = self.connected_micros + LISTS_MICROS;
        if !may_begin
            || now.micros < self.not_before_micros
            || (awaits_lists && now.micros < lists_due)
        {
            return None;
        }
        let since = self.wished_since.take()?;
        self.awaited_lists |= awaits_lists;
        self.reading = Some(Reading {
            began_micros: now.micros,
            since,
        });
        let ago = now.micros.cast_signed().saturating_sub(since);
        Some(Duration::from_micros(
            u64::try_from(ago).unwrap_or_default(),
        ))
    }

    /// The log was read to its end. `age`: for how long there has been one. `lacks_some`: what was
    /// missed is not among what was read.
    pub(super) fn ended(&mut self, now: Now, age: Duration, lacks_some: bool, counters: &Counters) {
        let Some(Reading {
            began_micros,
            since,
        }) = self.reading.take()
        else {
            return;
        };
        let began = began_micros.cast_signed();
        self.read = match self.read {
            Some((first, last)) if since <= last => Some((first.min(since), began)),
            _ => Some((since, began)),
        };
        self.not_before_micros = now.micros + PAUSE_MICROS;
        self.has_complained = false;
        self.retry_micros = RETRY_MIN_MICROS;
        if lacks_some && self.rests < RESTS_MAX {
            self.rests += 1;
            self.wish_since(since);
        }
        let micros = now.micros.saturating_sub(began_micros);
        counters.log_reads.add(1);
        let shown = usize::try_from(micros).unwrap_or(usize::MAX);
        counters.log_micros.set(shown);
        let records = counters.log_records.get();
        let read = records.saturating_sub(self.records_before);
        self.records_before = records;
        let millis = micros / 1_000;
        log::info!("the log of the cluster was read: {read} records in {millis} ms");
        self.is_nearly_complete = true;
        self.is_old = age >= Duration::from_micros(self.complete_after_micros);
    }

    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The log cannot be read.
    pub(super) fn failed(&mut self, now: Now, reason: &str, counters: &Counters) {
        if self.reading.is_none() {
            return;
        }
        self.give_up();
        counters.log_failures.add(1);
        self.not_before_micros = now.micros + self.retry_micros;
        if now.micros >= self.eager_until_micros {
            self.retry_micros = (2 * self.retry_micros).min(RETRY_MAX_MICROS);
        }
        if !std::mem::replace(&mut self.has_complained, true) {
            let seconds = self.complete_after_micros / 1_000_000;
            log::warn!(
                "the log of the cluster cannot be read: {reason} (what was missed comes within \
                 {seconds} s, as peers announce; tried again, at last every {} s)",
                RETRY_MAX_MICROS / 1_000_000
            );
        }
    }

    fn complete(&mut self) {
        if !std::mem::replace(&mut self.is_complete, true) {
            log::info!("the swarms of all nodes of the cluster are known");
        }
    }

    /// Whether all nodes that are alive were heard since there is a connection. If it was nobody,
    /// others may be about to come back as well, when servers do.
    fn has_heard_all(&self, now: Now, is_alone: bool) -> bool {
        let within = if is_alone {
            ALL_HEARD_MICROS
        } else {
            ALIVE_HEARD_MICROS
        };
        now.micros >= self.connected_micros + within
    }

    /// Shows how it stands. `is_in_shards`: what was read. `is_all_in_log`: what nodes have
    /// published that were heard, if there was no log before. `is_alone`: none was.
    pub(super) fn show(
        &mut self,
        now: Now,
        is_in_shards: bool,
        is_alone: bool,
        is_all_in_log: impl FnOnce() -> bool,
        counters: &Counters,
    ) {
        // Nothing is told to who is not connected.
        let is_connected =
            self.first_connected_micros.is_some() && self.disconnected_micros.is_none();
        let is_late =
            is_connected && now.micros >= self.connected_micros + self.complete_after_micros;
        let is_read = self.is_nearly_complete && is_in_shards;
        if !self.is_complete
            && (is_late
                || (is_read
                    && (self.is_old || (self.has_heard_all(now, is_alone) && is_all_in_log()))))
        {
            self.complete();
        }
        counters.set_complete(self.is_complete);
        counters.set_reading_log(self.is_reading());
    }
}
