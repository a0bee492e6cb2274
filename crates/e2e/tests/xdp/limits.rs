//! The program serves whom the tracker serves, and no more.

use std::fs;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aquatic_e2e::Family;
use aquatic_e2e::ask::{announce_request, connect_request};
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::lab::Lab;
use aquatic_e2e::wait;
use nix::sys::signal::Signal;

use crate::stage::{
    FILTER_AT_BRIDGE, LIMIT, Place, Plan, announce, connect_once, connected, connection_id, until,
};

/// Requests of a burst.
const REQUESTS: u32 = 400;

/// After the last answer of a burst.
const QUIET: Duration = Duration::from_secs(1);

#[test]
fn denied_networks_are_not_answered_until_a_reload_says_otherwise() {
    let Some(lab) = Lab::for_programs(2).unwrap() else {
        return;
    };
    let [guest, other] = [lab.guest(0), lab.guest(1)];
    let folder = Folder::new().unwrap();
    let list = folder.path().join("denied.txt");
    for (family, network, elsewhere) in [
        (Family::V4, "10.77.0.2/32", "192.0.2.0/24"),
        (Family::V6, "2001:db8:77::2/128", "2001:db8:78::/48"),
    ] {
        fs::write(&list, format!("{network}\n")).unwrap();
        let plan = Plan {
            rest: format!("[access_list]\nnetworks_deny_path = {list:?}\n"),
            ..Plan::new(lab.hub(), family, FILTER_AT_BRIDGE)
        };
        let tracker = plan.start().unwrap();
        tracker.wait_until_guarded(other).unwrap();
        let client = tracker.client(guest).unwrap();
        let before = tracker.counts([
            ("aquatic_handled_in_kernel_total", 4.0),
            ("aquatic_dropped_total{reason=network_denied}", 3.0),
            ("aquatic_dropped_total", 3.0),
            ("aquatic_responses_total{type=connect}", 1.0),
        ]);
        for _ in 0..3 {
            assert_eq!(connect_once(&client).unwrap(), None);
        }
        connection_id(&tracker.client(other).unwrap()).unwrap();
        tracker.wait_for_growth(&before.unwrap()).unwrap();

        fs::write(&list, format!("{elsewhere}\n")).unwrap();
        tracker.signal(Signal::SIGUSR1).unwrap();
        until("it is allowed", || Ok(connect_once(&client)?.is_some())).unwrap();
        client.announce(&announce(1)).unwrap();

        fs::write(&list, format!("{elsewhere}\n{network}\n")).unwrap();
        tracker.signal(Signal::SIGUSR1).unwrap();
        until(
            "it is denied again",
            || Ok(connect_once(&client)?.is_none()),
        )
        .unwrap();
        connection_id(&tracker.client(other).unwrap()).unwrap();
        tracker.stop().unwrap();
    }
}

/// The program counts connect requests, and the tracker announces: of one account.
#[test]
fn a_client_has_one_account() {
    const PER_SECOND: u32 = 50;
    /// These are served; what comes of the others is what is left.
    const FIRST: u32 = 30;
    for family in [Family::V4, Family::V6] {
        let Some(lab) = Lab::for_programs(1).unwrap() else {
            return;
        };
        let guest = lab.guest(0);
        let plan = Plan {
            rest: format!("[limits]\nrequests_per_second_per_ip = {PER_SECOND}\n"),
            ..Plan::new(lab.hub(), family, FILTER_AT_BRIDGE)
        };
        let tracker = plan.start().unwrap();
        tracker.wait_until_guarded(guest).unwrap();
        let id = tracker.client(guest).unwrap().connect().unwrap();
        let burst = Burst::new(&tracker, guest).unwrap();
        let dropped = || tracker.count("aquatic_dropped_total").unwrap();
        let connects = |count: u32| (0..count).map(connect_request);
        let announces =
            |count: u32| (0..count).map(|number| announce_request(id, number, &announce(1)));
        for connects_are_first in [true, false] {
            // Until all that was asked before is paid for.
            burst.answers().unwrap();
            let limited = || tracker.count("aquatic_dropped_total{reason=request_rate}");
            let before = (limited().unwrap(), dropped());
            let is_over = |answered: u32| {
                let unanswered = f64::from(FIRST + REQUESTS - answered);
                Ok(limited()? == before.0 + unanswered && dropped() == before.1 + unanswered)
            };
            let (answered, time) = if connects_are_first {
                burst.ask_after(connects(FIRST), announces(REQUESTS), is_over)
            } else {
                burst.ask_after(announces(FIRST), connects(REQUESTS), is_over)
            }
            .unwrap();
            // A second's worth at once, then the rate. Two accounts would give each as much.
            let most = f64::from(PER_SECOND) * (1.0 + time.as_secs_f64()) + 1.0;
            assert!(
                (f64::from(PER_SECOND)..=most).contains(&f64::from(answered)),
                "{answered} in {time:?}"
            );
        }
        tracker.stop().unwrap();
    }
}

