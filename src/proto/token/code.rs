//! Check symbols: cyclic codes over GF(32) that find typing mistakes and say where they are.
//!
//! A word is a polynomial whose first symbol is the highest coefficient; it is right when the
//! generator divides it. In both codes the generator has two consecutive roots, so any two words
//! differ in at least three places: one wrong symbol has exactly one explanation, two are always
//! noticed. Nothing here corrects anything: [`Code::explain`] only says what probably happened.
//!
//! GF(32) is GF(2)\[x\] / (x⁵ + x² + 1); a symbol's value is its polynomial, bit 0 the constant.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::text::is_readable;

/// A code with `R` check symbols.
#[derive(Debug)]
pub(super) struct Code<const R: usize> {
    /// The generator below its leading 1, highest power first.
    generator: [u8; R],
    /// What one wrong symbol does to the state.
    wrong: Effects<R>,
    /// What a swap does, by the place of the second symbol.
    swapped: Effects<R>,
}

/// Invites and long replies, up to 1023 symbols: x⁴ + 6x³ + 26x² + 21x + 23.
///
/// The minimal polynomials of α and α², where α = y²³ and y is a root of y¹⁰ + y³ + 1. This α,
/// because with it two swapped neighbours never look like one wrong symbol in words of up to 493
/// symbols.
pub(super) static LONG: LazyLock<Code<4>> = LazyLock::new(|| Code::new([6, 26, 21, 23], 1023));

/// Short replies, up to 31 symbols: Reed-Solomon, (x − 2)(x − 4) = x² + 6x + 8.
pub(super) static SHORT: LazyLock<Code<2>> = LazyLock::new(|| Code::new([6, 8], 31));

/// What the check says about a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The check is right.
    Right,
    /// One symbol (counted from 0) is wrong; this value would be right.
    Wrong { at: usize, right: u8 },
    /// The symbols at `at` and `at + 1` changed places.
    Swapped { at: usize },
    /// More than that is wrong.
    Unclear,
}

impl Finding {
    /// Undoes the mistake, so that the result can be examined further.
    pub fn repair(self, word: &mut [u8]) {
        match self {
            Self::Wrong { at, right } => {
                if let Some(symbol) = word.get_mut(at) {
                    *symbol = right;
                }
            }
            Self::Swapped { at } if at + 1 < word.len() => word.swap(at, at + 1),
            Self::Swapped { .. } | Self::Right | Self::Unclear => {}
        }
    }
}

impl<const R: usize> Code<R> {
    /// Prepares a code for words of up to `longest` symbols.
    fn new(generator: [u8; R], longest: usize) -> Self {
        let mut code = Self {
            generator,
            wrong: Effects::default(),
            swapped: Effects::default(),
        };
        let mut effect = code.step(Self::START, 1);
        for from_end in 0..longest {
            let before = code.step(effect, 0);
            let mut both = before;
            both.iter_mut().zip(effect).for_each(|(b, e)| *b ^= e);
            code.wrong.add(effect, from_end);
            code.swapped.add(both, from_end);
            effect = before;
        }
        code
    }

    /// The state before the first symbol, and after a right word.
    const START: [u8; R] = [0; R];

    /// Number of check symbols.
    #[allow(
        clippy::unused_self,
        reason = "reads better than the type with its number"
    )]
    pub const fn checks(&self) -> usize {
        R
    }

    /// Appends the check symbols.
    pub fn append(&self, word: &mut Vec<u8>) {
        let state = self.step_all(word);
        word.extend(state);
    }

    /// Whether the word ends in its right check symbols.
    pub fn is_right(&self, word: &[u8]) -> bool {
        self.step_all(word) == Self::START
    }

    /// Takes one more symbol into a running state: the remainder of (word · x^R) by the generator.
    pub fn step(&self, state: [u8; R], symbol: u8) -> [u8; R] {
        let factor = (symbol & 31) ^ state.first().copied().unwrap_or(0);
        let mut next = Self::START;
        for (i, slot) in next.iter_mut().enumerate() {
            let shifted = state.get(i + 1).copied().unwrap_or(0);
            *slot = shifted ^ product(factor, self.generator[i]);
        }
        next
    }

    /// The state after a whole word.
    pub fn step_all(&self, word: &[u8]) -> [u8; R] {
        word.iter()
            .fold(Self::START, |state, &symbol| self.step(state, symbol))
    }

    /// Finds the single wrong symbol or the swapped pair that explains `state`, the state after
    /// `word`.
    pub fn explain(&self, state: [u8; R], word: &[u8]) -> Finding {
        let mut unreadable = word.iter().enumerate().filter(|&(_, &v)| !is_readable(v));
        let (hole, another) = (unreadable.next().map(|(at, _)| at), unreadable.next());
        if another.is_some() {
            return Finding::Unclear;
        }
        if state == Self::START {
            return hole.map_or(Finding::Right, |at| Finding::Wrong { at, right: 0 });
        }
        match (self.single_error(state, word), hole) {
            (Some((at, right)), None) => Finding::Wrong { at, right },
            (Some((at, right)), Some(hole)) if at == hole => Finding::Wrong { at, right },
            (None, None) => self
                .swapped_pair(state, word)
                .map_or(Finding::Unclear, |at| Finding::Swapped { at }),
            _ => Finding::Unclear,
        }
    }

    fn single_error(&self, state: [u8; R], word: &[u8]) -> Option<(usize, u8)> {
        let (from_end, error) = self.wrong.find(state)?;
        let at = word.len().checked_sub(from_end + 1)?;
        Some((at, (word.get(at)? & 31) ^ error))
    }

    fn swapped_pair(&self, state: [u8; R], word: &[u8]) -> Option<usize> {
        let (from_end, error) = self.swapped.find(state)?;
        let at = word.len().checked_sub(from_end + 2)?;
        (word.get(at)? ^ word.get(at + 1)? == error).then_some(at)
    }
}

