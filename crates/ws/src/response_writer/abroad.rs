//! What clients have for those of other nodes.

use aquatic_swarm_log::{AnswerLetter, Letter, OfferLetter, Siblings, Withdrawal};
use aquatic_types::PeerId;
use aquatic_ws_protocol::{ForwardedAnswer, ForwardedOffer};

use super::ResponseWriter;
use crate::counters::Reason;
use crate::forwarding::Forwarded;
use crate::messages::{Answer, ConnectionRef, Receiver, Request};
use crate::notices::KEPT;

impl ResponseWriter {
    /// An offer is for a client of another node.
    pub(super) fn send_offer(
        &mut self,
        request: &Request,
        receiver: &Receiver,
        what: Forwarded,
        message: &ForwardedOffer<'_>,
    ) {
        let offerer = ConnectionRef::here(self.worker, request.connection);
        let letter = OfferLetter {
            info_hash: message.info_hash,
            offer_id: message.offer_id.0,
            offerer: offerer.member(message.peer_id, request.network),
            family: request.family,
            receiver: receiver.member.member(receiver.peer_id, receiver.network),
            name: receiver.hash,
            json: message.offer,
        };
        self.send(receiver.member, what, Letter::Offer(letter));
    }

    /// An answer is for a client of another node.
    pub(super) fn send_answer(
        &mut self,
        request: &Request,
        answer: &Answer,
        to: ConnectionRef,
        what: Forwarded,
        message: &ForwardedAnswer<'_>,
    ) {
        let answerer = ConnectionRef::here(self.worker, request.connection);
        let siblings: Vec<_> = answer.siblings.iter().map(|PeerId(it)| *it).collect();
        let letter = AnswerLetter {
            info_hash: message.info_hash,
            offer_id: message.offer_id.0,
            offerer: answer.to_peer_id,
            answerer: answerer.member(message.peer_id, request.network),
            family: request.family,
            siblings: Siblings::new(siblings.as_flattened()).unwrap_or(Siblings::NONE),
            json: message.answer,
        };
        self.send(to, what, Letter::Answer(letter));
    }

    /// If an offer came from another node, that is to be told that it has not come to its receiver.
    pub(super) fn withdraw_elsewhere(&mut self, what: Forwarded) {
        let Some(offer) = what.offer else {
            return;
        };
        let Some(origin) = offer.origin else {
            return;
        };
        let receiver = offer.receiver;
        let withdrawal = Withdrawal {
            info_hash: offer.info_hash,
            receiver: receiver.member.member(receiver.peer_id, receiver.network),
            name: origin.name,
        };
        self.withdrawn.push((origin.node, withdrawal));
    }

    /// Other nodes are told of offers that have not come to their receivers. One for which there is
    /// no room stays open there until its time is over.
    pub(super) fn tell_of_withdrawn(&mut self) {
        for (node, withdrawal) in self.withdrawn.drain(..) {
            let write = |out: &mut Vec<u8>| Letter::Withdrawal(withdrawal).write(out);
            self.forwarding.send_letter(node, write);
        }
        self.withdrawn.shrink_to(KEPT);
    }

    fn send(&mut self, to: ConnectionRef, what: Forwarded, letter: Letter<'_>) {
        let write = |out: &mut Vec<u8>| letter.write(out);
        if !self.forwarding.send_letter(to.node, write) {
            self.drop_forwarded(Reason::DeliveryFull, what);
        }
    }
}
