//! `addr` and `nat` against servers of every kind: without UDP, with a certificate that proves
//! nothing, and hostile ones.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::sync::Arc;
use std::thread;

use knothole::proto::nat::{Classic, Udp};
use knothole::proto::stun::message::attribute;
use knothole::proto::stun::responder::respond;
use knothole::proto::stun::{Builder, Class, Message, TransactionId};
use knothole::report::model::{self, AddrReport, NatReport};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, Stream};

use crate::env::{Env, KNOTHOLE, Ran};
use crate::network::masked;
use crate::process::Process;

/// A server on a port of its own, which lets `serve` have each connection. It ends with the tests.
fn listen(serve: impl Fn(TcpStream, SocketAddr) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    accept(listener, serve);
    at
}

fn accept(listener: TcpListener, serve: impl Fn(TcpStream, SocketAddr) + Send + Sync + 'static) {
    let serve = Arc::new(serve);
    thread::spawn(move || {
        while let Ok((stream, from)) = listener.accept() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream, from));
        }
    });
}

/// Reads one request and answers it rightly.
fn answer(stream: &mut (impl Read + Write), from: SocketAddr) -> std::io::Result<()> {
    let mut request = [0; 20];
    stream.read_exact(&mut request)?;
    let answer = respond(&request, from).expect("a request");
    stream.write_all(&answer)?;
    stream.flush()
}

/// Runs `knothole ARGS`; its end is bounded.
fn run(env: &Env, args: &[&str]) -> Ran {
    let mut command = env.command(KNOTHOLE);
    command.args(args);
    Process::spawn(command, Stdio::null(), Stdio::piped()).ended()
}

