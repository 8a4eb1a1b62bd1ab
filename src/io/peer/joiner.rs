//! The side that was given an invite: connects at once wherever the issuer can be reached.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::connection::{Connection, Credentials, Identity, random_text};
use super::endpoint::{Endpoint, Network, seed};
use super::issuer::{MAX_ACCEPTED, MAX_MESSAGE, unix_now};
use anyhow::Context as _;

use super::link::{Link, LinkError, Remote};
use super::watch::Far;
use crate::proto::link::PeerKind;
use crate::proto::link::repair::frame::{Keys, Role};
use crate::proto::sdp::{Description, Setup};
use crate::proto::token::{self, Candidate, Invite, Kind, Reply};

/// From a found path to an open data channel.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes that may fail (datagrams lost at the worst moment) before it counts.
const ATTEMPTS: u32 = 3;

/// On the way to the issuer.
pub struct Joiner {
    endpoint: Endpoint,
    connection: Connection,
    invite: Invite,
    patience: Duration,
    started: Instant,
    until: Instant,
    bound: Option<Duration>,
    attempts: u32,
}

impl Joiner {
    /// Starts to check the invite's addresses. `bound`: give up after this long; without it, when
    /// the invite expires.
    ///
    /// # Errors
    /// When this machine refuses a socket or the crate a setting.
    pub async fn start(
        network: &Network,
        invite: &Invite,
        bound: Option<Duration>,
    ) -> Result<Self, LinkError> {
        let started = Instant::now();
        let endpoint = Endpoint::open(network)?;
        if network.turn.is_some() {
            // The crate takes its sockets at the start, the relay among them.
            endpoint.gathered().await;
        }
        let connection = offer(&endpoint, invite, PeerKind::Knothole).await?;
        let left = Duration::from_secs(invite.expires_at().saturating_sub(unix_now()));
        Ok(Self {
            endpoint,
            connection,
            invite: invite.clone(),
            patience: network.patience,
            started,
            until: started + bound.unwrap_or(left),
            bound,
            attempts: 1,
        })
    }

    /// The sockets, to ask about buffers, mappings and servers.
    pub fn endpoint(&mut self) -> &mut Endpoint {
        &mut self.endpoint
    }

    /// Resolves when the servers have answered, or three seconds after the start.
    pub fn gathered(&self) -> impl Future<Output = ()> + use<> {
        self.endpoint.gathered()
    }

    /// The reply code: the addresses at which the issuer's NAT should let us in. `None` when this
    /// side knows no address of its own.
    #[must_use]
    pub fn reply(&self) -> Option<Reply> {
        let candidates = reply_candidates(
            &self.endpoint.candidates(),
            &self.endpoint.mappings(),
            &self.invite.candidates,
        );
        Reply::new(candidates).ok()
    }

    /// Resolves when the channel to the issuer is open. May be called again after it was dropped.
    /// A handshake that fails is begun anew, as the issuer does.
    ///
    /// # Errors
    /// No path in time, or handshakes that do not finish.
    pub async fn opened(&mut self) -> Result<(), LinkError> {
        loop {
            let mut states = self.connection.states.clone();
            let too_long = async {
                super::connection::path_found(&mut states).await;
                tokio::time::sleep(HANDSHAKE).await;
            };
            tokio::select! {
                opened = self.connection.opened() => match opened {
                    Ok(()) => return Ok(()),
                    Err(error) => log::debug!("attempt {}: {error:#}", self.attempts),
                },
                () = too_long => log::debug!("attempt {}: no handshake", self.attempts),
                () = tokio::time::sleep_until(self.until.into()) => return Err(self.no_path()),
            }
            if self.attempts == ATTEMPTS {
                return Err(LinkError::Handshake);
            }
            self.attempts += 1;
            self.connection.close().await;
            let watch = self.endpoint.watch();
            watch.restart(self.patience, seed()?, Far::Knothole);
            self.connection = offer(&self.endpoint, &self.invite, PeerKind::Knothole).await?;
        }
    }

    /// The open link.
    ///
    /// # Errors
    /// [`LinkError::Closed`] before [`Joiner::opened`].
    pub fn into_link(self) -> Result<Link, LinkError> {
        let remote = Remote {
            kind: PeerKind::Knothole,
            fingerprint: self.invite.fingerprint,
            candidates: self.invite.candidates,
            max_message: MAX_MESSAGE as usize,
        };
        Link::new(self.connection, self.endpoint, remote, self.patience)
    }

