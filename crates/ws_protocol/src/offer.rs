//! Offers of WebRTC connections.

use std::fmt::{self, Debug, Formatter};

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

impl<'a> Offer<'a> {
    /// Reads an entry of `offers`; `None` if there is no offer in it.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Option<Self>, JsonError> {
        if !reader.is_next(b'{') {
            reader.value()?;
            return Ok(None);
        }
        let mut offer_id = None;
        let mut offer = None;
        reader.members(|reader, key| {
            let value = reader.value()?;
            match &*key.decoded() {
                "offer_id" => offer_id = value.bytes_20().map(OfferId),
                "offer" => offer = value.unless_null().map(Value::json),
                _ => {}
            }
            Ok(())
        })?;
        let entry = offer_id.zip(offer);
        Ok(entry.map(|(offer_id, offer)| Self { offer_id, offer }))
    }
}
