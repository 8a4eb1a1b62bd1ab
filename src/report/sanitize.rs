//! Texts from the other side on their way to a terminal: file names, reasons, software names.
//!
//! A terminal obeys control sequences, reorders bidirectional text and hides what draws nothing,
//! so a peer could clear the screen, or dress an `.exe` as a `.pdf`. [`Shown`] escapes all of
//! that and bounds the length. For machine output the text stays as it is: JSON has its own
//! escapes.

use std::borrow::Cow;
use std::fmt;

use unicode_normalization::char::is_combining_mark;

mod fuzz;
#[doc(hidden)]
pub use fuzz::fuzz;

/// Columns that [`Shown`] takes unless a precision is given: `{:.40}`.
pub const SHOWN_COLUMNS: usize = 120;

/// A peer's text, safe to print on a terminal: one line, bounded, nothing invisible.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&sanitize(self.0, f.precision().unwrap_or(SHOWN_COLUMNS)))
    }
}

/// Makes a peer's stream safe to print on a terminal, piece by piece. Line ends, tabs and
/// backslashes stay as they are, all else that a terminal obeys is escaped as by [`Shown`], and
/// what is not UTF-8 becomes U+FFFD.
#[derive(Debug, Default)]
pub struct Stream {
    /// The beginning of a character whose end has not come yet.
    cut: Vec<u8>,
    /// The last characters: what comes next may attach to them.
    before: String,
}

impl Stream {
    /// Returns what to print for the next bytes; no bytes are the end of the stream.
    #[must_use]
    pub fn show(&mut self, bytes: &[u8]) -> String {
        let mut whole = std::mem::take(&mut self.cut);
        whole.extend_from_slice(bytes);
        let (mut rest, mut shown) = (whole.as_slice(), String::new());
        while !rest.is_empty() {
            let error = match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.escape(text, &mut shown);
                    break;
                }
                Err(error) => error,
            };
            let (text, bad) = rest.split_at(error.valid_up_to());
            self.escape(&String::from_utf8_lossy(text), &mut shown);
            let len = match error.error_len() {
                Some(len) => len,
                None if bytes.is_empty() => bad.len(),
                None => {
                    self.cut = bad.to_vec();
                    break;
                }
            };
            self.escape("\u{fffd}", &mut shown);
            rest = bad.get(len..).unwrap_or_default();
        }
        shown
    }

    fn escape(&mut self, text: &str, shown: &mut String) {
        let known = self.before.len();
        self.before.push_str(text);
        for (at, c) in self.before.char_indices().skip_while(|(at, _)| *at < known) {
            match c {
                '\n' | '\t' | '\\' => shown.push(c),
                c => shown.push_str(&piece(&self.before, at, c).0),
            }
        }
        let keep = self.before.char_indices().rev().nth(MAX_MARKS + 1);
        self.before.drain(..keep.map_or(0, |(at, _)| at));
    }
}

/// The text in at most `max` columns. Escapes look as in Rust (`\n`, `\u{1b}`), and a backslash
/// is doubled so that no text can pretend to be an escape. A longer text loses its *middle* to
/// `…`: the end of a file name is the part that says what it is.
///
/// The work done is bounded by `max`, however long the text is.
pub fn sanitize(text: &str, max: usize) -> String {
    if let Some(whole) = take(text, text.char_indices(), max) {
        return whole.concat();
    }
    let Some(room) = max.checked_sub(1) else {
        return String::new();
    };
    let tail_room = room / 3;
    let head = fill(text, text.char_indices(), room - tail_room);
    let mut tail = fill(text, text.char_indices().rev(), tail_room);
    tail.reverse();
    format!("{}…{}", head.concat(), tail.concat())
}

/// All pieces, if they fit.
fn take(
    text: &str,
    chars: impl Iterator<Item = (usize, char)>,
    max: usize,
) -> Option<Vec<Cow<'_, str>>> {
    let mut used = 0;
    let mut pieces = Vec::new();
    for (at, c) in chars {
        let (piece, columns) = piece(text, at, c);
        used += columns;
        if used > max {
            return None;
        }
        pieces.push(piece);
    }
    Some(pieces)
}

