//! How fast a link is: echoes while nothing else moves, then one direction at a time as many bytes
//! as it takes.
//!
//! States: `Opening` (see [`Opening`]) → echoes, of both sides at once → each direction that is
//! there, that of the side which joined first → finished.
//!
//! What a direction carried is counted by its receiver, from `begin` on and for the time that both
//! agreed on, so that neither the way of the first byte nor what still waits at the end is in it.
//! What the repair layer did is seen by its sender. Each tells the other, so both have the same
//! figures. Nothing is granted here: what comes is counted and dropped.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::hello::{Hello, Local, MAX_BENCH, Mismatch, Only, Peer, Role};
use super::message::{
    CancelReason, Counted, Echo, Fault, Layer, MAX_DATA, MAX_TOTAL, Message, Over,
};
use super::opening::Opening;
use super::outcome::{
    Closing, Ending, Outcome, cancelled_by_peer, cancelled_here, farewell, refused,
};
use crate::proto::link::repair::Stats;

/// How many echoes each side asks for.
pub const ECHOES: usize = 20;
/// Between two of them: all are asked for within half a second, however long one takes.
const ECHO_EVERY: Duration = Duration::from_millis(25);

/// The first data messages, in bytes; later ones are this share of all that was sent. So a slow
/// link has many to count and a fast one has long ones.
const FIRST_DATA: u64 = 1024;
const SHARE: u64 = 64;

/// What may be on the way to the peer in any case, in bytes, and how long more of it may take.
const AHEAD: u64 = 128 << 10;
const WAITS: Duration = Duration::from_secs(20);

/// What the I/O layer has to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Transmit this as a text message, after everything transmitted before.
    Control(String),
    /// When there is room and this side is not too far [ahead](Bench::is_ahead), transmit up to `max`
    /// bytes of any content, after [`Bench::handle_sent`]. One request is out at a time.
    Send {
        /// The most bytes of the next data message.
        max: usize,
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
    /// The person is to compare the words of both sides: answer with [`Bench::agree`], or with
    /// [`Bench::cancel`] and [`CancelReason::Words`].
    Compare,
    /// What is measured from now on.
    Phase(Phase),
    /// The end; nothing follows.
    Finished(Outcome),
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The round trip, while nothing else moves.
    RoundTrip,
    /// What goes from here to there, for so long.
    Sending(Duration),
    /// Nothing: the peer has told what came, and takes what still waits on the way.
    Draining,
    /// What comes from there, for so long.
    Receiving(Duration),
}

/// What one side wants to be measured.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// How long each direction is to last, 1 ms to [`MAX_BENCH`]; the shorter wish of both counts.
    pub time: Duration,
    /// The one direction that is wanted, if not both.
    pub only: Option<Only>,
    /// This side joined: its direction comes first.
    pub joined: bool,
}

/// The idle round trip of a message on the channel, as this side measured it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundTrip {
    /// How many echoes came.
    pub echoes: usize,
    /// The shortest.
    pub least: Duration,
    /// The one in the middle.
    pub median: Duration,
    /// The longest.
    pub most: Duration,
    /// How much two in a row differ, on average.
    pub jitter: Duration,
}

/// What one direction carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Direction {
    /// As its receiver counted it.
    pub counted: Counted,
    /// As its sender saw it.
    pub layer: Layer,
}

/// What was measured so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Results {
    /// While nothing else moved.
    pub round_trip: Option<RoundTrip>,
    /// From here to there.
    pub sent: Option<Direction>,
    /// From there to here.
    pub received: Option<Direction>,
}

/// The machine of one side.
#[derive(Debug)]
pub struct Bench {
    opening: Opening,
    wish: Wish,
    stage: Stage,
    /// The directions to come.
    turns: VecDeque<Way>,
    max_data: usize,
    time: Duration,
    /// What the repair layer said last, if there is one.
    layer: Option<Stats>,
    /// Control messages that came.
    heard: u64,
    results: Results,
    link_up: bool,
    queue: VecDeque<Output>,
    ending: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Out,
    In,
}

#[derive(Debug)]
enum Stage {
    Opening,
    Echoes(Echoes),
    /// The peer's direction comes next.
    Waiting,
    Sending(Outward),
    Receiving(Inward),
    /// Everything is measured; the peer may not have all of it yet.
    Farewell,
}

#[derive(Debug)]
struct Echoes {
    /// When each was asked for.
    asked: Vec<Instant>,
    next: Instant,
    came: Vec<Duration>,
    answered: usize,
}

/// The direction from here to there.
#[derive(Debug)]
struct Outward {
    began: Instant,
    bytes: u64,
    /// An [`Output::Send`] is out.
    asked: bool,
    /// What the repair layer said at the beginning.
    before: Option<Stats>,
    /// The time is over, and what the repair layer said then.
    over: bool,
    loaded: Option<Stats>,
}

/// The direction from there to here.
#[derive(Debug)]
struct Inward {
    began: Instant,
    /// All that came, also when the time was over.
    bytes: u64,
    meter: Meter,
    given_up: u64,
    counted: Option<Counted>,
    over: bool,
}

/// Counts bytes by whole seconds.
#[derive(Debug, Default)]
struct Meter {
    bytes: u64,
    second: u64,
    now: u64,
    slowest: Option<u64>,
    fastest: Option<u64>,
}

