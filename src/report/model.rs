//! What `--json` prints: types of their own, so that a change of the program's insides does not
//! change what scripts read. One value is one line, and every line carries `"schema": 1`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::proto::nat::{Classic, Filtering, Mapping, Udp};

/// The version of everything in this file. Raised when a reader of the old form would break.
pub const SCHEMA: u64 = 1;

/// One line of `send`, `receive` and `selftest` under `--json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase", deny_unknown_fields)]
pub enum Event {
    /// Something the other side needs.
    Token {
        /// What it is.
        kind: TokenKind,
        /// The text to hand over.
        token: String,
    },
    /// The link moved on.
    State {
        /// Where to.
        state: State,
    },
    /// The way the packets go.
    Path {
        /// The kind of the local candidate in use.
        #[serde(rename = "type")]
        kind: PathKind,
        /// `udp` or `tcp`.
        protocol: String,
        /// Our address.
        local: String,
        /// The peer's address.
        remote: String,
        /// Round-trip time, where one was measured.
        rtt_ms: Option<f64>,
    },
    /// What the repair layer did so far with what this side sends; about once a second while it
    /// does something.
    Link {
        /// Whether it carries what is sent now; else it has stepped aside.
        repairing: bool,
        /// Bytes a second that the path was found to take lately.
        rate: u64,
        /// The usual round trip, and the shortest lately: the difference is the queue.
        rtt_ms: f64,
        /// Where one was measured.
        min_rtt_ms: Option<f64>,
        /// Frames that were sent, and how many of them counted as lost.
        frames: u64,
        /// See `frames`.
        lost: u64,
        /// Frames that repaired a loss, and those of them that were not needed.
        repairs: u64,
        /// See `repairs`: what had counted as lost was late.
        late: u64,
        /// Frames that a router marked for congestion (RFC 3168).
        marked: u64,
        /// Holes in what came in that were left to SCTP.
        given_up: u64,
    },
    /// Both persons are to compare these words; the answer is given on the terminal.
    Words {
        /// The words, in order.
        words: Vec<String>,
    },
    /// A text arrived, verified.
    Text {
        /// The text, of the other side.
        text: String,
    },
    /// How far the transfer is; at most ten a second.
    Progress {
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all, where that is known.
        total: Option<u64>,
        /// Files that are complete and verified.
        files_done: u64,
    },
    /// One file is settled.
    File {
        /// Where it lies; for the sender, the path as given.
        path: String,
        /// Its size.
        bytes: u64,
        /// Its BLAKE3 hash in hex.
        blake3: String,
        /// The offset an earlier attempt had reached.
        resumed_from: Option<u64>,
        /// What was done with it.
        action: FileAction,
    },
    /// Everything arrived and was acknowledged.
    Done {
        /// Bytes in all.
        bytes: u64,
        /// How long the transfer took.
        seconds: f64,
        /// How many files.
        files: u64,
    },
    /// The run failed.
    Error {
        /// A stable word for the class of the failure.
        kind: String,
        /// What happened, causes included.
        message: String,
        /// What to try.
        hint: Option<String>,
    },
}

/// What a [`Event::Token`] carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// The first thing to hand over.
    Invite,
    /// The short code that goes back.
    Reply,
    /// A plain SDP offer.
    Offer,
    /// A plain SDP answer.
    Answer,
    /// Candidates that belong to an offer or answer.
    Candidates,
}

/// The stations of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Finding out our own addresses.
    Gathering,
    /// Nothing to do until the other side moves.
    Waiting,
    /// Trying the addresses of both sides against each other.
    Connecting,
    /// There is a link.
    Connected,
    /// All bytes are there; their hashes are being compared.
    Verifying,
}

impl State {
    /// Returns the words of the phase line.
    #[must_use]
    pub const fn phase(self) -> &'static str {
        match self {
            Self::Gathering => "gathering addresses",
            Self::Waiting => "waiting for the other side",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Verifying => "verifying",
        }
    }
}

/// The kind of a candidate, in the words of ICE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathKind {
    /// An address of the machine itself.
    Host,
    /// The machine's address as a STUN server sees it.
    Srflx,
    /// An address first seen in a check.
    Prflx,
    /// Through a TURN server.
    Relay,
}

