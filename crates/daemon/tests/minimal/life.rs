//! Start, reload, failure and stop.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use nix::sys::signal::Signal;

use crate::process::{HASH_A, HASH_B, Setup, hex};

#[test]
fn a_signal_to_stop_ends_it_with_success() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let setup = Setup::new();
        let mut daemon = setup.start("");
        assert!(daemon.serves(HASH_A));
        daemon.signal(signal);
        assert_eq!(setup.notification(), "STOPPING=1");
        assert_eq!(daemon.wait().code(), Some(0));
    }
}

#[test]
fn a_worker_that_fails_ends_it_with_the_reason() {
    let setup = Setup::new();
    let mut daemon = setup.start("");
    daemon.send(b"nonsense");
    assert_eq!(setup.notification(), "STOPPING=1");
    assert_eq!(daemon.wait().code(), Some(1));
    let log = setup.log();
    let reason = "minimal ends: worker socket-1 has ended: asked for nonsense";
    assert!(log.contains(reason), "{log}");
}

#[test]
fn a_worker_that_panics_ends_it_with_the_reason() {
    let setup = Setup::new();
    let mut daemon = setup.start("");
    daemon.send(b"panic");
    // By an exit code, or by a signal if panics abort.
    assert!(!daemon.wait().success());
    let log = setup.log();
    assert!(log.contains("as requested"), "{log}");
    assert!(log.contains("socket-1"), "{log}");
    assert!(log.contains("minimal.rs:"), "{log}");
    assert!(log.contains("ERROR [socket-1]"), "{log}");
}

#[test]
fn the_reason_of_the_end_is_told_even_if_nothing_is_logged() {
    let setup = Setup::new();
    let mut daemon = setup.start("log_level = 'off'");
    daemon.send(b"nonsense");
    assert_eq!(daemon.wait().code(), Some(1));
    assert_eq!(
        setup.log(),
        "minimal ends: worker socket-1 has ended: asked for nonsense\n"
    );
}

#[test]
fn an_address_in_use_is_named() {
    let setup = Setup::new();
    let _daemon = setup.start("");
    let (code, log) = setup.fail("");
    assert_eq!(code, Some(1));
    assert!(
        log.contains(&format!("cannot bind {}: another program", setup.address)),
        "{log}"
    );
}

#[test]
fn the_access_list_is_reloaded() {
    let setup = Setup::new();
    setup.write("access-list.txt", &hex(HASH_A));
    let daemon = setup.start("[access_list]\nmode = 'allow'");
    assert!(daemon.serves(HASH_A));
    assert!(!daemon.serves(HASH_B));

    setup.write(
        "access-list.txt",
        &format!("# two\n{}\n{}\n", hex(HASH_A), hex(HASH_B)),
    );
    daemon.reload();
    assert!(daemon.serves(HASH_A));
    assert!(daemon.serves(HASH_B));
    let log = setup.log();
    assert!(log.contains("INFO"), "{log}");
    assert!(
        log.contains("access list ./access-list.txt loaded: 2 info hashes"),
        "{log}"
    );
}

#[test]
fn a_list_that_cannot_be_reloaded_stays_as_it_was() {
    let setup = Setup::new();
    let file = setup.write("list", &hex(HASH_A));
    let daemon = setup.start("[access_list]\nmode = 'deny'\npath = 'list'");

    setup.write("list", &format!("{}\n\nrubbish\n", hex(HASH_B)));
    daemon.reload();
    let log = setup.log();
    let line = log.lines().find(|line| line.contains("ERROR")).expect(&log);
    assert!(
        line.contains("keeping the previous access list: "),
        "{line}"
    );
    assert!(line.contains("list: line 3"), "{line}");

    fs::remove_file(file).unwrap();
    daemon.reload();
    assert!(
        setup
            .log()
            .contains("cannot open the access list list: No such file")
    );
    assert!(!daemon.serves(HASH_A));
    assert!(daemon.serves(HASH_B));
}

#[test]
fn a_bad_list_at_the_start_is_named() {
    let setup = Setup::new();
    setup.write("list", "rubbish");
    let (code, log) = setup.fail("[access_list]\nmode = 'deny'\npath = 'list'");
    assert_eq!(code, Some(1));
    assert!(
        log.contains("cannot use the access list list: line 1"),
        "{log}"
    );

    let (code, log) = setup.fail("[access_list]\nmode = 'allow'\npath = '/nowhere/list'");
    assert_eq!(code, Some(1));
    assert!(
        log.contains("cannot open the access list /nowhere/list"),
        "{log}"
    );
}

#[test]
fn without_a_list_none_is_read() {
    let setup = Setup::new();
    setup.write("list", "rubbish");
    let daemon = setup.start("[access_list]\nmode = 'off'\npath = 'list'");
    daemon.reload();
    assert!(daemon.serves(HASH_A));
}

#[test]
fn metrics_are_served() {
    let setup = Setup::new();
    let address = SocketAddr::new(setup.address.ip(), 9000);
    let sections = format!(
        "[metrics]\nrun_prometheus_endpoint = true\nprometheus_endpoint_address = '{address}'"
    );
    let daemon = setup.start(&sections);
    assert!(daemon.serves(HASH_A));
    assert!(daemon.serves(HASH_B));

    let mut connection = TcpStream::connect(address).unwrap();
    connection
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut page = String::new();
    connection.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    assert!(page.contains("\nminimal_requests_total 2\n"), "{page}");
    let log = setup.log();
    assert!(
        log.contains("`metrics` is now called `statistics`"),
        "{log}"
    );
}

#[test]
fn metrics_that_cannot_be_served_end_the_start() {
    let setup = Setup::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (code, log) = setup.fail(&format!(
        "[statistics]\nrun_prometheus_endpoint = true\nprometheus_endpoint_address = '{address}'"
    ));
    assert_eq!(code, Some(1));
    assert!(
        log.contains(&format!("cannot run the Prometheus endpoint at {address}")),
        "{log}"
    );
    assert!(log.contains("another program"), "{log}");
}
