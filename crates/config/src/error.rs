//! What can be wrong with a configuration file, in words that an operator can act on.

use std::fmt::{self, Display, Formatter};

use crate::family::{Programs, owners};

/// A place in the file, counted from 1 as editors do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Character of the line.
    pub column: usize,
}

impl Position {
    /// Where the byte with the index `offset` stands in `text`.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// The line of `text` in which that byte stands.
    pub(crate) fn line_of(text: &str, offset: usize) -> &str {
        text.lines()
            .nth(Self::of(text, offset).line - 1)
            .unwrap_or_default()
    }
}

impl Display for Position {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// One thing that is wrong with a file. Keys are written with their section: `network.address`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// The text is not TOML.
    Syntax(String),
    /// There is no such key or section.
    Unknown {
        /// Which of the two, as a word.
        what: &'static str,
        /// The key as it stands in the file, or the section in brackets.
        name: String,
        /// One that exists and that may be meant, between backticks.
        suggestion: Option<String>,
    },
    /// There is no such key or section in this program, but in others of the family.
    OfAnotherProgram {
        /// The key, or the section in brackets.
        name: String,
        /// Those that have it.
        programs: Programs,
    },
    /// A section has been given a value as if it were a key.
    NotASection {
        /// The section.
        section: String,
    },
    /// The key exists, but cannot have this value.
    BadValue {
        /// The key.
        key: String,
        /// Its default, if the file leaves it out.
        default: Option<String>,
        /// What is expected.
        reason: String,
    },
    /// A former name of a key or section stands beside its present name.
    BothSpellings {
        /// The former name.
        old: String,
        /// The present name.
        new: String,
    },
}

impl Display for Mistake {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(message) => write!(f, "this is not TOML: {message}"),
            Self::Unknown {
                what,
                name,
                suggestion,
            } => {
                write!(f, "unknown {what} `{name}`")?;
                match suggestion {
                    Some(known) => write!(f, "; did you mean {known}?"),
                    None => write!(f, "; -p prints every {what} that there is"),
                }
            }
            Self::OfAnotherProgram { name, programs } => {
                write!(f, "unknown `{name}`: {}", owners(programs))
            }
            Self::NotASection { section } => {
                write!(
                    f,
                    "`{section}` is a section, not a key: write `[{section}]` above its keys"
                )
            }
            Self::BadValue {
                key,
                default: None,
                reason,
            } => write!(f, "`{key}`: {reason}"),
            Self::BadValue {
                key,
                default: Some(default),
                reason,
            } => {
                let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
                let place = match section {
                    "" => String::new(),
                    section => format!(" in [{section}]"),
                };
                write!(
                    f,
                    "`{name}`{place} (not in the file, so {default}): {reason}"
                )
            }
            Self::BothSpellings { old, new } => {
                write!(
                    f,
                    "`{old}` is the former name of `{new}`, which is set too: remove `{old}`"
                )
            }
        }
    }
}

/// A mistake and where it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `None` if it is about a key that the file leaves out, or about several keys together.
    pub position: Option<Position>,
    /// What is wrong there.
    pub mistake: Mistake,
}

impl Display for Problem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(position) => write!(f, "{position}: {}", self.mistake),
            None => Display::fmt(&self.mistake, f),
        }
    }
}

/// Everything that is wrong with a file, in the order of the file. Displayed one per line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// Whether there are any.
    pub(crate) fn check(problems: Vec<Problem>) -> Result<(), Self> {
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Self { problems }),
        }
    }
}

impl Display for ConfigError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let problems: Vec<_> = self.problems.iter().map(Problem::to_string).collect();
        f.write_str(&problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters() {
        let text = "é = 1\nab = 2\n";
        assert_eq!(Position::of(text, 0), Position { line: 1, column: 1 });
        assert_eq!(Position::of(text, 3), Position { line: 1, column: 3 });
        assert_eq!(Position::of(text, 7), Position { line: 2, column: 1 });
        assert_eq!(Position::of(text, 12), Position { line: 2, column: 6 });
        assert_eq!(Position::of(text, 1000).line, 3);
    }
}