/// What the receiver did with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileAction {
    /// It is there under its own name.
    Written,
    /// It was there already, or was refused.
    Skipped,
    /// It is there under another name.
    Renamed,
}

/// What `token --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenReport {
    /// Always `token`.
    pub command: String,
    /// What it is.
    pub kind: TokenKind,
    /// SHA-256 of the certificate of the side that made it; in an invite, an offer, an answer.
    pub fingerprint: Option<String>,
    /// When it was made, in seconds since 1970; in an invite.
    pub issued: Option<u64>,
    /// When it stops being good, in seconds since 1970; in an invite.
    pub expires: Option<u64>,
    /// Whether that moment has passed; in an invite.
    pub expired: Option<bool>,
    /// The addresses it reveals.
    pub candidates: Vec<TokenCandidate>,
    /// What an offer or an answer says beyond that. Its password is not told.
    pub description: Option<TokenDescription>,
    /// Why candidates in it cannot be used, one by one; in SDP.
    pub unusable: Vec<String>,
    /// What probably keeps it from working.
    pub warning: Option<String>,
}

/// What an offer or an answer says about its data channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenDescription {
    /// Whether it was said what it is, as JSON does; otherwise `kind` follows from `setup`.
    pub typed: bool,
    /// What it calls the program that made it; foreign text.
    pub software: Option<String>,
    /// Whether knothole made it.
    pub knothole: bool,
    /// The ICE user name fragment.
    pub ufrag: String,
    /// `actpass`, `active` or `passive`.
    pub setup: String,
    /// The name of its section.
    pub mid: String,
    /// The port inside DTLS.
    pub sctp_port: u16,
    /// The longest message it takes, in bytes; 0 for no limit.
    pub max_message_size: u64,
    /// Whether more candidates may come.
    pub more: bool,
    /// What else is in it and is not used: `audio`, `video`; foreign text.
    pub ignored: Vec<String>,
}

/// One address in a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenCandidate {
    /// `host`, `srflx`, `prflx`, `relay` or `mapped`.
    pub kind: String,
    /// `udp` or `tcp`.
    pub protocol: String,
    /// Address and port; in SDP it may be a name that ends in `.local` and a port.
    pub addr: String,
    /// How far the address reaches: `public`, `private`, `shared`, `link-local`, `loopback`, or
    /// `mdns` where a name hides it.
    pub scope: String,
}

/// What `selftest --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelftestReport {
    /// Always `selftest`.
    pub command: String,
    /// Whether every step worked.
    pub ok: bool,
    /// All steps together, in milliseconds.
    pub ms: f64,
    /// Why the next step did not.
    pub error: Option<String>,
    /// The steps that worked, in order.
    pub steps: Vec<SelftestStep>,
}

/// One step of the self-test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelftestStep {
    /// `stun`, `gather`, `invite`, `connect`, `transfer` or `bench`.
    pub step: String,
    /// What was seen, in words.
    pub detail: String,
    /// How long it took, in milliseconds.
    pub ms: f64,
}

/// What `bench --json` prints. What is `null` was not measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchReport {
    /// Always `bench`.
    pub command: String,
    /// Why not everything was measured.
    pub error: Option<String>,
    /// The way that the data took.
    pub path: Option<BenchPath>,
    /// Of a message on the channel while nothing else moved, as this side measured it.
    pub round_trip: Option<BenchRoundTrip>,
    /// From here to there; null too where it was not asked for.
    pub sent: Option<BenchDirection>,
    /// From there to here; null too where it was not asked for.
    pub received: Option<BenchDirection>,
}

/// The way of the data of a [`BenchReport`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchPath {
    /// `relay` goes through a TURN server, the others are direct.
    #[serde(rename = "type")]
    pub kind: PathKind,
    /// `udp`.
    pub protocol: String,
    /// Our address.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
}

/// The idle round trip of a [`BenchReport`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchRoundTrip {
    /// How many echoes it is made of.
    pub echoes: u64,
    pub min_ms: f64,
    pub median_ms: f64,
    pub max_ms: f64,
    /// How much two echoes in a row differ, on average.
    pub jitter_ms: f64,
}

