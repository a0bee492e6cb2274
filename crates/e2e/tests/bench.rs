//! The benchmark measures real trackers under real load, for a second each.

use std::fs;
use std::path::Path;
use std::process::Command;

use aquatic_e2e::folder::Folder;
use aquatic_e2e::workspace;

/// One worker and one load tester each, wherever the system lets them run. One tracker cannot be
/// there, and one does not start.
const PLAN: &str = r#"
title = "Tiny"
rounds = 1
seconds = 1
warm_up_seconds = 0
tracker_cpus = ""
tester_cpus = ""

[[sets]]
name = "udp"
title = "UDP"
protocol = "udp"
contenders = [{ tracker = "udp-mio" }, { tracker = "broken" }, { tracker = "0.9-udp-mio" }]
load.requests = { number_of_torrents = 100, number_of_peers = 1000 }
load.answers = { late_after_ms = 400, lost_after_ms = 500 }

[[sets]]
name = "http"
title = "HTTP"
protocol = "http"
tls = true
contenders = [{ tracker = "http-mio" }]
load.requests = { number_of_torrents = 100, number_of_peers = 1000 }
load.network = { connections = 8 }
load.answers = { late_after_ms = 400, lost_after_ms = 500 }

[[sets]]
name = "ws"
title = "WebTorrent"
protocol = "ws"
contenders = [{ tracker = "ws-mio" }]
load.requests = { number_of_torrents = 10 }
load.network = { connections = 20 }
load.answers = { late_after_ms = 400, lost_after_ms = 500 }

[[sets]]
name = "memory"
title = "Memory"
protocol = "udp"
contenders = [{ tracker = "udp-mio" }]
load.fill = { enabled = true, number_of_torrents = 20000 }

[[trackers]]
name = "broken"
text = "a program that ends at once"
protocols = ["udp"]
program = "false"
version = []
config = "none"
"#;

/// The folder of our programs, all of which are there.
fn programs() -> std::path::PathBuf {
    let names = ["aquatic_udp", "aquatic_http", "aquatic_ws"];
    for name in names {
        workspace::binary(name).unwrap();
        workspace::binary(&format!("{name}_load_test")).unwrap();
    }
    let bench = workspace::binary("aquatic_bench").unwrap();
    bench.parent().unwrap().to_owned()
}

/// The lines of the results that have a key, each with what is under it.
fn lines(path: &Path, key: &str) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line[key].clone()
    });
    lines.filter(|line| !line.is_null()).collect()
}

#[test]
fn a_tiny_plan_measures_all_three_and_survives_a_broken_tracker() {
    let folder = Folder::new().unwrap();
    let programs = programs();
    let plan = folder.path().join("tiny.toml");
    fs::write(&plan, PLAN).unwrap();
    let output = folder.path().join("out");
    let mut command = Command::new(programs.join("aquatic_bench"));
    command.arg("run").arg(&plan).arg("--output").arg(&output);
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");

    let results = output.join("tiny.jsonl");
    let runs = lines(&results, "run");
    assert_eq!(runs.len(), 4, "{said}");
    for run in &runs[..3] {
        let figures = &run["figures"];
        for key in [
            "answers_per_second",
            "cpu_micros",
            "p50_micros",
            "peak_bytes",
        ] {
            assert!(figures[key].as_f64().unwrap() > 0.0, "{key}: {run}");
        }
    }
    assert!(runs[3]["figures"]["bytes_per_torrent"].as_f64().unwrap() > 0.0);
    let failures = lines(&results, "failure");
    assert_eq!(failures.len(), 1);
    assert!(failures[0]["error"].as_str().unwrap().contains("has ended"));

    let page = fs::read_to_string(output.join("tiny.md")).unwrap();
    for text in [
        "Skipped: 0.9-udp-mio (aquatic_udp 0.9 needs --trackers-dir)",
        "Failed: broken, round 1: ",
        "| udp-mio |",
        "![HTTP](tiny-http.svg)",
        "memory per torrent",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(output.join("tiny-ws.svg").is_file());
}

/// All measurements of a cluster, with numbers so small that each is made in seconds.
const TINY_CLUSTER: &str = "--visibility-nodes 2 --visibility-rate 1000 --visibility-probes 4 \
     --join-peers 5000 --outage-rate 500 --outage-seconds 2 --browsers-pairs 2 \
     --browsers-rate 50 --cost-nodes 2 --cost-rate 2000 --cost-interval 1 --cost-refresh 2 \
     --cost-pairs 1 --idle-seconds 1 --growth-rate 1000 --growth-interval 1 --growth-refresh 2";

#[test]
fn a_tiny_cluster_is_measured() {
    let folder = Folder::new().unwrap();
    let programs = programs();
    let mut command = Command::new(programs.join("aquatic_bench"));
    command.arg("cluster").arg("--output").arg(folder.path());
    command.args(TINY_CLUSTER.split_whitespace());
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");

    let figures = lines(&folder.path().join("cluster.jsonl"), "figure");
    let value = |measurement: &str, name: &str| {
        let mut found = figures.iter().filter(|figure| {
            figure["measurement"] == measurement && figure["name"].as_str() == Some(name)
        });
        let figure = found
            .next()
            .unwrap_or_else(|| panic!("{measurement}: {name}: {figures:?}"));
        assert!(
            found.next().is_none(),
            "{measurement}: {name} is there twice"
        );
        figure["value"].as_f64().unwrap()
    };
    assert!(value("visibility", "known at another node after, p50") > 0.0);
    assert_eq!(
        format!(
            "{}",
            value("visibility", "known at another node after, how many")
        ),
        "4"
    );
    for when in ["joins", "is back after SIGKILL"] {
        let share = value("join", &format!("{when}: of those that there are"));
        assert!((99.9..100.1).contains(&share), "{when}: {share}");
    }
    assert!(value("outage", "with an outage: answers") >= 1_000.0);
    assert!(
        value(
            "outage",
            "all known at the other node after the server's return"
        ) > 0.0
    );
    assert!(value("outage", "most that waited to be published") > 0.0);
    assert!(value("browsers", "alone: offer arrives after, p99") > 0.0);
    let (offer, answer) = ("offer arrives after, p50", "answer is back after, p50");
    let beside = |name: &str| value("browsers", &format!("beside others: {name}"));
    assert!(beside(offer) < beside(answer));
    assert!(value("cost", "ratio of neighbours in time, median") > 0.0);
    assert!(value("cost", "in a cluster: records published per answer") > 0.0);
    assert!(value("growth", "nodes: 4, CPU time per answer") > 0.0);
    let received = |nodes: u8| {
        value(
            "growth",
            &format!("nodes: {nodes}, records received per answer"),
        )
    };
    assert!(received(1) < received(2) && received(2) < received(4));
    assert!(value("growth", "most nodes, measured to that") > 0.0);
    assert!(value("idle", "by itself: resident memory") > 1.0);

    let page = String::from_utf8_lossy(&done.stdout);
    assert!(page.contains("| visibility | | |"), "{page}");
}

#[test]
fn a_cluster_that_cannot_be_is_refused() {
    for (arguments, reason) in [
        ("cluster seen", "possible values: visibility"),
        ("cluster cost --cost-refresh 30", "power of two"),
        ("cluster join --join-peers 0", "10"),
        ("cluster idle --cpus x", "no list of CPUs"),
        ("cluster visibility --visibility-nodes 1", "2..=32"),
    ] {
        let mut command = Command::new(programs().join("aquatic_bench"));
        let done = command.args(arguments.split(' ')).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(
            !done.status.success() && said.contains(reason),
            "{arguments}: {said}"
        );
    }
}
