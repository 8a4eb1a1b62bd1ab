//! Wrong, old and mistyped codes, on both sides: each with its words, and none ends the waiting.

use std::time::Duration;

use knothole::proto::token::{self, Candidate, Fingerprint, Invite, Kind, Reply, Secret};

use crate::env::{Env, Ran};
use crate::process::{LOOPBACK, start};

fn invite(issued: u64) -> String {
    let candidates = vec![Candidate::new(
        Kind::Host,
        "127.0.0.1:50123".parse().unwrap(),
    )];
    let (secret, fingerprint) = (Secret::new([7; 16]), Fingerprint::new([9; 32]));
    let hour = Duration::from_hours(1);
    Invite::new(secret, fingerprint, issued, hour, candidates)
        .unwrap()
        .encode()
}

fn reply() -> String {
    let candidates = vec![Candidate::new(
        Kind::Srflx,
        "8.8.4.4:50123".parse().unwrap(),
    )];
    Reply::new(candidates).unwrap().encode()
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// `receive` with this code, on standard input so that any text will do.
fn receive(code: &str) -> Ran {
    let args = [&["receive", "-", "-y"], LOOPBACK.as_slice()].concat();
    Env::new().stdin(code).run(&args)
}

#[test]
fn a_code_that_cannot_be_used_is_refused_with_its_own_words() {
    let good = invite(now());
    let wrong = |at: usize| {
        let other = if good.as_bytes()[at] == b'A' {
            "B"
        } else {
            "A"
        };
        format!("{}{other}{}", &good[..at], &good[at + 1..])
    };
    let swapped = {
        let at = (20..90)
            .find(|&at| good.as_bytes()[at] != good.as_bytes()[at + 1])
            .unwrap();
        let (a, b) = (&good[at..=at], &good[at + 1..=at + 1]);
        (at, format!("{}{b}{a}{}", &good[..at], &good[at + 2..]))
    };
    let typo = format!(
        "typing mistake at character 40: read {}, probably {}",
        &wrong(39)[39..40],
        &good[39..40]
    );
    // Changing the two letters alone would be a typing mistake, and is named as one.
    let later = format!("KJ{}", "7ZQ3M".repeat(22));
    let cases = [
        (
            wrong(39),
            typo.as_str(),
            "compare that character with the original and enter the code again",
        ),
        (
            swapped.1,
            &format!(
                "characters {} and {} seem to have changed places",
                swapped.0 + 1,
                swapped.0 + 2
            ),
            "compare those two characters with the original and enter the code again",
        ),
        (
            good[..80].to_owned(),
            "the code is not complete: 80 characters of at least 100",
            "copy the code again, down to its last character",
        ),
        (
            reply(),
            "this is a reply code, not an invite",
            "enter this code on the machine that printed the invite; here, paste the invite",
        ),
        (
            later,
            "this invite was made by a newer version",
            "update knothole on this machine",
        ),
        (
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\n".to_owned(),
            "the description ends before its first media section: it was cut",
            "copy all of it: terminals cut lines at 4096 characters, so put it into a file and give @FILE",
        ),
        (
            String::new(),
            "the token is empty",
            "give it as TOKEN, @FILE, - for standard input, or in KNOTHOLE_TOKEN",
        ),
        (
            " \n \n".to_owned(),
            "the token is empty",
            "give it as TOKEN, @FILE, - for standard input, or in KNOTHOLE_TOKEN",
        ),
        (
            "hello there".to_owned(),
            "this is neither an invite nor a reply code",
            "an invite begins with KH and has about 110 characters; a reply code looks like XXXX-XXXX-XXXX",
        ),
    ];
    for (code, message, hint) in &cases {
        receive(code).is(2, "", &format!("error: {message}\nhint: {hint}\n"));
    }
    // Told by argument and under --json, it is the same refusal.
    let ran = Env::new().run(&["receive", "--json", "-y", &wrong(39)]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (2, 1), "{ran:?}");
    assert!(
        ran.stdout.contains("\"kind\":\"token\"") && ran.stdout.contains("typing mistake"),
        "{ran:?}"
    );
}

#[test]
fn an_expired_invite_says_since_when_and_what_to_do() {
    let ran = receive(&invite(now() - 3 * 3600));
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    assert!(
        ran.stderr.starts_with("error: this invite expired 1 h"),
        "{ran:?}"
    );
    assert!(
        ran.stderr
            .contains(" ago, by this machine's clock\nhint: ask for a new one; "),
        "{ran:?}"
    );
    assert_eq!(ran.stderr.lines().count(), 2, "{ran:?}");
}

#[test]
fn an_invite_that_nobody_holds_ends_after_the_timeout_with_the_addresses_tried() {
    let args = [&["receive", "-y", "--timeout", "4s"], LOOPBACK.as_slice()].concat();
    let ran = Env::new().var("KNOTHOLE_TOKEN", &invite(now())).run(&args);
    assert_eq!(ran.code, 3, "{ran:?}");
    // The reply code came after three seconds, alone on stdout.
    assert!(
        token::parse_reply(&ran.stdout).is_ok() && ran.stdout.lines().count() == 1,
        "{ran:?}"
    );
    assert!(
        ran.stderr.contains(
            "error: not connected: no path to the peer within 4 s; tried 127.0.0.1:50123\nhint: "
        ),
        "{ran:?}"
    );
}

#[test]
fn the_issuer_warns_of_a_wrong_reply_and_waits_on() {
    let (from, to) = (Env::new().file("f", "after all"), Env::new());
    let mut sender = start(&from, &["send", "f"]);
    let own = sender.invite();
    sender.type_line("hello");
    sender.says("warning: this is neither an invite nor a reply code; ");
    sender.type_line(&own);
    sender.says("warning: this is your own invite: it goes to the other side, whose reply code comes here\n");
    sender.type_line(&invite(now()));
    sender.says("warning: this is an invite, not a reply code; give the invite to the other machine; here, enter the reply code it shows\n");
    let good = reply();
    let mistyped = if good.starts_with('Z') { "Y" } else { "Z" }.to_owned() + &good[1..];
    sender.type_line(&mistyped);
    sender.says("warning: typing mistake at character 1 (group 1): read Z, probably ");
    sender.type_line(&good);
    let receiver = start(&to, &["receive", "-y", &own]);
    let (sent, received) = (sender.ended(), receiver.ended());
    assert_eq!(
        (sent.code, sent.stdout.as_str()),
        (0, format!("{own}\n").as_str()),
        "{}",
        sent.stderr
    );
    assert_eq!(
        sent.stderr.matches("warning: ").count(),
        4,
        "{}",
        sent.stderr
    );
    assert_eq!((received.code, received.stdout.as_str()), (0, ""));
    assert_eq!(std::fs::read(to.path().join("f")).unwrap(), b"after all");
}

#[test]
fn an_invite_that_nobody_took_expires() {
    let env = Env::new().file("f", "");
    let sender = start(&env, &["send", "f", "--expires", "1s"]);
    let invite = sender.invite();
    let ran = sender.ended_within(Duration::from_secs(10));
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (3, format!("{invite}\n").as_str())
    );
    assert!(ran.stderr.ends_with("error: no peer joined: nobody joined before the invite expired\nhint: make a new invite; --expires makes it last longer\n"), "{ran:?}");
}
