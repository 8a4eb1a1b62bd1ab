//! `pipe` between two processes: both directions, each way it can end, and real programs at its ends.

use std::fs::{File, read};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use knothole::report::model::{Event, State, TokenKind};
use rustix::process::Signal;

use crate::env::{Env, KNOTHOLE, Ran};
use crate::process::{LOOPBACK, PATIENCE, Process, event, eventually, noise, plain, start_with};
use crate::terminal::Window;

/// A running pipe with the test at both ends of its streams.
struct End {
    process: Process,
    stdin: Option<PipeWriter>,
    stdout: Option<PipeReader>,
}

impl End {
    fn start(env: &Env, args: &[&str]) -> Self {
        let (input, stdin) = pipe().unwrap();
        let (stdout, output) = pipe().unwrap();
        let process = start_with(
            env,
            &[&["pipe"], args].concat(),
            input.into(),
            output.into(),
        );
        Self {
            process,
            stdin: Some(stdin),
            stdout: Some(stdout),
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().expect("open").write_all(bytes).unwrap();
    }

    fn expect(&mut self, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        self.stdout
            .as_mut()
            .expect("open")
            .read_exact(&mut got)
            .unwrap();
        assert_eq!(got, bytes);
    }

    fn expect_end(&mut self) {
        let mut rest = vec![];
        self.stdout
            .as_mut()
            .expect("open")
            .read_to_end(&mut rest)
            .unwrap();
        assert_eq!(rest, b"");
    }

    fn close(&mut self) {
        self.stdin = None;
    }
}

/// The issuing side and the joining side.
fn ends(env: &Env, first: &[&str], second: &[&str]) -> (End, End) {
    let issuer = End::start(env, first);
    let invite = issuer.process.invite_aside();
    let joiner = End::start(env, &[&[invite.as_str()], second].concat());
    (issuer, joiner)
}

fn files(env: &Env, first: &[&str], second: &[&str]) -> (Ran, Ran) {
    let open = |name: &str| Stdio::from(File::open(env.path().join(name)).unwrap());
    let make = |name: &str| Stdio::from(File::create(env.path().join(name)).unwrap());
    let first = [&["pipe"], first].concat();
    let issuer = start_with(env, &first, open("a"), make("from-b"));
    let invite = issuer.invite_aside();
    let second = [&["pipe", invite.as_str()], second].concat();
    let joiner = start_with(env, &second, open("b"), make("from-a"));
    (issuer.ended(), joiner.ended())
}

fn written(env: &Env, name: &str) -> Vec<u8> {
    read(env.path().join(name)).unwrap()
}

/// Feeds bytes to a stream for as long as it takes them; tells how many it took.
fn feed(
    mut stdin: PipeWriter,
    bytes: impl Iterator<Item = Vec<u8>> + Send + 'static,
) -> Arc<AtomicUsize> {
    let fed = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&fed);
    std::thread::spawn(move || {
        for bytes in bytes {
            if stdin.write_all(&bytes).is_err() {
                return;
            }
            count.fetch_add(bytes.len(), Ordering::Relaxed);
        }
    });
    fed
}

fn endless() -> impl Iterator<Item = Vec<u8>> + Send {
    std::iter::repeat_with(|| b"y\n".repeat(4096))
}

#[test]
fn a_pipe_whose_words_nobody_can_compare_does_not_open() {
    for (first, second) in [(&["--verify"][..], &[][..]), (&[], &["--verify"])] {
        let env = Env::new().file("a", "from a").file("b", "from b");
        let (issued, joined) = files(&env, first, second);
        for ran in [issued, joined] {
            assert_eq!(ran.code, 1, "{ran:#?}");
            assert!(
                ran.stderr.contains("hint: people compare words"),
                "{ran:#?}"
            );
        }
        assert_eq!(
            (written(&env, "from-a"), written(&env, "from-b")),
            (vec![], vec![])
        );
    }
}

#[test]
fn two_files_cross_whole_and_stdout_carries_nothing_else() {
    let (a, b) = (noise("a", 3_000_001), noise("b", 70_000));
    let env = Env::new().file("a", &a).file("b", &b);
    let (first, second) = files(&env, &[], &[]);
    assert!(written(&env, "from-a") == a && written(&env, "from-b") == b);
    assert_eq!((first.code, second.code), (0, 0), "{first:?} {second:?}");
    assert_eq!(
        plain(&first.stderr),
        "gathering addresses\n\
         INVITE\n\
         On the other side, within 1 h:\n  knothole pipe INVITE\n\
         waiting for the other side\n\
         connected\n\
         connected directly\n\
         waiting for the other side to say hello\n\
         done: sent 2.9 MiB, received 68 KiB\n"
    );
    assert_eq!(
        plain(&second.stderr),
        "connecting\n\
         connected\n\
         connected directly\n\
         waiting for the other side to say hello\n\
         done: sent 68 KiB, received 2.9 MiB\n"
    );
}

