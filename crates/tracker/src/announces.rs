//! Announces as they come, for a back end: what clients say that the swarms do not keep.
//!
//! A socket worker that serves an announce writes a line about it ([`AnnounceTap`]), in a place of
//! its own; somebody fetches the lines of all workers from time to time ([`Announces::take`]). A
//! worker never waits: while its place is being emptied, it keeps its lines for the next time.

use std::collections::VecDeque;
use std::io::Write;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use aquatic_daemon::clock::Now;
use aquatic_daemon::json;
use aquatic_keys::KEY_BYTES_MAX;
use aquatic_types::{AnnounceEvent, InfoHash, PeerId};

/// Lines are put together to pieces of so many bytes.
const PIECE_BYTES: usize = 64 * 1_024;

/// So many bytes of a worker wait at most until they are fetched.
const PLACE_BYTES_MAX: usize = 8 * 1_024 * 1_024;

/// Some lines, each with its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// The lines.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub count: usize,
}

/// Where a worker leaves its lines.
#[derive(Debug, Default)]
struct Place {
    /// Oldest first.
    pieces: VecDeque<Lines>,
    bytes: usize,
    /// Lines for which there was no room.
    dropped: usize,
}

#[derive(Debug)]
struct Shared {
    node: String,
    places: Mutex<Vec<Arc<Mutex<Place>>>>,
    /// What the system's clock says at the zero of the daemon's.
    zero_unix_micros: AtomicU64,
}

/// The lines of all workers. Clones share them.
#[derive(Clone, Debug)]
pub struct Announces(Arc<Shared>);

/// A worker's way to tell of announces.
#[derive(Debug)]
pub struct AnnounceTap {
    shared: Arc<Shared>,
    protocol: &'static str,
    place: Arc<Mutex<Place>>,
    own: Lines,
}

/// An announce that is served.
#[derive(Clone, Copy, Debug)]
pub struct ServedAnnounce<'a> {
    /// The torrent.
    pub info_hash: InfoHash,
    /// What the client calls itself.
    pub peer_id: PeerId,
    /// Where the peer is.
    pub ip: IpAddr,
    /// At which port it can be reached, if it can.
    pub port: Option<u16>,
    /// Bytes, as the client says. It says so in all protocols but WebTorrent.
    pub uploaded: Option<u64>,
    /// The same.
    pub downloaded: Option<u64>,
    /// The same, if it says so.
    pub left: Option<u64>,
    /// What has happened.
    pub event: AnnounceEvent,
    /// The key in the announce URL.
    pub key: Option<&'a [u8]>,
}

impl Announces {
    /// Those of the tracker of this name.
    #[must_use]
    pub fn new(node: String) -> Self {
        Self(Arc::new(Shared {
            node,
            places: Mutex::default(),
            zero_unix_micros: AtomicU64::new(0),
        }))
    }

    /// For one worker, which serves this protocol.
    #[must_use]
    pub fn tap(&self, protocol: &'static str) -> AnnounceTap {
        let place = Arc::<Mutex<Place>>::default();
        let places = self.0.places.lock();
        let mut places = places.unwrap_or_else(PoisonError::into_inner);
        places.push(Arc::clone(&place));
        AnnounceTap {
            shared: Arc::clone(&self.0),
            protocol,
            place,
            own: Lines::default(),
        }
    }

    /// Lines tell the time by this: what the system's clock said at the zero of the daemon's. To be
    /// called now and then, since clocks are put right.
    pub fn set_zero_unix_micros(&self, micros: u64) {
        self.0.zero_unix_micros.store(micros, Ordering::Relaxed);
    }

    /// Takes all lines that there are, those of each worker in order. Returns how many were lost,
    /// because they had not been taken for too long.
    pub fn take(&self, mut out: impl FnMut(Lines)) -> usize {
        let places = self.0.places.lock();
        let places = places.unwrap_or_else(PoisonError::into_inner).clone();
        let mut dropped = 0;
        for place in places {
            let taken = {
                let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *place)
            };
            dropped += taken.dropped;
            taken.pieces.into_iter().for_each(&mut out);
        }
        dropped
    }
}

