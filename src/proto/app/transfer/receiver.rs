//! The side that takes files.
//!
//! States: `Opening` (see [`Opening`]) → `Manifest` (its parts are coming) → `Deciding` →
//! `Receiving` → finished. No byte is taken before `accept`, none beyond a file's announced size,
//! and no file is acknowledged before the I/O layer says that it is verified and in its place.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::hello::{Hello, Local, Peer, Role};
use super::super::message::{
    Ack, Cancel, CancelReason, Decline, DeclineReason, Digest, Fault, FileEnd, FileStart, MAX_DATA,
    MAX_FILES, MAX_TEXT, MAX_TOTAL, MAX_UNACKED, Manifest, Message, Offer, cut, go_together, total,
};
use super::super::opening::Opening;
use super::super::outcome::{
    Closing, Ending, FileRef, Outcome, Problem, Side, cancelled_by_peer, cancelled_here, farewell,
    refused,
};

/// What the I/O layer has to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Transmit this as a text message, after everything transmitted before.
    Control(String),
    /// Decide about these files, then call [`Receiver::accept`] or [`Receiver::decline`].
    Offer {
        /// The files; their names are hostile.
        files: Arc<[Offer]>,
        /// The sum of all sizes in bytes, `None` when one is unknown.
        total: Option<u64>,
    },
    /// Open a temporary file; its bytes follow through [`Receiver::handle_data`].
    Begin {
        /// The file, by its place in the offer.
        file: usize,
    },
    /// Compare the count and the hash of the bytes written with these. When both agree, rename the
    /// temporary file into its place and call [`Receiver::handle_committed`]; otherwise delete it
    /// and call [`Receiver::handle_mismatch`] or [`Receiver::handle_write_error`]. A text is shown
    /// instead, and only then; see [`Receiver::handle_not_text`]. Bytes of later files may come
    /// before the answer.
    Finish {
        /// The file, by its place in the offer.
        file: usize,
        /// Its size in bytes.
        size: u64,
        /// The hash the sender computed.
        blake3: Digest,
    },
    /// Tell the caller.
    Event(Event),
    /// Nothing until the next call.
    Idle,
}

/// What a caller may want to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The hellos fit.
    Connected(Peer),
    /// The person is to compare the words of both sides: answer with [`Receiver::agree`], or with
    /// [`Receiver::cancel`] and [`CancelReason::Words`].
    Compare,
    /// A file is verified, in its place, and acknowledged as far as the link still stands.
    FileDone {
        /// The file.
        index: usize,
        /// Its size in bytes.
        size: u64,
        /// Its hash.
        blake3: Digest,
    },
    /// The end; nothing follows. Temporary files without a [`Output::Finish`] are to be deleted.
    Finished(Outcome),
}

/// Where arriving bytes belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteTo {
    /// The file, by its place in the offer.
    pub file: usize,
    /// The place of the first byte in the file.
    pub offset: u64,
}

/// The machine of the side that takes files.
#[derive(Debug)]
pub struct Receiver {
    state: State,
    opening: Opening,
    /// The parts of the manifest so far.
    parts: Vec<Offer>,
    files: Arc<[Offer]>,
    current: Option<Current>,
    /// The next file to start.
    next: usize,
    /// Files that ended and are not acknowledged, in order and without gaps.
    pending: VecDeque<Pending>,
    acked: usize,
    committed: usize,
    received_bytes: u64,
    link_up: bool,
    queue: VecDeque<Output>,
    ending: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Opening,
    Manifest,
    Deciding,
    Receiving,
}

/// The file whose bytes are coming in.
#[derive(Debug)]
struct Current {
    file: usize,
    got: u64,
    limit: u64,
}

#[derive(Debug)]
struct Pending {
    file: usize,
    size: u64,
    blake3: Digest,
    committed: bool,
}

