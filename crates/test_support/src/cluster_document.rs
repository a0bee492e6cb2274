//! What the document of clusters tells operators to write: its blocks of code, as they stand there.

use std::fs;
use std::path::Path;

/// How many machines it is about.
pub const MACHINES: u8 = 3;

/// The page.
#[derive(Debug)]
pub struct Document {
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    language: String,
    text: String,
}

impl Document {
    /// As it is in the source tree.
    #[must_use]
    pub fn read() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = here.join("../../documents/clustering.md");
        let page = fs::read_to_string(&path);
        let page = page.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self {
            blocks: blocks(&page),
        }
    }

    /// The only block of this language that begins so.
    #[track_caller]
    fn block(&self, language: &str, start: &str) -> &str {
        let fits = |it: &&Block| it.language == language && it.text.starts_with(start);
        let found: Vec<_> = self.blocks.iter().filter(fits).collect();
        match found.as_slice() {
            [block] => &block.text,
            blocks => panic!("{} blocks of {language} begin with {start}", blocks.len()),
        }
    }

    /// The commands that make certificates.
    #[must_use]
    pub fn certificates(&self) -> &str {
        self.block("sh", "new=")
    }

    /// What is set in the kernels of all machines, and to what.
    #[must_use]
    pub fn kernel(&self) -> (&str, &str) {
        let command = self.block("sh", "echo net.");
        let setting = command.strip_prefix("echo ").expect("echo");
        let (setting, _) = setting.split_once(" > ").expect("a file");
        setting.split_once('=').expect("a value")
    }

    /// The configuration of the server of one machine.
    #[must_use]
    pub fn server(&self, machine: u8) -> String {
        let server = self.block("text", "server_name: nats-1\n");
        let server = server.replace("nats-1", &format!("nats-{machine}"));
        let trackers: Vec<_> = (1..=MACHINES).map(tracker_name).collect();
        server + &self.authorization(&trackers)
    }

    /// Who is let in by a server that trackers of these names use, and what each of them may do.
    #[must_use]
    pub fn authorization(&self, trackers: &[impl AsRef<str>]) -> String {
        let authorization = self.block("text", "authorization {\n");
        let (before, rest) = authorization.split_once("users = [\n").expect("users");
        let (user, after) = rest.rsplit_once("\n  ]").expect("the end of users");
        let users: Vec<_> = trackers
            .iter()
            .map(|name| user.replace(FIRST_TRACKER, name.as_ref()))
            .collect();
        let users = users.join("\n");
        format!("{before}users = [\n{users}\n  ]{after}")
    }

    /// Who is let in by a server that the first tracker and a back end use.
    #[must_use]
    pub fn authorization_of_hooks(&self) -> String {
        self.authorization_with("{ user: back-end,")
    }

    /// The same for the first tracker and who reads what trackers tell each other.
    #[must_use]
    pub fn authorization_of_reader(&self) -> String {
        self.authorization_with("{ user: reader,")
    }

    /// The first tracker, and the user whose block begins so.
    fn authorization_with(&self, user: &str) -> String {
        let authorization = self.block("text", "authorization {\n");
        let user = self.block("text", user);
        let (users, after) = authorization.rsplit_once("\n  ]").expect("users");
        format!("{users}\n{user}\n  ]{after}")
    }

    /// A back end, in Python.
    #[must_use]
    pub fn back_end(&self) -> &str {
        self.block("python", "import asyncio")
    }

    /// A reader of what trackers tell each other, in Python, of a server at this port.
    #[must_use]
    pub fn reader(&self, port: u16) -> String {
        let reader = self.block("python", "import socket");
        let (before, after) = reader.split_once("4222").expect("the port of a server");
        format!("{before}{port}{after}")
    }

    /// The configuration of the tracker of one machine: the nearest server first.
    #[must_use]
    pub fn tracker(&self, machine: u8) -> String {
        let tracker = self.block("toml", "log_level = \"info\"\n");
        let text = tracker.replace(
            &format!("{FIRST_TRACKER:?}"),
            &format!("{:?}", tracker_name(machine)),
        );
        let others = (1..=MACHINES).cycle().skip(machine.into());
        let order = [machine].into_iter().chain(others).take(MACHINES.into());
        let urls: Vec<_> = order
            .map(|number| format!("\"tls://192.0.2.{number}:4222\""))
            .collect();
        let lines = text
            .lines()
            .map(|line| match line.strip_prefix("servers = ") {
                Some(_) => format!("servers = [{}]\n", urls.join(", ")),
                None => format!("{line}\n"),
            });
        lines.collect()
    }

    /// What the tracker of one machine shows to the servers.
    #[must_use]
    pub fn credentials(&self, machine: u8) -> String {
        self.credentials_of(&tracker_name(machine))
    }

    /// What the tracker of this name does.
    #[must_use]
    pub fn credentials_of(&self, tracker: &str) -> String {
        let credentials = self.block("text", &format!("{FIRST_TRACKER}\n"));
        credentials.replace(FIRST_TRACKER, tracker)
    }
}

