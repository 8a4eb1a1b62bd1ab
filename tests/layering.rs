//! The import table of ARCHITECTURE.md, held: which room may name which, which crates a room may
//! use, and that `proto` and `report` have no effects. Reads the sources, without the compiler.

use std::fs;
use std::path::{Path, PathBuf};

/// What a room may name of ours.
const MAY_SEE: [(&str, &[&str]); 5] = [
    ("proto", &["proto"]),
    ("report", &["proto", "report"]),
    ("io", &["proto", "io"]),
    ("cli", &["proto", "io", "report", "cli", "exit"]),
    ("exit", &["exit"]),
];
/// Crates that the pure rooms may use; tests in them may use [`IN_TESTS`] too.
const PURE_CRATES: [(&str, &[&str]); 3] = [
    (
        "proto",
        // `image` and `rqrr` turn the bytes of a picture into the text of a QR code, `httparse` and
        // `roxmltree` what a router says into its words, `simple_dns` a DNS answer into its records.
        &[
            "blake3",
            "httparse",
            "image",
            "roxmltree",
            "rqrr",
            "rtc_stun",
            "serde",
            "serde_json",
            "simple_dns",
        ],
    ),
    (
        "report",
        // `image` writes a QR code as the bytes of a PNG file.
        &[
            "image",
            "qrcode",
            "serde",
            "serde_json",
            "unicode_normalization",
        ],
    ),
    ("exit", &[]),
];
const IN_TESTS: [&str; 3] = ["proptest", "qrcode", "quircs"];
/// Crates with a single owner: only files whose path starts like this may name them.
const OWNED: [(&str, &str); 5] = [
    ("webrtc", "io/peer/"),
    ("rtc", "io/peer/"),
    ("rtc_turn", "io/peer/"),
    ("rtc_stun", "proto/token/check"),
    ("mimalloc", "main.rs"),
];
/// Paths that a pure room never names.
const EFFECTS: [&str; 15] = [
    "std::env",
    "std::fs",
    "std::io::stderr",
    "std::io::stdin",
    "std::io::stdout",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process::Command",
    "std::process::abort",
    "std::process::exit",
    "std::thread",
    "std::time::SystemTime",
];
/// Macros that nothing in `src/` uses outside its tests: what is printed goes through `cli::ui`,
/// and errors are values.
const MACROS: [&str; 8] = [
    "print",
    "println",
    "eprint",
    "eprintln",
    "dbg",
    "panic",
    "todo",
    "unimplemented",
];

