//! Drives a transfer over a [`Link`]: the machine of [`crate::proto::app`] on one hand, the disk
//! on a thread of its own on the other.

mod bench;
mod pipe;
mod receive;
mod send;

pub use bench::{Measured, bench};
pub use pipe::{Show, pipe, raw};
pub use receive::{Decision, receive};
pub use send::send;

use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::time::{Interval, MissedTickBehavior};

use crate::io::files::FileError;
use crate::io::peer::{Link, LinkError};
use crate::proto::app::bench::Phase;
use crate::proto::app::{CancelReason, Closing, Digest, Outcome, Peer, Words, words};
use crate::proto::link::repair::Stats;

/// File contents per message and per read, in bytes.
const CHUNK: usize = crate::proto::app::message::MAX_DATA;
/// Whoever spoke last waits this long for the other side to close.
const LAST_WORD: Duration = Duration::from_secs(2);
/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);

/// What happens during a transfer, for whoever watches.
#[derive(Debug)]
pub enum Report {
    /// The peer has said hello.
    Hello(Peer),
    /// The receiver took the offer.
    Accepted,
    /// The streams of a pipe are joined: whether this side sends, and whether it takes something.
    Open { sends: bool, takes: bool },
    /// What a bench measures from now on.
    Measuring(Phase),
    /// Bytes that have arrived at the receiver, so far; of a bench, in this direction.
    Bytes(u64),
    /// Everything has been sent; the receiver still compares and stores.
    Verifying,
    /// A file is complete: at the sender acknowledged, at the receiver verified and in place. Of a
    /// pipe, number 0 is what was sent and 1 what was received.
    File {
        index: usize,
        size: u64,
        blake3: Digest,
        path: Option<PathBuf>,
    },
    /// Nothing was heard from the peer for this long; told about once a second.
    Silence(Duration),
    /// The peer is heard again.
    Heard,
    /// What the repair layer did so far; told about once a second while it does something, and
    /// when it steps aside.
    Repair(Stats),
}

/// The hellos fit.
fn greet(link: &Link, peer: Peer, report: &mut dyn FnMut(Report)) {
    if !peer.repairs() {
        link.forbid_repair();
    }
    report(Report::Hello(peer));
}

/// How a transfer ended.
#[derive(Debug)]
pub struct Ended {
    pub outcome: Outcome,
    /// Why the link went, if it did before the end.
    pub link: Option<LinkError>,
    /// The error of a file of this side, in words that may name its path.
    pub file: Option<FileError>,
}

/// What the person says to the words of both screens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// They are the same.
    Same,
    /// They are not.
    Differ,
    /// There is nobody to say.
    Nobody,
}

impl Compared {
    /// What the peer is told instead of `agree`.
    pub(super) fn refusal(self) -> Option<CancelReason> {
        match self {
            Self::Same => None,
            Self::Differ => Some(CancelReason::Words),
            Self::Nobody => Some(CancelReason::NoTerminal),
        }
    }
}

/// A question to the person that is answered while other things go on.
pub(super) struct Question<'a, A>(Option<Pin<Box<dyn Future<Output = A> + 'a>>>);

impl<'a, A> Question<'a, A> {
    /// Not asked yet.
    pub(super) fn new() -> Self {
        Self(None)
    }

    /// Asks.
    pub(super) fn ask(&mut self, answer: impl Future<Output = A> + 'a) {
        self.0 = Some(Box::pin(answer));
    }

    /// Takes the question back: the answer does not matter any more.
    pub(super) fn withdraw(&mut self) {
        self.0 = None;
    }

    /// The answer, once; never, while nothing is asked.
    pub(super) async fn answer(&mut self) -> A {
        let Some(asked) = &mut self.0 else {
            return std::future::pending().await;
        };
        let answer = asked.await;
        self.0 = None;
        answer
    }
}

/// The words of both screens, put to the person when the machine asks for it.
struct Comparison<'a, F> {
    compare: Option<F>,
    question: Question<'a, Compared>,
}

