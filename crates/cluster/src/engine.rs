//! What a node does. Pure: it is told the time, and has a [`Bus`].
//!
//! ```text
//!   shards ──▶ replica ──▶ buffer ──▶ bus        each flush interval, or sooner if there is much
//!   shards ◀── replica ◀───────────── bus        what others publish, and what the log has of it
//! ```
//!
//! Whatever was not heard is read in the log: at the start, after an interruption, and when the
//! numbers of batches show that some are missing. If there is no log, peers make up for it, who
//! announce again, and are told of again.

mod hearing;
mod log_reading;

use std::sync::Arc;

use aquatic_daemon::clock::Now;
use aquatic_swarm_log::{Alive, BatchHeader, Leaving};

use self::log_reading::LogReading;
use crate::buffer::PublishBuffer;
use crate::bus::{Bus, Channel, Destination, Event};
use crate::counters::{Counters, Direction, LostAt};
use crate::nodes::NodeStates;
use crate::numbers::{Beginnings, Numbered, OfEach};
use crate::replica::{Outgoing, Replica};
use crate::sent::{Batch, Sent};
use crate::table::{Before, NodeTable};
use crate::times::SharedTimes;

/// How often a process says that it is alive.
const ALIVE_INTERVAL_MICROS: u64 = 1_000_000;

/// How much later at most. Others do not wait for it much longer.
const ALIVE_DELAY_MICROS: u64 = 2_000_000;

/// At once if somebody is heard for the first time, who may not know yet that this process is there
/// and would not understand what it sends; but not more often than this in each such interval.
const GREETINGS_MAX: u32 = 16;

/// Messages that are taken in before anything else is looked after.
const EVENTS_MAX: usize = 64;

/// Messages that come too fast are noticed so soon after the first was lost, or sooner.
const OVERRUN_MICROS: u64 = 30_000_000;

/// What an operator has set, and who this is.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// The name of this node.
    pub node: String,
    /// A random number: names this process.
    pub process: u64,
    /// Microseconds between two looks at what there is to publish.
    pub flush_interval_micros: u64,
    /// Whether there is a log.
    pub history: bool,
    /// For how long what is shared lives.
    pub times: SharedTimes,
    /// Bytes that may wait to be published.
    pub publish_buffer_bytes: usize,
}

/// What clocks say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// The daemon's.
    pub now: Now,
    /// The system's: milliseconds since 1970.
    pub unix_millis: u64,
}

/// See the [module](self).
pub struct Engine<B> {
    bus: B,
    settings: EngineSettings,
    replicas: Vec<Box<dyn Replica>>,
    table: NodeTable,
    buffer: PublishBuffer,
    /// A batch that the bus has not taken yet.
    next: Option<Batch>,
    /// What may be lost still.
    sent: Sent,
    /// Numbers of the last batches.
    sequences: OfEach<u64>,
    next_flush_micros: u64,
    next_alive_micros: u64,
    /// So often may somebody new be told before.
    greetings: u32,
    is_to_greet: bool,
    /// Batches on their way to shards, or back.
    in_flight: usize,
    is_connected: bool,
    log: LogReading,
    /// What the log has, until everybody is known.
    beginnings: Beginnings,
    /// When somebody else was heard under this node's name.
    complained_micros: Option<u64>,
    has_met_other_version: bool,
    counters: Arc<Counters>,
}

