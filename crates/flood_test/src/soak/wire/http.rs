//! Over HTTP: a kept connection for each address, and others for single requests.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use aquatic_http_protocol::{
    AnnounceRequest, BodySize, InfoHashes, PeerForm, Request as HttpRequest, Response,
    ResponseHead, ScrapeFile, ScrapeRequest, Target,
};
use aquatic_types::PeerId;
use aquatic_udp_protocol::ScrapeRow;
use mio::net::TcpStream;

use super::{Answer, Answers, Order, Request, Streams, Wire, index};
use crate::link;

/// One of so many requests goes over a connection of its own.
const SINGLE_ONE_IN: u32 = 10;

/// After about so many answers, a kept connection is closed, and another one opened.
const ANSWERS_PER_CONNECTION: u32 = 50;

pub(super) struct HttpWire {
    streams: Streams,
    /// Kept ones first, by their lanes; then those for single requests.
    links: Vec<Option<Link>>,
    /// Places of links for single requests that are not in use.
    free: Vec<usize>,
    lanes: u32,
}

struct Link {
    stream: TcpStream,
    output: Vec<u8>,
    input: Vec<u8>,
    /// Requests whose answers are to come, in this order.
    waiting: VecDeque<u32>,
    answers: u32,
    is_kept: bool,
    /// The tracker has said, or has been told, that there will be no other answer.
    is_last: bool,
}

impl HttpWire {
    pub(super) fn new(tracker: SocketAddr, lanes: u32) -> anyhow::Result<Self> {
        Ok(Self {
            streams: Streams::new(tracker)?,
            links: (0..lanes).map(|_| None).collect(),
            free: Vec::new(),
            lanes,
        })
    }

    /// A place for a connection for a single request.
    fn free_place(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.links.push(None);
            self.links.len() - 1
        })
    }

    fn open(&mut self, lane: u32, place: usize, is_kept: bool) -> io::Result<Link> {
        Ok(Link {
            stream: self.streams.open(lane, place, lane.is_multiple_of(2))?,
            output: Vec::new(),
            input: Vec::new(),
            waiting: VecDeque::new(),
            answers: 0,
            is_kept,
            is_last: !is_kept,
        })
    }

    fn close(&mut self, place: usize) {
        if self.links.get_mut(place).and_then(Option::take).is_some() {
            self.streams.open -= 1;
            if place >= index(self.lanes) {
                self.free.push(place);
            }
        }
    }

    fn handle(&mut self, place: usize, answers: &mut Answers) {
        let Some(link) = self.links.get_mut(place).and_then(Option::as_mut) else {
            return;
        };
        let result = link.exchange(answers);
        let is_worn = link.answers >= ANSWERS_PER_CONNECTION + answers_more(place);
        let is_over = link.waiting.is_empty() && link.is_kept && is_worn;
        match result {
            Ok(true) if !is_over => return,
            Ok(true) => {}
            // A kept connection must stay, whether anything is asked or not.
            Ok(false) => link.fail(
                !link.is_last,
                "the tracker has closed a connection",
                answers,
            ),
            Err(error) => link.fail(true, &error.to_string(), answers),
        }
        self.close(place);
    }
}

/// So that not all connections come to their end at once.
fn answers_more(place: usize) -> u32 {
    u32::try_from(place % 50).unwrap_or(0)
}

impl Wire for HttpWire {
    fn send(&mut self, order: &Order, _now_micros: u64) -> io::Result<()> {
        let is_kept = !order.id.is_multiple_of(SINGLE_ONE_IN);
        let place = match is_kept {
            true => index(order.lane),
            false => self.free_place(),
        };
        let link = match self.links.get_mut(place).and_then(Option::take) {
            Some(link) => link,
            None => self.open(order.lane, place, is_kept)?,
        };
        let it = match self.links.get_mut(place) {
            Some(it) => it.insert(link),
            None => return Ok(()),
        };
        write(order, is_kept, &mut it.output);
        it.waiting.push_back(order.id);
        link::flush(&mut it.stream, &mut it.output)
    }

    fn look(&mut self, timeout: Duration, answers: &mut Answers) -> io::Result<()> {
        for place in self.streams.wait(timeout)? {
            self.handle(place, answers);
        }
        Ok(())
    }

    fn connections(&self) -> (u64, u64) {
        (self.streams.open, self.streams.opened)
    }
}

