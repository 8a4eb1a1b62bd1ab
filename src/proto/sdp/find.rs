//! Finding a description in what people paste.
//!
//! SDP is lines; browsers make JSON of it, pages print that in base64, chat programs and mail
//! quote it, terminals join its lines. All of these are undone here, a bounded number of times,
//! in time linear in the text; what the lines mean is [`session`](super::session)'s.

use serde_json::{Deserializer, Value};

use super::candidate;
use super::error::SdpError;
use super::session::SdpType;
use crate::proto::token::{self, TokenError};

/// The longest text that is searched for a description, in bytes.
pub const MAX_TEXT: usize = token::MAX_TEXT;

/// JSON in a string in JSON, or in base64: so many layers are taken off.
const DEPTH: usize = 3;
/// A text is read from so many `{` or `"` on; each may cost the whole text.
const MAX_STARTS: usize = 16;
/// How base64 of a description begins: of `{"`, `{` and a line end, `v=0`.
const BASE64_STARTS: [&str; 4] = ["eyJ", "ewo", "ew0K", "dj0w"];
/// Fewer bytes are no description.
const BASE64_LEN: usize = 64;

/// A description, not yet understood.
pub(super) struct Found {
    /// What the JSON around it says it is.
    pub kind: Option<String>,
    /// Lines of the form `x=…`.
    pub lines: Vec<String>,
}

impl Found {
    fn new(kind: Option<String>, text: &str) -> Option<Self> {
        // Alone, `v=0` is talk about descriptions.
        let lines = sdp_lines(text).filter(|lines| lines.len() > 1)?;
        Some(Self { kind, lines })
    }

    pub fn kind(&self) -> Result<Option<SdpType>, SdpError> {
        match self.kind.as_deref() {
            None => Ok(None),
            Some("offer") => Ok(Some(SdpType::Offer)),
            Some("answer") => Ok(Some(SdpType::Answer)),
            Some("pranswer") => Err(SdpError::Provisional),
            Some("rollback") => Err(SdpError::Rollback),
            Some(_) => Err(SdpError::UnknownType),
        }
    }
}

/// Finds the description in a text.
pub(super) fn find(text: &str) -> Result<Found, SdpError> {
    if text.len() > MAX_TEXT {
        return Err(SdpError::TooLong);
    }
    unwrapped(text, DEPTH).ok_or_else(|| what_else(text))
}

/// Whether a text is meant to be a description or a candidate, good or not.
#[must_use]
pub fn resembles(text: &str) -> bool {
    text.len() <= MAX_TEXT
        && (holds_description(text) || holds_candidate(text) || holds_cut_json(text))
}

/// Whether a text that arrives bit by bit has all that it will have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Nothing is missing, or it is no description.
    Whole,
    /// It can be used, and more lines may belong to it.
    Open,
    /// It can not be used yet.
    Unfinished,
}

/// Says how far a description in a text has come. JSON knows its end; raw SDP does not.
#[must_use]
pub fn extent(text: &str) -> Extent {
    let plain = undecorated(text);
    let plain = plain.trim();
    let cut = plain.starts_with('{')
        && serde_json::from_str::<Value>(plain).is_err_and(|error| error.is_eof());
    match super::read(text) {
        _ if cut => Extent::Unfinished,
        Ok(session) if session.kind.is_none() => Extent::Open,
        Err(_) if plain.starts_with("v=0") => Extent::Unfinished,
        _ => Extent::Whole,
    }
}

/// Whether something in the text is meant to be a candidate.
fn holds_candidate(text: &str) -> bool {
    let begins = |line: &str| {
        let line = line.trim_start_matches(['"', '\'', '`', '>', ' ', '\t']);
        candidate::is_candidate(line.strip_prefix("a=").unwrap_or(line))
    };
    text.contains("\"candidate\"")
        || (text.contains("candidate:") && text.contains(" typ "))
        || text.lines().any(begins)
}

/// Whether a description begins in the text.
pub(super) fn holds_description(text: &str) -> bool {
    unwrapped(text, DEPTH).is_some()
}

