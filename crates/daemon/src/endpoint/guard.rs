//! Who may ask what: the operator's token, and names by which browsers may know the endpoint.

use std::net::IpAddr;

use super::response::Response;
use super::token::Token;
use crate::live::LiveSettings;

/// What a request has to pass before a page or an action sees it.
#[derive(Debug, Default)]
pub struct Guard {
    /// Nobody is authorised without one.
    token: Option<LiveSettings<Token>>,
    /// In lower case.
    hosts: Vec<String>,
}

/// What a request shows to the guard: its headers, as the client sent them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Credentials<'a> {
    pub(super) host: Option<&'a str>,
    pub(super) origin: Option<&'a str>,
    pub(super) authorization: Option<&'a str>,
}

impl Guard {
    /// Authorises who shows the token. `hosts` are names of the endpoint, besides `localhost`.
    #[must_use]
    pub fn new(token: Option<LiveSettings<Token>>, hosts: &[String]) -> Self {
        Self {
            token,
            hosts: hosts.iter().map(|host| host.to_lowercase()).collect(),
        }
    }

    /// Refuses requests from a page of somebody else, whose name has been made to lead here (DNS
    /// rebinding): a browser sends that name.
    pub(super) fn check_host(&self, shown: &Credentials<'_>) -> Result<(), Response> {
        let Some(host) = shown.host else {
            // Browsers always send one; HTTP/1.0 has none.
            return Ok(());
        };
        let name = name_of(host).to_lowercase();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        if bare.parse::<IpAddr>().is_ok() || name == "localhost" || self.hosts.contains(&name) {
            return Ok(());
        }
        let reason = "the name in this request (its header Host) is not one of this endpoint: \
                      ask by its IP address, or add the name to `endpoint_allowed_hosts`";
        Err(Response::error(403, reason))
    }

    /// Refuses what a page of somebody else has its visitor send.
    pub(super) fn check_origin(&self, shown: &Credentials<'_>) -> Result<(), Response> {
        let Some(origin) = shown.origin else {
            return Ok(());
        };
        let (_, authority) = origin.split_once("://").unwrap_or_default();
        match shown.host {
            Some(host) if host.eq_ignore_ascii_case(authority) => Ok(()),
            _ => {
                let reason = "a page of another origin (see the header Origin) changes nothing";
                Err(Response::error(403, reason))
            }
        }
    }

    pub(super) fn is_authorized(&self, shown: &Credentials<'_>) -> bool {
        let token = self.token.as_ref();
        token.is_some_and(|token| {
            let header = shown.authorization.unwrap_or_default();
            let (scheme, word) = header.trim().split_once(' ').unwrap_or_default();
            scheme.eq_ignore_ascii_case("Bearer") && token.get().is(word.trim())
        })
    }

    /// Whether anybody can be authorised.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The answer to who is not authorised, and has to be.
    pub(super) fn refusal(&self) -> Response {
        if self.token.is_none() {
            let reason = "this needs a token, and the tracker has none: name a file with one in \
                          `endpoint_token_file`";
            return Response::error(403, reason);
        }
        let reason = "this needs the operator's token: Authorization: Bearer TOKEN, with what is \
                      in the file that `endpoint_token_file` names";
        Response::error(401, reason).with_header("WWW-Authenticate", "Bearer realm=\"aquatic\"")
    }
}

/// A host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        // The colons of `[::1]` are none of a port.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "correct horse battery";

    fn guard() -> Guard {
        let token = Token::parse(TOKEN.as_bytes()).unwrap();
        Guard::new(Some(LiveSettings::new(token)), &["Tracker.example".into()])
    }

    fn status(result: Result<(), Response>) -> u16 {
        result.map_or_else(|refusal| refusal.status, |()| 200)
    }

    #[test]
    fn names_that_are_not_those_of_the_endpoint_are_refused() {
        for (host, expected) in [
            (None, 200),
            (Some("127.0.0.1"), 200),
            (Some("127.0.0.1:9000"), 200),
            (Some("192.0.2.7:9000"), 200),
            (Some("[::1]"), 200),
            (Some("[::1]:9000"), 200),
            (Some("localhost"), 200),
            (Some("LocalHost:9000"), 200),
            (Some("tracker.EXAMPLE:443"), 200),
            (Some(""), 403),
            (Some("tracker.example.evil.example"), 403),
            (Some("evil.example:9000"), 403),
            (Some("127.0.0.1.evil.example"), 403),
            (Some("localhost.evil.example"), 403),
            (Some("localhost:9000:evil"), 403),
        ] {
            let shown = Credentials {
                host,
                ..Credentials::default()
            };
            assert_eq!(status(guard().check_host(&shown)), expected, "{host:?}");
        }
        let shown = Credentials {
            host: Some("evil.example"),
            ..Credentials::default()
        };
        let refusal = guard().check_host(&shown).unwrap_err();
        let text = String::from_utf8(refusal.body).unwrap();
        assert!(text.contains("`endpoint_allowed_hosts`"), "{text}");
    }

    #[test]
    fn pages_of_other_origins_change_nothing() {
        let host = Some("localhost:9000");
        for (origin, expected) in [
            (None, 200),
            (Some("http://localhost:9000"), 200),
            (Some("https://LOCALHOST:9000"), 200),
            (Some("http://localhost"), 403),
            (Some("http://evil.example"), 403),
            (Some("null"), 403),
            (Some(""), 403),
        ] {
            let shown = Credentials {
                host,
                origin,
                ..Credentials::default()
            };
            assert_eq!(status(guard().check_origin(&shown)), expected, "{origin:?}");
        }
    }

    #[test]
    fn the_token_authorises_and_nothing_else_does() {
        for (header, expected) in [
            (None, false),
            (Some("Bearer correct horse battery"), true),
            (Some("bearer  correct horse battery "), true),
            (Some("Basic correct horse battery"), false),
            (Some("Bearer correct horse batterY"), false),
            (Some("Bearer correct horse batter"), false),
            (Some("Bearer "), false),
            (Some("Bearer"), false),
            (Some(""), false),
            (Some("correct horse battery"), false),
        ] {
            let shown = Credentials {
                authorization: header,
                ..Credentials::default()
            };
            assert_eq!(guard().is_authorized(&shown), expected, "{header:?}");
            assert!(!Guard::default().is_authorized(&shown), "{header:?}");
        }
        assert_eq!(guard().refusal().status, 401);
        assert_eq!(Guard::default().refusal().status, 403);
    }
}
