//! `completions/` and `man/` are made from the parser: the committed files must be what it says.
//! `KNOTHOLE_BLESS=1 cargo test --test assets` writes them anew.

use std::collections::BTreeMap;
use std::path::Path;

use clap_complete::{Generator, Shell};

#[test]
fn completions_are_what_the_parser_says() {
    let shells = [
        Shell::Bash,
        Shell::Zsh,
        Shell::Fish,
        Shell::PowerShell,
        Shell::Elvish,
    ];
    let files = shells.map(|shell| {
        (
            shell.file_name("knothole"),
            knothole::cli::completions::script(shell),
        )
    });
    compare("completions", files.into());
}

#[test]
fn manual_pages_are_what_the_parser_says() {
    let pages = knothole::cli::man::pages().into_iter();
    compare(
        "man",
        pages
            .map(|(name, page)| (name, page.into_bytes()))
            .collect(),
    );
}

fn compare(dir: &str, expected: BTreeMap<String, Vec<u8>>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let bless = std::env::var_os("KNOTHOLE_BLESS").is_some_and(|value| value == "1");
    let mut committed = BTreeMap::new();
    if dir.is_dir() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            committed.insert(name, std::fs::read(&path).unwrap());
        }
    }
    if bless {
        std::fs::create_dir_all(&dir).unwrap();
        for (name, contents) in &expected {
            if committed.get(name) != Some(contents) {
                std::fs::write(dir.join(name), contents).unwrap();
            }
        }
        for name in committed
            .keys()
            .filter(|name| !expected.contains_key(*name))
        {
            std::fs::remove_file(dir.join(name)).unwrap();
        }
        return;
    }
    let names: std::collections::BTreeSet<_> = expected.keys().chain(committed.keys()).collect();
    let stale: Vec<_> = names
        .into_iter()
        .filter(|name| expected.get(*name) != committed.get(*name))
        .collect();
    assert!(
        stale.is_empty(),
        "not what the parser says: {stale:?} in {}\nrun: KNOTHOLE_BLESS=1 cargo test --test assets",
        dir.display()
    );
}
