//! A file goes from one real client to another, and they know each other through us only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use aquatic_test_support::metrics;

use crate::clients::{Client, Kind, LEECHER, Role, SEEDER, Stalled};
use crate::folder::Folder;
use crate::host::Host;
use crate::lab::Lab;
use crate::process::EndedEarly;
use crate::torrent::Torrent;
use crate::tracker::Tracker;
use crate::{Family, Protocol, wait};

/// Clients announce when they please, some seconds after the event at most. But a machine that
/// writes what it has just built was seen to hold up a whole test for half a minute, and
/// Transmission, once a packet of its was lost, tries again after 80 seconds.
const COUNTS_LIMIT: Duration = Duration::from_secs(120);

/// Attempts at a transfer in which clients fail.
const ATTEMPTS: u32 = 3;

/// Of a tracker that has a program in front of the network stack.
const PROGRAM_METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9000);

/// The clients in the order in which they come.
pub type Cast = [(Role, Kind); 2];

/// Everybody at one loopback address, told apart by ports. Needs no privileges.
///
/// # Panics
/// When the file does not arrive, or the tracker counts wrongly.
pub fn on_loopback(protocol: Protocol, family: Family, cast: Cast) {
    let host = Host::loopback();
    let name = match family {
        Family::V4 => "127.0.0.1",
        Family::V6 => "[::1]",
    };
    let tracker = (name, "");
    unless_clients_fail(|| transfer(protocol, [&host; 3], tracker, family, cast, || Ok(())));
}

/// The first client knows the tracker by UDP, and the second one by HTTP, or the other way round
/// if not `is_udp_first`: both are in one swarm. At one loopback address.
///
/// # Panics
/// As [`on_loopback`].
pub fn over_both_protocols(is_udp_first: bool, cast: Cast) {
    unless_clients_fail(|| {
        let (folder, host) = (&Folder::new()?, Host::loopback());
        let address = SocketAddr::new(host.ip(Family::V4), host.free_port()?);
        let tracker = Tracker::start_both(folder, &host, address)?;
        let url = |scheme| format!("{scheme}://{address}/announce");
        let urls = match is_udp_first {
            true => ["udp", "http"].map(url),
            false => ["http", "udp"].map(url),
        };
        let first_torrent = Torrent::random(&urls[0]);
        let second_torrent = first_torrent.at(&urls[1]);
        let watcher = Watcher {
            tracker: &tracker,
            info_hash: first_torrent.info_hash(),
        };
        let [(first_role, first_kind), (second_role, second_kind)] = cast;
        let start =
            |kind, role, torrent| Client::start(kind, role, folder, &host, Family::V4, torrent);
        let mut first = start(first_kind, first_role, &first_torrent)?;
        let alone = match first_role {
            Role::Seeder => (1, 0),
            Role::Leecher => (0, 1),
        };
        watcher.wait_for(&mut [&mut first], alone)?;
        let mut second = start(second_kind, second_role, &second_torrent)?;
        let leecher = match first_role {
            Role::Leecher => &mut first,
            Role::Seeder => &mut second,
        };
        leecher.wait_for_content(&first_torrent, || watcher.counts_both())?;
        watcher.wait_for(&mut [&mut first, &mut second], (2, 0))?;
        watcher.check_completed(1)?;
        second.stop()?;
        first.stop()?;
        tracker.stop()
    });
}

/// Everybody at an address of their own: Transmission takes no peers at loopback addresses.
///
/// # Panics
/// As [`on_loopback`].
pub fn in_a_lab(protocol: Protocol, family: Family, cast: Cast) {
    let Some(lab) = Lab::new(2).unwrap() else {
        return;
    };
    let hosts = [lab.hub(), lab.guest(0), lab.guest(1)];
    let tracker = (Lab::hub_name(family), "");
    unless_clients_fail(|| transfer(protocol, hosts, tracker, family, cast, || Ok(())));
}

