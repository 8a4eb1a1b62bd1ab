//! Answers Binding requests (RFC 8489 §6.3.1.1) with the address they came from: the whole of a
//! STUN server that knows nothing else.

use std::net::{IpAddr, SocketAddr};

use super::{BINDING_REQUEST, MAGIC_COOKIE};

mod fuzz;
#[doc(hidden)]
pub use fuzz::fuzz;

/// The answer to `datagram`; `None` for anything but a Binding request.
#[must_use]
pub fn respond(datagram: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    let header = datagram.get(..20)?;
    if header[..2] != BINDING_REQUEST || header[4..8] != MAGIC_COOKIE {
        return None;
    }
    let (family, octets) = match from.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    // XOR-MAPPED-ADDRESS (§14.2): the port under the cookie, the address under cookie and id.
    let key = &header[4..20];
    let port = from.port().to_be_bytes();
    let mut value = vec![0, family, port[0] ^ key[0], port[1] ^ key[1]];
    value.extend(octets.iter().zip(key).map(|(octet, mask)| octet ^ mask));
    let size = u8::try_from(value.len()).ok()?;
    let mut answer = vec![0x01, 0x01, 0, size + 4];
    answer.extend_from_slice(key);
    answer.extend([0x00, 0x20, 0, size]);
    answer.extend(value);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::stun::reflexive::mapped_address;

    #[test]
    fn a_binding_request_is_answered_with_where_it_came_from() {
        let mut request = vec![0, 1, 0, 0];
        request.extend(MAGIC_COOKIE);
        request.extend([7; 12]);
        for from in ["203.0.113.9:4000", "[2001:db8::9]:4000"] {
            let from: SocketAddr = from.parse().unwrap();
            let answer = respond(&request, from).unwrap();
            assert_eq!(mapped_address(&answer), Some(from));
            assert_eq!(answer[8..20], request[8..20]);
        }
    }

    #[test]
    fn anything_else_is_not_answered() {
        let from = "203.0.113.9:4000".parse().unwrap();
        let mut request = vec![0, 1, 0, 0];
        request.extend(MAGIC_COOKIE);
        request.extend([7; 12]);
        for cut in 0..request.len() {
            assert_eq!(respond(&request[..cut], from), None);
        }
        request[0] = 1;
        assert_eq!(respond(&request, from), None, "an answer is not answered");
    }
}
