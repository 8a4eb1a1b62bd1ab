//! Small internets: an `inet` router, a server host, and sites behind NATs.
//!
//! ```text
//!  host ── lan (bridge) router wan ── inet ── wan router lan ── host
//!  host ──┘   site 0                   │            site 1
//!                                   server 198.51.100.10 and .11, 2001:db8:100::10
//! ```
//!
//! Site *i* has the outer address 203.0.113.(4*i*+2) and the LAN 192.168.(10+*i*).0/24, or,
//! where there is no translation, a routed part of 192.0.2.0/24. A site behind a carrier's NAT has
//! one more router, with 100.64.*i*.0/30 between. `inet` drops private addresses both ways, as
//! providers do, and has no default route: nothing gets out.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::road::Way;
use crate::tun::{self, TunRoad};
use crate::{output, tool};

/// The server's address, and a second one for RFC 5780.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
pub const ALTERNATE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 11);
/// An address whose packets vanish without a word.
pub const BLACK_HOLE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 99);
/// How long an idle UDP binding lives: RFC 4787 asks for two minutes, many routers give this.
pub const BINDING_LIFETIME: Duration = Duration::from_secs(30);

/// Of the chance on roads.
const SEED: u64 = 1;

/// The outer ports of [`Nat::Renumbering`], before and after its mappings have moved.
pub const FIRST_PORTS: RangeInclusive<u16> = 10_000..=19_999;
pub const MOVED_PORTS: RangeInclusive<u16> = 20_000..=29_999;

/// What a router does to packets, in the words of RFC 3489.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// Public addresses, no filter.
    Open,
    /// Public addresses; only answers come in.
    Firewall,
    /// Endpoint-independent mapping and filtering.
    FullCone,
    /// Endpoint-independent mapping; only the asked address and port may answer. As most Linux
    /// routers do, it keeps the port, so that a mapping that was lost comes back the same.
    PortRestricted,
    /// [`Nat::PortRestricted`] with ports of its own: a mapping that was lost comes back another.
    Renumbering,
    /// [`Nat::FullCone`], but only addresses that were sent to may answer.
    Restricted,
    /// [`Nat::FullCone`] that turns packets to its own outer address around.
    Hairpin,
    /// [`Nat::PortRestricted`] that turns packets around, and filters those too.
    HairpinFiltered,
    /// A new mapping for each destination; only that destination may answer.
    Symmetric,
    /// [`Nat::Symmetric`] with outer ports that follow one another.
    Sequential,
    /// A new mapping for each destination address; only that address and port may answer.
    AddressSymmetric,
    /// [`Nat::PortRestricted`] with two outer addresses: which of them depends on the inner port.
    Pool,
    /// [`Nat::PortRestricted`] for TCP; UDP is dropped.
    UdpBlocked,
    /// [`Nat::UdpBlocked`] that lets TCP out to ports 80 and 443 only.
    WebOnly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
    Dual,
}

/// A site to be built: a router and the hosts on its LAN.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    nat: Nat,
    family: Family,
    hosts: u8,
    carrier: Option<Nat>,
    looks_public: bool,
    /// Round trip in ms and rate in Mbit/s.
    road: Option<(f64, f64)>,
}

/// One host with IPv4 behind a router.
pub fn behind(nat: Nat) -> Site {
    Site {
        nat,
        family: Family::V4,
        hosts: 1,
        carrier: None,
        looks_public: false,
        road: None,
    }
}

impl Site {
    pub fn hosts(self, hosts: u8) -> Self {
        Self { hosts, ..self }
    }

    /// Puts a carrier's NAT between the router and the internet.
    pub fn carrier(self, nat: Nat) -> Self {
        Self {
            carrier: Some(nat),
            ..self
        }
    }

    /// Puts a road with this round trip and rate between the router and the internet; see
    /// [`Net::road`].
    pub fn road(self, round_trip_ms: f64, mbit: f64) -> Self {
        Self {
            road: Some((round_trip_ms, mbit)),
            ..self
        }
    }

    /// Takes an outer address that is not set aside for documentation: routers that map ports on
    /// request do not do it behind such a one.
    pub fn looks_public(self) -> Self {
        Self {
            looks_public: true,
            ..self
        }
    }

    /// IPv6 has public addresses behind the same filter: it is not translated.
    pub fn family(self, family: Family) -> Self {
        Self { family, ..self }
    }
}

