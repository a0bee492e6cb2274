//! Two programs in turn under the same load, without a plan: what a change of the code costs.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::child::Interrupt;
use crate::contest::Contest;
use crate::figures::Figures;
use crate::find::Folders;
use crate::materials::RecvBuffers;
use crate::order;
use crate::pin;
use crate::plan::{Contender, Set};
use crate::statistics::Spread;
use crate::trackers::{Protocol, Tracker};

/// Where load testers send their load if nothing else is said.
const DEFAULT_ADDRESS: &str = "127.0.0.1:3000";

/// What is compared.
#[derive(Clone, Debug, clap::Args)]
pub struct Comparison {
    /// What the load tester speaks.
    pub protocol: Protocol,
    /// A tracker's program, which takes -c CONFIG.
    pub a: PathBuf,
    /// Its configuration file. It listens where the load is sent to.
    pub a_config: PathBuf,
    /// The other tracker's program.
    pub b: PathBuf,
    /// Its configuration file.
    pub b_config: PathBuf,
    /// Pairs of runs.
    #[arg(short = 'n', long, default_value_t = 3)]
    pub pairs: u32,
    /// Configuration file of the load tester. Without: its own default.
    #[arg(short, long)]
    pub load: Option<PathBuf>,
    /// CPUs of the tracker, such as 0 or 0,2-3.
    #[arg(short, long, default_value = "0")]
    pub cpus: String,
    /// CPUs of the load tester.
    #[arg(long, default_value = "1")]
    pub tester_cpus: String,
}

/// What the load file says about the run.
struct Load {
    settings: toml::Table,
    address: SocketAddr,
    seconds: u32,
    warm_up_seconds: u32,
}

impl Load {
    /// Takes what the run decides out of the settings.
    fn read(text: &str) -> anyhow::Result<Self> {
        let mut settings: toml::Table = text.parse().context("the load tester's file")?;
        let address = match settings.remove("server_address") {
            Some(toml::Value::String(address)) => address,
            _ => DEFAULT_ADDRESS.to_owned(),
        };
        let mut seconds = |key: &str, default: u32| {
            let value = settings.remove(key).and_then(|value| value.as_integer());
            value
                .and_then(|value| u32::try_from(value).ok())
                .unwrap_or(default)
        };
        // The defaults are the testers'.
        let (duration, warm_up_seconds) = (
            seconds("duration_seconds", 30),
            seconds("warm_up_seconds", 5),
        );
        Ok(Self {
            address: address.parse().context("server_address of the load")?,
            seconds: duration,
            warm_up_seconds,
            settings,
        })
    }
}

impl Comparison {
    /// Runs all pairs and prints a line of each run, the ratios, and their median.
    ///
    /// # Errors
    /// If files cannot be read, or no pair has figures.
    pub fn run(&self, folders: &Folders, interrupt: &Interrupt) -> anyhow::Result<()> {
        let text = self.load.as_deref().map(read).transpose()?;
        let load = Load::read(&text.unwrap_or_default())?;
        let tester = folders.tester(self.protocol)?;
        let trackers = [
            tracker("A", &self.a, &self.a_config, self.protocol)?,
            tracker("B", &self.b, &self.b_config, self.protocol)?,
        ];
        let set = Set::of_two(self.protocol, load.settings);
        let cpus = |list: &str| pin::parse(list).map_err(|mistake| anyhow::anyhow!(mistake));
        let _buffers = RecvBuffers::raise();
        println!("{HEAD}");
        let (mut pair, mut ratios) = ([None; 2], Vec::new());
        for turn in order::alternating(2, self.pairs) {
            let tracker = &trackers[turn.contender];
            let contest = Contest {
                set: &set,
                contender: &set.contenders[turn.contender],
                tracker,
                program: Path::new(&tracker.program),
                tester: &tester,
                seconds: load.seconds,
                warm_up_seconds: load.warm_up_seconds,
                tracker_cpus: cpus(&self.cpus)?,
                tester_cpus: cpus(&self.tester_cpus)?,
                address: Some(load.address),
            };
            let done = contest.run(interrupt);
            interrupt.check()?;
            let round = turn.round + 1;
            pair[turn.contender] = match done {
                Ok(figures) => {
                    println!("{}", row(round, &tracker.name, &figures));
                    figures.cpu_micros
                }
                Err(error) => {
                    println!("{round:<5} {:<2} failed: {error:#}", tracker.name);
                    None
                }
            };
            if turn.contender == 1
                && let Some(ratio) = Spread::of_ratios([(pair[0], pair[1])])
            {
                println!("pair {round}: A / B = {:.3}", ratio.median);
                ratios.push(ratio.median);
            }
        }
        let Some(ratios) = Spread::of(ratios) else {
            bail!("no pair has CPU times: longer runs (duration_seconds) or an idler machine help");
        };
        let Spread {
            median,
            min,
            max,
            count,
        } = ratios;
        println!("median A / B = {median:.3} (of {count} pairs, {min:.3} to {max:.3})");
        Ok(())
    }
}

const HEAD: &str = "pair  of CPU µs/answer    in kernel    answers/s   lost";

fn row(round: u32, name: &str, figures: &Figures) -> String {
    let number = |value: Option<f64>| value.unwrap_or(f64::NAN);
    format!(
        "{round:<5} {name:<2} {:>13.3} {:>12.3} {:>12.0} {:>6.0}",
        number(figures.cpu_micros),
        number(figures.kernel_micros),
        number(figures.answers_per_second),
        number(figures.lost)
    )
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn tracker(
    name: &str,
    program: &Path,
    config: &Path,
    protocol: Protocol,
) -> anyhow::Result<Tracker> {
    let program = fs::canonicalize(program);
    let program = program.with_context(|| format!("there is no program {name}"))?;
    // The file itself: paths in it stay what they are to whoever wrote it.
    let config = fs::canonicalize(config);
    let config = config.with_context(|| format!("cannot read the configuration of {name}"))?;
    Ok(Tracker {
        name: name.to_owned(),
        program: program.display().to_string(),
        protocols: vec![protocol],
        arguments: vec!["-c".to_owned(), config.display().to_string()],
        ..Tracker::default()
    })
}

impl Set {
    /// One for two trackers that are called A and B.
    pub(crate) fn of_two(protocol: Protocol, load: toml::Table) -> Self {
        let contender = |name: &str| Contender {
            tracker: name.to_owned(),
            label: String::new(),
            workers: 1,
            swarm_workers: 0,
            cpus: None,
            tester_cpus: None,
        };
        Self {
            name: "compare".to_owned(),
            title: String::new(),
            text: String::new(),
            protocol,
            tls: false,
            contenders: vec![contender("A"), contender("B")],
            load,
            before: None,
            real_time: false,
            rounds: None,
            seconds: None,
            warm_up_seconds: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_run_decides_is_taken_out_of_the_load() {
        let load = Load::read("server_address = \"127.0.0.1:4\"\nduration_seconds = 7\nseed = 2");
        let load = load.unwrap();
        assert_eq!(load.address, "127.0.0.1:4".parse().unwrap());
        assert_eq!((load.seconds, load.warm_up_seconds), (7, 5));
        assert_eq!(load.settings.to_string(), "seed = 2\n");
        let load = Load::read("").unwrap();
        assert_eq!(load.address.to_string(), DEFAULT_ADDRESS);
    }
}