/// Whoever forges the address of somebody else has few answers sent there.
#[test]
fn so_many_connects_are_answered_and_no_more() {
    const PER_SECOND: u32 = 5;
    for family in [Family::V4, Family::V6] {
        let Some(lab) = Lab::for_programs(1).unwrap() else {
            return;
        };
        let network = format!("{FILTER_AT_BRIDGE}xdp_answers_per_second = {PER_SECOND}\n");
        let tracker = Plan::new(lab.hub(), family, &network).start().unwrap();
        let burst = Burst::new(&tracker, lab.guest(0)).unwrap();
        until("the program works", || {
            burst.ask((0..REQUESTS).map(connect_request))?;
            Ok(tracker.count("aquatic_dropped_total{reason=answer_rate}")? > 0.0)
        })
        .unwrap();
        tracker.settle(lab.guest(0)).unwrap();

        let samples = [
            "aquatic_handled_in_kernel_total",
            "aquatic_dropped_total{reason=answer_rate}",
        ];
        let before = samples.map(|selector| tracker.count(selector).unwrap());
        let [answered, announces, errors] = burst.ask((0..REQUESTS).map(connect_request)).unwrap();
        assert_eq!((announces, errors), (0, 0));
        // By each of the CPUs that the sender is on, in each of the seconds that it takes.
        assert!((PER_SECOND..REQUESTS / 2).contains(&answered), "{answered}");
        let counts = [REQUESTS, REQUESTS - answered].map(f64::from);
        until("all are counted", || {
            let now = samples.map(|selector| tracker.count(selector));
            let grown = now
                .into_iter()
                .zip(before)
                .map(|(now, before)| Ok(now? - before));
            Ok(grown.collect::<Result<Vec<_>>>()? == counts)
        })
        .unwrap();
        tracker.stop().unwrap();
    }
}

/// Wrong ids are not told so, if the configuration says so, and what is no request is dropped.
#[test]
fn what_is_wrong_is_dropped() {
    for family in [Family::V4, Family::V6] {
        let Some(lab) = Lab::for_programs(1).unwrap() else {
            return;
        };
        let network = format!("{FILTER_AT_BRIDGE}xdp_errors_per_second = 0\n");
        let tracker = Plan::new(lab.hub(), family, &network).start().unwrap();
        tracker.wait_until_guarded(lab.guest(0)).unwrap();
        let before = tracker.counts([
            ("aquatic_handled_in_kernel_total", 5.0),
            ("aquatic_requests_by_type_total{type=announce}", 3.0),
            ("aquatic_dropped_total{reason=forged_id}", 2.0),
            ("aquatic_dropped_total{reason=too_short}", 1.0),
            ("aquatic_dropped_total{reason=unknown_action}", 1.0),
            ("aquatic_refused_total", 0.0),
            ("aquatic_responses_total{type=announce}", 1.0),
        ]);
        let client = tracker.client(lab.guest(0)).unwrap();
        let id = connection_id(&client).unwrap();
        let good = announce_request(id, 1, &announce(1));
        let mut unknown = good.clone();
        unknown[11] = 7;
        for wrong in [
            announce_request(id ^ 1, 1, &announce(1)),
            announce_request(id ^ 1 << 47, 1, &announce(1)),
            good[..97].to_vec(),
            unknown,
        ] {
            assert_eq!(client.ask_once(&wrong).unwrap(), None);
        }
        assert_eq!(client.answer_to(&good).unwrap()[..4], [0, 0, 0, 1]);
        tracker.wait_for_growth(&before.unwrap()).unwrap();
        tracker.stop().unwrap();
    }
}

/// Sends many requests without waiting for answers.
struct Burst(UdpSocket);

impl Burst {
    fn new(tracker: &Place, guest: &Host) -> Result<Self> {
        let socket = connected(tracker, guest)?;
        socket.set_read_timeout(Some(QUIET))?;
        Ok(Self(socket))
    }

    /// How many are answered: connects, announces, and with an error.
    fn ask(&self, requests: impl Iterator<Item = Vec<u8>>) -> Result<[u32; 3]> {
        for request in requests {
            self.0.send(&request)?;
        }
        self.answers()
    }

    /// Asks for the others when all of the first ones have been answered, and waits until so many
    /// are that it is over. How many are, and the time until the last answer.
    #[expect(
        clippy::disallowed_methods,
        reason = "an account fills with time, and a burst may take long"
    )]
    fn ask_after(
        &self,
        first: impl Iterator<Item = Vec<u8>>,
        others: impl Iterator<Item = Vec<u8>>,
        is_over: impl Fn(u32) -> Result<bool>,
    ) -> Result<(u32, Duration)> {
        let start = Instant::now();
        let mut sent = 0;
        for request in first {
            self.0.send(&request)?;
            sent += 1;
        }
        let (mut answered, mut time) = (0, Duration::ZERO);
        let mut look = |most| {
            while answered < most
                && let Some(action) = self.answer()
            {
                ensure!(action < 2, "an error");
                answered += 1;
                time = start.elapsed();
            }
            Ok((answered, time))
        };
        // Not a second longer, in which the account would fill.
        wait::until("the first are answered", LIMIT, || {
            Ok((look(sent)?.0 == sent).then_some(()))
        })?;
        for request in others {
            self.0.send(&request)?;
        }
        wait::until("all the others are answered or counted", LIMIT, || {
            Ok(is_over(look(u32::MAX)?.0)?.then_some(()))
        })?;
        look(u32::MAX)
    }

    /// Until none has come for a second.
    fn answers(&self) -> Result<[u32; 3]> {
        let mut answers = [0; 3];
        while let Some(place) = self.answer() {
            answers[place] += 1;
        }
        Ok(answers)
    }

    /// The action of one, or 2 for an error; nothing if none comes for a second.
    fn answer(&self) -> Option<usize> {
        let mut buffer = [0; 2048];
        let bytes = self.0.recv(&mut buffer).ok()?;
        Some(match buffer[..bytes] {
            [0, 0, 0, action @ (0 | 1), ..] => usize::from(action),
            _ => 2,
        })
    }
}
