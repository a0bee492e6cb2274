//! What socket workers and the owners of shards say to each other.

use aquatic_swarm::Counts;
use aquatic_tracker::shard::client_stats::ClientPrefix;
use aquatic_types::{CompactV4, CompactV6, InfoHash, IpFamily, PerFamily};
use aquatic_udp_protocol::TransactionId;
use aquatic_udp_socket::{Outbox, ReturnPath};

/// Announces that a batch holds at most.
pub const BATCH_ANNOUNCES_MAX: usize = 128;

/// Torrents of scrapes that a batch holds at most: they are small, and one datagram can ask for
/// 116.
pub const BATCH_SCRAPES_MAX: usize = 1_024;

/// Batches that can be on their way between two workers. So some 4,000 announces, 10 milliseconds'
/// worth, can wait in one direction, and what several full batches of datagrams can ask for.
pub const BATCHES_MAX: usize = 32;

// 256 of the largest scrapes at once, all for one shard.
const _: () = assert!(BATCHES_MAX * BATCH_SCRAPES_MAX >= 256 * 116);

/// A peer announces, and the announce has passed all checks of the socket worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce<K> {
    /// Which socket the answer leaves from.
    pub socket: u8,
    /// The way back to the client.
    pub path: ReturnPath,
    /// Comes back in the answer.
    pub transaction_id: TransactionId,
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
    /// Which scrape it belongs to, in the socket worker that asks.
    pub scrape_id: u32,
    /// Its row in the response.
    pub row: u16,
    /// Which swarms are meant.
    pub family: IpFamily,
    /// The torrent.
    pub info_hash: InfoHash,
    /// Zeros, until processed.
    pub counts: Counts,
}

/// Requests for one shard. It travels to the shard's owner, which writes the answers into it, and
/// back (see [`aquatic_channel`]).
#[derive(Debug, Default)]
pub struct Batch {
    /// Announces, by family. Answered into [`Self::outboxes`].
    pub announces: PerFamily<Vec<Announce<CompactV4>>, Vec<Announce<CompactV6>>>,
    /// Torrents of scrapes. Answered in place, because a scrape may need several shards.
    pub scrapes: Vec<Scrape>,
    /// Answers that are ready to be sent, by socket.
    pub outboxes: Vec<Outbox>,
}

impl aquatic_tracker::shard::Batch for Batch {
    fn is_full(&self) -> bool {
        let announces = self.announces.v4.len() + self.announces.v6.len();
        announces >= BATCH_ANNOUNCES_MAX || self.scrapes.len() >= BATCH_SCRAPES_MAX
    }

    fn is_empty(&self) -> bool {
        let Self {
            announces, scrapes, ..
        } = self;
        announces.v4.is_empty() && announces.v6.is_empty() && scrapes.is_empty()
    }
}
