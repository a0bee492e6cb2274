//! Metrics as a monitoring system meets them. What they count is for each daemon's own tests.

use std::collections::BTreeSet;
use std::env;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use aquatic_daemon::clock::wall_time;
use aquatic_types::IpFamily;

use crate::connection::{Connection, Transport, tcp};
use crate::faults::spawn_with_limit;
use crate::identity::{Identity, TLS, USUAL};
use crate::operations::figures;
use crate::program::localhost;
use crate::wait::{until, until_ok};
use crate::{Client, Daemon, Place, Program, Setup, metrics, torrent};

/// Connections to the metrics that are held at once.
const CONNECTIONS_MAX: usize = 16;

/// What operators read.
const DOCUMENT: &str = include_str!("../../../../documents/metrics.md");

/// Connections that ask for nothing, nearly as many as the tracker may have files, are given up;
/// clients and Prometheus are served.
pub fn idle_connections_to_the_metrics_take_no_files_from_clients(program: &'static Program) {
    const IDLE: usize = 95;
    let place = Place::new();
    let settings = place.metrics_settings(program);
    let child = spawn_with_limit(&place, "--nofile=100", Setup::simple(program), &settings);
    let daemon = place.wait_for(child);
    let connect = |_| {
        let stream = tcp(localhost(IpFamily::V4), daemon.place.metrics_address()).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    };
    let mut idle: Vec<_> = (0..IDLE).map(connect).collect();
    until("idle connections are given up", || {
        idle.retain_mut(is_open);
        (idle.len() <= CONNECTIONS_MAX).then_some(())
    });
    let mut clients: Vec<_> = (0..10)
        .map(|_| program.client_of(&daemon, IpFamily::V4))
        .collect();
    for (client, port) in clients.iter_mut().zip(1..) {
        assert_eq!(client.join(torrent(1), port), Ok(u32::from(port)));
    }
    metrics::wait_for(&daemon, &[("aquatic_peers", 10.0)]);
}

fn is_open(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// A port of 0 is told as what it has become.
pub fn the_log_says_where_metrics_are(program: &'static Program) {
    let place = Place::new();
    let settings = place.metrics_settings(program).replace(
        &place.metrics_address().to_string(),
        &SocketAddr::new(localhost(IpFamily::V4), 0).to_string(),
    );
    let daemon = place.start(Setup::simple(program), &settings);
    let log = daemon.place.log();
    let (_, rest) = log.split_once("metrics at http://").expect(&log);
    let (address, _) = rest.split_once("/metrics\n").expect(&log);
    let page = format!("live page at http://{address}/\n");
    assert!(log.contains(&page), "{log}");
    let mut endpoint = connect(address.parse().unwrap());
    for path in ["/metrics", "/"] {
        endpoint.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(endpoint.answer().status, 200);
    }
}

fn connect(address: SocketAddr) -> Connection {
    Connection::open(localhost(IpFamily::V4), address, Transport::Plain)
}

/// Over one connection, as Prometheus and people ask.
pub fn the_endpoint_speaks_http(program: &'static Program) {
    let daemon = Setup::simple(program).start_with_metrics("");
    let mut endpoint = connect(daemon.place.metrics_address());
    let mut ask = |method: &str, path: &str| {
        endpoint.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n\
             Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n\
             Accept-Encoding: gzip\r\n\r\n"
        ));
        match method {
            "HEAD" => endpoint.answer_to_head(),
            _ => endpoint.answer(),
        }
    };
    for method in ["GET", "HEAD", "GET"] {
        let answer = ask(method, "/metrics");
        assert_eq!(answer.status, 200);
        let content_type = answer.header("content-type").unwrap();
        assert!(
            content_type.starts_with("text/plain; version=0.0.4"),
            "{content_type}"
        );
        assert_eq!(answer.header("content-encoding"), None);
        assert_eq!(answer.body.is_empty(), method == "HEAD");
    }
    assert_eq!(ask("GET", "/nowhere").status, 404);
    assert_eq!(ask("DELETE", "/metrics").status, 405);
    assert_eq!(ask("GET", "/metrics").status, 200);
}

