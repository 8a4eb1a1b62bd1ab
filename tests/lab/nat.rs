//! `knothole nat` behind every kind of NAT: what it says is what the NAT is.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::daemon::{Coturn, PortMapping, Serve, Upnp, claim, deviants, stun_url};
use crate::net::{BINDING_LIFETIME, Family, Host, Nat, Net, SERVER, Site, behind};
use crate::stun::Kind;
use crate::{Lab, run};

/// What `nat --json` says on a host, and how long it took.
pub fn nat(lab: &Lab, name: &str, host: &Host, args: &[&str]) -> Result<(Value, Duration)> {
    let started = Instant::now();
    let peer = lab
        .knothole(name, host)
        .args(["nat", "--json"])
        .args(args)
        .start()?;
    let report = peer.object()?;
    Ok((report, started.elapsed()))
}

/// Behind this NAT, `nat` says this, asking coturn and asking our own server.
fn is(
    lab: &Lab,
    kind: Nat,
    mapping: &str,
    filtering: &str,
    classic: &str,
    hairpinning: Option<bool>,
) -> Result<()> {
    let net = Net::build(&[behind(kind)])?;
    let check = |name| {
        let (report, took) = nat(lab, name, &net.hosts[0], &["--stun", &stun_url()])?;
        let said = |key: &str| report[key].as_str().unwrap_or("null").to_owned();
        let found = (
            said("mapping"),
            said("filtering"),
            said("classic"),
            report["hairpinning"].as_bool(),
        );
        let expected = (
            mapping.to_owned(),
            filtering.to_owned(),
            classic.to_owned(),
            hairpinning,
        );
        ensure!(
            found == expected,
            "{found:?} is not {expected:?}\n{report:#}"
        );
        let public = report["public"].as_str().context("public")?;
        let address = match kind {
            Nat::Open | Nat::Firewall => net.hosts[0].address.to_string(),
            _ => net.sites[0].external.to_string(),
        };
        ensure!(
            public.starts_with(&format!("{address}:")),
            "{public} is not {address}"
        );
        eprintln!("{kind:?} {name}: {took:?}");
        Ok(())
    };
    let coturn = Coturn::start(lab, &net)?;
    check("by-coturn")?;
    drop(coturn);
    let _serve = Serve::start(lab, &net)?;
    check("by-serve")
}

pub const EI: &str = "endpoint-independent";
pub const AD: &str = "address-dependent";
pub const APD: &str = "address-and-port-dependent";

#[test]
fn an_open_host_is_on_the_open_internet() {
    run(|lab| is(lab, Nat::Open, "none", EI, "open-internet", None));
}

#[test]
fn a_firewall_filters_and_does_not_map() {
    run(|lab| {
        is(
            lab,
            Nat::Firewall,
            "none",
            APD,
            "symmetric-udp-firewall",
            None,
        )
    });
}

#[test]
fn a_full_cone_lets_in_everybody() {
    run(|lab| is(lab, Nat::FullCone, EI, EI, "full-cone", Some(false)));
}

#[test]
fn a_restricted_cone_filters_by_address() {
    run(|lab| is(lab, Nat::Restricted, EI, AD, "restricted-cone", Some(false)));
}

#[test]
fn a_port_restricted_cone_filters_by_port() {
    run(|lab| {
        is(
            lab,
            Nat::PortRestricted,
            EI,
            APD,
            "port-restricted-cone",
            Some(false),
        )
    });
}

#[test]
fn a_nat_with_ports_of_its_own_is_still_a_cone() {
    run(|lab| {
        is(
            lab,
            Nat::Renumbering,
            EI,
            APD,
            "port-restricted-cone",
            Some(false),
        )
    });
}

#[test]
fn a_nat_that_turns_packets_around_hairpins() {
    run(|lab| is(lab, Nat::Hairpin, EI, EI, "full-cone", Some(true)));
}

#[test]
fn a_nat_that_filters_what_it_turns_around_hairpins_after_a_packet_out() {
    run(|lab| {
        let kind = Nat::HairpinFiltered;
        is(lab, kind, EI, APD, "port-restricted-cone", Some(true))?;
        let net = Net::build(&[behind(kind)])?;
        let _serve = Serve::start(lab, &net)?;
        let (report, _) = nat(lab, "filtered", &net.hosts[0], &["--stun", &stun_url()])?;
        ensure!(report["hairpin_filtered"] == true, "{report:#}");
        drop(net);
        let net = Net::build(&[behind(Nat::Hairpin)])?;
        let _serve = Serve::start(lab, &net)?;
        let (report, _) = nat(lab, "open", &net.hosts[0], &["--stun", &stun_url()])?;
        ensure!(report["hairpin_filtered"] == false, "{report:#}");
        Ok(())
    });
}

