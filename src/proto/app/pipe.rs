//! Two streams joined, both ways: what one side reads, the other writes.
//!
//! States: `Opening` (see [`Opening`]) → open → finished. Each direction ends by itself (`end`, then
//! `ack`), so one may go on for as long as it likes after the other. A direction can be left out by
//! either side ([`Only`]).
//!
//! The machine moves no bytes. Each side *grants* the other what it has room for, and reading the
//! channel never stops: so a reader that takes nothing holds back its own direction and nothing
//! else, and memory is bounded by [`WINDOW`] whatever the peer does. A message counts for its bytes
//! and [`OVERHEAD`], because very many very short ones cost memory too.

use std::collections::VecDeque;

use super::hello::{Hello, Local, Mismatch, Only, Peer, Role};
use super::message::{
    Ack, CancelReason, Digest, Fault, FileEnd, Grant, MAX_DATA, MAX_TOTAL, Message, Stop,
};
use super::opening::Opening;
use super::outcome::{
    Closing, Ending, FileRef, Outcome, Problem, Side, cancelled_by_peer, cancelled_here, farewell,
    refused,
};

/// What this side has room for, in bytes: twice the window of the link, so that it never holds the
/// link back.
pub const WINDOW: u64 = 4 << 20;

/// What a data message counts for beyond its bytes.
pub const OVERHEAD: u64 = 256;

/// The furthest that a grant may lie ahead of what was sent: it bounds what a peer can make this
/// side keep on its way out.
pub const MAX_AHEAD: u64 = 16 << 20;

/// A new grant is worth a message when it is this much more than the last.
const STEP: u64 = WINDOW / 8;

/// What a data message of `len` bytes uses of a grant.
#[must_use]
pub fn cost(len: usize) -> u64 {
    len as u64 + OVERHEAD
}

/// What the I/O layer has to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Transmit this as a text message, after everything transmitted before.
    Control(String),
    /// When there are bytes to send, transmit 1 to `max` of them, after [`Pipe::handle_read`]. One
    /// request is out at a time. The end of the input needs no request.
    Read {
        /// The most bytes of the next data message.
        max: usize,
    },
    /// All bytes have come. When the reader has taken them, end its stream if these agree, and answer
    /// with [`Pipe::handle_finished`] or [`Pipe::handle_mismatch`].
    Finish {
        /// Their number; the bytes counted here already agree with it.
        size: u64,
        /// Their hash, as the peer computed it.
        blake3: Digest,
    },
    /// Tell the caller.
    Event(Event),
    /// Nothing until the next call.
    Idle,
}

/// What a caller may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The hellos fit.
    Connected(Peer),
    /// The person is to compare the words of both sides: answer with [`Pipe::agree`], or with
    /// [`Pipe::cancel`] and [`CancelReason::Words`].
    Compare,
    /// The streams are open.
    Open {
        /// Whether this side sends: otherwise its input is not to be read.
        sends: bool,
        /// Whether this side takes something: otherwise nothing comes for its output.
        takes: bool,
    },
    /// All bytes of this side are on their way.
    Sent {
        /// Their number.
        size: u64,
    },
    /// The peer's reader has taken all bytes of this side, and they agree.
    Acked {
        /// Their number.
        size: u64,
        /// Their hash.
        blake3: Digest,
    },
    /// The reader of this side has taken all bytes of the peer, and they agree.
    Received {
        /// Their number.
        size: u64,
        /// Their hash.
        blake3: Digest,
    },
    /// The end; nothing follows.
    Finished(Outcome),
}

/// The machine of one side; both sides are alike.
#[derive(Debug)]
pub struct Pipe {
    opening: Opening,
    only: Option<Only>,
    open: bool,
    max_data: usize,
    out: Option<Outward>,
    inward: Option<Inward>,
    link_up: bool,
    queue: VecDeque<Output>,
    ending: Ending,
}

