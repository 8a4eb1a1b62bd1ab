//! What may be sent, who says yes, and where it goes: every refusal with its words on both sides.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::env::{Env, Ran};
use crate::process::{LOOPBACK, fifo, names, pair, plain, start};
use crate::terminal::Window;

fn exchange(from: &Env, send: &[&str], to: &Env, receive: &[&str]) -> (Ran, Ran) {
    let (sender, receiver) = pair(from, send, to, receive);
    (sender.ended(), receiver.ended())
}

/// Refused by the receiver: its words, the sender's words, nothing on the receiver's stdout.
#[track_caller]
fn refused(ran: (Ran, Ran), there: &str, here: &str) {
    let (sent, received) = ran;
    assert_eq!(
        (received.code, received.stdout.as_str()),
        (1, ""),
        "{received:#?}"
    );
    assert!(received.stderr.contains(there), "{there}\n{received:#?}");
    assert_eq!(sent.code, 1, "{sent:#?}");
    assert!(sent.stderr.contains(here), "{here}\n{sent:#?}");
    assert_eq!(sent.stderr.matches("error: ").count(), 1, "{sent:#?}");
    assert_eq!(
        received.stderr.matches("error: ").count(),
        1,
        "{received:#?}"
    );
}

#[test]
fn without_a_terminal_and_without_yes_nothing_is_taken_and_both_say_so() {
    let (from, to) = (Env::new().file("f", "x"), Env::new());
    refused(
        exchange(&from, &["f"], &to, &[]),
        "\nerror: there is no terminal to ask on\nhint: accept with -y\n",
        "\nerror: the receiver declined: nobody there to ask (the receiver runs without a terminal and without -y)\n",
    );
    assert_eq!(names(to.path()), [""; 0]);
}

#[test]
fn a_person_may_say_no() {
    let (from, to) = (Env::new().file("f", "x"), Env::new());
    let sender = start(&from, &["send", "f"]);
    let invite = sender.invite();
    let args = [&["receive", invite.as_str()], LOOPBACK.as_slice()].concat();
    let mut window = Window::open(&to, &args);
    window.wait_for("Receive? [Y/n] ");
    window.type_in("what?\r");
    // The question that is asked again, which throws away what was typed before it.
    window.wait_for("please answer y or n\r\n\x1b[?2004h");
    window.type_in("n\r");
    window.wait_for("you declined");
    assert_eq!(window.end(), (1, String::new()));
    let sent = sender.ended();
    assert_eq!(sent.code, 1);
    assert!(
        sent.stderr
            .ends_with("\nerror: the receiver declined (the person at the receiver said no)\n"),
        "{sent:?}"
    );
    assert_eq!(names(to.path()), [""; 0]);
}

#[test]
fn a_person_says_yes_by_the_enter_key_alone() {
    let (from, to) = (Env::new().file("f", "yes"), Env::new());
    let sender = start(&from, &["send", "f"]);
    let invite = sender.invite();
    let args = [&["receive", invite.as_str()], LOOPBACK.as_slice()].concat();
    let mut window = Window::open(&to, &args);
    window.wait_for("Receive? [Y/n] ");
    window.type_in("\r");
    window.wait_for("done: 1 file");
    assert_eq!(window.end(), (0, String::new()));
    assert_eq!(sender.ended().code, 0);
    assert_eq!(std::fs::read(to.path().join("f")).unwrap(), b"yes");
}

#[test]
fn a_ctrl_c_at_the_question_declines_and_gives_the_terminal_back() {
    let (from, to) = (Env::new().file("f", "x"), Env::new());
    let sender = start(&from, &["send", "f"]);
    let invite = sender.invite();
    let args = [&["receive", invite.as_str()], LOOPBACK.as_slice()].concat();
    let mut window = Window::open(&to, &args);
    window.wait_for("Receive? [Y/n] ");
    window.type_in("\x03");
    window.wait_for("stopped by Ctrl-C");
    assert_eq!(window.end(), (130, String::new()));
    let sent = sender.ended();
    assert!(matches!(sent.code, 1 | 3), "{sent:?}");
    assert!(
        sent.stderr.contains("\nerror: the other side cancelled")
            || sent.stderr.contains("\nerror: the receiver declined"),
        "{sent:?}"
    );
    assert_eq!(names(to.path()), [""; 0]);
}

