//! Two machines, the link between them, and the disks behind them.
//!
//! One step at a time, chosen by a seed among all that could happen next: a message arrives, a read
//! or a commit completes, a person decides, a close is noticed. The run ends when nothing can happen;
//! a step limit catches a run that never ends, and [`World::check`] a run that ends half-way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use knothole::proto::app::message::Message;
use knothole::proto::app::transfer::{receiver, sender};
use knothole::proto::app::{
    CancelReason, Closing, DeclineReason, Digest, Local, Offer, Outcome, Receiver, Sender,
};

pub(crate) const LOCAL: Local<'static> = Local {
    version: "0.1.0",
    verify: false,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    ToReceiver,
    ToSender,
}

/// What becomes of the messages that are on their way the other way when the link is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InFlight {
    Lost,
    Delivered,
}

/// The link ends right after message number `after` has arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    pub(crate) direction: Direction,
    pub(crate) after: usize,
    pub(crate) in_flight: InFlight,
}

/// A file of the sender, and how it misbehaves.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) bytes: Vec<u8>,
    pub(crate) announced: Option<u64>,
    /// Reading fails at this offset.
    pub(crate) fails_at: Option<usize>,
    /// The sender notices at its end that somebody wrote to it.
    pub(crate) changed: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) sources: Vec<Source>,
    pub(crate) cut: Option<Cut>,
    /// Which sides want the words compared.
    pub(crate) verify: &'static [Actor],
    /// This person does not find them the same, and says so with this reason.
    pub(crate) differ: Option<(Actor, CancelReason)>,
    /// The receiver declines with this reason.
    pub(crate) decline: Option<DeclineReason>,
    /// Somebody presses Ctrl-C at this step.
    pub(crate) cancel: Option<(Actor, usize)>,
    /// One bit of this data message flips on the way.
    pub(crate) flip: Option<usize>,
    /// The receiver cannot commit this file.
    pub(crate) disk_full: Option<usize>,
    /// A commit completes only when nothing else can happen.
    pub(crate) slow_disk: bool,
}

/// The sending or the receiving side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Actor {
    Sender,
    Receiver,
}

impl Scenario {
    pub(crate) fn files(sizes: &[usize]) -> Self {
        let source = |(n, size): (usize, &usize)| Source {
            bytes: (0..*size).map(|at| (at * 31 + n * 7) as u8).collect(),
            announced: Some(*size as u64),
            fails_at: None,
            changed: false,
        };
        Self {
            sources: sizes.iter().enumerate().map(source).collect(),
            cut: None,
            verify: &[],
            differ: None,
            decline: None,
            cancel: None,
            flip: None,
            disk_full: None,
            slow_disk: false,
        }
    }

    /// Has the words compared because these sides want it.
    pub(crate) fn verified(mut self, verify: &'static [Actor]) -> Self {
        self.verify = verify;
        self
    }

    fn local(&self, actor: Actor) -> Local<'static> {
        Local {
            verify: self.verify.contains(&actor),
            ..LOCAL
        }
    }

    /// Makes one file a stream of unknown length.
    pub(crate) fn stream(mut self, file: usize) -> Self {
        self.sources[file].announced = None;
        self
    }
}

#[derive(Debug)]
enum Frame {
    Text(String),
    Data(Vec<u8>),
}

#[derive(Debug, Default)]
struct Wire {
    queue: VecDeque<Frame>,
    delivered: usize,
    /// The far end has closed: what is still queued arrives, then the close is noticed.
    closed: bool,
    /// Cut: whatever is transmitted from now on goes nowhere.
    dead: bool,
}

impl Wire {
    fn transmit(&mut self, frame: Frame) {
        if !self.dead {
            self.queue.push_back(frame);
        }
    }
}

/// Something that could happen next.
#[derive(Debug, Clone, Copy)]
enum Step {
    Deliver(Direction),
    Read,
    Commit,
    Compare(Actor),
    Decide,
    Close(Actor),
    NoticeClose(Actor),
}

pub(crate) struct World {
    scenario: Scenario,
    rng: Rng,
    steps: usize,
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
    to_receiver: Wire,
    to_sender: Wire,
    sender_gone: bool,
    receiver_gone: bool,
    pub(crate) was_cut: bool,
    pub(crate) acks_delivered: usize,
    data_delivered: usize,
    started: usize,
    most_unacked: usize,
    /// The persons who are comparing words, and those who found them the same.
    comparing: Vec<Actor>,
    agreed: Vec<Actor>,
    // Sender's disk.
    reading: Option<(usize, usize)>,
    read_pos: usize,
    read_hash: blake3::Hasher,
    // Receiver's disk.
    offered: Option<Arc<[Offer]>>,
    temporary: Option<(usize, Vec<u8>)>,
    finishing: Vec<(usize, Vec<u8>, u64, Digest)>,
    /// The files a person would see in the receiver's folder.
    pub(crate) visible: BTreeMap<usize, Vec<u8>>,
    sender_end: Option<Outcome>,
    receiver_end: Option<Outcome>,
}

