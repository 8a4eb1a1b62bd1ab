//! An [`AddrReport`] as a person reads it.

use std::fmt::Write as _;

use super::model::{AddrReport, AddrServer};
use super::sanitize::Shown;
use crate::proto::nat::Udp;

/// Renders the addresses and a table of the servers; `strong` makes a name stand out.
#[must_use]
pub fn render(report: &AddrReport, strong: impl Fn(&str) -> String) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{} {value}", strong(&format!("{name:<13}")));
    };
    for (name, ip, is_v4) in [
        ("Public IPv4:", report.ipv4, true),
        ("Public IPv6:", report.ipv6, false),
    ] {
        let any = report
            .servers
            .iter()
            .any(|row| row.mapped.is_some_and(|mapped| mapped.is_ipv4() == is_v4));
        match ip {
            Some(ip) => line(name, &ip.to_string()),
            None if any => line(name, "unknown: the servers disagree"),
            None => {}
        }
    }
    match report.udp {
        Udp::Ok => {}
        Udp::Blocked => line("UDP:", "blocked: servers answer over TCP only"),
        Udp::Unknown if report.servers.iter().all(|row| row.transport != "udp") => {}
        Udp::Unknown => line("UDP:", "unknown: no server answered over it"),
    }
    let _ = writeln!(text, "{}", strong("Servers:"));
    let width =
        |of: &dyn Fn(&AddrServer) -> usize| report.servers.iter().map(of).max().unwrap_or(0);
    let mapped = |row: &AddrServer| {
        row.mapped
            .map_or(String::new(), |mapped| mapped.to_string())
    };
    let urls = width(&|row| row.url.len());
    let addrs = width(&|row| mapped(row).len());
    for row in &report.servers {
        let _ = write!(text, "  {:<urls$}  {:<3}  ", row.url, row.transport);
        match (&row.error, row.rtt_ms) {
            (Some(error), _) => {
                let _ = write!(text, "{}", Shown(error));
            }
            (None, rtt) => {
                let rtt = rtt.map_or(String::new(), |rtt| format!("{rtt} ms"));
                let _ = write!(text, "{:<addrs$}  {rtt:>9}", mapped(row));
            }
        }
        if let Some(software) = &row.software {
            let _ = write!(text, "  {:.40}", Shown(software));
        }
        if row.dissents {
            text += "  (disagrees with most)";
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_comes_first_and_the_servers_line_up() {
        let row = |url: &str, mapped: Option<&str>, dissents| AddrServer {
            url: url.into(),
            transport: "udp".into(),
            addr: None,
            mapped: mapped.map(|text| text.parse().unwrap()),
            rtt_ms: mapped.map(|_| 12.3),
            software: mapped.map(|_| "a\u{1b}[2Jb".into()),
            dissents,
            error: mapped.is_none().then(|| "no answer over UDP".into()),
        };
        let report = AddrReport {
            command: "addr".into(),
            ipv4: Some("203.0.113.7".parse().unwrap()),
            ipv6: None,
            udp: Udp::Ok,
            servers: vec![
                row("stun:a.example:3478", Some("203.0.113.7:50123"), false),
                row("stun:longer.example:3478", Some("203.0.113.99:1"), true),
                row("stun:c.example:3478", None, false),
            ],
        };
        assert_eq!(
            render(&report, str::to_owned),
            "\
Public IPv4:  203.0.113.7
Servers:
  stun:a.example:3478       udp  203.0.113.7:50123    12.3 ms  a\\u{1b}[2Jb
  stun:longer.example:3478  udp  203.0.113.99:1       12.3 ms  a\\u{1b}[2Jb  (disagrees with most)
  stun:c.example:3478       udp  no answer over UDP
"
        );
    }
}
