//! Over HTTP: announces.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use aquatic_http_protocol::{BodySize, Response, ResponseHead};

use super::stream::{Opener, Stream};
use super::{Client, failure};

/// More than any announce is answered with, in bytes.
const ANSWER_BYTES_MAX: usize = 65_536;

pub(super) struct HttpClient {
    opener: Opener,
    kept: Option<Stream>,
    lost_connections: u64,
}

impl HttpClient {
    pub(super) fn new(number: u32, tracker: SocketAddr, is_tls: bool) -> anyhow::Result<Self> {
        Ok(Self {
            opener: Opener::new(number, tracker, is_tls)?,
            kept: None,
            lost_connections: 0,
        })
    }
}

impl Client for HttpClient {
    fn ask(&mut self, info_hash: &str) -> io::Result<()> {
        let mut kept = self.kept.take();
        if kept.as_ref().is_some_and(Stream::is_closed) {
            self.lost_connections += 1;
            kept = None;
        }
        let mut stream = match kept {
            Some(stream) => stream,
            None => self.opener.open()?,
        };
        let request = format!(
            "GET /announce?info_hash={info_hash}&peer_id=-XX0000-honestclient&port=6881&left=1\
             &compact=1 HTTP/1.1\r\nHost: tracker\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        stream.flush()?;
        let answer = read_answer(&mut stream)?;
        // The client itself is one of them.
        match Response::parse(&answer) {
            Ok(Response::Announce(announce)) if announce.leechers > 0 => {}
            _ => return Err(failure(String::from_utf8_lossy(&answer))),
        }
        self.kept = self.opener.keeps.then_some(stream);
        Ok(())
    }

    fn lost_connections(&self) -> u64 {
        self.lost_connections
    }
}

/// The body of an answer with status 200, or the reason for another one.
fn read_answer(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4_096]);
    loop {
        let size = stream.read(&mut buffer)?;
        bytes.extend(buffer.get(..size).unwrap_or_default());
        if let Some(body) = whole_body(&bytes)? {
            return Ok(body);
        }
        if size == 0 || bytes.len() > ANSWER_BYTES_MAX {
            return Err(failure("half an answer"));
        }
    }
}

/// The body, if all of it is there.
fn whole_body(bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let Some(head) = ResponseHead::parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    match head.body {
        BodySize::Known(size) if head.status == 200 => {
            let body = bytes.get(head.size..).and_then(|rest| rest.get(..size));
            Ok(body.map(<[u8]>::to_vec))
        }
        _ => {
            let head = bytes.get(..head.size).unwrap_or(bytes);
            Err(failure(String::from_utf8_lossy(head).trim_end()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_they_come() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\xff\xffde";
        for size in 0..answer.len() {
            assert_eq!(whole_body(&answer[..size]).unwrap(), None, "{size}");
        }
        assert!(whole_body(answer).unwrap().unwrap().ends_with(b"de"));
        let mut rest = &answer[..10];
        assert!(read_answer(&mut rest).is_err(), "it ends too early");
    }

    #[test]
    fn refusals_are_told() {
        let refusal = b"HTTP/1.1 503 Service Unavailable\r\n\r\n";
        let error = whole_body(refusal).unwrap_err();
        assert!(error.to_string().contains("503"), "{error}");
    }
}
