//! The receiving side: hashes and writes on a thread, so that a slow disk slows the peer down
//! through the link's own flow control and nothing else.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::mpsc;

use super::{
    Cancelled, Compared, Comparison, Ended, Question, Report, Silence, greet, last_word, mute,
    ticks,
};
use crate::io::files::{FileError, Incoming, Planned};
use crate::io::peer::{Link, LinkError, Message};
use crate::proto::app::{
    CancelReason, Closing, DeclineReason, Digest, Local, Offer, Outcome, Receiver, Words,
    transfer::receiver,
};

/// How long the writing thread may take to tidy up.
const TIDY: Duration = Duration::from_secs(1);
/// Messages that change threads together while more keep coming: waking the other thread for each
/// would cost as much as hashing it.
const BATCH: usize = 8;
/// Batches that may wait for the disk.
const WRITE_BEHIND: usize = 4;

/// What the user says to an offer.
pub enum Decision<'a> {
    Accept(Vec<Planned>),
    /// Take the one text of the offer, and show it once it is verified.
    Show(Show<'a>),
    Decline(DeclineReason, String),
}

/// Shows a text; an error is what the peer is told.
pub type Show<'a> = Box<dyn FnOnce(&str) -> Result<(), &'static str> + 'a>;

/// For the writing thread.
enum Job {
    Open(usize),
    Bytes(Vec<BytesMut>),
    Verify { file: usize, digest: Digest },
}

/// From the writing thread.
enum Written {
    Committed { file: usize, path: PathBuf },
    Mismatch(usize),
    Failed { file: usize, error: FileError },
}

/// Receives what the peer offers, if `decide` takes it; `compare` is asked first where one side
/// wants the words compared.
pub async fn receive<'a, C, D>(
    link: Link,
    local: Local<'_>,
    compare: impl FnOnce(Words) -> C,
    decide: impl FnOnce(Arc<[Offer]>, Option<u64>) -> D,
    cancelled: impl Cancelled,
    report: &mut dyn FnMut(Report),
) -> Ended
where
    C: Future<Output = Compared>,
    D: Future<Output = Decision<'a>>,
{
    let mut driver = Driver {
        link,
        machine: Receiver::new(local),
        compare: false,
        offer: None,
        text: None,
        jobs: None,
        done: None,
        lost: None,
        file: None,
        digests: vec![],
        batch: vec![],
    };
    driver.run(compare, decide, cancelled, report).await;
    let outcome = driver.machine.outcome().cloned().unwrap_or(Outcome::Lost);
    // The writing thread removes an unfinished file when it has no more jobs.
    driver.jobs = None;
    if let Some(mut done) = driver.done.take() {
        let gone = async { while done.recv().await.is_some() {} };
        if tokio::time::timeout(TIDY, gone).await.is_err() {
            log::warn!("the disk is busy: a temporary file may stay behind");
        }
    }
    driver.link.close().await;
    Ended {
        outcome,
        link: driver.lost,
        file: driver.file,
    }
}

struct Driver<'a> {
    link: Link,
    machine: Receiver,
    /// The machine asked for the words to be compared.
    compare: bool,
    offer: Option<(Arc<[Offer]>, Option<u64>)>,
    /// A text on its way in, and who shows it.
    text: Option<(Vec<u8>, Show<'a>)>,
    jobs: Option<mpsc::Sender<Job>>,
    done: Option<mpsc::UnboundedReceiver<Written>>,
    lost: Option<LinkError>,
    file: Option<FileError>,
    digests: Vec<(usize, u64, Digest)>,
    /// File contents on their way to the writing thread.
    batch: Vec<BytesMut>,
}

