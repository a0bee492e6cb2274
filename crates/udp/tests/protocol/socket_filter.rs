//! What the kernel drops before it is queued.

use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use aquatic_test_support::setup::on_each;
use aquatic_test_support::wait::{until, until_ok};
use aquatic_test_support::{Daemon, Place, Setup, metrics, torrent};
use aquatic_types::IpFamily;
use aquatic_udp_protocol::ConnectionId;
use nix::unistd::geteuid;

use super::client::{Client, announce_bytes};
use super::setup::{SIMPLE, UDP};

/// Sent within a second, so that many come after it was noticed that there is a flood.
const REQUESTS: u32 = 20_000;

const BEGINS: &str = "a flood of wrong connection ids: the kernel drops them";
const ENDS: &str = "the flood of wrong connection ids is over";

/// Room for all of them, so that only the filter drops any.
const ROOM: &str = "network.socket_recv_buffer_size = 30_000_000\n";

/// Programs can be loaded by root, or by nobody.
fn may_load() -> bool {
    let may = geteuid().is_root();
    let is_ci = env::var_os("CI").is_some_and(|value| value == "true");
    assert!(may || !is_ci, "needs root");
    if !may {
        eprintln!("SKIPPED: needs root");
    }
    may
}

fn wrong_announce(client: &mut Client) -> Vec<u8> {
    client.set_connection_id(ConnectionId(*b"whatever"));
    announce_bytes(&client.peer(torrent(1), 1, 1))
}

/// What has been counted of announces with wrong ids.
#[derive(Clone, Copy)]
struct Counted {
    requests: f64,
    refused: f64,
    /// In the kernel.
    dropped: f64,
    lost: f64,
}

fn count(daemon: &Daemon, family: IpFamily) -> Counted {
    let samples = metrics::scrape(daemon);
    let ip_version = family.digit();
    let sum = |labels: &str| {
        let selector = format!("aquatic_{labels},ip_version={ip_version}}}");
        metrics::sum(&samples, &selector)
    };
    Counted {
        requests: sum("requests_by_type_total{type=announce"),
        refused: sum("refused_total{reason=connection_id"),
        dropped: sum("dropped_total{reason=forged_id"),
        lost: sum("dropped_total{reason=receive_buffer_full"),
    }
}

/// Sends so many, and waits until each has been counted, and refused or dropped.
fn send(daemon: &Daemon, family: IpFamily, datagram: &[u8]) -> Counted {
    let client = Client::stranger(daemon, family);
    let before = count(daemon, family);
    for _ in 0..REQUESTS / 100 {
        (0..100).for_each(|_| client.send(datagram));
        thread::sleep(Duration::from_millis(1));
    }
    until_ok(|| {
        let now = count(daemon, family);
        let since = Counted {
            requests: now.requests - before.requests,
            refused: now.refused - before.refused,
            dropped: now.dropped - before.dropped,
            lost: now.lost - before.lost,
        };
        // They are published one after the other.
        let dealt_with = since.requests.min(since.refused + since.dropped);
        match dealt_with >= f64::from(REQUESTS) {
            true => Ok(since),
            false => Err(format!(
                "{} requests, {} refused, {} dropped of {REQUESTS}",
                since.requests, since.refused, since.dropped
            )),
        }
    })
}

/// The same for a tracker that nobody else asks. Returns how many were dropped in the kernel.
fn send_and_count(daemon: &Daemon, family: IpFamily, datagram: &[u8]) -> f64 {
    let counted = send(daemon, family, datagram);
    let is_all = |count: f64| (count - f64::from(REQUESTS)).abs() < 0.5;
    assert!(is_all(counted.refused + counted.dropped));
    assert!(is_all(counted.requests), "they are requests");
    assert!(counted.lost < 0.5, "what is filtered is not lost");
    counted.dropped
}

/// Goes on until the kernel drops some: if the tracker stands still for long enough, all of a flood
/// have been queued before it notices that there is one.
fn flood_until_dropped(daemon: &Daemon, family: IpFamily, datagram: &[u8]) {
    until("the kernel drops some", || {
        (send_and_count(daemon, family, datagram) > 0.0).then_some(())
    });
}

/// Some of them are told so, and who has a right one notices nothing.
#[test]
fn a_flood_of_wrong_ids_ends_in_the_kernel() {
    if !may_load() {
        return;
    }
    on_each(&Setup::of_each_runtime(&UDP), |setup| {
        let daemon = setup.start_with_metrics(ROOM);
        daemon.wait_for_log("socket filter: eBPF");
        assert!(!daemon.place.log().contains(BEGINS));
        for family in IpFamily::ALL {
            let mut honest = Client::new(&daemon, family);
            let mut stranger = Client::stranger(&daemon, family);
            let wrong = wrong_announce(&mut stranger);
            flood_until_dropped(&daemon, family, &wrong);
            daemon.wait_for_log(BEGINS);
            assert_eq!(honest.join(torrent(1), 1, 1).leechers, 1);
        }
    });
}

