//! The program on a real terminal (a pseudo-terminal): prompts, pastes, and giving it back.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::env::{Env, KNOTHOLE};
use crate::process::PATIENCE;
use crate::token::invite;

/// A terminal window with the program in it.
pub struct Window {
    screen: File,
    /// Kept open, so that the window outlives the program and its modes can be looked at.
    terminal: OwnedFd,
    before: Termios,
    child: Child,
    seen: Vec<u8>,
}

impl Window {
    /// With standard output in a pipe, for the test to read.
    pub fn open(env: &Env, args: &[&str]) -> Self {
        Self::open_with(env, args, 80, false)
    }

    /// One with so many columns.
    pub fn sized(env: &Env, args: &[&str], columns: u16) -> Self {
        Self::open_with(env, args, columns, false)
    }

    /// With standard output in the window, too.
    pub fn open_whole(env: &Env, args: &[&str]) -> Self {
        Self::open_with(env, args, 80, true)
    }

    /// The same, with standard output in the window, too.
    pub fn sized_whole(env: &Env, args: &[&str], columns: u16) -> Self {
        Self::open_with(env, args, columns, true)
    }

    fn open_with(env: &Env, args: &[&str], columns: u16, whole: bool) -> Self {
        let (screen, terminal) = pty(columns);
        let before = tcgetattr(&terminal).unwrap();
        let end = || Stdio::from(terminal.try_clone().unwrap());
        // `setsid -c` makes it the terminal of a new session, as a terminal program would.
        let child = env
            .command("setsid")
            .args(["-c", KNOTHOLE])
            .args(args)
            .stdin(end())
            .stdout(if whole { end() } else { Stdio::piped() })
            .stderr(end())
            .spawn()
            .unwrap();
        Self {
            screen: screen.into(),
            terminal,
            before,
            child,
            seen: Vec::new(),
        }
    }

    /// Reads what the program draws until `words` are there.
    pub fn wait_for(&mut self, words: &str) {
        let mut buffer = [0; 4096];
        while !self.seen().contains(words) {
            let mut there = [PollFd::new(&self.screen, PollFlags::IN)];
            let bound = Timespec::try_from(PATIENCE).unwrap();
            let ready = poll(&mut there, Some(&bound)).unwrap();
            assert!(ready > 0, "not in time: {words:?}: {}", self.seen());
            let n = self.screen.read(&mut buffer).unwrap();
            assert!(n > 0, "closed before {words:?}: {}", self.seen());
            self.seen.extend_from_slice(&buffer[..n]);
        }
    }

    /// What the program has drawn so far, as far as it was waited for.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Takes the program away without a word to anybody.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn type_in(&mut self, keys: &str) -> JoinHandle<std::io::Result<()>> {
        // The program draws while it reads: whoever only writes fills both buffers and is stuck.
        let mut keyboard = self.keyboard();
        let keys = keys.as_bytes().to_vec();
        std::thread::spawn(move || keyboard.write_all(&keys))
    }

    pub fn keyboard(&self) -> File {
        self.screen.try_clone().unwrap()
    }

    /// Waits for the program's end, and returns what of the input a shell would read now.
    pub fn left(&mut self) -> String {
        const END: &str = "END OF WHAT WAS LEFT";
        self.read_on();
        self.child.wait().unwrap();
        self.type_in(&format!("\n{END}\n"));
        let mut terminal = File::from(self.terminal.try_clone().unwrap());
        let (mut left, mut buffer) = (Vec::new(), [0; 4096]);
        while !String::from_utf8_lossy(&left).contains(END) {
            let n = terminal.read(&mut buffer).unwrap();
            left.extend_from_slice(&buffer[..n]);
        }
        let left = String::from_utf8_lossy(&left);
        left.replace(END, "").trim().to_owned()
    }

    /// Goes on reading, so that the program is not held up by a full screen.
    pub fn read_on(&self) {
        let mut screen = self.screen.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while screen.read(&mut buffer).is_ok_and(|n| n > 0) {}
        });
    }

    pub fn end(mut self) -> (i32, String) {
        self.read_on();
        let mut out = String::new();
        if let Some(mut stdout) = self.child.stdout.take() {
            stdout.read_to_string(&mut out).unwrap();
        }
        let code = self.child.wait().unwrap().code().unwrap();
        let after = tcgetattr(&self.terminal).unwrap();
        assert_eq!(
            after.local_modes, self.before.local_modes,
            "the terminal was not given back"
        );
        (code, out)
    }
}

fn pty(columns: u16) -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let screen = openpt(flags).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let terminal = ioctl_tiocgptpeer(&screen, flags).unwrap();
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&terminal, size).unwrap();
    (screen, terminal)
}

