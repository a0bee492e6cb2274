//! What the document of clusters tells operators to write: its blocks of code, as they stand there.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::workspace;

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
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read() -> Result<Self> {
        let path = workspace::root()?.join("documents/clustering.md");
        let page = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(Self {
            blocks: blocks(&page),
        })
    }

    /// The only block of this language that begins so.
    fn block(&self, language: &str, start: &str) -> Result<&str> {
        let fits = |it: &&Block| it.language == language && it.text.starts_with(start);
        let mut found = self.blocks.iter().filter(fits);
        let block = found.next().with_context(|| format!("no {start} there"))?;
        ensure!(found.next().is_none(), "more than one {start}");
        Ok(&block.text)
    }

    /// The commands that make certificates.
    ///
    /// # Errors
    /// When they are not there.
    pub fn certificates(&self) -> Result<&str> {
        self.block("sh", "new=")
    }

    /// What is set in the kernels of all machines, and to what.
    ///
    /// # Errors
    /// When it is not there.
    pub fn kernel(&self) -> Result<(&str, &str)> {
        let command = self.block("sh", "echo net.")?;
        let setting = command.strip_prefix("echo ").context("echo")?;
        let (setting, _) = setting.split_once(" > ").context("a file")?;
        setting.split_once('=').context("a value")
    }

    /// The configuration of the server of one machine.
    ///
    /// # Errors
    /// When the page does not have its parts.
    pub fn server(&self, machine: u8) -> Result<String> {
        let server = self.block("text", "server_name: nats-1\n")?;
        let server = server.replace("nats-1", &format!("nats-{machine}"));
        let authorization = self.block("text", "authorization {\n")?;
        let (before, rest) = authorization.split_once("users = [\n").context("users")?;
        let (user, after) = rest.rsplit_once("\n  ]").context("the end of users")?;
        let users: Vec<_> = (1..=MACHINES)
            .map(|number| user.replace("tracker-1", &format!("tracker-{number}")))
            .collect();
        let users = users.join("\n");
        Ok(format!("{server}{before}users = [\n{users}\n  ]{after}"))
    }

    /// Who is let in by a server that the first tracker and a back end use.
    ///
    /// # Errors
    /// When it is not there.
    pub fn authorization_of_hooks(&self) -> Result<String> {
        let authorization = self.block("text", "authorization {\n")?;
        let back_end = self.block("text", "{ user: back-end,")?;
        let (users, after) = authorization.rsplit_once("\n  ]").context("users")?;
        Ok(format!("{users}\n{back_end}\n  ]{after}"))
    }

    /// A back end, in Python.
    ///
    /// # Errors
    /// When it is not there.
    pub fn back_end(&self) -> Result<&str> {
        self.block("python", "import asyncio")
    }

    /// The configuration of the tracker of one machine: the nearest server first.
    ///
    /// # Errors
    /// When it is not there.
    pub fn tracker(&self, machine: u8) -> Result<String> {
        let tracker = self.block("toml", "log_level = \"info\"\n")?;
        let text = tracker.replace("\"tracker-1\"", &format!("\"tracker-{machine}\""));
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
        Ok(lines.collect())
    }

    /// What the tracker of one machine shows to the servers.
    ///
    /// # Errors
    /// When it is not there.
    pub fn credentials(&self, machine: u8) -> Result<String> {
        let credentials = self.block("text", "tracker-1\n")?;
        Ok(credentials.replace("tracker-1", &format!("tracker-{machine}")))
    }
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
        let document = Document::read().unwrap();
        let tracker = document.tracker(2).unwrap();
        let servers = "servers = [\"tls://192.0.2.2:4222\", \"tls://192.0.2.3:4222\", \
                       \"tls://192.0.2.1:4222\"]\nnode = \"tracker-2\"\n";
        assert!(tracker.contains(servers), "{tracker}");
        assert!(document.server(3).unwrap().contains("user: tracker-2,"));
    }
}
