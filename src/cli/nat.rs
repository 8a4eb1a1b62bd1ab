//! `knothole nat`: what the NAT between here and the servers does, with the evidence.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use clap::ValueHint;

use super::common::{self, NetArgs, ScreenArgs, Switch};
use super::failure::Failure;
use super::server::{StunServer, Transport};
use super::servers;
use super::ui::Ctx;
use crate::exit::Exit;
use crate::io::probe::{self, Local};
use crate::io::random;
use crate::proto::nat::gateway::{self, Protocol, Said};
use crate::proto::nat::lifetime::Trouble;
use crate::proto::nat::{
    Classic, Discovery, Evidence, Lifetime, Report, Span, Target, Udp, outlook,
};
use crate::report::model::{
    self, NatEvidence, NatGateway, NatOther, NatProtocol, NatReport, NatServer,
};
use crate::report::{human, nat};

/// Find out what the NAT here does
///
/// Asks STUN servers how the NAT maps, filters and hairpins (RFC 5780), and what that means for
/// connections. What cannot be established is said to be unknown, with the reason. For the filter
/// a server with two addresses is needed, which few public ones have. Whether there is another NAT
/// behind the router is seen by what the router says (PCP, NAT-PMP, UPnP); it is asked to map a
/// port for a moment.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  knothole nat
  knothole nat stun.example.org --explain
  knothole nat --lifetime --json")]
pub struct Args {
    /// STUN servers to ask instead of those of --stun
    #[arg(value_name = "SERVER", value_hint = ValueHint::Hostname)]
    servers: Vec<StunServer>,

    /// Leave the router alone: do not ask it for its outer address and a mapping
    #[arg(long, env = "KNOTHOLE_NO_GATEWAY", value_parser = Switch, action = clap::ArgAction::SetTrue)]
    no_gateway: bool,

    /// Show the plan, every probe, what came back, and what it rules out
    #[arg(long, env = "KNOTHOLE_EXPLAIN", value_parser = Switch, action = clap::ArgAction::SetTrue)]
    explain: bool,

    /// Also search how long an idle mapping lives; takes minutes
    ///
    /// With a value, an earlier search goes on: --lifetime=60s..120s.
    #[arg(long, env = "KNOTHOLE_LIFETIME", value_name = "FROM..TO", value_hint = ValueHint::Other, value_parser = span)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "0s..")]
    lifetime: Option<Span>,

    /// The longest idle time that --lifetime tries
    #[arg(
        long,
        env = "KNOTHOLE_LIFETIME_MAX",
        value_name = "DURATION",
        value_hint = ValueHint::Other,
        default_value = "10m"
    )]
    #[arg(value_parser = common::timeout)]
    lifetime_max: Duration,

    #[command(flatten)]
    net: NetArgs,

    #[command(flatten)]
    pub screen: ScreenArgs,
}

/// How long TCP may take to answer where UDP does not.
const TCP_BOUND: Duration = Duration::from_secs(3);
/// TCP is tried when UDP has been silent for this long.
const TCP_AFTER: Duration = Duration::from_secs(1);
/// The search of a lifetime ends when the bounds are this near.
const RESOLUTION: Duration = Duration::from_secs(2);
/// How often the search says how far it is.
const TELL: Duration = Duration::from_secs(1);

