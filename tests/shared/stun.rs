//! STUN servers that deviate from what they should do; without sockets of their own.

use std::net::SocketAddr;
use std::time::Instant;

use knothole::proto::stun::limit::Limiter;
use knothole::proto::stun::server::{Answer, Places, Server, Transport};
use knothole::proto::stun::{Builder, Class, Message};

/// How a server deviates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RFC 5780 with four sockets.
    Full,
    /// One address.
    Plain,
    /// Tells a wrong address.
    Lying,
    /// Never answers.
    Silent,
    /// Names its own IP as the other address.
    OwnIp,
    /// Answers CHANGE-REQUEST from where it was asked.
    WrongSocket,
    /// Ignores CHANGE-REQUEST without a word.
    IgnoresChange,
    /// Names another address, from which nothing ever comes.
    DeadOther,
    /// Speaks RFC 3489 only: MAPPED-ADDRESS and CHANGED-ADDRESS.
    Old,
    /// Is behind a gateway that writes inner addresses into what passes (an ALG).
    Rewritten,
}

/// A server of a kind.
pub struct Deviant {
    kind: Kind,
    pub places: Places,
    server: Server,
}

impl Deviant {
    /// A server at these two addresses; a [`Kind::Plain`] one takes the first.
    pub fn new(kind: Kind, primary: SocketAddr, other: SocketAddr) -> Self {
        let places = Places {
            primary,
            other: (kind != Kind::Plain).then_some(other),
        };
        Self {
            kind,
            places,
            server: Server::new(vec![places], Limiter::new(10_000, 10_000, [7; 32])),
        }
    }

    /// What it answers to a datagram that came to `at`.
    pub fn answer(
        &mut self,
        now: Instant,
        at: SocketAddr,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Option<Answer> {
        const MAPPED_ADDRESS: u16 = 0x0001;
        const CHANGE_REQUEST: u16 = 0x0003;
        const CHANGED_ADDRESS: u16 = 0x0005;
        const OTHER_ADDRESS: u16 = 0x802C;

        if !self.places.sockets().contains(&at) || self.kind == Kind::Silent {
            return None;
        }
        let away = |addr: SocketAddr| addr.ip() != self.places.primary.ip();
        if self.kind == Kind::DeadOther && away(at) {
            return None;
        }
        let request = Message::read(bytes).ok()?;
        let changes = request.attribute(CHANGE_REQUEST).is_some();
        if self.kind == Kind::IgnoresChange && changes {
            return None;
        }
        let mut answer = self
            .server
            .handle_request(now, Transport::Udp, at, from, bytes)?;
        let other = Message::read(&answer.bytes).ok()?.other_address();
        match self.kind {
            Kind::Old => {
                let old = Builder::new(Class::Success, request.id).address(MAPPED_ADDRESS, from);
                answer.bytes = match other {
                    Some(other) => old.address(CHANGED_ADDRESS, other),
                    None => old,
                }
                .finish();
            }
            Kind::Rewritten => {
                let inner = SocketAddr::from(([192, 168, 1, 10], 1234));
                answer.bytes = Builder::new(Class::Success, request.id)
                    .xor_mapped_address(from)
                    .address(MAPPED_ADDRESS, inner)
                    .finish();
            }
            Kind::WrongSocket if changes => answer.from = at,
            Kind::DeadOther if away(answer.from) || answer.from.port() != at.port() => return None,
            Kind::Lying => {
                let wrong = SocketAddr::from(([203, 0, 113, 99], 1234));
                answer.bytes = Builder::new(Class::Success, request.id)
                    .xor_mapped_address(wrong)
                    .finish();
            }
            Kind::OwnIp => {
                let own = SocketAddr::new(at.ip(), 3479);
                answer.bytes = Builder::new(Class::Success, request.id)
                    .xor_mapped_address(from)
                    .address(OTHER_ADDRESS, own)
                    .finish();
            }
            _ => {}
        }
        Some(answer)
    }
}