/// The same over UDP, where a program in front of the network stack answers and drops what it can
/// (`network.xdp`).
///
/// # Panics
/// As [`on_loopback`].
pub fn past_a_program(setting: &str, family: Family, cast: Cast) {
    let program = format!(
        "xdp = \"{setting}\"\nxdp_interfaces = [\"bridge0\"]\nxdp_required = true\n\n\
         [metrics]\nrun_prometheus_endpoint = true\n\
         prometheus_endpoint_address = \"{PROGRAM_METRICS}\"\n"
    );
    let Some(lab) = Lab::for_programs(2).unwrap() else {
        return;
    };
    let hosts = [lab.hub(), lab.guest(0), lab.guest(1)];
    let tracker = (Lab::hub_name(family), &*program);
    let at_end = || {
        wait::until("the program has dealt with requests", COUNTS_LIMIT, || {
            let text = lab.hub().fetch(PROGRAM_METRICS, "/metrics")?;
            let samples = metrics::samples(&text);
            let handled = metrics::sum(&samples, "aquatic_handled_in_kernel_total");
            Ok((handled > 0.0).then_some(()))
        })
    };
    unless_clients_fail(|| transfer(Protocol::Udp, hosts, tracker, family, cast, at_end));
}

/// The seeder announces once, then the tracker is started anew, and only then the leecher comes.
/// Everybody is at one loopback address.
///
/// # Panics
/// When the file does not arrive, or the tracker has forgotten the seeder.
pub fn across_a_restart(protocol: Protocol, family: Family, kinds: [Kind; 2]) {
    let host = Host::loopback();
    unless_clients_fail(|| transfer_across_a_restart(protocol, &host, family, kinds));
}

/// Real clients crash or hang now and then, whatever the tracker does: libtorrent 2.0.8 was seen to
/// end by a segmentation fault while it greeted its peer, and to wait without end for its own disk
/// thread in the middle of a transfer. Then it all begins again.
///
/// # Panics
/// When it fails for another reason, or too often.
pub fn unless_clients_fail(mut transfer: impl FnMut() -> Result<()>) {
    for _ in 1..ATTEMPTS {
        let Err(error) = transfer() else { return };
        let ended = error.downcast_ref::<EndedEarly>();
        let has_crashed = ended.is_some_and(|ended| ended.is_crash_of(&[SEEDER, LEECHER]));
        if !has_crashed && !error.is::<Stalled>() {
            panic!("{error:?}");
        }
        eprintln!("once more, after this: {error}");
    }
    transfer().unwrap();
}

/// The whole life of a small swarm, in the leecher's folder and by the tracker's own counts; then
/// what is to be looked `at_end`.
fn transfer(
    protocol: Protocol,
    [tracker_host, first_host, second_host]: [&Host; 3],
    (tracker_name, config): (&str, &str),
    family: Family,
    [(first_role, first_kind), (second_role, second_kind)]: Cast,
    at_end: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let folder = &Folder::new()?;
    let address = SocketAddr::new(tracker_host.ip(family), tracker_host.free_port()?);
    let tracker = Tracker::start(protocol, folder, tracker_host, address, config)?;
    let (scheme, port) = (protocol.scheme(), address.port());
    let torrent = Torrent::random(&format!("{scheme}://{tracker_name}:{port}/announce"));
    let watcher = Watcher::new(&tracker, torrent.info_hash());

    // One comes and is counted before the other comes: the second to announce is the one that
    // learns of a peer, so nobody has to wait for a second announce minutes later.
    let mut first = Client::start(first_kind, first_role, folder, first_host, family, &torrent)?;
    let alone = if first_role == Role::Seeder {
        (1, 0)
    } else {
        (0, 1)
    };
    watcher.wait_for(&mut [&mut first], alone)?;
    watcher.check_completed(0)?;
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
    leecher.wait_for_content(&torrent, || watcher.counts_both())?;
    watcher.wait_for(&mut [&mut first, &mut second], (2, 0))?;
    watcher.check_completed(1)?;

    let mut seeders = 2;
    second.stop()?;
    seeders -= u32::from(second_kind.says_goodbye(protocol));
    watcher.wait_for(&mut [&mut first], (seeders, 0))?;
    first.stop()?;
    seeders -= u32::from(first_kind.says_goodbye(protocol));
    watcher.wait_for(&mut [], (seeders, 0))?;
    at_end()?;
    tracker.stop()
}

