//! A node that says what it must not, or what cannot be: nothing comes of it.

use aquatic_cluster::bus::Channel;
use aquatic_cluster::nodes::NodeState;
use aquatic_swarm_log::{
    AnswerLetter, BatchBody, BatchHeader, Kind, Letter, LetterBuffer, Member, MemberRecord,
    OfferLetter, RecordBuffer, Siblings, Withdrawal,
};
use aquatic_types::{IpFamily, PeerStatus, client_network};
use aquatic_ws::cluster::counters::{LetterKind, LetterOutcome, MemberOutcome};

use super::client::{Got, offer_id, peer_id, torrent};
use super::cluster::{Cluster, Fate, config};

/// Two honest nodes, and one (number 2) that has no clients and publishes what it likes.
struct World {
    cluster: Cluster,
    anna: usize,
    bob: usize,
    sequence: u64,
}

/// As Anna is told of, who is the first one at her worker.
fn member_anna() -> Member {
    Member {
        peer_id: peer_id(b'a'),
        worker: 0,
        connection: 0,
        network: client_network([10, 0, 0, 1].into()),
    }
}

/// Bob, who would be the first one at the worker of another node, too.
fn member_bob() -> Member {
    Member {
        peer_id: peer_id(b'b'),
        network: client_network([10, 0, 0, 2].into()),
        ..member_anna()
    }
}

impl World {
    fn new() -> Self {
        let mut cluster = Cluster::new(3, &config(1, 0));
        let [anna, bob] = [0, 1].map(|node| cluster.connect(node));
        cluster.announce(anna, b'a', &[]);
        cluster.settle();
        cluster.announce(bob, b'b', &[]);
        for client in [anna, bob] {
            cluster.take(client);
        }
        Self {
            cluster,
            anna,
            bob,
            sequence: 0,
        }
    }

    /// The liar sends this to node 0.
    fn lie(&mut self, channel: Channel, body: &BatchBody) {
        self.bring(channel, body);
        self.cluster.settle();
    }

    fn bring(&mut self, channel: Channel, body: &BatchBody) {
        self.sequence += 1;
        let header = BatchHeader {
            process: 2,
            sequence: self.sequence,
            unix_millis: u64::from(self.cluster.now_at(0).seconds.0) * 1_000,
        };
        let mut bytes = Vec::new();
        body.write(&mut bytes, &header);
        self.cluster.send(2, 0, channel, bytes);
    }

    fn letter(&mut self, letter: Letter<'_>) {
        let mut bytes = Vec::new();
        letter.write(&mut bytes);
        self.written(&bytes);
    }

    fn written(&mut self, letter: &[u8]) {
        let mut parcel = LetterBuffer::default();
        assert!(parcel.push(letter));
        self.lie(Channel::Parcels, &parcel.take());
    }

    fn record(&mut self, record: MemberRecord) {
        let mut records = RecordBuffer::new(Kind::MEMBERS);
        assert!(records.push(&record));
        self.lie(Channel::Members, &records.take());
    }

    fn count(&self, kind: LetterKind, outcome: LetterOutcome) -> u64 {
        self.cluster.letters(0, kind, outcome)
    }

    /// Nobody has got anything, and all can do what they could before.
    fn is_well(&mut self) {
        let Self { anna, bob, .. } = *self;
        assert_eq!(self.cluster.take(anna), []);
        assert_eq!(self.cluster.take(bob), []);
        self.cluster.announce(bob, b'b', &[200]);
        let offer = Got::Offer(b'b', 200, "\"offer 200\"".to_owned());
        assert_eq!(self.cluster.take(anna), [offer]);
        assert_eq!(self.cluster.take(bob).len(), 1);
        self.cluster.answer(anna, b'a', b'b', 200);
        assert!(matches!(
            &*self.cluster.take(bob),
            [Got::Answer(b'a', 200, _)]
        ));
    }
}

fn offer(json: &str) -> OfferLetter<'_> {
    OfferLetter {
        info_hash: torrent(1),
        offer_id: offer_id(9).0,
        offerer: stranger(),
        family: IpFamily::V4,
        receiver: member_anna(),
        name: 7,
        json,
    }
}

fn stranger() -> Member {
    Member {
        peer_id: peer_id(b'x'),
        worker: 3,
        connection: 5,
        network: 7,
    }
}