impl Receiver {
    /// Builds the machine of a side that takes files; its hello is the first output.
    pub fn new(local: Local<'_>) -> Self {
        let (opening, hello) = Opening::new(local, Role::Receive);
        Self {
            state: State::Opening,
            opening,
            parts: Vec::new(),
            files: Arc::new([]),
            current: None,
            next: 0,
            pending: VecDeque::new(),
            acked: 0,
            committed: 0,
            received_bytes: 0,
            link_up: true,
            queue: VecDeque::from([Output::Control(hello.to_json())]),
            ending: Ending::default(),
        }
    }

    /// Returns the files of the offer, once it is complete; their names are hostile.
    pub fn files(&self) -> &[Offer] {
        &self.files
    }

    /// Returns the peer, once its hello has come and fits.
    pub fn peer(&self) -> Option<&Peer> {
        self.opening.peer()
    }

    /// Returns the number of files the I/O layer has put in their place.
    pub fn committed_files(&self) -> usize {
        self.committed
    }

    /// Returns the bytes of all files that arrived so far.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// While the peer's program has the next word (not its person, not this side): a number that
    /// grows with each thing it brings. A stream may rest for as long as it likes.
    pub fn awaited(&self) -> Option<u64> {
        let stream = |current: &Current| self.files[current.file].size.is_none();
        let due = match self.state {
            State::Opening => self.opening.peer().is_none(),
            State::Manifest => true,
            State::Deciding => false,
            State::Receiving => {
                self.pending.iter().all(|pending| pending.committed)
                    && !self.current.as_ref().is_some_and(stream)
            }
        };
        let brought = (self.parts.len() + self.next + self.acked) as u64 + self.received_bytes;
        (due && !self.ending.reached()).then_some(brought)
    }

