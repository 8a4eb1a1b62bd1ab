//! The reply code: the joiner's addresses, short enough to read aloud.
//!
//! One IPv4 address takes exactly 12 characters; anything else takes the long form, which is never
//! 12 characters long.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::TokenError;
use super::candidate::{self, Candidate, Kind, NoEnd};
use super::code::{LONG, SHORT};
use super::text::{Packer, Reading, SYMBOL_BITS, Unpacker, is_readable, symbol};

/// The most candidates a reply code carries.
pub const MAX_CANDIDATES: usize = 8;

/// Symbols of the short form.
const SHORT_LEN: usize = 12;
/// Shortest and longest long form: two IPv4 on one port; eight IPv6.
const LONG_LEN: std::ops::RangeInclusive<usize> = 22..=243;
/// A count of symbols between the forms: this many or more are a long form cut short.
const NEARER_LONG: usize = 18;
/// Printed in groups of so many.
const GROUP: usize = 4;

/// Where a joiner may be reached: the issuer sends there and so opens its own NAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 1 to [`MAX_CANDIDATES`] addresses.
    pub candidates: Vec<Candidate>,
}

impl Reply {
    /// Makes a reply that comes back equal from [`parse_reply`](super::parse_reply).
    ///
    /// # Errors
    ///
    /// [`TokenError::BadField`] without candidates, with too many, or with one that nothing can be
    /// sent to.
    pub fn new(candidates: Vec<Candidate>) -> Result<Self, TokenError> {
        let candidates = candidate::checked(candidates, MAX_CANDIDATES);
        candidates
            .map(|candidates| Self { candidates })
            .map_err(TokenError::BadField)
    }

    /// Writes the code in groups of four: `XXXX-XXXX-XXXX`.
    ///
    /// Fields that [`new`](Self::new) would refuse give a text that no parser accepts; candidates
    /// beyond [`MAX_CANDIDATES`] are left out.
    #[must_use]
    pub fn encode(&self) -> String {
        let word = short_form(&self.candidates).unwrap_or_else(|| long_form(&self.candidates));
        let groups: Vec<String> = word
            .chunks(GROUP)
            .map(|group| group.iter().copied().map(symbol).collect())
            .collect();
        groups.join("-")
    }
}

/// Characters of a reply with these candidates, hyphens not counted.
pub(super) fn encoded_len(candidates: &[Candidate]) -> usize {
    if short_form(candidates).is_some() {
        SHORT_LEN
    } else {
        word_len(candidate::list_bits(candidates))
    }
}

/// Looks for a reply code: the text as a whole, or a word in it that is written in groups.
///
/// `None` when nothing looks like one.
pub(super) fn search(text: &str, reading: &Reading) -> Option<Result<Reply, TokenError>> {
    let whole = read(&reading.values);
    if whole.is_ok() {
        return Some(whole);
    }
    let grouped: Vec<_> = text.split_whitespace().filter_map(grouped_word).collect();
    let found = grouped
        .iter()
        .map(|word| read(&word.values))
        .find(Result::is_ok);
    found
        .or_else(|| looks_like_reply(text, reading).then_some(whole))
        .or_else(|| grouped.first().map(|word| read(&word.values)))
}

/// Reads a word without looking at the text around it.
pub(super) fn read(values: &[u8]) -> Result<Reply, TokenError> {
    match values.len() {
        0 => Err(TokenError::NotAToken),
        SHORT_LEN => read_short(values),
        have if have < SHORT_LEN => Err(TokenError::Truncated {
            have,
            need: SHORT_LEN,
        }),
        have if have < NEARER_LONG => Err(TokenError::Extra {
            have,
            need: SHORT_LEN,
        }),
        have if have < *LONG_LEN.start() => Err(TokenError::Truncated {
            have,
            need: *LONG_LEN.start(),
        }),
        have if have > *LONG_LEN.end() + NEARER_LONG => Err(TokenError::NotAToken),
        _ => read_long(values),
    }
}

