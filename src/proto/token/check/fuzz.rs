//! What the fuzzer runs: datagrams as they come, and checks of one who knows the secret, bent.

use rtc_stun::attributes::{ATTR_MESSAGE_INTEGRITY, ATTR_USERNAME, AttrType};
use rtc_stun::crypto::default_provider;
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};

use super::{BASE64, Fingerprint, HEADER, Ignored, Joiner, Secret};
use super::{build_ufrag, ice_password, read};
use crate::proto::fuzz::Input;
use crate::proto::link::PeerKind;

/// Reads `data` as a datagram, and as the recipe of a check.
///
/// # Panics
///
/// When a datagram is believed that another implementation does not verify, when a sound check is
/// refused, or when a bent one says something else than before.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    // The one of the vector in docs/token.md, which is a seed.
    let secret = Secret::new([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    let _ = believed(data, &secret);
    let mut input = Input(data);
    let (datagram, sound) = check(&mut input, &secret);
    let right = believed(&datagram, &secret);
    if let Some((fingerprint, ufrag)) = sound {
        let joiner = right.as_ref().expect("a sound check is read");
        assert_eq!((joiner.fingerprint, &joiner.ufrag), (fingerprint, &ufrag));
    }
    let mut bent = datagram.clone();
    for _ in 0..=input.below(4) {
        let at = usize::from(u16::from_be_bytes(input.array())) % bent.len();
        bent[at] ^= input.byte().unwrap_or(1);
    }
    if let Ok(joiner) = believed(&bent, &secret) {
        assert_eq!(right.as_ref(), Ok(&joiner), "bent into another answer");
    }
    let cut = datagram.len() - 1 - usize::from(u16::from_be_bytes(input.array())) % datagram.len();
    assert!(read(&datagram[..cut], &secret).is_err(), "cut at {cut}");
}

/// Reads a datagram, and has what was believed verified by the crate that others use.
fn believed(datagram: &[u8], secret: &Secret) -> Result<Joiner, Ignored> {
    let joiner = read(datagram, secret)?;
    let mut message = Message::new();
    message
        .unmarshal_binary(datagram)
        .expect("a STUN message to both");
    let name = format!("{}:{}", joiner.our_ufrag, joiner.ufrag);
    assert_eq!(
        message.get(ATTR_USERNAME).ok().as_deref(),
        Some(name.as_bytes())
    );
    assert_eq!(
        build_ufrag(joiner.kind, &joiner.fingerprint, &joiner.pwd),
        Some(joiner.our_ufrag.clone())
    );
    let provider = default_provider().expect("a provider is compiled in");
    let key = ice_password(secret);
    MessageIntegrity::check(&mut message, key.as_bytes(), provider.crypto())
        .expect("verified by both");
    Ok(joiner)
}

/// A signed check, and what it says if it is sound.
fn check(input: &mut Input<'_>, secret: &Secret) -> (Vec<u8>, Option<(Fingerprint, String)>) {
    let provider = default_provider().expect("a provider is compiled in");
    let kind = input.byte().unwrap_or(0);
    let fingerprint = Fingerprint::new(input.array());
    let pwd = word(input, 22 + usize::from(kind % 3) * 95);
    let tag = if kind & 0x20 == 0 {
        PeerKind::Knothole
    } else {
        PeerKind::Plain
    };
    let our_ufrag = build_ufrag(tag, &fingerprint, &pwd);
    let len = input.below(12);
    let ufrag = word(input, len);
    let mut message = Message::new();
    message.set_type(BINDING_REQUEST);
    message.transaction_id = TransactionId(input.array());
    message.write_header();
    let mut sound = ufrag.len() >= 4;
    for _ in 0..input.below(4) {
        let kind = u16::from_be_bytes(input.array());
        let len = input.below(40);
        message.add(AttrType(kind), input.take(len));
        sound &= kind == 0x24 || kind == 0x25;
    }
    let Some(our_ufrag) = our_ufrag else {
        return (message.raw, None);
    };
    message.add(ATTR_USERNAME, format!("{our_ufrag}:{ufrag}").as_bytes());
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider(
        ice_password(secret),
        provider.crypto(),
    );
    if integrity.add_to(&mut message).is_err() {
        message.add(ATTR_MESSAGE_INTEGRITY, &[0; 20]);
    }
    if kind & 0x80 == 0 {
        let after = input.below(16);
        message.add(AttrType(0x8022), input.take(after));
    }
    if kind & 0x40 == 0 && FINGERPRINT.add_to(&mut message).is_err() {
        sound = false;
    }
    debug_assert!(message.raw.len() > HEADER);
    (message.raw, sound.then_some((fingerprint, ufrag)))
}

/// Characters that ICE allows.
fn word(input: &mut Input<'_>, len: usize) -> String {
    let mut bytes = input.take(len).to_vec();
    bytes.resize(len, 0);
    let letter = |byte: u8| char::from(BASE64[usize::from(byte & 63)]);
    bytes.into_iter().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_recipe_makes_a_check_that_lies(data in prop::collection::vec(any::<u8>(), 0..300)) {
            super::fuzz(&data);
        }
    }
}
