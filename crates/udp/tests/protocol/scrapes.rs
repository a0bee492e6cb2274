//! What a scrape is answered, wherever its torrents are.

use aquatic_test_support::torrent;
use aquatic_types::IpFamily;

use super::client::{Client, row};
use super::setup::{on_every_setup, on_every_setup_and_family};

#[test]
fn rows_come_in_the_order_of_the_request() {
    on_every_setup_and_family("", |daemon, family| {
        let mut client = Client::new(daemon, family);
        // Torrent `n` has `n` leechers; torrent 0 is unknown.
        for number in 1..=8 {
            for port in 1..=number {
                client.join(torrent(number), u16::try_from(port).unwrap(), 1);
            }
        }
        // Forwards, backwards, with gaps, unknown ones and repetitions.
        let orders: [&[u32]; 5] = [
            &[1, 2, 3, 4, 5, 6, 7, 8],
            &[8, 7, 6, 5, 4, 3, 2, 1],
            &[3, 0, 3, 0, 8, 8, 8],
            &[0],
            &[0, 5],
        ];
        for order in orders {
            let hashes: Vec<_> = order.iter().copied().map(torrent).collect();
            let rows: Vec<_> = order.iter().map(|leechers| row(0, 0, *leechers)).collect();
            assert_eq!(client.scrape(&hashes), rows, "{order:?}");
        }
    });
}

#[test]
fn as_many_torrents_as_bep_15_says_are_answered_and_the_rest_is_not() {
    on_every_setup_and_family("", |daemon, family| {
        let mut client = Client::new(daemon, family);
        for number in 0..100 {
            client.join(torrent(number), 1, u64::from(number % 2));
        }
        for asked in [1, 73, 74, 75, 100] {
            let hashes: Vec<_> = (0..asked).map(torrent).collect();
            let rows: Vec<_> = (0..asked.min(74))
                .map(|number| row(1 - number % 2, 0, number % 2))
                .collect();
            assert_eq!(client.scrape(&hashes), rows, "{asked} asked for");
        }
    });
}

#[test]
fn the_number_of_torrents_is_configured() {
    on_every_setup_and_family("protocol.max_scrape_torrents = 3", |daemon, family| {
        let mut client = Client::new(daemon, family);
        let hashes: Vec<_> = (0..10).map(torrent).collect();
        assert_eq!(client.scrape(&hashes).len(), 3);
    });
}

#[test]
fn many_scrapes_at_once_are_all_answered() {
    on_every_setup(|setup| {
        // More answers would not fit into the receive buffer that a system gives to the client by
        // default: the kernel counts what comes by a queue as larger.
        let scrapes = if setup.has_queues { 32 } else { 64 };
        let daemon = setup.start("");
        for family in IpFamily::ALL {
            let client = Client::new(&daemon, family);
            let hashes: Vec<_> = (0..74).map(torrent).collect();
            let request = client.scrape_request(&hashes);
            for _ in 0..scrapes {
                client.send(&request);
            }
            for _ in 0..scrapes {
                assert_eq!(client.receive().len(), 8 + 74 * 12);
            }
        }
    });
}
