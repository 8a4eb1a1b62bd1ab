//! The sending side: reads and hashes on a thread, so that the network never waits for the disk.

use bytes::BytesMut;
use tokio::sync::mpsc;

use super::{
    CHUNK, Cancelled, Compared, Comparison, Ended, Report, Silence, greet, last_word, mute, ticks,
};
use crate::io::files::{FileError, FileErrorKind, Source};
use crate::io::peer::{Link, LinkError, Message};
use crate::proto::app::{
    CancelReason, Closing, Digest, Local, Offer, Outcome, Sender, Words,
    transfer::sender::{self, OfferError},
};

/// Chunks of a file that change threads together: waking the other thread for each would cost as
/// much as hashing it. A stream's chunks go one by one, as they come.
const BATCH: usize = 8;
/// Batches read ahead of the network.
const READ_AHEAD: usize = 2;

/// What the reading thread hands over, file after file in order.
enum Chunk {
    Bytes(BytesMut),
    End(Digest),
    Failed(FileError),
}

/// Sends `sources` and returns when the receiver has verified all of them, or it ended otherwise.
/// `compare` is asked first where one side wants the words compared.
///
/// # Errors
/// When the sources cannot be offered at all.
pub async fn send<C: Future<Output = Compared>>(
    link: Link,
    sources: Vec<Source>,
    local: Local<'_>,
    compare: impl FnOnce(Words) -> C,
    cancelled: impl Cancelled,
    report: &mut dyn FnMut(Report),
) -> Result<Ended, OfferError> {
    let offers = sources
        .iter()
        .map(|source| match (source.is_text(), source.size()) {
            (true, Some(size)) => Offer::text(source.name().as_str(), size),
            (_, size) => Offer::file(source.name().as_str(), size),
        })
        .collect();
    let machine = Sender::new(local, offers)?;
    let mut driver = Driver {
        link,
        machine,
        compare: false,
        wanted: false,
        chunk: CHUNK,
        lost: None,
        file: None,
    };
    driver.machine.limit_messages(driver.link.max_message());
    driver.run(sources, compare, cancelled, report).await;
    let outcome = driver.machine.outcome().cloned().unwrap_or(Outcome::Lost);
    driver.link.close().await;
    Ok(Ended {
        outcome,
        link: driver.lost,
        file: driver.file,
    })
}

struct Driver {
    link: Link,
    machine: Sender,
    /// The machine asked for the words to be compared.
    compare: bool,
    /// The machine asked for the next chunk.
    wanted: bool,
    /// The longest chunk, in bytes.
    chunk: usize,
    lost: Option<LinkError>,
    file: Option<FileError>,
}

impl Driver {
    async fn run<C: Future<Output = Compared>>(
        &mut self,
        sources: Vec<Source>,
        compare: impl FnOnce(Words) -> C,
        cancelled: impl Cancelled,
        report: &mut dyn FnMut(Report),
    ) {
        let mut comparison = Comparison::new(compare);
        let mut waiting_sources = Some(sources);
        let mut chunks: Option<mpsc::Receiver<Vec<Chunk>>> = None;
        let mut batch = vec![].into_iter();
        let mut ready: Option<BytesMut> = None;
        let mut tick = ticks();
        let mut silence = Silence::default();
        let mut waiting_since = None;
        let mut mute_since = None;
        let mut cancelled = std::pin::pin!(cancelled);
        let mut was_cancelled = false;
        loop {
            self.drain(report).await;
            if self.machine.closing() == Some(Closing::Now) {
                return;
            }
            let over = self.machine.outcome().is_some();
            comparison.turn(&mut self.compare, over, &self.link);
            if self.wanted
                && chunks.is_none()
                && let Some(sources) = waiting_sources.take()
            {
                chunks = Some(start_reader(sources, self.chunk));
            }
            let closing = self.machine.closing();
            tokio::select! {
                biased;
                // First: the peer may keep the rest busy.
                () = &mut cancelled, if !was_cancelled => {
                    was_cancelled = true;
                    self.machine.cancel(CancelReason::User, "");
                }
                message = self.link.recv() => match message {
                    Ok(Message::Control(text)) => self.machine.handle_control(&text),
                    Ok(Message::Data(data)) => self.machine.handle_data(data.len()),
                    Err(error) => {
                        if self.machine.outcome().is_none() {
                            self.lost = Some(error);
                        }
                        self.machine.handle_closed();
                        if self.machine.closing() != Some(Closing::Now) {
                            return;
                        }
                    }
                },
                _ = tick.tick() => {
                    let there = self.machine.sent_bytes().saturating_sub(self.link.outstanding().await as u64);
                    report(Report::Bytes(there));
                    silence.watch(&self.link, report);
                }
                error = mute(&self.link, self.machine.awaited(), &mut mute_since) => {
                    self.lost = Some(error);
                    self.machine.handle_closed();
                    return;
                }
                error = self.link.lost() => {
                    self.lost = Some(error);
                    self.machine.handle_closed();
                    return;
                }
                () = last_word(closing, &mut waiting_since) => return,
                compared = comparison.answer() => match compared.refusal() {
                    None => self.machine.agree(),
                    Some(reason) => self.machine.cancel(reason, ""),
                },
                // Room on the link first, then the chunk that waits for it.
                room = self.link.writable(), if ready.is_some() => {
                    if let (Ok(()), Some(chunk)) = (room, ready.take()) {
                        self.transmit(chunk).await;
                    }
                }
                chunk = next_chunk(&mut batch, chunks.as_mut()), if ready.is_none() && self.wanted => {
                    self.wanted = false;
                    match chunk {
                        Some(Chunk::Bytes(chunk)) => {
                            if self.machine.handle_read(chunk.len()) {
                                ready = Some(chunk);
                            }
                        }
                        Some(Chunk::End(digest)) => self.machine.handle_eof(digest),
                        Some(Chunk::Failed(error)) if error.kind() == FileErrorKind::Changed => {
                            self.machine.handle_changed();
                            self.file = Some(error);
                        }
                        Some(Chunk::Failed(error)) => {
                            self.machine.handle_read_error(error.kind().for_peer());
                            self.file = Some(error);
                        }
                        None => self.machine.handle_read_error("the reading thread ended"),
                    }
                }
            }
        }
    }

