//! Sockets for all workers: those that were [passed](crate::kept_sockets) to the process, and new
//! ones.
//!
//! Each worker has a socket of its own at each address, and the sockets of one address are a group
//! (`SO_REUSEPORT`), which the kernel numbers in the order of their binding; the worker of the same
//! number serves each. If more sockets were passed than there are workers now, the rest is served
//! as well, by one worker or another, since clients may wait there. If no new socket can join a
//! group, workers share those that there are.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::Context;
use aquatic_config::Addresses;

use crate::bind;
use crate::kept_sockets::{KeptSockets, Kind, Taken};

/// How many sockets a worker may have: backends number them by a byte.
const SOCKETS_PER_WORKER_MAX: usize = 256;

/// Who knows what the sockets of a front end are like.
pub trait Binder {
    /// Its sockets.
    type Socket: AsFd;
    /// What is sent through them.
    const KIND: Kind;

    /// Makes sure that nobody else serves at this address. Returns it with the port that the system
    /// has chosen, if it was 0.
    ///
    /// # Errors
    /// If it cannot be bound.
    fn probe(&self, address: SocketAddr) -> io::Result<SocketAddr>;

    /// Binds a socket, one of several at this address if it `is_shared`.
    ///
    /// # Errors
    /// If the system does not let it.
    fn bind(&self, address: SocketAddr, is_shared: bool) -> io::Result<Self::Socket>;

    /// Makes a bound socket what [`bind`](Self::bind) would have made.
    ///
    /// # Errors
    /// If the system does not let it.
    fn adopt(&self, socket: OwnedFd, is_shared: bool) -> io::Result<Self::Socket>;

    /// The same socket once more, for another worker.
    ///
    /// # Errors
    /// If there are too many open files.
    fn duplicate(&self, socket: &Self::Socket) -> io::Result<Self::Socket>;
}

/// The sockets of so many workers, a list for each. It begins with one for each address, in order;
/// behind it are those that were passed and have no worker of their own any more. Default addresses
/// of an IP version that the host lacks are left out.
///
/// # Errors
/// If an address cannot be bound, or somebody else (a second instance, say) serves there.
pub fn bind_for_workers<B: Binder>(
    kept: &KeptSockets,
    addresses: &Addresses,
    workers: usize,
    binder: &B,
) -> anyhow::Result<Vec<Vec<B::Socket>>> {
    let per_address_max = (SOCKETS_PER_WORKER_MAX / addresses.iter().count().max(1)).max(1);
    let group_max = workers * per_address_max;
    // Several sockets per address would let a second instance in. And all workers shall have the
    // same port, also if any will do (0).
    let claimed = bind::claim(addresses, |address| {
        let taken = kept.take(B::KIND, address, group_max);
        let is_chosen = address.port() == 0;
        match taken[..] {
            [] => Ok((binder.probe(address)?, taken, is_chosen)),
            _ => Ok((address, taken, is_chosen)),
        }
    })?;
    let groups = claimed.into_iter().map(|(address, taken, is_chosen)| {
        // The next process would not look for that port.
        let kept = (!is_chosen).then_some(kept);
        bind_group(kept, address, taken, workers, binder)
    });
    Ok(distribute(groups.collect::<anyhow::Result<_>>()?, workers))
}

/// At least as many sockets as there are workers, in the order of the kernel.
fn bind_group<B: Binder>(
    kept: Option<&KeptSockets>,
    address: SocketAddr,
    taken: Vec<Taken>,
    workers: usize,
    binder: &B,
) -> anyhow::Result<Vec<B::Socket>> {
    let passed = taken.len();
    let is_shared = workers.max(passed) > 1;
    let first_place = Taken::next_place(&taken);
    let adopt = |taken: Taken| binder.adopt(taken.socket, is_shared);
    let sockets: io::Result<Vec<_>> = taken.into_iter().map(adopt).collect();
    let mut sockets = sockets
        .with_context(|| format!("cannot use the {} socket passed for {address}", B::KIND))?;
    if passed > 0 {
        log::info!("{passed} {} sockets were passed for {address}", B::KIND);
    }
    for place in (first_place..).take(workers.saturating_sub(passed)) {
        let socket = match binder.bind(address, is_shared) {
            Err(reason) if passed > 0 => {
                log::warn!(
                    "workers share the sockets that were passed for {address}, since no new one \
                     can be bound beside them (they may be another user's): {reason}"
                );
                break;
            }
            // Only a moment ago there was nobody else.
            Err(_) => bind::with_retry(address, |address| binder.bind(address, is_shared))?,
            Ok(socket) => socket,
        };
        if let Some(kept) = kept {
            kept.keep(B::KIND, address, place, &socket);
        }
        sockets.push(socket);
    }
    for index in 0..workers.saturating_sub(sockets.len()) {
        let socket = sockets.get(index).context("no socket was passed")?;
        let again = binder.duplicate(socket);
        sockets.push(again.with_context(|| format!("cannot share a socket of {address}"))?);
    }
    Ok(sockets)
}

/// What each worker serves, of groups that have a socket for each worker, or more.
fn distribute<S>(groups: Vec<Vec<S>>, workers: usize) -> Vec<Vec<S>> {
    let mut lists: Vec<Vec<S>> = (0..workers).map(|_| Vec::new()).collect();
    let mut rest = Vec::new();
    for group in groups {
        let mut group = group.into_iter();
        for (list, socket) in lists.iter_mut().zip(group.by_ref()) {
            list.push(socket);
        }
        rest.push(group);
    }
    for (worker, socket) in rest
        .into_iter()
        .flat_map(|group| (0..workers).cycle().zip(group))
    {
        if let Some(list) = lists.get_mut(worker) {
            list.push(socket);
        }
    }
    lists
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_has_each_address_first_and_nobody_is_left_out() {
        let groups = vec![vec!["a0", "a1", "a2", "a3", "a4"], vec!["b0", "b1"]];
        assert_eq!(
            distribute(groups.clone(), 2),
            [vec!["a0", "b0", "a2", "a4"], vec!["a1", "b1", "a3"]]
        );
        assert_eq!(
            distribute(groups, 1),
            [["a0", "b0", "a1", "a2", "a3", "a4", "b1"]]
        );
    }
}
