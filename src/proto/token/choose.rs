//! Which addresses are worth their room in a code.
//!
//! An invite should stay small enough to paste and to show as a QR code, so the addresses that
//! most likely work go first and the rest is left out, with the reason.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

use super::candidate::{Candidate, Kind};
use super::{invite, reply};
use crate::proto::address::is_shared;

/// Characters an invite may have unless told otherwise: QR version 8 in alphanumeric mode at
/// level L holds 279, so that a link in front of the invite still fits.
pub const INVITE_BUDGET: usize = 250;

/// Characters a reply code may have unless told otherwise: the short form, because it is typed.
pub const REPLY_BUDGET: usize = 12;

/// Private IPv4 addresses that go before relays and mapped ports. A machine with many virtual
/// networks must not crowd those out.
const PRIVATE_V4_FIRST: usize = 4;

/// What goes into a code and what does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// In the order to be written: candidates on one port stand together and share it.
    pub kept: Vec<Candidate>,
    /// The others, each with the reason.
    pub left_out: Vec<(Candidate, &'static str)>,
}

/// Chooses candidates for an invite of at most `budget_chars` characters.
///
/// Equally useful candidates keep their order. If any can be used at all, the best one is kept even
/// over budget.
#[must_use]
pub fn choose(all: &[Candidate], budget_chars: usize) -> Chosen {
    let limits = Limits {
        budget: budget_chars,
        count: invite::MAX_CANDIDATES,
        encoded_len: invite::encoded_len,
    };
    fill(all, rank_for_invite, &limits)
}

/// Chooses candidates for a reply code of at most `budget_chars` characters, hyphens not counted.
///
/// A reply is needed when the invite alone did not connect, so addresses that hold across the
/// Internet come first. Otherwise as [`choose`].
#[must_use]
pub fn choose_for_reply(all: &[Candidate], budget_chars: usize) -> Chosen {
    let limits = Limits {
        budget: budget_chars,
        count: reply::MAX_CANDIDATES,
        encoded_len: reply::encoded_len,
    };
    fill(all, rank_for_reply, &limits)
}

struct Limits {
    budget: usize,
    count: usize,
    encoded_len: fn(&[Candidate]) -> usize,
}

fn fill(all: &[Candidate], rank: fn(Kind, Reach, &mut Seen) -> u8, limits: &Limits) -> Chosen {
    let mut chosen = Chosen::default();
    let usable = without_useless(all, &mut chosen.left_out);
    let mut seen = Seen::default();
    let mut ranked: Vec<(u8, Candidate)> = usable
        .into_iter()
        .map(|c| (rank(c.kind, Reach::of(&c), &mut seen), c))
        .collect();
    ranked.sort_by_key(|&(rank, _)| rank);

    for (_, candidate) in ranked {
        let mut longer = chosen.kept.clone();
        insert_by_port(&mut longer, candidate);
        let fits = longer.len() <= limits.count && (limits.encoded_len)(&longer) <= limits.budget;
        if fits || chosen.kept.is_empty() {
            chosen.kept = longer;
        } else {
            chosen.left_out.push((candidate, "no room left"));
        }
    }
    chosen
}

/// Drops what cannot work, and all but one of several candidates with one address.
fn without_useless(
    all: &[Candidate],
    left_out: &mut Vec<(Candidate, &'static str)>,
) -> Vec<Candidate> {
    let mut usable: Vec<Candidate> = Vec::new();
    let only_loopback = all
        .iter()
        .map(|c| c.normal())
        .filter(|c| useless(c).is_none())
        .all(|c| c.addr.ip().is_loopback());
    for candidate in all.iter().map(|c| c.normal()) {
        if let Some(reason) = useless(&candidate) {
            left_out.push((candidate, reason));
        } else if candidate.addr.ip().is_loopback() && !only_loopback {
            left_out.push((candidate, "loopback reaches only this machine"));
        } else if let Some(same) = usable.iter_mut().find(|c| c.addr == candidate.addr) {
            // RFC 8445, section 5.1.3: of two with one address the more direct kind stays.
            let redundant = if candidate.kind < same.kind {
                std::mem::replace(same, candidate)
            } else {
                candidate
            };
            left_out.push((redundant, "same address as another"));
        } else {
            usable.push(candidate);
        }
    }
    usable
}

fn useless(candidate: &Candidate) -> Option<&'static str> {
    match candidate.addr.ip() {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            Some("link-local IPv6 needs a zone, which means nothing elsewhere")
        }
        _ => candidate.problem(),
    }
}

