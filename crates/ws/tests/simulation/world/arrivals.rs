//! What becomes of messages that reach clients.

use aquatic_types::{InfoHash, PeerId};
use aquatic_ws_protocol::{FailureResponse, OfferId, Response};

use super::{Reply, World};

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
        for message in self.clients[client].receive(bytes, &mut self.rng) {
            let response = Response::parse(&message).expect("a message of a tracker");
            self.take(client, &response);
        }
    }

    fn take(&mut self, client: usize, response: &Response<'_>) {
        let now = self.now().seconds.0;
        match response {
            Response::Announce(announce) => {
                let (seeders, leechers) = (announce.seeders, announce.leechers);
                self.take_reply(client, announce.info_hash);
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

    fn take_reply(&mut self, client: usize, info_hash: InfoHash) {
        let unanswered = &mut self.clients[client].unanswered;
        let count = unanswered.get_mut(&info_hash).expect("it has announced");
        *count = count.checked_sub(1).expect("one reply per announce");
    }

    fn take_failure(&mut self, client: usize, failure: &FailureResponse<'_>) {
        let of_announces = ["too many torrents", "too many peers"];
        let of_answers = [
            "peer_id is not in this swarm",
            "offer_id names no open offer",
        ];
        let of_both = ["torrent not allowed"];
        let is_it = |reason: &&&'static str| failure.reason.starts_with(**reason);
        let Some(info_hash) = failure.info_hash else {
            return;
        };
        let waits = self.clients[client].unanswered.get(&info_hash);
        let waits = waits.is_some_and(|count| *count > 0);
        if of_announces.iter().any(|it| is_it(&it))
            || (waits && of_both.iter().any(|it| is_it(&it)))
        {
            self.take_reply(client, info_hash);
        }
        let mut reasons = of_announces.iter().chain(&of_answers).chain(&of_both);
        let reason = reasons.find(is_it);
        let reason = reason.unwrap_or_else(|| panic!("{failure:?}"));
        let replies = &mut self.arrived.replies;
        replies.push((client, info_hash, Reply::Failure(reason)));
    }
}
