//! The sockets of a STUN server: the machine of [`crate::proto::stun::server`] on UDP and TCP.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use crate::io::within;
use crate::proto::stun::Message;
use crate::proto::stun::message::HEADER;
use crate::proto::stun::server::{Counters, MAX_REQUEST, Places, Server, Transport};

/// TCP connections at a time; more wait to be accepted. The machine bounds those of one source.
const MAX_CONNECTIONS: usize = 256;
/// Connections at a time that are told metrics.
const MAX_READERS: usize = 16;
/// How long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(15);
/// Requests on one connection.
const MAX_REQUESTS: usize = 256;
/// Ports of the system's choice that are tried, when one is free at one address or protocol only.
const MAX_PORTS: usize = 16;
/// Pause after an error of accept: out of file descriptors, say.
const BREATH: Duration = Duration::from_millis(100);

/// A running server. Dropping it closes its sockets.
pub struct StunServer {
    shared: Arc<Shared>,
    places: Vec<Places>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

struct Shared {
    machine: Mutex<Server>,
    sockets: Vec<(SocketAddr, UdpSocket)>,
    connections: Semaphore,
}

impl StunServer {
    /// Binds the sockets of these places, UDP and TCP. A port 0 becomes one of the system's choice,
    /// the same for both addresses.
    ///
    /// # Errors
    /// Says which address could not be bound.
    pub async fn bind(
        wanted: &[Places],
        server: impl FnOnce(Vec<Places>) -> Server,
    ) -> io::Result<Self> {
        let mut all = wanted.iter().flat_map(|place| place.sockets());
        let mut tries = if all.any(|addr| addr.port() == 0) {
            MAX_PORTS
        } else {
            1
        };
        let Bound {
            places,
            sockets,
            listeners,
        } = loop {
            tries -= 1;
            match Bound::bind(wanted).await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
                bound => break bound?,
            }
        };
        let shared = Arc::new(Shared {
            machine: Mutex::new(server(places.clone())),
            sockets,
            connections: Semaphore::new(MAX_CONNECTIONS),
        });
        let mut tasks = vec![];
        for index in 0..shared.sockets.len() {
            tasks.push(tokio::spawn(serve_udp(Arc::clone(&shared), index)));
        }
        for listener in listeners {
            tasks.push(tokio::spawn(accept(Arc::clone(&shared), listener)));
        }
        Ok(Self {
            shared,
            places,
            tasks,
        })
    }

    /// Where it listens: the ports are the real ones.
    #[must_use]
    pub fn places(&self) -> &[Places] {
        &self.places
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.machine().counters()
    }
}

impl Drop for StunServer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The sockets of some places: every one for UDP, then every one for TCP.
struct Bound {
    places: Vec<Places>,
    sockets: Vec<(SocketAddr, UdpSocket)>,
    listeners: Vec<TcpListener>,
}

impl Bound {
    async fn bind(wanted: &[Places]) -> io::Result<Self> {
        let mut places = vec![];
        let mut sockets: Vec<(SocketAddr, UdpSocket)> = vec![];
        for place in wanted {
            let mut place = *place;
            for which in 0..place.sockets().len() {
                let wish = place.sockets()[which];
                let socket = UdpSocket::bind(wish)
                    .await
                    .map_err(|error| named(wish, error))?;
                let got = socket.local_addr()?;
                if which == 0 {
                    place.primary.set_port(got.port());
                } else if let Some(other) = &mut place.other
                    && which == 1
                {
                    other.set_port(got.port());
                }
                sockets.push((got, socket));
            }
            places.push(place);
        }
        let mut listeners = vec![];
        for (addr, _) in &sockets {
            let listener = TcpListener::bind(addr)
                .await
                .map_err(|error| named(*addr, error))?;
            listeners.push(listener);
        }
        Ok(Self {
            places,
            sockets,
            listeners,
        })
    }
}

