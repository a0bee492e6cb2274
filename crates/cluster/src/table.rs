//! What this process knows about the others. Pure.

use std::collections::HashMap;

use aquatic_daemon::clock::Now;

use crate::nodes::{NODES_MAX, NodeIndex, NodeState, NodeStates};
use crate::numbers::{Beginnings, Numbered, Numbers, OfEach};

/// A node that was not heard for so long is sent nothing new.
const SILENT_MICROS: u64 = 5_000_000;

/// A node that was not heard for so long has gone.
const GONE_MICROS: u64 = 30_000_000;

/// The log is read again for the same node after this time.
const READ_INTERVAL_MICROS: u64 = 60_000_000;

/// An estimate of a clock is used for so long, unless a better one comes.
const OFFSET_MICROS: u64 = 60_000_000;

/// Clocks that differ by more are shown as if it was this: a day.
const SKEW_MAX_MILLIS: u64 = 86_400_000;

/// So many processes of one name are told apart, at most: a name should have one.
const PROCESSES_MAX: usize = 8;

/// The other processes that are heard.
#[derive(Debug)]
pub(crate) struct NodeTable {
    /// By name. Processes of one name are few, the last one to come last.
    nodes: HashMap<String, Vec<Node>>,
    states: NodeStates,
    /// Indices that are not in use.
    free: Vec<NodeIndex>,
    memory_micros: u64,
    /// Nodes for which the log was wished to be read, and when.
    read: HashMap<String, u64>,
}

/// A process, under the name of its node.
#[derive(Debug)]
pub(crate) struct Node {
    /// `None` while it is taken for gone.
    index: Option<NodeIndex>,
    process: u64,
    /// Why it is taken for gone, if that is why: another process has its name.
    is_displaced: bool,
    /// It was displaced and came back, or has seen that: it runs at the same time as another one.
    is_twin: bool,
    /// When it was heard last.
    heard_micros: u64,
    /// How far its clock is behind, in milliseconds, as far as messages that came quickly tell; and
    /// when that was found out.
    offset: Option<(i64, u64)>,
    /// How old the last message was when it was taken in.
    behind_micros: u64,
    /// What has come.
    numbers: OfEach<Numbers>,
    /// What the process has told, of peers and of members, when it was heard alive.
    told: [u64; 2],
    /// Seconds within which it tells of all of its peers.
    told_within: u32,
}

/// Whose message something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) index: NodeIndex,
    /// How it was heard before.
    pub(crate) before: Before,
}

/// How a process was heard before it is heard now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// Never.
    Never,
    /// So long ago, in microseconds, that it was taken for gone.
    Gone(u64),
    /// So long ago.
    Ago(u64),
}

impl NodeTable {
    /// Processes are remembered for so many seconds.
    pub(crate) fn new(states: NodeStates) -> Self {
        let indices = (1..NODES_MAX).rev();
        let indices = indices.filter_map(|index| u16::try_from(index).ok());
        Self {
            nodes: HashMap::new(),
            states,
            free: indices.map(NodeIndex).collect(),
            memory_micros: 0,
            read: HashMap::new(),
        }
    }

    /// Processes are remembered for so many seconds after they were heard.
    pub(crate) fn set_memory(&mut self, seconds: u32) {
        self.memory_micros = u64::from(seconds) * 1_000_000;
    }

    /// What is thought of other processes.
    pub(crate) fn states(&self) -> &NodeStates {
        &self.states
    }

    /// A process is heard, under this name. It takes the place of another process of that name,
    /// unless both are heard again and again. `None` if there are too many to tell them apart.
    pub(crate) fn hear(&mut self, now: Now, name: &str, process: u64) -> Option<Heard> {
        let processes = self.nodes.get_mut(name);
        let known = processes.and_then(|it| it.iter_mut().find(|node| node.process == process));
        let Some(node) = known else {
            return self.meet(now, name, process);
        };
        let ago = now.micros.saturating_sub(node.heard_micros);
        node.heard_micros = now.micros;
        let (index, before) = match node.index {
            Some(index) => (index, Before::Ago(ago)),
            None if node.is_displaced => (self.free.pop()?, Before::Ago(ago)),
            None => (self.free.pop()?, Before::Gone(ago)),
        };
        node.index = Some(index);
        self.states.set(index, NodeState::Alive);
        if std::mem::take(&mut node.is_displaced) {
            for node in self.nodes.get_mut(name).into_iter().flatten() {
                node.is_twin = true;
            }
        }
        Some(Heard { index, before })
    }

