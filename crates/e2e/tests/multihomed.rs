//! A host with several addresses answers from the one that it was asked at.
//!
//! A tracker bound to `0.0.0.0` or `::` that leaves the choice to the kernel answers from the
//! interface's first address. Clients, and every NAT in between, drop such an answer: it comes
//! from somebody they never wrote to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aquatic_e2e::ask::{Announce, Counts, UdpClient};
use aquatic_e2e::folder::Folder;
use aquatic_e2e::lab::Lab;
use aquatic_e2e::tracker::Tracker;
use aquatic_e2e::{Family, Protocol};

const INFO_HASH: [u8; 20] = *b"a multi-homed torren";
const PORT: u16 = 3000;

#[test]
fn mio_answers_over_ipv4() {
    answers_from_the_address_that_was_asked("mio", Family::V4);
}

#[test]
fn mio_answers_over_ipv6() {
    answers_from_the_address_that_was_asked("mio", Family::V6);
}

#[test]
fn io_uring_answers_over_ipv4() {
    answers_from_the_address_that_was_asked("io_uring", Family::V4);
}

#[test]
fn io_uring_answers_over_ipv6() {
    answers_from_the_address_that_was_asked("io_uring", Family::V6);
}

fn answers_from_the_address_that_was_asked(backend: &str, family: Family) {
    let folder = Folder::new().unwrap();
    let Some(lab) = Lab::new(1).unwrap() else {
        return;
    };
    let any: IpAddr = match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let config = format!("backend = \"{backend}\"\n");
    let address = SocketAddr::new(any, PORT);
    let tracker = Tracker::start(Protocol::Udp, &folder, lab.hub(), address, &config).unwrap();

    // Every exchange fails if the answer comes from another address than was asked. One of the
    // two would succeed by chance; which one is up to the kernel, so both are asked, twice.
    let second = lab.hub_by_second_address();
    for host in [lab.hub(), &second, lab.hub(), &second] {
        let address = SocketAddr::new(host.ip(family), PORT);
        let client = UdpClient::new(lab.guest(0), address).unwrap();
        let announced = client.announce(&announce()).unwrap();
        assert_eq!(
            (announced.seeders, announced.leechers),
            (1, 0),
            "asked at {address}"
        );

        let counts = client.scrape(&[INFO_HASH]).unwrap();
        let one_seeder = Counts {
            seeders: 1,
            ..Counts::default()
        };
        assert_eq!(counts, [one_seeder], "asked at {address}");
    }
    tracker.stop().unwrap();
}

fn announce() -> Announce {
    Announce {
        info_hash: INFO_HASH,
        peer_id: *b"-e2e000-000000000001",
        left: 0,
        event: 2,
        numwant: -1,
        port: 6881,
    }
}
