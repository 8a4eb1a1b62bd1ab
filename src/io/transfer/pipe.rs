//! Joins standard input and output to the peer's: reading and writing have a thread each, and the
//! link is always read, since what may come is bounded by what was granted.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::mpsc;

use super::{
    CHUNK, Cancelled, Compared, Comparison, Ended, Report, Silence, greet, last_word, mute, ticks,
};
use crate::io::files::{FileError, FileErrorKind, Incoming, Outgoing, stdio};
use crate::io::peer::{Link, LinkError, Message};
use crate::proto::app::pipe::{self, Event, Output};
use crate::proto::app::{
    CancelReason, Closing, Digest, FileRef, Local, Only, Outcome, Pipe, Problem, Side, Words,
};

/// Messages or reads that change threads together while more are there already: waking the other
/// thread for each would cost as much as hashing it. Nothing waits for a batch to fill.
const BATCH: usize = 8;
/// Batches read ahead of the network.
const READ_AHEAD: usize = 2;
/// Messages shorter than this are copied together, so that very many of them take little memory.
const SMALL: usize = CHUNK / 4;
/// How long a reader may take for each piece of what has arrived, when the peer is gone.
const TIDY: Duration = Duration::from_secs(2);
/// What may wait for a reader in [`raw`], which has no grants, in bytes.
const RAW_BACKLOG: usize = 1 << 20;
/// How often [`raw`] looks whether everything was delivered: the link does not tell by itself.
const RAW_LOOK: Duration = Duration::from_millis(10);

/// Makes bytes fit for a terminal; called once more with nothing at the end of the stream.
pub type Show = Box<dyn FnMut(&[u8]) -> Vec<u8> + Send>;

/// From the reading thread.
enum Chunk {
    Bytes(BytesMut),
    End(Digest),
    Failed(FileError),
}

/// For the writing thread.
enum Job {
    Bytes(Vec<BytesMut>, u64),
    /// End the stream, if this is its hash; without one, in any case.
    Finish(Option<Digest>),
    /// Tell how much was written: nobody reads any more.
    Stop,
}

/// From the writing thread.
enum Written {
    Taken(u64),
    Finished,
    Mismatch,
    /// Nobody reads any more; bytes that were written, and their hash.
    Gone(u64, Digest),
    Failed(FileError),
    /// The thread ended without a word.
    Dead,
}

impl Written {
    fn is_last(&self) -> bool {
        !matches!(self, Self::Taken(_))
    }
}

/// Joins the streams until both have ended, or it ended otherwise. `show` changes what is written.
/// `compare` is asked first where one side wants the words compared.
pub async fn pipe<C: Future<Output = Compared>>(
    link: Link,
    local: Local<'_>,
    only: Option<Only>,
    show: Option<Show>,
    compare: impl FnOnce(Words) -> C,
    cancelled: impl Cancelled,
    report: &mut dyn FnMut(Report),
) -> Ended {
    let mut driver = Driver {
        link,
        machine: Pipe::new(local, only),
        compare: false,
        only,
        show,
        waiting: None,
        wanted: None,
        chunks: None,
        writer: Writer::none(),
        closed: false,
        lost: None,
        file: None,
    };
    driver.run(compare, cancelled, report).await;
    let outcome = driver.machine.outcome().cloned().unwrap_or(Outcome::Lost);
    let by_us = matches!(
        outcome,
        Outcome::Cancelled { by: Side::Here, .. } | Outcome::ReaderGone { by: Side::Here }
    );
    if !by_us {
        driver.writer.flush().await;
    }
    driver.link.close().await;
    Ended {
        outcome,
        link: driver.lost,
        file: driver.file,
    }
}

struct Driver {
    link: Link,
    machine: Pipe,
    /// The machine asked for the words to be compared.
    compare: bool,
    only: Option<Only>,
    show: Option<Show>,
    /// A control message that waits for room on the link. The machine keeps what comes after it.
    waiting: Option<String>,
    /// The machine takes a chunk of this size at most.
    wanted: Option<usize>,
    chunks: Option<Chunks>,
    writer: Writer,
    closed: bool,
    lost: Option<LinkError>,
    file: Option<FileError>,
}

