//! What the fuzzer runs: a text as a length of time, and a number as everything it is shown as.

use std::time::Duration;

use super::{clock, duration, parse_duration, rate, size, utc};
use crate::proto::fuzz::Input;

/// Reads `data` as a text, and as a number.
///
/// # Panics
///
/// When a time that was read does not survive being written and read again, or a rendering is no
/// short line.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    match parse_duration(&String::from_utf8_lossy(data)) {
        Ok(read) => {
            let whole = u64::try_from(read.as_millis()).is_ok();
            let again = parse_duration(&format!("{}ms", read.as_millis()));
            assert!(again == Ok(read) || !whole, "{read:?} {again:?}");
        }
        Err(why) => assert!(why.is_ascii() && why.len() < 80, "{why}"),
    }
    let number = u64::from_be_bytes(Input(data).array());
    let time = Duration::from_millis(number);
    let shown = [
        size(number),
        rate(f64::from_bits(number)),
        clock(time),
        duration(time),
        utc(number),
    ];
    for text in shown {
        assert!((1..40).contains(&text.len()) && text.is_ascii(), "{text}");
    }
}
