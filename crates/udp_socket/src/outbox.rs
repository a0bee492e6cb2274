//! Answers that wait to be sent.

use crate::ReturnPath;

/// Packets that wait to be sent through one socket, oldest first.
///
/// The bytes of all packets lie in one growing arena, so that writing an answer allocates nothing
/// once the outbox has reached its working size. Its length is bounded by whoever fills it: by the
/// batch that was received, and by [`truncate`](Self::truncate) for what could not be sent.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    packets: Vec<Packet>,
}

#[derive(Debug, Clone, Copy)]
struct Packet {
    path: ReturnPath,
    /// Where it ends in the arena. It starts where the packet before it ends.
    end: usize,
}

impl Outbox {
    /// An empty outbox.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the next packet is to be appended. [`finish`](Self::finish) closes it,
    /// [`discard`](Self::discard) takes it back.
    ///
    /// Only append: shortening the arena below a finished packet makes that packet shorter.
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Makes a packet of all that was appended since the last packet.
    pub fn finish(&mut self, path: ReturnPath) {
        let end = self.bytes.len();
        self.packets.push(Packet { path, end });
    }

    /// Forgets what was appended since the last packet.
    pub fn discard(&mut self) {
        self.bytes.truncate(self.finished_bytes());
    }

    /// Appends one packet.
    pub fn push(&mut self, path: ReturnPath, packet: &[u8]) {
        self.discard();
        self.bytes.extend_from_slice(packet);
        self.finish(path);
    }

    /// Appends the packet that `write` appends to the arena.
    pub fn push_with(&mut self, path: ReturnPath, write: impl FnOnce(&mut Vec<u8>)) {
        self.discard();
        write(&mut self.bytes);
        self.finish(path);
    }

    /// Moves all packets of `other` behind those that are here.
    pub fn append(&mut self, other: &mut Self) {
        if self.is_empty() {
            std::mem::swap(self, other);
        } else {
            other
                .iter()
                .for_each(|(path, bytes)| self.push(*path, bytes));
        }
        other.clear();
    }

    /// How many packets wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The packet at `place`, counted from the oldest.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<(&ReturnPath, &[u8])> {
        let packet = self.packets.get(place)?;
        Some((&packet.path, self.bytes_of(place, 1)))
    }

    /// The bytes of `count` neighbouring packets, which lie one behind the other.
    pub(crate) fn bytes_of(&self, first: usize, count: usize) -> &[u8] {
        let end_of = |place: usize| self.packets.get(place).map_or(0, |packet| packet.end);
        let start = first.checked_sub(1).map_or(0, end_of);
        let end = (first + count).checked_sub(1).map_or(0, end_of);
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// All packets, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&ReturnPath, &[u8])> {
        (0..self.len()).map_while(|place| self.get(place))
    }

    /// Forgets the oldest `count` packets: they were sent or given up.
    pub fn remove_front(&mut self, count: usize) {
        let Some(last) = count.checked_sub(1) else {
            return;
        };
        match self.packets.get(last).copied() {
            Some(last) if count < self.packets.len() => {
                self.bytes.drain(..last.end.min(self.bytes.len()));
                self.packets.drain(..count);
                for packet in &mut self.packets {
                    packet.end = packet.end.saturating_sub(last.end);
                }
            }
            _ => self.clear(),
        }
    }

    /// Keeps the oldest `count` packets and gives back how many newer ones were thrown away.
    pub fn truncate(&mut self, count: usize) -> usize {
        let dropped = self.len().saturating_sub(count);
        self.packets.truncate(count);
        self.discard();
        dropped
    }

    /// Forgets everything, keeping the memory for the next batch.
    pub fn clear(&mut self) {
        self.packets.clear();
        self.bytes.clear();
    }

    fn finished_bytes(&self) -> usize {
        self.packets.last().map_or(0, |packet| packet.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(port: u16) -> ReturnPath {
        ReturnPath::to(([192, 0, 2, 1], port).into())
    }

    fn contents(outbox: &Outbox) -> Vec<(u16, Vec<u8>)> {
        outbox
            .iter()
            .map(|(path, bytes)| (path.peer().port(), bytes.to_vec()))
            .collect()
    }

    fn filled(ports: std::ops::Range<u16>) -> Outbox {
        let mut outbox = Outbox::new();
        for port in ports {
            let len = usize::from(port) % 3;
            outbox.push_with(path(port), |bytes| {
                bytes.resize(bytes.len() + len, u8::try_from(port).unwrap());
            });
        }
        outbox
    }

    #[test]
    fn packets_come_out_as_they_went_in() {
        let mut outbox = filled(1..4);
        assert_eq!(
            contents(&outbox),
            [(1, vec![1]), (2, vec![2, 2]), (3, vec![])]
        );
        outbox.bytes_mut().extend_from_slice(b"given up");
        outbox.discard();
        outbox.bytes_mut().extend_from_slice(b"ab");
        outbox.bytes_mut().extend_from_slice(b"c");
        outbox.finish(path(9));
        assert_eq!(contents(&outbox).last().unwrap(), &(9, b"abc".to_vec()));
    }

    #[test]
    fn an_unfinished_packet_does_not_leak_into_the_next() {
        let mut outbox = filled(1..2);
        outbox.bytes_mut().extend_from_slice(b"unfinished");
        outbox.push(path(7), b"x");
        assert_eq!(contents(&outbox), [(1, vec![1]), (7, b"x".to_vec())]);
    }

    #[test]
    fn the_rest_survives_a_partial_send() {
        for sent in 0..=8 {
            let mut outbox = filled(0..7);
            let expected = contents(&outbox).into_iter().skip(sent).collect::<Vec<_>>();
            outbox.remove_front(sent);
            assert_eq!(contents(&outbox), expected);
            outbox.push(path(200), b"next");
            assert_eq!(contents(&outbox).last().unwrap(), &(200, b"next".to_vec()));
        }
    }

    #[test]
    fn truncating_keeps_the_oldest() {
        let mut outbox = filled(1..8);
        assert_eq!(outbox.truncate(9), 0);
        assert_eq!(outbox.truncate(2), 5);
        assert_eq!(contents(&outbox), [(1, vec![1]), (2, vec![2, 2])]);
    }

    #[test]
    fn appending_moves_everything() {
        let (mut first, mut second) = (filled(1..3), filled(4..6));
        let expected = [contents(&first), contents(&second)].concat();
        first.append(&mut second);
        assert_eq!(contents(&first), expected);
        assert!(second.is_empty());
        second.append(&mut first);
        assert_eq!(contents(&second), expected);
        assert!(first.is_empty());
    }

    #[test]
    fn misuse_of_the_arena_is_harmless() {
        let mut outbox = filled(1..4);
        outbox.bytes_mut().clear();
        assert!(outbox.iter().all(|(_, bytes)| bytes.is_empty()));
        outbox.remove_front(1);
        outbox.push(path(5), b"abc");
        assert_eq!(outbox.len(), 3);
    }
}
