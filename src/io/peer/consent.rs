//! Asks a plain WebRTC peer whether it is there: an ICE check of our own (RFC 7675 §5.1).
//!
//! The crate checks too, but on its own clock, which is slow in silence, just when an answer is
//! wanted. The answer to a check of ours never reaches the crate.

use std::fmt;

use rtc::stun::attributes::{
    ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USERNAME,
};
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};
use webrtc::peer_connection::crypto;

/// Of a peer-reflexive candidate (RFC 8445 §5.1.2), which is what an address seen in a check is.
const PRIORITY: u32 = (110 << 24) + (65_535 << 8) + 255;

/// What a check to one peer needs.
#[derive(Clone)]
pub struct Consent {
    /// The peer's fragment, a colon, our fragment.
    pub username: String,
    /// The peer's.
    pub password: String,
    /// Whether we are the side that chooses the path.
    pub controlling: bool,
}

/// Leaves out the password, and the name, which may contain one.
impl fmt::Debug for Consent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consent")
            .field("controlling", &self.controlling)
            .finish_non_exhaustive()
    }
}

impl Consent {
    /// The check with this transaction id.
    ///
    /// # Errors
    /// When the crypto provider fails.
    pub fn check(&self, id: [u8; 12]) -> anyhow::Result<Vec<u8>> {
        let provider = crypto::default_provider()?;
        let mut message = Message::new();
        message.set_type(BINDING_REQUEST);
        message.transaction_id = TransactionId(id);
        message.write_header();
        message.add(ATTR_USERNAME, self.username.as_bytes());
        message.add(ATTR_PRIORITY, &PRIORITY.to_be_bytes());
        // A tie-breaker that always loses: only the crate may settle a conflict (RFC 8445 §7.3.1.1).
        if self.controlling {
            message.add(ATTR_ICE_CONTROLLING, &u64::MIN.to_be_bytes());
        } else {
            message.add(ATTR_ICE_CONTROLLED, &u64::MAX.to_be_bytes());
        }
        let password = self.password.clone();
        MessageIntegrity::new_short_term_integrity_with_provider(password, provider.crypto())
            .add_to(&mut message)?;
        FINGERPRINT.add_to(&mut message)?;
        Ok(message.raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::link::PeerKind;
    use crate::proto::token::{self, Fingerprint, Secret};

    #[test]
    fn the_check_is_one_that_an_ice_agent_verifies() {
        // The reader of first checks is the strictest one here.
        let secret = Secret::new([3; 16]);
        let theirs =
            token::build_ufrag(PeerKind::Plain, &Fingerprint::new([5; 32]), &"p".repeat(22));
        for controlling in [true, false] {
            let consent = Consent {
                username: format!("{}:ours", theirs.clone().unwrap()),
                password: token::ice_password(&secret),
                controlling,
            };
            let check = consent.check([9; 12]).unwrap();
            assert_eq!(check[8..20], [9; 12]);
            let read = token::check::read(&check, &secret).unwrap();
            assert_eq!(read.ufrag, "ours");
            assert!(token::check::read(&check, &Secret::new([4; 16])).is_err());
            assert!(!format!("{consent:?}").contains("ours"));
        }
    }
}
