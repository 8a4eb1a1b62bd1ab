//! One UDP socket of ours: it gathers, waits, and then carries a connection of the `webrtc` crate.
//!
//! Answers of STUN and TURN servers are taken out on the way in, so that the mapping can be kept
//! alive and a relay be used while the crate owns the reading side; everything else passes.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use socket2::SockRef;
use tokio::sync::Notify;
use webrtc::runtime::{AsyncUdpSocket, EcnCodepoint, RecvMeta, Runtime, TokioRuntime, Transmit};

use super::layer::Way;
use super::relay::Relay;
use super::watch::{Watch, is_dtls};
use crate::proto::link::repair;
use crate::proto::link::size::{self, Action, Admit, Sizer};
use crate::proto::stun::BINDING_INDICATION;
use crate::proto::stun::reflexive::Reflexive;

/// Asked of the kernel: at 500 MiB/s this holds 8 ms of traffic, a scheduling pause.
const BUFFER: usize = 4 << 20;
/// Peers whose packets' destination is remembered, so that answers leave from the same address.
const MAX_ROUTES: usize = 32;

/// A bound UDP socket and what listens on it besides the crate.
pub struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    /// The same socket, for datagrams sent beside the crate (never waits).
    raw: UdpSocket,
    local: SocketAddr,
    granted: Granted,
    /// More than one local address: answers must leave from the address that was asked.
    many_homed: bool,
    routes: Mutex<Vec<(SocketAddr, IpAddr)>>,
    /// Datagrams read before the crate took over, handed to it first; and who waits for them.
    replay: Mutex<Replay>,
    reflexive: Mutex<Reflexive>,
    relay: Mutex<Option<Arc<Relay>>>,
    watch: Arc<Watch>,
    /// Rings when a timer of ours may have moved.
    changed: Arc<Notify>,
}

/// Datagrams that the crate reads before those on the socket, and who waits for one.
#[derive(Default)]
struct Replay {
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    reader: Option<Waker>,
}

impl Replay {
    /// Moves what waits into `buf`: one datagram, or several of one size (the last may be
    /// shorter) as the kernel would. Who sent it, how much it is, and the size.
    fn fill(&mut self, buf: &mut [u8]) -> Option<(SocketAddr, usize, usize)> {
        let (from, first) = self.datagrams.pop_front()?;
        let size = first.len().min(buf.len());
        buf[..size].copy_from_slice(&first[..size]);
        let mut len = size;
        while let Some((_, next)) = self.datagrams.pop_front_if(|(other, next)| {
            *other == from && next.len() <= size && len + next.len() <= buf.len()
        }) {
            buf[len..len + next.len()].copy_from_slice(&next);
            len += next.len();
            if next.len() < size {
                break;
            }
        }
        Some((from, len, size.max(1)))
    }
}

/// What the kernel reports of its buffers, in bytes (Linux reports twice the usable size).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    pub receive: usize,
    pub send: usize,
}