impl<'a, F, C> Comparison<'a, F>
where
    F: FnOnce(Words) -> C,
    C: Future<Output = Compared> + 'a,
{
    fn new(compare: F) -> Self {
        Self {
            compare: Some(compare),
            question: Question::new(),
        }
    }

    /// Asks, once, when it is `wanted`, which it takes; takes the question back when all is `over`.
    fn turn(&mut self, wanted: &mut bool, over: bool, link: &Link) {
        if over {
            self.question.withdraw();
        }
        if std::mem::take(wanted)
            && let Some(compare) = self.compare.take()
        {
            self.question.ask(compare(words(link.fingerprints())));
        }
    }

    /// The answer, once; never, while nothing is asked.
    async fn answer(&mut self) -> Compared {
        self.question.answer().await
    }
}

/// When progress is told.
fn ticks() -> Interval {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// A cancellation that the user may ask for: pending until then.
pub trait Cancelled: Future<Output = ()> {}
impl<F: Future<Output = ()>> Cancelled for F {}

/// Tells silence once a second, and its end; and what the repair layer does.
#[derive(Default)]
struct Silence {
    told: Option<u64>,
    repair: Option<(Instant, Stats)>,
}

impl Silence {
    /// Silence that is worth a word. The peer speaks every two seconds.
    const NOTABLE: Duration = Duration::from_secs(5);
    /// Between two words about the repair layer.
    const REPAIRS: Duration = Duration::from_secs(1);

    fn watch(&mut self, link: &Link, report: &mut dyn FnMut(Report)) {
        if let Some(stats) = link.repair() {
            self.watch_repair(stats, report);
        }
        let silence = link.silence();
        if silence < Self::NOTABLE {
            if self.told.take().is_some() {
                report(Report::Heard);
            }
        } else if self.told != Some(silence.as_secs()) {
            self.told = Some(silence.as_secs());
            report(Report::Silence(silence));
        }
    }

    fn watch_repair(&mut self, stats: Stats, report: &mut dyn FnMut(Report)) {
        // Nothing is measured yet.
        if stats.rate <= 0.0 || stats.min_round_trip.is_none() {
            return;
        }
        let news = match &self.repair {
            None => stats.on,
            Some((at, before)) => {
                let more = stats.frames > before.frames || stats.given_up > before.given_up;
                before.on != stats.on || (more && at.elapsed() >= Self::REPAIRS)
            }
        };
        if news {
            self.repair = Some((Instant::now(), stats));
            report(Report::Repair(stats));
        }
    }
}

/// Resolves when the peer's program does not say within the user's patience what it has to say
/// next. `awaited` grows with each thing said, and is `None` while nothing is due from it.
async fn mute(
    link: &Link,
    awaited: Option<u64>,
    since: &mut Option<(u64, tokio::time::Instant)>,
) -> LinkError {
    let Some(step) = awaited else {
        *since = None;
        return std::future::pending().await;
    };
    let (_, at) = since
        .take_if(|(known, _)| *known == step)
        .unwrap_or_else(|| (step, tokio::time::Instant::now()));
    *since = Some((step, at));
    tokio::time::sleep_until(at + link.patience()).await;
    LinkError::Mute(link.patience())
}

/// Resolves when the wait for the peer's close is over; never while none has begun.
async fn last_word(closing: Option<Closing>, since: &mut Option<tokio::time::Instant>) {
    match closing {
        Some(Closing::AwaitPeer) => {
            let since = *since.get_or_insert_with(tokio::time::Instant::now);
            tokio::time::sleep_until(since + LAST_WORD).await;
        }
        Some(Closing::Now) | None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer, if it is there.
    async fn now(question: &mut Question<'_, u8>) -> Option<u8> {
        tokio::select! {
            biased;
            answer = question.answer() => Some(answer),
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_question_is_answered_once_and_not_after_it_was_taken_back() {
        let mut question = Question::new();
        assert_eq!(now(&mut question).await, None);
        question.ask(std::future::ready(1));
        assert_eq!(now(&mut question).await, Some(1));
        assert_eq!(now(&mut question).await, None);
        question.ask(std::future::ready(2));
        question.withdraw();
        assert_eq!(now(&mut question).await, None);
    }

    #[test]
    fn only_the_same_words_are_no_reason_to_end() {
        assert_eq!(Compared::Same.refusal(), None);
        assert_eq!(Compared::Differ.refusal(), Some(CancelReason::Words));
        assert_eq!(Compared::Nobody.refusal(), Some(CancelReason::NoTerminal));
    }
}