fn read_short(word: &[u8]) -> Result<Reply, TokenError> {
    let finding = SHORT.explain(SHORT.step_all(word), word);
    if let Some(mistake) = TokenError::from_finding(finding, word, Some(GROUP)) {
        return Err(mistake);
    }
    if !SHORT.is_right(word) || !word.iter().copied().all(is_readable) {
        return Err(TokenError::Damaged);
    }
    decode_short(word).and_then(|candidate| Reply::new(vec![candidate]))
}

fn decode_short(word: &[u8]) -> Result<Candidate, TokenError> {
    let cut = TokenError::BadField("it is cut off");
    let mut bits = Unpacker::new(word, SYMBOL_BITS, 0);
    let fields = (
        bits.take(32).and_then(|b| u32::try_from(b).ok()),
        bits.take_u16(),
        bits.take(2),
    );
    let (Some(ip), Some(port), Some(kind)) = fields else {
        return Err(cut);
    };
    let addr = SocketAddr::new(Ipv4Addr::from_bits(ip).into(), port);
    Ok(Candidate::new(Kind::from_code(kind), addr))
}

fn read_long(word: &[u8]) -> Result<Reply, TokenError> {
    let state = LONG.step_all(word);
    let finding = LONG.explain(state, word);
    if let Some(mistake) = TokenError::from_finding(finding, word, Some(GROUP)) {
        let mut repaired = word.to_vec();
        finding.repair(&mut repaired);
        if length(&repaired) == Some(word.len()) && decode_long(&repaired).is_ok() {
            return Err(mistake);
        }
    } else if LONG.is_right(word)
        && word.iter().copied().all(is_readable)
        && length(word) == Some(word.len())
    {
        return decode_long(word).map_err(TokenError::BadField);
    }
    let have = word.len();
    Err(match length(word) {
        Some(need) if have < need => TokenError::Truncated { have, need },
        Some(need) if have > need => TokenError::Extra { have, need },
        _ => TokenError::Damaged,
    })
}

fn decode_long(word: &[u8]) -> Result<Reply, &'static str> {
    let data = word.get(..word.len() - LONG.checks()).unwrap_or_default();
    let mut bits = Unpacker::new(data, SYMBOL_BITS, 0);
    let candidates = candidate::take_list(&mut bits, MAX_CANDIDATES)?;
    if !bits.only_padding_left() {
        return Err("its padding is not empty");
    }
    if short_form(&candidates).is_some() {
        return Err("one IPv4 address has a shorter form");
    }
    Ok(Reply { candidates })
}

/// The length of a long form by its tags; at least this, when the last tag is missing.
fn length(word: &[u8]) -> Option<usize> {
    match candidate::list_end(word, 0, MAX_CANDIDATES) {
        Ok(bits) | Err(NoEnd::Short { end: bits }) => Some(word_len(bits)),
        Err(NoEnd::Malformed) => None,
    }
}

fn word_len(data_bits: usize) -> usize {
    data_bits.div_ceil(SYMBOL_BITS) + LONG.checks()
}

/// Address 32 bits, port 16, kind 2, then two check symbols.
fn short_form(candidates: &[Candidate]) -> Option<Vec<u8>> {
    let [candidate] = candidates else { return None };
    let Candidate { kind, addr } = candidate.normal();
    let IpAddr::V4(ip) = addr.ip() else {
        return None;
    };
    let mut packer = Packer::new(SYMBOL_BITS);
    packer.put(ip.to_bits().into(), 32);
    packer.put(addr.port().into(), 16);
    packer.put(kind.code(), 2);
    let mut word = packer.finish();
    SHORT.append(&mut word);
    Some(word)
}

fn long_form(candidates: &[Candidate]) -> Vec<u8> {
    let mut packer = Packer::new(SYMBOL_BITS);
    candidate::put_list(&mut packer, candidates, MAX_CANDIDATES);
    let mut word = packer.finish();
    LONG.append(&mut word);
    word
}

