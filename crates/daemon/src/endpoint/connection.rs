//! One connection: bytes in, bytes out, and how long it may take. Pure.

use std::time::Duration;

use httparse::{EMPTY_HEADER, Error, Status};

use super::routes::{ALLOWED, Request, Response, Routes};

/// Bytes of the largest request head: more than browsers and monitoring systems send.
pub(super) const HEAD_BYTES_MAX: usize = 8 * 1_024;

const HEADERS_MAX: usize = 64;

/// From the first byte of a request, or the beginning of the connection, to the end of the head.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// From an answer to the next request. Prometheus asks every 15 to 60 seconds, and its own end
/// gives up after five minutes.
const IDLE_DEADLINE: Duration = Duration::from_secs(300);

/// From a request to the last byte of its answer.
const SEND_DEADLINE: Duration = Duration::from_secs(30);

/// From the last byte that the server sends to the end of what the client sends. To close a
/// connection before that could destroy the answer on its way (RFC 9112, 9.6).
const LINGER_DEADLINE: Duration = Duration::from_secs(2);

/// What a connection waits for, since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// All is said: for the client to end its half.
    Lingering,
    /// For a request after the first.
    Idle,
    /// For the (rest of the) head of a request.
    Reading,
    /// For the client to take its answer.
    Sending,
}

impl Phase {
    fn deadline(self) -> Duration {
        match self {
            Self::Lingering => LINGER_DEADLINE,
            Self::Idle => IDLE_DEADLINE,
            Self::Reading => HEAD_DEADLINE,
            Self::Sending => SEND_DEADLINE,
        }
    }
}

/// The state of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// What has come and was not answered yet.
    input: Vec<u8>,
    output: Vec<u8>,
    sent_bytes: usize,
    /// Nothing is said after the output.
    is_last: bool,
    phase: Phase,
    since: Duration,
}

impl Connection {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            input: Vec::new(),
            output: Vec::new(),
            sent_bytes: 0,
            is_last: false,
            phase: Phase::Reading,
            since: now,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Since when it is in its phase.
    pub(super) fn since(&self) -> Duration {
        self.since
    }

    /// When it is given up if nothing happens.
    pub(super) fn deadline(&self) -> Duration {
        self.since + self.phase.deadline()
    }

    /// Takes what has been received. To be called in the phases in which something is awaited
    /// from the client, with at most [`HEAD_BYTES_MAX`] bytes.
    pub(super) fn receive(&mut self, now: Duration, bytes: &[u8]) {
        match self.phase {
            Phase::Lingering => return,
            Phase::Idle => self.enter(now, Phase::Reading),
            Phase::Reading | Phase::Sending => {}
        }
        self.input.extend_from_slice(bytes);
    }

    /// Answers the request whose head has come, if one has.
    pub(super) fn answer(&mut self, now: Duration, routes: &mut Routes) {
        if self.phase != Phase::Reading {
            return;
        }
        let Some(outcome) = read(&self.input) else {
            return;
        };
        match outcome {
            Ok(Head {
                request,
                bytes,
                keep_alive,
            }) => {
                let response = routes.answer(&request);
                let with_body = request.method != "HEAD";
                self.is_last = !keep_alive;
                write(&response, with_body, keep_alive, &mut self.output);
                self.input.drain(..bytes);
            }
            Err(refusal) => self.refuse(&refusal),
        }
        self.enter(now, Phase::Sending);
    }

    /// Says `response`, and nothing after it.
    pub(super) fn refuse(&mut self, response: &Response) {
        self.is_last = true;
        self.input = Vec::new();
        write(response, true, false, &mut self.output);
    }

    /// What is to be sent.
    pub(super) fn output(&self) -> &[u8] {
        self.output.get(self.sent_bytes..).unwrap_or_default()
    }

