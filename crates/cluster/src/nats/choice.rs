//! Which server is tried next.

use std::collections::HashSet;
use std::time::Duration;

use async_nats::{Server, ServerAddr};
use tokio::time::Instant;

/// A connection that has lasted so long was a good one: another one is looked for from the first
/// server on, which is the nearest. Otherwise the next one has its turn: one that takes connections
/// and says nothing must not keep a tracker from all others.
const GOOD: Duration = Duration::from_secs(60);

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Choice {
    next: usize,
    /// Attempts since there was a connection.
    attempts: usize,
    current: Option<ServerAddr>,
    up_since: Option<Instant>,
    was_silent: bool,
    /// Servers that have taken a connection and said nothing.
    silent: HashSet<ServerAddr>,
}

impl Choice {
    /// The server to be tried now; there is at least one. Returns also whether all have been tried
    /// in vain, each as often.
    pub(super) fn choose(&mut self, servers: &[Server]) -> Option<(ServerAddr, bool)> {
        let addresses: Vec<_> = servers.iter().map(|server| server.addr.clone()).collect();
        self.choose_of(&addresses)
    }

    fn choose_of(&mut self, servers: &[ServerAddr]) -> Option<(ServerAddr, bool)> {
        let place = self.next.checked_rem(servers.len())?;
        let have_all_failed = self.attempts > 0 && self.attempts.is_multiple_of(servers.len());
        self.attempts += 1;
        self.next = place + 1;
        let address = servers.get(place)?.clone();
        if let Some(last) = self.current.replace(address.clone()) {
            match std::mem::take(&mut self.was_silent) {
                true => self.silent.insert(last),
                false => self.silent.remove(&last),
            };
        }
        Some((address, have_all_failed))
    }

    /// There is a connection through which something is heard.
    pub(super) fn go_up(&mut self, now: Instant) {
        self.attempts = 0;
        self.silent.clear();
        self.up_since = Some(now);
    }

    /// For how long.
    pub(super) fn up_for(&self, now: Instant) -> Option<Duration> {
        self.up_since.map(|since| now - since)
    }

    /// It is lost.
    pub(super) fn go_down(&mut self, now: Instant) {
        if self
            .up_since
            .take()
            .is_some_and(|since| now - since >= GOOD)
        {
            self.next = 0;
        }
    }

    /// It is lost, and nothing was ever heard through it.
    pub(super) fn note_silence(&mut self) {
        self.was_silent = true;
    }

    pub(super) fn is_silent(&self, address: &ServerAddr) -> bool {
        self.silent.contains(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers() -> Vec<ServerAddr> {
        let names = ["nats://a:1", "nats://b:1", "nats://c:1"];
        names.map(|name| name.parse().unwrap()).to_vec()
    }

    /// Of three attempts, the names of the servers, and whether it is said that all have failed.
    fn attempts(choice: &mut Choice, many: usize) -> String {
        let servers = servers();
        (0..many)
            .map(|_| {
                let (address, have_all_failed) = choice.choose_of(&servers).unwrap();
                format!(
                    "{}{}",
                    address.host(),
                    if have_all_failed { "!" } else { "" }
                )
            })
            .collect()
    }

    #[test]
    fn the_nearest_is_first_unless_it_was_bad() {
        let mut now = Instant::now();
        let mut choice = Choice::default();
        assert_eq!(attempts(&mut choice, 7), "abca!bca!");
        choice.go_up(now);
        now += GOOD;
        choice.go_down(now);
        assert_eq!(attempts(&mut choice, 2), "ab");
        choice.go_up(now);
        now += GOOD / 2;
        assert_eq!(choice.up_for(now), Some(GOOD / 2));
        choice.go_down(now);
        assert_eq!(choice.up_for(now), None);
        assert_eq!(attempts(&mut choice, 1), "c");
        // It has taken the connection, and then said nothing.
        choice.note_silence();
        assert_eq!(attempts(&mut choice, 3), "abc!");
        let [a, _, c] = <[_; 3]>::try_from(servers()).unwrap();
        assert!(choice.is_silent(&c) && !choice.is_silent(&a));
        assert_eq!(attempts(&mut choice, 1), "a");
        assert!(!choice.is_silent(&c), "there is another reason now");
        assert!(Choice::default().choose_of(&[]).is_none());
    }
}