impl<'a> Driver<'a> {
    async fn run<C, D>(
        &mut self,
        compare: impl FnOnce(Words) -> C,
        decide: impl FnOnce(Arc<[Offer]>, Option<u64>) -> D,
        cancelled: impl Cancelled,
        report: &mut dyn FnMut(Report),
    ) where
        C: Future<Output = Compared>,
        D: Future<Output = Decision<'a>>,
    {
        let mut comparison = Comparison::new(compare);
        let (mut decide, mut decision) = (Some(decide), Question::new());
        let mut tick = ticks();
        let mut silence = Silence::default();
        let mut waiting_since = None;
        let mut mute_since = None;
        let mut cancelled = std::pin::pin!(cancelled);
        let mut was_cancelled = false;
        let mut closed = false;
        let mut pause = false;
        loop {
            self.drain(report).await;
            if self.machine.closing() == Some(Closing::Now)
                || (closed && self.machine.outcome().is_some())
            {
                return;
            }
            let over = self.machine.outcome().is_some();
            comparison.turn(&mut self.compare, over, &self.link);
            if over {
                decision.withdraw();
            }
            if let Some((offers, total)) = self.offer.take()
                && let Some(decide) = decide.take()
            {
                decision.ask(decide(offers, total));
            }
            let closing = self.machine.closing();
            tokio::select! {
                biased;
                () = &mut cancelled, if !was_cancelled => {
                    was_cancelled = true;
                    self.machine.cancel(CancelReason::User, "");
                }
                written = next_written(self.done.as_mut()) => self.take_written(written, report),
                compared = comparison.answer() => match compared.refusal() {
                    None => self.machine.agree(),
                    Some(reason) => self.machine.cancel(reason, ""),
                },
                taken = decision.answer() => match taken {
                    Decision::Accept(planned) => {
                        self.start_writer(planned);
                        self.machine.accept();
                        report(Report::Accepted);
                    }
                    Decision::Show(show) => {
                        self.text = Some((vec![], show));
                        self.machine.accept();
                        report(Report::Accepted);
                    }
                    Decision::Decline(reason, text) => self.machine.decline(reason, &text),
                },
                _ = tick.tick() => {
                    report(Report::Bytes(self.machine.received_bytes()));
                    silence.watch(&self.link, report);
                }
                () = last_word(closing, &mut waiting_since) => return,
                message = self.link.recv(), if !closed && self.batch.len() < BATCH => match message {
                    Ok(Message::Control(text)) => self.machine.handle_control(&text),
                    Ok(Message::Data(data)) => {
                        if self.machine.handle_data(data.len()).is_some() {
                            if let Some((text, _)) = &mut self.text {
                                text.extend_from_slice(&data);
                            } else {
                                self.batch.push(data);
                                pause = false;
                            }
                        }
                    }
                    Err(error) => {
                        closed = true;
                        if self.machine.outcome().is_none() {
                            self.lost = Some(error);
                        }
                        self.machine.handle_closed();
                    }
                },
                room = room(self.jobs.clone()), if pause || self.batch.len() >= BATCH => {
                    pause = false;
                    let batch = std::mem::take(&mut self.batch);
                    if let Some(room) = room {
                        room.send(Job::Bytes(batch));
                    }
                }
                // The link gets one turn to bring more before a small batch leaves.
                () = tokio::task::yield_now(), if !pause && !self.batch.is_empty() => pause = true,
                error = mute(&self.link, self.machine.awaited(), &mut mute_since), if !closed => {
                    closed = true;
                    self.lost = Some(error);
                    self.machine.handle_closed();
                }
                error = self.link.lost(), if !closed => {
                    closed = true;
                    self.lost = Some(error);
                    self.machine.handle_closed();
                }
            }
        }
    }

    async fn drain(&mut self, report: &mut dyn FnMut(Report)) {
        loop {
            match self.machine.poll_output() {
                receiver::Output::Control(text) => {
                    if let Err(error) = self.link.send_control(&text).await {
                        self.lost.get_or_insert(error);
                        self.machine.handle_closed();
                    }
                }
                receiver::Output::Offer { files, total } => self.offer = Some((files, total)),
                receiver::Output::Begin { file } => self.job(Job::Open(file)).await,
                receiver::Output::Finish { file, size, blake3 } => {
                    self.digests.push((file, size, blake3));
                    if file + 1 == self.machine.files().len() {
                        report(Report::Verifying);
                    }
                    if let Some((text, show)) = self.text.take() {
                        self.show(file, &text, show, report);
                        continue;
                    }
                    self.job(Job::Verify {
                        file,
                        digest: blake3,
                    })
                    .await;
                }
                receiver::Output::Event(receiver::Event::Connected(peer)) => {
                    greet(&self.link, peer, report);
                }
                receiver::Output::Event(receiver::Event::Compare) => self.compare = true,
                receiver::Output::Event(_) => {}
                receiver::Output::Idle => return,
            }
        }
    }

    /// Hands a job over, after the contents that came before it.
    async fn job(&mut self, job: Job) {
        let batch = std::mem::take(&mut self.batch);
        for job in [Job::Bytes(batch), job] {
            if let Some(jobs) = &self.jobs
                && jobs.send(job).await.is_err()
            {
                // The thread ended after an error, which it has reported.
                self.jobs = None;
            }
        }
    }

