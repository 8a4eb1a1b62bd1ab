//! `-o DIR|FILE|-`, judged before anything is accepted.
//!
//! The rules are those of `cp`: an existing folder takes the files inside it; a path ending in
//! `/` must be one; any other path is the name of the one file; several files need a folder.
//! Folders are never created, and never replaced.
//!
//! The folder is opened once and everything happens relative to that handle, so what the user
//! agreed to is where the data goes, even when somebody moves the path meanwhile. The last
//! component is never followed when it is a symbolic link, with one exception: a path the user
//! typed that leads to a FIFO or a device (`/dev/stdout`, `/dev/fd/63` of a shell's `>(…)`,
//! `/dev/null`). Such a path is written to directly, without a temporary file and before
//! verification, because there is nothing that could be put in place afterwards.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::fs::{self, Access, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::incoming::Incoming;
use super::name::{self, PART_PREFIX, PeerName};
use super::{FileError, FileErrorKind, human};

/// What to do when a file of that name is there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Existing {
    /// Accept nothing.
    #[default]
    Refuse,
    /// Replace files and symbolic links (the link itself, not what it points to).
    Overwrite,
    /// Write `name (1).ext`, `name (2).ext`, … instead.
    Rename,
}

/// Where received data goes.
#[derive(Debug)]
pub struct Destination {
    place: Place,
    existing: Existing,
}

/// One file of an accepted plan.
#[derive(Debug)]
pub struct Planned {
    path: PathBuf,
    action: Action,
    size: Option<u64>,
    target: Target,
}

/// What a plan will do at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing is there.
    Create,
    /// What is there is replaced, atomically.
    Replace,
    /// The offered name is taken: the path is another.
    Rename,
    /// Standard output, a FIFO or a device: written as the data comes, before verification.
    Stream,
}

/// What is in the way at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupant {
    File,
    Link,
    Folder,
    /// A FIFO, socket or device.
    Special,
}

/// Why a plan cannot be made. Nothing has been written.
#[derive(Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// Something is there already.
    Exists { paths: Vec<(PathBuf, Occupant)> },
    /// A file whose name differs only by case or Unicode form is there already.
    Twin { path: PathBuf, twin: PathBuf },
    /// Two offered names are one file on some file systems; indices in the offer.
    SameName { first: usize, second: usize },
    /// Several files for one path.
    NeedsFolder { path: PathBuf, files: usize },
    /// Not enough room, in bytes.
    Space {
        folder: PathBuf,
        needed: u64,
        free: u64,
    },
    /// One file is larger than the file system can hold, in bytes.
    TooLarge {
        path: PathBuf,
        size: u64,
        limit: u64,
    },
    /// Every numbered name that was tried is taken.
    NoFreeName { path: PathBuf },
    /// An operation failed.
    Failed(FileError),
}

impl Destination {
    /// The value of `-o`: a folder, a file or `-` (or `/dev/stdout`, which is the same). Without one, the current folder.
    ///
    /// # Errors
    /// A path that leads nowhere, with the command that would help.
    pub fn from_output(output: Option<&Path>, existing: Existing) -> Result<Self, FileError> {
        let Some(path) = output else {
            return Self::folder(Path::new("."), existing);
        };
        let bytes = path.as_os_str().as_bytes();
        if bytes == b"-" || bytes == b"/dev/stdout" {
            return Ok(Self::stdout());
        }
        if bytes.is_empty() {
            return Err(FileError::usage("the output path is empty".to_owned())
                .with_hint("`-o .` is the current folder"));
        }
        let must_be_folder = bytes.ends_with(b"/") || bytes.ends_with(b"/.");
        match Folder::open(path) {
            Ok(folder) => Ok(Self {
                place: Place::Folder(Arc::new(folder)),
                existing,
            }),
            Err(Errno::NOENT) if must_be_folder => Err(no_folder(path)),
            Err(Errno::NOTDIR) if must_be_folder => Err(not_a_folder(path)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Self::file(path, existing),
            Err(errno) => Err(FileError::writing("cannot open the folder", path, errno)),
        }
    }

    /// An existing folder.
    ///
    /// # Errors
    /// There is none, or it cannot be opened.
    pub fn folder(path: &Path, existing: Existing) -> Result<Self, FileError> {
        match Folder::open(path) {
            Ok(folder) => Ok(Self {
                place: Place::Folder(Arc::new(folder)),
                existing,
            }),
            Err(Errno::NOENT) => Err(no_folder(path)),
            Err(Errno::NOTDIR) => Err(not_a_folder(path)),
            Err(errno) => Err(FileError::writing("cannot open the folder", path, errno)),
        }
    }

    /// A file in an existing folder, or a FIFO or device.
    ///
    /// # Errors
    /// The path names no file, or its folder does not exist or cannot be opened.
    pub fn file(path: &Path, existing: Existing) -> Result<Self, FileError> {
        if let Ok(stat) = fs::statat(CWD, path, AtFlags::empty()) {
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile | FileType::Symlink | FileType::Directory => {}
                FileType::Socket => {
                    return Err(
                        FileError::usage(format!("cannot write to the socket {path:?}"))
                            .with_hint("use `-o -` and a pipe to a program that speaks to it"),
                    );
                }
                kind => {
                    let holds_data = kind == FileType::BlockDevice;
                    let place = Place::Special {
                        path: path.to_owned(),
                        holds_data,
                    };
                    return Ok(Self { place, existing });
                }
            }
        }
        let (folder, name) = Folder::of(path)?;
        Ok(Self {
            place: Place::File {
                folder: Arc::new(folder),
                name,
            },
            existing,
        })
    }