/// Stands for all of them there.
const FIRST_TRACKER: &str = "tracker-1";

fn tracker_name(machine: u8) -> String {
    format!("tracker-{machine}")
}

/// Between fences, without what they are indented by.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut indent = None;
    for line in page.lines() {
        let trimmed = line.trim_start();
        match (indent, trimmed.strip_prefix("```")) {
            (None, Some(language)) => {
                indent = Some(line.len() - trimmed.len());
                blocks.push(Block {
                    language: language.to_owned(),
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => indent = None,
            (Some(spaces), None) => {
                if let Some(block) = blocks.last_mut() {
                    block.text += line.get(spaces..).unwrap_or_default();
                    block.text.push('\n');
                }
            }
            (None, None) => {}
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_lose_their_indentation() {
        let page = "a\n  ```toml\n  [x]\n\n    y = 1\n  ```\nb\n```sh\nls\n```\n";
        let found = blocks(page);
        let found: Vec<_> = found.iter().map(|it| (&*it.language, &*it.text)).collect();
        assert_eq!(found, [("toml", "[x]\n\n  y = 1\n"), ("sh", "ls\n")]);
    }

    #[test]
    fn each_tracker_begins_with_its_own_server() {
        let document = Document::read();
        let tracker = document.tracker(2);
        let servers = "servers = [\"tls://192.0.2.2:4222\", \"tls://192.0.2.3:4222\", \
                       \"tls://192.0.2.1:4222\"]\nnode = \"tracker-2\"\n";
        assert!(tracker.contains(servers), "{tracker}");
        assert!(document.server(3).contains("user: tracker-2,"));
    }
    #[test]
    fn each_name_may_do_what_the_first_one_may() {
        let document = Document::read();
        let all = document.authorization(&["a", "b"]);
        assert!(!all.contains("tracker-1"), "{all}");
        let [of_a, of_b] = ["a", "b"].map(|name| document.authorization(&[name]));
        for (one, name) in [(&of_a, "a"), (&of_b, "b")] {
            for part in [
                "user: NAME,",
                "\"aquatic.v1.main.*.NAME\"",
                "\"_INBOX_NAME.>\"",
            ] {
                let part = part.replace("NAME", name);
                assert!(all.contains(&part) && one.contains(&part), "{part}: {all}");
            }
        }
        let users = |text: &str| text.matches("user: ").count();
        assert_eq!((users(&all), users(&of_a), users(&of_b)), (2, 1, 1));
        assert_eq!(
            document.credentials(2),
            document.credentials_of("tracker-2")
        );
    }

    #[test]
    #[should_panic(expected = "0 blocks of toml begin with nothing like that")]
    fn a_block_that_is_not_there_is_told_of() {
        let _ = Document::read().block("toml", "nothing like that");
    }
}
