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

/// A description that another program made: a file of `tests/sdp`.
fn sdp(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdp/");
    std::fs::read_to_string(format!("{folder}{name}")).unwrap()
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

#[test]
fn an_offer_of_a_browser_is_explained_without_its_password() {
    let ran = Env::new().run(&["token", &sdp("chromium-offer.json")]);
    ran.is(
        0,
        "\
An offer in SDP: the side that made it waits for an answer.
ufrag        GNmn
fingerprint  D1:7F:F3:70:F5:79:D5:E9:17:29:6B:03:2F:49:44:5D
             09:6C:69:14:F1:58:1E:87:05:56:F8:73:E7:99:82:80
handshake    either side may begin, the answer chooses (actpass)
messages     up to 256 KiB (262144 bytes)
more         addresses may come later (trickle)
reveals
  eb4ebac9-b9ea-454c-95b8-5d10b3c6bacd.local:34022
    an mDNS name, resolvable only on its own network segment
  8178ca58-031a-48bd-aa97-f1cf092924ca.local:55264
    an mDNS name, resolvable only on its own network segment
warning: all its addresses are hidden: only its network segment can reach it
",
        "",
    );
}

#[test]
fn an_answer_in_raw_sdp_is_explained() {
    let ran = Env::new().run(&["token", &sdp("firefox-answer.sdp")]);
    ran.is(
        0,
        "\
SDP, of an answer: it goes to the side that made the offer.
made by      mozilla...THIS_IS_SDPARTA-99.0 (Firefox, or built on it)
ufrag        0ad377c1
fingerprint  05:3A:6F:A4:D9:0E:43:78:AD:E2:17:4C:81:B6:EB:20
             55:8A:BF:F4:29:5E:93:C8:FD:32:67:9C:D1:06:3B:70
handshake    this side begins (active)
messages     up to 1.0 GiB (1073741823 bytes)
more         addresses will not come
reveals
  6a3f0c1e-7b59-4a0e-8d2c-0f9e1b7c4d22.local:52465
    an mDNS name, resolvable only on its own network segment
  6a3f0c1e-7b59-4a0e-8d2c-0f9e1b7c4d22.local:9
    an mDNS name, resolvable only on its own network segment; for TCP
  203.0.113.7:54261
    public; as a STUN server sees it
  198.51.100.2:59261
    public; at a TURN server
",
        "",
    );
}

#[test]
fn every_description_of_the_corpus_is_explained_in_80_columns() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdp");
    let mut explained = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name == "README.md" {
            continue;
        }
        let ran = Env::new().run(&["token", &sdp(&name)]);
        if ["old-form", "audio-only"]
            .iter()
            .any(|no| name.contains(no))
        {
            assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{name}");
            continue;
        }
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{name}");
        let wide = ran.stdout.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{name}");
        for line in sdp(&name).replace("\\r\\n", "\n").lines() {
            if let Some(password) = line.strip_prefix("a=ice-pwd:") {
                assert!(!ran.stdout.contains(password.trim()), "{name}");
            }
        }
        explained += 1;
    }
    assert!(explained > 10, "{explained}");
}

#[test]
fn what_keeps_a_description_from_working_is_said() {
    let warned = |text: &str| {
        let ran = Env::new().run(&["token", text]);
        let at = ran.stdout.find("warning: ");
        at.map(|at| ran.stdout[at..].trim_end().to_owned())
    };
    let said = warned(&sdp("chromium-offer-trickle.json"));
    assert_eq!(
        said.as_deref(),
        Some("warning: no address is in it yet: copy it again when gathering is complete")
    );
    let loopback = sdp("werift-offer.json")
        .replace("192.0.2.2", "127.0.0.1")
        .replace("fd00::2", "::1");
    assert!(
        warned(&loopback)
            .unwrap()
            .contains("only that can reach it")
    );
    let tcp = sdp("werift-offer.json")
        .replace(" udp ", " tcp ")
        .replace(" typ host", " typ host tcptype passive");
    assert!(warned(&tcp).unwrap().contains("for TCP"));
    assert_eq!(warned(&sdp("werift-offer.json")), None);
    let named = sdp("werift-offer.json").replace("192.0.2.2", "host.example");
    let ran = Env::new().run(&["token", &named]);
    assert!(
        ran.stdout.ends_with("\nnot usable\n  a candidate names a host instead of an address; only .local names are looked up\n"),
        "{}",
        ran.stdout
    );
}

