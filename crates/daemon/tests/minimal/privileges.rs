//! Giving up the rights of root. These tests need them; without, they pass without a test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::{Group, User, geteuid};

use crate::process::{HASH_A, HASH_B, Setup, binary, hex};

fn is_root() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        eprintln!("skipped: needs root");
    }
    is_root
}

#[test]
fn root_directory_user_and_group_are_changed() {
    if !is_root() {
        return;
    }
    let setup = Setup::new();
    let root = setup.path("root");
    fs::create_dir(&root).unwrap();
    // Started as a member of groups that it has to leave.
    let mut program = Command::new("setpriv");
    program.args(["--groups", "1,2", "--"]).arg(binary());
    let sections = "[privileges]\ndrop_privileges = true\nchroot_path = './root'";
    let mut daemon = setup.start_command(&mut setup.prepare(program, sections));

    assert_eq!(
        fs::read_link(daemon.proc("root")).unwrap(),
        root.canonicalize().unwrap()
    );
    assert_eq!(
        fs::read_link(daemon.proc("cwd")).unwrap(),
        root.canonicalize().unwrap()
    );
    let user = User::from_name("nobody").unwrap().unwrap().uid;
    let group = Group::from_name("nogroup").unwrap().unwrap().gid;
    // Every thread has its own.
    for thread in fs::read_dir(daemon.proc("task")).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let line = |name: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .expect(name);
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(line("Uid:"), vec![user.to_string(); 4]);
        assert_eq!(line("Gid:"), vec![group.to_string(); 4]);
        assert_eq!(line("Groups:"), [""; 0]);
        assert_eq!(line("CapEff:"), ["0000000000000000"]);
    }

    assert!(daemon.serves(HASH_A));
    // The service manager is told although its socket is outside.
    daemon.signal(Signal::SIGTERM);
    assert_eq!(setup.notification(), "STOPPING=1");
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn the_access_list_is_found_inside_at_start_and_at_reload() {
    if !is_root() {
        return;
    }
    for path in ["list", "./list", "/list"] {
        let setup = Setup::new();
        fs::create_dir(setup.path("root")).unwrap();
        // Must not be taken: it is outside.
        setup.write("list", &hex(HASH_B));
        setup.write("root/list", &hex(HASH_A));
        let daemon = setup.start(&format!(
            "[privileges]\ndrop_privileges = true\nchroot_path = './root'\n\
             [access_list]\nmode = 'allow'\npath = '{path}'"
        ));
        assert!(daemon.serves(HASH_A));
        assert!(!daemon.serves(HASH_B));

        setup.write("root/list", &format!("{}\n{}", hex(HASH_A), hex(HASH_B)));
        daemon.reload();
        assert!(daemon.serves(HASH_B));
    }
}

#[test]
fn a_list_that_the_user_may_not_read_is_found_out_at_the_start() {
    if !is_root() {
        return;
    }
    let setup = Setup::new();
    let list = setup.write("list", &hex(HASH_A));
    fs::set_permissions(list, fs::Permissions::from_mode(0o600)).unwrap();
    let (code, log) = setup
        .fail("[privileges]\ndrop_privileges = true\n[access_list]\nmode = 'allow'\npath = 'list'");
    assert_eq!(code, Some(1));
    assert!(
        log.contains("cannot open the access list list: Permission denied"),
        "{log}"
    );
}

#[test]
fn unusable_settings_are_refused_by_name() {
    if !is_root() {
        return;
    }
    for (setting, reason) in [
        ("user = 'no-such-user'", "there is no user no-such-user"),
        (
            "user = '65534'",
            "there is no user 65534 (see privileges.user): write its name, not its number",
        ),
        ("group = 'no-such-group'", "there is no group no-such-group"),
        ("user = 'root'", "root is root: set privileges.user"),
        (
            "chroot_path = '/nowhere'",
            "cannot change the root directory to /nowhere: ENOENT",
        ),
    ] {
        let setup = Setup::new();
        let (code, log) = setup.fail(&format!("[privileges]\ndrop_privileges = true\n{setting}"));
        assert_eq!(code, Some(1));
        assert!(log.contains(reason), "no {reason} in\n{log}");
    }
}

/// Checks a file whose list is in the folder of the new root, with this mode.
fn check(list: &str, mode: u32, privileges: &str) -> (Option<i32>, String) {
    let setup = Setup::new();
    fs::create_dir(setup.path("root")).unwrap();
    let path = setup.write("root/list", list);
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let mut command = setup.command(&format!(
        "[privileges]\ndrop_privileges = true\nchroot_path = './root'\n{privileges}\n\
         [access_list]\nmode = 'allow'\npath = '/list'"
    ));
    let status = command.arg("--check-config").status().unwrap();
    (status.code(), setup.log())
}

#[test]
fn a_check_sees_files_as_the_daemon_will() {
    if !is_root() {
        return;
    }
    assert_eq!(check(&hex(HASH_A), 0o644, ""), (Some(0), String::new()));
    for (list, mode, reason) in [
        (
            "rubbish",
            0o644,
            "cannot use the access list /list: line 1: ",
        ),
        (
            "",
            0o600,
            "cannot open the access list /list: Permission denied",
        ),
    ] {
        let (code, log) = check(list, mode, "");
        assert_eq!(code, Some(1));
        assert!(log.contains(reason), "{log}");
    }
}

#[test]
fn a_check_names_every_unusable_setting_and_what_it_did_not_see() {
    let (code, log) = check(
        "rubbish",
        0o644,
        "user = 'no-such-user'\ngroup = 'no-such-group'",
    );
    assert_eq!(code, Some(1));
    for text in [
        "line 6, column 1: `privileges.user`: there is no user no-such-user",
        "line 7, column 1: `privileges.group`: there is no group no-such-group",
        "config.toml: not looked at: access list: what is opened as the user no-such-user inside \
         ./root; to see it, mend the section [privileges] first\n",
    ] {
        assert!(log.contains(text), "no {text} in\n{log}");
    }
}

#[test]
fn a_check_without_root_says_what_it_did_not_see() {
    let setup = Setup::new();
    let copy = setup.path("program");
    fs::copy(binary(), &copy).unwrap();
    let text = "[privileges]\ndrop_privileges = true\n[access_list]\nmode = 'deny'\npath = 'x'";
    let mut command = setup.prepare(Command::new(copy), text);
    if geteuid().is_root() {
        let nobody = User::from_name("nobody").unwrap().unwrap();
        command.uid(nobody.uid.as_raw()).gid(nobody.gid.as_raw());
    }
    let status = command.arg("--check-config").status().unwrap();
    assert_eq!(status.code(), Some(0), "{}", setup.log());
    let expected = format!(
        "{}: not looked at: access list: what is opened as the user nobody inside .; to see it, \
         run this check as root\n",
        setup.path("config.toml").display()
    );
    assert_eq!(setup.log(), expected);
}

#[test]
fn without_root_it_is_refused() {
    let setup = Setup::new();
    // Whoever runs the tests may have built the program where nobody else can look.
    let copy = setup.path("program");
    fs::copy(binary(), &copy).unwrap();
    let mut command = setup.prepare(Command::new(copy), "[privileges]\ndrop_privileges = true");
    if geteuid().is_root() {
        let nobody = User::from_name("nobody").unwrap().unwrap();
        command.uid(nobody.uid.as_raw()).gid(nobody.gid.as_raw());
    }
    assert_eq!(command.status().unwrap().code(), Some(1));
    let log = setup.log();
    assert!(
        log.contains("cannot drop privileges: not started as root"),
        "{log}"
    );
}
