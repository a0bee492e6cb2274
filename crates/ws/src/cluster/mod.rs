//! WebTorrent across nodes: browsers that are connected to different trackers of a cluster meet.
//!
//! Each shard has the members of all nodes, those of others with the node that they are connected
//! to. It [tells](sharing) of its own, and takes in what others tell of theirs.
//!
//! ```text
//!  offerer ─▶ socket worker ◀──▶ shard: chooses, opens the offer
//!                  │ letter
//!                  ▼
//!             replica ─────── bus ───────▶ replica of the other node
//!                                              │ ▲ batch
//!                                              ▼ │
//!                                          shard: is the receiver here? opens the offer
//!                                              │ frame
//!                                              ▼
//!                                          socket worker ─▶ receiver
//! ```
//!
//! An answer goes the same way back: the answerer's shard closes the offer and knows by it which
//! node it goes to, and the shard there closes its own before it passes the answer on. So neither
//! node has to trust the other: nobody is sent an answer to what he has not offered to a member of
//! that very node, and nobody an offer who is not in the swarm.
//!
//! | module | contents |
//! |---|---|
//! | [`replica`] | the shards of this process, as the cluster sees them |
//! | [`batch`] | what it says to shards, and they to it |
//! | [`sharing`] | what a shard tells of its members, and for how long it believes others |
//! | [`counters`] | what is counted |

pub mod batch;
pub mod counters;
pub mod replica;
pub mod sharing;

use std::sync::Arc;

use aquatic_access_list::{AccessListReader, SharedAccessList};
use aquatic_channel::Waker;
use aquatic_cluster::nodes::NodeStates;
use aquatic_daemon::live::LiveSettings;
use aquatic_tracker::admission::peer_id_rules;
use aquatic_tracker::dispatch::shard_set::ShardSet;

use crate::config::Config;
use crate::forwarding::Forwarding;
use crate::signalling::{ClusterSignalling, SignallingShard};
use batch::CLUSTER_BATCHES_MAX;
use counters::ClusterCounters;
use replica::{MemberReplica, MemberReplicaParts};
use sharing::Sharing;

/// What a tracker needs that shares its swarms.
pub struct ClusterParts {
    /// Wakes the thread that has the replica.
    pub waker: Waker,
    /// Which other processes are alive.
    pub nodes: NodeStates,
    /// Seconds in which others are told of each member that is still there, at least once.
    pub refresh_seconds: u32,
    /// Where the replica counts.
    pub counters: Arc<ClusterCounters>,
}

impl ClusterParts {
    /// What a shard has to do with other nodes.
    pub(crate) fn sharing(&self, access_list: AccessListReader) -> Sharing {
        Sharing::new(self.nodes.clone(), access_list, self.refresh_seconds)
    }

    /// The replica, connected with all shards.
    pub(crate) fn replica(
        self,
        config: &Config,
        settings: &LiveSettings<Arc<Config>>,
        access_list: &SharedAccessList,
        shards: &mut ShardSet<SignallingShard>,
        forwarding: Forwarding,
    ) -> MemberReplica {
        let parts = MemberReplicaParts {
            dispatcher: shards
                .connect_apart(&self.waker, CLUSTER_BATCHES_MAX, |_| ClusterSignalling),
            forwarding,
            access_list: access_list.reader(),
            peer_ids: peer_id_rules(&config.access_list),
            settings: settings.reader(),
            offer_bytes_max: config.protocol.max_offer_size,
            nodes: self.nodes,
            counters: self.counters,
        };
        MemberReplica::new(parts)
    }
}
