//! What the fuzzer runs; kept here so that it breaks with the interface and not unnoticed.

use super::code::{LONG, SHORT};
use super::text::symbol;
use super::{
    Candidates, Secret, Token, TokenError, check, parse, parse_invite, parse_reply, parse_ufrag,
};

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
    let _ = check::read(data, &Secret::new([7; 16]));

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
