//! What `addr` and `nat` share: the servers of the command line, and what their names stand for.

use std::net::{IpAddr, SocketAddr};

use tokio::task::JoinSet;

use super::common::NetArgs;
use super::failure::Failure;
use super::server::StunServer;
use crate::io::peer::resolve;
use crate::io::probe;

/// More servers than anybody names; each costs sockets and packets.
const MOST: usize = 64;

/// The servers to ask: those named, else those of `--stun`.
///
/// # Errors
/// There are none, or too many.
pub fn chosen(named: &[StunServer], net: &NetArgs) -> Result<Vec<StunServer>, Failure> {
    let mut servers = named.to_vec();
    if servers.is_empty() {
        servers.extend(net.stun.iter().flat_map(|list| list.0.clone()));
    }
    if servers.is_empty() {
        return Err(Failure::usage("no server to ask")
            .hint("name one, such as stun.example.org, or use --stun URL"));
    }
    if servers.len() > MOST {
        return Err(Failure::usage(format!(
            "{} servers; at most {MOST} are asked",
            servers.len()
        )));
    }
    Ok(servers)
}

/// The failure that no server answered, in the words of the command.
pub fn silent(message: &str) -> Failure {
    Failure::incomplete(message)
        .kind("no-server")
        .hint("is the network up? other servers can be named with --stun")
}

/// The failure that no socket leads to the servers.
pub fn unasked(error: std::io::Error, net: &NetArgs) -> Failure {
    use std::io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkDown, NetworkUnreachable};
    let unreachable = match error.kind() {
        HostUnreachable | NetworkDown | NetworkUnreachable => true,
        // A machine without an address of the family has none that packets could leave from.
        AddrNotAvailable => net.bind.is_none(),
        _ => false,
    };
    let failure = if unreachable {
        Failure::incomplete("no network leads to the servers")
            .kind("no-network")
            .hint("is the network up? has this machine a default route?")
    } else {
        Failure::incomplete("cannot open a UDP socket")
            .kind("system")
            .hint("--bind takes an address of this machine and a free port")
    };
    failure.because(error)
}

/// Looks all names up, side by side: SRV records first where no port was given (RFC 8489 §8). Of
/// each server one address a family in use, IPv4 first; or why there is none.
pub async fn look_up(
    servers: &[StunServer],
    net: &NetArgs,
) -> Vec<(StunServer, Result<Vec<SocketAddr>, String>)> {
    let mut looking = JoinSet::new();
    for (at, server) in servers.iter().cloned().enumerate() {
        looking.spawn(async move {
            let found = look_up_one(&server).await;
            (at, server, found)
        });
    }
    let mut found = looking.join_all().await;
    found.sort_by_key(|(at, ..)| *at);
    found
        .into_iter()
        .map(|(_, server, addrs)| (server, one_a_family(addrs, net)))
        .collect()
}

fn one_a_family(
    found: anyhow::Result<Vec<SocketAddr>>,
    net: &NetArgs,
) -> Result<Vec<SocketAddr>, String> {
    let found = found.map_err(|error| format!("{error:#}"))?;
    let allowed: Vec<SocketAddr> = found.into_iter().filter(|addr| net.allows(*addr)).collect();
    let of = |is_v4: bool| allowed.iter().find(|addr| addr.is_ipv4() == is_v4);
    if allowed.is_empty() {
        return Err("it has no address of a family in use here".to_owned());
    }
    Ok([of(true), of(false)]
        .into_iter()
        .flatten()
        .copied()
        .collect())
}

async fn look_up_one(server: &StunServer) -> anyhow::Result<Vec<SocketAddr>> {
    let is_name = server.server.host.parse::<IpAddr>().is_err();
    if is_name
        && !server.has_port
        && let Some(named) = probe::look_up(server.transport.service(), &server.server.host).await
    {
        return resolve(&named).await;
    }
    resolve(&server.server).await
}
