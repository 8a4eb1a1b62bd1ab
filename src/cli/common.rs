//! Options that several subcommands share, and what they mean when put together.
//!
//! Every value is read and checked before anything touches the network.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{ArgAction, Args, ValueHint};

use super::failure::Failure;
use super::server::{StunList, Transport, TurnServer};
use super::ui::{Options, When};
use crate::io::peer::{self, Network};
use crate::io::probe;
use crate::report::human;

/// Public servers that have been there for years, of four operators.
pub const DEFAULT_STUN: &str = "stun:stun.l.google.com:19302,stun:stun.cloudflare.com:3478,\
    stun:stun.nextcloud.com:3478,stun:global.stun.twilio.com:3478";

/// The longest that an invite can stay good.
pub const MAX_EXPIRES: Duration = Duration::from_hours(30 * 24);

/// What is said on the screen.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Screen")]
pub struct ScreenArgs {
    /// Print JSON on stdout: one event a line, or one object
    #[arg(long, env = "KNOTHOLE_JSON", value_parser = Switch, action = ArgAction::SetTrue)]
    pub json: bool,

    /// Say nothing but errors and questions
    #[arg(short, long, env = "KNOTHOLE_QUIET", value_parser = Switch, action = ArgAction::SetTrue)]
    #[arg(conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say more; twice for even more
    #[arg(short, long, env = "KNOTHOLE_VERBOSE", action = ArgAction::Count)]
    pub verbose: u8,

    /// When to use colours
    #[arg(
        long,
        env = "KNOTHOLE_COLOR",
        value_name = "WHEN",
        value_enum,
        default_value = "auto"
    )]
    pub color: When,

    /// Show no progress bar and no line that rewrites itself
    #[arg(long, env = "KNOTHOLE_NO_PROGRESS", value_parser = Switch, action = ArgAction::SetTrue)]
    pub no_progress: bool,

    /// Read settings from this file; '' for none
    ///
    /// Settings are long options without the dashes, as in qr = "never", and switches are true or
    /// false. In a table such as [send] they are for that command alone. What is typed beats a
    /// variable, a variable beats the file. Without this option the file is
    /// knothole/config.toml in the XDG config folder, usually ~/.config.
    #[arg(long, env = "KNOTHOLE_CONFIG", value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(help_heading = None::<&str>)]
    pub config: Option<OsString>,
}

impl ScreenArgs {
    /// Returns the settings of the screen.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            json: self.json,
            stream: false,
            reports: false,
            quiet: self.quiet,
            verbose: self.verbose,
            color: self.color,
            no_progress: self.no_progress,
        }
    }
}

/// Which servers are asked, and from where.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Network")]
pub struct NetArgs {
    /// STUN servers to learn the public address from; '' for none
    ///
    /// A server is stun:host, stun:host:port, host:port or [IPv6]:port; for addr also
    /// stun:host?transport=tcp and stuns:host (TLS). Repeat the option or put commas between
    /// several. Default: four public servers of different operators
    /// (stun.l.google.com:19302, stun.cloudflare.com, stun.nextcloud.com, global.stun.twilio.com).
    #[arg(long, env = "KNOTHOLE_STUN", value_name = "URL", action = ArgAction::Append)]
    #[arg(default_value = DEFAULT_STUN, hide_default_value = true, value_hint = ValueHint::Other)]
    pub stun: Vec<StunList>,

    /// Use IPv4 only
    #[arg(short = '4', long, env = "KNOTHOLE_IPV4", value_parser = Switch, action = ArgAction::SetTrue)]
    #[arg(conflicts_with = "ipv6")]
    pub ipv4: bool,

    /// Use IPv6 only
    #[arg(short = '6', long, env = "KNOTHOLE_IPV6", value_parser = Switch, action = ArgAction::SetTrue)]
    pub ipv6: bool,

    /// Use this local address, and this port if one is given
    #[arg(long, env = "KNOTHOLE_BIND", value_name = "IP[:PORT]")]
    #[arg(value_hint = ValueHint::Other)]
    pub bind: Option<Bind>,
}

impl NetArgs {
    /// Where a socket that asks STUN servers is bound.
    #[must_use]
    pub fn local(&self) -> probe::Local {
        probe::Local {
            ip: self.bind.map(|bind| bind.0.ip()),
            port: self.bind.map_or(0, |bind| bind.0.port()),
        }
    }

    /// Whether an address of this family is to be used.
    #[must_use]
    pub fn allows(&self, addr: SocketAddr) -> bool {
        let family = if addr.is_ipv4() {
            !self.ipv6
        } else {
            !self.ipv4
        };
        family
            && self
                .bind
                .is_none_or(|bind| bind.0.is_ipv4() == addr.is_ipv4())
    }

