//! Which request is answered with which page.

/// The methods that every page can be asked for with.
pub(super) const ALLOWED: &str = "GET, HEAD";

/// A request that has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    /// As the client sent it, in capitals: `GET`.
    pub(super) method: &'a str,
    /// Begins with `/`. The query, of which no page takes any notice, is left out.
    path: &'a str,
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
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        Self { method, path }
    }
}

/// What a client is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Such as 200.
    pub status: u16,
    /// Such as `text/html; charset=utf-8`.
    pub content_type: &'static str,
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
            body: body.into(),
        }
    }

    /// An error, with a line that says what is wrong.
    #[must_use]
    pub fn error(status: u16, reason: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: (reason.into() + "\n").into_bytes(),
        }
    }
}

type Page = Box<dyn FnMut() -> Response + Send>;

/// A table of pages, by their paths.
#[derive(Default)]
pub struct Routes(Vec<(&'static str, Page)>);

impl Routes {
    /// Lets `page` answer requests for this path. It is called by the endpoint's one thread, so
    /// what it waits for, everybody who asks there waits for.
    #[must_use]
    pub fn with(
        mut self,
        path: &'static str,
        page: impl FnMut() -> Response + Send + 'static,
    ) -> Self {
        self.0.push((path, Box::new(page)));
        self
    }

    /// Has the request answered.
    pub(super) fn answer(&mut self, request: &Request<'_>) -> Response {
        match self.0.iter_mut().find(|(path, _)| *path == request.path) {
            Some((_, page)) if matches!(request.method, "GET" | "HEAD") => page(),
            Some(_) => Response::error(405, format!("this can be asked for with {ALLOWED} only")),
            None => {
                let paths: Vec<_> = self.0.iter().map(|(path, _)| *path).collect();
                Response::error(404, format!("not found; there is {}", paths.join(", ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(method: &str, target: &str) -> Response {
        Routes::default()
            .with("/page", || Response::ok("text/plain", "page"))
            .with("/other", || Response::ok("text/plain", "other"))
            .answer(&Request::new(method, target))
    }

    #[test]
    fn requests_find_their_pages() {
        assert_eq!(answer("GET", "/page").body, b"page");
        assert_eq!(answer("GET", "/other").body, b"other");
        assert_eq!(answer("GET", "/page?a?b").body, b"page");
        assert_eq!(answer("HEAD", "/page?a").body, b"page");
        assert_eq!(answer("GET", "http://tracker:9000/page?c").body, b"page");
        assert_eq!(answer("GET", "/page?url=http://x/").body, b"page");
        assert_eq!(answer("GET", "http://tracker").status, 404);
    }

    #[test]
    fn what_is_not_there_is_told() {
        let response = answer("GET", "/nowhere");
        assert_eq!(response.status, 404);
        assert_eq!(response.body, b"not found; there is /page, /other\n");
        for method in ["DELETE", "POST"] {
            let response = answer(method, "/page");
            assert_eq!(response.status, 405);
            let told = b"this can be asked for with GET, HEAD only\n";
            assert_eq!(response.body, told);
        }
    }
}
