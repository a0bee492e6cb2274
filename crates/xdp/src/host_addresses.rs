//! The addresses of this host, as they come and go, and interfaces that go: by way of netlink
//! (`rtnetlink(7)`), through a socket that is open from the start, so that nothing has to be opened
//! later.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::kernel;

/// Larger than any message, and than what one call receives.
const BUFFER_BYTES: usize = 1 << 16;

/// Types of messages, and of attributes.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_LINK: u16 = 16;
const DELETED_LINK: u16 = 17;
const GET_LINKS: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DELETED_ADDRESS: u16 = 21;
const GET_ADDRESSES: u16 = 22;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;

/// From here on questions are numbered. News have the number of whoever has changed something: of
/// `ip(8)`, for example, which are seconds since 1970.
const QUESTIONS: u32 = 1 << 31;

/// The kernel has changed what it was telling while it did.
const INTERRUPTED: u16 = 0x10;

/// Of a question whose answer is a list.
const REQUEST_LIST: u16 = 0x301;

/// The addresses of all interfaces.
#[derive(Debug)]
pub struct HostAddresses {
    socket: File,
    buffer: Vec<u8>,
    /// Those of a list that has not come to its end.
    listed: Vec<IpAddr>,
    /// The number of the last question.
    question: u32,
    /// What is being answered. The kernel tells one list at a time.
    asked: Option<List>,
    /// An address has come or gone since they were last asked for.
    is_stale: bool,
    /// Interfaces may have gone unheard.
    has_lost: bool,
    /// Numbers of interfaces that are not there any more.
    gone: Vec<u32>,
    /// Those of a list of interfaces that has not come to its end, and of one that has.
    listed_interfaces: Vec<u32>,
    interfaces: Option<Vec<u32>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Addresses,
    Interfaces,
}

impl HostAddresses {
    /// Begins to follow them.
    ///
    /// # Errors
    /// If the process may not have a socket of netlink.
    pub fn follow() -> io::Result<Self> {
        Ok(Self {
            socket: File::from(kernel::address_news()?),
            buffer: vec![0; BUFFER_BYTES],
            listed: Vec::new(),
            question: 0,
            asked: None,
            is_stale: true,
            has_lost: false,
            gone: Vec::new(),
            listed_interfaces: Vec::new(),
            interfaces: None,
        })
    }

    /// Those of the interfaces with these numbers that are gone since this was asked last. They are
    /// heard of by [`changed`](Self::changed).
    pub fn take_gone(&mut self, known: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let (gone, all) = (std::mem::take(&mut self.gone), self.interfaces.take());
        let is_gone = |number: &u32| {
            gone.contains(number) || all.as_ref().is_some_and(|all| !all.contains(number))
        };
        known.into_iter().filter(is_gone).collect()
    }

    /// All of them, if they are others than this was last asked, or may be. To be called about once
    /// a second; it does not wait.
    ///
    /// # Errors
    /// If the kernel does not tell any more.
    pub fn changed(&mut self) -> io::Result<Option<Vec<IpAddr>>> {
        // What was told before a question is older than its answer.
        let changed = self.hear()?;
        if self.asked.is_some() {
            return Ok(changed);
        }
        if self.is_stale {
            self.ask(List::Addresses)?;
        } else if self.has_lost {
            self.ask(List::Interfaces)?;
        } else {
            return Ok(changed);
        }
        Ok(self.hear()?.or(changed))
    }

    /// Reads what there is.
    fn hear(&mut self) -> io::Result<Option<Vec<IpAddr>>> {
        let mut changed = None;
        loop {
            let bytes = match self.socket.read(&mut self.buffer) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(changed),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // Something was lost: news, or a part of the list.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    (self.is_stale, self.has_lost, self.asked) = (true, true, None);
                    return Ok(changed);
                }
                Err(error) => return Err(error),
            };
            let buffer = std::mem::take(&mut self.buffer);
            for message in Messages(buffer.get(..bytes).unwrap_or_default()) {
                changed = self.take(&message).or(changed);
            }
            self.buffer = buffer;
        }
    }

    fn ask(&mut self, list: List) -> io::Result<()> {
        // What is left of the answer to an earlier one has another number.
        self.question = self.question.wrapping_add(1) | QUESTIONS;
        self.asked = Some(list);
        let kind = match list {
            List::Addresses => {
                self.listed.clear();
                self.is_stale = false;
                GET_ADDRESSES
            }
            List::Interfaces => {
                self.listed_interfaces.clear();
                self.has_lost = false;
                GET_LINKS
            }
        };
        self.socket.write_all(&question(kind, self.question))
    }

    /// Returns the list if it has come to its end.
    fn take(&mut self, message: &Message<'_>) -> Option<Vec<IpAddr>> {
        self.gone.extend(message.gone_interface());
        let asked = self.asked.filter(|_| message.number == self.question);
        let Some(list) = asked.filter(|_| message.kind != DELETED_ADDRESS) else {
            self.is_stale |= matches!(message.kind, NEW_ADDRESS | DELETED_ADDRESS);
            return None;
        };
        let is_interrupted = message.flags & INTERRUPTED != 0;
        match list {
            List::Addresses => self.is_stale |= is_interrupted,
            List::Interfaces => self.has_lost |= is_interrupted,
        }
        match message.kind {
            NEW_ADDRESS => self.listed.extend(message.address()),
            NEW_LINK => self.listed_interfaces.extend(message.interface()),
            // It is busy with another answer: again in a second.
            ERROR => {
                self.asked = None;
                match list {
                    List::Addresses => self.is_stale = true,
                    List::Interfaces => self.has_lost = true,
                }
            }
            DONE => {
                self.asked = None;
                let addresses = std::mem::take(&mut self.listed);
                let interfaces = std::mem::take(&mut self.listed_interfaces);
                match list {
                    List::Addresses => return Some(addresses).filter(|_| !self.is_stale),
                    List::Interfaces if self.has_lost => {}
                    List::Interfaces => self.interfaces = Some(interfaces),
                }
            }
            _ => {}
        }
        None
    }
}

