//! The first message each side sends: program, protocol versions, role and limits.
//!
//! Both sides send it as soon as the channel opens, so each can judge the other without a question.
//! The keys `t`, `knothole` and `proto` keep their meaning in every future version; the rest is only
//! looked at once a common version is known.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::proto::link::repair::CAPABILITY;

use super::message::{Fault, MAX_CONTROL, MAX_DATA, cut, is_false};

/// The protocol versions this program speaks.
pub const VERSIONS: VersionRange = VersionRange { min: 1, max: 1 };

/// The longest program version in a hello, in bytes.
pub const MAX_VERSION_TEXT: usize = 64;

/// The smallest `max_control` a peer may announce, in bytes.
///
/// One manifest entry is the largest thing that cannot be split: 1024 bytes of name, six characters
/// each when all are escaped. This leaves room for that and the frame around it.
pub const MIN_MAX_CONTROL: usize = 8192;

/// The smallest `max_data` a peer may announce, in bytes; below it the framing costs more than the data.
pub const MIN_MAX_DATA: usize = 1024;

/// The most capabilities a hello may name.
pub const MAX_CAPS: usize = 64;

/// The longest name of a capability, in bytes.
pub const MAX_CAP_TEXT: usize = 64;

/// The longest that each direction of a bench may last.
pub const MAX_BENCH: Duration = Duration::from_hours(1);

/// What this side says about itself.
#[derive(Debug, Clone, Copy)]
pub struct Local<'a> {
    /// The version of this program, such as `0.1.0`; cut at 64 bytes.
    pub version: &'a str,
    /// Whether the person wants the words of both screens compared before anything is sent.
    pub verify: bool,
}

/// What one side wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Offers files.
    Send,
    /// Takes files.
    Receive,
    /// Joins its standard input and output to the other side's.
    Pipe,
    /// Measures how fast the link is.
    Bench,
}

/// The one direction that a side wants that could have both: of a pipe, of a bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    /// It sends, and takes nothing.
    Send,
    /// It takes, and sends nothing.
    Receive,
}

impl Only {
    /// What `--send-only` and `--recv-only` come to.
    #[must_use]
    pub fn asked(send_only: bool, recv_only: bool) -> Option<Self> {
        match (send_only, recv_only) {
            (true, _) => Some(Self::Send),
            (_, true) => Some(Self::Receive),
            _ => None,
        }
    }

    /// Whether this side sends, and whether it takes, by what both sides want.
    #[must_use]
    pub fn ways(ours: Option<Self>, theirs: Option<Self>) -> (bool, bool) {
        let sends = ours != Some(Self::Receive) && theirs != Some(Self::Send);
        let takes = ours != Some(Self::Send) && theirs != Some(Self::Receive);
        (sends, takes)
    }

    /// Returns the word used on the wire.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.role().word()
    }

    /// The role that this comes down to.
    pub(super) fn role(self) -> Role {
        match self {
            Self::Send => Role::Send,
            Self::Receive => Role::Receive,
        }
    }
}

impl Role {
    /// Returns the word used on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Pipe => "pipe",
            Self::Bench => "bench",
        }
    }

    /// The role that goes with this one.
    fn counterpart(self) -> Self {
        match self {
            Self::Send => Self::Receive,
            Self::Receive => Self::Send,
            Self::Pipe => Self::Pipe,
            Self::Bench => Self::Bench,
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        let all = [Self::Send, Self::Receive, Self::Pipe, Self::Bench];
        all.into_iter().find(|role| role.word() == word)
    }
}

/// An inclusive range of protocol versions; on the wire `[min, max]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, u32)", into = "(u32, u32)")]
pub struct VersionRange {
    /// The oldest version spoken.
    pub min: u32,
    /// The newest version spoken.
    pub max: u32,
}

impl VersionRange {
    /// Chooses the newest version both ranges hold.
    pub fn common(self, other: Self) -> Option<u32> {
        let newest = self.max.min(other.max);
        (newest >= self.min && newest >= other.min).then_some(newest)
    }
}

