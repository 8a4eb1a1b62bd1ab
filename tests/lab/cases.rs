//! Two knotholes, a network between them, and a file that is to arrive.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::daemon::{Coturn, PASSWORD, USER, stun_url, turn_url};
use crate::net::{BLACK_HOLE, Family, Host, MOVED_PORTS, Nat, Net, SERVER, behind};
use crate::proc::Peer;
use crate::{Lab, eventually, run};

pub const MIB: usize = 1 << 20;
/// About how long the joiner tries before it shows a reply code.
const REPLY_AFTER: Duration = Duration::from_secs(3);
/// What a busy machine may add to a time that is promised.
const SLACK: Duration = Duration::from_secs(5);

#[test]
fn a_reply_typed_75_s_late_joins_two_port_restricted_nats() {
    run(|lab| reply_typed_late(lab, Duration::from_secs(75)));
}

#[test]
#[ignore = "takes five minutes: run by hand with --ignored"]
fn a_reply_typed_five_minutes_late_joins_two_port_restricted_nats() {
    run(|lab| reply_typed_late(lab, Duration::from_mins(5)));
}

#[test]
fn the_invite_alone_is_enough_from_full_cone_to_symmetric() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::FullCone), behind(Nat::Symmetric)])?;
        let _server = Coturn::start(lab, &net)?;
        let file = lab.file("data.bin", 4 * MIB)?;

        let mut alice = lab
            .knothole("alice", &net.hosts[0])
            .args(["send", "--json"])
            .args(stun())
            .arg(&file)
            .start()?;
        let invite = alice.token("invite")?;
        let mut bob = lab
            .knothole("bob", &net.hosts[1])
            .args(["receive", "--json", "-y", &invite.text])
            .args(stun())
            .start()?;
        let route = bob.route()?;
        ensure!(route.remote.ip() == net.sites[0].external, "{route:?}");
        ensure!(route.kind != "relay", "{route:?}");
        arrives(&file, &mut alice, &mut bob)
    });
}

#[test]
fn the_invite_alone_is_enough_on_a_lan_where_every_stun_server_is_dead() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::PortRestricted).hosts(2)])?;
        let file = lab.file("data.bin", 4 * MIB)?;
        // One never answers, one says that nobody is there.
        let dead = format!("stun:{BLACK_HOLE}:3478,{}", stun_url());

        let mut alice = lab
            .knothole("alice", &net.hosts[0])
            .args(["send", "--json", "--stun", &dead])
            .arg(&file)
            .start()?;
        let invite = alice.token("invite")?;
        let bound = Duration::from_secs(3) + SLACK;
        ensure!(invite.at < bound, "the invite came after {:?}", invite.at);
        let mut bob = lab
            .knothole("bob", &net.hosts[1])
            .args(["receive", "--json", "-y", "--stun", &dead, &invite.text])
            .start()?;
        let route = bob.route()?;
        ensure!(route.remote.ip() == net.hosts[0].address, "{route:?}");
        ensure!(route.local.ip() == net.hosts[1].address, "{route:?}");
        arrives(&file, &mut alice, &mut bob)
    });
}

#[test]
fn a_lan_with_ipv6_only_is_enough() {
    run(|lab| {
        let lan = behind(Nat::Firewall).family(Family::V6).hosts(2);
        let net = Net::build(&[lan])?;
        let file = lab.file("data.bin", 4 * MIB)?;

        let mut alice = lab
            .knothole("alice", &net.hosts[0])
            .args(["send", "--json", "--stun", ""])
            .arg(&file)
            .start()?;
        let invite = alice.token("invite")?;
        let mut bob = lab
            .knothole("bob", &net.hosts[1])
            .args(["receive", "--json", "-y", "--stun", "", &invite.text])
            .start()?;
        let route = bob.route()?;
        ensure!(route.remote.is_ipv6() && route.local.is_ipv6(), "{route:?}");
        arrives(&file, &mut alice, &mut bob)
    });
}

