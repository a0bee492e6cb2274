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
    /// Where the next packet starts in the arena.
    finished_bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Packet {
    path: ReturnPath,
    /// Where it lies in the arena.
    start: usize,
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
        let (start, end) = (self.finished_bytes, self.bytes.len());
        self.packets.push(Packet { path, start, end });
        self.finished_bytes = end;
    }

    /// Forgets what was appended since the last packet.
    pub fn discard(&mut self) {
        self.bytes.truncate(self.finished_bytes);
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
        let bytes = self.bytes.get(packet.start..packet.end);
        Some((&packet.path, bytes.unwrap_or_default()))
    }

    /// The bytes of `count` neighbouring packets, if they lie one behind the other: they do until
    /// the packets are [put in another order](Self::reorder).
    #[cfg(target_os = "linux")]
    pub(crate) fn bytes_of(&self, first: usize, count: usize) -> &[u8] {
        let start = self.packets.get(first).map_or(0, |packet| packet.start);
        let last = (first + count).checked_sub(1);
        let end = last.and_then(|last| Some(self.packets.get(last)?.end));
        self.bytes
            .get(start..end.unwrap_or(start))
            .unwrap_or_default()
    }

    /// Puts the packets in the order of the places in `order`. What is not named is lost.
    #[cfg(target_os = "linux")]
    pub(crate) fn reorder(&mut self, order: impl Iterator<Item = usize>, spare: &mut PacketList) {
        spare.0.clear();
        spare
            .0
            .extend(order.filter_map(|place| self.packets.get(place)));
        std::mem::swap(&mut self.packets, &mut spare.0);
    }

    /// All packets, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&ReturnPath, &[u8])> {
        (0..self.len()).map_while(|place| self.get(place))
    }

    /// Forgets the oldest `count` packets: they were sent or given up.
    pub fn remove_front(&mut self, count: usize) {
        if count >= self.packets.len() {
            self.clear();
        } else if count > 0 {
            self.packets.drain(..count);
            self.compact();
        }
    }

    /// Keeps the oldest `count` packets and gives back how many newer ones were thrown away.
    pub fn truncate(&mut self, count: usize) -> usize {
        let dropped = self.len().saturating_sub(count);
        if dropped > 0 {
            self.packets.truncate(count);
            self.compact();
        }
        dropped
    }

    /// Forgets everything, keeping the memory for the next batch.
    pub fn clear(&mut self) {
        self.packets.clear();
        self.bytes.clear();
        self.finished_bytes = 0;
    }

    /// Frees the room in the arena of packets that have gone. Copies the others, so it is for the
    /// rare case that not everything could be sent.
    fn compact(&mut self) {
        let mut bytes = Vec::with_capacity(self.bytes.len());
        for packet in &mut self.packets {
            let start = bytes.len();
            let old = self.bytes.get(packet.start..packet.end);
            bytes.extend_from_slice(old.unwrap_or_default());
            (packet.start, packet.end) = (start, bytes.len());
        }
        self.finished_bytes = bytes.len();
        self.bytes = bytes;
    }
}

/// Room for a list of packets while they are put in another order.
#[cfg(target_os = "linux")]
#[derive(Debug, Default)]
pub(crate) struct PacketList(Vec<Packet>);

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
