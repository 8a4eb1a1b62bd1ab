//! STUN over TCP (RFC 8489 §6.2.2): does a server answer where datagrams do not get through?

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::io::{random, within};
use crate::proto::stun::message::HEADER;
use crate::proto::stun::{Builder, Class, Message, TransactionId};

/// The longest answer that is read, in bytes: no honest one comes near.
const LONGEST: usize = 2048;

/// What a server said on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub mapped: SocketAddr,
    pub software: Option<String>,
    /// From the request to its answer, without the set-up of the connection.
    pub rtt: Duration,
}

/// Asks one server over TCP, within `bound`.
///
/// # Errors
/// It cannot be reached, or what it says is no answer.
pub async fn ask_tcp(server: SocketAddr, bound: Duration) -> io::Result<Said> {
    let asked = async {
        let mut stream = TcpStream::connect(server).await?;
        ask(&mut stream).await
    };
    within(bound, asked).await
}

/// Asks on a stream that is open.
///
/// # Errors
/// The stream breaks, or what comes is no answer.
pub async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<Said> {
    let id = TransactionId::new(random()?);
    let started = Instant::now();
    stream
        .write_all(&Builder::new(Class::Request, id).finish())
        .await?;
    stream.flush().await?;
    let mut answer = vec![0; HEADER];
    stream.read_exact(&mut answer).await.map_err(cut)?;
    let length = match Message::length(&answer) {
        Ok(Some(length)) if length <= LONGEST => length,
        Ok(_) => return Err(invalid("its answer is longer than any should be")),
        Err(error) => return Err(invalid(&error.to_string())),
    };
    answer.resize(length, 0);
    let rest = &mut answer[HEADER..];
    stream.read_exact(rest).await.map_err(cut)?;
    let rtt = started.elapsed();
    let read = Message::read(&answer).map_err(|error| invalid(&error.to_string()))?;
    if read.id == id && read.class == Class::Error {
        let (code, words) = read.error_code().unwrap_or_default();
        return Err(invalid(&format!("refuses: {code} {words}")));
    }
    if read.id != id || read.class != Class::Success {
        return Err(invalid("its answer is not one to this request"));
    }
    let mapped = read
        .mapped_address()
        .ok_or_else(|| invalid("its answer holds no address"))?;
    Ok(Said {
        mapped,
        software: read.software().map(str::to_owned),
        rtt,
    })
}

fn cut(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(
            error.kind(),
            "it closes the connection before it has answered",
        ),
        _ => error,
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(answer: impl Fn(&[u8]) -> Vec<u8>) -> io::Result<Said> {
        let (mut client, mut server) = tokio::io::duplex(64);
        let serving = async {
            let mut request = [0; 20];
            server.read_exact(&mut request).await.unwrap();
            // Byte by byte, as a stream may come.
            for byte in answer(&request) {
                if server.write_all(&[byte]).await.is_err() {
                    break;
                }
            }
            drop(server);
        };
        let asking = async {
            let said = ask(&mut client).await;
            // Whoever still writes then is not waited for.
            drop(client);
            said
        };
        let (said, ()) = tokio::join!(asking, serving);
        said
    }

    fn reply(request: &[u8], mapped: &str) -> Vec<u8> {
        let request = Message::read(request).unwrap();
        Builder::new(Class::Success, request.id)
            .xor_mapped_address(mapped.parse().unwrap())
            .finish()
    }

    #[tokio::test]
    async fn an_answer_in_pieces_is_put_together() {
        let said = answered(|request| reply(request, "203.0.113.7:5"))
            .await
            .unwrap();
        assert_eq!(said.mapped.to_string(), "203.0.113.7:5");
    }

    #[tokio::test]
    async fn what_is_no_answer_is_an_error_and_never_a_wait() {
        for bad in [
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            &[1, 1, 0xff, 0xfc],
            b"",
        ] {
            let said = answered(|_| [bad, &[0; 4000]].concat()).await;
            assert!(said.is_err(), "{bad:?}");
        }
        let other = answered(|_| {
            Builder::new(Class::Success, TransactionId::new([9; 12]))
                .xor_mapped_address("203.0.113.7:5".parse().unwrap())
                .finish()
        });
        assert!(
            other
                .await
                .unwrap_err()
                .to_string()
                .contains("not one to this request")
        );
        assert!(
            answered(|request| reply(request, "203.0.113.7:5")[..30].to_vec())
                .await
                .is_err()
        );
    }
}