/// Runs `knothole nat`.
///
/// # Errors
/// The arguments contradict one another, or no server answered at all.
pub async fn run(args: Args, ctx: Ctx) -> Result<Exit, Failure> {
    args.net.check()?;
    let servers = servers::chosen(&args.servers, &args.net)?;
    if let Some(url) = servers.iter().find(|url| url.transport != Transport::Udp) {
        return Err(
            Failure::usage(format!("{url}: how a NAT maps UDP is asked over UDP"))
                .hint("knothole addr asks over TCP and TLS"),
        );
    }
    if args.explain && !ctx.ui.json() {
        let lifetime = args.lifetime.map(|_| args.lifetime_max);
        let plan = nat::plan(servers.len(), !args.no_gateway, lifetime);
        ctx.ui.result(plan.trim_end())?;
    }
    ctx.ui.phase(&format!(
        "asking {}",
        human::count(servers.len(), "STUN server")
    ));
    let asked = async {
        let found = Found::look_up(&servers, &args.net).await;
        let mut answers = found.ask(&args).await?;
        if let Some(known) = args.lifetime {
            answers.lifetime(&args, known, &ctx).await?;
        }
        Ok(answers.report(&servers))
    };
    let report = tokio::select! {
        biased;
        cause = ctx.stop.wait() => Err(Failure::interrupted(cause)),
        report = asked => report,
    }?;
    ctx.ui.end_phase();
    ctx.ui.report(&report)?;
    if !ctx.ui.json() {
        let palette = ctx.ui.out();
        if args.explain {
            ctx.ui
                .result(nat::explain(&report, |t| palette.strong(t)).trim_end())?;
        }
        if ctx.ui.quiet() {
            ctx.ui.result(report.classic.word())?;
        } else {
            ctx.ui
                .result(nat::render(&report, |t| palette.strong(t)).trim_end())?;
        }
    }
    if report.udp == Udp::Unknown {
        return Err(servers::silent("no server answered, over UDP or TCP"));
    }
    Ok(Exit::Done)
}

/// What the names stand for.
struct Found {
    v4: Vec<Target>,
    v6: Vec<Target>,
    /// Names that could not be looked up, and why.
    failed: Vec<(String, String)>,
}

impl Found {
    async fn look_up(servers: &[StunServer], net: &NetArgs) -> Self {
        let mut found = Self {
            v4: vec![],
            v6: vec![],
            failed: vec![],
        };
        for (server, addrs) in servers::look_up(servers, net).await {
            let name = server.to_string();
            let addrs = match addrs {
                Ok(addrs) => addrs,
                Err(why) => {
                    found.failed.push((name, why));
                    continue;
                }
            };
            for addr in addrs {
                let targets = if addr.is_ipv4() {
                    &mut found.v4
                } else {
                    &mut found.v6
                };
                if targets.iter().all(|target| target.addr != addr) {
                    let name = name.clone();
                    targets.push(Target { name, addr });
                }
            }
        }
        found
    }

    async fn ask(self, args: &Args) -> Result<Answers, Failure> {
        let local = args.net.local();
        let tcp = async {
            tokio::time::sleep(TCP_AFTER).await;
            self.any_over_tcp().await
        };
        let udp = async {
            tokio::join!(
                discover(&self.v4, local),
                discover(&self.v6, local),
                self.ask_router(args)
            )
        };
        tokio::pin!(tcp);
        tokio::pin!(udp);
        let mut over_tcp = None;
        let (v4, v6, router) = loop {
            tokio::select! {
                all = &mut udp => break all,
                answer = &mut tcp, if over_tcp.is_none() => over_tcp = Some(answer),
            }
        };
        let (v4, v6) = match (v4, v6) {
            (Err(error), Err(_) | Ok(None)) | (Ok(None), Err(error)) => {
                return Err(servers::unasked(error, &args.net));
            }
            (v4, v6) => (v4.ok().flatten(), v6.ok().flatten()),
        };
        let answered = [&v4, &v6]
            .into_iter()
            .flatten()
            .any(|report| report.answered);
        let udp = if answered {
            Udp::Ok
        } else {
            let over_tcp = match over_tcp {
                Some(answer) => answer,
                None => tcp.await,
            };
            if over_tcp { Udp::Blocked } else { Udp::Unknown }
        };
        Ok(Answers {
            v4,
            v6,
            udp,
            local,
            failed: self.failed.clone(),
            router,
            lifetime: None,
        })
    }

