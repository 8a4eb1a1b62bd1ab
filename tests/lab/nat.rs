//! `knothole nat` behind every kind of NAT: what it says is what the NAT is.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::daemon::{Coturn, Serve, stun_url};
use crate::net::{Family, Host, Nat, Net, behind};
use crate::{Lab, run};

/// What `nat --json` says on a host, and how long it took.
fn nat(lab: &Lab, name: &'static str, host: &Host, args: &[&str]) -> Result<(Value, Duration)> {
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

const EI: &str = "endpoint-independent";
const AD: &str = "address-dependent";
const APD: &str = "address-and-port-dependent";

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
