//! Two bench machines and the road between them, under a virtual clock: what they find is what the
//! road is, every message boundary is survived, and nobody is kept longer than agreed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use knothole::proto::app::bench::{Event, Output, Phase, Results, Wish};
use knothole::proto::app::{Bench, CancelReason, Closing, Only, Outcome, OutcomeKind, Side};
use proptest::prelude::*;

use crate::world::LOCAL;

/// What may wait to leave, in bytes.
const BUFFER: u64 = 1 << 20;

#[derive(Debug, Clone)]
struct Scenario {
    times: [Duration; 2],
    only: [Option<Only>; 2],
    /// From side 0 to side 1, and back: bytes a second, and how long each takes.
    rates: [u64; 2],
    delay: Duration,
    /// The link ends after this side got this many messages.
    cut: Option<(usize, usize)>,
    /// This side's person stops it after so many messages to it.
    cancel: Option<(usize, usize)>,
}

fn usual() -> Scenario {
    Scenario {
        times: [Duration::from_secs(5); 2],
        only: [None; 2],
        rates: [4_000_000, 1_000_000],
        delay: Duration::from_millis(25),
        cut: None,
        cancel: None,
    }
}

enum Frame {
    Text(String),
    Data(usize),
}

struct End {
    machine: Bench,
    /// What is on its way to this side, with when it arrives.
    inbox: VecDeque<(Instant, Frame)>,
    delivered: usize,
    /// When all that this side has handed over has left.
    free: Instant,
    waiting: Option<Output>,
    closed: bool,
    away: bool,
    phases: Vec<Phase>,
    finished: Option<Outcome>,
}

struct World {
    scenario: Scenario,
    now: Instant,
    ends: [End; 2],
    /// How long it all took.
    took: Duration,
    was_cut: bool,
}

impl World {
    fn run(scenario: Scenario) -> Self {
        let start = Instant::now();
        let end = |side: usize| End {
            machine: Bench::new(
                LOCAL,
                Wish {
                    time: scenario.times[side],
                    only: scenario.only[side],
                    joined: side == 0,
                },
            ),
            inbox: VecDeque::new(),
            delivered: 0,
            free: start,
            waiting: None,
            closed: false,
            away: false,
            phases: vec![],
            finished: None,
        };
        let mut world = Self {
            ends: [end(0), end(1)],
            scenario,
            now: start,
            took: Duration::ZERO,
            was_cut: false,
        };
        let mut steps = 0;
        world.settle();
        while let Some(next) = world.next() {
            steps += 1;
            assert!(steps < 200_000, "never comes to rest");
            world.now = next;
            world.step();
            world.settle();
        }
        world.took = world.now - start;
        for (side, end) in world.ends.iter().enumerate() {
            assert!(
                end.finished.is_some(),
                "side {side} hangs: {:?}",
                end.machine
            );
            assert_eq!(end.finished.as_ref(), end.machine.outcome());
        }
        world
    }

    /// When something happens next.
    fn next(&self) -> Option<Instant> {
        let mut all = vec![];
        for (side, end) in self.ends.iter().enumerate() {
            if end.away {
                continue;
            }
            all.extend(end.inbox.front().map(|(at, _)| *at));
            all.extend(end.machine.poll_timeout());
            if end.waiting.is_some() && !self.held(side) {
                all.push(self.writable(side));
            }
        }
        all.into_iter().min().map(|at| at.max(self.now))
    }

    /// Whether data of this side waits for what is on its way.
    fn held(&self, side: usize) -> bool {
        let on_the_way = self.ends[1 - side]
            .inbox
            .iter()
            .map(|(_, frame)| match frame {
                Frame::Data(len) => *len as u64,
                Frame::Text(_) => 0,
            });
        let end = &self.ends[side];
        let ahead = end.machine.is_ahead(self.now, on_the_way.sum());
        matches!(end.waiting, Some(Output::Send { .. })) && ahead
    }

