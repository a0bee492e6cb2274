//! Members of WebTorrent swarms, which have no address: they are reached by way of their process.

use aquatic_types::{InfoHash, IpFamily, PeerId, PeerStatus};

use crate::fields::Fields;
use crate::record::{COMPLETED, FINISHED, InvalidRecord, LEFT, Record, SEEDER};

/// It is a client over IPv6.
pub(crate) const IPV6: u8 = 16;

/// A member of a swarm, within the process that it is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it calls itself.
    pub peer_id: PeerId,
    /// The worker that holds its connection.
    pub worker: u16,
    /// The connection, by a number that means something to that worker.
    pub connection: u64,
    /// The client's [network](aquatic_types::client_network).
    pub network: u64,
}

impl Member {
    pub(crate) const BYTES: usize = 20 + 2 + 8 + 8;

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.peer_id.0);
        out.extend_from_slice(&self.worker.to_be_bytes());
        out.extend_from_slice(&self.connection.to_be_bytes());
        out.extend_from_slice(&self.network.to_be_bytes());
    }

    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            peer_id: PeerId(fields.take()?),
            worker: fields.take_u16()?,
            connection: fields.take_u64()?,
            network: fields.take_u64()?,
        })
    }
}

/// The flag of a family.
pub(crate) fn family_flag(family: IpFamily) -> u8 {
    match family {
        IpFamily::V4 => 0,
        IpFamily::V6 => IPV6,
    }
}

/// The family that flags tell.
pub(crate) fn family_in(flags: u8) -> IpFamily {
    match flags & IPV6 {
        0 => IpFamily::V4,
        _ => IpFamily::V6,
    }
}

/// What a process tells of a member of a WebTorrent swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberRecord {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Who it is.
    pub member: Member,
    /// The family of the client.
    pub family: IpFamily,
    /// Seeder, leecher, or no longer in the swarm.
    pub status: PeerStatus,
    /// It has just completed its download, which counts one more.
    pub has_completed: bool,
    /// Its download was counted before, or it has been a seeder.
    pub is_finished: bool,
    /// For how many seconds after the batch was written it holds, if nothing more is told. For a
    /// member that has left: for how long it would have held.
    pub seconds_left: u16,
}

impl Record for MemberRecord {
    const BYTES: usize = 20 + Member::BYTES + 1 + 2;

    fn write(&self, out: &mut Vec<u8>) {
        let status = match self.status {
            PeerStatus::Seeder => SEEDER,
            PeerStatus::Leecher => 0,
            PeerStatus::Stopped => LEFT,
        };
        let completed = if self.has_completed { COMPLETED } else { 0 };
        let finished = if self.is_finished { FINISHED } else { 0 };
        out.extend_from_slice(&self.info_hash.0);
        self.member.write(out);
        out.push(status | completed | finished | family_flag(self.family));
        out.extend_from_slice(&self.seconds_left.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Result<Self, InvalidRecord> {
        let mut fields = Fields(bytes);
        let mut read = || {
            let info_hash = InfoHash(fields.take()?);
            let member = Member::read(&mut fields)?;
            let flags = fields.take_u8()?;
            Some(Self {
                info_hash,
                member,
                family: family_in(flags),
                status: match (flags & LEFT != 0, flags & SEEDER != 0) {
                    (true, _) => PeerStatus::Stopped,
                    (false, true) => PeerStatus::Seeder,
                    (false, false) => PeerStatus::Leecher,
                },
                has_completed: flags & COMPLETED != 0,
                is_finished: flags & FINISHED != 0,
                seconds_left: fields.take_u16()?,
            })
        };
        read().ok_or(InvalidRecord::TooShort)
    }
}
