//! A [`NatReport`] as a person reads it: `Name: value` lines, the servers, what it means.

use std::fmt::Write as _;
use std::time::Duration;

use super::human::{count, duration};
use super::model::{NatEvidence, NatGateway, NatReport, NatServer};
use super::sanitize::Shown;
use crate::proto::nat::gateway::Protocol;
use crate::proto::nat::{Classic, Filtering, Mapping, Udp};

/// The widest name of a line, with its colon.
const NAME: usize = 19;

/// Renders the whole report; `strong` makes a name stand out where there are colours.
#[must_use]
pub fn render(report: &NatReport, strong: impl Fn(&str) -> String) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let name = strong(&format!("{:<NAME$}", format!("{name}:")));
        let _ = writeln!(text, "{name} {value}");
    };
    let addr = |addr: Option<std::net::SocketAddr>| {
        addr.map_or("unknown".to_owned(), |addr| addr.to_string())
    };
    line("Public address", &addr(report.public));
    line("Local address", &addr(report.local));
    line("UDP", udp(report.udp));
    line("Mapping", &mapping(report));
    line("Filtering", filtering(report.filtering));
    line("Classic name", classic(report.classic));
    line("Hairpinning", hairpinning(report));
    if report.mapping != Mapping::None {
        line("Port preservation", &ports(report));
    }
    line("Fragments", passes(report.fragments));
    if report.rewritten == Some(true) {
        line("ALG", "addresses inside packets are rewritten on the way");
    }
    if report.public_ips.len() > 1 {
        let ips: Vec<String> = report.public_ips.iter().map(ToString::to_string).collect();
        line("Address pool", &ips.join(", "));
    }
    match report.double_nat {
        Some(true) => line("Double NAT", "yes: the router is behind another NAT"),
        Some(false) if report.mapping != Mapping::None => line("Double NAT", "no"),
        _ => {}
    }
    if report.carrier_grade_nat == Some(true) {
        line(
            "Carrier-grade NAT",
            "yes: an address of 100.64.0.0/10 is on the way",
        );
    }
    if let Some(gateway) = &report.gateway {
        line("Port mapping", &port_mapping(gateway));
    }
    if let Some(lived) = report.binding_lifetime_s {
        line("Binding lifetime", &lifetime(lived, report.binding_gone_s));
    }
    if let Some(other) = &report.ipv6 {
        let filter = match other.filtering {
            Filtering::EndpointIndependent => "open",
            Filtering::Unknown => "filtering unknown",
            _ => "filtered",
        };
        let words = match (other.udp, other.mapping) {
            (Udp::Ok, Mapping::None) => format!("{}, no NAT, {filter}", addr(other.public)),
            (Udp::Ok, mapping) => {
                format!(
                    "{}, mapping {}, {filter}",
                    addr(other.public),
                    mapping.word()
                )
            }
            (udp, _) => format!("UDP {}", udp.word()),
        };
        line("IPv6", &words);
    }
    let _ = writeln!(text, "{}", strong("Servers:"));
    let width = report.servers.iter().map(|one| one.url.len()).max();
    for server in &report.servers {
        let _ = writeln!(text, "  {}", self::server(server, width.unwrap_or(0)));
    }
    let unknown: Vec<&NatEvidence> = report
        .evidence
        .iter()
        .filter(|one| is_reason(one))
        .collect();
    if !unknown.is_empty() {
        let _ = writeln!(text, "{}", strong("Not known:"));
        for reason in unknown {
            let _ = writeln!(text, "  {}: {}", reason.test, Shown(&reason.result));
        }
    }
    let _ = writeln!(text, "{} {}", strong("Outlook:"), report.outlook);
    text
}

/// Says what will be done, and what each part of it shows, before it is done.
#[must_use]
pub fn plan(servers: usize, router: bool, lifetime: Option<Duration>) -> String {
    let mut steps = vec![
        format!(
            "one socket asks {} for its outer address: public address, mapping",
            count(servers, "server")
        ),
        "the same asks the other address and ports of a server that has two: mapping".to_owned(),
        "fresh sockets ask it to answer from there: filtering".to_owned(),
        "two sockets send to each other's outer address: hairpinning".to_owned(),
        "a request and an answer in fragments: fragments".to_owned(),
        "the same servers over TCP, if UDP is silent for a second: is UDP blocked".to_owned(),
    ];
    if router {
        let asked = "the router is asked for its outer address and for a mapping";
        steps.push(format!("{asked} (PCP, NAT-PMP, UPnP): double NAT"));
    }
    if let Some(most) = lifetime {
        let idle = duration(most);
        steps.push(format!(
            "sockets stay idle for up to {idle}: binding lifetime"
        ));
    }
    let mut text = String::from("The plan:\n");
    for (number, step) in (1..).zip(steps) {
        let _ = writeln!(text, "  {number}. {step}");
    }
    text
}

