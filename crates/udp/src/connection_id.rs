//! Connection ids: proof that a client can receive what is sent to its address (BEP 15).
//!
//! Nothing is stored: an id is a time stamp and a keyed hash of that time and the client's address.
//!
//! ```text
//! byte   0 1              2 3 4 5 6 7
//!        Unix second,     SipHash-2-4 of (IP address: 16 bytes, IPv4 as ::ffff:a.b.c.d;
//!        low 16 bits      whole Unix second: 32 bits, little-endian), low 48 bits
//! ```
//!
//! Only the low bits of the second are in the id; the whole second is what has to be hashed to get
//! the right 48 bits. So whoever picks the time part gains nothing: there is exactly one second in
//! the period of validity that it can mean, and its hash is unknown. An id that has expired does
//! not come back to life when the 16 bits come round after 18 hours.
//!
//! Two trackers with the same secret ([`connection_secret`](crate::connection_secret)) and about
//! the same time accept each other's ids.

use std::hash::Hasher;
use std::net::IpAddr;

use aquatic_udp_protocol::ConnectionId;
use siphasher::sip::SipHasher24;

use crate::Now;
use crate::unix_clock::{UnixClock, UnixSeconds};

/// Ids are accepted for this much longer than `cleaning.max_connection_age`: a client that uses
/// its id until the last moment must not lose to the time that packets travel.
pub const GRACE_SECONDS: u32 = 10;

/// Ids are accepted that were issued this much later than now. The clocks of two trackers differ a
/// little; and one tracker reads the clock before it receives a batch, so that a request can bring
/// an id that another worker has issued since, in the next second.
pub const FUTURE_SECONDS_MAX: u32 = 5;

/// The largest `cleaning.max_connection_age`: half of the period of the 16-bit time stamp.
pub const AGE_MAX_SECONDS: u32 = 32_000;

const HASH_BITS: u32 = 48;
const HASH_MASK: u64 = (1 << HASH_BITS) - 1;

/// Makes and checks connection ids. Each worker has a copy.
#[derive(Clone)]
pub struct ConnectionIds {
    secret: [u64; 2],
    hasher: SipHasher24,
    clock: UnixClock,
    age_seconds_max: u32,
}

impl ConnectionIds {
    /// `secret` must be unpredictable to strangers; `max_connection_age` as configured, in seconds;
    /// `unix_micros`: what the system's clock says at the zero of the daemon's.
    #[must_use]
    pub fn new(secret: [u64; 2], max_connection_age: u32, unix_micros: u64) -> Self {
        let [key0, key1] = secret;
        let age_seconds_max = max_connection_age.min(AGE_MAX_SECONDS) + GRACE_SECONDS;
        Self {
            secret,
            hasher: SipHasher24::new_with_keys(key0, key1),
            clock: UnixClock::new(Now::default(), unix_micros, age_seconds_max),
            age_seconds_max,
        }
    }

    /// Takes note of what the system's clock says at `now`. To be called about once a second.
    pub fn synchronise(&mut self, now: Now, unix_micros: u64) {
        self.clock.synchronise(now, unix_micros);
    }

    /// What they are made with: to be told to nobody but the kernel.
    #[must_use]
    pub(crate) fn secret(&self) -> [u64; 2] {
        self.secret
    }

    /// The time that they are stamped with.
    #[must_use]
    pub(crate) fn clock(&self) -> &UnixClock {
        &self.clock
    }

    /// An id for a client at `ip`.
    #[must_use]
    pub fn issue(&self, now: Now, ip: IpAddr) -> ConnectionId {
        let second = self.clock.seconds(now);
        let stamp = u64::from(second.0) << HASH_BITS;
        ConnectionId((stamp | self.hash(second, ip)).to_be_bytes())
    }

    /// Whether `id` was issued to `ip` and has not expired.
    #[must_use]
    pub fn is_valid(&self, now: Now, ip: IpAddr, id: ConnectionId) -> bool {
        let id = u64::from_be_bytes(id.0);
        self.is_valid_at(self.clock.seconds(now), ip, id)
            || self
                .clock
                .seconds_before_step(now)
                .is_some_and(|now| self.is_valid_at(now, ip, id))
    }

