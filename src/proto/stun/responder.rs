//! Answers Binding requests (RFC 8489 §6.3.1.1) with the address they came from: the whole of a
//! STUN server that knows nothing else.

use std::net::SocketAddr;

use super::{Builder, Class, Message};

mod fuzz;
#[doc(hidden)]
pub use fuzz::fuzz;

/// The answer to `datagram`; `None` for anything but a Binding request.
#[must_use]
pub fn respond(datagram: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    let request = Message::read(datagram).ok()?;
    let answers = request.class == Class::Request && !request.id.is_classic();
    answers.then(|| {
        Builder::new(Class::Success, request.id)
            .xor_mapped_address(from)
            .finish()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::stun::message::MAGIC_COOKIE;
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
