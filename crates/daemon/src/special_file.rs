//! Files that `--check-config` does not open: to read a pipe or a device is to take something from
//! it, or to wait for what may never come.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use aquatic_config::Checks;

/// Whether the file that `key` names is a pipe or a device. It is noted as not looked at then.
/// What is missing, or cannot be looked at, is left to whoever opens it.
pub fn is_passed_over(path: &Path, key: &str, checks: &mut Checks) -> bool {
    let kind = fs::metadata(path).map(|metadata| metadata.file_type());
    let is_special = kind.is_ok_and(|kind| kind.is_fifo() || kind.is_char_device());
    if is_special {
        checks.not_looked_at(format!("`{key}`: {} is a pipe or a device", path.display()));
    }
    is_special
}
