//! Where a tracker listens.

use std::net::{IpAddr, SocketAddr};

use aquatic_types::IpFamily;
use nix::sys::signal::Signal;

use super::torrent_of;
use crate::program::{localhost, loopback};
use crate::setup::on_every_setup;
use crate::wait::until;
use crate::{Place, Program, Setup, torrent, torrents};

/// Whichever of them is asked.
pub fn several_addresses_share_their_swarms(program: &'static Program) {
    on_every_setup(program, |setup| {
        let place = Place::new();
        let port = place.port();
        let settings = format!("network.address = ['127.0.0.1:{port}', '127.0.0.3:{port}']");
        let _daemon = place.start(setup, &settings);
        // Some protocols forget who has no connection.
        let mut clients = Vec::new();
        for (count, last) in [(1, 1), (2, 3)] {
            let mut client = (program.client)(loopback(1), SocketAddr::new(loopback(last), port));
            for info_hash in torrents() {
                assert_eq!(client.join(info_hash, u16::from(last)), Ok(count));
            }
            clients.push(client);
        }
        assert!(!(program.serves)(SocketAddr::new(loopback(2), port)));
    });
}

/// One address needs no list; that of all IPv6 serves IPv4, too, unless told otherwise, as in 0.9.
/// `-P` says what is used, and the log says so at any level.
pub fn all_of_ipv6_is_both_families_unless_told_otherwise(program: &'static Program) {
    on_every_setup(program, |setup| {
        for (only_ipv6, serves_ipv4) in [
            ("", true),
            ("network.only_ipv6 = false\n", true),
            ("network.only_ipv6 = true\n", false),
        ] {
            let place = Place::new();
            let [v4, v6] = IpFamily::ALL.map(|family| place.address(family));
            let port = place.port();
            let settings =
                format!("log_level = 'error'\n{only_ipv6}network.address = '[::]:{port}'");
            let daemon = place.start(setup, &settings);
            let mut client = (program.client)(localhost(IpFamily::V6), v6);
            assert_eq!(client.join(torrent(1), 1), Ok(1));
            assert_eq!((program.serves)(v4), serves_ipv4);
            if serves_ipv4 {
                let mut client = (program.client)(localhost(IpFamily::V4), v4);
                assert_eq!(client.join(torrent(2), 2), Ok(1));
            }
            let notice = format!("`[::]:{port}` as the only address serves IPv4, too");
            let log = daemon.place.log();
            assert_eq!(log.contains(&notice), serves_ipv4, "{log}");

            let file = daemon.place.path("config.toml");
            let printed = Place::new().run(program, &["-c", file.to_str().unwrap(), "-P"]);
            let used = match serves_ipv4 {
                true => format!("address = [\"0.0.0.0:{port}\", \"[::]:{port}\"]"),
                false => format!("address = [\"[::]:{port}\"]"),
            };
            let mut lines = printed.stdout.lines();
            assert!(lines.any(|line| line == used), "{}", printed.stdout);
        }
    });
}

/// Also by a tracker of the same user, although several workers share one.
pub fn an_address_in_use_is_named(program: &'static Program) {
    on_every_setup(program, |setup| {
        let daemon = setup.start("");
        let address = daemon.address(IpFamily::V6);
        let ended = Place::new().fail(setup, &format!("network.address = '{address}'"));
        assert_eq!(ended.code, Some(1), "{}", ended.log);
        let name = program.name;
        let reason = format!("{name} ends: cannot bind {address}: another program");
        assert!(ended.log.contains(&reason), "{}", ended.log);
        assert!((program.serves)(address));
    });
}

/// Without a pause between the two.
pub fn a_restart_takes_the_address_over(program: &'static Program) {
    on_every_setup(program, |setup| {
        let mut first = setup.start("");
        // What a client leaves behind must not be in the way.
        let mut client = program.client_of(&first, IpFamily::V4);
        torrents().for_each(|info_hash| drop(client.join(info_hash, 1)));
        let addresses = IpFamily::ALL.map(|family| first.address(family).to_string());
        let second = Place::new();
        let settings = format!("network.address = {addresses:?}");
        let child = second.command(setup, &settings).spawn().unwrap();
        first.signal(Signal::SIGTERM);
        assert_eq!(first.wait_exit().code(), Some(0));
        let _second = second.wait_for(child);
        for family in IpFamily::ALL {
            let address = SocketAddr::new(localhost(family), first.place.port());
            assert!((program.serves)(address));
        }
    });
}

/// TEST-NET-1 (RFC 5737) belongs to no machine.
pub fn a_foreign_address_is_named(program: &'static Program) {
    let ended = Place::new().fail(Setup::simple(program), "network.address = '192.0.2.1:3000'");
    assert_eq!(ended.code, Some(1));
    let reason = "cannot bind 192.0.2.1:3000: no network interface of this machine";
    assert!(ended.log.contains(reason), "{}", ended.log);
}

/// Port 0.
pub fn any_free_port_is_the_same_for_all_workers_and_told(program: &'static Program) {
    on_every_setup(program, |setup| {
        let any = IpFamily::ALL.map(|family| SocketAddr::new(localhost(family), 0).to_string());
        let daemon = setup.start(&format!("network.address = {any:?}"));
        let log = daemon.place.log();
        let addresses: Vec<SocketAddr> = log
            .lines()
            .filter_map(|line| line.split_once("serving at "))
            .map(|(_, url)| url.split("//").last().unwrap_or(url))
            .map(|url| url.split("/announce").next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(addresses.len(), 2, "{log}");
        for (address, family) in addresses.into_iter().zip(IpFamily::ALL) {
            assert_eq!(address.ip(), localhost(family));
            // What the kernel lists while others come and go may lack some.
            until(&format!("each worker has its socket: {log}"), || {
                (sockets_at(address) == setup.socket_workers).then_some(())
            });
            let mut client = (program.client)(localhost(family), address);
            assert_eq!(client.join(torrent_of(family, 1), 1), Ok(1));
        }
    });
}

/// Sockets that listen at an address: of UDP, or of TCP. Another daemon may have the same port of
/// the other family.
fn sockets_at(address: SocketAddr) -> usize {
    let bytes = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = bytes.as_chunks().0.iter();
    let words = words.map(|word| format!("{:08X}", u32::from_ne_bytes(*word)));
    let wanted = format!("{}:{:04X}", words.collect::<String>(), address.port());
    let is_there = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        let local = words.next().unwrap_or_default();
        // 07: bound, for UDP; 0A: listens.
        local == wanted && matches!(words.nth(1), Some("07" | "0A"))
    };
    ["tcp", "tcp6", "udp", "udp6"]
        .map(|table| std::fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap())
        .iter()
        .map(|table| table.lines().filter(is_there).count())
        .sum()
}
