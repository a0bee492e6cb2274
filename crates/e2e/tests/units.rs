//! The systemd units that the documents offer.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use aquatic_config::Addresses;
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::process::Process;
use aquatic_e2e::{Family, wait, workspace};
use tempfile::TempDir;

/// Enough for a start on a machine that compiles meanwhile.
const START_LIMIT: Duration = Duration::from_secs(20);

const DAEMONS: [&str; 4] = ["aquatic_udp", "aquatic_http", "aquatic_ws", "aquatic"];

fn document(name: &str) -> String {
    let documents = workspace::root().unwrap().join("documents");
    fs::read_to_string(documents.join(name)).unwrap()
}

fn unit(daemon: &str) -> String {
    document(&format!("{daemon}.service"))
}

/// The words of all settings of this name.
fn values<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    let lines = unit.lines().filter_map(|line| line.strip_prefix(name));
    let values = lines.filter_map(|rest| rest.strip_prefix('='));
    values.flat_map(str::split_whitespace).collect()
}

/// Each unit has a dynamic user, and systemd changes the owner of a folder with each start.
#[test]
fn no_folder_is_shared() {
    let mut all = BTreeSet::new();
    for daemon in DAEMONS {
        let unit = unit(daemon);
        assert_eq!(values(&unit, "DynamicUser"), ["yes"]);
        let own = values(&unit, "StateDirectory");
        assert_eq!(own, [daemon]);
        let working_directory = format!("/var/lib/{daemon}");
        assert_eq!(values(&unit, "WorkingDirectory"), [working_directory]);
        for kind in ["State", "Runtime", "Cache", "Logs"] {
            for folder in values(&unit, &format!("{kind}Directory")) {
                let is_new = all.insert(format!("{kind} {folder}"));
                assert!(is_new, "{daemon} shares {kind}Directory={folder}");
            }
        }
    }
}

/// Two addresses, and more workers than most machines have processors for.
#[test]
fn sockets_outlive_a_restart() {
    for daemon in DAEMONS {
        let unit = unit(daemon);
        let kept: u32 = values(&unit, "FileDescriptorStoreMax")[0].parse().unwrap();
        assert!(kept >= 2 * 256, "{daemon}");
        assert_eq!(values(&unit, "Type"), ["notify"], "{daemon}");
    }
}

/// `StateDirectory=` is below /var/lib/private with a dynamic user, which others cannot enter;
/// `RuntimeDirectory=` is not, unless it is to outlive the service (systemd.exec(5)).
#[test]
fn what_is_written_can_be_read_by_a_web_server() {
    for daemon in DAEMONS {
        let unit = unit(daemon);
        assert_eq!(values(&unit, "RuntimeDirectory"), [daemon]);
        assert_eq!(values(&unit, "RuntimeDirectoryMode"), ["0755"]);
        assert!(values(&unit, "RuntimeDirectoryPreserve").is_empty());
        // The default, 0022, lets others read files.
        assert!(values(&unit, "UMask").is_empty());
    }
}

/// By default systemd gives up after five starts within ten seconds, or goes on for ever, depending
/// on how long each start takes to fail.
#[test]
fn a_service_that_cannot_start_is_tried_again() {
    for daemon in DAEMONS {
        let unit = unit(daemon);
        assert_eq!(values(&unit, "Restart"), ["on-failure"], "{daemon}");
        assert_eq!(values(&unit, "StartLimitIntervalSec"), ["0"], "{daemon}");
    }
}

/// Whether systemd can be asked here. Under CI (`CI=true`) it must be: a test that nobody sees
/// skipped is no test.
fn has_systemd_tools() -> bool {
    let found = Command::new("systemd-analyze").arg("--version").output();
    let is_there = found.is_ok();
    let reason = "SKIPPED: needs systemd-analyze (Debian package systemd)";
    assert!(
        is_there || env::var("CI").as_deref() != Ok("true"),
        "{reason}"
    );
    if !is_there {
        eprintln!("{reason}");
    }
    is_there
}

