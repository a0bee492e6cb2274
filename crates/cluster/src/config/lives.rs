//! How long what is shared lives.

use aquatic_swarm::PEER_AGE_MAX_SECONDS;

/// What is shared, and for how long it lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lives {
    /// Swarms whose peers are addresses.
    pub peers: Option<PeerLives>,
    /// Swarms of WebTorrent.
    pub members: Option<MemberLives>,
}

impl From<PeerLives> for Lives {
    fn from(lives: PeerLives) -> Self {
        Self {
            peers: Some(lives),
            members: None,
        }
    }
}

impl From<MemberLives> for Lives {
    fn from(lives: MemberLives) -> Self {
        Self {
            peers: None,
            members: Some(lives),
        }
    }
}

/// For how long peers are remembered, and how often they announce, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerLives {
    /// The longest interval that a client may be told.
    pub announce_interval: u32,
    /// `cleaning.max_peer_age`: the shortest, if protocols have several.
    pub peer_age: u32,
    /// The longest.
    pub peer_age_max: u32,
}

/// When other nodes are told again of a member of a WebTorrent swarm, who stays as long as he is
/// connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberLives {
    /// Seconds in which they are to be told once.
    pub refresh: u32,
    /// Seconds between two cleanings, which do it.
    pub cleaning_interval: u32,
}

/// Seconds for which a member is believed to be there beyond what it takes to be told of him twice.
const MEMBER_GRACE: u32 = 30;

impl MemberLives {
    /// Seconds in which he is told of again: at most a cleaning after his turn.
    #[must_use]
    pub fn told_within(self) -> u32 {
        let longest = self.refresh.max(self.cleaning_interval);
        longest.saturating_add(self.cleaning_interval)
    }

    /// Seconds for which he is believed to be there: so long that he is told of again twice,
    /// whenever his turns fall between two cleanings.
    #[must_use]
    pub fn life(self) -> u32 {
        let turns = 2 * u64::from(self.refresh.max(self.cleaning_interval));
        let life = turns + u64::from(self.cleaning_interval) + u64::from(MEMBER_GRACE);
        u32::try_from(life).map_or(PEER_AGE_MAX_SECONDS, |it| it.min(PEER_AGE_MAX_SECONDS))
    }
}
