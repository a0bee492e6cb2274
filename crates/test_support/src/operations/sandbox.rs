//! What a daemon can no longer do when it has started: tried from inside, by each of its threads.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;

use aquatic_types::IpFamily;
use nix::errno::Errno;
use nix::libc;

use super::privileges::is_root;
use crate::faults::spawn_without;
use crate::threads::Argument::{self, Bytes, Number, Path};
use crate::threads::Frozen;
use crate::{Daemon, Place, Program, Setup, metrics, setup, torrent};

const LIST: &str = "access_list.mode = 'deny'\naccess_list.path = 'lists/list'\n";

/// Another one than the list's.
const FOREIGN: &str = "/etc/passwd";

/// One topology with all kinds of workers for each runtime.
fn on_every_runtime(program: &'static Program, scenario: impl Fn(Setup) + Sync) {
    setup::on_every_runtime(program, |setup| {
        scenario(Setup {
            swarm_workers: 1,
            ..setup
        });
    });
}

fn place() -> Place {
    let place = Place::new();
    fs::create_dir(place.path("lists")).unwrap();
    place.write("lists/list", "");
    place
}

fn start(setup: Setup, settings: &str) -> Daemon {
    let place = place();
    let settings = format!("{}{LIST}{settings}", place.metrics_settings(setup.program));
    place.start(setup, &settings)
}

fn thread_ids(daemon: &Daemon) -> Vec<i32> {
    let threads = daemon.threads().into_iter();
    let id = |path: std::path::PathBuf| path.file_name()?.to_str()?.parse().ok();
    threads.filter_map(id).collect()
}

/// What becomes of a call, for each thread.
#[cfg(target_arch = "x86_64")]
fn try_in_all_threads(daemon: &Daemon, call: i64, arguments: &[Argument<'_>]) -> Vec<i64> {
    let try_in = |id| {
        let thread = Frozen::new(id);
        let result = thread.call(call, arguments).expect("nobody is killed");
        if result >= 0 && call == libc::SYS_openat {
            thread.call(libc::SYS_close, &[Number(result)]);
        }
        thread.let_go();
        result
    };
    thread_ids(daemon).into_iter().map(try_in).collect()
}

#[cfg(target_arch = "x86_64")]
fn refused(errno: Errno) -> i64 {
    -i64::from(errno as i32)
}

/// That an open fails for lack of the right to, and not otherwise.
#[cfg(target_arch = "x86_64")]
fn open_in_all_threads(daemon: &Daemon, path: &str, flags: i32) -> Vec<i64> {
    let (folder, flags) = (libc::AT_FDCWD.into(), flags.into());
    let arguments = [Number(folder), Path(path), Number(flags), Number(0o600)];
    try_in_all_threads(daemon, libc::SYS_openat, &arguments)
}

/// In the running daemon, with every runtime; and what is allowed goes on.
#[cfg(target_arch = "x86_64")]
pub fn strangers_in_it_can_open_and_do_nothing(program: &'static Program) {
    on_every_runtime(program, |setup| {
        let daemon = start(setup, "");
        daemon.wait_for_log("in the sandbox");
        for thread in daemon.threads() {
            let status = fs::read_to_string(thread.join("status")).unwrap();
            for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
                assert!(status.lines().any(|it| it == line), "{line}: {status}");
            }
            assert!(status.contains("\nCapBnd:\t0000000000000000\n"), "{status}");
        }
        let all = |errno: Errno| vec![refused(errno); daemon.threads().len()];
        let create = libc::O_WRONLY | libc::O_CREAT;
        let new = daemon.place.path("new");
        let new = new.to_str().unwrap();
        assert_eq!(open_in_all_threads(&daemon, FOREIGN, 0), all(Errno::EACCES));
        assert_eq!(
            open_in_all_threads(&daemon, new, create),
            all(Errno::EACCES)
        );
        let list = daemon.place.path("lists/list");
        let opened = open_in_all_threads(&daemon, list.to_str().unwrap(), 0);
        assert!(opened.iter().all(|file| *file >= 0), "{opened:?}");

        let executable = i64::from(libc::PROT_READ | libc::PROT_EXEC);
        let private = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let user_namespace = i64::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
        let mut forbidden = vec![
            (libc::SYS_socket, vec![libc::AF_INET.into(), 1, 0]),
            (libc::SYS_bind, vec![0; 3]),
            (libc::SYS_connect, vec![0; 3]),
            (libc::SYS_kill, vec![1, 0]),
            (libc::SYS_setuid, vec![0]),
            (libc::SYS_chroot, vec![0]),
            (libc::SYS_clone, vec![user_namespace, 0]),
            (libc::SYS_mmap, vec![0, 4_096, executable, private, -1, 0]),
            (libc::SYS_ioctl, vec![0, libc::TIOCSTI.cast_signed(), 0]),
        ];
        if setup.runtime == "mio" {
            forbidden.push((libc::SYS_io_uring_setup, vec![1, 0]));
        }
        for (call, arguments) in forbidden {
            let arguments: Vec<_> = arguments.into_iter().map(Number).collect();
            let results = try_in_all_threads(&daemon, call, &arguments);
            assert_eq!(results, all(Errno::EPERM), "call {call}");
        }
        assert_serves(program, &daemon);
    });
}

