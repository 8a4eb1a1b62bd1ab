//! Sizes, rates, lengths of time and lists: in words people read, and back from what they type.

use std::fmt::Write as _;
use std::time::Duration;

mod fuzz;
#[doc(hidden)]
pub use fuzz::fuzz;

/// Renders a number of bytes in binary units: `999 B`, `1.5 KiB`, `12 MiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 and above would be shown as 1024: it belongs to the next unit.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value < 9.95 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

/// Renders bytes per second: `12 MiB/s`.
#[must_use]
pub fn rate(bytes_per_second: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and turns NaN into 0"
    )]
    let whole = bytes_per_second as u64;
    format!("{}/s", size(whole))
}

/// Renders bytes per second as networks are sold: `148 Mbit/s`.
#[must_use]
pub fn bits(bytes_per_second: f64) -> String {
    let mut value = bytes_per_second.max(0.0) * 8.0;
    let mut unit = "bit/s";
    for larger in ["kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"] {
        // 999.5 and above would be shown as 1000.
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1000.0, larger);
    }
    let digits = usize::from(value < 9.95 && unit != "bit/s");
    format!("{value:.digits$} {unit}")
}

/// Renders a running clock: `0:07`, `12:34`, `1:02:03`.
#[must_use]
pub fn clock(duration: Duration) -> String {
    let s = duration.as_secs();
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    if h > 0 {
        format!("{h}:{m:02}:{s:02}")
    } else {
        format!("{m}:{s:02}")
    }
}

/// Renders how long something took or lasts, in its two largest units: `2.3 s`, `5 min`,
/// `1 h 30 min`, `2 d`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let s = duration.as_secs();
    if s < 10 {
        let ms = duration.subsec_millis();
        return match (s, ms) {
            (_, 0) => format!("{s} s"),
            (0, _) => format!("{ms} ms"),
            _ => format!("{s}.{} s", ms / 100),
        };
    }
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = units.iter().position(|(unit, _)| s >= *unit).unwrap_or(3);
    let mut rest = s;
    let mut text = String::new();
    for (unit, name) in units.iter().skip(first).take(2) {
        let n = rest / unit;
        rest %= unit;
        if n > 0 {
            let space = if text.is_empty() { "" } else { " " };
            let _ = write!(text, "{space}{n} {name}");
        }
    }
    text
}

/// Reads a length of time as people type it: `90s`, `5m`, `1h30m`, `2d`, `250ms`.
///
/// # Errors
/// Says what is wrong when there is no number, no unit, an unknown unit, or too much of it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const EXAMPLES: &str = "write it like 90s, 5m, 1h or 2d";
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(EXAMPLES.to_owned());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        if number.is_empty() {
            return Err(format!("a number is missing: {EXAMPLES}"));
        }
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let millis: u64 = match unit {
            "ms" => 1,
            "s" | "sec" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" => return Err(format!("the unit is missing: {EXAMPLES}")),
            _ => return Err(format!("no such unit: {EXAMPLES}")),
        };
        let part = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(millis));
        total = part
            .and_then(|ms| total.checked_add(Duration::from_millis(ms)))
            .ok_or("too long")?;
        rest = tail.trim_start();
    }
    Ok(total)
}

/// Renders a moment, in seconds since 1970, to the minute: `2026-11-23 15:04 UTC`.
#[must_use]
pub fn utc(seconds: u64) -> String {
    let (days, minutes) = (seconds / 86_400, seconds % 86_400 / 60);
    // Days to a date, by eras of 400 years that begin on the first of March, so that the leap day
    // is the last of its year.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let day = day - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year + u64::from(month <= 2);
    format!(
        "{year}-{month:02}-{day:02} {:02}:{:02} UTC",
        minutes / 60,
        minutes % 60
    )
}

/// Renders a count with its noun: `1 file`, `3 files`.
#[must_use]
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 {
        format!("1 {noun}")
    } else {
        format!("{n} {noun}s")
    }
}

