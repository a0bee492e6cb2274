//! Hosts that lack something: IPv6, or what hardened and containerised ones take away.

use std::net::SocketAddr;

use aquatic_types::IpFamily;
use nix::libc::{
    AF_INET6, EAFNOSUPPORT, EPERM, SO_ATTACH_REUSEPORT_CBPF, SO_RCVBUF, SO_RCVBUFFORCE, SO_SNDBUF,
    SO_SNDBUFFORCE, SYS_bpf, SYS_io_uring_setup, SYS_mlock, SYS_prlimit64, SYS_setsockopt,
    SYS_socket,
};
use nix::unistd::geteuid;

use crate::faults::{Denied, spawn_denied};
use crate::place::DEFAULT_ADDRESSES;
use crate::program::localhost;
use crate::{Daemon, Place, Program, Setup, network, torrent};

/// What `ipv6.disable=1` and systemd's `RestrictAddressFamilies=` do.
const NO_IPV6: Denied = (SYS_socket, &[(0, AF_INET6)]);

const NO_STEERING: Denied = (SYS_setsockopt, &[(2, SO_ATTACH_REUSEPORT_CBPF)]);
const NO_LARGE_BUFFERS: [Denied; 4] = [
    (SYS_setsockopt, &[(2, SO_RCVBUF)]),
    (SYS_setsockopt, &[(2, SO_RCVBUFFORCE)]),
    (SYS_setsockopt, &[(2, SO_SNDBUF)]),
    (SYS_setsockopt, &[(2, SO_SNDBUFFORCE)]),
];

fn assert_serves(program: &Program, address: SocketAddr) {
    let mut client = (program.client)(address.ip(), address);
    assert_eq!(client.join(torrent(1), 1), Ok(1));
}

/// The quick start has to work there: a warning is enough.
pub fn default_addresses_need_no_ipv6(program: &'static Program) {
    let v4 = SocketAddr::new(localhost(IpFamily::V4), 3_000);
    let start = |denied: &[Denied]| -> Daemon {
        let place = Place::new();
        let setup = Setup {
            runtime: "auto",
            ..Setup::simple(program)
        };
        let command = place.command(setup, DEFAULT_ADDRESSES);
        place.wait_for(spawn_denied(denied, EAFNOSUPPORT, command))
    };
    network::alone(|| {
        let daemon = start(&[NO_IPV6]);
        assert_serves(program, v4);
        let log = daemon.place.log();
        let mut warnings = log.lines().filter(|line| line.contains("WARN"));
        let is_told = |line: &str| {
            line.contains("no IPv6") && line.contains("[::]:3000") && line.contains("left out")
        };
        assert!(warnings.any(is_told), "{log}");
        assert!(log.contains("serving at"), "{log}");
        assert!(
            !log.lines().any(|line| line.contains("serving at [::]")),
            "{log}"
        );
    });
    network::alone(|| {
        // Sockets can be had, but there are no addresses.
        std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
        let _daemon = start(&[]);
        assert_serves(program, v4);
    });
}

/// Who has written an address down means it.
pub fn named_addresses_without_ipv6_are_refused_with_what_to_write(program: &'static Program) {
    let place = Place::new();
    let port = place.port();
    let both = format!("['0.0.0.0:{port}', '[::]:{port}']");
    for (addresses, advice) in [
        (&*both, format!("`network.address = [\"0.0.0.0:{port}\"]`")),
        (
            &format!("'[::]:{port}'"),
            format!("`network.address = [\"0.0.0.0:{port}\"]`"),
        ),
        (
            &format!("'[::1]:{port}'"),
            format!("for example `network.address = \"0.0.0.0:{port}\"`"),
        ),
    ] {
        let settings = format!("network.address = {addresses}");
        let command = place.command(Setup::simple(program), &settings);
        let ended = place.end(spawn_denied(&[NO_IPV6], EAFNOSUPPORT, command));
        assert_eq!(ended.code, Some(1));
        let line = ended.log.lines().last().unwrap();
        assert!(line.contains("this machine has no IPv6"), "{line}");
        assert!(line.contains(&advice), "{line}");
    }
}

/// Of the default configuration, nothing is needed that such a host may refuse.
pub fn a_hardened_host_is_enough(program: &'static Program) {
    const NO_IO_URING: Denied = (SYS_io_uring_setup, &[]);
    const NO_BPF: Denied = (SYS_bpf, &[]);
    const NO_LIMITS: Denied = (SYS_prlimit64, &[]);
    const NO_LOCKING: Denied = (SYS_mlock, &[]);
    let all = [
        &[NO_IO_URING, NO_BPF, NO_LIMITS, NO_LOCKING, NO_STEERING],
        &NO_LARGE_BUFFERS[..],
    ]
    .concat();
    let mut cases: Vec<(&[Denied], &str)> = vec![
        (&[NO_IO_URING], ""),
        (&[NO_BPF, NO_STEERING], ""),
        (&NO_LARGE_BUFFERS, ""),
        (&[NO_LIMITS], ""),
        (&[], "ulimit -l 0"),
        (&all, "ulimit -l 0"),
    ];
    // A shell that has no /proc, in a namespace of its own.
    let no_proc =
        "exec unshare --mount sh -c 'umount -l /proc && exec \"$0\" \"$@\"' \"$0\" \"$@\"";
    if geteuid().is_root() {
        cases.push((&[], no_proc));
    } else {
        eprintln!("without root, not tried without /proc");
    }
    for (denied, lines) in cases {
        for socket_workers in [1, 2] {
            let place = Place::new();
            let setup = Setup {
                runtime: "auto",
                socket_workers,
                ..Setup::simple(program)
            };
            let command = place.command_after(lines, setup, "");
            let daemon = place.wait_for(spawn_denied(denied, EPERM, command));
            for family in IpFamily::ALL {
                assert_serves_torrent(program, &daemon, family);
            }
            let log = daemon.place.log();
            assert!(!log.contains("ERROR"), "{log}");
        }
    }
}

/// One of each family: swarms may be shared.
fn assert_serves_torrent(program: &Program, daemon: &Daemon, family: IpFamily) {
    let mut client = program.client_of(daemon, family);
    assert_eq!(client.join(super::torrent_of(family, 1), 1), Ok(1));
}
