//! `knothole selftest`: does this build work on this machine?

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueHint;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::common::{self, ScreenArgs};
use super::failure::Failure;
use super::meet;
use super::ui::{Ctx, Ui};
use crate::exit::Exit;
use crate::io;
use crate::io::files::{Destination, Existing, FileError, PeerName, Source};
use crate::io::peer::{Issuer, Joiner, Link, LinkError, Network, Server};
use crate::io::transfer::{self, Compared, Decision};
use crate::proto::app::bench::Wish;
use crate::proto::app::{DeclineReason, Local, Offer, Outcome};
use crate::proto::stun::responder;
use crate::proto::token::{self, Invite};
use crate::report::human;
use crate::report::model::{self, SelftestReport, SelftestStep};

/// Check that this build works on this machine
///
/// Starts a STUN server and two peers on the loopback interface, sends a file by invite, verifies
/// it, and measures a second link. Needs no internet. Each step is a line with its time.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  knothole selftest
  knothole selftest --json")]
pub struct Args {
    /// How long the whole test may take
    #[arg(
        long,
        env = "KNOTHOLE_TIMEOUT",
        value_name = "DURATION",
        default_value = "60s"
    )]
    #[arg(value_parser = common::timeout, value_hint = ValueHint::Other)]
    pub timeout: Duration,

    #[command(flatten)]
    pub screen: ScreenArgs,
}

/// Size of the file that is sent, in bytes: a few windows of data, a moment's work.
const FILE: usize = 8 << 20;
/// How long each direction is measured: to see that it works, not how fast this machine is.
const MEASURED: Duration = Duration::from_millis(100);

/// Runs `knothole selftest`.
///
/// # Errors
/// A step did not work: exit 3, or 4 if the file arrived changed.
pub async fn run(args: Args, ctx: Ctx) -> Result<Exit, Failure> {
    let mut steps = Steps {
        ui: ctx.ui.clone(),
        at: Instant::now(),
        done: vec![],
    };
    let result = tokio::select! {
        biased;
        cause = ctx.stop.wait() => Err(Failure::interrupted(cause)),
        () = tokio::time::sleep(args.timeout) => {
            Err(Failure::incomplete(format!("not finished within {} s", args.timeout.as_secs())).kind("timeout"))
        }
        result = test(&mut steps) => result,
    };
    let total = steps.done.iter().map(|step| step.ms).sum();
    ctx.ui.report(&SelftestReport {
        command: "selftest".to_owned(),
        ok: result.is_ok(),
        ms: total,
        error: result.as_ref().err().map(Failure::in_one_line),
        steps: steps.done,
    })?;
    if result.is_ok() {
        ctx.ui.result(&format!(
            "ok: this build works on this machine ({total:.0} ms)"
        ))?;
    }
    result.map(|()| Exit::Done)
}

/// The steps so far, each a line as soon as it is done.
struct Steps {
    ui: Ui,
    at: Instant,
    done: Vec<SelftestStep>,
}

impl Steps {
    fn done(&mut self, step: &str, detail: String) -> Result<(), Failure> {
        let ms = model::ms(self.at.elapsed());
        if !self.ui.json() {
            self.ui
                .result(&format!("ok  {step:<10} {detail} ({ms} ms)"))?;
        }
        self.done.push(SelftestStep {
            step: step.to_owned(),
            detail,
            ms,
        });
        self.at = Instant::now();
        Ok(())
    }
}

async fn test(steps: &mut Steps) -> Result<(), Failure> {
    let system = |what: &str, error: std::io::Error| {
        Failure::incomplete(what.to_owned())
            .kind("system")
            .because(error)
    };
    let responder = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .map_err(|e| system("bind a loopback port", e))?;
    let stun = responder
        .local_addr()
        .map_err(|e| system("bind a loopback port", e))?;
    let responding = respond(&responder);
    let body = async {
        steps.done("stun", format!("a server on {stun}"))?;
        let network = Network {
            stun: vec![Server {
                host: stun.ip().to_string(),
                port: stun.port(),
            }],
            turn: None,
            ipv4: true,
            ipv6: false,
            bind: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            patience: Duration::from_secs(20),
            repair: true,
        };
        transfer_a_file(steps, &network).await?;
        measure(steps, &network).await
    };
    tokio::select! {
        error = responding => Err(system("the STUN server", error)),
        result = body => result,
    }
}

/// What both sides say about themselves.
const LOCAL: Local<'static> = Local {
    version: env!("CARGO_PKG_VERSION"),
    verify: false,
};

fn link_failure(error: LinkError) -> Failure {
    meet::failure(error, "loopback")
}

async fn open(network: &Network) -> Result<Issuer, Failure> {
    Issuer::open(network, Duration::from_mins(5))
        .await
        .map_err(link_failure)
}

/// The issuer's end of a link, and the joiner's.
async fn link(network: &Network, issuer: Issuer, invite: &Invite) -> Result<(Link, Link), Failure> {
    let (_replies_tx, mut replies) = mpsc::channel(1);
    let joining = async {
        let mut joiner = Joiner::start(network, invite, None).await?;
        joiner.opened().await?;
        joiner.into_link()
    };
    tokio::try_join!(issuer.wait(&mut replies, |_| {}), joining).map_err(link_failure)
}