/// One direction of a [`BenchReport`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchDirection {
    /// What the receiver counted, and how long.
    pub bytes: u64,
    pub seconds: f64,
    /// Bytes a second.
    pub rate: u64,
    /// Bytes of the slowest and of the fastest whole second, where there was one.
    pub slowest: Option<u64>,
    /// See `slowest`.
    pub fastest: Option<u64>,
    /// What the repair layer did, as the sender saw it; null where nothing went through it.
    pub link: Option<BenchLink>,
}

/// The repair layer in a [`BenchDirection`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchLink {
    /// Whether it carried what was sent when the time was over; else it had stepped aside.
    pub repairing: bool,
    /// Bytes a second that the path was found to take then; null where it was not repairing.
    pub rate: Option<u64>,
    /// The usual round trip then, and the shortest lately: the difference is the queue.
    pub rtt_ms: Option<f64>,
    /// See `rtt_ms`.
    pub min_rtt_ms: Option<f64>,
    /// Frames that were sent, and how many of them counted as lost.
    pub frames: u64,
    /// See `frames`.
    pub lost: u64,
    /// Of a hundred frames, those that were lost and not only late; null where it was not repairing,
    /// since nobody counts what travels without it.
    pub loss_percent: Option<f64>,
    /// Frames that repaired a loss, and those of them that were not needed.
    pub repairs: u64,
    /// See `repairs`: what had counted as lost was late.
    pub late: u64,
    /// Holes in what came that were left to SCTP; counted by the receiver.
    pub given_up: u64,
}

/// What `addr --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddrReport {
    /// Always `addr`.
    pub command: String,
    /// The address that most servers see; null where they disagree or none answered.
    pub ipv4: Option<IpAddr>,
    pub ipv6: Option<IpAddr>,
    pub udp: Udp,
    pub servers: Vec<AddrServer>,
}

/// One way to one address of a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddrServer {
    pub url: String,
    /// `udp`, `tcp` or `tls`.
    pub transport: String,
    /// Which address of it was asked.
    pub addr: Option<SocketAddr>,
    /// What it sees.
    pub mapped: Option<SocketAddr>,
    pub rtt_ms: Option<f64>,
    /// Its own word for itself.
    pub software: Option<String>,
    /// Whether most others see another address.
    pub dissents: bool,
    /// Why there is no answer.
    pub error: Option<String>,
}

/// What `nat --json` prints. A fact that was not established is `null` or `unknown`, and its reason
/// is in `evidence`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatReport {
    /// Always `nat`.
    pub command: String,
    /// The local address that the servers were asked from.
    pub local: Option<SocketAddr>,
    /// The address that they see.
    pub public: Option<SocketAddr>,
    pub udp: Udp,
    pub mapping: Mapping,
    /// Whether the mapping depends on the destination, where at least that is known.
    pub mapping_depends: Option<bool>,
    pub filtering: Filtering,
    /// The name of RFC 3489.
    pub classic: Classic,
    pub hairpinning: Option<bool>,
    /// Where it does: whether only those come in that were sent to.
    pub hairpin_filtered: Option<bool>,
    pub port_preservation: Option<bool>,
    /// Whether even ports stay even and odd ones odd.
    pub port_parity: Option<bool>,
    /// The constant step between the ports of new mappings.
    pub port_step: Option<i32>,
    /// The longest idle time that a mapping was seen to live through.
    pub binding_lifetime_s: Option<f64>,
    /// The shortest idle time after which one was gone.
    pub binding_gone_s: Option<f64>,
    /// Whether datagrams in fragments get through both ways.
    pub fragments: Option<bool>,
    /// Whether something rewrites addresses inside packets.
    pub rewritten: Option<bool>,
    /// Whether there is another NAT behind the router.
    pub double_nat: Option<bool>,
    /// Whether a carrier's NAT is on the way, by the addresses of RFC 6598.
    pub carrier_grade_nat: Option<bool>,
    /// What the router says, if there is one and it was asked.
    pub gateway: Option<NatGateway>,
    /// Every public address that was seen.
    pub public_ips: Vec<IpAddr>,
    pub servers: Vec<NatServer>,
    pub evidence: Vec<NatEvidence>,
    /// The same over IPv6, when IPv4 was tested too.
    pub ipv6: Option<NatOther>,
    /// What it means for connections, in words.
    pub outlook: String,
}

