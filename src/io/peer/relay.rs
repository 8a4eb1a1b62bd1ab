//! A TURN allocation (RFC 8656) that looks like one more UDP socket.
//!
//! The client machine of `rtc-turn` does the protocol on the wall clock; this wraps it so that the
//! peer connection sends and receives through the relayed address without knowing. Permissions are
//! asked for when first needed: the datagram that asked is lost, and ICE repeats it.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use rtc_turn::client::{Client, ClientConfig, Event};
use tokio::sync::Notify;
use webrtc::peer_connection::crypto;
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::layer::Way;
use super::socket::{Socket, lock};
use super::watch::{Watch, is_dtls};
use crate::proto::link::repair;
use crate::proto::link::size::{self, Action, Admit, Sizer};
use crate::proto::stun::BINDING_INDICATION;

/// Datagrams that may wait to be read; beyond it they are dropped, as a full socket buffer would.
const MAX_QUEUED: usize = 2048;
/// The allocation is refreshed at least this often, which also keeps the NAT mapping toward the
/// server (30 s is a common lifetime).
const REFRESH: Duration = Duration::from_secs(20);
/// How long a server may take for one answer before the request is sent again.
const RETRANSMISSION_MS: u64 = 300;

/// One allocation on one server, reached through one of our sockets.
pub struct Relay {
    server: SocketAddr,
    via: Weak<Socket>,
    local: SocketAddr,
    state: Mutex<State>,
    watch: Arc<Watch>,
    changed: Arc<Notify>,
}

struct State {
    client: Client,
    relayed: Allocation,
    queue: VecDeque<(SocketAddr, BytesMut)>,
    reader: Option<Waker>,
}

/// How far the allocation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allocation {
    Asking,
    Relayed(SocketAddr),
    Failed(String),
}

impl Relay {
    /// Starts an allocation on `server` through `via`.
    ///
    /// # Errors
    /// When the client machine refuses its configuration.
    pub fn start(
        via: &Arc<Socket>,
        server: SocketAddr,
        username: &str,
        password: &str,
        watch: Arc<Watch>,
        changed: Arc<Notify>,
    ) -> anyhow::Result<Arc<Self>> {
        let local = via.local_addr()?;
        let provider = crypto::default_provider().map_err(|error| anyhow::anyhow!("{error}"))?;
        let config = ClientConfig {
            turn_serv_addr: server.to_string(),
            local_addr: local,
            transport_protocol: TransportProtocol::UDP,
            username: username.to_owned(),
            password: password.to_owned(),
            rto_in_ms: RETRANSMISSION_MS,
            allocation_refresh_interval_cap: Some(REFRESH),
            ..ClientConfig::default()
        };
        let mut client = Client::new(config, provider)?;
        client.allocate(Instant::now())?;
        let relay = Arc::new(Self {
            server,
            via: Arc::downgrade(via),
            local,
            state: Mutex::new(State {
                client,
                relayed: Allocation::Asking,
                queue: VecDeque::new(),
                reader: None,
            }),
            watch,
            changed,
        });
        via.set_relay(Arc::clone(&relay));
        relay.flush(&mut lock(&relay.state));
        Ok(relay)
    }

    pub fn server(&self) -> SocketAddr {
        self.server
    }

    pub fn allocation(&self) -> Allocation {
        lock(&self.state).relayed.clone()
    }

    /// A datagram came from the server.
    pub fn handle_datagram(&self, datagram: &[u8]) {
        let mut state = lock(&self.state);
        let message = TaggedBytesMut {
            now: Instant::now(),
            transport: TransportContext {
                local_addr: self.local,
                peer_addr: self.server,
                ecn: None,
                transport_protocol: TransportProtocol::UDP,
            },
            message: BytesMut::from(datagram),
        };
        if let Err(error) = state.client.handle_read(message) {
            log::debug!("TURN server {}: {error}", self.server);
        }
        self.flush(&mut state);
    }