/// Mistakes of size 1 by the direction of their effect on the state.
#[derive(Debug)]
struct Effects<const R: usize>(HashMap<[u8; R], (usize, u8)>);

impl<const R: usize> Default for Effects<R> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<const R: usize> Effects<R> {
    fn add(&mut self, effect: [u8; R], from_end: usize) {
        if let Some((direction, size)) = direction(effect) {
            self.0.insert(direction, (from_end, size));
        }
    }

    /// Where the mistake is, counted from the last symbol, and its size.
    fn find(&self, state: [u8; R]) -> Option<(usize, u8)> {
        let (direction, size) = direction(state)?;
        let &(from_end, unit) = self.0.get(&direction)?;
        Some((from_end, quotient(size, unit)))
    }
}

/// Splits what is not zero into a vector that begins with 1 (after zeros) and a factor.
fn direction<const R: usize>(vector: [u8; R]) -> Option<([u8; R], u8)> {
    let lead = vector.into_iter().find(|&v| v != 0)?;
    Some((vector.map(|v| quotient(v, lead)), lead))
}

fn product(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 {
        return 0;
    }
    let sum = LOG[usize::from(a & 31)] + LOG[usize::from(b & 31)];
    EXP[usize::from(sum % 31)]
}

/// Divides by something that is not zero.
fn quotient(a: u8, b: u8) -> u8 {
    if a == 0 {
        return 0;
    }
    let difference = 31 + LOG[usize::from(a & 31)] - LOG[usize::from(b & 31)];
    EXP[usize::from(difference % 31)]
}

/// Powers of 2, and their inverse.
const EXP: [u8; 31] = powers().0;
const LOG: [u8; 32] = powers().1;