/// `struct nlmsghdr`, and `struct ifaddrmsg` or `struct ifinfomsg`, of any family.
fn question(kind: u16, number: u32) -> Vec<u8> {
    const BYTES: u32 = 16 + 16;
    let mut bytes = BYTES.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(REQUEST_LIST.to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend([0; 4 + 16]);
    bytes
}

/// One of the kernel's messages.
#[derive(Debug)]
struct Message<'a> {
    kind: u16,
    flags: u16,
    number: u32,
    body: &'a [u8],
}

impl Message<'_> {
    /// The number of an interface that it says is gone. Of a port that leaves a bridge the same is
    /// said, in the name of the bridge's family.
    fn gone_interface(&self) -> Option<u32> {
        let family = *self.body.first()?;
        let is_gone = self.kind == DELETED_LINK && i32::from(family) == libc::AF_UNSPEC;
        self.interface().filter(|_| is_gone)
    }

    /// The number of the interface that it tells of (`struct ifinfomsg`).
    fn interface(&self) -> Option<u32> {
        Some(u32::from_ne_bytes(number(self.body, 4)?))
    }

    /// What it says of an address that the host has: its own one, where the other end has another.
    fn address(&self) -> Option<IpAddr> {
        const HEADER_BYTES: usize = 8;
        let attributes = Attributes(self.body.get(HEADER_BYTES..)?);
        let (mut address, mut local) = (None, None);
        for (kind, value) in attributes {
            match kind {
                ADDRESS => address = ip(value),
                LOCAL => local = ip(value),
                _ => {}
            }
        }
        local.or(address)
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(octets).into());
    }
    let octets = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(octets).into())
}

fn number<const N: usize>(bytes: &[u8], place: usize) -> Option<[u8; N]> {
    bytes.get(place..)?.first_chunk().copied()
}

/// Takes something off whose length is in its first bytes; what follows begins at a multiple of 4.
fn take_off<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let taken = rest.get(..bytes)?;
    *rest = rest.get(bytes.next_multiple_of(4)..).unwrap_or_default();
    Some(taken)
}

/// Messages in a row.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        const HEADER_BYTES: usize = 16;
        let bytes = u32::from_ne_bytes(number(self.0, 0)?);
        let message = take_off(&mut self.0, usize::try_from(bytes).ok()?)?;
        Some(Message {
            kind: u16::from_ne_bytes(number(message, 4)?),
            flags: u16::from_ne_bytes(number(message, 6)?),
            number: u32::from_ne_bytes(number(message, 8)?),
            body: message.get(HEADER_BYTES..)?,
        })
    }
}

