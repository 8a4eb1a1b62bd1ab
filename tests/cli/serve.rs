//! `knothole serve` as a process: what it tells, whom it answers, and what does not disturb it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Stdio;

use knothole::proto::stun::server::MAX_CONNECTIONS_PER_SOURCE;
use knothole::proto::stun::{Builder, Class, Message, TransactionId};
use knothole::report::model::{self, ServeCounters, ServeListening};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::env::{Env, KNOTHOLE};
use crate::process::{PATIENCE, Process, eventually};

/// A server with two addresses that also tells metrics.
pub struct Served {
    pub process: Process,
    pub url: String,
    /// The address of the metrics.
    metrics: String,
}

/// Starts one, with more arguments.
pub fn serve(env: &Env, args: &[&str]) -> Served {
    let process = spawn(
        env,
        &[&["--json", "--metrics", "127.0.0.4:0"], args].concat(),
    );
    let listening: ServeListening = model::read(&process.line(0)).unwrap();
    assert!(listening.rfc5780, "{listening:?}");
    let metrics = listening.metrics.unwrap();
    let metrics = metrics.strip_prefix("http://").unwrap();
    Served {
        process,
        url: listening.urls[0].clone(),
        metrics: metrics.strip_suffix("/metrics").unwrap().to_owned(),
    }
}

fn spawn(env: &Env, args: &[&str]) -> Process {
    let mut command = env.command(KNOTHOLE);
    command.args(["serve", "--stun", "--listen", "127.0.0.1:0"]);
    command.args(["--alternate", "127.0.0.2:0"]).args(args);
    Process::spawn(command, Stdio::null(), Stdio::piped())
}

impl Served {
    pub fn place(&self) -> SocketAddr {
        self.url.strip_prefix("stun:").unwrap().parse().unwrap()
    }

    /// What `GET path` says.
    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.metrics).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        std::io::read_to_string(stream).unwrap()
    }

    pub fn counter(&self, name: &str) -> u64 {
        let text = self.get("/metrics");
        let start = format!("knothole_stun_{name}_total ");
        let found = text.lines().find_map(|line| line.strip_prefix(&start));
        found.unwrap().parse().unwrap()
    }

    /// A connection from this address, whatever becomes of it.
    fn connect(&self, from: [u8; 4]) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(&self.place().into()).unwrap();
        socket.into()
    }
}

fn request() -> Vec<u8> {
    Builder::new(Class::Request, TransactionId::new([7; 12])).finish()
}

/// Asks on a connection, and says whether there is an answer before it is closed.
fn is_answered(mut stream: &TcpStream) -> bool {
    let mut header = [0; 20];
    if stream.write_all(&request()).is_err() || stream.read_exact(&mut header).is_err() {
        return false;
    }
    let length = Message::length(&header).unwrap().unwrap();
    stream.read_exact(&mut vec![0; length - 20]).is_ok()
}

#[test]
fn people_are_told_where_it_listens_and_what_it_did() {
    let env = Env::new();
    let process = spawn(&env, &["--metrics", "127.0.0.4:0"]);
    let url = process.line(0);
    process.says("serving; Ctrl-C ends it");
    // Over TCP one request is one, however slow the machine is.
    let tcp = format!("{url}?transport=tcp");
    env.run(&["addr", "-q", &tcp]).is(0, "127.0.0.1\n", "");
    process.signal(Signal::INT);
    let ran = process.ended();
    assert_eq!((ran.code, ran.stdout), (130, format!("{url}\n")));
    let (metrics, rest) = ran.stderr.split_once('\n').unwrap();
    let port = metrics.strip_prefix("metrics: http://127.0.0.4:").unwrap();
    let port = port.strip_suffix("/metrics").unwrap();
    assert!(port.parse::<u16>().unwrap() > 0, "{metrics}");
    assert_eq!(
        rest,
        "serving; Ctrl-C ends it\n\
         stopping; Ctrl-C again quits at once\n\
         1 request: 1 answered (0 from elsewhere), 0 refused, 0 too often, 0 ignored\n\
         error: stopped by Ctrl-C\n"
    );
}

