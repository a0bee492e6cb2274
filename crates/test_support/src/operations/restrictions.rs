//! Clients that an operator does not serve: by network, or by the software that their peer id
//! names.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use aquatic_types::IpFamily;
use nix::sys::signal::Signal;

use super::reloads::change;
use super::torrent_of;
use crate::connection::tcp;
use crate::program::{localhost, loopback};
use crate::setup::on_every_setup;
use crate::wait::until;
use crate::{Daemon, Place, Program, Setup, metrics};

const NETWORKS: &str = "access_list.networks_deny_path = 'networks'";

const DENIED: &str = "client software not allowed here";

/// What `access_list.peer_id_prefixes_deny` and `peer_id_prefixes_allow` say, now and after a
/// reload.
pub fn software_is_denied_by_the_beginning_of_the_peer_id(program: &'static Program) {
    let none = "";
    let other = "access_list.peer_id_prefixes_deny = ['-QQ', 'hex:00ff']\n";
    let only_other = "access_list.peer_id_prefixes_allow = ['-QQ', 'hex:00ff']\n";
    on_every_setup(program, |setup| {
        let place = Place::new();
        let settings = place.metrics_settings(program);
        let with = |prefixes: &str| format!("{settings}{prefixes}");
        let daemon = place.start(setup, &with(other));
        for family in IpFamily::ALL {
            let mut client = program.client_of(&daemon, family);
            assert_eq!(client.join(torrent_of(family, 1), 1), Ok(1));
        }
        change(&daemon, setup, &with(only_other), Signal::SIGHUP);
        for family in IpFamily::ALL {
            let mut client = program.client_of(&daemon, family);
            let refusal = until("the software is denied", || {
                client.join(torrent_of(family, 1), 1).err()
            });
            assert_eq!(refusal, DENIED);
            let refused = format!(
                "aquatic_refused_total{{reason=peer_id_denied,ip_version={}}}",
                family.digit()
            );
            metrics::wait_for(&daemon, &[(&refused, 1.0)]);
        }
        change(&daemon, setup, &with(none), Signal::SIGHUP);
        let mut client = program.client_of(&daemon, IpFamily::V4);
        until("all software is served", || {
            client.join(torrent_of(IpFamily::V4, 1), 1).ok()
        });
    });
}

/// Sends something, or connects, from an address that is not served, and waits until that has been
/// counted as the first, second and so on.
fn turn_away(daemon: &Daemon, is_tcp: bool, from: IpAddr, count: u32) {
    let tracker: SocketAddr = daemon.address(IpFamily::of(&SocketAddr::new(from, 0)));
    let counted = match is_tcp {
        true => {
            tcp(from, tracker).unwrap();
            "aquatic_connections_refused_total{reason=network_denied}"
        }
        false => {
            send_until_denied(daemon, from, tracker);
            DROPPED_AS_DENIED
        }
    };
    metrics::wait_for(daemon, &[(counted, f64::from(count))]);
}

const DROPPED_AS_DENIED: &str = "aquatic_dropped_total{reason=network_denied}";

/// What nonsense is dropped as that comes from somebody else.
const DROPPED_AS_NONSENSE: &str = "aquatic_dropped_total{reason=not_connect}";

/// A program in front of the network stack hears of a list a little later than it has been loaded.
/// Whatever is sent has been counted before anything else is.
fn send_until_denied(daemon: &Daemon, from: IpAddr, tracker: SocketAddr) {
    let counted = || {
        let samples = metrics::scrape(daemon);
        [DROPPED_AS_DENIED, DROPPED_AS_NONSENSE].map(|it| metrics::sum(&samples, it))
    };
    until("the network is denied", || {
        let before = counted();
        send_nonsense(from, tracker);
        let after = until("it is counted", || {
            let now = counted();
            (now != before).then_some(now)
        });
        (after[0] > before[0]).then_some(())
    });
}

fn send_nonsense(from: IpAddr, tracker: SocketAddr) {
    let socket = UdpSocket::bind((from, 0)).unwrap();
    socket.send_to(&[0; 16], tracker).unwrap();
}