#[test]
fn quiet_leaves_the_invite_and_nothing_else() {
    let env = Env::new().file("a", "x").file("b", "");
    let (first, second) = files(&env, &["-q"], &["-q"]);
    assert_eq!(plain(&first.stderr), "INVITE\n");
    second.is(0, "", "");
    assert_eq!(written(&env, "from-a"), b"x");
}

#[test]
fn each_direction_ends_by_itself() {
    let env = Env::new();
    let (mut first, mut second) = ends(&env, &[], &[]);
    second.write(b"one\n");
    second.close();
    first.expect(b"one\n");
    // The reader has its end while the other direction goes on.
    first.expect_end();
    for n in 0..5 {
        let line = format!("line {n}\n");
        first.write(line.as_bytes());
        second.expect(line.as_bytes());
    }
    assert!(first.process.is_running() && second.process.is_running());
    first.close();
    second.expect_end();
    assert_eq!(first.process.ended().code, 0);
    assert_eq!(second.process.ended().code, 0);
}

#[test]
fn the_side_that_only_sends_needs_nothing_of_the_other_but_its_reader() {
    let env = Env::new();
    let (mut first, mut second) = ends(&env, &["--send-only"], &[]);
    // Nobody reads the second's input, which stays open.
    second.write(b"for nobody");
    first.write(b"hello");
    first.close();
    second.expect(b"hello");
    second.expect_end();
    let (sent, received) = (first.process.ended(), second.process.ended());
    assert_eq!((sent.code, received.code), (0, 0), "{sent:?} {received:?}");
    assert!(
        plain(&sent.stderr).ends_with("done: sent 5 B\n"),
        "{sent:?}"
    );
    assert_eq!(
        plain(&received.stderr).lines().skip(4).collect::<Vec<_>>(),
        [
            "the other side takes nothing: standard input is not read",
            "done: received 5 B"
        ]
    );
}

#[test]
fn the_side_that_only_receives_leaves_its_input_alone() {
    let env = Env::new();
    let (mut rest, mut input) = pipe().unwrap();
    let (mut stdout, output) = pipe().unwrap();
    input.write_all(b"for the next program").unwrap();
    let stdin = rest.try_clone().unwrap();
    let args = ["pipe", "--recv-only"];
    let receiver = start_with(&env, &args, stdin.into(), output.into());
    let mut sender = End::start(&env, &[&receiver.invite_aside()]);
    // Its reader has the end at once.
    sender.expect_end();
    sender.write(b"hello");
    sender.close();
    let mut got = vec![];
    stdout.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"hello");
    assert_eq!((receiver.ended().code, sender.process.ended().code), (0, 0));
    drop(input);
    let mut untouched = String::new();
    rest.read_to_string(&mut untouched).unwrap();
    assert_eq!(untouched, "for the next program");
}

#[test]
fn two_sides_that_both_only_send_are_told_so() {
    let env = Env::new();
    for (flag, words) in [
        ("--send-only", "error: both sides want to send\n"),
        ("--recv-only", "error: both sides want to receive\n"),
    ] {
        let (first, second) = ends(&env, &[flag], &[flag]);
        for end in [first, second] {
            let ran = end.process.ended();
            assert_eq!(ran.code, 3, "{ran:?}");
            assert!(ran.stderr.contains(words), "{ran:?}");
        }
    }
}

const GONE: &str = "error: the reader at the other side went away before it had everything\n";