impl Driver {
    async fn run<C: Future<Output = Compared>>(
        &mut self,
        compare: impl FnOnce(Words) -> C,
        cancelled: impl Cancelled,
        report: &mut dyn FnMut(Report),
    ) {
        let mut comparison = Comparison::new(compare);
        let mut tick = ticks();
        let mut silence = Silence::default();
        let mut waiting_since = None;
        let mut mute_since = None;
        let mut cancelled = std::pin::pin!(cancelled);
        let mut was_cancelled = false;
        loop {
            self.drain(report);
            self.writer.turn();
            let closing = self.machine.closing();
            if closing == Some(Closing::Now) || (self.closed && self.machine.outcome().is_some()) {
                return;
            }
            let over = self.machine.outcome().is_some();
            comparison.turn(&mut self.compare, over, &self.link);
            let has_word = self.waiting.is_some();
            let has_chunk =
                self.wanted.is_some() && self.chunks.as_ref().is_some_and(Chunks::is_ready);
            tokio::select! {
                message = self.link.recv(), if !self.closed => match message {
                    Ok(Message::Control(text)) => self.machine.handle_control(&text),
                    Ok(Message::Data(data)) => {
                        if self.machine.handle_data(data.len()) {
                            self.writer.push(data);
                        }
                    }
                    Err(error) => self.link_is_gone(error),
                },
                error = self.link.lost(), if !self.closed => self.link_is_gone(error),
                error = mute(&self.link, self.machine.awaited(), &mut mute_since), if !self.closed => {
                    self.link_is_gone(error);
                }
                () = &mut cancelled, if !was_cancelled => {
                    was_cancelled = true;
                    self.machine.cancel(CancelReason::User, "");
                }
                compared = comparison.answer() => match compared.refusal() {
                    None => self.machine.agree(),
                    Some(reason) => self.machine.cancel(reason, ""),
                },
                // Room on the link first, then what waits for it.
                room = self.link.writable(), if !self.closed && (has_word || has_chunk) => {
                    if room.is_ok() {
                        self.transmit().await;
                    }
                }
                chunk = next_chunk(self.chunks.as_mut()) => self.take_chunk(chunk),
                written = self.writer.work() => self.take_written(written),
                _ = tick.tick() => {
                    let there = self.machine.sent_bytes().saturating_sub(self.link.outstanding().await as u64);
                    report(Report::Bytes(there + self.machine.received_bytes()));
                    silence.watch(&self.link, report);
                }
                () = last_word(closing, &mut waiting_since) => return,
            }
        }
    }

    fn link_is_gone(&mut self, error: LinkError) {
        self.closed = true;
        if self.machine.outcome().is_none() {
            self.lost = Some(error);
        }
        self.machine.handle_closed();
    }

    async fn transmit(&mut self) {
        let sent = if let Some(text) = self.waiting.take() {
            self.link.send_control(&text).await
        } else if let (Some(max), Some(chunks)) = (self.wanted.take(), &mut self.chunks) {
            let max = max.min(self.link.max_message());
            let chunk = chunks.ready.split_to(chunks.ready.len().min(max));
            if !self.machine.handle_read(chunk.len()) {
                return;
            }
            self.link.send_data(chunk).await
        } else {
            return;
        };
        if let Err(error) = sent {
            self.link_is_gone(error);
        }
    }

    fn take_chunk(&mut self, chunk: Option<Chunk>) {
        match chunk {
            Some(Chunk::Bytes(bytes)) => {
                if let Some(chunks) = &mut self.chunks {
                    chunks.ready = bytes;
                }
                return;
            }
            Some(Chunk::End(digest)) => self.machine.handle_eof(digest),
            Some(Chunk::Failed(error)) => {
                self.machine.handle_read_error(error.kind().for_peer());
                self.file = Some(error);
            }
            None => self.machine.handle_read_error("the reading thread ended"),
        }
        self.chunks = None;
    }

    fn take_written(&mut self, written: Written) {
        match written {
            Written::Taken(cost) => self.machine.handle_taken(cost),
            Written::Finished => self.machine.handle_finished(),
            Written::Mismatch => self.machine.handle_mismatch(),
            Written::Gone(size, digest) => self.machine.handle_reader_gone(size, digest),
            Written::Failed(error) => {
                self.machine.handle_write_error(error.kind().for_peer());
                self.file = Some(error);
            }
            Written::Dead => self.machine.handle_write_error("the writing thread ended"),
        }
    }

    /// Does what the machine says, up to a message that has to wait for room on the link.
    fn drain(&mut self, report: &mut dyn FnMut(Report)) {
        while self.waiting.is_none() || self.closed {
            match self.machine.poll_output() {
                Output::Control(text) => self.waiting = Some(text),
                Output::Read { max } => self.wanted = Some(max),
                Output::Finish { blake3, .. } => self.writer.finish(Some(blake3)),
                Output::Event(event) => self.event(event, report),
                Output::Idle => return,
            }
        }
    }