    /// Returns how the transfer ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.ending.outcome.as_ref()
    }

    /// Says who closes the channel, once the transfer has ended.
    pub fn closing(&self) -> Option<Closing> {
        self.ending.closing
    }

    /// Takes a text message of the peer; bytes, since a peer may put anything into one.
    pub fn handle_control(&mut self, message: &[u8]) {
        if self.ending.reached() {
            self.ending.heed(message);
        } else if self.link_up
            && let Err(fault) = self.control(message)
        {
            self.fault(fault);
        }
    }

    /// Takes a binary message of `len` bytes and says where they belong.
    ///
    /// `None` means: drop them, the transfer has ended.
    #[must_use]
    pub fn handle_data(&mut self, len: usize) -> Option<WriteTo> {
        if self.ending.reached() || !self.link_up {
            return None;
        }
        match self.data(len) {
            Ok(write_to) => Some(write_to),
            Err(fault) => {
                self.fault(fault);
                None
            }
        }
    }

    /// Tells that a file of an [`Output::Finish`] agrees and is in its place, durably enough to be
    /// promised to the sender.
    pub fn handle_committed(&mut self, file: usize) {
        let Some(pending) = self.pending_mut(file) else {
            return;
        };
        pending.committed = true;
        self.committed += 1;
        if !self.ending.reached() {
            self.acknowledge();
        }
    }

    /// Tells that a file of an [`Output::Finish`] has another count or hash.
    pub fn handle_mismatch(&mut self, file: usize) {
        if !self.ending.reached() && self.pending_mut(file).is_some() {
            self.mismatch(file);
        }
    }

    /// Tells that the text of an [`Output::Finish`] agrees and is no UTF-8.
    pub fn handle_not_text(&mut self, file: usize) {
        if !self.ending.reached() && self.pending_mut(file).is_some() {
            self.fault(Fault::NotText);
        }
    }

    /// Tells that a file cannot be opened, written or put in its place. The text also goes to the
    /// peer: it should hold the cause and no path of this machine.
    pub fn handle_write_error(&mut self, file: usize, text: &str) {
        let known = self
            .current
            .as_ref()
            .is_some_and(|current| current.file == file)
            || self.pending_mut(file).is_some();
        if let Some(file) = self.file_ref(file)
            && known
            && !self.ending.reached()
        {
            self.break_off(Outcome::Failed {
                file,
                problem: Problem::Write(text.to_owned()),
            });
        }
    }

    /// Tells that the channel is gone, by whichever side or by the link's own judgement.
    ///
    /// Files that arrived whole are still committed: the end comes when the I/O layer has answered
    /// for each of them.
    pub fn handle_closed(&mut self) {
        self.link_up = false;
        if self.ending.reached() {
            self.ending.link_closed();
        } else {
            self.current = None;
            self.settle_lost_link();
        }
    }

    /// Tells that the person found the words of [`Event::Compare`] to agree.
    pub fn agree(&mut self) {
        if !self.ending.reached()
            && let Some(agree) = self.opening.agree()
        {
            self.send(&agree);
            self.list_next();
        }
    }

    /// Takes the offer. No effect unless one is waiting for a decision.
    pub fn accept(&mut self) {
        if self.deciding() {
            self.state = State::Receiving;
            self.send(&Message::Accept);
        }
    }

    /// Refuses the offer and tells the sender. No effect unless one is waiting for a decision.
    pub fn decline(&mut self, reason: DeclineReason, text: &str) {
        if self.deciding() {
            let text = cut(text, MAX_TEXT).to_owned();
            self.send(&Message::Decline(Decline {
                reason,
                text: text.clone(),
            }));
            let outcome = Outcome::Declined {
                by: Side::Here,
                reason,
                text,
            };
            self.finish(outcome, Closing::AwaitPeer);
        }
    }

    /// Breaks the transfer off and tells the peer. No effect once it has ended; with every file
    /// acknowledged there is nothing left to break off, and it ends as done.
    pub fn cancel(&mut self, reason: CancelReason, text: &str) {
        if self.ending.reached() {
            return;
        }
        if self.complete() {
            self.send(&Message::Cancel(Cancel {
                reason,
                i: None,
                text: String::new(),
            }));
            self.finish(Outcome::Done, Closing::AwaitPeer);
        } else {
            self.break_off(cancelled_here(reason, text));
        }
    }

    /// Hands over the next output; see the drain rule in [`proto::app`](crate::proto::app).
    pub fn poll_output(&mut self) -> Output {
        self.queue.pop_front().unwrap_or(Output::Idle)
    }

    fn control(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let Some(message) = Message::parse(bytes)? else {
            return Ok(());
        };
        match (self.state, message) {
            (_, Message::Cancel(cancel)) => {
                let outcome = match cancel.reason {
                    CancelReason::Verify => cancelled_by_peer(cancel, |i| self.file_ref(i)),
                    _ if self.complete() => Outcome::Done,
                    _ => cancelled_by_peer(cancel, |i| self.file_ref(i)),
                };
                self.finish(outcome, Closing::Now);
                Ok(())
            }
            (State::Opening, Message::Hello(hello)) => {
                self.greet(hello);
                Ok(())
            }
            (State::Opening, Message::Agree) => {
                self.opening.handle_agree()?;
                self.list_next();
                Ok(())
            }
            (State::Manifest, Message::Manifest(part)) => self.list(part),
            (State::Receiving, Message::File(start)) => self.begin(start),
            (State::Receiving, Message::End(end)) => self.end(end),
            (State::Receiving, Message::Bye) if self.complete() => {
                self.finish(Outcome::Done, Closing::Now);
                Ok(())
            }
            (state, message) => Err(Fault::Unexpected {
                t: message.name(),
                when: match (state, &message) {
                    (State::Opening, _) => self.opening.moment(),
                    (State::Manifest, _) => "before the end of the manifest",
                    (State::Deciding, _) => "before \"accept\"",
                    (State::Receiving, Message::Bye) => "before every file is acknowledged",
                    (State::Receiving, _) => "while files are received",
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
                self.list_next();
            }
            Err(refusal) => self.break_off(refused(refusal)),
        }
    }

    /// Takes the manifest from here on, once nothing stands in its way.
    fn list_next(&mut self) {
        if self.opening.is_done() {
            self.state = State::Manifest;
        }
    }

    fn list(&mut self, part: Manifest) -> Result<(), Fault> {
        if self.parts.len() + part.files.len() > MAX_FILES {
            return Err(Fault::TooManyFiles);
        }
        self.parts.extend(part.files);
        if part.more {
            return Ok(());
        }
        if !go_together(&self.parts) {
            return Err(Fault::malformed("manifest: a text goes alone"));
        }
        let total = total(&self.parts)?;
        if part.total != total {
            return Err(Fault::WrongTotal);
        }
        self.files = std::mem::take(&mut self.parts).into();
        self.state = State::Deciding;
        self.queue.push_back(Output::Offer {
            files: Arc::clone(&self.files),
            total,
        });
        Ok(())
    }

    fn begin(&mut self, FileStart { i }: FileStart) -> Result<(), Fault> {
        if self.current.is_some() {
            return Err(Fault::Unexpected {
                t: "file",
                when: "inside a file",
            });
        }
        let due = (self.next < self.files.len()).then_some(self.next);
        let Some(file) = due.filter(|file| *file as u64 == i) else {
            return Err(Fault::WrongFile {
                t: "file",
                due,
                got: i,
            });
        };
        if self.pending.len() >= MAX_UNACKED {
            return Err(Fault::TooManyUnacked);
        }
        self.next += 1;
        let limit = self.files[file].size.unwrap_or(MAX_TOTAL);
        self.current = Some(Current {
            file,
            got: 0,
            limit,
        });
        self.queue.push_back(Output::Begin { file });
        Ok(())
    }

    fn data(&mut self, len: usize) -> Result<WriteTo, Fault> {
        let Some(current) = &mut self.current else {
            let when = match self.state {
                State::Opening => self.opening.moment(),
                State::Manifest => "before the end of the manifest",
                State::Deciding => "before \"accept\"",
                State::Receiving => "outside a file",
            };
            return Err(Fault::UnexpectedData { when });
        };
        if len == 0 || len > MAX_DATA {
            return Err(Fault::DataLength { len });
        }
        let Current {
            file,
            got: offset,
            limit,
        } = *current;
        if len as u64 > limit - offset {
            return Err(Fault::TooMuchData { file, size: limit });
        }
        current.got += len as u64;
        self.received_bytes += len as u64;
        Ok(WriteTo { file, offset })
    }

    fn end(&mut self, FileEnd { i, size, blake3 }: FileEnd) -> Result<(), Fault> {
        let due = self.current.as_ref().map(|current| current.file);
        let current = self.current.take_if(|current| current.file as u64 == i);
        let Some(Current { file, got, .. }) = current else {
            return Err(Fault::WrongFile {
                t: "end",
                due,
                got: i,
            });
        };
        if let Some(announced) = self.files[file].size.filter(|announced| *announced != size) {
            return Err(Fault::WrongSize {
                file,
                size: announced,
                end: size,
            });
        }
        if got != size {
            self.mismatch(file);
            return Ok(());
        }
        self.pending.push_back(Pending {
            file,
            size,
            blake3,
            committed: false,
        });
        self.queue.push_back(Output::Finish { file, size, blake3 });
        Ok(())
    }

    /// Acknowledges in file order, whatever the order of commits.
    fn acknowledge(&mut self) {
        while let Some(pending) = self.pending.pop_front_if(|pending| pending.committed) {
            let Pending {
                file, size, blake3, ..
            } = pending;
            self.acked += 1;
            self.send(&Message::Ack(Ack {
                i: file as u64,
                blake3,
            }));
            self.event(Event::FileDone {
                index: file,
                size,
                blake3,
            });
        }
        self.settle_lost_link();
    }

    /// With the link gone, ends once no file waits for the I/O layer.
    fn settle_lost_link(&mut self) {
        if !self.link_up && self.pending.is_empty() {
            let outcome = if self.complete() {
                Outcome::Done
            } else {
                Outcome::Lost
            };
            self.finish(outcome, Closing::Now);
        }
    }

    fn mismatch(&mut self, file: usize) {
        let file = self.file_ref(file);
        self.break_off(Outcome::Verification {
            by: Side::Here,
            file,
        });
    }

    fn fault(&mut self, fault: Fault) {
        self.break_off(Outcome::Protocol(fault));
    }

    fn break_off(&mut self, outcome: Outcome) {
        if self.link_up {
            self.queue.push_back(Output::Control(farewell(&outcome)));
        }
        self.finish(outcome, Closing::AwaitPeer);
    }

    fn finish(&mut self, outcome: Outcome, closing: Closing) {
        self.current = None;
        self.event(Event::Finished(outcome.clone()));
        self.ending
            .set(outcome, if self.link_up { closing } else { Closing::Now });
    }

    /// Whether everything was received, committed and acknowledged; only `bye` is missing.
    fn complete(&self) -> bool {
        self.state == State::Receiving && self.acked == self.files.len()
    }

    fn deciding(&self) -> bool {
        self.state == State::Deciding && self.link_up && !self.ending.reached()
    }

    fn pending_mut(&mut self, file: usize) -> Option<&mut Pending> {
        self.pending
            .iter_mut()
            .find(|pending| pending.file == file && !pending.committed)
    }

    fn file_ref(&self, index: usize) -> Option<FileRef> {
        let name = self.files.get(index)?.name.clone();
        Some(FileRef { index, name })
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

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: Local<'static> = Local {
        version: "0.1.0",
        verify: false,
    };

    fn drain(receiver: &mut Receiver) -> Vec<Output> {
        std::iter::from_fn(|| Some(receiver.poll_output()).filter(|o| *o != Output::Idle)).collect()
    }

    /// Offered `count` files of three bytes.
    fn offered(count: usize) -> Receiver {
        let mut receiver = Receiver::new(LOCAL);
        let hello = Message::Hello(Hello::new(LOCAL, Role::Send));
        let files = vec![Offer::file("f", Some(3)); count];
        let total = Some(3 * count as u64);
        let manifest = Message::Manifest(Manifest {
            files,
            total,
            more: false,
        });
        for message in [hello, manifest] {
            receiver.handle_control(message.to_json().as_bytes());
        }
        receiver
    }

    fn take_file(receiver: &mut Receiver, i: u64) {
        let end = FileEnd {
            i,
            size: 3,
            blake3: Digest([i as u8; 32]),
        };
        receiver.handle_control(Message::File(FileStart { i }).to_json().as_bytes());
        for offset in 0..3 {
            assert_eq!(
                receiver.handle_data(1),
                Some(WriteTo {
                    file: i as usize,
                    offset
                })
            );
        }
        receiver.handle_control(Message::End(end).to_json().as_bytes());
        drain(receiver);
    }

    fn acks(outputs: &[Output]) -> Vec<u64> {
        let ack = |output: &Output| match output {
            Output::Control(text) => match Message::parse(text.as_bytes()) {
                Ok(Some(Message::Ack(ack))) => Some(ack.i),
                _ => None,
            },
            _ => None,
        };
        outputs.iter().filter_map(ack).collect()
    }

    #[test]
    fn the_peer_is_waited_for_only_while_its_program_has_the_word() {
        let mut receiver = Receiver::new(LOCAL);
        let nothing = receiver.awaited();
        assert!(nothing.is_some(), "its hello");
        receiver.handle_control(br#"{"t":"shiny","opt":true}"#);
        assert_eq!(receiver.awaited(), nothing, "what is ignored is no step");

        let mut receiver = offered(2);
        assert_eq!(receiver.awaited(), None, "the person here decides");
        receiver.accept();
        let mut before = receiver.awaited();
        assert!(before.is_some(), "its first file");
        receiver.handle_control(Message::File(FileStart { i: 0 }).to_json().as_bytes());
        for _ in 0..3 {
            assert!(receiver.awaited() > before, "a step forward");
            before = receiver.awaited();
            assert!(receiver.handle_data(1).is_some());
        }
        let end = FileEnd {
            i: 0,
            size: 3,
            blake3: Digest([0; 32]),
        };
        receiver.handle_control(Message::End(end).to_json().as_bytes());
        assert_eq!(receiver.awaited(), None, "the disk here is busy");
        receiver.handle_committed(0);
        assert!(receiver.awaited() > before, "its second file");
        receiver.handle_control(br#"{"t":"bye"}"#);
        assert_eq!(receiver.awaited(), None, "it has ended");
    }

    #[test]
    fn a_stream_may_rest() {
        let mut receiver = Receiver::new(LOCAL);
        let hello = Message::Hello(Hello::new(LOCAL, Role::Send));
        receiver.handle_control(hello.to_json().as_bytes());
        receiver.handle_control(br#"{"t":"manifest","files":[{"name":"-"}]}"#);
        receiver.accept();
        receiver.handle_control(br#"{"t":"file","i":0}"#);
        assert_eq!(receiver.awaited(), None);
    }

    #[test]
    fn the_offer_is_shown_once_and_accept_works_once() {
        let mut receiver = offered(2);
        let outputs = drain(&mut receiver);
        assert!(matches!(
            outputs.last(),
            Some(Output::Offer { total: Some(6), .. })
        ));
        receiver.accept();
        receiver.accept();
        receiver.decline(DeclineReason::User, "too late");
        assert_eq!(
            drain(&mut receiver),
            [Output::Control(r#"{"t":"accept"}"#.into())]
        );
    }

    #[test]
    fn files_are_acknowledged_in_order_whatever_the_order_of_commits() {
        let mut receiver = offered(3);
        receiver.accept();
        (0..3).for_each(|i| take_file(&mut receiver, i));
        receiver.handle_committed(2);
        receiver.handle_committed(1);
        receiver.handle_committed(1);
        receiver.handle_committed(7);
        assert_eq!(
            (drain(&mut receiver), receiver.committed_files()),
            (vec![], 2)
        );
        receiver.handle_committed(0);
        assert_eq!(acks(&drain(&mut receiver)), [0, 1, 2]);
        assert_eq!(receiver.outcome(), None);
        receiver.handle_control(br#"{"t":"bye"}"#);
        assert_eq!(receiver.closing(), Some(Closing::Now));
        assert_eq!(receiver.outcome(), Some(&Outcome::Done));
    }

    #[test]
    fn with_every_file_acknowledged_neither_side_can_break_off() {
        let complete = || {
            let mut receiver = offered(1);
            receiver.accept();
            take_file(&mut receiver, 0);
            receiver.handle_committed(0);
            drain(&mut receiver);
            receiver
        };
        let mut here = complete();
        here.cancel(CancelReason::User, "stop");
        assert_eq!(here.outcome(), Some(&Outcome::Done));
        let mut there = complete();
        there.handle_control(br#"{"t":"cancel","reason":"user"}"#);
        assert_eq!(there.outcome(), Some(&Outcome::Done));
        let mut verify = complete();
        verify.handle_control(br#"{"t":"cancel","reason":"verify","i":0}"#);
        assert!(matches!(
            verify.outcome(),
            Some(Outcome::Verification { .. })
        ));
    }

    #[test]
    fn files_that_came_whole_are_committed_after_the_link_is_lost() {
        let mut receiver = offered(2);
        receiver.accept();
        take_file(&mut receiver, 0);
        receiver.handle_closed();
        assert_eq!(receiver.outcome(), None);
        receiver.handle_committed(0);
        assert_eq!(acks(&drain(&mut receiver)), [] as [u64; 0]);
        assert_eq!(receiver.outcome(), Some(&Outcome::Lost));
        assert_eq!(receiver.committed_files(), 1);
    }
}
