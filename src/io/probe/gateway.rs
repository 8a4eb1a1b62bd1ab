//! Asking the router next to us: the machine of [`crate::proto::nat::gateway`] on a socket, and
//! then its UPnP service over HTTP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::drive::{Local, run};
use crate::io::{random, within};
use crate::proto::nat::gateway::upnp::{self, MAX_ANSWER, Place, Problem};
use crate::proto::nat::gateway::{Gateway, Protocol, Said};

/// How long one answer over HTTP may take.
const HTTP_BOUND: Duration = Duration::from_secs(1);

/// The router that packets from this address go through first.
#[must_use]
pub fn of(local: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V4(local) = local else {
        return None;
    };
    let interfaces = netdev::get_interfaces();
    let ours = interfaces
        .iter()
        .find(|interface| interface.ipv4.iter().any(|net| net.addr() == local))?;
    ours.gateway.as_ref()?.ipv4.first().copied()
}

/// Asks this router, from `local`, for its outer address and a mapping.
///
/// # Errors
/// When no socket can be opened.
pub async fn ask(router: Ipv4Addr, local: IpAddr) -> io::Result<Vec<Said>> {
    let mut machine = Gateway::new(Instant::now(), random()?, router);
    let bind = Local {
        ip: Some(local),
        port: 0,
    };
    run(&mut machine, SocketAddr::new(router.into(), 0), bind).await?;
    let mut said = machine.said().to_vec();
    let mut upnp = None;
    for place in machine.places() {
        let answer = ask_upnp(place).await;
        let works = answer.is_ok();
        upnp = Some(answer);
        if works {
            break;
        }
    }
    if let Some(answer) = upnp {
        let external = answer.as_ref().ok().copied();
        said.push(Said {
            protocol: Protocol::Upnp,
            external,
            maps: None,
            words: match answer {
                Ok(external) => {
                    format!(
                        "says that its outer address is {external}; a mapping was not asked for"
                    )
                }
                Err(why) => why,
            },
        });
    }
    Ok(said)
}

/// Asks each service at this place until one names an address.
async fn ask_upnp(place: &Place) -> Result<Ipv4Addr, String> {
    let no = |problem: Problem| problem.to_string();
    let description = exchange(place, place.get()).await?;
    let mut last = Err(no(Problem::NoService));
    for service in upnp::services(&description, place).map_err(no)? {
        let answer = exchange(&service.control, service.ask()).await?;
        last = upnp::external(&answer).map_err(no);
        if last.is_ok() {
            break;
        }
    }
    last
}

/// One request and its answer over HTTP, bounded in time and length.
async fn exchange(place: &Place, request: Vec<u8>) -> Result<Vec<u8>, String> {
    let asked = async {
        let mut stream = TcpStream::connect(place.addr).await?;
        stream.write_all(&request).await?;
        let mut answer = vec![];
        let mut buffer = [0; 4096];
        loop {
            let read = stream.read(&mut buffer).await?;
            answer.extend_from_slice(&buffer[..read]);
            if read == 0 || upnp::is_whole(&answer) {
                return Ok(answer);
            }
            if answer.len() > MAX_ANSWER {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "its answer is longer than any should be",
                ));
            }
        }
    };
    let answer = within(HTTP_BOUND, asked).await;
    answer.map_err(|error| format!("HTTP at {}: {error}", place.addr))
}
