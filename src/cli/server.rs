//! STUN and TURN servers as people type them: `stun:host[:port]`, `turn:host[:port]` (RFC 7064,
//! RFC 7065), and the bare `host[:port]`, `[v6]:port` and IPv6 address.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::io::peer::Server;
use crate::proto::stun::srv::is_host_name;

/// The port of both protocols where none is given (RFC 8489, section 18.6).
pub const DEFAULT_PORT: u16 = 3478;

/// The port of STUN over TLS where none is given (RFC 8489, section 18.6).
pub const DEFAULT_TLS_PORT: u16 = 5349;

/// A STUN server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StunServer {
    /// Where it is; the default port where none was given.
    pub server: Server,
    /// Whether a port was given. Without one, the domain may name another server (SRV records).
    pub has_port: bool,
    pub transport: Transport,
}

/// How a STUN server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// `stun:`.
    Udp,
    /// `stun:…?transport=tcp`.
    Tcp,
    /// `stuns:`.
    Tls,
}

impl Transport {
    /// The word of reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    /// The service that SRV records are for (RFC 8489, section 8.1).
    #[must_use]
    pub fn service(self) -> &'static str {
        match self {
            Self::Udp => "_stun._udp",
            Self::Tcp => "_stun._tcp",
            Self::Tls => "_stuns._tcp",
        }
    }
}

/// A TURN server, without the credentials.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TurnServer(pub Server);

/// What one `--stun` holds: servers with commas between them, or nothing for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StunList(pub Vec<StunServer>);

impl FromStr for StunList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        pieces(text)
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl FromStr for StunServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text, "stun")
    }
}

impl FromStr for TurnServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = parse(text, "turn")?;
        match parsed.transport {
            Transport::Udp => Ok(Self(parsed.server)),
            Transport::Tcp => Err("transport=tcp is not yet supported, only UDP".to_owned()),
            Transport::Tls => {
                Err("turns: (over TLS) is not yet supported, only turn: over UDP".to_owned())
            }
        }
    }
}

impl fmt::Display for StunServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transport {
            Transport::Udp => write!(f, "stun:{}", self.server),
            Transport::Tcp => write!(f, "stun:{}?transport=tcp", self.server),
            Transport::Tls => write!(f, "stuns:{}", self.server),
        }
    }
}

impl fmt::Display for TurnServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "turn:{}", self.0)
    }
}

fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|piece| !piece.is_empty())
}

fn parse(text: &str, scheme: &str) -> Result<StunServer, String> {
    let text = text.trim();
    let mut transport = Transport::Udp;
    let mut rest = text;
    // `host:3478` looks like a scheme too; only the four that mean something are taken as one.
    if let Some((head, tail)) = text.split_once(':') {
        let head = head.to_ascii_lowercase();
        if ["stun", "stuns", "turn", "turns"].contains(&head.as_str()) && !is_port(tail) {
            if head.trim_end_matches('s') != scheme {
                return Err(format!(
                    "this is a {head}: address, a {scheme}: one is needed"
                ));
            }
            if head.ends_with('s') {
                transport = Transport::Tls;
            }
            rest = tail;
        }
    }
    if rest.starts_with("//") {
        return Err(format!(
            "write it without the slashes: {scheme}:{}",
            rest.trim_start_matches('/')
        ));
    }
    if let Some((address, query)) = rest.split_once('?') {
        rest = address;
        match (query.to_ascii_lowercase().as_str(), transport) {
            ("transport=udp", Transport::Udp) | ("transport=tcp", Transport::Tls) => {}
            ("transport=tcp", _) => transport = Transport::Tcp,
            ("transport=udp", _) => {
                return Err("TLS over UDP (DTLS) is not supported".to_owned());
            }
            _ => {
                return Err(format!(
                    "?{query} is not understood; only ?transport=udp and ?transport=tcp are"
                ));
            }
        }
    }
    if rest.contains('@') {
        return Err(
            "the user does not belong in the address: use --turn-user and --turn-pass".to_owned(),
        );
    }
    let (host, port) = split_port(rest)?;
    check_host(host)?;
    let default = match transport {
        Transport::Udp | Transport::Tcp => DEFAULT_PORT,
        Transport::Tls => DEFAULT_TLS_PORT,
    };
    Ok(StunServer {
        server: Server {
            host: host.to_ascii_lowercase(),
            port: port.unwrap_or(default),
        },
        has_port: port.is_some(),
        transport,
    })
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), String> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok((text, None));
    }
    let (host, port) = if let Some(inner) = text.strip_prefix('[') {
        let (host, tail) = inner
            .split_once(']')
            .ok_or("the ] of the IPv6 address is missing")?;
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(format!("[{host}] is not an IPv6 address"));
        }
        match tail {
            "" => (host, None),
            _ => (
                host,
                Some(
                    tail.strip_prefix(':')
                        .ok_or("after ] only a port can follow")?,
                ),
            ),
        }
    } else {
        match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("write an IPv6 address with a port as [address]:port".to_owned());
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let port = match port {
        None => None,
        Some(port) if is_port(port) => {
            let number = port.parse().ok().filter(|port| *port != 0);
            if number.is_none() {
                return Err(format!("a port is a number from 1 to 65535, not {port}"));
            }
            number
        }
        Some(port) => return Err(format!("a port is a number from 1 to 65535, not '{port}'")),
    };
    Ok((host, port))
}