impl Bench {
    /// Builds the machine of a side that measures; its hello is the first output.
    #[must_use]
    pub fn new(local: Local<'_>, wish: Wish) -> Self {
        let time = wish.time.clamp(Duration::from_millis(1), MAX_BENCH);
        let ms = whole(time.as_millis());
        let (opening, mut hello) = Opening::new(local, Role::Bench);
        if let Message::Hello(hello) = &mut hello {
            hello.only = wish.only.map(|only| only.word().to_owned());
            hello.ms = Some(ms);
        }
        Self {
            opening,
            wish,
            stage: Stage::Opening,
            turns: VecDeque::new(),
            max_data: MAX_DATA,
            time: Duration::from_millis(ms),
            layer: None,
            heard: 0,
            results: Results::default(),
            link_up: true,
            queue: VecDeque::from([Output::Control(hello.to_json())]),
            ending: Ending::default(),
        }
    }

    /// Returns the peer, once its hello has come and fits.
    pub fn peer(&self) -> Option<&Peer> {
        self.opening.peer()
    }

    /// Returns what was measured so far.
    pub fn results(&self) -> Results {
        self.results
    }

    /// Returns the bytes of the direction that is measured now: handed to the channel, or come.
    pub fn bytes(&self) -> u64 {
        match &self.stage {
            Stage::Sending(out) => out.bytes,
            Stage::Receiving(inward) => inward.bytes,
            _ => 0,
        }
    }

    /// Whether this side sends data now.
    pub fn is_sending(&self) -> bool {
        matches!(self.stage, Stage::Sending(_))
    }

    /// Whether data is to wait, where so many bytes have not arrived yet: at its rate so far the link
    /// would carry them for longer than [`WAITS`], or for twice as long as this direction has lasted.
    /// (With less, SCTP's slow start would find nothing to send.)
    pub fn is_ahead(&self, now: Instant, outstanding: u64) -> bool {
        match &self.stage {
            Stage::Sending(out) if !out.over && !self.ending.reached() => {
                let there = out.bytes.saturating_sub(outstanding);
                let lasted = now.saturating_duration_since(out.began).max(WAITS / 2);
                let [waits, lasted] = [WAITS, lasted].map(|time| whole(time.as_millis()));
                outstanding > (there.saturating_mul(waits) / lasted).max(AHEAD)
            }
            _ => false,
        }
    }

