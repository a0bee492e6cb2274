//! What a tracker sends.

use std::borrow::Cow;

use aquatic_types::{InfoHash, PeerId};

use crate::json::{Reader, Value};
use crate::message::{Parts, Sink};
use crate::text::Text;
use crate::{Action, OfferId, ResponseError, ScrapeResponse};

/// Any message of a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// Answers an announce.
    Announce(AnnounceResponse<'a>),
    /// Brings another peer's offer.
    Offer(ForwardedOffer<'a>),
    /// Brings another peer's answer to an offer.
    Answer(ForwardedAnswer<'a>),
    /// Gives the sizes of swarms.
    Scrape(ScrapeResponse<'a>),
    /// Says why a request was refused.
    Failure(FailureResponse<'a>),
}

/// Answers an announce. The peers themselves come by and by: as answers to the offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceResponse<'a> {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Peers in the swarm that have everything.
    pub seeders: u32,
    /// Peers in the swarm that lack something.
    pub leechers: u32,
    /// When the client should announce again.
    pub interval_seconds: u32,
    /// Meant for people. Unlike after a [failure](FailureResponse), clients go on announcing.
    pub warning: Option<Cow<'a, str>>,
}

/// Brings another peer's offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardedOffer<'a> {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Who makes the offer.
    pub peer_id: PeerId,
    /// Its name, which the answer has to repeat.
    pub offer_id: OfferId,
    /// The JSON that the peer sent.
    pub offer: &'a str,
}

/// Brings another peer's answer to an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardedAnswer<'a> {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Who answers.
    pub peer_id: PeerId,
    /// Which offer it is the answer to.
    pub offer_id: OfferId,
    /// The JSON that the peer sent.
    pub answer: &'a str,
}

/// Says why a request was refused.
///
/// An announce that may be served later is refused with a `warning message` and an `interval`, and
/// without the numbers of an [`AnnounceResponse`]. For bittorrent-tracker, which most clients are
/// made with, reads nothing else of a message with a `failure reason`: if that is all it hears, it
/// does not announce again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureResponse<'a> {
    /// What was asked for.
    pub action: Action,
    /// Meant for people.
    pub reason: Cow<'a, str>,
    /// The torrent, if there is one.
    pub info_hash: Option<InfoHash>,
    /// When it is worth trying again, if it is.
    pub retry_seconds: Option<u32>,
}

impl<'a> Response<'a> {
    /// Reads a message.
    ///
    /// Other trackers' messages are read as well: members that are not known are read past, and
    /// numbers that are missing are 0.
    ///
    /// # Errors
    ///
    /// Where the bytes are no message of a tracker.
    pub fn parse(message: &'a [u8]) -> Result<Self, ResponseError> {
        let text = str::from_utf8(message).map_err(|_| ResponseError::Utf8)?;
        let mut members = Members::default();
        let mut reader = Reader::new(text);
        reader.members(|reader, key| {
            let member = match &*key.decoded() {
                "action" => &mut members.action,
                "failure reason" => &mut members.failure_reason,
                "warning message" => &mut members.warning,
                "info_hash" => &mut members.info_hash,
                "peer_id" => &mut members.peer_id,
                "offer_id" => &mut members.offer_id,
                "offer" => &mut members.offer,
                "answer" => &mut members.answer,
                "complete" => &mut members.complete,
                "incomplete" => &mut members.incomplete,
                "interval" => &mut members.interval,
                "files" => {
                    members.files = Some(ScrapeResponse::read(reader)?);
                    return Ok(());
                }
                _ => return reader.value().map(drop),
            };
            *member = reader.value()?.unless_null();
            Ok(())
        })?;
        reader.end()?;
        members.into_response().ok_or(ResponseError::UnknownKind)
    }
}

/// All members of interest that a message may have, whichever kind it is.
#[derive(Default)]
struct Members<'a> {
    action: Option<Value<'a>>,
    failure_reason: Option<Value<'a>>,
    warning: Option<Value<'a>>,
    info_hash: Option<Value<'a>>,
    peer_id: Option<Value<'a>>,
    offer_id: Option<Value<'a>>,
    offer: Option<Value<'a>>,
    answer: Option<Value<'a>>,
    complete: Option<Value<'a>>,
    incomplete: Option<Value<'a>>,
    interval: Option<Value<'a>>,
    files: Option<ScrapeResponse<'a>>,
}

