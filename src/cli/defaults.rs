//! Where options come from that nobody typed: the `KNOTHOLE_*` variables, then the config file.
//!
//! The order is known here and nowhere else: what is typed, a variable, a table of the file such
//! as `[send]`, the top of the file, what is built in. What comes later in that order never
//! contradicts what comes before it: it is left aside.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Command};

use super::common::Switch;
use super::config::{self, Setting};
use super::failure::Failure;

/// Options for which nothing is a value: no servers, no file.
const EMPTY_COUNTS: [&str; 2] = ["stun", "config"];

/// A command line that is ready to be parsed.
pub(super) struct Bound {
    /// The definition, without the variables that do not count.
    pub command: Command,
    /// What was typed, and what the file adds to it.
    pub args: Vec<OsString>,
    /// What the file added, if anything.
    pub added: Option<Added>,
    /// What is to be said once there is a screen.
    pub warnings: Vec<String>,
}

/// What came from the config file.
pub(super) struct Added {
    /// The file.
    pub path: PathBuf,
    /// Its settings that count, as `--turn (line 3)`.
    pub settings: Vec<String>,
    /// Where they stand in the arguments.
    at: std::ops::Range<usize>,
}

impl fmt::Display for Added {
    /// Says which options came from where.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, settings) = (self.path.display(), self.settings.join(", "));
        write!(f, "from {path}: {settings}")
    }
}

impl Bound {
    /// The same command line without what the file added.
    pub fn without_file(&self) -> Vec<OsString> {
        let mut args = self.args.clone();
        if let Some(added) = &self.added {
            args.drain(added.at.clone());
        }
        args
    }
}

/// Prepares `command` for these arguments.
///
/// # Errors
/// There is a config file, and it cannot be used.
pub(super) fn bind(command: Command, args: Vec<OsString>) -> Result<Bound, Failure> {
    let typed_only = Bound {
        command,
        args,
        added: None,
        warnings: vec![],
    };
    let bare = each_arg(typed_only.command.clone(), |_, arg| arg.env(None::<&str>));
    // Help and nonsense are for the real parser.
    let Ok(matches) = bare
        .clone()
        .ignore_errors(true)
        .try_get_matches_from(&typed_only.args)
    else {
        return Ok(typed_only);
    };
    let Some((name, typed)) = matches.subcommand() else {
        return Ok(typed_only);
    };
    let Bound { command, args, .. } = typed_only;
    let mut said: Vec<String> = typed
        .ids()
        .map(ToString::to_string)
        .filter(|id| typed.value_source(id) == Some(ValueSource::CommandLine))
        .collect();

    let by_hand = said.clone();
    let command = each_arg(command, |sub, arg| {
        if sub.get_name() != name || !is_set(&arg) {
            return arg;
        }
        if contradicts(sub, &arg, &by_hand) {
            return arg.env(None::<&str>);
        }
        match voice(&arg) {
            Voice::Value => said.push(arg.get_id().to_string()),
            Voice::Off => {
                said.push(arg.get_id().to_string());
                return arg.env(None::<&str>);
            }
            Voice::Silent => return arg.env(None::<&str>),
        }
        arg
    });
    let mut bound = Bound {
        command,
        args,
        added: None,
        warnings: vec![],
    };

    // Commands that take no settings read no file.
    let Ok(config) = typed.try_get_one::<OsString>("config") else {
        return Ok(bound);
    };
    let named = config
        .cloned()
        .or_else(|| std::env::var_os("KNOTHOLE_CONFIG"));
    let Some(file) = config::read(named.as_deref(), &bare)? else {
        return Ok(bound);
    };
    bound.warnings = file.warnings;
    let Some(sub) = bare.find_subcommand(name) else {
        return Ok(bound);
    };
    let mut added = vec![];
    let mut settings = vec![];
    for table in [Some(name), None] {
        let before = said.clone();
        for setting in file.settings.iter().filter(|s| s.table.as_deref() == table) {
            let Setting {
                long, flags, line, ..
            } = setting;
            let Some(arg) = config::option(sub, long) else {
                continue;
            };
            let id = arg.get_id().as_str();
            let off = flags.is_empty();
            if before.iter().any(|said| said == id) || (!off && contradicts(sub, arg, &before)) {
                continue;
            }
            said.push(id.to_owned());
            if !off {
                settings.push(format!("--{long} (line {line})"));
                added.extend(flags.iter().cloned());
            }
        }
    }
    if !added.is_empty() {
        // Behind the name of the subcommand: nothing but flags can stand before it.
        let is_flag = |arg: &OsString| arg.as_encoded_bytes().starts_with(b"-");
        let at = 2 + bound.args.iter().skip(1).take_while(|a| is_flag(a)).count();
        bound.added = Some(Added {
            path: file.path,
            settings,
            at: at..at + added.len(),
        });
        bound.args.splice(at..at, added);
    }
    Ok(bound)
}

fn each_arg(command: Command, mut change: impl FnMut(&Command, Arg) -> Arg) -> Command {
    command.mut_subcommands(|sub| {
        let whole = sub.clone();
        sub.mut_args(|arg| change(&whole, arg))
    })
}

fn is_set(arg: &Arg) -> bool {
    variable(arg).is_some()
}

fn variable(arg: &Arg) -> Option<OsString> {
    arg.get_env().and_then(std::env::var_os)
}

/// What a variable says.
enum Voice {
    /// It has a value, right or wrong.
    Value,
    /// It switches off what is off anyway, unless the file switches it on.
    Off,
    /// It is empty.
    Silent,
}

fn voice(arg: &Arg) -> Voice {
    let value = variable(arg).unwrap_or_default();
    if value.is_empty() && !EMPTY_COUNTS.contains(&arg.get_id().as_str()) {
        return Voice::Silent;
    }
    let switch = matches!(arg.get_action(), ArgAction::SetTrue);
    if switch && value.to_str().and_then(Switch::read) == Some(false) {
        return Voice::Off;
    }
    Voice::Value
}

fn contradicts(command: &Command, arg: &Arg, said: &[String]) -> bool {
    let conflict = |a: &Arg, id: &str| {
        command
            .get_arg_conflicts_with(a)
            .iter()
            .any(|b| b.get_id() == id)
    };
    said.iter().any(|id| {
        let other = command.get_arguments().find(|other| other.get_id() == id);
        conflict(arg, id) || other.is_some_and(|other| conflict(other, arg.get_id().as_str()))
    })
}