/// At once, also those that were connected before; and served again when the list says so.
pub fn clients_of_denied_networks_are_not_served(program: &'static Program) {
    let is_tcp = program.has_tls;
    on_every_setup(program, |setup| {
        let place = Place::new();
        place.write("networks", "# nobody\n192.0.2.0/24\n");
        let settings = format!("{}{NETWORKS}", place.metrics_settings(program));
        let daemon = place.start(setup, &settings);
        let mut clients = IpFamily::ALL.map(|family| (family, program.client_of(&daemon, family)));
        for (family, client) in &mut clients {
            assert_eq!(client.join(torrent_of(*family, 1), 1), Ok(1));
        }
        let own_v6 = localhost(IpFamily::V6);
        let networks = format!("127.0.0.2\r\n127.0.1.0/24 ; SBL1\n{own_v6}/128\n");
        daemon.place.write("networks", networks);
        daemon.reload();
        daemon.wait_for_log("list of denied networks networks loaded: 3 networks");
        if is_tcp {
            let closed = "aquatic_connections_closed_total{reason=network_denied}";
            // A client may have more than one.
            until("a connection is closed", || {
                (metrics::sum(&metrics::scrape(&daemon), closed) >= 1.0).then_some(())
            });
        }
        let [(family, served), _] = &mut clients;
        assert_eq!(served.join(torrent_of(*family, 1), 1), Ok(1));
        turn_away(&daemon, is_tcp, loopback(2), 1);
        turn_away(&daemon, is_tcp, [127, 0, 1, 200].into(), 2);
        turn_away(&daemon, is_tcp, own_v6, 3);

        daemon.place.write("networks", "127.0.0.3\n10.0.0.1/8\n");
        daemon.reload();
        let line = daemon.wait_for_log("keeping the previous denied networks");
        let reason = "line 2: \"10.0.0.1/8\" has bits set after its prefix: write 10.0.0.0/8";
        assert!(line.contains("ERROR") && line.contains(reason), "{line}");
        turn_away(&daemon, is_tcp, loopback(2), 4);
        let successful = "aquatic_denied_networks_last_reload_successful";
        let entries = "aquatic_denied_networks_entries";
        metrics::wait_for(&daemon, &[(successful, 0.0), (entries, 3.0)]);

        daemon.place.write("networks", "");
        daemon.reload();
        if setup.has_queues {
            // The program in front of the network stack hears of it within a second.
            let heard = || metrics::sum(&metrics::scrape(&daemon), DROPPED_AS_NONSENSE);
            let before = heard();
            until("nonsense is recognised", || {
                send_nonsense(own_v6, daemon.address(IpFamily::V6));
                (heard() > before).then_some(())
            });
        }
        for family in IpFamily::ALL {
            let mut client = program.client_of(&daemon, family);
            assert!(client.join(torrent_of(family, 2), 1).is_ok());
        }
        metrics::wait_for(&daemon, &[(successful, 1.0), (entries, 0.0)]);
    });
}

/// Nobody starts with a list that was not meant so.
pub fn at_start_a_bad_list_of_networks_is_named_with_its_line(program: &'static Program) {
    let place = Place::new();
    let setup = Setup::simple(program);
    place.write("networks", "10.0.0.0/8\n# a comment\nexample.com\n");
    let ended = place.fail(setup, NETWORKS);
    assert_eq!(ended.code, Some(1));
    let reason = "cannot use the list of denied networks networks: line 3: \"example.com\" is not \
                  an IP address or network: write for example \"192.0.2.1\" or \"10.0.0.0/8\"";
    assert!(ended.log.contains(reason), "{}", ended.log);

    std::fs::remove_file(place.path("networks")).unwrap();
    let ended = place.fail(setup, NETWORKS);
    assert_eq!(ended.code, Some(1));
    let reason = "cannot open the list of denied networks networks: No such file";
    assert!(ended.log.contains(reason), "{}", ended.log);
}