/// Trackers that have, together, all metrics, and the clients of the first: one without TLS, one
/// with TLS where there is TLS, and one that wants keys.
fn with_all_metrics(program: &'static Program) -> (Vec<Daemon>, Vec<Box<dyn Client>>) {
    let section = program.metrics_section;
    let all = format!(
        "{section}.peer_clients = true\n{section}.prometheus_peer_id_prefixes = true\n\
         {section}.torrent_peer_histograms = true\ncleaning.torrent_cleaning_interval = 1\n\
         access_list.mode = 'deny'\naccess_list.path = 'list'\n\
         access_list.networks_deny_path = 'networks'\n\
         persistence.completed_counts = true\npersistence.interval = 1\n"
    );
    let start = |more: &str| {
        let place = Place::new();
        USUAL.write(&place);
        place.write("networks", "192.0.2.0/24\n");
        place.write("list", torrent(1).to_string());
        place.write("keys", "a-key");
        let settings = format!("{}{all}{more}", place.metrics_settings(program));
        place.start(Setup::simple(program), &settings)
    };
    let plain = start("");
    let mut clients = Vec::new();
    for family in IpFamily::ALL {
        let mut client = program.client_of(&plain, family);
        client.join(torrent(1), 1).unwrap_err();
        client.join(torrent(2), 1).unwrap();
        client.leechers(&[torrent(2)]);
        client.leave(torrent(2), 1);
        client.join(torrent(3), 1).unwrap();
        clients.push(client);
    }
    // These come last.
    until("clients and sizes of swarms are counted", || {
        let text = metrics::text(&plain);
        let counted = ["aquatic_peer_clients{", "aquatic_peers_per_torrent{"];
        counted.iter().all(|name| text.contains(name)).then_some(())
    });
    let mut daemons = vec![plain];
    daemons.extend(program.has_tls.then(|| start(TLS)));
    let keys = "keys.mode = 'require'\nkeys.path = 'keys'\n";
    daemons.push(start(keys));
    // That nobody is there makes no difference.
    let cluster = "cluster.servers = ['nats://127.0.0.1:1']\ncluster.keys_bucket = true\n";
    daemons.push(start(&format!("{keys}{cluster}")));
    if let Some(setup) = with_queues(program) {
        daemons.push(setup.start_with_metrics(""));
    }
    (daemons, clients)
}

/// The setup whose metrics no other one has, if there is one.
fn with_queues(program: &'static Program) -> Option<Setup> {
    let mut setups = Setup::all(program).into_iter();
    setups.find(|setup| setup.has_queues)
}

/// Runs a test where all of them can be started.
fn where_all_can_be(program: &'static Program, test: impl FnOnce() + Send) {
    match with_queues(program) {
        Some(setup) => setup.in_its_network(test),
        None => test(),
    }
}

/// The judgement of Prometheus' own tool: no metric without help, of a wrong name or type. (Debian
/// package: prometheus.)
pub fn promtool_has_nothing_to_say(program: &'static Program) {
    where_all_can_be(program, || promtool_accepts_all(program));
}

fn promtool_accepts_all(program: &'static Program) {
    let (daemons, _clients) = with_all_metrics(program);
    for daemon in &daemons {
        let text = metrics::text(daemon);
        let command = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut promtool = match command {
            Ok(promtool) => promtool,
            Err(error) => {
                let is_ci = env::var("CI").as_deref() == Ok("true");
                assert!(!is_ci, "cannot run promtool: {error}");
                eprintln!("skipped: cannot run promtool: {error}");
                return;
            }
        };
        let mut stdin = promtool.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        drop(stdin);
        let output = promtool.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
}

/// The names in the first cells of the tables that concern a daemon.
fn documented(program: &Program) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut is_about_it = false;
    for line in DOCUMENT.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            is_about_it = heading.contains(program.name) || heading.starts_with("All daemons");
        } else if is_about_it && line.starts_with("| `") {
            let cell = line.split('|').nth(1).unwrap();
            names.extend(cell.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    names
}

/// `documents/metrics.md` has every metric, and no other.
pub fn every_metric_is_documented_and_the_other_way_round(program: &'static Program) {
    where_all_can_be(program, || documents_and_metrics_agree(program));
}

fn documents_and_metrics_agree(program: &'static Program) {
    let (daemons, _clients) = with_all_metrics(program);
    until_ok(|| {
        let types = |daemon| metrics::types(&metrics::text(daemon)).into_keys();
        let exported: BTreeSet<_> = daemons.iter().flat_map(types).collect();
        let documented = documented(program);
        let missing: Vec<_> = documented.difference(&exported).collect();
        let surplus: Vec<_> = exported.difference(&documented).collect();
        if missing.is_empty() && surplus.is_empty() {
            return Ok(());
        }
        Err(format!(
            "not exported: {missing:?}; not documented: {surplus:?}"
        ))
    });
}

/// `documents/metrics.md` says what every reason means.
pub fn every_reason_is_documented(program: &'static Program) {
    let (daemons, _clients) = with_all_metrics(program);
    let samples = daemons.iter().flat_map(metrics::scrape);
    let labels = samples.flat_map(|sample| sample.labels);
    let reasons: BTreeSet<_> = labels
        .filter_map(|(name, value)| (name == "reason").then_some(value))
        .collect();
    assert!(reasons.contains("memory_limit"), "{reasons:?}");
    let is_missing = |reason: &&String| !DOCUMENT.contains(&format!("`{reason}`"));
    let missing: Vec<_> = reasons.iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "not documented: {missing:?}");
}

