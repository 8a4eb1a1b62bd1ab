//! Classic signalling: whole descriptions, carried by people to any WebRTC program and back.
//!
//! An [`Offerer`] makes an offer and waits for the answer; an [`answer`] takes an offer. Both end
//! in a [`Pairing`], which looks for the path. The texts are ours ([`Own`]); of the other side's
//! the crate gets to see what [`sdp::read`](crate::proto::sdp::read) understood, and candidates
//! that were judged.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::connection::{Connection, Credentials, Identity, path_found, random_text};
use super::consent::Consent;
use super::endpoint::{Endpoint, Network, Next, Notice, seed};
use super::issuer::{MAX_ACCEPTED, MAX_MESSAGE};
use super::link::{Link, LinkError, Remote};
use super::names;
use super::watch::{Far, Refused};
use crate::io::random;
use crate::proto::link::PeerKind;
use crate::proto::link::repair::frame::{Keys, Role};
use crate::proto::sdp::{
    CandidateKind, Host, MAX_CANDIDATES, Own, RemoteCandidate, SdpType, Session, Setup, Transport,
};
use crate::proto::token::{Candidate, Kind};

/// From a found path to an open data channel. Other programs have slower timers than ours.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// Between looks whether a certificate was refused, of which the crate says nothing.
const LOOK: Duration = Duration::from_millis(100);
/// Our addresses in a description; the most useful come first.
const MAX_OURS: usize = 24;
/// The least that the transfer protocol needs in one message, in bytes.
const MIN_MESSAGE: u64 = 8192;

/// Why a description does not belong here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It is the one that was made here.
    Own,
    /// An offer was needed.
    AnswerInstead,
    /// An answer was needed.
    OfferInstead,
    /// It takes messages of this many bytes only.
    ShortMessages(u64),
}

impl Unfit {
    /// Says what to try next.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Own => "give it to the other side, whose answer belongs here",
            Self::AnswerInstead => {
                "give the answer to the side that made the offer, or make a new offer there"
            }
            Self::OfferInstead => {
                "one side makes the offer and the other answers it: give the offer from here to \
                 the other side, and its answer here"
            }
            Self::ShortMessages(_) => "let the other program take messages of 65536 bytes",
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("this is your own offer"),
            Self::AnswerInstead => f.write_str("this is an answer, and an offer belongs here"),
            Self::OfferInstead => f.write_str("this is an offer, and the answer belongs here"),
            Self::ShortMessages(size) => write!(
                f,
                "the other side takes messages of at most {size} bytes, and at least {MIN_MESSAGE} are needed"
            ),
        }
    }
}

/// What happens on the way to a path.
#[derive(Debug)]
pub enum Finding {
    Notice(Notice),
    /// A `.local` name leads nowhere, and why.
    Unresolved {
        name: String,
        why: String,
    },
    /// A candidate is of no use; the end of a sentence about it.
    Skipped(&'static str),
    /// A candidate that came later is tried.
    Added(SocketAddr),
}

/// Made an offer, waits for the answer.
pub struct Offerer {
    endpoint: Endpoint,
    ours: Ours,
    patience: Duration,
}

/// What we say about ourselves.
struct Ours {
    identity: Identity,
    id: u32,
    ufrag: String,
    password: String,
}

impl Ours {
    fn generate() -> anyhow::Result<Self> {
        Ok(Self {
            identity: Identity::generate()?,
            id: u32::from_be_bytes(random()?),
            // More than the least of RFC 8839 §5.4, so that no two offers are confused.
            ufrag: random_text(8)?,
            password: random_text(24)?,
        })
    }

    /// `offer`: what this answers, if it does.
    fn text(&self, endpoint: &Endpoint, setup: Setup, offer: Option<&Session>) -> String {
        let mut candidates = endpoint.candidates();
        candidates.truncate(MAX_OURS);
        Own {
            id: self.id,
            ufrag: &self.ufrag,
            password: &self.password,
            fingerprint: &self.identity.fingerprint,
            setup,
            max_message_size: MAX_MESSAGE,
            candidates: &candidates,
            mid: offer.map_or("0", |offer| &offer.mid),
            knothole: offer.is_none_or(|offer| offer.knothole),
        }
        .to_string()
    }
}

impl Offerer {
    /// Binds the sockets and gathers: at most three seconds.
    ///
    /// # Errors
    /// When no socket can be bound or the system has no entropy.
    pub async fn open(network: &Network) -> Result<Self, LinkError> {
        let ours = Ours::generate()?;
        let endpoint = Endpoint::open(network)?;
        endpoint.gathered().await;
        Ok(Self {
            endpoint,
            ours,
            patience: network.patience,
        })
    }

