//! One file on its way in.
//!
//! Data goes to `.knothole-<random>.part` in the destination folder, which only the user can
//! read; [`Incoming::commit`] gives it its name and its ordinary mode. Dropped before that, it is
//! removed. So a name appears with verified content or not at all.
//!
//! **Durability.** `commit` waits until the *content* is on the disk (`fdatasync`) and does not
//! wait for the folder entry. `cp` waits for nothing, but its source is still there after a
//! crash; here the commit is followed by an acknowledgement that lets the sender delete the only
//! other copy, and without the wait ext4 and XFS may show an empty file under the final name. It
//! is also the only place where NFS, quotas and delayed allocation report a write that failed.
//! After a crash in the few seconds until the folder entry is written, the content is still
//! there, as the `.part` file.
//!
//! magic-wormhole#722 shows the other side: 13 GB in the page cache, a stall at 100 %, and an
//! impatient user who interrupts. So writing to the disk is started every [`WRITEBACK_STEP`]
//! while data comes in. Measured on ext4 (virtual disk, Linux 6.18, medians of five): the wait at
//! the end of 1 GiB is about 10 ms instead of 370 ms, the total unchanged within the noise; for a
//! 1 KiB file it is 4 ms; on tmpfs nothing. Waiting for the folder as well would double those
//! 4 ms.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::destination::{Existing, Folder, MAX_COPIES, Occupant, Target, numbered};
use super::{FileError, FileErrorKind, unfinished, write_fully};

/// Takes the data of one file.
#[derive(Debug)]
pub struct Incoming {
    path: PathBuf,
    written: u64,
    sink: Sink,
}

impl Incoming {
    pub(super) fn begin(path: &Path, target: &Target) -> Result<Self, FileError> {
        let sink = match target {
            Target::Part {
                folder,
                name,
                offered,
                existing,
                private,
            } => {
                let (fd, temporary) = folder.create_part()?;
                let listed = unfinished::list(folder, &temporary);
                Sink::Part(Part {
                    file: File::from(fd),
                    folder: Arc::clone(folder),
                    temporary,
                    name: name.clone(),
                    offered: offered.clone(),
                    existing: *existing,
                    private: *private,
                    written: 0,
                    started: 0,
                    remove: Some(listed),
                })
            }
            Target::Special { path } => Sink::Special(open_special(path)?),
            Target::Stdout => Sink::Stdout,
        };
        Ok(Self {
            path: path.to_owned(),
            written: 0,
            sink,
        })
    }

    /// Standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self {
            path: "-".into(),
            written: 0,
            sink: Sink::Stdout,
        }
    }

    /// Appends `bytes`, in as few system calls as the system allows and without a copy of ours.
    ///
    /// # Errors
    /// The disk is full or failed, or the reader of a stream went away
    /// ([`FileErrorKind::ClosedPipe`]).
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let done = match &mut self.sink {
            Sink::Part(part) => part.write(bytes),
            Sink::Special(file) => write_fully(file.as_fd(), bytes),
            Sink::Stdout => write_fully(rustix::stdio::stdout(), bytes),
        };
        done.map_err(|errno| self.failed("cannot write", errno))?;
        self.written = self.written.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// Bytes taken so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Where the file is going; after [`commit`](Self::commit) the truth is what that returned.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The data is seen as it comes, before it is verified.
    pub fn is_stream(&self) -> bool {
        !matches!(self.sink, Sink::Part(_))
    }

    /// Puts the verified file in its place and says where that is. May wait for the disk.
    ///
    /// # Errors
    /// When the content could not be stored, it is removed. When only the name could not be
    /// given, the content is kept as the temporary file and the error says where.
    pub fn commit(mut self) -> Result<PathBuf, FileError> {
        if let Sink::Part(part) = &mut self.sink {
            if let Err(errno) = part.settle() {
                return Err(self.failed("cannot write", errno));
            }
            self.path = part.name_it()?;
        }
        Ok(std::mem::take(&mut self.path))
    }

    fn failed(&self, operation: &str, errno: Errno) -> FileError {
        match self.sink {
            Sink::Stdout => {
                FileError::writing("cannot write to", Path::new("standard output"), errno)
            }
            Sink::Special(_) => FileError::writing("cannot write to", &self.path, errno),
            Sink::Part(_) => FileError::writing(operation, &self.path, errno),
        }
    }
}

#[derive(Debug)]
enum Sink {
    Part(Part),
    Special(File),
    Stdout,
}

