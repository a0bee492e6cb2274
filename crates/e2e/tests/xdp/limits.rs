//! The program serves whom the tracker serves, and no more.

use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use anyhow::Result;
use aquatic_e2e::Family;
use aquatic_e2e::ask::{announce_request, connect_request};
use aquatic_e2e::folder::Folder;
use aquatic_e2e::host::Host;
use aquatic_e2e::lab::Lab;
use nix::sys::signal::Signal;

use crate::stage::{FILTER_AT_BRIDGE, Place, Plan, announce, connect_once, connected, until};

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
        connect_once(&tracker.client(other).unwrap())
            .unwrap()
            .unwrap();
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
        connect_once(&tracker.client(other).unwrap())
            .unwrap()
            .unwrap();
        tracker.stop().unwrap();
    }
}

/// The program counts connect requests, and the tracker announces: of one account.
#[test]
fn a_client_has_one_account() {
    const PER_SECOND: u32 = 50;
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
        // Until all of it is paid for.
        burst.answers().unwrap();
        let dropped = || tracker.count("aquatic_dropped_total").unwrap();
        let dropped_before = dropped();
        let requests = (0..REQUESTS).map(|number| match number % 2 {
            0 => connect_request(number),
            _ => announce_request(id, number, &announce(1)),
        });
        let [connects, announces, errors] = burst.ask(requests).unwrap();
        let answered = connects + announces;
        assert_eq!(errors, 0);
        assert!(connects > 0 && announces > 0, "{connects}, {announces}");
        // A second's worth at once, and what more the time of the burst is worth. Two accounts
        // would give twice as much.
        let most = PER_SECOND * 19 / 10;
        assert!(
            (PER_SECOND..most).contains(&answered),
            "{connects} + {announces}"
        );
        let unanswered = f64::from(REQUESTS - answered);
        until("all the others are counted", || {
            let limited = tracker.count("aquatic_dropped_total{reason=request_rate}")?;
            Ok(limited == unanswered && dropped() == dropped_before + unanswered)
        })
        .unwrap();
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
        let id = connect_once(&client).unwrap().unwrap();
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
        assert_eq!(client.ask_once(&good).unwrap().unwrap()[..4], [0, 0, 0, 1]);
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

    /// Until none has come for a second.
    fn answers(&self) -> Result<[u32; 3]> {
        let (mut answers, mut buffer) = ([0; 3], [0; 2048]);
        while let Ok(bytes) = self.0.recv(&mut buffer) {
            let place = match buffer[..bytes] {
                [0, 0, 0, action @ (0 | 1), ..] => usize::from(action),
                _ => 2,
            };
            answers[place] += 1;
        }
        Ok(answers)
    }
}
