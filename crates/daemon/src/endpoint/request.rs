//! What a client asks for, as a page or an action sees it.

use std::time::Duration;

/// A request that has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// As the client sent it, in capitals: `GET`.
    pub(super) method: &'a str,
    /// Begins with `/`.
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) below: &'a str,
    pub(super) is_authorized: bool,
    pub(super) has_token: bool,
    pub(super) wants_json: bool,
    pub(super) patience: Duration,
}

impl<'a> Request<'a> {
    /// Of a request line. The target may be a whole URL, as proxies send it.
    #[must_use]
    pub(super) fn new(method: &'a str, target: &'a str) -> Self {
        let target = match target.split_once("://") {
            Some((_, rest)) if !target.starts_with('/') => {
                rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
            }
            _ => target,
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method,
            path,
            query,
            below: "",
            is_authorized: false,
            has_token: false,
            patience: Duration::ZERO,
            wants_json: is_format_json(query),
        }
    }

    /// What follows the path of a page that answers for everything [below] it, as the client sent
    /// it: `HASH` of `/torrents/HASH`.
    ///
    /// [below]: super::Routes::with_below
    #[must_use]
    pub fn below(&self) -> &'a str {
        self.below
    }

    /// What follows the first `?` of the target, as the client sent it. Empty without one.
    #[must_use]
    pub fn query(&self) -> &'a str {
        self.query
    }

    /// The value of the first parameter of this name in the [query](Self::query), as the client
    /// sent it.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        parameter(self.query, name)
    }

    /// Whether the client has shown the operator's token, so that it may learn who the peers are.
    #[must_use]
    pub fn is_authorized(&self) -> bool {
        self.is_authorized
    }

    /// Whether a client could show a token: there is none without a file that names one.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.has_token
    }

    /// How long a page may wait for somebody else: all who ask at the endpoint wait with it.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Whether the client prefers JSON: `Accept: application/json`, or `?format=json`.
    #[must_use]
    pub fn wants_json(&self) -> bool {
        self.wants_json
    }
}

/// A request that changes something. The client has shown the operator's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    pub(super) query: String,
    /// What the client has sent.
    pub body: Vec<u8>,
}

impl Post {
    /// For tests of actions.
    #[must_use]
    pub fn new(query: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self {
            query: query.into(),
            body: body.into(),
        }
    }

    /// The value of the first parameter of this name in the query, as the client sent it.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        parameter(&self.query, name)
    }
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut parameters = query.split('&');
    parameters.find_map(|it| it.strip_prefix(name)?.strip_prefix('='))
}

fn is_format_json(query: &str) -> bool {
    parameter(query, "format") == Some("json")
}