/// A built internet. Its namespaces go when it is dropped.
pub struct Net {
    pub server: Namespace,
    pub sites: Vec<Router>,
    /// The hosts of all sites, in order.
    pub hosts: Vec<Host>,
    inet: Namespace,
    /// Of those sites that have one, with their number. They end before their namespaces do.
    roads: Vec<(usize, TunRoad)>,
    _namespaces: Deleted,
}

pub struct Router {
    pub ns: Namespace,
    /// The outer IPv4 address, of the carrier's router where there is one.
    pub external: Ipv4Addr,
    /// Its own, which is the same where there is none.
    pub wan: Ipv4Addr,
    /// The inner one.
    pub lan: Ipv4Addr,
    /// The name of the link at `inet`.
    link: String,
}

pub struct Host {
    pub ns: Namespace,
    pub address: IpAddr,
    gateway: IpAddr,
    /// The router that has the other end of the cable, and that end's name.
    router: Namespace,
    port: String,
}

#[derive(Clone, Debug)]
pub struct Namespace(String);

impl Net {
    pub fn build(sites: &[Site]) -> Result<Self> {
        let id = unique_prefix()?;
        let ns = |name: &str| Namespace(format!("{id}-{name}"));
        let mut parts = vec![Part::inet(ns("inet"), sites), Part::server(ns("server"))];
        let mut links = vec![link(&parts[0].ns, "server", &parts[1].ns, "eth0")];
        let (mut routers, mut hosts, mut laid) = (vec![], vec![], vec![]);
        for (number, site) in (0..).zip(sites) {
            let plan = Plan::new(number, *site);
            let router = ns(&format!("router{number}"));
            let wan = format!("site{number}");
            let outer = match site.carrier {
                Some(nat) => {
                    let carrier = ns(&format!("carrier{number}"));
                    links.push(link(&carrier, "lan", &router, "wan"));
                    parts.push(Part::carrier(carrier.clone(), &plan, nat));
                    carrier
                }
                None => router.clone(),
            };
            match site.road {
                Some((round_trip, mbit)) => {
                    laid.push((routers.len(), outer, Way::new(round_trip, mbit)));
                }
                None => links.push(link(&parts[0].ns, &wan, &outer, "wan")),
            }
            for index in 0..site.hosts {
                let host = ns(&format!("host{number}.{index}"));
                let port = format!("p{index}");
                links.push(link(&router, &port, &host, "eth0"));
                parts.push(Part::host(host.clone(), &plan, index));
                hosts.push(Host {
                    ns: host,
                    address: plan.address(index),
                    gateway: plan.gateway(),
                    router: router.clone(),
                    port,
                });
            }
            parts.push(Part::router(router.clone(), &plan));
            routers.push(Router {
                ns: router,
                external: plan.external(),
                wan: plan.wan(),
                lan: plan.lan(1),
                link: wan,
            });
        }

        // Made before the namespaces, so that a failure half way leaves none behind.
        let names = parts.iter().map(|part| part.ns.0.clone()).collect();
        let namespaces = Deleted(names);
        let adds: String = parts
            .iter()
            .map(|p| format!("netns add {}\n", p.ns.0))
            .collect();
        ip_batch(tool("ip").args(["-batch", "-"]), &adds)?;
        for part in &parts {
            part.ns.write_sysctls(&part.sysctls)?;
        }
        ip_batch(tool("ip").args(["-batch", "-"]), &links.concat())?;
        let mut roads = vec![];
        for (site, outer, way) in laid {
            let end = |ns: &Namespace, name: &str| {
                let end = ns.enter(|| tun::open(name))??;
                ns.ip(&format!("link set {name} {}", tun::SETTINGS))?;
                Ok::<_, anyhow::Error>(end)
            };
            let ends = [end(&parts[0].ns, &routers[site].link)?, end(&outer, "wan")?];
            roads.push((site, TunRoad::new(ends, &way, SEED)?));
        }
        for part in &parts {
            ip_batch(tool("ip").args(["-n", &part.ns.0, "-batch", "-"]), &part.ip)?;
            if !part.nft.is_empty() {
                part.ns.nft(&part.nft)?;
            }
        }
        Ok(Self {
            server: parts[1].ns.clone(),
            sites: routers,
            hosts,
            inet: parts[0].ns.clone(),
            roads,
            _namespaces: namespaces,
        })
    }