/// The direction from here to there.
#[derive(Debug, Default)]
struct Outward {
    bytes: u64,
    /// What the data messages so far count for, and what they may count for.
    used: u64,
    granted: u64,
    /// The [`Output::Read`] that is out.
    asked: Option<usize>,
    /// The hash of all bytes, once there are no more.
    end: Option<Digest>,
    acked: bool,
}

/// The direction from there to here.
#[derive(Debug, Default)]
struct Inward {
    bytes: u64,
    /// What the data messages so far count for, how much of that is free again, and what they may
    /// count for.
    used: u64,
    freed: u64,
    granted: u64,
    end: Option<(u64, Digest)>,
    finished: bool,
}

impl Pipe {
    /// Builds the machine of a side that joins its streams to the peer's; its hello is the first
    /// output.
    #[must_use]
    pub fn new(local: Local<'_>, only: Option<Only>) -> Self {
        let (opening, mut hello) = Opening::new(local, Role::Pipe);
        if let Message::Hello(hello) = &mut hello {
            hello.only = only.map(|only| only.word().to_owned());
        }
        Self {
            opening,
            only,
            open: false,
            max_data: MAX_DATA,
            out: None,
            inward: None,
            link_up: true,
            queue: VecDeque::from([Output::Control(hello.to_json())]),
            ending: Ending::default(),
        }
    }

    /// Returns the peer, once its hello has come and fits.
    pub fn peer(&self) -> Option<&Peer> {
        self.opening.peer()
    }

    /// Returns the bytes handed to the channel so far.
    pub fn sent_bytes(&self) -> u64 {
        self.out.as_ref().map_or(0, |out| out.bytes)
    }

    /// Returns the bytes that have come so far.
    pub fn received_bytes(&self) -> u64 {
        self.inward.as_ref().map_or(0, |inward| inward.bytes)
    }

