//! What the servers know a tracker by, out of a file of which the content decides what it is.

use std::fmt::{self, Debug, Formatter};

use anyhow::{Context, bail, ensure};
use async_nats::ConnectOptions;

/// A seed has this many letters and digits (RFC 4648, base 32): two bytes for its kind, 32 of the
/// key and two of a checksum.
const SEED_LENGTH: usize = 58;

/// What is shown to a server. It is never printed.
#[derive(Clone, Default)]
pub(super) enum Credentials {
    /// Nothing.
    #[default]
    None,
    /// The content of a `.creds` file: a JWT, and the seed of the key that it is for.
    Jwt(String),
    /// The seed of a key.
    Seed(String),
    User {
        name: String,
        password: String,
    },
    Token(String),
}

impl Credentials {
    /// Of the content of a file.
    ///
    /// # Errors
    /// Says what is wrong, without showing what is in it.
    pub(super) fn parse(content: &[u8]) -> anyhow::Result<Self> {
        let text = str::from_utf8(content).context("it is not text")?;
        if text.contains("-----BEGIN NATS USER JWT") {
            ConnectOptions::new()
                .credentials(text)
                .map_err(|_| anyhow::anyhow!(DAMAGED))?;
            return Ok(Self::Jwt(text.to_owned()));
        }
        ensure!(
            !text.contains("-----BEGIN"),
            "it begins like a key or a certificate, and not like a .creds file, which has a NATS \
             USER JWT: a key for TLS is `cluster.tls_private_key_file`"
        );
        let lines: Vec<&str> = text.trim_end().lines().collect();
        match lines[..] {
            [] => bail!("it is empty"),
            [line] => Self::of_one_line(line.trim()),
            [name, password] => {
                ensure!(!name.is_empty(), "its first line, the user, is empty");
                Ok(Self::User {
                    name: name.to_owned(),
                    password: password.to_owned(),
                })
            }
            _ => bail!(
                "it has {} lines: a .creds file has a NATS USER JWT in it, a user and a password \
                 are two lines, and an NKey seed or a token is one",
                lines.len()
            ),
        }
    }

    fn of_one_line(line: &str) -> anyhow::Result<Self> {
        let is_base_32 = |byte: u8| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte);
        let is_seed = line.len() == SEED_LENGTH && line.starts_with('S');
        if !is_seed || !line.bytes().all(is_base_32) {
            return Ok(Self::Token(line.to_owned()));
        }
        ensure!(
            line.starts_with("SU"),
            "it has an NKey seed that is not one of a user: those begin with SU"
        );
        // The library checks a seed when it connects, or as a part of this.
        let file = format!(
            "-----BEGIN NATS USER JWT-----\nnone\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{line}\n------END USER NKEY SEED------\n"
        );
        let checked = ConnectOptions::new().credentials(&file);
        ensure!(
            checked.is_ok(),
            "it has an NKey seed of which a letter is wrong: the checksum does not fit"
        );
        Ok(Self::Seed(line.to_owned()))
    }

    /// Options to connect with them.
    pub(super) fn options(&self) -> ConnectOptions {
        let options = ConnectOptions::new();
        match self.clone() {
            Self::None => options,
            // It was parsed before.
            Self::Jwt(file) => options.credentials(&file).unwrap_or_default(),
            Self::Seed(seed) => options.nkey(seed),
            Self::User { name, password } => options.user_and_password(name, password),
            Self::Token(token) => options.token(token),
        }
    }

    /// What kind they are of.
    fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Jwt(_) => "JWT and NKey",
            Self::Seed(_) => "NKey",
            Self::User { .. } => "user and password",
            Self::Token(_) => "token",
        }
    }
}

const DAMAGED: &str = "it begins like a .creds file, but has no JWT with an NKey seed after it: \
                       copy it again as `nsc generate creds` has made it";

impl Debug for Credentials {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the examples of the library.
    const SEED: &str = "SUANQDPB2RUOE4ETUA26CNX7FUKE5ZZKFCQIIW63OX225F2CO7UEXTM7ZY";

    fn creds(seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\neyJ0eXAiOiJqd3QifQ.e30.c2ln\n\
             ------END NATS USER JWT------\n\n************ IMPORTANT ************\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }

    #[test]
    fn the_content_says_what_it_is() {
        for (content, kind) in [
            (creds(SEED), "JWT and NKey"),
            (creds(SEED).replace('\n', "\r\n"), "JWT and NKey"),
            (SEED.to_owned(), "NKey"),
            (format!("{SEED}\r\n"), "NKey"),
            ("a user\na password\n".to_owned(), "user and password"),
            ("a token\n".to_owned(), "token"),
            // Too short for a seed.
            ("SU7".to_owned(), "token"),
        ] {
            let parsed = Credentials::parse(content.as_bytes()).unwrap();
            assert_eq!(format!("{parsed:?}"), kind);
        }
        match Credentials::parse(b"us er\r\n pass\n").unwrap() {
            Credentials::User { name, password } => {
                assert_eq!((&*name, &*password), ("us er", " pass"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_wrong_is_said_and_no_secret_is_shown() {
        let wrong = SEED.replace("ZZ", "ZY");
        let account = format!("SA{}", &SEED[2..]);
        for (content, reason) in [
            (String::new(), "it is empty"),
            ("\n".to_owned(), "it is empty"),
            (creds(&wrong), "no JWT with an NKey seed"),
            (
                creds(SEED).split("****").next().unwrap().to_owned(),
                "no JWT with",
            ),
            (wrong, "the checksum does not fit"),
            (account, "not one of a user"),
            ("\npass".to_owned(), "its first line, the user, is empty"),
            ("a\nb\nc".to_owned(), "it has 3 lines"),
            (
                "-----BEGIN PRIVATE KEY-----\n".to_owned(),
                "`cluster.tls_private_key_file`",
            ),
        ] {
            let error = Credentials::parse(content.as_bytes()).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains(reason), "{error}");
            assert!(!error.contains(&SEED[10..20]), "{error}");
        }
        let error = Credentials::parse(b"\xff\xfe").unwrap_err().to_string();
        assert_eq!(error, "it is not text");
    }
}
