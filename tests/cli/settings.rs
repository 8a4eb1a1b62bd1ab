//! The config file: what it sets, what beats it, and how its mistakes are told.

use std::os::unix::fs::PermissionsExt;

use crate::env::{Env, KNOTHOLE, Ran};

/// An environment with a config file at the usual place.
fn with(config: &str) -> Env {
    let env = Env::new();
    let folder = env.path().join(".config/knothole");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), config).unwrap();
    env
}

fn place(env: &Env) -> String {
    let file = env.path().join(".config/knothole/config.toml");
    file.to_str().unwrap().to_owned()
}

/// `token` without a token stops after the settings were read.
const STOPS: &str = "error: no token given, and there is no terminal to ask on\n";

/// Which options the run took from the file, as it says at -v.
fn taken(env: &Env, args: &[&str]) -> String {
    let ran = env.run(&[args, &["-v"]].concat());
    assert_eq!(ran.code, 2, "{ran:#?}");
    let start = format!("from {}: ", place(env));
    let lines = ran.stderr.lines();
    let taken: Vec<&str> = lines.filter_map(|line| line.strip_prefix(&start)).collect();
    assert!(taken.len() <= 1, "{ran:#?}");
    taken.concat()
}

#[test]
fn a_setting_counts_as_if_it_had_been_typed() {
    let ran = with("json = true\n").run(&["token"]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.stdout
            .starts_with("{\"schema\":1,\"event\":\"error\",\"kind\":\"token\""),
        "{ran:#?}"
    );
    let ran = with("color = \"always\"").run(&["token"]);
    assert!(ran.stderr.starts_with("\x1b["), "{ran:#?}");
    assert_eq!(
        with("json = false\nverbose = 0\n").run(&["token"]).stdout,
        ""
    );
}

#[test]
fn every_kind_of_value_is_taken() {
    let env = with(
        "qr = 'never'\nverbose = 2\nstun = [\"a.example\", \"b.example\"]\nexpires = \"2h\"\n\
         [receive]\nyes = true\noutput = \"-\"\njson = false\n[token]\ncolor = \"never\"\n",
    );
    assert_eq!(
        taken(&env, &["receive", "T", "--stun", "c.example"]),
        "--yes (line 6), --output (line 7), --qr (line 1), --expires (line 4)"
    );
    assert_eq!(taken(&env, &["token"]), "--color (line 10)");
    // KNOTHOLE_STUN says that there are none; nobody says so here.
    let mut command = with("stun = []\n");
    command.unset("KNOTHOLE_STUN");
    assert_eq!(taken(&command, &["receive", "T"]), "--stun (line 1)");
    // It names servers to ask, and serving STUN is something else.
    let serve = with("stun = [\"a.example\"]\n");
    assert_eq!(taken(&serve, &["serve"]), "");
    let ran = with("[serve]\nstun = true\n").run(&["serve"]);
    assert!(
        ran.stderr.contains("serve has no option 'stun'"),
        "{ran:#?}"
    );
}

#[test]
fn what_is_typed_beats_a_variable_which_beats_a_table_which_beats_the_top() {
    let file = "color = \"always\"\n[token]\ncolor = \"never\"\n";
    let coloured = |env: Env, args: &[&str]| env.run(args).stderr.starts_with("\x1b[");
    assert!(coloured(with("color = \"always\""), &["token"]));
    assert!(!coloured(with(file), &["token"]));
    let env = || with(file).var("KNOTHOLE_COLOR", "always");
    assert!(coloured(env(), &["token"]));
    assert!(!coloured(env(), &["token", "--color", "never"]));
    // A variable that says no is an answer, an empty one is not.
    let quiet = || with("json = true");
    assert_eq!(quiet().var("KNOTHOLE_JSON", "0").run(&["token"]).stdout, "");
    assert_ne!(quiet().var("KNOTHOLE_JSON", "").run(&["token"]).stdout, "");
    // No is an answer in a table, too.
    let ran = with("json = true\n[token]\njson = false\n").run(&["token"]);
    assert_eq!(ran.stdout, "");
}

#[test]
fn a_setting_never_contradicts_what_beats_it() {
    let env = with("overwrite = true\n");
    let receive = ["receive", "T"];
    assert_eq!(taken(&env, &receive), "--overwrite (line 1)");
    assert_eq!(taken(&env, &["receive", "T", "--rename"]), "");
    assert_eq!(
        taken(
            &with("overwrite = true\n").var("KNOTHOLE_RENAME", "1"),
            &receive
        ),
        ""
    );
    let env = with("overwrite = true\n[receive]\nrename = true\n");
    assert_eq!(taken(&env, &receive), "--rename (line 3)");
    let env = with("invite = true\n");
    assert_eq!(taken(&env, &receive), "");
}