    /// Standard output.
    pub fn stdout() -> Self {
        Self {
            place: Place::Stdout,
            existing: Existing::Refuse,
        }
    }

    /// Results of a program go to standard output too; they must not mix with the data.
    pub fn is_stdout(&self) -> bool {
        matches!(self.place, Place::Stdout)
    }

    /// Decides where every offered file (name, size where known) goes, without writing anything.
    /// The plan is in the order of the offer.
    ///
    /// # Errors
    /// The reason why the offer cannot be accepted as a whole.
    pub fn plan(&self, offers: &[(PeerName, Option<u64>)]) -> Result<Vec<Planned>, Refusal> {
        match &self.place {
            Place::Stdout => one(offers, Path::new("-"), || {
                Ok((Action::Stream, Target::Stdout))
            }),
            Place::Special { path, holds_data } => one(offers, path, || {
                if *holds_data && self.existing != Existing::Overwrite {
                    let paths = vec![(path.clone(), Occupant::Special)];
                    return Err(Refusal::Exists { paths });
                }
                fs::accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)
                    .map_err(|errno| FileError::writing("cannot write to", path, errno))?;
                Ok((Action::Stream, Target::Special { path: path.clone() }))
            }),
            Place::File { folder, name } => {
                let path = folder.join(name);
                one(offers, &path, || {
                    folder.check_writable()?;
                    let mut chooser = Chooser::new(folder, self.existing);
                    let (chosen, action) = chooser.choose(name.clone(), None)?;
                    chooser.finish()?;
                    folder.check_space(offers.iter().map(|(_, size)| (&path, *size)))?;
                    Ok((action, self.target(folder, chosen, name)))
                })
            }
            Place::Folder(folder) => self.plan_folder(folder, offers),
        }
    }

    fn plan_folder(
        &self,
        folder: &Arc<Folder>,
        offers: &[(PeerName, Option<u64>)],
    ) -> Result<Vec<Planned>, Refusal> {
        if offers.is_empty() {
            return Ok(Vec::new());
        }
        let mut wanted = HashMap::with_capacity(offers.len());
        for (second, (name, _)) in offers.iter().enumerate() {
            if let Some(first) = wanted.insert(name.key(), second) {
                return Err(Refusal::SameName { first, second });
            }
        }
        folder.check_writable()?;
        let mut chooser = Chooser::new(folder, self.existing);
        if self.existing != Existing::Overwrite {
            chooser.scan(&wanted)?;
        }
        chooser.claimed = wanted.into_keys().collect();
        let mut plan = Vec::with_capacity(offers.len());
        for (name, size) in offers {
            let key = name.key();
            let offered = OsStr::new(name.as_str());
            let (name, action) = chooser.choose(offered.to_owned(), Some(&key))?;
            plan.push(Planned {
                path: folder.join(&name),
                action,
                size: *size,
                target: self.target(folder, name, offered),
            });
        }
        chooser.finish()?;
        folder.check_space(plan.iter().map(|file| (&file.path, file.size)))?;
        Ok(plan)
    }

    fn target(&self, folder: &Arc<Folder>, name: OsString, offered: &OsStr) -> Target {
        Target::Part {
            folder: Arc::clone(folder),
            name,
            offered: offered.to_owned(),
            existing: self.existing,
            private: false,
        }
    }
}

