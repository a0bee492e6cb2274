//! Access lists and keys that are kept in the servers.

use std::ops::Range;

use aquatic_test_support::nats::{self, NatsClient, NatsServer};
use aquatic_test_support::operations::operator_endpoint::{TOKEN, ask, write_token};
use aquatic_test_support::{Daemon, metrics, torrent, wait};
use aquatic_types::{AnnounceEvent, InfoHash, IpFamily};
use nix::sys::signal::Signal;

use super::setup::{Client, Http, Kind, Node, Udp, browser, client};

const V4: IpFamily = IpFamily::V4;

const HASHES: &str = "aquatic_main_access";
const KEYS: &str = "aquatic_main_keys";

fn listed(mode: &str) -> String {
    format!(
        "access_list.mode = '{mode}'\naccess_list.path = 'list'\n\
         cluster.access_list_bucket = true\n"
    )
}

fn node(kind: Kind, name: &str, server: &NatsServer, settings: &str) -> Node {
    let section = match kind {
        Kind::Udp => "statistics",
        _ => "metrics",
    };
    let node = Node::new(kind, name, server).with(settings);
    let node = node.with(&format!("{section}.endpoint_token_file = 'token'"));
    write_token(node.place(), TOKEN);
    for file in ["list", "keys"] {
        node.place().write(file, "");
    }
    node
}

fn wait_until_heard(daemon: &Daemon, list: &str) {
    let name = format!("aquatic_cluster_bucket_connected{{list={list}}}");
    metrics::wait_for(daemon, &[(&name, 1.0)]);
}

/// Waits until a torrent is served, or is not.
#[track_caller]
fn wait_for(client: &mut dyn Client, torrent: InfoHash, is_served: bool) {
    wait::until_ok(|| {
        let answer = client.announce(torrent, 1, 0, AnnounceEvent::None);
        match answer.is_ok() == is_served {
            true => Ok(()),
            false => Err(format!("{answer:?}, but it should be {is_served}")),
        }
    });
}

#[test]
fn a_torrent_is_allowed_or_denied_at_all_nodes_at_once() {
    if !nats::is_there() {
        return;
    }
    for (mode, is_served_if_listed) in [("allow", true), ("deny", false)] {
        let mut server = NatsServer::start();
        let nodes = [(Kind::Udp, "a"), (Kind::Both, "b"), (Kind::Http, "c")];
        let daemons = nodes.map(|(kind, name)| {
            let daemon = node(kind, name, &server, &listed(mode)).start();
            (kind, daemon)
        });
        let mut clients = daemons
            .each_ref()
            .map(|(kind, daemon)| client(*kind, daemon, V4));
        for (_, daemon) in &daemons {
            wait_until_heard(daemon, "access_list");
        }
        let mut expect = |number: u32, is_listed: bool| {
            for client in &mut clients {
                let is_served = is_listed == is_served_if_listed;
                wait_for(&mut **client, torrent(number), is_served);
            }
        };
        expect(1, false);
        let mut back_end = NatsClient::connect(server.address());
        back_end.put(HASHES, torrent(1), "a name");
        back_end.put(HASHES, "no-hash", "");
        back_end.put(HASHES, torrent(2), "");
        expect(1, true);
        expect(2, true);
        back_end.delete(HASHES, torrent(2));
        expect(2, false);
        server.kill();
        for (_, daemon) in &daemons {
            metrics::wait_for(
                daemon,
                &[
                    ("aquatic_cluster_bucket_connected{list=access_list}", 0.0),
                    (
                        "aquatic_cluster_bucket_invalid_total{list=access_list}",
                        1.0,
                    ),
                    ("aquatic_access_list_entries", 1.0),
                ],
            );
            daemon.wait_for_log("the entry `no-hash` of the bucket cannot be used");
        }
        expect(1, true);
        server.go_on();
        let mut back_end = NatsClient::connect(server.address());
        back_end.delete(HASHES, torrent(1));
        back_end.put(HASHES, torrent(2), "");
        expect(1, false);
        expect(2, true);
    }
}

