//! The agent takes what `proto::sdp` makes of other programs' descriptions. Nothing is sent: no
//! agent is given a candidate.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use knothole::proto::sdp::{self, Host, SdpType, Session, Transport};
use rtc::ice::candidate::unmarshal_candidate;
use rtc::ice::mdns::MulticastDnsMode;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCSessionDescription,
    SettingEngineBuilder,
};

/// The good descriptions of `tests/sdp`, with the names of their files.
fn corpus() -> Vec<(String, Session)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdp");
    let files = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let read = files.filter_map(|file| {
        let name = file.file_name().into_string().unwrap();
        let session = sdp::read(&std::fs::read_to_string(file.path()).unwrap()).ok()?;
        Some((name, session))
    });
    let corpus: Vec<_> = read.collect();
    assert!(corpus.len() > 10, "{}", corpus.len());
    corpus
}

struct Deaf;

impl PeerConnectionEventHandler for Deaf {}

async fn agent() -> impl PeerConnection {
    let settings = SettingEngineBuilder::new().with_multicast_dns_mode(MulticastDnsMode::Disabled);
    let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
    PeerConnectionBuilder::new()
        .with_handler(Arc::new(Deaf))
        .with_setting_engine(settings.build())
        .with_udp_addrs(vec![loopback])
        .build()
        .await
        .unwrap()
}

/// Answers an offer, or offers and takes an answer; returns our own description.
async fn exchange(kind: SdpType, theirs: String) -> String {
    let agent = agent().await;
    let ours = if kind == SdpType::Offer {
        let offer = RTCSessionDescription::offer(theirs).unwrap();
        agent.set_remote_description(offer).await.unwrap();
        agent.create_answer(None).await.unwrap().sdp
    } else {
        agent.create_data_channel("x", None).await.unwrap();
        let offer = agent.create_offer(None).await.unwrap();
        agent.set_local_description(offer.clone()).await.unwrap();
        let answer = RTCSessionDescription::answer(theirs).unwrap();
        agent.set_remote_description(answer).await.unwrap();
        offer.sdp
    };
    agent.close().await.unwrap();
    ours
}

#[tokio::test(flavor = "current_thread")]
async fn the_agent_takes_every_description_of_the_corpus() {
    for (name, session) in corpus() {
        let ours = exchange(session.probable_kind(), session.data_only()).await;
        // Which `proto::sdp` reads in turn.
        let ours = sdp::read(&ours).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            ours.probable_kind() == SdpType::Offer,
            session.probable_kind() == SdpType::Answer,
            "{name}"
        );
        if session.probable_kind() == SdpType::Offer {
            assert_eq!(ours.mid, session.mid, "{name}");
            let whole = sdp::read(&session.whole_answer(&ours.text)).unwrap();
            assert_eq!(whole.sections.len(), session.sections.len(), "{name}");
            assert_eq!(
                (whole.data, whole.ufrag),
                (session.data, ours.ufrag),
                "{name}"
            );
        }
    }
}

#[test]
fn the_agent_reads_the_same_in_every_candidate() {
    let mut seen = 0;
    for (name, session) in corpus() {
        for ours in &session.candidates {
            let line = ours.line.strip_prefix("candidate:").unwrap();
            let theirs =
                unmarshal_candidate(line).unwrap_or_else(|error| panic!("{name}: {line}: {error}"));
            let (host, port) = match &ours.host {
                Host::Ip(addr) => (addr.ip().to_string(), addr.port()),
                Host::Name { name, port } => (name.clone(), *port),
            };
            assert_eq!(
                (theirs.address(), theirs.port()),
                (host.as_str(), port),
                "{line}"
            );
            assert_eq!(
                theirs.candidate_type().to_string(),
                ours.kind.word(),
                "{line}"
            );
            assert_eq!(theirs.priority(), ours.priority, "{line}");
            // Of a name the agent knows the transport only when it knows the address.
            if matches!(ours.host, Host::Ip(_)) {
                let udp = ours.transport == Transport::Udp;
                assert_eq!(theirs.network_type().is_udp(), udp, "{line}");
            }
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}
