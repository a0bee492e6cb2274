//! Figures for people, as a browser or a program of theirs meets them.

use std::collections::BTreeSet;
use std::fs;

use aquatic_types::IpFamily;
use serde_json::Value;

use crate::connection::{Answer, Connection, Transport};
use crate::program::localhost;
use crate::wait::{until, until_ok};
use crate::{Daemon, Place, Program, Setup, metrics, torrent};

/// What a page, its figures and its history may have together.
const PAGE_BYTES_MAX: usize = 60 << 10;

/// What operators read.
const DOCUMENT: &str = include_str!("../../../../documents/metrics.md");

/// Asks the operator's endpoint for a path.
#[must_use]
pub fn get(daemon: &Daemon, path: &str) -> Answer {
    let address = daemon.place.metrics_address();
    let mut endpoint = Connection::open(localhost(IpFamily::V4), address, Transport::Plain);
    endpoint.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    endpoint.answer()
}

/// What a path of the endpoint says as JSON.
#[must_use]
pub fn json(daemon: &Daemon, path: &str) -> Value {
    let answer = get(daemon, path);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    serde_json::from_slice(&answer.body).unwrap()
}

/// Waits until the figures at these places of `/stats.json` are what the metrics say.
pub fn wait_until_equal(daemon: &Daemon, pairs: &[(&str, &str)]) {
    until_ok(|| {
        let (stats, samples) = (json(daemon, "/stats.json"), metrics::scrape(daemon));
        let different = pairs.iter().find_map(|(pointer, selector)| {
            let figure = stats.pointer(pointer).and_then(Value::as_f64);
            let metric = metrics::sum(&samples, selector);
            (figure != Some(metric)).then(|| format!("{pointer}: {figure:?}, not {metric}"))
        });
        different.map_or(Ok(()), Err)
    });
}

/// `/stats.json` says what Prometheus is told.
pub fn figures_are_those_of_the_metrics(program: &'static Program) {
    let daemon = Setup::simple(program).start_with_metrics("");
    let mut clients = Vec::new();
    for family in IpFamily::ALL {
        let mut client = program.client_of(&daemon, family);
        for port in 1..4 {
            client.join(torrent(1), port).unwrap();
        }
        client.join(torrent(2), 1).unwrap();
        client.leechers(&[torrent(1)]);
        // Over WebSocket, peers stay as long as their connection.
        clients.push(client);
    }
    metrics::wait_for(&daemon, &[("aquatic_peers", 8.0)]);
    wait_until_equal(
        &daemon,
        &[
            ("/torrents", "aquatic_torrents"),
            ("/peers", "aquatic_peers"),
            ("/seeders", "aquatic_seeders"),
            ("/leechers", "aquatic_leechers"),
            ("/completed", "aquatic_completed_downloads_total"),
            ("/ipv4/leechers", "aquatic_leechers{ip_version=4}"),
            ("/ipv6/torrents", "aquatic_torrents{ip_version=6}"),
            (
                "/ipv6/requests/announce",
                "aquatic_requests_by_type_total{ip_version=6,type=announce}",
            ),
            (
                "/ipv4/responses/scrape",
                "aquatic_responses_total{ip_version=4,type=scrape}",
            ),
            (
                "/ipv4/received_bytes",
                "aquatic_rx_bytes_total{ip_version=4}",
            ),
            ("/ipv6/sent_bytes", "aquatic_tx_bytes_total{ip_version=6}"),
            ("/process/open_files_max", "process_max_fds"),
        ],
    );
    let stats = json(&daemon, "/stats.json");
    assert_eq!(stats["version"], program.version);
    assert_eq!(stats["program"], program.name);
    let is_worker = |thread: &Value| thread["name"].as_str() == Some("socket-0");
    assert!(stats["threads"].as_array().unwrap().iter().any(is_worker));
    let rate = || {
        let stats = json(&daemon, "/stats.json");
        stats["rates"]["requests"]
            .as_f64()
            .filter(|rate| *rate > 0.0)
    };
    // Rates are known as soon as there is something to compare with.
    program
        .client_of(&daemon, IpFamily::V4)
        .leechers(&[torrent(1)]);
    until("requests have a rate", rate);
}

/// `documents/metrics.md` has every figure.
pub fn every_figure_is_documented(program: &'static Program) {
    let daemon = Setup::simple(program).start_with_metrics("");
    let stats = json(&daemon, "/stats.json");
    let (_, section) = DOCUMENT.split_once("## stats.json").unwrap();
    let section = section.split_once("\n## ").map_or(section, |(own, _)| own);
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<_> = cells
        .flat_map(|line| line.split('|').next().unwrap_or_default().split('`'))
        .map(str::trim)
        .filter(|name| name.starts_with(|first: char| first.is_ascii_lowercase()))
        .collect();
    let top: BTreeSet<_> = stats
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let missing: Vec<_> = top.difference(&documented).collect();
    assert!(missing.is_empty(), "not documented: {missing:?}");
    let below: BTreeSet<_> = ["ipv4", "rates", "process"]
        .into_iter()
        .flat_map(|key| stats[key].as_object().unwrap().keys())
        .map(String::as_str)
        .collect();
    let missing: Vec<_> = below.difference(&documented).collect();
    assert!(missing.is_empty(), "not documented: {missing:?}");
}

/// The page and what it asks for are small, are kept nowhere, and may load nothing else.
pub fn a_page_shows_the_figures(program: &'static Program) {
    let daemon = Setup::simple(program).start_with_metrics("");
    let page = get(&daemon, "/");
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let policy = page.header("content-security-policy").unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    let again = get(&daemon, "/");
    let other = again.header("content-security-policy").unwrap();
    assert_ne!(policy, other, "a nonce is used once");
    let html = String::from_utf8(page.body.clone()).unwrap();
    assert!(
        html.contains(&format!("<h1>{}</h1>", program.name)),
        "{html}"
    );
    assert!(html.contains(program.version), "{html}");
    let asked = ["/stats.json", "/history.json"].map(|path| get(&daemon, path).body.len());
    let bytes = page.body.len() + asked.iter().sum::<usize>();
    assert!(bytes < PAGE_BYTES_MAX, "{bytes}");
    assert_eq!(get(&daemon, "/history.json?after=no").status, 400);
    let history = json(&daemon, "/history.json");
    assert_eq!(history["slot_seconds"], 10);
}

/// The page without a script is written to a file, by whatever tracker.
pub fn figures_are_written_to_a_file(program: &'static Program) {
    let section = program.metrics_section;
    let settings = format!(
        "{section}.interval = 1\n{section}.write_html_to_file = true\n\
         {section}.html_file_path = 'new/folder/page.html'\n{section}.print_to_stdout = true\n"
    );
    let place = Place::new();
    let daemon = place.start(Setup::simple(program), &settings);
    let mut client = program.client_of(&daemon, IpFamily::V4);
    (1..=7).for_each(|port| drop(client.join(torrent(1), port)));
    let page = daemon.place.path("new/folder/page.html");
    until("the file shows the peers", || {
        let html = fs::read_to_string(&page).ok()?;
        assert!(html.trim_end().ends_with("</html>"), "a whole page: {html}");
        let is_right = html.contains(">7<") && html.contains(program.name);
        is_right.then_some(())
    });
    until_ok(|| {
        let printed = daemon.place.read("stdout");
        match printed.contains("announce requests/s") {
            true => Ok(()),
            false => Err(format!("no requests in what is printed: {printed}")),
        }
    });
}
