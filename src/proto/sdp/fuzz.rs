//! What the fuzzer runs; kept here so that it breaks with the interface and not unnoticed.

use super::session::described;
use super::{
    Extent, MAX_CANDIDATES, SdpError, Session, extent, read, read_candidate, read_candidates,
    resembles,
};

/// Feeds arbitrary bytes to every reader of this module.
///
/// # Panics
///
/// When a description that was read does not survive being written and read again, a bound does
/// not hold, or a message repeats foreign text. That is what the fuzzer looks for.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    said(read_candidate(&text).err());
    match read_candidates(&text) {
        Ok(candidates) => assert!(candidates.usable.len() <= MAX_CANDIDATES),
        Err(error) => said(Some(error)),
    }
    match read(&text) {
        Err(error) => {
            said(Some(error));
            assert_ne!(extent(&text), Extent::Open, "it cannot be used");
        }
        Ok(whole) => {
            assert!(resembles(&text) && whole.candidates.len() <= MAX_CANDIDATES);
            let session = described(&text).expect("it was read");
            assert!(whole.candidates.starts_with(&session.candidates));
            let kind = session.probable_kind();
            let again = Session {
                kind: Some(kind),
                ..session.clone()
            };
            assert_eq!(read(&session.to_json(kind)), Ok(again));
            assert_eq!(
                read(&session.text),
                Ok(Session {
                    kind: None,
                    ..session.clone()
                })
            );
            let alone = read(&session.data_only()).expect("what was read can be written");
            let fields = |s: &Session| {
                (
                    s.ufrag.clone(),
                    s.password.clone(),
                    s.fingerprint,
                    s.setup,
                    s.sctp_port,
                    s.max_message_size,
                )
            };
            assert_eq!(fields(&alone), fields(&session));
        }
    }

    // A fuzzer does not guess a whole description: give it lines at the end of a good one.
    if !text.starts_with("v=0") {
        let whole = format!("{WHOLE}{text}");
        fuzz(whole.as_bytes());
    }
}

const WHOLE: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=ice-ufrag:abcd\r\n\
    a=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\na=fingerprint:sha-256 \
    00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n";

fn said(error: Option<SdpError>) {
    if let Some(error) = error {
        assert!(error.to_string().is_ascii() && error.hint().is_ascii());
    }
}
