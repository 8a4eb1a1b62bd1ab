//! The side that was given an invite: connects at once wherever the issuer can be reached.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::connection::{Connection, Credentials, Identity};
use super::endpoint::{Endpoint, Network, seed};
use super::issuer::{MAX_MESSAGE, unix_now};
use anyhow::Context as _;

use super::link::{Link, LinkError};
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
        let connection = offer(&endpoint, invite).await?;
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
            self.endpoint.watch().restart(self.patience, seed()?);
            self.connection = offer(&self.endpoint, &self.invite).await?;
        }
    }

    /// The open link.
    ///
    /// # Errors
    /// [`LinkError::Closed`] before [`Joiner::opened`].
    pub fn into_link(self) -> Result<Link, LinkError> {
        Link::new(
            self.connection,
            self.endpoint,
            self.invite.fingerprint,
            self.invite.candidates,
            self.patience,
        )
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

/// Makes a real offer with credentials of its own, and invents the answer of the issuer.
async fn offer(endpoint: &Endpoint, invite: &Invite) -> Result<Connection, LinkError> {
    let identity = Identity::generate()?;
    let credentials = Credentials {
        ufrag: random_text(4)?,
        password: random_text(22)?,
    };
    let ufrag = token::build_ufrag(&identity.fingerprint, &credentials.password);
    let connection = Connection::build(endpoint, &identity, credentials).await?;
    let answer = Description {
        ufrag: &ufrag.context("our own password")?,
        password: &token::ice_password(&invite.secret),
        fingerprint: &invite.fingerprint,
        setup: Setup::Active,
        max_message_size: MAX_MESSAGE,
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

/// `count` characters of the ICE alphabet (RFC 8839 §5.4), 6 bits of entropy each.
fn random_text(count: usize) -> anyhow::Result<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = vec![0; count];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("system entropy: {error}"))?;
    Ok(bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte & 63)]))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn of(kind: Kind, addr: &str) -> Candidate {
        Candidate {
            kind,
            addr: addr.parse().unwrap(),
        }
    }
}
