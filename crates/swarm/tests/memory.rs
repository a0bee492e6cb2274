//! What a map says that it takes, against what the system has given for it.

#![cfg(target_os = "linux")]

use std::fs;
use std::sync::Mutex;

use aquatic_swarm::{Announce, HashKey, Keep, Limits, PeerKey, TorrentMap};
use aquatic_types::{CompactAddr, CompactV4, CompactV6, InfoHash, PeerStatus, Seconds};

/// Where tests share a process, one measures at a time.
static MEASURING: Mutex<()> = Mutex::new(());

/// Like a peer of WebTorrent: its connection and its peer id.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Member([u8; 30]);

impl PeerKey for Member {
    fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn v4(number: u32) -> CompactV4 {
    CompactV4::new(number.into(), 6_881)
}

fn v6(number: u32) -> CompactV6 {
    CompactV6::new((u128::from(number) << 64).into(), 6_881)
}

fn member(number: u32) -> Member {
    let mut bytes = [0; 30];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Member(bytes)
}

fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kibibytes.parse::<usize>().unwrap() * 1_024
}

/// What a map with so many swarms of so many peers says that it takes, in percent of what it does.
fn percent<K: PeerKey, V: Copy>(swarms: u32, peers: u32, value: V, peer: fn(u32) -> K) -> usize {
    let _alone = MEASURING.lock().unwrap();
    let before = resident_bytes();
    let mut map = TorrentMap::<K, V>::new(HashKey::new([1, 2]), Limits::default());
    let mut rng = fastrand::Rng::with_seed(3);
    for round in 0..peers {
        for swarm in 0..swarms {
            let mut info_hash = [0; 20];
            info_hash[8..12].copy_from_slice(&swarm.to_be_bytes());
            let key = map.key(InfoHash(info_hash));
            let number = swarm * peers + round;
            let announce = Announce {
                peer: peer(number),
                status: PeerStatus::Leecher,
                completed: false,
                num_want: 0,
            };
            let keep = &mut Keep(value);
            map.announce(&key, &announce, Seconds(100), keep, &mut rng, |_, _| ())
                .unwrap();
        }
    }
    let percent = map.bytes() * 100 / (resident_bytes() - before);
    // What others measure later must not be put where this was.
    std::mem::forget(map);
    percent
}

#[track_caller]
fn assert_is_close<K: PeerKey, V: Copy>(
    swarms: u32,
    peers: u32,
    value: V,
    peer: fn(u32) -> K,
    most: usize,
) {
    let percent = percent(swarms, peers, value, peer);
    println!("{swarms} swarms of {peers}: {percent} %");
    assert!((95..=most).contains(&percent), "{percent} %");
}

#[test]
fn of_lone_ipv4_peers() {
    assert_is_close(300_000, 1, (), v4, 110);
}

#[test]
fn of_lone_ipv6_peers() {
    assert_is_close(200_000, 1, (), v6, 110);
}

#[test]
fn of_lone_webtorrent_peers() {
    assert_is_close(150_000, 1, [0_u64; 2], member, 110);
}

#[test]
fn of_pairs() {
    assert_is_close(200_000, 2, (), v4, 110);
}

#[test]
fn of_threes() {
    assert_is_close(150_000, 3, (), v4, 110);
    assert_is_close(100_000, 3, (), v6, 110);
    assert_is_close(80_000, 3, [0_u64; 2], member, 110);
}

#[test]
fn of_full_lists() {
    assert_is_close(20_000, 64, (), v4, 110);
    assert_is_close(10_000, 64, (), v6, 110);
}

#[test]
fn of_large_swarms() {
    assert_is_close(5_000, 100, (), v4, 110);
    assert_is_close(80, 10_000, (), v4, 110);
    assert_is_close(50, 10_000, (), v6, 110);
    assert_is_close(50, 10_000, [0_u64; 2], member, 110);
}
