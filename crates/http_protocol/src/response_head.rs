//! The HTTP around an answer: its head, and answers that are nothing but HTTP.

use httparse::EMPTY_HEADER;

use crate::head::HEADERS_MAX;
use crate::sink::{Body, Sink, Size};
use crate::{Connection, Framing, ResponseError};

/// An answer with an HTTP status other than 200: something is wrong with the HTTP, not with what it
/// carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// 400: the head is not one of an HTTP/1.x request, or there is a body.
    BadRequest,
    /// 404: the path is that of neither announces nor scrapes.
    NotFound,
    /// 405: the method is not GET or HEAD.
    MethodNotAllowed,
    /// 408: the head was begun and not finished in time.
    RequestTimeout,
    /// 431: the head is larger, or has more lines, than the tracker reads.
    HeadTooLarge,
}

impl Status {
    /// The number.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::HeadTooLarge => 431,
        }
    }

    /// The words after the number; also the body.
    fn reason(self) -> &'static str {
        match self {
            Self::BadRequest => "Bad Request",
            Self::NotFound => "Not Found",
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::RequestTimeout => "Request Timeout",
            Self::HeadTooLarge => "Request Header Fields Too Large",
        }
    }

    /// Appends a whole HTTP response. Where there was no whole head to say how it should look,
    /// [`Framing::CLOSE`] is right.
    pub fn write(self, framing: Framing, out: &mut Vec<u8>) {
        let reason = self.reason();
        let allow = match self {
            Self::MethodNotAllowed => "Allow: GET, HEAD\r\n",
            _ => "",
        };
        let connection = match framing.connection {
            Connection::KeepAlive => "",
            Connection::KeepAliveSaid => "Connection: keep-alive\r\n",
            Connection::Close => "Connection: close\r\n",
        };
        out.put_text(format_args!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: text/plain\r\n{allow}{connection}\
            Content-Length: {}\r\n\r\n",
            self.code(),
            reason.len(),
        ));
        if !framing.omit_body {
            out.put(reason.as_bytes());
        }
    }
}

/// An answer of status 200 that is meant for people and machines who look whether the tracker is
/// there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextResponse<'a> {
    /// The body: plain text.
    pub text: &'a str,
}

impl TextResponse<'_> {
    /// Appends a whole HTTP response.
    pub fn write(self, framing: Framing, out: &mut Vec<u8>) {
        write_answer(framing, &self, out);
    }
}

impl Body for TextResponse<'_> {
    fn put(&self, sink: &mut impl Sink) {
        sink.put(self.text.as_bytes());
    }
}

/// The answer to a HEAD request that would be served if it were a GET, whose body nobody has made.
///
/// It does not say how long that would have been, which it need not (RFC 9110, 9.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodilessResponse;

impl BodilessResponse {
    /// Appends a whole HTTP response.
    pub fn write(self, framing: Framing, out: &mut Vec<u8>) {
        let head = match framing.connection {
            Connection::KeepAlive => OK_KEEP_ALIVE,
            Connection::KeepAliveSaid => OK_KEEP_ALIVE_SAID,
            Connection::Close => OK_CLOSE,
        };
        out.put(head.strip_suffix(b"Content-Length: ").unwrap_or(head));
        out.put(b"\r\n");
    }
}

/// Appends a response of status 200, with the body that its request has deserved.
#[inline]
pub(crate) fn write_answer(framing: Framing, body: &impl Body, out: &mut Vec<u8>) {
    let mut body_size = Size::default();
    body.put(&mut body_size);
    let Size(body_size) = body_size;

    out.reserve(OK_HEAD_SIZE_MAX + body_size);
    match framing.connection {
        Connection::KeepAlive => out.put(OK_KEEP_ALIVE),
        Connection::KeepAliveSaid => out.put(OK_KEEP_ALIVE_SAID),
        Connection::Close => out.put(OK_CLOSE),
    }
    out.put_decimal(u64::try_from(body_size).unwrap_or(u64::MAX));
    out.put(b"\r\n\r\n");
    if !framing.omit_body {
        body.put(out);
    }
}

/// Appends a whole HTTP response of status 200 that was written for a connection that stays open,
/// changed so that it is the last one on its connection. Anything else is left as it is.
pub fn write_as_last(answer: &[u8], out: &mut Vec<u8>) {
    let rest = answer
        .strip_prefix(OK_KEEP_ALIVE)
        .or_else(|| answer.strip_prefix(OK_KEEP_ALIVE_SAID));
    match rest {
        Some(rest) => {
            out.put(OK_CLOSE);
            out.put(rest);
        }
        None => out.put(answer),
    }
}

const OK_KEEP_ALIVE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ";

const OK_KEEP_ALIVE_SAID: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\
    Connection: keep-alive\r\nContent-Length: ";

const OK_CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\
    Connection: close\r\nContent-Length: ";

/// With 20 digits of a size and the empty line.
const OK_HEAD_SIZE_MAX: usize = OK_KEEP_ALIVE_SAID.len() + 20 + 4;

/// The head of a tracker's response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// Bytes of the head, with the empty line that ends it. The body starts there.
    pub size: usize,
    /// 200 if the body is that of a tracker.
    pub status: u16,
    /// Where the body ends.
    pub body: BodySize,
    /// Whether another request may be sent.
    pub stays_open: bool,
}

/// Where the body of a response ends (RFC 9112, 6.3), unless the method was HEAD: then it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodySize {
    /// After this many bytes.
    Known(usize),
    /// It comes in chunks.
    Chunked,
    /// Where the connection ends.
    UntilClose,
}

impl ResponseHead {
    /// Reads the head at the start of `bytes`; `None` if it is not whole yet.
    ///
    /// # Errors
    ///
    /// Where the bytes are no HTTP/1.x response.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, ResponseError> {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let size = match response.parse(bytes) {
            Ok(httparse::Status::Complete(size)) => size,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(ResponseError::Head),
        };
        let mut body = BodySize::UntilClose;
        let mut stays_open = response.version == Some(1);
        for header in response.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                let length = str::from_utf8(header.value)
                    .ok()
                    .and_then(|text| text.parse().ok());
                // Chunks outweigh a length.
                if body != BodySize::Chunked {
                    body = BodySize::Known(length.ok_or(ResponseError::Head)?);
                }
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                body = BodySize::Chunked;
            } else if header.name.eq_ignore_ascii_case("connection") {
                stays_open = match header.value.to_ascii_lowercase().as_slice() {
                    b"close" => false,
                    b"keep-alive" => true,
                    _ => stays_open,
                };
            }
        }
        Ok(Some(Self {
            size,
            status: response.code.ok_or(ResponseError::Head)?,
            body,
            stays_open: stays_open && body != BodySize::UntilClose,
        }))
    }
}