/// The other address family in a [`NatReport`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatOther {
    pub local: Option<SocketAddr>,
    pub public: Option<SocketAddr>,
    pub udp: Udp,
    pub mapping: Mapping,
    pub filtering: Filtering,
}

/// What the router next to us says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatGateway {
    pub addr: Ipv4Addr,
    /// The outer address that it claims; null where it does not, or claims several.
    pub external: Option<Ipv4Addr>,
    /// Whether it maps a port on request; null where it was not asked to.
    pub port_mapping: Option<bool>,
    /// The protocols that it answers.
    pub protocols: Vec<NatProtocol>,
}

/// What it says by one protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatProtocol {
    /// `pcp`, `nat-pmp` or `upnp`.
    pub protocol: String,
    pub external: Option<Ipv4Addr>,
    /// Whether it made a mapping; null where it was not asked to.
    pub maps: Option<bool>,
}

/// One server of a [`NatReport`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatServer {
    pub url: String,
    /// Which address of it was asked.
    pub addr: Option<SocketAddr>,
    /// What it sees.
    pub mapped: Option<SocketAddr>,
    pub rtt_ms: Option<f64>,
    /// Whether it can be used for behaviour discovery.
    pub rfc5780: bool,
    /// Its own word for itself.
    pub software: Option<String>,
    /// Whether most others see another address.
    pub dissents: bool,
    /// Why it is of no use.
    pub error: Option<String>,
}

/// One probe of a [`NatReport`], or the reason why something is not known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatEvidence {
    pub test: String,
    /// The local address it left from.
    pub local: Option<SocketAddr>,
    pub to: Option<SocketAddr>,
    /// Where the answer had to come from, if not from `to`.
    pub expected: Option<SocketAddr>,
    /// Where the answer came from.
    pub from: Option<SocketAddr>,
    pub mapped: Option<SocketAddr>,
    /// How often it was sent.
    pub tries: u64,
    pub result: String,
}

impl NatEvidence {
    /// Why something is not known: no probe of a server.
    #[must_use]
    pub fn reason(test: &str, why: &str) -> Self {
        Self {
            test: test.to_owned(),
            local: None,
            to: None,
            expected: None,
            from: None,
            mapped: None,
            tries: 0,
            result: why.to_owned(),
        }
    }
}

/// The first line of `serve --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServeListening {
    /// Always `listening`.
    pub event: String,
    /// What clients are to ask, one URL a family.
    pub urls: Vec<String>,
    /// Whether there is a second address for behaviour discovery.
    pub rfc5780: bool,
    /// Where the counters are told to Prometheus, as a URL.
    pub metrics: Option<String>,
}

/// The later lines of `serve --json`: everything since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServeCounters {
    /// Always `counters`.
    pub event: String,
    /// What came in.
    pub received: u64,
    /// Requests answered with an address.
    pub answered: u64,
    /// Of these, answered from another address or port.
    pub changed: u64,
    /// Requests answered with an error.
    pub refused: u64,
    /// Dropped: the source asks too often.
    pub limited: u64,
    /// Dropped: not a Binding request.
    pub ignored: u64,
    /// TCP connections closed at once: the source has too many.
    pub crowded: u64,
}

/// Milliseconds as reports have them: with one decimal.
#[must_use]
pub fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// Renders a value as one line of JSON, without the line end.
///
/// # Panics
/// Never: the types of this module are structs whose keys are strings.
#[must_use]
pub fn line(value: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Line<'a, T> {
        schema: u64,
        #[serde(flatten)]
        value: &'a T,
    }
    let line = Line {
        schema: SCHEMA,
        value,
    };
    serde_json::to_string(&line).expect("a struct with string keys is always JSON")
}

