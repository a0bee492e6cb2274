//! Packets that travel together, and what becomes of them where the kernel cannot cut messages
//! apart.

use aquatic_udp_socket::ReturnPath;

use super::*;

/// How many packets travel with each request for an outbox.
fn requests(sends: &mut Sends, outbox: &mut Outbox) -> Vec<u32> {
    let (packets, mut id) = sends.take_over(0, outbox);
    let mut requests = Vec::new();
    while id.place < packets {
        let (_, together) = sends.request(id).expect("room");
        requests.push(together);
        sends.completed(id, 0);
        id.place += together;
    }
    sends.reuse();
    requests
}

#[test]
fn packets_of_one_size_to_one_client_travel_together() {
    let mut sends = Sends::new(8, [false].into_iter(), true);
    let [first, second] = [1, 2].map(|port| ReturnPath::to(([127, 0, 0, 1], port).into()));
    let mut outbox = Outbox::new();
    let fill = |outbox: &mut Outbox| {
        for (path, bytes) in [(first, 16), (second, 16), (first, 20), (first, 16)] {
            outbox.push(path, &vec![0; bytes]);
        }
    };
    fill(&mut outbox);
    let mut together = requests(&mut sends, &mut outbox);
    together.sort_unstable();
    assert_eq!(together, [1, 1, 2]);
    assert_eq!(sends.take_report(0).sent, 4);

    // The kernel cannot cut messages apart: those two are sent again, and then nothing merges.
    let (_, id) = {
        outbox.push(first, b"1");
        outbox.push(first, b"2");
        sends.take_over(0, &mut outbox)
    };
    assert_eq!(sends.request(id).map(|(_, together)| together), Some(2));
    sends.completed(id, -libc::EIO);
    sends.reuse();
    assert_eq!(sends.take_report(0).failed, 0);
    let mut refused = sends.take_refused(0).expect("both");
    assert_eq!(requests(&mut sends, &mut refused), [1, 1]);
    fill(&mut outbox);
    assert_eq!(requests(&mut sends, &mut outbox), [1; 4]);
}
