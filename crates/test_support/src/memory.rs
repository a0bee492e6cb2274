//! Clients that make their connections hold as much as they can.

use socket2::SockRef;

use crate::cases::Tracker;
use crate::connection::{Connection, tcp};
use crate::metrics;
use crate::program::loopback;
use crate::wait::until;
use aquatic_types::IpFamily;

/// Less than this is more in any case, since a few connections need as much.
pub const SETTINGS: &str = "network.max_connection_memory = '1 MiB'";

/// So many clients come from one address, and each does what `greedy` does and stays; `ask` is done
/// again and again meanwhile. All connections together hold no more than so many bytes, and some
/// are closed for that.
pub fn is_bounded<T>(
    tracker: &Tracker,
    clients: usize,
    bytes_max: f64,
    greedy: impl Fn(Connection) -> T,
    mut ask: impl FnMut(),
) {
    let address = tracker.address(IpFamily::V4);
    let mut connections = Vec::new();
    for number in 0..clients {
        let tcp = tcp(loopback(1), address).unwrap();
        // It reads little before it no longer reads.
        SockRef::from(&tcp).set_recv_buffer_size(4_096).unwrap();
        connections.push(greedy(Connection::over(tcp, tracker.transport)));
        if number % 15 == 0 {
            ask();
            let held = metrics::sum(&metrics::scrape(tracker), "aquatic_connection_memory_bytes");
            assert!(held <= bytes_max, "{held} bytes");
        }
    }
    until("those that hold most are closed", || {
        let closed = "aquatic_connections_closed_total{reason=max_connection_memory}";
        (metrics::sum(&metrics::scrape(tracker), closed) > 0.0).then_some(())
    });
    tracker.wait_for_warning(
        "connections closed that held most, because all together held too much memory: ",
        "see `network.max_connection_memory`",
    );
    ask();
}
