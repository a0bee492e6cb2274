//! What a scrape is answered, wherever its torrents are.

use aquatic_test_support::torrent;
use aquatic_types::{InfoHash, IpFamily};

use super::client::{Client, LEECHER, Row, SEEDER, get, row, rows, scrape};
use super::setup::{on_every_case, on_every_case_and_family};

#[test]
fn every_torrent_has_its_row() {
    on_every_case(|case| {
        let tracker = case.start("");
        let mut clients = IpFamily::ALL.map(|family| Client::new(&tracker, family));
        // Torrent `n` has `n` leechers of each family; torrent 0 is unknown.
        for client in &mut clients {
            for number in 1..=8 {
                for port in 1..=number {
                    let port = u16::try_from(port).unwrap();
                    client.join(torrent(number), port, LEECHER);
                }
            }
        }
        let orders: [&[u32]; 5] = [
            &[1, 2, 3, 4, 5, 6, 7, 8],
            &[8, 7, 6, 5, 4, 3, 2, 1],
            &[3, 0, 3, 0, 8, 8, 8],
            &[0],
            &[0, 5],
        ];
        for client in &mut clients {
            for order in orders {
                let hashes: Vec<_> = order.iter().copied().map(torrent).collect();
                let leechers = |number: &u32| row(0, 0, 2 * i64::from(*number));
                let expected: Vec<_> = order.iter().map(leechers).collect();
                assert_eq!(client.scrape(&hashes), expected, "{order:?}");
            }
        }
    });
}

#[test]
fn a_hundred_torrents_are_answered_and_the_rest_is_not() {
    on_every_case_and_family("", |tracker, family| {
        let mut client = Client::new(tracker, family);
        let seeders = if family == IpFamily::V4 { 1 } else { 2 };
        for number in 0..120 {
            client.join(torrent(number), 1, SEEDER);
        }
        for asked in [1, 99, 100, 101, 120] {
            let hashes: Vec<_> = (0..asked).map(torrent).collect();
            let answered = &hashes[..hashes.len().min(100)];
            let answer = client.get(&scrape(&hashes)).value();
            let expected = vec![row(seeders, 0, 0); answered.len()];
            assert_eq!(rows(&answer, answered), expected, "{asked} asked for");
        }
    });
}

#[test]
fn the_number_of_torrents_is_configured() {
    on_every_case_and_family("protocol.max_scrape_torrents = 3", |tracker, family| {
        let mut client = Client::new(tracker, family);
        let hashes: Vec<_> = (0..10).map(torrent).collect();
        let answer = client.get(&scrape(&hashes)).value();
        assert_eq!(rows(&answer, &hashes[..3]), [row(0, 0, 0); 3]);
    });
}

#[test]
fn many_scrapes_at_once_are_all_answered() {
    const CLIENTS: usize = 32;
    on_every_case_and_family("", |tracker, family| {
        let hashes: Vec<_> = (0..100).map(torrent).collect();
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::new(tracker, family)).collect();
        for client in &mut clients {
            client.connection.send(get(&scrape(&hashes)).repeat(2));
        }
        for client in &mut clients {
            for _ in 0..2 {
                let answer = client.connection.answer().value();
                assert_eq!(rows(&answer, &hashes), vec![row(0, 0, 0); 100]);
            }
        }
    });
}

#[test]
fn a_full_scrape_shows_every_torrent() {
    on_every_case(|case| {
        let tracker = case.start("protocol.max_full_scrape_torrents = 1000");
        let [mut v4, mut v6] = IpFamily::ALL.map(|family| Client::new(&tracker, family));
        assert_eq!(full_scrape(&mut v4, &[]), []);
        // Enough for several slices of several shards.
        for number in 0..400 {
            v4.join(torrent(number), 1, SEEDER);
            v6.join(torrent(number + 300), 1, LEECHER);
        }
        v4.announce((torrent(0), 2, SEEDER), "&event=completed");
        // Nobody is left in these, but one has been downloaded.
        v4.announce((torrent(700), 2, SEEDER), "&event=completed");
        for number in [700, 701] {
            v4.join(torrent(number), 2, SEEDER);
            v4.announce((torrent(number), 2, SEEDER), "&event=stopped");
        }
        let hashes: Vec<_> = (0..=700).map(torrent).collect();
        let expected: Vec<_> = (0..=700)
            .map(|number| match number {
                0 => row(2, 1, 0),
                1..300 => row(1, 0, 0),
                300..400 => row(1, 0, 1),
                400..700 => row(0, 0, 1),
                _ => row(0, 1, 0),
            })
            .collect();
        for client in [&mut v4, &mut v6] {
            assert_eq!(full_scrape(client, &hashes), expected);
        }
    });
}

#[test]
fn a_full_scrape_is_bounded() {
    let settings = "protocol.max_full_scrape_torrents = 5";
    on_every_case_and_family(settings, |tracker, family| {
        let mut client = Client::new(tracker, family);
        for number in 0..20 {
            client.join(torrent(number), 1, LEECHER);
        }
        let answer = client.get("/scrape").value();
        assert_eq!(answer.get("files").unwrap().keys().len(), 5);
        // Those that name torrents have a bound of their own.
        let hashes: Vec<_> = (0..20).map(torrent).collect();
        assert_eq!(client.scrape(&hashes).len(), 20);
    });
}

#[test]
fn many_full_scrapes_at_once_are_all_answered() {
    const CLIENTS: usize = 32;
    let settings = "protocol.max_full_scrape_torrents = 1000";
    on_every_case_and_family(settings, |tracker, family| {
        let hashes: Vec<_> = (0..300).map(torrent).collect();
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::new(tracker, family)).collect();
        for hash in &hashes {
            clients[0].join(*hash, 1, SEEDER);
        }
        let seeders = clients[0].scrape(&hashes[..1])[0].seeders;
        for client in &mut clients {
            client.connection.send(get("/scrape").repeat(3));
        }
        for client in &mut clients {
            for _ in 0..3 {
                let answer = client.connection.answer().value();
                let rows = rows(&answer, &hashes);
                assert!(rows.iter().all(|row| row.seeders >= seeders));
            }
        }
    });
}

/// What a full scrape says, which must be about these torrents.
#[track_caller]
fn full_scrape(client: &mut Client, info_hashes: &[InfoHash]) -> Vec<Row> {
    rows(&client.get("/scrape").value(), info_hashes)
}