    /// Timers of the allocation and its permissions.
    pub fn handle_timeout(&self, now: Instant) {
        let mut state = lock(&self.state);
        if let Err(error) = state.client.handle_timeout(now) {
            log::debug!("TURN server {}: {error}", self.server);
        }
        self.flush(&mut state);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        lock(&self.state).client.poll_timeout()
    }

    /// Lets `peer` send to the relayed address (RFC 8656 §9).
    pub fn permit(&self, peer: SocketAddr) {
        let mut state = lock(&self.state);
        self.send_through(&mut state, peer, None);
        self.flush(&mut state);
    }

    fn send_through(&self, state: &mut State, peer: SocketAddr, contents: Option<&[u8]>) {
        let Allocation::Relayed(relayed) = state.relayed else {
            return;
        };
        let now = Instant::now();
        let Ok(mut relay) = state.client.relay(relayed) else {
            return;
        };
        let sent = match contents {
            Some(contents) => relay.send_to(now, contents, peer).is_ok(),
            None => false,
        };
        if !sent && let Err(error) = relay.create_permission(now, peer) {
            log::debug!("permission for {peer} on {}: {error}", self.server);
        }
    }

    /// Takes in what the machine found out, then sends what it wants sent.
    fn flush(&self, state: &mut State) {
        while let Some(event) = state.client.poll_event() {
            match event {
                Event::AllocateResponse(_, relayed) => {
                    state.relayed = Allocation::Relayed(relayed);
                    self.changed.notify_one();
                }
                Event::AllocateError(_, error) => {
                    state.relayed = Allocation::Failed(error.to_string());
                    self.changed.notify_one();
                }
                Event::TransactionTimeout(_) if state.relayed == Allocation::Asking => {
                    state.relayed = Allocation::Failed("no answer".to_owned());
                    self.changed.notify_one();
                }
                Event::DataIndicationOrChannelData(_, from, contents) => {
                    let received = self
                        .watch
                        .handle_received(self.local, None, from, true, &contents);
                    for datagram in received.again {
                        self.send_through(state, from, Some(&datagram));
                    }
                    if received.taken {
                        continue;
                    }
                    if repair::frame::is_frame(&contents) {
                        if self.watch.is_peer(from) {
                            self.watch
                                .layer()
                                .handle_frame(self.way(from), &contents, false);
                            self.take_repaired(state, from);
                        }
                        continue;
                    }
                    let contents = if Sizer::is_frame(&contents) {
                        match self.watch.handle_frame(from, &contents) {
                            Action::Deliver(datagram) if repair::frame::is_frame(&datagram) => {
                                self.watch
                                    .layer()
                                    .handle_frame(self.way(from), &datagram, false);
                                self.take_repaired(state, from);
                                continue;
                            }
                            Action::Deliver(datagram) => datagram.as_slice().into(),
                            Action::Reply(frame) => {
                                self.send_through(state, from, Some(&frame));
                                continue;
                            }
                            Action::Nothing => continue,
                        }
                    } else {
                        if is_dtls(&contents) {
                            self.watch
                                .layer()
                                .handle_bare(std::iter::once(&contents[..]));
                        }
                        contents
                    };
                    // A keep-alive of the peer wants nothing more.
                    if !contents.starts_with(&BINDING_INDICATION) && state.queue.len() < MAX_QUEUED
                    {
                        state.queue.push_back((from, contents));
                        if let Some(reader) = state.reader.take() {
                            reader.wake();
                        }
                    }
                }
                Event::CreatePermissionError(_, error) => {
                    log::debug!("permission on {}: {error}", self.server);
                }
                _ => {}
            }
        }
        self.pass_frames(state);
        let via = self.via.upgrade();
        while let Some(out) = state.client.poll_write() {
            if let Some(via) = &via
                && let Err(error) = via.send_beside(self.server, &out.message)
            {
                log::debug!("send to TURN server {}: {error}", self.server);
                if state.relayed == Allocation::Asking {
                    state.relayed = Allocation::Failed(error.to_string());
                    self.changed.notify_one();
                }
            }
        }
    }

