//! Which request is answered by whom.

/// What a request wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Read. Routes for it serve HEAD, too.
    Get,
    /// Change something.
    Post,
}

impl Method {
    /// As it stands in a request.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }

    fn serves(self, method: &str) -> bool {
        method == self.name() || self == Self::Get && method == "HEAD"
    }
}

/// A request that has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// As the client sent it, in capitals: `GET`.
    pub method: &'a str,
    /// Begins with `/`.
    pub path: &'a str,
    /// What follows the first `?`.
    pub query: &'a str,
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
        }
    }
}

/// What a client is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Such as 200.
    pub status: u16,
    /// Such as `text/html; charset=utf-8`.
    pub content_type: &'static str,
    /// Methods that the path knows, for status 405.
    pub(super) allow: Option<String>,
    /// What the client asked for.
    pub body: Vec<u8>,
}

impl Response {
    /// A page.
    #[must_use]
    pub fn ok(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            content_type,
            allow: None,
            body: body.into(),
        }
    }

    /// An error, with a line that says what is wrong.
    #[must_use]
    pub fn error(status: u16, reason: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            allow: None,
            body: (reason.into() + "\n").into_bytes(),
        }
    }
}

type Handler = Box<dyn FnMut(&Request<'_>) -> Response + Send>;

struct Route {
    method: Method,
    path: &'static str,
    handler: Handler,
}

/// A table of what answers which request.
#[derive(Default)]
pub struct Routes(Vec<Route>);

impl Routes {
    /// Lets `handler` answer requests for this path. It is called by the endpoint's one thread,
    /// so what it waits for, everybody who asks there waits for.
    #[must_use]
    pub fn with(
        mut self,
        method: Method,
        path: &'static str,
        handler: impl FnMut(&Request<'_>) -> Response + Send + 'static,
    ) -> Self {
        self.0.push(Route {
            method,
            path,
            handler: Box::new(handler),
        });
        self
    }

    /// Has the request answered.
    pub(super) fn answer(&mut self, request: &Request<'_>) -> Response {
        let at_path = |route: &&mut Route| route.path == request.path;
        let mut allowed: Vec<&str> = Vec::new();
        for route in self.0.iter_mut().filter(at_path) {
            if route.method.serves(request.method) {
                return (route.handler)(request);
            }
            allowed.push(route.method.name());
            if route.method == Method::Get {
                allowed.push("HEAD");
            }
        }
        if allowed.is_empty() {
            return Response::error(404, format!("not found; there is {}", self.paths()));
        }
        let allowed = allowed.join(", ");
        Response {
            allow: Some(allowed.clone()),
            ..Response::error(405, format!("this can be asked for with {allowed} only"))
        }
    }

    fn paths(&self) -> String {
        let paths: Vec<_> = self.0.iter().map(|route| route.path).collect();
        paths.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        Routes::default()
            .with(Method::Get, "/page", |request| {
                Response::ok("text/plain", request.query)
            })
            .with(Method::Post, "/page", |_| {
                Response::ok("text/plain", "posted")
            })
            .with(Method::Get, "/other", |_| Response::ok("text/plain", ""))
    }

    fn answer(method: &str, target: &str) -> Response {
        routes().answer(&Request::new(method, target))
    }

    #[test]
    fn requests_find_their_handlers() {
        assert_eq!(answer("GET", "/page?a?b").body, b"a?b");
        assert_eq!(answer("HEAD", "/page?a").body, b"a");
        assert_eq!(answer("POST", "/page").body, b"posted");
        assert_eq!(answer("GET", "http://tracker:9000/page?c").body, b"c");
        assert_eq!(answer("GET", "/page?url=http://x/").body, b"url=http://x/");
        assert_eq!(answer("GET", "http://tracker").status, 404);
    }

    #[test]
    fn what_is_not_there_is_told() {
        let response = answer("GET", "/nowhere");
        assert_eq!((response.status, response.allow), (404, None));
        assert!(response.body.starts_with(b"not found"));
        let response = answer("DELETE", "/page");
        assert_eq!(response.status, 405);
        assert_eq!(response.allow.unwrap(), "GET, HEAD, POST");
        assert_eq!(answer("POST", "/other").allow.unwrap(), "GET, HEAD");
    }
}
