//! The shards of this process, as the cluster sees them: a [`Replica`]. Pure.
//!
//! It asks shards like a socket worker does that owns none, and its ways to socket workers are
//! those that they have to each other. Nothing waits here: what other nodes are to have is
//! published at once, and dropped and counted if it cannot be.

mod arriving;
mod posting;
mod settling;

use std::sync::Arc;

use aquatic_access_list::{AccessListReader, PeerIdRules};
use aquatic_cluster::bus::{Channel, Destination};
use aquatic_cluster::nodes::{NodeIndex, NodeStates};
use aquatic_cluster::replica::{Counted, Echoes, Mark, Outgoing, Received, Replica};
use aquatic_daemon::clock::Now;
use aquatic_daemon::live::SettingsReader;
use aquatic_swarm_log::{Body, Kind, Letter, MemberRecord, RecordBuffer, Withdrawal};
use aquatic_tracker::admission::peer_id_rules;
use aquatic_tracker::dispatch::dispatcher::Dispatcher;
use aquatic_types::Seconds;

use crate::cluster::batch::{RemoteKind, RemoteMessage};
use crate::cluster::counters::ClusterCounters;
use crate::config::Config;
use crate::forwarding::Forwarding;
use crate::messages::Receiver;
use crate::signalling::ClusterSignalling;

use posting::Post;
use settling::Settling;

/// Letters that are older are not heeded, in milliseconds. They come in tens, if they come.
const LETTER_AGE_MAX: u64 = 10_000;

/// What a replica is made of.
pub struct MemberReplicaParts {
    /// Knows the ways to the shards.
    pub dispatcher: Dispatcher<ClusterSignalling>,
    /// The ways to and from the socket workers.
    pub forwarding: Forwarding,
    /// Which torrents are allowed here.
    pub access_list: AccessListReader,
    /// Which software is.
    pub peer_ids: PeerIdRules,
    /// What may change while it works.
    pub settings: SettingsReader<Arc<Config>>,
    /// What it may do at first.
    pub offer_bytes_max: usize,
    /// Which other processes are alive.
    pub nodes: NodeStates,
    /// Where it counts.
    pub counters: Arc<ClusterCounters>,
}

/// See the [module](self).
pub struct MemberReplica {
    dispatcher: Dispatcher<ClusterSignalling>,
    forwarding: Forwarding,
    access_list: AccessListReader,
    peer_ids: PeerIdRules,
    settings: SettingsReader<Arc<Config>>,
    /// Bytes of an offer or answer.
    offer_bytes_max: usize,
    counters: Arc<ClusterCounters>,
    post: Post,
    records: Records,
    /// Offers that were not passed on to any shard, and the nodes that are to be told.
    not_taken: Vec<(NodeIndex, Withdrawal)>,
    counted: Counted,
    departures: Echoes<RemoteMessage>,
    mark: Mark,
}

/// What others are to be told, and the second as of which it is.
struct Records {
    buffer: RecordBuffer<MemberRecord>,
    since: Seconds,
}

impl MemberReplica {
    /// Of a tracker of which nobody has heard.
    #[must_use]
    pub fn new(parts: MemberReplicaParts) -> Self {
        Self {
            dispatcher: parts.dispatcher,
            forwarding: parts.forwarding,
            access_list: parts.access_list,
            peer_ids: parts.peer_ids,
            settings: parts.settings,
            offer_bytes_max: parts.offer_bytes_max,
            post: Post::new(parts.nodes, Arc::clone(&parts.counters)),
            counters: parts.counters,
            records: Records {
                buffer: RecordBuffer::new(Kind::MEMBERS),
                since: Seconds(0),
            },
            not_taken: Vec::new(),
            counted: Counted::default(),
            departures: Echoes::default(),
            mark: Mark::default(),
        }
    }

    /// Has a shard bring back what others are to be told. Not if it does not keep up: it will be
    /// asked again.
    fn collect_from(&mut self, shard: usize) {
        if let Some(batch) = self.dispatcher.batch_for(shard) {
            batch.shard = shard;
            batch.collects = true;
        }
    }
}

