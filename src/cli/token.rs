//! `knothole token`: what a token or a session description says, in words or as JSON, and the
//! one form of a description made into the other. Secrets in it stay in it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueHint;

use super::common::ScreenArgs;
use super::failure::Failure;
use super::input::{self, TokenSource};
use super::suggest;
use super::ui::{Ctx, Palette};
use crate::exit::Exit;
use crate::proto::address::is_shared;
use crate::proto::sdp::{Host, RemoteCandidate, SdpType, Session};
use crate::proto::token::{self, Candidate, Invite, Kind, Token};
use crate::report::human;
use crate::report::model::{TokenCandidate, TokenDescription, TokenKind, TokenReport};
use crate::report::sanitize::Shown;

/// Show what a token or a session description says
///
/// Explains an invite, a reply code, or what any WebRTC program made: an offer or answer in SDP
/// (also as JSON or base64), or candidates. Tells the addresses it reveals, its fingerprint, its
/// age. Secrets and passwords in it are not shown. Nothing is sent anywhere.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  knothole token KH...
  knothole token @invite.txt --json
  knothole token @offer.txt
  knothole token --to json @offer.sdp")]
pub struct Args {
    /// The token; @FILE or - to read it from there; asked for when left out
    #[arg(env = "KNOTHOLE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    #[arg(value_hint = ValueHint::Other)]
    token: Option<TokenSource>,

    /// Print the session description in this form, with its password, and nothing else
    #[arg(
        long,
        env = "KNOTHOLE_TOKEN_TO",
        value_name = "FORM",
        value_enum,
        conflicts_with = "json"
    )]
    to: Option<Form>,

    #[command(flatten)]
    pub screen: ScreenArgs,
}

/// How a description is written.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// SDP, as it is
    Sdp,
    /// SDP in JSON with its type, as browsers make it
    Json,
}

/// Runs `knothole token`.
///
/// # Errors
/// There is no token, it is not one, or it has no such form.
pub async fn run(args: Args, ctx: Ctx) -> Result<Exit, Failure> {
    let text = input::read_token(args.token.as_ref(), "token: ", &ctx).await?;
    let token = token::parse(&text).map_err(|error| suggest::token(&error, args.token.as_ref()))?;
    if let Some(form) = args.to {
        ctx.ui.raw(converted(&token, form)?.as_bytes())?;
        return Ok(Exit::Done);
    }
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

/// Writes a description in one of its forms, with the line end that belongs to it.
fn converted(token: &Token, form: Form) -> Result<String, Failure> {
    let (message, hint) = match token {
        Token::Description(session) => {
            return Ok(match form {
                Form::Sdp => session.text.clone(),
                Form::Json => session.to_json(session.probable_kind()) + "\n",
            });
        }
        Token::Invite(_) => (
            "an invite cannot be written as SDP: it is good for any joiner, an offer for one answer",
            "to connect to another WebRTC program, use --sdp in place of an invite",
        ),
        Token::Reply(_) => (
            "a reply code cannot be written as SDP: it holds addresses, and nothing else",
            "enter it on the machine that printed the invite",
        ),
        Token::Candidates(_) => (
            "candidates alone are no session description",
            "give the offer or answer that they belong to",
        ),
    };
    Err(Failure::usage(message).kind("token").hint(hint))
}

fn report(token: &Token, now: u64) -> TokenReport {
    let about = |kind, candidates| TokenReport {
        command: "token".to_owned(),
        kind,
        fingerprint: None,
        issued: None,
        expires: None,
        expired: None,
        candidates,
        description: None,
        unusable: vec![],
        warning: None,
    };
    let ours = |candidates: &[Candidate]| candidates.iter().map(candidate).collect();
    let remote = |candidates: &[RemoteCandidate]| candidates.iter().map(remote_candidate).collect();
    let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
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
                ..about(TokenKind::Invite, ours(candidates))
            }
        }
        Token::Reply(reply) => about(TokenKind::Reply, ours(&reply.candidates)),
        Token::Candidates(candidates) => TokenReport {
            unusable: owned(&candidates.skipped),
            ..about(TokenKind::Candidates, remote(&candidates.usable))
        },
        Token::Description(session) => {
            let kind = match session.probable_kind() {
                SdpType::Offer => TokenKind::Offer,
                SdpType::Answer => TokenKind::Answer,
            };
            let about = about(kind, remote(&session.candidates));
            TokenReport {
                fingerprint: Some(session.fingerprint.to_string()),
                warning: warning(session, &about.candidates).map(str::to_owned),
                description: Some(description(session)),
                unusable: owned(&session.skipped),
                ..about
            }
        }
    }
}