fn unwrapped(text: &str, depth: usize) -> Option<Found> {
    let depth = depth.checked_sub(1)?;
    let plain = undecorated(text);
    if plain.trim_start().starts_with("v=0")
        && let Some(found) = Found::new(None, &plain)
    {
        return Some(found);
    }
    json_values(&plain)
        .iter()
        .find_map(|value| in_json(value, depth))
        .or_else(|| Found::new(None, &plain))
        .or_else(|| base64_texts(&plain).find_map(|inner| unwrapped(&inner, depth)))
}

/// Takes off what mail and chat programs put around lines: quote marks, fences, and characters
/// that nobody sees.
pub(super) fn undecorated(text: &str) -> String {
    let visible: String = text.chars().filter(|&c| !token::is_invisible(c)).collect();
    let mut plain = String::with_capacity(visible.len());
    // A lone carriage return ends a line too: that is what a terminal sends for Enter.
    for line in visible.replace("\r\n", "\n").split(['\n', '\r']) {
        let mut line = line;
        while let Some(rest) = line.trim_start().strip_prefix('>') {
            line = rest.strip_prefix(' ').unwrap_or(rest);
        }
        if !line.trim_start().starts_with("```") && !line.trim_start().starts_with("~~~") {
            plain.push_str(line);
            plain.push('\n');
        }
    }
    plain
}

/// The JSON objects and strings in a text, wherever they begin. Line breaks are left out first:
/// between values they mean nothing, inside strings a chat program put them there.
pub(super) fn json_values(plain: &str) -> Vec<Value> {
    let flat = plain.replace('\n', "");
    let mut values = vec![];
    let mut at = 0;
    for _ in 0..MAX_STARTS {
        let Some(start) = json_start(&flat, at) else {
            break;
        };
        let rest = flat.get(start..).unwrap_or_default();
        let mut stream = Deserializer::from_str(rest).into_iter::<Value>();
        at = match stream.next() {
            Some(Ok(value)) => {
                values.push(value);
                start + stream.byte_offset().max(1)
            }
            _ => start + 1,
        };
    }
    values
}

/// Where an object with something in it begins, or a string that holds one or a description.
fn json_start(text: &str, from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    let object = rest.match_indices('{').find(|&(at, brace)| {
        let inside = rest.get(at + brace.len()..).unwrap_or_default();
        inside.trim_start().starts_with('"')
    });
    let strings = ["\"{", "\"v=0"].map(|start| rest.find(start));
    strings
        .into_iter()
        .chain([object.map(|(at, _)| at)])
        .flatten()
        .min()
        .map(|at| from + at)
}

/// Looks for `"sdp"` at any depth: programs wrap it as they like. Values are at most 128 deep,
/// which is `serde_json`'s own limit.
fn in_json(value: &Value, depth: usize) -> Option<Found> {
    match value {
        Value::Object(fields) => {
            let here = fields.get("sdp").and_then(Value::as_str).and_then(|sdp| {
                let kind = fields.get("type").and_then(Value::as_str);
                Found::new(kind.map(str::to_owned), &undecorated(sdp))
            });
            here.or_else(|| fields.values().find_map(|value| in_json(value, depth)))
        }
        Value::Array(values) => values.iter().find_map(|value| in_json(value, depth)),
        Value::String(text) => unwrapped(text, depth),
        _ => None,
    }
}

/// The lines of the first description in a text.
fn sdp_lines(text: &str) -> Option<Vec<String>> {
    let cut = is_cut_json(text);
    let (start, _) = text.match_indices("v=0").find(|&(at, v)| {
        begins_word(text, at) && goes_on(text.get(at + v.len()..).unwrap_or_default())
    })?;
    let text = text.get(start..)?;
    if is_escaped(text.get(3..)?) {
        // Copied out of what a program printed: line ends and quotes as programs write them.
        let text = text.replace("\\r", "\n").replace("\\n", "\n");
        let lines = text
            .lines()
            .map(|line| line.trim().trim_start_matches(['"', '\'']).trim())
            .filter(|&line| line != "+");
        return (!cut).then(|| collect(lines));
    }
    let alone = text.lines().next().is_some_and(|line| line.trim() == "v=0");
    if alone {
        return Some(collect(text.lines().map(str::trim)));
    }
    // A terminal or an input field made one line of all.
    Some(collect(one_line(text).into_iter()))
}

