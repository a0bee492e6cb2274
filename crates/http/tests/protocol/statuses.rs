//! What is wrong with the HTTP itself, and its statuses.

use aquatic_test_support::{metrics, torrent};
use aquatic_types::IpFamily;

use super::client::{Client, LEECHER, SEEDER, announce, get, row, scrape};
use super::setup::{Tracker, on_every_case, on_every_case_and_family, on_every_runtime};

/// Sends this on a new connection, and expects a status with words, and the end.
#[track_caller]
fn assert_refused(tracker: &Tracker, request: impl AsRef<[u8]>, status: u16) {
    for family in IpFamily::ALL {
        let mut connection = Client::new(tracker, family).connection;
        connection.send(request.as_ref());
        let answer = connection.answer();
        let text = request.as_ref().escape_ascii().to_string();
        assert_eq!(answer.status, status, "{text:.200}");
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(!answer.body.is_empty());
        connection.assert_ends();
    }
}

#[test]
fn other_paths_are_not_found() {
    const PATHS: [&str; 10] = [
        "//",
        "/?info_hash=x",
        "/favicon.ico",
        "/robots.txt",
        "/metrics",
        "/announcer",
        "/unannounced",
        "/announces/x",
        "/scraper?info_hash=x",
        "*",
    ];
    on_every_case(|case| {
        let tracker = case.start_with_metrics("");
        for family in IpFamily::ALL {
            let mut client = Client::new(&tracker, family);
            for path in PATHS {
                let answer = client.get(path);
                assert_eq!(answer.status, 404, "{path}");
                assert_eq!(answer.header("content-type"), Some("text/plain"));
            }
            // The connection is as good as before.
            client.join(torrent(1), 1, LEECHER);
        }
        metrics::wait_for(&tracker, &[("aquatic_refused_total{reason=path}", 20.0)]);
    });
}

#[test]
fn other_methods_are_not_allowed() {
    on_every_runtime(|case| {
        let tracker = case.start_with_metrics("");
        let target = announce(torrent(1), 1, LEECHER);
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
            let request = get(&target).replacen("GET", method, 1);
            assert_refused(&tracker, &request, 405);
        }
        let mut connection = Client::new(&tracker, IpFamily::V4).connection;
        connection.send(get(&target).replacen("GET", "POST", 1));
        assert_eq!(connection.answer().header("allow"), Some("GET, HEAD"));
        metrics::wait_for(&tracker, &[("aquatic_refused_total{reason=method}", 13.0)]);
    });
}

#[test]
fn a_body_is_refused() {
    on_every_runtime(|case| {
        let tracker = case.start("");
        let target = announce(torrent(1), 1, LEECHER);
        for header in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
            let request = format!("GET {target} HTTP/1.1\r\n{header}\r\n\r\nhello");
            assert_refused(&tracker, &request, 400);
        }
        let mut connection = Client::new(&tracker, IpFamily::V4).connection;
        let request = format!("GET {target} HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
        connection.send(request);
        assert_eq!(connection.answer().status, 200);
    });
}

#[test]
fn load_balancers_and_people_see_that_it_is_there() {
    on_every_case(|case| {
        for behind_proxy in ["", "network.runs_behind_reverse_proxy = true"] {
            let tracker = case.start(behind_proxy);
            for family in IpFamily::ALL {
                let mut client = Client::new(&tracker, family);
                for (target, text) in [("/health", "ok"), ("/health?x", "ok"), ("/", "tracker")] {
                    let answer = client.get(target);
                    assert_eq!(answer.status, 200, "{target}");
                    assert_eq!(answer.header("content-type"), Some("text/plain"));
                    let body = String::from_utf8(answer.body).unwrap();
                    assert!(body.contains(text), "{target}: {body}");
                }
                assert!(!client.get("/healthy").body.starts_with(b"ok"));
            }
        }
        let tracker = case.start("network.enable_http_health_checks = false");
        let mut client = Client::new(&tracker, IpFamily::V4);
        for target in ["/health", "/"] {
            assert_eq!(client.get(target).status, 404, "{target}");
        }
    });
}

#[test]
fn head_does_not_change_the_swarm() {
    on_every_case_and_family("", |tracker, family| {
        let hash = torrent(if family == IpFamily::V4 { 1 } else { 2 });
        let mut client = Client::new(tracker, family);
        let whole = client.get(&announce(hash, 1, LEECHER));
        for event in ["", "&event=started", "&event=completed", "&event=stopped"] {
            for port in [1, 2] {
                let target = announce(hash, port, SEEDER) + event;
                client
                    .connection
                    .send(get(&target).replacen("GET", "HEAD", 1));
                let answer = client.connection.answer_to_head();
                assert_eq!(answer.status, 200);
                let is_size = |(name, _): &&(String, String)| name != "content-length";
                let headers: Vec<_> = whole.headers.iter().filter(is_size).collect();
                assert_eq!(answer.headers.iter().collect::<Vec<_>>(), headers);
            }
        }
        assert_eq!(client.scrape(&[hash]), [row(0, 0, 1)]);
        // Connections of HTTP/1.0 end as after GET.
        let request = get(&announce(hash, 3, SEEDER)).replacen("GET", "HEAD", 1);
        client
            .connection
            .send(request.replacen("HTTP/1.1", "HTTP/1.0", 1));
        let answer = client.connection.answer_to_head();
        assert_eq!(answer.header("connection"), Some("close"));
        client.connection.assert_ends();
    });
}

