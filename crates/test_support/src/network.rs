//! A network of its own for a test: with nothing but loopback, where every port is free.

use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use crate::skipping::skip;

/// Runs `test` in a thread that has such a network, and so have the programs that it starts. Where
/// that is not allowed, nothing is tested ([`skip`]).
pub fn alone(test: impl FnOnce() + Send) {
    if !geteuid().is_root() {
        skip("network namespaces need root: run this test by `sudo`");
        return;
    }
    let in_namespace = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        set_loopback("up");
        test();
    };
    thread::scope(|scope| scope.spawn(in_namespace).join()).unwrap();
}

/// Has the loopback interface of the thread's network `up` or `down`.
pub fn set_loopback(state: &str) {
    ip(&["link", "set", "lo", state]);
}

/// Has the loopback interface of the thread's network get (`add`) or lose (`del`) 127.0.0.1.
/// Without it, the kernel knows no way to there.
pub fn change_loopback_address(change: &str) {
    ip(&["addr", change, "127.0.0.1/8", "dev", "lo"]);
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status();
    assert!(status.expect("iproute2 is installed").success());
}