    /// Returns how it ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.ending.outcome.as_ref()
    }

    /// Says who closes the channel, once it has ended.
    pub fn closing(&self) -> Option<Closing> {
        self.ending.closing
    }

    /// Takes what the repair layer says of itself; tell it before anything else that happens.
    pub fn handle_layer(&mut self, layer: Option<Stats>) {
        self.layer = layer;
    }

    /// Takes a text message of the peer; bytes, since a peer may put anything into one.
    pub fn handle_control(&mut self, now: Instant, message: &[u8]) {
        self.handle_timeout(now);
        if self.ending.reached() {
            self.ending.heed(message);
        } else if let Err(fault) = self.control(now, message) {
            self.fault(fault);
        }
    }

    /// Takes a binary message of the peer, whose bytes are to be dropped.
    pub fn handle_data(&mut self, now: Instant, len: usize) {
        self.handle_timeout(now);
        if !self.ending.reached()
            && let Err(fault) = self.take(now, len)
        {
            self.fault(fault);
        }
    }

    /// Tells that `len` bytes are about to be transmitted for the last [`Output::Send`].
    ///
    /// Returns whether to transmit them. `false` means: drop them, the time is over.
    #[must_use]
    pub fn handle_sent(&mut self, now: Instant, len: usize) -> bool {
        self.handle_timeout(now);
        let Stage::Sending(out) = &mut self.stage else {
            return false;
        };
        let due = std::mem::take(&mut out.asked) && !out.over;
        if !due || self.ending.reached() || len == 0 || len > self.max_data {
            return false;
        }
        out.bytes += len as u64;
        true
    }

    /// Tells that the channel is gone, by whichever side or by the link's own judgement.
    pub fn handle_closed(&mut self) {
        self.link_up = false;
        if self.ending.reached() {
            self.ending.link_closed();
        } else if matches!(self.stage, Stage::Farewell) {
            self.finish(Outcome::Done, Closing::Now);
        } else {
            self.finish(Outcome::Lost, Closing::Now);
        }
    }

    /// Tells that it is `now`: due at [`Bench::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.ending.reached() {
            return;
        }
        match &mut self.stage {
            Stage::Echoes(echoes) => {
                if let Some(n) = echoes.ask(now) {
                    self.send(&Message::Ping(Echo { n }));
                }
            }
            Stage::Sending(out) if now >= out.began + self.time => self.stop_sending(),
            Stage::Receiving(inward) if now >= inward.began + self.time => self.count(now),
            _ => {}
        }
    }

    /// When [`Bench::handle_timeout`] has work, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.ending.reached() {
            return None;
        }
        match &self.stage {
            Stage::Echoes(echoes) => (echoes.asked.len() < ECHOES).then_some(echoes.next),
            Stage::Sending(out) => (!out.over).then(|| out.began + self.time),
            Stage::Receiving(one) => one.counted.is_none().then(|| one.began + self.time),
            Stage::Opening | Stage::Waiting | Stage::Farewell => None,
        }
    }

    /// Grows with each thing that the peer's program said, while it has the next word; `None` while
    /// persons compare words and while a clock of ours runs.
    pub fn awaited(&self) -> Option<u64> {
        let due = match &self.stage {
            Stage::Opening => self.opening.peer().is_none(),
            Stage::Echoes(_) | Stage::Waiting | Stage::Farewell => true,
            Stage::Sending(out) => out.over,
            Stage::Receiving(inward) => inward.counted.is_some(),
        };
        (due && !self.ending.reached()).then_some(self.heard)
    }

    /// Tells that the person found the words of [`Event::Compare`] to agree.
    pub fn agree(&mut self, now: Instant) {
        if !self.ending.reached()
            && let Some(agree) = self.opening.agree()
        {
            self.send(&agree);
            self.start(now);
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
        match &mut self.stage {
            Stage::Sending(out) if !out.asked && !out.over && !self.ending.reached() => {
                out.asked = true;
                let max = (out.bytes / SHARE).max(FIRST_DATA);
                let max = usize::try_from(max).map_or(self.max_data, |max| max.min(self.max_data));
                Output::Send { max }
            }
            _ => Output::Idle,
        }
    }

    fn control(&mut self, now: Instant, bytes: &[u8]) -> Result<(), Fault> {
        let Some(message) = Message::parse(bytes)? else {
            return Ok(());
        };
        self.heard += 1;
        match (message, &mut self.stage) {
            (Message::Cancel(cancel), _) => {
                self.finish(cancelled_by_peer(cancel, |_| None), Closing::Now);
            }
            (Message::Hello(hello), Stage::Opening) => self.greet(now, hello),
            (Message::Agree, Stage::Opening) => {
                self.opening.handle_agree()?;
                self.start(now);
            }
            (Message::Ping(Echo { n }), Stage::Echoes(echoes)) => {
                echoes.answer(n)?;
                self.send(&Message::Pong(Echo { n }));
                self.leave_echoes(now);
            }
            (Message::Pong(Echo { n }), Stage::Echoes(echoes)) => {
                echoes.take(now, n)?;
                self.leave_echoes(now);
            }
            (Message::Begin, Stage::Waiting) => {
                self.stage = Stage::Receiving(Inward {
                    began: now,
                    bytes: 0,
                    meter: Meter::default(),
                    given_up: given_up(self.layer),
                    counted: None,
                    over: false,
                });
                self.event(Event::Phase(Phase::Receiving(self.time)));
            }
            (Message::Over(Over { bytes }), Stage::Receiving(inward)) if !inward.over => {
                if bytes != inward.bytes {
                    return Err(Fault::malformed("over: another number of bytes than came"));
                }
                inward.over = true;
                self.count(now);
            }
            (Message::Counted(counted), Stage::Sending(_)) => self.counted(now, counted)?,
            (
                Message::Layer(layer),
                Stage::Receiving(Inward {
                    over: true,
                    counted,
                    ..
                }),
            ) => {
                let direction = counted.map(|counted| Direction { counted, layer });
                self.results.received = direction;
                if self.turns.is_empty() {
                    self.send(&Message::Bye);
                    self.finish(Outcome::Done, self.last_word());
                } else {
                    self.next(now);
                }
            }
            (Message::Bye, Stage::Farewell) => self.finish(Outcome::Done, Closing::Now),
            (message, _) => {
                return Err(Fault::Unexpected {
                    t: message.name(),
                    when: self.moment(),
                });
            }
        }
        Ok(())
    }

    fn greet(&mut self, now: Instant, hello: Hello) {
        match self.opening.handle_hello(hello) {
            Ok(peer) => {
                let peer = peer.clone();
                self.event(Event::Connected(peer));
                if self.opening.asks() {
                    self.event(Event::Compare);
                }
                self.start(now);
            }
            Err(refusal) => self.break_off(refused(refusal)),
        }
    }

    /// Starts with the echoes, once nothing stands in their way.
    fn start(&mut self, now: Instant) {
        let (true, Some(peer)) = (self.opening.is_done(), self.opening.peer()) else {
            return;
        };
        let (sends, takes) = Only::ways(self.wish.only, peer.only);
        self.max_data = peer.max_data;
        self.time = self.time.min(peer.time);
        let mut ways = vec![];
        if sends {
            ways.push(Way::Out);
        }
        if takes {
            ways.push(Way::In);
        }
        if let (true, Some(only)) = (ways.is_empty(), self.wish.only) {
            let role = only.role();
            self.break_off(Outcome::Incompatible(Mismatch::Roles {
                ours: role,
                theirs: role,
            }));
            return;
        }
        if !self.wish.joined {
            ways.reverse();
        }
        self.turns = ways.into();
        self.stage = Stage::Echoes(Echoes {
            asked: vec![],
            next: now,
            came: vec![],
            answered: 0,
        });
        self.event(Event::Phase(Phase::RoundTrip));
        self.handle_timeout(now);
    }

    fn leave_echoes(&mut self, now: Instant) {
        if let Stage::Echoes(echoes) = &self.stage
            && echoes.came.len().min(echoes.answered) == ECHOES
        {
            self.results.round_trip = round_trip(&echoes.came);
            self.next(now);
        }
    }

    /// Goes on with the next direction, if there is one.
    fn next(&mut self, now: Instant) {
        match self.turns.pop_front() {
            Some(Way::Out) => {
                self.send(&Message::Begin);
                self.stage = Stage::Sending(Outward {
                    began: now,
                    bytes: 0,
                    asked: false,
                    before: self.layer,
                    over: false,
                    loaded: None,
                });
                self.event(Event::Phase(Phase::Sending(self.time)));
            }
            Some(Way::In) => self.stage = Stage::Waiting,
            None => self.stage = Stage::Farewell,
        }
    }

    /// The time of the direction from here is over, if it was not before.
    fn stop_sending(&mut self) {
        let Stage::Sending(out) = &mut self.stage else {
            return;
        };
        if !std::mem::replace(&mut out.over, true) {
            out.loaded = self.layer;
            let bytes = out.bytes;
            self.send(&Message::Over(Over { bytes }));
        }
    }

    /// The peer tells what came of it.
    fn counted(&mut self, now: Instant, counted: Counted) -> Result<(), Fault> {
        self.stop_sending();
        let Stage::Sending(out) = &self.stage else {
            return Ok(());
        };
        // What it counted lies within what was sent and within the time, and more is not known here.
        if counted.bytes > out.bytes || counted.us > whole(self.time.as_micros()) {
            return Err(Fault::malformed("counted: more than was sent"));
        }
        let layer = out.layer(self.layer);
        self.results.sent = Some(Direction { counted, layer });
        self.send(&Message::Layer(layer));
        self.event(Event::Phase(Phase::Draining));
        self.next(now);
        Ok(())
    }

    fn take(&mut self, now: Instant, len: usize) -> Result<(), Fault> {
        let when = self.moment();
        match &mut self.stage {
            Stage::Receiving(inward) if !inward.over => {
                if len == 0 || len > MAX_DATA {
                    return Err(Fault::DataLength { len });
                }
                if len as u64 > MAX_TOTAL - inward.bytes {
                    return Err(Fault::TotalTooLarge);
                }
                inward.bytes += len as u64;
                if inward.counted.is_none() {
                    let since = now.saturating_duration_since(inward.began);
                    inward.meter.add(since, len as u64);
                }
                Ok(())
            }
            _ => Err(Fault::UnexpectedData { when }),
        }
    }

    /// Ends the count of the direction from there and tells it, if that was not done before.
    fn count(&mut self, now: Instant) {
        let (time, given_up) = (self.time, given_up(self.layer));
        let Stage::Receiving(inward) = &mut self.stage else {
            return;
        };
        if inward.counted.is_none() {
            let lasted = now.saturating_duration_since(inward.began).min(time);
            let given_up = given_up.saturating_sub(inward.given_up);
            let counted = inward.meter.end(lasted, given_up);
            inward.counted = Some(counted);
            self.send(&Message::Counted(counted));
        }
    }

    /// What is going on, in words for a [`Fault`].
    fn moment(&self) -> &'static str {
        match &self.stage {
            Stage::Opening => self.opening.moment(),
            Stage::Echoes(_) => "while the round trip is measured",
            Stage::Waiting => "before \"begin\"",
            Stage::Sending(_) => "while this side sends",
            Stage::Receiving(Inward { over: false, .. }) => "before \"over\"",
            Stage::Receiving(_) => "after \"over\"",
            Stage::Farewell => "before \"bye\"",
        }
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

impl Echoes {
    /// The number of the echo to ask for now.
    fn ask(&mut self, now: Instant) -> Option<u64> {
        let n = self.asked.len();
        let due = n < ECHOES && now >= self.next;
        due.then(|| {
            self.asked.push(now);
            self.next = now + ECHO_EVERY;
            n as u64
        })
    }

    /// The peer asks for one.
    fn answer(&mut self, n: u64) -> Result<(), Fault> {
        if self.answered == ECHOES || n != self.answered as u64 {
            return Err(Fault::malformed("ping: not the next one"));
        }
        self.answered += 1;
        Ok(())
    }

    /// One came back.
    fn take(&mut self, now: Instant, n: u64) -> Result<(), Fault> {
        match self.asked.get(self.came.len()) {
            Some(at) if n == self.came.len() as u64 => {
                self.came.push(now.saturating_duration_since(*at));
                Ok(())
            }
            _ => Err(Fault::malformed("pong: not the next one")),
        }
    }
}

impl Outward {
    /// What the repair layer did since the beginning; `after`: what it says now that all came.
    fn layer(&self, after: Option<Stats>) -> Layer {
        let since = |count: fn(&Stats) -> u64| {
            let [before, after] = [self.before, after].map(|stats| stats.as_ref().map_or(0, count));
            after.saturating_sub(before).min(MAX_TOTAL)
        };
        let loaded = self.loaded.filter(|loaded| loaded.on);
        // Until there is a shortest round trip nothing was measured.
        let found = loaded.and_then(|loaded| Some((loaded, loaded.min_round_trip?)));
        #[expect(
            clippy::cast_sign_loss,
            reason = "`as` saturates, and turns NaN into 0"
        )]
        let rate = |rate: f64| (rate as u64).min(MAX_TOTAL);
        Layer {
            on: loaded.is_some(),
            frames: since(|stats| stats.frames),
            lost: since(|stats| stats.lost),
            repairs: since(|stats| stats.repairs),
            late: since(|stats| stats.spurious),
            rate: found.map(|(loaded, _)| rate(loaded.rate)),
            round_trip: found.map(|(loaded, _)| whole(loaded.round_trip.as_micros())),
            least: found.map(|(_, least)| whole(least.as_micros())),
        }
    }
}