fn record(member: Member) -> MemberRecord {
    MemberRecord {
        info_hash: torrent(1),
        member,
        family: IpFamily::V4,
        status: PeerStatus::Leecher,
        has_completed: false,
        is_finished: false,
        seconds_left: 200,
    }
}

/// So that the tests below are not about something else that is wrong.
#[test]
fn without_a_lie_it_would_be_heard() {
    let mut world = World::new();
    world.letter(Letter::Offer(offer("{}")));
    let got = world.cluster.take(world.anna);
    assert_eq!(got, [Got::Offer(b'x', 9, "{}".to_owned())]);
    world.record(record(stranger()));
    assert_eq!(world.cluster.peers(0), 3);
}

#[test]
fn an_offer_is_json_of_usual_size() {
    let mut world = World::new();
    let giant = format!("\"{}\"", "x".repeat(900_000));
    let deep = "[".repeat(10_000);
    let jsons = ["", "{", "{}}", "{},\"action\":\"x\"", "nul", &deep, &giant];
    for json in jsons {
        world.letter(Letter::Offer(offer(json)));
    }
    assert_eq!(world.count(LetterKind::Offer, LetterOutcome::Invalid), 6);
    assert_eq!(world.count(LetterKind::Offer, LetterOutcome::TooLarge), 1);
    let mut garbled = Vec::new();
    Letter::Offer(offer("\"x\"")).write(&mut garbled);
    let text = garbled.len() - 2;
    garbled[text] = 0xff;
    world.written(&garbled);
    world.written(&[9, 0, 0, 0, 1, 1]);
    assert_eq!(world.count(LetterKind::Other, LetterOutcome::Invalid), 2);
    world.is_well();
}

#[test]
fn an_offer_is_for_somebody_who_is_there() {
    let mut world = World::new();
    let elsewhere = |change: fn(&mut OfferLetter<'_>)| {
        let mut offer = offer("{}");
        change(&mut offer);
        Letter::Offer(offer)
    };
    for lie in [
        elsewhere(|it| it.receiver.worker = 1),
        elsewhere(|it| it.receiver.connection = 1),
        elsewhere(|it| it.receiver.connection = 1 << 32),
        elsewhere(|it| it.receiver.peer_id = peer_id(b'z')),
        elsewhere(|it| it.receiver.network = 1),
        elsewhere(|it| it.info_hash = torrent(2)),
    ] {
        world.letter(lie);
    }
    assert_eq!(world.count(LetterKind::Offer, LetterOutcome::Refused), 6);
    for lie in [
        elsewhere(|it| it.receiver.worker = u16::MAX),
        elsewhere(|it| it.receiver.connection = u64::MAX),
        elsewhere(|it| it.offerer.worker = 1_024),
        elsewhere(|it| it.offerer.connection = 1 << 30),
    ] {
        world.letter(lie);
    }
    assert_eq!(world.count(LetterKind::Offer, LetterOutcome::Invalid), 4);
    world.is_well();
}

/// Only who has been handed an offer can answer it, and by the node that he is connected to.
#[test]
fn an_answer_is_to_an_offer_that_was_handed_to_the_answerer() {
    let mut world = World::new();
    // Anna makes an offer, which Bob is handed.
    let (anna, bob) = (world.anna, world.bob);
    world.cluster.announce(anna, b'a', &[5]);
    assert_eq!(world.cluster.offers(bob), [(b'a', 5)]);
    world.cluster.take(anna);
    let answerers = [
        stranger(),
        member_anna(),
        // Bob, as if he were connected to the liar.
        member_bob(),
    ];
    let siblings = [b'b'; 20];
    for answerer in answerers {
        for siblings in [Siblings::NONE, Siblings::new(&siblings).unwrap()] {
            world.letter(Letter::Answer(AnswerLetter {
                info_hash: torrent(1),
                offer_id: offer_id(5).0,
                offerer: peer_id(b'a'),
                answerer,
                family: IpFamily::V6,
                siblings,
                json: "{}",
            }));
        }
    }
    assert_eq!(world.count(LetterKind::Answer, LetterOutcome::Refused), 6);
    // Nor can anybody else withdraw it.
    for receiver in answerers {
        for name in [0, 7, u64::MAX] {
            world.letter(Letter::Withdrawal(Withdrawal {
                info_hash: torrent(1),
                receiver,
                name,
            }));
        }
    }
    let withdrawals = world.count(LetterKind::Withdrawal, LetterOutcome::Refused);
    assert_eq!(withdrawals, 9);
    assert_eq!(world.cluster.take(anna), []);
    world.cluster.answer(bob, b'b', b'a', 5);
    assert!(matches!(
        &*world.cluster.take(anna),
        [Got::Answer(b'b', 5, _)]
    ));
    world.is_well();
}

