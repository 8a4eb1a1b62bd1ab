//! What people meet: one file a subcommand with its arguments, help text and run function, and
//! the screen, the questions, the signals and the failures that they share.

#![expect(
    clippy::disallowed_methods,
    reason = "the edge: environment, terminal, signals, threads, the wall clock"
)]

pub mod common;
pub mod completions;
mod diary;
mod environment;
pub mod failure;
pub mod input;
pub mod man;
mod meet;
pub mod pipe;
pub mod progress;
pub mod qr;
pub mod receive;
pub mod selftest;
pub mod send;
pub mod server;
pub mod signals;
pub mod token;
mod transfer;
pub mod ui;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::failure::Failure;
use self::signals::Stop;
use self::ui::{Ctx, Options, Ui, When};
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
#[command(after_help = "\
Examples:
  knothole send photo.jpg
  knothole receive")]
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
    Token(token::Args),
    Selftest(selftest::Args),
    Completions(completions::Args),
    Man(man::Args),
}

static LONG_END: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
    format!("Examples:\n  knothole send photo.jpg\n  knothole receive\n\nExit codes:\n{TABLE}")
});

/// Returns the definition that parser, help, completions and manual pages are made from.
#[must_use]
pub fn command() -> clap::Command {
    // Values of variables are never shown: some are secrets, and help is the same everywhere.
    Cli::command().mut_subcommands(|sub| sub.mut_args(|arg| arg.hide_env_values(true)))
}

/// Runs the program: `args` is the whole command line, with the program's name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        input::restore_terminal();
        hook(panic);
    }));
    let args: Vec<OsString> = args.into_iter().collect();
    let parsed = environment::bind(command(), &args)
        .try_get_matches_from(&args)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let exit = match parsed {
        Ok(cli) => dispatch(cli.command),
        Err(error) => told(&error, &args),
    };
    exit.into()
}

fn dispatch(command: Command) -> Exit {
    match command {
        Command::Send(args) => drive(args.common.screen.options(), |ctx| send::run(args, ctx)),
        Command::Receive(args) => {
            drive(args.common.screen.options(), |ctx| receive::run(args, ctx))
        }
        Command::Pipe(args) => drive(args.options(), |ctx| pipe::run(args, ctx)),
        Command::Token(args) => drive(args.screen.options(), |ctx| token::run(args, ctx)),
        Command::Selftest(args) => drive(args.screen.options(), |ctx| selftest::run(args, ctx)),
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
fn drive<F>(options: Options, run: impl FnOnce(Ctx) -> F) -> Exit
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

/// Prints help, the version, or what is wrong with the command line.
fn told(error: &clap::Error, args: &[OsString]) -> Exit {
    let text = error.render();
    let typed = |flag: &str| {
        args.iter()
            .take_while(|arg| *arg != "--")
            .any(|arg| arg == flag)
    };
    let choice = color_choice(args);
    let shown = |tty| {
        if ui::color(choice, tty, &ui::env) {
            text.ansi().to_string()
        } else {
            text.to_string()
        }
    };
    if !error.use_stderr() {
        let ui = Ui::new(Options::default(), Stop::new());
        let shown = shown(std::io::stdout().is_terminal());
        return end(&ui, ui.raw(shown.as_bytes()).map(|()| Exit::Done));
    }
    let json = typed("--json")
        || ui::env("KNOTHOLE_JSON").and_then(|v| common::Switch::read(&v)) == Some(true);
    if json {
        let plain = text.to_string();
        let message = plain
            .split("\n\n")
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ");
        let words: Vec<&str> = message.split_whitespace().collect();
        let ui = Ui::new(
            Options {
                json,
                stream: args.get(1).is_some_and(|name| name == "pipe"),
                ..Options::default()
            },
            Stop::new(),
        );
        let _ = ui.event(&Failure::usage(words.join(" ")).event());
        if ui.is_silent() {
            return Exit::Usage;
        }
    }
    // Nothing can be done about a stderr that is gone.
    let _ = std::io::stderr().write_all(shown(std::io::stderr().is_terminal()).as_bytes());
    Exit::Usage
}

/// Finds `--color` on a command line that may be wrong elsewhere.
fn color_choice(args: &[OsString]) -> When {
    let mut args = args
        .iter()
        .map(|arg| arg.to_string_lossy())
        .take_while(|arg| arg != "--");
    let mut choice = ui::env("KNOTHOLE_COLOR");
    while let Some(arg) = args.next() {
        if arg == "--color" {
            choice = args.next().map(std::borrow::Cow::into_owned);
        } else if let Some(value) = arg.strip_prefix("--color=") {
            choice = Some(value.to_owned());
        }
    }
    match choice.as_deref() {
        Some("always") => When::Always,
        Some("never") => When::Never,
        _ => When::Auto,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definition_is_sound() {
        super::command().debug_assert();
    }
}
