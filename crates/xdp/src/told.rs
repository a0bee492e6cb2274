//! What is told to programs, and by them.

#[cfg(target_os = "linux")]
mod xdp;

#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(target_os = "linux")]
use crate::map::Array;

#[cfg(target_os = "linux")]
pub use xdp::{AttachError, AttachMode, Rate, TooMany, XdpLimits, XdpTask};

/// Unix time, for a program that knows the monotonic clock (`CLOCK_MONOTONIC`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Nanoseconds of Unix time at the zero of the monotonic clock.
    pub unix_nanos: u64,
    /// What that was before the system's clock was set, and until when, in nanoseconds of the
    /// monotonic clock, ids of that time are good.
    pub replaced: Option<(u64, u64)>,
}

/// IPv4 and IPv6.
#[cfg(target_os = "linux")]
pub(crate) const FAMILIES: usize = 2;

/// Declares [`Counts`], and a row of memory in which a program counts the same.
macro_rules! counts {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// Datagrams that a program has dealt with, and how.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])+ pub $name: u64,)+
        }

        impl Counts {
            /// What has been counted since there was `before`.
            #[must_use]
            pub fn since(&self, before: &Self) -> Self {
                Self {
                    $($name: self.$name.wrapping_sub(before.$name),)+
                }
            }
        }

        /// `struct counts`: what was counted on one processor, over IPv4 or over IPv6.
        #[cfg(target_os = "linux")]
        #[derive(Debug, Default)]
        #[repr(C)]
        pub(crate) struct Row {
            $($name: AtomicU64,)+
            unused: [AtomicU64; 1],
        }

        #[cfg(target_os = "linux")]
        impl Row {
            pub(crate) fn add_to(&self, sum: &mut Counts) {
                $(sum.$name = sum.$name.wrapping_add(self.$name.load(Ordering::Relaxed));)+
            }
        }
    };
}

counts! {
    /// Dropped: shorter than what they claim to be.
    too_short,
    /// Dropped: longer than [`DATAGRAM_BYTES_MAX`](crate::DATAGRAM_BYTES_MAX).
    too_long,
    /// Dropped: neither connect nor announce nor scrape.
    unknown_action,
    /// Dropped: action 0 without the protocol's magic number.
    not_connect,
    /// Dropped: announces with a wrong connection id.
    announces,
    /// Dropped: scrapes with a wrong connection id.
    scrapes,
    /// Dropped: nothing could be sent to port 0.
    source_port_zero,
    /// Dropped: sent from a network that is not served.
    network_denied,
    /// Dropped: more than its client may send.
    request_rate,
    /// Dropped: connect requests, more than are answered in a second.
    answer_rate,
    /// Connect requests that were answered.
    connects,
    /// Announces with a wrong connection id that were answered with an error.
    told_announces,
    /// Scrapes with a wrong connection id that were answered with an error.
    told_scrapes,
    /// UDP payload of all of them, in bytes.
    bytes,
    /// UDP payload of the answers, in bytes.
    sent_bytes,
}

impl Counts {
    /// Requests with a wrong connection id that got no answer.
    #[must_use]
    pub fn forged(&self) -> u64 {
        self.announces + self.scrapes
    }

    /// How many were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.forged()
            + self.too_short
            + self.too_long
            + self.unknown_action
            + self.not_connect
            + self.source_port_zero
            + self.network_denied
            + self.request_rate
            + self.answer_rate
    }
}

/// What was counted on all processors: over IPv4, and over IPv6.
#[cfg(target_os = "linux")]
pub(crate) fn sums(rows: &Array<Row>) -> [Counts; FAMILIES] {
    let mut sums = [Counts::default(); FAMILIES];
    for rows in rows.elements().as_chunks::<FAMILIES>().0 {
        for (row, sum) in rows.iter().zip(&mut sums) {
            row.add_to(sum);
        }
    }
    sums
}