    /// A process is heard for the first time. `None` also if another node has it: whoever says that
    /// he is somebody else would be sent what is for that one.
    fn meet(&mut self, now: Now, name: &str, process: u64) -> Option<Heard> {
        let is_of_other = |node: &Node| node.process == process;
        if self.nodes.values().flatten().any(is_of_other) {
            return None;
        }
        let processes = self.nodes.entry(name.to_owned()).or_default();
        let mut gone = Vec::new();
        for node in processes.iter_mut().filter(|node| !node.is_twin) {
            node.is_displaced |= node.index.is_some();
            gone.extend(node.index.take());
        }
        if processes.len() >= PROCESSES_MAX {
            let oldest = processes.iter().enumerate();
            let oldest = oldest.min_by_key(|(_, node)| node.heard_micros);
            if let Some((place, _)) = oldest {
                gone.extend(processes.remove(place).index);
            }
        }
        for index in gone {
            self.release(index);
        }
        let index = self.free.pop()?;
        self.states.set(index, NodeState::Alive);
        let processes = self.nodes.entry(name.to_owned()).or_default();
        processes.push(Node {
            index: Some(index),
            process,
            is_displaced: false,
            is_twin: false,
            heard_micros: now.micros,
            offset: None,
            behind_micros: 0,
            numbers: Default::default(),
            told: [0; 2],
            told_within: 0,
        });
        let before = Before::Never;
        Some(Heard { index, before })
    }

    /// A process has gone, and does not come back.
    pub(crate) fn forget(&mut self, name: &str, process: u64) {
        let Some(processes) = self.nodes.get_mut(name) else {
            return;
        };
        let place = processes.iter().position(|node| node.process == process);
        let node = place.map(|place| processes.remove(place));
        if processes.is_empty() {
            self.nodes.remove(name);
        }
        if let Some(index) = node.and_then(|node| node.index) {
            self.release(index);
        }
    }

    fn release(&mut self, index: NodeIndex) {
        self.states.set(index, NodeState::Gone);
        // Whoever still has something of it must have time to notice: it is taken last.
        self.free.insert(0, index);
    }

    /// Looks who is not heard any more. Returns how many are.
    pub(crate) fn age(&mut self, now: Now) -> usize {
        let silent_for = |node: &Node| now.micros.saturating_sub(node.heard_micros);
        let mut gone = Vec::new();
        let mut heard = 0;
        let memory = self.memory_micros.max(GONE_MICROS);
        self.nodes.retain(|name, processes| {
            processes.retain_mut(|node| {
                let silent_for = silent_for(node);
                if silent_for >= GONE_MICROS
                    && let Some(index) = node.index.take()
                {
                    let seconds = GONE_MICROS / 1_000_000;
                    log::warn!("node `{name}` was not heard for {seconds} s");
                    gone.push(index);
                }
                if let Some(index) = node.index {
                    heard += 1;
                    if silent_for >= SILENT_MICROS {
                        self.states.set(index, NodeState::Silent);
                    }
                }
                silent_for < memory
            });
            !processes.is_empty()
        });
        for index in gone {
            self.release(index);
        }
        heard
    }

    /// Whether the log is to be read for what a node has told before it was heard: not for each of
    /// the processes that it says it is, one after the other.
    pub(crate) fn may_be_read(&mut self, now: Now, name: &str) -> bool {
        let interval = READ_INTERVAL_MICROS;
        self.read
            .retain(|_, micros| now.micros.saturating_sub(*micros) < interval);
        let is_due = !self.read.contains_key(name);
        if is_due {
            self.read.insert(name.to_owned(), now.micros);
        }
        is_due
    }

    /// Whether something of a process that is heard was missed, and was not read in the log.
    pub(crate) fn lacks_some(&self) -> bool {
        let nodes = self.nodes.values().flatten();
        let heard = nodes.filter(|node| node.index.is_some());
        heard
            .flat_map(|node| node.numbers.all())
            .any(Numbers::has_gaps)
    }

