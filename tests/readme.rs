//! What is written agrees with what is: README, ARCHITECTURE, manual pages, CI and the program.

use std::fs;
use std::path::Path;

use knothole::exit::TABLE;

#[test]
fn readme_and_manual_quote_the_table_of_exit_codes() {
    assert!(read("README.md").contains(&format!("```text\n{TABLE}```\n")));
    let manual: String = TABLE
        .lines()
        .map(|line| format!("{}\n", line.trim_start().replace('-', "\\-")))
        .collect();
    for entry in fs::read_dir(path("man")).unwrap() {
        let page = entry.unwrap().path();
        let text = fs::read_to_string(&page).unwrap();
        assert!(text.contains(&manual), "{}", page.display());
    }
}

#[test]
fn ci_runs_the_two_commands_of_the_readme() {
    let readme = read("README.md");
    let first = block_after(&readme, "## On a fresh machine", "```sh\n");
    let commands: Vec<&str> = first.lines().collect();
    assert_eq!(
        commands,
        ["cargo run --release -- selftest", "cargo test"],
        "the first block of the README"
    );
    let script = read(".ci/run");
    for command in commands {
        // CI builds without --release: what is tested there is the code, not the optimiser.
        let command = command.replace(" --release", "");
        assert!(
            script.lines().any(|line| line.ends_with(&command)),
            "{command} is not in .ci/run"
        );
    }
    assert!(script.contains("KNOTHOLE_LAB=require") && script.contains("KNOTHOLE_LAB_LOG="));
}

#[test]
fn the_readme_has_an_example_of_each_subcommand() {
    let examples = examples(&read("README.md"));
    for sub in knothole::cli::command().get_subcommands() {
        let name = sub.get_name();
        assert!(
            examples
                .iter()
                .any(|words| words.get(1).is_some_and(|word| word == name)),
            "no example of {name}"
        );
    }
}

#[test]
fn the_parser_takes_every_example() {
    for file in ["README.md", "benches/README.md", "CONTRIBUTING.md"] {
        for words in examples(&read(file)) {
            let parsed = knothole::cli::command().try_get_matches_from(&words);
            assert!(parsed.is_ok(), "{file}: {words:?}: {}", parsed.unwrap_err());
        }
    }
}

#[test]
fn every_option_and_variable_that_is_named_exists() {
    let mut command = knothole::cli::command();
    command.build();
    let arguments: Vec<_> = command
        .get_subcommands()
        .flat_map(clap::Command::get_arguments)
        .collect();
    let readme = read("README.md");
    let prose: String = readme.split("```").step_by(2).collect();
    for code in prose.split('`').skip(1).step_by(2) {
        for word in code.split([' ', '=']) {
            let known = match word.strip_prefix("--") {
                Some("release" | "path" | "version" | "") => true, // cargo's, and the program's own
                Some(long) => arguments.iter().any(|arg| arg.get_long() == Some(long)),
                None if word.starts_with("KNOTHOLE_LAB") => true,
                None if word.starts_with("KNOTHOLE_") && word.is_ascii() => arguments
                    .iter()
                    .any(|arg| arg.get_env().is_some_and(|name| name == word)),
                None => true,
            };
            assert!(known, "{word}");
        }
    }
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let documents = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "docs/token.md",
        "docs/protocol.md",
        "docs/sdp.md",
        "docs/link.md",
        "fuzz/README.md",
    ];
    for document in documents {
        let text = read(document);
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                path(document)
            } else {
                path(document).parent().unwrap().join(file)
            };
            assert!(target.is_file(), "{document}: {link}");
            let headings = fs::read_to_string(&target).unwrap();
            let mut headings = headings.lines().filter(|line| line.starts_with('#'));
            let reached = anchor.is_empty()
                || headings.any(|line| {
                    let title = line.trim_start_matches('#').trim().to_lowercase();
                    let kept = |c: &char| c.is_alphanumeric() || "- _".contains(*c);
                    let title: String = title.chars().filter(kept).collect();
                    title.replace(' ', "-") == anchor
                });
            assert!(reached, "{document}: {link}");
        }
    }
}

#[test]
fn architecture_tells_why_for_every_dependency() {
    let text = read("ARCHITECTURE.md");
    let manifest = read("Cargo.toml");
    let mut section = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]")
            && let Some((name, _)) = line.split_once('=')
        {
            let name = name.trim();
            assert!(text.contains(&format!("`{name}`")), "{name}");
        }
    }
}

/// The knothole commands in blocks of code, as the words a shell would make of them.
fn examples(document: &str) -> Vec<Vec<String>> {
    let blocks = document.split("```").skip(1).step_by(2);
    let lines = blocks.flat_map(str::lines);
    let commands = lines.filter_map(|line| {
        let line = line.strip_prefix("$ ").unwrap_or(line);
        line.starts_with("knothole ").then_some(line)
    });
    commands
        .map(|command| {
            let command = command.split([';', '|', '<', '>', '&']).next();
            let words = command.unwrap_or_default().split_whitespace();
            words
                .map(|word| word.trim_matches('\'').to_owned())
                .collect()
        })
        .collect()
}

fn block_after<'a>(text: &'a str, heading: &str, fence: &str) -> &'a str {
    let (_, text) = text.split_once(heading).unwrap();
    let (_, text) = text.split_once(fence).unwrap();
    text.split_once("```").unwrap().0
}

fn path(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}