    /// So much of the output has been sent. When that was all, the connection waits again: for the
    /// next request, or for its end.
    pub(super) fn sent(&mut self, now: Duration, bytes: usize) {
        self.sent_bytes += bytes;
        if !self.output().is_empty() {
            return;
        }
        self.output = Vec::new();
        self.sent_bytes = 0;
        let next = if self.is_last {
            Phase::Lingering
        } else if self.input.is_empty() {
            self.input = Vec::new();
            Phase::Idle
        } else {
            Phase::Reading
        };
        self.enter(now, next);
    }

    fn enter(&mut self, now: Duration, phase: Phase) {
        self.phase = phase;
        self.since = now;
    }
}

/// The head of a request.
struct Head<'a> {
    request: Request<'a>,
    /// Its size.
    bytes: usize,
    /// The connection stays open.
    keep_alive: bool,
}

/// The head at the start of `input`, or what is wrong with it; `None` if it is not whole.
fn read(input: &[u8]) -> Option<Result<Head<'_>, Response>> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let too_large = || Response::error(431, "the head of the request is too large");
    let bytes = match parsed.parse(input) {
        Ok(Status::Complete(bytes)) if bytes <= HEAD_BYTES_MAX => bytes,
        Ok(Status::Complete(_)) | Err(Error::TooManyHeaders) => return Some(Err(too_large())),
        Ok(Status::Partial) if input.len() < HEAD_BYTES_MAX => return None,
        Ok(Status::Partial) => return Some(Err(too_large())),
        Err(error) => {
            let reason = format!("this is no HTTP/1.1 request: {error}");
            return Some(Err(Response::error(400, reason)));
        }
    };
    let method = parsed.method.unwrap_or_default();
    let request = Request::new(method, parsed.path.unwrap_or_default());
    let has = |name: &str, is_wanted: fn(&str) -> bool| {
        parsed.headers.iter().any(|header| {
            let value = str::from_utf8(header.value).unwrap_or_default();
            header.name.eq_ignore_ascii_case(name) && value.split(',').map(str::trim).any(is_wanted)
        })
    };
    if has("Transfer-Encoding", |_| true) || has("Content-Length", |value| value != "0") {
        return Some(Err(Response::error(413, "requests have no body here")));
    }
    let closes = has("Connection", |option| option.eq_ignore_ascii_case("close"));
    Some(Ok(Head {
        request,
        bytes,
        keep_alive: parsed.version == Some(1) && !closes,
    }))
}

fn write(response: &Response, with_body: bool, keep_alive: bool, out: &mut Vec<u8>) {
    let mut head = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n",
        response.status,
        phrase(response.status),
        response.content_type,
        response.body.len()
    );
    if response.status == 405 {
        head += &format!("Allow: {ALLOWED}\r\n");
    }
    if !keep_alive {
        head += "Connection: close\r\n";
    }
    head += "\r\n";
    out.extend_from_slice(head.as_bytes());
    if with_body {
        out.extend_from_slice(&response.body);
    }
}