/// The figures are those that the tracker would count.
#[test]
fn what_is_no_request_is_counted_like_without_a_filter() {
    if !may_load() {
        return;
    }
    for filter in ["auto", "off"] {
        let settings = format!("{ROOM}network.socket_filter = '{filter}'");
        let daemon = SIMPLE.start_with_metrics(&settings);
        let mut client = Client::new(&daemon, IpFamily::V4);
        let (id, connect) = (client.connection_id().0, client.connect_request());
        let wrong = wrong_announce(&mut client);
        if filter == "auto" {
            flood_until_dropped(&daemon, IpFamily::V4, &wrong);
        } else {
            assert!(send_and_count(&daemon, IpFamily::V4, &wrong) < 0.5);
        }
        let before = metrics::sum(&metrics::scrape(&daemon), "aquatic_rx_bytes_total");
        let datagram = |id: [u8; 8], action: u32, len: usize| {
            let mut bytes = [&id[..], &action.to_be_bytes(), b"abcd"].concat();
            bytes.resize(len, 1);
            bytes
        };
        let datagrams = [
            connect[..15].to_vec(),
            datagram(id, 1, 97),
            datagram(id, 3, 98),
            datagram(id, 0, 16),
        ];
        for bytes in &datagrams {
            client.send(bytes);
        }
        metrics::wait_for(
            &daemon,
            &[
                ("aquatic_dropped_total{reason=too_short}", 2.0),
                ("aquatic_dropped_total{reason=unknown_action}", 1.0),
                ("aquatic_dropped_total{reason=not_connect}", 1.0),
                ("aquatic_rx_bytes_total", before + 15.0 + 97.0 + 98.0 + 16.0),
            ],
        );
    }
}

#[test]
fn without_a_filter_all_are_told() {
    let daemon = SIMPLE.start_with_metrics(&format!("{ROOM}network.socket_filter = 'off'"));
    assert!(!daemon.place.log().contains("socket filter"));
    let mut stranger = Client::stranger(&daemon, IpFamily::V4);
    let wrong = wrong_announce(&mut stranger);
    assert!(send_and_count(&daemon, IpFamily::V4, &wrong) < 0.5);
}

/// The units give the tracker this right for it, and no other.
#[test]
fn one_capability_is_enough() {
    if !may_load() {
        return;
    }
    let place = Place::new();
    let only = "exec setpriv --bounding-set=-all,+cap_39 \"$0\" \"$@\"";
    let mut command = place.command_after(only, SIMPLE, "");
    let daemon = place.start_by(&mut command);
    let log = daemon.place.log();
    assert!(log.contains("socket filter: eBPF"), "{log}");
}

/// A filter knows one secret: it must not outlive the process that has it, as sockets may.
#[test]
fn sockets_that_are_kept_lose_their_filter() {
    if !may_load() {
        return;
    }
    let place = Place::with_kept_sockets();
    let mut daemon = place.clone().start_with_sockets(SIMPLE, "", Vec::new());
    daemon.wait_for_log("socket filter: eBPF");
    let mut client = Client::new(&daemon, IpFamily::V4);
    let wrong = wrong_announce(&mut client);
    until("a flood is noticed", || {
        (0..100).for_each(|_| client.send(&wrong));
        daemon.place.log().contains(BEGINS).then_some(())
    });
    daemon.signal(nix::sys::signal::Signal::SIGKILL);
    daemon.wait_exit();
    let settings = format!(
        "{}{ROOM}network.socket_filter = 'off'",
        place.metrics_settings(&UDP)
    );
    let daemon = place.start_with_sockets(SIMPLE, &settings, Vec::new());
    // Some may have waited.
    assert!(send(&daemon, IpFamily::V4, &wrong).dropped < 0.5);
}

/// The next one may be of a version that knows nothing of filters.
#[test]
fn a_filter_ends_with_its_process() {
    if !may_load() {
        return;
    }
    on_each(&Setup::of_each_runtime(&UDP), |setup| {
        let place = Place::with_kept_sockets();
        let mut daemon = place.clone().start_with_sockets(setup, "", Vec::new());
        let mut client = Client::new(&daemon, IpFamily::V4);
        let wrong = wrong_announce(&mut client);
        until("a flood is noticed", || {
            (0..100).for_each(|_| client.send(&wrong));
            daemon.place.log().contains(BEGINS).then_some(())
        });
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        daemon.wait_exit();
        // They wait in the socket, if nothing drops them.
        (0..3_000).for_each(|_| client.send(&wrong));
        let settings = format!(
            "{}{ROOM}network.socket_filter = 'off'",
            place.metrics_settings(&UDP)
        );
        let daemon = place.start_with_sockets(setup, &settings, Vec::new());
        until("all that has waited is refused", || {
            (count(&daemon, IpFamily::V4).refused >= 3_000.0).then_some(())
        });
    });
}

/// Who may not load programs has a filter, too, as long as it is needed.
#[test]
fn without_rights_there_is_a_filter_in_a_flood() {
    let place = Place::new();
    let settings = place.metrics_settings(&UDP);
    let mut command = match geteuid().is_root() {
        // CAP_SYS_ADMIN, and CAP_BPF: root without these is nobody in particular.
        true => {
            let without = "exec setpriv --bounding-set=-cap_21,-cap_39 \"$0\" \"$@\"";
            place.command_after(without, SIMPLE, &settings)
        }
        false => place.command(SIMPLE, &settings),
    };
    let daemon = place.start_by(&mut command);
    daemon.wait_for_log("socket filter: classic, since eBPF takes");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for family in IpFamily::ALL {
            let mut client = Client::stranger(&daemon, family);
            let is_over = &is_over;
            scope.spawn(move || {
                let wrong = wrong_announce(&mut client);
                while !is_over.load(Ordering::Relaxed) {
                    (0..50).for_each(|_| client.send(&wrong));
                    thread::sleep(Duration::from_millis(5));
                }
            });
        }
        daemon.wait_for_log(BEGINS);
        until("datagrams are dropped", || {
            let samples = metrics::scrape(&daemon);
            let dropped = metrics::sum(&samples, "aquatic_dropped_total{reason=forged_id}");
            (dropped > 1_000.0).then_some(())
        });
        for family in IpFamily::ALL {
            let mut honest = Client::new(&daemon, family);
            assert_eq!(honest.join(torrent(1), 1, 1).leechers, 1);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    daemon.wait_for_log(ENDS);
}