#[test]
fn junk_does_not_end_the_server_and_ctrl_c_tells_the_counters() {
    let env = Env::new();
    let served = serve(&env, &[]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for junk in [&[0; 19][..], &[0; 60_000], &[0xFF; 20], &[]] {
        socket.send_to(junk, served.place()).unwrap();
    }
    let mut stream = served.connect([127, 0, 0, 1]);
    // It closes long before the end: this write may fail, and must not hang.
    let _ = stream.write_all(&vec![0xFF; 8 << 20]);
    env.run(&["addr", "-q", &served.url])
        .is(0, "127.0.0.1\n", "");
    served.process.signal(Signal::INT);
    let ran = served.process.ended();
    assert_eq!(ran.code, 130, "{ran:#?}");
    let counters = ran.stdout.lines().nth(1).unwrap();
    let counters: ServeCounters = model::read(counters).unwrap();
    assert!(counters.ignored >= 4 && counters.answered >= 1, "{ran:#?}");
}

#[test]
fn a_request_that_never_becomes_whole_keeps_nobody_waiting() {
    let env = Env::new();
    let served = serve(&env, &[]);
    let (half, mut gone) = (
        served.connect([127, 0, 0, 3]),
        served.connect([127, 0, 0, 3]),
    );
    (&half).write_all(&request()[..10]).unwrap();
    gone.write_all(&request()[..19]).unwrap();
    gone.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(gone.read(&mut [0; 1]).unwrap(), 0, "closed, without a word");
    let tcp = format!("{}?transport=tcp", served.url);
    env.run(&["addr", "-q", &tcp]).is(0, "127.0.0.1\n", "");
    // The rest may still come.
    (&half).write_all(&request()[10..]).unwrap();
    let mut header = [0; 20];
    (&half).read_exact(&mut header).unwrap();
    assert_eq!(header[..2], Class::Success.binding());
}

#[test]
fn a_source_with_all_its_connections_keeps_no_other_from_being_answered() {
    let env = Env::new();
    let served = serve(&env, &[]);
    let (crowd, other) = ([127, 0, 0, 1], [127, 0, 0, 2]);
    let open = || served.connect(crowd);
    let mut held: Vec<TcpStream> = (0..MAX_CONNECTIONS_PER_SOURCE).map(|_| open()).collect();
    assert!(held.iter().all(is_answered));
    assert!(!is_answered(&open()) && !is_answered(&open()));
    assert_eq!(served.counter("crowded"), 2);
    assert!(is_answered(&served.connect(other)));
    held.pop();
    eventually("room again", || is_answered(&open()).then_some(()));
    assert!(
        held.iter().all(is_answered),
        "those that were held are left alone"
    );
}

#[test]
fn a_source_that_asks_too_often_is_not_answered_and_metrics_tell() {
    let env = Env::new();
    let served = serve(&env, &["--rate", "1"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..100 {
        socket.send_to(&request(), served.place()).unwrap();
    }
    eventually("all requests", || {
        (served.counter("received") == 100).then_some(())
    });
    let (answered, limited) = (served.counter("answered"), served.counter("limited"));
    assert!(answered >= 2 && limited > 0, "{answered} {limited}");
    assert_eq!(answered + limited, 100);
    assert!(served.get("/").starts_with("HTTP/1.1 404 "));
}

#[test]
fn what_cannot_be_served_is_told_with_what_to_try() {
    let env = Env::new();
    assert_eq!(env.run(&["serve"]).code, 2);
    let served = serve(&env, &[]);
    let taken = served.place().to_string();
    let ran = env.run(&["serve", "--stun", "--listen", &taken]);
    assert_eq!(ran.code, 3, "{ran:#?}");
    assert!(
        ran.stderr.contains("another server has that port"),
        "{ran:#?}"
    );
    let listen = ["serve", "--stun", "--listen", "127.0.0.1:0", "--metrics"];
    let ran = env.run(&[&listen[..], &[&served.metrics]].concat());
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran:#?}");
    assert!(
        ran.stderr.contains("hint: an address of this machine"),
        "{ran:#?}"
    );
}
