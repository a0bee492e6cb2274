//! What a client asks.

use std::mem;

use aquatic_types::{AnnounceEvent, InfoHash, PeerId, PeerStatus};

use crate::json::{JsonError, Reader, Value};
use crate::message::{Parts, Sink};
use crate::text::Text;
use crate::{Action, Offer, OfferFault, OfferId, RequestError, RequestErrorKind, SkippedOffers};

/// What a client asks of a tracker.
///
/// Read tolerantly: members may come in any order, or more than once (the last one counts), null
/// is as good as nothing, and what is not known or not of the right kind is read past. An announce
/// only cannot do without `action`, `info_hash` and `peer_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Takes part in a swarm, and offers connections to other members.
    Announce(AnnounceRequest<'a>),
    /// Accepts an offer that the tracker has forwarded. On the wire it is an announce, too.
    Answer(AnswerRequest<'a>),
    /// Asks for the size of swarms.
    Scrape(ScrapeRequest),
}

/// Takes part in a swarm, and offers connections to other members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceRequest<'a> {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The client's name for itself.
    pub peer_id: PeerId,
    /// Bytes the client has sent to others, read like `bytes_left`.
    pub bytes_uploaded: Option<u64>,
    /// Bytes that it has received.
    pub bytes_downloaded: Option<u64>,
    /// Bytes the client still lacks; `None` if it did not say a number, or a negative one. Larger
    /// ones become `u64::MAX`. The number may also be the text of a string.
    pub bytes_left: Option<u64>,
    /// What has just happened; an unknown event is read as none.
    pub event: AnnounceEvent,
    /// How many peers the client would like to meet; `None` if it did not say, or said a negative
    /// number. Larger ones become `u32::MAX`. Need not be the number of offers, which is what
    /// counts: each is a connection that the client has ready.
    pub num_want: Option<u32>,
    /// Each to be forwarded to another peer. Entries without a name or an offer are left out.
    pub offers: Vec<Offer<'a>>,
    /// Those that are left out. Not written.
    pub skipped: Option<SkippedOffers>,
}

/// Accepts an offer that the tracker has forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerRequest<'a> {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The client's name for itself.
    pub peer_id: PeerId,
    /// Who has made the offer.
    pub to_peer_id: PeerId,
    /// Which offer it is.
    pub offer_id: OfferId,
    /// JSON of any kind but null; usually an object with a session description in it.
    pub answer: &'a str,
}

/// Asks for the size of swarms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapeRequest {
    /// The torrents, in the order in which they are asked for. There may be none: some applications
    /// ask so to see whether the tracker lives.
    pub info_hashes: Vec<InfoHash>,
}

impl<'a> Request<'a> {
    /// Reads a message, which is UTF-8 whether its frame says text or binary.
    ///
    /// # Errors
    ///
    /// Where the message is not a JSON object, its action is not known, or something is missing or
    /// cannot be used.
    pub fn parse(message: &'a [u8]) -> Result<Self, RequestError> {
        Self::parse_within(message, usize::MAX)
    }

    /// Reads a message, for one who passes on no offers and answers of more than
    /// `offer_bytes_max` bytes of JSON. Larger offers are left out.
    ///
    /// # Errors
    ///
    /// As [`Self::parse`]; and where the answer to an offer is larger.
    pub fn parse_within(message: &'a [u8], offer_bytes_max: usize) -> Result<Self, RequestError> {
        let mut members = Members {
            offer_bytes_max,
            ..Members::default()
        };
        let read = members.read(message);
        read.and_then(|()| members.take_request())
            .map_err(|kind| members.error(kind))
    }
}

/// All members of interest that a request may have, whichever kind it is.
#[derive(Default)]
struct Members<'a> {
    action: Option<Value<'a>>,
    info_hash: Option<Value<'a>>,
    peer_id: Option<Value<'a>>,
    to_peer_id: Option<Value<'a>>,
    offer_id: Option<Value<'a>>,
    answer: Option<Value<'a>>,
    uploaded: Option<Value<'a>>,
    downloaded: Option<Value<'a>>,
    left: Option<Value<'a>>,
    event: Option<Value<'a>>,
    numwant: Option<Value<'a>>,
    offers: Vec<Offer<'a>>,
    skipped: Option<SkippedOffers>,
    /// Bytes of the largest offer or answer.
    offer_bytes_max: usize,
}

/// For how many offers there is room in the first place: twice what clients send.
const OFFERS_USUAL: usize = 10;

