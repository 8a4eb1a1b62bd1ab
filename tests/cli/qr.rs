//! Invites as QR codes, on real screens (tmux) and in pictures, and on the clipboard.
//!
//! The screens are drawn as a terminal would, dark and light, and read by zbarimg, which has
//! nothing in common with what the program uses. They need the tools in [`TOOLS`] and root, for a
//! network of their own in which an invite has a private and a public address. Without them a
//! test says on stderr what was not run and passes; with `KNOTHOLE_LAB=require` it fails.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::UdpSocket;
use std::process::Stdio;

use image::{GrayImage, ImageFormat, Luma};
use knothole::proto::stun::responder::respond;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::env::{Env, KNOTHOLE, Ran};
use crate::process::{self, eventually};
use crate::terminal::Window;
use crate::token::invite;
use crate::tools;

/// Programs, each with the Debian package it comes from.
const TOOLS: [(&str, &str); 3] = [
    ("tmux", "tmux"),
    ("zbarimg", "zbar-tools"),
    ("ip", "iproute2"),
];
const PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";
const CAPTION: &str = "Or scan this there; --qr-image reads it from a photo or screenshot:";
const PROMPT: &str = "reply code, if the other side shows one:";

#[test]
fn an_invite_with_its_qr_code_fits_a_small_terminal() {
    on_a_screen(|| {
        let net = Net::build("small", &["192.168.1.10/24"]);
        let env = Env::new().var("PATH", PATH).file("notes.txt", "hello");
        let tmux = Tmux::new(&env);
        for (cols, command_is_whole) in [(80, true), (40, false)] {
            let screen = tmux.screen(Some(&net), (cols, 24), &["send", "notes.txt"], PROMPT);
            let invite = screen.invite();
            assert_eq!(invite.len(), 110, "a host and a public address: {invite}");
            screen.shows(CAPTION);
            screen.shows(PROMPT);
            if command_is_whole {
                screen.shows(&format!(
                    "On the other side, within 1 h:knothole receive {invite}"
                ));
            }
            screen.scans_as(&env, &invite);
        }
    });
}

#[test]
fn a_larger_invite_fits_or_says_so_in_a_line() {
    on_a_screen(|| {
        let addresses = ["192.168.1.10/24", "fd12:3456:789a::10/64"];
        let net = Net::build("larger", &addresses);
        let env = Env::new().var("PATH", PATH).file("notes.txt", "hello");
        let tmux = Tmux::new(&env);
        let send = ["send", "notes.txt"];
        let screen = tmux.screen(Some(&net), (80, 24), &send, PROMPT);
        assert!((115..=154).contains(&screen.invite().len()), "version 5");
        screen.shows(CAPTION);
        screen.scans_as(&env, &screen.invite());
        for (size, why) in [
            ((40, 24), "(QR needs 41 columns; try --qr-file)"),
            ((80, 22), "(QR needs 23 rows; try --qr-file)"),
        ] {
            let screen = tmux.screen(Some(&net), size, &send, PROMPT);
            assert!(
                screen.text.lines().any(|line| line == why),
                "{size:?}: {}",
                screen.text
            );
            assert!(!screen.text.contains('▀'), "{}", screen.text);
        }
    });
}

#[test]
fn tmux_takes_the_invite_to_its_clipboard() {
    on_a_screen(|| {
        let env = Env::new().var("PATH", PATH).file("notes.txt", "hello");
        let tmux = Tmux::new(&env);
        let copy = ["send", "notes.txt", "--copy", "--bind", "127.0.0.1"];
        let screen = tmux.screen(None, (80, 24), &copy, PROMPT);
        let asked = "asked the terminal to copy the invite (tmux needs set-clipboard on)";
        assert!(screen.whole.contains(asked), "{}", screen.whole);
        let copied = eventually("the clipboard", || {
            let buffer = tmux.run(&["show-buffer"]);
            (buffer.code == 0).then_some(buffer.stdout)
        });
        assert_eq!(copied, screen.invite());
    });
}

