//! `serve`, `nat` and `addr` against one another, on the loopback interface.

use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::process::Stdio;

use knothole::proto::nat::{Classic, Filtering, Mapping, Udp};
use knothole::report::model::{self, AddrReport, NatReport, ServeCounters, ServeListening};
use rustix::process::Signal;

use crate::env::{Env, KNOTHOLE};
use crate::process::Process;

/// Nothing listens there.
const DEAD: &str = "127.0.0.3:9";

/// A server with two addresses, and what it printed first.
fn serve(env: &Env, args: &[&str]) -> (Process, String) {
    let mut command = env.command(KNOTHOLE);
    command.args(["serve", "--stun", "--listen", "127.0.0.1:0"]);
    command.args(["--alternate", "127.0.0.2:0"]).args(args);
    let process = Process::spawn(command, Stdio::null(), Stdio::piped());
    let line = process.line(0);
    (process, line)
}

#[test]
fn nat_finds_none_on_loopback_and_says_so_in_every_form() {
    let env = Env::new();
    let (_server, url) = serve(&env, &[]);
    let ran = env.run(&["nat", &url, "--json"]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    let report: NatReport = model::read(ran.stdout.trim_end()).unwrap();
    assert_eq!(report.udp, Udp::Ok);
    assert_eq!(report.mapping, Mapping::None);
    assert_eq!(report.filtering, Filtering::EndpointIndependent);
    assert_eq!(report.classic, Classic::OpenInternet);
    assert!(report.servers[0].rfc5780, "{ran:#?}");
    let ran = env.run(&["nat", "-q", &url]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "open-internet\n"));
}

#[test]
fn addr_tells_the_address_over_udp_and_tcp() {
    let env = Env::new();
    let (_server, url) = serve(&env, &[]);
    let tcp = format!("{url}?transport=tcp");
    let ran = env.run(&["addr", "--json", &url, &tcp]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    let report: AddrReport = model::read(ran.stdout.trim_end()).unwrap();
    assert_eq!(report.ipv4, Some("127.0.0.1".parse().unwrap()));
    assert!(report.servers.iter().all(|row| row.mapped.is_some()));
    env.run(&["addr", "-q", &tcp]).is(0, "127.0.0.1\n", "");
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
    assert_eq!(Env::new().run(&["serve"]).code, 2);
}

#[test]
fn junk_does_not_end_the_server_and_ctrl_c_tells_the_counters() {
    let env = Env::new();
    let (server, line) = serve(&env, &["--json"]);
    let listening: ServeListening = model::read(&line).unwrap();
    let url = &listening.urls[0];
    let place = url.strip_prefix("stun:").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for junk in [&[0; 19][..], &[0; 60_000], &[0xFF; 20], &[]] {
        socket.send_to(junk, place).unwrap();
    }
    let mut stream = TcpStream::connect(place).unwrap();
    // It closes long before the end: this write may fail, and must not hang.
    let _ = stream.write_all(&vec![0xFF; 8 << 20]);
    env.run(&["addr", "-q", url]).is(0, "127.0.0.1\n", "");
    server.signal(Signal::INT);
    let ran = server.ended();
    assert_eq!(ran.code, 130, "{ran:#?}");
    let counters = ran.stdout.lines().nth(1).unwrap();
    let counters: ServeCounters = model::read(counters).unwrap();
    assert!(counters.ignored >= 4 && counters.answered >= 1, "{ran:#?}");
}
