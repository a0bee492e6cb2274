//! What is read, what is refused in words, what is dropped.

use aquatic_test_support::wait::until;
use aquatic_test_support::{Place, metrics, torrent, torrents};
use aquatic_types::{AnnounceEvent, IpFamily};
use aquatic_udp_protocol::{AnnounceRequest, write_url_data};

use super::client::{Client, EVENT_PLACE, IP_PLACE, announce_bytes, row};
use super::setup::{UDP, on_every_setup, on_every_setup_and_family};

const LEECHER: u64 = 1;

#[test]
fn connect_needs_16_bytes() {
    on_every_setup_and_family("", |daemon, family| {
        let mut client = Client::stranger(daemon, family);
        let request = client.connect_request();
        assert_eq!(request.len(), 16);
        assert_eq!(client.ask(&request).len(), 16);
        let longer = [request.as_slice(), b"what comes after is of no interest"].concat();
        assert_eq!(client.ask(&longer).len(), 16);
    });
}

#[test]
fn what_follows_an_announce_are_options() {
    on_every_setup_and_family("", |daemon, family| {
        let mut client = Client::new(daemon, family);
        let mut url = Vec::new();
        write_url_data(b"/announce?passkey=0123456789", &mut url);
        let mut long_url = Vec::new();
        write_url_data(&[b'u'; 2_000], &mut long_url);
        // A URL, padding, a long URL, an unknown option, and what is no option at all.
        let options: [&[u8]; 5] = [&url, &[1, 1, 0], &long_url, &[9, 2, 0, 0], &[2, 200, b'/']];
        for (port, options) in (1..).zip(options) {
            let request = AnnounceRequest {
                options,
                ..client.peer(torrent(1), port, LEECHER)
            };
            assert_eq!(client.announce(&request).leechers, u32::from(port));
        }
    });
}

#[test]
fn unknown_events_mean_nothing() {
    on_every_setup_and_family("", |daemon, family| {
        let mut client = Client::new(daemon, family);
        // libtorrent's event of a partial seed is 4.
        for (port, event) in (1..).zip([4, 5, 255, u32::MAX]) {
            let mut request = announce_bytes(&client.peer(torrent(1), port, LEECHER));
            request[EVENT_PLACE].copy_from_slice(&event.to_be_bytes());
            assert_eq!(
                client.announce_bytes(&request).leechers,
                u32::from(port),
                "event {event}"
            );
        }
        assert_eq!(client.scrape(&[torrent(1)]), [row(0, 0, 4)]);
    });
}

#[test]
fn a_claimed_ip_address_is_not_believed() {
    on_every_setup_and_family("", |daemon, family| {
        let mut client = Client::new(daemon, family);
        let mut request = announce_bytes(&client.peer(torrent(1), 1, LEECHER));
        request[IP_PLACE].copy_from_slice(&[192, 0, 2, 1]);
        client.announce_bytes(&request);
        // This also checks that peers have the client's own address.
        assert_eq!(client.join(torrent(1), 2, LEECHER).ports, [1]);
    });
}

#[test]
fn port_0_is_refused_in_words() {
    on_every_setup_and_family("", |daemon, family| {
        let mut client = Client::new(daemon, family);
        for info_hash in torrents() {
            let request = announce_bytes(&client.peer(info_hash, 0, LEECHER));
            assert_eq!(client.refusal(&request), "port is 0");
            assert_eq!(client.scrape(&[info_hash]), [row(0, 0, 0)]);
        }
    });
}

#[test]
fn a_scrape_of_nothing_is_refused_in_words() {
    on_every_setup_and_family("", |daemon, family| {
        let mut client = Client::new(daemon, family);
        for size in [16, 17, 35] {
            let request = &client.scrape_request(&[torrent(1)])[..size];
            assert_eq!(client.refusal(request), "scrape without an info hash");
        }
        let mut and_a_half = client.scrape_request(&[torrent(1), torrent(2)]);
        and_a_half.pop();
        assert_eq!(client.ask(&and_a_half).len(), 8 + 12, "one whole info hash");
    });
}

/// Packets that get no answer, and the reason for which they are counted.
fn unanswered(client: &Client) -> Vec<(&'static str, Vec<u8>)> {
    let connect = client.connect_request();
    let announce = announce_bytes(&client.peer(torrent(1), 1, LEECHER));
    let with_action = |packet: &[u8], action: u32| {
        let mut packet = packet.to_vec();
        packet[8..12].copy_from_slice(&action.to_be_bytes());
        packet
    };
    let mut wrong_magic = connect.clone();
    wrong_magic[0] ^= 1;
    let mut packets = vec![
        ("too_short", Vec::new()),
        ("too_short", b"x".to_vec()),
        ("too_short", connect[..15].to_vec()),
        ("too_short", announce[..97].to_vec()),
        ("too_short", announce[..16].to_vec()),
        ("not_connect", wrong_magic),
        ("not_connect", vec![0; 98]),
        ("too_long", [announce.as_slice(), &[0; 3_000]].concat()),
        ("too_long", vec![0xff; 60_000]),
        ("unknown_action", vec![0xff; 98]),
    ];
    for action in [3, 4, 256, u32::MAX] {
        packets.push(("unknown_action", with_action(&connect, action)));
        packets.push(("unknown_action", with_action(&announce, action)));
    }
    packets
}

