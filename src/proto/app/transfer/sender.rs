//! The side that offers files.
//!
//! States: `Opening` (see [`Opening`]) → `Deciding` (the manifest is out) → `Sending` →
//! finished. Files go out back to back; acknowledgements come in file order behind them, at most
//! [`MAX_UNACKED`] files late. Success is told only when the last one has come.

use std::collections::VecDeque;
use std::fmt;

use super::super::hello::{Hello, Local, MIN_MAX_CONTROL, Peer, Role};
use super::super::message::{
    Ack, CancelReason, Digest, Fault, FileEnd, FileStart, MAX_DATA, MAX_FILES, MAX_NAME, MAX_SHOWN,
    MAX_TOTAL, MAX_UNACKED, Manifest, Message, Offer, cut, go_together, total,
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
    /// Read the next 1 to `max` bytes of a file, in order, and answer with
    /// [`Sender::handle_read`], [`Sender::handle_eof`], [`Sender::handle_changed`] or
    /// [`Sender::handle_read_error`]. One request is out at a time.
    Read {
        /// The file, by its place in the offer.
        file: usize,
        /// The most bytes of one data message; the same through the whole session.
        max: usize,
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
    /// The person is to compare the words of both sides: answer with [`Sender::agree`], or with
    /// [`Sender::cancel`] and [`CancelReason::Words`].
    Compare,
    /// The receiver takes the offer.
    Accepted,
    /// All bytes of a file are on their way.
    FileSent {
        /// The file.
        index: usize,
        /// Its size in bytes.
        size: u64,
        /// Its hash.
        blake3: Digest,
    },
    /// The receiver has verified a file and put it in its place.
    FileAcked {
        /// The file.
        index: usize,
        /// Its size in bytes.
        size: u64,
        /// Its hash.
        blake3: Digest,
    },
    /// The end; nothing follows.
    Finished(Outcome),
}

/// Why files cannot be offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OfferError {
    /// There are none.
    NoFiles,
    /// There are more than 10,000.
    TooManyFiles(usize),
    /// A name is empty or longer than 1024 bytes.
    Name(FileRef),
    /// A text has more than 65,536 bytes or no size, or does not go alone.
    Text,
    /// The sizes add up to more than 2^53 - 1 bytes.
    TotalTooLarge,
}

impl fmt::Display for OfferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFiles => f.write_str("no files to send"),
            Self::TooManyFiles(count) => {
                write!(f, "{count} files at once; {MAX_FILES} is the limit")
            }
            Self::Name(file) if file.name.is_empty() => f.write_str("a file without a name"),
            Self::Name(file) => {
                write!(
                    f,
                    "a name longer than {MAX_NAME} bytes: {}",
                    cut(&file.name, 60)
                )
            }
            Self::Text => write!(f, "a text of more than {MAX_SHOWN} bytes, or not alone"),
            Self::TotalTooLarge => write!(f, "more than {MAX_TOTAL} bytes in total"),
        }
    }
}

impl std::error::Error for OfferError {}

/// The machine of the side that offers files.
#[derive(Debug)]
pub struct Sender {
    files: Vec<Offer>,
    total: Option<u64>,
    state: State,
    opening: Opening,
    /// What the link carries in one message, in bytes.
    max_message: usize,
    max_data: usize,
    current: Option<Current>,
    /// The next file to start.
    next: usize,
    unacked: VecDeque<Sent>,
    acked: usize,
    sent_bytes: u64,
    queue: VecDeque<Output>,
    ending: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Opening,
    Deciding,
    Sending,
}

/// The file whose bytes are going out.
#[derive(Debug)]
struct Current {
    file: usize,
    sent: u64,
    /// Whether a [`Output::Read`] is out.
    asked: bool,
}

#[derive(Debug)]
struct Sent {
    file: usize,
    size: u64,
    blake3: Digest,
}

