//! The invite: everything a joiner needs, in about 110 characters, findable in chat text.
//!
//! Leaves to others what the secret is for ([`check`](super::check)) and which addresses are worth
//! the room ([`choose`](super::choose)).

use std::time::Duration;

use super::candidate::{self, Candidate, NoEnd};
use super::code::{Finding, LONG};
use super::text::{Packer, Reading, SYMBOL_BITS, Unpacker, is_readable, symbol};
use super::{Fingerprint, Secret, TokenError};

/// The most candidates an invite carries.
pub const MAX_CANDIDATES: usize = 16;

/// The longest lifetime an invite can state: 30 days.
pub const MAX_LIFETIME: Duration = Duration::from_hours(30 * 24);

/// 2026-01-01T00:00:00Z in Unix seconds; issue times count minutes from here.
const EPOCH: u64 = 1_767_225_600;
/// Minutes fit 24 bits until November 2057.
const LAST_MINUTE: u64 = (1 << 24) - 1;

/// Symbol values of `KH`: the mark of format 1. Later formats are KJ, KK, KM and so on.
const PREFIX: [u8; 2] = [19, 17];
const SECRET_BITS: usize = 128;
const FINGERPRINT_BITS: usize = 256;
const ISSUED_BITS: usize = 24;
const LIFETIME_BITS: usize = 6;
const HEAD_BITS: usize = SECRET_BITS + FINGERPRINT_BITS + ISSUED_BITS + LIFETIME_BITS;

/// Characters of the shortest invite (one IPv4 address) and the longest (16 IPv6, no shared port).
const SHORTEST: usize = 100;
const LONGEST: usize = 566;

/// An offer to connect. Whoever holds it can take the joiner's place once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// Authenticates the joiner.
    pub secret: Secret,
    /// SHA-256 of the issuer's certificate.
    pub fingerprint: Fingerprint,
    /// When it was made, Unix seconds, a whole minute.
    pub issued: u64,
    /// How long it is good for, one of the steps of the lifetime table.
    pub lifetime: Duration,
    /// Where the issuer may be reached, 1 to [`MAX_CANDIDATES`].
    pub candidates: Vec<Candidate>,
}

impl Invite {
    /// Makes an invite that comes back equal from [`parse_invite`](super::parse_invite): rounds
    /// `now` (Unix seconds) down to a minute and `lifetime` up to a step of the table, 30 days at
    /// most.
    ///
    /// # Errors
    ///
    /// [`TokenError::BadField`] without candidates, with too many, or with one that nothing can be
    /// sent to.
    pub fn new(
        secret: Secret,
        fingerprint: Fingerprint,
        now: u64,
        lifetime: Duration,
        candidates: Vec<Candidate>,
    ) -> Result<Self, TokenError> {
        Ok(Self {
            secret,
            fingerprint,
            issued: unix_time(minute(now)),
            lifetime: lifetime_of(lifetime_code(lifetime)),
            candidates: candidate::checked(candidates, MAX_CANDIDATES)
                .map_err(TokenError::BadField)?,
        })
    }

    /// Writes the invite: upper case letters and digits only.
    ///
    /// Fields that [`new`](Self::new) would refuse give a text that no parser accepts; candidates
    /// beyond [`MAX_CANDIDATES`] are left out.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut packer = Packer::new(SYMBOL_BITS);
        packer.put_bytes(self.secret.as_bytes());
        packer.put_bytes(self.fingerprint.as_bytes());
        packer.put(minute(self.issued).into(), ISSUED_BITS);
        packer.put(lifetime_code(self.lifetime).into(), LIFETIME_BITS);
        candidate::put_list(&mut packer, &self.candidates, MAX_CANDIDATES);
        let mut word = PREFIX.to_vec();
        word.extend(packer.finish());
        LONG.append(&mut word);
        word.into_iter().map(symbol).collect()
    }

    /// The first Unix second at which the invite is no longer good: the end of the minute in which
    /// its lifetime ends, so that rounding never shortens it.
    #[must_use]
    pub fn expires_at(&self) -> u64 {
        self.issued
            .saturating_add(self.lifetime.as_secs())
            .saturating_add(60)
    }

    /// Whether the lifetime is over at `now`, Unix seconds.
    #[must_use]
    pub fn is_expired(&self, now: u64) -> bool {
        now >= self.expires_at()
    }
}

