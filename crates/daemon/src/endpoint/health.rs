//! Whether the daemon serves, for load balancers.

use super::request::Request;
use super::response::Response;
use crate::supervisor::{Life, Supervisor};

/// Where it is told.
pub(crate) const HEALTH_PATH: &str = "/health";

/// What it says while the daemon serves.
pub(crate) const READY: &str = "ready";

/// The page.
pub(crate) fn health(supervisor: Supervisor) -> impl FnMut(&Request<'_>) -> Response + Send {
    move |request| answer(supervisor.life(), request.wants_json())
}

fn answer(life: Life, is_json: bool) -> Response {
    let (status, word) = match life {
        Life::Starting => (503, "starting"),
        Life::Serving => (200, READY),
        Life::Stopping => (503, "stopping"),
    };
    let response = match is_json {
        true => Response::json(status, format!("{{\"status\":\"{word}\"}}\n")),
        false => Response::with_status(status, "text/plain; charset=utf-8", format!("{word}\n")),
    };
    response.with_header("Cache-Control", "no-store")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_daemon_that_serves_is_healthy() {
        for (life, status, word) in [
            (Life::Starting, 503, "starting"),
            (Life::Serving, 200, "ready"),
            (Life::Stopping, 503, "stopping"),
        ] {
            let text = answer(life, false);
            assert_eq!(
                (text.status, text.body),
                (status, format!("{word}\n").into_bytes())
            );
            let json = answer(life, true);
            let body = format!("{{\"status\":\"{word}\"}}\n");
            assert_eq!((json.status, json.body), (status, body.into_bytes()));
        }
    }
}
