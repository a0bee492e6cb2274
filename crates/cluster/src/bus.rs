//! What nodes reach each other by: messages that all of them hear, and a log of these to catch up
//! from.
//!
//! [`Bus`] has two implementors: one that speaks to NATS servers, and one for simulations. Neither
//! of them blocks or fails: that there is no connection is a state, in which nothing can be
//! published.

use std::time::Duration;

/// What a message is about. Each channel is a part of the subjects under which messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// Peers that are addresses: arrivals, refreshes, departures. Logged.
    Peers,
    /// Members of WebTorrent swarms: the same. Logged.
    Members,
    /// That a process is alive, or leaves.
    Nodes,
    /// WebTorrent messages for the clients of one node, which alone hears them.
    Parcels,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Peers, Self::Members, Self::Nodes, Self::Parcels];

    /// The word for it in a subject.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Peers => "peers",
            Self::Members => "members",
            Self::Nodes => "nodes",
            Self::Parcels => "parcels",
        }
    }

    /// Whether its messages are kept in the log.
    #[must_use]
    pub const fn is_logged(self) -> bool {
        match self {
            Self::Peers | Self::Members => true,
            Self::Nodes | Self::Parcels => false,
        }
    }
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To every node that listens to this channel. Not [`Channel::Parcels`].
    All(Channel),
    /// To the node of this name, over [`Channel::Parcels`].
    Node(String),
}

/// A message that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<P> {
    /// What it is about.
    pub channel: Channel,
    /// The node that it names in its subject: who has published it, or for
    /// [`Channel::Parcels`], who is to have it.
    pub node: String,
    /// Of one out of the log: how many milliseconds ago it was published, by the clock of the
    /// servers, if they say so.
    pub logged_millis_ago: Option<u64>,
    /// What is in it: a batch of [`aquatic_swarm_log`].
    pub payload: P,
}

/// What has happened on a [`Bus`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<P> {
    /// There is a connection, and everything that is published from now on will be heard.
    Connected,
    /// The connection is lost. It is tried again and again to make one.
    Disconnected,
    /// A message has come. Those of one publisher on one channel come in order.
    Heard(Message<P>),
    /// A message out of the log, which may have been heard before.
    Logged(Message<P>),
    /// The log has been read up to what is being published now.
    LogRead {
        /// For how long there has been this log.
        age: Duration,
    },
    /// The log cannot be read (any further), for this reason.
    LogFailed(String),
    /// So many messages came faster than they were taken, and are lost.
    Missed(u64),
    /// What was published before [`Bus::confirm`] was called with this mark has arrived at the
    /// server.
    Confirmed(u64),
    /// The log has the message that was published with this mark.
    Kept(u64),
}

/// See the [module](self).
pub trait Bus {
    /// What is in messages that come.
    type Payload: AsRef<[u8]>;

    /// Publishes a message. Gives it back if that is not possible now: while there is no
    /// connection, or as many messages as may be on their way. There will be an [`Event`], or room,
    /// some time later.
    ///
    /// When the log has it, if it gets there, there is an [`Event::Kept`] with this mark, which no
    /// other message has.
    ///
    /// # Errors
    /// With the message, if it was not taken.
    fn publish(&mut self, to: &Destination, payload: Vec<u8>, mark: u64) -> Result<(), Vec<u8>>;

    /// Asks whether what was published until now has arrived at the server, to be answered with
    /// [`Event::Confirmed`], or not at all. Marks grow.
    fn confirm(&mut self, mark: u64);

    /// Begins to read what was logged in the time `since` before now, in place of a reading that is
    /// not over. It ends with [`Event::LogRead`] or [`Event::LogFailed`].
    fn read_log(&mut self, since: Duration);

    /// What has happened next, if something has.
    fn next_event(&mut self) -> Option<Event<Self::Payload>>;
}
