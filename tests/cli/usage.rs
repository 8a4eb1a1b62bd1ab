//! Wrong command lines, each with its message and exit code 2; where the talk goes; colours.

use std::process::Stdio;

use knothole::report::model::{self, Event};

use crate::env::{Env, KNOTHOLE, Ran};

/// The command line is refused with these words, and nothing appears on stdout.
#[track_caller]
fn refused(args: &[&str], words: &str) {
    refused_in(&Env::new(), args, words);
}

#[track_caller]
fn refused_in(env: &Env, args: &[&str], words: &str) {
    let ran = env.run(args);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (2, ""),
        "{args:?}: {}",
        ran.stderr
    );
    let flat = ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        ran.stderr.starts_with("error: "),
        "{args:?}: {}",
        ran.stderr
    );
    assert!(flat.contains(words), "{args:?}: {}", ran.stderr);
}

#[test]
fn without_a_command_the_first_screen_goes_to_stderr_and_nothing_counts_as_done() {
    let env = Env::new();
    env.run::<&str>(&[]).is(2, "", knothole::cli::FIRST);
    let lines: Vec<&str> = knothole::cli::FIRST.lines().collect();
    assert!(lines.len() <= 20, "{}", lines.len());
    for line in &lines {
        assert!(line.is_ascii() && line.len() <= 40, "{line}");
    }
    // Each line that shows a command shows one that there is.
    let commands = lines.iter().filter_map(|line| {
        let at = line.find("knothole ")?;
        let command = line.get(at..)?.split('|').next()?;
        (line.starts_with("  ") || line.starts_with("All ")).then_some(command)
    });
    let mut taught = 0;
    for command in commands {
        let parsed = knothole::cli::command().try_get_matches_from(command.split_whitespace());
        let help = |error: &clap::Error| error.kind() == clap::error::ErrorKind::DisplayHelp;
        assert!(
            parsed.as_ref().err().is_none_or(help),
            "{command}: {parsed:?}"
        );
        taught += 1;
    }
    assert!(taught > 5, "{taught}");
    let ran = env.var("KNOTHOLE_JSON", "1").run::<&str>(&[]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (2, 1), "{ran:?}");
    assert!(ran.stdout.contains("a command is missing"), "{ran:?}");
}

#[test]
fn commands_and_options_that_do_not_exist_are_named() {
    refused(&["sned"], "unrecognized subcommand 'sned'");
    refused(
        &["send", "x", "--frobnicate"],
        "unexpected argument '--frobnicate'",
    );
    refused(&["receive", "A", "B"], "unexpected argument 'B'");
    refused(
        &["send", "x", "--qr", "maybe"],
        "invalid value 'maybe' for '--qr <WHEN>'",
    );
    refused(&["completions", "tcsh"], "invalid value 'tcsh'");
}

#[test]
fn a_bench_lasts_between_a_second_and_an_hour() {
    for time in ["0", "3601", "500ms", "2h", "ten", "1.5", "-1"] {
        let time = format!("--time={time}");
        refused(&["bench", &time], "write 1 to 3600 seconds");
    }
}

#[test]
fn send_needs_something_to_send() {
    refused(&["send"], "<PATH>");
    refused(&["send", "-", "file"], "standard input (-) is sent alone");
    refused(
        &["send", "-", "--to", "-"],
        "cannot be both the data and the token",
    );
}

#[test]
fn what_contradicts_itself_is_refused() {
    refused(&["send", "x", "-4", "-6"], "cannot be used with");
    refused(&["send", "x", "-q", "-v"], "cannot be used with");
    refused(
        &["send", "x", "--sdp", "--qr-file", "x.png"],
        "cannot be used with",
    );
    refused(&["pipe", "--raw", "--verify"], "cannot be used with");
    refused(
        &["bench", "--send-only", "--recv-only"],
        "cannot be used with",
    );
    refused(
        &["receive", "--overwrite", "--rename"],
        "cannot be used with",
    );
    refused(&["receive", "--invite", "TOKEN"], "cannot be used with");
    refused(
        &["receive", "T", "-o", ""],
        "a value is required for '--output",
    );
    refused(&["send", ""], "a value is required for '[PATH]...'");
    refused(
        &["receive", "--invite", "-o", "-"],
        "--invite does not go with -o -",
    );
    refused(
        &["send", "x", "-6", "--bind", "127.0.0.1"],
        "-6 does not go with --bind 127.0.0.1",
    );
}

