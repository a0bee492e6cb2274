//! How many connections the limit on open files allows.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::StreamConfig;

/// Open files that are no connections: those of each worker (listeners, poll or rings, waker), and
/// those of the rest of the program.
const FILES_PER_WORKER: u64 = 16;
const FILES_OF_PROGRAM: u64 = 32;

/// What to do about too few of them.
pub(crate) const ADVICE: &str = "raise the limit on open files (ulimit -n; systemd: LimitNOFILE=)";

/// How many connections there may be, and why not more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionRoom {
    /// So many. 0 = no bound is known.
    pub connections: usize,
    /// `network.max_connections`.
    configured: usize,
    /// The limit on open files, unless the system does not tell.
    files: Option<u64>,
}

impl StreamConfig {
    /// Raises the soft limit on open files as far as it goes, and returns how many connections
    /// there may be: `network.max_connections`, but no more than the limit leaves room for. Beyond
    /// that, clients would wait in vain, and files could not be loaded again. `other_files` are
    /// those of the daemon besides its workers: of an endpoint for metrics, say. So many
    /// `front_ends` share the limit.
    ///
    /// Logs how many, with a warning if the limit is too low for what is configured.
    #[must_use]
    pub fn connection_room(
        &self,
        workers: usize,
        other_files: usize,
        front_ends: usize,
    ) -> ConnectionRoom {
        let files = share_of_limit(front_ends);
        let room = connection_room(self.max_connections, files, workers, other_files);
        if let Some(shortage) = room.shortage() {
            log::warn!("`network.max_connections` {shortage}");
        }
        if let (1.., Some(files)) = (room.connections, room.files) {
            log::info!(
                "room for {} connections (`network.max_connections` = {}; {files} open files)",
                room.connections,
                room.configured
            );
        }
        room
    }

    /// Why there will be fewer connections than are configured, if so: what is wrong with
    /// `network.max_connections`. Raises the soft limit on open files, too.
    pub(crate) fn shortage_of_files(
        &self,
        workers: usize,
        other_files: usize,
        front_ends: usize,
    ) -> Option<String> {
        let files = share_of_limit(front_ends);
        connection_room(self.max_connections, files, workers, other_files).shortage()
    }
}

impl ConnectionRoom {
    /// Why there will be fewer connections than are configured, if so: what is wrong with
    /// `network.max_connections`.
    fn shortage(&self) -> Option<String> {
        (self.configured > self.connections).then(|| {
            format!(
                "is {}, but the limit on open files leaves room for {}, and no more are held: \
                 {ADVICE}",
                self.configured, self.connections
            )
        })
    }

    /// What to do if more are wanted.
    pub(crate) fn advice(&self) -> &'static str {
        match self.configured == self.connections {
            true => "raise `network.max_connections`",
            false => ADVICE,
        }
    }
}

/// The room for connections with so many open files.
pub(crate) fn connection_room(
    configured: usize,
    files: Option<u64>,
    workers: usize,
    other_files: usize,
) -> ConnectionRoom {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let (workers, other_files) = (number(workers), number(other_files));
    let room = files.map(|files| connections_of(files, workers, other_files));
    ConnectionRoom {
        connections: match (configured, room) {
            (0, room) => room.unwrap_or(0),
            (configured, room) => configured.min(room.unwrap_or(configured)),
        },
        configured,
        files,
    }
}

/// Connections that so many open files leave room for. At least one: 0 would mean no bound.
fn connections_of(files: u64, workers: u64, other_files: u64) -> usize {
    let others = FILES_OF_PROGRAM
        .saturating_add(workers.saturating_mul(FILES_PER_WORKER))
        .saturating_add(other_files);
    usize::try_from(files.saturating_sub(others).max(1)).unwrap_or(usize::MAX)
}

/// What one of so many front ends may have of the limit on open files.
fn share_of_limit(front_ends: usize) -> Option<u64> {
    let front_ends = u64::try_from(front_ends.max(1)).unwrap_or(u64::MAX);
    raise_limit().map(|files| files / front_ends)
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
    fn advice_is_about_what_sets_the_bound() {
        let advice = |configured| connection_room(configured, Some(64), 1, 0).advice();
        assert_eq!(advice(0), ADVICE);
        assert_eq!(advice(17), ADVICE);
        assert_eq!(advice(16), "raise `network.max_connections`");
    }

    #[test]
    fn the_limit_is_raised_and_bounds_connections() {
        let config = StreamConfig::default();
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let room = |config: &StreamConfig| config.connection_room(1, 5, 1).connections;
        assert_eq!(room(&config), connections_of(hard, 1, 5));
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(soft, hard);
        let config = StreamConfig {
            max_connections: 7,
            ..config
        };
        assert_eq!(room(&config), 7);
        let config = StreamConfig {
            max_connections: usize::MAX,
            ..config
        };
        assert_eq!(room(&config), connections_of(hard, 1, 5));
        let shortage = config.shortage_of_files(1, 5, 1).unwrap();
        assert!(
            shortage.contains("the limit on open files leaves room for"),
            "{shortage}"
        );
        assert_eq!(StreamConfig::default().shortage_of_files(1, 5, 1), None);
    }
}