/// A word written as `XXXX-XXXX-XX`, with whatever punctuation around it.
fn grouped_word(word: &str) -> Option<Reading> {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric());
    let mut groups = word.split('-').map(|group| group.chars().count()).rev();
    let last = groups.next()?;
    let grouped =
        (1..=GROUP).contains(&last) && groups.next()? == GROUP && groups.all(|n| n == GROUP);
    grouped
        .then(|| Reading::of(word))
        .filter(|r| r.values.len() >= SHORT_LEN - GROUP)
}

/// Nothing but groups of four, or one word with digits in it.
fn looks_like_reply(text: &str, reading: &Reading) -> bool {
    let groups: Vec<&str> = text
        .split(|c: char| c == '-' || c.is_whitespace())
        .filter(|g| !g.is_empty())
        .collect();
    let in_fours = groups.len() >= 3
        && groups
            .iter()
            .rev()
            .skip(1)
            .all(|g| g.chars().count() == GROUP)
        && groups.iter().all(|g| g.chars().all(char::is_alphanumeric));
    let one_word = text.split_whitespace().count() == 1;
    in_fours || (one_word && reading.values.len() >= 8 && reading.digits(0, SHORT_LEN) > 0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::candidate::tests::{any_candidate, candidate};
    use super::super::{parse, parse_reply};
    use super::*;
    use proptest::prelude::*;

    /// The test vectors of docs/token.md.
    const SRFLX: &str = "SC07-21ZE-91H0";
    const IPV6: &str = "4400-GVE0-0000-0000-0000-0000-0231-WP8B-FQ";
    const TWO: &str = "9SC0-721Z-E908-5000-05H0-2S";

    fn reply(addresses: &[(Kind, &str)]) -> Reply {
        Reply::new(
            addresses
                .iter()
                .map(|&(kind, addr)| candidate(kind, addr))
                .collect(),
        )
        .unwrap()
    }

    fn srflx() -> Reply {
        reply(&[(Kind::Srflx, "203.0.113.7:61000")])
    }

    fn two() -> Reply {
        reply(&[
            (Kind::Srflx, "203.0.113.7:61000"),
            (Kind::Host, "10.0.0.5:61000"),
        ])
    }

    pub fn any_reply() -> impl Strategy<Value = Reply> {
        prop::collection::vec(any_candidate(), 1..=MAX_CANDIDATES)
            .prop_map(|list| Reply::new(list).unwrap())
    }

    fn replaced(code: &str, at: usize, by: char) -> String {
        code.chars()
            .enumerate()
            .map(|(i, c)| if i == at { by } else { c })
            .collect()
    }

    #[test]
    fn the_test_vectors_of_the_document_hold() {
        let document = include_str!("../../../docs/token.md");
        let ipv6 = reply(&[(Kind::Host, "[2001:db8::10]:50123")]);
        for (reply, text, len) in [(srflx(), SRFLX, 12), (ipv6, IPV6, 34), (two(), TWO, 22)] {
            assert_eq!(reply.encode(), text);
            assert_eq!(text.replace('-', "").len(), len);
            assert_eq!(encoded_len(&reply.candidates), len);
            assert_eq!(parse_reply(text), Ok(reply));
            assert!(document.contains(text));
        }
    }

    #[test]
    fn the_longest_reply_has_the_stated_length() {
        let list = (1..=8)
            .map(|i| candidate(Kind::Relay, &format!("[2001:db8::{i}]:{i}")))
            .collect();
        let text = Reply::new(list).unwrap().encode();
        assert_eq!(text.replace('-', "").len(), *LONG_LEN.end());
    }

    #[test]
    fn case_grouping_and_words_around_it_do_not_matter() {
        let plain = SRFLX.replace('-', "");
        for text in [
            plain.to_lowercase(),
            plain.chars().flat_map(|c| [c, ' ']).collect(),
            SRFLX.replace('-', " "),
            format!("the code is {SRFLX}, ok?"),
            format!("> `{SRFLX}`\n"),
        ] {
            assert_eq!(parse_reply(&text), Ok(srflx()), "{text}");
        }
    }

    #[test]
    fn every_wrong_symbol_is_named_with_its_group() {
        for code in [SRFLX, IPV6, TWO] {
            let places = code.chars().enumerate().filter(|&(_, c)| c != '-');
            for (position, (at, right)) in (1..).zip(places) {
                let wrong = if right == 'Z' { 'Y' } else { 'Z' };
                let group = Some((position - 1) / 4 + 1);
                let expected = TokenError::Typo {
                    position,
                    group,
                    read: Some(wrong),
                    probably: right,
                };
                assert_eq!(
                    parse_reply(&replaced(code, at, wrong)),
                    Err(expected.clone())
                );
                assert_eq!(parse(&replaced(code, at, wrong)), Err(expected));
            }
        }
    }

    #[test]
    fn swapped_neighbours_are_named() {
        let symbols: Vec<char> = SRFLX.chars().filter(|&c| c != '-').collect();
        for at in (0..symbols.len() - 1).filter(|&at| symbols[at] != symbols[at + 1]) {
            let mut typed = symbols.clone();
            typed.swap(at, at + 1);
            let group = Some(at / 4 + 1);
            let expected = TokenError::Swapped {
                position: at + 1,
                group,
            };
            assert_eq!(
                parse_reply(&typed.into_iter().collect::<String>()),
                Err(expected)
            );
        }
    }

    #[test]
    fn missing_and_extra_symbols_are_counted() {
        let short = SRFLX.replace('-', "");
        assert_eq!(
            parse_reply(&short[..11]),
            Err(TokenError::Truncated { have: 11, need: 12 })
        );
        assert_eq!(
            parse_reply(&format!("{short}7")),
            Err(TokenError::Extra { have: 13, need: 12 })
        );
        let long = IPV6.replace('-', "");
        assert_eq!(
            parse_reply(&long[..30]),
            Err(TokenError::Truncated { have: 30, need: 34 })
        );
        assert_eq!(
            parse_reply(&format!("{long}7")),
            Err(TokenError::Extra { have: 35, need: 34 })
        );
    }

    #[test]
    fn a_right_check_over_an_impossible_address_is_told_apart() {
        assert_eq!(
            parse_reply("0000-0000-0000"),
            Err(TokenError::BadField("a port is 0"))
        );
    }

    #[test]
    fn one_ipv4_address_in_the_long_form_is_refused() {
        let mut packer = Packer::new(SYMBOL_BITS);
        candidate::put_list(&mut packer, &srflx().candidates, 8);
        let mut word = packer.finish();
        LONG.append(&mut word);
        assert!(decode_long(&word).is_err());
    }

    #[test]
    fn prose_is_not_taken_for_a_damaged_reply() {
        for text in [
            "what is the code?",
            "conversation",
            "you should see it now, it has 12 characters",
        ] {
            assert_eq!(parse(text), Err(TokenError::NotAToken), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_reply_comes_back(reply in any_reply()) {
            prop_assert_eq!(parse_reply(&reply.encode()), Ok(reply.clone()));
            prop_assert_eq!(reply.encode().replace('-', "").len(), encoded_len(&reply.candidates));
        }

        #[test]
        fn one_wrong_symbol_in_any_reply_is_named(reply in any_reply(), place in any::<prop::sample::Index>(), by in 1u8..32) {
            let code = reply.encode();
            let places: Vec<usize> = (0..code.len()).filter(|&i| &code[i..=i] != "-").collect();
            let index = place.index(places.len());
            let right = code.chars().nth(places[index]).unwrap();
            let wrong = symbol(Reading::of(&right.to_string()).values[0] ^ by);
            let expected = TokenError::Typo { position: index + 1, group: Some(index / 4 + 1), read: Some(wrong), probably: right };
            prop_assert_eq!(parse_reply(&replaced(&code, places[index], wrong)), Err(expected));
        }
    }
}
