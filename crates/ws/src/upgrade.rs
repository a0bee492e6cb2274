//! The HTTP request that becomes a WebSocket (RFC 6455, section 4), and the answers to those that
//! do not. Pure.

use aquatic_http_protocol::{Head, HeadError};
use aquatic_stream::{ProxyRefusal, ReverseProxy};
use aquatic_tracker::admission::NETWORK_DENIED;
use aquatic_types::CanonicalAddr;
use tungstenite::handshake::derive_accept_key;

use crate::config::{Config, HEAD_BYTES_MAX};
use crate::counters::Reason;
use crate::url_key::UrlKey;

/// Characters of a `Sec-WebSocket-Key`: 16 bytes in Base64.
const KEY_SIZE: usize = 24;

/// Who is let in.
pub struct Doorkeeper {
    proxy: Option<ReverseProxy>,
    allowed_origins: Vec<String>,
    answers_health_checks: bool,
    /// Clients need a key.
    pub takes_keys: bool,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Its connection is a WebSocket from now on, once [`write_acceptance`] is sent.
    Accept {
        /// Who the client is.
        client: CanonicalAddr,
        /// What proves that the request was understood.
        accept_key: String,
        /// The subprotocol: the first one that the client offers, if it offers any.
        subprotocol: Option<String>,
        /// What the URL has as a key, if clients need one.
        key: Option<UrlKey>,
    },
    /// The tracker is well; that was all.
    Healthy {
        /// The method was HEAD.
        omit_body: bool,
    },
    /// It is turned away.
    Refuse(Denial),
}

/// Why a request is turned away, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What it is counted under.
    pub reason: Reason,
    status: &'static str,
    text: &'static str,
    /// The method was HEAD: everything is sent but the text.
    omit_body: bool,
}

impl Denial {
    /// The request head is larger than [`HEAD_BYTES_MAX`].
    pub const HEAD_TOO_LARGE: Self = Self {
        reason: Reason::NotWebSocket,
        status: "431 Request Header Fields Too Large",
        text: "the request head is too large",
        omit_body: false,
    };
    /// The client has ended its request in the middle.
    pub const CUT_OFF: Self = Self::bad_request("the request is not whole");
    /// The client has begun its request and not finished it in time.
    pub const TIMED_OUT: Self = Self {
        reason: Reason::TimedOut,
        status: "408 Request Timeout",
        text: "the request did not come in time",
        omit_body: false,
    };
    const MALFORMED: Self = Self::bad_request("this is no HTTP request");
    const KEY: Self = Self::bad_request("Sec-WebSocket-Key is missing or malformed");
    const METHOD: Self = Self {
        reason: Reason::NotWebSocket,
        status: "405 Method Not Allowed",
        text: "only GET and HEAD are allowed here",
        omit_body: false,
    };
    const NOT_FOUND: Self = Self {
        reason: Reason::NotWebSocket,
        status: "404 Not Found",
        text: "this is a WebTorrent tracker: open a WebSocket",
        omit_body: false,
    };
    const VERSION: Self = Self {
        reason: Reason::NotWebSocket,
        status: "426 Upgrade Required",
        text: "WebSocket version 13 is required",
        omit_body: false,
    };
    const ORIGIN: Self = Self {
        reason: Reason::Origin,
        status: "403 Forbidden",
        text: "this tracker is not for pages of this origin",
        omit_body: false,
    };
    const UNTRUSTED_PROXY: Self = Self {
        reason: Reason::UntrustedProxy,
        status: "403 Forbidden",
        text: "this tracker can only be reached by way of its proxy",
        omit_body: false,
    };
    /// Clients of this network are not served, and this one has come by way of a proxy.
    pub const NETWORK: Self = Self {
        reason: Reason::NetworkDenied,
        status: "403 Forbidden",
        text: NETWORK_DENIED,
        omit_body: false,
    };
    const PROXY_HEADER: Self = Self {
        reason: Reason::ProxyHeader,
        status: "400 Bad Request",
        text: "the tracker's proxy does not tell it your address",
        omit_body: false,
    };

    const fn bad_request(text: &'static str) -> Self {
        Self {
            reason: Reason::NotWebSocket,
            status: "400 Bad Request",
            text,
            omit_body: false,
        }
    }

    /// Appends a whole HTTP response, after which the connection is to be closed.
    pub fn write(self, out: &mut Vec<u8>) {
        write_response(self.status, self.text, self.omit_body, out);
    }
}

