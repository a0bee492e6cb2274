//! The seeds of simulations: a run that fails can be made again.

/// Runs a simulation with several seeds: 0 and up, `runs` of them unless the environment says
/// otherwise. `SIMULATION_SEED=<seed>` is one run with that seed, and `SIMULATION_RUNS=<number>`
/// another number of runs. A run that fails prints its seed.
///
/// Returns whether there were enough runs that everything should have happened that can.
pub fn for_each_seed(runs: u64, mut run: impl FnMut(u64)) -> bool {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().expect(name))
    };
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_RUNS").unwrap_or(runs),
    };
    for seed in seeds.clone() {
        let _witness = Witness(seed);
        run(seed);
    }
    seeds.end - seeds.start >= runs
}

/// Tells the seed of a run that fails.
struct Witness(u64);

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to replay this run, set SIMULATION_SEED={}", self.0);
        }
    }
}
