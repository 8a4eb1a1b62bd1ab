//! Which server a domain names for STUN (RFC 8489 §8): the question for its SRV records
//! (RFC 2782), and what an answer says. Pure: whoever asks a name server gives the bytes.

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, SimpleDnsError, TYPE};

/// The longest answer that is read, in bytes: plain DNS over UDP has 512, with extensions 4096.
pub const LONGEST: usize = 4096;
/// Records that are looked at.
const MAX_RECORDS: usize = 32;
/// The longest name of a host and of its parts, in bytes (RFC 1035 §2.3.4, without the root).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Where the service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// A host name in lower case ([`is_host_name`]), never an address.
    pub host: String,
    pub port: u16,
}

/// No answer to our question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stray;

/// Writes the question for the SRV records of `name`, such as `_stun._udp.example.org`.
///
/// # Errors
/// The name cannot be asked for: it is too long, say.
pub fn query(id: u16, name: &str) -> Result<Vec<u8>, SimpleDnsError> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        Name::new(name)?,
        TYPE::SRV.into(),
        CLASS::IN.into(),
        false,
    ));
    packet.build_bytes_vec()
}

/// Reads an answer; it may name no server. A record that names what is no host does not count.
///
/// # Errors
/// It is no answer to this question.
pub fn read(bytes: &[u8], id: u16, name: &str) -> Result<Option<Named>, Stray> {
    let packet = Packet::parse(bytes).map_err(|_| Stray)?;
    let asked = Name::new(name).map_err(|_| Stray)?;
    let ours = packet.id() == id
        && packet.has_flags(PacketFlag::RESPONSE)
        && packet
            .questions
            .iter()
            .any(|question| question.qname == asked);
    if !ours {
        return Err(Stray);
    }
    if packet.rcode() != RCODE::NoError {
        return Ok(None);
    }
    let records = packet.answers.iter().take(MAX_RECORDS);
    let usable = records.filter_map(|record| match &record.rdata {
        RData::SRV(srv) => {
            // "." says that the service is decidedly not there.
            let host = srv.target.to_string().to_ascii_lowercase();
            let named = Named {
                host,
                port: srv.port,
            };
            (is_host_name(&named.host) && srv.port != 0).then_some((srv, named))
        }
        _ => None,
    });
    // The heaviest of the first priority, always: for a diagnosis the same one each time.
    let best = usable.min_by_key(|(srv, _)| (srv.priority, std::cmp::Reverse(srv.weight)));
    Ok(best.map(|(_, named)| named))
}

/// Whether this is the name of a host, and nothing that a resolver would take for an address.
/// Without the dot of the root.
#[must_use]
pub fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    name.len() <= MAX_NAME
        && name.split('.').all(label)
        && !name.rsplit('.').next().is_some_and(is_number)
}

