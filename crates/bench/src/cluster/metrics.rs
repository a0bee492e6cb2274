//! What a node says about itself: its metrics, as Prometheus reads them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

/// How long a node may take to tell its metrics.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// All metrics of a node at one time.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(String);

impl Metrics {
    /// Asks the node whose metrics are served there.
    pub(crate) fn fetch(address: SocketAddr) -> anyhow::Result<Self> {
        let answer = || {
            let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
            stream.set_read_timeout(Some(ANSWER_MAX))?;
            // A node refuses requests to other names: pages of strangers could send these.
            let head = format!("Host: {address}\r\nConnection: close");
            let request = format!("GET /metrics HTTP/1.1\r\n{head}\r\n\r\n");
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        };
        let answer: std::io::Result<String> = answer();
        let answer = answer.with_context(|| format!("the metrics at {address}"))?;
        if !answer.starts_with("HTTP/1.1 200 ") {
            bail!(
                "the metrics at {address}: {}",
                answer.lines().next().unwrap_or_default()
            );
        }
        Ok(Self(answer))
    }

    /// The sum of a metric over all its labels; `None` if there is none of this name.
    pub(crate) fn sum(&self, name: &str) -> Option<f64> {
        let values = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = match rest.strip_prefix('{') {
                Some(labels) => labels.rsplit_once("} ")?.1,
                None => rest.strip_prefix(' ')?,
            };
            value.trim().parse::<f64>().ok()
        });
        values.reduce(|sum, value| sum + value)
    }

    /// The same of a metric that a node of this version must have.
    pub(crate) fn require(&self, name: &str) -> anyhow::Result<f64> {
        self.sum(name)
            .with_context(|| format!("a node has no metric {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        let metrics = Metrics(
            "HTTP/1.1 200 OK\r\n\r\n# TYPE peers gauge\npeers{ip=\"4\",worker=\"0\"} 3\n\
             peers{ip=\"6\",worker=\"0\"} 4.5\npeers_per_torrent{ip=\"4\"} 100\nconnected 1\n"
                .to_owned(),
        );
        assert_eq!(metrics.sum("peers"), Some(7.5));
        assert_eq!(metrics.sum("connected"), Some(1.0));
        assert_eq!(metrics.sum("peer"), None);
        let error = metrics.require("nodes").unwrap_err().to_string();
        assert!(error.contains("nodes"), "{error}");
    }
}
