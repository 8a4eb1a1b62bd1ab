//! Two pipe machines, the link between them, and the inputs and readers at their ends: every message
//! boundary as a crash point, mishaps, and peers that lie.

use std::collections::VecDeque;

use knothole::proto::app::pipe::{Event, MAX_AHEAD, OVERHEAD, Output, WINDOW, cost};
use knothole::proto::app::{
    CancelReason, Closing, Digest, Fault, Only, Outcome, OutcomeKind, Pipe, Problem, Side,
};
use proptest::prelude::*;

use crate::world::{LOCAL, Rng};

/// What happens in one run. Pairs are for side 0 and side 1.
#[derive(Debug, Clone, Default)]
struct Scenario {
    /// Bytes at each input.
    sources: [usize; 2],
    only: [Option<Only>; 2],
    /// The most bytes that come from an input at once; 0 for a message's worth.
    chunk: usize,
    /// The link ends after this side got this many messages; whether the rest of the other
    /// direction still arrives.
    cut: Option<(usize, usize, bool)>,
    /// This side's person stops it at this step.
    cancel: Option<(usize, usize)>,
    /// One bit of this data message to this side flips.
    flip: Option<(usize, usize)>,
    /// This side's reader goes away after this many messages.
    gone: Option<(usize, usize)>,
    /// This side's input cannot be read after this many messages.
    unreadable: Option<(usize, usize)>,
    /// This side's output cannot be written after this many messages.
    unwritable: Option<(usize, usize)>,
    /// Readers take something only when nothing else can happen.
    slow: [bool; 2],
}

#[derive(Debug)]
enum Frame {
    Text(String),
    Data(Vec<u8>),
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Deliver(usize),
    Read(usize),
    Take(usize),
    Finish(usize),
    Close(usize),
    NoticeClose(usize),
}

/// One side and what is around it.
struct End {
    machine: Pipe,
    /// Messages on their way to this side.
    inbox: VecDeque<Frame>,
    delivered: usize,
    data_delivered: usize,
    /// The other side has closed, or the link was cut.
    inbox_closed: bool,
    away: bool,
    // Input.
    asked: Option<usize>,
    sends: bool,
    takes_some: bool,
    read: usize,
    reads: usize,
    ended: bool,
    // Reader.
    backlog: VecDeque<Vec<u8>>,
    held: u64,
    most_held: u64,
    taken: Vec<u8>,
    takes: usize,
    finish: Option<Digest>,
    /// The reader has the end of its stream.
    finished: bool,
    finished_event: Option<Outcome>,
    acked: bool,
}

struct World {
    scenario: Scenario,
    rng: Rng,
    ends: [End; 2],
    steps: usize,
    was_cut: bool,
    dead: bool,
}

fn byte(side: usize, at: usize) -> u8 {
    (at * 31 + side * 7 + at / 251) as u8
}

fn source(side: usize, range: std::ops::Range<usize>) -> Vec<u8> {
    range.map(|at| byte(side, at)).collect()
}

impl World {
    fn run(scenario: Scenario, seed: u64) -> Self {
        let end = |only| End {
            machine: Pipe::new(LOCAL, only),
            inbox: VecDeque::new(),
            delivered: 0,
            data_delivered: 0,
            inbox_closed: false,
            away: false,
            asked: None,
            sends: false,
            takes_some: false,
            read: 0,
            reads: 0,
            ended: false,
            backlog: VecDeque::new(),
            held: 0,
            most_held: 0,
            taken: vec![],
            takes: 0,
            finish: None,
            finished: false,
            finished_event: None,
            acked: false,
        };
        let mut world = Self {
            ends: scenario.only.map(end),
            scenario,
            rng: Rng::new(seed),
            steps: 0,
            was_cut: false,
            dead: false,
        };
        world.drain();
        world.cut_when_due();
        while let Some(step) = world.choose() {
            world.steps += 1;
            assert!(world.steps < 2_000_000, "never goes idle: {step:?}");
            world.take(step);
            if let Some((side, at)) = world.scenario.cancel
                && at == world.steps
            {
                world.ends[side].machine.cancel(CancelReason::User, "");
            }
            world.drain();
            world.cut_when_due();
            world.check();
        }
        for side in 0..2 {
            let end = &world.ends[side];
            assert!(
                end.finished_event.is_some(),
                "side {side} hangs: {:?}",
                end.machine
            );
            assert_eq!(end.finished_event.as_ref(), end.machine.outcome());
            assert!(end.away, "side {side} does not close");
        }
        world
    }

