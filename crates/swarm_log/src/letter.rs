//! What members of WebTorrent swarms have for each other, on its way to another process.
//!
//! A parcel is a sequence of letters, each of which begins with its kind (1 byte) and the bytes
//! that follow (4):
//!
//! | kind | letter |
//! |---|---|
//! | 1 | offer: info hash 20, offer id 20, offerer 38, flags 1, receiver 38, name 8, JSON |
//! | 2 | answer: info hash 20, offer id 20, offerer's peer id 20, answerer 38, flags 1, number of siblings 1, their peer ids 20 each, JSON |
//! | 3 | withdrawal: info hash 20, receiver 38, name 8 |
//!
//! A member is its peer id 20, worker 2, connection 8, network 8. Flags are those of whoever sends
//! the message: 16, over IPv6. Letters of unknown kinds, and what is [invalid](InvalidLetter), can
//! be skipped; if the lengths do not make up the whole body, it is no parcel.

use std::fmt::{self, Debug, Display, Formatter};

use aquatic_types::{InfoHash, IpFamily, PeerId};

use crate::batch::{BODY_BYTES_MAX, BatchBody, LETTERS};
use crate::fields::Fields;
use crate::member::{Member, family_flag, family_in};

/// Other peers of an answerer's connection that an answer names at most.
pub const SIBLINGS_MAX: usize = 8;

const OFFER: u8 = 1;
const ANSWER: u8 = 2;
const WITHDRAWAL: u8 = 3;

/// Kind and length.
const START_BYTES: usize = 1 + 4;

/// One thing that another process is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letter<'a> {
    /// Hand an offer to a client.
    Offer(OfferLetter<'a>),
    /// Bring an answer to the client that has made the offer.
    Answer(AnswerLetter<'a>),
    /// Close an offer, which has not come to its receiver.
    Withdrawal(Withdrawal),
}

/// An offer for a client of another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferLetter<'a> {
    /// The torrent.
    pub info_hash: InfoHash,
    /// What the offerer calls it.
    pub offer_id: [u8; 20],
    /// Who makes it: a client of the process that writes this.
    pub offerer: Member,
    /// The family of the offerer.
    pub family: IpFamily,
    /// Whom it is for: a client of the process that reads this.
    pub receiver: Member,
    /// What the process that writes this calls it, should it be withdrawn.
    pub name: u64,
    /// The offer.
    pub json: &'a str,
}

/// An answer to an offer that came from another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerLetter<'a> {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Which offer is answered.
    pub offer_id: [u8; 20],
    /// Who has made the offer: a client of the process that reads this.
    pub offerer: PeerId,
    /// Who answers: a client of the process that writes this.
    pub answerer: Member,
    /// The family of the answerer.
    pub family: IpFamily,
    /// Other peers of the answerer's connection in the torrent: the offer may have been for one of
    /// them.
    pub siblings: Siblings<'a>,
    /// The answer.
    pub json: &'a str,
}

/// An offer has not come to its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Whom it was for: a client of the process that writes this.
    pub receiver: Member,
    /// What the process that reads this called it.
    pub name: u64,
}

/// Peer ids, at most [`SIBLINGS_MAX`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Siblings<'a>(&'a [u8]);

impl<'a> Siblings<'a> {
    /// Nobody.
    pub const NONE: Self = Siblings(&[]);

    /// Those whose ids stand here one behind the other, if that is so.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let is_whole = bytes.len().is_multiple_of(20) && bytes.len() <= 20 * SIBLINGS_MAX;
        is_whole.then_some(Self(bytes))
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = PeerId> + use<'a> {
        let (ids, _) = self.0.as_chunks();
        ids.iter().copied().map(PeerId)
    }

    fn len(self) -> usize {
        self.0.len() / 20
    }
}

impl Debug for Siblings<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Why a letter of a sound parcel cannot be heeded. The others of the parcel can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidLetter {
    /// A later version of this crate may know this kind.
    Unknown(u8),
    /// It has too few bytes for what it is, or too many.
    Length,
    /// It names more [siblings](SIBLINGS_MAX) than there can be.
    Siblings,
    /// An offer or answer that is not UTF-8.
    Utf8,
}

impl Display for InvalidLetter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(kind) => write!(f, "letters of kind {kind} are not known here"),
            Self::Length => f.write_str("the letter has the wrong length"),
            Self::Siblings => f.write_str("the letter names too many peers"),
            Self::Utf8 => f.write_str("the letter has text that is not UTF-8"),
        }
    }
}

impl std::error::Error for InvalidLetter {}

impl<'a> Letter<'a> {
    /// Appends the letter, as it stands in a parcel.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; START_BYTES]);
        let kind = match self {
            Self::Offer(offer) => {
                offer.write(out);
                OFFER
            }
            Self::Answer(answer) => {
                answer.write(out);
                ANSWER
            }
            Self::Withdrawal(withdrawal) => {
                withdrawal.write(out);
                WITHDRAWAL
            }
        };
        let length = out.len() - start - START_BYTES;
        if let Some([first, rest @ ..]) = out.get_mut(start..start + START_BYTES) {
            *first = kind;
            // What is longer fits into no parcel.
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            rest.copy_from_slice(&length.to_be_bytes());
        }
    }

    /// Reads a letter that was [written](Self::write), and nothing else is there. `None` if it is
    /// none.
    #[must_use]
    pub fn read_whole(written: &'a [u8]) -> Option<Self> {
        let mut letters = Letters::new(written)?;
        let letter = letters.next()?.ok()?;
        letters.next().is_none().then_some(letter)
    }

    fn read(kind: u8, bytes: &'a [u8]) -> Result<Self, InvalidLetter> {
        let mut fields = Fields(bytes);
        match kind {
            OFFER => OfferLetter::read(&mut fields).map(Self::Offer),
            ANSWER => AnswerLetter::read(&mut fields).map(Self::Answer),
            WITHDRAWAL => Withdrawal::read(&mut fields).map(Self::Withdrawal),
            unknown => Err(InvalidLetter::Unknown(unknown)),
        }
    }
}