/// A temporary file; removed when dropped unless it got its name.
#[derive(Debug)]
struct Part {
    file: File,
    folder: Arc<Folder>,
    temporary: String,
    name: OsString,
    offered: OsString,
    existing: Existing,
    private: bool,
    written: u64,
    /// The kernel was asked to write this much to the disk.
    started: u64,
    /// Until the content is verified: then it is never thrown away.
    remove: Option<unfinished::Listed>,
}

impl Part {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        write_fully(self.file.as_fd(), bytes)?;
        self.written = self.written.saturating_add(bytes.len() as u64);
        let behind = self.written.saturating_sub(self.started);
        if behind >= WRITEBACK_STEP {
            start_writeback(&self.file, self.started, behind);
            self.started = self.written;
        }
        Ok(())
    }

    /// The content is on the disk, or the error that stopped it is known.
    fn settle(&self) -> Result<(), Errno> {
        #[cfg(target_vendor = "apple")]
        let synced = fs::fsync(&self.file);
        #[cfg(not(target_vendor = "apple"))]
        let synced = fs::fdatasync(&self.file);
        match synced {
            // Some FUSE file systems have nothing to wait for.
            Ok(()) | Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn name_it(&mut self) -> Result<PathBuf, FileError> {
        if let Some(mode) = self.final_mode() {
            // File systems without modes refuse this, and have nothing to lose.
            let _ = fs::fchmod(&self.file, mode);
        }
        // From here on the content is whole and verified: it is never thrown away.
        self.remove = None;
        let path = self.folder.join(&self.name);
        match self.existing {
            Existing::Overwrite => {
                // If it cannot be looked up, renaming says why.
                if let Ok(Some(occupant @ (Occupant::Folder | Occupant::Special))) =
                    self.folder.occupant(&self.name)
                {
                    let error = self.kept(&path, &format!("{occupant} is there"));
                    return Err(error.with_kind(FileErrorKind::Exists));
                }
                fs::renameat(
                    &self.folder.fd,
                    &self.temporary,
                    &self.folder.fd,
                    &self.name,
                )
                .map_err(|errno| self.unnamed(&path, errno))?;
                Ok(path)
            }
            Existing::Refuse => match self.link_exclusively(&self.name) {
                Ok(()) => Ok(path),
                Err(Errno::EXIST) => {
                    let error = self.kept(&path, "it appeared while the data was on its way");
                    Err(error.with_kind(FileErrorKind::Exists))
                }
                Err(errno) => Err(self.unnamed(&path, errno)),
            },
            Existing::Rename => {
                let mut name = self.name.clone();
                for number in 0..=MAX_COPIES {
                    if number > 0 {
                        name = numbered(&self.offered, number);
                    }
                    match self.link_exclusively(&name) {
                        Ok(()) => return Ok(self.folder.join(&name)),
                        Err(Errno::EXIST) => {}
                        Err(errno) => return Err(self.unnamed(&path, errno)),
                    }
                }
                let error = self.kept(&path, "it and all numbered names beside it are taken");
                Err(error.with_kind(FileErrorKind::Exists))
            }
        }
    }

    /// The permissions of the file that is replaced (what was private stays private), else those
    /// of any new file. What is private keeps those of the temporary file.
    fn final_mode(&self) -> Option<Mode> {
        if self.private {
            return None;
        }
        if self.existing == Existing::Overwrite
            && let Ok(stat) = fs::statat(&self.folder.fd, &self.name, AtFlags::SYMLINK_NOFOLLOW)
            && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        {
            let permissions = Mode::RWXU | Mode::RWXG | Mode::RWXO;
            return Some(Mode::from_raw_mode(stat.st_mode) & permissions);
        }
        self.folder.new_mode()
    }

    /// Gives the file a name that nothing has, in one step where the file system can.
    fn link_exclusively(&self, name: &OsStr) -> Result<(), Errno> {
        match self.rename_exclusively(name) {
            // NFS, some FUSE file systems and old kernels.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            done => return done,
        }
        self.link_then_unlink(name)
    }

    fn rename_exclusively(&self, name: &OsStr) -> Result<(), Errno> {
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        return fs::renameat_with(
            &self.folder.fd,
            &self.temporary,
            &self.folder.fd,
            name,
            fs::RenameFlags::NOREPLACE,
        );
        #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
        {
            let _ = name;
            Err(Errno::NOSYS)
        }
    }

    fn link_then_unlink(&self, name: &OsStr) -> Result<(), Errno> {
        let dir = &self.folder.fd;
        match fs::linkat(dir, &self.temporary, dir, name, AtFlags::empty()) {
            Ok(()) => {
                let _ = fs::unlinkat(dir, &self.temporary, AtFlags::empty());
                Ok(())
            }
            // No hard links either (exFAT, some network shares).
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {
                self.reserve_then_rename(name)
            }
            Err(errno) => Err(errno),
        }
    }

    /// The name is taken with an empty file of ours first, then that is replaced.
    fn reserve_then_rename(&self, name: &OsStr) -> Result<(), Errno> {
        let dir = &self.folder.fd;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        drop(fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?);
        fs::renameat(dir, &self.temporary, dir, name).inspect_err(|_| {
            let _ = fs::unlinkat(dir, name, AtFlags::empty());
        })
    }

    fn unnamed(&self, path: &Path, errno: Errno) -> FileError {
        let cause = std::io::Error::from_raw_os_error(errno.raw_os_error());
        let why = super::why(errno, &cause);
        let mut error = self.kept(path, &why);
        error.cause = Some(cause);
        error
    }

    fn kept(&self, path: &Path, why: &str) -> FileError {
        let kept = self.folder.join(OsStr::new(&self.temporary));
        FileError::new(
            FileErrorKind::Disk,
            format!(
                "cannot name the received file {path:?}: {why}; its content is kept as {kept:?}"
            ),
        )
        .with_hint(format!(
            "move it where you want it: mv {} NAME",
            super::shell_word(&kept)
        ))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.remove.is_some() {
            let _ = fs::unlinkat(&self.folder.fd, &self.temporary, AtFlags::empty());
        }
    }
}

/// Opens a FIFO (waiting for its reader) or a device. Never creates or truncates.
fn open_special(path: &Path) -> Result<File, FileError> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = loop {
        match fs::open(path, flags, Mode::empty()) {
            Ok(fd) => break fd,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(FileError::writing("cannot open", path, errno)),
        }
    };
    let stat = fs::fstat(&fd).map_err(|errno| FileError::writing("cannot look up", path, errno))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Directory | FileType::Symlink => Err(FileError::new(
            FileErrorKind::Exists,
            format!("{path:?} was a FIFO or device and is not any more"),
        )
        .with_hint("start again")),
        _ => Ok(File::from(fd)),
    }
}

