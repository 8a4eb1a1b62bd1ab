//! The control messages, their limits, and how they are read and written.
//!
//! A control message is a text message holding one JSON object with the key `t`. Reading is strict
//! about what is known and patient about what is not: unknown keys are ignored, unknown types are
//! ignored only when they carry `"opt":true`. What a message means at a given moment is judged by
//! the machines in [`transfer`](super::transfer) and [`pipe`](super::pipe).

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::hello::Hello;

mod fuzz;
#[doc(hidden)]
pub use fuzz::fuzz;

/// The longest control message, in bytes; below the 64 KiB every WebRTC stack can take (RFC 8831).
pub const MAX_CONTROL: usize = 65_536;

/// The longest data message, in bytes; the same bound, for the same reason.
pub const MAX_DATA: usize = 65_536;

/// The most files in one transfer; with [`MAX_NAME`] it bounds a manifest to 10 MB of memory.
pub const MAX_FILES: usize = 10_000;

/// The longest file name, in bytes; file systems stop at 255, this leaves room for any of them.
pub const MAX_NAME: usize = 1024;

/// The longest explanation in `decline` and `cancel`, in bytes; longer ones are cut.
pub const MAX_TEXT: usize = 500;

/// The longest text that is shown rather than stored, in bytes: more than a person reads at once,
/// and little enough to be held in memory until it is verified.
pub const MAX_SHOWN: u64 = 65_536;

/// The largest file and the largest sum of files, in bytes: what a JavaScript number holds exactly.
pub const MAX_TOTAL: u64 = (1 << 53) - 1;

/// The most files that are sent and not yet acknowledged.
pub const MAX_UNACKED: usize = 64;

/// The longest piece of a peer's message quoted in a [`Fault`], in bytes.
const MAX_QUOTE: usize = 160;

/// A control message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "t", rename_all = "lowercase")]
pub enum Message {
    /// Opens the talk, both ways.
    Hello(Hello),
    /// Says that the words agree, both ways.
    Agree,
    /// Offers files; sender to receiver.
    Manifest(Manifest),
    /// Takes the offer; receiver to sender.
    Accept,
    /// Refuses the offer; receiver to sender.
    Decline(Decline),
    /// Starts a file; sender to receiver.
    File(FileStart),
    /// Ends a file; sender to receiver.
    End(FileEnd),
    /// Tells that a file is verified and in its place; receiver to sender.
    Ack(Ack),
    /// Allows more data of a pipe; against the direction of the data.
    Grant(Grant),
    /// Tells that nobody reads a pipe any more; against the direction of the data.
    Stop(Stop),
    /// Asks for an echo; both ways between benches.
    Ping(Echo),
    /// The echo; both ways between benches.
    Pong(Echo),
    /// Starts a direction of a bench, with its data.
    Begin,
    /// Ends the data of a direction of a bench, with them.
    Over(Over),
    /// Tells what came; against the direction of the data.
    Counted(Counted),
    /// Tells what was done for it below, and ends a direction of a bench; with its data.
    Layer(Layer),
    /// Ends the talk in success; sender to receiver, both ways between pipes, and between benches from
    /// who counted last.
    Bye,
    /// Ends the talk without success; either way.
    Cancel(Cancel),
}

