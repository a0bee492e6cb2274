//! A network of its own for a test: with nothing but loopback, where every port is free.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::process::Command;
use std::thread;

use aquatic_types::IpFamily;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use crate::skipping::skip;

/// Runs `test` in a thread that has such a network, and so have the programs that it starts. Where
/// that is not allowed, nothing is tested ([`skip`]).
pub fn alone(test: impl FnOnce() + Send) {
    if !is_allowed() {
        return;
    }
    let in_namespace = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        set_loopback("up");
        test();
    };
    thread::scope(|scope| scope.spawn(in_namespace).join()).unwrap();
}

/// Whether such networks can be made. If not, something is not tested ([`skip`]).
pub(crate) fn is_allowed() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        skip("network namespaces need root: run this test by `sudo`");
    }
    is_root
}

/// Addresses for documentation (RFC 5737, RFC 3849), which no machine has otherwise.
const V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// The same, with addresses at the loopback interface whose frames a program may see: the usual
/// ones are the kernel's own. What is sent by a queue comes as if from another machine, so the
/// kernel is told that those may have such an address, too.
pub(crate) fn with_queues(test: impl FnOnce() + Send) {
    alone(|| {
        fs::write("/proc/sys/net/ipv4/conf/all/accept_local", "1").unwrap();
        ip(&["addr", "add", &format!("{V4}/32"), "dev", "lo"]);
        ip(&["addr", "add", &format!("{V6}/128"), "dev", "lo", "nodad"]);
        test();
    });
}

/// The address of this machine in such a network, if this is one.
pub(crate) fn address_of_queues(family: IpFamily) -> Option<IpAddr> {
    let address = match family {
        IpFamily::V4 => V4.into(),
        IpFamily::V6 => V6.into(),
    };
    let is_here = UdpSocket::bind((address, 0)).is_ok();
    is_here.then_some(address)
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