/// The seeder is frozen from before the restart until the tracker has told the leecher of its
/// peers. So it has not announced again, and what is told of it is from before.
fn transfer_across_a_restart(
    protocol: Protocol,
    host: &Host,
    family: Family,
    [seeder, leecher]: [Kind; 2],
) -> Result<()> {
    let folder = &Folder::new()?;
    let address = SocketAddr::new(host.ip(family), host.free_port()?);
    let file = folder.path().join("swarms.aqs");
    let config = format!("[persistence]\nswarms = true\npath = {file:?}\n");
    let start = || Tracker::start(protocol, folder, host, address, &config);
    let before = start()?;
    let torrent = Torrent::random(&format!("{}://{address}/announce", protocol.scheme()));
    let info_hash = torrent.info_hash();

    let mut seeder = Client::start(seeder, Role::Seeder, folder, host, family, &torrent)?;
    Watcher::new(&before, info_hash).wait_for(&mut [&mut seeder], (1, 0))?;
    seeder.freeze()?;
    before.stop()?;

    let after = start()?;
    let known = after.counts(info_hash)?;
    ensure!((known.seeders, known.leechers) == (1, 0), "{known:?}");
    let mut leecher = Client::start(leecher, Role::Leecher, folder, host, family, &torrent)?;
    Watcher::new(&after, info_hash).wait_for(&mut [&mut leecher], (1, 1))?;
    seeder.thaw()?;
    leecher.wait_for_content(&torrent, || true)?;
    Watcher::new(&after, info_hash).wait_for(&mut [&mut seeder, &mut leecher], (2, 0))?;
    Watcher::new(&after, info_hash).check_completed(1)?;
    leecher.stop()?;
    seeder.stop()?;
    after.stop()
}

/// Sees one swarm by the tracker's scrape answers.
struct Watcher<'a> {
    tracker: &'a Tracker,
    info_hash: [u8; 20],
}

impl<'a> Watcher<'a> {
    fn new(tracker: &'a Tracker, info_hash: [u8; 20]) -> Self {
        Self { tracker, info_hash }
    }

    /// Whether both have announced: so it has told the second one of the first.
    fn counts_both(&self) -> bool {
        let counts = self.tracker.counts(self.info_hash);
        counts.is_ok_and(|it| (it.seeders, it.leechers) == (1, 1))
    }

    /// Waits until the tracker counts so many seeders and leechers.
    fn wait_for(&self, clients: &mut [&mut Client], wanted: (u32, u32)) -> Result<()> {
        let what = format!("the tracker counts (seeders, leechers) = {wanted:?}");
        wait::until(&what, COUNTS_LIMIT, || {
            for client in clients.iter_mut() {
                client.check_alive()?;
            }
            let counts = self.tracker.counts(self.info_hash)?;
            Ok(((counts.seeders, counts.leechers) == wanted).then_some(()))
        })
    }

    /// The tracker counts a `completed` of whoever was no seeder before: a leecher, or somebody
    /// unknown. So a seeder that begins as a leecher, until it has checked its files, would count.
    fn check_completed(&self, wanted: u32) -> Result<()> {
        let completed = self.tracker.counts(self.info_hash)?.completed;
        ensure!(
            completed == wanted,
            "{completed} downloads have been completed, not {wanted}: which client said so?"
        );
        Ok(())
    }
}