fn check_host(host: &str) -> Result<(), String> {
    if host.is_empty() {
        return Err("the host name is missing".to_owned());
    }
    if host.parse::<Ipv4Addr>().is_ok() || host.parse::<Ipv6Addr>().is_ok() {
        return Ok(());
    }
    let odd = host
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || "-._".contains(*c)));
    if let Some(odd) = odd {
        return Err(format!("{odd:?} cannot be part of a host name"));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.rsplit('.').next().is_some_and(is_port) {
        return Err("this is neither an IPv4 address nor a host name".to_owned());
    }
    if !is_host_name(name) {
        return Err("this is not a host name".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stun(text: &str) -> Result<String, String> {
        text.parse::<StunServer>().map(|server| server.to_string())
    }

    fn turn(text: &str) -> Result<String, String> {
        text.parse::<TurnServer>().map(|server| server.to_string())
    }

    #[test]
    fn every_way_to_write_a_server_means_the_same() {
        for text in [
            "stun:s.example",
            "STUN:S.Example:3478",
            "s.example",
            "s.example:3478",
            " s.example ",
        ] {
            assert_eq!(stun(text).as_deref(), Ok("stun:s.example:3478"), "{text}");
        }
        for text in [
            "stun:[2001:db8::1]",
            "[2001:db8::1]:3478",
            "2001:db8::1",
            "stun:2001:db8::1",
        ] {
            assert_eq!(
                stun(text).as_deref(),
                Ok("stun:[2001:db8::1]:3478"),
                "{text}"
            );
        }
        assert_eq!(stun("192.0.2.1:5").as_deref(), Ok("stun:192.0.2.1:5"));
        assert_eq!(
            turn("turn:t.example:5?transport=udp").as_deref(),
            Ok("turn:t.example:5")
        );
        assert_eq!(
            stun("turn:3478").as_deref(),
            Ok("stun:turn:3478"),
            "a host called turn"
        );
    }

    #[test]
    fn tcp_and_tls_have_their_ports_and_their_names() {
        for (text, url) in [
            ("stuns:s.example", "stuns:s.example:5349"),
            ("stuns:s.example:443", "stuns:s.example:443"),
            ("stuns:s.example?transport=tcp", "stuns:s.example:5349"),
            (
                "stun:s.example?transport=tcp",
                "stun:s.example:3478?transport=tcp",
            ),
        ] {
            assert_eq!(stun(text).as_deref(), Ok(url));
            assert_eq!(stun(url).as_deref(), Ok(url), "what is written can be read");
        }
        assert!(!"s.example".parse::<StunServer>().unwrap().has_port);
        assert!("s.example:3478".parse::<StunServer>().unwrap().has_port);
    }

    #[test]
    fn what_is_not_a_server_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "missing"),
            ("stun:", "missing"),
            ("stun::3478", "missing"),
            ("stuns:s.example?transport=udp", "DTLS"),
            ("stun:s.example?x=y", "not understood"),
            ("turn:s.example", "a stun: one is needed"),
            ("stun://s.example", "without the slashes: stun:s.example"),
            ("s.example:0", "1 to 65535"),
            ("s.example:65536", "1 to 65535"),
            ("s.example:http", "1 to 65535"),
            ("s.example:", "1 to 65535"),
            ("1.2.3", "neither"),
            ("1.2.3.256", "neither"),
            ("s..example", "not a host name"),
            ("a b", "cannot be part"),
            ("[2001:db8::1", "] of the IPv6"),
            ("[s.example]:1", "not an IPv6 address"),
            ("[::1]1", "only a port"),
            ("1:2:3", "[address]:port"),
        ] {
            let said = stun(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
        for (text, why) in [
            ("turns:t.example", "not yet supported"),
            ("turn:t.example?transport=tcp", "not yet supported"),
            ("turn:t.example?x=y", "not understood"),
            ("turn:me@t.example", "--turn-user"),
        ] {
            let said = turn(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn a_list_takes_commas_and_nothing_means_none() {
        assert_eq!("".parse::<StunList>().unwrap().0.len(), 0);
        assert_eq!(
            "a.example, b.example:1,"
                .parse::<StunList>()
                .unwrap()
                .0
                .len(),
            2
        );
        assert!("a.example,b c".parse::<StunList>().is_err());
    }
}
