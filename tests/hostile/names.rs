//! File names that a peer chose.

use std::path::Path;

use knothole::io::files::name::MAX_NAME_BYTES;
use knothole::io::files::{
    Action, BadName, Destination, Existing, FileErrorKind, NameProblem, PeerName, Refusal,
};
use knothole::report::sanitize::Shown;

#[test]
fn every_hostile_name_is_refused_and_its_refusal_is_safe_to_print() {
    for (name, why) in HOSTILE {
        let Err(problem) = PeerName::judge(name) else {
            panic!("accepted ({why}): {name:?}")
        };
        let text = problem.to_string();
        assert_eq!(
            Shown(&text).to_string().replace("\\\\", "\\"),
            text,
            "{why}"
        );
        let shown = Shown(name).to_string();
        assert!(!shown.chars().any(char::is_control), "{why}: {shown:?}");
        let list = PeerName::judge_all(&["fine", name]);
        assert_eq!(list, Err(BadName { index: 1, problem }), "{why}");
    }
}

#[test]
fn names_at_and_over_the_limit() {
    assert!(PeerName::judge(&"n".repeat(MAX_NAME_BYTES)).is_ok());
    for long in [
        "n".repeat(MAX_NAME_BYTES + 1),
        "é".repeat(128),
        "n".repeat(10 << 20),
    ] {
        let bytes = long.len();
        assert_eq!(PeerName::judge(&long), Err(NameProblem::TooLong { bytes }));
        assert!(Shown(&long).to_string().len() < 1000);
    }
}

#[test]
fn whatever_a_name_may_not_contain_a_terminal_does_not_get() {
    // The planes that have format characters, and one noncharacter of the others.
    let tags = '\u{e0000}'..='\u{e0fff}';
    for c in ('\0'..='\u{1ffff}')
        .chain(tags)
        .chain(['\u{2fffe}', char::MAX])
    {
        let name = format!("a{c}b");
        match PeerName::judge(&name) {
            Err(NameProblem::Control(_) | NameProblem::Invisible(_)) => {
                assert!(
                    !Shown(&name).to_string().contains(c),
                    "U+{:04X}",
                    u32::from(c)
                );
            }
            Ok(_) => {
                // The reverse: an accepted name is shown as it is, except for a selector that has
                // nothing to select on.
                let selector = matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}');
                assert!(
                    selector || Shown(&name).to_string() == name,
                    "U+{:04X}",
                    u32::from(c)
                );
            }
            Err(problem) => assert!(matches!(c, '/' | '\\' | ':'), "{problem}"),
        }
    }
}

#[test]
fn twins_in_one_manifest_are_refused() {
    for names in [
        ["x", "x"],
        ["Makefile", "makefile"],
        ["caf\u{e9}", "cafe\u{301}"],
        ["CAF\u{c9}", "cafe\u{301}"],
        ["stra\u{df}e", "STRASSE"],
        ["\u{212a}elvin", "kelvin"],
        ["\u{fb01}le", "FILE"],
        ["\u{3a3}", "\u{3c2}"],
        ["\u{2764}\u{fe0f}", "\u{2764}"],
        ["\u{ac00}", "\u{1100}\u{1161}"],
    ] {
        let expected = BadName {
            index: 1,
            problem: NameProblem::SameAs { first: 0 },
        };
        assert_eq!(PeerName::judge_all(&names), Err(expected), "{names:?}");
        // Judged one by one, they still do not get past the plan.
        let offer: Vec<_> = names
            .iter()
            .map(|n| (PeerName::judge(n).unwrap(), None))
            .collect();
        let folder = tempfile::tempdir().unwrap();
        for existing in [Existing::Refuse, Existing::Overwrite, Existing::Rename] {
            let plan = Destination::folder(folder.path(), existing)
                .unwrap()
                .plan(&offer);
            assert!(matches!(plan, Err(Refusal::SameName { .. })), "{names:?}");
        }
    }
}

#[test]
fn an_accepted_name_stays_in_the_folder_under_every_policy() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    std::fs::write(&victim, b"precious").unwrap();
    let folder = outside.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink("../victim", folder.join("link")).unwrap();
    std::os::unix::fs::symlink("../missing", folder.join("dangling")).unwrap();
    for name in [
        "..hidden",
        "-rf",
        "~",
        "$HOME",
        "a;b",
        "link",
        "dangling",
        "%2e%2e%2fvictim",
    ] {
        let offer = [(PeerName::judge(name).unwrap(), Some(4))];
        for existing in [Existing::Overwrite, Existing::Rename] {
            let destination = Destination::folder(&folder, existing).unwrap();
            let planned = destination.plan(&offer).unwrap().remove(0);
            assert_eq!(planned.path().parent(), Some(folder.as_path()));
            assert_ne!(planned.action(), Action::Stream);
            let mut incoming = planned.begin().unwrap();
            incoming.write(b"evil").unwrap();
            let path = incoming.commit().unwrap();
            assert!(std::fs::symlink_metadata(path).unwrap().is_file());
        }
    }
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 2);
}

