//! The alert rules and the dashboard that operators are offered: Prometheus itself judges them, and
//! a tracker has whatever they name.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use aquatic_e2e::ask::{Announce, UdpClient};
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::process::Process;
use aquatic_e2e::prometheus::Prometheus;
use aquatic_e2e::{Family, identity, wait, workspace};
use serde_json::Value;

/// Enough for Prometheus to have asked several times.
const ROWS_LIMIT: Duration = Duration::from_secs(40);

fn path(below: &str) -> PathBuf {
    workspace::root().unwrap().join("documents").join(below)
}

fn read(below: &str) -> String {
    let path = path(below);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rules() -> String {
    read("monitoring/prometheus/aquatic.rules.yml")
}

fn dashboard() -> Value {
    serde_json::from_str(&read("monitoring/grafana/aquatic.dashboard.json")).unwrap()
}

/// What is said after `key` in a line.
fn said_after<'a>(text: &'a str, key: &str) -> BTreeSet<&'a str> {
    let lines = text.lines().map(str::trim);
    lines.filter_map(|line| line.strip_prefix(key)).collect()
}

#[test]
fn promtool_accepts_the_rules_and_their_tests() {
    let folder = path("monitoring/prometheus");
    for arguments in [
        ["check", "rules", "aquatic.rules.yml"],
        ["test", "rules", "aquatic.test.yml"],
    ] {
        let mut promtool = Command::new("promtool");
        let output = promtool.args(arguments).current_dir(&folder).output();
        let output = output.expect("promtool (Debian package prometheus)");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
}

#[test]
fn every_alert_is_tested_and_explained() {
    let rules = rules();
    let alerts = said_after(&rules, "- alert: ");
    assert!(alerts.len() > 10, "{alerts:?}");
    let tests = read("monitoring/prometheus/aquatic.test.yml");
    assert_eq!(said_after(&tests, "- name: "), alerts);
    let operating = read("operating.md");
    let explained = operating.lines().filter_map(|line| {
        let cell = line.strip_prefix("| `Aquatic")?;
        Some(cell.split('`').next().unwrap())
    });
    let explained: BTreeSet<_> = explained.collect();
    let wanted: BTreeSet<_> = alerts
        .iter()
        .map(|alert| alert.strip_prefix("Aquatic").unwrap())
        .collect();
    assert_eq!(explained, wanted);
}

/// All expressions in the dashboard, for the tracker of the test.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().unwrap();
    let of_panels = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(move |target| (title, &target["expr"]))
    });
    let annotations = dashboard["annotations"]["list"].as_array().unwrap();
    let of_annotations = annotations.iter().map(|one| ("annotation", &one["expr"]));
    let all = of_panels.chain(of_annotations).map(|(title, expression)| {
        let expression = expression.as_str().unwrap();
        let filled = expression.replace("$__rate_interval", "10s");
        let filled = filled.replace("$job", ".*").replace("$instance", ".*");
        (title.to_owned(), filled)
    });
    all.collect()
}

/// A tracker that has all metrics: all protocols, TLS, and whatever has to be switched on.
struct Tracker {
    metrics: SocketAddr,
    _process: Process,
}

impl Tracker {
    fn start(folder: &Folder) -> Self {
        let host = Host::loopback();
        let ip = host.ip(Family::V4);
        let [udp, http, ws, metrics] =
            [(); 4].map(|()| SocketAddr::new(ip, host.free_port().unwrap()));
        let list = folder.path().join("list");
        fs::write(&list, "00112233445566778899aabbccddeeff00112233\n").unwrap();
        let networks = folder.path().join("networks");
        fs::write(&networks, "192.0.2.0/24\n").unwrap();
        let swarms = folder.path().join("swarms.aqs");
        let tls = identity::write(folder).unwrap();
        let config = format!(
            "[udp]\nenabled = true\nnetwork.address = '{udp}'\n\
             [http]\nenabled = true\n[http.network]\naddress = '{http}'\n{tls}\
             [ws]\nenabled = true\nnetwork.address = '{ws}'\n\
             [access_list]\nmode = 'deny'\npath = '{}'\nnetworks_deny_path = '{}'\n\
             [persistence]\nswarms = true\npath = '{}'\ninterval = 1\n\
             [metrics]\nrun_prometheus_endpoint = true\nprometheus_endpoint_address = '{metrics}'\n\
             peer_clients = true\ntorrent_peer_histograms = true\ninterval = 1\n\
             [udp.cleaning]\ntorrent_cleaning_interval = 1\n",
            list.display(),
            networks.display(),
            swarms.display()
        );
        let path = folder.path().join("aquatic.toml");
        fs::write(&path, config).unwrap();
        let mut command = host.command(workspace::binary("aquatic").unwrap());
        command.args(["serve", "-c"]).arg(&path);
        let mut process = Process::start("tracker", folder, command).unwrap();
        let client = UdpClient::new(&host, udp).unwrap();
        wait::until("an answer of the tracker", ROWS_LIMIT, || {
            process.check_alive()?;
            Ok(client.scrape(&[[0; 20]]).ok())
        })
        .unwrap();
        let announce = Announce {
            info_hash: [1; 20],
            peer_id: *b"-TR4060-abcdefghijkl",
            left: 1,
            event: 2,
            numwant: -1,
            port: 6881,
        };
        client.announce(&announce).unwrap();
        Self {
            metrics,
            _process: process,
        }
    }
}

