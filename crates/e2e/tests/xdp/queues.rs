//! What `network.xdp = "full"` does besides answering: what queues cannot do, and what happens to
//! them.

use std::fs;

use aquatic_e2e::Family;
use aquatic_e2e::ask::{Announce, announce_request};
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::lab::Lab;

use crate::stage::{FULL_AT_BRIDGE, Plan, announce, connect_once, run, until};

/// As many as there can be in an answer, which has more than 1,232 bytes over IPv6 then.
const PEERS: u8 = 76;

/// A request with a wrong checksum. Arguments: the tracker's address and port, and its payload.
const DAMAGED: &str = "
import socket, struct, sys
payload = bytes.fromhex(sys.argv[3])
header = struct.pack('!HHHH', 6881, int(sys.argv[2]), 8 + len(payload), 1)
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
raw.sendto(header + payload, (sys.argv[1], 0))
";

/// Datagrams over IPv6 that have been sent through sockets.
fn sent_by_sockets(host: &Host) -> u64 {
    let text = run(host, "cat", "/proc/net/snmp6").unwrap();
    let mut counts = text.lines().map(str::split_whitespace);
    let sent = counts.find_map(|mut line| {
        let is_it = line.next() == Some("Udp6OutDatagrams");
        is_it.then(|| line.next()).flatten()
    });
    sent.unwrap().parse().unwrap()
}

/// A path may take less than the interface, and a queue hears nothing of that.
#[test]
fn an_answer_that_may_have_to_be_cut_up_leaves_by_the_socket() {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    let plan = Plan {
        protocol: "max_response_peers = 76\nmax_response_peers_per_ip = 0\n".to_owned(),
        rest: "[limits]\nmax_peers_per_ip_and_torrent = 0\n".to_owned(),
        ..Plan::new(lab.hub(), Family::V6, FULL_AT_BRIDGE)
    };
    let tracker = plan.start().unwrap();
    tracker.wait_until_guarded(lab.guest(0)).unwrap();
    let client = tracker.client(lab.guest(0)).unwrap();
    let id = connect_once(&client).unwrap().unwrap();
    let before = sent_by_sockets(lab.hub());
    for number in 1..=PEERS {
        let seeder = Announce {
            numwant: 0,
            ..announce(number)
        };
        client.announce_with(id, &seeder).unwrap();
    }
    assert_eq!(sent_by_sockets(lab.hub()), before, "they are short");
    let leecher = Announce {
        left: 1,
        numwant: PEERS.into(),
        ..announce(PEERS + 1)
    };
    let announced = client.announce_with(id, &leecher).unwrap();
    assert_eq!(announced.peers.len(), usize::from(PEERS));
    assert_eq!(sent_by_sockets(lab.hub()), before + 1);
    tracker.stop().unwrap();
}

#[test]
fn a_damaged_frame_is_counted() {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    let guest = lab.guest(0);
    let tracker = Plan::new(lab.hub(), Family::V4, FULL_AT_BRIDGE)
        .start()
        .unwrap();
    tracker.wait_until_guarded(guest).unwrap();
    let client = tracker.client(guest).unwrap();
    let id = connect_once(&client).unwrap().unwrap();
    let before = tracker
        .counts([
            ("aquatic_dropped_total{reason=damaged}", 1.0),
            ("aquatic_requests_by_type_total{type=announce}", 0.0),
        ])
        .unwrap();
    let folder = Folder::new().unwrap();
    let script = folder.path().join("damaged.py");
    fs::write(&script, DAMAGED).unwrap();
    let payload = announce_request(id, 7, &announce(1));
    let payload: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
    let (to, script) = (tracker.address(), script.display());
    let arguments = format!("{script} {} {} {payload}", to.ip(), to.port());
    run(guest, "python3", &arguments).unwrap();
    tracker.wait_for_growth(&before).unwrap();
    tracker.stop().unwrap();
}

#[test]
fn a_queue_of_an_interface_that_is_gone_is_given_up() {
    let Some(lab) = Lab::for_programs(2).unwrap() else {
        return;
    };
    let network = FULL_AT_BRIDGE.replace("bridge0", "guest0");
    let tracker = Plan::new(lab.hub(), Family::V4, &network).start().unwrap();
    tracker.wait_until_guarded(lab.guest(0)).unwrap();
    run(lab.hub(), "ip", "link del guest0").unwrap();
    until("it is told of", || {
        let told = "the AF_XDP queue 0 of guest0 is not served any more";
        Ok(tracker.log()?.contains(told))
    })
    .unwrap();
    // A bridge has the address of one of its ports, which may be another one now.
    run(lab.guest(1), "ip", "neigh flush dev eth0").unwrap();
    let client = tracker.client(lab.guest(1)).unwrap();
    until("others are served", || {
        Ok(client.announce(&announce(1)).is_ok())
    })
    .unwrap();
    tracker.stop().unwrap();
}