#[test]
fn head_is_get_without_a_body() {
    on_every_case(|case| {
        let tracker = case.start("");
        let mut client = Client::new(&tracker, IpFamily::V4);
        client.join(torrent(1), 1, SEEDER);
        for target in [
            scrape(&[torrent(1)]),
            "/announce?".into(),
            "/".into(),
            "/health".into(),
            "/nowhere".into(),
        ] {
            let whole = client.get(&target);
            for _ in 0..3 {
                let request = get(&target).replacen("GET", "HEAD", 1);
                client.connection.send(request);
                let answer = client.connection.answer_to_head();
                assert_eq!(answer.status, whole.status);
                assert_eq!(answer.headers, whole.headers);
            }
        }
        client.join(torrent(1), 2, LEECHER);
    });
}

#[test]
fn what_is_no_http_is_told_so() {
    const NONSENSE: [&[u8]; 10] = [
        b"hello\r\n\r\n",
        b"\r\n\r\nhello world\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /announce\r\n\r\n",
        b"GET /announce HTTP/2.0\r\n\r\n",
        b"GET /announce SPDY/1.1\r\n\r\n",
        b"GET /announce HTTP/1.1\r\nno header\r\n\r\n",
        b"GET /announce HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00\x01\x02\x03\xff\xfe\xfd\xfc",
    ];
    on_every_runtime(|case| {
        let tracker = case.start_with_metrics("");
        for request in NONSENSE {
            assert_refused(&tracker, request, 400);
        }
        let count = 2.0 * f64::from(u8::try_from(NONSENSE.len()).unwrap());
        metrics::wait_for(
            &tracker,
            &[
                ("aquatic_refused_total{reason=malformed}", count),
                ("aquatic_responses_total{type=error}", count),
            ],
        );
    });
}

/// A request whose head has exactly this size.
fn head_of(size: usize) -> String {
    let start = format!(
        "GET {} HTTP/1.1\r\nHost: tracker\r\nCookie: ",
        announce(torrent(1), 1, LEECHER)
    );
    let end = "\r\n\r\n";
    let filling = "x".repeat(size - start.len() - end.len());
    format!("{start}{filling}{end}")
}

#[test]
fn heads_of_16_kib_are_read() {
    on_every_runtime(|case| {
        let tracker = case.start("");
        for family in IpFamily::ALL {
            let mut client = Client::new(&tracker, family);
            for size in [4_096, 16_383, 16_384] {
                client.connection.send(head_of(size));
                assert_eq!(client.connection.answer().status, 200, "{size}");
                // Two of them together, and a small one behind them.
                client
                    .connection
                    .send(head_of(size).repeat(2) + &get("/scrape"));
                let statuses: Vec<_> = (0..3).map(|_| client.connection.answer().status).collect();
                assert_eq!(statuses, [200; 3]);
            }
        }
    });
}

#[test]
fn larger_heads_are_refused() {
    on_every_runtime(|case| {
        let tracker = case.start_with_metrics("");
        assert_refused(&tracker, head_of(20_000), 431);
        assert_refused(&tracker, head_of(100_000), 431);
        // One that does not end.
        let endless = head_of(64 * 1024).replace("\r\n\r\n", "");
        assert_refused(&tracker, endless, 431);
        let long_target = format!("/announce?{}", "x".repeat(30_000));
        assert_refused(&tracker, get(&long_target), 431);
        metrics::wait_for(
            &tracker,
            &[("aquatic_refused_total{reason=head_too_large}", 8.0)],
        );
    });
}

#[test]
fn header_lines_are_counted() {
    let request = |lines: u32| {
        let line = |number| format!("X-Header-{number}: {number}\r\n");
        let lines: String = (0..lines).map(line).collect();
        let target = announce(torrent(1), 1, LEECHER);
        format!("GET {target} HTTP/1.1\r\n{lines}\r\n")
    };
    on_every_runtime(|case| {
        let tracker = case.start("");
        let mut client = Client::new(&tracker, IpFamily::V4);
        for lines in [0, 1, 64, 100] {
            client.connection.send(request(lines));
            assert_eq!(client.connection.answer().status, 200, "{lines}");
        }
        assert_refused(&tracker, request(1_000), 431);
    });
}