impl World {
    /// Runs a scenario to its end.
    pub(crate) fn run(scenario: Scenario, seed: u64) -> Self {
        let offer =
            |(n, source): (usize, &Source)| Offer::file(format!("file {n}"), source.announced);
        let files = scenario.sources.iter().enumerate().map(offer).collect();
        let limit = 2_000
            + 40 * scenario.sources.len()
            + 10 * scenario
                .sources
                .iter()
                .map(|source| source.bytes.len())
                .sum::<usize>();
        let sender = Sender::new(scenario.local(Actor::Sender), files).unwrap();
        let receiver = Receiver::new(scenario.local(Actor::Receiver));
        let mut world = Self {
            scenario,
            rng: Rng::new(seed),
            steps: 0,
            sender,
            receiver,
            to_receiver: Wire::default(),
            to_sender: Wire::default(),
            sender_gone: false,
            receiver_gone: false,
            was_cut: false,
            acks_delivered: 0,
            data_delivered: 0,
            started: 0,
            most_unacked: 0,
            comparing: Vec::new(),
            agreed: Vec::new(),
            reading: None,
            read_pos: 0,
            read_hash: blake3::Hasher::new(),
            offered: None,
            temporary: None,
            finishing: Vec::new(),
            visible: BTreeMap::new(),
            sender_end: None,
            receiver_end: None,
        };
        world.drain();
        world.cut_when_due();
        while let Some(step) = world.choose() {
            world.steps += 1;
            assert!(world.steps < limit, "never goes idle: {step:?}");
            world.take(step);
            world.interrupt_when_due();
            world.drain();
            world.cut_when_due();
            world.check();
        }
        world.check_end();
        world
    }

    pub(crate) fn sender_outcome(&self) -> &Outcome {
        self.sender.outcome().unwrap()
    }

    pub(crate) fn receiver_outcome(&self) -> &Outcome {
        self.receiver.outcome().unwrap()
    }

    /// The most files that were started and not yet acknowledged at the sender.
    pub(crate) fn most_unacked(&self) -> usize {
        self.most_unacked
    }

    /// What holds after every step, whatever goes wrong.
    fn check(&self) {
        let everything = self.visible.len() == self.scenario.sources.len();
        for outcome in [self.sender.outcome(), self.receiver.outcome()]
            .into_iter()
            .flatten()
        {
            assert!(
                *outcome != Outcome::Done || everything,
                "success without every file"
            );
        }
        assert!(self.sender.acked_files() <= self.visible.len());
        assert_eq!(self.receiver.committed_files(), self.visible.len());
        assert!(self.most_unacked <= 64);
    }

    /// What holds when nothing can happen any more.
    fn check_end(&self) {
        assert_eq!(self.sender_end.as_ref(), self.sender.outcome());
        assert_eq!(self.receiver_end.as_ref(), self.receiver.outcome());
        assert!(self.sender_end.is_some(), "the sender hangs");
        assert!(self.receiver_end.is_some(), "the receiver hangs");
        assert!(self.sender_gone && self.receiver_gone, "nobody closes");
        // Reports as bad news what is bad news.
        if self.sender_end == Some(Outcome::Done) {
            assert_eq!(self.receiver_end, Some(Outcome::Done));
        }
    }