fn unix_time() -> f64 {
    let since = std::time::SystemTime::UNIX_EPOCH;
    wall_time().duration_since(since).unwrap().as_secs_f64()
}

/// What a single sample without a choice of labels says.
fn value(daemon: &Daemon, name: &str) -> f64 {
    let samples = metrics::scrape(daemon);
    assert!(samples.iter().any(|sample| sample.name == name), "{name}");
    metrics::sum(&samples, name)
}

/// The version, and what the system knows about the process.
pub fn the_process_is_described(program: &'static Program) {
    let before = unix_time();
    let daemon = Setup::simple(program).start_with_metrics("");
    let selector = format!("aquatic_build_info{{version={}}}", program.version);
    let samples = metrics::scrape(&daemon);
    assert_eq!(metrics::sum(&samples, &selector), 1.0);
    let start = value(&daemon, "process_start_time_seconds");
    assert!((before..unix_time()).contains(&start), "{start}");
    let threads = f64::from(u32::try_from(daemon.threads().len()).unwrap());
    // Those that are about to end count there.
    until("the number of threads", || {
        (value(&daemon, "process_threads") == threads).then_some(())
    });
    assert!(value(&daemon, "process_cpu_seconds_total") > 0.0);
    assert!(value(&daemon, "process_resident_memory_bytes") > 1e6);
    let files = value(&daemon, "process_open_fds");
    assert!(files > 5.0 && files <= value(&daemon, "process_max_fds"));
    assert!(
        value(&daemon, "process_virtual_memory_bytes")
            > value(&daemon, "process_resident_memory_bytes")
    );
}

/// How reading something again has gone, and when that has succeeded last, as metrics and
/// figures say.
struct Loading<'a> {
    daemon: &'a Daemon,
    /// What the names of its metrics begin with.
    what: &'a str,
    /// Where it is in `/stats.json`.
    pointer: String,
    last: f64,
}

impl<'a> Loading<'a> {
    /// As it is after the start.
    #[track_caller]
    fn begin(daemon: &'a Daemon, before: f64, what: &'a str, pointer: String) -> Self {
        let mut loading = Self {
            daemon,
            what,
            pointer,
            last: f64::NAN,
        };
        loading.last = loading.wait_for(true);
        assert!((before..unix_time()).contains(&loading.last));
        loading
    }

    /// Waits until it is said that the last attempt was one like that. Returns when it was read.
    #[track_caller]
    fn wait_for(&self, succeeds: bool) -> f64 {
        let Self { daemon, what, .. } = *self;
        let successful = format!("{what}_last_reload_successful");
        let timestamp = format!("{what}_last_reload_timestamp_seconds");
        metrics::wait_for(daemon, &[(&successful, f64::from(u8::from(succeeds)))]);
        let last = value(daemon, &timestamp);
        until("the figures say so, too", || {
            let stats = figures::json(daemon, "/stats.json");
            let file = stats.pointer(&self.pointer)?;
            let is_so = file["last_reload_successful"] == succeeds;
            // Not every reader of JSON finds the nearest number there is.
            let is_then = (file["last_reload_time"].as_f64()? - last).abs() < 1e-6;
            (is_so && is_then).then_some(())
        });
        last
    }

