//! A connected peer: messages both ways, the chosen path, and how it ends.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use webrtc::data_channel::{DataChannel, DataChannelEvent};

use super::connection::Connection;
use super::endpoint::Endpoint;
use super::issuer::MAX_MESSAGE;
use super::socket::lock;
use crate::proto::link::PeerKind;
use crate::proto::link::repair::Stats;
use crate::proto::token::{Candidate, Fingerprint, Kind};

/// How long the last message may take to leave this machine.
const LAST_WORD: Duration = Duration::from_millis(300);
/// How long a plain peer may take to end the channel on its side.
const GOODBYE: Duration = Duration::from_secs(1);
/// Between looks whether it has.
const LOOK: Duration = Duration::from_millis(5);
/// The crate tells the end of a channel before the messages that came in with it, and hands these
/// over right after. A plain peer has no other way to end its stream.
const LATE: Duration = Duration::from_millis(100);

/// A message on the channel.
#[derive(Debug)]
pub enum Message {
    /// Text: the control messages of [`crate::proto::app`].
    Control(BytesMut),
    /// Binary: file contents.
    Data(BytesMut),
}

/// Why there is no link, or no longer one.
#[derive(Debug)]
pub enum LinkError {
    /// Nothing was heard from the peer for this long.
    Lost(Duration),
    /// The peer is there, and has not said for this long what it has to say next.
    Mute(Duration),
    /// The peer opened a second channel.
    Crowded,
    /// The peer closed, or the crate gave up.
    Closed,
    /// The invite's time is over.
    Expired,
    /// No path within the time the user gave.
    NoPath {
        after: Duration,
        tried: Vec<SocketAddr>,
    },
    /// A path was found, but the peer did not prove that it holds the certificate of the token.
    Handshake,
    /// The peer has another certificate than its description says.
    Certificate,
    /// The peer refused our certificate.
    CertificateRefused,
    /// The peer opens no data channel.
    NoChannel,
    /// This machine refused something.
    System(anyhow::Error),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(silence) => {
                write!(f, "nothing heard from the peer for {} s", silence.as_secs())
            }
            Self::Mute(wait) => write!(
                f,
                "the peer is connected and does not go on: not a word for {} s",
                wait.as_secs()
            ),
            Self::Crowded => f.write_str("the peer opened a channel that nobody asked for"),
            Self::Closed => f.write_str("the peer closed the connection"),
            Self::Expired => f.write_str("nobody joined before the invite expired"),
            Self::NoPath { after, tried } => {
                write!(f, "no path to the peer within {} s; tried", after.as_secs())?;
                for addr in tried {
                    write!(f, " {addr}")?;
                }
                Ok(())
            }
            Self::Handshake => {
                f.write_str("a path was found, but the DTLS handshake did not finish")
            }
            Self::Certificate => {
                f.write_str("the other side has another certificate than its description says")
            }
            Self::CertificateRefused => f.write_str("the other side refused our certificate"),
            Self::NoChannel => f.write_str("the other side is there, but no data channel opened"),
            Self::System(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for LinkError {}

impl From<anyhow::Error> for LinkError {
    fn from(error: anyhow::Error) -> Self {
        Self::System(error)
    }
}

/// The kind of path, by the farther of its two candidates (RFC 8445 §5.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathKind {
    Host,
    Srflx,
    Prflx,
    Relay,
}

impl PathKind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Srflx => "srflx",
            Self::Prflx => "prflx",
            Self::Relay => "relay",
        }
    }
}

impl From<Kind> for PathKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Host | Kind::Mapped => Self::Host,
            Kind::Srflx => Self::Srflx,
            Kind::Relay => Self::Relay,
        }
    }
}

/// The path that carries data now.
#[derive(Debug, Clone, Copy)]
pub struct Path {
    pub kind: PathKind,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub round_trip: Option<Duration>,
}

/// What is known about the peer of a link.
#[derive(Debug)]
pub(super) struct Remote {
    pub kind: PeerKind,
    /// Of its certificate, as the handshake had to prove it.
    pub fingerprint: Fingerprint,
    /// What the token, the reply or the description said about its addresses.
    pub candidates: Vec<Candidate>,
    /// The longest message it takes, in bytes.
    pub max_message: usize,
}

/// A connected peer. Close it; a dropped link is noticed by the peer only by silence.
pub struct Link {
    connection: Connection,
    channel: Arc<dyn DataChannel>,
    endpoint: Endpoint,
    remote: Remote,
    patience: Duration,
    since: Instant,
    /// Set when the channel has ended: until when late messages are waited for.
    ended: Mutex<Option<Instant>>,
}

impl Link {
    /// # Errors
    /// [`LinkError::Closed`] when `connection` has no open channel.
    pub(super) fn new(
        connection: Connection,
        endpoint: Endpoint,
        remote: Remote,
        patience: Duration,
    ) -> Result<Self, LinkError> {
        let channel = Arc::clone(connection.channel().ok_or(LinkError::Closed)?);
        Ok(Self {
            connection,
            channel,
            endpoint,
            remote,
            patience,
            since: Instant::now(),
            ended: Mutex::new(None),
        })
    }

