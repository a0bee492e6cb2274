//! The tester's program against a tracker that misbehaves by plan and keeps book of it: the report
//! must say the same.

mod tracker;

use std::net::TcpListener;

use aquatic_test_support::load_test::Tester;
use aquatic_test_support::load_test::tester::number;
use serde_json::Value;

use crate::tracker::{DELAY, Plan};

const TESTER: Tester = Tester::new(env!("CARGO_BIN_EXE_aquatic_http_load_test"));

const POPULATION: &str = "
    number_of_torrents = 100
    number_of_peers = 1000
";

/// What is lost has waited for far longer than what the tracker or this machine delays.
const TIMES: &str = "answers = { late_after_ms = 400, lost_after_ms = 7000 }";

/// For a tracker that answers everything at once: this machine may keep it or the tester waiting.
const PATIENT: &str = "answers = { late_after_ms = 8000, lost_after_ms = 8000 }";

/// In time or, if this machine has more to do, late.
fn come(kind: &Value) -> u64 {
    number(&kind["answered"]) + number(&kind["late"])
}

#[test]
fn what_the_tracker_does_is_what_the_report_says() {
    let plan = Plan {
        delay: 499,
        refuse: 70,
        miss: 110,
        close: 130,
        hang: 997,
        confuse: 170,
        garble: 190,
        ..Plan::default()
    };
    let tracker = tracker::start("127.0.0.1:0", plan);
    let report = TESTER.report(&format!(
        "server_address = \"{}\"
        duration_seconds = 5
        network = {{ connections = 64 }}
        {TIMES}
        [requests]
        weight_announce = 10
        weight_scrape = 1
        {POPULATION}",
        tracker.address
    ));
    let book = tracker.stop();

    assert!(book.announces > 2000, "{}", book.announces);
    let announce = &report["announce"];
    assert_eq!(announce["requests"], book.announces);
    let unanswered = book.closed + book.hung + book.confused + book.garbled;
    assert_eq!(announce["lost"], unanswered);
    let refused = book.refused + book.missed;
    assert_eq!(announce["refused"], refused);
    assert_eq!(come(announce), book.announces - unanswered - refused);
    let late = number(&announce["late"]);
    assert!(late >= book.delayed, "{report}");
    // While something stands still, no more become late than there are connections.
    assert!(number(&announce["answered"]) > late, "{report}");
    let delay_micros = u64::try_from(DELAY.as_micros()).unwrap();
    assert!(number(&announce["latency_micros"]["max"]) >= delay_micros);
    assert_eq!(report["scrape"]["requests"], book.scrapes);
    assert_eq!(come(&report["scrape"]), book.scrapes);
    assert_eq!(report["peers_per_announce"], 3.0);
    let errors = &report["errors"];
    assert_eq!(errors["messages"]["not today"], book.refused);
    assert_eq!(errors["messages"]["HTTP status 404"], book.missed);
    assert_eq!(errors["closed_early"], book.closed);
    assert_eq!(errors["wrong_kind"], book.confused);
    assert_eq!(errors["malformed"], book.garbled);
    assert_eq!(errors["wrong_count"], 0);
    assert!([book.delayed, book.hung].iter().all(|count| *count > 1));
    assert_eq!(book.clients.len(), 4, "client_ips");
}

#[test]
fn requests_are_pipelined() {
    let tracker = tracker::start("127.0.0.1:0", Plan::default());
    let report = TESTER.report(&format!(
        "server_address = \"{}\"
        duration_seconds = 5
        network = {{ connections = 4, pipelining_depth = 16 }}
        {PATIENT}
        [requests]
        {POPULATION}",
        tracker.address
    ));
    let book = tracker.stop();
    assert_eq!(report["all"]["requests"], book.announces + book.scrapes);
    assert_eq!(report["all"]["requests"], report["all"]["answered"]);
    assert_eq!(report["errors"]["total"], 0);
    assert_eq!(report["connections"]["opened"], 4);
    assert!(book.scrapes > 0 && book.announces > 1000);
    assert!(report["tester_stalls"].is_null(), "it may sleep");
}

#[test]
fn each_request_may_have_a_connection_of_its_own() {
    // Connections that are left open are given up after `late_after_ms`; no other has to be.
    for (leave_open, times) in [(false, PATIENT), (true, TIMES)] {
        let plan = Plan {
            leave_open,
            close: 50,
            ..Plan::default()
        };
        let tracker = tracker::start("127.0.0.1:0", plan);
        let report = TESTER.report(&format!(
            "server_address = \"{}\"
            duration_seconds = 5
            network = {{ connections = 8, keep_alive = false }}
            {times}
            [requests]
            {POPULATION}",
            tracker.address
        ));
        let book = tracker.stop();
        let requests = book.announces + book.scrapes;
        assert_eq!(report["all"]["requests"], requests);
        assert_eq!(come(&report["all"]), requests - book.closed);
        assert_eq!(book.connections, requests);
        assert_eq!(report["connections"]["opened"], requests);
        assert_eq!(report["errors"]["closed_early"], book.closed);
        if leave_open {
            // All but the last ones, which the end of the run forestalls.
            let not_closed = number(&report["errors"]["not_closed"]);
            assert!(
                not_closed + book.closed + 8 >= requests && not_closed > 8,
                "{report}"
            );
        } else {
            assert!(book.announces > 500, "{}", book.announces);
            assert_eq!(report["errors"]["not_closed"], 0);
        }
    }
}

