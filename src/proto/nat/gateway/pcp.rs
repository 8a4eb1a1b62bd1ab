//! The Port Control Protocol, as far as one mapping needs it (RFC 6887 §7 and §11.1).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::time::Duration;

pub(super) const VERSION: u8 = 2;
/// Asks for a mapping; with the highest bit it is the answer.
const MAP: u8 = 1;
const RESPONSE: u8 = 0x80;
const UDP: u8 = 17;
/// The header, and a MAP after it.
const HEADER: usize = 24;
const WHOLE: usize = 60;

/// A request for a mapping of this socket, outer port and address of the router's choice; with no
/// lifetime, to give it back (§15).
pub(super) fn map(local: SocketAddrV4, nonce: [u8; 12], lifetime: Duration) -> Vec<u8> {
    let mut bytes = vec![VERSION, MAP, 0, 0];
    bytes.extend(seconds(lifetime).to_be_bytes());
    bytes.extend(local.ip().to_ipv6_mapped().octets());
    bytes.extend(nonce);
    bytes.extend([UDP, 0, 0, 0]);
    bytes.extend(local.port().to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets());
    bytes
}

pub(super) fn seconds(lifetime: Duration) -> u32 {
    u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)
}

/// Reads the answer to a MAP with this nonce: the outer address, or the code of the refusal.
pub(super) fn read(bytes: &[u8], nonce: [u8; 12]) -> Option<Result<Ipv4Addr, u8>> {
    let ours = bytes.len() >= HEADER && bytes[..2] == [VERSION, RESPONSE | MAP];
    if !ours {
        return None;
    }
    let map = bytes.get(HEADER..WHOLE);
    if let Some(map) = map
        && map[..12] != nonce
    {
        return None;
    }
    match (bytes[3], map) {
        (0, Some(map)) => {
            let octets: [u8; 16] = map[20..36].try_into().ok()?;
            Some(Ok(Ipv6Addr::from(octets).to_ipv4_mapped()?))
        }
        (0, None) => None,
        // Of a refusal some routers send the header alone.
        (code, _) => Some(Err(code)),
    }
}

/// What a result code means (§7.4).
pub(super) fn reason(code: u8) -> String {
    let known = match code {
        1 => "unsupported version",
        2 => "not authorized",
        3 => "malformed request",
        4 => "unsupported opcode",
        5 => "unsupported option",
        6 => "malformed option",
        7 => "network failure",
        8 => "no resources",
        9 => "unsupported protocol",
        10 => "too many mappings of this host",
        11 => "cannot provide the outer address",
        12 => "address mismatch, so there is a NAT before it",
        13 => "too many remote peers",
        _ => return format!("result {code}"),
    };
    format!("{known} ({code})")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: [u8; 12] = *b"twelve bytes";

    fn answer(code: u8, external: Ipv4Addr) -> Vec<u8> {
        let mut bytes = map("192.168.1.10:5000".parse().unwrap(), NONCE, Duration::ZERO);
        bytes[1] |= RESPONSE;
        bytes[3] = code;
        bytes[44..60].copy_from_slice(&external.to_ipv6_mapped().octets());
        bytes
    }

    #[test]
    fn a_request_has_the_form_of_figures_2_and_9() {
        let request = map(
            "192.168.1.10:4660".parse().unwrap(),
            NONCE,
            Duration::from_secs(30),
        );
        assert_eq!(request.len(), WHOLE);
        assert_eq!(request[..8], [2, 1, 0, 0, 0, 0, 0, 30]);
        assert_eq!(request[18..24], [0xff, 0xff, 192, 168, 1, 10]);
        assert_eq!(request[24..36], NONCE);
        assert_eq!(request[36..44], [17, 0, 0, 0, 0x12, 0x34, 0, 0]);
    }

    #[test]
    fn an_answer_tells_the_address_or_why_not() {
        let ip = Ipv4Addr::new(203, 0, 113, 7);
        assert_eq!(read(&answer(0, ip), NONCE), Some(Ok(ip)));
        assert_eq!(read(&answer(8, ip), NONCE), Some(Err(8)));
        assert_eq!(read(&answer(8, ip)[..24], NONCE), Some(Err(8)));
        assert_eq!(reason(8), "no resources (8)");
        assert_eq!(reason(99), "result 99");
    }

    #[test]
    fn what_is_no_answer_to_this_request_is_none() {
        let ip = Ipv4Addr::new(203, 0, 113, 7);
        let whole = answer(0, ip);
        assert_eq!(read(&whole, [0; 12]), None, "another nonce");
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut], NONCE), None, "{cut}");
        }
        let request = map("192.168.1.10:1".parse().unwrap(), NONCE, Duration::ZERO);
        assert_eq!(read(&request, NONCE), None, "a request");
        let mut six = whole;
        six[44] = 0x20;
        assert_eq!(read(&six, NONCE), None, "an IPv6 address");
    }
}
