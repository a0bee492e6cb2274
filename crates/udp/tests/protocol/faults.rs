//! What happens where the kernel says no: system calls that fail, by a seccomp filter such as
//! container runtimes use.

use aquatic_test_support::faults::spawn_without;
use aquatic_test_support::network::{alone, change_loopback_address};
use aquatic_test_support::threads::Frozen;
use aquatic_test_support::wait::until;
use aquatic_test_support::{Daemon, Place, Setup, metrics, torrent, torrents};
use aquatic_types::IpFamily;
use libc::{
    EAGAIN, EBADF, EINVAL, ENOMEM, ENOSYS, EPERM, SYS_io_uring_enter, SYS_io_uring_register,
    SYS_io_uring_setup, SYS_recvmmsg, SYS_sendmmsg,
};

use super::client::Client;
use super::setup::{SIMPLE, UDP, backends};

fn with_backend(backend: &'static str) -> Setup {
    Setup {
        runtime: backend,
        ..SIMPLE
    }
}

#[test]
fn auto_needs_no_io_uring() {
    for errno in [EPERM, ENOSYS] {
        let place = Place::new();
        let child = spawn_without(&place, SYS_io_uring_setup, errno, with_backend("auto"), "");
        let daemon = place.wait_for(child);
        let log = daemon.place.log();
        assert!(
            log.contains("backend: mio (io_uring cannot be used: "),
            "{log}"
        );
        for family in IpFamily::ALL {
            assert_eq!(
                Client::new(&daemon, family).join(torrent(1), 1, 1).leechers,
                1
            );
        }
    }
}

#[test]
fn auto_takes_io_uring_where_it_works() {
    let works = backends().contains(&"io_uring");
    for workers in [1, 3] {
        let setting = format!("socket_workers = {workers}");
        let daemon = with_backend("auto").start(&setting);
        Client::new(&daemon, IpFamily::V4);
        assert_eq!(daemon.has_io_uring(), works);
        let log = daemon.place.log();
        assert_eq!(log.contains("backend: io_uring\n"), works, "{log}");
    }
}

#[test]
fn auto_serves_whatever_is_logged() {
    for level in ["off", "error", "warn", "debug"] {
        let daemon = with_backend("auto").start(&format!("log_level = '{level}'"));
        let mut client = Client::new(&daemon, IpFamily::V4);
        assert_eq!(client.join(torrent(1), 1, 1).leechers, 1, "{level}");
    }
}

/// Sandboxes imitate a part of io_uring: whatever is missing, `auto` does without.
#[test]
fn auto_needs_no_part_of_io_uring() {
    for (call, errno) in [
        (SYS_io_uring_setup, ENOMEM),
        (SYS_io_uring_register, EINVAL),
        (SYS_io_uring_register, ENOMEM),
        (SYS_io_uring_enter, EPERM),
    ] {
        let place = Place::new();
        let settings = "socket_workers = 2";
        let child = spawn_without(&place, call, errno, with_backend("auto"), settings);
        let daemon = place.wait_for(child);
        assert!(daemon.place.log().contains("backend: mio ("));
        for info_hash in torrents() {
            let mut client = Client::new(&daemon, IpFamily::V4);
            assert_eq!(client.join(info_hash, 1, 1).leechers, 1);
        }
    }
}

#[test]
fn a_backend_that_is_asked_for_is_taken() {
    for backend in backends() {
        let daemon = with_backend(backend).start("");
        // When it answers, it has what it works with.
        Client::new(&daemon, IpFamily::V4);
        assert_eq!(daemon.has_io_uring(), backend == "io_uring");
    }
}

#[test]
fn without_io_uring_who_insists_on_it_is_told() {
    for (errno, hint) in [(EPERM, "forbidden"), (ENOSYS, "does not have it")] {
        let place = Place::new();
        let setup = with_backend("io_uring");
        let child = spawn_without(&place, SYS_io_uring_setup, errno, setup, "");
        let ended = place.end(child);
        assert_eq!(ended.code, Some(1));
        let reason = "aquatic_udp ends: `network.backend` is io_uring: io_uring cannot be used: ";
        let line = ended
            .log
            .lines()
            .find(|line| line.contains(reason))
            .unwrap();
        assert!(line.contains(hint), "{line}");
    }
}

#[test]
fn a_worker_that_cannot_go_on_ends_the_process() {
    let place = Place::new();
    let child = spawn_without(&place, SYS_recvmmsg, EBADF, SIMPLE, "");
    let ended = place.end(child);
    assert_eq!(ended.code, Some(1));
    let reason = "aquatic_udp ends: worker socket-0 has ended: cannot receive at 127.0.0.1";
    assert!(ended.log.contains(reason), "{}", ended.log);
}

#[test]
fn answers_that_cannot_be_sent_are_counted() {
    let cases = [
        (EPERM, 0, "aquatic_dropped_total{reason=send_failed}", 10.0),
        (
            EAGAIN,
            0,
            "aquatic_dropped_total{reason=send_buffer_full}",
            10.0,
        ),
        (
            EAGAIN,
            3,
            "aquatic_dropped_total{reason=send_buffer_full}",
            7.0,
        ),
    ];
    for (errno, resend_len_max, counter, count) in cases {
        let place = Place::new();
        let settings = format!(
            "{}network.resend_buffer_max_len = {resend_len_max}",
            place.metrics_settings(&UDP)
        );
        let child = spawn_without(&place, SYS_sendmmsg, errno, SIMPLE, &settings);
        let daemon = place.wait_for(child);
        let client = Client::stranger(&daemon, IpFamily::V4);
        for _ in 0..10 {
            client.send(&client.connect_request());
        }
        metrics::wait_for(
            &daemon,
            &[("aquatic_requests_total", 10.0), (counter, count)],
        );
        assert!(client.received().is_empty());
        if errno == EAGAIN {
            daemon.wait_for_warning(
                "answers lost, since a send buffer was full: ",
                "`network.socket_send_buffer_size`",
            );
        }
        until("it still works", || {
            (metrics::scrape(&daemon).len() > 10).then_some(())
        });
    }
}

/// How often its kernel has known no way for a datagram.
fn without_route(daemon: &Daemon) -> u64 {
    let counters = std::fs::read_to_string(daemon.proc("net/snmp")).unwrap();
    let mut lines = counters.lines().filter(|line| line.starts_with("Ip: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut all = names.split(' ').zip(values.split(' '));
    let (_, count) = all.find(|(name, _)| *name == "OutNoRoutes").unwrap();
    count.parse().unwrap()
}

/// The interface loses its address while the tracker answers.
#[test]
fn an_answer_without_a_way_is_lost_alone() {
    alone(|| {
        for backend in backends() {
            let daemon = with_backend(backend).start_with_metrics("");
            let mut client = Client::new(&daemon, IpFamily::V4);
            let worker = Frozen::named(&daemon, "socket-0");
            client.send(&client.connect_request());
            change_loopback_address("del");
            let before = without_route(&daemon);
            worker.let_go();
            until("the answer has no way", || {
                (without_route(&daemon) > before).then_some(())
            });
            change_loopback_address("add");
            assert_eq!(client.join(torrent(1), 1, 1).leechers, 1);
            let failed = "aquatic_dropped_total{reason=send_failed}";
            metrics::wait_for(&daemon, &[(failed, 1.0)]);
        }
    });
}
