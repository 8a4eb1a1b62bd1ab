//! The sockets of one side, from gathering to the end of the connection.
//!
//! Binds one socket a family, asks the STUN servers, allocates on the TURN server, keeps the
//! mappings alive on the wall clock, and reads what comes in until a peer connection takes the
//! reading over.

use std::fmt;
use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use webrtc::runtime::{AsyncUdpSocket, RecvMeta};

use super::connection::room;
use super::interfaces;
use super::relay::{Allocation, Relay};
use super::socket::{Granted, Socket, lock};
use super::watch::Watch;
use crate::io::random;
use crate::proto::link::repair::frame::Keys;
use crate::proto::stun;
use crate::proto::stun::reflexive::{Event, Failure};
use crate::proto::token::{Candidate, Kind};

/// Gathering ends this late at the latest, whatever servers do.
pub const GATHER_BOUND: Duration = Duration::from_secs(3);
/// How long the second family may lag behind the first answer.
const SECOND_FAMILY: Duration = Duration::from_millis(150);
/// Between two times that the timer drives the repair layer, at least.
const LAYER_PAUSE: Duration = Duration::from_micros(200);
/// Datagrams read for us that may wait; more are dropped, as a socket would.
const MAX_WAITING: usize = 64;
/// Addresses of one server name that are asked, per family.
const ADDRESSES_PER_NAME: usize = 1;
/// Where a STUN or TURN server is, as the user named it. UDP.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// A host name, or an address without brackets.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A TURN server with its long-term credentials (RFC 8489 §9.2).
#[derive(Clone)]
pub struct TurnServer {
    pub server: Server,
    pub username: String,
    pub password: String,
}

impl fmt::Debug for TurnServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnServer")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// How to reach the network.
#[derive(Debug, Clone)]
pub struct Network {
    pub stun: Vec<Server>,
    pub turn: Option<TurnServer>,
    pub ipv4: bool,
    pub ipv6: bool,
    /// Bind here instead of all interfaces; port 0 for any.
    pub bind: Option<SocketAddr>,
    /// The longest silence of the peer that the link waits out.
    pub patience: Duration,
    /// Repair loss below DTLS where that pays and the peer can too.
    pub repair: bool,
}

/// What there is to say about the sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A STUN or TURN server is of no use, and why.
    ServerFailed { server: String, why: String },
    /// The NAT gave our socket another address: what was advertised no longer works.
    MappingMoved { from: SocketAddr, to: SocketAddr },
}

/// A datagram read while no peer connection owns the sockets.
#[derive(Debug)]
pub struct Incoming {
    pub from: SocketAddr,
    pub contents: Vec<u8>,
    port: Port,
}

/// What [`Endpoint::next`] brings.
#[derive(Debug)]
pub enum Next {
    Notice(Notice),
    Incoming(Incoming),
}

/// Where a datagram came in.
#[derive(Debug, Clone)]
enum Port {
    Direct(Arc<Socket>),
    Relayed(Arc<Relay>),
}

/// The sockets of one side. Dropping it closes them and gives a relay back.
pub struct Endpoint {
    inner: Arc<Inner>,
    timers: [JoinHandle<()>; 2],
    incoming: mpsc::Receiver<Incoming>,
    notices: mpsc::UnboundedReceiver<Notice>,
}

struct Inner {
    sockets: Vec<Arc<Socket>>,
    relay: Mutex<Option<Arc<Relay>>>,
    watch: Arc<Watch>,
    changed: Arc<Notify>,
    gathered: Notify,
    state: Mutex<Gathering>,
    notices: mpsc::UnboundedSender<Notice>,
    incoming: mpsc::Sender<Incoming>,
    readers: Mutex<Vec<JoinHandle<()>>>,
    local: Vec<IpAddr>,
    repair: bool,
    started: Instant,
}

/// What is still open while gathering.
#[derive(Debug, Default)]
struct Gathering {
    /// Names not resolved yet.
    names: usize,
    turn: bool,
    first_answer: Option<Instant>,
    /// The name the user gave for each address asked.
    asked: Vec<(SocketAddr, String)>,
    failed: Vec<SocketAddr>,
}

