//! `knothole serve`: the STUN server for labs, CI and small teams.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::ValueHint;

use super::common::{Bind, ScreenArgs, Switch};
use super::failure::Failure;
use super::server::DEFAULT_PORT;
use super::token::scope;
use super::ui::Ctx;
use crate::exit::Exit;
use crate::io::peer::local_addresses;
use crate::io::random;
use crate::io::serve::{StunServer, serve_metrics};
use crate::proto::stun::limit::Limiter;
use crate::proto::stun::server::{Counters, Places, Server};
use crate::report::human;
use crate::report::model::{ServeCounters, ServeListening};

/// Serve STUN, for labs, CI and small teams
///
/// Answers Binding requests over UDP and TCP, and tells NAT behaviour (RFC 5780) where the machine
/// has two addresses. It is no use to an amplifier: answers are short, go to who asked, and each
/// source has its rate. Prints the URLs on stdout, and counters when it is stopped.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  knothole serve --stun
  knothole serve --stun --listen 198.51.100.10 --alternate 198.51.100.11
  knothole serve --stun --listen 127.0.0.1:0 --json")]
pub struct Args {
    /// Serve STUN; the only service there is so far
    #[arg(long = "stun", env = "KNOTHOLE_SERVE_STUN", value_parser = Switch, action = clap::ArgAction::SetTrue)]
    serve_stun: bool,

    /// Listen at this address, once a family; the port is 3478 unless given
    ///
    /// Default: the addresses that this machine's default routes have.
    #[arg(long, env = "KNOTHOLE_LISTEN", value_name = "IP[:PORT]", value_hint = ValueHint::Other)]
    #[arg(value_delimiter = ',')]
    listen: Vec<Bind>,

    /// A second address of the same family, for RFC 5780; the port is 3479 unless given
    #[arg(long, env = "KNOTHOLE_ALTERNATE", value_name = "IP[:PORT]", value_hint = ValueHint::Other)]
    #[arg(value_delimiter = ',')]
    alternate: Vec<Bind>,

    /// Use one address a family, also where there are two
    #[arg(long, env = "KNOTHOLE_NO_ALTERNATE", value_parser = Switch, action = clap::ArgAction::SetTrue)]
    #[arg(conflicts_with = "alternate")]
    no_alternate: bool,

    /// Requests a second that each source may make; twice as many at once
    #[arg(
        long,
        env = "KNOTHOLE_RATE",
        value_name = "NUMBER",
        value_hint = ValueHint::Other,
        default_value = "50"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,

    /// Tell counters over HTTP at this address, for Prometheus (GET /metrics)
    #[arg(long, env = "KNOTHOLE_METRICS", value_name = "IP:PORT", value_hint = ValueHint::Other)]
    metrics: Option<SocketAddr>,

    #[command(flatten)]
    pub screen: ScreenArgs,
}

/// The port beside [`DEFAULT_PORT`].
const ALTERNATE_PORT: u16 = 3479;
/// How often --json tells counters, if they have changed.
const TELL: Duration = Duration::from_secs(10);

/// Runs `knothole serve`.
///
/// # Errors
/// An address cannot be served, or the user ended it.
pub async fn run(args: Args, ctx: Ctx) -> Result<Exit, Failure> {
    let places = args.places(&local_addresses())?;
    let system = |what: &str| Failure::incomplete(what.to_owned()).kind("system");
    let seed = random().map_err(|error| system("the system has no entropy").because(error))?;
    let limiter = Limiter::new(args.rate, args.rate.saturating_mul(2), seed);
    let server = StunServer::bind(&places, |places| Server::new(places, limiter)).await;
    let server = server.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another server has that port; give one: --listen IP:PORT"
            }
            std::io::ErrorKind::PermissionDenied => {
                "ports below 1024 need privileges; 3478 does not"
            }
            _ => "an address of this machine is needed: --listen IP[:PORT]",
        };
        system("cannot serve").because(error).hint(hint)
    })?;
    let metrics = match args.metrics {
        None => None,
        Some(addr) => Some(tokio::net::TcpListener::bind(addr).await.map_err(|error| {
            system(&format!("cannot tell metrics at {addr}"))
                .because(error)
                .hint("an address of this machine and a free port are needed; port 0 finds one")
        })?),
    };
    let told_at = metrics.as_ref().map(tokio::net::TcpListener::local_addr);
    let told_at = told_at
        .transpose()
        .map_err(|error| system("cannot tell metrics").because(error))?;
    let listening = listening(server.places(), told_at);
    if ctx.ui.json() {
        ctx.ui.object(&listening)?;
    } else {
        for url in &listening.urls {
            ctx.ui.result(url)?;
        }
    }
    for place in server.places() {
        if place.other.is_none() {
            ctx.ui.note(&format!(
                "{}: no second address, so no behaviour discovery (RFC 5780); --alternate names one",
                place.primary.ip()
            ));
        }
    }
    if let Some(url) = &listening.metrics {
        ctx.ui.note(&format!("metrics: {url}"));
    }
    ctx.ui.note("serving; Ctrl-C ends it");
    let render = || prometheus(server.counters());
    let metrics = async {
        match metrics {
            Some(listener) => serve_metrics(listener, render).await,
            None => std::future::pending().await,
        }
    };
    let tell = async {
        let mut told = Counters::default();
        loop {
            tokio::time::sleep(TELL).await;
            let now = server.counters();
            if ctx.ui.json() && now != told {
                told = now;
                if let Err(failure) = ctx.ui.object(&counters(now)) {
                    return failure;
                }
            }
        }
    };
    let failure = tokio::select! {
        biased;
        cause = ctx.stop.wait() => Failure::interrupted(cause),
        failure = tell => failure,
        never = metrics => match never {},
    };
    let last = counters(server.counters());
    if ctx.ui.json() {
        ctx.ui.object(&last)?;
    } else {
        ctx.ui.note(&format!(
            "{}: {} answered ({} from elsewhere), {} refused, {} too often, {} ignored",
            human::count(last.received as usize, "request"),
            last.answered,
            last.changed,
            last.refused,
            last.limited,
            last.ignored
        ));
        if last.crowded > 0 {
            ctx.ui.note(&format!(
                "{} closed at once: the source had too many",
                human::count(last.crowded as usize, "connection")
            ));
        }
    }
    Err(failure)
}

