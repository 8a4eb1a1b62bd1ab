//! Where a STUN server is that was named without a port (RFC 8489 §8): its SRV records (RFC 2782),
//! else its addresses at the default port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;

use crate::io::peer::Server;
use crate::io::random;
use crate::proto::stun::srv::{LONGEST, Named, query, read};

/// How long one name server may take.
const BOUND: Duration = Duration::from_millis(1500);
/// Name servers that are asked, in the order of the system's file.
const MAX_NAME_SERVERS: usize = 3;

/// The server that a domain's SRV record names for `service`, such as `_stun._udp`; `None` when
/// there is no record, or nobody to ask.
pub async fn look_up(service: &str, domain: &str) -> Option<Server> {
    let file = std::fs::read_to_string("/etc/resolv.conf").ok()?;
    for name_server in name_servers(&file).take(MAX_NAME_SERVERS) {
        match tokio::time::timeout(BOUND, ask(name_server, service, domain)).await {
            Ok(Ok(found)) => return found,
            Ok(Err(error)) => log::debug!("SRV of {domain} at {name_server}: {error}"),
            Err(_) => log::debug!("SRV of {domain} at {name_server}: no answer"),
        }
    }
    None
}

fn name_servers(file: &str) -> impl Iterator<Item = SocketAddr> {
    file.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let ip = match (words.next(), words.next()) {
            (Some("nameserver"), Some(ip)) => ip.parse::<IpAddr>().ok()?,
            _ => return None,
        };
        Some(SocketAddr::new(ip, 53))
    })
}

async fn ask(at: SocketAddr, service: &str, domain: &str) -> io::Result<Option<Server>> {
    let any: IpAddr = match at {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // From here on only this name server is heard.
    socket.connect(at).await?;
    let id = u16::from_be_bytes(random()?);
    let name = format!("{service}.{domain}");
    let question = query(id, &name).map_err(|error| io::Error::other(error.to_string()))?;
    socket.send(&question).await?;
    let mut buffer = vec![0; LONGEST];
    loop {
        let len = socket.recv(&mut buffer).await?;
        if let Ok(answer) = read(&buffer[..len], id, &name) {
            return Ok(answer.map(|Named { host, port }| Server { host, port }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_from_the_file_of_the_system() {
        let file = "# comment\nnameserver 192.0.2.53\nsearch example.org\nnameserver 2001:db8::53\nnameserver nonsense\n";
        let all: Vec<String> = name_servers(file).map(|addr| addr.to_string()).collect();
        assert_eq!(all, ["192.0.2.53:53", "[2001:db8::53]:53"]);
    }
}