    /// Shows a text, if it is the one that was sent.
    fn show(&mut self, file: usize, text: &[u8], show: Show<'a>, report: &mut dyn FnMut(Report)) {
        let sent = self.digests.iter().find(|(index, ..)| *index == file);
        if sent.is_none_or(|(_, _, blake3)| *blake3 != Digest::from(blake3::hash(text))) {
            return self.machine.handle_mismatch(file);
        }
        let Ok(text) = std::str::from_utf8(text) else {
            return self.machine.handle_not_text(file);
        };
        match show(text) {
            Ok(()) => self.committed(file, None, report),
            Err(why) => self.machine.handle_write_error(file, why),
        }
    }

    fn committed(&mut self, file: usize, path: Option<PathBuf>, report: &mut dyn FnMut(Report)) {
        self.machine.handle_committed(file);
        if let Some(at) = self.digests.iter().position(|(index, ..)| *index == file) {
            let (index, size, blake3) = self.digests.swap_remove(at);
            report(Report::File {
                index,
                size,
                blake3,
                path,
            });
        }
    }

    fn take_written(&mut self, written: Option<Written>, report: &mut dyn FnMut(Report)) {
        match written {
            Some(Written::Committed { file, path }) => self.committed(file, Some(path), report),
            Some(Written::Mismatch(file)) => self.machine.handle_mismatch(file),
            Some(Written::Failed { file, error }) => {
                self.machine
                    .handle_write_error(file, error.kind().for_peer());
                self.file = Some(error);
            }
            None => {
                self.done = None;
                let file = self.machine.committed_files();
                self.machine
                    .handle_write_error(file, "the writing thread ended");
            }
        }
    }

    fn start_writer(&mut self, planned: Vec<Planned>) {
        let (jobs_tx, jobs) = mpsc::channel(WRITE_BEHIND);
        let (done_tx, done) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new().name("write".to_owned());
        if let Err(error) = thread.spawn(move || write(&planned, jobs, &done_tx)) {
            // Both channels are closed then, and the transfer fails for want of a disk.
            log::error!("start of the writing thread: {error}");
        }
        self.jobs = Some(jobs_tx);
        self.done = Some(done);
    }
}

/// Room for one job; `None` when the writing thread has ended.
async fn room(jobs: Option<mpsc::Sender<Job>>) -> Option<mpsc::OwnedPermit<Job>> {
    jobs?.reserve_owned().await.ok()
}

async fn next_written(done: Option<&mut mpsc::UnboundedReceiver<Written>>) -> Option<Written> {
    match done {
        Some(done) => done.recv().await,
        None => std::future::pending().await,
    }
}

/// Writes and hashes files in order. Dropping the jobs' sender drops an unfinished file, and with
/// it its temporary file.
fn write(
    planned: &[Planned],
    mut jobs: mpsc::Receiver<Job>,
    done: &mpsc::UnboundedSender<Written>,
) {
    let mut current: Option<(usize, Incoming, blake3::Hasher)> = None;
    while let Some(job) = jobs.blocking_recv() {
        let result = match job {
            Job::Open(file) => match planned.get(file).map(Planned::begin) {
                Some(Ok(incoming)) => {
                    current = Some((file, incoming, blake3::Hasher::new()));
                    None
                }
                Some(Err(error)) => Some(Written::Failed { file, error }),
                None => None,
            },
            Job::Bytes(batch) => current.as_mut().and_then(|(file, incoming, hasher)| {
                let mut write = |bytes: BytesMut| {
                    hasher.update(&bytes);
                    incoming.write(&bytes)
                };
                let failed = batch.into_iter().try_for_each(&mut write).err();
                failed.map(|error| Written::Failed { file: *file, error })
            }),
            Job::Verify { file, digest } => match current.take() {
                Some((_, _, hasher)) if Digest::from(hasher.finalize()) != digest => {
                    Some(Written::Mismatch(file))
                }
                Some((_, incoming, _)) => Some(match incoming.commit() {
                    Ok(path) => Written::Committed { file, path },
                    Err(error) => Written::Failed { file, error },
                }),
                None => None,
            },
        };
        if let Some(result) = result {
            let failed = matches!(result, Written::Failed { .. });
            // Nobody listens after a cancellation: then there is nothing to do.
            if done.send(result).is_err() || failed {
                return;
            }
        }
    }
}