#[test]
fn a_copy_is_asked_of_the_terminal_once_and_of_nothing_else() {
    let env = Env::new().file("notes.txt", "hello");
    let send = ["send", "notes.txt", "--bind", "127.0.0.1", "--copy"];
    let mut window = Window::open(&env, &send);
    window.wait_for(PROMPT);
    let seen = window.seen();
    assert!(
        seen.contains("asked the terminal to copy the invite\r\n"),
        "{seen}"
    );
    window.type_in("\x03");
    let (code, out) = window.end();
    assert_eq!(code, 130);
    let invite = out.trim_end();
    assert_eq!(out, format!("{invite}\n"), "stdout is a pipe");
    let sequences: Vec<&str> = seen.split("\x1b]52;c;").collect();
    assert_eq!(sequences.len(), 2, "{seen}");
    let (payload, _) = sequences[1].split_once('\x07').unwrap();
    assert_eq!(decode(&env, payload), invite);
}

#[test]
fn a_reply_code_is_copied_where_it_has_to_travel() {
    let (from, to) = (Env::new().file("notes.txt", "hello"), Env::new());
    let gone = process::start(&from, &["send", "notes.txt"]);
    let invite = gone.invite();
    drop(gone);
    let receive = ["receive", &invite, "--bind", "127.0.0.1", "--copy"];
    let mut window = Window::open(&to, &receive);
    window.wait_for("asked the terminal to copy the reply code\r\n");
    window.wait_for("Type this reply code where the invite was made:\r\n");
    let seen = window.seen();
    window.type_in("\x03");
    let (code, out) = window.end();
    assert_eq!(code, 130);
    let sequences: Vec<&str> = seen.split("\x1b]52;c;").collect();
    assert_eq!(sequences.len(), 2, "{seen}");
    let (payload, _) = sequences[1].split_once('\x07').unwrap();
    assert_eq!(decode(&to, payload), out.trim_end());
}

#[test]
fn without_a_terminal_that_can_copy_this_is_said() {
    let env = Env::new().var("TERM", "dumb").file("notes.txt", "hello");
    let send = ["send", "notes.txt", "--bind", "127.0.0.1", "--copy"];
    let mut window = Window::open(&env, &send);
    window.wait_for("the invite is not copied: TERM=dumb\r\n");
    window.wait_for(PROMPT);
    assert!(!window.seen().contains("\x1b]52"), "{}", window.seen());
    window.type_in("\x03");
    assert_eq!(window.end().0, 130);
}

#[test]
fn the_invite_goes_to_a_file_and_is_joined_from_there() {
    for (name, format) in [("invite.png", "png"), ("invite.jpg", "jpeg")] {
        let (from, to) = (Env::new().file("notes.txt", "hello"), Env::new());
        let sender = process::start(&from, &["send", "notes.txt", "--qr-file", "invite.png"]);
        let invite = sender.invite();
        sender.says("the invite as a QR code: \"invite.png\"\n");
        let written = from.path().join("invite.png");
        let picture = image::open(&written).unwrap();
        picture.save(to.path().join(name)).unwrap();
        let receive = ["receive", "--qr-image", name, "-y"];
        let received = process::start(&to, &receive).ended();
        assert_eq!(received.code, 0, "{format}: {received:?}");
        let sent = sender.ended();
        assert_eq!((sent.code, sent.stdout), (0, format!("{invite}\n")));
        let notes = std::fs::read_to_string(to.path().join("notes.txt")).unwrap();
        assert_eq!(notes, "hello");
        assert!(written.exists(), "it is the user's");
    }
}

