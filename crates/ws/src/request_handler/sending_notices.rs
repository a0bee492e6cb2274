//! Running [notices](crate::notices): putting them on their way to the shards.

use aquatic_stream::Connections;
use aquatic_types::{IpFamily, client_network};

use super::RequestHandler;
use crate::messages::{self, Evicted, HandedOffer, RequestKind};
use crate::notices::{Departure, KEPT, Notice};
use crate::session::Session;

/// Notices of a kind and for a shard that are run in one round, so that requests do not wait when
/// many leave at once.
const ROUND_MAX: usize = 4_096;

/// Peers that have had to give way whose connections are looked at in one round.
const EVICTED_ROUND_MAX: usize = 4_096;

impl RequestHandler {
    /// Peers have had to give way. An announce of one of them may be on its way, or have brought it
    /// back meanwhile: so its shard is asked.
    pub fn look_for_evicted(
        &mut self,
        evicted: &mut Vec<Evicted>,
        connections: &mut Connections<Session>,
    ) {
        let some = evicted.len().min(EVICTED_ROUND_MAX);
        for it in evicted.drain(..some) {
            let connection = it.member.connection;
            connections.with(connection, |session, _| {
                if session.membership.doubt(it.info_hash, it.peer_id) {
                    self.notices.depart(Departure {
                        connection,
                        client: session.client,
                        info_hash: it.info_hash,
                        peer_id: it.peer_id,
                        is_certain: false,
                    });
                }
            });
        }
        if evicted.is_empty() {
            evicted.shrink_to(KEPT);
        }
    }

    /// Runs notices as far as there is room. Those that have to wait are run later: a peer may have
    /// announced meanwhile, which the book of its connection knows.
    pub fn send_notices(
        &mut self,
        dropped: &mut Vec<HandedOffer>,
        connections: &mut Connections<Session>,
    ) {
        for offer in dropped.drain(..) {
            self.notices.withdraw(offer);
        }
        dropped.shrink_to(KEPT);
        for shard in 0..self.dispatcher.shards() {
            if self.notices.wait_for(shard) {
                self.tell_of_departures(shard, connections);
                self.tell_of_dropped_offers(shard);
            }
        }
    }

    /// Whether any can be run without anything having come.
    pub(crate) fn has_notices(&self) -> bool {
        let is_due = |shard| self.notices.wait_for(shard) && !self.dispatcher.is_half_used(shard);
        (0..self.dispatcher.shards()).any(is_due)
    }

    /// A request of a client is on its way to a shard.
    pub(crate) fn has_asked(&mut self, shard: usize) {
        self.notices
            .has_asked(shard, self.dispatcher.is_half_used(shard));
    }

    fn tell_of_departures(&mut self, shard: usize, connections: &mut Connections<Session>) {
        for _ in 0..ROUND_MAX {
            let Some(peer) = self.next_departure(shard) else {
                break;
            };
            let Departure {
                connection,
                client,
                info_hash,
                peer_id,
                is_certain,
            } = peer;
            let is_due = connections.with(connection, |session, _| {
                !is_certain || session.membership.says_farewell(info_hash, peer_id)
            });
            // A connection that has gone has taken all its peers along.
            if !is_due.unwrap_or(is_certain) {
                continue;
            }
            let kind = match is_certain {
                true => RequestKind::Leave { peer_id },
                false => RequestKind::Check { peer_id },
            };
            if let Some(batch) = self.batch_of(shard) {
                batch.requests.push(messages::Request {
                    connection,
                    family: client.family(),
                    network: client_network(client.ip()),
                    info_hash,
                    kind,
                });
            }
        }
    }

    /// Tells a shard which offers have not come to their receivers.
    pub(crate) fn tell_of_dropped_offers(&mut self, shard: usize) {
        for _ in 0..ROUND_MAX {
            let Some(is_busy) = self.has_room_for(shard, Notice::DroppedOffer) else {
                break;
            };
            let Some(offer) = self.notices.next_dropped_offer(shard, is_busy) else {
                break;
            };
            let HandedOffer {
                info_hash,
                receiver,
                ..
            } = offer;
            if let Some(batch) = self.batch_of(shard) {
                batch.requests.push(messages::Request {
                    connection: receiver.member.connection,
                    // Not looked at: nobody is answered.
                    family: IpFamily::V4,
                    network: receiver.network,
                    info_hash,
                    kind: RequestKind::Withdraw(receiver),
                });
            }
        }
    }

    /// The next peer that a shard is to be told of, if there is a batch for that.
    pub(crate) fn next_departure(&mut self, shard: usize) -> Option<Departure> {
        let is_busy = self.has_room_for(shard, Notice::Departure)?;
        self.notices.next_departure(shard, is_busy)
    }

    /// If a notice may be run, and there is a batch for it: whether the way to its shard is busy.
    fn has_room_for(&mut self, shard: usize, notice: Notice) -> Option<bool> {
        let is_busy = self.dispatcher.is_half_used(shard);
        if !self.notices.may_run(shard, notice, is_busy) {
            return None;
        }
        self.batch_of(shard).map(|_| is_busy)
    }
}
