//! How a talk can end, what that means for exit codes, and who closes the channel then. Shared by
//! all machines of [`proto::app`](super).

use std::fmt;

use super::hello::{Mismatch, Refusal};
use super::message::{Cancel, CancelReason, DeclineReason, Fault, MAX_TEXT, Message, cut};

/// Which side did something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This one.
    Here,
    /// The peer.
    There,
}

/// A file, as both sides can name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRef {
    /// Its place in the manifest, from 0.
    pub index: usize,
    /// Its name in the manifest; hostile at the receiver.
    pub name: String,
}

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every file is verified and in its place at the receiver; of a pipe, both streams have ended,
    /// verified, at their readers; of a bench, everything was measured.
    Done,
    /// The receiver did not take the offer; nothing was sent.
    Declined {
        /// Who declined: the receiving side.
        by: Side,
        /// The class of the reason.
        reason: DeclineReason,
        /// The explanation, at most 500 bytes; hostile when `by` is [`Side::There`].
        text: String,
    },
    /// One side broke it off.
    Cancelled {
        /// Who.
        by: Side,
        /// The class of the reason.
        reason: CancelReason,
        /// The file it was about.
        file: Option<FileRef>,
        /// The explanation, at most 500 bytes; hostile when `by` is [`Side::There`].
        text: String,
    },
    /// The bytes at the receiver are not the bytes the sender read.
    Verification {
        /// Who noticed.
        by: Side,
        /// The file; `None` when the peer did not say.
        file: Option<FileRef>,
    },
    /// A file could not be read or written on this side.
    Failed {
        /// The file.
        file: FileRef,
        /// What went wrong.
        problem: Problem,
    },
    /// The two programs do not fit each other.
    Incompatible(Mismatch),
    /// The peer broke the protocol.
    Protocol(Fault),
    /// The reader of a pipe went away before its stream had ended.
    ReaderGone {
        /// Whose reader.
        by: Side,
    },
    /// The link ended before the transfer did.
    Lost,
}

/// What went wrong with a file on this side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It could not be read.
    Read(String),
    /// It ended early while being sent.
    Shrank {
        /// The size that was offered, in bytes.
        size: u64,
        /// The bytes it had.
        read: u64,
    },
    /// It has more bytes than were offered.
    Grew {
        /// The size that was offered, in bytes.
        size: u64,
    },
    /// Its content was changed while it was being sent.
    Changed,
    /// It could not be written.
    Write(String),
    /// The I/O layer answered a request out of its bounds: a bug on this side.
    Misuse(&'static str),
}

/// The classes of [`Outcome`] that scripts can tell apart, each with one exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutcomeKind {
    /// Done: exit code 0.
    Done,
    /// The answer was no: exit code 1.
    Declined,
    /// Could not complete: exit code 3.
    Failed,
    /// Data failed verification: exit code 4.
    Verification,
    /// Stopped by the person on this side: exit code 130 (143 when the signal was SIGTERM).
    Interrupted,
}

/// What would help, and on which side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing to do, or nothing a program can advise.
    Nothing,
    /// Run both sides again; files already in place need not be sent again.
    Again,
    /// Put right what is named on this side, then run both again.
    Here,
    /// Put right what is named on the peer's side, then run both again.
    There,
    /// Run both again with an invite that is handed over in another way.
    HandOver,
    /// Run both again where a person can compare the words, or without comparing.
    Terminal,
    /// Update this program.
    UpdateHere,
    /// Update the peer's program.
    UpdateThere,
}

impl Outcome {
    /// Returns the class, for exit codes.
    pub fn kind(&self) -> OutcomeKind {
        match self {
            // Whoever reads no more wants no more, as in any pipeline.
            Self::Done | Self::ReaderGone { by: Side::Here } => OutcomeKind::Done,
            Self::Declined { .. }
            | Self::ReaderGone { by: Side::There }
            | Self::Cancelled {
                reason: CancelReason::NoTerminal,
                ..
            } => OutcomeKind::Declined,
            Self::Verification { .. } => OutcomeKind::Verification,
            Self::Cancelled {
                reason: CancelReason::Words,
                ..
            } => OutcomeKind::Verification,
            Self::Cancelled {
                by: Side::Here,
                reason: CancelReason::User,
                ..
            } => OutcomeKind::Interrupted,
            Self::Cancelled { .. }
            | Self::Failed { .. }
            | Self::Incompatible(_)
            | Self::Protocol(_)
            | Self::Lost => OutcomeKind::Failed,
        }
    }