/// Its file is empty: before it has read the list, it would take in nobody.
#[test]
fn a_new_node_knows_the_peers_of_torrents_that_it_reads_of_in_the_bucket() {
    if !nats::is_there() {
        return;
    }
    const TORRENTS: u32 = 30;
    let server = NatsServer::start();
    let [a, b] = ["a", "b"].map(|name| {
        let settings = format!("{}cluster.start_complete_within = 20\n", listed("allow"));
        node(Kind::Udp, name, &server, &settings)
    });
    let a = a.start();
    let mut back_end = NatsClient::connect(server.address());
    // Enough for the log to be read first, if nothing prevents that.
    let entries = (0..20_000).map(|number| (format!("{number:040x}"), ""));
    back_end.put_all(HASHES, entries);
    for number in 1..=TORRENTS {
        back_end.put(HASHES, torrent(number), "");
    }
    let mut at_a = client(Kind::Udp, &a, V4);
    for number in 1..=TORRENTS {
        wait_for(&mut *at_a, torrent(number), true);
    }
    // What has not been collected yet is not buffered either.
    let published = "aquatic_cluster_records_published_total{reason=added}";
    let buffered = "aquatic_cluster_buffered_bytes";
    metrics::wait_for(&a, &[(published, f64::from(TORRENTS)), (buffered, 0.0)]);
    let b = b.start();
    let mut at_b = client(Kind::Udp, &b, V4);
    for number in 1..=TORRENTS {
        // Who has nothing left to download has all of it.
        assert_eq!(at_b.scrape(torrent(number)), [1, 0, 0], "{number}");
    }
}

/// A server that has lost its disk, or somebody who has deleted it: nobody is to be served less.
#[test]
fn a_bucket_that_is_gone_takes_no_list_along() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    let node = node(Kind::Udp, "a", &server, &listed("allow"));
    let daemon = node.start();
    wait_until_heard(&daemon, "access_list");
    let mut udp = client(Kind::Udp, &daemon, V4);
    let mut back_end = NatsClient::connect(server.address());
    back_end.put(HASHES, torrent(1), "");
    wait_for(&mut *udp, torrent(1), true);
    let answer = back_end.ask(&format!("$JS.API.STREAM.DELETE.KV_{HASHES}"), "");
    assert!(answer.contains("\"success\":true"), "{answer}");
    daemon.wait_for_log("it is gone: the last list stands");
    let heard = "aquatic_cluster_bucket_connected{list=access_list}";
    let listed = ("aquatic_access_list_entries", 1.0);
    metrics::wait_for(&daemon, &[(heard, 0.0), listed]);
    wait_for(&mut *udp, torrent(1), true);
    wait_for(&mut *udp, torrent(2), false);
}

/// The one that starts does not know that the bucket was there before, and makes it.
#[test]
fn a_bucket_that_somebody_makes_anew_takes_no_list_along() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    let nodes = ["a", "b"].map(|name| node(Kind::Udp, name, &server, &listed("allow")));
    let [a, mut b] = nodes.each_ref().map(Node::start);
    for daemon in [&a, &b] {
        wait_until_heard(daemon, "access_list");
    }
    let mut back_end = NatsClient::connect(server.address());
    back_end.put(HASHES, torrent(1), "");
    let [mut at_a, mut at_b] = [&a, &b].map(|daemon| client(Kind::Udp, daemon, V4));
    for client in [&mut at_a, &mut at_b] {
        wait_for(&mut **client, torrent(1), true);
    }
    let answer = back_end.ask(&format!("$JS.API.STREAM.DELETE.KV_{HASHES}"), "");
    assert!(answer.contains("\"success\":true"), "{answer}");
    a.wait_for_log("it is gone: the last list stands");
    b.signal(Signal::SIGTERM);
    assert!(b.wait_exit().success());
    // The copy, which is written half a minute after a change.
    nodes[1].place().write("list", torrent(1).to_string());
    let b = nodes[1].start();
    for daemon in [&a, &b] {
        wait_until_heard(daemon, "access_list");
        daemon.wait_for_log("has never had an entry: the list stays as it is");
    }
    let mut at_b = client(Kind::Udp, &b, V4);
    back_end.put(HASHES, torrent(2), "");
    for client in [&mut at_a, &mut at_b] {
        wait_for(&mut **client, torrent(2), true);
        wait_for(&mut **client, torrent(1), true);
    }
}