#[test]
fn where_only_the_web_gets_out_a_server_at_its_port_shows_that_udp_is_blocked() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::WebOnly)])?;
        let _server = Coturn::start(lab, &net)?;
        let host = &net.hosts[0];
        let (report, _) = nat(lab, "usual", host, &["--stun", &stun_url()])?;
        ensure!(report["udp"] == "unknown", "{report:#}");
        let web = format!("stun:{SERVER}:443");
        let (report, took) = nat(lab, "web", host, &["--stun", &web])?;
        ensure!(
            report["udp"] == "blocked" && report["classic"] == "udp-blocked",
            "{report:#}"
        );
        eprintln!("{took:?}");
        Ok(())
    });
}

#[test]
fn a_symmetric_nat_maps_by_address_and_port() {
    run(|lab| is(lab, Nat::Symmetric, APD, APD, "symmetric", Some(false)));
}

#[test]
fn a_sequential_nat_maps_by_address_and_port() {
    run(|lab| is(lab, Nat::Sequential, APD, APD, "symmetric", Some(false)));
}

#[test]
fn an_address_symmetric_nat_maps_by_address() {
    run(|lab| {
        is(
            lab,
            Nat::AddressSymmetric,
            AD,
            APD,
            "symmetric",
            Some(false),
        )
    });
}

#[test]
fn ipv6_behind_a_firewall_is_filtered_and_not_mapped() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::Firewall).family(Family::V6)])?;
        let _serve = Serve::start(lab, &net)?;
        let server = "stun:[2001:db8:100::10]:3478";
        let (report, _) = nat(lab, "six", &net.hosts[0], &["--stun", server])?;
        ensure!(
            report["mapping"] == "none" && report["filtering"] == APD,
            "{report:#}"
        );
        Ok(())
    });
}

#[test]
fn blocked_udp_is_told_from_a_dead_server() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::UdpBlocked)])?;
        let host = &net.hosts[0];
        let stun = stun_url();
        let (dead, _) = nat(lab, "dead", host, &["--stun", &stun])?;
        ensure!(dead["udp"] == "unknown", "{dead:#}");
        let _server = Coturn::start(lab, &net)?;
        let (blocked, took) = nat(lab, "blocked", host, &["--stun", &stun])?;
        ensure!(
            blocked["udp"] == "blocked" && blocked["classic"] == "udp-blocked",
            "{blocked:#}"
        );
        ensure!(took < Duration::from_secs(20), "{took:?}");
        Ok(())
    });
}

/// What `nat` says of a site with a router that maps ports on request.
fn with_router(lab: &Lab, site: Site, ways: PortMapping) -> Result<Value> {
    let net = Net::build(&[site])?;
    let _router = Upnp::start(lab, &net, 0, ways)?;
    let _serve = Serve::start(lab, &net)?;
    let host = &net.hosts[0];
    let (report, _) = nat(lab, "nat", host, &["--stun", &stun_url()])?;
    let left = net.sites[0]
        .ns
        .output("nft", &["list", "table", "inet", "upnp"])?;
    ensure!(!left.contains("dnat"), "a mapping is left: {left}");
    let (alone, _) = nat(lab, "alone", host, &["--stun", &stun_url(), "--no-gateway"])?;
    ensure!(
        alone["gateway"].is_null() && alone["double_nat"].is_null(),
        "{alone:#}"
    );
    Ok(report)
}

/// The protocols that a router answers, each with whether it made a mapping.
fn protocols(report: &Value) -> Vec<(&str, Option<bool>)> {
    let all = report["gateway"]["protocols"]
        .as_array()
        .into_iter()
        .flatten();
    all.map(|one| {
        (
            one["protocol"].as_str().unwrap_or("?"),
            one["maps"].as_bool(),
        )
    })
    .collect()
}

/// Why something is not known, by the words of the report.
fn reason<'a>(report: &'a Value, what: &str) -> &'a str {
    let mut evidence = report["evidence"].as_array().into_iter().flatten();
    let found = evidence.find(|one| one["test"] == what && one["to"].is_null());
    found.and_then(|one| one["result"].as_str()).unwrap_or("")
}