#[test]
fn a_relay_of_the_joiner_joins_port_restricted_and_symmetric() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::PortRestricted), behind(Nat::Symmetric)])?;
        let _server = Coturn::start(lab, &net)?;
        let file = lab.file("data.bin", 2 * MIB)?;

        let mut alice = lab
            .knothole("alice", &net.hosts[0])
            .args(["send", "--json"])
            .args(stun())
            .arg(&file)
            .start()?;
        let invite = alice.token("invite")?;
        let mut bob = lab
            .knothole("bob", &net.hosts[1])
            .args(["receive", "--json", "-y", &invite.text])
            .args(turn())
            .start()?;
        alice.type_line(&bob.token("reply")?.text)?;
        let route = alice.route()?;
        ensure!(route.remote.ip() == SERVER, "{route:?}");
        let route = bob.route()?;
        ensure!(route.kind == "relay", "{route:?}");
        arrives(&file, &mut alice, &mut bob)
    });
}

#[test]
fn a_relay_of_the_issuer_joins_two_symmetric_nats() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::Symmetric), behind(Nat::Symmetric)])?;
        let _server = Coturn::start(lab, &net)?;
        let file = lab.file("data.bin", 2 * MIB)?;

        let mut alice = lab
            .knothole("alice", &net.hosts[0])
            .args(["send", "--json"])
            .args(turn())
            .arg(&file)
            .start()?;
        let invite = alice.token("invite")?;
        let mut bob = lab
            .knothole("bob", &net.hosts[1])
            .args(["receive", "--json", "-y", &invite.text])
            .args(stun())
            .start()?;
        alice.type_line(&bob.token("reply")?.text)?;
        let route = alice.route()?;
        ensure!(route.kind == "relay", "{route:?}");
        let route = bob.route()?;
        ensure!(route.remote.ip() == SERVER, "{route:?}");
        arrives(&file, &mut alice, &mut bob)
    });
}

#[test]
fn a_receiver_may_issue_the_invite_behind_nats() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::PortRestricted), behind(Nat::PortRestricted)])?;
        let _server = Coturn::start(lab, &net)?;
        let file = lab.file("data.bin", 4 * MIB)?;

        let mut bob = lab
            .knothole("bob", &net.hosts[0])
            .args(["receive", "--invite", "--json", "-y"])
            .args(stun())
            .start()?;
        let invite = bob.token("invite")?;
        let mut alice = lab
            .knothole("alice", &net.hosts[1])
            .args(["send", "--json", "--to", &invite.text])
            .args(stun())
            .arg(&file)
            .start()?;
        bob.type_line(&alice.token("reply")?.text)?;
        let route = alice.route()?;
        ensure!(route.remote.ip() == net.sites[0].external, "{route:?}");
        arrives(&file, &mut alice, &mut bob)
    });
}

#[test]
fn a_folder_carries_invite_and_reply_between_port_restricted_nats() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::PortRestricted), behind(Nat::PortRestricted)])?;
        let _server = Coturn::start(lab, &net)?;
        let file = lab.file("data.bin", 4 * MIB)?;
        let folder = lab.dir().join("folder");
        fs::create_dir(&folder)?;
        let via = format!("file:{}", folder.display());

        let mut alice = lab
            .knothole("alice", &net.hosts[0])
            .args(["send", "--json", "--via", &via])
            .args(stun())
            .arg(&file)
            .start()?;
        let mut bob = lab
            .knothole("bob", &net.hosts[1])
            .args(["receive", "--json", "-y", "--via", &via])
            .args(stun())
            .start()?;
        arrives(&file, &mut alice, &mut bob)
    });
}

#[test]
fn a_transfer_outlives_20_s_in_which_nothing_passes() {
    run(|lab| outlives_20_s(lab, 0));
}

#[test]
fn so_does_one_whose_losses_are_repaired() {
    run(|lab| outlives_20_s(lab, 20));
}