    /// Whether nobody was heard.
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether all that was ever published by processes that were heard has been heard, or is in a
    /// log that has these beginnings.
    pub(crate) fn is_all_in(&self, log: &Beginnings) -> bool {
        let mut heard = self.nodes.values().flatten();
        heard.all(|node| {
            let channels = Numbered::ALL.into_iter().zip(node.numbers.all());
            let mut published = channels.filter(|(_, numbers)| numbers.are_some());
            published
                .all(|(channel, numbers)| numbers.are_all_heard() || log.has(node.process, channel))
        })
    }

    /// What a process is called that is heard.
    pub(crate) fn name_of(&self, process: u64) -> Option<&str> {
        let mut nodes = self.nodes.iter();
        let is_it = |node: &Node| node.process == process && node.index.is_some();
        let found = nodes.find(|(_, processes)| processes.iter().any(is_it));
        found.map(|(name, _)| name.as_str())
    }

    pub(crate) fn get(&self, name: &str, process: u64) -> Option<&Node> {
        let processes = self.nodes.get(name)?;
        processes.iter().find(|node| node.process == process)
    }

    pub(crate) fn get_mut(&mut self, name: &str, process: u64) -> Option<&mut Node> {
        let processes = self.nodes.get_mut(name)?;
        processes.iter_mut().find(|node| node.process == process)
    }

    /// The largest difference between a clock and that of this process, in milliseconds.
    pub(crate) fn skew_millis(&self) -> u64 {
        let nodes = self.nodes.values().flatten();
        let heard = nodes.filter(|node| node.index.is_some());
        let millis = heard.filter_map(|node| node.offset);
        let millis = millis.map(|(millis, _)| millis.unsigned_abs().min(SKEW_MAX_MILLIS));
        millis.max().unwrap_or_default()
    }
}

impl Node {
    pub(crate) fn index(&self) -> Option<NodeIndex> {
        self.index
    }

    /// It was heard alive by a message of this time, by its clock; this one has the time `millis`.
    pub(crate) fn compare_clocks(&mut self, now: Now, millis: u64, its_millis: u64) {
        let offset = millis.wrapping_sub(its_millis).cast_signed();
        let is_better = self.offset.is_none_or(|(known, at)| {
            offset <= known || now.micros.saturating_sub(at) > OFFSET_MICROS
        });
        if is_better {
            self.offset = Some((offset, now.micros));
        }
    }

    /// It tells of all of its peers within so many seconds. Whether it has said so before.
    pub(crate) fn has_changed_times(&mut self, told_within: u32) -> bool {
        std::mem::replace(&mut self.told_within, told_within) != told_within
    }

    /// Whether it was heard alive, so that it is known what its clock says.
    pub(crate) fn has_known_clock(&self) -> bool {
        self.offset.is_some()
    }

    /// How long ago it has written something at this time, by its clock, in milliseconds. `millis`:
    /// what this process's clock says.
    pub(crate) fn age_millis(&self, millis: u64, its_millis: u64) -> u64 {
        let offset = self.offset.map_or(0, |(offset, _)| offset);
        let age = millis.wrapping_sub(its_millis).cast_signed();
        u64::try_from(age.saturating_sub(offset)).unwrap_or_default()
    }

    /// What it has written at this time, by its clock, is taken in. Returns how old that is, in
    /// milliseconds.
    pub(crate) fn take_in(&mut self, millis: u64, its_millis: u64) -> u64 {
        let age = self.age_millis(millis, its_millis);
        self.behind_micros = age.saturating_mul(1_000);
        age
    }

    /// How old the last message was when it was taken in.
    pub(crate) fn behind_micros(&self) -> u64 {
        self.behind_micros
    }

    /// Whether no later batch has come.
    pub(crate) fn is_new(&self, channel: Numbered, sequence: u64) -> bool {
        self.numbers.of(channel).is_new(sequence)
    }

    /// A batch with this number has come. Returns how many before it have not.
    pub(crate) fn note(&mut self, channel: Numbered, sequence: u64) -> u64 {
        self.numbers.of_mut(channel).note(sequence)
    }

    /// A batch with this number comes out of the log. Returns whether it was heard before; `None`
    /// if that cannot be said.
    pub(crate) fn take_logged(&mut self, channel: Numbered, sequence: u64) -> Option<bool> {
        self.numbers.of_mut(channel).take_logged(sequence)
    }