impl Meter {
    /// Closes the seconds that have passed at `since`.
    fn pass(&mut self, since: Duration) {
        while self.second < since.as_secs() {
            self.second += 1;
            let bytes = std::mem::take(&mut self.now);
            self.slowest = Some(self.slowest.map_or(bytes, |slowest| slowest.min(bytes)));
            self.fastest = Some(self.fastest.map_or(bytes, |fastest| fastest.max(bytes)));
        }
    }

    fn add(&mut self, since: Duration, len: u64) {
        self.pass(since);
        self.bytes += len;
        self.now += len;
    }

    fn end(&mut self, lasted: Duration, given_up: u64) -> Counted {
        self.pass(lasted);
        Counted {
            bytes: self.bytes,
            us: whole(lasted.as_micros()).max(1),
            slowest: self.slowest,
            fastest: self.fastest,
            given_up: given_up.min(MAX_TOTAL),
        }
    }
}

fn round_trip(came: &[Duration]) -> Option<RoundTrip> {
    let mut sorted = came.to_vec();
    sorted.sort_unstable();
    let differences = came.windows(2).map(|pair| pair[0].abs_diff(pair[1]));
    let pairs = u32::try_from(came.len().saturating_sub(1)).ok()?;
    Some(RoundTrip {
        echoes: came.len(),
        least: *sorted.first()?,
        median: *sorted.get(came.len() / 2)?,
        most: *sorted.last()?,
        jitter: differences.sum::<Duration>() / pairs.max(1),
    })
}