    /// When there is room for one more message.
    fn writable(&self, side: usize) -> Instant {
        let full = Duration::from_secs_f64(BUFFER as f64 / self.scenario.rates[side] as f64);
        self.ends[side].free.checked_sub(full).unwrap_or(self.now)
    }

    fn step(&mut self) {
        let now = self.now;
        for side in 0..2 {
            if self.ends[side].away {
                continue;
            }
            let waits = self.ends[side].waiting.is_some() && !self.held(side);
            if waits && self.writable(side) <= now {
                self.transmit(side);
            }
            let end = &mut self.ends[side];
            end.machine.handle_timeout(now);
            if end.inbox.front().is_some_and(|(at, _)| *at <= now) {
                let (_, frame) = end.inbox.pop_front().unwrap();
                end.delivered += 1;
                match frame {
                    Frame::Text(text) => end.machine.handle_control(now, text.as_bytes()),
                    Frame::Data(len) => end.machine.handle_data(now, len),
                }
                if self.scenario.cancel == Some((side, end.delivered)) {
                    end.machine.cancel(CancelReason::User, "");
                }
                if self.scenario.cut == Some((side, end.delivered)) {
                    self.was_cut = true;
                    for end in &mut self.ends {
                        end.inbox.clear();
                        end.closed = true;
                        end.machine.handle_closed();
                    }
                }
            }
        }
    }

    fn transmit(&mut self, side: usize) {
        let now = self.now;
        let end = &mut self.ends[side];
        let frame = match end.waiting.take() {
            Some(Output::Control(text)) => Frame::Text(text),
            Some(Output::Send { max }) if end.machine.handle_sent(now, max) => Frame::Data(max),
            _ => return,
        };
        let len = match &frame {
            Frame::Text(text) => text.len(),
            Frame::Data(len) => *len,
        };
        let takes = Duration::from_secs_f64(len as f64 / self.scenario.rates[side] as f64);
        end.free = end.free.max(now) + takes;
        let arrives = end.free + self.scenario.delay;
        if !end.closed {
            self.ends[1 - side].inbox.push_back((arrives, frame));
        }
    }

    /// Takes outputs as the I/O layer does: up to what has to wait for room.
    fn settle(&mut self) {
        for side in 0..2 {
            let end = &mut self.ends[side];
            // Nobody hears what still waits.
            let over = end.machine.closing() == Some(Closing::Now);
            while end.waiting.is_none() || end.closed || over {
                let output = end.machine.poll_output();
                if output != Output::Idle {
                    assert!(end.finished.is_none(), "after the end: {output:?}");
                }
                match output {
                    Output::Control(_) | Output::Send { .. } => end.waiting = Some(output),
                    Output::Event(Event::Phase(phase)) => end.phases.push(phase),
                    Output::Event(Event::Finished(outcome)) => end.finished = Some(outcome),
                    Output::Event(_) => {}
                    Output::Idle => break,
                }
            }
            if over && !end.away {
                end.away = true;
                let other = &mut self.ends[1 - side];
                other.inbox.clear();
                other.closed = true;
                other.machine.handle_closed();
            }
        }
    }

    fn outcome(&self, side: usize) -> &Outcome {
        self.ends[side].machine.outcome().unwrap()
    }

    fn results(&self, side: usize) -> Results {
        self.ends[side].machine.results()
    }
}

/// Within one part in fifty: messages are not divided.
#[track_caller]
fn about(found: f64, is: f64) {
    assert!((found / is - 1.0).abs() < 0.02, "{found}, not {is}");
}

