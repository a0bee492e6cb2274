//! What a machine cannot test.

use std::env;

/// Says that nothing is tested. Under CI (`CI=true`) that is a failure, since a test that nobody
/// sees skipped is no test.
#[track_caller]
pub fn skip(reason: &str) {
    skip_under(env::var("CI").ok().as_deref(), reason);
}

#[track_caller]
fn skip_under(ci: Option<&str>, reason: &str) {
    assert!(ci != Some("true"), "{reason}");
    eprintln!("SKIPPED: {reason}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_a_message_at_home() {
        skip_under(None, "there is no such program");
        skip_under(Some("false"), "there is no such program");
    }

    #[test]
    #[should_panic(expected = "there is no such program")]
    fn what_is_missing_is_a_failure_under_ci() {
        skip_under(Some("true"), "there is no such program");
    }
}
