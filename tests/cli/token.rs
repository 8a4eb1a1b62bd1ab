//! `knothole token`, and all the ways in which a token can be given.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use knothole::proto::token::{Candidate, Fingerprint, Invite, Kind, Reply, Secret};
use knothole::report::model::{self, TokenKind, TokenReport};

use crate::env::{Env, KNOTHOLE, Ran};

const ISSUED: u64 = 1_767_225_600;

pub fn invite() -> String {
    let candidates = vec![
        Candidate::new(Kind::Host, "192.168.1.10:50123".parse().unwrap()),
        Candidate::new(Kind::Srflx, "8.8.4.4:50123".parse().unwrap()),
    ];
    let fingerprint = Fingerprint::new([0xab; 32]);
    let lifetime = Duration::from_hours(1);
    Invite::new(
        Secret::new(*b"sixteen secrets!"),
        fingerprint,
        ISSUED,
        lifetime,
        candidates,
    )
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

#[test]
fn an_invite_is_explained_without_its_secret() {
    let ran = Env::new().run(&["token", &invite()]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    for words in [
        "An invite: whoever holds it can connect to the side that printed it, once.\n",
        "\nmade         2026-01-01 00:00 UTC (",
        "\nexpired      2026-01-01 01:01 UTC (",
        "\nfingerprint  AB:AB:",
        "192.168.1.10:50123  private",
        "8.8.4.4:50123       public; as a STUN server sees it",
    ] {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
    assert!(ran.stdout.lines().all(|line| line.len() <= 80));
    assert!(!ran.stdout.contains("sixteen") && !ran.stdout.contains(&invite()[..20]));
}

#[test]
fn a_reply_is_explained() {
    let ran = Env::new().run(&["token", &reply()]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.starts_with("A reply code: "), "{}", ran.stdout);
    assert!(ran.stdout.contains("8.8.4.4:50123"), "{}", ran.stdout);
}

#[test]
fn json_is_one_object_and_reads_back_strictly() {
    let ran = Env::new().run(&["token", "--json", &invite()]);
    assert_eq!(
        (ran.code, ran.stderr.as_str(), ran.stdout.lines().count()),
        (0, "", 1)
    );
    let report: TokenReport = model::read(ran.stdout.trim_end()).unwrap();
    assert_eq!(report.kind, TokenKind::Invite);
    assert_eq!((report.issued, report.expired), (Some(ISSUED), Some(true)));
    let scopes: Vec<&str> = report.candidates.iter().map(|c| c.scope.as_str()).collect();
    assert_eq!(scopes, ["private", "public"]);
    let report: TokenReport = model::read(
        Env::new()
            .run(&["token", "--json", &reply()])
            .stdout
            .trim_end(),
    )
    .unwrap();
    assert_eq!(
        (report.kind, report.fingerprint, report.issued),
        (TokenKind::Reply, None, None)
    );
}

#[test]
fn every_way_to_give_a_token_is_the_same() {
    let token = invite();
    let expected = Env::new().run(&["token", "--json", &token]);
    assert_eq!(expected.code, 0);
    let broken = format!(
        "Here you are:\n{}\n{}\n",
        &token[..60],
        token[60..].to_lowercase()
    );
    assert_eq!(
        Env::new()
            .file("t", &broken)
            .run(&["token", "--json", "@t"]),
        expected
    );
    assert_eq!(
        Env::new().stdin(broken).run(&["token", "--json", "-"]),
        expected
    );
    assert_eq!(
        Env::new()
            .var("KNOTHOLE_TOKEN", &token)
            .run(&["token", "--json"]),
        expected
    );
    let file = Env::new().file("t", &token).var("KNOTHOLE_TOKEN", "@t");
    assert_eq!(file.run(&["token", "--json"]), expected);
}

#[test]
fn a_fifo_gives_its_token_while_its_writer_keeps_it_open() {
    let env = Env::new();
    let fifo = env.path().join("fifo");
    assert!(
        env.command("mkfifo")
            .arg("fifo")
            .status()
            .unwrap()
            .success()
    );
    let child = env
        .command(KNOTHOLE)
        .args(["token", "--json", "@fifo"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut writer = std::fs::File::options().write(true).open(fifo).unwrap();
    writeln!(writer, "{}", invite()).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    drop(writer);
}

#[test]
fn what_is_no_token_is_refused_with_a_hint() {
    for text in ["hello", "KH", &invite()[..50], "0000-0000-0000"] {
        let ran = Env::new().run(&["token", text]);
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (2, ""),
            "{text}: {}",
            ran.stderr
        );
        assert!(
            ran.stderr.starts_with("error: ") && ran.stderr.contains("\nhint: "),
            "{text}: {}",
            ran.stderr
        );
    }
    let ran = Env::new().stdin(vec![b'x'; 300_000]).run(&["token", "-"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.contains("256 KiB"), "{}", ran.stderr);
}