    /// The road between a site and the internet; its first way leads to the site.
    pub fn road(&self, site: usize) -> &TunRoad {
        let road = self.roads.iter().find(|(number, _)| *number == site);
        &road.expect("the site was built with a road").1
    }

    /// Limits the link of a site to `rate` (in the words of `tc`), in both directions.
    pub fn shape(&self, site: usize, rate: &str) -> Result<()> {
        let router = &self.sites[site];
        shape(&self.inet, &router.link, rate)?;
        shape(&router.ns, "wan", rate)
    }

    /// Loses so many of a thousand packets to a site, and from it, by chance.
    pub fn lose(&self, site: usize, of_thousand: u16) -> Result<()> {
        let link = &self.sites[site].link;
        let chance = format!("numgen random mod 1000 < {of_thousand}");
        self.inet.nft(&format!(
            "table inet lossy {{
               chain in {{ type filter hook prerouting priority -400; policy accept;
                 iifname {link} {chance} drop
               }}
               chain out {{ type filter hook postrouting priority 400; policy accept;
                 oifname {link} {chance} drop
               }}
             }}"
        ))
    }

    /// Drops every packet to and from a site until [`Net::mend`]; no one is told.
    pub fn cut(&self, site: usize) -> Result<()> {
        let link = &self.sites[site].link;
        self.inet.nft(&format!(
            "table inet cut {{
               chain in {{ type filter hook prerouting priority -400; policy accept;
                 iifname {link} drop
               }}
               chain out {{ type filter hook postrouting priority 400; policy accept;
                 oifname {link} drop
               }}
             }}"
        ))
    }

    pub fn mend(&self) -> Result<()> {
        self.inet.nft("delete table inet cut")
    }
}

impl Router {
    /// What has come in from the internet so far, in bytes.
    pub fn received(&self) -> Result<u64> {
        self.ns.received("wan")
    }

    /// Moves every mapping of a [`Nat::Renumbering`] router to another port, as one does that was
    /// started anew.
    pub fn move_mappings(&self) -> Result<()> {
        self.ns.nft(&format!(
            "flush chain ip nat post
             add rule ip nat post {}",
            renumber(MOVED_PORTS)
        ))?;
        self.ns.output("conntrack", &["-F"]).map(drop)
    }

    /// Whether a UDP binding of this inner port is alive.
    pub fn has_binding(&self, inner: u16) -> Result<bool> {
        let port = inner.to_string();
        let args = ["-L", "-p", "udp", "--orig-port-src", &port];
        let list = self.ns.output("conntrack", &args)?;
        Ok(!list.trim().is_empty())
    }
}

impl Host {
    /// A UDP socket of this host.
    pub fn socket(&self) -> Result<UdpSocket> {
        self.ns.socket((self.address, 0))
    }

    /// A TCP connection of this host.
    pub fn connect(&self, to: SocketAddr) -> Result<TcpStream> {
        Ok(self
            .ns
            .enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(2)))??)
    }

    /// Limits the cable between this host and its router, in both directions.
    pub fn shape(&self, rate: &str) -> Result<()> {
        shape(&self.ns, "eth0", rate)?;
        shape(&self.router, &self.port, rate)
    }

    /// What has come in so far, in bytes.
    pub fn received(&self) -> Result<u64> {
        self.ns.received("eth0")
    }

    /// Takes the interface down for a while, and with it the routes: sending is an error.
    pub fn offline(&self, time: Duration) -> Result<()> {
        self.ns.ip("link set eth0 down")?;
        thread::sleep(time);
        let gateway = self.gateway;
        self.ns.ip(&format!(
            "link set eth0 up\nroute add default via {gateway}"
        ))
    }
}