/// Attributes in a row: kind and value.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        const HEADER_BYTES: usize = 4;
        let bytes = u16::from_ne_bytes(number(self.0, 0)?);
        let attribute = take_off(&mut self.0, bytes.into())?;
        let kind = u16::from_ne_bytes(number(attribute, 2)?);
        Some((kind, attribute.get(HEADER_BYTES..)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let bytes = u16::try_from(4 + value.len()).unwrap();
        let mut out = [bytes.to_ne_bytes(), kind.to_ne_bytes()].concat();
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn message(kind: u16, number: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let body = [vec![0; 8], attributes.concat()].concat();
        let bytes = u32::try_from(16 + body.len()).unwrap();
        let mut out = bytes.to_ne_bytes().to_vec();
        out.extend([kind.to_ne_bytes(), [0; 2]].concat());
        out.extend(number.to_ne_bytes());
        out.extend([0; 4]);
        [out, body].concat()
    }

    #[test]
    fn an_address_is_the_hosts_own() {
        let v6 = Ipv6Addr::LOCALHOST;
        let bytes = [
            // The other end of a tunnel, and a name.
            message(
                NEW_ADDRESS,
                1,
                &[
                    attribute(ADDRESS, &[192, 0, 2, 1]),
                    attribute(LOCAL, &[192, 0, 2, 2]),
                    attribute(3, b"tun0\0"),
                ],
            ),
            message(NEW_ADDRESS, 1, &[attribute(ADDRESS, &v6.octets())]),
            message(NEW_ADDRESS, 1, &[attribute(ADDRESS, &[1, 2, 3])]),
            message(DONE, 1, &[]),
        ]
        .concat();
        let messages: Vec<_> = Messages(&bytes).collect();
        let addresses: Vec<_> = messages.iter().filter_map(Message::address).collect();
        let expected: [IpAddr; 2] = [Ipv4Addr::new(192, 0, 2, 2).into(), v6.into()];
        assert_eq!((addresses, messages.len()), (expected.to_vec(), 4));
    }

    #[test]
    fn this_host_is_known() {
        let mut addresses = HostAddresses::follow().unwrap();
        let known = addresses.changed().unwrap().unwrap();
        assert!(known.contains(&Ipv4Addr::LOCALHOST.into()), "{known:?}");
        assert_eq!(addresses.changed().unwrap(), None);
    }

    #[test]
    fn a_list_that_was_not_told_to_its_end_is_asked_for_again() {
        let mut addresses = HostAddresses::follow().unwrap();
        addresses.changed().unwrap().unwrap();
        for kind in [ERROR, DONE] {
            addresses.ask(List::Addresses).unwrap();
            // The end of an answer that was given up.
            let last = message(DONE, addresses.question - 1, &[]);
            let own = message(kind, addresses.question, &[]);
            let taken = Messages(&[last, own].concat())
                .filter_map(|message| addresses.take(&message))
                .count();
            assert_eq!(taken, usize::from(kind == DONE));
            assert_eq!(addresses.is_stale, kind == ERROR);
            addresses.is_stale = true;
            // The kernel is busy with the first answer until it was read.
            while addresses.changed().unwrap().is_none() {}
        }
    }

    #[test]
    fn an_interface_that_goes_is_named() {
        let mut addresses = HostAddresses::follow().unwrap();
        for (kind, family, expected) in [
            (DELETED_LINK, 0, vec![7]),
            (DELETED_LINK, 7, vec![]),
            (NEW_ADDRESS, 0, vec![]),
        ] {
            let mut body = vec![family, 0, 0, 0];
            body.extend(7_u32.to_ne_bytes());
            let message = Message {
                kind,
                flags: 0,
                number: 0,
                body: &body,
            };
            addresses.take(&message);
            assert_eq!(addresses.take_gone([6, 7]), expected);
        }
    }

    #[test]
    fn news_of_before_do_not_make_a_list_old() {
        let mut addresses = HostAddresses::follow().unwrap();
        addresses.changed().unwrap().unwrap();
        addresses.is_stale = true;
        // In the socket before the question is asked: the answer to one that nobody waits for,
        // which is of addresses, too.
        let number = QUESTIONS - 1;
        let earlier = question(GET_ADDRESSES, number);
        addresses.socket.write_all(&earlier).unwrap();
        assert!(addresses.changed().unwrap().is_some());
        assert!(!addresses.is_stale);
    }

    #[test]
    fn interfaces_that_may_have_gone_unheard_are_looked_for() {
        let mut addresses = HostAddresses::follow().unwrap();
        addresses.changed().unwrap().unwrap();
        let loopback = kernel::interface_index("lo").unwrap();
        let known = [loopback, u32::MAX];
        assert_eq!(addresses.take_gone(known), []);
        addresses.has_lost = true;
        while addresses.interfaces.is_none() {
            addresses.changed().unwrap();
        }
        assert_eq!(addresses.take_gone(known), [u32::MAX]);
        assert_eq!(addresses.take_gone(known), []);
        // A list that changed while it was told is none.
        addresses.ask(List::Interfaces).unwrap();
        addresses.has_lost = true;
        addresses.hear().unwrap();
        assert_eq!((addresses.asked, addresses.interfaces), (None, None));
    }

    #[test]
    fn what_changes_meanwhile_is_asked_for_again() {
        let mut addresses = HostAddresses::follow().unwrap();
        addresses.changed().unwrap().unwrap();
        // By the kernel itself, and by somebody's command.
        for (kind, number) in [(DELETED_ADDRESS, 0), (NEW_ADDRESS, 1_795_000_000)] {
            let news = message(kind, number, &[]);
            for message in Messages(&news) {
                assert_eq!(addresses.take(&message), None);
            }
            assert!(addresses.changed().unwrap().is_some());
            assert_eq!(addresses.changed().unwrap(), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in vec(any::<u8>(), 0..200)) {
            for message in Messages(&bytes) {
                let _ = message.address();
            }
        }
    }
}
