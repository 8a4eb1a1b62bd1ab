//! The laboratory tested without knothole: a NAT that is not what it is called proves nothing.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::daemon::{Coturn, mapped_address};
use crate::net::{
    BINDING_LIFETIME, FIRST_PORTS, Family, Host, MOVED_PORTS, Nat, Net, SERVER, behind,
};
use crate::{eventually, run};

const STUN: SocketAddr = SocketAddr::new(IpAddr::V4(SERVER), 3478);

/// Each kind of NAT with what `turnutils_natdiscovery` is to say of mapping and filtering.
const NAMED: [(Nat, &str, &str); 6] = [
    (
        Nat::Open,
        "Endpoint Independent Mapping",
        "Endpoint Independent Filtering",
    ),
    (
        Nat::Firewall,
        "Endpoint Independent Mapping",
        "Address and Port Dependent Filtering",
    ),
    (
        Nat::FullCone,
        "Endpoint Independent Mapping",
        "Endpoint Independent Filtering",
    ),
    (
        Nat::PortRestricted,
        "Endpoint Independent Mapping",
        "Address and Port Dependent Filtering",
    ),
    (
        Nat::Renumbering,
        "Endpoint Independent Mapping",
        "Address and Port Dependent Filtering",
    ),
    (
        Nat::Symmetric,
        "Address and Port Dependent Mapping",
        "Address and Port Dependent Filtering",
    ),
];

#[test]
fn the_lab_nats_behave_as_named() {
    run(|lab| {
        let net = Net::build(&NAMED.map(|(nat, ..)| behind(nat)))?;
        let _server = Coturn::start(lab, &net)?;
        std::thread::scope(|scope| {
            let probes: Vec<_> = NAMED
                .iter()
                .zip(&net.hosts)
                .map(|(named, host)| scope.spawn(move || natdiscovery_agrees(*named, host)))
                .collect();
            probes
                .into_iter()
                .try_for_each(|probe| probe.join().expect("no panic"))
        })
    });
}

#[test]
fn the_lab_nats_let_through_the_pairs_that_theory_says() {
    run(|lab| {
        let net = Net::build(&NAMED.map(|(nat, ..)| behind(nat)))?;
        let _server = Coturn::start(lab, &net)?;
        for (early, (a, ..)) in NAMED.iter().enumerate() {
            for (late, (b, ..)) in NAMED.iter().enumerate() {
                if early != late {
                    let expected = can_meet(*a, *b);
                    // What is to come is waited for; what is not, only for a moment.
                    let rounds = if expected { 100 } else { 5 };
                    let met = punch(&net.hosts[early], &net.hosts[late], rounds)?;
                    ensure!(met == expected, "{a:?} with {b:?}: {met}");
                }
            }
        }
        Ok(())
    });
}

#[test]
fn the_lab_nats_forget_and_move_bindings() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::Renumbering)])?;
        let _server = Coturn::start(lab, &net)?;
        let (host, router) = (&net.hosts[0], &net.sites[0]);
        let socket = host.socket()?;
        let inner = socket.local_addr()?.port();

        let before = ask(&socket, STUN)?;
        ensure!(FIRST_PORTS.contains(&before.port()), "mapped to {before}");
        // After two seconds of talk both ways the kernel would give a binding a longer life.
        let mut list = String::new();
        eventually(Duration::from_secs(10), "a binding used both ways", || {
            ask(&socket, STUN)?;
            list = router.ns.output("conntrack", &["-L", "-p", "udp"])?;
            Ok(list.contains("[ASSURED]"))
        })?;
        let left = list
            .split_whitespace()
            .nth(2)
            .and_then(|left| left.parse().ok());
        let left: u64 = left.with_context(|| list.clone())?;
        let life = BINDING_LIFETIME.as_secs();
        ensure!(
            (life - 5..=life).contains(&left),
            "a binding lives {left} s"
        );

        ensure!(router.has_binding(inner)?, "no binding");
        router.move_mappings()?;
        ensure!(!router.has_binding(inner)?, "the binding is still there");
        let after = ask(&socket, STUN)?;
        ensure!(MOVED_PORTS.contains(&after.port()), "moved to {after}");
        let other = ask(&socket, SocketAddr::new(STUN.ip(), 3479))?;
        ensure!(other == after, "moved to {after} and {other}");
        Ok(())
    });
}

