//! What a peer says about itself in an announce.

/// The event of an announce (BEP 3). Whatever a client sends that is not one of the three named
/// events means "nothing happened", so there is no fifth variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AnnounceEvent {
    /// A periodic announce, or an event that trackers do not act on.
    #[default]
    None,
    /// The download has just finished.
    Completed,
    /// The first announce of a session.
    Started,
    /// The peer leaves the swarm.
    Stopped,
}

/// Which part of a swarm a peer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerStatus {
    /// Has everything: nothing left to download.
    Seeder,
    /// Still lacks something.
    Leecher,
    /// Is leaving, or has left.
    Stopped,
}

impl PeerStatus {
    /// `left` is the number of bytes that the peer still lacks.
    ///
    /// ```
    /// use aquatic_types::{AnnounceEvent, PeerStatus};
    ///
    /// assert_eq!(PeerStatus::new(AnnounceEvent::None, 0), PeerStatus::Seeder);
    /// assert_eq!(PeerStatus::new(AnnounceEvent::Completed, 7), PeerStatus::Leecher);
    /// assert_eq!(PeerStatus::new(AnnounceEvent::Stopped, 0), PeerStatus::Stopped);
    /// ```
    #[must_use]
    pub fn new(event: AnnounceEvent, left: u64) -> Self {
        match (event, left) {
            (AnnounceEvent::Stopped, _) => Self::Stopped,
            (_, 0) => Self::Seeder,
            _ => Self::Leecher,
        }
    }

    /// The same where a client need not say what it lacks. One that does not is a leecher, unless
    /// it has just completed the download.
    ///
    /// ```
    /// use aquatic_types::{AnnounceEvent, PeerStatus};
    ///
    /// assert_eq!(PeerStatus::of_client(AnnounceEvent::None, None), PeerStatus::Leecher);
    /// assert_eq!(PeerStatus::of_client(AnnounceEvent::Completed, None), PeerStatus::Seeder);
    /// assert_eq!(PeerStatus::of_client(AnnounceEvent::None, Some(0)), PeerStatus::Seeder);
    /// ```
    #[must_use]
    pub fn of_client(event: AnnounceEvent, left: Option<u64>) -> Self {
        let has_completed = event == AnnounceEvent::Completed;
        Self::new(
            event,
            left.unwrap_or(if has_completed { 0 } else { u64::MAX }),
        )
    }
}