/// Clients, metrics, and a list that comes by way of a link to another folder.
fn assert_serves(program: &'static Program, daemon: &Daemon) {
    let place = &daemon.place;
    let mut client = program.client_of(daemon, IpFamily::V4);
    assert_eq!(client.join(torrent(1), 1), Ok(1));
    let samples = metrics::scrape(daemon);
    assert!(metrics::sum(&samples, "process_open_fds") > 0.0);
    place.write("lists/list.new", torrent(1).to_string());
    fs::rename(place.path("lists/list.new"), place.path("lists/list")).unwrap();
    daemon.reload();
    assert!(client.join(torrent(1), 1).is_err(), "denied by now");
    // As mounted volumes of containers are changed.
    fs::create_dir(place.path("lists/2")).unwrap();
    place.write("lists/2/list", torrent(2).to_string());
    fs::remove_file(place.path("lists/list")).unwrap();
    symlink("2/list", place.path("lists/list")).unwrap();
    daemon.reload();
    assert_eq!(client.join(torrent(1), 1), Ok(1));
    assert!(client.join(torrent(2), 1).is_err(), "denied by now");
}

/// That is what code of strangers does first.
#[cfg(target_arch = "x86_64")]
pub fn to_run_a_program_ends_it(program: &'static Program) {
    on_every_runtime(program, |setup| {
        let mut daemon = start(setup, "");
        let thread = Frozen::named(&daemon, "socket-0");
        let arguments = [Path("/bin/true"), Number(0), Number(0)];
        assert_eq!(thread.call(libc::SYS_execve, &arguments), None);
        assert_eq!(daemon.wait_exit().signal(), Some(libc::SIGSYS));
    });
}

/// As under systemd with `AmbientCapabilities=`, where the port is one below 1024.
pub fn who_is_not_root_keeps_no_capability(program: &'static Program) {
    if !is_root() {
        return;
    }
    on_every_runtime(program, |setup| {
        let place = place();
        let everyone = Permissions::from_mode(0o777);
        fs::set_permissions(place.path("notify"), everyone).unwrap();
        let settings = format!("{}{LIST}", place.metrics_settings(program));
        let lines = "cp \"$0\" program\n\
                     set -- --ambient-caps=+net_bind_service ./program \"$@\"\n\
                     exec setpriv --reuid=nobody --regid=nogroup --clear-groups \
                     --inh-caps=+net_bind_service \"$@\"";
        let mut command = place.command_after(lines, setup, &settings);
        let daemon = place.start_by(&mut command);
        for thread in daemon.threads() {
            let status = fs::read_to_string(thread.join("status")).unwrap();
            for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                assert!(
                    status.contains(&format!("\n{set}:\t0000000000000000\n")),
                    "{status}"
                );
            }
        }
        assert_serves(program, &daemon);
    });
}

