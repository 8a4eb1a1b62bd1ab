//! Looks up `.local` names in multicast DNS (RFC 6762).
//!
//! Browsers hide their own addresses behind such names, which only the network segment knows.
//! Nothing but these names is ever looked up, and nothing leaves the segment.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::mdns::{MDNS_DEST_ADDR, Mdns, MdnsConfig, MdnsEvent, MulticastSocket, QueryId};
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use socket2::SockRef;
use tokio::sync::mpsc;

/// Whoever is there answers in less than a second; lost queries need another.
pub const BOUND: Duration = Duration::from_secs(3);
/// RFC 6762 §5.2: at least one second between the first two.
const AGAIN: Duration = Duration::from_secs(1);
/// Interfaces that are asked on.
const MAX_INTERFACES: usize = 8;
/// RFC 6762 §17: no message is longer.
const LONGEST: usize = 9000;

/// Looks up `names` on the interfaces with these addresses. Each name comes back once: with an
/// address, or with why there is none.
pub fn look_up(
    names: Vec<String>,
    interfaces: &[IpAddr],
) -> mpsc::Receiver<(String, Result<IpAddr, String>)> {
    let (found, results) = mpsc::channel(names.len().max(1));
    let interfaces = interfaces.iter().filter_map(|ip| match ip {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    });
    let interfaces: Vec<Ipv4Addr> = interfaces.take(MAX_INTERFACES).collect();
    if !names.is_empty() {
        tokio::spawn(run(names, interfaces, found));
    }
    results
}

async fn run(
    names: Vec<String>,
    interfaces: Vec<Ipv4Addr>,
    found: mpsc::Sender<(String, Result<IpAddr, String>)>,
) {
    let mut machine = Mdns::new(
        Instant::now(),
        MdnsConfig::default().with_query_interval(AGAIN),
    );
    let mut open: Vec<(QueryId, String)> = names
        .into_iter()
        .map(|name| (machine.query_now(Instant::now(), &name), name))
        .collect();
    let mut why = format!("no answer within {} s", BOUND.as_secs());
    match Asking::open(&interfaces) {
        Ok(mut asking) => {
            let looking = async {
                while !open.is_empty() {
                    let Some((id, ip)) = asking.next(&mut machine).await else {
                        continue;
                    };
                    if let Some(at) = open.iter().position(|(query, _)| *query == id) {
                        // Nobody listens any more: the connection stands or was given up.
                        let _ = found.send((open.swap_remove(at).1, Ok(ip))).await;
                    }
                }
            };
            let ended = tokio::time::timeout(BOUND, looking).await;
            log::debug!("multicast DNS: {ended:?}, {} names open", open.len());
        }
        Err(error) => why = format!("multicast DNS: {error}"),
    }
    for (_, name) in open {
        let _ = found.send((name, Err(why.clone()))).await;
    }
}

/// One socket an interface, all read by one task.
struct Asking {
    sockets: Vec<std::sync::Arc<tokio::net::UdpSocket>>,
    incoming: mpsc::Receiver<(SocketAddr, BytesMut)>,
    readers: tokio::task::JoinSet<()>,
}

impl Asking {
    fn open(interfaces: &[Ipv4Addr]) -> std::io::Result<Self> {
        let mut sockets = vec![];
        let mut failed = std::io::Error::other("no interface with IPv4");
        for ip in interfaces {
            match socket_on(*ip).and_then(tokio::net::UdpSocket::from_std) {
                Ok(socket) => sockets.push(std::sync::Arc::new(socket)),
                Err(error) => failed = error,
            }
        }
        if sockets.is_empty() {
            return Err(failed);
        }
        let (datagrams, incoming) = mpsc::channel(64);
        let mut readers = tokio::task::JoinSet::new();
        for socket in &sockets {
            readers.spawn(read(std::sync::Arc::clone(socket), datagrams.clone()));
        }
        Ok(Self {
            sockets,
            incoming,
            readers,
        })
    }