impl Message {
    /// Reads a control message; `None` is one that may be ignored.
    ///
    /// # Errors
    ///
    /// A [`Fault`] when it is too long, not JSON, of an unknown type, or outside a limit.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, Fault> {
        if bytes.len() > MAX_CONTROL {
            return Err(Fault::ControlTooLong { len: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Fault::malformed("not UTF-8"))?;
        let Envelope { t, opt } = read(text)?;
        let message = match t.as_ref() {
            "hello" => Self::Hello(read(text)?),
            "agree" => Self::Agree,
            "manifest" => Self::Manifest(read::<Manifest>(text)?.checked()?),
            "accept" => Self::Accept,
            "decline" => Self::Decline(read(text)?),
            "file" => Self::File(read(text)?),
            "end" => Self::End(read(text)?),
            "ack" => Self::Ack(read(text)?),
            "grant" => Self::Grant(read(text)?),
            "stop" => Self::Stop(read(text)?),
            "ping" => Self::Ping(read(text)?),
            "pong" => Self::Pong(read(text)?),
            "begin" => Self::Begin,
            "over" => Self::Over(read(text)?),
            "counted" => Self::Counted(read::<Counted>(text)?.checked()?),
            "layer" => Self::Layer(read::<Layer>(text)?.checked()?),
            "bye" => Self::Bye,
            "cancel" => Self::Cancel(read(text)?),
            _ if opt => return Ok(None),
            _ => {
                return Err(Fault::UnknownType {
                    t: cut(&t, MAX_QUOTE).to_owned(),
                });
            }
        };
        Ok(Some(message))
    }

    /// Writes the message as JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("messages hold only strings, numbers and lists")
    }

    /// Returns the value of `t`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Agree => "agree",
            Self::Manifest(_) => "manifest",
            Self::Accept => "accept",
            Self::Decline(_) => "decline",
            Self::File(_) => "file",
            Self::End(_) => "end",
            Self::Ack(_) => "ack",
            Self::Grant(_) => "grant",
            Self::Stop(_) => "stop",
            Self::Ping(_) => "ping",
            Self::Pong(_) => "pong",
            Self::Begin => "begin",
            Self::Over(_) => "over",
            Self::Counted(_) => "counted",
            Self::Layer(_) => "layer",
            Self::Bye => "bye",
            Self::Cancel(_) => "cancel",
        }
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    t: Cow<'a, str>,
    #[serde(default)]
    opt: bool,
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Fault> {
    // A struct can also be read from a JSON list; the protocol knows objects only.
    if !text.trim_start().starts_with('{') {
        return Err(Fault::malformed("not a JSON object"));
    }
    serde_json::from_str(text).map_err(|error| Fault::malformed(error.to_string()))
}

/// One file of an offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// One path component, 1 to 1024 bytes. From a peer it is hostile: it is bounded, not judged.
    pub name: String,
    /// The size in bytes; `None` for a stream of unknown length.
    pub size: Option<u64>,
    /// What the person who gets it does with it.
    #[serde(default, skip_serializing_if = "OfferKind::is_file")]
    pub kind: OfferKind,
}

impl Offer {
    /// Offers a file or a stream.
    #[must_use]
    pub fn file(name: impl Into<String>, size: Option<u64>) -> Self {
        Self {
            name: name.into(),
            size,
            kind: OfferKind::File,
        }
    }

    /// Offers a text; the name is for receivers that store it.
    #[must_use]
    pub fn text(name: impl Into<String>, size: u64) -> Self {
        Self {
            name: name.into(),
            size: Some(size),
            kind: OfferKind::Text,
        }
    }

    /// Whether it is a text and may be one.
    pub(super) fn is_sound(&self) -> bool {
        self.kind != OfferKind::Text || self.size.is_some_and(|size| size <= MAX_SHOWN)
    }
}

/// A part of the list of files; the last part has no `more`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// At least one file.
    pub files: Vec<Offer>,
    /// The sum of all sizes of all parts, `None` when one is unknown; read from the last part only.
    #[serde(default)]
    pub total: Option<u64>,
    /// Whether another part follows.
    #[serde(default, skip_serializing_if = "is_false")]
    pub more: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde calls"
)]
pub(super) fn is_false(value: &bool) -> bool {
    !value
}