impl<'a> Members<'a> {
    /// Where the message turns out to be bad, what came before that has been noted.
    fn read(&mut self, message: &'a [u8]) -> Result<(), RequestErrorKind> {
        let text = str::from_utf8(message).map_err(|_| RequestErrorKind::Utf8)?;
        let mut reader = Reader::new(text);
        reader.members(|reader, key| {
            let member = match &*key.decoded() {
                "action" => &mut self.action,
                "info_hash" => &mut self.info_hash,
                "peer_id" => &mut self.peer_id,
                "to_peer_id" => &mut self.to_peer_id,
                "offer_id" => &mut self.offer_id,
                "answer" => &mut self.answer,
                "uploaded" => &mut self.uploaded,
                "downloaded" => &mut self.downloaded,
                "left" => &mut self.left,
                "event" => &mut self.event,
                "numwant" => &mut self.numwant,
                "offers" => return self.read_offers(reader),
                _ => return reader.value().map(drop),
            };
            *member = reader.value()?.unless_null();
            Ok(())
        })?;
        Ok(reader.end()?)
    }

    fn read_offers(&mut self, reader: &mut Reader<'a>) -> Result<(), JsonError> {
        self.offers.clear();
        self.skipped = None;
        if !reader.is_next(b'[') {
            return reader.value().map(drop);
        }
        self.offers.reserve(OFFERS_USUAL);
        let mut place = 0;
        reader.elements(|reader| {
            let is_too_large = |it: &Offer<'_>| it.offer.len() > self.offer_bytes_max;
            match Offer::read(reader)? {
                Ok(offer) if is_too_large(&offer) => {
                    SkippedOffers::note(&mut self.skipped, place, OfferFault::TooLarge);
                }
                Ok(offer) => self.offers.push(offer),
                Err(fault) => SkippedOffers::note(&mut self.skipped, place, fault),
            }
            place += 1;
            Ok(())
        })
    }

    fn take_request(&mut self) -> Result<Request<'a>, RequestErrorKind> {
        let action = self.action.ok_or(RequestErrorKind::ActionMissing)?;
        match Action::read(action).ok_or(RequestErrorKind::ActionUnknown)? {
            Action::Announce if self.to_peer_id.is_some() || self.answer.is_some() => {
                self.answer().map(Request::Answer)
            }
            Action::Announce => self.take_announce().map(Request::Announce),
            Action::Scrape => {
                let info_hashes = read_info_hashes(self.info_hash)?;
                Ok(Request::Scrape(ScrapeRequest { info_hashes }))
            }
        }
    }

    fn take_announce(&mut self) -> Result<AnnounceRequest<'a>, RequestErrorKind> {
        let (info_hash, peer_id) = self.identity()?;
        let num_want = self.numwant.and_then(Value::number);
        Ok(AnnounceRequest {
            info_hash,
            peer_id,
            bytes_uploaded: self.uploaded.and_then(Value::number),
            bytes_downloaded: self.downloaded.and_then(Value::number),
            bytes_left: self.left.and_then(Value::number),
            event: self.event.map_or(AnnounceEvent::None, read_event),
            num_want: num_want.map(|wanted| wanted.try_into().unwrap_or(u32::MAX)),
            offers: mem::take(&mut self.offers),
            skipped: self.skipped,
        })
    }

    fn answer(&self) -> Result<AnswerRequest<'a>, RequestErrorKind> {
        use RequestErrorKind::{
            AnswerMissing, AnswerSize, OfferIdMissing, OfferIdSize, ToPeerIdMissing, ToPeerIdSize,
        };
        let (info_hash, peer_id) = self.identity()?;
        let to_peer_id = bytes_20(self.to_peer_id, ToPeerIdMissing, ToPeerIdSize)?;
        let offer_id = bytes_20(self.offer_id, OfferIdMissing, OfferIdSize)?;
        let answer = self.answer.ok_or(AnswerMissing)?.json();
        if answer.len() > self.offer_bytes_max {
            return Err(AnswerSize);
        }
        Ok(AnswerRequest {
            info_hash,
            peer_id,
            to_peer_id: PeerId(to_peer_id),
            offer_id: OfferId(offer_id),
            answer,
        })
    }

    /// What every announce and every answer has.
    fn identity(&self) -> Result<(InfoHash, PeerId), RequestErrorKind> {
        use RequestErrorKind::{InfoHashMissing, InfoHashSize, PeerIdMissing, PeerIdSize};
        let info_hash = bytes_20(self.info_hash, InfoHashMissing, InfoHashSize)?;
        let peer_id = bytes_20(self.peer_id, PeerIdMissing, PeerIdSize)?;
        Ok((InfoHash(info_hash), PeerId(peer_id)))
    }

    fn error(&self, kind: RequestErrorKind) -> RequestError {
        let action = self.action.and_then(Action::read);
        let info_hash = self.info_hash.and_then(Value::bytes_20);
        RequestError {
            kind,
            action: action.unwrap_or(Action::Announce),
            info_hash: info_hash.map(InfoHash),
        }
    }
}