    async fn transmit(&mut self, chunk: BytesMut) {
        if let Err(error) = self.link.send_data(chunk).await {
            self.lost.get_or_insert(error);
            self.machine.handle_closed();
        }
    }

    async fn drain(&mut self, report: &mut dyn FnMut(Report)) {
        loop {
            match self.machine.poll_output() {
                sender::Output::Control(text) => {
                    if let Err(error) = self.link.send_control(&text).await {
                        self.lost.get_or_insert(error);
                        self.machine.handle_closed();
                    }
                }
                sender::Output::Read { max, .. } => {
                    self.wanted = true;
                    self.chunk = CHUNK.min(max);
                }
                sender::Output::Event(event) => match event {
                    sender::Event::Connected(peer) => greet(&self.link, peer, report),
                    sender::Event::Accepted => report(Report::Accepted),
                    sender::Event::FileSent { index, .. } => {
                        if index + 1 == self.machine.files().len() {
                            report(Report::Verifying);
                        }
                    }
                    sender::Event::FileAcked {
                        index,
                        size,
                        blake3,
                    } => {
                        report(Report::File {
                            index,
                            size,
                            blake3,
                            path: None,
                        });
                    }
                    sender::Event::Compare => self.compare = true,
                    sender::Event::Finished(_) => self.wanted = false,
                },
                sender::Output::Idle => return,
            }
        }
    }
}

/// The next chunk; never, while no file is being read.
async fn next_chunk(
    batch: &mut std::vec::IntoIter<Chunk>,
    chunks: Option<&mut mpsc::Receiver<Vec<Chunk>>>,
) -> Option<Chunk> {
    if let Some(chunk) = batch.next() {
        return Some(chunk);
    }
    match chunks {
        Some(chunks) => {
            *batch = chunks.recv().await?.into_iter();
            batch.next()
        }
        None => std::future::pending().await,
    }
}

/// Reads all files in order on a thread; it ends when nobody takes the chunks any more.
fn start_reader(sources: Vec<Source>, chunk: usize) -> mpsc::Receiver<Vec<Chunk>> {
    let (tx, rx) = mpsc::channel(READ_AHEAD);
    let thread = std::thread::Builder::new().name("read".to_owned());
    let spawned = thread.spawn(move || {
        for source in sources {
            if let Err(error) = read_file(&source, chunk, &tx)
                && tx.blocking_send(vec![Chunk::Failed(error)]).is_err()
            {
                return;
            }
        }
    });
    if let Err(error) = spawned {
        // The channel is closed then, which the driver reports.
        log::error!("start of the reading thread: {error}");
    }
    rx
}

fn read_file(
    source: &Source,
    length: usize,
    tx: &mpsc::Sender<Vec<Chunk>>,
) -> Result<(), FileError> {
    let mut file = source.start()?;
    let mut hasher = blake3::Hasher::new();
    let most = if source.size().is_some() { BATCH } else { 1 };
    let mut batch = vec![];
    loop {
        let mut chunk = BytesMut::zeroed(length);
        let read = file.read(&mut chunk)?;
        if read == 0 {
            batch.push(Chunk::End(hasher.finalize().into()));
            // Nobody listens after a cancellation: then there is nothing to do.
            let _ = tx.blocking_send(batch);
            return Ok(());
        }
        chunk.truncate(read);
        hasher.update(&chunk);
        batch.push(Chunk::Bytes(chunk));
        if batch.len() >= most && tx.blocking_send(std::mem::take(&mut batch)).is_err() {
            return Ok(());
        }
    }
}
