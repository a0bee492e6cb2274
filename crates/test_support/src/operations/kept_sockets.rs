//! Sockets that outlive the process: clients who come while there is none are served by the next.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::{self, ScopedJoinHandle};

use aquatic_types::IpFamily;
use nix::sys::signal::Signal;
use socket2::{Domain, SockRef, Socket, Type};

use super::torrent_of;
use crate::program::localhost;
use crate::service_manager::Named;
use crate::setup::on_each;
use crate::wait::until;
use crate::{Daemon, Place, Program, Setup};

/// Of each family; so many that each socket has some, probably.
const CLIENTS: u16 = 8;

/// Each runtime, fused and split.
fn setups(program: &'static Program) -> Vec<Setup> {
    let of_each_runtime = Setup::of_each_runtime(program).into_iter();
    let topologies = of_each_runtime.flat_map(|setup| {
        [0, 1].map(|swarm_workers| Setup {
            swarm_workers,
            ..setup
        })
    });
    topologies.collect()
}

/// Clients that come to `place` now, whether somebody is there or not.
fn come<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    program: &'static Program,
    place: &Place,
) -> Vec<ScopedJoinHandle<'scope, Result<u32, String>>> {
    let come = |family| {
        let tracker = place.address(family);
        (1..=CLIENTS).map(move |port| {
            scope.spawn(move || {
                let mut client = (program.client)(localhost(family), tracker);
                client.join(torrent_of(family, port.into()), port)
            })
        })
    };
    IpFamily::ALL.into_iter().flat_map(come).collect()
}

fn assert_served(clients: Vec<ScopedJoinHandle<'_, Result<u32, String>>>) {
    for client in clients {
        assert_eq!(client.join().unwrap(), Ok(1));
    }
}

pub(super) fn end(daemon: &mut Daemon, signal: Signal) {
    daemon.signal(signal);
    let code = daemon.wait_exit().code();
    assert_eq!(code, (signal == Signal::SIGTERM).then_some(0));
}

/// One tracker after the other, with these numbers of workers: clients come while there is none,
/// and the next one serves all of them.
fn succeed_each_other(setup: Setup, signal: Signal, workers: &[usize]) {
    let place = Place::with_kept_sockets();
    let start = |socket_workers| {
        let setup = Setup {
            socket_workers,
            ..setup
        };
        place.clone().start_with_sockets(setup, "", Vec::new())
    };
    let mut daemon = start(workers[0]);
    for next in &workers[1..] {
        end(&mut daemon, signal);
        daemon = thread::scope(|scope| {
            let clients = come(scope, setup.program, &place);
            until("clients wait", || {
                let waits = |family| place.has_waiting(family);
                IpFamily::ALL.into_iter().all(waits).then_some(())
            });
            let daemon = start(*next);
            assert_served(clients);
            daemon
        });
    }
    let most = workers.iter().max().unwrap();
    assert_eq!(place.kept_sockets().len(), 2 * most);
}

/// With more workers and with fewer than before.
pub fn who_comes_during_a_restart_is_served(program: &'static Program) {
    on_each(&setups(program), |setup| {
        succeed_each_other(setup, Signal::SIGTERM, &[1, 2, 1, 3, 2, 2]);
    });
}

/// The store does not depend on last words.
pub fn who_comes_after_a_kill_is_served(program: &'static Program) {
    on_each(&setups(program), |setup| {
        succeed_each_other(setup, Signal::SIGKILL, &[2, 2, 3]);
    });
}

/// As a `.socket` unit does it.
fn bind_unit(program: &Program, address: SocketAddr, only_v6: bool) -> OwnedFd {
    let is_udp = program.runtime_key == "network.backend";
    let of_type = if is_udp { Type::DGRAM } else { Type::STREAM };
    let socket = Socket::new(Domain::for_address(address), of_type, None).unwrap();
    if address.is_ipv6() {
        socket.set_only_v6(only_v6).unwrap();
    }
    socket.set_reuse_address(!is_udp).unwrap();
    socket.bind(&address.into()).unwrap();
    if !is_udp {
        socket.listen(128).unwrap();
    }
    socket.into()
}

