//! There is not room for everything.

use aquatic_daemon::exposition::Exposition;

use super::*;
use crate::counters::write;

/// They say so, and get everything in order as soon as they have time.
#[test]
fn shards_may_be_busy() {
    let mut fixture = Fixture::new(1);
    let mut told = 0_u16;
    while fixture.replica.has_room() {
        let many: Vec<_> = (1..=2_000)
            .map(|port| arrival(told + port, 1_200))
            .collect();
        fixture.hears(0, false, &many);
        told += 2_000;
        // The last of them leave again.
        let leaving: Vec<_> = many[1_000..].iter().map(departure_of).collect();
        fixture.hears(0, false, &leaving);
        fixture
            .replica
            .finish(Now::from_micros(fixture.micros), &mut |_| ());
        if told > 60_000 {
            break;
        }
    }
    assert!(!fixture.replica.has_room());
    assert!(fixture.replica.waiting_records < WAITING_MAX + 3_000);
    fixture.replica.collect();
    assert_eq!(fixture.known().len(), usize::from(told / 2));
    assert!(fixture.replica.has_room());
    let taken: u64 = fixture.counters.taken.iter().map(Counter::get).sum();
    assert_eq!(taken, u64::from(told) * 3 / 2);
    // What waited has left no room behind.
    let waiting = &fixture.replica.waiting[0];
    assert!(waiting.v4.capacity() <= 2 * RECORDS_MAX);
}

fn departure_of(arrival: &PeerRecord<CompactV4>) -> PeerRecord<CompactV4> {
    PeerRecord {
        status: PeerStatus::Stopped,
        ..*arrival
    }
}

/// Others do not hear of the oldest then, which an operator is told.
#[test]
fn what_a_shard_has_no_room_for_is_counted() {
    let mut fixture = Fixture::new(1);
    let many = 100_000_u32;
    {
        let mut wanted = fixture.wanted.lock().unwrap();
        wanted.announces = (0..many)
            .map(|number| {
                let peer = CompactV4::new((0x0a00_0000 + number).into(), 1);
                (TORRENT, announce(peer, PeerStatus::Leecher, false))
            })
            .collect();
    }
    fixture.works();
    fixture.replica.collect();
    let told = fixture.rests().into_iter().map(|it| it.body.records());
    let told = u64::try_from(told.sum::<usize>()).unwrap();
    let lost = Counters::of(&fixture.counters.lost, LostAt::Outbox).get();
    assert!(told > 0 && lost > 0, "{told} told, {lost} lost");
    assert_eq!(told + lost, u64::from(many));
    let mut text = Exposition::default();
    write(&fixture.counters, &mut text);
    let text = text.into_text();
    let line = format!("aquatic_cluster_records_dropped_total{{at=\"outbox\"}} {lost}\n");
    assert!(text.contains(&line), "{text}");
}