#[test]
fn a_router_with_the_public_address_shows_that_there_is_no_other_nat() {
    run(|lab| {
        let site = behind(Nat::PortRestricted).looks_public();
        let report = with_router(lab, site, PortMapping::All)?;
        ensure!(
            report["double_nat"] == false && report["carrier_grade_nat"] == false,
            "{report:#}"
        );
        ensure!(
            protocols(&report) == [("pcp", Some(true)), ("nat-pmp", Some(true)), ("upnp", None)],
            "{report:#}"
        );
        ensure!(report["gateway"]["port_mapping"] == true, "{report:#}");
        Ok(())
    });
}

#[test]
fn upnp_alone_tells_the_address_too_and_is_not_asked_for_a_mapping() {
    run(|lab| {
        let site = behind(Nat::PortRestricted).looks_public();
        let report = with_router(lab, site, PortMapping::Upnp)?;
        ensure!(report["double_nat"] == false, "{report:#}");
        ensure!(protocols(&report) == [("upnp", None)], "{report:#}");
        ensure!(report["gateway"]["port_mapping"].is_null(), "{report:#}");
        Ok(())
    });
}

#[test]
fn a_router_that_refuses_because_of_its_own_address_leaves_the_question_open() {
    run(|lab| {
        let site = behind(Nat::PortRestricted).carrier(Nat::Renumbering);
        let report = with_router(lab, site, PortMapping::All)?;
        ensure!(report["double_nat"].is_null(), "{report:#}");
        ensure!(report["gateway"]["port_mapping"] == false, "{report:#}");
        let why = reason(&report, "double NAT");
        ensure!(why.contains("by NAT-PMP it refuses"), "{why}");
        Ok(())
    });
}

#[test]
fn behind_a_carrier_the_outer_nat_decides_and_the_router_gives_it_away() {
    run(|lab| {
        for (carrier, mapping, classic) in [
            (Nat::Renumbering, EI, "port-restricted-cone"),
            (Nat::Symmetric, APD, "symmetric"),
        ] {
            let net = Net::build(&[behind(Nat::PortRestricted).carrier(carrier)])?;
            let _serve = Serve::start(lab, &net)?;
            let stun = stun_url();
            let ask = |name| {
                let name = format!("{carrier:?}-{name}");
                nat(lab, &name, &net.hosts[0], &["--stun", &stun])
            };
            let (silent, _) = ask("silent")?;
            ensure!(
                silent["mapping"] == mapping
                    && silent["filtering"] == APD
                    && silent["classic"] == classic
                    && silent["port_preservation"] == false,
                "{silent:#}"
            );
            ensure!(
                silent["double_nat"].is_null()
                    && reason(&silent, "double NAT").contains("does not answer"),
                "{silent:#}"
            );
            let _claim = claim(&net, 0, net.sites[0].wan)?;
            let (told, _) = ask("told")?;
            ensure!(
                told["double_nat"] == true && told["carrier_grade_nat"] == true,
                "{told:#}"
            );
            ensure!(protocols(&told) == [("nat-pmp", Some(false))], "{told:#}");
        }
        Ok(())
    });
}

#[test]
fn a_router_that_claims_another_public_address_is_not_believed() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::PortRestricted)])?;
        let _serve = Serve::start(lab, &net)?;
        let _claim = claim(&net, 0, Ipv4Addr::new(128, 66, 7, 7))?;
        let (report, _) = nat(lab, "nat", &net.hosts[0], &["--stun", &stun_url()])?;
        ensure!(report["double_nat"].is_null(), "{report:#}");
        let why = reason(&report, "double NAT");
        ensure!(
            why.contains("says 128.66.7.7, servers see 203.0.113.2"),
            "{why}"
        );
        Ok(())
    });
}

#[test]
fn servers_that_lie_or_cannot_do_it_never_make_a_verdict() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::Restricted)])?;
        let kinds = [
            Kind::Plain,
            Kind::Silent,
            Kind::OwnIp,
            Kind::WrongSocket,
            Kind::IgnoresChange,
            Kind::DeadOther,
        ];
        let (_servers, urls) = deviants(&net, &kinds)?;
        for (kind, url) in kinds.iter().zip(&urls) {
            let name = format!("{kind:?}");
            let (report, took) = nat(lab, &name, &net.hosts[0], &["--stun", url])?;
            ensure!(
                report["filtering"] == "unknown" && report["classic"] == "unknown",
                "{kind:?} {report:#}"
            );
            let udp = if *kind == Kind::Silent {
                "unknown"
            } else {
                "ok"
            };
            ensure!(report["udp"] == udp, "{kind:?} {report:#}");
            if *kind != Kind::Silent {
                ensure!(
                    !reason(&report, "filtering").is_empty(),
                    "{kind:?} {report:#}"
                );
            }
            eprintln!("{kind:?}: {took:?}: {}", reason(&report, "filtering"));
        }
        Ok(())
    });
}

