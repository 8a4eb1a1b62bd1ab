//! `knothole completions`: scripts that let a shell complete the command line.

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
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::command(), "knothole", &mut script);
    script
}