    /// Checks the options against one another.
    ///
    /// # Errors
    /// They contradict one another.
    pub fn check(&self) -> Result<(), Failure> {
        if let Some(bind) = self.bind
            && ((self.ipv4 && bind.0.is_ipv6()) || (self.ipv6 && bind.0.is_ipv4()))
        {
            let flag = if self.ipv4 { "-4" } else { "-6" };
            return Err(Failure::usage(format!(
                "{flag} does not go with --bind {}",
                bind.0.ip()
            )));
        }
        Ok(())
    }
}

/// The network and the screen of a command that talks to a peer.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Network")]
pub struct Common {
    #[command(flatten)]
    net: NetArgs,

    /// TURN server to relay through when there is no direct path
    ///
    /// A server is turn:host or turn:host:port, over UDP.
    #[arg(long, env = "KNOTHOLE_TURN", value_name = "URL")]
    #[arg(requires_all = ["turn_user", "turn_pass"], value_hint = ValueHint::Other)]
    turn: Option<TurnServer>,

    /// User name for the TURN server
    #[arg(long, env = "KNOTHOLE_TURN_USER", value_name = "USER")]
    #[arg(value_hint = ValueHint::Other)]
    turn_user: Option<String>,

    /// Password for the TURN server; better given in the environment
    #[arg(long, env = "KNOTHOLE_TURN_PASS", value_name = "PASSWORD")]
    #[arg(value_hint = ValueHint::Other)]
    turn_pass: Option<Secret>,

    /// How long to wait for a path to the peer, and for a peer that has gone silent
    ///
    /// Unless given: a silent peer is waited for 60s, and a first path as long as the invite is
    /// good, since the other person may take their time.
    #[arg(long, env = "KNOTHOLE_TIMEOUT", value_name = "DURATION", value_parser = timeout)]
    #[arg(value_hint = ValueHint::Other)]
    timeout: Option<Duration>,

    /// Leave all repair of lost packets to SCTP
    ///
    /// Between two knotholes, where a path is long or loses packets, a layer below DTLS repairs
    /// the loss and sets the pace. This keeps this side from sending through it; it belongs on both
    /// sides, since windows are smaller without the layer.
    #[arg(long, env = "KNOTHOLE_NO_REPAIR", value_parser = Switch, action = ArgAction::SetTrue)]
    no_repair: bool,

    #[command(flatten)]
    pub screen: ScreenArgs,

    /// When to show a QR code of the token
    #[arg(
        long,
        env = "KNOTHOLE_QR",
        value_name = "WHEN",
        value_enum,
        default_value = "auto"
    )]
    #[arg(help_heading = "Screen")]
    pub qr: When,
}

/// How long a silent peer is waited for, unless told.
const PATIENCE: Duration = Duration::from_mins(1);

/// The network as the command line wants it.
#[derive(Clone, Debug)]
pub struct Reach {
    /// For [`crate::io::peer`].
    pub network: Network,
    /// How long to look for a first path; without it, as long as the invite is good.
    pub bound: Option<Duration>,
}

/// A local address, port 0 where none was given; and whether one was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind(pub SocketAddr, pub bool);

/// A text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl Common {
    /// Puts the network options together.
    ///
    /// # Errors
    /// They contradict one another.
    pub fn reach(&self) -> Result<Reach, Failure> {
        self.net.check()?;
        let stun = self.net.stun.iter().flat_map(|list| list.0.clone());
        let stun = stun.map(|url| match url.transport {
            Transport::Udp => Ok(url.server),
            _ => Err(Failure::usage(format!("{url}: a peer asks over UDP only"))
                .hint("stuns: and ?transport=tcp are for addr")),
        });
        let turn = self.turn.clone().map(|server| peer::TurnServer {
            server: server.0,
            username: self.turn_user.clone().unwrap_or_default(),
            password: self
                .turn_pass
                .clone()
                .map(|secret| secret.0)
                .unwrap_or_default(),
        });
        Ok(Reach {
            network: Network {
                stun: stun.collect::<Result<_, _>>()?,
                turn,
                ipv4: !self.net.ipv6,
                ipv6: !self.net.ipv4,
                bind: self.net.bind.map(|bind| bind.0),
                patience: self.timeout.unwrap_or(PATIENCE),
                repair: !self.no_repair,
            },
            bound: self.timeout,
        })
    }
}

impl FromStr for Bind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text
            .strip_prefix('[')
            .and_then(|t| t.strip_suffix(']'))
            .unwrap_or(text);
        let addr = bare
            .parse::<IpAddr>()
            .map(|ip| (SocketAddr::new(ip, 0), false))
            .or_else(|_| text.parse().map(|addr| (addr, true)));
        match addr {
            Err(_) => Err(
                "an address of this machine is needed, such as 192.168.1.10 or [2001:db8::1]:5000"
                    .into(),
            ),
            Ok((addr, _)) if addr.ip().is_multicast() => Err("this is a multicast address".into()),
            Ok((addr, port)) => Ok(Self(addr, port)),
        }
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Another way for tokens to travel than a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// As files named `invite` and `reply` in this folder.
    File(PathBuf),
}

