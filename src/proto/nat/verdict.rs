//! From what was seen to what is known: pure judgement over the probes of a [`Discovery`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::discover::{BOTH, Discovery, IP, MAIN, Outcome, PORT, Probe, Suite, Test, outer_ips};
use super::words::{Filtering, Mapping};

/// What was found out about one address family. Nothing in it is guessed.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The address of the socket that all servers were asked from.
    pub local: Option<SocketAddr>,
    /// Its outer address, as the majority of servers sees it; with a mapping that depends on the
    /// destination, as the first server does.
    pub public: Option<SocketAddr>,
    /// Whether any server answered.
    pub answered: bool,
    pub mapping: Mapping,
    /// Whether the outer address changes with the destination, where at least that is known.
    pub depends: Option<bool>,
    pub filtering: Filtering,
    /// `None`: not established, or there is no translation.
    pub hairpinning: Option<bool>,
    /// Where it does: whether only those come in that were sent to.
    pub hairpin_filtered: Option<bool>,
    pub ports: Ports,
    /// Whether datagrams in fragments get through both ways.
    pub fragments: Option<bool>,
    /// Whether something rewrites addresses inside packets: the plain and the XOR-ed address of an
    /// answer differ.
    pub rewritten: Option<bool>,
    /// Every outer IP address that was seen: more than one is a pool (RFC 4787 §4.1).
    pub outer_ips: Vec<std::net::IpAddr>,
    pub servers: Vec<Seen>,
    pub evidence: Vec<Evidence>,
    /// Why something is not known: what, and the reason.
    pub reasons: Vec<(&'static str, String)>,
}

impl Default for Report {
    /// The report of who has asked nobody.
    fn default() -> Self {
        Self {
            local: None,
            public: None,
            answered: false,
            mapping: Mapping::Unknown,
            depends: None,
            filtering: Filtering::Unknown,
            hairpinning: None,
            hairpin_filtered: None,
            ports: Ports::default(),
            fragments: None,
            rewritten: None,
            outer_ips: vec![],
            servers: vec![],
            evidence: vec![],
            reasons: vec![],
        }
    }
}

/// How outer ports are chosen (RFC 4787 §4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Whether every socket kept its port.
    pub preserved: Option<bool>,
    /// Whether even ports stay even and odd ones odd.
    pub parity: Option<bool>,
    /// The constant step between the ports of mappings made one after the other.
    pub step: Option<i32>,
}

/// One server's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub name: String,
    pub addr: SocketAddr,
    pub mapped: Option<SocketAddr>,
    pub rtt: Option<Duration>,
    /// Whether it names another address that can be used (RFC 5780).
    pub rfc5780: bool,
    /// The server's word for itself; hostile.
    pub software: Option<String>,
    /// It disagrees with the majority of the others.
    pub dissents: bool,
}

/// One probe and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub test: String,
    /// The local address it left from.
    pub local: Option<SocketAddr>,
    pub to: SocketAddr,
    /// Where the answer had to come from, if not from `to`.
    pub expected: Option<SocketAddr>,
    /// Where the answer came from.
    pub from: Option<SocketAddr>,
    pub mapped: Option<SocketAddr>,
    pub tries: usize,
    pub result: String,
}

/// Whether this server's silence and answers say nothing about the filter.
pub(super) fn server_is_useless(machine: &Discovery, suite: usize) -> bool {
    filtering_of(machine, suite).is_err()
}

pub(super) fn report(machine: &Discovery) -> Report {
    let local = machine.sockets.first().copied().flatten();
    let mut reasons = vec![];
    let facts = facts(machine);
    let opinion = Opinion::of(machine);
    let (mapping, depends) = match mapping(local, &facts, machine, &opinion) {
        Ok(mapping) => (mapping, Some(mapping.depends())),
        Err((reason, depends)) => {
            reasons.push(("mapping", reason));
            (Mapping::Unknown, depends)
        }
    };
    let filtering = match filtering(machine) {
        Ok(filtering) => filtering,
        Err(reason) => {
            reasons.push(("filtering", reason));
            Filtering::Unknown
        }
    };
    let hairpinning = match hairpinning(machine, mapping) {
        Ok(answer) => Some(answer),
        Err(reason) => {
            reasons.push(("hairpinning", reason));
            None
        }
    };
    Report {
        local,
        public: opinion.public,
        answered: machine.probes.iter().any(|probe| probe.answer().is_some()),
        mapping,
        depends,
        filtering,
        hairpinning,
        hairpin_filtered: hairpinning
            .filter(|works| *works)
            .and_then(|_| hairpin_filtered(machine)),
        ports: ports(machine),
        fragments: fragments(machine),
        rewritten: rewritten(machine),
        outer_ips: outer_ips(machine).into_iter().collect(),
        servers: servers(machine, &opinion),
        evidence: machine
            .probes
            .iter()
            .map(|probe| evidence(machine, probe))
            .collect(),
        reasons,
    }
}

