//! Where a tracker listens: a table with open addressing, as `bpf/xdp.bpf.c` reads it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::map::{Array, Shared};

const LEN: usize = 4_096;

/// Further from where it belongs nothing is looked for.
const PLACES: usize = 8;

/// `struct listener`.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Listener {
    address: [AtomicU64; 2],
    /// 0: nothing is there. A place that has been in use has a port that is none.
    port: AtomicU64,
    unused: AtomicU64,
}

// SAFETY: atomic numbers, and nothing else.
unsafe impl Shared for Listener {}

const GONE: u64 = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    address: [u64; 2],
    port: u64,
}

impl From<SocketAddr> for Key {
    fn from(listener: SocketAddr) -> Self {
        let octets = match listener.ip().to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let (words, _) = octets.as_chunks::<8>();
        let mut address = [0; 2];
        for (word, bytes) in address.iter_mut().zip(words) {
            *word = u64::from_le_bytes(*bytes);
        }
        Self {
            address,
            port: listener.port().into(),
        }
    }
}

impl Key {
    /// Where it belongs, and the places behind that.
    fn places(self) -> impl Iterator<Item = usize> {
        // The last bytes of an address are the highest bits, which a product does not bring down.
        let [high, low] = self.address.map(|word| word ^ word >> 32);
        let mixed = (high ^ self.port).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ low;
        let mixed = mixed.wrapping_mul(0xd6e8_feb8_6659_fd93);
        let home = usize::try_from(mixed >> 32).unwrap_or_default();
        (0..PLACES).map(move |step| (home + step) % LEN)
    }
}

impl Listener {
    fn is_free(&self) -> bool {
        matches!(self.port.load(Ordering::Relaxed), 0 | GONE)
    }

    fn key(&self) -> Key {
        Key {
            address: [0, 1].map(|word: usize| self.address[word].load(Ordering::Relaxed)),
            port: self.port.load(Ordering::Relaxed),
        }
    }

    /// In an order in which it is never read as another one.
    fn set(&self, key: Key) {
        for (place, word) in self.address.iter().zip(key.address) {
            place.store(word, Ordering::Relaxed);
        }
        self.port.store(key.port, Ordering::Release);
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Listeners(Array<Listener>);

impl Listeners {
    pub(crate) fn new() -> io::Result<Self> {
        Array::new(LEN).map(Self)
    }

    pub(crate) fn array(&self) -> &Array<Listener> {
        &self.0
    }

    /// From now on it is these. Returns how many there is no room for.
    pub(crate) fn set(&self, listeners: &[SocketAddr]) -> usize {
        let keys: Vec<Key> = listeners.iter().map(|it| Key::from(*it)).collect();
        let places = self.0.elements();
        // What stays is never away, and what goes leaves no gap before others.
        for listener in places {
            if !listener.is_free() && !keys.contains(&listener.key()) {
                listener.port.store(GONE, Ordering::Release);
            }
        }
        let is_there = |key: &Key| {
            let mut known = key.places().filter_map(|place| places.get(place));
            known.any(|listener| listener.key() == *key)
        };
        let new = keys.iter().filter(|key| key.port != 0 && !is_there(key));
        let homeless = new.filter(|key| {
            let mut known = key.places().filter_map(|place| places.get(place));
            let free = known.find(|listener| listener.is_free());
            free.map(|listener| listener.set(**key)).is_none()
        });
        homeless.count()
    }
}