    /// Asks the router of IPv4, where NATs are; or says why not.
    async fn ask_router(&self, args: &Args) -> Result<Router, String> {
        if args.no_gateway {
            return Err("the router was not asked (--no-gateway)".to_owned());
        }
        let first = self.v4.first().ok_or("no server was asked over IPv4")?;
        let local = match args.net.local().ip {
            Some(ip) => ip,
            None => probe::source(first.addr).map_err(|error| error.to_string())?,
        };
        let addr = tokio::task::spawn_blocking(move || probe::gateway::of(local)).await;
        let addr = addr.ok().flatten();
        let addr = addr.ok_or_else(|| format!("no router is known for {local}"))?;
        let said = probe::gateway::ask(addr, local).await;
        let said = said.map_err(|error| format!("the router {addr} cannot be asked: {error}"))?;
        Ok(Router { addr, said })
    }

    /// Whether any server answers over TCP.
    async fn any_over_tcp(&self) -> bool {
        let mut asking = tokio::task::JoinSet::new();
        for target in self.v4.iter().chain(&self.v6) {
            let addr = target.addr;
            asking.spawn(async move {
                let said = probe::ask_tcp(addr, TCP_BOUND).await;
                if let Err(error) = &said {
                    log::debug!("{addr} over TCP: {error}");
                }
                said.is_ok()
            });
        }
        while let Some(answered) = asking.join_next().await {
            if answered.unwrap_or(false) {
                return true;
            }
        }
        false
    }
}

async fn discover(targets: &[Target], local: Local) -> std::io::Result<Option<Report>> {
    let Some(first) = targets.first() else {
        return Ok(None);
    };
    let toward = first.addr;
    let mut machine = Discovery::new(Instant::now(), random()?, targets.to_vec());
    probe::run(&mut machine, toward, local).await?;
    Ok(Some(machine.report()))
}

/// What the router said, silent protocols left out.
struct Router {
    addr: Ipv4Addr,
    said: Vec<Said>,
}

impl Router {
    fn evidence(&self) -> impl Iterator<Item = NatEvidence> {
        Protocol::ALL.into_iter().map(|protocol| {
            let said = self.said.iter().find(|said| said.protocol == protocol);
            let to = SocketAddr::new(self.addr.into(), protocol.port());
            let test = format!("gateway-{}", protocol.word());
            let words = said.map_or("no answer", |said| &said.words);
            NatEvidence {
                to: Some(to),
                from: said.map(|_| to),
                ..NatEvidence::reason(&test, words)
            }
        })
    }

    fn report(&self, external: Option<Ipv4Addr>) -> NatGateway {
        let tried: Vec<bool> = self.said.iter().filter_map(|said| said.maps).collect();
        NatGateway {
            addr: self.addr,
            external,
            port_mapping: (!tried.is_empty()).then(|| tried.contains(&true)),
            protocols: self
                .said
                .iter()
                .map(|said| NatProtocol {
                    protocol: said.protocol.word().to_owned(),
                    external: said.external,
                    maps: said.maps,
                })
                .collect(),
        }
    }
}

/// What came back.
struct Answers {
    v4: Option<Report>,
    v6: Option<Report>,
    udp: Udp,
    local: Local,
    failed: Vec<(String, String)>,
    /// Or why it was not asked.
    router: Result<Router, String>,
    lifetime: Option<Result<Span, (Span, Trouble)>>,
}

impl Answers {
    /// The family that the report is about: IPv4 if it answers, since that is where NATs are.
    fn main(&self) -> Option<&Report> {
        let answered = |report: &&Report| report.answered;
        let v4 = self.v4.as_ref();
        v4.filter(answered)
            .or(self.v6.as_ref().filter(answered))
            .or(v4)
            .or(self.v6.as_ref())
    }

