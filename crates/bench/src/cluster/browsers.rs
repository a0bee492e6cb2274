//! How soon an offer of a browser arrives at one of another node, and its answer back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::bail;
use aquatic_daemon::clock::Clock;
use aquatic_load_test::core::population::info_hash;

use crate::cluster::browser::Browser;
use crate::cluster::node::Node;
use crate::cluster::{Context, Table, millis, per_second};
use crate::trackers::Protocol;

/// How long until browsers of another node are known.
const KNOWN_MAX: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(1);

/// Time between two offers that are measured, so that none waits for the one before.
const REST: Duration = Duration::from_millis(5);

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
    offers: Arc<AtomicU64>,
    thread: JoinHandle<anyhow::Result<()>>,
    clock: Clock,
}

/// Two browsers at different nodes.
struct Pair(Browser, Browser);

impl Options {
    pub(crate) fn run(&self, context: &Context<'_>) -> anyhow::Result<Table> {
        let place = context.place()?;
        let server = place.server(context)?;
        let mut setup = context.setup(Protocol::Ws)?;
        setup.server = Some(server.url());
        let count = usize::from(self.browsers_nodes);
        let nodes = setup.start_all(place.folder(), count, context.interrupt)?;
        let mut table = Table::new("browsers");
        self.measure(&nodes, 0, "alone", context, &mut table)?;
        let beside = Beside::start(&nodes, self.browsers_rate)?;
        self.measure(&nodes, 1, "beside others", context, &mut table)?;
        table.add("offers beside these", "1/s", beside.end()?);
        Ok(table)
    }

    fn measure(
        &self,
        nodes: &[Node],
        part: u32,
        when: &str,
        context: &Context<'_>,
        table: &mut Table,
    ) -> anyhow::Result<()> {
        let (mut offers, mut answers) = (Vec::new(), Vec::new());
        for number in 0..self.browsers_pairs {
            let number = part * self.browsers_pairs + number;
            let torrent = info_hash(SEED, number);
            let Pair(mut from, mut to) = Pair::meet(nodes, number, SEED, context)?;
            for offer in 0..OFFERS_PER_PAIR {
                thread::sleep(REST);
                let clock = Clock::start();
                from.announce(torrent, Some(offer))?;
                let offer = to.wait_for("offer")?;
                offers.push(millis(clock.elapsed()));
                to.answer(torrent, &offer)?;
                from.wait_for("answer")?;
                answers.push(millis(clock.elapsed()));
            }
        }
        table.add_quantiles(&format!("{when}: offer arrives after"), "ms", offers);
        table.add_quantiles(&format!("{when}: answer is back after"), "ms", answers);
        Ok(())
    }
}

impl Pair {
    /// Two that know of each other, in a torrent of their own.
    fn meet(nodes: &[Node], number: u32, seed: u64, context: &Context<'_>) -> anyhow::Result<Self> {
        let torrent = info_hash(seed, number);
        let mut pair = Self::connect(nodes, number)?;
        pair.1.announce(torrent, None)?;
        let clock = Clock::start();
        while pair.0.scrape(torrent)? == 0 {
            context.interrupt.check()?;
            if clock.elapsed() > KNOWN_MAX {
                bail!("a browser is not known at another node");
            }
            thread::sleep(PAUSE);
        }
        Ok(pair)
    }

    fn connect(nodes: &[Node], number: u32) -> anyhow::Result<Self> {
        let first = usize::try_from(number)? % nodes.len();
        let second = (first + 1) % nodes.len();
        let (Some(from), Some(to)) = (nodes.get(first), nodes.get(second)) else {
            bail!("there are no two nodes");
        };
        Ok(Self(
            Browser::connect(from.address, 2 * number)?,
            Browser::connect(to.address, 2 * number + 1)?,
        ))
    }
}

impl Beside {
    fn start(nodes: &[Node], rate: u32) -> anyhow::Result<Self> {
        let pairs = (0..PAIRS_BESIDE).map(|number| {
            let mut pair = Pair::connect(nodes, number)?;
            pair.1.announce(info_hash(SEED_BESIDE, number), None)?;
            Ok((number, pair))
        });
        let pairs = pairs.collect::<anyhow::Result<Vec<_>>>()?;
        let (is_ending, offers) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (of_thread, counted) = (Arc::clone(&is_ending), Arc::clone(&offers));
        let thread = thread::spawn(move || offer_all(pairs, rate, &of_thread, &counted));
        Ok(Self {
            is_ending,
            offers,
            thread,
            clock: Clock::start(),
        })
    }

    /// Offers per second.
    fn end(self) -> anyhow::Result<f64> {
        let rate = per_second(self.offers.load(Relaxed), self.clock.elapsed());
        self.is_ending.store(true, Relaxed);
        match self.thread.join() {
            Ok(done) => done.map(|()| rate),
            Err(_) => bail!("a thread has failed"),
        }
    }
}

fn offer_all(
    mut pairs: Vec<(u32, Pair)>,
    rate: u32,
    is_ending: &AtomicBool,
    offers: &AtomicU64,
) -> anyhow::Result<()> {
    let (clock, mut sent) = (Clock::start(), 0u32);
    while !is_ending.load(Relaxed) {
        for (number, Pair(from, to)) in &mut pairs {
            while u64::from(sent) >= u64::from(rate) * clock.micros() / 1_000_000 {
                thread::sleep(PAUSE);
            }
            from.announce(info_hash(SEED_BESIDE, *number), Some(sent))?;
            sent = sent.wrapping_add(1);
            offers.fetch_add(1, Relaxed);
            from.discard()?;
            to.discard()?;
        }
    }
    Ok(())
}