#[test]
fn a_picture_can_come_on_standard_input_and_send_joins_too() {
    let (from, to) = (Env::new().file("notes.txt", "hello"), Env::new());
    let receive = ["receive", "--invite", "-y", "--qr-file", "invite.svg"];
    let receiver = process::start(&to, &receive);
    let invite = receiver.invite();
    let svg = std::fs::read_to_string(to.path().join("invite.svg")).unwrap();
    assert!(svg.ends_with("</svg>"), "{svg}");
    let mut sender = process::start(&from, &["send", "notes.txt", "--qr-image", "-"]);
    let mut stdin = sender.take_stdin();
    stdin.write_all(&png(&invite)).unwrap();
    drop(stdin);
    assert_eq!(sender.ended().code, 0);
    assert_eq!(receiver.ended().code, 0);
}

#[test]
fn a_picture_without_an_invite_is_refused_with_what_it_is() {
    let blank = GrayImage::from_pixel(200, 200, Luma([255]));
    let mut file = std::io::Cursor::new(Vec::new());
    blank.write_to(&mut file, ImageFormat::Png).unwrap();
    let env = Env::new()
        .file("blank.png", file.into_inner())
        .file("page.png", "<svg/>")
        .file("cut.png", &png(&invite())[..100])
        .file("menu.png", png("https://example.org/\u{1b}[2J?menu"))
        .file("old.png", png(&invite()))
        .file("typo.png", png(&invite().replacen('7', "8", 1)));
    for (name, words, hint) in [
        ("blank.png", "no QR code was found in it", "cut the picture"),
        (
            "page.png",
            "it is neither PNG nor JPEG",
            "give a PNG or JPEG",
        ),
        ("cut.png", "it cannot be decoded: ", "give a PNG or JPEG"),
        (
            "menu.png",
            "its QR code is no invite; it says https://example.org/\\u{1b}[2J?menu\n",
            "give the picture of an invite",
        ),
        ("gone.png", "no such file or folder", "check the spelling"),
        (".", "cannot read \".\": ", "give a PNG or JPEG"),
        ("old.png", "this invite expired ", "ask for a new one"),
        ("typo.png", "typing mistake at character", "compare"),
    ] {
        let ran = env.run(&["receive", "--qr-image", name]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{name}: {ran:?}");
        let said = ran.stderr.contains(words) && ran.stderr.contains(&format!("\nhint: {hint}"));
        assert!(said, "{name}: {}", ran.stderr);
    }
}

#[test]
fn what_goes_into_a_file_is_checked_before_anything_is_tried() {
    let env = Env::new()
        .file("notes.txt", "hello")
        .file("taken.png", "precious");
    for (args, words) in [
        (
            &["--qr-file", "invite.gif"][..],
            "has to end in .png or .svg",
        ),
        (&["--qr-file", "taken.png"], "something is there already"),
        (&["--qr-file", "gone/invite.png"], "gone"),
        (
            &["--qr-file", "a.png", "--qr-image", "b.png"],
            "cannot be used with",
        ),
        (
            &["--qr-file", "a.png", "--to", "TOKEN"],
            "this side joins one",
        ),
        (
            &["--to", "TOKEN", "--qr-image", "b.png"],
            "cannot be used with",
        ),
    ] {
        let ran = env.run(&[&["send", "notes.txt"], args].concat());
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (2, ""),
            "{args:?}: {ran:?}"
        );
        let flat = ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(words), "{args:?}: {}", ran.stderr);
        assert!(!flat.contains("gathering"), "{args:?}: {}", ran.stderr);
    }
    for args in [
        &["receive", "--qr-image", "x.png", "TOKEN"][..],
        &["receive", "--qr-image", "x.png", "--invite"],
        &["send", "-", "--qr-image", "-"],
    ] {
        assert_eq!(env.run(args).code, 2, "{args:?}");
    }
    let taken = std::fs::read_to_string(env.path().join("taken.png")).unwrap();
    assert_eq!(taken, "precious");
}

/// A picture of a QR code, as `--qr-file` writes it.
fn png(text: &str) -> Vec<u8> {
    knothole::report::qr::Code::new(text)
        .unwrap()
        .png()
        .unwrap()
}

