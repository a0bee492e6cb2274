//! Real clients around a cut: while one machine of three is cut off, clients of the two others find
//! each other, and so do its own; and afterwards all of them do.

use std::time::Duration;

use anyhow::Result;
use aquatic_e2e::Family;
use aquatic_e2e::clients::{Client, Kind, Role};
use aquatic_e2e::cluster_lab::{COMPLETE_LIMIT, Cluster, Cut};
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::torrent::Torrent;
use aquatic_e2e::transfer::unless_clients_fail;
use aquatic_e2e::wait;

/// Clients announce when they please, some seconds after the event at most; once they have lost a
/// packet, later.
const CLIENTS_LIMIT: Duration = Duration::from_secs(120);

/// What is announced is not told of across the cut for so long: many times what it takes otherwise.
const CUT_PERIOD: Duration = Duration::from_secs(6);

/// Who waits for others at a node that was cut off hears of them when it announces again.
const INTERVALS: &str = "
[udp.protocol]
peer_announce_interval = 20

[http.protocol]
peer_announce_interval = 20
min_announce_interval = 10
";

/// On one side of the cut are the first machine and the third, on the other one is the second.
const FIRST: usize = 0;
const ALONE: usize = 1;
const THIRD: usize = 2;

/// A client that stays until it is stopped, in a folder of its own.
struct Resident {
    client: Client,
    _folder: Folder,
}

impl Resident {
    fn start(kind: Kind, role: Role, host: &Host, torrent: &Torrent) -> Result<Self> {
        let folder = Folder::new()?;
        let client = Client::start(kind, role, &folder, host, Family::V4, torrent)?;
        Ok(Self {
            client,
            _folder: folder,
        })
    }
}

/// A cluster, where its users are, and what is done to the machine in the middle.
struct Stage<'a> {
    cluster: Cluster,
    /// Users of the first machine and the third.
    outside: [Host; 2],
    /// Users of the second.
    inside: [Host; 2],
    cut: &'a dyn Fn(&Cluster) -> Result<()>,
    heal: &'a dyn Fn(&Cluster) -> Result<()>,
}