#[test]
fn where_only_tcp_answers_udp_is_blocked() {
    let env = Env::new();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    // Held, and silent.
    let _udp = UdpSocket::bind(tcp.local_addr().unwrap()).unwrap();
    let server = tcp.local_addr().unwrap().to_string();
    accept(tcp, |mut stream, from| {
        let _ = answer(&mut stream, from);
    });
    let ran = run(&env, &["addr", &server]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert_eq!(
        masked(&ran.stdout),
        "\
Public IPv4:  127.0.0.1
UDP:  blocked: servers answer over TCP only
Servers:
  stun:127.0.0.1:PORT  udp  no answer over UDP
  stun:127.0.0.1:PORT?transport=tcp  tcp  127.0.0.1:PORT  N ms
"
    );
    let ran = run(&env, &["addr", "--json", &server]);
    let report: AddrReport = model::read(ran.stdout.trim_end()).unwrap();
    assert_eq!((ran.code, report.udp), (0, Udp::Blocked), "{report:?}");
    let ran = run(&env, &["nat", "--json", &server]);
    let report: NatReport = model::read(ran.stdout.trim_end()).unwrap();
    assert_eq!(
        (ran.code, report.udp, report.classic),
        (0, Udp::Blocked, Classic::UdpBlocked),
        "{report:?}"
    );
}

/// A `stuns:` server with a certificate of its own making for `name`; also the certificate, as PEM.
fn tls(name: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    // Each its own authority: one name stands for one key.
    let authority = &mut params.distinguished_name;
    authority.push(
        rcgen::DnType::CommonName,
        format!("{:?}", key.public_key_raw()),
    );
    let cert = params.self_signed(&key).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let at = listen(move |mut stream, from| {
        let mut session = ServerConnection::new(Arc::clone(&config)).unwrap();
        // Who does not like the certificate hangs up.
        let _ = answer(&mut Stream::new(&mut session, &mut stream), from);
    });
    (format!("stuns:{at}"), cert.pem())
}

#[test]
fn a_server_that_does_not_prove_its_name_is_refused_unless_told_otherwise() {
    let (right, trusted) = tls("127.0.0.1");
    let (other_name, also_trusted) = tls("stun.example.org");
    let (stranger, _) = tls("127.0.0.1");
    let env = Env::new().file("trusted.pem", trusted + &also_trusted);
    let file = env.path().join("trusted.pem");
    let env = env.var("SSL_CERT_FILE", file.to_str().unwrap());
    run(&env, &["addr", "-q", &right]).is(0, "127.0.0.1\n", "");
    for (server, why) in [
        (&other_name, "its certificate is for another name"),
        (
            &stranger,
            "its certificate is signed by nobody whom this machine trusts",
        ),
    ] {
        let ran = run(&env, &["addr", server]);
        let row = format!("Servers:\n  {server}  tls  {why}\n");
        ran.is(
            3,
            &row,
            "asking 1 STUN server\n\
             error: no server told an address and proved its name\n\
             hint: --insecure takes any certificate\n",
        );
        run(&env, &["addr", "-q", server, "--insecure"]).is(0, "127.0.0.1\n", "");
        // One that is refused does not spoil the others.
        let ran = run(&env, &["addr", "--json", server, &right]);
        let report: AddrReport = model::read(ran.stdout.trim_end()).unwrap();
        assert_eq!((ran.code, ran.stderr.contains("error")), (0, false));
        assert_eq!(report.servers[0].error.as_deref(), Some(why));
    }
    fs::write(&file, "").unwrap();
    let ran = run(&env, &["addr", &right]);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran:#?}");
    assert!(
        ran.stderr.contains("hint: --insecure takes any"),
        "{ran:#?}"
    );
    run(&env, &["addr", "-q", &right, "--insecure"]).is(0, "127.0.0.1\n", "");
}

const TRUTH: &str = "127.0.0.1:5000";
const LIE: &str = "203.0.113.66:1";

/// An answer to `request` with these XOR-ed addresses, one after the other.
fn telling(request: &[u8], addresses: &[&str]) -> Vec<u8> {
    let id = Message::read(request).unwrap().id;
    let builder = Builder::new(Class::Success, id);
    let add = |builder: Builder, addr: &&str| builder.xor_mapped_address(addr.parse().unwrap());
    addresses.iter().fold(builder, add).finish()
}

/// An answer with an attribute that this attribute type cannot have.
fn odd(request: &[u8], kind: u16, value: &[u8]) -> Vec<u8> {
    let id = Message::read(request).unwrap().id;
    let builder = Builder::new(Class::Success, id);
    builder.attribute(kind, value).finish()
}

/// A wrong answer, made of the request.
type Wrong = fn(&[u8]) -> Vec<u8>;

/// Answers that tell nothing, and what is said about them.
const WRONG: [(&str, Wrong); 12] = [
    ("not a STUN message", |_| {
        b"HTTP/1.1 400 Bad\r\n\r\n".to_vec()
    }),
    ("not a Binding message", |_| vec![0; 20]),
    ("its length is not what it says", |_| {
        [&[1, 1, 0, 3][..], &[0; 20]].concat()
    }),
    ("an attribute runs past its end", |request| {
        let mut answer = telling(request, &[TRUTH]);
        answer[23] = 200;
        answer
    }),
    ("its answer is not one to this request", |_| {
        telling(
            &Builder::new(Class::Request, TransactionId::new([9; 12])).finish(),
            &[LIE],
        )
    }),
    ("its answer is not one to this request", |request| {
        // The request itself.
        request.to_vec()
    }),
    ("its answer holds no address", |request| {
        telling(request, &[])
    }),
    ("its answer holds no address", |request| {
        // A family that there is not.
        odd(
            request,
            attribute::XOR_MAPPED_ADDRESS,
            &[0, 3, 1, 1, 1, 1, 1, 1],
        )
    }),
    ("its answer holds no address", |request| {
        // An address of four bytes that calls itself one of sixteen.
        odd(
            request,
            attribute::XOR_MAPPED_ADDRESS,
            &[0, 2, 1, 1, 1, 1, 1, 1],
        )
    }),
    ("its answer holds no address", |request| {
        odd(request, attribute::XOR_MAPPED_ADDRESS, &[])
    }),
    (
        "tells an address of another family: 2001:db8::1",
        |request| telling(request, &["[2001:db8::1]:5000"]),
    ),
    ("refuses: 500 a\\u{1b}[2Jb", |request| {
        let id = Message::read(request).unwrap().id;
        let builder = Builder::new(Class::Error, id);
        builder.error_code(500, "a\u{1b}[2Jb").finish()
    }),
];

/// What is said about the one server asked, which tells no address.
#[track_caller]
fn said(ran: &Ran) -> &str {
    assert_eq!(ran.code, 3, "{ran:#?}");
    assert!(ran.stderr.ends_with("named with --stun\n"), "{ran:#?}");
    let row = ran.stdout.strip_prefix("Servers:\n").unwrap();
    row.split_once("  tcp  ").unwrap().1.trim_end()
}

#[test]
fn a_hostile_answer_over_tcp_is_told_for_what_it_is() {
    let env = Env::new();
    for (words, wrong) in WRONG {
        let at = listen(move |mut stream, _| {
            let mut request = [0; 20];
            stream.read_exact(&mut request).unwrap();
            let _ = stream.write_all(&wrong(&request));
            // Held until the other side has read it and hangs up.
            let _ = stream.read(&mut [0]);
        });
        let server = format!("stun:{at}?transport=tcp");
        assert_eq!(said(&run(&env, &["addr", &server])), words);
    }
}

#[test]
fn an_answer_over_tcp_that_does_not_end_or_does_not_come_is_bounded() {
    /// Sends these bytes, and then for ever zeros, or nothing.
    fn starting(start: &'static [u8], on: bool) -> String {
        let at = listen(move |mut stream, _| {
            let mut sent = stream.write_all(start);
            while on && sent.is_ok() {
                sent = stream.write_all(&[0; 4096]);
            }
            let _ = stream.read_to_end(&mut vec![]);
        });
        format!("stun:{at}?transport=tcp")
    }
    let env = Env::new();
    let giant = "its answer is longer than any should be";
    for (server, words) in [
        (starting(&[1, 1, 0xFF, 0xFC], true), giant),
        (starting(&[1, 1, 7, 0xF0], true), giant),
        (
            starting(&[1, 1, 7, 0xEC], true),
            "its answer is not one to this request",
        ),
        (starting(&[], true), "not a Binding message"),
        (starting(&[], false), "no answer within 1 s"),
        (starting(&[1, 1, 0, 12, 0], false), "no answer within 1 s"),
        (
            starting(
                &[
                    1, 1, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9,
                ],
                false,
            ),
            "no answer within 1 s",
        ),
    ] {
        let ran = run(&env, &["addr", &server, "--timeout", "1s"]);
        assert_eq!(said(&ran), words);
    }
    let cut = |at: usize| {
        let at = listen(move |mut stream, _| {
            let mut request = [0; 20];
            stream.read_exact(&mut request).unwrap();
            let _ = stream.write_all(&telling(&request, &[TRUTH])[..at]);
        });
        format!("stun:{at}?transport=tcp")
    };
    for at in [0, 10, 20, 31] {
        let ran = run(&env, &["addr", &cut(at)]);
        assert_eq!(
            said(&ran),
            "it closes the connection before it has answered"
        );
    }
}

#[test]
fn of_two_addresses_in_one_answer_the_first_counts() {
    let at = listen(|mut stream, _| {
        let mut request = [0; 20];
        stream.read_exact(&mut request).unwrap();
        let _ = stream.write_all(&telling(&request, &[TRUTH, LIE]));
    });
    let server = format!("stun:{at}?transport=tcp");
    run(&Env::new(), &["addr", "-q", &server]).is(0, "127.0.0.1\n", "");
}

#[test]
fn the_same_over_udp_does_not_disturb() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = socket.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let request = &buffer[..len];
            for (_, wrong) in &WRONG[..6] {
                let _ = socket.send_to(&wrong(request), from);
            }
            let whole = telling(request, &[&from.to_string(), LIE]);
            for junk in [&[][..], &[1], &[0xFF; 60_000], &whole[..whole.len() - 1]] {
                let _ = socket.send_to(junk, from);
            }
            let _ = socket.send_to(&whole, from);
            let _ = socket.send_to(&telling(request, &[LIE]), from);
        }
    });
    let env = Env::new();
    run(&env, &["addr", "-q", &server]).is(0, "127.0.0.1\n", "");
    let ran = run(&env, &["nat", "--json", &server]);
    let report: NatReport = model::read(ran.stdout.trim_end()).unwrap();
    assert_eq!((ran.code, report.udp), (0, Udp::Ok), "{report:?}");
    assert_eq!(report.public, report.local, "{report:?}");
}
