//! The `KNOTHOLE_*` variables. Each option has one, and the command line beats it: a variable
//! never contradicts a flag that was typed, it is left aside instead.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Command};

use super::common::Switch;

/// Prepares `command` for these arguments: variables that are empty, that switch nothing on, or
/// that contradict what was typed are left aside.
pub(super) fn bind(command: Command, args: &[OsString]) -> Command {
    let reader = each_arg(command.clone(), |_, arg| arg.env(None::<&str>)).ignore_errors(true);
    // Help and nonsense are for the real parser.
    let Ok(matches) = reader.try_get_matches_from(args) else {
        return command;
    };
    let Some((name, typed)) = matches.subcommand() else {
        return command;
    };
    let typed: Vec<&str> = typed
        .ids()
        .map(clap::Id::as_str)
        .filter(|id| typed.value_source(id) == Some(ValueSource::CommandLine))
        .collect();
    each_arg(command, |sub, arg| {
        let ours = sub.get_name() == name;
        if ours && is_set(&arg) && (idle(&arg) || contradicts(sub, &arg, &typed)) {
            arg.env(None::<&str>)
        } else {
            arg
        }
    })
}

fn each_arg(command: Command, change: impl Fn(&Command, Arg) -> Arg) -> Command {
    command.mut_subcommands(|sub| {
        let whole = sub.clone();
        sub.mut_args(|arg| change(&whole, arg))
    })
}

fn is_set(arg: &Arg) -> bool {
    arg.get_env()
        .is_some_and(|name| std::env::var_os(name).is_some())
}

/// Whether the variable says nothing. `KNOTHOLE_STUN` is the exception: there, nothing means no
/// servers, as it does for `--stun ''`.
fn idle(arg: &Arg) -> bool {
    let Some(value) = arg.get_env().and_then(std::env::var_os) else {
        return true;
    };
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return value.to_str().and_then(Switch::read) == Some(false);
    }
    value.is_empty() && arg.get_id() != "stun"
}

fn contradicts(command: &Command, arg: &Arg, typed: &[&str]) -> bool {
    let conflict = |a: &Arg, id: &str| {
        command
            .get_arg_conflicts_with(a)
            .iter()
            .any(|b| b.get_id() == id)
    };
    typed.iter().any(|id| {
        let other = command.get_arguments().find(|other| other.get_id() == id);
        conflict(arg, id) || other.is_some_and(|other| conflict(other, arg.get_id().as_str()))
    })
}
