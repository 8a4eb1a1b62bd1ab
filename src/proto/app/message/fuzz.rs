//! What the fuzzer runs: bytes as a control message.

use super::{MAX_CONTROL, MAX_NAME, MAX_TEXT, Manifest, Message, total};
use crate::proto::app::hello::{MIN_MAX_CONTROL, Refusal, Role};

/// The longest line about a message that breaks the protocol, in bytes: 160 of the peer's, each
/// written `\u{7f}`, and words around them.
const LONGEST_FAULT: usize = 1100;

/// Reads `data` as a message.
///
/// # Panics
///
/// When a message that was read does not survive being written and read again, or is outside the
/// limits of `docs/protocol.md`.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let message = match Message::parse(data) {
        Ok(Some(message)) => message,
        Ok(None) => return,
        Err(fault) => return assert!(fault.to_string().len() < LONGEST_FAULT, "{fault}"),
    };
    let json = message.to_json();
    assert!(json.bytes().all(|byte| byte >= b' '), "{json:?}");
    // Written out, a message may be longer than it came: with the keys that were absent.
    if json.len() <= MAX_CONTROL {
        assert_eq!(Message::parse(json.as_bytes()), Ok(Some(message.clone())));
    }
    match message {
        Message::Hello(hello) => {
            for role in [Role::Send, Role::Receive, Role::Pipe, Role::Bench] {
                match hello.clone().judge(role) {
                    Ok(peer) => {
                        let limits = MIN_MAX_CONTROL..=MAX_CONTROL;
                        assert!(limits.contains(&peer.max_control) && peer.proto == 1);
                        assert!(peer.version.len() <= 64 && peer.caps.len() <= 64);
                    }
                    Err(Refusal::Mismatch(mismatch)) => {
                        assert!(mismatch.to_string().len() < LONGEST_FAULT);
                    }
                    Err(Refusal::Fault(fault)) => {
                        assert!(fault.to_string().len() < LONGEST_FAULT);
                    }
                }
            }
        }
        Message::Manifest(manifest) => {
            let names = manifest.files.iter().map(|file| file.name.len());
            assert!(names.into_iter().all(|len| (1..=MAX_NAME).contains(&len)));
            let Ok(sum) = total(&manifest.files) else {
                return;
            };
            let parts = Manifest::split(&manifest.files, sum, MIN_MAX_CONTROL);
            let mut joined = vec![];
            for part in parts {
                joined.extend(part.files.clone());
                assert!(Message::Manifest(part).to_json().len() <= MIN_MAX_CONTROL);
            }
            assert_eq!(joined, manifest.files);
        }
        Message::Decline(decline) => assert!(decline.text.len() <= MAX_TEXT),
        Message::Cancel(cancel) => assert!(cancel.text.len() <= MAX_TEXT),
        _ => {}
    }
}
