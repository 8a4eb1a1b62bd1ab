//! What the fuzzer runs: servers that answer, lie and fall silent, and time that passes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{BINDING_REQUEST, Class, Event, Reflexive, Request, mapped_address};
use crate::proto::fuzz::Input;
use crate::proto::stun::message::MAGIC_COOKIE;
use crate::proto::stun::responder;

const SERVERS: usize = 4;

/// Reads operations out of `data`.
///
/// # Panics
///
/// When an address is believed that no server of ours named in answer to a request, when the
/// machine asks too much, asks for ever without time passing, or stops asking.
#[doc(hidden)]
pub fn fuzz(data: &[u8], start: Instant) {
    let server = |n: usize| SocketAddr::from(([198, 51, 100, n.to_le_bytes()[0]], 3478));
    let mut input = Input(data);
    let known = input.below(SERVERS);
    let first: Vec<SocketAddr> = (0..=known).map(server).collect();
    let mut now = start;
    let mut machine = Reflexive::new(now, [7; 32], &first);
    let mut open: HashMap<SocketAddr, Request> =
        std::iter::from_fn(|| machine.poll_transmit()).collect();
    while let Some(op) = input.byte() {
        let at = server(usize::from(op >> 4) % SERVERS);
        let request = open.get(&at).copied().unwrap_or_default();
        // The one address that may be learnt in this step.
        let mut told = None;
        let mut datagram = |machine: &mut Reflexive, from, contents: &[u8]| {
            let ours = from == at && contents.get(8..20) == request.get(8..20);
            told = mapped_address(contents).filter(|_| ours).map(|to| (at, to));
            machine.handle_datagram(now, from, contents);
        };
        match op % 10 {
            0 => {
                now = machine.poll_timeout().expect("it never stops").max(now);
                machine.handle_timeout(now);
            }
            1 => {
                now += Duration::from_millis(1 << input.below(18));
                machine.handle_timeout(now);
            }
            2 | 3 => {
                let seen =
                    SocketAddr::from((input.array::<4>(), u16::from_be_bytes(input.array())));
                if let Some(answer) = responder::respond(&request, seen) {
                    let from = if op % 10 == 2 { at } else { server(200) };
                    datagram(&mut machine, from, &answer);
                }
            }
            4 => {
                let len = input.below(256);
                datagram(&mut machine, at, input.take(len));
            }
            // Answers with the right id and attributes of the input's choice.
            5 | 6 => {
                let kind = if op % 10 == 5 {
                    Class::Success.binding()
                } else {
                    Class::Error.binding()
                };
                let len = input.below(64);
                let attributes = input.take(len);
                let mut answer = kind.to_vec();
                answer.extend([0, attributes.len().to_le_bytes()[0]]);
                answer.extend_from_slice(&request[4..]);
                answer.extend_from_slice(attributes);
                datagram(&mut machine, at, &answer);
            }
            7 => machine.handle_send_error(now, at),
            8 => machine.add_server(now, at),
            _ => {
                if let Some(mut answer) = responder::respond(&request, at) {
                    answer[8 + input.below(12)] ^= 1 << input.below(8);
                    datagram(&mut machine, at, &answer);
                }
            }
        }
        let mut asked = 0;
        while let Some((to, request)) = machine.poll_transmit() {
            assert!(machine.is_server(to));
            assert_eq!(
                (&request[..2], &request[4..8]),
                (&BINDING_REQUEST[..], &MAGIC_COOKIE[..])
            );
            open.insert(to, request);
            asked += 1;
        }
        assert!(asked <= SERVERS, "{asked} requests in one step");
        while let Some(event) = machine.poll_event() {
            match event {
                Event::Mapped {
                    server,
                    mapped,
                    rtt,
                } => {
                    assert_eq!(told, Some((server, mapped)));
                    assert!(rtt <= now - start);
                }
                Event::Moved { server, from, to } => {
                    assert_eq!(told, Some((server, to)));
                    assert_ne!(from, to);
                }
                Event::Failed { server, .. } => assert!(machine.is_server(server)),
            }
        }
        assert!(machine.all_mapped().iter().all(|addr| addr.port() != 0));
        let due = machine.poll_timeout();
        assert!(
            due.is_some(),
            "it keeps the mapping alive for as long as it lives"
        );
    }
    // Without time passing, it comes to rest.
    for _ in 0..=SERVERS {
        machine.handle_timeout(now);
    }
    assert!(
        machine.poll_timeout().is_some_and(|due| due > now),
        "it never rests"
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_servers_break_the_contract(data in prop::collection::vec(any::<u8>(), 0..400)) {
            super::fuzz(&data, std::time::Instant::now());
        }
    }
}
