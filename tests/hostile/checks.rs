//! Datagrams of strangers at the port of somebody who waits with an invite: nothing changes, and
//! the one who was invited still gets in.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use knothole::proto::link::PeerKind;
use knothole::proto::token::{self, Candidate, Fingerprint, Invite, Kind};

use crate::env::Env;
use crate::process::{noise, plain, start};

const TALK: &str = "\
gathering addresses
On the other side, within 1 h:
  knothole receive INVITE
waiting for the other side
connected
connected directly
waiting for the other side to accept
done: 1 file, 6 B
";

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
    let length = u16::try_from(message.len() - 20).unwrap();
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

/// A check as a joiner's, by somebody who knows everything but the secret.
fn forged(number: u8, integrity: &[u8]) -> Vec<u8> {
    let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    message.extend([number; 12]);
    let fingerprint = Fingerprint::new([number; 32]);
    let password = "abcdefghijklmnopqrstuvwx";
    let ufrag = token::build_ufrag(PeerKind::Knothole, &fingerprint, password).unwrap();
    attribute(&mut message, 0x0006, format!("{ufrag}:abcd").as_bytes());
    attribute(&mut message, 0x0024, &[1, 2, 3, 4]);
    attribute(&mut message, 0x802a, &[7; 8]);
    attribute(&mut message, 0x0008, integrity);
    message
}

fn datagrams() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = (0..200)
        .map(|n| noise(&format!("garbage {n}"), n * 7))
        .collect();
    all.extend((0..200).map(|n| forged(n, &noise(&format!("integrity {n}"), 20))));
    // Truncated, too long, with the wrong lengths, of other kinds.
    let whole = forged(201, &[0; 20]);
    all.extend((0..whole.len()).map(|len| whole[..len].to_vec()));
    all.extend([
        forged(202, &[]),
        forged(203, &[0; 4]),
        forged(204, &[0; 64]),
        [whole.clone(), vec![0; 1300]].concat(),
    ]);
    for (at, value) in [
        (0, 1),
        (1, 1),
        (1, 0x11),
        (2, 0xff),
        (3, 0xff),
        (4, 0),
        (22, 0xff),
        (23, 0xff),
    ] {
        let mut bent = whole.clone();
        bent[at] = value;
        all.push(bent);
    }
    // DTLS, SCTP in the clear, a plain Binding request, STUN answers to nothing.
    all.push(
        [
            vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 40],
            vec![1; 40],
        ]
        .concat(),
    );
    all.push(vec![
        0x13, 0x88, 0x13, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20,
    ]);
    let mut plain = whole[..20].to_vec();
    plain[2..4].fill(0);
    all.push(plain.clone());
    plain[0] = 1;
    all.push(plain);
    all
}

/// Waits until nothing is left in the issuer's socket: it answers no stranger, so its own
/// counters in /proc tell.
fn drained(addr: SocketAddr) {
    let SocketAddr::V4(v4) = addr else {
        panic!("{addr}")
    };
    let local = format!(
        "{:08X}:{:04X}",
        u32::from_ne_bytes(v4.ip().octets()),
        v4.port()
    );
    crate::process::eventually("an empty receive queue", || {
        let table = std::fs::read_to_string("/proc/net/udp").unwrap();
        let line = table
            .lines()
            .find(|line| line.split_whitespace().nth(1) == Some(&local))?;
        let queues = line.split_whitespace().nth(4)?;
        queues.ends_with(":00000000").then_some(())
    });
}

#[test]
fn garbage_and_forged_checks_change_nothing_and_are_not_answered() {
    let (from, to) = (Env::new().file("f", "secret"), Env::new());
    let sender = start(&from, &["send", "f"]);
    let invite = sender.invite();
    let addr = token::parse_invite(&invite).unwrap().candidates[0].addr;
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for (n, datagram) in datagrams().iter().enumerate() {
        stranger.send_to(datagram, addr).unwrap();
        if n % 50 == 0 {
            drained(addr);
        }
    }
    drained(addr);
    // Refused ones would have had an answer by now.
    stranger
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert!(
        stranger.recv_from(&mut [0; 2000]).is_err(),
        "a stranger was answered"
    );

    let receiver = start(&to, &["receive", "-y", &invite]);
    let (sent, received) = (sender.ended(), receiver.ended());
    assert_eq!(
        (
            sent.code,
            sent.stdout.as_str(),
            plain(&sent.stderr).as_str()
        ),
        (0, format!("{invite}\n").as_str(), TALK)
    );
    assert_eq!((received.code, received.stdout.as_str()), (0, ""));
    assert_eq!(std::fs::read(to.path().join("f")).unwrap(), b"secret");
}

