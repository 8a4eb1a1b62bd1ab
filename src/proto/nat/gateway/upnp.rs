//! UPnP Internet Gateway Devices: the texts of the search (UDA 1.1 §1.3.2), of the description
//! (§2.3) and of `GetExternalIPAddress` (`WANIPConnection:1` §2.4.18, over SOAP).
//!
//! Everything is at the router's own IPv4 address, whatever its answers name: nobody can make us
//! ask a third party.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use roxmltree::{Document, Node, ParsingOptions};

/// Where routers listen for searches, and the group that all of them hear.
pub const PORT: u16 = 1900;
pub const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 250), PORT);
/// The longest answer that is read, in bytes.
pub const MAX_ANSWER: usize = 64 << 10;
/// Of a description: no honest one comes near.
const MAX_NODES: u32 = 4096;
const MAX_PATH: usize = 256;
const MAX_HEADERS: usize = 64;
/// Services that are asked in turn, where a router has several.
const MAX_SERVICES: usize = 3;
/// Of the router's own words in a fault.
const MAX_WORDS: usize = 80;

/// The services that know the outer address.
const SERVICES: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];

/// Something of the router that is reached by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub addr: SocketAddrV4,
    path: String,
}

/// A service that knows the outer address, and where it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    kind: &'static str,
    pub control: Place,
}

/// Why an answer is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is not HTTP, or not all of it came.
    NotHttp,
    /// It is not XML, or more of it than there should be.
    NotXml,
    /// It has no service that knows the outer address.
    NoService,
    /// HTTP says no.
    Status(u16),
    /// SOAP says no, with a number and the router's own words; hostile.
    Fault(String),
    /// It names no address that one can have.
    NoAddress,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHttp => f.write_str("its answer is not whole HTTP"),
            Self::NotXml => f.write_str("its answer is not the XML that was asked for"),
            Self::NoService => f.write_str("its description has no service for an outer address"),
            Self::Status(code) => write!(f, "it answers with HTTP status {code}"),
            Self::Fault(words) => write!(f, "it refuses: {words}"),
            Self::NoAddress => f.write_str("names no outer address that one can have"),
        }
    }
}

/// A search for gateways, answered at once or within a second.
#[must_use]
pub fn search() -> Vec<u8> {
    format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: {GROUP}\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
         ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
    )
    .into_bytes()
}

/// Where an answer to a search says that the router's description is.
#[must_use]
pub fn place(answer: &[u8], router: Ipv4Addr) -> Option<Place> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(answer).ok()?;
    let mut headers = response.headers.iter();
    let location = headers.find(|header| header.name.eq_ignore_ascii_case("location"))?;
    let url = std::str::from_utf8(location.value).ok()?;
    (response.code == Some(200))
        .then(|| Place::absolute(url.trim(), router))
        .flatten()
}

impl Place {
    /// Reads `http://ROUTER[:PORT]/PATH`.
    fn absolute(url: &str, router: Ipv4Addr) -> Option<Self> {
        let scheme = url.get(..7)?;
        let rest = url
            .get(7..)
            .filter(|_| scheme.eq_ignore_ascii_case("http://"))?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (ip, port) = match host.split_once(':') {
            Some((ip, port)) => (ip, port.parse().ok().filter(|port| *port != 0)?),
            None => (host, 80),
        };
        let ip: Ipv4Addr = ip.parse().ok()?;
        (ip == router).then_some(())?;
        Self::at(
            SocketAddrV4::new(ip, port),
            if path.is_empty() { "/" } else { path },
        )
    }