/// Runs a test that needs real screens, or says why it cannot be run.
fn on_a_screen<F: FnOnce()>(test: F) {
    let root = rustix::process::geteuid().is_root();
    let missing =
        tools::missing(&TOOLS).and_then(|()| root.then_some(()).ok_or_else(|| "root".to_owned()));
    tools::run(tools::name_of::<F>(), missing, test);
}

/// A network namespace without a way out, in which a STUN server says that everybody has one
/// public address. Gone when dropped.
struct Net(String);

impl Net {
    fn build(test: &str, addresses: &[&str]) -> Self {
        let net = Self(format!("knothole-{test}-{}", std::process::id()));
        let name = &net.0;
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        ip(&format!("-n {name} link add eth0 type veth peer name eth1"));
        for address in addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            ip(&format!("-n {name} address add {address} dev eth0{nodad}"));
        }
        for end in ["eth1", "eth0"] {
            ip(&format!("-n {name} link set {end} up"));
        }
        let file = std::fs::File::open(format!("/run/netns/{name}")).unwrap();
        // A namespace is a property of a thread. This one ends with the tests.
        let server = std::thread::spawn(move || {
            move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&file),
                Some(LinkNameSpaceType::Network),
            )
            .unwrap();
            UdpSocket::bind("127.0.0.1:3478").unwrap()
        })
        .join()
        .unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            let seen = "203.0.113.7:61000".parse().unwrap();
            while let Ok((n, from)) = server.recv_from(&mut buffer) {
                if let Some(answer) = respond(&buffer[..n], seen) {
                    let _ = server.send_to(&answer, from);
                }
            }
        });
        net
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        ip(&format!("netns delete {}", self.0));
    }
}

fn ip(args: &str) {
    let mut command = std::process::Command::new("ip");
    let status = command.env("PATH", PATH).args(args.split(' ')).status();
    assert!(status.expect("ip runs").success(), "ip {args}");
}

/// A tmux server of its own. Gone with what runs in it when dropped.
struct Tmux<'a> {
    env: &'a Env,
}

/// What a person sees.
struct Screen {
    /// The rows on the screen.
    text: String,
    /// The same with colours.
    painted: String,
    /// Everything since the start, with wrapped lines joined.
    whole: String,
    size: (usize, usize),
}

impl<'a> Tmux<'a> {
    fn new(env: &'a Env) -> Self {
        let settings = "set -g remain-on-exit on\nset -s set-clipboard on\n";
        std::fs::write(env.path().join("tmux.conf"), settings).unwrap();
        Self { env }
    }

    fn run(&self, args: &[&str]) -> Ran {
        let mut command = self.env.command("tmux");
        command
            .args(["-u", "-S", "tmux", "-f", "tmux.conf"])
            .args(args);
        Ran::of(command.stdin(Stdio::null()).output().unwrap())
    }

    /// Runs the program in a window of this many columns and rows until it says `words`.
    fn screen(
        &self,
        net: Option<&Net>,
        size: (usize, usize),
        args: &[&str],
        words: &str,
    ) -> Screen {
        let name = format!("{}x{}", size.0, size.1);
        let (cols, rows) = (size.0.to_string(), size.1.to_string());
        let mut words_of = vec![
            "new-session",
            "-d",
            "-s",
            &name,
            "-x",
            &cols,
            "-y",
            &rows,
            "--",
        ];
        if let Some(net) = net {
            words_of.extend(["ip", "netns", "exec", &net.0]);
        }
        words_of.push(KNOTHOLE);
        words_of.extend(args);
        if net.is_some() {
            words_of.extend(["--stun", "127.0.0.1"]);
        }
        let started = self.run(&words_of);
        assert_eq!(started.code, 0, "{started:?}");
        let flat = |text: &str| text.replace(['\n', ' '], "");
        eventually(words, || {
            let text = self.run(&["capture-pane", "-p", "-t", &name]).stdout;
            flat(&text).contains(&flat(words)).then_some(())
        });
        let capture = |more: &[&str]| {
            self.run(&[&["capture-pane", "-p", "-t", &name], more].concat())
                .stdout
        };
        Screen {
            text: capture(&[]),
            painted: capture(&["-e", "-N"]),
            whole: capture(&["-J", "-S", "-"]),
            size,
        }
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        self.run(&["kill-server"]);
    }
}