impl Manifest {
    /// Splits a list of files into parts that each fit `max_control` bytes.
    pub(super) fn split(files: &[Offer], total: Option<u64>, max_control: usize) -> Vec<Self> {
        /// `{"t":"manifest","files":[],"total":9007199254740991,"more":true}`, rounded up.
        const FRAME: usize = 96;
        let mut parts = vec![Self {
            files: Vec::new(),
            total,
            more: false,
        }];
        let mut room = max_control - FRAME;
        for file in files {
            let json = serde_json::to_string(file).expect("an offer is a string and a number");
            let need = json.len() + 1;
            let last = parts.last_mut().expect("starts with one");
            if need > room && !last.files.is_empty() {
                last.more = true;
                last.total = None;
                room = max_control - FRAME;
                parts.push(Self {
                    files: vec![file.clone()],
                    total,
                    more: false,
                });
            } else {
                last.files.push(file.clone());
            }
            room = room.saturating_sub(need);
        }
        parts
    }

    fn checked(self) -> Result<Self, Fault> {
        if self.files.is_empty() {
            return Err(Fault::malformed("manifest: no files"));
        }
        for file in &self.files {
            if file.name.is_empty() || file.name.len() > MAX_NAME {
                return Err(Fault::malformed("manifest: a name must be 1 to 1024 bytes"));
            }
            if !file.is_sound() {
                return Err(Fault::malformed(
                    "manifest: a text must have a size, 65536 bytes at most",
                ));
            }
        }
        Ok(self)
    }
}

/// Whether these offers go together: a text goes alone.
pub(super) fn go_together(files: &[Offer]) -> bool {
    files.len() == 1 || files.iter().all(|file| file.kind == OfferKind::File)
}

/// Adds up the sizes; `Ok(None)` when one is unknown.
pub(super) fn total(files: &[Offer]) -> Result<Option<u64>, Fault> {
    let mut known = 0_u64;
    for file in files {
        known = known
            .checked_add(file.size.unwrap_or(0))
            .filter(|sum| *sum <= MAX_TOTAL)
            .ok_or(Fault::TotalTooLarge)?;
    }
    Ok(files
        .iter()
        .all(|file| file.size.is_some())
        .then_some(known))
}

/// The `decline` message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decline {
    /// The class of the reason.
    pub reason: DeclineReason,
    /// An explanation for a person, at most 500 bytes.
    #[serde(default, deserialize_with = "short_text")]
    pub text: String,
}

/// The `file` message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStart {
    /// The place of the file in the manifest, from 0.
    pub i: u64,
}

/// The `end` message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEnd {
    /// The place of the file in the manifest, from 0.
    pub i: u64,
    /// The number of bytes sent for it.
    pub size: u64,
    /// The hash of those bytes.
    pub blake3: Digest,
}

/// The `ack` message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The place of the file in the manifest, from 0.
    pub i: u64,
    /// The hash the receiver computed.
    pub blake3: Digest,
}

/// The `grant` message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What all data messages from the first on may count for together.
    pub to: u64,
}

/// The `stop` message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The number of bytes that the reader took.
    pub size: u64,
    /// The hash of those bytes.
    pub blake3: Digest,
}

/// The `ping` and `pong` messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// Its number, from 0.
    pub n: u64,
}

/// The `over` message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Over {
    /// The number of bytes that were sent.
    pub bytes: u64,
}

/// The `counted` message: what came in one direction of a bench, by its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The bytes that came in the time.
    pub bytes: u64,
    /// The time, from `begin` on, in microseconds; not 0.
    pub us: u64,
    /// The bytes of the slowest whole second, and of the fastest; both or neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowest: Option<u64>,
    /// See `slowest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fastest: Option<u64>,
    /// Holes in what came that the receiver's repair layer left to SCTP.
    #[serde(default)]
    pub given_up: u64,
}

impl Counted {
    /// Bytes a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.bytes as f64 * 1e6 / self.us.max(1) as f64
    }

    fn checked(self) -> Result<Self, Fault> {
        let seconds = match (self.slowest, self.fastest) {
            (None, None) => true,
            (Some(slowest), Some(fastest)) => slowest <= fastest && fastest <= self.bytes,
            _ => false,
        };
        let small = self.us.max(self.given_up).max(self.bytes) <= MAX_TOTAL;
        if seconds && small && self.us > 0 {
            Ok(self)
        } else {
            Err(Fault::malformed(
                "counted: numbers that contradict one another",
            ))
        }
    }
}

