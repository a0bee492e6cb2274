//! When connections with an outdated certificate are closed. Pure.
//!
//! Connections stay open for hours. Those that were opened before the certificate was changed go on
//! with the earlier one, which may expire or have to be given up, until a grace period is over.

use std::collections::VecDeque;

use aquatic_daemon::clock::Now;
use aquatic_stream::TlsConfig;
use aquatic_types::Seconds;

/// Notices when the certificate is changed.
pub struct CertificateWatch {
    tls: TlsConfig,
    newest: u32,
    /// When connections with certificates of before which generation are to be closed.
    due: VecDeque<(Seconds, u32)>,
    grace_seconds: u32,
}

impl CertificateWatch {
    /// Watches the configuration of new connections.
    #[must_use]
    pub fn new(tls: TlsConfig, grace_seconds: u32) -> Self {
        Self {
            newest: tls.generation(),
            tls,
            due: VecDeque::new(),
            grace_seconds,
        }
    }

    /// The generation of which all earlier ones are outdated, when a grace period has ended.
    pub fn outdated(&mut self, now: Now) -> Option<u32> {
        let newest = self.tls.generation();
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