/// Renders what was asked and what came back, a line a probe.
#[must_use]
pub fn explain(report: &NatReport, strong: impl Fn(&str) -> String) -> String {
    let mut text = format!("{}\n", strong("What was asked, and what came back:"));
    let mut probes = report.evidence.iter();
    let first = probes.find(|one| is_mapping(one) && one.mapped.is_some());
    for one in report.evidence.iter().filter(|one| !is_reason(one)) {
        let to = one.to.map_or(String::new(), |to| format!(" to {to}"));
        let local = one
            .local
            .map_or(String::new(), |local| format!(" from {local}"));
        let expected = one
            .expected
            .map_or(String::new(), |from| format!(", to be answered by {from}"));
        let mapped = one
            .mapped
            .map_or(String::new(), |mapped| format!(", seen as {mapped}"));
        let source = match (one.from, one.expected, one.to) {
            (Some(from), expected, to) if expected.or(to) != Some(from) => format!(" by {from}"),
            _ => String::new(),
        };
        let tries = match one.tries {
            0 => String::new(),
            1 => " (1 try)".to_owned(),
            tries => format!(" ({tries} tries)"),
        };
        let _ = writeln!(
            text,
            "  {}{local}{to}{expected}: {}{source}{mapped}{tries}",
            one.test,
            Shown(&one.result)
        );
        let shows = if is_mapping(one) {
            mapping_shows(one, first)
        } else {
            rules_out(one)
        };
        let _ = writeln!(text, "    {shows}");
    }
    text
}

fn is_mapping(one: &NatEvidence) -> bool {
    one.test.starts_with("mapping-")
}

/// What one outer address of the main socket says, beside the first that was told.
fn mapping_shows(one: &NatEvidence, first: Option<&NatEvidence>) -> &'static str {
    let (Some(mapped), Some(first)) = (one.mapped, first) else {
        return "nothing to compare";
    };
    if one.to == first.to {
        return if one.local == Some(mapped) {
            "the address is our own: no NAT on the way here"
        } else {
            "the address is not our own: there is a NAT on the way here"
        };
    }
    let other_address = one.to.map(|to| to.ip()) != first.to.map(|to| to.ip());
    match (first.mapped == Some(mapped), other_address) {
        (true, true) => "the same as for the first: it does not change with the address asked",
        (true, false) => "the same as for the first: it does not change with the port asked",
        (false, true) => "not the same as for the first: it changes with the address asked",
        (false, false) => "not the same as for the first: it changes with the port asked",
    }
}

/// What one result says.
fn rules_out(one: &NatEvidence) -> &'static str {
    let answered = one.result == "answered";
    let silent = one.result == "no answer";
    match one.test.trim_end_matches("-again") {
        "control" => "shows how much is lost while the tests of this socket wait",
        "filtering-other-address-and-port" if answered => {
            "a stranger's packet came in: the filter lets in everybody"
        }
        "filtering-other-address-and-port" if silent => {
            "a stranger's packet did not come in: not everybody is let in"
        }
        "filtering-other-port" if answered => {
            "another port of a known address came in: ports are not looked at"
        }
        "filtering-other-port" if silent => {
            "another port of a known address did not come in: ports are looked at"
        }
        test if test.starts_with("server-can-change") && answered => {
            "the server does answer from there: its silence elsewhere is the filter's"
        }
        test if test.starts_with("server-can-change") && silent => {
            "nothing shows that the server answers from there"
        }
        test if test.starts_with("gateway-") && silent => "so it shows nothing about another NAT",
        test if test.starts_with("gateway-") => {
            "beside what servers see, it shows whether there is another NAT"
        }
        "hairpin-stranger" if answered => "whoever sends to our own outer address comes back in",
        "hairpin-stranger" if silent => {
            "who was not sent to does not come back in, if anybody does"
        }
        "hairpin" if answered => "a packet to our own outer address came back in",
        "hairpin" if silent => "a packet to our own outer address did not come back",
        "fragments" if answered => "fragments pass both ways",
        "fragments" if silent => "fragments are dropped somewhere",
        _ => "says nothing about the NAT",
    }
}

/// An entry of the evidence that is the reason for an unknown, and no probe.
fn is_reason(one: &NatEvidence) -> bool {
    one.to.is_none()
}

fn udp(udp: Udp) -> &'static str {
    match udp {
        Udp::Ok => "ok",
        Udp::Blocked => "blocked: servers answer over TCP only",
        Udp::Unknown => "unknown: no server answered, over TCP neither",
    }
}

fn mapping(report: &NatReport) -> String {
    match report.mapping {
        Mapping::None => "none (no NAT)".to_owned(),
        Mapping::Unknown if report.mapping_depends == Some(true) => {
            "unknown, but it depends on the destination".to_owned()
        }
        mapping => mapping.word().to_owned(),
    }
}

