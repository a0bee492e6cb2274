//! A worker that applies load: a mix of requests, at the tracker's pace or at a fixed rate.

use std::collections::VecDeque;
use std::mem;
use std::ops::Range;
use std::thread;
use std::time::Duration;

use crate::core::arrivals::Arrivals;
use crate::core::kind::RequestKind;
use crate::core::tally::{Asked, Tally};
use crate::stream::dialogue::Dialogue;
use crate::stream::worker::Worker;

/// How long a worker at the tracker's pace sleeps when little has happened. Short enough for the
/// tracker to find requests meanwhile, long enough to gather a batch of answers. It sleeps by the
/// clock and not on its connections, because then the tracker's sends have nobody to wake, which
/// would cost the tracker about as much as an answer does.
const REST: Duration = Duration::from_micros(100);

/// Events per round from which on the worker does not sleep.
const BUSY_EVENTS: usize = 32;

/// Requests that wait, as many as keep a tracker busy while the worker sleeps. With fewer, it waits
/// for events.
const RESTING_REQUESTS_MIN: usize = 64;

/// How long a round may wait for events, so that the clock is looked at.
const WAIT: Duration = Duration::from_millis(10);

/// How long a worker at a fixed rate sleeps at a time. The system makes some 70 µs of it, or 30
/// with real-time priority.
const NAP: Duration = Duration::from_micros(20);

/// Requests that are due and sent before answers are looked at.
const BURST: usize = 64;

/// A worker and when it measures.
pub(crate) struct LoadWorker<D: Dialogue> {
    pub(crate) worker: Worker<D>,
    /// By this worker. `None`: whenever there is room on a connection.
    pub(crate) rate_per_second: Option<f64>,
    /// At a fixed rate, requests are due from then on, even if the worker begins later.
    pub(crate) start_micros: u64,
    /// Requests are counted if they are due within it; none becomes due after it.
    pub(crate) window_micros: Range<u64>,
    /// How long a request may wait for a connection, and how long after the window answers are
    /// waited for.
    pub(crate) lost_after_micros: u64,
    /// The most requests that may wait for their answers.
    pub(crate) in_flight_max: usize,
}

impl<D: Dialogue> LoadWorker<D> {
    /// Runs until the window and the grace after it are over.
    pub(crate) fn run(mut self) -> anyhow::Result<Tally> {
        if let Some(rate_per_second) = self.rate_per_second {
            self.keep_rate(rate_per_second)?;
        } else {
            self.keep_in_flight()?;
            self.drain(|worker| worker.is_settled())?;
        }
        self.worker.give_up();
        Ok(self.worker.shared.tally)
    }

    fn keep_in_flight(&mut self) -> anyhow::Result<()> {
        let worker = &mut self.worker;
        let rests = self.in_flight_max >= RESTING_REQUESTS_MIN;
        let timeout = if rests { Duration::ZERO } else { WAIT };
        while worker.clock.micros() < self.window_micros.end {
            let mut touched = mem::take(&mut worker.touched);
            for number in touched.drain(..) {
                fill_up(worker, number, self.window_micros.end);
            }
            worker.touched = touched;
            if worker.turn(timeout)? < BUSY_EVENTS && rests {
                thread::sleep(REST);
            }
        }
        Ok(())
    }

    /// Sleeps for a moment only, and only if there is nothing to do: whoever sleeps wakes too late,
    /// and counts the delay as the tracker's. But whoever never sleeps is made to stop by the
    /// system when others have to run, for milliseconds, real-time priority or not.
    fn keep_rate(&mut self, rate_per_second: f64) -> anyhow::Result<()> {
        let worker = &mut self.worker;
        let given_up_micros = self.window_micros.end + self.lost_after_micros;
        let rng = &mut worker.shared.rng;
        let mut arrivals = Arrivals::new(rate_per_second, self.start_micros, rng);
        let mut queue = Queue::new(worker.clients.len());
        loop {
            let now_micros = worker.clock.micros();
            // A worker that was kept from running until after the end still owes what was due
            // before, as long as that can be answered in time.
            let until_micros = now_micros.min(self.window_micros.end.saturating_sub(1));
            let mut due = 0;
            while due < BURST
                && let Some(due_micros) = arrivals.due(until_micros, &mut worker.shared.rng)
            {
                let kind = worker.sample();
                queue.due.push_back((kind, due_micros));
                due += 1;
            }
            queue.send(worker);
            queue.expire(&mut worker.shared.tally, now_micros, self.lost_after_micros);
            let is_behind = due == BURST && now_micros < given_up_micros;
            if now_micros >= self.window_micros.end && !is_behind {
                break;
            }
            let events = worker.turn(Duration::ZERO)?;
            if due == 0 && events == 0 {
                thread::sleep(NAP);
            }
        }
        self.drain(|worker| {
            queue.send(worker);
            queue.due.is_empty() && worker.is_settled()
        })?;
        queue.expire(&mut self.worker.shared.tally, u64::MAX, 0);
        Ok(())
    }

    /// Waits for the answers that are still to come.
    fn drain(&mut self, mut is_over: impl FnMut(&mut Worker<D>) -> bool) -> anyhow::Result<()> {
        let end_micros = self.worker.clock.micros() + self.lost_after_micros;
        while self.worker.clock.micros() <= end_micros && !is_over(&mut self.worker) {
            self.worker.turn(WAIT)?;
        }
        Ok(())
    }
}

/// Lets a client ask for as much as it may, which is due before `end_micros` even if that is now.
fn fill_up<D: Dialogue>(worker: &mut Worker<D>, number: usize, end_micros: u64) {
    let room = worker.room(number);
    if room == 0 {
        return;
    }
    let due_micros = worker.clock.micros().min(end_micros.saturating_sub(1));
    for _ in 0..room {
        let kind = worker.sample();
        worker.ask(number, kind, due_micros);
    }
    worker.send(number);
}

/// Requests that are due, and clients that have room for them.
struct Queue {
    due: VecDeque<(RequestKind, u64)>,
    free: VecDeque<usize>,
    /// Which clients are in `free`.
    is_free: Vec<bool>,
}

impl Queue {
    fn new(clients: usize) -> Self {
        Self {
            due: VecDeque::new(),
            free: VecDeque::new(),
            is_free: vec![false; clients],
        }
    }

    /// Sends what is due, as far as there is room. Clients take turns.
    fn send(&mut self, worker: &mut Worker<impl Dialogue>) {
        let mut touched = mem::take(&mut worker.touched);
        for number in touched.drain(..) {
            self.note(worker, number);
        }
        worker.touched = touched;
        while let Some((kind, due_micros)) = self.due.front().copied() {
            let Some(number) = self.free.pop_front() else {
                break;
            };
            self.is_free[number] = false;
            if worker.room(number) > 0 {
                self.due.pop_front();
                worker.ask(number, kind, due_micros);
                worker.send(number);
                self.note(worker, number);
            }
        }
    }

    fn note(&mut self, worker: &Worker<impl Dialogue>, number: usize) {
        if !self.is_free[number] && worker.room(number) > 0 {
            self.is_free[number] = true;
            self.free.push_back(number);
        }
    }

    /// Gives up what has waited for a connection for too long.
    fn expire(&mut self, tally: &mut Tally, now_micros: u64, lost_after_micros: u64) {
        while let Some((kind, due_micros)) = self.due.front().copied()
            && now_micros.saturating_sub(due_micros) > lost_after_micros
        {
            self.due.pop_front();
            let asked = Asked::new(kind, due_micros);
            tally.sent(&asked);
            tally.lost(&asked);
        }
    }
}
