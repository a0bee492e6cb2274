//! What `network.xdp = "full"` does besides answering: which queues serve, and by which way back;
//! what queues cannot do, and what happens to them.

use std::fs;
use std::net::SocketAddrV6;

use aquatic_e2e::Family;
use aquatic_e2e::ask::{Announce, UdpClient, announce_request, connect_request};
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::lab::Lab;
use nix::sys::signal::Signal;

use crate::stage::{
    FULL_AT_BRIDGE, Plan, Tracker, announce, connect_once, connected, connection_id, guarded, run,
    udp_count, until,
};

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

/// Requests in frames with a tag. Arguments: addresses of the guest and the tracker, its port, the
/// MAC addresses to and from which they are sent, the tracker's process, and each tag with its
/// payload. The last one is a connect request, which is answered by the program; then the process
/// goes on. Prints the tag and the first bytes of each other answer.
const TAGGED: &str = "
import os, signal, socket, struct, sys
own, to = map(socket.inet_aton, sys.argv[1:3])
port, macs, process = int(sys.argv[3]), bytes.fromhex(sys.argv[4]), int(sys.argv[5])
PACKET, AUXDATA, OUTGOING, HAS_TAG = 263, 8, 4, 16
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
raw.setsockopt(PACKET, AUXDATA, 1)
raw.bind(('eth0', 0))
raw.settimeout(10)
def header(size, check):
    return struct.pack('!BBHHHBBH4s4s', 0x45, 0, size, 0, 0x4000, 64, 17, check, own, to)
for request in sys.argv[6:]:
    tag, payload = request.split(':')
    payload = bytes.fromhex(payload)
    size = 28 + len(payload)
    total = sum(struct.unpack('!10H', header(size, 0)))
    total = (total >> 16) + (total & 0xffff)
    ethernet = macs + struct.pack('!HHH', 0x8100, int(tag), 0x0800)
    # No checksum.
    udp = struct.pack('!HHHH', 6881, port, size - 20, 0)
    raw.send(ethernet + header(size, ~total & 0xffff) + udp + payload)
def answer():
    while True:
        frame, more, _, sender = raw.recvmsg(2048, 256)
        if sender[2] == OUTGOING or frame[23] != 17 or frame[34:36] != struct.pack('!H', port):
            continue
        # The kernel takes a tag off, and tells it here.
        status, *_, tag, _ = struct.unpack('IIIHHHH', more[0][2])
        return f'{tag if status & HAS_TAG else None} {frame[42:50].hex()}'
answer()
os.kill(process, signal.SIGCONT)
for _ in sys.argv[7:]:
    print(answer())
";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Datagrams that have been sent through sockets.
fn sent_by_sockets(host: &Host, family: Family) -> u64 {
    udp_count(host, family, "OutDatagrams").unwrap()
}

/// Which queue a datagram comes by depends on its client's port. One that comes by a queue that
/// nobody has is answered as well, but by the socket.
#[test]
fn each_queue_of_an_interface_is_served() {
    const CLIENTS: u8 = 40;
    for workers in [1, 2] {
        let Some(lab) = Lab::for_programs(1).unwrap() else {
            return;
        };
        let (hub, guest) = (lab.hub(), lab.guest(0));
        run(guest, "ethtool", "-L eth0 rx 2 tx 2").unwrap();
        run(hub, "ethtool", "-L guest0 rx 2 tx 2").unwrap();
        // Only the driver says which queue it was; and there has to be a program at both ends.
        let at_guest = "xdp = 'filter'\nxdp_mode = 'native'\nxdp_interfaces = ['eth0']\n";
        let other_end = Plan::new(guest, Family::V6, at_guest).start().unwrap();
        let network = FULL_AT_BRIDGE.replace("bridge0", "guest0") + "xdp_mode = 'native'\n";
        let plan = Plan {
            general: format!("socket_workers = {workers}\n"),
            ..Plan::new(hub, Family::V6, &network)
        };
        let tracker = plan.start().unwrap();
        let log = tracker.log().unwrap();
        let is_open = |number| log.contains(&format!("AF_XDP: queue {number} of guest0, "));
        assert_eq!([0, 1, 2].map(is_open), [true, true, false], "{log}");
        tracker.wait_until_guarded(guest).unwrap();
        let before = sent_by_sockets(hub, Family::V6);
        for number in 0..CLIENTS {
            let client = tracker.client(guest).unwrap();
            let id = connection_id(&client).unwrap();
            client.announce_with(id, &announce(number)).unwrap();
        }
        assert_eq!(sent_by_sockets(hub, Family::V6), before);
        tracker.stop().unwrap();
        other_end.stop().unwrap();
    }
}

