//! What people meet: one file a subcommand with its arguments, help text and run function, and
//! the screen, the questions, the signals and the failures that they share.

#![expect(
    clippy::disallowed_methods,
    reason = "the edge: environment, terminal, signals, threads, the wall clock"
)]

pub mod addr;
pub mod bench;
pub mod common;
pub mod completions;
mod config;
mod defaults;
mod describe;
mod diary;
pub mod failure;
pub mod input;
pub mod man;
mod meet;
pub mod nat;
pub mod pipe;
pub mod progress;
pub mod qr;
pub mod receive;
pub mod selftest;
pub mod send;
pub mod serve;
pub mod server;
mod servers;
pub mod signals;
mod suggest;
pub mod token;
mod transfer;
pub mod ui;
mod words;

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::builder::StyledStr;
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::defaults::{Added, Bound};
use self::failure::Failure;
use self::signals::Stop;
use self::ui::{Ctx, Options, Palette, Ui, When};
use crate::exit::{Exit, TABLE};

/// Move files straight between two machines
///
/// knothole connects two terminals directly, through NATs, without an account or a server of your
/// own, and moves files or a stream across. `send` prints an invite; `receive` joins it.
#[derive(Debug, Parser)]
#[command(
    name = "knothole",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
#[command(disable_help_subcommand = true, subcommand_required = true)]
#[command(after_help = EXAMPLES)]
#[command(after_long_help = LONG_END.as_str())]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(visible_alias = "tx")]
    Send(send::Args),
    #[command(visible_aliases = ["recv", "rx"])]
    Receive(receive::Args),
    Pipe(pipe::Args),
    Bench(bench::Args),
    #[command(visible_alias = "stun")]
    Addr(addr::Args),
    Nat(nat::Args),
    Serve(serve::Args),
    Token(token::Args),
    Selftest(selftest::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// What `knothole` alone says: the jobs there are, each with its line. As narrow as a terminal is.
pub const FIRST: &str = "\
knothole moves data straight from one
terminal to another, without a server.

Move files:
  knothole send photo.jpg
  knothole receive KH...
Join two terminals, both ways:
  tar c folder | knothole pipe
  knothole pipe KH... | tar x
See how the network treats you:
  knothole addr
  knothole nat
Look at an invite, or at this machine:
  knothole token KH...
  knothole selftest
In a script, without a question:
  knothole receive -y --json KH...

All commands:  knothole --help
All about one: knothole send --help
";

const EXAMPLES: &str = "\
Examples:
  knothole send photo.jpg
  knothole receive";

/// Where settings come from, for the help and for the manual: paragraphs, and a file as it is.
pub(super) const SETTINGS: &str = "  \
  Every option can also be set by a variable, such as KNOTHOLE_QR for --qr, or in the file \
~/.config/knothole/config.toml:

    qr = \"never\"
    stun = [\"stun.example.org\", \"192.0.2.1:3478\"]
    [receive]
    output = \"Downloads\"
    rename = true

  What is typed beats a variable, a variable beats the file. --config names another file, \
--config '' none.
";

static LONG_END: LazyLock<String> =
    LazyLock::new(|| format!("{EXAMPLES}\n\nSettings:\n{SETTINGS}\nExit codes:\n{TABLE}"));

/// Returns the definition that parser, help, completions and manual pages are made from.
#[must_use]
pub fn command() -> clap::Command {
    // Values of variables are never shown: some are secrets, and help is the same everywhere.
    Cli::command().mut_subcommands(|sub| sub.mut_args(|arg| arg.hide_env_values(true)))
}

/// The same, with lines that are there to be copied kept from being broken.
fn command_for_screen() -> clap::Command {
    let keep = |text: Option<&StyledStr>| text.map(|text| keep_lines(&text.to_string()));
    let kept = |command: clap::Command| {
        let short = keep(command.get_after_help()).unwrap_or_default();
        let long = keep(command.get_after_long_help()).unwrap_or_else(|| short.clone());
        command.after_help(short).after_long_help(long)
    };
    kept(command()).mut_subcommands(kept)
}

/// A space in a line that is not to be broken; clap breaks lines at plain spaces only.
const KEPT_SPACE: char = '\u{a0}';

fn keep_lines(text: &str) -> String {
    let keep = |line: &str| line.starts_with("    ") || line.contains("knothole ");
    let line = |line: &str| match line.get(..2) {
        Some("  ") if keep(line) => line.replace(' ', &KEPT_SPACE.to_string()) + "\n",
        _ => format!("{line}\n"),
    };
    let text: String = text.lines().map(line).collect();
    text.trim_end().to_owned()
}

/// Runs the program: `args` is the whole command line, with the program's name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        input::restore_terminal();
        hook(panic);
    }));
    let args = asked_for_help(args.into_iter().collect());
    let bound = match defaults::bind(command_for_screen(), args.clone()) {
        Ok(bound) => bound,
        Err(failure) => {
            let ui = Ui::new(unparsed_options(&args), Stop::new());
            return end(&ui, Err(failure)).into();
        }
    };
    let parsed = bound
        .command
        .clone()
        .try_get_matches_from(&bound.args)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let exit = match parsed {
        Ok(cli) => dispatch(cli.command, &bound),
        Err(error) => match fails_alone(&bound) {
            Some(error) => told(error, &bound, None),
            None => told(error, &bound, bound.added.as_ref()),
        },
    };
    exit.into()
}

