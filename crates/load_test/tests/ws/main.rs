//! The tester's program against a tracker that misbehaves by plan and keeps book of it: the report
//! must say the same.

mod tracker;

use std::thread;

use aquatic_test_support::load_test::Tester;
use aquatic_test_support::load_test::tester::number;
use serde_json::Value;

use crate::tracker::{DELAY, Plan};

const TESTER: Tester = Tester::new(env!("CARGO_BIN_EXE_aquatic_ws_load_test"));

/// What is lost has waited for far longer than what the tracker or this machine delays.
fn report(config: &str) -> Value {
    TESTER.report(&format!(
        "requests = {{
            number_of_torrents = 10, torrents_per_connection = 2, offers_per_announce = 3,
            weight_announce = 10, path = \"/announce\"
        }}
        answers = {{ late_after_ms = 1000, lost_after_ms = 7000 }}
        {config}"
    ))
}

/// In time or, if this machine has more to do, late.
fn come(kind: &Value) -> u64 {
    number(&kind["answered"]) + number(&kind["late"])
}

#[test]
fn offers_and_answers_are_followed() {
    // At once, because most of the time the testers wait for what is lost.
    thread::scope(|scope| {
        for (workers, is_tls) in [(1, false), (3, true)] {
            scope.spawn(move || follow(workers, is_tls));
        }
    });
}

fn follow(workers: usize, is_tls: bool) {
    let plan = Plan {
        lose_answer: 50,
        refuse_answer: 70,
        ping: 30,
        tls: is_tls,
        reply_to_answers: is_tls,
        ..Plan::default()
    };
    let tracker = tracker::start("127.0.0.1:0", plan);
    let report = report(&format!(
        "server_address = \"{}\"
        duration_seconds = 4
        workers = {workers}
        network = {{ connections = 32, enable_tls = {is_tls} }}",
        tracker.address
    ));
    let book = tracker.stop();

    for (kind, requests) in [
        ("announce", book.announces),
        ("scrape", book.scrapes),
        ("offer", book.offers),
    ] {
        assert_eq!(report[kind]["requests"], requests, "{kind}");
        assert_eq!(come(&report[kind]), requests, "{kind}");
    }
    // Those to answers that are sent after the window are not measured.
    let replies = come(&report["re_answer"]);
    if is_tls {
        assert!(replies <= book.answers && replies > book.answers / 2);
    } else {
        assert_eq!(replies, 0);
    }
    let answer = &report["answer"];
    assert_eq!(answer["requests"], book.answers);
    assert_eq!(book.answers, book.offers);
    // What a refusal was about is not known: one that comes after the window refuses nothing
    // that was measured, and its answer counts as lost.
    let (lost, refused) = (number(&answer["lost"]), number(&answer["refused"]));
    assert_eq!(lost + refused, book.lost_answers + book.refused_answers);
    assert!(lost >= book.lost_answers && refused > 0, "{report}");
    assert_eq!(
        report["errors"]["messages"]["not today"],
        book.refused_answers
    );
    assert_eq!(report["errors"]["total"], book.refused_answers);
    assert_eq!(report["connections"]["opened"], 32);
    assert_eq!(book.clients.len(), 4, "client_ips");
    assert_eq!(book.pongs, book.pings);
    assert!(book.pings > 1 && book.lost_answers > 1, "{}", book.answers);
    check_rates(&report);
}

/// The table of messages tells the same as the kinds do.
fn check_rates(report: &Value) {
    for (table, column) in [
        ("messages_in_per_second", "requests_per_second"),
        ("messages_out_per_second", "answers_per_second"),
    ] {
        for kind in ["announce", "scrape", "answer"] {
            assert_eq!(report[table][kind], report[kind][column], "{table}, {kind}");
        }
    }
    let out = &report["messages_out_per_second"];
    assert_eq!(out["all"], report["all"]["answers_per_second"]);
    assert_eq!(report["messages_in_per_second"]["offer"], 0.0);
    let per_announce = report["peers_per_announce"].as_f64().unwrap();
    assert!((1.0..=3.0).contains(&per_announce), "{per_announce}");
}

#[test]
fn what_the_tracker_does_is_what_the_report_says() {
    let plan = Plan {
        delay: 199,
        refuse: 70,
        close: 130,
        hang: 397,
        confuse: 371,
        garble: 190,
        forbid: 17,
        ..Plan::default()
    };
    let tracker = tracker::start("127.0.0.1:0", plan);
    let report = report(&format!(
        "server_address = \"{}\"
        duration_seconds = 5
        network = {{ connections = 64 }}",
        tracker.address
    ));
    let book = tracker.stop();

    assert!(book.announces > 1000, "{}", book.announces);
    let announce = &report["announce"];
    assert_eq!(announce["requests"], book.announces);
    let unanswered = book.closed + book.hung + book.confused + book.garbled;
    assert_eq!(announce["lost"], unanswered);
    assert_eq!(announce["refused"], book.refused);
    assert_eq!(come(announce), book.announces - unanswered - book.refused);
    let late = number(&announce["late"]);
    assert!(late >= book.delayed, "{report}");
    // While something stands still, no more become late than there are connections.
    assert!(number(&announce["answered"]) > late, "{report}");
    let delay_micros = u64::try_from(DELAY.as_micros()).unwrap();
    assert!(number(&announce["latency_micros"]["max"]) >= delay_micros);
    let errors = &report["errors"];
    assert_eq!(errors["messages"]["not today"], book.refused);
    assert_eq!(errors["closed_early"], book.closed);
    assert_eq!(errors["connect_failed"], book.forbidden);
    assert_eq!(errors["wrong_kind"], book.confused);
    assert_eq!(errors["malformed"], book.garbled);
    assert_eq!(report["connections"]["opened"], book.connections);
    for count in [book.delayed, book.hung, book.confused, book.forbidden] {
        assert!(count > 1, "{count}");
    }
}

#[test]
fn a_rate_is_kept_over_ipv6_and_the_tracker_is_observed() {
    let tracker = tracker::start("[::1]:0", Plan::default());
    let report = report(&format!(
        "server_address = \"{}\"
        duration_seconds = 2
        rate_per_second = 300
        tracker_pid = {}
        network = {{ client_ips = [\"::1\"], connections = 16 }}",
        tracker.address,
        std::process::id(),
    ));
    let book = tracker.stop();
    let requests = number(&report["announce"]["requests"]) + number(&report["scrape"]["requests"]);
    // 600 are expected; their number has a standard deviation of 24.
    assert!((460..740).contains(&requests), "{requests}");
    assert_eq!(requests, book.announces + book.scrapes);
    assert_eq!(report["all"]["lost"], 0);
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
    let report = report(&format!(
        "server_address = \"{}\"
        workers = 2
        tracker_pid = {}
        network = {{ connections = 200, enable_tls = true }}
        idle = {{ enabled = true, hold_seconds = 5 }}",
        tracker.address,
        std::process::id(),
    ));
    let book = tracker.stop();
    assert_eq!((book.announces, book.closed), (200, 3));
    assert_eq!(report["refused"], book.refused);
    assert_eq!(report["lost"], book.closed);
    // Those that had been closed are open again.
    assert_eq!(report["open"], 200);
    assert_eq!(report["connections"]["opened"], 203);
    assert!(report["memory"]["bytes_per_connection"].as_f64() > Some(1000.0));
}

#[test]
fn the_printed_configuration_is_accepted() {
    TESTER.accepts_what_it_prints();
}
