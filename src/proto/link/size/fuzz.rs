//! What the fuzzer runs: two sides and a network between them that loses, repeats, swaps and forges.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Action, Admit, LARGE, MAX_CONFIRMED, MAX_PARTIAL, PIECE, PROBE_AGAIN, SAFE, Sizer};
use crate::proto::fuzz::Input;

/// Reads operations out of `data`.
///
/// # Panics
///
/// When a datagram comes out that did not go in, when a path counts as confirmed that was not, or
/// when a bound does not hold.
#[doc(hidden)]
pub fn fuzz(data: &[u8], start: Instant) {
    let addr = |last| SocketAddr::from(([192, 0, 2, last], 4000));
    let (here_addr, there_addr, stranger) = (addr(1), addr(2), addr(3));
    let mut input = Input(data);
    let mut now = start;
    let (mut here, mut there) = (Sizer::new([1; 32]), Sizer::new([2; 32]));
    let (mut way, mut back) = (VecDeque::<Vec<u8>>::new(), VecDeque::<[u8; 9]>::new());
    let mut sent: Vec<Vec<u8>> = vec![];
    let (mut forged, mut confirmed, mut probed) = (false, false, None);
    // Of the frames of the stranger.
    let mut longest = 0;
    while let Some(op) = input.byte() {
        match op % 12 {
            0 | 1 => {
                let mut datagram = vec![op; SAFE + 1 + input.below(LARGE - SAFE)];
                datagram[0] = sent.len().to_le_bytes()[0];
                let silent = op >= 0xf0;
                match here.admit(now, there_addr, silent) {
                    Admit::Whole => assert!(confirmed && !silent, "not confirmed"),
                    Admit::Pieces { probe } => {
                        if probe.is_some() {
                            let rested = probed.is_none_or(|at| now >= at + PROBE_AGAIN);
                            assert!(rested || confirmed || forged, "a probe too soon");
                            probed = Some(now);
                        }
                        confirmed = forged && !silent;
                        let pieces = here.cut(&datagram);
                        assert!(pieces.iter().all(|piece| piece.len() <= SAFE));
                        sent.push(datagram);
                        way.extend(probe.into_iter().chain(pieces));
                    }
                }
            }
            2..=4 => {
                let Some(frame) = way.pop_front() else {
                    continue;
                };
                match there.handle_frame(here_addr, &frame) {
                    Action::Reply(seen) => back.push_back(seen),
                    Action::Deliver(datagram) => {
                        assert!(forged || sent.contains(&datagram), "nobody sent this");
                        assert!(datagram.len() <= 2 * LARGE);
                    }
                    Action::Nothing => {}
                }
            }
            5 => {
                if let Some(seen) = back.pop_front() {
                    here.handle_frame(there_addr, &seen);
                    confirmed = true;
                }
            }
            6 => drop(way.pop_front()),
            7 => {
                let twin = way.front().cloned();
                way.extend(twin);
            }
            8 => way.rotate_left(usize::from(!way.is_empty())),
            9 => now += Duration::from_millis(1 << input.below(17)),
            // A stranger's frames; at the place of the peer they would be the peer's.
            kind => {
                let from = if kind == 10 { stranger } else { here_addr };
                let mut frame = vec![PIECE + input.byte().unwrap_or(0) % 3];
                let len = input.below(256);
                frame.extend_from_slice(input.take(len));
                if op >= 0xe0 {
                    frame.resize(LARGE + 2, op);
                }
                forged |= from == here_addr;
                if from == stranger {
                    longest = longest.max(frame.len());
                }
                for side in [&mut here, &mut there] {
                    match side.handle_frame(from, &frame) {
                        Action::Reply(seen) => assert!(seen.len() <= frame.len(), "amplified"),
                        Action::Deliver(datagram) => {
                            assert!(datagram.len() <= 2 * LARGE);
                            let own = from == here_addr || datagram.len() < 2 * longest;
                            assert!(own, "a stranger completes what the peer began");
                        }
                        Action::Nothing => {}
                    }
                }
            }
        }
        for side in [&here, &there] {
            assert!(side.partial.len() <= MAX_PARTIAL && side.confirmed.len() <= MAX_CONFIRMED);
            assert!(side.partial.iter().all(|part| part.half.len() <= LARGE));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_network_breaks_the_contract(data in prop::collection::vec(any::<u8>(), 0..400)) {
            super::fuzz(&data, std::time::Instant::now());
        }
    }
}
