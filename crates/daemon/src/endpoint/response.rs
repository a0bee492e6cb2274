//! What a client is answered.

use std::borrow::Cow;

use crate::json;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Such as 200.
    pub status: u16,
    /// Such as `text/html; charset=utf-8`.
    pub content_type: &'static str,
    /// What the client asked for.
    pub body: Vec<u8>,
    headers: Vec<(&'static str, Cow<'static, str>)>,
}

impl Response {
    /// A page.
    #[must_use]
    pub fn ok(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self::with_status(200, content_type, body)
    }

    /// JSON, with any status.
    #[must_use]
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::with_status(status, "application/json", body)
    }

    /// An error for programs: a JSON object with the reason as its `error`.
    #[must_use]
    pub fn json_error(status: u16, reason: &str) -> Self {
        Self::json(status, format!("{{\"error\":{}}}\n", json::string(reason)))
    }

    /// An error, with a line that says what is wrong.
    #[must_use]
    pub fn error(status: u16, reason: impl Into<String>) -> Self {
        let body = reason.into() + "\n";
        Self::with_status(status, "text/plain; charset=utf-8", body)
    }

    /// Any answer.
    #[must_use]
    pub fn with_status(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            content_type,
            body: body.into(),
            headers: Vec::new(),
        }
    }

    /// The same with one more header. The value must not come from a client.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The value of a header that was added.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(other, _)| *other == name);
        found.map(|(_, value)| &**value)
    }

    /// Appends the bytes that are sent for it.
    pub(super) fn write(&self, with_body: bool, keep_alive: bool, out: &mut Vec<u8>) {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n",
            self.status,
            phrase(self.status),
            self.content_type,
            self.body.len()
        );
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !keep_alive {
            head += "Connection: close\r\n";
        }
        head += "\r\n";
        out.extend_from_slice(head.as_bytes());
        if with_body {
            out.extend_from_slice(&self.body);
        }
    }
}

/// The words for a status (RFC 9110, 15; RFC 6585, 5).
fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}