/// The `layer` message: what the repair layer did for one direction of a bench, by its sender.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Whether it carried what was sent, at the end of the time.
    pub on: bool,
    /// Frames that were sent, and how many of them counted as lost.
    #[serde(default)]
    pub frames: u64,
    /// See `frames`.
    #[serde(default)]
    pub lost: u64,
    /// Frames that repaired a loss, and those of them that were not needed.
    #[serde(default)]
    pub repairs: u64,
    /// See `repairs`: what had counted as lost was late.
    #[serde(default)]
    pub late: u64,
    /// Bytes a second that the path was found to take, at the end of the time; while it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// The usual round trip and the shortest, in microseconds, then; while it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip: Option<u64>,
    /// See `round_trip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least: Option<u64>,
}

impl Layer {
    /// The share of frames that were really lost, from 0 to 1: late ones are not. Unknown where the
    /// layer was not on to the end, since nobody counts what travels without it.
    #[must_use]
    pub fn loss(&self) -> Option<f64> {
        let lost = self.lost.saturating_sub(self.late).min(self.frames);
        (self.on && self.frames > 0).then(|| lost as f64 / self.frames as f64)
    }

    fn checked(self) -> Result<Self, Fault> {
        let counts = [self.frames, self.lost, self.repairs, self.late];
        let found = [self.rate, self.round_trip, self.least];
        let mut all = counts.into_iter().chain(found.into_iter().flatten());
        if all.all(|number| number <= MAX_TOTAL) {
            Ok(self)
        } else {
            Err(Fault::malformed("layer: a number above 2^53 - 1"))
        }
    }
}

/// The `cancel` message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// The class of the reason.
    pub reason: CancelReason,
    /// The file it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub i: Option<u64>,
    /// An explanation for a person, at most 500 bytes.
    #[serde(default, deserialize_with = "short_text")]
    pub text: String,
}

macro_rules! words {
    ($(#[$meta:meta])* $name:ident, otherwise $other:ident {
        $($(#[$doc:meta])* $variant:ident = $word:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the word used on the wire.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            fn from_word(word: &str) -> Self {
                match word { $($word => Self::$variant,)* _ => Self::$other }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Self::from_word(&Cow::<str>::deserialize(deserializer)?))
            }
        }
    };
}

words! {
    /// What an offer is to the person who gets it; words not known are read as `file`.
    #[derive(Default)]
    OfferKind, otherwise File {
        /// Something to be stored.
        #[default]
        File = "file",
        /// UTF-8 to be read; alone in its manifest.
        Text = "text",
    }
}

impl OfferKind {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature serde calls"
    )]
    fn is_file(&self) -> bool {
        *self == Self::File
    }
}

words! {
    /// Why the receiver does not take the offer; words not known are read as `other`.
    DeclineReason, otherwise Other {
        /// Nobody could be asked.
        NoTerminal = "no-terminal",
        /// A person said no.
        User = "user",
        /// A file of that name is there already.
        Exists = "exists",
        /// A name cannot be used on the receiver's machine.
        Name = "name",
        /// There is not enough room.
        Space = "space",
        /// Something else; see the text.
        Other = "other",
    }
}

words! {
    /// Why a transfer is broken off; words not known are read as `error`.
    CancelReason, otherwise Error {
        /// A person stopped it.
        User = "user",
        /// A file's bytes are not what the sender says they are.
        Verify = "verify",
        /// The receiver could not write.
        Disk = "disk",
        /// The sender could not read.
        Read = "read",
        /// A file changed while it was being sent.
        Changed = "changed",
        /// No common protocol version.
        Version = "version",
        /// What the two sides want does not go together.
        Role = "role",
        /// A person says that the words on the two screens differ.
        Words = "words",
        /// The words are to be compared, and there is no person to do it.
        NoTerminal = "no-terminal",
        /// The other side broke the protocol.
        Protocol = "protocol",
        /// Something else; see the text.
        Error = "error",
    }
}