impl<'a> Members<'a> {
    fn into_response(self) -> Option<Response<'a>> {
        let action = Action::read(self.action?)?;
        let info_hash = self.info_hash.and_then(Value::bytes_20).map(InfoHash);
        let peer_id = || self.peer_id.and_then(Value::bytes_20).map(PeerId);
        let offer_id = || self.offer_id.and_then(Value::bytes_20).map(OfferId);
        if let Some(reason) = self.failure_reason.and_then(Value::text) {
            return Some(Response::Failure(FailureResponse {
                action,
                reason: Text::decoded(reason),
                info_hash,
                retry_seconds: self.interval.map(|interval| count(Some(interval))),
            }));
        }
        if action == Action::Scrape {
            return self.files.map(Response::Scrape);
        }
        if let Some(offer) = self.offer {
            return Some(Response::Offer(ForwardedOffer {
                info_hash: info_hash?,
                peer_id: peer_id()?,
                offer_id: offer_id()?,
                offer: offer.json(),
            }));
        }
        if let Some(answer) = self.answer {
            return Some(Response::Answer(ForwardedAnswer {
                info_hash: info_hash?,
                peer_id: peer_id()?,
                offer_id: offer_id()?,
                answer: answer.json(),
            }));
        }
        let warning = self.warning.and_then(Value::text);
        match (self.complete.or(self.incomplete), self.interval, warning) {
            (None, None, _) => return None,
            (None, Some(interval), Some(warning)) => {
                return Some(Response::Failure(FailureResponse {
                    action,
                    reason: Text::decoded(warning),
                    info_hash,
                    retry_seconds: Some(count(Some(interval))),
                }));
            }
            _ => {}
        }
        Some(Response::Announce(AnnounceResponse {
            info_hash: info_hash?,
            seeders: count(self.complete),
            leechers: count(self.incomplete),
            interval_seconds: count(self.interval),
            warning: warning.map(Text::decoded),
        }))
    }
}

/// A number that counts something: 0 if there is none, `u32::MAX` if it is larger.
pub(crate) fn count(value: Option<Value<'_>>) -> u32 {
    let number = value.and_then(Value::number).unwrap_or(0);
    number.try_into().unwrap_or(u32::MAX)
}

impl Parts for Response<'_> {
    fn put(&self, sink: &mut impl Sink) {
        match self {
            Self::Announce(announce) => announce.put(sink),
            Self::Offer(offer) => offer.put(sink),
            Self::Answer(answer) => answer.put(sink),
            Self::Scrape(scrape) => scrape.put(sink),
            Self::Failure(failure) => failure.put(sink),
        }
    }
}

impl Parts for AnnounceResponse<'_> {
    fn put(&self, sink: &mut impl Sink) {
        sink.put_bytes_20(r#"{"action":"announce","info_hash":""#, &self.info_hash.0);
        sink.put_number(r#","complete":"#, self.seeders);
        sink.put_number(r#","incomplete":"#, self.leechers);
        sink.put_number(r#","interval":"#, self.interval_seconds);
        if let Some(warning) = &self.warning {
            sink.put(r#","warning message":""#);
            sink.put_text(warning);
            sink.put("\"");
        }
        sink.put("}");
    }
}

impl Parts for ForwardedOffer<'_> {
    fn put(&self, sink: &mut impl Sink) {
        sink.put_announce(self.info_hash, self.peer_id);
        sink.put_signal(
            r#","offer_id":""#,
            self.offer_id,
            r#","offer":"#,
            self.offer,
        );
    }
}

impl Parts for ForwardedAnswer<'_> {
    fn put(&self, sink: &mut impl Sink) {
        sink.put_announce(self.info_hash, self.peer_id);
        sink.put_signal(
            r#","offer_id":""#,
            self.offer_id,
            r#","answer":"#,
            self.answer,
        );
    }
}

impl Parts for FailureResponse<'_> {
    fn put(&self, sink: &mut impl Sink) {
        sink.put(r#"{"action":""#);
        sink.put(self.action.name());
        sink.put("\"");
        if let Some(info_hash) = self.info_hash {
            sink.put_bytes_20(r#","info_hash":""#, &info_hash.0);
        }
        if let Some(seconds) = self.retry_seconds {
            sink.put_number(r#","interval":"#, seconds);
        }
        let goes_on = self.action == Action::Announce && self.retry_seconds.is_some();
        sink.put(match goes_on {
            true => r#","warning message":""#,
            false => r#","failure reason":""#,
        });
        sink.put_text(&self.reason);
        sink.put("\"}");
    }
}
