//! The two standard streams where they carry data: seeing that nobody is there, and ending one.

use std::io;
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::oneshot;

/// Whether a read of standard input would not wait.
#[must_use]
pub fn stdin_is_ready() -> bool {
    let stdin = rustix::stdio::stdin();
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Ends standard output: its reader sees the end of the stream. What is written later goes nowhere.
///
/// # Errors
/// The system refuses.
pub fn end_stdout() -> io::Result<()> {
    let nowhere = std::fs::File::options().write(true).open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdout(&nowhere)?)
}

/// Notices that the reader of standard output goes away, also while nothing is written.
///
/// It keeps standard output open: drop it before [`end_stdout`].
#[derive(Debug, Default)]
pub struct Watch {
    gone: Option<oneshot::Receiver<()>>,
    wake: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches standard output, if it can lose its reader: a file or a terminal cannot.
    #[must_use]
    pub fn start() -> Self {
        let kind = fstat(rustix::stdio::stdout()).map(|stat| FileType::from_raw_mode(stat.st_mode));
        if !matches!(kind, Ok(FileType::Fifo | FileType::Socket)) {
            return Self::default();
        }
        match Self::spawn() {
            Ok(watch) => watch,
            Err(error) => {
                // The next write finds out as well, only later.
                log::warn!("standard output is not watched: {error}");
                Self::default()
            }
        }
    }

    fn spawn() -> io::Result<Self> {
        // Closing the one end makes the other readable: that is the whole message.
        let (woken, wake) = pipe_with(PipeFlags::CLOEXEC)?;
        let (told, gone) = oneshot::channel();
        let thread = std::thread::Builder::new().name("reader".to_owned());
        let thread = thread.spawn(move || {
            let stdout = rustix::stdio::stdout();
            let mut fds = [
                // An error is told also where nothing is asked for.
                PollFd::new(&stdout, PollFlags::empty()),
                PollFd::new(&woken, PollFlags::IN),
            ];
            while poll(&mut fds, None) == Err(Errno::INTR) {}
            if !fds[0].revents().is_empty() {
                // Nobody listens any more: then it is over anyway.
                let _ = told.send(());
            }
        })?;
        Ok(Self {
            gone: Some(gone),
            wake: Some(wake),
            thread: Some(thread),
        })
    }

    /// Resolves once, when nobody reads any more; dropping it loses nothing.
    pub async fn gone(&mut self) {
        if let Some(gone) = &mut self.gone {
            let told = gone.await;
            self.gone = None;
            if told.is_ok() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing to do but to see the line above.
            let _ = thread.join();
        }
    }
}