impl Endpoint {
    /// Binds the sockets and starts gathering.
    ///
    /// # Errors
    /// When no socket can be bound.
    pub fn open(network: &Network) -> anyhow::Result<Self> {
        let watch = Arc::new(Watch::new(network.patience, seed()?));
        let changed = Arc::new(Notify::new());
        let local = match network.bind {
            Some(addr) if !addr.ip().is_unspecified() => vec![addr.ip()],
            _ => interfaces::local_addresses(),
        };
        let mut sockets = vec![];
        let mut failures = vec![];
        for addr in bind_addresses(network) {
            let family: Vec<&IpAddr> = local
                .iter()
                .filter(|ip| ip.is_ipv4() == addr.is_ipv4())
                .collect();
            let many_homed = addr.ip().is_unspecified() && family.len() > 1;
            match Socket::bind(
                addr,
                many_homed,
                seed()?,
                Arc::clone(&watch),
                Arc::clone(&changed),
            ) {
                Ok(socket) => sockets.push(Arc::new(socket)),
                Err(error) => failures.push(format!("bind {addr}: {error}")),
            }
        }
        if sockets.is_empty() {
            anyhow::bail!("{}", failures.join("; "));
        }
        let (notices_tx, notices) = mpsc::unbounded_channel();
        let (incoming_tx, incoming) = mpsc::channel(MAX_WAITING);
        let inner = Arc::new(Inner {
            sockets,
            relay: Mutex::default(),
            watch,
            changed,
            gathered: Notify::new(),
            state: Mutex::default(),
            notices: notices_tx,
            incoming: incoming_tx,
            readers: Mutex::default(),
            local,
            repair: network.repair,
            started: Instant::now(),
        });
        let timers = [
            tokio::spawn(run_timers(Arc::clone(&inner))),
            tokio::spawn(run_layer(Arc::clone(&inner))),
        ];
        let endpoint = Self {
            inner,
            timers,
            incoming,
            notices,
        };
        endpoint.take_reading_back();
        endpoint.ask(network);
        Ok(endpoint)
    }

    /// Resolves when the candidates are known: at once when servers answer, [`GATHER_BOUND`] after
    /// the start at the latest.
    pub fn gathered(&self) -> impl Future<Output = ()> + use<> {
        let inner = Arc::clone(&self.inner);
        async move {
            let bound = inner.started + GATHER_BOUND;
            loop {
                let until = match inner.still_gathering() {
                    Wait::Done => break,
                    Wait::Until(at) => at.min(bound),
                    Wait::Open => bound,
                };
                if until <= Instant::now() {
                    break;
                }
                tokio::select! {
                    () = inner.gathered.notified() => {}
                    () = tokio::time::sleep_until(until.into()) => {}
                }
            }
            inner.report_silent();
        }
    }

    /// What a peer can be told now, the most useful first.
    pub fn candidates(&self) -> Vec<Candidate> {
        let mut all = vec![];
        for socket in &self.inner.sockets {
            let Ok(local) = socket.local_addr() else {
                continue;
            };
            for ip in self
                .inner
                .local
                .iter()
                .filter(|ip| ip.is_ipv4() == local.is_ipv4())
            {
                all.push(Candidate {
                    kind: Kind::Host,
                    addr: SocketAddr::new(*ip, local.port()),
                });
            }
            if let Some(addr) = socket.with_reflexive(|machine| machine.mapped())
                && !all.iter().any(|known| known.addr == addr)
            {
                all.push(Candidate {
                    kind: Kind::Srflx,
                    addr,
                });
            }
        }
        if let Some(relay) = lock(&self.inner.relay).as_ref()
            && let Allocation::Relayed(addr) = relay.allocation()
        {
            all.push(Candidate {
                kind: Kind::Relay,
                addr,
            });
        }
        all
    }

    /// The next datagram (while no peer connection reads) or the next thing to say.
    pub async fn next(&mut self) -> Next {
        tokio::select! {
            Some(notice) = self.notices.recv() => Next::Notice(notice),
            Some(incoming) = self.incoming.recv() => Next::Incoming(incoming),
            // Both senders live as long as `inner`.
            else => std::future::pending().await,
        }
    }