    fn event(&mut self, event: Event, report: &mut dyn FnMut(Report)) {
        let file = |index, size, blake3| Report::File {
            index,
            size,
            blake3,
            path: None,
        };
        match event {
            Event::Connected(peer) => greet(&self.link, peer, report),
            Event::Compare => self.compare = true,
            Event::Open { sends, takes } => {
                if sends {
                    self.chunks = Some(Chunks::start());
                }
                if takes {
                    self.writer = Writer::start(self.show.take());
                } else if self.only.is_none() {
                    // Nothing will come: whoever reads our output need not wait.
                    end_stdout();
                }
                report(Report::Open { sends, takes });
            }
            Event::Sent { .. } => report(Report::Verifying),
            Event::Acked { size, blake3 } => report(file(0, size, blake3)),
            Event::Received { size, blake3 } => report(file(1, size, blake3)),
            Event::Finished(_) => {
                self.wanted = None;
                self.chunks = None;
            }
        }
    }
}

/// Joins the streams to a peer that does not speak the protocol: messages are bytes, the end of the
/// channel is the end of the input, and nothing is verified.
pub async fn raw(
    link: Link,
    only: Option<Only>,
    show: Option<Show>,
    cancelled: impl Cancelled,
    report: &mut dyn FnMut(Report),
) -> Ended {
    let (sends, takes) = Only::ways(only, None);
    let max = link.max_message().clamp(1, CHUNK);
    let mut chunks = sends.then(Chunks::start);
    let mut writer = if takes {
        Writer::start(show)
    } else {
        Writer::none()
    };
    let mut tick = ticks();
    let mut silence = Silence::default();
    let mut cancelled = std::pin::pin!(cancelled);
    let (mut sent, mut received) = (0_u64, 0_u64);
    let (mut closed, mut delivering) = (false, false);
    let (mut lost, mut file) = (None, None);
    report(Report::Open { sends, takes });
    let outcome = loop {
        writer.turn();
        let has_chunk = chunks.as_ref().is_some_and(Chunks::is_ready);
        tokio::select! {
            message = link.recv(), if !closed && writer.bytes() < RAW_BACKLOG => match message {
                Ok(Message::Control(data) | Message::Data(data)) => {
                    received += data.len() as u64;
                    if takes {
                        writer.push(data);
                    }
                }
                Err(_) if takes => {
                    closed = true;
                    chunks = None;
                    writer.finish(None);
                }
                Err(_) => break Outcome::Done,
            },
            error = link.lost(), if !closed => {
                lost = Some(error);
                break Outcome::Lost;
            }
            () = &mut cancelled => break Outcome::Cancelled {
                by: Side::Here,
                reason: CancelReason::User,
                file: None,
                text: String::new(),
            },
            room = link.writable(), if !closed && has_chunk => {
                if let (Ok(()), Some(chunks)) = (room, &mut chunks) {
            let chunk = chunks.ready.split_to(chunks.ready.len().min(max));
                    sent += chunk.len() as u64;
                    if let Err(error) = link.send_data(chunk).await {
                        log::debug!("the last of the input was not sent: {error}");
                    }
                }
            }
            chunk = next_chunk(chunks.as_mut()) => match (chunk, &mut chunks) {
                (Some(Chunk::Bytes(bytes)), Some(chunks)) => chunks.ready = bytes,
                (Some(Chunk::Failed(error)), _) => {
                    file = Some(error);
                    break failed("standard input", Problem::Read(String::new()));
                }
                _ => {
                    chunks = None;
                    delivering = only == Some(Only::Send);
                }
            },
            written = writer.work() => match written {
                Written::Taken(_) | Written::Mismatch => {}
                Written::Finished => break Outcome::Done,
                Written::Gone(..) => break Outcome::ReaderGone { by: Side::Here },
                Written::Failed(error) => {
                    file = Some(error);
                    break failed("standard output", Problem::Write(String::new()));
                }
                Written::Dead => break failed("standard output", Problem::Write("the writing thread ended".to_owned())),
            },
            () = tokio::time::sleep(RAW_LOOK), if delivering => {
                if link.outstanding().await == 0 {
                    break Outcome::Done;
                }
            }
            _ = tick.tick() => {
                let there = sent.saturating_sub(link.outstanding().await as u64);
                report(Report::Bytes(there + received));
                silence.watch(&link, report);
            }
        }
    };
    if outcome == Outcome::Lost {
        writer.flush().await;
    }
    report(Report::Bytes(sent + received));
    link.close().await;
    Ended {
        outcome,
        link: lost,
        file,
    }
}

