//! Bytes, in and out.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use aquatic_daemon::clock::instant_now;
use aquatic_stream::{Closed, TrustedProxies};

use crate::RUNTIMES;
use crate::clients::{connect, connect_with, exchange, read_to_end, read_until_closed, until};
use crate::server::{BOUNDS, Server, Settings};

/// Bytes of which no two places look alike.
fn noise(bytes: u32) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..bytes).map(|_| next()).collect()
}

#[test]
fn bytes_come_back() {
    for runtime in RUNTIMES {
        let server = Server::start(runtime);
        let mut streams: Vec<_> = (0..100).map(|_| connect(server.address)).collect();
        for (bytes, stream) in (1..).zip(&mut streams) {
            stream.write_all(b"E").unwrap();
            stream.write_all(&noise(bytes)).unwrap();
        }
        for (bytes, stream) in (1..).zip(&mut streams) {
            assert_eq!(read_to_end(stream), noise(bytes), "{runtime:?}");
        }
        until("connections are counted", || server.active() == 0);
        assert_eq!(server.counters.accepted.v4.get(), 100);
        assert_eq!(server.counters.received_bytes.v4.get(), 100 + 5_050);
        assert_eq!(server.counters.sent_bytes.v4.get(), 5_050);
        let endings = server.endings.lock().unwrap();
        assert_eq!(*endings, [Closed::BySession; 100], "{runtime:?}");
    }
}

/// A client that sends everything and ends its sending half gets everything back, however much of
/// it waits when the end comes.
#[test]
fn the_end_does_not_overtake_what_was_sent_before() {
    for runtime in RUNTIMES {
        let server = Server::start(runtime);
        for bytes in [1, 16, 17, 25, 100, 400, 3_000] {
            // The end comes at once, or when the worker is about the bytes.
            for pause in [0, 20, 200] {
                let mut stream = connect_with(server.address, b"S");
                let sent = noise(bytes);
                stream.write_all(&sent).unwrap();
                thread::sleep(Duration::from_micros(pause));
                assert_eq!(read_to_end(&mut stream), sent, "{runtime:?}");
            }
        }
    }
}

/// More than all buffers can hold: the server has to stop reading, then to go on.
#[test]
fn a_client_that_reads_late_gets_everything() {
    for runtime in RUNTIMES {
        let server = Server::start(runtime);
        let bytes = noise(32 << 20);
        let mut stream = connect_with(server.address, b"E");
        let mut writer = stream.try_clone().unwrap();
        let expected = bytes.clone();
        let writing = thread::spawn(move || {
            writer.write_all(&bytes).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let received = &server.counters.received_bytes.v4;
        let mut before = u64::MAX;
        until("reading stops", || {
            thread::sleep(Duration::from_millis(100));
            std::mem::replace(&mut before, received.get()) == before && before > 0
        });
        assert!(received.get() < 32 << 20, "{runtime:?}: all was taken in");
        let mut echoed = Vec::new();
        stream.read_to_end(&mut echoed).unwrap();
        writing.join().unwrap();
        assert!(echoed == expected, "{runtime:?}: {} bytes", echoed.len());
    }
}

/// What half of them do not exceed.
fn median<T: Copy + Ord>(mut all: Vec<T>) -> T {
    all.sort_unstable();
    all[all.len() / 2]
}

/// A sleeping worker is woken by other workers, without waiting for its own clock.
#[test]
fn mail_wakes_a_worker() {
    for runtime in RUNTIMES {
        let server = Server::start(runtime);
        let mut stream = connect_with(server.address, b"M");
        let mut times = Vec::new();
        for byte in 0..100 {
            let start = instant_now();
            assert_eq!(exchange(&mut stream, &[byte]), [byte], "{runtime:?}");
            times.push(start.elapsed());
        }
        // Workers look around every 100 ms by themselves. A machine may stand still now and then.
        let usual = median(times);
        assert!(usual < Duration::from_millis(50), "{runtime:?}: {usual:?}");
        stream.write_all(&noise(50_000)).unwrap();
        assert!(read_to_end(&mut stream) == noise(50_000), "{runtime:?}");
    }
}

/// While a worker is busy with one connection and with mail, it serves the others. How fast depends
/// on the machine: what counts is how much the worker does for the busy ones meanwhile.
#[test]
fn nobody_starves() {
    for runtime in RUNTIMES {
        let server = Server::start(runtime);
        let flood = |kind: &[u8]| {
            let mut stream = connect_with(server.address, kind);
            let mut reader = stream.try_clone().unwrap();
            thread::spawn(move || {
                let block = noise(1 << 20);
                while stream.write_all(&block).is_ok() {}
            });
            thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while reader.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {}
            })
        };
        let floods = [flood(b"E"), flood(b"M")];
        let received = &server.counters.received_bytes.v4;
        let mut meanwhile = Vec::new();
        for byte in 0..100 {
            let before = received.get();
            let mut stream = connect_with(server.address, b"E");
            assert_eq!(exchange(&mut stream, &[byte]), [byte], "{runtime:?}");
            meanwhile.push(received.get() - before);
        }
        // The floods go on when this thread alone stands still now and then.
        let usual = median(meanwhile);
        assert!(usual < 64 << 20, "{runtime:?}: {usual} bytes");
        assert!(
            !floods.iter().any(thread::JoinHandle::is_finished),
            "{runtime:?}"
        );
    }
}