#[test]
fn both_sides_find_what_the_road_is_and_the_same() {
    for (rates, delay) in [
        ([4_000_000, 1_000_000], 25),
        ([1_000_000, 4_000_000], 0),
        ([20_000_000, 20_000_000], 40),
        // A link on which the buffer alone is 16 s.
        ([65_536, 65_536], 5),
    ] {
        let delay = Duration::from_millis(delay);
        let world = World::run(Scenario {
            rates,
            delay,
            ..usual()
        });
        let [first, second] = [world.results(0), world.results(1)];
        assert_eq!((first.sent, first.received), (second.received, second.sent));
        assert_eq!([world.outcome(0), world.outcome(1)], [&Outcome::Done; 2]);
        for (one, rate) in [(first.sent, rates[0]), (first.received, rates[1])] {
            let one = one.unwrap().counted;
            assert_eq!(one.us, 5_000_000);
            about(one.rate(), rate as f64);
            let (slowest, fastest) = (one.slowest.unwrap(), one.fastest.unwrap());
            assert!(fastest - slowest <= rate / 10, "an even road: {one:?}");
        }
        let found = first.round_trip.unwrap();
        assert_eq!(found.echoes, 20);
        assert!(found.least >= 2 * delay && found.median < 2 * delay + Duration::from_millis(3));
    }
}

#[test]
fn one_direction_at_a_time_that_of_the_side_which_joined_first() {
    let time = Duration::from_secs(5);
    let world = World::run(usual());
    let phases = |side: usize| &world.ends[side].phases[..];
    let [trip, send, take] = [
        Phase::RoundTrip,
        Phase::Sending(time),
        Phase::Receiving(time),
    ];
    let drain = Phase::Draining;
    assert_eq!(phases(0), [trip, send, drain, take]);
    assert_eq!(phases(1), [trip, take, send, drain]);
}

#[test]
fn the_shorter_time_counts_whoever_wants_it() {
    let [short, long] = [2, 3600].map(Duration::from_secs);
    for times in [[short, long], [long, short], [short, short]] {
        let world = World::run(Scenario { times, ..usual() });
        let results = world.results(0);
        for one in [results.sent, results.received] {
            assert_eq!(one.unwrap().counted.us, 2_000_000);
        }
        // Two directions, the echoes, and what waits at the end of each.
        assert!(
            world.took < 2 * short + Duration::from_secs(4),
            "{:?}",
            world.took
        );
    }
}

#[test]
fn what_waits_at_the_end_of_a_direction_takes_twice_its_time_or_twenty_seconds() {
    let rates = [16_384; 2];
    for (seconds, most) in [(5, 2 * (5 + 10)), (40, 2 * (40 + 21))] {
        let time = Duration::from_secs(seconds);
        let times = [time; 2];
        let world = World::run(Scenario {
            times,
            rates,
            ..usual()
        });
        // The buffer would hold a minute of it.
        assert!(world.took > 2 * time, "{:?}", world.took);
        let most = Duration::from_secs(most + 3);
        assert!(world.took < most, "{seconds} s: {:?}", world.took);
    }
}

#[test]
fn a_direction_that_nobody_wants_is_left_out() {
    use Only::{Receive, Send};
    for (only, sent, received) in [
        ([Some(Send), None], true, false),
        ([None, Some(Send)], false, true),
        ([Some(Receive), None], false, true),
        ([Some(Send), Some(Receive)], true, false),
    ] {
        let world = World::run(Scenario { only, ..usual() });
        let results = world.results(0);
        assert_eq!(
            (results.sent.is_some(), results.received.is_some()),
            (sent, received)
        );
        assert_eq!([world.outcome(0), world.outcome(1)], [&Outcome::Done; 2]);
    }
    for only in [Send, Receive] {
        let world = World::run(Scenario {
            only: [Some(only); 2],
            ..usual()
        });
        for side in 0..2 {
            assert!(matches!(world.outcome(side), Outcome::Incompatible(_)));
        }
    }
}

/// A short run of few messages.
fn small() -> Scenario {
    Scenario {
        times: [Duration::from_millis(400); 2],
        ..usual()
    }
}

