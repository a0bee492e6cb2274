//! The head of an HTTP request: all of it but the body, which no tracker request has.

use httparse::{EMPTY_HEADER, Header};
use memchr::{memchr, memrchr};

use crate::HeadError;

/// Header lines that a request may have.
pub const HEADERS_MAX: usize = 128;

/// Header lines that a client or a proxy usually stays below. Room for [`HEADERS_MAX`] takes longer
/// to prepare than a usual request takes to read.
const HEADERS_USUAL: usize = 16;

/// Empty lines that may come before a request.
const EMPTY_LINES_MAX: usize = 4;

/// Longer than the name of any method that is in use.
const METHOD_SIZE_MAX: usize = 32;

/// The head of a request that an HTTP server can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Bytes of the head, with the empty line that ends it. The next request starts there.
    pub size: usize,
    /// What comes before the `?` of the request's target.
    pub path: &'a [u8],
    /// What comes after it, still percent-encoded.
    pub query: &'a [u8],
    /// How the answer must look.
    pub framing: Framing,
    /// The header lines with their ends, without the empty line after them.
    header_lines: &'a [u8],
}

/// What a request demands of the HTTP message around its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Framing {
    /// What becomes of the connection.
    pub connection: Connection,
    /// The method was HEAD: everything is sent but the body.
    pub omit_body: bool,
}

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Connection {
    /// It stays open, which goes without saying in HTTP/1.1.
    KeepAlive,
    /// It stays open, which a client of HTTP/1.0 wants to be told.
    KeepAliveSaid,
    /// It is closed, and the client is told so.
    Close,
}

impl<'a> Head<'a> {
    /// Reads the head at the start of `bytes`; `None` if it is not whole yet.
    ///
    /// Lines may end with a bare line feed, and empty lines may come first (RFC 9112, 2.2). The
    /// target may hold any byte that does not end the line, even a space: there are clients that
    /// leave bytes of an info hash as they are. How large a head may grow is the caller's business;
    /// so is not to call this for each byte of a head that trickles in (see [`Self::may_end`]).
    ///
    /// # Errors
    ///
    /// Where no answer but an HTTP error makes sense. Where the next message starts is not known
    /// then, so the connection has to be closed.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Option<Self>, HeadError> {
        let after_empty_lines = skip_empty_lines(bytes);
        let Some(line_size) = memchr(b'\n', after_empty_lines) else {
            // Better to refuse what can never become a request at once than at a deadline.
            return match Method::split(after_empty_lines) {
                Some(Err(error)) if after_empty_lines != b"\r" => Err(error),
                _ => Ok(None),
            };
        };
        let (line, rest) = after_empty_lines.split_at(line_size);
        let rest = rest.get(1..).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);

        let (method, line) = Method::split(line).ok_or(HeadError::Malformed)??;
        let (target, is_http_1_0) = split_version(line)?;
        let Some((headers_size, wishes)) = read_headers(rest)? else {
            return Ok(None);
        };
        if method == Method::Other {
            return Err(HeadError::Method);
        }
        if wishes.has_body {
            return Err(HeadError::Body);
        }

        let connection = match (is_http_1_0, wishes.close, wishes.keep_alive) {
            (_, true, _) | (true, _, false) => Connection::Close,
            (true, _, true) => Connection::KeepAliveSaid,
            (false, ..) => Connection::KeepAlive,
        };
        let (path, query) = split_target(target);
        Ok(Some(Self {
            size: bytes.len() - rest.len() + headers_size,
            path,
            query,
            framing: Framing {
                connection,
                omit_body: method == Method::Head,
            },
            header_lines: rest.get(..headers_size).unwrap_or_default(),
        }))
    }

    /// Whether a head may end in `bytes`, in whose first `seen` bytes none does.
    ///
    /// Looks at no byte twice. Without it, a head of 16 KiB that comes byte by byte would be parsed
    /// 16,384 times.
    #[must_use]
    pub fn may_end(bytes: &[u8], seen: usize) -> bool {
        // The line end before the empty line may have been there already: "\n\r" + "\n".
        let fresh = bytes.get(seen.saturating_sub(2)..).unwrap_or_default();
        memchr::memchr_iter(b'\n', fresh).any(|at| {
            let rest = fresh.get(at + 1..).unwrap_or_default();
            rest.starts_with(b"\n") || rest.starts_with(b"\r\n")
        })
    }

    /// Names and values of the header lines, in their order. A header with several lines is one
    /// list (RFC 9110, 5.3); upper and lower case of a name are the same.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let lines = self.header_lines.split(|byte| *byte == b'\n');
        let pairs = lines.filter_map(|line| split_once(line, b':'));
        pairs.map(|(name, value)| (name, value.trim_ascii()))
    }

    /// The value of the last header line with this name, upper and lower case being the same.
    ///
    /// The last one is the one that the nearest proxy wrote.
    #[must_use]
    pub fn last_header(&self, name: &str) -> Option<&'a [u8]> {
        // From the end, and by words of the CPU: proxies put theirs last.
        let mut lines = self.header_lines.trim_ascii_end();
        while !lines.is_empty() {
            let line_start = memrchr(b'\n', lines).map_or(0, |end| end + 1);
            let (before, line) = lines.split_at(line_start);
            if let Some((line_name, value)) = split_once(line, b':')
                && line_name.eq_ignore_ascii_case(name.as_bytes())
            {
                return Some(value.trim_ascii());
            }
            lines = before.trim_ascii_end();
        }
        None
    }
}