/// All that a run draws on a terminal that has its stdout, too.
pub fn drawn(env: &Env, args: &[&str]) -> String {
    let (screen, terminal) = pty(80);
    let [input, output, error] = [0; 3].map(|_| Stdio::from(terminal.try_clone().unwrap()));
    drop(terminal);
    let mut command = env.command(KNOTHOLE);
    command.args(args).stdin(input).stdout(output).stderr(error);
    let mut child = command.spawn().unwrap();
    // The terminal goes with the program, and the command keeps it open.
    drop(command);
    let (mut drawn, mut screen) = (Vec::new(), File::from(screen));
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = screen.read(&mut buffer) {
        drawn.extend_from_slice(&buffer[..n]);
    }
    child.wait().unwrap();
    String::from_utf8(drawn).unwrap().replace("\r\n", "\n")
}

#[test]
fn a_prompt_takes_a_paste_longer_than_a_terminal_line() {
    let env = Env::new();
    let mut window = Window::open(&env, &["token"]);
    window.wait_for("token: ");
    let modes = tcgetattr(&window.terminal).unwrap().local_modes;
    assert!(!modes.intersects(LocalModes::ICANON | LocalModes::ECHO));
    assert!(modes.contains(LocalModes::ISIG));
    let chat = "look at this one! ".repeat(400);
    window.type_in(&format!("{chat}{}\r", invite()));
    let (code, out) = window.end();
    assert_eq!(code, 0, "{out}");
    assert!(out.starts_with("An invite: "), "{out}");
}

#[test]
fn a_marked_paste_may_be_broken_into_lines() {
    let env = Env::new();
    let mut window = Window::open(&env, &["token"]);
    window.wait_for("\x1b[?2004h");
    window.wait_for("token: ");
    let token = invite();
    window.type_in(&format!(
        "wrong\x15\x1b[200~{}\r{}\r\x1b[201~\r",
        &token[..50],
        &token[50..]
    ));
    let (code, out) = window.end();
    assert_eq!(code, 0, "{out}");
}

#[test]
fn what_is_typed_is_shown_and_the_end_of_input_is_understood() {
    let env = Env::new();
    let mut window = Window::open(&env, &["token"]);
    window.wait_for("token: ");
    window.type_in("KHxy\x7f\x7fAB");
    window.wait_for("token: KHAB");
    window.type_in("\x15\x04");
    window.wait_for("no token was given");
    assert_eq!(window.end(), (2, String::new()));
}

#[test]
fn ctrl_c_at_a_prompt_gives_the_terminal_back() {
    let env = Env::new();
    let mut window = Window::open(&env, &["token"]);
    window.wait_for("token: ");
    window.type_in("KH\x03");
    window.wait_for("stopped by Ctrl-C");
    assert_eq!(window.end(), (130, String::new()));
}

#[test]
fn a_terminal_gets_colours_unless_someone_minds() {
    for args in [
        &["--help"][..],
        &["send", "-h"],
        &["sned"],
        &["token", "hello"],
        &[],
    ] {
        let coloured = |env: &Env, more: &[&str]| {
            let drawn = drawn(env, &[args, more].concat());
            assert!(
                drawn.contains("knothole") || drawn.contains("error"),
                "{drawn}"
            );
            drawn.contains("\x1b[")
        };
        let plain = Env::new;
        assert!(coloured(&plain(), &[]), "{args:?}");
        assert!(!coloured(&plain().var("NO_COLOR", "1"), &[]), "{args:?}");
        assert!(coloured(&plain().var("NO_COLOR", ""), &[]), "{args:?}");
        assert!(!coloured(&plain().var("TERM", "dumb"), &[]), "{args:?}");
        assert!(!coloured(&plain().var("CLICOLOR", "0"), &[]), "{args:?}");
        let forced = || plain().var("TERM", "dumb").var("CLICOLOR_FORCE", "1");
        assert!(coloured(&forced(), &[]), "{args:?}");
        assert!(!coloured(&forced().var("NO_COLOR", "1"), &[]), "{args:?}");
        let never = plain().var("CLICOLOR_FORCE", "1");
        assert!(
            !coloured(&never.var("KNOTHOLE_COLOR", "never"), &[]),
            "{args:?}"
        );
        if args == ["send", "-h"] || args == ["token", "hello"] {
            assert!(!coloured(&forced(), &["--color", "never"]), "{args:?}");
            let always = plain().var("NO_COLOR", "1");
            assert!(coloured(&always, &["--color=always"]), "{args:?}");
        }
    }
}

#[test]
fn a_dumb_terminal_gets_lines_only() {
    let env = Env::new().file("f", "x").var("TERM", "dumb");
    let args = ["send", "f", "--expires", "1s", "--bind", "127.0.0.1"];
    let drawn = drawn(&env, &args);
    assert!(drawn.contains("waiting for the other side"), "{drawn}");
    let obeyed = drawn.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(obeyed, None, "{drawn:?}");
}