/// Not all kernels have interfaces for VLANs, but all take a frame as it is. One machine asks with
/// several tags, so all that tells the ways back apart is these. All wait in the queue until the
/// last one is there; then one takes the place of another that has not been answered yet.
#[test]
fn who_asks_with_the_tag_of_a_vlan_is_answered_with_it() {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    let (hub, guest) = (lab.hub(), lab.guest(0));
    // A bridge gets frames without the tag that they had at its port.
    let network = FULL_AT_BRIDGE.replace("bridge0", "guest0");
    let tracker = guarded(&lab, Family::V4, &network);
    let id = connection_id(&tracker.client(guest).unwrap()).unwrap();
    let folder = Folder::new().unwrap();
    let script = folder.path().join("tagged.py");
    fs::write(&script, TAGGED).unwrap();
    let own = guest.ip(Family::V4);
    let macs = [(hub, "bridge0"), (guest, "eth0")].map(|(host, interface)| {
        let path = format!("/sys/class/net/{interface}/address");
        run(host, "cat", &path).unwrap().trim().replace(':', "")
    });
    let (to, macs) = (tracker.address(), macs.concat());
    let process = tracker.process_id();
    let mut arguments = format!(
        "{} {own} {} {} {macs} {process}",
        script.display(),
        to.ip(),
        to.port()
    );
    // 38 and 0x0107 have the same place in `links.rs`.
    const TAGS: [(u32, &str); 4] = [(7, "7"), (38, "None"), (0x0107, "263"), (0xa007, "40967")];
    let announces = TAGS.map(|(tag, _)| (tag, announce_request(id, tag, &announce(1))));
    for (tag, request) in announces.into_iter().chain([(7, connect_request(7))]) {
        arguments += &format!(" {tag}:{}", hex(&request));
    }
    tracker.signal(Signal::SIGSTOP).unwrap();
    let answers = run(guest, "python3", &arguments).unwrap();
    let mut answers: Vec<_> = answers.lines().collect();
    answers.sort_unstable();
    let mut expected = TAGS.map(|(tag, answered)| format!("{answered} 00000001{tag:08x}"));
    expected.sort_unstable();
    assert_eq!(answers, expected);
    tracker.stop().unwrap();
}

/// The program answers connect requests while the tracker stands still, so each of those shows that
/// it has seen what was sent before.
#[test]
fn what_finds_no_room_in_a_queue_is_counted() {
    /// Some more than wait in one.
    const REQUESTS: u32 = 1_200;
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    let guest = lab.guest(0);
    let tracker = guarded(&lab, Family::V4, FULL_AT_BRIDGE);
    let client = tracker.client(guest).unwrap();
    let id = connection_id(&client).unwrap();
    let socket = connected(&tracker, guest).unwrap();
    let lost = || tracker.count("aquatic_dropped_total{reason=receive_buffer_full}");
    let taken = || tracker.count("aquatic_requests_by_type_total{type=announce}");
    assert_eq!((lost().unwrap(), taken().unwrap()), (0.0, 0.0));
    tracker.signal(Signal::SIGSTOP).unwrap();
    for number in 0..REQUESTS {
        let request = announce_request(id, number, &announce(1));
        socket.send(&request).unwrap();
        if number % 100 == 0 {
            client.answer_to(&connect_request(number)).unwrap();
        }
    }
    tracker.signal(Signal::SIGCONT).unwrap();
    until("each was received or lost", || {
        Ok(lost()? > 0.0 && taken()? + lost()? == f64::from(REQUESTS))
    })
    .unwrap();
    // Each once: a look of a later second finds no more.
    let before = tracker.counts([("aquatic_dropped_total{reason=receive_buffer_full}", 0.0)]);
    tracker.wait_until_guarded(guest).unwrap();
    tracker.wait_for_growth(&before.unwrap()).unwrap();
    tracker.stop().unwrap();
}

