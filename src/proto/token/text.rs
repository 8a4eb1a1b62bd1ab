//! The alphabet, what counts as a symbol in pasted text, and packing bits into symbols.
//!
//! Symbols are Crockford base32 (no I, L, O, U). Reading is lenient because codes travel through
//! chat windows, mail quotes and human voices; writing has one form only. Check symbols are in
//! [`code`](super::code).

/// Symbol values in order, upper case.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Bits in one base32 symbol.
pub(super) const SYMBOL_BITS: usize = 5;

/// Stands for a letter or digit that no code contains. Its low five bits read as zero, so that a
/// check can tell what belongs in its place.
const UNREADABLE: u8 = 32;

/// Gives the character for a five-bit value; higher bits are ignored.
pub(super) fn symbol(value: u8) -> char {
    char::from(ALPHABET[usize::from(value & 31)])
}

/// Whether a value from [`Reading`] is a real symbol.
pub(super) fn is_readable(value: u8) -> bool {
    value < UNREADABLE
}

fn value(c: char) -> Option<u8> {
    let c = match c.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    let position = ALPHABET.iter().position(|&a| char::from(a) == c)?;
    u8::try_from(position).ok()
}

/// The symbols of a text, with separators, punctuation and invisible characters left out.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Values 0 to 31, or one that is not [`is_readable`].
    pub values: Vec<u8>,
    /// For each symbol: nothing but white space or punctuation stood before it.
    pub starts_word: Vec<bool>,
    /// For each symbol: it was written as a digit. Codes are rich in digits, prose is not.
    pub is_digit: Vec<bool>,
}

impl Reading {
    /// Reads every letter and digit; skips everything else.
    pub fn of(text: &str) -> Self {
        let mut reading = Self::default();
        let mut at_start = true;
        for c in text.chars() {
            let read = value(c);
            if read.is_some() || c.is_alphanumeric() {
                reading.values.push(read.unwrap_or(UNREADABLE));
                reading.starts_word.push(at_start);
                reading.is_digit.push(c.is_ascii_digit());
                at_start = false;
            } else if c == '-' || is_invisible(c) {
                // Part of the word around it.
            } else {
                at_start = true;
            }
        }
        reading
    }

    /// How many of the `count` symbols from `at` on were written as digits.
    pub fn digits(&self, at: usize, count: usize) -> usize {
        self.is_digit
            .iter()
            .skip(at)
            .take(count)
            .filter(|&&d| d)
            .count()
    }
}

/// Characters that chat programs insert and nobody sees.
pub(in crate::proto) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Packs bits, most significant first, into symbols of `width` bits.
#[derive(Debug)]
pub(super) struct Packer {
    width: usize,
    symbols: Vec<u8>,
    pending: u8,
    filled: usize,
}

impl Packer {
    /// Starts with nothing; `width` is at most 8.
    pub fn new(width: usize) -> Self {
        Self {
            width,
            symbols: Vec::new(),
            pending: 0,
            filled: 0,
        }
    }

    /// Appends the low `bits` bits of `value`.
    pub fn put(&mut self, value: u128, bits: usize) {
        for shift in (0..bits).rev() {
            self.pending = self.pending << 1 | u8::from(value >> shift & 1 == 1);
            self.filled += 1;
            if self.filled == self.width {
                self.symbols.push(self.pending);
                self.pending = 0;
                self.filled = 0;
            }
        }
    }

    /// Appends whole bytes.
    pub fn put_bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.put(u128::from(byte), 8);
        }
    }

    /// Pads with zero bits to a whole symbol and returns the symbols.
    pub fn finish(mut self) -> Vec<u8> {
        if self.filled > 0 {
            self.symbols
                .push(self.pending << (self.width - self.filled));
        }
        self.symbols
    }
}

/// Reads back what [`Packer`] wrote.
#[derive(Debug)]
pub(super) struct Unpacker<'a> {
    width: usize,
    symbols: &'a [u8],
    at: usize,
}

impl<'a> Unpacker<'a> {
    /// Reads from bit `at` of symbols of `width` bits each.
    pub fn new(symbols: &'a [u8], width: usize, at: usize) -> Self {
        Self { width, symbols, at }
    }

    /// The position of the next bit.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Passes over `bits` bits, whether or not they exist.
    pub fn skip(&mut self, bits: usize) {
        self.at += bits;
    }

    /// Takes the next `bits` bits, or `None` when fewer are left.
    pub fn take(&mut self, bits: usize) -> Option<u128> {
        let mut value = 0;
        for at in self.at..self.at + bits {
            let symbol = self.symbols.get(at / self.width)?;
            let bit = symbol >> (self.width - 1 - at % self.width) & 1;
            value = value << 1 | u128::from(bit);
        }
        self.at += bits;
        Some(value)
    }

    /// Takes a number that fits its type because it has the type's width.
    pub fn take_u16(&mut self) -> Option<u16> {
        self.take(16).and_then(|v| u16::try_from(v).ok())
    }

    /// Takes `N` whole bytes.
    pub fn take_bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = u8::try_from(self.take(8)?).ok()?;
        }
        Some(bytes)
    }

    /// Whether what is left is padding: less than one symbol, all zero.
    pub fn only_padding_left(mut self) -> bool {
        let left = (self.symbols.len() * self.width).saturating_sub(self.at);
        left < self.width && self.take(left) == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(text: &str) -> String {
        Reading::of(text)
            .values
            .iter()
            .map(|&v| if is_readable(v) { symbol(v) } else { '?' })
            .collect()
    }

    #[test]
    fn case_separators_and_invisible_characters_do_not_matter() {
        assert_eq!(written("kh 0a-1B\u{200b}\u{a0}\r\n\u{feff}z"), "KH0A1BZ");
    }

    #[test]
    fn look_alikes_read_as_digits() {
        assert_eq!(written("oOiIlL"), "001111");
    }

    #[test]
    fn a_letter_outside_the_alphabet_keeps_its_place() {
        assert_eq!(written("AuBéC"), "A?B?C");
    }

    #[test]
    fn words_start_after_spaces_and_punctuation_but_not_after_hyphens() {
        let starts = Reading::of("ab-c d#e").starts_word;
        assert_eq!(starts, [true, false, false, true, true]);
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out(values in prop::collection::vec((any::<u128>(), 1usize..=128), 0..20), width in 5usize..=6) {
            let mut packer = Packer::new(width);
            for &(value, bits) in &values {
                packer.put(value, bits);
            }
            let symbols = packer.finish();
            let mut unpacker = Unpacker::new(&symbols, width, 0);
            for &(value, bits) in &values {
                let mask = if bits == 128 { u128::MAX } else { (1 << bits) - 1 };
                prop_assert_eq!(unpacker.take(bits), Some(value & mask));
            }
            prop_assert!(unpacker.only_padding_left());
        }
    }
}