/// What the shard of an offer is to hear that is not on its way to its receiver.
fn withdrawal_of(node: NodeIndex, letter: &[u8]) -> Option<RemoteMessage> {
    let Letter::Offer(offer) = Letter::read_whole(letter)? else {
        return None;
    };
    let receiver = Receiver::of_member(node, &offer.receiver, offer.name)?;
    Some(RemoteMessage {
        node: NodeIndex::HERE,
        info_hash: offer.info_hash,
        kind: RemoteKind::Withdrawal(receiver),
    })
}

/// The beginning of a second.
fn at_second(Seconds(seconds): Seconds) -> Now {
    Now::from_micros(u64::from(seconds) * 1_000_000)
}

impl Records {
    fn add(&mut self, since: Seconds, record: &MemberRecord, publish: &mut dyn FnMut(Outgoing)) {
        if self.since != since {
            self.publish(publish);
            self.since = since;
        }
        if !self.buffer.push(record) {
            self.publish(publish);
            self.buffer.push(record);
        }
    }

    fn publish(&mut self, publish: &mut dyn FnMut(Outgoing)) {
        if self.buffer.bytes() > 0 {
            publish(Outgoing {
                to: Destination::All(Channel::Members),
                body: self.buffer.take(),
                since: at_second(self.since),
            });
        }
    }
}

impl Replica for MemberReplica {
    fn listens_to(&self, channel: Channel) -> bool {
        matches!(channel, Channel::Members | Channel::Parcels)
    }

    fn has_room(&self) -> bool {
        let shards = 0..self.dispatcher.shards();
        !shards
            .into_iter()
            .any(|it| self.dispatcher.is_half_used(it))
    }

    fn mark(&mut self) {
        self.mark.set(self.dispatcher.shards());
    }

    fn has_passed_mark(&self) -> bool {
        self.mark.is_passed()
    }

    fn receive(&mut self, now: Now, received: &Received<'_>) {
        // What is published here comes back, and nobody knows anything of the others.
        let is_here = received.from == NodeIndex::HERE;
        if is_here || !self.post.learn(received.from, received.name) {
            return;
        }
        match &received.body {
            Body::Members(records) => self.hear_members(now, received, records.clone()),
            // It would be too late: a browser has given up, or made other offers since.
            Body::Letters(_) if received.is_logged || received.age_millis > LETTER_AGE_MAX => {}
            Body::Letters(letters) => self.hear_letters(received.from, letters.clone()),
            _ => {}
        }
    }

    fn settle(&mut self, now: Now, is_reading_log: bool) {
        if !is_reading_log {
            self.repeat_departures(now);
        }
    }

    fn collect(&mut self) {
        for shard in 0..self.dispatcher.shards() {
            self.collect_from(shard);
        }
    }

    fn finish(&mut self, now: Now, publish: &mut dyn FnMut(Outgoing)) -> usize {
        self.access_list.refresh();
        if let Some(config) = self.settings.changed() {
            self.offer_bytes_max = config.protocol.max_offer_size;
            self.peer_ids = peer_id_rules(&config.access_list);
        }
        let (post, mut undelivered) = (&mut self.post, Vec::new());
        self.forwarding.unpack(|batch| {
            for (node, letter) in batch.letters() {
                if !post.add(now, node, letter, publish) {
                    undelivered.extend(withdrawal_of(node, letter));
                }
            }
        });
        for (node, withdrawal) in std::mem::take(&mut self.not_taken) {
            post.withdraw(now, node, withdrawal, publish);
        }
        let mut settling = Settling {
            forwarding: &mut self.forwarding,
            post: &mut self.post,
            records: &mut self.records,
            counters: &self.counters,
            unfinished: Vec::new(),
            undelivered,
            now,
            publish,
        };
        self.dispatcher
            .finish(now, None, |batch| settling.settle(batch));
        let Settling {
            unfinished,
            undelivered,
            ..
        } = settling;
        self.records.publish(publish);
        self.post.publish(now, publish);
        for shard in unfinished {
            self.collect_from(shard);
        }
        for message in undelivered {
            self.pass_on(message, None);
        }
        let in_flight = self.dispatcher.send();
        let dispatcher = &self.dispatcher;
        self.mark.look(|shard| dispatcher.is_idle(shard));
        self.forwarding.collect();
        self.forwarding.forward();
        in_flight
    }

    fn has_pending(&self) -> bool {
        let is_to_tell = !self.not_taken.is_empty();
        self.dispatcher.has_pending() || self.forwarding.has_pending() || is_to_tell
    }
}