impl Args {
    fn places(&self, local: &[IpAddr]) -> Result<Vec<Places>, Failure> {
        if !self.serve_stun {
            return Err(Failure::usage("say what to serve").hint("knothole serve --stun"));
        }
        let addr = |bind: &Bind, port| match bind.0.port() {
            0 if !bind.1 => SocketAddr::new(bind.0.ip(), port),
            _ => bind.0,
        };
        let wildcard = self.listen.iter().chain(&self.alternate);
        if let Some(bind) = wildcard
            .into_iter()
            .find(|bind| bind.0.ip().is_unspecified())
        {
            return Err(Failure::usage(format!(
                "{} stands for every address; answers need one to come from",
                bind.0.ip()
            ))
            .hint("name the address itself, once for IPv4 and once for IPv6"));
        }
        let mut places: Vec<Places> = vec![];
        if self.listen.is_empty() {
            places = self.default_places(local)?;
        }
        for bind in &self.listen {
            let primary = addr(bind, DEFAULT_PORT);
            if places
                .iter()
                .any(|place| place.primary.is_ipv4() == primary.is_ipv4())
            {
                return Err(Failure::usage(format!(
                    "--listen {primary}: one address a family; a second is --alternate"
                )));
            }
            places.push(Places {
                primary,
                other: None,
            });
        }
        for (at, bind) in self.alternate.iter().enumerate() {
            let other = addr(bind, ALTERNATE_PORT);
            if self.alternate[..at]
                .iter()
                .any(|before| before.0.is_ipv4() == other.is_ipv4())
            {
                return Err(Failure::usage(format!(
                    "--alternate {other}: there is one already of its family"
                )));
            }
            let place = places
                .iter_mut()
                .find(|place| place.primary.is_ipv4() == other.is_ipv4());
            let Some(place) = place else {
                return Err(Failure::usage(format!(
                    "--alternate {other}: there is no --listen of its family"
                )));
            };
            let same_port = place.primary.port() == other.port() && other.port() != 0;
            if place.primary.ip() == other.ip() || same_port {
                return Err(Failure::usage(format!(
                    "--alternate {other} must differ from {} in address and port",
                    place.primary
                )));
            }
            place.other = Some(other);
        }
        if places.is_empty() {
            return Err(
                Failure::incomplete("this machine has no address to serve at")
                    .kind("no-network")
                    .hint("name one with --listen, 127.0.0.1 for this machine alone"),
            );
        }
        Ok(places)
    }
}

impl Args {
    /// The places without `--listen`: of each family the likeliest address, which has to reach as
    /// far as the `--alternate` that it is to have.
    fn default_places(&self, local: &[IpAddr]) -> Result<Vec<Places>, Failure> {
        let mut places = vec![];
        for is_v4 in [true, false] {
            let mut family = local.iter().filter(|ip| ip.is_ipv4() == is_v4);
            let mut wanted = self.alternate.iter().map(|bind| bind.0.ip());
            let wanted = wanted.find(|ip| ip.is_ipv4() == is_v4);
            let first = match wanted {
                None => family.next(),
                Some(wanted) => Some(family.find(|ip| same_reach(**ip, wanted)).ok_or_else(|| {
                    Failure::usage(format!(
                        "no other address of this machine reaches as far as --alternate {wanted}"
                    ))
                    .hint(format!("name the first address as well: --listen IP --alternate {wanted}"))
                })?),
            };
            let Some(first) = first else { continue };
            let second = family.find(|ip| same_reach(**ip, *first));
            let second = second.filter(|_| !self.no_alternate);
            places.push(Places {
                primary: SocketAddr::new(*first, DEFAULT_PORT),
                other: second.map(|ip| SocketAddr::new(*ip, ALTERNATE_PORT)),
            });
        }
        Ok(places)
    }
}

/// Whether two addresses reach equally far: a private one is no second to a public one.
fn same_reach(a: IpAddr, b: IpAddr) -> bool {
    a != b && scope(a) == scope(b)
}

