//! Trackers are soaked for some seconds, by the program that `scripts/soak.sh` runs for an hour.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::{Result, ensure};
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::tracker::Tracker;
use aquatic_e2e::{Protocol, workspace};

/// Soaks a tracker with the metrics in this section, and these seconds after which it forgets
/// somebody of whom it hears nothing.
fn soak(protocol: Protocol, metrics: &str, peer_age: &str) -> Result<()> {
    let (folder, host) = (Folder::new()?, Host::loopback());
    let [address, metrics_address] = [host.free_port()?, host.free_port()?]
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let [list, pid_file, csv] = ["list", "pid", "csv"].map(|name| folder.path().join(name));
    fs::write(&list, "")?;
    let config = format!(
        "[{metrics}]\nrun_prometheus_endpoint = true\n\
         prometheus_endpoint_address = \"{metrics_address}\"\n\
         [access_list]\nmode = \"deny\"\npath = \"{}\"\n\
         [cleaning]\ntorrent_cleaning_interval = 1\n{peer_age}",
        list.display()
    );
    let tracker = Tracker::start(protocol, &folder, &host, address, &config)?;
    fs::write(&pid_file, tracker.process_id().to_string())?;
    let mut tester = Command::new(workspace::binary("aquatic_flood_test")?);
    tester.args(["soak", protocol.scheme(), "--rate", "200", "--seconds", "6"]);
    tester.args(["--peer-age", "6", "--cleaning-interval", "1"]);
    tester.arg("--tracker").arg(address.to_string());
    tester.arg("--metrics").arg(metrics_address.to_string());
    tester.arg("--access-list").arg(list);
    tester.arg("--pid-file").arg(pid_file);
    tester.arg("--csv").arg(csv);
    let output = tester.output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.success(), "{}: {said}", output.status);
    ensure!(said.contains("equal"), "{said}");
    tracker.stop()
}

#[test]
fn a_udp_tracker_is_as_the_model_after_some_seconds() {
    soak(Protocol::Udp, "statistics", "max_peer_age = 6").unwrap();
}

#[test]
fn an_http_tracker_is_as_the_model_after_some_seconds() {
    soak(Protocol::Http, "metrics", "max_peer_age = 6").unwrap();
}

#[test]
fn a_webtorrent_tracker_is_as_the_model_after_some_seconds() {
    soak(Protocol::Ws, "metrics", "").unwrap();
}
