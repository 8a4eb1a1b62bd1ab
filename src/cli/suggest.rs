//! What was probably meant: a token or a file where a command belongs, a token where a file
//! belongs, a file where a token belongs. A token is never repeated whole: what is shown ends up
//! in logs.

use std::ffi::OsStr;
use std::path::Path;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::failure::Failure;
use super::input::TokenSource;
use crate::proto::token::{self, Token, TokenError};
use crate::report::sanitize::Shown;

/// Fewer characters than any invite has; a file name that begins with KH is shorter, or has a dot.
const INVITE_AT_LEAST: usize = 60;

/// The word that stands for an invite.
const SOME_INVITE: &str = "KH...";

/// Adds what may have been meant to the parser's error about a command that does not exist.
pub(super) fn command(error: &mut clap::Error, definition: &clap::Command) {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return;
    }
    if let Some(ContextValue::Strings(near)) = error.get(ContextKind::SuggestedSubcommand) {
        // By the one name that help has for each.
        let subs = near
            .iter()
            .filter_map(|name| definition.find_subcommand(name));
        let mut names: Vec<String> = subs.map(|sub| sub.get_name().to_owned()).collect();
        names.dedup();
        error.insert(
            ContextKind::SuggestedSubcommand,
            ContextValue::Strings(names),
        );
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return;
    };
    let word = word.clone();
    let tip = if is_invite(&word) {
        let shown = ContextValue::String(SOME_INVITE.to_owned());
        error.insert(ContextKind::InvalidSubcommand, shown);
        format!("this is an invite; to take it: knothole receive {SOME_INVITE}")
    } else if matches!(token::parse(&word), Ok(Token::Reply(_))) {
        "this is a reply code; it is typed where the invite was printed".to_owned()
    } else if word.strip_prefix('@').is_some_and(exists) {
        format!(
            "to take the invite in that file: knothole receive {}",
            quoted(&word)
        )
    } else if Path::new(&word).is_dir() {
        let name = quoted(&word);
        format!("this is a folder; to send it: tar c {name} | knothole send -")
    } else if exists(&word) {
        let name = quoted(&word);
        format!("this is a file; to send it: knothole send {name}")
    } else {
        return;
    };
    error.insert(
        ContextKind::Suggested,
        ContextValue::StyledStrs(vec![StyledStr::from(tip)]),
    );
}

/// The tips of a parser's error, for those who do not read its text.
pub(super) fn tips(error: &clap::Error) -> Option<String> {
    let near = |kind| match error.get(kind) {
        Some(ContextValue::String(one)) => Some(format!("did you mean '{one}'?")),
        Some(ContextValue::Strings(some)) if !some.is_empty() => {
            Some(format!("did you mean '{}'?", some.join("' or '")))
        }
        Some(ContextValue::StyledStrs(some)) => {
            let some: Vec<String> = some.iter().map(ToString::to_string).collect();
            Some(some.join("; "))
        }
        _ => None,
    };
    [
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedArg,
        ContextKind::SuggestedValue,
        ContextKind::Suggested,
    ]
    .into_iter()
    .find_map(near)
}

/// A file to send that is an invite: nobody names a file like that, and if someone did, it is there.
pub(super) fn file(path: &Path) -> Option<Failure> {
    let meant = path.to_str().is_some_and(is_invite) && path.symlink_metadata().is_err();
    meant.then(|| {
        Failure::usage("this is an invite, not a file")
            .kind("token")
            .hint(format!("to take it: knothole receive {SOME_INVITE}; to send to the one who made it: knothole send FILE --to {SOME_INVITE}"))
    })
}

/// A text that is no token, and what to do about it.
pub(super) fn token(error: &TokenError, source: Option<&TokenSource>) -> Failure {
    let failure = Failure::usage(error.to_string()).kind("token");
    match source {
        Some(TokenSource::Text(text)) if exists(text) => {
            let name = quoted(text);
            Failure::usage("this is a file, not a token")
                .kind("token")
                .hint(format!(
                    "to read the token in it: @{name}; to send it: knothole send {name}"
                ))
        }
        _ => failure.hint(error.hint()),
    }
}

fn is_invite(text: &str) -> bool {
    let word = text.trim();
    let looks = word.len() >= INVITE_AT_LEAST
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let broken = |error| !matches!(error, TokenError::NotAToken | TokenError::TooLong);
    match token::parse_invite(word) {
        Ok(_) => true,
        Err(error) => {
            looks
                && word
                    .get(..2)
                    .is_some_and(|head| head.eq_ignore_ascii_case("KH"))
                && broken(error)
        }
    }
}

fn exists(name: impl AsRef<OsStr>) -> bool {
    Path::new(name.as_ref()).symlink_metadata().is_ok()
}

/// A name as a shell takes it, or a word that stands for it where that would be hard to read.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "@%+=:,./_-".contains(c);
    if name.chars().all(plain) {
        Shown(name).to_string()
    } else if name.chars().all(|c| c.is_ascii_graphic() || c == ' ') && !name.contains('\'') {
        format!("'{name}'")
    } else {
        "PATH".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_a_shell_takes_them() {
        assert_eq!(quoted("./a-b_1.jpg"), "./a-b_1.jpg");
        assert_eq!(quoted("my photo.jpg"), "'my photo.jpg'");
        assert_eq!(quoted("it's"), "PATH");
        assert_eq!(quoted("a\u{1b}[2J"), "PATH");
    }

    #[test]
    fn an_invite_is_told_from_a_name() {
        for name in [
            "KHAKI-PANTS-2024-01-holiday-in-the-mountains.jpg",
            "photo.jpg",
            "KH",
            "",
        ] {
            assert!(!is_invite(name), "{name}");
        }
        assert!(is_invite(&format!("KH{}", "0A1B2C3D4E".repeat(8))));
    }
}