fn begins_word(text: &str, at: usize) -> bool {
    let before = text.get(..at).and_then(|before| before.chars().next_back());
    before.is_none_or(|c| !c.is_alphanumeric() && c != '=')
}

/// Whether what follows `v=0` may be the rest of a description.
fn goes_on(rest: &str) -> bool {
    let next = rest.trim_start();
    is_escaped(rest) || next.is_empty() || (next.len() < rest.len() && is_sdp_line(next))
}

fn is_escaped(rest: &str) -> bool {
    rest.starts_with("\\r") || rest.starts_with("\\n")
}

/// Splits where white space stands before a letter and `=`.
fn one_line(text: &str) -> Vec<&str> {
    let mut lines = vec![];
    let mut start = 0;
    for (at, c) in text.char_indices() {
        let next = at + c.len_utf8();
        if c.is_whitespace() && text.get(next..).is_some_and(is_sdp_line) {
            lines.push(text.get(start..at).unwrap_or_default().trim());
            start = next;
        }
    }
    lines.push(text.get(start..).unwrap_or_default().trim());
    lines
}

fn is_sdp_line(line: &str) -> bool {
    matches!(line.as_bytes(), [b'a'..=b'z', b'=', ..])
}

/// Takes the lines of one description. A line that is none, in between, is the rest of the one
/// before: something broke it at its width. Whether that was at a space cannot be told; joined
/// wrongly, a line has a word less than it must, and is refused.
fn collect<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut kept: Vec<String> = vec![];
    let mut broken = String::new();
    for line in lines {
        if is_sdp_line(line) {
            if line.starts_with("v=") && !kept.is_empty() {
                break;
            }
            if let [_, .., last] = kept.as_mut_slice() {
                last.push_str(&broken);
            }
            broken.clear();
            kept.push(line.to_owned());
        } else {
            broken.push_str(line);
        }
    }
    kept
}

/// What words of the text that look like base64 decode to.
fn base64_texts(plain: &str) -> impl Iterator<Item = String> {
    let starts = BASE64_STARTS
        .iter()
        .flat_map(|start| plain.match_indices(start))
        .filter(|&(at, _)| begins_word(plain, at));
    starts.take(MAX_STARTS).filter_map(|(at, _)| {
        let bytes = unbase64(plain.get(at..)?);
        (bytes.len() >= BASE64_LEN).then(|| String::from_utf8_lossy(&bytes).into_owned())
    })
}

/// Decodes up to the first character that is neither base64 (RFC 4648 §4 and §5) nor white space.
fn unbase64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut pending, mut bits) = (0_u32, 0);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => break,
        };
        pending = pending << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((pending >> bits & 0xff) as u8);
        }
    }
    bytes
}

/// Says what a text without a description is.
pub(super) fn what_else(text: &str) -> SdpError {
    let plain = undecorated(text);
    let start = plain.trim_start();
    if start.is_empty() {
        return SdpError::Empty;
    }
    if holds_cut_json(&plain) {
        return SdpError::Cut("before the JSON around it does");
    }
    let head: String = start.chars().take(256).collect::<String>().to_lowercase();
    if start.starts_with('<') || head.contains("<html") || head.contains("<!doctype") {
        return SdpError::Html;
    }
    if holds_candidate(text) {
        return SdpError::CandidateInstead;
    }
    match token::parse_invite(text) {
        Err(TokenError::ReplyWhereInviteBelongs) => SdpError::ReplyInstead,
        Err(
            TokenError::NotAToken
            | TokenError::Empty
            | TokenError::TooLong
            | TokenError::SdpWhereTokenBelongs,
        ) => SdpError::NotADescription,
        Ok(_) | Err(_) => SdpError::InviteInstead,
    }
}

