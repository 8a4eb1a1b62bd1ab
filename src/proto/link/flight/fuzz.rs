//! What the fuzzer runs: records leave and come in, well formed and not.

use super::{Flights, HANDSHAKE, MAX_AGAIN, MAX_DATAGRAMS, MAX_SEEN};
use crate::proto::fuzz::Input;

/// Reads operations out of `data`.
///
/// # Panics
///
/// When something else is sent again than what left, or when a bound does not hold.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let mut input = Input(data);
    let mut flights = Flights::default();
    let mut left: Vec<Vec<u8>> = vec![];
    let mut answers = 0;
    while let Some(op) = input.byte() {
        let mut datagram = vec![];
        if op & 2 == 0 {
            // A record of a handshake message: its number, its fragment.
            datagram = vec![0; 25];
            (datagram[0], datagram[13]) = (HANDSHAKE, op >> 4);
            (datagram[18], datagram[21]) = (input.array::<1>()[0], op >> 2 & 3);
        }
        let len = input.below(64);
        datagram.extend_from_slice(input.take(len));
        if op & 1 == 0 {
            flights.handle_sent(&datagram);
            left.push(datagram);
        } else {
            let again = flights.handle_received(&datagram);
            assert!(again.len() <= MAX_DATAGRAMS);
            answers += u32::from(!again.is_empty());
            // The last of what left, in order: nothing else, nothing twice.
            let mut places = left.iter();
            assert!(again.iter().all(|old| places.any(|new| new == old)));
        }
        assert!(answers <= MAX_AGAIN, "a peer can ask for ever");
        assert!(flights.sent.len() <= MAX_DATAGRAMS && flights.seen.len() <= MAX_SEEN);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_records_break_the_contract(data in prop::collection::vec(any::<u8>(), 0..600)) {
            super::fuzz(&data);
        }
    }
}
