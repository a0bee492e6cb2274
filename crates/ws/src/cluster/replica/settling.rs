//! What shards have decided.

use aquatic_cluster::nodes::NodeIndex;
use aquatic_cluster::replica::Outgoing;
use aquatic_daemon::clock::Now;
use aquatic_swarm_log::Withdrawal;
use aquatic_ws_protocol::{ForwardedAnswer, ForwardedOffer, Message};

use super::Records;
use super::posting::Post;
use crate::cluster::batch::{
    ArrivedAnswer, ArrivedOffer, ClusterBatch, Outcome, Tiding, TidingKind,
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
    pub(super) undelivered: Vec<Tiding>,
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
        for (tiding, outcome) in batch.tidings.iter().zip(&batch.outcomes) {
            match &tiding.kind {
                TidingKind::Member { .. } => {
                    let outcome = match outcome {
                        Outcome::Applied => MemberOutcome::Applied,
                        Outcome::Full => MemberOutcome::Full,
                        _ => MemberOutcome::Known,
                    };
                    members.of(outcome).add(1);
                }
                TidingKind::Offer(offer) => self.settle_offer(batch, tiding, offer, *outcome),
                TidingKind::Answer(answer) => self.settle_answer(batch, tiding, answer, *outcome),
                TidingKind::Withdrawal(_) => {
                    let outcome = match outcome {
                        Outcome::Closed => LetterOutcome::Delivered,
                        _ => LetterOutcome::Refused,
                    };
                    // Not if it is one of this node.
                    if tiding.node != NodeIndex::HERE {
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
        tiding: &Tiding,
        offer: &ArrivedOffer,
        outcome: Outcome,
    ) {
        let Outcome::Opened(hash) = outcome else {
            self.count(LetterKind::Offer, LetterOutcome::Refused);
            self.withdraw(tiding, offer);
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
                info_hash: tiding.info_hash,
                receiver,
                origin: Some(Origin {
                    node: tiding.node,
                    name: offer.receiver.hash,
                }),
            }),
        };
        let message = ForwardedOffer {
            info_hash: tiding.info_hash,
            peer_id: offer.peer_id,
            offer_id: offer.offer_id,
            offer: batch.json(offer.json.clone()),
        };
        if self.deliver(receiver.member, what, &message) {
            self.count(LetterKind::Offer, LetterOutcome::Delivered);
        } else {
            self.count(LetterKind::Offer, LetterOutcome::Full);
            self.withdraw(tiding, offer);
            self.undelivered.push(Tiding {
                node: NodeIndex::HERE,
                info_hash: tiding.info_hash,
                kind: TidingKind::Withdrawal(receiver),
            });
        }
    }

    fn settle_answer(
        &mut self,
        batch: &ClusterBatch,
        tiding: &Tiding,
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
        let message = ForwardedAnswer {
            info_hash: tiding.info_hash,
            peer_id: answer.peer_id,
            offer_id: answer.offer_id,
            answer: batch.json(answer.json.clone()),
        };
        let outcome = match self.deliver(offerer, what, &message) {
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
    fn withdraw(&mut self, tiding: &Tiding, offer: &ArrivedOffer) {
        let receiver = offer.receiver;
        let withdrawal = Withdrawal {
            info_hash: tiding.info_hash,
            receiver: receiver.member.member(receiver.peer_id, receiver.network),
            name: receiver.hash,
        };
        self.post
            .withdraw(self.now, tiding.node, withdrawal, self.publish);
    }

    fn count(&self, kind: LetterKind, outcome: LetterOutcome) {
        self.counters.letters(kind, outcome).add(1);
    }
}