fn short_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    Ok(cut(&text, MAX_TEXT).to_owned())
}

/// Shortens a text to at most `max` bytes, at the border of a character.
pub(super) fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// A BLAKE3 hash; on the wire 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() == bytes.len() && rest.is_empty() {
            let decoded = bytes
                .iter_mut()
                .zip(pairs)
                .try_for_each(|(byte, [high, low])| {
                    *byte = nibble(*high)? << 4 | nibble(*low)?;
                    Some(())
                });
            if decoded.is_some() {
                return Ok(Self(bytes));
            }
        }
        Err(de::Error::custom(
            "a hash must be 64 lower-case hexadecimal digits",
        ))
    }
}

/// How a peer broke the protocol.
///
/// Strings quoted from the peer are bounded to 160 bytes and otherwise hostile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A control message over 64 KiB.
    ControlTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A control message that cannot be read.
    Malformed {
        /// What is wrong with it.
        what: String,
    },
    /// A control message of a type this side does not know and may not ignore.
    UnknownType {
        /// The type.
        t: String,
    },
    /// A known control message at the wrong moment.
    Unexpected {
        /// Its type.
        t: &'static str,
        /// The moment.
        when: &'static str,
    },
    /// File bytes at the wrong moment.
    UnexpectedData {
        /// The moment.
        when: &'static str,
    },
    /// A data message of no bytes, or of more than 64 KiB.
    DataLength {
        /// Its length in bytes.
        len: usize,
    },
    /// More than 10,000 files.
    TooManyFiles,
    /// Sizes that add up to more than 2^53 - 1.
    TotalTooLarge,
    /// A total that is not the sum of the sizes.
    WrongTotal,
    /// A message about another file than the one whose turn it is.
    WrongFile {
        /// The type of the message.
        t: &'static str,
        /// The file whose turn it is; `None` when no file is due.
        due: Option<usize>,
        /// The file it names.
        got: u64,
    },
    /// More bytes of a file than its size.
    TooMuchData {
        /// The file.
        file: usize,
        /// The size in the manifest, in bytes.
        size: u64,
    },
    /// A file that ends at another size than the manifest's.
    WrongSize {
        /// The file.
        file: usize,
        /// The size in the manifest, in bytes.
        size: u64,
        /// The size at its end, in bytes.
        end: u64,
    },
    /// A text whose bytes are no text.
    NotText,
    /// A 65th file before the first of 64 is acknowledged.
    TooManyUnacked,
    /// More data of a pipe than was granted.
    BeyondGrant {
        /// What was granted.
        to: u64,
    },
    /// A grant that is not more than the last one, or too far ahead of what was sent.
    WrongGrant {
        /// The grant.
        to: u64,
        /// The last one.
        before: u64,
        /// What was used of that.
        used: u64,
    },
}

