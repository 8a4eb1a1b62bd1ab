//! STUN (RFC 8489) as pure machines: no sockets, no clock, no entropy of their own.

pub mod limit;
pub mod message;
pub mod reflexive;
pub mod responder;
pub mod server;
pub mod srv;

pub use message::{Builder, Class, Message, TransactionId};

/// Message types (RFC 8489 §5).
pub const BINDING_REQUEST: [u8; 2] = Class::Request.binding();
/// Keeps mappings alive, wants no answer (RFC 8445 §11).
pub const BINDING_INDICATION: [u8; 2] = Class::Indication.binding();

/// A whole STUN message without attributes.
#[must_use]
pub fn bare_message(kind: [u8; 2], transaction: &[u8; 12]) -> [u8; 20] {
    let mut message = [0; 20];
    message[..2].copy_from_slice(&kind);
    message[4..8].copy_from_slice(&message::MAGIC_COOKIE);
    message[8..].copy_from_slice(transaction);
    message
}
