//! One peer connection of the `webrtc` crate on our sockets, with one data channel.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::peer_connection::certificate::CertificateParams;
use rtc::peer_connection::configuration::setting_engine::SctpMaxMessageSize;
use tokio::sync::{Mutex, OnceCell, mpsc, watch};
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::peer_connection::crypto::{self, SignatureScheme};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCCertificate,
    RTCConfigurationBuilder, RTCIceCandidateInit, RTCIceConnectionState, RTCIceGatheringState,
    RTCPeerConnectionState, RTCSessionDescription, SettingEngineBuilder,
};

use super::endpoint::Endpoint;
use super::issuer::MAX_ACCEPTED;
use super::runtime::PeerRuntime;
use super::socket::Granted;
use super::watch::Watch;
use crate::proto::link::{PeerKind, repair, size};
use crate::proto::token::Fingerprint;

/// Largest SCTP receive window: what a path of 200 Mbit/s and 50 ms holds three times. Behind a hole
/// that is repaired for a round trip or two, as much again must be able to wait.
const MAX_WINDOW: usize = 4 << 20;
/// Without the repair layer.
const MAX_BARE_WINDOW: usize = repair::BARE_ROOM as usize;
/// Of the socket buffer, what it holds of such datagrams as they come: a window above this stalls a
/// transfer for good when the buffer overflows (7.7 tenths worked, 9.2 did not).
const ROOM_TENTHS: usize = 6;
/// How often a connection is begun with new stand-in ports.
const ATTEMPTS: usize = 5;
/// What may wait in the crate before `send` waits, beyond the window that a peer without the layer
/// has. It is also what keeps bare datagrams from filling a larger window, which such a peer of ours
/// offers: with all of 4 MiB on the way one transfer of ten stalled.
const SEND_AHEAD: usize = 1 << 20;
/// What may be on the way to a plain peer: with more, Chromium falls to a quarter of its speed.
const PLAIN_AHEAD: usize = 256 << 10;
/// Between checks of one pair, on the crate's clock (RFC 8445 §14.2 has 50 ms as a minimum).
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// Checks of one pair; 65,535 would overflow a counter of the crate.
const MAX_CHECKS: u16 = 65_534;
/// On the crate's clock: 0.1 s of the wall's on a short path, 5 s on a long one. These checks
/// measure the round trip; keeping the mapping alive is the endpoint's work.
const CONSENT_INTERVAL: Duration = Duration::from_secs(5);
/// The label of the one data channel. The joiner opens it with a message (RFC 8832): the crate
/// loses what arrives on a channel that was agreed on without one before it is ready.
const CHANNEL: &str = "knothole";

/// A certificate made for one invitation or one joining, and its SHA-256.
pub struct Identity {
    certificate: RTCCertificate,
    pub fingerprint: Fingerprint,
}

impl Identity {
    /// # Errors
    /// When the crypto provider fails.
    pub fn generate() -> anyhow::Result<Self> {
        let provider = crypto::default_provider().map_err(|error| anyhow::anyhow!("{error}"))?;
        // The common name is on the wire in every handshake: it says nothing.
        let params = CertificateParams::new(vec!["peer".to_owned()])?;
        let certificate =
            RTCCertificate::generate(provider.crypto(), SignatureScheme::EcdsaP256Sha256, params)?;
        let first = certificate
            .get_fingerprints(provider.crypto())?
            .into_iter()
            .next();
        let fingerprint = first.context("a certificate without fingerprint")?.value;
        let fingerprint = fingerprint
            .parse()
            .map_err(|_| anyhow::anyhow!("fingerprint {fingerprint}"))?;
        Ok(Self {
            certificate,
            fingerprint,
        })
    }
}

/// What the crate said last about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct States {
    pub ice: RTCIceConnectionState,
    pub connection: RTCPeerConnectionState,
    pub gathering: RTCIceGatheringState,
    /// The peer opened a channel that was not asked for.
    pub crowded: bool,
}

/// Our ICE credentials (RFC 8445 §5.3).
pub struct Credentials {
    pub ufrag: String,
    pub password: String,
}

pub struct Connection {
    /// Of our certificate.
    pub fingerprint: Fingerprint,
    peer: Arc<dyn PeerConnection>,
    channel: OnceCell<Arc<dyn DataChannel>>,
    announced: Mutex<mpsc::Receiver<Arc<dyn DataChannel>>>,
    pub states: watch::Receiver<States>,
}