    /// A thing to say that is already known.
    pub fn try_notice(&mut self) -> Option<Notice> {
        self.notices.try_recv().ok()
    }

    /// Hands a datagram read here to the peer connection that takes over.
    pub fn replay(incoming: &Incoming) {
        if let Port::Direct(socket) = &incoming.port {
            socket.replay(incoming.from, &incoming.contents);
        }
    }

    /// Opens our NAT (and our relay) toward `peer`: one STUN request from every socket.
    pub fn open_toward(&self, peer: SocketAddr) {
        let Ok(transaction) = random() else {
            return;
        };
        let request = stun::bare_message(stun::BINDING_REQUEST, &transaction);
        for socket in self.inner.sockets_toward(peer) {
            if let Err(error) = socket.send_beside(peer, &request) {
                log::debug!("open toward {peer}: {error}");
            }
        }
        if let Some(relay) = lock(&self.inner.relay).as_ref() {
            relay.permit(peer);
            relay.send_beside(peer, &request);
        }
    }

    /// The sockets for a peer connection, which reads from now on.
    pub async fn hand_reading_over(&self) -> Vec<Arc<dyn AsyncUdpSocket>> {
        let readers = std::mem::take(&mut *lock(&self.inner.readers));
        for reader in readers {
            reader.abort();
            // A reader that was aborted, or that had ended: both are what is wanted here.
            let _ = reader.await;
        }
        let mut all: Vec<Arc<dyn AsyncUdpSocket>> = vec![];
        for socket in &self.inner.sockets {
            all.push(Arc::clone(socket) as Arc<dyn AsyncUdpSocket>);
        }
        if let Some(relay) = lock(&self.inner.relay).as_ref()
            && matches!(relay.allocation(), Allocation::Relayed(_))
        {
            all.push(Arc::clone(relay) as Arc<dyn AsyncUdpSocket>);
        }
        all
    }

    /// Reads here again (a joiner did not finish).
    pub fn take_reading_back(&self) {
        for socket in &self.inner.sockets {
            self.inner.start_reader(Port::Direct(Arc::clone(socket)));
        }
        if let Some(relay) = lock(&self.inner.relay).as_ref() {
            self.inner.start_reader(Port::Relayed(Arc::clone(relay)));
        }
    }

    /// The addresses of this machine that are in use, the likeliest way to a peer first.
    pub fn local(&self) -> &[IpAddr] {
        &self.inner.local
    }

    /// Whether this side may send through the repair layer.
    pub fn repairs(&self) -> bool {
        self.inner.repair
    }

    /// Understands the frames of the repair layer from now on, as does whoever has these keys: so
    /// it sends them too, where this side wants to.
    ///
    /// # Errors
    /// When the system has no entropy.
    pub fn start_layer(&self, keys: Keys) -> anyhow::Result<()> {
        let seed = u64::from_ne_bytes(random()?);
        let room = u32::try_from(room(self.granted())).unwrap_or(u32::MAX);
        let layer = self.inner.watch.layer();
        layer.start(keys, seed, room, self.inner.repair);
        Ok(())
    }

    pub fn watch(&self) -> &Arc<Watch> {
        &self.inner.watch
    }

    /// The smallest buffers the kernel granted to any socket.
    pub fn granted(&self) -> Granted {
        let receive = self
            .inner
            .sockets
            .iter()
            .map(|s| s.granted().receive)
            .min()
            .unwrap_or(0);
        let send = self
            .inner
            .sockets
            .iter()
            .map(|s| s.granted().send)
            .min()
            .unwrap_or(0);
        Granted { receive, send }
    }

    /// Every address that STUN servers saw for each socket; two or more for one socket mean an
    /// endpoint-dependent mapping.
    pub fn mappings(&self) -> Vec<Vec<SocketAddr>> {
        self.inner
            .sockets
            .iter()
            .map(|s| s.with_reflexive(|machine| machine.all_mapped()))
            .collect()
    }

