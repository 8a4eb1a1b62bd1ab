//! A joiner on the bare `webrtc` crate: what a peer can do below messages, which a link of ours
//! would not.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use knothole::proto::link::PeerKind;
use knothole::proto::sdp::{Description, Setup};
use knothole::proto::token::{self, Invite};
use rtc::ice::mdns::MulticastDnsMode;
use rtc::peer_connection::certificate::CertificateParams;
use rtc::peer_connection::configuration::setting_engine::SctpMaxMessageSize;
use serde_json::{Value, json};
use tokio::time::timeout;
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::peer_connection::crypto::{self, SignatureScheme};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCCertificate,
    RTCConfigurationBuilder, RTCSessionDescription, SettingEngineBuilder,
};

use crate::env::{Env, Ran};
use crate::floods::MOST;
use crate::peers::{BOUND, fails, hash, hello, on_runtime};
use crate::process::{Process, start};

/// The most that the crate sends in one message.
const HUGE: usize = 262_144;

struct Raw {
    peer: Arc<dyn PeerConnection>,
    channel: Arc<dyn DataChannel>,
}

struct Deaf;
impl PeerConnectionEventHandler for Deaf {}

impl Raw {
    async fn join(invite: &Invite) -> Self {
        let provider = crypto::default_provider().unwrap();
        let params = CertificateParams::new(vec!["peer".to_owned()]).unwrap();
        let certificate =
            RTCCertificate::generate(provider.crypto(), SignatureScheme::EcdsaP256Sha256, params)
                .unwrap();
        let fingerprint = certificate.get_fingerprints(provider.crypto()).unwrap()[0]
            .value
            .parse()
            .unwrap();
        let password = "abcdefghijklmnopqrstuvwx";
        let settings = SettingEngineBuilder::new()
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_ice_credentials("raw4".to_owned(), password.to_owned())
            .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(HUGE as u32))
            .build();
        let configuration = RTCConfigurationBuilder::new()
            .with_certificates(vec![certificate])
            .build();
        let peer = PeerConnectionBuilder::new()
            .with_configuration(configuration)
            .with_setting_engine(settings)
            .with_handler(Arc::new(Deaf))
            .with_udp_addrs(vec![SocketAddr::from(([127, 0, 0, 1], 0))])
            .build()
            .await
            .unwrap();
        let channel = peer.create_data_channel("knothole", None).await.unwrap();
        let offer = peer.create_offer(None).await.unwrap();
        peer.set_local_description(offer).await.unwrap();
        let answer = Description {
            ufrag: &token::build_ufrag(PeerKind::Plain, &fingerprint, password).unwrap(),
            password: &token::ice_password(&invite.secret),
            fingerprint: &invite.fingerprint,
            setup: Setup::Active,
            max_message_size: HUGE as u32,
            candidates: &invite.candidates,
        };
        let answer = RTCSessionDescription::answer(answer.to_string()).unwrap();
        peer.set_remote_description(answer).await.unwrap();
        opened(&*channel).await;
        Self {
            peer: Arc::new(peer),
            channel,
        }
    }

    async fn say(&self, message: Value) {
        self.channel.send_text(&message.to_string()).await.unwrap();
    }

    /// The next control message of this kind.
    async fn hear_of(&self, kind: &str) {
        let heard = async {
            while let Some(event) = self.channel.poll().await {
                if let DataChannelEvent::OnMessage(message) = event
                    && message.is_string
                    && serde_json::from_slice::<Value>(&message.data).unwrap()["t"] == kind
                {
                    return;
                }
            }
            panic!("closed before {kind}");
        };
        timeout(BOUND, heard).await.expect("in time");
    }
}

async fn opened(channel: &dyn DataChannel) {
    let open = async {
        while let Some(event) = channel.poll().await {
            if matches!(event, DataChannelEvent::OnOpen) {
                return;
            }
        }
        panic!("closed before it opened");
    };
    timeout(BOUND, open).await.expect("in time");
}

/// Runs `send f ARGS` against a joiner that does `evil`, and hangs up when the program has ended.
fn against_send(env: &Env, args: &[&str], evil: impl AsyncFnOnce(&Raw, &Process)) -> Ran {
    on_runtime(async {
        let sender = start(env, &[&["send", "f"], args].concat());
        let raw = Raw::join(&token::parse_invite(&sender.invite()).unwrap()).await;
        evil(&raw, &sender).await;
        let ran = tokio::task::spawn_blocking(move || sender.ended())
            .await
            .unwrap();
        raw.peer.close().await.unwrap();
        ran
    })
}

fn peak(process: &Process) -> Option<u64> {
    crate::peers::peak(process.id())
}

#[test]
fn the_raw_joiner_can_also_be_honest() {
    let env = Env::new().file("f", "hello");
    let ran = against_send(&env, &[], async |raw, _| {
        raw.say(hello("receive")).await;
        raw.hear_of("manifest").await;
        raw.say(json!({"t": "accept"})).await;
        raw.hear_of("end").await;
        let ack = json!({"t": "ack", "i": 0, "blake3": hash(b"hello")});
        raw.say(ack).await;
        raw.hear_of("bye").await;
        raw.channel.close().await.unwrap();
    });
    assert_eq!(ran.code, 0, "{ran:#?}");
}

#[test]
fn messages_longer_than_allowed_are_refused() {
    for len in [65_537, HUGE] {
        for text in [true, false] {
            let env = Env::new().file("f", "hello");
            let ran = against_send(&env, &[], async |raw, _| {
                raw.say(hello("receive")).await;
                raw.hear_of("manifest").await;
                if text {
                    raw.channel.send_text(&" ".repeat(len)).await.unwrap();
                } else {
                    raw.channel.send(BytesMut::zeroed(len)).await.unwrap();
                }
                raw.hear_of("cancel").await;
                raw.channel.close().await.unwrap();
            });
            fails(&ran, 3, "the other side broke the protocol: ");
        }
    }
}

#[test]
fn a_second_channel_ends_the_transfer_before_it_fills_the_memory() {
    let env = Env::new().file("f", "hello");
    let ran = against_send(&env, &[], async |raw, sender| {
        raw.say(hello("receive")).await;
        raw.hear_of("manifest").await;
        let flood = async {
            for n in 0..1000 {
                let label = format!("knothole{n}");
                let other = raw.peer.create_data_channel(&label, None).await?;
                // What is sent before that fails, and a channel given up then was never there.
                while let Some(event) = other.poll().await {
                    if matches!(event, DataChannelEvent::OnOpen | DataChannelEvent::OnClose) {
                        break;
                    }
                }
                for _ in 0..256 {
                    other.send(BytesMut::zeroed(65_536)).await?;
                }
                if peak(sender).is_none_or(|peak| peak > MOST) {
                    break;
                }
            }
            Ok::<(), webrtc::error::Error>(())
        };
        let ended = async {
            while let Some(event) = raw.channel.poll().await {
                if matches!(event, DataChannelEvent::OnClose) {
                    break;
                }
            }
        };
        tokio::select! {
            _ = flood => {}
            () = ended => {}
        }
        assert!(peak(sender).unwrap_or(0) < MOST, "{:?} KiB", peak(sender));
    });
    fails(
        &ran,
        3,
        "the transfer was not finished: the peer opened a channel that nobody asked for",
    );
}