/// Whether both sides are done.
fn done(sides: [(&str, Outcome); 2]) -> Result<(), Failure> {
    for (side, outcome) in sides {
        if outcome != Outcome::Done {
            return Err(Failure::incomplete(format!("{side}: {outcome}")).kind(outcome.word()));
        }
    }
    Ok(())
}

async fn measure(steps: &mut Steps, network: &Network) -> Result<(), Failure> {
    let issuer = open(network).await?;
    let invite = issuer.invite().0;
    let (issuer, joiner) = link(network, issuer, &invite).await?;
    let wish = |joined| Wish {
        time: MEASURED,
        only: None,
        joined,
    };
    let compare = |_| std::future::ready(Compared::Nobody);
    let never = std::future::pending;
    let (mut unheard, mut unseen) = (|_| {}, |_| {});
    let (issued, joined) = tokio::join!(
        transfer::bench(issuer, LOCAL, wish(false), compare, never(), &mut unheard),
        transfer::bench(joiner, LOCAL, wish(true), compare, never(), &mut unseen),
    );
    done([
        ("issuer", issued.ended.outcome),
        ("joiner", joined.ended.outcome),
    ])?;
    steps.done("bench", "a second link, measured both ways".to_owned())
}

async fn transfer_a_file(steps: &mut Steps, network: &Network) -> Result<(), Failure> {
    let mut issuer = open(network).await?;
    let seen = issuer.endpoint().mappings().concat();
    let [seen] = seen[..] else {
        return Err(Failure::incomplete("the STUN server on loopback did not answer").kind("stun"));
    };
    steps.done("gather", format!("the server sees {seen}"))?;
    let text = issuer.invite().0.encode();
    let invite = token::parse_invite(&text)
        .map_err(|error| Failure::incomplete(error.to_string()).kind("token"))?;
    steps.done("invite", format!("{} characters", text.len()))?;

    let (sender, receiver) = link(network, issuer, &invite).await?;
    let path = receiver
        .path()
        .map_or("unknown".to_owned(), |path| path.kind.name().to_owned());
    steps.done("connect", format!("a {path} path"))?;

    let folder = Scratch::make().map_err(|error| {
        Failure::incomplete("make a temporary folder")
            .kind("disk")
            .because(error)
    })?;
    let file_failure = |error: FileError| Failure::incomplete(error.to_string()).kind("disk");
    let mut contents = vec![0; FILE];
    blake3::Hasher::new()
        .update(text.as_bytes())
        .finalize_xof()
        .fill(&mut contents);
    let from = folder.0.join("selftest.bin");
    std::fs::write(&from, &contents).map_err(|error| {
        Failure::incomplete(format!("write {}", from.display()))
            .kind("disk")
            .because(error)
    })?;
    let sources = Source::open_all(&[from]).map_err(file_failure)?;
    let into = folder.0.join("received");
    let destination = Destination::file(&into, Existing::Refuse).map_err(file_failure)?;
    let decide = |offers: Arc<[Offer]>, _| async move {
        let names: Vec<&str> = offers.iter().map(|offer| offer.name.as_str()).collect();
        let planned = PeerName::judge_all(&names).map(|names| {
            destination.plan(
                &names
                    .into_iter()
                    .zip(offers.iter().map(|offer| offer.size))
                    .collect::<Vec<_>>(),
            )
        });
        match planned {
            Ok(Ok(planned)) => Decision::Accept(planned),
            _ => Decision::Decline(DeclineReason::Other, String::new()),
        }
    };
    let (mut unheard, mut unseen) = (|_| {}, |_| {});
    let compare = |_| std::future::ready(Compared::Nobody);
    let (sent, received) = tokio::join!(
        transfer::send(
            sender,
            sources,
            LOCAL,
            compare,
            std::future::pending(),
            &mut unheard
        ),
        transfer::receive(
            receiver,
            LOCAL,
            compare,
            decide,
            std::future::pending(),
            &mut unseen
        ),
    );
    let sent = sent.map_err(|error| Failure::incomplete(error.to_string()))?;
    done([("sender", sent.outcome), ("receiver", received.outcome)])?;
    let arrived = std::fs::read(&into).map_err(|error| {
        Failure::incomplete(format!("read {}", into.display()))
            .kind("disk")
            .because(error)
    })?;
    if arrived != contents {
        return Err(Failure::unverified("the file arrived changed"));
    }
    steps.done(
        "transfer",
        format!("{} sent and verified", human::size(FILE as u64)),
    )
}

/// Answers STUN requests; returns only when the socket fails.
async fn respond(socket: &UdpSocket) -> std::io::Error {
    let mut buffer = [0; 1500];
    loop {
        let (len, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => return error,
        };
        if let Some(answer) = responder::respond(&buffer[..len], from)
            && let Err(error) = socket.send_to(&answer, from).await
        {
            return error;
        }
    }
}

/// A temporary folder of our own, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> std::io::Result<Self> {
        let name = u64::from_be_bytes(io::random()?);
        let folder = std::env::temp_dir().join(format!("knothole-selftest-{name:016x}"));
        std::fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            log::warn!("remove {}: {error}", self.0.display());
        }
    }
}
