//! Which workers there are, and who owns which shard.

use std::sync::Arc;

/// Who owns the shards. Socket workers come first wherever workers are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Each socket worker owns one.
    Fused {
        /// Threads that talk to clients.
        socket_workers: usize,
    },
    /// Swarm workers own them, and do nothing else.
    Split {
        /// Threads that talk to clients.
        socket_workers: usize,
        /// Threads that own a shard each.
        swarm_workers: usize,
    },
}

impl Topology {
    /// As configured: 0 socket workers means one for each CPU, 0 swarm workers means fused.
    #[must_use]
    pub fn from_config(socket_workers: usize, swarm_workers: usize) -> Self {
        let socket_workers = match socket_workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        match swarm_workers {
            0 => Self::Fused { socket_workers },
            swarm_workers => Self::Split {
                socket_workers,
                swarm_workers,
            },
        }
    }

    /// Threads that talk to clients.
    #[must_use]
    pub fn socket_workers(self) -> usize {
        match self {
            Self::Fused { socket_workers } | Self::Split { socket_workers, .. } => socket_workers,
        }
    }

    /// Threads that own a shard and do nothing else.
    #[must_use]
    pub fn swarm_workers(self) -> usize {
        match self {
            Self::Fused { .. } => 0,
            Self::Split { swarm_workers, .. } => swarm_workers,
        }
    }

    /// All workers.
    #[must_use]
    pub fn workers(self) -> usize {
        self.socket_workers() + self.swarm_workers()
    }

    /// Parts into which torrents are divided: one for each worker that owns some.
    #[must_use]
    pub fn shards(self) -> usize {
        match self {
            Self::Fused { socket_workers } => socket_workers,
            Self::Split { swarm_workers, .. } => swarm_workers,
        }
    }

    /// The worker that owns a shard, in the list of all workers.
    #[must_use]
    pub fn owner_of(self, shard: usize) -> usize {
        match self {
            Self::Fused { .. } => shard,
            Self::Split { socket_workers, .. } => socket_workers + shard,
        }
    }

    /// The part of a list of all workers that is about socket workers, in order.
    #[must_use]
    pub fn of_socket_workers<T>(self, all: &[T]) -> &[T] {
        all.get(..self.socket_workers()).unwrap_or(all)
    }

    /// The part of a list of all workers that is about owners of shards, by shard.
    #[must_use]
    pub fn of_owners<T>(self, all: &[T]) -> &[T] {
        all.get(self.owner_of(0)..).unwrap_or_default()
    }

    /// The shard that a socket worker owns.
    #[must_use]
    pub fn shard_of_socket_worker(self, worker: usize) -> Option<usize> {
        match self {
            Self::Fused { .. } => Some(worker),
            Self::Split { .. } => None,
        }
    }
}

/// One shared value for each of `count` workers or shards.
#[must_use]
pub fn per_worker<T: Default>(count: usize) -> Vec<Arc<T>> {
    (0..count).map(|_| Arc::default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_belong_to_swarm_workers_if_there_are_any() {
        let all = ["socket 0", "socket 1", "swarm 0"];
        let split = Topology::from_config(2, 1);
        assert_eq!((split.workers(), split.shards()), (3, 1));
        assert_eq!(split.of_socket_workers(&all), &all[..2]);
        assert_eq!(split.of_owners(&all), &all[2..]);
        assert_eq!(split.shard_of_socket_worker(0), None);

        let fused = Topology::from_config(2, 0);
        assert_eq!((fused.workers(), fused.shards()), (2, 2));
        assert_eq!(fused.of_owners(&all[..2]), &all[..2]);
        assert_eq!(fused.shard_of_socket_worker(1), Some(1));
        assert_eq!(fused.swarm_workers(), 0);
    }

    #[test]
    fn without_a_number_there_is_a_socket_worker_for_each_cpu() {
        let workers = Topology::from_config(0, 0).socket_workers();
        assert_eq!(workers, std::thread::available_parallelism().unwrap().get());
    }
}
