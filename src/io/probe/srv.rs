//! Where a STUN server is that was named without a port (RFC 8489 §8): its SRV records (RFC 2782),
//! else its addresses at the default port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};
use tokio::net::UdpSocket;

use crate::io::peer::Server;
use crate::io::random;

/// How long one name server may take.
const BOUND: Duration = Duration::from_millis(1500);
/// Name servers that are asked, in the order of the system's file.
const MAX_NAME_SERVERS: usize = 3;
/// The longest answer that is read: plain DNS over UDP has 512 bytes, with extensions 4096.
const LONGEST: usize = 4096;
/// Records that are looked at.
const MAX_RECORDS: usize = 32;

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
    socket.send(&query(id, &name)?).await?;
    let mut buffer = vec![0; LONGEST];
    loop {
        let len = socket.recv(&mut buffer).await?;
        if let Ok(answer) = read(&buffer[..len], id, &name) {
            return Ok(answer);
        }
    }
}

fn query(id: u16, name: &str) -> io::Result<Vec<u8>> {
    let bad = |error: simple_dns::SimpleDnsError| io::Error::other(error.to_string());
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        Name::new(name).map_err(bad)?.into_owned(),
        TYPE::SRV.into(),
        CLASS::IN.into(),
        false,
    ));
    packet.build_bytes_vec().map_err(bad)
}

/// No answer to our question.
#[derive(Debug, PartialEq, Eq)]
struct Stray;

/// Reads an answer; it may name no server.
fn read(bytes: &[u8], id: u16, name: &str) -> Result<Option<Server>, Stray> {
    let packet = Packet::parse(bytes).map_err(|_| Stray)?;
    let asked = Name::new(name).map_err(|_| Stray)?;
    let ours = packet.id() == id
        && packet.has_flags(PacketFlag::RESPONSE)
        && packet
            .questions
            .iter()
            .any(|question| question.qname == asked);
    if !ours {
        return Err(Stray);
    }
    if packet.rcode() != RCODE::NoError {
        return Ok(None);
    }
    let records = packet.answers.iter().take(MAX_RECORDS);
    let best = records
        .filter_map(|record| match &record.rdata {
            RData::SRV(srv) => Some(srv),
            _ => None,
        })
        // The heaviest of the first priority, always: for a diagnosis the same one each time.
        .min_by_key(|srv| (srv.priority, std::cmp::Reverse(srv.weight)));
    Ok(best.and_then(|srv| {
        let host = srv.target.to_string().trim_end_matches('.').to_owned();
        // "." says that the service is decidedly not there.
        (!host.is_empty() && srv.port != 0).then_some(Server {
            host,
            port: srv.port,
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::SRV;

    fn answer(id: u16, name: &str, records: &[(u16, u16, u16, &str)]) -> Vec<u8> {
        let mut packet = Packet::new_reply(id);
        let name = Name::new(name).unwrap();
        packet.questions.push(Question::new(
            name.clone(),
            TYPE::SRV.into(),
            CLASS::IN.into(),
            false,
        ));
        for (priority, weight, port, target) in records {
            let target = Name::new(target).unwrap();
            let srv = SRV {
                priority: *priority,
                weight: *weight,
                port: *port,
                target,
            };
            packet.answers.push(ResourceRecord::new(
                name.clone(),
                CLASS::IN,
                60,
                RData::SRV(srv),
            ));
        }
        packet.build_bytes_vec().unwrap()
    }

    const NAME: &str = "_stun._udp.example.org";

    #[test]
    fn the_first_priority_and_the_heaviest_of_it_counts() {
        let records = [
            (20, 9, 1, "c.example.org"),
            (10, 1, 2, "a.example.org"),
            (10, 5, 3, "b.example.org"),
        ];
        let found = read(&answer(7, NAME, &records), 7, NAME).unwrap().unwrap();
        assert_eq!((found.host.as_str(), found.port), ("b.example.org", 3));
    }

    #[test]
    fn answers_to_other_questions_are_not_looked_at() {
        let records = [(10, 1, 2, "a.example.org")];
        assert_eq!(read(&answer(8, NAME, &records), 7, NAME), Err(Stray));
        assert_eq!(
            read(&answer(7, "_stun._udp.example.com", &records), 7, NAME),
            Err(Stray)
        );
        assert_eq!(
            read(&query(7, NAME).unwrap(), 7, NAME),
            Err(Stray),
            "a question"
        );
        let whole = answer(7, NAME, &records);
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut], 7, NAME), Err(Stray));
        }
    }

    #[test]
    fn no_record_and_a_record_that_says_no_are_no_server() {
        assert_eq!(read(&answer(7, NAME, &[]), 7, NAME), Ok(None));
        assert_eq!(read(&answer(7, NAME, &[(0, 0, 0, ".")]), 7, NAME), Ok(None));
    }

    #[test]
    fn name_servers_are_read_from_the_file_of_the_system() {
        let file = "# comment\nnameserver 192.0.2.53\nsearch example.org\nnameserver 2001:db8::53\nnameserver nonsense\n";
        let all: Vec<String> = name_servers(file).map(|addr| addr.to_string()).collect();
        assert_eq!(all, ["192.0.2.53:53", "[2001:db8::53]:53"]);
    }
}
