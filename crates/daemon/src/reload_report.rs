//! What has come of a reload, for whoever has asked for it.
//!
//! A reload runs in one thread, and everybody who takes part in it tells the log. What is told to
//! the log is noted here besides, by the same thread, so that no part needs to know who has asked.

use std::cell::RefCell;

use crate::json;

thread_local! {
    /// That of the reload which this thread does.
    static PRESENT: RefCell<Option<ReloadReport>> = const { RefCell::new(None) };
}

/// What has come of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadReport {
    /// Keys that have changed, and hold now: the key, and its value before and after.
    pub applied: Vec<[String; 3]>,
    /// Keys that have changed, and hold after a restart.
    pub needs_restart: Vec<String>,
    /// What has been read again.
    pub loaded: Vec<&'static str>,
    /// What has not been tried, and why.
    pub skipped: Vec<String>,
    /// What could not be done, and why. Of these files, nothing has changed.
    pub errors: Vec<String>,
}

impl ReloadReport {
    /// As an answer to the operator.
    #[must_use]
    pub fn to_json(&self) -> String {
        let applied = self.applied.iter().map(|[key, from, to]| {
            let [key, from, to] = [key, from, to].map(|text| json::string(text));
            format!("{{\"key\":{key},\"from\":{from},\"to\":{to}}}")
        });
        let strings = |list: &[String]| json::array(list.iter().map(|text| json::string(text)));
        format!(
            "{{\"ok\":{},\"applied\":{},\"needs_restart\":{},\"loaded\":{},\"skipped\":{},\
             \"errors\":{}}}\n",
            self.errors.is_empty(),
            json::array(applied),
            strings(&self.needs_restart),
            json::array(self.loaded.iter().map(|what| json::string(what))),
            strings(&self.skipped),
            strings(&self.errors),
        )
    }
}

/// Does a reload, and returns what has been noted about it.
pub(crate) fn of(reload: impl FnOnce()) -> ReloadReport {
    PRESENT.set(Some(ReloadReport::default()));
    reload();
    PRESENT.take().unwrap_or_default()
}

/// Notes something, if this thread does a reload.
pub(crate) fn note(change: impl FnOnce(&mut ReloadReport)) {
    PRESENT.with_borrow_mut(|present| {
        if let Some(report) = present {
            change(report);
        }
    });
}

/// Notes what could not be done.
pub fn note_error(reason: impl Into<String>) {
    note(|report| report.errors.push(reason.into()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_during_a_reload_is_in_its_report() {
        note_error("before");
        let report = of(|| {
            note(|report| {
                let change = ["log_level", "\"info\"", "\"warn\""];
                report.applied.push(change.map(str::to_owned));
                report.loaded.push("the access list");
            });
            note_error("of \"it\"");
        });
        note_error("after");
        assert_eq!(
            report.to_json(),
            "{\"ok\":false,\"applied\":[{\"key\":\"log_level\",\"from\":\"\\\"info\\\"\",\
             \"to\":\"\\\"warn\\\"\"}],\"needs_restart\":[],\"loaded\":[\"the access list\"],\
             \"skipped\":[],\"errors\":[\"of \\\"it\\\"\"]}\n"
        );
        assert_eq!(of(|| ()), ReloadReport::default());
    }
}