    /// Returns one stable word for machine output.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Declined { .. } => "declined",
            Self::Cancelled {
                reason: CancelReason::Words,
                ..
            } => "words",
            Self::Cancelled {
                reason: CancelReason::NoTerminal,
                ..
            } => "no-terminal",
            Self::Cancelled { .. } => "cancelled",
            Self::Verification { .. } => "verification",
            Self::Failed { problem, .. } => match problem {
                Problem::Read(_) => "read",
                Problem::Shrank { .. } | Problem::Grew { .. } | Problem::Changed => "changed",
                Problem::Write(_) => "write",
                Problem::Misuse(_) => "internal",
            },
            Self::Incompatible(Mismatch::Versions { .. }) => "version",
            Self::Incompatible(Mismatch::Roles { .. }) => "role",
            Self::Protocol(_) => "protocol",
            Self::ReaderGone { .. } => "reader-gone",
            Self::Lost => "lost",
        }
    }

    /// Says what would help, and on which side.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Lost | Self::Verification { .. } => Remedy::Again,
            Self::Declined { by, reason, .. } => match (reason, by) {
                (DeclineReason::User | DeclineReason::Other, _) => Remedy::Nothing,
                // A name is the sender's to change; all else is up to the receiver, who declined.
                (DeclineReason::Name, Side::Here) => Remedy::There,
                (DeclineReason::Name, Side::There) | (_, Side::Here) => Remedy::Here,
                (_, Side::There) => Remedy::There,
            },
            Self::Cancelled { by, reason, .. } => match (reason, by) {
                (CancelReason::Words, _) => Remedy::HandOver,
                (CancelReason::NoTerminal, _) => Remedy::Terminal,
                (CancelReason::Disk | CancelReason::Read | CancelReason::Changed, Side::There) => {
                    Remedy::There
                }
                _ => Remedy::Nothing,
            },
            Self::Failed {
                problem: Problem::Misuse(_),
                ..
            } => Remedy::UpdateHere,
            Self::Failed { .. } | Self::Incompatible(Mismatch::Roles { .. }) => Remedy::Here,
            Self::Incompatible(mismatch) if mismatch.update_here() == Some(true) => {
                Remedy::UpdateHere
            }
            Self::Incompatible(_) | Self::Protocol(_) => Remedy::UpdateThere,
            Self::Done | Self::ReaderGone { .. } => Remedy::Nothing,
        }
    }
}

impl fmt::Display for FileRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(text) => write!(f, "cannot be read: {text}"),
            Self::Shrank { size, read } => {
                write!(f, "shrank while being sent, from {size} bytes to {read}")
            }
            Self::Grew { size } => write!(f, "grew while being sent, past {size} bytes"),
            Self::Changed => f.write_str("changed while being sent"),
            Self::Write(text) => write!(f, "cannot be written: {text}"),
            Self::Misuse(what) => write!(f, "was handled wrongly by this program: {what}"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Declined { by, reason, text } => {
                f.write_str(match by {
                    Side::Here => "declined",
                    Side::There => "the receiver declined",
                })?;
                f.write_str(match reason {
                    DeclineReason::NoTerminal => ": nobody there to ask",
                    DeclineReason::User | DeclineReason::Other => "",
                    DeclineReason::Exists => ": the file exists already",
                    DeclineReason::Name => ": a name cannot be used",
                    DeclineReason::Space => ": not enough room",
                })?;
                explanation(f, text)
            }
            Self::Cancelled {
                by: Side::Here,
                reason: CancelReason::Words,
                ..
            } => f.write_str("the words on the two screens differ"),
            Self::Cancelled {
                by: Side::Here,
                reason: CancelReason::NoTerminal,
                ..
            } => f.write_str("no terminal here to compare the words on"),
            Self::Cancelled {
                by,
                reason,
                file,
                text,
            } => {
                f.write_str(match by {
                    Side::Here => "cancelled",
                    Side::There => "the other side cancelled",
                })?;
                f.write_str(match reason {
                    CancelReason::User | CancelReason::Error => "",
                    CancelReason::Verify => ": data failed verification",
                    CancelReason::Disk => ": it could not write",
                    CancelReason::Read => ": it could not read",
                    CancelReason::Changed => ": a file changed while being sent",
                    CancelReason::Version => ": no common protocol version",
                    CancelReason::Role => ": the two sides want different things",
                    CancelReason::Words => ": the words on the two screens differ",
                    CancelReason::NoTerminal => ": no terminal there to compare the words on",
                    CancelReason::Protocol => ": it says this side broke the protocol",
                })?;
                if let Some(file) = file {
                    write!(f, ", at {file}")?;
                }
                explanation(f, text)
            }
            Self::Verification {
                file: Some(file), ..
            } => {
                write!(f, "{file} arrived with other bytes than were sent")
            }
            Self::Verification { file: None, .. } => {
                f.write_str("a file arrived with other bytes than were sent")
            }
            Self::Failed { file, problem } => write!(f, "{file} {problem}"),
            Self::Incompatible(mismatch) => mismatch.fmt(f),
            Self::Protocol(fault) => write!(f, "the other side broke the protocol: {fault}"),
            Self::ReaderGone { by: Side::Here } => f.write_str("nobody reads the output any more"),
            Self::ReaderGone { by: Side::There } => {
                f.write_str("the reader at the other side went away before it had everything")
            }
            Self::Lost => f.write_str("the link ended before the transfer did"),
        }
    }
}

