//! Swarms as bytes: batches of peers and download counts, to be written to a file or sent; and what
//! peers have for each other, to be sent.
//!
//! A batch stands for itself: it says which version of this format it has, what kind of records it
//! holds, when it was written, by whom, and has a checksum. A file is a sequence of batches that
//! begins with a [`Begin`] and ends with an [`End`], so that a torn one is recognised
//! ([`FileCheck`]).
//!
//! ```
//! use aquatic_swarm_log::{Batch, BatchHeader, Body, Kind, PeerRecord, RecordBuffer};
//! use aquatic_types::{CompactV4, InfoHash, PeerStatus};
//!
//! let header = BatchHeader { process: 7, sequence: 1, unix_millis: 1_790_000_000_000 };
//! let peer = PeerRecord {
//!     info_hash: InfoHash([7; 20]),
//!     peer: CompactV4([192, 0, 2, 1, 0x1a, 0xe1]),
//!     status: PeerStatus::Seeder,
//!     has_completed: false,
//!     is_finished: true,
//!     seconds_left: 1_200,
//! };
//! let mut buffer = RecordBuffer::new(Kind::PEERS_V4);
//! buffer.push(&peer);
//! let mut bytes = Vec::new();
//! buffer.take().write(&mut bytes, &header);
//!
//! let (batch, rest) = Batch::parse(&bytes)?;
//! let Body::PeersV4(mut peers) = batch.body else { panic!("a batch of IPv4 peers was written") };
//! assert_eq!(peers.next(), Some(Ok(peer)));
//! assert!(peers.next().is_none() && rest.is_empty());
//! # Ok::<(), aquatic_swarm_log::BatchError>(())
//! ```
//!
//! # Format, version 1
//!
//! All numbers are big endian.
//!
//! | offset | bytes | of a batch |
//! |---|---|---|
//! | 0 | 2 | `AQ` |
//! | 2 | 1 | version of the format: 1 |
//! | 3 | 1 | kind: see below |
//! | 4 | 4 | bytes of the body, n; a batch has no more than [`BATCH_BYTES_MAX`] bytes in all |
//! | 8 | 8 | the process that wrote it, by a random number |
//! | 16 | 8 | sequence number: one more than that of the process's batch before, from 1 |
//! | 24 | 8 | Unix time of writing, milliseconds |
//! | 32 | n | body |
//! | 32 + n | 4 | CRC-32 (IEEE) of all bytes before |
//!
//! | kind | body |
//! |---|---|
//! | 1 | IPv4 peers of 29 bytes: info hash 20, address 4, port 2, flags 1, seconds left to live 2 |
//! | 2 | IPv6 peers of 41 bytes: the same with an address of 16 bytes |
//! | 3 | [members](MemberRecord) of WebTorrent swarms, of 61 bytes |
//! | 4 | a parcel of [`Letter`]s, which differ in size |
//! | 5 | [`Alive`]: number of the last batch of peers 8, of members 8, `told_within` in seconds 4 |
//! | 6 | [`Leaving`]: nothing |
//! | 7 | download counts of 24 bytes: info hash 20, downloads by IPv4 peers 4 |
//! | 8 | the same by IPv6 peers |
//! | 9 | the same by WebTorrent peers |
//! | 16 | [`Begin`] of a file: contents 1, boot id 16, milliseconds since boot 8 |
//! | 17 | [`End`] of a file: peers 8, download counts 8 |
//!
//! Flags of a peer: 1, it is a seeder; 2, it has left; 4, it has just completed its download; 8,
//! its download was counted; 16, of a member: it is connected over IPv6. Unknown flags are ignored,
//! batches of unknown kinds are [told apart](Body::Unknown) and can be skipped. Numbers that do not
//! stand here are free. 3 to 6 are sent only, and are no part of a file. The last 4 bytes of kind 5
//! may be missing: the number is 0 then.
//!
//! Contents of a file: 1, swarms of addresses; 2, their download counts only; 3, download counts of
//! WebTorrent.
//!
//! Life is relative, so that it does not depend on what either clock thinks the time is: the reader
//! subtracts for how long the batch has been written. How that is found out across a restart, even
//! if somebody sets the clock meanwhile, is told at [`Begin::age_millis`].

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

mod alive;
mod batch;
mod fields;
mod file;
mod letter;
mod member;
mod record;

pub use alive::{Alive, Leaving};
pub use batch::{
    BATCH_BYTES_MAX, Batch, BatchBody, BatchError, BatchHeader, Body, HEADER_BYTES, Kind,
    RecordBuffer, Records, batch_bytes,
};
pub use file::{Begin, Contents, End, FileCheck, FileError, FileWriter, SystemTime};
pub use letter::{
    AnswerLetter, InvalidLetter, Letter, LetterBuffer, Letters, OfferLetter, SIBLINGS_MAX,
    Siblings, Withdrawal,
};
pub use member::{Member, MemberRecord};
pub use record::{CompletedRecord, InvalidRecord, PeerAddress, PeerRecord, Record};
