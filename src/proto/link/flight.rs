//! Sends the last DTLS flight again when the peer repeats its own.
//!
//! RFC 6347 §4.2.4: an endpoint that waits and receives a retransmission of the peer's previous
//! flight retransmits its own. `rtc-dtls` 0.21.1 only has its timer for that, and starts the timer
//! anew with every datagram it receives; since both sides wait equally long, one lost server
//! flight ends the handshake. The records seen here are those on the wire, and the ones sent again
//! are byte for byte those that were lost, so the peer's replay protection lets them in once.

mod fuzz;
#[doc(hidden)]
pub use fuzz::fuzz;

/// A flight is at most this many datagrams (a certificate chain in small fragments).
const MAX_DATAGRAMS: usize = 16;
/// Handshake messages of the peer remembered: a whole handshake has fewer than twenty.
const MAX_SEEN: usize = 64;
/// Flights sent again in one handshake.
const MAX_AGAIN: u32 = 32;
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;

/// Type, sequence number and fragment offset, which name a fragment in all its retransmissions.
type Message = [u8; 6];

/// One for each connection.
#[derive(Debug, Default)]
pub struct Flights {
    /// What left since the peer last said something new.
    sent: Vec<Vec<u8>>,
    seen: Vec<Message>,
    /// Messages of ours.
    ours: Vec<Message>,
    again: u32,
}

impl Flights {
    /// Whether a datagram of the crate that leaves repeats one; `None` when it begins with no
    /// handshake message in the clear.
    pub fn is_again(&mut self, datagram: &[u8]) -> Option<bool> {
        let message = handshake_message(datagram)?;
        let again = self.ours.contains(&message);
        if !again && self.ours.len() < MAX_SEEN {
            self.ours.push(message);
        }
        Some(again)
    }

    /// A datagram of the crate leaves.
    pub fn handle_sent(&mut self, datagram: &[u8]) {
        let handshake = matches!(datagram.first(), Some(&(HANDSHAKE | CHANGE_CIPHER_SPEC)));
        if handshake && self.sent.len() < MAX_DATAGRAMS {
            self.sent.push(datagram.to_vec());
        }
    }

    /// A datagram came from the peer: what must be sent again because of it.
    pub fn handle_received(&mut self, datagram: &[u8]) -> &[Vec<u8>] {
        let Some(message) = handshake_message(datagram) else {
            return &[];
        };
        if !self.seen.contains(&message) {
            self.sent.clear();
            if self.seen.len() < MAX_SEEN {
                self.seen.push(message);
            }
            return &[];
        }
        self.again += 1;
        if self.again > MAX_AGAIN {
            &[]
        } else {
            &self.sent
        }
    }
}

/// The first handshake message of a datagram in the clear (RFC 6347 §4.1 and §4.2.2).
fn handshake_message(datagram: &[u8]) -> Option<Message> {
    let (record, message) = datagram.split_at_checked(13)?;
    if record[0] != HANDSHAKE || record[3..5] != [0, 0] {
        return None;
    }
    let header = message.get(..12)?;
    Some([
        header[0], header[4], header[5], header[6], header[7], header[8],
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_flight_of_the_peer_brings_ours_again() {
        let mut server = Flights::default();
        assert!(server.handle_received(&record(1, 0, 0)).is_empty());
        server.handle_sent(&record(3, 0, 0));
        let second_hello = server.handle_received(&record(1, 1, 1));
        assert!(second_hello.is_empty(), "it is new");
        let flight = [record(2, 1, 1), record(11, 2, 2)];
        for datagram in &flight {
            server.handle_sent(datagram);
        }
        let again = server.handle_received(&record(1, 1, 2));
        assert_eq!(again, flight, "its record number does not matter");
        assert_eq!(server.handle_received(&record(1, 1, 3)), flight);
        let next_flight = server.handle_received(&record(11, 2, 4));
        assert!(next_flight.is_empty());
    }

    #[test]
    fn a_message_of_ours_that_leaves_once_more_is_told_apart_from_new_ones() {
        let mut flights = Flights::default();
        assert_eq!(flights.is_again(&record(1, 0, 0)), Some(false));
        assert_eq!(flights.is_again(&record(1, 0, 1)), Some(true), "a timer");
        assert_eq!(flights.is_again(&record(1, 1, 2)), Some(false));
        assert_eq!(flights.is_again(&[23; 100]), None);
        let all = (0..=255).map(|number| flights.is_again(&record(3, number, 0)));
        assert!(all.count() == 256 && flights.ours.len() == MAX_SEEN);
    }

    #[test]
    fn data_and_short_datagrams_are_nothing_to_it() {
        let mut flights = Flights::default();
        flights.handle_sent(&record(2, 0, 0));
        let whole = record(1, 0, 0);
        for cut in 0..25 {
            assert!(flights.handle_received(&whole[..cut]).is_empty());
        }
        let data = [23; 100];
        assert!(flights.handle_received(&data).is_empty());
        assert!(flights.handle_received(&data).is_empty());
    }

    #[test]
    fn a_peer_that_repeats_itself_for_ever_is_not_answered_for_ever() {
        let mut flights = Flights::default();
        flights.handle_received(&record(1, 0, 0));
        for number in 0..1000 {
            flights.handle_sent(&record(2, 0, number));
        }
        let again: usize = (0..1000)
            .map(|_| flights.handle_received(&record(1, 0, 9)).len())
            .sum();
        assert!(again > 0 && again <= 16 * 32);
    }

    /// A handshake record in the clear with one message of no length.
    fn record(kind: u8, sequence: u8, number: u16) -> Vec<u8> {
        let number = number.to_be_bytes();
        let mut record = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, number[0], number[1], 0, 12];
        record.extend([kind, 0, 0, 0, 0, sequence, 0, 0, 0, 0, 0, 0]);
        record
    }
}
