//! `knothole man`: the manual pages, made from the same definition as the parser.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Command, ValueHint};
use clap_mangen::Man;

use super::SETTINGS;
use super::failure::Failure;
use super::ui::Ui;
use crate::exit::{Exit, TABLE};

/// The day on which the manual was last gone over: the same whenever the pages are made.
const EDITION: &str = "2026-11-24";

/// Print the manual page, or write all pages to a folder
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  knothole man | man -l -
  knothole man ~/.local/share/man/man1")]
pub struct Args {
    /// Folder to write one page a subcommand to; made if it is not there
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &Args, ui: &Ui) -> Result<Exit, Failure> {
    let pages = pages();
    let Some(dir) = &args.dir else {
        ui.raw(pages[0].1.as_bytes())?;
        return Ok(Exit::Done);
    };
    std::fs::create_dir_all(dir).map_err(|error| {
        Failure::incomplete(format!("cannot make {}", dir.display()))
            .kind("disk")
            .because(error)
    })?;
    for (name, page) in pages {
        let path = dir.join(name);
        std::fs::write(&path, page).map_err(|error| {
            Failure::incomplete(format!("cannot write {}", path.display()))
                .kind("disk")
                .because(error)
        })?;
    }
    Ok(Exit::Done)
}

/// Returns the pages as they are shipped in `man/`, by file name; the first is `knothole.1`.
#[must_use]
pub fn pages() -> Vec<(String, String)> {
    let mut command = super::command();
    command.build();
    let names: Vec<String> = command
        .get_subcommands()
        .map(|sub| format!("knothole-{}", sub.get_name()))
        .collect();
    let mut pages = vec![(
        "knothole.1".to_owned(),
        page("knothole", command.clone(), &names),
    )];
    for (sub, name) in command.get_subcommands().zip(&names) {
        pages.push((
            format!("{name}.1"),
            page(name, sub.clone(), &["knothole".to_owned()]),
        ));
    }
    pages
}

fn page(name: &str, command: Command, see_also: &[String]) -> String {
    let version = super::command()
        .get_version()
        .unwrap_or_default()
        .to_owned();
    let examples = command
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let has_subcommands = command.has_subcommands();
    let takes_settings = command.get_arguments().any(|arg| arg.get_id() == "config");
    let man = Man::new(command);
    let mut page = format!(
        ".TH {} 1 \"{EDITION}\" \"knothole {version}\" \"Knothole Manual\"\n",
        name.to_uppercase()
    )
    .into_bytes();
    // Writing to a vector does not fail.
    let _ = man.render_name_section(&mut page);
    let _ = man.render_synopsis_section(&mut page);
    let _ = man.render_description_section(&mut page);
    let _ = man.render_options_section(&mut page);
    if has_subcommands {
        let _ = man.render_subcommands_section(&mut page);
    }
    let mut page = String::from_utf8_lossy(&page).replace("\n.br\n\n.br\n", "\n.sp\n");
    if let Some(examples) = examples.strip_prefix("Examples:\n") {
        verbatim(&mut page, "EXAMPLES", examples);
    }
    if takes_settings || has_subcommands {
        settings(&mut page);
    }
    verbatim(&mut page, "EXIT STATUS", TABLE);
    let list: Vec<String> = see_also
        .iter()
        .map(|name| format!("\\fB{}\\fR(1)", escape(name)))
        .collect();
    let _ = writeln!(page, ".SH \"SEE ALSO\"\n{}", list.join(",\n"));
    page
}

/// The paragraphs filled, the file between them as it is.
fn settings(page: &mut String) {
    page.push_str(".SH \"SETTINGS\"\n");
    let mut as_it_is = false;
    for line in SETTINGS.lines().filter(|line| !line.is_empty()) {
        let is_file = line.starts_with("    ");
        page.push_str(match (as_it_is, is_file) {
            (false, true) => ".PP\n.nf\n.RS\n",
            (true, false) => ".RE\n.fi\n.PP\n",
            _ => "",
        });
        as_it_is = is_file;
        let _ = writeln!(page, "{}", escape(line.trim_start()));
    }
}

fn verbatim(page: &mut String, title: &str, text: &str) {
    let _ = writeln!(page, ".SH \"{title}\"\n.nf");
    for line in text.lines() {
        let line = escape(line.strip_prefix("  ").unwrap_or(line));
        let guard = if line.starts_with(['.', '\'']) {
            "\\&"
        } else {
            ""
        };
        let _ = writeln!(page, "{guard}{line}");
    }
    page.push_str(".fi\n");
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('~', "\\(ti")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_the_program_and_each_subcommand() {
        let names: Vec<String> = pages().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names[0], "knothole.1");
        for sub in super::super::command().get_subcommands() {
            assert!(
                names.contains(&format!("knothole-{}.1", sub.get_name())),
                "{}",
                sub.get_name()
            );
        }
    }

    #[test]
    fn every_page_tells_the_exit_codes_and_an_example() {
        for (name, page) in pages() {
            assert!(
                page.contains("EXIT STATUS") && page.contains("143"),
                "{name}"
            );
            assert!(page.contains(".SH \"EXAMPLES\""), "{name}");
            assert!(!page.contains("\n.\n"), "{name}");
        }
    }
}