/// Units whose program is one that is there: systemd looks for it.
fn units_for_systemd() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for daemon in DAEMONS {
        let unit = unit(daemon).replace(&format!("/usr/local/bin/{daemon} "), "/bin/true ");
        assert!(unit.contains("ExecStart=/bin/true "), "{daemon}");
        fs::write(folder.path().join(format!("{daemon}.service")), unit).unwrap();
        let socket = document(&format!("{daemon}.socket"));
        fs::write(folder.path().join(format!("{daemon}.socket")), socket).unwrap();
    }
    folder
}

#[test]
fn systemd_has_nothing_to_complain_of() {
    if !has_systemd_tools() {
        return;
    }
    let folder = units_for_systemd();
    for daemon in DAEMONS {
        for kind in ["service", "socket"] {
            let verified = Command::new("systemd-analyze")
                .args(["verify", "--man=no"])
                .arg(folder.path().join(format!("{daemon}.{kind}")))
                .output()
                .unwrap();
            // Units of this machine that are read along may be wrong; those lines name others.
            let complaints = String::from_utf8_lossy(&verified.stderr);
            let ours = complaints.lines().filter(|line| line.contains(daemon));
            assert_eq!(ours.collect::<Vec<_>>(), [""; 0]);
        }
    }
}

/// In tenths, of 100: what systemd finds that a service could do to the machine.
#[test]
fn services_are_exposed_little() {
    if !has_systemd_tools() {
        return;
    }
    let folder = units_for_systemd();
    for daemon in DAEMONS {
        let judged = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--threshold=18"])
            .arg(folder.path().join(format!("{daemon}.service")))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&judged.stdout);
        assert!(said.contains("Overall exposure level"), "{daemon}: {said}");
        assert!(judged.status.success(), "{daemon}: {said}");
    }
}

/// A tracker closes a socket that fits none of its addresses.
#[test]
fn socket_units_fit_the_default_configuration() {
    let default = Addresses::default();
    let default: Vec<_> = default.iter().map(|address| address.to_string()).collect();
    for daemon in DAEMONS {
        let socket = document(&format!("{daemon}.socket"));
        let datagram = matches!(daemon, "aquatic_udp" | "aquatic");
        let stream = daemon != "aquatic_udp";
        for (name, is_wanted) in [("ListenDatagram", datagram), ("ListenStream", stream)] {
            let wanted = if is_wanted { default.as_slice() } else { &[] };
            assert_eq!(values(&socket, name), wanted, "{daemon}");
        }
        assert_eq!(values(&socket, "BindIPv6Only"), ["ipv6-only"], "{daemon}");
        assert_eq!(
            values(&socket, "PassPacketInfo").len(),
            usize::from(datagram)
        );
    }
}

/// systemd's own program binds the socket, waits for the first client, and hands the socket over.
#[test]
fn a_tracker_is_started_by_its_first_client() {
    if !has_systemd_tools() {
        return;
    }
    let host = Host::loopback();
    for (program, kind) in [("aquatic_udp", "--datagram"), ("aquatic_http", "")] {
        let folder = Folder::new().unwrap();
        let address = SocketAddr::new(host.ip(Family::V4), host.free_port().unwrap());
        let config = folder.path().join("config.toml");
        fs::write(&config, format!("network.address = \"{address}\"\n")).unwrap();
        let mut command = Command::new("systemd-socket-activate");
        command.args((!kind.is_empty()).then_some(kind));
        command.arg(format!("--listen={address}"));
        let binary = workspace::binary(program).unwrap();
        command.arg(&binary);
        command.arg("-c").arg(&config);
        let mut process = Process::start(program, &folder, command).unwrap();
        let log = wait::until("systemd-socket-activate", START_LIMIT, || {
            process.check_alive()?;
            Ok(Some(process.log()?).filter(|log| log.contains("Listening on")))
        });
        assert!(
            !log.unwrap().contains("starts with"),
            "it was not asked yet"
        );
        wait::until("the answer to the first client", START_LIMIT, || {
            process.check_alive()?;
            let health = Command::new(&binary)
                .arg("--health")
                .arg("-c")
                .arg(&config)
                .output()?;
            Ok(health.status.success().then_some(()))
        })
        .unwrap();
        let log = process.log().unwrap();
        assert!(log.contains("starts with"), "{log}");
        let passed = format!("sockets were passed for {address}");
        assert!(log.contains(&passed), "{log}");
    }
}
