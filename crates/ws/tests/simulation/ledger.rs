//! Where every offer and answer is, and whether it may be there.

use std::collections::{BTreeMap, BTreeSet};

use aquatic_types::{InfoHash, PeerId};
use aquatic_ws_protocol::{ForwardedAnswer, ForwardedOffer, OfferId};

/// Every offer that was ever made. Their names are unique here.
#[derive(Default)]
pub(crate) struct Ledger {
    offers: BTreeMap<OfferId, Entry>,
    /// Under which names clients have announced to a torrent.
    names: BTreeSet<(usize, InfoHash, PeerId)>,
    pub(crate) answers_received: usize,
}

struct Entry {
    info_hash: InfoHash,
    /// Client and peer that offer.
    by: (usize, PeerId),
    json: String,
    /// Client that has got it, and when in seconds.
    delivered: Option<(usize, u32)>,
    /// Answers that clients have sent: who, as whom, when, what.
    answers: Vec<(usize, PeerId, u32, String)>,
    is_answered: bool,
}

impl Ledger {
    pub(crate) fn announced(&mut self, client: usize, info_hash: InfoHash, peer_id: PeerId) {
        self.names.insert((client, info_hash, peer_id));
    }

    pub(crate) fn new_offer(
        &mut self,
        info_hash: InfoHash,
        by: (usize, PeerId),
        padding: usize,
        rng: &mut fastrand::Rng,
    ) -> (OfferId, String) {
        let mut id = [0; 20];
        rng.fill(&mut id);
        let padding = "=".repeat(padding);
        let json = format!(r#"{{"type":"offer", "sdp":"{}\né{padding}"}}"#, rng.u64(..));
        let entry = Entry {
            info_hash,
            by,
            json: json.clone(),
            delivered: None,
            answers: Vec::new(),
            is_answered: false,
        };
        self.offers.insert(OfferId(id), entry);
        (OfferId(id), json)
    }

    /// A client sends an answer, rightly or not.
    pub(crate) fn new_answer(
        &mut self,
        offer_id: OfferId,
        (client, peer_id): (usize, PeerId),
        now: u32,
        rng: &mut fastrand::Rng,
    ) -> String {
        let json = format!(r#"{{"sdp": [{}, null]}}"#, rng.u64(..));
        if let Some(entry) = self.offers.get_mut(&offer_id) {
            entry.answers.push((client, peer_id, now, json.clone()));
        }
        json
    }

    /// Who has made an offer.
    pub(crate) fn maker(&self, offer_id: &OfferId) -> (usize, PeerId) {
        self.offers[offer_id].by
    }

    /// Any offer that somebody has got.
    pub(crate) fn any(&self, rng: &mut fastrand::Rng) -> Option<(InfoHash, OfferId)> {
        let offers = self.offers.iter();
        let delivered = offers.filter(|(_, entry)| entry.delivered.is_some());
        let (offer_id, entry) = rng.choice(delivered.collect::<Vec<_>>())?;
        Some((entry.info_hash, *offer_id))
    }

    pub(crate) fn offer_arrives(&mut self, client: usize, offer: &ForwardedOffer<'_>, now: u32) {
        let entry = self.offers.get_mut(&offer.offer_id);
        let entry = entry.expect("an offer that nobody has made");
        assert_eq!(entry.info_hash, offer.info_hash);
        assert_eq!(entry.by.1, offer.peer_id);
        assert_eq!(entry.json, offer.offer, "it was changed on the way");
        let mut names = self.names.iter();
        let is_other = |(who, torrent, name): &&(usize, InfoHash, PeerId)| {
            *who == client && *torrent == offer.info_hash && *name != offer.peer_id
        };
        assert!(names.any(|it| is_other(&it)), "it came back to its sender");
        let before = entry.delivered.replace((client, now));
        assert_eq!(before, None, "it came twice");
    }

    pub(crate) fn answer_arrives(
        &mut self,
        client: usize,
        answer: &ForwardedAnswer<'_>,
        offer_age_max: u32,
    ) {
        let entry = self.offers.get_mut(&answer.offer_id);
        let entry = entry.expect("an answer to an offer that nobody has made");
        assert_eq!(entry.info_hash, answer.info_hash);
        assert_eq!(entry.by.0, client, "it is for somebody else");
        let (answerer, delivered_at) = entry.delivered.expect("an answer without its offer");
        let name = (answerer, answer.info_hash, answer.peer_id);
        assert!(
            self.names.contains(&name),
            "the offer was for somebody else"
        );
        let mut sent = entry.answers.iter();
        let sent = sent.find(|(who, name, _, json)| {
            (*who, *name) == (answerer, answer.peer_id) && json == answer.answer
        });
        let (_, _, sent_at, _) = sent.expect("nobody has sent that answer");
        assert!(
            *sent_at <= delivered_at + offer_age_max,
            "an answer after the offer has expired"
        );
        assert!(
            !std::mem::replace(&mut entry.is_answered, true),
            "a second answer"
        );
        self.answers_received += 1;
    }
}