    /// It has told which numbers it has used up. Returns how many of these batches have not come:
    /// after a silence at once, else of those it told of the time before, as the last ones may be
    /// on their way.
    pub(crate) fn note_told(&mut self, told: [u64; 2], before: Before) -> u64 {
        let was_silent = match before {
            Before::Never | Before::Gone(_) => true,
            Before::Ago(micros) => micros >= SILENT_MICROS,
        };
        let before = std::mem::replace(&mut self.told, told);
        let due = if was_silent { told } else { before };
        let mut missing = 0_u64;
        for (numbers, due) in self.numbers.all_mut().into_iter().zip(due) {
            missing = missing.saturating_add(numbers.note_told(due));
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now::from_micros(seconds * 1_000_000)
    }

    fn table() -> (NodeTable, NodeStates) {
        let states = NodeStates::default();
        let mut table = NodeTable::new(states.clone());
        table.set_memory(1_200);
        (table, states)
    }

    fn hear(table: &mut NodeTable, now: Now, name: &str, process: u64) -> Heard {
        table.hear(now, name, process).unwrap()
    }

    /// Else what is for the first one would be sent to the other.
    #[test]
    fn a_process_has_one_name() {
        let (mut table, _) = table();
        let Heard { index, .. } = hear(&mut table, at(0), "a", 1);
        assert!(table.hear(at(1), "liar", 1).is_none());
        assert_eq!(table.name_of(1), Some("a"));
        table.age(at(40));
        assert!(table.hear(at(41), "liar", 1).is_none(), "it may come back");
        let again = hear(&mut table, at(42), "a", 1);
        assert_ne!(again.index, index);
        table.forget("a", 1);
        assert!(table.hear(at(43), "b", 1).is_some());
    }

    #[test]
    fn who_is_not_heard_is_silent_and_then_gone() {
        let (mut table, states) = table();
        let Heard { index, before } = hear(&mut table, at(0), "a", 1);
        assert_eq!(before, Before::Never);
        for (seconds, state, nodes) in [
            (0, NodeState::Alive, 1),
            (4, NodeState::Alive, 1),
            (5, NodeState::Silent, 1),
            (29, NodeState::Silent, 1),
            (30, NodeState::Gone, 0),
        ] {
            assert_eq!(table.age(at(seconds)), nodes);
            assert_eq!(states.get(index), state, "{seconds}");
        }
        let again = hear(&mut table, at(31), "a", 1);
        assert_eq!(again.before, Before::Gone(31_000_000));
        assert_ne!(
            again.index, index,
            "somebody may still have something of the old one"
        );
    }

    #[test]
    fn who_is_gone_for_longer_than_peers_live_is_forgotten() {
        let (mut table, _) = table();
        hear(&mut table, at(0), "a", 1);
        table.age(at(1_199));
        assert!(table.get("a", 1).is_some_and(|node| node.index().is_none()));
        table.age(at(1_200));
        assert!(table.get("a", 1).is_none());
        assert_eq!(hear(&mut table, at(1_201), "a", 1).before, Before::Never);
    }

    #[test]
    fn who_is_silent_and_speaks_is_alive() {
        let (mut table, states) = table();
        hear(&mut table, at(0), "a", 1);
        table.age(at(10));
        let Heard { index, before } = hear(&mut table, at(11), "a", 1);
        assert_eq!(before, Before::Ago(11_000_000));
        assert_eq!(states.get(index), NodeState::Alive);
    }

    #[test]
    fn a_process_takes_the_place_of_an_earlier_one_of_its_name() {
        let (mut table, states) = table();
        let first = hear(&mut table, at(0), "a", 1);
        let second = hear(&mut table, at(1), "a", 2);
        assert_eq!(second.before, Before::Never);
        assert_eq!(states.get(first.index), NodeState::Gone);
        assert_eq!(states.get(second.index), NodeState::Alive);
        assert_eq!(table.get("a", 2).and_then(Node::index), Some(second.index));
    }

    /// Somebody has given two trackers one name.
    #[test]
    fn who_comes_back_runs_at_the_same_time_as_who_has_its_name() {
        let (mut table, states) = table();
        let first = hear(&mut table, at(0), "a", 1);
        let second = hear(&mut table, at(1), "a", 2);
        let again = hear(&mut table, at(2), "a", 1);
        assert_eq!(again.before, Before::Ago(2_000_000));
        assert_ne!(again.index, first.index);
        for seconds in 3..100 {
            let now = at(seconds);
            assert_eq!(hear(&mut table, now, "a", 2).index, second.index);
            assert_eq!(hear(&mut table, now, "a", 1).index, again.index);
            assert_eq!(table.age(now), 2);
        }
        for index in [second.index, again.index] {
            assert_eq!(states.get(index), NodeState::Alive);
        }
        table.forget("a", 2);
        assert_eq!(states.get(second.index), NodeState::Gone);
        assert_eq!(states.get(again.index), NodeState::Alive);
    }

    #[test]
    fn a_name_has_an_end_of_processes() {
        let (mut table, _) = table();
        for process in 0..10_000 {
            let now = at(process);
            let heard = hear(&mut table, now, "a", process);
            assert_eq!(heard.before, Before::Never);
            // It comes back once, so that it is a twin.
            hear(&mut table, now, "a", process.saturating_sub(1));
            assert!(table.age(now) <= PROCESSES_MAX);
            assert!(
                table
                    .nodes
                    .get("a")
                    .is_some_and(|it| it.len() <= PROCESSES_MAX)
            );
        }
        assert!(table.free.len() >= NODES_MAX - 1 - PROCESSES_MAX);
    }

    #[test]
    fn there_is_an_end_to_nodes() {
        let (mut table, _) = table();
        for number in 1..NODES_MAX {
            let process = u64::try_from(number).unwrap();
            hear(&mut table, at(0), &number.to_string(), process);
        }
        assert_eq!(table.hear(at(0), "one more", u64::MAX), None);
        assert!(table.hear(at(0), "7", 7).is_some());
        table.forget("7", 7);
        assert!(table.hear(at(0), "one more", u64::MAX).is_some());
    }

    #[test]
    fn batches_that_have_not_come_are_noticed() {
        const USUAL: Before = Before::Ago(1_000_000);
        let (mut table, _) = table();
        hear(&mut table, at(0), "a", 1);
        let node = table.get_mut("a", 1).unwrap();
        assert_eq!(node.note(Numbered::Peers, 7), 6, "from the first on");
        assert_eq!(node.note(Numbered::Peers, 8), 0);
        assert_eq!(node.note(Numbered::Peers, 11), 2);
        assert_eq!(node.note(Numbered::Peers, 9), 0, "late");
        assert_eq!(node.note(Numbered::Peers, 12), 0);
        assert_eq!(node.note(Numbered::Members, 1), 0, "numbered apart");
        assert_eq!(
            node.note_told([13, 1], USUAL),
            0,
            "the last one may be on its way"
        );
        assert_eq!(node.note_told([14, 3], USUAL), 1, "it was not");
        assert_eq!(node.note(Numbered::Peers, 14), 0);
        assert_eq!(node.note(Numbered::Members, 3), 1);
        assert_eq!(node.note_told([14, 3], USUAL), 0);
        assert_eq!(
            node.note_told([20, 3], Before::Gone(60_000_000)),
            6,
            "at once"
        );
        assert_eq!(node.note(Numbered::Peers, 21), 0);
        let all = node.note_told([u64::MAX; 2], Before::Gone(60_000_000));
        assert_eq!(all, u64::MAX, "who tells that tells anything");
        assert_eq!(node.note(Numbered::Peers, u64::MAX), 0);
    }

    #[test]
    fn a_clock_that_is_wrong_makes_nothing_older() {
        let (mut table, _) = table();
        table.hear(at(0), "a", 1);
        let node = table.get_mut("a", 1).unwrap();
        assert_eq!(
            node.age_millis(50_000, 20_000),
            30_000,
            "its clock is not known yet"
        );
        assert_eq!(node.age_millis(50_000, 80_000), 0);
        for behind in [30_000_i64, -30_000] {
            let its = |millis: u64| millis.checked_add_signed(-behind).unwrap();
            node.compare_clocks(at(100), 100_050, its(100_000));
            node.compare_clocks(at(101), 101_002, its(101_000));
            node.compare_clocks(at(102), 102_900, its(102_000));
            assert_eq!(node.age_millis(103_002, its(103_000)), 0);
            assert_eq!(node.age_millis(113_002, its(103_000)), 10_000);
            // What was known of the clock is old: it has been set meanwhile.
            node.offset = node.offset.map(|(offset, _)| (offset, 0));
        }
        assert_eq!(table.skew_millis(), 29_998);
    }
}
