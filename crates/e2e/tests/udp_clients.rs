//! A file goes from one real client to another, and they know each other through us only.
//!
//! | client | IPv4 | IPv6 |
//! |---|---|---|
//! | libtorrent | yes | yes |
//! | Transmission | yes | yes, but it reads no peers from the answer |
//! | aria2 | yes | no: it sends nothing to an IPv6 tracker |
//!
//! Two limits are the clients' own, as of aria2 1.36 and Transmission 3.00. aria2 sends all its
//! UDP tracker requests from an IPv4 socket. Transmission announces over IPv6, but takes the
//! answer's 18-byte rows for three IPv4 peers each; so in the tests over IPv6 it is found by the
//! other client and never the one that searches.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use aquatic_e2e::Family;
use aquatic_e2e::ask::Asker;
use aquatic_e2e::clients::{Client, Kind, Role, npm};
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::lab::Lab;
use aquatic_e2e::torrent::Torrent;
use aquatic_e2e::tracker::Tracker;
use aquatic_e2e::wait;

/// Clients announce when they please, some seconds after the event at most.
const COUNTS_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn aria2_to_aria2_over_ipv4() {
    on_loopback(
        Family::V4,
        [(Role::Seeder, Kind::Aria2), (Role::Leecher, Kind::Aria2)],
    );
}

#[test]
fn libtorrent_to_libtorrent_over_ipv4() {
    on_loopback(
        Family::V4,
        [
            (Role::Seeder, Kind::Libtorrent),
            (Role::Leecher, Kind::Libtorrent),
        ],
    );
}

#[test]
fn libtorrent_to_libtorrent_over_ipv6() {
    on_loopback(
        Family::V6,
        [
            (Role::Seeder, Kind::Libtorrent),
            (Role::Leecher, Kind::Libtorrent),
        ],
    );
}

#[test]
fn aria2_to_libtorrent_over_ipv4() {
    on_loopback(
        Family::V4,
        [
            (Role::Seeder, Kind::Aria2),
            (Role::Leecher, Kind::Libtorrent),
        ],
    );
}

#[test]
fn transmission_to_transmission_over_ipv4() {
    in_a_lab(
        Family::V4,
        [
            (Role::Seeder, Kind::Transmission),
            (Role::Leecher, Kind::Transmission),
        ],
    );
}

#[test]
fn transmission_to_aria2_over_ipv4() {
    in_a_lab(
        Family::V4,
        [
            (Role::Seeder, Kind::Transmission),
            (Role::Leecher, Kind::Aria2),
        ],
    );
}

#[test]
fn transmission_to_libtorrent_over_ipv6() {
    in_a_lab(
        Family::V6,
        [
            (Role::Seeder, Kind::Transmission),
            (Role::Leecher, Kind::Libtorrent),
        ],
    );
}

#[test]
fn libtorrent_to_waiting_transmission_over_ipv6() {
    in_a_lab(
        Family::V6,
        [
            (Role::Leecher, Kind::Transmission),
            (Role::Seeder, Kind::Libtorrent),
        ],
    );
}

/// This client transfers nothing, but it checks every number of every answer. It knows IPv4 only.
#[test]
fn npm_client_lives_through_a_download() {
    let folder = Folder::new().unwrap();
    let host = Host::loopback();
    let address = SocketAddr::new(host.ip(Family::V4), host.free_port().unwrap());
    let tracker = Tracker::start(&folder, &host, address, "").unwrap();
    npm::live_through_a_download(&folder, &host, &format!("udp://{address}/announce")).unwrap();
    tracker.stop().unwrap();
}

/// The clients in the order in which they come.
type Cast = [(Role, Kind); 2];

/// Everybody at one loopback address, told apart by ports. Needs no privileges.
fn on_loopback(family: Family, cast: Cast) {
    let folder = Folder::new().unwrap();
    let host = Host::loopback();
    let name = match family {
        Family::V4 => "127.0.0.1",
        Family::V6 => "[::1]",
    };
    transfer(&folder, [&host; 3], name, family, cast).unwrap();
}

/// Everybody at an address of their own: Transmission takes no peers at loopback addresses.
fn in_a_lab(family: Family, cast: Cast) {
    let folder = Folder::new().unwrap();
    let Some(lab) = Lab::new(2).unwrap() else {
        return;
    };
    let hosts = [lab.hub(), lab.guest(0), lab.guest(1)];
    transfer(&folder, hosts, Lab::hub_name(family), family, cast).unwrap();
}

/// The whole life of a small swarm, in the leecher's folder and by the tracker's own counts.
fn transfer(
    folder: &Folder,
    [tracker_host, first_host, second_host]: [&Host; 3],
    tracker_name: &str,
    family: Family,
    [(first_role, first_kind), (second_role, second_kind)]: Cast,
) -> Result<()> {
    let address = SocketAddr::new(tracker_host.ip(family), tracker_host.free_port()?);
    let tracker = Tracker::start(folder, tracker_host, address, "")?;
    let torrent = Torrent::random(&format!("udp://{tracker_name}:{}/announce", address.port()));
    let watcher = Watcher {
        asker: Asker::new(tracker_host, address)?,
        info_hash: torrent.info_hash(),
    };

    // One comes and is counted before the other comes: the second to announce is the one that
    // learns of a peer, so nobody has to wait for a second announce minutes later.
    let mut first = Client::start(first_kind, first_role, folder, first_host, family, &torrent)?;
    let alone = if first_role == Role::Seeder {
        (1, 0)
    } else {
        (0, 1)
    };
    watcher.wait_for(&mut [&mut first], alone)?;
    let mut second = Client::start(
        second_kind,
        second_role,
        folder,
        second_host,
        family,
        &torrent,
    )?;

    let leecher = if first_role == Role::Leecher {
        &mut first
    } else {
        &mut second
    };
    leecher.wait_for_content(&torrent)?;
    watcher.wait_for(&mut [&mut first, &mut second], (2, 0))?;
    assert_eq!(
        watcher.completed()?,
        1,
        "one client has completed the download"
    );

    second.stop()?;
    watcher.wait_for(&mut [&mut first], (1, 0))?;
    first.stop()?;
    watcher.wait_for(&mut [], (0, 0))?;
    tracker.stop()
}

/// Sees one swarm by the tracker's scrape answers.
struct Watcher {
    asker: Asker,
    info_hash: [u8; 20],
}

impl Watcher {
    /// Waits until the tracker counts so many seeders and leechers.
    fn wait_for(&self, clients: &mut [&mut Client], wanted: (u32, u32)) -> Result<()> {
        let what = format!("the tracker counts (seeders, leechers) = {wanted:?}");
        wait::until(&what, COUNTS_LIMIT, || {
            for client in clients.iter_mut() {
                client.check_alive()?;
            }
            let counts = self.asker.scrape(&[self.info_hash])?[0];
            Ok(((counts.seeders, counts.leechers) == wanted).then_some(()))
        })
    }

    fn completed(&self) -> Result<u32> {
        Ok(self.asker.scrape(&[self.info_hash])?[0].completed)
    }
}