/// Without it, everything above can be done: it is the sandbox that forbids it.
#[cfg(target_arch = "x86_64")]
pub fn the_sandbox_can_be_left_out(program: &'static Program) {
    let daemon = start(Setup::simple(program), "privileges.sandbox = false");
    let opened = open_in_all_threads(&daemon, FOREIGN, 0);
    assert!(opened.iter().all(|file| *file >= 0), "{opened:?}");
    let socket = [libc::AF_INET.into(), 1, 0].map(Number);
    let sockets = try_in_all_threads(&daemon, libc::SYS_socket, &socket);
    assert!(sockets.iter().all(|socket| *socket >= 0), "{sockets:?}");
    // No program gets more rights all the same.
    let status = fs::read_to_string(daemon.proc("status")).unwrap();
    assert!(status.contains("\nNoNewPrivs:\t1\n"), "{status}");
}

/// A tracker under a kernel that has not got a part of it.
#[cfg(target_arch = "x86_64")]
fn start_without(program: &'static Program, call: i64, errno: Errno) -> Daemon {
    let (place, setup) = (place(), Setup::simple(program));
    let child = spawn_without(&place, call, errno as i32, setup, LIST);
    place.wait_for(child)
}

/// Without seccomp, Landlock keeps files and connections away from strangers; and the other way
/// round, seccomp sockets.
#[cfg(target_arch = "x86_64")]
pub fn each_part_of_it_works_alone(program: &'static Program) {
    let socket = [libc::AF_INET.into(), libc::SOCK_STREAM.into(), 0].map(Number);
    let daemon = start_without(program, libc::SYS_seccomp, Errno::EINVAL);
    let opened = open_in_all_threads(&daemon, FOREIGN, 0);
    assert_eq!(opened, vec![refused(Errno::EACCES); opened.len()]);
    let [high, low] = daemon.place.port().to_be_bytes();
    // `struct sockaddr_in`, AF_INET first.
    let address = [2, 0, high, low, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    for id in thread_ids(&daemon) {
        let thread = Frozen::new(id);
        let file = thread.call(libc::SYS_socket, &socket).unwrap();
        assert!(file >= 0, "without seccomp there are sockets: {file}");
        let arguments = [Number(file), Bytes(&address), Number(16)];
        let connected = thread.call(libc::SYS_connect, &arguments);
        assert_eq!(connected, Some(refused(Errno::EACCES)));
        thread.call(libc::SYS_close, &[Number(file)]);
        thread.let_go();
    }

    let daemon = start_without(program, libc::SYS_landlock_create_ruleset, Errno::ENOSYS);
    let opened = open_in_all_threads(&daemon, FOREIGN, 0);
    assert!(
        opened.iter().all(|file| *file >= 0),
        "without Landlock: {opened:?}"
    );
    let sockets = try_in_all_threads(&daemon, libc::SYS_socket, &socket);
    assert_eq!(sockets, vec![refused(Errno::EPERM); sockets.len()]);
}

/// It says what is missing, and serves.
pub fn a_kernel_without_a_part_of_it_is_told_about(program: &'static Program) {
    let serves = |call, errno: Errno, missing: &str, advice: &str| {
        let place = place();
        let setup = Setup::simple(program);
        let settings = format!("{}{LIST}", place.metrics_settings(program));
        let child = spawn_without(&place, call, errno as i32, setup, &settings);
        let daemon = place.wait_for(child);
        daemon.wait_for_warning(missing, advice);
        assert_serves(program, &daemon);
    };
    let missing = "`privileges.sandbox`: files are not confined by Landlock";
    let advice = "serves nevertheless";
    serves(
        libc::SYS_landlock_create_ruleset,
        Errno::ENOSYS,
        missing,
        advice,
    );
    let missing = "`privileges.sandbox`: system calls are not filtered by seccomp";
    serves(libc::SYS_seccomp, Errno::EINVAL, missing, advice);
}