impl Place {
    fn push(&mut self, lines: &mut Lines) {
        self.bytes += lines.bytes.len();
        match self.pieces.back_mut() {
            Some(last) if last.bytes.len() < PIECE_BYTES => {
                last.bytes.append(&mut lines.bytes);
                last.count += std::mem::take(&mut lines.count);
            }
            _ => {
                let mut bytes = Vec::with_capacity(PIECE_BYTES);
                bytes.append(&mut lines.bytes);
                let count = std::mem::take(&mut lines.count);
                self.pieces.push_back(Lines { bytes, count });
            }
        }
        while self.bytes > PLACE_BYTES_MAX
            && let Some(oldest) = self.pieces.pop_front()
        {
            self.bytes -= oldest.bytes.len();
            self.dropped += oldest.count;
        }
    }
}

impl AnnounceTap {
    /// Tells of an announce that is served.
    pub fn note(&mut self, now: Now, announce: &ServedAnnounce<'_>) {
        let zero = self.shared.zero_unix_micros.load(Ordering::Relaxed);
        let time = zero.wrapping_add(now.micros);
        write_line(
            &mut self.own.bytes,
            (time, &self.shared.node, self.protocol),
            announce,
        );
        self.own.count += 1;
        self.hand_over();
    }

    /// Leaves lines in their place that could not be left there before. To be called in each round.
    pub fn hand_over(&mut self) {
        if self.own.count == 0 {
            return;
        }
        match self.place.try_lock() {
            Ok(mut place) => place.push(&mut self.own),
            Err(TryLockError::Poisoned(error)) => error.into_inner().push(&mut self.own),
            // They are being taken, which is done in an instant.
            Err(TryLockError::WouldBlock) => {}
        }
    }
}

