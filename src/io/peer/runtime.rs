//! The runtime given to the `webrtc` crate: tokio's, with our clock and our sockets.
//!
//! The crate insists on binding its own sockets. It is told to bind throw-away loopback ports,
//! each of which stands for one of ours: when it asks to wrap such a port, it gets ours instead.
//! So one socket gathers, waits an hour for a joiner, and then carries the connection.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime,
    TokioRuntime,
};

use super::watch::Watch;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One per connection.
pub struct PeerRuntime {
    watch: Arc<Watch>,
    /// The throw-away port the crate binds, and the socket it stands for.
    sockets: Vec<(SocketAddr, Arc<dyn AsyncUdpSocket>)>,
    /// How many of them the crate has.
    taken: AtomicUsize,
}

impl PeerRuntime {
    /// # Errors
    /// When no loopback port is free.
    pub fn new(watch: Arc<Watch>, sockets: &[Arc<dyn AsyncUdpSocket>]) -> io::Result<Self> {
        let mut stands = Vec::with_capacity(sockets.len());
        // All are held until each has a port of its own, then freed for the crate to bind.
        let mut held = vec![];
        for socket in sockets {
            let ip = match socket.local_addr()? {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            };
            let stand_in = UdpSocket::bind(SocketAddr::new(ip, 0))?;
            stands.push((stand_in.local_addr()?, Arc::clone(socket)));
            held.push(stand_in);
        }
        Ok(Self {
            watch,
            sockets: stands,
            taken: AtomicUsize::new(0),
        })
    }

    /// Whether the crate has all sockets. It goes on without one whose stand-in it could not bind.
    pub fn has_all(&self) -> bool {
        self.taken.load(Ordering::Relaxed) >= self.sockets.len()
    }

    /// What to pass to `with_udp_addrs`.
    pub fn bind_addrs(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|(stand_in, _)| *stand_in).collect()
    }
}

impl fmt::Debug for PeerRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerRuntime")
            .field("sockets", &self.sockets.len())
            .finish()
    }
}

impl Runtime for PeerRuntime {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn(future)
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let stand_in = socket.local_addr()?;
        match self.sockets.iter().find(|(addr, _)| *addr == stand_in) {
            Some((_, ours)) => {
                self.taken.fetch_add(1, Ordering::Relaxed);
                Ok(Arc::clone(ours))
            }
            None => Err(io::Error::other("the crate bound a port it was not given")),
        }
    }

    fn wrap_tcp_listener(
        &self,
        listener: std::net::TcpListener,
    ) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp(
        &self,
        remote_addr: SocketAddr,
    ) -> Boxed<'_, io::Result<Arc<dyn AsyncTcpStream>>> {
        Box::pin(async move { TokioRuntime.connect_tcp(remote_addr).await })
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        let host = host.to_owned();
        Box::pin(async move { Ok(tokio::net::lookup_host(host).await?.collect()) })
    }

    fn now(&self) -> Instant {
        self.watch.virtual_now()
    }

    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        Box::pin(Sleep::new(Arc::clone(&self.watch), duration))
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        Box::new(Interval {
            watch: Arc::clone(&self.watch),
            period,
            first: true,
        })
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }

    fn yield_now(&self) -> Boxed<'static, ()> {
        Box::pin(tokio::task::yield_now())
    }

    fn name(&self) -> &'static str {
        "knothole"
    }
}

/// Sleeps until the crate's time has come. The clock may have slowed meanwhile, so every waking
/// asks again. It may also have sped up, but only because the peer was heard, and then the crate's
/// driver is awake and asks for a new sleep anyway.
struct Sleep {
    watch: Arc<Watch>,
    target: Instant,
    timer: Pin<Box<tokio::time::Sleep>>,
}

impl Sleep {
    fn new(watch: Arc<Watch>, duration: Duration) -> Self {
        let target = watch.virtual_now() + duration;
        let timer = Box::pin(tokio::time::sleep(watch.wall_until(target)));
        Self {
            watch,
            target,
            timer,
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let left = self.watch.wall_until(self.target);
            if left.is_zero() {
                return Poll::Ready(());
            }
            let due = tokio::time::Instant::now() + left;
            self.timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

struct Interval {
    watch: Arc<Watch>,
    period: Duration,
    first: bool,
}

impl AsyncInterval for Interval {
    fn tick(&mut self) -> Boxed<'_, ()> {
        let wait = if std::mem::take(&mut self.first) {
            Duration::ZERO
        } else {
            self.period
        };
        Box::pin(Sleep::new(Arc::clone(&self.watch), wait))
    }
}