/// Announces many peers, and has all of them told to the last one by `asker`. Returns by how many
/// sockets answers to it have left.
fn announce_many(tracker: &Tracker, (guest, asker): (&Host, &UdpClient), family: Family) -> u64 {
    let client = tracker.client(guest).unwrap();
    let id = connection_id(&client).unwrap();
    for number in 1..=PEERS {
        let seeder = Announce {
            numwant: 0,
            ..announce(number)
        };
        client.announce_with(id, &seeder).unwrap();
    }
    let leecher = Announce {
        left: 1,
        numwant: PEERS.into(),
        ..announce(PEERS + 1)
    };
    let asked_as = connection_id(asker).unwrap();
    let hub = tracker.host();
    let before = sent_by_sockets(hub, family);
    let announced = asker.announce_with(asked_as, &leecher).unwrap();
    assert_eq!(announced.peers.len(), usize::from(PEERS));
    // It leaves once, and a short one as always.
    client.announce_with(id, &announce(1)).unwrap();
    sent_by_sockets(hub, family) - before
}

fn with_long_answers<'a>(host: &'a Host, family: Family, network: &str) -> Plan<'a> {
    Plan {
        protocol: "max_response_peers = 76\nmax_response_peers_per_ip = 0\n".to_owned(),
        rest: "[limits]\nmax_peers_per_ip_and_torrent = 0\n".to_owned(),
        ..Plan::new(host, family, network)
    }
}

/// A path may take less than the interface, and a queue hears nothing of that. To a link-local
/// address it is the path of one interface.
#[test]
fn an_answer_that_may_have_to_be_cut_up_leaves_by_the_socket() {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    let (hub, guest) = (lab.hub(), lab.guest(0));
    let plan = with_long_answers(hub, Family::V6, FULL_AT_BRIDGE);
    let tracker = plan.start().unwrap();
    tracker.wait_until_guarded(guest).unwrap();
    let before = sent_by_sockets(hub, Family::V6);
    let client = tracker.client(guest).unwrap();
    let sent = announce_many(&tracker, (guest, &client), Family::V6);
    assert_eq!(sent, 1);
    assert_eq!(
        sent_by_sockets(hub, Family::V6),
        before + 1,
        "all but it are short"
    );

    let shown = run(hub, "ip", "-6 -o address show dev bridge0 scope link").unwrap();
    let mut words = shown.split([' ', '/']);
    words.find(|word| *word == "inet6").unwrap();
    let ip = words.next().unwrap().parse().unwrap();
    let scope = run(guest, "cat", "/sys/class/net/eth0/ifindex").unwrap();
    let scope = scope.trim().parse().unwrap();
    let address = SocketAddrV6::new(ip, tracker.address().port(), 0, scope);
    let client = UdpClient::new(guest, address.into()).unwrap();
    until("the program knows that address", || {
        let before = sent_by_sockets(hub, Family::V6);
        let is_answered = connect_once(&client)?.is_some();
        Ok(is_answered && sent_by_sockets(hub, Family::V6) == before)
    })
    .unwrap();
    let sent = announce_many(&tracker, (guest, &client), Family::V6);
    assert_eq!(sent, 1);
    tracker.stop().unwrap();
}

/// The kernel cuts it up.
#[test]
fn an_answer_that_the_interface_does_not_take_leaves_by_the_socket() {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    let (hub, guest) = (lab.hub(), lab.guest(0));
    // Of IPv4, UDP, an announce and the peers in it.
    let whole = 20 + 8 + 20 + 6 * u32::from(PEERS);
    for (mtu, expected) in [(whole, 0), (whole - 1, 1)] {
        run(hub, "ip", &format!("link set guest0 mtu {mtu}")).unwrap();
        run(hub, "ip", &format!("link set bridge0 mtu {mtu}")).unwrap();
        let plan = with_long_answers(hub, Family::V4, FULL_AT_BRIDGE);
        let tracker = plan.start().unwrap();
        tracker.wait_until_guarded(guest).unwrap();
        let client = tracker.client(guest).unwrap();
        let sent = announce_many(&tracker, (guest, &client), Family::V4);
        assert_eq!(sent, expected, "{mtu}");
        tracker.stop().unwrap();
    }
}

