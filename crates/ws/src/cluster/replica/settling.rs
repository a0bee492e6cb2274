//! What shards have decided.

use aquatic_cluster::nodes::NodeIndex;
use aquatic_cluster::replica::Outgoing;
use aquatic_daemon::clock::Now;
use aquatic_swarm_log::Withdrawal;
use aquatic_ws_protocol::{ForwardedAnswer, ForwardedOffer, Message};

use super::Records;
use super::posting::Post;
use crate::cluster::batch::{
    ArrivedAnswer, ArrivedOffer, ClusterBatch, Outcome, RemoteKind, RemoteMessage,
};
use crate::cluster::counters::{ClusterCounters, LetterKind, LetterOutcome, MemberOutcome};
use crate::counters::ResponseKind;
use crate::forwarding::{Forwarded, Forwarding};
use crate::frames;
use crate::messages::{ConnectionRef, HandedOffer, Origin, Receiver};

/// While batches come back.
pub(super) struct Settling<'a> {
    pub(super) forwarding: &'a mut Forwarding,
    pub(super) post: &'a mut Post,
    pub(super) records: &'a mut Records,
    pub(super) counters: &'a ClusterCounters,
    /// Shards that have more to say than they could at once.
    pub(super) unfinished: Vec<usize>,
    /// Offers that are open here, and have not come to their receivers.
    pub(super) undelivered: Vec<RemoteMessage>,
    pub(super) now: Now,
    pub(super) publish: &'a mut dyn FnMut(Outgoing),
}

impl Settling<'_> {
    /// Takes in what a shard has said, and empties the batch.
    pub(super) fn settle(&mut self, batch: &mut ClusterBatch) {
        let members = &self.counters.members;
        members.of(MemberOutcome::Dropped).add(batch.dropped);
        members
            .of(MemberOutcome::Published)
            .add(batch.records.len());
        for record in &batch.records {
            self.records.add(batch.since, record, self.publish);
        }
        for (message, outcome) in batch.messages.iter().zip(&batch.outcomes) {
            match &message.kind {
                RemoteKind::Member { .. } => {
                    let outcome = match outcome {
                        Outcome::Applied => MemberOutcome::Applied,
                        Outcome::Full => MemberOutcome::Full,
                        _ => MemberOutcome::Known,
                    };
                    members.of(outcome).add(1);
                }
                RemoteKind::Offer(offer) => self.settle_offer(batch, message, offer, *outcome),
                RemoteKind::Answer(answer) => self.settle_answer(batch, message, answer, *outcome),
                RemoteKind::Withdrawal(_) => {
                    let outcome = match outcome {
                        Outcome::Closed => LetterOutcome::Delivered,
                        _ => LetterOutcome::Refused,
                    };
                    // Not if it is one of this node.
                    if message.node != NodeIndex::HERE {
                        self.count(LetterKind::Withdrawal, outcome);
                    }
                }
            }
        }
        if batch.has_more {
            self.unfinished.push(batch.shard);
        }
        batch.clear();
    }

    fn settle_offer(
        &mut self,
        batch: &ClusterBatch,
        message: &RemoteMessage,
        offer: &ArrivedOffer,
        outcome: Outcome,
    ) {
        let Outcome::Opened(hash) = outcome else {
            self.count(LetterKind::Offer, LetterOutcome::Refused);
            self.withdraw(message, offer);
            return;
        };
        let receiver = Receiver {
            hash,
            ..offer.receiver
        };
        let what = Forwarded {
            kind: ResponseKind::Offer,
            from: offer.family,
            network: offer.network,
            offer: Some(HandedOffer {
                info_hash: message.info_hash,
                receiver,
                origin: Some(Origin {
                    node: message.node,
                    name: offer.receiver.hash,
                }),
            }),
        };
        let forwarded = ForwardedOffer {
            info_hash: message.info_hash,
            peer_id: offer.peer_id,
            offer_id: offer.offer_id,
            offer: batch.json(offer.json.clone()),
        };
        if self.deliver(receiver.member, what, &forwarded) {
            self.count(LetterKind::Offer, LetterOutcome::Delivered);
        } else {
            self.count(LetterKind::Offer, LetterOutcome::Full);
            self.withdraw(message, offer);
            self.undelivered.push(RemoteMessage {
                node: NodeIndex::HERE,
                info_hash: message.info_hash,
                kind: RemoteKind::Withdrawal(receiver),
            });
        }
    }

    fn settle_answer(
        &mut self,
        batch: &ClusterBatch,
        message: &RemoteMessage,
        answer: &ArrivedAnswer,
        outcome: Outcome,
    ) {
        let Outcome::AnswerTo(offerer) = outcome else {
            self.count(LetterKind::Answer, LetterOutcome::Refused);
            return;
        };
        let what = Forwarded {
            kind: ResponseKind::Answer,
            from: answer.family,
            network: answer.network,
            offer: None,
        };
        let forwarded = ForwardedAnswer {
            info_hash: message.info_hash,
            peer_id: answer.peer_id,
            offer_id: answer.offer_id,
            answer: batch.json(answer.json.clone()),
        };
        let outcome = match self.deliver(offerer, what, &forwarded) {
            true => LetterOutcome::Delivered,
            false => LetterOutcome::Full,
        };
        self.count(LetterKind::Answer, outcome);
    }

    fn deliver(&mut self, to: ConnectionRef, what: Forwarded, message: &impl Message) -> bool {
        debug_assert!(to.is_here());
        let write = |out: &mut Vec<u8>| frames::write_text(message, out);
        self.forwarding.add(to.worker, to.connection, what, write)
    }

    /// The other node is told that an offer has not come to its receiver.
    fn withdraw(&mut self, message: &RemoteMessage, offer: &ArrivedOffer) {
        let receiver = offer.receiver;
        let withdrawal = Withdrawal {
            info_hash: message.info_hash,
            receiver: receiver.member.member(receiver.peer_id, receiver.network),
            name: receiver.hash,
        };
        self.post
            .withdraw(self.now, message.node, withdrawal, self.publish);
    }

    fn count(&self, kind: LetterKind, outcome: LetterOutcome) {
        self.counters.letters(kind, outcome).add(1);
    }
}
