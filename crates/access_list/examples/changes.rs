//! What a list of a million info hashes costs: to look something up, to change one entry, and what
//! both would cost with one table.
//!
//! `CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo run -p aquatic_access_list --example changes`

use std::collections::HashSet;
use std::hint::black_box;
use std::time::{Duration, Instant};

use aquatic_access_list::AccessList;
use aquatic_types::InfoHash;

const ENTRIES: u64 = 1_000_000;
const LOOK_UPS: u32 = 1_000_000;
const CHANGES: u32 = 20;

/// Beside the table of a list, just before they are put into another one.
const CHANGES_MAX: usize = 1_000;

/// Any info hash.
fn hash(number: u64) -> InfoHash {
    let mut hash = [0; 20];
    for (part, salt) in hash.chunks_mut(8).zip(1_u64..) {
        // The steps of splitmix64.
        let mut word = number.wrapping_mul(3).wrapping_add(salt);
        word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word ^= word >> 31;
        part.copy_from_slice(&word.to_be_bytes()[..part.len()]);
    }
    InfoHash(hash)
}

#[expect(clippy::disallowed_methods, reason = "time is measured here")]
fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn tell(what: &str, mut contains: impl FnMut(&InfoHash) -> bool, mut change: impl FnMut(InfoHash)) {
    // Half of them are on the list.
    let hashes: Vec<_> = (0..LOOK_UPS)
        .map(|number| hash(u64::from(number) * 2))
        .collect();
    for _ in 0..3 {
        let all = time(|| {
            assert_eq!(
                hashes.iter().filter(|it| contains(black_box(it))).count(),
                500_000
            );
        });
        let per_look_up = all.as_secs_f64() * 1e9 / f64::from(LOOK_UPS);
        let changes =
            time(|| (0..CHANGES).for_each(|number| change(hash(u64::MAX - u64::from(number)))));
        println!(
            "{what}: {per_look_up:.1} ns per look-up, {:?} per change",
            changes / CHANGES
        );
    }
}

fn main() {
    let table: HashSet<_> = (0..ENTRIES).map(hash).collect();
    tell(
        "one table",
        |it| table.contains(it),
        |it| {
            let mut copy = table.clone();
            copy.insert(it);
            black_box(copy);
        },
    );
    let list: AccessList = (0..ENTRIES).map(hash).collect();
    let change = |list: &AccessList| {
        let list = list.clone();
        move |it| {
            let mut copy = list.clone();
            copy.insert(it);
            black_box(copy);
        }
    };
    tell("the list", |it| list.contains(it), change(&list));
    // As long as there may be: one more, and it has a table of its own.
    let mut changed = list.clone();
    let mut others = (ENTRIES..).map(|number| hash(number * 2 + 1));
    while changed.shares_table_with(&list) && changed.len() < list.len() + CHANGES_MAX {
        others.next().map(|it| changed.insert(it));
    }
    assert!(changed.shares_table_with(&list));
    tell(
        "the list, with changes",
        |it| changed.contains(it),
        change(&changed),
    );
}