#[test]
fn every_file_keeps_to_its_room() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = dependencies(&fs::read_to_string(root.join("Cargo.toml")).unwrap());
    assert!(
        crates.iter().any(|name| name == "webrtc") && crates.iter().any(|name| name == "proptest"),
        "{crates:?}"
    );
    let mut files = vec![];
    list(&root.join("src"), &mut files);
    assert!(files.len() > 20, "{files:?}");
    let mut wrong = vec![];
    for file in files {
        let name = file.strip_prefix(root.join("src")).unwrap();
        let name = name.to_str().unwrap().replace('\\', "/");
        wrong.extend(violations(
            &name,
            &fs::read_to_string(&file).unwrap(),
            &crates,
        ));
    }
    assert!(
        wrong.is_empty(),
        "see the import table in ARCHITECTURE.md:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn planted_violations_are_caught() {
    for (file, source, word) in [
        ("proto/a.rs", "use crate::io::peer::Link;", "crate::io"),
        (
            "proto/a.rs",
            "use crate::{proto::token, report};",
            "crate::report",
        ),
        (
            "proto/token/a.rs",
            "use super::super::super::cli;",
            "crate::cli",
        ),
        (
            "report/a.rs",
            "fn f() -> crate::exit::Exit {}",
            "crate::exit",
        ),
        ("report/mod.rs", "use super::io::files;", "crate::io"),
        ("io/peer/a.rs", "use crate::report::human;", "crate::report"),
        ("exit.rs", "use crate::cli;", "crate::cli"),
        (
            "io/transfer/a.rs",
            "use webrtc::runtime::Runtime;",
            "webrtc",
        ),
        ("cli/a.rs", "fn f() { ::rtc::ice::f(); }", "rtc"),
        ("io/files/a.rs", "use rtc_turn as turn;", "rtc_turn"),
        ("proto/stun/a.rs", "use rtc_stun::message::X;", "rtc_stun"),
        ("proto/a.rs", "use tokio::sync::mpsc;", "tokio"),
        (
            "proto/a.rs",
            "fn f() { getrandom::fill(&mut x); }",
            "getrandom",
        ),
        ("report/a.rs", "use colored::Colorize;", "colored"),
        ("proto/a.rs", "use proptest::prelude::*;", "proptest"),
        (
            "proto/a.rs",
            "use std::net::{IpAddr, UdpSocket};",
            "UdpSocket",
        ),
        ("proto/a.rs", "use std::{fmt, fs};", "std::fs"),
        ("proto/a.rs", "fn f() { std::env::var(\"X\"); }", "std::env"),
        ("report/a.rs", "use std::thread;", "std::thread"),
        (
            "proto/a.rs",
            "use std::time::{Duration, SystemTime};",
            "SystemTime",
        ),
        (
            "proto/a.rs",
            "fn f() { let now = Instant::now(); }",
            "Instant::now",
        ),
        (
            "proto/a.rs",
            "use std::time as t; fn f() { t::Instant::now(); }",
            "Instant::now",
        ),
        ("proto/a.rs", "fn f() { println!(\"x\"); }", "println!"),
        ("cli/a.rs", "fn f() { eprintln!(\"x\"); }", "eprintln!"),
        ("io/a.rs", "fn f() { x.unwrap(); }", ".unwrap()"),
        ("io/a.rs", "fn f() { panic!(); }", "panic!"),
        (
            "io/a.rs",
            "#[cfg(test)] mod tests { fn f() {} } fn g() { todo!() }",
            "todo!",
        ),
    ] {
        let found = violations(file, source, &crates());
        assert_eq!(found.len(), 1, "{file}: {source}: {found:?}");
        assert!(
            found[0].starts_with(&format!("src/{file}:1: ")) && found[0].contains(word),
            "{file}: {source}: {found:?}"
        );
    }
}

#[test]
fn what_is_allowed_is_left_alone() {
    for (file, source) in [
        (
            "proto/token/a.rs",
            "use super::super::stun; use crate::proto::app;",
        ),
        ("report/a.rs", "use crate::proto::{token::Token, app};"),
        (
            "io/peer/a.rs",
            "use webrtc::runtime::{self, Runtime}; use rtc::x;",
        ),
        ("proto/token/check.rs", "use rtc_stun::message::X;"),
        ("cli/a.rs", "use crate::{io, proto, report, exit::Exit};"),
        ("io/a.rs", "fn f() { Instant::now(); std::fs::read(x); }"),
        (
            "proto/a.rs",
            "// crate::io, println!\n/* std::fs /* */ */ fn f() {}",
        ),
        (
            "proto/a.rs",
            "const A: &str = \"crate::io \\\" std::fs\"; const B: char = '\"';",
        ),
        (
            "proto/a.rs",
            "const A: &str = r#\"use \"crate::io\"#; fn f<'a>(x: &'a u8) {}",
        ),
        (
            "proto/a.rs",
            "use std::time::Instant; fn f(now: Instant) { x.now(); }",
        ),
        (
            "proto/a.rs",
            "#[cfg(test)] mod tests { use super::*; use proptest::x; fn f() { x.unwrap(); Instant::now(); } }",
        ),
        ("lib.rs", "pub mod cli; pub use cli::run;"),
        (
            "main.rs",
            "static A: mimalloc::MiMalloc = mimalloc::MiMalloc; fn f() { knothole::run(x) }",
        ),
    ] {
        let found = violations(file, source, &crates());
        assert!(found.is_empty(), "{file}: {source}: {found:?}");
    }
}