/// Of a thousand packets so many are lost before and after.
fn outlives_20_s(lab: &Lab, lost: u16) -> Result<()> {
    let net = Net::build(&[behind(Nat::FullCone), behind(Nat::PortRestricted)])?;
    let _server = Coturn::start(lab, &net)?;
    let router = &net.sites[1];
    net.shape(1, "8mbit")?;
    if lost > 0 {
        net.lose(1, lost)?;
    }
    interrupted(lab, &net.hosts[0], &net.hosts[1], || {
        let size = 2 * MIB as u64;
        eventually(Duration::from_secs(30), "2 MiB", || {
            Ok(router.received()? > size)
        })?;
        net.cut(1)?;
        sleep(Duration::from_secs(20));
        net.mend()
    })
}

#[test]
fn a_transfer_outlives_8_s_in_which_the_senders_interface_is_down() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::PortRestricted).hosts(2)])?;
        let [alice, bob] = &net.hosts[..] else {
            unreachable!("two hosts were asked for");
        };
        let _server = Coturn::start(lab, &net)?;
        bob.shape("8mbit")?;
        interrupted(lab, alice, bob, || {
            let size = 2 * MIB as u64;
            eventually(Duration::from_secs(30), "2 MiB", || {
                Ok(bob.received()? > size)
            })?;
            alice.offline(Duration::from_secs(8))
        })
    });
}

#[test]
fn a_mapping_that_moved_is_told_and_a_new_invite_given() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::Renumbering), behind(Nat::PortRestricted)])?;
        let _server = Coturn::start(lab, &net)?;
        let file = lab.file("data.bin", MIB)?;

        let mut alice = lab
            .knothole("alice", &net.hosts[0])
            .args(["send", "--json"])
            .args(stun())
            .arg(&file)
            .start()?;
        let first = alice.token("invite")?;
        net.sites[0].move_mappings()?;
        // The next refresh finds out: several are made within the life of a binding.
        let second = alice.nth_token("invite", 1)?;
        ensure!(second.text != first.text, "the same invite again");
        alice.says(&["moved", "changed"])?;

        let mut bob = lab
            .knothole("bob", &net.hosts[1])
            .args(["receive", "--json", "-y", &second.text])
            .args(stun())
            .start()?;
        alice.type_line(&bob.token("reply")?.text)?;
        let route = bob.route()?;
        ensure!(MOVED_PORTS.contains(&route.remote.port()), "{route:?}");
        arrives(&file, &mut alice, &mut bob)
    });
}

#[test]
fn without_udp_the_joiner_says_so_in_time() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::PortRestricted), behind(Nat::UdpBlocked)])?;
        let _server = Coturn::start(lab, &net)?;
        let file = lab.file("data.bin", MIB)?;

        let alice = lab
            .knothole("alice", &net.hosts[0])
            .args(["send", "--json"])
            .args(stun())
            .arg(&file)
            .start()?;
        let invite = alice.token("invite")?;
        let mut bob = lab
            .knothole("bob", &net.hosts[1])
            .args(["receive", "--json", "-y", "--timeout", "12s", &invite.text])
            .args(stun())
            .start()?;
        let ended = bob.ended()?;
        ensure!(ended.status.code() == Some(3), "{}", ended.status);
        let bound = Duration::from_secs(12) + SLACK;
        ensure!(ended.after < bound, "it took {:?}", ended.after);
        ensure!(bob.stderr().contains("UDP"), "stderr does not name UDP");
        bob.event("error")?;
        Ok(())
    });
}

#[test]
fn loss_on_a_short_path_brings_the_repair_layer_in() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::Open), behind(Nat::PortRestricted)])?;
        let _server = Coturn::start(lab, &net)?;
        net.lose(0, 30)?;
        let (alice, _) = repaired(lab, &net, &stun(), &[])?;
        has_repaired(&alice)
    });
}