#[test]
fn the_lab_links_can_be_cut_and_mended() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::PortRestricted)])?;
        let _server = Coturn::start(lab, &net)?;
        let host = &net.hosts[0];
        let socket = host.socket()?;

        ask(&socket, STUN).context("at first")?;
        net.cut(0)?;
        ensure!(is_silent(&socket, STUN)?, "an answer through the cut");
        net.mend()?;
        ask(&socket, STUN).context("mended")?;

        host.offline(Duration::from_millis(50))?;
        ask(&socket, STUN).context("back online").map(drop)
    });
}

#[test]
fn the_lab_has_neighbours_ipv6_and_a_site_without_udp() {
    run(|lab| {
        let net = Net::build(&[
            behind(Nat::PortRestricted).hosts(2),
            behind(Nat::Firewall).family(Family::V6).hosts(2),
            behind(Nat::UdpBlocked),
        ])?;
        let _server = Coturn::start(lab, &net)?;
        let [four, other_four, six, other_six, blocked] = &net.hosts[..] else {
            unreachable!("five hosts were asked for");
        };
        ensure!(reaches(four, other_four)?, "no LAN");
        ensure!(reaches(six, other_six)?, "no IPv6 LAN");
        ensure!(is_silent(&blocked.socket()?, STUN)?, "UDP went through");
        blocked.connect(STUN).context("TCP").map(drop)
    });
}

fn natdiscovery_agrees((nat, mapping, filtering): (Nat, &str, &str), host: &Host) -> Result<()> {
    let address = SERVER.to_string();
    let said = host
        .ns
        .output("turnutils_natdiscovery", &["-m", "-f", &address])?;
    for verdict in [mapping, filtering] {
        ensure!(said.contains(verdict), "{nat:?} has not {verdict}:\n{said}");
    }
    Ok(())
}

/// RFC 5128 in short: a mapping that depends on the destination fails where ports are filtered.
fn can_meet(a: Nat, b: Nat) -> bool {
    let filters_ports = |nat| {
        matches!(
            nat,
            Nat::Firewall | Nat::PortRestricted | Nat::Renumbering | Nat::Symmetric
        )
    };
    let fails = |a, b| a == Nat::Symmetric && filters_ports(b);
    !fails(a, b) && !fails(b, a)
}

/// Whether two hosts that know each other's STUN address get a packet across both ways, one of
/// them early, each answering to where it was heard from.
fn punch(early: &Host, late: &Host, rounds: u32) -> Result<bool> {
    let (early, late) = (early.socket()?, late.socket()?);
    let (early_at, late_at) = (ask(&early, STUN)?, ask(&late, STUN)?);
    for socket in [&early, &late] {
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    }
    early.send_to(b"check", late_at)?;
    late.send_to(b"check", early_at)?;
    early.send_to(b"check", late_at)?;
    let (mut early_heard, mut late_heard) = (false, false);
    for _ in 0..rounds {
        late_heard |= answer(&late)?;
        early_heard |= answer(&early)?;
        if early_heard && late_heard {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Answers what has come, and says whether anything had.
fn answer(socket: &UdpSocket) -> Result<bool> {
    let mut heard = false;
    let mut buffer = [0; 16];
    // A bounded number, or two sockets would answer each other for ever.
    for _ in 0..2 {
        match socket.recv_from(&mut buffer) {
            Ok((_, from)) => {
                heard = true;
                socket.send_to(b"answer", from)?;
            }
            Err(error) if is_silence(&error) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(heard)
}

/// The address a STUN server sees, asked for as a client does: again, if need be.
fn ask(socket: &UdpSocket, server: SocketAddr) -> Result<SocketAddr> {
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut answer = mapped_address(socket, server);
    for _ in 0..5 {
        if answer.is_err() {
            answer = mapped_address(socket, server);
        }
    }
    answer
}

fn is_silent(socket: &UdpSocket, server: SocketAddr) -> Result<bool> {
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    Ok(mapped_address(socket, server).is_err())
}

fn reaches(from: &Host, to: &Host) -> Result<bool> {
    let (from, to) = (from.socket()?, to.socket()?);
    to.set_read_timeout(Some(Duration::from_secs(3)))?;
    from.send_to(b"hello", to.local_addr()?)?;
    Ok(to.recv(&mut [0; 16]).is_ok())
}

/// Nothing within the timeout, or a router's word that there will be nothing.
fn is_silence(error: &std::io::Error) -> bool {
    use ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut, WouldBlock};
    matches!(
        error.kind(),
        WouldBlock | TimedOut | ConnectionRefused | HostUnreachable | NetworkUnreachable
    )
}
