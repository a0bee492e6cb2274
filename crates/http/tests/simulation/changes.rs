//! What operators change while requests are on their way: the access list, and the certificate.

use std::collections::BTreeSet;

use aquatic_http_protocol::BodySize;
use aquatic_test_support::certificates::Certificates;
use aquatic_test_support::wire::Wire;
use aquatic_types::InfoHash;
use fastrand::Rng;

use super::link::Answer;
use super::requests::{Meaning, Request, TORRENTS, torrent};
use super::world::World;

impl World {
    /// Another access list is in force from now on.
    pub(crate) fn replace_list(&mut self) {
        let listed = some_torrents(&mut self.rng);
        self.lists.replace(listed);
        let mut links = self.links.values();
        let is_amidst = links.any(|link| !link.delivered_open().is_empty());
        self.tally
            .note_if("reloads of the list with requests on their way", is_amidst);
    }

    /// New connections get another certificate from now on, or the reload fails.
    pub(crate) fn change_certificate(&mut self) {
        if let Some(certificates) = &mut self.certificates {
            certificates.change(&mut self.rng, &mut self.tally, |tls| tls.reload());
        }
    }

    /// Which certificate is in force.
    pub(crate) fn certificate(&self) -> usize {
        self.certificates.as_ref().map_or(0, Certificates::version)
    }

    /// What a client speaks over.
    pub(crate) fn wire(&mut self) -> Wire {
        match &self.certificates {
            Some(certificates) => certificates.client(&mut self.rng),
            None => Wire::plain(),
        }
    }

    /// A client reads. Returns the answers that are whole.
    pub(crate) fn read(&mut self, key: usize, bytes: &[u8]) -> Vec<Answer> {
        let link = self.links.get_mut(&key).expect("somebody who reads");
        let (answers, handshake) = link.receive(bytes, self.lists.version());
        if let Some(certificates) = &self.certificates {
            if let Some(handshake) = &handshake {
                certificates.check(handshake, &mut self.tally);
            }
            if link.wire.began() < Some(certificates.version()) {
                let what = "answers over connections with an earlier certificate";
                self.tally.add(what, answers.len() as u64);
            }
        }
        answers
    }

    /// What an announce is that a tracker looks at now.
    pub(crate) fn denied_if_so(&self, request: Request) -> Request {
        match &request.meaning {
            Meaning::Announce(announce, _) if !self.lists.allows(&announce.torrent) => {
                request.denied()
            }
            _ => request,
        }
    }

    /// Whether the torrent of an announce was allowed is seen from its answer, and must agree with
    /// a list that was in force since the announce came.
    pub(crate) fn judge(&mut self, answer: Answer) -> Answer {
        let torrents = answer.request.torrents();
        if answer.since < self.lists.version() && !torrents.is_empty() {
            self.tally.note("requests on their way at a reload");
            let mut torrents = torrents.iter();
            let is_doubtful = torrents.any(|it| self.lists.is_doubtful(answer.since, it));
            let what = "requests on their way at a reload that decides about them";
            self.tally.note_if(what, is_doubtful);
        }
        let Meaning::Announce(announce, _) = &answer.request.meaning else {
            return answer;
        };
        let is_denied = match answer.request.omits_body {
            true => matches!(answer.head.body, BodySize::Known(_)),
            false => contains(&answer.body, b"torrent not allowed"),
        };
        self.lists
            .check(answer.since, &announce.torrent, !is_denied);
        match is_denied {
            true => Answer {
                request: answer.request.denied(),
                ..answer
            },
            false => answer,
        }
    }
}

pub(crate) fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// About half of all.
pub(crate) fn some_torrents(rng: &mut Rng) -> BTreeSet<InfoHash> {
    let all = (0..TORRENTS).map(torrent);
    all.filter(|_| rng.bool()).collect()
}
