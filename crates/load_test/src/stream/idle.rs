//! A worker whose connections announce once and are kept.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::bail;

use crate::core::kind::RequestKind;
use crate::core::tally::Tally;
use crate::stream::dialogue::Dialogue;
use crate::stream::worker::Worker;

/// How long a round may wait for events, so that the other threads are heard.
const WAIT: Duration = Duration::from_millis(20);

/// A tracker that has answered nothing new for so long will not.
const SILENCE_MICROS_MAX: u64 = 15_000_000;

/// What idling has come to.
pub(crate) struct Idled {
    pub(crate) tally: Tally,
    /// Connections that were open at the end.
    pub(crate) open: usize,
}

/// Lets each connection announce once, tells `filled`, and holds them until `stop`.
pub(crate) fn run<D: Dialogue>(
    mut worker: Worker<D>,
    filled: &Sender<()>,
    stop: &AtomicBool,
) -> anyhow::Result<Idled> {
    announce_once(&mut worker)?;
    // Whoever waits for it may have failed: then `stop` is on its way.
    let _ = filled.send(());
    while !stop.load(Ordering::Relaxed) {
        worker.turn(WAIT)?;
        worker.touched.clear();
    }
    let open = worker.clients.iter().filter(|client| client.is_open());
    Ok(Idled {
        open: open.count(),
        tally: worker.shared.tally,
    })
}

fn announce_once<D: Dialogue>(worker: &mut Worker<D>) -> anyhow::Result<()> {
    let total = worker.clients.len();
    let mut has_asked = vec![false; total];
    let mut settled = 0;
    let mut settled_micros = worker.clock.micros();
    while settled < total {
        worker.turn(WAIT)?;
        let mut touched = mem::take(&mut worker.touched);
        let now_micros = worker.clock.micros();
        for number in touched.drain(..) {
            if !has_asked[number] && worker.room(number) > 0 {
                has_asked[number] = true;
                worker.ask(number, RequestKind::Announce, now_micros);
                worker.send(number);
            }
        }
        worker.touched = touched;
        let settled_before = settled;
        let announces = worker.shared.tally.kind(RequestKind::Announce);
        settled = usize::try_from(announces.settled()).unwrap_or(usize::MAX);
        if settled > settled_before {
            settled_micros = now_micros;
        } else if now_micros.saturating_sub(settled_micros) > SILENCE_MICROS_MAX {
            bail!("the tracker has fallen silent: {settled} of {total} connections were answered");
        }
    }
    Ok(())
}
