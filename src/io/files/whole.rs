//! Small files as a whole: pictures of invites, read and written.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use super::destination::{Existing, Folder, Occupant, Target};
use super::incoming::Incoming;
use super::{FileError, FileErrorKind, human, read_some};

/// Reads a file, or standard input for `-`, which may have `limit` bytes.
///
/// # Errors
/// It cannot be read, or is longer.
pub fn read_whole(path: &Path, limit: usize) -> Result<Vec<u8>, FileError> {
    let failed = |errno| FileError::reading("cannot read", path, errno);
    let system = |error: std::io::Error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        let stdin = std::io::stdin();
        let mut buffer = vec![0; 64 * 1024];
        while bytes.len() <= limit {
            match read_some(stdin.as_fd(), &mut buffer).map_err(failed)? {
                0 => break,
                n => bytes.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            }
        }
    } else {
        // Opening a FIFO waits for its writer.
        let file = File::open(path).map_err(system)?;
        let most = limit as u64 + 1;
        file.take(most).read_to_end(&mut bytes).map_err(system)?;
    }
    if bytes.len() > limit {
        let limit = human(limit as u64);
        return Err(FileError::usage(format!("{path:?} is larger than {limit}")));
    }
    Ok(bytes)
}

/// A file that this run makes, readable by nobody else, and may write again: it appears whole,
/// and replaces nothing but what it wrote itself.
#[derive(Debug)]
pub struct OwnFile {
    path: PathBuf,
    folder: Arc<Folder>,
    name: OsString,
    written: Vec<u8>,
}

impl OwnFile {
    /// Looks at the place, and writes nothing yet.
    ///
    /// # Errors
    /// Something is there, or nothing can be written there.
    pub fn plan(path: &Path) -> Result<Self, FileError> {
        let (folder, name) = Folder::of(path)?;
        folder.check_writable()?;
        if folder.occupant(&name)?.is_some() {
            return Err(taken(path, "something is there already"));
        }
        Ok(Self {
            path: path.to_owned(),
            folder: Arc::new(folder),
            name,
            written: Vec::new(),
        })
    }

    /// As it was typed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it, or writes it anew.
    ///
    /// # Errors
    /// The disk failed, or something else has its place.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let existing = match self.folder.occupant(&self.name)? {
            None => Existing::Refuse,
            // By its content: an inode number soon belongs to another file.
            Some(Occupant::File) if !self.written.is_empty() && self.is_as_written() => {
                Existing::Overwrite
            }
            Some(_) => return Err(taken(&self.path, "something else has its place")),
        };
        let target = Target::Part {
            folder: Arc::clone(&self.folder),
            name: self.name.clone(),
            offered: self.name.clone(),
            existing,
            private: true,
        };
        let mut file = Incoming::begin(&self.path, &target)?;
        file.write(bytes)?;
        file.commit()?;
        bytes.clone_into(&mut self.written);
        Ok(())
    }

    fn is_as_written(&self) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(fd) = fs::openat(&self.folder.fd, &self.name, flags, Mode::empty()) else {
            return false;
        };
        let mut there = Vec::new();
        let most = self.written.len() as u64 + 1;
        let read = File::from(fd).take(most).read_to_end(&mut there);
        read.is_ok() && there == self.written
    }
}

fn taken(path: &Path, why: &str) -> FileError {
    FileError::usage(format!("cannot write {path:?}: {why}"))
        .with_kind(FileErrorKind::Exists)
        .with_hint("name a file that does not exist yet, or remove that one")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_of_ours_is_private_and_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("invite.png");
        let mut file = OwnFile::plan(&path).unwrap();
        assert!(!path.exists(), "planning writes nothing");
        for text in ["one", "two"] {
            file.write(text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        // Removed by somebody, it is simply made again.
        std::fs::remove_file(&path).unwrap();
        file.write(b"three").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three");
    }

    #[test]
    fn what_is_there_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("invite.png");
        std::fs::write(&path, "precious").unwrap();
        let error = OwnFile::plan(&path).unwrap_err();
        assert_eq!(error.kind(), FileErrorKind::Exists);
        assert!(error.to_string().contains("already"), "{error}");
        let link = dir.path().join("link.png");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert!(
            OwnFile::plan(&link).is_err(),
            "a dangling link is something"
        );

        let later = dir.path().join("later.png");
        let mut file = OwnFile::plan(&later).unwrap();
        std::fs::write(&later, "precious").unwrap();
        assert!(file.write(b"ours").is_err(), "it appeared after the plan");
        std::fs::remove_file(&later).unwrap();
        file.write(b"ours").unwrap();
        std::fs::remove_file(&later).unwrap();
        std::fs::write(dir.path().join("other"), "precious").unwrap();
        std::fs::rename(dir.path().join("other"), &later).unwrap();
        assert!(file.write(b"ours").is_err(), "somebody put another there");
        for path in [path, later] {
            assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
        }
    }

    #[test]
    fn a_place_that_takes_no_file_is_told_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["gone/invite.png", ".", ".."] {
            assert!(OwnFile::plan(&dir.path().join(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn a_file_is_read_up_to_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, [7; 10]).unwrap();
        assert_eq!(read_whole(&path, 10).unwrap(), [7; 10]);
        let error = read_whole(&path, 9).unwrap_err();
        assert!(error.to_string().contains("larger than 9 bytes"), "{error}");
        for path in [dir.path(), &dir.path().join("gone")] {
            let error = read_whole(path, 10).unwrap_err();
            assert!(error.to_string().starts_with("cannot read "), "{error}");
        }
    }
}
