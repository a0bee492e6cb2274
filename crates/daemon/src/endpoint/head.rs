//! The head of a request, from bytes.

use httparse::{EMPTY_HEADER, Error, Header, Status};

use super::guard::Credentials;
use super::request::Request;
use super::response::Response;

/// Bytes of the largest request head: more than browsers and monitoring systems send.
pub(super) const HEAD_BYTES_MAX: usize = 8 * 1_024;

const HEADERS_MAX: usize = 64;

/// The head of a request.
pub(super) struct Head<'a> {
    pub(super) request: Request<'a>,
    pub(super) credentials: Credentials<'a>,
    /// Its own size.
    pub(super) bytes: usize,
    /// The size of what follows.
    pub(super) body_bytes: usize,
    /// The client waits for a word before it sends what follows.
    pub(super) expects_continue: bool,
    /// The connection stays open.
    pub(super) keep_alive: bool,
}

/// The head at the start of `input`, or what is wrong with it; `None` if it is not whole.
pub(super) fn read(input: &[u8]) -> Option<Result<Head<'_>, Response>> {
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
    let headers = Headers(parsed.headers);
    let mut request = Request::new(
        parsed.method.unwrap_or_default(),
        parsed.path.unwrap_or_default(),
    );
    request.wants_json |= headers.has("Accept", |it| {
        let media = it.split(';').next().unwrap_or_default();
        media.trim().eq_ignore_ascii_case("application/json")
    });
    let body_bytes = match body_bytes(&headers, request.method) {
        Ok(bytes) => bytes,
        Err(refusal) => return Some(Err(refusal)),
    };
    let credentials = match credentials(&headers) {
        Ok(credentials) => credentials,
        Err(refusal) => return Some(Err(refusal)),
    };
    let closes = headers.has("Connection", |it| it.eq_ignore_ascii_case("close"));
    let is_current = parsed.version == Some(1);
    Some(Ok(Head {
        request,
        credentials,
        bytes,
        body_bytes,
        expects_continue: is_current
            && headers.has("Expect", |it| it.eq_ignore_ascii_case("100-continue")),
        keep_alive: is_current && !closes,
    }))
}

/// How long the body is.
fn body_bytes(headers: &Headers<'_, '_>, method: &str) -> Result<usize, Response> {
    if headers.all("Transfer-Encoding").next().is_some() {
        let reason = "send the length of the body (Content-Length) instead of chunks";
        return Err(Response::error(411, reason));
    }
    let mut lengths = headers.all("Content-Length");
    let Some(length) = lengths.next() else {
        return Ok(0);
    };
    let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || lengths.any(|other| other != length) {
        return Err(Response::error(400, "Content-Length is not one number"));
    }
    // What is beyond any number is also beyond any limit.
    let bytes = length.parse().unwrap_or(usize::MAX);
    match method {
        "GET" | "HEAD" if bytes > 0 => {
            let reason = format!("{method} requests have no body here");
            Err(Response::error(413, reason))
        }
        _ => Ok(bytes),
    }
}

fn credentials<'a>(headers: &Headers<'_, 'a>) -> Result<Credentials<'a>, Response> {
    let one = |name| {
        let mut values = headers.all(name);
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => Err(Response::error(400, format!("more than one header {name}"))),
        }
    };
    Ok(Credentials {
        host: one("Host")?,
        origin: one("Origin")?,
        authorization: one("Authorization")?,
    })
}

struct Headers<'h, 'a>(&'h [Header<'a>]);

impl<'a> Headers<'_, 'a> {
    /// The values of a header, in the order in which they were sent. One that is not text is empty.
    fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let found = self
            .0
            .iter()
            .filter(move |it| it.name.eq_ignore_ascii_case(name));
        found.map(|it| str::from_utf8(it.value).unwrap_or_default().trim())
    }

    /// Whether one of the values of a list is wanted.
    fn has(&self, name: &str, is_wanted: impl Fn(&str) -> bool) -> bool {
        let mut values = self.all(name);
        values.any(|value| value.split(',').map(str::trim).any(&is_wanted))
    }
}