    fn outcome(&self, side: usize) -> &Outcome {
        self.ends[side].machine.outcome().unwrap()
    }

    /// What holds after every step, whatever goes wrong.
    fn check(&self) {
        for (side, end) in self.ends.iter().enumerate() {
            let there = 1 - side;
            assert!(end.held <= WINDOW, "side {side} holds {}", end.held);
            if end.machine.outcome() == Some(&Outcome::Done) {
                let all = end.taken.len() == self.scenario.sources[there];
                assert!(
                    !end.takes_some || (end.finished && all),
                    "side {side} is done without everything"
                );
                assert!(
                    !end.sends || end.acked,
                    "side {side} is done without a word of the reader"
                );
            }
            if end.acked {
                let reader = &self.ends[there];
                assert_eq!(reader.taken.len(), self.scenario.sources[side]);
            }
        }
    }

    fn choose(&mut self) -> Option<Step> {
        let (mut steps, mut late) = (vec![], vec![]);
        for (side, end) in self.ends.iter().enumerate() {
            if !end.away {
                if !end.inbox.is_empty() {
                    steps.push(Step::Deliver(side));
                } else if end.inbox_closed {
                    steps.push(Step::NoticeClose(side));
                }
                if end.machine.closing() == Some(Closing::Now) {
                    steps.push(Step::Close(side));
                }
            }
            let more = end.read < self.scenario.sources[side];
            let room = self.ends[1 - side].inbox.len() < 6;
            if end.sends && !end.ended && room && (end.asked.is_some() || !more) {
                steps.push(Step::Read(side));
            }
            let slow = self.scenario.slow[side];
            let readers = if slow { &mut late } else { &mut steps };
            if !end.backlog.is_empty() {
                readers.push(Step::Take(side));
            } else if end.finish.is_some() {
                readers.push(Step::Finish(side));
            }
        }
        if steps.is_empty() {
            steps = late;
        }
        (!steps.is_empty()).then(|| steps[self.rng.below(steps.len())])
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Deliver(side) => self.deliver(side),
            Step::Read(side) => self.read(side),
            Step::Take(side) => {
                let end = &mut self.ends[side];
                let is_due = |due: Option<(usize, usize)>| due == Some((side, end.takes));
                if is_due(self.scenario.gone) {
                    end.backlog.clear();
                    let hash = blake3::hash(&end.taken);
                    end.machine.handle_reader_gone(end.taken.len() as u64, hash);
                } else if is_due(self.scenario.unwritable) {
                    end.backlog.clear();
                    end.machine.handle_write_error("no space left");
                } else {
                    let bytes = end.backlog.pop_front().unwrap();
                    end.held -= cost(bytes.len());
                    end.machine.handle_taken(cost(bytes.len()));
                    if self.scenario.flip.is_none() {
                        let range = end.taken.len()..end.taken.len() + bytes.len();
                        assert_eq!(
                            bytes,
                            source(1 - side, range),
                            "side {side} has other bytes"
                        );
                    }
                    end.taken.extend(bytes);
                    end.takes += 1;
                }
            }
            Step::Finish(side) => {
                let end = &mut self.ends[side];
                if end.finish.take() == Some(blake3::hash(&end.taken).into()) {
                    end.finished = true;
                    end.machine.handle_finished();
                } else {
                    end.machine.handle_mismatch();
                }
            }
            Step::Close(side) => {
                self.ends[side].away = true;
                self.ends[1 - side].inbox_closed = true;
                // The worst a close may do: it overtakes every message, both ways.
                for end in &mut self.ends {
                    end.inbox.clear();
                }
            }
            Step::NoticeClose(side) => {
                self.ends[side].away = true;
                self.ends[side].machine.handle_closed();
            }
        }
    }

    fn deliver(&mut self, side: usize) {
        let flip = self.scenario.flip;
        let end = &mut self.ends[side];
        end.delivered += 1;
        match end.inbox.pop_front().unwrap() {
            Frame::Text(text) => end.machine.handle_control(text.as_bytes()),
            Frame::Data(mut bytes) => {
                if flip == Some((side, end.data_delivered)) {
                    bytes[0] ^= 4;
                }
                end.data_delivered += 1;
                if end.machine.handle_data(bytes.len()) {
                    end.held += cost(bytes.len());
                    end.most_held = end.most_held.max(end.held);
                    end.backlog.push_back(bytes);
                }
            }
        }
    }

    fn read(&mut self, side: usize) {
        let size = self.scenario.sources[side];
        let most = match self.scenario.chunk {
            0 => usize::MAX,
            chunk => 1 + self.rng.below(chunk),
        };
        let end = &mut self.ends[side];
        if self.scenario.unreadable == Some((side, end.reads)) {
            end.ended = true;
            end.machine.handle_read_error("input/output error");
            return;
        }
        let left = size - end.read;
        if left == 0 {
            end.ended = true;
            end.machine.handle_eof(blake3::hash(&source(side, 0..size)));
            return;
        }
        let len = left.min(most).min(end.asked.take().unwrap());
        if end.machine.handle_read(len) {
            let bytes = source(side, end.read..end.read + len);
            end.read += len;
            end.reads += 1;
            self.transmit(side, Frame::Data(bytes));
        }
    }

    fn transmit(&mut self, from: usize, frame: Frame) {
        if !self.dead {
            self.ends[1 - from].inbox.push_back(frame);
        }
    }

    fn drain(&mut self) {
        for side in 0..2 {
            loop {
                let end = &mut self.ends[side];
                let output = end.machine.poll_output();
                if output == Output::Idle {
                    break;
                }
                assert!(end.finished_event.is_none(), "after the end: {output:?}");
                match output {
                    Output::Control(text) => self.transmit(side, Frame::Text(text)),
                    Output::Read { max } => {
                        assert!(end.asked.replace(max).is_none(), "two reads at once");
                    }
                    Output::Finish { blake3, .. } => end.finish = Some(blake3),
                    Output::Event(Event::Open { sends, takes }) => {
                        (end.sends, end.takes_some) = (sends, takes);
                    }
                    Output::Event(Event::Acked { .. }) => end.acked = true,
                    Output::Event(Event::Finished(outcome)) => {
                        end.finished_event = Some(outcome);
                        end.asked = None;
                        end.ended = true;
                    }
                    Output::Event(_) | Output::Idle => {}
                }
            }
        }
    }

    fn cut_when_due(&mut self) {
        let Some((side, after, rest_arrives)) = self.scenario.cut else {
            return;
        };
        let both_away = self.ends.iter().all(|end| end.away);
        if self.was_cut || self.ends[side].delivered < after || both_away {
            return;
        }
        (self.was_cut, self.dead) = (true, true);
        self.ends[side].inbox.clear();
        if !rest_arrives {
            self.ends[1 - side].inbox.clear();
        }
        for end in &mut self.ends {
            end.inbox_closed = true;
        }
    }
}