fn failed(name: &str, problem: Problem) -> Outcome {
    let (index, name) = (0, name.to_owned());
    Outcome::Failed {
        file: FileRef { index, name },
        problem,
    }
}

/// Standard input, read by a thread of its own.
struct Chunks {
    batches: mpsc::Receiver<Vec<Chunk>>,
    batch: std::vec::IntoIter<Chunk>,
    /// What the link takes next; empty: the next chunk is due.
    ready: BytesMut,
}

impl Chunks {
    fn start() -> Self {
        let (tx, batches) = mpsc::channel(READ_AHEAD);
        let thread = std::thread::Builder::new().name("read".to_owned());
        if let Err(error) = thread.spawn(move || read(Outgoing::stdin(), &tx)) {
            // The channel is closed then, which the driver reports.
            log::error!("start of the reading thread: {error}");
        }
        Self {
            batches,
            batch: vec![].into_iter(),
            ready: BytesMut::new(),
        }
    }

    fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }
}

/// The next chunk; never, while one waits for the link or nothing is read.
async fn next_chunk(chunks: Option<&mut Chunks>) -> Option<Chunk> {
    let Some(chunks) = chunks.filter(|chunks| !chunks.is_ready()) else {
        return std::future::pending().await;
    };
    if let Some(chunk) = chunks.batch.next() {
        return Some(chunk);
    }
    chunks.batch = chunks.batches.recv().await?.into_iter();
    chunks.batch.next()
}

/// Reads to the end; also ends when nobody takes the chunks any more.
fn read(mut stdin: Outgoing, tx: &mpsc::Sender<Vec<Chunk>>) {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = BytesMut::new();
    let mut batch = vec![];
    loop {
        buffer.resize(CHUNK, 0);
        let last = match stdin.read(&mut buffer) {
            Ok(0) => Some(Chunk::End(hasher.finalize().into())),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                // A short chunk must not keep a long buffer for as long as it is on its way.
                batch.push(Chunk::Bytes(if read < SMALL {
                    BytesMut::from(&buffer[..read])
                } else {
                    buffer.truncate(read);
                    std::mem::take(&mut buffer)
                }));
                None
            }
            Err(error) => Some(Chunk::Failed(error)),
        };
        let ended = last.is_some();
        batch.extend(last);
        let more = !ended && batch.len() < BATCH && tx.capacity() == 0 && stdio::stdin_is_ready();
        // Nobody listens after the end: then there is nothing to do.
        if !more && (tx.blocking_send(std::mem::take(&mut batch)).is_err() || ended) {
            return;
        }
    }
}

/// Standard output, written by a thread of its own, and what waits for it.
struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    written: Option<mpsc::UnboundedReceiver<Written>>,
    watch: stdio::Watch,
    backlog: VecDeque<(BytesMut, u64)>,
    bytes: usize,
    finish: Option<Job>,
    /// The last turn of the loop brought something.
    fresh: bool,
    /// The link had its turn to bring more before a small batch leaves.
    paused: bool,
}

impl Writer {
    fn none() -> Self {
        Self {
            jobs: None,
            written: None,
            watch: stdio::Watch::default(),
            backlog: VecDeque::new(),
            bytes: 0,
            finish: None,
            fresh: false,
            paused: false,
        }
    }

    fn start(show: Option<Show>) -> Self {
        let (jobs_tx, jobs) = mpsc::channel(1);
        let (written_tx, written) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new().name("write".to_owned());
        if let Err(error) = thread.spawn(move || write(jobs, &written_tx, show)) {
            // Both channels are closed then, which `work` reports.
            log::error!("start of the writing thread: {error}");
        }
        Self {
            jobs: Some(jobs_tx),
            written: Some(written),
            watch: stdio::Watch::start(),
            ..Self::none()
        }
    }

    /// What waits here, in bytes.
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn push(&mut self, data: BytesMut) {
        let cost = pipe::cost(data.len());
        self.bytes += data.len();
        (self.fresh, self.paused) = (true, false);
        if data.len() < SMALL {
            match self.backlog.back_mut() {
                Some((last, sum)) if last.len() + data.len() <= CHUNK => {
                    last.extend_from_slice(&data);
                    *sum += cost;
                }
                // Not the buffer that it came in, which may be longer.
                _ => self.backlog.push_back((BytesMut::from(&data[..]), cost)),
            }
        } else {
            self.backlog.push_back((data, cost));
        }
    }

    fn finish(&mut self, digest: Option<Digest>) {
        self.finish = Some(Job::Finish(digest));
    }

