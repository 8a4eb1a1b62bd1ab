//! What an address says about where it is good for.

use std::net::Ipv4Addr;

/// Whether it is one of those between a carrier's NAT and its customers: 100.64.0.0/10 (RFC 6598 §7).
#[must_use]
pub fn is_shared(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 100 && ip.octets()[1] & 0xC0 == 64
}
