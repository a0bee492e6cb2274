//! How many connections the limit on open files allows.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::StreamConfig;

/// Open files that are no connections: those of each worker (listeners, poll or rings, waker), and
/// those of the rest of the program.
const FILES_PER_WORKER: u64 = 16;
const FILES_OF_PROGRAM: u64 = 32;

impl StreamConfig {
    /// Raises the soft limit on open files as far as it goes, and returns how many connections
    /// there may be: `network.max_connections`, but no more than the limit leaves room for. Beyond
    /// that, clients would wait in vain, and files could not be loaded again. `other_files` are
    /// those of the daemon besides its workers: of an endpoint for metrics, say.
    ///
    /// Logs a warning if the limit is too low for what is configured.
    #[must_use]
    pub fn connections_max(&self, workers: usize, other_files: usize) -> usize {
        let Some(files) = raise_limit() else {
            return self.max_connections;
        };
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let room = connections_of(files, number(workers), number(other_files));
        if self.max_connections > room {
            log::warn!(
                "`network.max_connections` is {}, but the limit on open files leaves room for \
                 {room}, and no more are held: raise it (ulimit -n; systemd: LimitNOFILE=)",
                self.max_connections
            );
        }
        match self.max_connections {
            0 => room,
            configured => configured.min(room),
        }
    }
}

/// Connections that so many open files leave room for. At least one: 0 would mean no bound.
fn connections_of(files: u64, workers: u64, other_files: u64) -> usize {
    let others = FILES_OF_PROGRAM
        .saturating_add(workers.saturating_mul(FILES_PER_WORKER))
        .saturating_add(other_files);
    usize::try_from(files.saturating_sub(others).max(1)).unwrap_or(usize::MAX)
}

/// The limit on open files, after raising it to the highest that needs no privilege. `None`: the
/// system does not tell.
fn raise_limit() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => Some(hard),
        Err(_) => Some(soft),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_room_for_the_rest_of_the_program() {
        assert_eq!(connections_of(1_024, 2, 0), 960);
        assert_eq!(connections_of(1_024, 2, 20), 940);
        assert_eq!(connections_of(10, 2, 0), 1);
    }

    #[test]
    fn the_limit_is_raised_and_bounds_connections() {
        let config = StreamConfig::default();
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(config.connections_max(1, 5), connections_of(hard, 1, 5));
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(soft, hard);
        let config = StreamConfig {
            max_connections: 7,
            ..config
        };
        assert_eq!(config.connections_max(1, 5), 7);
        let config = StreamConfig {
            max_connections: usize::MAX,
            ..config
        };
        assert_eq!(config.connections_max(1, 5), connections_of(hard, 1, 5));
    }
}