/// What servers saw of the main socket: destination and outer address.
fn facts(machine: &Discovery) -> BTreeMap<SocketAddr, SocketAddr> {
    let main = machine.probes.iter().filter(|probe| {
        probe.socket == MAIN && matches!(probe.test, Test::First(_) | Test::Mapping(_))
    });
    main.filter_map(|probe| Some((probe.to, probe.answer()?.mapped?)))
        .collect()
}

/// What the servers as a whole say about the outer address of the main socket.
struct Opinion {
    public: Option<SocketAddr>,
    /// Servers whose answer differs from one that more than half of them give.
    dissenters: Vec<usize>,
}

impl Opinion {
    fn of(machine: &Discovery) -> Self {
        let firsts: Vec<(usize, SocketAddr)> = machine
            .probes
            .iter()
            .filter_map(|probe| match probe.test {
                Test::First(target) => Some((target, probe.answer()?.mapped?)),
                _ => None,
            })
            .collect();
        let votes = |addr: SocketAddr| firsts.iter().filter(|(_, seen)| *seen == addr).count();
        let majority = firsts
            .iter()
            .map(|(_, addr)| *addr)
            .find(|addr| votes(*addr) * 2 > firsts.len());
        let dissenters = match majority {
            // Of two servers neither is the majority.
            Some(majority) if firsts.len() > 2 => firsts
                .iter()
                .filter(|(_, addr)| *addr != majority)
                .map(|(target, _)| *target)
                .collect(),
            _ => vec![],
        };
        Self {
            public: majority.or(firsts.first().map(|(_, addr)| *addr)),
            dissenters,
        }
    }
}

/// Judges the mapping (RFC 5780 §4.3). An error has the reason, and whether it depends on the
/// destination, if that much is known.
fn mapping(
    local: Option<SocketAddr>,
    facts: &BTreeMap<SocketAddr, SocketAddr>,
    machine: &Discovery,
    opinion: &Opinion,
) -> Result<Mapping, (String, Option<bool>)> {
    let dissents = |to: &SocketAddr| {
        let target = machine.targets.iter().position(|target| target.addr == *to);
        target.is_some_and(|target| opinion.dissenters.contains(&target))
    };
    let facts: Vec<(SocketAddr, SocketAddr)> = facts
        .iter()
        .filter(|(to, _)| !dissents(to))
        .map(|(to, mapped)| (*to, *mapped))
        .collect();
    let Some((_, one)) = facts.first().copied() else {
        return Err(("no server told an address".to_owned(), None));
    };
    let one_for_all = facts.iter().all(|(_, mapped)| *mapped == one);
    if one_for_all && local == Some(one) {
        return Ok(Mapping::None);
    }
    let addresses = facts
        .iter()
        .map(|(to, _)| to.ip())
        .collect::<std::collections::BTreeSet<_>>();
    if one_for_all {
        return if addresses.len() > 1 {
            Ok(Mapping::EndpointIndependent)
        } else {
            let reason = format!(
                "only one address answered ({}); two are needed to compare",
                facts[0].0.ip()
            );
            Err((reason, None))
        };
    }
    // Pairs that differ only in the port tell whether ports matter.
    let same_address: Vec<bool> = pairs(&facts)
        .filter(|(a, b)| a.0.ip() == b.0.ip())
        .map(|(a, b)| a.1 == b.1)
        .collect();
    if same_address.contains(&false) {
        return Ok(Mapping::AddressAndPortDependent);
    }
    if !same_address.is_empty() {
        return Ok(Mapping::AddressDependent);
    }
    let reason = "servers see different addresses, and no two ports of one server were compared: \
                  it depends on the destination (or a server is wrong), how is not known";
    Err((reason.to_owned(), (facts.len() > 2).then_some(true)))
}

fn pairs<T: Copy>(all: &[T]) -> impl Iterator<Item = (T, T)> {
    all.iter()
        .enumerate()
        .flat_map(move |(at, a)| all[at + 1..].iter().map(move |b| (*a, *b)))
}

