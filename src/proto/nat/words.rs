//! The words for what a NAT does: RFC 4787, and the names of RFC 3489 beside them.

use serde::{Deserialize, Serialize};

/// How a NAT chooses the outer address of a socket (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mapping {
    /// There is no translation.
    None,
    /// One for all destinations.
    EndpointIndependent,
    /// One for each destination address.
    AddressDependent,
    /// One for each destination address and port.
    AddressAndPortDependent,
    /// Not established.
    Unknown,
}

impl Mapping {
    /// Whether the outer address changes with the destination.
    #[must_use]
    pub fn depends(self) -> bool {
        matches!(self, Self::AddressDependent | Self::AddressAndPortDependent)
    }

    /// The word of reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::AddressAndPortDependent => "address-and-port-dependent",
            Self::Unknown => "unknown",
        }
    }
}

/// Whose packets a NAT or firewall lets in to a mapping (RFC 4787 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filtering {
    /// Everybody's.
    EndpointIndependent,
    /// Those of addresses that were sent to.
    AddressDependent,
    /// Those of addresses and ports that were sent to.
    AddressAndPortDependent,
    /// Not established.
    Unknown,
}

impl Filtering {
    /// The word of reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::AddressAndPortDependent => "address-and-port-dependent",
            Self::Unknown => "unknown",
        }
    }
}

/// Whether datagrams get out and back at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Udp {
    Ok,
    /// A server answers over TCP or TLS, and none over UDP.
    Blocked,
    /// Nothing answers: the servers, the network or UDP may be at fault.
    Unknown,
}

impl Udp {
    /// The word of reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Blocked => "blocked",
            Self::Unknown => "unknown",
        }
    }
}

/// The names of RFC 3489 §5. They say less than mapping and filtering (RFC 4787 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Classic {
    OpenInternet,
    FullCone,
    RestrictedCone,
    PortRestrictedCone,
    Symmetric,
    SymmetricUdpFirewall,
    UdpBlocked,
    Unknown,
}

impl Classic {
    /// The name that these results come under.
    #[must_use]
    pub fn of(udp: Udp, mapping: Mapping, filtering: Filtering) -> Self {
        match (udp, mapping, filtering) {
            (Udp::Blocked, ..) => Self::UdpBlocked,
            (Udp::Unknown, ..) | (_, Mapping::Unknown, _) => Self::Unknown,
            // RFC 3489 has no word for a symmetric mapping that lets everybody in.
            (_, Mapping::AddressDependent | Mapping::AddressAndPortDependent, _) => Self::Symmetric,
            (_, _, Filtering::Unknown) => Self::Unknown,
            (_, Mapping::None, Filtering::EndpointIndependent) => Self::OpenInternet,
            (_, Mapping::None, _) => Self::SymmetricUdpFirewall,
            (_, _, Filtering::EndpointIndependent) => Self::FullCone,
            (_, _, Filtering::AddressDependent) => Self::RestrictedCone,
            (_, _, Filtering::AddressAndPortDependent) => Self::PortRestrictedCone,
        }
    }

    /// The word of reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::OpenInternet => "open-internet",
            Self::FullCone => "full-cone",
            Self::RestrictedCone => "restricted-cone",
            Self::PortRestrictedCone => "port-restricted-cone",
            Self::Symmetric => "symmetric",
            Self::SymmetricUdpFirewall => "symmetric-udp-firewall",
            Self::UdpBlocked => "udp-blocked",
            Self::Unknown => "unknown",
        }
    }
}

/// What these results mean for a connection, in one sentence for a person.
#[must_use]
pub fn outlook(udp: Udp, mapping: Mapping, filtering: Filtering) -> &'static str {
    match (udp, mapping, filtering) {
        (Udp::Blocked, ..) => {
            "no direct connection over UDP from here: a relay over TCP or TLS is needed"
        }
        (Udp::Unknown, ..) => "not known: no server answered; try other servers with --stun",
        (_, Mapping::Unknown, _) => {
            "not known: which outer address a peer would see was not established"
        }
        (_, Mapping::AddressDependent | Mapping::AddressAndPortDependent, _) => {
            "direct connections work with peers that let in anyone, or any port of an address they know; with all others a relay is needed"
        }
        (_, _, Filtering::EndpointIndependent | Filtering::AddressDependent) => {
            "direct connections work with every peer that has UDP"
        }
        (_, _, Filtering::AddressAndPortDependent) => {
            "direct connections work with most peers; a relay is needed when the peer's mapping is endpoint-dependent"
        }
        (_, _, Filtering::Unknown) => {
            "direct connections work with peers whose mapping is endpoint-independent; with others it depends on the filtering here, which was not established"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_has_the_name_that_rfc_3489_gives_it() {
        use Classic as C;
        use Filtering as F;
        use Mapping as M;
        for (mapping, filtering, name) in [
            (M::None, F::EndpointIndependent, C::OpenInternet),
            (M::None, F::AddressDependent, C::SymmetricUdpFirewall),
            (M::None, F::AddressAndPortDependent, C::SymmetricUdpFirewall),
            (M::None, F::Unknown, C::Unknown),
            (M::EndpointIndependent, F::EndpointIndependent, C::FullCone),
            (
                M::EndpointIndependent,
                F::AddressDependent,
                C::RestrictedCone,
            ),
            (
                M::EndpointIndependent,
                F::AddressAndPortDependent,
                C::PortRestrictedCone,
            ),
            (M::EndpointIndependent, F::Unknown, C::Unknown),
            (
                M::AddressDependent,
                F::AddressAndPortDependent,
                C::Symmetric,
            ),
            (M::AddressAndPortDependent, F::Unknown, C::Symmetric),
            (M::Unknown, F::AddressDependent, C::Unknown),
        ] {
            assert_eq!(
                C::of(Udp::Ok, mapping, filtering),
                name,
                "{mapping:?} {filtering:?}"
            );
            assert_eq!(C::of(Udp::Blocked, mapping, filtering), C::UdpBlocked);
            assert_eq!(C::of(Udp::Unknown, mapping, filtering), C::Unknown);
        }
    }

    #[test]
    fn the_words_are_those_of_the_json() {
        for mapping in [
            Mapping::None,
            Mapping::AddressAndPortDependent,
            Mapping::Unknown,
        ] {
            assert_eq!(serde_json::to_value(mapping).unwrap(), mapping.word());
        }
        for filtering in [Filtering::EndpointIndependent, Filtering::Unknown] {
            assert_eq!(serde_json::to_value(filtering).unwrap(), filtering.word());
        }
        for name in [Classic::SymmetricUdpFirewall, Classic::PortRestrictedCone] {
            assert_eq!(serde_json::to_value(name).unwrap(), name.word());
        }
        assert_eq!(serde_json::to_value(Udp::Ok).unwrap(), Udp::Ok.word());
    }
}
