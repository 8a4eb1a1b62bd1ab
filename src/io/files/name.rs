//! Names that a peer chose: the one choke point between them and the file system.
//!
//! A [`PeerName`] is one path component that means the same file, and looks like the same file, on
//! every system. Anything else is refused, never repaired: a repaired name is a name that nobody
//! chose. Where the file goes, and whether something is already there, is `destination`'s.
//!
//! Sources: POSIX.1-2024 §3.254 (filename), the Windows page "Naming Files, Paths, and
//! Namespaces", Unicode Standard Annex #9 (bidi controls), #15 (NFD), Unicode §3.13 D145
//! (canonical caseless match).

use std::collections::HashMap;
use std::fmt;

use unicode_normalization::UnicodeNormalization;

/// The longest name, in bytes of UTF-8: the limit of ext4, XFS, Btrfs, tmpfs and APFS. A name
/// within it is also within the 255 UTF-16 units of NTFS and exFAT.
pub const MAX_NAME_BYTES: usize = 255;

/// How the names of our own temporary files begin; a peer may not use it.
pub const PART_PREFIX: &str = ".knothole-";

/// A name from a peer that is safe to create in a folder and to look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerName(String);

/// Why a name is refused. Its text never contains the name, which is for
/// `report::sanitize` to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameProblem {
    Empty,
    TooLong {
        bytes: usize,
    },
    /// `.` or `..`
    Dots,
    Separator(char),
    Control(char),
    /// Draws nothing, or reorders what is drawn.
    Invisible(char),
    /// A drive letter (`C:`) or an NTFS stream (`file:stream`).
    Colon,
    /// A Windows device, with or without an extension.
    Device,
    TrailingDot,
    OuterSpace,
    /// Reserved for our own temporary files.
    Temporary,
    /// The same file as an earlier one of the list where case or Unicode form does not count.
    SameAs {
        /// Index of the earlier name in the list.
        first: usize,
    },
}

/// Which name of a list is refused, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadName {
    /// Index in the list.
    pub index: usize,
    pub problem: NameProblem,
}

impl PeerName {
    /// Accepts one name, or says what is wrong with it.
    ///
    /// # Errors
    /// The first problem found; the order of tests is fixed but no part of the contract.
    pub fn judge(name: &str) -> Result<Self, NameProblem> {
        if name.is_empty() {
            return Err(NameProblem::Empty);
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(NameProblem::TooLong { bytes: name.len() });
        }
        if name == "." || name == ".." {
            return Err(NameProblem::Dots);
        }
        for (at, c) in name.char_indices() {
            match c {
                '/' | '\\' => return Err(NameProblem::Separator(c)),
                ':' => return Err(NameProblem::Colon),
                c if c.is_control() => return Err(NameProblem::Control(c)),
                c if is_invisible(c) => return Err(NameProblem::Invisible(c)),
                // A selector has something to select on only after a character.
                c if at == 0 && is_variation_selector(c) => return Err(NameProblem::Invisible(c)),
                _ => {}
            }
        }
        if name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) {
            return Err(NameProblem::OuterSpace);
        }
        if name.ends_with('.') {
            return Err(NameProblem::TrailingDot);
        }
        if is_device(name) {
            return Err(NameProblem::Device);
        }
        if key(name).starts_with(PART_PREFIX) {
            return Err(NameProblem::Temporary);
        }
        Ok(Self(name.to_owned()))
    }

    /// Accepts the names of one manifest: each by itself, and no two that some file system would
    /// take for the same file.
    ///
    /// # Errors
    /// The first name refused.
    pub fn judge_all<S: AsRef<str>>(names: &[S]) -> Result<Vec<Self>, BadName> {
        let mut seen = HashMap::with_capacity(names.len());
        let mut accepted = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            let name = Self::judge(name.as_ref()).map_err(|problem| BadName { index, problem })?;
            if let Some(first) = seen.insert(name.key(), index) {
                return Err(BadName {
                    index,
                    problem: NameProblem::SameAs { first },
                });
            }
            accepted.push(name);
        }
        Ok(accepted)
    }

    /// The name as the peer wrote it, byte for byte.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Begins with a dot: `ls` does not list it and programs may obey it (`.bashrc`). Worth a
    /// word before it is accepted.
    pub fn is_hidden(&self) -> bool {
        self.0.starts_with('.')
    }

    pub(super) fn key(&self) -> String {
        key(&self.0)
    }
}