/// Judges the filter by the suites in turn: the first that says something counts.
fn filtering(machine: &Discovery) -> Result<Filtering, String> {
    let mut reason = "no server names another address that it answers from (RFC 5780)".to_owned();
    for suite in 0..machine.suites.len() {
        match filtering_of(machine, suite) {
            Ok(filtering) => return Ok(filtering),
            Err(why) => {
                let name = &machine.targets[machine.suites[suite].target].name;
                reason = format!("{name}: {why}");
            }
        }
    }
    Err(reason)
}

/// Judges the filter by one server (RFC 5780 §4.4).
fn filtering_of(machine: &Discovery, suite: usize) -> Result<Filtering, String> {
    let find = |test| outcome(machine, suite, test);
    let says = |test, from: SocketAddr| match find(test) {
        Some(Outcome::Answered(_)) => Ok(true),
        Some(Outcome::Silent) => Ok(false),
        Some(Outcome::Elsewhere(at)) => {
            Err(format!("asked to answer from {from} it answered from {at}"))
        }
        Some(Outcome::Refused(code)) => Err(format!("it refuses CHANGE-REQUEST ({code})")),
        Some(Outcome::Lossy) => {
            Err("too much is lost on the way to tell silence from loss".to_owned())
        }
        Some(Outcome::Unsendable) => Err("the test could not be sent".to_owned()),
        None => Err("the test did not end".to_owned()),
    };
    let tested = |change, from| {
        let let_in = says(Test::Filtering(change), from)?;
        if let_in && !says(Test::Again(change), from)? {
            return Err(format!(
                "one fresh port let in {from}, another did not: \
                 an earlier mapping is still open; try again later"
            ));
        }
        Ok(let_in)
    };
    let this: Suite = machine.suites[suite];
    if tested(BOTH, this.other)? {
        return Ok(Filtering::EndpointIndependent);
    }
    // Silence counts only of a server that was heard from there.
    let mut checked = vec![(BOTH, this.other)];
    let port = tested(PORT, this.changed(PORT))?;
    if !port {
        checked.push((PORT, this.changed(PORT)));
    }
    for (change, from) in checked {
        if !matches!(find(Test::Mapping(change)), Some(Outcome::Answered(_))) {
            return Err(format!("its other address {from} does not answer"));
        }
        let one_mapping = machine.mapped(MAIN, from) == machine.mapped(MAIN, this.primary);
        match find(Test::Capable(change)) {
            Some(Outcome::Answered(_)) => {}
            // With a mapping a destination its answer has no way in, whatever it does.
            _ if !one_mapping => {}
            _ => {
                return Err(format!(
                    "it does not answer from {from} where nothing filters that"
                ));
            }
        }
    }
    Ok(if port {
        Filtering::AddressDependent
    } else {
        Filtering::AddressAndPortDependent
    })
}

fn outcome(machine: &Discovery, suite: usize, test: Test) -> Option<&Outcome> {
    let mut probes = machine.probes.iter();
    let found = probes.find(|probe| probe.suite == Some(suite) && probe.test == test);
    found?.outcome.as_ref()
}

/// Judges hairpinning (RFC 5780 §4.5) of two sockets that have sent to each other's outer address.
fn hairpinning(machine: &Discovery, mapping: Mapping) -> Result<bool, String> {
    if mapping == Mapping::None {
        return Err("there is no translation".to_owned());
    }
    let mut ends = machine
        .probes
        .iter()
        .filter(|probe| probe.test == Test::Hairpin)
        .map(|probe| probe.outcome.as_ref())
        .peekable();
    if ends.peek().is_none() {
        return Err("it was not tested: no server that can be used".to_owned());
    }
    let ends: Vec<_> = ends.collect();
    if ends
        .iter()
        .any(|end| matches!(end, Some(Outcome::Answered(_))))
    {
        Ok(true)
    } else if ends
        .iter()
        .all(|end| matches!(end, Some(Outcome::Silent | Outcome::Unsendable)))
    {
        Ok(false)
    } else {
        Err("too much is lost on the way to tell silence from loss".to_owned())
    }
}

/// Whether a socket that nothing was sent to does not come in by hairpinning.
fn hairpin_filtered(machine: &Discovery) -> Option<bool> {
    let mut probes = machine.probes.iter();
    match probes
        .find(|probe| probe.test == Test::HairpinStranger)?
        .outcome
    {
        Some(Outcome::Answered(_)) => Some(false),
        Some(Outcome::Silent) => Some(true),
        _ => None,
    }
}