#[test]
fn a_torrent_is_denied_to_browsers_at_all_nodes_at_once() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    let nodes = ["a", "b"].map(|name| node(Kind::WebTorrent, name, &server, &listed("deny")));
    let daemons = nodes.each_ref().map(Node::start);
    let mut browsers = daemons
        .each_ref()
        .map(|daemon| browser(Kind::WebTorrent, daemon, b'x'));
    for daemon in &daemons {
        wait_until_heard(daemon, "access_list");
    }
    let mut back_end = NatsClient::connect(server.address());
    for is_denied in [false, true, false] {
        if is_denied {
            back_end.put(HASHES, torrent(1), "");
        } else {
            back_end.delete(HASHES, torrent(1));
        }
        for browser in &mut browsers {
            wait::until("the list holds", || {
                (browser.is_served(torrent(1)) != is_denied).then_some(())
            });
        }
    }
}

/// What an operator changes at one node.
#[test]
fn a_change_at_one_endpoint_holds_at_all_nodes() {
    if !nats::is_there() {
        return;
    }
    let server = NatsServer::start();
    let [a, b] = [(Kind::Udp, "a"), (Kind::Http, "b")].map(|(kind, name)| {
        let settings = format!(
            "{}keys.mode = 'require'\nkeys.path = 'keys'\ncluster.keys_bucket = true\n",
            listed("deny")
        );
        node(kind, name, &server, &settings).start()
    });
    for daemon in [&a, &b] {
        wait_until_heard(daemon, "access_list");
        wait_until_heard(daemon, "keys");
    }
    let (status, told) = ask(
        &a,
        "POST",
        "/keys",
        r#"{"add": ["Alice peers=1 # A", "Bob"]}"#,
    );
    assert_eq!(status, 200, "{told}");
    assert!(
        told.contains(r#""added":2"#) && told.contains(r#""written":true"#),
        "{told}"
    );
    let (_, told) = ask(&a, "GET", "/keys", "");
    assert!(
        told.contains(r#""entries":2"#),
        "the answer comes after it holds: {told}"
    );
    let (mut at_a, mut at_b) = (Udp::new(&a, V4), Http::new(&b, V4));
    (at_a.path, at_b.path) = ("/Alice/announce", "/Alice/announce");
    for client in [&mut at_a as &mut dyn Client, &mut at_b] {
        wait_for(client, torrent(1), true);
        let refusal = client.announce(torrent(2), 1, 0, AnnounceEvent::None);
        assert_eq!(refusal.unwrap_err(), "this key has 1 peer already");
    }
    let body = format!(r#"{{"add": "{}"}}"#, torrent(1));
    let (status, told) = ask(&b, "POST", "/access-list", &body);
    assert_eq!(status, 200, "{told}");
    let refusal = at_b.announce(torrent(1), 1, 0, AnnounceEvent::None);
    assert!(refusal.is_err(), "at once where it was asked for");
    wait_for(&mut at_a, torrent(1), false);
    let (status, told) = ask(&b, "POST", "/keys", r#"{"replace": ["Bob"]}"#);
    assert_eq!(status, 200, "{told}");
    wait_for(&mut at_a, torrent(3), false);
    let mut back_end = NatsClient::connect(server.address());
    let entry = back_end.entry(KEYS, "Alice");
    assert!(entry.contains("\"hdrs\""), "it is deleted: {entry}");
    drop(server);
    metrics::wait_for(&a, &[("aquatic_cluster_bucket_connected{list=keys}", 0.0)]);
    let (status, told) = ask(&a, "POST", "/keys", r#"{"add": "Carol"}"#);
    assert_eq!(status, 503, "{told}");
    let reason = "there is no connection to the bucket, so nothing was changed\"";
    assert!(told.contains(reason), "{told}");
}

/// A minute after its first entry, the bucket would be the list.
#[test]
fn no_list_goes_because_of_one_change_at_an_endpoint() {
    if !nats::is_there() {
        return;
    }
    const ENTRIES: u32 = 12;
    let server = NatsServer::start();
    let node = node(Kind::Udp, "a", &server, &listed("allow"));
    let hashes = |numbers: Range<u32>| numbers.map(|it| torrent(it).to_string());
    let file: Vec<_> = hashes(1..ENTRIES + 1).collect();
    node.place().write("list", file.join("\n") + "\n");
    let first = node.start();
    wait_until_heard(&first, "access_list");
    let edit = |daemon: &Daemon, action: &str, number: u32| {
        let body = format!("{{\"{action}\": \"{}\"}}", torrent(number));
        ask(daemon, "POST", "/access-list", &body)
    };
    for (action, number) in [("add", ENTRIES + 1), ("remove", 1)] {
        let (status, told) = edit(&first, action, number);
        assert_eq!(status, 409, "{told}");
        assert!(
            told.contains("send the whole list once, as `replace`"),
            "{told}"
        );
    }
    let mut back_end = NatsClient::connect(server.address());
    let stream = back_end.ask(&format!("$JS.API.STREAM.INFO.KV_{HASHES}"), "");
    assert!(stream.contains("\"last_seq\":0"), "{stream}");
    let quoted: Vec<_> = hashes(1..ENTRIES + 1)
        .map(|it| format!("\"{it}\""))
        .collect();
    let body = format!("{{\"replace\": [{}]}}", quoted.join(","));
    let (status, told) = ask(&first, "POST", "/access-list", &body);
    assert_eq!(status, 200, "{told}");
    let (status, told) = edit(&first, "add", ENTRIES + 1);
    assert_eq!(status, 200, "{told}");
    drop(first);
    // It reads the whole bucket.
    let second = node.start();
    wait_until_heard(&second, "access_list");
    let entries = |entries: u32| ("aquatic_access_list_entries", f64::from(entries));
    metrics::wait_for(&second, &[entries(ENTRIES + 1)]);
    drop(second);
    for number in 3..=ENTRIES + 1 {
        back_end.delete(HASHES, torrent(number));
    }
    let third = node.start();
    third.wait_for_warning(
        "access list read in the bucket: 2 info hashes",
        "11 are gone",
    );
    metrics::wait_for(&third, &[entries(2)]);
}

/// What was last known is in the file, and nothing else is served.
#[test]
fn a_node_that_starts_without_a_server_goes_by_its_copy() {
    if !nats::is_there() {
        return;
    }
    let mut server = NatsServer::start();
    let node = node(Kind::Udp, "a", &server, &listed("allow"));
    let first = node.start();
    wait_until_heard(&first, "access_list");
    let mut back_end = NatsClient::connect(server.address());
    back_end.put(HASHES, torrent(1), "");
    wait_for(&mut *client(Kind::Udp, &first, V4), torrent(1), true);
    drop(first);
    // The next start reads all of it, and writes the copy at once.
    let second = node.start();
    wait_until_heard(&second, "access_list");
    wait::until_ok(|| match node.place().read("list") {
        copy if copy == format!("{}\n", torrent(1)) => Ok(()),
        copy => Err(copy),
    });
    server.kill();
    drop(second);
    let third = node.start();
    let mut at_third = client(Kind::Udp, &third, V4);
    wait_for(&mut *at_third, torrent(1), true);
    wait_for(&mut *at_third, torrent(2), false);
    third.reload();
    server.go_on();
    let mut back_end = NatsClient::connect(server.address());
    back_end.put(HASHES, torrent(2), "");
    back_end.delete(HASHES, torrent(1));
    wait_for(&mut *at_third, torrent(2), true);
    wait_for(&mut *at_third, torrent(1), false);
    third.wait_for_log("the access list is in a bucket: its file is not read again");
}

/// As long as the list of a large private tracker.
#[test]
fn a_long_list_holds_within_seconds() {
    if !nats::is_there() {
        return;
    }
    const ENTRIES: u32 = 100_000;
    let server = NatsServer::start();
    let first = node(Kind::Udp, "a", &server, &listed("allow")).start();
    wait_until_heard(&first, "access_list");
    let mut back_end = NatsClient::connect(server.address());
    back_end.put_all(HASHES, (0..ENTRIES).map(|it| (format!("{it:040x}"), "")));
    let entries = ("aquatic_access_list_entries", f64::from(ENTRIES));
    metrics::wait_for(&first, &[entries]);
    // It is whole when the first client is served.
    let second = node(Kind::Http, "b", &server, &listed("allow"));
    let second = second.with("cluster.start_complete_within = 20").start();
    let served = format!("{:040x}", ENTRIES - 1).parse().unwrap();
    client(Kind::Http, &second, V4).join(served, 1, 0);
    metrics::wait_for(&second, &[entries]);
    let reads = ("aquatic_cluster_bucket_reads_total{list=access_list}", 1.0);
    metrics::wait_for(&second, &[reads]);
}