impl From<(u32, u32)> for VersionRange {
    fn from((min, max): (u32, u32)) -> Self {
        Self { min, max }
    }
}

impl From<VersionRange> for (u32, u32) {
    fn from(range: VersionRange) -> Self {
        (range.min, range.max)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "version {}", self.min)
        } else {
            write!(f, "versions {} to {}", self.min, self.max)
        }
    }
}

/// The `hello` message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The version of the program, at most 64 bytes.
    pub knothole: String,
    /// The protocol versions spoken.
    pub proto: VersionRange,
    /// `send`, `receive`, `pipe` or `bench`; a plain string so that a hello of a newer version can still be read.
    #[serde(default)]
    pub role: String,
    /// The longest control message this side takes, in bytes.
    #[serde(default = "default_max_control")]
    pub max_control: u64,
    /// The longest data message this side takes, in bytes.
    #[serde(default = "default_max_data")]
    pub max_data: u64,
    /// Optional features; names not known are ignored.
    #[serde(default)]
    pub caps: Vec<String>,
    /// Whether this side's person wants the words compared.
    #[serde(default, skip_serializing_if = "is_false")]
    pub verify: bool,
    /// `send` or `receive` when a side that pipes or measures wants one direction only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<String>,
    /// How long a side that measures wants each direction to last, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
}

fn default_max_control() -> u64 {
    MAX_CONTROL as u64
}

fn default_max_data() -> u64 {
    MAX_DATA as u64
}

impl Hello {
    /// Builds the hello of this side.
    pub fn new(local: Local<'_>, role: Role) -> Self {
        Self {
            knothole: cut(local.version, MAX_VERSION_TEXT).to_owned(),
            proto: VERSIONS,
            role: role.word().to_owned(),
            max_control: default_max_control(),
            max_data: default_max_data(),
            caps: vec![CAPABILITY.to_owned()],
            verify: local.verify,
            only: None,
            ms: None,
        }
    }

    /// Judges the peer's hello from the side that plays `role`.
    ///
    /// # Errors
    ///
    /// A [`Refusal`]: no common version, the same role, or a field outside its limits.
    pub fn judge(self, role: Role) -> Result<Peer, Refusal> {
        let bad = |what: &str| Refusal::Fault(Fault::malformed(format!("hello: {what}")));
        if self.knothole.is_empty() || self.knothole.len() > MAX_VERSION_TEXT {
            return Err(bad("\"knothole\" must be 1 to 64 bytes"));
        }
        if self.proto.min == 0 || self.proto.min > self.proto.max {
            return Err(bad("\"proto\" must be [min, max] with 1 <= min <= max"));
        }
        let Some(proto) = VERSIONS.common(self.proto) else {
            return Err(Refusal::Mismatch(Mismatch::Versions {
                program: self.knothole,
                theirs: self.proto,
                ours: VERSIONS,
            }));
        };
        let Some(theirs) = Role::from_word(&self.role) else {
            return Err(bad(
                "\"role\" must be \"send\", \"receive\", \"pipe\" or \"bench\"",
            ));
        };
        if theirs != role.counterpart() {
            return Err(Refusal::Mismatch(Mismatch::Roles { ours: role, theirs }));
        }
        let limit = |value: u64, least: usize, ours: usize| {
            let value = usize::try_from(value).unwrap_or(usize::MAX);
            (value >= least).then(|| value.min(ours))
        };
        let max_control = limit(self.max_control, MIN_MAX_CONTROL, MAX_CONTROL)
            .ok_or_else(|| bad("\"max_control\" must be at least 8192"))?;
        let max_data = limit(self.max_data, MIN_MAX_DATA, MAX_DATA)
            .ok_or_else(|| bad("\"max_data\" must be at least 1024"))?;
        if self.caps.len() > MAX_CAPS || self.caps.iter().any(|cap| cap.len() > MAX_CAP_TEXT) {
            return Err(bad("\"caps\" may hold 64 names of at most 64 bytes"));
        }
        let both_ways = matches!(role, Role::Pipe | Role::Bench);
        let only = match self.only.as_deref().filter(|_| both_ways) {
            None => None,
            Some("send") => Some(Only::Send),
            Some("receive") => Some(Only::Receive),
            Some(_) => return Err(bad("\"only\" must be \"send\" or \"receive\"")),
        };
        let time = Duration::from_millis(self.ms.unwrap_or(0));
        if role == Role::Bench && (time.is_zero() || time > MAX_BENCH) {
            return Err(bad("\"ms\" must be 1 to 3600000"));
        }
        Ok(Peer {
            version: self.knothole,
            proto,
            max_control,
            max_data,
            caps: self.caps,
            verify: self.verify,
            only,
            time,
        })
    }
}