#[test]
fn every_message_boundary_is_survived_and_what_was_measured_stays() {
    let mut cuts = 0;
    for side in 0..2 {
        for after in 1.. {
            let world = World::run(Scenario {
                cut: Some((side, after)),
                ..small()
            });
            if !world.was_cut {
                break;
            }
            cuts += 1;
            for side in 0..2 {
                let results = world.results(side);
                let all = results.sent.is_some() && results.received.is_some();
                let expected = if all { Outcome::Done } else { Outcome::Lost };
                assert_eq!(world.outcome(side), &expected, "{after} to {side}");
            }
        }
    }
    assert!(cuts > 2 * 45, "{cuts}");
}

#[test]
fn a_person_may_stop_at_any_message_on_either_side() {
    let mut stops = 0;
    for side in 0..2 {
        for after in 1.. {
            let cancel = Some((side, after));
            let world = World::run(Scenario { cancel, ..small() });
            if world.ends[side].delivered < after {
                break;
            }
            stops += 1;
            let (here, there) = (world.outcome(side), world.outcome(1 - side));
            match there {
                Outcome::Done => {}
                Outcome::Cancelled { by, reason, .. } => {
                    assert_eq!((*by, *reason), (Side::There, CancelReason::User));
                }
                other => panic!("{cancel:?}: {other:?}"),
            }
            let kind = here.kind();
            assert!(matches!(kind, OutcomeKind::Interrupted | OutcomeKind::Done));
        }
    }
    assert!(stops > 2 * 45, "{stops}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_road_is_measured_and_comes_to_its_end(
        ms in [1_u64..3000, 1_u64..3000],
        rates in [20_000_u64..10_000_000, 20_000_u64..10_000_000],
        delay in 0_u64..700,
    ) {
        let times = ms.map(Duration::from_millis);
        let delay = Duration::from_millis(delay);
        let world = World::run(Scenario { times, rates, delay, ..usual() });
        let [first, second] = [world.results(0), world.results(1)];
        prop_assert_eq!((first.sent, first.received), (second.received, second.sent));
        for (one, rate) in [(first.sent, rates[0]), (first.received, rates[1])] {
            let counted = one.unwrap().counted;
            prop_assert!(counted.us <= 1000 * ms[0].min(ms[1]));
            // What arrived in the time, and not what the buffer took.
            let most = rate as f64 * counted.us as f64 / 1e6 + 65_536.0;
            prop_assert!(counted.bytes as f64 <= most, "{} {}", counted.bytes, most);
        }
    }
}

// ---- A peer that does not keep to the protocol -------------------------------------------------

#[test]
fn messages_of_another_talk_are_faults_at_every_stage() {
    let hello = |joined: bool| {
        let wish = Wish {
            time: Duration::from_secs(1),
            only: None,
            joined,
        };
        let mut machine = Bench::new(LOCAL, wish);
        match machine.poll_output() {
            Output::Control(text) => (machine, text),
            other => panic!("{other:?}"),
        }
    };
    for script in [
        vec![r#"{"t":"ping","n":0}"#],
        vec![r#"{"t":"begin"}"#],
        vec!["hello", r#"{"t":"begin"}"#],
        vec!["hello", r#"{"t":"grant","to":1000}"#],
        vec!["hello", r#"{"t":"accept"}"#],
        vec!["hello", r#"{"t":"agree"}"#],
        vec!["hello", r#"{"t":"bye"}"#],
        vec!["hello", "hello"],
        vec!["hello", r#"{"t":"counted","bytes":1,"us":1}"#],
        vec!["hello", r#"{"t":"layer","on":true}"#],
        vec!["hello", r#"{"t":"over","bytes":0}"#],
    ] {
        let (mut victim, _) = hello(true);
        let (_, theirs) = hello(false);
        let now = Instant::now();
        for line in &script {
            let line = if *line == "hello" { &theirs } else { *line };
            victim.handle_control(now, line.as_bytes());
        }
        assert!(
            matches!(victim.outcome(), Some(Outcome::Protocol(_))),
            "{script:?}: {:?}",
            victim.outcome()
        );
    }
}