#[test]
fn strangers_during_a_transfer_change_nothing() {
    let bytes = noise("disturbed", 8 << 20);
    let (from, to) = (Env::new().file("f", &bytes), Env::new());
    let sender = start(&from, &["send", "f"]);
    let invite = sender.invite();
    let addr = token::parse_invite(&invite).unwrap().candidates[0].addr;
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let receiver = start(&to, &["receive", "-y", &invite]);
    let all = datagrams();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let disturbing = std::thread::spawn(move || {
        // Two thousand a second, until the other end of the channel goes.
        let pause = Duration::from_micros(500);
        for datagram in all.iter().cycle() {
            // The port is gone once the sender is.
            let _ = stranger.send_to(datagram, addr);
            if stopped.recv_timeout(pause) != Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                return;
            }
        }
    });
    let (sent, received) = (sender.ended(), receiver.ended());
    drop(stop);
    disturbing.join().unwrap();
    assert_eq!(
        (sent.code, received.code, received.stdout.as_str()),
        (0, 0, ""),
        "{sent:?}\n{received:?}"
    );
    assert!(std::fs::read(to.path().join("f")).unwrap() == bytes);
}

#[test]
fn a_flood_of_forged_checks_without_pause_does_not_starve_a_transfer() {
    let bytes = noise("flooded", 32 << 20);
    let (from, to) = (Env::new().file("f", &bytes), Env::new());
    let sender = start(&from, &["send", "f"]);
    let invite = sender.invite();
    let addr = token::parse_invite(&invite).unwrap().candidates[0].addr;
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let receiver = start(&to, &["receive", "-y", &invite]);
    receiver.says("connected directly");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let disturbing = std::thread::spawn(move || {
        let check = forged(1, &[0; 20]);
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            // The port is gone once the sender is.
            let _ = stranger.send_to(&check, addr);
        }
    });
    let (sent, received) = (sender.ended(), receiver.ended());
    drop(stop);
    disturbing.join().unwrap();
    assert_eq!(
        (sent.code, received.code, received.stdout.as_str()),
        (0, 0, ""),
        "{sent:?}\n{received:?}"
    );
    assert!(std::fs::read(to.path().join("f")).unwrap() == bytes);
}

#[test]
fn a_replayed_check_is_good_for_one_try_at_the_most_and_the_invited_one_still_gets_in() {
    let (from, to) = (Env::new().file("f", "secret"), Env::new());
    let sender = start(&from, &["send", "f", "-v"]);
    let invite = token::parse_invite(&sender.invite()).unwrap();
    let addr = invite.candidates[0].addr;
    // Somebody on the way: the joiner's genuine check goes to them instead of the issuer.
    let middle = UdpSocket::bind("127.0.0.1:0").unwrap();
    middle
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let detour = Invite {
        candidates: vec![Candidate::new(Kind::Host, middle.local_addr().unwrap())],
        ..invite.clone()
    };
    let victim = start(&Env::new(), &["receive", "-y", &detour.encode()]);
    let mut check = vec![0; 1500];
    let (len, _) = middle.recv_from(&mut check).unwrap();
    check.truncate(len);
    drop(victim);
    assert!(token::check::read(&check, &invite.secret).is_ok());

    let replayed = || {
        for _ in 0..5 {
            middle.send_to(&check, addr).unwrap();
        }
    };
    replayed();
    sender.says("a joiner is at ");
    sender.says(&format!(
        "warning: a joiner at {} did not finish the handshake; still waiting\n",
        middle.local_addr().unwrap()
    ));
    // The same check again is known, wherever it comes from.
    replayed();
    let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap();
    elsewhere.send_to(&check, addr).unwrap();
    drained(addr);

    let receiver = start(&to, &["receive", "-y", &sender.invite()]);
    let (sent, received) = (sender.ended(), receiver.ended());
    assert_eq!(
        (sent.code, received.code, received.stdout.as_str()),
        (0, 0, ""),
        "{sent:?}\n{received:?}"
    );
    assert_eq!(
        sent.stderr.matches("a joiner is at ").count(),
        2,
        "{}",
        sent.stderr
    );
    assert_eq!(
        sent.stderr.matches("did not finish the handshake").count(),
        1,
        "{}",
        sent.stderr
    );
    assert_eq!(std::fs::read(to.path().join("f")).unwrap(), b"secret");
}
