//! What a running program takes over of a file that has changed.

use toml::Value;

use crate::reloading::is_applied;
use crate::{Config, ConfigError, load, values};

/// A key whose value in the file is another one than the program runs with.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// With its section.
    pub key: String,
    /// What the program has run with.
    pub from: Value,
    /// What the file says.
    pub to: Value,
    /// Whether the program runs with that now; if not, it needs a restart.
    pub is_applied: bool,
}

/// What becomes of a file that has been read again.
#[derive(Clone, Debug, PartialEq)]
pub struct TakeOver<C> {
    /// What the program runs with from now on: what the file says as far as that can be applied,
    /// and what it has run with otherwise.
    pub config: C,
    /// All that differs, in the order in which keys are printed.
    pub changes: Vec<Change>,
}

/// Takes over from `new`, which has been read and checked, what a program can apply that was
/// started with `start` and runs with `running`.
///
/// # Errors
/// If what can be applied does not fit what cannot. Nothing is to be applied then.
pub fn take_over<C: Config>(start: &C, running: &C, new: &C) -> Result<TakeOver<C>, ConfigError> {
    let mut bound = start.keys_bound_to_start(new);
    bound.extend(running.keys_bound_at_present(new));
    let mut changes = Vec::new();
    let mut text = String::new();
    for ((key, from), (_, to)) in values(running).into_iter().zip(values(new)) {
        let is_changed = from != to;
        let is_applied = is_changed && !bound.contains(&key) && is_applied(&key, &from, &to);
        let value = if is_applied { &to } else { &from };
        text += &format!("{key} = {value}\n");
        if is_changed {
            changes.push(Change {
                key,
                from,
                to,
                is_applied,
            });
        }
    }
    let loaded = load::<C>(&text).map_err(|mut error| {
        // It is no text that anybody could look at.
        for problem in &mut error.problems {
            problem.position = None;
        }
        error
    });
    let config = loaded?.config;
    Ok(TakeOver { config, changes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Checks, LogLevel, section};

    section! {
        /// As in a tracker.
        struct Root {
            /// How much.
            pub log_level: LogLevel = LogLevel::Info,
            /// How many.
            pub socket_workers: usize = 1,
            pub protocol: Protocol,
            pub limits: Limits,
        }
    }

    section! {
        /// Intervals.
        struct Protocol {
            /// Seconds.
            pub peer_announce_interval: u32 = 900,
            /// Torrents.
            pub max_scrape_torrents: usize = 74,
        }
    }

    section! {
        /// Bounds.
        struct Limits {
            /// Peers.
            pub max_peers_per_ip: usize = 0,
            /// Peers of a torrent.
            pub max_peers_per_ip_and_torrent: u16 = 64,
        }
    }

    impl Config for Root {
        fn check(&self, checks: &mut Checks) {
            checks.require(
                self.socket_workers < self.protocol.max_scrape_torrents,
                "protocol.max_scrape_torrents",
                "must be more than there are workers",
            );
        }

        fn keys_bound_to_start(&self, new: &Self) -> Vec<String> {
            match new.protocol.max_scrape_torrents {
                1_000.. => vec!["protocol.max_scrape_torrents".to_owned()],
                _ => Vec::new(),
            }
        }

        fn log_level(&self) -> LogLevel {
            self.log_level
        }
    }

    fn read(text: &str) -> Root {
        load::<Root>(text).unwrap().config
    }

    /// Which keys are applied, and which need a restart.
    fn taken_over(running: &str, new: &str) -> (Root, Vec<String>, Vec<String>) {
        let TakeOver { config, changes } =
            take_over(&read(running), &read(running), &read(new)).unwrap();
        let (applied, others): (Vec<_>, Vec<_>) = changes.into_iter().partition(|it| it.is_applied);
        let keys = |changes: Vec<Change>| changes.into_iter().map(|it| it.key).collect();
        (config, keys(applied), keys(others))
    }

    #[test]
    fn what_can_be_applied_is_and_the_rest_stays() {
        let new = "log_level = 'debug'\nsocket_workers = 5\nprotocol.peer_announce_interval = 60";
        let (config, applied, others) = taken_over("protocol.max_scrape_torrents = 70", new);
        let expected = read("log_level = 'debug'\nprotocol.peer_announce_interval = 60");
        assert_eq!(config, expected);
        let expected = [
            "log_level",
            "protocol.peer_announce_interval",
            "protocol.max_scrape_torrents",
        ];
        assert_eq!(applied, expected);
        assert_eq!(others, ["socket_workers"]);
        // It is told as often as the file is read.
        let (_, applied, others) = taken_over(&crate::to_documented_toml(&config), new);
        assert!(applied.is_empty(), "{applied:?}");
        assert_eq!(others, ["socket_workers"]);
    }

    #[test]
    fn nothing_has_changed_in_the_same_file() {
        let text = "limits.max_peers_per_ip = 7";
        let (config, applied, others) = taken_over(text, text);
        assert_eq!(config, read(text));
        assert!(applied.is_empty() && others.is_empty());
    }

    #[test]
    fn some_limits_cannot_begin_or_end_to_be_kept() {
        let per_ip = |max: u32| format!("limits.max_peers_per_ip = {max}");
        let per_torrent = |max: u32| format!("limits.max_peers_per_ip_and_torrent = {max}");
        for (from, to, is_applied) in [
            (per_ip(5), per_ip(6), true),
            (per_ip(5), per_ip(0), false),
            (per_ip(0), per_ip(5), false),
            (per_torrent(5), per_torrent(6), true),
            (per_torrent(5), per_torrent(0), false),
            (per_torrent(0), per_torrent(5), false),
        ] {
            let (config, applied, others) = taken_over(&from, &to);
            assert_eq!(applied.len(), usize::from(is_applied), "{from} {to}");
            assert_eq!(others.len(), usize::from(!is_applied), "{from} {to}");
            assert_eq!(config, read(if is_applied { &to } else { &from }));
        }
    }

    #[test]
    fn a_configuration_can_bind_a_key_to_its_start() {
        let new = "protocol.max_scrape_torrents = 1000\nprotocol.peer_announce_interval = 60";
        let (config, applied, others) = taken_over("", new);
        assert_eq!(config, read("protocol.peer_announce_interval = 60"));
        assert_eq!(applied, ["protocol.peer_announce_interval"]);
        assert_eq!(others, ["protocol.max_scrape_torrents"]);
    }

    #[test]
    fn nothing_is_taken_over_that_does_not_fit_what_stays() {
        let running = read("socket_workers = 50");
        let new = read("socket_workers = 1\nprotocol.max_scrape_torrents = 10");
        let error = take_over(&running, &running, &new).unwrap_err().to_string();
        assert!(error.contains("`protocol.max_scrape_torrents`"), "{error}");
    }
}
