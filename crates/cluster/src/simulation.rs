//! A [`Bus`] without servers, in one thread, whose time and chance are the caller's: what crosses
//! it is late, lost, doubled and out of order as often as he says.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use crate::bus::{Bus, Channel, Destination, Event, Message};

/// How messages cross a [`Network`].
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// The time that a message takes: between these, in microseconds.
    pub latency_micros: (u64, u64),
    /// Of so many messages one is lost, on its way to one of its receivers; 0: none is.
    pub one_lost_of: u32,
    /// The same for messages that come twice.
    pub one_doubled_of: u32,
    /// So much later they come for the second time, at most, in microseconds; 0: as soon as the
    /// first.
    pub doubled_after_micros: u64,
    /// Whether messages of one publisher may overtake each other.
    pub reorders: bool,
    /// Whether there is a log.
    pub has_log: bool,
    /// So many messages of the log are read in a second; 0: all at once.
    pub logged_per_second: u64,
    /// Messages that may wait for a receiver before the bus drops it as too slow.
    pub waiting_max: usize,
}

impl Default for Conditions {
    /// Nothing goes wrong.
    fn default() -> Self {
        Self {
            latency_micros: (200, 2_000),
            one_lost_of: 0,
            one_doubled_of: 0,
            doubled_after_micros: 0,
            reorders: false,
            has_log: true,
            logged_per_second: 0,
            waiting_max: 100_000,
        }
    }
}

/// What all nodes of a simulation are connected with.
#[derive(Clone, Debug)]
pub struct Network(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    conditions: Conditions,
    rng: fastrand::Rng,
    now_micros: u64,
    nodes: Vec<Endpoint>,
    log: VecDeque<Logged>,
    /// Messages that are in the log no longer.
    log_begin: usize,
    /// How long messages stay in the log.
    life_micros: u64,
    /// The side on which the log is.
    log_side: u8,
    /// Since when there has been this log.
    log_made_micros: u64,
    /// Messages that were published, and bytes of these.
    published: (u64, u64),
    next_order: u64,
}

#[derive(Debug)]
struct Endpoint {
    name: String,
    /// Those of one side hear each other.
    side: u8,
    /// Whether it has a connection with the bus at all.
    is_connected: bool,
    /// Whether nothing crosses that connection.
    hangs: bool,
    inbox: BinaryHeap<Reverse<OnItsWay>>,
    events: VecDeque<Event<Payload>>,
    reading: Option<Reading>,
    /// By publisher: when its last message comes.
    last_due: Vec<u64>,
    was_slow: bool,
}

/// What a node is being given of the log.
#[derive(Clone, Copy, Debug)]
struct Reading {
    began_micros: u64,
    /// Of all messages that were ever logged.
    next: usize,
    read: u64,
}

#[derive(Debug)]
struct OnItsWay {
    due_micros: u64,
    order: u64,
    message: Message<Payload>,
}

impl PartialEq for OnItsWay {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for OnItsWay {}

impl PartialOrd for OnItsWay {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OnItsWay {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due_micros, self.order).cmp(&(other.due_micros, other.order))
    }
}

#[derive(Debug)]
struct Logged {
    micros: u64,
    message: Message<Payload>,
}

/// What is in a message: all receivers share it.
pub type Payload = Rc<[u8]>;

impl Network {
    /// Nobody is connected with it yet. Messages stay in the log for so many seconds.
    #[must_use]
    pub fn new(conditions: Conditions, log_seconds: u32, seed: u64) -> Self {
        Self(Rc::new(RefCell::new(State {
            conditions,
            rng: fastrand::Rng::with_seed(seed),
            now_micros: 0,
            nodes: Vec::new(),
            log: VecDeque::new(),
            log_begin: 0,
            life_micros: u64::from(log_seconds) * 1_000_000,
            log_side: 0,
            log_made_micros: 0,
            published: (0, 0),
            next_order: 0,
        })))
    }

    /// A node of this name, with a connection.
    #[must_use]
    pub fn connect(&self, name: &str) -> SimulatedBus {
        let mut state = self.0.borrow_mut();
        let node = state.nodes.len();
        state.nodes.push(Endpoint {
            name: name.to_owned(),
            side: 0,
            is_connected: true,
            hangs: false,
            inbox: BinaryHeap::new(),
            events: VecDeque::from([Event::Connected]),
            reading: None,
            last_due: Vec::new(),
            was_slow: false,
        });
        SimulatedBus {
            network: self.clone(),
            node,
        }
    }