#[test]
fn nonsense_is_dropped_in_silence_and_counted() {
    on_every_setup(|setup| {
        let place = Place::new();
        let settings = place.metrics_settings(&UDP);
        let daemon = place.start(setup, &settings);
        for (family, ip_version) in IpFamily::ALL.into_iter().zip(["4", "6"]) {
            let mut client = Client::new(&daemon, family);
            let packets = unanswered(&client);
            for (_, packet) in &packets {
                client.send(packet);
            }
            // The first answer is the one to this: `connect` looks at the transaction id.
            client.connect();

            let count = |reason| packets.iter().filter(|packet| packet.0 == reason).count();
            let selectors =
                ["too_short", "not_connect", "too_long", "unknown_action"].map(|reason| {
                    let labels = format!("reason={reason},ip_version={ip_version}");
                    (format!("aquatic_dropped_total{{{labels}}}"), count(reason))
                });
            let total = |name| format!("{name}{{ip_version={ip_version}}}");
            let mut expected: Vec<_> = selectors
                .iter()
                .map(|(selector, count)| {
                    (selector.as_str(), f64::from(u32::try_from(*count).unwrap()))
                })
                .collect();
            let (requests, responses) = (
                total("aquatic_requests_total"),
                total("aquatic_responses_total"),
            );
            // The two connects.
            expected.extend([(requests.as_str(), 2.0), (responses.as_str(), 2.0)]);
            metrics::wait_for(&daemon, &expected);
            assert!(client.received().is_empty());
        }
    });
}

#[test]
fn a_long_announce_is_read_whole() {
    on_every_setup_and_family("", |daemon, family| {
        let mut client = Client::new(daemon, family);
        let options = [1; 2_560 - 98];
        let request = AnnounceRequest {
            options: &options,
            ..client.peer(torrent(1), 1, LEECHER)
        };
        assert_eq!(client.announce(&request).leechers, 1);
    });
}

/// Half of it is random, the other half is almost right; some of it is cut off.
fn noise(rng: &mut fastrand::Rng, client: &Client) -> Vec<u8> {
    let mut packet = match rng.u8(..6) {
        0 => client.connect_request(),
        1 => {
            let event = [AnnounceEvent::None, AnnounceEvent::Stopped][rng.usize(..2)];
            let peer = client.peer(torrent(rng.u32(..9)), rng.u16(..), rng.u64(..));
            announce_bytes(&AnnounceRequest { event, ..peer })
        }
        2 => client.scrape_request(&torrents().collect::<Vec<_>>()),
        _ => {
            let mut packet = vec![0; rng.usize(1..4_000)];
            rng.fill(&mut packet);
            packet
        }
    };
    for _ in 0..rng.usize(..4) {
        let place = rng.usize(..packet.len());
        packet[place] = rng.u8(..);
    }
    if rng.u8(..4) == 0 {
        packet.truncate(rng.usize(..=packet.len()));
    }
    packet
}

#[test]
fn megabytes_of_noise_do_no_harm() {
    const NOISE_BYTES: usize = 5_000_000;
    on_every_setup_and_family("", |daemon, family| {
        let noisy = Client::new(daemon, family);
        let mut rng = fastrand::Rng::with_seed(20_251_122);
        let mut sent_bytes = 0;
        while sent_bytes < NOISE_BYTES {
            let packet = noise(&mut rng, &noisy);
            noisy.send(&packet);
            sent_bytes += packet.len();
        }
        // The noise may still fill the tracker's socket, so ask until there is room.
        let client = Client::stranger(daemon, family);
        until("the tracker answers again", || {
            client.send(&client.connect_request());
            (!client.received().is_empty()).then_some(())
        });
        // Connects may be answered in front of the tracker, and what it has to answer waits behind
        // the noise.
        let client = Client::new(daemon, family);
        until("the tracker answers all requests again", || {
            client.send(&client.scrape_request(&[torrent(99)]));
            (!client.received().is_empty()).then_some(())
        });
        let mut client = Client::new(daemon, family);
        for info_hash in (100..112).map(torrent) {
            assert_eq!(client.join(info_hash, 7, LEECHER).leechers, 1);
            assert_eq!(client.scrape(&[info_hash]), [row(0, 0, 1)]);
        }
    });
}