    /// Returns how it ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.ending.outcome.as_ref()
    }

    /// Says who closes the channel, once it has ended.
    pub fn closing(&self) -> Option<Closing> {
        self.ending.closing
    }

    /// Takes a text message of the peer; bytes, since a peer may put anything into one.
    pub fn handle_control(&mut self, message: &[u8]) {
        if self.ending.reached() {
            self.ending.heed(message);
        } else if let Err(fault) = self.control(message) {
            self.fault(fault);
        }
    }

    /// Takes a binary message of the peer. Returns whether its bytes are for the reader, which
    /// [`Pipe::handle_taken`] tells later; otherwise drop them.
    #[must_use]
    pub fn handle_data(&mut self, len: usize) -> bool {
        if self.ending.reached() {
            return false;
        }
        match self.take(len) {
            Ok(()) => true,
            Err(fault) => {
                self.fault(fault);
                false
            }
        }
    }

    /// Tells that the reader took messages that count for this much (see [`cost`]), in their order.
    pub fn handle_taken(&mut self, cost: u64) {
        if let Some(inward) = &mut self.inward {
            inward.freed = inward.freed.saturating_add(cost).min(inward.used);
        }
    }

    /// Tells that the bytes of [`Output::Finish`] agree, and that the reader has its end.
    pub fn handle_finished(&mut self) {
        let due = self.inward.as_mut().filter(|inward| !inward.finished);
        if let (false, Some(inward)) = (self.ending.reached(), due)
            && let Some((size, blake3)) = inward.end
        {
            inward.finished = true;
            self.send(&Message::Ack(Ack { i: 0, blake3 }));
            self.event(Event::Received { size, blake3 });
            self.complete();
        }
    }

    /// Tells that the hash of [`Output::Finish`] is not the one computed here.
    pub fn handle_mismatch(&mut self) {
        if !self.ending.reached() {
            self.unverified();
        }
    }

    /// Tells that nobody reads any more: how many bytes the reader took, and their hash.
    pub fn handle_reader_gone(&mut self, size: u64, blake3: impl Into<Digest>) {
        let taking = self.inward.as_ref().is_some_and(|inward| !inward.finished);
        if taking && !self.ending.reached() {
            let blake3 = blake3.into();
            self.send(&Message::Stop(Stop { size, blake3 }));
            self.finish(Outcome::ReaderGone { by: Side::Here }, self.last_word());
        }
    }

    /// Tells that the output cannot be written. The text also goes to the peer.
    pub fn handle_write_error(&mut self, text: &str) {
        self.fail("standard output", Problem::Write(text.to_owned()));
    }

    /// Tells that `len` bytes are there for the last [`Output::Read`]. Call it *before* transmitting.
    ///
    /// Returns whether to transmit them. `false` means: drop them, it has ended meanwhile.
    #[must_use]
    pub fn handle_read(&mut self, len: usize) -> bool {
        if self.ending.reached() {
            return false;
        }
        let Some(out) = &mut self.out else {
            return false;
        };
        let Some(max) = out.asked.take() else {
            return false;
        };
        if len == 0 || len > max {
            self.fail(
                INPUT,
                Problem::Misuse("a read outside the bounds asked for"),
            );
            return false;
        }
        if len as u64 > MAX_TOTAL - out.bytes {
            self.fail(INPUT, Problem::Grew { size: MAX_TOTAL });
            return false;
        }
        out.bytes += len as u64;
        out.used += cost(len);
        true
    }

    /// Tells that the input has no more bytes, and the hash of all that were transmitted.
    pub fn handle_eof(&mut self, blake3: impl Into<Digest>) {
        let due = self.out.as_mut().filter(|out| out.end.is_none());
        if let (false, Some(out)) = (self.ending.reached(), due) {
            let (size, blake3) = (out.bytes, blake3.into());
            out.end = Some(blake3);
            out.asked = None;
            self.send(&Message::End(FileEnd { i: 0, size, blake3 }));
            self.event(Event::Sent { size });
        }
    }

    /// Tells that the input cannot be read on. The text also goes to the peer.
    pub fn handle_read_error(&mut self, text: &str) {
        self.fail(INPUT, Problem::Read(text.to_owned()));
    }

    /// Tells that the channel is gone, by whichever side or by the link's own judgement.
    pub fn handle_closed(&mut self) {
        self.link_up = false;
        if self.ending.reached() {
            self.ending.link_closed();
        } else if !self.only_the_reader_is_missing() {
            self.finish(Outcome::Lost, Closing::Now);
        }
    }

    /// While the peer's program has the next word: before its hello. Later a stream may rest.
    pub fn awaited(&self) -> Option<u64> {
        (self.opening.peer().is_none() && self.outcome().is_none()).then_some(0)
    }

    /// Tells that the person found the words of [`Event::Compare`] to agree.
    pub fn agree(&mut self) {
        if !self.ending.reached()
            && let Some(agree) = self.opening.agree()
        {
            self.send(&agree);
            self.join();
        }
    }

    /// Breaks off and tells the peer. No effect once it has ended.
    pub fn cancel(&mut self, reason: CancelReason, text: &str) {
        if !self.ending.reached() {
            self.break_off(cancelled_here(reason, text));
        }
    }

    /// Hands over the next output; see the drain rule in [`proto::app`](super). It may be left for
    /// later while the channel takes no message: what waits here is bounded.
    pub fn poll_output(&mut self) -> Output {
        if let Some(output) = self.queue.pop_front() {
            return output;
        }
        if self.ending.reached() {
            return Output::Idle;
        }
        if let Some(to) = self.inward.as_mut().and_then(Inward::grant) {
            return Output::Control(Message::Grant(Grant { to }).to_json());
        }
        match self.out.as_mut().and_then(|out| out.ask(self.max_data)) {
            Some(max) => Output::Read { max },
            None => Output::Idle,
        }
    }

    fn control(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let Some(message) = Message::parse(bytes)? else {
            return Ok(());
        };
        match message {
            Message::Cancel(cancel) => {
                let stream = (cancel.reason == CancelReason::Verify).then(stream);
                let outcome = cancelled_by_peer(cancel, |_| stream.clone());
                self.finish(outcome, Closing::Now);
                Ok(())
            }
            Message::Hello(hello) if !self.open => {
                self.greet(hello);
                Ok(())
            }
            Message::Agree if !self.open => {
                self.opening.handle_agree()?;
                self.join();
                Ok(())
            }
            Message::Grant(grant) if self.open => self.granted(grant),
            Message::End(end) if self.open => self.ended(end),
            Message::Ack(ack) if self.open => self.acknowledged(ack),
            Message::Stop(stop) if self.open => self.stopped(stop),
            message => Err(Fault::Unexpected {
                t: message.name(),
                when: if self.open {
                    "while the streams are open"
                } else {
                    self.opening.moment()
                },
            }),
        }
    }

    fn greet(&mut self, hello: Hello) {
        match self.opening.handle_hello(hello) {
            Ok(peer) => {
                let peer = peer.clone();
                self.event(Event::Connected(peer));
                if self.opening.asks() {
                    self.event(Event::Compare);
                }
                self.join();
            }
            Err(refusal) => self.break_off(refused(refusal)),
        }
    }

    /// Opens the streams, once nothing stands in their way.
    fn join(&mut self) {
        let (true, Some(peer)) = (self.opening.is_done(), self.opening.peer()) else {
            return;
        };
        let (sends, takes) = Only::ways(self.only, peer.only);
        self.max_data = peer.max_data;
        if let (false, false, Some(only)) = (sends, takes, self.only) {
            let role = only.role();
            self.break_off(Outcome::Incompatible(Mismatch::Roles {
                ours: role,
                theirs: role,
            }));
            return;
        }
        self.open = true;
        self.out = sends.then(Outward::default);
        self.inward = takes.then(Inward::default);
        self.event(Event::Open { sends, takes });
    }

    fn granted(&mut self, Grant { to }: Grant) -> Result<(), Fault> {
        let Some(out) = &mut self.out else {
            return Err(Fault::Unexpected {
                t: "grant",
                when: "for a stream that is not there",
            });
        };
        if to <= out.granted || to > out.used + MAX_AHEAD {
            return Err(Fault::WrongGrant {
                to,
                before: out.granted,
                used: out.used,
            });
        }
        out.granted = to;
        Ok(())
    }

    fn take(&mut self, len: usize) -> Result<(), Fault> {
        let unexpected = |when| Err(Fault::UnexpectedData { when });
        if !self.open {
            return unexpected(self.opening.moment());
        }
        let Some(inward) = &mut self.inward else {
            return unexpected("from a side that only receives");
        };
        if inward.end.is_some() {
            return unexpected("after \"end\"");
        }
        if len == 0 || len > MAX_DATA {
            return Err(Fault::DataLength { len });
        }
        let used = inward.used + cost(len);
        if used > inward.granted {
            return Err(Fault::BeyondGrant { to: inward.granted });
        }
        inward.used = used;
        inward.bytes += len as u64;
        Ok(())
    }

    fn ended(&mut self, FileEnd { i, size, blake3 }: FileEnd) -> Result<(), Fault> {
        let due = self.inward.as_mut().filter(|inward| inward.end.is_none());
        let Some(inward) = due else {
            return Err(Fault::WrongFile {
                t: "end",
                due: None,
                got: i,
            });
        };
        first("end", i)?;
        if size != inward.bytes {
            self.unverified();
            return Ok(());
        }
        inward.end = Some((size, blake3));
        self.queue.push_back(Output::Finish { size, blake3 });
        Ok(())
    }

    fn acknowledged(&mut self, Ack { i, blake3 }: Ack) -> Result<(), Fault> {
        let due = self.out.as_mut().filter(|out| !out.acked);
        let Some((out, end)) = due.and_then(|out| out.end.map(|end| (out, end))) else {
            return Err(Fault::WrongFile {
                t: "ack",
                due: None,
                got: i,
            });
        };
        first("ack", i)?;
        if blake3 != end {
            self.unverified();
            return Ok(());
        }
        out.acked = true;
        let size = out.bytes;
        self.event(Event::Acked { size, blake3 });
        self.complete();
        Ok(())
    }

    /// The peer's reader went away, and the peer with it. That is no loss if it had everything and
    /// nothing more was to come from there.
    fn stopped(&mut self, Stop { size, blake3 }: Stop) -> Result<(), Fault> {
        let Some(out) = self.out.as_mut().filter(|out| !out.acked) else {
            return Err(Fault::Unexpected {
                t: "stop",
                when: "for a stream that is not there",
            });
        };
        if size > out.bytes {
            return Err(Fault::malformed("stop: more bytes than were sent"));
        }
        let had_all = out.end.is_some() && size == out.bytes;
        if had_all && out.end != Some(blake3) {
            self.unverified();
        } else if had_all && self.inward.as_ref().is_none_or(|inward| inward.finished) {
            self.event(Event::Acked { size, blake3 });
            self.finish(Outcome::Done, Closing::Now);
        } else {
            let outcome = Outcome::ReaderGone { by: Side::There };
            self.finish(outcome, Closing::Now);
        }
        Ok(())
    }

    /// Whether all that can still go wrong is on this side of the channel.
    fn only_the_reader_is_missing(&self) -> bool {
        self.open
            && self.out.as_ref().is_none_or(|out| out.acked)
            && (self.inward.as_ref()).is_some_and(|inward| inward.end.is_some())
    }

    fn complete(&mut self) {
        if self.out.as_ref().is_none_or(|out| out.acked)
            && self.inward.as_ref().is_none_or(|inward| inward.finished)
        {
            self.send(&Message::Bye);
            self.finish(Outcome::Done, self.last_word());
        }
    }

    fn fail(&mut self, name: &str, problem: Problem) {
        if !self.ending.reached() {
            let file = FileRef {
                index: 0,
                name: name.to_owned(),
            };
            self.break_off(Outcome::Failed { file, problem });
        }
    }

    fn unverified(&mut self) {
        self.break_off(Outcome::Verification {
            by: Side::Here,
            file: Some(stream()),
        });
    }

    fn fault(&mut self, fault: Fault) {
        self.break_off(Outcome::Protocol(fault));
    }

    fn break_off(&mut self, outcome: Outcome) {
        if self.link_up {
            self.queue.push_back(Output::Control(farewell(&outcome)));
        }
        self.finish(outcome, self.last_word());
    }

    /// Whoever speaks last waits, if anybody can hear it.
    fn last_word(&self) -> Closing {
        if self.link_up {
            Closing::AwaitPeer
        } else {
            Closing::Now
        }
    }

    fn finish(&mut self, outcome: Outcome, closing: Closing) {
        // A stream that is not whole is not to be ended as if it were.
        (self.queue).retain(|output| !matches!(output, Output::Finish { .. }));
        self.event(Event::Finished(outcome.clone()));
        self.ending.set(outcome, closing);
    }

    fn send(&mut self, message: &Message) {
        if self.link_up {
            self.queue.push_back(Output::Control(message.to_json()));
        }
    }

    fn event(&mut self, event: Event) {
        self.queue.push_back(Output::Event(event));
    }
}