fn explanation(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    if text.is_empty() {
        Ok(())
    } else {
        write!(f, " ({text})")
    }
}

/// Who closes the channel once a machine has finished.
///
/// The side that gets the last message closes; the side that sent it waits, because closing at once
/// could overtake the message. So no side needs to guess how long a message takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Keep passing messages and the close of the channel to the machine, for a bounded time (two
    /// seconds or so: the peer may be gone or hostile); close when this turns to `Now`.
    AwaitPeer,
    /// Close the channel.
    Now,
}

/// The end of a machine: set once, heeds only the peer's last words afterwards.
#[derive(Debug, Default)]
pub(super) struct Ending {
    pub(super) outcome: Option<Outcome>,
    pub(super) closing: Option<Closing>,
}

impl Ending {
    pub(super) fn reached(&self) -> bool {
        self.outcome.is_some()
    }

    pub(super) fn set(&mut self, outcome: Outcome, closing: Closing) {
        self.outcome = Some(outcome);
        self.closing = Some(closing);
    }

    /// After the end every message is ignored, except that the peer's own last word frees this side.
    pub(super) fn heed(&mut self, bytes: &[u8]) {
        let last_word = |message| {
            matches!(
                message,
                Message::Bye | Message::Cancel(_) | Message::Decline(_) | Message::Stop(_)
            )
        };
        if self.closing == Some(Closing::AwaitPeer)
            && Message::parse(bytes).is_ok_and(|message| message.is_some_and(last_word))
        {
            self.closing = Some(Closing::Now);
        }
    }

    pub(super) fn link_closed(&mut self) {
        self.closing = Some(Closing::Now);
    }
}

/// The `cancel` message that tells the peer of an outcome reached here.
///
/// The text is written for its reader: "it" is this side, "this side" the peer.
pub(super) fn farewell(outcome: &Outcome) -> String {
    let (reason, file, text) = match outcome {
        Outcome::Cancelled {
            reason, file, text, ..
        } => (*reason, file.as_ref(), text.clone()),
        Outcome::Verification { file, .. } => (CancelReason::Verify, file.as_ref(), String::new()),
        Outcome::Failed { file, problem } => {
            let (reason, text) = match problem {
                Problem::Read(text) => (CancelReason::Read, text.clone()),
                Problem::Write(text) => (CancelReason::Disk, text.clone()),
                Problem::Misuse(_) => (CancelReason::Error, problem.to_string()),
                _ => (CancelReason::Changed, problem.to_string()),
            };
            (reason, Some(file), text)
        }
        Outcome::Incompatible(Mismatch::Versions { theirs, ours, .. }) => (
            CancelReason::Version,
            None,
            format!("it speaks {ours}, this side {theirs}"),
        ),
        Outcome::Incompatible(Mismatch::Roles { .. }) => (CancelReason::Role, None, String::new()),
        Outcome::Protocol(fault) => (CancelReason::Protocol, None, fault.to_string()),
        Outcome::Done | Outcome::Declined { .. } | Outcome::ReaderGone { .. } | Outcome::Lost => {
            (CancelReason::Error, None, String::new())
        }
    };
    let i = file.map(|file| file.index as u64);
    Message::Cancel(Cancel {
        reason,
        i,
        text: cut(&text, MAX_TEXT).to_owned(),
    })
    .to_json()
}

/// The outcome of a cancellation by this side.
pub(super) fn cancelled_here(reason: CancelReason, text: &str) -> Outcome {
    Outcome::Cancelled {
        by: Side::Here,
        reason,
        file: None,
        text: cut(text, MAX_TEXT).to_owned(),
    }
}

