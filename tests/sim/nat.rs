//! NAT discovery in the simulated internet, against what RFC 4787's words mean.

use std::time::Duration;

use knothole::proto::nat::lifetime::Trouble;
use knothole::proto::nat::{Filtering, Mapping};

use crate::internet::{Internet, Nat, OUTER, PortRule, Ran};
use crate::stun::Kind;

const MAPPINGS: [Mapping; 4] = [
    Mapping::None,
    Mapping::EndpointIndependent,
    Mapping::AddressDependent,
    Mapping::AddressAndPortDependent,
];
const FILTERS: [Filtering; 3] = [
    Filtering::EndpointIndependent,
    Filtering::AddressDependent,
    Filtering::AddressAndPortDependent,
];
const PORTS: [PortRule; 3] = [PortRule::Preserve, PortRule::Sequential, PortRule::Random];

fn every_nat() -> impl Iterator<Item = Nat> {
    let each = MAPPINGS.into_iter().flat_map(|mapping| {
        FILTERS.into_iter().flat_map(move |filtering| {
            PORTS.into_iter().flat_map(move |ports| {
                [false, true].into_iter().map(move |hairpins| Nat {
                    mapping,
                    filtering,
                    hairpins,
                    ports,
                    lifetime: Duration::from_mins(2),
                })
            })
        })
    });
    // Without translation there are no ports to number and nothing to hairpin.
    each.filter(|nat| {
        nat.mapping != Mapping::None || (nat.ports == PortRule::Preserve && !nat.hairpins)
    })
}

fn run(nat: Nat, loss: f64, seed: u64, kinds: &[Kind]) -> Ran {
    let internet = Internet {
        delay: Duration::from_millis(15),
        loss,
        seed,
        stale: None,
    };
    internet.discover(nat, kinds)
}

/// The oracle, from the RFC and not from the code: two sockets that have sent to each other's
/// outer address meet if the router turns packets around, and the one that is asked lets the other
/// in. With a mapping a destination, the outer address that a server saw is open to that server
/// only, unless it is open to all.
fn should_hairpin(nat: Nat) -> Option<bool> {
    let open = nat.mapping == Mapping::EndpointIndependent
        || nat.filtering == Filtering::EndpointIndependent;
    (nat.mapping != Mapping::None).then_some(nat.hairpins && open)
}

/// Of what hairpins, a stranger comes in unless ports are looked at: the outer IP address of all is
/// the one that was sent to. (And a mapping of its own stands for a stranger's destination.)
fn should_filter_hairpins(nat: Nat) -> Option<bool> {
    (should_hairpin(nat) == Some(true))
        .then_some(nat.filtering == Filtering::AddressAndPortDependent)
}

#[test]
fn every_nat_is_recognised_on_a_clean_link() {
    for (seed, nat) in (1..).zip(every_nat()) {
        let ran = run(nat, 0.0, seed, &[Kind::Full]);
        let report = &ran.report;
        let found = (report.mapping, report.filtering, report.hairpinning);
        let expected = (nat.mapping, nat.filtering, should_hairpin(nat));
        assert_eq!(found, expected, "{nat:?}\n{report:#?}");
        assert_eq!(
            report.hairpin_filtered,
            should_filter_hairpins(nat),
            "{nat:?}"
        );
        assert!(ran.took < Duration::from_secs(3), "{:?} {nat:?}", ran.took);
        assert!(ran.packets < 200, "{} packets", ran.packets);
        if nat.mapping == Mapping::None {
            assert_eq!(report.public, report.local);
        } else {
            assert_eq!(report.outer_ips, [OUTER]);
            let preserved = nat.ports == PortRule::Preserve;
            if !nat.mapping.depends() {
                assert_eq!(report.ports.preserved, Some(preserved), "{nat:?}");
            }
        }
        assert_eq!(report.rewritten, Some(false));
        assert_eq!(report.fragments, Some(true));
    }
}

#[test]
fn a_run_over_a_long_way_ends_soon_too() {
    for nat in every_nat() {
        let internet = Internet {
            delay: Duration::from_millis(75),
            loss: 0.0,
            seed: 1,
            stale: None,
        };
        let ran = internet.discover(nat, &[Kind::Full, Kind::Plain]);
        assert_eq!(ran.report.filtering, nat.filtering, "{nat:?}");
        assert!(ran.took < Duration::from_secs(3), "{:?} {nat:?}", ran.took);
        println!("{:?}", ran.took);
    }
}

