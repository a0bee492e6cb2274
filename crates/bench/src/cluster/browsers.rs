//! How soon an offer of a browser arrives at one of another node, and its answer back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::bail;
use aquatic_daemon::clock::Clock;
use aquatic_load_test::core::population::info_hash;
use aquatic_types::InfoHash;

use crate::cluster::browser::{Browser, MESSAGE_MAX};
use crate::cluster::node::Node;
use crate::cluster::{Context, Table, millis, per_second, to_f64};
use crate::trackers::Protocol;

/// How long until browsers of another node are known.
const KNOWN_MAX: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(1);

/// Time between two offers that are measured.
const SPACING: Duration = Duration::from_millis(20);

/// Of the offers beside those that are measured, less than this share arrives: they are no load.
const ARRIVED_MIN: f64 = 0.9;

/// How long the last of them are waited for.
const ARRIVED_AFTER: Duration = Duration::from_secs(5);

/// Seeds of torrents: those that are measured, and those beside them.
const SEED: u64 = 0x6f66_6665_7273;
const SEED_BESIDE: u64 = 0x6265_7369_6465;

/// Offers of each pair.
const OFFERS_PER_PAIR: u32 = 5;

/// Pairs that meet beside those that are measured.
const PAIRS_BESIDE: u32 = 100;

/// How to measure it.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// browsers: WebTorrent nodes.
    #[arg(long, value_name = "NODES", default_value_t = 2,
        value_parser = clap::value_parser!(u8).range(2..=32))]
    pub browsers_nodes: u8,
    /// browsers: pairs at different nodes, with five offers each.
    #[arg(long, value_name = "PAIRS", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub browsers_pairs: u32,
    /// browsers: offers per second between other pairs of nodes, the second time.
    #[arg(long, value_name = "RATE", default_value_t = 1_000,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub browsers_rate: u32,
}

/// Offers between other browsers, until this is ended.
struct Beside {
    is_ending: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Offers>>,
}

/// What came of them.
struct Offers {
    sent: u64,
    arrived: u64,
    time: Duration,
}

/// Two browsers at different nodes, in a torrent of their own.
struct Pair {
    from: Browser,
    to: Browser,
    torrent: InfoHash,
}

/// Milliseconds until offers and answers have arrived.
#[derive(Default)]
struct Times {
    offers: Vec<f64>,
    answers: Vec<f64>,
    /// Of either.
    lost: u32,
}

impl Options {
    pub(crate) fn run(&self, context: &Context<'_>) -> anyhow::Result<Table> {
        let place = context.place()?;
        let server = place.server(context)?;
        let mut setup = context.setup(Protocol::Ws)?;
        setup.server = Some(server.url());
        let count = usize::from(self.browsers_nodes);
        let nodes = setup.start_all(place.folder(), count, context.interrupt)?;
        let mut table = Table::new("browsers");
        let mut pairs = Pair::meet(&nodes, self.browsers_pairs, SEED, context)?;
        measure(&mut pairs, context)?.tell("alone", &mut table);
        let beside = Pair::meet(&nodes, PAIRS_BESIDE, SEED_BESIDE, context)?;
        let beside = Beside::start(beside, self.browsers_rate);
        measure(&mut pairs, context)?.tell("beside others", &mut table);
        beside.end()?.tell(&mut table)?;
        Ok(table)
    }
}

/// Each offer has its time, however long the one before takes, and counts from then.
fn measure(pairs: &mut [Pair], context: &Context<'_>) -> anyhow::Result<Times> {
    let (clock, mut due, mut times) = (Clock::start(), Duration::ZERO, Times::default());
    for Pair { from, to, torrent } in pairs {
        for number in 0..OFFERS_PER_PAIR {
            context.interrupt.check()?;
            due += SPACING;
            thread::sleep(due.saturating_sub(clock.elapsed()));
            from.announce(*torrent, Some(number))?;
            let offer = to.wait_for("offer")?;
            times
                .offers
                .push(millis(clock.elapsed().saturating_sub(due)));
            let answer = match &offer {
                Some(offer) => {
                    to.answer(*torrent, offer)?;
                    from.wait_for("answer")?
                }
                None => None,
            };
            times
                .answers
                .push(millis(clock.elapsed().saturating_sub(due)));
            times.lost += u32::from(answer.is_none());
        }
    }
    Ok(times)
}