#[test]
fn a_file_that_exists_is_refused_replaced_or_joined_under_another_name() {
    let mine = || Env::new().file("f.txt", "mine");
    let from = Env::new().file("f.txt", "theirs");
    let read = |env: &Env, name: &str| std::fs::read_to_string(env.path().join(name)).unwrap();

    let to = mine();
    refused(
        exchange(&from, &["f.txt"], &to, &["-y"]),
        "\nerror: a file is already at \"f.txt\"\nhint: ",
        "\nerror: the receiver declined: the file exists already (a file of that name exists there)\n",
    );
    assert_eq!(
        (names(to.path()), read(&to, "f.txt")),
        (vec!["f.txt".into()], "mine".into())
    );

    let to = mine();
    let (sent, received) = exchange(&from, &["f.txt"], &to, &["-y", "--overwrite"]);
    assert_eq!(
        (sent.code, received.code, received.stdout.as_str()),
        (0, 0, "")
    );
    assert!(
        received
            .stderr
            .contains("\n  f.txt (6 B, replaces the one there)\n"),
        "{received:?}"
    );
    assert_eq!(
        (names(to.path()), read(&to, "f.txt")),
        (vec!["f.txt".into()], "theirs".into())
    );

    let to = mine();
    let (sent, received) = exchange(&from, &["f.txt"], &to, &["-y", "--rename"]);
    assert_eq!(
        (sent.code, received.code, received.stdout.as_str()),
        (0, 0, "")
    );
    assert!(
        received
            .stderr
            .contains("\n  f (1).txt (6 B, under a new name)\n"),
        "{received:?}"
    );
    assert_eq!(
        (read(&to, "f.txt"), read(&to, "f (1).txt")),
        ("mine".into(), "theirs".into())
    );

    // One of several is enough to refuse all.
    let to = mine();
    let two = Env::new().file("f.txt", "theirs").file("g.txt", "theirs");
    let (sent, received) = exchange(&two, &["g.txt", "f.txt"], &to, &["-y"]);
    assert_eq!((sent.code, received.code), (1, 1));
    assert_eq!(
        (names(to.path()), read(&to, "f.txt")),
        (vec!["f.txt".into()], "mine".into())
    );
}

#[test]
fn output_goes_into_a_folder_or_under_a_name_and_makes_no_folder() {
    let from = Env::new().file("f", "text").file("g", "more");
    let to = Env::new();
    std::fs::create_dir(to.path().join("dir")).unwrap();
    let (sent, received) = exchange(&from, &["f", "g"], &to, &["-y", "-o", "dir"]);
    assert_eq!(
        (sent.code, received.code, received.stdout.as_str()),
        (0, 0, ""),
        "{received:?}"
    );
    assert!(
        received
            .stderr
            .contains("\n  dir/f (4 B)\n  dir/g (4 B)\n2 files, 8 B\n"),
        "{received:?}"
    );
    assert_eq!(names(&to.path().join("dir")), ["f", "g"]);

    let (sent, received) = exchange(&from, &["f"], &to, &["-y", "-o", "dir/name"]);
    assert_eq!((sent.code, received.code), (0, 0), "{received:?}");
    assert_eq!(std::fs::read(to.path().join("dir/name")).unwrap(), b"text");

    // Several files do not fit under one name; the sender learns that something did not fit.
    let (sent, received) = exchange(&from, &["f", "g"], &to, &["-y", "-o", "single"]);
    assert_eq!((sent.code, received.code), (1, 1), "{received:?}");
    assert!(
        received
            .stderr
            .contains("\nerror: 2 files are offered, and \"single\" is no folder\n"),
        "{received:?}"
    );
    assert!(
        sent.stderr.contains(
            "\nerror: the receiver declined (the destination does not fit what is offered)\n"
        ),
        "{sent:?}"
    );

    // A folder that is missing is found before anybody connects.
    for missing in ["gone/", "gone/file"] {
        let args = [&["receive", "-y", "-o", missing, "KH"], LOOPBACK.as_slice()].concat();
        let ran = to.run(&args);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
        assert!(
            ran.stderr.starts_with("error: ")
                && ran.stderr.contains("gone")
                && ran.stderr.contains("\nhint: "),
            "{ran:?}"
        );
    }
    assert_eq!(names(to.path()), ["dir"]);
}

#[test]
fn what_cannot_be_sent_is_refused_before_an_invite_is_made() {
    let env = Env::new().file("f", "x").file("private", "x");
    std::fs::create_dir_all(env.path().join("d")).unwrap();
    std::fs::write(env.path().join("d/f"), "y").unwrap();
    let socket = std::os::unix::net::UnixListener::bind(env.path().join("socket")).unwrap();
    for (args, words) in [
        (
            &["d"][..],
            "error: \"d\" is a directory: sending directories comes in a later version\nhint: send the files in it, or `tar c d | knothole send -`\n",
        ),
        (
            &["gone"],
            "error: cannot open \"gone\": no such file or folder\nhint: check the spelling\n",
        ),
        (
            &["f", "gone"],
            "error: cannot open \"gone\": no such file or folder\nhint: check the spelling\n",
        ),
        (
            &["f", "d/f"],
            "error: two files would both be called \"f\": \"f\" and \"d/f\"\nhint: send them in two commands, or rename one\n",
        ),
        (
            &["f", "f"],
            "error: two files would both be called \"f\": \"f\" and \"f\"\nhint: send them in two commands, or rename one\n",
        ),
        (
            &["socket"],
            "error: \"socket\" is a socket\nhint: pipe a program that reads it into `knothole send -`\n",
        ),
        (
            &["f/x"],
            "error: cannot open \"f/x\": a part of the path is not a folder\n",
        ),
    ] {
        let args = [&["send"], args, &LOOPBACK].concat();
        env.run(&args).is(2, "", words);
    }
    drop(socket);
}

