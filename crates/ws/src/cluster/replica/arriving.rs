//! What other nodes have published, on its way to the shards. It is looked at as something that
//! strangers say: nothing is passed on that clients here could not have said.

use aquatic_cluster::nodes::NodeIndex;
use aquatic_cluster::replica::{Received, Replica as _};
use aquatic_daemon::clock::Now;
use aquatic_swarm::PEER_AGE_MAX_SECONDS;
use aquatic_swarm_log::{
    AnswerLetter, Letter, Letters, MemberRecord, OfferLetter, Records, Withdrawal,
};
use aquatic_types::{InfoHash, PeerStatus, Seconds};
use aquatic_ws_protocol::{OfferId, is_json};

use super::MemberReplica;
use crate::cluster::batch::{ArrivedAnswer, ArrivedOffer, RemoteKind, RemoteMessage};
use crate::cluster::counters::{LetterKind, LetterOutcome, MemberOutcome};
use crate::messages::{ConnectionRef, Receiver};

/// Offers whose nodes are told that they have not come to their receivers. Others stay open there
/// until their time is over.
const NOT_TAKEN_MAX: usize = 4_096;

impl MemberReplica {
    pub(super) fn hear_members(
        &mut self,
        now: Now,
        received: &Received<'_>,
        records: Records<'_, MemberRecord>,
    ) {
        self.access_list.refresh();
        let is_counted = self.counted.has(now, received);
        for record in records {
            let outcome = match record.ok() {
                Some(mut record) => {
                    record.is_finished |= is_counted && record.has_completed;
                    record.has_completed &= !is_counted;
                    self.hear_member(now, received, record)
                }
                None => Some(MemberOutcome::Invalid),
            };
            if let Some(outcome) = outcome {
                self.counters.members.of(outcome).add(1);
            }
        }
    }

    /// Returns what has become of a record that no shard is asked about.
    fn hear_member(
        &mut self,
        now: Now,
        received: &Received<'_>,
        record: MemberRecord,
    ) -> Option<MemberOutcome> {
        let member = &record.member;
        let Some(connection) = ConnectionRef::of_member(received.from, member) else {
            return Some(MemberOutcome::Invalid);
        };
        let Some(until) = until(now, received.age_millis, record.seconds_left) else {
            return Some(MemberOutcome::Known);
        };
        let leaves = record.status == PeerStatus::Stopped;
        let is_allowed =
            self.access_list.is_allowed(&record.info_hash) && self.peer_ids.allow(&member.peer_id);
        // It may have been allowed before.
        if !is_allowed && !leaves {
            return Some(MemberOutcome::Forbidden);
        }
        let message = |until, is_live| RemoteMessage {
            node: received.from,
            info_hash: record.info_hash,
            kind: RemoteKind::Member {
                record,
                connection,
                until,
                is_live,
            },
        };
        // It does not undo the return of somebody who has come back at once.
        let before = Seconds(until.0.saturating_sub(1));
        if leaves && !received.is_logged {
            self.departures.note(now, || message(before, false));
        }
        let until = if leaves && received.is_late {
            before
        } else {
            until
        };
        let message = message(until, received.is_newest());
        let is_on_its_way = self.pass_on(message, None);
        (!is_on_its_way).then_some(MemberOutcome::Lost)
    }

    /// Tells departures once more: an arrival may have been told after the departure that followed
    /// it, out of the log.
    pub(super) fn repeat_departures(&mut self, now: Now) {
        while self.has_room()
            && let Some(message) = self.departures.next(now)
        {
            self.pass_on(message, None);
        }
    }

    pub(super) fn hear_letters(&mut self, from: NodeIndex, letters: Letters<'_>) {
        self.access_list.refresh();
        for letter in letters {
            let (kind, outcome) = match letter {
                Ok(Letter::Offer(it)) => {
                    let outcome = self.hear_offer(from, &it);
                    if outcome.is_err() && self.not_taken.len() < NOT_TAKEN_MAX {
                        let withdrawal = Withdrawal {
                            info_hash: it.info_hash,
                            receiver: it.receiver,
                            name: it.name,
                        };
                        self.not_taken.push((from, withdrawal));
                    }
                    (LetterKind::Offer, outcome)
                }
                Ok(Letter::Answer(it)) => (LetterKind::Answer, self.hear_answer(from, &it)),
                Ok(Letter::Withdrawal(it)) => {
                    let outcome = self.hear_withdrawal(from, &it);
                    (LetterKind::Withdrawal, outcome)
                }
                Err(_) => (LetterKind::Other, Err(LetterOutcome::Invalid)),
            };
            if let Err(outcome) = outcome {
                self.counters.letters(kind, outcome).add(1);
            }
        }
    }