/// What the ports of several sockets, and of several mappings of one, show.
fn ports(machine: &Discovery) -> Ports {
    let mut made: Vec<(u16, u16)> = vec![];
    for (socket, local) in machine.sockets.iter().enumerate() {
        let Some(local) = local else { continue };
        let mut seen = machine.probes.iter().filter(|probe| probe.socket == socket);
        if let Some(mapped) = seen.find_map(|probe| probe.answer()?.mapped) {
            made.push((local.port(), mapped.port()));
        }
    }
    // One socket that keeps its port may be chance.
    let known = made.len() > 1;
    let preserved = known.then(|| made.iter().all(|(inner, outer)| inner == outer));
    let parity = known.then(|| made.iter().all(|(inner, outer)| inner % 2 == outer % 2));
    let steps: Vec<i32> = made
        .windows(2)
        .map(|pair| i32::from(pair[1].1) - i32::from(pair[0].1))
        .collect();
    let constant = steps.len() > 1 && steps.iter().all(|step| *step == steps[0]);
    let step =
        (constant && preserved == Some(false) && steps[0].unsigned_abs() < 64).then(|| steps[0]);
    Ports {
        preserved,
        parity,
        step,
    }
}

fn fragments(machine: &Discovery) -> Option<bool> {
    let mut probes = machine.probes.iter();
    match probes.find(|probe| probe.test == Test::Fragments)?.outcome {
        Some(Outcome::Answered(_)) => Some(true),
        Some(Outcome::Silent) => Some(false),
        _ => None,
    }
}

fn rewritten(machine: &Discovery) -> Option<bool> {
    let answers = machine.probes.iter().filter_map(Probe::answer);
    let both = answers.filter_map(|answer| Some((answer.mapped?, answer.plain?)));
    let differ: Vec<bool> = both.map(|(mapped, plain)| mapped != plain).collect();
    (!differ.is_empty()).then(|| differ.contains(&true))
}

fn servers(machine: &Discovery, opinion: &Opinion) -> Vec<Seen> {
    let seen = |(index, target): (usize, &super::discover::Target)| {
        let first = |probe: &&Probe| probe.test == Test::First(index);
        let answer = machine.probes.iter().find(first).and_then(Probe::answer);
        Seen {
            name: target.name.clone(),
            addr: target.addr,
            mapped: answer.and_then(|answer| answer.mapped),
            rtt: answer.map(|answer| answer.rtt),
            rfc5780: machine.suites.iter().any(|suite| suite.target == index)
                || answer.and_then(|answer| answer.other).is_some_and(|other| {
                    other.ip() != target.addr.ip() && other.port() != target.addr.port()
                }),
            software: answer.and_then(|answer| answer.software.clone()),
            dissents: opinion.dissenters.contains(&index),
        }
    };
    machine.targets.iter().enumerate().map(seen).collect()
}

fn evidence(machine: &Discovery, probe: &Probe) -> Evidence {
    let name = |change| match change {
        BOTH => "address-and-port",
        IP => "address",
        _ => "port",
    };
    let test = match probe.test {
        Test::First(target) => format!("mapping-{}", target + 1),
        Test::Mapping(change) => format!("mapping-other-{}", name(change)),
        Test::Control => "control".to_owned(),
        Test::Filtering(change) => format!("filtering-other-{}", name(change)),
        Test::Again(change) => format!("filtering-other-{}-again", name(change)),
        Test::Capable(change) => format!("server-can-change-{}", name(change)),
        Test::Hairpin => "hairpin".to_owned(),
        Test::HairpinStranger => "hairpin-stranger".to_owned(),
        Test::Fragments => "fragments".to_owned(),
    };
    let answered = probe.tries.iter().filter(|one| one.answered).count();
    let (from, mapped, result) = match &probe.outcome {
        Some(Outcome::Answered(answer)) => (
            Some(answer.from),
            answer.mapped,
            if probe.test == Test::Control {
                format!("{answered} answers")
            } else {
                "answered".to_owned()
            },
        ),
        Some(Outcome::Elsewhere(from)) => (
            Some(*from),
            None,
            "answered from the wrong address".to_owned(),
        ),
        Some(Outcome::Refused(code)) => (Some(probe.to), None, format!("refused ({code})")),
        Some(Outcome::Silent) => (None, None, "no answer".to_owned()),
        Some(Outcome::Lossy) => (None, None, "no answer, but much is lost".to_owned()),
        Some(Outcome::Unsendable) => (None, None, "not sent".to_owned()),
        None => (None, None, "not waited for".to_owned()),
    };
    Evidence {
        test,
        local: machine.sockets.get(probe.socket).copied().flatten(),
        to: probe.to,
        expected: (probe.from != probe.to).then_some(probe.from),
        from,
        mapped,
        tries: probe.tries.len(),
        result,
    }
}
