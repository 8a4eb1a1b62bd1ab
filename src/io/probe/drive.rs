//! Drives a [`Machine`] on UDP sockets of this machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::proto::nat::{Machine, Output, SocketId};

/// The longest datagram that is read: a padded answer in fragments, and more.
const LONGEST: usize = 4096;
/// Datagrams that may wait to be looked at; more are dropped, as a socket would.
const MAX_WAITING: usize = 256;

/// Where the sockets are bound.
#[derive(Clone, Copy, Debug, Default)]
pub struct Local {
    /// This address instead of the one that the system would choose.
    pub ip: Option<IpAddr>,
    /// The port of the first socket; the others have ports of the system's choice.
    pub port: u16,
}

struct Datagram {
    socket: SocketId,
    from: SocketAddr,
    bytes: Vec<u8>,
}

/// Runs a machine to its end. `toward` is where its packets go, to know which local address they
/// have.
///
/// # Errors
/// When not even the first socket can be opened; that of the system.
pub async fn run(machine: &mut impl Machine, toward: SocketAddr, local: Local) -> io::Result<()> {
    run_watched(machine, toward, local, &mut |_| {}).await
}

/// The same, and lets `watch` look at the machine whenever something may have changed.
///
/// # Errors
/// As [`run`].
pub async fn run_watched<M: Machine>(
    machine: &mut M,
    toward: SocketAddr,
    local: Local,
    watch: &mut dyn FnMut(&M),
) -> io::Result<()> {
    let mut sockets: Vec<Option<Arc<UdpSocket>>> = vec![];
    let mut readers = JoinSet::new();
    let (tx, mut rx) = mpsc::channel(MAX_WAITING);
    loop {
        match machine.poll_output() {
            Output::Open(id) => {
                let socket = match open(toward, local, id) {
                    Ok((socket, seen)) => {
                        let socket = Arc::new(socket);
                        machine.handle_opened(Instant::now(), id, seen);
                        readers.spawn(read(id, Arc::clone(&socket), tx.clone()));
                        Some(socket)
                    }
                    Err(error) if id == 0 => return Err(error),
                    Err(error) => {
                        log::debug!("open a socket for a test: {error}");
                        machine.handle_not_opened(Instant::now(), id);
                        None
                    }
                };
                sockets.push(socket);
            }
            Output::Transmit { socket, to, bytes } => {
                let Some(Some(out)) = sockets.get(socket) else {
                    continue;
                };
                if let Err(error) = out.send_to(&bytes, to).await {
                    log::debug!("send to {to}: {error}");
                    machine.handle_send_error(Instant::now(), socket, to);
                }
            }
            Output::Idle(until) => {
                watch(machine);
                tokio::select! {
                    Some(datagram) = rx.recv() => {
                        let Datagram { socket, from, bytes } = datagram;
                        machine.handle_datagram(Instant::now(), socket, from, &bytes);
                    }
                    () = tokio::time::sleep_until(until.into()) => {
                        machine.handle_timeout(Instant::now());
                    }
                }
            }
            Output::Done => return Ok(()),
        }
    }
}

/// Opens a socket of its own, and says which address packets toward `toward` have.
fn open(toward: SocketAddr, local: Local, id: SocketId) -> io::Result<(UdpSocket, SocketAddr)> {
    let ip = local.ip.unwrap_or(unspecified(toward));
    let port = if id == 0 { local.port } else { 0 };
    let socket = std::net::UdpSocket::bind(SocketAddr::new(ip, port))?;
    socket.set_nonblocking(true)?;
    let bound = socket.local_addr()?;
    let seen = if ip.is_unspecified() {
        source(toward)?
    } else {
        ip
    };
    let socket = UdpSocket::from_std(socket)?;
    Ok((socket, SocketAddr::new(seen, bound.port())))
}

/// The address that the system sends from toward `to`: connecting a UDP socket sends nothing, it
/// asks the routing table.
///
/// # Errors
/// When there is no route.
pub fn source(to: SocketAddr) -> io::Result<IpAddr> {
    let socket = std::net::UdpSocket::bind(SocketAddr::new(unspecified(to), 0))?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

fn unspecified(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

async fn read(id: SocketId, socket: Arc<UdpSocket>, to: mpsc::Sender<Datagram>) {
    let mut buffer = vec![0; LONGEST];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, from)) => {
                let bytes = buffer[..len].to_vec();
                let datagram = Datagram {
                    socket: id,
                    from,
                    bytes,
                };
                if to.try_send(datagram).is_err() && to.is_closed() {
                    return;
                }
            }
            // An ICMP error about an earlier datagram says nothing about the next.
            Err(error) => log::debug!("receive: {error}"),
        }
    }
}