impl Namespace {
    /// A command to run in this namespace. It is killed if this thread ends before it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = tool("setpriv");
        command
            .args(["--pdeathsig", "KILL", "ip", "netns", "exec"])
            .args([&self.0, program]);
        command
    }

    /// Runs a tool in this namespace to its end.
    pub fn output(&self, program: &str, args: &[&str]) -> Result<String> {
        output(self.command(program).args(args), "")
    }

    /// Counts from now on what leaves here and is a frame between two knotholes (docs/link.md), and
    /// of these those with a DTLS handshake message in the clear.
    pub fn count_frames(&self) -> Result<()> {
        // The payload of UDP begins after 64 bits; in a data frame the datagram after 128 more.
        self.nft(
            "table inet frames {
               counter every { }
               counter handshakes { }
               chain out { type filter hook output priority 0; policy accept;
                 meta l4proto udp @th,64,8 0x50-0x55 counter name every
                 meta l4proto udp @th,64,8 0x53 @th,192,8 22 counter name handshakes
               }
             }",
        )
    }

    /// What [`count_frames`](Self::count_frames) has counted: all, and handshakes.
    pub fn frames(&self) -> Result<[u64; 2]> {
        let count = |name| {
            let text = self.output("nft", &["list", "counter", "inet", "frames", name])?;
            let mut words = text.split_whitespace();
            let count = words.find(|word| *word == "packets").and(words.next());
            count
                .and_then(|count| count.parse().ok())
                .with_context(|| format!("no packets in {text}"))
        };
        Ok([count("every")?, count("handshakes")?])
    }

    /// A UDP socket in this namespace; it may be used from anywhere.
    pub fn socket(&self, address: (IpAddr, u16)) -> Result<UdpSocket> {
        Ok(self.enter(|| UdpSocket::bind(address))??)
    }

    /// A TCP listener in this namespace; it may be used from anywhere.
    pub fn listen(&self, address: IpAddr) -> Result<TcpListener> {
        Ok(self.enter(|| TcpListener::bind((address, 0)))??)
    }

    /// Runs `work` on a thread in this namespace.
    fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = format!("/run/netns/{}", self.0);
        let file = File::open(&path).context(path)?;
        Ok(tun::inside(file.as_fd(), work)?)
    }

    fn write_sysctls(&self, sysctls: &[(String, String)]) -> Result<()> {
        self.enter(|| {
            for (key, value) in sysctls {
                let path = format!("/proc/sys/net/{key}");
                fs::write(&path, value).with_context(|| format!("{path} = {value}"))?;
            }
            Ok(())
        })?
    }

    fn received(&self, interface: &str) -> Result<u64> {
        let table = self.enter(|| fs::read_to_string("/proc/thread-self/net/dev"))??;
        table
            .lines()
            .find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'))
            .and_then(|counters| counters.split_whitespace().next()?.parse().ok())
            .with_context(|| format!("no {interface} in {}", self.0))
    }

    fn ip(&self, lines: &str) -> Result<()> {
        ip_batch(tool("ip").args(["-n", &self.0, "-batch", "-"]), lines)
    }

    pub fn nft(&self, rules: &str) -> Result<()> {
        output(self.command("nft").args(["-f", "-"]), rules).map(drop)
    }
}

/// Builds the smallest site there is, and takes it down.
pub fn trial() -> Result<()> {
    let net = Net::build(&[behind(Nat::FullCone)])?;
    net.shape(0, "1mbit")?;
    net.sites[0].ns.output("conntrack", &["-F"]).map(drop)
}

/// Builds the smallest site with a road.
pub fn trial_of_a_road() -> Result<()> {
    Net::build(&[behind(Nat::Open).road(1.0, 1.0)]).map(drop)
}

/// Deletes namespaces of laboratories whose process was killed.
pub fn sweep() {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut fields = name.split('-');
        let (Some("khlab"), Some(pid), Some(start)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if start_time(pid).is_none_or(|now| now != start) {
            // Another test may do the same at this moment.
            let _ = output(tool("ip").args(["netns", "del", &name]), "");
        }
    }
}

/// What one namespace is to have.
struct Part {
    ns: Namespace,
    sysctls: Vec<(String, String)>,
    /// Lines for `ip -batch`.
    ip: String,
    /// A file for `nft -f`.
    nft: String,
}

