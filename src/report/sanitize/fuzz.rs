//! What the fuzzer runs: a text and the columns it may take.

use super::{columns, is_invisible, sanitize};

/// Reads `data` as a number of columns and a text.
///
/// # Panics
///
/// When what is shown is wider than allowed or holds what a terminal obeys, or when the whole text
/// cannot be read back from it.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let (max, text) = data.split_first().unwrap_or((&0, &[]));
    let text = String::from_utf8_lossy(text);
    for max in [usize::from(*max), usize::MAX] {
        let shown = sanitize(&text, max);
        assert!(!shown.chars().any(|c| c.is_control() || is_invisible(c)));
        assert!(shown.chars().map(columns).sum::<usize>() <= max);
    }
    assert_eq!(
        unescaped(&sanitize(&text, usize::MAX)).as_deref(),
        Some(&*text)
    );
}

/// The text that was escaped.
fn unescaped(shown: &str) -> Option<String> {
    let mut text = String::new();
    let mut rest = shown.chars();
    while let Some(c) = rest.next() {
        text.push(match c {
            '\\' => match rest.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => {
                    let digits: String = rest.by_ref().skip(1).take_while(|c| *c != '}').collect();
                    char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
                }
                c => c,
            },
            c => c,
        });
    }
    Some(text)
}
