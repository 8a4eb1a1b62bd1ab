//! What the router next to us says about itself: its outer address, and whether it maps ports on
//! request. PCP (RFC 6887), NAT-PMP (RFC 6886), and the search of UPnP (UDA 1.1, §1.3).
//!
//! Only the router is believed, and only in answer to an open request. A mapping that it makes is
//! for a socket of ours that answers nobody, and is given back at once; its lifetime ends it anyway.

mod fuzz;
mod nat_pmp;
mod pcp;
pub mod upnp;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

#[doc(hidden)]
pub use fuzz::fuzz;

use self::upnp::Place;
use super::discover::{Machine, Output, SocketId};
use super::words::Mapping;
use crate::proto::address::is_shared;

/// Where PCP and NAT-PMP are served (RFC 6886 §3.1, RFC 6887 §19.1).
const PORT: u16 = 5351;
/// First tries are 0, 250 and 750 ms after the start; what is silent 1.5 s after it has not
/// answered. RFC 6886 §3.1 starts so too, but goes on for a minute; a person waits for this.
const TRIES: u32 = 3;
const FIRST_INTERVAL: Duration = Duration::from_millis(250);
/// How long after the last try an answer is waited for.
const LAST_WAIT: Duration = Duration::from_millis(750);
/// How long a mapping that we ask for lives, if we cannot give it back.
const MAPPING_LIFETIME: Duration = Duration::from_secs(30);
/// Places of UPnP that are looked at.
const MAX_PLACES: usize = 4;

/// A protocol by which hosts ask routers for mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Pcp,
    NatPmp,
    Upnp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pcp, Self::NatPmp, Self::Upnp];

    /// The word of reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pcp => "pcp",
            Self::NatPmp => "nat-pmp",
            Self::Upnp => "upnp",
        }
    }

    /// The name for a person.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Upnp => "UPnP",
        }
    }

    /// Where the router is asked.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Pcp | Self::NatPmp => PORT,
            Self::Upnp => upnp::PORT,
        }
    }
}

/// What the router said by one protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub protocol: Protocol,
    /// The outer address that it claims to have.
    pub external: Option<Ipv4Addr>,
    /// Whether it made a mapping that it was asked for; `None` if it was not asked.
    pub maps: Option<bool>,
    /// The same in words. May hold the router's own; hostile.
    pub words: String,
}

/// The machine; see [`Machine`]. Silent protocols are missing in what it says.
#[derive(Debug)]
pub struct Gateway {
    gateway: Ipv4Addr,
    nonce: [u8; 12],
    local: Option<SocketAddrV4>,
    exchanges: Vec<Exchange>,
    said: Vec<Said>,
    places: Vec<Place>,
    queue: VecDeque<Output>,
    now: Instant,
    done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    PcpMap,
    PcpUnmap,
    PmpAddress,
    PmpMap,
    PmpUnmap,
    Search,
}

#[derive(Debug)]
struct Exchange {
    ask: Ask,
    tries: u32,
    /// When to try again, or to give up.
    next: Instant,
    open: bool,
}