fn holds_cut_json(text: &str) -> bool {
    is_cut_json(text) || base64_texts(text).any(|inner| is_cut_json(&inner))
}

/// JSON of a description without its end.
fn is_cut_json(text: &str) -> bool {
    text.contains('{') && text.contains("\"sdp\"")
}

#[cfg(test)]
mod tests {
    use super::super::fuzz;
    use super::super::session::tests::{CORPUS, corpus};
    use super::super::{RemoteCandidate, Session, read};
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn base64(text: &str) -> String {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut encoded = String::new();
        for chunk in text.as_bytes().chunks(3) {
            let at = |i: usize| u32::from(*chunk.get(i).unwrap_or(&0));
            let bits = at(0) << 16 | at(1) << 8 | at(2);
            for i in 0..4 {
                let value = bits >> (18 - 6 * i) & 63;
                encoded.push(if i <= chunk.len() {
                    char::from(ALPHABET[value as usize])
                } else {
                    '='
                });
            }
        }
        encoded
    }

    /// Breaks lines as a terminal of this width does.
    fn wrapped(text: &str, width: usize) -> String {
        let lines = text.lines().flat_map(|line| line.as_bytes().chunks(width));
        lines
            .map(|line| String::from_utf8(line.to_vec()).unwrap() + "\n")
            .collect()
    }

    #[test]
    fn json_is_whole_at_its_end_and_raw_sdp_is_usable_before() {
        let offer = include_str!("../../../tests/sdp/chromium-offer.json").trim();
        assert_eq!(extent(offer), Extent::Whole);
        for cut in [1, 9, 20, 300, offer.len() - 1] {
            assert_eq!(extent(&offer[..cut]), Extent::Unfinished, "{cut}");
        }
        let raw = include_str!("../../../tests/sdp/safari-offer.sdp");
        assert_eq!(extent(raw), Extent::Open);
        assert_eq!(extent(&raw[..200]), Extent::Unfinished);
        for other in [
            "",
            "KH",
            "hello {",
            "candidate:1 1 udp 1 192.0.2.1 9 typ host",
            "{}",
        ] {
            assert_eq!(extent(other), Extent::Whole, "{other}");
        }
    }

    #[test]
    fn sdp_is_found_however_it_was_pasted() {
        for (name, text) in CORPUS {
            let plain = Session {
                kind: None,
                ..read(text).unwrap()
            };
            let sdp = &plain.text;
            let lines = || sdp.lines();
            let quoted: String = lines().map(|line| format!("> {line}\n")).collect();
            let twice: String = lines().map(|line| format!(">> {line}\r\n>>\r\n")).collect();
            for (how, form) in [
                ("as it is", sdp.clone()),
                ("with LF", sdp.replace("\r\n", "\n")),
                ("with CR", sdp.replace("\r\n", "\r")),
                ("trimmed", sdp.trim_end().to_owned()),
                ("with a BOM", format!("\u{feff}{sdp}")),
                ("indented", sdp.replace("\r\n", "\n    ")),
                ("double-spaced", sdp.replace("\r\n", "\r\n\r\n")),
                ("quoted", quoted),
                ("quoted twice and spaced", twice),
                ("fenced", format!("Here it is:\n```sdp\n{sdp}```\nthanks!")),
                ("amid talk", format!("my offer:\n\n{sdp}\nbye, see you\n")),
                ("in one line", sdp.replace("\r\n", " ")),
                ("in one line of a terminal", sdp.replace("\r\n", "  ")),
                ("as a JSON string", json!(sdp).to_string()),
                (
                    "escaped",
                    format!("sdp: '{}'}}", sdp.replace("\r\n", "\\r\\n")),
                ),
                ("as Node prints it", sdp.replace("\r\n", "\\r\\n' +\n    '")),
                ("in base64", base64(sdp)),
                ("in base64 lines", wrapped(&base64(sdp), 76)),
                ("with invisible characters", sdp.replace("m=", "\u{200b}m=")),
            ] {
                assert_eq!(read(&form), Ok(plain.clone()), "{name} {how}");
            }
        }
    }