fn write_line(
    out: &mut Vec<u8>,
    (unix_micros, node, protocol): (u64, &str, &str),
    announce: &ServedAnnounce<'_>,
) {
    let event = match announce.event {
        AnnounceEvent::None => "none",
        AnnounceEvent::Completed => "completed",
        AnnounceEvent::Started => "started",
        AnnounceEvent::Stopped => "stopped",
    };
    // Names of nodes and protocols, addresses and hashes need no escaping. Writing to a vector does
    // not fail.
    let _ = write!(
        out,
        "{{\"time\":{unix_micros},\"node\":\"{node}\",\"protocol\":\"{protocol}\",\
         \"info_hash\":\"{}\",\"peer_id\":\"",
        announce.info_hash
    );
    let PeerId(peer_id) = announce.peer_id;
    for byte in peer_id {
        let _ = write!(out, "{byte:02x}");
    }
    let _ = write!(out, "\",\"ip\":\"{}\"", announce.ip);
    for (name, number) in [
        ("port", announce.port.map(u64::from)),
        ("uploaded", announce.uploaded),
        ("downloaded", announce.downloaded),
        ("left", announce.left),
    ] {
        let _ = match number {
            Some(number) => write!(out, ",\"{name}\":{number}"),
            None => write!(out, ",\"{name}\":null"),
        };
    }
    let _ = write!(out, ",\"event\":\"{event}\",\"key\":");
    // No key is longer: this is something else.
    match announce.key.filter(|key| key.len() <= KEY_BYTES_MAX) {
        Some(key) => {
            let key = json::string(&String::from_utf8_lossy(key));
            out.extend_from_slice(key.as_bytes());
        }
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use aquatic_types::Seconds;

    use super::*;

    const NOW: Now = Now {
        seconds: Seconds(1),
        micros: 1_500_000,
    };

    fn announce(port: u16) -> ServedAnnounce<'static> {
        ServedAnnounce {
            info_hash: InfoHash([0xab; 20]),
            peer_id: PeerId(*b"-XX0100-\"\\\x00456789012"),
            ip: IpAddr::from([192, 0, 2, 1]),
            port: Some(port),
            uploaded: Some(u64::MAX),
            downloaded: Some(2),
            left: None,
            event: AnnounceEvent::Stopped,
            key: Some(b"a\"b\xff"),
        }
    }

    fn take(announces: &Announces) -> (Vec<Lines>, usize) {
        let mut lines = Vec::new();
        let dropped = announces.take(|some| lines.push(some));
        (lines, dropped)
    }

    #[test]
    fn a_line_is_json_whatever_a_client_says() {
        let announces = Announces::new("a".to_owned());
        announces.set_zero_unix_micros(1_000_000_000_000);
        let mut tap = announces.tap("udp");
        tap.note(NOW, &announce(6_881));
        let too_long = &[b'k'; KEY_BYTES_MAX + 1][..];
        tap.note(
            NOW,
            &ServedAnnounce {
                left: Some(7),
                port: None,
                uploaded: None,
                key: Some(too_long),
                event: AnnounceEvent::None,
                ..announce(1)
            },
        );
        let (pieces, dropped) = take(&announces);
        assert_eq!((pieces.len(), pieces[0].count, dropped), (1, 2, 0));
        let text = String::from_utf8(pieces[0].bytes.clone()).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let expected = serde_json::json!({
            "time": 1_000_001_500_000_u64,
            "node": "a",
            "protocol": "udp",
            "info_hash": "ab".repeat(20),
            "peer_id": "2d5858303130302d225c003435363738393031" .to_owned() + "32",
            "ip": "192.0.2.1",
            "port": 6881,
            "uploaded": u64::MAX,
            "downloaded": 2,
            "left": null,
            "event": "stopped",
            "key": "a\"b\u{fffd}",
        });
        assert_eq!(lines[0], expected);
        assert_eq!(lines[1]["left"], 7);
        for name in ["port", "uploaded"] {
            assert_eq!(lines[1][name], serde_json::Value::Null);
        }
        assert_eq!(lines[1]["key"], serde_json::Value::Null);
        assert_eq!(lines[1]["event"], "none");
        assert_eq!(take(&announces), (vec![], 0));
    }

    #[test]
    fn a_worker_keeps_its_lines_while_its_place_is_in_use() {
        let announces = Announces::new("a".to_owned());
        let mut tap = announces.tap("udp");
        let place = Arc::clone(&tap.place);
        let guard = place.lock().unwrap();
        tap.note(NOW, &announce(1));
        tap.note(NOW, &announce(2));
        drop(guard);
        assert_eq!(take(&announces), (vec![], 0));
        tap.hand_over();
        let (pieces, _) = take(&announces);
        assert_eq!((pieces.len(), pieces[0].count), (1, 2));
        tap.hand_over();
        assert_eq!(take(&announces).0.len(), 0);
    }

    #[test]
    fn the_oldest_lines_go_when_nobody_takes_them() {
        let announces = Announces::new("a".to_owned());
        let mut tap = announces.tap("http");
        const TOTAL: usize = 50_000;
        for _ in 0..TOTAL {
            tap.note(NOW, &announce(1));
        }
        tap.note(NOW, &announce(2));
        let (pieces, dropped) = take(&announces);
        let bytes: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
        assert!(bytes <= PLACE_BYTES_MAX && bytes > PLACE_BYTES_MAX - 2 * PIECE_BYTES);
        let count: usize = pieces.iter().map(|piece| piece.count).sum();
        assert_eq!(count + dropped, TOTAL + 1);
        let last = String::from_utf8(pieces.last().unwrap().bytes.clone()).unwrap();
        assert!(last.lines().last().unwrap().contains("\"port\":2,"));
        for piece in &pieces {
            let lines = piece.bytes.iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(lines, piece.count);
        }
    }
}