fn filtering(filtering: Filtering) -> &'static str {
    filtering.word()
}

fn classic(classic: Classic) -> &'static str {
    match classic {
        Classic::OpenInternet => "open internet",
        Classic::FullCone => "full cone",
        Classic::RestrictedCone => "restricted cone",
        Classic::PortRestrictedCone => "port-restricted cone",
        Classic::Symmetric => "symmetric",
        Classic::SymmetricUdpFirewall => "symmetric UDP firewall",
        Classic::UdpBlocked => "UDP blocked",
        Classic::Unknown => "unknown",
    }
}

fn ports(report: &NatReport) -> String {
    match (
        report.port_preservation,
        report.port_step,
        report.port_parity,
    ) {
        (None, ..) => "unknown".to_owned(),
        (Some(true), ..) => "yes".to_owned(),
        (Some(false), Some(step), _) => format!("no; the next port is predictable (step {step:+})"),
        (Some(false), None, Some(true)) => "no, but parity is kept".to_owned(),
        (Some(false), ..) => "no".to_owned(),
    }
}

fn port_mapping(gateway: &NatGateway) -> String {
    let by = |maps: Option<bool>| {
        let said = gateway.protocols.iter().filter(|one| one.maps == maps);
        let names: Vec<&str> = said.map(|one| name(&one.protocol)).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let addr = gateway.addr;
    if let Some(names) = by(Some(true)) {
        format!("offered by {addr} ({names})")
    } else if let Some(names) = by(Some(false)) {
        format!("refused by {addr} ({names})")
    } else if let Some(names) = by(None) {
        format!("not asked for; {addr} answers {names}")
    } else {
        format!("{addr} answers neither PCP, NAT-PMP nor UPnP")
    }
}

/// The name of a protocol of the router for a person.
fn name(word: &str) -> &str {
    let mut known = Protocol::ALL.into_iter();
    known
        .find(|one| one.word() == word)
        .map_or(word, |one| one.name())
}

fn hairpinning(report: &NatReport) -> &'static str {
    match (report.hairpinning, report.hairpin_filtered) {
        (Some(true), Some(true)) => "yes, between those that have sent to each other",
        (Some(true), _) => "yes",
        (Some(false), _) => "no",
        (None, _) => "unknown",
    }
}

fn passes(fact: Option<bool>) -> &'static str {
    match fact {
        Some(true) => "pass",
        Some(false) => "dropped",
        None => "unknown",
    }
}

/// A lifetime with advice: half of what is safe leaves room for one lost packet.
fn lifetime(lived: f64, gone: Option<f64>) -> String {
    let span = match gone {
        Some(gone) => format!("between {lived:.0} s and {gone:.0} s"),
        None => format!("at least {lived:.0} s"),
    };
    let every = (lived / 2.0).floor().max(1.0);
    format!("{span}; keep it alive with a packet every {every:.0} s")
}

