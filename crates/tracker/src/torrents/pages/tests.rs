use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
use serde_json::{Value, json};

use super::super::test_tracker::{Filling, PEER_AGE_SECONDS, Tracker, info_hash};
use super::*;

struct Fixture {
    tracker: Tracker,
    access_list: SharedAccessList,
    lists: ListPage,
    single: SinglePage,
}

impl Fixture {
    fn new(counts_clients: bool) -> Self {
        let mut filling = Filling::new(3, counts_clients);
        for number in 1..=120 {
            filling.fill(
                number,
                [2, u16::from(number == 7)],
                [0, u16::from(number == 8)],
            );
        }
        let tracker = filling.start();
        let access_list = SharedAccessList::new(AccessListMode::Deny, AccessList::default());
        let mut pages = TorrentPages::default();
        pages.add("bittorrent", tracker.readers.clone());
        let kinds: Arc<[Box<dyn Kind>]> = pages.kinds.into();
        Self {
            tracker,
            lists: ListPage {
                kinds: Arc::clone(&kinds),
                lists: Lists::new(Arc::clone(&kinds)),
            },
            single: SinglePage {
                kinds,
                access_list: access_list.clone(),
            },
            access_list,
        }
    }

    fn list(&mut self, query: &str) -> (u16, Value) {
        let lists = &mut self.lists;
        let ask = || {
            lists.answer(query, Duration::ZERO, WAIT_MAX);
            lists.answer(query, Duration::from_secs(2), WAIT_MAX)
        };
        read(&self.tracker.while_working(ask))
    }

    fn single(&mut self, info_hash: &str, query: &str, is_authorized: bool) -> (u16, Value) {
        let single = &mut self.single;
        let client = client(is_authorized);
        let ask = || single.answer(info_hash, query, client);
        read(&self.tracker.while_working(ask))
    }
}

fn client(is_authorized: bool) -> Client {
    Client {
        is_authorized,
        has_token: true,
        wait_max: WAIT_MAX,
    }
}

fn read(response: &Response) -> (u16, Value) {
    assert_eq!(response.content_type, "application/json");
    let value = serde_json::from_slice(&response.body).unwrap();
    (response.status, value)
}

#[test]
fn the_largest_torrents_are_listed() {
    let mut fixture = Fixture::new(false);
    let (status, list) = fixture.list("top=3");
    assert_eq!(status, 200);
    let row = |number, v4: [u32; 2], v6: [u32; 2]| {
        let counts = |[seeders, leechers]: [u32; 2]| {
            let completed = 0;
            json!({"seeders": seeders, "leechers": leechers, "completed": completed})
        };
        json!({
            "info_hash": info_hash(number).to_string(),
            "protocol": "bittorrent",
            "seeders": v4[0] + v6[0],
            "leechers": v4[1] + v6[1],
            "completed": 0,
            "ipv4": counts(v4),
            "ipv6": counts(v6),
        })
    };
    let expected = [
        row(7, [2, 1], [0, 0]),
        row(8, [2, 0], [0, 1]),
        row(1, [2, 0], [0, 0]),
    ];
    assert_eq!(list["torrents"], json!(expected));
    assert_eq!(list["sort"], "peers");
    assert_eq!(list["age_seconds"], 2.0);
    assert_eq!(list["walk_seconds"], 0.0);

    assert_eq!(
        fixture.list("").1["torrents"].as_array().unwrap().len(),
        100
    );
    let leechers = fixture.list("sort=leechers").1;
    assert_eq!(leechers["torrents"].as_array().unwrap().len(), 2);
    let (status, told) = fixture.list("top=x");
    assert_eq!(
        (status, &told),
        (
            400,
            &json!({"error": "`top` must be a number from 1 to 1000"})
        )
    );
}