/// Prometheus finds rows for each expression of the dashboard and no fault in any rule, and nothing
/// is alarmed about a tracker that is well.
#[test]
fn a_tracker_has_whatever_dashboard_and_alerts_name() {
    let folder = Folder::new().unwrap();
    let tracker = Tracker::start(&folder);
    let rules_path = path("monitoring/prometheus/aquatic.rules.yml");
    let prometheus =
        Prometheus::start(&folder, "aquatic_serve", tracker.metrics, &rules_path).unwrap();
    for (title, expression) in expressions(&dashboard()) {
        // Some show nothing as long as nothing is wrong.
        let wanted = expression.trim_end_matches(" > 0");
        let found = wait::until(&format!("{title}: {wanted}"), ROWS_LIMIT, || {
            let rows = prometheus.query(wanted)?;
            Ok((!rows.is_empty()).then_some(()))
        });
        found.unwrap();
    }
    let mut last = Vec::new();
    let quiet = wait::until("all rules are evaluated and quiet", ROWS_LIMIT, || {
        last = prometheus.alerts()?;
        // The certificate of the test has some hours. One that waits for its time to be over, as a
        // tracker was too busy to answer once, becomes quiet again.
        let is_quiet = |alert: &Value| {
            alert["health"] == "ok"
                && (alert["state"] == "inactive" || alert["name"] == "AquaticCertificateExpires")
        };
        Ok((!last.is_empty() && last.iter().all(is_quiet)).then_some(()))
    });
    assert!(quiet.is_ok(), "{last:?}");
    assert_names_are_known(&prometheus, &metrics_of_another_tracker(&folder));
}

/// What a tracker exports that is in a cluster, is to have a program in front of the network stack,
/// and serves nobody without a key, so that the other one must be another.
fn metrics_of_another_tracker(folder: &Folder) -> String {
    let host = Host::loopback();
    let ip = host.ip(Family::V4);
    let [udp, metrics] = [(); 2].map(|()| SocketAddr::new(ip, host.free_port().unwrap()));
    let keys = folder.path().join("keys");
    fs::write(&keys, "0123456789abcdef\n").unwrap();
    let config = format!(
        "network.address = '{udp}'\nnetwork.xdp = 'connect'\n\
         network.xdp_interfaces = ['there-is-none']\n[keys]\nmode = 'require'\npath = '{}'\n\
         [cluster]\nservers = ['nats://127.0.0.1:1']\nkeys_bucket = true\n\
         [metrics]\nrun_prometheus_endpoint = true\nprometheus_endpoint_address = '{metrics}'\n",
        keys.display()
    );
    let path = folder.path().join("aquatic_udp.toml");
    fs::write(&path, config).unwrap();
    let mut command = host.command(workspace::binary("aquatic_udp").unwrap());
    command.arg("-c").arg(&path);
    let mut process = Process::start("private-tracker", folder, command).unwrap();
    let metrics = wait::until("the metrics of a private tracker", ROWS_LIMIT, || {
        process.check_alive()?;
        let mut curl = Command::new("curl");
        curl.args(["--disable", "--silent", "--fail"]);
        let output = curl.arg(format!("http://{metrics}/metrics")).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(output.status.success().then_some(text))
    });
    metrics.unwrap()
}

/// Prometheus has collected every metric that is named in a rule, or another tracker has it.
fn assert_names_are_known(prometheus: &Prometheus, other: &str) {
    let rules = rules();
    let words = rules.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let names: BTreeSet<_> = words
        .filter(|word| word.starts_with("aquatic_") || word.starts_with("process_"))
        .collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        // A group of rules is called like a program.
        let is_group = ["aquatic_udp", "aquatic_connections"].contains(&name);
        let is_other = other
            .lines()
            .any(|line| line.split([' ', '{']).next() == Some(name));
        // Whoever has queues has a network of its own: tests/xdp looks at their metric.
        let is_of_queues = name == "aquatic_xdp_queue_active";
        let is_known = || is_other || is_of_queues || !prometheus.query(name).unwrap().is_empty();
        assert!(is_group || is_known(), "{name}");
    }
}
