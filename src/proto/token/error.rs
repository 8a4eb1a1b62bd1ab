//! What can be wrong with a pasted or typed code, in words for the person who typed it.
//!
//! No message repeats text from outside; at most it names symbols of the alphabet.

use std::fmt;

use super::code::Finding;
use super::text::{is_readable, symbol};
use crate::proto::sdp::SdpError;

/// Why a text is not the code that was asked for.
///
/// `Display` says the cause; [`hint`](Self::hint) says what to try next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// There is no text.
    Empty,
    /// The text is longer than [`MAX_TEXT`](super::MAX_TEXT) bytes.
    TooLong,
    /// Nothing in the text looks like a code.
    NotAToken,
    /// One symbol is wrong, and the check says which.
    Typo {
        /// Place of the symbol in the code, from 1, separators not counted.
        position: usize,
        /// For replies, the group of four it is in, from 1.
        group: Option<usize>,
        /// The symbol that was read; `None` for a letter or digit that codes never contain.
        read: Option<char>,
        /// The symbol that makes the check right.
        probably: char,
    },
    /// Two neighbouring symbols are in the wrong order.
    Swapped {
        /// Place of the first of them, from 1, separators not counted.
        position: usize,
        /// For replies, the group of four the first is in, from 1.
        group: Option<usize>,
    },
    /// The check is wrong and the mistake cannot be located.
    Damaged,
    /// Symbols are missing.
    Truncated {
        /// How many there are.
        have: usize,
        /// How many there should be, at the least.
        need: usize,
    },
    /// There are more symbols than a reply code of this kind has.
    Extra {
        /// How many there are.
        have: usize,
        /// How many there should be.
        need: usize,
    },
    /// An invite of a later format.
    NewerVersion,
    /// A reply code was given where an invite is needed.
    ReplyWhereInviteBelongs,
    /// An invite was given where a reply code is needed.
    InviteWhereReplyBelongs,
    /// A session description, or a candidate, was given.
    SdpWhereTokenBelongs,
    /// What looks like a session description cannot be used.
    Sdp(SdpError),
    /// The check is right but the content cannot be; says what.
    BadField(&'static str),
}

impl TokenError {
    /// Says what to try next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Empty => "paste the invite that the other side printed",
            Self::TooLong => "paste the code alone",
            Self::NotAToken => {
                "an invite begins with KH and has about 110 characters; a reply code looks like XXXX-XXXX-XXXX"
            }
            Self::Typo { .. } => {
                "compare that character with the original and enter the code again"
            }
            Self::Swapped { .. } => {
                "compare those two characters with the original and enter the code again"
            }
            Self::Damaged => {
                "copy the code again, or compare all of it: a character may be wrong, missing or doubled"
            }
            Self::Truncated { .. } => "copy the code again, down to its last character",
            Self::Extra { .. } => "compare with the original: a character may be doubled",
            Self::NewerVersion => "update knothole on this machine",
            Self::ReplyWhereInviteBelongs => {
                "enter this code on the machine that printed the invite; here, paste the invite"
            }
            Self::InviteWhereReplyBelongs => {
                "give the invite to the other machine; here, enter the reply code it shows"
            }
            Self::SdpWhereTokenBelongs => {
                "with --sdp it is read; to another knothole, an invite is all it takes"
            }
            Self::Sdp(error) => error.hint(),
            Self::BadField(_) => "ask the other side for a new code",
        }
    }
}

impl TokenError {
    /// Puts what the check found in `word` into words; groups have `group_len` symbols.
    /// `None` when it found no single mistake.
    pub(super) fn from_finding(
        finding: Finding,
        word: &[u8],
        group_len: Option<usize>,
    ) -> Option<Self> {
        let group = |at: usize| group_len.map(|len| at / len + 1);
        match finding {
            Finding::Wrong { at, right } => {
                let read = word
                    .get(at)
                    .copied()
                    .filter(|&v| is_readable(v))
                    .map(symbol);
                let (position, group, probably) = (at + 1, group(at), symbol(right));
                Some(Self::Typo {
                    position,
                    group,
                    read,
                    probably,
                })
            }
            Finding::Swapped { at } => Some(Self::Swapped {
                position: at + 1,
                group: group(at),
            }),
            Finding::Right | Finding::Unclear => None,
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the code is empty"),
            Self::TooLong => f.write_str("the text is too long to be a code"),
            Self::NotAToken => f.write_str("this is neither an invite nor a reply code"),
            Self::Typo {
                position,
                group,
                read,
                probably,
            } => {
                write!(f, "typing mistake at character {position}")?;
                in_group(f, *group)?;
                match read {
                    Some(read) => write!(f, ": read {read}, probably {probably}"),
                    None => write!(
                        f,
                        ": read something that codes never contain, probably {probably}"
                    ),
                }
            }
            Self::Swapped { position, group } => {
                write!(f, "characters {position} and {}", position + 1)?;
                in_group(f, *group)?;
                f.write_str(" seem to have changed places")
            }
            Self::Damaged => f.write_str("there is a typing mistake somewhere in the code"),
            Self::Truncated { have, need } => {
                write!(
                    f,
                    "the code is not complete: {have} characters of at least {need}"
                )
            }
            Self::Extra { have, need } => {
                write!(
                    f,
                    "the code is too long: {have} characters instead of {need}"
                )
            }
            Self::NewerVersion => f.write_str("this invite was made by a newer version"),
            Self::ReplyWhereInviteBelongs => f.write_str("this is a reply code, not an invite"),
            Self::InviteWhereReplyBelongs => f.write_str("this is an invite, not a reply code"),
            Self::SdpWhereTokenBelongs => {
                f.write_str("this is a session description (SDP), not a code of knothole")
            }
            Self::Sdp(error) => error.fmt(f),
            Self::BadField(what) => write!(f, "the code is complete but cannot be used: {what}"),
        }
    }
}

impl std::error::Error for TokenError {}

fn in_group(f: &mut fmt::Formatter<'_>, group: Option<usize>) -> fmt::Result {
    group.map_or(Ok(()), |group| write!(f, " (group {group})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_names_place_group_and_both_symbols() {
        let typo = TokenError::Typo {
            position: 7,
            group: Some(2),
            read: Some('8'),
            probably: 'B',
        };
        assert_eq!(
            typo.to_string(),
            "typing mistake at character 7 (group 2): read 8, probably B"
        );
    }

    #[test]
    fn a_swap_names_both_places() {
        let swap = TokenError::Swapped {
            position: 41,
            group: None,
        };
        assert_eq!(
            swap.to_string(),
            "characters 41 and 42 seem to have changed places"
        );
    }
}