/// Puts a candidate after the last one on its port, or at the end.
fn insert_by_port(list: &mut Vec<Candidate>, candidate: Candidate) {
    let same_port = list
        .iter()
        .rposition(|c| c.addr.port() == candidate.addr.port());
    list.insert(same_port.map_or(list.len(), |at| at + 1), candidate);
}

/// From where an address can be reached, by its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    GlobalV4,
    /// RFC 1918.
    PrivateV4,
    /// Shared (RFC 6598), link-local or loopback.
    NarrowV4,
    /// With its /64.
    GlobalV6(u64),
    /// Unique local (RFC 4193).
    LocalV6,
    NarrowV6,
}

impl Reach {
    fn of(candidate: &Candidate) -> Self {
        match candidate.addr.ip() {
            IpAddr::V4(ip) if ip.is_private() => Self::PrivateV4,
            IpAddr::V4(ip) if ip.is_loopback() || ip.is_link_local() => Self::NarrowV4,
            IpAddr::V4(ip) if is_shared(ip) => Self::NarrowV4,
            IpAddr::V4(_) => Self::GlobalV4,
            IpAddr::V6(ip) if ip.is_unique_local() => Self::LocalV6,
            IpAddr::V6(ip) if ip.is_loopback() => Self::NarrowV6,
            IpAddr::V6(ip) => Self::GlobalV6(network(ip)),
        }
    }
}

fn network(ip: Ipv6Addr) -> u64 {
    u64::try_from(ip.to_bits() >> 64).unwrap_or_default()
}

/// What was ranked before.
#[derive(Default)]
struct Seen {
    networks: HashSet<u64>,
    private_v4: usize,
}

impl Seen {
    /// Whether this is the first address of its /64.
    fn first_in(&mut self, network: u64) -> bool {
        self.networks.insert(network)
    }

    fn few_private_v4(&mut self) -> bool {
        self.private_v4 += 1;
        self.private_v4 <= PRIVATE_V4_FIRST
    }
}

fn rank_for_invite(kind: Kind, reach: Reach, seen: &mut Seen) -> u8 {
    match (kind, reach) {
        (Kind::Srflx | Kind::Host, Reach::GlobalV4) => 0,
        (Kind::Host, Reach::GlobalV6(network)) if seen.first_in(network) => 1,
        (Kind::Host, Reach::PrivateV4) if seen.few_private_v4() => 2,
        (Kind::Host, Reach::LocalV6) => 3,
        (Kind::Srflx, _) => 4,
        (Kind::Relay, _) => 5,
        (Kind::Mapped, _) => 6,
        (Kind::Host, Reach::PrivateV4) => 7,
        (Kind::Host, Reach::GlobalV6(_)) => 8,
        (Kind::Host, Reach::NarrowV4 | Reach::NarrowV6) => 9,
    }
}