    /// Searches the lifetime of a mapping with the first server that can help.
    async fn lifetime(&mut self, args: &Args, known: Span, ctx: &Ctx) -> Result<(), Failure> {
        let servers = self.main().map(|report| report.servers.clone());
        let servers = servers.unwrap_or_default();
        let able = servers.iter().find(|server| server.rfc5780);
        let any = servers.iter().find(|server| server.mapped.is_some());
        let Some(server) = able.or(any) else {
            return Ok(());
        };
        let system = |error| {
            Failure::incomplete("cannot search the lifetime")
                .kind("system")
                .because(error)
        };
        let seed = random().map_err(system)?;
        let (now, most) = (Instant::now(), args.lifetime_max);
        let mut machine = Lifetime::new(now, seed, server.addr, known, most, RESOLUTION);
        let local = Local {
            port: 0,
            ..self.local
        };
        let ended = {
            let mut told: Option<Instant> = None;
            let mut tell = |machine: &Lifetime| {
                if machine.is_under_way() && told.is_none_or(|told| told.elapsed() >= TELL) {
                    told = Some(Instant::now());
                    ctx.ui.phase(&progress(machine));
                }
            };
            ctx.ui.phase("searching how long a mapping lives");
            let run = probe::run_watched(&mut machine, server.addr, local, &mut tell);
            tokio::select! {
                biased;
                cause = ctx.stop.wait() => Err(cause),
                ended = run => Ok(ended),
            }
        };
        match ended {
            Err(cause) => {
                let Span { lived, gone } = machine.known();
                let gone = gone.map_or(String::new(), |gone| format!("{}s", gone.as_secs()));
                Err(Failure::interrupted(cause).hint(format!(
                    "the search goes on from here with --lifetime={}s..{gone}",
                    lived.as_secs()
                )))
            }
            Ok(Err(error)) => Err(system(error)),
            Ok(Ok(())) => {
                self.lifetime = Some(match machine.trouble() {
                    None => Ok(machine.known()),
                    Some(trouble) => Err((machine.known(), trouble)),
                });
                Ok(())
            }
        }
    }

    fn report(&self, servers: &[StunServer]) -> NatReport {
        let empty = Report::default();
        let main = self.main().unwrap_or(&empty);
        let mut evidence: Vec<NatEvidence> = main.evidence.iter().map(told).collect();
        evidence.extend(self.router.iter().flat_map(Router::evidence));
        let mut unknown = |test: &str, why: &str| {
            evidence.push(NatEvidence::reason(test, why));
        };
        if main.answered {
            for (what, why) in &main.reasons {
                unknown(what, why);
            }
        }
        let lifetime = match self.lifetime {
            Some(Ok(span)) => Some(span),
            Some(Err((_, trouble))) => {
                unknown("binding lifetime", words(trouble));
                None
            }
            None => None,
        };
        let external = match &self.router {
            Ok(router) => gateway::external(router.addr, &router.said),
            Err(why) => Err(why.clone()),
        };
        let v4 = self.v4.as_ref().unwrap_or(&empty);
        let double_nat = gateway::double_nat(v4.mapping, &v4.outer_ips, external.clone());
        if let Err(why) = &double_nat
            && main.answered
        {
            unknown("double NAT", why);
        }
        let (external, double_nat) = (external.ok(), double_nat.ok());
        let inner = v4.local.map(|local| local.ip());
        let other = match (&self.v4, &self.v6) {
            (Some(v4), Some(v6)) if v4.answered => Some(v6),
            _ => None,
        };
        NatReport {
            command: "nat".to_owned(),
            local: main.local,
            public: main.public,
            udp: self.udp,
            mapping: main.mapping,
            mapping_depends: main.depends,
            filtering: main.filtering,
            classic: Classic::of(self.udp, main.mapping, main.filtering),
            hairpinning: main.hairpinning,
            hairpin_filtered: main.hairpin_filtered,
            port_preservation: main.ports.preserved,
            port_parity: main.ports.parity,
            port_step: main.ports.step,
            binding_lifetime_s: lifetime.map(|span| span.lived.as_secs_f64()),
            binding_gone_s: lifetime
                .and_then(|span| span.gone)
                .map(|gone| gone.as_secs_f64()),
            fragments: main.fragments,
            rewritten: main.rewritten,
            double_nat,
            carrier_grade_nat: gateway::carrier_grade(inner, external, double_nat),
            gateway: self
                .router
                .as_ref()
                .ok()
                .map(|router| router.report(external)),
            public_ips: main.outer_ips.clone(),
            servers: servers.iter().map(|server| self.server(server)).collect(),
            evidence,
            ipv6: other.map(|report| NatOther {
                local: report.local,
                public: report.public,
                udp: if report.answered {
                    Udp::Ok
                } else {
                    Udp::Unknown
                },
                mapping: report.mapping,
                filtering: report.filtering,
            }),
            outlook: outlook(self.udp, main.mapping, main.filtering).to_owned(),
        }
    }