fn server(server: &NatServer, width: usize) -> String {
    let mut text = format!("{:<width$}", server.url);
    match (server.mapped, server.rtt_ms) {
        (Some(mapped), Some(rtt)) => {
            let _ = write!(text, "  {mapped}  {rtt} ms");
        }
        _ => {
            let why = server.error.as_deref().unwrap_or("no answer");
            let _ = write!(text, "  {}", Shown(why));
        }
    }
    if server.rfc5780 {
        text += "  RFC 5780";
    }
    if server.dissents {
        text += "  (disagrees with the others)";
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::report::model::NatProtocol;

    pub fn sample() -> NatReport {
        NatReport {
            command: "nat".into(),
            local: Some("192.168.1.10:50123".parse().unwrap()),
            public: Some("203.0.113.7:50123".parse().unwrap()),
            udp: Udp::Ok,
            mapping: Mapping::EndpointIndependent,
            mapping_depends: Some(false),
            filtering: Filtering::AddressAndPortDependent,
            classic: Classic::PortRestrictedCone,
            hairpinning: Some(false),
            hairpin_filtered: None,
            port_preservation: Some(true),
            port_parity: Some(true),
            port_step: None,
            binding_lifetime_s: Some(30.0),
            binding_gone_s: Some(32.0),
            fragments: Some(true),
            rewritten: Some(false),
            double_nat: None,
            carrier_grade_nat: None,
            gateway: None,
            public_ips: vec!["203.0.113.7".parse().unwrap()],
            servers: vec![NatServer {
                url: "stun:198.51.100.2:3478".into(),
                addr: Some("198.51.100.2:3478".parse().unwrap()),
                mapped: Some("203.0.113.7:50123".parse().unwrap()),
                rtt_ms: Some(12.3),
                rfc5780: true,
                software: Some("\u{1b}[2Jcoturn".into()),
                dissents: false,
                error: None,
            }],
            evidence: vec![
                NatEvidence {
                    test: "mapping-1".into(),
                    local: Some("192.168.1.10:50123".parse().unwrap()),
                    to: Some("198.51.100.2:3478".parse().unwrap()),
                    expected: None,
                    from: Some("198.51.100.2:3478".parse().unwrap()),
                    mapped: Some("203.0.113.7:50123".parse().unwrap()),
                    tries: 1,
                    result: "answered".into(),
                },
                NatEvidence::reason("double NAT", "the router does not say"),
            ],
            ipv6: None,
            outlook: "direct connections work with most peers".into(),
        }
    }

    #[test]
    fn a_person_reads_names_and_values() {
        let text = render(&sample(), str::to_owned);
        assert_eq!(
            text,
            "\
Public address:     203.0.113.7:50123
Local address:      192.168.1.10:50123
UDP:                ok
Mapping:            endpoint-independent
Filtering:          address-and-port-dependent
Classic name:       port-restricted cone
Hairpinning:        no
Port preservation:  yes
Fragments:          pass
Binding lifetime:   between 30 s and 32 s; keep it alive with a packet every 15 s
Servers:
  stun:198.51.100.2:3478  203.0.113.7:50123  12.3 ms  RFC 5780
Not known:
  double NAT: the router does not say
Outlook: direct connections work with most peers
"
        );
    }

    #[test]
    fn what_the_router_offers_is_said_with_the_protocols_that_said_so() {
        let gateway = |protocols: &[(&str, Option<bool>)]| NatGateway {
            addr: "192.168.1.1".parse().unwrap(),
            external: None,
            port_mapping: None,
            protocols: protocols
                .iter()
                .map(|(protocol, maps)| NatProtocol {
                    protocol: (*protocol).to_owned(),
                    external: None,
                    maps: *maps,
                })
                .collect(),
        };
        let (pcp, pmp, upnp) = ("pcp", "nat-pmp", "upnp");
        for (protocols, words) in [
            (
                &[(pcp, Some(true)), (pmp, Some(false)), (upnp, None)][..],
                "offered by 192.168.1.1 (PCP)",
            ),
            (
                &[(pcp, Some(false)), (pmp, Some(false)), (upnp, None)],
                "refused by 192.168.1.1 (PCP, NAT-PMP)",
            ),
            (&[(upnp, None)], "not asked for; 192.168.1.1 answers UPnP"),
            (&[], "192.168.1.1 answers neither PCP, NAT-PMP nor UPnP"),
        ] {
            assert_eq!(port_mapping(&gateway(protocols)), words);
        }
    }

    #[test]
    fn a_plan_numbers_what_will_be_done() {
        let text = plan(1, false, None);
        assert!(
            text.starts_with("The plan:\n  1. one socket asks 1 server for"),
            "{text}"
        );
        assert!(!text.contains("router") && !text.contains("idle"), "{text}");
        let text = plan(3, true, Some(Duration::from_mins(10)));
        assert!(text.contains("\n  7. the router is asked"), "{text}");
        assert!(
            text.ends_with("for up to 10 min: binding lifetime\n"),
            "{text}"
        );
    }

    #[test]
    fn an_explanation_says_what_was_asked_and_what_it_shows() {
        let text = explain(&sample(), str::to_owned);
        assert!(text.contains(
            "  mapping-1 from 192.168.1.10:50123 to 198.51.100.2:3478: answered, seen as 203.0.113.7:50123 (1 try)\n"
        ), "{text}");
        assert!(!text.contains("double NAT"));
        assert!(
            text.contains("\n    the address is not our own: there is a NAT"),
            "{text}"
        );
    }

    #[test]
    fn each_outer_address_is_compared_with_the_first() {
        let first = sample().evidence.remove(0);
        let asked = |to: &str, mapped: Option<&str>| NatEvidence {
            to: Some(to.parse().unwrap()),
            mapped: mapped.map(|text| text.parse().unwrap()),
            ..first.clone()
        };
        let (same, other) = (Some("203.0.113.7:50123"), Some("203.0.113.7:1"));
        for (one, shows) in [
            (
                asked("198.51.100.3:3479", same),
                "does not change with the address",
            ),
            (
                asked("198.51.100.2:3479", same),
                "does not change with the port",
            ),
            (
                asked("198.51.100.3:3479", other),
                "it changes with the address",
            ),
            (
                asked("198.51.100.2:3479", other),
                "it changes with the port",
            ),
            (asked("198.51.100.2:3479", None), "nothing to compare"),
            (
                asked("198.51.100.2:3478", Some("192.168.1.10:50123")),
                "no NAT on the way",
            ),
        ] {
            let said = mapping_shows(&one, Some(&first));
            assert!(said.contains(shows), "{said} {one:?}");
        }
    }
}
