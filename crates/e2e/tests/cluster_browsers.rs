//! Browsers at different machines of a cluster, in networks of their own: what they have for each
//! other goes by way of both trackers, and the file from one to the other. Around a cut they meet
//! as other clients do, and across it as soon as it is healed.

use std::time::Duration;

use anyhow::Result;
use aquatic_e2e::clients::npm;
use aquatic_e2e::clients::page::{Page, Pages};
use aquatic_e2e::cluster_lab::{Cluster, Cut};
use aquatic_e2e::folder::Folder;

/// Pages ask again so often: who waits for another one at a node that was cut off meets it then.
const BROWSERS: &str = "
[ws]
enabled = true

[ws.network]
address = \"0.0.0.0:3001\"

[ws.protocol]
peer_announce_interval = 15
";

/// Many times what it takes to tell the others where nothing is cut.
const CUT_PERIOD: Duration = Duration::from_secs(6);

/// On one side of the cut are the first machine and the third, on the other one is the second.
const FIRST: usize = 0;
const ALONE: usize = 1;
const THIRD: usize = 2;
const ALL: [usize; 3] = [FIRST, ALONE, THIRD];

/// The cluster, and where its trackers are asked what they count.
struct Stage {
    cluster: Cluster,
    folder: Folder,
}

impl Stage {
    fn url(machine: usize) -> String {
        format!("ws://192.0.2.{}:3001", machine + 1)
    }

    fn wait(&self, machines: &[usize], page: &Page, counts: (u32, u32)) -> Result<()> {
        self.stays(machines, page, counts, Duration::ZERO)
    }

    /// For so long at each of them.
    fn stays(
        &self,
        machines: &[usize],
        page: &Page,
        counts: (u32, u32),
        period: Duration,
    ) -> Result<()> {
        for machine in machines {
            let (host, url) = (self.cluster.machines[*machine].host(), Self::url(*machine));
            npm::wait_for_counts(&self.folder, host, &url, page.torrent(), counts, period)?;
        }
        Ok(())
    }

    fn play(&self, [outside, inside]: [&Pages<'_>; 2]) -> Result<()> {
        let [first, alone, third] = ALL.map(Self::url);
        let old = outside.seed(&first, "cluster-old")?;
        self.wait(&ALL, &old, (1, 0))?;
        let mut across = inside.download(&alone, "cluster-across", &old)?;
        across.wait_for_content()?;
        self.wait(&ALL, &old, (2, 0))?;

        self.cluster.machines[ALONE].cut(Cut::Both)?;
        let outer = outside.seed(&first, "cluster-outer")?;
        self.wait(&[FIRST, THIRD], &outer, (1, 0))?;
        let mut around = outside.download(&third, "cluster-around", &outer)?;
        around.wait_for_content()?;
        self.wait(&[FIRST, THIRD], &outer, (2, 0))?;
        let inner = inside.seed(&alone, "cluster-inner")?;
        let mut waiting = inside.download(&alone, "cluster-waiting", &outer)?;
        self.wait(&[ALONE], &outer, (0, 1))?;
        self.stays(&[ALONE], &outer, (0, 1), CUT_PERIOD)?;
        self.wait(&[ALONE], &inner, (1, 0))?;
        self.wait(&[FIRST, THIRD], &inner, (0, 0))?;

        self.cluster.machines[ALONE].heal()?;
        waiting.wait_for_content()?;
        self.wait(&ALL, &outer, (3, 0))?;
        let mut new = outside.download(&third, "cluster-new", &inner)?;
        new.wait_for_content()?;
        self.wait(&ALL, &inner, (2, 0))?;
        // Nobody says goodbye: pages are closed, and their sockets with them.
        new.stop()?;
        self.wait(&ALL, &inner, (1, 0))?;
        for page in [old, across, outer, around, inner, waiting] {
            page.stop()?;
        }
        Ok(())
    }
}

#[test]
fn browsers_meet_across_machines_around_a_cut_and_after_it() {
    let Some(mut cluster) = Cluster::new(2).unwrap() else {
        return;
    };
    for machine in &cluster.machines {
        machine.configure(BROWSERS).unwrap();
    }
    cluster.start().unwrap();
    let hosts = [0, 1].map(|number| cluster.client(number).clone());
    let [outside, inside] = hosts.each_ref().map(|host| Pages::start(host).unwrap());
    let folder = Folder::new().unwrap();
    let stage = Stage { cluster, folder };
    stage.play([&outside, &inside]).unwrap();
    let machines = stage.cluster.machines.iter().map(|machine| machine.host());
    let known: Vec<_> = machines.chain(&hosts).collect();
    for pages in [outside, inside] {
        pages.close(&known).unwrap();
    }
}
