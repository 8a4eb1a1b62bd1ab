//! What is sent: files, FIFOs, devices, standard input and short texts.
//!
//! [`Source::open`] finds out everything that can be wrong before anything touches the network.
//! Nothing is held open between that and [`Source::start`], so a command may name more files than
//! the process may open; `start` makes sure that the file is still the one that was offered, and
//! the end of [`Outgoing::read`] that it did not change on the way.

use std::collections::HashMap;
use std::fmt;
use std::fs::{File, Metadata};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self, Access, AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::name::{NameProblem, PeerName};
use super::{FileError, FileErrorKind, read_some, shell_word};

/// One thing to send.
#[derive(Debug, Clone)]
pub struct Source {
    name: PeerName,
    path: PathBuf,
    what: What,
}

/// A source being read.
#[derive(Debug)]
pub struct Outgoing {
    path: PathBuf,
    reader: Reader,
}

impl Source {
    /// Looks at a path from the command line; `-` is standard input.
    ///
    /// # Errors
    /// It cannot be sent: missing, unreadable, a directory or socket, or a name that a receiver
    /// would refuse.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        if path == Path::new("-") {
            let name = offered("stdin", path)?;
            return Ok(Self {
                name,
                path: path.to_owned(),
                what: What::Stdin,
            });
        }
        let seen = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        let kind = seen.file_type();
        if kind.is_dir() {
            return Err(directory(path));
        }
        if kind.is_socket() {
            return Err(FileError::usage(format!("{path:?} is a socket"))
                .with_hint("pipe a program that reads it into `knothole send -`"));
        }
        let Some(name) = path.file_name() else {
            return Err(FileError::usage(format!("{path:?} has no file name")));
        };
        let Some(name) = name.to_str() else {
            return Err(
                FileError::usage(format!("the name of {path:?} is not UTF-8"))
                    .with_hint("rename it, or send it as a stream: knothole send - <FILE"),
            );
        };
        let name = offered(name, path)?;
        let what = if kind.is_file() {
            let (file, seen) = open_regular(path)?;
            // Files of /proc say 0 and are not empty.
            let lies = seen.len() == 0
                && read_some(file.as_fd(), &mut [0])
                    .map_err(|errno| FileError::reading("cannot read", path, errno))?
                    > 0;
            if lies {
                What::Stream
            } else {
                What::File(Stamp::of(&seen))
            }
        } else {
            // Opening would wait for a FIFO's writer, or rewind a tape.
            fs::accessat(CWD, path, Access::READ_OK, AtFlags::EACCESS)
                .map_err(|errno| FileError::reading("cannot read", path, errno))?;
            What::Stream
        };
        Ok(Self {
            name,
            path: path.to_owned(),
            what,
        })
    }

    /// Looks at everything that one command sends.
    ///
    /// # Errors
    /// Any of them cannot be sent, or two would have the same name at the receiver.
    pub fn open_all<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<Self>, FileError> {
        let mut names: HashMap<String, usize> = HashMap::with_capacity(paths.len());
        let mut sources: Vec<Self> = Vec::with_capacity(paths.len());
        for path in paths {
            let source = Self::open(path.as_ref())?;
            if let Some(first) = names
                .insert(source.name.key(), sources.len())
                .and_then(|first| sources.get(first))
            {
                return Err(first.clashes_with(&source));
            }
            sources.push(source);
        }
        Ok(sources)
    }

    /// A text that is in no file; offered as `text.txt` to receivers that store it.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn text(text: &str) -> Result<Self, FileError> {
        let path = PathBuf::from("text.txt");
        Ok(Self {
            name: offered("text.txt", &path)?,
            path,
            what: What::Text(Text(text.as_bytes().into())),
        })
    }

    /// The name offered to the receiver: the last part of the path, `stdin` for `-`.
    pub fn name(&self) -> &PeerName {
        &self.name
    }

    /// Offers it under another name.
    pub fn named(self, name: PeerName) -> Self {
        Self { name, ..self }
    }

    /// In bytes; not known for standard input, FIFOs and devices.
    pub fn size(&self) -> Option<u64> {
        match &self.what {
            What::File(stamp) => Some(stamp.size),
            What::Text(text) => Some(text.0.len() as u64),
            What::Stream | What::Stdin => None,
        }
    }

    /// As it was typed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn is_stdin(&self) -> bool {
        matches!(self.what, What::Stdin)
    }

    pub fn is_text(&self) -> bool {
        matches!(self.what, What::Text(_))
    }

    /// Opens it for reading. Opening a FIFO blocks until it has a writer.
    ///
    /// # Errors
    /// It cannot be opened, or is not the file that was offered any more
    /// ([`FileErrorKind::Changed`]).
    pub fn start(&self) -> Result<Outgoing, FileError> {
        let reader = match &self.what {
            What::Text(text) => Reader::Text {
                text: text.clone(),
                read: 0,
            },
            What::Stdin => Reader::Stdin,
            What::Stream => Reader::Stream(open_stream(&self.path)?),
            What::File(stamp) => {
                let (file, seen) = open_regular(&self.path)?;
                if Stamp::of(&seen) != *stamp {
                    return Err(changed(&self.path, "it changed since it was offered"));
                }
                #[cfg(target_os = "linux")]
                let _ = fs::fadvise(&file, 0, None, fs::Advice::Sequential);
                Reader::File {
                    file,
                    stamp: *stamp,
                    left: stamp.size,
                }
            }
        };
        Ok(Outgoing {
            path: self.path.clone(),
            reader,
        })
    }

    fn clashes_with(&self, other: &Self) -> FileError {
        if self.is_stdin() && other.is_stdin() {
            return FileError::usage("standard input can be sent only once".to_owned());
        }
        let hint = "send them in two commands, or rename one";
        let (a, b) = (&self.path, &other.path);
        let name = other.name.as_str();
        let message = if self.name == other.name {
            format!("two files would both be called {name:?}: {a:?} and {b:?}")
        } else {
            format!("{a:?} and {b:?} would have the same name on some systems")
        };
        FileError::usage(message).with_hint(hint)
    }
}

