//! The words that two persons compare: a short authentication string of both certificates.
//!
//! Somebody in the middle who exchanged the invite ends both connections with certificates of their
//! own, so the two screens show different words. Why sixty-six bits are enough without a commitment
//! is argued in `docs/protocol.md`.

use super::super::token::Fingerprint;

/// How many words are compared.
pub const COUNT: usize = 6;

/// Bits that one word stands for.
const BITS: u32 = 11;

/// Keeps this hash apart from every other one of the same fingerprints.
const DOMAIN: &[u8] = b"knothole words 1";

/// The English words of BIP-39: one a line, sorted, told apart by their first four letters. See
/// `words/LICENSE`.
const LIST: &str = include_str!("words/english.txt");

/// Words to be compared, in the order in which they are shown.
pub type Words = [&'static str; COUNT];

/// The words of a link between these two certificates, whichever is whose.
#[must_use]
pub fn words(mut fingerprints: [Fingerprint; 2]) -> Words {
    fingerprints.sort_unstable_by_key(|fingerprint| *fingerprint.as_bytes());
    let mut hasher = blake3::Hasher::new();
    hasher.update(DOMAIN);
    for fingerprint in &fingerprints {
        hasher.update(fingerprint.as_bytes());
    }
    let mut first = [0; 16];
    hasher.finalize_xof().fill(&mut first);
    let mut bits = u128::from_be_bytes(first);
    std::array::from_fn(|_| {
        bits = bits.rotate_left(BITS);
        let number = (bits & ((1 << BITS) - 1)) as usize;
        LIST.lines().nth(number).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_list_has_a_word_for_every_number_and_four_letters_tell_them_apart() {
        let list: Vec<&str> = LIST.lines().collect();
        assert_eq!(list.len(), 1 << BITS);
        for word in &list {
            assert!((3..=8).contains(&word.len()), "{word}");
            assert!(word.bytes().all(|b| b.is_ascii_lowercase()), "{word}");
        }
        let begins = |word: &&str| word[..word.len().min(4)].to_owned();
        let begins: Vec<String> = list.iter().map(begins).collect();
        assert!(begins.is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn the_documented_words_come_out() {
        let low = Fingerprint::new(std::array::from_fn(|n| n as u8));
        let high = Fingerprint::new(std::array::from_fn(|n| n as u8 + 32));
        let words = words([high, low]).join(" ");
        // Computed by another program.
        assert_eq!(words, "best athlete behind comic region pigeon");
        let document = include_str!("../../../docs/protocol.md");
        assert!(document.contains(&words));
    }

    proptest! {
        #[test]
        fn both_sides_see_the_same_words_and_others_with_another_certificate(
            ours: [u8; 32],
            theirs: [u8; 32],
            other: [u8; 32],
        ) {
            let [ours, theirs, other] = [ours, theirs, other].map(Fingerprint::new);
            let here = words([ours, theirs]);
            prop_assert_eq!(here, words([theirs, ours]));
            prop_assert!(here.iter().all(|word| !word.is_empty()));
            if other != theirs {
                prop_assert_ne!(here, words([ours, other]));
            }
        }
    }
}