#[test]
fn servers_are_checked_before_anything_is_tried() {
    refused(
        &["send", "x", "--stun", "stuns:s.example"],
        "a peer asks over UDP only",
    );
    refused(
        &["send", "x", "--stun", "turn:s.example"],
        "a stun: one is needed",
    );
    refused(
        &["send", "x", "--stun", "s.example:99999"],
        "a port is a number from 1 to 65535",
    );
    refused(
        &["send", "x", "--turn", "turns:t.example"],
        "not yet supported",
    );
    refused(
        &["send", "x", "--turn", "turn:t.example?transport=tcp"],
        "not yet supported",
    );
    refused(
        &["send", "x", "--turn", "turn:t.example"],
        "--turn-user <USER>",
    );
}

#[test]
fn times_and_addresses_are_checked() {
    refused(
        &["send", "x", "--expires", "60"],
        "the unit is missing: write it like 90s, 5m, 1h or 2d",
    );
    refused(&["send", "x", "--expires", "31d"], "30d at most");
    refused(&["send", "x", "--timeout", "0s"], "more than nothing");
    refused(
        &["send", "x", "--bind", "eth0"],
        "an address of this machine",
    );
    refused(&["send", "x", "--via", "pigeon"], "only file:DIR is known");
}

#[test]
fn a_token_is_needed_and_there_is_nobody_to_ask() {
    for args in [["token"].as_slice(), &["token", "--json"]] {
        let ran = Env::new().run(args);
        assert_eq!(ran.code, 2);
        assert!(
            ran.stderr
                .starts_with("error: no token given, and there is no terminal to ask on\nhint: ")
        );
        assert!(ran.stderr.contains("KNOTHOLE_TOKEN"), "{}", ran.stderr);
    }
    refused(&["token", "@"], "the file name after @ is missing");
    refused(&["token", ""], "it is empty");
    refused(&["token", "@gone"], "cannot read the token from gone");
    refused(&["token", "-"], "the token is empty");
}

#[test]
fn a_wrong_variable_is_refused_as_the_option_would_be() {
    refused_in(
        &Env::new().var("KNOTHOLE_TIMEOUT", "soon"),
        &["selftest"],
        "invalid value 'soon' for '--timeout",
    );
    refused_in(
        &Env::new().var("KNOTHOLE_JSON", "perhaps"),
        &["selftest"],
        "write 1 or 0",
    );
    let both = Env::new()
        .var("KNOTHOLE_OVERWRITE", "1")
        .var("KNOTHOLE_RENAME", "1");
    refused_in(&both, &["receive", "T"], "cannot be used with");
}

#[test]
fn the_command_line_beats_the_environment_and_an_empty_variable_says_nothing() {
    // `token` stops at the missing token, after the command line was accepted.
    let accepted = "error: no token given";
    for (name, value, args) in [
        ("KNOTHOLE_QUIET", "1", &["token", "-v"][..]),
        ("KNOTHOLE_VERBOSE", "2", &["token", "-q"]),
        ("KNOTHOLE_VERBOSE", "", &["token"]),
        ("KNOTHOLE_COLOR", "", &["token"]),
        ("KNOTHOLE_TOKEN", "", &["token"]),
        ("KNOTHOLE_JSON", "0", &["token"]),
    ] {
        let ran = Env::new().var(name, value).run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{name}={value}");
        assert!(
            ran.stderr.starts_with(accepted),
            "{name}={value} {args:?}: {}",
            ran.stderr
        );
    }
}

