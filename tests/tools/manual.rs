//! The manual pages, read by the two programs that show manuals.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::with;

/// Has `program` read each page, and returns what it complains about.
fn complaints(program: &str, args: &[&str], pages: &[(String, String)]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let complaints = pages.iter().map(|(name, page)| {
        fs::write(dir.path().join(name), page).unwrap();
        let mut command = Command::new(program);
        command.current_dir(dir.path()).args(args).arg(name);
        let output = command.env("LC_ALL", "C.UTF-8").output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).into_owned()
    });
    complaints.collect()
}

fn mandoc(pages: &[(String, String)]) -> String {
    complaints("mandoc", &["-T", "lint", "-W", "warning"], pages)
}

fn groff(pages: &[(String, String)]) -> String {
    complaints("groff", &["-man", "-Tutf8", "-ww", "-z"], pages)
}

#[test]
fn mandoc_has_no_complaint_about_a_page() {
    with(&[("mandoc", "mandoc")], || {
        let pages = knothole::cli::man::pages();
        assert!(pages.len() > 5);
        assert_eq!(mandoc(&pages), "");
        let broken = ("broken.1".to_owned(), pages[0].1.replace(".SH NAME", ".Sh"));
        assert_ne!(mandoc(&[broken]), "", "it would say so");
    });
}

#[test]
fn groff_has_no_complaint_about_a_page() {
    with(&[("groff", "groff-base")], || {
        let pages = knothole::cli::man::pages();
        assert_eq!(groff(&pages), "");
        let broken = ("broken.1".to_owned(), format!("{}.xyz\n", pages[0].1));
        assert_ne!(groff(&[broken]), "", "it would say so");
    });
}

#[test]
fn a_page_reads_well_in_80_columns() {
    with(&[("mandoc", "mandoc")], || {
        for (name, page) in knothole::cli::man::pages() {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(&name), page).unwrap();
            let text = shown(dir.path(), &name);
            for line in text.lines() {
                // Commands to copy, and the table, are not broken.
                let kept = line.starts_with("       ") && knothole_or_code(line.trim());
                assert!(line.chars().count() <= 78 || kept, "{name}: {line}");
            }
            for words in ["NAME", "SYNOPSIS", "EXAMPLES", "EXIT STATUS"] {
                assert!(text.lines().any(|line| line == words), "{name}: {text}");
            }
        }
    });
}

fn knothole_or_code(line: &str) -> bool {
    line.starts_with("knothole ") || line.starts_with(|c: char| c.is_ascii_digit())
}

/// The page as a terminal shows it, without bold and underlined.
fn shown(dir: &Path, name: &str) -> String {
    let mut command = Command::new("mandoc");
    command.args(["-T", "ascii", "-O", "width=78", name]);
    let output = command.current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut plain = String::new();
    for c in text.chars() {
        match c {
            '\u{8}' => drop(plain.pop()),
            c => plain.push(c),
        }
    }
    plain
}
