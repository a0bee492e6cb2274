//! How long what is shared lives.

use aquatic_config::Checks;
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

/// With longer ones, others would forget whoever is told of at each cleaning, if one is lost.
const CLEANING_INTERVAL_MAX: u32 = (PEER_AGE_MAX_SECONDS - MEMBER_GRACE) / 3;

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
        let life = u32::try_from(self.needed());
        life.map_or(PEER_AGE_MAX_SECONDS, |it| it.min(PEER_AGE_MAX_SECONDS))
    }

    /// The same, even if others do not remember anybody for so long.
    fn needed(self) -> u64 {
        let turns = 2 * u64::from(self.refresh.max(self.cleaning_interval));
        turns + u64::from(self.cleaning_interval) + u64::from(MEMBER_GRACE)
    }

    /// Checks that others remember him for so long.
    pub(super) fn check(self, checks: &mut Checks) {
        let Self {
            refresh,
            cleaning_interval,
        } = self;
        let is_short = cleaning_interval <= CLEANING_INTERVAL_MAX;
        checks.require(
            is_short,
            "cleaning.torrent_cleaning_interval",
            format!(
                "must be {CLEANING_INTERVAL_MAX} at most in a cluster: it is cleanings that tell \
                 other nodes of peers again, and these remember a peer for {PEER_AGE_MAX_SECONDS} \
                 s, which must be enough for two of them"
            ),
        );
        let needed = self.needed();
        checks.require(
            !is_short || needed <= PEER_AGE_MAX_SECONDS.into(),
            "cluster.refresh_interval",
            format!(
                "other nodes would forget peers before they are told of them again: twice the \
                 refresh interval ({refresh}), `cleaning.torrent_cleaning_interval` \
                 ({cleaning_interval}) and {MEMBER_GRACE} are {needed} s, and they remember a peer \
                 for {PEER_AGE_MAX_SECONDS} s at most: 8192 fits, and 0 takes what suits \
                 `cleaning.max_peer_age`"
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use aquatic_config::{Config, LogLevel, load, section};

    use super::super::ClusterConfig;
    use super::*;

    section! {
        /// A tracker of WebTorrent.
        pub struct TrackerConfig {
            pub cleaning: CleaningConfig,
            pub cluster: ClusterConfig,
        }
    }

    section! {
        /// Expiry.
        pub struct CleaningConfig {
            /// Seconds.
            pub torrent_cleaning_interval: u32 = 30,
            /// Seconds.
            pub max_peer_age: u32 = 180,
        }
    }

    impl Config for TrackerConfig {
        fn check(&self, checks: &mut Checks) {
            let CleaningConfig {
                torrent_cleaning_interval,
                max_peer_age,
            } = self.cleaning;
            let cluster = &self.cluster;
            let lives = cluster.member_lives(torrent_cleaning_interval, max_peer_age);
            cluster.check(lives, checks);
        }

        fn log_level(&self) -> LogLevel {
            LogLevel::default()
        }
    }

    /// What is wrong if it is in a cluster.
    fn error(refresh: u32, cleaning: u32, age: u32) -> String {
        let cleaning =
            format!("[cleaning]\ntorrent_cleaning_interval = {cleaning}\nmax_peer_age = {age}");
        let cluster = format!("[cluster]\nrefresh_interval = {refresh}");
        let text = format!("{cleaning}\n{cluster}\n");
        assert!(load::<TrackerConfig>(&text).is_ok(), "it shares nothing");
        let result = load::<TrackerConfig>(&format!("{text}servers = ['nats://127.0.0.1']\n"));
        result.map_or_else(|error| error.to_string(), |_| String::new())
    }

    #[test]
    fn whoever_stays_is_told_of_twice_before_others_forget_him() {
        for (refresh, cleaning, age) in [
            (0, 30, 180),
            (8_192, 30, 180),
            (8_192, 10_656, 21_344),
            (0, 10_656, 21_344),
            (0, 1, 31_999),
        ] {
            assert_eq!(error(refresh, cleaning, age), "");
            let config = ClusterConfig {
                refresh_interval: refresh,
                ..ClusterConfig::default()
            };
            let lives = config.member_lives(cleaning, age);
            assert_eq!(u64::from(lives.life()), lives.needed());
        }
        let told = error(16_384, 30, 180);
        assert!(told.contains("`cluster.refresh_interval`"), "{told}");
        assert!(told.contains("30) and 30 are 32828 s, and"), "{told}");
        assert!(told.contains("8192 fits"), "{told}");
        assert!(!told.contains("must be 10656"), "{told}");
        for refresh in [0, 16_384] {
            let told = error(refresh, 10_657, 21_343);
            let key = "`cleaning.torrent_cleaning_interval`: must";
            assert!(told.contains(key), "{told}");
            assert!(
                told.contains("must be 10656 at most in a cluster"),
                "{told}"
            );
            assert!(!told.contains("8192 fits"), "one after the other: {told}");
        }
    }
}