impl Sender {
    /// Builds the machine of a side that offers `files`; its hello is the first output.
    ///
    /// # Errors
    ///
    /// An [`OfferError`] when the wire format cannot carry the offer.
    pub fn new(local: Local<'_>, files: Vec<Offer>) -> Result<Self, OfferError> {
        if files.is_empty() {
            return Err(OfferError::NoFiles);
        }
        if files.len() > MAX_FILES {
            return Err(OfferError::TooManyFiles(files.len()));
        }
        let bad_name = |offer: &Offer| offer.name.is_empty() || offer.name.len() > MAX_NAME;
        if let Some(index) = files.iter().position(bad_name) {
            return Err(OfferError::Name(FileRef {
                index,
                name: files[index].name.clone(),
            }));
        }
        if !files.iter().all(Offer::is_sound) || !go_together(&files) {
            return Err(OfferError::Text);
        }
        let total = total(&files).map_err(|_| OfferError::TotalTooLarge)?;
        let (opening, hello) = Opening::new(local, Role::Send);
        Ok(Self {
            files,
            total,
            state: State::Opening,
            opening,
            max_message: usize::MAX,
            max_data: MAX_DATA,
            current: None,
            next: 0,
            unacked: VecDeque::new(),
            acked: 0,
            sent_bytes: 0,
            queue: VecDeque::from([Output::Control(hello.to_json())]),
            ending: Ending::default(),
        })
    }

    /// Tells that the link carries messages of at most `max` bytes, whatever the peer's hello
    /// says; not less than [`MIN_MAX_CONTROL`]. To be told before the first hello comes.
    pub fn limit_messages(&mut self, max: usize) {
        self.max_message = max.max(MIN_MAX_CONTROL);
    }

    /// Returns the files of the offer.
    pub fn files(&self) -> &[Offer] {
        &self.files
    }

    /// Returns the sum of all sizes in bytes, `None` when one is unknown.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// Returns the peer, once its hello has come and fits.
    pub fn peer(&self) -> Option<&Peer> {
        self.opening.peer()
    }

    /// Returns the number of files the receiver has acknowledged; always the first ones.
    pub fn acked_files(&self) -> usize {
        self.acked
    }

