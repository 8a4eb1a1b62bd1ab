//! `addr`, `nat` and `selftest` as processes: against our own server on the loopback interface,
//! against nobody, and without a network.

use std::process::Stdio;

use knothole::proto::nat::{Classic, Filtering, Mapping, Udp};
use knothole::report::model::{self, AddrReport, Event, NatReport, SelftestReport};
use rustix::process::{Signal, geteuid};

use crate::env::{Env, KNOTHOLE, Ran};
use crate::process::{Process, eventually};
use crate::serve::serve;
use crate::tools;

/// Nothing listens there.
const DEAD: &str = "127.0.0.3:9";

/// A report for people with the figures of the run masked, and with two blanks wherever a table
/// has more.
pub fn masked(text: &str) -> String {
    let mut masked = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let indent = if line.starts_with("  ") { "  " } else { "" };
        let gap = |at: usize| {
            let end = words[at].as_ptr() as usize + words[at].len() - line.as_ptr() as usize;
            if line[end..].starts_with("  ") {
                "  "
            } else {
                " "
            }
        };
        masked += indent;
        for (at, word) in words.iter().enumerate() {
            let is_number = |word: &str| word.parse::<f64>().is_ok();
            masked += &match word.rsplit_once(':') {
                Some((host, port)) if is_number(port) => format!("{host}:PORT"),
                Some((host, port)) if port.ends_with("?transport=tcp") => {
                    format!("{host}:PORT?transport=tcp")
                }
                _ if is_number(word) && words.get(at + 1) == Some(&"ms") => "N".to_owned(),
                _ => (*word).to_owned(),
            };
            if at + 1 < words.len() {
                masked += gap(at);
            }
        }
        masked.push('\n');
    }
    masked
}

/// The one line of stdout, strictly.
#[track_caller]
fn one<T: for<'de> serde::Deserialize<'de>>(ran: &Ran) -> T {
    let line = ran.stdout.strip_suffix('\n').unwrap();
    model::read(line).unwrap_or_else(|error| panic!("{error}: {ran:#?}"))
}

#[test]
fn nat_finds_none_on_loopback_and_says_so_in_every_form() {
    let env = Env::new();
    let served = serve(&env, &[]);
    let ran = env.run(&["nat", &served.url, "--json"]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    let report: NatReport = one(&ran);
    assert_eq!(report.udp, Udp::Ok);
    assert_eq!(report.mapping, Mapping::None);
    assert_eq!(report.filtering, Filtering::EndpointIndependent);
    assert_eq!(report.classic, Classic::OpenInternet);
    assert!(report.servers[0].rfc5780, "{ran:#?}");
    let ran = env.run(&["nat", "-q", &served.url]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "open-internet\n"));
    let ran = env.run(&["nat", &served.url]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (0, "asking 1 STUN server\n")
    );
    assert_eq!(
        masked(&ran.stdout),
        "\
Public address:  127.0.0.1:PORT
Local address:  127.0.0.1:PORT
UDP:  ok
Mapping:  none (no NAT)
Filtering:  endpoint-independent
Classic name:  open internet
Hairpinning:  unknown
Fragments:  pass
Servers:
  stun:127.0.0.1:PORT  127.0.0.1:PORT  N ms  RFC 5780
Not known:
  hairpinning: there is no translation
Outlook: direct connections work with every peer that has UDP
"
    );
}

