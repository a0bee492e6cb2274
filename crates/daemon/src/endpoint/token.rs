//! The word that shows that a client is the operator, or a program of the operator.

use std::fmt::{self, Debug, Formatter};
use std::hint::black_box;
use std::path::Path;

use anyhow::{Context, ensure};

use crate::secret_file;

/// Fewer could be guessed.
const BYTES_MIN: usize = 16;

/// More than anybody needs; a request has to have room for it.
const BYTES_MAX: usize = 1_024;

/// A token. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Reads a file that nobody but its owner can read.
    ///
    /// # Errors
    /// If it is not such a file, or has no token in it; says what to do about that.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        Self::read(path).with_context(|| format!("cannot use the token file {name}"))
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        // One more byte, and a line end, tell a longer file from this.
        let bytes = secret_file::read(path, BYTES_MAX as u64 + 3)?;
        Self::parse(&bytes)
    }

    /// Of the content of a file: the line end is not part of the token.
    ///
    /// # Errors
    /// If it is too short, too long or cannot be sent in a header.
    pub fn parse(content: &[u8]) -> anyhow::Result<Self> {
        let token = content.strip_suffix(b"\n").unwrap_or(content);
        let token = token.strip_suffix(b"\r").unwrap_or(token);
        let how = "make one with `openssl rand -hex 32`";
        ensure!(
            token.len() >= BYTES_MIN,
            "the token in it has {} characters, and needs {BYTES_MIN}: {how}",
            token.len()
        );
        ensure!(
            token.len() <= BYTES_MAX,
            "it has more than {BYTES_MAX} characters: {how}"
        );
        ensure!(
            token.iter().all(|byte| matches!(byte, b' '..=b'~')) && token.trim_ascii() == token,
            "it has to be one line of letters, digits and signs of ASCII: {how}"
        );
        Ok(Self(
            str::from_utf8(token).context("it is not text")?.to_owned(),
        ))
    }

    /// Whether a client has sent this token. How long the comparison takes says nothing about how
    /// much of a wrong one is right.
    pub(super) fn is(&self, word: &str) -> bool {
        let (own, word) = (self.0.as_bytes(), word.as_bytes());
        let pairs = own.iter().zip(word);
        let differences = pairs.fold(0, |all, (own, other)| black_box(all | (own ^ other)));
        differences == 0 && own.len() == word.len()
    }
}

impl Debug for Token {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const WORD: &str = "0123456789abcdef";

    #[test]
    fn only_files_of_the_owner_alone_are_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, format!("{WORD}\n")).unwrap();
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(Token::load(&path).unwrap().is(WORD));
        }
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = format!("{:#}", Token::load(&path).unwrap_err());
            let advice = format!(
                "(its mode is {mode:04o}): run `chmod 600 {}`",
                path.display()
            );
            assert!(error.ends_with(&advice), "{error}");
        }
        let error = format!("{:#}", Token::load(folder.path()).unwrap_err());
        assert!(error.ends_with("it is not a regular file"), "{error}");
        let error = Token::load(&folder.path().join("none")).unwrap_err();
        assert!(
            format!("{error:#}").contains("/none: cannot open it: "),
            "{error:#}"
        );
    }

    #[test]
    fn what_could_be_guessed_or_not_be_sent_is_refused() {
        for content in [WORD.to_owned(), format!("{WORD}\n"), format!("{WORD}\r\n")] {
            assert!(Token::parse(content.as_bytes()).unwrap().is(WORD));
        }
        let long = "x".repeat(BYTES_MAX);
        assert!(Token::parse(long.as_bytes()).unwrap().is(&long));
        for (content, reason) in [
            ("", "has 0 characters, and needs 16"),
            ("0123456789abcde\n", "has 15 characters"),
            ("0123456789abcdef\n\n", "one line"),
            (" 0123456789abcdef", "one line"),
            ("0123456789abcdef\tx", "one line"),
            ("0123456789abcdéf", "one line"),
            (&format!("{long}x"), "more than 1024 characters"),
        ] {
            let error = Token::parse(content.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
