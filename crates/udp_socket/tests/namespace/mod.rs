//! A network of its own for a test: the only way to see a send buffer full.
//!
//! On loopback a packet leaves the send buffer at once. Here it goes to an Ethernet neighbour that
//! does not answer, and waits in the kernel, on the sender's account, until the neighbour is known.

use std::net::SocketAddr;
use std::process::Command;

use aquatic_udp_socket::{SocketOptions, UdpSocket};

/// Runs the ignored test `name` of this program in a new network namespace. Where that is not
/// allowed it says so, and nothing is tested.
pub(crate) fn run_in(name: &str) {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net"]);
        command
    };
    if !unshare()
        .arg("true")
        .status()
        .is_ok_and(|status| status.success())
    {
        eprintln!("skipped: no network namespace can be made here");
        return;
    }
    let inner = unshare()
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let [output, errors] = [&inner.stdout, &inner.stderr].map(|it| String::from_utf8_lossy(it));
    assert!(inner.status.success(), "{output}{errors}");
    assert!(output.contains("\ntest result: ok. 1 passed;"), "{output}");
}

/// Makes an interface with a silent neighbour. Gives back a socket with the least possible send
/// buffer, and the neighbour's address.
pub(crate) fn socket_and_silent_neighbour() -> (UdpSocket, SocketAddr) {
    (
        socket_with_silent_neighbours(1),
        "192.0.2.2:9".parse().unwrap(),
    )
}

/// Makes an interface in whose network, 192.0.2.0/24, nobody answers. Gives back a socket with such
/// a send buffer.
pub(crate) fn socket_with_silent_neighbours(send_buffer_bytes: usize) -> UdpSocket {
    ip("link set lo up");
    ip("link add near type veth peer name far");
    ip("addr add 192.0.2.1/24 dev near");
    // Otherwise the kernel gives neighbours up after three seconds, and with them what waits.
    ip("ntable change name arp_cache dev near retrans 60000");
    ip("link set near up");
    ip("link set far up");
    let options = SocketOptions {
        send_buffer_bytes,
        ..SocketOptions::default()
    };
    UdpSocket::bind("192.0.2.1:0".parse().unwrap(), &options).unwrap()
}

/// From now on packets to the neighbour leave.
pub(crate) fn make_neighbour_known() {
    ip("neigh replace 192.0.2.2 lladdr 02:00:00:00:00:02 dev near");
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(
        status.expect("iproute2 is installed").success(),
        "ip {arguments}"
    );
}