    /// Other conditions from now on.
    pub fn set_conditions(&self, conditions: Conditions) {
        self.0.borrow_mut().conditions = conditions;
    }

    /// Time has passed.
    pub fn set_now(&self, micros: u64) {
        let mut state = self.0.borrow_mut();
        state.now_micros = micros;
        let oldest = micros.saturating_sub(state.life_micros);
        while state.log.front().is_some_and(|it| it.micros < oldest) {
            state.log.pop_front();
            state.log_begin += 1;
        }
    }

    /// Puts each node on the side that is given for its number: those of different sides do not
    /// hear each other, and notice nothing. The log is on side 0.
    pub fn part(&self, mut side_of: impl FnMut(usize) -> u8) {
        let mut state = self.0.borrow_mut();
        let log_side = state.log_side;
        for (number, node) in state.nodes.iter_mut().enumerate() {
            node.side = side_of(number);
            if node.side != log_side && node.reading.take().is_some() {
                let reason = "the log is on another side now".to_owned();
                node.events.push_back(Event::LogFailed(reason));
            }
        }
    }

    /// The log is lost, and made anew.
    pub fn lose_log(&self) {
        let mut state = self.0.borrow_mut();
        state.log_begin += state.log.len();
        state.log.clear();
        state.log_made_micros = state.now_micros;
    }

    /// A node loses its connection, or gets it again.
    pub fn set_connected(&self, node: usize, is_connected: bool) {
        let mut state = self.0.borrow_mut();
        let Some(node) = state.nodes.get_mut(node) else {
            return;
        };
        if node.is_connected == is_connected {
            return;
        }
        node.is_connected = is_connected;
        node.hangs = false;
        node.inbox.clear();
        node.reading = None;
        node.events.push_back(match is_connected {
            true => Event::Connected,
            false => Event::Disconnected,
        });
    }

    /// Nothing crosses a node's connection any more, which it does not notice before it is
    /// [lost](Self::set_connected).
    pub fn hang(&self, node: usize) {
        let mut state = self.0.borrow_mut();
        if let Some(node) = state.nodes.get_mut(node) {
            node.hangs = true;
        }
    }

    /// Messages that were published so far, and bytes of these.
    #[must_use]
    pub fn published(&self) -> (u64, u64) {
        self.0.borrow().published
    }

    /// Whether a node was too slow, so that messages for it were dropped.
    #[must_use]
    pub fn was_slow(&self, node: usize) -> bool {
        let state = self.0.borrow();
        state.nodes.get(node).is_some_and(|node| node.was_slow)
    }
}

