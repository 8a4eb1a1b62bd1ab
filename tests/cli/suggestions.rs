//! What was probably meant: each wrong command line with the words that help.

use crate::env::{Env, Ran};
use crate::token::invite;

#[track_caller]
fn hinted(ran: &Ran, first: &str, hint: &str) {
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:#?}");
    assert_eq!(ran.stderr.lines().next(), Some(first), "{ran:#?}");
    assert!(ran.stderr.contains(hint), "{hint}: {ran:#?}");
    // What is shown ends up in logs.
    assert!(!ran.stderr.contains(&invite()[2..20]), "{ran:#?}");
}

#[test]
fn a_misspelt_command_is_named_as_it_is_spelt() {
    for (typed, meant) in [
        ("sned", "send"),
        ("recieve", "receive"),
        ("recv2", "receive"),
        ("tokens", "token"),
        ("self-test", "selftest"),
    ] {
        let first = format!("error: unrecognized subcommand '{typed}'");
        let tip = format!("  tip: a similar subcommand exists: '{meant}'\n");
        hinted(&Env::new().run(&[typed]), &first, &tip);
        // Under --json the tip is the hint.
        let ran = Env::new().var("KNOTHOLE_JSON", "1").run(&[typed]);
        let hint = format!("\"hint\":\"did you mean '{meant}'?\"");
        assert!(ran.stdout.contains(&hint), "{ran:#?}");
    }
    let ran = Env::new().run(&["send", "x", "--tunr", "y"]);
    hinted(
        &ran,
        "error: unexpected argument '--tunr' found",
        "'--turn'",
    );
}

#[test]
fn a_token_where_a_command_belongs_says_which_command() {
    let first = "error: unrecognized subcommand 'KH...'";
    let tip = "  tip: this is an invite; to take it: knothole receive KH...\n";
    hinted(&Env::new().run(&[invite()]), first, tip);
    hinted(&Env::new().run(&[invite().to_lowercase()]), first, tip);
    // Also one with a mistake in it.
    hinted(&Env::new().run(&[&invite()[..90]]), first, tip);
    let ran = Env::new().run(&["8888-8888-8888"]);
    assert!(!ran.stderr.contains("tip"), "{ran:#?}");
}

#[test]
fn a_path_where_a_command_belongs_says_how_to_send_it() {
    let env = Env::new().file("photo.jpg", "x").file("my photo.jpg", "x");
    std::fs::create_dir(env.path().join("folder")).unwrap();
    for (word, tip) in [
        (
            "photo.jpg",
            "this is a file; to send it: knothole send photo.jpg\n",
        ),
        (
            "my photo.jpg",
            "this is a file; to send it: knothole send 'my photo.jpg'\n",
        ),
        (
            "folder",
            "this is a folder; to send it: tar c folder | knothole send -\n",
        ),
        (
            "@photo.jpg",
            "to take the invite in that file: knothole receive @photo.jpg\n",
        ),
    ] {
        let first = format!("error: unrecognized subcommand '{word}'");
        hinted(&env.run(&[word]), &first, &format!("  tip: {tip}"));
    }
    let ran = env.run(&["gone.jpg"]);
    assert!(!ran.stderr.contains("tip"), "{ran:#?}");
}

#[test]
fn a_token_where_a_path_belongs_is_no_file() {
    let first = "error: this is an invite, not a file";
    let hint = "\nhint: to take it: knothole receive KH...; ";
    hinted(&Env::new().run(&["send", &invite()]), first, hint);
    hinted(&Env::new().run(&["send", "x", &invite()]), first, hint);
    let dotted = Env::new().run(&[
        "send",
        "KHAKI-PANTS-2024-01-01-IN-THE-MOUNTAINS-OF-MADNESS-22-01.jpg",
    ]);
    assert!(dotted.stderr.contains("no such file"), "{dotted:#?}");
    // A file of that name that exists is sent: here it gets as far as the network.
    let env = Env::new().file(&invite(), "x");
    let args = ["send", &invite(), "-6", "--bind", "127.0.0.1"];
    let ran = env.run(&args);
    assert!(ran.stderr.contains("-6 does not go with"), "{ran:#?}");
    let args = [
        "send",
        &invite(),
        "--stun",
        "",
        "--bind",
        "127.0.0.1",
        "--expires",
        "1s",
        "--json",
    ];
    let ran = env.run(&args);
    assert_eq!(ran.code, 3, "{ran:#?}");
    assert!(ran.stdout.contains("\"kind\":\"invite\""), "{ran:#?}");
}

#[test]
fn a_path_where_a_token_belongs_is_told_from_a_token() {
    let env = Env::new().file("photo.jpg", "x");
    let first = "error: this is a file, not a token";
    let hint = "\nhint: to read the token in it: @photo.jpg; to send it: knothole send photo.jpg\n";
    hinted(&env.run(&["token", "photo.jpg"]), first, hint);
    hinted(&env.run(&["receive", "photo.jpg"]), first, hint);
    hinted(
        &env.run(&["send", "photo.jpg", "--to", "photo.jpg"]),
        first,
        hint,
    );
    let ran = env.run(&["receive", "https://example.org/photo.jpg"]);
    hinted(
        &ran,
        "error: this is neither an invite nor a reply code",
        "\nhint: an invite begins with KH",
    );
}

#[test]
fn help_is_also_a_word() {
    let env = Env::new();
    assert_eq!(env.run(&["help"]), env.run(&["--help"]));
    assert_eq!(env.run(&["help", "send"]), env.run(&["send", "--help"]));
    assert_eq!(env.run(&["help", "rx"]), env.run(&["receive", "--help"]));
    let ran = env.run(&["help", "recieve"]);
    hinted(
        &ran,
        "error: unrecognized subcommand 'recieve'",
        "'receive'",
    );
}
