//! The swarms of a process, as the cluster sees them.

use aquatic_daemon::clock::Now;
use aquatic_swarm_log::{BatchBody, Body};

use crate::bus::{Channel, Destination};
use crate::nodes::NodeIndex;

/// Swarms of one kind, in all shards of this process: they tell what changes in them, and take in
/// what other nodes tell. Used by one thread, which is no owner of shards; so everything travels to
/// the owners and back.
pub trait Replica: Send {
    /// Whether it wants what is published on a channel.
    fn listens_to(&self, channel: Channel) -> bool;

    /// Whether it can [receive](Self::receive) one more batch. If not, some time after something
    /// was [pending](Self::has_pending).
    fn has_room(&self) -> bool;

    /// Takes in what another node has published.
    fn receive(&mut self, now: Now, batch: &Received<'_>);

    /// Takes note of what was received until now.
    fn mark(&mut self);

    /// Whether all that was received before the last [`Self::mark`] is in the shards.
    fn has_passed_mark(&self) -> bool;

    /// Does what is due from time to time. While the log is being read, what comes out of it may be
    /// older than what was heard.
    fn settle(&mut self, _now: Now, _is_reading_log: bool) {}

    /// Asks all shards what there is to publish.
    fn collect(&mut self);

    /// Sends what is for the shards, and takes what has come back from them: gives `publish` what
    /// they have to say. Returns how much is still on its way.
    fn finish(&mut self, now: Now, publish: &mut dyn FnMut(Outgoing)) -> usize;

    /// Whether something has come back since the last [`Self::finish`].
    fn has_pending(&self) -> bool;
}

/// The shards to which something may be on its way that was received before a
/// [mark](Replica::mark).
#[derive(Clone, Debug, Default)]
pub struct Mark(Vec<usize>);

impl Mark {
    /// So many shards have to take what they are sent.
    pub fn set(&mut self, shards: usize) {
        self.0.clear();
        self.0.extend(0..shards);
    }

    /// Forgets the shards to which nothing is on its way. To be called after these may have
    /// answered.
    pub fn look(&mut self, is_idle: impl Fn(usize) -> bool) {
        self.0.retain(|shard| !is_idle(*shard));
    }

    /// Whether there are no others.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.0.is_empty()
    }
}

/// A batch that another node has published.
#[derive(Clone, Debug)]
pub struct Received<'a> {
    /// The process that wrote it.
    pub from: NodeIndex,
    /// What that is called, for [`Destination::Node`].
    pub name: &'a str,
    /// How long ago it was written, in milliseconds.
    pub age_millis: u64,
    /// It is not new: it was read in the log.
    pub is_logged: bool,
    /// What is in it.
    pub body: Body<'a>,
}

/// A batch that is to be published.
#[derive(Debug)]
pub struct Outgoing {
    /// To whom.
    pub to: Destination,
    /// What is in it.
    pub body: BatchBody,
    /// From when on lives in it are counted: not after anything in it has happened.
    pub since: Now,
}