impl Part {
    fn inet(ns: Namespace, sites: &[Site]) -> Self {
        let mut ip = format!(
            "link set lo up
             link set server up
             addr add 198.51.100.1/24 dev server
             addr add 2001:db8:100::1/64 dev server nodad
             route add blackhole {BLACK_HOLE}\n"
        );
        for (number, site) in (0..).zip(sites) {
            let plan = Plan::new(number, *site);
            ip += &plan.at_inet();
        }
        let private = "{ 10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16 }";
        let nft = format!(
            "table inet filter {{
               chain forward {{ type filter hook forward priority filter; policy accept;
                 ip saddr {private} drop
                 ip daddr {private} drop
               }}
             }}"
        );
        Self {
            ns,
            sysctls: sysctls(Family::Dual, true),
            ip,
            nft,
        }
    }

    fn server(ns: Namespace) -> Self {
        let ip = "link set lo up
                  link set eth0 up
                  addr add 198.51.100.10/24 dev eth0
                  addr add 198.51.100.11/24 dev eth0
                  addr add 2001:db8:100::10/64 dev eth0 nodad
                  addr add 2001:db8:100::11/64 dev eth0 nodad
                  route add default via 198.51.100.1
                  route add default via 2001:db8:100::1\n";
        Self {
            ns,
            sysctls: sysctls(Family::Dual, false),
            ip: ip.into(),
            nft: String::new(),
        }
    }

    fn router(ns: Namespace, plan: &Plan) -> Self {
        let mut sysctls = sysctls(plan.site.family, true);
        let lifetime = BINDING_LIFETIME.as_secs().to_string();
        for name in ["udp_timeout", "udp_timeout_stream"] {
            sysctls.push((format!("netfilter/nf_conntrack_{name}"), lifetime.clone()));
        }
        Self {
            ns,
            sysctls,
            ip: plan.at_router(),
            nft: rules(plan.site.nat, plan.wan(), plan.pool()),
        }
    }

    /// The carrier's router: its customers are on `lan`.
    fn carrier(ns: Namespace, plan: &Plan, nat: Nat) -> Self {
        let (external, provider, inner) = (plan.external(), plan.provider(), plan.wan_gateway());
        let site = Site {
            nat,
            carrier: None,
            ..plan.site
        };
        Self {
            ip: format!(
                "link set lo up
                 link set wan up
                 link set lan up
                 addr add {external}/30 dev wan
                 addr add {inner}/30 dev lan
                 route add default via {provider}\n"
            ),
            ..Self::router(ns, &Plan::new(plan.number, site))
        }
    }

    fn host(ns: Namespace, plan: &Plan, index: u8) -> Self {
        Self {
            ns,
            sysctls: sysctls(plan.site.family, false),
            ip: plan.at_host(index),
            nft: String::new(),
        }
    }
}

/// The addresses of one site.
struct Plan {
    number: u8,
    site: Site,
}

impl Plan {
    fn new(number: u8, site: Site) -> Self {
        Self { number, site }
    }

    fn external(&self) -> Ipv4Addr {
        self.outer(2)
    }

    fn provider(&self) -> Ipv4Addr {
        self.outer(1)
    }

    fn outer(&self, nth: u8) -> Ipv4Addr {
        let [a, b, c] = if self.site.looks_public {
            [128, 66, 0]
        } else {
            [203, 0, 113]
        };
        Ipv4Addr::new(a, b, c, 4 * self.number + nth)
    }