const INPUT: &str = "standard input";

/// What carries a stream's bytes has no other name.
fn stream() -> FileRef {
    FileRef {
        index: 0,
        name: "the stream".to_owned(),
    }
}

/// Each direction carries one stream, number 0.
fn first(t: &'static str, got: u64) -> Result<(), Fault> {
    let due = Some(0);
    if got == 0 {
        Ok(())
    } else {
        Err(Fault::WrongFile { t, due, got })
    }
}

impl Outward {
    fn ask(&mut self, max_data: usize) -> Option<usize> {
        let room = self.granted.saturating_sub(self.used + OVERHEAD);
        if room == 0 || self.asked.is_some() || self.end.is_some() {
            return None;
        }
        let max = usize::try_from(room).map_or(max_data, |room| room.min(max_data));
        self.asked = Some(max);
        Some(max)
    }
}

impl Inward {
    /// The next grant, when it is worth a message.
    fn grant(&mut self) -> Option<u64> {
        let to = self.freed + WINDOW;
        let due = self.end.is_none() && to - self.granted >= STEP;
        due.then(|| {
            self.granted = to;
            to
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: Local<'static> = Local {
        version: "0.1.0",
        verify: false,
    };
    const GRANT: &[u8] = br#"{"t":"grant","to":1000}"#;

    fn drain(pipe: &mut Pipe) -> Vec<Output> {
        std::iter::from_fn(|| Some(pipe.poll_output()).filter(|o| *o != Output::Idle)).collect()
    }

    fn hello(only: Option<Only>) -> Vec<u8> {
        let mut peer = Pipe::new(LOCAL, only);
        match peer.poll_output() {
            Output::Control(text) => text.into_bytes(),
            other => panic!("{other:?}"),
        }
    }

    fn opened(here: Option<Only>, there: Option<Only>) -> Pipe {
        let mut pipe = Pipe::new(LOCAL, here);
        pipe.handle_control(&hello(there));
        pipe
    }

    fn joined() -> Pipe {
        let mut pipe = opened(None, None);
        drain(&mut pipe);
        pipe
    }

    fn says(outputs: &[Output], t: &str) -> bool {
        let start = format!(r#"{{"t":"{t}""#);
        let is =
            |output: &Output| matches!(output, Output::Control(text) if text.starts_with(&start));
        outputs.iter().any(is)
    }

    fn end(size: u64) -> Vec<u8> {
        let blake3 = Digest([7; 32]);
        Message::End(FileEnd { i: 0, size, blake3 })
            .to_json()
            .into_bytes()
    }

    fn ack(byte: u8) -> Vec<u8> {
        let blake3 = Digest([byte; 32]);
        Message::Ack(Ack { i: 0, blake3 }).to_json().into_bytes()
    }

    #[test]
    fn nothing_is_asked_for_or_granted_before_the_hello() {
        let mut pipe = Pipe::new(LOCAL, None);
        let first = drain(&mut pipe);
        assert_eq!(first.len(), 1);
        assert!(says(&first, "hello"));
        assert!(!pipe.handle_data(1));
        assert!(matches!(pipe.outcome(), Some(Outcome::Protocol(_))));
    }

    #[test]
    fn words_are_compared_before_a_byte_is_granted() {
        let verify = Local {
            verify: true,
            ..LOCAL
        };
        let mut pipe = Pipe::new(verify, None);
        pipe.handle_control(&hello(None));
        let outputs = drain(&mut pipe);
        assert_eq!(outputs.last(), Some(&Output::Event(Event::Compare)));
        pipe.agree();
        let outputs = drain(&mut pipe);
        assert!(says(&outputs, "agree") && !says(&outputs, "grant"));
        pipe.handle_control(br#"{"t":"agree"}"#);
        assert!(says(&drain(&mut pipe), "grant"));
    }

    #[test]
    fn each_side_can_leave_a_direction_out() {
        use Only::{Receive, Send};
        for (here, there, sends, takes) in [
            (None, None, true, true),
            (Some(Send), None, true, false),
            (Some(Receive), None, false, true),
            (None, Some(Send), false, true),
            (None, Some(Receive), true, false),
            (Some(Send), Some(Receive), true, false),
            (Some(Receive), Some(Send), false, true),
        ] {
            let outputs = drain(&mut opened(here, there));
            let open = Output::Event(Event::Open { sends, takes });
            assert!(outputs.contains(&open), "{here:?} {there:?}: {outputs:?}");
            assert_eq!(says(&outputs, "grant"), takes, "{here:?} {there:?}");
        }
        for only in [Send, Receive] {
            let pipe = opened(Some(only), Some(only));
            let said = pipe.outcome().unwrap().to_string();
            assert_eq!(said, format!("both sides want to {}", only.word()));
        }
    }

    #[test]
    fn a_read_is_asked_for_within_the_grant_and_one_at_a_time() {
        let mut pipe = joined();
        pipe.handle_control(GRANT);
        assert_eq!(drain(&mut pipe), [Output::Read { max: 744 }]);
        assert_eq!(drain(&mut pipe), []);
        assert!(pipe.handle_read(4));
        assert_eq!(drain(&mut pipe), [Output::Read { max: 484 }]);
        assert!(pipe.handle_read(400));
        assert_eq!(drain(&mut pipe), [], "84 is less than a message counts for");
        assert_eq!(pipe.sent_bytes(), 404);
        pipe.handle_control(br#"{"t":"grant","to":1000000}"#);
        assert_eq!(drain(&mut pipe), [Output::Read { max: MAX_DATA }]);
        assert!(!pipe.handle_read(MAX_DATA + 1));
        assert!(matches!(pipe.outcome(), Some(Outcome::Failed { .. })));
    }

    #[test]
    fn the_end_needs_no_grant() {
        let mut pipe = joined();
        pipe.handle_eof([7; 32]);
        assert!(says(&drain(&mut pipe), "end"));
    }

    #[test]
    fn taken_bytes_are_granted_anew_in_large_steps() {
        let mut pipe = joined();
        let mut grants = 0;
        for _ in 0..200 {
            assert!(pipe.handle_data(MAX_DATA));
            pipe.handle_taken(cost(MAX_DATA));
            grants += usize::from(says(&drain(&mut pipe), "grant"));
        }
        assert!((20..=25).contains(&grants), "{grants} for 12.5 MiB");
    }

    #[test]
    fn a_reader_that_takes_nothing_bounds_what_is_here() {
        let mut pipe = joined();
        let mut here = 0;
        while pipe.handle_data(1) {
            here += 1;
        }
        assert_eq!(here, WINDOW / (OVERHEAD + 1));
        let fault = Fault::BeyondGrant { to: WINDOW };
        assert_eq!(pipe.outcome(), Some(&Outcome::Protocol(fault)));
    }

    #[test]
    fn one_direction_goes_on_after_the_other_has_ended() {
        let mut pipe = joined();
        pipe.handle_control(GRANT);
        pipe.handle_eof([1; 32]);
        pipe.handle_control(&ack(1));
        drain(&mut pipe);
        assert!(pipe.handle_data(3));
        assert_eq!(pipe.outcome(), None);
        pipe.handle_control(&end(3));
        assert_eq!(
            drain(&mut pipe),
            [Output::Finish {
                size: 3,
                blake3: Digest([7; 32])
            }]
        );
        assert_eq!(pipe.outcome(), None, "the reader may not have it yet");
        pipe.handle_finished();
        let outputs = drain(&mut pipe);
        assert!(
            says(&outputs, "ack") && says(&outputs, "bye"),
            "{outputs:?}"
        );
        assert_eq!(pipe.outcome(), Some(&Outcome::Done));
        assert_eq!(pipe.closing(), Some(Closing::AwaitPeer));
        pipe.handle_control(br#"{"t":"bye"}"#);
        assert_eq!(pipe.closing(), Some(Closing::Now));
    }

    #[test]
    fn a_side_that_has_everything_acknowledged_outlives_the_channel_for_its_reader() {
        let mut pipe = joined();
        pipe.handle_eof([1; 32]);
        pipe.handle_control(&ack(1));
        pipe.handle_control(&end(0));
        pipe.handle_closed();
        assert_eq!(pipe.outcome(), None);
        drain(&mut pipe);
        pipe.handle_finished();
        assert_eq!(
            (pipe.outcome(), pipe.closing()),
            (Some(&Outcome::Done), Some(Closing::Now))
        );
        let outputs = drain(&mut pipe);
        assert!(!says(&outputs, "ack") && !says(&outputs, "bye"));
    }

    #[test]
    fn a_reader_that_is_gone_ends_both_sides_and_each_knows_whose_it_was() {
        let mut here = joined();
        assert!(here.handle_data(9));
        here.handle_reader_gone(4, [3; 32]);
        let outputs = drain(&mut here);
        assert!(says(&outputs, "stop"), "{outputs:?}");
        assert_eq!(
            here.outcome(),
            Some(&Outcome::ReaderGone { by: Side::Here })
        );
        assert_eq!(here.closing(), Some(Closing::AwaitPeer));

        let mut there = joined();
        there.handle_control(GRANT);
        drain(&mut there);
        assert!(there.handle_read(9));
        let Output::Control(stop) = &outputs[0] else {
            panic!("{outputs:?}")
        };
        there.handle_control(stop.as_bytes());
        assert_eq!(
            there.outcome(),
            Some(&Outcome::ReaderGone { by: Side::There })
        );
        assert_eq!(there.closing(), Some(Closing::Now));
    }

    #[test]
    fn a_reader_that_had_everything_is_no_loss() {
        let stop = |size, byte| {
            let blake3 = Digest([byte; 32]);
            Message::Stop(Stop { size, blake3 }).to_json().into_bytes()
        };
        let sent = |there: Option<Only>| {
            let mut pipe = opened(None, there);
            pipe.handle_control(GRANT);
            drain(&mut pipe);
            assert!(pipe.handle_read(9));
            pipe
        };
        let gone = Outcome::ReaderGone { by: Side::There };
        // More may come from here, so it is a loss.
        let mut pipe = sent(Some(Only::Receive));
        pipe.handle_control(&stop(9, 1));
        assert_eq!(pipe.outcome(), Some(&gone));
        // Everything had been sent and taken.
        let mut pipe = sent(Some(Only::Receive));
        pipe.handle_eof([1; 32]);
        pipe.handle_control(&stop(9, 1));
        assert_eq!(pipe.outcome(), Some(&Outcome::Done));
        // Everything but the last byte.
        let mut pipe = sent(Some(Only::Receive));
        pipe.handle_eof([1; 32]);
        pipe.handle_control(&stop(8, 1));
        assert_eq!(pipe.outcome(), Some(&gone));
        // What was to come from there is cut off.
        let mut pipe = sent(None);
        pipe.handle_eof([1; 32]);
        pipe.handle_control(&stop(9, 1));
        assert_eq!(pipe.outcome(), Some(&gone));
        // Other bytes.
        let mut pipe = sent(Some(Only::Receive));
        pipe.handle_eof([1; 32]);
        pipe.handle_control(&stop(9, 2));
        let end = pipe.outcome().unwrap();
        assert_eq!(
            end.to_string(),
            "the stream arrived with other bytes than were sent"
        );
    }

    #[test]
    fn a_stream_that_is_not_whole_is_not_ended() {
        let mut pipe = joined();
        pipe.handle_control(&end(0));
        pipe.cancel(CancelReason::User, "");
        let outputs = drain(&mut pipe);
        let ends = |output: &Output| matches!(output, Output::Finish { .. });
        assert!(!outputs.iter().any(ends), "{outputs:?}");
    }

    #[test]
    fn failures_of_either_stream_are_told_to_the_peer() {
        let told = |fail: fn(&mut Pipe)| {
            let mut pipe = joined();
            fail(&mut pipe);
            let outputs = drain(&mut pipe);
            let Output::Control(cancel) = &outputs[0] else {
                panic!("{outputs:?}")
            };
            let mut peer = joined();
            peer.handle_control(cancel.as_bytes());
            peer.outcome().unwrap().to_string()
        };
        assert_eq!(
            told(|pipe| pipe.handle_read_error("gone")),
            "the other side cancelled: it could not read (gone)"
        );
        assert_eq!(
            told(|pipe| pipe.handle_write_error("full")),
            "the other side cancelled: it could not write (full)"
        );
        assert_eq!(
            told(Pipe::handle_mismatch),
            "the stream arrived with other bytes than were sent"
        );
    }
}
