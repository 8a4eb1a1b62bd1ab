//! Help, and the rules of the house for every option there is.

use std::collections::HashMap;

use clap::{Arg, ArgAction, Command};

use crate::env::Env;
use crate::terminal::Window;

fn command() -> Command {
    let mut command = knothole::cli::command();
    command.build();
    command
}

fn each_arg(mut check: impl FnMut(&Command, &Arg)) {
    let command = command();
    for sub in command.get_subcommands() {
        for arg in sub.get_arguments().filter(|arg| arg.get_id() != "help") {
            check(sub, arg);
        }
    }
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

#[test]
fn every_subcommand_has_help_on_stdout() {
    for sub in command().get_subcommands() {
        let name = sub.get_name();
        for flag in ["-h", "--help"] {
            let ran = Env::new().run(&[name, flag]);
            assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{name} {flag}");
            let usage = format!("Usage: knothole {name}");
            assert!(ran.stdout.contains(&usage), "{name} {flag}: {}", ran.stdout);
            assert!(
                ran.stdout.contains("\nExamples:\n  "),
                "{name} {flag}: {}",
                ran.stdout
            );
        }
    }
}

#[test]
fn aliases_lead_to_the_same_help() {
    let env = Env::new();
    for (alias, name) in [("tx", "send"), ("recv", "receive"), ("rx", "receive")] {
        assert_eq!(env.run(&[alias, "--help"]), env.run(&[name, "--help"]));
    }
}

#[test]
fn the_top_help_lists_the_exit_codes_and_the_version_is_one_line() {
    let ran = Env::new().run(&["--help"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.contains(knothole::exit::TABLE), "{}", ran.stdout);
    let version = format!("knothole {}\n", env!("CARGO_PKG_VERSION"));
    for flag in ["-V", "--version"] {
        Env::new().run(&[flag]).is(0, &version, "");
    }
}

#[test]
fn help_fits_the_width_it_is_given_and_breaks_no_word() {
    let all = command();
    let names = all.get_subcommands().map(Command::get_name);
    for name in names.map(Some).chain([None]) {
        for flag in ["-h", "--help"] {
            let args: Vec<&str> = name.into_iter().chain([flag]).collect();
            let mut said: Option<Vec<String>> = None;
            for columns in [40, 80, 200] {
                let env = Env::new().var("COLUMNS", &columns.to_string());
                let text = env.run(&args).stdout;
                for line in text.lines() {
                    // What is there to be copied is not broken, and no line is too long to read.
                    let kept = line.contains("knothole ") || line.starts_with("    stun = [");
                    let fits = line.trim_end().chars().count() <= columns.min(100);
                    assert!(fits || kept, "{args:?} at {columns}: {line}");
                    assert!(!line.contains('\u{a0}'), "{args:?} at {columns}: {line}");
                }
                let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
                let same = said.get_or_insert_with(|| words.clone());
                assert_eq!(*same, words, "{args:?} at {columns}");
            }
        }
    }
}

#[test]
fn help_asks_the_terminal_for_its_width() {
    for columns in [40, 200] {
        let window = Window::sized(&Env::new(), &["send", "--help"], columns);
        let by_variable = Env::new().var("COLUMNS", &columns.to_string());
        let expected = by_variable.run(&["send", "--help"]).stdout;
        assert_eq!(window.end(), (0, expected), "{columns}");
    }
}

#[test]
fn help_shows_no_value_of_the_environment() {
    let env = Env::new()
        .var("KNOTHOLE_TURN_PASS", "hunter2")
        .var("KNOTHOLE_TOKEN", "hunter2");
    for name in ["send", "receive", "token"] {
        let ran = env.run(&[name, "--help"]);
        assert_eq!(ran.code, 0);
        assert!(!ran.stdout.contains("hunter2"), "{}", ran.stdout);
    }
}

#[test]
fn every_option_has_help_that_fits_one_line_without_a_full_stop() {
    each_arg(|sub, arg| {
        let at = format!("{} {}", sub.get_name(), arg.get_id());
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        assert!(!help.is_empty(), "{at} has no help");
        assert!(help.len() <= 90 && !help.contains('\n'), "{at}: {help}");
        assert!(!help.ends_with('.'), "{at}: {help}");
        assert!(help.starts_with(char::is_uppercase), "{at}: {help}");
    });
}

#[test]
fn every_value_has_a_name_that_is_not_just_the_option_again() {
    each_arg(|sub, arg| {
        if takes_value(arg) {
            let names = arg.get_value_names().unwrap_or_default();
            let ok = names.len() == 1 && !names[0].contains('_');
            assert!(ok, "{} {}: {names:?}", sub.get_name(), arg.get_id());
        }
    });
}

/// `token --to FORM` is what people look for, and `send --to TOKEN` is too; nobody has both. And
/// `serve --stun` says what to serve.
fn has_a_namesake(sub: &Command, long: &str) -> bool {
    [("token", "to"), ("serve", "stun")].contains(&(sub.get_name(), long))
}

#[test]
fn no_flag_means_two_things() {
    let mut meaning: HashMap<char, String> = HashMap::new();
    let mut help: HashMap<String, String> = HashMap::new();
    each_arg(|sub, arg| {
        let at = format!("{} {}", sub.get_name(), arg.get_id());
        if let Some(short) = arg.get_short() {
            let first = meaning
                .entry(short)
                .or_insert_with(|| arg.get_id().to_string());
            assert_eq!(first, arg.get_id().as_str(), "-{short} in {at}");
        }
        // What has the same long name takes the same kind of value, from the same variable.
        if let Some(long) = arg.get_long().filter(|long| !has_a_namesake(sub, long)) {
            let shape = format!(
                "{:?} {:?} {:?}",
                arg.get_value_names(),
                arg.get_env(),
                arg.get_short()
            );
            let first = help.entry(long.to_owned()).or_insert_with(|| shape.clone());
            assert_eq!(*first, shape, "--{long} in {at}");
        }
    });
}

#[test]
fn every_option_can_be_set_by_a_variable_of_its_name() {
    each_arg(|sub, arg| {
        if let Some(long) = arg.get_long() {
            let long = if has_a_namesake(sub, long) {
                &format!("{}-{long}", sub.get_name())
            } else {
                long
            };
            let name = format!("KNOTHOLE_{}", long.replace('-', "_").to_uppercase());
            let env = arg.get_env().and_then(|env| env.to_str());
            assert_eq!(env, Some(name.as_str()), "{} --{long}", sub.get_name());
        }
    });
}

#[test]
fn every_subcommand_says_what_it_does_and_shows_an_example_that_parses() {
    let all = command();
    for sub in all.get_subcommands() {
        let name = sub.get_name();
        assert!(
            sub.get_about()
                .is_some_and(|about| !about.to_string().ends_with('.')),
            "{name}"
        );
        let end = sub
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let examples: Vec<&str> = end.lines().filter(|line| line.starts_with("  ")).collect();
        assert!(!examples.is_empty(), "{name} has no example");
        for example in examples {
            let at = example
                .find("knothole ")
                .unwrap_or_else(|| panic!("{example}"));
            let line = example[at..]
                .split(['|', '<', '>'])
                .next()
                .unwrap_or_default();
            let parsed = knothole::cli::command().try_get_matches_from(line.split_whitespace());
            let matches = parsed.unwrap_or_else(|error| panic!("{example}: {error}"));
            assert_eq!(matches.subcommand_name(), Some(name), "{example}");
        }
    }
}