#[test]
fn a_node_tells_of_its_own_members_only_and_of_such_as_can_be() {
    let mut world = World::new();
    for member in [
        Member {
            worker: 1_024,
            ..stranger()
        },
        Member {
            connection: u64::MAX,
            ..stranger()
        },
        Member {
            connection: 1 << 28,
            ..stranger()
        },
    ] {
        world.record(record(member));
    }
    let invalid = world.cluster.members(0, MemberOutcome::Invalid);
    assert_eq!((invalid, world.cluster.peers(0)), (3, 2));
    // As if Anna, or Bob, had left: they are not its members.
    for member in [member_anna(), member_bob()] {
        world.record(MemberRecord {
            status: PeerStatus::Stopped,
            ..record(member)
        });
    }
    assert_eq!(world.cluster.peers(0), 2);
    world.is_well();
}

/// However long it says, nobody is believed for ever.
#[test]
fn no_member_is_believed_for_ever() {
    let mut world = World::new();
    world.record(MemberRecord {
        seconds_left: u16::MAX,
        ..record(stranger())
    });
    world.cluster.pass(100);
    assert_eq!(world.cluster.peers(0), 3);
    for _ in 0..33 {
        world.cluster.micros += 1_000 * 1_000_000;
        world.cluster.maintain(0);
    }
    // The others are silent, as far as their trackers know, and have gone as well.
    assert_eq!(world.cluster.peers(0), 0);
}

#[test]
fn who_has_gone_is_not_heard() {
    let mut world = World::new();
    world.cluster.think(0, 2, NodeState::Gone);
    world.record(record(stranger()));
    world.letter(Letter::Offer(offer("{}")));
    assert_eq!(world.cluster.peers(0), 2);
    world.is_well();
}

/// What does not fit onto the way to a worker that is busy is closed at both nodes.
#[test]
fn more_offers_than_a_worker_takes_are_withdrawn() {
    let mut cluster = Cluster::new(3, &config(1, 1));
    let anna = cluster.connect(0);
    cluster.announce(anna, b'a', &[]);
    cluster.take(anna);
    let json = format!("\"{}\"", "x".repeat(16_000));
    let mut world = World {
        cluster,
        anna,
        bob: anna,
        sequence: 0,
    };
    for number in 0..600 {
        let mut offer = offer(&json);
        offer.offerer.connection = number;
        offer.offer_id = offer_id(if number < 599 { 1 } else { 2 }).0;
        let (mut bytes, mut parcel) = (Vec::new(), LetterBuffer::default());
        Letter::Offer(offer).write(&mut bytes);
        assert!(parcel.push(&bytes));
        world.bring(Channel::Parcels, &parcel.take());
        // The socket worker does nothing.
        for _ in 0..3 {
            world.cluster.exchange(0);
            world.cluster.answer_all(0);
        }
    }
    let full = world.count(LetterKind::Offer, LetterOutcome::Full);
    let delivered = world.count(LetterKind::Offer, LetterOutcome::Delivered);
    assert!((100..600).contains(&full), "{full}");
    assert_eq!(full + delivered, 600);
    let withdrawals = world.count(LetterKind::Withdrawal, LetterOutcome::Sent);
    assert!(withdrawals >= full, "{withdrawals}");
    world.cluster.take(anna);
    world.cluster.answer(anna, b'a', b'x', 2);
    let got = world.cluster.take(anna);
    assert!(matches!(&*got, [Got::Refusal(_)]), "{got:?}");
}