impl<B: Bus> Engine<B> {
    /// What shares these replicas. `states` shows what is thought of other processes.
    #[must_use]
    pub fn new(
        bus: B,
        settings: EngineSettings,
        replicas: Vec<Box<dyn Replica>>,
        states: NodeStates,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            bus,
            table: NodeTable::new(states),
            buffer: PublishBuffer::new(settings.publish_buffer_bytes),
            next: None,
            sent: Sent::new(settings.history),
            sequences: OfEach::default(),
            next_flush_micros: 0,
            next_alive_micros: 0,
            greetings: GREETINGS_MAX,
            is_to_greet: false,
            in_flight: 0,
            is_connected: false,
            log: LogReading::new(settings.history, settings.times.get()),
            beginnings: Beginnings::default(),
            complained_micros: None,
            has_met_other_version: false,
            settings,
            replicas,
            counters,
        }
    }

    /// The bus.
    pub fn bus_mut(&mut self) -> &mut B {
        &mut self.bus
    }

    /// The bus, of which nothing more is wanted.
    pub fn into_bus(self) -> B {
        self.bus
    }

    /// Does what is to be done now. Returns when to call it again at the latest, in microseconds of
    /// the daemon's clock; sooner if something [is pending](Self::has_pending), or has happened on
    /// the bus.
    pub fn step(&mut self, time: Time) -> u64 {
        let times = self.settings.times.get();
        self.table.set_memory(times.life);
        self.log.set_times(times);
        let may_be_more = self.take_events(time);
        let now = time.now;
        if now.micros >= self.next_flush_micros {
            self.next_flush_micros = now.micros + self.settings.flush_interval_micros;
            self.flush(now);
        }
        let is_much = self.finish(now);
        self.limit_sent();
        if is_much {
            // What waits is more than what others should wait for.
            let soon = now.micros + self.settings.flush_interval_micros / 8;
            self.next_flush_micros = self.next_flush_micros.min(soon);
        }
        self.publish(time);
        self.tell_alive(time);
        let awaits_lists = self.counters.awaits_lists();
        let wish = self.log.next(now, self.is_connected, awaits_lists);
        if let Some(since) = wish {
            self.bus.read_log(since);
        }
        let is_in_shards = self.replicas.iter().all(|it| it.has_passed_mark());
        let is_all_in_log = || self.table.is_all_in(&self.beginnings);
        let (log, counters) = (&mut self.log, &self.counters);
        log.show(
            now,
            is_in_shards,
            self.table.is_empty(),
            is_all_in_log,
            counters,
        );
        if log.is_complete() {
            self.beginnings.clear();
        }
        match may_be_more {
            true => now.micros,
            false => self.next_flush_micros,
        }
    }

    /// Asks shards for what they have to tell in the next [`Self::step`].
    pub fn collect_at_once(&mut self) {
        self.next_flush_micros = 0;
    }

    /// Whether nothing is on its way to a shard or back, or waits to be published.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let waits = self.next.is_some() || self.sent.has_again() || self.buffer.bytes() > 0;
        self.in_flight == 0 && !waits
    }

    /// Whether nothing is taken in before shards have sent something back.
    #[must_use]
    pub fn waits_for_shards(&self) -> bool {
        !self.replicas.iter().all(|replica| replica.has_room())
    }

    /// Whether shards have sent something back since the last [`Self::step`].
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.replicas.iter().any(|replica| replica.has_pending())
    }

    /// The process ends: tells the others. Returns whether the bus has taken that.
    pub fn leave(&mut self, time: Time) -> bool {
        self.finish(time.now);
        self.publish(time);
        let mut bytes = Vec::new();
        Leaving.write(&mut bytes, &self.header(0, time.unix_millis));
        let (to, mark) = (Destination::All(Channel::Nodes), self.sent.next_mark());
        let told = self.bus.publish(&to, bytes, mark);
        told.is_ok()
    }

    fn header(&self, sequence: u64, unix_millis: u64) -> BatchHeader {
        BatchHeader {
            process: self.settings.process,
            sequence,
            unix_millis,
        }
    }

    /// Asks all shards what there is to publish, and looks who is still there.
    fn flush(&mut self, now: Now) {
        let is_reading = self.log.is_reading();
        for replica in &mut self.replicas {
            replica.settle(now, is_reading);
            replica.collect();
        }
        let nodes = self.table.age(now);
        self.counters.nodes.set(nodes);
        let skew = usize::try_from(self.table.skew_millis()).unwrap_or(usize::MAX);
        self.counters.skew_millis.set(skew);
    }

    /// Takes what shards have to say. Returns whether that was much.
    fn finish(&mut self, now: Now) -> bool {
        let Self {
            replicas,
            buffer,
            counters,
            in_flight,
            ..
        } = self;
        let mut records = 0;
        *in_flight = 0;
        for replica in replicas {
            *in_flight += replica.finish(now, &mut |outgoing: Outgoing| {
                records += outgoing.body.records();
                let dropped = buffer.push(outgoing);
                Counters::of(&counters.lost, LostAt::Buffer).add(dropped);
            });
        }
        counters.buffered.set(buffer.bytes());
        records >= MUCH_RECORDS
    }

    /// Publishes what waits, as far as the bus takes it.
    fn publish(&mut self, time: Time) {
        while self.is_connected {
            let (batch, is_new) = match self.sent.take_again() {
                Some(batch) => (Some(batch), false),
                None => (self.next.take().or_else(|| self.encode_next(time)), true),
            };
            let Some(batch) = batch else { break };
            if let Err(batch) = self.publish_batch(time.now, batch) {
                match is_new {
                    true => self.next = Some(batch),
                    false => self.sent.put_back(batch),
                }
                break;
            }
        }
    }

    fn publish_batch(&mut self, now: Now, mut batch: Batch) -> Result<(), Batch> {
        let channel = numbered(&batch.to);
        let bytes = std::mem::take(&mut batch.bytes);
        let length = bytes.len();
        if channel.is_some() {
            batch.bytes.clone_from(&bytes);
        }
        let mark = self.sent.next_mark();
        if let Err(bytes) = self.bus.publish(&batch.to, bytes, mark) {
            batch.bytes = bytes;
            return Err(batch);
        }
        Counters::of(&self.counters.bytes, Direction::Sent).add(length);
        if let Some(channel) = channel {
            self.sent.note(now.micros, (channel, mark), batch);
        }
        Ok(())
    }

    fn encode_next(&mut self, time: Time) -> Option<Batch> {
        let Outgoing { to, body, since } = self.buffer.pop()?;
        self.counters.buffered.set(self.buffer.bytes());
        let sequence = match numbered(&to) {
            Some(channel) => {
                let last = self.sequences.of_mut(channel);
                *last += 1;
                *last
            }
            None => 0,
        };
        let mut bytes = Vec::new();
        let unix_millis = unix_millis_at(time, since);
        let records = body.records();
        body.write(&mut bytes, &self.header(sequence, unix_millis));
        Some(Batch::new(to, bytes, records, since.micros))
    }

    /// What was published has the room that is left by what waits.
    fn limit_sent(&mut self) {
        let most = self.settings.publish_buffer_bytes;
        self.sent.set_room(most.saturating_sub(self.buffer.bytes()));
        let dropped = self.sent.take_dropped();
        Counters::of(&self.counters.lost, LostAt::Log).add(dropped);
    }

    /// Asks whether what was published has arrived.
    fn confirm(&mut self, now: Now) {
        let mark = self.sent.next_mark();
        self.bus.confirm(mark);
        let life = u64::from(self.settings.times.get().life) * 1_000_000;
        self.sent.forget_old(now.micros, life);
        self.sent.try_log(now.micros);
    }

    fn tell_alive(&mut self, time: Time) {
        let is_due = time.now.micros >= self.next_alive_micros;
        let is_to_greet = std::mem::take(&mut self.is_to_greet);
        // What is published again is not to be missed by anybody; but that may be much.
        let is_overdue = time.now.micros >= self.next_alive_micros + ALIVE_DELAY_MICROS;
        let is_ready = self.is_connected && (is_overdue || !self.sent.has_again());
        if !is_ready || !(is_due || is_to_greet) {
            return;
        }
        if is_due {
            self.confirm(time.now);
            self.next_alive_micros = time.now.micros + ALIVE_INTERVAL_MICROS;
            self.greetings = GREETINGS_MAX;
        }
        let mut told = self.sequences;
        // One that the bus has not taken yet is not to be missed by anybody.
        if let Some(channel) = self.next.as_ref().and_then(|batch| numbered(&batch.to)) {
            *told.of_mut(channel) -= 1;
        }
        let OfEach { peers, members } = told;
        let mut bytes = Vec::new();
        let told_within = self.settings.times.get().peers_told_within;
        let alive = Alive {
            peers,
            members,
            told_within,
        };
        alive.write(&mut bytes, &self.header(0, time.unix_millis));
        // If it is not taken, others hear the next one.
        let mark = self.sent.next_mark();
        let _ = self
            .bus
            .publish(&Destination::All(Channel::Nodes), bytes, mark);
    }

    /// Takes in what has happened on the bus. Returns whether there may be more.
    fn take_events(&mut self, time: Time) -> bool {
        for _ in 0..EVENTS_MAX {
            if self.waits_for_shards() {
                // Something will come back from them.
                return false;
            }
            let Some(event) = self.bus.next_event() else {
                return false;
            };
            self.take_event(time, event);
        }
        true
    }

    fn take_event(&mut self, time: Time, event: Event<B::Payload>) {
        let now = time.now;
        match event {
            Event::Connected => {
                self.set_connected(true);
                let is_again = self.log.connected(now, self.keeps_members());
                self.counters.reconnects.add(usize::from(is_again));
            }
            Event::Disconnected => {
                self.set_connected(false);
                self.log.disconnected();
                self.sent.disconnected(now.micros);
            }
            Event::Confirmed(mark) => {
                self.sent.arrived(mark);
                self.log.confirmed(now);
            }
            Event::Kept(mark) => self.sent.logged(now.micros, mark),
            Event::Heard(message) => self.hear(time, &message),
            Event::Logged(message) => self.read(time, &message),
            Event::LogRead { age } => {
                let lacks_some = self.table.lacks_some();
                self.log.ended(now, age, lacks_some, &self.counters);
                self.sent.log_is_there();
                self.replicas.iter_mut().for_each(|it| it.mark());
            }
            Event::LogFailed(reason) => self.log.failed(now, &reason, &self.counters),
            Event::Missed(messages) => {
                let messages = usize::try_from(messages).unwrap_or(usize::MAX);
                self.counters.overrun.add(messages);
                self.log.missed(now, Before::Ago(OVERRUN_MICROS), 0);
            }
        }
    }

    fn set_connected(&mut self, is_connected: bool) {
        self.is_connected = is_connected;
        self.counters.set_connected(is_connected);
        self.table.states().set_connected(is_connected);
        if !is_connected {
            self.buffer.drop_letters();
        }
    }

    /// Whether what is known of other nodes goes with them.
    fn keeps_members(&self) -> bool {
        self.listens_to(Channel::Members)
    }

    fn listens_to(&self, channel: Channel) -> bool {
        let mut replicas = self.replicas.iter();
        replicas.any(|replica| replica.listens_to(channel))
    }
}

/// So many records are not to wait for the next flush.
const MUCH_RECORDS: usize = 4_096;

/// Whether batches that go there are numbered.
fn numbered(to: &Destination) -> Option<Numbered> {
    match to {
        Destination::All(channel) => numbered_on(*channel),
        Destination::Node(_) => None,
    }
}

/// Whether batches of this channel are numbered.
fn numbered_on(channel: Channel) -> Option<Numbered> {
    match channel {
        Channel::Peers => Some(Numbered::Peers),
        Channel::Members => Some(Numbered::Members),
        Channel::Nodes | Channel::Parcels => None,
    }
}

/// What the system's clock said, or would have said, when the daemon's said `then`.
fn unix_millis_at(time: Time, then: Now) -> u64 {
    let ago = (time.now.micros / 1_000).saturating_sub(then.micros / 1_000);
    time.unix_millis.saturating_sub(ago)
}

#[cfg(test)]
mod tests;
