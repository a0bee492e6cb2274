//! `--health` of the real programs: what a container's health check sees.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::process::Process;
use aquatic_e2e::{Family, identity, wait, workspace};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(20);

/// The program and the arguments before `-c`.
const DAEMONS: [(&str, &[&str]); 4] = [
    ("aquatic_udp", &[]),
    ("aquatic_http", &[]),
    ("aquatic_ws", &[]),
    ("aquatic", &["serve"]),
];

fn command(program: &str, arguments: &[&str], config: &Path) -> Command {
    let mut command = Command::new(workspace::binary(program).unwrap());
    command.args(arguments).arg("-c").arg(config);
    command
}

fn health(program: &str, arguments: &[&str], config: &Path) -> Output {
    let mut command = command(program, arguments, config);
    command.arg("--health").output().unwrap()
}

/// Starts the daemon with this file; it is not healthy before, is while it runs, and is not after.
fn is_healthy_while_it_runs(program: &str, arguments: &[&str], config: &str, asks: &str) {
    let folder = Folder::new().unwrap();
    let path = folder.path().join("config.toml");
    let config = config.replace("FOLDER", &folder.path().display().to_string());
    fs::write(&path, config).unwrap();

    let before = health(program, arguments, &path);
    assert_eq!(before.status.code(), Some(1), "{program}: {before:?}");
    let said = String::from_utf8_lossy(&before.stderr);
    assert!(
        said.contains("not healthy: ") && said.contains(asks),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");

    let command = command(program, arguments, &path);
    let mut process = Process::start("tracker", &folder, command).unwrap();
    let during = wait::until("a healthy daemon", LIMIT, || {
        process.check_alive()?;
        let during = health(program, arguments, &path);
        Ok(during.status.success().then_some(during))
    });
    let said = String::from_utf8(during.unwrap().stdout).unwrap();
    assert!(
        said.starts_with("healthy: ") && said.contains(asks),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");

    assert!(process.stop(Signal::SIGTERM, LIMIT).unwrap().success());
    assert_eq!(health(program, arguments, &path).status.code(), Some(1));
}

fn free_addresses() -> [SocketAddr; 2] {
    let host = Host::loopback();
    [(); 2].map(|()| SocketAddr::new(host.ip(Family::V4), host.free_port().unwrap()))
}

#[test]
fn without_an_endpoint_the_daemon_is_asked_as_clients_ask() {
    for (program, arguments) in DAEMONS {
        let [address, _] = free_addresses();
        let (config, scheme) = match program {
            "aquatic_udp" => (format!("network.address = '{address}'\n"), "udp"),
            "aquatic" => {
                let config = format!("[http]\nenabled = true\nnetwork.address = '{address}'\n");
                (config, "http")
            }
            _ => (format!("network.address = '{address}'\n"), "http"),
        };
        let asks = format!("{scheme}://{address}");
        is_healthy_while_it_runs(program, arguments, &config, &asks);
    }
}

#[test]
fn the_endpoint_is_asked_if_there_is_one() {
    for (program, arguments) in DAEMONS {
        let [address, endpoint] = free_addresses();
        let network = match program {
            "aquatic" => format!("[udp]\nenabled = true\nnetwork.address = '{address}'\n"),
            _ => format!("network.address = '{address}'\n"),
        };
        let config = format!(
            "{network}[metrics]\nrun_prometheus_endpoint = true\n\
             prometheus_endpoint_address = '{endpoint}'\n"
        );
        let asks = format!("http://{endpoint}/health");
        is_healthy_while_it_runs(program, arguments, &config, &asks);
        let config = format!("{network}[metrics]\nendpoint_unix_socket = 'FOLDER/endpoint'\n");
        is_healthy_while_it_runs(program, arguments, &config, "/endpoint");
    }
}

#[test]
fn over_tls_a_connection_is_enough() {
    let folder = Folder::new().unwrap();
    let tls = identity::write(&folder).unwrap();
    for (program, arguments) in [DAEMONS[1], DAEMONS[2]] {
        let [address, _] = free_addresses();
        let config = format!("[network]\naddress = '{address}'\n{tls}");
        let asks = format!("tcp://{address}");
        is_healthy_while_it_runs(program, arguments, &config, &asks);
    }
}

#[test]
fn a_configuration_with_nothing_to_ask_is_said_so() {
    let folder = Folder::new().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, "log_level = 'warn'\n").unwrap();
    let asked = health("aquatic", &["serve"], &path);
    assert_eq!(asked.status.code(), Some(1), "{asked:?}");
}