#[test]
fn a_closed_reader_ends_its_side_quietly_and_the_other_with_1() {
    let env = Env::new();
    let (mut first, mut second) = ends(&env, &[], &[]);
    let fed = feed(first.stdin.take().unwrap(), endless());
    second.expect(b"y\n");
    // As `head -1` does; the second's input stays open.
    second.stdout = None;
    let (sent, received) = (first.process.ended(), second.process.ended());
    assert_eq!(received.code, 0, "{received:?}");
    assert!(!received.stderr.contains("error"), "{received:?}");
    assert_eq!(sent.code, 1, "{sent:?}");
    assert!(sent.stderr.ends_with(GONE), "{sent:?}");
    assert!(fed.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_closed_reader_is_noticed_also_while_nothing_comes() {
    let env = Env::new();
    let (mut first, mut second) = ends(&env, &[], &[]);
    first.write(b"READY\n");
    second.expect(b"READY\n");
    second.stdout = None;
    let (sent, received) = (first.process.ended(), second.process.ended());
    assert_eq!((sent.code, received.code), (1, 0), "{sent:?} {received:?}");
    assert!(sent.stderr.ends_with(GONE), "{sent:?}");
}

#[test]
fn a_reader_that_closes_after_the_end_is_no_loss() {
    for _ in 0..5 {
        let env = Env::new();
        let (mut first, mut second) = ends(&env, &["--send-only", "--json"], &[]);
        first.write(b"all\n");
        first.close();
        second.expect(b"all\n");
        // Before the sender has read its end, more might come, and then it is a loss.
        first.process.says("\"verifying\"");
        second.stdout = None;
        let (sent, received) = (first.process.ended(), second.process.ended());
        assert_eq!((sent.code, received.code), (0, 0), "{sent:?} {received:?}");
    }
}

#[test]
fn a_reader_that_stops_holds_back_its_direction_only_and_memory_stays_small() {
    const WHOLE: usize = 120 << 20;
    /// The window, what is read ahead, the link's own buffers and the pipe.
    const MOST: usize = 12 << 20;
    let env = Env::new();
    let (mut first, mut second) = ends(&env, &[], &[]);
    let block = noise("block", 1 << 16);
    let blocks = vec![block.clone(); WHOLE >> 16];
    let fed = feed(first.stdin.take().unwrap(), blocks.into_iter());
    eventually("the window is full", || {
        (fed.load(Ordering::Relaxed) > 4 << 20).then_some(())
    });
    // Meanwhile the other direction works, also past its own window.
    for _ in 0..100 {
        second.write(&block);
        first.expect(&block);
    }
    let taken = fed.load(Ordering::Relaxed);
    assert!(taken < MOST, "{taken} bytes are held somewhere");
    let mut got = vec![0; 1 << 16];
    for n in 0..WHOLE >> 16 {
        second
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut got)
            .unwrap();
        assert!(got == block, "block {n} differs");
    }
    second.expect_end();
    for process in [&first.process, &second.process] {
        let peak = process.peak_memory();
        assert!(peak < 90 << 20, "{} MiB", peak >> 20);
    }
    second.close();
    assert_eq!(first.process.ended().code, 0);
    assert_eq!(second.process.ended().code, 0);
}

#[test]
fn very_many_short_messages_that_nobody_acknowledges_take_little_memory() {
    let env = Env::new();
    let (mut first, mut second) = ends(&env, &[], &[]);
    first.write(b"x");
    second.expect(b"x");
    second.process.signal(Signal::STOP);
    // One at a time, so that each is a message of its own.
    let slowly = std::iter::repeat_with(|| {
        (0..20).for_each(|_| std::thread::yield_now());
        b"x".to_vec()
    });
    let fed = feed(first.stdin.take().unwrap(), slowly);
    // More than the pipe in front of the program holds, less than the window even if all are short.
    eventually("thousands of messages", || {
        (fed.load(Ordering::Relaxed) > 80_000).then_some(())
    });
    let peak = first.process.peak_memory();
    assert!(peak < 90 << 20, "{} MiB", peak >> 20);
    second.process.signal(Signal::CONT);
}

#[test]
fn two_readers_that_stop_at_once_block_nothing_for_ever() {
    const WHOLE: usize = 16 << 20;
    let env = Env::new();
    let (mut first, mut second) = ends(&env, &[], &[]);
    let bytes = noise("both", WHOLE);
    let fed = [&mut first, &mut second].map(|end| {
        feed(
            end.stdin.take().unwrap(),
            std::iter::once(bytes.clone()).chain([vec![]]),
        )
    });
    drop(fed);
    // Each is read to its end while the other still waits.
    for end in [&mut second, &mut first] {
        let mut got = vec![];
        end.stdout.as_mut().unwrap().read_to_end(&mut got).unwrap();
        assert!(got == bytes);
    }
    assert_eq!(first.process.ended().code, 0);
    assert_eq!(second.process.ended().code, 0);
}

#[test]
fn a_killed_peer_is_no_success() {
    let env = Env::new();
    let (mut first, mut second) = ends(&env, &["--timeout", "2s"], &[]);
    second.write(b"before\n");
    first.expect(b"before\n");
    first.write(b"after\n");
    second.expect(b"after\n");
    second.process.signal(Signal::KILL);
    let ran = first.process.ended();
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(
        ran.stderr
            .contains("error: the transfer was not finished: nothing heard from the peer for 2 s"),
        "{ran:?}"
    );
}

#[test]
fn ctrl_c_ends_both_sides_and_a_second_one_at_once() {
    let env = Env::new();
    let (mut first, mut second) = ends(&env, &[], &[]);
    first.write(b"x");
    second.expect(b"x");
    second.process.signal(Signal::INT);
    let (stopped, told) = (second.process.ended(), first.process.ended());
    assert_eq!((stopped.code, told.code), (130, 3), "{stopped:?} {told:?}");
    assert!(
        stopped.stderr.ends_with("error: stopped by Ctrl-C\n"),
        "{stopped:?}"
    );
    assert!(
        told.stderr.ends_with("error: the other side cancelled\n"),
        "{told:?}"
    );

    let (mut first, mut second) = ends(&env, &[], &[]);
    first.write(b"x");
    second.expect(b"x");
    first.process.signal(Signal::STOP);
    second.process.signal(Signal::INT);
    second
        .process
        .says("stopping; Ctrl-C again quits at once\n");
    let again = Instant::now();
    second.process.signal(Signal::INT);
    assert_eq!(second.process.ended().code, 130);
    assert!(again.elapsed() < Duration::from_millis(1500), "not at once");
    first.process.signal(Signal::CONT);
}

#[test]
fn an_output_that_is_full_is_told_to_both() {
    let env = Env::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let receiver = start_with(&env, &["pipe"], Stdio::null(), full.into());
    let mut sender = End::start(&env, &[&receiver.invite_aside()]);
    sender.write(b"x");
    let (received, sent) = (receiver.ended(), sender.process.ended());
    assert_eq!((received.code, sent.code), (3, 3), "{received:?} {sent:?}");
    assert!(
        received.stderr.contains("no space left on the device"),
        "{received:?}"
    );
    assert!(
        sent.stderr
            .contains("the other side cancelled: it could not write (its disk is full)"),
        "{sent:?}"
    );
}

#[test]
fn under_json_stderr_has_events_and_stdout_the_stream() {
    let env = Env::new().file("a", "question").file("b", "answer");
    let (first, second) = files(&env, &["--json"], &["--json"]);
    assert_eq!((first.code, second.code), (0, 0), "{first:?} {second:?}");
    assert_eq!(written(&env, "from-a"), b"question");
    let events: Vec<Event> = first.stderr.lines().map(event).collect();
    let said = |wanted: &Event| events.contains(wanted);
    assert!(said(&Event::State {
        state: State::Connected
    }));
    assert!(events.iter().any(|event| matches!(
        event,
        Event::Token {
            kind: TokenKind::Invite,
            ..
        }
    )));
    let streams: Vec<(&str, u64)> = events
        .iter()
        .filter_map(|event| match event {
            Event::File { path, bytes, .. } => Some((path.as_str(), *bytes)),
            _ => None,
        })
        .collect();
    assert_eq!(streams.len(), 2);
    assert!(streams.contains(&("stdin", 8)) && streams.contains(&("stdout", 6)));
    let Some(Event::Done {
        bytes: 14,
        files: 2,
        ..
    }) = events.last()
    else {
        panic!("{events:?}")
    };

    // Failures too, and a wrong command line.
    let ran = Env::new().run(&["pipe", "--json", "KHnonsense"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert!(matches!(
        event(ran.stderr.lines().last().unwrap()),
        Event::Error { .. }
    ));
    let ran = Env::new().run(&["pipe", "--json", "--send-only", "--recv-only"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert!(matches!(event(ran.stderr.trim_end()), Event::Error { .. }));
}

#[test]
fn the_token_does_not_come_from_the_data() {
    let ran = Env::new().stdin("KH...").run(&["pipe", "-"]);
    ran.is(
        2,
        "",
        "error: standard input cannot be both the data and the token\n\
         hint: give the token as @FILE or in KNOTHOLE_TOKEN\n",
    );
    let ran = Env::new().stdin("KH...").run(&["pipe", "--join"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    assert!(
        ran.stderr.contains("there is no terminal to ask on"),
        "{ran:?}"
    );
}

#[test]
fn plain_messages_go_both_ways_until_the_channel_ends() {
    let a = noise("raw", 1_000_000);
    let env = Env::new().file("a", &a).file("b", "");
    let (first, second) = files(&env, &["--raw", "--send-only"], &["--raw"]);
    assert_eq!((first.code, second.code), (0, 0), "{first:?} {second:?}");
    assert!(written(&env, "from-a") == a);
    assert!(plain(&first.stderr).contains("\n  knothole pipe --raw INVITE\n"));
    assert!(second.stderr.ends_with(", not verified\n"), "{second:?}");

    let (mut first, mut second) = ends(&env, &["--raw"], &["--raw"]);
    for _ in 0..20 {
        first.write(b"ping");
        second.expect(b"ping");
        second.write(b"pong");
        first.expect(b"pong");
    }
    second.stdout = None;
    assert_eq!(second.process.ended().code, 0);
    first.expect_end();
    assert_eq!(first.process.ended().code, 0);
}

// ---- Real programs at its ends -----------------------------------------------------------------

/// Runs a shell script in which `$K` is the program on the loopback interface; both sides meet in a
/// folder.
fn shell(env: &Env, script: &str) -> Ran {
    std::fs::create_dir_all(env.path().join("via")).unwrap();
    let here = LOOPBACK
        .map(|word| if word.is_empty() { "''" } else { word })
        .join(" ");
    let prelude =
        format!("set -e -o pipefail\nK() {{ {KNOTHOLE} pipe {here} -q --via file:via \"$@\"; }}\n");
    let mut command = env.command("bash");
    command.args(["-c", &(prelude + script)]);
    Process::spawn(command, Stdio::null(), Stdio::piped()).ended()
}

#[test]
fn a_folder_crosses_as_a_tar_stream() {
    let env = Env::new();
    for (name, bytes) in [
        ("one", noise("one", 300_000)),
        ("two", vec![]),
        ("three", noise("3", 5)),
    ] {
        std::fs::create_dir_all(env.path().join("folder/deep")).unwrap();
        std::fs::write(env.path().join("folder/deep").join(name), bytes).unwrap();
    }
    let ran = shell(
        &env,
        "mkdir to
         tar c folder | K --send-only &
         K --join < /dev/null | tar x -C to
         wait $!
         diff -r folder to/folder && echo same",
    );
    ran.is(0, "same\n", "");
}

#[test]
fn a_program_answers_requests_line_by_line() {
    // As with `ssh host program`: a script at each end, and each waits for the other.
    let ran = shell(
        &Env::new(),
        "mkfifo ask answer
         { mkfifo in out
           while read -r line; do echo \"you said $line\"; done < in > out &
           K > in < out; wait; } &
         K --join < ask > answer &
         exec 3> ask 4< answer
         for word in one two three; do
             echo $word >&3
             read -r reply <&4
             echo \"$reply\"
         done
         exec 3>&- 4<&-
         wait",
    );
    assert_eq!(
        ran.stdout, "you said one\nyou said two\nyou said three\n",
        "{ran:?}"
    );
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[test]
fn head_stops_an_endless_producer() {
    let ran = shell(
        &Env::new(),
        "set +e +o pipefail
         yes | K & first=$!
         K --join < /dev/null | head -1
         echo ${PIPESTATUS[0]}
         wait $first; echo $?",
    );
    assert_eq!(ran.stdout, "y\n0\n1\n", "{ran:?}");
    assert_eq!(ran.stderr, GONE);
}

#[test]
fn two_terminals_chat_and_neither_obeys_the_other() {
    let env = Env::new();
    let mut other = End::start(&env, &[]);
    let invite = other.process.invite_aside();
    let args = [&["pipe"], &LOOPBACK[..], &[invite.as_str()]].concat();
    let mut window = Window::open_whole(&env, &args);
    window.wait_for("Ctrl-D ends it");
    other.write(b"\x1b]0;owned\x07\x1b[2Jhello\tyou\n");
    window.wait_for("hello\tyou\r\n");
    let seen = window.seen();
    assert!(
        seen.contains(r"\u{1b}]0;owned\u{7}\u{1b}[2Jhello"),
        "{seen}"
    );
    assert!(
        !seen.contains("\x1b[2J") && !seen.contains('\x07'),
        "{seen:?}"
    );
    window.type_in("hi there\r");
    other.expect(b"hi there\n");
    window.type_in("\x04");
    other.expect_end();
    other.close();
    let (code, _) = window.end();
    assert_eq!(code, 0);
    assert_eq!(other.process.ended_within(PATIENCE).code, 0);
}
