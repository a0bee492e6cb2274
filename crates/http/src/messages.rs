//! What socket workers and the owners of shards say to each other.

use aquatic_http_protocol::PeerForm;
use aquatic_stream::ConnectionKey;
use aquatic_swarm::Counts;
use aquatic_tracker::shard;
use aquatic_tracker::shard::client_stats::ClientPrefix;
use aquatic_types::{CompactV4, CompactV6, InfoHash, PerFamily};

use crate::full_scrape::FullScrape;
use crate::response_target::ResponseTarget;

/// Announces that a batch holds at most.
pub const BATCH_ANNOUNCES_MAX: usize = 128;

/// Torrents of scrapes that a batch holds at most: they are small, and one request can ask for
/// hundreds.
pub const BATCH_SCRAPES_MAX: usize = 1_024;

/// Batches that can be on their way between two workers. So some 4,000 announces, a twentieth of a
/// second's worth, can wait in one direction.
pub const BATCHES_MAX: usize = 32;

/// A peer announces, and the announce has passed all checks of the socket worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce<K> {
    /// The way back to the client.
    pub target: ResponseTarget,
    /// How its peers must look.
    pub peer_form: PeerForm,
    /// The torrent.
    pub info_hash: InfoHash,
    /// The first bytes of the peer id, which name the software (BEP 20).
    pub client: ClientPrefix,
    /// Who announces, and what. How many peers are wanted is limited by the configuration already.
    pub announce: aquatic_swarm::Announce<K>,
}

/// One torrent of a scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrape {
    /// Where the answer goes, in the socket worker that asks.
    pub connection: ConnectionKey,
    /// Its row in the response.
    pub row: u16,
    /// The torrent.
    pub info_hash: InfoHash,
    /// Of both IP families together. Zeros, until processed.
    pub counts: Counts,
}

impl Scrape {
    /// A torrent that is to be looked up.
    #[must_use]
    pub fn new(connection: ConnectionKey, row: u16, info_hash: InfoHash) -> Self {
        Self {
            connection,
            row,
            info_hash,
            counts: Counts::default(),
        }
    }
}

/// Requests for one shard. It travels to the shard's owner, which writes the answers into it, and
/// back (see [`aquatic_channel`]).
#[derive(Debug, Default)]
pub struct Batch {
    /// Announces, by the announcer's family. Answered into [`Self::answers`].
    pub announces: PerFamily<Vec<Announce<CompactV4>>, Vec<Announce<CompactV6>>>,
    /// Torrents of scrapes. Answered in place, because a scrape may need several shards.
    pub scrapes: Vec<Scrape>,
    /// One that gathers rows in this shard.
    pub full_scrape: Option<FullScrape>,
    /// Whole HTTP responses.
    pub answers: Answers,
}

/// Whole HTTP responses, one behind the other, and where they go.
#[derive(Debug, Default)]
pub struct Answers {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<(ConnectionKey, usize)>,
}

impl Answers {
    /// Adds an answer, which `write` appends.
    pub fn push_with(&mut self, connection: ConnectionKey, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push((connection, self.bytes.len()));
    }

    /// All answers, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (ConnectionKey, &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |(connection, end)| {
            let answer = self.bytes.get(start..*end).unwrap_or_default();
            start = *end;
            (*connection, answer)
        })
    }

    /// Takes them all out.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

impl shard::Batch for Batch {
    fn is_full(&self) -> bool {
        let announces = self.announces.v4.len() + self.announces.v6.len();
        announces >= BATCH_ANNOUNCES_MAX || self.scrapes.len() >= BATCH_SCRAPES_MAX
    }

    fn is_empty(&self) -> bool {
        let Self {
            announces,
            scrapes,
            full_scrape,
            ..
        } = self;
        announces.v4.is_empty()
            && announces.v6.is_empty()
            && scrapes.is_empty()
            && full_scrape.is_none()
    }
}