impl FromStr for Via {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("file", "")) => Err("the folder is missing: file:DIR".to_owned()),
            Some(("file", dir)) => Ok(Self::File(dir.into())),
            _ => Err("only file:DIR is known".to_owned()),
        }
    }
}

/// Reads `--timeout`.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    let duration = human::parse_duration(text)?;
    match duration {
        Duration::ZERO => Err("it must be more than nothing".to_owned()),
        _ if duration > MAX_EXPIRES => Err("it can be 30d at most".to_owned()),
        _ => Ok(duration),
    }
}

/// Reads `--expires`.
pub(super) fn expires(text: &str) -> Result<Duration, String> {
    let duration = human::parse_duration(text)?;
    match duration {
        _ if duration < Duration::from_secs(1) => Err("it must be at least 1s".to_owned()),
        _ if duration > MAX_EXPIRES => Err("it can be 30d at most".to_owned()),
        _ => Ok(duration),
    }
}

/// The value of a flag in the environment. On the command line a flag has none.
#[derive(Clone, Debug)]
pub(super) struct Switch;

impl Switch {
    pub(super) fn read(text: &str) -> Option<bool> {
        match text.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" | "y" | "t" => Some(true),
            "" | "0" | "false" | "no" | "off" | "n" | "f" => Some(false),
            _ => None,
        }
    }
}

impl TypedValueParser for Switch {
    type Value = bool;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<bool, clap::Error> {
        let checked = |text: &str| Self::read(text).ok_or("write 1 or 0");
        checked.parse_ref(command, arg, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        common: Common,
    }

    fn reach(args: &[&str]) -> Result<Reach, String> {
        let args = std::iter::once("knothole").chain(args.iter().copied());
        let line = Line::try_parse_from(args).map_err(|e| e.to_string())?;
        line.common.reach().map_err(|e| e.to_string())
    }

    fn network(args: &[&str]) -> Result<Network, String> {
        reach(args).map(|reach| reach.network)
    }

    #[test]
    fn the_defaults_are_four_servers_and_a_minute() {
        let network = network(&[]).unwrap();
        assert_eq!(network.stun.len(), 4);
        let hosts: std::collections::HashSet<_> = network.stun.iter().map(|s| &s.host).collect();
        assert_eq!(hosts.len(), 4);
        assert_eq!(network.patience, Duration::from_mins(1));
        assert_eq!(reach(&[]).unwrap().bound, None);
        assert!(network.turn.is_none() && network.ipv4 && network.ipv6 && network.bind.is_none());
    }

    #[test]
    fn servers_are_repeated_or_separated_by_commas_or_none() {
        let stun = |args: &[&str]| -> Vec<String> {
            network(args)
                .unwrap()
                .stun
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(
            stun(&["--stun", "a.example,b.example", "--stun=c.example"]).len(),
            3
        );
        assert_eq!(stun(&["--stun", ""]), [""; 0]);
        assert_eq!(stun(&["--stun=[::1]:5"]), ["[::1]:5"]);
    }

    #[test]
    fn a_turn_server_comes_with_user_and_password_which_stay_secret() {
        let said = network(&["--turn", "turn:t.example", "--turn-user", "me"]).unwrap_err();
        assert!(said.contains("--turn-pass"), "{said}");
        let network = network(&[
            "--turn",
            "turn:t.example",
            "--turn-user",
            "me",
            "--turn-pass",
            "hunter2",
        ])
        .unwrap();
        assert_eq!(
            network.turn.as_ref().unwrap().server.to_string(),
            "t.example:3478"
        );
        assert!(!format!("{network:?}").contains("hunter2"));
    }

    #[test]
    fn a_local_address_must_be_one_and_of_the_right_family() {
        let bind = |text: &str| network(&["--bind", text]).map(|n| n.bind.unwrap().to_string());
        assert_eq!(bind("192.0.2.1").unwrap(), "192.0.2.1:0");
        assert_eq!(bind("192.0.2.1:5").unwrap(), "192.0.2.1:5");
        assert_eq!(bind("::1").unwrap(), "[::1]:0");
        assert_eq!(bind("[::1]").unwrap(), "[::1]:0");
        assert_eq!(bind("[::1]:5").unwrap(), "[::1]:5");
        assert!(bind("eth0").is_err());
        assert!(
            network(&["-6", "--bind", "192.0.2.1"])
                .unwrap_err()
                .contains("-6 does not go with")
        );
        assert!(network(&["-4", "-6"]).is_err());
    }

    #[test]
    fn times_have_limits() {
        assert!(timeout("0s").is_err());
        assert!(timeout("60s").is_ok());
        assert!(expires("30d").is_ok());
        assert!(expires("31d").unwrap_err().contains("30d"));
        assert!(expires("1ms").is_err());
    }

    #[test]
    fn via_takes_a_folder() {
        assert_eq!("file:/tmp/a:b".parse(), Ok(Via::File("/tmp/a:b".into())));
        assert!("ssh:host".parse::<Via>().unwrap_err().contains("file:DIR"));
        assert!("file:".parse::<Via>().is_err());
    }
}
