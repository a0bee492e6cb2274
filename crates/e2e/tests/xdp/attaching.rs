//! The program is attached where it may be, and leaves nothing behind.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aquatic_e2e::ask::connect_request;
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::lab::Lab;
use aquatic_e2e::process::Process;
use aquatic_e2e::{Family, workspace};
use nix::sys::signal::Signal;

use crate::stage::{
    FILTER_AT_BRIDGE, LIMIT, PORT, Plan, Tracker, announce, connected, connection_id, run, until,
};

const REQUIRED: &str = "xdp_required = true\n";

const SERVES_WITHOUT: &str = ": the tracker serves without";

const ANOTHER: &str = "`network.xdp` at bridge0: there is another program already, here or at an \
                       interface above it";

const RIGHTS: &str = "it takes Linux 5.18, and root or CAP_BPF and CAP_NET_ADMIN at the start";

/// In the log when a program is in front of the stack.
const ATTACHED: &str = "xdp: filter at ";

/// For the answer to one request: longer than a tracker on a busy machine stands still.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

fn has_program(host: &Host, interface: &str) -> Result<bool> {
    let shown = run(host, "ip", &format!("-d link show dev {interface}"))?;
    ensure!(shown.contains(interface), "{shown}");
    Ok(shown.contains("xdp"))
}

fn is_free(host: &Host, interface: &str) -> Result<()> {
    let what = format!("{interface} has no program");
    until(&what, || Ok(!has_program(host, interface)?))
}

fn serves(tracker: &Tracker, guest: &Host) {
    let client = tracker.client(guest).unwrap();
    client.announce(&announce(1)).unwrap();
}

/// A program would take the packet for the header.
#[test]
fn an_interface_without_ethernet_is_refused() {
    let Some(lab) = Lab::for_programs(0).unwrap() else {
        return;
    };
    run(lab.hub(), "ip", "tuntap add dev tun0 mode tun").unwrap();
    let network = FILTER_AT_BRIDGE.replace("bridge0", "tun0") + REQUIRED;
    let plan = Plan::new(lab.hub(), Family::V4, &network);
    let (status, log) = plan.end().unwrap();
    let why = "`network.xdp` at tun0: its frames do not begin with a header of Ethernet";
    assert!(!status.success() && log.contains(why), "{log}");
    assert!(!has_program(lab.hub(), "tun0").unwrap());
}

#[test]
fn whatever_ends_the_tracker_nothing_is_left() {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    for (interface, signal) in [
        ("bridge0", Signal::SIGKILL),
        ("guest0", Signal::SIGKILL),
        ("bridge0", Signal::SIGTERM),
        ("guest0", Signal::SIGTERM),
    ] {
        let network = FILTER_AT_BRIDGE.replace("bridge0", interface);
        let tracker = Plan::new(lab.hub(), Family::V4, &network).start().unwrap();
        assert!(has_program(lab.hub(), interface).unwrap());
        match signal {
            Signal::SIGTERM => tracker.stop().unwrap(),
            _ => drop(tracker), // Kills it.
        }
        is_free(lab.hub(), interface).unwrap();
        let without = Plan::new(lab.hub(), Family::V4, "").start().unwrap();
        serves(&without, lab.guest(0));
        assert!(!has_program(lab.hub(), interface).unwrap());
    }
}

