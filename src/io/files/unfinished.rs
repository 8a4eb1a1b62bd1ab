//! The temporary files of this process, for an end that runs no destructors.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{self, AtFlags};

use super::destination::Folder;

/// A temporary file that has to go if the process quits. Dropping this takes it off the list and
/// leaves the file alone.
#[derive(Debug)]
#[must_use = "the file is off the list when this is dropped"]
pub(super) struct Listed(u64);

/// Puts a temporary file on the list.
pub(super) fn list(folder: &Arc<Folder>, name: &str) -> Listed {
    let mut all = all();
    let id = all.last_key_value().map_or(0, |(id, _)| id + 1);
    all.insert(id, (Arc::clone(folder), name.to_owned()));
    Listed(id)
}

/// Removes every unfinished temporary file, best effort: for the moment before a hard exit.
pub fn remove_unfinished() {
    for (folder, name) in all().values() {
        let _ = fs::unlinkat(&folder.fd, name, AtFlags::empty());
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        all().remove(&self.0);
    }
}

/// A global, because `exit` runs no destructors and the thread that calls it owns nothing else of
/// the run.
static ALL: Mutex<BTreeMap<u64, (Arc<Folder>, String)>> = Mutex::new(BTreeMap::new());

fn all() -> MutexGuard<'static, BTreeMap<u64, (Arc<Folder>, String)>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}
