//! Connections that are turned away leave a trace in the log. For daemons over TCP.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aquatic_daemon::metrics_endpoint::MetricsEndpoint;
use aquatic_types::IpFamily;
use nix::sys::signal::Signal;

use super::kept_sockets::end;
use crate::connection::tcp;
use crate::faults::set_limit;
use crate::program::loopback;
use crate::setup::{on_each, on_every_runtime};
use crate::wait::DEADLINE;
use crate::{Daemon, Place, Program, Setup, torrent};

fn connect(daemon: &Daemon, count: usize) -> Vec<TcpStream> {
    let address = daemon.address(IpFamily::V4);
    let connections = (0..count).map(|_| tcp(loopback(1), address));
    connections.collect::<Result<_, _>>().unwrap()
}

/// A request that each of the daemons would serve.
const REQUEST: &str = "GET /announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb\
    &port=1&left=0 HTTP/1.1\r\nHost: tracker\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// As many connections as files leave room for; told at the start, and when there are more.
pub fn a_limit_on_files_is_told(program: &'static Program) {
    on_every_runtime(program, |setup| {
        let place = Place::new();
        let mut command = place.command_with_files(setup, "", 64);
        let daemon = place.start_by(&mut command);
        let log = daemon.place.log();
        let room = "room for 16 connections (`network.max_connections` = 0; 64 open files)";
        assert!(log.contains(room), "{log}");
        let _clients = connect(&daemon, 40);
        daemon.wait_for_warning(
            "connections refused, or closed to make room for others, beyond 16: ",
            "raise the limit on open files (ulimit -n; systemd: LimitNOFILE=)",
        );
    });
}

/// Whoever takes all connections to the metrics takes none from clients, and the other way round.
pub fn files_for_the_metrics_are_not_for_connections(program: &'static Program) {
    const FILES: u32 = 100;
    let room = |with_metrics| {
        let place = Place::new();
        let settings = match with_metrics {
            true => place.metrics_settings(program),
            false => String::new(),
        };
        let mut command = place.command_with_files(Setup::simple(program), &settings, FILES);
        let daemon = place.start_by(&mut command);
        let line = daemon.wait_for_log("room for ");
        let (_, rest) = line.split_once("room for ").unwrap();
        let (connections, _) = rest.split_once(' ').unwrap();
        connections.parse::<usize>().unwrap()
    };
    assert_eq!(room(false) - room(true), MetricsEndpoint::FILES_MAX);
}

/// Files can also run out unforeseen.
pub fn a_lack_of_files_is_told(program: &'static Program) {
    on_every_runtime(program, |setup| {
        let daemon = setup.start("");
        let open = daemon.files().len();
        set_limit(&daemon, &format!("--nofile={0}:{0}", open + 3));
        let _clients = connect(&daemon, 40);
        daemon.wait_for_warning(
            "no connection could be accepted for want of files: ",
            "raise the limit on open files (ulimit -n; systemd: LimitNOFILE=)",
        );
    });
}

/// `network.max_connections`, `limits.max_connections_per_ip`.
pub fn limits_on_connections_are_told(program: &'static Program) {
    on_every_runtime(program, |setup| {
        for (settings, what, key) in [
            (
                "network.max_connections = 5",
                "connections refused, or closed to make room for others, beyond 5: ",
                "`network.max_connections`",
            ),
            (
                "limits.max_connections_per_ip = 5",
                "connections closed, whose client has too many: ",
                "`limits.max_connections_per_ip`",
            ),
        ] {
            let daemon = setup.start(settings);
            let _clients = connect(&daemon, 8);
            daemon.wait_for_warning(what, key);
        }
    });
}

/// Behind a proxy: nobody is served without its word.
pub fn clients_whom_no_proxy_names_are_told(program: &'static Program) {
    on_every_runtime(program, |setup| {
        for (settings, what, key) in [
            (
                "network.proxy_protocol = true",
                "connections closed that do not begin with a PROXY header: ",
                "`network.proxy_protocol`",
            ),
            (
                "network.proxy_protocol = true\nnetwork.trusted_proxies = ['192.0.2.1']",
                "connections closed at once, from others than proxies: ",
                "`network.trusted_proxies`",
            ),
            (
                "network.runs_behind_reverse_proxy = true",
                "requests refused, since the proxy does not tell who the client is: ",
                "`network.reverse_proxy_ip_header_name`",
            ),
            (
                "network.runs_behind_reverse_proxy = true\n\
                 network.trusted_proxies = ['192.0.2.1']",
                "requests refused, from others than proxies: ",
                "`network.trusted_proxies`",
            ),
        ] {
            let daemon = setup.start(settings);
            for mut client in connect(&daemon, 3) {
                // May have been closed already.
                let _ = client.write_all(REQUEST.as_bytes());
            }
            daemon.wait_for_warning(what, key);
        }
    });
}

/// `limits.requests_per_second_per_ip`.
pub fn a_limit_on_requests_is_told(program: &'static Program) {
    on_every_runtime(program, |setup| {
        let daemon = setup.start("limits.requests_per_second_per_ip = 5");
        let mut client = program.client_of(&daemon, IpFamily::V4);
        while client.join(torrent(1), 1).is_ok() {}
        daemon.wait_for_warning(
            "requests not served, whose client sends too many: ",
            "`limits.requests_per_second_per_ip`",
        );
    });
}

/// For an operator who has configured nothing, too.
pub fn memory_of_connections_is_bounded_by_default(program: &'static Program) {
    let daemon = Setup::simple(program).start("");
    let line = daemon.wait_for_log("`network.max_connection_memory` = \"25%\": ");
    assert!(line.contains(" bytes, of "), "{line}");
}

/// Through restarts with more workers and with fewer, and a kill.
pub fn nobody_is_refused_during_restarts(program: &'static Program) {
    on_each(&Setup::of_each_runtime(program), |setup| {
        let place = Place::with_kept_sockets();
        let start = |socket_workers| {
            let setup = Setup {
                socket_workers,
                ..setup
            };
            place.clone().start_with_sockets(setup, "", Vec::new())
        };
        let mut daemon = start(1);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let connects = IpFamily::ALL.map(|family| {
                let address = place.address(family);
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut connections = 0_u32;
                    while !is_over.load(Ordering::Relaxed) {
                        let connected = TcpStream::connect_timeout(&address, DEADLINE);
                        connected.unwrap_or_else(|error| panic!("{address}: {error}"));
                        connections += 1;
                        thread::yield_now();
                    }
                    connections
                })
            });
            for (workers, signal) in [
                (3, Signal::SIGTERM),
                (2, Signal::SIGTERM),
                (2, Signal::SIGKILL),
                (1, Signal::SIGTERM),
            ] {
                end(&mut daemon, signal);
                daemon = start(workers);
            }
            is_over.store(true, Ordering::Relaxed);
            for connections in connects {
                assert!(connections.join().unwrap() > 0);
            }
        });
    });
}