#[test]
fn addr_tells_the_address_over_udp_and_tcp() {
    let env = Env::new();
    let served = serve(&env, &[]);
    let tcp = format!("{}?transport=tcp", served.url);
    let ran = env.run(&["addr", "--json", &served.url, &tcp]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    let report: AddrReport = one(&ran);
    assert_eq!(report.ipv4, Some("127.0.0.1".parse().unwrap()));
    assert!(report.servers.iter().all(|row| row.mapped.is_some()));
    env.run(&["addr", "-q", &tcp]).is(0, "127.0.0.1\n", "");
    let ran = env.run(&["addr", &served.url, &tcp, DEAD]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (0, "asking 3 STUN servers\n")
    );
    assert_eq!(
        masked(&ran.stdout),
        "\
Public IPv4:  127.0.0.1
Servers:
  stun:127.0.0.1:PORT  udp  127.0.0.1:PORT  N ms  knothole
  stun:127.0.0.1:PORT?transport=tcp  tcp  127.0.0.1:PORT  N ms  knothole
  stun:127.0.0.3:PORT  udp  no answer over UDP
"
    );
}

#[test]
fn a_dead_server_is_told_with_what_to_try() {
    for command in ["addr", "nat"] {
        let ran = Env::new().run(&[command, DEAD]);
        assert_eq!(ran.code, 3, "{ran:#?}");
        assert!(
            ran.stderr
                .contains("other servers can be named with --stun"),
            "{ran:#?}"
        );
        let none = Env::new().run(&[command, "--stun", ""]);
        assert_eq!((none.code, none.stdout.as_str()), (2, ""), "{none:#?}");
    }
}

#[test]
fn scripts_get_one_object_and_the_failure_beside_a_report_in_words() {
    let words = |ran: &Ran, words: &str| {
        assert_eq!(ran.code, 3, "{ran:#?}");
        assert!(ran.stderr.contains(words), "{ran:#?}");
    };
    let env = Env::new();
    let ran = env.run(&["addr", "--json", DEAD]);
    words(&ran, "error: no server told an address\nhint: ");
    assert_eq!(one::<AddrReport>(&ran).udp, Udp::Unknown);
    let ran = env.run(&["nat", "--json", DEAD]);
    words(&ran, "error: no server answered, over UDP or TCP\nhint: ");
    assert_eq!(one::<NatReport>(&ran).udp, Udp::Unknown);
    let nowhere = Env::new().var("TMPDIR", "/nowhere");
    let ran = nowhere.run(&["selftest", "--json"]);
    words(&ran, "error: make a temporary folder\n");
    let report: SelftestReport = one(&ran);
    let error = report.error.unwrap();
    assert!(
        !report.ok && error.starts_with("make a temporary folder: "),
        "{error}"
    );
    // Without a report the one object is the error.
    for command in ["addr", "nat"] {
        let ran = env.run(&[command, "--json", "--stun", ""]);
        assert!(
            matches!(one(&ran), Event::Error { kind, .. } if kind == "usage"),
            "{ran:#?}"
        );
        assert!(ran.stderr.contains("error: no server to ask"), "{ran:#?}");
    }
}

/// Runs a test that takes the network away, or says why it cannot be run.
fn with_unshare<F: FnOnce()>(test: F) {
    let root = geteuid().is_root().then_some(()).ok_or("root".to_owned());
    let programs = [
        ("unshare", "util-linux"),
        ("nsenter", "util-linux"),
        ("ip", "iproute2"),
    ];
    let missing = tools::missing(&programs).and(root);
    tools::run(tools::name_of::<F>(), missing, test);
}

#[test]
fn without_a_network_the_failure_says_so_and_what_to_try() {
    with_unshare(|| {
        let unreachable = "Network is unreachable (os error 101)";
        for (command, server, cause) in [
            ("addr", "192.0.2.1", unreachable),
            ("nat", "192.0.2.1", unreachable),
            (
                "addr",
                "2001:db8::1",
                "Cannot assign requested address (os error 99)",
            ),
        ] {
            let alone = Env::new();
            let mut alone = alone.command("unshare");
            alone.args(["--net", KNOTHOLE, command, server]);
            let ran = Ran::of(alone.output().unwrap());
            assert_eq!(ran.code, 3, "{ran:#?}");
            let error = format!(
                "error: no network leads to the servers\n  cause: {cause}\n\
                 hint: is the network up? has this machine a default route?\n"
            );
            assert!(ran.stderr.ends_with(&error), "{ran:#?}");
        }
    });
}

#[test]
fn a_family_that_the_machine_does_not_have_does_not_spoil_the_other() {
    with_unshare(|| {
        let env = Env::new().var("PATH", &tools::search_path());
        let mut command = env.command("unshare");
        command.args([
            "--net",
            "sh",
            "-c",
            "ip link set lo up && exec \"$@\"",
            "sh",
        ]);
        command.args([KNOTHOLE, "serve", "--stun", "--listen", "127.0.0.1"]);
        let server = Process::spawn(command, Stdio::null(), Stdio::piped());
        let url = server.line(0);
        let beside = |servers: &[&str]| {
            let mut command = env.command("nsenter");
            command.arg(format!("--net=/proc/{}/ns/net", server.id()));
            command.args([KNOTHOLE, "addr", "--json"]).args(servers);
            Ran::of(command.output().unwrap())
        };
        let ran = beside(&[&url, "2001:db8::1"]);
        let report: AddrReport = one(&ran);
        assert_eq!((ran.code, report.udp), (0, Udp::Ok), "{ran:#?}");
        assert_eq!(report.ipv4, Some("127.0.0.1".parse().unwrap()));
        assert!(report.servers[1].error.is_some(), "{report:?}");
        // One that could be asked is silent, and that is what is told then.
        let ran = beside(&[DEAD, "2001:db8::1"]);
        assert_eq!(ran.code, 3);
        assert!(
            ran.stderr.contains("error: no server told an address\n"),
            "{ran:#?}"
        );
    });
}

#[test]
fn a_local_address_that_is_not_there_is_no_matter_of_the_network() {
    let ran = Env::new().run(&["addr", DEAD, "--bind", "192.0.2.5"]);
    assert_eq!(ran.code, 3, "{ran:#?}");
    assert!(
        ran.stderr.contains("hint: --bind takes an address of this"),
        "{ran:#?}"
    );
}

#[test]
fn watching_prints_a_change_once_until_ctrl_c() {
    let env = Env::new();
    let served = serve(&env, &[]);
    let mut command = env.command(KNOTHOLE);
    command.args(["addr", "-q", "--watch", "1", &served.url]);
    let watch = Process::spawn(command, Stdio::null(), Stdio::piped());
    eventually("asked again", || {
        (served.counter("answered") >= 3).then_some(())
    });
    watch.signal(Signal::INT);
    let ran = watch.ended();
    assert_eq!((ran.code, ran.stdout.as_str()), (130, "127.0.0.1\n"));
}