impl Planned {
    /// The destination, to be shown (escaped) before the offer is accepted. `-` is standard
    /// output.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn action(&self) -> Action {
        self.action
    }

    /// In bytes, where the sender knows it.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Opens the destination for data. Opening a FIFO blocks until it has a reader.
    ///
    /// # Errors
    /// The folder, FIFO or device does not take the file.
    pub fn begin(&self) -> Result<Incoming, FileError> {
        Incoming::begin(&self.path, &self.target)
    }
}

impl Refusal {
    /// The stable word for machine output.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Exists { .. } => "exists",
            Self::Twin { .. } | Self::SameName { .. } => "name-collision",
            Self::NeedsFolder { .. } => "needs-folder",
            Self::Space { .. } | Self::TooLarge { .. } => FileErrorKind::Full.as_str(),
            Self::NoFreeName { .. } => "no-free-name",
            Self::Failed(error) => error.kind().as_str(),
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<&str> {
        Some(match self {
            Self::Exists { paths }
                if paths
                    .iter()
                    .all(|(_, o)| matches!(o, Occupant::File | Occupant::Link)) =>
            {
                "`--overwrite` replaces, `--rename` writes beside, `-o` writes elsewhere"
            }
            Self::Exists { paths }
                if paths
                    .iter()
                    .any(|(_, occupant)| *occupant == Occupant::Folder) =>
            {
                "folders are never replaced: `--rename` writes beside, `-o` writes elsewhere"
            }
            Self::Exists { .. } => "choose another with `-o`; `--overwrite` writes to a device",
            Self::Twin { .. } => {
                "they would be one file on some systems: `--rename` writes beside, `--overwrite` \
                 takes the name as it is"
            }
            Self::SameName { .. } => {
                "they would be one file on some systems: receive them one at a time"
            }
            Self::NeedsFolder { .. } => "name an existing folder with `-o`",
            Self::Space { .. } => "free some space, or choose another folder with `-o`",
            Self::TooLarge { .. } => "choose a folder on another file system with `-o`",
            Self::NoFreeName { .. } => "choose another folder with `-o`",
            Self::Failed(error) => return error.hint(),
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists { paths } => {
                if let Some((path, occupant)) = paths.first() {
                    write!(f, "{occupant} is already at {path:?}")?;
                }
                match paths.len() {
                    0 | 1 => Ok(()),
                    n => write!(f, " and something at {} more of the paths", n - 1),
                }
            }
            Self::Twin { path, twin } => write!(
                f,
                "{path:?} differs only by case or Unicode form from {twin:?}, which exists"
            ),
            Self::SameName { first, second } => write!(
                f,
                "the names of files {} and {} differ only by case or Unicode form",
                first.saturating_add(1),
                second.saturating_add(1)
            ),
            Self::NeedsFolder { path, files } => {
                write!(f, "{files} files are offered, and {path:?} is no folder")
            }
            Self::Space {
                folder,
                needed,
                free,
            } => write!(
                f,
                "not enough space in {folder:?}: {} needed, {} free",
                human(*needed),
                human(*free)
            ),
            Self::TooLarge { path, size, limit } => write!(
                f,
                "{path:?} would have {}, and its file system takes files of up to {}",
                human(*size),
                human(*limit)
            ),
            Self::NoFreeName { path } => {
                write!(
                    f,
                    "{path:?} and {MAX_COPIES} numbered names beside it are taken"
                )
            }
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<FileError> for Refusal {
    fn from(error: FileError) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for Occupant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "a file",
            Self::Link => "a symbolic link",
            Self::Folder => "a folder",
            Self::Special => "a device, FIFO or socket",
        })
    }
}

/// What [`Incoming`] opens.
#[derive(Debug)]
pub(super) enum Target {
    Part {
        folder: Arc<Folder>,
        /// As planned.
        name: OsString,
        /// As offered, or typed: what numbers are put into.
        offered: OsString,
        existing: Existing,
        /// For the user's eyes only.
        private: bool,
    },
    Special {
        path: PathBuf,
    },
    Stdout,
}

/// A folder opened once; everything in it is reached through the handle.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) fd: OwnedFd,
    /// As the user wrote it, for messages only.
    path: PathBuf,
    /// What mode the system gives a new file here: umask, or the folder's default ACL.
    new_mode: OnceLock<Mode>,
}