const SIZES: [usize; 2] = [300, 170];

fn small() -> Scenario {
    Scenario {
        sources: SIZES,
        chunk: 20,
        ..Scenario::default()
    }
}

#[test]
fn without_a_mishap_both_are_done_in_any_order_of_events() {
    for seed in 0..300 {
        let slow = [seed % 2 == 0, seed % 3 == 0];
        let world = World::run(Scenario { slow, ..small() }, seed);
        for side in 0..2 {
            assert_eq!(world.outcome(side), &Outcome::Done);
            assert_eq!(world.ends[side].taken.len(), SIZES[1 - side]);
        }
    }
}

#[test]
fn one_direction_or_none_is_done_as_well() {
    use Only::{Receive, Send};
    for seed in 0..40 {
        for (only, moved) in [
            ([Some(Send), None], [0, 300]),
            ([None, Some(Send)], [170, 0]),
            ([Some(Receive), None], [170, 0]),
            ([Some(Send), Some(Receive)], [0, 300]),
        ] {
            let world = World::run(Scenario { only, ..small() }, seed);
            for (side, taken) in moved.into_iter().enumerate() {
                assert_eq!(world.outcome(side), &Outcome::Done, "{only:?}");
                assert_eq!(world.ends[side].taken.len(), taken, "{only:?}");
            }
        }
        let sources = [0, 0];
        let world = World::run(Scenario { sources, ..small() }, seed);
        assert_eq!(
            (world.outcome(0), world.outcome(1)),
            (&Outcome::Done, &Outcome::Done)
        );
        for only in [Some(Send), Some(Receive)] {
            let only = [only; 2];
            let world = World::run(Scenario { only, ..small() }, seed);
            for side in 0..2 {
                assert!(matches!(world.outcome(side), Outcome::Incompatible(_)));
            }
        }
    }
}