/// Asks the kernel to begin writing a range to the disk, and does not wait for it.
/// `POSIX_FADV_DONTNEED` does that for pages that are dirty and leaves them in the cache; it is
/// `sync_file_range(2)` for those who call no `unsafe` code.
fn start_writeback(file: &File, from: u64, len: u64) {
    #[cfg(target_os = "linux")]
    let _ = fs::fadvise(
        file,
        from,
        std::num::NonZeroU64::new(len),
        fs::Advice::DontNeed,
    );
    #[cfg(not(target_os = "linux"))]
    let _ = (file, from, len);
}

/// Large enough that a disk writes it in one go, small enough that little is left at the end.
const WRITEBACK_STEP: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::files::{Action, Destination, PeerName, Planned};
    use std::fs as std_fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use tempfile::TempDir;

    #[test]
    fn a_file_appears_whole_and_only_when_committed() {
        let dir = TempDir::new().unwrap();
        let mut incoming = plan(dir.path(), Existing::Refuse, "a.txt").begin().unwrap();
        incoming.write(b"hello ").unwrap();
        incoming.write(b"").unwrap();
        incoming.write(b"world").unwrap();
        assert_eq!(incoming.written(), 11);
        assert!(!incoming.is_stream());
        let parts = names(dir.path());
        assert!(
            parts.len() == 1 && parts[0].starts_with(".knothole-") && parts[0].ends_with(".part")
        );
        assert_eq!(mode(&dir.path().join(&parts[0])), 0o600);
        assert_eq!(incoming.commit().unwrap(), dir.path().join("a.txt"));
        assert_eq!(names(dir.path()), ["a.txt"]);
        assert_eq!(
            std_fs::read(dir.path().join("a.txt")).unwrap(),
            b"hello world"
        );
        // What the umask gives to any new file.
        std_fs::write(dir.path().join("other"), b"").unwrap();
        assert_eq!(
            mode(&dir.path().join("a.txt")),
            mode(&dir.path().join("other"))
        );
    }

    #[test]
    fn a_dropped_file_leaves_nothing() {
        let dir = TempDir::new().unwrap();
        std_fs::write(dir.path().join("a"), b"old").unwrap();
        let mut incoming = plan(dir.path(), Existing::Overwrite, "a").begin().unwrap();
        incoming.write(&vec![7; 20 << 20]).unwrap();
        drop(incoming);
        assert_eq!(names(dir.path()), ["a"]);
        assert_eq!(std_fs::read(dir.path().join("a")).unwrap(), b"old");
    }

    #[test]
    fn overwriting_replaces_the_file_and_keeps_what_was_private_private() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("a");
        std_fs::write(&path, b"old").unwrap();
        std_fs::set_permissions(&path, std_fs::Permissions::from_mode(0o4600)).unwrap();
        std_fs::hard_link(&path, dir.path().join("b")).unwrap();
        let planned = plan(dir.path(), Existing::Overwrite, "a");
        assert_eq!(planned.action(), Action::Replace);
        write_all(&planned, b"new");
        assert_eq!(std_fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(std_fs::read(dir.path().join("b")).unwrap(), b"old");
    }

    #[test]
    fn a_link_that_appears_is_neither_followed_nor_written_through() {
        let dir = TempDir::new().unwrap();
        let victim = dir.path().join("victim");
        std_fs::write(&victim, b"precious").unwrap();

        let planned = plan(dir.path(), Existing::Refuse, "a");
        symlink(&victim, dir.path().join("a")).unwrap();
        let mut incoming = planned.begin().unwrap();
        incoming.write(b"evil").unwrap();
        let error = incoming.commit().unwrap_err();
        assert_eq!(error.kind(), FileErrorKind::Exists);
        let kept = names(dir.path())
            .into_iter()
            .find(|n| n.ends_with(".part"))
            .unwrap();
        assert!(error.to_string().contains(&kept), "{error}");
        assert_eq!(std_fs::read(dir.path().join(kept)).unwrap(), b"evil");

        let planned = plan(dir.path(), Existing::Overwrite, "a");
        assert_eq!(planned.action(), Action::Replace);
        write_all(&planned, b"new");
        assert!(
            std_fs::symlink_metadata(dir.path().join("a"))
                .unwrap()
                .is_file()
        );
        assert_eq!(std_fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn a_folder_that_appears_is_never_replaced() {
        let dir = TempDir::new().unwrap();
        let planned = plan(dir.path(), Existing::Overwrite, "a");
        std_fs::create_dir(dir.path().join("a")).unwrap();
        let mut incoming = planned.begin().unwrap();
        incoming.write(b"data").unwrap();
        assert_eq!(incoming.commit().unwrap_err().kind(), FileErrorKind::Exists);
        assert!(dir.path().join("a").is_dir());
    }

    #[test]
    fn a_folder_that_moved_takes_the_file_with_it() {
        let dir = TempDir::new().unwrap();
        let (before, after) = (dir.path().join("before"), dir.path().join("after"));
        std_fs::create_dir(&before).unwrap();
        let planned = plan(&before, Existing::Refuse, "a");
        std_fs::rename(&before, &after).unwrap();
        std_fs::create_dir(&before).unwrap();
        write_all(&planned, b"data");
        assert_eq!(names(&after), ["a"]);
        assert!(names(&before).is_empty());
    }

    #[test]
    fn many_at_once_with_one_name_all_get_their_own() {
        let dir = TempDir::new().unwrap();
        let threads: Vec<_> = (0..8u8)
            .map(|i| {
                let planned = plan(dir.path(), Existing::Rename, "a.tar.gz");
                std::thread::spawn(move || write_all(&planned, &[i]))
            })
            .collect();
        let mut paths: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), 8);
        let mut contents: Vec<_> = paths.iter().map(|p| std_fs::read(p).unwrap()[0]).collect();
        contents.sort_unstable();
        assert_eq!(contents, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(names(dir.path()).contains(&"a (7).tar.gz".to_owned()));
    }

    #[test]
    fn file_systems_without_exclusive_rename_or_links_are_as_careful() {
        type Way = fn(&Part, &OsStr) -> Result<(), Errno>;
        let ways: [Way; 3] = [
            Part::rename_exclusively,
            Part::link_then_unlink,
            Part::reserve_then_rename,
        ];
        for way in ways {
            let dir = TempDir::new().unwrap();
            std_fs::write(dir.path().join("taken"), b"old").unwrap();
            symlink("nowhere", dir.path().join("link")).unwrap();
            let mut incoming = plan(dir.path(), Existing::Refuse, "free").begin().unwrap();
            incoming.write(b"new").unwrap();
            let Sink::Part(part) = &mut incoming.sink else {
                panic!("no part")
            };
            assert_eq!(way(part, OsStr::new("taken")), Err(Errno::EXIST));
            assert_eq!(way(part, OsStr::new("link")), Err(Errno::EXIST));
            assert_eq!(way(part, OsStr::new("free")), Ok(()));
            drop(incoming);
            assert_eq!(names(dir.path()), ["free", "link", "taken"]);
            assert_eq!(std_fs::read(dir.path().join("free")).unwrap(), b"new");
            assert_eq!(std_fs::read(dir.path().join("taken")).unwrap(), b"old");
        }
    }

    #[test]
    fn a_committed_file_is_not_removed_by_the_drop_of_its_writer() {
        let dir = TempDir::new().unwrap();
        for _ in 0..3 {
            write_all(&plan(dir.path(), Existing::Rename, "a"), b"x");
        }
        assert_eq!(names(dir.path()), ["a", "a (1)", "a (2)"]);
    }

    #[test]
    fn a_folder_that_may_not_be_listed_takes_files() {
        let dir = TempDir::new().unwrap();
        let folder = dir.path().join("drop-box");
        std_fs::create_dir(&folder).unwrap();
        std_fs::set_permissions(&folder, std_fs::Permissions::from_mode(0o300)).unwrap();
        write_all(&plan(&folder, Existing::Refuse, "a"), b"x");
        assert_eq!(std_fs::read(folder.join("a")).unwrap(), b"x");
        std_fs::set_permissions(&folder, std_fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_says_so() {
        let destination = Destination::file(Path::new("/dev/full"), Existing::Refuse).unwrap();
        let planned = destination.plan(&[(name("a"), None)]).unwrap();
        assert_eq!(planned[0].action(), Action::Stream);
        let mut incoming = planned[0].begin().unwrap();
        let error = incoming.write(b"x").unwrap_err();
        assert_eq!(error.kind(), FileErrorKind::Full);
        assert_eq!(
            error.to_string(),
            r#"cannot write to "/dev/full": no space left on the device"#
        );
        assert!(error.hint().unwrap().contains("free some space"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_fifo_is_written_straight_into_and_its_reader_may_leave() {
        use std::io::Read;
        let dir = TempDir::new().unwrap();
        let fifo = dir.path().join("fifo");
        fs::mkfifoat(fs::CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
        let destination = Destination::from_output(Some(&fifo), Existing::Refuse).unwrap();
        let planned = destination.plan(&[(name("a"), Some(4))]).unwrap();
        let reader = std::thread::spawn({
            let fifo = fifo.clone();
            move || {
                let mut read = [0; 4];
                File::open(fifo).unwrap().read_exact(&mut read).unwrap();
                read
            }
        });
        let mut incoming = planned[0].begin().unwrap();
        assert!(incoming.is_stream());
        incoming.write(b"data").unwrap();
        assert_eq!(&reader.join().unwrap(), b"data");
        assert_eq!(
            incoming.write(b"more").unwrap_err().kind(),
            FileErrorKind::ClosedPipe
        );
        assert_eq!(names(dir.path()), ["fifo"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_takes_no_files_is_said() {
        // Root may write to any folder, except where the file system has no files to make.
        let destination = Destination::folder(Path::new("/proc"), Existing::Refuse).unwrap();
        let error = match destination.plan(&[(name("a"), None)]) {
            Ok(plan) => plan[0].begin().unwrap_err().to_string(),
            Err(refusal) => refusal.to_string(),
        };
        assert!(
            error.starts_with("cannot ") && error.contains(r#""/proc""#),
            "{error}"
        );
    }

    fn plan(folder: &Path, existing: Existing, file: &str) -> Planned {
        let destination = Destination::folder(folder, existing).unwrap();
        destination.plan(&[(name(file), None)]).unwrap().remove(0)
    }

    fn name(name: &str) -> PeerName {
        PeerName::judge(name).unwrap()
    }

    fn write_all(planned: &Planned, bytes: &[u8]) -> PathBuf {
        let mut incoming = planned.begin().unwrap();
        incoming.write(bytes).unwrap();
        incoming.commit().unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std_fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        std_fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }
}
