//! `serve`, `nat` and `addr` against one another, on the loopback interface.

use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;

use knothole::proto::nat::{Classic, Filtering, Mapping, Udp};
use knothole::proto::stun::{Builder, Class, TransactionId};
use knothole::report::model::{self, AddrReport, NatReport, ServeCounters, ServeListening};
use rustix::process::Signal;

use crate::env::{Env, KNOTHOLE};
use crate::process::{Process, eventually};

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

/// What `GET path` says at `place`.
fn get(place: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(place).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    std::io::read_to_string(stream).unwrap()
}

fn counter(place: &str, name: &str) -> u64 {
    let text = get(place, "/metrics");
    let start = format!("knothole_stun_{name}_total ");
    let found = text.lines().find_map(|line| line.strip_prefix(&start));
    found.unwrap().parse().unwrap()
}

/// A place for metrics: on an address that nobody else has.
fn free() -> String {
    let listener = TcpListener::bind("127.0.0.4:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn a_source_that_asks_too_often_is_not_answered_and_metrics_tell() {
    let env = Env::new();
    let metrics = free();
    let (_server, url) = serve(&env, &["--rate", "1", "--metrics", &metrics]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let request = Builder::new(Class::Request, TransactionId::new([7; 12])).finish();
    for _ in 0..100 {
        socket
            .send_to(&request, url.strip_prefix("stun:").unwrap())
            .unwrap();
    }
    eventually("all requests", || {
        (counter(&metrics, "received") == 100).then_some(())
    });
    let (answered, limited) = (counter(&metrics, "answered"), counter(&metrics, "limited"));
    assert!(answered >= 2 && limited > 0, "{answered} {limited}");
    assert_eq!(answered + limited, 100);
    assert!(get(&metrics, "/").starts_with("HTTP/1.1 404 "));
}

#[test]
fn watching_prints_a_change_once_until_ctrl_c() {
    let env = Env::new();
    let metrics = free();
    let (_server, url) = serve(&env, &["--metrics", &metrics]);
    let mut command = env.command(KNOTHOLE);
    command.args(["addr", "-q", "--watch", "1", &url]);
    let watch = Process::spawn(command, Stdio::null(), Stdio::piped());
    eventually("asked again", || {
        (counter(&metrics, "answered") >= 3).then_some(())
    });
    watch.signal(Signal::INT);
    let ran = watch.ended();
    assert_eq!((ran.code, ran.stdout.as_str()), (130, "127.0.0.1\n"));
}
