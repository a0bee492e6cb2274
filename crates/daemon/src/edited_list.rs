//! What changes of a list in use have in common, whatever it lists: how one is asked for, why one
//! is refused, how the lines of the file are read, and when the list of before is freed.

pub(crate) mod order;

use std::io::{self, BufRead, Read};
use std::thread;
use std::time::Duration;

use crate::bucket::BucketError;
use crate::endpoint::Response;
use crate::rewritten_file::RewriteError;

/// Why nothing has changed.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is no list.
    Off,
    /// The file has been changed by somebody else, who would lose that.
    FileHasChanged,
    /// It cannot be written.
    Write(anyhow::Error),
    /// The bucket that has the entries was not changed, or not as a whole.
    Bucket(BucketError),
    /// The bucket has never had an entry, and the list has some, which would go.
    Unfilled,
}

/// How a list is called.
#[derive(Debug)]
pub(crate) struct Names {
    /// In the log.
    pub(crate) list: &'static str,
    /// The key that names its file.
    pub(crate) path_key: &'static str,
    /// Why there is none, and what to do about it.
    pub(crate) off: &'static str,
}

impl From<RewriteError> for Refused {
    fn from(error: RewriteError) -> Self {
        match error {
            RewriteError::HasChanged => Self::FileHasChanged,
            RewriteError::Failed(error) => Self::Write(error),
        }
    }
}

impl Refused {
    /// What the log is told of a file that could not be written.
    pub(crate) fn reason(self) -> String {
        match self {
            Self::Off => "there is no list".to_owned(),
            Self::FileHasChanged => "somebody else has changed it".to_owned(),
            Self::Write(error) => format!("{error:#}"),
            Self::Bucket(BucketError::Unchanged(reason) | BucketError::Uncertain(reason)) => reason,
            Self::Unfilled => "the bucket was never filled".to_owned(),
        }
    }

    /// What the operator is told; the log is, too, if it may not be the operator's own doing.
    pub(crate) fn answer(self, names: &Names) -> Response {
        match self {
            Self::Off => Response::json_error(409, names.off),
            Self::FileHasChanged => {
                let reason = format!(
                    "the file that `{}` names has changed since it was read: reload first (POST \
                     /reload), so that nothing in it is lost",
                    names.path_key
                );
                Response::json_error(409, &reason)
            }
            Self::Unfilled => {
                let reason = format!(
                    "nothing was changed: the bucket of the {} has never had an entry, and a \
                     minute after its first one it is the whole list, without what is there now: \
                     send the whole list once, as `replace`",
                    names.list
                );
                Response::json_error(409, &reason)
            }
            Self::Bucket(error) => {
                let reason = match error {
                    BucketError::Unchanged(reason) => reason,
                    BucketError::Uncertain(reason) => {
                        format!("{reason}; some of it may have changed: ask for the same once more")
                    }
                };
                log::error!("{}: {reason}", names.list);
                Response::json_error(503, &reason)
            }
            Self::Write(error) => {
                let hint = if is_forbidden(&error) { HINT } else { "" };
                let reason = format!("{error:#}; nothing has changed{hint}");
                log::error!("{}: {reason}", names.list);
                Response::json_error(500, &reason)
            }
        }
    }
}

/// Waits for the workers that use a list which was replaced. They let go of it in their next round,
/// so that is in some 100 ms; one that does not come to it frees the list by itself, later.
pub(crate) fn wait_while(is_in_use: impl Fn() -> bool) {
    // 5 seconds in all.
    const TRIES: u32 = 250;
    const TRY_INTERVAL: Duration = Duration::from_millis(20);
    for _ in 0..TRIES {
        if !is_in_use() {
            return;
        }
        thread::sleep(TRY_INTERVAL);
    }
}

/// What may be in the way of a file that is replaced.
const HINT: &str = ". The tracker's user needs the right to write to the folder, and so does its \
                    unit (ReadWritePaths=); a folder that has taken the place of the one at the \
                    start is behind `privileges.sandbox` until a restart";

fn is_forbidden(error: &anyhow::Error) -> bool {
    let mut causes = error
        .chain()
        .filter_map(|it| it.downcast_ref::<io::Error>());
    causes.any(|it| it.kind() == io::ErrorKind::PermissionDenied)
}

/// Returns whether there is one more line. Of one that is longer than `bytes_max`, the part that
/// shows that.
pub(crate) fn read_line(
    file: &mut impl BufRead,
    line: &mut Vec<u8>,
    bytes_max: usize,
) -> io::Result<bool> {
    line.clear();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let mut limited = file.take(limit.saturating_add(1));
    Ok(limited.read_until(b'\n', line)? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names = Names {
        list: "list",
        path_key: "access_list.path",
        off: "there is none",
    };

    #[test]
    fn whoever_is_refused_knows_whether_anything_was_changed() {
        let told = |refused: Refused| {
            let answer = refused.answer(&NAMES);
            (answer.status, String::from_utf8(answer.body).unwrap())
        };
        let error = |text: &str| format!("{{\"error\":\"{text}\"}}\n");
        let unchanged = BucketError::Unchanged("none was changed".to_owned());
        let expected = (503, error("none was changed"));
        assert_eq!(told(Refused::Bucket(unchanged)), expected);
        let uncertain = BucketError::Uncertain("no answer".to_owned());
        let reason = "no answer; some of it may have changed: ask for the same once more";
        assert_eq!(told(Refused::Bucket(uncertain)), (503, error(reason)));
        let (status, reason) = told(Refused::Unfilled);
        assert_eq!(status, 409);
        assert!(reason.contains("nothing was changed: the bucket of the list has never had"));
        assert!(reason.contains("send the whole list once, as `replace`"));
    }

    #[test]
    fn what_may_be_in_the_way_is_told() {
        let told = |kind: io::ErrorKind| {
            let error =
                anyhow::Error::new(io::Error::from(kind)).context("cannot create a.partial");
            let answer = Refused::Write(error).answer(&NAMES);
            String::from_utf8(answer.body).unwrap()
        };
        let forbidden = told(io::ErrorKind::PermissionDenied);
        assert!(forbidden.contains("permission denied; nothing has changed. The tracker's user"));
        let full = told(io::ErrorKind::StorageFull);
        assert!(full.contains("cannot create a.partial: no storage space; nothing has changed\""));
    }

    #[test]
    fn lines_are_read_as_far_as_they_may_go() {
        let mut file = &b"one\n\nlonger\nend"[..];
        let mut lines = Vec::new();
        let mut line = Vec::new();
        while read_line(&mut file, &mut line, 4).unwrap() {
            lines.push(String::from_utf8(line.clone()).unwrap());
        }
        assert_eq!(lines, ["one\n", "\n", "longe", "r\n", "end"]);
    }
}
