//! What runs beside knothole in a laboratory: STUN and TURN servers, honest ones and others, and what
//! makes a router map ports on request.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::net::{ALTERNATE, Net, SERVER};
use crate::stun::{Deviant, Kind};
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
             aux-server={SERVER}:443
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

/// Sockets that are answered by threads of this process. They stop when dropped.
#[derive(Default)]
pub struct Answering {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Answering {
    fn at(
        &mut self,
        socket: UdpSocket,
        mut handle: impl FnMut(&UdpSocket, SocketAddr, &[u8]) + Send + 'static,
    ) -> Result<()> {
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        let stop = Arc::clone(&self.stop);
        self.threads.push(thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    handle(&socket, from, &buffer[..length]);
                }
            }
        }));
        Ok(())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Starts STUN servers in the place of coturn, one of each kind, each on the server's two addresses
/// and two ports. Returns their URLs too.
pub fn deviants(net: &Net, kinds: &[Kind]) -> Result<(Answering, Vec<String>)> {
    let (mut answering, mut urls) = (Answering::default(), vec![]);
    for (port, kind) in (4000..).zip(kinds) {
        let other = SocketAddr::from((ALTERNATE, port + 100));
        let server = Deviant::new(*kind, (SERVER, port).into(), other);
        let mut outs = vec![];
        for at in server.places.sockets() {
            outs.push((at, net.server.socket((at.ip(), at.port()))?));
        }
        let server = Arc::new(Mutex::new(server));
        let outs = Arc::new(outs);
        for (at, socket) in outs.iter() {
            let (at, server, outs) = (*at, Arc::clone(&server), Arc::clone(&outs));
            answering.at(socket.try_clone()?, move |_, from, request| {
                let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(answer) = server.answer(Instant::now(), at, from, request) else {
                    return;
                };
                if let Some((_, out)) = outs.iter().find(|(addr, _)| *addr == answer.from) {
                    let _ = out.send_to(&answer.bytes, answer.to);
                }
            })?;
        }
        urls.push(format!("stun:{SERVER}:{port}"));
    }
    Ok((answering, urls))
}

/// Lets the router of a site say by NAT-PMP that its outer address is this one; it maps nothing.
pub fn claim(net: &Net, site: usize, external: Ipv4Addr) -> Result<Answering> {
    const NOT_AUTHORIZED: [u8; 4] = [0, 129, 0, 2];
    let router = &net.sites[site];
    let mut answering = Answering::default();
    let socket = router.ns.socket((router.lan.into(), 5351))?;
    answering.at(socket, move |socket, from, request| {
        let answer = match request {
            [0, 0] => [&[0, 128, 0, 0, 0, 0, 0, 1], &external.octets()[..]].concat(),
            [0, 1, ..] => NOT_AUTHORIZED.to_vec(),
            _ => return,
        };
        let _ = socket.send_to(&answer, from);
    })?;
    Ok(answering)
}

/// By what hosts may ask a router for ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortMapping {
    /// PCP, NAT-PMP and UPnP.
    All,
    Upnp,
}

/// miniupnpd on a router. It is stopped when dropped.
pub struct Upnp(Child);

impl Upnp {
    /// Starts it on the router of a site, and waits until it listens.
    pub fn start(lab: &Lab, net: &Net, site: usize, ways: PortMapping) -> Result<Self> {
        let all = ways == PortMapping::All;
        let router = &net.sites[site];
        let config = lab.dir().join("miniupnpd.conf");
        let log = lab.dir().join("miniupnpd.log");
        let natpmp = if all { "yes" } else { "no" };
        fs::write(
            &config,
            format!(
                "ext_ifname=wan\nlistening_ip=lan\nport=5000\n\
                 enable_natpmp={natpmp}\nenable_upnp=yes\nsecure_mode=yes\n\
                 uuid=00000000-0000-4000-8000-000000000000\n\
                 upnp_table_name=upnp\nupnp_nat_table_name=upnp\n\
                 upnp_forward_chain=forward\nupnp_nat_chain=prerouting\n\
                 upnp_nat_postrouting_chain=postrouting\nallow 1024-65535 0.0.0.0/0 1024-65535\n"
            ),
        )?;
        router.ns.nft(
            "table inet upnp {
               chain forward { }
               chain prerouting { type nat hook prerouting priority dstnat - 1; policy accept; }
               chain postrouting { }
             }",
        )?;
        let output = File::create(&log)?;
        let child = router
            .ns
            .command("miniupnpd")
            .args(["-d", "-f"])
            .arg(&config)
            .arg("-P")
            .arg(lab.dir().join("miniupnpd.pid"))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("miniupnpd")?;
        let mut server = Self(child);
        lab.exhibit(move || {
            let log = fs::read_to_string(&log).unwrap_or_default();
            format!("--- miniupnpd\n{log}")
        });
        eventually(Duration::from_secs(10), "miniupnpd is up", || {
            if let Some(status) = server.0.try_wait()? {
                bail!("miniupnpd ended: {status}");
            }
            let listens = router.ns.output("ss", &["-lntuH"])?;
            let has = |port: &str| listens.contains(port);
            Ok(has(":1900") && has(":5000") && (!all || has(":5351")))
        })?;
        Ok(server)
    }
}

impl Drop for Upnp {
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