/// Renders words under one another in at most three numbered columns, as `width` allows, to be
/// read aloud: lines without the last line end.
#[must_use]
pub fn numbered(words: &[&str], width: usize) -> String {
    const GAP: usize = 2;
    let longest = words.iter().map(|word| word.chars().count()).max();
    let cell = GAP + 2 + longest.unwrap_or(0);
    let per_row = (width / cell).clamp(1, 3);
    let mut text = String::new();
    for (at, word) in words.iter().enumerate() {
        if at > 0 && at.is_multiple_of(per_row) {
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        let longest = cell - GAP - 2;
        let _ = write!(text, "{:GAP$}{} {word:longest$}", "", at + 1);
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bits_count_by_thousands() {
        for (bytes_per_second, text) in [
            (0.0, "0 bit/s"),
            (-1.0, "0 bit/s"),
            (f64::NAN, "0 bit/s"),
            (1.0, "8 bit/s"),
            (124.9, "999 bit/s"),
            (125.0, "1.0 kbit/s"),
            (18_500_000.0, "148 Mbit/s"),
            (124_990_000.0, "1.0 Gbit/s"),
            (1e15, "8000 Tbit/s"),
        ] {
            assert_eq!(bits(bytes_per_second), text, "{bytes_per_second}");
        }
    }

    #[test]
    fn sizes_have_two_or_three_digits_and_a_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (10 * 1024, "10 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (12 * 1024 * 1024, "12 MiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(rate(1_500_000.0), "1.4 MiB/s");
        assert_eq!(rate(f64::NAN), "0 B/s");
    }

    #[test]
    fn times_read_naturally() {
        for (ms, text) in [
            (0, "0 s"),
            (7, "7 ms"),
            (2_340, "2.3 s"),
            (9_000, "9 s"),
            (59_900, "59 s"),
            (60_000, "1 min"),
            (90_000, "1 min 30 s"),
            (3_600_000, "1 h"),
            (5_400_000, "1 h 30 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
        assert_eq!(clock(Duration::from_secs(7)), "0:07");
        assert_eq!(clock(Duration::from_secs(3_723)), "1:02:03");
    }

    #[test]
    fn words_are_numbered_in_columns_that_fit() {
        let words = ["best", "athlete", "behind", "comic", "region", "pigeon"];
        let wide = "  1 best     2 athlete  3 behind\n  4 comic    5 region   6 pigeon";
        assert_eq!(numbered(&words, 80), wide);
        assert_eq!(numbered(&words, 33), wide);
        assert_eq!(numbered(&words, 32).lines().count(), 3);
        assert_eq!(numbered(&words, 1).lines().last(), Some("  6 pigeon"));
        let longest = numbered(&["abstract"; 6], 40);
        assert!(longest.lines().all(|line| line.len() <= 40) && longest.lines().count() == 2);
        assert_eq!(numbered(&[], 40), "");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59 UTC"),
            (1_767_225_600, "2026-01-01 00:00 UTC"),
            (4_107_542_399, "2100-02-28 23:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }

    #[test]
    fn typed_times_are_understood() {
        for (text, seconds) in [
            ("90s", 90),
            ("5m", 300),
            ("1h", 3600),
            ("2d", 172_800),
            ("1h 30m", 5400),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn a_time_that_is_not_one_says_why() {
        for (text, why) in [
            ("", "write it like"),
            ("60", "unit is missing"),
            ("h", "number is missing"),
            ("-5s", "number is missing"),
            ("1.5h", "unit is missing"),
            ("5 parsecs", "unit is missing"),
            ("5parsecs", "no such unit"),
            ("99999999999999999999d", "too long"),
        ] {
            let said = parse_duration(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,20}", typed in "([0-9]{0,3}(ms|s|m|h|d) ?){0,3}") {
            fuzz(text.as_bytes());
            fuzz(typed.as_bytes());
        }

        #[test]
        fn every_rendering_is_short(n: u64, s in 0..u64::MAX / 1000) {
            prop_assert!(size(n).len() <= 8);
            prop_assert!(!duration(Duration::from_secs(s)).is_empty());
        }
    }
}