impl Stage<'_> {
    fn torrent(&self, machine: usize, scheme: &str) -> Torrent {
        Torrent::random(&self.cluster.machines[machine].url(scheme))
    }

    fn at(&self, torrent: &Torrent, machine: usize, scheme: &str) -> Torrent {
        torrent.at(&self.cluster.machines[machine].url(scheme))
    }

    fn wait(&mut self, machines: &[usize], torrent: &Torrent, counts: (u32, u32)) -> Result<()> {
        for machine in machines {
            let machine = &mut self.cluster.machines[*machine];
            machine.wait_for(torrent.info_hash(), counts, CLIENTS_LIMIT)?;
        }
        Ok(())
    }

    fn wait_for_all(&mut self, torrent: &Torrent, counts: (u32, u32)) -> Result<()> {
        self.wait(&[FIRST, ALONE, THIRD], torrent, counts)
    }

    fn counts(&self, machine: usize, torrent: &Torrent) -> Result<(u32, u32)> {
        let counts = self.cluster.machines[machine].counts(torrent.info_hash())?;
        Ok((counts.seeders, counts.leechers))
    }

    /// Whether so many are known there: so it has told the last one of the others.
    fn knows(&self, machine: usize, torrent: &Torrent, counts: (u32, u32)) -> bool {
        self.counts(machine, torrent).is_ok_and(|it| it == counts)
    }

    fn play(&mut self) -> Result<()> {
        // If clients have failed in the cut, it all begins again.
        (self.heal)(&self.cluster)?;
        let old = self.torrent(FIRST, "udp");
        let mut residents = self.two_meet_across(&old)?;

        (self.cut)(&self.cluster)?;
        let there = self.at(&old, THIRD, "udp");
        let third = &self.outside[1];
        let mut leecher = Resident::start(Kind::Transmission, Role::Leecher, third, &there)?;
        let client = &mut leecher.client;
        client.wait_for_content(&old, || self.knows(THIRD, &old, (2, 1)))?;
        self.wait(&[FIRST, THIRD], &old, (3, 0))?;
        residents.push(leecher);
        let outer = self.torrent(FIRST, "http");
        residents.push(self.two_meet_outside(&outer)?);
        let inner = self.torrent(ALONE, "udp");
        residents.extend(self.two_meet_inside(&inner)?);
        let there = self.at(&outer, ALONE, "http");
        let host = &self.inside[1];
        // Transmission asks again when it is told to; aria2 after two minutes at the earliest.
        let waiting = Resident::start(Kind::Transmission, Role::Leecher, host, &there)?;
        self.wait(&[ALONE], &outer, (0, 1))?;
        wait::hold(CUT_PERIOD, || {
            assert_eq!(self.counts(ALONE, &old)?, (2, 0), "nothing was cut");
            assert_eq!(self.counts(ALONE, &outer)?, (0, 1), "nothing was cut");
            for machine in [FIRST, THIRD] {
                assert_eq!(self.counts(machine, &outer)?, (1, 0), "nothing was cut");
                assert_eq!(self.counts(machine, &inner)?, (0, 0), "nothing was cut");
            }
            Ok(())
        })?;

        (self.heal)(&self.cluster)?;
        self.all_meet([&outer, &inner], waiting)?;
        self.wait_for_all(&old, (3, 0))?;
        residents.into_iter().try_for_each(|it| it.client.stop())
    }

    /// Clients of the first machine and the second, before the cut. Both stay.
    fn two_meet_across(&mut self, torrent: &Torrent) -> Result<Vec<Resident>> {
        let [outside, inside] = [&self.outside[0], &self.inside[0]].map(Host::clone);
        let seeder = Resident::start(Kind::Aria2, Role::Seeder, &outside, torrent)?;
        self.wait_for_all(torrent, (1, 0))?;
        let there = self.at(torrent, ALONE, "http");
        let kind = Kind::Libtorrent;
        let mut leecher = Resident::start(kind, Role::Leecher, &inside, &there)?;
        let client = &mut leecher.client;
        client.wait_for_content(torrent, || self.knows(ALONE, torrent, (1, 1)))?;
        self.wait_for_all(torrent, (2, 0))?;
        Ok(vec![seeder, leecher])
    }

    /// New clients of the two machines that are connected. The seeder stays.
    fn two_meet_outside(&mut self, torrent: &Torrent) -> Result<Resident> {
        let [first, third] = self.outside.clone();
        // libtorrent announces again after five minutes at the earliest: who finds it later finds
        // it because of what the tracker of the other one says.
        let seeder = Resident::start(Kind::Libtorrent, Role::Seeder, &first, torrent)?;
        self.wait(&[FIRST, THIRD], torrent, (1, 0))?;
        let there = self.at(torrent, THIRD, "udp");
        let mut leecher = Resident::start(Kind::Aria2, Role::Leecher, &third, &there)?;
        let client = &mut leecher.client;
        client.wait_for_content(torrent, || self.knows(THIRD, torrent, (1, 1)))?;
        self.wait(&[FIRST, THIRD], torrent, (2, 0))?;
        leecher.client.stop()?;
        self.wait(&[FIRST, THIRD], torrent, (1, 0))?;
        Ok(seeder)
    }

    /// New clients of the machine that is cut off. Both stay.
    fn two_meet_inside(&mut self, torrent: &Torrent) -> Result<[Resident; 2]> {
        let seeder = Resident::start(Kind::Aria2, Role::Seeder, &self.inside[0], torrent)?;
        self.wait(&[ALONE], torrent, (1, 0))?;
        let there = self.at(torrent, ALONE, "http");
        let kind = Kind::Libtorrent;
        let mut leecher = Resident::start(kind, Role::Leecher, &self.inside[1], &there)?;
        let client = &mut leecher.client;
        client.wait_for_content(torrent, || self.knows(ALONE, torrent, (1, 1)))?;
        self.wait(&[ALONE], torrent, (2, 0))?;
        Ok([seeder, leecher])
    }

    /// Who has stayed at the machine that was cut off finds a client of another one, and a new
    /// client of another one finds those who have stayed.
    fn all_meet(&mut self, [outer, inner]: [&Torrent; 2], mut waiting: Resident) -> Result<()> {
        self.cluster
            .wait_for_all(inner.info_hash(), (2, 0), COMPLETE_LIMIT)?;
        let there = self.at(inner, THIRD, "udp");
        let third = &self.outside[1];
        let mut new = Resident::start(Kind::Aria2, Role::Leecher, third, &there)?;
        let client = &mut new.client;
        client.wait_for_content(inner, || self.knows(THIRD, inner, (2, 1)))?;
        self.wait_for_all(inner, (3, 0))?;
        // It was counted long before there was somebody to tell it of.
        waiting.client.wait_for_content(outer, || false)?;
        self.wait_for_all(outer, (2, 0))?;
        new.client.stop()?;
        waiting.client.stop()
    }
}

/// A cluster, and clients with machines of their own.
fn cluster(clients: u8) -> Option<Cluster> {
    let mut cluster = Cluster::new(clients).unwrap()?;
    for machine in &cluster.machines {
        machine.configure(INTERVALS).unwrap();
    }
    cluster.start().unwrap();
    Some(cluster)
}

/// Nobody reaches it, so that its clients are on the machine itself.
#[test]
fn clients_find_each_other_around_a_machine_without_its_cable() {
    let Some(cluster) = cluster(2) else {
        return;
    };
    let mut stage = Stage {
        outside: [0, 1].map(|it| cluster.client(it).clone()),
        inside: [ALONE; 2].map(|it| cluster.machines[it].host().clone()),
        cluster,
        cut: &|cluster| cluster.set_link(ALONE, false),
        heal: &|cluster| cluster.set_link(ALONE, true),
    };
    unless_clients_fail(|| stage.play());
}

/// All clients can reach each other, and do not know it.
#[test]
fn clients_find_each_other_around_a_node_that_is_cut_off_from_the_others() {
    let Some(cluster) = cluster(4) else {
        return;
    };
    let mut stage = Stage {
        outside: [0, 1].map(|it| cluster.client(it).clone()),
        inside: [2, 3].map(|it| cluster.client(it).clone()),
        cluster,
        cut: &|cluster| cluster.machines[ALONE].cut(Cut::Both),
        heal: &|cluster| cluster.machines[ALONE].heal(),
    };
    unless_clients_fail(|| stage.play());
}
