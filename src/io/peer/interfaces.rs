//! Which local addresses are worth offering to a peer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::io::probe::source;

/// Interfaces made by container and virtual machine tools: rarely a way to a peer.
const VIRTUAL: [&str; 9] = [
    "docker", "br-", "veth", "virbr", "vmnet", "vboxnet", "lxc", "podman", "cni",
];

/// Local addresses, the likeliest way to a peer first: those of the default routes, then the
/// others, then those of virtual interfaces. Loopback only when there is nothing else;
/// link-local never (a peer cannot use an IPv6 one without our zone).
pub fn local_addresses() -> Vec<IpAddr> {
    let interfaces = match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            log::warn!("list of network interfaces: {error}");
            vec![]
        }
    };
    let somewhere: [SocketAddr; 2] = [
        (Ipv4Addr::new(192, 0, 2, 1), 9).into(),
        (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into(),
    ];
    let routed: Vec<IpAddr> = somewhere
        .into_iter()
        .filter_map(|to| source(to).ok())
        .collect();
    let mut ranked: Vec<(u8, IpAddr)> = vec![];
    for interface in interfaces {
        let ip = interface.ip();
        if interface.is_link_local()
            || ip.is_unspecified()
            || ranked.iter().any(|(_, known)| *known == ip)
        {
            continue;
        }
        let rank = if interface.is_loopback() {
            3
        } else if VIRTUAL
            .iter()
            .any(|prefix| interface.name.starts_with(prefix))
        {
            2
        } else {
            u8::from(!routed.contains(&ip))
        };
        ranked.push((rank, ip));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    if ranked.iter().any(|(rank, _)| *rank < 3) {
        ranked.retain(|(rank, _)| *rank < 3);
    }
    ranked.into_iter().map(|(_, ip)| ip).collect()
}

/// Whether this machine can open IPv6 sockets at all.
pub fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}
