//! What the fuzzer runs: a router that says anything at any time.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::{Gateway, MAX_PLACES, PORT, upnp};
use crate::proto::fuzz::Input;
use crate::proto::nat::discover::{Machine, Output};

const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const LOCAL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 10), 50_000);

/// Reads texts of UPnP, or datagrams to a machine, out of `data`.
///
/// # Panics
///
/// When anybody but the router would be asked, when an address is believed that none can have, and
/// when the machine does not come to its end.
#[doc(hidden)]
pub fn fuzz(start: Instant, data: &[u8]) {
    let mut input = Input(data);
    match input.byte().unwrap_or(0) % 4 {
        0 => texts(input.0),
        1 => {
            if let Ok(ip) = upnp::external(input.0) {
                assert_eq!(super::usable(ip), Some(ip));
            }
        }
        _ => machine(start, &mut input),
    }
}

fn texts(data: &[u8]) {
    let head = b"HTTP/1.1 200 OK\r\nLocation: http://192.168.1.1:5000/d/root.xml\r\n\r\n";
    let here = upnp::place(head, ROUTER).expect("it is at the router");
    for place in [upnp::place(data, ROUTER), Some(here)]
        .into_iter()
        .flatten()
    {
        assert_eq!(*place.addr.ip(), ROUTER);
        one_request(&place.get());
        if let Ok(services) = upnp::services(data, &place) {
            for service in services {
                assert_eq!(*service.control.addr.ip(), ROUTER);
                one_request(&service.ask());
            }
        }
    }
    let _ = upnp::is_whole(data);
}

/// No text of the router adds a line to a request.
fn one_request(bytes: &[u8]) {
    let head = bytes.windows(4).position(|end| end == b"\r\n\r\n");
    let head = &bytes[..head.expect("it has an end")];
    let lines = head.split(|byte| *byte == b'\n');
    assert!(lines.count() <= 6 && head.is_ascii() && bytes.len() < 1500);
}

fn machine(start: Instant, input: &mut Input<'_>) {
    let mut now = start;
    let seed = [7; 32];
    let mut machine = Gateway::new(now, seed, ROUTER);
    let mut sent = 0;
    loop {
        match machine.poll_output() {
            Output::Open(socket) => machine.handle_opened(now, socket, LOCAL.into()),
            Output::Transmit { to, .. } => {
                sent += 1;
                let fits = match to {
                    SocketAddr::V4(to) => {
                        (*to.ip() == ROUTER && [PORT, upnp::PORT].contains(&to.port()))
                            || to == upnp::GROUP
                    }
                    SocketAddr::V6(_) => false,
                };
                assert!(fits && sent < 40, "{to}");
            }
            Output::Idle(until) => {
                let Some(what) = input.byte() else {
                    now = now.max(until);
                    machine.handle_timeout(now);
                    continue;
                };
                now += Duration::from_millis(u64::from(what));
                let ip: IpAddr = if what & 1 == 0 {
                    ROUTER.into()
                } else {
                    LOCAL.ip().to_owned().into()
                };
                let port = if what & 2 == 0 { PORT } else { upnp::PORT };
                let mut bytes = vec![];
                if what & 4 == 0 {
                    // The start of an answer to our own PCP request.
                    bytes.extend([2, 0x81, 0, what & 8]);
                    bytes.extend([0; 20]);
                    bytes.extend(&seed[..12]);
                }
                let length = input.below(200);
                bytes.extend(input.take(length));
                machine.handle_datagram(now, 0, SocketAddr::new(ip, port), &bytes);
            }
            Output::Done => break,
        }
    }
    assert!(machine.said().len() <= 2 && machine.places().len() <= MAX_PLACES);
    for said in machine.said() {
        assert!(said.external.is_none_or(|ip| super::usable(ip) == Some(ip)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_router_breaks_it(data: Vec<u8>) {
            for mode in 0..4 {
                super::fuzz(std::time::Instant::now(), &[&[mode], &data[..]].concat());
            }
        }
    }
}
