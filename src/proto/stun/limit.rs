//! How often one source may ask, and how many connections it may hold open.
//!
//! Requests have token buckets in a table of fixed size: a source that is new costs no memory, so a
//! flood of invented sources cannot fill anything. Two sources may share a bucket; whoever does not
//! know the seed cannot arrange that. A connection is a source that was not invented, so those are
//! counted one by one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Buckets in the table: a power of two, about a megabyte of memory.
const BUCKETS: usize = 1 << 15;

/// A limiter of requests per source.
#[derive(Debug)]
pub struct Limiter {
    seed: [u8; 32],
    per_second: u32,
    burst: u32,
    buckets: Vec<Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// When it will be full again. Before `now`: it is full.
    full_at: Option<Instant>,
}

impl Limiter {
    /// Lets each source ask `per_second` times a second on average, and `burst` times at once.
    /// `seed` must be unpredictable.
    #[must_use]
    pub fn new(per_second: u32, burst: u32, seed: [u8; 32]) -> Self {
        Self {
            seed,
            per_second: per_second.max(1),
            burst: burst.max(1),
            buckets: vec![Bucket { full_at: None }; BUCKETS],
        }
    }

    /// Whether this source may ask now; counts it if so.
    pub fn admit(&mut self, now: Instant, source: IpAddr) -> bool {
        let one = Duration::from_secs(1) / self.per_second;
        let most = one * self.burst;
        let at = self.place(source);
        let Some(bucket) = self.buckets.get_mut(at) else {
            return false;
        };
        let owed = match bucket.full_at {
            Some(at) => at.saturating_duration_since(now),
            None => Duration::ZERO,
        };
        if owed + one > most {
            return false;
        }
        bucket.full_at = Some(now + owed + one);
        true
    }

    fn place(&self, source: IpAddr) -> usize {
        let hash = blake3::keyed_hash(&self.seed, &network(source).octets());
        let [a, b, ..] = *hash.as_bytes();
        usize::from(u16::from_be_bytes([a, b])) % BUCKETS
    }
}

/// What counts as one source. An IPv6 address is its /64: whoever has one address there has them
/// all (RFC 6177).
fn network(source: IpAddr) -> Ipv6Addr {
    const HOST: u128 = u64::MAX as u128;
    match source.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !HOST),
    }
}

/// The open connections of each source. The table has as many entries as there are connections,
/// which whoever accepts them bounds.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    open: HashMap<Ipv6Addr, usize>,
}

impl Connections {
    /// Lets each source have `most` connections open.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            open: HashMap::new(),
        }
    }

    /// Whether this source may have one more; counts it if so, until [`Connections::close`].
    pub fn admit(&mut self, source: IpAddr) -> bool {
        let open = self.open.entry(network(source)).or_default();
        if *open >= self.most {
            return false;
        }
        *open += 1;
        true
    }

    /// A connection that was admitted has ended.
    pub fn close(&mut self, source: IpAddr) {
        let source = network(source);
        if let Some(open) = self.open.get_mut(&source) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_is_let_through_and_then_the_rate_holds() {
        let (now, source) = (Instant::now(), ip("192.0.2.1"));
        let mut limiter = Limiter::new(10, 20, [7; 32]);
        let at_once = (0..100).filter(|_| limiter.admit(now, source)).count();
        assert_eq!(at_once, 20);
        let mut admitted = 0;
        for ms in 0..10_000 {
            admitted += u32::from(limiter.admit(now + Duration::from_millis(ms), source));
        }
        assert!((99..=101).contains(&admitted), "{admitted}");
    }

    #[test]
    fn one_source_does_not_use_up_what_another_has() {
        let now = Instant::now();
        let mut limiter = Limiter::new(10, 20, [7; 32]);
        while limiter.admit(now, ip("192.0.2.1")) {}
        assert!(limiter.admit(now, ip("192.0.2.2")));
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one_source() {
        let now = Instant::now();
        let mut limiter = Limiter::new(10, 20, [7; 32]);
        while limiter.admit(now, ip("2001:db8::1")) {}
        assert!(!limiter.admit(now, ip("2001:db8::ffff")));
        assert!(limiter.admit(now, ip("2001:db8:0:1::1")));
    }

    #[test]
    fn connections_are_counted_by_source_until_they_end() {
        let mut connections = Connections::new(2);
        let two = ["2001:db8::1", "2001:db8::2"].map(ip);
        assert!(two.into_iter().all(|source| connections.admit(source)));
        assert!(!connections.admit(ip("2001:db8::3")));
        assert!(connections.admit(ip("2001:db8:0:1::3")));
        assert!(connections.admit(ip("192.0.2.1")) && connections.admit(ip("::ffff:192.0.2.1")));
        assert!(!connections.admit(ip("192.0.2.1")));
        assert!(connections.admit(ip("192.0.2.2")));
        connections.close(two[0]);
        assert!(connections.admit(two[1]));
        assert!(!connections.admit(two[1]));
        for source in [two[0], two[1], ip("2001:db8:0:1::3"), ip("192.0.2.2")] {
            connections.close(source);
        }
        connections.close(ip("192.0.2.1"));
        connections.close(ip("192.0.2.1"));
        assert!(connections.open.is_empty(), "{connections:?}");
    }

    #[test]
    fn a_quiet_source_gets_its_burst_back() {
        let (now, source) = (Instant::now(), ip("192.0.2.1"));
        let mut limiter = Limiter::new(10, 20, [7; 32]);
        while limiter.admit(now, source) {}
        let later = now + Duration::from_mins(1);
        assert_eq!(
            (0..100).filter(|_| limiter.admit(later, source)).count(),
            20
        );
    }
}
