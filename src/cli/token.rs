//! `knothole token`: what a token says, in words or as JSON. The secret in it stays in it.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueHint;

use super::common::ScreenArgs;
use super::failure::Failure;
use super::input::{self, TokenSource};
use super::suggest;
use super::ui::{Ctx, Palette};
use crate::exit::Exit;
use crate::proto::token::{self, Candidate, Invite, Kind, Token};
use crate::report::human;
use crate::report::model::{TokenCandidate, TokenKind, TokenReport};

/// Show what a token says
///
/// Explains an invite or a reply code: the addresses it reveals, its fingerprint, its age. The
/// secret in an invite is not shown. Nothing is sent anywhere.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  knothole token KH...
  knothole token @invite.txt --json")]
pub struct Args {
    /// The token; @FILE or - to read it from there; asked for when left out
    #[arg(env = "KNOTHOLE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    #[arg(value_hint = ValueHint::Other)]
    token: Option<TokenSource>,

    #[command(flatten)]
    pub screen: ScreenArgs,
}

/// Runs `knothole token`.
///
/// # Errors
/// There is no token, or it is not one.
pub async fn run(args: Args, ctx: Ctx) -> Result<Exit, Failure> {
    let text = input::read_token(args.token.as_ref(), "token: ", &ctx).await?;
    let token = token::parse(&text).map_err(|error| suggest::token(&error, args.token.as_ref()))?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let report = report(&token, now);
    if ctx.ui.json() {
        ctx.ui.object(&report)?;
    } else {
        ctx.ui
            .result(render(&report, now, ctx.ui.out()).trim_end())?;
    }
    Ok(Exit::Done)
}

fn report(token: &Token, now: u64) -> TokenReport {
    let about = |kind, candidates: &[Candidate]| TokenReport {
        command: "token".to_owned(),
        kind,
        fingerprint: None,
        issued: None,
        expires: None,
        expired: None,
        candidates: candidates.iter().map(candidate).collect(),
    };
    match token {
        Token::Invite(invite) => {
            let Invite {
                fingerprint,
                issued,
                candidates,
                ..
            } = invite;
            TokenReport {
                fingerprint: Some(fingerprint.to_string()),
                issued: Some(*issued),
                expires: Some(invite.expires_at()),
                expired: Some(now >= invite.expires_at()),
                ..about(TokenKind::Invite, candidates)
            }
        }
        Token::Reply(reply) => about(TokenKind::Reply, &reply.candidates),
    }
}

fn candidate(candidate: &Candidate) -> TokenCandidate {
    let kind = match candidate.kind {
        Kind::Host => "host",
        Kind::Srflx => "srflx",
        Kind::Relay => "relay",
        Kind::Mapped => "mapped",
    };
    TokenCandidate {
        kind: kind.to_owned(),
        addr: candidate.addr,
        scope: scope(candidate.addr.ip()).to_owned(),
    }
}

/// Says how far an address reaches (RFC 1918, 3927, 4193, 4291, 6598).
fn scope(ip: IpAddr) -> &'static str {
    match ip.to_canonical() {
        ip if ip.is_loopback() => "loopback",
        IpAddr::V4(ip) if ip.is_private() => "private",
        IpAddr::V4(ip) if ip.is_link_local() => "link-local",
        IpAddr::V4(ip) if ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64 => "shared",
        IpAddr::V6(ip) if ip.is_unique_local() => "private",
        IpAddr::V6(ip) if ip.is_unicast_link_local() => "link-local",
        _ => "public",
    }
}

