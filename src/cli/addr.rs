//! `knothole addr`: the public address as each server sees it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::ValueHint;

use super::common::{self, NetArgs, ScreenArgs, Switch};
use super::failure::Failure;
use super::server::{StunServer, Transport};
use super::servers;
use super::ui::Ctx;
use crate::exit::Exit;
use crate::io::probe::{self, Said, Trust};
use crate::io::random;
use crate::proto::nat::{Discovery, Target, Udp};
use crate::report::model::{self, AddrReport, AddrServer};
use crate::report::{addr, human};

/// Show the public address as STUN servers see it
///
/// Asks every server at once, over UDP, TCP or TLS as its URL says, over IPv4 and IPv6. Where UDP
/// gets no answer, TCP tells a dead server from blocked UDP. Servers that disagree with most are
/// named.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  knothole addr
  knothole addr -q -4
  knothole addr stun.example.org stuns:stun.example.org --json")]
pub struct Args {
    /// STUN servers to ask instead of those of --stun
    #[arg(value_name = "SERVER", value_hint = ValueHint::Hostname)]
    servers: Vec<StunServer>,

    /// Ask again and again, this often, and print what has changed
    #[arg(long, env = "KNOTHOLE_WATCH", value_name = "SECONDS", value_hint = ValueHint::Other)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,

    /// Take any certificate of a stuns: server
    #[arg(long, env = "KNOTHOLE_INSECURE", value_parser = Switch, action = clap::ArgAction::SetTrue)]
    insecure: bool,

    /// How long one server may take over TCP and TLS
    #[arg(
        long,
        env = "KNOTHOLE_TIMEOUT",
        value_name = "DURATION",
        value_hint = ValueHint::Other,
        default_value = "5s"
    )]
    #[arg(value_parser = common::timeout)]
    timeout: Duration,

    #[command(flatten)]
    net: NetArgs,

    #[command(flatten)]
    pub screen: ScreenArgs,
}

/// Runs `knothole addr`.
///
/// # Errors
/// The arguments contradict one another, or no server answered.
pub async fn run(args: Args, ctx: Ctx) -> Result<Exit, Failure> {
    args.net.check()?;
    let servers = servers::chosen(&args.servers, &args.net)?;
    let trust = servers
        .iter()
        .any(|server| server.transport == Transport::Tls)
        .then(|| Trust::new(args.insecure));
    let trust = trust.transpose().map_err(|error| {
        Failure::incomplete("TLS servers cannot be checked")
            .kind("system")
            .because(error)
            .hint("--insecure takes any certificate")
    })?;
    let asker = Asker {
        servers,
        trust,
        args: &args,
    };
    let mut told: Option<AddrReport> = None;
    loop {
        if told.is_none() {
            let count = human::count(asker.servers.len(), "STUN server");
            ctx.ui.phase(&format!("asking {count}"));
        }
        let (report, trouble) = tokio::select! {
            biased;
            cause = ctx.stop.wait() => return Err(Failure::interrupted(cause)),
            asked = asker.ask() => asked,
        };
        ctx.ui.end_phase();
        let changed = told.as_ref().is_none_or(|before| {
            (&before.ipv4, &before.ipv6, before.udp) != (&report.ipv4, &report.ipv6, report.udp)
        });
        let Some(every) = args.watch else {
            show(&report, &ctx)?;
            return if report.ipv4.is_none() && report.ipv6.is_none() {
                Err(trouble.unwrap_or_else(|| servers::silent("no server told an address")))
            } else {
                Ok(Exit::Done)
            };
        };
        if changed {
            show_change(&report, &ctx)?;
            told = Some(report);
        }
        tokio::select! {
            biased;
            cause = ctx.stop.wait() => return Err(Failure::interrupted(cause)),
            () = tokio::time::sleep(Duration::from_secs(every)) => {}
        }
    }
}

fn show(report: &AddrReport, ctx: &Ctx) -> Result<(), Failure> {
    ctx.ui.report(report)?;
    if ctx.ui.quiet() {
        for ip in [report.ipv4, report.ipv6].into_iter().flatten() {
            ctx.ui.result(&ip.to_string())?;
        }
        return Ok(());
    }
    let palette = ctx.ui.out();
    ctx.ui
        .result(addr::render(report, |text| palette.strong(text)).trim_end())
}

/// One line a change: the moment, and the addresses from then on.
fn show_change(report: &AddrReport, ctx: &Ctx) -> Result<(), Failure> {
    ctx.ui.report(report)?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let ips: Vec<String> = [report.ipv4, report.ipv6]
        .into_iter()
        .flatten()
        .map(|ip| ip.to_string())
        .collect();
    let ips = if ips.is_empty() {
        "no address".to_owned()
    } else {
        ips.join(" ")
    };
    if ctx.ui.quiet() {
        return ctx.ui.result(&ips);
    }
    ctx.ui
        .result(&format!("{}  {ips}", human::utc(now.as_secs())))
}

struct Asker<'a> {
    servers: Vec<StunServer>,
    trust: Option<Trust>,
    args: &'a Args,
}