#[test]
fn settings_that_do_not_go_together_are_told_with_their_lines() {
    let env = with("[receive]\noverwrite = true\nrename = true\n");
    let ran = env.run(&["receive", "T"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    let end = format!(
        "hint: from {}: --overwrite (line 2), --rename (line 3)\n",
        place(&env)
    );
    assert!(
        ran.stderr.contains("cannot be used with") && ran.stderr.ends_with(&end),
        "{ran:#?}"
    );
    // The file is not blamed for what is wrong without it.
    let ran = with("qr = \"never\"").run(&["send"]);
    assert!(!ran.stderr.contains("config.toml"), "{ran:#?}");
    // One half may come from the file, the other from elsewhere.
    let env = with("turn-user = \"me\"\nturn-pass = \"secret\"\n");
    let ran = env.run(&["send", "gone", "--turn", "turn:t.example"]);
    assert!(ran.stderr.contains("gone"), "{ran:#?}");
}

#[test]
fn a_mistake_is_told_with_its_line_and_what_was_meant() {
    for (file, line, words, hint) in [
        (
            "trun = \"x\"",
            1,
            "knothole has no option 'trun'",
            "did you mean turn?",
        ),
        (
            "\n\nturn_user = \"x\"",
            3,
            "knothole has no option 'turn_user'",
            "did you mean turn-user?",
        ),
        (
            "[send]\noverwrite = true",
            2,
            "send has no option 'overwrite'",
            "",
        ),
        (
            "[recieve]",
            1,
            "there are no settings for a command 'recieve'",
            "did you mean [receive]?",
        ),
        (
            "[rx]",
            1,
            "there are no settings for a command 'rx'",
            "did you mean [receive]?",
        ),
        ("[man]", 1, "there are no settings for a command 'man'", ""),
        (
            "qr = \"nevr\"",
            1,
            "the value \"nevr\" of qr cannot be used: one of auto, always, never",
            "did you mean \"never\"?",
        ),
        ("qr = true", 1, "qr takes a text in quotes", ""),
        ("yes = \"on\"", 1, "yes takes true or false", ""),
        (
            "verbose = 300",
            1,
            "verbose takes a number from 0 to 255",
            "",
        ),
        ("stun = [1.5]", 1, "stun takes an array of texts", ""),
        (
            "stun = [\n'a',\n'b:x:y']",
            1,
            "the value \"b:x:y\" of stun cannot be used: ",
            "",
        ),
        (
            "timeout = 60",
            1,
            "the value \"60\" of timeout cannot be used: the unit is missing",
            "",
        ),
        (
            "output = ''",
            1,
            "the value of output cannot be used: it is empty",
            "",
        ),
        ("turn = 'turns:t'", 1, "not yet supported", ""),
        (
            "to = 'KH'",
            1,
            "to: a token is good once, so it does not belong in a file",
            "@FILE",
        ),
        ("token = 'KH'", 1, "token: a token is good once", "@FILE"),
        ("config = 'x'", 1, "knothole has no option 'config'", ""),
        ("help = true", 1, "knothole has no option 'help'", ""),
        ("\nqr = never", 2, "not TOML: ", ""),
        (
            "qr = 'never'\nqr = 'auto'",
            2,
            "not TOML: duplicate key",
            "",
        ),
    ] {
        let env = with(file);
        let ran = env.run(&["token"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{file}: {ran:#?}");
        let start = format!("error: {}:{line}: {words}", place(&env));
        let start = if words.starts_with("not yet") {
            format!("error: {}:{line}: ", place(&env))
        } else {
            start
        };
        assert!(
            ran.stderr.starts_with(&start) && ran.stderr.contains(words),
            "{file}: {ran:#?}"
        );
        let told = ran.stderr.lines().nth(1).unwrap_or_default();
        assert!(
            told.starts_with("hint: ") && told.contains(hint),
            "{file}: {ran:#?}"
        );
    }
}

#[test]
fn a_secret_is_not_shown_and_a_file_that_others_can_read_is_warned_of() {
    let env = with("turn-pass = [\"hunter2\"]");
    assert!(!env.run(&["token"]).stderr.contains("hunter2"));
    let env = with("turn-pass = \"hunter2\"");
    let mode = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(place(&env), permissions).unwrap();
        env.run(&["token"])
    };
    for open in [0o644, 0o640] {
        let warning = format!(
            "warning: others can read turn-pass in {0}; chmod 600 {0}\n",
            place(&env)
        );
        assert!(
            mode(open).stderr.starts_with(&(warning + STOPS)),
            "{:#?}",
            mode(open)
        );
    }
    assert!(mode(0o600).stderr.starts_with(STOPS), "{:#?}", mode(0o600));
}

#[test]
fn another_file_can_be_named_or_none() {
    let env = || with("json = true").file("other.toml", "color = \"always\"");
    let json = |ran: &Ran| !ran.stdout.is_empty();
    let coloured = |ran: &Ran| ran.stderr.starts_with("\x1b[");
    let ran = env().run(&["token", "--config", "other.toml"]);
    assert!(!json(&ran) && coloured(&ran), "{ran:#?}");
    let ran = env().var("KNOTHOLE_CONFIG", "other.toml").run(&["token"]);
    assert!(!json(&ran) && coloured(&ran), "{ran:#?}");
    let named = env().var("KNOTHOLE_CONFIG", "other.toml");
    for ran in [
        env().run(&["token", "--config", ""]),
        env().run(&["token", "--config="]),
        env().var("KNOTHOLE_CONFIG", "").run(&["token"]),
        named.run(&["token", "--config", ""]),
    ] {
        assert!(!json(&ran) && !coloured(&ran), "{ran:#?}");
        assert!(ran.stderr.starts_with(STOPS), "{ran:#?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told() {
    let refused = |env: &Env, config: &str, cause: &str| {
        let ran = env.run(&["token", "--config", config]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:#?}");
        let start = format!("error: cannot read the config file {config}\n  cause: ");
        assert!(
            ran.stderr.starts_with(&start)
                && ran.stderr.contains(cause)
                && ran
                    .stderr
                    .ends_with("\nhint: --config '' runs without one\n"),
            "{ran:#?}"
        );
    };
    let env = Env::new()
        .file("long", vec![b'#'; 64 * 1024 + 1])
        .file("bytes", b"qr = '\xff'")
        .file("fits", vec![b'#'; 64 * 1024]);
    refused(&env, "gone", "No such file");
    refused(&env, ".", "Is a directory");
    refused(&env, "long", "longer than 64 KiB");
    refused(&env, "bytes", "not UTF-8");
    let ran = env.run(&["token", "--config", "fits"]);
    assert!(ran.stderr.starts_with(STOPS), "{ran:#?}");
}

#[test]
fn help_never_fails_on_the_file_or_the_home() {
    let broken = with("nonsense");
    assert_eq!(broken.run(&["token"]).code, 2, "it is broken");
    for args in [
        &["--help"][..],
        &["-h"],
        &["--version"],
        &["help"],
        &["help", "send"],
        &["send", "--help"],
        &["receive", "-h"],
        &["completions", "fish"],
        &["man"],
    ] {
        assert_eq!(broken.run(args), Env::new().run(args), "{args:?}");
        assert_eq!(broken.run(args).code, 0, "{args:?}");
        for home in ["", "/nowhere", "relative", "/dev/null"] {
            let env = Env::new()
                .var("HOME", home)
                .var("XDG_CONFIG_HOME", "")
                .var("KNOTHOLE_CONFIG", "/nowhere");
            assert_eq!(env.run(args).code, 0, "{args:?} {home}");
        }
        let mut bare = std::process::Command::new(KNOTHOLE);
        let ran = bare
            .env_clear()
            .current_dir("/")
            .args(args)
            .output()
            .unwrap();
        assert_eq!(ran.status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn without_a_usable_home_there_is_no_file_and_no_complaint() {
    for (home, xdg) in [
        ("", ""),
        ("/nowhere", "relative"),
        ("/dev/null", ""),
        ("relative", ""),
    ] {
        let env = Env::new().var("HOME", home).var("XDG_CONFIG_HOME", xdg);
        let ran = env.run(&["token"]);
        assert!(ran.stderr.starts_with(STOPS), "{home} {xdg}: {ran:#?}");
    }
    // A relative XDG folder does not count, and the home is used.
    let env = with("json = true").var("XDG_CONFIG_HOME", "relative");
    assert_ne!(env.run(&["token"]).stdout, "");
}