fn rank_for_reply(kind: Kind, reach: Reach, seen: &mut Seen) -> u8 {
    match (kind, reach) {
        (Kind::Srflx | Kind::Host, Reach::GlobalV4) => 0,
        (Kind::Host, Reach::GlobalV6(network)) if seen.first_in(network) => 1,
        (Kind::Relay, _) => 2,
        (Kind::Mapped, _) => 3,
        (Kind::Srflx, _) => 4,
        (Kind::Host, Reach::PrivateV4) => 5,
        (Kind::Host, Reach::LocalV6 | Reach::GlobalV6(_)) => 6,
        (Kind::Host, Reach::NarrowV4 | Reach::NarrowV6) => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidate::tests::{any_candidate, candidate};
    use super::*;
    use proptest::prelude::*;

    fn hosts(addresses: &[&str]) -> Vec<Candidate> {
        addresses
            .iter()
            .map(|addr| candidate(Kind::Host, addr))
            .collect()
    }

    fn addresses(list: &[Candidate]) -> Vec<String> {
        list.iter()
            .map(|c| format!("{} {}", c.kind, c.addr))
            .collect()
    }

    #[test]
    fn the_most_useful_come_first() {
        let all = [
            candidate(Kind::Mapped, "203.0.113.7:1"),
            candidate(Kind::Relay, "198.51.100.2:2"),
            candidate(Kind::Host, "[fd00::1]:3"),
            candidate(Kind::Host, "192.168.1.10:4"),
            candidate(Kind::Host, "[2001:db8::1]:5"),
            candidate(Kind::Srflx, "203.0.113.7:6"),
        ];
        let mut expected = addresses(&all);
        expected.reverse();
        assert_eq!(addresses(&choose(&all, INVITE_BUDGET).kept), expected);
    }

    #[test]
    fn candidates_on_one_port_stand_together() {
        let all = [
            candidate(Kind::Srflx, "203.0.113.7:6"),
            candidate(Kind::Host, "10.0.0.1:5"),
            candidate(Kind::Host, "10.0.0.2:6"),
        ];
        let kept = choose(&all, INVITE_BUDGET).kept;
        assert_eq!(
            addresses(&kept),
            ["srflx 203.0.113.7:6", "host 10.0.0.2:6", "host 10.0.0.1:5"]
        );
    }

    #[test]
    fn loopback_is_kept_only_when_there_is_nothing_else() {
        let only = hosts(&["127.0.0.1:1", "[::1]:1", "[fe80::1]:1"]);
        assert_eq!(
            addresses(&choose(&only, INVITE_BUDGET).kept),
            ["host 127.0.0.1:1", "host [::1]:1"]
        );
        let more = hosts(&["127.0.0.1:1", "10.0.0.1:1"]);
        assert_eq!(
            addresses(&choose(&more, INVITE_BUDGET).kept),
            ["host 10.0.0.1:1"]
        );
    }

    #[test]
    fn of_two_candidates_with_one_address_the_host_stays() {
        let all = [
            candidate(Kind::Srflx, "203.0.113.7:6"),
            candidate(Kind::Host, "203.0.113.7:6"),
        ];
        let chosen = choose(&all, INVITE_BUDGET);
        assert_eq!(addresses(&chosen.kept), ["host 203.0.113.7:6"]);
        assert_eq!(chosen.left_out, [(all[0], "same address as another")]);
    }

    #[test]
    fn many_private_addresses_do_not_crowd_out_relay_and_mapped_port() {
        let mut all = hosts(&[]);
        all.extend((0..30).map(|i| candidate(Kind::Host, &format!("172.17.{i}.1:9"))));
        all.push(candidate(Kind::Relay, "198.51.100.2:2"));
        all.push(candidate(Kind::Mapped, "203.0.113.7:1"));
        let kept = choose(&all, INVITE_BUDGET).kept;
        assert!(
            kept.iter().any(|c| c.kind == Kind::Relay)
                && kept.iter().any(|c| c.kind == Kind::Mapped)
        );
        assert_eq!(kept.len(), 16);
    }

    #[test]
    fn one_global_ipv6_address_of_each_network_comes_first() {
        let all = hosts(&[
            "[2001:db8:1::1]:1",
            "[2001:db8:1::2]:1",
            "[2001:db8:2::1]:1",
            "10.0.0.1:1",
        ]);
        let kept = choose(&all, INVITE_BUDGET).kept;
        assert_eq!(
            addresses(&kept),
            [
                "host [2001:db8:1::1]:1",
                "host [2001:db8:2::1]:1",
                "host 10.0.0.1:1",
                "host [2001:db8:1::2]:1"
            ]
        );
    }

    #[test]
    fn a_reply_is_the_public_address_alone_and_short() {
        let all = [
            candidate(Kind::Host, "192.168.1.10:6"),
            candidate(Kind::Srflx, "203.0.113.7:6"),
        ];
        let chosen = choose_for_reply(&all, REPLY_BUDGET);
        assert_eq!(addresses(&chosen.kept), ["srflx 203.0.113.7:6"]);
        assert_eq!(chosen.left_out, [(all[0], "no room left")]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_the_budget_holds(all in prop::collection::vec(any_candidate(), 0..40), budget in 0usize..600) {
            let chosen = choose(&all, budget);
            prop_assert_eq!(chosen.kept.len() + chosen.left_out.len(), all.len());
            prop_assert!(chosen.kept.len() <= 1 || invite::encoded_len(&chosen.kept) <= budget);
            prop_assert!(chosen.kept.len() <= invite::MAX_CANDIDATES);
            let usable = all.iter().any(|c| useless(&c.normal()).is_none());
            prop_assert_eq!(usable, !chosen.kept.is_empty());
        }
    }
}
