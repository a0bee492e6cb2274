//! What browsers send, as bytes. Pure.

use std::sync::Arc;

use aquatic_types::{AnnounceEvent, InfoHash, PeerId};
use aquatic_ws_protocol::{
    AnnounceRequest, AnswerRequest, ForwardedOffer, Message, Offer, OfferId, ScrapeRequest,
};
use fastrand::Rng;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::core::population::{Peer, Population};
use crate::ws::config::LoadTestConfig;
use crate::ws::frames;

/// Writes the messages of a worker's browsers.
#[derive(Clone, Debug)]
pub struct MessageWriter {
    population: Arc<Population>,
    /// What stands before the key in the request that becomes a WebSocket, and after it.
    upgrade: [String; 2],
    offers_per_announce: u8,
    scrape_torrents: u8,
    /// JSON.
    offer: String,
    /// JSON.
    answer: String,
    torrents: Vec<InfoHash>,
}

/// What the name of an offer tells: whose it is, which one, and when its announce was due. So
/// nothing has to be kept about offers until they are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferName {
    /// The client's number.
    pub client: u32,
    /// Which of its offers it is.
    pub number: u32,
    /// When the announce was due.
    pub due_micros: u64,
}

/// What the names of our offers begin with.
const MAGIC: [u8; 4] = *b"load";

impl OfferName {
    /// The 20 bytes.
    #[must_use]
    pub fn to_id(self) -> OfferId {
        let mut id = [0; 20];
        id[..4].copy_from_slice(&MAGIC);
        id[4..8].copy_from_slice(&self.client.to_be_bytes());
        id[8..12].copy_from_slice(&self.number.to_be_bytes());
        id[12..].copy_from_slice(&self.due_micros.to_be_bytes());
        OfferId(id)
    }

    /// `None` if it is not one of ours.
    #[must_use]
    pub fn from_id(id: OfferId) -> Option<Self> {
        let rest = id.0.strip_prefix(&MAGIC)?;
        let (client, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (due_micros, _) = rest.split_first_chunk()?;
        Some(Self {
            client: u32::from_be_bytes(*client),
            number: u32::from_be_bytes(*number),
            due_micros: u64::from_be_bytes(*due_micros),
        })
    }
}

impl MessageWriter {
    /// What is sent follows from the configuration.
    #[must_use]
    pub fn new(config: &LoadTestConfig, population: Arc<Population>) -> Self {
        let requests = &config.requests;
        let lines = requests.headers.iter().map(|line| format!("{line}\r\n"));
        let description = "o".repeat(requests.session_description_bytes);
        let signal = |kind: &str| format!(r#"{{"type":"{kind}","sdp":"{description}"}}"#);
        Self {
            population,
            upgrade: [
                format!(
                    "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ",
                    requests.path, config.run.server_address
                ),
                format!("\r\n{}\r\n", lines.collect::<String>()),
            ],
            offers_per_announce: requests.offers_per_announce,
            scrape_torrents: requests.scrape_torrents,
            offer: signal("offer"),
            answer: signal("answer"),
            torrents: Vec::new(),
        }
    }

    /// Appends the request that becomes a WebSocket.
    pub fn upgrade(&self, key: &str, out: &mut Vec<u8>) {
        let [before, after] = &self.upgrade;
        for part in [before, key, after] {
            out.extend_from_slice(part.as_bytes());
        }
    }

    /// Appends an announce by a member of a swarm, with offers of which `name` is the first. Gives
    /// back the torrent and how many offers there are.
    pub fn announce(
        &self,
        peer_id: PeerId,
        member: Peer,
        name: OfferName,
        rng: &mut Rng,
        out: &mut Vec<u8>,
    ) -> (InfoHash, u8) {
        let info_hash = self.population.info_hash(member.torrent);
        let offer = |place: u8| Offer {
            offer_id: OfferName {
                number: name.number.wrapping_add(place.into()),
                ..name
            }
            .to_id(),
            offer: &self.offer,
        };
        let announce = AnnounceRequest {
            info_hash,
            peer_id,
            bytes_uploaded: None,
            bytes_downloaded: None,
            bytes_left: Some(if member.is_seeder { 0 } else { 1 << 20 }),
            event: AnnounceEvent::None,
            num_want: Some(self.offers_per_announce.into()),
            offers: (0..self.offers_per_announce).map(offer).collect(),
            skipped: None,
        };
        write_text(&announce, rng, out);
        (info_hash, self.offers_per_announce)
    }

    /// Appends a scrape. Gives back how many torrents it is about.
    pub fn scrape(&mut self, rng: &mut Rng, out: &mut Vec<u8>) -> u32 {
        let mut torrents = std::mem::take(&mut self.torrents);
        let population = &self.population;
        let rows = population.draw_different_torrents(self.scrape_torrents, rng, &mut torrents);
        let scrape = ScrapeRequest {
            info_hashes: torrents,
        };
        write_text(&scrape, rng, out);
        self.torrents = scrape.info_hashes;
        rows
    }

    /// Appends an answer to an offer that has come.
    pub fn answer(
        &self,
        peer_id: PeerId,
        offer: &ForwardedOffer<'_>,
        rng: &mut Rng,
        out: &mut Vec<u8>,
    ) {
        let answer = AnswerRequest {
            info_hash: offer.info_hash,
            peer_id,
            to_peer_id: offer.peer_id,
            offer_id: offer.offer_id,
            answer: &self.answer,
        };
        write_text(&answer, rng, out);
    }
}

/// Appends the answer to a ping.
pub fn write_pong(payload: &[u8], rng: &mut Rng, out: &mut Vec<u8>) {
    let pong = OpCode::Control(Control::Pong);
    frames::write(pong, payload.len(), mask(rng), out, |out| {
        out.extend_from_slice(payload);
    });
}

fn write_text(message: &impl Message, rng: &mut Rng, out: &mut Vec<u8>) {
    let text = OpCode::Data(Data::Text);
    frames::write(text, message.size(), mask(rng), out, |out| {
        message.write(out);
    });
}

fn mask(rng: &mut Rng) -> [u8; 4] {
    rng.u32(..).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_offers_tell_what_was_put_into_them() {
        let name = OfferName {
            client: 4_000_000_000,
            number: 17,
            due_micros: 1 << 40,
        };
        assert_eq!(OfferName::from_id(name.to_id()), Some(name));
        assert_eq!(OfferName::from_id(OfferId(*b"somebody else's name")), None);
    }
}