    fn at(addr: SocketAddrV4, path: &str) -> Option<Self> {
        let fits = path.len() <= MAX_PATH && path.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self {
            addr,
            path: path.to_owned(),
        })
    }

    /// What a URL in the description stands for.
    fn resolve(&self, url: &str) -> Option<Self> {
        if url.contains("://") {
            Self::absolute(url, *self.addr.ip())
        } else if url.starts_with('/') {
            Self::at(self.addr, url)
        } else {
            let folder = self.path.rfind('/').map_or("/", |end| &self.path[..=end]);
            Self::at(self.addr, &format!("{folder}{url}"))
        }
    }

    /// The request for the description. HTTP/1.0, so that the answer comes in one piece.
    #[must_use]
    pub fn get(&self) -> Vec<u8> {
        let Self { addr, path } = self;
        format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\nConnection: close\r\n\r\n").into_bytes()
    }
}

impl Service {
    /// The request for the outer address.
    #[must_use]
    pub fn ask(&self) -> Vec<u8> {
        let Place { addr, path } = &self.control;
        let kind = self.kind;
        let body = format!(
            "<?xml version=\"1.0\"?>\r\n\
             <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\">\
             <s:Body><u:GetExternalIPAddress xmlns:u=\"{kind}\"/></s:Body></s:Envelope>\r\n"
        );
        format!(
            "POST {path} HTTP/1.0\r\nHost: {addr}\r\nConnection: close\r\n\
             Content-Type: text/xml; charset=\"utf-8\"\r\nContent-Length: {}\r\n\
             SOAPAction: \"{kind}#GetExternalIPAddress\"\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

/// An HTTP answer taken apart.
struct Http<'a> {
    status: u16,
    body: &'a [u8],
    /// The length that it promised.
    length: Option<usize>,
}

fn http(answer: &[u8]) -> Option<Http<'_>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = response.parse(answer).ok()? else {
        return None;
    };
    let mut headers = response.headers.iter();
    let length = headers.find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length =
        length.and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok());
    Some(Http {
        status: response.code?,
        body: &answer[end..],
        length,
    })
}

/// Whether an HTTP answer says that no more of it will come: some routers never close.
#[must_use]
pub fn is_whole(answer: &[u8]) -> bool {
    http(answer).is_some_and(|http| http.length.is_some_and(|length| http.body.len() >= length))
}

/// The body of an answer whose end has come.
fn body(answer: &[u8]) -> Result<(u16, &str), Problem> {
    let http = http(answer).ok_or(Problem::NotHttp)?;
    let length = http.length.unwrap_or(http.body.len());
    let body = http.body.get(..length).ok_or(Problem::NotHttp)?;
    let body = std::str::from_utf8(body).map_err(|_| Problem::NotXml)?;
    Ok((http.status, body.trim_start_matches('\u{feff}').trim()))
}

fn parse(text: &str) -> Result<Document<'_>, Problem> {
    let options = ParsingOptions {
        nodes_limit: MAX_NODES,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(text, options).map_err(|_| Problem::NotXml)
}

/// The text of the first child of this name.
fn child<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    let mut children = node.children();
    let found = children.find(|child| child.tag_name().name() == name)?;
    found.text().map(str::trim)
}

/// Finds the services that know the outer address in a description that lay at `place`.
///
/// # Errors
/// It has none, or is no description.
pub fn services(answer: &[u8], place: &Place) -> Result<Vec<Service>, Problem> {
    let (status, body) = body(answer)?;
    if status != 200 {
        return Err(Problem::Status(status));
    }
    let document = parse(body)?;
    let base = child(document.root_element(), "URLBase");
    let base = base.and_then(|url| Place::absolute(url, *place.addr.ip()));
    let base = base.as_ref().unwrap_or(place);
    let nodes = document.descendants();
    let found: Vec<Service> = nodes
        .filter(|node| node.tag_name().name() == "service")
        .filter_map(|node| {
            let kind = child(node, "serviceType")?;
            let kind = SERVICES.into_iter().find(|known| *known == kind)?;
            let control = base.resolve(child(node, "controlURL")?)?;
            Some(Service { kind, control })
        })
        .take(MAX_SERVICES)
        .collect();
    if found.is_empty() {
        return Err(Problem::NoService);
    }
    Ok(found)
}

