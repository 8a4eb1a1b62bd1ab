//! The user's files: what is sent, and where what is received goes.
//!
//! - [`name`]: the one choke point for names that a peer chose;
//! - [`Destination`]: `-o`, judged before anything is accepted, and the plan made from it;
//! - [`Incoming`]: one file on its way in, invisible under its name until it is committed;
//! - [`Source`]: one file or stream on its way out;
//! - [`OwnFile`], [`read_whole`]: small files that are no transfer.
//!
//! Everything here blocks; the caller runs it on a blocking thread. What a transfer *means*
//! (verification, acknowledgement) is `proto::app`'s; what is shown, and how, is `report`'s.

mod destination;
mod incoming;
pub mod name;
mod source;
pub mod stdio;
mod unfinished;
mod whole;

pub use destination::{Action, Destination, Existing, Occupant, Planned, Refusal};
pub use incoming::Incoming;
pub use name::{BadName, NameProblem, PeerName};
pub use source::{Outgoing, Source};
pub use unfinished::remove_unfinished;
pub use whole::{OwnFile, read_whole};

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// An operation on the user's files that failed: what, on which path, why, and what to do.
///
/// `Display` is one line without the hint. Paths in it are quoted with control and invisible
/// characters escaped, so the line may go to a terminal.
#[derive(Debug)]
pub struct FileError {
    kind: FileErrorKind,
    message: String,
    hint: Option<String>,
    cause: Option<std::io::Error>,
}

/// What a [`FileError`] means to the caller and to scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileErrorKind {
    /// The command line names something that cannot be sent, or cannot be written to.
    Usage,
    /// The operating system refused or failed an operation.
    Disk,
    /// No space, quota or file-size allowance is left.
    Full,
    /// A file being sent is not what was offered any more.
    Changed,
    /// A file of that name appeared at the destination during the transfer.
    Exists,
    /// The reader of our standard output or FIFO went away.
    ClosedPipe,
}

impl FileErrorKind {
    /// The stable word for machine output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Disk => "disk",
            Self::Full => "disk-full",
            Self::Changed => "file-changed",
            Self::Exists => "exists",
            Self::ClosedPipe => "closed-pipe",
        }
    }

    /// What the peer is told: never a path of this machine.
    pub fn for_peer(self) -> &'static str {
        match self {
            Self::Usage | Self::Disk => "its disk failed",
            Self::Full => "its disk is full",
            Self::Changed => "the file changed",
            Self::Exists => "a file of that name appeared",
            Self::ClosedPipe => "its reader went away",
        }
    }
}

impl FileError {
    /// What the error means to the caller.
    pub fn kind(&self) -> FileErrorKind {
        self.kind
    }

    /// What the user can do about it, as one sentence without a full stop.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The operating system's error, where it was one.
    pub fn os_error(&self) -> Option<&std::io::Error> {
        self.cause.as_ref()
    }

    fn new(kind: FileErrorKind, message: String) -> Self {
        Self {
            kind,
            message,
            hint: None,
            cause: None,
        }
    }

    fn usage(message: String) -> Self {
        Self::new(FileErrorKind::Usage, message)
    }

    /// `operation` is the beginning of a sentence, such as "cannot open".
    fn reading(operation: &str, path: &Path, errno: Errno) -> Self {
        let mut error = Self::system(operation, path, errno);
        error.hint = match errno {
            Errno::ACCESS | Errno::PERM => Some("check its permissions with `ls -l`"),
            _ => remedy(errno),
        }
        .map(str::to_owned);
        error
    }

    fn writing(operation: &str, path: &Path, errno: Errno) -> Self {
        let mut error = Self::system(operation, path, errno);
        error.hint = match errno {
            Errno::ACCESS | Errno::PERM => {
                Some("check its permissions with `ls -ld`, or choose another with `-o`")
            }
            Errno::ROFS => Some("choose another folder with `-o`"),
            Errno::NOSPC | Errno::DQUOT => {
                Some("free some space, or choose another folder with `-o`")
            }
            Errno::FBIG => Some("choose a folder on another file system with `-o`"),
            Errno::NAMETOOLONG => Some("choose a shorter one with `-o FILE`"),
            _ => remedy(errno),
        }
        .map(str::to_owned);
        error
    }

    fn system(operation: &str, path: &Path, errno: Errno) -> Self {
        let kind = match errno {
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG => FileErrorKind::Full,
            Errno::PIPE => FileErrorKind::ClosedPipe,
            _ => FileErrorKind::Disk,
        };
        let cause = std::io::Error::from_raw_os_error(errno.raw_os_error());
        let why = why(errno, &cause);
        let mut error = Self::new(kind, format!("{operation} {path:?}: {why}"));
        error.cause = Some(cause);
        error
    }

    fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn with_kind(mut self, kind: FileErrorKind) -> Self {
        self.kind = kind;
        self
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The system's error is already in the message: it is no `source`, which a chain printer would
/// say a second time, and is offered by [`FileError::os_error`].
impl std::error::Error for FileError {}

fn why(errno: Errno, cause: &std::io::Error) -> String {
    let known = match errno {
        Errno::NOENT => "no such file or folder",
        Errno::ACCESS => "permission denied",
        Errno::PERM => "not permitted",
        Errno::ROFS => "the file system is read-only",
        Errno::NOSPC => "no space left on the device",
        Errno::DQUOT => "the disk quota is used up",
        Errno::FBIG => "the file is larger than the file system or the limit (`ulimit -f`) allows",
        Errno::NOTDIR => "a part of the path is not a folder",
        Errno::NAMETOOLONG => "the file system does not take a name this long",
        Errno::PIPE => "the reader went away",
        Errno::MFILE | Errno::NFILE => "too many open files",
        Errno::IO => "input/output error of the device",
        Errno::LOOP => "too many symbolic links",
        _ => {
            let text = cause.to_string();
            return match text.rfind(" (os error") {
                Some(end) => text.get(..end).unwrap_or(&text).to_owned(),
                None => text,
            };
        }
    };
    known.to_owned()
}

fn remedy(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::NOENT => "check the spelling",
        Errno::MFILE | Errno::NFILE => "raise the limit with `ulimit -n`",
        Errno::IO => "check the device; the kernel's log (`dmesg`) says more",
        _ => return None,
    })
}

/// Writes all of `bytes`, also to a pipe that somebody set non-blocking.
fn write_fully(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for(fd, PollFlags::OUT)?,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Reads once; 0 is the end. Waits where the descriptor is non-blocking.
fn read_some(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match rustix::io::read(fd, &mut *buffer) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for(fd, PollFlags::IN)?,
            done => return done,
        }
    }
}

fn wait_for(fd: impl AsFd, what: PollFlags) -> Result<(), Errno> {
    match poll(&mut [PollFd::new(&fd, what)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// A number of bytes for a sentence.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let mut value = bytes as f64;
    let mut name = "";
    for unit in UNITS {
        value /= 1024.0;
        name = unit;
        if value < 1024.0 {
            break;
        }
    }
    format!("{value:.1} {name}")
}

/// A path as a word of a command line to be copied from a message.
fn shell_word(path: &Path) -> String {
    let Some(text) = path.to_str() else {
        return "PATH".to_owned();
    };
    let plain = |c: char| c.is_alphanumeric() || "/._-+@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    if text
        .chars()
        .all(|c| plain(c) || (c.is_ascii_graphic() && c != '\'') || c == ' ')
    {
        return format!("'{text}'");
    }
    "PATH".to_owned()
}