#[test]
fn a_torrent_is_shown_and_its_peers_to_those_who_may_see_them() {
    for counts_clients in [false, true] {
        let mut fixture = Fixture::new(counts_clients);
        let name = info_hash(8).to_string();
        let (status, shown) = fixture.single(&name, "", false);
        assert_eq!(status, 200);
        assert_eq!(
            shown,
            json!({
                "info_hash": name, "allowed": true, "seeders": 2, "leechers": 1, "completed": 0,
                "swarms": [{
                    "protocol": "bittorrent", "seeders": 2, "leechers": 1, "completed": 0,
                    "ipv4": {"seeders": 2, "leechers": 0, "completed": 0},
                    "ipv6": {"seeders": 0, "leechers": 1, "completed": 0},
                }],
            })
        );
        let (status, told) = fixture.single(&name, "peers=5", false);
        let reason = told["error"].as_str().unwrap();
        let told = "peers are named to whoever shows the operator's token";
        assert!(status == 401 && reason.starts_with(told), "{reason}");
        // Where nobody can show one, to show one is no way.
        let nobody = Client {
            has_token: false,
            ..client(false)
        };
        let (status, told) = read(&fixture.single.answer(&name, "peers=5", nobody));
        let reason = told["error"].as_str().unwrap();
        assert!(
            status == 403 && reason.contains("`endpoint_token_file`"),
            "{reason}"
        );

        let shown = fixture.single(&name, "peers=5", true).1;
        let peers = shown["swarms"][0]["peers"].as_array().unwrap();
        assert_eq!(peers.len(), 3);
        let mut last = json!({
            "ip_version": 6, "ip": "2001:db8::1", "port": 1, "seeder": false,
            "seconds_left": PEER_AGE_SECONDS + 1,
        });
        if counts_clients {
            last["client"] = "Transmission 4.0.6".into();
        }
        assert_eq!(peers[2], last);
        let shown = fixture.single(&name, "peers=1", true).1;
        assert_eq!(shown["swarms"][0]["peers"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn what_is_not_known_is_told_and_whether_it_is_forbidden() {
    let mut fixture = Fixture::new(false);
    let name = info_hash(999).to_string();
    let (status, told) = fixture.single(&name, "", false);
    let reason = "this torrent is not known: it has no peers here";
    assert_eq!((status, told), (404, json!({"error": reason})));
    let forbidden = [info_hash(999), info_hash(8)];
    fixture.access_list.replace(forbidden.into_iter().collect());
    let (status, told) = fixture.single(&name, "", false);
    let reason = "this torrent is not known, and the access list forbids it";
    assert_eq!((status, told), (404, json!({"error": reason})));
    // It has not been cleaned away yet.
    let (status, shown) = fixture.single(&info_hash(8).to_string(), "", false);
    assert_eq!((status, &shown["allowed"]), (200, &json!(false)));
}

#[test]
fn mistakes_are_answered_with_what_is_wrong() {
    let mut fixture = Fixture::new(false);
    for (name, query, reason) in [
        (
            "abc",
            "",
            "this is no info hash: an info hash has 40 hexadecimal digits, this has 3 bytes",
        ),
        (
            "00000000000000000000000000000000000000g0",
            "",
            "this is no info hash: character 39 is not a hexadecimal digit",
        ),
        (
            "0000000000000000000000000000000000000000",
            "peers=1001",
            "`peers` must be a number from 0 to 1000",
        ),
    ] {
        let told = fixture.single(name, query, true);
        assert_eq!(told, (400, json!({"error": reason})));
    }
}

/// A worker that does not get to it is not waited for.
#[test]
fn nobody_waits_for_a_worker_that_is_busy() {
    let mut fixture = Fixture::new(false);
    let name = info_hash(8).to_string();
    let response = fixture.single.answer(&name, "", client(true));
    let (status, told) = read(&response);
    assert_eq!(
        (status, told),
        (
            503,
            json!({"error": "the worker is busy: ask again in a second"})
        )
    );
    let response = fixture.lists.answer("", Duration::ZERO, WAIT_MAX);
    assert_eq!(response.status, 503);
    assert_eq!(fixture.single(&name, "", false).0, 200);
}