impl<'a> OfferLetter<'a> {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.info_hash.0);
        out.extend_from_slice(&self.offer_id);
        self.offerer.write(out);
        out.push(family_flag(self.family));
        self.receiver.write(out);
        out.extend_from_slice(&self.name.to_be_bytes());
        out.extend_from_slice(self.json.as_bytes());
    }

    fn read(fields: &mut Fields<'a>) -> Result<Self, InvalidLetter> {
        let mut read = || {
            Some(Self {
                info_hash: InfoHash(fields.take()?),
                offer_id: fields.take()?,
                offerer: Member::read(fields)?,
                family: family_in(fields.take_u8()?),
                receiver: Member::read(fields)?,
                name: fields.take_u64()?,
                json: "",
            })
        };
        let letter = read().ok_or(InvalidLetter::Length)?;
        let json = text(fields)?;
        Ok(Self { json, ..letter })
    }
}

impl<'a> AnswerLetter<'a> {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.info_hash.0);
        out.extend_from_slice(&self.offer_id);
        out.extend_from_slice(&self.offerer.0);
        self.answerer.write(out);
        out.push(family_flag(self.family));
        out.push(u8::try_from(self.siblings.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(self.siblings.0);
        out.extend_from_slice(self.json.as_bytes());
    }

    fn read(fields: &mut Fields<'a>) -> Result<Self, InvalidLetter> {
        let mut read = || {
            let letter = Self {
                info_hash: InfoHash(fields.take()?),
                offer_id: fields.take()?,
                offerer: PeerId(fields.take()?),
                answerer: Member::read(fields)?,
                family: family_in(fields.take_u8()?),
                siblings: Siblings::NONE,
                json: "",
            };
            Some((letter, usize::from(fields.take_u8()?)))
        };
        let (letter, siblings) = read().ok_or(InvalidLetter::Length)?;
        if siblings > SIBLINGS_MAX {
            return Err(InvalidLetter::Siblings);
        }
        let siblings = fields.take_slice(20 * siblings);
        let siblings = siblings.ok_or(InvalidLetter::Length)?;
        Ok(Self {
            siblings: Siblings(siblings),
            json: text(fields)?,
            ..letter
        })
    }
}

impl Withdrawal {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.info_hash.0);
        self.receiver.write(out);
        out.extend_from_slice(&self.name.to_be_bytes());
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, InvalidLetter> {
        let mut read = || {
            Some(Self {
                info_hash: InfoHash(fields.take()?),
                receiver: Member::read(fields)?,
                name: fields.take_u64()?,
            })
        };
        let letter = read().ok_or(InvalidLetter::Length)?;
        if !fields.0.is_empty() {
            return Err(InvalidLetter::Length);
        }
        Ok(letter)
    }
}

/// All the bytes that are left.
fn text<'a>(fields: &mut Fields<'a>) -> Result<&'a str, InvalidLetter> {
    let rest = std::mem::take(&mut fields.0);
    str::from_utf8(rest).map_err(|_| InvalidLetter::Utf8)
}

/// The letters of a parcel.
#[derive(Clone)]
pub struct Letters<'a>(Fields<'a>);

impl<'a> Letters<'a> {
    /// `None` if the lengths do not make up the whole.
    pub(crate) fn new(body: &'a [u8]) -> Option<Self> {
        let mut rest = Fields(body);
        while !rest.0.is_empty() {
            next(&mut rest)?;
        }
        Some(Self(Fields(body)))
    }
}

/// Kind and bytes of the next letter.
fn next<'a>(rest: &mut Fields<'a>) -> Option<(u8, &'a [u8])> {
    let kind = rest.take_u8()?;
    let length = usize::try_from(rest.take_u32()?).ok()?;
    Some((kind, rest.take_slice(length)?))
}

impl<'a> Iterator for Letters<'a> {
    type Item = Result<Letter<'a>, InvalidLetter>;

    fn next(&mut self) -> Option<Self::Item> {
        let (kind, bytes) = next(&mut self.0)?;
        Some(Letter::read(kind, bytes))
    }
}

impl Debug for Letters<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// Letters that will be a parcel.
#[derive(Clone, Debug, Default)]
pub struct LetterBuffer {
    bytes: Vec<u8>,
    letters: usize,
}

impl LetterBuffer {
    /// Adds a letter that was [written](Letter::write) before. Returns whether there was room for
    /// it.
    pub fn push(&mut self, written: &[u8]) -> bool {
        let has_room = self.bytes.len() + written.len() <= BODY_BYTES_MAX;
        if has_room {
            self.bytes.extend_from_slice(written);
            self.letters += 1;
        }
        has_room
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.letters == 0
    }

    /// Takes the letters out, as the body of a batch.
    #[must_use]
    pub fn take(&mut self) -> BatchBody {
        let Self { bytes, letters } = std::mem::take(self);
        BatchBody::new(LETTERS, letters, bytes)
    }
}

#[cfg(test)]
mod tests;