    /// Does what is due next; gives an answer, if one came.
    async fn next(&mut self, machine: &mut Mdns) -> Option<(QueryId, IpAddr)> {
        if let Some(MdnsEvent::QueryAnswered(id, ip)) = machine.poll_event() {
            return Some((id, ip));
        }
        while let Some(query) = machine.poll_write() {
            for socket in &self.sockets {
                if let Err(error) = socket.send_to(&query.message, MDNS_DEST_ADDR).await {
                    log::debug!("multicast DNS query: {error}");
                }
            }
        }
        let due = machine
            .poll_timeout()
            .unwrap_or_else(|| Instant::now() + AGAIN);
        let handled = tokio::select! {
            Some((from, datagram)) = self.incoming.recv() => machine.handle_read(TaggedBytesMut {
                now: Instant::now(),
                transport: TransportContext {
                    local_addr: MDNS_DEST_ADDR,
                    peer_addr: from,
                    transport_protocol: TransportProtocol::UDP,
                    ecn: None,
                },
                message: datagram,
            }),
            () = tokio::time::sleep_until(due.into()) => machine.handle_timeout(Instant::now()),
        };
        if let Err(error) = handled {
            log::debug!("multicast DNS: {error}");
        }
        None
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.readers.abort_all();
    }
}

async fn read(
    socket: std::sync::Arc<tokio::net::UdpSocket>,
    to: mpsc::Sender<(SocketAddr, BytesMut)>,
) {
    let mut buffer = vec![0; LONGEST];
    loop {
        match socket.recv_from(&mut buffer).await {
            // More than can be taken is dropped, as a full socket buffer would.
            Ok((len, from)) => drop(to.try_send((from, BytesMut::from(&buffer[..len])))),
            Err(error) => {
                log::debug!("multicast DNS: {error}");
                return;
            }
        }
    }
}

/// A socket on the port of multicast DNS, shared with whatever else answers on this machine: an
/// answer may go to the group only.
fn socket_on(interface: Ipv4Addr) -> std::io::Result<UdpSocket> {
    let socket = MulticastSocket::new()
        .with_interface(interface)
        .into_std()?;
    SockRef::from(&socket).set_multicast_if_v4(&interface)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_nobody_has_comes_back_with_the_reason() {
        let started = Instant::now();
        let mut results = look_up(
            vec!["00000000-0000-4000-8000-000000000000.local".to_owned()],
            &[IpAddr::V4(Ipv4Addr::LOCALHOST)],
        );
        let (name, result) = results.recv().await.unwrap();
        assert!(name.starts_with("00000000-"));
        assert!(result.is_err(), "{result:?}");
        assert!(results.recv().await.is_none(), "once");
        assert!(started.elapsed() < BOUND * 3);
    }

    #[tokio::test]
    async fn without_an_interface_the_reason_comes_at_once() {
        let mut results = look_up(vec!["a.local".to_owned()], &["::1".parse().unwrap()]);
        let (_, result) = results.recv().await.unwrap();
        assert_eq!(
            result,
            Err("multicast DNS: no interface with IPv4".to_owned())
        );
    }

    #[tokio::test]
    async fn a_name_of_this_segment_is_found_once() {
        const NAME: &str = "11111111-0000-4000-8000-000000000000.local";
        let config = MdnsConfig::default()
            .with_local_names(vec![NAME.to_owned()])
            .with_local_ip("127.0.0.9".parse().unwrap());
        let mut answering = Asking::open(&[Ipv4Addr::LOCALHOST]).unwrap();
        let answerer = tokio::spawn(async move {
            let mut machine = Mdns::new(Instant::now(), config);
            loop {
                answering.next(&mut machine).await;
            }
        });
        let names = vec!["22222222-0.local".to_owned(), NAME.to_owned()];
        let mut results = look_up(names, &[IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        let (name, result) = results.recv().await.unwrap();
        assert_eq!(
            (name.as_str(), result),
            (NAME, Ok("127.0.0.9".parse().unwrap()))
        );
        let (name, result) = results.recv().await.unwrap();
        assert_eq!(name, "22222222-0.local");
        assert!(result.is_err());
        answerer.abort();
    }
}