    fn choose(&mut self) -> Option<Step> {
        let mut steps = Vec::new();
        if !self.receiver_gone {
            if !self.to_receiver.queue.is_empty() {
                steps.push(Step::Deliver(Direction::ToReceiver));
            } else if self.to_receiver.closed {
                steps.push(Step::NoticeClose(Actor::Receiver));
            }
        }
        if !self.sender_gone {
            if !self.to_sender.queue.is_empty() {
                steps.push(Step::Deliver(Direction::ToSender));
            } else if self.to_sender.closed {
                steps.push(Step::NoticeClose(Actor::Sender));
            }
        }
        if self.reading.is_some() && self.to_receiver.queue.len() < 6 {
            steps.push(Step::Read);
        }
        steps.extend(self.comparing.iter().copied().map(Step::Compare));
        if self.offered.is_some() {
            steps.push(Step::Decide);
        }
        if !self.sender_gone && self.sender.closing() == Some(Closing::Now) {
            steps.push(Step::Close(Actor::Sender));
        }
        if !self.receiver_gone && self.receiver.closing() == Some(Closing::Now) {
            steps.push(Step::Close(Actor::Receiver));
        }
        if !self.finishing.is_empty() && (steps.is_empty() || !self.scenario.slow_disk) {
            steps.push(Step::Commit);
        }
        (!steps.is_empty()).then(|| steps[self.rng.below(steps.len())])
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Deliver(Direction::ToReceiver) => self.deliver_to_receiver(),
            Step::Deliver(Direction::ToSender) => self.deliver_to_sender(),
            Step::Read => self.read(),
            Step::Commit => self.commit(),
            Step::Compare(actor) => self.compare(actor),
            Step::Decide => {
                self.offered = None;
                match self.scenario.decline {
                    Some(reason) => self.receiver.decline(reason, "said so"),
                    None => self.receiver.accept(),
                }
            }
            Step::Close(Actor::Sender) => {
                self.sender_gone = true;
                self.to_receiver.closed = true;
                self.clear_wires();
            }
            Step::Close(Actor::Receiver) => {
                self.receiver_gone = true;
                self.to_sender.closed = true;
                self.clear_wires();
            }
            Step::NoticeClose(Actor::Sender) => {
                self.sender_gone = true;
                self.sender.handle_closed();
            }
            Step::NoticeClose(Actor::Receiver) => {
                self.receiver_gone = true;
                self.receiver.handle_closed();
            }
        }
    }

    fn compare(&mut self, actor: Actor) {
        self.comparing.retain(|other| *other != actor);
        let differ = self.scenario.differ.filter(|(who, _)| *who == actor);
        match (differ, actor) {
            (Some((_, reason)), Actor::Sender) => self.sender.cancel(reason, ""),
            (Some((_, reason)), Actor::Receiver) => self.receiver.cancel(reason, ""),
            (None, Actor::Sender) => self.sender.agree(),
            (None, Actor::Receiver) => self.receiver.agree(),
        }
        if differ.is_none() {
            self.agreed.push(actor);
        }
    }

    /// Nothing of the user's leaves before both persons have compared the words.
    fn check_opening(&self, frame: &Frame) {
        let harmless = |t: &str| ["hello", "agree", "cancel"].contains(&t);
        let opening = match frame {
            Frame::Data(_) => false,
            Frame::Text(text) => {
                let message = Message::parse(text.as_bytes()).unwrap().unwrap();
                harmless(message.name())
            }
        };
        let compared = self.scenario.verify.is_empty() || self.agreed.len() == 2;
        assert!(opening || compared, "too early: {frame:?}");
    }

    /// The worst a close may do: it overtakes every message, both ways.
    fn clear_wires(&mut self) {
        self.to_receiver.queue.clear();
        self.to_sender.queue.clear();
    }

    fn deliver_to_receiver(&mut self) {
        self.to_receiver.delivered += 1;
        match self.to_receiver.queue.pop_front().unwrap() {
            Frame::Text(text) => self.receiver.handle_control(text.as_bytes()),
            Frame::Data(mut bytes) => {
                if self.scenario.flip == Some(self.data_delivered) {
                    bytes[0] ^= 4;
                }
                self.data_delivered += 1;
                if let Some(to) = self.receiver.handle_data(bytes.len()) {
                    let (file, content) = self.temporary.as_mut().expect("begun");
                    assert_eq!((to.file, to.offset), (*file, content.len() as u64));
                    content.extend(bytes);
                }
            }
        }
    }

    fn deliver_to_sender(&mut self) {
        self.to_sender.delivered += 1;
        match self.to_sender.queue.pop_front().unwrap() {
            Frame::Text(text) => {
                self.acks_delivered += usize::from(text.starts_with(r#"{"t":"ack""#));
                self.sender.handle_control(text.as_bytes());
            }
            Frame::Data(bytes) => self.sender.handle_data(bytes.len()),
        }
    }

    fn read(&mut self) {
        let (file, max) = self.reading.take().unwrap();
        let source = &self.scenario.sources[file];
        let rest = &source.bytes[self.read_pos..];
        let chunk = &rest[..rest.len().min(max).min(1 + self.rng.below(9))];
        if source
            .fails_at
            .is_some_and(|at| self.read_pos + chunk.len() > at)
        {
            self.sender.handle_read_error("input/output error");
        } else if chunk.is_empty() && source.changed {
            self.sender.handle_changed();
        } else if chunk.is_empty() {
            let hash = std::mem::take(&mut self.read_hash).finalize();
            self.read_pos = 0;
            self.sender.handle_eof(hash);
        } else if self.sender.handle_read(chunk.len()) {
            self.read_hash.update(chunk);
            self.read_pos += chunk.len();
            let frame = Frame::Data(chunk.to_vec());
            self.check_opening(&frame);
            self.to_receiver.transmit(frame);
        }
    }

    /// Commits complete in any order.
    fn commit(&mut self) {
        let at = self.rng.below(self.finishing.len());
        let (file, bytes, size, hash) = self.finishing.swap_remove(at);
        if self.scenario.disk_full == Some(file) {
            self.receiver
                .handle_write_error(file, "no space left on device");
        } else if bytes.len() as u64 == size && Digest::from(blake3::hash(&bytes)) == hash {
            assert_eq!(
                bytes, self.scenario.sources[file].bytes,
                "a wrong file is visible"
            );
            assert!(
                self.visible.insert(file, bytes).is_none(),
                "committed twice"
            );
            self.receiver.handle_committed(file);
        } else {
            self.receiver.handle_mismatch(file);
        }
    }

    fn drain(&mut self) {
        loop {
            let output = self.sender.poll_output();
            if output == sender::Output::Idle {
                break;
            }
            assert!(self.sender_end.is_none(), "after the end: {output:?}");
            match output {
                sender::Output::Control(text) => {
                    self.started += usize::from(text.starts_with(r#"{"t":"file""#));
                    let frame = Frame::Text(text);
                    self.check_opening(&frame);
                    self.to_receiver.transmit(frame);
                }
                sender::Output::Read { file, max } => {
                    assert!(
                        self.reading.replace((file, max)).is_none(),
                        "two reads at once"
                    );
                }
                sender::Output::Event(sender::Event::Compare) => {
                    self.comparing.push(Actor::Sender);
                }
                sender::Output::Event(sender::Event::Finished(outcome)) => {
                    self.comparing.retain(|actor| *actor != Actor::Sender);
                    self.reading = None;
                    self.sender_end = Some(outcome);
                }
                sender::Output::Event(_) | sender::Output::Idle => {}
            }
        }
        loop {
            let output = self.receiver.poll_output();
            if output == receiver::Output::Idle {
                break;
            }
            assert!(self.receiver_end.is_none(), "after the end: {output:?}");
            match output {
                receiver::Output::Control(text) => {
                    let frame = Frame::Text(text);
                    self.check_opening(&frame);
                    self.to_sender.transmit(frame);
                }
                receiver::Output::Offer { files, .. } => self.offered = Some(files),
                receiver::Output::Begin { file } => {
                    assert!(
                        self.temporary.replace((file, Vec::new())).is_none(),
                        "two files open"
                    );
                }
                receiver::Output::Finish { file, size, blake3 } => {
                    let (open, bytes) = self.temporary.take().expect("begun");
                    assert_eq!(open, file);
                    self.finishing.push((file, bytes, size, blake3));
                }
                receiver::Output::Event(receiver::Event::Compare) => {
                    self.comparing.push(Actor::Receiver);
                }
                receiver::Output::Event(receiver::Event::Finished(outcome)) => {
                    self.comparing.retain(|actor| *actor != Actor::Receiver);
                    self.temporary = None;
                    self.offered = None;
                    self.receiver_end = Some(outcome);
                }
                receiver::Output::Event(_) | receiver::Output::Idle => {}
            }
        }
        self.most_unacked = self
            .most_unacked
            .max(self.started - self.sender.acked_files());
    }

    fn interrupt_when_due(&mut self) {
        match self.scenario.cancel {
            Some((Actor::Sender, at)) if at == self.steps => {
                self.sender.cancel(CancelReason::User, "interrupted");
            }
            Some((Actor::Receiver, at)) if at == self.steps => {
                self.receiver.cancel(CancelReason::User, "interrupted");
            }
            _ => {}
        }
    }

    fn cut_when_due(&mut self) {
        let Some(cut) = self.scenario.cut else { return };
        let delivered = match cut.direction {
            Direction::ToReceiver => self.to_receiver.delivered,
            Direction::ToSender => self.to_sender.delivered,
        };
        if self.was_cut || delivered < cut.after || (self.sender_gone && self.receiver_gone) {
            return;
        }
        self.was_cut = true;
        // What the cut direction still holds is lost; the other way it depends.
        let (lost, other) = match cut.direction {
            Direction::ToReceiver => (&mut self.to_receiver, &mut self.to_sender),
            Direction::ToSender => (&mut self.to_sender, &mut self.to_receiver),
        };
        lost.queue.clear();
        if cut.in_flight == InFlight::Lost {
            other.queue.clear();
        }
        for wire in [lost, other] {
            wire.closed = true;
            wire.dead = true;
        }
    }
}

/// A small generator (xorshift64): the same seed, the same run.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}
