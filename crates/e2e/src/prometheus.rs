//! Prometheus, which most operators have look at their trackers.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::folder::Folder;
use crate::host::Host;
use crate::process::Process;
use crate::{Family, wait};

const START_LIMIT: Duration = Duration::from_secs(20);

/// A Prometheus that runs.
#[derive(Debug)]
pub struct Prometheus {
    address: SocketAddr,
    _process: Process,
}

impl Prometheus {
    /// Starts one that asks `tracker` for metrics every second, under this job's name, and goes by
    /// these alert rules.
    ///
    /// # Errors
    /// When it is not installed or does not listen in time.
    pub fn start(folder: &Folder, job: &str, tracker: SocketAddr, rules: &Path) -> Result<Self> {
        let host = Host::loopback();
        let address = SocketAddr::new(host.ip(Family::V4), host.free_port()?);
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n\
             - {{job_name: {job}, static_configs: [{{targets: ['{tracker}']}}]}}\n",
            rules.display()
        );
        let config_path = folder.path().join("prometheus.yml");
        fs::write(&config_path, config).context("write the configuration of Prometheus")?;
        let mut command = host.command("prometheus");
        command.arg(format!("--config.file={}", config_path.display()));
        let data = folder.path().join("prometheus");
        command.arg(format!("--storage.tsdb.path={}", data.display()));
        command.arg(format!("--web.listen-address={address}"));
        let mut process = Process::start("prometheus", folder, command)?;
        wait::until("Prometheus listens", START_LIMIT, || {
            process.check_alive()?;
            Ok(TcpStream::connect(address).ok())
        })?;
        let prometheus = Self {
            address,
            _process: process,
        };
        // It listens before it has read its data, and then has no answer to anything.
        wait::until("Prometheus answers", START_LIMIT, || {
            Ok(prometheus.get("query", &[("query", "1")]).ok())
        })?;
        Ok(prometheus)
    }

    /// What it finds for an expression: the rows of an instant vector.
    ///
    /// # Errors
    /// When it is not an expression, or Prometheus does not answer.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let answer = self.get("query", &[("query", expression)])?;
        let result = answer["data"]["result"].as_array();
        Ok(result.context("no result")?.clone())
    }

    /// The alerts that it knows by its rules, and what became of them.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn alerts(&self) -> Result<Vec<Value>> {
        let answer = self.get("rules", &[])?;
        let groups = answer["data"]["groups"].as_array().context("no groups")?;
        let rules = groups.iter().filter_map(|group| group["rules"].as_array());
        Ok(rules.flatten().cloned().collect())
    }

    fn get(&self, what: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let mut command = Command::new("curl");
        command.args(["--disable", "--silent", "--show-error", "--max-time", "10"]);
        command.args(["--get"]);
        for (name, value) in parameters {
            command.args(["--data-urlencode", &format!("{name}={value}")]);
        }
        command.arg(format!("http://{}/api/v1/{what}", self.address));
        let output = command.output().context("cannot start curl")?;
        let reason = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?}: {reason}");
        let answer: Value = serde_json::from_slice(&output.stdout).context("no JSON")?;
        ensure!(answer["status"] == "success", "{parameters:?}: {answer}");
        Ok(answer)
    }
}