fn listening(places: &[Places], metrics: Option<SocketAddr>) -> ServeListening {
    let url = |place: &Places| format!("stun:{}", place.primary);
    ServeListening {
        event: "listening".to_owned(),
        urls: places.iter().map(url).collect(),
        rfc5780: places.iter().any(|place| place.other.is_some()),
        metrics: metrics.map(|at| format!("http://{at}/metrics")),
    }
}

fn counters(counters: Counters) -> ServeCounters {
    ServeCounters {
        event: "counters".to_owned(),
        received: counters.received,
        answered: counters.answered,
        changed: counters.changed,
        refused: counters.refused,
        limited: counters.limited,
        ignored: counters.ignored,
        crowded: counters.crowded,
    }
}

/// The counters in the text form of Prometheus.
fn prometheus(counters: Counters) -> String {
    let rows = [
        ("received", "What came in.", counters.received),
        (
            "answered",
            "Requests answered with an address.",
            counters.answered,
        ),
        (
            "changed",
            "Answers sent from another address or port.",
            counters.changed,
        ),
        (
            "refused",
            "Requests answered with an error.",
            counters.refused,
        ),
        (
            "limited",
            "Dropped: the source asks too often.",
            counters.limited,
        ),
        (
            "ignored",
            "Dropped: not a Binding request.",
            counters.ignored,
        ),
        (
            "crowded",
            "TCP connections closed at once: the source has too many.",
            counters.crowded,
        ),
    ];
    rows.iter()
        .map(|(name, help, value)| {
            let name = format!("knothole_stun_{name}_total");
            format!("# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// The places of `serve --stun ARGS` on a machine with these addresses.
    fn places(args: &[&str], local: &[&str]) -> Result<Vec<String>, Failure> {
        let line = Line::try_parse_from([&["serve", "--stun"], args].concat()).unwrap();
        let local: Vec<IpAddr> = local.iter().map(|ip| ip.parse().unwrap()).collect();
        let places = line.args.places(&local)?;
        let told = places.into_iter().map(|place| match place.other {
            None => place.primary.to_string(),
            Some(other) => format!("{} {other}", place.primary),
        });
        Ok(told.collect())
    }

    const MIXED: [&str; 4] = ["192.168.1.2", "198.51.100.1", "198.51.100.2", "2001:db8::1"];

    #[test]
    fn by_default_the_second_address_reaches_as_far_as_the_first() {
        let told = places(&[], &MIXED).unwrap();
        assert_eq!(told, ["192.168.1.2:3478", "[2001:db8::1]:3478"]);
        let told = places(&[], &MIXED[1..]).unwrap();
        let pair = "198.51.100.1:3478 198.51.100.2:3479";
        assert_eq!(told, [pair, "[2001:db8::1]:3478"]);
        let told = places(&["--no-alternate"], &MIXED[1..3]).unwrap();
        assert_eq!(told, ["198.51.100.1:3478"]);
    }

    #[test]
    fn the_first_address_is_chosen_to_reach_as_far_as_the_alternate() {
        let alone = |args: &[&str]| places(args, &MIXED[..3]).unwrap();
        let told = alone(&["--alternate", "198.51.100.2"]);
        assert_eq!(told, ["198.51.100.1:3478 198.51.100.2:3479"]);
        let told = alone(&["--alternate", "192.168.1.3:4000"]);
        assert_eq!(told, ["192.168.1.2:3478 192.168.1.3:4000"]);
        assert!(places(&["--alternate", "127.0.0.2"], &MIXED).is_err());
        let failure = places(&["--alternate", "198.51.100.9"], &MIXED[..1]).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(
            failure.message,
            "no other address of this machine reaches as far as --alternate 198.51.100.9"
        );
        assert!(failure.hint.unwrap().contains("--listen IP"));
        // Who names both is believed.
        let both = ["--listen", "192.168.1.2", "--alternate", "198.51.100.9"];
        let told = places(&both, &[]).unwrap();
        assert_eq!(told, ["192.168.1.2:3478 198.51.100.9:3479"]);
    }

    #[test]
    fn contradictions_are_told() {
        for (args, why) in [
            (&["--alternate", "192.0.2.1,192.0.2.2"][..], "one already"),
            (&["--listen", "192.0.2.1,192.0.2.2"], "one address a family"),
            (&["--listen", "0.0.0.0"], "stands for every address"),
            (
                &["--listen", "192.0.2.1", "--alternate", "2001:db8::1"],
                "no --listen of its family",
            ),
            (
                &["--listen", "192.0.2.1", "--alternate", "192.0.2.1"],
                "must differ",
            ),
            (
                &["--listen", "192.0.2.1", "--alternate", "192.0.2.2:3478"],
                "must differ",
            ),
        ] {
            let failure = places(args, &["192.0.2.1", "192.0.2.2", "192.0.2.3"]).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{args:?}");
            assert!(failure.message.contains(why), "{}", failure.message);
        }
        assert_eq!(places(&[], &[]).unwrap_err().kind, "no-network");
    }
}
