//! `knothole completions`: scripts that let a shell complete the command line.

use std::fmt::Write as _;

use clap::{Arg, Command, ValueHint};
use clap_complete::Shell;

use super::failure::Failure;
use super::ui::Ui;
use crate::exit::Exit;

/// Print the completion script for a shell
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  knothole completions bash > ~/.local/share/bash-completion/completions/knothole
  knothole completions fish > ~/.config/fish/completions/knothole.fish")]
pub struct Args {
    /// Which shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &Args, ui: &Ui) -> Result<Exit, Failure> {
    ui.raw(&script(args.shell))?;
    Ok(Exit::Done)
}

/// Returns the script as it is shipped in `completions/`.
#[must_use]
pub fn script(shell: Shell) -> Vec<u8> {
    let mut command = super::command();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "knothole", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let script = match shell {
        Shell::Bash => bash(script, &command),
        Shell::Fish => script + &fish(&command),
        Shell::Zsh => zsh(&script, &command),
        _ => script,
    };
    script.into_bytes()
}

/// What a subcommand takes besides options.
fn positional(command: &Command) -> Option<(&Arg, Vec<String>)> {
    let arg = command.get_positionals().next()?;
    let values = arg.get_possible_values();
    let names = values.iter().map(|value| value.get_name().to_owned());
    Some((arg, names.collect()))
}

/// Teaches clap's script what it does not know: that bash makes three words of `--option=value`,
/// and that after a subcommand comes what it takes, not its options. `tests/tools` shows in a
/// real bash that this took.
fn bash(script: String, command: &Command) -> String {
    const OPTIONS: &str = "COMPREPLY=( $(compgen -W \"${opts}\" -- \"${cur}\") )\n";
    // Left to bash itself, which knows about spaces in names and folders.
    const FILES: &str = "COMPREPLY=()\n";
    const NOTHING: &str = "COMPREPLY=(\"${cur}\")\n            \
        [[ \"${BASH_VERSINFO[0]}\" -ge 4 ]] && compopt -o nospace\n";
    let mut script = script
        .replace("COMPREPLY=($(compgen -f \"${cur}\"))\n", FILES)
        .replace(" || ${COMP_CWORD} -eq 2 ]]", " ]]")
        .replacen(
            "    prev=\"$3\"\n",
            "    prev=\"$3\"\n    \
             if [[ ${cur} == \"=\" ]] ; then\n        \
                 cur=\"\"\n        \
                 prev=\"${COMP_WORDS[COMP_CWORD-1]}\"\n    \
             elif [[ ${prev} == \"=\" ]] ; then\n        \
                 prev=\"${COMP_WORDS[COMP_CWORD-2]}\"\n    \
             fi\n",
            1,
        );
    for sub in command.get_subcommands() {
        let taken = match positional(sub) {
            Some((_, values)) if !values.is_empty() => {
                let values = values.join(" ");
                format!("COMPREPLY=( $(compgen -W \"{values}\" -- \"${{cur}}\") )\n")
            }
            Some((arg, _)) if arg.get_value_hint() == ValueHint::Other => NOTHING.to_owned(),
            Some(_) => FILES.to_owned(),
            None => continue,
        };
        let name = format!("        knothole__subcmd__{})\n", sub.get_name());
        let Some(from) = script.find(&name).map(|at| at + name.len()) else {
            continue;
        };
        let end = script[from..].find("        knothole__subcmd__");
        let end = end.map_or(script.len(), |len| from + len);
        // The first is for words that begin with a dash.
        if let Some(at) = script[from..end].rfind(OPTIONS).map(|at| from + at) {
            script.replace_range(at..at + OPTIONS.len(), &taken);
        }
    }
    script
}

/// Keeps the colons in names of values from being taken for separators, and takes away the
/// messages about arguments that nothing is known about: zsh shows them in place of an option that
/// is the only one to fit.
fn zsh(script: &str, command: &Command) -> String {
    let named: Vec<(String, String)> = command
        .get_subcommands()
        .flat_map(Command::get_arguments)
        .flat_map(|arg| arg.get_value_names().unwrap_or_default())
        .filter(|name| name.contains(':'))
        .map(|name| {
            (
                format!("]:{name}:"),
                format!("]:{}:", name.replace(':', "\\:")),
            )
        })
        .collect();
    let line = |line: &str| {
        let mut line = line.to_owned();
        for (name, escaped) in &named {
            line = line.replace(name, escaped);
        }
        match line.strip_suffix(":' \\") {
            Some(argument) if line.starts_with("':") => format!("{argument}:( )' \\\n"),
            _ => line + "\n",
        }
    };
    script.lines().map(line).collect()
}

/// What a subcommand takes besides options, which clap's script leaves to the file names.
fn fish(command: &Command) -> String {
    let mut lines = String::new();
    for sub in command.get_subcommands() {
        let Some((arg, values)) = positional(sub) else {
            continue;
        };
        let what = match arg.get_value_hint() {
            _ if !values.is_empty() => format!("-a \"{}\"", values.join(" ")),
            ValueHint::DirPath => "-a \"(__fish_complete_directories)\"".to_owned(),
            ValueHint::Other => String::new(),
            _ => continue,
        };
        let names = std::iter::once(sub.get_name()).chain(sub.get_visible_aliases());
        let names = names.collect::<Vec<_>>().join(" ");
        let line = format!(
            "complete -c knothole -n \"__fish_knothole_using_subcommand {names}\" -f {what}"
        );
        let _ = writeln!(lines, "{}", line.trim_end());
    }
    lines
}