impl Fault {
    pub(super) fn malformed(what: impl AsRef<str>) -> Self {
        Self::Malformed {
            what: cut(what.as_ref(), MAX_QUOTE).to_owned(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControlTooLong { len } => {
                write!(
                    f,
                    "a control message of {len} bytes; {MAX_CONTROL} is the limit"
                )
            }
            Self::Malformed { what } => write!(f, "a control message that cannot be read: {what}"),
            Self::UnknownType { t } => write!(f, "a control message of unknown type {t:?}"),
            Self::Unexpected { t, when } => write!(f, "\"{t}\" {when}"),
            Self::UnexpectedData { when } => write!(f, "file data {when}"),
            Self::DataLength { len } => {
                write!(
                    f,
                    "a data message of {len} bytes; 1 to {MAX_DATA} is allowed"
                )
            }
            Self::TooManyFiles => write!(f, "more than {MAX_FILES} files"),
            Self::TotalTooLarge => write!(f, "sizes that add up to more than {MAX_TOTAL} bytes"),
            Self::WrongTotal => write!(f, "a total that is not the sum of the sizes"),
            Self::WrongFile {
                t,
                due: Some(due),
                got,
            } => {
                write!(
                    f,
                    "\"{t}\" for file {got} when it is the turn of file {due}"
                )
            }
            Self::WrongFile { t, due: None, got } => {
                write!(f, "\"{t}\" for file {got} when no file is due")
            }
            Self::TooMuchData { file, size } => {
                write!(f, "more data for file {file} than its size of {size} bytes")
            }
            Self::WrongSize { file, size, end } => {
                write!(
                    f,
                    "file {file} ends at {end} bytes; its size was given as {size}"
                )
            }
            Self::NotText => f.write_str("a text that is not UTF-8"),
            Self::BeyondGrant { to } => write!(f, "more data than was granted, which is {to}"),
            Self::WrongGrant { to, before, used } => {
                write!(
                    f,
                    "a grant of {to} after one of {before}, of which {used} is used"
                )
            }
            Self::TooManyUnacked => {
                write!(
                    f,
                    "more than {MAX_UNACKED} files ahead of their acknowledgements"
                )
            }
        }
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::super::hello::{Local, MIN_MAX_CONTROL, Role};
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Option<Message>, Fault> {
        Message::parse(text.as_bytes())
    }

    #[test]
    fn messages_look_as_documented() {
        let digest = Digest([0xab; 32]);
        let hex = "ab".repeat(32);
        let hello = Message::Hello(Hello::new(
            Local {
                version: "0.1.0",
                verify: false,
            },
            Role::Send,
        ));
        for (message, json) in [
            (
                hello,
                r#"{"t":"hello","knothole":"0.1.0","proto":[1,1],"role":"send","max_control":65536,"max_data":65536,"caps":["repair1"]}"#.to_owned(),
            ),
            (
                Message::Manifest(Manifest {
                    files: vec![
                        Offer::file("a.txt", Some(123)),
                        Offer::file("-", None),
                    ],
                    total: None,
                    more: false,
                }),
                r#"{"t":"manifest","files":[{"name":"a.txt","size":123},{"name":"-","size":null}],"total":null}"#.to_owned(),
            ),
            (
                Message::Manifest(Manifest {
                    files: vec![Offer::text("text.txt", 12)],
                    total: Some(12),
                    more: false,
                }),
                r#"{"t":"manifest","files":[{"name":"text.txt","size":12,"kind":"text"}],"total":12}"#.to_owned(),
            ),
            (Message::Accept, r#"{"t":"accept"}"#.to_owned()),
            (
                Message::Decline(Decline { reason: DeclineReason::NoTerminal, text: "x".into() }),
                r#"{"t":"decline","reason":"no-terminal","text":"x"}"#.to_owned(),
            ),
            (Message::File(FileStart { i: 0 }), r#"{"t":"file","i":0}"#.to_owned()),
            (
                Message::End(FileEnd { i: 0, size: 5, blake3: digest }),
                format!(r#"{{"t":"end","i":0,"size":5,"blake3":"{hex}"}}"#),
            ),
            (
                Message::Ack(Ack { i: 0, blake3: digest }),
                format!(r#"{{"t":"ack","i":0,"blake3":"{hex}"}}"#),
            ),
            (Message::Ping(Echo { n: 3 }), r#"{"t":"ping","n":3}"#.to_owned()),
            (Message::Pong(Echo { n: 3 }), r#"{"t":"pong","n":3}"#.to_owned()),
            (Message::Begin, r#"{"t":"begin"}"#.to_owned()),
            (Message::Over(Over { bytes: 5 }), r#"{"t":"over","bytes":5}"#.to_owned()),
            (
                Message::Counted(Counted {
                    bytes: 9,
                    us: 2_000_000,
                    slowest: Some(4),
                    fastest: Some(5),
                    given_up: 0,
                }),
                r#"{"t":"counted","bytes":9,"us":2000000,"slowest":4,"fastest":5,"given_up":0}"#.to_owned(),
            ),
            (
                Message::Layer(Layer { on: false, ..Layer::default() }),
                r#"{"t":"layer","on":false,"frames":0,"lost":0,"repairs":0,"late":0}"#.to_owned(),
            ),
            (Message::Bye, r#"{"t":"bye"}"#.to_owned()),
            (
                Message::Cancel(Cancel { reason: CancelReason::Verify, i: Some(3), text: "y".into() }),
                r#"{"t":"cancel","reason":"verify","i":3,"text":"y"}"#.to_owned(),
            ),
        ] {
            assert_eq!(message.to_json(), json);
            assert_eq!(parse(&json), Ok(Some(message)));
        }
    }

    #[test]
    fn unknown_keys_are_ignored_and_unknown_types_only_when_optional() {
        assert_eq!(
            parse(r#"{"t":"bye","later":{"x":[1]}}"#),
            Ok(Some(Message::Bye))
        );
        assert_eq!(parse(r#"{"t":"shiny","opt":true,"n":1}"#), Ok(None));
        assert!(matches!(
            parse(r#"{"t":"shiny"}"#),
            Err(Fault::UnknownType { .. })
        ));
        assert!(matches!(
            parse(r#"{"t":"shiny","opt":false}"#),
            Err(Fault::UnknownType { .. })
        ));
    }

    #[test]
    fn what_cannot_be_read_is_a_fault() {
        let name = "n".repeat(MAX_NAME + 1);
        for text in [
            "",
            "null",
            "[]",
            r#"["bye",false]"#,
            r#"{"t":1}"#,
            r#"{"t":"bye"} x"#,
            r#"{"t":"bye","t":"bye"}"#,
            r#"{"t":"file"}"#,
            r#"{"t":"file","i":-1}"#,
            r#"{"t":"file","i":1.5}"#,
            r#"{"t":"ack","i":0,"blake3":"ab"}"#,
            &format!(r#"{{"t":"ack","i":0,"blake3":"{}"}}"#, "AB".repeat(32)),
            &format!(r#"{{"t":"ack","i":0,"blake3":"{}"}}"#, "zz".repeat(32)),
            r#"{"t":"manifest","files":[]}"#,
            r#"{"t":"manifest","files":[{"name":""}]}"#,
            &format!(r#"{{"t":"manifest","files":[{{"name":"{name}"}}]}}"#),
            r#"{"t":"hello","knothole":"1","proto":[1]}"#,
            r#"{"t":"counted","bytes":9,"us":0}"#,
            r#"{"t":"counted","bytes":9,"us":1,"slowest":1}"#,
            r#"{"t":"counted","bytes":9,"us":1,"slowest":2,"fastest":1}"#,
            r#"{"t":"counted","bytes":9,"us":1,"slowest":2,"fastest":10}"#,
            r#"{"t":"counted","bytes":9007199254740992,"us":1}"#,
            r#"{"t":"layer","on":true,"frames":9007199254740992}"#,
            r#"{"t":"layer","on":true,"least":9007199254740992}"#,
            &"[".repeat(60_000),
            &format!(r#"{{"t":"x","opt":true,"deep":{}}}"#, "[".repeat(60_000)),
        ] {
            assert!(
                matches!(parse(text), Err(Fault::Malformed { .. })),
                "{text:.80}"
            );
        }
        assert!(matches!(
            Message::parse(b"{\"t\":\"\xff\"}"),
            Err(Fault::Malformed { .. })
        ));
        let long = " ".repeat(MAX_CONTROL + 1);
        assert_eq!(
            parse(&long),
            Err(Fault::ControlTooLong {
                len: MAX_CONTROL + 1
            })
        );
    }

    #[test]
    fn a_text_is_bounded_and_an_unknown_kind_is_a_file() {
        let manifest = |file: &str| parse(&format!(r#"{{"t":"manifest","files":[{file}]}}"#));
        let kind = |file: &str| match manifest(file) {
            Ok(Some(Message::Manifest(manifest))) => manifest.files[0].kind,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            kind(r#"{"name":"a","size":1,"kind":"folder"}"#),
            OfferKind::File
        );
        assert_eq!(
            kind(r#"{"name":"a","size":65536,"kind":"text"}"#),
            OfferKind::Text
        );
        for size in ["65537", "null", "9007199254740991"] {
            let bad = manifest(&format!(r#"{{"name":"a","size":{size},"kind":"text"}}"#));
            assert!(
                matches!(bad, Err(Fault::Malformed { .. })),
                "{size}: {bad:?}"
            );
        }
        for bad in [r#"{"name":"a","kind":"text"}"#, r#"{"name":"a","kind":1}"#] {
            assert!(
                matches!(manifest(bad), Err(Fault::Malformed { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn peer_strings_are_bounded_in_faults_and_texts() {
        let long = "é".repeat(20_000);
        for text in [
            format!(r#"{{"t":"{long}"}}"#),
            format!(r#"{{"t":"file","i":"{long}"}}"#),
        ] {
            assert!(parse(&text).unwrap_err().to_string().len() < 600);
        }
        let Ok(Some(Message::Cancel(cancel))) = parse(&format!(
            r#"{{"t":"cancel","reason":"new-word","text":"{long}"}}"#
        )) else {
            panic!()
        };
        assert_eq!(cancel.reason, CancelReason::Error);
        assert_eq!(cancel.text.len(), MAX_TEXT);
    }

    #[test]
    fn every_reason_survives_the_wire() {
        for reason in CancelReason::ALL {
            assert_eq!(CancelReason::from_word(reason.word()), *reason);
        }
        for reason in DeclineReason::ALL {
            assert_eq!(DeclineReason::from_word(reason.word()), *reason);
        }
    }

    #[test]
    fn totals_are_exact_or_refused() {
        let file = |size| Offer::file("f", size);
        assert_eq!(total(&[file(Some(1)), file(Some(2))]), Ok(Some(3)));
        assert_eq!(total(&[file(Some(1)), file(None)]), Ok(None));
        assert_eq!(total(&[file(Some(MAX_TOTAL))]), Ok(Some(MAX_TOTAL)));
        assert_eq!(
            total(&[file(Some(MAX_TOTAL)), file(Some(1))]),
            Err(Fault::TotalTooLarge)
        );
        assert_eq!(
            total(&[file(Some(u64::MAX)), file(Some(u64::MAX))]),
            Err(Fault::TotalTooLarge)
        );
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Message::parse(&bytes);
        }

        #[test]
        fn digests_survive_the_wire(bytes: [u8; 32]) {
            let message = Message::Ack(Ack { i: 7, blake3: Digest(bytes) });
            prop_assert_eq!(parse(&message.to_json()), Ok(Some(message)));
        }

        #[test]
        fn manifests_split_to_fit_and_join_to_the_same(
            names in prop::collection::vec(("[\\x00-\\x7f]{1,300}", any::<Option<u32>>()), 1..120),
        ) {
            let files: Vec<Offer> = names
                .into_iter()
                .map(|(name, size)| Offer::file(name, size.map(u64::from)))
                .collect();
            let sum = total(&files).unwrap();
            let parts = Manifest::split(&files, sum, MIN_MAX_CONTROL);
            let mut joined = Vec::new();
            for (n, part) in parts.iter().enumerate() {
                prop_assert_eq!(part.more, n + 1 < parts.len());
                let json = Message::Manifest(part.clone()).to_json();
                prop_assert!(json.len() <= MIN_MAX_CONTROL);
                let Ok(Some(Message::Manifest(back))) = parse(&json) else { panic!() };
                joined.extend(back.files);
            }
            prop_assert_eq!(parts.last().unwrap().total, sum);
            prop_assert_eq!(joined, files);
        }
    }

    #[test]
    fn the_worst_single_name_fits_the_smallest_control_message() {
        let files = vec![Offer::text("\u{1}".repeat(MAX_NAME), MAX_TOTAL); 3];
        for part in Manifest::split(&files, None, MIN_MAX_CONTROL) {
            assert!(Message::Manifest(part).to_json().len() <= MIN_MAX_CONTROL);
        }
    }
}