impl Outgoing {
    /// Standard input.
    #[must_use]
    pub fn stdin() -> Self {
        Self {
            path: "-".into(),
            reader: Reader::Stdin,
        }
    }

    /// Reads into `buffer`, which must not be empty; 0 is the end. A file of known size gives
    /// exactly that many bytes.
    ///
    /// # Errors
    /// Reading failed, or the file changed while it was being read
    /// ([`FileErrorKind::Changed`]): then the data already read is of no use.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, FileError> {
        let failed = |errno| FileError::reading("cannot read", &self.path, errno);
        match &mut self.reader {
            Reader::Text { text, read } => {
                let rest = text.0.get(*read..).unwrap_or_default();
                let n = rest.len().min(buffer.len());
                buffer[..n].copy_from_slice(&rest[..n]);
                *read += n;
                Ok(n)
            }
            Reader::Stdin => read_some(rustix::stdio::stdin(), buffer).map_err(|errno| {
                FileError::reading("cannot read", Path::new("standard input"), errno)
            }),
            Reader::Stream(file) => read_some(file.as_fd(), buffer).map_err(failed),
            Reader::File { file, stamp, left } => {
                let most = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(buffer.len());
                let Some(buffer) = buffer.get_mut(..most).filter(|part| !part.is_empty()) else {
                    let now = file
                        .metadata()
                        .map_err(|error| unreadable(&self.path, &error))?;
                    if *left == 0 && Stamp::of(&now) != *stamp {
                        return Err(changed(&self.path, "it changed while it was being sent"));
                    }
                    return Ok(0);
                };
                let n = read_some(file.as_fd(), buffer).map_err(failed)?;
                if n == 0 {
                    return Err(changed(
                        &self.path,
                        "it became shorter while it was being sent",
                    ));
                }
                *left = left.saturating_sub(n as u64);
                Ok(n)
            }
        }
    }
}

#[derive(Debug, Clone)]
enum What {
    Text(Text),
    File(Stamp),
    Stream,
    Stdin,
}

/// A text of the user; `Debug` does not show it.
#[derive(Clone)]
struct Text(Arc<[u8]>);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text(..)")
    }
}