impl Socket {
    /// Binds `addr`, enlarges the buffers and starts asking nobody yet.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn bind(
        addr: SocketAddr,
        many_homed: bool,
        seed: [u8; 32],
        watch: Arc<Watch>,
        changed: Arc<Notify>,
    ) -> io::Result<Self> {
        let domain = socket2::Domain::for_address(addr);
        let socket =
            socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&addr.into())?;
        let socket: UdpSocket = socket.into();
        socket.set_nonblocking(true)?;
        let granted = enlarge(&socket)?;
        let raw = socket.try_clone()?;
        let local = socket.local_addr()?;
        Ok(Self {
            inner: TokioRuntime.wrap_udp_socket(socket)?,
            raw,
            local,
            granted,
            many_homed,
            routes: Mutex::default(),
            replay: Mutex::default(),
            reflexive: Mutex::new(Reflexive::new(Instant::now(), seed, &[])),
            relay: Mutex::default(),
            watch,
            changed,
        })
    }

    pub fn granted(&self) -> Granted {
        self.granted
    }

    /// Works on the STUN machine of this socket, then sends what it wants sent.
    pub fn with_reflexive<T>(&self, work: impl FnOnce(&mut Reflexive) -> T) -> T {
        let mut machine = lock(&self.reflexive);
        let result = work(&mut machine);
        while let Some((server, request)) = machine.poll_transmit() {
            if let Err(error) = self.send_beside(server, &request) {
                log::debug!("STUN request to {server} from {}: {error}", self.local);
                machine.handle_send_error(Instant::now(), server);
            }
        }
        result
    }

    /// When the STUN machine of this socket has work.
    pub fn poll_reflexive_timeout(&self) -> Option<Instant> {
        lock(&self.reflexive).poll_timeout()
    }

    /// Routes datagrams of a TURN server to `relay`.
    pub fn set_relay(&self, relay: Arc<Relay>) {
        *lock(&self.relay) = Some(relay);
    }

    /// Sends one datagram now, beside the crate. A full buffer drops it, as the network may.
    ///
    /// # Errors
    /// When the system refuses the destination.
    pub fn send_beside(&self, to: SocketAddr, contents: &[u8]) -> io::Result<()> {
        match self.raw.send_to(contents, to) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Hands a datagram that was read beside the crate to the crate, as if it came now.
    pub fn replay(&self, from: SocketAddr, contents: &[u8]) {
        let mut replay = lock(&self.replay);
        replay.datagrams.push_back((from, contents.to_vec()));
        if let Some(reader) = replay.reader.take() {
            reader.wake();
        }
    }

    /// Takes what is not for the peer connection. True when nothing is left to pass on.
    fn swallow(&self, meta: &RecvMeta, contents: &[u8]) -> bool {
        if meta.len == 0 {
            return true;
        }
        let mut taken = false;
        // One server may be both: each machine takes only answers to its own requests.
        let relay = lock(&self.relay).clone();
        if let Some(relay) = relay.filter(|relay| relay.server() == meta.addr) {
            for datagram in contents.chunks(meta.stride.max(1)) {
                relay.handle_datagram(datagram);
            }
            taken = true;
        }
        if contents[0] <= 1 {
            let mut reflexive = lock(&self.reflexive);
            if reflexive.is_server(meta.addr) {
                for datagram in contents.chunks(meta.stride.max(1)) {
                    reflexive.handle_datagram(Instant::now(), meta.addr, datagram);
                }
                taken = true;
            }
        }
        if taken {
            self.changed.notify_one();
        }
        taken || contents.starts_with(&BINDING_INDICATION)
    }

    /// Takes our own layer's frames out of what came in. True when there was one: then whatever
    /// else came with it waits in `replay`, in order.
    fn take_frames(&self, cx: &mut Context<'_>, meta: &RecvMeta, contents: &[u8]) -> bool {
        let datagrams = || contents.chunks(meta.stride.max(1));
        let is_frame =
            |datagram: &[u8]| Sizer::is_frame(datagram) || repair::frame::is_frame(datagram);
        if !datagrams().any(is_frame) {
            if is_dtls(contents) {
                self.watch.layer().handle_bare(datagrams());
                self.drive(cx);
            }
            return false;
        }
        let way = self.way(meta.addr);
        for datagram in datagrams() {
            let passed = if repair::frame::is_frame(datagram) {
                let marked = meta.ecn == Some(EcnCodepoint::Ce);
                if self.watch.is_peer(meta.addr) {
                    self.watch.layer().handle_frame(way, datagram, marked);
                }
                continue;
            } else if Sizer::is_frame(datagram) {
                match self.watch.handle_frame(meta.addr, datagram) {
                    Action::Reply(frame) => {
                        let src_ip = self.route_back(meta.addr);
                        self.send_now(cx, meta.addr, &frame, src_ip);
                        continue;
                    }
                    Action::Nothing => continue,
                    Action::Deliver(datagram) if repair::frame::is_frame(&datagram) => {
                        self.watch.layer().handle_frame(way, &datagram, false);
                        continue;
                    }
                    Action::Deliver(datagram) => datagram,
                }
            } else {
                datagram.to_vec()
            };
            lock(&self.replay).datagrams.push_back((meta.addr, passed));
        }
        while let Some(datagram) = self.watch.layer().poll_datagram() {
            for again in self.watch.handle_unframed(&datagram) {
                self.send_now(cx, meta.addr, &again, self.route_back(meta.addr));
            }
            lock(&self.replay)
                .datagrams
                .push_back((meta.addr, datagram));
        }
        self.drive(cx);
        true
    }

    /// Sends what the repair layer wants sent through this socket now.
    pub fn drive(&self, cx: &mut Context<'_>) {
        let layer = self.watch.layer();
        while let Some((way, batch)) = layer.poll_batch() {
            if way.relayed || way.local != self.local {
                // The timer knows the socket.
                layer.give_back(batch);
                return;
            }
            let transmit = Transmit {
                destination: way.remote,
                ecn: batch.markable.then_some(EcnCodepoint::Ect0),
                contents: &batch.frames,
                segment_size: Some(batch.size),
                src_ip: None,
            };
            if self.transmit(cx, &transmit).is_pending() {
                layer.give_back(batch);
                return;
            }
            if layer.poll_suspicion() {
                self.watch.doubt_size(way.remote);
            }
        }
    }

    /// Sends one datagram or several of one size; as pieces where the path may not carry them.
    fn transmit(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<()> {
        let src_ip = self.route_back(transmit.destination);
        let to = transmit.destination;
        let step = transmit.segment_size.unwrap_or(transmit.contents.len());
        if step > size::SAFE
            && let Admit::Pieces { probe } = self.watch.admit(to)
        {
            for datagram in probe
                .iter()
                .map(Vec::as_slice)
                .chain(transmit.contents.chunks(step))
            {
                if datagram.len() <= size::SAFE || Sizer::is_frame(datagram) {
                    self.send_now(cx, to, datagram, src_ip);
                } else {
                    for piece in self.watch.cut(datagram) {
                        self.send_now(cx, to, &piece, src_ip);
                    }
                }
            }
            return Poll::Ready(());
        }
        let transmit = Transmit {
            destination: to,
            ecn: transmit.ecn,
            contents: transmit.contents,
            segment_size: transmit.segment_size,
            src_ip,
        };
        // A network that is away for a moment must not end the connection: to ICE and SCTP this
        // is a lost datagram.
        if let Err(error) = ready!(self.inner.poll_send(cx, &transmit)) {
            log::debug!("send to {to} from {}: {error}", self.local);
        }
        Poll::Ready(())
    }

    /// Sends one datagram, or loses it when the socket is full, as the network may.
    fn send_now(
        &self,
        cx: &mut Context<'_>,
        to: SocketAddr,
        contents: &[u8],
        src_ip: Option<IpAddr>,
    ) {
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents,
            segment_size: None,
            src_ip,
        };
        if let Poll::Ready(Err(error)) = self.inner.poll_send(cx, &transmit) {
            log::debug!("send to {to} from {}: {error}", self.local);
        }
    }

    fn way(&self, remote: SocketAddr) -> Way {
        Way {
            local: self.local,
            remote,
            relayed: false,
        }
    }

    /// The address that `peer` knows us by, when there are several.
    fn route_back(&self, peer: SocketAddr) -> Option<IpAddr> {
        if !self.many_homed {
            return None;
        }
        let routes = lock(&self.routes);
        routes
            .iter()
            .find(|(known, _)| *known == peer)
            .map(|(_, ip)| *ip)
    }

    fn remember_route(&self, from: SocketAddr, to: IpAddr) {
        let mut routes = lock(&self.routes);
        match routes.iter_mut().find(|(peer, _)| *peer == from) {
            Some(route) => route.1 = to,
            None => {
                if routes.len() == MAX_ROUTES {
                    routes.remove(0);
                }
                routes.push((from, to));
            }
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("local", &self.local)
            .field("granted", &self.granted)
            .finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for Socket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let way = self.way(transmit.destination);
        let step = transmit.segment_size.unwrap_or(transmit.contents.len());
        let framed =
            is_dtls(transmit.contents) && self.watch.layer().take(way, transmit.contents, step);
        if framed {
            self.drive(cx);
        } else {
            ready!(self.transmit(cx, transmit));
        }
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
        loop {
            let mut replay = lock(&self.replay);
            if let Some((from, len, stride)) = replay.fill(buf) {
                *meta = RecvMeta::default();
                (meta.addr, meta.len, meta.stride) = (from, len, stride);
                return Poll::Ready(Ok(1));
            }
            let known = replay
                .reader
                .as_ref()
                .is_some_and(|reader| reader.will_wake(cx.waker()));
            if !known {
                replay.reader = Some(cx.waker().clone());
            }
            drop(replay);
            ready!(self.inner.poll_recv(
                cx,
                std::slice::from_mut(buf),
                std::slice::from_mut(meta)
            ))?;
            let contents = &buf[..meta.len.min(buf.len())];
            let datagram = &contents[..meta.stride.min(contents.len())];
            if self.many_homed
                && let Some(to) = meta.dst_ip
            {
                self.remember_route(meta.addr, to);
            }
            let received =
                self.watch
                    .handle_received(self.local, meta.dst_ip, meta.addr, false, datagram);
            for datagram in received.again {
                self.send_now(cx, meta.addr, &datagram, self.route_back(meta.addr));
            }
            if received.taken {
                continue;
            }
            // Junk goes before it costs the crate a copy and a look: a flood of it is slower then.
            if !self.swallow(meta, contents)
                && !self.watch.is_junk(meta.addr, datagram)
                && !self.take_frames(cx, meta, contents)
            {
                return Poll::Ready(Ok(1));
            }
        }
    }

    fn max_gso_segments(&self) -> usize {
        self.inner.max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.inner.max_gro_segments()
    }
}

/// Asks for large buffers and reports what was granted; a kernel limit is not an error.
fn enlarge(socket: &UdpSocket) -> io::Result<Granted> {
    let socket = SockRef::from(socket);
    for (what, result) in [
        ("receive", socket.set_recv_buffer_size(BUFFER)),
        ("send", socket.set_send_buffer_size(BUFFER)),
    ] {
        if let Err(error) = result {
            log::debug!("{what} buffer of {BUFFER} bytes: {error}");
        }
    }
    Ok(Granted {
        receive: socket.recv_buffer_size()?,
        send: socket.send_buffer_size()?,
    })
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