fn description(session: &Session) -> TokenDescription {
    let ignored = session.sections.iter().enumerate();
    TokenDescription {
        typed: session.kind.is_some(),
        software: session.software.clone(),
        knothole: session.knothole,
        ufrag: session.ufrag.clone(),
        setup: session.setup.to_string(),
        mid: session.mid.clone(),
        sctp_port: session.sctp_port,
        max_message_size: session.max_message_size,
        more: session.trickle && !session.complete,
        ignored: ignored
            .filter(|(at, _)| *at != session.data)
            .map(|(_, section)| section.media.clone())
            .collect(),
    }
}

/// Says what probably keeps a description from working.
fn warning(session: &Session, candidates: &[TokenCandidate]) -> Option<&'static str> {
    let all = |scope: &str| candidates.iter().all(|c| c.scope == scope);
    if candidates.is_empty() {
        let more = session.trickle && !session.complete;
        return Some(if more {
            "no address is in it yet: copy it again when gathering is complete"
        } else {
            "no address is in it: nothing can be sent to that side"
        });
    }
    if candidates.iter().all(|c| c.protocol == "tcp") {
        return Some("all its addresses are for TCP, and knothole sends over UDP");
    }
    if all("loopback") {
        return Some("all its addresses are of its own machine: only that can reach it");
    }
    if candidates
        .iter()
        .all(|c| ["mdns", "loopback"].contains(&c.scope.as_str()))
    {
        return Some("all its addresses are hidden: only its network segment can reach it");
    }
    None
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
        protocol: "udp".to_owned(),
        addr: candidate.addr.to_string(),
        scope: scope(candidate.addr.ip()).to_owned(),
    }
}

fn remote_candidate(candidate: &RemoteCandidate) -> TokenCandidate {
    TokenCandidate {
        kind: candidate.kind.word().to_owned(),
        protocol: candidate.transport.word().to_owned(),
        addr: candidate.host.to_string(),
        scope: match candidate.host {
            Host::Ip(addr) => scope(addr.ip()),
            Host::Name { .. } => "mdns",
        }
        .to_owned(),
    }
}

/// Says how far an address reaches (RFC 1918, 3927, 4193, 4291, 6598).
pub(super) fn scope(ip: IpAddr) -> &'static str {
    match ip.to_canonical() {
        ip if ip.is_loopback() => "loopback",
        IpAddr::V4(ip) if ip.is_private() => "private",
        IpAddr::V4(ip) if ip.is_link_local() => "link-local",
        IpAddr::V4(ip) if is_shared(ip) => "shared",
        IpAddr::V6(ip) if ip.is_unique_local() => "private",
        IpAddr::V6(ip) if ip.is_unicast_link_local() => "link-local",
        _ => "public",
    }
}

/// The report has no more columns than this.
const COLUMNS: usize = 80;

fn render(report: &TokenReport, now: u64, palette: Palette) -> String {
    let mut text = headline(report).to_owned() + "\n";
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
    if let Some(description) = &report.description {
        if let Some(by) = made_by(description) {
            line("made by", &by);
        }
        line("ufrag", &format!("{:.66}", Shown(&description.ufrag)));
    }
    if let Some(fingerprint) = &report.fingerprint {
        // 32 pairs are 95 columns: two lines of 16.
        let pairs: Vec<&str> = fingerprint.split(':').collect();
        for (i, half) in pairs.chunks(16).enumerate() {
            line(if i == 0 { "fingerprint" } else { "" }, &half.join(":"));
        }
    }
    if let Some(description) = &report.description {
        line("handshake", handshake(&description.setup));
        let longest = match description.max_message_size {
            0 => "of any length".to_owned(),
            bytes => format!("up to {} ({bytes} bytes)", human::size(bytes)),
        };
        line("messages", &longest);
        if !description.ignored.is_empty() {
            let media = description.ignored.join(", ");
            line(
                "also in it",
                &format!("{:.40}, not used here", Shown(&media)),
            );
        }
        let more = if description.more {
            "may come later (trickle)"
        } else {
            "will not come"
        };
        line("more", &format!("addresses {more}"));
    }
    if !report.candidates.is_empty() {
        text += &format!("{}\n", palette.strong("reveals"));
        text += &candidates(&report.candidates);
    }
    if !report.unusable.is_empty() {
        text += &format!("{}\n", palette.strong("not usable"));
        for (why, times) in counted(&report.unusable) {
            let times = match times {
                1 => String::new(),
                n => format!(" ({n} times)"),
            };
            text += &format!("  a candidate {why}{times}\n");
        }
    }
    if let Some(warning) = &report.warning {
        text += &format!("{} {warning}\n", palette.warning("warning:"));
    }
    text
}

