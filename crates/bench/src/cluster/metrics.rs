//! What a node says about itself: its metrics, as Prometheus reads them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use aquatic_daemon::clock::Clock;

/// How long a node may take to tell its metrics.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Time until it is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// All metrics of a node at one time.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(String);

impl Metrics {
    /// Asks the node whose metrics are served there. While it is busy, or has just started, it may
    /// have no time for this (503): it is asked again, for so long.
    pub(crate) fn fetch(address: SocketAddr, max: Duration) -> anyhow::Result<Self> {
        let clock = Clock::start();
        loop {
            match Self::fetch_once(address) {
                Err(_) if clock.elapsed() < max => thread::sleep(PAUSE),
                done => return done,
            }
        }
    }

    fn fetch_once(address: SocketAddr) -> anyhow::Result<Self> {
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
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    use super::*;

    /// Answers one request after the other.
    fn serve(answers: [&'static str; 2]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let head = lines
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty());
                assert!(head.count() > 1);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        address
    }

    #[test]
    fn a_node_that_is_busy_is_asked_again() {
        let busy = "HTTP/1.1 503 Service Unavailable\r\n\r\ntoo busy\n";
        let address = serve([busy, "HTTP/1.1 200 OK\r\n\r\npeers 3\n"]);
        let metrics = Metrics::fetch(address, Duration::from_secs(60)).unwrap();
        assert_eq!(metrics.sum("peers"), Some(3.0));
        let error = Metrics::fetch(serve([busy, busy]), Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("503"), "{error}");
    }

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
