//! A whole HTTP tracker: connections, sessions, workers, swarms; with PROXY headers if the first
//! bit says so.
#![no_main]

use std::fmt::Write;

use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
use aquatic_channel::waker_pair;
use aquatic_fuzz::entropy;
use aquatic_fuzz::network::{Network, Step, Wire};
use aquatic_http::config::Config;
use aquatic_http::workers::build_workers;
use aquatic_http_protocol::{BodySize, Response, ResponseHead};
use aquatic_stream::TrustedProxies;
use aquatic_tracker::persistence::Persistence;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

/// What a client asks.
#[derive(Arbitrary, Debug)]
enum Request {
    Announce(Announce),
    Scrape(Vec<u8>),
    Other(u8),
}

#[derive(Arbitrary, Debug)]
struct Announce {
    torrent: u8,
    peer: u8,
    port: u16,
    left: Option<u8>,
    event: u8,
    wanted: Option<u16>,
    is_compact: Option<bool>,
    closes: bool,
}

fuzz_target!(|input: (bool, Vec<Step<Request>>)| {
    let (has_proxy, steps) = input;
    let config = Config {
        socket_workers: 2,
        swarm_workers: 0,
        ..Config::default()
    };
    let wakers: Vec<_> = (0..2).map(|_| waker_pair(|| ()).1).collect();
    let access_list = SharedAccessList::new(AccessListMode::Off, AccessList::default());
    let arranged = build_workers(
        &config,
        &access_list,
        &wakers,
        Persistence::default(),
        None,
        &mut entropy(),
    );
    let workers = arranged.expect("this entropy never fails").0.socket_workers;
    let proxies = has_proxy.then(TrustedProxies::default);
    let mut network = Network::new(workers, config.bounds(), proxies, None);
    let say = |wire: &mut Wire, request| {
        let header = match has_proxy && !wire.has_spoken {
            true => "PROXY TCP4 198.51.100.7 192.0.2.9 4711 443\r\n",
            false => "",
        };
        format!("{header}{}", text(request)).into_bytes()
    };
    network.live(steps, say, check);
});

fn text(request: Request) -> String {
    let mut text = String::from("GET /");
    let mut closes = false;
    let written = match request {
        Request::Announce(announce) => {
            closes = announce.closes;
            write_announce(&announce, &mut text)
        }
        Request::Scrape(torrents) => {
            text += "scrape?";
            torrents.iter().try_for_each(|torrent| {
                write!(
                    text,
                    "&info_hash={}",
                    format!("%0{}", torrent % 8).repeat(20)
                )
            })
        }
        Request::Other(path) => write!(text, "{}", char::from(path % 64 + 64)),
    };
    written.expect("memory");
    text += " HTTP/1.1\r\nHost: tracker.example\r\n";
    text += if closes {
        "Connection: close\r\n\r\n"
    } else {
        "\r\n"
    };
    text
}

fn write_announce(announce: &Announce, text: &mut String) -> std::fmt::Result {
    let torrent = format!("%0{}", announce.torrent % 8).repeat(20);
    let peer = char::from(b'a' + announce.peer % 26).to_string().repeat(20);
    write!(
        text,
        "announce?info_hash={torrent}&peer_id={peer}&port={}",
        announce.port
    )?;
    if let Some(left) = announce.left {
        write!(text, "&left={left}")?;
    }
    let event = ["started", "stopped", "completed", "", "paused"];
    write!(text, "&event={}", event[usize::from(announce.event % 5)])?;
    if let Some(wanted) = announce.wanted {
        write!(text, "&numwant={wanted}")?;
    }
    match announce.is_compact {
        Some(is_compact) => write!(text, "&compact={}", u8::from(is_compact)),
        None => Ok(()),
    }
}

/// Who asks properly gets whole answers.
fn check(wire: &Wire) {
    if !wire.is_sensible {
        return;
    }
    let mut rest = wire.received.as_slice();
    while let Some(head) = ResponseHead::parse(rest).expect("a response") {
        let BodySize::Known(size) = head.body else {
            panic!("nobody knows where it ends");
        };
        let end = head.size + usize::try_from(size).expect("a small answer");
        let Some(body) = rest.get(head.size..end) else {
            return;
        };
        assert!(head.status != 200 || Response::parse(body).is_ok());
        rest = &rest[end..];
    }
}