impl AsRef<str> for PeerName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NameProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => write!(f, "the name is empty"),
            Self::TooLong { bytes } => {
                write!(
                    f,
                    "the name has {bytes} bytes; the limit is {MAX_NAME_BYTES}"
                )
            }
            Self::Dots => write!(f, "the name means a folder (`.` or `..`)"),
            Self::Separator(c) => write!(f, "the name contains the path separator `{c}`"),
            Self::Control(c) => {
                write!(
                    f,
                    "the name contains the control character U+{:04X}",
                    u32::from(c)
                )
            }
            Self::Invisible(c) => write!(
                f,
                "the name contains the invisible or text-reordering character U+{:04X}",
                u32::from(c)
            ),
            Self::Colon => {
                write!(
                    f,
                    "the name contains `:`, a drive letter or a stream on Windows"
                )
            }
            Self::Device => write!(f, "the name is a device on Windows"),
            Self::TrailingDot => write!(f, "the name ends in a dot, which Windows drops"),
            Self::OuterSpace => write!(f, "the name begins or ends with white space"),
            Self::Temporary => {
                write!(
                    f,
                    "names beginning with `{PART_PREFIX}` are for temporary files"
                )
            }
            Self::SameAs { .. } => write!(
                f,
                "the name is the same as another in the list where case or Unicode form does not count"
            ),
        }
    }
}

impl std::error::Error for NameProblem {}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem {
            NameProblem::SameAs { first } => write!(
                f,
                "file {}: the name is the same as that of file {} where case or Unicode form does not count",
                self.index.saturating_add(1),
                first.saturating_add(1)
            ),
            problem => write!(f, "file {}: {problem}", self.index.saturating_add(1)),
        }
    }
}

impl std::error::Error for BadName {}

/// Equal for two names that a case-insensitive or normalising file system may take for one file:
/// NFD, case folded (lower, upper, lower: which also joins `ß`, `ẞ` and `SS`), NFD again.
/// Variation selectors, which such systems may ignore, do not count.
pub(super) fn key(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    name.nfd()
        .filter(|&c| !is_variation_selector(c))
        .flat_map(char::to_lowercase)
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .nfd()
        .collect()
}

/// Windows looks at the part before the first dot, without the spaces at its end, in any case; a
/// superscript digit counts as the digit.
fn is_device(name: &str) -> bool {
    const DEVICES: [&str; 7] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"];
    let stem = name.split('.').next().unwrap_or(name).trim_end();
    if DEVICES
        .iter()
        .any(|device| stem.eq_ignore_ascii_case(device))
    {
        return true;
    }
    let mut chars = stem.chars();
    let Some(last) = chars.next_back() else {
        return false;
    };
    let port = chars.as_str();
    (port.eq_ignore_ascii_case("COM") || port.eq_ignore_ascii_case("LPT"))
        && matches!(last, '0'..='9' | '¹' | '²' | '³')
}