#[test]
fn every_message_boundary_is_survived() {
    let mut cuts = 0;
    for seed in 0..12 {
        for side in 0..2 {
            for rest_arrives in [false, true] {
                for after in 0.. {
                    let cut = Some((side, after, rest_arrives));
                    let world = World::run(Scenario { cut, ..small() }, seed);
                    if !world.was_cut {
                        break;
                    }
                    cuts += 1;
                    for side in 0..2 {
                        let end = &world.ends[side];
                        // Whoever has heard of its own stream and has the other's is done.
                        let knows = end.acked && end.finished;
                        let expected = if knows { Outcome::Done } else { Outcome::Lost };
                        assert_eq!(world.outcome(side), &expected, "seed {seed}, {cut:?}");
                    }
                }
            }
        }
    }
    assert!(cuts > 12 * 2 * 2 * 20, "{cuts}");
}

#[test]
fn a_person_may_stop_at_any_step_on_either_side() {
    for seed in 0..4 {
        for side in 0..2 {
            for step in 1..200 {
                let cancel = Some((side, step));
                let world = World::run(Scenario { cancel, ..small() }, seed);
                let (here, there) = (world.outcome(side), world.outcome(1 - side));
                let label = format!("seed {seed}, {cancel:?}: {here:?} {there:?}");
                match there {
                    Outcome::Done => {}
                    Outcome::Cancelled { by, reason, .. } => {
                        assert_eq!((*by, *reason), (Side::There, CancelReason::User), "{label}");
                    }
                    _ => panic!("{label}"),
                }
                let kind = here.kind();
                assert!(
                    matches!(kind, OutcomeKind::Interrupted | OutcomeKind::Done),
                    "{label}"
                );
            }
        }
    }
}

#[test]
fn a_bit_flipped_anywhere_fails_verification_on_both_sides() {
    for seed in 0..4 {
        for side in 0..2 {
            for nth in 0..8 {
                let flip = Some((side, nth));
                let world = World::run(Scenario { flip, ..small() }, seed);
                for side in 0..2 {
                    assert_eq!(world.outcome(side).kind(), OutcomeKind::Verification);
                }
            }
        }
    }
}

#[test]
fn a_reader_that_goes_away_ends_both_and_is_named_as_the_reason() {
    for seed in 0..10 {
        for side in 0..2 {
            for takes in 0..8 {
                let gone = Some((side, takes));
                let world = World::run(Scenario { gone, ..small() }, seed);
                let (here, there) = (world.outcome(side), world.outcome(1 - side));
                assert_eq!(here, &Outcome::ReaderGone { by: Side::Here });
                assert_eq!(there, &Outcome::ReaderGone { by: Side::There });
                assert_eq!(
                    (here.kind(), there.kind()),
                    (OutcomeKind::Done, OutcomeKind::Declined)
                );
            }
        }
    }
}

#[test]
fn an_input_or_output_that_fails_is_told_to_the_other_side() {
    for seed in 0..10 {
        for side in 0..2 {
            for nth in 0..6 {
                for read in [true, false] {
                    let due = Some((side, nth));
                    let mut scenario = small();
                    if read {
                        scenario.unreadable = due;
                    } else {
                        scenario.unwritable = due;
                    }
                    let world = World::run(scenario, seed);
                    let Outcome::Failed { problem, .. } = world.outcome(side) else {
                        panic!("{:?}", world.outcome(side))
                    };
                    assert_eq!(matches!(problem, Problem::Read(_)), read);
                    let told = world.outcome(1 - side).to_string();
                    let verb = if read { "read" } else { "write" };
                    let start = format!("the other side cancelled: it could not {verb} (");
                    assert!(told.starts_with(&start), "{told}");
                }
            }
        }
    }
}

