//! What becomes of messages that reach clients.

use aquatic_types::{InfoHash, PeerId};
use aquatic_ws_protocol::{FailureResponse, OfferId, Response};

use super::{Reply, World};
use crate::simulation::keys::{FULL, REFUSALS};
use crate::simulation::replies::{For, Sent};

/// What those are told whose torrent the access list forbids.
const DENIED: &str = "torrent not allowed";

/// What a scrape says about a torrent, with the completed downloads.
pub(super) type Row = (InfoHash, Reply, u32);

/// Messages by receiver.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    pub(super) replies: Vec<(usize, InfoHash, Reply)>,
    pub(super) offers: Vec<(usize, OfferId)>,
    pub(super) answers: Vec<usize>,
    pub(super) scrapes: Vec<(usize, Vec<Row>)>,
}

impl World {
    pub(super) fn read(&mut self, client: usize, bytes: &[u8]) {
        let (messages, handshake) = self.clients[client].receive(bytes, &mut self.rng);
        self.check_connection(client, handshake.as_ref(), messages.len());
        for message in messages {
            let response = Response::parse(&message).expect("a message of a tracker");
            self.take(client, &response);
        }
    }

    fn take(&mut self, client: usize, response: &Response<'_>) {
        let now = self.now().seconds.0;
        match response {
            Response::Announce(announce) => {
                let (seeders, leechers) = (announce.seeders, announce.leechers);
                let what = For::Allowed(Sent::Announce);
                self.take_reply(client, announce.info_hash, what);
                let reply = Reply::Counts { seeders, leechers };
                let replies = &mut self.arrived.replies;
                replies.push((client, announce.info_hash, reply));
            }
            Response::Failure(failure) => self.take_failure(client, failure),
            Response::Offer(offer) => {
                self.ledger.offer_arrives(client, offer, now);
                self.arrived.offers.push((client, offer.offer_id));
                let own = self.peer_id_of(client);
                let offers = &mut self.clients[client].offers;
                offers.push((offer.info_hash, offer.offer_id, own));
            }
            Response::Answer(answer) => {
                let age_max = self.config.cleaning.max_offer_age;
                self.ledger.answer_arrives(client, answer, age_max);
                self.arrived.answers.push(client);
            }
            Response::Scrape(scrape) => {
                let rows = scrape.files().iter().map(|file| {
                    let counts = Reply::Counts {
                        seeders: file.seeders,
                        leechers: file.leechers,
                    };
                    (file.info_hash, counts, file.completed)
                });
                self.arrived.scrapes.push((client, rows.collect()));
            }
        }
    }

    pub(super) fn peer_id_of(&self, client: usize) -> PeerId {
        let mut peer_id = PeerId(*b"-WW0100-____________");
        peer_id.0[12..].copy_from_slice(&u64::try_from(client).unwrap().to_be_bytes());
        peer_id
    }

    fn take_reply(&mut self, client: usize, info_hash: InfoHash, what: For) {
        let replies = self.clients[client].replies.get_mut(&info_hash);
        let replies = replies.expect("it has asked about that torrent");
        let was_replaced = replies.come(what, &info_hash, &self.lists);
        self.tally
            .note_if("requests on their way at a reload", was_replaced);
    }

    fn take_failure(&mut self, client: usize, failure: &FailureResponse<'_>) {
        let of_announces = [
            "too many torrents",
            "too many peers",
            "too many peer ids",
            FULL,
        ];
        let of_answers = [
            "peer_id is not in this swarm",
            "offer_id names no open offer",
        ];
        let of_both = [DENIED].into_iter().chain(REFUSALS).collect::<Vec<_>>();
        let is_it = |reason: &&&'static str| failure.reason.starts_with(**reason);
        let Some(info_hash) = failure.info_hash else {
            return;
        };
        let mut reasons = of_announces.iter().chain(&of_answers).chain(&of_both);
        let reason = reasons.find(is_it);
        let reason = reason.unwrap_or_else(|| panic!("{failure:?}"));
        let what = match *reason {
            DENIED => For::Denied,
            it if REFUSALS.contains(&it) => For::Keyless,
            it if of_announces.contains(&it) => For::Allowed(Sent::Announce),
            _ => For::Allowed(Sent::Answer),
        };
        self.take_reply(client, info_hash, what);
        let replies = &mut self.arrived.replies;
        replies.push((client, info_hash, Reply::Failure(reason)));
    }
}