#[test]
fn loss_never_makes_a_wrong_verdict() {
    for (loss, unknowns) in [(0.1, 0.02), (0.3, 0.6)] {
        let (mut runs, mut unknown) = (0, 0);
        for nat in every_nat() {
            for seed in 1..=25 {
                let report = run(nat, loss, seed, &[Kind::Full]).report;
                runs += 1;
                let mut missed = false;
                if report.mapping == Mapping::Unknown {
                    missed = true;
                } else {
                    assert_eq!(report.mapping, nat.mapping, "{nat:?} {seed} {report:#?}");
                }
                if report.filtering == Filtering::Unknown {
                    missed = true;
                } else {
                    assert_eq!(
                        report.filtering, nat.filtering,
                        "{nat:?} {seed} {report:#?}"
                    );
                }
                if let Some(answer) = report.hairpinning {
                    assert_eq!(
                        Some(answer),
                        should_hairpin(nat),
                        "{nat:?} {seed} {report:#?}"
                    );
                }
                unknown += u32::from(missed);
            }
        }
        println!("loss {loss}: {runs} runs, {unknown} unknown");
        assert!(
            f64::from(unknown) <= f64::from(runs) * unknowns,
            "{unknown} of {runs} at {loss}"
        );
    }
}

fn usual(filtering: Filtering) -> Nat {
    Nat {
        mapping: Mapping::EndpointIndependent,
        filtering,
        hairpins: false,
        ports: PortRule::Preserve,
        lifetime: Duration::from_mins(2),
    }
}

#[test]
fn a_server_that_cannot_test_the_filter_leads_to_unknown_and_never_to_a_verdict() {
    for kind in [
        Kind::Plain,
        Kind::OwnIp,
        Kind::WrongSocket,
        Kind::IgnoresChange,
        Kind::DeadOther,
    ] {
        for filtering in FILTERS {
            let report = run(usual(filtering), 0.0, 1, &[kind]).report;
            assert_eq!(report.filtering, Filtering::Unknown, "{kind:?} {report:#?}");
            let reason = report.reasons.iter().find(|(what, _)| *what == "filtering");
            assert!(reason.is_some_and(|(_, why)| !why.is_empty()), "{kind:?}");
        }
    }
}

#[test]
fn a_good_server_makes_up_for_a_bad_one() {
    for kind in [
        Kind::WrongSocket,
        Kind::IgnoresChange,
        Kind::DeadOther,
        Kind::Silent,
        Kind::Lying,
        Kind::OwnIp,
    ] {
        for filtering in FILTERS {
            let report = run(usual(filtering), 0.0, 1, &[kind, Kind::Full, Kind::Plain]).report;
            let found = (report.mapping, report.filtering);
            assert_eq!(
                found,
                (Mapping::EndpointIndependent, filtering),
                "{kind:?} {report:#?}"
            );
        }
    }
}

#[test]
fn a_server_that_lies_is_outvoted_and_named() {
    let kinds = [Kind::Plain, Kind::Lying, Kind::Plain];
    let report = run(usual(Filtering::AddressAndPortDependent), 0.0, 1, &kinds).report;
    assert_eq!(report.mapping, Mapping::EndpointIndependent);
    assert_eq!(report.public.unwrap().ip(), OUTER);
    let dissent: Vec<bool> = report
        .servers
        .iter()
        .map(|server| server.dissents)
        .collect();
    assert_eq!(dissent, [false, true, false]);
}

#[test]
fn a_server_of_rfc_3489_is_as_good() {
    for nat in every_nat() {
        let report = run(nat, 0.0, 1, &[Kind::Old]).report;
        let found = (report.mapping, report.filtering);
        assert_eq!(found, (nat.mapping, nat.filtering), "{nat:?} {report:#?}");
        assert_eq!(report.rewritten, None, "there is one address to see");
    }
}

#[test]
fn an_alg_that_rewrites_addresses_is_noticed_and_not_believed() {
    let nat = usual(Filtering::AddressDependent);
    let report = run(nat, 0.0, 1, &[Kind::Rewritten]).report;
    assert_eq!(report.rewritten, Some(true));
    assert_eq!(report.public.unwrap().ip(), OUTER);
}

#[test]
fn a_mapping_that_an_earlier_run_left_open_makes_no_wrong_verdict() {
    // The sockets after the main one: for the other address, for the other port, and again.
    for stale in 1..=4 {
        for filtering in FILTERS {
            let internet = Internet {
                delay: Duration::from_millis(15),
                loss: 0.0,
                seed: 1,
                stale: Some(stale),
            };
            let report = internet.discover(usual(filtering), &[Kind::Full]).report;
            let wrong = report.filtering != filtering && report.filtering != Filtering::Unknown;
            assert!(!wrong, "{stale} {filtering:?} {report:#?}");
            if report.filtering == Filtering::Unknown {
                let mut reasons = report.reasons.iter();
                assert!(reasons.any(|(_, why)| why.contains("an earlier mapping")));
            }
        }
    }
}