fn render(report: &TokenReport, now: u64, palette: Palette) -> String {
    let mut text = match report.kind {
        TokenKind::Reply => {
            "A reply code: it goes to the side that printed the invite.\n".to_owned()
        }
        _ => "An invite: whoever holds it can connect to the side that printed it, once.\n"
            .to_owned(),
    };
    let mut line = |name: &str, value: &str| {
        text += &format!("{} {value}\n", palette.strong(&format!("{name:<12}")));
    };
    if let Some(issued) = report.issued {
        line("made", &moment(issued, now));
    }
    if let (Some(expires), Some(expired)) = (report.expires, report.expired) {
        line(
            if expired { "expired" } else { "good until" },
            &moment(expires, now),
        );
    }
    if let Some(fingerprint) = &report.fingerprint {
        // 32 pairs are 95 columns: two lines of 16.
        let pairs: Vec<&str> = fingerprint.split(':').collect();
        for (i, half) in pairs.chunks(16).enumerate() {
            line(if i == 0 { "fingerprint" } else { "" }, &half.join(":"));
        }
    }
    text += &format!("{}\n", palette.strong("reveals"));
    let addrs: Vec<String> = report
        .candidates
        .iter()
        .map(|c| c.addr.to_string())
        .collect();
    let width = addrs.iter().map(String::len).max().unwrap_or(0);
    for (candidate, addr) in report.candidates.iter().zip(&addrs) {
        let scope = match candidate.scope.as_str() {
            "private" => "private, of its own network",
            "shared" => "shared, of its provider's network",
            "link-local" => "link-local, of its own network segment",
            "loopback" => "loopback, of its own machine",
            _ => "public",
        };
        let kind = match candidate.kind.as_str() {
            "host" => "its own address",
            "srflx" => "as a STUN server sees it",
            "relay" => "at a TURN server",
            _ => "a port opened on its router",
        };
        text += &format!("  {addr:<width$}  {scope}; {kind}\n");
    }
    text
}

/// Renders a moment with its distance: `2026-11-23 15:04 UTC (5 min ago)`.
fn moment(at: u64, now: u64) -> String {
    let distance = human::duration(Duration::from_secs(at.abs_diff(now)));
    let distance = match at.cmp(&now) {
        std::cmp::Ordering::Less => format!("{distance} ago"),
        std::cmp::Ordering::Equal => "now".to_owned(),
        std::cmp::Ordering::Greater => format!("in {distance}"),
    };
    format!("{} ({distance})", human::utc(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_placed_by_how_far_they_reach() {
        for (ip, reach) in [
            ("192.168.1.2", "private"),
            ("172.31.0.1", "private"),
            ("172.32.0.1", "public"),
            ("100.64.0.1", "shared"),
            ("100.127.255.255", "shared"),
            ("100.128.0.1", "public"),
            ("169.254.1.1", "link-local"),
            ("127.0.0.1", "loopback"),
            ("8.8.8.8", "public"),
            ("fd00::1", "private"),
            ("fe80::1", "link-local"),
            ("::1", "loopback"),
            ("2a00::1", "public"),
            ("::ffff:10.0.0.1", "private"),
        ] {
            assert_eq!(scope(ip.parse().unwrap()), reach, "{ip}");
        }
    }

    #[test]
    fn moments_have_a_date_and_a_distance() {
        assert_eq!(
            moment(1_767_225_600, 1_767_225_900),
            "2026-01-01 00:00 UTC (5 min ago)"
        );
        assert_eq!(
            moment(1_767_225_600, 1_767_222_000),
            "2026-01-01 00:00 UTC (in 1 h)"
        );
    }

    #[test]
    fn the_report_reads_in_80_columns() {
        let candidate = |kind: &str, addr: &str, scope: &str| TokenCandidate {
            kind: kind.into(),
            addr: addr.parse().unwrap(),
            scope: scope.into(),
        };
        let report = TokenReport {
            command: "token".into(),
            kind: TokenKind::Invite,
            fingerprint: Some(["AB"; 32].join(":")),
            issued: Some(1_767_225_600),
            expires: Some(1_767_229_200),
            expired: Some(false),
            candidates: vec![
                candidate("host", "192.168.1.10:50123", "private"),
                candidate("srflx", "203.0.113.7:50123", "public"),
            ],
        };
        let text = render(&report, 1_767_225_900, Palette::plain());
        assert_eq!(
            text,
            "\
An invite: whoever holds it can connect to the side that printed it, once.
made         2026-01-01 00:00 UTC (5 min ago)
good until   2026-01-01 01:00 UTC (in 55 min)
fingerprint  AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB
             AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB
reveals
  192.168.1.10:50123  private, of its own network; its own address
  203.0.113.7:50123   public; as a STUN server sees it
"
        );
    }
}
