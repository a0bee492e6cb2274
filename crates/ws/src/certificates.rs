//! When connections with an outdated certificate are closed. Pure.
//!
//! Connections stay open for hours. Those that were opened before the certificate was changed go on
//! with the earlier one, which may expire or have to be given up, until a grace period is over.

use std::collections::VecDeque;

use aquatic_daemon::clock::Now;
use aquatic_types::Seconds;

/// Notices when the certificate is changed. Certificates are known by their generation: how often
/// there was a new one before.
#[derive(Debug)]
pub struct CertificateWatch {
    newest: u32,
    /// When connections with certificates of before which generation are to be closed.
    due: VecDeque<(Seconds, u32)>,
    grace_seconds: u32,
}

impl CertificateWatch {
    /// Starts with the certificate that new connections have now.
    #[must_use]
    pub fn new(newest: u32, grace_seconds: u32) -> Self {
        Self {
            newest,
            due: VecDeque::new(),
            grace_seconds,
        }
    }

    /// Connections are closed so many seconds after the next changes; and after those that there
    /// were, if that is sooner than it was to be.
    pub fn set_grace(&mut self, now: Now, seconds: u32) {
        self.grace_seconds = seconds;
        for (at, _) in &mut self.due {
            *at = (*at).min(now.seconds + seconds);
        }
    }

    /// `newest` is the certificate that new connections have now. Returns the one before which all
    /// are outdated, when a grace period has ended: once for each.
    pub fn outdated(&mut self, now: Now, newest: u32) -> Option<u32> {
        if newest != self.newest {
            self.newest = newest;
            self.due
                .push_back((now.seconds + self.grace_seconds, newest));
        }
        let (at, generation) = *self.due.front()?;
        if at > now.seconds {
            return None;
        }
        self.due.pop_front();
        Some(generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn each_change_has_its_own_grace_period() {
        let mut watch = CertificateWatch::new(7, 100);
        assert_eq!(watch.outdated(at(0), 7), None);
        assert_eq!(watch.outdated(at(1_000), 7), None, "nothing has changed");
        assert_eq!(watch.outdated(at(1_010), 8), None);
        assert_eq!(watch.outdated(at(1_050), 9), None);
        assert_eq!(watch.outdated(at(1_109), 9), None);
        assert_eq!(watch.outdated(at(1_110), 9), Some(8));
        assert_eq!(watch.outdated(at(1_110), 9), None, "told once");
        assert_eq!(watch.outdated(at(1_150), 9), Some(9));
        assert_eq!(watch.outdated(at(9_999), 9), None);
    }

    #[test]
    fn a_shorter_grace_holds_for_changes_that_there_were() {
        let mut watch = CertificateWatch::new(0, 3_600);
        assert_eq!(watch.outdated(at(10), 1), None);
        assert_eq!(watch.outdated(at(20), 2), None);
        watch.set_grace(at(30), 5);
        assert_eq!(watch.outdated(at(34), 2), None);
        assert_eq!(watch.outdated(at(35), 2), Some(1));
        assert_eq!(watch.outdated(at(35), 2), Some(2));
    }

    #[test]
    fn there_need_be_no_grace() {
        let mut watch = CertificateWatch::new(0, 0);
        assert_eq!(watch.outdated(at(5), 1), Some(1));
        assert_eq!(watch.outdated(at(5), 1), None);
    }
}