#[test]
fn loss_behind_a_relay_brings_it_in_too() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::Symmetric), behind(Nat::Symmetric)])?;
        let _server = Coturn::start(lab, &net)?;
        net.lose(1, 30)?;
        let (alice, bob) = repaired(lab, &net, &turn(), &[])?;
        ensure!(bob.route()?.kind == "relay", "not relayed");
        has_repaired(&alice)
    });
}

#[test]
fn a_side_that_does_not_want_the_repair_layer_sends_nothing_through_it() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::Open), behind(Nat::PortRestricted)])?;
        let _server = Coturn::start(lab, &net)?;
        net.lose(0, 10)?;
        let (alice, _) = repaired(lab, &net, &stun(), &["--no-repair"])?;
        ensure!(alice.events("link").is_empty(), "frames were sent");
        Ok(())
    });
}

#[test]
fn a_raw_pipe_is_repaired_between_two_knotholes_and_so_is_its_handshake() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::Open), behind(Nat::PortRestricted)])?;
        let _server = Coturn::start(lab, &net)?;
        net.lose(0, 100)?;
        let file = lab.file("data.bin", 16 * MIB)?;
        let out = lab.dir().join("out.bin");
        for host in &net.hosts {
            host.ns.count_frames()?;
        }
        let raw = |name, host, args: &[&str]| {
            let pipe = lab.knothole(name, host).args(["pipe", "--raw", "--json"]);
            pipe.args(args).args(stun())
        };
        let alice = raw("alice", &net.hosts[0], &["--send-only"]);
        let mut alice = alice.between(file.clone(), "/dev/null".into()).start()?;
        let invite = alice.token("invite")?.text;
        let bob = raw("bob", &net.hosts[1], &["--recv-only", &invite]);
        let mut bob = bob.between("/dev/null".into(), out.clone()).start()?;
        bob.succeeds()?;
        alice.succeeds()?;
        ensure!(fs::read(&out)? == fs::read(&file)?, "not the same");
        for host in &net.hosts {
            let [_, handshakes] = host.ns.frames()?;
            ensure!(handshakes > 0, "the handshake was not in frames");
        }
        has_repaired(&alice)
    });
}

/// The first frames find out what the other side's socket holds: they alone would show nothing.
fn has_repaired(sender: &Peer) -> Result<()> {
    let told = sender.events("link");
    let repairs = |link: &serde_json::Value| link["repairs"].as_u64() > Some(0);
    let found = told
        .iter()
        .any(|link| link["repairing"] == true && repairs(link));
    ensure!(found, "{told:?}");
    Ok(())
}

/// A transfer over a link that loses packets, long enough to be told of more than once; `extra` for
/// the sender.
fn repaired(lab: &Lab, net: &Net, servers: &[String], extra: &[&str]) -> Result<(Peer, Peer)> {
    let transfer = Transfer {
        size: 48 * MIB,
        servers,
        extra,
        ..Transfer::between(&net.hosts[0], &net.hosts[1])
    };
    transfer.run(lab, |_| Ok(()))
}

/// Both sides behind port-restricted NATs that forget after 30 s, and then give another port; and
/// a person who takes his time. Without `--json`, as that person sees it.
fn reply_typed_late(lab: &Lab, late: Duration) -> Result<()> {
    let net = Net::build(&[behind(Nat::Renumbering), behind(Nat::Renumbering)])?;
    let _server = Coturn::start(lab, &net)?;
    let file = lab.file("data.bin", 4 * MIB)?;
    let life = late + Duration::from_mins(1);

    let mut alice = lab
        .knothole("alice", &net.hosts[0])
        .arg("send")
        .args(stun())
        .arg(&file)
        .life(life)
        .start()?;
    let invite = alice.stdout_line(0)?;
    let mut bob = lab
        .knothole("bob", &net.hosts[1])
        .args(["receive", "-y", &invite.text])
        .args(stun())
        .life(life)
        .start()?;
    let reply = bob.stdout_line(0)?;
    let shown = REPLY_AFTER / 2..REPLY_AFTER + SLACK;
    ensure!(
        shown.contains(&reply.at),
        "the reply came after {:?}",
        reply.at
    );
    let length = reply
        .text
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .count();
    ensure!(
        length <= 12,
        "a reply of {length} characters: {}",
        reply.text
    );

    // A binding that nobody keeps alive shows that the time is longer than the NAT's memory.
    let idle = net.hosts[1].socket()?;
    idle.send_to(b"soon forgotten", (SERVER, 3478))?;
    let idle_port = idle.local_addr()?.port();
    ensure!(net.sites[1].has_binding(idle_port)?, "no binding");
    sleep(late);
    ensure!(
        !net.sites[1].has_binding(idle_port)?,
        "the NAT has not forgotten"
    );

    for peer in [&mut alice, &mut bob] {
        ensure!(peer.is_running()?, "gave up before the reply was typed");
    }
    alice.type_line(&reply.text)?;
    arrives(&file, &mut alice, &mut bob)
}