/// People type `knothole help` and `knothole help send`, so that works too.
fn asked_for_help(mut args: Vec<OsString>) -> Vec<OsString> {
    if args.get(1).is_some_and(|word| word == "help") {
        args.remove(1);
        args.truncate(2);
        args.push("--help".into());
    }
    args
}

fn dispatch(command: Command, bound: &Bound) -> Exit {
    match command {
        Command::Send(args) => drive(args.common.screen.options(), bound, |ctx| {
            send::run(args, ctx)
        }),
        Command::Receive(args) => drive(args.common.screen.options(), bound, |ctx| {
            receive::run(args, ctx)
        }),
        Command::Pipe(args) => drive(args.options(), bound, |ctx| pipe::run(args, ctx)),
        Command::Bench(args) => drive(args.options(), bound, |ctx| bench::run(args, ctx)),
        Command::Token(args) => drive(args.screen.options(), bound, |ctx| token::run(args, ctx)),
        Command::Selftest(args) => {
            drive(args.screen.options(), bound, |ctx| selftest::run(args, ctx))
        }
        Command::Addr(args) => drive(args.screen.options(), bound, |ctx| addr::run(args, ctx)),
        Command::Nat(args) => drive(args.screen.options(), bound, |ctx| nat::run(args, ctx)),
        Command::Serve(args) => drive(args.screen.options(), bound, |ctx| serve::run(args, ctx)),
        Command::Completions(args) => print(|ui| completions::run(&args, ui)),
        Command::Man(args) => print(|ui| man::run(&args, ui)),
    }
}

/// Runs a command that has nothing to wait for.
fn print(run: impl FnOnce(&Ui) -> Result<Exit, Failure>) -> Exit {
    let ui = Ui::new(Options::default(), Stop::new());
    end(&ui, run(&ui))
}

/// Runs a command on a runtime, with signals turned into polite requests to stop.
fn drive<F>(options: Options, bound: &Bound, run: impl FnOnce(Ctx) -> F) -> Exit
where
    F: Future<Output = Result<Exit, Failure>>,
{
    let stop = Stop::new();
    let ui = Ui::new(options, stop.clone());
    let runtime = signals::listen(stop.clone(), ui.clone()).and_then(|()| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
    });
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return end(
                &ui,
                Err(Failure::incomplete("cannot start")
                    .kind("system")
                    .because(error)),
            );
        }
    };
    diary::start(&ui);
    bound.warnings.iter().for_each(|warning| ui.warn(warning));
    if let Some(added) = &bound.added {
        ui.verbose(1, &added.to_string());
    }
    let result = runtime.block_on(run(Ctx {
        ui: ui.clone(),
        stop,
    }));
    let exit = end(&ui, result);
    // A thread that still waits for a file or a name keeps nobody waiting.
    runtime.shutdown_background();
    exit
}