/// As many pieces as fit.
fn fill(text: &str, chars: impl Iterator<Item = (usize, char)>, max: usize) -> Vec<Cow<'_, str>> {
    let mut left = max;
    chars
        .map_while(|(at, c)| {
            let (piece, columns) = piece(text, at, c);
            left = left.checked_sub(columns)?;
            Some(piece)
        })
        .collect()
}

/// How the character at `at` is printed, and the columns that takes.
fn piece(text: &str, at: usize, c: char) -> (Cow<'_, str>, usize) {
    let escaped = match c {
        '\\' => "\\\\".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        c if c.is_control() || is_invisible(c) || !attaches(text, at, c) => {
            format!("\\u{{{:x}}}", u32::from(c))
        }
        c => {
            let own = text.get(at..at + c.len_utf8()).unwrap_or_default();
            return (Cow::Borrowed(own), columns(c));
        }
    };
    let columns = escaped.len();
    (Cow::Owned(escaped), columns)
}

/// Marks are drawn onto the character before them: escaped where there is none, and after
/// [`MAX_MARKS`] of them, which would climb over the neighbouring lines. A variation selector
/// counts only after a character that is not ASCII; elsewhere it hides.
fn attaches(text: &str, at: usize, c: char) -> bool {
    let before = || text.get(..at).unwrap_or_default().chars().rev();
    if is_variation_selector(c) {
        return before()
            .next()
            .is_some_and(|c| !c.is_ascii() && !is_variation_selector(c));
    }
    if !is_combining_mark(c) {
        return true;
    }
    let marks = before()
        .take(MAX_MARKS)
        .take_while(|&c| is_combining_mark(c))
        .count();
    marks < MAX_MARKS
        && before()
            .nth(marks)
            .is_some_and(|c| !c.is_control() && !is_invisible(c))
}

/// No living script stacks more marks on one letter; decomposed Vietnamese has two, pointed
/// Hebrew three.
const MAX_MARKS: usize = 4;

/// Columns on a terminal. Marks count as one, so that they are bounded too.
fn columns(c: char) -> usize {
    match c {
        '\u{1100}'..='\u{115f}'
        | '\u{231a}'..='\u{231b}'
        | '\u{2329}'..='\u{232a}'
        | '\u{23e9}'..='\u{23f3}'
        | '\u{25fd}'..='\u{25fe}'
        | '\u{2600}'..='\u{27bf}'
        | '\u{2b1b}'..='\u{2b55}'
        | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{a4cf}'
        | '\u{a960}'..='\u{a97f}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff01}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{16fe0}'..='\u{18dff}'
        | '\u{1aff0}'..='\u{1b2ff}'
        | '\u{1f000}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        // A few ligatures are drawn very wide.
        '\u{fdfa}'..='\u{fdfd}' | '\u{12031}' | '\u{12219}' | '\u{1242b}' => 4,
        _ => 1,
    }
}

