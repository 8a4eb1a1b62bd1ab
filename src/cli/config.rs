//! The config file: defaults for long options, in TOML, each checked as if it had been typed.
//!
//! A key is a long option without its dashes. At the top it counts for every command that has
//! the option, in a table such as `[send]` for that command. Tokens do not belong in a file that
//! stays. What beats what is [`defaults`](super::defaults)' business.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::failure::Failure;

/// The longest file that is read, in bytes.
const LIMIT: usize = 64 * 1024;

/// Settings are checked with a definition that knows no variables.
type Bare = Command;
type Key<'a> = Spanned<DeString<'a>>;
type Value<'a> = Spanned<DeValue<'a>>;

/// A config file that can be used.
#[derive(Debug)]
pub(super) struct Settings {
    /// Where it is.
    pub path: PathBuf,
    /// What it sets.
    pub settings: Vec<Setting>,
    /// What a person should know about it.
    pub warnings: Vec<String>,
}

/// One default.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// The command it is for; for all that have the option where there is none.
    pub table: Option<String>,
    /// The option's long name.
    pub long: String,
    /// What would have been typed; nothing for a switch that is off.
    pub flags: Vec<OsString>,
    /// The line it is on, from 1.
    pub line: usize,
    secret: bool,
}

/// What is wrong with a file, and where.
#[derive(Debug)]
struct Mistake {
    /// Place in the text, in bytes.
    at: usize,
    message: String,
    hint: Option<String>,
}

/// Reads the file that is `named`, or the one at its usual place if there is one there. An empty
/// name stands for no file.
///
/// # Errors
/// It cannot be read, or something in it is wrong.
pub(super) fn read(named: Option<&OsStr>, bare: &Bare) -> Result<Option<Settings>, Failure> {
    let path = match named {
        Some(name) if name.is_empty() => return Ok(None),
        Some(name) => Some(PathBuf::from(name)),
        None => usual_place(),
    };
    let Some(path) = path else { return Ok(None) };
    let usual = named.is_none();
    let (text, mode) = match load(&path) {
        Ok(loaded) => loaded,
        Err(error) if usual && nothing_there(&error) => return Ok(None),
        // The home of another user, for example under sudo: not this user's settings.
        Err(error) if usual && error.kind() == io::ErrorKind::PermissionDenied => {
            let warning = format!("{} is left aside: {error}", path.display());
            return Ok(Some(Settings {
                path,
                settings: vec![],
                warnings: vec![warning],
            }));
        }
        Err(error) => {
            return Err(
                Failure::usage(format!("cannot read the config file {}", path.display()))
                    .kind("config")
                    .because(error)
                    .hint("--config '' runs without one"),
            );
        }
    };
    let settings = parse(&text, bare).map_err(|mistake| {
        let Mistake { at, message, hint } = mistake;
        let failure = Failure::usage(format!("{}:{}: {message}", path.display(), line(&text, at)));
        let hint = hint.unwrap_or_else(|| "change it, or run without it: --config ''".to_owned());
        failure.kind("config").hint(hint)
    })?;
    let mut warnings = vec![];
    if let Some(secret) = settings.iter().find(|setting| setting.secret)
        && mode & 0o044 != 0
    {
        let (path, key) = (path.display(), &secret.long);
        warnings.push(format!("others can read {key} in {path}; chmod 600 {path}"));
    }
    Ok(Some(Settings {
        path,
        settings,
        warnings,
    }))
}

/// `knothole/config.toml` in the XDG config folder. Relative folders do not count, as the XDG
/// specification wants it.
fn usual_place() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from);
    let absolute = |path: &PathBuf| path.is_absolute();
    let home = || Some(folder("HOME").filter(absolute)?.join(".config"));
    let config = folder("XDG_CONFIG_HOME").filter(absolute).or_else(home)?;
    Some(config.join("knothole").join("config.toml"))
}