#[test]
fn tls_sessions_are_resumed_or_not() {
    let plan = Plan {
        tls: true,
        ..Plan::default()
    };
    for resumption in [true, false] {
        let tracker = tracker::start("127.0.0.1:0", plan);
        let report = TESTER.report(&format!(
            "server_address = \"{}\"
            duration_seconds = 5
            {PATIENT}
            [network]
            connections = 8
            keep_alive = false
            enable_tls = true
            tls_resumption = {resumption}
            tls_post_quantum = {resumption}
            [requests]
            {POPULATION}",
            tracker.address
        ));
        let book = tracker.stop();
        let requests = book.announces + book.scrapes;
        assert_eq!(report["all"]["requests"], requests);
        assert_eq!(report["all"]["answered"], requests);
        assert_eq!(report["errors"]["total"], 0);
        let connections = &report["connections"];
        assert_eq!(connections["opened"], requests);
        let full = if resumption { 8 } else { requests };
        assert_eq!(connections["full_handshakes"], full);
        assert_eq!(connections["resumed_handshakes"], requests - full);
        assert!(requests > 50, "{requests}");
    }
}

#[test]
fn a_rate_is_kept_over_ipv6_and_the_tracker_is_observed() {
    let plan = Plan {
        answers_per_connection: 100,
        ..Plan::default()
    };
    let tracker = tracker::start("[::1]:0", plan);
    let report = TESTER.report(&format!(
        "server_address = \"{}\"
        duration_seconds = 2
        rate_per_second = 1000
        workers = 2
        tracker_pid = {}
        network = {{ client_ips = [\"::1\"], connections = 16 }}
        {PATIENT}
        requests = {{ number_of_torrents = 100, number_of_peers = 1000 }}",
        tracker.address,
        std::process::id(),
    ));
    let book = tracker.stop();

    let all = &report["all"];
    let requests = number(&all["requests"]);
    // 2,000 are expected; their number has a standard deviation of 45.
    assert!((1_750..2_250).contains(&requests), "{requests}");
    // A request may be on its way while the tracker closes.
    let lost = number(&all["lost"]);
    assert_eq!(number(&report["errors"]["closed_early"]), lost);
    assert_eq!(requests - lost, book.announces + book.scrapes);
    // The tester may be gone before the close that comes after a worker's very last answer.
    let closed = number(&report["connections"]["closed_idle"]) + lost;
    assert!(
        (book.closed_idle - 2..=book.closed_idle).contains(&closed),
        "{report}"
    );
    assert!(book.closed_idle > 3);
    let stalls = &report["tester_stalls"];
    assert!(number(&stalls["total_micros"]) >= number(&stalls["longest_micros"]));
    // Absent if this machine was too busy to look at the right moment.
    if let Some(process) = report["tracker_process"].as_object() {
        assert!(number(&process["resident_bytes"]) > 1 << 20);
    }
}

#[test]
fn idle_connections_announce_once() {
    let plan = Plan {
        tls: true,
        refuse: 10,
        close: 60,
        ..Plan::default()
    };
    let tracker = tracker::start("127.0.0.1:0", plan);
    let report = TESTER.report(&format!(
        "server_address = \"{}\"
        workers = 2
        tracker_pid = {}
        network = {{ connections = 300, enable_tls = true }}
        idle = {{ enabled = true, hold_seconds = 5 }}
        {PATIENT}
        [requests]
        {POPULATION}",
        tracker.address,
        std::process::id(),
    ));
    let book = tracker.stop();
    assert_eq!((book.announces, book.closed), (300, 5));
    assert_eq!(report["refused"], book.refused);
    assert_eq!(report["lost"], book.closed);
    // Those that had been closed are open again.
    assert_eq!(report["open"], 300);
    assert_eq!(report["connections"]["opened"], 305);
    assert!(number(&report["memory"]["resident_bytes_before"]) > 1 << 20);
    assert!(report["memory"]["bytes_per_connection"].as_f64() > Some(1000.0));
}

#[test]
fn an_absent_tracker_is_named() {
    // A port that was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let output = TESTER.run(&format!("server_address = \"{address}\""));
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains(&format!("cannot connect to {address}")),
        "{errors}"
    );
}

#[test]
fn the_printed_configuration_is_accepted() {
    TESTER.accepts_what_it_prints();
}