/// Characters of an invite with these candidates.
pub(super) fn encoded_len(candidates: &[Candidate]) -> usize {
    word_len(HEAD_BITS + candidate::list_bits(candidates))
}

/// Looks for an invite anywhere in the text.
///
/// A complete one wins, wherever it stands. Otherwise the best explanation of what looks like one;
/// `None` when nothing does.
pub(super) fn search(reading: &Reading) -> Option<Result<Invite, TokenError>> {
    whole_invite(reading).or_else(|| {
        located_mistake(reading)
            .or_else(|| unlocated(reading))
            .map(Err)
    })
}

/// Tries every `KH` in the text. The check makes an accidental match a one-in-a-million event.
fn whole_invite(reading: &Reading) -> Option<Result<Invite, TokenError>> {
    let mut impossible = None;
    for (at, _) in reading
        .values
        .windows(2)
        .enumerate()
        .filter(|(_, w)| *w == PREFIX)
    {
        let rest = reading.values.get(at..).unwrap_or_default();
        let Some(word) = length(rest).ok().and_then(|n| rest.get(..n)) else {
            continue;
        };
        if !word.iter().copied().all(is_readable) || !LONG.is_right(word) {
            continue;
        }
        match decode(word) {
            Ok(invite) => return Some(Ok(invite)),
            Err(what) => impossible = impossible.or(Some(Err(TokenError::BadField(what)))),
        }
    }
    impossible
}

/// Each search for a mistake costs some hundred thousand steps, so a hostile text gets few.
const MAX_SEARCHES: usize = 8;

fn located_mistake(reading: &Reading) -> Option<TokenError> {
    let places = || (0..reading.values.len()).filter(|&at| looks_like_invite(reading, at));
    let by_prefix = |prefix: Prefix| places().filter(move |&at| Prefix::at(reading, at) == prefix);
    by_prefix(Prefix::Exact)
        .take(MAX_SEARCHES)
        .chain(by_prefix(Prefix::Near).take(MAX_SEARCHES))
        .find_map(|at| locate(reading, at))
}

/// What can be said when no single mistake explains the text.
fn unlocated(reading: &Reading) -> Option<TokenError> {
    let places = || (0..reading.values.len()).filter(|&at| looks_like_invite(reading, at));
    if let Some(at) = places().find(|&at| Prefix::at(reading, at) == Prefix::Exact) {
        let rest = reading.values.get(at..)?;
        let need = match length(rest) {
            Ok(need) | Err(Unmeasured::Short { need }) => need,
            Err(Unmeasured::Malformed) => SHORTEST,
        };
        return Some(if rest.len() < need {
            TokenError::Truncated {
                have: rest.len(),
                need,
            }
        } else {
            TokenError::Damaged
        });
    }
    places()
        .any(|at| is_later_format(reading, at) && reading.values.len() - at >= LATER_FORMAT_LEN)
        .then_some(TokenError::NewerVersion)
}

/// Symbols after which a word that starts like a later format is taken for one.
const LATER_FORMAT_LEN: usize = 60;

/// Symbols that must be there before anything is called an invite.
const NOTICEABLE_LEN: usize = 16;

/// Starts a word, is not short, and has digits as codes do and prose does not: ten of 32 symbols
/// on average. Where the prefix is not right either, digits must be many.
fn looks_like_invite(reading: &Reading, at: usize) -> bool {
    reading.starts_word.get(at) == Some(&true)
        && reading.values.len() - at >= NOTICEABLE_LEN
        && match Prefix::at(reading, at) {
            Prefix::Exact => reading.digits(at, 64) > 0,
            Prefix::Near => reading.digits(at, 32) >= 4,
            Prefix::Other => false,
        }
}