impl Doorkeeper {
    /// As configured.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let network = &config.network;
        Self {
            proxy: ReverseProxy::from_config(&network.stream),
            allowed_origins: network.allowed_origins.clone(),
            answers_health_checks: network.enable_http_health_checks,
            takes_keys: false,
        }
    }

    /// Goes by other settings. Whether clients need a key is none of them.
    pub fn follow(&mut self, config: &Config) {
        *self = Self {
            takes_keys: self.takes_keys,
            ..Self::new(config)
        };
    }

    /// Looks at all the bytes that have come, of which `seen` were looked at before. `None` if the
    /// request is not whole yet; otherwise also how many bytes it has.
    #[must_use]
    pub fn decide(
        &self,
        peer: CanonicalAddr,
        bytes: &[u8],
        seen: usize,
    ) -> Option<(Decision, usize)> {
        let head = match seen == 0 || Head::may_end(bytes, seen) {
            true => Head::parse(bytes),
            false => Ok(None),
        };
        Some(match head {
            Ok(Some(head)) if head.size <= HEAD_BYTES_MAX => {
                let decision = self.judge(peer, &head);
                (decision.unwrap_or_else(Decision::Refuse), head.size)
            }
            Ok(None) if bytes.len() < HEAD_BYTES_MAX => return None,
            Ok(_) => (Decision::Refuse(Denial::HEAD_TOO_LARGE), bytes.len()),
            Err(error) => (Decision::Refuse(error.into()), bytes.len()),
        })
    }

    fn judge(&self, peer: CanonicalAddr, head: &Head<'_>) -> Result<Decision, Denial> {
        let omit_body = head.framing.omit_body;
        if self.answers_health_checks && head.path == b"/health" {
            return Ok(Decision::Healthy { omit_body });
        }
        // A WebSocket begins with GET (RFC 6455, 4.1). HEAD gets what GET gets that asks for none.
        if omit_body {
            let denial = Denial::NOT_FOUND;
            return Err(Denial {
                omit_body,
                ..denial
            });
        }
        let has = |name, option: &[u8]| {
            list(head, name).any(|offered| offered.eq_ignore_ascii_case(option))
        };
        if !has("Upgrade", b"websocket") || !has("Connection", b"upgrade") {
            return Err(Denial::NOT_FOUND);
        }
        if head.last_header("Sec-WebSocket-Version") != Some(b"13") {
            return Err(Denial::VERSION);
        }
        let key = head.last_header("Sec-WebSocket-Key");
        let key = key.filter(|key| key.len() == KEY_SIZE).ok_or(Denial::KEY)?;
        if !self.allows_origin(head.last_header("Origin")) {
            return Err(Denial::ORIGIN);
        }
        let client = match &self.proxy {
            Some(proxy) => proxy.client(peer, head.headers())?,
            None => peer,
        };
        let subprotocol = list(head, "Sec-WebSocket-Protocol").find(|name| is_token(name));
        Ok(Decision::Accept {
            client,
            accept_key: derive_accept_key(key),
            subprotocol: subprotocol.map(|name| String::from_utf8_lossy(name).into_owned()),
            key: match self.takes_keys {
                true => UrlKey::of_url(head.path, head.query),
                false => None,
            },
        })
    }

    fn allows_origin(&self, origin: Option<&[u8]>) -> bool {
        let mut allowed = self.allowed_origins.iter();
        let is = |origin: &[u8], allowed: &String| allowed.as_bytes().eq_ignore_ascii_case(origin);
        self.allowed_origins.is_empty()
            || origin.is_some_and(|origin| allowed.any(|allowed| is(origin, allowed)))
    }
}

impl From<HeadError> for Denial {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Malformed | HeadError::Body => Self::MALFORMED,
            HeadError::Method => Self::METHOD,
            HeadError::TooManyHeaders => Self::HEAD_TOO_LARGE,
        }
    }
}

impl From<ProxyRefusal> for Denial {
    fn from(refusal: ProxyRefusal) -> Self {
        match refusal {
            ProxyRefusal::Untrusted => Self::UNTRUSTED_PROXY,
            ProxyRefusal::Header => Self::PROXY_HEADER,
        }
    }
}

/// The elements of a list, which may be spread over several header lines (RFC 9110, 5.3).
fn list<'a>(head: &Head<'a>, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let lines = head.headers();
    let lines = lines.filter(move |(line, _)| line.eq_ignore_ascii_case(name.as_bytes()));
    let elements = lines.flat_map(|(_, value)| value.split(|byte| *byte == b','));
    elements.map(<[u8]>::trim_ascii).filter(|it| !it.is_empty())
}