/// Chooses the look of the character before it. Letters of many scripts and most emoji carry one,
/// so they are allowed, but never make a name different ([`key`]).
fn is_variation_selector(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Format characters that draw nothing (Unicode category Cf, except the few Arabic, Syriac and
/// Kaithi number signs, which are drawn), bidi controls among them; line and paragraph
/// separators; default-ignorable code points, fillers and blanks; noncharacters. The table in
/// `report::sanitize` must hold all of these; `tests/hostile` compares the two.
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
    use std::path::{Component, Path};

    #[test]
    fn ordinary_names_of_many_scripts_are_accepted_unchanged() {
        for name in [
            "a",
            "report.pdf",
            ".bashrc",
            "..hidden",
            "-rf",
            "~",
            "a b.txt",
            "what?.mp3",
            "naïve.txt",
            "日本語.tar.gz",
            "קובץ.txt",
            "ملف.pdf",
            "❤\u{fe0f}.png",
            "葛\u{e0100}城.txt",
            // What macOS calls its screenshots.
            "Screenshot 2024-01-01 at 9.41.00\u{202f}AM.png",
            "console.log",
            "common.txt",
            "com10",
            "lpt",
            "nullable",
        ] {
            assert_eq!(
                PeerName::judge(name).as_ref().map(PeerName::as_str),
                Ok(name)
            );
        }
    }

    #[test]
    fn the_limit_is_255_bytes_and_is_said() {
        assert!(PeerName::judge(&"é".repeat(127)).is_ok());
        assert!(PeerName::judge(&"a".repeat(255)).is_ok());
        let problem = PeerName::judge(&"é".repeat(128)).unwrap_err();
        assert_eq!(problem, NameProblem::TooLong { bytes: 256 });
        assert!(problem.to_string().contains("255"));
    }

    #[test]
    fn names_that_differ_by_case_or_form_are_one_name() {
        for (a, b) in [
            ("README", "readme"),
            ("é.txt", "e\u{301}.txt"),
            ("É.txt", "e\u{301}.TXT"),
            ("straße", "STRASSE"),
            ("straẞe", "straße"),
            ("ΣΑΣ", "σας"),
            ("\u{212a}", "k"),
            ("ﬁ", "FI"),
            ("ſ", "S"),
            ("❤\u{fe0f}", "❤"),
            ("\u{1e9b}\u{323}", "\u{1e69}"),
        ] {
            assert_eq!(
                PeerName::judge_all(&[a, "other", b]),
                Err(BadName {
                    index: 2,
                    problem: NameProblem::SameAs { first: 0 }
                }),
                "{a} {b}"
            );
        }
        assert!(PeerName::judge_all(&["a", "b", "ä", "á"]).is_ok());
        assert_eq!(PeerName::judge_all::<&str>(&[]), Ok(vec![]));
    }

    #[test]
    fn case_never_makes_a_different_name_for_any_character() {
        let cased = |c: &char| !c.to_uppercase().eq([*c]) || !c.to_lowercase().eq([*c]);
        for c in ('\0'..=char::MAX).filter(cased) {
            let c = c.to_string();
            assert_eq!(key(&c), key(&c.to_uppercase()), "{c:?}");
            assert_eq!(key(&c), key(&c.to_lowercase()), "{c:?}");
            assert_eq!(key(&c), key(&c.nfc().collect::<String>()), "{c:?}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_name_is_one_plain_component(name in any::<String>()) {
            check(&name)?;
        }

        #[test]
        fn so_is_one_made_of_dangerous_pieces(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "..", ".", "/", "\\", ":", "C", "CON", "nul", "COM1", "COM²", " ", "\t", "\0", "\n",
                "\u{1b}[2J", "\u{202e}", "\u{200b}", "\u{fe0f}", "a", "é", "e\u{301}", ".knothole-", "$",
            ]), 0..6)
        ) {
            check(&pieces.concat())?;
        }

        #[test]
        fn the_key_ignores_case_and_form(name in "\\PC{0,20}") {
            let wanted = key(&name);
            prop_assert_eq!(key(&name.nfc().collect::<String>()), wanted.clone());
            prop_assert_eq!(key(&name.nfd().collect::<String>()), wanted.clone());
            prop_assert_eq!(key(&wanted), wanted);
        }

        #[test]
        fn a_list_is_accepted_only_without_twins(names in prop::collection::vec("[aAbBéÉ]{1,2}", 0..6)) {
            let accepted = PeerName::judge_all(&names).is_ok();
            let keys: std::collections::HashSet<_> = names.iter().map(|n| key(n)).collect();
            prop_assert_eq!(accepted, keys.len() == names.len());
        }
    }

    fn check(name: &str) -> Result<(), TestCaseError> {
        let Ok(accepted) = PeerName::judge(name) else {
            return Ok(());
        };
        let name = accepted.as_str();
        let parts: Vec<_> = Path::new(name).components().collect();
        prop_assert_eq!(parts, vec![Component::Normal(name.as_ref())]);
        prop_assert!(!name.is_empty() && name.len() <= MAX_NAME_BYTES);
        prop_assert!(!name.contains(['/', '\\', ':', '\0']));
        prop_assert!(!name.chars().any(|c| c.is_control() || is_invisible(c)));
        prop_assert_eq!(name.trim(), name);
        prop_assert!(!name.ends_with('.'));
        prop_assert!(!is_device(name));
        // Judging has no memory and no effect on the name.
        prop_assert_eq!(PeerName::judge(name), Ok(accepted.clone()));
        Ok(())
    }
}