impl Framing {
    /// For a request that could not be read.
    pub const CLOSE: Self = Self {
        connection: Connection::Close,
        omit_body: false,
    };
}

impl Connection {
    /// Whether another request may follow.
    #[must_use]
    pub fn stays_open(self) -> bool {
        self != Self::Close
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Get,
    Head,
    Other,
}

impl Method {
    /// The method at the start of a request line, and what follows the space after it. `None` if
    /// the line may yet go on.
    #[inline]
    fn split(line: &[u8]) -> Option<Result<(Self, &[u8]), HeadError>> {
        if let Some(rest) = line.strip_prefix(b"GET ") {
            return Some(Ok((Self::Get, rest)));
        }
        Self::split_unusual(line)
    }

    /// The same for any method but GET.
    fn split_unusual(line: &[u8]) -> Option<Result<(Self, &[u8]), HeadError>> {
        let is_letter = |byte: &u8| byte.is_ascii_alphabetic() || b"-_".contains(byte);
        let size = line.iter().take_while(|byte| is_letter(byte)).count();
        if size > METHOD_SIZE_MAX {
            return Some(Err(HeadError::Malformed));
        }
        let (method, rest) = line.split_at(size);
        let method = match method {
            b"HEAD" => Self::Head,
            _ => Self::Other,
        };
        match rest.strip_prefix(b" ") {
            Some(rest) if size > 0 => Some(Ok((method, rest))),
            None if rest.is_empty() => None,
            _ => Some(Err(HeadError::Malformed)),
        }
    }
}

/// What the headers of a request say about its connection and body.
#[derive(Clone, Copy, Default)]
struct Wishes {
    close: bool,
    keep_alive: bool,
    has_body: bool,
}

impl Wishes {
    #[inline]
    fn note(&mut self, header: &Header<'_>) -> Result<(), HeadError> {
        // Lengths tell most other headers apart.
        match header.name.len() {
            10 if header.name.eq_ignore_ascii_case("connection") => match header.value {
                // What clients usually write, to be quick about it.
                b"keep-alive" => self.keep_alive = true,
                b"close" => self.close = true,
                value => self.note_options(value),
            },
            14 if header.name.eq_ignore_ascii_case("content-length") => {
                if header.value.is_empty() || !header.value.iter().all(u8::is_ascii_digit) {
                    return Err(HeadError::Malformed);
                }
                self.has_body |= header.value.iter().any(|digit| *digit != b'0');
            }
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") => self.has_body = true,
            _ => {}
        }
        Ok(())
    }

    fn note_options(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',') {
            let option = option.trim_ascii();
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
}

/// Reads header lines and the empty line that ends them; `None` if they are not whole yet.
#[inline]
fn read_headers(bytes: &[u8]) -> Result<Option<(usize, Wishes)>, HeadError> {
    match read_at_most::<HEADERS_USUAL>(bytes) {
        Err(HeadError::TooManyHeaders) => read_at_most::<HEADERS_MAX>(bytes),
        usual => usual,
    }
}

#[inline]
fn read_at_most<const N: usize>(bytes: &[u8]) -> Result<Option<(usize, Wishes)>, HeadError> {
    let mut headers = [EMPTY_HEADER; N];
    let (size, headers) = match httparse::parse_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(parsed)) => parsed,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyHeaders),
        Err(_) => return Err(HeadError::Malformed),
    };
    let mut wishes = Wishes::default();
    for header in headers {
        wishes.note(header)?;
    }
    Ok(Some((size, wishes)))
}

/// Servers should skip an empty line before a request (RFC 9112, 2.2), but not any number of them.
#[inline]
fn skip_empty_lines(mut bytes: &[u8]) -> &[u8] {
    for _ in 0..EMPTY_LINES_MAX {
        let line_end = bytes.strip_prefix(b"\r").unwrap_or(bytes);
        match line_end.strip_prefix(b"\n") {
            Some(rest) => bytes = rest,
            None => break,
        }
    }
    bytes
}

/// Target and whether the version is 1.0, from a request line without its method.
#[inline]
fn split_version(line: &[u8]) -> Result<(&[u8], bool), HeadError> {
    let (target, version) = line.split_last_chunk::<9>().ok_or(HeadError::Malformed)?;
    match version {
        b" HTTP/1.1" => Ok((target, false)),
        b" HTTP/1.0" => Ok((target, true)),
        // Whatever else a later 1.x brings, it is answered like 1.1 (RFC 9110, 2.5).
        [b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] => Ok((target, false)),
        _ => Err(HeadError::Malformed),
    }
}

/// Path and query of a request's target.
#[inline]
fn split_target(target: &[u8]) -> (&[u8], &[u8]) {
    let (path, query) = split_once(target, b'?').unwrap_or((target, b""));
    if path.starts_with(b"/") {
        (path, query)
    } else {
        (path_of_url(path), query)
    }
}

/// A server has to accept a whole URL as well (RFC 9112, 3.2.2), which proxies send.
fn path_of_url(url: &[u8]) -> &[u8] {
    let authority = ["http://", "https://"].into_iter().find_map(|scheme| {
        let (start, rest) = url.split_at_checked(scheme.len())?;
        start
            .eq_ignore_ascii_case(scheme.as_bytes())
            .then_some(rest)
    });
    authority
        .and_then(|rest| rest.get(memchr(b'/', rest)?..))
        .unwrap_or(url)
}

#[inline]
fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let (before, after) = bytes.split_at_checked(memchr(separator, bytes)?)?;
    Some((before, after.get(1..)?))
}