impl Screen {
    /// What was printed first.
    fn invite(&self) -> String {
        let line = self.whole.lines().next().unwrap_or_default().trim_end();
        assert!(line.starts_with("KH"), "{}", self.whole);
        line.to_owned()
    }

    /// The words are on the screen, wherever they wrap.
    #[track_caller]
    fn shows(&self, words: &str) {
        let flat = |text: &str| text.replace(['\n', ' '], "");
        assert!(flat(&self.text).contains(&flat(words)), "{}", self.text);
        assert!(self.text.lines().count() <= self.size.1);
    }

    /// The code on the screen is this text, whatever the colours of the terminal.
    #[track_caller]
    fn scans_as(&self, env: &Env, text: &str) {
        for (theme, ground, ink) in [("dark", 25, 210), ("light", 250, 60)] {
            let picture = self.draw(ground, ink);
            let path = env.path().join(format!("{theme}.png"));
            picture.save(&path).unwrap();
            let mut zbarimg = env.command("zbarimg");
            zbarimg.args(["--quiet", "--raw", "-Sdisable", "-Sqrcode.enable"]);
            let ran = Ran::of(zbarimg.arg(&path).output().unwrap());
            assert_eq!(
                (ran.code, ran.stdout.trim_end()),
                (0, text),
                "{theme}: {}",
                self.text
            );
        }
    }

    /// Draws the screen as a terminal with this background and this ink would.
    fn draw(&self, ground: u8, ink: u8) -> GrayImage {
        const CELL: (u32, u32) = (8, 16);
        let (cols, rows) = (self.size.0 as u32, self.size.1 as u32);
        let mut picture = GrayImage::from_pixel(cols * CELL.0, rows * CELL.1, Luma([ground]));
        let (mut upper, mut lower) = (ink, ground);
        let known = BTreeMap::from([("16", 0), ("231", 255)]);
        for (row, line) in (0..).zip(self.painted.lines()) {
            let mut col = 0;
            let mut chars = line.chars();
            while let Some(c) = chars.next() {
                if c == '\x1b' {
                    let codes: String = chars.by_ref().skip(1).take_while(|c| *c != 'm').collect();
                    let codes: Vec<&str> = codes.split(';').collect();
                    let mut codes = codes.as_slice();
                    loop {
                        codes = match codes {
                            ["38", "5", color, rest @ ..] => {
                                upper = known[color];
                                rest
                            }
                            ["48", "5", color, rest @ ..] => {
                                lower = known[color];
                                rest
                            }
                            ["39", rest @ ..] => {
                                upper = ink;
                                rest
                            }
                            ["49", rest @ ..] => {
                                lower = ground;
                                rest
                            }
                            ["0" | "", rest @ ..] => {
                                (upper, lower) = (ink, ground);
                                rest
                            }
                            [_, rest @ ..] => rest,
                            [] => break,
                        };
                    }
                    continue;
                }
                for y in 0..CELL.1 {
                    for x in 0..CELL.0 {
                        let shade = match c {
                            ' ' => lower,
                            '▀' if y < CELL.1 / 2 => upper,
                            '▀' => lower,
                            // Some letter.
                            _ if (2..6).contains(&x) && (4..12).contains(&y) => upper,
                            _ => lower,
                        };
                        picture.put_pixel(col * CELL.0 + x, row * CELL.1 + y, Luma([shade]));
                    }
                }
                col += 1;
            }
        }
        picture
    }
}

/// Decodes base64 with another program.
fn decode(env: &Env, base64: &str) -> String {
    let mut child = env
        .command("base64")
        .arg("--decode")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(base64.as_bytes()).unwrap();
    drop(stdin);
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}
