//! Frames of any bytes.

use aquatic_xdp::AttachMode;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::*;

/// One that was whole, and has some bytes changed, or lacks some, or has some more.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        Just(connect()),
        Just(request(7, 1, 98)),
        vec(any::<u8>(), 0..200),
        (any::<u64>(), 0..4_u32, 16..200_usize)
            .prop_map(|(id, action, len)| { request(id, action, len) }),
    ];
    let whole = (payload, any::<bool>(), proptest::option::of(any::<u16>()));
    let whole = whole.prop_map(|(payload, is_v4, tag)| {
        let [v4, v6] = frames(&payload);
        let frame = if is_v4 { v4 } else { v6 };
        Frame { tag, ..frame }.bytes()
    });
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    let changed = (whole, changes, -20..20_isize).prop_map(|(mut bytes, changes, more)| {
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.resize(bytes.len().saturating_add_signed(more).max(14), 0);
        bytes
    });
    prop_oneof![4 => changed, 1 => vec(any::<u8>(), 14..1_500)]
}

/// It is passed on untouched, or dropped or answered and counted; and nothing else happens.
#[test]
fn any_frame_is_dealt_with() {
    const FRAMES: u32 = 20_000;
    for mode in [AttachMode::Native, AttachMode::Generic] {
        let Some(xdp) = filter(mode) else { return };
        let limits = XdpLimits {
            errors_per_second: 1_000,
            ..LIMITS
        };
        xdp.activate(XdpTask::Filter, KEY, times(UNIX_SECONDS), limits);
        let mut runner = TestRunner::new(ProptestConfig::with_cases(FRAMES));
        let mut seen = [0_u64; 4];
        let strategy = frame();
        for _ in 0..FRAMES {
            let bytes = strategy.new_tree(&mut runner).unwrap().current();
            let (verdict, after, _) = xdp.try_frame(&bytes, 1).unwrap();
            assert!([DROP, PASS, TX].contains(&verdict), "{verdict}: {bytes:x?}");
            assert!(verdict == TX || after == bytes, "changed: {bytes:x?}");
            assert!(after.len() <= bytes.len());
            seen[usize::try_from(verdict).unwrap()] += 1;
        }
        let sum = |count: fn(&Counts) -> u64| xdp.counts().iter().map(count).sum::<u64>();
        assert_eq!(sum(Counts::dropped), seen[1]);
        assert_eq!(
            sum(|it| it.connects + it.told_announces + it.told_scrapes),
            seen[3]
        );
        assert!(seen[1..].iter().all(|it| *it > 1_000), "{seen:?}");
    }
}