struct Handler {
    watch: Arc<Watch>,
    states: watch::Sender<States>,
    announced: mpsc::Sender<Arc<dyn DataChannel>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_connection_state_change(&self, state: RTCIceConnectionState) {
        log::debug!("ICE {state}");
        if is_path(state) {
            self.watch.layer().open();
        }
        self.states.send_modify(|states| states.ice = state);
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.states.send_modify(|states| states.gathering = state);
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        // One is expected. What comes on another, the crate would keep: up to 16 MiB for each.
        if self.announced.try_send(channel).is_err() {
            log::debug!("a second data channel");
            self.states.send_modify(|states| states.crowded = true);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        log::debug!("connection {state}");
        self.states.send_modify(|states| states.connection = state);
    }
}

/// Tries again what fails: between the moment when a stand-in port is freed and the moment when the
/// crate binds it, another program may have got it.
///
/// # Errors
/// The last one.
async fn several_times<T>(attempt: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    for _ in 1..ATTEMPTS {
        match attempt().await {
            Ok(made) => return Ok(made),
            Err(error) => log::debug!("once more: {error:#}"),
        }
    }
    attempt().await
}

impl Connection {
    /// Takes over the reading of `endpoint`.
    ///
    /// # Errors
    /// When the crate refuses the configuration.
    pub async fn build(
        endpoint: &Endpoint,
        identity: &Identity,
        credentials: Credentials,
        peer: PeerKind,
    ) -> anyhow::Result<Self> {
        let window = match peer {
            // The repair layer paces what comes, and repairs what overflows all the same.
            PeerKind::Knothole if endpoint.repairs() => MAX_WINDOW,
            _ => window(endpoint.granted()),
        };
        let (mtu, ahead) = match peer {
            // Made safe for smaller paths by `Socket`.
            PeerKind::Knothole => (size::SCTP_MTU, window.min(MAX_BARE_WINDOW) + SEND_AHEAD),
            PeerKind::Plain => (size::PLAIN_SCTP_MTU, PLAIN_AHEAD),
        };
        let settings = SettingEngineBuilder::new()
            // mDNS would join a multicast group, which fails on a host without such a route.
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_ice_credentials(credentials.ufrag, credentials.password)
            // Zero: never. A person may take an hour, and loss is judged on the wall clock.
            .with_ice_timeouts(
                Some(Duration::ZERO),
                Some(Duration::ZERO),
                Some(CONSENT_INTERVAL),
            )
            .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(MAX_CHECKS))
            .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(MAX_ACCEPTED))
            .with_sctp_mtu(mtu)
            .with_sctp_max_receive_buffer_size(u32::try_from(window).unwrap_or(u32::MAX))
            .build();
        let sockets = endpoint.hand_reading_over().await;
        let initial = States {
            ice: RTCIceConnectionState::New,
            connection: RTCPeerConnectionState::New,
            gathering: RTCIceGatheringState::New,
            crowded: false,
        };
        let (states_tx, states) = watch::channel(initial);
        let (announced_tx, announced) = mpsc::channel(1);
        let configuration = RTCConfigurationBuilder::new()
            .with_certificates(vec![identity.certificate.clone()])
            .build();
        let handler = Arc::new(Handler {
            watch: Arc::clone(endpoint.watch()),
            states: states_tx,
            announced: announced_tx,
        });
        let build = async || {
            let watch = Arc::clone(endpoint.watch());
            let runtime = Arc::new(PeerRuntime::new(watch, &sockets).context("bind loopback")?);
            let bind_addrs = runtime.bind_addrs();
            let handler: Arc<dyn PeerConnectionEventHandler> = Arc::clone(&handler) as _;
            let peer = PeerConnectionBuilder::new()
                .with_configuration(configuration.clone())
                .with_setting_engine(settings.clone())
                .with_handler(handler)
                .with_runtime(Arc::clone(&runtime) as _)
                .with_udp_addrs(bind_addrs)
                .with_data_channel_send_buffer_limit(ahead)
                .build()
                .await
                .context("peer connection")?;
            if !runtime.has_all() {
                if let Err(error) = peer.close().await {
                    log::debug!("close: {error}");
                }
                anyhow::bail!("peer connection: a loopback port is taken");
            }
            Ok(peer)
        };
        let peer = several_times(build).await?;
        Ok(Self {
            fingerprint: identity.fingerprint,
            peer: Arc::new(peer),
            channel: OnceCell::new(),
            announced: Mutex::new(announced),
            states,
        })
    }

    /// Offers, and takes `answer`: a text made here, after an invite or after the peer's own.
    ///
    /// # Errors
    /// When the crate refuses a description.
    pub async fn offer(&self, answer: String) -> anyhow::Result<()> {
        let channel = self.peer.create_data_channel(CHANNEL, None).await;
        self.channel.set(channel.context("data channel")?).ok();
        self.announced.lock().await.close();
        let offer = self.peer.create_offer(None).await.context("offer")?;
        self.peer
            .set_local_description(offer)
            .await
            .context("local offer")?;
        let answer = RTCSessionDescription::answer(answer).context("remote answer")?;
        self.peer
            .set_remote_description(answer)
            .await
            .context("remote answer")
    }

    /// Answers `offer`: a text made here too.
    ///
    /// # Errors
    /// When the crate refuses a description.
    pub async fn answer(&self, offer: String) -> anyhow::Result<()> {
        let offer = RTCSessionDescription::offer(offer).context("remote offer")?;
        self.peer
            .set_remote_description(offer)
            .await
            .context("remote offer")?;
        let answer = self.peer.create_answer(None).await.context("answer")?;
        self.peer
            .set_local_description(answer)
            .await
            .context("local answer")?;
        // Until then the crate has no local candidate, and drops checks that arrive.
        let mut states = self.states.clone();
        states
            .wait_for(|states| states.gathering == RTCIceGatheringState::Complete)
            .await
            .context("local candidates")?;
        Ok(())
    }

    /// One more address of the peer.
    ///
    /// # Errors
    /// When the crate refuses it.
    pub async fn add_candidate(&self, line: String) -> anyhow::Result<()> {
        let init = RTCIceCandidateInit {
            candidate: line,
            sdp_mid: Some("0".to_owned()),
            sdp_mline_index: Some(0),
            ..RTCIceCandidateInit::default()
        };
        self.peer.add_ice_candidate(init).await.context("candidate")
    }

    /// Resolves when the data channel is open. May be called again after it was dropped.
    ///
    /// # Errors
    /// When the connection was closed first.
    pub async fn opened(&self) -> anyhow::Result<()> {
        let Some(channel) = self.channel.get() else {
            let mut announced = self.announced.lock().await;
            let channel = announced.recv().await;
            let channel =
                channel.context("the connection closed before the data channel opened")?;
            announced.close();
            self.channel.set(channel).ok();
            return Ok(());
        };
        loop {
            match channel.poll().await {
                Some(DataChannelEvent::OnOpen) => return Ok(()),
                Some(DataChannelEvent::OnClose | DataChannelEvent::OnError) | None => {
                    anyhow::bail!("the data channel closed before it opened")
                }
                Some(_) => {}
            }
        }
    }

    /// Whether the DTLS handshake has finished.
    pub fn is_secure(&self) -> bool {
        self.states.borrow().connection == RTCPeerConnectionState::Connected
    }

    /// Resolves when the peer has opened a channel that was not asked for.
    pub async fn crowded(&self) {
        let mut states = self.states.clone();
        if states.wait_for(|states| states.crowded).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The data channel, once [`Connection::opened`].
    pub fn channel(&self) -> Option<&Arc<dyn DataChannel>> {
        self.channel.get()
    }

    pub async fn close(&self) {
        if let Err(error) = self.peer.close().await {
            log::debug!("close: {error}");
        }
    }
}