    fn no_path(&self) -> LinkError {
        let tried = self
            .invite
            .candidates
            .iter()
            .map(|candidate| candidate.addr)
            .collect();
        LinkError::NoPath {
            after: self.bound.unwrap_or(self.started.elapsed()),
            tried,
        }
    }
}

/// Makes a real offer with credentials of its own, and invents the answer of the issuer. `kind`:
/// what it says it is.
async fn offer(
    endpoint: &Endpoint,
    invite: &Invite,
    kind: PeerKind,
) -> Result<Connection, LinkError> {
    let identity = Identity::generate()?;
    let credentials = Credentials {
        ufrag: random_text(4)?,
        password: random_text(22)?,
    };
    let (fingerprint, password) = (&identity.fingerprint, &credentials.password);
    let ufrag = token::build_ufrag(kind, fingerprint, password);
    if kind == PeerKind::Knothole {
        let theirs = token::ice_password(&invite.secret);
        endpoint.start_layer(Keys::new(Role::Offerer, password, &theirs))?;
    }
    let connection = Connection::build(endpoint, &identity, credentials, kind).await?;
    let answer = Description {
        ufrag: &ufrag.context("our own password")?,
        password: &token::ice_password(&invite.secret),
        fingerprint: &invite.fingerprint,
        setup: Setup::Active,
        max_message_size: MAX_ACCEPTED,
        candidates: &invite.candidates,
    };
    connection.offer(answer.to_string()).await?;
    Ok(connection)
}