#[test]
fn an_honest_server_among_liars_is_enough_and_the_liar_is_named() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::Restricted)])?;
        let kinds = [
            Kind::Lying,
            Kind::WrongSocket,
            Kind::DeadOther,
            Kind::Full,
            Kind::Silent,
        ];
        let (_servers, urls) = deviants(&net, &kinds)?;
        let (report, took) = nat(lab, "nat", &net.hosts[0], &["--stun", &urls.join(",")])?;
        ensure!(
            report["classic"] == "restricted-cone" && report["filtering"] == AD,
            "{report:#}"
        );
        let servers = report["servers"].as_array().context("servers")?;
        let dissent: Vec<bool> = servers
            .iter()
            .map(|server| server["dissents"] == true)
            .collect();
        ensure!(dissent == [true, false, false, false, false], "{report:#}");
        eprintln!("{took:?}");
        Ok(())
    });
}

#[test]
fn a_server_of_rfc_3489_is_as_good_and_a_gateway_that_rewrites_is_noticed() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::Restricted)])?;
        let (_servers, urls) = deviants(&net, &[Kind::Old, Kind::Rewritten])?;
        let (old, _) = nat(lab, "old", &net.hosts[0], &["--stun", &urls[0]])?;
        ensure!(
            old["classic"] == "restricted-cone" && old["rewritten"].is_null(),
            "{old:#}"
        );
        let (rewritten, _) = nat(lab, "rewritten", &net.hosts[0], &["--stun", &urls[1]])?;
        let public = rewritten["public"].as_str().unwrap_or("");
        ensure!(
            rewritten["rewritten"] == true && public.starts_with("203.0.113.2:"),
            "{rewritten:#}"
        );
        Ok(())
    });
}

#[test]
fn a_pool_of_outer_addresses_is_seen() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::Pool)])?;
        let _serve = Serve::start(lab, &net)?;
        // Three sockets, the parity of whose ports decides: chance may give all the same one.
        for attempt in 0..20 {
            let name = format!("attempt-{attempt}");
            let (report, _) = nat(lab, &name, &net.hosts[0], &["--stun", &stun_url()])?;
            ensure!(
                report["mapping"] == EI && report["filtering"] == APD,
                "{report:#}"
            );
            let seen = report["public_ips"].as_array().context("public_ips")?;
            if seen.len() == 2 {
                ensure!(
                    seen[0] == "192.0.2.1" && seen[1] == "203.0.113.2",
                    "{report:#}"
                );
                return Ok(());
            }
            ensure!(seen.len() == 1 && attempt < 19, "{report:#}");
        }
        Ok(())
    });
}

#[test]
fn ipv6_without_a_filter_is_open_also_beside_ipv4() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::Open).family(Family::Dual)])?;
        let _serve = Serve::start(lab, &net)?;
        let servers = format!("{},stun:[2001:db8:100::10]:3478", stun_url());
        let (report, _) = nat(lab, "dual", &net.hosts[0], &["--stun", &servers])?;
        ensure!(report["classic"] == "open-internet", "{report:#}");
        let six = &report["ipv6"];
        ensure!(
            six["udp"] == "ok" && six["mapping"] == "none" && six["filtering"] == EI,
            "{report:#}"
        );
        Ok(())
    });
}

#[test]
fn a_lifetime_search_goes_on_from_what_is_known_and_finds_the_lifetime() {
    run(|lab| {
        let net = Net::build(&[behind(Nat::Symmetric)])?;
        let _serve = Serve::start(lab, &net)?;
        let lifetime = BINDING_LIFETIME.as_secs_f64();
        let known = format!("--lifetime={}s..{}s", lifetime - 4.0, lifetime + 4.0);
        let (report, took) = nat(lab, "nat", &net.hosts[0], &["--stun", &stun_url(), &known])?;
        let seconds = |key: &str| {
            report[key]
                .as_f64()
                .with_context(|| format!("{key} {report:#}"))
        };
        let (lived, gone) = (seconds("binding_lifetime_s")?, seconds("binding_gone_s")?);
        // The kernel looks for what has ended about once a second.
        ensure!(
            lived <= lifetime + 1.5 && gone >= lifetime && gone - lived <= 2.0,
            "{lived}..{gone} in {took:?}"
        );
        Ok(())
    });
}
