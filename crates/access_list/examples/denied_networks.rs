//! How long it takes to find out whether an address is of a denied network.
//!
//! `cargo run --release -p aquatic_access_list --example denied_networks`

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use aquatic_access_list::{AccessList, AccessListMode, DeniedNetworks, SharedAccessList};
use aquatic_access_list::{Network, SharedDeniedNetworks};

/// Look-ups per figure.
const LOOKUPS: u32 = 4_000_000;

fn main() {
    let list = SharedAccessList::new(AccessListMode::Off, AccessList::default());
    report("no file", &list);
    for ranges in [0, 1_000, 100_000, 1_000_000] {
        let networks: DeniedNetworks = (0..ranges).flat_map(networks).collect();
        let networks = SharedDeniedNetworks::new(networks);
        report(
            &format!("{ranges} networks of each family"),
            &list.clone().denying(Some(networks)),
        );
    }
}

/// Two networks that touch no others.
fn networks(number: u32) -> [Network; 2] {
    let v4 = Ipv4Addr::from_bits(number << 12);
    let v6 = Ipv6Addr::from_bits(0x2001 << 112 | u128::from(number) << 81);
    [format!("{v4}/24"), format!("{v6}/48")].map(|text| match text.parse() {
        Ok(network) => network,
        Err(error) => unreachable!("{text} {error}"),
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "nothing is decided by the time that is measured"
)]
fn report(name: &str, list: &SharedAccessList) {
    let mut reader = list.reader();
    let (mut denied, mut nanoseconds) = (0, [0.0; 2]);
    for (family, nanoseconds) in nanoseconds.iter_mut().enumerate() {
        let mut state = 1_u64;
        let begun = Instant::now();
        for _ in 0..LOOKUPS {
            // The constants of Knuth's MMIX: an address that no look-up has warmed the cache for.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let ip: IpAddr = match family {
                0 => Ipv4Addr::from_bits((state >> 32) as u32).into(),
                _ => Ipv6Addr::from_bits(0x2001 << 112 | u128::from(state) << 48).into(),
            };
            denied += u32::from(reader.denies(black_box(ip)));
        }
        *nanoseconds = begun.elapsed().as_secs_f64() * 1e9 / f64::from(LOOKUPS);
    }
    let [v4, v6] = nanoseconds;
    println!("{name}: {v4:.1} ns for IPv4, {v6:.1} ns for IPv6 ({denied} denied)");
}