/// Holes in what came in that were left to SCTP, since the link began.
fn given_up(layer: Option<Stats>) -> u64 {
    layer.map_or(0, |layer| layer.given_up)
}

/// Below 2^53: nothing here lasts for 285 years.
fn whole(number: u128) -> u64 {
    u64::try_from(number).map_or(MAX_TOTAL, |number| number.min(MAX_TOTAL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::link::repair::Repair;
    use crate::proto::link::repair::frame::{self, Keys};

    const LOCAL: Local<'static> = Local {
        version: "0.1.0",
        verify: false,
    };
    const TIME: Duration = Duration::from_secs(3);

    fn wish(joined: bool) -> Wish {
        Wish {
            time: TIME,
            only: None,
            joined,
        }
    }

    fn drain(bench: &mut Bench) -> Vec<Output> {
        std::iter::from_fn(|| Some(bench.poll_output()).filter(|o| *o != Output::Idle)).collect()
    }

    fn texts(bench: &mut Bench) -> Vec<String> {
        let text = |output| match output {
            Output::Control(text) => Some(text),
            _ => None,
        };
        drain(bench).into_iter().filter_map(text).collect()
    }

    fn hello(wish: Wish) -> String {
        texts(&mut Bench::new(LOCAL, wish)).remove(0)
    }

    fn say(bench: &mut Bench, now: Instant, text: &str) {
        bench.handle_control(now, text.as_bytes());
    }

    fn opened(now: Instant, here: Wish, there: Wish) -> Bench {
        let mut bench = Bench::new(LOCAL, here);
        say(&mut bench, now, &hello(there));
        bench
    }

    /// With its echoes behind it, each after 10 ms.
    fn ready(now: Instant, here: Wish, there: Wish) -> (Bench, Instant) {
        let mut bench = opened(now, here, there);
        let now = echo(&mut bench, now);
        (bench, now)
    }

    fn echo(bench: &mut Bench, mut now: Instant) -> Instant {
        for n in 0..ECHOES {
            bench.handle_timeout(now);
            say(bench, now, &format!(r#"{{"t":"ping","n":{n}}}"#));
            let pong = format!(r#"{{"t":"pong","n":{n}}}"#);
            say(bench, now + Duration::from_millis(10), &pong);
            now += ECHO_EVERY;
        }
        now
    }

    fn now() -> Instant {
        Instant::now()
    }

    #[track_caller]
    fn broken(bench: &Bench, words: &str) {
        match bench.outcome() {
            Some(Outcome::Protocol(fault)) => {
                assert!(fault.to_string().contains(words), "{fault}");
            }
            other => panic!("{other:?}, not {words}"),
        }
    }

    #[test]
    fn the_shorter_wish_counts_and_the_hello_says_ours() {
        let long = Wish {
            time: Duration::from_hours(2),
            ..wish(true)
        };
        assert!(hello(long).contains(r#""ms":3600000"#));
        let (mut bench, _) = ready(now(), long, wish(false));
        let phase = Output::Event(Event::Phase(Phase::Sending(TIME)));
        assert!(drain(&mut bench).contains(&phase));
    }

    #[test]
    fn echoes_are_asked_for_one_by_one_and_none_is_due_when_all_are() {
        let start = now();
        let mut bench = opened(start, wish(true), wish(false));
        let mut pings = 0;
        let mut at = start;
        while let Some(due) = bench.poll_timeout() {
            assert!(due >= at, "time goes on");
            at = due;
            bench.handle_timeout(at);
            pings += texts(&mut bench)
                .iter()
                .filter(|t| t.contains("ping"))
                .count();
        }
        assert_eq!(pings, ECHOES);
        assert_eq!(at - start, ECHO_EVERY * (ECHOES as u32 - 1));
        assert_eq!(bench.awaited(), Some(1), "the echoes of the peer");
    }

    #[test]
    fn the_round_trip_is_told_with_its_jitter() {
        let (bench, _) = ready(now(), wish(true), wish(false));
        let ms = Duration::from_millis;
        let found = bench.results().round_trip.unwrap();
        assert_eq!(
            (found.least, found.median, found.most),
            (ms(10), ms(10), ms(10))
        );
        assert_eq!((found.echoes, found.jitter), (ECHOES, ms(0)));
        let came: Vec<_> = [10, 30, 20].map(ms).to_vec();
        let found = round_trip(&came).unwrap();
        assert_eq!(
            (found.least, found.median, found.most),
            (ms(10), ms(20), ms(30))
        );
        assert_eq!(found.jitter, ms(15), "(20 + 10) / 2");
        assert_eq!(round_trip(&[]), None);
    }

    #[test]
    fn an_echo_out_of_turn_is_a_fault() {
        for (text, words) in [
            (r#"{"t":"pong","n":1}"#, "pong: not the next one"),
            (r#"{"t":"pong","n":7}"#, "pong: not the next one"),
            (r#"{"t":"ping","n":1}"#, "ping: not the next one"),
        ] {
            let mut bench = opened(now(), wish(true), wish(false));
            say(&mut bench, now(), text);
            broken(&bench, words);
        }
        let mut bench = opened(now(), wish(true), wish(false));
        for n in 0..=ECHOES {
            say(&mut bench, now(), &format!(r#"{{"t":"ping","n":{n}}}"#));
        }
        broken(&bench, "ping: not the next one");
    }

    #[test]
    fn the_side_that_joined_sends_first_and_stops_when_the_time_is_over() {
        let (mut bench, begin) = ready(now(), wish(true), wish(false));
        let outputs = drain(&mut bench);
        assert_eq!(outputs.last(), Some(&Output::Send { max: 1024 }));
        assert!(bench.is_sending() && bench.awaited().is_none());
        assert!(bench.handle_sent(begin, 1000));
        assert_eq!(drain(&mut bench), [Output::Send { max: 1024 }]);
        assert!(
            !bench.handle_sent(begin, MAX_DATA + 1),
            "more than was asked for"
        );
        drain(&mut bench);
        let end = bench.poll_timeout().unwrap();
        assert!(end <= begin + TIME);
        assert!(!bench.handle_sent(end, 5), "too late");
        assert_eq!(texts(&mut bench), [r#"{"t":"over","bytes":1000}"#]);
        assert_eq!((bench.poll_timeout(), bench.awaited()), (None, Some(41)));
    }

    #[test]
    fn messages_grow_with_what_was_sent() {
        let (mut bench, begin) = ready(now(), wish(true), wish(false));
        let (mut sent, mut messages) = (0, 0);
        loop {
            let Some(Output::Send { max }) = drain(&mut bench).pop() else {
                panic!("nothing is asked for");
            };
            assert!(max == 1024 || max as u64 <= sent / 64, "{max} after {sent}");
            if max == MAX_DATA {
                break;
            }
            assert!(bench.handle_sent(begin, max));
            sent += max as u64;
            messages += 1;
        }
        assert!((300..400).contains(&messages), "{messages} until {sent}");
    }

    #[test]
    fn what_is_on_the_way_is_bounded_by_what_has_arrived() {
        let wish = |joined| Wish {
            time: MAX_BENCH,
            ..wish(joined)
        };
        let (mut bench, begin) = ready(now(), wish(true), wish(false));
        assert!(!bench.is_ahead(begin, 0) && !bench.is_ahead(begin, 128 << 10));
        assert!(bench.is_ahead(begin, (128 << 10) + 1));
        let mut sent = 0;
        while sent < 3 << 20 {
            drain(&mut bench);
            assert!(bench.handle_sent(begin, 1024));
            sent += 1024;
        }
        // A third of it has arrived, so the rest takes twice the time.
        for (seconds, ahead) in [(1, false), (9, false), (11, true), (3000, true)] {
            let at = begin + Duration::from_secs(seconds);
            assert_eq!(bench.is_ahead(at, 2 << 20), ahead, "{seconds}");
            assert!(bench.is_ahead(at, (2 << 20) + 1));
        }
        // Nothing holds back what has to be said when the time is over.
        bench.handle_timeout(begin + MAX_BENCH);
        assert!(!bench.is_ahead(begin + MAX_BENCH, 3 << 20));
    }

    #[test]
    fn what_came_is_counted_for_the_time_and_the_rest_is_waited_for() {
        let (mut bench, _) = ready(now(), wish(false), wish(true));
        drain(&mut bench);
        assert!(bench.awaited().is_some(), "\"begin\"");
        let begin = now();
        say(&mut bench, begin, r#"{"t":"begin"}"#);
        assert_eq!(
            (bench.awaited(), bench.poll_timeout()),
            (None, Some(begin + TIME))
        );
        for (ms, len) in [(500, 10), (999, 10), (1000, 5), (2999, 40), (3000, 7)] {
            bench.handle_data(begin + Duration::from_millis(ms), len);
        }
        assert_eq!(
            texts(&mut bench),
            [r#"{"t":"counted","bytes":65,"us":3000000,"slowest":5,"fastest":40,"given_up":0}"#]
        );
        assert!(bench.awaited().is_some(), "\"over\"");
        say(&mut bench, begin + TIME, r#"{"t":"over","bytes":72}"#);
        assert_eq!(bench.results().received, None);
        say(
            &mut bench,
            begin + TIME,
            r#"{"t":"layer","on":false,"frames":3}"#,
        );
        let found = bench.results().received.unwrap();
        assert_eq!((found.counted.bytes, found.layer.frames), (65, 3));
        assert!(bench.is_sending(), "its own turn");
    }

    #[test]
    fn a_second_without_a_byte_is_the_slowest() {
        let mut meter = Meter::default();
        meter.add(Duration::from_millis(100), 9);
        meter.add(Duration::from_millis(3500), 4);
        let counted = meter.end(Duration::from_millis(3900), 0);
        assert_eq!(
            (counted.slowest, counted.fastest, counted.bytes),
            (Some(0), Some(9), 13)
        );
        // Less than a second has none that is whole.
        let mut meter = Meter::default();
        meter.add(Duration::ZERO, 9);
        let counted = meter.end(Duration::from_millis(999), 0);
        assert_eq!((counted.slowest, counted.fastest), (None, None));
        assert_eq!(Meter::default().end(Duration::ZERO, 0).us, 1);
    }

    #[test]
    fn the_last_direction_ends_with_the_layer_and_the_bye_of_who_counted() {
        let ended = || {
            let there = Wish {
                only: Some(Only::Receive),
                ..wish(false)
            };
            let (mut bench, begin) = ready(now(), wish(true), there);
            drain(&mut bench);
            assert!(bench.handle_sent(begin, 100));
            bench.handle_timeout(begin + TIME);
            drain(&mut bench);
            let counted = r#"{"t":"counted","bytes":100,"us":3000000}"#;
            say(&mut bench, begin + TIME, counted);
            assert_eq!(
                texts(&mut bench),
                [r#"{"t":"layer","on":false,"frames":0,"lost":0,"repairs":0,"late":0}"#]
            );
            let rate = bench.results().sent.unwrap().counted.rate();
            assert!((rate - 100.0 / 3.0).abs() < 1e-9, "{rate}");
            // What waited at the end may still be on its way there.
            assert_eq!(bench.outcome(), None);
            assert!(bench.awaited().is_some());
            bench
        };
        let mut bench = ended();
        say(&mut bench, now(), r#"{"t":"bye"}"#);
        assert_eq!(
            (bench.outcome(), bench.closing()),
            (Some(&Outcome::Done), Some(Closing::Now))
        );
        // All is measured here, whatever becomes of the link.
        let mut bench = ended();
        bench.handle_closed();
        assert_eq!(bench.outcome(), Some(&Outcome::Done));

        let there = Wish {
            only: Some(Only::Send),
            ..wish(true)
        };
        let (mut bench, begin) = ready(now(), wish(false), there);
        for text in [
            r#"{"t":"begin"}"#,
            r#"{"t":"over","bytes":0}"#,
            r#"{"t":"layer","on":false}"#,
        ] {
            say(&mut bench, begin, text);
        }
        assert_eq!(texts(&mut bench).last().unwrap(), r#"{"t":"bye"}"#);
        assert_eq!(
            (bench.outcome(), bench.closing()),
            (Some(&Outcome::Done), Some(Closing::AwaitPeer))
        );
    }

    #[test]
    fn each_side_can_leave_a_direction_out_and_both_the_same_is_a_mismatch() {
        use Only::{Receive, Send};
        for (here, there, sends, takes) in [
            (None, None, true, true),
            (Some(Send), None, true, false),
            (Some(Receive), None, false, true),
            (None, Some(Send), false, true),
            (None, Some(Receive), true, false),
            (Some(Send), Some(Receive), true, false),
        ] {
            let with = |only, joined| Wish {
                only,
                ..wish(joined)
            };
            let bench = opened(now(), with(here, true), with(there, false));
            let has = |way| bench.turns.contains(&way);
            assert_eq!(
                (has(Way::Out), has(Way::In)),
                (sends, takes),
                "{here:?} {there:?}"
            );
        }
        for only in [Send, Receive] {
            let with = |joined| Wish {
                only: Some(only),
                ..wish(joined)
            };
            let bench = opened(now(), with(true), with(false));
            let said = bench.outcome().unwrap().to_string();
            assert_eq!(said, format!("both sides want to {}", only.word()));
        }
    }

    #[test]
    fn a_peer_that_counts_more_than_was_sent_is_not_believed() {
        for text in [
            r#"{"t":"counted","bytes":101,"us":3000000}"#,
            r#"{"t":"counted","bytes":100,"us":3000001}"#,
        ] {
            let (mut bench, begin) = ready(now(), wish(true), wish(false));
            drain(&mut bench);
            assert!(bench.handle_sent(begin, 100));
            say(&mut bench, begin + TIME, text);
            broken(&bench, "counted: more than was sent");
            assert_eq!(bench.results().sent, None);
        }
    }

    #[test]
    fn words_are_compared_before_an_echo_is_asked_for() {
        let verify = Local {
            verify: true,
            ..LOCAL
        };
        let mut bench = Bench::new(verify, wish(true));
        say(&mut bench, now(), &hello(wish(false)));
        assert_eq!(
            drain(&mut bench).last(),
            Some(&Output::Event(Event::Compare))
        );
        assert_eq!((bench.awaited(), bench.poll_timeout()), (None, None));
        bench.agree(now());
        assert_eq!(texts(&mut bench), [r#"{"t":"agree"}"#]);
        say(&mut bench, now(), r#"{"t":"agree"}"#);
        assert_eq!(texts(&mut bench), [r#"{"t":"ping","n":0}"#]);
    }

    #[test]
    fn data_and_messages_out_of_turn_are_faults() {
        let mut bench = Bench::new(LOCAL, wish(true));
        bench.handle_data(now(), 1);
        broken(&bench, "file data before \"hello\"");
        let mut bench = opened(now(), wish(true), wish(false));
        bench.handle_data(now(), 1);
        broken(&bench, "while the round trip is measured");
        // Both sides say that they joined.
        let (mut bench, begin) = ready(now(), wish(true), wish(true));
        say(&mut bench, begin, r#"{"t":"begin"}"#);
        broken(&bench, "\"begin\" while this side sends");
        let receiving = || {
            let (mut bench, begin) = ready(now(), wish(false), wish(true));
            say(&mut bench, begin, r#"{"t":"begin"}"#);
            (bench, begin)
        };
        for (text, words) in [
            (r#"{"t":"layer","on":true}"#, "\"layer\" before \"over\""),
            (r#"{"t":"over","bytes":1}"#, "another number of bytes"),
            (r#"{"t":"bye"}"#, "\"bye\" before \"over\""),
            (r#"{"t":"counted","bytes":1,"us":1}"#, "\"counted\" before"),
        ] {
            let (mut bench, begin) = receiving();
            say(&mut bench, begin, text);
            broken(&bench, words);
        }
        let (mut bench, begin) = receiving();
        say(&mut bench, begin, r#"{"t":"over","bytes":0}"#);
        bench.handle_data(begin, 1);
        broken(&bench, "file data after \"over\"");
        for len in [0, MAX_DATA + 1] {
            let (mut bench, begin) = receiving();
            bench.handle_data(begin, len);
            broken(&bench, "a data message of");
        }
    }

    #[test]
    fn the_layer_is_told_as_what_it_did_in_this_direction() {
        let start = now();
        let keys = Keys::new(frame::Role::Offerer, "ours", "theirs");
        let stats = Repair::new(start, keys, 1, 1 << 20).stats();
        let before = Stats {
            frames: 10,
            lost: 4,
            repairs: 4,
            spurious: 1,
            ..stats
        };
        let mut bench = opened(start, wish(true), wish(false));
        bench.handle_layer(Some(before));
        let begin = echo(&mut bench, start);
        drain(&mut bench);
        assert!(bench.handle_sent(begin, 10));
        let ms = Duration::from_millis;
        bench.handle_layer(Some(Stats {
            on: true,
            rate: 5e6,
            min_round_trip: Some(ms(50)),
            round_trip: ms(80),
            frames: 900,
            ..before
        }));
        bench.handle_timeout(begin + TIME);
        bench.handle_layer(Some(Stats {
            on: false,
            frames: 1000,
            lost: 14,
            spurious: 3,
            ..before
        }));
        say(
            &mut bench,
            begin + TIME,
            r#"{"t":"counted","bytes":10,"us":3000000}"#,
        );
        let layer = bench.results().sent.unwrap().layer;
        assert_eq!(
            layer,
            Layer {
                on: true,
                frames: 990,
                lost: 10,
                repairs: 0,
                late: 2,
                rate: Some(5_000_000),
                round_trip: Some(80_000),
                least: Some(50_000),
            }
        );
        assert_eq!(layer.loss(), Some(8.0 / 990.0));
        assert_eq!(Layer { on: false, ..layer }.loss(), None);
        // A liar's numbers stay between none and all.
        assert_eq!(Layer { frames: 1, ..layer }.loss(), Some(1.0));
        assert_eq!(Layer { late: 99, ..layer }.loss(), Some(0.0));
    }

    #[test]
    fn a_cancel_and_the_links_end_are_told_once() {
        let (mut bench, _) = ready(now(), wish(true), wish(false));
        drain(&mut bench);
        bench.cancel(CancelReason::User, "");
        assert_eq!(
            texts(&mut bench),
            [r#"{"t":"cancel","reason":"user","text":""}"#]
        );
        assert_eq!((bench.awaited(), bench.poll_timeout()), (None, None));
        let (mut bench, _) = ready(now(), wish(true), wish(false));
        bench.handle_closed();
        assert_eq!(
            (bench.outcome(), bench.closing()),
            (Some(&Outcome::Lost), Some(Closing::Now))
        );
        assert!(
            bench.results().round_trip.is_some(),
            "what was measured stays"
        );
    }
}
