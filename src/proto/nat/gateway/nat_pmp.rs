//! The NAT Port Mapping Protocol (RFC 6886 §3.2 and §3.3).

use std::net::Ipv4Addr;
use std::time::Duration;

use super::pcp::seconds;

pub(super) const VERSION: u8 = 0;
const ADDRESS: u8 = 0;
const MAP_UDP: u8 = 1;
const RESPONSE: u8 = 0x80;

/// An answer: what was asked for, or the code of the refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Address(Result<Ipv4Addr, u16>),
    Mapped(Result<(), u16>),
}

pub(super) fn external_address() -> Vec<u8> {
    vec![VERSION, ADDRESS]
}

/// A request for a mapping of this inner port, outer port of the router's choice; with no lifetime,
/// to give it back (§3.4).
pub(super) fn map(port: u16, lifetime: Duration) -> Vec<u8> {
    let mut bytes = vec![VERSION, MAP_UDP, 0, 0];
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(seconds(lifetime).to_be_bytes());
    bytes
}

pub(super) fn read(bytes: &[u8]) -> Option<Answer> {
    let [VERSION, opcode, c0, c1, rest @ ..] = bytes else {
        return None;
    };
    let code = u16::from_be_bytes([*c0, *c1]);
    match (*opcode, code, rest) {
        (0x80, 0, [_, _, _, _, a, b, c, d, ..]) => {
            Some(Answer::Address(Ok(Ipv4Addr::new(*a, *b, *c, *d))))
        }
        (0x81, 0, [_, _, _, _, _, _, _, _, _, _, _, _, ..]) => Some(Answer::Mapped(Ok(()))),
        (_, 0, _) => None,
        _ if *opcode == RESPONSE | ADDRESS => Some(Answer::Address(Err(code))),
        _ if *opcode == RESPONSE | MAP_UDP => Some(Answer::Mapped(Err(code))),
        _ => None,
    }
}

/// What a result code means (§3.5).
pub(super) fn reason(code: u16) -> String {
    let known = match code {
        1 => "unsupported version",
        2 => "not authorized",
        3 => "network failure",
        4 => "out of resources",
        5 => "unsupported opcode",
        _ => return format!("result {code}"),
    };
    format!("{known} ({code})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_form_of_the_rfc() {
        assert_eq!(external_address(), [0, 0]);
        let request = map(0x1234, Duration::from_secs(30));
        assert_eq!(request, [0, 1, 0, 0, 0x12, 0x34, 0, 0, 0, 0, 0, 30]);
    }

    #[test]
    fn answers_tell_what_was_asked_or_why_not() {
        let address = [0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 7];
        let ip = Ipv4Addr::new(203, 0, 113, 7);
        assert_eq!(read(&address), Some(Answer::Address(Ok(ip))));
        assert_eq!(read(&[0, 128, 0, 3]), Some(Answer::Address(Err(3))));
        let mapped = [0, 129, 0, 0, 0, 0, 0, 9, 18, 52, 18, 52, 0, 0, 0, 30];
        assert_eq!(read(&mapped), Some(Answer::Mapped(Ok(()))));
        assert_eq!(read(&[0, 129, 0, 2]), Some(Answer::Mapped(Err(2))));
        for (whole, from) in [(&address[..], 0), (&mapped[..], 0)] {
            for cut in from..whole.len() {
                assert_eq!(read(&whole[..cut]), None, "{cut}");
            }
        }
        assert_eq!(read(&[0, 1, 0, 0]), None, "a request");
        assert_eq!(read(&[2, 128, 0, 0, 0, 0, 0, 9, 1, 2, 3, 4]), None);
        assert_eq!(reason(2), "not authorized (2)");
    }
}