/// A request is answered, or refused by the kernel of the tracker's host. One may be in a queue of
/// the tracker when that ends.
#[test]
fn a_stop_is_no_silence() {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    let tracker = Plan::new(lab.hub(), Family::V4, FILTER_AT_BRIDGE)
        .start()
        .unwrap();
    tracker.wait_until_guarded(lab.guest(0)).unwrap();
    let socket = connected(&tracker, lab.guest(0)).unwrap();
    socket.set_read_timeout(Some(ANSWER_WAIT)).unwrap();
    let mut buffer = [0; 100];
    let (mut answered, mut silent) = (0, 0);
    loop {
        if answered == 100 {
            tracker.signal(Signal::SIGTERM).unwrap();
        }
        let request = connect_request(answered);
        let came = socket.send(&request).and_then(|_| socket.recv(&mut buffer));
        match came.map_err(|error| error.kind()) {
            Ok(bytes) => {
                assert_eq!((bytes, &buffer[4..8]), (16, &request[12..16]));
                answered += 1;
            }
            Err(ErrorKind::ConnectionRefused) => break,
            Err(ErrorKind::WouldBlock) => silent += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(silent <= 1, "after {answered} answers");
        // It takes some milliseconds.
        assert!(answered < 1_000_000, "who answers?");
    }
    assert!(answered > 100, "{answered}");
    tracker.wait().unwrap();
    is_free(lab.hub(), "bridge0").unwrap();
}

#[test]
fn a_second_tracker_serves_without_unless_it_requires_one() {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    let guest = lab.guest(0);
    let first = Plan::new(lab.hub(), Family::V4, FILTER_AT_BRIDGE)
        .start()
        .unwrap();
    let second = |network: &str| Plan {
        port: PORT + 1,
        ..Plan::new(lab.hub(), Family::V4, network)
    };
    let without = second(FILTER_AT_BRIDGE).start().unwrap();
    let log = without.log().unwrap();
    let mut lines = log.lines();
    let line = lines
        .find(|line| line.contains(ANOTHER))
        .context(log.clone());
    assert!(line.unwrap().ends_with(SERVES_WITHOUT), "{log}");
    first.wait_until_guarded(guest).unwrap();
    let client = without.client(guest).unwrap();
    let before = without.counts([
        ("aquatic_handled_in_kernel_total", 0.0),
        ("aquatic_responses_total{type=connect}", 1.0),
    ]);
    connection_id(&client).unwrap();
    without.wait_for_growth(&before.unwrap()).unwrap();
    without.stop().unwrap();

    // The kernel refuses one below another as well.
    for interface in ["bridge0", "guest0"] {
        let network = FILTER_AT_BRIDGE.replace("bridge0", interface);
        let (status, log) = second(&format!("{network}{REQUIRED}")).end().unwrap();
        assert_eq!(status.code(), Some(1), "{log}");
        let another = ANOTHER.replace("bridge0", interface);
        assert!(log.contains(&another), "{log}");
        assert!(!log.contains(SERVES_WITHOUT), "{log}");
    }

    // The first one has lost nothing by that, and when it ends the interface is free.
    serves(&first, guest);
    first.stop().unwrap();
    let third = second(&format!("{FILTER_AT_BRIDGE}{REQUIRED}"));
    let third = third.start().unwrap();
    third.wait_until_guarded(guest).unwrap();
    third.stop().unwrap();
}

#[test]
fn an_interface_that_does_not_exist_is_named() {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    let network = FILTER_AT_BRIDGE.replace("['bridge0']", "['bridge0', 'bridge1']");
    let tracker = Plan::new(lab.hub(), Family::V4, &network).start().unwrap();
    let log = tracker.log().unwrap();
    assert!(log.contains("`network.xdp` at bridge1: "), "{log}");
    tracker.wait_until_guarded(lab.guest(0)).unwrap();
    is_active(&tracker, [("bridge0", true), ("bridge1", false)]);
    tracker.stop().unwrap();
    let required = format!("{network}{REQUIRED}");
    let (status, log) = Plan::new(lab.hub(), Family::V4, &required).end().unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("`network.xdp` at bridge1: "), "{log}");
    assert!(!log.contains(ATTACHED), "{log}");
    let neither = FILTER_AT_BRIDGE.replace("['bridge0']", "['bridge2', 'bridge1']");
    let tracker = Plan::new(lab.hub(), Family::V4, &neither).start().unwrap();
    let log = tracker.log().unwrap();
    for name in ["bridge1", "bridge2"] {
        let named = format!("`network.xdp` at {name}: ");
        assert!(log.contains(&named), "{log}");
    }
    is_active(&tracker, [("bridge1", false), ("bridge2", false)]);
    tracker.stop().unwrap();
}

/// What is told of where the program works.
fn is_active<const N: usize>(tracker: &Tracker, expected: [(&str, bool); N]) {
    let expected = expected.map(|(interface, is_active)| (interface.to_owned(), is_active));
    assert_eq!(tracker.activity().unwrap(), BTreeMap::from(expected));
}

/// Some network cards lose their link for seconds when a program comes or goes, and a service
/// manager starts a daemon again for ever.
#[test]
fn a_start_that_fails_has_attached_nothing() {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    let folder = Folder::new().unwrap();
    let list = folder.path().join("denied.txt");
    fs::write(&list, "no network\n").unwrap();
    let taken = Plan::new(lab.hub(), Family::V4, "").start().unwrap();
    for (port, rest, why) in [
        (
            PORT + 1,
            format!("[access_list]\nnetworks_deny_path = {list:?}\n"),
            "no network",
        ),
        (
            PORT + 1,
            "[privileges]\ndrop_privileges = true\nuser = 'no-such-user'\n".to_owned(),
            "no-such-user",
        ),
        (PORT, String::new(), "uses this address"),
    ] {
        let plan = Plan {
            port,
            rest,
            ..Plan::new(lab.hub(), Family::V4, FILTER_AT_BRIDGE)
        };
        let (status, log) = plan.end().unwrap();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains(why) && !log.contains(ATTACHED), "{log}");
    }
    taken.stop().unwrap();

    let certificate = folder.path().join("certificate.pem");
    let config = format!(
        "[udp]\nenabled = true\nnetwork.address = '0.0.0.0:{PORT}'\nnetwork.xdp = 'filter'\n\
         network.xdp_interfaces = ['bridge0']\n[http]\nenabled = true\n[http.network]\n\
         address = '0.0.0.0:{PORT}'\nenable_tls = true\ntls_certificate_path = {certificate:?}\n\
         tls_private_key_path = {certificate:?}\n"
    );
    let path = folder.path().join("aquatic.toml");
    fs::write(&path, config).unwrap();
    let mut command = lab.hub().command(workspace::binary("aquatic").unwrap());
    command.args(["serve", "-c"]).arg(&path);
    let mut process = Process::start("aquatic", &folder, command).unwrap();
    let status = process.wait(LIMIT).unwrap();
    let log = process.log().unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    let why = certificate.display().to_string();
    assert!(log.contains(&why) && !log.contains(ATTACHED), "{log}");
}