    /// The second outer address of [`Nat::Pool`].
    fn pool(&self) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, 16 * self.number + 1)
    }

    /// The router's outer address: of the carrier's network where there is one.
    fn wan(&self) -> Ipv4Addr {
        match self.site.carrier {
            Some(_) => Ipv4Addr::new(100, 64, self.number, 2),
            None => self.external(),
        }
    }

    fn wan_gateway(&self) -> Ipv4Addr {
        match self.site.carrier {
            Some(_) => Ipv4Addr::new(100, 64, self.number, 1),
            None => self.provider(),
        }
    }

    fn is_routed(&self) -> bool {
        matches!(self.site.nat, Nat::Open | Nat::Firewall)
    }

    /// The nth address of the LAN, the router having the first.
    fn lan(&self, nth: u8) -> Ipv4Addr {
        if self.is_routed() {
            Ipv4Addr::new(192, 0, 2, 16 * self.number + nth)
        } else {
            Ipv4Addr::new(192, 168, 10 + self.number, nth)
        }
    }

    fn lan_length(&self) -> u8 {
        if self.is_routed() { 28 } else { 24 }
    }

    fn lan6(&self) -> String {
        format!("2001:db8:{}:", self.number + 1)
    }

    fn wan6(&self) -> String {
        format!("2001:db8:f{}:", self.number)
    }

    fn has(&self, family: Family) -> bool {
        self.site.family == family || self.site.family == Family::Dual
    }

    fn address(&self, index: u8) -> IpAddr {
        if self.has(Family::V4) {
            self.lan(index + 2).into()
        } else {
            let address = format!("{}:{}", self.lan6(), index + 2);
            address.parse().expect("an IPv6 address")
        }
    }

    fn gateway(&self) -> IpAddr {
        if self.has(Family::V4) {
            self.lan(1).into()
        } else {
            let address = format!("{}:1", self.lan6());
            address.parse().expect("an IPv6 address")
        }
    }

    fn at_inet(&self) -> String {
        let (number, provider) = (self.number, self.provider());
        let mut ip = format!("link set site{number} up\n");
        if self.has(Family::V4) {
            ip += &format!("addr add {provider}/30 dev site{number}\n");
            if self.is_routed() {
                let (lan, length) = (self.lan(0), self.lan_length());
                ip += &format!("route add {lan}/{length} via {}\n", self.external());
            } else if self.site.nat == Nat::Pool {
                ip += &format!("route add {} via {}\n", self.pool(), self.external());
            }
        }
        if self.has(Family::V6) {
            let (lan, wan) = (self.lan6(), self.wan6());
            ip += &format!("addr add {wan}:1/64 dev site{number} nodad\n");
            ip += &format!("route add {lan}:/64 via {wan}:2\n");
        }
        ip
    }

    fn at_router(&self) -> String {
        let mut ip = String::from(
            "link set lo up
             link set wan up
             link add name lan type bridge forward_delay 0 mcast_snooping 0
             link set lan up\n",
        );
        for index in 0..self.site.hosts {
            ip += &format!("link set p{index} master lan\nlink set p{index} up\n");
        }
        if self.has(Family::V4) {
            let (wan, gateway) = (self.wan(), self.wan_gateway());
            let (lan, length) = (self.lan(1), self.lan_length());
            ip += &format!("addr add {wan}/30 dev wan\n");
            ip += &format!("addr add {lan}/{length} dev lan\n");
            ip += &format!("route add default via {gateway}\n");
        }
        if self.has(Family::V6) {
            let (lan, wan) = (self.lan6(), self.wan6());
            ip += &format!("addr add {wan}:2/64 dev wan nodad\n");
            ip += &format!("addr add {lan}:1/64 dev lan nodad\n");
            ip += &format!("route add default via {wan}:1\n");
        }
        ip
    }

    fn at_host(&self, index: u8) -> String {
        let mut ip = String::from("link set lo up\nlink set eth0 up\n");
        let nth = index + 2;
        if self.has(Family::V4) {
            let (address, length) = (self.lan(nth), self.lan_length());
            ip += &format!("addr add {address}/{length} dev eth0\n");
            ip += &format!("route add default via {}\n", self.lan(1));
        }
        if self.has(Family::V6) {
            let lan = self.lan6();
            ip += &format!("addr add {lan}:{nth}/64 dev eth0 nodad\n");
            ip += &format!("route add default via {lan}:1\n");
        }
        ip
    }
}