#[test]
fn two_plain_servers_tell_an_independent_mapping_and_no_more_than_that() {
    let kinds = [Kind::Plain, Kind::Plain];
    let report = run(usual(Filtering::AddressDependent), 0.0, 1, &kinds).report;
    assert_eq!(report.mapping, Mapping::EndpointIndependent);
    let symmetric = Nat {
        mapping: Mapping::AddressAndPortDependent,
        ..usual(Filtering::AddressAndPortDependent)
    };
    let report = run(symmetric, 0.0, 1, &kinds).report;
    assert_eq!((report.mapping, report.depends), (Mapping::Unknown, None));
    let report = run(symmetric, 0.0, 1, &[Kind::Plain; 3]).report;
    assert_eq!(
        (report.mapping, report.depends),
        (Mapping::Unknown, Some(true))
    );
}

#[test]
fn one_plain_server_is_not_enough_to_compare() {
    let report = run(usual(Filtering::AddressDependent), 0.0, 1, &[Kind::Plain]).report;
    assert_eq!(report.mapping, Mapping::Unknown);
    assert_eq!(report.public.unwrap().ip(), OUTER);
}

#[test]
fn servers_that_are_all_silent_are_given_up_within_five_seconds() {
    let nat = usual(Filtering::AddressDependent);
    let ran = run(nat, 0.0, 1, &[Kind::Silent, Kind::Silent]);
    assert!(!ran.report.answered);
    assert!(ran.took < Duration::from_secs(5), "{:?}", ran.took);
}

#[test]
fn sequential_ports_are_noticed() {
    let nat = Nat {
        ports: PortRule::Sequential,
        ..usual(Filtering::AddressDependent)
    };
    let report = run(nat, 0.0, 1, &[Kind::Full]).report;
    assert_eq!(
        (report.ports.preserved, report.ports.step),
        (Some(false), Some(1))
    );
}

#[test]
fn a_lifetime_is_found_whatever_it_is_and_however_the_nat_maps() {
    let second = Duration::from_secs(1);
    for lifetime in [12, 30, 65, 120, 181, 300, 599, 2400, 3600] {
        for mapping in MAPPINGS {
            let nat = Nat {
                mapping,
                lifetime: second * lifetime,
                ..usual(Filtering::AddressAndPortDependent)
            };
            for loss in [0.0, 0.1] {
                let internet = Internet {
                    delay: Duration::from_millis(15),
                    loss,
                    seed: u64::from(lifetime),
                    stale: None,
                };
                let (machine, took, estimates) = internet.lifetime(nat, Kind::Full, 5000 * second);
                assert_eq!(machine.trouble(), None, "{nat:?}");
                let known = machine.known();
                let gone = known.gone.unwrap();
                // A question may come a few seconds late, when earlier ones are lost.
                assert!(
                    known.lived <= nat.lifetime + 3 * second,
                    "{known:?} {nat:?}"
                );
                assert!(gone + 3 * second >= nat.lifetime, "{known:?} {nat:?}");
                assert!(gone <= known.lived + 2 * second, "{known:?} {nat:?}");
                assert!(took < nat.lifetime * 6 + 60 * second, "{took:?} {nat:?}");
                for (at, left) in estimates {
                    assert!(at + left >= took, "{at:?} {left:?} {took:?} {nat:?}");
                }
            }
        }
    }
}

#[test]
fn a_mapping_that_never_ends_is_said_to_have_lived_as_long_as_it_was_watched() {
    let nat = Nat {
        lifetime: Duration::from_hours(100),
        ..usual(Filtering::AddressAndPortDependent)
    };
    let internet = Internet {
        delay: Duration::from_millis(15),
        loss: 0.0,
        seed: 1,
        stale: None,
    };
    let most = Duration::from_hours(1);
    let (machine, took, _) = internet.lifetime(nat, Kind::Full, most);
    assert_eq!((machine.known().lived, machine.known().gone), (most, None));
    assert!(took < most + Duration::from_mins(1));
}

#[test]
fn a_server_that_cannot_help_with_the_lifetime_is_noticed_at_once() {
    let internet = Internet {
        delay: Duration::from_millis(15),
        loss: 0.0,
        seed: 1,
        stale: None,
    };
    let nat = usual(Filtering::AddressAndPortDependent);
    for (kind, trouble) in [
        (Kind::Silent, Trouble::Silent),
        (Kind::Lying, Trouble::NoResponsePort),
    ] {
        let (machine, took, _) = internet.lifetime(nat, kind, Duration::from_hours(1));
        assert_eq!(machine.trouble(), Some(trouble), "{kind:?}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}