    /// Reads again.
    #[track_caller]
    fn assert_reloads(&mut self, succeeds: bool) {
        self.daemon.reload();
        let last = self.wait_for(succeeds);
        match succeeds {
            true => assert!((self.last..unix_time()).contains(&last) && last != self.last),
            false => assert_eq!(last, self.last),
        }
        self.last = last;
    }

    /// How much there is in it.
    #[track_caller]
    fn assert_entries(&self, entries: u32) {
        let metric = format!("{}_entries", self.what);
        assert_eq!(value(self.daemon, &metric), f64::from(entries));
        let pointer = format!("{}/entries", self.pointer);
        figures::wait_until_equal(self.daemon, &[(&pointer, &metric)]);
    }
}

/// Whether the last reload of each list has succeeded, when one has, and how much there is.
pub fn reloads_of_lists_are_told(program: &'static Program) {
    let hashes = [torrent(1), torrent(2)].map(|hash| hash.to_string());
    let keys = ["0123456789abcdef0123456789abcdef", "another-key-of-a-user"];
    let networks = ["10.0.0.0/8", "2001:db8::/32"];
    let lists = [
        ("access_list", "mode = 'allow'", "path", hashes.join("\n")),
        ("keys", "mode = 'require'", "path", keys.join("\n")),
        (
            "denied_networks",
            "mode = 'off'",
            "networks_deny_path",
            networks.join("\n"),
        ),
    ];
    for (name, mode, path_key, entries) in lists {
        let section = if name == "keys" { name } else { "access_list" };
        let place = Place::new();
        place.write("list", &entries);
        let metrics = place.metrics_settings(program);
        let settings = format!("{metrics}{section}.{mode}\n{section}.{path_key} = 'list'\n");
        let before = unix_time();
        let daemon = place.start(Setup::simple(program), &settings);
        let what = format!("aquatic_{name}");
        let mut loading = Loading::begin(&daemon, before, &what, format!("/{name}"));
        loading.assert_entries(2);
        daemon.place.write("list", "no such entry: \"");
        loading.assert_reloads(false);
        loading.assert_entries(2);
        daemon.place.write("list", entries.lines().next().unwrap());
        loading.assert_reloads(true);
        loading.assert_entries(1);
    }
}

/// The same of the configuration file.
pub fn reloads_of_the_configuration_are_told(program: &'static Program) {
    let place = Place::new();
    let setup = Setup::simple(program);
    let settings = place.metrics_settings(program);
    let before = unix_time();
    let daemon = place.start(setup, &settings);
    let pointer = "/configuration".to_owned();
    let mut loading = Loading::begin(&daemon, before, "aquatic_configuration", pointer);
    daemon.place.write("config.toml", "rubbish");
    loading.assert_reloads(false);
    let text = daemon.place.config_text(setup, &settings);
    daemon.place.write("config.toml", text);
    loading.assert_reloads(true);
}

/// The same of certificate and key, and when the certificate ends; for daemons that have one.
pub fn reloads_of_the_certificate_are_told(program: &'static Program) {
    const EXPIRY: &str = "aquatic_tls_certificate_expiry_timestamp_seconds";
    /// The beginnings of 2030 and 2040 in Unix time.
    const YEARS: [(i32, f64); 2] = [(2030, 1_893_456_000.0), (2040, 2_208_988_800.0)];
    let [(first, first_ends), (second, second_ends)] = YEARS;
    let place = Place::new();
    Identity::until(first).write(&place);
    let settings = format!("{TLS}{}", place.metrics_settings(program));
    let before = unix_time();
    let daemon = place.start(Setup::simple(program), &settings);
    let protocol = program.name.trim_start_matches("aquatic_");
    let pointer = format!("/protocols/{protocol}/tls");
    let mut loading = Loading::begin(&daemon, before, "aquatic_tls", pointer);
    assert_eq!(value(&daemon, EXPIRY), first_ends);
    daemon.place.write("certificate", "rubbish");
    loading.assert_reloads(false);
    assert_eq!(value(&daemon, EXPIRY), first_ends);
    Identity::until(second).write(&daemon.place);
    loading.assert_reloads(true);
    assert_eq!(value(&daemon, EXPIRY), second_ends);
}