#[test]
fn no_name_from_a_peer_makes_a_device_or_a_chosen_file_name_matter() {
    // The user's path is the user's; the peer's name does not reach it.
    let folder = tempfile::tempdir().unwrap();
    let destination =
        Destination::from_output(Some(&folder.path().join("mine")), Existing::Refuse).unwrap();
    let plan = destination
        .plan(&[(PeerName::judge("theirs").unwrap(), None)])
        .unwrap();
    assert_eq!(plan[0].path(), folder.path().join("mine"));
    // Even in /dev the peer cannot name a device to write to.
    let dev = Destination::folder(Path::new("/dev"), Existing::Overwrite).unwrap();
    match dev.plan(&[(PeerName::judge("zero").unwrap(), None)]) {
        Err(Refusal::Exists { .. }) => {}
        Err(Refusal::Failed(error)) => assert_eq!(error.kind(), FileErrorKind::Disk),
        other => panic!("{other:?}"),
    }
}

const HOSTILE: &[(&str, &str)] = &[
    ("", "empty"),
    (".", "the folder itself"),
    ("..", "its parent"),
    ("...", "three dots: Windows drops them"),
    ("../x", "traversal"),
    ("../../../../etc/cron.d/x", "traversal"),
    ("x/../../y", "traversal in the middle"),
    ("x/", "a slash at the end"),
    ("/etc/passwd", "absolute"),
    ("//host/share", "network share"),
    ("~/.ssh/authorized_keys", "croc#593"),
    ("./x", "a dot component"),
    ("..\\x", "traversal on Windows"),
    ("x\\y", "separator on Windows"),
    ("\\\\?\\C:\\x", "verbatim path"),
    ("\\\\.\\PhysicalDrive0", "device path"),
    ("C:", "drive"),
    ("C:x", "relative to a drive"),
    ("C:\\x", "absolute on Windows"),
    ("c:/x", "absolute on Windows"),
    ("file.txt:stream", "NTFS stream"),
    ("file.txt::$DATA", "NTFS stream"),
    (":", "only a colon"),
    ("x\0", "NUL at the end"),
    ("x\0.txt", "NUL in the middle"),
    ("x\ny", "line feed"),
    ("x\r", "carriage return"),
    ("x\ty", "tabulator"),
    ("\u{1b}[2J", "clears the screen (croc#595)"),
    ("\u{1b}]0;title\u{7}", "sets the title"),
    ("\u{1b}]52;c;ZXZpbA==\u{7}", "fills the clipboard"),
    ("\u{9b}31m", "C1 control sequence introducer"),
    ("x\u{85}", "C1 next line"),
    ("x\u{7f}", "delete"),
    ("invoice\u{202e}fdp.exe", "right-to-left override"),
    ("x\u{202a}y", "bidi embedding"),
    ("x\u{2066}y\u{2069}", "bidi isolates"),
    ("x\u{200f}", "right-to-left mark"),
    ("x\u{61c}y", "Arabic letter mark"),
    ("x\u{200b}.txt", "zero-width space"),
    ("x\u{200d}y", "zero-width joiner"),
    ("\u{feff}x", "byte order mark"),
    ("x\u{ad}y", "soft hyphen"),
    ("x\u{2060}y", "word joiner"),
    ("x\u{2028}y", "line separator"),
    ("x\u{2029}y", "paragraph separator"),
    ("x\u{e0041}y", "tag character"),
    ("\u{3164}", "Hangul filler"),
    ("x\u{2800}y", "blank Braille pattern"),
    ("x\u{ffff}y", "noncharacter"),
    ("\u{fe0f}x", "selector with nothing before it"),
    ("CON", "console"),
    ("con", "console"),
    ("Con.txt", "console with an extension"),
    ("NUL.tar.gz", "null device with extensions"),
    ("nul .txt", "a space before the extension does not count"),
    ("PRN", "printer"),
    ("aux.c", "serial port"),
    ("COM1", "serial port"),
    ("com9.log", "serial port"),
    ("COM\u{b9}", "serial port with a superscript digit"),
    ("LPT\u{b2}.txt", "printer port with a superscript digit"),
    ("lpt\u{b3}", "printer port with a superscript digit"),
    ("LPT1", "printer port"),
    ("COM0", "serial port"),
    ("CONIN$", "console input"),
    ("conout$", "console output"),
    ("CLOCK$", "clock device"),
    ("x.", "a dot at the end"),
    ("x..", "dots at the end"),
    ("x ", "a space at the end"),
    (" x", "a space at the beginning"),
    ("x. ", "a dot and a space"),
    (" ", "only a space"),
    ("\u{a0}x", "no-break space at the beginning"),
    ("x\u{3000}", "ideographic space at the end"),
    (".knothole-0123456789abcdef.part", "our temporary file"),
    (
        ".KNOTHOLE-x",
        "our temporary file where case does not count",
    ),
    (
        ".\u{212a}nothole-x",
        "our temporary file, spelt with a Kelvin sign",
    ),
];
