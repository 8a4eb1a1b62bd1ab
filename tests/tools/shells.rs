//! The completion scripts, put where each shell looks for them and used as people do: what is
//! typed, Tab, Enter.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap_complete::Shell;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use tempfile::TempDir;

use crate::with;

/// How long a shell may take on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(40);

/// What is typed before Tab, and the words that are run then. There are a file `photo.jpg`, a
/// folder `album` and a file `with space`.
const CASES: [(&str, &[&str]); 22] = [
    ("knothole rece", &["receive"]),
    ("knothole selft", &["selftest"]),
    ("knothole send ph", &["send", "photo.jpg"]),
    ("knothole send with", &["send", "with space"]),
    (
        "knothole send photo.jpg alb",
        &["send", "photo.jpg", "album/"],
    ),
    ("knothole tx ph", &["tx", "photo.jpg"]),
    ("knothole send --no-p", &["send", "--no-progress"]),
    ("knothole send --overw", &["send", "--overw"]),
    ("knothole receive --overw", &["receive", "--overwrite"]),
    ("knothole rx --overw", &["rx", "--overwrite"]),
    ("knothole send --color al", &["send", "--color", "always"]),
    ("knothole send --color=al", &["send", "--color=always"]),
    ("knothole send --qr=n", &["send", "--qr=never"]),
    ("knothole receive -o alb", &["receive", "-o", "album/"]),
    (
        "knothole receive --output ph",
        &["receive", "--output", "photo.jpg"],
    ),
    ("knothole receive ph", &["receive", "ph"]),
    ("knothole send --timeout ph", &["send", "--timeout", "ph"]),
    (
        "knothole token --config ph",
        &["token", "--config", "photo.jpg"],
    ),
    ("knothole send --bind ph", &["send", "--bind", "ph"]),
    ("knothole send --via ph", &["send", "--via", "ph"]),
    ("knothole completions fi", &["completions", "fish"]),
    ("knothole man alb", &["man", "album/"]),
];

/// A home with the files of [`CASES`], and the script for `shell` at `place` in it.
fn home(shell: Shell, place: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join(place);
    fs::create_dir_all(script.parent().unwrap()).unwrap();
    fs::write(script, knothole::cli::completions::script(shell)).unwrap();
    fs::create_dir(dir.path().join("bin")).unwrap();
    symlink(
        env!("CARGO_BIN_EXE_knothole"),
        dir.path().join("bin/knothole"),
    )
    .unwrap();
    let work = dir.path().join("work");
    fs::create_dir_all(work.join("album")).unwrap();
    for file in ["photo.jpg", "with space"] {
        fs::write(work.join(file), "").unwrap();
    }
    dir
}

fn command(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env(
            "PATH",
            format!("{}/bin:/usr/local/bin:/usr/bin:/bin", home.display()),
        )
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home.join(".config"))
        .env("LC_ALL", "C.UTF-8")
        .env("TERM", "dumb")
        .current_dir(home.join("work"));
    command
}

/// Types each case at a shell on a terminal. In place of the program stands a function that shows
/// its arguments, so that the shell itself says what it made of the line.
fn type_cases(mut shell: Command, prepare: &str) {
    let (mut screen, terminal) = terminal();
    let end = || Stdio::from(terminal.try_clone().unwrap());
    let mut child = shell
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap();
    let mut keyboard = screen.try_clone().unwrap();
    let mut seen = String::new();
    let prepare = format!("{prepare}\nknothole() {{ printf '<%s>' RAN \"$@\" END; echo; }}\n");
    keyboard.write_all(prepare.as_bytes()).unwrap();
    keyboard.write_all(b"printf '%s\\n' READ''Y\n").unwrap();
    wait_for(&mut screen, &mut seen, "READY");
    for (typed, expected) in CASES {
        seen.clear();
        keyboard.write_all(typed.as_bytes()).unwrap();
        keyboard.write_all(b"\t\n").unwrap();
        wait_for(&mut screen, &mut seen, "<END>");
        let ran = seen.split_once("<RAN>").map_or("", |(_, ran)| ran);
        let ran = ran.split_once("<END>").map_or("", |(ran, _)| ran);
        let words: String = expected.iter().map(|word| format!("<{word}>")).collect();
        // A folder may be completed with or without the slash.
        let same = ran.replace("/>", ">") == words.replace("/>", ">");
        assert!(same, "{typed}: {ran}, not {words}\n{seen}");
        assert!(!seen.contains("not found"), "{typed}: {seen}");
    }
    keyboard.write_all(b"exit\n").unwrap();
    let until = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "the shell does not end");
        let mut rest = [0; 4096];
        if ready(&screen, Duration::from_millis(20)) {
            let _ = screen.read(&mut rest);
        }
    }
}

fn wait_for(screen: &mut File, seen: &mut String, words: &str) {
    let until = Instant::now() + PATIENCE;
    while !seen.contains(words) {
        let left = until.saturating_duration_since(Instant::now());
        assert!(ready(screen, left), "no {words:?}: {seen}");
        let mut buffer = [0; 4096];
        let n = screen.read(&mut buffer).unwrap();
        *seen += &String::from_utf8_lossy(&buffer[..n]);
    }
}

fn ready(screen: &File, patience: Duration) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(screen.as_fd(), PollFlags::IN)];
    let timespec = Timespec::try_from(patience).unwrap();
    poll(&mut fds, Some(&timespec)).unwrap() > 0
}

fn terminal() -> (File, File) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let screen = openpt(flags).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let terminal = ioctl_tiocgptpeer(&screen, flags).unwrap();
    (screen.into(), terminal.into())
}

#[test]
fn bash_completes_what_is_typed() {
    with(&[("bash", "bash"), ("setsid", "util-linux")], || {
        let home = home(Shell::Bash, "completions/knothole");
        let mut shell = command("setsid", home.path());
        shell.args(["-c", "bash", "--norc", "--noprofile", "-i"]);
        type_cases(shell, "source ../completions/knothole");
    });
}

#[test]
fn zsh_completes_what_is_typed() {
    with(&[("zsh", "zsh"), ("setsid", "util-linux")], || {
        let home = home(Shell::Zsh, "completions/_knothole");
        let mut shell = command("setsid", home.path());
        shell.args(["-c", "zsh", "-f", "-i"]);
        type_cases(
            shell,
            "fpath=(~/completions $fpath); autoload -Uz compinit; compinit -D -u",
        );
    });
}

#[test]
fn fish_completes_what_is_typed() {
    with(&[("fish", "fish")], || {
        let home = home(Shell::Fish, ".config/fish/completions/knothole.fish");
        for (typed, expected) in CASES {
            let mut shell = command("fish", home.path());
            shell.args(["-c", &format!("complete -C '{typed}'")]);
            let output = shell.stdin(Stdio::null()).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            let offered = String::from_utf8(output.stdout).unwrap();
            let offered: Vec<&str> = offered
                .lines()
                .filter_map(|line| line.split('\t').next())
                .collect();
            let last = typed.rsplit(' ').next().unwrap_or_default();
            let wanted = expected.last().copied().unwrap_or_default();
            let wanted: &[&str] = if wanted == last { &[] } else { &[wanted] };
            assert_eq!(offered, wanted, "{typed}");
        }
    });
}