#[test]
fn readers_that_take_nothing_for_long_deadlock_nothing_and_stay_within_the_window() {
    const MUCH: usize = 3 * WINDOW as usize;
    for (seed, chunk, sources) in [
        (1, 0, [MUCH, MUCH]),
        (2, 100_000, [MUCH, MUCH / 2]),
        // A window of short messages is a smaller stream.
        (3, 1, [60_000, 20_000]),
    ] {
        let scenario = Scenario {
            sources,
            chunk,
            slow: [true; 2],
            ..Scenario::default()
        };
        let world = World::run(scenario, seed);
        for side in 0..2 {
            assert_eq!(world.outcome(side), &Outcome::Done);
            let most = world.ends[side].most_held;
            assert!(most <= WINDOW, "{most}");
            let full = sources[1 - side] == MUCH || sources[1 - side] == 60_000;
            assert!(
                !full || most > WINDOW / 2,
                "the window was never used: {most}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_sizes_any_chunks_any_order(
        sources in [0usize..3000, 0usize..3000],
        chunk in 0usize..200,
        slow in any::<[bool; 2]>(),
        seed in any::<u64>(),
    ) {
        let world = World::run(Scenario { sources, chunk, slow, ..Scenario::default() }, seed);
        for side in 0..2 {
            prop_assert_eq!(world.outcome(side), &Outcome::Done);
            prop_assert_eq!(world.ends[side].taken.len(), sources[1 - side]);
        }
    }
}

// ---- A peer that does not keep to the protocol -------------------------------------------------

const HELLO: &str = r#"{"t":"hello","knothole":"0.1.0","proto":[1,1],"role":"pipe"}"#;

struct Victim {
    pipe: Pipe,
    said: Vec<String>,
}

impl Victim {
    fn new(only: Option<Only>, script: &[&str]) -> Self {
        let pipe = Pipe::new(LOCAL, only);
        let mut it = Self { pipe, said: vec![] };
        it.drain();
        script.iter().for_each(|line| it.says(line));
        it
    }

    fn open() -> Self {
        Self::new(None, &[HELLO])
    }

    fn says(&mut self, line: &str) {
        self.pipe.handle_control(line.as_bytes());
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            match self.pipe.poll_output() {
                Output::Control(text) => self.said.push(text),
                Output::Idle => return,
                _ => {}
            }
        }
    }

    #[track_caller]
    fn ended_by(&self, fault: &Fault) {
        assert_eq!(self.pipe.outcome(), Some(&Outcome::Protocol(fault.clone())));
        let last = self.said.last().unwrap();
        assert!(
            last.starts_with(r#"{"t":"cancel","reason":"protocol""#),
            "{last}"
        );
    }
}

fn end(size: u64) -> String {
    let hash = blake3::hash(b"");
    format!(r#"{{"t":"end","i":0,"size":{size},"blake3":"{hash}"}}"#)
}

#[test]
fn data_beyond_the_grant_is_a_fault_and_never_taken() {
    let mut it = Victim::open();
    let mut used = 0;
    while used + cost(65_536) <= WINDOW {
        assert!(it.pipe.handle_data(65_536));
        used += cost(65_536);
    }
    let room = (WINDOW - used).saturating_sub(OVERHEAD);
    assert!(!it.pipe.handle_data(room as usize + 1));
    it.drain();
    it.ended_by(&Fault::BeyondGrant { to: WINDOW });
}

#[test]
fn a_grant_that_shrinks_stays_or_runs_away_is_a_fault() {
    for (grants, fault) in [
        (&[0][..], (0, 0)),
        (&[500, 500], (500, 500)),
        (&[500, 499], (499, 500)),
        (&[MAX_AHEAD + 1], (MAX_AHEAD + 1, 0)),
        (&[u64::MAX], (u64::MAX, 0)),
    ] {
        let mut it = Victim::open();
        for to in grants {
            it.says(&format!(r#"{{"t":"grant","to":{to}}}"#));
        }
        it.ended_by(&Fault::WrongGrant {
            to: fault.0,
            before: fault.1,
            used: 0,
        });
    }
}

#[test]
fn data_after_the_end_and_a_second_end_are_faults() {
    let mut it = Victim::open();
    it.says(&end(0));
    assert!(!it.pipe.handle_data(1));
    it.drain();
    it.ended_by(&Fault::UnexpectedData {
        when: "after \"end\"",
    });
    let mut it = Victim::open();
    it.says(&end(0));
    it.says(&end(0));
    it.ended_by(&Fault::WrongFile {
        t: "end",
        due: None,
        got: 0,
    });
}

#[test]
fn a_wrong_count_or_hash_fails_verification_and_is_never_acknowledged() {
    let mut it = Victim::open();
    assert!(it.pipe.handle_data(3));
    it.says(&end(4));
    assert_eq!(it.pipe.outcome().unwrap().kind(), OutcomeKind::Verification);
    let mut it = Victim::open();
    assert!(it.pipe.handle_data(3));
    it.says(&end(3));
    it.pipe.handle_mismatch();
    it.drain();
    assert_eq!(it.pipe.outcome().unwrap().kind(), OutcomeKind::Verification);
    it.pipe.handle_finished();
    it.drain();
    assert!(!it.said.iter().any(|said| said.contains(r#""ack""#)));
    // An acknowledgement of something else.
    let mut it = Victim::open();
    it.pipe.handle_eof(blake3::hash(b"mine"));
    it.drain();
    it.says(&format!(
        r#"{{"t":"ack","i":0,"blake3":"{}"}}"#,
        blake3::hash(b"other")
    ));
    assert_eq!(it.pipe.outcome().unwrap().kind(), OutcomeKind::Verification);
}

#[test]
fn messages_at_the_wrong_moment_or_of_the_wrong_direction_are_faults() {
    let ack = format!(r#"{{"t":"ack","i":0,"blake3":"{}"}}"#, blake3::hash(b""));
    let stop = |size| {
        format!(
            r#"{{"t":"stop","size":{size},"blake3":"{}"}}"#,
            blake3::hash(b"")
        )
    };
    let grant = r#"{"t":"grant","to":1000}"#;
    let far = end(0).replace(r#""i":0"#, r#""i":1"#);
    for (only, script) in [
        (None, vec![grant]),
        (None, vec![&stop(0)]),
        (None, vec![&end(0)]),
        (None, vec![r#"{"t":"bye"}"#]),
        (None, vec![HELLO, HELLO]),
        (None, vec![HELLO, r#"{"t":"agree"}"#]),
        (None, vec![HELLO, r#"{"t":"bye"}"#]),
        (None, vec![HELLO, r#"{"t":"accept"}"#]),
        (None, vec![HELLO, r#"{"t":"file","i":0}"#]),
        (None, vec![HELLO, &ack]),
        (None, vec![HELLO, &stop(1)]),
        (None, vec![HELLO, &far]),
        (Some(Only::Send), vec![HELLO, &end(0)]),
        (Some(Only::Receive), vec![HELLO, grant]),
        (Some(Only::Receive), vec![HELLO, &ack]),
        (Some(Only::Receive), vec![HELLO, &stop(0)]),
    ] {
        let it = Victim::new(only, &script);
        assert!(
            matches!(it.pipe.outcome(), Some(Outcome::Protocol(_))),
            "{only:?} {script:?}: {:?}",
            it.pipe.outcome()
        );
    }
    let mut it = Victim::new(Some(Only::Send), &[HELLO]);
    assert!(!it.pipe.handle_data(1));
    assert!(matches!(it.pipe.outcome(), Some(Outcome::Protocol(_))));
    let hello = HELLO.replace('}', r#","only":"talk"}"#);
    let it = Victim::new(None, &[&hello]);
    assert!(matches!(it.pipe.outcome(), Some(Outcome::Protocol(_))));
}

#[test]
fn data_messages_of_no_bytes_or_too_many_are_a_fault() {
    for len in [0, 65_537, usize::MAX] {
        let mut it = Victim::open();
        assert!(!it.pipe.handle_data(len));
        it.drain();
        it.ended_by(&Fault::DataLength { len });
    }
}

#[test]
fn a_peer_that_grants_and_asks_without_end_makes_nothing_grow() {
    let mut it = Victim::open();
    for to in 1..5000 {
        it.says(&format!(r#"{{"t":"grant","to":{to}}}"#));
    }
    // The hello and one grant: nothing is answered.
    assert_eq!(it.said.len(), 2, "{:?}", it.said);
}