impl Folder {
    fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match fs::open(path, flags | OFlags::RDONLY, Mode::empty()) {
            // A folder that may be written but not listed (`chmod 300`, a drop box).
            #[cfg(target_os = "linux")]
            Err(Errno::ACCESS) => fs::open(path, flags | OFlags::PATH, Mode::empty())?,
            opened => opened?,
        };
        Ok(Self {
            fd,
            path: path.to_owned(),
            new_mode: OnceLock::new(),
        })
    }

    /// The folder of a file, and the file's name in it.
    pub(super) fn of(path: &Path) -> Result<(Self, OsString), FileError> {
        let Some(name) = path.file_name() else {
            return Err(FileError::usage(format!("{path:?} names no file"))
                .with_hint("give the path of a file or of an existing folder"));
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        match Self::open(parent) {
            Ok(folder) => Ok((folder, name.to_owned())),
            Err(Errno::NOENT) => Err(no_folder(parent)),
            Err(Errno::NOTDIR) => Err(not_a_folder(parent)),
            Err(errno) => Err(FileError::writing("cannot open the folder", parent, errno)),
        }
    }

    pub(super) fn join(&self, name: &OsStr) -> PathBuf {
        if self.path == Path::new(".") {
            PathBuf::from(name)
        } else {
            self.path.join(name)
        }
    }

    /// Creates an empty temporary file, readable by nobody else until it is committed.
    pub(super) fn create_part(&self) -> Result<(OwnedFd, String), FileError> {
        let (fd, part) = self.create_temporary(Mode::RUSR | Mode::WUSR)?;
        // umask cannot be read without setting it for every thread, and a default ACL overrides
        // it: so the system is asked what it gives, once, with an empty file.
        if self.new_mode.get().is_none() {
            let all = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
            if let Ok((probe, name)) = self.create_temporary(all) {
                if let Ok(stat) = fs::fstat(&probe) {
                    let _ = self.new_mode.set(Mode::from_raw_mode(stat.st_mode) & all);
                }
                let _ = fs::unlinkat(&self.fd, &name, AtFlags::empty());
            }
        }
        Ok((fd, part))
    }

    /// The mode of new files, once a part was created.
    pub(super) fn new_mode(&self) -> Option<Mode> {
        self.new_mode.get().copied()
    }

    fn create_temporary(&self, mode: Mode) -> Result<(OwnedFd, String), FileError> {
        const TRIES: usize = 8;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut last = Errno::EXIST;
        for _ in 0..TRIES {
            let random = getrandom::u64().map_err(|error| {
                FileError::new(
                    FileErrorKind::Disk,
                    format!("cannot name a temporary file: no random numbers: {error}"),
                )
            })?;
            let name = format!("{PART_PREFIX}{random:016x}.part");
            match fs::openat(&self.fd, &name, flags, mode) {
                Ok(fd) => return Ok((fd, name)),
                Err(errno @ (Errno::EXIST | Errno::INTR)) => last = errno,
                Err(errno) => {
                    return Err(FileError::writing(
                        "cannot create a file in",
                        &self.path,
                        errno,
                    ));
                }
            }
        }
        Err(FileError::writing(
            "cannot create a file in",
            &self.path,
            last,
        ))
    }

    /// What is at a name, without following it.
    pub(super) fn occupant(&self, name: &OsStr) -> Result<Option<Occupant>, FileError> {
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Occupant::File,
                FileType::Symlink => Occupant::Link,
                FileType::Directory => Occupant::Folder,
                _ => Occupant::Special,
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(FileError::writing(
                "cannot look up",
                &self.join(name),
                errno,
            )),
        }
    }

    pub(super) fn check_writable(&self) -> Result<(), FileError> {
        fs::accessat(
            &self.fd,
            ".",
            Access::WRITE_OK | Access::EXEC_OK,
            AtFlags::EACCESS,
        )
        .map_err(|errno| FileError::writing("cannot write in the folder", &self.path, errno))
    }

    /// Sizes are the peer's word; a file whose size is not known counts as nothing here and meets
    /// the real limit when it is written.
    fn check_space<'a>(
        &self,
        files: impl Iterator<Item = (&'a PathBuf, Option<u64>)>,
    ) -> Result<(), Refusal> {
        let limit = self.largest_file();
        let mut needed = 0u64;
        for (path, size) in files {
            let size = size.unwrap_or(0);
            if size > limit {
                return Err(Refusal::TooLarge {
                    path: path.clone(),
                    size,
                    limit,
                });
            }
            needed = needed.saturating_add(size);
        }
        // Some network and FUSE file systems report no numbers at all.
        let Ok(stat) = fs::fstatvfs(&self.fd) else {
            return Ok(());
        };
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if stat.f_blocks != 0 && needed > free {
            return Err(Refusal::Space {
                folder: self.path.clone(),
                needed,
                free,
            });
        }
        Ok(())
    }

    /// FAT, still on most memory sticks, holds files of less than 4 GiB; elsewhere the offset is
    /// the limit. Found out now instead of after 4 GiB.
    fn largest_file(&self) -> u64 {
        #[cfg(target_os = "linux")]
        {
            const MSDOS_SUPER_MAGIC: u64 = 0x4d44;
            let fat = fs::fstatfs(&self.fd)
                .is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(MSDOS_SUPER_MAGIC));
            if fat {
                return u64::from(u32::MAX);
            }
        }
        i64::MAX.unsigned_abs()
    }
}