    /// Hands over what the repair layer has put into order: none of it is dropped here, and it is
    /// bounded there.
    fn take_repaired(&self, state: &mut State, from: SocketAddr) {
        while let Some(datagram) = self.watch.layer().poll_datagram() {
            for again in self.watch.handle_unframed(&datagram) {
                self.send_through(state, from, Some(&again));
            }
            state.queue.push_back((from, datagram.as_slice().into()));
        }
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    /// Passes on what the repair layer wants sent through the relay now.
    fn pass_frames(&self, state: &mut State) {
        let layer = self.watch.layer();
        while let Some((way, batch)) = layer.poll_batch() {
            if !way.relayed || way.local != self.local {
                // The timer knows the socket.
                layer.give_back(batch);
                return;
            }
            self.transmit(state, way.remote, &batch.frames, batch.size);
            if layer.poll_suspicion() {
                self.watch.doubt_size(way.remote);
            }
        }
    }

    /// The same, at a time of the layer's own.
    pub fn drive(&self) {
        self.flush(&mut lock(&self.state));
    }

    /// Sends datagrams of `step` bytes (the last may be shorter), as pieces where needed.
    fn transmit(&self, state: &mut State, to: SocketAddr, contents: &[u8], step: usize) {
        let admit = if step > size::SAFE {
            self.watch.admit(to)
        } else {
            Admit::Whole
        };
        if let Admit::Pieces { probe: Some(probe) } = &admit {
            self.send_through(state, to, Some(probe));
        }
        for datagram in contents.chunks(step) {
            if admit == Admit::Whole || datagram.len() <= size::SAFE {
                self.send_through(state, to, Some(datagram));
            } else {
                for piece in self.watch.cut(datagram) {
                    self.send_through(state, to, Some(&piece));
                }
            }
        }
    }

    fn way(&self, remote: SocketAddr) -> Way {
        Way {
            local: self.local,
            remote,
            relayed: true,
        }
    }

    /// Gives the allocation back (RFC 8656 §7: a Refresh with lifetime zero), best effort.
    pub fn release(&self) {
        let mut state = lock(&self.state);
        if let Allocation::Relayed(relayed) = state.relayed
            && let Ok(mut relay) = state.client.relay(relayed)
            && let Err(error) = relay.close(Instant::now())
        {
            log::debug!("release of {relayed}: {error}");
        }
        self.flush(&mut state);
    }

    /// Sends one datagram now, beside the crate.
    pub fn send_beside(&self, to: SocketAddr, contents: &[u8]) {
        let mut state = lock(&self.state);
        self.send_through(&mut state, to, Some(contents));
        self.flush(&mut state);
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for Relay {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        match lock(&self.state).relayed {
            Allocation::Relayed(relayed) => Ok(relayed),
            _ => Ok(self.local),
        }
    }

    fn poll_send(&self, _: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.state);
        let to = transmit.destination;
        let step = transmit
            .segment_size
            .unwrap_or(transmit.contents.len())
            .max(1);
        let way = self.way(to);
        let framed =
            is_dtls(transmit.contents) && self.watch.layer().take(way, transmit.contents, step);
        if !framed {
            self.transmit(&mut state, to, transmit.contents, step);
        }
        self.flush(&mut state);
        drop(state);
        self.watch.handle_sent(transmit.contents, framed);
        Poll::Ready(Ok(transmit.contents.len()))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (Some(buf), Some(meta)) = (bufs.first_mut(), meta.first_mut()) else {
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        };
        let mut state = lock(&self.state);
        let Some((from, contents)) = state.queue.pop_front() else {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let len = contents.len().min(buf.len());
        buf[..len].copy_from_slice(&contents[..len]);
        *meta = RecvMeta::default();
        (meta.addr, meta.len, meta.stride) = (from, len, len.max(1));
        Poll::Ready(Ok(1))
    }
}
