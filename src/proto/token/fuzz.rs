//! What the fuzzer runs; kept here so that it breaks with the interface and not unnoticed.

use std::net::IpAddr;
use std::time::Duration;

use super::code::{LONG, SHORT};
use super::text::symbol;
use super::{
    Candidate, Candidates, Fingerprint, Invite, Kind, Reply, Secret, Token, TokenError, parse,
    parse_invite, parse_reply, parse_ufrag,
};
use crate::proto::fuzz::Input;

/// Feeds arbitrary bytes to every reader of this module.
///
/// # Panics
///
/// When a code that was read does not survive being written and read again, or a message repeats
/// foreign text. That is what the fuzzer looks for.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    read_all(&text);
    let _ = parse_ufrag(&text);

    // A fuzzer does not guess check symbols: give it words whose check is right.
    let values: Vec<u8> = data.iter().map(|b| b & 31).collect();
    let mut long = values.clone();
    LONG.append(&mut long);
    read_all(&written(&long));
    let mut invite = vec![19, 17];
    invite.extend(&values);
    LONG.append(&mut invite);
    read_all(&written(&invite));
    let mut short: Vec<u8> = values.into_iter().take(10).collect();
    SHORT.append(&mut short);
    read_all(&written(&short));

    let mut input = Input(data);
    let (at, symbol) = (u16::from_be_bytes(input.array()), input.byte().unwrap_or(0));
    for code in [any_invite(&mut input), any_reply(&mut input)]
        .into_iter()
        .flatten()
    {
        misread(&code, usize::from(at), symbol);
    }
}

/// The code is read as it was written, whatever is around it; with one wrong symbol it is none.
fn misread(code: &Token, at: usize, wrong: u8) {
    let text = code.encode();
    assert_eq!(
        parse(&format!("> {}\n", text.to_lowercase())),
        Ok(code.clone())
    );
    let mut bytes = text.clone().into_bytes();
    let at = at % bytes.len();
    let wrong = u8::try_from(symbol(wrong)).unwrap_or(b'0');
    if bytes[at] != b'-' && bytes[at] != wrong {
        bytes[at] = wrong;
        let read = parse(&String::from_utf8_lossy(&bytes));
        assert!(
            read.is_err(),
            "{text} with {} at {at} is {read:?}",
            char::from(wrong)
        );
    }
}

fn any_invite(input: &mut Input<'_>) -> Option<Token> {
    let (secret, fingerprint) = (Secret::new(input.array()), Fingerprint::new(input.array()));
    let now = u64::from(u32::from_be_bytes(input.array()));
    let lifetime = Duration::from_secs(u32::from_be_bytes(input.array()).into());
    let candidates = candidates(input);
    let invite = Invite::new(secret, fingerprint, now, lifetime, candidates);
    invite.ok().map(Token::Invite)
}

fn any_reply(input: &mut Input<'_>) -> Option<Token> {
    Reply::new(candidates(input)).ok().map(Token::Reply)
}

fn candidates(input: &mut Input<'_>) -> Vec<Candidate> {
    let one = |input: &mut Input<'_>| {
        let what = input.byte()?;
        let kinds = [Kind::Host, Kind::Mapped, Kind::Srflx, Kind::Relay];
        let port = u16::from_be_bytes(input.array());
        let ip: IpAddr = if what & 4 == 0 {
            input.array::<4>().into()
        } else {
            input.array::<16>().into()
        };
        Some(Candidate::new(
            kinds[usize::from(what & 3)],
            (ip, port).into(),
        ))
    };
    (0..input.below(18)).map_while(|_| one(input)).collect()
}

fn read_all(text: &str) {
    survives(parse(text));
    survives(parse_invite(text).map(Token::Invite));
    survives(parse_reply(text).map(Token::Reply));
}

fn survives(read: Result<Token, TokenError>) {
    match read {
        // What cannot be used of several candidates is not written again.
        Ok(Token::Candidates(Candidates {
            usable, complete, ..
        })) => assert!(complete || !usable.is_empty()),
        Ok(token) => assert_eq!(parse(&token.encode()), Ok(token)),
        Err(error) => assert!(error.to_string().is_ascii() && error.hint().is_ascii()),
    }
}

fn written(word: &[u8]) -> String {
    word.iter().copied().map(symbol).collect()
}
