//! What the fuzzer runs: a datagram from an address.

use std::net::{IpAddr, SocketAddr};

use super::respond;
use crate::proto::fuzz::Input;
use crate::proto::stun::reflexive::mapped_address;

/// Reads an address and a datagram out of `data`.
///
/// # Panics
///
/// When the answer does not tell the address, answers another request, would itself be answered,
/// or is longer than an honest server's.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    /// Header, attribute header, family and port, IPv6 address.
    const LONGEST: usize = 20 + 4 + 4 + 16;
    let mut input = Input(data);
    let family = input.byte().unwrap_or(0);
    let port = u16::from_be_bytes(input.array());
    let ip: IpAddr = if family % 2 == 0 {
        input.array::<4>().into()
    } else {
        input.array::<16>().into()
    };
    let from = SocketAddr::new(ip, port);
    let request = input.0;
    let Some(answer) = respond(request, from) else {
        return;
    };
    let sendable = port != 0 && !ip.is_unspecified() && !ip.is_multicast();
    let sound = sendable.then_some(from);
    assert_eq!(mapped_address(&answer), sound);
    assert_eq!(answer[4..20], request[4..20]);
    assert!(answer.len() <= LONGEST);
    assert_eq!(
        respond(&answer, from),
        None,
        "two of them would talk for ever"
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_answer_is_right(from: [u8; 19], tail: [u8; 16], more: Vec<u8>) {
            let mut request = from.to_vec();
            request.extend([0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
            request.extend(tail);
            request.extend(more);
            let rest = request.len() - 19 - 20;
            request[21..23].copy_from_slice(&u16::try_from(rest).unwrap().to_be_bytes());
            super::fuzz(&request);
        }
    }
}