/// A queue would lose what does not fit into one of its places.
#[test]
fn a_request_that_is_too_long_for_a_queue_comes_to_the_socket() {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    let (hub, guest) = (lab.hub(), lab.guest(0));
    for (host, interface) in [(guest, "eth0"), (hub, "guest0"), (hub, "bridge0")] {
        run(host, "ip", &format!("link set {interface} mtu 3000")).unwrap();
    }
    let tracker = guarded(&lab, Family::V4, FULL_AT_BRIDGE);
    let client = tracker.client(guest).unwrap();
    let id = connection_id(&client).unwrap();
    // With its headers, the first one is 1,666 bytes long.
    for (bytes, expected) in [(1_624, 0), (1_625, 1), (2_000, 1)] {
        // Options of BEP 41 that say nothing, behind the announce.
        let options = vec![1; bytes - 98];
        let before = sent_by_sockets(hub, Family::V4);
        client
            .announce_with_options(id, &announce(1), &options)
            .unwrap();
        // Its answer is counted after it has left, and before that of the next one leaves.
        client.announce_with(id, &announce(1)).unwrap();
        assert_eq!(
            sent_by_sockets(hub, Family::V4) - before,
            expected,
            "{bytes}"
        );
    }
    tracker.stop().unwrap();
}

#[test]
fn a_damaged_frame_is_counted() {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    let guest = lab.guest(0);
    let tracker = guarded(&lab, Family::V4, FULL_AT_BRIDGE);
    let client = tracker.client(guest).unwrap();
    let id = connection_id(&client).unwrap();
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
    let payload = hex(&payload);
    let (to, script) = (tracker.address(), script.display());
    let arguments = format!("{script} {} {} {payload}", to.ip(), to.port());
    run(guest, "python3", &arguments).unwrap();
    tracker.wait_for_growth(&before).unwrap();
    tracker.stop().unwrap();
}

/// It is looked at once a second, before the sockets are. An id begins with its second, of another
/// clock.
#[test]
fn a_queue_of_an_interface_that_was_down_is_served_again() {
    let Some(lab) = Lab::for_programs(1).unwrap() else {
        return;
    };
    let (hub, guest) = (lab.hub(), lab.guest(0));
    let network = FULL_AT_BRIDGE.replace("bridge0", "guest0");
    let tracker = guarded(&lab, Family::V6, &network);
    run(hub, "ip", "link set guest0 down").unwrap();
    let own = tracker.client(hub).unwrap();
    let second = || Ok::<_, anyhow::Error>(own.connect()? >> 48);
    let down_since = second().unwrap();
    until("more than a second later", || {
        Ok(second()?.wrapping_sub(down_since) & 0xffff > 1)
    })
    .unwrap();
    run(hub, "ip", "link set guest0 up").unwrap();
    let client = tracker.client(guest).unwrap();
    until("it is served", || Ok(client.announce(&announce(1)).is_ok())).unwrap();
    let log = tracker.log().unwrap();
    assert!(!log.contains("not served any more"), "{log}");
    tracker.wait_until_guarded(guest).unwrap();
    let id = connection_id(&client).unwrap();
    let before = sent_by_sockets(hub, Family::V6);
    client.announce_with(id, &announce(1)).unwrap();
    assert_eq!(sent_by_sockets(hub, Family::V6), before);
    tracker.stop().unwrap();
}

#[test]
fn a_queue_of_an_interface_that_is_gone_is_given_up() {
    let Some(lab) = Lab::for_programs(2).unwrap() else {
        return;
    };
    let network = FULL_AT_BRIDGE.replace("bridge0", "guest0");
    let tracker = guarded(&lab, Family::V4, &network);
    assert!(tracker.activity().unwrap()["guest0"]);
    assert_eq!(tracker.queue_activity().unwrap(), [true]);
    run(lab.hub(), "ip", "link del guest0").unwrap();
    until("it is told of", || {
        let told = "the AF_XDP queue 0 of guest0 is not served any more";
        Ok(tracker.log()?.contains(told) && tracker.queue_activity()? == [false])
    })
    .unwrap();
    until("so is the program", || {
        let told = "xdp: the interface guest0 is gone, and the program with it";
        Ok(tracker.log()?.contains(told) && !tracker.activity()?["guest0"])
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