/// Whether it can be the name of a subprotocol (RFC 9110, 5.6.2).
fn is_token(name: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_tchar)
}

/// Appends the HTTP response after which the connection is a WebSocket. Extensions, such as
/// compression, are declined by not naming any. Browsers that offer subprotocols, however, close a
/// connection for which none is chosen.
pub fn write_acceptance(accept_key: &str, subprotocol: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    );
    let subprotocol = subprotocol.map(|name| ("Sec-WebSocket-Protocol", name));
    for (name, value) in [("Sec-WebSocket-Accept", accept_key)]
        .into_iter()
        .chain(subprotocol)
    {
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the answer to a health check.
pub fn write_health(omit_body: bool, out: &mut Vec<u8>) {
    write_response("200 OK", "ok", omit_body, out);
}

fn write_response(status: &str, text: &str, omit_body: bool, out: &mut Vec<u8>) {
    let hint = match status.split(' ').next() {
        Some("405") => "Allow: GET, HEAD\r\n",
        Some("426") => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        _ => "",
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\n{hint}Connection: close\r\n\
         Content-Length: {}\r\n\r\n",
        text.len() + 1,
    );
    out.extend_from_slice(head.as_bytes());
    if !omit_body {
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "GET /announce HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\
        Origin: https://good.example\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n";

    fn peer() -> CanonicalAddr {
        CanonicalAddr::new("192.0.2.1:5".parse().unwrap())
    }

    fn decide(config: &Config, request: &str) -> Decision {
        let doorkeeper = Doorkeeper::new(config);
        let bytes = request.as_bytes();
        for cut in 0..bytes.len() {
            let seen = cut.saturating_sub(1);
            assert_eq!(doorkeeper.decide(peer(), &bytes[..cut], seen), None);
        }
        let (decision, size) = doorkeeper.decide(peer(), bytes, 0).unwrap();
        assert_eq!(size, bytes.len());
        decision
    }

    fn denial(config: &Config, request: &str) -> Denial {
        match decide(config, request) {
            Decision::Refuse(denial) => denial,
            other => panic!("{request}: {other:?}"),
        }
    }

    #[test]
    fn request_of_rfc_6455_is_accepted() {
        let expected = Decision::Accept {
            client: peer(),
            accept_key: "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned(),
            subprotocol: None,
            key: None,
        };
        assert_eq!(decide(&Config::default(), REQUEST), expected);
        let mut out = Vec::new();
        write_acceptance("key", None, &mut out);
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Accept: key\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn lines_of_a_list_are_one_list() {
        let connection = "Connection: keep-alive, Upgrade\r\n";
        let upgrade = "Upgrade: websocket\r\n";
        for (from, to) in [
            (
                connection,
                "Connection: Upgrade\r\nConnection: keep-alive\r\n",
            ),
            (
                connection,
                "connection: keep-alive\r\nCONNECTION: x, upgrade ,\r\n",
            ),
            (
                connection,
                "Connection:\r\nConnection: Upgrade\r\nConnection: ,\r\n",
            ),
            (upgrade, "Upgrade: websocket\r\nUpgrade: h2c\r\n"),
            (upgrade, "Upgrade: h2c\r\nUpgrade: WebSocket\r\n"),
        ] {
            let decision = decide(&Config::default(), &REQUEST.replace(from, to));
            assert!(
                matches!(decision, Decision::Accept { .. }),
                "{to}: {decision:?}"
            );
        }
        let without = REQUEST.replace(connection, "Connection: a\r\nConnection: upgrades\r\n");
        assert_eq!(denial(&Config::default(), &without), Denial::NOT_FOUND);
    }

    #[test]
    fn the_first_subprotocol_is_chosen() {
        for (lines, expected) in [
            ("", None),
            ("Sec-WebSocket-Protocol: tracker\r\n", Some("tracker")),
            ("Sec-WebSocket-Protocol: b.c, a\r\n", Some("b.c")),
            (
                "Sec-WebSocket-Protocol: ,\r\nsec-websocket-protocol: x\r\n\
                 Sec-WebSocket-Protocol: y\r\n",
                Some("x"),
            ),
            ("Sec-WebSocket-Protocol: no token, a\r\n", Some("a")),
            ("Sec-WebSocket-Protocol: \u{e9}\r\n", None),
        ] {
            let request = REQUEST.replace("Host: a\r\n", &format!("Host: a\r\n{lines}"));
            let Decision::Accept { subprotocol, .. } = decide(&Config::default(), &request) else {
                panic!("refused: {lines}");
            };
            assert_eq!(subprotocol.as_deref(), expected, "{lines}");
        }
        let mut out = Vec::new();
        write_acceptance("key", Some("x"), &mut out);
        assert!(out.ends_with(b"\r\nSec-WebSocket-Protocol: x\r\n\r\n"));
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let mut config = Config::default();
        config.network.enable_http_health_checks = true;
        let get = "GET /health HTTP/1.1\r\n\r\n";
        let mut answers = [get, &get.replace("GET", "HEAD")].map(|request| {
            let Decision::Healthy { omit_body } = decide(&config, request) else {
                panic!("{request}");
            };
            let mut out = Vec::new();
            write_health(omit_body, &mut out);
            String::from_utf8(out).unwrap()
        });
        let (head, body) = answers[0].split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "ok\n");
        assert_eq!(answers[1], format!("{head}\r\n\r\n"));

        answers = ["HEAD / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"].map(|request| {
            let mut out = Vec::new();
            denial(&config, request).write(&mut out);
            String::from_utf8(out).unwrap()
        });
        let (head, body) = answers[1].split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 404 ") && !body.is_empty(), "{head}");
        assert_eq!(answers[0], format!("{head}\r\n\r\n"));
        let denial = denial(&config, &REQUEST.replace("GET ", "HEAD "));
        assert_eq!(
            (denial.status, denial.omit_body),
            (Denial::NOT_FOUND.status, true)
        );
    }

    /// RFC 9110, 15.5.6.
    #[test]
    fn a_refused_method_is_told_the_allowed_ones() {
        let mut out = Vec::new();
        Denial::METHOD.write(&mut out);
        let answer = String::from_utf8(out).unwrap();
        assert!(answer.contains("\r\nAllow: GET, HEAD\r\n"), "{answer}");
    }

    #[test]
    fn others_are_turned_away() {
        let config = Config::default();
        for (from, to, expected) in [
            ("Upgrade: websocket", "Upgrade: h2c", Denial::NOT_FOUND),
            ("keep-alive, Upgrade", "keep-alive", Denial::NOT_FOUND),
            ("Version: 13", "Version: 8", Denial::VERSION),
            ("jZQ==", "", Denial::KEY),
            ("GET ", "POST ", Denial::METHOD),
        ] {
            assert_eq!(
                denial(&config, &REQUEST.replace(from, to)),
                expected,
                "{to}"
            );
        }
        let long = REQUEST.replace("Host: a", &format!("Host: {}", "a".repeat(HEAD_BYTES_MAX)));
        let decision = Doorkeeper::new(&config).decide(peer(), long.as_bytes(), 0);
        let refused = Decision::Refuse(Denial::HEAD_TOO_LARGE);
        assert_eq!(decision.map(|(decision, _)| decision), Some(refused));
    }

    #[test]
    fn origins_can_be_limited() {
        let mut config = Config::default();
        config.network.allowed_origins = vec!["https://GOOD.example".to_owned()];
        assert!(matches!(decide(&config, REQUEST), Decision::Accept { .. }));
        for to in ["Origin: https://bad.example", "Unsaid: x"] {
            let request = REQUEST.replace("Origin: https://good.example", to);
            assert_eq!(denial(&config, &request), Denial::ORIGIN);
        }
    }

    #[test]
    fn a_proxy_says_who_the_client_is() {
        let mut config = Config::default();
        config.network.stream.runs_behind_reverse_proxy = true;
        let Decision::Accept { client, .. } = decide(&config, REQUEST) else {
            panic!("refused");
        };
        assert_eq!(client.ip().to_string(), "192.0.2.9");
        let without = REQUEST.replace("X-Forwarded-For", "X-Unknown");
        assert_eq!(denial(&config, &without), Denial::PROXY_HEADER);
    }

    #[test]
    fn health_is_told_where_wanted() {
        let mut config = Config::default();
        let request = "GET /health HTTP/1.1\r\n\r\n";
        assert_eq!(
            decide(&config, request),
            Decision::Healthy { omit_body: false }
        );
        config.network.enable_http_health_checks = false;
        assert_eq!(denial(&config, request), Denial::NOT_FOUND);
        let other = "GET /healthy HTTP/1.1\r\n\r\n";
        assert_eq!(denial(&config, other), Denial::NOT_FOUND);
    }
}