fn is_variation_selector(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Draws nothing, draws a blank that is no space, ends the line, or reorders the text: Unicode
/// category Cf except the few signs that are drawn, Zl, Zp, default-ignorable code points,
/// fillers, the blank Braille pattern, noncharacters. At least what `io::files::name` refuses;
/// `tests/hostile` compares the two.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fdd0}'..='\u{fdef}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e00ff}'
            | '\u{e01f0}'..='\u{e0fff}'
    ) || u32::from(c) & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_text_of_many_scripts_is_left_alone() {
        for text in [
            "",
            "report.pdf",
            "naïve e\u{301}",
            "日本語",
            "ملف.pdf",
            "❤\u{fe0f}",
            "a\u{a0}b",
        ] {
            assert_eq!(Shown(text).to_string(), text);
        }
    }

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        for (text, shown) in [
            ("\x1b[2J\x1b]0;x\x07", r"\u{1b}[2J\u{1b}]0;x\u{7}"),
            ("a\r\nb\tc\0", r"a\r\nb\tc\u{0}"),
            ("\u{9b}31m\u{7f}", r"\u{9b}31m\u{7f}"),
            ("in\u{202e}fdp.exe", r"in\u{202e}fdp.exe"),
            ("a\u{200b}b\u{2066}\u{feff}", r"a\u{200b}b\u{2066}\u{feff}"),
            ("a\u{2028}b\u{2029}", r"a\u{2028}b\u{2029}"),
            ("a\u{fe0f}", r"a\u{fe0f}"),
            ("\u{301}a", r"\u{301}a"),
            ("\u{e0041}\u{3164}", r"\u{e0041}\u{3164}"),
            (r"\u{1b}", r"\\u{1b}"),
        ] {
            assert_eq!(Shown(text).to_string(), shown);
        }
    }

    #[test]
    fn a_long_name_loses_its_middle_and_keeps_its_end() {
        let name = format!("invoice.pdf{}.exe", " ".repeat(300));
        let shown = format!("{:.30}", Shown(&name));
        assert!(
            shown.starts_with("invoice.pdf") && shown.ends_with(".exe"),
            "{shown}"
        );
        assert!(shown.contains('…'));
        assert_eq!(shown.chars().count(), 30);
        assert_eq!(sanitize("日本語日本語", 6).chars().count(), 3);
        assert_eq!(sanitize("abc", 1), "…");
        assert_eq!(sanitize("abc", 0), "");
        assert_eq!(sanitize("abc", 3), "abc");
    }

    #[test]
    fn towers_of_marks_are_cut() {
        let tower = format!("a{}", "\u{301}".repeat(50));
        let shown = sanitize(&tower, 1000);
        assert_eq!(shown.chars().filter(|&c| c == '\u{301}').count(), MAX_MARKS);
    }

    #[test]
    fn a_stream_keeps_its_lines_and_loses_its_commands() {
        let mut stream = Stream::default();
        assert_eq!(
            stream.show(b"a\tb\\n\n\x1b[2Jc\r\x07\n"),
            "a\tb\\n\n\\u{1b}[2Jc\\r\\u{7}\n"
        );
        assert_eq!(stream.show(b"\xff\x9b31m"), "\u{fffd}\u{fffd}31m");
        assert_eq!(stream.show(b"\xc2"), "", "waits for the rest");
        assert_eq!(stream.show(b"\x9b"), "\\u{9b}");
        assert_eq!(stream.show("日".as_bytes().split_at(1).0), "");
        assert_eq!(stream.show(b""), "\u{fffd}");
    }

    proptest! {
        #[test]
        fn a_stream_is_shown_alike_however_it_is_cut(
            bytes in prop::collection::vec(
                prop_oneof![any::<u8>(), Just(0x1b), Just(0xcc), Just(0x81), Just(b'a')], 0..60),
            cuts in prop::collection::vec(0usize..8, 0..30),
        ) {
            let whole = {
                let mut stream = Stream::default();
                stream.show(&bytes) + &stream.show(&[])
            };
            let (mut stream, mut pieces, mut rest) = (Stream::default(), String::new(), &bytes[..]);
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                if !piece.is_empty() {
                    pieces += &stream.show(piece);
                }
                rest = after;
            }
            if !rest.is_empty() {
                pieces += &stream.show(rest);
            }
            pieces += &stream.show(&[]);
            prop_assert_eq!(&pieces, &whole);
            let obeyed = |c: char| (c.is_control() && !"\n\t".contains(c)) || is_invisible(c);
            prop_assert!(!whole.chars().any(obeyed));
        }

        #[test]
        fn any_text_becomes_one_bounded_visible_line(text in any::<String>(), max in 0u8..60) {
            let mut data = vec![max];
            data.extend(text.as_bytes());
            fuzz(&data);
        }

        #[test]
        fn different_texts_stay_different_when_they_fit(a in any::<String>(), b in any::<String>()) {
            if a != b {
                prop_assert_ne!(sanitize(&a, usize::MAX), sanitize(&b, usize::MAX));
            }
        }
    }
}