/// One address of one server, to be asked in one way.
#[derive(Clone)]
struct Question {
    server: StunServer,
    addr: SocketAddr,
}

impl Asker<'_> {
    /// Asks all, and says what else than silence may explain that nothing was told.
    async fn ask(&self) -> (AddrReport, Option<Failure>) {
        let mut rows = vec![];
        let (mut v4, mut v6, mut streams) = (vec![], vec![], vec![]);
        for (server, addrs) in servers::look_up(&self.servers, &self.args.net).await {
            let addrs = match addrs {
                Ok(addrs) => addrs,
                Err(why) => {
                    rows.push(row(&server, None, Err(why)));
                    continue;
                }
            };
            for addr in addrs {
                let question = Question {
                    server: server.clone(),
                    addr,
                };
                match (server.transport, addr.is_ipv4()) {
                    (Transport::Udp, true) => v4.push(question),
                    (Transport::Udp, false) => v6.push(question),
                    _ => streams.push(question),
                }
            }
        }
        let (by_v4, by_v6, by_stream) = tokio::join!(
            self.over_udp(&v4),
            self.over_udp(&v6),
            self.over_streams(&streams)
        );
        let (mut asked, mut unasked) = (false, None);
        for (questions, answers) in [(&v4, by_v4), (&v6, by_v6)] {
            match answers {
                Ok(answers) => {
                    asked |= !answers.is_empty();
                    rows.extend(answers);
                }
                Err(error) => {
                    let why = error.to_string();
                    let unasked_row = |question| row_of(question, Err(why.clone()));
                    rows.extend(questions.iter().map(unasked_row));
                    unasked = Some(error);
                }
            }
        }
        let (by_stream, untrusted) = by_stream;
        rows.extend(by_stream);
        let trouble = if untrusted {
            let failure = Failure::incomplete("no server told an address and proved its name");
            Some(
                failure
                    .kind("untrusted")
                    .hint("--insecure takes any certificate"),
            )
        } else {
            // Where one family could be asked, its silence counts.
            let unasked = unasked.filter(|_| !asked);
            unasked.map(|error| servers::unasked(error, &self.args.net))
        };
        // Silence over UDP may be the server's or the network's: TCP at the same place tells.
        let silent: Vec<Question> = v4
            .into_iter()
            .chain(v6)
            .filter(|question| {
                let silent = |row: &AddrServer| {
                    row.addr == Some(question.addr)
                        && row.transport == "udp"
                        && row.mapped.is_none()
                };
                rows.iter().any(silent)
            })
            .map(|mut question| {
                question.server.transport = Transport::Tcp;
                question
            })
            .collect();
        let (instead, _) = self.over_streams(&silent).await;
        rows.extend(instead.into_iter().filter(|row| row.mapped.is_some()));
        let order = |row: &AddrServer| {
            let same = |server: &StunServer| {
                row.url.trim_end_matches("?transport=tcp") == server.to_string()
                    || row.url == server.to_string()
            };
            self.servers.iter().position(same)
        };
        rows.sort_by_key(order);
        (judge(rows), trouble)
    }

    async fn over_udp(&self, questions: &[Question]) -> std::io::Result<Vec<AddrServer>> {
        let Some(first) = questions.first() else {
            return Ok(vec![]);
        };
        let seed = random()?;
        let targets = questions.iter().map(|question| Target {
            name: question.server.to_string(),
            addr: question.addr,
        });
        let mut machine = Discovery::survey(Instant::now(), seed, targets.collect());
        probe::run(&mut machine, first.addr, self.args.net.local()).await?;
        let report = machine.report();
        let rows = questions
            .iter()
            .zip(report.servers)
            .map(|(question, seen)| {
                let said = match (seen.mapped, seen.rtt) {
                    (Some(mapped), Some(rtt)) => Ok(Said {
                        mapped,
                        software: seen.software,
                        rtt,
                    }),
                    _ => Err("no answer over UDP".to_owned()),
                };
                row_of(question, said)
            });
        Ok(rows.collect())
    }

    /// Asks over TCP and TLS; also says whether a certificate was refused.
    async fn over_streams(&self, questions: &[Question]) -> (Vec<AddrServer>, bool) {
        let mut asking = tokio::task::JoinSet::new();
        for (at, question) in questions.iter().cloned().enumerate() {
            let (trust, bound) = (self.trust.clone(), self.args.timeout);
            asking.spawn(async move {
                let host = question.server.server.host.clone();
                let said = match (question.server.transport, trust) {
                    (Transport::Tls, Some(trust)) => {
                        trust.ask_tls(question.addr, &host, bound).await
                    }
                    _ => probe::ask_tcp(question.addr, bound).await,
                };
                let untrusted = said.as_ref().is_err_and(probe::is_untrusted);
                let said = said.map_err(|error| match error.kind() {
                    std::io::ErrorKind::TimedOut => {
                        format!("no answer within {}", human::duration(bound))
                    }
                    _ => error.to_string(),
                });
                (at, row_of(&question, said), untrusted)
            });
        }
        let mut rows = asking.join_all().await;
        rows.sort_by_key(|(at, ..)| *at);
        let untrusted = rows.iter().any(|(.., untrusted)| *untrusted);
        (rows.into_iter().map(|(_, row, _)| row).collect(), untrusted)
    }
}

