//! What an operator may list as origins of pages (`network.allowed_origins`).

use aquatic_config::Checks;

/// Requires that browsers could send each of these.
pub(crate) fn check(origins: &[String], checks: &mut Checks) {
    for origin in origins {
        checks.require(
            is_origin(origin),
            "network.allowed_origins",
            format!(
                "{origin:?} is not an origin, which has a scheme and a host: write for example \
                 \"https://example.com\""
            ),
        );
    }
}

/// Whether browsers could send it (RFC 6454): one with a path, or but a slash, is never sent.
fn is_origin(text: &str) -> bool {
    let has_host = |(_, host): (&str, &str)| !host.is_empty() && !host.contains(['/', '?', '#']);
    text == "null" || text.split_once("://").is_some_and(has_host)
}