fn is_later_format(reading: &Reading, at: usize) -> bool {
    matches!(reading.values.get(at..at + 2), Some(&[k, later])
        if k == PREFIX[0] && later > PREFIX[1] && is_readable(later))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Prefix {
    Exact,
    /// One of the two symbols is wrong, or they changed places.
    Near,
    Other,
}

impl Prefix {
    fn at(reading: &Reading, at: usize) -> Self {
        match reading.values.get(at..at + 2) {
            Some(&[k, h]) if [k, h] == PREFIX => Self::Exact,
            Some(&[k, h]) if k == PREFIX[0] || h == PREFIX[1] || [h, k] == PREFIX => Self::Near,
            _ => Self::Other,
        }
    }
}

/// Finds the one mistake that makes an invite out of what starts at `at`.
///
/// A mistake in a tag changes the apparent length, so all lengths are tried; the repaired word must
/// have exactly the length tried and possible content. Of several explanations the one that ends
/// where a word ends is best, then the one with the apparent length.
fn locate(reading: &Reading, at: usize) -> Option<TokenError> {
    let rest = reading.values.get(at..)?;
    let apparent = length(rest).ok();
    let mut state = LONG.step_all(rest.get(..SHORTEST - 1)?);
    let mut best = None;
    for (len, &last) in (1..).zip(rest).take(LONGEST).skip(SHORTEST - 1) {
        let word = rest.get(..len)?;
        state = LONG.step(state, last);
        let Some(mistake) = mistake_in(word, LONG.explain(state, word)) else {
            continue;
        };
        let ends_word = *reading.starts_word.get(at + len).unwrap_or(&true);
        let rank = (ends_word, Some(len) == apparent);
        if best.as_ref().is_none_or(|&(best_rank, _)| rank > best_rank) {
            best = Some((rank, mistake));
        }
    }
    best.map(|(_, mistake)| mistake)
}

fn mistake_in(word: &[u8], finding: Finding) -> Option<TokenError> {
    let mistake = TokenError::from_finding(finding, word, None)?;
    let mut repaired = word.to_vec();
    finding.repair(&mut repaired);
    let fits = repaired.starts_with(&PREFIX)
        && length(&repaired) == Ok(word.len())
        && decode(&repaired).is_ok();
    fits.then_some(mistake)
}

/// Why the length of an invite cannot be told.
#[derive(Debug, PartialEq, Eq)]
enum Unmeasured {
    /// The text ends before the last tag; at least `need` symbols should be there.
    Short {
        need: usize,
    },
    Malformed,
}

/// The number of symbols of the invite that starts `rest`, by its tags; there may be fewer.
fn length(rest: &[u8]) -> Result<usize, Unmeasured> {
    let data = rest
        .get(PREFIX.len()..)
        .ok_or(Unmeasured::Short { need: SHORTEST })?;
    match candidate::list_end(data, HEAD_BITS, MAX_CANDIDATES) {
        Ok(bits) => Ok(word_len(bits)),
        Err(NoEnd::Short { end }) => Err(Unmeasured::Short {
            need: word_len(end),
        }),
        Err(NoEnd::Malformed) => Err(Unmeasured::Malformed),
    }
}

fn word_len(data_bits: usize) -> usize {
    PREFIX.len() + data_bits.div_ceil(SYMBOL_BITS) + LONG.checks()
}

/// Reads a word whose check is right.
fn decode(word: &[u8]) -> Result<Invite, &'static str> {
    const CUT: &str = "it is cut off";
    let data = word
        .get(PREFIX.len()..word.len() - LONG.checks())
        .ok_or(CUT)?;
    let mut bits = Unpacker::new(data, SYMBOL_BITS, 0);
    let secret = Secret::new(bits.take_bytes().ok_or(CUT)?);
    let fingerprint = Fingerprint::new(bits.take_bytes().ok_or(CUT)?);
    let minute = bits
        .take(ISSUED_BITS)
        .and_then(|m| u64::try_from(m).ok())
        .ok_or(CUT)?;
    let code = bits
        .take(LIFETIME_BITS)
        .and_then(|c| u8::try_from(c).ok())
        .ok_or(CUT)?;
    let candidates = candidate::take_list(&mut bits, MAX_CANDIDATES)?;
    if !bits.only_padding_left() {
        return Err("its padding is not empty");
    }
    let (issued, lifetime) = (unix_time(minute), lifetime_of(code));
    Ok(Invite {
        secret,
        fingerprint,
        issued,
        lifetime,
        candidates,
    })
}

