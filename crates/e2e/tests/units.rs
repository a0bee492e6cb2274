//! The systemd units that the documents offer.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use aquatic_e2e::workspace;

const DAEMONS: [&str; 3] = ["aquatic_udp", "aquatic_http", "aquatic_ws"];

fn unit(daemon: &str) -> String {
    let documents = workspace::root().unwrap().join("documents");
    fs::read_to_string(documents.join(format!("{daemon}.service"))).unwrap()
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

/// `StateDirectory=` is below /var/lib/private with a dynamic user, which others cannot enter;
/// `RuntimeDirectory=` is not, unless it is to outlive the service (systemd.exec(5)).
#[test]
fn what_is_written_can_be_read_by_a_web_server() {
    let unit = unit("aquatic_udp");
    assert_eq!(values(&unit, "RuntimeDirectory"), ["aquatic_udp"]);
    assert_eq!(values(&unit, "RuntimeDirectoryMode"), ["0755"]);
    assert!(values(&unit, "RuntimeDirectoryPreserve").is_empty());
    // The default, 0022, lets others read files.
    assert!(values(&unit, "UMask").is_empty());
}

#[test]
fn systemd_has_nothing_to_complain_of() {
    let found = Command::new("systemd-analyze").arg("--version").output();
    if found.is_err() {
        eprintln!("SKIPPED: needs systemd-analyze");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for daemon in DAEMONS {
        // It looks for the program, which is not installed here.
        let unit = unit(daemon).replace(&format!("/usr/local/bin/{daemon} "), "/bin/true ");
        assert!(unit.contains("ExecStart=/bin/true "), "{daemon}");
        let path = folder.path().join(format!("{daemon}.service"));
        fs::write(&path, unit).unwrap();
        let verified = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&path)
            .output()
            .unwrap();
        // Units of this machine that are read along may be wrong; those lines name others.
        let complaints = String::from_utf8_lossy(&verified.stderr);
        let ours = complaints.lines().filter(|line| line.contains(daemon));
        assert_eq!(ours.collect::<Vec<_>>(), [""; 0]);
    }
}