/// What the hellos settled about the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The version of its program; hostile text, at most 64 bytes.
    pub version: String,
    /// The protocol version both speak from here on.
    pub proto: u32,
    /// The longest control message to send it, in bytes; never above our own limit.
    pub max_control: usize,
    /// The longest data message to send it, in bytes; never above our own limit.
    pub max_data: usize,
    /// Its optional features; hostile text.
    pub caps: Vec<String>,
    /// Whether its person wants the words compared.
    pub verify: bool,
    /// The one direction it wants, if it pipes or measures and does not want both.
    pub only: Option<Only>,
    /// How long each direction is to last there, if it measures: then 1 ms to [`MAX_BENCH`].
    pub time: Duration,
}

impl Peer {
    /// Whether it understands the frames of the repair layer.
    #[must_use]
    pub fn repairs(&self) -> bool {
        self.caps.iter().any(|cap| cap == CAPABILITY)
    }
}

/// Why a hello leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Both sides are sound and do not fit each other.
    Mismatch(Mismatch),
    /// The hello breaks the protocol.
    Fault(Fault),
}

/// How two sound sides fail to fit each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// No protocol version is spoken by both.
    Versions {
        /// The version of the peer's program; hostile text, at most 64 bytes.
        program: String,
        /// What the peer speaks.
        theirs: VersionRange,
        /// What this side speaks.
        ours: VersionRange,
    },
    /// What the two sides want does not go together.
    Roles {
        /// What this side wants.
        ours: Role,
        /// What the peer wants.
        theirs: Role,
    },
}

