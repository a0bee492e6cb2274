//! Which request is answered with which page, and which one has something done.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;
use std::time::Duration;

use super::guard::{Credentials, Guard};
use super::health::HEALTH_PATH;
use super::request::{Post, Request};
use super::response::Response;

/// Bytes of the largest body: a million info hashes in JSON, 43 bytes each, and more.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// Larger bodies come one at a time, so that memory is needed for one of them only.
const SMALL_BODY_BYTES_MAX: usize = 1 << 20;

/// Pages that are there also when many are served something else.
const KEPT_ROOM_FOR: [&str; 2] = [HEALTH_PATH, "/metrics"];

type Page = Box<dyn FnMut(&Request<'_>) -> Response + Send>;
type Action = Box<dyn FnMut(Post) -> Response + Send>;

/// A table of pages and actions, by their paths.
#[derive(Default)]
pub struct Routes {
    guard: Guard,
    pages: Vec<Route>,
    /// What the actions are called, in the order of [`Actions`].
    action_paths: Vec<ActionPath>,
    actions: Actions,
    /// There will be others.
    is_starting: bool,
    /// Held by who has a large body.
    large_body: Arc<()>,
    /// How long pages may wait from now on, all together.
    patience: Duration,
    /// No one more may be served for long.
    is_full: bool,
}

struct Route {
    path: &'static str,
    /// Whether it is the beginning of the paths that are meant, rather than the one path.
    has_below: bool,
    needs_token: bool,
    page: Page,
}

struct ActionPath {
    path: &'static str,
    body_bytes_max: usize,
}

/// What is done for requests, apart from the thread that reads them.
#[derive(Default)]
pub(super) struct Actions(Vec<Action>);

/// An action that a client has asked for.
pub(super) struct Job {
    action: usize,
    pub(super) post: Post,
    pub(super) hold: Option<LargeBody>,
}

/// The right to have a large body in memory.
#[derive(Debug)]
pub(super) struct LargeBody(#[expect(dead_code, reason = "only counted")] Arc<()>);

/// Where a request goes that may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Page(usize),
    Action { index: usize, body_bytes_max: usize },
}

impl Routes {
    /// Of a daemon that is not ready: what is not there is not there yet.
    #[must_use]
    pub(crate) fn while_starting(mut self) -> Self {
        self.is_starting = true;
        self
    }

    /// Has requests pass a guard.
    #[must_use]
    pub fn guarded_by(mut self, guard: Guard) -> Self {
        self.guard = guard;
        self
    }

    /// Lets `page` answer requests for this path. It is called by the endpoint's one thread, so
    /// what it waits for, everybody who asks there waits for.
    #[must_use]
    pub fn with(
        self,
        path: &'static str,
        page: impl FnMut(&Request<'_>) -> Response + Send + 'static,
    ) -> Self {
        self.and(path, false, Box::new(page))
    }

    /// Lets `page` answer requests for all paths that begin with `path`, which ends with `/`, and
    /// go on: [`Request::below`] says how.
    #[must_use]
    pub fn with_below(
        self,
        path: &'static str,
        page: impl FnMut(&Request<'_>) -> Response + Send + 'static,
    ) -> Self {
        self.and(path, true, Box::new(page))
    }

    /// Whether a page answers requests for this path.
    pub(crate) fn has_page(&self, path: &str) -> bool {
        self.pages.iter().any(|route| route.path == path)
    }

    /// As [`Self::with`], for clients that show the operator's token.
    #[must_use]
    pub fn with_private(
        self,
        path: &'static str,
        page: impl FnMut(&Request<'_>) -> Response + Send + 'static,
    ) -> Self {
        let mut routes = self.and(path, false, Box::new(page));
        if let Some(route) = routes.pages.last_mut() {
            route.needs_token = true;
        }
        routes
    }

    /// Lets `action` answer POST requests for this path, of clients that show the operator's token,
    /// with bodies of so many bytes at most (and of [`BODY_BYTES_MAX`]). It is called by a thread
    /// that does nothing else, so it may take its time; but actions are done one after the other.
    #[must_use]
    pub fn with_action(
        mut self,
        path: &'static str,
        body_bytes_max: usize,
        action: impl FnMut(Post) -> Response + Send + 'static,
    ) -> Self {
        self.action_paths.push(ActionPath {
            path,
            body_bytes_max: body_bytes_max.min(BODY_BYTES_MAX),
        });
        self.actions.0.push(Box::new(action));
        self
    }

    fn and(mut self, path: &'static str, has_below: bool, page: Page) -> Self {
        self.pages.push(Route {
            path,
            has_below,
            needs_token: false,
            page,
        });
        self
    }

    /// The actions, for who does them.
    pub(super) fn take_actions(&mut self) -> Actions {
        std::mem::take(&mut self.actions)
    }

    /// Tells for the next turn how long a page may wait, and whether there is room for one more who
    /// is served for long.
    pub(super) fn allow(&mut self, patience: Duration, has_room: bool) {
        self.patience = patience;
        self.is_full = !has_room;
    }

    /// Refuses what may take long when there is no room for it.
    pub(super) fn require_room(&self, target: Target) -> Result<(), Response> {
        if !self.is_full || self.is_kept_room_for(target) {
            return Ok(());
        }
        let reason = "too many requests are under way: try again";
        Err(Response::error(503, reason).with_header("Retry-After", "1"))
    }

    /// Whether there is always room for it.
    pub(super) fn is_kept_room_for(&self, target: Target) -> bool {
        let Target::Page(page) = target else {
            return false;
        };
        let page = self.pages.get(page);
        page.is_some_and(|it| KEPT_ROOM_FOR.contains(&it.path))
    }

    /// Whether a client can show who it is.
    pub(super) fn has_token(&self) -> bool {
        self.guard.has_token()
    }

    /// Whether the client is the operator.
    pub(super) fn is_authorized(&self, shown: &Credentials<'_>) -> bool {
        self.guard.is_authorized(shown)
    }

    /// Looks where a request goes, before its body has come.
    pub(super) fn admit(
        &self,
        request: &Request<'_>,
        shown: &Credentials<'_>,
    ) -> Result<Target, Response> {
        self.guard.check_host(shown)?;
        let page = self
            .pages
            .iter()
            .position(|it| it.below(request.path).is_some());
        let action = self
            .action_paths
            .iter()
            .position(|it| it.path == request.path);
        let target = match (request.method, page, action) {
            ("GET" | "HEAD", Some(page), _) => Target::Page(page),
            ("POST", _, Some(index)) => Target::Action {
                index,
                body_bytes_max: self
                    .action_paths
                    .get(index)
                    .map_or(0, |it| it.body_bytes_max),
            },
            (_, None, None) => return Err(self.not_found()),
            _ => {
                let pages = page.map(|_| "GET, HEAD");
                let methods: Vec<_> = pages.into_iter().chain(action.map(|_| "POST")).collect();
                let methods = methods.join(", ");
                let reason = format!("this can be asked for with {methods} only");
                return Err(Response::error(405, reason).with_header("Allow", methods));
            }
        };
        let needs_token = match target {
            Target::Page(page) => self.pages.get(page).is_some_and(|it| it.needs_token),
            Target::Action { .. } => {
                self.guard.check_origin(shown)?;
                true
            }
        };
        match needs_token && !request.is_authorized {
            true => Err(self.guard.refusal()),
            false => Ok(target),
        }
    }

    /// Asks for room for a body of so many bytes.
    pub(super) fn hold(&self, body_bytes: usize) -> Result<Option<LargeBody>, Response> {
        if body_bytes <= SMALL_BODY_BYTES_MAX {
            return Ok(None);
        }
        if Arc::strong_count(&self.large_body) > 1 {
            let reason = "another large request is under way: try again when it is done";
            return Err(Response::error(503, reason));
        }
        Ok(Some(LargeBody(Arc::clone(&self.large_body))))
    }

    /// Has a page answer.
    pub(super) fn show(&mut self, page: usize, request: &Request<'_>) -> Response {
        match self.pages.get_mut(page) {
            Some(route) => {
                let below = route.below(request.path).unwrap_or_default();
                let patience = self.patience;
                (route.page)(&Request {
                    below,
                    patience,
                    ..*request
                })
            }
            None => self.not_found(),
        }
    }

    fn not_found(&self) -> Response {
        if self.is_starting {
            return Response::error(503, "starting: try again");
        }
        let mut paths: Vec<_> = self.pages.iter().map(|it| it.path).collect();
        for ActionPath { path, .. } in &self.action_paths {
            if !paths.contains(path) {
                paths.push(path);
            }
        }
        Response::error(404, format!("not found; there is {}", paths.join(", ")))
    }
}

impl Debug for Routes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").finish_non_exhaustive()
    }
}

impl Route {
    /// What follows in a path that it is for.
    fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        let below = path.strip_prefix(self.path)?;
        (below.is_empty() != self.has_below).then_some(below)
    }
}

impl Job {
    pub(super) fn new(action: usize, post: Post, hold: Option<LargeBody>) -> Self {
        Self { action, post, hold }
    }
}

impl Debug for Job {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").finish_non_exhaustive()
    }
}

