//! What clients notice while a node is cut off from its server without a word, and how soon all is
//! known after.

use crate::cluster::interruption::{Course, Cut, Interruption, parse_refresh_or_0};
use crate::cluster::outage::tell_return;
use crate::cluster::server::Log;
use crate::cluster::{Context, Table, to_f64};

/// How to measure it.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// partition: announces per second of new peers at each of two nodes.
    #[arg(long, value_name = "RATE", default_value_t = 1_000,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub partition_rate: u32,
    /// partition: for how long the second node is cut off. Less than half a minute is noticed by
    /// nobody.
    #[arg(long, value_name = "SECONDS", default_value_t = 600,
        value_parser = clap::value_parser!(u32).range(1..=1_100))]
    pub partition_seconds: u32,
    /// partition: seconds within which each peer is published again, a power of two. 0: the
    /// default.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = parse_refresh_or_0)]
    pub partition_refresh: u32,
    /// partition: the server keeps no log.
    #[arg(long)]
    pub partition_without_log: bool,
}

impl Options {
    pub(crate) fn run(&self, context: &Context<'_>) -> anyhow::Result<Table> {
        let interruption = Interruption {
            rate: self.partition_rate,
            seconds: self.partition_seconds,
            refresh: self.partition_refresh,
            log: match self.partition_without_log {
                true => Log::Absent,
                false => Log::Kept,
            },
        };
        let course = interruption.run(Cut::Connection, context)?;
        let mut table = Table::new("partition");
        let Course {
            answers,
            before,
            during,
            after,
            ..
        } = &course;
        for (when, range) in [("before", before), ("during", during), ("after", after)] {
            answers.part(range.clone()).tell(when, &mut table)?;
        }
        table.add("refused", "answers", to_f64(answers.refused));
        let most = "most that waited to be published at a node";
        table.add(most, "MiB", course.buffered_mebibytes);
        tell_return("the end", &[course], &mut table);
        Ok(table)
    }
}