/// What `file` (a path under `src/`) names against the rules, one line each.
fn violations(file: &str, source: &str, crates: &[String]) -> Vec<String> {
    let place: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    let room = place[0];
    let module: Vec<&str> = match place.as_slice() {
        ["lib" | "main"] => vec![],
        [folders @ .., "mod"] => folders.to_vec(),
        all => all.to_vec(),
    };
    let pure = PURE_CRATES.iter().find(|(pure, _)| *pure == room);
    let sees = MAY_SEE.iter().find(|(name, _)| *name == room);
    let mut wrong = vec![];
    for Name { line, path, test } in names(&tokens(source), &module) {
        let mut say = |what: String| wrong.push(format!("src/{file}:{line}: {what}"));
        let first = path[0].as_str();
        if first == "crate" {
            if let (Some((_, sees)), Some(other)) = (sees, path.get(1))
                && MAY_SEE.iter().any(|(name, _)| name == other)
                && !sees.contains(&other.as_str())
            {
                say(format!("{room} may not name crate::{other}"));
            }
            continue;
        }
        if let Some(name) = first.strip_suffix('!') {
            if !test && MACROS.contains(&name) {
                say(format!("{first} outside tests"));
            }
            continue;
        }
        if first == ".unwrap()" {
            if !test {
                say(format!("{first} outside tests"));
            }
            continue;
        }
        if crates.iter().any(|name| name == first) {
            let owner = OWNED.iter().find(|(name, _)| *name == first);
            let kept_out = owner.is_some_and(|(_, owner)| !file.starts_with(owner));
            let impure = pure.is_some_and(|(_, may)| {
                !(may.contains(&first) || test && IN_TESTS.contains(&first))
            });
            if kept_out || impure {
                say(format!("the crate {first} has no place here"));
            }
            continue;
        }
        let path = path.join("::");
        let effect = EFFECTS.iter().any(|effect| {
            path.strip_prefix(effect)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        });
        if pure.is_some() && !test && (effect || path.ends_with("Instant::now")) {
            say(format!("{room} is pure, {path} is an effect"));
        }
    }
    wrong
}

/// Something that source code names: a path from `crate`, a path from elsewhere, a macro (with
/// its `!`), or `.unwrap()`.
struct Name {
    line: usize,
    path: Vec<String>,
    test: bool,
}

#[derive(Debug, PartialEq)]
struct Token<'a> {
    line: usize,
    text: &'a str,
}

