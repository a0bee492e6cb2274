//! One thread's clients, and the events of their connections. What to send, and when, is decided by
//! `load` and `idle`.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Context;
use aquatic_daemon::clock::Clock;
use mio::{Events, Poll, Token};

use crate::core::kind::RequestKind;
use crate::stream::client::{Client, Outcome};
use crate::stream::client_options::ClientOptions;
use crate::stream::dialogue::{Dialogue, Shared};
use crate::stream::transport::{Reading, Scratch};

/// Events per system call.
const EVENTS_MAX: usize = 1024;

/// Kept connections that are being opened at a time: fewer than a tracker's queue of connections to
/// accept has room for. If that overflows, the next attempt comes after a second.
const OPENING_MAX: usize = 128;

/// How long a client waits after a connection that was of no use, so that a tracker which refuses
/// connections is not flooded with them.
const RETRY_MICROS: u64 = 100_000;

/// How often connections are looked at for what takes too long.
const SWEEP_MICROS: u64 = 100_000;

/// One thread's clients.
pub(crate) struct Worker<D: Dialogue> {
    pub(crate) clients: Vec<Client<D>>,
    pub(crate) shared: Shared<D>,
    pub(crate) clock: Clock,
    /// Clients to which something has happened, so that they may have room for requests.
    pub(crate) touched: Vec<usize>,
    options: ClientOptions,
    poll: Poll,
    events: Events,
    scratch: Scratch,
    /// Clients whose connections are to be kept and have to be opened.
    to_open: VecDeque<usize>,
    opening: usize,
    /// Clients that wait after a failure, and until when.
    backoff: VecDeque<(u64, usize)>,
    next_sweep_micros: u64,
}

impl<D: Dialogue> Worker<D> {
    pub(crate) fn new(
        options: ClientOptions,
        clients: Vec<Client<D>>,
        shared: Shared<D>,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let numbers = 0..clients.len();
        let (to_open, touched) = if options.keep_alive {
            (numbers.collect(), Vec::new())
        } else {
            (VecDeque::new(), numbers.collect())
        };
        Ok(Self {
            clients,
            shared,
            clock,
            touched,
            options,
            poll: Poll::new().context("cannot wait for events")?,
            events: Events::with_capacity(EVENTS_MAX),
            scratch: Scratch::new(),
            to_open,
            opening: 0,
            backoff: VecDeque::new(),
            next_sweep_micros: 0,
        })
    }