    /// Whether `id` was issued to `ip` in the last hours, maybe too long ago to be valid: nobody
    /// has made it up.
    #[must_use]
    pub(crate) fn is_genuine(&self, now: Now, ip: IpAddr, id: ConnectionId) -> bool {
        let id = u64::from_be_bytes(id.0);
        let newest = self.clock.seconds(now).0.wrapping_add(FUTURE_SECONDS_MAX);
        let back = (u64::from(newest) << HASH_BITS).wrapping_sub(id & !HASH_MASK) >> HASH_BITS;
        let back = u32::try_from(back).unwrap_or_default();
        self.hash(UnixSeconds(newest.wrapping_sub(back)), ip) == id & HASH_MASK
    }

    fn is_valid_at(&self, now: UnixSeconds, ip: IpAddr, id: u64) -> bool {
        let newest = now.0.wrapping_add(FUTURE_SECONDS_MAX);
        // All are taken modulo 2^16, so this is how far back from the newest second that is
        // accepted the id was issued, as long as that is less than 18 hours.
        let back = (u64::from(newest) << HASH_BITS).wrapping_sub(id & !HASH_MASK) >> HASH_BITS;
        u32::try_from(back)
            .ok()
            .filter(|back| *back <= self.age_seconds_max + FUTURE_SECONDS_MAX)
            .map(|back| UnixSeconds(newest.wrapping_sub(back)))
            .is_some_and(|issued| self.hash(issued, ip) == id & HASH_MASK)
    }

    fn hash(&self, issued: UnixSeconds, ip: IpAddr) -> u64 {
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
        ConnectionIds::new([1, 2], AGE, 0)
    }

    fn at(seconds: u32) -> Now {
        Now::from_micros(u64::from(seconds) * 1_000_000)
    }

