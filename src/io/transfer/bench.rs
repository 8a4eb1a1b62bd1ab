//! Measures a link: what is sent is made up here, what comes is counted and dropped.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::{
    Cancelled, Compared, Comparison, Ended, Report, Silence, greet, last_word, mute, ticks,
};
use crate::io::peer::{Link, LinkError, Message, Path};
use crate::proto::app::bench::{Event, Output, Results, Wish};
use crate::proto::app::{Bench, CancelReason, Closing, Local, Outcome, Words};

/// How often it is looked whether enough has arrived to send on: the link does not tell by itself.
const LOOK: Duration = Duration::from_millis(2);

/// What a bench brought.
#[derive(Debug)]
pub struct Measured {
    pub ended: Ended,
    /// What was measured until then.
    pub results: Results,
    /// The way that the data took last.
    pub path: Option<Path>,
}

/// Measures until everything is measured, or it ended otherwise. `compare` is asked first where one
/// side wants the words compared.
pub async fn bench<C: Future<Output = Compared>>(
    link: Link,
    local: Local<'_>,
    wish: Wish,
    compare: impl FnOnce(Words) -> C,
    cancelled: impl Cancelled,
    report: &mut dyn FnMut(Report),
) -> Measured {
    let mut driver = Driver {
        link,
        machine: Bench::new(local, wish),
        compare: false,
        waiting: None,
        closed: false,
        lost: None,
    };
    driver.run(compare, cancelled, report).await;
    let path = driver.link.path();
    driver.link.close().await;
    Measured {
        results: driver.machine.results(),
        path,
        ended: Ended {
            outcome: driver.machine.outcome().cloned().unwrap_or(Outcome::Lost),
            link: driver.lost,
            file: None,
        },
    }
}

/// What leaves next.
enum Next {
    Text(String),
    /// So many bytes at most.
    Data(usize),
}

struct Driver {
    link: Link,
    machine: Bench,
    /// The machine asked for the words to be compared.
    compare: bool,
    /// What waits for room on the link. The machine keeps what comes after it.
    waiting: Option<Next>,
    closed: bool,
    lost: Option<LinkError>,
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
            self.machine.handle_timeout(Instant::now());
            self.drain(report);
            let closing = self.machine.closing();
            if closing == Some(Closing::Now) || (self.closed && self.machine.outcome().is_some()) {
                return;
            }
            let over = self.machine.outcome().is_some();
            comparison.turn(&mut self.compare, over, &self.link);
            let has_next = self.waiting.is_some();
            let held = self.is_held().await;
            let due = self.machine.poll_timeout();
            tokio::select! {
                message = self.link.recv(), if !self.closed => {
                    let now = self.look();
                    match message {
                        Ok(Message::Control(text)) => self.machine.handle_control(now, &text),
                        Ok(Message::Data(data)) => self.machine.handle_data(now, data.len()),
                        Err(error) => self.link_is_gone(error),
                    }
                }
                error = self.link.lost(), if !self.closed => self.link_is_gone(error),
                error = mute(&self.link, self.machine.awaited(), &mut mute_since), if !self.closed => {
                    self.link_is_gone(error);
                }
                () = &mut cancelled, if !was_cancelled => {
                    was_cancelled = true;
                    self.machine.cancel(CancelReason::User, "");
                }
                compared = comparison.answer() => match compared.refusal() {
                    None => self.machine.agree(Instant::now()),
                    Some(reason) => self.machine.cancel(reason, ""),
                },
                room = self.link.writable(), if !self.closed && has_next && !held => {
                    if room.is_ok() {
                        self.transmit().await;
                    }
                }
                () = tokio::time::sleep(LOOK), if held => {}
                () = at(due) => {
                    self.look();
                }
                _ = tick.tick() => {
                    report(Report::Bytes(self.there().await));
                    silence.watch(&self.link, report);
                }
                () = last_word(closing, &mut waiting_since) => return,
            }
        }
    }

    /// The time, and what the repair layer says at it.
    fn look(&mut self) -> Instant {
        self.machine.handle_layer(self.link.repair());
        Instant::now()
    }

    /// Whether data waits for what is on its way.
    async fn is_held(&self) -> bool {
        let Some(Next::Data(_)) = self.waiting else {
            return false;
        };
        let outstanding = self.link.outstanding().await as u64;
        self.machine.is_ahead(Instant::now(), outstanding)
    }

    /// The bytes of this direction that are at its receiver.
    async fn there(&self) -> u64 {
        let bytes = self.machine.bytes();
        if self.machine.is_sending() {
            bytes.saturating_sub(self.link.outstanding().await as u64)
        } else {
            bytes
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
        let now = self.look();
        let sent = match self.waiting.take() {
            Some(Next::Text(text)) => self.link.send_control(&text).await,
            Some(Next::Data(max)) => {
                let len = max.min(self.link.max_message());
                if !self.machine.handle_sent(now, len) {
                    return;
                }
                // DTLS makes noise of it, so no network can make it shorter.
                self.link.send_data(BytesMut::zeroed(len)).await
            }
            None => return,
        };
        if let Err(error) = sent {
            self.link_is_gone(error);
        }
    }

    /// Does what the machine says, up to what has to wait for room on the link.
    fn drain(&mut self, report: &mut dyn FnMut(Report)) {
        while self.waiting.is_none() || self.closed {
            match self.machine.poll_output() {
                Output::Control(text) => self.waiting = Some(Next::Text(text)),
                Output::Send { max } => self.waiting = Some(Next::Data(max)),
                Output::Event(Event::Connected(peer)) => greet(&self.link, peer, report),
                Output::Event(Event::Compare) => self.compare = true,
                Output::Event(Event::Phase(phase)) => report(Report::Measuring(phase)),
                Output::Event(Event::Finished(_)) => {}
                Output::Idle => return,
            }
        }
    }
}

/// Resolves then; never without a moment.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
