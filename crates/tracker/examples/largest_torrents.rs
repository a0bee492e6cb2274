//! How much CPU time it takes to find the largest torrents, and how long a shard is kept from its
//! clients meanwhile.
//!
//! `cargo run --release -p aquatic_tracker --example largest_torrents -- 10000000`
//!
//! Most torrents have one peer, some have more, and one of 10 has some of IPv6: as on a tracker
//! for the public. The other case is the worst one: all have one peer, so that each of them might
//! be in the list for its info hash.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::Context;
use aquatic_access_list::{AccessList, AccessListMode, SharedAccessList};
use aquatic_channel::waker_pair;
use aquatic_daemon::clock::Now;
use aquatic_swarm::{Announce, HashKey, Limits};
use aquatic_tracker::dispatch::shard_set::ShardSet;
use aquatic_tracker::dispatch::topology::Topology;
use aquatic_tracker::shard::addresses::outbox::Unread;
use aquatic_tracker::shard::addresses::{
    AddressShard, AddressSwarms, AddressSwarmsParts, AddressSwarmsSettings, PeerAddr,
};
use aquatic_tracker::shard::maintenance::{MaintenanceSettings, Reporting};
use aquatic_tracker::torrents::reading::ShardReaders;
use aquatic_tracker::torrents::top::{SortBy, TOP_MAX, TopReading};
use aquatic_types::{CompactAddr, CompactV4, CompactV6, InfoHash, PeerStatus, Seconds, ShardKey};
use nix::time::ClockId;

fn main() -> anyhow::Result<()> {
    let torrents = std::env::args().nth(1);
    let torrents = torrents.map_or(Ok(1_000_000), |torrents| torrents.parse())?;
    for (name, largest) in [("as in public", 1_000), ("one peer each", 1)] {
        let mut rng = fastrand::Rng::with_seed(5);
        let mut swarms = empty();
        for _ in 0..torrents {
            let info_hash = InfoHash(std::array::from_fn(|_| rng.u8(..)));
            // One in so many has so many peers.
            let peers = (1.0 / (1.0 - rng.f64())).min(f64::from(largest));
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "1 to 1000"
            )]
            let peers = peers as u16;
            for port in 1..=peers {
                let peer = CompactV4::new([192, 0, 2, 1].into(), port);
                announce(&mut swarms, info_hash, peer)?;
            }
            if largest > 1 && rng.u8(..10) == 0 {
                let peer = CompactV6::new([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(), 1);
                announce(&mut swarms, info_hash, peer)?;
            }
        }
        find(name, torrents, swarms)?;
    }
    Ok(())
}

fn empty() -> AddressSwarms<()> {
    let access_list = SharedAccessList::new(AccessListMode::Off, AccessList::default());
    let settings = AddressSwarmsSettings {
        limits: Limits::default(),
        peer_age_seconds_max: 1_200,
        maintenance: MaintenanceSettings {
            bytes_max: None,
            cleaning_interval_seconds: 120,
            report_interval_seconds: 5,
            peer_histograms: false,
        },
    };
    let parts = AddressSwarmsParts {
        hash_key: HashKey::new([1, 2]),
        rng_seed: 3,
        access_list: access_list.reader(),
        peers_per_ip: None,
        reporting: Reporting::default(),
    };
    AddressSwarms::new(settings, parts, Unread)
}

fn announce<K: PeerAddr>(
    swarms: &mut AddressSwarms<()>,
    info_hash: InfoHash,
    peer: K,
) -> anyhow::Result<()> {
    let announce = Announce {
        peer,
        status: PeerStatus::Leecher,
        completed: false,
        num_want: 0,
    };
    let key = swarms.key(info_hash);
    swarms.announce(Seconds(1_200), &key, [0; 8], &announce, |_| ())?;
    Ok(())
}

/// Of this thread: others that want its CPU make no difference.
fn cpu_time() -> anyhow::Result<Duration> {
    Ok(ClockId::CLOCK_THREAD_CPUTIME_ID.now()?.into())
}

/// Finds them, and says how long that took.
fn find(name: &str, torrents: usize, swarms: AddressSwarms<()>) -> anyhow::Result<()> {
    let topology = Topology::Split {
        socket_workers: 0,
        swarm_workers: 1,
    };
    let (key, wakers) = (ShardKey::new([7; 52]), [waker_pair(|| ()).1]);
    let mut set = ShardSet::new(key, topology, &wakers, vec![AddressShard::Plain(swarms)]);
    let readers = ShardReaders::attach(&mut set);
    let workers = set.into_owners().swarm_workers;
    let mut worker = workers.into_iter().next().context("there is a worker")?;
    // The first cleaning is not counted.
    let now = Now::default();
    while worker.maintain(now) {}
    let (sender, found) = sync_channel(1);
    let reading = TopReading::new(SortBy::Peers, TOP_MAX, 0, sender);
    let taken = readers.post(0, Box::new(reading));
    taken.map_err(|reason| anyhow::anyhow!("{reason}"))?;
    let mut slices = Vec::new();
    while found.try_recv().is_err() {
        let begun = cpu_time()?;
        worker.maintain(now);
        slices.push(cpu_time()?.saturating_sub(begun));
    }
    let took: Duration = slices.iter().sum();
    slices.sort_unstable();
    let at = |per_mille: usize| -> Duration {
        let place = (slices.len() * per_mille / 1_000).min(slices.len() - 1);
        slices.get(place).copied().unwrap_or_default()
    };
    println!(
        "{name}: {torrents} torrents, {} slices in {took:.0?}: median {:.1?}, 99.9 % {:.1?}, \
         longest {:.1?}",
        slices.len(),
        at(500),
        at(999),
        at(1_000),
    );
    Ok(())
}