/// Answers to a member that it has made up go nowhere, and cost little.
#[test]
fn what_is_for_a_member_that_does_not_exist_goes_to_the_liar() {
    let mut world = World::new();
    world.record(record(stranger()));
    let anna = world.anna;
    world.cluster.announce(anna, b'a', &[1, 2, 3]);
    assert_eq!(world.cluster.take(anna), [Got::Counts(0, 3)]);
    let sent = world.count(LetterKind::Offer, LetterOutcome::Sent);
    assert_eq!(sent, 2, "to Bob and to nobody");
    let refused = world
        .cluster
        .letters(2, LetterKind::Offer, LetterOutcome::Refused);
    assert_eq!(refused, 1);
    let withdrawn = world.count(LetterKind::Withdrawal, LetterOutcome::Delivered);
    assert_eq!(withdrawn, 1);
}

fn answer_to_anna(number: u8) -> Letter<'static> {
    Letter::Answer(AnswerLetter {
        info_hash: torrent(1),
        offer_id: offer_id(number).0,
        offerer: peer_id(b'a'),
        answerer: stranger(),
        family: IpFamily::V6,
        siblings: Siblings::NONE,
        json: "{}",
    })
}

/// The connection is lost when an offer is on its way: others would have less room for theirs.
#[test]
fn an_offer_that_is_not_sent_is_closed() {
    for is_sent in [true, false] {
        let mut world = World::new();
        let anna = world.anna;
        world.record(record(stranger()));
        // Nor does it say that it has no such member.
        world.cluster.fate = Box::new(|_, to, _| match to {
            2 => Fate::Lost,
            _ => Fate::Arrives,
        });
        world.cluster.think(0, 1, NodeState::Silent);
        world.cluster.announce(anna, b'a', &[5]);
        world.cluster.work(0);
        world.cluster.nodes[0].states.set_connected(is_sent);
        for _ in 0..3 {
            world.cluster.exchange(0);
            world.cluster.work(0);
        }
        world.cluster.nodes[0].states.set_connected(true);
        world.cluster.take(anna);
        world.letter(answer_to_anna(5));
        let answers = world.cluster.take(anna);
        assert_eq!(answers.len(), usize::from(is_sent));
        let lost = world.count(LetterKind::Offer, LetterOutcome::Disconnected);
        assert_eq!(lost, u64::from(!is_sent));
        let refused = world.count(LetterKind::Answer, LetterOutcome::Refused);
        assert_eq!(refused, u64::from(!is_sent));
    }
}

/// It has waited somewhere, and nobody waits for it any more.
#[test]
fn what_comes_very_late_is_not_heeded() {
    let mut world = World::new();
    let mut bytes = Vec::new();
    Letter::Offer(offer("{}")).write(&mut bytes);
    let mut parcel = LetterBuffer::default();
    assert!(parcel.push(&bytes));
    let parcel = parcel.take();
    for (seconds, comes) in [(0, true), (9, true), (12, false)] {
        world.bring(Channel::Parcels, &parcel);
        world.cluster.micros += seconds * 1_000_000;
        let got = world.cluster.take(world.anna);
        assert_eq!(got.len(), usize::from(comes), "{seconds}");
    }
}

/// As if each came from elsewhere: what a client could not say.
#[test]
fn one_node_does_not_push_out_the_offers_of_others() {
    let mut world = World::new();
    let (anna, bob) = (world.anna, world.bob);
    let carl = world.cluster.connect(0);
    // One of the offers of each is for Anna.
    world.cluster.announce(carl, b'c', &[1, 2]);
    world.cluster.settle();
    world.cluster.announce(bob, b'b', &[3, 4]);
    let offers = world.cluster.offers(anna);
    assert!(matches!(offers[..], [(b'c', 1 | 2), (b'b', 3 | 4)]));
    for number in 0..1_000 {
        let mut offer = offer("{}");
        offer.offerer.connection = number;
        offer.offerer.network = number << 32;
        world.letter(Letter::Offer(offer));
    }
    // Not all are passed on, but more than there is room for.
    let passed_on = world.cluster.take(anna).len();
    assert!(passed_on > 200, "{passed_on}");
    world.cluster.take(bob);
    world.cluster.take(carl);
    for ((to, offer), client) in offers.into_iter().zip([carl, bob]) {
        world.cluster.answer(anna, b'a', to, offer);
        assert!(matches!(
            &*world.cluster.take(client),
            [Got::Answer(b'a', _, _)]
        ));
    }
}