#[test]
fn a_file_that_may_not_be_read_is_refused() {
    let env = Env::new().file("private", "x");
    let path = env.path().join("private");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read(&path).is_ok() {
        // Root reads everything: somebody else has to try.
        for folder in [
            env.path(),
            Path::new(crate::env::KNOTHOLE).parent().unwrap(),
        ] {
            let nobody = as_nobody(&env).arg("test").arg("-x").arg(folder).status();
            if !nobody.is_ok_and(|status| status.success()) {
                let open =
                    std::fs::set_permissions(env.path(), std::fs::Permissions::from_mode(0o755));
                open.unwrap();
            }
        }
    }
    let mut command = if std::fs::read(&path).is_ok() {
        as_nobody(&env)
    } else {
        env.command("env")
    };
    command
        .arg(crate::env::KNOTHOLE)
        .args(["send", "private"])
        .args(LOOPBACK);
    let ran = Ran::of(command.stdin(std::process::Stdio::null()).output().unwrap());
    if ran.stderr.contains("failed to execute") {
        eprintln!(
            "NOT RUN: nobody cannot reach {}: {}",
            crate::env::KNOTHOLE,
            ran.stderr
        );
        return;
    }
    ran.is(3, "", "error: cannot open \"private\": permission denied\nhint: check its permissions with `ls -l`\n");
}

fn as_nobody(env: &Env) -> Command {
    let mut command = env.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    command
}

#[test]
fn a_disk_that_is_full_or_read_only_fails_both_sides_and_leaves_nothing() {
    let Some(disk) = Tmpfs::mount() else { return };
    let from = Env::new().file("f", vec![1; 2 << 20]).file("g", "small");
    let to = Env::new();
    let output = disk.0.path().to_str().unwrap();

    // The size is known: refused at once, and the sender is told the class of the reason.
    let (sent, received) = exchange(&from, &["f"], &to, &["-y", "-o", output]);
    assert_eq!(
        (sent.code, received.code, received.stdout.as_str()),
        (1, 3, ""),
        "{received:?}"
    );
    assert!(
        received.stderr.contains("\nerror: not enough space in "),
        "{received:?}"
    );
    assert!(
        received.stderr.contains(": 2.0 MiB needed, 1.0 MiB free\n"),
        "{received:?}"
    );
    assert!(
        sent.stderr.contains(
            "\nerror: the receiver declined: not enough room (there is not enough space)\n"
        ),
        "{sent:?}"
    );
    assert_eq!(names(disk.0.path()), [""; 0]);

    // The size is not known: found when it is full.
    fifo(&from, "stream");
    let (sender, receiver) = pair(&from, &["stream"], &to, &["-y", "-o", output]);
    let source = from.path().join("stream");
    let feeding = std::thread::spawn(move || std::fs::write(source, vec![1; 8 << 20]));
    let (sent, received) = (sender.ended(), receiver.ended());
    // The sender goes away in the middle, and the pipe breaks.
    feeding.join().unwrap().unwrap_err();
    assert_eq!(
        (sent.code, received.code, received.stdout.as_str()),
        (3, 3, ""),
        "{received:?}"
    );
    assert!(received.stderr.contains("no space left on the device\nhint: free some space, or choose another folder with `-o`\n"), "{received:?}");
    assert!(
        sent.stderr
            .contains("\nerror: the other side cancelled: it could not write, at stream"),
        "{sent:?}"
    );
    assert_eq!(names(disk.0.path()), [""; 0]);

    let told = sent.stderr;

    disk.read_only();
    let (sent, received) = exchange(&from, &["g"], &to, &["-y", "-o", output]);
    assert_eq!(
        (received.code, received.stdout.as_str()),
        (3, ""),
        "{received:?}"
    );
    assert!(matches!(sent.code, 1 | 3), "{sent:?}");
    assert!(
        received.stderr.contains("the file system is read-only"),
        "{received:?}"
    );
    assert!(plain(&received.stderr).contains("\nhint: "), "{received:?}");

    // The class and the cause are for the sender, the receiver's folders are not.
    for told in [told, sent.stderr] {
        assert!(
            !told.contains(output),
            "a path of the receiver reached the sender: {told}"
        );
    }
}

/// A file system of one mebibyte; unmounted when dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(dir.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            other => {
                eprintln!("NOT RUN: a tmpfs cannot be mounted (only root can): {other:?}");
                None
            }
        }
    }

    fn read_only(&self) {
        let status = Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(self.0.path())
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}