/// Finds every path with two parts or more, and every crate that a `use` names. Groups (`a::{b, c}`)
/// are taken apart; `super` and `self` are resolved against `module`.
fn names(tokens: &[Token<'_>], module: &[&str]) -> Vec<Name> {
    let mut found = vec![];
    let mut depth = 0;
    // Inline modules: name, the depth of their braces, and whether they are tests.
    let mut inside: Vec<(&str, usize, bool)> = vec![];
    // The prefix of each open group of a path, with its depth.
    let mut groups: Vec<(Vec<String>, usize)> = vec![];
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut at = 0;
    while at < tokens.len() {
        let line = tokens[at].line;
        let test = inside.iter().any(|(_, _, test)| *test);
        match text(at) {
            "{" => depth += 1,
            "}" => {
                if groups.last().is_some_and(|(_, open)| *open == depth) {
                    groups.pop();
                }
                if inside.last().is_some_and(|(_, open, _)| *open == depth) {
                    inside.pop();
                }
                depth -= 1;
            }
            "mod" if is_ident(text(at + 1)) && text(at + 2) == "{" => {
                let attribute: Vec<&str> = (0..at).rev().map(text).take(12).collect();
                let end = attribute
                    .iter()
                    .position(|text| [";", "}", "{"].contains(text));
                let attribute = attribute[..end.unwrap_or(attribute.len())].join("");
                let tests = attribute.contains("])test(cfg[#");
                inside.push((text(at + 1), depth + 1, tests));
                at += 1;
            }
            "." if text(at + 1) == "unwrap" && text(at + 2) == "(" => found.push(Name {
                line,
                path: vec![".unwrap()".into()],
                test,
            }),
            word if is_ident(word) && text(at + 1) == "!" && text(at + 2) != "=" => {
                found.push(Name {
                    line,
                    path: vec![format!("{word}!")],
                    test,
                });
            }
            word if is_ident(word) => {
                let mut path = vec![word.to_owned()];
                while text(at + 1) == "::" && is_ident(text(at + 2)) {
                    path.push(text(at + 2).to_owned());
                    at += 2;
                }
                let open = text(at + 1) == "::" && text(at + 2) == "{";
                let in_use = at > 0 && ["use", "::"].contains(&text(at - 1));
                if let Some((prefix, _)) = groups.last() {
                    path.splice(0..0, prefix.iter().cloned());
                }
                if open {
                    depth += 1;
                    groups.push((path, depth));
                    at += 3;
                    continue;
                }
                if path.len() > 1 || in_use {
                    let modules: Vec<&str> = module
                        .iter()
                        .copied()
                        .chain(inside.iter().map(|(name, ..)| *name))
                        .collect();
                    found.push(Name {
                        line,
                        path: resolve(path, &modules),
                        test,
                    });
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

fn resolve(path: Vec<String>, module: &[&str]) -> Vec<String> {
    let supers = path.iter().take_while(|part| *part == "super").count();
    let own = usize::from(path[0] == "self");
    match path[0].as_str() {
        "super" | "self" => {
            let kept = module.len().saturating_sub(supers);
            std::iter::once("crate".to_owned())
                .chain(module[..kept].iter().map(|part| (*part).to_owned()))
                .chain(path.into_iter().skip(supers + own))
                .collect()
        }
        "knothole" => std::iter::once("crate".to_owned())
            .chain(path.into_iter().skip(1))
            .collect(),
        _ => path,
    }
}

fn is_ident(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && ![
            "as", "const", "dyn", "else", "fn", "for", "if", "impl", "in", "let", "match", "mod",
            "move", "mut", "pub", "ref", "return", "static", "use", "where", "while",
        ]
        .contains(&text)
}

/// Cuts source code into words, `::` and single characters, without comments and literals.
fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut found = vec![];
    let mut rest = source;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let skipped = comment(rest).or_else(|| literal(rest));
        let (length, token) = if let Some(length) = skipped {
            (length, false)
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            (end.unwrap_or(rest.len()), true)
        } else if rest.starts_with("::") {
            (2, true)
        } else {
            (first.len_utf8(), !first.is_whitespace())
        };
        let (text, after) = rest.split_at(length);
        if token {
            found.push(Token { line, text });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    found
}

/// The length of the comment that the text starts with.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if !text.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0, 0);
    loop {
        let rest = &text[at..];
        let step = if rest.starts_with("/*") {
            depth += 1;
            2
        } else if rest.starts_with("*/") {
            depth -= 1;
            2
        } else {
            rest.chars().next().map_or(0, char::len_utf8)
        };
        at += step;
        if depth == 0 || step == 0 {
            return Some(at);
        }
    }
}

/// The length of the string, character or lifetime that the text starts with.
fn literal(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        text.strip_prefix(prefix).is_some_and(|rest| {
            rest.starts_with('"') || prefix.ends_with('r') && raw_hashes(rest).is_some()
        })
    });
    if let Some(prefix) = prefix {
        let rest = &text[prefix.len()..];
        if prefix.ends_with('r') {
            let hashes = raw_hashes(rest)?;
            let end = format!("\"{}", "#".repeat(hashes));
            let body = prefix.len() + hashes + 1;
            return Some(
                text[body..]
                    .find(&end)
                    .map_or(text.len(), |at| body + at + end.len()),
            );
        }
        return Some(prefix.len() + quoted(rest, '"'));
    }
    let rest = text
        .strip_prefix("b'")
        .map(|_| &text[1..])
        .or_else(|| text.starts_with('\'').then_some(text))?;
    let before = text.len() - rest.len();
    let mut chars = rest.chars().skip(1);
    let (first, second) = (chars.next(), chars.next());
    if first == Some('\\') || second == Some('\'') {
        return Some(before + quoted(rest, '\''));
    }
    let name = rest[1..].find(|c: char| !c.is_alphanumeric() && c != '_');
    Some(before + 1 + name.unwrap_or(rest.len() - 1))
}

/// The number of `#` between `r` and the quotation mark.
fn raw_hashes(text: &str) -> Option<usize> {
    let hashes = text.len() - text.trim_start_matches('#').len();
    text[hashes..].starts_with('"').then_some(hashes)
}

/// The length of what stands between two `quote`s, with them.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + 1;
        }
    }
    text.len()
}

/// The names of all crates in Cargo.toml, as the code writes them.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut section = "";
    let mut names = vec![];
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]")
            && let Some((name, _)) = line.split_once('=')
        {
            names.push(name.trim().replace('-', "_"));
        }
    }
    names
}

fn crates() -> Vec<String> {
    let names = [
        "colored",
        "getrandom",
        "mimalloc",
        "proptest",
        "rtc",
        "rtc_stun",
        "rtc_turn",
        "tokio",
        "webrtc",
    ];
    names.map(str::to_owned).to_vec()
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, files);
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
}