#[derive(Debug)]
enum Reader {
    Text {
        text: Text,
        read: usize,
    },
    File {
        file: File,
        stamp: Stamp,
        /// Bytes of the offer not yet read.
        left: u64,
    },
    Stream(File),
    Stdin,
}

/// Tells one state of one file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(seen: &Metadata) -> Self {
        Self {
            device: seen.dev(),
            inode: seen.ino(),
            size: seen.len(),
            modified: (seen.mtime(), seen.mtime_nsec()),
        }
    }
}

/// `O_NONBLOCK` means nothing to a regular file; it keeps us from waiting for ever when the path
/// became a FIFO after it was looked at.
fn open_regular(path: &Path) -> Result<(File, Metadata), FileError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let fd = fs::open(path, flags, Mode::empty())
        .map_err(|errno| FileError::reading("cannot open", path, errno))?;
    let file = File::from(fd);
    let seen = file.metadata().map_err(|error| unreadable(path, &error))?;
    if !seen.is_file() {
        return Err(changed(path, "it is not the file any more that it was"));
    }
    Ok((file, seen))
}

fn open_stream(path: &Path) -> Result<File, FileError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    loop {
        match fs::open(path, flags, Mode::empty()) {
            Ok(fd) => return Ok(File::from(fd)),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(FileError::reading("cannot open", path, errno)),
        }
    }
}

/// The receiver refuses what [`PeerName`] refuses, so it is said here, before anybody connects.
fn offered(name: &str, path: &Path) -> Result<PeerName, FileError> {
    PeerName::judge(name).map_err(|problem: NameProblem| {
        FileError::usage(format!("{path:?} cannot be sent under its name: {problem}"))
            .with_hint("rename it, or send it as a stream: knothole send - <FILE")
    })
}

fn unreadable(path: &Path, error: &std::io::Error) -> FileError {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
    let error = FileError::reading("cannot open", path, errno);
    match errno {
        Errno::NOENT | Errno::NOTDIR => error.with_kind(FileErrorKind::Usage),
        _ => error,
    }
}

fn changed(path: &Path, how: &str) -> FileError {
    FileError::new(
        FileErrorKind::Changed,
        format!("cannot send {path:?}: {how}"),
    )
    .with_hint("send it again when nothing writes to it")
}