impl Gateway {
    /// Asks `gateway`. `seed` must be unpredictable: the nonce of PCP comes from it.
    #[must_use]
    pub fn new(now: Instant, seed: [u8; 32], gateway: Ipv4Addr) -> Self {
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&seed[..12]);
        Self {
            gateway,
            nonce,
            local: None,
            exchanges: vec![],
            said: vec![],
            places: vec![],
            queue: VecDeque::from([Output::Open(0)]),
            now,
            done: false,
        }
    }

    /// What it said by PCP and NAT-PMP.
    #[must_use]
    pub fn said(&self) -> &[Said] {
        &self.said
    }

    /// Where it describes itself by UPnP.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    fn start(&mut self, ask: Ask) {
        let next = self.now;
        self.exchanges.push(Exchange {
            ask,
            tries: 0,
            next,
            open: true,
        });
    }

    /// Whether this is asked and not yet answered; it is answered now.
    fn settle(&mut self, ask: Ask) -> bool {
        let mut open = self.exchanges.iter_mut();
        let found = open.find(|one| one.ask == ask && one.open && one.tries > 0);
        found.is_some_and(|one| {
            one.open = false;
            true
        })
    }

    fn advance(&mut self, now: Instant) {
        self.now = now;
        for index in 0..self.exchanges.len() {
            let one = &mut self.exchanges[index];
            if !one.open || now < one.next {
                continue;
            }
            if one.tries == TRIES {
                one.open = false;
                continue;
            }
            one.next = now
                + match one.tries {
                    0 => FIRST_INTERVAL,
                    1 => FIRST_INTERVAL * 2,
                    _ => LAST_WAIT,
                };
            one.tries += 1;
            let ask = one.ask;
            self.transmit(ask);
        }
        self.done |= self.local.is_some() && self.exchanges.iter().all(|one| !one.open);
    }

    fn transmit(&mut self, ask: Ask) {
        let Some(local) = self.local else { return };
        let router = SocketAddrV4::new(self.gateway, PORT);
        let mut send = |to: SocketAddrV4, bytes: Vec<u8>| {
            let to = SocketAddr::V4(to);
            self.queue.push_back(Output::Transmit {
                socket: 0,
                to,
                bytes,
            });
        };
        match ask {
            Ask::PcpMap => send(router, pcp::map(local, self.nonce, MAPPING_LIFETIME)),
            Ask::PcpUnmap => send(router, pcp::map(local, self.nonce, Duration::ZERO)),
            Ask::PmpAddress => send(router, nat_pmp::external_address()),
            Ask::PmpMap => send(router, nat_pmp::map(local.port(), MAPPING_LIFETIME)),
            Ask::PmpUnmap => send(router, nat_pmp::map(local.port(), Duration::ZERO)),
            // Some routers hear only the group, some only what is sent to themselves.
            Ask::Search => {
                for to in [SocketAddrV4::new(self.gateway, upnp::PORT), upnp::GROUP] {
                    send(to, upnp::search());
                }
            }
        }
    }

    fn handle_pcp(&mut self, bytes: &[u8]) {
        let Some(answer) = pcp::read(bytes, self.nonce) else {
            return;
        };
        // Giving back is answered alike; what it says adds nothing.
        if !self.settle(Ask::PcpMap) {
            self.settle(Ask::PcpUnmap);
            return;
        }
        match answer {
            Ok(external) => {
                self.tell(Protocol::Pcp, usable(external), Some(true));
                self.start(Ask::PcpUnmap);
            }
            Err(code) => self.refuse(Protocol::Pcp, None, pcp::reason(code)),
        }
    }

    fn handle_nat_pmp(&mut self, bytes: &[u8]) {
        match nat_pmp::read(bytes) {
            Some(nat_pmp::Answer::Address(answer)) if self.settle(Ask::PmpAddress) => {
                match answer {
                    Ok(external) => {
                        self.tell(Protocol::NatPmp, usable(external), None);
                        self.start(Ask::PmpMap);
                    }
                    Err(code) => self.refuse(Protocol::NatPmp, None, nat_pmp::reason(code)),
                }
            }
            Some(nat_pmp::Answer::Mapped(answer)) if self.settle(Ask::PmpMap) => {
                let external = self
                    .said
                    .iter()
                    .find(|said| said.protocol == Protocol::NatPmp);
                let external = external.and_then(|said| said.external);
                self.said.retain(|said| said.protocol != Protocol::NatPmp);
                match answer {
                    Ok(()) => {
                        self.tell(Protocol::NatPmp, external, Some(true));
                        self.start(Ask::PmpUnmap);
                    }
                    Err(code) => self.refuse(Protocol::NatPmp, external, nat_pmp::reason(code)),
                }
            }
            Some(nat_pmp::Answer::Mapped(_)) => {
                self.settle(Ask::PmpUnmap);
            }
            _ => {}
        }
    }

    fn tell(&mut self, protocol: Protocol, external: Option<Ipv4Addr>, maps: Option<bool>) {
        let mapped = if maps == Some(true) {
            ", and makes a mapping"
        } else {
            ""
        };
        let words = match external {
            Some(external) => format!("says that its outer address is {external}{mapped}"),
            None => format!("names no outer address that one can have{mapped}"),
        };
        self.said.push(Said {
            protocol,
            external,
            maps,
            words,
        });
    }

    fn refuse(&mut self, protocol: Protocol, external: Option<Ipv4Addr>, why: String) {
        let words = match external {
            Some(external) => {
                format!("says that its outer address is {external}, but refuses a mapping: {why}")
            }
            None => format!("refuses: {why}"),
        };
        self.said.push(Said {
            protocol,
            external,
            maps: Some(false),
            words,
        });
    }
}