fn end(ui: &Ui, result: Result<Exit, Failure>) -> Exit {
    let exit = result.unwrap_or_else(|failure| {
        ui.fail(&failure);
        failure.exit
    });
    ui.close();
    input::restore_terminal();
    exit
}

/// Prints help, the version, or what is wrong with the command line, with what a config file
/// `added` to it.
fn told(mut error: clap::Error, bound: &Bound, added: Option<&Added>) -> Exit {
    let options = Options {
        stream: bound.args.get(1).is_some_and(|name| name == "pipe"),
        ..unparsed_options(&bound.args)
    };
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand && bound.args.len() < 2 {
        // A script whose command got lost shall notice: this is help, but nothing was done.
        told_in_json(options, Failure::usage("a command is missing"));
        return said(&first_screen(options.color), Exit::Usage);
    }
    suggest::command(&mut error, &bound.command);
    let text = error.render();
    let shown = |tty| {
        let text = if ui::color(options.color, tty, &ui::env) {
            text.ansi().to_string()
        } else {
            text.to_string()
        };
        text.replace(KEPT_SPACE, " ")
    };
    if !error.use_stderr() {
        let ui = Ui::new(Options::default(), Stop::new());
        let shown = shown(std::io::stdout().is_terminal());
        return end(&ui, ui.raw(shown.as_bytes()).map(|()| Exit::Done));
    }
    let mut shown = shown(std::io::stderr().is_terminal());
    let mut tips = suggest::tips(&error);
    if let Some(added) = added {
        shown += &format!("hint: {added}\n");
        tips = Some(added.to_string());
    }
    let plain = text.to_string();
    let message = plain
        .split("\n\n")
        .next()
        .unwrap_or_default()
        .trim_start_matches("error: ");
    let words: Vec<&str> = message.split_whitespace().collect();
    let failure = Failure {
        hint: tips,
        ..Failure::usage(words.join(" "))
    };
    if told_in_json(options, failure) {
        return Exit::Usage;
    }
    said(&shown, Exit::Usage)
}

/// Tells scripts; true where the events leave no room for other words.
fn told_in_json(options: Options, failure: Failure) -> bool {
    let ui = Ui::new(options, Stop::new());
    // A stdout that is gone changes nothing: the command line is wrong anyway.
    let _ = ui.event(&failure.event());
    options.json && ui.is_silent()
}

/// What is wrong with the command line even without what the config file added.
fn fails_alone(bound: &Bound) -> Option<clap::Error> {
    let command = bound.command.clone();
    command.try_get_matches_from(bound.without_file()).err()
}

fn said(text: &str, exit: Exit) -> Exit {
    // Nothing can be done about a stderr that is gone.
    let _ = std::io::stderr().write_all(text.as_bytes());
    exit
}

fn first_screen(choice: When) -> String {
    let palette = Palette::new(ui::color(choice, std::io::stderr().is_terminal(), &ui::env));
    let line = |line: &str| match line {
        heading if heading.ends_with(':') => format!("{}\n", palette.strong(heading)),
        other => format!("{other}\n"),
    };
    FIRST.lines().map(line).collect()
}

/// What a command line that may be wrong elsewhere says about the screen.
fn unparsed_options(args: &[OsString]) -> Options {
    let stream = args.get(1).is_some_and(|name| name == "pipe");
    let mut args = args
        .iter()
        .map(|arg| arg.to_string_lossy())
        .take_while(|arg| arg != "--");
    let mut json = ui::env("KNOTHOLE_JSON").and_then(|v| common::Switch::read(&v)) == Some(true);
    let mut color = ui::env("KNOTHOLE_COLOR");
    while let Some(arg) = args.next() {
        if arg == "--json" {
            json = true;
        } else if arg == "--color" {
            color = args.next().map(Cow::into_owned);
        } else if let Some(value) = arg.strip_prefix("--color=") {
            color = Some(value.to_owned());
        }
    }
    let color = match color.as_deref() {
        Some("always") => When::Always,
        Some("never") => When::Never,
        _ => When::Auto,
    };
    Options {
        json,
        stream,
        color,
        ..Options::default()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definition_is_sound() {
        super::command().debug_assert();
    }
}