/// The names are whatever the unit says; and a service that is activated like this may have more
/// workers than there are sockets.
pub fn sockets_of_a_unit_are_served(program: &'static Program) {
    on_each(&setups(program), |setup| {
        for socket_workers in [1, 2] {
            let setup = Setup {
                socket_workers,
                ..setup
            };
            let place = Place::with_kept_sockets();
            let all: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
            let addresses = all.map(|ip| SocketAddr::new(ip, place.port()));
            let sockets = addresses.map(|address| bind_unit(program, address, true));
            let settings = format!(
                "network.address = {:?}",
                addresses.map(|address| address.to_string())
            );
            for _ in 0..2 {
                let units = sockets.each_ref().map(|socket| -> Named {
                    ("tracker.socket".to_owned(), socket.try_clone().unwrap())
                });
                let mut daemon = thread::scope(|scope| {
                    let clients = come(scope, program, &place);
                    let place = place.clone();
                    let daemon = place.start_with_sockets(setup, &settings, units.into());
                    assert_served(clients);
                    daemon
                });
                // Its own are the unit's business.
                let kept = daemon.place.kept_sockets();
                assert_eq!(kept.len(), 2 * (socket_workers - 1), "{kept:?}");
                end(&mut daemon, Signal::SIGTERM);
            }
        }
    });
}

/// The address in the configuration is another one now.
pub fn what_the_configuration_does_not_name_any_more_is_closed(program: &'static Program) {
    let setup = Setup {
        socket_workers: 2,
        ..Setup::simple(program)
    };
    let place = Place::with_kept_sockets();
    let mut daemon = place.clone().start_with_sockets(setup, "", Vec::new());
    let before = daemon.place.kept_sockets();
    assert_eq!(before.len(), 4);
    end(&mut daemon, Signal::SIGTERM);

    // All addresses of this port include the one that was served before.
    let all = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), place.port());
    let settings = format!("network.address = '{all}'");
    let mut command = place.command_with_sockets(setup, &settings, Vec::new());
    let child = command.spawn().unwrap();
    // The command has them, too.
    drop(command);
    let daemon = place.clone().wait_for(child);
    for family in IpFamily::ALL {
        let address = place.address(family);
        daemon.wait_for_log(&format!("socket of {address} closed"));
        assert_eq!((program.serves)(address), family == IpFamily::V4);
    }
    let after = daemon.place.kept_sockets();
    assert_eq!(after.len(), 2);
    assert!(after.iter().all(|name| !before.contains(name)), "{after:?}");
}

/// Each is told with what to write, and costs nothing else.
pub fn sockets_that_are_of_no_use_are_closed_and_told(program: &'static Program) {
    let place = Place::with_kept_sockets();
    let second = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), place.second_port());
    let other = bind_unit(
        program,
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
        true,
    );
    let other_address = SockRef::from(&other).local_addr().unwrap();
    let other_address = other_address.as_socket().unwrap();
    let (connected, _client) = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, client)
    };
    let pair = UnixStream::pair().unwrap();
    let units: [Named; 4] = [
        ("both".to_owned(), bind_unit(program, second, false)),
        ("accepted".to_owned(), connected.into()),
        ("unix".to_owned(), pair.0.into()),
        ("aquatic-UDP-other-0".to_owned(), other),
    ];
    let setup = Setup::simple(program);
    let mut command = place.command_with_sockets(setup, "", units.into());
    let child = command.spawn().unwrap();
    drop(command);
    let daemon = place.clone().wait_for(child);
    daemon.wait_for_warning("\"both\"", "BindIPv6Only=ipv6-only");
    daemon.wait_for_warning("\"accepted\"", "Accept=no");
    daemon.wait_for_warning("\"unix\"", "it is not an IP socket");
    daemon.wait_for_warning(
        "\"aquatic-UDP-other-0\"",
        "`network.address` does not name it",
    );
    assert!(!(program.serves)(other_address));
    assert!((program.serves)(daemon.address(IpFamily::V4)));
    assert_eq!(daemon.place.kept_sockets().len(), 2);
}

/// Before what waits in a socket is lost.
pub fn a_store_that_is_too_small_is_told(program: &'static Program) {
    let place = Place::with_kept_sockets();
    let setup = Setup {
        socket_workers: 2,
        ..Setup::simple(program)
    };
    let mut command = place.command_with_sockets(setup, "", Vec::new());
    command.env("FDSTORE", "3");
    let daemon = place.clone().start_by(&mut command);
    daemon.wait_for_warning(
        "keeps 3 sockets, and there are 4",
        "FileDescriptorStoreMax=",
    );
}

/// What was passed to another process is none of ours.
pub fn sockets_for_another_process_are_left_alone(program: &'static Program) {
    let place = Place::new();
    let mut command = place.command(Setup::simple(program), "");
    command.env("LISTEN_PID", "1").env("LISTEN_FDS", "2");
    let daemon = place.clone().start_by(&mut command);
    assert!((program.serves)(daemon.address(IpFamily::V4)));
    assert!(!daemon.place.log().contains("passed"));
}
