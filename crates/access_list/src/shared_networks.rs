//! One set of denied networks for all workers, replaced while they work.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Cache};

use crate::{DeniedNetworks, Replaced};

/// Denied networks in use. Clones share them, so that whoever replaces them does so for all.
#[derive(Clone, Debug)]
pub struct SharedDeniedNetworks {
    networks: Arc<ArcSwap<DeniedNetworks>>,
    /// How often they have been replaced.
    version: Arc<AtomicU64>,
}

impl SharedDeniedNetworks {
    /// At first, they are these.
    #[must_use]
    pub fn new(networks: DeniedNetworks) -> Self {
        Self {
            networks: Arc::new(ArcSwap::from_pointee(networks)),
            version: Arc::default(),
        }
    }

    /// Puts `networks` in place of the present ones. Every question asked after this returns is
    /// answered from them; no reader waits.
    pub fn replace(&self, networks: DeniedNetworks) -> Replaced<DeniedNetworks> {
        let replaced = self.networks.swap(Arc::new(networks));
        // Afterwards: who sees the number is answered from these networks, or from later ones.
        self.version.fetch_add(1, Ordering::Release);
        Replaced(replaced)
    }

    /// How often they have been replaced: for those who look at all clients again then.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The networks as they are now.
    #[must_use]
    pub fn present(&self) -> Arc<DeniedNetworks> {
        self.networks.load_full()
    }

    /// For one worker. To be made once and kept: making one costs more than using it.
    #[must_use]
    pub fn reader(&self) -> DeniedNetworksReader {
        let networks = Cache::new(Arc::clone(&self.networks));
        DeniedNetworksReader { networks }
    }
}

/// A worker's way to ask. It costs what it does to ask an [access
/// list](crate::AccessListReader).
#[derive(Clone, Debug)]
pub struct DeniedNetworksReader {
    networks: Cache<Arc<ArcSwap<DeniedNetworks>>, Arc<DeniedNetworks>>,
}

impl DeniedNetworksReader {
    /// Whether the address is of one of the networks.
    #[inline]
    pub fn contain(&mut self, ip: IpAddr) -> bool {
        self.networks.load().contain(ip)
    }

    /// Lets go of networks that were replaced. To be called now and then by a reader that may not
    /// be asked for long.
    #[inline]
    pub fn refresh(&mut self) {
        self.networks.load();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AccessList, AccessListMode, SharedAccessList};

    #[test]
    fn networks_are_denied_beside_any_list_of_torrents_and_replaced_for_all_readers() {
        let client = "192.0.2.1".parse().unwrap();
        let list = SharedAccessList::new(AccessListMode::Off, AccessList::default());
        assert!(!list.reader().denies(client), "nothing is configured");

        let networks = SharedDeniedNetworks::new(DeniedNetworks::default());
        let list = list.denying(Some(networks.clone()));
        let (mut asked, mut refreshed) = (list.reader(), list.clone().reader());
        assert!(!asked.denies(client));
        let version = networks.version();

        let denied = DeniedNetworks::from_iter(["192.0.2.0/24".parse().unwrap()]);
        let replaced = list.denied_networks().unwrap().replace(denied);
        assert_ne!(networks.version(), version);
        assert!(replaced.is_in_use());
        assert!(asked.denies(client));
        refreshed.refresh();
        assert!(!replaced.is_in_use());
        assert!(refreshed.denies(client));
    }
}
