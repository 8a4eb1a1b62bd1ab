//! `knothole serve` as other people's STUN clients see it, of RFC 3489's time and of today.
//!
//! Each test has a network namespace of its own, so that the ports which such clients expect are
//! free and nothing translates: what they say about it has to be the truth about loopback.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::tools;

const TOOLS: [(&str, &str); 3] = [
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("ip", "iproute2"),
];
/// Makes the loopback interface usable, and becomes the program.
const LOOPBACK: &str = "ip link set lo up && exec \"$@\"";

/// A server in a network of its own. Both are gone when dropped.
struct Served(Child);

impl Served {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command.env("PATH", tools::search_path());
        command.args(["--net", "sh", "-c", LOOPBACK, "sh"]);
        command.args([env!("CARGO_BIN_EXE_knothole"), "serve", "--stun", "-q"]);
        command
            .args(["--config", "", "--listen", "127.0.0.1"])
            .args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut served = Self(command.spawn().unwrap());
        let mut line = String::new();
        let stdout = served.0.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "stun:127.0.0.1:3478\n");
        served
    }

    /// With both addresses and ports of RFC 5780.
    fn with_two() -> Self {
        Self::start(&["--alternate", "127.0.0.2"])
    }

    fn with_one() -> Self {
        Self::start(&["--no-alternate"])
    }

    /// What a program beside it prints; it has a minute.
    fn tells(&self, program: &Path, args: &[&str]) -> String {
        let mut command = Command::new("nsenter");
        command.env("PATH", tools::search_path());
        command.arg(format!("--net=/proc/{}/ns/net", self.0.id()));
        command.args(["timeout", "60"]).arg(program).args(args);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_ne!(output.status.code(), Some(124), "not in time: {output:?}");
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).into_owned()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a test that needs these programs and networks of its own, or says why it cannot be run.
fn with<F: FnOnce()>(programs: &[(&str, &str)], test: F) {
    with_also(programs, Ok(()), test);
}

fn with_also<F: FnOnce()>(programs: &[(&str, &str)], also: Result<(), String>, test: F) {
    let root = rustix::process::geteuid().is_root();
    let root = root.then_some(()).ok_or("root".to_owned());
    let missing = tools::missing(&[&TOOLS, programs].concat());
    tools::run(tools::name_of::<F>(), missing.and(root).and(also), test);
}

#[track_caller]
fn says(said: &str, words: &[&str]) {
    for words in words {
        assert!(said.contains(words), "no {words:?}:\n{said}");
    }
}

#[test]
fn a_client_of_rfc_3489_finds_the_open_internet() {
    with(&[("stun", "stun-client")], || {
        let client = Path::new("stun");
        let said = Served::with_two().tells(client, &["-v", "127.0.0.1"]);
        says(
            &said,
            &[
                "ChangedAddress = 127.0.0.2:3479\n",
                "SourceAddress = 127.0.0.2:3478\n",
                "SourceAddress = 127.0.0.1:3479\n",
                "test I = 1\ntest II = 1\ntest III = 1\ntest I(2) = 1\nis nat  = 0\n",
                "preserver port = 1\n",
                "Primary: Open",
            ],
        );
        let said = Served::with_one().tells(client, &["-v", "127.0.0.1"]);
        let refused = "ErrorCode = 4 20 Unknown Attribute\n";
        says(
            &said,
            &["MappedAddress = 127.0.0.1:", refused, "test I(2) = 0\n"],
        );
    });
}

#[test]
fn coturns_client_sees_both_addresses_and_both_ports() {
    with(&[("turnutils_stunclient", "coturn")], || {
        let client = Path::new("turnutils_stunclient");
        let said = Served::with_two().tells(client, &["127.0.0.1"]);
        says(
            &said,
            &[
                "RFC 5780 response 1\n0: : IPv4. Response origin: : 127.0.0.1:3478\n",
                "Other addr: : 127.0.0.2:3479\n",
                "RFC 5780 response 2\n0: : IPv4. Response origin: : 127.0.0.2:3479\n",
                "RFC 5780 response 3\n0: : IPv4. Response origin: : 127.0.0.2:3479\n",
                "UDP reflexive addr: 127.0.0.1:",
            ],
        );
        let said = Served::with_one().tells(client, &["127.0.0.1"]);
        says(&said, &["UDP reflexive addr: 127.0.0.1:"]);
        assert!(!said.contains("RFC 5780"), "{said}");
    });
}

#[test]
fn coturns_discovery_finds_no_nat_and_no_filter() {
    with(&[("turnutils_natdiscovery", "coturn")], || {
        let client = Path::new("turnutils_natdiscovery");
        let local = ["-L", "127.0.0.1", "127.0.0.1"];
        let served = Served::with_two();
        for padded in [&[][..], &["-P"]] {
            let said = served.tells(client, &[&["-m", "-f"], padded, &local].concat());
            says(
                &said,
                &[
                    "No ALG: Mapped == XOR-Mapped\n",
                    // It takes an answer from anywhere for the one that it asked for.
                    "Response origin: : 127.0.0.2:3479\n",
                    "\nNo NAT! (Endpoint Independent Mapping)\n",
                    "\nNAT with Endpoint Independent Filtering!\n",
                ],
            );
        }
        // RESPONSE-PORT: the second answer goes to the port of the first socket.
        let said = served.tells(client, &[&["-t", "-T", "1"], &local[..]].concat());
        says(&said, &["RFC 5780 response 2\n"]);
        let said = Served::with_one().tells(client, &[&["-m", "-f"], &local[..]].concat());
        assert!(!said.contains("Filtering!"), "{said}");
    });
}

#[test]
fn pystun3_finds_the_open_internet() {
    // Where `.ci/run` puts it.
    let python: PathBuf =
        Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("interop/bin/python");
    let there = Command::new(&python).args(["-c", "import stun"]).output();
    let there = there.is_ok_and(|output| output.status.success());
    let there = there.then_some(()).ok_or("pystun3 (.ci/run)".to_owned());
    with_also(&[], there, || {
        let asked = ["-m", "stun.cli", "-H", "127.0.0.1", "-i", "127.0.0.1"];
        let said = Served::with_two().tells(&python, &asked);
        assert_eq!(
            said,
            "NAT Type: Open Internet\nExternal IP: 127.0.0.1\nExternal Port: 54320\n"
        );
    });
}