/// Each text once, with how often it is there.
fn counted(texts: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for text in texts {
        *counts.entry(text.as_str()).or_default() += 1;
    }
    counts
}

fn headline(report: &TokenReport) -> &'static str {
    let typed = report.description.as_ref().is_none_or(|d| d.typed);
    match (report.kind, typed) {
        (TokenKind::Invite, _) => {
            "An invite: whoever holds it can connect to the side that printed it, once."
        }
        (TokenKind::Reply, _) => "A reply code: it goes to the side that printed the invite.",
        (TokenKind::Offer, true) => "An offer in SDP: the side that made it waits for an answer.",
        (TokenKind::Answer, true) => "An answer in SDP: it goes to the side that made the offer.",
        (TokenKind::Offer, false) => "SDP, of an offer: the side that made it waits for an answer.",
        (TokenKind::Answer, false) => "SDP, of an answer: it goes to the side that made the offer.",
        (TokenKind::Candidates, _) => {
            "Candidates: further addresses for an offer or an answer that was given before."
        }
    }
}

/// Says only what the description itself says.
fn made_by(description: &TokenDescription) -> Option<String> {
    if description.knothole {
        return Some("knothole".to_owned());
    }
    let software = description.software.as_deref()?;
    let known = if software.starts_with("mozilla...THIS_IS_SDPARTA") {
        " (Firefox, or built on it)"
    } else {
        ""
    };
    Some(format!("{:.30}{known}", Shown(software)))
}

fn handshake(setup: &str) -> &'static str {
    match setup {
        "active" => "this side begins (active)",
        "passive" => "the other side begins (passive)",
        _ => "either side may begin, the answer chooses (actpass)",
    }
}

/// One line each, in columns; the explanation of a long address goes below it.
fn candidates(candidates: &[TokenCandidate]) -> String {
    let width = candidates.iter().map(|c| c.addr.len()).max().unwrap_or(0);
    let explained: Vec<String> = candidates.iter().map(explanation).collect();
    let longest = explained.iter().map(String::len).max().unwrap_or(0);
    let gap = if 2 + width + 2 + longest <= COLUMNS {
        "  "
    } else {
        "\n    "
    };
    let width = if gap == "  " { width } else { 0 };
    let lines = candidates.iter().zip(&explained);
    lines
        .map(|(candidate, explained)| format!("  {:<width$}{gap}{explained}\n", candidate.addr))
        .collect()
}

fn explanation(candidate: &TokenCandidate) -> String {
    let scope = match candidate.scope.as_str() {
        "private" => "private, of its own network",
        "shared" => "shared, of its provider's network",
        "link-local" => "link-local, of its own network segment",
        "loopback" => "loopback, of its own machine",
        "mdns" => "an mDNS name, resolvable only on its own network segment",
        _ => "public",
    };
    let kind = match candidate.kind.as_str() {
        // A name always hides an own address.
        "host" if candidate.scope == "mdns" => "",
        "host" => "; its own address",
        "srflx" => "; as a STUN server sees it",
        "prflx" => "; as a peer saw it",
        "relay" => "; at a TURN server",
        _ => "; a port opened on its router",
    };
    let protocol = if candidate.protocol == "tcp" {
        "; for TCP"
    } else {
        ""
    };
    format!("{scope}{kind}{protocol}")
}

/// Renders a moment with its distance: `2026-11-23 15:04 UTC (5 min ago)`. Tokens know the minute in
/// which they were made, so nothing finer is said of the past.
fn moment(at: u64, now: u64) -> String {
    let minutes = now.saturating_sub(at) / 60;
    let distance = match at.cmp(&now) {
        Ordering::Less if minutes == 0 => "less than a minute ago".to_owned(),
        Ordering::Less => format!("{} ago", human::duration(Duration::from_mins(minutes))),
        Ordering::Equal => "now".to_owned(),
        Ordering::Greater => {
            format!("in {}", human::duration(Duration::from_secs(at - now)))
        }
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
        // It may have been the last second of the minute.
        assert_eq!(
            moment(1_767_225_600, 1_767_225_659),
            "2026-01-01 00:00 UTC (less than a minute ago)"
        );
    }

    #[test]
    fn the_report_reads_in_80_columns() {
        let candidate = |kind: &str, addr: &str, scope: &str| TokenCandidate {
            kind: kind.into(),
            protocol: "udp".into(),
            addr: addr.into(),
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
            description: None,
            unusable: vec![],
            warning: None,
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
