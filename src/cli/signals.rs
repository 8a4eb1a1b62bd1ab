//! Ctrl-C and SIGTERM. The first asks the run to stop politely: commands wait on [`Stop`] beside
//! their work, tell the peer and clean up. The second quits at once.

use std::io;
use std::sync::{Arc, mpsc};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::input;
use super::ui::Ui;
use crate::exit::Exit;
use crate::io::files;

/// What asked the run to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// Nobody reads standard output any more.
    StdoutClosed,
}

impl Cause {
    /// Returns the exit code of a run that ended for this cause.
    #[must_use]
    pub const fn exit(self) -> Exit {
        match self {
            Self::Interrupt => Exit::Interrupted,
            Self::Terminate => Exit::Terminated,
            Self::StdoutClosed => Exit::Done,
        }
    }
}

/// Whether the run was asked to stop. Clones share the answer.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<Option<Cause>>>);

impl Stop {
    /// Creates one that nothing has triggered yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Returns what asked the run to stop, if anything did.
    #[must_use]
    pub fn now(&self) -> Option<Cause> {
        *self.0.borrow()
    }

    /// Waits until the run is asked to stop. Made for `select!`: dropping it loses nothing.
    ///
    /// # Panics
    /// Never: the sender lives as long as `self`.
    pub async fn wait(&self) -> Cause {
        let mut receiver = self.0.subscribe();
        let cause = receiver
            .wait_for(Option::is_some)
            .await
            .expect("we hold the sender");
        cause.expect("waited for it")
    }

    /// Asks the run to stop; the first cause is kept.
    pub fn trigger(&self, cause: Cause) {
        self.0.send_if_modified(|now| {
            let first = now.is_none();
            now.get_or_insert(cause);
            first
        });
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

/// Starts listening, on a thread of its own: the second Ctrl-C must work even when the main
/// thread is stuck in a read or a computation.
///
/// # Errors
/// The thread or the signal handlers could not be set up.
pub fn listen(stop: Stop, ui: Ui) -> io::Result<()> {
    let (ready, is_ready) = mpsc::channel();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let set_up = || -> io::Result<_> {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_io()
                    .build()?;
                let inside = runtime.enter();
                let interrupt = signal(SignalKind::interrupt())?;
                let terminate = signal(SignalKind::terminate())?;
                let cont = signal(SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()))?;
                drop(inside);
                Ok((runtime, interrupt, terminate, cont))
            };
            match set_up() {
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
                Ok((runtime, mut interrupt, mut terminate, mut cont)) => {
                    let _ = ready.send(Ok(()));
                    runtime.block_on(async {
                        loop {
                            let cause = tokio::select! {
                                _ = interrupt.recv() => Cause::Interrupt,
                                _ = terminate.recv() => Cause::Terminate,
                                _ = cont.recv() => {
                                    ui.resumed();
                                    input::resumed(&ui);
                                    continue;
                                }
                            };
                            if matches!(stop.now(), Some(Cause::Interrupt | Cause::Terminate)) {
                                quit(cause);
                            }
                            // Said first: the run may be over before the next line.
                            ui.stopping(cause);
                            stop.trigger(cause);
                        }
                    });
                }
            }
        })?;
    is_ready
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the signal thread ended")))
}

/// Leaves at once: restores the terminal, removes unfinished files, exits.
pub fn quit(cause: Cause) -> ! {
    input::restore_terminal();
    files::remove_unfinished();
    std::process::exit(i32::from(cause.exit().code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everyone_learns_the_first_cause() {
        let stop = Stop::new();
        let other = stop.clone();
        assert_eq!(stop.now(), None);
        let waiting = tokio::spawn(async move { other.wait().await });
        tokio::task::yield_now().await;
        stop.trigger(Cause::Terminate);
        stop.trigger(Cause::Interrupt);
        assert_eq!(waiting.await.unwrap(), Cause::Terminate);
        assert_eq!(
            stop.wait().await,
            Cause::Terminate,
            "late waiters learn it too"
        );
    }
}