/// A transfer of 10 MiB with an interruption in its middle.
fn interrupted(
    lab: &Lab,
    from: &Host,
    to: &Host,
    interrupt: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let servers = stun();
    let transfer = Transfer {
        servers: &servers,
        ..Transfer::between(from, to)
    };
    transfer.run(lab, |_| interrupt()).map(drop)
}

/// A file that goes from one host to another.
pub struct Transfer<'a> {
    pub from: &'a Host,
    pub to: &'a Host,
    pub size: usize,
    /// What both sides are told of STUN and TURN servers.
    pub servers: &'a [String],
    /// What the sender is told besides.
    pub extra: &'a [&'a str],
    /// Tells it from others of the same test.
    pub name: &'a str,
}

impl<'a> Transfer<'a> {
    pub fn between(from: &'a Host, to: &'a Host) -> Self {
        Self {
            from,
            to,
            size: 10 * MIB,
            servers: &[],
            extra: &[],
            name: "",
        }
    }

    /// Runs it to its end; `meanwhile`, beside the sender, once there is a path.
    pub fn run(
        &self,
        lab: &Lab,
        meanwhile: impl FnOnce(&Peer) -> Result<()>,
    ) -> Result<(Peer, Peer)> {
        let name = self.name;
        let file = lab.file(&format!("data{name}.bin"), self.size)?;
        let life = Duration::from_mins(2);
        let mut alice = lab
            .knothole(format!("alice{name}"), self.from)
            .args(["send", "--json"])
            .args(self.extra)
            .args(self.servers)
            .arg(&file)
            .life(life)
            .start()?;
        let invite = alice.token("invite")?;
        let mut bob = lab
            .knothole(format!("bob{name}"), self.to)
            .args(["receive", "--json", "-y", &invite.text])
            .args(self.servers)
            .life(life)
            .start()?;
        if self.servers.len() > 2 {
            alice.type_line(&bob.token("reply")?.text)?;
        }
        bob.route()?;
        meanwhile(&alice)?;
        for peer in [&mut alice, &mut bob] {
            ensure!(peer.is_running()?, "{} ended too early", peer.name());
        }
        arrives(&file, &mut alice, &mut bob)?;
        Ok((alice, bob))
    }
}

/// Both sides end well, and the receiver has the sender's bytes.
pub fn arrives(file: &Path, sender: &mut Peer, receiver: &mut Peer) -> Result<()> {
    receiver.succeeds()?;
    sender.succeeds()?;
    let name = file.file_name().context("a file has a name")?;
    let received = fs::read(receiver.dir.join(name))?;
    ensure!(
        received == fs::read(file)?,
        "the file is not the one that was sent"
    );
    Ok(())
}

pub fn stun() -> [String; 2] {
    ["--stun".into(), stun_url()]
}

pub fn turn() -> Vec<String> {
    let url = turn_url();
    let relay = ["--turn", &url, "--turn-user", USER, "--turn-pass", PASSWORD].map(String::from);
    stun().into_iter().chain(relay).collect()
}