    fn server(&self, server: &StunServer) -> NatServer {
        let url = server.to_string();
        let reports = [self.main(), self.v4.as_ref(), self.v6.as_ref()];
        let mut seen = reports
            .into_iter()
            .flatten()
            .flat_map(|report| &report.servers);
        let seen = seen.find(|seen| seen.name == url);
        let failed = self.failed.iter().find(|(name, _)| *name == url);
        let rtt = seen.and_then(|seen| seen.rtt);
        NatServer {
            addr: seen.map(|seen| seen.addr),
            mapped: seen.and_then(|seen| seen.mapped),
            rtt_ms: rtt.map(model::ms),
            rfc5780: seen.is_some_and(|seen| seen.rfc5780),
            software: seen.and_then(|seen| seen.software.clone()),
            dissents: seen.is_some_and(|seen| seen.dissents),
            error: match (seen, failed) {
                (Some(seen), _) if seen.mapped.is_some() => None,
                (_, Some((_, why))) => Some(why.clone()),
                _ => Some("no answer".to_owned()),
            },
            url,
        }
    }
}

fn told(one: &Evidence) -> NatEvidence {
    NatEvidence {
        test: one.test.clone(),
        local: one.local,
        to: Some(one.to),
        expected: one.expected,
        from: one.from,
        mapped: one.mapped,
        tries: one.tries as u64,
        result: one.result.clone(),
    }
}

fn words(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Silent => "the server fell silent during the search",
        Trouble::NoResponsePort => "no server answers to another port (RESPONSE-PORT, RFC 5780)",
        Trouble::Unstable => "mappings ended sooner than others that were idle for longer",
    }
}

fn progress(machine: &Lifetime) -> String {
    let Span { lived, gone } = machine.known();
    let gone = gone.map_or(String::new(), |gone| {
        format!(", at most {} s", gone.as_secs())
    });
    let left = human::duration(machine.remaining());
    format!(
        "mapping lives over {} s{gone}; up to {left} to go",
        lived.as_secs()
    )
}

/// Reads `FROM..TO`; either may be left out.
fn span(text: &str) -> Result<Span, String> {
    let (from, to) = text
        .split_once("..")
        .ok_or("write it like 60s..120s, or 60s..")?;
    let time = |text: &str| human::parse_duration(text);
    let lived = if from.is_empty() {
        Duration::ZERO
    } else {
        time(from)?
    };
    let gone = if to.is_empty() { None } else { Some(time(to)?) };
    if gone.is_some_and(|gone| gone <= lived) {
        return Err("the second time must be longer than the first".to_owned());
    }
    Ok(Span { lived, gone })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_search_is_read_back() {
        let secs = Duration::from_secs;
        let read = |text: &str| span(text).map(|span| (span.lived, span.gone));
        assert_eq!(read("60s..120s"), Ok((secs(60), Some(secs(120)))));
        assert_eq!(read("60s.."), Ok((secs(60), None)));
        assert_eq!(read("0s.."), Ok((secs(0), None)));
        assert!(read("60s").is_err() && read("60s..60s").is_err() && read("a..b").is_err());
    }
}
