//! What may be meant by a line that is not TOML.

use std::net::SocketAddr;

use crate::explain::boolean;

/// What to write instead of `line`, if it is one of the usual mistakes. `message` is the parser's.
pub(crate) fn hint(message: &str, line: &str) -> Option<String> {
    let line = line.trim();
    if message.starts_with("duplicate key") {
        let hint = match line.starts_with('[') {
            true => "each section may occur once: join them",
            false => {
                "each key may occur once: remove one of them; where a key takes several values, \
                 write them as a list: [\"one\", \"two\"]"
            }
        };
        return Some(hint.to_owned());
    }
    if line.starts_with('{') {
        return Some("write the file as -p prints it, not as JSON".to_owned());
    }
    if line.starts_with("//") || line.starts_with(';') || line.starts_with("--") {
        return Some("comments begin with #".to_owned());
    }
    if message.starts_with("unclosed table") {
        let section = line.trim_matches(['[', ']', ' ']);
        return Some(format!("write `[{section}]`"));
    }
    if line.contains(['“', '”', '„', '‘', '’']) {
        return Some("write straight quotes: \"".to_owned());
    }
    let Some((key, value)) = line.split_once('=') else {
        return missing_equals_sign(line);
    };
    let (key, value) = (key.trim(), without_comment(value));
    let is_key = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if key.is_empty() || !key.chars().all(is_key) {
        return None;
    }
    match value {
        "" => Some(format!("write a value after `{key} =`")),
        _ if value.starts_with(['"', '\'']) => unclosed_quote(value),
        _ => unquoted(key, value),
    }
}

/// `key: value`, as in YAML, or `key value`.
fn missing_equals_sign(line: &str) -> Option<String> {
    let (key, value) = line.split_once([':', ' ', '\t'])?;
    let is_key = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if value.is_empty() && key.chars().all(is_key) {
        return Some(format!(
            "write a section as `[{key}]`, and = between a key and its value"
        ));
    }
    let value = value.trim();
    let plausible = !key.is_empty() && key.chars().all(is_key) && key.contains('_');
    (plausible && !value.is_empty() || line.contains(": ")).then(|| {
        format!(
            "write = between a key and its value: `{key} = {}`",
            quoted(value)
        )
    })
}

fn unclosed_quote(value: &str) -> Option<String> {
    let quote = value.get(..1)?;
    (value.matches(quote).count() == 1).then(|| format!("the closing {quote} is missing"))
}

/// Texts need quotes; what is meant to be true or false must be one of these two words.
fn unquoted(key: &str, value: &str) -> Option<String> {
    if !has_off(key)
        && let Some(value) = boolean(value)
    {
        return Some(format!("write `{key} = {value}`"));
    }
    if value.contains(['"', '\'', '{']) {
        return None;
    }
    match number(value) {
        Some((number, "")) => return Some(format!("write `{key} = {number}`")),
        Some(_) => {
            let hint = "write a number without a unit; the comment that -p prints above the key \
                        says what it is measured in";
            return Some(hint.to_owned());
        }
        None => {}
    }
    // An address of IPv6 looks like the beginning of a list.
    let is_address = value.parse::<SocketAddr>().is_ok();
    if let Some(list) = value.strip_prefix('[').filter(|_| !is_address) {
        let items = list.strip_suffix(']')?.split(',').map(str::trim);
        let items: Vec<_> = items.filter(|item| !item.is_empty()).collect();
        return Some(format!("put each in quotes: `{key} = {items:?}`"));
    }
    Some(format!("put it in quotes: `{key} = {value:?}`"))
}

/// Whether "off" is one of the words that this key takes.
fn has_off(key: &str) -> bool {
    let name = key.rsplit('.').next();
    name.is_some_and(|name| ["log_level", "mode"].contains(&name))
}

/// The digits of `1,000,000` or `20m`, and what follows them.
fn number(value: &str) -> Option<(String, &str)> {
    let unit = value.trim_start_matches(|c: char| c.is_ascii_digit() || ",'_".contains(c));
    let digits: String = value.chars().filter(char::is_ascii_digit).collect();
    let is_unit = unit.trim().chars().all(char::is_alphabetic) && unit.len() <= 8;
    let begins = value.starts_with(|c: char| c.is_ascii_digit());
    (begins && is_unit).then_some((digits, unit.trim()))
}

/// The value as it should be written: numbers, lists and texts in quotes are left as they are.
fn quoted(value: &str) -> String {
    let is_value = value.starts_with(['"', '\'', '['])
        || ["true", "false"].contains(&value)
        || value.bytes().all(|byte| byte.is_ascii_digit());
    if is_value {
        value.to_owned()
    } else {
        format!("{value:?}")
    }
}

/// Without what follows a # that does not stand in quotes.
fn without_comment(value: &str) -> &str {
    let value = value.trim();
    if value.starts_with(['"', '\'']) {
        return value;
    }
    value.split('#').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_mistakes_are_recognised() {
        for (line, expected) in [
            (
                "address = 0.0.0.0:3000",
                "put it in quotes: `address = \"0.0.0.0:3000\"`",
            ),
            (
                "address = [::]:3000",
                "put it in quotes: `address = \"[::]:3000\"`",
            ),
            (
                "path = /etc/x # list",
                "put it in quotes: `path = \"/etc/x\"`",
            ),
            (
                "network.address = 0.0.0.0:1",
                "put it in quotes: `network.address = \"0.0.0.0:1\"`",
            ),
            ("enable_tls = True", "write `enable_tls = true`"),
            ("enable_tls = no", "write `enable_tls = false`"),
            ("max_peers = 1,000,000", "write `max_peers = 1000000`"),
            (
                "max_peer_age = 20m # long",
                "write a number without a unit; the comment that -p prints above the key says what \
                 it is measured in",
            ),
            (
                "{\"network\": {}}",
                "write the file as -p prints it, not as JSON",
            ),
            (
                "network:",
                "write a section as `[network]`, and = between a key and its value",
            ),
            ("mode = deny", "put it in quotes: `mode = \"deny\"`"),
            ("mode = off", "put it in quotes: `mode = \"off\"`"),
            (
                "access_list.mode = off",
                "put it in quotes: `access_list.mode = \"off\"`",
            ),
            ("log_level = off", "put it in quotes: `log_level = \"off\"`"),
            ("use_x = off", "write `use_x = false`"),
            (
                "a = [1.2.3.4:5, [::1]:5]",
                "put each in quotes: `a = [\"1.2.3.4:5\", \"[::1]:5\"]`",
            ),
            (
                "a = [1.2.3.4, x]",
                "put each in quotes: `a = [\"1.2.3.4\", \"x\"]`",
            ),
            ("log_level = \"info", "the closing \" is missing"),
            ("log_level = “info”", "write straight quotes: \""),
            ("log_level =", "write a value after `log_level =`"),
            ("// a comment", "comments begin with #"),
            ("; a comment", "comments begin with #"),
            (
                "log_level: info",
                "write = between a key and its value: `log_level = \"info\"`",
            ),
            (
                "socket_workers 4",
                "write = between a key and its value: `socket_workers = 4`",
            ),
            (
                "enable_tls: true",
                "write = between a key and its value: `enable_tls = true`",
            ),
        ] {
            assert_eq!(hint("", line).as_deref(), Some(expected), "{line}");
        }
    }

    #[test]
    fn other_lines_get_no_hint() {
        for line in [
            "",
            "=",
            "[network",
            "???",
            "this is not TOML",
            "a = {b = }",
            "ü = x",
        ] {
            assert_eq!(hint("", line), None, "{line}");
        }
    }
}