fn nothing_there(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

fn load(path: &Path) -> io::Result<(String, u32)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut bytes = vec![];
    file.take(LIMIT as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > LIMIT {
        return Err(io::Error::other("it is longer than 64 KiB"));
    }
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))?;
    Ok((text, mode))
}

fn line(text: &str, at: usize) -> usize {
    1 + text.get(..at).unwrap_or(text).matches('\n').count()
}

fn parse(text: &str, bare: &Bare) -> Result<Vec<Setting>, Mistake> {
    let table = DeTable::parse(text).map_err(|error| Mistake {
        at: error.span().map_or(0, |span| span.start),
        message: format!("not TOML: {}", error.message()),
        hint: None,
    })?;
    let mut settings = vec![];
    for (key, value) in in_order(table.get_ref()) {
        let DeValue::Table(inner) = value.get_ref() else {
            settings.push(setting(None, &takers(bare), key, value, text)?);
            continue;
        };
        let sub = subcommand(bare, key)?;
        for (key, value) in in_order(inner) {
            settings.push(setting(Some(sub.get_name()), &[sub], key, value, text)?);
        }
    }
    Ok(settings)
}

/// As they stand in the file, so that the first mistake is the one that is told.
fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(&'a Key<'i>, &'a Value<'i>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// The commands that take settings.
fn takers(bare: &Bare) -> Vec<&Command> {
    let takes = |sub: &&Command| sub.get_arguments().any(|arg| arg.get_id() == "config");
    bare.get_subcommands().filter(takes).collect()
}

fn subcommand<'a>(bare: &'a Bare, key: &Key<'_>) -> Result<&'a Command, Mistake> {
    let name: &str = key.get_ref();
    let found = takers(bare).into_iter().find(|sub| sub.get_name() == name);
    found.ok_or_else(|| {
        let alias = bare
            .find_subcommand(name)
            .map(|sub| sub.get_name().to_owned());
        let near = alias.or_else(|| suggested(bare, &[name], ContextKind::SuggestedSubcommand));
        let known = |near: &String| takers(bare).iter().any(|sub| sub.get_name() == near);
        Mistake {
            at: key.span().start,
            message: format!("there are no settings for a command '{name}'"),
            hint: near
                .filter(known)
                .map(|near| format!("did you mean [{near}]?")),
        }
    })
}

/// Reads one key and its value, for those of `subs` that have the option.
fn setting(
    table: Option<&str>,
    subs: &[&Command],
    key: &Key<'_>,
    value: &Value<'_>,
    text: &str,
) -> Result<Setting, Mistake> {
    let long: &str = key.get_ref();
    let having: Vec<(&Command, &Arg)> = subs
        .iter()
        .filter_map(|sub| Some((*sub, option(sub, long)?)))
        .collect();
    let is = |name: &str| {
        let named = |arg: &Arg| arg.get_value_names().is_some_and(|names| names == [name]);
        having.iter().any(|(_, arg)| named(arg))
    };
    if long == "token" || is("TOKEN") {
        return Err(Mistake {
            at: key.span().start,
            message: format!("{long}: a token is good once, so it does not belong in a file"),
            hint: Some("give it when it is used: as an argument, as @FILE, or by -".to_owned()),
        });
    }
    if having.is_empty() {
        let command = table.unwrap_or("knothole");
        return Err(Mistake {
            at: key.span().start,
            message: format!("{command} has no option '{long}' that a file could set"),
            hint: nearest(subs, long).map(|near| format!("did you mean {near}?")),
        });
    }
    let mut flags = vec![];
    for (sub, arg) in &having {
        flags = flags_of(arg, long, value)?;
        check(sub, &flags, is("PASSWORD"), long, value)?;
    }
    Ok(Setting {
        table: table.map(str::to_owned),
        long: long.to_owned(),
        flags,
        line: line(text, key.span().start),
        secret: is("PASSWORD"),
    })
}

/// The option of a command that a setting stands for. What `serve` serves is no setting: `stun` in a
/// file names servers to ask.
pub(super) fn option<'a>(command: &'a Command, long: &str) -> Option<&'a Arg> {
    let none = ["config", "help", "version", "serve_stun"];
    command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(long) && !none.contains(&arg.get_id().as_str()))
}