    #[test]
    fn json_is_found_however_it_was_pasted() {
        for (name, text) in CORPUS {
            let session = read(text).unwrap();
            let kind = session.probable_kind();
            let session = Session {
                kind: Some(kind),
                ..session
            };
            let json = session.to_json(kind);
            let (word, sdp) = (kind.word(), &session.text);
            let other_order = format!(r#"{{"sdp":{},"type":"{word}"}}"#, json!(sdp));
            let pretty = serde_json::to_string_pretty(&json!({"type": word, "sdp": sdp})).unwrap();
            for (how, form) in [
                ("as it is", json.clone()),
                ("in the other order", other_order),
                ("pretty", pretty.clone()),
                ("pretty and quoted", pretty.replace('\n', "\n> ")),
                ("pretty in one line", pretty.replace('\n', " ")),
                ("wrapped", wrapped(&json, 80)),
                ("amid talk", format!("offer {{1}}: {json} and {{so}} on")),
                ("in backticks", format!("`{json}`")),
                ("encoded twice", json!(json).to_string()),
                ("with LF inside", json.replace("\\r\\n", "\\n")),
                (
                    "with more keys",
                    json!({"id": 5, "type": word, "sdp": sdp, "x": null}).to_string(),
                ),
                (
                    "wrapped in a message",
                    json!({"to": "a", "data": {"type": word, "sdp": sdp}}).to_string(),
                ),
                (
                    "under sdp",
                    json!({"sdp": {"type": word, "sdp": sdp}}).to_string(),
                ),
                ("as text in a message", json!({"body": json}).to_string()),
                ("in base64", base64(&json)),
                ("pretty in base64", base64(&pretty)),
                (
                    "in base64 for links",
                    base64(&json)
                        .replace('+', "-")
                        .replace('/', "_")
                        .replace('=', ""),
                ),
                (
                    "in base64 lines",
                    format!(
                        "> {}",
                        wrapped(&base64(&json), 64).trim().replace('\n', "\n> ")
                    ),
                ),
                (
                    "in base64 with talk",
                    format!("paste this:\n{}\n\n(from pion)", base64(&json)),
                ),
            ] {
                assert_eq!(read(&form), Ok(session.clone()), "{name} {how}");
            }
        }
    }

    #[test]
    fn both_alphabets_of_base64_are_read() {
        let text = corpus("safari-offer.sdp").replace("s=-", "s=~~~~~~??????");
        let encoded = base64(&text);
        assert!(encoded.contains('+') && encoded.contains('/'));
        for form in [encoded.replace('+', "-").replace('/', "_"), encoded.clone()] {
            assert_eq!(read(&form), read(&text));
        }
    }

    #[test]
    fn a_terminal_that_broke_lines_costs_at_most_candidates() {
        for (name, text) in CORPUS {
            let session = read(text).unwrap();
            // A break at a space cannot be seen: such candidates are refused, never misread.
            for width in 60..=100 {
                let Ok(broken) = read(&wrapped(&session.text, width)) else {
                    continue;
                };
                assert_eq!(broken.fingerprint, session.fingerprint, "{name} {width}");
                assert_eq!(broken.ufrag, session.ufrag, "{name} {width}");
                let known = |c: &RemoteCandidate| {
                    let same = |k: &RemoteCandidate| (&k.host, k.priority) == (&c.host, c.priority);
                    session.candidates.iter().any(same)
                };
                assert!(broken.candidates.iter().all(known), "{name} {width}");
            }
            assert!(read(&wrapped(&session.text, 80)).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_is_something_else_is_named() {
        let invite = "KH000G40R40M30E209185GR38E1ZGE3RQ3WKJYDSZ8X7NEQV7DXVQZ1WFJYFTFBXQQZ3WZNYZWZQZFY1SDC983G58045C7JT6B01RGFVJ8H33R";
        let candidate = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host";
        for (text, error) in [
            ("", SdpError::Empty),
            (" \n> \n```\n```", SdpError::Empty),
            ("hello", SdpError::NotADescription),
            ("v=1", SdpError::NotADescription),
            ("IPv=0 o=x", SdpError::NotADescription),
            ("<!DOCTYPE html><html><body>v=0", SdpError::Html),
            ("<p>", SdpError::Html),
            (invite, SdpError::InviteInstead),
            (&invite[..60], SdpError::InviteInstead),
            ("SC07-21ZE-91H0", SdpError::ReplyInstead),
            (candidate, SdpError::CandidateInstead),
            (r#"{"candidate":""}"#, SdpError::CandidateInstead),
            (
                r#"{"sdp":5}"#,
                SdpError::Cut("before the JSON around it does"),
            ),
            (&"v=0 ".repeat(MAX_TEXT), SdpError::TooLong),
        ] {
            assert_eq!(read(text).err(), Some(error), "{text:.80}");
        }
    }

    #[test]
    fn a_paste_that_was_cut_is_noticed_wherever_that_is() {
        for (name, text) in CORPUS {
            let whole = read(text).unwrap();
            for end in (1..text.trim_end().len() - 1).step_by(31) {
                match read(&text[..end]) {
                    Err(error) => assert!(!error.hint().is_empty()),
                    // Raw SDP shows no end: what is there must be right, all the same.
                    Ok(read) if name.ends_with(".sdp") => {
                        assert_eq!(read.fingerprint, whole.fingerprint, "{name} {end}");
                        assert_eq!(read.setup, whole.setup, "{name} {end}");
                    }
                    // Cut after the description, where only its type may still have been missing.
                    Ok(read) => assert_eq!(read.text, whole.text, "{name} {end}"),
                }
            }
            let half = read(&text[..text.len() / 2]).unwrap_err();
            let hint = SdpError::Cut("").hint();
            assert_eq!(half.hint(), hint, "{name}: {half}");
        }
    }

    #[test]
    fn of_several_descriptions_the_first_is_read() {
        let (offer, answer) = (corpus("safari-offer.sdp"), corpus("firefox-answer.sdp"));
        assert_eq!(read(&format!("{offer}{answer}")), read(offer));
        assert_eq!(read(&format!("{answer}\n---\n{offer}")), read(answer));
    }

    #[test]
    fn a_description_is_found_in_a_long_thread() {
        let talk = "On Monday {somebody} wrote: \"v=0\" is how it begins.\n".repeat(2000);
        let text = format!("{talk}\n{}\n", corpus("safari-offer.sdp"));
        assert!(text.len() > 100_000);
        assert_eq!(read(&text), read(corpus("safari-offer.sdp")));
    }

    /// A text of the corpus with some of its bytes changed, doubled or left out.
    fn damaged() -> impl Strategy<Value = Vec<u8>> {
        let change = (any::<prop::sample::Index>(), 0..4_u8, any::<u8>());
        let changes = prop::collection::vec(change, 0..8);
        (0..CORPUS.len(), changes).prop_map(|(which, changes)| {
            let mut text = CORPUS[which].1.as_bytes().to_vec();
            for (at, how, byte) in changes {
                let at = at.index(text.len().max(1));
                match how {
                    0 if !text.is_empty() => text[at] = byte,
                    1 if !text.is_empty() => drop(text.remove(at)),
                    2 => text.truncate(at),
                    _ => text.insert(at.min(text.len()), byte),
                }
            }
            text
        })
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            fuzz(text.as_bytes());
            fuzz(&bytes);
        }

        #[test]
        fn no_damage_makes_the_reader_panic(text in damaged()) {
            fuzz(&text);
        }

        #[test]
        fn no_lines_make_the_reader_panic(lines in prop::collection::vec("[vosmact]=(candidate:|group:|mid:|setup:|ice-|-|0)?[ -~]{0,30}", 0..20)) {
            fuzz(lines.join("\r\n").as_bytes());
            fuzz(format!("v=0\n{}", lines.join("\n")).as_bytes());
        }
    }
}