fn bytes_20(
    value: Option<Value<'_>>,
    missing: RequestErrorKind,
    wrong_size: RequestErrorKind,
) -> Result<[u8; 20], RequestErrorKind> {
    value.ok_or(missing)?.bytes_20().ok_or(wrong_size)
}

/// The torrents of a scrape: one, a list of them, or nothing.
fn read_info_hashes(value: Option<Value<'_>>) -> Result<Vec<InfoHash>, RequestErrorKind> {
    let Some(value) = value else {
        return Ok(Vec::new());
    };
    let bytes: Option<Vec<[u8; 20]>> = if value.is_array() {
        value.elements().map(Value::bytes_20).collect()
    } else {
        value.bytes_20().map(|bytes| vec![bytes])
    };
    let bytes = bytes.ok_or(RequestErrorKind::InfoHashSize)?;
    Ok(bytes.into_iter().map(InfoHash).collect())
}

/// `update`, `paused` and any other word mean nothing to the swarm.
fn read_event(value: Value<'_>) -> AnnounceEvent {
    let event = value.text().map(Text::decoded).unwrap_or_default();
    match &*event {
        "completed" => AnnounceEvent::Completed,
        "started" => AnnounceEvent::Started,
        "stopped" => AnnounceEvent::Stopped,
        _ => AnnounceEvent::None,
    }
}

impl AnnounceRequest<'_> {
    /// Which part of the swarm the client belongs to.
    #[must_use]
    pub fn status(&self) -> PeerStatus {
        PeerStatus::of_client(self.event, self.bytes_left)
    }
}

impl Parts for Request<'_> {
    fn put(&self, sink: &mut impl Sink) {
        match self {
            Self::Announce(announce) => announce.put(sink),
            Self::Answer(answer) => answer.put(sink),
            Self::Scrape(scrape) => scrape.put(sink),
        }
    }
}

impl Parts for AnnounceRequest<'_> {
    fn put(&self, sink: &mut impl Sink) {
        sink.put_announce(self.info_hash, self.peer_id);
        for (key, number) in [
            (r#","uploaded":"#, self.bytes_uploaded),
            (r#","downloaded":"#, self.bytes_downloaded),
            (r#","left":"#, self.bytes_left),
        ] {
            if let Some(number) = number {
                sink.put_number(key, number);
            }
        }
        sink.put(match self.event {
            AnnounceEvent::None => "",
            AnnounceEvent::Completed => r#","event":"completed""#,
            AnnounceEvent::Started => r#","event":"started""#,
            AnnounceEvent::Stopped => r#","event":"stopped""#,
        });
        if let Some(wanted) = self.num_want {
            sink.put_number(r#","numwant":"#, wanted);
        }
        sink.put(r#","offers":["#);
        let mut before = r#"{"offer_id":""#;
        for Offer { offer_id, offer } in &self.offers {
            sink.put_signal(before, *offer_id, r#","offer":"#, offer);
            before = r#",{"offer_id":""#;
        }
        sink.put("]}");
    }
}

impl Parts for AnswerRequest<'_> {
    fn put(&self, sink: &mut impl Sink) {
        sink.put_announce(self.info_hash, self.peer_id);
        sink.put_bytes_20(r#","to_peer_id":""#, &self.to_peer_id.0);
        sink.put_signal(
            r#","offer_id":""#,
            self.offer_id,
            r#","answer":"#,
            self.answer,
        );
    }
}

impl Parts for ScrapeRequest {
    fn put(&self, sink: &mut impl Sink) {
        sink.put(r#"{"action":"scrape","info_hash":["#);
        let mut before = "\"";
        for info_hash in &self.info_hashes {
            sink.put_bytes_20(before, &info_hash.0);
            before = ",\"";
        }
        sink.put("]}");
    }
}