    /// Returns the bytes of all files handed to the channel so far.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// While the peer's program has the next word: before its hello. Later it is its person, who
    /// decides, or its disk.
    pub fn awaited(&self) -> Option<u64> {
        (self.opening.peer().is_none() && !self.ending.reached()).then_some(0)
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
        } else if let Err(fault) = self.control(message) {
            self.fault(fault);
        }
    }

    /// Takes a binary message of the peer: a fault, as a receiver has none to send.
    pub fn handle_data(&mut self, _len: usize) {
        if !self.ending.reached() {
            self.fault(Fault::UnexpectedData {
                when: "from the receiving side",
            });
        }
    }

    /// Tells that `len` bytes were read for the last [`Output::Read`]. Call it *before* transmitting.
    ///
    /// Returns whether to transmit them. `false` means: drop them, the transfer has ended (the peer
    /// cancelled meanwhile, or the file turned out longer than it was offered).
    #[must_use]
    pub fn handle_read(&mut self, len: usize) -> bool {
        let Some(current) = self.current.as_mut().filter(|current| current.asked) else {
            return false;
        };
        let file = current.file;
        if len == 0 || len > self.max_data {
            self.fail(file, Problem::Misuse("a read outside the bounds asked for"));
            return false;
        }
        let limit = self.files[file].size.unwrap_or(MAX_TOTAL);
        if len as u64 > limit - current.sent {
            self.fail(file, Problem::Grew { size: limit });
            return false;
        }
        current.sent += len as u64;
        current.asked = false;
        self.sent_bytes += len as u64;
        true
    }

    /// Tells that the file of the last [`Output::Read`] has no more bytes, and the hash of all bytes
    /// that were transmitted for it.
    pub fn handle_eof(&mut self, blake3: impl Into<Digest>) {
        let Some(Current { file, sent, .. }) = self.current.take_if(|current| current.asked) else {
            return;
        };
        if let Some(size) = self.files[file].size.filter(|size| *size != sent) {
            self.fail(file, Problem::Shrank { size, read: sent });
            return;
        }
        let blake3 = blake3.into();
        self.send(&Message::End(FileEnd {
            i: file as u64,
            size: sent,
            blake3,
        }));
        self.event(Event::FileSent {
            index: file,
            size: sent,
            blake3,
        });
        self.unacked.push_back(Sent {
            file,
            size: sent,
            blake3,
        });
        self.start_next();
    }

    /// Tells that the content of the file being read was changed by somebody, sizes apart.
    pub fn handle_changed(&mut self) {
        if let Some(file) = self.current.as_ref().map(|current| current.file) {
            self.fail(file, Problem::Changed);
        }
    }

    /// Tells that the file being read cannot be read on. The text also goes to the peer: it should
    /// hold the cause and no path of this machine.
    pub fn handle_read_error(&mut self, text: &str) {
        if let Some(file) = self.current.as_ref().map(|current| current.file) {
            self.fail(file, Problem::Read(text.to_owned()));
        }
    }

    /// Tells that the channel is gone, by whichever side or by the link's own judgement.
    pub fn handle_closed(&mut self) {
        if !self.ending.reached() {
            self.finish(Outcome::Lost, Closing::Now);
        }
        self.ending.link_closed();
    }

    /// Tells that the person found the words of [`Event::Compare`] to agree.
    pub fn agree(&mut self) {
        if !self.ending.reached()
            && let Some(agree) = self.opening.agree()
        {
            self.send(&agree);
            self.offer();
        }
    }

    /// Breaks the transfer off and tells the peer. No effect once it has ended.
    pub fn cancel(&mut self, reason: CancelReason, text: &str) {
        if !self.ending.reached() {
            self.break_off(cancelled_here(reason, text));
        }
    }

    /// Hands over the next output; see the drain rule in [`proto::app`](crate::proto::app).
    pub fn poll_output(&mut self) -> Output {
        if let Some(output) = self.queue.pop_front() {
            return output;
        }
        match &mut self.current {
            Some(current) if !current.asked => {
                current.asked = true;
                Output::Read {
                    file: current.file,
                    max: self.max_data,
                }
            }
            _ => Output::Idle,
        }
    }

    fn control(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let Some(message) = Message::parse(bytes)? else {
            return Ok(());
        };
        match (self.state, message) {
            (_, Message::Cancel(cancel)) => {
                let outcome = cancelled_by_peer(cancel, |i| self.file_ref(i));
                self.finish(outcome, Closing::Now);
                Ok(())
            }
            (State::Opening, Message::Hello(hello)) => {
                self.greet(hello);
                Ok(())
            }
            (State::Opening, Message::Agree) => {
                self.opening.handle_agree()?;
                self.offer();
                Ok(())
            }
            (State::Deciding, Message::Accept) => {
                self.state = State::Sending;
                self.event(Event::Accepted);
                self.start_next();
                Ok(())
            }
            (State::Deciding, Message::Decline(decline)) => {
                let (reason, text) = (decline.reason, decline.text);
                self.finish(
                    Outcome::Declined {
                        by: Side::There,
                        reason,
                        text,
                    },
                    Closing::Now,
                );
                Ok(())
            }
            (State::Sending, Message::Ack(ack)) => self.acknowledge(ack),
            (state, message) => Err(Fault::Unexpected {
                t: message.name(),
                when: match state {
                    State::Opening => self.opening.moment(),
                    State::Deciding => "before \"accept\"",
                    State::Sending => "while files are sent",
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
                self.offer();
            }
            Err(refusal) => self.break_off(refused(refusal)),
        }
    }

    /// Sends the manifest, once nothing stands in its way.
    fn offer(&mut self) {
        if let (true, Some(peer)) = (self.opening.is_done(), self.opening.peer()) {
            let max_control = peer.max_control.min(self.max_message);
            let parts = Manifest::split(&self.files, self.total, max_control);
            self.state = State::Deciding;
            self.max_data = peer.max_data.min(self.max_message);
            for part in parts {
                self.send(&Message::Manifest(part));
            }
        }
    }

    fn acknowledge(&mut self, ack: Ack) -> Result<(), Fault> {
        let due = self.unacked.front().map(|sent| sent.file);
        let front = self.unacked.pop_front_if(|sent| sent.file as u64 == ack.i);
        let Some(Sent { file, size, blake3 }) = front else {
            return Err(Fault::WrongFile {
                t: "ack",
                due,
                got: ack.i,
            });
        };
        if ack.blake3 != blake3 {
            let file = self.file_ref(file);
            self.break_off(Outcome::Verification {
                by: Side::Here,
                file,
            });
            return Ok(());
        }
        self.acked += 1;
        self.event(Event::FileAcked {
            index: file,
            size,
            blake3,
        });
        if self.acked == self.files.len() {
            self.send(&Message::Bye);
            self.finish(Outcome::Done, Closing::AwaitPeer);
        } else {
            self.start_next();
        }
        Ok(())
    }

    /// Starts the next file unless one is going out, none is left, or too many are unacknowledged.
    fn start_next(&mut self) {
        let file = self.next;
        if self.current.is_none() && file < self.files.len() && self.unacked.len() < MAX_UNACKED {
            self.next += 1;
            self.send(&Message::File(FileStart { i: file as u64 }));
            self.current = Some(Current {
                file,
                sent: 0,
                asked: false,
            });
        }
    }

    fn fail(&mut self, file: usize, problem: Problem) {
        let file = FileRef {
            index: file,
            name: self.files[file].name.clone(),
        };
        self.break_off(Outcome::Failed { file, problem });
    }

    fn fault(&mut self, fault: Fault) {
        self.break_off(Outcome::Protocol(fault));
    }

    fn break_off(&mut self, outcome: Outcome) {
        self.queue.push_back(Output::Control(farewell(&outcome)));
        self.finish(outcome, Closing::AwaitPeer);
    }

    fn finish(&mut self, outcome: Outcome, closing: Closing) {
        self.current = None;
        self.event(Event::Finished(outcome.clone()));
        self.ending.set(outcome, closing);
    }

    fn send(&mut self, message: &Message) {
        self.queue.push_back(Output::Control(message.to_json()));
    }

    fn event(&mut self, event: Event) {
        self.queue.push_back(Output::Event(event));
    }

    fn file_ref(&self, index: usize) -> Option<FileRef> {
        let name = self.files.get(index)?.name.clone();
        Some(FileRef { index, name })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::message::DeclineReason;
    use super::*;

    const LOCAL: Local<'static> = Local {
        version: "0.1.0",
        verify: false,
    };

    fn offer(name: &str, size: Option<u64>) -> Offer {
        Offer::file(name, size)
    }

    fn drain(sender: &mut Sender) -> Vec<Output> {
        std::iter::from_fn(|| Some(sender.poll_output()).filter(|o| *o != Output::Idle)).collect()
    }

    fn accepted(files: Vec<Offer>) -> Sender {
        let mut sender = Sender::new(LOCAL, files).unwrap();
        let hello = Message::Hello(Hello::new(LOCAL, Role::Receive)).to_json();
        sender.handle_control(hello.as_bytes());
        sender.handle_control(br#"{"t":"accept"}"#);
        drain(&mut sender);
        sender
    }

    fn last_event(outputs: &[Output]) -> &Event {
        match outputs.last() {
            Some(Output::Event(event)) => event,
            last => panic!("{last:?}"),
        }
    }

    #[test]
    fn offers_the_wire_cannot_carry_are_refused_before_anything_is_said() {
        let refused = |files| Sender::new(LOCAL, files).unwrap_err().to_string();
        assert_eq!(refused(vec![]), "no files to send");
        assert_eq!(
            refused(vec![offer("f", None); 10_001]),
            "10001 files at once; 10000 is the limit"
        );
        assert_eq!(refused(vec![offer("", None)]), "a file without a name");
        assert!(refused(vec![offer(&"n".repeat(1025), None)]).starts_with("a name longer than"));
        assert_eq!(
            refused(vec![offer("f", Some(u64::MAX))]),
            "more than 9007199254740991 bytes in total"
        );
        for files in [
            vec![Offer::text("t", 65_537)],
            vec![Offer::text("t", 1), offer("f", None)],
        ] {
            assert!(refused(files).starts_with("a text of more than 65536"));
        }
    }

    #[test]
    fn the_hello_comes_first_and_the_manifest_waits_for_the_peers() {
        let mut sender = Sender::new(LOCAL, vec![offer("f", Some(1))]).unwrap();
        let first = drain(&mut sender);
        assert_eq!(first.len(), 1);
        assert!(matches!(&first[0], Output::Control(text) if text.contains("\"hello\"")));
    }

    #[test]
    fn success_is_told_after_the_last_acknowledgement_and_waits_for_the_receiver_to_close() {
        let mut sender = accepted(vec![offer("f", Some(3))]);
        assert!(sender.handle_read(3));
        drain(&mut sender);
        sender.handle_eof([7; 32]);
        assert_eq!(
            last_event(&drain(&mut sender)),
            &Event::FileSent {
                index: 0,
                size: 3,
                blake3: Digest([7; 32])
            }
        );
        assert_eq!(sender.outcome(), None);
        let ack = Message::Ack(Ack {
            i: 0,
            blake3: Digest([7; 32]),
        })
        .to_json();
        sender.handle_control(ack.as_bytes());
        let outputs = drain(&mut sender);
        assert!(matches!(&outputs[1], Output::Control(text) if text == r#"{"t":"bye"}"#));
        assert_eq!(last_event(&outputs), &Event::Finished(Outcome::Done));
        assert_eq!(sender.closing(), Some(Closing::AwaitPeer));
        sender.handle_closed();
        assert_eq!(
            (sender.outcome(), sender.closing()),
            (Some(&Outcome::Done), Some(Closing::Now))
        );
        assert_eq!(drain(&mut sender), []);
    }

    #[test]
    fn no_message_is_longer_than_the_link_carries() {
        let names = (0..200).map(|n| offer(&format!("{n:0>200}"), Some(1 << 20)));
        let mut sender = Sender::new(LOCAL, names.collect()).unwrap();
        sender.limit_messages(20_000);
        let hello = Message::Hello(Hello::new(LOCAL, Role::Receive)).to_json();
        sender.handle_control(hello.as_bytes());
        let control = drain(&mut sender);
        let lengths = control.iter().filter_map(|output| match output {
            Output::Control(text) => Some(text.len()),
            _ => None,
        });
        assert!(lengths.max().unwrap() <= 20_000);
        sender.handle_control(br#"{"t":"accept"}"#);
        let asked = drain(&mut sender);
        assert!(
            asked.contains(&Output::Read {
                file: 0,
                max: 20_000
            }),
            "{asked:?}"
        );
    }

    #[test]
    fn one_read_is_out_at_a_time() {
        let mut sender = accepted(vec![offer("f", Some(5))]);
        assert_eq!(drain(&mut sender), []);
        assert!(sender.handle_read(2));
        assert!(!sender.handle_read(2), "not asked for");
        assert_eq!(
            drain(&mut sender),
            [Output::Read {
                file: 0,
                max: MAX_DATA
            }]
        );
        assert_eq!(sender.sent_bytes(), 2);
    }

    #[test]
    fn a_declined_offer_is_closed_by_the_sender() {
        let mut sender = Sender::new(LOCAL, vec![offer("f", None)]).unwrap();
        let hello = Message::Hello(Hello::new(LOCAL, Role::Receive)).to_json();
        sender.handle_control(hello.as_bytes());
        sender.handle_control(br#"{"t":"decline","reason":"exists","text":"f"}"#);
        let reason = DeclineReason::Exists;
        let outcome = Outcome::Declined {
            by: Side::There,
            reason,
            text: "f".into(),
        };
        assert_eq!(last_event(&drain(&mut sender)), &Event::Finished(outcome));
        assert_eq!(sender.closing(), Some(Closing::Now));
    }
}
