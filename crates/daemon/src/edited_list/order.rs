//! What an operator asks to be changed in a list, from JSON, whatever it lists. Pure.

use std::fmt::{self, Display, Formatter, Write};

use simd_json::{Node, StaticNode};

/// How many mistakes are told at once.
const MISTAKES_MAX: usize = 10;

/// What is to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change<E> {
    /// Some entries.
    Edit {
        /// These are there from now on, as they are here.
        add: Vec<E>,
        /// These are not, whatever was said about them.
        remove: Vec<E>,
    },
    /// All entries.
    Replace(Vec<E>),
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order<E> {
    pub(crate) change: Change<E>,
    /// The file is to be written, too.
    pub(crate) write: bool,
}

/// What one is asked for with.
#[derive(Debug)]
pub(crate) struct Form<E> {
    /// How to write it.
    pub(crate) example: &'static str,
    /// What its entries must be.
    pub(crate) entries: &'static str,
    /// Reads one.
    pub(crate) parse: fn(&str, Place) -> Result<E, String>,
    /// No part of what was sent is told again.
    pub(crate) is_secret: bool,
}

/// Where in the body an entry is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    member: &'static str,
    /// In a list.
    index: Option<usize>,
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "`{}[{index}]`", self.member),
            None => write!(f, "`{}`", self.member),
        }
    }
}

impl<E> Form<E> {
    /// Reads the body of a request, which is of no use afterwards.
    ///
    /// # Errors
    /// If its form is wrong. What is wrong with entries is noted; those are left out.
    pub(crate) fn read(
        &self,
        body: &mut [u8],
        mistakes: &mut Mistakes,
    ) -> Result<Order<E>, String> {
        let example = self.example;
        let tape = simd_json::to_tape(body).map_err(|error| match self.is_secret {
            true => format!("not JSON (near byte {}): {example}", error.index()),
            false => format!("not JSON ({error}): {example}"),
        })?;
        let mut nodes = tape.0.iter();
        let Some(Node::Object { len, .. }) = nodes.next() else {
            return Err(example.to_owned());
        };
        let (mut add, mut remove, mut replace, mut write) = (None, None, None, None);
        for _ in 0..*len {
            let Some(Node::String(member)) = nodes.next() else {
                return Err(example.to_owned());
            };
            let mut read = |member| self.read_entries(member, &mut nodes, mistakes);
            let is_first = match *member {
                "add" => put(&mut add, read("add")?),
                "remove" => put(&mut remove, read("remove")?),
                "replace" => put(&mut replace, read("replace")?),
                "write" => match nodes.next() {
                    Some(Node::Static(StaticNode::Bool(value))) => put(&mut write, *value),
                    _ => return Err("`write` must be true or false".to_owned()),
                },
                // It can be an entry: of an object that has them as its members.
                _ if self.is_secret => {
                    return Err(format!("there is an unknown member: {example}"));
                }
                other => return Err(format!("there is no `{}`: {example}", other.escape_debug())),
            };
            if !is_first {
                return Err(format!("`{member}` is there twice"));
            }
        }
        let change = match (replace, add, remove) {
            (None, None, None) => return Err(format!("nothing is to be changed: {example}")),
            (Some(replace), None, None) => Change::Replace(replace),
            (Some(_), ..) => {
                return Err("`replace` cannot be together with `add` or `remove`".to_owned());
            }
            (None, add, remove) => Change::Edit {
                add: add.unwrap_or_default(),
                remove: remove.unwrap_or_default(),
            },
        };
        let write = write.unwrap_or(false);
        Ok(Order { change, write })
    }

    /// A list of entries, or one.
    fn read_entries<'a, 'i: 'a>(
        &self,
        member: &'static str,
        nodes: &mut impl Iterator<Item = &'a Node<'i>>,
        mistakes: &mut Mistakes,
    ) -> Result<Vec<E>, String> {
        let what = || format!("`{member}` must be {}", self.entries);
        let mut parse = |text, index| {
            let place = Place { member, index };
            let parsed = (self.parse)(text, place);
            parsed.map_err(|mistake| mistakes.add(place, mistake)).ok()
        };
        let count = match nodes.next() {
            Some(Node::String(text)) => return Ok(parse(text, None).into_iter().collect()),
            Some(Node::Array { len, .. }) => *len,
            _ => return Err(what()),
        };
        let mut entries = Vec::with_capacity(count);
        for index in 0..count {
            match nodes.next() {
                Some(Node::String(text)) => entries.extend(parse(text, Some(index))),
                _ => return Err(format!("`{member}[{index}]` is no string: {}", what())),
            }
        }
        Ok(entries)
    }
}

/// Returns whether there was none.
fn put<T>(place: &mut Option<T>, value: T) -> bool {
    place.replace(value).is_none()
}

/// What is wrong with entries.
#[derive(Debug, Default)]
pub(crate) struct Mistakes {
    count: usize,
    told: String,
}

impl Mistakes {
    /// Notes one.
    pub(crate) fn add(&mut self, place: Place, what: impl Display) {
        self.count += 1;
        if self.count <= MISTAKES_MAX {
            let separator = if self.told.is_empty() { "" } else { "; " };
            // Writing to a string does not fail.
            let _ = write!(self.told, "{separator}{place}: {what}");
        }
    }

    /// All that are wrong, up to [`MISTAKES_MAX`], if any are.
    pub(crate) fn into_result(self) -> Result<(), String> {
        match self.count {
            0 => Ok(()),
            1..=MISTAKES_MAX => Err(self.told),
            count => Err(format!("{}; and {} more", self.told, count - MISTAKES_MAX)),
        }
    }
}
