//! By which machines of the own network answers leave: most often one, the router.

use aquatic_xdp::frame::Link;

/// So many are known at once: each has one place. Whoever comes to the place of another one takes
/// it; answers that are on their way to that one then leave by a socket.
const PLACES: usize = 256;

/// The number of a link: its place, and how many had that before, modulo 256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkNumber(u16);

/// The way back of a request: fits where a socket has the number of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) link: LinkNumber,
    /// Where it was sent to.
    pub(super) port: u16,
}

impl From<Way> for u32 {
    fn from(way: Way) -> Self {
        Self::from(way.link.0) << 16 | Self::from(way.port)
    }
}

impl From<u32> for Way {
    fn from(both: u32) -> Self {
        let [link_high, link_low, port_high, port_low] = both.to_be_bytes();
        Self {
            link: LinkNumber(u16::from_be_bytes([link_high, link_low])),
            port: u16::from_be_bytes([port_high, port_low]),
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Links(Box<[Option<(Link, u8)>; PLACES]>);

impl Default for Links {
    fn default() -> Self {
        Self(Box::new([None; PLACES]))
    }
}

impl Links {
    /// The number of a link, which is known from now on.
    pub(super) fn note(&mut self, link: Link) -> LinkNumber {
        let place = place(&link);
        let entry = &mut self.0[usize::from(place)];
        let round = match entry {
            Some((known, round)) if *known == link => *round,
            Some((_, round)) => round.wrapping_add(1),
            None => 0,
        };
        *entry = Some((link, round));
        LinkNumber(u16::from_be_bytes([place, round]))
    }

    /// The link of this number, if it is still known.
    pub(super) fn get(&self, LinkNumber(number): LinkNumber) -> Option<Link> {
        let [place, round] = number.to_be_bytes();
        let (link, known) = self.0[usize::from(place)]?;
        (known == round).then_some(link)
    }
}

/// Where it belongs. Machines of one maker differ in the last bytes.
fn place(link: &Link) -> u8 {
    let tag = link.tag.unwrap_or_default().to_be_bytes();
    let bytes = link.to.iter().chain(&tag);
    bytes.fold(0, |place: u8, byte| {
        place.wrapping_mul(31).wrapping_add(*byte)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(number: u16) -> Link {
        let [high, low] = number.to_be_bytes();
        Link {
            from: [2, 0, 0, 0, 0, 1],
            to: [2, 0, 0, 9, high, low],
            tag: None,
        }
    }

    #[test]
    fn a_link_is_known_until_another_one_takes_its_place() {
        let mut links = Links::default();
        let numbers: Vec<_> = (0..200).map(|it| links.note(link(it))).collect();
        for (number, it) in numbers.iter().zip(0..) {
            assert_eq!(links.get(*number), Some(link(it)));
            assert_eq!(links.note(link(it)), *number);
        }
        // 31 * high + low.
        let other = Link {
            tag: Some(7),
            ..link(3)
        };
        let taker = (256..)
            .map(link)
            .find(|it| place(it) == place(&other))
            .unwrap();
        let number = links.note(other);
        assert_eq!(links.get(number), Some(other));
        links.note(taker);
        assert_eq!(links.get(number), None);
        // One machine, by two networks.
        let [first, second] = [38, 0x0107].map(|tag| Link {
            tag: Some(tag),
            ..link(3)
        });
        assert_eq!(place(&first), place(&second));
        let number = links.note(first);
        links.note(second);
        assert_eq!(links.get(number), None);
    }

    #[test]
    fn a_way_fits_into_a_number() {
        let mut links = Links::default();
        links.note(link(300));
        let way = Way {
            link: links.note(link(301)),
            port: 65_535,
        };
        assert_eq!(Way::from(u32::from(way)), way);
    }
}