    /// Microseconds of Unix time in 2026.
    fn unix(seconds: u32) -> u64 {
        (1_795_000_000 + u64::from(seconds)) * 1_000_000
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn valid_for_its_age_and_a_little_longer() {
        let (ids, ip) = (ids(), ip("192.0.2.1"));
        for issued in [0, 1, 65_500, 65_535, 65_536, 1_000_000, u32::MAX - 200] {
            let id = ids.issue(at(issued), ip);
            for age in [0, 1, AGE, AGE + GRACE_SECONDS] {
                assert!(ids.is_valid(at(issued + age), ip, id), "{issued} + {age}");
            }
            assert!(!ids.is_valid(at(issued + AGE + GRACE_SECONDS + 1), ip, id));
        }
    }

    #[test]
    fn an_expired_id_does_not_come_back() {
        let (ids, ip) = (ids(), ip("192.0.2.1"));
        let id = ids.issue(at(50), ip);
        for rounds in 1..10 {
            assert!(!ids.is_valid(at(50 + rounds * 65_536), ip, id));
        }
    }

    #[test]
    fn bound_to_the_address_and_to_the_secret() {
        let now = at(1_000);
        let id = ids().issue(now, ip("192.0.2.1"));
        assert!(!ids().is_valid(now, ip("192.0.2.2"), id));
        assert!(!ids().is_valid(now, ip("2001:db8::1"), id));
        let others = ConnectionIds::new([1, 3], AGE, 0);
        assert!(!others.is_valid(now, ip("192.0.2.1"), id));
        let v6 = ids().issue(now, ip("2001:db8::1"));
        assert!(ids().is_valid(now, ip("2001:db8::1"), v6));
        assert!(!ids().is_valid(now, ip("2001:db8::2"), v6));
    }

    #[test]
    fn picking_the_time_gains_nothing() {
        let (ids, ip) = (ids(), ip("192.0.2.1"));
        let now = at(100_000);
        let old = u64::from_be_bytes(ids.issue(at(90_000), ip).0);
        for stamp in 0..=u64::from(u16::MAX) {
            let forged = ConnectionId((old & HASH_MASK | stamp << HASH_BITS).to_be_bytes());
            assert!(!ids.is_valid(now, ip, forged), "stamp {stamp}");
        }
    }

    #[test]
    fn an_id_of_the_next_seconds_is_accepted_and_a_later_one_is_not() {
        let (ids, ip) = (ids(), ip("192.0.2.1"));
        for now in [0, 100, 65_534, 65_535, 65_536, u32::MAX - 100] {
            for ahead in 0..=5 {
                let id = ids.issue(at(now + ahead), ip);
                assert!(ids.is_valid(at(now), ip, id), "{now} + {ahead}");
                let forged = ConnectionId((u64::from_be_bytes(id.0) ^ 1).to_be_bytes());
                assert!(!ids.is_valid(at(now), ip, forged), "the hash must match");
            }
            let id = ids.issue(at(now + 6), ip);
            assert!(!ids.is_valid(at(now), ip, id), "{now}");
        }
    }

    #[test]
    fn a_second_tracker_with_the_secret_accepts_it_and_so_does_a_restarted_one() {
        let ip = ip("192.0.2.1");
        let first = ConnectionIds::new([1, 2], AGE, unix(0));
        let id = first.issue(at(1_000), ip);
        // Started when the first had run for 1,010 seconds; its clock is up to some seconds off.
        for off in 0..=FUTURE_SECONDS_MAX {
            for started in [unix(1_010 + off), unix(1_010 - off)] {
                let second = ConnectionIds::new([1, 2], AGE, started);
                assert!(second.is_valid(at(3), ip, id));
                assert!(first.is_valid(at(1_013), ip, second.issue(at(3), ip)));
            }
        }
        assert!(!ConnectionIds::new([1, 2], AGE, unix(1_200)).is_valid(at(0), ip, id));
    }

    #[test]
    fn setting_the_clock_invalidates_nothing() {
        let ip = ip("192.0.2.1");
        for set_to in [unix(5_000), unix(0), 0] {
            let mut ids = ConnectionIds::new([1, 2], AGE, unix(2_000));
            let id = ids.issue(at(100), ip);
            ids.synchronise(at(110), set_to);
            let next = ids.issue(at(110), ip);
            for age in [0, 1, AGE] {
                let other = ConnectionIds::new([1, 2], AGE, set_to);
                assert!(other.is_valid(at(age), ip, next), "goes by the new time");
                assert!(ids.is_valid(at(110 + age), ip, next));
                assert!(ids.is_valid(at(100 + age.max(10)), ip, id));
            }
            for (issued, id) in [(100, id), (110, next)] {
                let expired = at(issued + AGE + GRACE_SECONDS + 1);
                assert!(!ids.is_valid(expired, ip, id), "not for longer either");
            }
        }
    }

    /// Whoever computes ids elsewhere (in the kernel, in another program) has to get this.
    #[test]
    fn the_layout_is_fixed() {
        let ids = ConnectionIds::new([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908], AGE, unix(0));
        let of = |text| u64::from_be_bytes(ids.issue(at(0), ip(text)).0);
        assert_eq!(of("192.0.2.1") >> HASH_BITS, 1_795_000_000 & 0xffff);
        assert_eq!(of("192.0.2.1") & HASH_MASK, V4_HASH);
        assert_eq!(of("2001:db8::1") & HASH_MASK, V6_HASH);
    }

    /// By an implementation of SipHash-2-4 of its own, in Python.
    const V4_HASH: u64 = 0xb507_e667_a48c;
    const V6_HASH: u64 = 0x0c58_4163_f791;

    #[test]
    fn who_has_made_up_an_id_is_told_from_whose_has_expired() {
        let (ids, ip) = (ids(), ip("192.0.2.1"));
        let id = ids.issue(at(100_000), ip);
        for age in [0, AGE, AGE + 100, 3_600, 65_000] {
            assert!(ids.is_genuine(at(100_000 + age), ip, id), "{age}");
            let forged = ConnectionId((u64::from_be_bytes(id.0) ^ 1).to_be_bytes());
            assert!(!ids.is_genuine(at(100_000 + age), ip, forged), "{age}");
        }
        assert!(!ids.is_genuine(at(170_000), ip, id), "the day before");
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let (ids, ip) = (ids(), ip("192.0.2.1"));
        let id = u64::from_be_bytes(ids.issue(at(500), ip).0);
        for bit in 0..64 {
            let forged = ConnectionId((id ^ 1 << bit).to_be_bytes());
            assert!(!ids.is_valid(at(500), ip, forged), "bit {bit}");
        }
    }
}