impl Actions {
    /// Does what a client has asked for.
    pub(super) fn run(&mut self, job: Job) -> Response {
        let Job { action, post, hold } = job;
        let response = match self.0.get_mut(action) {
            Some(action) => action(post),
            None => Response::error(404, "not found"),
        };
        drop(hold);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::Token;
    use super::*;
    use crate::live::LiveSettings;

    fn routes() -> Routes {
        let token = LiveSettings::new(Token::parse(b"0123456789abcdef").unwrap());
        Routes::default()
            .guarded_by(Guard::new(Some(token), &[]))
            .with("/page", |request| {
                Response::ok("text/plain", format!("page {}", request.query()))
            })
            .with("/other", |_| Response::ok("text/plain", "other"))
            .with_below("/below/", |request| {
                Response::ok("text/plain", request.below())
            })
            .with_private("/private", |_| Response::ok("text/plain", "private"))
            .with_action("/other", 5, |post| Response::ok("text/plain", post.body))
            .with_action("/do", 5, |_| Response::ok("text/plain", "done"))
    }

    fn answer(method: &str, target: &str) -> Response {
        answer_as(method, target, false)
    }

    fn answer_as(method: &str, target: &str, is_authorized: bool) -> Response {
        let mut routes = routes();
        let request = Request {
            is_authorized,
            ..Request::new(method, target)
        };
        match routes.admit(&request, &Credentials::default()) {
            Ok(Target::Page(page)) => routes.show(page, &request),
            Ok(Target::Action { index, .. }) => {
                let job = Job::new(index, Post::new("", "body"), None);
                routes.take_actions().run(job)
            }
            Err(refusal) => refusal,
        }
    }

    #[test]
    fn requests_find_their_pages() {
        for (target, body) in [
            ("/page", "page "),
            ("/other", "other"),
            ("/page?a?b", "page a?b"),
            ("http://tracker:9000/page?c", "page c"),
            ("/page?url=http://x/", "page url=http://x/"),
            ("/below/it/all?d", "it/all"),
        ] {
            for method in ["GET", "HEAD"] {
                assert_eq!(answer(method, target).body, body.as_bytes(), "{target}");
            }
        }
        for target in ["http://tracker", "/page/", "/pages", "/below/", "/below"] {
            assert_eq!(answer("GET", target).status, 404, "{target}");
        }
    }

    #[test]
    fn what_is_not_there_is_told() {
        let response = answer("GET", "/nowhere");
        assert_eq!(response.status, 404);
        assert_eq!(
            response.body,
            b"not found; there is /page, /other, /below/, /private, /do\n"
        );
        for (method, path, allowed) in [
            ("DELETE", "/page", "GET, HEAD"),
            ("POST", "/page", "GET, HEAD"),
            ("PUT", "/other", "GET, HEAD, POST"),
            ("GET", "/do", "POST"),
        ] {
            let response = answer(method, path);
            assert_eq!(response.status, 405);
            let told = format!("this can be asked for with {allowed} only\n");
            assert_eq!(response.body, told.as_bytes());
            let mut bytes = Vec::new();
            response.write(false, true, &mut bytes);
            let head = String::from_utf8(bytes).unwrap();
            assert!(
                head.contains(&format!("\r\nAllow: {allowed}\r\n")),
                "{head}"
            );
        }
    }

    #[test]
    fn actions_and_private_pages_need_the_token() {
        for (method, path, body) in [
            ("GET", "/private", "private"),
            ("POST", "/do", "done"),
            ("POST", "/other", "body"),
        ] {
            assert_eq!(answer(method, path).status, 401);
            assert_eq!(answer_as(method, path, true).body, body.as_bytes());
        }
        assert_eq!(answer("GET", "/other").status, 200);
    }

    #[test]
    fn one_large_body_is_in_memory_at_once() {
        let routes = routes();
        assert!(routes.hold(SMALL_BODY_BYTES_MAX).unwrap().is_none());
        let first = routes.hold(SMALL_BODY_BYTES_MAX + 1).unwrap();
        assert!(first.is_some());
        assert_eq!(
            routes.hold(SMALL_BODY_BYTES_MAX + 1).unwrap_err().status,
            503
        );
        assert!(routes.hold(1).unwrap().is_none());
        drop(first);
        assert!(routes.hold(SMALL_BODY_BYTES_MAX + 1).unwrap().is_some());
    }

    #[test]
    fn parameters_are_found() {
        let request = Request::new("GET", "/x?n=5&format=json&m=&n=6");
        assert_eq!(request.parameter("n"), Some("5"));
        assert_eq!(request.parameter("m"), Some(""));
        assert_eq!(request.parameter("form"), None);
        assert!(request.wants_json() && !Request::new("GET", "/x").wants_json());
    }
}