#[test]
fn deadlines_end_silence() {
    for runtime in RUNTIMES {
        // Two servers: who is late to say something, because a machine stands still, is silent.
        let mut settings = [Settings::default(), Settings::default()];
        settings[0].bounds.request_seconds = 1;
        settings[1].bounds.idle_seconds = 1;
        let servers = settings.map(|it| Server::start_with(runtime, it));
        let mut silent = connect(servers[0].address);
        let mut idle = connect_with(servers[1].address, b"E");
        assert_eq!(read_until_closed(&mut silent), b"");
        assert_eq!(read_until_closed(&mut idle), b"");
        let expected = [Closed::RequestDeadline, Closed::IdleDeadline];
        for (server, expected) in servers.iter().zip(expected) {
            until("connections are counted", || server.active() == 0);
            assert_eq!(*server.endings.lock().unwrap(), [expected], "{runtime:?}");
        }
    }
}

#[test]
fn a_proxy_says_who_the_client_is() {
    for runtime in RUNTIMES {
        let settings = Settings {
            proxies: Some(TrustedProxies::default()),
            ..Settings::default()
        };
        let server = Server::start_with(runtime, settings);
        let header = b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n";
        for cut in [1, header.len() - 1, header.len()] {
            let mut stream = connect_with(server.address, &header[..cut]);
            until("the first part is read", || {
                server.counters.received_bytes.v4.get() >= u64::try_from(cut).unwrap()
            });
            stream.write_all(&[&header[cut..], b"A"].concat()).unwrap();
            let answer = read_until_closed(&mut stream);
            let answer = String::from_utf8(answer).unwrap();
            assert_eq!(
                answer, "[2001:db8::1]:56324 [2001:db8::2]:443",
                "{runtime:?}"
            );
        }
        let mut unproxied = connect_with(server.address, b"GET /announce HTTP/1.1\r\n\r\n");
        assert_eq!(read_until_closed(&mut unproxied), b"", "{runtime:?}");
        until("it is counted", || {
            server.counters.closed.of(Closed::ProxyHeader).get() == 1
        });
    }
}

#[test]
fn only_listed_proxies_may_connect() {
    let trusted = "192.0.2.0/24".parse().unwrap();
    for runtime in RUNTIMES {
        let settings = Settings {
            proxies: Some(TrustedProxies::new(vec![trusted])),
            bounds: BOUNDS,
            ..Settings::default()
        };
        let server = Server::start_with(runtime, settings);
        let mut stream = connect(server.address);
        assert_eq!(read_until_closed(&mut stream), b"", "{runtime:?}");
    }
}