impl State {
    fn publish(&mut self, from: usize, to: &Destination, payload: Vec<u8>, mark: u64) {
        self.published.0 += 1;
        self.published.1 += payload.len() as u64;
        let Some(publisher) = self.nodes.get(from).filter(|node| !node.hangs) else {
            return;
        };
        let side = publisher.side;
        let payload: Payload = payload.into();
        let (message, receiver) = match to {
            Destination::All(channel) => {
                let node = publisher.name.clone();
                let channel = *channel;
                (
                    Message {
                        channel,
                        node,
                        logged_millis_ago: None,
                        payload,
                    },
                    None,
                )
            }
            Destination::Node(name) => {
                let (channel, node) = (Channel::Parcels, name.clone());
                (
                    Message {
                        channel,
                        node,
                        logged_millis_ago: None,
                        payload,
                    },
                    Some(name),
                )
            }
        };
        if self.conditions.has_log && message.channel.is_logged() && side == self.log_side {
            let (micros, message) = (self.now_micros, message.clone());
            self.log.push_back(Logged { micros, message });
            if let Some(publisher) = self.nodes.get_mut(from) {
                publisher.events.push_back(Event::Kept(mark));
            }
        }
        for number in 0..self.nodes.len() {
            let hears = self.nodes.get(number).is_some_and(|node| {
                let is_meant = receiver.is_none_or(|name| node.name == *name);
                let is_there = node.is_connected && !node.hangs;
                is_meant && number != from && node.side == side && is_there
            });
            if hears {
                self.send(from, number, &message);
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, message: &Message<Payload>) {
        let Conditions {
            latency_micros: (least, most),
            one_lost_of,
            one_doubled_of,
            doubled_after_micros,
            reorders,
            waiting_max,
            ..
        } = self.conditions;
        let rng = &mut self.rng;
        let mut is_one_of = |many: u32| many > 0 && rng.u32(..many) == 0;
        let copies = match (is_one_of(one_lost_of), is_one_of(one_doubled_of)) {
            (true, _) => 0,
            (false, true) => 2,
            (false, false) => 1,
        };
        for copy in 0..copies {
            let mut due_micros = self.now_micros + self.rng.u64(least..=most);
            let is_old = copy > 0 && doubled_after_micros > 0;
            if is_old {
                due_micros += self.rng.u64(..doubled_after_micros);
            }
            self.next_order += 1;
            let order = self.next_order;
            let Some(node) = self.nodes.get_mut(to) else {
                return;
            };
            if node.inbox.len() >= waiting_max {
                node.was_slow = true;
                node.inbox.clear();
                node.reading = None;
                node.events.push_back(Event::Disconnected);
                node.events.push_back(Event::Connected);
                return;
            }
            if node.last_due.len() <= from {
                node.last_due.resize(from + 1, 0);
            }
            if let Some(last) = node.last_due.get_mut(from)
                && !reorders
                && !is_old
            {
                due_micros = due_micros.max(*last);
                *last = due_micros;
            }
            let message = message.clone();
            node.inbox.push(Reverse(OnItsWay {
                due_micros,
                order,
                message,
            }));
        }
    }

    fn next_event(&mut self, node: usize) -> Option<Event<Payload>> {
        let now_micros = self.now_micros;
        let node = self.nodes.get_mut(node)?;
        if let Some(event) = node.events.pop_front() {
            return Some(event);
        }
        let is_due = |next: &Reverse<OnItsWay>| next.0.due_micros <= now_micros;
        if node.inbox.peek().is_some_and(is_due) {
            let Reverse(next) = node.inbox.pop()?;
            return Some(Event::Heard(next.message));
        }
        let reading = node.reading.as_mut()?;
        let per_second = self.conditions.logged_per_second;
        let may_read = now_micros.saturating_sub(reading.began_micros) * per_second / 1_000_000;
        if per_second > 0 && reading.read > may_read {
            return None;
        }
        reading.next = reading.next.max(self.log_begin);
        let Some(logged) = self.log.get(reading.next - self.log_begin) else {
            node.reading = None;
            let age = Duration::from_micros(now_micros - self.log_made_micros);
            return Some(Event::LogRead { age });
        };
        reading.next += 1;
        reading.read += 1;
        Some(Event::Logged(logged.message.clone()))
    }

    fn read_log(&mut self, node: usize, since: Duration) {
        let micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let oldest = self.now_micros.saturating_sub(micros);
        let Some(node) = self.nodes.get_mut(node) else {
            return;
        };
        if !self.conditions.has_log || node.side != self.log_side {
            let reason = "there is no log on this side".to_owned();
            node.events.push_back(Event::LogFailed(reason));
            return;
        }
        node.reading = Some(Reading {
            began_micros: self.now_micros,
            next: self.log_begin + self.log.partition_point(|it| it.micros < oldest),
            read: 0,
        });
    }
}

/// A node's connection with a [`Network`]. It ends when this is dropped.
#[derive(Debug)]
pub struct SimulatedBus {
    network: Network,
    node: usize,
}

impl SimulatedBus {
    /// The number of the connection: how many there were before.
    #[must_use]
    pub fn number(&self) -> usize {
        self.node
    }
}

impl Drop for SimulatedBus {
    fn drop(&mut self) {
        self.network.set_connected(self.node, false);
    }
}

impl Bus for SimulatedBus {
    type Payload = Payload;

    fn publish(&mut self, to: &Destination, payload: Vec<u8>, mark: u64) -> Result<(), Vec<u8>> {
        let mut state = self.network.0.borrow_mut();
        let node = state.nodes.get(self.node);
        if !node.is_some_and(|node| node.is_connected) {
            return Err(payload);
        }
        state.publish(self.node, to, payload, mark);
        Ok(())
    }

    fn confirm(&mut self, mark: u64) {
        let mut state = self.network.0.borrow_mut();
        if let Some(node) = state.nodes.get_mut(self.node)
            && node.is_connected
            && !node.hangs
        {
            node.events.push_back(Event::Confirmed(mark));
        }
    }

    fn read_log(&mut self, since: Duration) {
        self.network.0.borrow_mut().read_log(self.node, since);
    }

    fn next_event(&mut self) -> Option<Event<Payload>> {
        self.network.0.borrow_mut().next_event(self.node)
    }
}

#[cfg(test)]
mod tests;