impl Times {
    fn tell(self, when: &str, table: &mut Table) {
        table.add_quantiles(&format!("{when}: offer arrives after"), "ms", self.offers);
        table.add_quantiles(&format!("{when}: answer is back after"), "ms", self.answers);
        let name = format!("{when}: offer or answer not there within {MESSAGE_MAX:?}");
        table.add(name, "values", self.lost.into());
    }
}

impl Pair {
    /// So many pairs that know of each other.
    fn meet(
        nodes: &[Node],
        count: u32,
        seed: u64,
        context: &Context<'_>,
    ) -> anyhow::Result<Vec<Self>> {
        let pairs = (0..count).map(|number| {
            let mut pair = Self::connect(nodes, number, seed)?;
            pair.to.announce(pair.torrent, None)?;
            Ok(pair)
        });
        let mut pairs = pairs.collect::<anyhow::Result<Vec<_>>>()?;
        let clock = Clock::start();
        for Self { from, torrent, .. } in &mut pairs {
            while from.scrape(*torrent)? == 0 {
                context.interrupt.check()?;
                if clock.elapsed() > KNOWN_MAX {
                    bail!("a browser is not known at another node");
                }
                thread::sleep(PAUSE);
            }
        }
        Ok(pairs)
    }

    fn connect(nodes: &[Node], number: u32, seed: u64) -> anyhow::Result<Self> {
        let first = usize::try_from(number)? % nodes.len();
        let second = (first + 1) % nodes.len();
        let (Some(from), Some(to)) = (nodes.get(first), nodes.get(second)) else {
            bail!("there are no two nodes");
        };
        Ok(Self {
            from: Browser::connect(from.address, 2 * number)?,
            to: Browser::connect(to.address, 2 * number + 1)?,
            torrent: info_hash(seed, number),
        })
    }
}

impl Beside {
    fn start(pairs: Vec<Pair>, rate: u32) -> Self {
        let is_ending = Arc::new(AtomicBool::new(false));
        let of_thread = Arc::clone(&is_ending);
        let thread = thread::spawn(move || offer_all(pairs, rate, &of_thread));
        Self { is_ending, thread }
    }

    fn end(self) -> anyhow::Result<Offers> {
        self.is_ending.store(true, Relaxed);
        match self.thread.join() {
            Ok(offers) => offers,
            Err(_) => bail!("a thread has failed"),
        }
    }
}

impl Offers {
    fn tell(&self, table: &mut Table) -> anyhow::Result<()> {
        let share = to_f64(self.arrived) / to_f64(self.sent);
        if self.sent == 0 || share < ARRIVED_MIN {
            let Self { sent, arrived, .. } = self;
            bail!("of {sent} offers beside those that are measured, {arrived} have arrived");
        }
        table.add(
            "offers beside these",
            "1/s",
            per_second(self.sent, self.time),
        );
        table.add("of these arrived", "%", share * 100.0);
        Ok(())
    }
}

fn offer_all(mut pairs: Vec<Pair>, rate: u32, is_ending: &AtomicBool) -> anyhow::Result<Offers> {
    let (clock, mut sent, mut arrived) = (Clock::start(), 0u32, 0);
    'all: loop {
        for Pair { from, to, torrent } in &mut pairs {
            while u64::from(sent) >= u64::from(rate) * clock.micros() / 1_000_000 {
                if is_ending.load(Relaxed) {
                    break 'all;
                }
                thread::sleep(PAUSE);
            }
            if is_ending.load(Relaxed) {
                break 'all;
            }
            from.announce(*torrent, Some(sent))?;
            sent = sent.wrapping_add(1);
            from.take("offer")?;
            arrived += to.take("offer")?;
        }
    }
    let time = clock.elapsed();
    while arrived < u64::from(sent) && clock.elapsed() < time + ARRIVED_AFTER {
        thread::sleep(PAUSE);
        for pair in &mut pairs {
            arrived += pair.to.take("offer")?;
        }
    }
    Ok(Offers {
        sent: sent.into(),
        arrived,
        time,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_that_do_not_arrive_are_no_load() {
        let told = |sent, arrived| {
            let mut table = Table::new("browsers");
            let time = Duration::from_secs(2);
            let offers = Offers {
                sent,
                arrived,
                time,
            };
            offers.tell(&mut table)
        };
        told(10, 10).unwrap();
        told(10, 9).unwrap();
        let error = told(10, 8).unwrap_err().to_string();
        assert!(error.contains("of 10 offers"), "{error}");
        told(0, 0).unwrap_err();
    }
}