/// `count` characters of the ICE alphabet (RFC 8839 §5.4), 6 bits of entropy each.
pub fn random_text(count: usize) -> anyhow::Result<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = vec![0; count];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("system entropy: {error}"))?;
    Ok(bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte & 63)]))
        .collect())
}

/// Resolves when ICE has found a path.
pub async fn path_found(states: &mut watch::Receiver<States>) {
    if states.wait_for(|states| is_path(states.ice)).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn is_path(state: RTCIceConnectionState) -> bool {
    matches!(
        state,
        RTCIceConnectionState::Connected | RTCIceConnectionState::Completed
    )
}

/// What a socket holds when nobody reads, in bytes.
pub fn room(granted: Granted) -> usize {
    granted.receive / 10 * ROOM_TENTHS
}

/// The SCTP receive window for a socket buffer, in bytes.
fn window(granted: Granted) -> usize {
    room(granted).clamp(64 << 10, MAX_BARE_WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_fails_by_chance_is_tried_again_and_what_fails_always_is_told() {
        let count = std::cell::Cell::new(0);
        let attempt = async |good: usize| {
            count.set(count.get() + 1);
            anyhow::ensure!(count.get() >= good, "taken {}", count.get());
            Ok(count.get())
        };
        assert_eq!(several_times(async || attempt(3).await).await.unwrap(), 3);
        count.set(0);
        let error = several_times(async || attempt(99).await).await.unwrap_err();
        assert_eq!(error.to_string(), format!("taken {ATTEMPTS}"));
    }

    #[test]
    fn the_window_stays_under_what_the_socket_holds() {
        for receive in [212_992, 425_984, 1 << 20, 8 << 20] {
            let window = window(Granted {
                receive,
                send: receive,
            });
            assert!(window * 10 <= receive * 6, "{window} of {receive}");
            assert!(window <= MAX_BARE_WINDOW);
        }
    }
}