impl Link {
    /// Sends and reads what can be. False if the tracker has closed the connection.
    fn exchange(&mut self, answers: &mut Answers) -> io::Result<bool> {
        link::flush(&mut self.stream, &mut self.output)?;
        let is_open = link::read(&mut self.stream, &mut self.input)?;
        let mut taken = 0;
        while let Some((size, answer, is_last)) = read(self.input.get(taken..).unwrap_or_default())
        {
            let Some(id) = self.waiting.pop_front() else {
                return Err(io::Error::other("an answer that nobody asked for"));
            };
            answers.push((id, answer));
            self.answers += 1;
            self.is_last |= is_last;
            taken += size;
        }
        self.input.drain(..taken);
        Ok(is_open)
    }

    /// What waits gets no answer. An id of its own tells of a connection over which nothing waits.
    fn fail(&mut self, is_fault: bool, reason: &str, answers: &mut Answers) {
        let is_idle = self.waiting.is_empty();
        let waiting = self.waiting.drain(..);
        answers.extend(waiting.map(|id| (id, Answer::Failed(reason.to_owned()))));
        if is_idle && is_fault {
            answers.push((super::NOBODY, Answer::Failed(reason.to_owned())));
        }
    }
}

fn write(order: &Order, keep_alive: bool, out: &mut Vec<u8>) {
    let target = Target {
        host: "tracker",
        announce_path: "/announce",
        keep_alive,
    };
    match &order.request {
        Request::Announce {
            info_hash,
            port,
            event,
            is_seeder,
        } => HttpRequest::Announce(AnnounceRequest {
            info_hash: *info_hash,
            peer_id: PeerId(*b"-XX0000-soaks-http-0"),
            port: *port,
            bytes_uploaded: 0,
            bytes_downloaded: 0,
            bytes_left: Some(u64::from(!is_seeder)),
            event: *event,
            num_want: Some(30),
            peer_form: PeerForm::Compact,
        })
        .write(target, out),
        Request::Scrape(info_hashes) => HttpRequest::Scrape(ScrapeRequest {
            info_hashes: InfoHashes::from(info_hashes.as_slice()),
        })
        .write(target, out),
    }
}

/// The size of the next answer, what it says, and whether no other will come; `None` if it is not
/// whole.
fn read(bytes: &[u8]) -> Option<(usize, Answer, bool)> {
    let failed = |reason: &str| Some((bytes.len(), Answer::Failed(reason.to_owned()), true));
    let head = match ResponseHead::parse(bytes) {
        Ok(head) => head?,
        Err(_) => return failed("no HTTP"),
    };
    let BodySize::Known(body_bytes) = head.body else {
        return failed("an answer of unknown size");
    };
    let body = bytes.get(head.size..)?.get(..body_bytes)?;
    let answer = match Response::parse(body) {
        _ if head.status != 200 => Answer::Refused(format!("status {}", head.status)),
        Ok(Response::Announce(_)) => Answer::Swarm,
        Ok(Response::Scrape(it)) => Answer::Rows(it.files().iter().map(row).collect()),
        Ok(Response::Failure(it)) => {
            Answer::Refused(String::from_utf8_lossy(it.reason).into_owned())
        }
        Err(_) => Answer::Failed("no bencode".to_owned()),
    };
    Some((head.size + body_bytes, answer, !head.stays_open))
}

fn row(file: &ScrapeFile) -> ScrapeRow {
    ScrapeRow {
        seeders: file.seeders,
        leechers: file.leechers,
        completed: file.completed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_when_they_are_whole() {
        let body = "d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei7e10:downloadedi9e\
                    10:incompletei8eeee";
        let size = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n{body}");
        for size in 0..answer.len() {
            assert_eq!(read(&answer.as_bytes()[..size]), None, "{size}");
        }
        let row = ScrapeRow {
            seeders: 7,
            leechers: 8,
            completed: 9,
        };
        let more = format!("{answer}HTTP");
        let expected = (answer.len(), Answer::Rows(vec![row]), false);
        assert_eq!(read(more.as_bytes()), Some(expected));
    }

    #[test]
    fn refusals_and_garbage_are_told_apart() {
        let refusal = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let (_, answer, is_last) = read(refusal).unwrap();
        assert_eq!(answer, Answer::Refused("status 503".to_owned()));
        assert!(is_last);
        let garbage = read(b"\0\0\r\n\r\n");
        assert!(matches!(garbage, Some((6, Answer::Failed(_), true))));
    }
}