    fn ask(&self, network: &Network) {
        let mut state = lock(&self.inner.state);
        state.names = network.stun.len();
        state.turn = network.turn.is_some();
        drop(state);
        for server in network.stun.clone() {
            let inner = Arc::clone(&self.inner);
            tokio::spawn(async move {
                let found = resolve(&server).await;
                inner.ask_stun(&server, found);
            });
        }
        if let Some(turn) = network.turn.clone() {
            let inner = Arc::clone(&self.inner);
            tokio::spawn(async move {
                let found = resolve(&turn.server).await;
                match found.and_then(|addrs| inner.start_relay(&turn, &addrs)) {
                    Ok(relay) => inner.start_reader(Port::Relayed(relay)),
                    Err(error) => {
                        inner.relay_failed(&turn.server.to_string(), format!("{error:#}"));
                    }
                }
                inner.changed.notify_one();
            });
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        for timer in &self.timers {
            timer.abort();
        }
        for reader in lock(&self.inner.readers).drain(..) {
            reader.abort();
        }
        if let Some(relay) = lock(&self.inner.relay).take() {
            relay.release();
        }
    }
}

enum Wait {
    Done,
    Until(Instant),
    Open,
}

impl Inner {
    fn ask_stun(&self, server: &Server, found: anyhow::Result<Vec<SocketAddr>>) {
        let now = Instant::now();
        lock(&self.state).names -= 1;
        match found {
            Ok(addrs) => {
                let mut asked = false;
                for socket in &self.sockets {
                    let Ok(local) = socket.local_addr() else {
                        continue;
                    };
                    let family = addrs
                        .iter()
                        .filter(|addr| addr.is_ipv4() == local.is_ipv4());
                    for addr in family.take(ADDRESSES_PER_NAME) {
                        lock(&self.state).asked.push((*addr, server.to_string()));
                        socket.with_reflexive(|machine| machine.add_server(now, *addr));
                        asked = true;
                    }
                }
                if !asked {
                    self.say_failed(
                        server.to_string(),
                        "it has no address of a family in use here".to_owned(),
                    );
                }
            }
            Err(error) => self.say_failed(server.to_string(), format!("{error:#}")),
        }
        self.changed.notify_one();
        self.gathered.notify_one();
    }

    fn start_reader(&self, port: Port) {
        lock(&self.readers).push(tokio::spawn(read(port, self.incoming.clone())));
    }

    fn start_relay(&self, turn: &TurnServer, addrs: &[SocketAddr]) -> anyhow::Result<Arc<Relay>> {
        for socket in &self.sockets {
            let local = socket.local_addr()?;
            if let Some(addr) = addrs.iter().find(|addr| addr.is_ipv4() == local.is_ipv4()) {
                let relay = Relay::start(
                    socket,
                    *addr,
                    &turn.username,
                    &turn.password,
                    Arc::clone(&self.watch),
                    Arc::clone(&self.changed),
                )?;
                *lock(&self.relay) = Some(Arc::clone(&relay));
                return Ok(relay);
            }
        }
        anyhow::bail!("it has no address of a family in use here")
    }

    fn relay_failed(&self, server: &str, why: String) {
        let mut state = lock(&self.state);
        if std::mem::take(&mut state.turn) {
            drop(state);
            self.say_failed(format!("{server} (TURN)"), why);
            self.gathered.notify_one();
        }
    }

    fn say_failed(&self, server: String, why: String) {
        self.say(Notice::ServerFailed { server, why });
    }

    /// Nobody listens any more once the connection stands: then there is nobody to tell.
    fn say(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }

    fn name_of(&self, addr: SocketAddr) -> String {
        let state = lock(&self.state);
        let name = state
            .asked
            .iter()
            .find(|(asked, _)| *asked == addr)
            .map(|(_, name)| name.clone());
        match name {
            Some(name) if name != addr.to_string() => format!("{name} ({addr})"),
            _ => addr.to_string(),
        }
    }