/// Reads arbitrary bytes as an answer, and asks for arbitrary names.
///
/// # Panics
/// When a server is named that is no host. That is what a fuzzer looks for.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    const NAME: &str = "_stun._udp.example.org";
    let id = data.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    if let Ok(Some(named)) = read(data, id, NAME) {
        let Named { host, port } = named;
        assert!(port != 0 && host.len() <= MAX_NAME && !host.is_empty());
        assert!(host.is_ascii() && !host.contains(|c: char| c.is_ascii_control() || c == ' '));
        assert!(host.parse::<std::net::IpAddr>().is_err(), "{host}");
        query(id, &host).expect("a host name can be asked for");
    }
    let text = String::from_utf8_lossy(data);
    if let Ok(question) = query(id, &text) {
        assert_eq!(read(&question, id, &text), Err(Stray), "a question is none");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::SRV;

    fn answer(id: u16, name: &str, records: &[(u16, u16, u16, &str)]) -> Vec<u8> {
        let mut packet = Packet::new_reply(id);
        let name = Name::new(name).unwrap();
        packet.questions.push(Question::new(
            name.clone(),
            TYPE::SRV.into(),
            CLASS::IN.into(),
            false,
        ));
        for (priority, weight, port, target) in records {
            let target = Name::new_unchecked(target);
            let srv = SRV {
                priority: *priority,
                weight: *weight,
                port: *port,
                target,
            };
            packet.answers.push(ResourceRecord::new(
                name.clone(),
                CLASS::IN,
                60,
                RData::SRV(srv),
            ));
        }
        packet.build_bytes_vec().unwrap()
    }

    const NAME: &str = "_stun._udp.example.org";

    #[test]
    fn the_first_priority_and_the_heaviest_of_it_counts() {
        let records = [
            (20, 9, 1, "c.example.org"),
            (10, 1, 2, "a.example.org"),
            (10, 5, 3, "b.example.org"),
        ];
        let found = read(&answer(7, NAME, &records), 7, NAME).unwrap().unwrap();
        assert_eq!((found.host.as_str(), found.port), ("b.example.org", 3));
    }

    #[test]
    fn answers_to_other_questions_are_not_looked_at() {
        let records = [(10, 1, 2, "a.example.org")];
        assert_eq!(read(&answer(8, NAME, &records), 7, NAME), Err(Stray));
        assert_eq!(
            read(&answer(7, "_stun._udp.example.com", &records), 7, NAME),
            Err(Stray)
        );
        assert_eq!(
            read(&query(7, NAME).unwrap(), 7, NAME),
            Err(Stray),
            "a question"
        );
        let whole = answer(7, NAME, &records);
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut], 7, NAME), Err(Stray));
        }
    }

    #[test]
    fn no_record_and_a_record_that_says_no_are_no_server() {
        assert_eq!(read(&answer(7, NAME, &[]), 7, NAME), Ok(None));
        assert_eq!(read(&answer(7, NAME, &[(0, 0, 0, ".")]), 7, NAME), Ok(None));
    }

    #[test]
    fn a_record_that_names_no_host_does_not_count() {
        for target in [
            "10.0.0.1",
            "127",
            "a b.example",
            "\u{1b}[2J.example",
            "k\u{fc}.example",
        ] {
            let one = answer(7, NAME, &[(1, 1, 1, target)]);
            assert_eq!(read(&one, 7, NAME), Ok(None), "{target}");
            let records = [(1, 1, 1, target), (2, 1, 2, "B.Example")];
            let found = read(&answer(7, NAME, &records), 7, NAME).unwrap().unwrap();
            assert_eq!(
                (found.host.as_str(), found.port),
                ("b.example", 2),
                "{target}"
            );
        }
        let long = [
            "a".repeat(63),
            "b".repeat(63),
            "c".repeat(63),
            "d".repeat(63),
        ]
        .join(".");
        let whole = answer(7, NAME, &[(1, 1, 1, &long)]);
        assert_eq!(
            read(&whole, 7, NAME),
            Err(Stray),
            "longer than a name can be"
        );
    }

    #[test]
    fn host_names_are_told_from_addresses_and_nonsense() {
        let longest = [
            &*"a".repeat(63),
            &"b".repeat(63),
            &"c".repeat(63),
            &"d".repeat(61),
        ]
        .join(".");
        for good in [
            "a",
            "a.example",
            "1.example",
            "x-1_y.example",
            "10.0.0.1a",
            &longest,
        ] {
            assert!(is_host_name(good), "{good}");
        }
        let label = "a".repeat(64);
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "127.0.0.1",
            "1",
            "a b",
            "a:1",
            "\u{fc}",
            &label,
        ] {
            assert!(!is_host_name(bad), "{bad}");
        }
        assert!(!is_host_name(&format!("{longest}d")));
    }

    proptest::proptest! {
        #[test]
        fn no_answer_names_what_is_no_host(
            random: Vec<u8>,
            target: String,
            flips in proptest::collection::vec((0_usize..200, proptest::prelude::any::<u8>()), 0..5),
        ) {
            fuzz(&random);
            let fits = target.split('.').all(|label| label.len() <= MAX_LABEL);
            let target = if fits { target.as_str() } else { "a.example" };
            let mut bytes = answer(7, NAME, &[(1, 1, 1, target), (1, 2, 3, "b.example")]);
            for (at, byte) in flips {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            fuzz(&bytes);
        }
    }
}
