//! coturn as the STUN and TURN server of a laboratory.

use std::fs::{self, File};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::net::{Net, SERVER};
use crate::{Lab, eventually};

pub const USER: &str = "lab";
pub const PASSWORD: &str = "labpass";
const PORT: u16 = 3478;

/// A running server. It is stopped when dropped.
pub struct Coturn(Child);

/// The URL of the STUN server.
pub fn stun_url() -> String {
    format!("stun:{SERVER}:{PORT}")
}

/// The URL of the TURN server.
pub fn turn_url() -> String {
    format!("turn:{SERVER}:{PORT}")
}

impl Coturn {
    /// Starts the server and waits until it answers.
    pub fn start(lab: &Lab, net: &Net) -> Result<Self> {
        let dir = lab.dir().join("coturn");
        fs::create_dir(&dir)?;
        let config = dir.join("turnserver.conf");
        let log = dir.join("log");
        let shown = dir.display();
        // Two addresses: coturn answers RFC 5780 only then. The system's file turns that off.
        let settings = format!(
            "listening-ip=198.51.100.10
             listening-ip=198.51.100.11
             listening-port={PORT}
             alt-listening-port=3479
             relay-ip={SERVER}
             relay-threads=1
             lt-cred-mech
             user={USER}:{PASSWORD}
             realm=lab.test
             fingerprint
             no-tls
             no-dtls
             no-cli
             simple-log
             log-file=stdout
             pidfile={shown}/pid
             userdb={shown}/turndb\n"
        );
        let settings: String = settings
            .lines()
            .map(|l| format!("{}\n", l.trim()))
            .collect();
        fs::write(&config, settings)?;
        let output = File::create(&log)?;
        let child = net
            .server
            .command("turnserver")
            .arg("-c")
            .arg(&config)
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("turnserver")?;
        let mut server = Self(child);
        lab.exhibit(move || {
            format!(
                "--- coturn\n{}",
                fs::read_to_string(&log).unwrap_or_default()
            )
        });

        until_it_answers(net, &mut server.0)?;
        Ok(server)
    }
}

/// `knothole serve --stun` in place of coturn. It is stopped when dropped.
pub struct Serve(Child);

impl Serve {
    /// Starts it on both addresses of the server and waits until it answers.
    pub fn start(lab: &Lab, net: &Net) -> Result<Self> {
        let log = lab.dir().join("serve.log");
        let output = File::create(&log)?;
        let child = net
            .server
            .command(&crate::proc::binary().to_string_lossy())
            .args(["serve", "--stun", "--rate", "1000"])
            .args(["--listen", "198.51.100.10", "--alternate", "198.51.100.11"])
            .args([
                "--listen",
                "2001:db8:100::10",
                "--alternate",
                "2001:db8:100::11",
            ])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("knothole serve")?;
        let mut server = Self(child);
        lab.exhibit(move || {
            let log = fs::read_to_string(&log).unwrap_or_default();
            format!("--- serve\n{log}")
        });
        until_it_answers(net, &mut server.0)?;
        Ok(server)
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until_it_answers(net: &Net, server: &mut Child) -> Result<()> {
    let probe = net.server.socket((SERVER.into(), 0))?;
    probe.set_read_timeout(Some(Duration::from_millis(50)))?;
    eventually(Duration::from_secs(10), "the server answers", || {
        if let Some(status) = server.try_wait()? {
            bail!("the server ended: {status}");
        }
        Ok(mapped_address(&probe, (SERVER, PORT).into()).is_ok())
    })
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks a STUN server once what address it sees, for as long as the socket's read timeout.
pub fn mapped_address(socket: &UdpSocket, server: SocketAddr) -> Result<SocketAddr> {
    const COOKIE: [u8; 4] = 0x2112_a442_u32.to_be_bytes();
    const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    static TRANSACTION: AtomicU64 = AtomicU64::new(0);

    let mut request = [0; 20];
    request[1] = 1;
    request[4..8].copy_from_slice(&COOKIE);
    // A transaction of its own: an answer to an earlier one may still be on its way.
    let transaction = TRANSACTION.fetch_add(1, Ordering::Relaxed);
    request[12..].copy_from_slice(&transaction.to_be_bytes());
    socket.send_to(&request, server)?;
    let mut buffer = [0; 1500];
    let answer = loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        let answer = &buffer[..length];
        if from == server && answer.starts_with(&[1, 1]) && answer[4..20] == request[4..] {
            break answer;
        }
    };
    let mut attributes = &answer[20..];
    while let [t0, t1, l0, l1, rest @ ..] = attributes {
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        if u16::from_be_bytes([*t0, *t1]) == XOR_MAPPED_ADDRESS
            && let [_, 1, p0, p1, a, b, c, d, ..] = rest
        {
            let port = u16::from_be_bytes([p0 ^ COOKIE[0], p1 ^ COOKIE[1]]);
            let address = [a ^ COOKIE[0], b ^ COOKIE[1], c ^ COOKIE[2], d ^ COOKIE[3]];
            return Ok((address, port).into());
        }
        attributes = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    bail!("no XOR-MAPPED-ADDRESS from {server}")
}