    fn still_gathering(&self) -> Wait {
        let state = lock(&self.state);
        let (names, turn, first) = (state.names, state.turn, state.first_answer);
        drop(state);
        if turn {
            return Wait::Open;
        }
        let open = names > 0
            || self
                .sockets
                .iter()
                .any(|s| s.with_reflexive(|machine| machine.is_gathering()));
        match (open, first) {
            (false, _) => Wait::Done,
            (true, Some(first)) => Wait::Until(first + SECOND_FAMILY),
            (true, None) => Wait::Open,
        }
    }

    /// Names the servers that have not answered when gathering ends.
    fn report_silent(&self) {
        for socket in &self.sockets {
            if socket.with_reflexive(|machine| machine.mapped()).is_some() {
                continue;
            }
            let silent = {
                let state = lock(&self.state);
                let local = socket.local_addr().ok();
                let family = |addr: &SocketAddr| {
                    local.is_some_and(|local| local.is_ipv4() == addr.is_ipv4())
                };
                let open = state.asked.iter().map(|(addr, _)| *addr);
                open.filter(|addr| family(addr) && !state.failed.contains(addr))
                    .collect::<Vec<_>>()
            };
            for addr in silent {
                lock(&self.state).failed.push(addr);
                self.say_failed(
                    self.name_of(addr),
                    format!("no answer within {} s", GATHER_BOUND.as_secs()),
                );
            }
        }
    }

