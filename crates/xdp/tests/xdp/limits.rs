//! Whom the tracker does not serve.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aquatic_xdp::{AttachMode, Rate, TooMany};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::*;

/// Whether it is answered what a client with this address asks.
fn is_served(xdp: &Xdp, ip: IpAddr) -> bool {
    let [v4, v6] = servers();
    let to = if ip.is_ipv4() { v4 } else { v6 };
    match verdict(xdp, &Frame::new((ip, 6_881).into(), to, connect()).bytes()) {
        TX => true,
        DROP => false,
        verdict => panic!("{verdict}"),
    }
}

fn v4(number: u32) -> IpAddr {
    Ipv4Addr::from(number).into()
}

fn v6(number: u128) -> IpAddr {
    Ipv6Addr::from(number).into()
}

const V4_BASE: u32 = 0xc633_6400;
const V6_BASE: u128 = 0x2001_0470 << 96;

/// Sorted ranges between few addresses, so that they are next to each other.
fn ranges() -> impl Strategy<Value = Vec<(u32, u32)>> {
    vec((1..4_u32, 1..4_u32), 0..40).prop_map(|steps| {
        let mut next = 0;
        let ranges = steps.into_iter().map(|(gap, len)| {
            let first = next + gap;
            next = first + len;
            (first, next - 1)
        });
        ranges.collect()
    })
}

#[test]
fn networks_are_denied_as_in_user_space() {
    let Some(mut xdp) = filter(AttachMode::Native) else {
        return;
    };
    let mut runner = TestRunner::default();
    for _ in 0..64 {
        let ranges = ranges().new_tree(&mut runner).unwrap().current();
        let of_v4: Vec<_> = ranges
            .iter()
            .map(|(a, b)| (V4_BASE + a, V4_BASE + b))
            .collect();
        let scaled = |number: u32| V6_BASE + (u128::from(number) << 62);
        let of_v6: Vec<_> = ranges
            .iter()
            .map(|(a, b)| (scaled(*a), scaled(b + 1) - 1))
            .collect();
        xdp.deny(&of_v4, &of_v6).unwrap();
        for number in 0..ranges.last().map_or(3, |(_, last)| last + 3) {
            let expected = ranges.iter().any(|(a, b)| (*a..=*b).contains(&number));
            assert_eq!(
                is_served(&xdp, v4(V4_BASE + number)),
                !expected,
                "{ranges:?} {number}"
            );
            for address in [scaled(number), scaled(number) + 5, scaled(number + 1) - 1] {
                assert_eq!(
                    is_served(&xdp, v6(address)),
                    !expected,
                    "{ranges:?} {number}"
                );
            }
        }
    }
    let [of_v4, of_v6] = xdp.counts();
    assert!(of_v4.network_denied > 100 && of_v6.network_denied > 100);
}

#[test]
fn a_family_is_a_family_and_all_of_it_can_be_denied() {
    let Some(mut xdp) = filter(AttachMode::Native) else {
        return;
    };
    let any = [v4(V4_BASE), v6(V6_BASE)];
    let served = |xdp: &Xdp| any.map(|ip| is_served(xdp, ip));
    assert_eq!(served(&xdp), [true, true]);
    xdp.deny(&[(0, u32::MAX)], &[]).unwrap();
    assert_eq!(served(&xdp), [false, true]);
    xdp.deny(&[], &[(0, u128::MAX)]).unwrap();
    assert_eq!(served(&xdp), [true, false]);
    xdp.deny(&[], &[]).unwrap();
    assert_eq!(served(&xdp), [true, true]);
}

