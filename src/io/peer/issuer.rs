//! The side that makes the invite: waits on its own sockets for the first authenticated check.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rtc::peer_connection::configuration::setting_engine::SctpMaxMessageSize;
use tokio::sync::mpsc;

use super::connection::{Connection, Credentials, Identity};
use super::consent::Consent;
use super::endpoint::{Endpoint, Incoming, Network, Next, Notice, seed};
use super::link::{Link, LinkError, Remote};
use super::watch::Far;
use crate::io::random;
use crate::proto::link::PeerKind;
use crate::proto::link::repair::frame::{Keys, Role};
use crate::proto::sdp::{Description, Setup, candidate_line};
use crate::proto::token::{self, Candidate, Invite, Kind, Reply, Secret, check};

/// A joiner that proved it has the invite must finish DTLS within this.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Our NAT is opened toward a reply's addresses this often, until the joiner is here.
const OPENING: Duration = Duration::from_millis(300);
/// Addresses of typed replies that are kept open; the oldest goes first.
const MAX_REPLY_ADDRS: usize = 16;
/// Transaction ids of checks that were acted on: the same check again is a replay.
const MAX_USED_CHECKS: usize = 256;
/// Largest message that this side says it takes, and sends, in bytes.
pub(super) const MAX_MESSAGE: u32 = 65_536;
/// Largest message that the crate lets come in, in bytes. More than was said, because the crate
/// loses a longer one without a word: what breaks the protocol has to arrive to be refused. The
/// crate takes what the *other* side can take as a limit for what comes in, too, so the
/// descriptions that it is given say this.
pub(super) const MAX_ACCEPTED: u32 = SctpMaxMessageSize::MAX_MESSAGE_SIZE;

/// What happens while an invite waits.
#[derive(Debug)]
pub enum Waiting {
    Notice(Notice),
    /// The addresses changed: this invite replaces the one before, which may no longer work.
    Reissued(Invite),
    /// Somebody with the invite is here.
    Joining(SocketAddr),
    /// They did not finish the handshake; the invite stays good.
    Forgotten(SocketAddr),
}

/// Holds an invite open.
pub struct Issuer {
    endpoint: Endpoint,
    identity: Identity,
    secret: Secret,
    issued: u64,
    lifetime: Duration,
    until: Instant,
    patience: Duration,
    /// What typed replies name: our NAT is kept open toward these.
    opened: VecDeque<Candidate>,
    used: VecDeque<[u8; 12]>,
}

impl Issuer {
    /// Binds the sockets and gathers: at most three seconds.
    ///
    /// # Errors
    /// When no socket can be bound or the system has no entropy.
    pub async fn open(network: &Network, lifetime: Duration) -> Result<Self, LinkError> {
        let identity = Identity::generate()?;
        let secret = random().map_err(anyhow::Error::from)?;
        let endpoint = Endpoint::open(network)?;
        endpoint.gathered().await;
        Ok(Self {
            endpoint,
            identity,
            secret: Secret::new(secret),
            issued: unix_now(),
            lifetime,
            until: Instant::now() + lifetime,
            patience: network.patience,
            opened: VecDeque::new(),
            used: VecDeque::new(),
        })
    }

    /// The sockets, to ask about buffers, mappings and servers.
    pub fn endpoint(&mut self) -> &mut Endpoint {
        &mut self.endpoint
    }

    /// The invite with the addresses of now, and which addresses it leaves out.
    #[must_use]
    pub fn invite(&self) -> (Invite, Vec<(Candidate, &'static str)>) {
        let chosen = token::choose(&self.endpoint.candidates(), token::choose::INVITE_BUDGET);
        let invite = Invite {
            secret: self.secret.clone(),
            fingerprint: self.identity.fingerprint,
            issued: self.issued,
            lifetime: self.lifetime,
            candidates: chosen.kept,
        };
        (invite, chosen.left_out)
    }

    /// Waits for a joiner that proves that it has the invite and finishes the handshake. Typed
    /// replies come through `replies`; `say` is told what happens.
    ///
    /// # Errors
    /// [`LinkError::Expired`] when the invite's time is over.
    pub async fn wait(
        mut self,
        replies: &mut mpsc::Receiver<Reply>,
        mut say: impl FnMut(Waiting),
    ) -> Result<Link, LinkError> {
        let mut opening = tokio::time::interval(OPENING);
        opening.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let until = self.until;
            tokio::select! {
                next = self.endpoint.next() => {
                    let incoming = match next {
                        Next::Incoming(incoming) => incoming,
                        Next::Notice(notice) => {
                            let moved = matches!(notice, Notice::MappingMoved { .. });
                            say(Waiting::Notice(notice));
                            if moved {
                                say(Waiting::Reissued(self.invite().0));
                            }
                            continue;
                        }
                    };
                    let Some(joiner) = self.read_check(&incoming) else { continue };
                    say(Waiting::Joining(incoming.from));
                    match self.admit(&joiner, &incoming, replies).await? {
                        Some(connection) => {
                            let remote = Remote {
                                kind: joiner.kind,
                                fingerprint: joiner.fingerprint,
                                candidates: self.opened.into(),
                                // The description it invented for us says so; Chromium takes more.
                                max_message: MAX_MESSAGE as usize,
                            };
                            return Link::new(connection, self.endpoint, remote, self.patience);
                        }
                        None => say(Waiting::Forgotten(incoming.from)),
                    }
                }
                Some(reply) = replies.recv() => self.open_toward(&reply),
                _ = opening.tick(), if !self.opened.is_empty() => {
                    for candidate in &self.opened {
                        self.endpoint.open_toward(candidate.addr);
                    }
                }
                () = tokio::time::sleep_until(until.into()) => return Err(LinkError::Expired),
            }
        }
    }