/// Minutes since [`EPOCH`], kept within what 24 bits hold.
fn minute(unix: u64) -> u64 {
    (unix.saturating_sub(EPOCH) / 60).min(LAST_MINUTE)
}

fn unix_time(minute: u64) -> u64 {
    EPOCH + minute * 60
}

/// The code of the shortest lifetime not below the one asked for.
fn lifetime_code(lifetime: Duration) -> u8 {
    let covers = |&minutes: &u16| Duration::from_secs(u64::from(minutes) * 60) >= lifetime;
    let code = LIFETIMES
        .iter()
        .position(covers)
        .unwrap_or(LIFETIMES.len() - 1);
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// Reads the low six bits.
fn lifetime_of(code: u8) -> Duration {
    let minutes = LIFETIMES[usize::from(code & 63)];
    Duration::from_secs(u64::from(minutes) * 60)
}

/// Lifetimes in minutes, by code.
const LIFETIMES: [u16; 64] = [
    1, 2, 3, 4, 5, 6, 7, 8, // minutes
    9, 10, 12, 15, 18, 20, 25, 30, //
    35, 40, 45, 50, 60, 75, 90, 105, //
    120, 150, 180, 210, 240, 300, 360, 420, // 2 to 7 hours
    480, 540, 600, 720, 840, 900, 960, 1080, // 8 to 18 hours
    1200, 1440, 1800, 2160, 2880, 3600, 4320, 5760, // 20 hours to 4 days
    7200, 8640, 10080, 11520, 12960, 14400, 17280, 20160, // 5 to 14 days
    21600, 25920, 28800, 30240, 34560, 36000, 40320, 43200, // 15 to 30 days
];

#[cfg(test)]
pub(super) mod tests {
    use super::super::candidate::tests::{any_candidate, candidate};
    use super::super::{Kind, parse_invite};
    use super::*;
    use proptest::prelude::*;

    /// The first test vector of docs/token.md: host and srflx on different ports.
    pub const TWO_PORTS: &str = "KH000G40R40M30E209185GR38E1ZGE3RQ3WKJYDSZ8X7NEQV7DXVQZ1WFJYFTFBXQQZ3WZNYZWZQZFY1SDC983G58045C7JT6B01RGFVJ8H33R";
    /// The second: the same with one port.
    const ONE_PORT: &str = "KH000G40R40M30E209185GR38E1ZGE3RQ3WKJYDSZ8X7NEQV7DXVQZ1WFJYFTFBXQQZ3WZNYZWZQZFY1SDC983G58045C7JTPB01RGEJ17D";
    /// The third: three addresses, one of them IPv6.
    const MIXED: &str = "KH000G40R40M30E209185GR38E1ZGE3RQ3WKJYDSZ8X7NEQV7DXVQZ1WFJYFTFBXQQZ3WZNYZWZQZFY1SDC98KJR0E43W7JSS0046VG000000000000000000GGRRSP80P0002048";

    fn invite(candidates: Vec<Candidate>) -> Invite {
        let secret = Secret::new(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        let fingerprint =
            Fingerprint::new(std::array::from_fn(|i| 0xe0 + u8::try_from(i).unwrap()));
        // 2026-11-23T15:30:42Z
        Invite::new(
            secret,
            fingerprint,
            1_795_447_842,
            Duration::from_hours(1),
            candidates,
        )
        .unwrap()
    }

    fn two_ports() -> Invite {
        invite(vec![
            candidate(Kind::Host, "192.168.1.10:50123"),
            candidate(Kind::Srflx, "203.0.113.7:61000"),
        ])
    }

    fn one_port() -> Invite {
        invite(vec![
            candidate(Kind::Host, "192.168.1.10:50123"),
            candidate(Kind::Srflx, "203.0.113.7:50123"),
        ])
    }

    fn mixed() -> Invite {
        invite(vec![
            candidate(Kind::Srflx, "203.0.113.7:50123"),
            candidate(Kind::Host, "[2001:db8::10]:50123"),
            candidate(Kind::Relay, "198.51.100.2:49152"),
        ])
    }

    pub fn any_invite() -> impl Strategy<Value = Invite> {
        let now = EPOCH..EPOCH + LAST_MINUTE * 60;
        let candidates = prop::collection::vec(any_candidate(), 1..=MAX_CANDIDATES);
        (
            any::<[u8; 16]>(),
            any::<[u8; 32]>(),
            now,
            0u64..=MAX_LIFETIME.as_secs(),
            candidates,
        )
            .prop_map(|(secret, fingerprint, now, lifetime, candidates)| {
                let (secret, fingerprint) = (Secret::new(secret), Fingerprint::new(fingerprint));
                Invite::new(
                    secret,
                    fingerprint,
                    now,
                    Duration::from_secs(lifetime),
                    candidates,
                )
                .unwrap()
            })
    }

    fn with_symbol(text: &str, position: usize, symbol: char) -> String {
        text.chars()
            .enumerate()
            .map(|(i, c)| if i + 1 == position { symbol } else { c })
            .collect()
    }

    #[test]
    fn the_test_vectors_of_the_document_hold() {
        let document = include_str!("../../../docs/token.md");
        for (invite, text, len) in [
            (two_ports(), TWO_PORTS, 110),
            (one_port(), ONE_PORT, 107),
            (mixed(), MIXED, 137),
        ] {
            assert_eq!(invite.encode(), text);
            assert_eq!(text.len(), len);
            assert_eq!(encoded_len(&invite.candidates), len);
            assert_eq!(parse_invite(text), Ok(invite));
            assert!(document.contains(text));
        }
    }

    #[test]
    fn the_shortest_and_longest_invites_have_the_stated_lengths() {
        let shortest = invite(vec![candidate(Kind::Host, "192.0.2.1:9")]).encode();
        assert_eq!(shortest.len(), SHORTEST);
        let many = (1..=16)
            .map(|i| candidate(Kind::Host, &format!("[2001:db8::{i}]:{i}")))
            .collect();
        assert_eq!(invite(many).encode().len(), LONGEST);
    }

    #[test]
    fn lifetimes_people_ask_for_are_exact_and_others_are_rounded_up() {
        for minutes in [1, 5, 10, 15, 30, 60, 120, 360, 720, 1440, 43200] {
            let lifetime = Duration::from_secs(minutes * 60);
            assert_eq!(lifetime_of(lifetime_code(lifetime)), lifetime);
        }
        assert_eq!(
            lifetime_of(lifetime_code(Duration::from_secs(61))),
            Duration::from_mins(2)
        );
        assert_eq!(lifetime_of(lifetime_code(Duration::MAX)), MAX_LIFETIME);
        assert!(LIFETIMES.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn an_invite_is_good_for_at_least_its_lifetime() {
        let invite = two_ports();
        assert_eq!(invite.issued, 1_795_447_800);
        assert!(!invite.is_expired(1_795_447_842 + 3600));
        assert_eq!(invite.expires_at(), 1_795_447_800 + 3660);
        assert!(invite.is_expired(1_795_447_800 + 3660));
    }

    #[test]
    fn an_invite_is_found_in_chat_text() {
        let quoted: Vec<String> = TWO_PORTS
            .as_bytes()
            .chunks(40)
            .map(|line| format!("> {}", String::from_utf8_lossy(line)))
            .collect();
        let quoted = quoted.join("\n");
        for text in [
            format!("hey, look here: {TWO_PORTS} thanks!"),
            format!("`{}`", TWO_PORTS.to_lowercase()),
            format!("https://example.org/#{TWO_PORTS}"),
            format!("khaki KH1234 KHKH {TWO_PORTS}KH"),
            format!("On Monday someone wrote:\n{quoted}\nuuu"),
        ] {
            assert_eq!(parse_invite(&text), Ok(two_ports()), "{text}");
        }
    }

    #[test]
    fn of_two_invites_the_undamaged_one_is_read() {
        let damaged = with_symbol(TWO_PORTS, 50, 'Z');
        assert_eq!(
            parse_invite(&format!("{damaged}\n{ONE_PORT}")),
            Ok(one_port())
        );
    }

    #[test]
    fn every_wrong_symbol_is_named_wherever_it_is() {
        for text in [TWO_PORTS, MIXED] {
            for (i, right) in text.chars().enumerate() {
                let wrong = if right == '7' { 'M' } else { '7' };
                let expected = TokenError::Typo {
                    position: i + 1,
                    group: None,
                    read: Some(wrong),
                    probably: right,
                };
                let typed = format!("here: {} ok?", with_symbol(text, i + 1, wrong));
                assert_eq!(parse_invite(&typed), Err(expected));
            }
        }
    }

    #[test]
    fn a_letter_no_code_contains_is_named_without_being_repeated() {
        let error = parse_invite(&with_symbol(TWO_PORTS, 20, 'ü')).unwrap_err();
        let probably = TWO_PORTS.chars().nth(19).unwrap();
        assert_eq!(
            error,
            TokenError::Typo {
                position: 20,
                group: None,
                read: None,
                probably
            }
        );
        assert!(error.to_string().is_ascii());
    }

    #[test]
    fn swapped_neighbours_are_named() {
        for at in 0..TWO_PORTS.len() - 1 {
            let mut symbols: Vec<char> = TWO_PORTS.chars().collect();
            if symbols[at] != symbols[at + 1] {
                symbols.swap(at, at + 1);
                let text: String = symbols.into_iter().collect();
                assert_eq!(
                    parse_invite(&text),
                    Err(TokenError::Swapped {
                        position: at + 1,
                        group: None
                    })
                );
            }
        }
    }

    #[test]
    fn a_cut_invite_says_how_much_there_is() {
        for have in [16, 50, 99, 109] {
            let error = parse_invite(&TWO_PORTS[..have]).unwrap_err();
            assert!(
                matches!(error, TokenError::Truncated { have: h, .. } if h == have),
                "{have}: {error:?}"
            );
        }
        assert_eq!(
            parse_invite(&TWO_PORTS[..109]),
            Err(TokenError::Truncated {
                have: 109,
                need: 110
            })
        );
    }

    #[test]
    fn three_mistakes_are_noticed_but_not_placed() {
        let text = [10, 40, 70]
            .into_iter()
            .fold(TWO_PORTS.to_owned(), |t, at| with_symbol(&t, at, 'Z'));
        assert_eq!(parse_invite(&text), Err(TokenError::Damaged));
    }

    #[test]
    fn later_formats_are_recognised() {
        for prefix in ["KJ", "KK", "KZ"] {
            let text = format!("see: {prefix}{}", "4X9".repeat(30));
            assert_eq!(parse_invite(&text), Err(TokenError::NewerVersion));
        }
    }

    #[test]
    fn a_right_check_over_impossible_content_is_told_apart() {
        let mut bad = two_ports();
        bad.candidates[1].addr.set_port(0);
        assert_eq!(
            parse_invite(&bad.encode()),
            Err(TokenError::BadField("a port is 0"))
        );
        bad.candidates.clear();
        assert!(matches!(
            parse_invite(&bad.encode()),
            Err(TokenError::BadField(_))
        ));
    }

    proptest! {
        #[test]
        fn every_invite_comes_back(invite in any_invite()) {
            let text = invite.encode();
            prop_assert_eq!(text.len(), encoded_len(&invite.candidates));
            prop_assert_eq!(parse_invite(&text), Ok(invite));
        }

        #[test]
        fn one_wrong_symbol_in_any_invite_is_named(invite in any_invite(), place in any::<prop::sample::Index>(), by in 1u8..32) {
            let text = invite.encode();
            let at = 2 + place.index(text.len() - 2);
            let right = text.chars().nth(at).unwrap();
            let wrong = symbol(Reading::of(&right.to_string()).values[0] ^ by);
            let expected = TokenError::Typo { position: at + 1, group: None, read: Some(wrong), probably: right };
            prop_assert_eq!(parse_invite(&with_symbol(&text, at + 1, wrong)), Err(expected));
        }
    }
}