    /// The next message of the peer.
    ///
    /// # Errors
    /// [`LinkError::Closed`] when no more can come. Waits out silence: see [`Link::lost`].
    pub async fn recv(&self) -> Result<Message, LinkError> {
        loop {
            let ended = *lock(&self.ended);
            let next = async {
                match ended {
                    None => self.channel.poll().await,
                    Some(until) => tokio::time::timeout_at(until.into(), self.channel.poll())
                        .await
                        .unwrap_or_default(),
                }
            };
            let event = tokio::select! {
                biased;
                () = self.connection.crowded() => return Err(LinkError::Crowded),
                event = next => event,
            };
            match event {
                Some(DataChannelEvent::OnMessage(message)) => {
                    if ended.is_some() {
                        *lock(&self.ended) = Some(Instant::now() + LATE);
                    }
                    return Ok(if message.is_string {
                        Message::Control(message.data)
                    } else {
                        Message::Data(message.data)
                    });
                }
                Some(DataChannelEvent::OnClose | DataChannelEvent::OnError)
                    if ended.is_none() && self.remote.kind == PeerKind::Plain =>
                {
                    *lock(&self.ended) = Some(Instant::now() + LATE);
                }
                Some(DataChannelEvent::OnClose | DataChannelEvent::OnError) | None => {
                    return Err(LinkError::Closed);
                }
                Some(_) => {}
            }
        }
    }

    /// Queues a control message, whatever waits before it: control messages are few and bounded.
    ///
    /// # Errors
    /// [`LinkError::Closed`].
    pub async fn send_control(&self, text: &str) -> Result<(), LinkError> {
        self.channel
            .send_text(text)
            .await
            .map_err(|_| LinkError::Closed)
    }

    /// Resolves when [`Link::send_data`] would not wait. Nothing is lost by dropping it.
    ///
    /// # Errors
    /// [`LinkError::Closed`].
    pub async fn writable(&self) -> Result<(), LinkError> {
        let writable = self.channel.writable().await;
        writable.map_err(|_| LinkError::Closed)
    }

    /// Queues file contents.
    ///
    /// # Errors
    /// [`LinkError::Closed`].
    pub async fn send_data(&self, data: BytesMut) -> Result<(), LinkError> {
        self.channel.send(data).await.map_err(|_| LinkError::Closed)
    }

    /// Resolves when the peer was silent for longer than the user's patience.
    pub async fn lost(&self) -> LinkError {
        loop {
            let silence = self.silence();
            if silence >= self.patience {
                return LinkError::Lost(silence);
            }
            tokio::time::sleep(self.patience.saturating_sub(silence)).await;
        }
    }

    /// The user's: how long silence may last.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// For how long nothing was heard. The peer speaks every two seconds, if only to be heard.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.endpoint
            .watch()
            .snapshot()
            .heard
            .unwrap_or(self.since)
            .elapsed()
    }

    /// What is at the other end.
    #[must_use]
    pub fn peer(&self) -> PeerKind {
        self.remote.kind
    }

    /// The longest message that may be sent, in bytes.
    #[must_use]
    pub fn max_message(&self) -> usize {
        self.remote.max_message.min(MAX_MESSAGE as usize)
    }

    /// The fingerprints of our certificate and of the peer's: whoever ends the encryption in the
    /// middle has others.
    #[must_use]
    pub fn fingerprints(&self) -> [Fingerprint; 2] {
        [self.connection.fingerprint, self.remote.fingerprint]
    }

    /// The path that carries data now; `None` before the first data.
    #[must_use]
    pub fn path(&self) -> Option<Path> {
        let seen = self.endpoint.watch().snapshot();
        let carrier = seen.carrier?;
        let remote = self
            .remote
            .candidates
            .iter()
            .find(|candidate| candidate.addr == carrier.remote);
        let remote = remote.map_or(PathKind::Prflx, |candidate| candidate.kind.into());
        let ours = self.endpoint.candidates();
        let local = if carrier.relayed {
            PathKind::Relay
        } else {
            let mapped = ours
                .iter()
                .find(|candidate| Some(candidate.addr) == seen.mapped);
            mapped.map_or(PathKind::Prflx, |candidate| candidate.kind.into())
        };
        Some(Path {
            kind: local.max(remote),
            local: carrier.local,
            remote: carrier.remote,
            round_trip: seen.round_trip,
        })
    }

    /// The peer said that it does not understand the frames of the repair layer: it gets no more.
    pub fn forbid_repair(&self) {
        self.endpoint.watch().layer().forbid();
    }

    /// What the repair layer does; `None` where there is none: at a plain peer.
    #[must_use]
    pub fn repair(&self) -> Option<Stats> {
        self.endpoint.watch().layer().stats()
    }

    /// File contents that the peer has not acknowledged yet, in bytes.
    pub async fn outstanding(&self) -> usize {
        self.channel.outstanding_bytes().await.unwrap_or(0)
    }

    /// Closes. The peer sees the channel end, unless that datagram is lost: then it sees silence.
    pub async fn close(self) {
        let watch = self.endpoint.watch();
        let (before, records) = {
            let seen = watch.snapshot();
            (seen.datagrams_sent, seen.records_sent)
        };
        if self.channel.close().await.is_ok() {
            let left = async {
                while watch.snapshot().datagrams_sent == before {
                    tokio::task::yield_now().await;
                }
                // The crate's driver hands everything queued to the socket in one go.
                tokio::task::yield_now().await;
            };
            // What is paced below leaves a little later.
            let gone = async {
                left.await;
                while watch.layer().is_waiting() {
                    tokio::time::sleep(LOOK).await;
                }
            };
            if tokio::time::timeout(LAST_WORD, gone).await.is_err() {
                log::debug!("the channel's end did not leave in time");
            }
            if self.remote.kind == PeerKind::Plain {
                // RFC 8831 §6.7: the peer resets its side too, and we confirm that. What ends
                // before looks like a broken connection to it.
                let confirmed = async {
                    while watch.snapshot().records_sent < records + 2 {
                        tokio::time::sleep(LOOK).await;
                    }
                };
                if tokio::time::timeout(GOODBYE, confirmed).await.is_err() {
                    log::debug!("the peer did not end the channel on its side");
                }
            }
        }
        // What ends the connection waits for nothing that was lost before.
        watch.layer().forbid();
        self.connection.close().await;
    }
}