impl Machine for Gateway {
    fn handle_opened(&mut self, now: Instant, _: SocketId, local: SocketAddr) {
        let SocketAddr::V4(local) = local else {
            self.done = true;
            return;
        };
        self.now = now;
        if self.local.replace(local).is_none() {
            for ask in [Ask::PcpMap, Ask::PmpAddress, Ask::Search] {
                self.start(ask);
            }
        }
        self.advance(now);
    }

    fn handle_not_opened(&mut self, now: Instant, _: SocketId) {
        self.now = now;
        self.done = true;
    }

    /// The other ways may still work; and the next try of this one.
    fn handle_send_error(&mut self, now: Instant, _: SocketId, _: SocketAddr) {
        self.advance(now);
    }

    fn handle_datagram(&mut self, now: Instant, _: SocketId, from: SocketAddr, bytes: &[u8]) {
        self.now = now;
        if from.ip() == IpAddr::V4(self.gateway) {
            match (from.port() == PORT, bytes.first()) {
                (true, Some(&pcp::VERSION)) => self.handle_pcp(bytes),
                (true, Some(&nat_pmp::VERSION)) => self.handle_nat_pmp(bytes),
                (false, _) => {
                    if let Some(place) = upnp::place(bytes, self.gateway)
                        && self.settle(Ask::Search) | !self.places.is_empty()
                        && !self.places.contains(&place)
                        && self.places.len() < MAX_PLACES
                    {
                        self.places.push(place);
                    }
                }
                _ => {}
            }
        }
        self.advance(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    fn poll_output(&mut self) -> Output {
        if let Some(output) = self.queue.pop_front() {
            return output;
        }
        if self.done {
            return Output::Done;
        }
        let open = self.exchanges.iter().filter(|one| one.open);
        let next = open.map(|one| one.next).min();
        Output::Idle(next.unwrap_or(self.now + FIRST_INTERVAL))
    }
}

/// An address that an interface can have and packets can be sent to.
fn usable(ip: Ipv4Addr) -> Option<Ipv4Addr> {
    let fits =
        !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast() && !ip.is_loopback();
    fits.then_some(ip)
}

/// An address that is not routed on the internet, so that whoever has it is behind a NAT.
fn is_inner(ip: Ipv4Addr) -> bool {
    ip.is_private() || ip.is_link_local() || is_shared(ip)
}

/// The outer address that the router claims by any protocol.
///
/// # Errors
/// The reason why there is none.
pub fn external(router: Ipv4Addr, said: &[Said]) -> Result<Ipv4Addr, String> {
    let mut claims = said
        .iter()
        .filter_map(|said| Some((said.protocol, said.external?)));
    let Some((by, claim)) = claims.next() else {
        let refusals: Vec<String> = said
            .iter()
            .map(|said| format!("by {} it {}", said.protocol.name(), said.words))
            .collect();
        return Err(if refusals.is_empty() {
            format!("the router {router} does not answer PCP, NAT-PMP or UPnP")
        } else {
            format!(
                "the router {router} does not tell its outer address: {}",
                refusals.join("; ")
            )
        });
    };
    match claims.find(|(_, other)| *other != claim) {
        None => Ok(claim),
        Some((other_by, other)) => Err(format!(
            "the router {router} says {claim} by {} and {other} by {}",
            by.name(),
            other_by.name()
        )),
    }
}

/// Judges whether there is another NAT behind the router: `external` is what the router says, and
/// `outer` what servers see.
///
/// # Errors
/// The reason why that is not known.
pub fn double_nat(
    mapping: Mapping,
    outer: &[IpAddr],
    external: Result<Ipv4Addr, String>,
) -> Result<bool, String> {
    if mapping == Mapping::None {
        return Ok(false);
    }
    let Some(seen) = outer.iter().find(|ip| ip.is_ipv4()) else {
        return Err("no server told a public IPv4 address".to_owned());
    };
    let external = external?;
    if outer.contains(&external.into()) {
        Ok(false)
    } else if is_inner(external) {
        Ok(true)
    } else {
        Err(format!(
            "the router says {external}, servers see {seen}: another NAT, or several addresses"
        ))
    }
}

/// Judges whether a carrier's NAT is on the way, by the addresses set aside for it (RFC 6598).
/// Carriers use others too, so `None` where none of them is seen.
#[must_use]
pub fn carrier_grade(
    local: Option<IpAddr>,
    external: Option<Ipv4Addr>,
    double_nat: Option<bool>,
) -> Option<bool> {
    let shared =
        matches!(local, Some(IpAddr::V4(ip)) if is_shared(ip)) || external.is_some_and(is_shared);
    match double_nat {
        _ if shared => Some(true),
        Some(false) => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
    const OUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

    /// Runs a machine against a router that answers so, and tells what was sent, and how long it
    /// took.
    fn run(
        answer: impl Fn(&SocketAddr, &[u8]) -> Option<Vec<u8>>,
    ) -> (Gateway, Vec<(SocketAddr, Vec<u8>)>, Duration) {
        let start = Instant::now();
        let (mut now, mut sent) = (start, vec![]);
        let mut machine = Gateway::new(now, [7; 32], ROUTER);
        loop {
            match machine.poll_output() {
                Output::Open(0) => {
                    machine.handle_opened(now, 0, "192.168.1.10:50000".parse().unwrap());
                }
                Output::Open(_) => panic!("one socket is enough"),
                Output::Transmit { to, bytes, .. } => {
                    if let Some(answer) = answer(&to, &bytes) {
                        let from = SocketAddr::new(ROUTER.into(), to.port());
                        machine.handle_datagram(now, 0, from, &answer);
                    }
                    sent.push((to, bytes));
                }
                Output::Idle(until) => {
                    now = until;
                    machine.handle_timeout(now);
                }
                Output::Done => return (machine, sent, now - start),
            }
        }
    }

    fn pcp_answer(request: &[u8], code: u8) -> Vec<u8> {
        let mut answer = request.to_vec();
        answer[1] |= 0x80;
        answer[3] = code;
        answer[44..60].copy_from_slice(&OUTER.to_ipv6_mapped().octets());
        answer
    }

    fn is_pcp(to: &SocketAddr, bytes: &[u8]) -> bool {
        to.port() == PORT && bytes[0] == pcp::VERSION
    }

    #[test]
    fn a_router_that_maps_by_pcp_is_believed_and_gets_its_mapping_back() {
        let (machine, sent, _) =
            run(|to, request| is_pcp(to, request).then(|| pcp_answer(request, 0)));
        let said = machine.said();
        assert_eq!(said.len(), 1);
        assert_eq!(
            (said[0].protocol, said[0].external, said[0].maps),
            (Protocol::Pcp, Some(OUTER), Some(true))
        );
        let lifetimes: Vec<u8> = sent
            .iter()
            .filter(|(to, bytes)| is_pcp(to, bytes))
            .map(|(_, bytes)| bytes[7])
            .collect();
        assert_eq!(lifetimes, [30, 0], "asked once, given back once");
    }

    #[test]
    fn a_router_that_speaks_nat_pmp_says_its_address_and_maps() {
        let (machine, sent, _) = run(|to, request| {
            let answers = to.port() == PORT && request[0] == nat_pmp::VERSION;
            answers.then(|| match request[1] {
                0 => [&[0, 128, 0, 0, 0, 0, 0, 9][..], &OUTER.octets()].concat(),
                _ => [&[0, 129, 0, 0, 0, 0, 0, 9][..], &request[4..12]].concat(),
            })
        });
        let said = &machine.said()[0];
        assert_eq!(
            (said.protocol, said.external, said.maps),
            (Protocol::NatPmp, Some(OUTER), Some(true))
        );
        let last = sent.iter().rfind(|(_, bytes)| bytes.len() == 12).unwrap();
        assert_eq!(last.1[8..], [0; 4], "given back");
    }

    #[test]
    fn a_refusal_is_told_with_its_reason() {
        let (machine, sent, _) =
            run(|to, request| is_pcp(to, request).then(|| pcp_answer(request, 11)));
        let said = &machine.said()[0];
        assert_eq!((said.external, said.maps), (None, Some(false)));
        assert_eq!(said.words, "refuses: cannot provide the outer address (11)");
        let pcp = sent.iter().filter(|(to, bytes)| is_pcp(to, bytes));
        assert_eq!(pcp.count(), 1, "nothing to give back");
    }

    #[test]
    fn a_router_that_is_silent_is_given_up_after_three_tries_of_each() {
        let (machine, sent, took) = run(|_, _| None);
        assert!(machine.said().is_empty() && machine.places().is_empty());
        // PCP, NAT-PMP, and the search at the router and in the group.
        assert_eq!(sent.len(), 12);
        assert_eq!(took, Duration::from_millis(1500));
    }

    #[test]
    fn others_than_the_router_are_not_believed() {
        let mut machine = Gateway::new(Instant::now(), [7; 32], ROUTER);
        let now = Instant::now();
        machine.handle_opened(now, 0, "192.168.1.10:50000".parse().unwrap());
        let address = [&[0, 128, 0, 0, 0, 0, 0, 9][..], &OUTER.octets()].concat();
        let place = b"HTTP/1.1 200 OK\r\nLocation: http://192.168.1.1/\r\n\r\n";
        for from in ["192.168.1.2:5351", "192.168.1.2:1900"] {
            let from = from.parse().unwrap();
            machine.handle_datagram(now, 0, from, &address);
            machine.handle_datagram(now, 0, from, place);
        }
        assert!(machine.said().is_empty() && machine.places().is_empty());
        // A description is often named from a port of its own.
        machine.handle_datagram(now, 0, "192.168.1.1:1901".parse().unwrap(), place);
        assert_eq!(machine.places().len(), 1);
    }

    #[test]
    fn claims_that_differ_are_no_claim() {
        let says = |protocol, external: Option<&str>| Said {
            protocol,
            external: external.map(|text| text.parse().unwrap()),
            maps: None,
            words: "refuses: no".to_owned(),
        };
        let said = [
            says(Protocol::Pcp, None),
            says(Protocol::NatPmp, Some("203.0.113.7")),
            says(Protocol::Upnp, Some("203.0.113.7")),
        ];
        assert_eq!(external(ROUTER, &said), Ok(OUTER));
        let why = |said: &[Said]| external(ROUTER, said).unwrap_err();
        let differ = [
            says(Protocol::Pcp, Some("10.0.0.2")),
            says(Protocol::Upnp, Some("203.0.113.7")),
        ];
        assert_eq!(
            why(&differ),
            "the router 192.168.1.1 says 10.0.0.2 by PCP and 203.0.113.7 by UPnP"
        );
        assert!(why(&said[..1]).ends_with("outer address: by PCP it refuses: no"));
        assert!(why(&[]).ends_with("does not answer PCP, NAT-PMP or UPnP"));
    }

    fn judged(mapping: Mapping, external: Option<Ipv4Addr>) -> Option<bool> {
        let outer = [OUTER.into()];
        double_nat(mapping, &outer, external.ok_or_else(String::new)).ok()
    }

    #[test]
    fn another_nat_is_said_only_where_the_addresses_show_it() {
        let ip = |text: &str| text.parse::<Ipv4Addr>().ok();
        let cone = Mapping::EndpointIndependent;
        assert_eq!(judged(cone, Some(OUTER)), Some(false));
        for inner in [
            "10.0.0.2",
            "172.16.0.2",
            "192.168.0.2",
            "100.64.0.2",
            "169.254.1.1",
        ] {
            assert_eq!(judged(cone, ip(inner)), Some(true), "{inner}");
        }
        for outer in ["198.51.100.1", "100.128.0.1", "100.63.0.1"] {
            assert_eq!(judged(cone, ip(outer)), None, "{outer}");
        }
        assert_eq!(judged(cone, None), None);
        assert_eq!(judged(Mapping::None, None), Some(false));
        assert_eq!(
            double_nat(cone, &[], Ok(OUTER)),
            Err("no server told a public IPv4 address".to_owned())
        );
    }

    #[test]
    fn a_carriers_nat_is_known_by_its_addresses_alone() {
        let shared: Ipv4Addr = "100.64.0.2".parse().unwrap();
        let home = Some("192.168.1.10".parse().unwrap());
        assert_eq!(carrier_grade(home, Some(shared), Some(true)), Some(true));
        assert_eq!(carrier_grade(Some(shared.into()), None, None), Some(true));
        assert_eq!(carrier_grade(home, Some(OUTER), Some(false)), Some(false));
        assert_eq!(
            carrier_grade(home, "10.0.0.2".parse().ok(), Some(true)),
            None
        );
        assert_eq!(carrier_grade(home, None, None), None);
    }
}
