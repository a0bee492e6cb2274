//! What programs have to know of the machine.

use std::fs;
use std::io;

/// Programs know the clock of the host.
pub(crate) fn require_clock() -> io::Result<()> {
    // Without time namespaces there is no such file.
    match fs::read_to_string("/proc/self/timens_offsets") {
        Ok(text) if is_shifted(&text) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this is a time namespace, with a monotonic clock of its own",
        )),
        _ => Ok(()),
    }
}

/// Programs keep what they know of a frame in memory of the processor. Kernels for real time let
/// one go on while another one is at it.
pub(crate) fn require_one_at_a_time() -> io::Result<()> {
    // Other kernels have no such file.
    match fs::read_to_string("/sys/kernel/realtime") {
        Ok(text) if text.trim() == "1" => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this is a kernel for real time (PREEMPT_RT)",
        )),
        _ => Ok(()),
    }
}

/// Whether the monotonic clock is not the host's.
fn is_shifted(offsets: &str) -> bool {
    let mut lines = offsets.lines().map(str::split_whitespace);
    let monotonic = lines.find_map(|mut words| {
        (words.next() == Some("monotonic")).then(|| words.any(|offset| offset != "0"))
    });
    monotonic.unwrap_or(false)
}

/// How many processors there can be: programs count on each by itself.
pub(crate) fn processors() -> io::Result<usize> {
    let path = "/sys/devices/system/cpu/possible";
    let text = fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    parse_processors(&text).ok_or_else(|| io::Error::other(format!("{path}: {text:?}")))
}

/// Such as `0-7`, or `0,2-3`.
fn parse_processors(text: &str) -> Option<usize> {
    let last = text.trim().rsplit([',', '-']).next()?;
    last.parse::<usize>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_namespace_is_noticed() {
        for (offset, expected) in [("0 0", false), ("-5 0", true), ("0 7", true)] {
            let text = format!("monotonic  {offset}\nboottime  3  0\n");
            assert_eq!(is_shifted(&text), expected, "{offset}");
        }
        assert!(!is_shifted(""));
    }

    #[test]
    fn processors_are_counted_to_the_last_that_can_be() {
        let counts = ["0\n", "0-7\n", "0,2-3\n", "", "x"].map(parse_processors);
        assert_eq!(counts, [Some(1), Some(8), Some(4), None, None]);
    }
}