/// The rules of a router with this outer address, each kind as verified with RFC 5780 probes.
fn rules(nat: Nat, external: Ipv4Addr, pool: Ipv4Addr) -> String {
    let lifetime = BINDING_LIFETIME.as_secs();
    let translation = match nat {
        Nat::Open => return String::new(),
        Nat::Firewall => String::new(),
        // The kernel keeps the port and filters by address and port, by itself.
        Nat::PortRestricted | Nat::UdpBlocked | Nat::WebOnly => "table ip nat {
             chain post { type nat hook postrouting priority srcnat;
               oifname wan masquerade
             }
           }"
        .into(),
        // Chosen at random, but one for each inner port for as long as it is in use.
        Nat::Renumbering => format!(
            "table ip nat {{
               chain post {{ type nat hook postrouting priority srcnat;
                 {}
               }}
             }}",
            renumber(FIRST_PORTS)
        ),
        // What is turned around shows its outer port in the packet, and in conntrack the one that it
        // was sent to: who was sent to first is let in.
        Nat::HairpinFiltered => format!(
            "table ip nat {{
               map in {{ type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout {lifetime}s; size 65535; }}
               set sent {{ type inet_service . inet_service; flags dynamic,timeout; timeout {lifetime}s; size 65535; }}
               chain pre {{ type nat hook prerouting priority dstnat;
                 iifname lan ip daddr {external} meta l4proto udp dnat ip to udp dport map @in
               }}
               chain post {{ type nat hook postrouting priority srcnat;
                 iifname lan oifname lan ct status dnat snat ip to {external}
                 oifname wan masquerade
               }}
               chain track {{ type filter hook postrouting priority srcnat + 10;
                 oifname wan meta l4proto udp ct direction original update @in {{ udp sport : ct original ip saddr . ct original proto-src }}
                 oifname lan ct status dnat meta l4proto udp ct direction original update @sent {{ udp sport . ct original proto-dst }}
                 oifname lan ct status dnat meta l4proto udp ct direction original ct original proto-dst . udp sport != @sent drop
               }}
             }}"
        ),
        Nat::Pool => format!(
            "table ip nat {{
               chain post {{ type nat hook postrouting priority srcnat;
                 oifname wan meta l4proto udp snat ip to udp sport & 1 map {{ 0 : {external}, 1 : {pool} }}
                 oifname wan masquerade
               }}
             }}"
        ),
        Nat::Symmetric => "table ip nat {
             chain post { type nat hook postrouting priority srcnat;
               oifname wan masquerade random,fully-random
             }
           }"
        .into(),
        Nat::Sequential => {
            let ports: Vec<String> = (0..2048).map(|n| format!("{n} : {}", 40_000 + n)).collect();
            format!(
                "table ip nat {{
                   chain post {{ type nat hook postrouting priority srcnat;
                     oifname wan meta l4proto udp snat ip to {external} : numgen inc mod 2048 map {{ {} }}
                     oifname wan masquerade
                   }}
                 }}",
                ports.join(", ")
            )
        }
        // What the map does not know yet gets a port at random: else the kernel would take the
        // one that the source has already.
        Nat::AddressSymmetric => format!(
            "table ip nat {{
               map out {{ type ipv4_addr . inet_service . ipv4_addr : inet_service; flags dynamic,timeout; timeout {lifetime}s; size 65535; }}
               chain post {{ type nat hook postrouting priority srcnat;
                 oifname wan meta l4proto udp snat ip to {external} : ip saddr . udp sport . ip daddr map @out
                 oifname wan masquerade random,fully-random
               }}
               chain track {{ type filter hook postrouting priority srcnat + 10;
                 oifname wan meta l4proto udp ct direction original update @out {{ ct original ip saddr . ct original proto-src . ip daddr : udp sport }}
               }}
             }}"
        ),
        // A chain just after source NAT sees the outer port in the packet and the inner address
        // in conntrack, and writes the map by which strangers are let in.
        Nat::FullCone | Nat::Restricted | Nat::Hairpin => {
            let (set, strangers, note) = match nat {
                Nat::Restricted => (
                    format!("set flt {{ type inet_service . ipv4_addr; flags dynamic,timeout; timeout {lifetime}s; size 65535; }}"),
                    "iifname wan udp dport . ip saddr @flt dnat ip to udp dport map @in",
                    "oifname wan meta l4proto udp update @flt { udp sport . ip daddr }",
                ),
                _ => (
                    String::new(),
                    "iifname wan meta l4proto udp dnat ip to udp dport map @in",
                    "",
                ),
            };
            let (turn, back) = if nat == Nat::Hairpin {
                (
                    format!("iifname lan ip daddr {external} meta l4proto udp dnat ip to udp dport map @in"),
                    format!("iifname lan oifname lan ct status dnat snat ip to {external}"),
                )
            } else {
                (String::new(), String::new())
            };
            format!(
                "table ip nat {{
                   map in {{ type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout {lifetime}s; size 65535; }}
                   {set}
                   chain pre {{ type nat hook prerouting priority dstnat;
                     {strangers}
                     {turn}
                   }}
                   chain post {{ type nat hook postrouting priority srcnat;
                     {back}
                     oifname wan masquerade
                   }}
                   chain track {{ type filter hook postrouting priority srcnat + 10;
                     oifname wan meta l4proto udp ct direction original update @in {{ udp sport : ct original ip saddr . ct original proto-src }}
                     oifname wan meta l4proto udp ct direction reply update @in {{ udp sport : ct reply ip saddr . ct reply proto-src }}
                     {note}
                   }}
                 }}"
            )
        }
    };
    let blocked = match nat {
        Nat::UdpBlocked => "meta l4proto udp drop",
        Nat::WebOnly => {
            "meta l4proto udp drop
             oifname wan tcp dport != { 80, 443 } drop"
        }
        _ => "",
    };
    // Input is dropped, not accepted: an accepted packet of a stranger would leave an entry that
    // takes the port from the host inside, and punching would fail whenever one side is early.
    format!(
        "{translation}
         table inet filter {{
           chain input {{ type filter hook input priority filter; policy drop;
             iifname lan accept
             ct state established,related accept
             icmp type echo-request accept
             icmpv6 type {{ echo-request, nd-neighbor-solicit, nd-neighbor-advert }} accept
           }}
           chain forward {{ type filter hook forward priority filter; policy drop;
             {blocked}
             ct state established,related accept
             iifname lan oifname wan accept
             ct status dnat accept
           }}
         }}"
    )
}