/// Reads one line back, strictly: an unknown key, event or schema is an error.
///
/// # Errors
/// Says what was not expected.
pub fn read<T: for<'de> Deserialize<'de>>(line: &str) -> Result<T, String> {
    let mut value: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let object = value.as_object_mut().ok_or("not an object")?;
    match object.remove("schema").as_ref().and_then(Value::as_u64) {
        Some(SCHEMA) => {}
        other => return Err(format!("schema is {other:?}, not {SCHEMA}")),
    }
    serde_json::from_value(value).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> Vec<(Event, &'static str)> {
        vec![
            (
                Event::Token {
                    kind: TokenKind::Invite,
                    token: "KH1ABC".into(),
                },
                r#"{"schema":1,"event":"token","kind":"invite","token":"KH1ABC"}"#,
            ),
            (
                Event::State {
                    state: State::Gathering,
                },
                r#"{"schema":1,"event":"state","state":"gathering"}"#,
            ),
            (
                Event::Path {
                    kind: PathKind::Srflx,
                    protocol: "udp".into(),
                    local: "192.0.2.1:5".into(),
                    remote: "[2001:db8::1]:6".into(),
                    rtt_ms: Some(12.5),
                },
                r#"{"schema":1,"event":"path","type":"srflx","protocol":"udp","local":"192.0.2.1:5","remote":"[2001:db8::1]:6","rtt_ms":12.5}"#,
            ),
            (
                Event::Link {
                    repairing: true,
                    rate: 25_000_000,
                    rtt_ms: 52.5,
                    min_rtt_ms: Some(50.0),
                    frames: 9000,
                    lost: 90,
                    repairs: 91,
                    late: 1,
                    marked: 2,
                    given_up: 0,
                },
                r#"{"schema":1,"event":"link","repairing":true,"rate":25000000,"rtt_ms":52.5,"min_rtt_ms":50.0,"frames":9000,"lost":90,"repairs":91,"late":1,"marked":2,"given_up":0}"#,
            ),
            (
                Event::Words {
                    words: vec!["abandon".into(), "zoo".into()],
                },
                r#"{"schema":1,"event":"words","words":["abandon","zoo"]}"#,
            ),
            (
                Event::Text {
                    text: "a\n\u{1b}".into(),
                },
                r#"{"schema":1,"event":"text","text":"a\n\u001b"}"#,
            ),
            (
                Event::Progress {
                    bytes: 5,
                    total: None,
                    files_done: 0,
                },
                r#"{"schema":1,"event":"progress","bytes":5,"total":null,"files_done":0}"#,
            ),
            (
                Event::File {
                    path: "a\u{1b}b".into(),
                    bytes: 5,
                    blake3: "00".into(),
                    resumed_from: None,
                    action: FileAction::Renamed,
                },
                r#"{"schema":1,"event":"file","path":"a\u001bb","bytes":5,"blake3":"00","resumed_from":null,"action":"renamed"}"#,
            ),
            (
                Event::Done {
                    bytes: 5,
                    seconds: 0.25,
                    files: 1,
                },
                r#"{"schema":1,"event":"done","bytes":5,"seconds":0.25,"files":1}"#,
            ),
            (
                Event::Error {
                    kind: "declined".into(),
                    message: "no".into(),
                    hint: None,
                },
                r#"{"schema":1,"event":"error","kind":"declined","message":"no","hint":null}"#,
            ),
        ]
    }

    #[test]
    fn events_are_written_to_the_letter_and_read_back() {
        for (event, text) in one_of_each() {
            assert_eq!(line(&event), text);
            assert_eq!(read::<Event>(text).unwrap(), event);
        }
    }

    #[test]
    fn an_unknown_key_is_noticed_in_every_event() {
        for (_, text) in one_of_each() {
            let more = text.replacen('{', r#"{"surprise":1,"#, 1);
            let said = read::<Event>(&more).unwrap_err();
            assert!(said.contains("surprise"), "{said}");
        }
    }

    #[test]
    fn another_schema_an_unknown_event_and_no_object_are_errors() {
        for bad in [
            r#"{"event":"state","state":"waiting"}"#,
            r#"{"schema":2,"event":"state","state":"waiting"}"#,
            r#"{"schema":1,"event":"surprise"}"#,
            r#"{"schema":1,"event":"state","state":"surprised"}"#,
            "[]",
            "",
        ] {
            assert!(read::<Event>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bench_report_is_written_to_the_letter_and_reads_back() {
        let direction = BenchDirection {
            bytes: 20,
            seconds: 2.0,
            rate: 10,
            slowest: Some(9),
            fastest: Some(11),
            link: Some(BenchLink {
                repairing: true,
                rate: Some(12),
                rtt_ms: Some(52.5),
                min_rtt_ms: Some(50.0),
                frames: 100,
                lost: 3,
                loss_percent: Some(2.0),
                repairs: 3,
                late: 1,
                given_up: 0,
            }),
        };
        let report = BenchReport {
            command: "bench".into(),
            error: None,
            path: Some(BenchPath {
                kind: PathKind::Host,
                protocol: "udp".into(),
                local: SocketAddr::from(([192, 0, 2, 1], 5)),
                remote: SocketAddr::from(([192, 0, 2, 2], 6)),
            }),
            round_trip: Some(BenchRoundTrip {
                echoes: 20,
                min_ms: 50.0,
                median_ms: 50.4,
                max_ms: 55.1,
                jitter_ms: 0.4,
            }),
            sent: Some(direction),
            received: None,
        };
        let text = concat!(
            r#"{"schema":1,"command":"bench","error":null,"#,
            r#""path":{"type":"host","protocol":"udp","local":"192.0.2.1:5","remote":"192.0.2.2:6"},"#,
            r#""round_trip":{"echoes":20,"min_ms":50.0,"median_ms":50.4,"max_ms":55.1,"jitter_ms":0.4},"#,
            r#""sent":{"bytes":20,"seconds":2.0,"rate":10,"slowest":9,"fastest":11,"#,
            r#""link":{"repairing":true,"rate":12,"rtt_ms":52.5,"min_rtt_ms":50.0,"frames":100,"#,
            r#""lost":3,"loss_percent":2.0,"repairs":3,"late":1,"given_up":0}},"received":null}"#
        );
        assert_eq!(line(&report), text);
        assert_eq!(read::<BenchReport>(text).unwrap(), report);
        let more = text.replacen(r#""frames""#, r#""surprise":1,"frames""#, 1);
        assert!(read::<BenchReport>(&more).is_err());
    }

    #[test]
    fn a_token_report_reads_back() {
        let report = TokenReport {
            command: "token".into(),
            kind: TokenKind::Offer,
            fingerprint: Some("AA:BB".into()),
            issued: Some(1),
            expires: Some(2),
            expired: Some(true),
            candidates: vec![TokenCandidate {
                kind: "host".into(),
                protocol: "udp".into(),
                addr: "192.0.2.1:5".into(),
                scope: "private".into(),
            }],
            description: Some(TokenDescription {
                typed: true,
                software: None,
                knothole: false,
                ufrag: "abcd".into(),
                setup: "actpass".into(),
                mid: "0".into(),
                sctp_port: 5000,
                max_message_size: 65_536,
                more: true,
                ignored: vec!["audio".into()],
            }),
            unusable: vec!["has port 0".into()],
            warning: None,
        };
        let text = line(&report);
        let start = r#"{"schema":1,"command":"token","kind":"offer","fingerprint":"AA:BB","#;
        assert!(text.starts_with(start), "{text}");
        let end = concat!(
            r#""candidates":[{"kind":"host","protocol":"udp","addr":"192.0.2.1:5","scope":"private"}],"#,
            r#""description":{"typed":true,"software":null,"knothole":false,"ufrag":"abcd","#,
            r#""setup":"actpass","mid":"0","sctp_port":5000,"max_message_size":65536,"more":true,"#,
            r#""ignored":["audio"]},"unusable":["has port 0"],"warning":null}"#
        );
        assert!(text.ends_with(end), "{text}");
        assert_eq!(read::<TokenReport>(&text).unwrap(), report);
        let more = text.replacen(r#""typed""#, r#""surprise":1,"typed""#, 1);
        assert!(read::<TokenReport>(&more).is_err());
    }
}