    /// Deals with what has happened, or happens within `timeout`. Gives back how many events there
    /// were.
    pub(crate) fn turn(&mut self, timeout: Duration) -> anyhow::Result<usize> {
        let now_micros = self.look_at_clock();
        self.open_some(now_micros);
        if let Err(error) = self.poll.poll(&mut self.events, Some(timeout))
            && error.kind() != std::io::ErrorKind::Interrupted
        {
            return Err(error).context("cannot wait for events");
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let mut handled = 0;
        for event in &events {
            self.handle(event.token().0, event.is_read_closed());
            handled += 1;
        }
        self.events = events;
        let now_micros = self.look_at_clock();
        self.shared.tally.show_progress(now_micros);
        if now_micros >= self.next_sweep_micros {
            self.next_sweep_micros = now_micros + SWEEP_MICROS;
            self.sweep(now_micros);
        }
        Ok(handled)
    }

    /// The time. So often that a worker that hardly sleeps sees when it was kept from running.
    fn look_at_clock(&mut self) -> u64 {
        let now_micros = self.clock.micros();
        self.shared.tally.stalls.look(now_micros);
        now_micros
    }

    /// Requests that a client may send now.
    pub(crate) fn room(&self, number: usize) -> usize {
        let client = &self.clients[number];
        if self.options.keep_alive {
            let is_usable = client.is_open() && client.dialogue.stays_open();
            let waiting = client.dialogue.waiting();
            usize::from(is_usable) * self.options.pipelining_depth.saturating_sub(waiting)
        } else {
            usize::from(!client.has_connection())
        }
    }

    /// Draws what is to be asked.
    pub(crate) fn sample(&mut self) -> RequestKind {
        self.shared.mix.sample(&mut self.shared.rng)
    }

    /// Adds a request to those that a client sends next.
    pub(crate) fn ask(&mut self, number: usize, kind: RequestKind, due_micros: u64) {
        let dialogue = &mut self.clients[number].dialogue;
        dialogue.ask(&mut self.shared, kind, due_micros);
    }

    /// Sends the requests that a client was asked for, over a new connection if it has none.
    pub(crate) fn send(&mut self, number: usize) {
        let now_micros = self.look_at_clock();
        let client = &mut self.clients[number];
        let registry = self.poll.registry();
        let opened = if client.has_connection() {
            Ok(())
        } else {
            client.open(&self.options, now_micros, Token(number), registry)
        };
        let written = opened.and_then(|()| client.write(&self.shared.out));
        self.shared.out.clear();
        if let Err(error) = written {
            self.end(number, now_micros, Some(&error));
        }
    }

    /// Whether nothing more will come unless something is asked.
    pub(crate) fn is_settled(&self) -> bool {
        let mut clients = self.clients.iter();
        clients.all(|client| client.dialogue.is_settled())
    }

    /// What is not answered by now is lost.
    pub(crate) fn give_up(&mut self) {
        for client in &mut self.clients {
            client.dialogue.give_up(&mut self.shared);
        }
    }

    /// Opens connections that are to be kept, no more than the tracker can accept.
    fn open_some(&mut self, now_micros: u64) {
        while let Some((due_micros, number)) = self.backoff.front().copied()
            && due_micros <= now_micros
        {
            self.backoff.pop_front();
            self.release(number);
        }
        while self.opening < OPENING_MAX
            && let Some(number) = self.to_open.pop_front()
        {
            let (options, registry) = (&self.options, self.poll.registry());
            let opened = self.clients[number].open(options, now_micros, Token(number), registry);
            self.opening += 1;
            if let Err(error) = opened {
                self.end(number, now_micros, Some(&error));
            }
        }
    }

    fn handle(&mut self, number: usize, has_ended: bool) {
        let now_micros = self.look_at_clock();
        let client = &mut self.clients[number];
        let was_open = client.is_open();
        let (scratch, shared) = (&mut self.scratch, &mut self.shared);
        let result = client.exchange(now_micros, has_ended, scratch, shared);
        // Left over if the connection has failed.
        shared.out.clear();
        if !was_open && client.is_open() {
            self.opening = self.opening.saturating_sub(1);
        }
        match result {
            Ok(Reading::Paused) => self.touched.push(number),
            Ok(Reading::Ended) => self.end(number, now_micros, None),
            Err(error) => self.end(number, now_micros, Some(&error)),
        }
    }

    fn end(&mut self, number: usize, now_micros: u64, error: Option<&std::io::Error>) {
        let client = &mut self.clients[number];
        let is_kept = self.options.keep_alive && client.dialogue.stays_open();
        if is_kept && client.is_open() && client.dialogue.is_settled() {
            self.shared.tally.connections.closed_idle += 1;
        }
        if !client.is_open() {
            self.opening = self.opening.saturating_sub(1);
        }
        let outcome = client.end(now_micros, error, &mut self.shared);
        self.after(number, outcome, now_micros);
    }

    fn sweep(&mut self, now_micros: u64) {
        for number in 0..self.clients.len() {
            let client = &mut self.clients[number];
            let was_opening = client.has_connection() && !client.is_open();
            let outcome = client.expire(&self.options, now_micros, &mut self.shared);
            if outcome != Outcome::Goes && was_opening {
                self.opening = self.opening.saturating_sub(1);
            }
            self.after(number, outcome, now_micros);
        }
    }

    fn after(&mut self, number: usize, outcome: Outcome, now_micros: u64) {
        match outcome {
            Outcome::Goes => {}
            Outcome::Ended => self.release(number),
            Outcome::Failed => self.backoff.push_back((now_micros + RETRY_MICROS, number)),
        }
    }

    /// A client is free to have its next connection.
    fn release(&mut self, number: usize) {
        if self.options.keep_alive {
            self.to_open.push_back(number);
        } else {
            self.touched.push(number);
        }
    }
}
