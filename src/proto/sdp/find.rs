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
        let lines = sdp_lines(text)?;
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
        && (holds_description(text)
            || is_cut_json(text)
            || undecorated(text).lines().any(|line| {
                let line = line.trim_start_matches(['"', ' ', '{']);
                candidate::is_candidate(line.strip_prefix("a=").unwrap_or(line))
                    || line.starts_with("candidate\":")
            }))
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

/// Where an object begins, or a string that holds one or a description.
fn json_start(text: &str, from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    let starts = ["{", "\"{", "\"v=0"].map(|start| rest.find(start));
    starts.into_iter().flatten().min().map(|at| from + at)
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
    if is_cut_json(&plain) || base64_texts(&plain).any(|inner| is_cut_json(&inner)) {
        return SdpError::Cut("before the JSON around it");
    }
    let head: String = start.chars().take(256).collect::<String>().to_lowercase();
    if start.starts_with('<') || head.contains("<html") || head.contains("<!doctype") {
        return SdpError::Html;
    }
    if plain.contains("candidate:") {
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

/// JSON of a description without its end.
fn is_cut_json(text: &str) -> bool {
    text.contains('{') && text.contains("\"sdp\"")
}