    /// Takes in what the machines found out.
    fn take_events(&self) {
        for socket in &self.sockets {
            while let Some(event) = socket.with_reflexive(stun::reflexive::Reflexive::poll_event) {
                match event {
                    Event::Mapped {
                        server,
                        mapped,
                        rtt,
                    } => {
                        log::debug!("{server} sees {mapped} after {rtt:?}");
                        lock(&self.state)
                            .first_answer
                            .get_or_insert_with(Instant::now);
                        self.gathered.notify_one();
                    }
                    Event::Moved { from, to, .. } => self.say(Notice::MappingMoved { from, to }),
                    Event::Failed { server, reason } => {
                        let known = {
                            let mut state = lock(&self.state);
                            let known = state.failed.contains(&server);
                            state.failed.push(server);
                            known
                        };
                        if !known {
                            let why = match reason {
                                Failure::Silent => "no answer",
                                Failure::Refused => "it refused or answered without an address",
                                Failure::Unsendable => "no route to it",
                            };
                            self.say_failed(self.name_of(server), why.to_owned());
                        }
                        self.gathered.notify_one();
                    }
                }
            }
        }
        let allocation = lock(&self.relay)
            .as_ref()
            .map(|relay| (relay.server(), relay.allocation()));
        match allocation {
            Some((_, Allocation::Relayed(_))) => {
                if std::mem::take(&mut lock(&self.state).turn) {
                    self.gathered.notify_one();
                }
            }
            Some((server, Allocation::Failed(why))) => self.relay_failed(&server.to_string(), why),
            Some((_, Allocation::Asking)) | None => {}
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let stun = self
            .sockets
            .iter()
            .filter_map(|s| s.poll_reflexive_timeout())
            .min();
        let relay = lock(&self.relay)
            .as_ref()
            .and_then(|relay| relay.poll_timeout());
        let alive = self.watch.due().map(|(at, ..)| at);
        [stun, relay, alive].into_iter().flatten().min()
    }

    /// Sends the peer what it must get beside the crate's datagrams, if that is due.
    fn speak(&self, now: Instant) {
        let Some((at, what, carrier)) = self.watch.due() else {
            return;
        };
        if at > now {
            return;
        }
        let Ok(id) = random() else {
            return;
        };
        let datagram = match self.watch.beside(now, what, id) {
            Ok(datagram) => datagram,
            Err(error) => {
                log::debug!("{what:?}: {error:#}");
                return;
            }
        };
        if carrier.relayed {
            if let Some(relay) = lock(&self.relay).as_ref() {
                relay.send_beside(carrier.remote, &datagram);
            }
            return;
        }
        for socket in self.sockets_toward(carrier.remote) {
            if let Err(error) = socket.send_beside(carrier.remote, &datagram) {
                log::debug!("{what:?} to {}: {error}", carrier.remote);
            }
        }
    }

    fn sockets_toward(&self, peer: SocketAddr) -> impl Iterator<Item = &Arc<Socket>> {
        let family = move |local: SocketAddr| local.is_ipv4() == peer.is_ipv4();
        let same = move |socket: &&Arc<Socket>| socket.local_addr().is_ok_and(family);
        self.sockets.iter().filter(same)
    }
}

/// Runs every timer that belongs to the wall clock.
async fn run_timers(inner: Arc<Inner>) {
    loop {
        inner.take_events();
        let due = inner.next_timeout();
        let sleep = async {
            match due {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => {}
            () = inner.changed.notified() => continue,
        }
        let now = Instant::now();
        for socket in &inner.sockets {
            if socket.poll_reflexive_timeout().is_some_and(|at| at <= now) {
                socket.with_reflexive(|machine| machine.handle_timeout(now));
            }
        }
        let relay = lock(&inner.relay).clone();
        if let Some(relay) = relay {
            relay.handle_timeout(now);
        }
        inner.speak(now);
    }
}

/// Drives the repair layer whenever it is time.
async fn run_layer(inner: Arc<Inner>) {
    let layer = inner.watch.layer();
    loop {
        // Whatever it asks for, it is not driven in circles.
        let soonest = Instant::now() + LAYER_PAUSE;
        let due = layer.poll_timeout();
        let sleep = async {
            match due {
                Some(at) => tokio::time::sleep_until(at.max(soonest).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => {}
            () = layer.sooner.notified() => continue,
        }
        let Some(way) = layer.way() else { continue };
        if way.relayed {
            if let Some(relay) = lock(&inner.relay).clone() {
                relay.drive();
            }
            continue;
        }
        let is_it = |socket: &&Arc<Socket>| socket.local_addr().is_ok_and(|at| at == way.local);
        if let Some(socket) = inner.sockets.iter().find(is_it) {
            std::future::poll_fn(|cx| {
                socket.drive(cx);
                Poll::Ready(())
            })
            .await;
        }
    }
}

/// Reads one socket for us until aborted.
async fn read(port: Port, incoming: mpsc::Sender<Incoming>) {
    let socket: Arc<dyn AsyncUdpSocket> = match &port {
        Port::Direct(socket) => Arc::clone(socket) as _,
        Port::Relayed(relay) => Arc::clone(relay) as _,
    };
    let mut buffer = vec![0; 65_536];
    loop {
        let mut meta = [RecvMeta::default()];
        let received = std::future::poll_fn(|cx| {
            socket.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta)
        })
        .await;
        match received {
            Ok(_) => {
                for contents in buffer[..meta[0].len].chunks(meta[0].stride.max(1)) {
                    let incoming_one = Incoming {
                        from: meta[0].addr,
                        contents: contents.to_vec(),
                        port: port.clone(),
                    };
                    if incoming.try_send(incoming_one).is_err() {
                        log::trace!("dropped a datagram from {}", meta[0].addr);
                    }
                }
            }
            Err(error) => {
                log::debug!("receive on {socket:?}: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Looks up the addresses of a server, within the bound of gathering.
pub async fn resolve(server: &Server) -> anyhow::Result<Vec<SocketAddr>> {
    if let Ok(ip) = server.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, server.port)]);
    }
    let lookup = tokio::net::lookup_host((server.host.as_str(), server.port));
    let found = tokio::time::timeout(GATHER_BOUND, lookup)
        .await
        .map_err(|_| {
            anyhow::anyhow!(
                "its name was not resolved within {} s",
                GATHER_BOUND.as_secs()
            )
        })?
        .context("its name could not be resolved")?;
    Ok(found.collect())
}

fn bind_addresses(network: &Network) -> Vec<SocketAddr> {
    if let Some(addr) = network.bind {
        return vec![addr];
    }
    let mut all = vec![];
    if network.ipv4 {
        all.push(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    }
    if network.ipv6 && interfaces::has_ipv6() {
        all.push(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
    }
    all
}

/// 32 bytes that nobody can guess.
pub(super) fn seed() -> anyhow::Result<[u8; 32]> {
    Ok(random()?)
}