/// A question and what came of it. Asked over IPv6 a server may see IPv4, behind a NAT64 (RFC 6146);
/// the other way about it is a lie.
fn row_of(question: &Question, said: Result<Said, String>) -> AddrServer {
    let said = said.and_then(|said| {
        let mapped = said.mapped.ip().to_canonical();
        if mapped.is_ipv4() || question.addr.is_ipv6() {
            Ok(said)
        } else {
            Err(format!("tells an address of another family: {mapped}"))
        }
    });
    row(&question.server, Some(question.addr), said)
}

fn row(server: &StunServer, addr: Option<SocketAddr>, said: Result<Said, String>) -> AddrServer {
    let (mapped, rtt, software, error) = match said {
        Ok(said) => (Some(said.mapped), Some(said.rtt), said.software, None),
        Err(error) => (None, None, None, Some(error)),
    };
    AddrServer {
        url: server.to_string(),
        transport: server.transport.word().to_owned(),
        addr,
        mapped,
        rtt_ms: rtt.map(model::ms),
        software,
        dissents: false,
        error,
    }
}

/// Finds the address that most servers see, for each family, and who sees another.
fn judge(mut rows: Vec<AddrServer>) -> AddrReport {
    let mut opinion = |is_v4: bool| -> (Option<IpAddr>, Option<u64>) {
        let mut votes: BTreeMap<IpAddr, u64> = BTreeMap::new();
        let seen = |row: &AddrServer| row.mapped.map(|mapped| mapped.ip().to_canonical());
        for ip in rows
            .iter()
            .filter_map(seen)
            .filter(|ip| ip.is_ipv4() == is_v4)
        {
            *votes.entry(ip).or_default() += 1;
        }
        let all: u64 = votes.values().sum();
        let Some((ip, most)) = votes.iter().max_by_key(|(_, count)| **count) else {
            return (None, None);
        };
        let (ip, most) = (*ip, *most);
        // Of two that disagree neither is right by number: then both are only shown.
        if most * 2 > all {
            for row in &mut rows {
                let other = seen(row).filter(|ip| ip.is_ipv4() == is_v4);
                row.dissents = row.dissents || other.is_some_and(|other| other != ip);
            }
            (Some(ip), Some(most))
        } else {
            (None, Some(most))
        }
    };
    let (ipv4, _) = opinion(true);
    let (ipv6, _) = opinion(false);
    let over = |transport: &str| {
        rows.iter()
            .any(|row| row.transport == transport && row.mapped.is_some())
    };
    let asked = rows
        .iter()
        .any(|row| row.transport == "udp" && row.addr.is_some());
    let udp = if over("udp") {
        Udp::Ok
    } else if asked && (over("tcp") || over("tls")) {
        Udp::Blocked
    } else {
        Udp::Unknown
    };
    AddrReport {
        command: "addr".to_owned(),
        ipv4,
        ipv6,
        udp,
        servers: rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(transport: &str, mapped: Option<&str>) -> AddrServer {
        AddrServer {
            url: "stun:s.example:3478".into(),
            transport: transport.into(),
            addr: Some("198.51.100.1:3478".parse().unwrap()),
            mapped: mapped.map(|text| text.parse().unwrap()),
            rtt_ms: mapped.map(|_| 1.0),
            software: None,
            dissents: false,
            error: mapped.is_none().then(|| "no answer over UDP".into()),
        }
    }

    #[test]
    fn most_servers_are_believed_and_the_others_named() {
        let report = judge(vec![
            seen("udp", Some("203.0.113.7:1")),
            seen("udp", Some("203.0.113.99:1")),
            seen("tcp", Some("203.0.113.7:2")),
            seen("udp", Some("[2001:db8::7]:1")),
        ]);
        assert_eq!(report.ipv4, Some("203.0.113.7".parse().unwrap()));
        assert_eq!(report.ipv6, Some("2001:db8::7".parse().unwrap()));
        let dissent: Vec<bool> = report.servers.iter().map(|row| row.dissents).collect();
        assert_eq!(dissent, [false, true, false, false]);
        assert_eq!(report.udp, Udp::Ok);
    }

    #[test]
    fn of_two_that_disagree_none_is_believed() {
        let rows = vec![
            seen("udp", Some("203.0.113.7:1")),
            seen("udp", Some("203.0.113.99:1")),
        ];
        let report = judge(rows);
        assert_eq!(report.ipv4, None);
        assert!(report.servers.iter().all(|row| !row.dissents));
    }

    #[test]
    fn udp_is_blocked_when_only_streams_answer_and_unknown_when_nothing_does() {
        let mut rows = vec![seen("udp", None), seen("tcp", Some("203.0.113.7:2"))];
        assert_eq!(judge(rows.clone()).udp, Udp::Blocked);
        rows.pop();
        assert_eq!(judge(rows).udp, Udp::Unknown);
        assert_eq!(
            judge(vec![seen("tls", Some("203.0.113.7:2"))]).udp,
            Udp::Unknown
        );
    }
}