/// Reads the answer to [`Service::ask`].
///
/// # Errors
/// It refuses, or names no address.
pub fn external(answer: &[u8]) -> Result<Ipv4Addr, Problem> {
    let (status, body) = body(answer)?;
    // A fault comes with status 500 (SOAP 1.1 §6.2); its words say more.
    if status != 200 && status != 500 {
        return Err(Problem::Status(status));
    }
    let document = parse(body)?;
    let text = |name: &str| {
        let mut nodes = document.descendants();
        let found = nodes.find(|node| node.tag_name().name() == name);
        found.and_then(|node| node.text()).map(str::trim)
    };
    if let Some(address) = text("NewExternalIPAddress") {
        let ip = address.parse().ok().and_then(super::usable);
        return ip.ok_or(Problem::NoAddress);
    }
    match (text("errorCode"), text("errorDescription")) {
        (None, None) if status == 500 => Err(Problem::Status(status)),
        (None, None) => Err(Problem::NoAddress),
        (code, words) => {
            let words: Vec<&str> = [words, code].into_iter().flatten().collect();
            let words = words.join(" ");
            Err(Problem::Fault(words.chars().take(MAX_WORDS).collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    fn at(port: u16, path: &str) -> Place {
        Place::at(SocketAddrV4::new(ROUTER, port), path).unwrap()
    }

    fn found(location: &str) -> Option<Place> {
        let answer = format!("HTTP/1.1 200 OK\r\nST: x\r\nLocation: {location}\r\n\r\n");
        place(answer.as_bytes(), ROUTER)
    }

    #[test]
    fn a_search_answer_names_a_place_at_the_router_or_none() {
        assert_eq!(
            found("http://192.168.1.1:5000/rootDesc.xml"),
            Some(at(5000, "/rootDesc.xml"))
        );
        assert_eq!(found("HTTP://192.168.1.1"), Some(at(80, "/")));
        for wrong in [
            "http://192.168.1.2:5000/rootDesc.xml",
            "http://example.org/",
            "https://192.168.1.1/",
            "http://192.168.1.1:0/",
            "http://192.168.1.1:65536/",
            "http://192.168.1.1/a b",
            "http://192.168.1.1@192.0.2.1/",
            "ftp",
            "",
        ] {
            assert_eq!(found(wrong), None, "{wrong}");
        }
        let long = format!("http://192.168.1.1/{}", "a".repeat(MAX_PATH));
        assert_eq!(found(&long), None);
        assert_eq!(
            place(
                b"HTTP/1.1 404 No\r\nLocation: http://192.168.1.1/\r\n\r\n",
                ROUTER
            ),
            None
        );
        assert_eq!(place(b"NOTIFY * HTTP/1.1\r\n\r\n", ROUTER), None);
    }

    fn description(base: &str, services: &[(&str, &str)]) -> Vec<u8> {
        let services: String = services
            .iter()
            .map(|(kind, control)| {
                format!(
                    "<device><serviceList><service><serviceType>{kind}</serviceType>\
                     <controlURL>{control}</controlURL></service></serviceList></device>"
                )
            })
            .collect();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n\r\n<?xml version=\"1.0\"?>\n\
             <root xmlns=\"urn:schemas-upnp-org:device-1-0\">{base}{services}</root>"
        )
        .into_bytes()
    }

    #[test]
    fn the_service_is_found_wherever_the_description_says_that_it_is() {
        let here = at(5000, "/igd/root.xml");
        for (base, control, expected) in [
            ("", "/ctl", at(5000, "/ctl")),
            ("", "ctl", at(5000, "/igd/ctl")),
            ("", "http://192.168.1.1:80/ctl", at(80, "/ctl")),
            (
                "<URLBase>http://192.168.1.1:8080/x/</URLBase>",
                "ctl",
                at(8080, "/x/ctl"),
            ),
            (
                "<URLBase>http://192.0.2.1/</URLBase>",
                "/ctl",
                at(5000, "/ctl"),
            ),
        ] {
            let answer = description(base, &[(SERVICES[1], control)]);
            let services = services(&answer, &here).unwrap();
            assert_eq!(services.len(), 1);
            assert_eq!(services[0].control, expected, "{base} {control}");
            let request = String::from_utf8(services[0].ask()).unwrap();
            assert!(request.starts_with(&format!("POST {} HTTP/1.0\r\n", expected.path)));
        }
        let elsewhere = description("", &[(SERVICES[0], "http://192.0.2.1/ctl")]);
        assert_eq!(services(&elsewhere, &here), Err(Problem::NoService));
        let other = description(
            "",
            &[("urn:schemas-upnp-org:service:Layer3Forwarding:1", "/x")],
        );
        assert_eq!(services(&other, &here), Err(Problem::NoService));
        assert_eq!(
            services(b"HTTP/1.0 404 No\r\n\r\n", &here),
            Err(Problem::Status(404))
        );
        assert_eq!(
            services(b"HTTP/1.0 200 OK\r\n\r\n<a>", &here),
            Err(Problem::NotXml)
        );
        let many: Vec<_> = (0..9).map(|_| (SERVICES[1], "/ctl")).collect();
        assert_eq!(
            services(&description("", &many), &here).unwrap().len(),
            MAX_SERVICES
        );
    }

    #[test]
    fn documents_that_grow_or_never_end_are_refused() {
        let here = at(5000, "/");
        let grows = b"HTTP/1.0 200 OK\r\n\r\n<!DOCTYPE a [<!ENTITY b \"b\">]><a>&b;</a>";
        assert_eq!(services(grows, &here), Err(Problem::NotXml));
        let many = format!("HTTP/1.0 200 OK\r\n\r\n<a>{}</a>", "<b/>".repeat(10_000));
        assert_eq!(services(many.as_bytes(), &here), Err(Problem::NotXml));
        let deep = format!("HTTP/1.0 200 OK\r\n\r\n{}", "<b>".repeat(20_000));
        assert_eq!(services(deep.as_bytes(), &here), Err(Problem::NotXml));
        let short = b"HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\n<a/>";
        assert!(!is_whole(short));
        assert_eq!(services(short, &here), Err(Problem::NotHttp));
        assert!(is_whole(
            b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\n<a/>"
        ));
    }

    fn soap(status: u16, inside: &str) -> Vec<u8> {
        format!(
            "HTTP/1.1 {status} X\r\n\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\">\
             <s:Body>{inside}</s:Body></s:Envelope>"
        )
        .into_bytes()
    }

    #[test]
    fn the_address_is_read_and_a_fault_is_told() {
        let says = |address: &str| {
            let inside = format!(
                "<u:GetExternalIPAddressResponse xmlns:u=\"x\"><NewExternalIPAddress>{address}\
                 </NewExternalIPAddress></u:GetExternalIPAddressResponse>"
            );
            external(&soap(200, &inside))
        };
        assert_eq!(says("203.0.113.7"), Ok(Ipv4Addr::new(203, 0, 113, 7)));
        for none in ["", "0.0.0.0", "224.0.0.1", "999.1.1.1", "127.0.0.1"] {
            assert_eq!(says(none), Err(Problem::NoAddress), "{none}");
        }
        let fault = "<s:Fault><detail><UPnPError><errorCode>501</errorCode>\
                     <errorDescription>Action Failed</errorDescription></UPnPError></detail></s:Fault>";
        let said = external(&soap(500, fault));
        assert_eq!(said, Err(Problem::Fault("Action Failed 501".to_owned())));
        assert_eq!(external(&soap(500, "")), Err(Problem::Status(500)));
        assert_eq!(external(&soap(401, "")), Err(Problem::Status(401)));
        assert_eq!(external(b"junk"), Err(Problem::NotHttp));
    }
}
