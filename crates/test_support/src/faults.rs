//! A kernel that says no: system calls that fail, by a seccomp filter such as container runtimes
//! use, and limits on what a process may have.

use std::collections::BTreeMap;
use std::process::{Child, Command};
use std::thread;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::{Daemon, Place, Setup};

/// A system call that is refused: always, or only with these arguments (position, from 0, and
/// value).
pub type Denied = (i64, &'static [(u8, i32)]);

/// Starts a tracker for which a system call always fails.
#[must_use]
pub fn spawn_without(place: &Place, call: i64, errno: i32, setup: Setup, settings: &str) -> Child {
    spawn_denied(&[(call, &[])], errno, place.command(setup, settings))
}

/// Starts a program for which these system calls fail.
#[must_use]
pub fn spawn_denied(denied: &[Denied], errno: i32, mut command: Command) -> Child {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for (call, arguments) in denied {
        let of_call = rules.entry(*call).or_default();
        if !arguments.is_empty() {
            of_call.push(SeccompRule::new(arguments.iter().map(equals).collect()).unwrap());
        }
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno.cast_unsigned()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    // A filter is for the thread that sets it, and for the processes that this thread starts.
    thread::scope(|scope| {
        let starter = scope.spawn(|| {
            seccompiler::apply_filter(&program).unwrap();
            command.spawn().unwrap()
        });
        starter.join().unwrap()
    })
}

fn equals((position, value): &(u8, i32)) -> SeccompCondition {
    let (length, value) = (SeccompCmpArgLen::Dword, value.cast_unsigned().into());
    SeccompCondition::new(*position, length, SeccompCmpOp::Eq, value).unwrap()
}

/// Starts a tracker with a limit of `prlimit` (util-linux), such as `--nofile=100`.
#[must_use]
pub fn spawn_with_limit(place: &Place, limit: &str, setup: Setup, settings: &str) -> Child {
    let lines = format!("prlimit --pid $$ {limit} || exit");
    let mut command = place.command_after(&lines, setup, settings);
    command.spawn().unwrap()
}

/// Changes such a limit of a tracker that runs.
pub(crate) fn set_limit(daemon: &Daemon, limit: &str) {
    let pid = daemon.pid().to_string();
    let status = Command::new("prlimit")
        .args(["--pid", &pid, limit])
        .status();
    assert!(status.expect("util-linux is installed").success());
}