#[test]
fn under_json_a_failure_is_an_event_and_a_sentence() {
    for (args, kind, words) in [
        (&["token", "--json"][..], "token", "no token given"),
        (&["send", "--json"], "usage", "<PATH>"),
        (
            &["send", "x", "--json", "--stun", "stuns:a"],
            "usage",
            "a peer asks over UDP only",
        ),
        (
            &["receive", "--json", "-o", "-"],
            "usage",
            "--json does not go with -o -",
        ),
    ] {
        let ran = Env::new().run(args);
        assert_eq!(ran.code, 2, "{args:?}");
        assert_eq!(ran.stdout.lines().count(), 1, "{args:?}: {}", ran.stdout);
        let Ok(Event::Error {
            kind: said,
            message,
            ..
        }) = model::read(ran.stdout.trim_end())
        else {
            panic!("{args:?}: {}", ran.stdout);
        };
        assert_eq!(said, kind, "{args:?}");
        assert!(
            message.contains(words) && !message.contains('\n'),
            "{args:?}: {message}"
        );
        assert!(
            ran.stderr.starts_with("error: "),
            "{args:?}: {}",
            ran.stderr
        );
    }
}

#[test]
fn a_closed_stdout_is_a_quiet_exit() {
    for args in [
        &["--help"][..],
        &["send", "--help"],
        &["completions", "bash"],
        &["man"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Env::new().command(KNOTHOLE);
        command.current_dir("/").args(args).stdin(Stdio::null());
        let ran = Ran::of(
            command
                .stdout(writer)
                .stderr(Stdio::piped())
                .output()
                .unwrap(),
        );
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
    }
}

#[test]
fn a_stdout_that_is_full_is_a_failure() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut command = Env::new().command(KNOTHOLE);
    command.current_dir("/").arg("man").stdin(Stdio::null());
    let ran = Ran::of(
        command
            .stdout(full)
            .stderr(Stdio::piped())
            .output()
            .unwrap(),
    );
    assert_eq!(ran.code, 3);
    assert!(
        ran.stderr
            .starts_with("error: cannot write to standard output\n  cause: "),
        "{}",
        ran.stderr
    );
}

#[test]
fn colours_need_a_terminal_or_a_word() {
    let coloured = |env: Env, args: &[&str]| env.run(args).stderr.contains("\x1b[");
    for args in [&["token"][..], &["sned"]] {
        assert!(!coloured(Env::new(), args));
        assert!(coloured(Env::new().var("CLICOLOR_FORCE", "1"), args));
        assert!(!coloured(
            Env::new().var("CLICOLOR_FORCE", "1").var("NO_COLOR", "1"),
            args
        ));
    }
    for args in [
        &["token", "--color", "always"][..],
        &["send", "--color=always"],
    ] {
        assert!(coloured(Env::new().var("NO_COLOR", "1"), args), "{args:?}");
    }
    for args in [
        &["token", "--color", "never"][..],
        &["send", "--color=never"],
    ] {
        assert!(
            !coloured(Env::new().var("CLICOLOR_FORCE", "1"), args),
            "{args:?}"
        );
    }
    let help = Env::new().var("CLICOLOR_FORCE", "1").run(&["--help"]);
    assert!(help.stdout.contains("\x1b["), "{}", help.stdout);
}

#[test]
fn a_shell_script_is_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = Env::new().run(&["completions", shell]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{shell}");
        assert!(
            ran.stdout.contains("knothole") && ran.stdout.contains("overwrite"),
            "{shell}"
        );
    }
}

#[test]
fn manual_pages_are_printed_or_written() {
    let env = Env::new();
    let ran = env.run(&["man"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.contains(".TH KNOTHOLE 1"), "{}", ran.stdout);
    env.run(&["man", "pages/man1"]).is(0, "", "");
    let written = std::fs::read_to_string(env.path().join("pages/man1/knothole.1")).unwrap();
    assert_eq!(written, ran.stdout);
    let env = Env::new().file("pages", "in the way");
    let ran = env.run(&["man", "pages"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""));
    assert!(
        ran.stderr
            .starts_with("error: cannot make pages\n  cause: "),
        "{}",
        ran.stderr
    );
}