/// Which of our addresses the issuer needs: the mapped one, unless our mapping is known to depend
/// on the destination (RFC 4787 §4.1) and a relay can stand in; the relayed one; IPv6 only when
/// IPv4 gives nothing (an address more is twenty characters more to type).
fn reply_candidates(
    ours: &[Candidate],
    mappings: &[Vec<SocketAddr>],
    remote: &[Candidate],
) -> Vec<Candidate> {
    let relay = ours.iter().copied().find(|c| c.kind == Kind::Relay);
    let v4 = remote.iter().any(|c| c.addr.is_ipv4());
    let v6 = remote.iter().any(|c| c.addr.is_ipv6());
    let depends = mappings
        .iter()
        .any(|seen| seen.iter().filter(|addr| addr.is_ipv4()).count() > 1);
    let mut chosen = vec![];
    let mapped = ours
        .iter()
        .copied()
        .find(|c| c.kind == Kind::Srflx && c.addr.is_ipv4());
    let host = ours
        .iter()
        .copied()
        .find(|c| c.kind == Kind::Host && c.addr.is_ipv4());
    if v4 && !(depends && relay.is_some()) {
        chosen.extend(mapped.or(host));
    }
    chosen.extend(relay);
    if chosen.is_empty() || (v6 && depends && relay.is_none()) {
        chosen.extend(ours.iter().copied().find(|c| v6 && c.addr.is_ipv6()));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use super::super::consent::Consent;
    use super::super::issuer::{Issuer, Waiting};
    use super::super::link::Message;
    use super::super::watch::is_dtls;
    use super::*;
    use crate::proto::link::{repair, size::Sizer};

    #[test]
    fn one_mapped_ipv4_address_is_the_whole_reply() {
        let ours = [
            of(Kind::Host, "192.168.1.2:5"),
            of(Kind::Srflx, "203.0.113.2:6"),
            of(Kind::Host, "[2001:db8::2]:7"),
        ];
        let remote = [
            of(Kind::Srflx, "198.51.100.9:1"),
            of(Kind::Host, "[2001:db8::9]:1"),
        ];
        assert_eq!(
            reply_candidates(&ours, &[vec![ours[1].addr]], &remote),
            [ours[1]]
        );
    }

    #[test]
    fn a_mapping_that_depends_on_the_destination_gives_way_to_the_relay() {
        let ours = [
            of(Kind::Srflx, "203.0.113.2:6"),
            of(Kind::Relay, "198.51.100.2:50000"),
        ];
        let mappings = [vec![
            "203.0.113.2:6".parse().unwrap(),
            "203.0.113.2:7".parse().unwrap(),
        ]];
        let remote = [of(Kind::Srflx, "198.51.100.9:1")];
        assert_eq!(reply_candidates(&ours, &mappings, &remote), [ours[1]]);
        assert_eq!(reply_candidates(&ours[..1], &mappings, &remote), [ours[0]]);
    }

    #[test]
    fn without_servers_the_host_address_is_given() {
        let ours = [of(Kind::Host, "192.168.1.2:5")];
        assert_eq!(
            reply_candidates(&ours, &[], &[of(Kind::Host, "192.168.1.9:1")]),
            ours
        );
    }

    #[tokio::test]
    async fn a_plain_joiner_is_sent_no_frame_and_nothing_that_needs_cutting() {
        let bound = Duration::from_secs(20);
        tokio::time::timeout(bound, meet_a_plain_joiner())
            .await
            .unwrap();
    }

    const MESSAGES: usize = 64;

    #[tokio::test]
    async fn where_datagrams_are_lost_two_knotholes_repair_it_in_frames_that_fit() {
        let bound = Duration::from_mins(1);
        tokio::time::timeout(bound, repair_a_lossy_path())
            .await
            .unwrap();
    }

    async fn repair_a_lossy_path() {
        let road = Road {
            lost: 40,
            at_least: 500,
            ..Road::default()
        };
        let (here, there, wire) = meet(road, &loopback()).await;
        let done = Cell::new(false);
        let sending = async {
            // Until it is seen, or the test's time is up.
            while here.repair().unwrap().repairs < 20 {
                let message = bytes::BytesMut::zeroed(65_536);
                here.send_data(message).await.unwrap();
                while here.outstanding().await > 1 << 20 {
                    tokio::task::yield_now().await;
                }
            }
            here.send_control("enough").await.unwrap();
            done.set(true);
        };
        let receiving = async {
            while let Message::Data(data) = there.recv().await.unwrap() {
                assert_eq!(data.len(), 65_536);
            }
            assert!(done.get());
        };
        tokio::join!(sending, receiving);
        let seen = wire.lock().unwrap().clone();
        assert!(seen.repaired.iter().sum::<usize>() > 100, "{seen:?}");
        assert!(seen.longest <= crate::proto::link::size::LARGE, "{seen:?}");
        assert_eq!(there.repair().unwrap().given_up, 0);
    }

    #[tokio::test]
    async fn the_handshake_travels_in_frames_from_its_first_datagram_and_is_repaired() {
        let bound = Duration::from_mins(1);
        let network = loopback();
        let met = meet(LONG_AND_LOSSY, &network);
        let (here, there, wire) = tokio::time::timeout(bound, met).await.unwrap();
        let seen = wire.lock().unwrap().clone();
        assert_eq!(seen.bare, 0, "{seen:?}");
        for end in [&here, &there] {
            let stats = end.repair().unwrap();
            assert!(stats.on && stats.frames > stats.repairs, "{stats:?}");
            assert!(stats.repairs > 0 && stats.given_up == 0, "{stats:?}");
        }
        let closing = async {
            assert!(matches!(there.recv().await, Err(LinkError::Closed)));
            there.close().await;
        };
        let both = async { tokio::join!(here.close(), closing) };
        tokio::time::timeout(bound, both).await.unwrap();
        assert!(wire.lock().unwrap().bare > 0, "the end waits for nothing");
    }

    #[tokio::test]
    async fn a_side_that_is_not_to_repair_gets_frames_and_sends_none_but_acknowledgements() {
        let bound = Duration::from_mins(1);
        let quiet = Network {
            repair: false,
            ..loopback()
        };
        let met = meet(LONG_AND_LOSSY, &quiet);
        let (here, there, wire) = tokio::time::timeout(bound, met).await.unwrap();
        let seen = wire.lock().unwrap().clone();
        assert!(seen.repaired[0] == 0 && seen.repaired[1] > 0, "{seen:?}");
        assert_eq!(here.repair().unwrap().frames, 0);
        assert!(there.repair().unwrap().repairs > 0);
        assert!(seen.bare > 0, "{seen:?}");
    }

    #[tokio::test]
    async fn a_joiner_that_was_forgotten_is_sent_nothing_more() {
        let bound = Duration::from_mins(1);
        let network = loopback();
        let mut issuer = Issuer::open(&network, bound).await.unwrap();
        let watch = Arc::clone(issuer.endpoint().watch());
        let mut invite = issuer.invite().0;
        let nothing_passes = Road {
            lost: 1,
            ..LONG_AND_LOSSY
        };
        let (middle, _) = Middle::before(invite.candidates[0].addr, nothing_passes).await;
        invite.candidates = vec![Candidate::new(Kind::Host, middle)];
        let mut joiner = Joiner::start(&network, &invite, None).await.unwrap();
        let (_replies, mut replies) = tokio::sync::mpsc::channel(1);
        let (forgotten, mut told) = tokio::sync::mpsc::unbounded_channel();
        let waited = issuer.wait(&mut replies, |what| match what {
            Waiting::Joining(_) => assert!(watch.layer().stats().is_none()),
            Waiting::Forgotten(_) => forgotten.send(watch.layer().stats()).unwrap(),
            _ => {}
        });
        tokio::select! {
            _ = waited => panic!("nobody can join"),
            _ = joiner.opened() => panic!("nothing passes"),
            stats = told.recv() => assert_eq!(stats, Some(None)),
            () = tokio::time::sleep(bound) => panic!("not in time"),
        }
    }

    /// Every fourth datagram of DTLS is lost, the first to begin with.
    const LONG_AND_LOSSY: Road = Road {
        delay: Duration::from_millis(5),
        lost: 4,
        at_least: 0,
    };

    /// A joiner with this network meets an issuer; nobody has said hello.
    async fn meet(road: Road, network: &Network) -> (Link, Link, Arc<Mutex<Middle>>) {
        let ours = loopback();
        let issuer = Issuer::open(&ours, Duration::from_mins(1));
        let issuer = issuer.await.unwrap();
        let mut invite = issuer.invite().0;
        let (middle, wire) = Middle::before(invite.candidates[0].addr, road).await;
        invite.candidates = vec![Candidate::new(Kind::Host, middle)];
        let (_replies, mut replies) = tokio::sync::mpsc::channel(1);
        let joined = async {
            let mut joiner = Joiner::start(network, &invite, None).await.unwrap();
            joiner.opened().await.unwrap();
            joiner.into_link().unwrap()
        };
        let (issued, here) = tokio::join!(issuer.wait(&mut replies, |_| {}), joined);
        (here, issued.unwrap(), wire)
    }

    fn loopback() -> Network {
        Network {
            stun: vec![],
            turn: None,
            ipv4: true,
            ipv6: false,
            bind: Some("127.0.0.1:0".parse().unwrap()),
            patience: Duration::from_secs(20),
            repair: true,
        }
    }

    async fn meet_a_plain_joiner() {
        let network = loopback();
        let issuer = Issuer::open(&network, Duration::from_mins(1));
        let issuer = issuer.await.unwrap();
        let mut invite = issuer.invite().0;
        let (middle, wire) = Middle::before(invite.candidates[0].addr, Road::default()).await;
        invite.candidates = vec![Candidate::new(Kind::Host, middle)];
        let (_replies, mut replies) = tokio::sync::mpsc::channel(1);
        let endpoint = Endpoint::open(&network).unwrap();
        let consent = Consent {
            username: String::new(),
            password: String::new(),
            controlling: true,
        };
        let watch = endpoint.watch();
        watch.restart(network.patience, [1; 32], Far::Plain(consent));
        let joined = async {
            let connection = offer(&endpoint, &invite, PeerKind::Plain).await.unwrap();
            connection.opened().await.unwrap();
            connection
        };
        let (issued, connection) = tokio::join!(issuer.wait(&mut replies, |_| {}), joined);
        let remote = Remote {
            kind: PeerKind::Plain,
            fingerprint: invite.fingerprint,
            candidates: vec![],
            max_message: usize::MAX,
        };
        let here = Link::new(connection, endpoint, remote, network.patience).unwrap();
        let there = issued.unwrap();
        assert_eq!(there.peer(), PeerKind::Plain);
        assert_eq!(there.max_message(), 65_536);
        assert_eq!(there.repair(), None);
        for (from, to) in [(&here, &there), (&there, &here)] {
            let sending = async {
                for _ in 0..MESSAGES {
                    let message = bytes::BytesMut::zeroed(65_536);
                    from.send_data(message).await.unwrap();
                }
            };
            let receiving = async {
                for _ in 0..MESSAGES {
                    let message = to.recv().await.unwrap();
                    assert!(matches!(message, Message::Data(data) if data.len() == 65_536));
                }
            };
            tokio::join!(sending, receiving);
        }
        let closing = async {
            assert!(matches!(there.recv().await, Err(LinkError::Closed)));
            there.close().await;
        };
        tokio::join!(here.close(), closing);
        let seen = wire.lock().unwrap().clone();
        assert!(seen.datagrams > 1000, "{seen:?}");
        assert!(seen.longest > 1190 && seen.longest <= 1200, "{seen:?}");
        assert_eq!(seen.frames, 0, "{seen:?}");
    }

    /// What happens between the two sides.
    #[derive(Debug, Default, Clone, Copy)]
    struct Road {
        /// One way.
        delay: Duration,
        /// Each so-manieth datagram of DTLS that has some size is lost, bare or in a frame; 0: none.
        lost: usize,
        at_least: usize,
    }

    /// Stands between the two sides and looks at what passes.
    #[derive(Debug, Default, Clone)]
    struct Middle {
        datagrams: usize,
        longest: usize,
        frames: usize,
        /// Of those, with a datagram in the repair layer: to the issuer, and to the joiner.
        repaired: [usize; 2],
        /// Datagrams of DTLS as they are.
        bare: usize,
        /// Of all these, with some size.
        counted: usize,
    }

    impl Middle {
        async fn before(issuer: SocketAddr, road: Road) -> (SocketAddr, Arc<Mutex<Self>>) {
            let bind = || tokio::net::UdpSocket::bind("127.0.0.1:0");
            let (near, far) = (bind().await.unwrap(), bind().await.unwrap());
            let addr = near.local_addr().unwrap();
            let seen = Arc::new(Mutex::new(Self::default()));
            let noted = Arc::clone(&seen);
            tokio::spawn(async move {
                let (mut one, mut two) = (vec![0; 65_536], vec![0; 65_536]);
                let mut joiner = None;
                let mut passing: VecDeque<(tokio::time::Instant, usize, Vec<u8>, SocketAddr)> =
                    VecDeque::new();
                loop {
                    let due = passing.front().map(|(due, ..)| *due);
                    let due = due.unwrap_or_else(tokio::time::Instant::now);
                    let (side, datagram, to) = tokio::select! {
                        () = tokio::time::sleep_until(due), if !passing.is_empty() => {
                            let Some((_, side, datagram, to)) = passing.pop_front() else {
                                continue;
                            };
                            // A full buffer loses a datagram, as a network does.
                            let _ = [&far, &near][side].try_send_to(&datagram, to);
                            continue;
                        }
                        Ok((len, from)) = near.recv_from(&mut one) => {
                            joiner = Some(from);
                            (0, one[..len].to_vec(), issuer)
                        }
                        Ok((len, _)) = far.recv_from(&mut two) => match joiner {
                            Some(joiner) => (1, two[..len].to_vec(), joiner),
                            None => continue,
                        },
                    };
                    if noted.lock().unwrap().passes(side, &datagram, road) {
                        let due = tokio::time::Instant::now() + road.delay;
                        passing.push_back((due, side, datagram, to));
                    }
                }
            });
            (addr, seen)
        }

        /// Counts a datagram; false when it is lost.
        fn passes(&mut self, side: usize, datagram: &[u8], road: Road) -> bool {
            self.datagrams += 1;
            self.longest = self.longest.max(datagram.len());
            let frame = Sizer::is_frame(datagram) || repair::frame::is_frame(datagram);
            self.frames += usize::from(frame);
            let (framed, bare) = (repair::frame::is_data(datagram), is_dtls(datagram));
            self.repaired[side] += usize::from(framed);
            self.bare += usize::from(bare);
            if road.lost == 0 || !(framed || bare) || datagram.len() < road.at_least {
                return true;
            }
            self.counted += 1;
            self.counted % road.lost != 1 % road.lost
        }
    }

    fn of(kind: Kind, addr: &str) -> Candidate {
        Candidate {
            kind,
            addr: addr.parse().unwrap(),
        }
    }
}