    /// The sockets, to ask about buffers, mappings and servers.
    pub fn endpoint(&mut self) -> &mut Endpoint {
        &mut self.endpoint
    }

    /// The offer as SDP, with the addresses of now.
    #[must_use]
    pub fn text(&self) -> String {
        self.ours.text(&self.endpoint, Setup::ActPass, None)
    }

    /// The next thing to say while the answer is waited for. Checks that come before the answer
    /// are not for us yet: they are repeated.
    pub async fn next(&mut self) -> Notice {
        loop {
            if let Next::Notice(notice) = self.endpoint.next().await {
                return notice;
            }
        }
    }

    /// Whether `answer` can be one to our offer.
    ///
    /// # Errors
    /// Says why not.
    pub fn judge(&self, answer: &Session) -> Result<(), Unfit> {
        if answer.ufrag == self.ours.ufrag {
            return Err(Unfit::Own);
        }
        match answer.probable_kind() {
            SdpType::Offer => Err(Unfit::OfferInstead),
            SdpType::Answer => judge_size(answer),
        }
    }

    /// Takes the answer. `bound`: how long to look for a path.
    ///
    /// # Errors
    /// When this machine refuses a socket or the crate a setting.
    pub async fn answered(self, answer: &Session, bound: Duration) -> Result<Pairing, LinkError> {
        Pairing::start(
            self.endpoint,
            self.ours,
            Side::Offerer,
            answer,
            self.patience,
            bound,
        )
        .await
    }
}

/// Whether `offer` can be answered.
///
/// # Errors
/// Says why not.
pub fn judge_offer(offer: &Session) -> Result<(), Unfit> {
    match offer.kind {
        Some(SdpType::Answer) => Err(Unfit::AnswerInstead),
        _ => judge_size(offer),
    }
}

fn judge_size(session: &Session) -> Result<(), Unfit> {
    match session.max_message_size {
        0 | MIN_MESSAGE.. => Ok(()),
        size => Err(Unfit::ShortMessages(size)),
    }
}

/// Answers an offer, and starts to look for the path: the other side joins in when it has the
/// answer. Returns that as SDP. `bound`: how long to look.
///
/// # Errors
/// When this machine refuses a socket or the crate a setting.
pub async fn answer(
    network: &Network,
    offer: &Session,
    bound: Duration,
) -> Result<(Pairing, String), LinkError> {
    let ours = Ours::generate()?;
    let endpoint = Endpoint::open(network)?;
    endpoint.gathered().await;
    let setup = match offer.setup {
        Setup::Active => Setup::Passive,
        Setup::ActPass | Setup::Passive => Setup::Active,
    };
    let text = offer.whole_answer(&ours.text(&endpoint, setup, Some(offer)));
    let side = Side::Answerer;
    let pairing = Pairing::start(endpoint, ours, side, offer, network.patience, bound).await?;
    Ok((pairing, text))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Offerer,
    Answerer,
}

/// Knows both descriptions, looks for a path.
pub struct Pairing {
    endpoint: Endpoint,
    connection: Connection,
    remote: Remote,
    ufrag: String,
    /// Of the peer, every place that was or will be tried.
    places: Vec<Host>,
    /// Candidates with a name that is being looked up.
    hidden: Vec<RemoteCandidate>,
    names: mpsc::Receiver<(String, Result<IpAddr, String>)>,
    patience: Duration,
    started: Instant,
    bound: Duration,
    skipped: Vec<&'static str>,
}

impl Pairing {
    async fn start(
        endpoint: Endpoint,
        ours: Ours,
        side: Side,
        theirs: &Session,
        patience: Duration,
        bound: Duration,
    ) -> Result<Self, LinkError> {
        let kind = if theirs.knothole {
            PeerKind::Knothole
        } else {
            PeerKind::Plain
        };
        let far = match kind {
            PeerKind::Knothole => Far::Knothole,
            PeerKind::Plain => Far::Plain(Consent {
                username: format!("{}:{}", theirs.ufrag, ours.ufrag),
                password: theirs.password.clone(),
                // RFC 8445 §6.1.1.
                controlling: side == Side::Offerer || theirs.lite,
            }),
        };
        endpoint.watch().restart(patience, seed()?, far);
        if kind == PeerKind::Knothole {
            let role = match side {
                Side::Offerer => Role::Offerer,
                Side::Answerer => Role::Answerer,
            };
            endpoint.start_layer(Keys::new(role, &ours.password, &theirs.password))?;
        }
        let credentials = Credentials {
            ufrag: ours.ufrag,
            password: ours.password,
        };
        let connection = Connection::build(&endpoint, &ours.identity, credentials, kind).await?;
        // The crate takes the limit of what it receives from this line too, so it gets ours; the
        // peer's is held in `Link::max_message`.
        let normal = Session {
            mid: "0".to_owned(),
            max_message_size: MAX_ACCEPTED.into(),
            ..theirs.clone()
        };
        match side {
            Side::Offerer => connection.offer(normal.data_only()).await?,
            Side::Answerer => {
                let setup = match theirs.setup {
                    // The crate must choose what our answer says, also where it would not.
                    Setup::ActPass => Setup::Passive,
                    other => other,
                };
                connection
                    .answer(Session { setup, ..normal }.data_only())
                    .await?;
            }
        }
        let max_message = match theirs.max_message_size {
            0 => usize::MAX,
            size => usize::try_from(size).unwrap_or(usize::MAX),
        };
        let mut pairing = Self {
            endpoint,
            connection,
            remote: Remote {
                kind,
                fingerprint: theirs.fingerprint,
                candidates: vec![],
                max_message,
            },
            ufrag: theirs.ufrag.clone(),
            places: vec![],
            hidden: vec![],
            names: mpsc::channel(1).1,
            patience,
            started: Instant::now(),
            bound,
            skipped: theirs.skipped.clone(),
        };
        for candidate in &theirs.candidates {
            if let Err(why) = pairing.take(candidate).await? {
                pairing.skipped.push(why);
            }
        }
        pairing.look_up();
        Ok(pairing)
    }

