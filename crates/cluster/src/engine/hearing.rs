//! What others say, as it is published or out of the log.

use aquatic_daemon::clock::Now;
use aquatic_swarm_log::{Alive, Batch, BatchError, BatchHeader, Body};

use super::{Engine, Time, numbered_on};
use crate::bus::{Bus, Channel, Message};
use crate::counters::{Counters, Direction};
use crate::nodes::NodeIndex;
use crate::numbers::Numbered;
use crate::replica::Received;
use crate::table::{Before, Node};
use crate::times::PeerAges;

/// Batches that a node can have published since it was heard last.
const MISSED_MAX: usize = 65_536;

/// How long a node that shares its name with another one is not told so again.
const COMPLAINT_MICROS: u64 = 60_000_000;

impl<B: Bus> Engine<B> {
    /// The batch in a message; `None` if there is none that can be used.
    fn parse<'a>(&mut self, message: &'a Message<B::Payload>) -> Option<Batch<'a>> {
        let payload = message.payload.as_ref();
        Counters::of(&self.counters.bytes, Direction::Received).add(payload.len());
        match Batch::parse(payload) {
            Ok((batch, [])) => Some(batch),
            Ok(_) => self.refuse(None),
            Err(error) => self.refuse(Some(error)),
        }
    }

    /// Counts a message that cannot be used.
    fn refuse<T>(&mut self, error: Option<BatchError>) -> Option<T> {
        self.counters.invalid.add(1);
        if let Some(error @ BatchError::Version(_)) = error
            && !std::mem::replace(&mut self.has_met_other_version, true)
        {
            log::warn!("a node of the cluster is of another version, and not understood: {error}");
        }
        None
    }

    /// Takes in a message that was just published.
    pub(super) fn hear(&mut self, time: Time, message: &Message<B::Payload>) {
        let Some(batch) = self.parse(message) else {
            return;
        };
        let process = batch.header.process;
        if process == self.settings.process {
            return;
        }
        let now = time.now;
        let Message { channel, node, .. } = message;
        if *channel == Channel::Parcels {
            // It names its receiver, so its sender is known by the process.
            let Some(sender) = self.table.name_of(process).map(str::to_owned) else {
                self.counters.invalid.add(1);
                return;
            };
            let received = self.received(time, message, &batch, &sender);
            self.deliver(now, *channel, &received);
            return;
        }
        if *node == self.settings.node {
            self.complain(now);
        }
        if matches!(batch.body, Body::Leaving) && self.table.get(node, process).is_none() {
            return;
        }
        let Some(heard) = self.table.hear(now, node, process) else {
            self.counters.invalid.add(1);
            return;
        };
        if !matches!(heard.before, Before::Ago(_)) {
            if let Some(fewer) = self.greetings.checked_sub(1) {
                log::info!("node `{node}` is heard");
                self.greetings = fewer;
                self.is_to_greet = true;
            }
            if self.keeps_members() && self.table.may_be_read(now, node) {
                self.log.wish_all(now);
            }
        }
        let known = self.table.get(node, process);
        let behind_micros = known.map_or(0, Node::behind_micros);
        let sequence = batch.header.sequence;
        let is_late = numbered_on(*channel).zip(known);
        let is_late = is_late.is_some_and(|(of, node)| !node.is_new(of, sequence));
        let is_repeated = self.is_repeated(time, message, &batch);
        let missed = self.note(time, message, &batch, heard.before);
        if missed > 0 && self.log.is_to_be_heard(now, heard.before) {
            // Who tells of more tells anything.
            let missed = usize::try_from(missed).map_or(MISSED_MAX, |it| it.min(MISSED_MAX));
            self.counters.missed.add(missed);
            self.log.missed(now, heard.before, behind_micros);
        }
        if !is_of(*channel, &batch.body) {
            self.counters.invalid.add(1);
            return;
        }
        if matches!(batch.body, Body::Leaving) {
            // As seldom as somebody new is told of.
            if let Some(fewer) = self.greetings.checked_sub(1) {
                log::info!("node `{node}` leaves");
                self.greetings = fewer;
            }
            self.table.forget(node, process);
            return;
        }
        let mut received = self.received(time, message, &batch, node);
        received.is_repeated = is_repeated;
        received.is_late = is_late;
        self.deliver(now, *channel, &received);
    }

    /// Takes note of when a process was heard, and of what has not come. Returns how many batches
    /// that is.
    fn note(
        &mut self,
        time: Time,
        message: &Message<B::Payload>,
        batch: &Batch<'_>,
        before: Before,
    ) -> u64 {
        let header = batch.header;
        let hears_peers = self.listens_to(Channel::Peers);
        let hears_members = self.listens_to(Channel::Members);
        let Some(node) = self.table.get_mut(&message.node, header.process) else {
            return 0;
        };
        match (message.channel, &batch.body) {
            (Channel::Nodes, Body::Alive(alive)) => {
                let Alive { peers, members, .. } = alive;
                let ages = self.settings.times.get().ages;
                if node.has_changed_times(alive.told_within)
                    && is_told_too_seldom(alive.told_within, ages)
                {
                    log::warn!(
                        "node `{}` tells of its peers once in {} s, and they are remembered here \
                         for {} s: `cleaning.max_peer_age` and the announce interval should be \
                         the same at all nodes of a cluster",
                        message.node,
                        alive.told_within,
                        ages.min_seconds
                    );
                }
                node.compare_clocks(time.now, time.unix_millis, header.unix_millis);
                node.take_in(time.unix_millis, header.unix_millis);
                let heard = |told: &u64, is_heard: bool| if is_heard { *told } else { 0 };
                node.note_told(
                    [heard(peers, hears_peers), heard(members, hears_members)],
                    before,
                )
            }
            (Channel::Peers, _) => {
                // What is published again has been on its way for longer.
                if node.is_new(Numbered::Peers, header.sequence) {
                    let age = node.take_in(time.unix_millis, header.unix_millis);
                    let longest = u64::from(self.settings.times.get().life) * 1_000;
                    self.counters.note_delivery(age.min(longest));
                }
                node.note(Numbered::Peers, header.sequence)
            }
            (Channel::Members, _) => node.note(Numbered::Members, header.sequence),
            (Channel::Nodes | Channel::Parcels, _) => 0,
        }
    }

    /// Takes in a message out of the log. Also what this process has published itself: somebody may
    /// have left here of whom another node has told before.
    pub(super) fn read(&mut self, time: Time, message: &Message<B::Payload>) {
        let Some(batch) = self.parse(message) else {
            return;
        };
        if !is_of(message.channel, &batch.body) {
            self.counters.invalid.add(1);
            return;
        }
        let is_repeated = self.is_repeated(time, message, &batch);
        if let Some(channel) = numbered_on(message.channel)
            && !self.log.is_complete()
        {
            let header = batch.header;
            self.beginnings
                .note(header.process, channel, header.sequence);
        }
        let mut received = self.received(time, message, &batch, &message.node);
        received.is_logged = true;
        received.is_repeated = is_repeated;
        let records = match &received.body {
            Body::PeersV4(records) => records.len(),
            Body::PeersV6(records) => records.len(),
            _ => 0,
        };
        self.counters.log_records.add(records);
        self.deliver(time.now, message.channel, &received);
    }

    /// Whether a batch was taken in before: as it was published, or out of the log.
    fn is_repeated(
        &mut self,
        time: Time,
        message: &Message<B::Payload>,
        batch: &Batch<'_>,
    ) -> bool {
        let BatchHeader {
            process,
            sequence,
            unix_millis,
        } = batch.header;
        if process == self.settings.process {
            return true;
        }
        let Some(channel) = numbered_on(message.channel) else {
            return false;
        };
        let node = self.table.get_mut(&message.node, process);
        let was_heard = node.and_then(|node| node.take_logged(channel, sequence));
        was_heard.unwrap_or_else(|| {
            let age_millis = self.age_millis(time, message, (&message.node, process), unix_millis);
            self.log.has_read(time.now, age_millis)
        })
    }

    /// How long ago a batch was written.
    fn age_millis(
        &self,
        time: Time,
        message: &Message<B::Payload>,
        (name, process): (&str, u64),
        unix_millis: u64,
    ) -> u64 {
        let by_own_clock = time.unix_millis.saturating_sub(unix_millis);
        let node = self.table.get(name, process);
        match node.filter(|node| node.has_known_clock()) {
            Some(node) => node.age_millis(time.unix_millis, unix_millis),
            // Clocks of servers are right more often.
            None => message.logged_millis_ago.unwrap_or(by_own_clock),
        }
    }

    /// What is told by a batch of a node of this name.
    fn received<'a>(
        &self,
        time: Time,
        message: &Message<B::Payload>,
        batch: &Batch<'a>,
        name: &'a str,
    ) -> Received<'a> {
        let BatchHeader {
            process,
            unix_millis,
            ..
        } = batch.header;
        let age_millis = self.age_millis(time, message, (name, process), unix_millis);
        let index = self.table.get(name, process).and_then(Node::index);
        Received {
            from: index.unwrap_or(NodeIndex::UNKNOWN),
            name,
            age_millis,
            is_logged: false,
            is_late: false,
            is_repeated: false,
            body: batch.body.clone(),
        }
    }

    fn deliver(&mut self, now: Now, channel: Channel, received: &Received<'_>) {
        for replica in &mut self.replicas {
            if replica.listens_to(channel) {
                replica.receive(now, received);
            }
        }
    }

    /// Another process has the name of this node.
    fn complain(&mut self, now: Now) {
        let at = self.complained_micros;
        if at.is_none_or(|at| now.micros.saturating_sub(at) >= COMPLAINT_MICROS) {
            self.complained_micros = Some(now.micros);
            log::error!(
                "another tracker of the cluster is called `{}`, like this one: set `cluster.node` \
                 to another name",
                self.settings.node
            );
        }
    }
}

/// Whether peers of a node are forgotten here between two times that it tells of them.
pub(super) fn is_told_too_seldom(told_within: u32, ages: PeerAges) -> bool {
    ages.min_seconds > 0 && told_within > ages.min_seconds
}

/// Whether something belongs on a channel, as far as that can be said here: a later version may
/// have more to say than this one understands.
fn is_of(channel: Channel, body: &Body<'_>) -> bool {
    match channel {
        Channel::Peers => matches!(body, Body::PeersV4(_) | Body::PeersV6(_)),
        Channel::Nodes => matches!(body, Body::Alive(_) | Body::Leaving),
        Channel::Members | Channel::Parcels => true,
    }
}