impl Shared {
    fn machine(&self) -> MutexGuard<'_, Server> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve_udp(shared: Arc<Shared>, index: usize) {
    let (at, socket) = &shared.sockets[index];
    let mut buffer = vec![0; MAX_REQUEST + 1];
    loop {
        let (len, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An ICMP error about an earlier answer.
                log::debug!("receive at {at}: {error}");
                continue;
            }
        };
        let request = &buffer[..len];
        let answer =
            shared
                .machine()
                .handle_request(Instant::now(), Transport::Udp, *at, from, request);
        let Some(answer) = answer else { continue };
        let Some((_, out)) = shared.sockets.iter().find(|(addr, _)| *addr == answer.from) else {
            continue;
        };
        if let Err(error) = out.send_to(&answer.bytes, answer.to).await {
            log::debug!("send to {}: {error}", answer.to);
        }
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let Ok(permit) = shared.connections.acquire().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, from)) => {
                if !shared.machine().handle_connected(from.ip()) {
                    log::debug!("TCP from {from}: its source has too many connections");
                    continue;
                }
                permit.forget();
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    if let Err(error) = serve_stream(&shared, stream, from).await {
                        log::debug!("TCP from {from}: {error}");
                    }
                    shared.machine().handle_disconnected(from.ip());
                    shared.connections.add_permits(1);
                });
            }
            Err(error) => {
                log::debug!("accept: {error}");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

/// Answers one connection until it ends, says nothing, or says something else than STUN.
async fn serve_stream(shared: &Shared, mut stream: TcpStream, from: SocketAddr) -> io::Result<()> {
    let at = stream.local_addr()?;
    for _ in 0..MAX_REQUESTS {
        let one = async {
            let mut request = vec![0; HEADER];
            stream.read_exact(&mut request).await?;
            let length = match Message::length(&request) {
                Ok(Some(length)) if length <= MAX_REQUEST => length,
                _ => return Err(io::ErrorKind::InvalidData.into()),
            };
            request.resize(length, 0);
            stream.read_exact(&mut request[HEADER..]).await?;
            let answer = shared.machine().handle_request(
                Instant::now(),
                Transport::Stream,
                at,
                from,
                &request,
            );
            match answer {
                Some(answer) => stream.write_all(&answer.bytes).await,
                None => Err(io::ErrorKind::InvalidData.into()),
            }
        };
        within(IDLE, one).await?;
    }
    Ok(())
}

fn named(addr: SocketAddr, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("bind {addr}: {error}"))
}

/// Answers HTTP requests at `listener` with what `render` says, for a monitoring system.
///
/// Reads no more than a request's first lines, and answers each connection once.
pub async fn serve_metrics(
    listener: TcpListener,
    render: impl Fn() -> String,
) -> std::convert::Infallible {
    /// The longest request that is read, in bytes.
    const LONGEST: usize = 4096;
    let readers = Arc::new(Semaphore::new(MAX_READERS));
    loop {
        let permit = Arc::clone(&readers).acquire_owned().await;
        let permit = permit.expect("nobody closes it");
        let mut stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::debug!("accept: {error}");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let text = render();
        tokio::spawn(async move {
            let _permit = permit;
            let answer = async {
                let mut request = vec![];
                let mut buffer = [0; 512];
                while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < LONGEST {
                    let read = stream.read(&mut buffer).await?;
                    if read == 0 {
                        break;
                    }
                    request.extend_from_slice(&buffer[..read]);
                }
                let (status, body) = if request.starts_with(b"GET /metrics ") {
                    ("200 OK", text)
                } else {
                    ("404 Not Found", "GET /metrics\n".to_owned())
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(body.as_bytes()).await?;
                stream.shutdown().await
            };
            match tokio::time::timeout(IDLE, answer).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => log::debug!("metrics: {error}"),
                Err(_) => log::debug!("metrics: too slow"),
            }
        });
    }
}