    fn hear_offer(
        &mut self,
        from: NodeIndex,
        letter: &OfferLetter<'_>,
    ) -> Result<(), LetterOutcome> {
        let offer = arrived_offer(from, letter).ok_or(LetterOutcome::Invalid)?;
        if !self.peer_ids.allow(&offer.peer_id) {
            return Err(LetterOutcome::Refused);
        }
        let kind = RemoteKind::Offer(offer);
        self.hear_letter(from, letter.info_hash, kind, Some(letter.json))
    }

    fn hear_answer(
        &mut self,
        from: NodeIndex,
        letter: &AnswerLetter<'_>,
    ) -> Result<(), LetterOutcome> {
        let answer = arrived_answer(from, letter).ok_or(LetterOutcome::Invalid)?;
        let kind = RemoteKind::Answer(answer);
        self.hear_letter(from, letter.info_hash, kind, Some(letter.json))
    }

    fn hear_withdrawal(
        &mut self,
        from: NodeIndex,
        letter: &Withdrawal,
    ) -> Result<(), LetterOutcome> {
        let receiver = Receiver::of_member(from, &letter.receiver, letter.name);
        let kind = RemoteKind::Withdrawal(receiver.ok_or(LetterOutcome::Invalid)?);
        self.hear_letter(from, letter.info_hash, kind, None)
    }

    /// Passes on what a letter says, with this offer or answer, if that may be.
    fn hear_letter(
        &mut self,
        from: NodeIndex,
        info_hash: InfoHash,
        kind: RemoteKind,
        json: Option<&str>,
    ) -> Result<(), LetterOutcome> {
        if let Some(json) = json {
            self.check(&info_hash, json)?;
        }
        let message = RemoteMessage {
            node: from,
            info_hash,
            kind,
        };
        let is_on_its_way = self.pass_on(message, json);
        is_on_its_way.then_some(()).ok_or(LetterOutcome::Full)
    }

    /// Whether an offer or answer may be passed on.
    fn check(&mut self, info_hash: &InfoHash, json: &str) -> Result<(), LetterOutcome> {
        if json.len() > self.offer_bytes_max {
            return Err(LetterOutcome::TooLarge);
        }
        if !self.access_list.is_allowed(info_hash) {
            return Err(LetterOutcome::Refused);
        }
        is_json(json).then_some(()).ok_or(LetterOutcome::Invalid)
    }

    /// Puts something on its way to its shard, with this offer or answer. Returns whether there was
    /// room.
    pub(super) fn pass_on(&mut self, mut message: RemoteMessage, json: Option<&str>) -> bool {
        let shard = self.dispatcher.shard_of(&message.info_hash);
        let Some(batch) = self.dispatcher.batch_for(shard) else {
            return false;
        };
        batch.shard = shard;
        if let Some(json) = json {
            let place = batch.keep(json);
            match &mut message.kind {
                RemoteKind::Offer(offer) => offer.json = place,
                RemoteKind::Answer(answer) => answer.json = place,
                RemoteKind::Member { .. } | RemoteKind::Withdrawal(_) => {}
            }
        }
        batch.messages.push(message);
        true
    }
}

/// What an offer says. Where its JSON is kept is not known yet.
fn arrived_offer(from: NodeIndex, letter: &OfferLetter<'_>) -> Option<ArrivedOffer> {
    let offerer = &letter.offerer;
    Some(ArrivedOffer {
        offer_id: OfferId(letter.offer_id),
        offerer: ConnectionRef::of_member(from, offerer)?,
        peer_id: offerer.peer_id,
        family: letter.family,
        network: offerer.network,
        receiver: Receiver::of_member(NodeIndex::HERE, &letter.receiver, letter.name)?,
        json: 0..0,
    })
}

/// The same of an answer.
fn arrived_answer(from: NodeIndex, letter: &AnswerLetter<'_>) -> Option<ArrivedAnswer> {
    let answerer = &letter.answerer;
    Some(ArrivedAnswer {
        offer_id: OfferId(letter.offer_id),
        offerer: letter.offerer,
        answerer: ConnectionRef::of_member(from, answerer)?,
        peer_id: answerer.peer_id,
        siblings: letter.siblings.iter().collect(),
        family: letter.family,
        network: answerer.network,
        json: 0..0,
    })
}

/// Until when something is believed that was told so long ago, to hold for so many seconds; `None`
/// if that time is over.
fn until(now: Now, age_millis: u64, seconds_left: u16) -> Option<Seconds> {
    let life = u64::from(seconds_left).min(PEER_AGE_MAX_SECONDS.into());
    let left_millis = (life * 1_000).checked_sub(age_millis)?;
    let until = (now.micros / 1_000 + left_millis) / 1_000;
    let until = Seconds(u32::try_from(until).ok()?);
    (until >= now.seconds).then_some(until)
}