#[test]
fn json_of_a_description_reads_back_strictly() {
    let report = |text: &str| -> TokenReport {
        let ran = Env::new().run(&["token", "--json", text]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        model::read(ran.stdout.trim_end()).unwrap()
    };
    let offer = report(&sdp("chromium-offer-av.sdp"));
    assert_eq!((offer.kind, offer.issued), (TokenKind::Offer, None));
    let description = offer.description.unwrap();
    assert_eq!(description.ignored, ["audio", "video"]);
    assert_eq!((description.typed, description.more), (false, true));
    assert_eq!(description.max_message_size, 262_144);
    assert!(offer.warning.is_some());
    assert!(offer.candidates.iter().all(|c| c.scope == "mdns"));
    let answer = report(&sdp("aiortc-answer.json"));
    assert_eq!(answer.kind, TokenKind::Answer);
    assert_eq!(answer.description.unwrap().setup, "active");
    let candidates = report(&sdp("chromium-candidate.json"));
    assert_eq!(candidates.kind, TokenKind::Candidates);
    assert_eq!(
        (candidates.description, candidates.candidates.len()),
        (None, 1)
    );
    assert_eq!(report(&invite()).description, None);
}

#[test]
fn a_description_goes_from_one_form_to_the_other_and_back() {
    let env = Env::new();
    for name in [
        "chromium-offer-av.sdp",
        "firefox-answer.sdp",
        "safari-offer.sdp",
    ] {
        let json = env.run(&["token", "--to", "json", &sdp(name)]);
        assert_eq!((json.code, json.stderr.as_str()), (0, ""), "{name}");
        let kind = if name.contains("offer") {
            "offer"
        } else {
            "answer"
        };
        let start = format!(r#"{{"type":"{kind}","sdp":"v=0\r\no="#);
        assert!(json.stdout.starts_with(&start), "{}", json.stdout);
        env.run(&["token", "--to", "sdp", &json.stdout])
            .is(0, &sdp(name), "");
    }
    let same = env.run(&["token", "--to", "json", &sdp("chromium-offer.json")]);
    same.is(0, &(sdp("chromium-offer.json") + "\n"), "");
    let plain = env.run(&["token", "--to", "sdp", &sdp("pion-offer.base64")]);
    assert!(plain.stdout.starts_with("v=0\r\no=- 8318219287042837415 "));
}

#[test]
fn what_has_no_other_form_says_why() {
    for (token, why) in [
        (invite(), "an invite cannot be written as SDP"),
        (reply(), "a reply code cannot be written as SDP"),
        (sdp("chromium-candidate.json"), "candidates alone are no"),
    ] {
        let ran = Env::new().run(&["token", "--to", "sdp", &token]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
        assert!(
            ran.stderr.starts_with(&format!("error: {why}")),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains("\nhint: "), "{}", ran.stderr);
    }
    let ran = Env::new().run(&["token", "--to", "sdp", "--json", &sdp("safari-offer.sdp")]);
    assert_eq!(ran.code, 2);
    assert!(ran.stdout.contains("cannot be used with"), "{}", ran.stdout);
}

#[test]
fn a_description_that_cannot_be_used_is_refused_with_a_hint() {
    for (text, words) in [
        (sdp("chromium-offer-audio-only.sdp"), "no data channel"),
        (sdp("old-form-offer.sdp"), "before RFC 8841"),
        (
            sdp("chromium-offer.json")[..400].to_owned(),
            "it was cut\nhint: copy all of it: terminals cut",
        ),
        (
            sdp("safari-offer.sdp").replace("sha-256", "sha-1"),
            "no fingerprint by SHA-256",
        ),
        (
            sdp("safari-offer.sdp").replace("s=-", "s=\x1b[2J"),
            "control characters",
        ),
        (
            r#"{"type":"rollback","sdp":"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\n"}"#.to_owned(),
            "rollback",
        ),
        (
            "candidate:1 1 udp 1 evil.example 9 typ host".to_owned(),
            "names a host",
        ),
    ] {
        let ran = Env::new().run(&["token", &text]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{words}");
        assert!(
            ran.stderr.starts_with("error: ") && ran.stderr.contains(words),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains("\nhint: "), "{}", ran.stderr);
    }
}

#[test]
fn a_name_of_a_program_is_escaped() {
    let text = sdp("safari-offer.sdp").replace("s=-", "s=a\u{2028}b");
    let ran = Env::new().run(&["token", &text]);
    assert!(
        ran.stdout.contains("\nmade by      a\\u{2028}b\n"),
        "{}",
        ran.stdout
    );
}