impl Mismatch {
    /// Whether the program to update is the one on this side (`false`: the other one).
    ///
    /// `None` when an update would not help.
    pub fn update_here(&self) -> Option<bool> {
        match self {
            Self::Versions { theirs, ours, .. } => Some(theirs.min > ours.max),
            Self::Roles { .. } => None,
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Versions {
                program,
                theirs,
                ours,
            } => {
                let whose = if theirs.min > ours.max {
                    "this"
                } else {
                    "the other"
                };
                write!(
                    f,
                    "the other side (knothole {program}) speaks protocol {theirs}, this one {ours}: \
                     update {whose} side"
                )
            }
            Self::Roles { ours, theirs } if ours == theirs => {
                write!(f, "both sides want to {}", ours.word())
            }
            Self::Roles { ours, theirs } => write!(
                f,
                "this side wants to {}, the other to {}",
                ours.word(),
                theirs.word()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(role: Role) -> Hello {
        let local = Local {
            version: "0.1.0",
            verify: false,
        };
        Hello::new(local, role)
    }

    fn range(min: u32, max: u32) -> VersionRange {
        VersionRange { min, max }
    }

    #[test]
    fn the_newest_common_version_is_chosen() {
        assert_eq!(range(1, 3).common(range(2, 5)), Some(3));
        assert_eq!(range(1, 1).common(range(1, 9)), Some(1));
        assert_eq!(range(1, 1).common(range(2, 3)), None);
        assert_eq!(range(4, 5).common(range(1, 3)), None);
    }

    #[test]
    fn opposite_roles_agree() {
        let peer = hello(Role::Send).judge(Role::Receive).unwrap();
        assert_eq!(
            (peer.proto, peer.max_data, peer.version.as_str()),
            (1, MAX_DATA, "0.1.0")
        );
    }

    #[test]
    fn a_newer_peer_is_told_apart_from_an_older_one() {
        let mut newer = hello(Role::Send);
        newer.proto = range(2, 3);
        newer.role = "duplex".into();
        newer.knothole = "7.0.0".into();
        let Err(Refusal::Mismatch(mismatch)) = newer.judge(Role::Receive) else {
            panic!()
        };
        assert_eq!(
            mismatch.to_string(),
            "the other side (knothole 7.0.0) speaks protocol versions 2 to 3, this one version 1: \
             update this side"
        );
        assert_eq!(mismatch.update_here(), Some(true));
        let older = Mismatch::Versions {
            program: "0".into(),
            theirs: range(1, 1),
            ours: range(2, 2),
        };
        assert!(older.to_string().ends_with("update the other side"));
        assert_eq!(older.update_here(), Some(false));
    }

    #[test]
    fn the_same_role_is_a_mismatch_in_words() {
        let Err(Refusal::Mismatch(mismatch)) = hello(Role::Send).judge(Role::Send) else {
            panic!()
        };
        assert_eq!(mismatch.to_string(), "both sides want to send");
    }

    #[test]
    fn a_pipe_goes_with_a_pipe_only() {
        assert!(hello(Role::Pipe).judge(Role::Pipe).is_ok());
        let Err(Refusal::Mismatch(mismatch)) = hello(Role::Pipe).judge(Role::Receive) else {
            panic!()
        };
        assert_eq!(
            mismatch.to_string(),
            "this side wants to receive, the other to pipe"
        );
    }

    #[test]
    fn a_bench_goes_with_a_bench_and_says_how_long() {
        let judged = |ms| {
            let mut hello = hello(Role::Bench);
            hello.ms = ms;
            hello.judge(Role::Bench)
        };
        assert_eq!(judged(Some(1)).unwrap().time, Duration::from_millis(1));
        assert_eq!(judged(Some(3_600_000)).unwrap().time, MAX_BENCH);
        for ms in [None, Some(0), Some(3_600_001), Some(u64::MAX)] {
            assert!(matches!(judged(ms), Err(Refusal::Fault(_))), "{ms:?}");
        }
        let Err(Refusal::Mismatch(mismatch)) = hello(Role::Send).judge(Role::Bench) else {
            panic!()
        };
        assert_eq!(
            mismatch.to_string(),
            "this side wants to bench, the other to send"
        );
    }

    #[test]
    fn limits_of_the_peer_are_capped_by_ours_and_may_not_be_absurd() {
        let mut big = hello(Role::Send);
        big.max_data = u64::MAX;
        big.max_control = u64::MAX;
        let peer = big.judge(Role::Receive).unwrap();
        assert_eq!((peer.max_control, peer.max_data), (MAX_CONTROL, MAX_DATA));
        for spoil in [
            |h: &mut Hello| h.max_data = 1023,
            |h: &mut Hello| h.max_control = 8191,
            |h: &mut Hello| h.proto = range(0, 1),
            |h: &mut Hello| h.proto = range(2, 1),
            |h: &mut Hello| h.role = String::new(),
            |h: &mut Hello| h.knothole = "v".repeat(65),
            |h: &mut Hello| h.knothole = String::new(),
            |h: &mut Hello| h.caps = vec![String::new(); 65],
            |h: &mut Hello| h.caps = vec!["c".repeat(65)],
        ] {
            let mut bad = hello(Role::Send);
            spoil(&mut bad);
            assert!(matches!(bad.judge(Role::Receive), Err(Refusal::Fault(_))));
        }
    }
}
