//! Bounds on what strangers can make the tracker hold or do.

use std::net::Ipv4Addr;

use aquatic_daemon::clock::Clock;
use aquatic_test_support::metrics;
use aquatic_test_support::wait::until;
use aquatic_types::IpFamily;

use super::client::Client;
use super::setup::on_every_setup;

#[test]
fn requests_of_an_address_are_limited() {
    const SENT: u16 = 300;
    on_every_setup(|setup| {
        let clock = Clock::start();
        let daemon = setup.start_with_metrics("limits.requests_per_second_per_ip = 20");
        for (family, ip_version) in IpFamily::ALL.into_iter().zip(["4", "6"]) {
            let client = Client::stranger(&daemon, family);
            for _ in 0..SENT {
                client.send(&client.connect_request());
            }
            let counters = [
                format!("aquatic_dropped_total{{reason=request_rate,ip_version={ip_version}}}"),
                format!("aquatic_responses_total{{type=connect,ip_version={ip_version}}}"),
            ];
            let answers = until("all requests are counted", || {
                let samples = metrics::scrape(&daemon);
                let [dropped, answered] = counters
                    .each_ref()
                    .map(|counter| metrics::sum(&samples, counter));
                (dropped + answered == f64::from(SENT)).then_some(answered)
            });
            // A second's worth at once, then the rate.
            let answers_max = 21.0 + 20.0 * clock.elapsed().as_secs_f64();
            assert!((20.0..=answers_max).contains(&answers), "{answers} answers");
            assert_eq!(
                f64::from(u16::try_from(client.received().len()).unwrap()),
                answers
            );
        }
        daemon.wait_for_warning(
            "requests not served, whose client sends too many: ",
            "`limits.requests_per_second_per_ip`",
        );
        let neighbour = Ipv4Addr::new(127, 0, 0, 2).into();
        Client::between(neighbour, daemon.address(IpFamily::V4)).connect();
    });
}