    /// What of the description could not be used, as ends of sentences about candidates.
    #[must_use]
    pub fn skipped(&self) -> &[&'static str] {
        &self.skipped
    }

    /// Whether the other side's description has an address to send to, known or hidden.
    #[must_use]
    pub fn has_places(&self) -> bool {
        !self.places.is_empty()
    }

    /// The sockets, to ask about buffers, mappings and servers.
    pub fn endpoint(&mut self) -> &mut Endpoint {
        &mut self.endpoint
    }

    /// Resolves when the data channel is open. Candidates that come later come through `late`;
    /// `say` is told what happens.
    ///
    /// # Errors
    /// No path in time, or a handshake that does not finish.
    pub async fn opened(
        &mut self,
        late: &mut mpsc::Receiver<RemoteCandidate>,
        mut say: impl FnMut(Finding),
    ) -> Result<(), LinkError> {
        let mut states = self.connection.states.clone();
        let too_long = async move {
            path_found(&mut states).await;
            tokio::time::sleep(HANDSHAKE).await;
        };
        tokio::pin!(too_long);
        let until = self.started + self.bound;
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                opened = self.connection.opened() => match opened {
                    Ok(()) => return Ok(()),
                    Err(error) => {
                        log::debug!("{error:#}");
                        return Err(LinkError::Closed);
                    }
                },
                Some(candidate) = late.recv() => match self.take(&candidate).await? {
                    Ok(()) => {
                        if let Host::Ip(addr) = candidate.host {
                            say(Finding::Added(addr));
                        }
                        self.look_up();
                    }
                    Err(why) => say(Finding::Skipped(why)),
                },
                Some((name, found)) = self.names.recv() => match found {
                    Ok(ip) => self.uncover(&name, ip).await?,
                    Err(why) => {
                        self.hidden.retain(|candidate| !is_named(candidate, &name));
                        say(Finding::Unresolved { name, why });
                    }
                },
                next = self.endpoint.next() => if let Next::Notice(notice) = next {
                    say(Finding::Notice(notice));
                },
                _ = look.tick() => {
                    if self.endpoint.watch().refused() == Some(Refused::Theirs) {
                        return Err(LinkError::Certificate);
                    }
                }
                () = &mut too_long => return Err(self.no_channel()),
                () = tokio::time::sleep_until(until.into()) => return Err(self.no_path()),
            }
        }
    }

    /// The open link.
    ///
    /// # Errors
    /// [`LinkError::Closed`] before [`Pairing::opened`].
    pub fn into_link(self) -> Result<Link, LinkError> {
        Link::new(self.connection, self.endpoint, self.remote, self.patience)
    }

    /// Tries one more place of the peer; says why not, as the end of a sentence about it.
    async fn take(
        &mut self,
        candidate: &RemoteCandidate,
    ) -> anyhow::Result<Result<(), &'static str>> {
        if candidate.transport != Transport::Udp {
            return Ok(Err("is for TCP, and knothole sends over UDP"));
        }
        if candidate
            .ufrag
            .as_ref()
            .is_some_and(|ufrag| *ufrag != self.ufrag)
        {
            return Ok(Err("belongs to another description"));
        }
        if self.places.contains(&candidate.host) {
            return Ok(Ok(()));
        }
        if self.places.len() == MAX_CANDIDATES {
            return Ok(Err("is one too many"));
        }
        self.places.push(candidate.host.clone());
        match candidate.host {
            Host::Ip(addr) => self.add(candidate, addr).await?,
            Host::Name { .. } => self.hidden.push(candidate.clone()),
        }
        Ok(Ok(()))
    }

    /// Looks up all names that are not known, and forgets the search before: it is repeated.
    fn look_up(&mut self) {
        let mut names: Vec<String> = vec![];
        for candidate in &self.hidden {
            if let Host::Name { name, .. } = &candidate.host
                && !names.contains(name)
            {
                names.push(name.clone());
            }
        }
        if !names.is_empty() {
            self.names = names::look_up(names, self.endpoint.local());
        }
    }

    /// The candidates behind `name` are at `ip`.
    async fn uncover(&mut self, name: &str, ip: IpAddr) -> anyhow::Result<()> {
        let (known, hidden) = std::mem::take(&mut self.hidden)
            .into_iter()
            .partition(|candidate| is_named(candidate, name));
        self.hidden = hidden;
        let known: Vec<RemoteCandidate> = known;
        for candidate in known {
            if let Host::Name { port, .. } = candidate.host {
                let addr = SocketAddr::new(ip, port);
                if Candidate::new(Kind::Host, addr).problem().is_none() {
                    self.add(&candidate, addr).await?;
                }
            }
        }
        Ok(())
    }

    async fn add(&mut self, candidate: &RemoteCandidate, addr: SocketAddr) -> anyhow::Result<()> {
        let (kind, word, related) = match candidate.kind {
            CandidateKind::Host => (Kind::Host, "host", ""),
            CandidateKind::Srflx | CandidateKind::Prflx => {
                (Kind::Srflx, "srflx", " raddr 0.0.0.0 rport 0")
            }
            CandidateKind::Relay => (Kind::Relay, "relay", " raddr 0.0.0.0 rport 0"),
        };
        self.remote.candidates.push(Candidate::new(kind, addr));
        let line = format!(
            "candidate:{} 1 udp {} {} {} typ {word}{related}",
            candidate.foundation,
            candidate.priority,
            addr.ip(),
            addr.port()
        );
        self.connection.add_candidate(line).await
    }

    fn no_channel(&self) -> LinkError {
        match self.endpoint.watch().refused() {
            _ if self.connection.is_secure() => LinkError::NoChannel,
            Some(Refused::Theirs) => LinkError::Certificate,
            Some(Refused::Ours) => LinkError::CertificateRefused,
            None => LinkError::Handshake,
        }
    }

    fn no_path(&self) -> LinkError {
        LinkError::NoPath {
            after: self.bound,
            tried: self.remote.candidates.iter().map(|c| c.addr).collect(),
        }
    }
}

fn is_named(candidate: &RemoteCandidate, name: &str) -> bool {
    matches!(&candidate.host, Host::Name { name: named, .. } if named == name)
}