#[allow(
    clippy::cast_possible_truncation,
    reason = "`From` and `TryFrom` are not const; i < 31"
)]
const fn powers() -> ([u8; 31], [u8; 32]) {
    let (mut exp, mut log) = ([0; 31], [0; 32]);
    let (mut power, mut i) = (1u8, 0usize);
    while i < 31 {
        exp[i] = power;
        log[power as usize] = i as u8;
        power <<= 1;
        if power & 32 != 0 {
            power ^= 0b10_0101;
        }
        i += 1;
    }
    (exp, log)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn word<const R: usize>(code: &Code<R>, length: usize, seed: u32) -> Vec<u8> {
        let mut random = Random(seed);
        let mut word: Vec<u8> = (R..length).map(|_| random.symbol()).collect();
        code.append(&mut word);
        word
    }

    fn explain<const R: usize>(code: &Code<R>, word: &[u8]) -> Finding {
        code.explain(code.step_all(word), word)
    }

    fn every_single_error_is_located<const R: usize>(code: &Code<R>, length: usize) {
        let good = word(code, length, 7);
        assert_eq!(explain(code, &good), Finding::Right);
        for at in 0..length {
            for wrong in (0..32).filter(|&w| w != good[at]) {
                let mut bad = good.clone();
                bad[at] = wrong;
                assert_eq!(
                    explain(code, &bad),
                    Finding::Wrong {
                        at,
                        right: good[at]
                    }
                );
            }
        }
    }

    fn every_swap_of_neighbours_is_located<const R: usize>(code: &Code<R>, length: usize) {
        for seed in 1..20 {
            let good = word(code, length, seed);
            for at in (0..length - 1).filter(|&at| good[at] != good[at + 1]) {
                let mut bad = good.clone();
                bad.swap(at, at + 1);
                assert_eq!(explain(code, &bad), Finding::Swapped { at });
            }
        }
    }

    /// Distance 3 or more means: no two places have proportional effects on the state.
    fn places_are_independent<const R: usize>(code: &Code<R>, places: usize) -> bool {
        let mut seen = HashSet::new();
        let mut effect = code.step(Code::<R>::START, 1);
        (0..places).all(|_| {
            let fresh = seen.insert(direction(effect).unwrap().0);
            effect = code.step(effect, 0);
            fresh
        })
    }

    #[test]
    fn the_long_code_has_distance_three_up_to_1023_symbols() {
        assert!(places_are_independent(&LONG, 1023));
        assert!(!places_are_independent(&LONG, 1024));
    }

    #[test]
    fn the_short_code_has_distance_three_up_to_31_symbols() {
        assert!(places_are_independent(&SHORT, 31));
        assert!(!places_are_independent(&SHORT, 32));
    }

    #[test]
    fn the_short_generator_has_the_roots_2_and_4() {
        for root in [2, 4] {
            let at_root = SHORT
                .generator
                .iter()
                .fold(1, |sum, &g| product(sum, root) ^ g);
            assert_eq!(at_root, 0);
        }
    }

    #[test]
    fn every_single_error_in_an_invite_of_110_symbols_is_located() {
        every_single_error_is_located(&LONG, 110);
    }

    #[test]
    fn every_single_error_in_an_invite_of_250_symbols_is_located() {
        every_single_error_is_located(&LONG, 250);
    }

    #[test]
    fn every_single_error_in_a_short_reply_is_located() {
        every_single_error_is_located(&SHORT, 12);
    }

    #[test]
    fn swapped_neighbours_are_located_in_codes_of_usual_lengths() {
        every_swap_of_neighbours_is_located(&LONG, 110);
        every_swap_of_neighbours_is_located(&LONG, 250);
        every_swap_of_neighbours_is_located(&SHORT, 12);
    }

    #[test]
    fn an_unreadable_symbol_is_located_even_where_zero_is_right() {
        let good = word(&LONG, 110, 3);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] = 32;
            assert_eq!(
                explain(&LONG, &bad),
                Finding::Wrong {
                    at,
                    right: good[at]
                }
            );
        }
    }

    #[test]
    fn two_unreadable_symbols_are_unclear() {
        let mut bad = word(&LONG, 110, 3);
        bad[4] = 32;
        bad[90] = 32;
        assert_eq!(explain(&LONG, &bad), Finding::Unclear);
    }

    /// Prints the figures of docs/token.md:
    /// `cargo test --lib measured_detection -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement, takes a minute"]
    fn measured_detection() {
        const TRIALS: u32 = 200_000;
        for length in [110, 250] {
            for errors in 2..=6 {
                measure(&LONG, length, errors, TRIALS);
            }
        }
        for errors in 2..=4 {
            measure(&SHORT, 12, errors, TRIALS);
        }
    }

    fn measure<const R: usize>(code: &Code<R>, length: usize, errors: usize, trials: u32) {
        let good = word(code, length, 11);
        let mut random = Random(99);
        let (mut missed, mut misplaced) = (0, 0);
        for _ in 0..trials {
            let mut bad = good.clone();
            let mut places = HashSet::new();
            while places.len() < errors {
                places.insert(random.below(length));
            }
            for &at in &places {
                bad[at] ^= 1 + u8::try_from(random.below(31)).unwrap();
            }
            match explain(code, &bad) {
                Finding::Right => missed += 1,
                Finding::Wrong { .. } | Finding::Swapped { .. } => misplaced += 1,
                Finding::Unclear => {}
            }
        }
        println!(
            "length {length}, {errors} wrong: {missed} unnoticed, {misplaced} explained as one mistake, of {trials}"
        );
    }

    proptest! {
        #[test]
        fn two_errors_are_always_noticed(seed in 1u32.., length in 100usize..1023, a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>(), ea in 1u8..32, eb in 1u8..32) {
            let mut bad = word(&LONG, length, seed);
            let (a, b) = (a.index(length), b.index(length));
            prop_assume!(a != b);
            bad[a] ^= ea;
            bad[b] ^= eb;
            prop_assert!(!LONG.is_right(&bad));
        }
    }

    /// xorshift32: enough for test words, the same on every run.
    struct Random(u32);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 17;
            self.0 ^= self.0 << 5;
            self.0 as usize % limit
        }

        fn symbol(&mut self) -> u8 {
            u8::try_from(self.below(32)).unwrap()
        }
    }
}
