//! Connection ids: proof that a client can receive what is sent to its address (BEP 15).
//!
//! Nothing is stored: an id is a time stamp and a keyed hash of that time and the client's address.
//!
//! ```text
//! byte   0 1              2 3 4 5 6 7
//!        second,          SipHash-2-4 of (whole second, IP address),
//!        low 16 bits      48 bits
//! ```
//!
//! Only the low bits of the second are in the id; the whole second is what has to be hashed to get
//! the right 48 bits. So whoever picks the time part gains nothing: there is exactly one second in
//! the period of validity that it can mean, and its hash is unknown. An id that has expired does
//! not come back to life when the 16 bits come round after 18 hours.

use std::hash::Hasher;
use std::net::IpAddr;

use aquatic_types::Seconds;
use aquatic_udp_protocol::ConnectionId;
use siphasher::sip::SipHasher24;

/// Ids are accepted for this much longer than `cleaning.max_connection_age`: a client that uses
/// its id until the last moment must not lose to the time that packets travel.
pub const GRACE_SECONDS: u32 = 10;

/// The largest `cleaning.max_connection_age`: half of the period of the 16-bit time stamp.
pub const AGE_MAX_SECONDS: u32 = 32_000;

const HASH_BITS: u32 = 48;
const HASH_MASK: u64 = (1 << HASH_BITS) - 1;

/// Makes and checks connection ids. All workers of a process share one.
#[derive(Clone)]
pub struct ConnectionIds {
    hasher: SipHasher24,
    age_seconds_max: u32,
}

impl ConnectionIds {
    /// `secret` must be unpredictable to strangers; `max_connection_age` as configured, in seconds.
    #[must_use]
    pub fn new(secret: [u64; 2], max_connection_age: u32) -> Self {
        let [key0, key1] = secret;
        Self {
            hasher: SipHasher24::new_with_keys(key0, key1),
            age_seconds_max: max_connection_age.min(AGE_MAX_SECONDS) + GRACE_SECONDS,
        }
    }

    /// An id for a client at `ip`.
    #[must_use]
    pub fn issue(&self, now: Seconds, ip: IpAddr) -> ConnectionId {
        let stamp = u64::from(now.0) << HASH_BITS;
        ConnectionId((stamp | self.hash(now, ip)).to_be_bytes())
    }

    /// Whether `id` was issued to `ip` and has not expired.
    #[must_use]
    pub fn is_valid(&self, now: Seconds, ip: IpAddr, id: ConnectionId) -> bool {
        let id = u64::from_be_bytes(id.0);
        // Both are taken modulo 2^16, so this is the age, as long as that is less than 18 hours.
        let age = ((u64::from(now.0) << HASH_BITS).wrapping_sub(id & !HASH_MASK)) >> HASH_BITS;
        let issued = u32::try_from(age)
            .ok()
            .filter(|age| *age <= self.age_seconds_max)
            .and_then(|age| now.0.checked_sub(age));
        issued.is_some_and(|issued| self.hash(Seconds(issued), ip) == id & HASH_MASK)
    }

    fn hash(&self, issued: Seconds, ip: IpAddr) -> u64 {
        let octets = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let mut hasher = self.hasher;
        hasher.write(&octets);
        hasher.write(&issued.0.to_le_bytes());
        hasher.finish() & HASH_MASK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: u32 = 120;

    fn ids() -> ConnectionIds {
        ConnectionIds::new([1, 2], AGE)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn valid_for_its_age_and_a_little_longer() {
        let (ids, ip) = (ids(), ip("192.0.2.1"));
        for issued in [0, 1, 65_500, 65_535, 65_536, 1_000_000, u32::MAX - 200] {
            let id = ids.issue(Seconds(issued), ip);
            for age in [0, 1, AGE, AGE + GRACE_SECONDS] {
                assert!(
                    ids.is_valid(Seconds(issued + age), ip, id),
                    "{issued} + {age}"
                );
            }
            assert!(!ids.is_valid(Seconds(issued + AGE + GRACE_SECONDS + 1), ip, id));
        }
    }

    #[test]
    fn an_expired_id_does_not_come_back() {
        let (ids, ip) = (ids(), ip("192.0.2.1"));
        let id = ids.issue(Seconds(50), ip);
        for rounds in 1..10 {
            assert!(!ids.is_valid(Seconds(50 + rounds * 65_536), ip, id));
        }
    }

    #[test]
    fn bound_to_the_address_and_to_the_secret() {
        let now = Seconds(1_000);
        let id = ids().issue(now, ip("192.0.2.1"));
        assert!(!ids().is_valid(now, ip("192.0.2.2"), id));
        assert!(!ids().is_valid(now, ip("2001:db8::1"), id));
        assert!(!ConnectionIds::new([1, 3], AGE).is_valid(now, ip("192.0.2.1"), id));
        let v6 = ids().issue(now, ip("2001:db8::1"));
        assert!(ids().is_valid(now, ip("2001:db8::1"), v6));
        assert!(!ids().is_valid(now, ip("2001:db8::2"), v6));
    }

    #[test]
    fn picking_the_time_gains_nothing() {
        let (ids, ip) = (ids(), ip("192.0.2.1"));
        let now = Seconds(100_000);
        let old = u64::from_be_bytes(ids.issue(Seconds(90_000), ip).0);
        for stamp in 0..=u64::from(u16::MAX) {
            let forged = ConnectionId((old & HASH_MASK | stamp << HASH_BITS).to_be_bytes());
            assert!(!ids.is_valid(now, ip, forged), "stamp {stamp}");
        }
    }

    #[test]
    fn an_id_from_the_future_is_refused() {
        let (ids, ip) = (ids(), ip("192.0.2.1"));
        let id = ids.issue(Seconds(101), ip);
        assert!(!ids.is_valid(Seconds(100), ip, id));
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let (ids, ip) = (ids(), ip("192.0.2.1"));
        let id = u64::from_be_bytes(ids.issue(Seconds(500), ip).0);
        for bit in 0..64 {
            let forged = ConnectionId((id ^ 1 << bit).to_be_bytes());
            assert!(!ids.is_valid(Seconds(500), ip, forged), "bit {bit}");
        }
    }
}