/// A service manager gives a daemon that is not root two rights, and no more.
#[test]
fn two_capabilities_are_enough() {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    for family in [Family::V4, Family::V6] {
        let network = format!("{FILTER_AT_BRIDGE}{REQUIRED}");
        let plan = Plan {
            capabilities: Some(&["bpf", "net_admin"]),
            ..Plan::new(lab.hub(), family, &network)
        };
        let tracker = plan.start().unwrap();
        assert_eq!(user_of(tracker.process_id()).unwrap(), "65534");
        tracker.wait_until_guarded(lab.guest(0)).unwrap();
        serves(&tracker, lab.guest(0));
        tracker.stop().unwrap();
    }
}

#[test]
fn without_one_of_them_the_log_says_so() {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    for capabilities in [&[][..], &["bpf"], &["net_admin"]] {
        let plan = |network: &str| Plan {
            capabilities: Some(capabilities),
            ..Plan::new(lab.hub(), Family::V4, network)
        };
        let tracker = plan(FILTER_AT_BRIDGE).start().unwrap();
        let log = tracker.log().unwrap();
        let mut lines = log.lines();
        let line = lines
            .find(|line| line.contains(RIGHTS))
            .context(log.clone());
        assert!(line.unwrap().ends_with(SERVES_WITHOUT), "{log}");
        serves(&tracker, lab.guest(0));
        assert!(!has_program(lab.hub(), "bridge0").unwrap());
        tracker.stop().unwrap();

        let required = format!("{FILTER_AT_BRIDGE}{REQUIRED}");
        let (status, log) = plan(&required).end().unwrap();
        assert_eq!(status.code(), Some(1), "{capabilities:?}: {log}");
        assert!(
            log.contains(RIGHTS) && !log.contains(SERVES_WITHOUT),
            "{log}"
        );
    }
}

/// There is a program nonetheless, unless it was told to be all or nothing.
#[test]
fn without_the_right_to_queues_requests_go_by_the_stack() {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    let without = "`network.xdp` = full: it takes root or CAP_NET_RAW";
    let full = FILTER_AT_BRIDGE.replace("'filter'", "'full'");
    let plan = |network: &str| Plan {
        capabilities: Some(&["bpf", "net_admin"]),
        ..Plan::new(lab.hub(), Family::V4, network)
    };
    let tracker = plan(&full).start().unwrap();
    let log = tracker.log().unwrap();
    assert!(
        log.contains(without) && log.contains("xdp: filter at bridge0"),
        "{log}"
    );
    tracker.wait_until_guarded(lab.guest(0)).unwrap();
    serves(&tracker, lab.guest(0));
    tracker.stop().unwrap();

    let (status, log) = plan(&format!("{full}{REQUIRED}")).end().unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains(without) && !log.contains(ATTACHED), "{log}");
}

/// Rights that are given up after the start are not missed.
#[test]
fn it_works_on_after_privileges_are_dropped() {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    let plan = Plan {
        rest: "[privileges]\ndrop_privileges = true\nchroot_path = '/tmp'\n".to_owned(),
        ..Plan::new(lab.hub(), Family::V4, FILTER_AT_BRIDGE)
    };
    let tracker = plan.start().unwrap();
    assert_ne!(user_of(tracker.process_id()).unwrap(), "0");
    tracker.wait_until_guarded(lab.guest(0)).unwrap();
    run(lab.hub(), "ip", "address add 10.77.0.50/24 dev bridge0").unwrap();
    let there = tracker.at(IpAddr::from([10, 77, 0, 50]));
    there.wait_until_guarded(lab.guest(0)).unwrap();
    tracker.stop().unwrap();
}

fn user_of(process: u32) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let user = line.and_then(|line| line.split_whitespace().next());
    Ok(user.context("no user")?.to_owned())
}