#[derive(Debug)]
enum Place {
    Folder(Arc<Folder>),
    File {
        folder: Arc<Folder>,
        name: OsString,
    },
    Special {
        path: PathBuf,
        /// A block device: what is on it is lost.
        holds_data: bool,
    },
    Stdout,
}

/// Gives every file of a plan its name.
struct Chooser<'a> {
    folder: &'a Folder,
    existing: Existing,
    /// Keys of the wanted names that something in the folder has, spelt differently.
    twins: HashMap<String, OsString>,
    /// Keys in the folder that a numbered name could meet.
    numbered: HashSet<String>,
    /// Keys given away or wanted.
    claimed: HashSet<String>,
    occupied: Vec<(PathBuf, Occupant)>,
}

impl<'a> Chooser<'a> {
    fn new(folder: &'a Folder, existing: Existing) -> Self {
        Self {
            folder,
            existing,
            twins: HashMap::new(),
            numbered: HashSet::new(),
            claimed: HashSet::new(),
            occupied: Vec::new(),
        }
    }

    /// Looks for names that a case-insensitive or normalising file system takes for a wanted one.
    /// A folder that cannot be listed is not searched: exact names are looked up in any case.
    fn scan(&mut self, wanted: &HashMap<String, usize>) -> Result<(), FileError> {
        let failed = |errno| FileError::writing("cannot list the folder", &self.folder.path, errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = fs::openat(&self.folder.fd, ".", flags, Mode::empty());
        let entries = match opened.and_then(fs::Dir::new) {
            Ok(entries) => entries,
            Err(Errno::ACCESS | Errno::PERM) => return Ok(()),
            Err(errno) => return Err(failed(errno)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let Ok(found) = entry.file_name().to_str() else {
                continue;
            };
            let key = name::key(found);
            if self.existing == Existing::Rename && key.contains(" (") {
                self.numbered.insert(key.clone());
            }
            if wanted.contains_key(&key) {
                self.twins.insert(key, found.into());
            }
        }
        Ok(())
    }

    /// The name to use and what that does. Names that are taken are collected, so that
    /// [`finish`](Self::finish) can tell them all.
    fn choose(&mut self, name: OsString, key: Option<&str>) -> Result<(OsString, Action), Refusal> {
        let occupant = self.folder.occupant(&name)?;
        let twin = key.and_then(|key| self.twins.get(key));
        match (self.existing, occupant, twin) {
            (_, None, None) => Ok((name, Action::Create)),
            (Existing::Rename, _, _) => self.choose_beside(&name),
            (Existing::Refuse, None, Some(twin)) => Err(Refusal::Twin {
                path: self.folder.join(&name),
                twin: self.folder.join(twin),
            }),
            (Existing::Overwrite, None, Some(_)) => Ok((name, Action::Create)),
            (Existing::Overwrite, Some(Occupant::File | Occupant::Link), _) => {
                Ok((name, Action::Replace))
            }
            (_, Some(occupant), _) => {
                self.occupied.push((self.folder.join(&name), occupant));
                Ok((name, Action::Replace))
            }
        }
    }

    fn choose_beside(&mut self, name: &OsStr) -> Result<(OsString, Action), Refusal> {
        for number in 1..=MAX_COPIES {
            let candidate = numbered(name, number);
            let key = candidate.to_str().map(name::key).unwrap_or_default();
            if self.claimed.contains(&key)
                || self.numbered.contains(&key)
                || self.folder.occupant(&candidate)?.is_some()
            {
                continue;
            }
            self.claimed.insert(key);
            return Ok((candidate, Action::Rename));
        }
        Err(Refusal::NoFreeName {
            path: self.folder.join(name),
        })
    }

    fn finish(&mut self) -> Result<(), Refusal> {
        if self.occupied.is_empty() {
            return Ok(());
        }
        Err(Refusal::Exists {
            paths: std::mem::take(&mut self.occupied),
        })
    }
}

/// A plan of one, or of nothing.
fn one(
    offers: &[(PeerName, Option<u64>)],
    path: &Path,
    decide: impl FnOnce() -> Result<(Action, Target), Refusal>,
) -> Result<Vec<Planned>, Refusal> {
    match offers {
        [] => Ok(Vec::new()),
        [(_, size)] => {
            let (action, target) = decide()?;
            let path = match &target {
                Target::Part { folder, name, .. } => folder.join(name),
                _ => path.to_owned(),
            };
            Ok(vec![Planned {
                path,
                action,
                size: *size,
                target,
            }])
        }
        _ => Err(Refusal::NeedsFolder {
            path: path.to_owned(),
            files: offers.len(),
        }),
    }
}

/// `report.pdf` and 2 give `report (2).pdf`. `.tar.gz` stays together; a name with nothing before
/// its dot has no extension; the stem is cut so that the name stays within the limit.
pub(super) fn numbered(name: &OsStr, number: u32) -> OsString {
    /// Longer than any extension that means something.
    const MAX_EXTENSION: usize = 32;
    let bytes = name.as_bytes();
    let dot_of = |bytes: &[u8]| {
        bytes
            .iter()
            .rposition(|&b| b == b'.')
            .filter(|&dot| dot > 0)
    };
    let mut cut = dot_of(bytes).unwrap_or(bytes.len());
    if let Some(tar) = bytes.get(..cut).and_then(dot_of)
        && bytes
            .get(tar..cut)
            .is_some_and(|ext| ext.eq_ignore_ascii_case(b".tar"))
    {
        cut = tar;
    }
    if bytes.len() - cut > MAX_EXTENSION {
        cut = bytes.len();
    }
    let (stem, extension) = bytes.split_at(cut);
    let number = format!(" ({number})");
    let room = name::MAX_NAME_BYTES.saturating_sub(number.len() + extension.len());
    let mut end = stem.len().min(room);
    // Not in the middle of a character.
    while end > 0 && stem.get(end).is_some_and(|b| b & 0xc0 == 0x80) {
        end -= 1;
    }
    let mut made = stem.get(..end).unwrap_or(stem).to_vec();
    made.extend_from_slice(number.as_bytes());
    made.extend_from_slice(extension);
    OsString::from_vec(made)
}

/// How many numbered names are tried before giving up.
pub(super) const MAX_COPIES: u32 = 999;

fn no_folder(path: &Path) -> FileError {
    FileError::usage(format!("there is no folder {path:?}")).with_hint(format!(
        "create it first: mkdir -p {}",
        super::shell_word(path)
    ))
}

fn not_a_folder(path: &Path) -> FileError {
    FileError::usage(format!("{path:?} is not a folder"))
        .with_hint("give the path of a file without a `/` at its end, or an existing folder")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs as std_fs;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    #[test]
    fn output_follows_the_rules_of_cp() {
        let dir = TempDir::new().unwrap();
        let at = |path: &str| dir.path().join(path);
        std_fs::create_dir(at("folder")).unwrap();
        symlink("folder", at("to-folder")).unwrap();
        let planned = |output: &str| {
            let output = at(output);
            Destination::from_output(Some(&output), Existing::Refuse)
                .map(|d| d.plan(&offer(&["a"])).unwrap()[0].path().to_owned())
                .map_err(|e| (e.kind(), format!("{e} · {}", e.hint().unwrap_or_default())))
        };
        assert_eq!(planned("folder"), Ok(at("folder/a")));
        assert_eq!(planned("folder/"), Ok(at("folder/a")));
        assert_eq!(planned("to-folder"), Ok(at("to-folder/a")));
        assert_eq!(planned("new"), Ok(at("new")));
        assert_eq!(planned("folder/new"), Ok(at("folder/new")));
        for (missing, hint) in [("new/", "new/"), ("no/new", "no"), ("new/.", "new/.")] {
            let (kind, text) = planned(missing).unwrap_err();
            assert_eq!(kind, FileErrorKind::Usage);
            assert!(
                text.ends_with(&format!("mkdir -p {}", at(hint).display())),
                "{text}"
            );
        }
        std_fs::write(at("file"), b"").unwrap();
        for path in ["file/", "file/x", "file/x/"] {
            let (kind, text) = planned(path).unwrap_err();
            assert_eq!(kind, FileErrorKind::Usage);
            assert!(text.contains("is not a folder"), "{text}");
        }
        assert!(Destination::from_output(Some(Path::new("")), Existing::Refuse).is_err());
        assert!(Destination::from_output(Some(Path::new("nowhere/..")), Existing::Refuse).is_err());
        assert!(
            Destination::from_output(Some(Path::new("-")), Existing::Refuse)
                .unwrap()
                .is_stdout()
        );
        let here = Destination::from_output(None, Existing::Refuse).unwrap();
        assert_eq!(
            here.plan(&offer(&["no such"])).unwrap()[0].path(),
            Path::new("no such")
        );
    }

    #[test]
    fn several_files_need_a_folder() {
        let dir = TempDir::new().unwrap();
        let file = Destination::file(&dir.path().join("x"), Existing::Refuse).unwrap();
        for destination in [file, Destination::stdout()] {
            let refusal = destination.plan(&offer(&["a", "b"])).unwrap_err();
            assert!(
                matches!(refusal, Refusal::NeedsFolder { files: 2, .. }),
                "{refusal}"
            );
            assert!(destination.plan(&[]).unwrap().is_empty());
        }
    }

    #[test]
    fn everything_in_the_way_is_told_at_once_and_nothing_is_touched() {
        let dir = TempDir::new().unwrap();
        std_fs::write(dir.path().join("file"), b"old").unwrap();
        symlink("nowhere", dir.path().join("link")).unwrap();
        std_fs::create_dir(dir.path().join("sub")).unwrap();
        let names = ["file", "free", "link", "sub"];
        let refuse = Destination::folder(dir.path(), Existing::Refuse).unwrap();
        let Refusal::Exists { paths } = refuse.plan(&offer(&names)).unwrap_err() else {
            panic!("not refused for what exists")
        };
        assert_eq!(
            paths,
            [
                (dir.path().join("file"), Occupant::File),
                (dir.path().join("link"), Occupant::Link),
                (dir.path().join("sub"), Occupant::Folder)
            ]
        );
        let overwrite = Destination::folder(dir.path(), Existing::Overwrite).unwrap();
        let refusal = overwrite.plan(&offer(&names)).unwrap_err();
        assert!(
            refusal.to_string().starts_with("a folder is already at"),
            "{refusal}"
        );
        assert!(refusal.hint().unwrap().contains("never replaced"));
        let plan = overwrite.plan(&offer(&["file", "free", "link"])).unwrap();
        let actions: Vec<_> = plan.iter().map(Planned::action).collect();
        assert_eq!(actions, [Action::Replace, Action::Create, Action::Replace]);
        let rename = Destination::folder(dir.path(), Existing::Rename).unwrap();
        let plan = rename.plan(&offer(&names)).unwrap();
        let paths: Vec<_> = plan.iter().map(|p| p.path().file_name().unwrap()).collect();
        assert_eq!(paths, ["file (1)", "free", "link (1)", "sub (1)"]);
        assert_eq!(std_fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_link_at_the_path_of_one_file_is_not_written_through() {
        let dir = TempDir::new().unwrap();
        let (victim, link) = (dir.path().join("victim"), dir.path().join("link"));
        std_fs::write(&victim, b"precious").unwrap();
        for target in ["victim", "dangling", "link"] {
            let _ = std_fs::remove_file(&link);
            symlink(target, &link).unwrap();
            let destination = Destination::from_output(Some(&link), Existing::Refuse).unwrap();
            let refusal = destination.plan(&offer(&["a"])).unwrap_err();
            assert!(
                refusal
                    .to_string()
                    .starts_with("a symbolic link is already at"),
                "{refusal}"
            );
        }
    }

    #[test]
    fn twins_by_case_or_form_are_refused_or_written_beside() {
        let dir = TempDir::new().unwrap();
        std_fs::write(dir.path().join("Readme.TXT"), b"").unwrap();
        std_fs::write(dir.path().join("caf\u{e9}"), b"").unwrap();
        std_fs::write(dir.path().join("readme (1).txt"), b"").unwrap();
        let refuse = Destination::folder(dir.path(), Existing::Refuse).unwrap();
        for name in ["readme.txt", "cafe\u{301}", "CAF\u{c9}"] {
            let refusal = refuse.plan(&offer(&[name])).unwrap_err();
            // On a file system that ignores case the twin *is* the file.
            assert!(
                matches!(refusal, Refusal::Twin { .. } | Refusal::Exists { .. }),
                "{refusal}"
            );
        }
        let rename = Destination::folder(dir.path(), Existing::Rename).unwrap();
        let plan = rename
            .plan(&offer(&["README.txt", "readme (2).txt"]))
            .unwrap();
        assert_eq!(plan[0].path(), dir.path().join("README (3).txt"));
        assert_eq!(plan[1].path(), dir.path().join("readme (2).txt"));
        let refusal = rename.plan(&offer(&["x", "X"])).unwrap_err();
        assert!(matches!(
            refusal,
            Refusal::SameName {
                first: 0,
                second: 1
            }
        ));
    }

    #[test]
    fn more_than_fits_is_refused_before_it_is_sent() {
        let dir = TempDir::new().unwrap();
        let destination = Destination::folder(dir.path(), Existing::Refuse).unwrap();
        let sizes = |a, b| destination.plan(&[(name("a"), a), (name("b"), b)]);
        let huge = Some(1 << 62);
        for refusal in [sizes(huge, None), sizes(Some(1), huge), sizes(huge, huge)] {
            let refusal = refusal.unwrap_err();
            assert!(matches!(refusal, Refusal::Space { .. }), "{refusal}");
            assert_eq!(refusal.kind(), "disk-full");
        }
        assert!(matches!(
            sizes(Some(u64::MAX), None),
            Err(Refusal::TooLarge { .. })
        ));
        assert!(sizes(Some(1000), None).is_ok());
    }

    #[test]
    fn devices_are_streams_and_data_on_them_is_not_lost_unasked() {
        let null =
            Destination::from_output(Some(Path::new("/dev/null")), Existing::Refuse).unwrap();
        assert_eq!(
            null.plan(&offer(&["a"])).unwrap()[0].action(),
            Action::Stream
        );
        let disk = |existing| Destination {
            place: Place::Special {
                path: "/dev/null".into(),
                holds_data: true,
            },
            existing,
        };
        assert!(matches!(
            disk(Existing::Refuse).plan(&offer(&["a"])),
            Err(Refusal::Exists { .. })
        ));
        assert!(disk(Existing::Overwrite).plan(&offer(&["a"])).is_ok());
    }

    #[test]
    fn numbers_go_before_the_extension() {
        for (name, expected) in [
            ("a.txt", "a (1).txt"),
            ("a", "a (1)"),
            (".bashrc", ".bashrc (1)"),
            ("a.tar.gz", "a (1).tar.gz"),
            ("a.TAR.xz", "a (1).TAR.xz"),
            (".tar.gz", ".tar (1).gz"),
            ("a.b.c", "a.b (1).c"),
            ("a (1).txt", "a (1) (1).txt"),
        ] {
            assert_eq!(numbered(OsStr::new(name), 1), expected);
        }
    }

    proptest! {
        #[test]
        fn a_numbered_name_is_another_acceptable_name(name in "\\PC{1,90}", number in 1..=MAX_COPIES) {
            if let Ok(name) = PeerName::judge(&name) {
                let made = numbered(OsStr::new(name.as_str()), number);
                let made = PeerName::judge(made.to_str().unwrap());
                prop_assert!(made.is_ok_and(|made| made.key() != name.key()));
            }
        }
    }

    fn name(name: &str) -> PeerName {
        PeerName::judge(name).unwrap()
    }

    fn offer(names: &[&str]) -> Vec<(PeerName, Option<u64>)> {
        names.iter().map(|n| (name(n), Some(1))).collect()
    }
}