fn directory(path: &Path) -> FileError {
    FileError::usage(format!(
        "{path:?} is a directory: sending directories comes in a later version"
    ))
    .with_hint(format!(
        "send the files in it, or `tar c {} | knothole send -`",
        shell_word(path)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use tempfile::TempDir;

    #[test]
    fn a_file_is_read_to_its_size() {
        let dir = TempDir::new().unwrap();
        let path = file(&dir, "a.bin", &[5; 1000]);
        let source = Source::open(&path).unwrap();
        assert_eq!(
            (source.name().as_str(), source.size()),
            ("a.bin", Some(1000))
        );
        let mut outgoing = source.start().unwrap();
        assert_eq!(read_all(&mut outgoing).unwrap(), [5; 1000]);
        let mut empty = Source::open(&file(&dir, "empty", b""))
            .unwrap()
            .start()
            .unwrap();
        assert_eq!(read_all(&mut empty).unwrap(), b"");
    }

    #[test]
    fn what_cannot_be_sent_is_said_with_what_to_do() {
        let dir = TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let bad = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff.txt");
        let bad: &std::ffi::OsStr = bad;
        for (path, text, hint) in [
            (
                dir.path().join("sub"),
                "is a directory: sending directories comes",
                "tar c ",
            ),
            (dir.path().join("sub/.."), "is a directory", "tar c "),
            (dir.path().join("gone"), "no such file", "spelling"),
            (file(&dir, "10:30.log", b""), "`:`", "knothole send -"),
            (dir.path().join(bad), "", ""),
        ] {
            if path.ends_with(bad) {
                // Not every file system takes such a name (APFS).
                let Ok(()) = std::fs::write(&path, b"") else {
                    continue;
                };
            }
            let error = Source::open(&path).unwrap_err();
            assert_eq!(error.kind(), FileErrorKind::Usage, "{error}");
            assert!(error.to_string().contains(text), "{error}");
            assert!(error.hint().unwrap().contains(hint), "{error}");
        }
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(
            Source::open(&socket)
                .unwrap_err()
                .to_string()
                .contains("socket")
        );
    }

    #[test]
    fn a_text_is_read_like_a_file() {
        for text in ["näh\n", &"x".repeat(1000)] {
            let source = Source::text(text).unwrap();
            let seen = (source.name().as_str(), source.size(), source.is_text());
            assert_eq!(seen, ("text.txt", Some(text.len() as u64), true));
            let mut outgoing = source.start().unwrap();
            assert_eq!(read_all(&mut outgoing).unwrap(), text.as_bytes());
            assert!(!format!("{source:?}{outgoing:?}").contains("120"));
        }
    }

    #[test]
    fn two_files_with_one_name_are_refused() {
        let dir = TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let a = file(&dir, "a", b"");
        let error = Source::open_all(&[&a, &file(&dir, "sub/a", b"")]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(r#"two files would both be called "a": "#)
        );
        let error = Source::open_all(&[&a, &file(&dir, "sub/A", b"")]).unwrap_err();
        assert!(error.to_string().contains("on some systems"), "{error}");
        let error = Source::open_all(&["-", "-"]).unwrap_err();
        assert_eq!(error.to_string(), "standard input can be sent only once");
        let both = Source::open_all(&[a.as_path(), Path::new("-")]).unwrap();
        assert_eq!((both[1].name().as_str(), both[1].size()), ("stdin", None));
        assert!(both[1].is_stdin());
    }

    #[test]
    fn a_file_that_changed_since_the_offer_is_not_sent() {
        let dir = TempDir::new().unwrap();
        let path = file(&dir, "a", b"one");
        let source = Source::open(&path).unwrap();
        std::fs::write(&path, b"another").unwrap();
        assert_eq!(source.start().unwrap_err().kind(), FileErrorKind::Changed);
        let source = Source::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(
            source
                .start()
                .unwrap_err()
                .to_string()
                .contains("no such file")
        );
    }

    #[test]
    fn a_file_that_changes_on_the_way_is_noticed() {
        let dir = TempDir::new().unwrap();
        for change in ["shorter", "longer", "other"] {
            let path = file(&dir, change, &[1; 100]);
            let mut outgoing = Source::open(&path).unwrap().start().unwrap();
            assert_eq!(outgoing.read(&mut [0; 40]).unwrap(), 40);
            let mut writer = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            match change {
                "shorter" => writer.set_len(60).unwrap(),
                "longer" => writer.set_len(200).unwrap(),
                _ => {
                    writer.write_all(&[2; 100]).unwrap();
                    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(2);
                    writer.set_modified(later).unwrap();
                }
            }
            let error = read_all(&mut outgoing).unwrap_err();
            assert_eq!(error.kind(), FileErrorKind::Changed, "{change}: {error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn streams_have_no_size_and_are_not_opened_early() {
        let dir = TempDir::new().unwrap();
        let fifo = dir.path().join("fifo");
        fs::mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
        // Would hang if it were opened.
        let source = Source::open(&fifo).unwrap();
        assert_eq!((source.name().as_str(), source.size()), ("fifo", None));
        let writer = std::thread::spawn(move || std::fs::write(fifo, b"data").unwrap());
        assert_eq!(read_all(&mut source.start().unwrap()).unwrap(), b"data");
        writer.join().unwrap();
        let null = Source::open(Path::new("/dev/null")).unwrap();
        assert_eq!(read_all(&mut null.start().unwrap()).unwrap(), b"");
        // Says that it has no bytes, and has some.
        let version = Source::open(Path::new("/proc/version")).unwrap();
        assert_eq!(version.size(), None);
        assert!(!read_all(&mut version.start().unwrap()).unwrap().is_empty());
    }

    fn file(dir: &TempDir, name: &str, content: &[u8]) -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn read_all(outgoing: &mut Outgoing) -> Result<Vec<u8>, FileError> {
        let mut all = Vec::new();
        let mut buffer = [0; 64];
        loop {
            match outgoing.read(&mut buffer)? {
                0 => return Ok(all),
                n => all.extend_from_slice(&buffer[..n]),
            }
        }
    }
}
