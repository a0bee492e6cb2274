//! What a completion belongs to, packed into the 64 bits that the kernel hands back.

use crate::sends::PacketId;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Tag {
    /// A receive; the socket's place in the table of files.
    Receive(u32),
    /// The watch for wake-ups.
    Wake,
    /// The watch for what happens at another file.
    Watch,
    /// A packet. Outboxes are counted from the last wait, so 30 bits are plenty.
    Send(PacketId),
}

const KIND_SHIFT: u32 = 62;
const HALF_BITS: u32 = 32;
const OUTBOX_MASK: u32 = (1 << (KIND_SHIFT - HALF_BITS)) - 1;

impl Tag {
    pub(crate) fn encode(self) -> u64 {
        let (kind, high, low) = match self {
            Self::Receive(file) => (1, 0, file),
            Self::Wake => (2, 0, 0),
            Self::Watch => (2, 0, 1),
            Self::Send(PacketId { outbox, place }) => (3, outbox & OUTBOX_MASK, place),
        };
        kind << KIND_SHIFT | u64::from(high) << HALF_BITS | u64::from(low)
    }

    /// `None` for what was never encoded.
    pub(crate) fn decode(bits: u64) -> Option<Self> {
        let high = u32::try_from(bits >> HALF_BITS).ok()? & OUTBOX_MASK;
        let low = u32::try_from(bits & u64::from(u32::MAX)).ok()?;
        match bits >> KIND_SHIFT {
            1 => Some(Self::Receive(low)),
            2 if low == 0 => Some(Self::Wake),
            2 => Some(Self::Watch),
            3 => Some(Self::Send(PacketId {
                outbox: high,
                place: low,
            })),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_round_trip() {
        let (outbox, place) = (OUTBOX_MASK, u32::MAX);
        let tags = [
            Tag::Receive(7),
            Tag::Wake,
            Tag::Watch,
            Tag::Send(PacketId { outbox, place }),
            Tag::Send(PacketId {
                outbox: 0,
                place: 1,
            }),
        ];
        for tag in tags {
            let again = Tag::decode(tag.encode()).unwrap();
            assert_eq!(format!("{again:?}"), format!("{tag:?}"));
        }
        assert!(Tag::decode(0).is_none());
    }
}
