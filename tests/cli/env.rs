//! A place to run the program in: an own home and working folder, no variables but the ones set
//! here, 80 columns, no terminal.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// An environment; gone with its files when dropped.
pub struct Env {
    dir: TempDir,
    vars: Vec<(String, String)>,
    stdin: Option<Vec<u8>>,
}

/// What a run left behind.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Env {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().to_str().expect("a plain path").to_owned();
        // No STUN servers: nothing in here may depend on the internet.
        let fixed = [
            ("HOME", path.as_str()),
            ("XDG_CONFIG_HOME", &format!("{path}/.config")),
            ("PATH", "/usr/bin:/bin"),
            ("LANG", "C.UTF-8"),
            ("TZ", "UTC"),
            ("TERM", "xterm-256color"),
            ("COLUMNS", "80"),
            ("KNOTHOLE_STUN", ""),
        ];
        let vars = fixed.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            dir,
            vars: vars.to_vec(),
            stdin: None,
        }
    }

    /// The working folder of every run.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes a variable away.
    pub fn unset(&mut self, name: &str) {
        self.vars.retain(|(var, _)| var != name);
    }

    /// What comes in on stdin; without this there is nothing.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Puts a file into the working folder.
    pub fn file(self, name: &str, contents: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.path().join(name), contents).expect("a file in a temporary folder");
        self
    }

    /// A command that runs `program` in here; the program under test is [`KNOTHOLE`].
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(self.path());
        command.envs(self.vars.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Ran {
        let mut command = self.command(KNOTHOLE);
        command
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.stdin(if self.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        let mut child = command.spawn().expect("the program starts");
        if let (Some(mut pipe), Some(bytes)) = (child.stdin.take(), &self.stdin) {
            // A program that does not read its input is no failure of the test.
            let _ = pipe.write_all(bytes);
        }
        Ran::of(child.wait_with_output().expect("the program ends"))
    }
}

pub const KNOTHOLE: &str = env!("CARGO_BIN_EXE_knothole");

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("an exit code, not a signal"),
            stdout: String::from_utf8(output.stdout).expect("UTF-8 on stdout"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8 on stderr"),
        }
    }

    /// Exit code, stdout and stderr, to the letter.
    #[track_caller]
    pub fn is(&self, code: i32, stdout: &str, stderr: &str) {
        assert_eq!(
            (self.code, self.stdout.as_str(), self.stderr.as_str()),
            (code, stdout, stderr),
            "{self:#?}"
        );
    }
}