/// The words for a status (RFC 9110, 15; RFC 6585, 5).
fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\n";

    fn routes() -> Routes {
        Routes::default().with("/page", || Response::ok("text/plain", "page"))
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Sends `input` at once, takes what is answered, and says it together with the last phase.
    fn talk(input: impl AsRef<[u8]>) -> (String, Phase) {
        let mut connection = Connection::new(at(0));
        let mut answers = Vec::new();
        connection.receive(at(0), input.as_ref());
        loop {
            connection.answer(at(0), &mut routes());
            let output = connection.output().to_vec();
            if output.is_empty() {
                return (String::from_utf8(answers).unwrap(), connection.phase());
            }
            answers.extend_from_slice(&output);
            connection.sent(at(0), output.len());
        }
    }

    #[test]
    fn requests_are_answered_in_order_over_one_connection() {
        let request = "GET /page HTTP/1.1\r\nHost: x\r\n\r\n";
        assert_eq!(talk(request), (format!("{PAGE}page"), Phase::Idle));
        let two = format!("{PAGE}page{PAGE}page");
        assert_eq!(talk(request.repeat(2)), (two, Phase::Idle));
        let one_and_a_half = format!("{request}GET /pa");
        let answered = (format!("{PAGE}page"), Phase::Reading);
        assert_eq!(talk(one_and_a_half), answered);
        assert_eq!(talk("").1, Phase::Reading);
    }

    #[test]
    fn a_head_request_gets_no_body() {
        let (answer, _) = talk("HEAD /page HTTP/1.1\r\n\r\n");
        assert_eq!(answer, PAGE);
    }

    #[test]
    fn who_wants_the_connection_closed_gets_that() {
        for request in [
            "GET /page HTTP/1.1\r\nConnection: Close\r\n\r\n",
            "GET /page HTTP/1.1\r\nconnection: TE, close\r\n\r\n",
            "GET /page HTTP/1.0\r\n\r\n",
        ] {
            let (answer, phase) = talk(request);
            assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
            assert!(answer.ends_with("\r\n\r\npage"), "{answer}");
            assert_eq!(phase, Phase::Lingering);
        }
    }

    #[test]
    fn what_cannot_be_answered_is_refused() {
        let large = format!("GET /page HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(8_192));
        let endless = format!("GET /{}", "x".repeat(8_192));
        let many = format!("GET /page HTTP/1.1\r\n{}\r\n", "X: x\r\n".repeat(65));
        for (request, status, phase) in [
            (
                "GET /nowhere HTTP/1.1\r\n\r\n",
                "404 Not Found",
                Phase::Idle,
            ),
            (
                "PUT /page HTTP/1.1\r\n\r\n",
                "405 Method Not Allowed",
                Phase::Idle,
            ),
            (
                &large,
                "431 Request Header Fields Too Large",
                Phase::Lingering,
            ),
            (
                &endless,
                "431 Request Header Fields Too Large",
                Phase::Lingering,
            ),
            (
                &many,
                "431 Request Header Fields Too Large",
                Phase::Lingering,
            ),
            ("rubbish\r\n\r\n", "400 Bad Request", Phase::Lingering),
            (
                "\x16\x03\x01\x02\x00\x01",
                "400 Bad Request",
                Phase::Lingering,
            ),
            (
                "POST /page HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
                "413 Content Too Large",
                Phase::Lingering,
            ),
            (
                "GET /page HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
                "413 Content Too Large",
                Phase::Lingering,
            ),
        ] {
            let (answer, last_phase) = talk(request);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
                "{answer}"
            );
            assert_eq!(last_phase, phase, "{answer}");
            assert_eq!(
                answer.contains("\r\nConnection: close\r\n"),
                phase == Phase::Lingering
            );
        }
        assert!(
            talk("PUT /page HTTP/1.1\r\n\r\n")
                .0
                .contains("\r\nAllow: GET, HEAD\r\n")
        );
    }

    #[test]
    fn each_phase_has_a_deadline_that_trickling_does_not_put_off() {
        let mut connection = Connection::new(at(0));
        assert_eq!(connection.deadline(), at(10));
        connection.receive(at(3), b"GET /page HTTP/1.1\r\n");
        connection.answer(at(3), &mut routes());
        assert_eq!(connection.deadline(), at(10), "from the beginning");
        connection.receive(at(4), b"\r\n");
        connection.answer(at(4), &mut routes());
        assert_eq!(
            (connection.phase(), connection.deadline()),
            (Phase::Sending, at(34))
        );
        connection.sent(at(20), 1);
        assert_eq!(connection.deadline(), at(34));
        connection.sent(at(21), connection.output().len());
        assert_eq!(
            (connection.phase(), connection.deadline()),
            (Phase::Idle, at(321))
        );
        connection.receive(at(100), b"GET ");
        assert_eq!(
            (connection.phase(), connection.deadline()),
            (Phase::Reading, at(110))
        );
        connection.receive(at(105), b"/page HTTP/1.0\r\n\r\n");
        connection.answer(at(105), &mut routes());
        connection.sent(at(106), connection.output().len());
        assert_eq!(connection.deadline(), at(108));
        connection.receive(at(107), b"more");
        assert_eq!(
            (connection.phase(), connection.deadline()),
            (Phase::Lingering, at(108))
        );
    }
}