/// A rule for UDP; hosts bind ports above these.
fn renumber(ports: RangeInclusive<u16>) -> String {
    let (first, last) = ports.into_inner();
    format!("oifname wan meta l4proto udp masquerade to :{first}-{last}")
}

fn sysctls(family: Family, forwards: bool) -> Vec<(String, String)> {
    let mut sysctls = vec![
        ("ipv4/icmp_ratelimit".into(), "0".into()),
        ("ipv6/icmp/ratelimit".into(), "0".into()),
    ];
    let mut set = |key: String, value: bool| sysctls.push((key, u8::from(value).to_string()));
    for scope in ["all", "default"] {
        for key in ["rp_filter", "send_redirects", "accept_redirects"] {
            set(format!("ipv4/conf/{scope}/{key}"), false);
        }
        set(format!("ipv4/conf/{scope}/forwarding"), forwards);
        for key in ["accept_dad", "accept_ra", "accept_redirects"] {
            set(format!("ipv6/conf/{scope}/{key}"), false);
        }
        set(format!("ipv6/conf/{scope}/forwarding"), forwards);
        set(
            format!("ipv6/conf/{scope}/disable_ipv6"),
            family == Family::V4,
        );
    }
    // Where the kernel has bridge netfilter, LAN to LAN must not go through the router's rules.
    for table in ["iptables", "ip6tables", "arptables"] {
        let key = format!("bridge/bridge-nf-call-{table}");
        if fs::exists(format!("/proc/sys/net/{key}")).unwrap_or(false) {
            set(key, false);
        }
    }
    sysctls
}

/// A cable, both ends born in place.
fn link(a: &Namespace, a_name: &str, b: &Namespace, b_name: &str) -> String {
    format!(
        "link add name {a_name} netns {} type veth peer name {b_name} netns {}\n",
        a.0, b.0
    )
}

fn shape(ns: &Namespace, interface: &str, rate: &str) -> Result<()> {
    let args = ["qdisc", "replace", "dev", interface, "root", "tbf", "rate"];
    let limits = ["burst", "16kb", "latency", "100ms"];
    let mut command = ns.command("tc");
    output(command.args(args).arg(rate).args(limits), "").map(drop)
}

fn ip_batch(command: &mut Command, lines: &str) -> Result<()> {
    output(command, lines).map(drop)
}

/// A name no other laboratory has: process, its start time, and a counter.
fn unique_prefix() -> Result<String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    ensure!(count < 10_000, "too many laboratories");
    let pid = process::id();
    let start = start_time(&pid.to_string()).context("/proc/self/stat")?;
    Ok(format!("khlab-{pid}-{start}-{count}"))
}

/// When a process was started, in ticks since boot: with the pid it names one process only.
fn start_time(pid: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, in parentheses, may hold spaces.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19).map(str::to_owned)
}

/// Namespaces that go when this does.
struct Deleted(Vec<String>);

impl Drop for Deleted {
    fn drop(&mut self) {
        let lines: String = self
            .0
            .iter()
            .map(|name| format!("netns del {name}\n"))
            .collect();
        // With -force one that was never made does not keep the others.
        if let Err(error) = ip_batch(tool("ip").args(["-force", "-batch", "-"]), &lines)
            && !thread::panicking()
        {
            eprintln!("lab: {error:#}");
        }
    }
}