    /// Reads a datagram as the first check of a joiner. Strangers and replays change nothing.
    fn read_check(&mut self, incoming: &Incoming) -> Option<check::Joiner> {
        let joiner = match check::read(&incoming.contents, &self.secret) {
            Ok(joiner) => joiner,
            Err(ignored) => {
                log::debug!(
                    "ignored {} bytes from {}: {ignored}",
                    incoming.contents.len(),
                    incoming.from
                );
                return None;
            }
        };
        let id: [u8; 12] = incoming.contents.get(8..20)?.try_into().ok()?;
        if self.used.contains(&id) {
            log::debug!("ignored a repeated check from {}", incoming.from);
            return None;
        }
        if self.used.len() == MAX_USED_CHECKS {
            self.used.pop_front();
        }
        self.used.push_back(id);
        Some(joiner)
    }

    /// Builds the peer connection for one joiner; `None` if it did not finish in time.
    async fn admit(
        &mut self,
        joiner: &check::Joiner,
        first: &Incoming,
        replies: &mut mpsc::Receiver<Reply>,
    ) -> Result<Option<Connection>, LinkError> {
        let far = match joiner.kind {
            PeerKind::Knothole => Far::Knothole,
            PeerKind::Plain => Far::Plain(Consent {
                username: format!("{}:{}", joiner.ufrag, joiner.our_ufrag),
                password: joiner.pwd.clone(),
                // The joiner made the offer.
                controlling: false,
            }),
        };
        self.endpoint.watch().restart(self.patience, seed()?, far);
        let credentials = Credentials {
            ufrag: joiner.our_ufrag.clone(),
            password: token::ice_password(&self.secret),
        };
        if joiner.kind == PeerKind::Knothole {
            let keys = Keys::new(Role::Answerer, &credentials.password, &joiner.pwd);
            self.endpoint.start_layer(keys)?;
        }
        let built = Connection::build(&self.endpoint, &self.identity, credentials, joiner.kind);
        let connection = built.await?;
        match self.serve(&connection, joiner, first, replies).await {
            Ok(()) => return Ok(Some(connection)),
            // A joiner's fault is no reason to stop waiting for another.
            Err(error) => log::debug!("joiner {}: {error:#}", first.from),
        }
        connection.close().await;
        // Nobody is left who would acknowledge what it repeats.
        self.endpoint.watch().layer().stop();
        self.endpoint.take_reading_back();
        Ok(None)
    }

    /// Connects one joiner, within [`HANDSHAKE`].
    async fn serve(
        &mut self,
        connection: &Connection,
        joiner: &check::Joiner,
        first: &Incoming,
        replies: &mut mpsc::Receiver<Reply>,
    ) -> anyhow::Result<()> {
        let mut candidates = vec![Candidate::new(Kind::Host, first.from)];
        let replied = self.opened.iter().copied();
        candidates.extend(replied.filter(|candidate| candidate.addr != first.from));
        let offer = Description {
            ufrag: &joiner.ufrag,
            password: &joiner.pwd,
            fingerprint: &joiner.fingerprint,
            setup: Setup::ActPass,
            max_message_size: MAX_ACCEPTED,
            candidates: &candidates,
        };
        connection.answer(offer.to_string()).await?;
        // The crate answers the check that brought the joiner here, instead of its repetition.
        Endpoint::replay(first);
        let deadline = tokio::time::sleep(HANDSHAKE);
        tokio::pin!(deadline);
        let mut added = candidates.len();
        loop {
            tokio::select! {
                opened = connection.opened() => return opened,
                Some(reply) = replies.recv() => {
                    self.open_toward(&reply);
                    for candidate in reply.candidates {
                        connection.add_candidate(candidate_line(candidate, added)).await?;
                        added += 1;
                    }
                }
                () = &mut deadline => anyhow::bail!("no handshake within {} s", HANDSHAKE.as_secs()),
            }
        }
    }

    fn open_toward(&mut self, reply: &Reply) {
        for candidate in &reply.candidates {
            if self.opened.contains(candidate) {
                continue;
            }
            if self.opened.len() == MAX_REPLY_ADDRS {
                self.opened.pop_front();
            }
            self.opened.push_back(*candidate);
            self.endpoint.open_toward(candidate.addr);
        }
    }
}

/// Seconds since 1970; a clock before that counts as 1970.
#[must_use]
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