    /// Another turn of the loop: what is here may leave, unless the last turn brought more of it.
    fn turn(&mut self) {
        self.paused |= !std::mem::take(&mut self.fresh);
    }

    /// Hands over what there is to write, and returns what became of it. Dropping it loses nothing.
    async fn work(&mut self) -> Written {
        loop {
            let some = !self.backlog.is_empty() || self.finish.is_some();
            let due = self.paused || self.backlog.len() >= BATCH || self.finish.is_some();
            tokio::select! {
                written = next_written(&mut self.written) => return written,
                room = room(self.jobs.clone()), if some && due => {
                    self.paused = false;
                    match room {
                        Some(room) => drop(room.send(self.next_job())),
                        None => self.jobs = None,
                    }
                }
                () = tokio::task::yield_now(), if some && !due => self.paused = true,
                () = self.watch.gone() => {
                    // Where there is no room the thread is writing, and will find out by itself.
                    if let Some(jobs) = &self.jobs {
                        drop(jobs.try_send(Job::Stop));
                    }
                }
            }
        }
    }

    fn next_job(&mut self) -> Job {
        if self.backlog.is_empty()
            && let Some(finish) = self.finish.take()
        {
            // It would keep the stream open.
            self.watch = stdio::Watch::default();
            return finish;
        }
        let batch = self.backlog.drain(..self.backlog.len().min(BATCH));
        let (batch, costs): (Vec<_>, Vec<_>) = batch.unzip();
        self.bytes -= batch.iter().map(BytesMut::len).sum::<usize>();
        Job::Bytes(batch, costs.iter().sum())
    }

    /// Writes what has arrived, without more to come, for as long as the reader takes it.
    async fn flush(&mut self) {
        self.finish = None;
        while self.written.is_some() {
            if self.backlog.is_empty() {
                // Without jobs the thread ends when it has done what it has.
                self.jobs = None;
            }
            self.paused = true;
            if tokio::time::timeout(TIDY, self.work()).await.is_err() {
                log::warn!("the reader did not take everything that had arrived");
                return;
            }
        }
    }
}

/// Room for one job; `None` when the writing thread has ended, never when there is none.
async fn room(jobs: Option<mpsc::Sender<Job>>) -> Option<mpsc::OwnedPermit<Job>> {
    match jobs {
        Some(jobs) => jobs.reserve_owned().await.ok(),
        None => std::future::pending().await,
    }
}

/// What the writing thread tells next; nothing more after its last word.
async fn next_written(from: &mut Option<mpsc::UnboundedReceiver<Written>>) -> Written {
    let Some(written) = from else {
        return std::future::pending().await;
    };
    let next = written.recv().await.unwrap_or(Written::Dead);
    if next.is_last() {
        *from = None;
    }
    next
}

/// Writes and hashes in order, until there are no more jobs or it failed.
fn write(
    mut jobs: mpsc::Receiver<Job>,
    written: &mpsc::UnboundedSender<Written>,
    mut show: Option<Show>,
) {
    let mut stdout = Incoming::stdout();
    let mut hasher = blake3::Hasher::new();
    let mut size = 0;
    let mut put = |bytes: &[u8], show: &mut Option<Show>| match show {
        Some(show) => stdout.write(&show(bytes)),
        None => stdout.write(bytes),
    };
    while let Some(job) = jobs.blocking_recv() {
        let done = match job {
            Job::Bytes(batch, cost) => batch
                .into_iter()
                .try_for_each(|bytes| {
                    put(&bytes, &mut show)?;
                    hasher.update(&bytes);
                    size += bytes.len() as u64;
                    Ok(())
                })
                .map(|()| Written::Taken(cost)),
            Job::Finish(digest)
                if digest.is_some_and(|digest| digest != hasher.finalize().into()) =>
            {
                Ok(Written::Mismatch)
            }
            Job::Finish(_) => put(&[], &mut show).map(|()| {
                end_stdout();
                Written::Finished
            }),
            Job::Stop => Ok(Written::Gone(size, hasher.finalize().into())),
        };
        let told = done.unwrap_or_else(|error: FileError| match error.kind() {
            FileErrorKind::ClosedPipe => Written::Gone(size, hasher.finalize().into()),
            _ => Written::Failed(error),
        });
        let last = told.is_last();
        if written.send(told).is_err() || last {
            return;
        }
    }
}

fn end_stdout() {
    if let Err(error) = stdio::end_stdout() {
        log::warn!("standard output cannot be ended: {error}");
    }
}
