//! Asking the service manager for more time: for a start that reads much, and for a stop that has
//! much to finish.
//!
//! systemd ends a service that takes longer than its unit says, unless it is told again and again
//! that things get on ([`Systemd::extend_timeout`]). A start that hangs shows no sign of life, and
//! is ended as before.

use std::time::Duration;

use crate::heartbeat::{self, Heart};
use crate::systemd::Systemd;

/// Asks once per [`heartbeat::INTERVAL`], and not within the first one.
#[derive(Debug)]
pub(crate) struct Patience<'a> {
    systemd: &'a Systemd,
    /// When it last asked.
    asked: Duration,
    /// Of the thread that is being waited for, when it last asked.
    beats: u64,
}

impl<'a> Patience<'a> {
    /// For something that has begun just now, at zero.
    pub(crate) fn new(systemd: &'a Systemd) -> Self {
        Self {
            systemd,
            asked: Duration::ZERO,
            beats: 0,
        }
    }

    /// Asks, if it is time to.
    pub(crate) fn ask(&mut self, now: Duration) {
        if self.is_due(now) {
            self.asked = now;
            self.systemd.extend_timeout();
        }
    }

    /// The same, if the thread that is being waited for has shown a sign of life since the last
    /// time.
    pub(crate) fn ask_if_alive(&mut self, now: Duration, heart: &Heart) {
        let beats = heart.sign().beats;
        if self.is_due(now) && std::mem::replace(&mut self.beats, beats) != beats {
            self.ask(now);
        }
    }

    fn is_due(&self, now: Duration) -> bool {
        now >= self.asked + heartbeat::INTERVAL
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn more_time_is_asked_for_as_long_as_there_are_signs_of_life() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let systemd = Systemd::at(path.as_os_str());
        let heart = Heart::new("patience-test".to_owned());
        let mut patience = Patience::new(&systemd);
        let mut asks = |seconds: f32| {
            patience.ask_if_alive(Duration::from_secs_f32(seconds), &heart);
            listener.recv(&mut [0; 64]).is_ok()
        };
        heart.beat();
        assert!(!asks(0.9), "that is not long");
        assert!(asks(1.0));
        heart.beat();
        assert!(!asks(1.5), "it has just asked");
        assert!(asks(2.5));
        assert!(!asks(3.5), "no sign of life");
        assert!(!asks(99.0), "no sign of life");
        heart.beat();
        assert!(asks(99.0));
        patience.ask(Duration::from_secs(100));
        assert!(listener.recv(&mut [0; 64]).is_ok(), "whoever is waited for");
    }
}