/// The outcome of the peer's `cancel`.
pub(super) fn cancelled_by_peer(
    cancel: Cancel,
    file_ref: impl Fn(usize) -> Option<FileRef>,
) -> Outcome {
    let Cancel { reason, i, text } = cancel;
    let file = i.and_then(|i| usize::try_from(i).ok()).and_then(file_ref);
    match reason {
        CancelReason::Verify => Outcome::Verification {
            by: Side::There,
            file,
        },
        _ => Outcome::Cancelled {
            by: Side::There,
            reason,
            file,
            text,
        },
    }
}

/// The outcome that a refused hello leads to.
pub(super) fn refused(refusal: Refusal) -> Outcome {
    match refusal {
        Refusal::Mismatch(mismatch) => Outcome::Incompatible(mismatch),
        Refusal::Fault(fault) => Outcome::Protocol(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declined(by: Side, reason: DeclineReason) -> Outcome {
        Outcome::Declined {
            by,
            reason,
            text: String::new(),
        }
    }

    #[test]
    fn a_declined_offer_says_which_side_can_help() {
        for (by, reason, remedy) in [
            (Side::There, DeclineReason::Exists, Remedy::There),
            (Side::Here, DeclineReason::Exists, Remedy::Here),
            (Side::There, DeclineReason::Name, Remedy::Here),
            (Side::Here, DeclineReason::Name, Remedy::There),
            (Side::There, DeclineReason::User, Remedy::Nothing),
        ] {
            assert_eq!(declined(by, reason).remedy(), remedy, "{by:?} {reason:?}");
        }
    }

    #[test]
    fn only_a_person_on_this_side_interrupts() {
        let cancelled = |by, reason| Outcome::Cancelled {
            by,
            reason,
            file: None,
            text: String::new(),
        };
        assert_eq!(
            cancelled(Side::Here, CancelReason::User).kind(),
            OutcomeKind::Interrupted
        );
        assert_eq!(
            cancelled(Side::There, CancelReason::User).kind(),
            OutcomeKind::Failed
        );
        assert_eq!(
            cancelled(Side::Here, CancelReason::Error).kind(),
            OutcomeKind::Failed
        );
    }

    #[test]
    fn words_that_differ_and_words_nobody_can_compare_end_both_sides_alike() {
        for (reason, kind, remedy, word) in [
            (
                CancelReason::Words,
                OutcomeKind::Verification,
                Remedy::HandOver,
                "words",
            ),
            (
                CancelReason::NoTerminal,
                OutcomeKind::Declined,
                Remedy::Terminal,
                "no-terminal",
            ),
        ] {
            for by in [Side::Here, Side::There] {
                let outcome = Outcome::Cancelled {
                    by,
                    reason,
                    file: None,
                    text: String::new(),
                };
                assert_eq!(outcome.kind(), kind, "{by:?} {reason:?}");
                assert_eq!(outcome.remedy(), remedy, "{by:?} {reason:?}");
                assert_eq!(outcome.word(), word, "{by:?} {reason:?}");
                let here = !outcome.to_string().contains("the other side");
                assert_eq!(here, by == Side::Here, "{outcome}");
            }
        }
    }

    #[test]
    fn a_cancel_for_verification_is_one_on_both_sides() {
        let cancel = Cancel {
            reason: CancelReason::Verify,
            i: Some(9),
            text: String::new(),
        };
        let outcome = cancelled_by_peer(cancel, |_| None);
        assert_eq!(outcome.kind(), OutcomeKind::Verification);
    }

    #[test]
    fn outcomes_read_as_sentences() {
        let file = FileRef {
            index: 0,
            name: "a.txt".into(),
        };
        let shrank = Problem::Shrank { size: 10, read: 4 };
        assert_eq!(
            Outcome::Failed {
                file: file.clone(),
                problem: shrank
            }
            .to_string(),
            "a.txt shrank while being sent, from 10 bytes to 4"
        );
        assert_eq!(
            Outcome::Cancelled {
                by: Side::There,
                reason: CancelReason::Disk,
                file: Some(file),
                text: "no space left".into()
            }
            .to_string(),
            "the other side cancelled: it could not write, at a.txt (no space left)"
        );
        assert_eq!(
            declined(Side::There, DeclineReason::NoTerminal).to_string(),
            "the receiver declined: nobody there to ask"
        );
    }
}
