//! Offers of WebRTC connections.

use std::fmt::{self, Debug, Display, Formatter};

use crate::json::{JsonError, Reader, Value};

/// Names an offer, so that its answer can be matched with it. Chosen by the offering peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfferId(pub [u8; 20]);

impl Debug for OfferId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a peer offers to whomever the tracker chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer<'a> {
    /// Its name.
    pub offer_id: OfferId,
    /// JSON of any kind but null; usually an object with a session description in it.
    pub offer: &'a str,
}

/// Entries of `offers` that cannot be passed on. Meant for people: clients have bugs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkippedOffers {
    /// How many there are.
    pub count: u32,
    /// How many of them are only too large.
    pub too_large: u32,
    /// The place of the first one in the list, counted from 0.
    pub first: u32,
    /// What is wrong with the first one.
    pub fault: OfferFault,
}

/// Why an entry of `offers` cannot be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferFault {
    /// It is no JSON object.
    NotObject,
    /// It has no `offer_id`.
    OfferIdMissing,
    /// Its `offer_id` does not stand for 20 bytes.
    OfferIdSize,
    /// It has no `offer`.
    OfferMissing,
    /// Its `offer` is [larger](crate::Request::parse_within) than what is passed on.
    TooLarge,
}

impl SkippedOffers {
    /// One more is skipped, after those that were.
    pub(crate) fn note(skipped: &mut Option<Self>, place: u32, fault: OfferFault) {
        let skipped = skipped.get_or_insert(Self {
            count: 0,
            too_large: 0,
            first: place,
            fault,
        });
        skipped.count = skipped.count.saturating_add(1);
        if fault == OfferFault::TooLarge {
            skipped.too_large = skipped.too_large.saturating_add(1);
        }
    }
}

impl Display for SkippedOffers {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            count,
            first,
            fault,
            ..
        } = self;
        write!(f, "offers[{first}] was not passed on: {}", fault.reason())?;
        match count.saturating_sub(1) {
            0 => Ok(()),
            more => write!(f, "; nor were {more} more"),
        }
    }
}

impl OfferFault {
    /// In words.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotObject => "it is no JSON object",
            Self::OfferIdMissing => "offer_id is missing",
            Self::OfferIdSize => "offer_id must be 20 characters from U+0000 to U+00FF",
            Self::OfferMissing => "offer is missing",
            Self::TooLarge => "it is too large",
        }
    }
}

impl<'a> Offer<'a> {
    /// Reads an entry of `offers`, in which there may be no offer.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Result<Self, OfferFault>, JsonError> {
        if !reader.is_next(b'{') {
            reader.value()?;
            return Ok(Err(OfferFault::NotObject));
        }
        let mut offer_id = None;
        let mut offer = None;
        reader.members(|reader, key| {
            let value = reader.value()?;
            match &*key.decoded() {
                "offer_id" => offer_id = value.unless_null(),
                "offer" => offer = value.unless_null().map(Value::json),
                _ => {}
            }
            Ok(())
        })?;
        Ok(Self::new(offer_id, offer))
    }

    fn new(offer_id: Option<Value<'a>>, offer: Option<&'a str>) -> Result<Self, OfferFault> {
        let offer_id = offer_id.ok_or(OfferFault::OfferIdMissing)?;
        let offer_id = offer_id.bytes_20().ok_or(OfferFault::OfferIdSize)?;
        let offer = offer.ok_or(OfferFault::OfferMissing)?;
        Ok(Self {
            offer_id: OfferId(offer_id),
            offer,
        })
    }
}
