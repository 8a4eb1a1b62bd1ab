//! A connected peer: messages both ways, the chosen path, and how it ends.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use webrtc::data_channel::{DataChannel, DataChannelEvent};

use super::connection::Connection;
use super::endpoint::Endpoint;
use crate::proto::token::{Candidate, Kind};

/// How long the last message may take to leave this machine.
const LAST_WORD: Duration = Duration::from_millis(300);

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

/// A connected peer. Close it; a dropped link is noticed by the peer only by silence.
pub struct Link {
    connection: Connection,
    channel: Arc<dyn DataChannel>,
    endpoint: Endpoint,
    /// What the token or reply said about the peer's addresses.
    remote: Vec<Candidate>,
    patience: Duration,
    since: Instant,
}

impl Link {
    /// # Errors
    /// [`LinkError::Closed`] when `connection` has no open channel.
    pub(super) fn new(
        connection: Connection,
        endpoint: Endpoint,
        remote: Vec<Candidate>,
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
        })
    }

    /// The next message of the peer.
    ///
    /// # Errors
    /// [`LinkError::Closed`] when no more can come. Waits out silence: see [`Link::lost`].
    pub async fn recv(&self) -> Result<Message, LinkError> {
        loop {
            let event = tokio::select! {
                biased;
                () = self.connection.crowded() => return Err(LinkError::Crowded),
                event = self.channel.poll() => event,
            };
            match event {
                Some(DataChannelEvent::OnMessage(message)) if message.is_string => {
                    return Ok(Message::Control(message.data));
                }
                Some(DataChannelEvent::OnMessage(message)) => {
                    return Ok(Message::Data(message.data));
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
        self.channel.writable().await.map_err(|_| LinkError::Closed)
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

    /// The path that carries data now; `None` before the first data.
    #[must_use]
    pub fn path(&self) -> Option<Path> {
        let seen = self.endpoint.watch().snapshot();
        let carrier = seen.carrier?;
        let remote = self
            .remote
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

    /// File contents that the peer has not acknowledged yet, in bytes.
    pub async fn outstanding(&self) -> usize {
        self.channel.outstanding_bytes().await.unwrap_or(0)
    }

    /// Closes. The peer sees the channel end, unless that datagram is lost: then it sees silence.
    pub async fn close(self) {
        let before = self.endpoint.watch().snapshot().datagrams_sent;
        if self.channel.close().await.is_ok() {
            let left = async {
                while self.endpoint.watch().snapshot().datagrams_sent == before {
                    tokio::task::yield_now().await;
                }
                // The crate's driver hands everything queued to the socket in one go.
                tokio::task::yield_now().await;
            };
            if tokio::time::timeout(LAST_WORD, left).await.is_err() {
                log::debug!("the channel's end did not leave in time");
            }
        }
        self.connection.close().await;
    }
}