/// Turns a value into what would have been typed.
fn flags_of(arg: &Arg, long: &str, value: &Value<'_>) -> Result<Vec<OsString>, Mistake> {
    let wrong = |wanted: &str| Mistake {
        at: value.span().start,
        message: format!("{long} takes {wanted}"),
        hint: None,
    };
    let flag = format!("--{long}");
    let with = |value: &Value<'_>| match value.get_ref() {
        DeValue::String(text) => Some(format!("{flag}={text}").into()),
        DeValue::Integer(number) => Some(format!("{flag}={number}").into()),
        _ => None,
    };
    match (arg.get_action(), value.get_ref()) {
        (ArgAction::SetTrue, DeValue::Boolean(on)) => {
            Ok(if *on { vec![flag.into()] } else { vec![] })
        }
        (ArgAction::SetTrue, _) => Err(wrong("true or false")),
        (ArgAction::Count, DeValue::Integer(number)) => {
            let count = number.to_string().parse::<u8>().ok();
            let count = count.ok_or_else(|| wrong("a number from 0 to 255"))?;
            Ok(vec![flag.into(); count.into()])
        }
        (ArgAction::Count, _) => Err(wrong("a number")),
        (ArgAction::Append, DeValue::Array(values)) if values.is_empty() => {
            Ok(vec![format!("{flag}=").into()])
        }
        (ArgAction::Append, DeValue::Array(values)) => {
            let all = values.iter().map(with).collect::<Option<_>>();
            all.ok_or_else(|| wrong("an array of texts in quotes"))
        }
        (ArgAction::Append, _) => with(value)
            .map(|one| vec![one])
            .ok_or_else(|| wrong("a text in quotes, or an array of them")),
        _ => with(value)
            .map(|one| vec![one])
            .ok_or_else(|| wrong("a text in quotes")),
    }
}

/// Has the parser look at the value. What else a command line needs is not the file's matter.
fn check(
    sub: &Command,
    flags: &[OsString],
    secret: bool,
    long: &str,
    value: &Value<'_>,
) -> Result<(), Mistake> {
    let name = OsString::from(sub.get_name());
    let line = std::iter::once(&name).chain(flags);
    let Err(error) = sub.clone().try_get_matches_from(line) else {
        return Ok(());
    };
    if matches!(
        error.kind(),
        ErrorKind::MissingRequiredArgument
            | ErrorKind::ArgumentConflict
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        return Ok(());
    }
    let one = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) if !texts.is_empty() => Some(texts.join(", ")),
        _ => None,
    };
    let shown = one(ContextKind::InvalidValue).filter(|text| !secret && !text.is_empty());
    let shown = shown.map_or(String::new(), |text| format!(" {text:?}"));
    let why = std::error::Error::source(&error).map(ToString::to_string);
    let why = why.or_else(|| one(ContextKind::ValidValue).map(|all| format!("one of {all}")));
    let why = why.unwrap_or_else(|| "it is empty".to_owned());
    Err(Mistake {
        at: value.span().start,
        message: format!("the value{shown} of {long} cannot be used: {why}"),
        hint: one(ContextKind::SuggestedValue).map(|near| format!("did you mean {near:?}?")),
    })
}

/// The option that the parser would suggest for a misspelt one.
fn nearest(subs: &[&Command], long: &str) -> Option<String> {
    let flag = format!("--{long}");
    subs.iter().find_map(|sub| {
        let near = suggested(sub, &[&flag], ContextKind::SuggestedArg)?;
        let near = near.trim_start_matches('-').to_owned();
        option(sub, &near).is_some().then_some(near)
    })
}

fn suggested(command: &Command, words: &[&str], kind: ContextKind) -> Option<String> {
    let line = std::iter::once("knothole").chain(words.iter().copied());
    let error = command.clone().try_get_matches_from(line).err()?;
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.last().cloned(),
        _ => None,
    }
}