#[test]
fn a_long_list_is_as_deep_as_it_may_be_and_a_longer_one_is_refused() {
    let Some(mut xdp) = loaded(AttachMode::Native) else {
        return;
    };
    assert_eq!(
        xdp.deny(&vec![(1, 1); 1 << 16], &[]),
        Err(TooMany { at_all: false })
    );
    assert_eq!(
        xdp.deny(&[], &vec![(1, 1); 1 << 16]),
        Err(TooMany { at_all: true })
    );
    drop(xdp);
    const V4_MAX: u32 = (1 << 20) - 1;
    const V6_MAX: u32 = (1 << 16) - 1;
    let len = usize::try_from(V4_MAX).unwrap();
    let mut xdp = Xdp::new(len, len).unwrap();
    xdp.load_for_trial(AttachMode::Native).unwrap();
    xdp.set_listeners(&servers());
    xdp.activate(XdpTask::Filter, KEY, times(UNIX_SECONDS), LIMITS);
    // Each second address is denied.
    let of_v4: Vec<_> = (0..V4_MAX)
        .map(|it| V4_BASE + 2 * it)
        .map(|it| (it, it))
        .collect();
    let of_v6: Vec<_> = (0..V6_MAX).map(|it| V6_BASE + 2 * u128::from(it)).collect();
    let of_v6: Vec<_> = of_v6.into_iter().map(|it| (it, it)).collect();
    xdp.deny(&of_v4, &of_v6).unwrap();
    for number in (0..V4_MAX).step_by(4_999).chain([V4_MAX - 1]) {
        let address = V4_BASE + 2 * number;
        assert!(
            !is_served(&xdp, v4(address)) && is_served(&xdp, v4(address + 1)),
            "{number}"
        );
    }
    for number in (0..V6_MAX).step_by(997).chain([V6_MAX - 1]) {
        let address = V6_BASE + 2 * u128::from(number);
        assert!(
            !is_served(&xdp, v6(address)) && is_served(&xdp, v6(address + 1)),
            "{number}"
        );
    }
    let more = [of_v4, vec![(u32::MAX, u32::MAX)]].concat();
    assert_eq!(xdp.deny(&more, &[]), Err(TooMany { at_all: true }));
    assert!(!is_served(&xdp, v4(V4_BASE)), "the list is as it was");
}

#[test]
fn a_client_has_a_rate() {
    let Some(xdp) = filter(AttachMode::Native) else {
        return;
    };
    let rate = Rate {
        key: [3, 4],
        // Three a minute, so that none is added while the test runs; a second's worth at once.
        nanos_per_request: 20_000_000_000,
        zero_nanos: nanos() - 1_000_000_000_000,
    };
    xdp.set_rate(rate);
    let served = |ip: IpAddr, times: usize| (0..times).filter(|_| is_served(&xdp, ip)).count();
    assert_eq!(served(v4(V4_BASE), 5), 1);
    assert_eq!(served(v4(V4_BASE + 1), 5), 1, "another client");
    let network =
        |site: u128, network: u128, host: u128| v6(V6_BASE | site << 80 | network << 64 | host);
    assert_eq!(
        served(network(1, 1, 1), 5) + served(network(1, 1, 2), 5),
        1,
        "one network"
    );
    // A site has sixteen times the rate, in bursts of a second's worth at once.
    xdp.set_rate(Rate {
        nanos_per_request: 250_000_000,
        ..rate
    });
    let begun = nanos();
    let of_site: usize = (0..100).map(|it| served(network(2, it, 1), 5)).sum();
    // One more for each sixteenth of 250 ms that it takes.
    let added = usize::try_from((nanos() - begun) / 15_625_000).unwrap();
    assert!((64..=64 + added + 1).contains(&of_site), "{of_site}");
    // Tried at other sites until nothing can have been added meanwhile.
    let mut refused_elsewhere = 0;
    for site in 3.. {
        let begun = nanos();
        let count = served(network(site, 1, 1), 9);
        refused_elsewhere += 9 - count;
        if nanos() - begun < 200_000_000 {
            assert_eq!(count, 4);
            break;
        }
    }
    xdp.set_rate(Rate {
        nanos_per_request: 0,
        ..rate
    });
    assert_eq!(served(v4(V4_BASE), 100), 100);
    let [of_v4, of_v6] = xdp.counts();
    let refused = u64::try_from(9 + 500 - of_site + refused_elsewhere).unwrap();
    assert_eq!((of_v4.request_rate, of_v6.request_rate), (8, refused));
}
